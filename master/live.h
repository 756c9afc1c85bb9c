/*
 * The live tree: what the master's mount shows, as against what is published.
 *
 * Both live in the store. What is finished stands under the pending version; what is not (files still open for writing, their names if they
 * are new, files that such a name displaced) stands in the draft, which hides the published record of the same key from the mount only.
 * All of it goes through one write transaction, begun at the first change after a commit, from which requests are served too, so that they
 * see their own changes; until then they read from a reader that is parked while nothing happens.
 *
 * A change first checks all that it needs and is admitted (live_change), then writes. A failure while writing leaves half a change behind: the
 * transaction is then 'broken', must not be committed, and the mount ends. That takes a failing disk or memory, not a full disk.
 *
 * Everything here belongs to the mount's thread.
 */
#ifndef MASTER_LIVE_H
#define MASTER_LIVE_H

#include <sys/stat.h>

#include "store/content.h"
#include "store/version.h"

#define DRAFT_BUCKETS 4096

struct draft;

struct live {
	struct store *store;
	struct txn *reader;
	bool reading;                          /* the reader is not parked */
	struct txn *writer;                    /* NULL until something changes */
	bool finished;                         /* something that waits to be published stands under the pending version */
	bool unsettled;                        /* a draft could not be published when it should have been: no room; tried again */
	bool pressed;                          /* something was refused for want of room */
	int broken;                            /* the error that broke the write transaction; 0 */
	struct draft *drafts[DRAFT_BUCKETS];   /* nodes with state, by inode number (draft.h) */
	struct draft *drafted;                 /* those whose live node is not the published one */
	size_t edit_bytes;                     /* written data that edits hold in memory, which a save will store */
	struct buffer scratch;                 /* for encoding */
	/* Room is short: commit what there is, at once, and take away what is no longer needed. */
	int (*relieve)(void *user);
	/* Publishing moved a directory's times behind the kernel's back. */
	void (*times_moved)(void *user, ino_id);
	void *user;
};

int live_init(struct live *, struct store *, int (*relieve)(void *user), void (*times_moved)(void *user, ino_id), void *user);
void live_fini(struct live *); /* drops what was not committed */

/* --- transactions */
/* The transaction to read from: the writer's if there is one. */
int live_read(struct live *, struct txn **ret_txn);
/*
 * The write transaction, with room for 'bytes' more; 'frees' as in txn_admit. -ENOSPC, or what broke the transaction. The first step of
 * every change: it may commit what was changed before, so that values read earlier are gone.
 */
int live_change(struct live *, size_t bytes, bool frees, struct txn **ret_txn);
/* Let go of the reader while nothing happens. */
void live_park(struct live *);
/* Commit the write transaction (drafts were spilled before); a broken one is dropped. Ends it in any case. */
int live_commit(struct live *);

struct view live_view(const struct txn *);      /* what the mount shows */
struct view published_view(const struct txn *); /* what the next version will show */
struct node_time time_now(void);

/* --- records; errors of these three break the transaction. 'at': version_begin(), or VERSION_DRAFT. */
int live_put(struct live *, version_t at, const struct record_key *, struct slice value);
int live_delete(struct live *, version_t at, const struct record_key *); /* no error if it is not there */
int live_drop(struct live *, version_t at, const struct record_key *);

/* --- nodes. Content that a node points to is valid until the next change. */
int node_live(struct live *, struct txn *, ino_id, struct node *ret_node);      /* -ESTALE if there is none */
int node_published(struct txn *, ino_id, struct node *ret_node); /* -ENOENT */
/* Change a node: in its draft if it is drafted, else finished. */
int node_change(struct live *, ino_id, const struct node *);
int node_put(struct live *, version_t at, ino_id, const struct node *);
/* Names in a directory have changed: its times, and its link count by 'subdirectories'. Not a reason to publish by itself. */
int directory_touch(struct live *, ino_id, int subdirectories, struct node_time now);
void node_stat(struct live *, ino_id, const struct node *, struct stat *ret_stat);

/* --- extended attributes, in the layer in which the node is changed */
int xattr_get(struct txn *, ino_id, const char *name, struct slice *ret_value); /* -ENODATA */
int xattr_put(struct live *, ino_id, const char *name, struct slice value);
int xattr_delete(struct live *, ino_id, const char *name);

#endif
