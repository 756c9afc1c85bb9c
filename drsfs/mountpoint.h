/* A mountpoint before it is mounted on: what both mounts have to look after. Blocks; for the time before serving. */
#ifndef DRSFS_MOUNTPOINT_H
#define DRSFS_MOUNTPOINT_H

/*
 * Take away the mounts of killed daemons that lie on it, and see that it is a directory. As an ordinary user by fusermount3.
 * -ENOTDIR, -ENOENT and other errnos; -EBUSY: a dead mount could not be taken away.
 */
int mountpoint_prepare(const char *mountpoint);

#endif
