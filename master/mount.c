/*
 * The master's mount: its life, the thread that serves it, and the table of its operations. What the operations do is in ops_*.c, what
 * they change in live.h, draft.h and names.h, when it becomes a version in publish.h.
 *
 *   new ---- start ----> mounted, serving ---- stop, or unmounted by somebody, or an error ----> ended ---- free
 *
 * The thread reads requests until none has come for a moment; then it commits if it is time to, or sleeps until it will be, or a request comes.
 */
#include "master/mount.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/mountpoint.h"
#include "master/serve.h"

#define BACKGROUND_MAX 64      /* requests of the kernel's own (write-back, read-ahead) at once */
#define PARKED_SERVED_MAX 64   /* requests that are served while somebody waits for a commit */
#define PATIENCE 10000         /* ns: a busy program asks again within this time; to sleep and be woken would take longer */
#define ROOT_BYTES 1024

/* --- operations */

static void op_init(void *user, struct fuse_conn_info *conn)
{
	static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_DONT_MASK | FUSE_CAP_READDIRPLUS |
				       FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT;
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

/* --- replies */

void serve_reply(fuse_req_t req, int ret)
{
	fuse_reply_err(req, error_errno(ret));
}

void serve_park(struct master_mount *m, fuse_req_t req)
{
	if (m->parked_count == m->parked_capacity) {
		size_t capacity = m->parked_capacity ? 2 * m->parked_capacity : 16;
		fuse_req_t *parked = realloc(m->parked, capacity * sizeof(fuse_req_t));
		if (!parked) {
			serve_reply(req, -ENOMEM);
			return;
		}
		m->parked = parked;
		m->parked_capacity = capacity;
	}
	m->parked[m->parked_count++] = req;
}

static int commit(struct master_mount *m)
{
	int ret = publish_commit(&m->publish);
	for (size_t i = 0; i < m->parked_count; i++)
		serve_reply(m->parked[i], ret < 0 ? -EIO : 0);
	m->parked_count = 0;
	return ret;
}

static int relieve(void *user)
{
	struct master_mount *m = user;
	int ret = commit(m);
	return ret < 0 ? ret : publish_make_room(&m->publish);
}

/* A notice about attributes alone takes no lock in the kernel, so it may come from this thread. */
static void times_moved(void *user, ino_id ino)
{
	struct tree *t = user;
	fuse_lowlevel_notify_inval_inode(t->session, ino, -1, 0);
}

/* --- the thread */

/* Nothing waits: do what is due now, or sleep until something is. */
static int rest(struct master_mount *m, time_ns served_at)
{
	time_ns now = publish_clock();
	time_ns due = publish_due(&m->publish, served_at), tidy = publish_tidy_due(&m->publish, served_at);
	if (m->parked_count || due <= now)
		return commit(m);
	if (tidy <= now)
		return publish_tidy(&m->publish, now);
	work_park(&m->work);
	time_ns wait = (due < tidy ? due : tidy) - now;
	struct timespec timeout = { wait / 1000000000, wait % 1000000000 };
	struct pollfd fds[] = { { .fd = fuse_session_fd(m->main.session), .events = POLLIN }, { .fd = m->wake_fd, .events = POLLIN } };
	if (ppoll(fds, ARRAY_SIZE(fds), &timeout, NULL) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* Serve until the mount has ended; requests that wait when it is asked to stop are still served. */
static int serve(struct master_mount *m)
{
	struct fuse_buf request = { 0 };
	time_ns served_at = publish_clock();
	unsigned served_parked = 0;
	int ret = 0;
	while (ret == 0) {
		int got = fuse_session_receive_buf(m->main.session, &request);
		if (got > 0) {
			fuse_session_process_buf(m->main.session, &request);
			served_at = publish_clock();
			served_parked = m->parked_count ? served_parked + 1 : 0;
			if (m->work.broken)
				ret = m->work.broken;
			else if (publish_served(&m->publish, served_at) || served_parked > PARKED_SERVED_MAX)
				ret = commit(m);
		} else if (got == -EAGAIN) {
			if (atomic_load(&m->stopping) && !m->parked_count)
				break;
			if (publish_clock() - served_at > PATIENCE || m->parked_count)
				ret = rest(m, served_at);
		} else if (got != -EINTR) {
			ret = got;
			break;
		}
	}
	free(request.mem);
	return ret;
}

/* Every tree has a root; that of a new store is made here. */
static int root_ensure(struct live *live)
{
	struct txn *txn;
	struct node root;
	int ret = live_read(live, &txn);
	if (ret == 0)
		ret = node_live(live, txn, INO_ROOT, &root);
	if (ret != -ESTALE)
		return ret;
	struct node_time now = time_now();
	root = (struct node){ .mode = S_IFDIR | 0755, .uid = geteuid(), .gid = getegid(), .nlink = 2, .parent = INO_ROOT,
			      .atime = now, .mtime = now, .ctime = now };
	ret = live_change(live, ROOT_BYTES, false, &txn);
	if (ret < 0)
		return ret;
	root.content_version = version_begin(txn);
	live->finished = true;
	return node_put(live, root.content_version, INO_ROOT, &root);
}

/* What is finished is committed at the end, whatever ended it; what is not, nobody was promised. */
static void *thread_main(void *user)
{
	struct master_mount *m = user;
	prctl(PR_SET_NAME, "drsfs-mount");
	prctl(PR_SET_TIMERSLACK, 1);
	int ret = root_ensure(&m->main.live);
	if (ret == 0)
		ret = serve(m);
	int last = commit(m);
	m->error = ret < 0 ? ret : last;
	fuse_session_exit(m->main.session);
	atomic_store(&m->serving, false);
	m->publish.listener.ended(m->publish.listener.user, m->error);
	return NULL;
}

/* --- the mountpoint */

/* Files that a mount would hide are somebody's mistake; what a new file system is born with is not. */
static int mountpoint_check_empty(const char *mountpoint)
{
	DIR *directory = opendir(mountpoint);
	if (!directory)
		return -errno;
	const struct dirent *entry;
	int ret = 0;
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "lost+found") != 0)
			ret = -ENOTEMPTY;
	closedir(directory);
	return ret;
}

/* Could the store itself be hidden below the mount? */
static int mountpoint_check_store(const char *mountpoint, const char *dir)
{
	char *above = realpath(mountpoint, NULL), *below = realpath(dir, NULL);
	size_t size = above ? strlen(above) : 0;
	bool inside = above && below && strncmp(above, below, size) == 0 && (below[size] == '/' || below[size] == 0);
	free(above);
	free(below);
	return inside ? -EINVAL : 0;
}

static int mountpoint_check(struct master_mount *m)
{
	int ret = mountpoint_prepare(m->main.mountpoint);
	if (ret == 0)
		ret = mountpoint_check_store(m->main.mountpoint, store_dir(m->work.store));
	return ret < 0 ? ret : mountpoint_check_empty(m->main.mountpoint);
}

/* --- life */

static int session_new(struct master_mount *m, const struct master_mount_options *options)
{
	char *text;
	bool more = options->mount_options && options->mount_options[0];
	if (asprintf(&text, "default_permissions,fsname=drsfs,subtype=drsfs%s%s%s%s", geteuid() == 0 ? ",dev,suid" : "",
		     options->allow_other ? ",allow_other" : "", more ? "," : "", more ? options->mount_options : "") < 0)
		return -ENOMEM;
	char *arguments[] = { "drsfs", "-o", text, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
	m->main.session = fuse_session_new(&args, &operations, sizeof(operations), &m->main);
	fuse_opt_free_args(&args);
	free(text);
	return m->main.session ? 0 : -EINVAL;
}

static int mount_init(struct master_mount *m, struct store *store, const struct master_mount_options *options,
		      const struct master_mount_listener *listener)
{
	m->wake_fd = -1;
	int ret = work_init(&m->work, store, relieve, m);
	if (ret < 0)
		return ret;
	m->main.mount = m;
	live_init(&m->main.live, &m->work, VERSION_DRAFT, 0, 0, times_moved, &m->main);
	publish_init(&m->publish, &m->main.live, options, listener);
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->main.mountpoint = strdup(options->mountpoint);
	if (m->wake_fd < 0 || !m->main.mountpoint)
		return -ENOMEM;
	return session_new(m, options);
}

int master_mount_new(struct store *store, const struct master_mount_options *options, const struct master_mount_listener *listener,
		     struct master_mount **ret_mount)
{
	struct master_mount *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	int ret = mount_init(m, store, options, listener);
	if (ret < 0)
		master_mount_free(m);
	else
		*ret_mount = m;
	return ret;
}

/* The thread serves; signals are for others. */
static int thread_start(struct master_mount *m)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	atomic_store(&m->serving, true);
	int ret = pthread_create(&m->thread, NULL, thread_main, m);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	m->started = ret == 0;
	return -ret;
}

int master_mount_start(struct master_mount *m)
{
	int ret = mountpoint_check(m);
	if (ret < 0)
		return ret;
	errno = 0;
	if (fuse_session_mount(m->main.session, m->main.mountpoint) != 0)
		return errno ? -errno : -EIO;
	m->main.mounted = true;
	int fd = fuse_session_fd(m->main.session);
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		ret = -errno;
	if (ret == 0)
		ret = thread_start(m);
	if (ret < 0)
		master_mount_stop(m);
	return ret;
}

/* Have the kernel hand over what it holds of written data, while there is somebody to take it. */
static void flush_kernel(struct master_mount *m)
{
	int fd = open(m->main.mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	syncfs(fd);
	close(fd);
}

void master_mount_stop(struct master_mount *m)
{
	if (m->started) {
		if (atomic_load(&m->serving))
			flush_kernel(m);
		atomic_store(&m->stopping, true);
		uint64_t one = 1;
		while (write(m->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(m->thread, NULL);
		m->started = false;
	}
	if (m->main.mounted)
		fuse_session_unmount(m->main.session);
	m->main.mounted = false;
}

void master_mount_free(struct master_mount *m)
{
	if (!m)
		return;
	assert(!m->started);
	if (m->main.session)
		fuse_session_destroy(m->main.session);
	if (m->main.mount)
		live_fini(&m->main.live);
	work_fini(&m->work);
	publish_fini(&m->publish);
	if (m->wake_fd >= 0)
		close(m->wake_fd);
	free(m->main.mountpoint);
	free(m->parked);
	free(m);
}
