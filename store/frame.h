/*
 * The bytes of a delta's conversation: what source, stage and inline deltas have in common. Everything that is decoded here comes
 * from the wire; a decoder gives -DRS_EPROTOCOL for whatever is not exactly as an encoder writes it.
 *
 *   opening  'O' u8 format, did, u8 flags, varint current, varint resume_to [varint resume_at, u8+… resume_key]
 *   'B'      u8 flags, head, varint records, varint bytes      begin
 *   'R'      varint version, run                               records; the version under which the source has the last of them (0: complete copy)
 *   'E'                                                        end of records
 *   'C'      (u8 flags, varint size, bytes) …                  chunks
 *   'W'      ids                                               wants
 *   'D'                                                        done
 *   inline   'I' head, run
 *   head     varint from, varint to - from, digest, be64 time, u8 size and message
 *   run      (varint bytes shared with the key before, varint more bytes, those, varint size + 1 or 0: tombstone, value) …
 */
#ifndef STORE_FRAME_H
#define STORE_FRAME_H

#include "store/batch.h"

enum frame {
	FRAME_OPENING = 'O',
	FRAME_BEGIN = 'B',
	FRAME_RECORDS = 'R',
	FRAME_END = 'E',
	FRAME_CHUNKS = 'C',
	FRAME_WANTS = 'W',
	FRAME_DONE = 'D',
	FRAME_INLINE = 'I',
};

#define FRAME_WANTS_MAX 512         /* ids in one frame */
#define FRAME_OUTSTANDING_MAX 1024  /* ids asked for and not answered */

/* What the stage has, and how far an interrupted delta got. */
struct opening {
	struct did did;
	bool complete;                 /* wants a complete copy */
	version_t current;
	version_t resume_to;           /* 0: nothing to resume */
	bool resume_complete, resume_records_done;
	version_t resume_at;           /* index: the version of the last record */
	struct record_key resume_key;  /* size 0: none came yet */
};
void opening_encode(const struct opening *, struct buffer *);
int opening_decode(struct slice, struct opening *ret_opening);

/* Which versions, and what the slave's history says about the newer one. */
struct head {
	version_t from, to;
	struct digest digest;
	int64_t time_ns;
	char message[VERSION_MESSAGE_BYTES_MAX + 1];
};
void head_encode(const struct head *, struct buffer *);
int head_decode(struct reader *, struct head *ret_head);
int head_load(struct txn *, version_t from, version_t to, struct head *ret_head); /* from the history; -ENOENT: no such version, or it was aborted */
int batch_head(const struct batch_info *, struct head *ret_head);                 /* of a proposal; -DRS_EHORIZON: it is none */
/* The batch that is proposed as 'to'. -DRS_EHORIZON: none. */
int batch_proposed(struct txn *, version_t to, struct batch_info *ret_info);

struct begin {
	struct head head;
	bool complete, resumed;
	uint64_t records, bytes; /* about; 0: not known */
};
void begin_encode(const struct begin *, struct buffer *);
int begin_decode(struct slice frame, struct begin *ret_begin);

struct run_writer {
	struct buffer *out;
	struct record_key previous;
};
void run_add(struct run_writer *, const struct record_key *, bool live, struct slice value);

/*
 * An inline delta's making: its start, a record that differs from what the key had at 'from', and its end (gives 'error', or -ENOMEM; then nothing is in it).
 * -DRS_ETOOBIG: it gets too large, or the record needs chunks.
 */
struct record_slot;
void inline_begin(const struct head *, struct buffer *);
int inline_add(struct txn *, version_t from, const struct record_key *, const struct record_slot *, size_t bytes_max, struct run_writer *);
int inline_end(int error, struct buffer *);
/* Its taking apart; the run's records are checked as they are read. */
struct run_reader;
int inline_head(struct slice bytes, struct head *ret_head, struct run_reader *ret_run);
int inline_check(struct txn *, struct run_reader);
int inline_put(struct txn *, struct run_reader); /* under the pending number */

struct run_reader {
	struct reader bytes;
	struct record_key previous;
};
struct run_record {
	struct record_key key;
	bool live;
	struct slice value;
};
/* The next record, wholly checked: 1, 0 at the end. */
int run_next(const struct txn *, struct run_reader *, struct run_record *ret_record);

#endif
