/*
 * Batches against a model: live changes and batches on top of each other at random, merged or refused exactly where an independent merge of two dumps and a check
 * of the tree that comes out of it say so; proposals that a slave prepares by conversation or at once, committed, aborted, or cut short by a restart of either side.
 * Then one test for each thing that the header promises. (R1.1, R1.3, R3.5, R4.1-R4.5, R4.8)
 */
#include <dirent.h>

#include "store_lib.h"

static struct store *master, *slave;
static uint32_t clock_seconds; /* every change has a time of its own */

static void setup(void)
{
	random_init(4);
	temp_make();
	master = open_master("master");
	struct txn *txn = begin_write(master);
	memset(txn->state.secret, 3, sizeof(txn->state.secret)); /* names' order is drawn from it: a seed tells all */
	ok(txn_commit(txn));
	slave = open_slave("slave", master);
}

static void teardown(void)
{
	store_close(slave);
	store_close(master);
	temp_remove();
}

TestSuite(store_batch, .init = setup, .fini = teardown, .timeout = 120);

static void reopen_master(void)
{
	store_close(master);
	master = open_in(temp_root, "master", STORE_MASTER);
}

static void reopen_slave(void)
{
	store_close(slave);
	slave = open_in(temp_root, "slave", STORE_SLAVE);
}

/* --- a side that changes the tree: the live one or a batch, with what it shows */

struct side {
	struct model model;
	uint32_t batch; /* 0: live */
};

struct write {
	struct record_key key;
	bool put;
	uint8_t value[2600];
	size_t size;
};

/* A change as a user makes it: what it writes, decided on before anything is written. */
struct plan {
	struct txn *txn;
	const struct side *side;
	struct write writes[8];
	size_t count;
};

static struct side live;

static version_t side_at(struct txn *txn, const struct side *side)
{
	return side->batch ? batch_draft(side->batch) : version_begin(txn);
}

static const struct model_entry *model_get(const struct model *m, const struct record_key *key)
{
	return model_has(m, key) ? &m->entries[model_find(m, key)] : NULL;
}

static bool model_node(const struct model *m, ino_id ino, struct node *ret_node)
{
	struct record_key key = record_key_node(ino);
	const struct model_entry *e = model_get(m, &key);
	return e && ok(node_decode(slice_of(e->value, e->size), ret_node)) == 0;
}

static struct write *plan_add(struct plan *p, const struct record_key *key, bool put, struct slice value)
{
	check(p->count < ARRAY_SIZE(p->writes) && value.size <= sizeof(p->writes[0].value));
	struct write *w = &p->writes[p->count++];
	*w = (struct write){ .key = *key, .put = put, .size = value.size };
	if (value.size)
		memcpy(w->value, value.data, value.size);
	return w;
}

static void plan_node(struct plan *p, ino_id ino, const struct node *node)
{
	struct record_key key = record_key_node(ino);
	struct buffer bytes = BUFFER_INIT;
	node_encode(node, &bytes);
	plan_add(p, &key, true, buffer_slice(&bytes));
	buffer_fini(&bytes);
}

static void plan_name(struct plan *p, ino_id parent, const char *name, ino_id child, bool dir)
{
	struct record_key key = record_key_name(p->txn, parent, name, strlen(name));
	uint8_t value[16];
	size_t size;
	name_encode(child, dir ? DT_DIR : DT_REG, value, &size);
	plan_add(p, &key, true, slice_of(value, size));
}

static struct node_time next_time(void)
{
	return (struct node_time){ 1700000000 + ++clock_seconds, 7 };
}

static void plan_touch(struct plan *p, ino_id dir, int subdirs)
{
	struct node node;
	check(model_node(&p->side->model, dir, &node));
	node.nlink = (uint32_t)((int)node.nlink + subdirs);
	node.mtime = node.ctime = next_time();
	plan_node(p, dir, &node);
}

