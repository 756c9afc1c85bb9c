/*
 * What the files of the master's mount share: the mount itself and its request handlers. The only header in master/ that sees FUSE.
 * Each handler decodes its arguments, does one thing that returns 0 or an error, and replies once. None waits: who must, is parked until
 * the commit (serve_park).
 */
#ifndef MASTER_SERVE_H
#define MASTER_SERVE_H

#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "master/batches.h"
#include "master/helper.h"
#include "master/known.h"
#include "master/names.h"
#include "master/publish.h"
#include "master/strict.h"

#define KERNEL_MAY_CACHE 1e9          /* seconds: nobody but the kernel changes the tree */
#define REQUEST_BYTES_MAX (1u << 20)
#define READ_PIECES_MAX 512

struct master_mount;

/* Something for the helper to do, and what the mount's thread does when that is done. */
struct errand {
	struct call call;
	struct master_mount *mount;
	void (*there)(struct errand *);
	void (*back)(struct errand *);
};

/* A live tree with the FUSE session that shows it. */
struct tree {
	struct master_mount *mount;
	struct live live;
	struct known known;
	struct fuse_session *session;
	char *mountpoint;
	bool mounted;
	dev_t device;                  /* as stat tells it of what is in here */
	uint32_t batch;                /* whose it is; 0: the volume's */
	struct tree *next;             /* of the batches' */
	size_t dirty;                  /* errands for its files (dirty.c) */
	bool closing;
	bool close_waits;              /* for them */
	struct errand errand;          /* that closes it */
	void (*closed)(struct master_mount *, uint32_t id, void *user);
	void *closed_user;
};

/* A request that has to wait for a decision. */
struct deferred {
	struct deferred *next;
	struct tree *tree;
	struct fuse_buf request;
};

struct job;

/* A batch that is being taken away. */
struct dropping {
	struct dropping *next;
	uint32_t id;
};

struct master_mount {
	struct work work;
	struct publish publish;
	struct tree main;              /* the volume's */
	struct tree *batches;          /* those that are mounted, and served */
	struct tree *hot;              /* who asked last */
	unsigned row;                  /* requests that it had served without a look at others */
	struct helper helper;
	struct helper writeback;       /* has the kernel write what it keeps (dirty.c) */
	size_t errands;                /* of which they have not come back */
	struct calls calls;
	struct dropping *dropping;
	struct policy *policy;
	struct strict strict;          /* an operation in a two-phase directory */
	struct job *job, *jobs;        /* the commit that is under way, and those that wait for their turn */
	struct job *aside;             /* those that the helper is at, before or after that */
	struct deferred *deferred, **deferred_last;
	bool defer;                    /* the request that is being served is to be deferred */
	struct fuse_buf request;
	struct pollfd *polled;
	size_t polled_capacity;
	bool ending;                   /* nothing new is begun */
	pthread_t thread;
	bool started;
	int wake_fd;                   /* readable: look at 'stopping' and 'calls' */
	atomic_bool stopping;
	atomic_bool serving;
	int error;                     /* what ended it */
	fuse_req_t *parked;            /* requests that are answered after the next commit */
	size_t parked_count, parked_capacity;
	struct iovec pieces[READ_PIECES_MAX];
};

static inline struct tree *tree_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Answer 0 when all that was done so far is durable; a failed commit answers EIO. */
void serve_park(struct master_mount *, fuse_req_t);
/* The reply that an operation without results gets: 0 or a negative error of any kind. */
void serve_reply(fuse_req_t, int ret);
/* A node for the kernel to keep, by this name (NULL: by its id): it counts as given. Who cannot hand it over takes it back by serve_entry_lost. */
int serve_entry(struct tree *, const struct name *, ino_id, struct fuse_entry_param *ret_entry);
void serve_entry_lost(struct tree *, uint64_t id);
void serve_reply_entry(fuse_req_t, const struct name *, ino_id);
void serve_reply_attributes(fuse_req_t, uint64_t id);
/* The kernel has the same entries under their new names, without asking again. */
void serve_renamed(struct tree *, const struct name *from, const struct name *to, ino_id moved, ino_id back);
/* The file that a node id stands for. Of one that has changed since: *ret_old, or, where NULL is given for that, -ESTALE. Hidden ones: -EROFS. */
int serve_node(struct tree *, uint64_t id, ino_id *ret_ino, const struct known_old **ret_old);
/* Its node: as it was for who has the old id. */
int serve_node_get(struct tree *, uint64_t id, struct txn **ret_txn, ino_id *ret_ino, struct node *ret_node, const struct known_old **ret_old);
struct view serve_view(struct tree *, const struct txn *, const struct known_old *); /* where its records are */

