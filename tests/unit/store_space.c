/* A full disk: writing is refused in time, what was admitted commits, deleting goes on, and room that was given back is used again. (F8) */
#include "store_lib.h"

#include <sys/mount.h>

#include "store/content.h"

#define DISK_BYTES "40m"
#define FILE_BYTES 30000

static char mountpoint[96];

static bool mount_small_disk(void)
{
	temp_make();
	snprintf(mountpoint, sizeof(mountpoint), "%s/disk", temp_root);
	cr_assert_eq(mkdir(mountpoint, 0700), 0);
	return mount("tmpfs", mountpoint, "tmpfs", 0, "size=" DISK_BYTES) == 0;
}

static void unmount(void)
{
	cr_assert_eq(umount(mountpoint), 0);
	temp_remove();
}

static void put_file_of(struct txn *txn, ino_id ino, size_t size)
{
	static uint8_t content[CHUNK_BYTES_MAX];
	struct buffer list = BUFFER_INIT, bytes = BUFFER_INIT;
	for (size_t done = 0; done < size;) {
		size_t most = size - done < CHUNK_BYTES_MAX ? size - done : CHUNK_BYTES_MAX;
		struct entry entry = { .kind = ENTRY_DATA, .length = 1 + random_below(most) };
		if (entry.length < CUT_BYTES_MIN)
			entry.length = most < CUT_BYTES_MIN ? most : CUT_BYTES_MIN;
		for (size_t i = 0; i + 8 <= entry.length; i += 8)
			put_be64(content + i, random_next());
		ok(chunk_put(txn, false, slice_of(content, entry.length), &entry.id));
		entry_encode(&entry, &list);
		done += entry.length;
	}
	struct node n = { .mode = S_IFREG | 0600, .nlink = 1, .size = size, .content_kind = CONTENT_LIST, .content = buffer_slice(&list) };
	node_encode(&n, &bytes);
	struct record_key key = record_key_node(ino);
	ok(record_put(txn, version_begin(txn), &key, buffer_slice(&bytes)));
	buffer_fini(&list);
	buffer_fini(&bytes);
}

static void put_file(struct txn *txn, ino_id ino)
{
	put_file_of(txn, ino, FILE_BYTES);
}

static version_t commit(struct txn *txn)
{
	struct version_info info;
	version_begin(txn);
	ok(version_seal(txn, 1, NULL, &info));
	ok(txn_commit(txn)); /* what was admitted never fails here */
	return info.version;
}

/* A write transaction with room for 'bytes' more, or NULL: not in one of its own, and not in the next either. */
static struct txn *begin_with_room(struct store *store, size_t bytes)
{
	for (int tries = 0; tries < 2; tries++) {
		struct txn *txn = begin_write(store);
		int error = txn_admit(txn, bytes, false);
		if (!error)
			return txn;
		cr_assert_eq(error, -ENOSPC);
		txn_abort(txn);
	}
	return NULL;
}

/* Write files, a few a version, until no more is admitted. Returns how many. */
static int fill(struct store *store, ino_id *ino)
{
	struct txn *txn;
	int files = 0;
	while ((txn = begin_with_room(store, FILE_BYTES + 200)) != NULL) {
		put_file(txn, (*ino)++);
		files++;
		if (one_in(2) && txn_admit(txn, FILE_BYTES + 200, false) == 0) {
			put_file(txn, (*ino)++);
			files++;
		}
		commit(txn);
	}
	return files;
}

/* Delete files, asking before each; a transaction that has no more room is committed and the next one asks again. */
static version_t delete_files(struct store *store, ino_id from, ino_id to)
{
	struct txn *txn = begin_write(store);
	for (ino_id ino = from; ino < to; ino++) {
		struct record_key key = record_key_node(ino);
		if (txn_admit(txn, 200, true) != 0) {
			commit(txn);
			txn = begin_write(store);
			cr_assert_eq(txn_admit(txn, 200, true), 0);
		}
		ok(record_delete(txn, version_begin(txn), &key));
	}
	return commit(txn);
}

static void give_back(struct store *store, version_t horizon)
{
	retire_all(store, horizon);
	collect_all(store);
}

