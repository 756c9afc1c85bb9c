/*
 * What the tests of the slave's user layer share: a master's store, a slave's store with its replica, and conversations between the two without a
 * network.
 */
#ifndef TESTS_UNIT_REPLICA_FIXTURE_H
#define TESTS_UNIT_REPLICA_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>

#include "drsfs/fsversion.h"
#include "slave/mount.h"
#include "slave/replica.h"
#include "tests/lib/tree.h"

static struct tree master, slave;
static struct replica *replica;
static struct drs_slave_listener listener;
static struct slave_mount *mount_of_slave;
static size_t frames; /* from the source in the last conversation */

OWN struct store_state state_of(struct store *store)
{
	struct store_state state;
	struct txn *txn;

	must(txn_begin_read(store, &txn), "txn_begin_read");
	state = *txn_state(txn);
	txn_abort(txn);
	return state;
}

OWN void begin_replica(uint64_t retain)
{
	struct store_state state = state_of(master.store);

	must(replica_new(slave.store, retain, &replica), "replica_new");
	listener = replica_listener(replica);
	must(listener.admitted(replica, &state.did, (struct slice){ state.secret, sizeof(state.secret) }), "admitted");
}

OWN void begin(void)
{
	tree_open(&master, STORE_MASTER);
	tree_open(&slave, STORE_SLAVE);
	begin_replica(4);
}

OWN void begin_mount(void)
{
	struct slave_mount_options options = { .mountpoint = slave.mnt };

	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		cr_skip_test("needs root and /dev/fuse");
	must(slave_mount_new(slave.store, &options, NULL, NULL, &mount_of_slave), "slave_mount_new");
	must(slave_mount_start(mount_of_slave), "slave_mount_start");
	replica_set_mount(replica, mount_of_slave);
}

OWN void end(void)
{
	slave_mount_free(mount_of_slave);
	replica_free(replica);
	tree_close(&master);
	umount2(slave.state, MNT_DETACH); /* of the test with a full disk */
	tree_close(&slave);
}

/* ---- conversations */

OWN int feed(struct delta_source *source)
{
	struct buffer frame = BUFFER_INIT;
	int said, error = 0;

	while (error == 0 && (said = listener.pull_next(replica, &frame)) != 0)
		error = said < 0 ? said : delta_source_feed(source, buffer_slice(&frame));
	if (error == 0 && !listener.pull_ready(replica)) {
		error = delta_source_next(source, &frame);
		if (error == 1) {
			frames++;
			error = listener.pull_feed(replica, buffer_slice(&frame));
		}
	}
	buffer_fini(&frame);
	return error;
}

/* Up to so many frames; 0: committed, 1: interrupted. */
OWN int converse(bool complete, size_t frames_max, struct drs_version *ret_version)
{
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;
	version_t to;
	int error = listener.pull_open(replica, complete, &opening);

	frames = 0;
	if (error < 0)
		return error;
	must(delta_source_open(master.store, buffer_slice(&opening), &source, &to), "delta_source_open");
	buffer_fini(&opening);
	while (error == 0 && !listener.pull_ready(replica) && frames < frames_max)
		error = feed(source);
	if (error == 0 && !listener.pull_ready(replica))
		error = 1;
	if (error == 0)
		error = listener.pull_commit(replica, ret_version);
	if (error != 0)
		listener.pull_close(replica);
	delta_source_close(source);
	return error;
}

OWN version_t pull(void)
{
	struct drs_version version;

	must(converse(false, SIZE_MAX, &version), replica_trouble(replica));
	return fs_version_number(&version);
}

OWN void same_as_master(void)
{
	struct store_state a = state_of(master.store), b = state_of(slave.store);
	struct digest computed;
	struct txn *txn;

	cr_assert(eq(u64, a.current, b.current));
	cr_assert(zero(i32, memcmp(&a.digest, &b.digest, sizeof(a.digest))));
	must(txn_begin_read(slave.store, &txn), "txn_begin_read");
	must(digest_compute(txn, (struct view){ .version = b.current }, &computed), "digest_compute");
	txn_abort(txn);
	cr_assert(zero(i32, memcmp(&a.digest, &computed, sizeof(computed))));
	cr_assert(eq(str, (char *)replica_trouble(replica), (char *)""));
}

OWN struct buffer inline_delta(void)
{
	struct store_state state = state_of(master.store);
	struct buffer delta = BUFFER_INIT;
	struct version_info info;
	struct txn *txn;

	must(txn_begin_read(master.store, &txn), "txn_begin_read");
	must(version_get(txn, state.current, &info), "version_get");
	must(delta_inline_make(txn, info.previous, info.version, 4096, &delta), "delta_inline_make");
	txn_abort(txn);
	return delta;
}

OWN const char *content(const char *name)
{
	static char text[4096];
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", slave.mnt, name);
	int fd = open(path, O_RDONLY);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (size < 0)
		return strerrorname_np(errno);
	close(fd);
	text[size] = '\0';
	return text;
}

#define says(name, text) cr_assert(eq(str, (char *)content(name), (char *)(text)))

/* So many files of so many bytes that nothing shortens. */
OWN void add_files(unsigned count, size_t size)
{
	uint32_t *data = malloc(size);
	static uint32_t random = 1;
	char name[32];

	tree_begin(&master);
	for (unsigned i = 0; i < count; i++) {
		for (size_t j = 0; j < size / 4; j++)
			data[j] = random = random * 1664525 + 1013904223;
		snprintf(name, sizeof(name), "file-%u-%u", (unsigned)master.at, i);
		tree_add_file(&master, INO_ROOT, name, data, size);
	}
	tree_touch(&master, INO_ROOT);
	tree_commit(&master);
	free(data);
}

#endif
