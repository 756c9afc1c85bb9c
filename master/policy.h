/*
 * How changes are to be distributed, by subtree (R5): the attribute user.drsfs.publish of a directory says so for all below it, up to directories that have
 * one themselves. "two-phase": an operation there returns when all slaves have accepted it, or fails. "one-phase": it returns at once, slaves follow each at its
 * own pace. "auto", and where nothing is said: the rule of the house, which is one phase for what programs do one by one in the mount, two phase for a batch.
 *
 * What a file's directory is the kernel does not say once it is open; the names by which it was given to the kernel tell (known.h). If one of them is in a
 * two-phase directory, that holds.
 *
 * On the mount's thread.
 */
#ifndef MASTER_POLICY_H
#define MASTER_POLICY_H

#include "master/known.h"
#include "master/live.h"

#define POLICY_XATTR "user.drsfs.publish"

enum publish_method { PUBLISH_ONE_PHASE, PUBLISH_TWO_PHASE };

struct policy;

int policy_new(struct policy **ret_policy);
void policy_free(struct policy *); /* NULL is fine */
/* Is this a value that the attribute may have? */
bool policy_value_valid(struct slice);
/* What holds for names in this directory, and for itself. */
int policy_of_directory(struct policy *, struct live *, struct txn *, ino_id directory, enum publish_method *ret_method);
/* A directory was moved, or its attribute changed: nothing that was found out before counts any more. */
void policy_changed(struct policy *);

/* What holds for a file's content and attributes; NULL: the kernel does not have it. */
int policy_of_file(struct policy *, struct live *, struct txn *, const struct known_node *, enum publish_method *ret_method);

#endif
