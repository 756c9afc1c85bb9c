/* The tree of pieces: see piece.h. No function here stores anything; reading the store is how lists are opened and chunks loaded. */
#include "store/piece.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"

/* --- items and groups */

void piece_fini(struct piece *piece)
{
	if (piece->kind == PIECE_BYTES) {
		free(piece->bytes);
	} else if (piece->kind == PIECE_GROUP) {
		group_fini(piece->group);
		free(piece->group);
	}
}

void group_fini(struct group *group)
{
	for (size_t i = 0; i < group->count; i++)
		piece_fini(&group->items[i]);
	free(group->items);
	*group = (struct group){ 0 };
}

static int group_reserve(struct group *group, size_t more)
{
	if (group->capacity - group->count >= more)
		return 0;
	size_t capacity = group->capacity ? group->capacity : 16;
	while (capacity - group->count < more)
		capacity *= 2;
	struct piece *items = realloc(group->items, capacity * sizeof(*items));
	if (!items)
		return -ENOMEM;
	group->items = items;
	group->capacity = capacity;
	return 0;
}

/* Room was reserved. */
static void group_insert(struct group *group, size_t index, const struct piece *items, size_t count)
{
	struct piece *at = group->items + index;
	memmove(at + count, at, (group->count - index) * sizeof(*at));
	memcpy(at, items, count * sizeof(*at));
	group->count += count;
}

int group_push(struct group *group, const struct piece *piece)
{
	int ret = group_reserve(group, 1);
	if (ret < 0)
		return ret;
	group->items[group->count++] = *piece;
	return 0;
}

int group_decode(struct slice entries, uint64_t length, struct group *ret_group)
{
	static const enum piece_kind kinds[] = { [ENTRY_DATA] = PIECE_DATA, [ENTRY_LIST] = PIECE_LIST, [ENTRY_HOLE] = PIECE_HOLE };
	struct group group = { 0 };
	struct reader r = reader_of(entries);
	struct entry entry;
	uint64_t left = length;
	int ret;
	while ((ret = entry_next(&r, &entry)) > 0) {
		if (entry.length > left) {
			ret = -DRS_ECORRUPT;
			break;
		}
		left -= entry.length;
		ret = group_push(&group, &(struct piece){ .kind = kinds[entry.kind], .length = entry.length, .id = entry.id });
		if (ret < 0)
			break;
	}
	if (ret == 0 && left > 0)
		ret = -DRS_ECORRUPT;
	if (ret < 0)
		group_fini(&group);
	else
		*ret_group = group;
	return ret;
}

bool group_uniform(const struct group *group, unsigned level)
{
	for (size_t i = 0; i < group->count; i++) {
		enum piece_kind kind = group->items[i].kind;
		if ((kind == PIECE_LIST || kind == PIECE_GROUP) != (level > 0))
			return false;
	}
	return true;
}

int piece_open(struct piece *piece, struct txn *txn, unsigned level)
{
	assert(piece->kind == PIECE_LIST);
	struct slice entries;
	int ret = chunk_need(txn, &piece->id, true, &entries);
	if (ret < 0)
		return ret;
	struct group *group = calloc(1, sizeof(*group));
	if (!group)
		return -ENOMEM;
	ret = group_decode(entries, piece->length, group);
	if (ret == 0 && !group_uniform(group, level))
		ret = -DRS_ECORRUPT;
	if (ret < 0) {
		group_fini(group);
		free(group);
		return ret;
	}
	piece->kind = PIECE_GROUP;
	piece->group = group;
	return 0;
}

/* --- bytes in memory */

int piece_new_bytes(size_t length, struct piece *ret_piece)
{
	assert(length > 0 && length <= UINT32_MAX);
	uint8_t *bytes = malloc(length);
	if (!bytes)
		return -ENOMEM;
	*ret_piece = (struct piece){ .kind = PIECE_BYTES, .capacity = (uint32_t)length, .length = length, .bytes = bytes };
	return 0;
}

int piece_reserve(struct piece *piece, size_t length)
{
	assert(piece->kind == PIECE_BYTES && length <= UINT32_MAX);
	if (length <= piece->capacity)
		return 0;
	size_t capacity = 2 * (size_t)piece->capacity;
	if (capacity > PIECE_BYTES_MAX)
		capacity = PIECE_BYTES_MAX;
	if (capacity < length)
		capacity = length;
	uint8_t *bytes = realloc(piece->bytes, capacity);
	if (!bytes)
		return -ENOMEM;
	piece->bytes = bytes;
	piece->capacity = (uint32_t)capacity;
	return 0;
}

