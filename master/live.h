/*
 * A live tree: what one of the master's mounts shows, as against what is finished in it. The main mount's is the volume's tree, an open batch's is a
 * tree of its own (R4): the version that it stands on, with what the batch has changed.
 *
 * All of it is in the store, in two layers. What is finished stands under the pending version, a batch's under the batch's draft. What is not (files
 * still open for writing, their names if they are new, files that such a name displaced) waits in another draft, which hides the finished record of
 * the same key from this mount only. "Published" below means finished, whichever layer that is.
 *
 * All trees of a mount write through one transaction (work.h). Everything here belongs to the mount's thread.
 */
#ifndef MASTER_LIVE_H
#define MASTER_LIVE_H

#include <errno.h>
#include <sys/stat.h>

#include "master/work.h"
#include "store/content.h"
#include "store/version.h"

#define DRAFT_BUCKETS 4096

/* Not now: a commit is under way that this change must not get into. The request is served again when it is decided (R4.7). */
#define DEFERRED (-EINPROGRESS)

struct draft;

struct live {
	struct work *work;
	struct live *next;                     /* of the work's trees */
	version_t waiting;                     /* the draft of what is not finished */
	version_t finished_draft;              /* that of what is, in a batch; 0: the pending version */
	version_t base;                        /* the version that a batch's view stands on */
	bool finished;                         /* something that waits to be published stands under the pending version */
	uint32_t frozen_by;                    /* the batch that is proposed: what it changes must stay as it is; 0: none */
	bool trial;                            /* what is finished goes into a draft that may be dropped (strict.h) */
	struct buffer withdrawn;               /* names that waited, and were taken away on trial, as names_restore wants them */
	bool frozen_moves;                     /* and no directory may be moved to another one */
	int sealed;                            /* nothing at all can be changed: DEFERRED, or another error; 0 */
	bool unsettled;                        /* a draft could not be published when it should have been: no room; tried again */
	struct draft *drafts[DRAFT_BUCKETS];   /* nodes with state, by inode number (draft.h) */
	struct draft *left;                    /* of files as they were, which somebody still has open */
	struct draft *drafted;                 /* those whose live node is not the published one */
	/* Publishing moved a directory's times behind the kernel's back. */
	void (*times_moved)(void *user, ino_id);
	void *user;
};

/* The main tree: 'waiting' is VERSION_DRAFT and finished_draft 0. The tree joins the work's. */
void live_init(struct live *, struct work *, version_t waiting, version_t finished_draft, version_t base, void (*times_moved)(void *user, ino_id),
	       void *user);
void live_fini(struct live *); /* what waited for its writers is forgotten; the work is left */

/* --- transactions, as in work.h */
int live_read(struct live *, struct txn **ret_txn);
int live_change(struct live *, size_t bytes, bool frees, struct txn **ret_txn);

struct view live_view(const struct live *, const struct txn *);      /* what the mount shows */
struct view published_view(const struct live *, const struct txn *); /* what is finished: what the next version, or the batch's, will show */
/* The number under which finished changes are written: the pending version's, or the batch's draft. In a write transaction. */
version_t live_finish_at(struct live *);
struct node_time time_now(void);

/* --- May this be changed now? Asked by every change before its first write: 0 or DEFERRED. */
int live_may_change_node(struct live *, struct txn *, ino_id);
int live_may_change_name(struct live *, struct txn *, const struct record_key *);

/* --- records; errors of these three break the transaction. 'at': live_finish_at(), or live.waiting. */
int live_put(struct live *, version_t at, const struct record_key *, struct slice value);
int live_delete(struct live *, version_t at, const struct record_key *); /* no error if it is not there */
int live_drop(struct live *, version_t at, const struct record_key *);

/* --- nodes. Content that a node points to is valid until the next change. */
int node_live(struct live *, struct txn *, ino_id, struct node *ret_node);      /* -ESTALE if there is none */
int node_published(struct live *, struct txn *, ino_id, struct node *ret_node); /* -ENOENT */
/* Change a node: in its draft if it is drafted, else finished. */
int node_change(struct live *, ino_id, const struct node *);
int node_put(struct live *, version_t at, ino_id, const struct node *);
int node_finish(struct live *, ino_id, const struct node *);
/* Names in a directory have changed: its times, and its link count by 'subdirectories'. Not a reason to publish by itself. */
int directory_touch(struct live *, ino_id, int subdirectories, struct node_time now);
/* 'live' NULL: of a node that is no longer the live one. */
void node_stat(struct live *, ino_id, const struct node *, struct stat *ret_stat);

/* --- extended attributes, in the layer in which the node is changed */
int xattr_get(struct live *, struct txn *, ino_id, const char *name, struct slice *ret_value); /* -ENODATA */
int xattr_put(struct live *, ino_id, const char *name, struct slice value);
int xattr_delete(struct live *, ino_id, const char *name);

#endif
