/*
 * The slave's mount, as processes see it: the tree that the store holds, at local cost (F6), the flip from one version to the
 * next (F4), open files that keep their content (F3). Real mounts: root and /dev/fuse, else skipped.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#include "slave/mount.h"
#include "tests/lib/tree.h"

struct world {
	struct tree tree;
	struct slave_mount *mount;
	atomic_int ended; /* 1 + how often; the error as it came */
	int error;
};

static struct world w;

static void on_ended(void *user, int error)
{
	struct world *world = user;

	world->error = error;
	world->ended++;
}

static void begin(void)
{
	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		cr_skip_test("needs root and /dev/fuse");
	tree_open(&w.tree, STORE_MASTER);
}

static void begin_mount(void)
{
	struct slave_mount_options options = { .mountpoint = w.tree.mnt };

	must(slave_mount_new(w.tree.store, &options, on_ended, &w, &w.mount), "slave_mount_new");
	must(slave_mount_start(w.mount), "slave_mount_start");
}

static void end(void)
{
	if (!w.tree.store)
		return;
	if (w.mount)
		slave_mount_stop(w.mount);
	slave_mount_free(w.mount);
	tree_close(&w.tree);
}

TestSuite(mount_slave, .init = begin, .fini = end, .timeout = 60);

static version_t commit_and_flip(void)
{
	version_t version = tree_commit(&w.tree);

	must(slave_mount_flip(w.mount), "slave_mount_flip");
	cr_assert(eq(u64, slave_mount_shown(w.mount), version));
	return version;
}

static const char *at(const char *path)
{
	static char whole[4][512];
	static unsigned next;
	char *result = whole[next++ % 4];

	snprintf(result, sizeof(whole[0]), "%s/%s", w.tree.mnt, path);
	return result;
}

static const char *content(const char *path)
{
	static char text[4096];
	int fd = open(at(path), O_RDONLY);

	if (fd < 0)
		return strerrorname_np(errno);
	ssize_t size = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (size < 0)
		return strerrorname_np(errno);
	text[size] = '\0';
	return text;
}

static struct stat attributes(const char *path)
{
	struct stat s;

	cr_assert(zero(i32, lstat(at(path), &s)), "%s: %s", path, strerror(errno));
	return s;
}

