/* Names: finding, making, moving and removing them, and the nodes that the kernel keeps or forgets. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "master/serve.h"

/* --- finding */

int serve_entry(struct tree *t, ino_id ino, struct fuse_entry_param *ret_entry)
{
	struct txn *txn;
	struct node node;
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	if (ret < 0)
		return ret;
	*ret_entry = (struct fuse_entry_param){ .ino = ino, .attr_timeout = KERNEL_MAY_CACHE, .entry_timeout = KERNEL_MAY_CACHE };
	node_stat(&t->live, ino, &node, &ret_entry->attr);
	return 0;
}

static void reply_entry(fuse_req_t req, ino_id ino, int ret)
{
	struct fuse_entry_param entry;
	if (ret == 0)
		ret = serve_entry(tree_of(req), ino, &entry);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_entry(req, &entry);
}

/* That there is nothing is an answer that the kernel may keep, too. */
static void reply_nothing(fuse_req_t req)
{
	struct fuse_entry_param nothing = { .entry_timeout = KERNEL_MAY_CACHE };
	fuse_reply_entry(req, &nothing);
}

static int find(struct tree *t, ino_id parent, const char *text, ino_id *ret_ino)
{
	struct txn *txn;
	struct name name;
	struct named named;
	int ret = name_of(parent, text, &name);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = name_find(txn, live_view(&t->live, txn), &name, &named);
	if (ret == 0)
		*ret_ino = named.child;
	return ret;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	ino_id ino = 0;
	int ret = find(tree_of(req), parent, name, &ino);
	if (ret == 0 && !ino)
		reply_nothing(req);
	else
		reply_entry(req, ino, ret);
}

/* An error here is remembered in the live tree and met by the next change. */
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)nlookup;
	draft_forget(&tree_of(req)->live, ino);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		draft_forget(&tree_of(req)->live, forgets[i].ino);
	fuse_reply_none(req);
}

/* --- making */

static int make(fuse_req_t req, ino_id parent, const char *text, struct node *node, ino_id *ret_ino)
{
	const struct fuse_ctx *context = fuse_req_ctx(req);
	struct creator creator = { context->uid, context->gid, (uint32_t)context->umask };
	struct name name;
	int ret = name_of(parent, text, &name);
	return ret < 0 ? ret : name_create(&tree_of(req)->live, &name, node, &creator, false, ret_ino);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct node node = { .mode = mode, .rdev = rdev };
	ino_id ino = 0;
	int ret = make(req, parent, name, &node, &ino);
	reply_entry(req, ino, ret);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node node = { .mode = S_IFDIR | (mode & 07777) };
	ino_id ino = 0;
	int ret = make(req, parent, name, &node, &ino);
	reply_entry(req, ino, ret);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct slice text = { target, strlen(target) };
	struct node node = { .mode = S_IFLNK | 0777, .size = text.size, .content_kind = CONTENT_INLINE, .content = text };
	ino_id ino = 0;
	int ret = text.size == 0 ? -ENOENT : text.size >= PATH_MAX ? -ENAMETOOLONG : make(req, parent, name, &node, &ino);
	reply_entry(req, ino, ret);
}

static int target_get(struct tree *t, ino_id ino, char target[PATH_MAX + 1])
{
	struct txn *txn;
	struct node node;
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	if (ret < 0)
		return ret;
	if (!S_ISLNK(node.mode) || node.content.size > PATH_MAX)
		return -EINVAL;
	memcpy(target, node.content.data, node.content.size);
	target[node.content.size] = 0;
	return 0;
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX + 1];
	int ret = target_get(tree_of(req), ino, target);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_readlink(req, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *text)
{
	struct name name;
	int ret = name_of(parent, text, &name);
	if (ret == 0)
		ret = name_link(&tree_of(req)->live, &name, ino);
	reply_entry(req, ino, ret);
}

/* --- removing and moving */

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct name name;
	int ret = name_of(parent, text, &name);
	if (ret == 0)
		ret = name_unlink(&tree_of(req)->live, &name);
	serve_reply(req, ret);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct name name;
	int ret = name_of(parent, text, &name);
	if (ret == 0)
		ret = name_rmdir(&tree_of(req)->live, &name);
	serve_reply(req, ret);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *text, fuse_ino_t new_parent, const char *new_text, unsigned flags)
{
	struct name from, to;
	int ret = name_of(parent, text, &from);
	if (ret == 0)
		ret = name_of(new_parent, new_text, &to);
	if (ret == 0)
		ret = name_rename(&tree_of(req)->live, &from, &to, flags);
	serve_reply(req, ret);
}
