/*
 * The table: entries stand densely in one array, chained by index from hash buckets; the last entry moves into a hole. So memory
 * follows the number of nodes, and the unused tail of the array costs nothing. Nearly every node has one name, which stands in
 * its entry; the names of hard links are in an array beside it, into which they are put without looking, and which is sorted out
 * when it is full.
 */
#include "slave/nodes.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUCKET_BITS_MIN 6
#define FRESH_UNTOLD 1  /* nobody has been told the new attributes */
#define FRESH_MS 100    /* after somebody has: for as long the answer may be on its way */
#define NONE UINT32_MAX

struct places {
	uint32_t count, capacity;
	struct node_place items[];
};

struct entry {
	node_id id;
	struct node_held held;
	uint64_t times; /* given and not forgotten: the kernel's lookup count */
	struct node_place place;
	struct places *more;
	uint32_t next;
	uint32_t fresh; /* 0: no; FRESH_UNTOLD; else until when, by now_ms() */
};

struct nodes {
	pthread_mutex_t lock;
	struct entry *entries;
	uint32_t count, capacity;
	uint32_t *buckets;
	unsigned bucket_bits;
};

static int resize(struct nodes *n, unsigned bucket_bits);

int nodes_new(struct nodes **ret_nodes)
{
	struct nodes *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	if (resize(n, BUCKET_BITS_MIN) < 0) {
		free(n);
		return -ENOMEM;
	}
	pthread_mutex_init(&n->lock, NULL);
	*ret_nodes = n;
	return 0;
}