int pieces_forget(struct pieces *p, struct piece *item)
{
	assert(item->kind == PIECE_DATA);
	if (item->length > CHUNK_BYTES_MAX)
		return -DRS_ECORRUPT;
	struct piece piece;
	int ret = piece_new_bytes((size_t)item->length, &piece);
	if (ret < 0)
		return ret;
	*item = piece;
	p->bytes += (size_t)piece.length;
	return 0;
}

int pieces_load(struct pieces *p, struct txn *txn, struct piece *item)
{
	struct slice stored;
	int ret = chunk_need(txn, &item->id, false, &stored);
	if (ret < 0)
		return ret;
	if (stored.size != item->length)
		return -DRS_ECORRUPT;
	ret = pieces_forget(p, item);
	if (ret < 0)
		return ret;
	memcpy(item->bytes, stored.data, stored.size);
	return 0;
}

/* --- the tree */

int pieces_init(struct pieces *p, const struct node *node)
{
	*p = (struct pieces){ .level_known = node->content_kind != CONTENT_LIST };
	int ret = 0;
	struct piece piece;
	switch (node->content_kind) {
	case CONTENT_NONE:
		return 0;
	case CONTENT_INLINE:
		if (node->content.size == 0 || node->content.size != node->size)
			return -DRS_ECORRUPT;
		ret = piece_new_bytes(node->content.size, &piece);
		if (ret < 0)
			return ret;
		memcpy(piece.bytes, node->content.data, node->content.size);
		ret = group_push(&p->root, &piece);
		if (ret < 0)
			piece_fini(&piece);
		else
			p->bytes = node->content.size;
		break;
	case CONTENT_LIST:
		ret = group_decode(node->content, node->size, &p->root);
		break;
	}
	if (ret == 0)
		p->size = node->size;
	return ret;
}

void pieces_fini(struct pieces *p)
{
	group_fini(&p->root);
	*p = (struct pieces){ .level_known = true };
}

int pieces_prepare(struct pieces *p, struct txn *txn)
{
	if (p->level_known)
		return 0;
	unsigned level = 0;
	struct piece first = p->root.count ? p->root.items[0] : (struct piece){ 0 };
	while (first.kind == PIECE_LIST) {
		struct slice entries;
		struct group group = { 0 };
		if (level >= ENTRY_DEPTH_MAX)
			return -DRS_ECORRUPT;
		int ret = chunk_need(txn, &first.id, true, &entries);
		if (ret == 0)
			ret = group_decode(entries, first.length, &group);
		if (ret < 0)
			return ret;
		first = group.items[0];
		group_fini(&group);
		level++;
	}
	if (!group_uniform(&p->root, level))
		return -DRS_ECORRUPT;
	p->level = level;
	p->level_known = true;
	return 0;
}

/* The item that holds 'offset' in a group over [start, end); the last one if offset == end. Appends look at the end first. */
static size_t group_locate(const struct group *group, uint64_t *start, uint64_t end, uint64_t offset)
{
	size_t last = group->count - 1;
	if (offset >= end - group->items[last].length) {
		*start = end - group->items[last].length;
		return last;
	}
	size_t i = 0;
	for (; offset - *start >= group->items[i].length; i++)
		*start += group->items[i].length;
	return i;
}

int pieces_locate(struct pieces *p, struct txn *txn, unsigned level, uint64_t offset, struct place *ret_place)
{
	assert(p->level_known && level <= p->level && offset <= p->size);
	struct place place = { .level = level };
	struct group *group = &p->root;
	uint64_t end = p->size;
	for (unsigned l = p->level;; l--) {
		place.at[l].group = group;
		if (group->count == 0)
			break; /* an empty file */
		size_t index = group_locate(group, &place.start, end, offset);
		struct piece *item = &group->items[index];
		place.at[l].index = index;
		if (l == level)
			break;
		if (item->kind == PIECE_LIST) {
			int ret = piece_open(item, txn, l - 1);
			if (ret < 0)
				return ret;
		}
		end = place.start + item->length;
		group = item->group;
	}
	if (offset == p->size) {
		place.at[level].index = group->count;
		place.start = offset;
	}
	place.skip = offset - place.start;
	*ret_place = place;
	return 0;
}

