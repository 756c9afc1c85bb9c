/*
 * Conversations between stores: interruption at every frame, complete copies, versions that go away meanwhile, replicas that differ, and
 * bytes that no source or stage would send. (R1.3, R1.4, R3.2, R7.2, F8)
 */
#include "store/content.h"
#include "store_lib.h"

static struct store *master, *slave;

static void setup(void)
{
	random_init(7);
	temp_make();
	master = open_master("master");
	slave = open_slave("slave", master);
}

static void teardown(void)
{
	store_close(slave);
	store_close(master);
	temp_remove();
}

TestSuite(store_delta, .init = setup, .fini = teardown, .timeout = 60);

/* Files in the root, large enough in sum for many frames; those of a later round replace every third. */
static void put_file(struct txn *txn, ino_id ino, unsigned round)
{
	static uint8_t content[20000];
	struct buffer bytes = BUFFER_INIT, list = BUFFER_INIT;
	uint8_t value[16];
	size_t size;
	char name[24];
	version_t at = version_begin(txn);
	struct node n = { .mode = S_IFREG | 0644, .nlink = 1, .ctime = { 1700000000 + round, 0 }, .content_version = at };
	bool large = ino % 10 == 0;
	n.size = large ? 15000 + ino : 900 + ino % 100;
	for (size_t i = 0; i < n.size; i++)
		content[i] = (uint8_t)(i * ino + i / 251 + round);
	n.mtime = n.atime = n.ctime;
	if (large) {
		struct entry entry = { .kind = ENTRY_DATA, .length = n.size };
		ok(chunk_put(txn, false, slice_of(content, n.size), &entry.id));
		entry_encode(&entry, &list);
	}
	n.content_kind = large ? CONTENT_LIST : CONTENT_INLINE;
	n.content = large ? buffer_slice(&list) : slice_of(content, n.size);
	node_encode(&n, &bytes);
	struct record_key key = record_key_node(ino);
	ok(record_put(txn, at, &key, buffer_slice(&bytes)));
	int length = snprintf(name, sizeof(name), "file%llu", (unsigned long long)ino);
	key = record_key_name(txn, INO_ROOT, name, (size_t)length);
	name_encode(ino, DT_REG, value, &size);
	ok(record_put(txn, at, &key, slice_of(value, size)));
	buffer_fini(&bytes);
	buffer_fini(&list);
}

static void remove_file(struct txn *txn, ino_id ino)
{
	char name[24];
	int length = snprintf(name, sizeof(name), "file%llu", (unsigned long long)ino);
	struct record_key node = record_key_node(ino), key = record_key_name(txn, INO_ROOT, name, (size_t)length);
	ok(record_delete(txn, version_begin(txn), &node));
	ok(record_delete(txn, version_begin(txn), &key));
}

#define FILES 1000

static version_t make_round(unsigned round)
{
	struct version_info info;
	struct txn *txn = begin_write(master);
	if (round == 0) {
		struct record_key key = record_key_node(INO_ROOT);
		struct buffer bytes = BUFFER_INIT;
		struct node n = { .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT };
		node_encode(&n, &bytes);
		ok(record_put(txn, version_begin(txn), &key, buffer_slice(&bytes)));
		buffer_fini(&bytes);
	}
	for (ino_id ino = 2; ino < 2 + FILES; ino++)
		if (round == 0 || ino % 3 == 0)
			put_file(txn, ino, round);
		else if (ino % 50 == 1 && ino / 50 % 10 == round)
			remove_file(txn, ino);
	ok(version_seal(txn, round, "a round", &info));
	ok(txn_commit(txn));
	return info.version;
}

static void check_same(void)
{
	struct buffer a = BUFFER_INIT, b = BUFFER_INIT;
	version_t v = current_of(slave);
	dump_store(master, v, &a);
	dump_store(slave, v, &b);
	cr_expect(buffers_equal(&a, &b));
	struct store_state m = state_of(master), s = state_of(slave);
	if (v == m.current)
		cr_expect(memcmp(&m.digest, &s.digest, sizeof(m.digest)) == 0);
	verify_clean(slave);
	buffer_fini(&a);
	buffer_fini(&b);
}

