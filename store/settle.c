/*
 * Where a change ends. A chunk's end depends on nothing but the bytes since its start, a list's end on nothing but the entries since its start. So
 * cutting begins at the boundary before a change and goes on over what follows until a cut falls on a boundary that was there before: from
 * there on everything would be cut as it is, and stays as it is, known by id. The same holds for lists, one level after the other.
 *
 * Holes divide runs of bytes: before a hole data ends as at the end of a file, behind it data begins as at the start of one.
 */
#include "store/settle.h"

#include <errno.h>
#include <string.h>

#include "drsfs/error.h"
#include "store/content.h"

static void buffer_drop(struct buffer *b, size_t n)
{
	memmove(b->data, b->data + n, b->size - n);
	b->size -= n;
}

/* --- bytes */

/* A run of bytes on its way to chunks. */
struct run {
	struct pieces *pieces;
	struct txn *txn;
	struct group out;    /* the chunks that were cut */
	struct buffer carry; /* bytes of earlier pieces that are not cut yet */
};

static int run_put(struct run *run, const uint8_t *bytes, size_t size)
{
	struct piece chunk = { .kind = PIECE_DATA, .length = size };
	int ret = chunk_put(run->txn, false, (struct slice){ bytes, size }, &chunk.id);
	return ret < 0 ? ret : group_push(&run->out, &chunk);
}

/* Cut from 'bytes' until it is undecided, or *used, which grows, is at or above 'enough'. */
static int run_cut(struct run *run, const uint8_t *bytes, size_t size, bool last, size_t enough, size_t *used)
{
	size_t length;
	while (*used < enough && (length = cut_length(bytes + *used, size - *used, last)) > 0) {
		int ret = run_put(run, bytes + *used, length);
		if (ret < 0)
			return ret;
		*used += length;
	}
	return 0;
}

/* Append to what is carried, and cut that until it is undecided, or *ret_used >= 'enough'; drops what was cut. */
static int run_cut_carry(struct run *run, const void *bytes, size_t size, bool last, size_t enough, size_t *ret_used)
{
	size_t used = 0;
	buffer_add(&run->carry, bytes, size);
	if (run->carry.failed)
		return -ENOMEM;
	int ret = run_cut(run, run->carry.data, run->carry.size, last, enough, &used);
	if (ret < 0)
		return ret;
	buffer_drop(&run->carry, used);
	*ret_used = used;
	return 0;
}

/* A stored chunk is copied, since what the store shows is gone with the next chunk_put. */
static int run_feed_chunk(struct run *run, const struct piece *item, bool last)
{
	struct slice stored;
	size_t used;
	int ret = chunk_need(run->txn, &item->id, false, &stored);
	if (ret < 0)
		return ret;
	if (stored.size != item->length)
		return -DRS_ECORRUPT;
	return run_cut_carry(run, stored.data, stored.size, last, SIZE_MAX, &used);
}

/* Bytes in memory are cut where they lie, but for the chunk that begins in what is carried. */
static int run_feed_bytes(struct run *run, const uint8_t *bytes, size_t size, bool last)
{
	size_t at = 0;
	if (run->carry.size > 0) {
		size_t carried = run->carry.size, more = size < CUT_BYTES_MAX ? size : CUT_BYTES_MAX, used;
		int ret = run_cut_carry(run, bytes, more, last && more == size, carried, &used);
		if (ret < 0)
			return ret;
		if (used < carried) /* then all of 'size' is in it */
			return 0;
		at = used - carried;
		buffer_clear(&run->carry);
	}
	int ret = run_cut(run, bytes, size, last, SIZE_MAX, &at);
	if (ret < 0)
		return ret;
	buffer_add(&run->carry, bytes + at, size - at);
	return run->carry.failed ? -ENOMEM : 0;
}

