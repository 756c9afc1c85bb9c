/* Looks at the descriptors of who closes a file, and of who has opened it (closing.h). */
#include "master/closing.h"

#include <stdlib.h>

#include "master/descriptors.h"
#include "master/serve.h"

struct look {
	struct errand errand;
	struct handle *handle; /* NULL: it has gone */
	bool done;
	dev_t device;
	ino_id ino;
	pid_t closer, opener;  /* a thread; a process */
	pid_t closing;         /* the closer's process */
	int left, opener_left; /* descriptors that they have */
};

static void look_there(struct errand *errand)
{
	struct look *look = (struct look *)errand;
	look->closing = descriptors_process(look->closer);
	look->left = descriptors_count(look->closer, look->device, look->ino);
	look->opener_left = look->closing == look->opener ? look->left : descriptors_count(look->opener, look->device, look->ino);
}

static void look_back(struct errand *errand)
{
	struct look *look = (struct look *)errand;
	struct master_mount *m = errand->mount;
	look->done = true;
	if (!look->handle)
		free(look);
	serve_deferred(m);
}

static struct look *look_begin(struct tree *t, struct handle *h, pid_t closer)
{
	struct look *look = malloc(sizeof(*look));
	if (!look)
		return NULL;
	*look = (struct look){ .errand = { .there = look_there, .back = look_back }, .handle = h, .device = t->device, .ino = h->draft->ino,
			       .closer = closer, .opener = h->opener };
	serve_send(t->mount, &t->mount->helper, &look->errand);
	return look;
}

/* A shell closes its copy before anything is written. */
static enum closing guess(const struct draft *d)
{
	return d->edit && content_edit_size(d->edit) > 0 ? CLOSING_LAST : CLOSING_COPY;
}

/*
 * The close of a copy of the descriptor (a child's that inherited it, a shell's) is nobody's idea of a finished file. Each other handle of the file has a descriptor,
 * too; what there are more are copies, perhaps of this one.
 */
static enum closing judge(const struct handle *h, const struct look *look)
{
	int others = 0;
	if (look->left < 0 || look->opener_left < 0)
		return guess(h->draft);
	for (const struct handle *other = h->draft->handles; other; other = other->next)
		others += other != h && other->writes && !other->closed && (other->opener == look->closing || other->opener == look->opener);
	return look->left <= others && look->opener_left <= others ? CLOSING_LAST : CLOSING_COPY;
}

enum closing closing_of(struct tree *t, struct handle *h, pid_t closer)
{
	struct look *look = h->look;
	if (look && look->done) {
		enum closing closing = look->closer == closer ? judge(h, look) : CLOSING_LOOKING;
		free(look);
		h->look = NULL;
		if (closing != CLOSING_LOOKING)
			return closing; /* else it was somebody's who does not wait any more */
	}
	if (!h->look)
		h->look = look_begin(t, h, closer);
	return h->look ? CLOSING_LOOKING : guess(h->draft);
}

void closing_forget(struct handle *h)
{
	struct look *look = h->look;
	if (look && look->done)
		free(look);
	else if (look)
		look->handle = NULL;
	h->look = NULL;
}
