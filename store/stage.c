/*
 * The side of a delta that wants it. What comes is put under the number 'to', which nobody sees until stage_commit; how far it
 * got stands beside it in the store (the state's 'stage', and a row with the last record's place), so that the commit which
 * keeps records keeps their place too. The volatile part only knows the present conversation: what was announced, and which
 * chunks are asked for.
 *
 * A frame is checked wholly before its first record or chunk is put: a bad one changes nothing. One that makes more work than a
 * transaction should have, since much of our own is to be deleted, stops on the way and is fed again.
 *
 * Complete copy: records come in key order and are joined with our own. Own ones that do not come are deleted, equal ones stay
 * unwritten. The digest is summed up from what comes and nothing else, so that a replica whose own digest or records went wrong
 * is healed by it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/frame.h"
#include "store/internal.h"
#include "store/wants.h"

#define ASK_BELOW (FRAME_OUTSTANDING_MAX - FRAME_WANTS_MAX) /* ask for more while so few are under way */
#define DROP_STEP 10000
#define DELETES_STEP 10000 /* own records that a frame deletes before it is fed again */

struct stage {
	struct begin begin;
	bool begun;
	bool ended;                 /* the source has said that no records follow */
	bool idle;                  /* we have 'to' already */
	bool again;                 /* the last frame stopped on the way */
	bool done_said;
	uint64_t records, bytes;    /* that came in this conversation */
	struct wants wants;
};

int stage_new(struct store *store, struct stage **ret_stage)
{
	assert(store);
	struct stage *stage = calloc(1, sizeof(*stage));
	if (!stage)
		return -ENOMEM;
	*ret_stage = stage;
	return 0;
}

void stage_free(struct stage *stage)
{
	if (!stage)
		return;
	wants_fini(&stage->wants);
	free(stage);
}

/* --- the place where an interrupted delta goes on: varint version, key of the last record */

static struct slice place_row(uint8_t at[ROW_KEY_BYTES_MAX])
{
	return slice_of(at, change_row_key(at, VERSION_CURSOR, NULL));
}

static int place_save(struct txn *txn, version_t at, const struct record_key *key)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct buffer value = BUFFER_INIT;
	buffer_add_varint(&value, at);
	buffer_add(&value, key->bytes, key->size);
	int error = value.failed ? -ENOMEM : row_put(txn, place_row(row), buffer_slice(&value));
	buffer_fini(&value);
	return error;
}

/* None yet: an empty key. */
static int place_load(struct txn *txn, version_t *ret_at, struct record_key *ret_key)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct slice value;
	*ret_at = 0;
	ret_key->size = 0;
	int error = row_get(txn, place_row(row), &value);
	if (error)
		return error == -ENOENT ? 0 : error;
	struct reader r = reader_of(value);
	*ret_at = read_varint(&r);
	size_t size = reader_left(&r);
	if (r.failed || size > RECORD_KEY_BYTES_MAX)
		return -DRS_ECORRUPT;
	ret_key->size = (uint16_t)size;
	memcpy(ret_key->bytes, read_bytes(&r, size), size);
	return 0;
}

static int stage_forget(struct txn *txn)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	memset(&txn->state.stage, 0, sizeof(txn->state.stage));
	int error = row_delete(txn, place_row(row));
	return error == -ENOENT ? 0 : error;
}

int stage_opening(struct txn *txn, bool want_complete, struct buffer *ret_opening)
{
	const struct store_state *state = &txn->state;
	struct opening o = { .did = state->did, .complete = want_complete, .current = state->current };
	bool resume = state->stage.to && state->stage.from == state->current && (state->stage.complete || !want_complete);
	if (resume) {
		o.resume_to = state->stage.to;
		o.resume_complete = state->stage.complete;
		o.resume_records_done = state->stage.records_done;
		int error = place_load(txn, &o.resume_at, &o.resume_key);
		if (error)
			return error;
	}
	buffer_clear(ret_opening);
	opening_encode(&o, ret_opening);
	return ret_opening->failed ? -ENOMEM : 0;
}

