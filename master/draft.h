/*
 * Nodes with state: open files, files whose live content or attributes are not published yet (drafted), and nodes without a name
 * that the kernel still knows.
 *
 * A drafted node's live attributes are in memory, 'node'; its written content is in 'edit'. Before each commit what would otherwise leave chunks
 * uncounted is spilled to the store's draft. Nothing of this survives a restart, as nobody was promised that it would.
 *
 *            open for writing                     first change                     last close, fsync
 *   (none) ------------------> known (opens > 0) --------------> drafted ----------------------------> published, known
 *                                                                  |  last name goes
 *                                                                  +----------------> nameless ----> (none) when the kernel forgets it
 *
 * Link counts have two values, since a new file that is still being written may take another file's name by rename: the mount shows the
 * other one as gone at once, readers of versions only when the new one is published. 'nlink_published' is what versions show.
 */
#ifndef MASTER_DRAFT_H
#define MASTER_DRAFT_H

#include <sys/types.h>

#include "master/live.h"

struct draft_name {
	struct draft_name *next;
	ino_id parent;
	size_t size;
	char text[];
};

/* An open file. */
struct handle {
	struct handle *next, **at;     /* the draft's */
	struct draft *draft;
	bool writes;
	bool closed;                   /* its last close was seen; its release is on the way */
	pid_t opener;                  /* a process */
	struct look *look;             /* at who has its descriptors; NULL: none is under way, or done */
	struct dirty *dirty;           /* what the kernel keeps of the file is being written for it (dirty.c); NULL: it is not */
};

struct draft {
	ino_id ino;
	struct draft *bucket_next;
	struct draft *drafted_next, **drafted_at;
	unsigned opens, writers;       /* handles, and those among them that can write */
	bool drafted;                  /* 'node' is the live node, not the published record */
	bool changed;                  /* the node has changes that wait for the last writer */
	bool content_changed;          /* so has its content */
	bool recorded;                 /* there is a published record */
	bool spilled;                  /* the store's draft has a record … */
	bool spilled_current;          /* … and it has the present content */
	bool forgotten;                /* by the kernel */
	bool linkable;                 /* it never had a name, and may get one */
	bool closed;                   /* a descriptor was closed since it was last written: all that was written is here */
	bool left;                     /* these handles are of the file as it was (known.h): nothing is written through them */
	bool refused;                  /* so is what was written through them (strict.h): whoever still closes or syncs one is to hear of it */
	int incomplete;                /* the error with which not all that was written could be taken from the kernel, who has told the writer; 0 */
	bool shown;                    /* its content is on trial, and the mount goes on showing it meanwhile */
	bool awaits_trial;             /* complete, but of a two-phase directory: published by a trial of its own (strict.h) */
	struct node_time touched;      /* a directory's time, since names in it were made that still wait; 0: none */
	uint32_t nlink_published;
	struct handle *handles;
	struct node node;
	struct buffer content;         /* owns what node.content points to */
	struct content_edit *edit;     /* NULL: the content is as the node says */
	size_t edit_bytes;             /* its part of live.edit_bytes */
	struct draft_name *names;      /* names in the draft that are published together with this node */
	struct buffer xattrs;          /* names of attributes in the draft, each ended by NUL */
};

struct draft *draft_find(struct live *, ino_id); /* NULL: a node without state */
int draft_get(struct live *, ino_id, struct draft **ret_draft); /* makes one if there is none */
/* Forget a draft that has no state any more. */
void draft_release(struct live *, struct draft *);
void draft_free_all(struct live *);
static inline bool draft_is_drafted(const struct draft *d)
{
	return d && d->drafted;
}

/* Have the live node in memory from now on. */
int draft_begin(struct live *, struct draft *);
/* A new, empty node, open for writing with one handle and not published yet. */
int draft_create(struct live *, ino_id, const struct node *, struct draft **ret_draft);
/* Have an edit of the content. The caller tells what it did to it. */
int draft_edit(struct live *, struct draft *);
void draft_edited(struct live *, struct draft *);
void draft_edit_drop(struct live *, struct draft *);
/* The edit's content becomes the node's. */
int draft_save(struct live *, struct draft *);
/* Make the store's draft count the chunks of everything that is not published. Before each commit. */
int draft_spill_all(struct live *);

/* Publish what is changed, with the names that wait for it: under the pending version. */
int draft_publish(struct live *, struct draft *);
/* A change by somebody who has no handle is complete by itself. */
int draft_settle(struct live *, struct draft *);
int draft_settle_all(struct live *);
/* The file has changed behind its handles, which had written nothing that waits: they keep the file as it was. */
void draft_leave(struct live *, struct draft *);
/* Forget what was not published of a node. */
int draft_bury(struct live *, struct draft *);
/* A file whose content is on trial is shown as before until that is decided (names_show does its names). */
int draft_show(struct live *, ino_id);
int draft_unshow(struct live *, ino_id);
/* Its names are what is published after all: if it is being written it goes on as it was, else there is nothing that waits. */
int draft_revive(struct live *, struct draft *);
/* The kernel forgets a node. */
int draft_forget(struct live *, ino_id);

/* --- a directory's times, while names that were made in it wait */
int draft_touch(struct live *, ino_id directory, struct node_time now);
bool draft_touched(struct live *, ino_id directory);
void draft_untouch(struct live *, ino_id directory); /* they are published, or set anew */

/* --- links (see above) */
int links_change(struct live *, ino_id, int live_by, int published_by, struct node_time now);
/* A directory has lost its name. */
int directory_remove(struct live *, ino_id);

/* --- names that wait */
int draft_own_name(struct draft *, ino_id parent, struct slice text);
/* The draft whose publication a name waits for; 'child' is what it names (0: it waits to be removed). NULL: it does not wait. */
struct draft *draft_owner(struct live *, ino_id parent, struct slice text, ino_id child);
void draft_disown_name(struct live *, ino_id parent, struct slice text, ino_id child);

#endif