static int name_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static const char *listing(const char *path)
{
	static char text[4096];
	struct dirent **entries;
	int count = scandir(at(path), &entries, NULL, name_order);

	text[0] = '\0';
	for (int i = 0; i < count; i++) {
		strcat(strcat(text, i ? " " : ""), entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return count < 0 ? strerrorname_np(errno) : text;
}

static uint64_t requests(void)
{
	return slave_mount_requests(w.mount);
}

#define says(path, text) cr_assert(eq(str, (char *)content(path), (char *)(text)))
#define lists(path, text) cr_assert(eq(str, (char *)listing(path), (char *)(text)))

/* ---- the tree */

Test(mount_slave, the_tree_is_as_it_was_written)
{
	struct tree *t = &w.tree;
	char value[64];

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	ino_id file = tree_file(t, dir, "file", "hello");
	tree_symlink(t, INO_ROOT, "link", "dir/file");
	tree_link(t, INO_ROOT, "same", file, DT_REG);
	tree_chmod(t, file, 0640);
	tree_xattr(t, file, "user.colour", "blue", 4);
	struct node fifo = tree_new_node(t, S_IFIFO | 0600);
	ino_id fifo_ino = record_next_ino(t->txn);
	tree_put_node(t, fifo_ino, &fifo);
	tree_link(t, INO_ROOT, "fifo", fifo_ino, DT_FIFO);
	tree_commit(t);
	begin_mount();

	lists("", ". .. dir fifo link same");
	lists("dir", ". .. file");
	says("dir/file", "hello");
	says("link", "hello");
	says("none", "ENOENT");
	says("dir/file/none", "ENOTDIR");
	struct stat s = attributes("dir/file"), same = attributes("same");
	cr_assert(eq(u32, s.st_mode, S_IFREG | 0640));
	cr_assert(eq(i64, s.st_size, 5));
	cr_assert(eq(u64, s.st_ino, same.st_ino));
	cr_assert(eq(u32, attributes("fifo").st_mode, S_IFIFO | 0600));
	cr_assert(eq(u64, attributes("dir").st_ino, dir));
	cr_assert(eq(i64, readlink(at("link"), value, sizeof(value)), 8));
	cr_assert(eq(i64, getxattr(at("dir/file"), "user.colour", value, sizeof(value)), 4));
	cr_assert(zero(i32, memcmp(value, "blue", 4)));
	cr_assert(eq(i64, listxattr(at("dir/file"), value, sizeof(value)), 12));
	cr_assert(eq(i64, getxattr(at("dir/file"), "user.none", value, sizeof(value)), -1));
	cr_assert(eq(i32, errno, ENODATA));
	cr_assert(eq(i64, getxattr(at("dir/file"), "user.colour", value, 2), -1));
	cr_assert(eq(i32, errno, ERANGE));
	struct statvfs space;
	cr_assert(zero(i32, statvfs(at(""), &space)));
	cr_assert(eq(u64, space.f_namemax, 255));
	cr_assert(gt(u64, space.f_blocks, 0));
}

Test(mount_slave, an_empty_volume_is_an_empty_directory)
{
	slave_mount_free(w.mount);
	w.mount = NULL;
	tree_close(&w.tree);
	tree_open(&w.tree, STORE_SLAVE);
	begin_mount();

	lists("", ". ..");
	says("x", "ENOENT");
}

Test(mount_slave, big_and_sparse_files_read_right)
{
	struct tree *t = &w.tree;
	size_t size = 5 << 20;
	uint8_t *data = malloc(size), *back = malloc(size);

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	tree_begin(t);
	tree_add_file(t, INO_ROOT, "big", data, size);
	struct node sparse = tree_new_node(t, S_IFREG | 0644);
	struct buffer storage = BUFFER_INIT;
	struct content_edit *edit;
	must(content_edit_new(&sparse, &edit), "edit");
	must(content_edit_write(edit, t->txn, 100 << 20, "end", 3), "write");
	must(content_edit_save(edit, t->txn, &sparse, &storage), "save");
	sparse.content_version = t->at;
	ino_id ino = record_next_ino(t->txn);
	tree_put_node(t, ino, &sparse);
	tree_link(t, INO_ROOT, "sparse", ino, DT_REG);
	content_edit_free(edit);
	buffer_fini(&storage);
	tree_commit(t);
	begin_mount();

	int fd = open(at("big"), O_RDONLY);
	cr_assert(eq(i64, read(fd, back, size), (int64_t)size));
	cr_assert(zero(i32, memcmp(data, back, size)));
	cr_assert(eq(i64, pread(fd, back, 1000, 3000001), 1000));
	cr_assert(zero(i32, memcmp(data + 3000001, back, 1000)));
	close(fd);
	fd = open(at("sparse"), O_RDONLY);
	cr_assert(eq(i64, lseek(fd, 0, SEEK_DATA), 100 << 20));
	cr_assert(eq(i64, lseek(fd, 0, SEEK_HOLE), 0));
	cr_assert(eq(i64, pread(fd, back, 64, (100 << 20) - 2), 5));
	cr_assert(zero(i32, memcmp(back, "\0\0end", 5)));
	cr_assert(lt(i64, attributes("sparse").st_blocks, 1000));
	int number;
	cr_assert(eq(i32, ioctl(fd, FIONREAD + 1, &number), -1));
	cr_assert(eq(i32, errno, ENOTTY));
	close(fd);
	free(data);
	free(back);
}

Test(mount_slave, writing_is_refused)
{
	tree_begin(&w.tree);
	tree_file(&w.tree, INO_ROOT, "f", "text");
	tree_commit(&w.tree);
	begin_mount();

	cr_assert(eq(i32, open(at("f"), O_WRONLY), -1));
	cr_assert(eq(i32, errno, EROFS));
	cr_assert(eq(i32, open(at("new"), O_CREAT | O_RDWR, 0644), -1));
	cr_assert(eq(i32, errno, EROFS));
	cr_assert(eq(i32, unlink(at("f")), -1));
	cr_assert(eq(i32, errno, EROFS));
	cr_assert(eq(i32, chmod(at("f"), 0600), -1));
	cr_assert(eq(i32, errno, EROFS));
	cr_assert(eq(i32, setxattr(at("f"), "user.a", "b", 1, 0), -1));
	cr_assert(eq(i32, errno, EROFS));
}

Test(mount_slave, a_large_directory_lists_every_name_once)
{
	enum { COUNT = 20000 };
	static uint8_t seen[COUNT];
	char name[32];
	unsigned index, listed = 0;

	tree_begin(&w.tree);
	ino_id dir = tree_mkdir(&w.tree, INO_ROOT, "many");
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		tree_add_file(&w.tree, dir, name, name, strlen(name));
	}
	tree_commit(&w.tree);
	begin_mount();

	for (unsigned round = 1; round <= 2; round++) {
		DIR *d = opendir(at("many"));
		struct dirent *entry;
		while ((entry = readdir(d)))
			if (sscanf(entry->d_name, "file-%u", &index) == 1 && index < COUNT) {
				cr_assert(lt(u8, seen[index], round));
				seen[index]++;
				listed++;
			}
		closedir(d);
		cr_assert(eq(u32, listed, round * COUNT));
	}
	cr_assert(eq(i64, attributes("many/file-19999").st_size, 10));
}

/* ---- cost (F6) */

static double microseconds_since(const struct timespec *begun)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - begun->tv_sec) * 1e6 + (now.tv_nsec - begun->tv_nsec) / 1e3;
}

