/*
 * Requests about nodes and names, and the table of operations. Everything is answered from the store; nothing is remembered of a
 * request but, in the table of nodes, what the kernel was given. The mount is read-only for the kernel, so requests to change
 * anything arrive from the echo only (echo.h), or through a mount of the same that somebody made writable: those are refused.
 */
#include "slave/serve.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "drsfs/error.h"
#include "store/content.h"

/* The kernel keeps what it was told until the flip takes it away; as long as it can count, then. */
#define TIMEOUT_UNLIMITED 1e9
#define BLOCK_BYTES 4096

_Thread_local struct server *server_self;

/* ---- visits */

int visit_begin(struct visit *v, fuse_req_t request)
{
	struct slave_mount *m = fuse_req_userdata(request);

	assert(server_self && server_self->mount == m);
	pthread_rwlock_rdlock(&m->gate);
	atomic_fetch_add_explicit(&m->requests, 1, memory_order_relaxed);
	*v = (struct visit){
		.mount = m,
		.server = server_self,
		.view = { .version = m->shown },
		.gated = true,
		.cautious = m->flipping,
		.timeout = m->flipping ? 0 : TIMEOUT_UNLIMITED,
	};
	int error = txn_resume(server_self->txn);
	if (error == 0)
		v->txn = server_self->txn;
	return error;
}

void visit_leave_gate(struct visit *v)
{
	pthread_rwlock_unlock(&v->mount->gate);
	v->gated = false;
}

void visit_end(struct visit *v)
{
	if (v->txn)
		txn_park(v->txn);
	if (v->gated)
		visit_leave_gate(v);
}

static void reply_error(fuse_req_t request, int error)
{
	fuse_reply_err(request, error_errno(error));
}

/* ---- nodes */

version_t node_content_version(const struct node *node)
{
	return S_ISDIR(node->mode) ? 0 : node->content_version;
}

/* Before anything was replicated there is an empty root. */
static int root_of_nothing(struct node *ret_node)
{
	*ret_node = (struct node){ .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT };
	return 0;
}

int visit_inode(struct txn *txn, struct view view, ino_id ino, struct node *ret_node, version_t *ret_at)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	version_t at = 0;
	int error = record_get(txn, view, &key, &value, &at);

	if (error == -ENOENT && ino == INO_ROOT)
		error = root_of_nothing(ret_node);
	else if (error == 0)
		error = node_decode(value, ret_node);
	if (error == 0 && ret_at)
		*ret_at = at;
	return error;
}

static bool is_content(const struct node *node, version_t content_version)
{
	return node_content_version(node) == content_version;
}

int visit_node(struct visit *v, node_id id, struct node *ret_node, struct view *ret_view)
{
	ino_id ino = node_id_ino(id);
	struct view view = v->view;
	struct node_held held;

	if (!nodes_find(v->mount->nodes, id, &held))
		return -ESTALE;
	int error = visit_inode(v->txn, view, ino, ret_node, NULL);
	if (held.left_at != 0 && (error == -ENOENT || (error == 0 && !is_content(ret_node, held.content_version)))) {
		view.version = held.left_at;
		error = visit_inode(v->txn, view, ino, ret_node, NULL);
	}
	if (error == -ENOENT || (error == 0 && !is_content(ret_node, held.content_version)))
		return -ESTALE;
	if (error == 0 && ret_view)
		*ret_view = view;
	return error;
}

static struct timespec stat_time(const struct node_time *t)
{
	return (struct timespec){ .tv_sec = t->seconds, .tv_nsec = t->nanoseconds };
}

void visit_attributes(const struct visit *v, ino_id ino, const struct node *node, struct stat *ret_stat)
{
	*ret_stat = (struct stat){
		.st_ino = node_id_of(ino, node_content_version(node)),
		.st_mode = node->mode,
		.st_nlink = node->nlink,
		.st_uid = node->uid,
		.st_gid = node->gid,
		.st_rdev = node->rdev,
		.st_size = (off_t)node->size,
		.st_blksize = BLOCK_BYTES,
		.st_blocks = (blkcnt_t)((content_allocated(node) + 511) / 512),
		.st_atim = stat_time(&node->atime),
		.st_mtim = stat_time(&node->mtime),
		.st_ctim = stat_time(&node->ctime),
	};
	if (S_ISDIR(node->mode) && caution_is_blurred(&v->mount->caution, ino))
		caution_blurs(&v->mount->caution, &ret_stat->st_mtim);
}

/*
 * The kernel marks attributes as good before it has stored them all, and looks at them without a lock. So the first answer after a
 * change is not to be kept: when a later one marks them as good, the new ones are stored already. (Unless that overtakes the first,
 * as two threads answer: hence the moment.)
 */
