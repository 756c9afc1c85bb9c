/*
 * Chunks: bytes under an id made of them, counted, wanted and thrown away. It knows lists only so far as to count their
 * entries; how a file's bytes become chunks is content.c's business.
 *
 * Invariants between commits: a count row stands for every held or wanted chunk; count > 0 and not held = wanted; count 0 =
 * held and queued as garbage.
 */
#include "store/chunk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "store/internal.h"

#define CHUNK_LIST 1 /* flags byte */

/* --- entries */

void entry_encode(const struct entry *entry, struct buffer *b)
{
	buffer_add_varint(b, entry->length << 2 | (unsigned)entry->kind);
	if (entry->kind != ENTRY_HOLE)
		buffer_add(b, entry->id.bytes, sizeof(entry->id.bytes));
}

int entry_next(struct reader *r, struct entry *ret_entry)
{
	if (!r->failed && !reader_left(r))
		return 0;
	uint64_t head = read_varint(r);
	struct entry entry = { .kind = head & 3, .length = head >> 2 };
	if (entry.kind != ENTRY_HOLE) {
		const uint8_t *id = read_bytes(r, sizeof(entry.id.bytes));
		if (id)
			memcpy(entry.id.bytes, id, sizeof(entry.id.bytes));
	}
	if (r->failed || entry.kind > ENTRY_HOLE || entry.length == 0)
		return -DRS_ECORRUPT;
	*ret_entry = entry;
	return 1;
}

int entries_check(struct slice entries)
{
	struct reader r = reader_of(entries);
	struct entry entry;
	int more;
	while ((more = entry_next(&r, &entry)) == 1)
		if (entry.kind == ENTRY_DATA && entry.length > CHUNK_BYTES_MAX)
			return -DRS_ECORRUPT;
	return more;
}

/* --- ids and rows */

struct chunk_id chunk_id_of(const struct txn *txn, bool list, struct slice bytes)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data, bytes.size, list ? txn->seeds.list : txn->seeds.data);
	struct chunk_id id;
	put_be64(id.bytes, hash.high64);
	put_be64(id.bytes + 8, hash.low64);
	return id;
}

size_t chunk_row_key(uint8_t at[CHUNK_KEY_BYTES], enum row row, const struct chunk_id *id)
{
	at[0] = row;
	memcpy(at + 1, id->bytes, sizeof(id->bytes));
	return CHUNK_KEY_BYTES;
}

static int get(struct txn *txn, enum row row, const struct chunk_id *id, struct slice *ret_value)
{
	uint8_t key[CHUNK_KEY_BYTES];
	return row_get(txn, slice_of(key, chunk_row_key(key, row, id)), ret_value);
}

static int put(struct txn *txn, enum row row, const struct chunk_id *id, struct slice value)
{
	uint8_t key[CHUNK_KEY_BYTES];
	return row_put(txn, slice_of(key, chunk_row_key(key, row, id)), value);
}

static int delete(struct txn *txn, enum row row, const struct chunk_id *id)
{
	uint8_t key[CHUNK_KEY_BYTES];
	return row_delete(txn, slice_of(key, chunk_row_key(key, row, id)));
}

static int delete_if_there(struct txn *txn, enum row row, const struct chunk_id *id)
{
	int error = delete(txn, row, id);
	return error == -ENOENT ? 0 : error;
}

static int exists(struct txn *txn, enum row row, const struct chunk_id *id, bool *ret_exists)
{
	struct slice value;
	int error = get(txn, row, id, &value);
	*ret_exists = error == 0;
	return error == -ENOENT ? 0 : error;
}

/* --- counts. -ENOENT: neither held nor wanted. */

static int count_get(struct txn *txn, const struct chunk_id *id, uint64_t *ret_count)
{
	struct slice value;
	int error = get(txn, ROW_COUNT, id, &value);
	if (error)
		return error;
	if (value.size != 8)
		return -DRS_ECORRUPT;
	*ret_count = get_be64(value.data);
	return 0;
}

static int count_put(struct txn *txn, const struct chunk_id *id, uint64_t count)
{
	uint8_t value[8];
	put_be64(value, count);
	return put(txn, ROW_COUNT, id, slice_of(value, sizeof(value)));
}

static int count_up(struct txn *txn, const struct chunk_id *id)
{
	uint64_t count = 0;
	int error = count_get(txn, id, &count);
	if (error && error != -ENOENT)
		return error;
	/* First named, not here: wanted. */
	if (error == -ENOENT) {
		error = put(txn, ROW_WANT, id, slice_of(NULL, 0));
		if (error)
			return error;
	}
	return count_put(txn, id, count + 1);
}

/* The last count of a wanted chunk takes the want with it, that of a held one makes it garbage. */
static int count_last(struct txn *txn, const struct chunk_id *id)
{
	bool held;
	int error = exists(txn, ROW_CHUNK, id, &held);
	if (error)
		return error;
	if (held) {
		error = put(txn, ROW_GARBAGE, id, slice_of(NULL, 0));
		return error ? error : count_put(txn, id, 0);
	}
	error = delete_if_there(txn, ROW_WANT, id);
	return error ? error : delete(txn, ROW_COUNT, id);
}

