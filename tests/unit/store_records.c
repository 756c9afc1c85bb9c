/* Opening, transactions, records in views and drafts, cursors, versions' history, held readers, chunks' counts. */
#include "store_lib.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static struct store *store;

static void setup(void)
{
	random_init(1);
	temp_make();
	store = open_master("master");
}

static void teardown(void)
{
	store_close(store);
	temp_remove();
}

TestSuite(store_records, .init = setup, .fini = teardown, .timeout = 30);

static struct slice text(const char *s)
{
	return slice_of(s, strlen(s));
}

static struct record_key xattr(ino_id ino, const char *name)
{
	return record_key_xattr(ino, name, strlen(name));
}

static bool reads(struct txn *txn, struct view view, const struct record_key *key, const char *expected)
{
	struct slice value;
	int error = record_get(txn, view, key, &value, NULL);
	if (!expected)
		return error == -ENOENT;
	return error == 0 && value.size == strlen(expected) && memcmp(value.data, expected, value.size) == 0;
}

static version_t seal(struct txn *txn)
{
	struct version_info info;
	version_begin(txn);
	ok(version_seal(txn, 42, "why", &info));
	return info.version;
}

/* --- opening */

static int try_open(const char *name, struct store_options options)
{
	char dir[128];
	struct store *other = NULL;
	snprintf(dir, sizeof(dir), "%s/%s", temp_root, name);
	options.dir = dir;
	int error = store_open(&options, &other);
	store_close(other);
	return error;
}

Test(store_records, opening_says_what_is_wrong)
{
	cr_expect_eq(try_open("none", (struct store_options){ .role = STORE_MASTER }), -DRS_ENOSTORE);
	cr_expect_eq(try_open("none", (struct store_options){ .role = STORE_MASTER, .read_only = true }), -DRS_ENOSTORE);
	cr_expect_eq(try_open("master", (struct store_options){ .role = STORE_MASTER }), -DRS_ELOCKED);
	store_close(store);
	cr_expect_eq(try_open("master", (struct store_options){ .role = STORE_SLAVE, .create = true }), -DRS_EROLE);
	cr_expect_eq(try_open("master", (struct store_options){ .role = STORE_MASTER, .read_only = true }), 0);
	cr_expect_eq(try_open("master", (struct store_options){ .role = STORE_MASTER, .map_bytes = (size_t)1 << 30 }), 0);
	store = open_master("master");
}

Test(store_records, a_file_that_is_no_store_is_refused)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/other", temp_root);
	cr_assert_eq(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/other/data.mdb", temp_root);
	FILE *f = fopen(path, "w");
	for (int i = 0; i < 20000; i++)
		fputc(i & 0xff, f);
	fclose(f);
	cr_expect_eq(try_open("other", (struct store_options){ .role = STORE_MASTER, .create = true }), -DRS_EFORMAT);
}

Test(store_records, a_store_cut_short_is_damaged)
{
	char path[128];
	struct txn *txn = begin_write(store);
	static uint8_t bytes[50000];
	struct chunk_id id;
	ok(chunk_put(txn, false, slice_of(bytes, sizeof(bytes)), &id));
	ok(txn_commit(txn));
	store_close(store);
	snprintf(path, sizeof(path), "%s/master/data.mdb", temp_root);
	cr_assert_eq(truncate(path, 3 * 4096), 0);
	cr_expect_eq(try_open("master", (struct store_options){ .role = STORE_MASTER }), -DRS_ECORRUPT);
	store = NULL;
}

Test(store_records, a_slave_joins_one_volume)
{
	struct store *slave = open_slave("slave", store), *again;
	struct store_state m = state_of(store), s = state_of(slave);
	struct did other = { { 9 } };
	uint8_t secret[16] = { 1 };
	cr_expect(memcmp(&m.did, &s.did, sizeof(m.did)) == 0 && memcmp(m.secret, s.secret, 16) == 0);
	cr_expect_eq(store_join(slave, &m.did, m.secret), 0);
	cr_expect_eq(store_join(slave, &other, secret), -DRS_EVOLUME);
	store_close(slave);
	again = open_in(temp_root, "slave", STORE_SLAVE);
	cr_expect_eq(store_join(again, &other, secret), -DRS_EVOLUME);
	store_close(again);
}