Test(mount_slave, what_is_cached_costs_no_requests)
{
	enum { TIMES = 20000 };
	struct timespec begun;
	char path[512];

	tree_begin(&w.tree);
	ino_id dir = tree_mkdir(&w.tree, INO_ROOT, "dir");
	tree_file(&w.tree, dir, "f", "text");
	tree_symlink(&w.tree, INO_ROOT, "l", "dir/f");
	tree_commit(&w.tree);
	begin_mount();
	for (int i = 0; i < 2; i++) {
		says("l", "text");
		says("none", "ENOENT");
		lists("dir", ". .. f");
		attributes("dir/f");
	}
	uint64_t before = requests();
	for (int i = 0; i < 10; i++) {
		says("l", "text");
		says("none", "ENOENT");
		lists("dir", ". .. f");
		attributes("dir/f");
	}
	cr_assert(eq(u64, requests() - before, 0));

	snprintf(path, sizeof(path), "%s", at("dir/f"));
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (int i = 0; i < TIMES; i++) {
		char text[16];
		int fd = open(path, O_RDONLY);
		cr_expect(read(fd, text, sizeof(text)) == 4);
		close(fd);
	}
	double open_us = microseconds_since(&begun) / TIMES;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (int i = 0; i < TIMES; i++) {
		struct stat s;
		cr_expect(stat(path, &s) == 0);
	}
	cr_log_info("open+read+close %.2f us, stat %.2f us", open_us, microseconds_since(&begun) / TIMES);
	cr_assert(eq(u64, requests() - before, 0));
}

/* ---- flips (F4) */

