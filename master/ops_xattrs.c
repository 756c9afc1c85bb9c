/* Extended attributes, and what access control lists among them mean for the mode (acl.h). */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "master/acl.h"
#include "master/serve.h"

#define XATTR_CHANGE_BYTES 2048 /* records without the value */
#define GROUPS_MAX 1024

static bool is_list(const char *name)
{
	return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

static int name_check(const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };
	if (strlen(name) > XATTR_NAME_BYTES_MAX)
		return -ERANGE;
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
		if (strncmp(name, spaces[i], strlen(spaces[i])) == 0)
			return name[strlen(spaces[i])] ? 0 : -EINVAL;
	return is_list(name) ? 0 : -EOPNOTSUPP;
}

/* --- lists and modes */

int acl_follow_mode(struct live *live, struct txn *txn, ino_id ino, uint32_t mode)
{
	struct slice value;
	struct acl acl;
	int ret = xattr_get(live, txn, ino, ACL_ACCESS, &value);
	if (ret == -ENODATA)
		return 0;
	if (ret == 0)
		ret = acl_decode(value, &acl);
	if (ret < 0)
		return ret;
	acl_chmod(&acl, mode);
	return xattr_put(live, ino, ACL_ACCESS, (struct slice){ acl.bytes, acl.size });
}

static bool in_group(fuse_req_t req, uint32_t gid)
{
	gid_t groups[GROUPS_MAX];
	if (fuse_req_ctx(req)->uid == 0 || fuse_req_ctx(req)->gid == gid)
		return true;
	int count = fuse_req_getgroups(req, GROUPS_MAX, groups);
	for (int i = 0; i < count && i < GROUPS_MAX; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* --- changing */

static int xattr_check_flags(struct live *live, struct txn *txn, ino_id ino, const char *name, int flags)
{
	struct slice value;
	if (!(flags & (XATTR_CREATE | XATTR_REPLACE)))
		return 0;
	int ret = xattr_get(live, txn, ino, name, &value);
	if (ret == 0)
		return flags & XATTR_CREATE ? -EEXIST : 0;
	return ret == -ENODATA && !(flags & XATTR_REPLACE) ? 0 : ret;
}

/* An access list sets the permission bits; one that says no more than they can is not kept. */
static int access_list_set(fuse_req_t req, ino_id ino, struct node *node, const struct acl *acl)
{
	struct live *live = &tree_of(req)->live;
	if (!in_group(req, node->gid))
		node->mode &= ~(uint32_t)S_ISGID;
	if (acl_mode(acl, &node->mode))
		return xattr_delete(live, ino, ACL_ACCESS);
	return xattr_put(live, ino, ACL_ACCESS, (struct slice){ acl->bytes, acl->size });
}

static int node_changed(struct live *live, struct txn *txn, ino_id ino, uint32_t mode)
{
	struct node node;
	int ret = node_live(live, txn, ino, &node);
	if (ret < 0)
		return ret;
	node.mode = mode;
	node.ctime = time_now();
	return node_change(live, ino, &node);
}

static int xattr_set(fuse_req_t req, uint64_t id, const char *name, struct slice value, int flags)
{
	struct live *live = &tree_of(req)->live;
	struct txn *txn;
	struct node node;
	struct acl acl;
	bool policy = strcmp(name, POLICY_XATTR) == 0;
	bool access = strcmp(name, ACL_ACCESS) == 0, list = is_list(name);
	ino_id ino;
	int ret = serve_node(tree_of(req), id, &ino, NULL);
	if (ret == 0)
		ret = name_check(name);
	if (ret == 0 && value.size > XATTR_SIZE_MAX)
		ret = -E2BIG;
	if (ret == 0 && list)
		ret = acl_decode(value, &acl);
	if (ret == 0 && policy && !policy_value_valid(value))
		ret = -EINVAL;
	if (ret == 0)
		ret = policy ? 0 : strict_node(tree_of(req), ino, false, false); /* a way out must not need a vote */
	if (ret == 0)
		ret = live_change(live, XATTR_CHANGE_BYTES + value.size, false, &txn);
	if (ret == 0)
		ret = live_may_change_node(live, txn, ino);
	if (ret == 0)
		ret = node_live(live, txn, ino, &node);
	if (ret == 0)
		ret = xattr_check_flags(live, txn, ino, name, flags);
	if (ret == 0 && list && !access && !S_ISDIR(node.mode))
		ret = -EACCES;
	if (ret == 0 && policy && !S_ISDIR(node.mode))
		ret = -EINVAL;
	if (ret < 0)
		return ret;
	policy_changed(tree_of(req)->mount->policy);
	ret = access ? access_list_set(req, ino, &node, &acl) : xattr_put(live, ino, name, value);
	return ret < 0 ? ret : node_changed(live, txn, ino, node.mode);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	int ret = xattr_set(req, ino, name, (struct slice){ value, size }, flags);
	serve_reply(req, ret);
}

static int xattr_remove(struct live *live, ino_id ino, const char *name)
{
	struct txn *txn;
	struct node node;
	struct slice value;
	int ret = name_check(name);
	if (ret == 0)
		ret = live_change(live, XATTR_CHANGE_BYTES, true, &txn);
	if (ret == 0)
		ret = live_may_change_node(live, txn, ino);
	if (ret == 0)
		ret = node_live(live, txn, ino, &node);
	if (ret == 0)
		ret = xattr_get(live, txn, ino, name, &value);
	if (ret == -ENODATA && is_list(name))
		return 0; /* "no list" is what was asked for */
	if (ret < 0)
		return ret;
	ret = xattr_delete(live, ino, name);
	return ret < 0 ? ret : node_changed(live, txn, ino, node.mode);
}

void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	ino_id ino;
	int ret = serve_node(tree_of(req), id, &ino, NULL);
	if (ret == 0 && strcmp(name, POLICY_XATTR) != 0)
		ret = strict_node(tree_of(req), ino, false, true);
	policy_changed(tree_of(req)->mount->policy);
	if (ret == 0)
		ret = xattr_remove(&tree_of(req)->live, ino, name);
	serve_reply(req, ret);
}

/* --- reading. A size of 0 asks how large it is. */

static void reply_sized(fuse_req_t req, struct slice value, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, value.size);
	else if (value.size > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value.data, value.size);
}

