/* What the tests of content share: random numbers from one seed (SEED), and a store in a directory of its own with its write transaction. */
#ifndef CONTENT_FIXTURE_H
#define CONTENT_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/node.h"
#include "store/version.h"

static uint64_t random_state;

static inline uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1d;
}

static inline void random_init(uint64_t fallback)
{
	const char *seed = getenv("SEED");
	random_state = seed ? strtoull(seed, NULL, 0) : fallback;
	fprintf(stderr, "SEED=%#llx\n", (unsigned long long)random_state);
}

/* Below max, small numbers often. */
static inline uint64_t random_below(uint64_t max)
{
	uint64_t v = max ? random_u64() % max : 0;
	return random_u64() % 2 ? v : v >> random_u64() % 24;
}

static inline void random_bytes(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = i % 8 ? (uint8_t)(bytes[i - 1] * 7 + 1) : (uint8_t)(random_u64() >> 32);
}

struct fixture {
	char dir[64];
	struct store *store;
	struct txn *txn;
};

static inline int fixture_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline void fixture_open(struct fixture *f)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(f->dir, sizeof(f->dir), "%s/drsfs-content-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(f->dir) != NULL);
	struct store_options options = { .dir = f->dir, .role = STORE_MASTER, .create = true, .lazy_sync = true };
	cr_assert(eq(int, store_open(&options, &f->store), 0));
	cr_assert(eq(int, txn_begin_write(f->store, &f->txn), 0));
	version_begin(f->txn);
}

static inline void fixture_commit(struct fixture *f)
{
	struct version_info info;
	if (version_dirty(f->txn))
		cr_assert(eq(int, version_seal(f->txn, 1, "", &info), 0));
	cr_assert(eq(int, txn_commit(f->txn), 0));
	cr_assert(eq(int, txn_begin_write(f->store, &f->txn), 0));
	version_begin(f->txn);
}

static inline void fixture_put_node(struct fixture *f, ino_id ino, const struct node *node)
{
	struct buffer record = BUFFER_INIT;
	struct record_key key = record_key_node(ino);
	node_encode(node, &record);
	cr_assert(eq(int, record_put(f->txn, txn_state(f->txn)->pending, &key, buffer_slice(&record)), 0));
	buffer_fini(&record);
}

static inline void fixture_tell(void *user, const char *text)
{
	(void)user;
	fprintf(stderr, "%s\n", text);
}

/* Give files 2 … ino_last names in a root directory, commit, and have the whole store checked: every chunk is there and counted rightly. */
static inline void fixture_verify(struct fixture *f, ino_id ino_last)
{
	struct node root = { .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT };
	fixture_put_node(f, INO_ROOT, &root);
	for (ino_id ino = 2; ino <= ino_last; ino++) {
		char name = (char)('a' + ino);
		struct record_key key = record_key_name(f->txn, INO_ROOT, &name, 1);
		uint8_t value[16];
		size_t size;
		name_encode(ino, DT_REG, value, &size);
		while (txn_state(f->txn)->ino_last < ino)
			record_next_ino(f->txn);
		cr_assert(eq(int, record_put(f->txn, txn_state(f->txn)->pending, &key, (struct slice){ value, size }), 0));
	}
	fixture_commit(f);
	txn_abort(f->txn);
	f->txn = NULL;
	cr_assert(eq(int, store_verify(f->store, fixture_tell, NULL, NULL), 0));
}

static inline void fixture_close(struct fixture *f)
{
	txn_abort(f->txn);
	store_close(f->store);
	nftw(f->dir, fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
