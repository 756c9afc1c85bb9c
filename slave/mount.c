/*
 * The life of the slave's mount: making and unmaking it, the threads that serve it, and a stale mount of a killed daemon in its
 * place.
 */
#include "slave/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "drsfs/buffer.h"
#include "drsfs/error.h"
#include "drsfs/log.h"
#include "drsfs/mountpoint.h"
#include "slave/serve.h"

#define THREADS 8 /* more than processors: they wait for the disk */
#define READ_AHEAD_KIB_MIN 2048

extern char **environ;

/* ---- made and freed */

/* Device files and set-user-id programs work as on the master, if we may give them. */
static char *mount_arguments(const struct slave_mount_options *o)
{
	const char *more = o->mount_options ? o->mount_options : "";
	char *text;

	if (asprintf(&text, "ro,default_permissions,fsname=drsfs,subtype=drsfs,max_read=%d%s%s%s%s", READ_BYTES_MAX,
		     geteuid() == 0 ? ",dev,suid" : "", o->allow_other ? ",allow_other" : "", *more ? "," : "", more) < 0)
		return NULL;
	return text;
}

static int new_reader(struct store *store, struct txn **ret_txn)
{
	int error = txn_begin_read(store, ret_txn);

	if (error == 0)
		txn_park(*ret_txn);
	return error;
}

static int new_servers(struct slave_mount *m, unsigned count)
{
	m->servers = calloc(count, sizeof(*m->servers));
	if (!m->servers)
		return -ENOMEM;
	m->servers_count = count;
	for (unsigned i = 0; i < count; i++) {
		m->servers[i].mount = m;
		int error = new_reader(m->store, &m->servers[i].txn);
		if (error == 0)
			error = loader_new(m->store, &m->servers[i].loader);
		if (error < 0)
			return error;
	}
	return 0;
}

/* With the default kind a stream of requests would keep the flip waiting. */
static void init_gate(pthread_rwlock_t *gate)
{
	pthread_rwlockattr_t attributes;

	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(gate, &attributes);
	pthread_rwlockattr_destroy(&attributes);
}

static int build(struct slave_mount *m, const struct slave_mount_options *o)
{
	m->mountpoint = strdup(o->mountpoint);
	m->arguments = mount_arguments(o);
	if (!m->mountpoint || !m->arguments)
		return -ENOMEM;
	int error = nodes_new(&m->nodes);
	if (error == 0)
		error = nodes_give(m->nodes, INO_ROOT, 0, 0, (struct node_place){ 0, 0 }); /* it is never looked up, and never forgotten */
	if (error == 0)
		error = new_reader(m->store, &m->flip_txn);
	if (error == 0)
		error = new_servers(m, o->threads ? o->threads : THREADS);
	if (error == 0 && o->inotify && !o->version)
		error = echo_new(m, &m->echo);
	return error;
}

int slave_mount_new(struct store *store, const struct slave_mount_options *o, void (*ended)(void *user, int error), void *user,
		    struct slave_mount **ret_mount)
{
	struct slave_mount *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->store = store;
	m->fixed = o->version;
	m->ended = ended;
	m->user = user;
	m->echoed = UINT64_MAX;
	init_gate(&m->gate);
	caution_init(&m->caution);
	int error = build(m, o);
	if (error < 0) {
		slave_mount_free(m);
		return error;
	}
	*ret_mount = m;
	return 0;
}

void slave_mount_free(struct slave_mount *m)
{
	if (!m)
		return;
	slave_mount_stop(m);
	echo_free(m->echo);
	for (unsigned i = 0; i < m->servers_count; i++) {
		txn_abort(m->servers[i].txn);
		loader_free(m->servers[i].loader);
		buffer_fini(&m->servers[i].reply);
		free(m->servers[i].request.mem);
	}
	free(m->servers);
	txn_abort(m->flip_txn);
	nodes_free(m->nodes);
	caution_fini(&m->caution);
	pthread_rwlock_destroy(&m->gate);
	free(m->arguments);
	free(m->mountpoint);
	free(m);
}

/* ---- threads */

/* The last thread to leave tells that the mount has ended, unless it was stopped. */
static void leave(struct slave_mount *m, int error)
{
	int none = 0;

	if (error < 0) {
		atomic_compare_exchange_strong(&m->error, &none, error);
		fuse_session_exit(m->session);
	}
	if (atomic_fetch_sub(&m->servers_running, 1) == 1 && !m->stopping && m->ended)
		m->ended(m->user, m->error);
}

/* Cancelled by stop, and only while it waits for a request. */
static void *serve(void *server)
{
	struct server *self = server;
	struct fuse_session *session = self->mount->session;
	int size = 0;

	server_self = self;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	while (!fuse_session_exited(session)) {
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		size = fuse_session_receive_buf(session, &self->request);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		if (size == -EINTR || size == -EAGAIN)
			continue;
		if (size <= 0)
			break;
		fuse_session_process_buf(session, &self->request);
	}
	leave(self->mount, size < 0 && size != -EINTR && size != -EAGAIN ? size : 0);
	return NULL;
}

