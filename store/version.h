/*
 * Versions: the numbered states of a volume and their history (R1).
 * Records are written under a *pending* number; sealing it makes it the current version, in the same transaction: number, records, digest
 * and "current" become durable together, and a number is known to nobody before that.
 */
#ifndef STORE_VERSION_H
#define STORE_VERSION_H

#include "store/record.h"

#define VERSION_MESSAGE_BYTES_MAX 200

enum version_state { VERSION_PROPOSED = 1, VERSION_PREPARED = 2, VERSION_COMMITTED = 3, VERSION_ABORTED = 4 };

struct version_info {
	version_t version;
	version_t previous;      /* the version that was current before */
	enum version_state state;
	int64_t time_ns;         /* CLOCK_REALTIME of the master when it was sealed */
	struct digest digest;
	uint64_t records, bytes, nodes; /* records written, their bytes with new chunks, live nodes then */
	char message[VERSION_MESSAGE_BYTES_MAX + 1];
};

/* Begin to write under the next number (assigned + 1); gives it. If one is pending already, that one. */
version_t version_begin(struct txn *);
/* Were records written under the pending number? */
bool version_dirty(const struct txn *);
/* Make the pending number current. 'sealed_at' (CLOCK_REALTIME) and 'message' (may be NULL) for its history. Nothing pending: -EINVAL. */
int version_seal(struct txn *, time_ns sealed_at, const char *message, struct version_info *ret_info);
/*
 * A slave takes its master's number, at which nothing has changed here (R2.5). -EBUSY: another number is pending; -EINVAL: it is not above the
 * current one.
 */
int version_take(struct txn *, version_t, int64_t sealed_at);
/* Drop up to 'work_max' records of the pending number; when *ret_done, nothing of it is left and none is pending (the number is spent). */
int version_drop(struct txn *, size_t work_max, bool *ret_done);

int version_get(struct txn *, version_t, struct version_info *ret_info); /* -ENOENT */
/* The newest number <= 'at' that has a history, committed or aborted (info.state tells); -ENOENT. */
int version_newest(struct txn *, version_t at, struct version_info *ret_info);
/* The next committed version > 'after'; -ENOENT. */
int version_next(struct txn *, version_t after, struct version_info *ret_info);
/* The newest aborted number above the current version, which slaves may still have to hear of (R4.8); VERSION_NONE if there is none. */
version_t version_aborted(struct txn *);

/* The keys that one version wrote, in key order: 1 and the next key after *key (size 0: the first), 0 at the end. */
int version_change_next(struct txn *, version_t, struct record_key *key);

/* Retention (retire.c): take away what no version >= horizon can see, up to 'work_max' changes a call, fewer when
 * disk room for that is short (-ENOSPC: not even one); *ret_done when the horizon is reached.
 * horizon <= current; moving it back does nothing, and it stays at the lowest base of a batch (batch_horizon). 'held' (may be NULL) tells that a
 * node of that content_version, as it was in a version >= from and < until, is still in use by a reader: then its record stays, and is asked for again by
 * every later call; such records alone do not keep *ret_done from being true. */
typedef bool retire_held(void *user, ino_id, version_t content_version, version_t from, version_t until);
int retire_step(struct txn *, version_t horizon, size_t work_max, retire_held *, void *user, bool *ret_done);

/* Re-read everything (verify.c): every record decodes, every chunk hashes to its id and is counted rightly, nothing is wanted, names and nodes
 * fit (link counts, parents), the change index is complete, the digest of the current version agrees. Each finding is told once, in words. Opens
 * its own read transactions. Returns the number of findings or an error. 'progress' (may be NULL) is called now and then with a fraction 0..1. */
typedef void verify_finding(void *user, const char *text);
typedef void verify_progress(void *user, double done);
int store_verify(struct store *, verify_finding *, verify_progress *, void *user);

/* The digest of the whole tree at a view, computed from nothing (slow; verify and tests). */
int digest_compute(struct txn *, struct view, struct digest *ret_digest);

#endif
