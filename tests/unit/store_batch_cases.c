/* What batch.h promises, one thing a test: layers, ids, conflicts, proposals and their conversations, decisions, restarts, retention. (R1, R4) */
#include "store_lib.h"

static struct store *master, *slave;

static struct slice text(const char *s)
{
	return slice_of(s, strlen(s));
}

static void put_node(struct txn *txn, version_t at, ino_id ino, struct node node)
{
	struct record_key key = record_key_node(ino);
	struct buffer bytes = BUFFER_INIT;
	node_encode(&node, &bytes);
	ok(record_put(txn, at, &key, buffer_slice(&bytes)));
	buffer_fini(&bytes);
}

static struct node dir_node(ino_id parent, uint32_t nlink, int64_t changed)
{
	return (struct node){ .mode = S_IFDIR | 0755, .nlink = nlink, .parent = parent, .ctime = { changed, 0 }, .mtime = { changed, 0 }, .atime = { 1, 0 } };
}

static struct node file_node(version_t at, const char *content)
{
	return (struct node){ .mode = S_IFREG | 0644, .nlink = 1, .size = strlen(content), .content_kind = CONTENT_INLINE, .content = text(content),
			      .content_version = at };
}

static struct record_key name_of(struct txn *txn, ino_id parent, const char *name)
{
	return record_key_name(txn, parent, name, strlen(name));
}

static void put_name(struct txn *txn, version_t at, ino_id parent, const char *name, ino_id child, uint8_t type)
{
	struct record_key key = name_of(txn, parent, name);
	uint8_t value[16];
	size_t size;
	name_encode(child, type, value, &size);
	ok(record_put(txn, at, &key, slice_of(value, size)));
}

static void delete_key(struct txn *txn, version_t at, struct record_key key)
{
	ok(record_delete(txn, at, &key));
}

static struct node node_in(struct txn *txn, struct view view, ino_id ino)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	struct node node;
	ok(record_get(txn, view, &key, &value, NULL));
	ok(node_decode(value, &node));
	return node;
}

enum { DIR_A = 10, DIR_B, FILE_F }; /* /a, /b, /a/f */

static version_t seal(struct txn *txn, const char *why)
{
	struct version_info info;
	version_begin(txn);
	ok(version_seal(txn, 3, why, &info));
	ok(txn_commit(txn));
	return info.version;
}

static void setup(void)
{
	random_init(9);
	temp_make();
	master = open_master("master");
	slave = open_slave("slave", master);
	struct txn *txn = begin_write(master);
	version_t at = version_begin(txn);
	put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 4, 100));
	put_node(txn, at, DIR_A, dir_node(INO_ROOT, 2, 100));
	put_node(txn, at, DIR_B, dir_node(INO_ROOT, 2, 100));
	put_node(txn, at, FILE_F, file_node(at, "one"));
	put_name(txn, at, INO_ROOT, "a", DIR_A, DT_DIR);
	put_name(txn, at, INO_ROOT, "b", DIR_B, DT_DIR);
	put_name(txn, at, DIR_A, "f", FILE_F, DT_REG);
	seal(txn, "start");
	verify_clean(master);
}

static void teardown(void)
{
	store_close(slave);
	store_close(master);
	temp_remove();
}

TestSuite(store_batch_cases, .init = setup, .fini = teardown, .timeout = 60);

static void reopen(void)
{
	store_close(master);
	master = open_in(temp_root, "master", STORE_MASTER);
}

static struct batch_info begin_in(struct txn *txn, const char *name)
{
	struct batch_info info;
	ok(batch_begin(txn, name, 0, 7, &info));
	return info;
}

/* A batch that gives /a/f other content, committed but not proposed. */
static uint32_t batch_with_change(const char *content)
{
	struct txn *txn = begin_write(master);
	struct batch_info info = begin_in(txn, "");
	put_node(txn, batch_draft(info.id), FILE_F, file_node(info.reserved, content));
	ok(txn_commit(txn));
	return info.id;
}

static struct batch_info propose(uint32_t id)
{
	struct batch_info info;
	struct txn *txn = begin_write(master);
	cr_assert_eq(ok(batch_rebase(txn, id, NULL, NULL)), 0);
	ok(batch_propose(txn, id, 77, "words", &info));
	ok(txn_commit(txn));
	return info;
}

static struct version_info commit(uint32_t id)
{
	struct version_info info;
	struct txn *txn = begin_write(master);
	ok(batch_commit(txn, id, &info));
	ok(txn_commit(txn));
	return info;
}

static void abort_batch(uint32_t id)
{
	struct txn *txn = begin_write(master);
	ok(batch_abort(txn, id, "why not"));
	ok(txn_commit(txn));
}

/* --- layers */

Test(store_batch_cases, a_view_has_two_draft_layers)
{
	struct txn *txn = begin_write(master);
	struct record_key key = record_key_xattr(FILE_F, "user.a", 6);
	struct slice value;
	version_t at;
	for (int i = 0; i < 12; i++) /* drafts of others above, between and below */
		ok(record_put(txn, batch_draft(begin_in(txn, "").id), &key, text("other")));
	version_t finished = batch_draft(5), waiting = batch_waiting(5), base = txn_state(txn)->current;
	struct view below = { .version = base, .draft = finished }, both = { .version = base, .draft = waiting, .below = finished };
	ok(record_drop(txn, finished, &key));
	cr_expect_eq(record_get(txn, both, &key, &value, NULL), -ENOENT);
	ok(record_put(txn, finished, &key, text("finished")));
	cr_expect(record_get(txn, both, &key, &value, &at) == 0 && at == finished && value.size == 8);
	ok(record_put(txn, waiting, &key, text("waiting")));
	cr_expect(record_get(txn, both, &key, &value, &at) == 0 && at == waiting);
	cr_expect(record_get(txn, below, &key, &value, &at) == 0 && at == finished);

	struct view far = { .version = base, .draft = VERSION_DRAFT, .below = finished };
	cr_expect(record_get(txn, far, &key, &value, &at) == 0 && at == finished, "others lie between the two");

	struct record_cursor *cursor;
	struct record_key seen;
	ok(record_cursor_new(txn, far, &cursor));
	ok(record_cursor_seek(cursor, slice_of(key.bytes, key.size)));
	cr_expect(record_cursor_next(cursor, &seen, &value, &at) == 1 && at == finished);
	record_cursor_free(cursor);
	ok(record_cursor_new(txn, both, &cursor));
	ok(record_cursor_seek(cursor, slice_of(key.bytes, key.size)));
	cr_expect(record_cursor_next(cursor, &seen, &value, &at) == 1 && at == waiting);
	ok(record_drop(txn, waiting, &key));
	ok(record_cursor_seek(cursor, slice_of(key.bytes, key.size)));
	cr_expect(record_cursor_next(cursor, &seen, &value, &at) == 1 && at == finished, "passes over seven drafts above it");
	ok(record_delete(txn, waiting, &key)); /* hides what is finished */
	cr_expect_eq(record_get(txn, both, &key, &value, NULL), -ENOENT);
	ok(record_cursor_seek(cursor, slice_of(key.bytes, key.size)));
	cr_expect_eq(record_cursor_next(cursor, &seen, &value, &at), 0);
	record_cursor_free(cursor);
	txn_abort(txn);
}