double visit_attributes_timeout(struct visit *v, node_id id)
{
	bool passing = v->cautious || caution_is_blurred(&v->mount->caution, id) || nodes_is_fresh(v->mount->nodes, id);

	return passing ? 0 : v->timeout;
}

double visit_entry_timeout(const struct visit *v, version_t written)
{
	return written > v->mount->echoed ? 0 : v->timeout;
}

int visit_give(struct visit *v, ino_id ino, const struct node *node, version_t written, struct node_place place,
	       struct fuse_entry_param *ret_entry)
{
	version_t content_version = node_content_version(node);

	if (ino == 0 || ino > NODE_ID_INO_MAX || node_id_is_ghost(ino))
		return -DRS_ECORRUPT;
	int error = nodes_give(v->mount->nodes, ino, content_version, v->cautious ? v->view.version : 0, place);
	if (error < 0)
		return error;
	*ret_entry = (struct fuse_entry_param){
		.ino = node_id_of(ino, content_version),
		.generation = node_id_generation(content_version),
		.entry_timeout = visit_entry_timeout(v, written),
	};
	ret_entry->attr_timeout = visit_attributes_timeout(v, ret_entry->ino);
	visit_attributes(v, ino, node, &ret_entry->attr);
	return 0;
}

/* ---- names */

/* How the kernel gets from a file handle to a place in the tree, for the echo (or an NFS server) that opens one. */
static int look_up_dots(struct visit *v, node_id id, bool parent, struct fuse_entry_param *ret_entry)
{
	struct view view;
	struct node node;
	version_t at = 0;
	ino_id ino = node_id_ino(id);

	int error = visit_node(v, id, &node, &view);
	if (error == 0 && parent) {
		ino = node.parent;
		error = visit_inode(v->txn, view, ino, &node, &at);
	}
	return error < 0 ? error : visit_give(v, ino, &node, at, (struct node_place){ 0, 0 }, ret_entry);
}

int visit_look_up(struct visit *v, node_id parent, const char *name, struct fuse_entry_param *ret_entry)
{
	size_t size = strlen(name);
	struct slice value;
	struct node node;
	version_t name_at, node_at = 0;
	ino_id child;
	uint8_t type;

	if (size > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return look_up_dots(v, parent, size == 2, ret_entry);
	struct record_key key = record_key_name(v->txn, parent, name, size);
	int error = record_get(v->txn, v->view, &key, &value, &name_at);
	if (error == -ENOENT) {
		/* which version took the name away is not known: any that is shown */
		*ret_entry = (struct fuse_entry_param){ .entry_timeout = visit_entry_timeout(v, v->view.version) };
		return 0;
	}
	if (error == 0)
		error = name_decode(value, &child, &type);
	if (error == 0)
		error = visit_inode(v->txn, v->view, child, &node, &node_at);
	if (error == -ENOENT)
		return -DRS_ECORRUPT; /* a name of nothing */
	if (error == 0)
		error = visit_give(v, child, &node, name_at > node_at ? name_at : node_at,
				   (struct node_place){ parent, record_key_cookie(&key) }, ret_entry);
	return error;
}

static void serve_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct visit v;
	struct fuse_entry_param entry;

	int error = visit_begin(&v, request);
	if (error == 0 && echo_asks(v.mount->echo, request))
		error = echo_look_up(&v, parent, name, &entry);
	else if (error == 0)
		error = visit_look_up(&v, parent, name, &entry);

	if (error < 0)
		reply_error(request, error);
	else if (fuse_reply_entry(request, &entry) < 0 && entry.ino != 0)
		nodes_forget(v.mount->nodes, entry.ino, 1);
	visit_end(&v);
}

static void serve_forget(fuse_req_t request, fuse_ino_t id, uint64_t times)
{
	struct slave_mount *m = fuse_req_userdata(request);

	nodes_forget(m->nodes, id, times);
	fuse_reply_none(request);
}

static void serve_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
	struct slave_mount *m = fuse_req_userdata(request);

	for (size_t i = 0; i < count; i++)
		nodes_forget(m->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(request);
}

/* ---- attributes */

static void serve_getattr(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
	struct visit v;
	struct node node;
	struct stat attributes;

	(void)info; /* there are no open files */
	int error = visit_begin(&v, request);
	bool ghost = error == 0 && echo_attributes(id, &attributes);
	if (error == 0 && !ghost)
		error = visit_node(&v, id, &node, NULL);
	if (error == 0 && !ghost)
		visit_attributes(&v, node_id_ino(id), &node, &attributes);

	if (error < 0)
		reply_error(request, error);
	else
		fuse_reply_attr(request, &attributes, visit_attributes_timeout(&v, id));
	visit_end(&v);
}

