/*
 * Verification: reads every row once and tells what does not fit. It repairs nothing: a slave heals by a complete copy, a
 * master from a slave. All of it looks at one snapshot, from one read transaction.
 *
 * Counts are checked against a tally of who names what, which is kept in memory (some 50 bytes a chunk or a node).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/batch.h"
#include "store/internal.h"
#include "store/node.h"

#define PROGRESS_ROWS 4096

/* --- the tally: an open-addressed table by 16-byte ids (chunks) or inode numbers */

struct mark {
	uint64_t id[2];
	uint64_t count;      /* chunks: entries that name it; nodes: names */
	uint64_t parent;     /* of a directory: where its name stands */
	uint32_t subdirs;
	uint8_t type;        /* as its names say */
	bool used, seen, must_exist, must_be_dir;
};

struct tally {
	struct mark *marks;
	size_t used, capacity; /* a power of two */
};

static struct mark *tally_slot(const struct tally *t, uint64_t a, uint64_t b)
{
	size_t at = (size_t)((a ^ b * 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u >> 20);
	for (;; at++) {
		struct mark *m = &t->marks[at & (t->capacity - 1)];
		if (!m->used || (m->id[0] == a && m->id[1] == b))
			return m;
	}
}

static bool tally_grow(struct tally *t)
{
	struct tally larger = { .used = t->used, .capacity = t->capacity ? 2 * t->capacity : 1024 };
	larger.marks = calloc(larger.capacity, sizeof(*larger.marks));
	if (!larger.marks)
		return false;
	for (size_t i = 0; i < t->capacity; i++)
		if (t->marks[i].used)
			*tally_slot(&larger, t->marks[i].id[0], t->marks[i].id[1]) = t->marks[i];
	free(t->marks);
	*t = larger;
	return true;
}

/* The mark of an id, made if there is none; NULL if memory is short. */
static struct mark *tally_mark(struct tally *t, uint64_t a, uint64_t b)
{
	if (4 * (t->used + 1) > 3 * t->capacity && !tally_grow(t))
		return NULL;
	struct mark *m = tally_slot(t, a, b);
	if (!m->used) {
		*m = (struct mark){ .id = { a, b }, .used = true };
		t->used++;
	}
	return m;
}

static struct mark *tally_chunk(struct tally *t, const uint8_t *id)
{
	return tally_mark(t, get_be64(id), get_be64(id + 8));
}

/* --- the walk */

struct verify {
	struct txn *txn;
	verify_finding *finding;
	verify_progress *progress;
	void *user;
	int findings;
	uint64_t rows, rows_total;
	struct tally chunks, nodes;
};

static void __attribute__((format(printf, 2, 3))) tell(struct verify *v, const char *format, ...)
{
	char text[256];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	v->findings++;
	v->finding(v->user, text);
}

static void advance(struct verify *v)
{
	if (++v->rows % PROGRESS_ROWS == 0 && v->progress)
		v->progress(v->user, v->rows < v->rows_total ? (double)v->rows / (double)v->rows_total : 1);
}

/* A key for people: what it is, of which inode, and its name. */
struct key_text {
	char text[120];
};

static struct key_text key_text(const struct record_key *key)
{
	struct key_text t;
	struct slice name = record_key_kind(key) == RECORD_NODE ? slice_of("", 0) : record_key_text(key);
	const char *what = record_key_kind(key) == RECORD_NODE ? "node" : record_key_kind(key) == RECORD_NAME ? "name in" : "attribute of";
	snprintf(t.text, sizeof(t.text), "%s inode %llu%s%.*s", what, (unsigned long long)record_key_ino(key), name.size ? " " : "",
		 (int)(name.size < 64 ? name.size : 64), (const char *)name.data);
	return t;
}

static struct key_text chunk_text(const uint8_t *id)
{
	struct key_text t;
	snprintf(t.text, sizeof(t.text), "chunk %016llx%016llx", (unsigned long long)get_be64(id), (unsigned long long)get_be64(id + 8));
	return t;
}

typedef int row_check(struct verify *, struct slice row_key, struct slice value);

/* All rows that start with one byte, by a cursor of its own: the checks move those of the transaction. */
static int walk(struct verify *v, enum row row, row_check *check)
{
	MDB_cursor *cursor;
	uint8_t first = row;
	MDB_val key = { .mv_size = 1, .mv_data = &first }, value;
	int rc = mdb_cursor_open(v->txn->mdb, v->txn->store->rows, &cursor);
	if (rc)
		return store_error(rc);
	int error = 0;
	rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
	while (!rc && !error && *(const uint8_t *)key.mv_data == first) {
		error = check(v, slice_of(key.mv_data, key.mv_size), slice_of(value.mv_data, value.mv_size));
		advance(v);
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	return error || !rc || rc == MDB_NOTFOUND ? error : store_error(rc);
}

static bool has_row(struct verify *v, struct slice key)
{
	struct slice value;
	return row_get(v->txn, key, &value) == 0;
}

static bool has_chunk_row(struct verify *v, enum row row, const uint8_t *id)
{
	uint8_t key[CHUNK_KEY_BYTES];
	key[0] = row;
	memcpy(key + 1, id, 16);
	return has_row(v, slice_of(key, sizeof(key)));
}

/* --- chunks and who names them */

static int tally_entries(struct verify *v, struct slice entries)
{
	struct reader r = reader_of(entries);
	struct entry entry;
	while (entry_next(&r, &entry) == 1) {
		if (entry.kind == ENTRY_HOLE)
			continue;
		struct mark *m = tally_chunk(&v->chunks, entry.id.bytes);
		if (!m)
			return -ENOMEM;
		m->count++;
	}
	return 0;
}

static bool chunk_row_valid(struct verify *v, struct slice row_key)
{
	if (row_key.size == CHUNK_KEY_BYTES)
		return true;
	tell(v, "a row about a chunk has a key of %zu bytes", row_key.size);
	return false;
}

static int check_chunk(struct verify *v, struct slice row_key, struct slice value)
{
	const uint8_t *id = (const uint8_t *)row_key.data + 1, *flags = value.data;
	if (!chunk_row_valid(v, row_key))
		return 0;
	if (value.size < 2 || *flags > 1) {
		tell(v, "%s: has no content", chunk_text(id).text);
		return 0;
	}
	struct slice bytes = slice_of(flags + 1, value.size - 1);
	struct chunk_id is = chunk_id_of(v->txn, *flags, bytes);
	if (memcmp(&is, id, sizeof(is)) != 0)
		tell(v, "%s: its content is damaged", chunk_text(id).text);
	if (!has_chunk_row(v, ROW_COUNT, id))
		tell(v, "%s: has no count", chunk_text(id).text);
	if (!*flags)
		return 0;
	if (entries_check(bytes) != 0)
		tell(v, "%s: its list does not decode", chunk_text(id).text);
	return tally_entries(v, bytes);
}

static int check_count(struct verify *v, struct slice row_key, struct slice value)
{
	const uint8_t *id = (const uint8_t *)row_key.data + 1;
	if (!chunk_row_valid(v, row_key))
		return 0;
	struct mark *m = tally_chunk(&v->chunks, id);
	if (!m)
		return -ENOMEM;
	m->seen = true;
	uint64_t count = value.size == 8 ? get_be64(value.data) : UINT64_MAX;
	bool held = has_chunk_row(v, ROW_CHUNK, id);
	if (count != m->count)
		tell(v, "%s: is counted %llu times, but named %llu times", chunk_text(id).text, (unsigned long long)count,
		     (unsigned long long)m->count);
	if (!held && !has_chunk_row(v, ROW_WANT, id))
		tell(v, "%s: is not here, and not wanted either", chunk_text(id).text);
	if (held && count == 0 && !has_chunk_row(v, ROW_GARBAGE, id))
		tell(v, "%s: nothing names it, and it is not garbage either", chunk_text(id).text);
	return 0;
}

static int check_want(struct verify *v, struct slice row_key, struct slice value)
{
	(void)value;
	const uint8_t *id = (const uint8_t *)row_key.data + 1;
	if (!chunk_row_valid(v, row_key))
		return 0;
	if (has_chunk_row(v, ROW_CHUNK, id) || !has_chunk_row(v, ROW_COUNT, id))
		tell(v, "%s: is wanted, but here or not counted", chunk_text(id).text);
	else if (!v->txn->state.stage.to)
		tell(v, "%s: is missing", chunk_text(id).text);
	return 0;
}

static void check_uncounted(struct verify *v)
{
	for (size_t i = 0; i < v->chunks.capacity; i++) {
		const struct mark *m = &v->chunks.marks[i];
		uint8_t id[16];
		put_be64(id, m->id[0]);
		put_be64(id + 8, m->id[1]);
		if (m->used && !m->seen)
			tell(v, "%s: is named, but has no count", chunk_text(id).text);
	}
}

/* --- records and the change index */

/* May records stand under this number? */
static bool number_known(struct verify *v, version_t at)
{
	const struct store_state *s = &v->txn->state;
	return (at && at <= s->current) || (at && at == s->pending) || batch_number_known(v->txn, at);
}

static int check_record(struct verify *v, struct slice row_key, struct slice value)
{
	const struct store_state *state = &v->txn->state;
	uint8_t change[ROW_KEY_BYTES_MAX];
	struct record_key key;
	struct slice entries;
	version_t at;
	if (!record_row_parse(row_key, &key, &at) || !record_key_valid(slice_of(key.bytes, key.size))) {
		tell(v, "a record has a key that is not valid");
		return 0;
	}
	if (!number_known(v, at))
		tell(v, "%s: written by version %llu, which is not known", key_text(&key).text, (unsigned long long)at);
	if (at > state->horizon && !has_row(v, slice_of(change, change_row_key(change, at, &key))))
		tell(v, "%s: version %llu does not list it as changed", key_text(&key).text, (unsigned long long)at);
	if (!record_row_live(value))
		return 0;
	struct slice record = record_row_value(value);
	if (*(const uint8_t *)value.data != RECORD_LIVE || record_value_check(v->txn, &key, record) != 0) {
		tell(v, "%s: of version %llu does not decode", key_text(&key).text, (unsigned long long)at);
		return 0;
	}
	return record_entries(&key, record, &entries) == 0 ? tally_entries(v, entries) : 0;
}

/* What is known about a version, or one that was aborted. */
static void check_history(struct verify *v, version_t at)
{
	struct version_info info;
	bool numbered = at <= v->txn->state.assigned;
	if (version_get(v->txn, at, &info) != 0)
		tell(v, "the history of version %llu does not decode", (unsigned long long)at);
	else if (!number_known(v, at) && !(numbered && info.state == VERSION_ABORTED))
		tell(v, "version %llu is not known", (unsigned long long)at);
}

/* The row above the first batch's only counts. */
static void check_batch(struct verify *v, version_t draft)
{
	const struct store_state *state = &v->txn->state;
	struct batch_info info = { .id = 0 };
	uint32_t id = batch_of(draft);
	if (!id)
		return;
	if (batch_get(v->txn, id, &info) != 0)
		tell(v, "the row of batch %u does not decode", id);
	else if (info.base < state->horizon || info.base > state->current)
		tell(v, "batch %u stands on version %llu, which is not here", id, (unsigned long long)info.base);
}

static void check_change(struct verify *v, version_t at, const struct record_key *key)
{
	if (!number_known(v, at))
		tell(v, "%s: changed by version %llu, which is not known", key_text(key).text, (unsigned long long)at);
	/* Rows at or below the horizon are work that retention has still to do. */
	if (at > v->txn->state.horizon && !record_exists_at(v->txn, at, key, NULL))
		tell(v, "%s: version %llu lists it as changed, but has no record", key_text(key).text, (unsigned long long)at);
}

static int check_version_row(struct verify *v, struct slice row_key, struct slice value)
{
	struct record_key key;
	version_t at;
	(void)value;
	if (!change_row_parse(row_key, &at, &key)) {
		tell(v, "a row about a version has a key that is not valid");
		return 0;
	}
	if (at >= VERSION_CURSOR)
		return 0;
	if (key.size)
		check_change(v, at, &key);
	else if (at >= VERSION_DRAFT_FIRST)
		check_batch(v, at);
	else
		check_history(v, at);
	return 0;
}

/* --- the tree at the current version */

typedef int live_check(struct verify *, const struct record_key *, struct slice value);

static int walk_live(struct verify *v, live_check *check)
{
	struct record_cursor *cursor;
	struct record_key key;
	struct slice value;
	int error = record_cursor_new(v->txn, (struct view){ .version = v->txn->state.current }, &cursor);
	if (error)
		return error;
	while ((error = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		error = check(v, &key, value);
		advance(v);
		if (error)
			break;
	}
	record_cursor_free(cursor);
	return error;
}

static int note_name(struct verify *v, const struct record_key *key, struct slice value)
{
	ino_id child;
	uint8_t type;
	if (name_decode(value, &child, &type) != 0)
		return 0;
	struct mark *parent = tally_mark(&v->nodes, record_key_ino(key), 0);
	if (!parent)
		return -ENOMEM;
	parent->must_exist = parent->must_be_dir = true;
	parent->subdirs += type == S_IFDIR >> 12;
	struct mark *m = tally_mark(&v->nodes, child, 0);
	if (!m)
		return -ENOMEM;
	if (m->count && m->type != type)
		tell(v, "inode %llu: its names disagree about what it is", (unsigned long long)child);
	m->must_exist = true;
	m->count++;
	m->type = type;
	m->parent = record_key_ino(key);
	return 0;
}

static int note_live(struct verify *v, const struct record_key *key, struct slice value)
{
	if (record_key_kind(key) == RECORD_NAME)
		return note_name(v, key, value);
	if (record_key_kind(key) == RECORD_XATTR) {
		struct mark *m = tally_mark(&v->nodes, record_key_ino(key), 0);
		if (!m)
			return -ENOMEM;
		m->must_exist = true;
	}
	return 0;
}

static void check_dir(struct verify *v, ino_id ino, const struct node *node, const struct mark *m)
{
	bool root = ino == INO_ROOT;
	if (m->count != (root ? 0 : 1))
		tell(v, "directory %llu: has %llu names", (unsigned long long)ino, (unsigned long long)m->count);
	if (node->parent != (root ? INO_ROOT : m->parent))
		tell(v, "directory %llu: its parent is %llu, but its name stands in %llu", (unsigned long long)ino, (unsigned long long)node->parent,
		     (unsigned long long)m->parent);
	if (node->nlink != 2 + m->subdirs)
		tell(v, "directory %llu: has %u links, but %u directories in it", (unsigned long long)ino, node->nlink, m->subdirs);
}

static int check_node(struct verify *v, const struct record_key *key, struct slice value)
{
	struct node node;
	if (record_key_kind(key) != RECORD_NODE || node_decode(value, &node) != 0)
		return 0;
	ino_id ino = record_key_ino(key);
	struct mark *m = tally_mark(&v->nodes, ino, 0);
	if (!m)
		return -ENOMEM;
	m->seen = true;
	bool dir = S_ISDIR(node.mode);
	if (node.content_version > v->txn->state.assigned)
		tell(v, "inode %llu: its content is of number %llu, which was never given out", (unsigned long long)ino,
		     (unsigned long long)node.content_version);
	if (m->must_be_dir && !dir)
		tell(v, "inode %llu: has names in it, but is no directory", (unsigned long long)ino);
	if (m->count && m->type != (node.mode & S_IFMT) >> 12)
		tell(v, "inode %llu: its name says that it is of another type", (unsigned long long)ino);
	if (dir)
		check_dir(v, ino, &node, m);
	else if (node.nlink != m->count)
		tell(v, "inode %llu: has %llu names, but says %u", (unsigned long long)ino, (unsigned long long)m->count, node.nlink);
	return 0;
}

static void check_missing_nodes(struct verify *v)
{
	for (size_t i = 0; i < v->nodes.capacity; i++) {
		const struct mark *m = &v->nodes.marks[i];
		if (m->used && m->must_exist && !m->seen)
			tell(v, "inode %llu: is named, but there is no such node", (unsigned long long)m->id[0]);
	}
}

/* --- the whole */

static int sum_view(struct txn *txn, struct view view, struct digest *ret_digest, uint64_t *ret_nodes)
{
	struct record_cursor *cursor;
	struct record_key key;
	struct slice value;
	struct digest sum = { 0, 0 };
	uint64_t nodes = 0;
	int more = record_cursor_new(txn, view, &cursor);
	if (more)
		return more;
	while ((more = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		digest_add(&sum, record_digest(txn, &key, value));
		nodes += record_key_kind(&key) == RECORD_NODE;
	}
	record_cursor_free(cursor);
	if (more)
		return more;
	*ret_digest = sum;
	*ret_nodes = nodes;
	return 0;
}

int digest_compute(struct txn *txn, struct view view, struct digest *ret_digest)
{
	uint64_t nodes;
	return sum_view(txn, view, ret_digest, &nodes);
}

static int check_digest(struct verify *v)
{
	const struct store_state *state = &v->txn->state;
	struct digest digest = { 0, 0 };
	uint64_t nodes = 0;
	int error = sum_view(v->txn, (struct view){ .version = state->current }, &digest, &nodes);
	if (error)
		return error;
	if (digest.lo != state->digest.lo || digest.hi != state->digest.hi)
		tell(v, "the digest of version %llu does not agree with its records", (unsigned long long)state->current);
	if (nodes != state->nodes)
		tell(v, "there are %llu nodes, but %llu are counted", (unsigned long long)nodes, (unsigned long long)state->nodes);
	return 0;
}

static int check_all(struct verify *v)
{
	int error = walk(v, ROW_CHUNK, check_chunk);
	if (!error)
		error = walk(v, ROW_RECORD, check_record);
	if (!error)
		error = walk(v, ROW_VERSION, check_version_row);
	if (!error)
		error = walk(v, ROW_COUNT, check_count);
	if (!error)
		error = walk(v, ROW_WANT, check_want);
	if (!error)
		check_uncounted(v);
	if (!error)
		error = walk_live(v, note_live);
	if (!error)
		error = walk_live(v, check_node);
	if (!error)
		check_missing_nodes(v);
	return error ? error : check_digest(v);
}

int store_verify(struct store *store, verify_finding *finding, verify_progress *progress, void *user)
{
	struct verify v = { .finding = finding, .progress = progress, .user = user };
	MDB_stat st;
	int error = txn_begin_read(store, &v.txn);
	if (error)
		return error;
	if (mdb_stat(v.txn->mdb, store->rows, &st) == 0)
		v.rows_total = 2 * st.ms_entries; /* records are read thrice, others once: about twice the whole */
	error = check_all(&v);
	txn_abort(v.txn);
	free(v.chunks.marks);
	free(v.nodes.marks);
	return error ? error : v.findings;
}
