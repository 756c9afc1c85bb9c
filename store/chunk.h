/*
 * Chunks: immutable runs of bytes under an id made of their content (XXH3-128, seeded from the store's secret), each stored once and
 * counted. Who counts: every stored node record counts the entries of its list (each version's record on its own), every list chunk
 * counts its entries. A chunk that is counted but not here is *wanted* (a slave gets records first, chunks after).
 * When the last count goes the chunk is queued as garbage and taken away by chunk_collect, a bounded amount at a time.
 */
#ifndef STORE_CHUNK_H
#define STORE_CHUNK_H

#include "drsfs/buffer.h"
#include "store/store.h"

#define CHUNK_BYTES_MAX (16 * 4096 - 64) /* fits 16 LMDB pages with page header and our own flags byte */

struct chunk_id {
	uint8_t bytes[16];
};

/*
 * Entries of a content list. Encoded: varint (length << 2 | kind), then 16 bytes of id unless a hole. Length: the bytes of file that
 * the entry stands for, > 0. Lists nest at most ENTRY_DEPTH_MAX deep.
 */
enum entry_kind { ENTRY_DATA = 0, ENTRY_LIST = 1, ENTRY_HOLE = 2 };
#define ENTRY_DEPTH_MAX 10
#define ENTRY_BYTES_MAX (10 + 16)

struct entry {
	enum entry_kind kind;
	uint64_t length;
	struct chunk_id id; /* zero for a hole */
};

void entry_encode(const struct entry *, struct buffer *);
/* Next entry: 1, 0 at the end of the slice, -DRS_ECORRUPT. Safe on any input. */
int entry_next(struct reader *, struct entry *ret_entry);

/*
 * Store bytes (1..CHUNK_BYTES_MAX) and give their id; a list chunk's bytes are encoded entries. Bytes that are stored already are found by id and
 * compared; different bytes with one id: -DRS_ECORRUPT. In the transaction that puts it something must come to count it
 * (a node record, a list chunk that is counted itself), else it is queued as garbage at commit.
 * Putting a wanted chunk fulfils the want; a list chunk's entries become counted, and so wanted, with it.
 */
int chunk_put(struct txn *, bool list, struct slice bytes, struct chunk_id *ret_id);
/* The bytes of a chunk, valid as long as the transaction. -ENOENT: not here. -DRS_ECORRUPT: 'list' is not what it is. */
int chunk_get(struct txn *, const struct chunk_id *, bool list, struct slice *ret_bytes);
/* Like chunk_get, and also hashes the bytes against the id: -DRS_ECORRUPT. */
int chunk_check(struct txn *, const struct chunk_id *, bool list, struct slice *ret_bytes);
bool chunk_exists(struct txn *, const struct chunk_id *);
/* Count all entries of an encoded list up or down. */
int chunk_ref_list(struct txn *, struct slice entries, int by);
/* Up to 'max' wanted ids > 'after' (NULL: from the start) in order; returns how many, or an error. */
int chunk_wants(struct txn *, const struct chunk_id *after, struct chunk_id *ret_ids, size_t max);
/* Take away up to 'max' garbage chunks, fewer when disk room for that is short (-ENOSPC: not even one); *ret_more tells whether some are left. */
int chunk_collect(struct txn *, size_t max, bool *ret_more);

#endif
