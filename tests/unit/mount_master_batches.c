/*
 * Batches on the master's mount (R4): views of their own, kept over a restart, committed as one version, merged or refused; what the live tree may do
 * meanwhile.
 */
#include <poll.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "tests/unit/mount_master_fixture.h"

/* --- calls, waited for */

struct asked {
	struct fixture *f;
	sem_t done;
	const char *name;
	uint32_t id;
	struct commit_options options;
	int error;
	struct batch_info info;
	char path[PATH_MAX];
	version_t version;
	size_t conflicts;
	char text[8192]; /* paths, or changes, a line each */
};

static void ask(struct asked *a, void (*run)(struct master_mount *, void *))
{
	sem_init(&a->done, 0, 0);
	cr_assert(eq(int, master_mount_call(a->f->mount, run, a), 0));
}

static void answered(struct asked *a, int error)
{
	a->error = error;
	sem_post(&a->done);
}

static void wait_for(struct asked *a)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	cr_assert(eq(int, sem_timedwait(&a->done, &until), 0), "an answer in time");
}

static void begun(void *user, int error, const struct batch_info *info, const char *path)
{
	struct asked *a = user;
	if (error == 0) {
		a->info = *info;
		snprintf(a->path, sizeof(a->path), "%s", path);
	}
	answered(a, error);
}

static void run_begin(struct master_mount *m, void *user)
{
	struct asked *a = user;
	batches_begin(m, a->name, begun, a);
}

/* Begin one; gives its path below the mountpoint. */
static const char *begin(struct fixture *f, const char *name, uint32_t *ret_id)
{
	static char paths[4][64];
	static unsigned next;
	struct asked a = { .f = f, .name = name };
	ask(&a, run_begin);
	wait_for(&a);
	cr_assert(eq(int, a.error, 0));
	cr_expect(eq(int, access(a.path, F_OK), 0));
	*ret_id = a.info.id;
	char *path = paths[next++ % ARRAY_SIZE(paths)];
	snprintf(path, sizeof(paths[0]), ".drsfs/batch/%u", a.info.id);
	return path;
}

static void committed(void *user, const struct batch_outcome *outcome)
{
	struct asked *a = user;
	a->version = outcome->version;
	a->conflicts = outcome->conflicts;
	a->text[0] = 0;
	for (size_t i = 0; i < outcome->paths_count; i++) {
		strncat(a->text, outcome->paths[i], sizeof(a->text) - strlen(a->text) - 2);
		strcat(a->text, "\n");
	}
	answered(a, outcome->error);
}

static void run_commit(struct master_mount *m, void *user)
{
	struct asked *a = user;
	batches_commit(m, a->id, &a->options, committed, a);
}

static int commit(struct asked *a)
{
	ask(a, run_commit);
	wait_for(a);
	return a->error;
}

static int commit_batch(struct fixture *f, uint32_t id)
{
	struct asked a = { .f = f, .id = id };
	return commit(&a);
}

static void aborted(void *user, int error)
{
	answered(user, error);
}

static void run_abort(struct master_mount *m, void *user)
{
	struct asked *a = user;
	batches_abort(m, a->id, aborted, a);
}

static int abort_batch(struct fixture *f, uint32_t id)
{
	struct asked a = { .f = f, .id = id };
	ask(&a, run_abort);
	wait_for(&a);
	return a.error;
}

static void list_one(void *user, const struct batch_status *status)
{
	struct asked *a = user;
	size_t used = strlen(a->text);
	snprintf(a->text + used, sizeof(a->text) - used, "%u %s %s%s\n", status->info.id, status->info.name, status->path ? "mounted" : "-",
		 status->committing ? " committing" : "");
}

static void run_list(struct master_mount *m, void *user)
{
	struct asked *a = user;
	answered(a, batches_list(m, list_one, a));
}

static void expect_list(struct fixture *f, const char *expected)
{
	struct asked a = { .f = f };
	for (int i = 0; i < 100; i++) { /* views are mounted again a moment after the start */
		a.text[0] = 0;
		ask(&a, run_list);
		wait_for(&a);
		if (strcmp(a.text, expected) == 0)
			break;
		usleep(20000);
	}
	cr_expect(eq(int, a.error, 0));
	cr_expect(eq(str, a.text, (char *)(uintptr_t)expected));
}

static void diffed(void *user, int error, const struct batch_change *changes, size_t count)
{
	static const char kinds[] = "+-*";
	struct asked *a = user;
	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(a->text);
		snprintf(a->text + used, sizeof(a->text) - used, "%c %s\n", kinds[changes[i].kind], changes[i].path);
	}
	answered(a, error);
}

static void run_diff(struct master_mount *m, void *user)
{
	struct asked *a = user;
	batches_diff(m, a->id, diffed, a);
}

static void expect_diff(struct fixture *f, uint32_t id, const char *expected)
{
	struct asked a = { .f = f, .id = id };
	ask(&a, run_diff);
	wait_for(&a);
	cr_expect(eq(int, a.error, 0));
	cr_expect(eq(str, a.text, (char *)(uintptr_t)expected));
}

/* --- views */

