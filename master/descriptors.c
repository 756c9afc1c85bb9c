/* /proc/PID/fdinfo (descriptors.h). */
#include "master/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

static bool descriptor_read(int directory, const char *name, struct descriptor *ret)
{
	char text[FDINFO_BYTES];
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (size < 0)
		return false;
	text[size] = 0;
	const char *flags = strstr(text, "flags:"), *mount = strstr(text, "mnt_id:"), *ino = strstr(text, "ino:");
	return flags && mount && ino && sscanf(flags, "flags: %o", &ret->flags) == 1 && sscanf(mount, "mnt_id: %d", &ret->mount) == 1 &&
	       sscanf(ino, "ino: %" SCNu64, &ret->ino) == 1;
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
		if (!descriptor_read(dirfd(directory), entry->d_name, &d)) {
			if (errno == ENOENT) /* closed meanwhile */
				continue;
			return DESCRIPTORS_UNKNOWN;
		}
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
		return errno == ENOENT ? DESCRIPTORS_NONE : DESCRIPTORS_UNKNOWN;
	enum descriptors ret = look(pid, directory, ino);
	closedir(directory);
	return ret;
}
