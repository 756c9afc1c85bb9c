/*
 * Records: keys and their taking apart, what counts in a view, and the writing that keeps all that hangs on a record in step:
 * its change row, the pending digest and counts, and the reference counts of the chunks that a node names. Nobody else writes
 * record rows.
 *
 * A key's rows stand together, newest first, drafts before versions, because ~v is the end of the row's key: one seek answers
 * most questions.
 */
#include "store/record.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "store/batch.h"
#include "store/internal.h"
#include "store/node.h"

#define XATTR_BYTES_MAX 65536
#define HASH_MASK (~(uint64_t)0 >> 1)

/* --- keys */

struct record_key record_key_node(ino_id ino)
{
	struct record_key key = { .size = 9 };
	put_be64(key.bytes, ino);
	key.bytes[8] = RECORD_NODE;
	return key;
}

static uint64_t name_hash(const struct txn *txn, const void *name, size_t size)
{
	uint64_t hash = XXH3_64bits_withSeed(name, size, txn->seeds.name) & HASH_MASK;
	return hash < NAME_COOKIE_FIRST ? hash + NAME_COOKIE_FIRST : hash;
}

struct record_key record_key_name(const struct txn *txn, ino_id parent, const char *name, size_t size)
{
	assert(size >= 1 && size <= NAME_BYTES_MAX);
	struct record_key key = { .size = (uint16_t)(17 + size + 1) };
	put_be64(key.bytes, parent);
	key.bytes[8] = RECORD_NAME;
	put_be64(key.bytes + 9, name_hash(txn, name, size));
	memcpy(key.bytes + 17, name, size);
	return key;
}

struct record_key record_key_xattr(ino_id ino, const char *name, size_t size)
{
	assert(size >= 1 && size <= XATTR_NAME_BYTES_MAX);
	struct record_key key = { .size = (uint16_t)(9 + size + 1) };
	put_be64(key.bytes, ino);
	key.bytes[8] = RECORD_XATTR;
	memcpy(key.bytes + 9, name, size);
	return key;
}

struct record_key record_prefix_names(ino_id parent, uint64_t cookie_from)
{
	struct record_key key = { .size = 17 };
	put_be64(key.bytes, parent);
	key.bytes[8] = RECORD_NAME;
	put_be64(key.bytes + 9, cookie_from);
	return key;
}

struct record_key record_prefix_xattrs(ino_id ino)
{
	struct record_key key = { .size = 9 };
	put_be64(key.bytes, ino);
	key.bytes[8] = RECORD_XATTR;
	return key;
}

/* 1 to 255 bytes that end with the first 0, at the end of the key. */
static bool text_valid(const uint8_t *text, size_t size, size_t text_max)
{
	return size >= 2 && size <= text_max + 1 && memchr(text, 0, size) == text + size - 1;
}

static bool name_valid(const uint8_t *name, size_t size)
{
	bool dots = name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.'));
	return !dots && !memchr(name, '/', size);
}

bool record_key_valid(struct slice key)
{
	const uint8_t *bytes = key.data;
	if (key.size < 9 || key.size > RECORD_KEY_BYTES_MAX || get_be64(bytes) == 0)
		return false;
	switch (bytes[8]) {
	case RECORD_NODE:
		return key.size == 9;
	case RECORD_NAME: {
		if (key.size < 17 || !text_valid(bytes + 17, key.size - 17, NAME_BYTES_MAX))
			return false;
		uint64_t hash = get_be64(bytes + 9);
		return hash >= NAME_COOKIE_FIRST && hash <= HASH_MASK && name_valid(bytes + 17, key.size - 18);
	}
	case RECORD_XATTR:
		return text_valid(bytes + 9, key.size - 9, XATTR_NAME_BYTES_MAX);
	default:
		return false;
	}
}

ino_id record_key_ino(const struct record_key *key)
{
	return get_be64(key->bytes);
}

enum record_kind record_key_kind(const struct record_key *key)
{
	return key->bytes[8];
}

struct slice record_key_text(const struct record_key *key)
{
	size_t from = record_key_kind(key) == RECORD_NAME ? 17 : 9;
	return slice_of(key->bytes + from, key->size > from ? key->size - from - 1 : 0);
}