/* --- transactions */

Test(store_records, readers_see_what_was_committed_when_they_began)
{
	struct record_key key = xattr(7, "user.a");
	struct txn *reader = begin_read(store), *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	version_t v = seal(txn);
	ok(txn_commit(txn));
	cr_expect(reads(reader, (struct view){ .version = v }, &key, NULL));
	cr_expect_eq(txn_state(reader)->current, 0);
	txn_park(reader);
	ok(txn_resume(reader));
	cr_expect(reads(reader, (struct view){ .version = v }, &key, "one"));
	cr_expect_eq(txn_state(reader)->current, v);
	txn_abort(reader);
}

Test(store_records, a_cursor_may_be_freed_after_its_transaction_and_placed_again_after_parking)
{
	struct record_cursor *cursor;
	struct record_key key = xattr(7, "user.a"), found;
	struct slice value;
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	ok(record_cursor_new(txn, (struct view){ .version = 1 }, &cursor));
	ok(txn_commit(txn));
	record_cursor_free(cursor);

	struct txn *reader = begin_read(store);
	ok(record_cursor_new(reader, (struct view){ .version = 1 }, &cursor));
	cr_expect_eq(record_cursor_next(cursor, &found, &value, NULL), 1);
	txn_park(reader);
	ok(txn_resume(reader));
	ok(record_cursor_seek(cursor, slice_of(NULL, 0)));
	cr_expect_eq(record_cursor_next(cursor, &found, &value, NULL), 1);
	cr_expect_eq(record_cursor_next(cursor, &found, &value, NULL), 0);
	cr_expect_eq(record_cursor_next(cursor, &found, &value, NULL), 0);
	txn_abort(reader);
	record_cursor_free(cursor);
}

Test(store_records, an_aborted_transaction_leaves_nothing)
{
	struct record_key key = xattr(7, "user.a");
	struct store_state before = state_of(store);
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	record_next_ino(txn);
	txn_abort(txn);
	struct store_state after = state_of(store);
	cr_expect_eq(after.assigned, before.assigned);
	cr_expect_eq(after.ino_last, before.ino_last);
}

/* --- keys */

Test(store_records, keys_are_taken_apart_and_checked)
{
	struct txn *txn = begin_read(store);
	char long_name[NAME_BYTES_MAX];
	memset(long_name, 'n', sizeof(long_name));
	struct record_key keys[] = {
		record_key_node(5),
		record_key_name(txn, 5, "a", 1),
		record_key_name(txn, 5, long_name, sizeof(long_name)),
		record_key_xattr(5, "user.x", 6),
	};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct record_key k = keys[i];
		cr_expect(record_key_valid(slice_of(k.bytes, k.size)));
		cr_expect_eq(record_key_ino(&k), 5);
		cr_expect_not(record_key_valid(slice_of(k.bytes, k.size - 1u)));
		if (k.size < RECORD_KEY_BYTES_MAX) {
			k.bytes[k.size++] = 0;
			cr_expect_not(record_key_valid(slice_of(k.bytes, k.size)));
			k = keys[i];
		}
		k.bytes[8] = '?';
		cr_expect_not(record_key_valid(slice_of(k.bytes, k.size)));
	}
	cr_expect_eq(record_key_text(&keys[2]).size, NAME_BYTES_MAX);
	cr_expect_eq(record_key_text(&keys[0]).size, 0);
	cr_expect_geq(record_key_cookie(&keys[1]), NAME_COOKIE_FIRST);
	static const char *const bad[] = { ".", "..", "a/b" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct record_key k = record_key_name(txn, 5, bad[i], strlen(bad[i]));
		cr_expect_not(record_key_valid(slice_of(k.bytes, k.size)));
	}
	txn_abort(txn);
}

Test(store_records, names_are_coded)
{
	static const ino_id inos[] = { 1, 127, 128, (ino_id)1 << 40, UINT64_MAX };
	for (size_t i = 0; i < ARRAY_SIZE(inos); i++) {
		uint8_t bytes[16], type;
		size_t size;
		ino_id child;
		name_encode(inos[i], DT_REG, bytes, &size);
		cr_expect_eq(name_decode(slice_of(bytes, size), &child, &type), 0);
		cr_expect(child == inos[i] && type == DT_REG);
		cr_expect_eq(name_decode(slice_of(bytes, size - 1), &child, &type), -DRS_ECORRUPT);
	}
}

