/*
 * Events for watchers of the slave's mount (F5), where it takes a store that is written directly: names that change places, many names, more than
 * is told, a mount that is not followed. What programs see is in tests/mount/inotify.sh, the order of flips and events in tests/stress/flip_order.c.
 * Real mounts: root and /dev/fuse, else skipped.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>

#include "slave/mount.h"
#include "tests/lib/tree.h"

static struct tree tree;
static struct slave_mount *slave;
static int watcher = -1;
static ino_id dir;

static void begin(void)
{
	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		cr_skip_test("needs root and /dev/fuse");
	tree_open(&tree, STORE_MASTER);
	tree_begin(&tree);
	dir = tree_mkdir(&tree, INO_ROOT, "dir");
}

static void end(void)
{
	if (!tree.store)
		return;
	slave_mount_free(slave);
	tree_close(&tree);
}

TestSuite(mount_slave_events, .init = begin, .fini = end, .timeout = 60);

static void watch(const char *path)
{
	char whole[200];

	snprintf(whole, sizeof(whole), "%s/%s", tree.mnt, path);
	cr_assert(ge(i32, inotify_add_watch(watcher, whole, IN_ALL_EVENTS & ~(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE)), 0), "%s: %s", path,
		  strerror(errno));
}

static void commit_and_watch(void)
{
	struct slave_mount_options options = { .mountpoint = tree.mnt, .inotify = true };

	tree_commit(&tree);
	must(slave_mount_new(tree.store, &options, NULL, NULL, &slave), "slave_mount_new");
	must(slave_mount_start(slave), "slave_mount_start");
	watcher = inotify_init1(IN_CLOEXEC);
	watch("dir");
	tree_begin(&tree);
}

static void commit_and_flip(void)
{
	tree_commit(&tree);
	must(slave_mount_flip(slave), "slave_mount_flip");
	tree_begin(&tree);
}

static const char *kind_of(uint32_t mask)
{
	return mask & IN_MOVED_FROM ? "from" : mask & IN_MOVED_TO ? "to" : mask & IN_CREATE ? "create" : mask & IN_DELETE ? "delete" :
	       mask & IN_CLOSE_WRITE ? "close" : mask & IN_MODIFY ? "modify" : mask & IN_ATTRIB ? "attrib" : mask & IN_Q_OVERFLOW ? "overflow" : "other";
}

static void make_mark(char mark[32])
{
	static unsigned marks;

	snprintf(mark, 32, "mark-%u", ++marks);
	tree_file(&tree, dir, mark, "");
	commit_and_flip();
}

static bool add_event(const struct inotify_event *event, const char *mark, char *text, size_t size)
{
	size_t used = strlen(text);

	if (event->len && strncmp(event->name, "mark-", 5) == 0)
		return event->mask & IN_CLOSE_WRITE && strcmp(event->name, mark) == 0;
	snprintf(text + used, size - used, "%s%s %s", used ? ", " : "", kind_of(event->mask), event->len ? event->name : ".");
	return false;
}

/* Show the version, and what comes until a file that is made for that in the next; another one, if the version of the first was not told. */
static const char *events(void)
{
	static char text[4096];
	char bytes[4096] __attribute__((aligned(8))), mark[32];
	bool ended = false;

	commit_and_flip();
	make_mark(mark);
	for (text[0] = 0; !ended;) {
		struct pollfd ready = { .fd = watcher, .events = POLLIN };
		if (poll(&ready, 1, 1000) == 0) {
			make_mark(mark);
			continue;
		}
		ssize_t size = read(watcher, bytes, sizeof(bytes));
		for (ssize_t at = 0; at < size && !ended;) {
			const struct inotify_event *event = (const void *)(bytes + at);
			at += (ssize_t)sizeof(*event) + event->len;
			ended = add_event(event, mark, text, sizeof(text));
		}
	}
	return text;
}

#define tells(expected) cr_assert(eq(str, (char *)events(), (char *)(expected)))

static void name_again(const char *name, ino_id ino)
{
	tree_put_name(&tree, dir, name, ino, DT_REG);
}

static void unname(const char *name)
{
	struct record_key key = record_key_name(tree.txn, dir, name, strlen(name));

	must(record_delete(tree.txn, tree.at, &key), "record_delete");
}

Test(mount_slave_events, two_names_exchange_what_they_lead_to)
{
	ino_id a = tree_file(&tree, dir, "a", "A"), b = tree_file(&tree, dir, "b", "B");

	commit_and_watch();
	name_again("a", b);
	name_again("b", a);
	const char *told = events();
	cr_assert(strcmp(told, "from a, to b, from b, to a") == 0 || strcmp(told, "from b, to a, from a, to b") == 0, "%s", told);
}

