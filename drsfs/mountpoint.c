#include "drsfs/mountpoint.h"

#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define STALE_MOUNTS_MAX 16 /* one upon the other */

static int unmount_by_helper(const char *mountpoint)
{
	char *arguments[] = { "fusermount3", "-u", "-z", "--", (char *)mountpoint, NULL };
	pid_t pid;
	int status, error = posix_spawnp(&pid, arguments[0], NULL, NULL, arguments, environ);

	if (error != 0)
		return -error;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

/*
 * A mount whose daemon was killed is there, but every request to it fails. statvfs always makes one, while stat and even opendir may still be
 * answered from the kernel's caches.
 */
static bool is_stale(const char *mountpoint)
{
	struct statvfs space;

	return statvfs(mountpoint, &space) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int mountpoint_prepare(const char *mountpoint)
{
	struct stat s;
	int error = 0;

	for (unsigned i = 0; i < STALE_MOUNTS_MAX && error == 0 && is_stale(mountpoint); i++)
		if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			error = unmount_by_helper(mountpoint);
	if (error < 0)
		return error;
	if (stat(mountpoint, &s) < 0)
		return -errno;
	return S_ISDIR(s.st_mode) ? 0 : -ENOTDIR;
}