/* --- views and drafts */

Test(store_records, views_choose_among_versions_and_drafts)
{
	const version_t draft = VERSION_DRAFT, other = VERSION_DRAFT_FIRST;
	struct record_key key = xattr(7, "user.a"), next = xattr(7, "user.b");
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	ok(record_put(txn, version_begin(txn), &next, text("next")));
	version_t v1 = seal(txn);
	ok(record_put(txn, version_begin(txn), &key, text("two")));
	version_t v2 = seal(txn);
	ok(record_delete(txn, version_begin(txn), &key));
	version_t v3 = seal(txn);
	ok(record_put(txn, draft, &key, text("draft")));
	ok(record_put(txn, other, &key, text("other")));
	ok(record_delete(txn, draft, &next));

	cr_expect(reads(txn, (struct view){ .version = v1 }, &key, "one"));
	cr_expect(reads(txn, (struct view){ .version = v2 }, &key, "two"));
	cr_expect(reads(txn, (struct view){ .version = v3 }, &key, NULL));
	cr_expect(reads(txn, (struct view){ .version = v1, .draft = draft }, &key, "draft"));
	cr_expect(reads(txn, (struct view){ .version = v1, .draft = other }, &key, "other"));
	cr_expect(reads(txn, (struct view){ .version = v1, .draft = other + 1 }, &key, "one"));
	cr_expect(reads(txn, (struct view){ .version = v1, .draft = draft }, &next, NULL));
	cr_expect(reads(txn, (struct view){ .version = v1, .draft = other }, &next, "next"));

	struct buffer seen = BUFFER_INIT, expected = BUFFER_INIT;
	dump_view(txn, (struct view){ .version = v1, .draft = other }, &seen);
	dump_record(&expected, &key, text("other"));
	dump_record(&expected, &next, text("next"));
	cr_expect(buffers_equal(&seen, &expected));
	buffer_clear(&expected);
	dump_view(txn, (struct view){ .version = v1, .draft = draft }, &seen);
	dump_record(&expected, &key, text("draft"));
	cr_expect(buffers_equal(&seen, &expected));

	ok(record_drop(txn, draft, &key));
	ok(record_drop(txn, draft, &key));
	cr_expect(reads(txn, (struct view){ .version = v2, .draft = draft }, &key, "two"));
	bool tombstone = false;
	cr_expect(record_exists_at(txn, draft, &next, &tombstone) && tombstone);
	cr_expect_not(record_exists_at(txn, draft, &key, &tombstone));
	cr_expect_eq(record_delete(txn, draft, &next), -ENOENT);
	txn_abort(txn);
	buffer_fini(&seen);
	buffer_fini(&expected);
}

Test(store_records, drafts_are_in_no_digest_and_gone_when_the_store_is_opened_again)
{
	struct record_key key = xattr(7, "user.a"), node = record_key_node(9);
	struct buffer bytes = BUFFER_INIT, list = BUFFER_INIT;
	struct entry entry = { .kind = ENTRY_DATA, .length = 5 };
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	version_t v = seal(txn);
	struct digest digest = txn_state(txn)->digest;
	ok(chunk_put(txn, false, text("bytes"), &entry.id));
	entry_encode(&entry, &list);
	struct node n = { .mode = S_IFREG | 0600, .nlink = 1, .size = 5, .content_kind = CONTENT_LIST, .content = buffer_slice(&list) };
	node_encode(&n, &bytes);
	ok(record_put(txn, VERSION_DRAFT, &node, buffer_slice(&bytes)));
	ok(record_delete(txn, VERSION_DRAFT, &key));
	cr_expect_eq(version_begin(txn), v + 1);
	cr_expect_not(version_dirty(txn));
	cr_expect(memcmp(&txn_state(txn)->pending_digest, &digest, sizeof(digest)) == 0);
	ok(txn_commit(txn));
	txn = begin_read(store);
	cr_expect(chunk_exists(txn, &entry.id));
	txn_abort(txn);

	store_close(store);
	store = open_master("master");
	cr_expect_eq(state_of(store).pending, v + 1);
	txn = begin_write(store);
	cr_expect(reads(txn, (struct view){ .version = v, .draft = VERSION_DRAFT }, &key, "one"));
	cr_expect_not(record_exists_at(txn, VERSION_DRAFT, &node, NULL));
	bool more;
	ok(chunk_collect(txn, 100, &more));
	cr_expect_not(chunk_exists(txn, &entry.id));
	bool done;
	ok(version_drop(txn, 1, &done));
	cr_expect(done && !txn_state(txn)->pending);
	ok(txn_commit(txn));
	cr_expect_eq(store_verify(store, verify_print, NULL, NULL), 1, "but for the attribute of no node, all is well");
	buffer_fini(&bytes);
	buffer_fini(&list);
}

