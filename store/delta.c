/*
 * Inline deltas: the whole of a small change in one run of bytes that travels inside a heartbeat. It is for changes that name
 * no content that the slave may lack: such a one goes the long way (source.c, stage.c).
 */
#include "store/delta.h"

#include <errno.h>
#include <string.h>

#include "store/frame.h"
#include "store/internal.h"

/* A list that the key has had at 'from' already (a chmod of a large file, say) brings no chunks. */
static int needs_chunks(struct txn *txn, version_t from, const struct record_key *key, const struct record_slot *slot, bool *ret_needs)
{
	struct slice entries = slice_of(NULL, 0), had = slice_of(NULL, 0);
	struct record_slot old;
	int error = slot->live ? record_entries(key, slot->value, &entries) : 0;
	*ret_needs = false;
	if (error || !entries.size)
		return error;
	error = record_slot_seek(txn, key, from, &old);
	if (!error && old.live)
		error = record_entries(key, old.value, &had);
	*ret_needs = entries.size != had.size || memcmp(entries.data, had.data, had.size) != 0;
	return error;
}

void inline_begin(const struct head *head, struct buffer *b)
{
	buffer_add_u8(b, FRAME_INLINE);
	head_encode(head, b);
}

int inline_add(struct txn *txn, version_t from, const struct record_key *key, const struct record_slot *slot, size_t bytes_max, struct run_writer *run)
{
	bool needs;
	int error = needs_chunks(txn, from, key, slot, &needs);
	if (error)
		return error;
	if (needs || slot->value.size > bytes_max)
		return -DRS_ETOOBIG;
	run_add(run, key, slot->live, slot->value);
	return run->out->size > bytes_max ? -DRS_ETOOBIG : 0;
}

int inline_end(int error, struct buffer *b)
{
	if (!error && b->failed)
		error = -ENOMEM;
	if (error)
		buffer_clear(b);
	return error;
}

static int make_run(struct txn *txn, version_t from, version_t to, size_t bytes_max, struct run_writer *run)
{
	version_t at = from + 1;
	struct record_key key = { .size = 0 };
	int more;
	while ((more = change_next(txn, to, &at, &key)) == 1) {
		struct record_slot slot;
		int error = record_slot_seek(txn, &key, to, &slot);
		if (!error && slot.present && slot.at == at)
			error = inline_add(txn, from, &key, &slot, bytes_max, run);
		if (error)
			return error;
	}
	return more;
}

int delta_inline_make(struct txn *txn, version_t from, version_t to, size_t bytes_max, struct buffer *ret_bytes)
{
	struct head head;
	struct run_writer run = { .out = ret_bytes };
	buffer_clear(ret_bytes);
	if (from < txn->state.horizon)
		return -DRS_EHORIZON;
	int error = head_load(txn, from, to, &head);
	if (error)
		return error;
	inline_begin(&head, ret_bytes);
	return inline_end(make_run(txn, from, to, bytes_max, &run), ret_bytes);
}

int inline_head(struct slice bytes, struct head *ret_head, struct run_reader *ret_run)
{
	struct reader r = reader_of(bytes);
	if (read_u8(&r) != FRAME_INLINE)
		return -DRS_EPROTOCOL;
	int error = head_decode(&r, ret_head);
	if (!error && ret_head->to <= ret_head->from)
		error = -DRS_EPROTOCOL;
	*ret_run = (struct run_reader){ .bytes = r };
	return error;
}

int delta_inline_span(struct slice bytes, version_t *ret_from, version_t *ret_to)
{
	struct head head;
	struct run_reader run;
	int error = inline_head(bytes, &head, &run);
	if (error)
		return error;
	*ret_from = head.from;
	*ret_to = head.to;
	return 0;
}

int inline_check(struct txn *txn, struct run_reader run)
{
	struct run_record record;
	int more;
	while ((more = run_next(txn, &run, &record)) == 1)
		;
	return more;
}

int inline_put(struct txn *txn, struct run_reader run)
{
	struct run_record record;
	int more, error = 0;
	while (!error && (more = run_next(txn, &run, &record)) == 1) {
		version_t at = txn->state.pending;
		error = record.live ? record_put(txn, at, &record.key, record.value) : record_delete(txn, at, &record.key);
		if (error == -ENOENT) /* made and deleted in between: never was here */
			error = 0;
	}
	return error;
}

int delta_inline_apply(struct txn *txn, struct slice bytes, struct version_info *ret_info)
{
	const struct store_state *state = &txn->state;
	struct head head;
	struct run_reader run;
	struct chunk_id wanted;
	int error = inline_head(bytes, &head, &run);
	if (error)
		return error;
	if (head.from != state->current)
		return -DRS_EHORIZON;
	if (state->pending)
		return -EBUSY;
	error = inline_check(txn, run);
	if (error)
		return error;
	version_pend(txn, head.to, state->digest, state->nodes);
	error = inline_put(txn, run);
	if (error)
		return error;
	int wants = chunk_wants(txn, NULL, &wanted, 1);
	if (wants)
		return wants < 0 ? wants : -DRS_EPROTOCOL;
	if (state->pending_digest.lo != head.digest.lo || state->pending_digest.hi != head.digest.hi)
		return -DRS_EDIGEST;
	struct version_info info = { .time_ns = head.time_ns };
	memcpy(info.message, head.message, sizeof(head.message));
	error = version_commit(txn, &info);
	if (!error)
		*ret_info = info;
	return error;
}
