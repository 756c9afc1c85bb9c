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
#include "master/interrupt.h"
#include "master/serve.h"

#define PARKED_SERVED_MAX 64   /* requests that are served while somebody waits for a commit */
#define PATIENCE 10000         /* ns: a busy program asks again within this time; to sleep and be woken would take longer */
#define ROW_MAX 16             /* requests of one tree before a look at the others */
#define DRAIN_MAX 4096         /* more than the kernel has waiting at any time; others may ask on and on */
#define GONE_WAIT 1000000      /* ns: while the helper is awaited, and no request comes */
#define ROOT_BYTES 1024

/* --- replies */

void serve_reply(fuse_req_t req, int ret)
{
	if (ret == 0 && strict_hold(req))
		return;
	if (ret != DEFERRED) {
		fuse_reply_err(req, error_errno(ret));
		return;
	}
	tree_of(req)->mount->defer = true; /* the request itself is kept by who received it */
	fuse_reply_none(req);
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

void serve_commit(struct master_mount *m)
{
	commit(m);
}

static int relieve(void *user)
{
	struct master_mount *m = user;
	int ret = commit(m);
	return ret < 0 ? ret : publish_make_room(&m->publish);
}

/* --- requests that wait for a decision */

static void defer(struct master_mount *m, struct tree *t, const struct fuse_buf *request)
{
	struct deferred *d = malloc(sizeof(*d) + request->size);
	m->defer = false;
	if (!d) {
		request_answer(fuse_session_fd(t->session), interrupt_unique(request), ENOMEM);
		return;
	}
	*d = (struct deferred){ .tree = t, .request = *request };
	d->request.mem = d + 1;
	memcpy(d->request.mem, request->mem, request->size);
	*m->deferred_last = d;
	m->deferred_last = &d->next;
}

/* Who is to end does not wait for his turn. */
static void interrupt_deferred(struct master_mount *m, struct tree *t, uint64_t target)
{
	struct deferred **at = &m->deferred, *d;
	while (*at && ((*at)->tree != t || interrupt_unique(&(*at)->request) != target))
		at = &(*at)->next;
	d = *at;
	if (!d || !interrupt_is_fatal(interrupt_pid(&d->request)))
		return;
	*at = d->next;
	if (!d->next)
		m->deferred_last = at;
	request_answer(fuse_session_fd(t->session), target, EINTR);
	free(d);
}

static void process(struct tree *t, const struct fuse_buf *request)
{
	struct master_mount *m = t->mount;
	uint64_t target = interrupt_target(request);
	if (target)
		interrupt_deferred(m, t, target);
	request_unname(request);
	fuse_session_process_buf(t->session, request);
	if (m->defer)
		defer(m, t, request);
	strict_end(m);
	strict_ask_awaiting(m);
}

void serve_deferred(struct master_mount *m)
{
	struct deferred *d = m->deferred;
	m->deferred = NULL;
	m->deferred_last = &m->deferred;
	while (d) {
		struct deferred *next = d->next;
		process(d->tree, &d->request);
		free(d);
		d = next;
	}
}

void serve_undefer(struct tree *t)
{
	struct master_mount *m = t->mount;
	struct deferred **at = &m->deferred;
	while (*at) {
		struct deferred *d = *at;
		if (d->tree == t) {
			*at = d->next;
			free(d);
		} else {
			at = &d->next;
		}
	}
	m->deferred_last = at;
}

/* --- calls and errands */

static void wake(struct master_mount *m)
{
	uint64_t one = 1;
	while (write(m->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

struct posted {
	struct call call;
	struct master_mount *mount;
	void (*run)(struct master_mount *, void *);
	void *user;
};

static void posted_run(struct call *call)
{
	struct posted *p = (struct posted *)call;
	p->run(p->mount, p->user);
	free(p);
}

int master_mount_call(struct master_mount *m, void (*run)(struct master_mount *, void *), void *user)
{
	struct posted *p = malloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct posted){ .call.run = posted_run, .mount = m, .run = run, .user = user };
	if (!calls_add(&m->calls, &p->call)) {
		free(p);
		return -ESHUTDOWN;
	}
	wake(m);
	return 0;
}

static void calls_run(struct master_mount *m)
{
	struct call *call;
	while ((call = calls_take(&m->calls, false)) != NULL)
		call->run(call);
}

static void errand_back(struct call *call)
{
	struct errand *errand = (struct errand *)call;
	errand->mount->errands--;
	errand->back(errand);
}

static void errand_there(struct call *call)
{
	struct errand *errand = (struct errand *)call;
	struct master_mount *m = errand->mount;
	errand->there(errand);
	errand->call.run = errand_back;
	calls_add(&m->calls, &errand->call); /* it is open as long as somebody is out */
	wake(m);
}

void serve_send(struct master_mount *m, struct helper *helper, struct errand *errand)
{
	errand->mount = m;
	errand->call.run = errand_there;
	m->errands++;
	calls_add(&helper->calls, &errand->call);
}

/* --- the thread */

/* All that may have something for us, beginning behind the one that is hot. True: another one has, and is the hot one now. */
static bool look(struct master_mount *m, const struct timespec *timeout)
{
	size_t count = 0, hot = 0;
	for (struct tree *t = m->batches; t; t = t->next)
		count++;
	if (count + 2 > m->polled_capacity) {
		struct pollfd *polled = realloc(m->polled, (count + 16) * sizeof(*polled));
		if (!polled)
			return false;
		m->polled = polled;
		m->polled_capacity = count + 16;
	}
	m->polled[0] = (struct pollfd){ .fd = m->wake_fd, .events = POLLIN };
	m->polled[1] = (struct pollfd){ .fd = fuse_session_fd(m->main.session), .events = POLLIN };
	count = 2;
	for (struct tree *t = m->batches; t; t = t->next) {
		if (t == m->hot)
			hot = count - 1;
		m->polled[count++] = (struct pollfd){ .fd = fuse_session_fd(t->session), .events = POLLIN };
	}
	m->row = 0;
	if (ppoll(m->polled, count, timeout, NULL) <= 0)
		return false;
	for (size_t i = 1; i < count; i++) {
		size_t at = (hot + i) % (count - 1);
		struct tree *t = at == 0 ? &m->main : m->batches;
		for (size_t n = 1; n < at; n++)
			t = t->next;
		if (m->polled[1 + at].revents) {
			bool other = t != m->hot;
			m->hot = t;
			return other;
		}
	}
	return false;
}

/*
 * Sleep until there is something for us. Only here the wake-up is taken away, as the calls are looked at next: a mere look may be followed by a sleep, over
 * a call that has come since they were.
 */
static void doze(struct master_mount *m, time_ns wait)
{
	uint64_t times;
	look(m, &(struct timespec){ wait / 1000000000, wait % 1000000000 });
	(void)!read(m->wake_fd, &times, sizeof(times));
}

/* Nothing waits: do what is due now, or sleep until something is. */
static int rest(struct master_mount *m, time_ns served_at)
{
	time_ns now = publish_clock();
	time_ns due = publish_due(&m->publish, served_at), tidy = publish_tidy_due(&m->publish, served_at);
	if (m->parked_count || due <= now)
		return commit(m);
	if (tidy <= now) {
		strict_retry(m);
		return publish_tidy(&m->publish, now);
	}
	work_park(&m->work);
	doze(m, (due < tidy ? due : tidy) - now);
	return 0;
}

/* Nobody will ask in this one any more: it was unmounted. */
static void batch_lost(struct master_mount *m, struct tree *t)
{
	m->hot = &m->main;
	batches_close(t, false, NULL, NULL);
}

/* One request of a tree: 1, or 0 if none is there; or what ended the session. */
static int serve_one(struct tree *t)
{
	struct master_mount *m = t->mount;
	int got;
	do
		got = fuse_session_receive_buf(t->session, &m->request);
	while (got == -EINTR);
	if (got > 0)
		process(t, &m->request);
	return got > 0 ? 1 : got == -EAGAIN ? 0 : got == 0 ? -ENODEV : got;
}

void serve_drain(struct tree *t)
{
	for (unsigned n = 0; n < DRAIN_MAX && serve_one(t) == 1; n++)
		;
}

/* The end is asked for: nothing new is begun, and what is under way is ended. */
static void end_begin(struct master_mount *m, void *user)
{
	(void)user;
	if (m->ending)
		return;
	m->ending = true;
	jobs_end(m);
	batches_end(m);
}

/* True: all that was under way has come to its end. */
static bool serve_ending(struct master_mount *m)
{
	end_begin(m, NULL);
	return !m->errands && !m->batches && !m->parked_count;
}

/* Serve until the mount has ended; requests that wait when it is asked to stop are still served, and what the helper is at is awaited. */
static int serve(struct master_mount *m)
{
	time_ns served_at = publish_clock();
	unsigned served_parked = 0;
	int ret = m->work.broken;
	bool gone = false;
	while (ret == 0 || m->errands || m->batches) {
		if (atomic_load(&m->calls.any)) {
			calls_run(m);
			ret = ret == 0 ? m->work.broken : ret;
		}
		bool ending = atomic_load(&m->stopping) || gone || ret < 0;
		struct tree *t = m->hot;
		int got = gone && t == &m->main ? 0 : serve_one(t);
		if (got > 0) {
			served_at = publish_clock();
			served_parked = m->parked_count ? served_parked + 1 : 0;
			if (m->work.broken)
				ret = m->work.broken;
			else if (publish_served(&m->publish, served_at) || served_parked > PARKED_SERVED_MAX)
				ret = commit(m);
			if (m->batches && ++m->row > ROW_MAX)
				look(m, &(struct timespec){ 0 });
		} else if (got < 0 && t != &m->main) {
			batch_lost(m, t);
		} else if (got < 0) {
			gone = true;
			ret = got == -ENODEV ? ret : got;
		} else if (m->batches && look(m, &(struct timespec){ 0 })) {
			continue;
		} else if (ending && serve_ending(m)) {
			break;
		} else if (ret < 0 || gone) {
			if (!atomic_load(&m->calls.any))
				doze(m, GONE_WAIT);
		} else if (publish_clock() - served_at > PATIENCE || m->parked_count) {
			ret = rest(m, served_at);
		}
	}
	end_begin(m, NULL);
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

/* A master that was killed while a batch's commit was undecided may have left finished changes that were not to be sealed then. */
static int pending_find(struct master_mount *m)
{
	struct txn *txn;
	int ret = work_read(&m->work, &txn);
	if (ret < 0)
		return ret;
	m->main.live.finished |= txn_state(txn)->pending && txn_state(txn)->pending_records;
	publish_hold(&m->publish, false);
	return 0;
}

/* What is finished is committed at the end, whatever ended it; what is not, nobody was promised. */
static void *thread_main(void *user)
{
	struct master_mount *m = user;
	prctl(PR_SET_NAME, "drsfs-mount");
	prctl(PR_SET_TIMERSLACK, 1);
	int ret = root_ensure(&m->main.live);
	if (ret == 0)
		ret = pending_find(m);
	if (ret == 0)
		batches_restore(m);
	if (ret < 0)
		work_broken_by(&m->work, ret);
	ret = serve(m);
	if (ret == 0)
		files_end(&m->main);
	int last = commit(m);
	calls_close(&m->calls);
	calls_run(m);
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

/* Does somebody have a file open as it was? */
static bool content_held(void *user, ino_id ino, version_t content_version, version_t from, version_t until)
{
	(void)from, (void)until;
	struct master_mount *m = user;
	bool held = known_keeps(&m->main.known, ino, content_version);
	for (struct tree *t = m->batches; t && !held; t = t->next)
		held = known_keeps(&t->known, ino, content_version);
	return held;
}

static int tidy_more(void *user, size_t work_max, bool *ret_more)
{
	return batches_tidy(user, work_max, ret_more);
}

static int mount_init(struct master_mount *m, struct store *store, const struct master_mount_options *options,
		      const struct master_mount_listener *listener)
{
	m->wake_fd = -1;
	calls_init(&m->calls);
	m->deferred_last = &m->deferred;
	m->hot = &m->main;
	int ret = policy_new(&m->policy);
	if (ret == 0)
		ret = work_init(&m->work, store, relieve, m);
	if (ret < 0)
		return ret;
	publish_init(&m->publish, &m->work, &m->main.live, options, listener);
	m->publish.held = content_held;
	m->publish.tidy_more = tidy_more;
	m->publish.user = m;
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake_fd < 0)
		return -errno;
	ret = tree_init(&m->main, m, NULL, options->mountpoint);
	if (ret == 0)
		ret = helper_start(&m->helper);
	return ret < 0 ? ret : helper_start(&m->writeback);
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
	ret = tree_mount(&m->main);
	if (ret == 0)
		ret = thread_start(m);
	if (ret < 0)
		master_mount_stop(m);
	return ret;
}

void master_mount_stop(struct master_mount *m)
{
	if (m->started) {
		/* What is undecided is aborted first: writing may wait for that. */
		if (atomic_load(&m->serving) && master_mount_call(m, end_begin, NULL) == 0)
			tree_flush(&m->main);
		atomic_store(&m->stopping, true);
		wake(m);
		pthread_join(m->thread, NULL);
		m->started = false;
	}
	tree_unmount(&m->main);
	helper_stop(&m->helper);
	helper_stop(&m->writeback);
}

void master_mount_free(struct master_mount *m)
{
	if (!m)
		return;
	assert(!m->started);
	helper_stop(&m->helper);
	helper_stop(&m->writeback);
	tree_fini(&m->main);
	work_fini(&m->work);
	policy_free(m->policy);
	strict_fini(&m->strict);
	calls_fini(&m->calls);
	free(m->polled);
	batches_fini(m);
	free(m->request.mem);
	publish_fini(&m->publish);
	if (m->wake_fd >= 0)
		close(m->wake_fd);
	free(m->parked);
	free(m);
}