/* Every conversation breaks after one or two frames behind the announcement, and the slave is started anew. */
static int pull_frame_by_frame(bool complete)
{
	int conversations = 0;
	for (;;) {
		struct talk t = { .master = master, .slave = &slave, .complete = complete };
		int more = 1;
		talk_open(&t);
		for (int frame = 0; frame < 2 + conversations % 2 && more == 1; frame++)
			more = ok(talk_step(&t));
		struct txn *txn = begin_read(slave);
		bool ready = stage_ready(t.stage, txn);
		txn_abort(txn);
		if (ready)
			ok(talk_commit(&t));
		talk_close(&t);
		store_close(slave);
		slave = open_in(temp_root, "slave", STORE_SLAVE);
		conversations++;
		cr_assert_lt(conversations, 500);
		if (ready)
			return conversations;
	}
}

/* A large file of which no two runs are alike. */
static void put_large_file(struct txn *txn, ino_id ino, size_t size)
{
	static uint8_t block[1 << 20];
	struct node n = { .mode = S_IFREG | 0644, .nlink = 1, .content_version = version_begin(txn) };
	struct buffer storage = BUFFER_INIT, bytes = BUFFER_INIT;
	struct record_key key = record_key_node(ino);
	struct content_edit *edit;
	uint64_t random = 88172645463325252;
	ok(content_edit_new(&n, &edit));
	for (size_t at = 0; at < size; at += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block); i++) {
			random = random * 6364136223846793005 + 1442695040888963407;
			block[i] = (uint8_t)(random >> 56);
		}
		ok(content_edit_write(edit, txn, at, block, sizeof(block)));
	}
	ok(content_edit_save(edit, txn, &n, &storage));
	node_encode(&n, &bytes);
	ok(record_put(txn, n.content_version, &key, buffer_slice(&bytes)));
	content_edit_free(edit);
	buffer_fini(&storage);
	buffer_fini(&bytes);
}

struct order {
	const uint8_t *last;
	unsigned pieces, backwards;
};

static int note_order(void *user, const void *data, size_t size)
{
	struct order *order = user;
	(void)size;
	order->backwards += (const uint8_t *)data < order->last;
	order->pieces++;
	order->last = data;
	return 0;
}

Test(store_delta, a_file_lies_on_the_slaves_disk_in_its_order)
{
	struct record_key key = record_key_node(2);
	struct version_info info;
	struct order order = { 0 };
	struct slice value;
	struct node n;
	make_round(0);
	struct txn *txn = begin_write(master);
	put_large_file(txn, 2, 24 << 20);
	ok(version_seal(txn, 1, "", &info));
	ok(txn_commit(txn));
	ok(pull(master, &slave, false));
	check_same();

	txn = begin_read(slave);
	ok(record_get(txn, (struct view){ .version = info.version }, &key, &value, NULL));
	ok(node_decode(value, &n));
	ok(content_read(txn, &n, 0, 24 << 20, note_order, &order));
	cr_expect_gt(order.pieces, 400);
	cr_expect_lt(order.backwards, 20);
	txn_abort(txn);
}

Test(store_delta, an_interrupted_delta_goes_on_where_it_was)
{
	make_round(0);
	ok(pull(master, &slave, false));
	check_same();
	version_t from = current_of(slave);
	for (unsigned round = 1; round < 4; round++)
		make_round(round);
	int conversations = pull_frame_by_frame(false);
	cr_expect_gt(conversations, 3);
	check_same();
	struct version_info info;
	struct txn *txn = begin_read(slave);
	ok(version_get(txn, current_of(slave), &info));
	cr_expect(info.previous == from && info.time_ns == 3 && strcmp(info.message, "a round") == 0);
	txn_abort(txn);
}

Test(store_delta, an_interrupted_first_copy_goes_on_where_it_was)
{
	make_round(0);
	int conversations = pull_frame_by_frame(false);
	cr_expect_gt(conversations, 5);
	check_same();
}

Test(store_delta, an_interrupted_complete_copy_goes_on_where_it_was)
{
	make_round(0);
	ok(pull(master, &slave, false));
	for (unsigned round = 1; round < 3; round++)
		make_round(round);
	retire_all(master, current_of(master));
	int conversations = pull_frame_by_frame(false);
	cr_expect_gt(conversations, 3);
	check_same();
	make_round(3);
	ok(pull(master, &slave, true));
	check_same();
}