/* R4.5: what is written in one place is not seen in the other, until the commit. */
Test(batches, views_are_apart_until_the_commit, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	put_file(&f, "config", "old");
	put_file(&f, "gone", "x");
	cr_expect(eq(int, shell(&f, "mkdir dir && echo one > dir/one"), 0));
	const char *view = begin(&f, "first", &id);
	cr_expect(eq(int, shell(&f, "test \"$(ls)\" = \"$(ls %s)\" && test \"$(cat %s/config)\" = old", view, view), 0));
	cr_expect(eq(int, shell(&f, "cd %s && echo new > config && rm gone && mkdir -p a/b && echo deep > a/b/c && mv dir moved && ln config hard",
				view), 0));
	cr_expect(eq(int, shell(&f, "test \"$(cat config)\" = old && test -e gone && test ! -e a && test -e dir/one && test ! -e hard"), 0));
	put_file(&f, "live", "l");
	cr_expect(eq(int, shell(&f, "test ! -e %s/live", view), 0));
	expect_diff(&f, id, "+ a\n+ a/b\n+ a/b/c\n* config\n- dir\n- gone\n+ hard\n+ moved\n");
	struct asked a = { .f = &f, .id = id };
	cr_expect(eq(int, commit(&a), 0), "%s", a.text);
	cr_expect(eq(int, shell(&f, "test \"$(cat config)\" = new && test ! -e gone && test \"$(cat a/b/c)\" = deep && test -e moved/one && "
				    "test ! -e dir && test -e live && test $(stat -c %%h config) = 2 && test $(stat -c %%s config) = 4"), 0));
	cr_expect(eq(int, shell(&f, "test ! -e %s", view), 0));
	expect_list(&f, "");
	shows(f, "config", "new\n");
	FIXTURE_END(f);
}

/* R4.8: open batches and what they hold survive a restart. */
Test(batches, restart_keeps_them, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id, other;
	put_file(&f, "a", "1");
	const char *view = begin(&f, "kept", &id);
	begin(&f, "", &other);
	cr_expect(eq(int, shell(&f, "echo 2 > %s/a && head -c 300000 /dev/zero > %s/big", view, view), 0));
	fixture_down(&f);
	fixture_up(&f);
	expect_list(&f, "1 kept mounted\n2  mounted\n");
	cr_expect(eq(int, shell(&f, "test $(cat %s/a) = 2 && test $(stat -c %%s %s/big) = 300000 && test $(cat a) = 1", view, view), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(int, shell(&f, "test $(cat a) = 2 && test -e big"), 0));
	expect_list(&f, "2  mounted\n");
	FIXTURE_END(f);
}

Test(batches, abort_leaves_nothing, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "cp -a /usr/include/linux %s/", view), 0));
	cr_expect(eq(int, abort_batch(&f, id), 0));
	cr_expect(eq(int, abort_batch(&f, id), -ENOENT));
	cr_expect(eq(int, commit_batch(&f, id), -ENOENT));
	cr_expect(eq(int, shell(&f, "test ! -e linux && test ! -e %s", view), 0));
	expect_list(&f, "");
	FIXTURE_END(f);
}

/* A call that comes between the mount's thread having looked for calls and its look at the kernel. */
static struct {
	struct master_mount *_Atomic mount; /* of which thread; NULL: it has come */
	atomic_bool posted, run, slept_over;
} between;

static void run_between(struct master_mount *m, void *user)
{
	(void)m, (void)user;
	atomic_store(&between.run, true);
}

/* Stands before the C library's. */
int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	bool sleeps = !timeout || timeout->tv_sec || timeout->tv_nsec;
	struct timespec left = timeout ? *timeout : (struct timespec){ 0 };
	struct master_mount *m = sleeps ? NULL : atomic_exchange(&between.mount, NULL);
	if (m)
		atomic_store(&between.posted, master_mount_call(m, run_between, NULL) == 0);
	int got = (int)syscall(SYS_ppoll, fds, count, timeout ? &left : NULL, mask, sizeof(uint64_t));
	if (sleeps && got == 0 && atomic_load(&between.posted) && !atomic_load(&between.run))
		atomic_store(&between.slept_over, true);
	return got;
}

Test(batches, a_call_is_not_slept_over, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	begin(&f, "", &id);
	atomic_store(&between.mount, f.mount);
	expect_list(&f, "1  mounted\n"); /* to be awake for */
	while (!atomic_load(&between.run))
		usleep(1000);
	cr_expect(not(atomic_load(&between.slept_over)), "it waited until something else was due");
	FIXTURE_END(f);
}

/* The hidden directory is found, not listed, and nobody can make or take its name, nor move things into or out of a view. */
Test(batches, hidden_directory, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	put_file(&f, "file", "x");
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "test -z \"$(ls -A | grep drsfs)\" && test \"$(ls .drsfs)\" = batch && test $(ls .drsfs/batch) = %u", id), 0));
	cr_expect(eq(int, shell(&f, "test $(stat -c %%a .drsfs) = 700"), 0));
	cr_expect(eq(int, mkdir(at(&f, ".drsfs/x"), 0755), -1));
	cr_expect(eq(int, errno, EROFS));
	cr_expect(eq(int, mkdir(at(&f, "other"), 0755), 0));
	cr_expect(eq(int, rename(at(&f, "other"), at(&f, ".drsfs")), -1));
	cr_expect(eq(int, rename(at(&f, ".drsfs"), at(&f, "elsewhere")), -1));
	char in_view[128];
	snprintf(in_view, sizeof(in_view), "%s/.drsfs", view);
	cr_expect(eq(int, mkdir(at(&f, in_view), 0755), -1));
	cr_expect(eq(int, errno, EPERM));
	snprintf(in_view, sizeof(in_view), "%s/moved", view);
	cr_expect(eq(int, rename(at(&f, "file"), at(&f, in_view)), -1));
	cr_expect(eq(int, errno, EXDEV));
	cr_expect(eq(int, link(at(&f, "file"), at(&f, in_view)), -1));
	cr_expect(eq(int, errno, EXDEV));
	struct stat live, batch;
	cr_expect(eq(int, stat(at(&f, "file"), &live), 0));
	snprintf(in_view, sizeof(in_view), "%s/file", view);
	cr_expect(eq(int, stat(at(&f, in_view), &batch), 0));
	cr_expect(ne(long, (long)live.st_dev, (long)batch.st_dev));
	FIXTURE_END(f);
}