uint64_t record_key_cookie(const struct record_key *key)
{
	return get_be64(key->bytes + 9);
}

size_t record_row_key(uint8_t at[ROW_KEY_BYTES_MAX], const struct record_key *key, version_t version)
{
	at[0] = ROW_RECORD;
	memcpy(at + 1, key->bytes, key->size);
	put_be64(at + 1 + key->size, ~version);
	return 1 + (size_t)key->size + 8;
}

size_t change_row_key(uint8_t at[ROW_KEY_BYTES_MAX], version_t version, const struct record_key *key)
{
	at[0] = ROW_VERSION;
	put_be64(at + 1, version);
	if (key)
		memcpy(at + VERSION_KEY_BYTES, key->bytes, key->size);
	return VERSION_KEY_BYTES + (key ? key->size : 0);
}

bool record_row_parse(struct slice row_key, struct record_key *ret_key, version_t *ret_version)
{
	const uint8_t *bytes = row_key.data;
	if (row_key.size < 1 + 9 + 8 || row_key.size > 1 + RECORD_KEY_BYTES_MAX + 8 || bytes[0] != ROW_RECORD)
		return false;
	ret_key->size = (uint16_t)(row_key.size - 9);
	memcpy(ret_key->bytes, bytes + 1, ret_key->size);
	*ret_version = ~get_be64(bytes + row_key.size - 8);
	return true;
}

bool change_row_parse(struct slice row_key, version_t *ret_version, struct record_key *ret_key)
{
	const uint8_t *bytes = row_key.data;
	if (row_key.size < VERSION_KEY_BYTES || row_key.size > VERSION_KEY_BYTES + RECORD_KEY_BYTES_MAX || bytes[0] != ROW_VERSION)
		return false;
	*ret_version = get_be64(bytes + 1);
	ret_key->size = (uint16_t)(row_key.size - VERSION_KEY_BYTES);
	memcpy(ret_key->bytes, bytes + VERSION_KEY_BYTES, ret_key->size);
	return true;
}

/* --- values */

void name_encode(ino_id child, uint8_t type, uint8_t bytes[16], size_t *ret_size)
{
	size_t n = 0;
	for (; child >= 0x80; child >>= 7)
		bytes[n++] = (uint8_t)(child | 0x80);
	bytes[n++] = (uint8_t)child;
	bytes[n++] = type;
	*ret_size = n;
}

int name_decode(struct slice value, ino_id *ret_child, uint8_t *ret_type)
{
	struct reader r = reader_of(value);
	ino_id child = read_varint(&r);
	uint8_t type = read_u8(&r);
	if (r.failed || reader_left(&r) || !child)
		return -DRS_ECORRUPT;
	*ret_child = child;
	*ret_type = type;
	return 0;
}

int record_entries(const struct record_key *key, struct slice value, struct slice *ret_entries)
{
	struct node node;
	*ret_entries = slice_of(NULL, 0);
	if (record_key_kind(key) != RECORD_NODE)
		return 0;
	int error = node_decode(value, &node);
	if (!error && node.content_kind == CONTENT_LIST)
		*ret_entries = node.content;
	return error;
}

static int name_check(const struct txn *txn, const struct record_key *key, struct slice value)
{
	ino_id child;
	uint8_t type;
	struct slice name = record_key_text(key);
	if (name_hash(txn, name.data, name.size) != record_key_cookie(key))
		return -DRS_ECORRUPT;
	return value.data ? name_decode(value, &child, &type) : 0;
}

int record_value_check(const struct txn *txn, const struct record_key *key, struct slice value)
{
	struct slice entries;
	switch (record_key_kind(key)) {
	case RECORD_NAME:
		return name_check(txn, key, value);
	case RECORD_NODE: {
		int error = value.data ? record_entries(key, value, &entries) : 0;
		return error || !value.data ? error : entries_check(entries);
	}
	case RECORD_XATTR:
		return value.size <= XATTR_BYTES_MAX ? 0 : -DRS_ECORRUPT;
	}
	return -DRS_ECORRUPT;
}

/* --- digests: a sum, so that records enter and leave in any order */

struct digest record_digest(const struct txn *txn, const struct record_key *key, struct slice value)
{
	uint64_t seed = XXH3_64bits_withSeed(key->bytes, key->size, txn->seeds.digest);
	XXH128_hash_t hash = XXH3_128bits_withSeed(value.size ? value.data : "", value.size, seed);
	return (struct digest){ hash.low64, hash.high64 };
}

