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

enum plant {
	PLANT_NONE,
	PLANT_ACK_EARLY,     /* a slave says durable before it is */
	PLANT_HALF,          /* a slave applies half a delta */
	PLANT_BACKWARDS,     /* a slave opens an old copy after a crash */
	PLANT_REUSE,         /* the master forgets in a crash what it gave since it started, and gives the numbers again */
	PLANT_UNSTORED,      /* the master says that a number is stored, and it is not */
	PLANT_NARROW,        /* the master tells a scope that is too narrow */
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

/* All that was ever committed, for the checkers. */
struct history {
	size_t count, capacity;
	struct history_entry {
		struct drs_version version;
		struct map map;
	} *entries;
};
const struct history_entry *history_find(const struct history *, const struct drs_version *);

/* The master's user. All of it is durable as soon as a call returns, except what a planted fault loses. */
struct master_user {
	struct map map;
	struct drs_version changed[MAP_KEYS]; /* which version wrote the key last */
	struct drs_version version;           /* of the map */
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
void master_user_delta(const struct master_user *, const struct drs_version *from, bool complete, unsigned classes, struct map_delta *ret_delta);
int master_user_store(struct master_user *, const struct drs_version *);

/* A slave's user. 'seen' is what its readers see, 'disk' what a crash leaves. */
struct replica {
	struct map map;
	struct drs_version version;
};
struct slave_user {
	unsigned classes;                     /* bits */
	struct replica seen, disk, older;
	bool damaged;                         /* on purpose, by the simulator; until a digest was right again */
};
void slave_user_init(struct slave_user *, unsigned index, const char *name, struct scope *ret_clusters);
void slave_user_crash(struct slave_user *);
void slave_user_damage(struct slave_user *, uint8_t key);
int slave_user_apply(struct slave_user *, const struct map_delta *);
int slave_user_take(struct slave_user *, const struct drs_version *);

#endif