static void plan_delete(struct plan *p, const struct record_key *key)
{
	plan_add(p, key, false, slice_of(NULL, 0));
}

static void plan_apply(struct plan *p, struct side *side)
{
	version_t at = side_at(p->txn, side);
	for (size_t i = 0; i < p->count; i++) {
		const struct write *w = &p->writes[i];
		if (w->put) {
			ok(record_put(p->txn, at, &w->key, slice_of(w->value, w->size)));
			model_put(&side->model, &w->key, slice_of(w->value, w->size));
		} else {
			ok(record_delete(p->txn, at, &w->key));
			model_delete(&side->model, &w->key);
		}
	}
}

/* A name or node at random. */
static const struct model_entry *random_entry(const struct model *m, enum record_kind kind)
{
	for (int tries = 0; tries < 200; tries++) {
		const struct model_entry *e = &m->entries[random_below(m->count)];
		if (record_key_kind(&e->key) == kind)
			return e;
	}
	return NULL;
}

static ino_id random_dir(const struct model *m)
{
	for (;;) {
		const struct model_entry *e = random_entry(m, RECORD_NODE);
		struct node node;
		check(e && model_node(m, record_key_ino(&e->key), &node));
		if (S_ISDIR(node.mode) && (record_key_ino(&e->key) != INO_ROOT || one_in(3)))
			return record_key_ino(&e->key);
		if (one_in(30))
			return INO_ROOT;
	}
}

static void new_name(char name[24])
{
	static unsigned serial;
	snprintf(name, 24, "n%u", ++serial);
}

static void set_content(struct plan *p, struct node *node, struct buffer *content)
{
	static uint8_t bytes[30000];
	buffer_clear(content);
	node->content_version = batch_content_version(p->txn, side_at(p->txn, p->side));
	node->mtime = node->ctime = next_time();
	node->size = 0;
	if (one_in(4)) {
		node->content_kind = CONTENT_LIST;
		for (size_t n = 1 + random_below(3); n; n--) {
			struct entry entry = { .kind = ENTRY_DATA, .length = 20000 + random_below(40) };
			memset(bytes, (int)(entry.length % 251), entry.length);
			ok(chunk_put(p->txn, false, slice_of(bytes, entry.length), &entry.id));
			entry_encode(&entry, content);
			node->size += entry.length;
		}
	} else {
		size_t size = random_below(60);
		for (size_t i = 0; i < size; i++)
			buffer_add_u8(content, (uint8_t)random_next());
		node->size = size;
		node->content_kind = size ? CONTENT_INLINE : CONTENT_NONE;
	}
	node->content = buffer_slice(content);
}

static void plan_create(struct plan *p, bool dir)
{
	char name[24];
	struct buffer content = BUFFER_INIT;
	ino_id parent = random_dir(&p->side->model), ino = record_next_ino(p->txn);
	struct node node = { .mode = (dir ? S_IFDIR : S_IFREG) | 0644, .nlink = dir ? 2 : 1, .parent = dir ? parent : 0, .ctime = next_time() };
	if (!dir)
		set_content(p, &node, &content);
	new_name(name);
	plan_name(p, parent, name, ino, dir);
	plan_node(p, ino, &node);
	plan_touch(p, parent, dir);
	buffer_fini(&content);
}

static bool has_children(const struct model *m, ino_id dir)
{
	for (size_t i = 0; i < m->count; i++)
		if (record_key_kind(&m->entries[i].key) == RECORD_NAME && record_key_ino(&m->entries[i].key) == dir)
			return true;
	return false;
}

static ino_id entry_child(const struct model_entry *e)
{
	ino_id child;
	uint8_t type;
	ok(name_decode(slice_of(e->value, e->size), &child, &type));
	return child;
}

