/*
 * Merging: what a batch's records come to on top of a tree that went on without it. Each key is looked at three ways: what the batch's base has, what the tree
 * has now, and what the batch has. Nothing is written here.
 */
#ifndef STORE_MERGE_H
#define STORE_MERGE_H

#include "store/batch.h"

struct merge {
	struct txn *txn;
	version_t draft;   /* the batch's finished records */
	version_t waiting; /* and those that are not */
	version_t base;    /* what they were written on */
	version_t now;     /* what they are to stand on */
	bool operation;    /* an operation's of the live tree: what waits there does not stand against it */
};

enum merge_outcome {
	MERGE_OURS, /* the tree has what the base has: the batch's record stands */
	MERGE_SAME, /* the tree has what the batch has, or the batch what the base has: the tree's record stands */
	MERGE_BOTH, /* a directory that both changed */
};

/* What the record that stands under 'at' comes to; of MERGE_BOTH the merged record. -DRS_ECONFLICT. */
int merge_key(const struct merge *, version_t at, const struct record_key *, enum merge_outcome *ret_outcome, struct buffer *ret_value);
/* Tell every key of the batch that cannot be merged; returns their number. 'conflict' may be NULL. */
int merge_check(const struct merge *, batch_conflict *, void *user);
/* Is there anything that could be in the way? If not merge_check has nothing to say. */
bool merge_differs(const struct merge *);
/* Is this key a directory that has another parent in 'ours' than in 'base'? */
struct record_slot;
int merge_moves(const struct record_key *, const struct record_slot *base, const struct record_slot *ours, bool *ret_moves);

#endif
