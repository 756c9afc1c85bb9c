/* The echo's hand: the clone of the mount, the thread, its system calls, and the answers that it gets. See echo.h. */
#include "slave/echo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drsfs/buffer.h"
#include "slave/replay.h"

#define GHOST_TIMEOUT 1e9
#define HIDDEN_NAME ".drsfs-echo"
/* A file handle as FUSE makes them (FILEID_INO64_GEN of the kernel): node id, high half first, and generation. */
#define HANDLE_TYPE 0x81
#define NOBODY (-1)

#define PIECE_BYTES 4096

/*
 * The thread's descriptors are its own. The thread sanitizer, which takes equal numbers for equal descriptors, is not to see them come and go, hence
 * not close().
 */
static int shut(int fd)
{
	return (int)syscall(SYS_close, fd);
}

/* ---- ghosts */

static node_id ghost_of(uint64_t number, uint8_t type)
{
	return (number & 0xffffff) << 40 | (NODE_ID_INO_MAX - type % GHOST_TYPES);
}

#define HIDDEN_NUMBER 0
#define HIDDEN_ID ghost_of(HIDDEN_NUMBER, DT_DIR)

/* Ids come round again, with another generation, after 2^24 ghosts; not that of the hidden directory. */
static uint64_t next_number(struct echo *e)
{
	if ((++e->ghosts & 0xffffff) == HIDDEN_NUMBER)
		e->ghosts++;
	return e->ghosts;
}

bool echo_attributes(node_id id, struct stat *ret_stat)
{
	if (!node_id_is_ghost(id))
		return false;
	mode_t type = DTTOIF((mode_t)(NODE_ID_INO_MAX - (id & NODE_ID_INO_MAX)));
	/* owned by the echo, so that the kernel looks for no ACL */
	*ret_stat = (struct stat){ .st_ino = id, .st_mode = type | 0700, .st_nlink = S_ISDIR(type) ? 2 : 1, .st_uid = geteuid(), .st_gid = getegid() };
	return true;
}

static void give_ghost(uint64_t number, uint8_t type, struct fuse_entry_param *ret_entry)
{
	node_id id = ghost_of(number, type);

	*ret_entry = (struct fuse_entry_param){ .ino = id, .generation = number >> 24, .attr_timeout = GHOST_TIMEOUT };
	echo_attributes(id, &ret_entry->attr);
}

/* ---- answers, on the mount's threads */

bool echo_asks(const struct echo *e, fuse_req_t request)
{
	return e && fuse_req_ctx(request)->pid == e->id;
}

static struct stand *stand_at(struct echo *e, node_id parent, const char *name)
{
	for (unsigned i = 0; i < STANDS_MAX; i++)
		if (e->stands[i].parent == parent && strcmp(e->stands[i].name, name) == 0)
			return &e->stands[i];
	return NULL;
}

static bool is_content_gone(struct visit *v, ino_id ino, const struct node *node)
{
	struct node now;

	return visit_inode(v->txn, v->view, ino, &now, NULL) < 0 || node_content_version(&now) != node_content_version(node);
}

/* A node that is shown no more has one name, the one that the echo is about to take. */
static int give_node(struct visit *v, const struct stand *s, struct fuse_entry_param *ret_entry)
{
	struct view view = { .version = s->version };
	struct node node;

	int error = visit_inode(v->txn, view, s->ino, &node, NULL);
	if (error < 0)
		return error;
	version_t left_at = is_content_gone(v, s->ino, &node) ? s->version : 0;
	version_t content_version = node_content_version(&node);
	error = nodes_give(v->mount->nodes, s->ino, content_version, left_at, (struct node_place){ 0, 0 });
	if (error < 0)
		return error;
	*ret_entry = (struct fuse_entry_param){
		.ino = node_id_of(s->ino, content_version),
		.generation = node_id_generation(content_version),
	};
	visit_attributes(v, s->ino, &node, &ret_entry->attr);
	if (left_at)
		ret_entry->attr.st_nlink = S_ISDIR(node.mode) ? 2 : 1;
	return 0;
}

