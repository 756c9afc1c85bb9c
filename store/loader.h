/*
 * Reading content that is not in memory. LMDB's map would have the disk bring page after page as they are touched, each in its turn, and keep them beside
 * the kernel's own copy of the file. A loader reads all that a piece of content needs at once, in as few and large runs as it lies on disk, past the page
 * cache into a buffer of its own. What is in memory is taken from there. Chunks of small files go through the page cache, with their neighbours: these
 * are likely to be asked for next.
 */
#ifndef STORE_LOADER_H
#define STORE_LOADER_H

#include "store/content.h"

struct loader;

/* For one thread at a time. About 2 MiB once it is used. Where the file system or the kernel cannot do it, all goes through the page cache. -ENOMEM. */
int loader_new(struct store *, struct loader **ret_loader);
void loader_free(struct loader *);
/* As content_read; the pieces are valid until the next read of this loader, at most as long as the transaction. -EIO and the like, also from the disk. */
int loader_read(struct loader *, struct txn *, const struct node *, uint64_t offset, size_t size, content_sink *, void *user);

#endif