static void plan_remove(struct plan *p)
{
	const struct model *m = &p->side->model;
	const struct model_entry *e = random_entry(m, RECORD_NAME);
	struct node node;
	if (!e)
		return;
	ino_id child = entry_child(e);
	check(model_node(m, child, &node));
	bool dir = S_ISDIR(node.mode);
	if (dir && has_children(m, child))
		return;
	plan_delete(p, &e->key);
	plan_touch(p, record_key_ino(&e->key), dir ? -1 : 0);
	if (!dir && node.nlink > 1) {
		node.nlink--;
		node.ctime = next_time();
		plan_node(p, child, &node);
		return;
	}
	for (size_t i = 0; i < m->count; i++)
		if (record_key_kind(&m->entries[i].key) == RECORD_XATTR && record_key_ino(&m->entries[i].key) == child)
			plan_delete(p, &m->entries[i].key);
	struct record_key key = record_key_node(child);
	plan_delete(p, &key);
}

static bool is_below(const struct model *m, ino_id dir, ino_id above)
{
	struct node node;
	for (; dir != INO_ROOT; dir = node.parent) {
		if (dir == above)
			return true;
		check(model_node(m, dir, &node));
	}
	return above == INO_ROOT;
}

/* Not every file system says in the node that it was moved. */
static void plan_rename(struct plan *p)
{
	const struct model *m = &p->side->model;
	const struct model_entry *e = random_entry(m, RECORD_NAME);
	struct node node;
	char name[24];
	if (!e)
		return;
	ino_id child = entry_child(e), from = record_key_ino(&e->key), to = random_dir(m);
	check(model_node(m, child, &node));
	bool dir = S_ISDIR(node.mode);
	if (dir && is_below(m, to, child))
		return;
	new_name(name);
	plan_delete(p, &e->key);
	plan_name(p, to, name, child, dir);
	plan_touch(p, from, dir && from != to ? -1 : 0);
	if (from != to)
		plan_touch(p, to, dir);
	if (dir)
		node.parent = to;
	if (one_in(2))
		node.ctime = next_time();
	if (dir || one_in(2))
		plan_node(p, child, &node);
}

static void plan_link(struct plan *p)
{
	const struct model_entry *e = random_entry(&p->side->model, RECORD_NAME);
	struct node node;
	char name[24];
	if (!e)
		return;
	ino_id child = entry_child(e), to = random_dir(&p->side->model);
	check(model_node(&p->side->model, child, &node));
	if (S_ISDIR(node.mode))
		return;
	new_name(name);
	plan_name(p, to, name, child, false);
	plan_touch(p, to, 0);
	node.nlink++;
	if (one_in(2)) /* then it is alike on both sides if both do it */
		node.ctime = next_time();
	plan_node(p, child, &node);
}

static void plan_attributes(struct plan *p)
{
	const struct model_entry *e = random_entry(&p->side->model, RECORD_NODE);
	struct buffer content = BUFFER_INIT;
	struct node node;
	ino_id ino = record_key_ino(&e->key);
	check(model_node(&p->side->model, ino, &node));
	if (one_in(3))
		node.mode ^= 0111;
	else if (one_in(2))
		node.uid = (uint32_t)random_below(3);
	else if (!S_ISDIR(node.mode))
		set_content(p, &node, &content);
	if (!one_in(4))
		node.ctime = next_time();
	plan_node(p, ino, &node);
	buffer_fini(&content);
}

static void plan_xattr(struct plan *p)
{
	const struct model_entry *e = random_entry(&p->side->model, RECORD_NODE);
	uint8_t value = (uint8_t)random_below(2);
	ino_id ino = record_key_ino(&e->key);
	const char *name = one_in(2) ? "user.a" : "user.b";
	struct record_key key = record_key_xattr(ino, name, 6);
	if (model_has(&p->side->model, &key) && one_in(2))
		plan_delete(p, &key);
	else
		plan_add(p, &key, true, slice_of(&value, 1));
}

