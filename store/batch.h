/*
 * Batches: changes that are collected apart from the tree until they are committed as one version, or dropped (R4). A batch is a draft (record.h) with a
 * row that keeps it over restarts: its base, the version that its view stands on, and what became of it.
 *
 *   OPEN --rebase, propose--> PROPOSED --commit--> (gone; its records are the version's)
 *     ^                          |
 *     '--------- abort ----------'        OPEN --drop--> (gone)
 *
 * A batch has two draft numbers: what is written stands under batch_draft(); what is not finished (files still open for writing) under
 * batch_waiting(), which its own view alone sees and which is not part of what is proposed.
 *
 * The version's number is given when it is proposed, the content_version of what the batch writes before: it reserves a number when it begins, so that
 * no record has to be rewritten then. The version gets that number, too, if it is still the newest and no aborted proposal has spent it.
 *
 * A store that is opened with a proposed batch aborts it: the decision had not been made (presumed abort; version_aborted tells the number). Transient batches
 * and whatever was not finished are dropped then.
 * Bases are pinned: retention never moves the horizon past batch_horizon().
 */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include "store/delta.h"

#define BATCH_NAME_BYTES_MAX 63
#define BATCHES_MAX 1000

enum batch_state { BATCH_OPEN = 1, BATCH_PROPOSED = 2 };

struct batch_info {
	uint32_t id;             /* from 1; never used twice in a store */
	enum batch_state state;
	bool transient;          /* dropped when the store is opened */
	bool operation;          /* of one operation of the live tree itself: what waits in the live draft does not stand against it */
	bool frees;              /* and one that gives room back in the end: it may use the reserve (txn_admit) */
	version_t base;
	version_t reserved;      /* a number that no other version gets (R1.1): the content_version of what it writes */
	version_t proposed;      /* the number, while PROPOSED */
	int64_t begun_ns;        /* CLOCK_REALTIME */
	char name[BATCH_NAME_BYTES_MAX + 1];
	char message[VERSION_MESSAGE_BYTES_MAX + 1]; /* for the version's history, while PROPOSED */
	bool moves;              /* it moves directories to other parents (while PROPOSED): the live tree must not do so before the decision */
	/* While PROPOSED, as the version will have them. */
	int64_t time_ns;
	struct digest digest;
	uint64_t nodes, records, bytes;
	uint64_t row_bytes;      /* of the rows that committing moves */
};

/*
 * Later batches have lower numbers. Then a record stands behind the places where drafts of its key stood before, which LMDB keeps as boundaries between
 * pages: on the same page as the version that it becomes.
 */
static inline version_t batch_draft(uint32_t id)
{
	return VERSION_DRAFT_FIRST + 2 * (version_t)(UINT32_MAX - id);
}

static inline version_t batch_waiting(uint32_t id)
{
	return batch_draft(id) + 1;
}

/* Whose is this draft number? */
static inline uint32_t batch_of(version_t draft)
{
	return UINT32_MAX - (uint32_t)((draft - VERSION_DRAFT_FIRST) / 2);
}

enum batch_flags { BATCH_TRANSIENT = 1, BATCH_OPERATION = 2, BATCH_FREES = 4 };
/* On top of the current version; what is pending is not in it. -ENAMETOOLONG; -EUSERS: there are BATCHES_MAX; -EEXIST: a name that another one has ("" may be
 * had by many). */
int batch_begin(struct txn *, const char *name, unsigned flags, int64_t begun_ns, struct batch_info *ret_info);
int batch_get(struct txn *, uint32_t id, struct batch_info *ret_info);           /* -ENOENT */
int batch_find(struct txn *, const char *name, struct batch_info *ret_info);     /* -ENOENT */
int batch_next(struct txn *, uint32_t after, struct batch_info *ret_info);       /* the next id > after; -ENOENT */
version_t batch_horizon(struct txn *);                                          /* the lowest base; VERSION_MAX if there is no batch */
/* The content_version of new content that is written under a number: of a batch's drafts what it has reserved, else the number itself. */
version_t batch_content_version(struct txn *, version_t at);
/* What the batch has changed: version_change_next(txn, batch_draft(id), &key). */

