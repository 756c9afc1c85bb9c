/*
 * The side of a delta that has it. Two ways to list records: from the change index (the newest record of each key changed in
 * (from, to]), or all live ones in key order (complete copy). Either way a place to go on from is a few bytes, so every frame
 * is made in a read transaction of its own, and a slow slave holds back neither the reuse of pages nor retention: if 'to' goes,
 * the conversation ends with -DRS_EHORIZON.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/frame.h"
#include "store/internal.h"

#define SCAN_MAX 20000          /* change rows looked at for one frame: most may be hidden by newer ones */
#define TOTAL_VERSIONS_MAX 4096 /* versions looked at for the announced totals */

enum phase { SOURCE_BEGIN, SOURCE_RECORDS, SOURCE_END, SOURCE_CHUNKS };

struct delta_source {
	struct store *store;
	uint32_t batch;         /* it leads to what this batch proposes; 0: to a committed version */
	version_t committed;    /* the last one that it leads over: 'to', or what the proposal leads on from */
	struct begin begin;
	enum phase phase;
	bool no_records;        /* the stage has them all */
	bool stage_done;
	version_t at;           /* where the records go on: behind this change; complete copy: behind this key. Above 'committed': in the batch */
	struct record_key key;
	version_t sent_at;      /* the version of the last record sent: with its key this is where the stage may resume */
	struct chunk_id *wants; /* a ring of FRAME_OUTSTANDING_MAX */
	size_t wants_from, wants_count;
};

/* --- opening */

/* About how much comes: the sum over the versions in between, hidden records included. */
static int sum_versions(struct txn *txn, version_t to, struct begin *begin)
{
	struct version_info info = { .version = begin->head.from };
	for (int n = 0; n < TOTAL_VERSIONS_MAX; n++) {
		int error = version_next(txn, info.version, &info);
		if (error && error != -ENOENT)
			return error;
		if (error || info.version > to)
			return 0;
		begin->records += info.records;
		begin->bytes += info.bytes;
	}
	begin->records = begin->bytes = 0;
	return 0;
}

static int announce_totals(struct txn *txn, version_t to, struct begin *begin)
{
	if (!begin->complete)
		return sum_versions(txn, to, begin);
	begin->records = 2 * txn->state.nodes; /* a node and its name */
	return 0;
}

static bool can_resume(struct txn *txn, const struct opening *o)
{
	const struct store_state *state = &txn->state;
	struct version_info info;
	if (!o->resume_to || o->resume_to < state->horizon || o->resume_to > state->current || o->resume_to <= o->current)
		return false;
	if (o->resume_complete != o->complete && o->complete)
		return false;
	if (!o->resume_complete && o->current < state->horizon)
		return false;
	return version_get(txn, o->resume_to, &info) == 0 && info.state == VERSION_COMMITTED;
}

/* The whole in key order also where there is nothing yet: it reads and writes sequentially. */
static bool wants_complete(struct txn *txn, const struct opening *o)
{
	return o->complete || o->current < txn->state.horizon || !o->current;
}

/* Where an interrupted conversation goes on. */
static void resume(struct delta_source *s, const struct opening *o)
{
	s->no_records |= o->resume_records_done;
	s->key = o->resume_key;
	if (o->resume_key.size)
		s->at = o->resume_at;
}

static int source_begin(struct delta_source *s, struct txn *txn, const struct opening *o)
{
	const struct store_state *state = &txn->state;
	struct begin *begin = &s->begin;
	if (memcmp(&o->did, &state->did, sizeof(o->did)) != 0)
		return -DRS_EVOLUME;
	if (o->current > state->current) /* from a future that this store does not know */
		return -DRS_EPROTOCOL;
	begin->resumed = can_resume(txn, o);
	version_t to = begin->resumed ? o->resume_to : state->current;
	begin->complete = begin->resumed ? o->resume_complete : wants_complete(txn, o);
	int error = head_load(txn, o->current, to, &begin->head);
	if (error)
		return error == -ENOENT ? -DRS_ECORRUPT : error;
	s->committed = to;
	s->no_records = to == o->current;
	s->at = o->current + 1;
	if (begin->resumed)
		resume(s, o);
	s->sent_at = s->at;
	return announce_totals(txn, to, begin);
}

/* A proposal leads on from the current version; who has an older one gets what lies between as well. */
static int source_propose(struct delta_source *s, struct txn *txn, version_t to, const struct opening *o)
{
	struct begin *begin = &s->begin;
	struct batch_info info;
	if (memcmp(&o->did, &txn->state.did, sizeof(o->did)) != 0)
		return -DRS_EVOLUME;
	int error = batch_proposed(txn, to, &info);
	if (!error)
		error = batch_head(&info, &begin->head);
	if (error)
		return error;
	if (o->current > info.base)
		return -DRS_EPROTOCOL;
	begin->head.from = o->current;
	begin->complete = wants_complete(txn, o);
	begin->resumed = o->resume_to == to && o->resume_complete == begin->complete;
	s->batch = info.id;
	s->committed = info.base;
	s->at = o->current + 1;
	if (begin->resumed)
		resume(s, o);
	s->sent_at = s->at;
	error = announce_totals(txn, info.base, begin);
	begin->records += info.records;
	begin->bytes += info.bytes;
	return error;
}

