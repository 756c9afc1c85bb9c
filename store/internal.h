/*
 * What the store's own files share, and the only header that sees lmdb.h: the environment, a transaction with its cursors, rows
 * (the B-tree's pairs, keyed as in store.h), and the steps between modules that nobody outside may take.
 *
 * Rows are reached through one cursor a neighbourhood ("lane"): LMDB then finds a key near the last one without descending from
 * the root. A value that a row function gives is valid until the next write in its transaction.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <limits.h>
#include <lmdb.h>
#include <pthread.h>

#include "drsfs/buffer.h"
#include "drsfs/error.h"
#include "store/chunk.h"
#include "store/record.h"
#include "store/store.h"
#include "store/version.h"

#define STORE_FORMAT 3

/* First bytes of row keys. */
enum row {
	ROW_CHUNK = 'c',
	ROW_GARBAGE = 'g',
	ROW_COUNT = 'k',
	ROW_RECORD = 'r',
	ROW_VERSION = 'v',
	ROW_WANT = 'w',
};

#define ROW_KEY_BYTES_MAX (1 + 8 + RECORD_KEY_BYTES_MAX)
#define CHUNK_KEY_BYTES (1 + 16)
#define VERSION_KEY_BYTES (1 + 8)

/* Rows beside the newest version: on the page that a commit writes anyway. */
#define VERSION_STATE UINT64_MAX        /* the state */
#define VERSION_CURSOR (UINT64_MAX - 1) /* how far a slave's unfinished delta got (stage.c) */

enum lane { LANE_RECORDS, LANE_VERSIONS, LANE_CHUNKS, LANE_COUNTS, LANE_QUEUES, LANES };

#define RUN_SIZES 15 /* values of 2 to 16 pages */

/* Free pages inside the file that LMDB could use (space.c). */
struct free_room {
	uint64_t pages;
	uint64_t runs[RUN_SIZES];   /* those of them that values of each size surely find */
	uint64_t joined[RUN_SIZES]; /* and would find if all stood in one list */
	size_t lengths_count; /* of runs that were asked for */
	uint64_t lists;   /* in which they stand */
	bool complete;    /* no more was found than this */
	bool more_lists;  /* though there are more, behind too many */
};

/* What space.c has counted for store_space, as of one commit. */
struct counted_pages {
	bool known;
	size_t at; /* LMDB's number of it */
	uint64_t free, tree;
	struct free_room room;
};

struct store {
	MDB_env *env;
	MDB_dbi rows;
	bool read_only;
	enum store_role role;
	int lock_fd;
	int data_fd;              /* LMDB's own, for allocating ahead */
	size_t page_bytes;
	unsigned writers_begun;   /* write transactions so far */
	uint64_t allocated_bytes; /* the data file has disk blocks up to here; the writer's (space.c) */
	bool no_allocate;         /* the file system cannot allocate ahead */
	bool scattered;           /* something was refused only because free pages stand in many lists; the writer's */
	pthread_mutex_t counted_lock;
	struct counted_pages counted;
	char dir[PATH_MAX];
};

/* Keys of the hash functions, one for each use, derived from the store's secret. */
struct seeds {
	uint64_t digest, name, data, list;
};

struct txn {
	struct store *store;
	MDB_txn *mdb;
	bool writes;
	int error;                /* the first write that failed: such a transaction cannot be committed */
	unsigned resumed;         /* how many times; cursors from before must be renewed */
	MDB_cursor *lanes[LANES]; /* opened at first use */
	struct record_cursor *cursors;
	struct store_state state;
	struct seeds seeds;

	/* What a write transaction has done (space.c). */
	size_t dirty_bytes;
	uint64_t tree_pages_before, branch_pages_before, last_page_before;
	uint64_t leaf_writes;     /* pages that were perhaps copied, in eighths */
	uint64_t large_pages;     /* pages of values that have pages of their own */
	uint64_t freed_pages;     /* of values that went */
	size_t held_bytes;        /* of values that are yet to come */
	bool disk_full;
	bool room_known;
	struct free_room room;

	struct chunk_id *fresh;   /* chunks put or found uncounted; garbage if nothing counts them by commit */
	size_t fresh_count, fresh_capacity;
	struct buffer value, old; /* scratch of record writes */
};

/* --- store.c */
int store_error(int mdb_code); /* LMDB's codes to ours; 0 stays 0 */

/* --- txn.c: rows. Reads give 0, -ENOENT or an error. */
int row_get(struct txn *, struct slice key, struct slice *ret_value);
/* The first row with a key >= the given one; its key may start with any byte. */
int row_seek(struct txn *, struct slice key, struct slice *ret_key, struct slice *ret_value);
/* The row after or before the one that the lane of 'row' stands on. */
int row_next(struct txn *, enum row, struct slice *ret_key, struct slice *ret_value);
int row_previous(struct txn *, enum row, struct slice *ret_key, struct slice *ret_value);
/* Writes; a failure other than row_delete's -ENOENT poisons the transaction. */
int row_put(struct txn *, struct slice key, struct slice value);
int row_put_two(struct txn *, struct slice key, struct slice first, struct slice second); /* value in two parts */
int row_delete(struct txn *, struct slice key);
int txn_poison(struct txn *, int error); /* gives the error back */

static inline struct slice slice_of(const void *data, size_t size)
{
	return (struct slice){ data, size };
}