int echo_look_up(struct visit *v, node_id parent, const char *name, struct fuse_entry_param *ret_entry)
{
	struct echo *e = v->mount->echo;
	struct stand *at, stand = { 0 };

	pthread_mutex_lock(&e->lock);
	at = stand_at(e, parent, name);
	if (at)
		stand = *at;
	pthread_mutex_unlock(&e->lock);
	*ret_entry = (struct fuse_entry_param){ 0 };
	if (!at && parent == INO_ROOT && strcmp(name, HIDDEN_NAME) == 0)
		give_ghost(HIDDEN_NUMBER, DT_DIR, ret_entry);
	else if (!at && !node_id_is_ghost(parent))
		return visit_look_up(v, parent, name, ret_entry);
	else if (stand.is == STAND_GHOST)
		give_ghost(stand.number, stand.type, ret_entry);
	else if (stand.is == STAND_NODE)
		return give_node(v, &stand, ret_entry);
	return 0;
}

bool echo_make(struct echo *e, node_id parent, const char *name, mode_t mode, struct fuse_entry_param *ret_entry)
{
	struct stand *stand;

	pthread_mutex_lock(&e->lock);
	stand = stand_at(e, parent, name);
	if (stand && stand->is == STAND_NOTHING) {
		stand->is = STAND_GHOST;
		stand->number = next_number(e);
		stand->type = (uint8_t)IFTODT(mode);
		give_ghost(stand->number, stand->type, ret_entry);
	} else {
		stand = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	return stand != NULL;
}

/* ---- taking turns */

void echo_flip_begin(struct echo *e)
{
	if (!e)
		return;
	atomic_fetch_add(&e->flips_waiting, 1);
	pthread_mutex_lock(&e->turn);
	atomic_fetch_sub(&e->flips_waiting, 1);
}

static void wake(struct echo *e)
{
	eventfd_write(e->wake, 1);
}

void echo_flip_end(struct echo *e)
{
	if (!e)
		return;
	pthread_cond_signal(&e->passed);
	pthread_mutex_unlock(&e->turn);
	wake(e);
}

void echo_turn_begin(struct echo *e)
{
	pthread_mutex_lock(&e->turn);
	while (e->flips_waiting > 0)
		pthread_cond_wait(&e->passed, &e->turn);
}

void echo_turn_end(struct echo *e)
{
	pthread_mutex_unlock(&e->turn);
}

/* ---- what the kernel is shown */

static void stand_set(struct echo *e, unsigned index, struct stand stand)
{
	pthread_mutex_lock(&e->lock);
	if (stand.is == STAND_GHOST)
		stand.number = next_number(e);
	e->stands[index] = stand;
	pthread_mutex_unlock(&e->lock);
}

static void stand_nothing(struct echo *e, unsigned index, struct spot at)
{
	stand_set(e, index, (struct stand){ .parent = at.dir, .name = at.name, .is = STAND_NOTHING });
}

static void stand_ghost(struct echo *e, unsigned index, struct spot at, uint8_t type)
{
	stand_set(e, index, (struct stand){ .parent = at.dir, .name = at.name, .is = STAND_GHOST, .type = type });
}

static void stand_node(struct echo *e, unsigned index, struct spot at, ino_id ino, version_t version)
{
	stand_set(e, index, (struct stand){ .parent = at.dir, .name = at.name, .is = STAND_NODE, .ino = ino, .version = version });
}

static void stands_end(struct echo *e)
{
	pthread_mutex_lock(&e->lock);
	memset(e->stands, 0, sizeof(e->stands));
	pthread_mutex_unlock(&e->lock);
}

/* After the stands are gone, so that the error of what was done comes out. */
static int done(struct echo *e, int result)
{
	int error = result < 0 ? -errno : 0;

	stands_end(e);
	return error;
}

static struct spot hidden_spot(const struct echo *e, const char *name)
{
	return (struct spot){ .dir = HIDDEN_ID, .fd = e->hidden, .name = name };
}

void echo_close(int fd)
{
	shut(fd);
}

int echo_open(struct echo *e, ino_id dir)
{
	struct {
		struct file_handle head;
		uint32_t words[3];
	} handle = { .head = { .handle_bytes = sizeof(handle.words), .handle_type = HANDLE_TYPE }, .words = { dir >> 32, (uint32_t)dir, 0 } };
	int fd = open_by_handle_at(e->root, &handle.head, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int open_and_close(struct spot at)
{
	int fd = openat(at.fd, at.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? fd : shut(fd);
}

/* Both times: attributes were changed; the time of modification alone: content was. */
static int set_times(struct spot at, bool both)
{
	struct timespec times[2] = { { .tv_nsec = both ? 0 : UTIME_OMIT }, { .tv_nsec = 0 } };

	return utimensat(at.fd, at.name, times, AT_SYMLINK_NOFOLLOW);
}

static int modify(struct spot at)
{
	int fd = openat(at.fd, at.name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int result = set_times(at, false);

	return fd < 0 ? fd : shut(fd) | result;
}

int echo_created(struct echo *e, struct spot at, uint8_t type, bool link)
{
	stand_nothing(e, 0, at);
	if (type == DT_DIR)
		return done(e, mkdirat(at.fd, at.name, 0700));
	if (type == DT_LNK)
		return done(e, symlinkat("-", at.fd, at.name));
	int result = mknodat(at.fd, at.name, DTTOIF((mode_t)type) | 0600, 0);
	if (result == 0 && type == DT_REG && !link)
		result = open_and_close(at);
	return done(e, result);
}

int echo_written(struct echo *e, struct spot at)
{
	stand_ghost(e, 0, at, DT_REG);
	return done(e, modify(at));
}

int echo_attributes_changed(struct echo *e, struct spot at, uint8_t type, bool held)
{
	if (!held)
		stand_ghost(e, 0, at, type);
	return done(e, set_times(at, true));
}

int echo_deleted(struct echo *e, struct spot at, uint8_t type)
{
	stand_ghost(e, 0, at, type);
	return done(e, unlinkat(at.fd, at.name, type == DT_DIR ? AT_REMOVEDIR : 0));
}

/* The kernel is told that a hidden name is gone, so that it does not hold the node by it. */
static void hide_again(struct echo *e, struct spot at)
{
	struct stat s;

	stand_nothing(e, 0, at);
	fstatat(at.fd, at.name, &s, AT_SYMLINK_NOFOLLOW);
}

int echo_renamed(struct echo *e, struct spot from, struct spot to, uint8_t type, ino_id ino, version_t version)
{
	bool away = to.fd < 0;

	if (from.fd < 0)
		from = hidden_spot(e, "node");
	if (away)
		to = hidden_spot(e, "moved");
	if (ino)
		stand_node(e, 0, from, ino, version);
	else
		stand_ghost(e, 0, from, type);
	stand_nothing(e, 1, to);
	int result = renameat(from.fd, from.name, to.fd, to.name);
	int error = result < 0 ? -errno : 0;
	if (away)
		hide_again(e, to);
	stands_end(e);
	return error;
}

int echo_links_changed(struct echo *e, ino_id ino, version_t version)
{
	struct spot at = hidden_spot(e, "node");

	stand_node(e, 0, at, ino, version);
	int result = set_times(at, true);
	int error = result < 0 ? -errno : 0;
	hide_again(e, at);
	stands_end(e);
	return error;
}

int echo_ended(struct echo *e, ino_id ino, version_t version, uint8_t type, bool written)
{
	struct spot at = hidden_spot(e, "node");

	stand_node(e, 0, at, ino, version);
	if (written)
		modify(at); /* not if it is a program that runs */
	return done(e, unlinkat(at.fd, at.name, type == DT_DIR ? AT_REMOVEDIR : 0));
}

/* ---- the thread */

/* All of a small file of the kernel's, closed by a 0; NULL: it cannot be read. */
static char *read_whole(const char *path)
{
	int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	struct buffer b = BUFFER_INIT;
	long size = fd < 0 ? -1 : 1;

	while (size > 0 && buffer_grow(&b, PIECE_BYTES)) {
		size = syscall(SYS_read, fd, b.data + b.size - PIECE_BYTES, PIECE_BYTES);
		b.size -= (size_t)(PIECE_BYTES - (size > 0 ? size : 0));
	}
	shut(fd);
	buffer_add_u8(&b, 0);
	if (size == 0 && !b.failed)
		return (char *)b.data;
	buffer_fini(&b);
	return NULL;
}

static bool is_mounted(const struct echo *e)
{
	char *mounts = read_whole("/proc/thread-self/mountinfo");
	bool found = !mounts;

	for (const char *line = mounts; line && !found; line = strchr(line, '\n')) {
		line += *line == '\n';
		found = strtoull(line, NULL, 10) == e->mount_id;
	}
	free(mounts);
	return found;
}

static int keep_only(int a, int b)
{
	unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);

	if (unshare(CLONE_FILES) < 0)
		return -errno;
	if (low > 3 && close_range(3, low - 1, 0) < 0)
		return -errno;
	if (high > low + 1 && close_range(low + 1, high - 1, 0) < 0)
		return -errno;
	return close_range(high + 1, ~0U, 0) < 0 ? -errno : 0;
}

static int begin(struct echo *e)
{
	int error = keep_only(e->tree, e->wake);

	if (error < 0)
		return error;
	e->id = gettid();
	e->root = openat(e->tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* file handles want more than an O_PATH descriptor */
	if (e->root < 0)
		return -errno;
	e->hidden = openat(e->tree, HIDDEN_NAME, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return e->hidden < 0 ? -errno : 0;
}

static void follow(struct echo *e, int mounts)
{
	struct pollfd ready[] = { { .fd = e->wake, .events = POLLIN }, { .fd = mounts, .events = POLLPRI } };
	eventfd_t count;

	while (!e->stopping && (poll(ready, 2, -1) > 0 || errno == EINTR)) {
		if ((ready[1].revents & (POLLPRI | POLLERR)) && !is_mounted(e))
			break;
		if (ready[0].revents & POLLIN)
			eventfd_read(e->wake, &count);
		replay(e);
	}
}

static void *run(void *echo)
{
	struct echo *e = echo;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	e->error = begin(e);
	bool failed = e->error < 0;
	if (failed)
		e->id = NOBODY;
	sem_post(&e->ready);
	if (failed)
		return NULL;
	int mounts = openat(AT_FDCWD, "/proc/thread-self/mountinfo", O_RDONLY | O_CLOEXEC);
	follow(e, mounts);
	shut(mounts);
	shut(e->hidden);
	shut(e->root);
	shut(e->tree); /* perhaps the last that keeps the file system */
	e->id = NOBODY;
	e->mount->echoed = UINT64_MAX;
	return NULL;
}

/* ---- made and freed */

static int clone_mount(struct echo *e)
{
	struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };
	struct statx s;

	if (statx(AT_FDCWD, e->mount->mountpoint, AT_STATX_DONT_SYNC, STATX_MNT_ID, &s) < 0)
		return -errno;
	e->mount_id = s.stx_mnt_id;
	e->tree = open_tree(AT_FDCWD, e->mount->mountpoint, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (e->tree < 0 || mount_setattr(e->tree, "", AT_EMPTY_PATH, &writable, sizeof(writable)) < 0)
		return -errno;
	/* The file system, as against its mounts, was made read-only with the mount. */
	int fs = fspick(e->tree, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
	if (fs < 0)
		return -errno;
	int error = fsconfig(fs, FSCONFIG_SET_FLAG, "rw", NULL, 0) < 0 || fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0 ? -errno : 0;
	close(fs);
	return error;
}

int echo_start(struct echo *e)
{
	int error = clone_mount(e);

	if (error == 0)
		error = -pthread_create(&e->thread, NULL, run, e);
	if (error == 0) {
		while (sem_wait(&e->ready) < 0 && errno == EINTR)
			;
		error = e->error;
		if (error < 0)
			pthread_join(e->thread, NULL);
	}
	if (e->tree >= 0)
		close(e->tree); /* the thread has its own */
	e->started = error == 0;
	return error;
}

void echo_stop(struct echo *e)
{
	if (!e || !e->started)
		return;
	e->stopping = true;
	wake(e);
	pthread_join(e->thread, NULL);
	e->started = false;
}

int echo_new(struct slave_mount *m, struct echo **ret_echo)
{
	struct echo *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->mount = m;
	e->id = NOBODY;
	e->tree = e->hidden = -1;
	sem_init(&e->ready, 0, 0);
	pthread_mutex_init(&e->turn, NULL);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->passed, NULL);
	e->wake = eventfd(0, EFD_CLOEXEC);
	int error = e->wake < 0 ? -errno : txn_begin_read(m->store, &e->txn);
	if (error < 0) {
		echo_free(e);
		return error;
	}
	txn_park(e->txn);
	*ret_echo = e;
	return 0;
}

void echo_free(struct echo *e)
{
	if (!e)
		return;
	echo_stop(e);
	txn_abort(e->txn);
	if (e->wake >= 0)
		close(e->wake);
	replay_fini(e);
	sem_destroy(&e->ready);
	pthread_cond_destroy(&e->passed);
	pthread_mutex_destroy(&e->turn);
	pthread_mutex_destroy(&e->lock);
	free(e);
}
