/*
 * How the slave's mount serves requests: what its files share (mount.c life cycle, serve.c attributes and names, listing.c
 * directories, read.c content, flip.c the step from one version to the next, caution.c what is different meanwhile, echo.c and
 * replay.c the events that follow). Not for others.
 *
 * Every request is a visit: from its beginning to its reply it holds the gate for reading and has a read transaction on the
 * thread's own reader. Visits never wait for the kernel, so the gate is always soon free for the flip, which passes it for
 * writing twice: once to make answers cautious (timeout 0), once to move the version that is shown. Reads leave the gate as soon
 * as they know which content it is: that stays the same, and the disk may take its time.
 */
#ifndef SLAVE_SERVE_H
#define SLAVE_SERVE_H

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "drsfs/buffer.h"
#include "slave/caution.h"
#include "slave/echo.h"
#include "slave/mount.h"
#include "slave/nodes.h"
#include "store/loader.h"
#include "store/node.h"
#include "store/record.h"

#define READ_BYTES_MAX (1 << 20)

struct server;

struct slave_mount {
	struct store *store;
	char *mountpoint;
	char *arguments;               /* of -o */
	struct fuse_session *session;
	struct nodes *nodes;
	pthread_rwlock_t gate;         /* prefers writers */
	version_t fixed;               /* what it shows all the time; 0: follows flips */
	_Atomic version_t shown;       /* changes only with the gate held for writing */
	bool flipping;                 /* under the gate */
	struct caution caution;        /* on account of a flip */
	struct txn *flip_txn;          /* the flip's reader, parked between */
	struct echo *echo;             /* NULL: no events */
	_Atomic version_t echoed;      /* all that changed up to here was told to watchers, or never will be */
	struct server *servers;
	unsigned servers_count, servers_started;
	atomic_uint servers_running;
	atomic_int error;              /* the first error that ended a thread */
	atomic_bool stopping;
	atomic_ullong requests;        /* visits begun */
	void (*ended)(void *user, int error);
	void *user;
	bool mounted;
};

/* One of the threads that answer. */
struct server {
	struct slave_mount *mount;
	pthread_t thread;
	struct txn *txn;
	struct fuse_buf request;
	struct loader *loader;
	struct buffer reply;           /* for answers that are put together */
};

/* One request while it is answered. */
struct visit {
	struct slave_mount *mount;
	struct server *server;
	struct txn *txn;
	struct view view;              /* what is shown */
	bool gated;                    /* holds the gate */
	bool cautious;                 /* a flip is going on: this may be about to change */
	double timeout;                /* how long the kernel may keep the answer, in seconds */
};

int visit_begin(struct visit *, fuse_req_t); /* to be ended also after an error */
void visit_end(struct visit *);
/* What is answered from here on is true in every version: leave the gate, so that no flip waits for the disk. */
void visit_leave_gate(struct visit *);

/* The node behind an id that the kernel holds, as it was when it had this content; 'ret_view' (may be NULL) shows it. -ESTALE: gone. */
int visit_node(struct visit *, node_id, struct node *ret_node, struct view *ret_view);
/* The node that an inode number is in this view. -ENOENT. 'ret_at' (may be NULL): the version that wrote it. */
int visit_inode(struct txn *, struct view, ino_id, struct node *ret_node, version_t *ret_at);
/* The version that stands for the node's content in its id. */
version_t node_content_version(const struct node *);
/* The attributes, and the id, that the kernel is given. */
void visit_attributes(const struct visit *, ino_id, const struct node *, struct stat *ret_stat);
/* How long the kernel may keep the node's attributes. */
double visit_attributes_timeout(struct visit *, node_id);
/* An entry as everybody sees it. Success without a node (ret_entry->ino == 0) is a name that is not there: the kernel remembers that too. */
int visit_look_up(struct visit *, node_id parent, const char *name, struct fuse_entry_param *ret_entry);
/* How long the kernel may keep an entry that this version wrote, the name or the node behind it: not while events about it are to come (echo.h). */
double visit_entry_timeout(const struct visit *, version_t written);
/* What the kernel is told about an entry, that 'written' was the last version to change; counts it as given. -ENOMEM. */
int visit_give(struct visit *, ino_id, const struct node *, version_t written, struct node_place, struct fuse_entry_param *ret_entry);
extern const struct fuse_lowlevel_ops slave_operations;

/* The server of the calling thread. */
extern _Thread_local struct server *server_self;

void serve_read(fuse_req_t, fuse_ino_t, size_t size, off_t offset, struct fuse_file_info *);
void serve_lseek(fuse_req_t, fuse_ino_t, off_t offset, int whence, struct fuse_file_info *);
void serve_readdir(fuse_req_t, fuse_ino_t, size_t size, off_t offset, struct fuse_file_info *);
void serve_readdirplus(fuse_req_t, fuse_ino_t, size_t size, off_t offset, struct fuse_file_info *);

#endif