/* Is there no more data directly behind the item that ends at 'end'? */
static int run_is_last(struct run *run, uint64_t end, bool *ret_last)
{
	struct place place;
	int ret = pieces_locate(run->pieces, run->txn, 0, end, &place);
	if (ret < 0)
		return ret;
	*ret_last = end == run->pieces->size || place_item(&place)->kind == PIECE_HOLE;
	return 0;
}

/* What is carried at the hot end becomes bytes in memory again. */
static int run_keep(struct run *run)
{
	struct piece kept;
	if (run->carry.size == 0)
		return 0;
	int ret = piece_new_bytes(run->carry.size, &kept);
	if (ret < 0)
		return ret;
	memcpy(kept.bytes, run->carry.data, run->carry.size);
	ret = group_push(&run->out, &kept);
	if (ret < 0)
		piece_fini(&kept);
	return ret;
}

/* Feed pieces from 'start' on until a cut falls on a boundary behind which nothing changed; *ret_end is there. */
static int run_feed(struct run *run, uint64_t start, uint64_t hot, uint64_t *ret_end)
{
	uint64_t end = start;
	for (bool last = false; !last;) {
		struct place place;
		int ret = pieces_locate(run->pieces, run->txn, 0, end, &place);
		if (ret < 0)
			return ret;
		const struct piece item = *place_item(&place);
		if (item.kind == PIECE_DATA && run->carry.size == 0)
			break;
		end += item.length;
		bool keep = item.kind == PIECE_BYTES && end == hot;
		ret = run_is_last(run, end, &last);
		if (ret == 0 && item.kind == PIECE_DATA)
			ret = run_feed_chunk(run, &item, last);
		else if (ret == 0)
			ret = run_feed_bytes(run, item.bytes, (size_t)item.length, last && !keep);
		if (ret == 0 && keep) {
			ret = run_keep(run);
			last = true;
		}
		if (ret < 0)
			return ret;
	}
	*ret_end = end;
	return 0;
}

static int settle_run(struct pieces *p, struct txn *txn, uint64_t start, uint64_t hot, uint64_t *ret_end)
{
	struct run run = { .pieces = p, .txn = txn };
	int ret = run_feed(&run, start, hot, ret_end);
	if (ret == 0)
		ret = pieces_replace(p, txn, 0, start, *ret_end, run.out.items, run.out.count);
	if (ret == 0)
		run.out.count = 0; /* they are the tree's now */
	group_fini(&run.out);
	buffer_fini(&run.carry);
	return ret;
}

