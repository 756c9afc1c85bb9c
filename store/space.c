/*
 * Disk room: that a commit never fails for want of it, because writing was refused before.
 *
 * LMDB takes pages from the free ones inside its file, else from the file's end, which only ever moves on. So the blocks behind the end are
 * allocated ahead, and while the disk has some a write is admitted that fits in there wholly. Once the disk is full what counts is
 * how LMDB looks for pages (mdb_page_alloc of 0.9.24):
 *
 *   - It reads lists of free pages, in the order of the transactions that freed them, one more each time that those read so far do not do.
 *     Usable are the lists from before the oldest reader and before the last commit.
 *   - A single page is the lowest of those read: it is found while there is any.
 *   - A value of n pages needs n that follow each other, and takes the first such place: always from the start of a run. It fails only
 *     when all that is left of each run is shorter than n. So runs of r pages take values of at most n pages at least until the sum of
 *     r - (n - 1) is used up, in whatever order and together with single pages. A run whose pages stand in several lists may be entered
 *     in the middle, where a page of an earlier list follows one of a later: there it counts as two.
 *   - It gives up on a place inside after 60 n lists and goes to the end. So many lists need some room at the end.
 *   - A commit writes the lists that were read anew, in the order of pages, and one with the pages that it freed.
 *
 * Therefore: all pages that a transaction may need must fit into runs and end, or, when what it is yet to store is no larger than a page,
 * be free anywhere. What does not give space back must also leave a reserve, from which what does can always be done.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "store/internal.h"

#define AHEAD_BYTES ((uint64_t)32 << 20)
#define AHEAD_STEP_BYTES ((uint64_t)64 << 10)
#define RESERVE_BYTES_MAX ((uint64_t)64 << 20)
#define SLACK_PAGES 24      /* root and branches, rounding */
#define RUN_PAGES (RUN_SIZES + 1) /* the largest value: a chunk, and the list of freed pages if it is kept so short */
#define END_KEEP_PAGES 64   /* of the file's end, for when LMDB gives up looking inside */
#define LISTS_SURE 100      /* so many lists are read before it gives up */
#define LISTS_A_PAGE 60     /* and so many for each page at the end that giving up costs */
#define LIST_ENTRIES 480    /* pages on a page of a list, about */
#define BATCH_PAGES 16384   /* free pages that are looked at together */
#define SAMPLE_PAGES 65536
#define JOINED_MAX 512      /* runs that are joined at once */
#define JOIN_PAGES 64       /* of the tree, that joining so many changes at most */
#define EIGHTHS 8

static uint64_t last_page(const struct store *store)
{
	MDB_envinfo info;
	return mdb_env_info(store->env, &info) == 0 ? info.me_last_pgno : 0;
}

static uint64_t tree_pages(MDB_txn *mdb, MDB_dbi dbi, uint64_t *ret_branches)
{
	MDB_stat st;
	*ret_branches = 0;
	if (mdb_stat(mdb, dbi, &st) != 0)
		return 0;
	*ret_branches = st.ms_branch_pages;
	return st.ms_branch_pages + st.ms_leaf_pages;
}

void space_begin(struct txn *txn)
{
	txn->tree_pages_before = tree_pages(txn->mdb, txn->store->rows, &txn->branch_pages_before);
	txn->last_page_before = last_page(txn->store);
}