/* Nobody but the echo changes attributes, and it changes nothing: the reply is what they are. */
static void serve_setattr(fuse_req_t request, fuse_ino_t id, struct stat *attributes, int which, struct fuse_file_info *info)
{
	struct slave_mount *m = fuse_req_userdata(request);

	(void)attributes, (void)which;
	if (echo_asks(m->echo, request))
		serve_getattr(request, id, info);
	else
		fuse_reply_err(request, EROFS);
}

static void serve_readlink(fuse_req_t request, fuse_ino_t id)
{
	struct visit v;
	struct node node;

	int error = visit_begin(&v, request);
	if (error == 0)
		error = visit_node(&v, id, &node, NULL);
	if (error == 0 && (!S_ISLNK(node.mode) || node.content_kind != CONTENT_INLINE))
		error = -DRS_ECORRUPT;

	if (error < 0)
		reply_error(request, error);
	else
		fuse_reply_buf(request, node.content.data, node.content.size);
	visit_end(&v);
}

/* ---- extended attributes */

static void reply_xattr(fuse_req_t request, int error, struct slice value, size_t room)
{
	if (error == 0 && room > 0 && value.size > room)
		error = -ERANGE;

	if (error < 0)
		reply_error(request, error);
	else if (room == 0)
		fuse_reply_xattr(request, value.size);
	else
		fuse_reply_buf(request, value.data, value.size);
}

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static int get_xattr(struct visit *v, node_id id, const char *name, struct slice *ret_value)
{
	size_t size = strlen(name);
	struct view view;
	struct node node;

	int error = visit_node(v, id, &node, &view);
	if (error == 0 && v->cautious && is_acl(name))
		error = caution_gives(&v->mount->caution, id, GIVEN_ACL);
	if (error < 0)
		return error;
	if (size == 0 || size > XATTR_NAME_BYTES_MAX)
		return -ERANGE;
	struct record_key key = record_key_xattr(node_id_ino(id), name, size);
	error = record_get(v->txn, view, &key, ret_value, NULL);
	return error == -ENOENT ? -ENODATA : error;
}

static void serve_getxattr(fuse_req_t request, fuse_ino_t id, const char *name, size_t room)
{
	struct visit v;
	struct slice value = { NULL, 0 };

	int error = visit_begin(&v, request);
	if (error == 0)
		error = get_xattr(&v, id, name, &value);

	reply_xattr(request, error, value, room);
	visit_end(&v);
}

static int add_xattr_names(struct record_cursor *cursor, ino_id ino, struct buffer *names)
{
	struct record_key key = record_prefix_xattrs(ino);
	struct slice value;
	version_t at;

	int error = record_cursor_seek(cursor, (struct slice){ key.bytes, key.size });
	while (error == 0 && (error = record_cursor_next(cursor, &key, &value, &at)) > 0) {
		if (record_key_ino(&key) != ino || record_key_kind(&key) != RECORD_XATTR)
			return 0;
		struct slice name = record_key_text(&key);
		buffer_add(names, name.data, name.size);
		buffer_add_u8(names, 0);
		error = names->failed ? -ENOMEM : 0;
	}
	return error;
}

static int list_xattrs(struct visit *v, node_id id, struct buffer *names)
{
	struct record_cursor *cursor;
	struct view view;
	struct node node;

	buffer_clear(names);
	int error = visit_node(v, id, &node, &view);
	if (error == 0)
		error = record_cursor_new(v->txn, view, &cursor);
	if (error < 0)
		return error;
	error = add_xattr_names(cursor, node_id_ino(id), names);
	record_cursor_free(cursor);
	return error;
}

static void serve_listxattr(fuse_req_t request, fuse_ino_t id, size_t room)
{
	struct visit v;

	int error = visit_begin(&v, request);
	if (error == 0)
		error = list_xattrs(&v, id, &v.server->reply);

	reply_xattr(request, error, buffer_slice(&v.server->reply), room);
	visit_end(&v);
}

/* ---- the rest */

static void serve_statfs(fuse_req_t request, fuse_ino_t id)
{
	struct visit v;
	struct store_space space;
	struct statvfs answer;

	(void)id;
	int error = visit_begin(&v, request);
	if (error == 0)
		error = store_space(v.mount->store, &space);
	if (error == 0)
		answer = (struct statvfs){
			.f_bsize = BLOCK_BYTES,
			.f_frsize = BLOCK_BYTES,
			.f_blocks = space.total_bytes / BLOCK_BYTES,
			.f_bfree = space.free_bytes / BLOCK_BYTES,
			.f_bavail = space.free_bytes / BLOCK_BYTES,
			.f_files = txn_state(v.txn)->nodes,
			.f_namemax = NAME_BYTES_MAX,
		};

	if (error < 0)
		reply_error(request, error);
	else
		fuse_reply_statfs(request, &answer);
	visit_end(&v);
}