int settle_bytes(struct pieces *p, struct txn *txn, uint64_t hot)
{
	for (uint64_t at = 0, start; pieces_find(p, 0, PIECE_BYTES, at, &start);) {
		int ret = settle_run(p, txn, start, hot, &at);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* --- lists */

int settle_encode(const struct group *group, struct buffer *b)
{
	static const enum entry_kind kinds[] = { [PIECE_DATA] = ENTRY_DATA, [PIECE_LIST] = ENTRY_LIST, [PIECE_HOLE] = ENTRY_HOLE };
	for (size_t i = 0; i < group->count; i++) {
		const struct piece *item = &group->items[i];
		struct entry entry = { .kind = kinds[item->kind], .length = item->length };
		if (item->kind != PIECE_HOLE)
			entry.id = item->id;
		entry_encode(&entry, b);
	}
	return b->failed ? -ENOMEM : 0;
}

static int list_put(struct txn *txn, const struct group *group, struct group *out)
{
	struct buffer bytes = BUFFER_INIT;
	struct piece list = { .kind = PIECE_LIST };
	for (size_t i = 0; i < group->count; i++)
		list.length += group->items[i].length;
	int ret = settle_encode(group, &bytes);
	if (ret == 0)
		ret = chunk_put(txn, true, buffer_slice(&bytes), &list.id);
	if (ret == 0)
		ret = group_push(out, &list);
	buffer_fini(&bytes);
	return ret;
}

/* Does a list end after the last of these entries? One id in LIST_ENTRIES_AVERAGE says so. */
static bool list_ends(const struct group *group)
{
	const struct piece *last = &group->items[group->count - 1];
	if (group->count >= LIST_ENTRIES_MAX)
		return true;
	return group->count >= LIST_ENTRIES_MIN && last->kind != PIECE_HOLE && last->id.bytes[0] % LIST_ENTRIES_AVERAGE == 0;
}

/* Regroup items of 'level' from the list at 'start' on until a list ends where one ended before. */
static int regroup(struct pieces *p, struct txn *txn, unsigned level, uint64_t start, struct group *pending, struct group *out, uint64_t *ret_end)
{
	uint64_t end = start;
	while (end < p->size) {
		struct place place;
		int ret = pieces_locate(p, txn, level + 1, end, &place);
		if (ret < 0)
			return ret;
		struct piece *list = place_item(&place);
		if (list->kind == PIECE_LIST && pending->count == 0)
			break;
		if (list->kind == PIECE_LIST)
			ret = piece_open(list, txn, level);
		for (size_t i = 0; ret == 0 && i < list->group->count; i++) {
			ret = group_push(pending, &list->group->items[i]);
			if (ret == 0 && list_ends(pending)) {
				ret = list_put(txn, pending, out);
				pending->count = 0;
			}
		}
		if (ret < 0)
			return ret;
		end += list->length;
	}
	*ret_end = end;
	return pending->count > 0 ? list_put(txn, pending, out) : 0;
}

static int settle_lists_from(struct pieces *p, struct txn *txn, unsigned level, uint64_t start, uint64_t *ret_end)
{
	struct group pending = { 0 }, out = { 0 };
	int ret = regroup(p, txn, level, start, &pending, &out, ret_end);
	if (ret == 0)
		ret = pieces_replace(p, txn, level + 1, start, *ret_end, out.items, out.count);
	group_fini(&pending);
	group_fini(&out);
	return ret;
}

/* Close all lists of items of 'level'. */
static int settle_level(struct pieces *p, struct txn *txn, unsigned level)
{
	for (uint64_t at = 0, start; pieces_find(p, level + 1, PIECE_GROUP, at, &start);) {
		int ret = settle_lists_from(p, txn, level, start, &at);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* If the items of all lists of the root have room in the root they move there. *ret_done: they have not. */
static int lower_root(struct pieces *p, struct txn *txn, bool *ret_done)
{
	struct group root = { 0 };
	for (size_t i = 0; i < p->root.count && root.count <= LIST_ENTRIES_TOP; i++) {
		struct piece list = p->root.items[i];
		int ret = piece_open(&list, txn, p->level - 1);
		for (size_t k = 0; ret == 0 && k < list.group->count; k++)
			ret = group_push(&root, &list.group->items[k]);
		if (list.kind == PIECE_GROUP)
			piece_fini(&list);
		if (ret < 0) {
			group_fini(&root);
			return ret;
		}
	}
	*ret_done = root.count > LIST_ENTRIES_TOP;
	if (*ret_done) {
		group_fini(&root);
	} else {
		group_fini(&p->root);
		p->root = root;
		p->level--;
	}
	return 0;
}

int settle_lists(struct pieces *p, struct txn *txn)
{
	int ret = 0;
	for (unsigned level = 0; ret == 0 && level < p->level; level++)
		ret = settle_level(p, txn, level);
	while (ret == 0 && p->root.count > LIST_ENTRIES_TOP) {
		ret = pieces_raise(p);
		if (ret == 0)
			ret = settle_level(p, txn, p->level - 1);
	}
	/* All lists but the last have LIST_ENTRIES_MIN items, so that those of more lists are too many for a root. */
	for (bool done = false; ret == 0 && !done && p->level > 0 && p->root.count <= (LIST_ENTRIES_TOP - 1) / LIST_ENTRIES_MIN + 1;)
		ret = lower_root(p, txn, &done);
	return ret;
}
