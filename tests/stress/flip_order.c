/*
 * F3 and F4 under load: versions flip as fast as they can be committed, while processes and threads look at everything that changes
 * (tests/lib/looks.h), and retention takes away what is old. Now and then several versions are one flip. All things change in each
 * version, or one after another; without and with inotify watchers (F5), to whom the same holds: who was told of a version and looks
 * sees that one at least. They are told of each once. Then each thing by itself.
 *
 *   flip_order [SECONDS [THING]]     for each of the four, an eighth of it for each thing, or for THING only, by its number; exit code 0: kept; 1: broken;
 *                                    77: cannot be run here
 */
#include <poll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <time.h>

#include "slave/mount.h"
#include "tests/lib/looks.h"
#define TREE_PLACE "/dev/shm" /* no disk holds up versions */
#include "tests/lib/tree.h"

#define PROCESSES 3
#define FIRST 100
#define RETAINED 30
#define TOLD_BEHIND_MAX 500

struct told {
	_Atomic uint64_t events;
	_Atomic uint64_t newest; /* version that the watcher of 'listed' and 'still' was told of by both */
};

static struct looks *looks;
static struct told *told;
static struct tree tree;

/* ---- who is told */

#define WATCHES 4 /* numbers from 1 on */

/* Every name of a version that comes up tells that version; everybody has to see it, or a later one, from then on. */
static void is_told(const struct inotify_event *event, uint64_t last[WATCHES + 1])
{
	uint64_t number;

	told->events++;
	if (!(event->mask & (IN_CREATE | IN_MOVED_TO)) || !event->len || sscanf(event->name, "i-%" SCNu64, &number) != 1)
		return;
	if (last[event->wd] && number != last[event->wd] + 1) {
		looks->broken++;
		fprintf(stderr, "watch %d is told of version %" PRIu64 " after %" PRIu64 "\n", event->wd, number, last[event->wd]);
	}
	last[event->wd] = number;
	see(looks, step_first(looks, event->wd == 2 ? LISTED : STILL, number));
}

