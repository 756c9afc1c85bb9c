/*
 * Disk room: that a commit never fails for want of it, because writing was refused before.
 *
 * LMDB writes pages at commit, at the end of its file unless it finds free ones inside. So the blocks behind the file's end are
 * allocated ahead, and a write is admitted while all that its transaction may append still fits in there. When the disk is full
 * only two ways are left: operations that give space back in the end may use the last RESERVE_BYTES; others must rely on free
 * pages inside the file, and are admitted while there are many times as many as needed, and even so no more than the allocated
 * end could take if LMDB used none of them. Where free pages are too scattered for a chunk the end is eaten up a little; so the
 * more pages are free, the less of it must be left.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "store/internal.h"

#define AHEAD_BYTES ((uint64_t)32 << 20)
#define SLACK_PAGES 24   /* root and branches, the list of free pages, rounding */
#define FREE_ENOUGH 16   /* so many times the pages needed must be free inside: some are too scattered, some still seen by readers */
#define FREE_PLENTY 64
#define EIGHTHS 8

static uint64_t last_page(const struct store *store)
{
	MDB_envinfo info;
	return mdb_env_info(store->env, &info) == 0 ? info.me_last_pgno : 0;
}

static uint64_t tree_pages(struct txn *txn, uint64_t *ret_branches)
{
	MDB_stat st;
	if (mdb_stat(txn->mdb, txn->store->rows, &st) != 0)
		return 0;
	*ret_branches = st.ms_branch_pages;
	return st.ms_branch_pages + st.ms_leaf_pages;
}

void space_begin(struct txn *txn)
{
	txn->tree_pages_before = tree_pages(txn, &txn->branch_pages_before);
	txn->last_page_before = last_page(txn->store);
}

static uint64_t pages_of(const struct store *store, uint64_t bytes)
{
	return bytes / store->page_bytes + 1;
}

void space_wrote(struct txn *txn, enum row row, size_t key_bytes, size_t value_bytes)
{
	txn->dirty_bytes += key_bytes + value_bytes;
	if (value_bytes > txn->store->page_bytes / 2 - 64)
		txn->large_pages += pages_of(txn->store, value_bytes + 16);
	/* Rows about versions stand together; the others may each touch another leaf. */
	txn->leaf_writes += row == ROW_VERSION ? 1 : EIGHTHS;
}

/* The most pages that this transaction may append: new ones, and copies of those that it changes. */
static uint64_t appended_pages(struct txn *txn)
{
	uint64_t branches = 0, now = tree_pages(txn, &branches);
	uint64_t grown = now > txn->tree_pages_before ? now - txn->tree_pages_before : 0;
	uint64_t leaves = txn->leaf_writes / EIGHTHS;
	uint64_t copied = leaves + (leaves < txn->branch_pages_before ? leaves : txn->branch_pages_before);
	if (copied > txn->tree_pages_before)
		copied = txn->tree_pages_before;
	return txn->large_pages + grown + copied + copied / 256 + SLACK_PAGES;
}

/* --- allocating ahead */

