/*
 * What the kernel holds of a mount: which nodes it was given and has not forgotten, by which names, and under which id.
 *
 * The kernel caches what is written, and trusts its own size and times of a regular file as long as it knows the file by one id (fs/fuse/inode.c,
 * writeback cache). So a file that changes behind its back, by the commit of a batch, goes on under a new id: the inode number with another epoch.
 * The old id stays with who has it open, and stands for the file as it was.
 *
 *   63         62      48 47                                   0
 *   | hidden  |  epoch   |  inode number                       |     hidden: a node of the synthetic directories (hidden.c)
 *
 * Counts are exact: a node is given before the reply goes out, and taken back if that does not arrive. The mount's thread only. About 100 bytes a
 * node.
 */
#ifndef MASTER_KNOWN_H
#define MASTER_KNOWN_H

#include "drsfs/types.h"

#define NODE_HIDDEN ((uint64_t)1 << 63)
#define NODE_EPOCH_SHIFT 48
#define NODE_INO_MAX (((ino_id)1 << NODE_EPOCH_SHIFT) - 1)

/* A directory entry, by the hash that orders the directory (store/record.h). */
struct known_place {
	ino_id parent;
	uint64_t cookie;
};

/* An id that the file has no longer. */
struct known_old {
	struct known_old *next;
	uint16_t epoch;
	uint64_t lookups;
	version_t version;         /* it shows the file of this version */
	version_t content_version; /* whose content is this one's */
};

struct known_node {
	struct known_node *bucket_next;
	ino_id ino;
	uint16_t epoch;
	uint64_t lookups;          /* of the present id */
	struct known_old *old;
	size_t places_count;       /* names by which it was given; some may have gone */
	struct known_place first, *more;
};

struct known {
	struct known_node **buckets;
	size_t buckets_count, count;
};

int known_init(struct known *);
void known_fini(struct known *);

struct known_node *known_find(const struct known *, ino_id); /* NULL: the kernel does not have it */
uint64_t known_id(const struct known *, ino_id);             /* the id to give it by */
/* The kernel is given it once more, by this name (NULL: by its id). -ENOMEM. */
int known_give(struct known *, ino_id, const struct known_place *);
/* The kernel has forgotten an id so many times, or never got it. True: it does not have the present one of that file any more. */
bool known_forget(struct known *, uint64_t id, uint64_t times);
/* Which file an id stands for: 0, and *ret_old is NULL if it does so now. -ESTALE: nobody was given it. */
int known_resolve(const struct known *, uint64_t id, ino_id *ret_ino, const struct known_old **ret_old);
/* A name has moved. Memory may be short: then the node keeps the old place. */
void known_moved(struct known *, ino_id, struct known_place from, struct known_place to);
/* A name is gone, for the kernel, too. */
void known_lost(struct known *, ino_id, struct known_place);
/* The file changes: who has it now keeps the one of 'version'. -ENOMEM. */
int known_leave(struct known_node *, version_t version, version_t content_version);
/* Does somebody have this content, that is no longer the file's? */
bool known_keeps(const struct known *, ino_id, version_t content_version);

#endif
