/*
 * Batches: their rows, and the ways of their records from a draft to a version. What a batch comes to on a tree that went on is merge.c's; the conversation that
 * carries a proposal is source.c's.
 *
 * A batch's row is its draft's own, before the keys of its changes: among the last rows of the tree, beside the state, on a page that a commit writes anyway. The
 * own row of the number above the first batch's holds the id given out last.
 *
 *   u8 state, u8 flags, varint base, varint reserved, be64 begun, u8 size and name
 *   proposed: varint number, be64 time, digest, varint nodes, records, bytes, row_bytes, u8 size and message
 */
#include "store/batch.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/frame.h"
#include "store/internal.h"
#include "store/merge.h"
#include "store/node.h"
#include "store/walk.h"

#define CLEAN_STEP 10000    /* records that one transaction drops when a store is opened */
#define RECORD_LEAVES 3     /* of the tree, that a record changes which moves: its own, the changes' before and after */
#define ABORTED_AT_START "the master was restarted before the decision"

/* In its row, beside enum batch_flags. */
enum { BATCH_MOVES = 8, BATCH_FLAGS = 15 };

/* --- rows */

static bool is_batch_number(version_t draft)
{
	return draft >= batch_draft(UINT32_MAX) && draft <= batch_waiting(1);
}

static struct slice batch_row(uint8_t at[ROW_KEY_BYTES_MAX], uint32_t id)
{
	return slice_of(at, change_row_key(at, batch_draft(id), NULL));
}

static void text_encode(const char *text, size_t max, struct buffer *b)
{
	size_t size = strnlen(text, max);
	buffer_add_u8(b, (uint8_t)size);
	buffer_add(b, text, size);
}

static void text_decode(struct reader *r, size_t max, char *ret_text)
{
	size_t size = read_u8(r);
	const uint8_t *bytes = read_bytes(r, size);
	if (r->failed || size > max) {
		r->failed = true;
		return;
	}
	memcpy(ret_text, bytes, size);
	ret_text[size] = 0;
}

static void info_encode(const struct batch_info *info, struct buffer *b)
{
	buffer_add_u8(b, (uint8_t)info->state);
	buffer_add_u8(b, (uint8_t)(info->transient * BATCH_TRANSIENT | info->operation * BATCH_OPERATION | info->frees * BATCH_FREES |
				 info->moves * BATCH_MOVES));
	buffer_add_varint(b, info->base);
	buffer_add_varint(b, info->reserved);
	buffer_add_be64(b, (uint64_t)info->begun_ns);
	text_encode(info->name, BATCH_NAME_BYTES_MAX, b);
	if (info->state != BATCH_PROPOSED)
		return;
	buffer_add_varint(b, info->proposed);
	buffer_add_be64(b, (uint64_t)info->time_ns);
	buffer_add_be64(b, info->digest.lo);
	buffer_add_be64(b, info->digest.hi);
	buffer_add_varint(b, info->nodes);
	buffer_add_varint(b, info->records);
	buffer_add_varint(b, info->bytes);
	buffer_add_varint(b, info->row_bytes);
	text_encode(info->message, VERSION_MESSAGE_BYTES_MAX, b);
}

static int info_decode(uint32_t id, struct slice value, struct batch_info *ret_info)
{
	struct reader r = reader_of(value);
	struct batch_info info = { .id = id };
	info.state = read_u8(&r);
	uint8_t flags = read_u8(&r);
	info.transient = flags & BATCH_TRANSIENT;
	info.operation = flags & BATCH_OPERATION;
	info.frees = flags & BATCH_FREES;
	info.moves = flags & BATCH_MOVES;
	info.base = read_varint(&r);
	info.reserved = read_varint(&r);
	info.begun_ns = (int64_t)read_be64(&r);
	text_decode(&r, BATCH_NAME_BYTES_MAX, info.name);
	if (info.state == BATCH_PROPOSED) {
		info.proposed = read_varint(&r);
		info.time_ns = (int64_t)read_be64(&r);
		info.digest.lo = read_be64(&r);
		info.digest.hi = read_be64(&r);
		info.nodes = read_varint(&r);
		info.records = read_varint(&r);
		info.bytes = read_varint(&r);
		info.row_bytes = read_varint(&r);
		text_decode(&r, VERSION_MESSAGE_BYTES_MAX, info.message);
	}
	bool state_known = info.state == BATCH_OPEN || info.state == BATCH_PROPOSED;
	if (r.failed || reader_left(&r) || !state_known || flags & ~BATCH_FLAGS || info.base > VERSION_MAX || info.reserved > VERSION_MAX ||
	    info.proposed > VERSION_MAX)
		return -DRS_ECORRUPT;
	*ret_info = info;
	return 0;
}