static int start_servers(struct slave_mount *m)
{
	m->servers_running = m->servers_count;
	while (m->servers_started < m->servers_count) {
		struct server *s = &m->servers[m->servers_started];

		int error = pthread_create(&s->thread, NULL, serve, s);
		if (error != 0)
			return -error;
		m->servers_started++;
	}
	return 0;
}

static void stop_servers(struct slave_mount *m)
{
	fuse_session_exit(m->session);
	for (unsigned i = 0; i < m->servers_started; i++)
		pthread_cancel(m->servers[i].thread);
	for (unsigned i = 0; i < m->servers_started; i++)
		pthread_join(m->servers[i].thread, NULL);
	m->servers_started = 0;
}

/* ---- the place to mount on */

static int open_read_ahead(const char *format, dev_t device, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), format, major(device), minor(device));
	return open(path, flags | O_CLOEXEC);
}

/* What is read ahead of other files on the store's disk; it may be a partition. */
static int disk_read_ahead_kib(const struct slave_mount *m)
{
	char text[16] = "";
	struct stat s;

	if (stat(store_dir(m->store), &s) < 0)
		return 0;
	int fd = open_read_ahead("/sys/class/bdi/%u:%u/read_ahead_kb", s.st_dev, O_RDONLY);
	if (fd < 0)
		fd = open_read_ahead("/sys/dev/block/%u:%u/../queue/read_ahead_kb", s.st_dev, O_RDONLY);
	if (fd < 0)
		return 0;
	ssize_t size = read(fd, text, sizeof(text) - 1);
	close(fd);
	return size > 0 ? atoi(text) : 0;
}

/*
 * The kernel reads 128 KiB ahead on its own account; more is for root to say. As on the disk, so that it is asked for as much as it likes; not less than
 * keeps several threads busy. Best effort.
 */
static void raise_read_ahead(const struct slave_mount *m)
{
	int kib = disk_read_ahead_kib(m);
	struct stat s;

	if (stat(m->mountpoint, &s) < 0 || major(s.st_dev) != 0) /* unmounted by somebody meanwhile: it is the disk below */
		return;
	int fd = open_read_ahead("/sys/class/bdi/%u:%u/read_ahead_kb", s.st_dev, O_WRONLY);
	if (fd < 0)
		return;
	if (dprintf(fd, "%d\n", kib > READ_AHEAD_KIB_MIN ? kib : READ_AHEAD_KIB_MIN) < 0)
		errno = 0;
	close(fd);
}

/* ---- started and stopped */

static int show_first(struct slave_mount *m)
{
	m->shown = m->fixed;
	if (m->fixed)
		return 0;
	int error = txn_resume(m->flip_txn);
	if (error < 0)
		return error;
	m->shown = txn_state(m->flip_txn)->current;
	txn_park(m->flip_txn);
	return 0;
}

static int mount_session(struct slave_mount *m)
{
	char *words[] = { "drsfs", "-o", m->arguments, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, words);

	m->session = fuse_session_new(&args, &slave_operations, sizeof(slave_operations), m);
	fuse_opt_free_args(&args);
	if (!m->session)
		return -EINVAL;
	errno = 0;
	if (fuse_session_mount(m->session, m->mountpoint) < 0)
		return errno ? -errno : -EIO;
	m->mounted = true;
	return 0;
}

/* Without it everything else works. */
static void start_echo(struct slave_mount *m)
{
	if (!m->echo)
		return;
	m->echoed = m->shown;
	int error = echo_start(m->echo);
	if (error == 0)
		return;
	m->echoed = UINT64_MAX;
	log_notice("no inotify events on %s: %s", m->mountpoint, error_text(error));
}

int slave_mount_start(struct slave_mount *m)
{
	int error = mountpoint_prepare(m->mountpoint);

	if (error == 0)
		error = show_first(m);
	if (error == 0)
		error = mount_session(m);
	if (error == 0)
		error = start_servers(m);
	if (error < 0) {
		slave_mount_stop(m);
		return error;
	}
	raise_read_ahead(m); /* is answered by the threads: the mount works */
	start_echo(m);
	return 0;
}

void slave_mount_stop(struct slave_mount *m)
{
	if (!m->session)
		return;
	m->stopping = true;
	stop_servers(m);
	if (m->mounted)
		fuse_session_unmount(m->session);
	m->mounted = false;
	echo_stop(m->echo);
	fuse_session_destroy(m->session);
	m->session = NULL;
}

version_t slave_mount_shown(const struct slave_mount *m)
{
	return m->shown;
}

uint64_t slave_mount_requests(const struct slave_mount *m)
{
	return m->requests;
}

/* What names still lead to is kept by being current; here it is about what they do not lead to any more. */
static bool is_left(struct slave_mount *m, ino_id ino, version_t content_version, version_t from, version_t until)
{
	struct node_held held;

	return nodes_find(m->nodes, node_id_of(ino, content_version), &held) && held.content_version == content_version &&
	       from <= held.left_at && held.left_at < until;
}

/* Directories have one id, whatever content version the master gave them. */
bool slave_mount_holds(void *slave_mount, ino_id ino, version_t content_version, version_t from, version_t until)
{
	return is_left(slave_mount, ino, content_version, from, until) || is_left(slave_mount, ino, 0, from, until);
}

size_t slave_mount_nodes(const struct slave_mount *m)
{
	return nodes_count(m->nodes);
}
