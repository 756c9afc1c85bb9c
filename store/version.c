/*
 * Versions: the pending number, its sealing or dropping, and the history. A version's own row holds what is known about it; the
 * rows of the keys that it wrote follow it. Retention is in retire.c.
 */
#include "store/version.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/internal.h"

void version_pend(struct txn *txn, version_t version, struct digest digest, uint64_t nodes)
{
	struct store_state *state = &txn->state;
	assert(txn->writes && !state->pending && version > state->current && version <= VERSION_MAX);
	if (state->assigned < version)
		state->assigned = version;
	state->pending = version;
	state->pending_digest = digest;
	state->pending_nodes = nodes;
	state->pending_records = 0;
	state->pending_bytes = 0;
}

version_t version_begin(struct txn *txn)
{
	if (!txn->state.pending)
		version_pend(txn, txn->state.assigned + 1, txn->state.digest, txn->state.nodes);
	return txn->state.pending;
}

bool version_dirty(const struct txn *txn)
{
	return txn->state.pending && txn->state.pending_records > 0;
}

/* --- history */

static void info_encode(const struct version_info *info, struct buffer *b)
{
	size_t message_bytes = strnlen(info->message, VERSION_MESSAGE_BYTES_MAX);
	buffer_add_varint(b, info->previous);
	buffer_add_u8(b, (uint8_t)info->state);
	buffer_add_be64(b, (uint64_t)info->time_ns);
	buffer_add_be64(b, info->digest.lo);
	buffer_add_be64(b, info->digest.hi);
	buffer_add_varint(b, info->records);
	buffer_add_varint(b, info->bytes);
	buffer_add_varint(b, info->nodes);
	buffer_add(b, info->message, message_bytes);
}

static int info_decode(version_t version, struct slice value, struct version_info *ret_info)
{
	struct reader r = reader_of(value);
	struct version_info info = { .version = version };
	info.previous = read_varint(&r);
	info.state = read_u8(&r);
	info.time_ns = (int64_t)read_be64(&r);
	info.digest.lo = read_be64(&r);
	info.digest.hi = read_be64(&r);
	info.records = read_varint(&r);
	info.bytes = read_varint(&r);
	info.nodes = read_varint(&r);
	size_t message_bytes = reader_left(&r);
	if (r.failed || message_bytes > VERSION_MESSAGE_BYTES_MAX)
		return -DRS_ECORRUPT;
	memcpy(info.message, read_bytes(&r, message_bytes), message_bytes);
	*ret_info = info;
	return 0;
}

int version_info_put(struct txn *txn, const struct version_info *info)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	buffer_clear(&txn->value);
	info_encode(info, &txn->value);
	if (txn->value.failed)
		return txn_poison(txn, -ENOMEM);
	return row_put(txn, slice_of(key, change_row_key(key, info->version, NULL)), buffer_slice(&txn->value));
}

int version_commit(struct txn *txn, struct version_info *info)
{
	struct store_state *state = &txn->state;
	info->version = state->pending;
	info->previous = state->current;
	info->state = VERSION_COMMITTED;
	info->digest = state->pending_digest;
	info->records = state->pending_records;
	info->bytes = state->pending_bytes;
	info->nodes = state->pending_nodes;
	state->current = state->pending;
	state->digest = state->pending_digest;
	state->nodes = state->pending_nodes;
	state->pending = VERSION_NONE;
	return version_info_put(txn, info);
}

int version_seal(struct txn *txn, time_ns sealed_at, const char *message, struct version_info *ret_info)
{
	if (!txn->state.pending)
		return -EINVAL;
	struct version_info info = { .time_ns = sealed_at };
	if (message)
		snprintf(info.message, sizeof(info.message), "%s", message);
	int error = version_commit(txn, &info);
	if (!error && ret_info)
		*ret_info = info;
	return error;
}

int version_get(struct txn *txn, version_t version, struct version_info *ret_info)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct slice value;
	if (version > VERSION_MAX)
		return -ENOENT;
	int error = row_get(txn, slice_of(key, change_row_key(key, version, NULL)), &value);
	return error ? error : info_decode(version, value, ret_info);
}

/* The number that the row belongs to; false: it is no version's row. */
static bool row_version(struct slice row_key, version_t *ret_version)
{
	const uint8_t *bytes = row_key.data;
	if (row_key.size < VERSION_KEY_BYTES || bytes[0] != ROW_VERSION)
		return false;
	*ret_version = get_be64(bytes + 1);
	return *ret_version <= VERSION_MAX;
}

