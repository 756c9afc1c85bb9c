/* Names: finding, making, moving and removing them, and the nodes that the kernel keeps or forgets. */
#include <errno.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>

#include "master/serve.h"

/* --- finding */

int serve_node(struct tree *t, uint64_t id, ino_id *ret_ino, const struct known_old **ret_old)
{
	const struct known_old *old;
	if (id & NODE_HIDDEN)
		return -EROFS;
	int ret = known_resolve(&t->known, id, ret_ino, &old);
	if (ret == 0 && old && !ret_old)
		ret = -ESTALE;
	if (ret == 0 && ret_old)
		*ret_old = old;
	return ret;
}

struct view serve_view(struct tree *t, const struct txn *txn, const struct known_old *old)
{
	return old ? (struct view){ .version = old->version } : live_view(&t->live, txn);
}

int serve_node_get(struct tree *t, uint64_t id, struct txn **ret_txn, ino_id *ret_ino, struct node *ret_node, const struct known_old **ret_old)
{
	int ret = serve_node(t, id, ret_ino, ret_old);
	if (ret == 0)
		ret = live_read(&t->live, ret_txn);
	if (ret < 0)
		return ret;
	if (!*ret_old)
		return node_live(&t->live, *ret_txn, *ret_ino, ret_node);
	struct record_key key = record_key_node(*ret_ino);
	struct slice value;
	ret = record_get(*ret_txn, serve_view(t, *ret_txn, *ret_old), &key, &value, NULL);
	return ret == -ENOENT ? -ESTALE : ret < 0 ? ret : node_decode(value, ret_node);
}

int serve_entry(struct tree *t, const struct name *name, ino_id ino, struct fuse_entry_param *ret_entry)
{
	struct txn *txn;
	struct node node;
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	struct known_place place;
	if (ret == 0 && name)
		place = name_place(txn, name);
	if (ret == 0)
		ret = known_give(&t->known, ino, name ? &place : NULL);
	if (ret < 0)
		return ret;
	*ret_entry = (struct fuse_entry_param){ .ino = known_id(&t->known, ino), .attr_timeout = KERNEL_MAY_CACHE, .entry_timeout = KERNEL_MAY_CACHE };
	node_stat(&t->live, ino, &node, &ret_entry->attr);
	return 0;
}

void serve_entry_lost(struct tree *t, uint64_t id)
{
	if (known_forget(&t->known, id, 1))
		draft_forget(&t->live, id & NODE_INO_MAX);
}

void serve_reply_entry(fuse_req_t req, const struct name *name, ino_id ino)
{
	struct fuse_entry_param entry;
	int ret = serve_entry(tree_of(req), name, ino, &entry);
	if (ret < 0)
		serve_reply(req, ret);
	else if (fuse_reply_entry(req, &entry) == -ENOENT)
		serve_entry_lost(tree_of(req), entry.ino);
}

static void reply_entry(fuse_req_t req, const struct name *name, ino_id ino, int ret)
{
	if (ret < 0)
		serve_reply(req, ret);
	else if (!strict_hold_entry(req, name, ino))
		serve_reply_entry(req, name, ino);
}

/* A name as a request gives it; for one that is to be made or removed, which must be a common one. */
static int name_given(fuse_req_t req, fuse_ino_t parent, const char *text, bool change, struct name *ret_name)
{
	ino_id ino;
	int ret = serve_node(tree_of(req), parent, &ino, NULL);
	if (ret == 0 && change && hidden_reserved(ino, text))
		ret = -EPERM;
	return ret < 0 ? ret : name_of(ino, text, ret_name);
}

/* That there is nothing is an answer that the kernel may keep, too; unless a commit is under way that may bring it. */
static void reply_nothing(fuse_req_t req)
{
	struct fuse_entry_param nothing = { .entry_timeout = tree_of(req)->live.frozen_by ? 0 : KERNEL_MAY_CACHE };
	fuse_reply_entry(req, &nothing);
}

static int find(struct tree *t, const struct name *name, ino_id *ret_ino)
{
	struct txn *txn;
	struct named named;
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = name_find(txn, live_view(&t->live, txn), name, &named);
	if (ret == 0)
		*ret_ino = named.child;
	return ret;
}

