/*
 * A user of the DRS layer that is no file system: a small replicated map from key to number. Its versions are no plain integers either: an epoch,
 * one more with every start of the master, and a counter within it. That is the point: the cores must not notice (R1.2, R9).
 *
 * Every key belongs to a class, and the class says whom it concerns: everyone, one of two clusters, or one server. A slave holds the classes that
 * concern it, and a delta carries a digest of each class at the version it leads to.
 *
 * Planted faults live here, in the user layer, never in the cores: they show that the checkers can fail.
 */
#ifndef SIM_USER_H
#define SIM_USER_H

#include "drsfs/drs.h"

#define MAP_KEYS 48
#define MAP_CLASSES 4 /* of key k: k % MAP_CLASSES */
enum map_class { CLASS_EVERYONE, CLASS_RED, CLASS_BLUE, CLASS_SERVER };
#define MAP_CHECKED 0 /* the key whose value a slave's check may not accept: */
enum map_checked { MAP_BAD = 1, MAP_GOOD = 2, MAP_TASTES = 3 }; /* by the rest of its division */

enum plant {
	PLANT_NONE,
	PLANT_ACK_EARLY,     /* a slave says durable before it is */
	PLANT_HALF,          /* a slave applies half a delta */
	PLANT_BACKWARDS,     /* a slave opens an old copy after a crash */
	PLANT_REUSE,         /* the master forgets in a crash what it gave since it started, and gives the numbers again */
	PLANT_UNSTORED,      /* the master says that a number is stored, and it is not */
	PLANT_NARROW,        /* the master tells a scope that is too narrow */
	PLANT_ACK_UNDURABLE, /* two phase: a slave says prepared, and its disk knows nothing of it */
	PLANT_MISSING_ACK,   /* an answer that is no Ack is taken for one */
	PLANT_EXPOSE,        /* a slave shows what it prepares */
	PLANT_DECIDE_EARLY,  /* the master's user says decided before it is durable */
	PLANT_KEEP_PREPARED, /* a slave does not forget what it is told to */
	PLANT_FORGET_ABORT,  /* a slave takes the aborted entries of a window for committed ones */
	PLANT_RESURRECT,     /* a master that starts takes an undecided proposal for committed */
	PLANT_REUSE_ABORTED, /* the number of an aborted proposal is given again */
	PLANT_CHANGE_MIND,   /* the master's user commits what it was told to abort */
	PLANTS
};
extern enum plant planted;
const char *plant_name(enum plant);

extern const struct drs_version_ops map_version_ops;

struct map {
	uint64_t values[MAP_KEYS]; /* 0: the key is not there */
};

struct map_delta {
	struct drs_version from, to;
	uint64_t digests[MAP_CLASSES];
	bool complete;             /* everything there is; what is not listed is not there */
	uint8_t count;
	struct map_change {
		uint8_t key;
		uint64_t value;
	} changes[MAP_KEYS];
};
/* The bytes of it that count, so that small ones fit into a heartbeat. */
size_t map_delta_bytes(const struct map_delta *);

/* All that was ever committed or proposed, for the checkers. */
enum fate { COMMITTED, PROPOSED, ABORTED };
struct history {
	size_t count, capacity;
	struct history_entry {
		struct drs_version version;
		struct map map;
		enum fate fate;
		uint32_t started_by;           /* the generation of the master that started two phase for it; 0: none */
		bool done;                     /* it was told that the job is over */
	} *entries;
};
struct history_entry *history_find(const struct history *, const struct drs_version *);

/* A map at a version, as the master keeps it. */
struct tree {
	struct map map;
	struct drs_version changed[MAP_KEYS]; /* which version wrote the key last */
	struct drs_version version;           /* of the map */
};

/* The master's user. All of it is durable as soon as a call returns, except what a planted fault loses. */
struct master_user {
	struct tree tree;
	struct tree proposal;                 /* of two phase, while 'proposing' */
	bool proposing;
	struct drs_version assigned;          /* the last number that was given */
	struct drs_version stored;            /* what store_version() was called with last */
	struct drs_version horizon;           /* deltas from below are complete: keys removed before are forgotten */
	uint32_t epoch;
	struct master_user *before;           /* PLANT_REUSE: what a crash falls back to */
};
void master_user_init(struct master_user *);
void master_user_fini(struct master_user *);
void master_user_crash(struct master_user *);
/* Set one key to 'value' (0 removes) as part of the next version; then seal. */
void master_user_set(struct master_user *, uint8_t key, uint64_t value);
/* The map moves to its next version; gives its scope and the delta that leads there. Adds it to the history: false if that has the number already. */
bool master_user_seal(struct master_user *, struct history *, struct scope *ret_scope, struct map_delta *ret_delta);
/* The same for two phase: the proposal begins as a copy of the map, gets its own changes, and a number of its own. */
void master_user_propose(struct master_user *);
void master_user_propose_set(struct master_user *, uint8_t key, uint64_t value);
bool master_user_propose_seal(struct master_user *, struct history *, struct scope *ret_scope, struct map_delta *ret_delta);
/* The decision, durable. False if the history says that it was decided before, and otherwise. */
bool master_user_decide(struct master_user *, struct history *, bool commit);
/* A number for something that is never started. */
bool master_user_waste(struct master_user *, struct history *, struct drs_version *ret_version);
/* 'tree' is the master's current one, or its proposal. */
void master_user_delta(const struct master_user *, const struct tree *, const struct drs_version *from, bool complete, unsigned classes,
		       struct map_delta *ret_delta);
int master_user_store(struct master_user *, const struct drs_version *);

/* A slave's user. 'seen' is what its readers see, 'disk' what a crash leaves. */
struct replica {
	struct map map;
	struct drs_version version;
};
struct slave_user {
	unsigned classes;                     /* bits */
	struct replica seen, disk, older;
	struct replica prepared;              /* in memory, and what the disk has of it */
	struct drs_version prepared_disk;
	bool damaged;                         /* on purpose, by the simulator; until a digest was right again */
};
void slave_user_init(struct slave_user *, unsigned index, const char *name, struct scope *ret_clusters);
void slave_user_crash(struct slave_user *);
void slave_user_damage(struct slave_user *, uint8_t key);
/* Would the check accept what the delta makes of the map? */
bool slave_user_accepts(const struct slave_user *, const struct map_delta *);
int slave_user_apply(struct slave_user *, const struct map_delta *);
int slave_user_take(struct slave_user *, const struct drs_version *);
/* Two phase: the delta of a proposed version becomes 'prepared', which nobody sees; then it is shown, or forgotten. */
int slave_user_prepare(struct slave_user *, const struct map_delta *);
int slave_user_commit_prepared(struct slave_user *);
void slave_user_unprepare(struct slave_user *);

#endif
