/*
 * Where things are, for people: the paths of nodes and names in a view. Directories know their parents; a file is found by going through all names
 * once, however many files are asked for, so this is not for a thread that has anything else to do.
 */
#ifndef MASTER_PATHS_H
#define MASTER_PATHS_H

#include "master/batches.h"

/* Paths, each ended by NUL, sorted, each once, of what the keys (u16 size in the machine's order, bytes; one behind the other) belong to in a view. */
int paths_of_keys(struct txn *, struct view, struct slice keys, size_t paths_max, struct buffer *ret_paths);
/* What a batch has changed: u8 kind and path ended by NUL, sorted by path. -ENOENT. */
int paths_of_batch(struct txn *, uint32_t id, struct buffer *ret_changes);

#endif
