/*
 * Settling an edit: bytes in memory become chunks, opened lists become list chunks, cut as a sequential write of the whole file would have cut
 * them wherever nothing but the content decides.
 */
#ifndef STORE_SETTLE_H
#define STORE_SETTLE_H

#include "store/piece.h"

/*
 * Cut and store all bytes in memory. Where bytes end at the offset 'hot' (somebody is about to write on there; UINT64_MAX: nowhere) the last,
 * undecided ones stay in memory.
 */
int settle_bytes(struct pieces *, struct txn *, uint64_t hot);
/* With all bytes settled: store all opened lists, and bring the root to at most LIST_ENTRIES_TOP items. */
int settle_lists(struct pieces *, struct txn *);
/* The settled items of a group as entries, appended. */
int settle_encode(const struct group *, struct buffer *);

#endif
