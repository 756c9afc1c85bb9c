/*
 * Records: everything that makes up a tree, each under its key and the version that wrote it.
 *
 *   node   ino 'n'                          a node's attributes and content (node.h)
 *   name   parent 'd' hash name 0           a directory entry: varint child, u8 type (DT_*)
 *   xattr  ino 'x' name 0                   an extended attribute: its value
 *
 * The hash in a name's key (63 bits, keyed with the store's secret, never below NAME_COOKIE_FIRST) orders a directory and is its readdir cookie.
 *
 * A view says which of a key's records count: the newest not above view.version; if view.draft is not 0, that draft's record comes first, then that of
 * view.below, a lower draft, if that is not 0. Under a key higher drafts stand before lower ones, and all before the versions.
 * A record under a draft number is seen by nobody else, is not part of any digest, and no delta lists it.
 *
 * All functions return 0 or a negative error; those of the store (-ENOSPC, -EIO, -DRS_ECORRUPT, -ENOMEM) are not repeated below.
 */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "store/store.h"

#define NAME_BYTES_MAX 255
#define XATTR_NAME_BYTES_MAX 255
#define RECORD_KEY_BYTES_MAX (8 + 1 + 8 + 255 + 1)
#define NAME_COOKIE_FIRST 16 /* smaller cookies are for '.', '..' and the hidden directory */

enum record_kind { RECORD_NODE = 'n', RECORD_NAME = 'd', RECORD_XATTR = 'x' };

struct record_key {
	uint16_t size;
	uint8_t bytes[RECORD_KEY_BYTES_MAX];
};

struct view {
	version_t version; /* newest version that counts */
	version_t draft;   /* 0, or a draft number */
	version_t below;   /* 0, or a draft number < draft */
};

struct record_key record_key_node(ino_id);
/* 1 <= size <= NAME_BYTES_MAX; any bytes but '/' and NUL. The hash needs the store's secret. */
struct record_key record_key_name(const struct txn *, ino_id parent, const char *name, size_t size);
struct record_key record_key_xattr(ino_id, const char *name, size_t size);

/* Taking keys apart; for keys that the store returned, or after record_key_valid(). */
bool record_key_valid(struct slice);                   /* is this a well-formed key? for bytes from the wire */
ino_id record_key_ino(const struct record_key *);      /* the node, or the parent */
enum record_kind record_key_kind(const struct record_key *);
struct slice record_key_text(const struct record_key *); /* name or xattr name, without the closing 0 */
uint64_t record_key_cookie(const struct record_key *); /* a name's hash */

/* The record that counts in this view. -ENOENT if there is none (or a tombstone). 'ret_at' (may be NULL) gets the number it stands under. */
int record_get(struct txn *, struct view, const struct record_key *, struct slice *ret_value, version_t *ret_at);

/*
 * Write a record, or a tombstone. 'at' is the pending version (record_begin) or a draft number. Keeps the change index, the pending
 * digest and the reference counts of the chunks that node records name. Writing what is there already changes nothing.
 * record_delete under the pending version removes the record altogether where no older version has one. -ENOENT: not there in view (at).
 * What a draft's tombstones hide is what its view shows below: of a batch's draft its base (batch.h), of others the newest version.
 * record_drop takes back what was written under exactly 'at' (a draft, or the pending version), so that what lies below shows again; 0 also if
 * nothing was. The value given to record_put may lie in the store (it is copied first).
 */
int record_put(struct txn *, version_t at, const struct record_key *, struct slice value);
int record_delete(struct txn *, version_t at, const struct record_key *);
int record_drop(struct txn *, version_t at, const struct record_key *);

/* Is there any record of exactly this version or draft under the key (a tombstone counts)? */
bool record_exists_at(struct txn *, version_t at, const struct record_key *, bool *ret_tombstone);

/*
 * Walk the records that count in a view, in key order. A cursor dies with its transaction, and with any write through it in between
 * (seek again with record_cursor_seek). Key and value are valid until the next call.
 */
struct record_cursor;
int record_cursor_new(struct txn *, struct view, struct record_cursor **ret_cursor);
void record_cursor_free(struct record_cursor *);
/* Place before the first key >= the given bytes (a key, or a prefix of one; NULL/0: all). */
int record_cursor_seek(struct record_cursor *, struct slice from);
/* 1: *key and *value are the next record; 0: no more. Tombstones and what other versions hide are passed over. */
int record_cursor_next(struct record_cursor *, struct record_key *key, struct slice *value, version_t *ret_at);

/* Names. Prefix of all names of a directory, for record_cursor_seek; with a cookie: names from that cookie on. */
struct record_key record_prefix_names(ino_id parent, uint64_t cookie_from);
struct record_key record_prefix_xattrs(ino_id);
void name_encode(ino_id child, uint8_t type, uint8_t bytes[16], size_t *ret_size);
int name_decode(struct slice, ino_id *ret_child, uint8_t *ret_type); /* -DRS_ECORRUPT */

/* The next unused inode number, remembered in this transaction. */
ino_id record_next_ino(struct txn *);

#endif