static uint64_t min_pages(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_pages(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t less(uint64_t from, uint64_t by)
{
	return from > by ? from - by : 0;
}

static uint64_t pages_of(const struct store *store, uint64_t bytes)
{
	return bytes / store->page_bytes + 1;
}

/* The larger the tree, the more of its pages may change when something large goes. */
static uint64_t reserve_bytes(const struct store *store, uint64_t tree)
{
	uint64_t more = tree / 4 * store->page_bytes;
	return STORE_RESERVE_BYTES + min_pages(more, RESERVE_BYTES_MAX);
}

/* --- what a transaction needs */

/* Pages of its own, that a value which shares its leaf with others does not have. */
static uint64_t own_pages(const struct store *store, size_t key_bytes, size_t value_bytes)
{
	return key_bytes + value_bytes > store->page_bytes / 2 - 64 ? pages_of(store, value_bytes + 16) : 0;
}

static void wrote_leaf(struct txn *txn, enum row row)
{
	/* Rows about versions stand together; the others may each touch another leaf. */
	txn->leaf_writes += row == ROW_VERSION ? 1 : EIGHTHS;
}

void space_wrote(struct txn *txn, enum row row, size_t key_bytes, size_t value_bytes)
{
	uint64_t pages = own_pages(txn->store, key_bytes, value_bytes);
	txn->dirty_bytes += key_bytes + value_bytes;
	txn->large_pages += pages;
	txn->freed_pages += pages; /* of the value that it took the place of, perhaps */
	wrote_leaf(txn, row);
}

void space_deleted(struct txn *txn, enum row row, size_t key_bytes, size_t value_bytes)
{
	txn->dirty_bytes += key_bytes;
	txn->freed_pages += own_pages(txn->store, key_bytes, value_bytes);
	wrote_leaf(txn, row);
}

/* What somebody asks for: values of 'bytes' in all, and changes of so many leaves. */
struct ask {
	size_t bytes;
	uint64_t leaves;
	bool frees;
};

struct need {
	uint64_t pages; /* at most */
	uint64_t list;  /* pages of the list of what it frees */
	uint64_t run;   /* of which so many must follow each other */
};

/* Copies of the pages that change, and new ones. */
static uint64_t changed_pages(struct txn *txn, uint64_t more_leaves)
{
	uint64_t branches, now = tree_pages(txn->mdb, txn->store->rows, &branches);
	uint64_t leaves = txn->leaf_writes / EIGHTHS + more_leaves;
	uint64_t copied = leaves + min_pages(leaves, txn->branch_pages_before);
	return less(now, txn->tree_pages_before) + min_pages(copied, txn->tree_pages_before) + SLACK_PAGES;
}

static struct need need_of(struct txn *txn, const struct ask *ask)
{
	const struct store *store = txn->store;
	uint64_t changed = changed_pages(txn, ask->leaves);
	uint64_t stored = txn->held_bytes + ask->bytes;
	struct need need = {
		.list = pages_of(store, (txn->freed_pages + changed) * sizeof(size_t) + 32),
		.pages = txn->large_pages + changed + pages_of(store, stored + stored / 2), /* more: rounding, leaves */
	};
	need.pages += 2 * need.list; /* it may grow while it is being written */
	need.run = max_pages(need.list, ask->frees ? 1 : own_pages(store, 0, ask->bytes));
	if (need.run > RUN_PAGES || txn->held_bytes) /* content is cut, and not as it was written */
		need.run = RUN_PAGES;
	return need;
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
static uint64_t unallocated_end(const struct store *store)
{
	struct statvfs fs;
	struct stat st;
	if (fstat(store->data_fd, &st) != 0 || fstatvfs(store->data_fd, &fs) != 0)
		return 0;
	return (uint64_t)st.st_size + (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* How far the data file can surely grow. */
static uint64_t end_bytes_max(const struct store *store)
{
	MDB_envinfo info;
	uint64_t bytes = store->no_allocate ? unallocated_end(store) : store->allocated_bytes;
	return mdb_env_info(store->env, &info) == 0 && info.me_mapsize < bytes ? info.me_mapsize : bytes;
}

static int make_room(struct store *store, uint64_t end_bytes)
{
	MDB_envinfo info;
	if (mdb_env_info(store->env, &info) != 0 || end_bytes >= info.me_mapsize)
		return -ENOSPC;
	if (!store->no_allocate && end_bytes <= store->allocated_bytes)
		return 0;
	uint64_t ahead = end_bytes / 64 > AHEAD_BYTES ? end_bytes / 64 : AHEAD_BYTES;
	if (!store->no_allocate && allocate_to(store, end_bytes + ahead) != 0) {
		int error = allocate_to(store, end_bytes);
		if (error)
			return error;
	}
	return !store->no_allocate || end_bytes <= unallocated_end(store) ? 0 : -ENOSPC;
}

/*
 * What the last process allocated is still ours, and holes inside get blocks too. On a full disk the blocks behind the end are found by asking
 * for ever more of them. That there are none is no reason not to open.
 */
int space_open(struct store *store)
{
	struct stat st;
	if (fstat(store->data_fd, &st) != 0)
		return -errno;
	uint64_t end = (last_page(store) + 1) * store->page_bytes, most = end + STORE_RESERVE_BYTES;
	store->allocated_bytes = (uint64_t)st.st_size;
	if (allocate_to(store, most) != -ENOSPC)
		return 0;
	while (end < most && allocate_to(store, end) == 0 && !store->no_allocate)
		end += AHEAD_STEP_BYTES;
	return 0;
}

/* --- free pages inside the file: LMDB keeps them as lists in a tree of its own, the database with handle 0 */

#define FREE_LISTS 0

struct free_page {
	uint64_t page;
	uint64_t list; /* the how manieth list it stands in */
};

struct batch {
	struct free_page *pages;
	size_t count;
	uint64_t *lengths; /* of runs, whatever lists they stand in; NULL: nobody asks */
	size_t lengths_count;
};

static int compare_pages(const void *a, const void *b)
{
	const struct free_page *one = a, *other = b;
	return one->page < other->page ? -1 : one->page > other->page;
}

/* Runs are judged for values of 2 pages and more. */
static uint64_t run_pages(int size)
{
	return (uint64_t)size + 2;
}

static void end_run(struct batch *batch, struct free_room *room, uint64_t run, uint64_t joined, bool joins)
{
	for (int size = 0; size < RUN_SIZES; size++) {
		room->runs[size] += less(run, run_pages(size) - 1);
		room->joined[size] += joins ? 0 : less(joined, run_pages(size) - 1);
	}
	if (joins)
		return;
	if (batch->lengths && joined >= RUN_PAGES && batch->lengths_count < JOINED_MAX)
		batch->lengths[batch->lengths_count++] = joined;
}

static void count_runs(struct batch *batch, struct free_room *room)
{
	uint64_t run = 0, joined = 0;
	qsort(batch->pages, batch->count, sizeof(*batch->pages), compare_pages);
	for (size_t i = 0; i < batch->count; i++) {
		const struct free_page *p = &batch->pages[i];
		bool joins = i && p->page == p[-1].page + 1;
		if (!joins || p->list < p[-1].list) {
			end_run(batch, room, run, joined, joins);
			run = 0;
		}
		run++;
		joined = joins ? joined + 1 : 1;
	}
	end_run(batch, room, run, joined, false);
	batch->count = 0;
}

static int oldest_in(const char *line, void *user)
{
	size_t *oldest = user, id;
	if (sscanf(line, "%*d %*x %zu", &id) == 1 && id < *oldest)
		*oldest = id;
	return 0;
}

/* Lists from before this transaction are usable. Told by the table of readers, in which those of other processes stand as well. */
static size_t oldest_needed(struct store *store, MDB_txn *mdb)
{
	size_t oldest = mdb_txn_id(mdb);
	int dead;
	mdb_reader_check(store->env, &dead);
	mdb_reader_list(store->env, oldest_in, &oldest);
	return oldest;
}

/* How much is to be looked at: lists from before 'before', at most 'lists_max', until 'goal' pages are found. */
struct search {
	size_t before;
	uint64_t lists_max;
	uint64_t goal;
	uint64_t skip;     /* the first pages that LMDB would take one by one */
	uint64_t *lengths; /* JOINED_MAX of them, or NULL */
};

/* What writing the lists anew will take, if no more than these are read. */
static uint64_t rewriting_pages(const struct free_room *room, uint64_t list_tree)
{
	return room->pages / LIST_ENTRIES + min_pages(room->lists, list_tree) + SLACK_PAGES / 4;
}

/* A list starts with its length and descends. */
static void take_list(struct batch *batch, const size_t *list, uint64_t *skip, struct free_room *room)
{
	size_t taken = min_pages(*skip, list[0]);
	*skip -= taken;
	for (size_t i = 1; i <= list[0] - taken; i++) {
		if (batch->count == BATCH_PAGES)
			count_runs(batch, room);
		batch->pages[batch->count++] = (struct free_page){ list[i], room->lists };
	}
	room->pages += list[0] - taken;
	room->lists++;
}

static int search_lists(MDB_cursor *cursor, const struct search *search, uint64_t list_tree, struct free_room *ret_room)
{
	struct free_room room = { .complete = true };
	struct batch batch = { .pages = malloc(BATCH_PAGES * sizeof(*batch.pages)), .lengths = search->lengths };
	uint64_t skip = search->skip;
	MDB_val key, list;
	int rc = batch.pages ? 0 : ENOMEM;
	while (!rc && (rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)) == 0) {
		if (*(const size_t *)key.mv_data >= search->before)
			break;
		if (room.lists == search->lists_max) {
			room.more_lists = true;
			break;
		}
		if (room.runs[RUN_SIZES - 1] >= search->goal + rewriting_pages(&room, list_tree)) {
			room.complete = false;
			break;
		}
		take_list(&batch, list.mv_data, &skip, &room);
	}
	if (batch.pages)
		count_runs(&batch, &room);
	free(batch.pages);
	if (rc && rc != MDB_NOTFOUND)
		return rc;
	room.lengths_count = batch.lengths_count;
	uint64_t rewriting = rewriting_pages(&room, list_tree);
	for (int size = 0; size < RUN_SIZES; size++) {
		room.runs[size] = less(room.runs[size], rewriting);
		room.joined[size] = less(room.joined[size], rewriting);
	}
	room.pages = less(room.pages, rewriting);
	*ret_room = room;
	return 0;
}

static int find_room_in(MDB_txn *mdb, const struct search *search, struct free_room *ret_room)
{
	MDB_cursor *cursor;
	uint64_t branches;
	int rc = mdb_cursor_open(mdb, FREE_LISTS, &cursor);
	if (!rc) {
		rc = search_lists(cursor, search, tree_pages(mdb, FREE_LISTS, &branches), ret_room);
		mdb_cursor_close(cursor);
	}
	return store_error(rc);
}

/* What is usable now. */
static int find_room(struct store *store, struct search search, struct free_room *ret_room)
{
	MDB_txn *mdb;
	int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &mdb);
	if (rc)
		return store_error(rc);
	search.before = oldest_needed(store, mdb);
	int error = find_room_in(mdb, &search, ret_room);
	mdb_txn_abort(mdb);
	return error;
}

/* --- asking */

/* Enough to judge a need of 'goal' pages. Readers that end meanwhile are only noticed by the next transaction. */
static int room_inside(struct txn *txn, uint64_t goal, uint64_t end_pages, struct free_room *ret_room)
{
	if (!txn->room_known || (txn->room.runs[RUN_SIZES - 1] < goal && !txn->room.complete)) {
		const struct search search = { .lists_max = LISTS_SURE + LISTS_A_PAGE * less(end_pages, 2 * RUN_PAGES), .goal = 2 * goal };
		int error = find_room(txn->store, search, &txn->room);
		if (error)
			return error;
		txn->room_known = true;
	}
	*ret_room = txn->room;
	return 0;
}

/* What is left of the end for values when LMDB has given up on some places inside. */
static uint64_t end_runs(uint64_t end_pages, const struct free_room *room)
{
	uint64_t given_up = room->lists > LISTS_SURE ? RUN_PAGES + room->lists / LISTS_A_PAGE : 0;
	return less(end_pages, RUN_PAGES - 1 + given_up);
}

/* The disk is full: what is allocated and what is free inside must do. */
static int admit_within(struct txn *txn, const struct need *need, bool frees)
{
	struct store *store = txn->store;
	uint64_t end = less(end_bytes_max(store) / store->page_bytes, txn->last_page_before + 1);
	uint64_t reserve = frees ? 0 : reserve_bytes(store, txn->tree_pages_before) / store->page_bytes;
	struct free_room room;
	if (need->list > RUN_PAGES)
		return -ENOSPC;
	int error = room_inside(txn, need->pages + reserve, end, &room);
	if (error)
		return error;
	store->scattered |= room.more_lists;
	if (need->pages + reserve > room.pages + end)
		return -ENOSPC;
	end = end_runs(less(end, frees ? 0 : END_KEEP_PAGES), &room);
	if (need->run <= 1 || need->pages <= room.runs[need->run - 2] + end)
		return 0;
	store->scattered |= need->pages <= room.joined[need->run - 2] + end;
	return -ENOSPC;
}

static int admit(struct txn *txn, const struct ask *ask)
{
	struct store *store = txn->store;
	struct need need = need_of(txn, ask);
	uint64_t end = (txn->last_page_before + 1 + need.pages) * store->page_bytes;
	/* Asking a full disk costs: once a transaction is enough. */
	int error = txn->disk_full ? -ENOSPC : make_room(store, end + reserve_bytes(store, txn->tree_pages_before));
	txn->disk_full = error == -ENOSPC;
	return txn->disk_full ? admit_within(txn, &need, ask->frees) : error;
}

int txn_admit(struct txn *txn, size_t bytes, bool frees)
{
	return admit(txn, &(struct ask){ .bytes = bytes, .frees = frees });
}

void txn_hold(struct txn *txn, size_t bytes)
{
	txn->held_bytes = bytes;
}

int space_admit_leaves(struct txn *txn, uint64_t leaves)
{
	return admit(txn, &(struct ask){ .leaves = leaves, .frees = true });
}

int space_admit_scattered(struct txn *txn, size_t bytes, uint64_t leaves, bool frees)
{
	return admit(txn, &(struct ask){ .bytes = bytes, .leaves = leaves, .frees = frees });
}

static int compare_lengths(const void *a, const void *b)
{
	const uint64_t *one = a, *other = b;
	return *one > *other ? -1 : *one < *other;
}

static int join_row(struct txn *txn, size_t which, size_t bytes, bool delete)
{
	uint8_t name[] = { ROW_GARBAGE, 0, (uint8_t)(which >> 8), (uint8_t)which };
	MDB_val key = { sizeof(name), name }, value = { bytes, NULL };
	int rc = delete ? mdb_del(txn->mdb, txn->store->rows, &key, NULL) : mdb_put(txn->mdb, txn->store->rows, &key, &value, MDB_RESERVE);
	return store_error(rc);
}

/*
 * Have LMDB read all lists that matter, so that it writes them as one: by asking for values as long as the runs, the longest first, which
 * it only finds when it has read where they stand, and giving them back. There is a run for each: those asked for before took one each.
 * A page of the tree that is copied meanwhile could break one, so all of those are made to change before, while LMDB has only read the
 * first list, or first few, and takes the lowest pages; rows that hold a page's number are as large as that number.
 */
static int take_runs(struct txn *txn, const uint64_t *lengths, size_t count)
{
	int error = 0;
	for (size_t i = 0; i < count && !error; i++)
		error = join_row(txn, i, sizeof(size_t), false);
	for (size_t i = 0; i < count && !error; i++)
		error = join_row(txn, i, lengths[i] * txn->store->page_bytes - 16, false);
	for (size_t i = 0; i < count && !error; i++)
		error = join_row(txn, i, 0, true);
	return error;
}

static int join_lists(struct txn *txn)
{
	uint64_t lengths[JOINED_MAX];
	const struct need need = need_of(txn, &(struct ask){ .frees = true });
	const struct search search = { .lists_max = LISTS_A_PAGE * (RUN_PAGES - 1), .goal = BATCH_PAGES, .skip = JOIN_PAGES, .lengths = lengths };
	struct free_room room;
	int error = find_room(txn->store, search, &room);
	if (error)
		return error;
	if (!room.lengths_count || need.pages > room.pages)
		return -ENOSPC;
	qsort(lengths, room.lengths_count, sizeof(*lengths), compare_lengths);
	uint64_t pages = 0;
	size_t count = 0;
	while (count < room.lengths_count && (pages += lengths[count]) <= SAMPLE_PAGES) /* it is memory, though nobody writes to it */
		count++;
	return take_runs(txn, lengths, count);
}

void space_join(struct store *store)
{
	struct txn *txn;
	if (!store->scattered)
		return;
	store->scattered = false;
	if (txn_begin_write(store, &txn) != 0)
		return;
	if (join_lists(txn) == 0)
		txn_commit(txn);
	else
		txn_abort(txn);
}

bool space_ripens(const struct txn *txn)
{
	return txn->disk_full && txn->freed_pages >= RUN_PAGES;
}

/* --- telling */

/* All free pages, also those that readers and the last commits still keep from being used. */
static int count_free_pages(MDB_txn *mdb, uint64_t *ret_pages)
{
	MDB_cursor *cursor;
	MDB_val key, list;
	uint64_t pages = 0;
	int rc = mdb_cursor_open(mdb, FREE_LISTS, &cursor);
	if (rc)
		return store_error(rc);
	while ((rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)) == 0)
		pages += *(const size_t *)list.mv_data;
	mdb_cursor_close(cursor);
	if (rc != MDB_NOTFOUND)
		return store_error(rc);
	*ret_pages = pages;
	return 0;
}

/* How many of the free pages can hold content: if they are many, the rest is taken to be like the first. */
static int count_usable_pages(MDB_txn *mdb, uint64_t free_pages, struct free_room *ret_room)
{
	static const struct search all = { .before = SIZE_MAX, .lists_max = UINT64_MAX, .goal = SAMPLE_PAGES };
	int error = find_room_in(mdb, &all, ret_room);
	if (!error && !ret_room->complete) {
		ret_room->joined[RUN_SIZES - 1] = (uint64_t)((double)ret_room->joined[RUN_SIZES - 1] * (double)free_pages / (double)ret_room->pages);
		ret_room->pages = free_pages;
	}
	return error;
}

/* What was counted holds until the next commit. */
static int count_pages(struct store *store, MDB_txn *mdb, struct counted_pages *counted)
{
	uint64_t branches;
	size_t at = mdb_txn_id(mdb);
	if (counted->known && counted->at == at)
		return 0;
	struct counted_pages now = { .known = true, .at = at, .tree = tree_pages(mdb, store->rows, &branches) };
	int error = count_free_pages(mdb, &now.free);
	if (!error)
		error = count_usable_pages(mdb, now.free, &now.room);
	if (!error)
		*counted = now;
	return error;
}

static int counted_pages(struct store *store, struct counted_pages *ret_counted)
{
	MDB_txn *mdb;
	int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &mdb);
	if (rc)
		return store_error(rc);
	pthread_mutex_lock(&store->counted_lock);
	int error = count_pages(store, mdb, &store->counted);
	*ret_counted = store->counted;
	pthread_mutex_unlock(&store->counted_lock);
	mdb_txn_abort(mdb);
	return error;
}

int store_space(struct store *store, struct store_space *ret_space)
{
	struct statvfs fs;
	struct counted_pages counted = { 0 };
	if (fstatvfs(store->data_fd, &fs) != 0)
		return -errno;
	int error = counted_pages(store, &counted);
	if (error)
		return error;
	uint64_t pages = last_page(store) + 1, disk = (uint64_t)fs.f_bavail * fs.f_frsize;
	uint64_t end = disk / store->page_bytes + (store->no_allocate ? 0 : less(store->allocated_bytes / store->page_bytes, pages));
	uint64_t some = less(counted.room.pages + end, reserve_bytes(store, counted.tree) / store->page_bytes + SLACK_PAGES);
	uint64_t runs = counted.room.joined[RUN_SIZES - 1] + less(end, END_KEEP_PAGES + RUN_PAGES + SLACK_PAGES);
	*ret_space = (struct store_space){
		.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize,
		.free_bytes = min_pages(some, runs) * store->page_bytes,
		.used_bytes = less(pages, counted.free) * store->page_bytes,
	};
	return 0;
}

int store_space_for(struct store *store, uint64_t bytes)
{
	struct statvfs fs;
	struct store_space space;
	if (fstatvfs(store->data_fd, &fs) != 0)
		return -errno;
	uint64_t kept = STORE_RESERVE_BYTES + RESERVE_BYTES_MAX + (END_KEEP_PAGES + RUN_PAGES + SLACK_PAGES) * store->page_bytes;
	if (bytes < less((uint64_t)fs.f_bavail * fs.f_frsize, kept))
		return 0;
	int error = store_space(store, &space);
	return error ? error : bytes > space.free_bytes ? -ENOSPC : 0;
}
