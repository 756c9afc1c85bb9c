/*
 * Small changes, each of them a version of its own: what they write to disk is then read from /proc/PID/io by the caller.
 *
 *   change patch FILE COUNT      100 bytes at changing places in the middle of FILE
 *   change replace FILE COUNT    1 KiB to a temporary name, renamed over FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/sample.h"

#define APART_US 100000 /* longer than a finished change may wait for company */

static void check(int failed, const char *what)
{
	if (!failed)
		return;
	fprintf(stderr, "change: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void patch(const char *path, int round)
{
	char bytes[100];
	struct stat attributes;
	memset(bytes, 'A' + round % 26, sizeof(bytes));
	int fd = open(path, O_WRONLY);
	check(fd < 0 || fstat(fd, &attributes) < 0, path);
	off_t at = attributes.st_size / 4 + random() % (attributes.st_size / 2);
	check(pwrite(fd, bytes, sizeof(bytes), at) != sizeof(bytes) || close(fd) < 0, path);
}

static void replace(const char *path, int round)
{
	char bytes[1024], temporary[PATH_MAX];
	memset(bytes, 'a' + round % 26, sizeof(bytes));
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	check(fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes) || close(fd) < 0, temporary);
	check(rename(temporary, path) < 0, path);
}

int main(int argc, char **argv)
{
	if (argc != 4 || (strcmp(argv[1], "patch") != 0 && strcmp(argv[1], "replace") != 0)) {
		fprintf(stderr, "usage: change patch|replace FILE COUNT\n");
		return 2;
	}
	for (int round = 0; round < atoi(argv[3]); round++) {
		if (argv[1][0] == 'p')
			patch(argv[2], round);
		else
			replace(argv[2], round);
		pause_us(APART_US);
	}
	return 0;
}
