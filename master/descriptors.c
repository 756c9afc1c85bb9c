/* /proc/PID/fdinfo (descriptors.h). */
#include "master/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 1024
#define FDINFO_BYTES 4096 /* what we ask for comes first */

struct descriptor {
	unsigned flags;
	int mount;
	uint64_t ino;
};

/*
 * What has no path (epoll, inotify and their like) is left alone: to tell of it the kernel takes locks, and who holds one may be asking the mount something (the first
 * epoll_ctl with a file of the mount does). 1, 0, or an error.
 */
static int is_file(pid_t pid, const char *name)
{
	char path[64 + NAME_MAX], target;
	snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, name);
	ssize_t size = readlink(path, &target, 1);
	return size < 0 ? -errno : size == 1 && target == '/';
}

/* 0, or an error; -ENODATA: the kernel does not tell all of that. */
static int descriptor_read(int directory, const char *name, struct descriptor *ret)
{
	char text[FDINFO_BYTES];
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	int error = -errno;
	if (fd >= 0)
		close(fd);
	if (size < 0)
		return error;
	text[size] = 0;
	const char *flags = strstr(text, "flags:"), *mount = strstr(text, "mnt_id:"), *ino = strstr(text, "ino:");
	bool all = flags && mount && ino && sscanf(flags, "flags: %o", &ret->flags) == 1 && sscanf(mount, "mnt_id: %d", &ret->mount) == 1 &&
		   sscanf(ino, "ino: %" SCNu64, &ret->ino) == 1;
	return all ? 0 : -ENODATA;
}

/* Numbers are used by all file systems. (The process may have bound the mount to other places, and has numbers of its own for these.) */
static bool is_ours(pid_t pid, int mount)
{
	char path[64], *line = NULL;
	size_t capacity = 0;
	bool ours = false;
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	FILE *file = fopen(path, "re");
	while (file && !ours && getline(&line, &capacity, file) >= 0)
		ours = atoi(line) == mount && strstr(line, " - fuse.drsfs ");
	free(line);
	if (file)
		fclose(file);
	return ours;
}

static enum descriptors look(pid_t pid, DIR *directory, ino_id ino)
{
	const struct dirent *entry;
	size_t count = 0;
	while ((entry = readdir(directory)) != NULL) {
		struct descriptor d;
		if (entry->d_name[0] == '.')
			continue;
		if (++count > DESCRIPTORS_MAX)
			return DESCRIPTORS_UNKNOWN;
		int ret = is_file(pid, entry->d_name);
		if (ret == 1)
			ret = descriptor_read(dirfd(directory), entry->d_name, &d);
		else if (ret == 0)
			continue;
		if (ret == -ENOENT) /* closed meanwhile */
			continue;
		if (ret < 0)
			return DESCRIPTORS_UNKNOWN;
		if (d.ino == ino && (d.flags & O_ACCMODE) != O_RDONLY && is_ours(pid, d.mount))
			return DESCRIPTORS_SOME;
	}
	return DESCRIPTORS_NONE;
}

enum descriptors descriptors_of(pid_t pid, ino_id ino)
{
	char path[64];
	if (pid <= 0)
		return DESCRIPTORS_UNKNOWN;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	DIR *directory = opendir(path);
	if (!directory)
		return errno == ENOENT && kill(pid, 0) < 0 && errno == ESRCH ? DESCRIPTORS_NONE : DESCRIPTORS_UNKNOWN; /* /proc may hide it */
	enum descriptors ret = look(pid, directory, ino);
	closedir(directory);
	return ret;
}
