/*
 * The seam between the cores and the world. A core is a state machine that does no I/O: an event with its time goes in, a list of
 * actions comes out, in order. It has no clock, socket, thread, file or random source; stepping allocates nothing, so it cannot fail.
 * The node (drsfs/node.c) performs the actions on real sockets, the simulator (tests/sim) on imagined ones.
 *
 * Nothing is said before it is durable, by construction: STORE and COMMIT are actions; only the event that answers them leads to the words.
 */
#ifndef DRSFS_EVENT_H
#define DRSFS_EVENT_H

#include "drsfs/drs.h"

typedef uint32_t peer_id; /* one link to one peer; given by the node, never reused in a process's life */
#define PEER_NONE ((peer_id)0)

#define WINDOW_MAX 24 /* entries a heartbeat can carry (R2.4); it may carry fewer if the datagram is full */

struct window_entry {
	struct drs_version version;
	bool aborted;
	struct scope scope; /* with respect to the version before */
};

/* One heartbeat (R2): all of it in one datagram. */
struct beat {
	struct did did;
	uint64_t incarnation; /* of the master's process: grows with every start */
	uint64_t sequence;    /* of heartbeats within it */
	struct drs_version current;
	struct drs_version previous;       /* what 'inline_delta' starts from */
	uint8_t window_count;
	struct window_entry window[WINDOW_MAX]; /* newest first; window[0].version equals current unless it left the window */
	struct slice inline_delta;         /* empty: none */
	uint16_t link_port;                /* where the master takes links, TCP */
	uint32_t interval_ms;              /* when to expect the next one */
};

/* How a slave hears the master; it tells this in hello and report, and the master chooses the way to it. */
enum beat_path { BEAT_BY_MULTICAST = 1, BEAT_BY_UNICAST = 2, BEAT_BY_LINK = 3 };

enum event_kind {
	/* both */
	EVENT_TICK,       /* time has passed */
	EVENT_LINK_DOWN,  /* peer */
	EVENT_FAILED,     /* error: the last STORE, COMMIT, COMMIT_INLINE, TAKE, PULL (slave) could not be done */
	/* master */
	EVENT_UPDATE,     /* version, scope, inline_delta: the user layer starts one phase */
	EVENT_STORED,     /* version: STORE is durable */
	EVENT_HELLO,      /* peer, name, version, path: a slave's first word on a link */
	EVENT_REPORT,     /* peer, version, path: where the slave is now */
	EVENT_PULL,       /* peer, request: a slave asks for a delta */
	EVENT_STREAM_DONE,/* peer, request, error: the conversation ended */
	/* slave */
	EVENT_BEAT,       /* beat, path: a heartbeat came */
	EVENT_LINK_UP,    /* peer: connected, nothing said yet */
	EVENT_WELCOME,    /* peer, version: the master took us */
	EVENT_REFUSED,    /* peer, error: the master does not want us */
	EVENT_PULLED,     /* request: all of the delta is here */
	EVENT_DURABLE,    /* version: COMMIT, COMMIT_INLINE or TAKE is durable and visible */
	EVENT_LINK_BEAT,  /* beat over the link: as BEAT */
};

struct event {
	enum event_kind kind;
	time_ms now;
	peer_id peer;
	uint32_t request;
	int error;
	enum beat_path path;
	struct drs_version version;
	const struct scope *scope;
	const char *name;
	struct slice inline_delta;
	const struct beat *beat;
};

enum action_kind {
	/* master */
	ACTION_STORE,         /* version: make the number durable, then EVENT_STORED */
	ACTION_BEAT,          /* beat() to everyone by multicast */
	ACTION_BEAT_TO,       /* beat() to 'peer' by 'path' (unicast datagram or link) */
	ACTION_WELCOME,       /* peer */
	ACTION_REFUSE,        /* peer, error: say so and close */
	ACTION_STREAM,        /* peer, request: converse with it (delta_open … delta_close) */
	ACTION_STREAM_STOP,   /* peer, request */
	/* slave */
	ACTION_DIAL,          /* connect to the master, then LINK_UP or LINK_DOWN */
	ACTION_HANG_UP,       /* peer */
	ACTION_HELLO,         /* peer, version, path */
	ACTION_REPORT,        /* peer, version, path */
	ACTION_PULL,          /* peer, request, complete: ask for the delta and feed what comes to the user; then PULLED or FAILED */
	ACTION_PULL_STOP,     /* request: pull_close */
	ACTION_COMMIT,        /* request: commit what was pulled, then DURABLE or FAILED */
	ACTION_COMMIT_INLINE, /* the delta of the beat that is being stepped; valid during this step's actions only */
	ACTION_TAKE,          /* version: take the number, then DURABLE or FAILED */
	ACTION_CHANGED,       /* tell the user: state or known version changed */
};

struct action {
	enum action_kind kind;
	peer_id peer;
	uint32_t request;
	int error;
	enum beat_path path;
	bool complete;
	struct drs_version version;
	struct slice inline_delta;
};

/* The actions of one step, in order. The capacity is given once; a core never produces more than PEERS + 16 in a step. */
struct actions {
	size_t count, capacity;
	struct action *items;
};

#endif
