/*
 * The work of one mount's thread: the one write transaction that all its trees (live.h) write through, and the reader that it reads from until
 * something changes. It is begun at the first change after a commit; requests are then served from it, so that they see their own changes; until then
 * they read from a reader that is parked while nothing happens.
 *
 * A change first checks all that it needs and is admitted (work_change), then writes. A failure while writing leaves half a change behind: the
 * transaction is then 'broken', must not be committed, and the mount ends. That takes a failing disk or memory, not a full disk.
 *
 * Everything here belongs to the mount's thread.
 */
#ifndef MASTER_WORK_H
#define MASTER_WORK_H

#include "drsfs/buffer.h"
#include "store/store.h"

struct live;

struct work {
	struct store *store;
	struct txn *reader;
	bool reading;             /* the reader is not parked */
	struct txn *writer;       /* NULL until something changes */
	bool pressed;             /* something was refused for want of room */
	int broken;               /* the error that broke the write transaction; 0 */
	size_t edit_bytes;        /* written data that edits of all trees hold in memory, which a save will store */
	struct buffer scratch;    /* for encoding */
	struct live *trees;       /* all trees that write through it */
	/* Room is short: commit what there is, at once, and take away what is no longer needed. */
	int (*relieve)(void *user);
	void *user;
};

int work_init(struct work *, struct store *, int (*relieve)(void *user), void *user);
void work_fini(struct work *); /* drops what was not committed; its trees are gone */

/* The transaction to read from: the writer's if there is one. */
int work_read(struct work *, struct txn **ret_txn);
/*
 * The write transaction, with room for 'bytes' more; 'frees' as in txn_admit. -ENOSPC, or what broke the transaction. The first step of
 * every change: it may commit what was changed before, so that values read earlier are gone.
 */
int work_change(struct work *, size_t bytes, bool frees, struct txn **ret_txn);
/* Let go of the reader while nothing happens. */
void work_park(struct work *);
/* Commit the write transaction (drafts were spilled before); a broken one is dropped. Ends it in any case. */
int work_commit(struct work *);
/* Drop it, with all that was written since the last commit, of which no tree may remember anything. */
void work_drop(struct work *);
/* Remembers an error that breaks the transaction; gives it back. */
int work_broken_by(struct work *, int ret);

#endif