void digest_add(struct digest *sum, struct digest d)
{
	sum->lo += d.lo;
	sum->hi += d.hi;
}

void digest_subtract(struct digest *sum, struct digest d)
{
	sum->lo -= d.lo;
	sum->hi -= d.hi;
}

/* --- reading */

static const struct record_slot SLOT_NONE;

static bool is_draft(version_t at)
{
	return at >= VERSION_DRAFT_FIRST;
}

/* Does this row belong to the key? Compares in place; most seeks end here. */
static bool row_is_of(struct slice row_key, const struct record_key *key)
{
	const uint8_t *bytes = row_key.data;
	return row_key.size == (size_t)key->size + 9 && bytes[0] == ROW_RECORD && memcmp(bytes + 1, key->bytes, key->size) == 0;
}

int record_slot_seek(struct txn *txn, const struct record_key *key, version_t at, struct record_slot *ret_slot)
{
	uint8_t seek[ROW_KEY_BYTES_MAX];
	struct slice row_key, value;
	*ret_slot = SLOT_NONE;
	int error = row_seek(txn, slice_of(seek, record_row_key(seek, key, at)), &row_key, &value);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (!row_is_of(row_key, key))
		return 0;
	*ret_slot = (struct record_slot){
		.present = true,
		.live = record_row_live(value),
		.at = ~get_be64((const uint8_t *)row_key.data + row_key.size - 8),
	};
	if (ret_slot->live)
		ret_slot->value = record_row_value(value);
	return 0;
}

int record_slot_exact(struct txn *txn, const struct record_key *key, version_t at, struct record_slot *ret_slot)
{
	int error = record_slot_seek(txn, key, at, ret_slot);
	if (!error && ret_slot->at != at)
		*ret_slot = SLOT_NONE;
	return error;
}

static bool slices_equal(struct slice a, struct slice b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool record_slot_same(const struct record_slot *a, const struct record_slot *b)
{
	return a->live == b->live && (!a->live || slices_equal(a->value, b->value));
}

/* What shows where nothing is written under exactly 'at': of other drafts only a batch's finished one, below its waiting one. */
static int slot_below(struct txn *txn, const struct record_key *key, version_t at, struct record_slot *ret_slot)
{
	version_t base, finished;
	if (!is_draft(at))
		return record_slot_seek(txn, key, at - 1, ret_slot);
	int error = batch_layers(txn, at, &base, &finished);
	if (!error && finished)
		error = record_slot_exact(txn, key, finished, ret_slot);
	return error || (finished && ret_slot->present) ? error : record_slot_seek(txn, key, base, ret_slot);
}

static bool counts_in(const struct view *view, version_t at)
{
	return at <= view->version || (at == view->draft && at) || (at == view->below && at);
}

/* The highest number that may count in the view and is lower than 'at', which does not. */
static version_t counts_next(const struct view *view, version_t at)
{
	if (view->draft && view->draft < at)
		return view->draft;
	return view->below && view->below < at ? view->below : view->version;
}

static int slot_view(struct txn *txn, struct view view, const struct record_key *key, struct record_slot *ret_slot)
{
	assert(view.below == 0 || view.below < view.draft);
	version_t at = view.draft ? view.draft : view.version;
	for (;;) {
		int error = record_slot_seek(txn, key, at, ret_slot);
		if (error || !ret_slot->present || counts_in(&view, ret_slot->at))
			return error;
		at = counts_next(&view, ret_slot->at);
	}
}

int record_get(struct txn *txn, struct view view, const struct record_key *key, struct slice *ret_value, version_t *ret_at)
{
	struct record_slot slot;
	int error = slot_view(txn, view, key, &slot);
	if (error)
		return error;
	if (!slot.live)
		return -ENOENT;
	*ret_value = slot.value;
	if (ret_at)
		*ret_at = slot.at;
	return 0;
}

bool record_exists_at(struct txn *txn, version_t at, const struct record_key *key, bool *ret_tombstone)
{
	struct record_slot slot;
	if (record_slot_exact(txn, key, at, &slot) != 0 || !slot.present)
		return false;
	if (ret_tombstone)
		*ret_tombstone = !slot.live;
	return true;
}

/* --- writing */

static int change_put(struct txn *txn, version_t at, const struct record_key *key)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	return row_put(txn, slice_of(row, change_row_key(row, at, key)), slice_of(NULL, 0));
}

