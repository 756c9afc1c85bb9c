/*
 * Files: opening, reading, writing, syncing. What was written becomes visible to readers of versions when the last handle goes that can write, or somebody
 * syncs (F2).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/closing.h"
#include "master/descriptors.h"
#include "master/interrupt.h"
#include "master/serve.h"

#define WRITE_BYTES 4096                      /* records and lists beside the data itself */
#define COPY_BYTES_MAX ((uint64_t)256 << 20)  /* a request; the kernel asks again for the rest */
#define TOLD_SECONDS 1
#define PRESSED_BYTES ((size_t)128 << 10)     /* a piece of a write when room is short */

/* --- opening */

static bool flags_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* 'judged': its closes may have to wait. */
static int handle_new(fuse_req_t req, struct fuse_file_info *fi, bool judged)
{
	struct handle *h = malloc(sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct handle){ .writes = flags_write(fi->flags), .opener = fuse_req_ctx(req)->pid };
	if (h->writes && (judged || tree_of(req)->mount->publish.options.sync_close))
		h->opener = descriptors_process(h->opener); /* the thread may be gone before the process closes it */
	fi->fh = (uintptr_t)h;
	fi->keep_cache = 1;
	return 0;
}

/* The draft counts it already. */
static void handle_attach(struct handle *h, struct draft *d)
{
	h->draft = d;
	h->next = d->handles;
	h->at = &d->handles;
	if (h->next)
		h->next->at = &h->next;
	d->handles = h;
}

static void handle_free(struct handle *h)
{
	closing_forget(h);
	dirty_forget(h);
	if (h->draft)
		*h->at = h->next;
	if (h->draft && h->next)
		h->next->at = h->at;
	free(h);
}

/* The kernel goes on showing what it could not hand over, and its size, as long as it knows the file by this id. */
static void forget_incomplete(struct tree *t, struct draft *d)
{
	struct buffer notices = BUFFER_INIT;
	struct txn *txn;
	d->incomplete = 0;
	if (live_read(&t->live, &txn) < 0)
		return;
	disowned(t, txn, d->ino, &notices); /* an error is a stale cache */
	notices_send(t, &notices, NULL, 0);
}

/* The last writer's going makes the file complete. */
static void handle_take(struct tree *t, struct fuse_file_info *fi)
{
	struct live *live = &t->live;
	struct handle *h = handle_of(fi);
	struct draft *d = h->draft;
	struct txn *txn;
	bool writes = h->writes;
	handle_free(h);
	if (writes && --d->writers == 0 && d->drafted && !strict_leave(t, d))
		if (live_change(live, 0, true, &txn) < 0 || draft_settle(live, d) < 0)
			live->unsettled = true;
	if (!d->drafted && !d->writers && d->edit)
		draft_edit_drop(live, d);
	if (!d->drafted && !d->writers && d->incomplete)
		forget_incomplete(t, d);
	d->opens--;
	draft_release(live, d);
}

/* (Others may have the capability in a namespace of their own only, which cannot be told from here.) */
static bool keeps_privileges(const struct fuse_ctx *caller)
{
	return caller->uid == 0 && process_capable(caller->pid, CAP_FSETID);
}

/*
 * The setuid bit, and setgid where it is more than a mark, fall when somebody truncates who is not a privileged root. The kernel does that with all
 * other changes of content (and takes file capabilities away here, too), but leaves it to us where the truncation is part of the open.
 */
static int privileges_drop(struct tree *t, struct draft *d, const struct fuse_ctx *caller)
{
	struct txn *txn;
	struct node node;
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, d->ino, &node);
	uint32_t falls = S_ISUID | (node.mode & S_IXGRP ? S_ISGID : 0);
	if (ret < 0 || !(node.mode & falls) || keeps_privileges(caller))
		return ret;
	ret = live_change(&t->live, WRITE_BYTES, false, &txn);
	if (ret == 0)
		ret = live_may_change_node(&t->live, txn, d->ino);
	if (ret == 0)
		ret = draft_begin(&t->live, d); /* it is published with the content */
	if (ret < 0)
		return ret;
	node = d->node;
	node.mode &= ~falls;
	node.ctime = time_now();
	ret = node_change(&t->live, d->ino, &node);
	serve_attributes_moved(t, known_id(&t->known, d->ino)); /* the kernel goes on with the old mode otherwise */
	return ret;
}

