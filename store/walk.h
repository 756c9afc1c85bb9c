/*
 * Walking over content: every run of bytes, every hole and, where asked for, every list of a content tree, in the order of the file.
 * It touches only the lists that the range needs, and copies nothing. What it meets may be damaged: that is -DRS_ECORRUPT, never more.
 */
#ifndef STORE_WALK_H
#define STORE_WALK_H

#include "store/chunk.h"
#include "store/node.h"

struct span {
	enum entry_kind kind;
	unsigned depth;            /* 0: an entry of the node itself */
	uint64_t start, length;    /* in the file; the whole entry, also where it reaches beyond the range */
	const struct chunk_id *id; /* of a chunk; NULL for a hole and for bytes in memory */
	const uint8_t *bytes;      /* in memory; NULL for what the store holds */
};

enum walk_next { WALK_ON = 0, WALK_OPEN = 1, WALK_STOP = 2 };

struct walk {
	struct txn *txn;
	uint64_t from, to;         /* what does not overlap this range is passed over */
	/* Called for each span. A list is walked into on WALK_OPEN and passed over on WALK_ON. A negative error ends the walk. */
	int (*visit)(const struct walk *, const struct span *);
	void *user;
};

/* All of them: 0 (WALK_ON) at the end, WALK_STOP, or a negative error. */
int walk_node(const struct walk *, const struct node *);
int walk_entry(const struct walk *, const struct entry *, uint64_t start, unsigned depth);

/* The bytes of a data span. In the store they are valid until the next write of the transaction. */
int span_bytes(const struct walk *, const struct span *, const uint8_t **ret_bytes);
/* The part of a span that lies in the walk's range. */
void span_clip(const struct walk *, const struct span *, uint64_t *ret_from, uint64_t *ret_to);
/* As chunk_get, for a chunk that has to be there: -DRS_ECORRUPT if it is not. */
int chunk_need(struct txn *, const struct chunk_id *, bool list, struct slice *ret_bytes);

#endif
