/* Attributes of nodes, and of the whole file system. The kernel owns size and times of files that it caches writes for, and tells them by setattr. */
#include <errno.h>
#include <time.h>

#include "master/serve.h"

#define ATTRIBUTES_BYTES 1024 /* a node's record */
#define ECHO_SECONDS 1
#define BLOCK_BYTES 4096
#define NODE_BYTES_ABOUT 512  /* how much a further node takes, for statfs's free inodes */

static int attributes_get(struct tree *t, uint64_t id, struct stat *ret_stat)
{
	struct txn *txn;
	struct node node;
	const struct known_old *old;
	ino_id ino;
	int ret = serve_node_get(t, id, &txn, &ino, &node, &old);
	if (ret == 0)
		node_stat(old ? NULL : &t->live, ino, &node, ret_stat);
	return ret;
}

void serve_reply_attributes(fuse_req_t req, uint64_t id)
{
	struct stat st;
	int ret = attributes_get(tree_of(req), id, &st);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_attr(req, &st, KERNEL_MAY_CACHE);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	struct stat st;
	if (ino & NODE_HIDDEN) {
		hidden_getattr(req, ino);
		return;
	}
	int ret = attributes_get(tree_of(req), ino, &st);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_attr(req, &st, KERNEL_MAY_CACHE);
}

static struct node_time time_of(struct timespec time)
{
	return (struct node_time){ time.tv_sec, (uint32_t)time.tv_nsec };
}

static void node_set(struct node *node, const struct stat *st, int to_set)
{
	struct node_time now = time_now();
	if (to_set & FUSE_SET_ATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (st->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		node->uid = st->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		node->gid = st->st_gid;
	if (to_set & FUSE_SET_ATTR_ATIME)
		node->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : time_of(st->st_atim);
	if (to_set & FUSE_SET_ATTR_MTIME)
		node->mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : time_of(st->st_mtim);
	node->ctime = to_set & FUSE_SET_ATTR_CTIME ? time_of(st->st_ctim) : now;
}

/*
 * After a rename, a link or a change of extended attributes the kernel tells the ctime that it gave the node, which we have done a moment
 * before by our own clock: not worth another version.
 */
static bool is_echo(const struct master_mount *m, const struct node *node, const struct stat *st, int to_set)
{
	int64_t late = ECHO_SECONDS + (m->strict.trial ? m->publish.options.strict.timeout_ms / 1000 : 0); /* it was told when that was decided */
	struct node_time mtime = time_of(st->st_mtim);
	int64_t apart = st->st_ctim.tv_sec - node->ctime.seconds;
	return to_set == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME) && mtime.seconds == node->mtime.seconds &&
	       mtime.nanoseconds == node->mtime.nanoseconds && apart >= -ECHO_SECONDS && apart <= late;
}

/* The kernel's time is the one to be shown, also when it has forgotten the node. It goes along with the next version, and is nothing to vote on. */
static int echo_take(struct tree *t, ino_id ino, struct node *node, struct node_time ctime)
{
	struct draft *d = draft_find(&t->live, ino);
	node->ctime = ctime;
	if (!draft_is_drafted(d))
		return t->mount->strict.trial ? 0 : node_finish(&t->live, ino, node);
	d->node.ctime = ctime;
	return 0;
}

static int attributes_change(struct tree *t, ino_id ino, const struct stat *st, int to_set)
{
	struct txn *txn;
	struct node node;
	int ret = live_change(&t->live, ATTRIBUTES_BYTES, false, &txn);
	if (ret == 0)
		ret = live_may_change_node(&t->live, txn, ino);
	if (ret == 0 && to_set & FUSE_SET_ATTR_MODE)
		ret = acl_follow_mode(&t->live, txn, ino, st->st_mode);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	if (ret < 0)
		return ret;
	if (is_echo(t->mount, &node, st, to_set))
		return echo_take(t, ino, &node, time_of(st->st_ctim));
	node_set(&node, st, to_set);
	return node_change(&t->live, ino, &node);
}

static int attributes_set(struct tree *t, uint64_t id, const struct stat *st, int to_set, struct stat *ret_stat)
{
	ino_id ino;
	int ret = serve_node(t, id, &ino, NULL);
	if (ret == 0)
		ret = strict_node(t, ino, to_set & FUSE_SET_ATTR_SIZE, to_set & FUSE_SET_ATTR_SIZE && st->st_size == 0);
	if (ret == 0 && to_set & FUSE_SET_ATTR_SIZE)
		ret = st->st_size < 0 ? -EINVAL : file_truncate(t, ino, (uint64_t)st->st_size);
	if (ret == 0 && to_set & ~FUSE_SET_ATTR_SIZE)
		ret = attributes_change(t, ino, st, to_set);
	return ret < 0 ? ret : attributes_get(t, id, ret_stat);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	(void)fi;
	struct stat changed;
	int ret = attributes_set(tree_of(req), ino, st, to_set, &changed);
	if (ret < 0)
		serve_reply(req, ret);
	else if (!strict_hold_attributes(req, ino))
		fuse_reply_attr(req, &changed, KERNEL_MAY_CACHE);
}

static int statistics_get(struct tree *t, struct statvfs *ret_statistics)
{
	struct store_space space;
	struct txn *txn;
	int ret = store_space(t->mount->work.store, &space);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret < 0)
		return ret;
	const struct store_state *state = txn_state(txn);
	uint64_t nodes = state->pending ? state->pending_nodes : state->nodes;
	uint64_t free_nodes = space.free_bytes / NODE_BYTES_ABOUT;
	*ret_statistics = (struct statvfs){
		.f_bsize = BLOCK_BYTES,
		.f_frsize = BLOCK_BYTES,
		.f_blocks = space.total_bytes / BLOCK_BYTES,
		.f_bfree = space.free_bytes / BLOCK_BYTES,
		.f_bavail = space.free_bytes / BLOCK_BYTES,
		.f_files = nodes + free_nodes,
		.f_ffree = free_nodes,
		.f_favail = free_nodes,
		.f_namemax = NAME_BYTES_MAX,
	};
	return 0;
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	struct statvfs statistics;
	int ret = statistics_get(tree_of(req), &statistics);
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_statfs(req, &statistics);
}
