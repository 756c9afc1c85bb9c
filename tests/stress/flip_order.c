/*
 * F4 under load: versions flip as fast as they can be committed, while processes and threads look at everything that changes: two
 * files, a symlink, an attribute, a listing, a listing whose directory keeps its mtime, and a name that is there in every other
 * version. Each thing tells the version that it is of. What somebody has seen, everybody shares: a look that begins afterwards
 * and finds something older breaks the promise. Once so, and once with inotify watchers (F5), to whom the same holds: who was told of a version and
 * looks sees that one at least. They are told of each version once.
 *
 *   flip_order [SECONDS]     for each of the two; exit code 0: kept; 1: broken; 77: cannot be run here
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "slave/mount.h"
#include "tests/lib/tree.h"

#define PROCESSES 3
#define THREADS 2
#define FILLERS 300 /* names that make listings take several requests */

struct shared {
	_Atomic uint64_t seen; /* the newest version that anybody has seen */
	_Atomic uint64_t looks, broken, events;
	_Atomic uint64_t told; /* the newest version that the watcher of 'listed' and 'still' was told of by both */
	atomic_bool mounted, stop;
};

static struct shared *shared;
static struct tree tree;

/* ---- looks: each gives the version that it saw, 0 if it cannot be told */

static uint64_t number_in_file(const char *name)
{
	char path[200], text[32] = "";
	uint64_t number = 0;

	snprintf(path, sizeof(path), "%s/%s", tree.mnt, name);
	int fd = open(path, O_RDONLY);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
		number = strtoull(text, NULL, 10);
	close(fd);
	return number;
}

static uint64_t number_in_link(void)
{
	char path[200], text[32] = "";

	snprintf(path, sizeof(path), "%s/link", tree.mnt);
	return readlink(path, text, sizeof(text) - 1) > 0 ? strtoull(text, NULL, 10) : 0;
}

static uint64_t number_in_attribute(void)
{
	char path[200];
	struct stat s;

	snprintf(path, sizeof(path), "%s/attribute", tree.mnt);
	return stat(path, &s) == 0 ? (uint64_t)s.st_mtim.tv_sec : 0;
}

static uint64_t number_in_listing(const char *name)
{
	char path[200];
	uint64_t number = 0;
	struct dirent *entry;

	snprintf(path, sizeof(path), "%s/%s", tree.mnt, name);
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "is-%" SCNu64, &number) == 1)
			break;
	if (dir)
		closedir(dir);
	return number;
}

/* The name of version N is looked for while N has not come, so the kernel remembers that it is not there. */
static uint64_t number_by_name(uint64_t floor)
{
	char path[200];

	for (uint64_t number = floor + 1;; number--) {
		snprintf(path, sizeof(path), "%s/listed/is-%" PRIu64, tree.mnt, number);
		if (access(path, F_OK) == 0)
			return number;
		if (number + 3 < floor || number == 1)
			return floor; /* it has moved on meanwhile */
	}
}

static uint64_t look(unsigned kind, uint64_t floor)
{
	switch (kind) {
	case 0:
		return number_in_file("a");
	case 1:
		return number_in_file("b");
	case 2:
		return number_in_link();
	case 3:
		return number_in_attribute();
	case 4:
		return number_in_listing("listed");
	case 5:
		return number_in_listing("still");
	default:
		return number_by_name(floor);
	}
}

#define KIND_WHOLE_MAX 3 /* these are there in each version, and tell it */
static const char *const kinds[] = { "file a", "file b", "symlink", "attribute", "listing", "listing with the same mtime", "name" };

static void see(uint64_t number)
{
	uint64_t seen = shared->seen;

	while (seen < number && !atomic_compare_exchange_weak(&shared->seen, &seen, number))
		;
}

static void *reader(void *user)
{
	unsigned kind = (unsigned)(uintptr_t)user;

	while (!shared->stop) {
		kind = (kind + 1) % ARRAY_SIZE(kinds);
		bool there = shared->mounted;
		uint64_t floor = shared->seen;
		uint64_t number = look(kind, floor);

		shared->looks++;
		if (number == 0 && there && kind <= KIND_WHOLE_MAX) {
			shared->broken++;
			fprintf(stderr, "%s shows nothing: %s\n", kinds[kind], strerror(errno));
		}
		if (number == 0)
			continue; /* a listing may miss a name that is replaced while it goes on */
		if (number < floor && kind != ARRAY_SIZE(kinds) - 1) {
			shared->broken++;
			fprintf(stderr, "%s shows version %" PRIu64 " after somebody has seen %" PRIu64 "\n", kinds[kind], number, floor);
		}
		see(number);
	}
	return NULL;
}

static void read_in_threads(unsigned process)
{
	pthread_t threads[THREADS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, reader, (void *)(process * 3 + i));
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

/* ---- who is told */

#define WATCHES 4 /* numbers from 1 on */

/* Every name of a version that comes up tells that version; everybody has to see it, or a later one, from then on. */
static void is_told(const struct inotify_event *event, uint64_t told[WATCHES + 1])
{
	uint64_t number;

	shared->events++;
	if (!(event->mask & (IN_CREATE | IN_MOVED_TO)) || !event->len || sscanf(event->name, "is-%" SCNu64, &number) != 1)
		return;
	if (told[event->wd] && number != told[event->wd] + 1) {
		shared->broken++;
		fprintf(stderr, "watch %d is told of version %" PRIu64 " after %" PRIu64 "\n", event->wd, number, told[event->wd]);
	}
	told[event->wd] = number;
	see(number);
}

static void watch(int watcher)
{
	struct pollfd ready = { .fd = watcher, .events = POLLIN };
	char events[64 << 10] __attribute__((aligned(8)));
	uint64_t told[WATCHES + 1] = { 0 };

	while (!shared->stop) {
		ssize_t size = poll(&ready, 1, 100) > 0 ? read(watcher, events, sizeof(events)) : 0;
		for (ssize_t at = 0; at < size;) {
			const struct inotify_event *event = (const void *)(events + at);
			at += (ssize_t)sizeof(*event) + event->len;
			is_told(event, told);
		}
		shared->told = told[2] < told[3] ? told[2] : told[3];
	}
}

static pid_t watch_in_process(void)
{
	static const char *const names[WATCHES] = { "", "listed", "still", "a" };
	char path[200];
	pid_t child = fork();

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!shared->mounted)
		usleep(1000);
	int watcher = inotify_init();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", tree.mnt, names[i]);
		inotify_add_watch(watcher, path, IN_ALL_EVENTS & ~(IN_ACCESS | IN_OPEN | IN_CLOSE_NOWRITE));
	}
	watch(watcher);
	_exit(0);
}

