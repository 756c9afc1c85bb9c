/*
 * What writes do to a tree of pieces: bytes come over what is there or behind it, the end moves, ranges become holes.
 *
 * Holes are kept in whole blocks of HOLE_BYTES, as disk file systems keep them: a hole starts at a block's start and ends at one, or at the
 * end of the file. The rest of a block that is partly written is zeros in memory. So chunks do not become tiny whatever is written.
 */
#include "store/patch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "store/content.h"

/* Bytes to write; NULL stands for zeros. */
static void fill(uint8_t *to, const uint8_t *data, size_t size)
{
	if (data)
		memcpy(to, data, size);
	else
		memset(to, 0, size);
}

static const uint8_t *advance(const uint8_t *data, size_t by)
{
	return data ? data + by : NULL;
}

/* --- at the end of the file */

static int last_piece(struct pieces *p, struct txn *txn, struct place *ret_place)
{
	int ret = pieces_locate(p, txn, 0, p->size ? p->size - 1 : 0, ret_place);
	ret_place->skip = 0;
	return ret;
}

/* Take the hole's part of the last block away, so that data can follow: *ret_gap zeros are due instead. */
static int uncover_block(struct pieces *p, struct txn *txn, uint64_t *ret_gap)
{
	struct place place;
	uint64_t gap = p->size % HOLE_BYTES;
	*ret_gap = 0;
	if (gap == 0)
		return 0;
	int ret = last_piece(p, txn, &place);
	if (ret < 0 || place_item(&place)->kind != PIECE_HOLE)
		return ret;
	gap = min_u64(gap, place_item(&place)->length);
	if (gap == place_item(&place)->length)
		pieces_remove(p, place.start, p->size);
	else
		pieces_resize(p, &place, place_item(&place)->length - gap);
	*ret_gap = gap;
	return 0;
}

/* Add some bytes, as many as go into one piece, at the end, which is not in the middle of a hole's block. */
static int append_some(struct pieces *p, struct txn *txn, const uint8_t *data, size_t size, size_t *ret_added)
{
	struct place place;
	int ret;
	if (p->size > 0) {
		ret = last_piece(p, txn, &place);
		struct piece *last = ret == 0 ? place_item(&place) : NULL;
		/* The last chunk was cut by the end of the file, which is moving now. */
		if (ret == 0 && last->kind == PIECE_DATA && last->length < CUT_BYTES_MAX)
			ret = pieces_load(p, txn, last);
		if (ret < 0)
			return ret;
		if (last->kind == PIECE_BYTES && last->length < PIECE_BYTES_MAX) {
			size_t length = (size_t)last->length, room = PIECE_BYTES_MAX - length, added = size < room ? size : room;
			ret = piece_reserve(last, length + added);
			if (ret < 0)
				return ret;
			fill(last->bytes + length, data, added);
			pieces_resize(p, &place, length + added);
			*ret_added = added;
			return 0;
		}
	}
	struct piece piece;
	size_t added = size < PIECE_BYTES_MAX ? size : PIECE_BYTES_MAX;
	ret = piece_new_bytes(added, &piece);
	if (ret < 0)
		return ret;
	fill(piece.bytes, data, added);
	ret = pieces_insert(p, txn, 0, p->size, &piece, 1);
	if (ret < 0)
		piece_fini(&piece);
	*ret_added = added;
	return ret;
}

static int append(struct pieces *p, struct txn *txn, const uint8_t *data, size_t size)
{
	uint64_t gap;
	int ret = size > 0 ? uncover_block(p, txn, &gap) : 0;
	if (ret == 0 && size > 0 && gap > 0)
		ret = append(p, txn, NULL, (size_t)gap);
	for (size_t added; ret == 0 && size > 0; size -= added) {
		ret = append_some(p, txn, data, size, &added);
		if (ret < 0)
			return ret;
		data = advance(data, added);
	}
	return ret;
}