/* --- mount.c: for the files of batches */
void serve_commit(struct master_mount *);                   /* commit, seal what is finished (but while a job runs), answer who waits */
void serve_send(struct master_mount *, struct helper *, struct errand *);
void serve_drain(struct tree *);                            /* all requests that are there now */
void serve_deferred(struct master_mount *);                 /* what was deferred is served */
void serve_undefer(struct tree *);                          /* forget what was deferred of this one */

/* --- tree.c */
/* 'batch' NULL: the volume's. tree_fini takes what a failed tree_init leaves. */
int tree_init(struct tree *, struct master_mount *, const struct batch_info *batch, const char *mountpoint);
void tree_fini(struct tree *);
/* These three are not for the mount's thread, whom they may wait for. */
int tree_mount(struct tree *);
void tree_unmount(struct tree *);
void tree_flush(struct tree *); /* the kernel hands over what it holds of written data */
void serve_attributes_moved(struct tree *, uint64_t id); /* behind the kernel's back */

/* --- batches.c */
void batches_restore(struct master_mount *);                /* their views are mounted again */
void batches_fini(struct master_mount *);
void batches_end(struct master_mount *);                    /* views are unmounted */
int batches_tidy(struct master_mount *, size_t work_max, bool *ret_more);
void batches_each(struct master_mount *, void (*each)(void *user, const struct batch_info *), void *user); /* all open ones */
int batches_get(struct master_mount *, uint32_t id, struct batch_info *ret_info);                       /* -ENOENT */
struct tree *batches_tree(struct master_mount *, uint32_t id); /* NULL: it has no view */
/* The view is closed (written data is handed over first if 'flush'), its tree is gone then; 'after' may be NULL. */
void batches_close(struct tree *, bool flush, void (*after)(struct master_mount *, uint32_t id, void *user), void *user);
void batches_close_waiting(struct tree *); /* if it is to be closed, and waits for nothing any more */
void batches_forget(struct master_mount *, uint32_t id, void (*after)(void *user, int error), void *user); /* take it away, without its view */
void batches_let_go(struct master_mount *, uint32_t id); /* one that nobody asks about: when there is room, if not now */

/* --- job.c */
bool jobs_cancel_waiting(struct master_mount *, uint32_t id); /* true: it did not run yet and was answered with -ECANCELED */
bool jobs_run(const struct master_mount *, uint32_t id);
bool jobs_flush(const struct master_mount *, uint32_t id);  /* the helper is flushing its view, or about to */
void jobs_end(struct master_mount *);                       /* the mount ends: what is undecided is aborted */

/* --- changed.c: what the kernel is told, on the helper */
/* The tree goes on from version 'from' with what 'at' changed: other ids for who has it, and notices about it. -ENOMEM is not fatal but means stale caches. */
int changed_by(struct tree *, struct txn *, version_t from, version_t at, struct buffer *notices);
/* The tree goes on at its current version, without what its draft 'at' has changed, which the kernel has done in its caches. Errors as above. */
int undone_from(struct tree *, struct txn *, version_t at, struct buffer *notices);
/* A file is not what the kernel has cached of it: likewise. */
int disowned(struct tree *, struct txn *, ino_id, struct buffer *notices);
void notices_tell(struct fuse_session *, struct slice notices);
/* Takes what is in it. Afterwards 'then' is answered with an error; NULL: nobody waits for it. */
void notices_send(struct tree *, struct buffer *notices, fuse_req_t then, int error);