/* ---- versions */

struct things {
	ino_id a, b, attribute, listed, still, link;
};

static void fill(ino_id dir)
{
	char name[32];

	for (int i = 0; i < FILLERS; i++) {
		snprintf(name, sizeof(name), "filler-%d-of-some-length", i);
		tree_add_file(&tree, dir, name, "x", 1);
	}
}

static void write_number(struct things *t, uint64_t number)
{
	char text[32], before[48], now[48];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	snprintf(before, sizeof(before), "is-%" PRIu64, number - 1);
	snprintf(now, sizeof(now), "is-%" PRIu64, number);
	tree_rewrite(&tree, t->a, text, strlen(text));
	tree_rewrite(&tree, t->b, text, strlen(text));
	if (t->link) {
		tree_delete_node(&tree, t->link);
		tree_unlink(&tree, t->listed, before);
		struct record_key key = record_key_name(tree.txn, t->still, before, strlen(before));
		must(record_delete(tree.txn, tree.at, &key), "record_delete");
	}
	t->link = tree_symlink(&tree, INO_ROOT, "link", text);
	tree_link(&tree, t->listed, now, t->a, DT_REG);
	tree_put_name(&tree, t->still, now, t->b, DT_REG);
	struct node node = tree_node(&tree, t->attribute);
	node.mtime.seconds = (int64_t)number;
	tree_put_node(&tree, t->attribute, &node);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + now.tv_nsec / 1e9;
}

static uint64_t flip_until(struct slave_mount *mount, struct things *things, double end, double *ret_flipping)
{
	uint64_t number = 1;

	do {
		tree_begin(&tree);
		write_number(things, ++number);
		tree_commit(&tree);
		double begun = seconds_now();
		must(slave_mount_flip(mount), "flip");
		*ret_flipping += seconds_now() - begun;
	} while (seconds_now() < end);
	return number;
}

static void look_at_flips(bool inotify, int seconds)
{
	struct slave_mount_options options = { .threads = 4, .inotify = inotify };
	struct slave_mount *mount;
	struct things things = { 0 };
	double flipping = 0;
	pid_t children[PROCESSES + 1];

	memset(shared, 0, sizeof(*shared));
	tree_open(&tree, STORE_MASTER);
	tree_begin(&tree);
	things.a = tree_file(&tree, INO_ROOT, "a", "");
	things.b = tree_file(&tree, INO_ROOT, "b", "");
	things.attribute = tree_file(&tree, INO_ROOT, "attribute", "x");
	things.listed = tree_mkdir(&tree, INO_ROOT, "listed");
	things.still = tree_mkdir(&tree, INO_ROOT, "still");
	fill(things.listed);
	fill(things.still);
	write_number(&things, 1);
	tree_commit(&tree);
	store_close(tree.store);
	/* The readers are forked before there is a store or a thread. */
	for (unsigned i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (children[i] == 0)
			read_in_threads(i);
	}
	children[PROCESSES] = inotify ? watch_in_process() : 0;
	struct store_options store = { .dir = tree.state, .role = STORE_MASTER, .map_bytes = (size_t)1 << 32 };
	must(store_open(&store, &tree.store), "store_open");
	options.mountpoint = tree.mnt;
	must(slave_mount_new(tree.store, &options, NULL, NULL, &mount), "slave_mount_new");
	must(slave_mount_start(mount), "slave_mount_start");
	shared->mounted = true;
	uint64_t flips = flip_until(mount, &things, seconds_now() + seconds, &flipping);
	for (int i = 0; inotify && i < 300 && shared->told < flips; i++)
		usleep(100000);
	if (inotify && shared->told < flips) {
		shared->broken++;
		fprintf(stderr, "watchers are told of %" PRIu64 " of %" PRIu64 " versions\n", (uint64_t)shared->told, flips);
	}
	shared->stop = true;
	for (unsigned i = 0; i < PROCESSES + (inotify ? 1u : 0u); i++)
		waitpid(children[i], NULL, 0);
	printf("flip_order%s: %" PRIu64 " flips of %.2f ms, %" PRIu64 " looks, %" PRIu64 " requests, newest seen %" PRIu64 ", broken %" PRIu64
	       ", events %" PRIu64 "\n", inotify ? " with watchers" : "", flips, flipping / (double)flips * 1e3, (uint64_t)shared->looks,
	       slave_mount_requests(mount), (uint64_t)shared->seen, (uint64_t)shared->broken, (uint64_t)shared->events);
	fflush(stdout);
	slave_mount_stop(mount);
	slave_mount_free(mount);
	tree_close(&tree);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 3;
	uint64_t broken;

	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		return 77;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	look_at_flips(false, seconds);
	broken = shared->broken;
	look_at_flips(true, seconds);
	return broken || shared->broken;
}
