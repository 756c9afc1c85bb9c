/* /proc/PID/fdinfo (descriptors.h). */
#include "master/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 1024
#define FDINFO_BYTES 4096 /* what we ask for comes first */

struct descriptor {
	unsigned flags;
	int mount;
	uint64_t ino;
};

/* 0, or an error; -ENODATA: this kernel does not tell all of it. */
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

/* Numbers are used by all file systems. (The process may have bound the mount to other places, and has mount numbers of its own for these.) */
static bool is_on(pid_t pid, int mount, dev_t device)
{
	char path[64], *line = NULL;
	size_t capacity = 0;
	bool found = false, on = false;
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	FILE *file = fopen(path, "re");
	while (file && !found && getline(&line, &capacity, file) >= 0) {
		unsigned major_number, minor_number;
		int number;
		found = sscanf(line, "%d %*d %u:%u", &number, &major_number, &minor_number) == 3 && number == mount;
		on = found && makedev(major_number, minor_number) == device;
	}
	free(line);
	if (file)
		fclose(file);
	return on;
}

static int count_in(pid_t pid, DIR *directory, dev_t device, ino_id ino)
{
	const struct dirent *entry;
	size_t seen = 0;
	int count = 0;
	while ((entry = readdir(directory)) != NULL) {
		struct descriptor d;
		if (entry->d_name[0] == '.')
			continue;
		if (++seen > DESCRIPTORS_MAX)
			return -1;
		int ret = descriptor_read(dirfd(directory), entry->d_name, &d);
		if (ret == -ENOENT) /* closed meanwhile */
			continue;
		if (ret < 0)
			return -1;
		count += d.ino == ino && (d.flags & O_ACCMODE) != O_RDONLY && is_on(pid, d.mount, device);
	}
	return count;
}

int descriptors_count(pid_t pid, dev_t device, ino_id ino)
{
	char path[64];
	if (pid <= 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	DIR *directory = opendir(path);
	if (!directory) /* of a process that is there /proc may be told to hide that */
		return errno == ENOENT && kill(pid, 0) < 0 && errno == ESRCH ? 0 : -1;
	int count = count_in(pid, directory, device, ino);
	closedir(directory);
	return count;
}

pid_t descriptors_process(pid_t thread)
{
	char path[64], line[256];
	pid_t process = thread;
	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	FILE *file = thread > 0 ? fopen(path, "re") : NULL;
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "Tgid: %d", &process) != 1)
		;
	if (file)
		fclose(file);
	return process;
}
