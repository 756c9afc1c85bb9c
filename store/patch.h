/*
 * What writes, and the like, do to a tree of pieces (piece.h). A failed call may have happened in part; the tree is sound in any case.
 */
#ifndef STORE_PATCH_H
#define STORE_PATCH_H

#include "store/piece.h"

#define HOLE_BYTES ((uint64_t)4096)

static inline uint64_t block_floor(uint64_t offset)
{
	return offset & ~(HOLE_BYTES - 1);
}

static inline uint64_t block_ceil(uint64_t offset)
{
	return block_floor(offset + HOLE_BYTES - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int pieces_write(struct pieces *, struct txn *, uint64_t offset, const void *data, size_t size);
int pieces_extend(struct pieces *, struct txn *, uint64_t size);  /* the end moves up, if size is above it */
int pieces_shorten(struct pieces *, struct txn *, uint64_t size); /* the end moves down */
int pieces_punch(struct pieces *, struct txn *, uint64_t from, uint64_t to); /* to <= size */
/* Fill the blocks of holes that stand with one foot outside of [from, to) with zeros, so that anything can be put there. */
int pieces_uncover(struct pieces *, struct txn *, uint64_t from, uint64_t to);
/* Put what [from, from+size) of a node has at 'offset', in place of what is there, whole chunks and lists by id (share.c). */
int pieces_share(struct pieces *, struct txn *, uint64_t offset, const struct node *source, uint64_t from, uint64_t size);

#endif
