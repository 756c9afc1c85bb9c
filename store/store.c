/*
 * The environment of a store: its directory, the lock against a second daemon, LMDB's handle, and the identity that is made or
 * found there. It is also the one place where LMDB's error codes become ours. Transactions and rows are in txn.c, disk room in
 * space.c.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/internal.h"

#define MAP_BYTES_DEFAULT ((size_t)1 << 40)
#define MAP_BYTES_MIN ((size_t)64 << 20)
#define READERS_MAX 256

int store_error(int code)
{
	switch (code) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PAGE_FULL:
	case MDB_CURSOR_FULL:
	case MDB_BAD_VALSIZE:
	case MDB_INCOMPATIBLE:
		return -DRS_ECORRUPT;
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
		return -DRS_EFORMAT;
	case MDB_TXN_FULL:
	case MDB_READERS_FULL:
		return -ENOMEM;
	case MDB_PANIC: /* an earlier write of the meta page failed; only opening again helps */
	case MDB_MAP_RESIZED:
	case MDB_BAD_TXN:
		return -EIO;
	default:
		return code > 0 ? -code : -EIO;
	}
}

/* --- opening */

static void path_of(const struct store *store, const char *file, char path[PATH_MAX + 16])
{
	snprintf(path, PATH_MAX + 16, "%s/%s", store->dir, file);
}

static bool data_exists(const struct store *store)
{
	char path[PATH_MAX + 16];
	struct stat st;
	path_of(store, "data.mdb", path);
	return stat(path, &st) == 0 && st.st_size > 0;
}