static int info_put(struct txn *txn, const struct batch_info *info)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	buffer_clear(&txn->value);
	info_encode(info, &txn->value);
	if (txn->value.failed)
		return txn_poison(txn, -ENOMEM);
	return row_put(txn, batch_row(row, info->id), buffer_slice(&txn->value));
}

int batch_get(struct txn *txn, uint32_t id, struct batch_info *ret_info)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct slice value;
	if (id == 0)
		return -ENOENT;
	int error = row_get(txn, batch_row(row, id), &value);
	return error ? error : info_decode(id, value, ret_info);
}

/* The lowest draft number >= 'from' that has a row of any kind. -ENOENT: none. *ret_own: it has one of its own, with that value. */
static int draft_next(struct txn *txn, version_t from, version_t *ret_draft, bool *ret_own, struct slice *ret_value)
{
	uint8_t seek[ROW_KEY_BYTES_MAX];
	struct slice row_key;
	struct record_key key;
	int error = row_seek(txn, slice_of(seek, change_row_key(seek, from, NULL)), &row_key, ret_value);
	if (error)
		return error;
	if (!change_row_parse(row_key, ret_draft, &key) || *ret_draft >= VERSION_CURSOR)
		return -ENOENT;
	*ret_own = key.size == 0;
	return 0;
}

int batch_next(struct txn *txn, uint32_t after, struct batch_info *ret_info)
{
	uint8_t seek[ROW_KEY_BYTES_MAX];
	struct slice row_key, value;
	struct record_key key;
	version_t draft = batch_draft(after);
	for (;;) {
		int error = row_seek(txn, slice_of(seek, change_row_key(seek, draft, NULL)), &row_key, &value);
		if (!error)
			error = row_previous(txn, ROW_VERSION, &row_key, &value);
		if (error)
			return error;
		if (!change_row_parse(row_key, &draft, &key) || !is_batch_number(draft))
			return -ENOENT;
		draft = batch_draft(batch_of(draft)); /* behind its own row there may be others of it */
		error = batch_get(txn, batch_of(draft), ret_info);
		if (error != -ENOENT)
			return error;
	}
}

int batch_find(struct txn *txn, const char *name, struct batch_info *ret_info)
{
	struct batch_info info = { .id = 0 };
	int error;
	while ((error = batch_next(txn, info.id, &info)) == 0) {
		if (strcmp(info.name, name) == 0) {
			*ret_info = info;
			return 0;
		}
	}
	return error;
}

version_t batch_horizon(struct txn *txn)
{
	struct batch_info info = { .id = 0 };
	version_t horizon = VERSION_MAX;
	int error;
	while ((error = batch_next(txn, info.id, &info)) == 0)
		if (info.base < horizon)
			horizon = info.base;
	return error == -ENOENT ? horizon : VERSION_NONE; /* not to be read: then nothing is taken away from it */
}

int batch_layers(struct txn *txn, version_t draft, version_t *ret_base, version_t *ret_finished)
{
	struct batch_info info;
	*ret_base = VERSION_MAX;
	*ret_finished = VERSION_NONE;
	int error = is_batch_number(draft) ? batch_get(txn, batch_of(draft), &info) : -ENOENT;
	if (error)
		return error == -ENOENT ? 0 : error;
	*ret_base = info.base;
	if (draft == batch_waiting(info.id))
		*ret_finished = batch_draft(info.id);
	return 0;
}

