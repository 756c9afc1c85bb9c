/*
 * Trees for tests of the slave: a store that a test writes versions into directly, as a master's mount would, and a place of its own
 * on disk.
 * Failures end the program: they are the test's own.
 */
#ifndef TESTS_LIB_TREE_H
#define TESTS_LIB_TREE_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "store/content.h"
#include "store/node.h"
#include "store/version.h"

#ifndef TREE_PLACE
#define TREE_PLACE "/tmp"
#endif

#define OWN __attribute__((unused)) static

struct tree {
	char dir[64];   /* in TREE_PLACE; holds "store" and "mnt" */
	char state[80], mnt[80];
	struct store *store;
	struct txn *txn; /* open while a version is written */
	version_t at;
	int64_t clock;
};

OWN void must(int error, const char *what)
{
	if (error >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, error_text(error));
	abort();
}

OWN void tree_begin(struct tree *t)
{
	must(txn_begin_write(t->store, &t->txn), "txn_begin_write");
	t->at = version_begin(t->txn);
}

OWN version_t tree_commit(struct tree *t)
{
	must(version_seal(t->txn, ++t->clock, "test", NULL), "version_seal");
	must(txn_commit(t->txn), "txn_commit");
	t->txn = NULL;
	return t->at;
}

/* A clock that goes on by a millisecond with every look at it. */
OWN struct node_time tree_now(struct tree *t)
{
	t->clock++;
	return (struct node_time){ 1700000000 + t->clock / 1000, (uint32_t)(t->clock % 1000) * 1000000 };
}

OWN void tree_put_node(struct tree *t, ino_id ino, const struct node *node)
{
	struct record_key key = record_key_node(ino);
	struct buffer b = BUFFER_INIT;

	node_encode(node, &b);
	must(record_put(t->txn, t->at, &key, buffer_slice(&b)), "record_put node");
	buffer_fini(&b);
}

/* Content points into the store: put it back before anything else is written. */
OWN struct node tree_node(struct tree *t, ino_id ino)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	struct node node;

	must(record_get(t->txn, (struct view){ .version = t->at }, &key, &value, NULL), "record_get node");
	must(node_decode(value, &node), "node_decode");
	return node;
}

OWN void tree_touch(struct tree *t, ino_id ino)
{
	struct node node = tree_node(t, ino);

	node.mtime = node.ctime = tree_now(t);
	tree_put_node(t, ino, &node);
}

OWN void tree_chmod(struct tree *t, ino_id ino, uint32_t mode)
{
	struct node node = tree_node(t, ino);

	node.mode = (node.mode & S_IFMT) | mode;
	node.ctime = tree_now(t);
	tree_put_node(t, ino, &node);
}

/* Without touching the directory. */
OWN void tree_put_name(struct tree *t, ino_id parent, const char *name, ino_id ino, uint8_t type)
{
	struct record_key key = record_key_name(t->txn, parent, name, strlen(name));
	uint8_t bytes[16];
	size_t size;

	name_encode(ino, type, bytes, &size);
	must(record_put(t->txn, t->at, &key, (struct slice){ bytes, size }), "record_put name");
}

OWN void tree_link(struct tree *t, ino_id parent, const char *name, ino_id ino, uint8_t type)
{
	tree_put_name(t, parent, name, ino, type);
	tree_touch(t, parent);
}

OWN void tree_unlink(struct tree *t, ino_id parent, const char *name)
{
	struct record_key key = record_key_name(t->txn, parent, name, strlen(name));

	must(record_delete(t->txn, t->at, &key), "record_delete name");
	tree_touch(t, parent);
}

OWN void tree_delete_node(struct tree *t, ino_id ino)
{
	struct record_key key = record_key_node(ino);

	must(record_delete(t->txn, t->at, &key), "record_delete node");
}

OWN struct node tree_new_node(struct tree *t, uint32_t mode)
{
	struct node_time now = tree_now(t);

	return (struct node){ .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1, .atime = now, .mtime = now, .ctime = now };
}

