/*
 * Deltas: what turns a replica at version a into version b (R1.3). A conversation of frames between the side that has it (source) and the side that
 * wants it (stage); frames are opaque to whoever carries them. From the source come the newest records in (a, b], then the chunks that
 * the stage asks for; from the stage come wants. A small delta in one frame (delta_inline) travels inside a heartbeat.
 *
 *   stage                                   source
 *   opening: own version, how to resume -->
 *                                       <-- 'B' from, to, complete?, digest, time, counts
 *                                       <-- 'R' records … 'R' records, 'E' end of records
 *   'W' wanted chunk ids               -->                                 (may start before 'E')
 *                                       <-- 'C' chunks …
 *   'D' done                            -->                                 then the source ends
 *
 * Complete copy: 'a' lies below the source's horizon, or the stage asked for it: all live records in key order; the stage tombstones what is missing.
 * Records are staged under number b over as many transactions as it takes; nobody sees them before stage_commit. Interrupted, a stage is resumed: the
 * opening then tells 'b' and the last key; if the source can still give b (it was not aborted) it goes on from there, else it answers with another b and the
 * stage drops what it had (chunks that it has are kept as long as something counts them).
 * Any bytes in: frames are checked, a bad one is -DRS_EPROTOCOL and leaves the store as it was.
 */
#ifndef STORE_DELTA_H
#define STORE_DELTA_H

#include "drsfs/buffer.h"
#include "store/version.h"

#define DELTA_FRAME_BYTES_MAX ((size_t)256 << 10) /* about; a frame with one large record or chunk may reach 2 * this */

/* --- the side that has it: read transactions of its own, opened and closed frame by frame (pins nothing between calls). */
struct delta_source;
/* -DRS_EPROTOCOL also if the stage has a newer version than we; -DRS_EVOLUME. */
int delta_source_open(struct store *, struct slice opening, struct delta_source **ret_source, version_t *ret_to);
void delta_source_close(struct delta_source *);
/* Frame from the stage. -DRS_EPROTOCOL. */
int delta_source_feed(struct delta_source *, struct slice frame);
/*
 * 1: *frame (cleared first) holds the next frame; 0: the conversation is over; -EAGAIN: feed first; -DRS_EHORIZON: 'to' was
 * retired meanwhile, or a proposal decided (open again).
 */
int delta_source_next(struct delta_source *, struct buffer *frame);

/*
 * A whole delta previous..version as one run of bytes <= bytes_max, if it fits and needs no chunk: else -DRS_ETOOBIG. Works in the
 * open write transaction before its commit too.
 */
int delta_inline_make(struct txn *, version_t from, version_t to, size_t bytes_max, struct buffer *ret_bytes);

/* --- the side that wants it: the single writer of its store; each call is given the write transaction, and the caller commits when it likes
 * (txn_dirty_bytes), durably keeping progress. */
int stage_opening(struct txn *, bool want_complete, struct buffer *ret_opening);   /* any transaction */
struct stage;                                                                      /* volatile part of a conversation; all that matters is in the store */
int stage_new(struct store *, struct stage **ret_stage);
void stage_free(struct stage *);
/*
 * Frame from the source. -EAGAIN: it makes much work, some of which is done; feed it once more, in the next transaction.
 * After any other error abort the transaction and free the stage: a new conversation resumes from what was committed.
 */
int stage_feed(struct stage *, struct txn *, struct slice frame);
/* 1: *frame holds a frame for the source; 0: nothing to say now. Call until 0 after each feed. */
int stage_next(struct stage *, struct txn *, struct buffer *frame);
/*
 * All here? Then stage_commit makes 'to' current (in this transaction). Digest differs: -DRS_EDIGEST; the caller drops the stage and asks
 * for a complete copy.
 */
bool stage_ready(const struct stage *, struct txn *);
int stage_commit(struct stage *, struct txn *, struct version_info *ret_info);
/* Drop what is staged, a bounded amount a call. */
int stage_drop(struct txn *, size_t work_max, bool *ret_done);
struct stage_progress {
	version_t from, to;
	bool complete;
	uint64_t records, records_total, bytes, chunks_wanted; /* totals as the source announced them; 0: not known */
};
void stage_progress(const struct stage *, struct stage_progress *ret_progress);

/* Apply an inline delta, all in this transaction, and make it current. -DRS_EHORIZON: it does not start at our current version. -EBUSY: a stage is
 * unfinished (finish or drop it first). -DRS_EDIGEST, -DRS_EPROTOCOL: abort the transaction. */
int delta_inline_apply(struct txn *, struct slice bytes, struct version_info *ret_info);
/* From and to of an inline delta without applying it. */
int delta_inline_span(struct slice bytes, version_t *ret_from, version_t *ret_to);

#endif
