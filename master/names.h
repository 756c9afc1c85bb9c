/*
 * Names: making, moving and removing directory entries in the live tree, with what that means for what is published (F2).
 *
 * A name waits in the draft if the file that it names is new and still being written; so does the removal of a published name that such
 * a file took by rename and left again. All other changes are finished at once.
 */
#ifndef MASTER_NAMES_H
#define MASTER_NAMES_H

#include "master/draft.h"
#include "master/known.h"

#define LINKS_MAX 65000 /* names of a file, as many as ext4 allows */

struct name {
	ino_id parent;
	struct slice text;
};

struct named {
	ino_id child;   /* 0: nothing has that name */
	uint8_t type;   /* DT_* */
	version_t at;   /* live.waiting: the name waits */
};

int name_of(ino_id parent, const char *text, struct name *ret_name); /* -ENAMETOOLONG, -EINVAL */
/* 0 also if there is nothing: child is 0 then. */
int name_find(struct txn *, struct view, const struct name *, struct named *ret_named);
struct known_place name_place(struct txn *, const struct name *); /* where the kernel has it */
int directory_empty(struct live *, struct txn *, ino_id, bool *ret_empty);

struct creator {
	uint32_t uid, gid, umask;
};

/*
 * Make a node with a name. 'node' has type and permissions, rdev and a symlink's target; the rest is filled in. 'waits': it is open for
 * writing, name and node wait in the draft. -EEXIST, -ENOENT (the directory was removed).
 */
int name_create(struct live *, const struct name *, struct node *node, const struct creator *, bool waits, ino_id *ret_ino);
/* A regular file without a name, open for writing (O_TMPFILE): name_link can give it one. It is made as in that directory. */
int unnamed_create(struct live *, ino_id directory, struct node *node, const struct creator *creator, ino_id *ret_ino);
int name_link(struct live *, const struct name *, ino_id); /* -EMLINK */
int name_unlink(struct live *, const struct name *);
int name_rmdir(struct live *, const struct name *);
/* 'flags': RENAME_*; 'creator': of a whiteout. */
int name_rename(struct live *, const struct name *from, const struct name *to, unsigned flags, const struct creator *);

/* A trial has failed: what it took away of names that wait is there again. */
int names_restore(struct live *);

/* The names that wait for a node become published; nlink_published counts them. The node's record is the caller's. */
int names_publish(struct live *, struct draft *, struct node_time now);

/*
 * The names that a trial (strict.h) publishes are shown as before until it is decided: noted before, put back into the draft after it, and taken out of it when it is
 * decided. These two in a write transaction, whose errors break it.
 */
int names_note(struct live *, struct txn *, const struct draft *, struct buffer *ret_noted);
int names_show(struct live *, struct slice noted);
int names_unshow(struct live *, struct slice noted);

#endif