static void plan_make(struct plan *p)
{
	switch (random_below(12)) {
	case 0:
	case 1:
	case 2:
		plan_create(p, false);
		break;
	case 3:
		plan_create(p, true);
		break;
	case 4:
		plan_remove(p);
		break;
	case 5:
	case 6:
		plan_rename(p);
		break;
	case 7:
		plan_link(p);
		break;
	case 8:
	case 9:
		plan_attributes(p);
		break;
	default:
		plan_xattr(p);
	}
}

static void change(struct txn *txn, struct side *side)
{
	struct plan p = { .txn = txn, .side = side };
	plan_make(&p);
	plan_apply(&p, side);
}

/* What the mount defers while a batch is proposed. */
static bool is_frozen(const struct plan *p, const struct batch_info *info)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct write *w = &p->writes[i];
		struct record_key owner = record_key_node(record_key_ino(&w->key));
		bool node = record_key_kind(&w->key) == RECORD_NODE;
		struct node old, new;
		if (!node && w->put && batch_removes(p->txn, info->id, &owner))
			return true;
		bool dir = node && w->put && model_node(&live.model, record_key_ino(&w->key), &old) && S_ISDIR(old.mode);
		if (dir)
			ok(node_decode(slice_of(w->value, w->size), &new));
		if (dir && info->moves && old.parent != new.parent)
			return true;
		bool merges = dir && old.mode == new.mode && old.uid == new.uid && old.parent == new.parent && !batch_removes(p->txn, info->id, &w->key);
		if (!merges && batch_touches(p->txn, info->id, &w->key))
			return true;
	}
	return false;
}

static void change_beside(struct txn *txn, const struct batch_info *info)
{
	struct plan p = { .txn = txn, .side = &live };
	plan_make(&p);
	if (!is_frozen(&p, info))
		plan_apply(&p, &live);
}

/* --- the model's merge: of dumps, knowing nothing of drafts */

static bool entries_equal(const struct model_entry *a, const struct model_entry *b)
{
	if (!a || !b)
		return a == b;
	return a->size == b->size && memcmp(a->value, b->value, a->size) == 0;
}

static struct node entry_node(const struct model_entry *e)
{
	struct node node = { .mode = 0 };
	if (e && record_key_kind(&e->key) == RECORD_NODE)
		ok(node_decode(slice_of(e->value, e->size), &node));
	return node;
}

#define TIME(t) ((t).seconds * 1000000000 + (t).nanoseconds)
#define NEWER(field) (TIME(n.field) > TIME(o.field) ? n.field : o.field)
#define PICK(field) (o.field == b.field ? n.field : o.field)
#define CLASH(field) (b.field != n.field && b.field != o.field && n.field != o.field)

/* Times only grow here. */
static bool merge_dirs(const struct model_entry *be, const struct model_entry *ne, const struct model_entry *oe, struct model *out)
{
	struct node b = entry_node(be), n = entry_node(ne), o = entry_node(oe), m = o;
	struct buffer bytes = BUFFER_INIT;
	m.mode = PICK(mode);
	m.uid = PICK(uid);
	m.gid = PICK(gid);
	m.parent = PICK(parent);
	m.nlink = n.nlink + o.nlink - b.nlink;
	m.atime = NEWER(atime);
	m.mtime = NEWER(mtime);
	m.ctime = NEWER(ctime);
	node_encode(&m, &bytes);
	model_put(out, &oe->key, buffer_slice(&bytes));
	buffer_fini(&bytes);
	return !CLASH(mode) && !CLASH(uid) && !CLASH(gid) && !CLASH(parent);
}

/* 'now' with the changes from 'base' to 'ours'. False: the key was changed on both sides, and not alike. */
static bool merge_one(const struct model *base, const struct model *now, const struct model *ours, const struct record_key *key, struct model *out)
{
	const struct model_entry *b = model_get(base, key), *n = model_get(now, key), *o = model_get(ours, key);
	if (entries_equal(b, o))
		return true;
	if (!entries_equal(b, n)) {
		bool dirs = S_ISDIR(entry_node(b).mode) && S_ISDIR(entry_node(n).mode) && S_ISDIR(entry_node(o).mode);
		return dirs ? merge_dirs(b, n, o, out) : entries_equal(n, o);
	}
	if (o)
		model_put(out, key, slice_of(o->value, o->size));
	else
		model_delete(out, key);
	return true;
}