/* 'proposed' 0: to the current version. */
static int source_open(struct store *store, version_t proposed, struct slice opening, struct delta_source **ret_source)
{
	struct opening o;
	struct txn *txn;
	int error = opening_decode(opening, &o);
	if (error)
		return error;
	struct delta_source *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->store = store;
	error = txn_begin_read(store, &txn);
	if (!error) {
		error = proposed ? source_propose(s, txn, proposed, &o) : source_begin(s, txn, &o);
		txn_abort(txn);
	}
	if (error) {
		delta_source_close(s);
		return error;
	}
	*ret_source = s;
	return 0;
}

int delta_source_open(struct store *store, struct slice opening, struct delta_source **ret_source, version_t *ret_to)
{
	struct delta_source *s;
	int error = source_open(store, VERSION_NONE, opening, &s);
	if (error)
		return error;
	*ret_source = s;
	if (ret_to)
		*ret_to = s->begin.head.to;
	return 0;
}

int batch_source_open(struct store *store, version_t to, struct slice opening, struct delta_source **ret_source)
{
	return to ? source_open(store, to, opening, ret_source) : -DRS_EHORIZON;
}

void delta_source_close(struct delta_source *s)
{
	if (!s)
		return;
	free(s->wants);
	free(s);
}

/* --- from the stage */

static int take_wants(struct delta_source *s, struct slice ids)
{
	size_t count = ids.size / sizeof(struct chunk_id);
	if (ids.size % sizeof(struct chunk_id) || !count || count > FRAME_OUTSTANDING_MAX - s->wants_count || s->stage_done)
		return -DRS_EPROTOCOL;
	if (!s->wants)
		s->wants = calloc(FRAME_OUTSTANDING_MAX, sizeof(*s->wants));
	if (!s->wants)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct chunk_id *slot = &s->wants[(s->wants_from + s->wants_count++) % FRAME_OUTSTANDING_MAX];
		memcpy(slot, (const uint8_t *)ids.data + i * sizeof(*slot), sizeof(*slot));
	}
	return 0;
}

int delta_source_feed(struct delta_source *s, struct slice frame)
{
	const uint8_t *bytes = frame.data;
	if (!frame.size)
		return -DRS_EPROTOCOL;
	if (bytes[0] == FRAME_WANTS)
		return take_wants(s, slice_of(bytes + 1, frame.size - 1));
	/* Done is said after the last record, and when nothing more is wanted. */
	bool done = bytes[0] == FRAME_DONE && frame.size == 1 && s->phase == SOURCE_CHUNKS && !s->wants_count;
	if (!done)
		return -DRS_EPROTOCOL;
	s->stage_done = true;
	return 0;
}

/* --- to the stage */

static int fill_chunks(struct delta_source *s, struct txn *txn, struct buffer *frame)
{
	buffer_add_u8(frame, FRAME_CHUNKS);
	while (s->wants_count && frame->size < DELTA_FRAME_BYTES_MAX) {
		bool list;
		struct slice bytes;
		int error = chunk_any(txn, &s->wants[s->wants_from], &list, &bytes);
		if (error) /* collected since its record was sent: then 'to' is gone too, or is about to be */
			return error == -ENOENT ? -DRS_EHORIZON : error;
		buffer_add_u8(frame, list);
		buffer_add_varint(frame, bytes.size);
		buffer_add(frame, bytes.data, bytes.size);
		s->wants_from = (s->wants_from + 1) % FRAME_OUTSTANDING_MAX;
		s->wants_count--;
	}
	return 0;
}

/* A change counts where its version is the newest that the key has up to 'to', which a batch's is if it has one. */
static int fill_from_index(struct delta_source *s, struct txn *txn, struct run_writer *run, bool *ret_end)
{
	version_t at = s->at, to = s->committed;
	struct record_key key = s->key;
	for (int n = 0; n < SCAN_MAX && run->out->size < DELTA_FRAME_BYTES_MAX; n++) {
		int more = change_next(txn, to, &at, &key);
		if (more <= 0) {
			*ret_end = more == 0;
			return more;
		}
		struct record_slot slot;
		int error = record_slot_seek(txn, &key, to, &slot);
		if (error)
			return error;
		if (slot.present && slot.at == at && !(s->batch && batch_touches(txn, s->batch, &key))) {
			run_add(run, &key, slot.live, slot.value);
			s->sent_at = at;
		}
		s->at = at;
		s->key = key;
	}
	return 0;
}

