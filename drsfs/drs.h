/*
 * The DRS layer as its user sees it (patent ¶27-28, 57-66; R9): register a volume as master or slave, start or cancel a distribution, and
 * answer upcalls through a listener. The layer knows versions, peers and timers; versions and deltas are opaque to it (R1.2):
 * a delta is a conversation of frames between the master's user and the slave's user, which it only carries.
 *
 * All calls and upcalls happen on the node's thread (node.h), except where a function says that any thread may call.
 */
#ifndef DRSFS_DRS_H
#define DRSFS_DRS_H

#include "drsfs/buffer.h"
#include "drsfs/types.h"

/* A version as the user layer supplies it: bytes that only its own operations understand. */
struct drs_version {
	uint8_t bytes[16];
};

struct drs_version_ops {
	bool (*equal)(const struct drs_version *, const struct drs_version *);
	bool (*greater)(const struct drs_version *, const struct drs_version *); /* strictly; a > b */
	struct drs_version (*next)(const struct drs_version *);
	void (*format)(const struct drs_version *, char text[40]);               /* for logs and traces */
};

/* Who an update concerns: names of servers and clusters, each ended by NUL, sorted; none: everyone. */
#define SCOPE_BYTES_MAX 128
struct scope {
	uint16_t size;
	char names[SCOPE_BYTES_MAX];
};

#define NAME_TEXT_MAX 64 /* a server's or cluster's name, with NUL; letters, digits, '-', '_', '.' */

/* --- two phase (R4): what became of asking one slave */
enum drs_answer {
	DRS_UNREACHABLE, /* no link to it now; it is asked when there is one */
	DRS_ASKED,       /* and has not answered yet */
	DRS_SYNCING,     /* OutOfSync: it lacks the version before, pulls that, and is asked again as soon as it has it */
	DRS_PREPARED,    /* Ack: has all of it, durably, checked */
	DRS_REFUSED,     /* Nak */
	DRS_NOT_NEEDED,  /* counts no longer: the policy does without it, or it was removed from the members */
};

#define DRS_REASON_BYTES_MAX 512 /* of a Nak's words, with NUL; UTF-8 */

struct drs_vote {
	char name[NAME_TEXT_MAX];
	enum drs_answer answer;
	int error;                          /* of a Nak, negative */
	char reason[DRS_REASON_BYTES_MAX];  /* of a Nak, in the slave's words */
};

/* Whose Ack a commit takes. A Nak aborts at once, but for DRS_REQUIRE_COUNT, where it does so when too few are left (R4.6). */
enum drs_require {
	DRS_REQUIRE_ALL,       /* every member in scope, whether there is a link to it or not */
	DRS_REQUIRE_CONNECTED, /* every one in scope that has a link, now and when it is decided */
	DRS_REQUIRE_COUNT,     /* that many; it is decided as soon as they have acked */
};

struct drs_job {
	struct drs_version version;  /* proposed: its number is durable already */
	struct drs_version previous; /* the current one, that the delta leads on from */
	struct scope scope;
	uint32_t timeout_ms;         /* for the decision; > 0 */
	enum drs_require require;
	uint32_t count;
};

/* Upcalls to a master's user. Return 0 or a negative error. */
struct drs_master_listener {
	void *user;
	/* The number must be durable before it is used (R3.1): returns when it is. */
	int (*store_version)(void *user, const struct drs_version *);
	/* createDelta: open a conversation with a slave that sent 'opening'. 'proposed': lead to that version of the job that runs, also from one that is older than
	 * the job's 'previous'; NULL: to the current one. */
	int (*delta_open)(void *user, const struct drs_version *proposed, struct slice opening, void **ret_source);
	/* 1: next frame; 0: it is over; -EAGAIN: wait for a frame from the slave; other: failed. The frame is cleared first. */
	int (*delta_next)(void *user, void *source, struct buffer *frame);
	int (*delta_feed)(void *user, void *source, struct slice frame);
	void (*delta_close)(void *user, void *source);
	/*
	 * Two phase. Make the decision durable: a commit makes 'version' the current one. Answered by drs_decided(), at once or later. A commit that
	 * cannot be made durable is answered with an error and becomes an abort (asked for next). NULL: the user never starts two phase.
	 */
	void (*decide)(void *user, const struct drs_version *version, bool commit);
	/* The votes of the job that runs have changed (drs_votes()). May be NULL. */
	void (*voted)(void *user);
	/*
	 * The job is over, its decision announced. 0: committed. -DRS_EREFUSED: Naks; -ETIMEDOUT; -ECANCELED: cancelled; -EBUSY: it was not started,
	 * since another one runs or 'previous' is not current; else what kept the commit from being stored. drs_votes() still tells of it during this call.
	 */
	void (*two_phase_done)(void *user, const struct drs_version *version, int error);
	/* What a new slave has to know before it can hold the volume (its secret, say); opaque, <= 1 KiB. */
	int (*admit)(void *user, const char *name, struct buffer *ret_credentials);
};

/*
 * Upcalls to a slave's user. pull_commit, commit_inline, prepare_check and prepare_commit may return -EINPROGRESS and answer later by drs_slave_done():
 * meanwhile none of the others is called but prepare_abort and pull_close, which end what is under way (no answer then): prepare_abort a check,
 * pull_close, when the node is freed, any of the others. A user that never prepares leaves the prepare_… out; the master gets a Nak then.
 */
