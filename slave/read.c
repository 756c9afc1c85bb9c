/*
 * Reading content. The pieces of a file go from the store's pages, or from where they were read from disk, to the kernel in one
 * writev, without a copy in between; a file made of too many small pieces for that is copied together first. Never less than asked
 * for, unless the file ends: the kernel would take it for the end.
 */
#include <errno.h>
#include <limits.h>
#include <sys/uio.h>

#include "drsfs/error.h"
#include "slave/serve.h"
#include "store/content.h"

#define PIECES_MAX (IOV_MAX - 1) /* the reply's header takes one */

static const char zeros[64 << 10];

struct pieces {
	struct iovec items[PIECES_MAX];
	int count;
};

/* 1: too many */
static int add_piece(void *user, const void *data, size_t size)
{
	struct pieces *p = user;

	while (size > 0) {
		size_t length = data || size < sizeof(zeros) ? size : sizeof(zeros);

		if (p->count == PIECES_MAX)
			return 1;
		p->items[p->count++] = (struct iovec){ data ? (void *)data : (void *)zeros, length };
		size -= length;
	}
	return 0;
}

static int copy_piece(void *user, const void *data, size_t size)
{
	struct buffer *b = user;

	while (!data && size > sizeof(zeros)) {
		buffer_add(b, zeros, sizeof(zeros));
		size -= sizeof(zeros);
	}
	buffer_add(b, data ? data : zeros, size);
	return b->failed ? -ENOMEM : 0;
}

static int copy_together(struct visit *v, const struct node *node, uint64_t offset, size_t size, struct pieces *pieces)
{
	struct buffer *whole = &v->server->reply;

	buffer_clear(whole);
	int error = content_read(v->txn, node, offset, size, copy_piece, whole);
	pieces->items[0] = (struct iovec){ whole->data, whole->size };
	pieces->count = 1;
	return error;
}

static int collect(struct visit *v, node_id id, uint64_t offset, size_t size, struct pieces *pieces)
{
	struct node node;

	pieces->count = 0;
	int error = visit_node(v, id, &node, NULL);
	if (error < 0)
		return error;
	visit_leave_gate(v);
	error = loader_read(v->server->loader, v->txn, &node, offset, size, add_piece, pieces);
	if (error == 1)
		error = copy_together(v, &node, offset, size, pieces);
	return error == -ENOENT ? -DRS_ECORRUPT : error; /* a chunk that is not there */
}

void serve_read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *info)
{
	struct visit v;
	struct pieces pieces;

	(void)info;
	int error = visit_begin(&v, request);
	if (error == 0)
		error = collect(&v, id, (uint64_t)offset, size, &pieces);

	if (error < 0)
		fuse_reply_err(request, error_errno(error));
	else
		fuse_reply_iov(request, pieces.items, pieces.count);
	visit_end(&v);
}

void serve_lseek(fuse_req_t request, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *info)
{
	struct visit v;
	struct node node;
	uint64_t found = 0;

	(void)info;
	int error = visit_begin(&v, request);
	if (error == 0)
		error = visit_node(&v, id, &node, NULL);
	if (error == 0)
		error = content_seek(v.txn, &node, (uint64_t)offset, whence, &found);

	if (error < 0)
		fuse_reply_err(request, error_errno(error));
	else
		fuse_reply_lseek(request, (off_t)found);
	visit_end(&v);
}
