/*
 * The slave's user layer: applies deltas to the store and shows them on the mount (the listener of drsfs/drs.h).
 * The node's thread is the single writer of the store; the mount's threads only read. Commit (store) first, then flip (mount.h).
 * With a check (replica_user) every version is staged durably, then checked, then committed; without one, one phase is a single commit.
 */
#ifndef SLAVE_REPLICA_H
#define SLAVE_REPLICA_H

#include "drsfs/drs.h"
#include "store/delta.h"

struct replica;
struct slave_mount;

/* What the replica asks of whoever put it together; each may be NULL. On the node's thread. */
struct replica_user {
	void *user;
	/*
	 * Have a version checked whose records are all here, while 'shown' is what others see. 0: the answer comes by replica_checked(), later. An
	 * error: it could not be begun, and *ret_reason says why. NULL: versions are not checked.
	 */
	int (*check_begin)(void *user, version_t version, version_t shown, char ret_reason[DRS_REASON_BYTES_MAX]);
	void (*check_cancel)(void *user); /* end the check that was begun; no answer. Goes with check_begin */
	/* The late answer of the listener, for drs_slave_done(). Goes with check_begin. */
	void (*done)(void *user, int error, const struct drs_version *);
	void (*shown)(void *user, version_t); /* a version with changes has become visible on the mount */
	version_t (*known)(void *user);       /* the newest version that the master has told; NULL: some newer one */
};

int replica_new(struct store *, uint64_t retain_versions, struct replica **ret_replica);
void replica_free(struct replica *);
/* Which mount shows it; NULL: none yet (it is mounted later). On the node's thread. */
void replica_set_mount(struct replica *, struct slave_mount *);
/* The listener to register; valid as long as the replica. Its 'changed' calls what replica_on_changed was given. */
struct drs_slave_listener replica_listener(struct replica *);
void replica_on_changed(struct replica *, void (*changed)(void *user), void *user); /* on the node's thread; before node_run */
/* NULL: nobody any more; a check that runs is ended. */
void replica_set_user(struct replica *, const struct replica_user *);
/* The check that was begun has ended: 0, or an error with the reason in words. Leads to 'done'. */
void replica_checked(struct replica *, int error, const char *reason);
version_t replica_prepared(const struct replica *); /* two phase: all here, durable, checked, and not yet decided; VERSION_NONE: none */
bool replica_checking(const struct replica *);
/* A little of the work that waits (garbage, retention), on the node's thread; true if there is more. */
bool replica_tidy(struct replica *);
void replica_progress(const struct replica *, struct stage_progress *ret_progress); /* to == 0: no pull now */
const char *replica_trouble(const struct replica *); /* the last thing that went wrong, in words, with what to do; empty if all is well */

#endif
