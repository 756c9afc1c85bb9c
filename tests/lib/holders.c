/*
 * Processes that have files open and mapped, and directories open, while everything changes (F3).
 *
 *   holders PROCESSES DIR     open all files of DIR, and DIR; then for each line of input read everything again, from the daemon where it comes
 *                             from: one line of output, 'N files are as they were', or what is wrong
 *
 * Of a directory it is told that it can be listed from the beginning, each name once, and from where an earlier listing stopped.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <errno.h>
#include <unistd.h>

#define FILES_MAX 64
#define PROCESSES_MAX 16
#define NAMES_MAX 4096

static struct file {
	char name[256];
	int fd;
	size_t size;
	const uint8_t *map;
	uint64_t sum;
} files[FILES_MAX];
static unsigned files_count;
static DIR *dir;
static char told[400];

static bool wrong(const char *name, const char *what)
{
	snprintf(told, sizeof(told), "%s: %s: %s", name, what, strerror(errno));
	return false;
}

static uint64_t sum_more(uint64_t sum, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		sum = (sum ^ bytes[i]) * 0x100000001b3;
	return sum;
}

/* By read; bytes beyond the size count, too. */
static bool sum_read(const struct file *f, uint64_t *ret_sum)
{
	static uint8_t bytes[100000];
	uint64_t sum = 1;
	ssize_t size;

	for (off_t at = 0; (size = pread(f->fd, bytes, sizeof(bytes), at)) > 0; at += size)
		sum = sum_more(sum, bytes, (size_t)size);
	*ret_sum = sum;
	return size == 0;
}

static bool hold(const char *name)
{
	struct file *f = &files[files_count];
	struct stat s;

	f->fd = openat(dirfd(dir), name, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0 || fstat(f->fd, &s) < 0)
		return wrong(name, "open");
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->size = (size_t)s.st_size;
	f->map = f->size ? mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0) : NULL;
	if (f->map == MAP_FAILED || !sum_read(f, &f->sum))
		return wrong(name, "read");
	files_count++;
	return true;
}

static bool hold_all(const char *path)
{
	struct dirent *entry;

	dir = opendir(path);
	if (!dir)
		return wrong(path, "opendir");
	while (files_count < FILES_MAX && (entry = readdir(dir)))
		if (entry->d_type == DT_REG && !hold(entry->d_name))
			return false;
	return true;
}

static bool is_as_it_was(const struct file *f)
{
	struct stat s;
	uint64_t sum;

	if (fstat(f->fd, &s) < 0 || (size_t)s.st_size != f->size)
		return wrong(f->name, "another size");
	if (f->map && madvise((void *)f->map, f->size, MADV_DONTNEED) < 0)
		return wrong(f->name, "madvise");
	posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (!sum_read(f, &sum))
		return wrong(f->name, "read");
	if (sum != f->sum)
		return wrong(f->name, "another content");
	posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
	return !f->map || sum_more(1, f->map, f->size) == f->sum || wrong(f->name, "another content by its map");
}

static bool lists(void)
{
	static char names[NAMES_MAX][256];
	struct dirent *entry;
	long middle = 0;
	unsigned count = 0, again = 0;

	errno = 0;
	rewinddir(dir);
	while (count < NAMES_MAX && (entry = readdir(dir))) {
		for (unsigned i = 0; i < count; i++)
			if (strcmp(names[i], entry->d_name) == 0)
				return wrong(entry->d_name, "listed twice");
		snprintf(names[count++], sizeof(names[0]), "%s", entry->d_name);
		if (count == 3)
			middle = telldir(dir);
	}
	if (errno != 0)
		return wrong("the directory", "readdir");
	if (count <= 3)
		return true;
	seekdir(dir, middle);
	while (readdir(dir))
		again++;
	return again == count - 3 || wrong("the directory", "not the rest of its names");
}

static bool all_are(void)
{
	for (unsigned i = 0; i < files_count; i++)
		if (!is_as_it_was(&files[i]))
			return false;
	if (!lists())
		return false;
	snprintf(told, sizeof(told), "%u files are as they were", files_count);
	return true;
}

/* Answers each byte with what it has to tell. */
static void child(const char *path, int in, int out)
{
	char byte;
	bool good = hold_all(path);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (good)
		all_are();
	while (write(out, told, sizeof(told)) == sizeof(told) && read(in, &byte, 1) == 1)
		if (good)
			all_are();
	_exit(0);
}

/* Of several, one that is not like the first. */
static void tell(unsigned count, const int *in)
{
	char first[sizeof(told)] = "", one[sizeof(told)];

	for (unsigned i = 0; i < count; i++) {
		size_t size = 0;
		ssize_t more;
		while (size < sizeof(one) && (more = read(in[i], one + size, sizeof(one) - size)) > 0)
			size += (size_t)more;
		if (size < sizeof(one))
			strcpy(one, "a process has ended");
		if (i == 0 || strstr(first, " files are as they were"))
			memcpy(first, one, sizeof(one));
	}
	puts(first);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned count = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
	int asked[PROCESSES_MAX], answers[PROCESSES_MAX];
	char line[100];

	if (count < 1 || count > PROCESSES_MAX) {
		fprintf(stderr, "usage: holders PROCESSES DIR\n");
		return 2;
	}
	for (unsigned i = 0; i < count; i++) {
		int there[2], back[2];
		if (pipe(there) < 0 || pipe(back) < 0)
			return 1;
		asked[i] = there[1];
		answers[i] = back[0];
		if (fork() == 0) {
			for (unsigned k = 0; k <= i; k++)
				close(asked[k]);
			child(argv[2], there[0], back[1]);
		}
		close(there[0]);
		close(back[1]);
	}
	do {
		tell(count, answers);
		if (!fgets(line, sizeof(line), stdin))
			break;
		for (unsigned i = 0; i < count; i++)
			if (write(asked[i], "?", 1) != 1)
				return 1;
	} while (true);
	return 0;
}
