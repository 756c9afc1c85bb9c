/*
 * Reading content: from the node's entries through the lists on the way to slices of the store, without a copy.
 * The same walks serve the content of an edit, whose pieces may also be in memory (edit.c).
 */
#include "store/content.h"

#include <errno.h>
#include <unistd.h>

#include "store/reading.h"

static int visit_read(const struct walk *w, const struct span *span)
{
	struct reading *reading = w->user;
	if (span->kind == ENTRY_LIST)
		return WALK_OPEN;
	uint64_t from, to;
	span_clip(w, span, &from, &to);
	const uint8_t *piece = NULL;
	if (span->kind == ENTRY_DATA) {
		const uint8_t *bytes;
		int ret = span_bytes(w, span, &bytes);
		if (ret < 0)
			return ret;
		piece = bytes + (from - span->start);
	}
	reading->stopped = reading->sink(reading->user, piece, (size_t)(to - from));
	return reading->stopped ? WALK_STOP : WALK_ON;
}

struct walk reading_walk(struct reading *reading, struct txn *txn, uint64_t offset, size_t size, uint64_t content_size)
{
	uint64_t from = offset < content_size ? offset : content_size;
	uint64_t to = size < content_size - from ? from + size : content_size;
	return (struct walk){ txn, from, to, visit_read, reading };
}

int reading_result(const struct reading *reading, int walked)
{
	return walked < 0 ? walked : reading->stopped;
}

int content_read(struct txn *txn, const struct node *node, uint64_t offset, size_t size, content_sink *sink, void *user)
{
	struct reading reading = { sink, user, 0 };
	struct walk walk = reading_walk(&reading, txn, offset, size, node->size);
	return reading_result(&reading, walk_node(&walk, node));
}

static int visit_seek(const struct walk *w, const struct span *span)
{
	struct seeking *seeking = w->user;
	if (span->kind == ENTRY_LIST)
		return WALK_OPEN;
	if (span->kind != seeking->wanted)
		return WALK_ON;
	uint64_t to;
	span_clip(w, span, &seeking->found, &to);
	return WALK_STOP;
}

int seeking_walk(struct seeking *seeking, struct txn *txn, uint64_t offset, int whence, uint64_t content_size, struct walk *ret_walk)
{
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (offset >= content_size)
		return -ENXIO;
	*seeking = (struct seeking){ whence == SEEK_DATA ? ENTRY_DATA : ENTRY_HOLE, content_size };
	*ret_walk = (struct walk){ txn, offset, content_size, visit_seek, seeking };
	return 0;
}

int seeking_result(const struct seeking *seeking, int walked, uint64_t *ret_offset)
{
	if (walked < 0)
		return walked;
	if (walked != WALK_STOP && seeking->wanted == ENTRY_DATA)
		return -ENXIO;
	*ret_offset = seeking->found; /* behind the last byte there is a hole always */
	return 0;
}

int content_seek(struct txn *txn, const struct node *node, uint64_t offset, int whence, uint64_t *ret_offset)
{
	struct seeking seeking;
	struct walk walk;
	int ret = seeking_walk(&seeking, txn, offset, whence, node->size, &walk);
	if (ret < 0)
		return ret;
	return seeking_result(&seeking, walk_node(&walk, node), ret_offset);
}

uint64_t content_allocated(const struct node *node)
{
	if (node->content_kind != CONTENT_LIST)
		return node->size;
	uint64_t bytes = 0;
	struct reader r = reader_of(node->content);
	struct entry entry;
	while (entry_next(&r, &entry) > 0)
		bytes += entry.kind == ENTRY_HOLE ? 0 : entry.length;
	return bytes;
}