/* Somebody has a file handle (name_to_handle_at, NFS), and the kernel does not know the node any more, or what directory it is in. */
static int find_by_id(struct tree *t, uint64_t id, bool directory, ino_id *ret_ino)
{
	struct txn *txn;
	struct node node;
	ino_id ino;
	int ret = serve_node(t, id, &ino, NULL);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	if (ret == 0 && node.nlink == 0)
		ret = -ESTALE;
	if (ret == 0)
		*ret_ino = directory ? node.parent : ino;
	return ret;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct name name;
	ino_id ino = 0;
	bool up = strcmp(text, "..") == 0;
	if (up || strcmp(text, ".") == 0) {
		int found = find_by_id(tree_of(req), parent, up, &ino);
		reply_entry(req, NULL, ino, found);
		return;
	}
	if (hidden_lookup(req, parent, text))
		return;
	int ret = name_given(req, parent, text, false, &name);
	if (ret == 0)
		ret = find(tree_of(req), &name, &ino);
	if (ret == 0 && !ino)
		reply_nothing(req);
	else
		reply_entry(req, &name, ino, ret);
}

/* An error here is remembered in the live tree and met by the next change. */
static void forget(struct tree *t, fuse_ino_t id, uint64_t times)
{
	if (!(id & NODE_HIDDEN) && known_forget(&t->known, id, times))
		draft_forget(&t->live, id & NODE_INO_MAX);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(tree_of(req), ino, nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(tree_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* --- making */

static void make(fuse_req_t req, fuse_ino_t parent, const char *text, struct node *node)
{
	const struct fuse_ctx *context = fuse_req_ctx(req);
	struct creator creator = { context->uid, context->gid, (uint32_t)context->umask };
	struct name name;
	ino_id ino = 0;
	int ret = name_given(req, parent, text, true, &name);
	if (ret == 0)
		ret = strict_name(tree_of(req), name.parent, false);
	if (ret == 0)
		ret = name_create(&tree_of(req)->live, &name, node, &creator, false, &ino);
	reply_entry(req, &name, ino, ret);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct node node = { .mode = mode, .rdev = rdev };
	make(req, parent, name, &node);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node node = { .mode = S_IFDIR | (mode & 07777) };
	make(req, parent, name, &node);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct slice text = { target, strlen(target) };
	struct node node = { .mode = S_IFLNK | 0777, .size = text.size, .content_kind = CONTENT_INLINE, .content = text };
	if (text.size == 0 || text.size >= PATH_MAX)
		serve_reply(req, text.size ? -ENAMETOOLONG : -ENOENT);
	else
		make(req, parent, name, &node);
}

static int target_get(struct tree *t, uint64_t id, char target[PATH_MAX + 1])
{
	struct txn *txn;
	struct node node;
	const struct known_old *old;
	ino_id ino;
	int ret = serve_node_get(t, id, &txn, &ino, &node, &old);
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

void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *text)
{
	struct name name;
	ino_id ino = 0;
	int ret = name_given(req, parent, text, true, &name);
	if (ret == 0)
		ret = serve_node(tree_of(req), id, &ino, NULL);
	if (ret == 0 && !strict_is_new(tree_of(req), ino))
		ret = strict_name(tree_of(req), name.parent, false);
	if (ret == 0)
		ret = strict_node(tree_of(req), ino, false, false); /* it may have another name in a two-phase directory */
	if (ret == 0) {
		strict_first_name(tree_of(req), ino, name.parent);
		ret = name_link(&tree_of(req)->live, &name, ino);
	}
	reply_entry(req, &name, ino, ret);
}

/* --- removing and moving */

/* (On trial the kernel keeps it, if it comes to nothing.) */
static void name_lost(struct tree *t, const struct name *name, ino_id ino)
{
	struct txn *txn;
	if (ino && !t->mount->strict.trial && live_read(&t->live, &txn) == 0)
		known_lost(&t->known, ino, name_place(txn, name));
}

/* A name is about to go. That of a file that waits may hide a published one, which goes with it. */
static int removed_given(fuse_req_t req, fuse_ino_t parent, const char *text, struct name *ret_name, ino_id *ret_ino)
{
	struct tree *t = tree_of(req);
	struct named published = { 0 };
	struct txn *txn;
	ino_id ino = 0;
	int ret = name_given(req, parent, text, true, ret_name);
	if (ret == 0)
		ret = find(t, ret_name, &ino);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = name_find(txn, published_view(&t->live, txn), ret_name, &published);
	*ret_ino = ino;
	if (ret < 0 || (strict_is_new(t, ino) && !published.child))
		return ret;
	ret = strict_name(t, ret_name->parent, true);
	return ret < 0 || !ino ? ret : strict_node(t, ino, false, true);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct name name;
	ino_id ino;
	int ret = removed_given(req, parent, text, &name, &ino);
	if (ret == 0)
		ret = name_unlink(&tree_of(req)->live, &name);
	if (ret == 0)
		name_lost(tree_of(req), &name, ino);
	serve_reply(req, ret);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct name name;
	ino_id ino;
	int ret = removed_given(req, parent, text, &name, &ino);
	if (ret == 0)
		ret = name_rmdir(&tree_of(req)->live, &name);
	serve_reply(req, ret);
}

void serve_renamed(struct tree *t, const struct name *from, const struct name *to, ino_id moved, ino_id back)
{
	struct txn *txn;
	if (strict_hold_renamed(t, from, to, moved, back) || live_read(&t->live, &txn) < 0)
		return;
	policy_changed(t->mount->policy); /* a directory, perhaps */
	known_moved(&t->known, moved, name_place(txn, from), name_place(txn, to));
	if (back)
		known_moved(&t->known, back, name_place(txn, to), name_place(txn, from));
}

static bool is_directory(struct tree *t, ino_id ino)
{
	struct txn *txn;
	struct node node;
	return ino && live_read(&t->live, &txn) == 0 && node_live(&t->live, txn, ino, &node) == 0 && S_ISDIR(node.mode);
}

/* The names of a new file that is still being written wait for it. (But what changes places with a directory is published at once.) */
static bool rename_waits(struct tree *t, ino_id moved, ino_id other, bool exchange)
{
	if (!exchange)
		return strict_is_new(t, moved);
	return (strict_is_new(t, moved) && !is_directory(t, other)) || (strict_is_new(t, other) && !is_directory(t, moved));
}

static int rename_asks(struct tree *t, const struct name *from, const struct name *to, ino_id moved, ino_id other, unsigned flags)
{
	if (rename_waits(t, moved, other, flags & RENAME_EXCHANGE)) /* a whiteout could not: slaves would have to be asked about it alone */
		return flags & RENAME_WHITEOUT && strict_concerns_names(t, from->parent) ? -EINVAL : 0;
	int ret = strict_name(t, from->parent, false);
	if (ret == 0)
		ret = strict_name(t, to->parent, false);
	if (ret == 0 && moved)
		ret = strict_node(t, moved, false, false);
	return ret < 0 || !other ? ret : strict_node(t, other, false, false);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *text, fuse_ino_t new_parent, const char *new_text, unsigned flags)
{
	struct tree *t = tree_of(req);
	const struct fuse_ctx *context = fuse_req_ctx(req);
	struct name from, to;
	ino_id moved = 0, other = 0;
	int ret = name_given(req, parent, text, true, &from);
	if (ret == 0)
		ret = name_given(req, new_parent, new_text, true, &to);
	if (ret == 0)
		ret = find(t, &from, &moved);
	if (ret == 0)
		ret = find(t, &to, &other);
	if (ret == 0)
		ret = rename_asks(t, &from, &to, moved, other, flags);
	if (ret == 0)
		ret = name_rename(&t->live, &from, &to, flags, &(struct creator){ context->uid, context->gid, (uint32_t)context->umask });
	if (ret == 0 && !(flags & RENAME_EXCHANGE) && other != moved)
		name_lost(t, &to, other);
	if (ret == 0)
		serve_renamed(t, &from, &to, moved, flags & RENAME_EXCHANGE ? other : 0);
	serve_reply(req, ret);
}
