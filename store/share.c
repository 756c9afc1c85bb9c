/*
 * Sharing: a range of one file becomes a range of another without copying its bytes. What lies wholly in the range comes along by id, whole lists
 * where the trees are aligned; bytes are copied at the two ragged ends only. All that is to come is collected first, so that the store is not
 * written while it is walked, and source and target may be one file.
 */
#include <errno.h>
#include <string.h>

#include "drsfs/error.h"
#include "store/content.h"
#include "store/patch.h"

struct sharing {
	struct group parts;    /* what comes, in order */
	struct buffer levels;  /* u8 for each part: the level that it belongs to */
	unsigned source_level; /* of the source's own entries */
	uint64_t at, end;      /* where the next part goes, and where all of it ends */
	uint64_t target_size;
	bool lists;            /* may lists come whole? not if their holes would be out of step with blocks */
};

/* Takes the part's bytes, also when it fails. */
static int part_add(struct sharing *s, struct piece part, unsigned level)
{
	if (part.length == 0)
		return 0;
	int ret = group_push(&s->parts, &part);
	if (ret < 0) {
		piece_fini(&part);
		return ret;
	}
	s->at += part.length;
	buffer_add_u8(&s->levels, (uint8_t)level);
	return s->levels.failed ? -ENOMEM : 0;
}

/* Bytes of our own; NULL: zeros. */
static int part_add_bytes(struct sharing *s, const uint8_t *bytes, uint64_t length)
{
	struct piece part;
	if (length == 0)
		return 0;
	int ret = piece_new_bytes((size_t)length, &part);
	if (ret < 0)
		return ret;
	if (bytes)
		memcpy(part.bytes, bytes, (size_t)length);
	else
		memset(part.bytes, 0, (size_t)length);
	return part_add(s, part, 0);
}

/* A hole covers whole blocks of the target; what it has of other blocks comes as zeros. */
static int part_add_hole(struct sharing *s, uint64_t length)
{
	uint64_t end = s->at + length, from = block_ceil(s->at), to = end == s->end && end >= s->target_size ? end : block_floor(end);
	if (from >= to)
		return part_add_bytes(s, NULL, length);
	int ret = part_add_bytes(s, NULL, from - s->at);
	if (ret == 0)
		ret = part_add(s, (struct piece){ .kind = PIECE_HOLE, .length = to - from }, 0);
	if (ret == 0)
		ret = part_add_bytes(s, NULL, end - to);
	return ret;
}

static int visit_share(const struct walk *w, const struct span *span)
{
	struct sharing *s = w->user;
	uint64_t from, to;
	span_clip(w, span, &from, &to);
	bool whole = to - from == span->length;
	if (span->depth > s->source_level || (span->kind == ENTRY_LIST) != (span->depth < s->source_level))
		return -DRS_ECORRUPT;
	if (span->kind == ENTRY_HOLE)
		return part_add_hole(s, to - from);
	if (span->kind == ENTRY_LIST) {
		if (!whole || !s->lists)
			return WALK_OPEN;
		return part_add(s, (struct piece){ .kind = PIECE_LIST, .length = span->length, .id = *span->id }, s->source_level - span->depth);
	}
	if (whole && span->id)
		return part_add(s, (struct piece){ .kind = PIECE_DATA, .length = span->length, .id = *span->id }, 0);
	const uint8_t *bytes;
	int ret = span_bytes(w, span, &bytes);
	return ret < 0 ? ret : part_add_bytes(s, bytes + (from - span->start), to - from);
}

static int collect(struct sharing *s, struct txn *txn, const struct node *source, uint64_t from, uint64_t size)
{
	struct pieces pieces;
	int ret = pieces_init(&pieces, source);
	if (ret < 0)
		return ret;
	ret = pieces_prepare(&pieces, txn);
	s->source_level = pieces.level;
	if (ret == 0)
		ret = pieces_walk(&pieces, &(struct walk){ txn, from, from + size, visit_share, s });
	pieces_fini(&pieces);
	return ret;
}