/* --- space.c */
void space_begin(struct txn *); /* a write transaction starts: how large is the tree? */
void space_wrote(struct txn *, enum row, size_t key_bytes, size_t value_bytes);
void space_deleted(struct txn *, enum row, size_t key_bytes, size_t value_bytes);
/* As txn_admit, for a step that takes things away and changes at most so many leaves of the tree. */
int space_admit_leaves(struct txn *, uint64_t leaves);
/* As txn_admit, for a step that writes 'bytes' all over the tree, in that many leaves. */
int space_admit_scattered(struct txn *, size_t bytes, uint64_t leaves, bool frees);
/* If free pages stand in too many lists: join them, in a transaction of its own. */
void space_join(struct store *);
bool space_ripens(const struct txn *); /* what it frees is badly needed */
int space_open(struct store *);

/* --- record.c */
struct digest record_digest(const struct txn *, const struct record_key *, struct slice value);
void digest_add(struct digest *, struct digest);
void digest_subtract(struct digest *, struct digest);
/* Is this a value that a record of that kind may have? Any input. -DRS_ECORRUPT. */
int record_value_check(const struct txn *, const struct record_key *, struct slice value);
/* The entries that a node record counts: its list, or nothing. -DRS_ECORRUPT. */
int record_entries(const struct record_key *, struct slice value, struct slice *ret_entries);
/* Keys of rows: ROW_RECORD key ~version, and ROW_VERSION version [key]; returned is the size. */
size_t record_row_key(uint8_t at[ROW_KEY_BYTES_MAX], const struct record_key *, version_t);
size_t change_row_key(uint8_t at[ROW_KEY_BYTES_MAX], version_t, const struct record_key *); /* NULL: what is known about the version */
/* Take apart; false: not such a row. */
bool record_row_parse(struct slice row_key, struct record_key *ret_key, version_t *ret_version);
bool change_row_parse(struct slice row_key, version_t *ret_version, struct record_key *ret_key); /* the key is empty for the version's own row */
/* A record row's value: a flag byte and the record, or nothing at all for a tombstone. */
#define RECORD_LIVE 1
static inline bool record_row_live(struct slice row_value)
{
	return row_value.size > 0;
}
static inline struct slice record_row_value(struct slice row_value)
{
	return slice_of((const uint8_t *)row_value.data + 1, row_value.size - 1);
}
/* What stands in a key's rows at one place. */
struct record_slot {
	bool present; /* a record or a tombstone */
	bool live;
	version_t at;
	struct slice value;
};
/* The newest of a key's records at or below 'at' (drafts are above all versions). None: 0, and not present. */
int record_slot_seek(struct txn *, const struct record_key *, version_t at, struct record_slot *ret_slot);
int record_slot_exact(struct txn *, const struct record_key *, version_t at, struct record_slot *ret_slot);
bool record_slot_same(const struct record_slot *, const struct record_slot *); /* do they show the same? */
/* Have a record (or tombstone) stand under another number, at which the key has none. Digests and counts stay as they are. A failure poisons. */
int record_move(struct txn *, const struct record_key *, version_t from, version_t to);
/* Take a row away that no retained version sees: no change row, digest or count of nodes is touched, only its chunks. */
int record_row_retire(struct txn *, const struct record_key *, version_t);
void record_cursors_end(struct txn *);

/* --- chunk.c */
struct chunk_id chunk_id_of(const struct txn *, bool list, struct slice bytes);
size_t chunk_row_key(uint8_t at[CHUNK_KEY_BYTES], enum row, const struct chunk_id *);
bool chunk_wanted(struct txn *, const struct chunk_id *);
int chunk_count(struct txn *, const struct chunk_id *, uint64_t *ret_count); /* how often it is named; -ENOENT */
int chunk_any(struct txn *, const struct chunk_id *, bool *ret_list, struct slice *ret_bytes); /* of either kind */
/* Where a chunk lies, of either kind, with its flags byte in front; nothing of it is touched. -ENOENT. */
int chunk_place(struct txn *, const struct chunk_id *, struct slice *ret_place);
int chunk_open(struct slice place, bool list, struct slice *ret_bytes); /* -DRS_ECORRUPT: 'list' is not what it is */
int entries_check(struct slice entries); /* does the whole list decode? -DRS_ECORRUPT */
int chunk_settle(struct txn *);          /* before commit: fresh chunks that nothing counts become garbage */

/* --- version.c */
/* The first change row behind (*at, *key): 1, and where it is; 0 if there is none up to 'to'. Versions' own rows are passed over. */
int change_next(struct txn *, version_t to, version_t *at, struct record_key *key);
/* Drop records of one number, pending or draft. */
int version_drop_at(struct txn *, version_t at, size_t work_max, bool *ret_done);
/* Make 'pending' current with this history. */
int version_commit(struct txn *, struct version_info *);
void version_pend(struct txn *, version_t, struct digest, uint64_t nodes); /* begin under a given number */
int version_info_put(struct txn *, const struct version_info *);           /* into the history */

/* --- batch.c */
/*
 * What lies below a draft number: of a batch's, its base; if the number is its waiting one, the finished one first (else 0). Of any other
 * draft: all versions (VERSION_MAX).
 */
int batch_layers(struct txn *, version_t draft, version_t *ret_base, version_t *ret_finished);
/* Is this a draft number that something may stand under, the live one or a batch's? */
bool batch_number_known(struct txn *, version_t draft);
/* A killed master's drafts: aborts what was proposed, and drops all but the finished drafts of batches that are to stay. */
int batch_clean(struct store *);

#endif