Test(store_batch_cases, a_batch_deletes_what_its_base_has)
{
	struct txn *txn = begin_write(master);
	struct batch_info info = begin_in(txn, "");
	version_t draft = batch_draft(info.id);
	put_name(txn, version_begin(txn), DIR_B, "new", FILE_F, DT_REG);
	struct record_key later = name_of(txn, DIR_B, "new"), old = name_of(txn, DIR_A, "f");
	delete_key(txn, version_begin(txn), old);
	cr_expect_eq(record_delete(txn, draft, &later), -ENOENT, "made after the base");
	ok(record_delete(txn, draft, &old));
	bool tombstone = false;
	cr_expect(record_exists_at(txn, draft, &old, &tombstone) && tombstone);
	cr_expect(batch_removes(txn, info.id, &old) && batch_touches(txn, info.id, &old) && !batch_touches(txn, info.id, &later));
	cr_expect_eq(record_delete(txn, batch_waiting(info.id), &old), -ENOENT, "gone in what is finished");
	txn_abort(txn);
}

/* --- rows */

Test(store_batch_cases, names_and_ids)
{
	char long_name[BATCH_NAME_BYTES_MAX + 2];
	struct batch_info info, other;
	bool done;
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = 0;
	struct txn *txn = begin_write(master);
	cr_expect_eq(batch_begin(txn, long_name, 0, 1, &info), -ENAMETOOLONG);
	long_name[BATCH_NAME_BYTES_MAX] = 0;
	info = begin_in(txn, long_name);
	cr_expect(info.id == 1 && info.base == 1 && info.state == BATCH_OPEN && info.begun_ns == 7);
	cr_expect_eq(batch_begin(txn, long_name, 0, 1, &other), -EEXIST);
	cr_expect_eq(begin_in(txn, "").id, 2);
	cr_expect_eq(begin_in(txn, "").id, 3);
	ok(batch_drop(txn, 3, 1, &done));
	cr_expect(done);
	ok(txn_commit(txn));
	reopen();
	txn = begin_write(master);
	cr_expect_eq(begin_in(txn, "next").id, 4, "an id is never used twice");
	ok(batch_find(txn, "next", &info));
	cr_expect_eq(info.id, 4);
	cr_expect_eq(batch_find(txn, "nobody", &info), -ENOENT);
	cr_expect_eq(batch_get(txn, 3, &info), -ENOENT);
	cr_expect_eq(batch_get(txn, 0, &info), -ENOENT);
	ok(batch_get(txn, 1, &info));
	cr_expect(strcmp(info.name, long_name) == 0);
	cr_expect(batch_next(txn, 2, &info) == 0 && info.id == 4);
	cr_expect_eq(batch_next(txn, 4, &info), -ENOENT);
	cr_expect_eq(batch_next(txn, UINT32_MAX, &info), -ENOENT);
	for (int i = 3; i < BATCHES_MAX; i++)
		begin_in(txn, "");
	cr_expect_eq(batch_begin(txn, "", 0, 1, &info), -EUSERS);
	ok(txn_commit(txn));
	verify_clean(master);
}

Test(store_batch_cases, opening_keeps_open_batches_and_drops_the_rest)
{
	struct record_key key = record_key_xattr(FILE_F, "user.a", 6);
	struct batch_info kept, transient, half, info;
	bool done;
	struct txn *txn = begin_write(master);
	kept = begin_in(txn, "kept");
	half = begin_in(txn, "half");
	ok(batch_begin(txn, "transient", BATCH_TRANSIENT, 1, &transient));
	version_t orphan = batch_draft(99);
	for (version_t at = batch_draft(transient.id); at <= batch_waiting(kept.id); at++)
		ok(record_put(txn, at, &key, text("x")));
	ok(record_put(txn, orphan, &key, text("x")));
	ok(record_put(txn, VERSION_DRAFT, &key, text("x")));
	ok(batch_drop(txn, half.id, 1, &done));
	cr_expect_not(done);
	ok(txn_commit(txn));
	reopen();
	txn = begin_read(master);
	cr_expect(batch_next(txn, 0, &info) == 0 && info.id == kept.id);
	cr_expect_eq(batch_next(txn, kept.id, &info), -ENOENT);
	cr_expect(record_exists_at(txn, batch_draft(kept.id), &key, NULL));
	cr_expect_not(record_exists_at(txn, batch_waiting(kept.id), &key, NULL));
	for (version_t at = batch_draft(transient.id); at <= batch_waiting(half.id); at++)
		cr_expect_not(record_exists_at(txn, at, &key, NULL));
	cr_expect_not(record_exists_at(txn, orphan, &key, NULL) || record_exists_at(txn, VERSION_DRAFT, &key, NULL));
	txn_abort(txn);
	verify_clean(master);
}

Test(store_batch_cases, a_proposal_is_aborted_when_the_store_is_opened)
{
	struct batch_info info, transient;
	struct version_info version;
	struct txn *txn = begin_write(master);
	ok(batch_begin(txn, "", BATCH_TRANSIENT, 1, &transient));
	put_node(txn, batch_draft(transient.id), FILE_F, file_node(transient.reserved, "lost"));
	ok(txn_commit(txn));
	version_t first = propose(transient.id).proposed;
	reopen();
	txn = begin_read(master);
	cr_expect_eq(batch_get(txn, transient.id, &info), -ENOENT, "aborted, and dropped");
	cr_expect_eq(version_aborted(txn), first);
	txn_abort(txn);

	uint32_t id = batch_with_change("two");
	info = propose(id);
	cr_expect_eq(info.proposed, first + 1, "the number is spent (R1.1)");
	reopen();
	txn = begin_write(master);
	ok(batch_get(txn, id, &info));
	cr_expect(info.state == BATCH_OPEN && info.proposed == 0);
	cr_expect_eq(version_aborted(txn), first + 1);
	ok(version_get(txn, first + 1, &version));
	cr_expect(version.state == VERSION_ABORTED && version.previous == 1 && strstr(version.message, "restarted"));
	cr_expect_eq(version_begin(txn), first + 2);
	txn_abort(txn);
	verify_clean(master);
	cr_expect_eq(propose(id).proposed, first + 2);
	cr_expect_eq(commit(id).version, first + 2);
	txn = begin_read(master);
	cr_expect_eq(version_aborted(txn), VERSION_NONE, "only above the current one");
	txn_abort(txn);
	verify_clean(master);
}