/* Make the place ready: the target reaches up to it, no hole's block is cut apart, and both ends are boundaries. */
static int prepare(struct pieces *p, struct txn *txn, const struct sharing *s, uint64_t offset)
{
	uint64_t over = s->end < p->size ? s->end : p->size;
	int ret = pieces_uncover(p, txn, offset, s->end);
	if (ret == 0)
		ret = pieces_split(p, txn, 0, offset);
	if (ret == 0)
		ret = pieces_split(p, txn, 0, over);
	/* A chunk begins in the middle: then it begins in the chunk before, if that was cut by the end of the file. */
	if (ret == 0 && offset > 0 && s->parts.items[0].kind == PIECE_BYTES) {
		struct place place;
		ret = pieces_locate(p, txn, 0, offset - 1, &place);
		if (ret == 0 && place_item(&place)->kind == PIECE_DATA)
			ret = pieces_load(p, txn, place_item(&place));
	}
	return ret;
}

/* Put parts in at 'offset', each at its level. On failure as many as *ret_count are in, over *ret_length bytes. */
static int put_in(struct pieces *p, struct txn *txn, const struct sharing *s, uint64_t offset, size_t *ret_count, uint64_t *ret_length)
{
	const uint8_t *levels = s->levels.data;
	for (size_t i = 0, next; i < s->parts.count; i = next) {
		uint64_t length = 0;
		for (next = i; next < s->parts.count && levels[next] == levels[i]; next++)
			length += s->parts.items[next].length;
		int ret = 0;
		if (p->size == 0)
			p->level = levels[i];
		while (ret == 0 && p->level < levels[i])
			ret = pieces_raise(p);
		if (ret == 0)
			ret = pieces_split(p, txn, levels[i], offset + *ret_length);
		if (ret == 0)
			ret = pieces_insert(p, txn, levels[i], offset + *ret_length, s->parts.items + i, next - i);
		if (ret < 0)
			return ret;
		*ret_length += length;
		*ret_count = next;
	}
	return 0;
}

/* Two holes that meet become one. */
static int merge_holes(struct pieces *p, struct txn *txn, uint64_t at)
{
	struct place before, behind;
	if (at == 0 || at >= p->size)
		return 0;
	int ret = pieces_locate(p, txn, 0, at - 1, &before);
	if (ret == 0)
		ret = pieces_locate(p, txn, 0, at, &behind);
	if (ret < 0 || place_item(&before)->kind != PIECE_HOLE || place_item(&behind)->kind != PIECE_HOLE || behind.skip > 0)
		return ret;
	uint64_t length = place_item(&behind)->length;
	pieces_remove(p, at, at + length);
	pieces_resize(p, &before, place_item(&before)->length + length);
	return 0;
}

static int replace(struct pieces *p, struct txn *txn, struct sharing *s, uint64_t offset)
{
	struct piece first = s->parts.items[0], last = s->parts.items[s->parts.count - 1];
	uint64_t over = (s->end < p->size ? s->end : p->size) - offset, length = 0;
	size_t count = 0;
	int ret = put_in(p, txn, s, offset, &count, &length);
	/* Either what was there goes, or what came. */
	memmove(s->parts.items, s->parts.items + count, (s->parts.count - count) * sizeof(*s->parts.items));
	s->parts.count -= count;
	if (ret < 0) {
		pieces_remove(p, offset, offset + length);
		return ret;
	}
	pieces_remove(p, offset + length, offset + length + over);
	if (last.kind == PIECE_HOLE)
		ret = merge_holes(p, txn, offset + length);
	if (ret == 0 && first.kind == PIECE_HOLE)
		ret = merge_holes(p, txn, offset);
	return ret;
}

int pieces_share(struct pieces *p, struct txn *txn, uint64_t offset, const struct node *source, uint64_t from, uint64_t size)
{
	struct sharing s = { .at = offset, .end = offset + size, .target_size = p->size, .lists = offset % HOLE_BYTES == from % HOLE_BYTES };
	int ret = collect(&s, txn, source, from, size);
	if (ret == 0 && s.at != s.end)
		ret = -DRS_ECORRUPT;
	if (ret == 0)
		ret = pieces_extend(p, txn, offset);
	if (ret == 0)
		ret = prepare(p, txn, &s, offset);
	if (ret == 0)
		ret = replace(p, txn, &s, offset);
	group_fini(&s.parts);
	buffer_fini(&s.levels);
	return ret;
}