static int file_open(fuse_req_t req, uint64_t id, struct fuse_file_info *fi)
{
	struct tree *t = tree_of(req);
	struct txn *txn;
	struct node node;
	struct draft *d;
	ino_id ino;
	int ret = serve_node(t, id, &ino, NULL);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	if (ret == 0)
		ret = handle_new(req, fi, strict_concerns(t, ino));
	if (ret == 0 && (ret = draft_get(&t->live, ino, &d)) < 0)
		handle_free(handle_of(fi));
	if (ret < 0)
		return ret;
	d->opens++;
	d->writers += flags_write(fi->flags);
	handle_attach(handle_of(fi), d);
	ret = fi->flags & O_TRUNC ? file_truncate(t, ino, 0) : 0;
	if (ret == 0 && fi->flags & O_TRUNC)
		ret = privileges_drop(t, d, fuse_req_ctx(req));
	if (ret < 0)
		handle_take(t, fi);
	return ret;
}

/* An answer that comes too late, since the caller was interrupted, leaves no handle behind that anybody would release. */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int ret = file_open(req, ino, fi);
	if (ret < 0)
		serve_reply(req, ret);
	else if (fuse_reply_open(req, fi) == -ENOENT)
		handle_take(tree_of(req), fi);
}

static int file_create(fuse_req_t req, fuse_ino_t parent, const char *text, mode_t mode, struct fuse_file_info *fi, struct fuse_entry_param *ret_entry)
{
	struct tree *t = tree_of(req);
	const struct fuse_ctx *context = fuse_req_ctx(req);
	struct creator creator = { context->uid, context->gid, (uint32_t)context->umask };
	struct node node = { .mode = S_IFREG | (mode & 07777) };
	struct name name = { .text = { text, strlen(text) } };
	struct draft *d;
	ino_id directory, ino;
	bool unnamed = strcmp(text, NAME_OF_UNNAMED) == 0;
	int ret = serve_node(t, parent, &directory, NULL);
	bool judged = ret == 0 && strict_concerns_names(t, directory);
	bool writes = flags_write(fi->flags), waits = writes || unnamed || judged;
	if (ret == 0 && hidden_reserved(directory, text))
		ret = -EPERM;
	if (ret == 0 && !unnamed)
		ret = name_of(directory, text, &name);
	if (ret == 0)
		ret = handle_new(req, fi, judged);
	if (ret < 0)
		return ret;
	if (unnamed)
		ret = unnamed_create(&t->live, directory, &node, &creator, &ino);
	else
		ret = name_create(&t->live, &name, &node, &creator, waits, &ino);
	if (ret == -EEXIST && !(fi->flags & O_EXCL))
		ret = -ESTALE; /* a commit has brought it meanwhile: the kernel looks for it once more, and opens it */
	if (ret == 0)
		ret = draft_get(&t->live, ino, &d);
	if (ret < 0) {
		handle_free(handle_of(fi));
		return ret;
	}
	d->opens += !waits;
	handle_attach(handle_of(fi), d);
	ret = serve_entry(t, &name, ino, ret_entry);
	if (waits && !writes) { /* nothing will be written: it is complete */
		d->writers--;
		strict_leave(t, d);
	}
	if (ret < 0)
		handle_take(t, fi);
	return ret;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param entry;
	int ret = file_create(req, parent, name, mode, fi, &entry);
	if (ret < 0)
		serve_reply(req, ret);
	else if (fuse_reply_create(req, &entry, fi) == -ENOENT) {
		handle_take(tree_of(req), fi);
		serve_entry_lost(tree_of(req), entry.ino);
	}
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_take(tree_of(req), fi);
	serve_reply(req, 0);
}

/* --- reading: pieces straight from the store, or from what is being written, into the kernel's pages */

struct gathering {
	struct iovec *pieces;
	size_t count, bytes;
};

static int gather(void *user, const void *data, size_t size)
{
	static uint8_t zeros[REQUEST_BYTES_MAX];
	struct gathering *g = user;
	if (g->count == READ_PIECES_MAX || size > REQUEST_BYTES_MAX)
		return -E2BIG;
	g->pieces[g->count++] = (struct iovec){ .iov_base = data ? (void *)(uintptr_t)data : zeros, .iov_len = size };
	g->bytes += size;
	return 0;
}

struct copying {
	char *data;
	size_t bytes;
};

static int copy_out(void *user, const void *data, size_t size)
{
	struct copying *c = user;
	if (data)
		memcpy(c->data + c->bytes, data, size);
	else
		memset(c->data + c->bytes, 0, size);
	c->bytes += size;
	return 0;
}