/* A number without a row of its own is not sealed (pending) or its history was retired. */
int version_newest(struct txn *txn, version_t at, struct version_info *ret_info)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct slice row_key, value;
	version_t version = (at < VERSION_MAX ? at : VERSION_MAX) + 1;
	for (;;) {
		int error = row_seek(txn, slice_of(key, change_row_key(key, version, NULL)), &row_key, &value);
		if (!error)
			error = row_previous(txn, ROW_VERSION, &row_key, &value);
		if (error)
			return error;
		if (!row_version(row_key, &version))
			return -ENOENT;
		error = version_get(txn, version, ret_info);
		if (error != -ENOENT)
			return error;
	}
}

int version_next(struct txn *txn, version_t after, struct version_info *ret_info)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct slice row_key, value;
	version_t version = after;
	while (version < VERSION_MAX) {
		int error = row_seek(txn, slice_of(key, change_row_key(key, version + 1, NULL)), &row_key, &value);
		if (error)
			return error;
		if (!row_version(row_key, &version))
			return -ENOENT;
		if (row_key.size != VERSION_KEY_BYTES)
			continue;
		struct version_info info;
		error = info_decode(version, value, &info);
		if (!error && info.state != VERSION_COMMITTED)
			continue;
		if (!error)
			*ret_info = info;
		return error;
	}
	return -ENOENT;
}

/* Nothing else has a history above the current version: what is pending gets its row when it is sealed. */
version_t version_aborted(struct txn *txn)
{
	struct version_info info;
	bool some = version_newest(txn, VERSION_MAX, &info) == 0 && info.version > txn->state.current && info.state == VERSION_ABORTED;
	return some ? info.version : VERSION_NONE;
}

/* --- changes */

int version_change_next(struct txn *txn, version_t version, struct record_key *key)
{
	uint8_t from[ROW_KEY_BYTES_MAX];
	struct slice row_key, value;
	struct record_key found;
	version_t at;
	size_t size = change_row_key(from, version, key);
	int error = row_seek(txn, slice_of(from, size), &row_key, &value);
	if (!error && row_key.size == size && memcmp(row_key.data, from, size) == 0)
		error = row_next(txn, ROW_VERSION, &row_key, &value);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (!change_row_parse(row_key, &at, &found) || at != version || !found.size)
		return 0;
	*key = found;
	return 1;
}

int change_next(struct txn *txn, version_t to, version_t *at, struct record_key *key)
{
	uint8_t from[ROW_KEY_BYTES_MAX + 1];
	struct slice row_key, value;
	struct record_key found;
	version_t found_at;
	size_t size = change_row_key(from, *at, key);
	from[size++] = 0; /* just behind */
	int error = row_seek(txn, slice_of(from, size), &row_key, &value);
	for (;;) {
		if (error)
			return error == -ENOENT ? 0 : error;
		if (!change_row_parse(row_key, &found_at, &found) || found_at > to)
			return 0;
		if (found.size)
			break;
		error = row_next(txn, ROW_VERSION, &row_key, &value);
	}
	*at = found_at;
	*key = found;
	return 1;
}

int version_drop_at(struct txn *txn, version_t at, size_t work_max, bool *ret_done)
{
	*ret_done = false;
	for (size_t n = 0;; n++) {
		struct record_key key = { .size = 0 };
		int more = version_change_next(txn, at, &key);
		if (more < 0)
			return more;
		if (!more) {
			*ret_done = true;
			return 0;
		}
		if (n == work_max)
			return 0;
		int error = record_drop(txn, at, &key);
		if (error)
			return error;
	}
}

int version_take(struct txn *txn, version_t version, int64_t sealed_at)
{
	if (txn->state.pending)
		return -EBUSY;
	if (version <= txn->state.current || version > VERSION_MAX)
		return -EINVAL;
	version_pend(txn, version, txn->state.digest, txn->state.nodes);
	return version_seal(txn, sealed_at, NULL, NULL);
}

int version_drop(struct txn *txn, size_t work_max, bool *ret_done)
{
	*ret_done = true;
	if (!txn->state.pending)
		return 0;
	int error = version_drop_at(txn, txn->state.pending, work_max, ret_done);
	if (!error && *ret_done)
		txn->state.pending = VERSION_NONE;
	return error;
}