/* --- dirty.c */
/* All that was written to the file is here: 0. DEFERRED: it will be when the request is served again. -ENOMEM. 'id': the node's, by this handle. */
int dirty_await(struct tree *, uint64_t id, struct handle *);
void dirty_forget(struct handle *); /* it goes */

/* --- hidden.c */
#define HIDDEN_NAME ".drsfs"
#define HIDDEN_TOP (NODE_HIDDEN | 1)
#define HIDDEN_BATCHES (NODE_HIDDEN | 2)
bool hidden_reserved(ino_id parent, const char *name);      /* nobody may make this name */
/* 1: it is answered. */
int hidden_lookup(fuse_req_t, fuse_ino_t parent, const char *name);
void hidden_getattr(fuse_req_t, fuse_ino_t);
void hidden_readdir(fuse_req_t, fuse_ino_t, size_t size, off_t, bool plus);
/* Views of batches are mounted in there; else in the state directory. */
bool hidden_takes_views(const struct master_mount *);
void hidden_path(const struct master_mount *, uint32_t id, char *path, size_t size);

/* ops_attributes.c */
void op_getattr(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_setattr(fuse_req_t, fuse_ino_t, struct stat *, int to_set, struct fuse_file_info *);
void op_statfs(fuse_req_t, fuse_ino_t);

/* ops_names.c */
void op_lookup(fuse_req_t, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t, fuse_ino_t, uint64_t nlookup);
void op_forget_multi(fuse_req_t, size_t count, struct fuse_forget_data *);
void op_mknod(fuse_req_t, fuse_ino_t parent, const char *name, mode_t, dev_t);
void op_mkdir(fuse_req_t, fuse_ino_t parent, const char *name, mode_t);
void op_symlink(fuse_req_t, const char *target, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t, fuse_ino_t);
void op_link(fuse_req_t, fuse_ino_t, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name, unsigned flags);

/* ops_directories.c */
void op_opendir(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_readdir(fuse_req_t, fuse_ino_t, size_t size, off_t, struct fuse_file_info *);
void op_readdirplus(fuse_req_t, fuse_ino_t, size_t size, off_t, struct fuse_file_info *);

/* ops_files.c */
/* The mount has ended: what was closed is complete, though the kernel drops releases that it has not sent by then (F7). */
void files_end(struct tree *);
int file_truncate(struct tree *, ino_id, uint64_t size);
void op_create(fuse_req_t, fuse_ino_t parent, const char *name, mode_t, struct fuse_file_info *);
void op_open(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_read(fuse_req_t, fuse_ino_t, size_t size, off_t, struct fuse_file_info *);
void op_write(fuse_req_t, fuse_ino_t, const char *data, size_t size, off_t, struct fuse_file_info *);
void op_flush(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_release(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_fsync(fuse_req_t, fuse_ino_t, int datasync, struct fuse_file_info *); /* of directories, too */
void op_fallocate(fuse_req_t, fuse_ino_t, int mode, off_t, off_t length, struct fuse_file_info *);
void op_lseek(fuse_req_t, fuse_ino_t, off_t, int whence, struct fuse_file_info *);
void op_copy_file_range(fuse_req_t, fuse_ino_t from, off_t, struct fuse_file_info *, fuse_ino_t to, off_t, struct fuse_file_info *, size_t size,
			int flags);
void op_ioctl(fuse_req_t, fuse_ino_t, unsigned command, void *argument, struct fuse_file_info *, unsigned flags, const void *in, size_t in_size,
	      size_t out_size);

/* ops_xattrs.c */
/* The mode changes: an access list changes with it. */
int acl_follow_mode(struct live *, struct txn *, ino_id, uint32_t mode);
void op_setxattr(fuse_req_t, fuse_ino_t, const char *name, const char *value, size_t size, int flags);
void op_getxattr(fuse_req_t, fuse_ino_t, const char *name, size_t size);
void op_listxattr(fuse_req_t, fuse_ino_t, size_t size);
void op_removexattr(fuse_req_t, fuse_ino_t, const char *name);

#endif