Test(store_batch_cases, the_batch_of_an_operation_may_last_and_a_transient_one_be_anybody_s)
{
	struct batch_info lasting, transient, info;
	struct txn *txn = begin_write(master);
	ok(batch_begin(txn, "operation", BATCH_OPERATION, 1, &lasting));
	ok(batch_begin(txn, "transient", BATCH_TRANSIENT, 1, &transient));
	cr_expect(lasting.operation && !lasting.transient && transient.transient && !transient.operation);
	put_node(txn, batch_draft(lasting.id), FILE_F, file_node(lasting.reserved, "two"));
	put_node(txn, batch_draft(transient.id), FILE_F, file_node(transient.reserved, "three"));
	put_node(txn, VERSION_DRAFT, FILE_F, file_node(VERSION_DRAFT, "what the operation finishes is still open in the live tree"));
	ok(txn_commit(txn));
	txn = begin_write(master);
	cr_expect_eq(batch_rebase(txn, lasting.id, NULL, NULL), 0, "its own file does not stand against an operation");
	cr_expect_eq(batch_rebase(txn, transient.id, NULL, NULL), 1, "but against what others do");
	txn_abort(txn);
	reopen();
	txn = begin_read(master);
	cr_expect(batch_get(txn, lasting.id, &info) == 0 && info.operation && !info.transient);
	cr_expect_eq(batch_get(txn, transient.id, &info), -ENOENT, "dropped when the store is opened");
	txn_abort(txn);
	verify_clean(master);
}

Test(store_batch_cases, half_a_batch_that_is_dropped_is_no_operation_s)
{
	struct batch_info info;
	struct record_key key = record_key_xattr(FILE_F, "user.a", 6);
	bool done;
	struct txn *txn = begin_write(master);
	info = begin_in(txn, "");
	ok(record_put(txn, batch_draft(info.id), &key, text("x")));
	ok(record_put(txn, batch_waiting(info.id), &key, text("x")));
	ok(batch_drop(txn, info.id, 1, &done));
	ok(batch_get(txn, info.id, &info));
	cr_expect(info.transient && !info.operation && !done);
	txn_abort(txn);
}

/* --- numbers */

Test(store_batch_cases, content_is_known_by_the_number_that_the_batch_has_reserved)
{
	struct batch_info first, second;
	struct txn *txn = begin_write(master);
	first = begin_in(txn, "");
	second = begin_in(txn, "");
	cr_expect(first.reserved == 2 && second.reserved == 3);
	cr_expect_eq(batch_content_version(txn, batch_draft(first.id)), 2);
	cr_expect_eq(batch_content_version(txn, batch_waiting(first.id)), 2);
	cr_expect_eq(batch_content_version(txn, batch_draft(second.id)), 3);
	cr_expect_eq(batch_content_version(txn, version_begin(txn)), 4, "nobody else gets it");
	cr_expect_eq(batch_content_version(txn, VERSION_DRAFT), VERSION_DRAFT);
	ok(txn_commit(txn));
	reopen();
	txn = begin_read(master);
	cr_expect_eq(batch_content_version(txn, batch_draft(second.id)), 3);
	txn_abort(txn);
}

Test(store_batch_cases, the_version_has_the_reserved_number_if_it_is_the_newest_and_not_spent)
{
	uint32_t other = batch_with_change("two"), id = batch_with_change("three");
	struct batch_info info = propose(other);
	cr_expect(info.reserved == 2 && info.proposed == 4, "3 was given out since");
	abort_batch(other);
	info = propose(id);
	cr_expect(info.reserved == 3 && info.proposed == 5);
	abort_batch(id);
	id = batch_with_change("four");
	info = propose(id);
	cr_expect(info.reserved == 6 && info.proposed == 6);
	abort_batch(id);
	cr_expect_eq(propose(id).proposed, 7, "6 was spent (R1.1)");
	reopen();
	info = propose(id);
	cr_expect(info.reserved == 6 && info.proposed == 8);
	commit(id);
	struct txn *txn = begin_read(master);
	cr_expect_eq(node_in(txn, (struct view){ .version = 8 }, FILE_F).content_version, 6);
	txn_abort(txn);
	verify_clean(master);
}

/* --- rebase */

static void expect_conflict(uint32_t id, struct record_key expected);
static struct record_key told;

static void tell(void *user, const struct record_key *key)
{
	++*(int *)user;
	told = *key;
}

static void expect_conflict(uint32_t id, struct record_key expected)
{
	int count = 0;
	struct txn *txn = begin_write(master);
	cr_expect_eq(batch_rebase(txn, id, tell, &count), 1);
	cr_expect(count == 1 && model_compare(&told, &expected) == 0);
	txn_abort(txn);
}

/* Changes of the live tree, as one version. */
#define LIVE(...)                                      \
	do {                                           \
		struct txn *txn = begin_write(master); \
		version_t at = version_begin(txn);     \
		__VA_ARGS__;                           \
		seal(txn, "live");                     \
	} while (0)

/* 'stamp': the content_version of what it writes. */
#define BATCH(ret_id, ...)                                     \
	do {                                                   \
		struct txn *txn = begin_write(master);         \
		struct batch_info begun = begin_in(txn, "");   \
		version_t at = batch_draft(begun.id);          \
		version_t stamp = begun.reserved;              \
		(void)stamp;                                   \
		ret_id = begun.id;                             \
		__VA_ARGS__;                                   \
		ok(txn_commit(txn));                           \
	} while (0)

/* A version that no batch here minds. */
static void live_version(int64_t changed)
{
	LIVE(put_node(txn, at, DIR_B, dir_node(INO_ROOT, 2, changed)));
}