Test(mount_slave, flips_show_everything_new_at_once)
{
	struct tree *t = &w.tree;

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	ino_id a = tree_file(t, dir, "a", "one");
	ino_id gone = tree_file(t, dir, "gone", "gone");
	ino_id moved = tree_file(t, dir, "moved", "moved");
	tree_commit(t);
	begin_mount();
	says("dir/a", "one");
	says("dir/new", "ENOENT");
	says("dir/gone", "gone");
	lists("dir", ". .. a gone moved");
	struct stat before = attributes("dir/a");

	tree_begin(t);
	tree_rewrite(t, a, "second", 6);
	tree_file(t, dir, "new", "new");
	tree_unlink(t, dir, "gone");
	tree_delete_node(t, gone);
	tree_unlink(t, dir, "moved");
	tree_link(t, INO_ROOT, "here", moved, DT_REG);
	commit_and_flip();
	says("dir/a", "second");
	says("dir/new", "new");
	says("dir/gone", "ENOENT");
	says("dir/moved", "ENOENT");
	says("here", "moved");
	lists("dir", ". .. a new");
	struct stat after = attributes("dir/a");
	cr_assert(ne(u64, before.st_ino, after.st_ino));
	cr_assert(eq(i64, after.st_size, 6));

	/* another node takes the name, as rename(2) does */
	tree_begin(t);
	tree_link(t, dir, "a", moved, DT_REG);
	tree_unlink(t, INO_ROOT, "here");
	tree_delete_node(t, a);
	commit_and_flip();
	says("dir/a", "moved");
	lists("", ". .. dir");
}

Test(mount_slave, attributes_change_alone)
{
	struct tree *t = &w.tree;

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	ino_id f = tree_file(t, dir, "f", "text");
	tree_commit(t);
	begin_mount();
	struct stat before = attributes("dir/f");
	attributes("dir");

	tree_begin(t);
	tree_chmod(t, f, 0400);
	tree_chmod(t, dir, 0700);
	commit_and_flip();
	struct stat after = attributes("dir/f");
	cr_assert(eq(u64, before.st_ino, after.st_ino));
	cr_assert(eq(u32, after.st_mode & 07777, 0400));
	cr_assert(eq(u32, attributes("dir").st_mode & 07777, 0700));
	says("dir/f", "text");
}

Test(mount_slave, hard_links_change_under_all_names)
{
	struct tree *t = &w.tree;
	char name[16];

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	ino_id f = tree_file(t, dir, "0", "one");
	for (int i = 1; i < 40; i++) {
		snprintf(name, sizeof(name), "%d", i);
		tree_link(t, i % 2 ? dir : INO_ROOT, name, f, DT_REG);
	}
	tree_commit(t);
	begin_mount();
	for (int version = 0; version < 5; version++) {
		char text[32];
		uint64_t ino = attributes("dir/0").st_ino;

		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "%s%d", i % 2 || !i ? "dir/" : "", i);
			cr_assert(eq(u64, attributes(name).st_ino, ino));
		}
		snprintf(text, sizeof(text), "version %d", version);
		tree_begin(t);
		tree_rewrite(t, f, text, strlen(text));
		commit_and_flip();
		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "%s%d", i % 2 || !i ? "dir/" : "", i);
			says(name, text);
		}
	}
}

/* rsync sets a directory's time back after it has put files into it. */
Test(mount_slave, a_listing_changes_although_mtime_does_not)
{
	struct tree *t = &w.tree;
	char name[16], whole[512] = ". ..";

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	tree_commit(t);
	begin_mount();
	for (int i = 0; i < 9; i++) {
		lists("dir", whole);
		snprintf(name, sizeof(name), "%d", i);
		strcat(strcat(whole, " "), name);
		tree_begin(t);
		tree_add_file(t, dir, name, "x", 1);
		commit_and_flip();
		lists("dir", whole);
	}
}

static void set_mtime(ino_id ino, int64_t seconds)
{
	struct node node = tree_node(&w.tree, ino);
	node.mtime = (struct node_time){ seconds, 0 };
	tree_put_node(&w.tree, ino, &node);
}

/* A listing of a time that comes back must not come back with it. */
Test(mount_slave, a_listing_changes_and_later_mtime_is_set_back)
{
	enum { THEN = 1000000000, NOW = 2000000000 };
	struct tree *t = &w.tree;

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	set_mtime(dir, THEN);
	tree_commit(t);
	begin_mount();
	lists("dir", ". ..");

	tree_begin(t); /* names with one time, the time by itself */
	tree_file(t, dir, "a", "x");
	set_mtime(dir, NOW);
	commit_and_flip();
	tree_begin(t);
	set_mtime(dir, THEN);
	commit_and_flip();
	lists("dir", ". .. a");

	tree_begin(t); /* names with either time */
	tree_file(t, dir, "b", "x");
	set_mtime(dir, NOW);
	commit_and_flip();
	tree_begin(t);
	tree_unlink(t, dir, "a");
	set_mtime(dir, THEN);
	commit_and_flip();
	lists("dir", ". .. b");
}