static void watch(int watcher)
{
	struct pollfd ready = { .fd = watcher, .events = POLLIN };
	char events[64 << 10] __attribute__((aligned(8)));
	uint64_t last[WATCHES + 1] = { 0 };

	while (!looks->stop) {
		ssize_t size = poll(&ready, 1, 100) > 0 ? read(watcher, events, sizeof(events)) : 0;
		for (ssize_t at = 0; at < size;) {
			const struct inotify_event *event = (const void *)(events + at);
			at += (ssize_t)sizeof(*event) + event->len;
			is_told(event, last);
		}
		told->newest = last[2] < last[3] ? last[2] : last[3];
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
	while (!looks->ready)
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
	ino_id a, big, link, attribute, xattr, acl, listed, still, large, seed, flag, here, there, f, d, one, two, type;
};

static void drop_name(ino_id dir, const char *name)
{
	struct record_key key = record_key_name(tree.txn, dir, name, strlen(name));

	must(record_delete(tree.txn, tree.at, &key), "record_delete");
}

static void set_time(ino_id ino, uint64_t number, uint32_t mode)
{
	struct node node = tree_node(&tree, ino);

	node.mtime = (struct node_time){ .seconds = (int64_t)number };
	node.mode = S_IFREG | mode;
	tree_put_node(&tree, ino, &node);
}

static void write_file(ino_id ino, uint64_t number, bool big)
{
	static char bytes[FILE_BYTES_MAX + 1];

	tree_rewrite(&tree, ino, bytes, fill_with(bytes, number, big));
	set_time(ino, number, 0644);
}

static bool has_name(ino_id dir, const char *name)
{
	struct record_key key = record_key_name(tree.txn, dir, name, strlen(name));
	struct slice value;

	return record_get(tree.txn, (struct view){ .version = tree.at }, &key, &value, NULL) == 0;
}

static void slide(struct things *t, ino_id dir, uint64_t number)
{
	char before[32], now[32];

	for (uint64_t old = number - WINDOW - 1; old < number - WINDOW + 1; old++) {
		snprintf(before, sizeof(before), "i-%" PRIu64, old);
		if (last_of(dir == t->still ? STILL : LISTED, old) < number && has_name(dir, before))
			drop_name(dir, before);
	}
	snprintf(now, sizeof(now), "i-%" PRIu64, number);
	tree_put_name(&tree, dir, now, t->seed, DT_REG);
	if (dir != t->still)
		tree_touch(&tree, dir);
}

static void write_flag(struct things *t, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	if (number % 2 == 1) {
		t->flag = tree_file(&tree, INO_ROOT, "flag", text);
	} else if (t->flag) {
		tree_unlink(&tree, INO_ROOT, "flag");
		tree_delete_node(&tree, t->flag);
	}
}

static void move(struct things *t, const char *name, ino_id ino, uint8_t type, bool odd)
{
	tree_unlink(&tree, odd ? t->here : t->there, name);
	tree_link(&tree, odd ? t->there : t->here, name, ino, type);
	if (type == DT_DIR) {
		struct node node = tree_node(&tree, ino);
		node.parent = odd ? t->there : t->here;
		tree_put_node(&tree, ino, &node);
	}
}

static void change_link(struct things *t, const char *text)
{
	if (t->link)
		tree_delete_node(&tree, t->link);
	t->link = tree_symlink(&tree, INO_ROOT, "link", text);
}

static void change_type(struct things *t, uint64_t number)
{
	if (t->type) {
		tree_unlink(&tree, INO_ROOT, "type");
		tree_delete_node(&tree, t->type);
	}
	t->type = number % 3 == 0 ? tree_file(&tree, INO_ROOT, "type", "x") :
		  number % 3 == 1 ? tree_mkdir(&tree, INO_ROOT, "type") : tree_symlink(&tree, INO_ROOT, "type", "a");
}

static void change(struct things *t, enum thing thing, uint64_t number)
{
	bool odd = number % 2;
	uint8_t acl[ACL_BYTES];
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	switch (thing) {
	case A:
		return write_file(t->a, number, false);
	case BIG:
		return write_file(t->big, number, true);
	case LINK:
		return change_link(t, text);
	case ATTRIBUTE:
		return set_time(t->attribute, number, mode_of(number));
	case XATTR:
		return tree_xattr(&tree, t->xattr, "user.number", text, strlen(text));
	case ACL:
		acl_of(number, acl);
		return tree_xattr(&tree, t->acl, "system.posix_acl_access", acl, ACL_BYTES);
	case LISTED:
		return slide(t, t->listed, number);
	case STILL:
		return slide(t, t->still, number);
	case LARGE:
		return slide(t, t->large, number);
	case FLAG:
		return write_flag(t, number);
	case FILE_MOVES:
		return move(t, "f", t->f, DT_REG, odd);
	case DIR_MOVES:
		return move(t, "d", t->d, DT_DIR, odd);
	case EXCHANGED:
		tree_put_name(&tree, INO_ROOT, "one", odd ? t->two : t->one, DT_REG);
		return tree_put_name(&tree, INO_ROOT, "two", odd ? t->one : t->two, DT_REG);
	case TYPE:
		return change_type(t, number);
	case THINGS:
		break;
	}
}

static void build(struct things *t)
{
	char name[64];

	*t = (struct things){ .a = tree_file(&tree, INO_ROOT, "a", ""), .big = tree_file(&tree, INO_ROOT, "big", "") };
	tree_link(&tree, INO_ROOT, "a.link", t->a, DT_REG);
	t->attribute = tree_file(&tree, INO_ROOT, "attribute", "x");
	t->xattr = tree_file(&tree, INO_ROOT, "xattr", "x");
	t->acl = tree_file(&tree, INO_ROOT, "acl", "x");
	t->seed = tree_file(&tree, INO_ROOT, "seed", "x");
	t->listed = tree_mkdir(&tree, INO_ROOT, "listed");
	t->still = tree_mkdir(&tree, INO_ROOT, "still");
	t->large = tree_mkdir(&tree, INO_ROOT, "large");
	t->here = tree_mkdir(&tree, INO_ROOT, "here");
	t->there = tree_mkdir(&tree, INO_ROOT, "there");
	t->f = tree_file(&tree, t->there, "f", "x");
	t->d = tree_mkdir(&tree, t->there, "d");
	tree_file(&tree, t->d, "inside", "x");
	t->one = tree_file(&tree, INO_ROOT, "one", "1");
	t->two = tree_file(&tree, INO_ROOT, "two", "2");
	for (int i = 0; i < FILLERS; i++) {
		snprintf(name, sizeof(name), FILLER_NAME, i);
		tree_put_name(&tree, t->large, name, t->seed, DT_REG);
	}
	for (uint64_t number = FIRST; number < FIRST + WINDOW; number++) {
		slide(t, t->listed, number);
		slide(t, t->still, number);
		slide(t, t->large, number);
	}
	for (unsigned thing = 0; thing < THINGS; thing++)
		change(t, thing, FIRST + WINDOW);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + now.tv_nsec / 1e9;
}

/* What readers have open stays. The echo reads old versions, too, so not with watchers. */
static void retire(struct slave_mount *mount)
{
	bool done = false, more = true;

	must(txn_begin_write(tree.store, &tree.txn), "begin");
	while (!done)
		must(retire_step(tree.txn, tree.at - RETAINED, 1000, slave_mount_holds, mount, &done), "retire_step");
	while (more)
		must(chunk_collect(tree.txn, 1000, &more), "chunk_collect");
	must(txn_commit(tree.txn), "commit");
}

static void commit_step(struct things *things, uint64_t step)
{
	unsigned from = looks->focused ? looks->focus : looks->alone ? step % looks->alone : 0, to = looks->focused || looks->alone ? from + 1 : THINGS;

	looks->begun = step;
	tree_begin(&tree);
	for (unsigned thing = from; thing < to; thing++)
		change(things, thing, number_at(looks, thing, step));
	tree_commit(&tree);
}

/* Watchers are told of each version as long as they are not too far behind. */
static uint64_t told_step(void)
{
	uint64_t newest = told->newest;

	return step_first(looks, STILL, newest ? newest : FIRST + WINDOW);
}

static uint64_t flip_until(struct slave_mount *mount, struct things *things, bool retiring, double end, double *ret_flipping)
{
	uint64_t step = looks->begun, flips = 0;

	do {
		for (unsigned i = flips % 8 == 7 ? 3 : 1; i > 0; i--)
			commit_step(things, ++step);
		double begun = seconds_now();
		must(slave_mount_flip(mount), "flip");
		*ret_flipping += seconds_now() - begun;
		see(looks, step);
		if (++flips % 16 == 0 && retiring)
			retire(mount);
		while (!retiring && step > told_step() + TOLD_BEHIND_MAX)
			usleep(1000);
	} while (seconds_now() < end && looks->broken == 0);
	return flips;
}

static uint64_t look_at_flips(bool inotify, unsigned alone, const enum thing *focus, double seconds)
{
	struct slave_mount_options options = { .threads = 4, .inotify = inotify };
	struct slave_mount *mount;
	struct things things;
	double flipping = 0;
	pid_t children[PROCESSES + 1];

	looks = looks_new(alone);
	looks->focused = focus;
	looks->focus = focus ? *focus : 0;
	told->newest = told->events = 0;
	tree_open(&tree, STORE_MASTER);
	tree_begin(&tree);
	build(&things);
	tree_commit(&tree);
	store_close(tree.store);
	looks->floor = looks->begun = alone ? step_first(looks, alone - 1, FIRST + WINDOW) : FIRST + WINDOW;
	/* The readers are forked before there is a store or a thread. */
	for (unsigned i = 0; i < PROCESSES; i++)
		children[i] = looks_fork(looks, tree.mnt, i);
	children[PROCESSES] = inotify ? watch_in_process() : 0;
	setpriority(PRIO_PROCESS, 0, alone || focus ? -10 : 0); /* nor do readers; they do at first, so that they get in between the parts of a flip */
	struct store_options store = { .dir = tree.state, .role = STORE_MASTER, .lazy_sync = true, .map_bytes = (size_t)1 << 32 };
	must(store_open(&store, &tree.store), "store_open");
	options.mountpoint = tree.mnt;
	must(slave_mount_new(tree.store, &options, NULL, NULL, &mount), "slave_mount_new");
	must(slave_mount_start(mount), "slave_mount_start");
	looks->ready = true;
	uint64_t flips = flip_until(mount, &things, !inotify, seconds_now() + seconds, &flipping);
	uint64_t last = number_at(looks, STILL, looks->begun);
	for (int i = 0; inotify && i < 300 && told->newest < last; i++)
		usleep(100000);
	if (inotify && told->newest < last) {
		looks->broken++;
		fprintf(stderr, "watchers are told of %" PRIu64 " of %" PRIu64 " versions\n", (uint64_t)told->newest, last);
	}
	looks->stop = true;
	for (unsigned i = 0; i < PROCESSES + (inotify ? 1u : 0u); i++)
		waitpid(children[i], NULL, 0);
	printf("flip_order%s%s%s: %" PRIu64 " flips of %.2f ms, %" PRIu64 " looks, %" PRIu64 " requests, newest seen %" PRIu64 ", broken %" PRIu64
	       ", events %" PRIu64 "\n", focus ? ", " : "", focus ? thing_names[*focus] : alone ? ", one by one" : "", inotify ? " with watchers" : "", flips, flipping / (double)flips * 1e3, (uint64_t)looks->count,
	       slave_mount_requests(mount), (uint64_t)looks->floor, (uint64_t)looks->broken, (uint64_t)told->events);
	if (!focus)
		looks_tell(looks);
	fflush(stdout);
	slave_mount_stop(mount);
	slave_mount_free(mount);
	tree_close(&tree);
	return looks->broken;
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 2;
	uint64_t all = 0;

	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		return 77;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	enum thing from = argc > 2 ? (unsigned)atoi(argv[2]) % THINGS : 0, to = argc > 2 ? from + 1 : THINGS;
	for (int i = 0; argc <= 2 && i < 4; i++)
		all += look_at_flips(i % 2, i / 2 ? THINGS : 0, NULL, seconds);
	for (enum thing thing = from; thing < to; thing++)
		all += look_at_flips(false, 0, &thing, argc > 2 ? seconds : seconds / 8.0);
	return all > 0;
}