Test(store_batch_cases, directories_are_merged)
{
	uint32_t id;
	BATCH(id, put_node(txn, at, 50, file_node(stamp, "mine")); put_name(txn, at, DIR_A, "mine", 50, DT_REG);
	      put_node(txn, at, 51, dir_node(DIR_A, 2, 210)); put_name(txn, at, DIR_A, "sub", 51, DT_DIR);
	      put_node(txn, at, DIR_A, dir_node(INO_ROOT, 3, 210)));
	struct node a = dir_node(INO_ROOT, 3, 205);
	a.mode = S_IFDIR | 0700;
	a.atime.seconds = 300;
	LIVE(put_node(txn, at, 60, dir_node(DIR_A, 2, 205)); put_name(txn, at, DIR_A, "theirs", 60, DT_DIR); put_node(txn, at, DIR_A, a));
	struct batch_info info = propose(id);
	cr_expect_eq(info.base, current_of(master));
	commit(id);
	struct txn *txn = begin_read(master);
	struct node merged = node_in(txn, (struct view){ .version = info.proposed }, DIR_A);
	cr_expect(merged.nlink == 4 && merged.mode == (S_IFDIR | 0700) && merged.ctime.seconds == 210 && merged.atime.seconds == 300);
	txn_abort(txn);
	verify_clean(master);
}

Test(store_batch_cases, an_attribute_of_a_directory_that_both_changed_is_a_conflict)
{
	uint32_t id;
	struct node mine = dir_node(INO_ROOT, 2, 210), theirs = dir_node(INO_ROOT, 2, 205);
	mine.uid = 1;
	theirs.uid = 2;
	BATCH(id, put_node(txn, at, DIR_A, mine));
	LIVE(put_node(txn, at, DIR_A, theirs));
	expect_conflict(id, record_key_node(DIR_A));
}

Test(store_batch_cases, content_that_both_changed_is_a_conflict_and_the_batch_stays_as_it_was)
{
	uint32_t id = batch_with_change("mine");
	LIVE(put_node(txn, at, FILE_F, file_node(at, "theirs")));
	expect_conflict(id, record_key_node(FILE_F));
	struct txn *txn = begin_read(master);
	struct batch_info info;
	ok(batch_get(txn, id, &info));
	cr_expect_eq(info.base, 1);
	cr_expect_eq(node_in(txn, (struct view){ .version = 1, .draft = batch_draft(id) }, FILE_F).size, 4);
	txn_abort(txn);
}

Test(store_batch_cases, directories_below_each_other_are_a_conflict)
{
	uint32_t id;
	BATCH(id, delete_key(txn, at, name_of(txn, INO_ROOT, "a")); put_name(txn, at, DIR_B, "a", DIR_A, DT_DIR);
	      put_node(txn, at, DIR_A, dir_node(DIR_B, 2, 210)); put_node(txn, at, DIR_B, dir_node(INO_ROOT, 3, 210));
	      put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 3, 210)));
	LIVE(delete_key(txn, at, name_of(txn, INO_ROOT, "b")); put_name(txn, at, DIR_A, "b", DIR_B, DT_DIR);
	     put_node(txn, at, DIR_B, dir_node(DIR_A, 2, 205)); put_node(txn, at, DIR_A, dir_node(INO_ROOT, 3, 205));
	     put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 3, 205)));
	expect_conflict(id, record_key_node(DIR_A));
}

Test(store_batch_cases, an_attribute_of_what_the_tree_removed_is_a_conflict)
{
	uint32_t id;
	struct record_key key = record_key_xattr(FILE_F, "user.a", 6);
	BATCH(id, ok(record_put(txn, at, &key, text("x"))));
	LIVE(delete_key(txn, at, name_of(txn, DIR_A, "f")); delete_key(txn, at, record_key_node(FILE_F)));
	expect_conflict(id, key);
}

Test(store_batch_cases, removing_what_the_tree_put_something_into_is_a_conflict)
{
	uint32_t id;
	BATCH(id, delete_key(txn, at, name_of(txn, DIR_A, "f")); delete_key(txn, at, record_key_node(FILE_F)));
	struct record_key key = record_key_xattr(FILE_F, "user.a", 6);
	LIVE(ok(record_put(txn, at, &key, text("x"))));
	expect_conflict(id, record_key_node(FILE_F));
}

Test(store_batch_cases, a_file_that_both_gave_another_name_is_a_conflict)
{
	uint32_t id;
	BATCH(id, delete_key(txn, at, name_of(txn, DIR_A, "f")); put_name(txn, at, DIR_A, "mine", FILE_F, DT_REG));
	LIVE(delete_key(txn, at, name_of(txn, DIR_A, "f")); put_name(txn, at, DIR_A, "theirs", FILE_F, DT_REG));
	struct txn *txn = begin_read(master);
	struct record_key key = name_of(txn, DIR_A, "f");
	txn_abort(txn);
	expect_conflict(id, key);
}

Test(store_batch_cases, a_link_on_both_sides_is_a_conflict_even_if_the_nodes_look_alike)
{
	uint32_t id;
	struct node twice = file_node(1, "one");
	twice.nlink = 2;
	BATCH(id, put_node(txn, at, FILE_F, twice); put_name(txn, at, DIR_B, "mine", FILE_F, DT_REG));
	LIVE(put_node(txn, at, FILE_F, twice); put_name(txn, at, DIR_B, "theirs", FILE_F, DT_REG));
	expect_conflict(id, record_key_node(FILE_F));
}

Test(store_batch_cases, a_directory_that_both_removed_is_a_conflict)
{
	uint32_t id;
	struct txn *reader = begin_read(master);
	struct record_key key = name_of(reader, INO_ROOT, "b");
	txn_abort(reader);
	BATCH(id, delete_key(txn, at, key); delete_key(txn, at, record_key_node(DIR_B)); put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 3, 210)));
	LIVE(delete_key(txn, at, key); delete_key(txn, at, record_key_node(DIR_B)); put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 3, 205)));
	expect_conflict(id, key);
}

Test(store_batch_cases, what_is_open_for_writing_in_the_live_tree_counts_as_changed)
{
	uint32_t id = batch_with_change("mine"), removes;
	BATCH(removes, delete_key(txn, at, name_of(txn, INO_ROOT, "b")); delete_key(txn, at, record_key_node(DIR_B));
	      put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 3, 210)));
	struct txn *txn = begin_write(master);
	put_node(txn, VERSION_DRAFT, FILE_F, file_node(VERSION_DRAFT, "being written"));
	put_name(txn, VERSION_DRAFT, DIR_B, "new", 70, DT_REG);
	ok(txn_commit(txn));
	expect_conflict(id, record_key_node(FILE_F));
	expect_conflict(removes, record_key_node(DIR_B));
}

