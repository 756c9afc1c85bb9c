/*
 * What programs do all day with many small files, or a big one, timed without the time that a process takes to start.
 *
 *   access ACTION DIRECTORY COUNT
 *
 * prints the µs that the whole of it took. Files are DIRECTORY/NUMBER/NUMBER, a hundred in each directory; the directories are made before
 * the time starts. fill makes COUNT files of 4 KiB; create, rename and unlink want to be called in this order, on empty files; stat and
 * open (open, read, close) look at what fill has made. sequential reads COUNT MiB of the file DIRECTORY, scattered 4 KiB at COUNT places of it;
 * overwrite writes 4 KiB to COUNT places of the file DIRECTORY and calls fsync after each, scatter only at the end; stalls writes a small file again and again until
 * COUNT ms have passed, and prints the longest time that a close took.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sample.h"

#define IN_ONE_DIRECTORY 100
#define SMALL 4096
#define LARGE (1 << 20)

static char content[LARGE];

static void need(int succeeded, const char *what, const char *path)
{
	if (succeeded)
		return;
	fprintf(stderr, "access: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

static const char *file_name(const char *directory, const char *prefix, long i)
{
	static char names[2][4096];
	static int turn;
	char *name = names[turn ^= 1];
	snprintf(name, sizeof(names[0]), "%s/%ld/%s%ld", directory, i / IN_ONE_DIRECTORY, prefix, i % IN_ONE_DIRECTORY);
	return name;
}

static void make_directories(const char *directory, long count)
{
	char name[4096];
	for (long i = 0; i * IN_ONE_DIRECTORY < count; i++) {
		snprintf(name, sizeof(name), "%s/%ld", directory, i);
		need(mkdir(name, 0755) == 0 || errno == EEXIST, "mkdir", name);
	}
}

static void make(const char *name, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	need(fd >= 0, "create", name);
	need(size == 0 || write(fd, content, size) == (ssize_t)size, "write", name);
	need(close(fd) == 0, "close", name);
}

static void read_small(const char *name)
{
	int fd = open(name, O_RDONLY);
	need(fd >= 0, "open", name);
	need(read(fd, content, SMALL) == SMALL, "read", name);
	close(fd);
}

static void act_on_files(const char *action, const char *directory, long count)
{
	struct stat st;
	for (long i = 0; i < count; i++) {
		const char *name = file_name(directory, "", i);
		if (!strcmp(action, "fill"))
			make(name, SMALL);
		else if (!strcmp(action, "create"))
			make(name, 0);
		else if (!strcmp(action, "rename"))
			need(rename(name, file_name(directory, "to", i)) == 0, "rename", name);
		else if (!strcmp(action, "unlink"))
			need(unlink(file_name(directory, "to", i)) == 0, "unlink", name);
		else if (!strcmp(action, "stat"))
			need(stat(name, &st) == 0 && st.st_size == SMALL, "stat", name);
		else
			read_small(name);
	}
}

static off_t place_in(off_t size)
{
	static uint64_t state;
	if (!state) /* other places in each run */
		state = 88172645463325252 ^ (uint64_t)now_us();
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (off_t)(state % (uint64_t)(size / SMALL)) * SMALL;
}

static void act_on_one(const char *action, const char *name, long count)
{
	int reads = !strcmp(action, "sequential") || !strcmp(action, "scattered"), each = !strcmp(action, "overwrite");
	int fd = open(name, reads ? O_RDONLY : O_RDWR);
	need(fd >= 0, "open", name);
	off_t size = lseek(fd, 0, SEEK_END);
	need(size >= LARGE, "seek in", name);
	for (long i = 0; i < count; i++) {
		if (!strcmp(action, "sequential")) {
			need(pread(fd, content, LARGE, (off_t)i * LARGE) == LARGE, "read", name);
		} else if (reads) {
			need(pread(fd, content, SMALL, place_in(size)) == SMALL, "read", name);
		} else {
			memcpy(content, (double[]){ now_us() }, sizeof(double));
			need(pwrite(fd, content, SMALL, place_in(size)) == SMALL && (!each || fsync(fd) == 0), "write", name);
		}
	}
	need(reads || fsync(fd) == 0, "fsync", name);
	close(fd);
}

static void stalls(const char *directory, long ms)
{
	char name[4096];
	double until = now_us() + (double)ms * 1000, longest = 0;
	snprintf(name, sizeof(name), "%s/stalled", directory);
	while (now_us() < until) {
		int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		need(fd >= 0 && write(fd, content, SMALL) == SMALL, "write", name);
		double began = now_us();
		need(close(fd) == 0, "close", name);
		double took = now_us() - began;
		if (took > longest)
			longest = took;
		pause_us(1000);
	}
	printf("%.0f\n", longest);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: access fill|create|rename|unlink|stat|open|sequential|scattered|overwrite|scatter|stalls PATH COUNT\n");
		return 2;
	}
	const char *action = argv[1], *path = argv[2];
	long count = atol(argv[3]);
	if (!strcmp(action, "stalls")) {
		stalls(path, count);
		return 0;
	}
	int one = !strcmp(action, "sequential") || !strcmp(action, "scattered") || !strcmp(action, "overwrite") || !strcmp(action, "scatter");
	if (!strcmp(action, "fill") || !strcmp(action, "create"))
		make_directories(path, count);
	double began = now_us();
	(one ? act_on_one : act_on_files)(action, path, count);
	printf("%.0f\n", now_us() - began);
	return 0;
}
