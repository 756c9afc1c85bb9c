/*
 * Transactions and rows: the thin layer between LMDB's calls and the modules that know what rows mean. It holds the state while
 * a transaction is open and writes it back if it changed, and remembers a failed write so that nothing half-done is ever
 * committed.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "store/internal.h"

#define READERS_CHECK_EVERY 64 /* write transactions */

/* --- the state's row */

static void state_encode(const struct store_state *s, struct buffer *b)
{
	buffer_add_be32(b, s->format);
	buffer_add_u8(b, (uint8_t)s->role);
	buffer_add(b, &s->did, sizeof(s->did));
	buffer_add(b, s->secret, sizeof(s->secret));
	buffer_add_varint(b, s->current);
	buffer_add_varint(b, s->assigned);
	buffer_add_varint(b, s->horizon);
	buffer_add_varint(b, s->ino_last);
	buffer_add_be64(b, s->digest.lo);
	buffer_add_be64(b, s->digest.hi);
	buffer_add_varint(b, s->nodes);
	buffer_add_varint(b, s->pending);
	if (s->pending) {
		buffer_add_be64(b, s->pending_digest.lo);
		buffer_add_be64(b, s->pending_digest.hi);
		buffer_add_varint(b, s->pending_nodes);
		buffer_add_varint(b, s->pending_records);
		buffer_add_varint(b, s->pending_bytes);
	}
	buffer_add_varint(b, s->stage.to);
	if (s->stage.to) {
		buffer_add_varint(b, s->stage.from);
		buffer_add_u8(b, (uint8_t)(s->stage.complete | s->stage.records_done << 1));
		buffer_add_be64(b, s->stage.digest.lo);
		buffer_add_be64(b, s->stage.digest.hi);
	}
}

static void read_array(struct reader *r, void *at, size_t size)
{
	const uint8_t *bytes = read_bytes(r, size);
	if (bytes)
		memcpy(at, bytes, size);
}

static struct digest read_digest(struct reader *r)
{
	uint64_t lo = read_be64(r);
	return (struct digest){ lo, read_be64(r) };
}

static int state_decode(struct slice bytes, struct store_state *ret_state)
{
	struct reader r = reader_of(bytes);
	struct store_state s = { .format = read_be32(&r) };
	if (!r.failed && s.format != STORE_FORMAT)
		return -DRS_EFORMAT;
	s.role = read_u8(&r);
	read_array(&r, &s.did, sizeof(s.did));
	read_array(&r, s.secret, sizeof(s.secret));
	s.current = read_varint(&r);
	s.assigned = read_varint(&r);
	s.horizon = read_varint(&r);
	s.ino_last = read_varint(&r);
	s.digest = read_digest(&r);
	s.nodes = read_varint(&r);
	s.pending = read_varint(&r);
	if (s.pending) {
		s.pending_digest = read_digest(&r);
		s.pending_nodes = read_varint(&r);
		s.pending_records = read_varint(&r);
		s.pending_bytes = read_varint(&r);
	}
	s.stage.to = read_varint(&r);
	if (s.stage.to) {
		s.stage.from = read_varint(&r);
		uint8_t flags = read_u8(&r);
		s.stage.complete = flags & 1;
		s.stage.records_done = flags >> 1 & 1;
		s.stage.digest = read_digest(&r);
	}
	bool role_known = s.role == STORE_MASTER || s.role == STORE_SLAVE;
	if (r.failed || reader_left(&r) || !role_known || s.current > s.assigned || s.horizon > s.current || s.assigned > VERSION_MAX)
		return -DRS_ECORRUPT;
	*ret_state = s;
	return 0;
}

static struct slice state_key(uint8_t at[ROW_KEY_BYTES_MAX])
{
	return slice_of(at, change_row_key(at, VERSION_STATE, NULL));
}

static struct seeds seeds_of(const uint8_t secret[16])
{
	return (struct seeds){
		.digest = XXH3_64bits_withSeed(secret, 16, ROW_RECORD),
		.name = XXH3_64bits_withSeed(secret, 16, RECORD_NAME),
		.data = XXH3_64bits_withSeed(secret, 16, ROW_CHUNK),
		.list = XXH3_64bits_withSeed(secret, 16, ROW_CHUNK + 1),
	};
}

static int state_load(struct txn *txn)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct slice value;
	int error = row_get(txn, state_key(key), &value);
	if (!error)
		error = state_decode(value, &txn->state);
	if (error == -ENOENT) /* it stands there since the store was made; a new one is about to get it */
		error = txn->writes ? 0 : -DRS_ECORRUPT;
	if (!error)
		txn->seeds = seeds_of(txn->state.secret);
	return error;
}