Test(store_batch_cases, what_is_not_finished_in_the_batch_may_not_be_changed_beside_it)
{
	uint32_t id;
	BATCH(id, put_node(txn, at + 1, FILE_F, file_node(stamp, "mine")));
	LIVE(put_node(txn, at, FILE_F, file_node(at, "theirs")));
	expect_conflict(id, record_key_node(FILE_F));
}

Test(store_batch_cases, the_same_on_both_sides_is_no_change)
{
	uint32_t id;
	BATCH(id, delete_key(txn, at, name_of(txn, DIR_A, "f")); delete_key(txn, at, record_key_node(FILE_F)));
	LIVE(delete_key(txn, at, name_of(txn, DIR_A, "f")); delete_key(txn, at, record_key_node(FILE_F)));
	struct batch_info info;
	struct txn *txn = begin_write(master);
	cr_expect_eq(ok(batch_rebase(txn, id, NULL, NULL)), 0);
	cr_expect_eq(batch_propose(txn, id, 1, NULL, &info), -ENODATA);
	ok(txn_commit(txn));
	cr_expect_eq(state_of(master).assigned, current_of(master), "no number was spent");
	verify_clean(master);
}

/* --- proposing */

Test(store_batch_cases, what_is_refused_at_which_time)
{
	uint32_t id = batch_with_change("two"), other = batch_with_change("three");
	struct batch_info info;
	struct version_info version;
	bool done;
	struct txn *txn = begin_write(master);
	cr_expect_eq(batch_commit(txn, id, &version), -EINVAL);
	cr_expect_eq(batch_abort(txn, id, "x"), -EINVAL);
	cr_expect_eq(batch_rebase(txn, 500, NULL, NULL), -ENOENT);
	put_node(txn, version_begin(txn), 90, file_node(1, "pending"));
	cr_expect_eq(batch_rebase(txn, id, NULL, NULL), -EBUSY, "something is pending");
	cr_expect_eq(batch_propose(txn, id, 1, NULL, &info), -EBUSY);
	put_name(txn, version_begin(txn), DIR_B, "pending", 90, DT_REG);
	seal(txn, "live");
	txn = begin_write(master);
	cr_expect_eq(batch_propose(txn, id, 1, NULL, &info), -EBUSY, "not on the current version");
	txn_abort(txn);
	propose(id);
	txn = begin_write(master);
	cr_expect_eq(batch_drop(txn, id, 10, &done), -EBUSY);
	cr_expect_eq(batch_rebase(txn, id, NULL, NULL), -EBUSY);
	cr_expect_eq(ok(batch_rebase(txn, other, NULL, NULL)), 0);
	cr_expect_eq(batch_propose(txn, other, 1, NULL, &info), -EBUSY, "another one is");
	ok(txn_commit(txn));
	commit(id);
	expect_conflict(other, record_key_node(FILE_F));
	verify_clean(master);
}

Test(store_batch_cases, a_proposal_reckons_with_new_content)
{
	static uint8_t content[50000];
	struct entry entry = { .kind = ENTRY_DATA, .length = sizeof(content) };
	struct buffer list = BUFFER_INIT;
	struct txn *txn = begin_write(master);
	uint32_t id = begin_in(txn, "").id;
	ok(chunk_put(txn, false, slice_of(content, sizeof(content)), &entry.id));
	entry_encode(&entry, &list);
	struct node node = { .mode = S_IFREG | 0644, .nlink = 1, .size = sizeof(content), .content_kind = CONTENT_LIST, .content = buffer_slice(&list) };
	put_node(txn, batch_draft(id), FILE_F, node);
	ok(txn_commit(txn));
	collect_all(master);
	struct batch_info info = propose(id);
	cr_expect(info.records == 1 && info.bytes > sizeof(content) && info.bytes < sizeof(content) + 200);
	struct buffer bytes = BUFFER_INIT;
	txn = begin_read(master);
	cr_expect_eq(batch_inline_make(txn, id, 32768, &bytes), -DRS_ETOOBIG, "it needs a chunk");
	cr_expect_eq(bytes.size, 0);
	txn_abort(txn);
	struct talk t = { .master = master, .slave = &slave };
	live_version(300); /* not the master's way: the base is no longer the current version */
	struct version_info version;
	txn = begin_write(master);
	cr_expect_eq(batch_commit(txn, id, &version), -DRS_ECONFLICT);
	txn_abort(txn);
	abort_batch(id);
	info = propose(id);
	ok(pull(master, &slave, false));
	t.proposed = info.proposed;
	talk_open(&t);
	while (ok(talk_step(&t)) == 1)
		;
	commit(id);
	ok(talk_commit(&t));
	talk_close(&t);
	verify_clean(slave);
	verify_clean(master);
	buffer_fini(&list);
	buffer_fini(&bytes);
}

Test(store_batch_cases, inline_it_is_what_the_version_will_be)
{
	struct buffer before = BUFFER_INIT, after = BUFFER_INIT;
	uint32_t id = batch_with_change("two");
	struct txn *txn = begin_read(master);
	cr_expect_eq(batch_inline_make(txn, id, 1000, &before), -DRS_EHORIZON, "not proposed");
	txn_abort(txn);
	struct batch_info info = propose(id);
	txn = begin_read(master);
	ok(batch_inline_make(txn, id, 1000, &before));
	cr_expect_eq(batch_inline_make(txn, id, 20, &after), -DRS_ETOOBIG);
	cr_expect_eq(delta_inline_make(txn, info.base, info.base, 1000, &after), 0, "no other delta knows of it (R3.5)");
	cr_expect_eq(delta_inline_make(txn, info.base, info.proposed, 1000, &after), -ENOENT);
	txn_abort(txn);
	struct version_info version = commit(id);
	cr_expect(version.time_ns == 77 && strcmp(version.message, "words") == 0);
	txn = begin_read(master);
	ok(delta_inline_make(txn, info.base, info.proposed, 1000, &after));
	cr_expect(buffers_equal(&before, &after));
	cr_expect_eq(node_in(txn, (struct view){ .version = version.version }, FILE_F).content_version, version.version);
	txn_abort(txn);
	buffer_fini(&before);
	buffer_fini(&after);
}