Test(mount_slave, directories_move_and_a_process_stays_in_them)
{
	struct tree *t = &w.tree;
	char cwd[256];

	tree_begin(t);
	ino_id a = tree_mkdir(t, INO_ROOT, "a");
	ino_id b = tree_mkdir(t, INO_ROOT, "b");
	ino_id sub = tree_mkdir(t, a, "sub");
	tree_file(t, sub, "f", "text");
	tree_commit(t);
	begin_mount();
	cr_assert(zero(i32, chdir(at("a/sub"))));
	says("a/sub/f", "text");

	tree_begin(t);
	tree_file(t, sub, "g", "more");
	commit_and_flip();
	cr_assert(ne(ptr, getcwd(cwd, sizeof(cwd)), NULL)); /* what changes in a directory does not put it off its place */
	cr_assert(eq(str, cwd, (char *)at("a/sub")));

	tree_begin(t);
	tree_unlink(t, a, "sub");
	tree_link(t, b, "sub", sub, DT_DIR);
	struct node node = tree_node(t, sub);
	node.parent = b;
	tree_put_node(t, sub, &node);
	commit_and_flip();
	says("a/sub/f", "ENOENT");
	says("b/sub/f", "text");
	cr_assert(ne(ptr, getcwd(cwd, sizeof(cwd)), NULL));
	cr_assert(eq(str, cwd, (char *)at("b/sub")));
	cr_assert(eq(i32, access("g", R_OK), 0));

	tree_begin(t);
	tree_unlink(t, sub, "f");
	tree_unlink(t, sub, "g");
	tree_unlink(t, b, "sub");
	tree_delete_node(t, sub);
	commit_and_flip();
	cr_assert(eq(i32, access("g", R_OK), -1));
	says("b/sub", "ENOENT");
	cr_assert(zero(i32, chdir("/")));
}

Test(mount_slave, several_versions_in_one_flip)
{
	struct tree *t = &w.tree;

	tree_begin(t);
	ino_id f = tree_file(t, INO_ROOT, "f", "1");
	tree_commit(t);
	begin_mount();
	says("f", "1");
	says("g", "ENOENT");
	tree_begin(t);
	tree_rewrite(t, f, "2", 1);
	tree_commit(t);
	tree_begin(t);
	tree_file(t, INO_ROOT, "g", "3");
	tree_commit(t);
	says("f", "1");
	says("g", "ENOENT");
	tree_begin(t);
	tree_rewrite(t, f, "4", 1);
	commit_and_flip();
	says("f", "4");
	says("g", "3");
}

/* ---- open files keep what they opened (F3) */

static void retire_all(void)
{
	struct tree *t = &w.tree;
	bool done = false, more = true;

	must(txn_begin_write(t->store, &t->txn), "begin");
	while (!done)
		must(retire_step(t->txn, t->at, 1000, slave_mount_holds, w.mount, &done), "retire_step");
	while (more)
		must(chunk_collect(t->txn, 1000, &more), "chunk_collect");
	must(txn_commit(t->txn), "commit");
	t->txn = NULL;
}

static bool record_row_exists(version_t at, ino_id ino)
{
	struct record_key key = record_key_node(ino);
	struct txn *txn;

	must(txn_begin_read(w.tree.store, &txn), "begin");
	bool exists = record_exists_at(txn, at, &key, NULL);
	txn_abort(txn);
	return exists;
}