/* R4.2: a batch is as good a file system as the tree itself. */
Test(batches, a_tree_copied_into_a_batch, .timeout = 60)
{
	FIXTURE(f);
	uint32_t id;
	cr_expect(eq(int, shell(&f, "cp -a /usr/include/linux ."), 0));
	const char *view = begin(&f, "tree", &id);
	cr_expect(eq(int, shell(&f, "cd %s && cp -a /usr/include/x86_64-linux-gnu/sys . && rm -r linux/netfilter && ln -s x y && mkfifo p && "
				    "setfattr -n user.a -v b sys 2>/dev/null; mv linux/acct.h sys/; chmod 700 linux", view), 0));
	cr_expect(eq(int, shell(&f, "rm -rf /tmp/$$-expected; cp -a %s /tmp/$$-expected && echo $$ > ../pid", view), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(int, shell(&f, "p=/tmp/$(cat ../pid)-expected; test -z \"$(rsync -aHAXin --timeout=20 --checksum --delete $p/ ./)\"; r=$?; "
				    "rm -rf $p; exit $r"), 0));
	fixture_down(&f);
	fixture_up(&f);
	cr_expect(eq(int, shell(&f, "test -e sys/acct.h && test ! -e linux/netfilter && test $(stat -c %%a linux) = 700 && test -p p"), 0));
	FIXTURE_END(f);
}

/* --- conflicts and merges */

/* R4.7: the same file on both sides is a conflict, told by its path; elsewhere is none. */
Test(batches, conflicts_are_told_by_path, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	cr_expect(eq(int, shell(&f, "mkdir -p dir/sub && echo 1 > dir/sub/both && echo 1 > dir/live && echo 1 > dir/batch"), 0));
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "echo 2 > %s/dir/sub/both && echo 2 > %s/dir/batch && echo n > %s/dir/new-b", view, view, view), 0));
	cr_expect(eq(int, shell(&f, "echo 3 > dir/sub/both && echo 3 > dir/live && echo n > dir/new-l"), 0));
	struct asked a = { .f = &f, .id = id };
	cr_expect(eq(int, commit(&a), -DRS_ECONFLICT));
	cr_expect(eq(str, a.text, (char *)"dir/sub/both\n"));
	cr_expect(eq(int, shell(&f, "test $(cat dir/sub/both) = 3 && test $(cat %s/dir/sub/both) = 2 && test $(cat dir/batch) = 1", view), 0));
	/* Taken back on the batch's side there is none. */
	uint32_t other;
	const char *second = begin(&f, "", &other);
	cr_expect(eq(int, shell(&f, "echo 4 > %s/dir/batch && echo n > %s/dir/new-b", second, second), 0));
	cr_expect(eq(int, shell(&f, "echo 5 > dir/live && echo n > dir/newer-l"), 0));
	a = (struct asked){ .f = &f, .id = other };
	cr_expect(eq(int, commit(&a), 0), "%s", a.text);
	cr_expect(eq(int, shell(&f, "test $(cat dir/batch) = 4 && test $(cat dir/live) = 5 && test -e dir/new-b && test -e dir/newer-l && "
				    "test \"$(ls dir | xargs)\" = 'batch live new-b new-l newer-l sub'"), 0));
	cr_expect(eq(int, abort_batch(&f, id), 0));
	FIXTURE_END(f);
}

/* A file that is being written in the live tree is a conflict though nothing of it is published. */
Test(batches, live_writers_are_conflicts, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	put_file(&f, "file", "1");
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "echo 2 > %s/file", view), 0));
	int fd = open(at(&f, "file"), O_WRONLY | O_APPEND);
	cr_assert(eq(long, write(fd, "more", 4), 4));
	cr_expect(eq(int, sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER), 0));
	struct asked a = { .f = &f, .id = id };
	cr_expect(eq(int, commit(&a), -DRS_ECONFLICT));
	cr_expect(eq(str, a.text, (char *)"file\n"));
	close(fd);
	FIXTURE_END(f);
}

/* What is still open for writing in the view is not committed half. */
Test(batches, writers_in_the_view_are_told, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	char name[128];
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "mkdir %s/dir", view), 0));
	snprintf(name, sizeof(name), "%s/dir/open", view);
	int fd = open(at(&f, name), O_CREAT | O_WRONLY, 0644);
	cr_assert(eq(long, write(fd, "more", 4), 4));
	struct asked a = { .f = &f, .id = id };
	cr_expect(eq(int, commit(&a), -ETXTBSY));
	cr_expect(eq(str, a.text, (char *)"dir/open\n"));
	close(fd);
	cr_expect(eq(int, commit_batch(&f, id), 0));
	holds(f, "dir/open", "more");
	FIXTURE_END(f);
}

