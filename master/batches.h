/*
 * Batches on the master's mount (R4): writable views of the whole tree that nobody else sees before their commit. Each is a file system of its
 * own, mounted on MOUNTPOINT/.drsfs/batch/ID and served by the mount's thread; open ones are mounted again when the mount starts.
 *
 * All functions are called on the mount's thread (master_mount_call brings any thread there) but those that say otherwise, and all callbacks
 * come on it, once each; they may come before the function returns. What is shown to a callback is valid during it.
 *
 * A commit:
 *
 *   batches_commit --> view flushed, what is closed in it settled, live tree sealed, batch moved onto it, proposed, durable
 *        listener.propose     -->  whoever distributes it. NULL: it is decided at once, and told to listener.published
 *        master_mount_decide  <--  on any thread
 *   decision durable, live tree goes on
 *        listener.decided     -->
 *        master_mount_job_done <-- on any thread, when the decision was announced
 *   'done' of batches_commit; after a commit the batch is over, its view unmounted
 *
 * One commit at a time; further ones wait for their turn, and so does the sealing of the live tree's changes until the decision (R4.7). Live
 * changes to what the batch changes wait as well, as requests that are answered later; everything else goes on.
 */
#ifndef MASTER_BATCHES_H
#define MASTER_BATCHES_H

#include "drsfs/drs.h"
#include "store/batch.h"

struct master_mount;

struct commit_options {
	uint32_t timeout_ms;
	enum drs_require require;
	uint32_t count;
	char message[VERSION_MESSAGE_BYTES_MAX + 1]; /* for the history; "": the batch's name */
};

/* 'path' is where it is mounted; error: NULL. */
typedef void batch_begun(void *user, int error, const struct batch_info *, const char *path);
/*
 * On top of all that is finished in the live tree. 'name' may be "". -EEXIST, -EUSERS,
 * -ENAMETOOLONG, -ENOSPC; what kept it from being mounted; -ESHUTDOWN: the mount ends.
 */
void batches_begin(struct master_mount *, const char *name, batch_begun *, void *user);

typedef void batch_done(void *user, int error);
/* Drop it with its view; a commit of it that waits for its turn is answered with -ECANCELED. -ENOENT; -EBUSY: it is being committed (cancel that first). */
void batches_abort(struct master_mount *, uint32_t id, batch_done *, void *user);

struct batch_status {
	struct batch_info info;
	const char *path;  /* NULL: somebody has unmounted it */
	uint64_t changes;  /* records that it has changed */
	bool committing;   /* now, or it waits for its turn */
};
typedef void batch_each(void *user, const struct batch_status *);
int batches_list(struct master_mount *, batch_each *, void *user); /* by id */
/* By number, or by name. -ENOENT. */
int batches_find(struct master_mount *, const char *id_or_name, struct batch_info *ret_info);

enum batch_change_kind { BATCH_ADDED, BATCH_REMOVED, BATCH_MODIFIED };
struct batch_change {
	const char *path; /* relative to the mountpoint; "inode N" for what has no name */
	enum batch_change_kind kind;
};
/* What it has changed so far, but for files that are open for writing, sorted by path. -ENOENT. */
typedef void batch_diffed(void *user, int error, const struct batch_change *, size_t count);
void batches_diff(struct master_mount *, uint32_t id, batch_diffed *, void *user);

struct batch_outcome {
	uint32_t id;
	/*
	 * 0: committed. -ENOENT; -ETXTBSY: files are open for writing in its view ('paths'); -DRS_ECONFLICT: the live tree has changed in the same
	 * places ('paths'); -ENOSPC: no room to propose or commit it; -EBUSY: its commit is under way already; -ECANCELED: aborted or cancelled
	 * before its turn; -ESHUTDOWN; else what master_mount_job_done was given. Not committed: the batch is open as before.
	 */
	int error;
	version_t version;         /* as committed; the current one if the batch is empty, */
	bool unchanged;            /* and so there is nothing to commit */
	const char *const *paths;
	size_t paths_count;        /* at most BATCH_PATHS_MAX of them */
	size_t conflicts;          /* all of them */
};
#define BATCH_PATHS_MAX 1000
typedef void batch_committed(void *user, const struct batch_outcome *);
void batches_commit(struct master_mount *, uint32_t id, const struct commit_options *, batch_committed *, void *user);
/*
 * A commit that waits for its turn is answered with -ECANCELED: 0, *ret_proposed is VERSION_NONE. Of one that is being distributed *ret_proposed is the version:
 * whoever distributes it cancels it. -ENOENT: it is not being committed; -EBUSY: not yet proposed, or decided already.
 */
int batches_cancel(struct master_mount *, uint32_t id, version_t *ret_proposed);

/* The decision about the version that was proposed: made durable, told to listener.decided. 'why' it is aborted, for the history. Any thread. */
int master_mount_decide(struct master_mount *, version_t, bool commit, const char *why);
/* The distribution of that version has ended (two_phase_done's error): if it was never decided it is aborted now. Any thread. */
int master_mount_job_done(struct master_mount *, version_t, int error);

#endif
