/*
 * The master's half of the DRS core: what the current version is, which slaves there are and where they stand, what the next
 * heartbeat says and when (R2, R3), and the coordinator of two phase (R4). No I/O; see drsfs/event.h.
 */
#ifndef MASTER_CORE_H
#define MASTER_CORE_H

#include "drsfs/event.h"

struct master_core_config {
	struct did did;
	const struct drs_version_ops *ops;
	struct drs_version version;
	uint64_t incarnation;
	uint16_t link_port;
	uint32_t beat_interval_ms;       /* regular heartbeats */
	uint32_t window_beats;           /* how many heartbeats an entry stays in the window (R2.4) */
	uint32_t peers_max;              /* links at once; as many slaves that are gone are known, beyond that the one gone for longest is forgotten */
	uint32_t peer_silence_ms;        /* a slave without a link counts no longer (for the window) when not heard of for so long */
	bool multicast;                  /* false: everyone by unicast or link */
};

struct master_core;
int master_core_new(const struct master_core_config *, time_ms now, struct master_core **ret_core);
void master_core_free(struct master_core *);
void master_step(struct master_core *, const struct event *, struct actions *);
time_ms master_deadline(const struct master_core *); /* when the next EVENT_TICK is due */
/*
 * The heartbeat that ACTION_BEAT and ACTION_BEAT_TO of the last step mean. Each call takes the next sequence number; one call a step is enough,
 * the same bytes may go to all. The inline delta is the core's memory, valid until the next step.
 */
void master_beat(struct master_core *, struct beat *ret_beat);

/*
 * The members: every slave that was added or ever said hello, also those that are gone, until it is removed. The ones in a job's scope are its participants.
 */
struct member {
	char name[NAME_TEXT_MAX];
	peer_id peer;                    /* PEER_NONE: gone */
	bool heard;                      /* since this start; else only its name is known, and nothing below counts */
	struct drs_version version;      /* as it last reported */
	time_ms seen;                    /* when it was last heard of */
	time_ms behind_since;            /* since when it has not had the current version; 0: it has it */
	enum beat_path path;
	bool pulling;
};
size_t master_members(const struct master_core *, const struct member **ret_members);
/* A member of a former life, gone for now. 'clusters': those it belongs to; NULL: none. 0 (also if it is there); -EINVAL: no name; -EUSERS: there is no room. */
int master_add_member(struct master_core *, const char *name, const struct scope *clusters);
/* Forget one that is gone. -ENOENT: not known; -EBUSY: it has a link, or takes part in the job that runs (R4.7). */
int master_remove_member(struct master_core *, const char *name);
const struct drs_version *master_version(const struct master_core *);

/* --- two phase */

/* A number above the current one was aborted before this start: heartbeats tell it. Any other is of no interest. Before the first step. */
void master_tell_aborted(struct master_core *, const struct drs_version *);
/* The version of the job that runs, also while it waits for its turn or its decision for the disk; NULL: none. Valid until the next step. */
const struct drs_version *master_job(const struct master_core *);
/* Whether the job that runs is for this version and still undecided, so that EVENT_CANCEL will abort it. */
bool master_job_cancellable(const struct master_core *, const struct drs_version *);
/* One line for each participant of the job that runs, or ran last, by name in no order. Valid until the next EVENT_START; the lines change with each step. */
size_t master_votes(const struct master_core *, const struct drs_vote **ret_votes);

#endif