Test(batches, an_empty_one_makes_no_version, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	put_file(&f, "file", "1");
	begin(&f, "", &id);
	sync_all(&f);
	version_t before = atomic_load(&f.published);
	struct asked a = { .f = &f, .id = id };
	cr_expect(eq(int, commit(&a), 0));
	cr_expect(eq(ulong, a.version, before));
	expect_list(&f, "");
	FIXTURE_END(f);
}

/* --- what the kernel had of it */

/* F3: an open file keeps what it was; who opens it anew gets the new one, with its size and time; listings and negative answers are fresh. */
Test(batches, open_files_keep_their_content, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	struct stat was, is;
	char text[32] = "";
	cr_expect(eq(int, shell(&f, "mkdir dir && printf 'old content' > dir/file && echo x > dir/gone && test ! -e dir/new && ls dir >/dev/null"), 0));
	int fd = open(at(&f, "dir/file"), O_RDONLY), gone = open(at(&f, "dir/gone"), O_RDONLY);
	cr_assert(eq(int, fstat(fd, &was), 0));
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "cd %s/dir && printf 'new' > file && touch -d 2001-01-01 file && rm gone && echo n > new", view), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(long, pread(fd, text, sizeof(text) - 1, 0), 11));
	cr_expect(eq(str, text, (char *)"old content"));
	cr_expect(eq(int, fstat(fd, &is), 0));
	cr_expect(eq(long, is.st_size, was.st_size));
	cr_expect(eq(long, is.st_mtim.tv_sec, was.st_mtim.tv_sec));
	cr_expect(eq(long, pread(gone, text, sizeof(text), 0), 2));
	cr_expect(eq(int, stat(at(&f, "dir/file"), &is), 0));
	cr_expect(eq(long, is.st_size, 3));
	cr_expect(eq(long, (long)is.st_ino, (long)was.st_ino));
	holds(f, "dir/file", "new");
	cr_expect(eq(int, shell(&f, "test $(stat -c %%y dir/file | cut -c1-10) = 2001-01-01 && test \"$(ls dir | xargs)\" = 'file new' && test -e dir/new"), 0));
	close(fd);
	close(gone);
	put_file(&f, "dir/file", "newer still");
	holds(f, "dir/file", "newer still");
	shows(f, "unrelated", "(none)");
	FIXTURE_END(f);
}

/* A writer that had the file open before cannot change the committed one; one that opens it anew can. */
Test(batches, old_handles_cannot_write, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	put_file(&f, "file", "old");
	int fd = open(at(&f, "file"), O_RDWR);
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "printf 'new' > %s/file", view), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(long, write(fd, "bad", 3), 3)); /* as far as the kernel */
	cr_expect(eq(int, fsync(fd), -1));
	close(fd);
	holds(f, "file", "new");
	put_file(&f, "file", "live");
	shows(f, "file", "live");
	FIXTURE_END(f);
}

/* --- a decision that takes its time */

static struct {
	sem_t proposed;
	version_t version, base;
	char message[201];
	size_t delta_bytes;
	sem_t decided;
	int error;
} job;

static void on_propose(void *user, const struct batch_info *info, const struct commit_options *options, struct slice inline_delta)
{
	(void)user, (void)options;
	job.version = info->proposed;
	job.base = info->base;
	snprintf(job.message, sizeof(job.message), "%s", info->message);
	job.delta_bytes = inline_delta.size;
	sem_post(&job.proposed);
}

static void on_decided(void *user, version_t version, bool decided_commit, int error)
{
	(void)user, (void)version, (void)decided_commit;
	job.error = error;
	sem_post(&job.decided);
}

#define FIXTURE_DECIDING(f)                         \
	struct fixture f;                           \
	if (!fixture_possible())                    \
		cr_skip_test("needs root and FUSE"); \
	fixture_dir(&f);                            \
	sem_init(&job.proposed, 0, 0);              \
	sem_init(&job.decided, 0, 0);               \
	f.propose = on_propose;                     \
	f.decided = on_decided;                     \
	fixture_up(&f)

static void decide(struct fixture *f, bool decision)
{
	version_t version = job.version; /* the next may be proposed as soon as this is decided */
	cr_assert(eq(int, master_mount_decide(f->mount, version, decision, "by the test"), 0));
	sem_wait(&job.decided);
	cr_expect(eq(int, job.error, 0));
	cr_assert(eq(int, master_mount_job_done(f->mount, version, decision ? 0 : -DRS_EREFUSED), 0));
}

static void *put_in_place(void *user)
{
	struct fixture *f = user;
	int fd = open(at(f, "file"), O_WRONLY | O_TRUNC);
	if (fd < 0)
		return (void *)(intptr_t)-errno;
	long ret = write(fd, "live", 4);
	close(fd);
	return (void *)(intptr_t)(ret == 4 ? 0 : -errno);
}