OWN ino_id tree_mkdir(struct tree *t, ino_id parent, const char *name)
{
	struct node node = tree_new_node(t, S_IFDIR | 0755);
	ino_id ino = record_next_ino(t->txn);

	node.parent = parent;
	tree_put_node(t, ino, &node);
	tree_link(t, parent, name, ino, DT_DIR);
	return ino;
}

/* Content of up to 2 KiB stands in the node, more is cut. */
OWN void tree_set_content(struct tree *t, struct node *node, const void *data, size_t size, struct buffer *storage)
{
	struct content_edit *edit;

	must(content_edit_new(node, &edit), "content_edit_new");
	must(content_edit_truncate(edit, t->txn, 0), "content_edit_truncate");
	must(content_edit_write(edit, t->txn, 0, data, size), "content_edit_write");
	must(content_edit_save(edit, t->txn, node, storage), "content_edit_save");
	content_edit_free(edit);
	node->content_version = t->at;
}

OWN ino_id tree_add_file(struct tree *t, ino_id parent, const char *name, const void *data, size_t size)
{
	struct node node = tree_new_node(t, S_IFREG | 0644);
	ino_id ino = record_next_ino(t->txn);
	struct buffer storage = BUFFER_INIT;

	tree_set_content(t, &node, data, size, &storage);
	tree_put_node(t, ino, &node);
	tree_put_name(t, parent, name, ino, DT_REG);
	buffer_fini(&storage);
	return ino;
}

OWN ino_id tree_file(struct tree *t, ino_id parent, const char *name, const char *text)
{
	ino_id ino = tree_add_file(t, parent, name, text, strlen(text));

	tree_touch(t, parent);
	return ino;
}

OWN void tree_rewrite(struct tree *t, ino_id ino, const void *data, size_t size)
{
	struct node node = tree_node(t, ino);
	struct buffer storage = BUFFER_INIT;

	tree_set_content(t, &node, data, size, &storage);
	node.mtime = node.ctime = tree_now(t);
	tree_put_node(t, ino, &node);
	buffer_fini(&storage);
}

OWN ino_id tree_symlink(struct tree *t, ino_id parent, const char *name, const char *target)
{
	struct node node = tree_new_node(t, S_IFLNK | 0777);
	ino_id ino = record_next_ino(t->txn);

	node.content_kind = CONTENT_INLINE;
	node.content = (struct slice){ target, strlen(target) };
	node.size = strlen(target);
	node.content_version = t->at;
	tree_put_node(t, ino, &node);
	tree_link(t, parent, name, ino, DT_LNK);
	return ino;
}

OWN void tree_xattr(struct tree *t, ino_id ino, const char *name, const void *data, size_t size)
{
	struct record_key key = record_key_xattr(ino, name, strlen(name));

	must(record_put(t->txn, t->at, &key, (struct slice){ data, size }), "record_put xattr");
}

/* A place of its own with a store of this role; a master's begins with version 1, an empty root. */
OWN void tree_open(struct tree *t, enum store_role role)
{
	struct store_options options = { .dir = t->state, .role = role, .create = true, .lazy_sync = role == STORE_SLAVE };

	memset(t, 0, sizeof(*t));
	options.map_bytes = (size_t)1 << 32;
	strcpy(t->dir, TREE_PLACE "/drsfs-test-XXXXXX");
	if (!mkdtemp(t->dir))
		abort();
	snprintf(t->state, sizeof(t->state), "%s/store", t->dir);
	snprintf(t->mnt, sizeof(t->mnt), "%s/mnt", t->dir);
	if (mkdir(t->mnt, 0755) < 0)
		abort();
	must(store_open(&options, &t->store), "store_open");
	if (role == STORE_SLAVE)
		return;
	tree_begin(t);
	struct node root = tree_new_node(t, S_IFDIR | 0755);
	root.parent = INO_ROOT;
	tree_put_node(t, INO_ROOT, &root);
	tree_commit(t);
}

OWN void tree_close(struct tree *t)
{
	char command[200];

	store_close(t->store);
	umount2(t->mnt, MNT_DETACH); /* what a failed test left */
	snprintf(command, sizeof(command), "rm -rf --one-file-system '%s'", t->dir);
	if (system(command) != 0)
		fprintf(stderr, "cannot remove %s\n", t->dir);
}

#endif