Test(store_records, what_returns_to_nothing_leaves_no_trace)
{
	struct record_key key = xattr(7, "user.a");
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	ok(record_delete(txn, version_begin(txn), &key));
	cr_expect_not(version_dirty(txn));
	cr_expect_not(record_exists_at(txn, version_begin(txn), &key, NULL));
	cr_expect_eq(record_delete(txn, version_begin(txn), &key), -ENOENT);
	cr_expect_eq(txn_state(txn)->pending_digest.lo, 0);
	cr_expect_eq(txn_state(txn)->pending_bytes, 0);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	seal(txn);
	ok(record_put(txn, version_begin(txn), &key, text("one")));
	cr_expect_not(version_dirty(txn));
	txn_abort(txn);
}

Test(store_records, a_value_may_come_from_the_store_itself)
{
	struct record_key from = xattr(7, "user.a"), to = xattr(3, "user.a");
	struct slice value;
	char long_text[1800];
	memset(long_text, 'x', sizeof(long_text));
	struct txn *txn = begin_write(store);
	for (int i = 0; i < 50; i++) {
		struct record_key key = xattr((ino_id)(10 + i), "user.fill");
		ok(record_put(txn, version_begin(txn), &key, slice_of(long_text, 500)));
	}
	ok(record_put(txn, VERSION_DRAFT, &from, slice_of(long_text, sizeof(long_text))));
	ok(record_get(txn, (struct view){ .version = 0, .draft = VERSION_DRAFT }, &from, &value, NULL));
	ok(record_put(txn, version_begin(txn), &to, value));
	ok(record_get(txn, (struct view){ .version = version_begin(txn) }, &to, &value, NULL));
	cr_expect(value.size == sizeof(long_text) && memcmp(value.data, long_text, value.size) == 0);
	txn_abort(txn);
}

/* --- walking */

Test(store_records, a_directory_is_walked_from_any_cookie)
{
	struct txn *txn = begin_write(store);
	struct record_cursor *cursor;
	struct record_key key;
	struct slice value;
	uint8_t bytes[16];
	size_t size;
	for (ino_id dir = 4; dir <= 6; dir++) {
		for (int i = 0; i < 200; i++) {
			char name[16];
			int n = snprintf(name, sizeof(name), "n%d", i);
			key = record_key_name(txn, dir, name, (size_t)n);
			name_encode(100 + (ino_id)i, DT_REG, bytes, &size);
			ok(record_put(txn, version_begin(txn), &key, slice_of(bytes, size)));
		}
		struct record_key node = xattr(dir, "user.x");
		ok(record_put(txn, version_begin(txn), &node, text("x")));
	}
	ok(record_cursor_new(txn, (struct view){ .version = version_begin(txn) }, &cursor));
	uint64_t cookie = 0;
	int seen = 0;
	for (;;) {
		struct record_key prefix = record_prefix_names(5, cookie);
		ok(record_cursor_seek(cursor, slice_of(prefix.bytes, prefix.size)));
		int in_reply = 0;
		while (record_cursor_next(cursor, &key, &value, NULL) == 1 && in_reply < 7) {
			if (record_key_ino(&key) != 5 || record_key_kind(&key) != RECORD_NAME)
				break;
			cr_assert_geq(record_key_cookie(&key), cookie);
			cookie = record_key_cookie(&key) + 1;
			seen++;
			in_reply++;
		}
		if (!in_reply)
			break;
	}
	cr_expect_eq(seen, 200);
	struct record_key prefix = record_prefix_xattrs(5);
	ok(record_cursor_seek(cursor, slice_of(prefix.bytes, prefix.size)));
	cr_expect_eq(record_cursor_next(cursor, &key, &value, NULL), 1);
	cr_expect(record_key_kind(&key) == RECORD_XATTR && record_key_ino(&key) == 5);
	record_cursor_free(cursor);
	txn_abort(txn);
}