Test(store_space, a_full_disk_refuses_writes_but_loses_nothing, .timeout = 60)
{
	random_init(3);
	if (!mount_small_disk()) {
		temp_remove();
		cr_skip_test("needs root to mount a small disk");
	}
	struct store *store = open_in(mountpoint, "master", STORE_MASTER);
	ino_id ino = 2;
	struct store_space space;
	int files = fill(store, &ino);
	cr_expect_gt(files, 900, "%d files of %d bytes fit", files, FILE_BYTES);
	ok(store_space(store, &space));
	cr_expect_lt(space.free_bytes, (uint64_t)1 << 20);
	cr_expect_geq(space.used_bytes, (uint64_t)files * FILE_BYTES);

	/* The same after a restart: what was allocated ahead stays ours. */
	store_close(store);
	store = open_in(mountpoint, "master", STORE_MASTER);
	cr_expect_lt(fill(store, &ino), 3);

	for (int round = 0; round < 4; round++) {
		ino_id from = ino - (round ? (ino_id)files : 600);
		version_t horizon = delete_files(store, from, ino);
		give_back(store, horizon);
		ok(store_space(store, &space));
		cr_expect_geq(space.free_bytes, (uint64_t)12 << 20);
		ok(store_space_for(store, space.free_bytes));
		cr_expect_eq(store_space_for(store, space.free_bytes + 1), -ENOSPC);
		files = fill(store, &ino);
		cr_expect_gt(files, 200, "%d files fit again", files);
	}
	store_close(store);
	unmount();
}

/* Room that others on the same disk took: nothing but what is allocated is left. */
Test(store_space, a_disk_that_others_fill_still_lets_us_delete, .timeout = 60)
{
	random_init(4);
	if (!mount_small_disk()) {
		temp_remove();
		cr_skip_test("needs root to mount a small disk");
	}
	struct store *store = open_in(mountpoint, "master", STORE_MASTER);
	ino_id ino = 2;
	struct txn *txn = begin_write(store);
	for (int i = 0; i < 300; i++) {
		ok(txn_admit(txn, FILE_BYTES + 200, false));
		put_file(txn, ino++);
	}
	commit(txn);
	char path[128];
	static uint8_t zeros[65536];
	snprintf(path, sizeof(path), "%s/hog", mountpoint);
	FILE *hog = fopen(path, "w");
	while (fwrite(zeros, 1, sizeof(zeros), hog) == sizeof(zeros) && fflush(hog) == 0)
		;
	fclose(hog);
	fill(store, &ino);
	version_t horizon = delete_files(store, 2, ino);
	give_back(store, horizon);
	cr_expect_gt(fill(store, &ino), 100);
	store_close(store);
	unmount();
}

/* Files here have no names, and no directory; nothing else may be found. */
static void count_finding(void *user, const char *text)
{
	if (strstr(text, " names") || strstr(text, "root"))
		return;
	verify_print(NULL, text);
	++*(int *)user;
}

static void verify_content(struct store *store)
{
	int findings = 0;
	ok(store_verify(store, count_finding, NULL, &findings));
	check(findings == 0);
}

/* A batch that changes the mode of files, a little of each. */
static uint32_t change_modes(struct store *store, ino_id from, ino_id to)
{
	struct batch_info info;
	struct txn *txn = begin_write(store);
	ok(batch_begin(txn, "", 0, 1, &info));
	for (ino_id ino = from; ino < to; ino++) {
		struct record_key key = record_key_node(ino);
		struct buffer bytes = BUFFER_INIT;
		struct slice value;
		struct node node;
		ok(txn_admit(txn, 400, false));
		ok(record_get(txn, (struct view){ .version = info.base }, &key, &value, NULL));
		ok(node_decode(value, &node));
		node.mode ^= 0100;
		node_encode(&node, &bytes);
		ok(record_put(txn, batch_draft(info.id), &key, buffer_slice(&bytes)));
		buffer_fini(&bytes);
	}
	ok(txn_commit(txn));
	return info.id;
}

