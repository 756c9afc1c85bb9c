/*
 * The store of one volume on one node: an LMDB environment in a state directory.
 *
 * Everything lives in one B-tree (the unnamed database), so that a small update touches few pages. Keys start with one byte:
 *
 *   'c' chunk id                chunk: u8 flags, then the bytes                     (chunk.h)
 *   'g' chunk id                garbage queue: chunks whose count may be zero
 *   'k' chunk id                be64 reference count; present for every wanted or held chunk
 *   'r' record key, be64 ~v     a record as version v wrote it, or its tombstone    (record.h)
 *   'v' be64 v, record key      change index: v wrote that key (drafts too: behind all versions, for dropping them)
 *   'v' be64 v                  what is known about version v                       (version.h), or about the batch whose draft v is (batch.h)
 *   'v' ff…fe                   how far a slave's unfinished delta got
 *   'v' ff…ff                   the state (below), beside the newest version, on the page that a commit writes anyway
 *   'w' chunk id                want: a held record needs this chunk and it is not here yet
 *
 * Integers in keys are big-endian; ~v is the complement, so that a seek to (key, ~v) lands on the newest record not above v.
 * Crash safety is LMDB's: no MDB_NOSYNC, no MDB_WRITEMAP. A lazy store (slave) uses MDB_NOMETASYNC: a power cut may take its
 * last commit, never its integrity.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "drsfs/types.h"

struct store;
struct txn;

enum store_role { STORE_MASTER = 1, STORE_SLAVE = 2 };

#define VERSION_NONE ((version_t)0)
#define VERSION_MAX ((version_t)1 << 62)        /* numbers above are drafts */
#define VERSION_DRAFT_FIRST ((version_t)1 << 63) /* of batches' drafts (batch.h) */
#define VERSION_DRAFT (UINT64_MAX - 2)          /* the live draft of the master's mount: the highest, so that it comes before all others */

struct store_options {
	const char *dir;      /* the state directory; made (0700) if 'create' */
	enum store_role role; /* a store keeps the role it was created with: else -DRS_EROLE; 0: either (not with 'create') */
	bool create;          /* make a store if there is none; else -DRS_ENOSTORE */
	bool read_only;       /* for other processes (log, verify); takes no lock */
	bool lazy_sync;       /* MDB_NOMETASYNC */
	size_t map_bytes;     /* address space for the store; 0: a default of 1 TiB (less where address space is short) */
};

/*
 * What a store remembers besides records. Read by any transaction; changed only through the functions of the store's modules.
 * The secret keys digests, chunk ids and name hashes; on a slave it is zero until it has joined (store_join).
 */
struct store_state {
	uint32_t format;
	enum store_role role;
	struct did did;
	uint8_t secret[16];
	version_t current;         /* the newest committed version */
	version_t assigned;        /* the highest number ever given out, >= current (R1.1) */
	version_t horizon;         /* deltas can be made from any version >= horizon; 0 while nothing was retired */
	ino_id ino_last;           /* the highest inode number ever given out */
	struct digest digest;      /* of the tree at 'current' */
	uint64_t nodes;            /* live nodes at 'current' (statfs) */
	version_t pending;         /* the number that records are being written under; 0: none */
	struct digest pending_digest; /* of the tree at 'pending' as far as written */
	uint64_t pending_nodes;
	uint64_t pending_records;  /* records written under 'pending' */
	uint64_t pending_bytes;    /* bytes of keys and values of those, and of new chunks */
	/* A slave's unfinished delta (delta.h); to == 0: none. */
	struct {
		version_t from, to;
		bool complete;
		bool records_done;     /* all records are here, perhaps not yet all chunks */
		struct digest digest;  /* what the master says that 'to' has */
	} stage;
};

/*
 * Open the store and take the lock on its directory (file "lock", held until store_close; not when read_only).
 * Creates DID and secret for a new master. Drops drafts that a killed master left behind, but for those of batches that stay, and
 * aborts a proposed batch (batch.h).
 * Errors: -DRS_ELOCKED, -DRS_ENOSTORE, -DRS_EROLE, -DRS_EFORMAT, -DRS_ECORRUPT, -ENOSPC, other errno.
 */
int store_open(const struct store_options *, struct store **ret_store);
void store_close(struct store *); /* NULL is fine; no transaction may be open */
const char *store_dir(const struct store *);

/* A new slave takes the identity of its volume, durably. -DRS_EVOLUME if it has another one already. One write transaction of its own. */
int store_join(struct store *, const struct did *, const uint8_t secret[16]);

/*
 * Transactions. Readers: any number, any thread, each sees the store as committed when it began (or was resumed); slices into
 * the store die with the transaction, in a write transaction already with its next write. A reader belongs to one thread at a time.
 * Writer: one at a time, begun and ended by one thread.
 * A long-lived reader must be parked when idle: while it is open no page that it can see is reused.
 */
int txn_begin_read(struct store *, struct txn **ret_txn);
void txn_park(struct txn *);        /* read transactions only */
int txn_resume(struct txn *);       /* sees the newest commit; 0 or an error (-ENOMEM) */
int txn_begin_write(struct store *, struct txn **ret_txn);
int txn_commit(struct txn *);       /* durable on return 0; frees the transaction in any case; on error nothing was changed */
void txn_abort(struct txn *);       /* NULL is fine; ends either kind */
const struct store_state *txn_state(const struct txn *); /* as this transaction sees it, own changes included */
struct store *txn_store(const struct txn *);
size_t txn_dirty_bytes(const struct txn *); /* about how many bytes this write transaction has written so far */

/*
 * Make sure that a commit of the open write transaction can still find disk room after 'bytes' more of keys and values: behind the data file's
 * end, where blocks are allocated ahead, or on a full disk among the free pages inside. 'frees': the operation gives space back in the end
 * (unlink, rmdir, truncate to 0) and writes only small rows: it may use the reserve (STORE_RESERVE_BYTES, more in a large store) that other operations
 * may not. 0 or -ENOSPC. Cheap when there is room. The answer assumes the worst of all that this transaction wrote before: on -ENOSPC commit
 * and ask again in the next before giving up. What a commit freed on a full disk can be used by the
 * next transaction, unless a reader still needs it.
 */
#define STORE_RESERVE_BYTES ((size_t)4 << 20)
int txn_admit(struct txn *, size_t bytes, bool frees);
/* Content of so many bytes is in memory and will be stored in this transaction: every answer reckons with it. */
void txn_hold(struct txn *, size_t bytes);

/* For statfs: what writes can still get, from the file system under the store and from the free pages inside it. */
struct store_space {
	uint64_t total_bytes, free_bytes, used_bytes; /* used: pages of the store that hold something */
};
int store_space(struct store *, struct store_space *ret_space);
/* Could so many bytes be written now? 0 or -ENOSPC. Cheap while the disk itself has them. */
int store_space_for(struct store *, uint64_t bytes);

#endif