static bool group_find(const struct group *group, unsigned group_level, unsigned level, enum piece_kind kind, uint64_t start, uint64_t from,
		       uint64_t *ret_start)
{
	for (size_t i = 0; i < group->count; start += group->items[i].length, i++) {
		const struct piece *item = &group->items[i];
		if (start + item->length <= from)
			continue;
		if (group_level == level && item->kind == kind && start >= from) {
			*ret_start = start;
			return true;
		}
		if (group_level > level && item->kind == PIECE_GROUP &&
		    group_find(item->group, group_level - 1, level, kind, start, from, ret_start))
			return true;
	}
	return false;
}

bool pieces_find(const struct pieces *p, unsigned level, enum piece_kind kind, uint64_t from, uint64_t *ret_start)
{
	return group_find(&p->root, p->level, level, kind, 0, from, ret_start);
}

/* The lengths above a place follow what was put in, or taken out, below. */
static void place_grow(struct pieces *p, const struct place *place, uint64_t by)
{
	for (unsigned l = place->level + 1; l <= p->level; l++)
		place->at[l].group->items[place->at[l].index].length += by;
	p->size += by;
}

void pieces_resize(struct pieces *p, const struct place *place, uint64_t length)
{
	struct piece *item = place_item(place);
	uint64_t by = length - item->length; /* wraps around when it shrinks, and so do the sums */
	if (item->kind == PIECE_BYTES)
		p->bytes += (size_t)by;
	item->length = length;
	place_grow(p, place, by);
}

int pieces_raise(struct pieces *p)
{
	if (p->level + 1 >= PIECE_LEVELS)
		return -EFBIG;
	struct group root = { 0 };
	struct group *old = malloc(sizeof(*old));
	struct piece item = { .kind = PIECE_GROUP, .length = p->size, .group = old };
	int ret = old ? group_push(&root, &item) : -ENOMEM;
	if (ret < 0) {
		free(old);
		return ret;
	}
	*old = p->root;
	p->root = root;
	p->level++;
	return 0;
}

/* Divide the item at a place of level > 0 (an open group) before its index-th item. */
static int place_divide(struct place *place, size_t index)
{
	struct group *above = place->at[place->level].group;
	struct group *group = place_item(place)->group;
	struct group *tail = calloc(1, sizeof(*tail));
	if (!tail)
		return -ENOMEM;
	size_t count = group->count - index;
	int ret = group_reserve(tail, count);
	if (ret == 0)
		ret = group_reserve(above, 1);
	if (ret < 0) {
		group_fini(tail);
		free(tail);
		return ret;
	}
	group_insert(tail, 0, group->items + index, count);
	group->count = index;
	struct piece item = { .kind = PIECE_GROUP, .group = tail };
	for (size_t i = 0; i < count; i++)
		item.length += tail->items[i].length;
	group_insert(above, place->at[place->level].index + 1, &item, 1);
	place_item(place)->length -= item.length;
	return 0;
}

/* Divide overfull groups, from the place up. If there is no memory for it they stay as they are: slower, not wrong. */
static void place_relieve(struct pieces *p, struct place *place)
{
	for (unsigned l = place->level; place->at[l].group->count > GROUP_ITEMS_MAX; l++) {
		if (l == p->level) {
			if (pieces_raise(p) < 0)
				return;
			place->at[l + 1].group = &p->root;
			place->at[l + 1].index = 0;
			place->at[l].group = p->root.items[0].group;
		}
		struct place above = *place;
		above.level = l + 1;
		for (struct group *group = place->at[l].group; group->count > GROUP_ITEMS_MAX;)
			if (place_divide(&above, group->count - GROUP_ITEMS_MAX / 2) < 0)
				return;
	}
}

int pieces_insert(struct pieces *p, struct txn *txn, unsigned level, uint64_t offset, const struct piece *items, size_t count)
{
	struct place place;
	int ret = pieces_locate(p, txn, level, offset, &place);
	if (ret < 0)
		return ret;
	assert(place.skip == 0);
	struct group *group = place.at[level].group;
	ret = group_reserve(group, count);
	if (ret < 0)
		return ret;
	group_insert(group, place.at[level].index, items, count);
	uint64_t length = 0;
	for (size_t i = 0; i < count; i++) {
		length += items[i].length;
		if (items[i].kind == PIECE_BYTES)
			p->bytes += (size_t)items[i].length;
	}
	place_grow(p, &place, length);
	place_relieve(p, &place);
	return 0;
}