void nodes_free(struct nodes *n)
{
	if (!n)
		return;
	for (uint32_t i = 0; i < n->count; i++)
		free(n->entries[i].more);
	free(n->entries);
	free(n->buckets);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

/* ---- entries */

static uint32_t *bucket_of(const struct nodes *n, node_id id)
{
	return &n->buckets[(id * 0x9e3779b97f4a7c15) >> (64 - n->bucket_bits)];
}

/* The link that leads to the node's entry, or the NONE at the end of its chain. */
static uint32_t *link_to(const struct nodes *n, node_id id)
{
	uint32_t *link = bucket_of(n, id);

	while (*link != NONE && n->entries[*link].id != id)
		link = &n->entries[*link].next;
	return link;
}

static struct entry *entry_of(const struct nodes *n, node_id id)
{
	uint32_t at = *link_to(n, id);

	return at == NONE ? NULL : &n->entries[at];
}

/* As many buckets as entries, at least those that are there. Fails before it changes anything. */
static int resize(struct nodes *n, unsigned bucket_bits)
{
	uint32_t capacity = (uint32_t)1 << bucket_bits;
	uint32_t *buckets = malloc(capacity * sizeof(*buckets));
	struct entry *entries = buckets ? realloc(n->entries, capacity * sizeof(*entries)) : NULL;

	if (!entries) {
		free(buckets);
		return -ENOMEM;
	}
	memset(buckets, 0xff, capacity * sizeof(*buckets));
	free(n->buckets);
	n->entries = entries;
	n->buckets = buckets;
	n->capacity = capacity;
	n->bucket_bits = bucket_bits;
	for (uint32_t i = 0; i < n->count; i++) {
		uint32_t *first = bucket_of(n, entries[i].id);

		entries[i].next = *first;
		*first = i;
	}
	return 0;
}

static struct entry *entry_add(struct nodes *n, node_id id)
{
	if (n->count == n->capacity && (n->bucket_bits == 31 || resize(n, n->bucket_bits + 1) < 0))
		return NULL;
	uint32_t *first = bucket_of(n, id);
	struct entry *entry = &n->entries[n->count];

	*entry = (struct entry){ .id = id, .next = *first };
	*first = n->count++;
	return entry;
}

static void entry_remove(struct nodes *n, node_id id)
{
	uint32_t *link = link_to(n, id);
	uint32_t hole = *link, last = n->count - 1;

	free(n->entries[hole].more);
	*link = n->entries[hole].next;
	if (hole != last) {
		*link_to(n, n->entries[last].id) = hole;
		n->entries[hole] = n->entries[last];
	}
	n->count = last;
	if (n->count < n->capacity / 8 && n->bucket_bits > BUCKET_BITS_MIN)
		resize(n, n->bucket_bits - 1); /* if there is no memory to shrink, it stays as it is */
}

/* ---- names */

static int place_compare(const void *a_, const void *b_)
{
	const struct node_place *a = a_, *b = b_;

	if (a->parent != b->parent)
		return a->parent < b->parent ? -1 : 1;
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

static bool place_equal(const struct node_place *a, const struct node_place *b)
{
	return a->parent == b->parent && a->cookie == b->cookie;
}

static void places_sort_out(struct places *p)
{
	uint32_t kept = 0;

	qsort(p->items, p->count, sizeof(*p->items), place_compare);
	for (uint32_t i = 0; i < p->count; i++)
		if (kept == 0 || !place_equal(&p->items[kept - 1], &p->items[i]))
			p->items[kept++] = p->items[i];
	p->count = kept;
}

/* NULL if there is no memory; the old ones are still there then. */
static struct places *places_make_room(struct places *p)
{
	uint32_t count = 0, capacity = 4;

	if (p) {
		places_sort_out(p);
		if (p->count <= p->capacity / 2)
			return p;
		count = p->count;
		capacity = 2 * p->capacity;
	}
	p = realloc(p, sizeof(*p) + capacity * sizeof(*p->items));
	if (p) {
		p->count = count;
		p->capacity = capacity;
	}
	return p;
}

/* Repetitions that are not of the first or the latest name are let in, and taken out when there is no room left. */
static int place_add(struct entry *entry, struct node_place place)
{
	struct places *p = entry->more;

	if (place.parent == 0)
		return 0;
	if (entry->place.parent == 0) {
		entry->place = place;
		return 0;
	}
	if (place_equal(&entry->place, &place) || (p && p->count > 0 && place_equal(&p->items[p->count - 1], &place)))
		return 0;
	if (!p || p->count == p->capacity) {
		p = places_make_room(p);
		if (!p)
			return -ENOMEM;
		entry->more = p;
	}
	p->items[p->count++] = place;
	return 0;
}

static void place_drop(struct entry *entry, struct node_place place)
{
	struct places *p = entry->more;

	for (uint32_t i = p ? p->count : 0; i-- > 0;)
		if (place_equal(&p->items[i], &place))
			p->items[i] = p->items[--p->count];
	if (!place_equal(&entry->place, &place))
		return;
	if (p && p->count > 0)
		entry->place = p->items[--p->count];
	else
		entry->place = (struct node_place){ 0, 0 };
}

/* ---- calls */

int nodes_give(struct nodes *n, ino_id ino, version_t content_version, version_t left_at, struct node_place place)
{
	node_id id = node_id_of(ino, content_version);
	int error = -ENOMEM;

	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (!entry)
		entry = entry_add(n, id);
	if (entry)
		error = place_add(entry, place);
	if (error == 0) {
		entry->held = (struct node_held){ content_version, left_at };
		entry->times++;
	}
	pthread_mutex_unlock(&n->lock);
	return error;
}

void nodes_forget(struct nodes *n, node_id id, uint64_t times)
{
	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (entry && entry->times > times)
		entry->times -= times;
	else if (entry)
		entry_remove(n, id);
	pthread_mutex_unlock(&n->lock);
}

bool nodes_find(struct nodes *n, node_id id, struct node_held *ret_held)
{
	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (entry && ret_held)
		*ret_held = entry->held;
	pthread_mutex_unlock(&n->lock);
	return entry != NULL;
}

void nodes_refresh(struct nodes *n, node_id id)
{
	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (entry)
		entry->fresh = FRESH_UNTOLD;
	pthread_mutex_unlock(&n->lock);
}

/* Begins anew after 49 days; a node that has not been asked for since is fresh for another moment then. */
static uint32_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

static bool is_fresh(struct entry *entry)
{
	if (!entry->fresh)
		return false;
	uint32_t now = now_ms();
	if (entry->fresh == FRESH_UNTOLD)
		entry->fresh = now + FRESH_MS > FRESH_UNTOLD ? now + FRESH_MS : FRESH_UNTOLD + 1;
	else if ((int32_t)(entry->fresh - now) <= 0)
		entry->fresh = 0;
	return entry->fresh;
}

bool nodes_is_fresh(struct nodes *n, node_id id)
{
	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	bool fresh = entry && is_fresh(entry);
	pthread_mutex_unlock(&n->lock);
	return fresh;
}

void nodes_leave(struct nodes *n, node_id id, version_t at)
{
	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (entry)
		entry->held.left_at = at;
	pthread_mutex_unlock(&n->lock);
}

bool nodes_place(struct nodes *n, node_id id, size_t index, struct node_place *ret_place)
{
	bool found = false;

	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (entry && index == 0 && entry->place.parent != 0) {
		*ret_place = entry->place;
		found = true;
	} else if (entry && index > 0 && entry->more && index <= entry->more->count) {
		*ret_place = entry->more->items[index - 1];
		found = true;
	}
	pthread_mutex_unlock(&n->lock);
	return found;
}

void nodes_drop_place(struct nodes *n, node_id id, struct node_place place)
{
	pthread_mutex_lock(&n->lock);
	struct entry *entry = entry_of(n, id);
	if (entry)
		place_drop(entry, place);
	pthread_mutex_unlock(&n->lock);
}

size_t nodes_directories(struct nodes *n, ino_id *items, size_t max)
{
	size_t count = 0;

	pthread_mutex_lock(&n->lock);
	for (uint32_t i = 0; i < n->count && count < max; i++)
		if (n->entries[i].held.content_version == 0)
			items[count++] = node_id_ino(n->entries[i].id);
	pthread_mutex_unlock(&n->lock);
	return count;
}

size_t nodes_count(struct nodes *n)
{
	pthread_mutex_lock(&n->lock);
	size_t count = n->count;
	pthread_mutex_unlock(&n->lock);
	return count;
}