Test(store_records, old_views_pass_over_many_newer_versions)
{
	struct record_key hot = xattr(7, "user.hot"), last = xattr(8, "user.last");
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &last, text("last")));
	for (int i = 0; i < 300; i++) {
		char value[16];
		snprintf(value, sizeof(value), "%d", i);
		ok(record_put(txn, version_begin(txn), &hot, text(value)));
		seal(txn);
	}
	struct buffer seen = BUFFER_INIT, expected = BUFFER_INIT;
	for (version_t v = 1; v <= 300; v += 37) {
		char value[16];
		snprintf(value, sizeof(value), "%d", (int)v - 1);
		dump_view(txn, (struct view){ .version = v }, &seen);
		buffer_clear(&expected);
		dump_record(&expected, &hot, text(value));
		dump_record(&expected, &last, text("last"));
		cr_expect(buffers_equal(&seen, &expected));
	}
	txn_abort(txn);
	buffer_fini(&seen);
	buffer_fini(&expected);
}

/* --- versions */

Test(store_records, numbers_are_never_used_twice) /* R1.1 */
{
	struct record_key key = xattr(7, "user.a");
	struct txn *txn = begin_write(store);
	bool done;
	version_t dropped = version_begin(txn);
	ok(record_put(txn, dropped, &key, text("one")));
	ok(version_drop(txn, 10, &done));
	cr_expect(done);
	cr_expect_eq(version_seal(txn, 1, NULL, NULL), -EINVAL);
	ok(txn_commit(txn));
	store_close(store);
	store = open_master("master");
	txn = begin_write(store);
	cr_expect_gt(version_begin(txn), dropped);
	txn_abort(txn);
}

Test(store_records, history_is_found_from_any_number)
{
	struct record_key key = xattr(7, "user.a"), other = xattr(7, "user.b");
	struct version_info info;
	bool done;
	struct txn *txn = begin_write(store);
	ok(record_put(txn, version_begin(txn), &key, text("1")));
	seal(txn);
	ok(record_put(txn, version_begin(txn), &key, text("2")));
	ok(version_drop(txn, 10, &done)); /* 2 is spent */
	ok(record_put(txn, version_begin(txn), &key, text("3")));
	ok(record_put(txn, version_begin(txn), &other, text("3")));
	seal(txn);
	ok(record_put(txn, version_begin(txn), &key, text("4"))); /* pending */
	ok(record_put(txn, VERSION_DRAFT, &key, text("draft")));
	cr_expect_eq(version_newest(txn, VERSION_MAX, &info), 0);
	cr_expect(info.version == 3 && info.previous == 1 && info.records == 2 && info.time_ns == 42 && strcmp(info.message, "why") == 0);
	cr_expect_eq(version_newest(txn, 2, &info), 0);
	cr_expect_eq(info.version, 1);
	cr_expect_eq(version_newest(txn, 0, &info), -ENOENT);
	cr_expect_eq(version_next(txn, 0, &info), 0);
	cr_expect_eq(info.version, 1);
	cr_expect_eq(version_next(txn, 1, &info), 0);
	cr_expect_eq(info.version, 3);
	cr_expect_eq(version_next(txn, 3, &info), -ENOENT);
	cr_expect_eq(version_get(txn, 2, &info), -ENOENT);
	struct record_key changed = { .size = 0 };
	cr_expect_eq(version_change_next(txn, 3, &changed), 1);
	cr_expect(model_compare(&changed, &key) == 0);
	cr_expect_eq(version_change_next(txn, 3, &changed), 1);
	cr_expect(model_compare(&changed, &other) == 0);
	cr_expect_eq(version_change_next(txn, 3, &changed), 0);
	txn_abort(txn);
}

/* --- retention */

static bool held_by_reader(void *user, ino_id ino, version_t content_version, version_t from, version_t until)
{
	return *(bool *)user && ino == 20 && content_version == 1 && from == 1 && until == 2;
}