static int value_get(struct tree *t, uint64_t id, const char *name, struct slice *ret_value)
{
	struct txn *txn;
	const struct known_old *old;
	ino_id ino;
	int ret = name_check(name);
	if (ret == 0 && id & NODE_HIDDEN)
		return -ENODATA;
	if (ret == 0)
		ret = serve_node(t, id, &ino, &old);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret < 0)
		return ret;
	struct record_key key = record_key_xattr(ino, name, strlen(name));
	ret = record_get(txn, serve_view(t, txn, old), &key, ret_value, NULL);
	return ret == -ENOENT ? -ENODATA : ret;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct slice value;
	int ret = value_get(tree_of(req), ino, name, &value);
	if (ret < 0)
		serve_reply(req, ret);
	else
		reply_sized(req, value, size);
}

/* Trusted attributes are for the administrator only. */
static int xattr_list(struct tree *t, uint64_t id, bool trusted, struct buffer *ret_names)
{
	struct txn *txn;
	struct record_cursor *cursor;
	const struct known_old *old;
	ino_id ino;
	if (id & NODE_HIDDEN)
		return 0;
	int ret = serve_node(t, id, &ino, &old);
	if (ret == 0)
		ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = record_cursor_new(txn, serve_view(t, txn, old), &cursor);
	if (ret < 0)
		return ret;
	struct record_key prefix = record_prefix_xattrs(ino), key;
	struct slice value;
	ret = record_cursor_seek(cursor, (struct slice){ prefix.bytes, prefix.size });
	while (ret == 0 && (ret = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		ret = 0;
		if (record_key_kind(&key) != RECORD_XATTR || record_key_ino(&key) != ino)
			break;
		struct slice name = record_key_text(&key);
		if (!trusted && name.size > strlen("trusted.") && memcmp(name.data, "trusted.", strlen("trusted.")) == 0)
			continue;
		buffer_add(ret_names, name.data, name.size);
		buffer_add_u8(ret_names, 0);
	}
	record_cursor_free(cursor);
	return ret < 0 ? ret : ret_names->failed ? -ENOMEM : 0;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct buffer names = BUFFER_INIT;
	int ret = xattr_list(tree_of(req), ino, fuse_req_ctx(req)->uid == 0, &names);
	if (ret < 0)
		serve_reply(req, ret);
	else
		reply_sized(req, buffer_slice(&names), size);
	buffer_fini(&names);
}