/* --- conversations */

static int open_source(version_t to, bool complete, struct delta_source **ret_source)
{
	struct buffer opening = BUFFER_INIT;
	struct txn *txn = begin_read(slave);
	ok(stage_opening(txn, complete, &opening));
	txn_abort(txn);
	int error = batch_source_open(master, to, buffer_slice(&opening), ret_source);
	buffer_fini(&opening);
	return error;
}

Test(store_batch_cases, a_proposals_source_ends_with_the_decision)
{
	struct delta_source *source;
	struct batch_info info = propose(batch_with_change("two"));
	ok(pull(master, &slave, false));
	cr_expect_eq(current_of(slave), info.base, "no pull brings a proposal (R3.5)");
	cr_expect_eq(open_source(info.proposed + 1, false, &source), -DRS_EHORIZON);
	cr_expect_eq(open_source(0, false, &source), -DRS_EHORIZON);
	cr_expect_eq(batch_source_open(master, info.proposed, text("nonsense"), &source), -DRS_EPROTOCOL);
	struct opening o = { .current = 1 };
	struct buffer foreign = BUFFER_INIT;
	opening_encode(&o, &foreign);
	cr_expect_eq(batch_source_open(master, info.proposed, buffer_slice(&foreign), &source), -DRS_EVOLUME);
	buffer_fini(&foreign);
	cr_expect_eq(open_source(info.proposed, false, &source), 0);
	struct buffer frame = BUFFER_INIT;
	cr_expect_eq(delta_source_next(source, &frame), 1);
	abort_batch(info.id);
	cr_expect_eq(delta_source_next(source, &frame), -DRS_EHORIZON, "aborted");
	propose(info.id);
	cr_expect_eq(delta_source_next(source, &frame), -DRS_EHORIZON, "and proposed under another number");
	delta_source_close(source);
	buffer_fini(&frame);
}

/* Attributes of /a/f, a kilobyte each if they are not very many. */
static void put_attributes(struct txn *txn, version_t at, int first, int count)
{
	uint8_t value[1000];
	memset(value, at < VERSION_DRAFT_FIRST ? 'l' : 'v', sizeof(value));
	for (int i = first; i < first + count; i++) {
		char name[24];
		int size = snprintf(name, sizeof(name), "user.%05d", i);
		struct record_key key = record_key_xattr(FILE_F, name, (size_t)size);
		ok(record_put(txn, at, &key, slice_of(value, count > 5000 ? 1 : sizeof(value))));
	}
}

/* A batch of some frames. */
static uint32_t large_batch(int count)
{
	struct txn *txn = begin_write(master);
	uint32_t id = begin_in(txn, "").id;
	put_attributes(txn, batch_draft(id), 0, count);
	ok(txn_commit(txn));
	return id;
}

Test(store_batch_cases, a_decision_ends_the_conversation_and_it_goes_on_by_one_phase)
{
	ok(pull(master, &slave, false));
	uint32_t id = large_batch(2000);
	struct batch_info info = propose(id);
	struct talk t = { .master = master, .slave = &slave, .proposed = info.proposed };
	talk_open(&t);
	for (int frame = 0; frame < 4; frame++)
		cr_assert_eq(ok(talk_step(&t)), 1);
	commit(id);
	cr_expect_eq(talk_step(&t), -DRS_EHORIZON);
	talk_close(&t);
	int carried = t.carried;
	cr_expect_gt(carried, 2);
	t = (struct talk){ .master = master, .slave = &slave };
	talk_open(&t);
	while (ok(talk_step(&t)) == 1)
		;
	ok(talk_commit(&t));
	talk_close(&t);
	cr_expect_leq(carried + t.carried, 10, "2 MB in frames of 256 KiB: none twice");
	struct store_state m = state_of(master), s = state_of(slave);
	cr_expect(m.current == s.current && m.digest.lo == s.digest.lo);
	verify_clean(slave);
}

Test(store_batch_cases, an_interrupted_proposal_goes_on_where_it_was)
{
	ok(pull(master, &slave, false));
	uint32_t id = large_batch(2000);
	struct batch_info info = propose(id);
	int carried = 0;
	for (int more = 1; more;) {
		struct talk t = { .master = master, .slave = &slave, .proposed = info.proposed };
		talk_open(&t);
		for (int frame = 0; frame < 3 && more; frame++)
			more = ok(talk_step(&t));
		carried += t.carried;
		talk_close(&t);
		store_close(slave);
		slave = open_in(temp_root, "slave", STORE_SLAVE);
	}
	cr_expect_leq(carried, 10);
	commit(id);
	struct talk t = { .master = master, .slave = &slave };
	talk_open(&t);
	while (ok(talk_step(&t)) == 1)
		;
	cr_expect_eq(t.carried, 0, "all was here");
	ok(talk_commit(&t));
	talk_close(&t);
	verify_clean(slave);
}

/* Stage the proposal, interrupted after every 'frames', and commit it, as a slave does that has waited at an older version. */
static int take_proposal(const struct batch_info *info, bool complete, int frames)
{
	struct talk t = { .master = master, .slave = &slave, .proposed = info->proposed, .complete = complete };
	int carried = 0;
	talk_open(&t);
	for (int frame = 1; ok(talk_step(&t)) == 1; frame++) {
		if (frame % frames)
			continue;
		carried += t.carried;
		talk_close(&t);
		store_close(slave);
		slave = open_in(temp_root, "slave", STORE_SLAVE);
		t.carried = 0;
		talk_open(&t);
	}
	carried += t.carried;
	commit(info->id);
	ok(talk_commit(&t));
	talk_close(&t);
	struct store_state m = state_of(master), s = state_of(slave);
	cr_expect(m.current == s.current && m.digest.lo == s.digest.lo && m.nodes == s.nodes);
	verify_clean(slave);
	return carried;
}

static void two_versions_more(void)
{
	LIVE(put_node(txn, at, FILE_F, file_node(at, "live")); put_node(txn, at, 20, file_node(at, "new")); put_node(txn, at, 21, file_node(at, "newer"));
	     put_name(txn, at, DIR_B, "new", 20, DT_REG); put_name(txn, at, DIR_B, "newer", 21, DT_REG));
	LIVE(delete_key(txn, at, name_of(txn, DIR_B, "newer")); delete_key(txn, at, record_key_node(21)); put_node(txn, at, 20, file_node(at, "newest")));
}