/* R4.7: live writes go on and are published after the decision; those to what the batch changes wait for it. */
static void live_during_job(bool decision)
{
	FIXTURE_DECIDING(f);
	uint32_t id;
	put_file(&f, "file", "old");
	put_file(&f, "other", "old");
	const char *view = begin(&f, "named", &id);
	cr_expect(eq(int, shell(&f, "printf batch > %s/file && echo n > %s/new", view, view), 0));
	struct asked a = { .f = &f, .id = id };
	ask(&a, run_commit);
	sem_wait(&job.proposed);
	cr_expect(eq(str, job.message, (char *)"named"));
	cr_expect(gt(sz, job.delta_bytes, 0));
	expect_list(&f, "1 named mounted committing\n");
	cr_expect(eq(int, abort_batch(&f, id), -EBUSY));

	/* Elsewhere: at once, durable when asked for, but not published. */
	put_file(&f, "other", "live");
	put_file(&f, "third", "live");
	sync_all(&f);
	cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, "other"), (char *)"old"));
	holds(f, "other", "live");
	holds(f, "file", "old");

	/* The same file: later. */
	pthread_t writer;
	cr_assert(eq(int, pthread_create(&writer, NULL, put_in_place, &f), 0));
	usleep(200000);
	cr_expect(ne(int, pthread_tryjoin_np(writer, NULL), 0), "the change waits");
	decide(&f, decision);
	void *ret;
	cr_assert(eq(int, pthread_join(writer, &ret), 0));
	wait_for(&a);
	cr_expect(eq(int, a.error, decision ? 0 : -DRS_EREFUSED));
	shows(f, "other", "live");
	shows(f, "third", "live");
	if (decision) {
		cr_expect(eq(ulong, a.version, job.version));
		cr_expect(eq(int, shell(&f, "test -e new && test ! -e %s", view), 0));
		cr_expect(eq(int, shell(&f, "grep -q 'batch\\|live' file"), 0));
	} else {
		holds(f, "file", "live");
		cr_expect(eq(int, shell(&f, "test ! -e new && test $(cat %s/file) = batch && echo more > %s/more", view, view), 0));
		expect_list(&f, "1 named mounted\n");
	}
	FIXTURE_END(f);
}

Test(batches, live_writes_during_a_job_that_commits, .timeout = 30)
{
	live_during_job(true);
}

Test(batches, live_writes_during_a_job_that_aborts, .timeout = 30)
{
	live_during_job(false);
}

/* R4.7: one commit at a time; the second takes its turn, and stands on what the first has made. */
Test(batches, commits_take_turns, .timeout = 30)
{
	FIXTURE_DECIDING(f);
	uint32_t one, two, three;
	cr_expect(eq(int, shell(&f, "mkdir dir && echo 0 > dir/file"), 0));
	const char *first = begin(&f, "", &one), *second = begin(&f, "", &two), *third = begin(&f, "", &three);
	cr_expect(eq(int, shell(&f, "echo 1 > %s/dir/one && echo 2 > %s/dir/two && echo 3 > %s/dir/three", first, second, third), 0));
	struct asked a = { .f = &f, .id = one }, b = { .f = &f, .id = two }, c = { .f = &f, .id = three };
	ask(&a, run_commit);
	sem_wait(&job.proposed);
	ask(&b, run_commit);
	ask(&c, run_commit);
	expect_list(&f, "1  mounted committing\n2  mounted committing\n3  mounted committing\n");
	cr_expect(eq(int, abort_batch(&f, three), 0));
	wait_for(&c);
	cr_expect(eq(int, c.error, -ECANCELED));
	version_t version = job.version;
	decide(&f, true);
	wait_for(&a);
	cr_expect(eq(int, a.error, 0));
	sem_wait(&job.proposed);
	cr_expect(eq(ulong, job.base, version));
	cr_expect(eq(int, shell(&f, "test -e %s/dir/one && test -e dir/one && test ! -e dir/two", second), 0));
	decide(&f, false);
	wait_for(&b);
	cr_expect(eq(int, b.error, -DRS_EREFUSED));
	/* It stands on the newer version now, and can be committed again. */
	cr_expect(eq(int, shell(&f, "test -e %s/dir/one && test \"$(ls %s/dir | xargs)\" = 'file one two'", second, second), 0));
	b = (struct asked){ .f = &f, .id = two };
	ask(&b, run_commit);
	sem_wait(&job.proposed);
	cr_expect(gt(ulong, job.version, version + 1), "an aborted number is not used again (R1.1)");
	decide(&f, true);
	wait_for(&b);
	cr_expect(eq(int, b.error, 0));
	cr_expect(eq(int, shell(&f, "test \"$(ls dir | xargs)\" = 'file one two'"), 0));
	FIXTURE_END(f);
}

/* R4.8: a mount that ends before the decision aborts; the batch is there after the restart, the live tree's changes are published. */
Test(batches, stopped_before_the_decision, .timeout = 30)
{
	FIXTURE_DECIDING(f);
	uint32_t id;
	put_file(&f, "file", "old");
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "printf batch > %s/file", view), 0));
	struct asked a = { .f = &f, .id = id };
	ask(&a, run_commit);
	sem_wait(&job.proposed);
	put_file(&f, "other", "live");
	fixture_down(&f);
	wait_for(&a);
	cr_expect(eq(int, a.error, -ESHUTDOWN));
	fixture_up(&f);
	expect_list(&f, "1  mounted\n");
	holds(f, "file", "old");
	shows(f, "other", "live");
	cr_expect(eq(int, shell(&f, "test $(cat %s/file) = batch", view), 0));
	FIXTURE_END(f);
}

