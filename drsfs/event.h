/*
 * The seam between the cores and the world. A core is a state machine that does no I/O: an event with its time goes in, a list of
 * actions comes out, in order. It has no clock, socket, thread, file or random source; stepping allocates nothing, so it cannot fail.
 * The node (drsfs/node.c) performs the actions on real sockets, the simulator (tests/sim) on imagined ones.
 *
 * Nothing is said before it is durable, by construction: STORE and COMMIT are actions; only the event that answers them leads to the words.
 *
 * Rules for whoever performs:
 *  - Actions are performed in order. Events that arise from performing them are stepped afterwards, one by one, never nested.
 *  - What a pointer or slice in an event shows is only used during its step; what one in an action shows is valid until the next step.
 *  - A slave has at most one link, counted from its DIAL. It dials again only after LINK_DOWN or REFUSED, or after its own HANG_UP.
 *  - A link ends once: after LINK_DOWN, REFUSED, and the actions HANG_UP and REFUSE, no more events come for that peer. The node may end any link
 *    at any time by LINK_DOWN (a timeout, a bad frame, credentials that could not be had), never as a nested event.
 *  - Each DECIDE is answered by one DECIDED, at any time later; a core has one outstanding at most, beside a STORE.
 *  - Each STAGE is answered by one PULLED, UNSTAGED or FAILED, at once: no other event comes between. Each CHECK by one CHECKED or FAILED, unless
 *    UNPREPARE comes first. They count with COMMIT and its like: a slave's core has at most one of them all outstanding. COMMIT, COMMIT_INLINE,
 *    COMMIT_PREPARED and CHECK may be answered much later, other events in between.
 *  - After STAGE something is prepared, or on its way to be, until DURABLE answers COMMIT_PREPARED, or UNPREPARE comes; or PULL_STOP alone for the pull of
 *    a proposed version, when its link was lost: what was staged by then may be resumed, by another STAGE or a pull.
 *  - Each STORE is answered by one STORED or FAILED; each COMMIT, COMMIT_INLINE, COMMIT_PREPARED and TAKE by one DURABLE or FAILED; each PULL by one PULLED or
 *    FAILED, unless PULL_STOP comes first or the link goes down (then only LINK_DOWN; the core answers with PULL_STOP). A core has at most one of these
 *    outstanding at a time (master: one STORE; slave: one of the others), and more of them are asked for only after the answer.
 *  - After PULLED the slave asks for COMMIT or CHECK and no longer needs the link; if the link goes down between the two, that still follows.
 */
#ifndef DRSFS_EVENT_H
#define DRSFS_EVENT_H

#include "drsfs/drs.h"

typedef uint32_t peer_id; /* one link to one peer; given by the node, never reused in a process's life */
#define PEER_NONE ((peer_id)0)
#define TIME_NEVER INT64_MAX /* a deadline that does not come */

#define WINDOW_MAX 24 /* entries a heartbeat can carry (R2.4); it may carry fewer if the datagram is full */

struct window_entry {
	struct drs_version version;
	bool aborted;
	struct scope scope; /* with respect to the entry before (the next in the array) */
};

/*
 * One heartbeat (R2): all of it in one datagram. Whoever encodes it puts the fixed part and the inline delta first, then as many window entries
 * as fit: leaving out the oldest is harmless, leaving out any other is not.
 */
struct beat {
	struct did did;
	uint64_t incarnation; /* of the master's process: grows with every start */
	uint64_t sequence;    /* of heartbeats within it */
	struct drs_version current;
	struct drs_version previous;       /* what 'inline_delta' starts from; meaningless without it */
	uint8_t window_count;
	struct window_entry window[WINDOW_MAX]; /* newest first; window[0], if any, is about 'current' or an aborted number above it */
	struct slice inline_delta;         /* leads from 'previous' to 'current'; empty: none */
	uint16_t link_port;                /* where the master takes links, TCP */
	uint32_t interval_ms;              /* when to expect the next one */
};

/* How a slave hears the master; it tells this in hello and report, and the master chooses the way to it. */
enum beat_path { BEAT_BY_MULTICAST = 1, BEAT_BY_UNICAST = 2, BEAT_BY_LINK = 3 };

/* A slave's answer to prepare. */
enum prepare_answer { PREPARE_ACK = 1, PREPARE_NAK = 2, PREPARE_OUT_OF_SYNC = 3 };

