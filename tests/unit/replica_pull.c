/*
 * The slave's user layer against a master's store, without a network: first copies, deltas, small ones, interruptions (R7.2), a
 * full disk (F8), a replica that went wrong, retention beside open files (F3). What is to be seen is looked at through a real
 * mount, where that can be had.
 */
#include <time.h>

#include "tests/unit/replica_fixture.h"

TestSuite(replica, .init = begin, .fini = end, .timeout = 60);

Test(replica, versions_keep_their_order_as_bytes)
{
	struct drs_version a = fs_version_of(255), b = fs_version_of(256), next = fs_version_ops.next(&a);
	char text[40];

	cr_assert(fs_version_ops.greater(&b, &a));
	cr_assert(not(fs_version_ops.greater(&a, &b)));
	cr_assert(not(fs_version_ops.greater(&a, &a)));
	cr_assert(fs_version_ops.equal(&next, &b));
	cr_assert(eq(u64, fs_version_number(&b), 256));
	fs_version_ops.format(&b, text);
	cr_assert(eq(str, text, (char *)"256"));
}

Test(replica, a_first_copy_then_deltas_are_shown)
{
	begin_mount();
	tree_begin(&master);
	ino_id f = tree_file(&master, INO_ROOT, "f", "one");
	tree_commit(&master);
	says("f", "ENOENT");
	cr_assert(eq(u64, pull(), master.at));
	says("f", "one");
	same_as_master();

	add_files(20, 100000);
	tree_begin(&master);
	tree_rewrite(&master, f, "two", 3);
	tree_commit(&master);
	says("f", "one");
	cr_assert(eq(u64, pull(), master.at));
	says("f", "two");
	same_as_master();
	cr_assert(eq(u64, pull(), master.at)); /* there is nothing more */
}

Test(replica, small_deltas_come_in_one_step)
{
	enum { TIMES = 200 };
	struct drs_version version;
	struct timespec begun, now;
	double us = 0, commit_us = 0;
	char text[1024];

	begin_mount();
	tree_begin(&master);
	ino_id f = tree_file(&master, INO_ROOT, "f", "0");
	tree_commit(&master);
	pull();
	for (int i = 1; i <= TIMES; i++) {
		memset(text, 'a' + i % 26, sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		tree_begin(&master);
		tree_rewrite(&master, f, text, sizeof(text) - 1);
		clock_gettime(CLOCK_MONOTONIC, &begun);
		tree_commit(&master);
		clock_gettime(CLOCK_MONOTONIC, &now);
		commit_us += (now.tv_sec - begun.tv_sec) * 1e6 + (now.tv_nsec - begun.tv_nsec) / 1e3;
		struct buffer delta = inline_delta();
		content("f");
		clock_gettime(CLOCK_MONOTONIC, &begun);
		must(listener.commit_inline(replica, buffer_slice(&delta), &version), replica_trouble(replica));
		clock_gettime(CLOCK_MONOTONIC, &now);
		us += (now.tv_sec - begun.tv_sec) * 1e6 + (now.tv_nsec - begun.tv_nsec) / 1e3;
		says("f", text);
		cr_assert(eq(u64, fs_version_number(&version), master.at));
		if (i == TIMES)
			cr_assert(eq(i32, listener.commit_inline(replica, buffer_slice(&delta), &version), -DRS_EHORIZON)); /* a repetition */
		buffer_fini(&delta);
	}
	cr_log_info("commit_inline of 1 KiB, call to visible: %.0f us (a commit on the master: %.0f us)", us / TIMES, commit_us / TIMES);
	same_as_master();
}

Test(replica, an_interrupted_first_copy_goes_on_where_it_was)
{
	struct drs_version version;
	size_t pieces = 0, before;

	add_files(400, 50000);
	cr_assert(eq(i32, converse(false, SIZE_MAX, &version), 0));
	before = frames;
	replica_free(replica);
	store_close(slave.store);
	char command[200];
	snprintf(command, sizeof(command), "rm -rf '%s'", slave.dir);
	cr_assert(zero(i32, system(command)));
	tree_open(&slave, STORE_SLAVE);
	begin_replica(4);

	int result;
	size_t all = 0;
	while ((result = converse(false, before / 4, &version)) == 1 && pieces < 20) {
		struct store_options options = { .dir = slave.state, .role = STORE_SLAVE, .lazy_sync = true, .map_bytes = (size_t)1 << 32 };

		all += frames;
		pieces++;
		cr_assert(eq(u64, state_of(slave.store).current, 0));
		replica_free(replica); /* as a new process would find it */
		store_close(slave.store);
		must(store_open(&options, &slave.store), "store_open");
		begin_replica(4);
	}
	all += frames;
	cr_assert(eq(i32, result, 0));
	cr_assert(ge(sz, pieces, 3));
	cr_assert(lt(sz, all, before + before / 2)); /* little came twice */
	same_as_master();
}

Test(replica, a_small_delta_waits_for_an_interrupted_pull)
{
	struct drs_version version;

	add_files(100, 50000);
	cr_assert(eq(i32, converse(false, 4, &version), 1));
	tree_begin(&master);
	tree_file(&master, INO_ROOT, "f", "x");
	tree_commit(&master);
	struct buffer delta = inline_delta();
	cr_assert(lt(i32, listener.commit_inline(replica, buffer_slice(&delta), &version), 0));
	buffer_fini(&delta);
	cr_assert(eq(u64, pull(), master.at - 1)); /* what was interrupted */
	cr_assert(eq(u64, pull(), master.at));
	same_as_master();
}

Test(replica, nonsense_from_the_master_changes_nothing)
{
	struct drs_version version;
	struct buffer opening = BUFFER_INIT;
	uint8_t bytes[300];

	pull();
	version_t before = state_of(slave.store).current;
	for (unsigned seed = 0; seed < 200; seed++) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(rand() >> 7);
		bytes[0] = (uint8_t)"BREC"[seed % 4];
		cr_assert(lt(i32, listener.commit_inline(replica, (struct slice){ bytes, seed }, &version), 0));
		buffer_clear(&opening);
		must(listener.pull_open(replica, false, &opening), "pull_open");
		cr_assert(lt(i32, listener.pull_feed(replica, (struct slice){ bytes, seed }), 0));
		listener.pull_close(replica);
		cr_assert(lt(i32, listener.admitted(replica, &(struct did){ { 1 } }, (struct slice){ bytes, seed % 16 }), 0));
	}
	buffer_fini(&opening);
	cr_assert(eq(u64, state_of(slave.store).current, before));
	pull();
	same_as_master();
}

