/*
 * The master's mount: a writable POSIX file system over the store, and what turns writes into versions.
 *
 * One thread serves the mount and owns the store's write transaction, so requests read their own writes from it. Finished changes are
 * written under the pending version at once; a file that is open for writing stays in the live draft (VERSION_DRAFT) with its name if it is
 * new, until its last writer closes it or somebody syncs it (F2). When the mount falls quiet, or after publish_delay_ms at the latest, the pending
 * version is sealed and committed in one transaction, and told to the listener; what finishes meanwhile joins the next.
 */
#ifndef MASTER_MOUNT_H
#define MASTER_MOUNT_H

#include "master/batches.h"
#include "store/version.h"

struct master_mount_options {
	const char *mountpoint;
	const char *mount_options;   /* more of -o, comma separated; may be empty */
	bool allow_other;
	bool sync_close;             /* close() waits until its change is durable */
	uint32_t publish_delay_ms;
	uint64_t retain_versions;
	uint32_t retain_ms;
	size_t inline_bytes_max;     /* largest delta that the listener wants inline */
	struct commit_options strict; /* how operations in two-phase directories are committed (policy.h) */
};

struct master_mount_listener {
	void *user;
	/* A version is durable and current. 'inline_delta' leads to it from the previous one; empty if it is too large. On the mount's thread. */
	void (*published)(void *user, const struct version_info *, struct slice inline_delta);
	/*
	 * A batch's commit is proposed, durably, as info->proposed on top of the current version: start two phase (batches.h). 'inline_delta' as for
	 * drs_start_two_phase; empty if it is too large. NULL: nobody has to be asked, every commit is decided at once. On the mount's thread.
	 */
	void (*propose)(void *user, const struct batch_info *, const struct commit_options *, struct slice inline_delta);
	/* Nobody waits for that version any more: it is to be aborted, if it is not decided. On the mount's thread. May be NULL. */
	void (*cancel)(void *user, version_t);
	/* What master_mount_decide asked for is durable, or (a commit only) could not be made so: 'error'. On the mount's thread. May be NULL. */
	void (*decided)(void *user, version_t, bool commit, int error);
	/* The mount has ended: unmounted (0), or an error that it cannot go on from. On the mount's thread, last. */
	void (*ended)(void *user, int error);
};

struct master_mount;
int master_mount_new(struct store *, const struct master_mount_options *, const struct master_mount_listener *, struct master_mount **ret_mount);
int master_mount_start(struct master_mount *);  /* mounted when it returns 0; its thread serves from then on */
void master_mount_stop(struct master_mount *);  /* publishes and commits what is finished, unmounts, joins the thread */
/* Have 'run' called on the mount's thread. Any thread. -ESHUTDOWN: the mount has ended; -ENOMEM. */
int master_mount_call(struct master_mount *, void (*run)(struct master_mount *, void *user), void *user);
void master_mount_free(struct master_mount *);

#endif
