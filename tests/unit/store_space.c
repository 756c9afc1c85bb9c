/* A full disk: writing is refused in time, what was admitted commits, deleting goes on, and room that was given back is used again. (F8) */
#include "store_lib.h"

#include <sys/mount.h>

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

static void put_file(struct txn *txn, ino_id ino)
{
	static uint8_t content[FILE_BYTES];
	struct buffer list = BUFFER_INIT, bytes = BUFFER_INIT;
	struct entry entry = { .kind = ENTRY_DATA, .length = FILE_BYTES };
	for (size_t i = 0; i + 8 <= sizeof(content); i += 8)
		put_be64(content + i, random_next());
	ok(chunk_put(txn, false, slice_of(content, FILE_BYTES), &entry.id));
	entry_encode(&entry, &list);
	struct node n = { .mode = S_IFREG | 0600, .nlink = 1, .size = FILE_BYTES, .content_kind = CONTENT_LIST, .content = buffer_slice(&list) };
	node_encode(&n, &bytes);
	struct record_key key = record_key_node(ino);
	ok(record_put(txn, version_begin(txn), &key, buffer_slice(&bytes)));
	buffer_fini(&list);
	buffer_fini(&bytes);
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
	for (int i = 0; i < 2; i++) /* LMDB reuses pages two commits after they were freed */
		commit(begin_write(store));
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