/* Take away up to 'work_max' of its records, then its row. A store that is closed in between drops the rest when it is opened. -EBUSY: it is proposed. */
int batch_drop(struct txn *, uint32_t id, size_t work_max, bool *ret_done);

/*
 * Is there disk room for what batch_rebase and batch_propose together, or batch_commit, will write? 0 or -ENOSPC, as txn_admit: to be asked in their transaction,
 * before them. (batch_begin and batch_abort write a small row: txn_admit(txn, 0, true) does for them.)
 */
int batch_admit(struct txn *, uint32_t id);

/*
 * Have the batch stand on the current version. Keys that both the batch and versions after its base changed are told to 'conflict' (which may be NULL), each
 * once, and nothing changes: returns their number.
 *
 * Not a conflict, since it can be merged: a directory's times and link count, where names in it changed on both sides, and any of its attributes that only
 * one side changed; the same value on both sides (but not a directory that both removed).
 * A conflict as well: a directory that the batch moved to below itself by what the tree did meanwhile; a record of the batch that would hang in the
 * air, since the tree removed the node it belongs to, or the other way round (merge.c has the table); a key that the live draft has. Of the
 * batch's unfinished records only those count that the tree changed too.
 *
 * Pending changes do not count: seal them before (-EBUSY if some are pending, or the batch is proposed).
 */
typedef void batch_conflict(void *user, const struct record_key *);
int batch_rebase(struct txn *, uint32_t id, batch_conflict *, void *user);

/*
 * Give it a number, the newest: durable with the transaction (R1.1), and spent from then on. Only right after batch_rebase gave 0, in the same transaction.
 * Afterwards nothing may be written under its drafts until it is committed or aborted, and the live tree may not be sealed. -ENODATA: it has changed
 * nothing; -EBUSY: another one is proposed, or it does not stand on the current version, or something is pending.
 */
int batch_propose(struct txn *, uint32_t id, int64_t proposed_at, const char *message, struct batch_info *ret_info);
/* The delta to the proposed version, byte for byte what it will be when it is committed: from its base, as delta_inline_make; from any version before, as
 * delta_source_open. */
int batch_inline_make(struct txn *, uint32_t id, size_t bytes_max, struct buffer *ret_bytes);
/* -DRS_EHORIZON: no batch is proposed as 'to'. */
int batch_source_open(struct store *, version_t to, struct slice opening, struct delta_source **ret_source);

/*
 * The decision, durable with the transaction. Commit: its records become the version's, and that current. What it has not finished is dropped. What the live tree
 * wrote meanwhile stays pending, on top of it, under the number that it has (which is higher): it must not have touched the batch's keys but for
 * names in its directories, whose nodes are merged. The mount sees to it, with batch_touches; with batch_removes for the directory that a name is made in and for
 * the node that gets an attribute; with batch_info.moves. Where it did not: -DRS_ECONFLICT, nothing was written, the batch can still be
 * aborted. -EINVAL: it is not proposed.
 */
int batch_commit(struct txn *, uint32_t id, struct version_info *ret_info);
/* The number is spent: history gets an ABORTED row with 'why'. The batch is open again, with all that it had. -EINVAL: it is not proposed. */
int batch_abort(struct txn *, uint32_t id, const char *why);

/* Does the batch have a record of this key? */
bool batch_touches(struct txn *, uint32_t id, const struct record_key *);
/* Does it remove what has this key? */
bool batch_removes(struct txn *, uint32_t id, const struct record_key *);

/*
 * The stage's side (delta.h): 'bytes' of batch_inline_make staged under their number, visible to nobody, as if a whole conversation had brought them: stage_ready is
 * true then, stage_commit commits. Errors as delta_inline_apply; whatever was staged before is dropped first (-EAGAIN: call again in the next transaction).
 */
int stage_inline(struct stage *, struct txn *, struct slice bytes);
/* Is what stage_commit would commit what the master has? 0 or -DRS_EDIGEST. Only when stage_ready. */
int stage_check(const struct stage *, struct txn *);

#endif
