/* The order of asking for chunks. What is remembered is a hint, so that running out of memory or room for it is no error: the search by id finds all. */
#include "store/wants.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

#define REMEMBERED_MAX ((size_t)1 << 18) /* 4 MiB; the lists of a full window of answers name half as many on average */
#define SEARCH_STEP 512

void wants_fini(struct wants *w)
{
	free(w->items);
}

int wants_of_entries(struct txn *txn, struct slice entries, struct buffer *ids)
{
	struct reader r = reader_of(entries);
	struct entry entry;
	int more;
	while ((more = entry_next(&r, &entry)) == 1)
		if (entry.kind != ENTRY_HOLE && chunk_wanted(txn, &entry.id))
			buffer_add(ids, entry.id.bytes, sizeof(entry.id.bytes));
	return ids->failed ? -ENOMEM : more;
}

static struct chunk_id *remembered(struct wants *w, size_t index)
{
	return &w->items[(w->from + index) % REMEMBERED_MAX];
}

void wants_add(struct wants *w, struct slice ids, bool first)
{
	size_t count = ids.size / sizeof(struct chunk_id);
	if (!count)
		return;
	if (!w->items)
		w->items = malloc(REMEMBERED_MAX * sizeof(*w->items));
	if (!w->items)
		return;
	if (count > REMEMBERED_MAX - w->count)
		count = REMEMBERED_MAX - w->count;
	if (first)
		w->from = (w->from + REMEMBERED_MAX - count) % REMEMBERED_MAX;
	for (size_t i = 0; i < count; i++)
		memcpy(remembered(w, first ? i : w->count + i), (const uint8_t *)ids.data + i * sizeof(struct chunk_id), sizeof(struct chunk_id));
	w->count += count;
}

static bool is_asked(const struct wants *w, const struct chunk_id *id)
{
	for (size_t i = 0; i < w->asked_count; i++)
		if (memcmp(&w->asked[(w->asked_from + i) % FRAME_OUTSTANDING_MAX], id, sizeof(*id)) == 0)
			return true;
	return false;
}

/* 1 if it is to be asked for, else 0. */
static size_t take(struct wants *w, const struct chunk_id *id, struct chunk_id *ret_id)
{
	if (is_asked(w, id))
		return 0;
	assert(w->asked_count < FRAME_OUTSTANDING_MAX);
	w->asked[(w->asked_from + w->asked_count++) % FRAME_OUTSTANDING_MAX] = *id;
	*ret_id = *id;
	return 1;
}

static size_t take_remembered(struct wants *w, struct txn *txn, struct chunk_id *ret_ids, size_t max)
{
	size_t taken = 0;
	while (taken < max && w->count) {
		const struct chunk_id *id = remembered(w, 0);
		if (chunk_wanted(txn, id))
			taken += take(w, id, &ret_ids[taken]);
		w->from = (w->from + 1) % REMEMBERED_MAX;
		w->count--;
	}
	return taken;
}

/* From where the last search ended; through once: what is wanted before that place came since, and is looked for when nothing is under way any more. */
static int search(struct wants *w, struct txn *txn, struct chunk_id *ret_ids, size_t max)
{
	struct chunk_id ids[SEARCH_STEP];
	size_t taken = 0;
	while (taken == 0) {
		if (!w->asked_count)
			w->searched = false;
		int count = chunk_wants(txn, w->searched ? &w->found : NULL, ids, max < SEARCH_STEP ? max : SEARCH_STEP);
		if (count <= 0)
			return count;
		for (int i = 0; i < count; i++)
			taken += take(w, &ids[i], &ret_ids[taken]);
		w->searched = true;
		w->found = ids[count - 1];
	}
	return (int)taken;
}

int wants_take(struct wants *w, struct txn *txn, struct chunk_id *ret_ids, size_t max)
{
	size_t room = FRAME_OUTSTANDING_MAX - w->asked_count;
	if (max > room)
		max = room;
	size_t taken = max ? take_remembered(w, txn, ret_ids, max) : 0;
	return taken || !max ? (int)taken : search(w, txn, ret_ids, max);
}

void wants_answered(struct wants *w)
{
	assert(w->asked_count);
	w->asked_from = (w->asked_from + 1) % FRAME_OUTSTANDING_MAX;
	w->asked_count--;
}