Test(store_delta, interrupted_it_goes_to_the_version_that_it_began_with)
{
	make_round(0);
	struct talk t = { .master = master, .slave = &slave };
	talk_open(&t);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(talk_step(&t), 1);
	talk_close(&t);
	version_t begun = state_of(slave).stage.to;
	make_round(1);
	ok(pull(master, &slave, false));
	cr_expect_eq(current_of(slave), begun);
	check_same();
	ok(pull(master, &slave, false));
	cr_expect_eq(current_of(slave), begun + 1);
	check_same();
}

Test(store_delta, a_version_retired_meanwhile_ends_the_conversation)
{
	make_round(0);
	struct talk t = { .master = master, .slave = &slave };
	talk_open(&t);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(talk_step(&t), 1);
	make_round(1);
	retire_all(master, current_of(master));
	collect_all(master);
	cr_expect_eq(talk_step(&t), -DRS_EHORIZON);
	talk_close(&t);
	ok(pull(master, &slave, false));
	cr_expect_eq(current_of(slave), current_of(master));
	check_same();
	collect_all(slave);
	verify_clean(slave);
}

Test(store_delta, nothing_new_is_a_short_conversation)
{
	ok(pull(master, &slave, false)); /* version 0 */
	make_round(0);
	ok(pull(master, &slave, false));
	struct store_state before = state_of(slave);
	ok(pull(master, &slave, false));
	ok(pull(master, &slave, true));
	struct store_state after = state_of(slave);
	cr_expect_eq(before.current, after.current);
	cr_expect_eq(after.pending, 0);
}

Test(store_delta, a_stage_may_be_dropped_at_any_time)
{
	make_round(0);
	struct talk t = { .master = master, .slave = &slave };
	talk_open(&t);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(talk_step(&t), 1);
	talk_close(&t);
	bool done = false;
	while (!done) {
		struct txn *txn = begin_write(slave);
		ok(stage_drop(txn, 100, &done));
		ok(txn_commit(txn));
	}
	collect_all(slave);
	struct buffer rows = BUFFER_INIT;
	static const enum row kinds[] = { ROW_RECORD, ROW_CHUNK, ROW_COUNT, ROW_WANT, ROW_GARBAGE };
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		dump_rows(slave, kinds[i], &rows);
		cr_expect_eq(rows.size, 0);
	}
	cr_expect_eq(state_of(slave).stage.to, 0);
	ok(pull(master, &slave, false));
	check_same();
	buffer_fini(&rows);
}

Test(store_delta, a_replica_that_differs_is_told_and_healed_by_a_complete_copy)
{
	make_round(0);
	ok(pull(master, &slave, false));
	/* Change a record behind the store's back, lose one, and plant one. */
	struct txn *txn = begin_write(slave);
	struct record_key key = record_key_xattr(5, "user.planted", 12);
	uint8_t row[ROW_KEY_BYTES_MAX], planted[] = { RECORD_LIVE, 'p' };
	ok(row_put(txn, slice_of(row, record_row_key(row, &key, 1)), slice_of(planted, 2)));
	key = record_key_node(7);
	ok(row_delete(txn, slice_of(row, record_row_key(row, &key, 1))));
	txn->state.digest.lo += 12345;
	ok(txn_commit(txn));
	make_round(1);
	cr_expect_eq(pull(master, &slave, false), -DRS_EDIGEST);
	bool done = false;
	while (!done) {
		txn = begin_write(slave);
		ok(stage_drop(txn, 100, &done));
		ok(txn_commit(txn));
	}
	ok(pull(master, &slave, true));
	retire_all(slave, current_of(slave)); /* the damage of the old version goes with it */
	check_same();
}

Test(store_delta, another_volume_or_future_is_refused)
{
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;
	struct store *other = open_in(temp_root, "other", STORE_MASTER);
	make_round(0);
	ok(pull(master, &slave, false));
	struct txn *txn = begin_read(slave);
	ok(stage_opening(txn, false, &opening));
	txn_abort(txn);
	cr_expect_eq(delta_source_open(other, buffer_slice(&opening), &source, NULL), -DRS_EVOLUME);
	struct opening o;
	ok(opening_decode(buffer_slice(&opening), &o));
	o.current += 5;
	buffer_clear(&opening);
	opening_encode(&o, &opening);
	cr_expect_eq(delta_source_open(master, buffer_slice(&opening), &source, NULL), -DRS_EPROTOCOL);
	store_close(other);
	buffer_fini(&opening);
}