struct keys {
	struct record_key keys[4000];
	size_t count;
};

static bool keys_have(const struct keys *k, const struct record_key *key)
{
	for (size_t i = 0; i < k->count; i++)
		if (model_compare(&k->keys[i], key) == 0)
			return true;
	return false;
}

static void keys_add(void *keys, const struct record_key *key)
{
	struct keys *k = keys;
	check(k->count < ARRAY_SIZE(k->keys) && !keys_have(k, key));
	k->keys[k->count++] = *key;
}

static void model_merge(const struct model *base, const struct model *now, const struct model *ours, struct model *out, struct keys *ret_clashes)
{
	ret_clashes->count = 0;
	model_copy(out, now);
	for (size_t i = 0; i < ours->count; i++)
		if (!merge_one(base, now, ours, &ours->entries[i].key, out))
			keys_add(ret_clashes, &ours->entries[i].key);
	for (size_t i = 0; i < base->count; i++)
		if (!model_has(ours, &base->entries[i].key) && !merge_one(base, now, ours, &base->entries[i].key, out))
			keys_add(ret_clashes, &base->entries[i].key);
}

static bool node_consistent(const struct model *m, ino_id ino, const struct node *node)
{
	unsigned names = 0, subdirs = 0;
	ino_id parent = INO_ROOT;
	bool dir = S_ISDIR(node->mode);
	for (size_t i = 0; i < m->count; i++) {
		const struct model_entry *e = &m->entries[i];
		struct node child;
		if (record_key_kind(&e->key) != RECORD_NAME)
			continue;
		if (entry_child(e) == ino) {
			names++;
			parent = record_key_ino(&e->key);
		}
		if (record_key_ino(&e->key) == ino)
			subdirs += model_node(m, entry_child(e), &child) && S_ISDIR(child.mode);
	}
	if (ino == INO_ROOT)
		return names == 0 && node->nlink == 2 + subdirs;
	return dir ? names == 1 && node->parent == parent && node->nlink == 2 + subdirs : names == node->nlink;
}

static bool reaches_root(const struct model *m, ino_id ino)
{
	struct node node;
	for (size_t steps = 0; ino != INO_ROOT; ino = node.parent)
		if (++steps > m->count || !model_node(m, ino, &node))
			return false;
	return true;
}

/* Is it a tree? */
static bool is_tree(const struct model *m)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct model_entry *e = &m->entries[i];
		ino_id ino = record_key_ino(&e->key);
		struct node node, child;
		if (!model_node(m, ino, &node))
			return false;
		if (record_key_kind(&e->key) == RECORD_NAME && (!S_ISDIR(node.mode) || !model_node(m, entry_child(e), &child)))
			return false;
		if (record_key_kind(&e->key) == RECORD_NODE && !node_consistent(m, ino, &node))
			return false;
		if (record_key_kind(&e->key) == RECORD_NODE && S_ISDIR(node.mode) && !reaches_root(m, ino))
			return false;
	}
	return true;
}

static void check_view(struct txn *txn, struct view view, const struct model *expected)
{
	struct buffer seen = BUFFER_INIT, wanted = BUFFER_INIT;
	dump_view(txn, view, &seen);
	model_dump(expected, &wanted);
	check(buffers_equal(&seen, &wanted));
	buffer_fini(&seen);
	buffer_fini(&wanted);
}