static int change_delete(struct txn *txn, version_t at, const struct record_key *key)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	int error = row_delete(txn, slice_of(row, change_row_key(row, at, key)));
	return error == -ENOENT ? txn_poison(txn, -DRS_ECORRUPT) : error;
}

/* The counted entries of what a slot holds, copied: the writes that follow move the store's pages. */
static int copy_entries(struct txn *txn, const struct record_key *key, const struct record_slot *slot)
{
	struct slice entries = slice_of(NULL, 0);
	buffer_clear(&txn->old);
	int error = slot->live ? record_entries(key, slot->value, &entries) : 0;
	if (!error)
		buffer_add(&txn->old, entries.data, entries.size);
	return error ? error : txn->old.failed ? -ENOMEM : 0;
}

/* Count the new entries up, then the old ones down, so that what both name never falls to 0. */
static int recount(struct txn *txn, struct slice new_entries)
{
	struct slice old_entries = buffer_slice(&txn->old);
	if (slices_equal(old_entries, new_entries))
		return 0;
	int error = chunk_ref_list(txn, new_entries, 1);
	return error ? error : chunk_ref_list(txn, old_entries, -1);
}

/* One write to a key: what stands at exactly 'at' and what will, what shows in the tree before and after. */
struct change {
	version_t at;
	const struct record_key *key;
	const struct record_slot *exact, *new; /* the new value must not lie in the store */
	const struct record_slot *before, *after;
};

/* The pending tree's digest and counts. */
static void account(struct txn *txn, const struct change *c)
{
	struct store_state *state = &txn->state;
	if (c->at != state->pending)
		return;
	if (c->before->live)
		digest_subtract(&state->pending_digest, record_digest(txn, c->key, c->before->value));
	if (c->after->live)
		digest_add(&state->pending_digest, record_digest(txn, c->key, c->after->value));
	if (record_key_kind(c->key) == RECORD_NODE)
		state->pending_nodes += (uint64_t)c->after->live - (uint64_t)c->before->live;
	state->pending_records += (uint64_t)c->new->present - (uint64_t)c->exact->present;
	state->pending_bytes += c->new->present ? c->key->size + c->new->value.size : 0;
	state->pending_bytes -= c->exact->present ? c->key->size + c->exact->value.size : 0;
}

/* The rows themselves. 'existed': there is a row at exactly 'at' now. */
static int write_rows(struct txn *txn, const struct change *c, bool existed)
{
	static const uint8_t live = RECORD_LIVE;
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct slice row_key = slice_of(row, record_row_key(row, c->key, c->at));
	if (!c->new->present) {
		int error = row_delete(txn, row_key);
		return error ? error : change_delete(txn, c->at, c->key);
	}
	int error = row_put_two(txn, row_key, slice_of(&live, c->new->live), c->new->value);
	return error || existed ? error : change_put(txn, c->at, c->key);
}

/* Everything that can be refused comes before the first write and before any sum changes; then a failure is the transaction's end. */
static int perform(struct txn *txn, const struct change *c)
{
	struct slice entries = slice_of(NULL, 0);
	bool existed = c->exact->present;
	int error = c->new->live ? record_entries(c->key, c->new->value, &entries) : 0;
	if (!error)
		error = copy_entries(txn, c->key, c->exact);
	if (error)
		return error;
	account(txn, c);
	error = recount(txn, entries);
	if (!error)
		error = write_rows(txn, c, existed);
	return error ? txn_poison(txn, error) : 0;
}

static void check_number(const struct txn *txn, version_t at)
{
	assert(txn->writes);
	assert((at && at == txn->state.pending) || (is_draft(at) && at < VERSION_CURSOR));
}