version_t batch_content_version(struct txn *txn, version_t at)
{
	struct batch_info info;
	return is_batch_number(at) && batch_get(txn, batch_of(at), &info) == 0 ? info.reserved : at;
}

bool batch_number_known(struct txn *txn, version_t draft)
{
	struct batch_info info;
	return draft == VERSION_DRAFT || (is_batch_number(draft) && batch_get(txn, batch_of(draft), &info) == 0);
}

bool batch_touches(struct txn *txn, uint32_t id, const struct record_key *key)
{
	return record_exists_at(txn, batch_draft(id), key, NULL);
}

bool batch_removes(struct txn *txn, uint32_t id, const struct record_key *key)
{
	bool tombstone = false;
	return record_exists_at(txn, batch_draft(id), key, &tombstone) && tombstone;
}

/* --- beginning and dropping */

/* Ids are given in order; the last one outlives its batch. */
static int next_id(struct txn *txn, uint32_t *ret_id)
{
	uint8_t row[ROW_KEY_BYTES_MAX], bytes[8];
	struct slice value;
	uint64_t last = 0;
	int error = row_get(txn, batch_row(row, 0), &value);
	if (error && error != -ENOENT)
		return error;
	if (!error && value.size != sizeof(bytes))
		return -DRS_ECORRUPT;
	if (!error)
		last = get_be64(value.data);
	if (last >= UINT32_MAX)
		return -EUSERS;
	put_be64(bytes, last + 1);
	*ret_id = (uint32_t)(last + 1);
	return row_put(txn, batch_row(row, 0), slice_of(bytes, sizeof(bytes)));
}

static int may_begin(struct txn *txn, const char *name)
{
	struct batch_info info = { .id = 0 };
	size_t count = 0;
	int error;
	if (strlen(name) > BATCH_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	while ((error = batch_next(txn, info.id, &info)) == 0) {
		if (*name && strcmp(info.name, name) == 0)
			return -EEXIST;
		if (++count == BATCHES_MAX)
			return -EUSERS;
	}
	return error == -ENOENT ? 0 : error;
}

int batch_begin(struct txn *txn, const char *name, unsigned flags, int64_t begun_ns, struct batch_info *ret_info)
{
	struct batch_info info = { .state = BATCH_OPEN, .base = txn->state.current, .begun_ns = begun_ns };
	info.transient = flags & BATCH_TRANSIENT;
	info.operation = flags & BATCH_OPERATION;
	info.frees = flags & BATCH_FREES;
	int error = may_begin(txn, name);
	if (!error)
		error = next_id(txn, &info.id);
	if (error)
		return error;
	snprintf(info.name, sizeof(info.name), "%s", name);
	info.reserved = ++txn->state.assigned;
	error = info_put(txn, &info);
	if (!error)
		*ret_info = info;
	return error;
}

/* What was not finished goes in a call of its own. */
static int drop_records(struct txn *txn, uint32_t id, size_t work_max, bool *ret_done)
{
	struct record_key key = { .size = 0 };
	int waiting = version_change_next(txn, batch_waiting(id), &key);
	if (waiting <= 0)
		return waiting ? waiting : version_drop_at(txn, batch_draft(id), work_max, ret_done);
	int error = version_drop_at(txn, batch_waiting(id), work_max, ret_done);
	*ret_done = false;
	return error;
}

int batch_drop(struct txn *txn, uint32_t id, size_t work_max, bool *ret_done)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct batch_info info;
	int error = batch_get(txn, id, &info);
	if (error)
		return error;
	if (info.state == BATCH_PROPOSED)
		return -EBUSY;
	error = drop_records(txn, id, work_max, ret_done);
	if (error)
		return error;
	if (*ret_done)
		return row_delete(txn, batch_row(row, id));
	if (info.transient)
		return 0;
	info.transient = true; /* half a batch must not outlive us */
	return info_put(txn, &info);
}

