/* Walking over content: the descent through lists, with the checks that keep a damaged tree from leading astray. */
#include "store/walk.h"

#include <errno.h>

#include "drsfs/error.h"

int chunk_need(struct txn *txn, const struct chunk_id *id, bool list, struct slice *ret_bytes)
{
	int ret = chunk_get(txn, id, list, ret_bytes);
	return ret == -ENOENT ? -DRS_ECORRUPT : ret;
}

static int walk_list(const struct walk *w, struct slice entries, uint64_t start, uint64_t length, unsigned depth)
{
	struct reader r = reader_of(entries);
	struct entry entry;
	uint64_t at = start, end = start + length;
	int ret;
	while ((ret = entry_next(&r, &entry)) > 0) {
		if (entry.length > end - at)
			return -DRS_ECORRUPT;
		if (at >= w->to)
			return WALK_ON;
		ret = walk_entry(w, &entry, at, depth);
		if (ret != WALK_ON)
			return ret;
		at += entry.length;
	}
	if (ret < 0)
		return ret;
	return at == end ? WALK_ON : -DRS_ECORRUPT;
}

int walk_entry(const struct walk *w, const struct entry *entry, uint64_t start, unsigned depth)
{
	if (start >= w->to || start + entry->length <= w->from)
		return WALK_ON;
	struct span span = { entry->kind, depth, start, entry->length, entry->kind == ENTRY_HOLE ? NULL : &entry->id, NULL };
	int ret = w->visit(w, &span);
	if (ret != WALK_OPEN)
		return ret;
	if (depth >= ENTRY_DEPTH_MAX)
		return -DRS_ECORRUPT;
	struct slice entries;
	ret = chunk_need(w->txn, &entry->id, true, &entries);
	if (ret < 0)
		return ret;
	return walk_list(w, entries, start, entry->length, depth + 1);
}

int walk_node(const struct walk *w, const struct node *node)
{
	if (node->content_kind == CONTENT_LIST)
		return walk_list(w, node->content, 0, node->size, 0);
	if (node->content_kind == CONTENT_NONE || w->from >= w->to || w->from >= node->content.size)
		return WALK_ON;
	return w->visit(w, &(struct span){ ENTRY_DATA, 0, 0, node->content.size, NULL, node->content.data });
}

int span_bytes(const struct walk *w, const struct span *span, const uint8_t **ret_bytes)
{
	if (span->bytes) {
		*ret_bytes = span->bytes;
		return 0;
	}
	struct slice bytes;
	int ret = chunk_need(w->txn, span->id, false, &bytes);
	if (ret < 0)
		return ret;
	if (bytes.size != span->length)
		return -DRS_ECORRUPT;
	*ret_bytes = bytes.data;
	return 0;
}

void span_clip(const struct walk *w, const struct span *span, uint64_t *ret_from, uint64_t *ret_to)
{
	uint64_t end = span->start + span->length;
	*ret_from = span->start > w->from ? span->start : w->from;
	*ret_to = end < w->to ? end : w->to;
}
