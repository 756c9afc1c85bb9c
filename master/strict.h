/*
 * Operations in two-phase directories (strict.c). On the mount's thread. For trees of batches, which are committed as a whole, nothing here does anything.
 */
#ifndef MASTER_STRICT_H
#define MASTER_STRICT_H

#include <fuse_lowlevel.h>

#include "master/names.h"
#include "master/policy.h"

struct tree;
struct master_mount;

enum strict_answer { STRICT_DONE, STRICT_ENTRY, STRICT_ATTRIBUTES };

struct strict_name_kept {
	struct name name;
	char text[NAME_BYTES_MAX];
};

struct strict {
	bool trial;                     /* a request is being served on trial */
	bool content;                   /* it finishes a file's content */
	bool unasked;                   /* nobody asked for it: a file whose last writer has gone, */
	bool doomed;                    /* and that is not complete: it is as before */
	uint32_t batch;                 /* what it changes; 0: nothing is on trial, or committed */
	fuse_req_t request;             /* whose answer is held; NULL: none is */
	enum strict_answer answer;
	uint64_t id;                    /* whose attributes, or (an entry) which inode */
	struct strict_name_kept from, to;
	ino_id moved, back;             /* renamed; 0: it was no rename */
	ino_id published;               /* a file whose content it is, which goes on being shown, */
	struct buffer names;            /* with the names that it had (names_note) */
	bool shown;                     /* so they are */
	bool decided;                   /* the answer alone is missing */
	bool interrupted;               /* who asked is to end */
	struct buffer nodes;            /* be64 each: what it has changed, */
	struct buffer times;            /* and directories whose times the kernel does not know */
	bool awaiting;                  /* there may be files that await a trial (draft.h) */
	bool stuck;                     /* they cannot have it now: no room; tried again in a while */
};

void strict_fini(struct strict *);

/*
 * Called by a handler before it changes a name in a directory, a node's attributes, or (strict_file) publishes a file's content. 0: go on, perhaps on trial from now on.
 * DEFERRED: the request is to be served again later. 'frees': as for txn_admit.
 */
int strict_name(struct tree *, ino_id directory, bool frees);
/* A new file that is still being written: it is judged when it is closed, with its names. */
bool strict_is_new(struct tree *, ino_id);
int strict_node(struct tree *, ino_id, bool content, bool frees); /* 'content': its size, too */
int strict_file(struct tree *, ino_id, bool frees);

/* Is its content judged when it is closed? Are names in this directory? */
bool strict_concerns(struct tree *, ino_id);
bool strict_concerns_names(struct tree *, ino_id directory);

/* The last writer of a drafted file has gone. True: it awaits a trial of its own, and is published by that. */
bool strict_leave(struct tree *, struct draft *);

/* A file is about to be named in a directory. One that had no name before, and no writer has any more, awaits a trial of its own, too. */
void strict_first_name(struct tree *, ino_id, ino_id directory);

/* Success is to be answered: true: on trial, it is held. */
bool strict_hold(fuse_req_t);
bool strict_hold_entry(fuse_req_t, const struct name *, ino_id);
bool strict_hold_attributes(fuse_req_t, uint64_t id);
/* A rename, before strict_hold. */
bool strict_hold_renamed(struct tree *, const struct name *from, const struct name *to, ino_id moved, ino_id back);

/* A directory's times have moved. True: on trial, the kernel is told when it is decided. */
bool strict_hold_times(struct tree *, ino_id directory);

/* What was on trial is decided: before anything else can be done to it. The answer follows when that is announced. */
void strict_decided(struct master_mount *, bool committed);

/* The handler has returned. */
void strict_end(struct master_mount *);
/* Files that await a trial have it, one at a time. */
void strict_ask_awaiting(struct master_mount *);
void strict_retry(struct master_mount *); /* those, and what waits for them, if there was no room */

#endif
