/*
 * The synthetic directories of the main mount: .drsfs at the root, which is found by its name but not listed; in it batch, which has a directory for
 * each open batch, on which its view is mounted. They are for the daemon's user, and nobody can change anything in them. The kernel may keep what it
 * is told of them; whoever mounts or unmounts a view tells it what has changed (batches.c).
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/serve.h"

#define BATCHES_NAME "batch"
#define HIDDEN_BATCH ((uint64_t)1 << 32)
#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2
#define COOKIE_FIRST 3 /* of batch number 1 */

bool hidden_reserved(ino_id parent, const char *name)
{
	return parent == INO_ROOT && strcmp(name, HIDDEN_NAME) == 0;
}

/* Only its owner's own processes may enter a user's mount, and fusermount3, which mounts for users, is root's. */
bool hidden_takes_views(const struct master_mount *m)
{
	return geteuid() == 0 || m->publish.options.allow_other;
}

void hidden_path(const struct master_mount *m, uint32_t id, char *path, size_t size)
{
	if (!hidden_takes_views(m))
		snprintf(path, size, "%s/" BATCHES_NAME "/%" PRIu32, store_dir(m->work.store), id);
	else
		snprintf(path, size, "%s/" HIDDEN_NAME "/" BATCHES_NAME "/%" PRIu32, m->main.mountpoint, id);
}

static void attributes(uint64_t id, struct stat *ret_stat)
{
	*ret_stat = (struct stat){ .st_ino = id, .st_mode = S_IFDIR | 0700, .st_nlink = 2, .st_uid = geteuid(), .st_gid = getegid() };
}

void hidden_getattr(fuse_req_t req, fuse_ino_t id)
{
	struct stat st;
	attributes(id, &st);
	fuse_reply_attr(req, &st, KERNEL_MAY_CACHE);
}

static bool batch_by_number(struct master_mount *m, const char *name, uint32_t *ret_id)
{
	struct batch_info info;
	char *end;
	unsigned long id = strtoul(name, &end, 10);
	bool number = name[0] >= '1' && name[0] <= '9' && !*end && id <= UINT32_MAX;
	if (!number || batches_find(m, name, &info) < 0 || info.id != id)
		return false;
	*ret_id = (uint32_t)id;
	return true;
}

/* 0: there is no such name. */
static uint64_t find(struct tree *t, fuse_ino_t parent, const char *name)
{
	uint32_t id;
	if (parent == INO_ROOT || (parent == HIDDEN_TOP && strcmp(name, BATCHES_NAME) == 0))
		return parent == INO_ROOT ? HIDDEN_TOP : HIDDEN_BATCHES;
	return parent == HIDDEN_BATCHES && batch_by_number(t->mount, name, &id) ? NODE_HIDDEN | HIDDEN_BATCH | id : 0;
}

int hidden_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct tree *t = tree_of(req);
	if (t->batch || (!(parent & NODE_HIDDEN) && !hidden_reserved(parent, name)))
		return 0;
	struct fuse_entry_param entry = { .ino = find(t, parent, name), .attr_timeout = KERNEL_MAY_CACHE, .entry_timeout = KERNEL_MAY_CACHE };
	attributes(entry.ino, &entry.attr);
	if (!entry.ino)
		serve_reply(req, -ENOENT); /* not to be kept */
	else
		fuse_reply_entry(req, &entry);
	return 1;
}

/* --- listing */

struct hidden_listing {
	fuse_req_t req;
	bool plus, full;
	uint64_t from;
	size_t size, used;
	char data[4096];
};

static void add(struct hidden_listing *l, const char *name, uint64_t id, uint64_t cookie)
{
	if (cookie <= l->from || l->full)
		return;
	struct fuse_entry_param entry = { .attr = { .st_ino = id, .st_mode = S_IFDIR } };
	size_t left = l->size - l->used;
	size_t size = l->plus ? fuse_add_direntry_plus(l->req, l->data + l->used, left, name, &entry, (off_t)cookie) :
				fuse_add_direntry(l->req, l->data + l->used, left, name, &entry.attr, (off_t)cookie);
	l->full = size > left;
	l->used += l->full ? 0 : size;
}

static void add_batch(void *user, const struct batch_info *info)
{
	char name[16];
	snprintf(name, sizeof(name), "%" PRIu32, info->id);
	add(user, name, NODE_HIDDEN | HIDDEN_BATCH | info->id, COOKIE_FIRST + info->id);
}

void hidden_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, bool plus)
{
	struct hidden_listing l = { .req = req, .plus = plus, .from = (uint64_t)offset };
	l.size = size < sizeof(l.data) ? size : sizeof(l.data);
	add(&l, ".", id, COOKIE_DOT);
	add(&l, "..", id == HIDDEN_TOP ? INO_ROOT : id == HIDDEN_BATCHES ? HIDDEN_TOP : HIDDEN_BATCHES, COOKIE_DOTDOT);
	if (id == HIDDEN_TOP)
		add(&l, BATCHES_NAME, HIDDEN_BATCHES, COOKIE_FIRST);
	if (id == HIDDEN_BATCHES)
		batches_each(tree_of(req)->mount, add_batch, &l);
	fuse_reply_buf(req, l.data, l.used);
}
