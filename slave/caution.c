/*
 * What visits do differently while a flip goes on, besides giving timeout 0; and what the flip learns from it. A listing and an ACL have no
 * timeout: the kernel keeps them whatever it is told.
 *
 * - Given: a listing or an ACL that is answered is noted, so that the flip can see to it once more before it moves.
 * - Free: a node that is not concerned by what changes; what is given of it is not noted again.
 * - Quiet: a directory that the flip is done with. Nobody gets a listing of it any more until the flip has moved: the requests are parked, not
 *   waited for, so that no thread is lost. The flip asks nothing of such a directory any more, so nothing waits for them in turn.
 * - Blurred: a directory whose names change although its mtime does not. The kernel checks a listing that it keeps by its mtime, so until the flip has
 *   moved the directory shows one that is a nanosecond off: what was listed meanwhile is then found to be outdated.
 */
#include "slave/caution.h"

#include <errno.h>
#include <stdlib.h>

#include "slave/serve.h"

void caution_init(struct caution *c)
{
	*c = (struct caution){ .given = NULL };
	pthread_mutex_init(&c->lock, NULL);
}

void caution_fini(struct caution *c)
{
	free(c->given);
	free(c->free.items);
	free(c->quiet.items);
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

static bool set_has(const struct ino_set *set, ino_id ino)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->items[i] == ino)
			return true;
	return false;
}

static int set_add(struct ino_set *set, ino_id ino)
{
	ino_id *items = room_for_one(set->items, sizeof(*items), set->count, &set->capacity);

	if (!items)
		return -ENOMEM;
	set->items = items;
	set->items[set->count++] = ino;
	return 0;
}

/* ---- visits: they hold the gate for reading */

int caution_gives(struct caution *c, node_id id, enum given_kind kind)
{
	if (set_has(&c->free, id))
		return 0;
	pthread_mutex_lock(&c->lock);
	struct given *given = room_for_one(c->given, sizeof(*given), c->given_count, &c->given_capacity);
	if (given) {
		c->given = given;
		c->given[c->given_count++] = (struct given){ id, kind };
	}
	pthread_mutex_unlock(&c->lock);
	return given ? 0 : -ENOMEM;
}

bool caution_is_quiet(const struct caution *c, ino_id dir)
{
	return set_has(&c->quiet, dir);
}

bool caution_is_blurred(const struct caution *c, ino_id dir)
{
	return set_has(&c->blurred, dir);
}

int caution_park(struct caution *c, const struct parked *parked)
{
	struct parked *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *parked;
	pthread_mutex_lock(&c->lock);
	copy->next = c->parked;
	c->parked = copy;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* ---- the flip: it holds the gate for writing, or nobody is cautious */

int caution_blur(struct caution *c, ino_id dir)
{
	return set_add(&c->blurred, dir);
}

int caution_free(struct caution *c, node_id id)
{
	return set_add(&c->free, id);
}

int caution_quieten(struct caution *c, ino_id dir)
{
	return set_add(&c->quiet, dir);
}

bool caution_take(struct caution *c, struct given *ret_given)
{
	if (c->given_count == 0)
		return false;
	*ret_given = c->given[--c->given_count];
	return true;
}

bool caution_take_of(struct caution *c, node_id id)
{
	size_t left = 0;

	for (size_t i = 0; i < c->given_count; i++)
		if (c->given[i].id != id)
			c->given[left++] = c->given[i];
	bool taken = left < c->given_count;
	c->given_count = left;
	return taken;
}

struct parked *caution_end(struct caution *c)
{
	struct parked *parked = c->parked;

	c->parked = NULL;
	c->given_count = c->free.count = c->quiet.count = c->blurred.count = 0;
	return parked;
}
