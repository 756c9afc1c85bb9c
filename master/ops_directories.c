/*
 * Listing directories. Nothing is kept between requests: the cookie of an entry is the hash in its name's key, so a listing goes on behind
 * the last name whatever was made or removed meanwhile. Names with equal hashes stay in one reply, as the cookie cannot tell them apart.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "master/serve.h"

#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2

struct listing {
	fuse_req_t req;
	struct tree *t;
	bool plus;
	char *data;
	size_t size, used;
};

/* Without open there is no need to tell us: the kernel keeps listings until it changes the directory itself. */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, ENOSYS);
}

/* 1: added; 0: does not fit. */
static int list_plain(struct listing *l, const char *name, ino_id ino, uint8_t type, uint64_t cookie)
{
	struct stat st = { .st_ino = ino, .st_mode = DTTOIF(type) };
	size_t size = fuse_add_direntry(l->req, l->data + l->used, l->size - l->used, name, &st, (off_t)cookie);
	if (size > l->size - l->used)
		return 0;
	l->used += size;
	return 1;
}

static int list_plus(struct listing *l, const char *name, ino_id ino, uint8_t type, uint64_t cookie)
{
	struct fuse_entry_param entry = { .attr = { .st_ino = ino, .st_mode = DTTOIF(type) } };
	int ret = cookie < NAME_COOKIE_FIRST ? 0 : serve_entry(l->t, ino, &entry);
	if (ret < 0)
		return ret;
	size_t size = fuse_add_direntry_plus(l->req, l->data + l->used, l->size - l->used, name, &entry, (off_t)cookie);
	if (size > l->size - l->used)
		return 0;
	l->used += size;
	return 1;
}

static int list_one(struct listing *l, const char *name, ino_id ino, uint8_t type, uint64_t cookie)
{
	return l->plus ? list_plus(l, name, ino, type, cookie) : list_plain(l, name, ino, type, cookie);
}

static int list_names(struct listing *l, struct record_cursor *cursor, ino_id directory)
{
	struct record_key key;
	struct slice value;
	uint64_t run = 0;      /* the cookie of the last entry */
	size_t run_used = 0;   /* where its run of equal cookies began */
	int ret;
	while ((ret = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		ino_id child;
		uint8_t type;
		char name[NAME_BYTES_MAX + 1];
		if (record_key_kind(&key) != RECORD_NAME || record_key_ino(&key) != directory)
			return 0;
		struct slice text = record_key_text(&key);
		uint64_t cookie = record_key_cookie(&key);
		ret = name_decode(value, &child, &type);
		if (ret < 0)
			return ret;
		memcpy(name, text.data, text.size);
		name[text.size] = 0;
		if (cookie != run)
			run = cookie, run_used = l->used;
		ret = list_one(l, name, child, type, cookie);
		if (ret == 0)
			l->used = run_used;
		if (ret <= 0)
			return ret;
	}
	return ret;
}

static int list(struct listing *l, ino_id directory, uint64_t from)
{
	struct txn *txn;
	struct node node;
	struct record_cursor *cursor;
	int ret = live_read(&l->t->live, &txn);
	if (ret == 0)
		ret = node_live(&l->t->live, txn, directory, &node);
	if (ret == 0 && !S_ISDIR(node.mode))
		ret = -ENOTDIR;
	if (ret < 0)
		return ret;
	if (from < COOKIE_DOT && !list_one(l, ".", directory, DT_DIR, COOKIE_DOT))
		return 0;
	if (from < COOKIE_DOTDOT && !list_one(l, "..", node.parent, DT_DIR, COOKIE_DOTDOT))
		return 0;
	ret = record_cursor_new(txn, live_view(&l->t->live, txn), &cursor);
	if (ret < 0)
		return ret;
	struct record_key prefix = record_prefix_names(directory, from < NAME_COOKIE_FIRST ? 0 : from + 1);
	ret = record_cursor_seek(cursor, (struct slice){ prefix.bytes, prefix.size });
	if (ret == 0)
		ret = list_names(l, cursor, directory);
	record_cursor_free(cursor);
	return ret;
}

static void reply_listing(fuse_req_t req, ino_id directory, size_t size, off_t offset, bool plus)
{
	if (size > REQUEST_BYTES_MAX)
		size = REQUEST_BYTES_MAX;
	struct listing l = { .req = req, .t = tree_of(req), .plus = plus, .data = malloc(size), .size = size };
	int ret = l.data ? list(&l, directory, (uint64_t)offset) : -ENOMEM;
	if (ret < 0)
		serve_reply(req, ret);
	else
		fuse_reply_buf(req, l.data, l.used);
	free(l.data);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	reply_listing(req, ino, size, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	reply_listing(req, ino, size, offset, true);
}