Test(store_records, content_in_use_outlives_the_horizon)
{
	struct record_key key = record_key_node(20);
	struct buffer bytes = BUFFER_INIT;
	struct slice value;
	struct node n = { .mode = S_IFREG | 0600, .nlink = 1, .content_kind = CONTENT_INLINE, .content_version = 1, .content = text("a"), .size = 1 };
	bool held = true, done;
	struct txn *txn = begin_write(store);
	node_encode(&n, &bytes);
	ok(record_put(txn, version_begin(txn), &key, buffer_slice(&bytes)));
	seal(txn);
	n.content_version = 2;
	buffer_clear(&bytes);
	node_encode(&n, &bytes);
	ok(record_put(txn, version_begin(txn), &key, buffer_slice(&bytes)));
	seal(txn);
	ok(record_delete(txn, version_begin(txn), &key));
	seal(txn);
	ok(retire_step(txn, 3, 100, held_by_reader, &held, &done));
	cr_expect(done && txn_state(txn)->horizon == 3);
	cr_expect_eq(record_get(txn, (struct view){ .version = 1 }, &key, &value, NULL), 0);
	cr_expect_eq(record_get(txn, (struct view){ .version = 3 }, &key, &value, NULL), -ENOENT);
	cr_expect_not(record_exists_at(txn, 2, &key, NULL));
	ok(txn_commit(txn));
	verify_clean(store);
	txn = begin_write(store);
	held = false;
	ok(retire_step(txn, 0, 100, held_by_reader, &held, &done));
	cr_expect_eq(record_get(txn, (struct view){ .version = 3 }, &key, &value, NULL), -ENOENT);
	for (version_t v = 1; v <= 3; v++)
		cr_expect_not(record_exists_at(txn, v, &key, NULL));
	txn_abort(txn);
	buffer_fini(&bytes);
}

/* --- chunks */

Test(store_records, equal_chunks_are_stored_once_and_counted)
{
	struct chunk_id a, b, list_id, none = { { 1 } };
	struct slice bytes;
	bool more;
	struct txn *txn = begin_write(store);
	ok(chunk_put(txn, false, text("chunk"), &a));
	ok(chunk_put(txn, false, text("chunk"), &b));
	cr_expect(memcmp(&a, &b, sizeof(a)) == 0);
	cr_expect_eq(chunk_get(txn, &a, true, &bytes), -DRS_ECORRUPT);
	cr_expect_eq(chunk_get(txn, &none, false, &bytes), -ENOENT);
	cr_expect_eq(chunk_check(txn, &a, false, &bytes), 0);
	cr_expect(bytes.size == 5 && memcmp(bytes.data, "chunk", 5) == 0);

	struct buffer list = BUFFER_INIT;
	struct entry entry = { .kind = ENTRY_DATA, .length = 5, .id = a };
	entry_encode(&entry, &list);
	ok(chunk_put(txn, true, buffer_slice(&list), &list_id));
	ok(txn_commit(txn)); /* nothing counts the list: garbage */

	txn = begin_write(store);
	ok(chunk_put(txn, true, buffer_slice(&list), &b)); /* found again: not to be collected under our hands */
	ok(chunk_collect(txn, 100, &more));
	cr_expect(chunk_exists(txn, &list_id));
	ok(txn_commit(txn));

	txn = begin_write(store);
	ok(chunk_collect(txn, 1, &more));
	cr_expect_not(chunk_exists(txn, &list_id));
	cr_expect(more && chunk_exists(txn, &a)); /* the list gave its entry up */
	ok(chunk_collect(txn, 1, &more));
	cr_expect_not(more || chunk_exists(txn, &a));
	ok(txn_commit(txn));
	verify_clean(store);
	buffer_fini(&list);
}