static int allocate_to(struct store *store, uint64_t bytes)
{
	if (fallocate(store->data_fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0) {
		store->allocated_bytes = bytes;
		return 0;
	}
	if (errno == EOPNOTSUPP || errno == ENOSYS) {
		store->no_allocate = true;
		return 0;
	}
	return errno == EINTR ? -EINTR : -ENOSPC; /* EFBIG, EDQUOT: no room either */
}

/* A file system that cannot allocate is asked what it has. */
static int ask_room(const struct store *store, uint64_t end_bytes)
{
	struct statvfs fs;
	struct stat st;
	if (fstat(store->data_fd, &st) != 0 || fstatvfs(store->data_fd, &fs) != 0)
		return -errno;
	uint64_t more = end_bytes > (uint64_t)st.st_size ? end_bytes - (uint64_t)st.st_size : 0;
	return more <= (uint64_t)fs.f_bavail * fs.f_frsize ? 0 : -ENOSPC;
}

static int make_room(struct store *store, uint64_t end_bytes)
{
	if (!store->no_allocate && end_bytes <= store->allocated_bytes)
		return 0;
	uint64_t ahead = end_bytes / 64 > AHEAD_BYTES ? end_bytes / 64 : AHEAD_BYTES;
	if (!store->no_allocate && allocate_to(store, end_bytes + ahead) != 0) {
		int error = allocate_to(store, end_bytes);
		if (error)
			return error;
	}
	return store->no_allocate ? ask_room(store, end_bytes) : 0;
}

int space_open(struct store *store)
{
	struct stat st;
	if (fstat(store->data_fd, &st) != 0)
		return -errno;
	uint64_t end = (last_page(store) + 1) * store->page_bytes;
	store->allocated_bytes = (uint64_t)st.st_size;
	/* What the last process allocated is still ours, and holes inside get blocks too. A full disk is no reason not to open. */
	if (allocate_to(store, end + STORE_RESERVE_BYTES) == -ENOSPC)
		allocate_to(store, end);
	return 0;
}

/* --- free pages inside the file */

/* LMDB keeps them as lists in a tree of its own, the database with handle 0; each list starts with its length. */
static int count_free_pages(struct store *store, uint64_t *ret_pages)
{
	MDB_txn *mdb;
	MDB_cursor *cursor;
	MDB_val key, list;
	uint64_t pages = 0;
	int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &mdb);
	if (rc)
		return store_error(rc);
	rc = mdb_cursor_open(mdb, 0, &cursor);
	if (!rc) {
		while ((rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)) == 0)
			pages += *(const size_t *)list.mv_data;
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(mdb);
	if (rc != MDB_NOTFOUND)
		return store_error(rc);
	*ret_pages = pages;
	return 0;
}

static uint64_t free_pages(struct txn *txn)
{
	if (!txn->free_counted && count_free_pages(txn->store, &txn->free_pages) != 0)
		return 0;
	txn->free_counted = true;
	return txn->free_pages;
}

/* The disk is full: what is allocated already, up to 'end' and perhaps more, must do. */
static int admit_within(struct txn *txn, uint64_t end, uint64_t pages, bool frees)
{
	uint64_t room = txn->store->allocated_bytes;
	if (end > room)
		return -ENOSPC;
	if (frees)
		return 0;
	uint64_t times = free_pages(txn) / pages;
	uint64_t keep = times >= FREE_PLENTY ? STORE_RESERVE_BYTES / 8 : STORE_RESERVE_BYTES / 2;
	return times >= FREE_ENOUGH && end + keep <= room ? 0 : -ENOSPC;
}

int txn_admit(struct txn *txn, size_t bytes, bool frees)
{
	struct store *store = txn->store;
	uint64_t pages = appended_pages(txn) + pages_of(store, bytes + bytes / 4);
	uint64_t end = (txn->last_page_before + 1 + pages) * store->page_bytes;
	/* Asking a full disk costs: once a transaction is enough. */
	int error = txn->disk_full ? -ENOSPC : make_room(store, end + STORE_RESERVE_BYTES);
	txn->disk_full = error == -ENOSPC;
	if (error != -ENOSPC)
		return error;
	if (store->no_allocate)
		return frees ? ask_room(store, end) : -ENOSPC;
	return admit_within(txn, end, pages, frees);
}

int store_space(struct store *store, struct store_space *ret_space)
{
	struct statvfs fs;
	uint64_t free_pages;
	if (fstatvfs(store->data_fd, &fs) != 0)
		return -errno;
	int error = count_free_pages(store, &free_pages);
	if (error)
		return error;
	uint64_t pages = last_page(store) + 1;
	uint64_t used = (pages > free_pages ? pages - free_pages : 0) * store->page_bytes;
	uint64_t end = pages * store->page_bytes;
	uint64_t ahead = store->allocated_bytes > end ? store->allocated_bytes - end : 0;
	uint64_t inside = free_pages * store->page_bytes + ahead;
	uint64_t usable = (uint64_t)fs.f_bavail * fs.f_frsize + inside;
	*ret_space = (struct store_space){
		.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize,
		.free_bytes = usable > STORE_RESERVE_BYTES ? usable - STORE_RESERVE_BYTES : 0,
		.used_bytes = used,
	};
	return 0;
}
