/*
 * The members of the volume: the names of all slaves that ever joined and were not removed since. A two phase commit that requires all asks them all (R4.2),
 * those too that are away, and those that were there before the master's last start. Kept in the state directory's file "members", a name a line, which is
 * replaced as a whole. On the node's thread.
 */
#ifndef MASTER_MEMBERS_H
#define MASTER_MEMBERS_H

#include "drsfs/types.h"

struct members;

/* -DRS_ECORRUPT: the file holds something that is no name. No file: no members. */
int members_load(const char *state_dir, struct members **ret_members);
void members_free(struct members *); /* NULL is fine */
size_t members_count(const struct members *);
const char *members_name(const struct members *, size_t i); /* in the order of joining */
/* Durable on return; 0 also if it is one already. -ENOSPC, other errno: nothing has changed. */
int members_add(struct members *, const char *name);
int members_remove(struct members *, const char *name); /* -ENOENT */

#endif
