/*
 * What the store's tests share: a temporary directory, a seeded random source, a small consistent tree with a model of it in memory, and
 * conversations between two stores. Everything here ends the test when a call fails that should not.
 */
#ifndef TESTS_UNIT_STORE_LIB_H
#define TESTS_UNIT_STORE_LIB_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/batch.h"
#include "store/content.h"
#include "store/delta.h"
#include "store/frame.h"
#include "store/internal.h"

#define LIB __attribute__((unused)) static

/* 0 or more, or the test ends here with the error in words. */
#define ok(call)                                                                                            \
	({                                                                                                  \
		int ok_ = (call);                                                                           \
		if (ok_ < 0)                                                                                \
			cr_fatal("%s:%d: %s: %s (SEED=%llu)", __FILE__, __LINE__, #call, error_text(ok_), seed); \
		ok_;                                                                                        \
	})
#define check(condition, ...)                                                                               \
	do {                                                                                                \
		if (!(condition))                                                                           \
			cr_fatal("%s:%d: %s (SEED=%llu)", __FILE__, __LINE__, #condition, seed);            \
	} while (0)

/* --- random numbers (splitmix64) */

static unsigned long long seed, random_state;

LIB void random_init(unsigned long long fallback)
{
	const char *given = getenv("SEED");
	seed = given ? strtoull(given, NULL, 0) : fallback;
	random_state = seed;
}

LIB uint64_t random_next(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

LIB size_t random_below(size_t n)
{
	return n ? (size_t)(random_next() % n) : 0;
}

LIB bool one_in(size_t n)
{
	return random_below(n) == 0;
}

/* --- stores in temporary directories */

static char temp_root[64];

LIB void temp_make(void)
{
	strcpy(temp_root, "/tmp/drsfs-store-XXXXXX");
	cr_assert(mkdtemp(temp_root) != NULL);
}

LIB void temp_remove(void)
{
	char command[96];
	snprintf(command, sizeof(command), "rm -rf '%s'", temp_root);
	if (strncmp(temp_root, "/tmp/drsfs-store-", 17) == 0)
		cr_assert(system(command) == 0);
}

LIB struct store *open_in(const char *root, const char *name, enum store_role role)
{
	char dir[128];
	struct store *store;
	snprintf(dir, sizeof(dir), "%s/%s", root, name);
	ok(store_open(&(struct store_options){ .dir = dir, .role = role, .create = true, .lazy_sync = role == STORE_SLAVE }, &store));
	return store;
}

LIB struct store *open_master(const char *name)
{
	return open_in(temp_root, name, STORE_MASTER);
}

LIB struct store *open_slave(const char *name, struct store *master)
{
	struct txn *txn;
	struct store *store = open_in(temp_root, name, STORE_SLAVE);
	ok(txn_begin_read(master, &txn));
	ok(store_join(store, &txn_state(txn)->did, txn_state(txn)->secret));
	txn_abort(txn);
	return store;
}

LIB struct txn *begin_write(struct store *store)
{
	struct txn *txn;
	ok(txn_begin_write(store, &txn));
	return txn;
}

LIB struct txn *begin_read(struct store *store)
{
	struct txn *txn;
	ok(txn_begin_read(store, &txn));
	return txn;
}

LIB struct store_state state_of(struct store *store)
{
	struct txn *txn = begin_read(store);
	struct store_state state = *txn_state(txn);
	txn_abort(txn);
	return state;
}

LIB version_t current_of(struct store *store)
{
	return state_of(store).current;
}

/* --- a tree as flat bytes: every record in key order */

LIB void dump_record(struct buffer *out, const struct record_key *key, struct slice value)
{
	buffer_add_varint(out, key->size);
	buffer_add(out, key->bytes, key->size);
	buffer_add_varint(out, value.size);
	buffer_add(out, value.data, value.size);
}

LIB void dump_view(struct txn *txn, struct view view, struct buffer *out)
{
	struct record_cursor *cursor;
	struct record_key key;
	struct slice value;
	buffer_clear(out);
	ok(record_cursor_new(txn, view, &cursor));
	while (ok(record_cursor_next(cursor, &key, &value, NULL)) == 1)
		dump_record(out, &key, value);
	record_cursor_free(cursor);
}

LIB void dump_store(struct store *store, version_t version, struct buffer *out)
{
	struct txn *txn = begin_read(store);
	dump_view(txn, (struct view){ .version = version }, out);
	txn_abort(txn);
}

/* All rows of one kind, with their values. */
LIB void dump_rows(struct store *store, enum row row, struct buffer *out)
{
	struct txn *txn = begin_read(store);
	uint8_t first = row;
	struct slice key, value;
	buffer_clear(out);
	int error = row_seek(txn, slice_of(&first, 1), &key, &value);
	while (!error && *(const uint8_t *)key.data == first) {
		buffer_add_varint(out, key.size);
		buffer_add(out, key.data, key.size);
		buffer_add_varint(out, value.size);
		buffer_add(out, value.data, value.size);
		error = row_next(txn, row, &key, &value);
	}
	txn_abort(txn);
}

LIB bool buffers_equal(const struct buffer *a, const struct buffer *b)
{
	return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

/* --- the model: live records, sorted by key */

struct model_entry {
	struct record_key key;
	uint8_t *value;
	size_t size;
};

struct model {
	struct model_entry *entries;
	size_t count, capacity;
};

LIB int model_compare(const struct record_key *a, const struct record_key *b)
{
	size_t n = a->size < b->size ? a->size : b->size;
	int order = memcmp(a->bytes, b->bytes, n);
	return order ? order : (int)a->size - (int)b->size;
}

/* Where the key is, or would be. */
LIB size_t model_find(const struct model *m, const struct record_key *key)
{
	size_t from = 0, to = m->count;
	while (from < to) {
		size_t mid = (from + to) / 2;
		if (model_compare(&m->entries[mid].key, key) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

LIB bool model_has(const struct model *m, const struct record_key *key)
{
	size_t at = model_find(m, key);
	return at < m->count && model_compare(&m->entries[at].key, key) == 0;
}

LIB void model_put(struct model *m, const struct record_key *key, struct slice value)
{
	size_t at = model_find(m, key);
	if (!model_has(m, key)) {
		if (m->count == m->capacity) {
			m->capacity = m->capacity ? 2 * m->capacity : 256;
			m->entries = realloc(m->entries, m->capacity * sizeof(*m->entries));
		}
		memmove(&m->entries[at + 1], &m->entries[at], (m->count - at) * sizeof(*m->entries));
		m->entries[at] = (struct model_entry){ .key = *key };
		m->count++;
	}
	struct model_entry *e = &m->entries[at];
	e->value = realloc(e->value, value.size + 1);
	e->size = value.size;
	if (value.size)
		memcpy(e->value, value.data, value.size);
}

LIB void model_delete(struct model *m, const struct record_key *key)
{
	size_t at = model_find(m, key);
	check(model_has(m, key));
	free(m->entries[at].value);
	m->count--;
	memmove(&m->entries[at], &m->entries[at + 1], (m->count - at) * sizeof(*m->entries));
}

LIB void model_clear(struct model *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->entries[i].value);
	free(m->entries);
	*m = (struct model){ 0 };
}

LIB void model_copy(struct model *to, const struct model *from)
{
	model_clear(to);
	to->capacity = to->count = from->count;
	to->entries = calloc(from->count + 1, sizeof(*to->entries));
	for (size_t i = 0; i < from->count; i++) {
		to->entries[i] = from->entries[i];
		to->entries[i].value = malloc(from->entries[i].size + 1);
		memcpy(to->entries[i].value, from->entries[i].value, from->entries[i].size);
	}
}

LIB void model_dump(const struct model *m, struct buffer *out)
{
	buffer_clear(out);
	for (size_t i = 0; i < m->count; i++)
		dump_record(out, &m->entries[i].key, slice_of(m->entries[i].value, m->entries[i].size));
}

/* --- a tree that is changed at random, in the store and in the model at once, and is consistent after every change */

#define TREE_NODES_MAX 400

struct tree_name {
	ino_id parent;
	char name[24];
};

struct tree_node {
	ino_id ino;
	struct node node;      /* without content */
	struct buffer content; /* what node.content points to */
	struct tree_name names[3];
	unsigned name_count, subdirs, children, xattrs; /* xattrs: a bit each */
};

struct tree {
	struct model model;
	struct tree_node nodes[TREE_NODES_MAX];
	size_t count;
	unsigned serial;
	size_t large_one_in; /* how rarely content is a list */
};

LIB void tree_put(struct tree *t, struct txn *txn, const struct record_key *key, struct slice value)
{
	ok(record_put(txn, version_begin(txn), key, value));
	model_put(&t->model, key, value);
}

LIB void tree_delete(struct tree *t, struct txn *txn, const struct record_key *key)
{
	ok(record_delete(txn, version_begin(txn), key));
	model_delete(&t->model, key);
}

LIB void tree_put_node(struct tree *t, struct txn *txn, struct tree_node *n)
{
	struct record_key key = record_key_node(n->ino);
	struct buffer bytes = BUFFER_INIT;
	n->node.content = buffer_slice(&n->content);
	node_encode(&n->node, &bytes);
	tree_put(t, txn, &key, buffer_slice(&bytes));
	buffer_fini(&bytes);
}

LIB void tree_put_name(struct tree *t, struct txn *txn, const struct tree_node *n, const struct tree_name *name)
{
	uint8_t value[16];
	size_t size;
	struct record_key key = record_key_name(txn, name->parent, name->name, strlen(name->name));
	name_encode(n->ino, (uint8_t)(n->node.mode >> 12), value, &size);
	tree_put(t, txn, &key, slice_of(value, size));
}

LIB void tree_delete_name(struct tree *t, struct txn *txn, const struct tree_name *name)
{
	struct record_key key = record_key_name(txn, name->parent, name->name, strlen(name->name));
	tree_delete(t, txn, &key);
}

LIB struct tree_node *tree_find(struct tree *t, ino_id ino)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->nodes[i].ino == ino)
			return &t->nodes[i];
	cr_fatal("no inode %llu", (unsigned long long)ino);
}

LIB void tree_entry(struct txn *txn, struct buffer *list, bool nested)
{
	static uint8_t bytes[CHUNK_BYTES_MAX];
	struct entry entry = { .kind = ENTRY_DATA };
	if (one_in(6)) {
		entry = (struct entry){ .kind = ENTRY_HOLE, .length = 1 + random_below(100000) };
	} else if (nested && one_in(4)) {
		struct buffer inner = BUFFER_INIT;
		struct reader r;
		struct entry e;
		for (size_t n = 1 + random_below(5); n; n--)
			tree_entry(txn, &inner, false);
		entry.kind = ENTRY_LIST;
		for (r = reader_of(buffer_slice(&inner)); ok(entry_next(&r, &e)) == 1;)
			entry.length += e.length;
		ok(chunk_put(txn, true, buffer_slice(&inner), &entry.id));
		buffer_fini(&inner);
	} else {
		/* From a small pool, so that chunks are shared. */
		size_t which = random_below(60);
		entry.length = 2000 + which * 500;
		memset(bytes, (int)which, entry.length);
		ok(chunk_put(txn, false, slice_of(bytes, entry.length), &entry.id));
	}
	entry_encode(&entry, list);
}

LIB void tree_set_content(struct tree *t, struct txn *txn, struct tree_node *n)
{
	buffer_clear(&n->content);
	n->node.content_version = version_begin(txn);
	if (t->large_one_in && one_in(t->large_one_in)) {
		struct reader r;
		struct entry e;
		n->node.content_kind = CONTENT_LIST;
		n->node.size = 0;
		for (size_t count = 1 + random_below(6); count; count--)
			tree_entry(txn, &n->content, true);
		for (r = reader_of(buffer_slice(&n->content)); ok(entry_next(&r, &e)) == 1;)
			n->node.size += e.length;
		return;
	}
	n->node.size = one_in(4) ? 0 : random_below(one_in(3) ? NODE_INLINE_BYTES_MAX : 60);
	n->node.content_kind = n->node.size ? CONTENT_INLINE : CONTENT_NONE;
	for (size_t i = 0; i < n->node.size; i++)
		buffer_add_u8(&n->content, (uint8_t)random_next());
}

LIB void tree_touch(struct tree_node *n)
{
	n->node.ctime.seconds++;
	n->node.mtime = n->node.atime = n->node.ctime;
}

/* The root, under the pending number. */
LIB void tree_init(struct tree *t, struct txn *txn)
{
	memset(t, 0, sizeof(*t));
	t->large_one_in = 4;
	t->count = 1;
	t->nodes[0] = (struct tree_node){
		.ino = INO_ROOT,
		.node = { .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT, .ctime = { 1700000000, 5 } },
	};
	tree_put_node(t, txn, &t->nodes[0]);
}

LIB void tree_fini(struct tree *t)
{
	for (size_t i = 0; i < t->count; i++)
		buffer_fini(&t->nodes[i].content);
	model_clear(&t->model);
}

LIB struct tree_node *tree_random_dir(struct tree *t)
{
	for (;;) {
		struct tree_node *n = &t->nodes[random_below(t->count)];
		if (S_ISDIR(n->node.mode))
			return n;
	}
}

LIB void tree_add_name(struct tree *t, struct txn *txn, struct tree_node *n, struct tree_node *dir)
{
	struct tree_name *name = &n->names[n->name_count++];
	name->parent = dir->ino;
	snprintf(name->name, sizeof(name->name), "%s-%u", one_in(2) ? "file" : "x", t->serial++);
	dir->children++;
	tree_put_name(t, txn, n, name);
}

LIB void tree_create(struct tree *t, struct txn *txn, bool dir)
{
	if (t->count == TREE_NODES_MAX)
		return;
	struct tree_node *parent = tree_random_dir(t), *n = &t->nodes[t->count++];
	*n = (struct tree_node){
		.ino = record_next_ino(txn),
		.node = { .mode = (dir ? S_IFDIR : S_IFREG) | 0644, .nlink = dir ? 2 : 1, .ctime = { 1700000000, 5 }, .uid = 1000, .gid = 1000 },
	};
	tree_touch(n);
	if (dir)
		n->node.parent = parent->ino;
	else
		tree_set_content(t, txn, n);
	tree_add_name(t, txn, n, parent);
	tree_put_node(t, txn, n);
	if (dir) {
		parent->node.nlink++;
		tree_put_node(t, txn, parent);
	}
}

LIB void tree_remove_xattrs(struct tree *t, struct txn *txn, struct tree_node *n)
{
	for (unsigned i = 0; i < 4; i++) {
		char name[16];
		int size = snprintf(name, sizeof(name), "user.x%u", i);
		struct record_key key = record_key_xattr(n->ino, name, (size_t)size);
		if (n->xattrs & 1u << i)
			tree_delete(t, txn, &key);
	}
}

LIB void tree_remove(struct tree *t, struct txn *txn, struct tree_node *n)
{
	if (n->ino == INO_ROOT || n->children)
		return;
	struct tree_name name = n->names[--n->name_count];
	struct tree_node *parent = tree_find(t, name.parent);
	tree_delete_name(t, txn, &name);
	parent->children--;
	if (n->name_count) {
		n->node.nlink--;
		tree_put_node(t, txn, n);
		return;
	}
	struct record_key key = record_key_node(n->ino);
	if (S_ISDIR(n->node.mode)) {
		parent->node.nlink--;
		tree_put_node(t, txn, parent);
	}
	tree_remove_xattrs(t, txn, n);
	tree_delete(t, txn, &key);
	buffer_fini(&n->content);
	*n = t->nodes[--t->count];
}

LIB void tree_link(struct tree *t, struct txn *txn, struct tree_node *n)
{
	if (S_ISDIR(n->node.mode) || n->name_count == ARRAY_SIZE(n->names))
		return;
	tree_add_name(t, txn, n, tree_random_dir(t));
	n->node.nlink++;
	tree_put_node(t, txn, n);
}

LIB void tree_rename(struct tree *t, struct txn *txn, struct tree_node *n)
{
	if (S_ISDIR(n->node.mode)) /* directories stay: their ancestors need no watching here */
		return;
	struct tree_name *name = &n->names[random_below(n->name_count)];
	struct tree_node *to = tree_random_dir(t);
	tree_delete_name(t, txn, name);
	tree_find(t, name->parent)->children--;
	name->parent = to->ino;
	to->children++;
	snprintf(name->name, sizeof(name->name), "moved-%u", t->serial++);
	tree_put_name(t, txn, n, name);
}

LIB void tree_xattr(struct tree *t, struct txn *txn, struct tree_node *n)
{
	char name[16];
	uint8_t value[300];
	unsigned i = (unsigned)random_below(4);
	int size = snprintf(name, sizeof(name), "user.x%u", i);
	struct record_key key = record_key_xattr(n->ino, name, (size_t)size);
	if (n->xattrs & 1u << i && one_in(2)) {
		tree_delete(t, txn, &key);
		n->xattrs &= ~(1u << i);
		return;
	}
	size_t bytes = one_in(3) ? 0 : random_below(sizeof(value));
	memset(value, (int)random_next(), sizeof(value));
	tree_put(t, txn, &key, slice_of(value, bytes));
	n->xattrs |= 1u << i;
}

LIB void tree_change(struct tree *t, struct txn *txn)
{
	struct tree_node *n = &t->nodes[random_below(t->count)];
	switch (random_below(10)) {
	case 0:
	case 1:
		tree_create(t, txn, one_in(5));
		break;
	case 2:
		tree_remove(t, txn, n);
		break;
	case 3:
		tree_link(t, txn, n);
		break;
	case 4:
		tree_rename(t, txn, n);
		break;
	case 5:
		tree_xattr(t, txn, n);
		break;
	case 6:
	case 7:
		tree_touch(n);
		tree_put_node(t, txn, n);
		break;
	default:
		if (!S_ISDIR(n->node.mode)) {
			tree_set_content(t, txn, n);
			tree_put_node(t, txn, n);
		}
	}
}

/* --- conversations */

struct talk {
	struct store *master;
	struct store **slave; /* may be reopened in between */
	const char *slave_name;
	struct delta_source *source;
	struct stage *stage;
	bool complete;
	version_t proposed; /* talk about a proposal; 0: about the current version */
	int frames, carried; /* all, and those of records or chunks */
};

LIB void talk_open(struct talk *t)
{
	struct buffer opening = BUFFER_INIT;
	struct txn *txn = begin_read(*t->slave);
	ok(stage_opening(txn, t->complete, &opening));
	txn_abort(txn);
	if (t->proposed)
		ok(batch_source_open(t->master, t->proposed, buffer_slice(&opening), &t->source));
	else
		ok(delta_source_open(t->master, buffer_slice(&opening), &t->source, NULL));
	ok(stage_new(*t->slave, &t->stage));
	buffer_fini(&opening);
}

LIB void talk_close(struct talk *t)
{
	delta_source_close(t->source);
	stage_free(t->stage);
	t->source = NULL;
	t->stage = NULL;
}

/* One frame from the source and the answers to it, committed. 1: go on; 0: all is here; or an error. */
LIB int talk_step(struct talk *t)
{
	struct buffer frame = BUFFER_INIT;
	int more = delta_source_next(t->source, &frame);
	if (more == 1) {
		struct txn *txn = begin_write(*t->slave);
		t->frames++;
		t->carried += frame.data[0] == FRAME_CHUNKS || (frame.data[0] == FRAME_RECORDS && frame.size > 11);
		int error;
		while ((error = stage_feed(t->stage, txn, buffer_slice(&frame))) == -EAGAIN) {
			ok(txn_commit(txn));
			txn = begin_write(*t->slave);
		}
		while (!error && (error = stage_next(t->stage, txn, &frame)) == 1)
			error = delta_source_feed(t->source, buffer_slice(&frame));
		if (error) {
			txn_abort(txn);
			more = error;
		} else {
			ok(txn_commit(txn));
		}
	}
	buffer_fini(&frame);
	return more;
}

LIB int talk_commit(struct talk *t)
{
	struct version_info info;
	struct txn *txn = begin_write(*t->slave);
	check(stage_ready(t->stage, txn));
	int error = stage_commit(t->stage, txn, &info);
	if (error)
		txn_abort(txn);
	else
		ok(txn_commit(txn));
	return error;
}

/* From start to commit. */
LIB int pull(struct store *master, struct store **slave, bool complete)
{
	struct talk t = { .master = master, .slave = slave, .complete = complete };
	int more;
	talk_open(&t);
	while ((more = talk_step(&t)) == 1)
		;
	if (!more)
		more = talk_commit(&t);
	talk_close(&t);
	return more;
}

/* --- verification */

LIB void verify_print(void *user, const char *text)
{
	(void)user;
	fprintf(stderr, "finding: %s (SEED=%llu)\n", text, seed);
}

LIB void verify_clean(struct store *store)
{
	int findings = ok(store_verify(store, verify_print, NULL, NULL));
	check(findings == 0);
}

LIB void retire_all(struct store *store, version_t horizon)
{
	for (bool done = false; !done;) {
		struct txn *txn = begin_write(store);
		ok(retire_step(txn, horizon, 1 + random_below(50), NULL, NULL, &done));
		ok(txn_commit(txn));
	}
}

LIB void collect_all(struct store *store)
{
	for (bool more = true; more;) {
		struct txn *txn = begin_write(store);
		ok(chunk_collect(txn, 1 + random_below(30), &more));
		ok(txn_commit(txn));
	}
}

#endif
