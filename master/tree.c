/* Sessions: a live tree as a file system that is mounted somewhere, with the table of its operations. What the operations do is in ops_*.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "drsfs/mountpoint.h"
#include "master/serve.h"

#define BACKGROUND_MAX 64      /* requests of the kernel's own (write-back, read-ahead) at once */

/* Direct writes are not handed on asynchronously (FUSE_CAP_ASYNC_DIO): the kernel would leave pages in its cache that were read meanwhile, and are old. */
static void op_init(void *user, struct fuse_conn_info *conn)
{
	static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_DONT_MASK | FUSE_CAP_READDIRPLUS |
				       FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_EXPORT_SUPPORT;
	(void)user;
	conn->want = conn->capable & wanted;
	conn->max_write = REQUEST_BYTES_MAX;
	conn->max_readahead = REQUEST_BYTES_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,

	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,

	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.readlink = op_readlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,

	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsyncdir = op_fsync,

	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.ioctl = op_ioctl,

	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
};

/* --- life */

/* A notice about attributes alone takes no lock in the kernel, so it may come from the thread that serves. */
static void times_moved(void *user, ino_id ino)
{
	struct tree *t = user;
	if (!strict_hold_times(t, ino))
		serve_attributes_moved(t, ino);
}

void serve_attributes_moved(struct tree *t, uint64_t id)
{
	fuse_lowlevel_notify_inval_inode(t->session, id, -1, 0);
}

static int session_new(struct tree *t)
{
	const struct master_mount_options *options = &t->mount->publish.options;
	char *text;
	bool more = options->mount_options && options->mount_options[0];
	if (asprintf(&text, "default_permissions,fsname=drsfs,subtype=drsfs%s%s%s%s", geteuid() == 0 ? ",dev,suid" : "",
		     options->allow_other ? ",allow_other" : "", more ? "," : "", more ? options->mount_options : "") < 0)
		return -ENOMEM;
	char *arguments[] = { "drsfs", "-o", text, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
	t->session = fuse_session_new(&args, &operations, sizeof(operations), t);
	fuse_opt_free_args(&args);
	free(text);
	return t->session ? 0 : -EINVAL;
}

int tree_init(struct tree *t, struct master_mount *m, const struct batch_info *batch, const char *mountpoint)
{
	*t = (struct tree){ .mount = m, .batch = batch ? batch->id : 0 };
	if (batch)
		live_init(&t->live, &m->work, batch_waiting(batch->id), batch_draft(batch->id), batch->base, times_moved, t);
	else
		live_init(&t->live, &m->work, VERSION_DRAFT, 0, 0, times_moved, t);
	int ret = known_init(&t->known);
	t->mountpoint = strdup(mountpoint);
	if (ret == 0 && !t->mountpoint)
		ret = -ENOMEM;
	return ret < 0 ? ret : session_new(t);
}

void tree_fini(struct tree *t)
{
	if (t->session)
		fuse_session_destroy(t->session);
	known_fini(&t->known);
	if (t->mount)
		live_fini(&t->live);
	free(t->mountpoint);
	*t = (struct tree){ 0 };
}

/* A directory for a view that cannot be mounted inside the mount. */
static int outside_make(const char *path)
{
	char parent[PATH_MAX];
	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
	if ((mkdir(parent, 0700) < 0 && errno != EEXIST) || (mkdir(path, 0700) < 0 && errno != EEXIST))
		return -errno;
	return mountpoint_prepare(path);
}

static bool is_outside(const struct tree *t)
{
	return t->batch && !hidden_takes_views(t->mount);
}

/* The mount's number. The kernel knows it without asking us, who do not serve yet. */
static int device_find(struct tree *t)
{
	struct statx st;
	if (statx(AT_FDCWD, t->mountpoint, AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -errno;
	t->device = makedev(st.stx_dev_major, st.stx_dev_minor);
	return 0;
}

int tree_mount(struct tree *t)
{
	int ret = is_outside(t) ? outside_make(t->mountpoint) : 0;
	if (ret < 0)
		return ret;
	errno = 0;
	if (fuse_session_mount(t->session, t->mountpoint) != 0)
		return errno ? -errno : -EIO;
	t->mounted = true;
	int fd = fuse_session_fd(t->session);
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno : device_find(t);
}

void tree_unmount(struct tree *t)
{
	if (t->mounted)
		fuse_session_unmount(t->session);
	if (t->mounted && is_outside(t))
		rmdir(t->mountpoint);
	t->mounted = false;
}

void tree_flush(struct tree *t)
{
	int fd = open(t->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	syncfs(fd);
	close(fd);
}