Test(mount_slave, an_open_file_keeps_its_content)
{
	struct tree *t = &w.tree;
	size_t size = 3 << 20;
	char *data = malloc(size), *back = malloc(size);

	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 40503u >> 7);
	tree_begin(t);
	ino_id f = tree_add_file(t, INO_ROOT, "f", data, size);
	version_t written = tree_commit(t);
	begin_mount();
	tree_begin(t);
	tree_chmod(t, f, 0600);
	commit_and_flip();
	int fd = open(at("f"), O_RDONLY);
	cr_assert(ge(i32, fd, 0));
	cr_assert(not(slave_mount_holds(w.mount, f, written, written, written + 2))); /* it is current */

	tree_begin(t);
	tree_rewrite(t, f, "short", 5);
	commit_and_flip();
	cr_assert(slave_mount_holds(w.mount, f, written, written + 1, written + 2)); /* as it was after the chmod, */
	cr_assert(not(slave_mount_holds(w.mount, f, written, written, written + 1)));  /* not before */
	for (int i = 0; i < 3; i++) {
		tree_begin(t);
		tree_chmod(t, f, 0640 + i);
		commit_and_flip();
	}
	retire_all();
	cr_assert(not(record_row_exists(written, f)));
	cr_assert(record_row_exists(written + 1, f));
	struct stat s;
	cr_assert(zero(i32, fstat(fd, &s)));
	cr_assert(eq(i64, s.st_size, (int64_t)size));
	cr_assert(eq(u32, s.st_mode & 07777, 0600));
	cr_assert(zero(i32, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)));
	cr_assert(eq(i64, read(fd, back, size), (int64_t)size));
	cr_assert(zero(i32, memcmp(data, back, size)));
	says("f", "short");
	close(fd);
	free(data);
	free(back);
}

Test(mount_slave, a_deleted_file_can_be_read_to_its_end)
{
	struct tree *t = &w.tree;
	char text[16];

	tree_begin(t);
	ino_id f = tree_file(t, INO_ROOT, "f", "text");
	tree_commit(t);
	begin_mount();
	int fd = open(at("f"), O_RDONLY);
	tree_begin(t);
	tree_unlink(t, INO_ROOT, "f");
	tree_delete_node(t, f);
	commit_and_flip();
	says("f", "ENOENT");
	cr_assert(eq(i64, read(fd, text, sizeof(text)), 4));
	close(fd);
}

enum { UPDATED = 64, UPDATES = 20000 };

static pid_t read_files_in_process(void)
{
	char path[32], text[64];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0;; i = (i + 13) % UPDATED) {
		snprintf(path, sizeof(path), "%u", i);
		int fd = open(at(path), O_RDONLY);
		if (fd < 0 || read(fd, text, sizeof(text)) <= 0)
			_exit(1);
		close(fd);
	}
}

static void look_at_updated(void)
{
	char path[32];

	for (unsigned i = 0; i < UPDATED; i++) {
		snprintf(path, sizeof(path), "%u", i);
		attributes(path);
	}
}

/* Neither nodes nor records pile up while files that are written are opened and closed. */
Test(mount_slave, what_nobody_holds_any_more_is_forgotten)
{
	struct tree *t = &w.tree;
	ino_id inos[UPDATED];
	version_t versions[UPDATED];
	char text[32];
	int status;

	tree_begin(t);
	for (unsigned i = 0; i < UPDATED; i++) {
		snprintf(text, sizeof(text), "%u", i);
		inos[i] = tree_file(t, INO_ROOT, text, text);
	}
	tree_commit(t);
	begin_mount();
	look_at_updated();
	size_t held = slave_mount_nodes(w.mount);
	pid_t reader = read_files_in_process();
	for (unsigned i = 0; i < UPDATES; i += UPDATED / 2) {
		tree_begin(t);
		for (unsigned k = i; k < i + UPDATED / 2; k++) {
			snprintf(text, sizeof(text), "update %u", k);
			tree_rewrite(t, inos[k % UPDATED], text, strlen(text));
			versions[k % UPDATED] = t->at;
		}
		commit_and_flip();
		if (i / (UPDATED / 2) % 32 == 0)
			retire_all();
	}
	cr_assert(zero(i32, kill(reader, SIGKILL)));
	cr_assert(eq(i32, waitpid(reader, &status, 0), reader));
	cr_assert(eq(i32, WTERMSIG(status), SIGKILL)); /* it has read all the time */
	look_at_updated();
	for (unsigned i = 0; i < 5000 && slave_mount_nodes(w.mount) > held; i++)
		poll(NULL, 0, 1);
	cr_assert(eq(sz, slave_mount_nodes(w.mount), held));
	retire_all();
	for (unsigned i = 0; i < UPDATED; i++)
		for (version_t version = 1; version < versions[i]; version++)
			cr_assert(not(record_row_exists(version, inos[i])));
}