/* R4.2: who waits at an older version, since a check of his did not accept what came after, gets the proposal from there. */
Test(store_batch_cases, a_proposal_may_be_had_from_an_older_version)
{
	ok(pull(master, &slave, false));
	two_versions_more();
	struct batch_info info = propose(batch_with_change("two"));
	cr_expect_eq(take_proposal(&info, false, 100), 1, "all of it in one frame, what the batch has changed once");
	struct txn *txn = begin_read(slave);
	cr_expect_eq(node_in(txn, (struct view){ .version = info.proposed }, FILE_F).size, strlen("two"));
	cr_expect_eq(node_in(txn, (struct view){ .version = info.proposed }, 20).size, strlen("newest"));
	txn_abort(txn);
}

Test(store_batch_cases, interrupted_between_what_lies_before_and_the_proposal_it_goes_on)
{
	ok(pull(master, &slave, false));
	LIVE(put_attributes(txn, at, 0, 1000));
	LIVE(put_attributes(txn, at, 500, 1000));
	struct txn *txn = begin_write(master);
	uint32_t id = begin_in(txn, "").id;
	put_attributes(txn, batch_draft(id), 250, 1000);
	ok(txn_commit(txn));
	struct batch_info info = propose(id);
	cr_expect_leq(take_proposal(&info, false, 3), 9, "1.5 MB in frames of 256 KiB, one that ends early: none twice");
}

/* Where no delta leads from: the horizon has passed it, it has nothing, or is to heal. */
Test(store_batch_cases, a_proposal_may_be_had_as_a_complete_copy)
{
	struct batch_info info = propose(batch_with_change("two"));
	take_proposal(&info, false, 3);
	two_versions_more();
	uint32_t id = large_batch(1000);
	info = propose(id);
	cr_expect_leq(take_proposal(&info, true, 3), 6);
	two_versions_more();
	struct txn *txn = begin_write(master);
	bool done = false;
	while (!done)
		ok(retire_step(txn, txn_state(txn)->current, 1000, NULL, NULL, &done));
	ok(txn_commit(txn));
	info = propose(batch_with_change("three"));
	take_proposal(&info, false, 3);
}

Test(store_batch_cases, an_aborted_number_is_not_resumed)
{
	ok(pull(master, &slave, false));
	uint32_t id = large_batch(300);
	struct batch_info info = propose(id);
	struct talk t = { .master = master, .slave = &slave, .proposed = info.proposed };
	talk_open(&t);
	while (ok(talk_step(&t)) == 1)
		;
	talk_close(&t);
	cr_expect_eq(state_of(slave).pending, info.proposed);
	abort_batch(id);
	LIVE(put_node(txn, at, FILE_F, file_node(at, "live")));
	ok(pull(master, &slave, false));
	cr_expect_eq(current_of(slave), info.proposed + 1);
	struct store_state s = state_of(slave);
	cr_expect(s.pending == 0 && s.stage.to == 0 && s.digest.lo == state_of(master).digest.lo);
	verify_clean(slave);
}

/* --- the stage */

static int feed_inline(struct stage *stage, struct slice bytes)
{
	int error;
	do {
		struct txn *txn = begin_write(slave);
		error = stage_inline(stage, txn, bytes);
		if (error && error != -EAGAIN)
			txn_abort(txn);
		else
			ok(txn_commit(txn));
	} while (error == -EAGAIN);
	return error;
}

Test(store_batch_cases, a_whole_delta_is_staged_and_shown_to_nobody)
{
	struct buffer bytes = BUFFER_INIT;
	struct stage *stage;
	ok(pull(master, &slave, false));
	uint32_t big = large_batch(12000), id = batch_with_change("two");
	struct batch_info info = propose(big);
	struct talk t = { .master = master, .slave = &slave, .proposed = info.proposed };
	talk_open(&t);
	while (ok(talk_step(&t)) == 1)
		;
	talk_close(&t);
	abort_batch(big);

	info = propose(id);
	struct txn *txn = begin_read(master);
	ok(batch_inline_make(txn, id, 1000, &bytes));
	txn_abort(txn);
	ok(stage_new(slave, &stage));
	cr_expect_eq(feed_inline(stage, text("nonsense")), -DRS_EPROTOCOL);
	bytes.data[bytes.size - 3] ^= 1; /* content, perhaps */
	cr_expect_lt(feed_inline(stage, buffer_slice(&bytes)), 0);
	bytes.data[bytes.size - 3] ^= 1;
	bytes.data[4] ^= 1; /* the digest */
	cr_expect_eq(feed_inline(stage, buffer_slice(&bytes)), -DRS_EDIGEST);
	bytes.data[4] ^= 1;
	txn = begin_write(slave);
	cr_expect_not(stage_ready(stage, txn));
	txn_abort(txn);
	cr_expect_eq(feed_inline(stage, buffer_slice(&bytes)), 0, "after dropping 12000 records in parts");
	struct store_state s = state_of(slave);
	cr_expect(s.current == info.base && s.pending == info.proposed && s.stage.records_done);
	cr_expect_eq(feed_inline(stage, buffer_slice(&bytes)), 0, "again");
	struct version_info version;
	txn = begin_write(slave);
	cr_expect(stage_ready(stage, txn));
	cr_expect_eq(stage_check(stage, txn), 0);
	cr_expect_eq(node_in(txn, (struct view){ .version = info.proposed }, FILE_F).size, 3, "a check may look at it");
	cr_expect_eq(node_in(txn, (struct view){ .version = txn_state(txn)->current }, FILE_F).size, 3);
	ok(stage_commit(stage, txn, &version));
	ok(txn_commit(txn));
	cr_expect(version.version == info.proposed && version.time_ns == 77 && strcmp(version.message, "words") == 0);
	cr_expect_eq(feed_inline(stage, buffer_slice(&bytes)), -DRS_EHORIZON, "it does not start here any more");
	verify_clean(slave);
	stage_free(stage);
	buffer_fini(&bytes);
}

/* --- the decision */

