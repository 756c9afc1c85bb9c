/* What the kernel holds (known.h): a hash table by inode number that grows as it fills. */
#include "master/known.h"

#include <errno.h>
#include <stdlib.h>

#define BUCKETS_FIRST 1024
#define EPOCH_MAX 0x7fff

static size_t bucket_of(const struct known *known, ino_id ino)
{
	return (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (known->buckets_count - 1);
}

int known_init(struct known *known)
{
	*known = (struct known){ .buckets = calloc(BUCKETS_FIRST, sizeof(struct known_node *)), .buckets_count = BUCKETS_FIRST };
	return known->buckets ? 0 : -ENOMEM;
}

static void node_free(struct known_node *n)
{
	while (n->old) {
		struct known_old *old = n->old;
		n->old = old->next;
		free(old);
	}
	free(n->more);
	free(n);
}

void known_fini(struct known *known)
{
	for (size_t i = 0; known->buckets && i < known->buckets_count; i++)
		while (known->buckets[i]) {
			struct known_node *n = known->buckets[i];
			known->buckets[i] = n->bucket_next;
			node_free(n);
		}
	free(known->buckets);
	*known = (struct known){ 0 };
}

struct known_node *known_find(const struct known *known, ino_id ino)
{
	struct known_node *n = known->buckets[bucket_of(known, ino)];
	while (n && n->ino != ino)
		n = n->bucket_next;
	return n;
}

uint64_t known_id(const struct known *known, ino_id ino)
{
	const struct known_node *n = known_find(known, ino);
	return n ? ino | (uint64_t)n->epoch << NODE_EPOCH_SHIFT : ino;
}

/* --- places */

static struct known_place *place_at(struct known_node *n, size_t i)
{
	return i == 0 ? &n->first : &n->more[i - 1];
}

static bool places_equal(struct known_place a, struct known_place b)
{
	return a.parent == b.parent && a.cookie == b.cookie;
}

static struct known_place *place_find(struct known_node *n, struct known_place place)
{
	for (size_t i = 0; i < n->places_count; i++)
		if (places_equal(*place_at(n, i), place))
			return place_at(n, i);
	return NULL;
}

static int place_add(struct known_node *n, struct known_place place)
{
	if (place_find(n, place))
		return 0;
	if (n->places_count > 0) {
		struct known_place *more = realloc(n->more, n->places_count * sizeof(*more));
		if (!more)
			return -ENOMEM;
		n->more = more;
	}
	*place_at(n, n->places_count++) = place;
	return 0;
}

void known_moved(struct known *known, ino_id ino, struct known_place from, struct known_place to)
{
	struct known_node *n = known_find(known, ino);
	struct known_place *at = n ? place_find(n, from) : NULL;
	if (n && place_find(n, to))
		return;
	if (at)
		*at = to;
	else if (n)
		place_add(n, to);
}

void known_lost(struct known *known, ino_id ino, struct known_place place)
{
	struct known_node *n = known_find(known, ino);
	struct known_place *at = n ? place_find(n, place) : NULL;
	if (at)
		*at = *place_at(n, --n->places_count);
}

/* --- coming and going */

static void grow(struct known *known)
{
	size_t count = 2 * known->buckets_count;
	struct known bigger = { .buckets = calloc(count, sizeof(struct known_node *)), .buckets_count = count, .count = known->count };
	if (!bigger.buckets)
		return; /* slower, that is all */
	for (size_t i = 0; i < known->buckets_count; i++)
		while (known->buckets[i]) {
			struct known_node *n = known->buckets[i];
			known->buckets[i] = n->bucket_next;
			size_t b = bucket_of(&bigger, n->ino);
			n->bucket_next = bigger.buckets[b];
			bigger.buckets[b] = n;
		}
	free(known->buckets);
	*known = bigger;
}

static struct known_node *node_add(struct known *known, ino_id ino)
{
	if (known->count >= known->buckets_count)
		grow(known);
	struct known_node *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->ino = ino;
	size_t b = bucket_of(known, ino);
	n->bucket_next = known->buckets[b];
	known->buckets[b] = n;
	known->count++;
	return n;
}

static void node_drop_unused(struct known *known, struct known_node *n)
{
	if (n->lookups || n->old)
		return;
	struct known_node **at = &known->buckets[bucket_of(known, n->ino)];
	while (*at != n)
		at = &(*at)->bucket_next;
	*at = n->bucket_next;
	known->count--;
	node_free(n);
}

int known_give(struct known *known, ino_id ino, const struct known_place *place)
{
	struct known_node *n = known_find(known, ino);
	if (!n)
		n = node_add(known, ino);
	if (!n)
		return -ENOMEM;
	int ret = place ? place_add(n, *place) : 0;
	if (ret == 0)
		n->lookups++;
	node_drop_unused(known, n);
	return ret;
}

static struct known_old **old_at(struct known_node *n, uint16_t epoch)
{
	struct known_old **at = &n->old;
	while (*at && (*at)->epoch != epoch)
		at = &(*at)->next;
	return at;
}

bool known_forget(struct known *known, uint64_t id, uint64_t times)
{
	struct known_node *n = known_find(known, id & NODE_INO_MAX);
	uint16_t epoch = (uint16_t)(id >> NODE_EPOCH_SHIFT);
	if (!n)
		return true;
	if (n->epoch == epoch) {
		n->lookups -= times < n->lookups ? times : n->lookups;
	} else {
		struct known_old **at = old_at(n, epoch), *old = *at;
		if (old && times < old->lookups) {
			old->lookups -= times;
		} else if (old) {
			*at = old->next;
			free(old);
		}
	}
	bool gone = n->lookups == 0;
	node_drop_unused(known, n);
	return gone;
}

int known_resolve(const struct known *known, uint64_t id, ino_id *ret_ino, const struct known_old **ret_old)
{
	ino_id ino = id & NODE_INO_MAX;
	uint16_t epoch = (uint16_t)(id >> NODE_EPOCH_SHIFT);
	struct known_node *n = known_find(known, ino);
	*ret_ino = ino;
	*ret_old = NULL;
	if (!n || n->epoch == epoch)
		return !n && epoch ? -ESTALE : 0;
	*ret_old = *old_at(n, epoch);
	return *ret_old ? 0 : -ESTALE;
}

int known_leave(struct known_node *n, version_t version, version_t content_version)
{
	if (!n->lookups)
		return 0;
	struct known_old *old = malloc(sizeof(*old));
	if (!old)
		return -ENOMEM;
	*old = (struct known_old){ .next = n->old, .epoch = n->epoch, .lookups = n->lookups, .version = version, .content_version = content_version };
	n->old = old;
	n->lookups = 0;
	do
		n->epoch = n->epoch == EPOCH_MAX ? 0 : n->epoch + 1;
	while (*old_at(n, n->epoch));
	return 0;
}

bool known_keeps(const struct known *known, ino_id ino, version_t content_version)
{
	const struct known_node *n = known_find(known, ino);
	for (const struct known_old *old = n ? n->old : NULL; old; old = old->next)
		if (old->content_version == content_version)
			return true;
	return false;
}