static int file_read(struct tree *t, uint64_t id, uint64_t offset, size_t size, content_sink *sink, void *user)
{
	struct txn *txn;
	struct node node;
	const struct known_old *old;
	ino_id ino;
	int ret = serve_node_get(t, id, &txn, &ino, &node, &old);
	const struct draft *d = ret == 0 && !old ? draft_find(&t->live, ino) : NULL;
	if (d && d->edit)
		return content_edit_read(d->edit, txn, offset, size, sink, user);
	return ret < 0 ? ret : content_read(txn, &node, offset, size, sink, user);
}

/* In so many pieces that they do not fit one answer. */
static int reply_copied(fuse_req_t req, ino_id ino, uint64_t offset, size_t size)
{
	struct copying c = { .data = malloc(size) };
	int ret = c.data ? file_read(tree_of(req), ino, offset, size, copy_out, &c) : -ENOMEM;
	if (ret == 0)
		fuse_reply_buf(req, c.data, c.bytes);
	free(c.data);
	return ret;
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	struct tree *t = tree_of(req);
	struct gathering g = { .pieces = t->mount->pieces };
	if (size > REQUEST_BYTES_MAX)
		size = REQUEST_BYTES_MAX;
	int ret = file_read(t, ino, (uint64_t)offset, size, gather, &g);
	if (ret == 0)
		fuse_reply_iov(req, g.pieces, (int)g.count);
	else if (ret == -E2BIG)
		ret = reply_copied(req, ino, (uint64_t)offset, size);
	if (ret < 0)
		serve_reply(req, ret);
}

static int file_seek(struct tree *t, uint64_t id, uint64_t offset, int whence, uint64_t *ret_offset)
{
	struct txn *txn;
	struct node node;
	const struct known_old *old;
	ino_id ino;
	int ret = serve_node_get(t, id, &txn, &ino, &node, &old);
	const struct draft *d = ret == 0 && !old ? draft_find(&t->live, ino) : NULL;
	if (d && d->edit)
		return content_edit_seek(d->edit, txn, offset, whence, ret_offset);
	return ret < 0 ? ret : content_seek(txn, &node, offset, whence, ret_offset);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct tree *t = tree_of(req);
	uint64_t found = 0;
	int ret = whence == SEEK_DATA || whence == SEEK_HOLE ? dirty_await(t, ino, handle_of(fi)) : -EINVAL;
	if (ret == 0)
		ret = file_seek(t, ino, (uint64_t)offset, whence, &found);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_lseek(req, (off_t)found);
}

/* --- writing */

/* Have a regular file's content at hand for a change of about 'bytes'. */
static int edit_begin(struct live *live, ino_id ino, size_t bytes, bool frees, struct draft **ret_draft)
{
	struct txn *txn;
	struct node node;
	struct draft *d;
	int ret = live_change(live, WRITE_BYTES + bytes, frees, &txn);
	if (ret == 0)
		ret = live_may_change_node(live, txn, ino);
	if (ret == 0)
		ret = node_live(live, txn, ino, &node);
	if (ret == 0 && !S_ISREG(node.mode))
		ret = S_ISDIR(node.mode) ? -EISDIR : -EINVAL;
	if (ret == 0)
		ret = draft_get(live, ino, &d);
	if (ret < 0)
		return ret;
	ret = draft_edit(live, d);
	if (ret < 0)
		draft_release(live, d);
	else
		*ret_draft = d;
	return ret;
}

/* The kernel gives a file its times before it asks for a change, and tells them when it likes: perhaps it has, a moment ago. */
static bool times_told(const struct node *node, struct node_time now)
{
	return node->mtime.seconds <= now.seconds && node->mtime.seconds >= now.seconds - TOLD_SECONDS;
}

/* The change was made, or failed with 'ret'. Its time is now unless the kernel keeps the times itself ('cached'). */
static int edit_end(struct live *live, struct draft *d, int ret, bool cached)
{
	draft_edited(live, d);
	struct node_time now = time_now();
	if (ret == 0 && !cached && !times_told(&d->node, now))
		d->node.mtime = d->node.ctime = now;
	int settled = draft_settle(live, d);
	draft_release(live, d);
	return ret < 0 ? ret : settled;
}