static bool digest_is(struct digest a, struct digest b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

static void check_digest_of(struct txn *txn, struct view view, struct digest expected)
{
	struct digest digest;
	ok(digest_compute(txn, view, &digest));
	check(digest_is(digest, expected));
}

/* --- the random run */

#define BATCHES 3
#define ROUNDS 200

struct batch_under_test {
	struct side side;
	struct model base;
	version_t base_version;
};

static struct batch_under_test batches[BATCHES];
static struct model current; /* the tree at the current version */
static struct { unsigned merged, clashed, torn, committed, aborted, restarted, resumed, inlined, pended, late, behind; } seen;

static void seal_live(void)
{
	struct version_info info;
	struct txn *txn = begin_write(master);
	if (version_dirty(txn)) {
		ok(version_seal(txn, clock_seconds, "live", &info));
		ok(txn_commit(txn));
	} else {
		txn_abort(txn);
	}
	model_copy(&current, &live.model);
}

static void begin_batch(struct batch_under_test *b)
{
	struct batch_info info;
	char name[24];
	seal_live();
	struct txn *txn = begin_write(master);
	new_name(name);
	ok(batch_begin(txn, name, 0, 5, &info));
	ok(txn_commit(txn));
	b->side.batch = info.id;
	b->base_version = info.base;
	model_copy(&b->base, &current);
	model_copy(&b->side.model, &current);
}

static struct view batch_view(const struct batch_under_test *b)
{
	return (struct view){ .version = b->base_version, .draft = batch_draft(b->side.batch) };
}

static void drop_batch(struct batch_under_test *b)
{
	for (bool done = false; !done;) {
		struct txn *txn = begin_write(master);
		ok(batch_drop(txn, b->side.batch, 1 + random_below(10), &done));
		ok(txn_commit(txn));
		if (!done && one_in(5)) {
			reopen_master();
			done = true;
		}
	}
	struct batch_info info;
	struct txn *txn = begin_read(master);
	check(batch_get(txn, b->side.batch, &info) == -ENOENT);
	txn_abort(txn);
	begin_batch(b);
}

/* Where the store finds conflicts the model does, and the other way round. */
static bool rebase(struct txn *txn, struct batch_under_test *b)
{
	static struct keys told, clashes;
	struct model merged = { 0 };
	told.count = 0;
	model_merge(&b->base, &current, &b->side.model, &merged, &clashes);
	ok(batch_admit(txn, b->side.batch));
	int conflicts = ok(batch_rebase(txn, b->side.batch, keys_add, &told));
	check((size_t)conflicts == told.count);
	for (size_t i = 0; i < clashes.count; i++)
		check(keys_have(&told, &clashes.keys[i]));
	bool fits = clashes.count == 0 && is_tree(&merged);
	check(fits == (conflicts == 0));
	seen.clashed += clashes.count > 0;
	seen.torn += !fits && !clashes.count;
	if (fits) {
		b->base_version = txn_state(txn)->current;
		model_copy(&b->base, &current);
		model_copy(&b->side.model, &merged);
		seen.merged++;
	}
	check_view(txn, batch_view(b), &b->side.model);
	model_clear(&merged);
	return fits;
}

/* Have the slave stage the proposal; false: it went away while it did so. */
static bool slave_prepare(const struct batch_info *info, struct talk *t)
{
	struct buffer bytes = BUFFER_INIT;
	struct txn *txn = begin_read(master);
	int error = batch_inline_make(txn, info->id, 1500, &bytes);
	check(!error || error == -DRS_ETOOBIG);
	txn_abort(txn);
	version_t from = current_of(slave);
	*t = (struct talk){ .master = master, .slave = &slave, .proposed = info->proposed, .complete = one_in(6) };
	seen.behind += from < info->base;
	if (!error && from == info->base && one_in(2)) {
		ok(stage_new(slave, &t->stage));
		do {
			txn = begin_write(slave);
			error = stage_inline(t->stage, txn, buffer_slice(&bytes));
			ok(txn_commit(txn));
		} while (error == -EAGAIN);
		ok(error);
		seen.inlined++;
	} else {
		talk_open(t);
		while (ok(talk_step(t)) == 1) {
			if (!one_in(20))
				continue;
			talk_close(t);
			reopen_slave();
			talk_open(t);
		}
	}
	buffer_fini(&bytes);
	txn = begin_read(slave);
	check(stage_ready(t->stage, txn));
	ok(stage_check(t->stage, txn));
	check_digest_of(txn, (struct view){ .version = info->proposed }, info->digest);
	check(txn_state(txn)->current == from);
	txn_abort(txn);
	return true;
}

/* The decision was for it: what is staged is taken as it is, also by one who forgot that it was prepared. (R4.5, R4.8) */
static void slave_take(struct talk *t, version_t version)
{
	if (one_in(2)) {
		talk_close(t);
		reopen_slave();
		*t = (struct talk){ .master = master, .slave = &slave };
		talk_open(t);
		while (ok(talk_step(t)) == 1)
			;
		check(t->carried == 0);
		seen.resumed++;
	}
	ok(talk_commit(t));
	check(current_of(slave) == version);
	talk_close(t);
}

static void check_slave(void)
{
	ok(pull(master, &slave, false));
	struct store_state m = state_of(master), s = state_of(slave);
	check(m.current == s.current && digest_is(m.digest, s.digest) && m.nodes == s.nodes);
	struct txn *txn = begin_read(slave);
	check_view(txn, (struct view){ .version = s.current }, &current);
	txn_abort(txn);
}

static void decide_commit(struct batch_under_test *b, const struct batch_info *info, struct talk *t)
{
	static struct keys clashes;
	struct model merged = { 0 };
	struct version_info version;
	struct txn *txn = begin_write(master);
	model_merge(&current, &live.model, &b->side.model, &merged, &clashes);
	bool fits = !clashes.count && is_tree(&merged), pending = version_dirty(txn);
	ok(batch_admit(txn, info->id));
	int error = batch_commit(txn, info->id, &version);
	check(error == 0 || error == -DRS_ECONFLICT);
	check(fits == (error == 0));
	if (error) {
		ok(batch_abort(txn, info->id, "not to be merged"));
		ok(txn_commit(txn));
		talk_close(t);
		model_clear(&merged);
		seen.late++;
		return;
	}
	check(version.version == info->proposed && version.previous == info->base && version.state == VERSION_COMMITTED);
	check(digest_is(version.digest, info->digest) && version.nodes == info->nodes && version.records == info->records);
	check_view(txn, (struct view){ .version = version.version }, &b->side.model);
	check_digest_of(txn, (struct view){ .version = version.version }, version.digest);
	if (pending) {
		check(txn_state(txn)->pending > version.version);
		check_view(txn, (struct view){ .version = txn_state(txn)->pending }, &merged);
		check_digest_of(txn, (struct view){ .version = txn_state(txn)->pending }, txn_state(txn)->pending_digest);
		seen.pended++;
	}
	ok(txn_commit(txn));
	model_copy(&current, &b->side.model);
	model_copy(&live.model, &merged);
	model_clear(&merged);
	slave_take(t, version.version);
	b->side.batch = 0;
	seen.committed++;
}

static void decide_abort(const struct batch_info *info, struct talk *t)
{
	struct version_info version;
	talk_close(t);
	if (one_in(2)) {
		reopen_master();
		seen.restarted++;
	} else {
		struct txn *txn = begin_write(master);
		ok(batch_abort(txn, info->id, "refused"));
		ok(txn_commit(txn));
		seen.aborted++;
	}
	struct txn *txn = begin_read(master);
	struct batch_info now;
	check(version_aborted(txn) == info->proposed);
	ok(version_get(txn, info->proposed, &version));
	check(version.state == VERSION_ABORTED && *version.message);
	ok(batch_get(txn, info->id, &now));
	check(now.state == BATCH_OPEN && !now.proposed && now.base == info->base);
	check(txn_state(txn)->assigned >= info->proposed);
	txn_abort(txn);
}

static void try_commit(struct batch_under_test *b)
{
	static version_t spent;
	struct batch_info info;
	struct talk t;
	seal_live();
	if (one_in(2))
		check_slave();
	struct txn *txn = begin_write(master);
	version_t assigned = txn_state(txn)->assigned;
	if (!rebase(txn, b)) {
		txn_abort(txn);
		if (!one_in(3))
			drop_batch(b);
		return;
	}
	int error = batch_propose(txn, b->side.batch, clock_seconds, "message", &info);
	if (error == -ENODATA) {
		ok(txn_commit(txn));
		return;
	}
	ok(error);
	check(info.proposed > assigned || (info.proposed == assigned && info.proposed == info.reserved));
	check(info.proposed > spent && txn_state(txn)->assigned == info.proposed);
	spent = info.proposed;
	ok(txn_commit(txn));
	txn = begin_write(master);
	check_view(txn, batch_view(b), &b->side.model);
	check_digest_of(txn, batch_view(b), info.digest);
	for (size_t n = one_in(2) ? random_below(12) : 0; n; n--)
		change_beside(txn, &info);
	ok(txn_commit(txn));
	slave_prepare(&info, &t);
	if (one_in(3))
		decide_abort(&info, &t);
	else
		decide_commit(b, &info, &t);
	seal_live();
	check_slave();
	if (!b->side.batch)
		begin_batch(b);
}

static void check_all(void)
{
	verify_clean(master);
	struct txn *txn = begin_read(master);
	version_t lowest = VERSION_MAX;
	for (int i = 0; i < BATCHES; i++) {
		check_view(txn, batch_view(&batches[i]), &batches[i].side.model);
		if (batches[i].base_version < lowest)
			lowest = batches[i].base_version;
	}
	check(batch_horizon(txn) == lowest && txn_state(txn)->horizon <= lowest);
	txn_abort(txn);
}

static void make_root(void)
{
	struct version_info info;
	struct plan p = { .txn = begin_write(master), .side = &live };
	struct node root = { .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT, .ctime = next_time() };
	plan_node(&p, INO_ROOT, &root);
	plan_apply(&p, &live);
	ok(version_seal(p.txn, 1, NULL, &info));
	ok(txn_commit(p.txn));
	model_copy(&current, &live.model);
}

Test(store_batch, batches_agree_with_the_model)
{
	random_init((unsigned long long)time(NULL));
	make_root();
	struct txn *txn = begin_write(master);
	for (int i = 0; i < 60; i++)
		change(txn, &live);
	ok(txn_commit(txn));
	for (int i = 0; i < BATCHES; i++)
		begin_batch(&batches[i]);
	for (int round = 0; round < ROUNDS; round++) {
		struct batch_under_test *b = &batches[random_below(BATCHES)];
		txn = begin_write(master);
		for (size_t n = random_below(4); n; n--)
			change(txn, &live);
		for (size_t n = random_below(4); n; n--)
			change(txn, &b->side);
		ok(txn_commit(txn));
		if (one_in(3))
			try_commit(b);
		else if (one_in(12) || b->side.model.count > 400)
			drop_batch(b);
		if (one_in(10))
			reopen_master();
		if (one_in(8)) {
			version_t now = current_of(master);
			retire_all(master, now - random_below(now < 10 ? now : 10));
			collect_all(master);
			check_all();
		}
	}
	check_all();
	fprintf(stderr, "merged %u, clashed %u, torn %u, committed %u, aborted %u, restarted %u, resumed %u, inlined %u, pended %u, late %u, behind %u\n", seen.merged,
		seen.clashed, seen.torn, seen.committed, seen.aborted, seen.restarted, seen.resumed, seen.inlined, seen.pended, seen.late, seen.behind);
	check(seen.committed && seen.clashed);
	model_clear(&current);
	model_clear(&live.model);
	for (int i = 0; i < BATCHES; i++) {
		model_clear(&batches[i].base);
		model_clear(&batches[i].side.model);
	}
}