int chunk_count(struct txn *txn, const struct chunk_id *id, uint64_t *ret_count)
{
	return count_get(txn, id, ret_count);
}

static int count_down(struct txn *txn, const struct chunk_id *id)
{
	uint64_t count;
	int error = count_get(txn, id, &count);
	if (error == -ENOENT || (!error && count == 0))
		return -DRS_ECORRUPT;
	if (error)
		return error;
	return count == 1 ? count_last(txn, id) : count_put(txn, id, count - 1);
}

int chunk_ref_list(struct txn *txn, struct slice entries, int by)
{
	assert(by == 1 || by == -1);
	struct reader r = reader_of(entries);
	struct entry entry;
	int more;
	while ((more = entry_next(&r, &entry)) == 1) {
		if (entry.kind == ENTRY_HOLE)
			continue;
		int error = by > 0 ? count_up(txn, &entry.id) : count_down(txn, &entry.id);
		if (error)
			return txn_poison(txn, error);
	}
	return more;
}

/* --- storing */

static int remember_fresh(struct txn *txn, const struct chunk_id *id)
{
	if (txn->fresh_count == txn->fresh_capacity) {
		size_t capacity = txn->fresh_capacity ? 2 * txn->fresh_capacity : 64;
		struct chunk_id *fresh = realloc(txn->fresh, capacity * sizeof(*fresh));
		if (!fresh)
			return -ENOMEM;
		txn->fresh = fresh;
		txn->fresh_capacity = capacity;
	}
	txn->fresh[txn->fresh_count++] = *id;
	return 0;
}

int chunk_settle(struct txn *txn)
{
	int error = 0;
	for (size_t i = 0; i < txn->fresh_count && !error; i++) {
		uint64_t count;
		error = count_get(txn, &txn->fresh[i], &count);
		if (!error && count == 0)
			error = put(txn, ROW_GARBAGE, &txn->fresh[i], slice_of(NULL, 0));
		if (error == -ENOENT)
			error = 0; /* it came and went in this transaction */
	}
	return error;
}

/* Held already. Nothing may collect it before the caller's node counts it, so while uncounted it leaves the queue until commit. */
static int put_again(struct txn *txn, const struct chunk_id *id, bool list, struct slice bytes, struct slice held)
{
	const uint8_t *at = held.data;
	uint64_t count;
	if (held.size != bytes.size + 1 || at[0] != (list ? CHUNK_LIST : 0) || memcmp(at + 1, bytes.data, bytes.size) != 0)
		return -DRS_ECORRUPT;
	int error = count_get(txn, id, &count);
	if (error || count > 0)
		return error == -ENOENT ? -DRS_ECORRUPT : error;
	error = delete_if_there(txn, ROW_GARBAGE, id);
	return error ? error : remember_fresh(txn, id);
}

static int put_new(struct txn *txn, const struct chunk_id *id, bool list, struct slice bytes)
{
	uint8_t key[CHUNK_KEY_BYTES], flags = list ? CHUNK_LIST : 0;
	bool counted;
	int error = row_put_two(txn, slice_of(key, chunk_row_key(key, ROW_CHUNK, id)), slice_of(&flags, 1), bytes);
	if (!error)
		error = exists(txn, ROW_COUNT, id, &counted);
	if (!error && counted)
		error = delete_if_there(txn, ROW_WANT, id);
	else if (!error)
		error = count_put(txn, id, 0);
	if (!error && !counted)
		error = remember_fresh(txn, id);
	if (!error && list)
		error = chunk_ref_list(txn, bytes, 1);
	if (!error && txn->state.pending)
		txn->state.pending_bytes += bytes.size;
	return error ? txn_poison(txn, error) : 0;
}

int chunk_put(struct txn *txn, bool list, struct slice bytes, struct chunk_id *ret_id)
{
	assert(bytes.size >= 1 && bytes.size <= CHUNK_BYTES_MAX);
	struct chunk_id id = chunk_id_of(txn, list, bytes);
	struct slice held;
	int error = get(txn, ROW_CHUNK, &id, &held);
	if (!error)
		error = put_again(txn, &id, list, bytes, held);
	else if (error == -ENOENT)
		error = put_new(txn, &id, list, bytes);
	if (!error)
		*ret_id = id;
	return error;
}

/* --- reading */

int chunk_place(struct txn *txn, const struct chunk_id *id, struct slice *ret_place)
{
	return get(txn, ROW_CHUNK, id, ret_place);
}

static int take_apart(struct slice place, bool *ret_list, struct slice *ret_bytes)
{
	if (place.size < 2 || *(const uint8_t *)place.data > CHUNK_LIST)
		return -DRS_ECORRUPT;
	*ret_list = *(const uint8_t *)place.data == CHUNK_LIST;
	*ret_bytes = slice_of((const uint8_t *)place.data + 1, place.size - 1);
	return 0;
}