int record_put(struct txn *txn, version_t at, const struct record_key *key, struct slice value)
{
	struct record_slot before, exact;
	check_number(txn, at);
	int error = record_slot_seek(txn, key, at, &before);
	if (error)
		return error;
	bool shows = before.live && (!is_draft(at) || before.at == at);
	if (shows && slices_equal(before.value, value))
		return 0;
	exact = before.present && before.at == at ? before : SLOT_NONE;

	/* The caller's value may lie in the store. */
	buffer_clear(&txn->value);
	buffer_add(&txn->value, value.data, value.size);
	if (txn->value.failed)
		return -ENOMEM;
	struct record_slot new = { .present = true, .live = true, .at = at, .value = buffer_slice(&txn->value) };
	if (record_key_kind(key) == RECORD_NODE && record_key_ino(key) > txn->state.ino_last)
		txn->state.ino_last = record_key_ino(key);
	return perform(txn, &(struct change){ at, key, &exact, &new, .before = &before, .after = &new });
}

int record_delete(struct txn *txn, version_t at, const struct record_key *key)
{
	struct record_slot exact, below;
	check_number(txn, at);
	int error = record_slot_exact(txn, key, at, &exact);
	if (!error)
		error = slot_below(txn, key, at, &below);
	if (error)
		return error;
	const struct record_slot *before = exact.present ? &exact : &below;
	if (!before->live)
		return -ENOENT;
	/* A tombstone hides what is below; where nothing is, no trace is needed. */
	struct record_slot new = { .present = below.live, .at = at };
	return perform(txn, &(struct change){ at, key, &exact, &new, .before = before, .after = &new });
}

int record_drop(struct txn *txn, version_t at, const struct record_key *key)
{
	struct record_slot exact, below;
	check_number(txn, at);
	int error = record_slot_exact(txn, key, at, &exact);
	if (error || !exact.present)
		return error;
	error = slot_below(txn, key, at, &below);
	if (error)
		return error;
	return perform(txn, &(struct change){ at, key, &exact, &SLOT_NONE, .before = &exact, .after = &below });
}

int record_move(struct txn *txn, const struct record_key *key, version_t from, version_t to)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct record_slot slot;
	int error = record_slot_exact(txn, key, from, &slot);
	if (error || !slot.present)
		return txn_poison(txn, error ? error : -DRS_ECORRUPT);
	buffer_clear(&txn->value);
	buffer_add(&txn->value, slot.value.data, slot.value.size);
	if (txn->value.failed)
		return txn_poison(txn, -ENOMEM);
	slot.value = buffer_slice(&txn->value);
	error = row_delete(txn, slice_of(row, record_row_key(row, key, from)));
	if (!error)
		error = change_delete(txn, from, key);
	if (!error)
		error = write_rows(txn, &(struct change){ .at = to, .key = key, .new = &slot }, false);
	return error ? txn_poison(txn, error) : 0;
}

int record_row_retire(struct txn *txn, const struct record_key *key, version_t at)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	struct record_slot slot;
	int error = record_slot_exact(txn, key, at, &slot);
	if (error || !slot.present)
		return error;
	error = copy_entries(txn, key, &slot);
	if (!error)
		error = chunk_ref_list(txn, buffer_slice(&txn->old), -1);
	if (!error)
		error = row_delete(txn, slice_of(row, record_row_key(row, key, at)));
	return error ? txn_poison(txn, error) : 0;
}

ino_id record_next_ino(struct txn *txn)
{
	assert(txn->writes);
	return ++txn->state.ino_last;
}

/* --- walking a view */

#define STEPS_MAX 4 /* rows of one key passed over one by one before seeking past the rest */

struct record_cursor {
	struct txn *txn;
	MDB_cursor *mdb;
	unsigned resumed;         /* the transaction's count when the cursor was renewed last */
	struct view view;
	bool placed;              /* the row under the cursor was not looked at yet */
	bool settled;             /* what counts of 'key' is known: pass its other rows over */
	unsigned steps;           /* rows of 'key' passed so far */
	struct record_key key;    /* the key whose rows the cursor is among; size 0: none */
	struct record_cursor *next_of_txn;
};

int record_cursor_new(struct txn *txn, struct view view, struct record_cursor **ret_cursor)
{
	struct record_cursor *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	int error = store_error(mdb_cursor_open(txn->mdb, txn->store->rows, &c->mdb));
	if (!error) {
		c->txn = txn;
		c->view = view;
		c->resumed = txn->resumed;
		c->next_of_txn = txn->cursors;
		txn->cursors = c;
		error = record_cursor_seek(c, slice_of(NULL, 0));
	}
	if (error) {
		record_cursor_free(c);
		return error;
	}
	*ret_cursor = c;
	return 0;
}

