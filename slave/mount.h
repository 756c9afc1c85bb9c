/*
 * The slave's mount: read-only, from the local replica, at local speed.
 *
 * The kernel's node ids stand for (inode, content version), so a node's content never changes and needs no open messages and no
 * timeouts (F3, F6). A few threads serve it, each with its own read transaction. A flip (F4) moves all of it from one version to
 * the next: answers about what is about to change get timeout 0, everything of that which the kernel holds is invalidated, then
 * the shown version moves in one store.
 *
 * A second one may show a fixed version, that is prepared and not current (R4.5): its records stand in the store under their number, and a
 * view at that number sees them.
 */
#ifndef SLAVE_MOUNT_H
#define SLAVE_MOUNT_H

#include "store/version.h"

struct slave_mount_options {
	const char *mountpoint;
	const char *mount_options;
	bool allow_other;
	bool inotify; /* watchers are told what flips change (F5, echo.h), if the kernel lets us */
	version_t version; /* shown all the time, also one that is staged only; 0: the current one, followed by flips */
	unsigned threads; /* 0: 8, so that some answer while others wait for the disk */
};

struct slave_mount;
/* 'ended' is called on one of the mount's threads when the mount is gone: unmounted (0) or an error. */
int slave_mount_new(struct store *, const struct slave_mount_options *, void (*ended)(void *user, int error), void *user,
		    struct slave_mount **ret_mount);
int slave_mount_start(struct slave_mount *); /* mounted when it returns 0 */
/*
 * Show the store's current version, which has just been committed; not for a mount of a fixed version. Called by the store's writer, one flip at a
 * time; on return nobody sees the old one but who holds it open. After an error the old one goes on being shown, whole; try again.
 */
int slave_mount_flip(struct slave_mount *);
version_t slave_mount_shown(const struct slave_mount *);
/* How many requests of the kernel were answered (forgets not counted). */
uint64_t slave_mount_requests(const struct slave_mount *);
/* Does the kernel still know this node, of that content version, as what it was last shown as from 'from' until before 'until'? (retention asks; any thread) */
bool slave_mount_holds(void *slave_mount, ino_id, version_t content_version, version_t from, version_t until);
/* How many nodes the kernel knows. */
size_t slave_mount_nodes(const struct slave_mount *);
void slave_mount_stop(struct slave_mount *);
void slave_mount_free(struct slave_mount *);

#endif