int chunk_any(struct txn *txn, const struct chunk_id *id, bool *ret_list, struct slice *ret_bytes)
{
	struct slice place;
	int error = chunk_place(txn, id, &place);
	return error ? error : take_apart(place, ret_list, ret_bytes);
}

int chunk_open(struct slice place, bool list, struct slice *ret_bytes)
{
	bool is_list;
	struct slice bytes;
	int error = take_apart(place, &is_list, &bytes);
	if (error)
		return error;
	if (is_list != list)
		return -DRS_ECORRUPT;
	*ret_bytes = bytes;
	return 0;
}

int chunk_get(struct txn *txn, const struct chunk_id *id, bool list, struct slice *ret_bytes)
{
	struct slice place;
	int error = chunk_place(txn, id, &place);
	return error ? error : chunk_open(place, list, ret_bytes);
}

int chunk_check(struct txn *txn, const struct chunk_id *id, bool list, struct slice *ret_bytes)
{
	int error = chunk_get(txn, id, list, ret_bytes);
	if (error)
		return error;
	struct chunk_id is = chunk_id_of(txn, list, *ret_bytes);
	return memcmp(&is, id, sizeof(is)) == 0 ? 0 : -DRS_ECORRUPT;
}

bool chunk_exists(struct txn *txn, const struct chunk_id *id)
{
	bool held;
	return exists(txn, ROW_CHUNK, id, &held) == 0 && held;
}

bool chunk_wanted(struct txn *txn, const struct chunk_id *id)
{
	bool wanted;
	return exists(txn, ROW_WANT, id, &wanted) == 0 && wanted;
}

/* --- queues */

/* The id of a queue's row; false: the row is of another kind. */
static bool queue_id(enum row row, struct slice key, struct chunk_id *ret_id)
{
	if (key.size != CHUNK_KEY_BYTES || *(const uint8_t *)key.data != row)
		return false;
	memcpy(ret_id->bytes, (const uint8_t *)key.data + 1, sizeof(ret_id->bytes));
	return true;
}

int chunk_wants(struct txn *txn, const struct chunk_id *after, struct chunk_id *ret_ids, size_t max)
{
	static const struct chunk_id first;
	uint8_t from[CHUNK_KEY_BYTES + 1] = { 0 };
	size_t size = chunk_row_key(from, ROW_WANT, after ? after : &first);
	struct slice key, value;
	size_t n = 0;
	/* One more byte makes it the smallest key after that id. */
	int error = max ? row_seek(txn, slice_of(from, size + (after ? 1 : 0)), &key, &value) : -ENOENT;
	while (!error && n < max && queue_id(ROW_WANT, key, &ret_ids[n])) {
		n++;
		error = row_next(txn, ROW_WANT, &key, &value);
	}
	return error && error != -ENOENT ? error : (int)n;
}

/* Its entries lose the count that it gave them. */
static int uncount_list(struct txn *txn, struct slice bytes)
{
	struct buffer copy = BUFFER_INIT;
	buffer_add(&copy, bytes.data, bytes.size);
	int error = copy.failed ? -ENOMEM : chunk_ref_list(txn, buffer_slice(&copy), -1);
	buffer_fini(&copy);
	return error;
}

static int collect(struct txn *txn, const struct chunk_id *id)
{
	uint64_t count;
	bool list;
	struct slice bytes;
	int error = delete(txn, ROW_GARBAGE, id);
	if (!error)
		error = count_get(txn, id, &count);
	if (error || count > 0)
		return error == -ENOENT ? 0 : error;
	error = chunk_any(txn, id, &list, &bytes);
	if (!error && list)
		error = uncount_list(txn, bytes);
	if (!error)
		error = delete(txn, ROW_CHUNK, id);
	return error ? error : delete(txn, ROW_COUNT, id);
}

/* Rows of the chunk's own, and of those that a list names. */
static uint64_t collect_leaves(struct txn *txn, const struct chunk_id *id)
{
	bool list;
	struct slice bytes;
	bool counts = chunk_any(txn, id, &list, &bytes) == 0 && list;
	return 3 + (counts ? 2 * (bytes.size / sizeof(id->bytes)) : 0);
}

int chunk_collect(struct txn *txn, size_t max, bool *ret_more)
{
	static const uint8_t from[] = { ROW_GARBAGE };
	struct slice key, value;
	struct chunk_id id;
	for (size_t n = 0;; n++) {
		int error = row_seek(txn, slice_of(from, sizeof(from)), &key, &value);
		if (error && error != -ENOENT)
			return error;
		bool some = !error && queue_id(ROW_GARBAGE, key, &id);
		if (!some || n == max) {
			*ret_more = some;
			return 0;
		}
		error = space_admit_leaves(txn, collect_leaves(txn, &id));
		if (error == -ENOSPC && n) {
			*ret_more = true;
			return 0;
		}
		if (error)
			return error;
		error = collect(txn, &id);
		if (error)
			return txn_poison(txn, error);
	}
}