/* Names, too: a directory that the batch removes takes nothing new before the decision, and its files' names stay. */
static void *make_in_dir(void *user)
{
	return (void *)(intptr_t)(mkdir(at(user, "dir/new"), 0755) == 0 ? 0 : -errno);
}

Test(batches, names_are_frozen, .timeout = 30)
{
	FIXTURE_DECIDING(f);
	uint32_t id;
	cr_expect(eq(int, shell(&f, "mkdir dir && echo 0 > dir/file"), 0));
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "rm -r %s/dir", view), 0));
	struct asked a = { .f = &f, .id = id };
	ask(&a, run_commit);
	sem_wait(&job.proposed);
	pthread_t maker;
	void *ret;
	cr_assert(eq(int, pthread_create(&maker, NULL, make_in_dir, &f), 0));
	usleep(100000);
	cr_expect(ne(int, pthread_tryjoin_np(maker, NULL), 0), "it waits");
	decide(&f, true);
	cr_assert(eq(int, pthread_join(maker, &ret), 0));
	cr_expect(lt(int, (int)(intptr_t)ret, 0), "the directory is gone");
	wait_for(&a);
	cr_expect(eq(int, a.error, 0));
	cr_expect(eq(int, shell(&f, "test ! -e dir"), 0));
	FIXTURE_END(f);
}

/* A request that waits for the decision does not keep the mount from stopping. */
Test(batches, stopped_while_a_write_waits, .timeout = 30)
{
	FIXTURE_DECIDING(f);
	uint32_t id;
	put_file(&f, "file", "old");
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "printf batch > %s/file", view), 0));
	struct asked a = { .f = &f, .id = id };
	ask(&a, run_commit);
	sem_wait(&job.proposed);
	pthread_t writer;
	void *ret;
	cr_assert(eq(int, pthread_create(&writer, NULL, put_in_place, &f), 0));
	usleep(100000);
	fixture_down(&f);
	cr_assert(eq(int, pthread_join(writer, &ret), 0));
	wait_for(&a);
	cr_expect(eq(int, a.error, -ESHUTDOWN));
	fixture_up(&f);
	expect_list(&f, "1  mounted\n");
	FIXTURE_END(f);
}

/* --- more of what the kernel had */

/* All names of a file lead to its new content, wherever they are. */
Test(batches, every_name_of_a_changed_file, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	cr_expect(eq(int, shell(&f, "mkdir a b && printf old > a/one && ln a/one b/two && mv b/two b/three && cat a/one b/three >/dev/null"), 0));
	int fd = open(at(&f, "b/three"), O_RDONLY);
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "printf longer > %s/a/one", view), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(int, shell(&f, "test $(cat a/one) = longer && test $(cat b/three) = longer && test $(stat -c %%s b/three) = 6"), 0));
	close(fd);
	/* And again, from the live tree, and by another batch. */
	cr_expect(eq(int, shell(&f, "printf live > b/three && test $(cat a/one) = live"), 0));
	view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "printf 'third time' > %s/b/three && test \"$(cat %s/a/one)\" = 'third time'", view, view), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(int, shell(&f, "test \"$(cat a/one)\" = 'third time' && chmod 600 a/one && test $(stat -c %%a b/three) = 600"), 0));
	FIXTURE_END(f);
}

/* Attributes, extended attributes and access control lists of directories and files are fresh as well. */
Test(batches, attributes_are_fresh, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	char value[16] = "";
	cr_expect(eq(int, shell(&f, "mkdir dir && touch dir/file && setfacl -m u:daemon:r dir && getfacl dir >/dev/null && ls -la . dir >/dev/null"), 0));
	cr_expect(eq(int, setxattr(at(&f, "dir/file"), "user.a", "1", 1, 0), 0));
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "cd %s && chmod 2775 dir && setfacl -m u:daemon:rwx dir && chmod 600 dir/file && "
				    "chown daemon . && touch -d 2002-02-02 dir", view), 0));
	char path[128];
	snprintf(path, sizeof(path), "%s/dir/file", view);
	cr_expect(eq(int, setxattr(at(&f, path), "user.a", "2", 1, 0), 0));
	cr_expect(eq(int, commit_batch(&f, id), 0));
	cr_expect(eq(int, shell(&f, "test $(stat -c %%a dir) = 2775 && getfacl -c dir | grep -q user:daemon:rwx && test $(stat -c %%a dir/file) = 600 && "
				    "test $(stat -c %%U .) = daemon && test $(stat -c %%y dir | cut -c1-10) = 2002-02-02"), 0));
	cr_expect(eq(long, getxattr(at(&f, "dir/file"), "user.a", value, sizeof(value)), 1));
	cr_expect(eq(str, value, (char *)"2"));
	FIXTURE_END(f);
}