/* --- inline */

Test(store_delta, a_small_change_travels_inline_and_a_large_one_does_not) /* R3.4 */
{
	struct buffer bytes = BUFFER_INIT;
	struct version_info info;
	version_t from, to;
	make_round(0);
	ok(pull(master, &slave, false));

	struct txn *txn = begin_write(master);
	put_file(txn, 10, 5); /* a chunk that the slave lacks */
	ok(version_seal(txn, 1, NULL, &info));
	cr_expect_eq(delta_inline_make(txn, info.previous, info.version, 1280, &bytes), -DRS_ETOOBIG);
	ok(txn_commit(txn));
	ok(pull(master, &slave, false));

	txn = begin_write(master);
	struct record_key key = record_key_node(10);
	struct slice value;
	struct node n;
	struct buffer encoded = BUFFER_INIT;
	ok(record_get(txn, (struct view){ .version = info.version }, &key, &value, NULL));
	ok(node_decode(value, &n));
	n.mode = S_IFREG | 0600; /* content that it has */
	node_encode(&n, &encoded);
	ok(record_put(txn, version_begin(txn), &key, buffer_slice(&encoded)));
	remove_file(txn, 11);
	ok(version_seal(txn, 99, "inline", &info));
	ok(delta_inline_make(txn, info.previous, info.version, 1280, &bytes)); /* before its commit */
	cr_expect_eq(delta_inline_make(txn, 1, info.version, 1280, &encoded), -DRS_ETOOBIG);
	ok(txn_commit(txn));
	cr_expect_lt(bytes.size, 200);
	cr_expect_eq(delta_inline_span(buffer_slice(&bytes), &from, &to), 0);
	cr_expect(from == info.previous && to == info.version);

	struct version_info applied;
	txn = begin_write(slave);
	ok(delta_inline_apply(txn, buffer_slice(&bytes), &applied));
	ok(txn_commit(txn));
	cr_expect(applied.version == info.version && applied.time_ns == 99 && strcmp(applied.message, "inline") == 0);
	check_same();
	txn = begin_write(slave);
	cr_expect_eq(delta_inline_apply(txn, buffer_slice(&bytes), &applied), -DRS_EHORIZON); /* it comes again */
	txn_abort(txn);
	buffer_fini(&bytes);
	buffer_fini(&encoded);
}

/* --- bytes from the wire */

static void mutate(struct buffer *b)
{
	for (size_t n = 1 + random_below(4); n && b->size; n--) {
		size_t at = random_below(one_in(2) && b->size > 60 ? 60 : b->size);
		switch (random_below(4)) {
		case 0:
			b->data[at] ^= (uint8_t)(1u << random_below(8));
			break;
		case 1:
			b->data[at] = (uint8_t)random_next();
			break;
		case 2:
			b->size = at;
			break;
		default:
			memmove(b->data + at, b->data + at + 1, --b->size - at);
		}
	}
}

static void copy_buffer(struct buffer *to, const struct buffer *from)
{
	buffer_clear(to);
	buffer_add(to, from->data, from->size);
}

/* A refused frame has written nothing, not even in its transaction. Tells whether some frame was taken: then the stage is spoiled by the abort. */
static bool feed_garbage(struct stage *stage, const struct buffer *frame)
{
	struct buffer bad = BUFFER_INIT;
	bool taken = false;
	for (int i = 0; i < 150; i++) {
		struct txn *txn = begin_write(slave);
		struct store_state before = *txn_state(txn);
		copy_buffer(&bad, frame);
		mutate(&bad);
		size_t dirty = txn_dirty_bytes(txn);
		int error = stage_feed(stage, txn, buffer_slice(&bad));
		if (error == -DRS_EPROTOCOL) {
			cr_assert_eq(txn_dirty_bytes(txn), dirty);
			cr_assert(memcmp(&before, txn_state(txn), sizeof(before)) == 0);
		}
		taken |= error == 0;
		txn_abort(txn);
		if (taken)
			break;
	}
	buffer_fini(&bad);
	return taken;
}

