/*
 * The slave's half of the DRS core: hears heartbeats, decides whether to take, apply inline, or pull, and reports (R2, R3); a participant of two
 * phase (R4). No I/O; see drsfs/event.h.
 */
#ifndef SLAVE_CORE_H
#define SLAVE_CORE_H

#include "drsfs/event.h"

struct slave_core_config {
	struct did did;
	bool did_known;
	const struct drs_version_ops *ops;
	struct drs_version version;
	const char *name;                /* this server, at most NAME_TEXT_MAX - 1 */
	const struct scope *clusters;    /* the clusters that it belongs to */
	bool multicast;                  /* listens to a group */
	uint32_t dial_retry_ms_min, dial_retry_ms_max; /* back-off between attempts, doubling */
	uint64_t seed;                   /* for spreading retries of many slaves */
};

enum slave_state {
	SLAVE_ALONE,     /* no link to the master */
	SLAVE_JOINING,   /* said hello, not yet welcome */
	SLAVE_CURRENT,   /* has the newest version it knows of */
	SLAVE_PULLING,
	SLAVE_COMMITTING,
	SLAVE_WAITING,   /* behind, and waiting to try again after a failure (disk full, say, or a check that did not accept the version) */
	SLAVE_REFUSED,
	SLAVE_PREPARING, /* two phase: getting the proposed version */
	SLAVE_CHECKING,  /* having it checked */
	SLAVE_PREPARED,  /* has acked, or will when it is asked again; waits for the decision */
};

struct slave_core;
int slave_core_new(const struct slave_core_config *, time_ms now, struct slave_core **ret_core);
void slave_core_free(struct slave_core *);
void slave_step(struct slave_core *, const struct event *, struct actions *);
time_ms slave_deadline(const struct slave_core *);

struct slave_status {
	enum slave_state state;
	struct drs_version version, known; /* own, and the newest that the master told */
	struct drs_version prepared;       /* the proposed one in SLAVE_PREPARING, SLAVE_CHECKING and SLAVE_PREPARED; else zero */
	time_ms beat_seen;                 /* when the last heartbeat came; 0: none yet */
	enum beat_path path;
	int error;                         /* why it is waiting or refused; 0 */
};
void slave_core_status(const struct slave_core *, struct slave_status *ret_status);
const char *slave_state_name(enum slave_state);

#endif