Test(replica, a_replica_that_went_wrong_heals_by_a_complete_copy)
{
	struct drs_version version;

	begin_mount();
	tree_begin(&master);
	tree_file(&master, INO_ROOT, "f", "right");
	tree_commit(&master);
	pull();
	/* what no master ever had */
	tree_begin(&slave);
	tree_file(&slave, INO_ROOT, "stray", "wrong");
	tree_commit(&slave);
	must(slave_mount_flip(mount_of_slave), "flip");
	says("stray", "wrong");
	for (int i = 0; i < 2; i++)
		add_files(3, 5000);

	cr_assert(eq(i32, converse(false, SIZE_MAX, &version), -DRS_EDIGEST));
	cr_assert(ne(str, (char *)replica_trouble(replica), (char *)""));
	cr_assert(eq(i32, converse(true, SIZE_MAX, &version), 0));
	says("stray", "ENOENT");
	says("f", "right");
	same_as_master();
}

/* R2.5 */
Test(replica, a_number_alone_is_taken)
{
	pull();
	struct store_state before = state_of(slave.store);
	struct drs_version two = fs_version_of(before.current + 2), one = fs_version_of(before.current + 1);

	cr_assert(eq(i32, listener.take_version(replica, &two), 0));
	struct store_state after = state_of(slave.store);
	cr_assert(eq(u64, after.current, before.current + 2));
	cr_assert(zero(i32, memcmp(&before.digest, &after.digest, sizeof(before.digest))));
	cr_assert(lt(i32, listener.take_version(replica, &one), 0)); /* R1.4 */
	cr_assert(eq(u64, state_of(slave.store).current, before.current + 2));
}

Test(replica, a_full_disk_is_waited_for)
{
	struct store_options options = { .dir = slave.state, .role = STORE_SLAVE, .create = true, .map_bytes = (size_t)1 << 32 };
	struct drs_version version;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	replica_free(replica);
	store_close(slave.store);
	cr_assert(zero(i32, mount("tmpfs", slave.state, "tmpfs", 0, "size=16m")));
	must(store_open(&options, &slave.store), "store_open");
	begin_replica(4);
	begin_mount();
	tree_begin(&master);
	tree_file(&master, INO_ROOT, "f", "one");
	tree_commit(&master);
	pull();
	add_files(60, 500000);

	cr_assert(eq(i32, converse(false, SIZE_MAX, &version), -ENOSPC));
	cr_assert(ne(ptr, strstr(replica_trouble(replica), "disk full"), NULL));
	says("f", "one");
	cr_assert(eq(i32, converse(false, SIZE_MAX, &version), -ENOSPC));
	says("f", "one");
	cr_assert(zero(i32, mount("tmpfs", slave.state, "tmpfs", MS_REMOUNT, "size=100m")));
	pull();
	says("f", "one");
	same_as_master();
}

Test(replica, tidying_retires_old_versions_but_not_what_is_open)
{
	char path[200], old[16];
	int rounds = 0;

	begin_mount();
	tree_begin(&master);
	ino_id f = tree_file(&master, INO_ROOT, "f", "first");
	tree_commit(&master);
	pull();
	snprintf(path, sizeof(path), "%s/f", slave.mnt);
	int fd = open(path, O_RDONLY);
	for (int i = 0; i < 40; i++) {
		snprintf(old, sizeof(old), "%d", i);
		tree_begin(&master);
		tree_rewrite(&master, f, old, strlen(old));
		tree_commit(&master);
		pull();
		while (replica_tidy(replica))
			cr_assert(lt(i32, rounds++, 1000));
	}
	cr_assert(gt(u64, state_of(slave.store).horizon, master.at - 20));
	cr_assert(le(u64, state_of(slave.store).horizon, master.at - 4));
	cr_assert(eq(i64, read(fd, old, sizeof(old)), 5));
	cr_assert(zero(i32, memcmp(old, "first", 5)));
	close(fd);
	says("f", "39");
	same_as_master();
	cr_assert(not(replica_tidy(replica)));
}