/* --- disk room */

/* A record's and its change's. */
static size_t row_bytes(const struct record_key *key, const struct record_slot *slot)
{
	return 2 * ((size_t)key->size + VERSION_KEY_BYTES) + slot->value.size;
}

static int count_rows(struct txn *txn, version_t draft, uint64_t *ret_records, uint64_t *ret_bytes)
{
	struct record_key key = { .size = 0 };
	int more;
	*ret_records = *ret_bytes = 0;
	while ((more = version_change_next(txn, draft, &key)) == 1) {
		struct record_slot slot;
		int error = record_slot_exact(txn, &key, draft, &slot);
		if (error)
			return error;
		*ret_bytes += row_bytes(&key, &slot);
		++*ret_records;
	}
	return more;
}

int batch_admit(struct txn *txn, uint32_t id)
{
	struct batch_info info;
	int error = batch_get(txn, id, &info);
	if (!error && info.state != BATCH_PROPOSED)
		error = count_rows(txn, batch_draft(id), &info.records, &info.row_bytes);
	return error ? error : space_admit_scattered(txn, info.row_bytes, RECORD_LEAVES * (info.records + 1), info.frees);
}

/* --- on top of the current version */

static struct merge merge_onto(struct txn *txn, const struct batch_info *info, version_t now)
{
	return (struct merge){ txn, batch_draft(info->id), batch_waiting(info->id), info->base, now, info->operation };
}

static int rebase_key(const struct merge *m, version_t at, const struct record_key *key, struct buffer *scratch)
{
	enum merge_outcome outcome;
	int error = merge_key(m, at, key, &outcome, scratch);
	if (error || outcome == MERGE_OURS)
		return error;
	return outcome == MERGE_SAME ? record_drop(m->txn, at, key) : record_put(m->txn, at, key, buffer_slice(scratch));
}

static int rebase_layer(const struct merge *m, version_t at)
{
	struct record_key key = { .size = 0 };
	struct buffer scratch = BUFFER_INIT;
	int error = 0, more = 0;
	while (!error && (more = version_change_next(m->txn, at, &key)) == 1)
		error = rebase_key(m, at, &key, &scratch);
	buffer_fini(&scratch);
	return error ? error : more;
}

int batch_rebase(struct txn *txn, uint32_t id, batch_conflict *conflict, void *user)
{
	struct batch_info info;
	int error = batch_get(txn, id, &info);
	if (error)
		return error;
	if (info.state != BATCH_OPEN || version_dirty(txn))
		return -EBUSY;
	struct merge m = merge_onto(txn, &info, txn->state.current);
	int conflicts = merge_differs(&m) ? merge_check(&m, conflict, user) : 0;
	if (conflicts || m.base == m.now)
		return conflicts;
	/* The waiting layer first: what is merged there is judged by the finished one as it was. */
	error = rebase_layer(&m, m.waiting);
	if (!error)
		error = rebase_layer(&m, m.draft);
	info.base = m.now;
	if (!error)
		error = info_put(txn, &info);
	return error ? txn_poison(txn, error) : 0;
}

/* --- proposing */

static int find_proposed(struct txn *txn, struct batch_info *ret_info)
{
	struct batch_info info = { .id = 0 };
	int error;
	while ((error = batch_next(txn, info.id, &info)) == 0) {
		if (info.state == BATCH_PROPOSED) {
			*ret_info = info;
			return 0;
		}
	}
	return error;
}

/* Content that nothing else names is new. What is in a list that is not is not either. */
static int add_fresh(const struct walk *w, const struct span *span)
{
	uint64_t count;
	if (!span->id)
		return WALK_ON;
	int error = chunk_count(w->txn, span->id, &count);
	if (error || count > 1)
		return error == -ENOENT ? -DRS_ECORRUPT : error;
	if (span->kind == ENTRY_LIST)
		return WALK_OPEN;
	*(uint64_t *)w->user += span->length;
	return WALK_ON;
}