/* ---- figures of flips */

Test(mount_slave, a_flip_of_two_names_and_of_many)
{
	enum { COUNT = 20000, ROUNDS = 200 };
	struct tree *t = &w.tree;
	struct timespec begun;
	static ino_id inos[COUNT];
	char name[32];
	double two = 0;

	tree_begin(t);
	ino_id dir = tree_mkdir(t, INO_ROOT, "dir");
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		inos[i] = tree_add_file(t, dir, name, "x", 1);
	}
	tree_commit(t);
	begin_mount();
	for (int i = 0; i < ROUNDS; i++) {
		says("dir/file-0", i ? "y" : "x");
		says("dir/file-1", i ? "y" : "x");
		tree_begin(t);
		tree_rewrite(t, inos[0], "y", 1);
		tree_rewrite(t, inos[1], "y", 1);
		tree_commit(t);
		clock_gettime(CLOCK_MONOTONIC, &begun);
		must(slave_mount_flip(w.mount), "flip");
		two += microseconds_since(&begun);
	}
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "dir/file-%d", i);
		attributes(name);
	}
	tree_begin(t);
	for (int i = 0; i < COUNT; i++)
		tree_rewrite(t, inos[i], "z", 1);
	tree_commit(t);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	must(slave_mount_flip(w.mount), "flip");
	double many = microseconds_since(&begun);
	cr_log_info("flip of 2 names %.1f us, of %d names %.1f ms", two / ROUNDS, COUNT, many / 1000);
	says("dir/file-7", "z");
	says("dir/file-19999", "z");
	cr_assert(lt(dbl, many, 5e6));
}

/* ---- life */

Test(mount_slave, unmounting_from_outside_ends_it)
{
	begin_mount();
	cr_assert(zero(i32, umount2(w.tree.mnt, 0)));
	for (int i = 0; i < 2000 && !w.ended; i++)
		poll(NULL, 0, 1);
	cr_assert(eq(i32, w.ended, 1));
	cr_assert(eq(i32, w.error, 0));
	tree_begin(&w.tree);
	tree_file(&w.tree, INO_ROOT, "f", "text");
	commit_and_flip(); /* nobody looks, and it does no harm */
}

Test(mount_slave, stopping_does_not_wait_for_its_users)
{
	begin_mount();
	int fd = open(at(""), O_RDONLY | O_DIRECTORY);
	slave_mount_stop(w.mount);
	cr_assert(eq(i32, w.ended, 0));
	cr_assert(eq(i32, rmdir(w.tree.mnt), 0));
	cr_assert(eq(i32, mkdir(w.tree.mnt, 0755), 0));
	close(fd);
}

