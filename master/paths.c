/* Paths of nodes and names (paths.h). */
#include "master/paths.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/node.h"

#define DEPTH_MAX (PATH_MAX / 2)

/* A path found, with what is told of it. */
struct found {
	char *path;
	uint8_t kind;
};

struct search {
	struct txn *txn;
	struct view view;
	struct found *found;
	size_t count, capacity;
	ino_id *files;            /* whose names are looked for; sorted before the search */
	bool *named;
	size_t files_count, files_capacity;
	struct buffer path;
};

static void search_fini(struct search *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->found[i].path);
	free(s->found);
	free(s->files);
	free(s->named);
	buffer_fini(&s->path);
}

static int node_get(struct txn *txn, struct view view, ino_id ino, struct node *ret_node)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	int ret = record_get(txn, view, &key, &value, NULL);
	return ret < 0 ? ret : node_decode(value, ret_node);
}

/* --- going up: s->path is built from its end */

static int prepend(struct search *s, struct slice name)
{
	size_t size = s->path.size, more = name.size + (size > 0);
	if (!buffer_grow(&s->path, more))
		return -ENOMEM;
	memmove(s->path.data + more, s->path.data, size);
	memcpy(s->path.data, name.data, name.size);
	if (size)
		s->path.data[name.size] = '/';
	return 0;
}