static int fresh_bytes(struct txn *txn, const struct node *node, uint64_t *bytes)
{
	const struct walk walk = { .txn = txn, .from = 0, .to = node->size, .visit = add_fresh, .user = bytes };
	return node->content_kind == CONTENT_LIST ? walk_node(&walk, node) : 0;
}

/* One key's part in the digest and the counts. */
static int account_key(struct txn *txn, struct batch_info *info, const struct record_key *key, const struct record_slot *now, const struct record_slot *ours)
{
	struct node node;
	if (now->live)
		digest_subtract(&info->digest, record_digest(txn, key, now->value));
	if (ours->live)
		digest_add(&info->digest, record_digest(txn, key, ours->value));
	info->records++;
	info->bytes += key->size + ours->value.size;
	info->row_bytes += row_bytes(key, ours);
	if (record_key_kind(key) != RECORD_NODE)
		return 0;
	info->nodes += (uint64_t)ours->live - (uint64_t)now->live;
	int error = ours->live ? node_decode(ours->value, &node) : 0;
	return error || !ours->live ? error : fresh_bytes(txn, &node, &info->bytes);
}

static int propose_key(struct txn *txn, struct batch_info *info, const struct record_key *key)
{
	version_t draft = batch_draft(info->id);
	struct record_slot now, ours;
	bool moves;
	int error = record_slot_seek(txn, key, info->base, &now);
	if (!error)
		error = record_slot_exact(txn, key, draft, &ours);
	if (error)
		return error;
	if (record_slot_same(&now, &ours)) /* it is what the tree has already */
		return record_drop(txn, draft, key);
	error = merge_moves(key, &now, &ours, &moves);
	info->moves |= moves;
	return error ? error : account_key(txn, info, key, &now, &ours);
}

static int propose_all(struct txn *txn, struct batch_info *info)
{
	struct record_key key = { .size = 0 };
	int error = 0, more = 0;
	while (!error && (more = version_change_next(txn, batch_draft(info->id), &key)) == 1)
		error = propose_key(txn, info, &key);
	return error ? error : more;
}

/* What the batch has reserved, unless another number was given out since, or it was aborted under this one. */
static version_t next_number(struct txn *txn, const struct batch_info *info)
{
	struct version_info spent;
	bool newest = info->reserved == txn->state.assigned && version_get(txn, info->reserved, &spent) == -ENOENT;
	return newest ? info->reserved : txn->state.assigned + 1;
}

int batch_propose(struct txn *txn, uint32_t id, int64_t proposed_at, const char *message, struct batch_info *ret_info)
{
	struct store_state *state = &txn->state;
	struct batch_info info, other;
	int error = batch_get(txn, id, &info);
	if (error)
		return error;
	if (info.state != BATCH_OPEN || info.base != state->current || version_dirty(txn))
		return -EBUSY;
	error = find_proposed(txn, &other);
	if (error != -ENOENT)
		return error ? error : -EBUSY;
	info.state = BATCH_PROPOSED;
	info.moves = false;
	info.proposed = next_number(txn, &info);
	info.time_ns = proposed_at;
	info.digest = state->digest;
	info.nodes = state->nodes;
	info.records = info.bytes = info.row_bytes = 0;
	snprintf(info.message, sizeof(info.message), "%s", message ? message : "");
	error = propose_all(txn, &info);
	if (error)
		return txn_poison(txn, error);
	if (!info.records)
		return -ENODATA;
	state->pending = VERSION_NONE; /* a number without records; the live tree takes the next one above ours */
	state->assigned = info.proposed;
	error = info_put(txn, &info);
	if (!error)
		*ret_info = info;
	return error;
}