/* Beginnings change the volatile part when they pass: each gets a stage of its own. */
static void begin_garbage(const struct buffer *frame)
{
	struct buffer bad = BUFFER_INIT, answer = BUFFER_INIT;
	for (int i = 0; i < 1000; i++) {
		struct stage *stage;
		struct txn *txn = begin_write(slave);
		copy_buffer(&bad, frame);
		mutate(&bad);
		ok(stage_new(slave, &stage));
		size_t dirty = txn_dirty_bytes(txn);
		int error = stage_feed(stage, txn, buffer_slice(&bad));
		if (error == -DRS_EPROTOCOL)
			cr_assert_eq(txn_dirty_bytes(txn), dirty);
		if (!error)
			stage_next(stage, txn, &answer);
		stage_free(stage);
		txn_abort(txn);
	}
	buffer_fini(&bad);
	buffer_fini(&answer);
}

static void source_garbage(const struct buffer *opening)
{
	struct buffer bad = BUFFER_INIT, frame = BUFFER_INIT;
	for (int i = 0; i < 1000; i++) {
		struct delta_source *source;
		copy_buffer(&bad, opening);
		mutate(&bad);
		if (delta_source_open(master, buffer_slice(&bad), &source, NULL) != 0)
			continue;
		for (int n = 0; n < 3; n++) {
			uint8_t wants[70] = { FRAME_WANTS };
			delta_source_next(source, &frame);
			delta_source_feed(source, slice_of(wants, random_below(sizeof(wants))));
		}
		delta_source_close(source);
	}
	buffer_fini(&bad);
	buffer_fini(&frame);
}

/* The records are no whole tree, so only they and their digest can be compared. */
static void verify_digest_and_records(void)
{
	struct buffer a = BUFFER_INIT, b = BUFFER_INIT;
	version_t v = current_of(slave);
	struct digest digest;
	struct txn *txn = begin_read(slave);
	dump_store(master, v, &a);
	dump_store(slave, v, &b);
	cr_expect(buffers_equal(&a, &b));
	ok(digest_compute(txn, (struct view){ .version = v }, &digest));
	cr_expect(memcmp(&digest, &txn_state(txn)->digest, sizeof(digest)) == 0);
	txn_abort(txn);
	buffer_fini(&a);
	buffer_fini(&b);
}

#define MANY 15000

static void make_many(bool remove)
{
	struct txn *txn = begin_write(master);
	for (ino_id ino = 10000; ino < 10000 + MANY; ino++) {
		struct record_key key = record_key_xattr(ino, "user.a", 6);
		if (remove)
			ok(record_delete(txn, version_begin(txn), &key));
		else
			ok(record_put(txn, version_begin(txn), &key, slice_of("value", 5)));
	}
	ok(version_seal(txn, 1, NULL, NULL));
	ok(txn_commit(txn));
}

/* Feed frames until one is to be fed again, then break off. How many were. */
static int pull_until_again(bool complete)
{
	struct talk t = { .master = master, .slave = &slave, .complete = complete };
	struct buffer frame = BUFFER_INIT;
	int error = 0, again = 0;
	talk_open(&t);
	while (!error && delta_source_next(t.source, &frame) == 1) {
		struct txn *txn = begin_write(slave);
		error = stage_feed(t.stage, txn, buffer_slice(&frame));
		again += error == -EAGAIN;
		ok(txn_commit(txn));
	}
	talk_close(&t);
	buffer_fini(&frame);
	return again;
}

Test(store_delta, what_a_complete_copy_deletes_takes_several_transactions)
{
	make_round(0);
	make_many(false);
	ok(pull(master, &slave, false));
	make_many(true);
	cr_expect_eq(pull_until_again(true), 1); /* behind the last record */
	ok(pull(master, &slave, true));
	verify_digest_and_records();
	make_many(false);
	ok(pull(master, &slave, false));
	make_many(true);
	struct txn *txn = begin_write(master);
	struct record_key key = record_key_xattr(10000 + MANY, "user.b", 6);
	ok(record_put(txn, version_begin(txn), &key, slice_of("value", 5)));
	ok(version_seal(txn, 1, NULL, NULL));
	ok(txn_commit(txn));
	cr_expect_eq(pull_until_again(true), 1); /* in the midst of a frame */
	ok(pull(master, &slave, true));
	verify_digest_and_records();
}