/* The name of a directory in its parent. -ENOENT. */
static int prepend_name_of(struct search *s, ino_id parent, ino_id child)
{
	struct record_cursor *cursor;
	struct record_key prefix = record_prefix_names(parent, 0), key;
	struct slice value;
	bool done = false;
	int ret = record_cursor_new(s->txn, s->view, &cursor);
	if (ret < 0)
		return ret;
	ret = record_cursor_seek(cursor, (struct slice){ prefix.bytes, prefix.size });
	while (ret == 0 && !done && (ret = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		ino_id ino;
		uint8_t type;
		if (record_key_kind(&key) != RECORD_NAME || record_key_ino(&key) != parent) {
			ret = 0;
			break;
		}
		ret = name_decode(value, &ino, &type);
		done = ret == 0 && ino == child;
	}
	if (ret == 0)
		ret = done ? prepend(s, record_key_text(&key)) : -ENOENT;
	record_cursor_free(cursor);
	return ret;
}

static int prepend_directory(struct search *s, ino_id ino)
{
	for (unsigned depth = 0; ino != INO_ROOT; depth++) {
		struct node node;
		int ret = node_get(s->txn, s->view, ino, &node);
		if (ret == 0 && (!S_ISDIR(node.mode) || depth == DEPTH_MAX))
			ret = -ENOENT;
		if (ret == 0)
			ret = prepend_name_of(s, node.parent, ino);
		if (ret < 0)
			return ret;
		ino = node.parent;
	}
	return 0;
}

/* --- what was found */

static int found_add(struct search *s, uint8_t kind, const char *path, size_t size)
{
	if (s->count == s->capacity) {
		size_t capacity = s->capacity ? 2 * s->capacity : 64;
		struct found *found = realloc(s->found, capacity * sizeof(*found));
		if (!found)
			return -ENOMEM;
		s->found = found;
		s->capacity = capacity;
	}
	char *copy = strndup(path, size);
	if (!copy)
		return -ENOMEM;
	s->found[s->count++] = (struct found){ copy, kind };
	return 0;
}

static int found_inode(struct search *s, uint8_t kind, ino_id ino)
{
	char text[32];
	int size = snprintf(text, sizeof(text), "inode %" PRIu64, ino);
	return found_add(s, kind, text, (size_t)size);
}

/* A name in a directory, or ("") the directory itself. What hangs in the air is told by its inode. */
static int found_at(struct search *s, uint8_t kind, ino_id directory, struct slice name)
{
	buffer_clear(&s->path);
	int ret = name.size ? prepend(s, name) : 0;
	if (ret == 0)
		ret = prepend_directory(s, directory);
	if (ret == -ENOENT)
		return found_inode(s, kind, directory);
	if (ret < 0)
		return ret;
	return s->path.size ? found_add(s, kind, (char *)s->path.data, s->path.size) : found_add(s, kind, ".", 1);
}

/* --- files, by going through all names */

static int file_wanted(struct search *s, ino_id ino)
{
	if (s->files_count && s->files[s->files_count - 1] == ino)
		return 0;
	if (s->files_count == s->files_capacity) {
		size_t capacity = s->files_capacity ? 2 * s->files_capacity : 64;
		ino_id *files = realloc(s->files, capacity * sizeof(*files));
		if (!files)
			return -ENOMEM;
		s->files = files;
		s->files_capacity = capacity;
	}
	s->files[s->files_count++] = ino;
	return 0;
}

static int compare_ino(const void *a, const void *b)
{
	ino_id one = *(const ino_id *)a, other = *(const ino_id *)b;
	return one < other ? -1 : one > other;
}

static int name_seen(struct search *s, uint8_t kind, const struct record_key *key, struct slice value)
{
	ino_id child;
	uint8_t type;
	int ret = name_decode(value, &child, &type);
	const ino_id *at = ret == 0 ? bsearch(&child, s->files, s->files_count, sizeof(child), compare_ino) : NULL;
	if (!at)
		return ret;
	s->named[at - s->files] = true;
	return found_at(s, kind, record_key_ino(key), record_key_text(key));
}

static int files_find(struct search *s, uint8_t kind)
{
	struct record_cursor *cursor;
	struct record_key key;
	struct slice value;
	if (!s->files_count)
		return 0;
	qsort(s->files, s->files_count, sizeof(*s->files), compare_ino);
	s->named = calloc(s->files_count, sizeof(*s->named));
	int ret = s->named ? record_cursor_new(s->txn, s->view, &cursor) : -ENOMEM;
	if (ret < 0)
		return ret;
	while ((ret = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		ret = record_key_kind(&key) == RECORD_NAME ? name_seen(s, kind, &key, value) : 0;
		if (ret < 0)
			break;
	}
	record_cursor_free(cursor);
	for (size_t i = 0; i < s->files_count && ret == 0; i++)
		if (!s->named[i])
			ret = found_inode(s, kind, s->files[i]);
	return ret;
}

/* --- results */

static int compare_found(const void *a, const void *b)
{
	const struct found *one = a, *other = b;
	int order = strcmp(one->path, other->path);
	return order ? order : (int)one->kind - (int)other->kind;
}

/* Each path once, with the kind that says most. */
static int results(struct search *s, bool kinds, size_t max, struct buffer *ret_bytes)
{
	qsort(s->found, s->count, sizeof(*s->found), compare_found);
	for (size_t i = 0, told = 0; i < s->count && told < max; i++) {
		if (i > 0 && strcmp(s->found[i - 1].path, s->found[i].path) == 0)
			continue;
		if (kinds)
			buffer_add_u8(ret_bytes, s->found[i].kind);
		buffer_add(ret_bytes, s->found[i].path, strlen(s->found[i].path) + 1);
		told++;
	}
	return ret_bytes->failed ? -ENOMEM : 0;
}

static int key_wanted(struct search *s, const struct record_key *key)
{
	struct node node;
	ino_id ino = record_key_ino(key);
	if (record_key_kind(key) == RECORD_NAME)
		return found_at(s, 0, ino, record_key_text(key));
	int ret = node_get(s->txn, s->view, ino, &node);
	if (ret == 0 && S_ISDIR(node.mode))
		return found_at(s, 0, ino, (struct slice){ 0 });
	return ret == 0 || ret == -ENOENT ? file_wanted(s, ino) : ret;
}

int paths_of_keys(struct txn *txn, struct view view, struct slice keys, size_t paths_max, struct buffer *ret_paths)
{
	struct search s = { .txn = txn, .view = view };
	const uint8_t *at = keys.data, *end = at + keys.size;
	int ret = 0;
	while (ret == 0 && at < end) {
		struct record_key key;
		memcpy(&key.size, at, sizeof(key.size));
		memcpy(key.bytes, at + sizeof(key.size), key.size);
		at += sizeof(key.size) + key.size;
		ret = key_wanted(&s, &key);
	}
	if (ret == 0)
		ret = files_find(&s, 0);
	if (ret == 0)
		ret = results(&s, false, paths_max, ret_paths);
	search_fini(&s);
	return ret;
}

/* --- what a batch has changed */

static bool times_only(const struct node *a, const struct node *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->parent == b->parent;
}

static int name_change(struct search *s, struct view base, const struct record_key *key)
{
	struct slice value;
	int was = record_get(s->txn, base, key, &value, NULL), is = record_get(s->txn, s->view, key, &value, NULL);
	if ((was < 0 && was != -ENOENT) || (is < 0 && is != -ENOENT))
		return was < 0 && was != -ENOENT ? was : is;
	if (was < 0 && is < 0)
		return 0;
	struct search old = { .txn = s->txn, .view = base };
	if (is == 0)
		return found_at(s, was < 0 ? BATCH_ADDED : BATCH_MODIFIED, record_key_ino(key), record_key_text(key));
	int ret = found_at(&old, BATCH_REMOVED, record_key_ino(key), record_key_text(key)); /* where it was */
	if (ret == 0)
		ret = found_add(s, BATCH_REMOVED, old.found[0].path, strlen(old.found[0].path));
	search_fini(&old);
	return ret;
}

/* A node that is there before and after; others are told by their names. */
static int node_change(struct search *s, struct view base, ino_id ino, bool attributes)
{
	struct node was, is;
	int ret = node_get(s->txn, base, ino, &was);
	if (ret == 0)
		ret = node_get(s->txn, s->view, ino, &is);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	if (!S_ISDIR(is.mode))
		return file_wanted(s, ino);
	return attributes || !times_only(&was, &is) ? found_at(s, BATCH_MODIFIED, ino, (struct slice){ 0 }) : 0;
}

int paths_of_batch(struct txn *txn, uint32_t id, struct buffer *ret_changes)
{
	struct batch_info info;
	int ret = batch_get(txn, id, &info);
	if (ret < 0)
		return ret;
	struct view base = { .version = info.base };
	struct search s = { .txn = txn, .view = { .version = info.base, .draft = batch_draft(id) } };
	struct record_key key = { .size = 0 };
	while ((ret = version_change_next(txn, batch_draft(id), &key)) == 1) {
		if (record_key_kind(&key) == RECORD_NAME)
			ret = name_change(&s, base, &key);
		else
			ret = node_change(&s, base, record_key_ino(&key), record_key_kind(&key) == RECORD_XATTR);
		if (ret < 0)
			break;
	}
	if (ret == 0)
		ret = files_find(&s, BATCH_MODIFIED);
	if (ret == 0)
		ret = results(&s, true, SIZE_MAX, ret_changes);
	search_fini(&s);
	return ret;
}