/* Move the end up: zeros to the end of a block that holds data, then a hole. */
int pieces_extend(struct pieces *p, struct txn *txn, uint64_t size)
{
	struct place place;
	if (size <= p->size)
		return 0;
	int ret = p->size > 0 ? last_piece(p, txn, &place) : 0;
	if (ret < 0)
		return ret;
	if (p->size > 0 && place_item(&place)->kind == PIECE_HOLE) {
		pieces_resize(p, &place, size - place.start);
		return 0;
	}
	ret = append(p, txn, NULL, (size_t)(min_u64(block_ceil(p->size), size) - p->size));
	if (ret < 0 || size == p->size)
		return ret;
	return pieces_insert(p, txn, 0, p->size, &(struct piece){ .kind = PIECE_HOLE, .length = size - p->size }, 1);
}

/* --- over what is there */

/*
 * Before a write at the start of a hole: the chunk before the hole was cut by it, so it has to be cut again, and bytes in memory before it
 * can grow into it. *ret_place is theirs, if *ret_grows.
 */
static int grow_before(struct pieces *p, struct txn *txn, uint64_t at, size_t by, struct place *ret_place, bool *ret_grows)
{
	*ret_grows = false;
	if (at == 0)
		return 0;
	int ret = pieces_locate(p, txn, 0, at - 1, ret_place);
	if (ret < 0)
		return ret;
	struct piece *before = place_item(ret_place);
	if (before->kind == PIECE_DATA && before->length < CUT_BYTES_MAX)
		ret = pieces_load(p, txn, before);
	if (ret < 0 || before->kind != PIECE_BYTES || before->length + by > PIECE_BYTES_MAX)
		return ret;
	*ret_grows = true;
	return piece_reserve(before, (size_t)before->length + by);
}

/* Write 'size' bytes into a hole, from place->skip on; they end in it. */
static int fill_hole(struct pieces *p, struct txn *txn, const struct place *place, const uint8_t *data, size_t size)
{
	uint64_t hole = place->start, hole_end = hole + place_item(place)->length;
	uint64_t at = hole + place->skip, end = at + size;
	uint64_t from = block_floor(at) > hole ? block_floor(at) : hole;
	uint64_t to = min_u64(block_ceil(end), hole_end);
	size_t length = (size_t)(to - from);
	struct place before;
	bool grows = false;
	int ret = from == hole ? grow_before(p, txn, hole, length, &before, &grows) : 0;
	if (ret < 0)
		return ret;

	struct piece bytes = { .kind = PIECE_BYTES };
	uint8_t *block;
	if (grows) {
		block = place_item(&before)->bytes + place_item(&before)->length;
	} else {
		ret = piece_new_bytes(length, &bytes);
		if (ret < 0)
			return ret;
		block = bytes.bytes;
	}
	fill(block, NULL, (size_t)(at - from));
	fill(block + (at - from), data, size);
	fill(block + (end - from), NULL, (size_t)(to - end));

	if (grows) { /* the bytes grow, the hole shrinks from its start */
		struct place rest;
		pieces_resize(p, &before, place_item(&before)->length + length);
		ret = pieces_locate(p, txn, 0, to, &rest);
		assert(ret == 0); /* it was open a moment ago */
		if (place_item(&rest)->length == length)
			pieces_remove(p, to, to + length);
		else
			pieces_resize(p, &rest, place_item(&rest)->length - length);
		return 0;
	}
	struct piece parts[3];
	size_t count = 0;
	if (from > hole)
		parts[count++] = (struct piece){ .kind = PIECE_HOLE, .length = from - hole };
	parts[count++] = bytes;
	if (to < hole_end)
		parts[count++] = (struct piece){ .kind = PIECE_HOLE, .length = hole_end - to };
	ret = pieces_replace(p, txn, 0, hole, hole_end, parts, count);
	if (ret < 0)
		piece_fini(&bytes);
	return ret;
}