struct drs_slave_listener {
	void *user;
	int (*admitted)(void *user, const struct did *, struct slice credentials);
	/* A pull begins: what to send to the master's delta_open. 'complete': heal by a complete copy. */
	int (*pull_open)(void *user, bool complete, struct buffer *ret_opening);
	int (*pull_feed)(void *user, struct slice frame);
	int (*pull_next)(void *user, struct buffer *frame); /* 1: a frame for the master; 0: nothing now */
	bool (*pull_ready)(void *user);                     /* everything is here */
	/* commitOnePhase: durable and visible on return; gives the version it led to. */
	int (*pull_commit)(void *user, struct drs_version *ret_version);
	void (*pull_close)(void *user);                     /* ended early (link lost, say): keep what can be resumed */
	/* A small delta that came with a heartbeat: durable and visible on return. */
	int (*commit_inline)(void *user, struct slice delta, struct drs_version *ret_version);
	/* Take a newer number without content (out of scope, R2.5): durable on return. */
	int (*take_version)(void *user, const struct drs_version *);
	/*
	 * Two phase. The delta to 'version' came along: stage it, nothing of it visible. 1: staged, prepare_check comes next. 0: it is not here
	 * ('delta' may be empty) or too large: it is pulled, by pull_open and so on, then prepare_check comes. Negative: Nak.
	 */
	int (*prepare)(void *user, const struct drs_version *version, struct slice delta);
	/*
	 * All of it is staged: check it, make it durable. Answered by 0 (Ack) or an error (Nak), or later: -EINPROGRESS. Ends the pull that brought it, if there
	 * was one: no pull_close follows.
	 */
	int (*prepare_check)(void *user, const struct drs_version *version);
	/* Committed: durable and visible on return. Only after a good prepare_check. */
	int (*prepare_commit)(void *user, struct drs_version *ret_version);
	/*
	 * Aborted, overtaken, or failed: nobody will commit what is staged. Ends a check that runs. Cheap: what is to be taken away is taken away later.
	 * Not called when the node is freed with a version prepared: that waits for the next start, as after a crash.
	 */
	void (*prepare_abort)(void *user);
	/*
	 * Words for the error that this user has just given (the end of a check's output, say), for a Nak's reason: asked for at once, copied. "" or NULL: error_text()
	 * does. What is not UTF-8, and control characters but line ends and tabs, come out as '?'. May be NULL.
	 */
	const char *(*reason)(void *user);
	/* Told whenever the state or the master's version changes (for 'status', logs and those who wait). */
	void (*changed)(void *user);
};

struct drs_master;
struct drs_slave;
struct node;

/* registerMaster(DID, verNum, listener), registerSlave(DID, verNum, listener). Version: what the user's store holds as current. One role a volume a node. */
int drs_register_master(struct node *, const struct did *, const struct drs_version *, const struct drs_version_ops *, const struct drs_master_listener *,
			struct drs_master **ret_master);
/* 'did' NULL: not known yet, comes with admission. */
int drs_register_slave(struct node *, const struct did *did, const struct drs_version *, const struct drs_version_ops *, const struct drs_slave_listener *,
		       struct drs_slave **ret_slave);

/*
 * startOnePhase(DID, newVersion, scope): the user layer has moved to 'version'; make it known. 'inline_delta' (may be empty; copied) leads from the
 * version before to this one and goes along in the heartbeat while it fits. Any thread may call; calls are taken in order.
 */
#define DRS_INLINE_BYTES_MAX 1280
int drs_start_one_phase(struct drs_master *, const struct drs_version *version, const struct scope *, struct slice inline_delta);

/*
 * startTwoPhase: ask the members in scope to prepare job->version, decide by job->require, announce. 'inline_delta' (may be empty; copied) goes along with
 * the asking; a larger one than DRS_PREPARE_BYTES_MAX is left out and pulled. One job a volume at a time; one phase updates that come meanwhile are taken,
 * and announced after it (R4.7). Ends with listener.two_phase_done, unless the node is freed before, or this fails at once: -EINVAL: no time,
 * a version not above 'previous', or a listener without decide and two_phase_done; -EBUSY: too many wait; -ENOMEM. Any thread; taken in order with one phase.
 */
#define DRS_PREPARE_BYTES_MAX (32 * 1024)
int drs_start_two_phase(struct drs_master *, const struct drs_job *, struct slice inline_delta);
/* cancelTwoPhase: abort the job that runs for this version. -ENOENT: there is none, or it is decided already. On the node's thread. */
int drs_cancel_two_phase(struct drs_master *, const struct drs_version *);
/* The answer to listener.decide. On the node's thread (node_post). */
void drs_decided(struct drs_master *, const struct drs_version *, int error);
/* How the job stands; the memory is the core's, valid until it goes on. On the node's thread. */
size_t drs_votes(struct drs_master *, const struct drs_vote **ret_votes);
/*
 * Members. Every slave that ever said hello is one, until it is removed; DRS_REQUIRE_ALL means all of them. The user keeps their names over restarts: told of
 * a new one by listener.admit, it gives them back by drs_add_member before node_run. Removing one that has a link: -EBUSY; unknown: -ENOENT.
 */
int drs_add_member(struct drs_master *, const char *name);
int drs_remove_member(struct drs_master *, const char *name); /* on the node's thread */
/* A number above the current one was aborted before this start: heartbeats tell it. Before node_run. */
void drs_tell_aborted(struct drs_master *, const struct drs_version *);

/*
 * The late answer of a slave's user: 0, with the version that a commit led to, or an error; 'version' may be NULL where there is none. With -DRS_EREFUSED
 * it is the one that a check refused, so that a newer one that has come meanwhile is tried at once. Not within the upcall that it answers. On the
 * node's thread (node_post).
 */
void drs_slave_done(struct drs_slave *, int error, const struct drs_version *);

#endif
