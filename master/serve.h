/*
 * What the files of the master's mount share: the mount itself and its request handlers. The only header in master/ that sees FUSE.
 * Each handler decodes its arguments, does one thing that returns 0 or an error, and replies once. None waits: who must, is parked until
 * the commit (serve_park).
 */
#ifndef MASTER_SERVE_H
#define MASTER_SERVE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "master/names.h"
#include "master/publish.h"

#define KERNEL_MAY_CACHE 1e9          /* seconds: nobody but the kernel changes the tree */
#define REQUEST_BYTES_MAX (1u << 20)
#define READ_PIECES_MAX 512

/* A live tree with the FUSE session that shows it. */
struct tree {
	struct master_mount *mount;
	struct live live;
	struct fuse_session *session;
	char *mountpoint;
	bool mounted;
};

struct master_mount {
	struct work work;
	struct publish publish;
	struct tree main;              /* the volume's */
	pthread_t thread;
	bool started;
	int wake_fd;                   /* readable: look at 'stopping' */
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
/* A node for the kernel to keep. */
int serve_entry(struct tree *, ino_id, struct fuse_entry_param *ret_entry);

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