/* 'anyway': also if it is what it was. */
static int state_save(struct txn *txn, bool anyway)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct slice old;
	buffer_clear(&txn->value);
	state_encode(&txn->state, &txn->value);
	if (txn->value.failed)
		return txn_poison(txn, -ENOMEM);
	struct slice new = buffer_slice(&txn->value);
	int error = row_get(txn, state_key(key), &old);
	if (!error && !anyway && old.size == new.size && memcmp(old.data, new.data, new.size) == 0)
		return 0;
	return error && error != -ENOENT ? error : row_put(txn, state_key(key), new);
}

/* --- transactions */

/* A reader in another process (verify, log) that was killed would keep pages from being reused for as long as we run. */
static void forget_dead_readers(struct store *store)
{
	int dead;
	if (store->writers_begun++ % READERS_CHECK_EVERY == 0)
		mdb_reader_check(store->env, &dead);
}

static int begin(struct store *store, bool writes, struct txn **ret_txn)
{
	assert(!writes || !store->read_only);
	struct txn *txn = calloc(1, sizeof(*txn));
	if (!txn)
		return -ENOMEM;
	txn->store = store;
	txn->writes = writes;
	if (writes)
		forget_dead_readers(store);
	int error = store_error(mdb_txn_begin(store->env, NULL, writes ? 0 : MDB_RDONLY, &txn->mdb));
	if (!error)
		error = state_load(txn);
	if (error) {
		txn_abort(txn);
		return error;
	}
	if (writes)
		space_begin(txn);
	*ret_txn = txn;
	return 0;
}

int txn_begin_read(struct store *store, struct txn **ret_txn)
{
	return begin(store, false, ret_txn);
}

int txn_begin_write(struct store *store, struct txn **ret_txn)
{
	space_join(store);
	return begin(store, true, ret_txn);
}

void txn_park(struct txn *txn)
{
	assert(!txn->writes);
	mdb_txn_reset(txn->mdb);
}

int txn_resume(struct txn *txn)
{
	assert(!txn->writes);
	int error = store_error(mdb_txn_renew(txn->mdb));
	txn->resumed++;
	for (int lane = 0; !error && lane < LANES; lane++)
		if (txn->lanes[lane])
			error = store_error(mdb_cursor_renew(txn->mdb, txn->lanes[lane]));
	return error ? error : state_load(txn);
}

static void txn_free(struct txn *txn)
{
	free(txn->fresh);
	buffer_fini(&txn->value);
	buffer_fini(&txn->old);
	free(txn);
}

/* Cursors go before their transaction: LMDB frees those of a write transaction itself, but not those of a reader. */
static void close_cursors(struct txn *txn)
{
	record_cursors_end(txn);
	for (int lane = 0; lane < LANES; lane++)
		if (txn->lanes[lane])
			mdb_cursor_close(txn->lanes[lane]);
}

static int commit(struct txn *txn, bool anyway)
{
	int error = txn->error;
	if (!error && txn->writes)
		error = chunk_settle(txn);
	if (!error && txn->writes)
		error = state_save(txn, anyway);
	close_cursors(txn);
	if (error)
		mdb_txn_abort(txn->mdb);
	else
		error = store_error(mdb_txn_commit(txn->mdb));
	txn_free(txn);
	return error;
}

/* LMDB uses pages again from the second transaction on after the one that freed them. If there is no room for that, it is for the next one to do. */
static void ripen(struct store *store)
{
	struct txn *txn;
	if (txn_begin_write(store, &txn) != 0)
		return;
	if (txn_admit(txn, 0, true) == 0)
		commit(txn, true);
	else
		txn_abort(txn);
}

int txn_commit(struct txn *txn)
{
	struct store *store = txn->store;
	bool ripens = txn->writes && space_ripens(txn);
	int error = commit(txn, false);
	if (!error && ripens)
		ripen(store);
	return error;
}

void txn_abort(struct txn *txn)
{
	if (!txn)
		return;
	close_cursors(txn);
	if (txn->mdb)
		mdb_txn_abort(txn->mdb);
	txn_free(txn);
}

const struct store_state *txn_state(const struct txn *txn)
{
	return &txn->state;
}

struct store *txn_store(const struct txn *txn)
{
	return txn->store;
}

size_t txn_dirty_bytes(const struct txn *txn)
{
	return txn->dirty_bytes;
}

int txn_poison(struct txn *txn, int error)
{
	if (!txn->error)
		txn->error = error;
	return error;
}