/* All changes of a proposal count; places among them are keys. */
static int fill_from_batch(struct delta_source *s, struct txn *txn, struct run_writer *run, bool *ret_end)
{
	version_t draft = batch_draft(s->batch);
	while (run->out->size < DELTA_FRAME_BYTES_MAX) {
		struct record_slot slot;
		int more = version_change_next(txn, draft, &s->key);
		if (more <= 0) {
			*ret_end = more == 0;
			return more;
		}
		int error = record_slot_exact(txn, &s->key, draft, &slot);
		if (error)
			return error;
		run_add(run, &s->key, slot.live, slot.value);
		s->sent_at = s->begin.head.to;
	}
	return 0;
}

static int fill_from_tree(struct delta_source *s, struct txn *txn, struct run_writer *run, bool *ret_end)
{
	struct record_cursor *cursor;
	struct record_key key;
	struct slice value;
	struct view view = { .version = s->committed, .draft = s->batch ? batch_draft(s->batch) : VERSION_NONE };
	int more = 1, error = record_cursor_new(txn, view, &cursor);
	if (error)
		return error;
	error = record_cursor_seek(cursor, slice_of(s->key.bytes, s->key.size));
	while (!error && run->out->size < DELTA_FRAME_BYTES_MAX) {
		more = record_cursor_next(cursor, &key, &value, NULL);
		if (more <= 0)
			break;
		bool last = key.size == s->key.size && memcmp(key.bytes, s->key.bytes, key.size) == 0;
		if (last) /* where the frame before ended */
			continue;
		run_add(run, &key, true, value);
		s->key = key;
	}
	record_cursor_free(cursor);
	*ret_end = more == 0;
	return error ? error : more < 0 ? more : 0;
}

/* What lies between, then what is proposed. */
static int fill_proposal(struct delta_source *s, struct txn *txn, struct run_writer *run, bool *ret_end)
{
	bool end = false;
	if (s->at <= s->committed) {
		int error = fill_from_index(s, txn, run, &end);
		if (error || !end)
			return error;
		s->at = s->begin.head.to;
		s->key.size = 0;
	}
	return fill_from_batch(s, txn, run, ret_end);
}

static int fill_run(struct delta_source *s, struct txn *txn, struct run_writer *run, bool *ret_end)
{
	if (s->begin.complete)
		return fill_from_tree(s, txn, run, ret_end);
	return s->batch ? fill_proposal(s, txn, run, ret_end) : fill_from_index(s, txn, run, ret_end);
}

static int fill_records(struct delta_source *s, struct txn *txn, struct buffer *frame)
{
	/* The version is known at the end: the records are written behind room for it. */
	struct buffer run = BUFFER_INIT;
	struct run_writer writer = { .out = &run };
	bool end = false;
	int error = fill_run(s, txn, &writer, &end);
	if (!error) {
		buffer_add_u8(frame, FRAME_RECORDS);
		buffer_add_varint(frame, s->begin.complete ? 0 : s->sent_at);
		buffer_add(frame, run.data, run.size);
		frame->failed |= run.failed;
	}
	buffer_fini(&run);
	if (end)
		s->phase = SOURCE_END;
	return error;
}

/* Can 'to' still be given? A proposal that was decided has moved, or is gone. */
static bool retained(const struct delta_source *s, struct txn *txn)
{
	struct batch_info info;
	if (s->batch && (batch_get(txn, s->batch, &info) != 0 || info.state != BATCH_PROPOSED || info.proposed != s->begin.head.to))
		return false;
	return (s->begin.complete ? s->begin.head.to : s->begin.head.from) >= txn->state.horizon;
}

static int fill(struct delta_source *s, struct txn *txn, struct buffer *frame)
{
	switch (s->phase) {
	case SOURCE_BEGIN:
		begin_encode(&s->begin, frame);
		s->phase = s->no_records ? SOURCE_END : SOURCE_RECORDS;
		return 0;
	case SOURCE_RECORDS:
		return s->wants_count ? fill_chunks(s, txn, frame) : fill_records(s, txn, frame);
	case SOURCE_END:
		buffer_add_u8(frame, FRAME_END);
		s->phase = SOURCE_CHUNKS;
		return 0;
	case SOURCE_CHUNKS:
		break;
	}
	return fill_chunks(s, txn, frame);
}

int delta_source_next(struct delta_source *s, struct buffer *frame)
{
	struct txn *txn;
	buffer_clear(frame);
	if (s->phase == SOURCE_CHUNKS && !s->wants_count)
		return s->stage_done ? 0 : -EAGAIN;
	int error = txn_begin_read(s->store, &txn);
	if (error)
		return error;
	error = retained(s, txn) ? fill(s, txn, frame) : -DRS_EHORIZON;
	txn_abort(txn);
	if (!error && frame->failed)
		error = -ENOMEM;
	return error ? error : 1;
}
