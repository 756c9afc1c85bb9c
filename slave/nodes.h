/*
 * What the kernel holds of the slave's mount: every node that it was given and has not forgotten, and the names by which it got it.
 *
 * A node id stands for (inode, content version), so that the content behind an id never changes: a file's new content is a new
 * node, as after an atomic rename. Directories have no content of their own and keep one id, their inode number. The id is also
 * st_ino.
 *
 *   63        40 39                                  0
 *   | content  |  inode number                       |     the low 24 bits of the content version (0: a directory)
 *
 * Two contents of one inode that are 2^24 versions apart share an id; the generation tells them apart, the kernel then gives up
 * the older one. Any thread may call. About 70 bytes a node.
 */
#ifndef SLAVE_NODES_H
#define SLAVE_NODES_H

#include "drsfs/types.h"

typedef uint64_t node_id;

#define NODE_ID_INO_MAX (((ino_id)1 << 40) - 1)

struct nodes;

/* A directory entry, by the hash that orders the directory (store/record.h). */
struct node_place {
	ino_id parent;
	uint64_t cookie;
};

struct node_held {
	version_t content_version;
	version_t left_at; /* not 0: perhaps no longer what its names lead to; the version that is shown of it then */
};

/*
 * The highest inode numbers stand for nothing that is stored: ghosts, nodes that the echo of changes works with (echo.h), one number
 * for each type that a name can have.
 */
#define GHOST_TYPES 16
static inline bool node_id_is_ghost(node_id id)
{
	return (id & NODE_ID_INO_MAX) > NODE_ID_INO_MAX - GHOST_TYPES;
}

static inline node_id node_id_of(ino_id ino, version_t content_version)
{
	return ino | (content_version & 0xffffff) << 40;
}

static inline ino_id node_id_ino(node_id id)
{
	return id & NODE_ID_INO_MAX;
}

static inline uint64_t node_id_generation(version_t content_version)
{
	return content_version >> 24;
}

int nodes_new(struct nodes **ret_nodes);
void nodes_free(struct nodes *);

/* The kernel is being given the node once more, by this name (parent 0: by none that counts). 'left_at' as in node_held, 0: it is current. -ENOMEM. */
int nodes_give(struct nodes *, ino_id, version_t content_version, version_t left_at, struct node_place);
/* The kernel has forgotten so many of the times that it was given the node (or never got them). */
void nodes_forget(struct nodes *, node_id, uint64_t times);
/* false: the kernel does not hold it. 'ret_held' may be NULL. */
bool nodes_find(struct nodes *, node_id, struct node_held *ret_held);
/* The node's attributes have changed: the next answer about them is not to be kept, nor are others in the moment after it (nodes_is_fresh says so). */
void nodes_refresh(struct nodes *, node_id);
bool nodes_is_fresh(struct nodes *, node_id);
/* The node is no longer what its names lead to; 'at' is the last version that showed it. */
void nodes_leave(struct nodes *, node_id, version_t at);
/* The index-th of the names by which the kernel got the node (some twice, some outdated); false: there are no more. */
bool nodes_place(struct nodes *, node_id, size_t index, struct node_place *ret_place);
/* The kernel no longer has the node under this name. */
void nodes_drop_place(struct nodes *, node_id, struct node_place);
/* What may be directories among the nodes, up to 'max' of them (files without content are among them). */
size_t nodes_directories(struct nodes *, ino_id *items, size_t max);
size_t nodes_count(struct nodes *);

#endif