static size_t piece_bytes(const struct piece *piece)
{
	size_t bytes = piece->kind == PIECE_BYTES ? (size_t)piece->length : 0;
	if (piece->kind == PIECE_GROUP)
		for (size_t i = 0; i < piece->group->count; i++)
			bytes += piece_bytes(&piece->group->items[i]);
	return bytes;
}

static void group_remove(struct pieces *p, struct group *group, uint64_t from, uint64_t to)
{
	size_t kept = 0;
	uint64_t start = 0;
	for (size_t i = 0; i < group->count; i++) {
		struct piece *item = &group->items[i];
		uint64_t end = start + item->length;
		uint64_t lo = from > start ? from : start, hi = to < end ? to : end;
		if (lo == start && hi == end) {
			p->bytes -= piece_bytes(item);
			piece_fini(item);
		} else {
			if (lo < hi) {
				assert(item->kind == PIECE_GROUP);
				group_remove(p, item->group, lo - start, hi - start);
				item->length -= hi - lo;
			}
			group->items[kept++] = *item;
		}
		start = end;
	}
	group->count = kept;
}

void pieces_remove(struct pieces *p, uint64_t from, uint64_t to)
{
	assert(from <= to && to <= p->size);
	group_remove(p, &p->root, from, to);
	p->size -= to - from;
	if (p->size == 0)
		p->level = 0;
}

int pieces_replace(struct pieces *p, struct txn *txn, unsigned level, uint64_t from, uint64_t to, const struct piece *items, size_t count)
{
	/* In first, out second: only the former can fail. */
	int ret = pieces_insert(p, txn, level, from, items, count);
	if (ret < 0)
		return ret;
	uint64_t length = to - from;
	pieces_remove(p, from + length, to + length);
	return 0;
}

static int split_leaf(struct pieces *p, struct txn *txn, uint64_t offset)
{
	struct place place;
	int ret = pieces_locate(p, txn, 0, offset, &place);
	if (ret < 0 || place.skip == 0)
		return ret;
	struct piece *item = place_item(&place);
	if (item->kind == PIECE_DATA) {
		ret = pieces_load(p, txn, item);
		if (ret < 0)
			return ret;
	}
	uint64_t rest = item->length - place.skip;
	struct piece tail = { .kind = PIECE_HOLE, .length = rest };
	if (item->kind == PIECE_BYTES) {
		ret = piece_new_bytes((size_t)rest, &tail);
		if (ret < 0)
			return ret;
		memcpy(tail.bytes, item->bytes + place.skip, (size_t)rest);
	}
	pieces_resize(p, &place, place.skip);
	ret = pieces_insert(p, txn, 0, offset, &tail, 1);
	if (ret < 0) {
		piece_fini(&tail);
		pieces_resize(p, &place, place.skip + rest);
	}
	return ret;
}

int pieces_split(struct pieces *p, struct txn *txn, unsigned level, uint64_t offset)
{
	int ret = split_leaf(p, txn, offset);
	for (unsigned l = 1; l <= level && ret == 0; l++) {
		struct place below, place;
		ret = pieces_locate(p, txn, l, offset, &place);
		if (ret < 0 || place.skip == 0)
			continue;
		ret = pieces_locate(p, txn, l - 1, offset, &below);
		if (ret == 0)
			ret = place_divide(&place, below.at[l - 1].index);
	}
	return ret;
}

/* --- walking */

static int walk_group(const struct walk *w, const struct group *group, uint64_t start, unsigned depth)
{
	static const enum entry_kind kinds[] = { [PIECE_DATA] = ENTRY_DATA, [PIECE_LIST] = ENTRY_LIST, [PIECE_HOLE] = ENTRY_HOLE };
	for (size_t i = 0; i < group->count && start < w->to; i++) {
		const struct piece *item = &group->items[i];
		int ret = WALK_ON;
		if (start + item->length <= w->from)
			ret = WALK_ON;
		else if (item->kind == PIECE_BYTES)
			ret = w->visit(w, &(struct span){ ENTRY_DATA, depth, start, item->length, NULL, item->bytes });
		else if (item->kind == PIECE_GROUP)
			ret = walk_group(w, item->group, start, depth + 1);
		else
			ret = walk_entry(w, &(struct entry){ kinds[item->kind], item->length, item->id }, start, depth);
		if (ret != WALK_ON)
			return ret;
		start += item->length;
	}
	return WALK_ON;
}

int pieces_walk(const struct pieces *p, const struct walk *w)
{
	return walk_group(w, &p->root, 0, 0);
}
