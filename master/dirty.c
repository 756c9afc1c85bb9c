/*
 * What the kernel has of a file's content and has not handed over yet. Mostly nobody needs to know. But where the holes are it asks us (lseek),
 * without handing over what it keeps to write back; a copy made by our word alone would be without that. So the request is deferred, a thread has the
 * pages written, and it is served again.
 *
 * Not by the helper: the kernel holds the inode's lock meanwhile, for which somebody may wait who holds the directory's, for which the helper may wait.
 */
#include <stdlib.h>

#include "master/serve.h"

struct dirty {
	struct errand errand;
	struct handle *handle; /* NULL: it has gone */
	struct tree *tree;
	uint64_t id;
	bool written;
};

/* Written back are all pages that this takes from the kernel's cache. The mount's thread takes the writes. */
static void dirty_there(struct errand *errand)
{
	const struct dirty *dirty = (struct dirty *)errand;
	fuse_lowlevel_notify_inval_inode(dirty->tree->session, dirty->id, 0, 0); /* an error: no such node any more, or no mount */
}

static void dirty_back(struct errand *errand)
{
	struct dirty *dirty = (struct dirty *)errand;
	struct tree *t = dirty->tree;
	dirty->written = true;
	serve_deferred(errand->mount);
	dirty_forget(dirty->handle);
	free(dirty);
	t->dirty--;
	batches_close_waiting(t);
}

static int dirty_begin(struct tree *t, uint64_t id, struct handle *h)
{
	struct dirty *dirty = malloc(sizeof(*dirty));
	if (!dirty)
		return -ENOMEM;
	*dirty = (struct dirty){ .errand = { .there = dirty_there, .back = dirty_back }, .handle = h, .tree = t, .id = id };
	h->dirty = dirty;
	t->dirty++;
	serve_send(t->mount, &t->mount->writeback, &dirty->errand);
	return DEFERRED;
}

int dirty_await(struct tree *t, uint64_t id, struct handle *h)
{
	const struct draft *d = h->draft;
	if (!d->writers || d->left || t->closing || t->mount->ending)
		return 0;
	if (!h->dirty)
		return dirty_begin(t, id, h);
	return h->dirty->written ? 0 : DEFERRED;
}

void dirty_forget(struct handle *h)
{
	if (h && h->dirty)
		h->dirty->handle = NULL;
	if (h)
		h->dirty = NULL;
}