void record_cursor_free(struct record_cursor *c)
{
	if (!c)
		return;
	if (c->txn) {
		struct record_cursor **link = &c->txn->cursors;
		while (*link != c)
			link = &(*link)->next_of_txn;
		*link = c->next_of_txn;
	}
	if (c->mdb)
		mdb_cursor_close(c->mdb);
	free(c);
}

/* The transaction ends before its cursors were freed: they stay allocated, but empty. */
void record_cursors_end(struct txn *txn)
{
	while (txn->cursors) {
		struct record_cursor *c = txn->cursors;
		txn->cursors = c->next_of_txn;
		mdb_cursor_close(c->mdb);
		c->mdb = NULL;
		c->txn = NULL;
	}
}

static int cursor_seek_row(struct record_cursor *c, struct slice row_key)
{
	MDB_val k = { .mv_size = row_key.size, .mv_data = (void *)row_key.data }, v;
	int rc = mdb_cursor_get(c->mdb, &k, &v, MDB_SET_RANGE);
	c->placed = true;
	return rc == MDB_NOTFOUND ? 0 : store_error(rc); /* the state's row comes after all records: never in a whole store */
}

int record_cursor_seek(struct record_cursor *c, struct slice from)
{
	assert(c->txn && from.size <= RECORD_KEY_BYTES_MAX);
	uint8_t row[ROW_KEY_BYTES_MAX];
	if (c->resumed != c->txn->resumed) {
		int error = store_error(mdb_cursor_renew(c->txn->mdb, c->mdb));
		if (error)
			return error;
		c->resumed = c->txn->resumed;
	}
	row[0] = ROW_RECORD;
	if (from.size)
		memcpy(row + 1, from.data, from.size);
	c->key.size = 0;
	return cursor_seek_row(c, slice_of(row, 1 + from.size));
}

static int cursor_step(struct record_cursor *c, struct slice *ret_row_key, struct slice *ret_value)
{
	MDB_val k, v;
	int rc = mdb_cursor_get(c->mdb, &k, &v, c->placed ? MDB_GET_CURRENT : MDB_NEXT);
	c->placed = false;
	if (rc)
		return store_error(rc);
	*ret_row_key = slice_of(k.mv_data, k.mv_size);
	*ret_value = slice_of(v.mv_data, v.mv_size);
	return 0;
}

/* Among many rows of one key, from the one at 'at': go at once to the first that may count, or behind the last. */
static int cursor_skip(struct record_cursor *c, version_t at)
{
	uint8_t row[ROW_KEY_BYTES_MAX + 1];
	c->steps = 0;
	if (!c->settled)
		return cursor_seek_row(c, slice_of(row, record_row_key(row, &c->key, counts_next(&c->view, at))));
	size_t size = record_row_key(row, &c->key, 0); /* ~0: all ones */
	row[size++] = 0;
	return cursor_seek_row(c, slice_of(row, size));
}

int record_cursor_next(struct record_cursor *c, struct record_key *key, struct slice *value, version_t *ret_at)
{
	for (;;) {
		struct slice row_key = { 0 }, row_value = { 0 };
		version_t at;
		int error = cursor_step(c, &row_key, &row_value);
		if (error)
			return error == -ENOENT ? 0 : error;
		if (row_is_of(row_key, &c->key)) {
			at = ~get_be64((const uint8_t *)row_key.data + row_key.size - 8);
			c->steps++;
		} else {
			if (!record_row_parse(row_key, &c->key, &at)) {
				c->placed = true; /* behind the last record: stay there */
				c->key.size = 0;
				return 0;
			}
			c->settled = false;
			c->steps = 0;
		}
		bool chosen = !c->settled && counts_in(&c->view, at);
		c->settled |= chosen;
		if (chosen && record_row_live(row_value)) {
			*key = c->key;
			*value = record_row_value(row_value);
			if (ret_at)
				*ret_at = at;
			return 1;
		}
		if (c->steps >= STEPS_MAX) {
			error = cursor_skip(c, at);
			if (error)
				return error;
		}
	}
}