/* --- rows */

static enum lane lane_of(enum row row)
{
	switch (row) {
	case ROW_RECORD:
		return LANE_RECORDS;
	case ROW_VERSION:
		return LANE_VERSIONS;
	case ROW_CHUNK:
		return LANE_CHUNKS;
	case ROW_COUNT:
		return LANE_COUNTS;
	case ROW_GARBAGE:
	case ROW_WANT:
		break;
	}
	return LANE_QUEUES;
}

static enum row row_of(struct slice key)
{
	return *(const uint8_t *)key.data;
}

/* Gives LMDB's codes, as do those below that have 'raw' in their name. */
static int raw_cursor(struct txn *txn, enum row row, MDB_cursor **ret_cursor)
{
	MDB_cursor **cursor = &txn->lanes[lane_of(row)];
	if (!*cursor) {
		int rc = mdb_cursor_open(txn->mdb, txn->store->rows, cursor);
		if (rc) {
			*cursor = NULL;
			return rc;
		}
	}
	*ret_cursor = *cursor;
	return 0;
}

static int raw_move(struct txn *txn, enum row row, MDB_cursor_op op, MDB_val *key, MDB_val *value)
{
	MDB_cursor *cursor;
	int rc = raw_cursor(txn, row, &cursor);
	return rc ? rc : mdb_cursor_get(cursor, key, value, op);
}

static MDB_val val_of(struct slice s)
{
	return (MDB_val){ .mv_size = s.size, .mv_data = (void *)s.data };
}

int row_get(struct txn *txn, struct slice key, struct slice *ret_value)
{
	MDB_val k = val_of(key), v;
	int rc = raw_move(txn, row_of(key), MDB_SET, &k, &v);
	if (!rc)
		*ret_value = slice_of(v.mv_data, v.mv_size);
	return store_error(rc);
}

static int move_out(struct txn *txn, enum row row, MDB_cursor_op op, MDB_val k, struct slice *ret_key, struct slice *ret_value)
{
	MDB_val v;
	int rc = raw_move(txn, row, op, &k, &v);
	if (!rc) {
		*ret_key = slice_of(k.mv_data, k.mv_size);
		*ret_value = slice_of(v.mv_data, v.mv_size);
	}
	return store_error(rc);
}

int row_seek(struct txn *txn, struct slice key, struct slice *ret_key, struct slice *ret_value)
{
	return move_out(txn, row_of(key), MDB_SET_RANGE, val_of(key), ret_key, ret_value);
}

int row_next(struct txn *txn, enum row row, struct slice *ret_key, struct slice *ret_value)
{
	return move_out(txn, row, MDB_NEXT, (MDB_val){ 0 }, ret_key, ret_value);
}

int row_previous(struct txn *txn, enum row row, struct slice *ret_key, struct slice *ret_value)
{
	return move_out(txn, row, MDB_PREV, (MDB_val){ 0 }, ret_key, ret_value);
}

int row_put_two(struct txn *txn, struct slice key, struct slice first, struct slice second)
{
	assert(txn->writes);
	if (txn->error)
		return txn->error;
	MDB_cursor *cursor;
	MDB_val k = val_of(key), v = { .mv_size = first.size + second.size };
	int rc = raw_cursor(txn, row_of(key), &cursor);
	if (!rc)
		rc = mdb_cursor_put(cursor, &k, &v, MDB_RESERVE);
	if (rc)
		return txn_poison(txn, store_error(rc));
	if (first.size)
		memcpy(v.mv_data, first.data, first.size);
	if (second.size)
		memcpy((uint8_t *)v.mv_data + first.size, second.data, second.size);
	space_wrote(txn, row_of(key), key.size, first.size + second.size);
	return 0;
}

int row_put(struct txn *txn, struct slice key, struct slice value)
{
	return row_put_two(txn, key, value, slice_of(NULL, 0));
}

int row_delete(struct txn *txn, struct slice key)
{
	assert(txn->writes);
	if (txn->error)
		return txn->error;
	MDB_cursor *cursor;
	MDB_val k = val_of(key), v;
	int rc = raw_cursor(txn, row_of(key), &cursor);
	if (!rc)
		rc = mdb_cursor_get(cursor, &k, &v, MDB_SET);
	if (rc == MDB_NOTFOUND)
		return -ENOENT;
	if (!rc)
		rc = mdb_cursor_del(cursor, 0);
	if (rc)
		return txn_poison(txn, store_error(rc));
	space_deleted(txn, row_of(key), key.size, v.mv_size);
	return 0;
}