/* An aborted commit has moved the view onto the newer version: what was cached of the old one is gone. */
Test(batches, a_view_that_moves_is_fresh, .timeout = 30)
{
	FIXTURE_DECIDING(f);
	uint32_t id;
	cr_expect(eq(int, shell(&f, "mkdir dir && printf old > dir/file && printf x > dir/gone"), 0));
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "cd %s && cat dir/* >/dev/null && ls dir >/dev/null && test ! -e dir/new && echo mine > mine", view), 0));
	char path[128], text[16] = "";
	snprintf(path, sizeof(path), "%s/dir/file", view);
	int fd = open(at(&f, path), O_RDONLY);
	cr_expect(eq(int, shell(&f, "printf longer > dir/file && rm dir/gone && printf n > dir/new"), 0));
	struct asked a = { .f = &f, .id = id };
	ask(&a, run_commit);
	sem_wait(&job.proposed);
	decide(&f, false);
	wait_for(&a);
	cr_expect(eq(long, pread(fd, text, sizeof(text), 0), 3));
	close(fd);
	cr_expect(eq(int, shell(&f, "cd %s && test $(cat dir/file) = longer && test \"$(ls dir | xargs)\" = 'file new' && test $(cat mine) = mine && "
				    "printf again > dir/file && test $(cat dir/file) = again", view), 0));
	holds(f, "dir/file", "longer");
	FIXTURE_END(f);
}

/* --- trouble */

/* F8: a view that somebody unmounts takes nothing with it. */
Test(batches, unmounted_by_somebody, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "echo kept > %s/file && umount %s", view, view), 0));
	expect_list(&f, "1  -\n");
	cr_expect(eq(int, commit_batch(&f, id), 0));
	holds(f, "file", "kept\n");
	FIXTURE_END(f);
}

/* F8: on a full disk a batch's write is refused as any other; aborting it gives the room back. */
Test(batches, full_disk, .timeout = 60)
{
	struct fixture f;
	uint32_t id;
	if (!fixture_possible())
		cr_skip_test("needs root and FUSE");
	fixture_dir(&f);
	cr_assert(eq(int, mkdir(f.state, 0700), 0));
	cr_assert(eq(int, mount("tmpfs", f.state, "tmpfs", 0, "size=48m"), 0));
	fixture_up(&f);
	put_file(&f, "file", "old");
	const char *view = begin(&f, "", &id);
	cr_expect(ne(int, shell(&f, "head -c 100000000 /dev/urandom > %s/big 2>/dev/null", view), 0));
	cr_expect(eq(int, shell(&f, "test $(cat file) = old && test $(cat %s/file) = old", view), 0));
	cr_expect(eq(int, abort_batch(&f, id), 0));
	cr_expect(eq(int, shell(&f, "for i in $(seq 50); do head -c 10000000 /dev/urandom > again 2>/dev/null && exit 0; sleep .1; done; exit 1"), 0));
	fixture_down(&f);
	cr_expect(eq(int, umount(f.state), 0));
	fixture_remove(&f);
}

/* Many files and large ones; what the batch had of both is taken away, a little at a time, or becomes the version's. */
Test(batches, large_batches, .timeout = 60)
{
	FIXTURE(f);
	uint32_t one, two;
	cr_expect(eq(int, shell(&f, "head -c 5000000 /dev/urandom > big"), 0));
	const char *first = begin(&f, "", &one), *second = begin(&f, "", &two);
	cr_expect(eq(int, shell(&f, "cd %s && for i in $(seq 1000); do echo $i > f$i; done; "
				    "printf x | dd of=big bs=1 seek=2500000 conv=notrunc 2>/dev/null", first), 0));
	cr_expect(eq(int, shell(&f, "cd %s && for i in $(seq 2000); do echo $i > g$i; done; cat big big > bigger", second), 0));
	cr_expect(eq(int, abort_batch(&f, two), 0));
	cr_expect(eq(int, shell(&f, "cp big ../was"), 0));
	cr_expect(eq(int, commit_batch(&f, one), 0));
	cr_expect(eq(int, shell(&f, "test $(ls f* | wc -l) = 1000 && test $(cat f777) = 777 && "
				    "test $(cmp -l big ../was | wc -l) -le 1 && test $(stat -c %%s big) = 5000000"), 0));
	FIXTURE_END(f);
}

/* R4.8: killed before the decision. The number is aborted, the batch open again; what was synced in the live tree meanwhile is published. */
Test(batches, killed_before_the_decision, .timeout = 30)
{
	struct fixture f;
	int ready[2];
	if (!fixture_possible())
		cr_skip_test("needs root and FUSE");
	fixture_dir(&f);
	cr_assert(eq(int, pipe(ready), 0));
	pid_t child = fork();
	if (child == 0) {
		uint32_t id;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sem_init(&job.proposed, 0, 0);
		f.propose = on_propose;
		fixture_up(&f);
		put_file(&f, "file", "old");
		const char *view = begin(&f, "kept", &id);
		bool written = shell(&f, "printf batch > %s/file", view) == 0;
		struct asked a = { .f = &f, .id = id };
		ask(&a, run_commit);
		sem_wait(&job.proposed);
		put_file(&f, "other", "live");
		sync_all(&f);
		version_t version = written ? job.version : 0;
		(void)!write(ready[1], &version, sizeof(version));
		for (;;)
			pause();
	}
	version_t proposed = 0;
	cr_assert(eq(long, read(ready[0], &proposed, sizeof(proposed)), (long)sizeof(proposed)));
	cr_expect(gt(ulong, proposed, 0));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	umount2(f.mountpoint, MNT_DETACH);
	fixture_up(&f);
	expect_list(&f, "1 kept mounted\n");
	holds(f, "file", "old");
	shows(f, "file", "old");
	cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, "other"), (char *)"live"));
	cr_expect(gt(ulong, atomic_load(&f.published), proposed));
	cr_expect(eq(int, commit_batch(&f, 1), 0));
	holds(f, "file", "batch");
	FIXTURE_END(f);
}