/* Write below the end of the file. */
static int overlay(struct pieces *p, struct txn *txn, uint64_t offset, const uint8_t *data, uint64_t size)
{
	while (size > 0) {
		struct place place;
		int ret = pieces_locate(p, txn, 0, offset, &place);
		if (ret < 0)
			return ret;
		struct piece *item = place_item(&place);
		size_t part = (size_t)min_u64(min_u64(size, item->length - place.skip), PIECE_BYTES_MAX);
		if (item->kind == PIECE_HOLE) {
			ret = fill_hole(p, txn, &place, data, part);
		} else {
			if (item->kind == PIECE_DATA)
				ret = part == item->length ? pieces_forget(p, item) : pieces_load(p, txn, item);
			if (ret == 0)
				fill(item->bytes + place.skip, data, part);
		}
		if (ret < 0)
			return ret;
		offset += part;
		data = advance(data, part);
		size -= part;
	}
	return 0;
}

/* Zeros over data; holes stay holes. */
static int zero(struct pieces *p, struct txn *txn, uint64_t from, uint64_t to)
{
	while (from < to) {
		struct place place;
		int ret = pieces_locate(p, txn, 0, from, &place);
		if (ret < 0)
			return ret;
		uint64_t part = min_u64(to - from, place_item(&place)->length - place.skip);
		if (place_item(&place)->kind != PIECE_HOLE)
			ret = overlay(p, txn, from, NULL, part);
		if (ret < 0)
			return ret;
		from += part;
	}
	return 0;
}

int pieces_write(struct pieces *p, struct txn *txn, uint64_t offset, const void *data, size_t size)
{
	int ret = pieces_extend(p, txn, offset);
	if (ret < 0)
		return ret;
	size_t over = (size_t)min_u64(size, p->size - offset);
	ret = overlay(p, txn, offset, data, over);
	if (ret == 0)
		ret = append(p, txn, (const uint8_t *)data + over, size - over);
	return ret;
}

int pieces_shorten(struct pieces *p, struct txn *txn, uint64_t size)
{
	int ret = pieces_split(p, txn, 0, size);
	if (ret == 0)
		pieces_remove(p, size, p->size);
	return ret;
}

/* Make [from, to) a hole, in one with the holes that it touches. */
static int punch_blocks(struct pieces *p, struct txn *txn, uint64_t from, uint64_t to)
{
	struct place place;
	int ret = pieces_locate(p, txn, 0, from ? from - 1 : 0, &place);
	if (ret < 0)
		return ret;
	if (place_item(&place)->kind == PIECE_HOLE)
		from = place.start;
	ret = pieces_locate(p, txn, 0, to < p->size ? to : to - 1, &place);
	if (ret < 0)
		return ret;
	if (place_item(&place)->kind == PIECE_HOLE)
		to = place.start + place_item(&place)->length;
	ret = pieces_split(p, txn, 0, from);
	if (ret == 0)
		ret = pieces_split(p, txn, 0, to);
	if (ret < 0)
		return ret;
	return pieces_replace(p, txn, 0, from, to, &(struct piece){ .kind = PIECE_HOLE, .length = to - from }, 1);
}

int pieces_punch(struct pieces *p, struct txn *txn, uint64_t offset, uint64_t end)
{
	uint64_t from = block_ceil(offset), to = end == p->size ? end : block_floor(end);
	if (from >= to)
		return zero(p, txn, offset, end);
	int ret = zero(p, txn, offset, from);
	if (ret == 0)
		ret = zero(p, txn, to, end);
	if (ret == 0)
		ret = punch_blocks(p, txn, from, to);
	return ret;
}

int pieces_uncover(struct pieces *p, struct txn *txn, uint64_t from, uint64_t to)
{
	struct place place;
	if (from % HOLE_BYTES && from > 0) {
		int ret = pieces_locate(p, txn, 0, from - 1, &place);
		if (ret == 0 && place_item(&place)->kind == PIECE_HOLE)
			ret = overlay(p, txn, block_floor(from), NULL, from - block_floor(from));
		if (ret < 0)
			return ret;
	}
	if (to % HOLE_BYTES && to < p->size) {
		int ret = pieces_locate(p, txn, 0, to, &place);
		if (ret == 0 && place_item(&place)->kind == PIECE_HOLE)
			ret = overlay(p, txn, to, NULL, min_u64(block_ceil(to), p->size) - to);
		if (ret < 0)
			return ret;
	}
	return 0;
}
