/*
 * Retention: taking away what no version from the horizon on can see. The work list is the change index itself: each row (v,
 * key) at or below the horizon says that what the key had before v is hidden now; once that is gone the row goes too, so that a
 * crash in between loses no place. Records that nobody changed since stay without a row: deltas start at the horizon at the
 * earliest.
 */
#include <errno.h>
#include <string.h>

#include "store/batch.h"
#include "store/internal.h"
#include "store/content.h"
#include "store/node.h"

#define CHANGE_LEAVES (2 * LIST_ENTRIES_TOP + 8) /* that taking away a node with the largest list changes */

struct retire {
	struct txn *txn;
	retire_held *held;
	void *user;
};

/* A reader still has what the node was from 'from' until 'until' open: it stays until it is asked for again. */
static int is_held(const struct retire *r, const struct record_key *key, version_t from, version_t until, struct slice row_value, bool *ret_held)
{
	struct node node;
	*ret_held = false;
	if (!r->held || record_key_kind(key) != RECORD_NODE || !record_row_live(row_value))
		return 0;
	int error = node_decode(record_row_value(row_value), &node);
	if (!error)
		*ret_held = r->held(r->user, record_key_ino(key), node.content_version, from, until);
	return error;
}

/* The next row of 'key' below 'at': 1, 0 if there is none. */
static int older(struct txn *txn, const struct record_key *key, version_t at, version_t *ret_at, struct slice *ret_value)
{
	uint8_t seek[ROW_KEY_BYTES_MAX];
	struct slice row_key;
	struct record_key found;
	if (!at)
		return 0;
	int error = row_seek(txn, slice_of(seek, record_row_key(seek, key, at - 1)), &row_key, ret_value);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (!record_row_parse(row_key, &found, ret_at))
		return 0;
	return found.size == key->size && memcmp(found.bytes, key->bytes, key->size) == 0;
}

/* Take away what the key had before 'at'. Rows go in order, so there is one such record, and those that were held. */
static int retire_older(const struct retire *r, const struct record_key *key, version_t at, bool *ret_kept)
{
	struct slice value;
	int more;
	*ret_kept = false;
	for (version_t until = at; (more = older(r->txn, key, until, &at, &value)) == 1; until = at) {
		bool held;
		int error = is_held(r, key, at, until, value, &held);
		if (!error && !held)
			error = record_row_retire(r->txn, key, at);
		if (error)
			return error;
		*ret_kept |= held;
	}
	return more;
}

static int retire_tombstone(struct txn *txn, const struct record_key *key, version_t at)
{
	bool tombstone;
	return record_exists_at(txn, at, key, &tombstone) && tombstone ? record_row_retire(txn, key, at) : 0;
}

static int retire_change(const struct retire *r, version_t at, const struct record_key *key, bool *ret_kept)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	int error = retire_older(r, key, at, ret_kept);
	if (error || *ret_kept) /* what is kept must stay hidden: by a tombstone too */
		return error;
	error = retire_tombstone(r->txn, key, at);
	return error ? error : row_delete(r->txn, slice_of(row, change_row_key(row, at, key)));
}

/* The history keeps the horizon's own row: it is a version that can be read. */
static int retire_info(struct txn *txn, version_t at)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	return at < txn->state.horizon ? row_delete(txn, slice_of(row, change_row_key(row, at, NULL))) : 0;
}

/* The horizon is a version that can be read, and not above a batch's base. */
static version_t horizon_target(struct txn *txn, version_t horizon)
{
	struct version_info info;
	version_t target = horizon < txn->state.current ? horizon : txn->state.current, pinned = batch_horizon(txn);
	if (target > pinned)
		target = pinned;
	return version_get(txn, target, &info) == 0 && info.state == VERSION_ABORTED ? info.previous : target;
}

int retire_step(struct txn *txn, version_t horizon, size_t work_max, retire_held *held, void *user, bool *ret_done)
{
	const struct retire r = { txn, held, user };
	struct store_state *state = &txn->state;
	version_t target = horizon_target(txn, horizon);
	if (target > state->horizon)
		state->horizon = target;
	version_t at = 0;
	struct record_key key = { .size = 0 };
	*ret_done = false;
	for (size_t n = 0; n < work_max;) {
		uint8_t from[ROW_KEY_BYTES_MAX + 1];
		struct slice row_key, value;
		bool kept = false;
		size_t size = change_row_key(from, at, &key);
		from[size++] = 0; /* just behind the last one */
		int error = row_seek(txn, slice_of(from, size), &row_key, &value);
		if (error && error != -ENOENT)
			return error;
		if (error || !change_row_parse(row_key, &at, &key) || at > state->horizon) {
			*ret_done = true;
			return 0;
		}
		error = space_admit_leaves(txn, CHANGE_LEAVES);
		if (error == -ENOSPC && n)
			return 0;
		if (error)
			return error;
		error = key.size ? retire_change(&r, at, &key, &kept) : retire_info(txn, at);
		if (error)
			return txn_poison(txn, error);
		n += !kept; /* held ones are few, and passing over them must not use up the step */
	}
	return 0;
}