Test(mount_slave_events, names_move_up_from_the_end_of_the_chain)
{
	ino_id inos[20];
	char name[16], expected[1024] = "";

	for (unsigned i = 0; i < ARRAY_SIZE(inos); i++) {
		snprintf(name, sizeof(name), "log.%u", i);
		inos[i] = tree_file(&tree, dir, name, name);
	}
	commit_and_watch();
	unname("log.0");
	for (unsigned i = ARRAY_SIZE(inos); i-- > 0;) {
		snprintf(name, sizeof(name), "log.%u", i + 1);
		name_again(name, inos[i]);
		size_t used = strlen(expected);
		snprintf(expected + used, sizeof(expected) - used, "%sfrom log.%u, to log.%u", used ? ", " : "", i, i + 1);
	}
	tells(expected);
}

Test(mount_slave_events, all_names_that_are_known_are_told)
{
	ino_id file = tree_file(&tree, dir, "one", "x");
	struct node node = tree_node(&tree, file);

	node.nlink = 2;
	tree_put_node(&tree, file, &node);
	tree_link(&tree, dir, "two", file, DT_REG);
	commit_and_watch();
	for (unsigned i = 0; i < 2; i++) {
		char path[200];
		snprintf(path, sizeof(path), "%s/dir/%s", tree.mnt, i ? "two" : "one");
		cr_assert(zero(i32, access(path, F_OK)));
	}
	tree_rewrite(&tree, file, "y", 1);
	const char *told = events();
	cr_assert(strcmp(told, "modify one, close one, modify two, close two") == 0 || strcmp(told, "modify two, close two, modify one, close one") == 0,
		  "%s", told);
}

Test(mount_slave_events, a_file_in_place_of_a_directory_is_another_thing)
{
	ino_id thing = tree_mkdir(&tree, dir, "thing");

	commit_and_watch();
	tree_delete_node(&tree, thing);
	tree_add_file(&tree, dir, "thing", "x", 1);
	tells("delete thing, create thing, close thing");
}

/* Ghosts and their timeouts leave nothing behind that costs a reader more than one look. */
Test(mount_slave_events, what_was_told_is_cached_again)
{
	ino_id changed = tree_file(&tree, dir, "changed", "x"), gone = tree_file(&tree, dir, "gone", "x"), moved = tree_file(&tree, dir, "moved", "x");
	static const char *const names[] = { "changed", "gone", "moved", "elsewhere", "new" };
	uint64_t before = 0;
	char path[200];

	commit_and_watch();
	tree_rewrite(&tree, changed, "y", 1);
	unname("gone");
	tree_delete_node(&tree, gone);
	unname("moved");
	name_again("elsewhere", moved);
	tree_file(&tree, dir, "new", "x");
	events();
	for (unsigned round = 0; round < 100; round++) { /* at first attributes may not be kept; in the end nothing is asked for */
		before = slave_mount_requests(slave);
		for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(path, sizeof(path), "%s/dir/%s", tree.mnt, names[i]);
			cr_assert(eq(i32, access(path, R_OK), strcmp(names[i], "gone") == 0 || strcmp(names[i], "moved") == 0 ? -1 : 0), "%s", names[i]);
		}
		usleep(5000);
	}
	cr_assert(eq(u64, slave_mount_requests(slave), before));
}

/* And what comes after that is told again. */
Test(mount_slave_events, a_version_of_too_many_changes_is_not_told)
{
	char name[32];

	commit_and_watch();
	tree_file(&tree, dir, "among-them", "x");
	ino_id aside = tree_mkdir(&tree, INO_ROOT, "aside");
	for (unsigned i = 0; i < 110000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		tree_put_name(&tree, aside, name, dir, DT_REG);
	}
	tells("");
	tree_file(&tree, dir, "after-them", "x");
	tells("create after-them, close after-them");
}

Test(mount_slave_events, versions_that_are_not_kept_are_not_told)
{
	bool done = false;

	commit_and_watch();
	for (unsigned i = 0; i < 5; i++) {
		tree_file(&tree, dir, i ? "more" : "first", "x");
		tree_commit(&tree);
		tree_begin(&tree);
		if (i < 4)
			unname(i ? "more" : "first");
	}
	while (!done)
		must(retire_step(tree.txn, txn_state(tree.txn)->current, 1000, NULL, NULL, &done), "retire_step");
	tells("");
}