/* Ask, and if there is room do it: then the commit of the transaction does not fail. */
static int propose_and_commit(struct store *store, uint32_t id)
{
	struct batch_info info;
	struct version_info version;
	struct txn *txn = begin_write(store);
	int error = batch_admit(txn, id);
	if (error) {
		txn_abort(txn);
		return error;
	}
	cr_assert_eq(ok(batch_rebase(txn, id, NULL, NULL)), 0);
	ok(batch_propose(txn, id, 1, "full", &info));
	ok(txn_commit(txn));
	txn = begin_write(store);
	error = batch_admit(txn, id);
	if (!error)
		ok(batch_commit(txn, id, &version));
	else
		ok(batch_abort(txn, id, error_text(error)));
	ok(txn_commit(txn));
	return error;
}

Test(store_space, a_batch_asks_for_room_before_it_writes, .timeout = 60)
{
	random_init(6);
	if (!mount_small_disk()) {
		temp_remove();
		cr_skip_test("needs root to mount a small disk");
	}
	struct store *store = open_in(mountpoint, "master", STORE_MASTER);
	ino_id ino = 2;
	struct txn *txn = begin_write(store);
	for (int i = 0; i < 600; i++) {
		ok(txn_admit(txn, FILE_BYTES + 200, false));
		put_file(txn, ino++);
	}
	commit(txn);
	uint32_t id = change_modes(store, 2, ino), other = change_modes(store, 2, ino);
	ino_id files = ino;
	cr_expect_eq(propose_and_commit(store, other), 0, "there is room");
	fill(store, &ino);
	version_t current = current_of(store);
	cr_expect_eq(propose_and_commit(store, id), -ENOSPC);
	cr_expect(current_of(store) == current && state_of(store).assigned <= current + 1, "nothing was written, or an abort");
	for (bool done = false; !done;) {
		txn = begin_write(store);
		ok(txn_admit(txn, 100 * 200, true));
		ok(batch_drop(txn, id, 100, &done));
		ok(txn_commit(txn));
	}
	give_back(store, delete_files(store, files, ino));
	for (int round = 0; round < 20; round++) { /* ever nearer to the end */
		id = change_modes(store, 2, files);
		int error = propose_and_commit(store, id);
		cr_expect(error == 0 || error == -ENOSPC);
		if (error)
			break;
		for (int i = 0; i < 25 && (txn = begin_with_room(store, FILE_BYTES + 1000000)) != NULL; i++) {
			put_file(txn, ino++);
			commit(txn);
		}
	}
	verify_content(store);
	store_close(store);
	unmount();
}

/* --- a full store is used again wholly, however it was filled */

#define FILES_MAX 4000

struct shelf {
	struct store *store;
	ino_id files[FILES_MAX];
	size_t count;
	ino_id last;
	uint64_t bytes; /* stored by the last filling */
	size_t size_max;
};

static bool shelf_add(struct shelf *s)
{
	size_t size = 1 + random_below(s->size_max);
	struct txn *txn = s->count < FILES_MAX ? begin_with_room(s->store, size + 4096) : NULL;
	if (!txn)
		return false;
	put_file_of(txn, s->files[s->count++] = ++s->last, size);
	commit(txn);
	s->bytes += size;
	return true;
}

static void shelf_fill(struct shelf *s)
{
	s->bytes = 0;
	for (int refused = 0; refused < 3;)
		refused += !shelf_add(s);
}

/* Delete some, each in a transaction of its own or some together, and give back what they took. Any deletion must be admitted. */
static void shelf_clear(struct shelf *s, size_t some)
{
	struct txn *txn = begin_write(s->store);
	for (size_t n = 0; n < some && s->count; n++) {
		size_t at = random_below(s->count);
		struct record_key key = record_key_node(s->files[at]);
		if (one_in(4) || txn_admit(txn, 1024, true) != 0) {
			commit(txn);
			txn = begin_write(s->store);
			cr_assert_eq(txn_admit(txn, 1024, true), 0);
		}
		ok(record_delete(txn, version_begin(txn), &key));
		s->files[at] = s->files[--s->count];
	}
	give_back(s->store, commit(txn));
}