/* What is dropped in part must not be resumed: no version leads from a number that is not current. */
int stage_drop(struct txn *txn, size_t work_max, bool *ret_done)
{
	txn->state.stage.from = txn->state.stage.to;
	int error = version_drop(txn, work_max, ret_done);
	return error || !*ret_done ? error : stage_forget(txn);
}

/* --- begin */

static bool digest_equal(struct digest a, struct digest b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

static bool is_continued(const struct store_state *state, const struct begin *begin)
{
	return state->stage.to == begin->head.to && state->stage.from == begin->head.from && state->stage.complete == begin->complete &&
	       digest_equal(state->stage.digest, begin->head.digest);
}

static int begin_anew(struct txn *txn, const struct begin *begin)
{
	struct store_state *state = &txn->state;
	static const struct digest nothing;
	bool done;
	int error = stage_drop(txn, DROP_STEP, &done);
	if (error || !done)
		return error ? error : -EAGAIN;
	version_pend(txn, begin->head.to, begin->complete ? nothing : state->digest, begin->complete ? 0 : state->nodes);
	state->stage.from = begin->head.from;
	state->stage.to = begin->head.to;
	state->stage.complete = begin->complete;
	state->stage.records_done = false;
	state->stage.digest = begin->head.digest;
	return 0;
}

static int feed_begin(struct stage *stage, struct txn *txn, struct slice frame)
{
	const struct store_state *state = &txn->state;
	struct begin begin;
	int error = stage->begun ? -DRS_EPROTOCOL : begin_decode(frame, &begin);
	if (error)
		return error;
	if (begin.head.from != state->current || (begin.resumed && !is_continued(state, &begin)))
		return -DRS_EPROTOCOL;
	stage->idle = begin.head.to == state->current;
	if (stage->idle && !digest_equal(begin.head.digest, state->digest))
		return -DRS_EDIGEST;
	if (!stage->idle && !begin.resumed)
		error = begin_anew(txn, &begin);
	if (error)
		return error;
	stage->begin = begin;
	stage->begun = true;
	return 0;
}

/* --- a whole delta at once */

static bool wants_chunks(struct txn *txn)
{
	struct chunk_id id;
	return chunk_wants(txn, NULL, &id, 1) != 0;
}

int stage_inline(struct stage *stage, struct txn *txn, struct slice bytes)
{
	struct store_state *state = &txn->state;
	struct begin begin = { .complete = false };
	struct run_reader run;
	int error = inline_head(bytes, &begin.head, &run);
	if (error)
		return error;
	if (begin.head.from != state->current)
		return -DRS_EHORIZON;
	error = inline_check(txn, run);
	if (!error)
		error = begin_anew(txn, &begin);
	if (!error)
		error = inline_put(txn, run);
	if (error)
		return error;
	if (wants_chunks(txn))
		return -DRS_EPROTOCOL;
	if (!digest_equal(state->pending_digest, begin.head.digest))
		return -DRS_EDIGEST;
	state->stage.records_done = true;
	*stage = (struct stage){ .begin = begin, .begun = true, .ended = true };
	return 0;
}

/* --- records */

static int compare_keys(const struct record_key *a, const struct record_key *b)
{
	size_t common = a->size < b->size ? a->size : b->size;
	int order = memcmp(a->bytes, b->bytes, common);
	return order ? order : (int)a->size - (int)b->size;
}

/* Our own live records, one ahead, for the join. */
struct own {
	struct txn *txn;
	struct record_cursor *cursor;
	struct record_key key;
	bool some; /* 'key' is there */
	size_t deletes; /* so far */
};

static int own_next(struct own *own)
{
	struct slice value;
	int more = record_cursor_next(own->cursor, &own->key, &value, NULL);
	own->some = more == 1;
	return more < 0 ? more : 0;
}

static int own_seek(struct own *own, const struct record_key *after)
{
	int error = record_cursor_seek(own->cursor, slice_of(after->bytes, after->size));
	if (!error)
		error = own_next(own);
	if (!error && own->some && compare_keys(&own->key, after) == 0)
		error = own_next(own);
	return error;
}

static int own_init(struct own *own, struct txn *txn, const struct record_key *after)
{
	*own = (struct own){ .txn = txn };
	int error = record_cursor_new(txn, (struct view){ .version = txn->state.current }, &own->cursor);
	return error ? error : own_seek(own, after);
}

/* Write as part of a complete copy: the digest and the count of nodes are those of what came, whatever we had. */
static int join_put(struct txn *txn, const struct run_record *record)
{
	struct store_state *state = &txn->state;
	struct digest digest = state->pending_digest;
	uint64_t nodes = state->pending_nodes + (record_key_kind(&record->key) == RECORD_NODE);
	digest_add(&digest, record_digest(txn, &record->key, record->value));
	int error = record_put(txn, state->pending, &record->key, record->value);
	state->pending_digest = digest;
	state->pending_nodes = nodes;
	return error;
}

static int join_delete(struct txn *txn, const struct record_key *key)
{
	struct store_state *state = &txn->state;
	struct digest digest = state->pending_digest;
	uint64_t nodes = state->pending_nodes;
	int error = record_delete(txn, state->pending, key);
	state->pending_digest = digest;
	state->pending_nodes = nodes;
	return error;
}

/* Delete all own records below 'key' (NULL: all that are left), and pass over the one that is there. -EAGAIN: up to *last, which moves along. */
static int join_up_to(struct own *own, const struct record_key *key, struct record_key *last)
{
	while (own->some) {
		int order = key ? compare_keys(&own->key, key) : -1;
		struct record_key done = own->key;
		if (order > 0)
			return 0;
		if (order < 0 && own->deletes++ == DELETES_STEP)
			return -EAGAIN;
		int error = order < 0 ? join_delete(own->txn, &done) : 0;
		if (!error)
			error = own_seek(own, &done);
		if (error)
			return error;
		if (order < 0)
			*last = done;
	}
	return 0;
}

static int check_records(struct stage *stage, struct txn *txn, struct run_reader run, version_t at, const struct record_key *after)
{
	const struct head *head = &stage->begin.head;
	bool complete = stage->begin.complete;
	struct record_key last = *after;
	struct run_record record;
	int more;
	if (complete ? at != 0 : at <= head->from || at > head->to)
		return -DRS_EPROTOCOL;
	while ((more = run_next(txn, &run, &record)) == 1) {
		if (complete && (!record.live || (last.size && compare_keys(&record.key, &last) <= 0)))
			return -DRS_EPROTOCOL;
		last = record.key;
	}
	return more;
}

static int put_complete(struct own *own, const struct run_record *record, struct record_key *last)
{
	int error = join_up_to(own, &record->key, last);
	return error ? error : join_put(own->txn, record);
}

static int put_changed(struct txn *txn, const struct run_record *record)
{
	version_t at = txn->state.pending;
	if (record->live)
		return record_put(txn, at, &record->key, record->value);
	int error = record_delete(txn, at, &record->key);
	return error == -ENOENT ? 0 : error; /* made and deleted in between: never was here */
}

static int want_content(struct stage *stage, struct txn *txn, const struct run_record *record)
{
	struct buffer ids = BUFFER_INIT;
	struct slice entries;
	int error = record_entries(&record->key, record->value, &entries);
	if (!error)
		error = wants_of_entries(txn, entries, &ids);
	if (!error)
		wants_add(&stage->wants, buffer_slice(&ids), false);
	buffer_fini(&ids);
	return error;
}

static int put_records(struct stage *stage, struct txn *txn, struct run_reader run, struct own *own, struct record_key *last)
{
	struct run_record record;
	int more;
	while ((more = run_next(txn, &run, &record)) == 1) {
		if (stage->again && compare_keys(&record.key, last) <= 0)
			continue; /* put when the frame was fed before */
		int error = own ? put_complete(own, &record, last) : put_changed(txn, &record);
		if (!error && record.live)
			error = want_content(stage, txn, &record);
		if (error)
			return error;
		stage->records++;
		stage->bytes += record.key.size + record.value.size;
		*last = record.key;
	}
	return more;
}

/* A frame has been worked on up to 'last', wholly (0) or not (-EAGAIN). */
static int stopped(struct stage *stage, struct txn *txn, version_t at, const struct record_key *last, int error)
{
	int saved = error && error != -EAGAIN ? 0 : place_save(txn, at, last);
	stage->again = error == -EAGAIN;
	return saved ? saved : error;
}

static int feed_records(struct stage *stage, struct txn *txn, struct slice frame)
{
	static const struct record_key none;
	struct reader r = reader_of(frame);
	struct record_key last;
	version_t at, before;
	read_u8(&r); /* the kind */
	at = read_varint(&r);
	if (r.failed)
		return -DRS_EPROTOCOL;
	int error = place_load(txn, &before, &last);
	if (!error)
		error = check_records(stage, txn, (struct run_reader){ .bytes = r }, at, stage->again ? &none : &last);
	if (error || !reader_left(&r))
		return error;
	struct own own = { .cursor = NULL };
	if (stage->begin.complete)
		error = own_init(&own, txn, &last);
	if (!error)
		error = put_records(stage, txn, (struct run_reader){ .bytes = r }, stage->begin.complete ? &own : NULL, &last);
	record_cursor_free(own.cursor);
	return stopped(stage, txn, at, &last, error);
}

static int feed_end(struct stage *stage, struct txn *txn, struct slice frame)
{
	struct record_key last;
	version_t at;
	if (frame.size != 1 || stage->ended)
		return -DRS_EPROTOCOL;
	if (stage->begin.complete && !stage->idle && !txn->state.stage.records_done) {
		struct own own = { .cursor = NULL };
		int error = place_load(txn, &at, &last);
		if (!error)
			error = own_init(&own, txn, &last);
		if (!error)
			error = join_up_to(&own, NULL, &last);
		record_cursor_free(own.cursor);
		error = stopped(stage, txn, at, &last, error);
		if (error)
			return error;
	}
	if (!stage->idle)
		txn->state.stage.records_done = true;
	stage->ended = true;
	return 0;
}

/* --- chunks */

/* The next chunk of a frame: 1, 0 at the end. */
static int chunk_next(struct reader *r, bool *ret_list, struct slice *ret_bytes)
{
	if (!reader_left(r))
		return 0;
	uint8_t flags = read_u8(r);
	uint64_t size = read_varint(r);
	const uint8_t *bytes = size <= CHUNK_BYTES_MAX ? read_bytes(r, size) : NULL;
	if (r->failed || !bytes || !size || flags > 1)
		return -DRS_EPROTOCOL;
	*ret_list = flags;
	*ret_bytes = slice_of(bytes, size);
	return 1;
}

/* Only what was asked for is taken: else a source could fill the store with what nothing names. */
static int check_chunks(const struct stage *stage, struct txn *txn, struct reader r)
{
	struct slice bytes;
	bool list;
	size_t count = 0;
	int more;
	while ((more = chunk_next(&r, &list, &bytes)) == 1) {
		struct chunk_id id = chunk_id_of(txn, list, bytes);
		if (!chunk_wanted(txn, &id) && !chunk_exists(txn, &id))
			return -DRS_EPROTOCOL;
		if (list && entries_check(bytes) != 0)
			return -DRS_EPROTOCOL;
		if (++count > stage->wants.asked_count)
			return -DRS_EPROTOCOL;
	}
	return more;
}

/* 'ids': what the lists among them want. */
static int put_chunks(struct stage *stage, struct txn *txn, struct reader r, struct buffer *ids)
{
	struct slice bytes;
	struct chunk_id id;
	bool list;
	int more;
	while ((more = chunk_next(&r, &list, &bytes)) == 1) {
		int error = chunk_put(txn, list, bytes, &id);
		if (!error && list)
			error = wants_of_entries(txn, bytes, ids);
		if (error)
			return error;
		wants_answered(&stage->wants);
		stage->bytes += bytes.size;
	}
	return more;
}

static int feed_chunks(struct stage *stage, struct txn *txn, struct slice frame)
{
	struct reader r = reader_of(slice_of((const uint8_t *)frame.data + 1, frame.size - 1));
	struct buffer ids = BUFFER_INIT;
	int error = check_chunks(stage, txn, r);
	if (!error)
		error = put_chunks(stage, txn, r, &ids);
	if (!error)
		wants_add(&stage->wants, buffer_slice(&ids), true);
	buffer_fini(&ids);
	return error;
}

int stage_feed(struct stage *stage, struct txn *txn, struct slice frame)
{
	uint8_t kind = frame.size ? *(const uint8_t *)frame.data : 0;
	bool staging = stage->begun && !stage->idle;
	if (kind == FRAME_BEGIN)
		return feed_begin(stage, txn, frame);
	if (kind == FRAME_RECORDS && staging && !txn->state.stage.records_done)
		return feed_records(stage, txn, frame);
	if (kind == FRAME_END && stage->begun)
		return feed_end(stage, txn, frame);
	if (kind == FRAME_CHUNKS && staging)
		return feed_chunks(stage, txn, frame);
	return -DRS_EPROTOCOL;
}

/* --- to the source */

static int ask(struct stage *stage, struct txn *txn, struct buffer *frame)
{
	struct chunk_id ids[FRAME_WANTS_MAX];
	if (stage->wants.asked_count > ASK_BELOW)
		return 0;
	int count = wants_take(&stage->wants, txn, ids, FRAME_WANTS_MAX);
	if (count <= 0)
		return count;
	buffer_add_u8(frame, FRAME_WANTS);
	buffer_add(frame, ids, (size_t)count * sizeof(ids[0]));
	return frame->failed ? -ENOMEM : 1;
}

static bool complete_here(const struct stage *stage, struct txn *txn)
{
	return stage->begun && stage->ended && (stage->idle || !wants_chunks(txn));
}

int stage_next(struct stage *stage, struct txn *txn, struct buffer *frame)
{
	buffer_clear(frame);
	if (!stage->begun || stage->done_said)
		return 0;
	int asked = stage->idle ? 0 : ask(stage, txn, frame);
	if (asked || !complete_here(stage, txn))
		return asked;
	stage->done_said = true;
	buffer_add_u8(frame, FRAME_DONE);
	return frame->failed ? -ENOMEM : 1;
}

/* --- the end */

bool stage_ready(const struct stage *stage, struct txn *txn)
{
	return complete_here(stage, txn);
}

static int current_info(struct txn *txn, struct version_info *ret_info)
{
	*ret_info = (struct version_info){ .state = VERSION_COMMITTED };
	return txn->state.current ? version_get(txn, txn->state.current, ret_info) : 0;
}

int stage_check(const struct stage *stage, struct txn *txn)
{
	return stage->idle || digest_equal(txn->state.pending_digest, txn->state.stage.digest) ? 0 : -DRS_EDIGEST;
}

int stage_commit(struct stage *stage, struct txn *txn, struct version_info *ret_info)
{
	if (!complete_here(stage, txn))
		return -EINVAL;
	if (stage->idle)
		return current_info(txn, ret_info);
	int error = stage_check(stage, txn);
	if (error)
		return error;
	struct version_info info = { .time_ns = stage->begin.head.time_ns };
	memcpy(info.message, stage->begin.head.message, sizeof(info.message));
	error = version_commit(txn, &info);
	if (!error)
		error = stage_forget(txn);
	if (error)
		return error;
	stage->begun = false;
	*ret_info = info;
	return 0;
}

void stage_progress(const struct stage *stage, struct stage_progress *ret_progress)
{
	const struct begin *begin = &stage->begin;
	*ret_progress = (struct stage_progress){
		.from = begin->head.from,
		.to = stage->begun ? begin->head.to : 0,
		.complete = begin->complete,
		.records = stage->records,
		.records_total = begin->records,
		.bytes = stage->bytes,
		.chunks_wanted = stage->wants.asked_count,
	};
}