static int make_dir(const struct store *store, const struct store_options *options)
{
	if (!options->create)
		return data_exists(store) ? 0 : -DRS_ENOSTORE;
	return mkdir(store->dir, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

static int take_lock(struct store *store)
{
	char path[PATH_MAX + 16];
	path_of(store, "lock", path);
	store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (store->lock_fd < 0)
		return -errno;
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -DRS_ELOCKED : -errno;
}

static int open_env_with(struct store *store, const struct store_options *options, size_t map_bytes)
{
	unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (options->read_only ? MDB_RDONLY : 0) | (options->lazy_sync ? MDB_NOMETASYNC : 0);
	int rc = mdb_env_create(&store->env);
	if (rc)
		return rc;
	rc = mdb_env_set_mapsize(store->env, map_bytes);
	if (!rc)
		rc = mdb_env_set_maxreaders(store->env, READERS_MAX);
	if (!rc)
		rc = mdb_env_open(store->env, store->dir, flags, 0600);
	if (rc) {
		mdb_env_close(store->env);
		store->env = NULL;
	}
	return rc;
}

/* As much address space as there is: it costs nothing until it is used, and growing it later would stop all readers. */
static int open_env(struct store *store, const struct store_options *options)
{
	size_t map_bytes = options->map_bytes ? options->map_bytes : MAP_BYTES_DEFAULT;
	int rc = open_env_with(store, options, map_bytes);
	while (rc == ENOMEM && map_bytes / 2 >= MAP_BYTES_MIN) {
		map_bytes /= 2;
		rc = open_env_with(store, options, map_bytes);
	}
	if (rc == ENOENT && options->read_only)
		return -DRS_ENOSTORE;
	return store_error(rc);
}

/* A data file that was cut short would kill us with SIGBUS later. */
static int check_length(struct store *store)
{
	MDB_envinfo info;
	MDB_stat stat_;
	struct stat st;
	int rc = mdb_env_info(store->env, &info);
	if (!rc)
		rc = mdb_env_stat(store->env, &stat_);
	if (!rc)
		rc = mdb_env_get_fd(store->env, &store->data_fd);
	if (rc)
		return store_error(rc);
	store->page_bytes = stat_.ms_psize;
	if (fstat(store->data_fd, &st) != 0)
		return -errno;
	bool empty = info.me_last_txnid == 0;
	return empty || (uint64_t)st.st_size >= (info.me_last_pgno + 1) * (uint64_t)stat_.ms_psize ? 0 : -DRS_ECORRUPT;
}

static int open_rows(struct store *store)
{
	MDB_txn *mdb;
	int rc = mdb_txn_begin(store->env, NULL, store->read_only ? MDB_RDONLY : 0, &mdb);
	if (rc)
		return store_error(rc);
	rc = mdb_dbi_open(mdb, NULL, 0, &store->rows);
	if (rc) {
		mdb_txn_abort(mdb);
		return store_error(rc);
	}
	return store_error(mdb_txn_commit(mdb));
}

/* --- identity */

static int random_bytes(void *at, size_t size)
{
	ssize_t got = getrandom(at, size, 0);
	return got == (ssize_t)size ? 0 : got < 0 ? -errno : -EIO;
}

static int create_state(struct store *store, enum store_role role)
{
	struct txn *txn;
	int error = txn_begin_write(store, &txn);
	if (error)
		return error;
	txn->state = (struct store_state){ .format = STORE_FORMAT, .role = role, .ino_last = INO_ROOT };
	if (role == STORE_MASTER)
		error = random_bytes(&txn->state.did, sizeof(txn->state.did));
	if (!error && role == STORE_MASTER)
		error = random_bytes(txn->state.secret, sizeof(txn->state.secret));
	if (error) {
		txn_abort(txn);
		return error;
	}
	return txn_commit(txn);
}

static bool is_empty(struct store *store)
{
	MDB_stat st;
	return mdb_env_stat(store->env, &st) == 0 && st.ms_entries == 0;
}

static int find_state(struct store *store, const struct store_options *options)
{
	struct txn *txn;
	if (is_empty(store)) {
		int error = options->create && !options->read_only ? create_state(store, options->role) : -DRS_ENOSTORE;
		if (error)
			return error;
	}
	int error = txn_begin_read(store, &txn);
	if (error)
		return error;
	store->role = txn->state.role;
	txn_abort(txn);
	return options->role && store->role != options->role ? -DRS_EROLE : 0;
}

static int open_parts(struct store *store, const struct store_options *options)
{
	int error = make_dir(store, options);
	if (!error && !options->read_only)
		error = take_lock(store);
	if (!error)
		error = open_env(store, options);
	if (!error)
		error = check_length(store);
	if (!error)
		error = open_rows(store);
	if (!error && !options->read_only)
		error = space_open(store);
	if (!error)
		error = find_state(store, options);
	if (!error && !options->read_only)
		error = batch_clean(store);
	return error;
}

int store_open(const struct store_options *options, struct store **ret_store)
{
	assert(!options->create || options->role);
	if (strlen(options->dir) >= PATH_MAX)
		return -ENAMETOOLONG;
	struct store *store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->lock_fd = -1;
	pthread_mutex_init(&store->counted_lock, NULL);
	store->read_only = options->read_only;
	strcpy(store->dir, options->dir);
	int error = open_parts(store, options);
	if (error) {
		store_close(store);
		return error;
	}
	*ret_store = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	if (store->env)
		mdb_env_close(store->env);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	pthread_mutex_destroy(&store->counted_lock);
	free(store);
}

const char *store_dir(const struct store *store)
{
	return store->dir;
}

int store_join(struct store *store, const struct did *did, const uint8_t secret[16])
{
	static const struct did none;
	struct txn *txn;
	int error = txn_begin_write(store, &txn);
	if (error)
		return error;
	if (memcmp(&txn->state.did, &none, sizeof(none)) != 0) {
		bool same = memcmp(&txn->state.did, did, sizeof(*did)) == 0 && memcmp(txn->state.secret, secret, sizeof(txn->state.secret)) == 0;
		txn_abort(txn);
		return same ? 0 : -DRS_EVOLUME;
	}
	assert(txn->state.current == VERSION_NONE && !txn->state.pending);
	txn->state.did = *did;
	memcpy(txn->state.secret, secret, sizeof(txn->state.secret));
	return txn_commit(txn);
}