int batch_inline_make(struct txn *txn, uint32_t id, size_t bytes_max, struct buffer *ret_bytes)
{
	struct batch_info info;
	struct head head;
	struct record_key key = { .size = 0 };
	struct run_writer run = { .out = ret_bytes };
	int more = 1;
	buffer_clear(ret_bytes);
	int error = batch_get(txn, id, &info);
	if (!error)
		error = batch_head(&info, &head);
	if (error)
		return error;
	inline_begin(&head, ret_bytes);
	while (!error && (more = version_change_next(txn, batch_draft(id), &key)) == 1) {
		struct record_slot slot;
		error = record_slot_exact(txn, &key, batch_draft(id), &slot);
		if (!error)
			error = inline_add(txn, info.base, &key, &slot, bytes_max, &run);
	}
	return inline_end(error ? error : more, ret_bytes);
}

int batch_head(const struct batch_info *info, struct head *ret_head)
{
	if (info->state != BATCH_PROPOSED)
		return -DRS_EHORIZON;
	*ret_head = (struct head){ .from = info->base, .to = info->proposed, .digest = info->digest, .time_ns = info->time_ns };
	memcpy(ret_head->message, info->message, sizeof(info->message));
	return 0;
}

int batch_proposed(struct txn *txn, version_t to, struct batch_info *ret_info)
{
	struct batch_info info;
	int error = find_proposed(txn, &info);
	if (error || info.proposed != to)
		return error && error != -ENOENT ? error : -DRS_EHORIZON;
	*ret_info = info;
	return 0;
}

/* --- the decision */

/*
 * A key that the live tree has changed as well, under the pending number. Its sums reckoned with the record that the base has; then they are to do so with ours,
 * and with what both come to.
 */
static int commit_under(const struct merge *m, const struct record_key *key, struct buffer *scratch)
{
	struct store_state *state = &m->txn->state;
	enum merge_outcome outcome;
	struct record_slot base, ours;
	int error = merge_key(m, m->draft, key, &outcome, scratch);
	if (!error)
		error = record_slot_seek(m->txn, key, m->base, &base);
	if (!error)
		error = record_slot_exact(m->txn, key, m->draft, &ours);
	if (error)
		return error;
	if (base.live)
		digest_add(&state->pending_digest, record_digest(m->txn, key, base.value));
	if (ours.live)
		digest_subtract(&state->pending_digest, record_digest(m->txn, key, ours.value));
	if (record_key_kind(key) == RECORD_NODE)
		state->pending_nodes += (uint64_t)base.live - (uint64_t)ours.live;
	return outcome == MERGE_BOTH ? record_put(m->txn, m->now, key, buffer_slice(scratch)) : 0;
}

static int commit_key(const struct merge *m, const struct batch_info *info, const struct record_key *key, struct buffer *scratch)
{
	bool under = m->now != m->base && record_exists_at(m->txn, m->now, key, NULL);
	int error = under ? commit_under(m, key, scratch) : 0;
	return error ? error : record_move(m->txn, key, m->draft, info->proposed);
}

static int commit_all(const struct merge *m, const struct batch_info *info)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct record_key key = { .size = 0 };
	struct buffer scratch = BUFFER_INIT;
	bool done;
	int error = version_drop_at(m->txn, m->waiting, SIZE_MAX, &done), more = 0;
	while (!error && (more = version_change_next(m->txn, m->draft, &key)) == 1)
		error = commit_key(m, info, &key, &scratch);
	buffer_fini(&scratch);
	if (!error)
		error = more;
	return error ? error : row_delete(m->txn, batch_row(row, info->id));
}

/* The numbers of the tree at 'proposed' take the place of the base's; what is pending keeps its distance. */
static void take_current(struct store_state *state, const struct batch_info *info)
{
	if (state->pending) {
		digest_subtract(&state->pending_digest, state->digest);
		digest_add(&state->pending_digest, info->digest);
		state->pending_nodes += info->nodes - state->nodes;
	}
	state->current = info->proposed;
	state->digest = info->digest;
	state->nodes = info->nodes;
}