static void shelf_rounds(struct shelf *s, int rounds)
{
	struct store_space space;
	shelf_fill(s);
	uint64_t first = s->bytes;
	cr_expect_gt(first, (uint64_t)24 << 20, "%llu bytes fit", (unsigned long long)first);
	for (int round = 0; round < rounds; round++) {
		bool all = one_in(3);
		shelf_clear(s, all ? s->count : s->count / 2 + random_below(s->count / 4));
		ok(store_space(s->store, &space));
		shelf_fill(s);
		/* What statfs promised can be had, but for rounding to pages and for holes that are too small. */
		cr_expect_geq(2 * s->bytes, space.free_bytes, "%llu of %llu bytes", (unsigned long long)s->bytes,
			      (unsigned long long)space.free_bytes);
		if (all)
			cr_expect_geq(s->bytes, first * 2 / 3, "%llu of %llu bytes again", (unsigned long long)s->bytes, (unsigned long long)first);
		verify_content(s->store);
	}
}

static void shelf_test(size_t size_max, uint64_t from, int rounds)
{
	random_init(from);
	if (!mount_small_disk()) {
		temp_remove();
		cr_skip_test("needs root to mount a small disk");
	}
	static struct shelf s;
	s = (struct shelf){ .store = open_in(mountpoint, "master", STORE_MASTER), .last = 1, .size_max = size_max };
	shelf_rounds(&s, rounds);
	store_close(s.store);
	unmount();
}

Test(store_space, files_of_a_few_chunks_in_rounds, .timeout = 120)
{
	shelf_test(300000, 11, 6);
}

Test(store_space, small_files_in_rounds, .timeout = 120)
{
	shelf_test(30000, 12, 3);
}

/* A reader that is parked keeps nothing; one that reads keeps what it sees, and deleting goes on from the reserve. */
Test(store_space, readers_on_a_full_disk, .timeout = 120)
{
	random_init(13);
	if (!mount_small_disk()) {
		temp_remove();
		cr_skip_test("needs root to mount a small disk");
	}
	static struct shelf s;
	s = (struct shelf){ .store = open_in(mountpoint, "master", STORE_MASTER), .last = 1, .size_max = 200000 };
	struct txn *parked = begin_read(s.store);
	txn_park(parked);
	shelf_fill(&s);
	for (int round = 0; round < 3; round++) {
		struct txn *active = begin_read(s.store);
		version_t seen = txn_state(active)->current;
		size_t before = s.count;
		shelf_clear(&s, 20);
		cr_expect_eq(s.count, before - 20);
		shelf_fill(&s);
		cr_expect_eq(txn_state(active)->current, seen);
		struct digest digest;
		ok(digest_compute(active, (struct view){ .version = seen }, &digest));
		check(memcmp(&digest, &txn_state(active)->digest, sizeof(digest)) == 0);
		txn_abort(active);
		shelf_fill(&s);
		cr_expect_gt(s.bytes, (uint64_t)500000, "%llu bytes fit when it has gone", (unsigned long long)s.bytes);
	}
	ok(txn_resume(parked));
	txn_abort(parked);
	verify_content(s.store);
	store_close(s.store);
	unmount();
}

/* One that was restarted while full knows what it has left, and deletes. */
Test(store_space, restarts_on_a_full_disk, .timeout = 120)
{
	random_init(14);
	if (!mount_small_disk()) {
		temp_remove();
		cr_skip_test("needs root to mount a small disk");
	}
	static struct shelf s;
	s = (struct shelf){ .store = open_in(mountpoint, "master", STORE_MASTER), .last = 1, .size_max = 200000 };
	for (int round = 0; round < 5; round++) {
		shelf_fill(&s);
		store_close(s.store);
		s.store = open_in(mountpoint, "master", STORE_MASTER);
		shelf_clear(&s, 1 + random_below(60));
		store_close(s.store);
		s.store = open_in(mountpoint, "master", STORE_MASTER);
	}
	shelf_fill(&s);
	cr_expect_gt(s.bytes, (uint64_t)0);
	verify_content(s.store);
	store_close(s.store);
	unmount();
}