/* R4.7, F8: many commits while programs write, read and list in the same directories: nobody sees an error, and at the end all is there. */
Test(batches, commits_beside_writers_and_readers, .timeout = 60)
{
	FIXTURE(f);
	enum { COMMITS = 60 };
	cr_expect(eq(int, shell(&f, "mkdir d && echo 0 > d/a && echo 0 > d/b"), 0));
	cr_expect(eq(int, shell(&f, "(i=0; while test ! -e ../end; do i=$((i + 1)); echo $i > d/w$((i %% 7)) && mv d/w$((i %% 7)) d/x$((i %% 5)) || "
				    "echo write >> ../errors; done; rm -f d/w?; touch ../writer) >/dev/null 2>>../errors &"), 0));
	cr_expect(eq(int, shell(&f, "(while test ! -e ../end; do cat d/a d/b >/dev/null && test -n \"$(ls d)\" && stat d/a >/dev/null || "
				    "echo read >> ../errors; done; touch ../reader) >/dev/null 2>>../errors &"), 0));
	for (int i = 1; i <= COMMITS; i++) {
		uint32_t id;
		const char *view = begin(&f, "", &id);
		cr_expect(eq(int, shell(&f, "cd %s/d && echo %d > a && echo %d > .b && mv .b b && echo %d > n%d", view, i, i, i, i), 0));
		struct asked a = { .f = &f, .id = id };
		cr_assert(eq(int, commit(&a), 0), "%s", a.text);
		cr_expect(eq(int, shell(&f, "test $(cat d/a) = %d && test $(cat d/b) = %d && test $(cat d/n%d) = %d", i, i, i, i), 0));
	}
	cr_expect(eq(int, shell(&f, "touch ../end; for i in $(seq 100); do test -e ../reader && test -e ../writer && break; sleep .05; done"), 0));
	cr_expect(eq(int, shell(&f, "cat ../errors >&2; test ! -s ../errors && test $(ls d | grep -c n) = %d", COMMITS), 0));
	FIXTURE_END(f);
}

/* The whole mount is taken away by somebody: it ends, and is there with its batches after the next start. */
Test(batches, all_unmounted_by_somebody, .timeout = 30)
{
	FIXTURE(f);
	uint32_t id;
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "echo kept > %s/file && echo x > live && sync -f %s && sync -f .", view, view), 0));
	cr_expect(eq(int, umount2(f.mountpoint, 0), -1));
	cr_expect(eq(int, errno, EBUSY));
	cr_expect(eq(int, umount2(f.mountpoint, MNT_DETACH), 0));
	for (int i = 0; i < 200 && atomic_load(&f.ended) == 0; i++)
		usleep(20000);
	cr_expect(eq(int, atomic_load(&f.ended), 1));
	fixture_down(&f);
	fixture_up(&f);
	expect_list(&f, "1  mounted\n");
	cr_expect(eq(int, shell(&f, "test $(cat %s/file) = kept && test $(cat live) = x", view), 0));
	FIXTURE_END(f);
}

/* F8: no room to propose: the commit fails with that, nothing has changed, and it succeeds when there is room. */
Test(batches, full_disk_at_the_commit, .timeout = 60)
{
	struct fixture f;
	uint32_t id;
	if (!fixture_possible())
		cr_skip_test("needs root and FUSE");
	fixture_dir(&f);
	cr_assert(eq(int, mkdir(f.state, 0700), 0));
	cr_assert(eq(int, mount("tmpfs", f.state, "tmpfs", 0, "size=48m"), 0));
	f.options.retain_versions = 1;
	f.options.retain_ms = 0;
	fixture_up(&f);
	const char *view = begin(&f, "", &id);
	cr_expect(eq(int, shell(&f, "cd %s && for i in $(seq 3000); do head -c 1500 /dev/urandom > f$i; done", view), 0));
	/* Never published: an open batch keeps all versions since its base. */
	static char bytes[1 << 20];
	int fd = open(at(&f, "big"), O_CREAT | O_WRONLY, 0644), random = open("/dev/urandom", O_RDONLY), full = 0;
	for (int i = 0; i < 100 && !full; i++)
		full = read(random, bytes, sizeof(bytes)) != sizeof(bytes) || write(fd, bytes, sizeof(bytes)) != sizeof(bytes) ||
		       sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) < 0;
	cr_expect(full);
	int error = commit_batch(&f, id);
	cr_expect(eq(int, error, -ENOSPC));
	cr_expect(eq(int, atomic_load(&f.ended), 0));
	cr_expect(eq(int, shell(&f, "test ! -e f1 && test -e %s/f3000", view), 0));
	cr_expect(eq(int, unlink(at(&f, "big")), 0));
	close(fd);
	close(random);
	for (int i = 0; i < 100 && error != 0; i++) {
		usleep(50000);
		error = commit_batch(&f, id);
	}
	cr_expect(eq(int, error, 0));
	cr_expect(eq(int, shell(&f, "test $(ls f* | wc -l) = 3000"), 0));
	fixture_down(&f);
	cr_expect(eq(int, umount(f.state), 0));
	fixture_remove(&f);
}