Test(store_records, wants_come_and_go)
{
	struct buffer list = BUFFER_INIT;
	struct chunk_id ids[4], id;
	struct txn *txn = begin_write(store);
	ok(chunk_put(txn, false, text("gone"), &id));
	txn_abort(txn); /* only its id is kept */

	txn = begin_write(store);
	struct entry entries[] = { { ENTRY_DATA, 4, id }, { ENTRY_HOLE, 9, { { 0 } } }, { ENTRY_DATA, 7, { { 200 } } } };
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		entry_encode(&entries[i], &list);
	ok(chunk_ref_list(txn, buffer_slice(&list), 1));
	cr_expect_eq(chunk_wants(txn, NULL, ids, 4), 2);
	cr_expect_eq(chunk_wants(txn, &ids[0], &ids[2], 2), 1);
	cr_expect(memcmp(&ids[1], &ids[2], sizeof(id)) == 0);
	cr_expect_eq(chunk_wants(txn, &ids[1], ids, 4), 0);
	ok(chunk_put(txn, false, text("gone"), &id));
	cr_expect_eq(chunk_wants(txn, NULL, ids, 4), 1);
	ok(chunk_ref_list(txn, buffer_slice(&list), -1));
	cr_expect_eq(chunk_wants(txn, NULL, ids, 4), 0);
	cr_expect_eq(chunk_ref_list(txn, buffer_slice(&list), -1), -DRS_ECORRUPT);
	cr_expect_eq(txn_commit(txn), -DRS_ECORRUPT); /* a failed write poisons its transaction */
	buffer_fini(&list);
}

Test(store_records, entries_decode_or_are_refused)
{
	static const uint8_t bad[][3] = { { 0x03, 0, 0 }, { 0x02, 0, 0 }, { 0x05, 1, 2 }, { 0xff, 0xff, 0xff } };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct entry entry;
		struct reader r = reader_of(slice_of(bad[i], sizeof(bad[i])));
		cr_expect_eq(entry_next(&r, &entry), -DRS_ECORRUPT);
	}
}

/* --- a killed process loses nothing that was committed, and only that */

Test(store_records, a_killed_writer_leaves_the_last_commit)
{
	struct record_key key = xattr(7, "user.a"), other = xattr(7, "user.b");
	store_close(store);
	pid_t child = fork();
	if (child == 0) {
		store = open_master("master");
		struct txn *txn = begin_write(store);
		ok(record_put(txn, version_begin(txn), &key, text("kept")));
		seal(txn);
		ok(txn_commit(txn));
		txn = begin_write(store);
		ok(record_put(txn, version_begin(txn), &other, text("lost")));
		ok(record_put(txn, VERSION_DRAFT, &other, text("lost")));
		_exit(0);
	}
	waitpid(child, NULL, 0);
	store = open_master("master");
	struct txn *txn = begin_read(store);
	cr_expect(reads(txn, (struct view){ .version = 1 }, &key, "kept"));
	cr_expect(reads(txn, (struct view){ .version = VERSION_MAX, .draft = VERSION_DRAFT }, &other, NULL));
	txn_abort(txn);
}

/* Write and take back as much again and again: how long is the file in the end? */
static off_t length_after_churn(void)
{
	static uint8_t bytes[30000];
	struct stat st;
	char path[160];
	for (int i = 0; i < 300; i++) {
		bool more;
		struct chunk_id id;
		struct txn *txn = begin_write(store);
		memset(bytes, i, sizeof(bytes));
		ok(chunk_put(txn, false, slice_of(bytes, sizeof(bytes)), &id));
		ok(txn_commit(txn));
		txn = begin_write(store);
		ok(chunk_collect(txn, 10, &more));
		ok(txn_commit(txn));
	}
	snprintf(path, sizeof(path), "%s/data.mdb", store_dir(store));
	cr_assert_eq(stat(path, &st), 0);
	return st.st_size;
}

Test(store_records, a_killed_reader_does_not_keep_pages_from_being_reused)
{
	off_t before = length_after_churn();
	int pipe_fds[2];
	char ready;
	cr_assert_eq(pipe(pipe_fds), 0);
	pid_t reader = fork();
	if (reader == 0) {
		struct store *other;
		struct txn *txn;
		if (store_open(&(struct store_options){ .dir = store_dir(store), .read_only = true }, &other) == 0 &&
		    txn_begin_read(other, &txn) == 0 && write(pipe_fds[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	cr_assert_eq(read(pipe_fds[0], &ready, 1), 1);
	cr_assert_eq(kill(reader, SIGKILL), 0);
	cr_assert_eq(waitpid(reader, NULL, 0), reader);
	off_t after = length_after_churn();
	check(after < before + (4 << 20));
}