/* The file is as long as that already: then the kernel, who keeps the times, leaves them as they are, and there is nothing to publish. */
static bool size_is(struct live *live, ino_id ino, uint64_t size)
{
	struct txn *txn;
	struct node node;
	const struct draft *d = draft_find(live, ino);
	if (d && d->edit)
		return content_edit_size(d->edit) == size;
	return live_read(live, &txn) == 0 && node_live(live, txn, ino, &node) == 0 && S_ISREG(node.mode) && node.size == size;
}

int file_truncate(struct tree *t, ino_id ino, uint64_t size)
{
	struct draft *d;
	if (size_is(&t->live, ino, size))
		return 0;
	int ret = edit_begin(&t->live, ino, CHUNK_BYTES_MAX, size == 0, &d);
	if (ret < 0)
		return ret;
	ret = size > CONTENT_BYTES_MAX ? -EFBIG : content_edit_truncate(d->edit, t->mount->work.writer, size);
	return edit_end(&t->live, d, ret, false);
}

static int file_write_piece(struct live *live, ino_id ino, uint64_t offset, const void *data, size_t size, bool cached)
{
	struct draft *d;
	int ret = edit_begin(live, ino, size, false, &d);
	if (ret < 0)
		return ret;
	ret = content_edit_write(d->edit, live->work->writer, offset, data, size);
	return edit_end(live, d, ret, cached);
}

/* At once where there is room, in small pieces where it is short. */
static int file_write(struct tree *t, uint64_t id, uint64_t offset, const char *data, size_t size, bool cached)
{
	ino_id ino;
	int found = serve_node(t, id, &ino, NULL);
	if (found < 0)
		return found;
	while (size) {
		size_t piece = t->mount->work.pressed && size > PRESSED_BYTES ? PRESSED_BYTES : size;
		int ret = file_write_piece(&t->live, ino, offset, data, piece, cached);
		if (ret == -ENOSPC && piece > PRESSED_BYTES) {
			t->mount->work.pressed = true;
			continue;
		}
		if (ret < 0)
			return ret;
		offset += piece;
		data += piece;
		size -= piece;
	}
	return 0;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *fi)
{
	int ret = file_write(tree_of(req), ino, (uint64_t)offset, data, size, fi->writepage);
	if (ret < 0 && ret != DEFERRED && fi->writepage)
		handle_of(fi)->draft->incomplete = ret;
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_write(req, size);
}

static int file_allocate(struct tree *t, uint64_t id, int mode, uint64_t offset, uint64_t length)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	const bool clears = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	struct draft *d;
	if (mode & ~known)
		return -EOPNOTSUPP;
	ino_id ino;
	int ret = serve_node(t, id, &ino, NULL);
	if (ret == 0 && !(mode & FALLOC_FL_PUNCH_HOLE))
		ret = store_space_for(t->mount->work.store, length); /* none is set aside for it, but that there is some now is checked */
	if (ret == 0)
		ret = edit_begin(&t->live, ino, clears ? 2 * CHUNK_BYTES_MAX : 0, false, &d);
	if (ret < 0)
		return ret;
	uint64_t end = offset + length;
	if (end > CONTENT_BYTES_MAX)
		ret = -EFBIG;
	if (ret == 0 && clears)
		ret = content_edit_punch(d->edit, t->mount->work.writer, offset, length);
	if (ret == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && end > content_edit_size(d->edit))
		ret = content_edit_truncate(d->edit, t->mount->work.writer, end);
	return edit_end(&t->live, d, ret, false);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	(void)fi;
	int ret = file_allocate(tree_of(req), ino, mode, (uint64_t)offset, (uint64_t)length);
	serve_reply(req, ret);
}

/* The source as it is now: an edit is saved, so that its chunks can be shared. */
static int source_get(struct tree *t, uint64_t id, struct node *ret_node)
{
	const struct known_old *old;
	struct txn *txn;
	ino_id ino;
	int ret = serve_node(t, id, &ino, &old);
	struct draft *d = ret == 0 && !old ? draft_find(&t->live, ino) : NULL;
	if (draft_is_drafted(d))
		ret = draft_save(&t->live, d);
	return ret < 0 ? ret : serve_node_get(t, id, &txn, &ino, ret_node, &old);
}

