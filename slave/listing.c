/*
 * Listing directories, without any state between requests: an entry's position is the hash of its name, so a listing goes on
 * after the last name that it gave, whatever was added or removed meanwhile. A run of names of one hash is given whole or not at
 * all.
 *
 * The number that a listing tells with a file's name is the file's plain inode number, not st_ino: a listing that the kernel keeps
 * has to stay right when only the content of a file changes.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include "drsfs/error.h"
#include "slave/serve.h"

enum { POSITION_SELF = 1, POSITION_PARENT = 2 };

struct listing {
	struct visit *visit;
	fuse_req_t request;
	ino_id dir;
	bool plus;            /* with attributes, and counted as looked up */
	char *bytes;
	size_t used, size;
	/* the entries of the latest run, to be taken back if the next of its kind finds no room */
	uint64_t run;
	size_t run_begin;
};

/* The kernel never hears of the entries that were added from 'from' on. */
static void take_back(struct listing *l, size_t from)
{
	for (size_t at = from; l->plus && at < l->used;) {
		const struct fuse_direntplus *entry = (const void *)(l->bytes + at);

		if (entry->entry_out.nodeid != 0)
			nodes_forget(l->visit->mount->nodes, entry->entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
	l->used = from;
}

/* 1: added; 0: no room. */
static int add_plain(struct listing *l, const char *name, ino_id ino, uint8_t type, uint64_t position)
{
	struct stat attributes = { .st_ino = ino, .st_mode = DTTOIF(type) };
	size_t need = fuse_add_direntry(l->request, l->bytes + l->used, l->size - l->used, name, &attributes, (off_t)position);

	if (need > l->size - l->used)
		return 0;
	l->used += need;
	return 1;
}

static int add_plus(struct listing *l, const char *name, ino_id ino, uint8_t type, uint64_t position, version_t name_at)
{
	struct fuse_entry_param entry = { .attr = { .st_ino = ino, .st_mode = DTTOIF(type) } };
	char *at = l->bytes + l->used;
	version_t node_at;
	struct node node;

	if (fuse_add_direntry_plus(l->request, NULL, 0, name, &entry, (off_t)position) > l->size - l->used)
		return 0;
	/* '.' and '..' are not looked up: for them, and for a node that cannot be given, there is the name only. */
	if (position > POSITION_PARENT && visit_inode(l->visit->txn, l->visit->view, ino, &node, &node_at) == 0) {
		int error = visit_give(l->visit, ino, &node, name_at > node_at ? name_at : node_at, (struct node_place){ l->dir, position },
				       &entry);

		if (error < 0 && error != -DRS_ECORRUPT)
			return error;
	}
	l->used += fuse_add_direntry_plus(l->request, at, l->size - l->used, name, &entry, (off_t)position);
	((struct fuse_direntplus *)(void *)at)->dirent.ino = ino;
	return 1;
}

static int add(struct listing *l, const char *name, ino_id ino, uint8_t type, uint64_t position, version_t name_at)
{
	if (position != l->run) {
		l->run = position;
		l->run_begin = l->used;
	}
	int added = l->plus ? add_plus(l, name, ino, type, position, name_at) : add_plain(l, name, ino, type, position);
	if (added == 0 && l->run_begin > 0)
		take_back(l, l->run_begin);
	return added;
}

static int add_names(struct listing *l, struct record_cursor *cursor, uint64_t after)
{
	struct record_key key = record_prefix_names(l->dir, after + 1);
	struct slice value;
	version_t at;
	int added = 1;

	int error = record_cursor_seek(cursor, (struct slice){ key.bytes, key.size });
	while (error == 0 && added > 0) {
		char name[NAME_BYTES_MAX + 1];
		uint8_t type;
		ino_id ino;

		error = record_cursor_next(cursor, &key, &value, &at);
		if (error <= 0 || record_key_ino(&key) != l->dir || record_key_kind(&key) != RECORD_NAME)
			break;
		struct slice text = record_key_text(&key);
		error = name_decode(value, &ino, &type);
		if (error < 0)
			break;
		memcpy(name, text.data, text.size);
		name[text.size] = 0;
		added = add(l, name, ino, type, record_key_cookie(&key), at);
	}
	return added < 0 ? added : error < 0 ? error : 0;
}

static int add_dots(struct listing *l, const struct node *dir, uint64_t after)
{
	int added = 1;

	if (after < POSITION_SELF)
		added = add(l, ".", l->dir, DT_DIR, POSITION_SELF, 0);
	if (added > 0 && after < POSITION_PARENT)
		added = add(l, "..", dir->parent ? dir->parent : l->dir, DT_DIR, POSITION_PARENT, 0);
	return added;
}

static int list(struct listing *l, uint64_t after)
{
	struct visit *v = l->visit;
	struct buffer *reply = &v->server->reply;
	struct record_cursor *cursor;
	struct view view;
	struct node dir;

	buffer_clear(reply);
	l->bytes = buffer_grow(reply, l->size);
	if (!l->bytes)
		return -ENOMEM;
	int error = visit_node(v, l->dir, &dir, &view);
	if (error == 0 && view.version != v->view.version)
		error = -ENOENT; /* it was removed: so the kernel answers for other file systems, and readdir(3) takes it for the end */
	if (error == 0 && v->cautious)
		error = caution_gives(&v->mount->caution, l->dir, GIVEN_LISTING);
	if (error == 0)
		error = add_dots(l, &dir, after);
	if (error <= 0)
		return error;
	error = record_cursor_new(v->txn, v->view, &cursor);
	if (error < 0)
		return error;
	error = add_names(l, cursor, after < POSITION_PARENT ? POSITION_PARENT : after);
	record_cursor_free(cursor);
	return error;
}

static void serve(fuse_req_t request, fuse_ino_t dir, size_t size, off_t after, bool plus)
{
	struct visit v;
	struct listing listing = { .visit = &v, .request = request, .dir = dir, .plus = plus, .size = size };

	int error = visit_begin(&v, request);
	if (error == 0)
		error = list(&listing, (uint64_t)after);

	if (error < 0) {
		take_back(&listing, 0);
		fuse_reply_err(request, error_errno(error));
	} else if (fuse_reply_buf(request, listing.bytes, listing.used) < 0) {
		take_back(&listing, 0);
	}
	visit_end(&v);
}

void serve_readdir(fuse_req_t request, fuse_ino_t dir, size_t size, off_t after, struct fuse_file_info *info)
{
	(void)info;
	serve(request, dir, size, after, false);
}

void serve_readdirplus(fuse_req_t request, fuse_ino_t dir, size_t size, off_t after, struct fuse_file_info *info)
{
	(void)info;
	serve(request, dir, size, after, true);
}