/* What is dropped in part, and then the process ends, is begun anew. */
Test(store_delta, a_stage_that_was_dropped_in_part_is_not_resumed)
{
	bool done = false;
	make_round(0);
	struct talk t = { .master = master, .slave = &slave };
	talk_open(&t);
	for (int i = 0; i < 4; i++)
		ok(talk_step(&t));
	talk_close(&t);
	struct txn *txn = begin_write(slave);
	ok(stage_drop(txn, 10, &done));
	cr_assert_not(done);
	ok(txn_commit(txn));
	ok(pull(master, &slave, false));
	check_same();
}

Test(store_delta, mutated_frames_are_refused_and_change_nothing)
{
	random_init((unsigned long long)time(NULL));
	for (unsigned round = 0; round < 2; round++) {
		struct talk t = { .master = master, .slave = &slave };
		struct buffer frame = BUFFER_INIT, opening = BUFFER_INIT;
		make_round(round);
		struct txn *txn = begin_read(slave);
		ok(stage_opening(txn, false, &opening));
		txn_abort(txn);
		source_garbage(&opening);
		talk_open(&t);
		uint8_t seen[256] = { 0 };
		int more;
		while ((more = delta_source_next(t.source, &frame)) == 1) {
			uint8_t kind = frame.data[0];
			if (kind == FRAME_BEGIN && !seen[kind]++)
				begin_garbage(&frame);
			if (kind != FRAME_BEGIN && seen[kind]++ < 40 && feed_garbage(t.stage, &frame)) {
				talk_close(&t);
				talk_open(&t);
				continue;
			}
			txn = begin_write(slave);
			ok(stage_feed(t.stage, txn, buffer_slice(&frame)));
			while (ok(stage_next(t.stage, txn, &frame)) == 1)
				ok(delta_source_feed(t.source, buffer_slice(&frame)));
			ok(txn_commit(txn));
		}
		ok(more);
		ok(talk_commit(&t));
		talk_close(&t);
		check_same();
		buffer_fini(&frame);
		buffer_fini(&opening);
	}
}

Test(store_delta, mutated_inline_deltas_are_refused_and_change_nothing)
{
	random_init((unsigned long long)time(NULL));
	struct buffer bytes = BUFFER_INIT, bad = BUFFER_INIT;
	struct version_info info;
	make_round(0);
	ok(pull(master, &slave, false));
	struct txn *txn = begin_write(master);
	put_file(txn, 11, 9);
	remove_file(txn, 12);
	ok(version_seal(txn, 99, "inline", &info));
	ok(txn_commit(txn));
	txn = begin_read(master);
	ok(delta_inline_make(txn, info.previous, info.version, 1280, &bytes));
	txn_abort(txn);
	int refused = 0;
	for (int i = 0; i < 3000; i++) {
		copy_buffer(&bad, &bytes);
		mutate(&bad);
		txn = begin_write(slave);
		int error = delta_inline_apply(txn, buffer_slice(&bad), &info);
		cr_assert_leq(error, 0);
		refused += error != 0;
		txn_abort(txn);
	}
	cr_expect_gt(refused, 2500); /* the message and the time may differ */
	txn = begin_write(slave);
	ok(delta_inline_apply(txn, buffer_slice(&bytes), &info));
	ok(txn_commit(txn));
	check_same();
	buffer_fini(&bytes);
	buffer_fini(&bad);
}

Test(store_delta, what_is_pending_is_never_in_a_delta_R3_5)
{
	version_t sealed = make_round(0);
	struct txn *txn = begin_write(master);
	for (ino_id ino = 2; ino < 50; ino++)
		put_file(txn, ino, 9);
	ok(txn_commit(txn)); /* durable, but not sealed: work in progress */
	cr_assert(state_of(master).pending > sealed);
	ok(pull(master, &slave, false));
	cr_expect_eq(current_of(slave), sealed);
	check_same();
}