static int file_copy(struct tree *t, uint64_t from, uint64_t from_offset, uint64_t to_id, uint64_t to_offset, uint64_t size, uint64_t *ret_size)
{
	struct draft *d;
	struct node source;
	struct buffer list = BUFFER_INIT; /* the source's content, since records move when others are written */
	ino_id to;
	int ret = serve_node(t, to_id, &to, NULL);
	if (ret == 0)
		ret = edit_begin(&t->live, to, 2 * CHUNK_BYTES_MAX, false, &d);
	if (ret < 0)
		return ret;
	ret = source_get(t, from, &source);
	if (ret == 0) {
		buffer_add(&list, source.content.data, source.content.size);
		source.content = buffer_slice(&list);
		ret = list.failed ? -ENOMEM : 0;
	}
	if (ret == 0) {
		uint64_t there = from_offset < source.size ? source.size - from_offset : 0;
		size = size < there ? size : there;
		size = size < COPY_BYTES_MAX ? size : COPY_BYTES_MAX;
		ret = size ? content_edit_share(d->edit, t->mount->work.writer, to_offset, &source, from_offset, size) : 0;
	}
	buffer_fini(&list);
	ret = edit_end(&t->live, d, ret, false);
	if (ret == 0)
		*ret_size = size;
	return ret;
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_offset,
			struct fuse_file_info *to_fi, size_t size, int flags)
{
	(void)from_fi, (void)to_fi;
	uint64_t copied = 0;
	int ret = flags ? -EINVAL : file_copy(tree_of(req), from, (uint64_t)from_offset, to, (uint64_t)to_offset, size, &copied);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_write(req, copied);
}

/* --- syncing */

/* What the file holds now becomes part of the next version. */
static int file_publish(struct tree *t, uint64_t id)
{
	struct live *live = &t->live;
	struct txn *txn;
	ino_id ino;
	struct draft *d = serve_node(t, id, &ino, NULL) == 0 ? draft_find(live, ino) : NULL;
	if (!draft_is_drafted(d))
		return 0;
	if (d->incomplete && strict_concerns(t, ino))
		return d->incomplete;
	int ret = strict_file(t, ino, d->edit && content_edit_size(d->edit) == 0);
	if (ret == 0)
		ret = live_change(live, 0, true, &txn);
	return ret < 0 ? ret : draft_publish(live, d);
}

/* What was written through the handle is gone, which perhaps another one's owner was told. */
static bool handle_refused(const struct fuse_file_info *fi)
{
	const struct handle *h = handle_of(fi); /* NULL: a directory */
	return h && h->writes && h->draft->refused;
}

static void reply_durable(fuse_req_t req, int ret)
{
	struct tree *t = tree_of(req);
	if (ret == 0 && t->mount->work.writer && !t->mount->strict.trial)
		serve_park(t->mount, req);
	else
		serve_reply(req, ret);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	int ret = handle_refused(fi) ? -ECANCELED : file_publish(tree_of(req), ino);
	reply_durable(req, ret);
}

/* Does anybody wait for what is closed? */
static bool close_waits(struct tree *t, const struct draft *d)
{
	bool complete = draft_is_drafted(d) && (d->changed || !d->recorded);
	return complete && (t->mount->publish.options.sync_close || strict_concerns(t, d->ino));
}

static bool others_write(const struct handle *h)
{
	const struct handle *other = h->draft->handles;
	while (other && (other == h || !other->writes || other->closed))
		other = other->next;
	return other;
}

/* Of several writers the last to close is asked about (F2). */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct tree *t = tree_of(req);
	struct handle *h = handle_of(fi);
	if (handle_refused(fi)) {
		serve_reply(req, -ECANCELED);
		return;
	}
	h->draft->closed |= h->writes;
	enum closing closing = h->writes && close_waits(t, h->draft) ? closing_of(t, h, fuse_req_ctx(req)->pid) : CLOSING_COPY;
	h->closed = closing == CLOSING_LAST;
	if (closing == CLOSING_LOOKING)
		serve_reply(req, DEFERRED);
	else if (h->closed && (t->mount->publish.options.sync_close || !others_write(h)))
		reply_durable(req, file_publish(t, ino));
	else
		serve_reply(req, 0);
}

void files_end(struct tree *t)
{
	struct txn *txn;
	for (struct draft *d = t->live.drafted; d; d = d->drafted_next)
		if (d->closed && d->writers) {
			d->writers = 0;
			strict_leave(t, d); /* nobody can be asked any more */
		}
	if (live_change(&t->live, 0, true, &txn) == 0)
		work_broken_by(&t->mount->work, draft_settle_all(&t->live));
}

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void *argument, struct fuse_file_info *fi, unsigned flags, const void *in,
	      size_t in_size, size_t out_size)
{
	(void)ino, (void)command, (void)argument, (void)fi, (void)flags, (void)in, (void)in_size, (void)out_size;
	fuse_reply_err(req, ENOTTY);
}
