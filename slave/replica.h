/*
 * The slave's user layer: applies deltas to the store and shows them on the mount (the listener of drsfs/drs.h).
 * The node's thread is the single writer of the store; the mount's threads only read. Commit (store) first, then flip (mount.h).
 */
#ifndef SLAVE_REPLICA_H
#define SLAVE_REPLICA_H

#include "drsfs/drs.h"
#include "store/delta.h"

struct replica;
struct slave_mount;

int replica_new(struct store *, uint64_t retain_versions, struct replica **ret_replica);
void replica_free(struct replica *);
/* Which mount shows it; NULL: none yet (it is mounted later). On the node's thread. */
void replica_set_mount(struct replica *, struct slave_mount *);
/* The listener to register; valid as long as the replica. Its 'changed' calls what replica_on_changed was given. */
struct drs_slave_listener replica_listener(struct replica *);
void replica_on_changed(struct replica *, void (*changed)(void *user), void *user); /* on the node's thread; before node_run */
/* A little of the work that waits (garbage, retention), on the node's thread; true if there is more. */
bool replica_tidy(struct replica *);
void replica_progress(const struct replica *, struct stage_progress *ret_progress); /* to == 0: no pull now */
const char *replica_trouble(const struct replica *); /* the last thing that went wrong, in words, with what to do; empty if all is well */

#endif