Test(mount_slave, the_mount_of_a_killed_daemon_is_replaced)
{
	int ready[2];
	char byte;

	tree_begin(&w.tree);
	tree_file(&w.tree, INO_ROOT, "f", "text");
	tree_commit(&w.tree);
	store_close(w.tree.store); /* the child has it */
	cr_assert(zero(i32, pipe(ready)));
	pid_t pid = fork();
	if (pid == 0) {
		struct store_options options = { .dir = w.tree.state, .role = STORE_MASTER, .map_bytes = (size_t)1 << 32 };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		must(store_open(&options, &w.tree.store), "store_open");
		begin_mount();
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	cr_assert(eq(i64, read(ready[0], &byte, 1), 1));
	says("f", "text");
	cr_assert(zero(i32, kill(pid, SIGKILL)));
	cr_assert(eq(i32, waitpid(pid, NULL, 0), pid));
	struct statvfs space;
	cr_assert(eq(i32, statvfs(w.tree.mnt, &space), -1));
	cr_assert(eq(i32, errno, ENOTCONN));

	struct store_options options = { .dir = w.tree.state, .role = STORE_MASTER, .map_bytes = (size_t)1 << 32 };
	must(store_open(&options, &w.tree.store), "store_open");
	begin_mount();
	says("f", "text");
}

/* Where the machine keeps /dev/fuse to root, a namespace with one for everybody, as distributions have it. */
static bool open_fuse_to_all(void)
{
	char device[100];

	snprintf(device, sizeof(device), "%s/fuse", w.tree.dir);
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mknod(device, S_IFCHR | 0666, makedev(10, 229)) == 0 && chmod(device, 0666) == 0 &&
	       mount(device, "/dev/fuse", NULL, MS_BIND, NULL) == 0;
}

/* With fusermount3; then the mount is this user's only. */
Test(mount_slave, an_ordinary_user_mounts)
{
	struct stat s;
	int status;

	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!open_fuse_to_all() || access("/etc/mtab", F_OK) < 0)
			_exit(77); /* a chroot whose root is no mount, or too bare for fusermount3 */
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		tree_open(&w.tree, STORE_MASTER);
		tree_begin(&w.tree);
		tree_file(&w.tree, INO_ROOT, "f", "text");
		tree_commit(&w.tree);
		begin_mount();
		bool right = strcmp(content("f"), "text") == 0 && stat(at("f"), &s) == 0;
		slave_mount_free(w.mount);
		right = right && stat(at("f"), &s) < 0 && errno == ENOENT;
		tree_close(&w.tree);
		_exit(right ? 0 : 2);
	}
	cr_assert(eq(i32, waitpid(pid, &status, 0), pid));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		cr_skip_test("fusermount3 cannot be tried here");
	cr_assert(eq(i32, status, 0));
}

Test(mount_slave, acls_are_enforced_and_change_with_a_flip)
{
	/* version 2; owner rw-, user 65534 r--, group ---, mask r--, other --- */
	static const uint8_t allowed[] = { 2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 254, 255, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255,
					   16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255 };
	struct slave_mount_options options = { .mountpoint = w.tree.mnt, .allow_other = true };
	struct tree *t = &w.tree;

	tree_begin(t);
	ino_id f = tree_file(t, INO_ROOT, "f", "text");
	tree_chmod(t, f, 0640);
	tree_xattr(t, f, "system.posix_acl_access", allowed, sizeof(allowed));
	tree_commit(t);
	cr_assert(zero(i32, chmod(t->dir, 0755)));
	must(slave_mount_new(t->store, &options, on_ended, &w, &w.mount), "slave_mount_new");
	must(slave_mount_start(w.mount), "slave_mount_start");
	for (int expected = 0; expected <= EACCES; expected += EACCES) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			if (setgid(65533) < 0 || setuid(65534) < 0)
				_exit(1);
			int fd = open(at("f"), O_RDONLY);
			_exit(fd < 0 ? errno : 0);
		}
		cr_assert(eq(i32, waitpid(pid, &status, 0), pid));
		cr_assert(eq(i32, WEXITSTATUS(status), expected));
		if (expected)
			break;
		tree_begin(t);
		struct record_key key = record_key_xattr(f, "system.posix_acl_access", 23);
		must(record_delete(t->txn, t->at, &key), "record_delete");
		tree_chmod(t, f, 0600);
		commit_and_flip();
	}
}

Test(mount_slave, a_mountpoint_that_is_none_is_refused)
{
	struct slave_mount_options options = { .mountpoint = "/none/such" };

	must(slave_mount_new(w.tree.store, &options, NULL, NULL, &w.mount), "slave_mount_new");
	cr_assert(eq(i32, slave_mount_start(w.mount), -ENOENT));
	slave_mount_free(w.mount);
	options.mountpoint = w.tree.state;
	options.mount_options = "nosuchoption";
	must(slave_mount_new(w.tree.store, &options, NULL, NULL, &w.mount), "slave_mount_new");
	cr_assert(eq(i32, slave_mount_start(w.mount), -EINVAL));
}