/* ENOSYS to the first open tells the kernel that nobody needs to hear of opening and closing, ever. */
static void serve_open(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
	(void)id, (void)info;
	fuse_reply_err(request, ENOSYS);
}

static void serve_ioctl(fuse_req_t request, fuse_ino_t id, unsigned command, void *argument, struct fuse_file_info *info, unsigned flags,
			const void *in, size_t in_size, size_t out_size)
{
	(void)id, (void)command, (void)argument, (void)info, (void)flags, (void)in, (void)in_size, (void)out_size;
	fuse_reply_err(request, ENOTTY);
}

static void want(struct fuse_conn_info *connection, unsigned capabilities)
{
	connection->want |= connection->capable & capabilities;
}

/*
 * Listings are cached, and checked against the directory's mtime (AUTO_INVAL_DATA). ACLs are enforced by the kernel. Splicing is
 * off: replies go straight from the store's pages, which a pipe would have to copy.
 */
static void serve_init(void *mount, struct fuse_conn_info *connection)
{
	(void)mount;
	want(connection, FUSE_CAP_ASYNC_READ | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT |
				 FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL |
				 FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
	connection->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	connection->max_read = READ_BYTES_MAX;
	connection->max_background = 64;
	connection->time_gran = 1;
}

/* ---- what would change something: refused, or only seems to be done */

static void reply_done(fuse_req_t request)
{
	struct slave_mount *m = fuse_req_userdata(request);

	fuse_reply_err(request, echo_asks(m->echo, request) ? 0 : EROFS);
}

static void serve_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	(void)parent, (void)name;
	reply_done(request);
}

static void serve_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags)
{
	(void)parent, (void)name, (void)to, (void)to_name, (void)flags;
	reply_done(request);
}

static void reply_made(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct slave_mount *m = fuse_req_userdata(request);
	struct fuse_entry_param entry;

	if (echo_asks(m->echo, request) && echo_make(m->echo, parent, name, mode, &entry))
		fuse_reply_entry(request, &entry);
	else
		fuse_reply_err(request, EROFS);
}

static void serve_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	(void)device;
	reply_made(request, parent, name, mode);
}

static void serve_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
	reply_made(request, parent, name, S_IFDIR | mode);
}

static void serve_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	reply_made(request, parent, name, S_IFLNK | 0777);
}

static void serve_link(fuse_req_t request, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
	(void)id, (void)parent, (void)name;
	fuse_reply_err(request, EROFS);
}

static void serve_write(fuse_req_t request, fuse_ino_t id, const char *bytes, size_t size, off_t offset, struct fuse_file_info *info)
{
	(void)id, (void)bytes, (void)size, (void)offset, (void)info;
	fuse_reply_err(request, EROFS);
}

static void serve_fallocate(fuse_req_t request, fuse_ino_t id, int mode, off_t offset, off_t size, struct fuse_file_info *info)
{
	(void)id, (void)mode, (void)offset, (void)size, (void)info;
	fuse_reply_err(request, EROFS);
}

static void serve_setxattr(fuse_req_t request, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
	(void)id, (void)name, (void)value, (void)size, (void)flags;
	fuse_reply_err(request, EROFS);
}

static void serve_removexattr(fuse_req_t request, fuse_ino_t id, const char *name)
{
	(void)id, (void)name;
	fuse_reply_err(request, EROFS);
}

const struct fuse_lowlevel_ops slave_operations = {
	.init = serve_init,
	.lookup = serve_lookup,
	.forget = serve_forget,
	.forget_multi = serve_forget_multi,
	.getattr = serve_getattr,
	.setattr = serve_setattr,
	.mknod = serve_mknod,
	.mkdir = serve_mkdir,
	.symlink = serve_symlink,
	.link = serve_link,
	.unlink = serve_unlink,
	.rmdir = serve_unlink,
	.rename = serve_rename,
	.write = serve_write,
	.fallocate = serve_fallocate,
	.setxattr = serve_setxattr,
	.removexattr = serve_removexattr,
	.readlink = serve_readlink,
	.open = serve_open,
	.read = serve_read,
	.lseek = serve_lseek,
	.opendir = serve_open,
	.readdir = serve_readdir,
	.readdirplus = serve_readdirplus,
	.getxattr = serve_getxattr,
	.listxattr = serve_listxattr,
	.statfs = serve_statfs,
	.ioctl = serve_ioctl,
};