static struct version_info history_of(const struct batch_info *info, enum version_state state, const char *message)
{
	struct version_info version = {
		.version = info->proposed,
		.previous = info->base,
		.state = state,
		.time_ns = info->time_ns,
		.digest = info->digest,
		.records = info->records,
		.bytes = info->bytes,
		.nodes = info->nodes,
	};
	snprintf(version.message, sizeof(version.message), "%s", message);
	return version;
}

static int get_proposed(struct txn *txn, uint32_t id, struct batch_info *ret_info)
{
	int error = batch_get(txn, id, ret_info);
	return error ? error : ret_info->state == BATCH_PROPOSED ? 0 : -EINVAL;
}

int batch_commit(struct txn *txn, uint32_t id, struct version_info *ret_info)
{
	struct store_state *state = &txn->state;
	struct batch_info info;
	int error = get_proposed(txn, id, &info);
	if (error)
		return error;
	if (info.base != state->current)
		return -DRS_ECONFLICT;
	assert(!state->pending || state->pending > info.proposed);
	struct merge m = merge_onto(txn, &info, version_dirty(txn) ? state->pending : info.base);
	int conflicts = merge_differs(&m) ? merge_check(&m, NULL, NULL) : 0;
	if (conflicts)
		return conflicts < 0 ? conflicts : -DRS_ECONFLICT;
	error = commit_all(&m, &info);
	if (error)
		return txn_poison(txn, error);
	take_current(state, &info);
	struct version_info version = history_of(&info, VERSION_COMMITTED, info.message);
	error = version_info_put(txn, &version);
	if (!error)
		*ret_info = version;
	return error;
}

int batch_abort(struct txn *txn, uint32_t id, const char *why)
{
	struct batch_info info;
	int error = get_proposed(txn, id, &info);
	if (error)
		return error;
	struct version_info version = history_of(&info, VERSION_ABORTED, why);
	error = version_info_put(txn, &version);
	info.state = BATCH_OPEN;
	info.proposed = VERSION_NONE;
	return error ? error : info_put(txn, &info);
}

/* --- when a store is opened */

/* Drafts that nobody continues: the live one, what was not finished, transient batches, and what belongs to none. */
static int next_to_drop(struct txn *txn, version_t *ret_draft)
{
	version_t draft = VERSION_DRAFT_FIRST;
	for (;; draft++) {
		struct batch_info info;
		struct record_key key = { .size = 0 };
		struct slice value;
		bool own;
		int error = draft_next(txn, draft, &draft, &own, &value);
		if (error)
			return error;
		*ret_draft = draft;
		bool batch = is_batch_number(draft);
		if (!own || (!batch && version_change_next(txn, draft, &key) == 1))
			return 0;
		error = batch ? info_decode(batch_of(draft), value, &info) : 0;
		if (error)
			return error;
		if (batch && info.transient)
			return 0;
	}
}

/* One step; *ret_done: nothing was left to be done. */
static int clean_step(struct txn *txn, bool *ret_done)
{
	struct batch_info info;
	version_t draft = VERSION_NONE;
	bool dropped;
	*ret_done = false;
	int error = find_proposed(txn, &info);
	if (error != -ENOENT)
		return error ? error : batch_abort(txn, info.id, ABORTED_AT_START);
	error = next_to_drop(txn, &draft);
	*ret_done = error == -ENOENT;
	if (error)
		return *ret_done ? 0 : error;
	bool transient = is_batch_number(draft) && draft == batch_draft(batch_of(draft)) && batch_get(txn, batch_of(draft), &info) == 0;
	return transient ? batch_drop(txn, info.id, CLEAN_STEP, &dropped) : version_drop_at(txn, draft, CLEAN_STEP, &dropped);
}

int batch_clean(struct store *store)
{
	for (;;) {
		struct txn *txn;
		bool done;
		int error = txn_begin_write(store, &txn);
		if (error)
			return error;
		error = clean_step(txn, &done);
		if (error || done) {
			txn_abort(txn);
			return error;
		}
		error = txn_commit(txn);
		if (error)
			return error;
	}
}