/* What happened. Every event has 'kind' and 'now' (which never goes backwards); the other fields that count are named here. */
enum event_kind {
	/* both */
	EVENT_TICK,       /* the deadline that the core gave has come (early or late is harmless) */
	EVENT_LINK_DOWN,  /* peer: a link has ended; slave: PEER_NONE if DIAL failed before LINK_UP */
	EVENT_FAILED,     /* error (negative): the outstanding STORE (master), or COMMIT and its like, TAKE, PULL, STAGE or CHECK (slave), could not be done.
			   * version: of a COMMIT or COMMIT_INLINE that a check refused, which one; zero: not known */
	/* master */
	EVENT_UPDATE,     /* version, scope, inline_delta: the user layer starts one phase; inline_delta leads from the version of the UPDATE before */
	EVENT_STORED,     /* version: its STORE is durable */
	EVENT_HELLO,      /* peer, name, version, path, scope (the clusters that it belongs to; NULL: none): a slave's first word on a link */
	EVENT_REPORT,     /* peer, version, path: where the slave is now */
	EVENT_PULL,       /* peer, request: a slave asks for a delta (its opening waits with the node until STREAM or STREAM_STOP) */
	EVENT_START,      /* job, inline_delta (the job's, or empty): the user layer starts two phase */
	EVENT_CANCEL,     /* version: it cancels the job that runs for it (the node has asked master_job_cancellable first; else nothing happens) */
	EVENT_DECIDED,    /* version, error: the outstanding DECIDE is durable, or failed */
	EVENT_ANSWER,     /* peer, version, answer, error and reason (of a NAK; NULL: none): a slave answers PREPARE */
	EVENT_STREAM_DONE,/* peer, request, error: the conversation ended by itself; 0: to its end (a failure has been told to the slave by the node) */
	/* slave */
	EVENT_BEAT,       /* beat, path: a heartbeat came, by whichever way */
	EVENT_LINK_UP,    /* peer: DIAL succeeded, nothing said yet */
	EVENT_WELCOME,    /* peer, version, did, interval_ms: the master took us; its version, volume and interval of heartbeats. What 'admitted' does is done */
	EVENT_REFUSED,    /* peer, error: the master does not want us, or no longer; the link is closed */
	EVENT_PREPARE,    /* peer, version, previous, timeout_ms, inline_delta: the master asks to prepare */
	EVENT_UNSTAGED,   /* version: STAGE found no delta that it could use: pull it */
	EVENT_CHECKED,    /* version: the outstanding CHECK has ended well: prepared, durable */
	EVENT_PULLED,     /* request (of a PULL): all of the delta is here (pull_ready), or staged */
	EVENT_DURABLE,    /* version: COMMIT, COMMIT_INLINE or TAKE is durable and visible; where it led to */
};

struct event {
	enum event_kind kind;
	time_ms now;
	peer_id peer;
	uint32_t request;          /* a slave's pull: given by the slave's core, growing from 1, its own for each slave */
	int error;
	enum beat_path path;
	enum prepare_answer answer;
	uint32_t interval_ms, timeout_ms;
	struct drs_version version, previous;
	const struct drs_job *job;
	const char *reason;
	const struct did *did;
	const struct scope *scope; /* NULL: everyone */
	const char *name;
	struct slice inline_delta;
	const struct beat *beat;
};

/* What to do. The fields that count are named; 'by the link' means to 'peer'. */
enum action_kind {
	/* both */
	ACTION_HANG_UP,       /* peer: close the link without a word */
	/* master */
	ACTION_STORE,         /* version: make the number durable, then STORED or FAILED */
	ACTION_BEAT,          /* send master_beat() by multicast */
	ACTION_BEAT_TO,       /* peer, path: send master_beat() to it by unicast datagram or by its link */
	ACTION_WELCOME,       /* peer, version: say so by the link, with the volume's did, the interval and what 'admit' gives */
	ACTION_REFUSE,        /* peer, error: say so by the link and close it */
	ACTION_PREPARE,       /* peer, version, timeout_ms: ask it to prepare the job's version by the link, with the job's delta if that is small; time left */
	ACTION_DECIDE,        /* version, commit: have the user make it durable, then DECIDED. Asked with 'commit' false after it failed with true */
	ACTION_VOTED,         /* tell the user that votes have changed; comes before DECIDE */
	ACTION_JOB_DONE,      /* version, error: tell the user that the job is over, or (-EBUSY) that it was not started, and nothing was decided about it */
	ACTION_STREAM,        /* peer, request: converse with it (delta_open ... delta_close), then STREAM_DONE */
	ACTION_STREAM_STOP,   /* peer, request: delta_close now; no STREAM_DONE follows. Comes after LINK_DOWN too, or before another STREAM for the peer */
	/* slave */
	ACTION_DIAL,          /* connect to the master, then LINK_UP or LINK_DOWN */
	ACTION_HELLO,         /* peer, version, path: say it by the link (the name is the node's) */
	ACTION_REPORT,        /* peer, version, path: say it by the link */
	ACTION_PULL,          /* peer, request, complete, proposed (then version): pull_open(complete), ask by the link, feed the user; then PULLED or FAILED */
	ACTION_STAGE,         /* version, inline_delta (the event's, or empty): prepare(); then PULLED (staged), FAILED, or UNSTAGED (to be pulled) */
	ACTION_CHECK,         /* version: prepare_check(), then CHECKED or FAILED, perhaps much later */
	ACTION_ANSWER,        /* peer, version, answer, error: say it by the link; the node adds the user's reason to a NAK */
	ACTION_COMMIT_PREPARED, /* version: prepare_commit(), then DURABLE or FAILED */
	ACTION_UNPREPARE,     /* prepare_abort(): no CHECKED or FAILED follows. Also after STAGE, CHECK, COMMIT_PREPARED or the PULL of a proposed version has FAILED */
	ACTION_PULL_STOP,     /* request: pull_close now; no PULLED or FAILED follows */
	ACTION_COMMIT,        /* request: pull_commit, then DURABLE or FAILED (after FAILED the node calls pull_close) */
	ACTION_COMMIT_INLINE, /* inline_delta (the one of the beat that is being stepped): commit_inline, then DURABLE or FAILED */
	ACTION_TAKE,          /* version: take_version, then DURABLE or FAILED */
	ACTION_CHANGED,       /* tell the user: what slave_core_status() says has changed; the last of its step */
};

struct action {
	enum action_kind kind;
	peer_id peer;
	uint32_t request;
	int error;
	enum beat_path path;
	bool complete, proposed, commit;
	enum prepare_answer answer;
	uint32_t timeout_ms;
	struct drs_version version;
	struct slice inline_delta;
};

/* The actions of one step, in order. The step sets 'count' to 0 first. 'capacity' is given once, at least ACTIONS_MAX: more a core never asks for in a step. */
#define ACTIONS_MAX(peers) (2 * (size_t)(peers) + 16) /* master: its peers_max; slave: 1 */
struct actions {
	size_t count, capacity;
	struct action *items;
};

#endif
