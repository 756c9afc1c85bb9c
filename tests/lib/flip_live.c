/*
 * F3 and F4 over real daemons: somebody changes the master's mount as fast as he can, one thing after another, while readers on slaves' mounts check what
 * they see of it (looks.h).
 *
 *   flip_live SECONDS MASTER SLAVE…      exit code 0: nothing was wrong; 1: something was, or the slaves do not follow
 */
#include <time.h>

#include "tests/lib/looks.h"

#define SLAVES_MAX 4
#define FIRST 100
#define PATIENCE_SECONDS 60

static struct looks *looks[SLAVES_MAX];
static unsigned slaves;

static void must(bool done, const char *what)
{
	if (done)
		return;
	fprintf(stderr, "flip_live: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void step_to(uint64_t step)
{
	for (unsigned i = 0; i < slaves; i++)
		looks[i]->begun = step;
}

/* ---- the tree, in the working directory */

static void write_bytes(const char *name, const char *bytes, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	must(fd >= 0, name);
	for (size_t done = 0; done < size; done += size - done < 5000 ? size - done : 5000)
		must(pwrite(fd, bytes + done, size - done < 5000 ? size - done : 5000, (off_t)done) > 0, name);
	must(close(fd) == 0, name);
}

static void write_number(const char *name, uint64_t number, bool big)
{
	static char bytes[FILE_BYTES_MAX + 1];

	write_bytes(name, bytes, fill_with(bytes, number, big));
}

static void slide(const char *dir, uint64_t number)
{
	char before[64], now[64];

	snprintf(before, sizeof(before), "%s/i-%" PRIu64, dir, number - WINDOW);
	snprintf(now, sizeof(now), "%s/i-%" PRIu64, dir, number);
	must(rename(before, now) == 0, now);
}

static void change_flag(uint64_t number, const char *text)
{
	if (number % 2 == 0) {
		must(unlink("flag") == 0, "flag");
		return;
	}
	write_bytes(".flag", text, strlen(text));
	must(rename(".flag", "flag") == 0, "flag");
}

static void change(enum thing thing, uint64_t number)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)number } };
	bool odd = number % 2;
	uint8_t acl[ACL_BYTES];
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	switch (thing) {
	case A:
		return write_number("a", number, false);
	case BIG:
		return write_number("big", number, true);
	case LINK:
		return must(symlink(text, ".link") == 0 && rename(".link", "link") == 0, "link");
	case ATTRIBUTE:
		return must(utimensat(AT_FDCWD, "attribute", times, 0) == 0, "attribute");
	case XATTR:
		return must(setxattr("xattr", "user.number", text, strlen(text), 0) == 0, "xattr");
	case ACL:
		acl_of(number, acl);
		return must(setxattr("acl", "system.posix_acl_access", acl, sizeof(acl), 0) == 0, "acl");
	case LISTED:
		return slide("listed", number);
	case LARGE:
		return slide("large", number);
	case FLAG:
		return change_flag(number, text);
	case FILE_MOVES:
		return must(rename(odd ? "here/f" : "there/f", odd ? "there/f" : "here/f") == 0, "moving file");
	case DIR_MOVES:
		return must(rename(odd ? "here/d" : "there/d", odd ? "there/d" : "here/d") == 0, "moving directory");
	default:
		return must(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE) == 0, "exchange");
	}
}

/* Things have number FIRST - 1, an odd one. */
static void build(void)
{
	static const char *const dirs[] = { "listed", "large", "here", "there", "there/d" }, *const files[] = { "seed", "attribute", "xattr", "acl", "there/f",
																	 "there/d/inside", "flag" };
	char name[64];

	for (unsigned i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
		must(mkdir(dirs[i], 0755) == 0, dirs[i]);
	for (unsigned i = 0; i < sizeof(files) / sizeof(*files); i++)
		write_bytes(files[i], "x", 1);
	write_bytes("one", "2", 1);
	write_bytes("two", "1", 1);
	for (int i = 0; i < FILLERS + 2 * WINDOW; i++) {
		if (i < FILLERS)
			snprintf(name, sizeof(name), "large/" FILLER_NAME, i);
		else
			snprintf(name, sizeof(name), "%s/i-%d", i % 2 ? "large" : "listed", FIRST - WINDOW + (i - FILLERS) / 2);
		must(link("seed", name) == 0, name);
	}
	for (unsigned thing = 0; thing < THINGS_OF_MOUNTS; thing++)
		change(thing, FIRST);
	must(link("a", "a.link") == 0, "a.link");
	write_bytes("built", "x", 1);
}

static bool comes(const char *slave, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", slave, name);
	for (unsigned i = 0; i < PATIENCE_SECONDS * 100; i++) {
		if (access(path, F_OK) == 0)
			return true;
		usleep(10000);
	}
	fprintf(stderr, "flip_live: %s does not come\n", path);
	return false;
}

static uint64_t change_until(time_t end, uint64_t number)
{
	while (time(NULL) < end) {
		number++;
		for (unsigned thing = 0; thing < THINGS_OF_MOUNTS; thing++) {
			step_to(step_first(looks[0], thing, number));
			change(thing, number);
		}
	}
	return number - FIRST;
}

int main(int argc, char **argv)
{
	uint64_t broken_looks = 0;
	pid_t children[SLAVES_MAX][2];

	if (argc < 4 || argc > 3 + SLAVES_MAX) {
		fprintf(stderr, "usage: flip_live SECONDS MASTER SLAVE...\n");
		return 2;
	}
	slaves = (unsigned)argc - 3;
	for (unsigned i = 0; i < slaves; i++) {
		looks[i] = looks_new(THINGS_OF_MOUNTS);
		looks[i]->floor = looks[i]->begun = step_first(looks[i], THINGS_OF_MOUNTS - 1, FIRST);
		for (unsigned k = 0; k < 2; k++)
			children[i][k] = looks_fork(looks[i], argv[3 + i], 2 * i + k);
	}
	must(chdir(argv[2]) == 0, argv[2]);
	build();
	bool follow = true;
	for (unsigned i = 0; i < slaves; i++)
		follow &= looks[i]->ready = comes(argv[3 + i], "built");
	uint64_t rounds = change_until(time(NULL) + atoi(argv[1]), FIRST);
	write_bytes("end", "x", 1);
	for (unsigned i = 0; i < slaves; i++) {
		follow &= comes(argv[3 + i], "end");
		looks[i]->stop = true;
		for (unsigned k = 0; k < 2; k++)
			waitpid(children[i][k], NULL, 0);
		printf("%s: %" PRIu64 " changes, %" PRIu64 " looks, %" PRIu64 " broken\n", argv[3 + i], rounds * THINGS_OF_MOUNTS, (uint64_t)looks[i]->count,
		       (uint64_t)looks[i]->broken);
		looks_tell(looks[i]);
		broken_looks += looks[i]->broken;
	}
	return broken_looks > 0 || !follow;
}
