/*
 * What events for watchers cost (F5), on a mount of the process's own: CPU time, the daemon's and the kernel's for it, the flip, and how long after
 * its beginning the last event comes. The directory is one that the kernel holds; switched off, with nobody and with somebody who watches it.
 *
 *   events FILES     lines "off|silent|watched KIND CPU FLIP EVENT" in µs (0: none comes), for a version that changes one file (one; the medians
 *                    of many, CPU the mean) or FILES files (written, removed, created; CPU is per file)
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/resource.h>

#include "slave/mount.h"
#include "tests/bench/sample.h"
#include "tests/lib/tree.h"

#define ROUNDS 300
#define QUIET_US 100000

static struct tree tree;
static struct slave_mount *slave;
static int watcher = -1;
static unsigned files;
static ino_id dir, *inos;

static double cpu_us(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

/* When the event comes that this name was closed or removed; also if there were too many. */
static double wait_for(const char *last)
{
	struct pollfd ready = { .fd = watcher, .events = POLLIN };
	static char events[1 << 16] __attribute__((aligned(8)));

	while (poll(&ready, 1, 10000) > 0) {
		ssize_t size = read(watcher, events, sizeof(events));

		for (ssize_t at = 0; at < size;) {
			const struct inotify_event *event = (const void *)(events + at);

			at += (ssize_t)sizeof(*event) + event->len;
			if (event->mask & IN_Q_OVERFLOW || (event->len && event->mask & (IN_CLOSE_WRITE | IN_DELETE) && strcmp(event->name, last) == 0))
				return now_us();
		}
	}
	return now_us();
}

static void name_of(char name[32], unsigned i)
{
	snprintf(name, 32, "file-%u", i);
}

/* It is at an end when nothing uses CPU time any more. */
static void wait_quiet(void)
{
	double before;

	do {
		before = cpu_us();
		pause_us(QUIET_US);
	} while (cpu_us() - before > QUIET_US / 500.);
}

static void one(const char *what)
{
	double flips[ROUNDS], ends[ROUNDS], cpu = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		tree_begin(&tree);
		tree_rewrite(&tree, inos[0], &i, sizeof(i));
		tree_commit(&tree);
		double used = cpu_us(), begun = now_us();
		must(slave_mount_flip(slave), "flip");
		flips[i] = now_us() - begun;
		ends[i] = watcher < 0 ? 0 : wait_for("file-0") - begun;
		pause_us(2000);
		cpu += cpu_us() - used;
	}
	qsort(flips, ROUNDS, sizeof(*flips), sample_compare);
	qsort(ends, ROUNDS, sizeof(*ends), sample_compare);
	printf("%s one %.0f %.0f %.0f\n", what, cpu / ROUNDS, flips[ROUNDS / 2], ends[ROUNDS / 2]);
}

static void change(const char *kind)
{
	char name[32];

	for (unsigned i = 0; i < files; i++) {
		name_of(name, i);
		if (*kind == 'w') {
			tree_rewrite(&tree, inos[i], &i, sizeof(i));
		} else if (*kind == 'r') {
			struct record_key key = record_key_name(tree.txn, dir, name, strlen(name));
			must(record_delete(tree.txn, tree.at, &key), "record_delete");
			tree_delete_node(&tree, inos[i]);
		} else {
			inos[i] = tree_add_file(&tree, dir, name, "x", 1);
		}
	}
}

static void many(const char *what, const char *kind)
{
	tree_begin(&tree);
	change(kind);
	tree_touch(&tree, dir);
	tree_commit(&tree);
	double used = cpu_us(), begun = now_us();
	must(slave_mount_flip(slave), "flip");
	double flipped = now_us();
	wait_quiet();
	printf("%s %s %.1f %.0f 0\n", what, kind, (cpu_us() - used) / files, flipped - begun);
}

static void measure(const char *what, bool inotify, bool watched)
{
	struct slave_mount_options options = { .inotify = inotify };
	char path[128], name[32];

	tree_open(&tree, STORE_MASTER);
	tree_begin(&tree);
	dir = tree_mkdir(&tree, INO_ROOT, "dir");
	for (unsigned i = 0; i < files; i++) {
		name_of(name, i);
		inos[i] = tree_add_file(&tree, dir, name, "x", 1);
	}
	tree_commit(&tree);
	options.mountpoint = tree.mnt;
	must(slave_mount_new(tree.store, &options, NULL, NULL, &slave), "slave_mount_new");
	must(slave_mount_start(slave), "slave_mount_start");
	snprintf(path, sizeof(path), "%s/dir", tree.mnt);
	int held = open(path, O_RDONLY | O_DIRECTORY);
	watcher = watched ? inotify_init1(IN_CLOEXEC) : -1;
	if (watched)
		inotify_add_watch(watcher, path, IN_ALL_EVENTS & ~(IN_ACCESS | IN_OPEN | IN_CLOSE_NOWRITE));
	one(what);
	many(what, "written");
	many(what, "removed");
	many(what, "created");
	close(held);
	if (watched)
		close(watcher);
	slave_mount_stop(slave);
	slave_mount_free(slave);
	tree_close(&tree);
}

int main(int argc, char **argv)
{
	files = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
	inos = calloc(files, sizeof(*inos));
	measure("off", false, false);
	measure("silent", true, false);
	measure("watched", true, true);
	free(inos);
	return 0;
}
