/*
 * What visits do differently on account of a flip, besides giving timeout 0. A listing and an ACL have no timeout: the kernel keeps
 * them whatever it is told. So it is noted who was given one, and the kernel is kept from trusting a listing by the one thing that
 * it checks, the directory's mtime.
 *
 * - Given: nodes of which a listing or an ACL was answered during the flip.
 * - Free: nodes whose names, or ACLs, are found not to change; what is given of that is not noted again.
 * - Blurred: directories that show an mtime a little earlier than theirs, another one each time, never to be kept. Whatever listing
 *   the kernel keeps of such a directory is found outdated when it is next opened, at the latest when the directory is sharp again.
 *   By less than lies between two versions, so that it is not the mtime of the version before.
 */
#include "slave/caution.h"

#include <errno.h>
#include <stdlib.h>

#define LATELY 16

void caution_init(struct caution *c)
{
	*c = (struct caution){ .given = NULL };
	pthread_mutex_init(&c->lock, NULL);
}

void caution_fini(struct caution *c)
{
	free(c->given);
	for (unsigned kind = 0; kind < GIVEN_KINDS; kind++)
		free(c->free[kind].items);
	free(c->blurred.items);
	pthread_mutex_destroy(&c->lock);
}

/* Room for one more; NULL: no memory, nothing was changed. */
static void *room_for_one(void *items, size_t item_bytes, size_t count, size_t *capacity)
{
	if (items && count < *capacity)
		return items;
	size_t more = *capacity ? 2 * *capacity : 16;
	items = realloc(items, more * item_bytes);
	if (items)
		*capacity = more;
	return items;
}

static bool set_has(const struct node_set *set, node_id id)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->items[i] == id)
			return true;
	return false;
}

static int set_add(struct node_set *set, node_id id)
{
	if (set_has(set, id))
		return 0;
	node_id *items = room_for_one(set->items, sizeof(*items), set->count, &set->capacity);

	if (!items)
		return -ENOMEM;
	set->items = items;
	set->items[set->count++] = id;
	return 0;
}

/* ---- visits: they hold the gate for reading */

/* Lately, that is: so that who lists again and again makes few of them. */
static bool is_given(const struct caution *c, node_id id, enum given_kind kind)
{
	for (size_t i = c->given_count; i > 0 && i + LATELY > c->given_count; i--)
		if (c->given[i - 1].id == id && c->given[i - 1].kind == kind)
			return true;
	return false;
}

int caution_gives(struct caution *c, node_id id, enum given_kind kind)
{
	if (set_has(&c->free[kind], id))
		return 0;
	pthread_mutex_lock(&c->lock);
	if (is_given(c, id, kind)) {
		pthread_mutex_unlock(&c->lock);
		return 0;
	}
	struct given *given = room_for_one(c->given, sizeof(*given), c->given_count, &c->given_capacity);
	if (given) {
		c->given = given;
		c->given[c->given_count++] = (struct given){ id, kind };
	}
	pthread_mutex_unlock(&c->lock);
	return given ? 0 : -ENOMEM;
}

bool caution_is_blurred(const struct caution *c, ino_id dir)
{
	return set_has(&c->blurred, dir);
}

void caution_blurs(struct caution *c, struct timespec *mtime)
{
	mtime->tv_nsec -= 1 + (long)(atomic_fetch_add(&c->blur, 1) % BLUR_NANOSECONDS_MAX);
	if (mtime->tv_nsec < 0) {
		mtime->tv_nsec += 1000000000;
		mtime->tv_sec--;
	}
}

/* ---- the flip: it holds the gate for writing, as everything is read without a lock */

int caution_free(struct caution *c, const struct given *given)
{
	return set_add(&c->free[given->kind], given->id);
}

int caution_blur(struct caution *c, ino_id dir)
{
	return set_add(&c->blurred, dir);
}

bool caution_take(struct caution *c, struct given *ret_given)
{
	if (c->given_count == 0)
		return false;
	*ret_given = c->given[--c->given_count];
	return true;
}

void caution_end(struct caution *c)
{
	c->given_count = c->blurred.count = 0;
	for (unsigned kind = 0; kind < GIVEN_KINDS; kind++)
		c->free[kind].count = 0;
}