Test(store_batch_cases, a_commit_is_merged_with_what_is_pending)
{
	uint32_t id;
	BATCH(id, put_node(txn, at, 50, file_node(stamp, "mine")); put_name(txn, at, DIR_A, "mine", 50, DT_REG);
	      put_node(txn, at, DIR_A, dir_node(INO_ROOT, 2, 210)); put_node(txn, at + 1, 52, file_node(stamp, "waits")));
	struct batch_info info = propose(id);
	struct txn *txn = begin_write(master);
	version_t at = version_begin(txn);
	cr_expect_gt(at, info.proposed);
	put_node(txn, at, 60, dir_node(DIR_A, 2, 220));
	put_name(txn, at, DIR_A, "theirs", 60, DT_DIR);
	put_node(txn, at, DIR_A, dir_node(INO_ROOT, 3, 220));
	ok(txn_commit(txn));
	commit(id);
	txn = begin_write(master);
	cr_expect_eq(node_in(txn, (struct view){ .version = info.proposed }, DIR_A).nlink, 2);
	cr_expect_eq(node_in(txn, (struct view){ .version = at }, DIR_A).nlink, 3);
	struct record_key waits = record_key_node(52);
	cr_expect_not(record_exists_at(txn, batch_waiting(id), &waits, NULL));
	seal(txn, "live");
	cr_expect_eq(current_of(master), at);
	ok(pull(master, &slave, false));
	verify_clean(master);
	verify_clean(slave);
	cr_expect_eq(state_of(master).digest.lo, state_of(slave).digest.lo);
}

Test(store_batch_cases, a_commit_that_the_live_tree_stands_in_the_way_of_writes_nothing)
{
	uint32_t id = batch_with_change("mine");
	struct batch_info info = propose(id);
	struct version_info version;
	struct txn *txn = begin_write(master);
	put_node(txn, version_begin(txn), FILE_F, file_node(version_begin(txn), "theirs"));
	cr_expect_eq(batch_commit(txn, id, &version), -DRS_ECONFLICT);
	ok(batch_abort(txn, id, "no"));
	seal(txn, "live");
	cr_expect_eq(current_of(master), info.proposed + 1);
	verify_clean(master);
	expect_conflict(id, record_key_node(FILE_F));
}

Test(store_batch_cases, a_batch_that_moves_a_directory_says_so)
{
	uint32_t id;
	BATCH(id, delete_key(txn, at, name_of(txn, INO_ROOT, "a")); put_name(txn, at, DIR_B, "a", DIR_A, DT_DIR);
	      put_node(txn, at, DIR_A, dir_node(DIR_B, 2, 210)); put_node(txn, at, DIR_B, dir_node(INO_ROOT, 3, 210));
	      put_node(txn, at, INO_ROOT, dir_node(INO_ROOT, 3, 210)));
	cr_expect(propose(id).moves);
	struct txn *txn = begin_read(master);
	struct batch_info info;
	ok(batch_get(txn, id, &info));
	cr_expect(info.moves);
	txn_abort(txn);
	abort_batch(id);
	cr_expect(propose(id).moves);
	commit(id);
	cr_expect_not(propose(batch_with_change("x")).moves);
	verify_clean(master);
}

/* --- history, retention, room */

Test(store_batch_cases, aborted_numbers_are_history_but_no_versions)
{
	uint32_t id = batch_with_change("two");
	struct version_info info;
	version_t aborted = propose(id).proposed;
	abort_batch(id);
	struct txn *txn = begin_read(master);
	cr_expect(version_newest(txn, VERSION_MAX, &info) == 0 && info.version == aborted && info.state == VERSION_ABORTED);
	cr_expect(strcmp(info.message, "why not") == 0 && info.previous == 1);
	cr_expect(version_newest(txn, aborted - 1, &info) == 0 && info.version == 1);
	cr_expect_eq(version_next(txn, 1, &info), -ENOENT);
	txn_abort(txn);
	live_version(400);
	txn = begin_read(master);
	cr_expect(version_next(txn, 1, &info) == 0 && info.version == aborted + 1 && info.previous == 1);
	txn_abort(txn);
	verify_clean(master);
	for (bool done = false; !done;) {
		txn = begin_write(master);
		ok(batch_drop(txn, id, 100, &done));
		ok(txn_commit(txn));
	}
	retire_all(master, aborted);
	cr_expect_eq(state_of(master).horizon, 1, "no version to read");
	verify_clean(master);
	retire_all(master, aborted + 1);
	txn = begin_read(master);
	cr_expect_eq(version_get(txn, aborted, &info), -ENOENT);
	txn_abort(txn);
	verify_clean(master);
}

Test(store_batch_cases, retention_keeps_the_bases_of_batches)
{
	uint32_t id = batch_with_change("two");
	struct txn *txn = begin_read(master);
	cr_expect_eq(batch_horizon(txn), 1);
	txn_abort(txn);
	for (int i = 0; i < 3; i++)
		live_version(400 + i);
	retire_all(master, current_of(master));
	cr_expect_eq(state_of(master).horizon, 1);
	txn = begin_read(master);
	cr_expect_eq(node_in(txn, (struct view){ .version = 1, .draft = batch_draft(id) }, DIR_B).ctime.seconds, 100);
	txn_abort(txn);
	propose(id);
	retire_all(master, current_of(master));
	cr_expect_eq(state_of(master).horizon, current_of(master), "the base moved on");
	commit(id);
	retire_all(master, current_of(master));
	cr_expect_eq(state_of(master).horizon, current_of(master));
	txn = begin_read(master);
	cr_expect_eq(batch_horizon(txn), VERSION_MAX);
	txn_abort(txn);
	verify_clean(master);
}

static void find(void *user, const char *words)
{
	strncat(user, words, 200);
}

static void expect_finding(const char *words)
{
	char all[2000] = "";
	cr_expect_gt(ok(store_verify(master, find, NULL, all)), 0);
	cr_expect(strstr(all, words) != NULL, "'%s' is not in: %s", words, all);
}

Test(store_batch_cases, verification_knows_batches)
{
	uint8_t row[ROW_KEY_BYTES_MAX];
	uint32_t id = batch_with_change("two");
	verify_clean(master);
	struct txn *txn = begin_write(master);
	struct record_key key = record_key_xattr(FILE_F, "user.a", 6);
	ok(record_put(txn, batch_draft(id + 5), &key, text("orphan")));
	ok(txn_commit(txn));
	expect_finding("which is not known");
	txn = begin_write(master);
	ok(record_drop(txn, batch_draft(id + 5), &key));
	ok(row_put(txn, slice_of(row, change_row_key(row, batch_draft(id), NULL)), text("nonsense")));
	ok(txn_commit(txn));
	expect_finding("does not decode");
	store_close(master);
	char dir[128];
	snprintf(dir, sizeof(dir), "%s/master", temp_root);
	cr_expect_eq(store_open(&(struct store_options){ .dir = dir }, &master), -DRS_ECORRUPT);
	master = NULL;
}
