/*
 * An imagined world for the cores: virtual time, one queue of things to come, datagrams and links that fail as real ones do, and nodes that perform
 * the cores' actions as drsfs/node.c does on real sockets. One process, one thread, and one seed from which everything follows.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <setjmp.h>

#include "master/core.h"
#include "slave/core.h"
#include "tests/sim/random.h"
#include "tests/sim/user.h"

#define TRACE_LINES 80
#define TRACE_TEXT_MAX 160

struct world_options {
	uint64_t seed;
	unsigned slaves;
	bool chaos;              /* faults, for some time; false: a network without any */
	unsigned loss_permille;  /* of datagrams, without chaos */
	bool picky;              /* every slave has a check that does not accept what is published, but what batches make of it; false: some, in chaos */
	bool print_trace;
	jmp_buf *failed;         /* where a checker that fails leaves to */
};

/* What travels or is waited for; counted, as one heartbeat may be on its way to a thousand slaves. */
struct parcel {
	unsigned references;
	struct beat beat;
	size_t beat_bytes;       /* of its datagram */
	struct map_delta delta;
};

enum message_kind { MESSAGE_HELLO, MESSAGE_WELCOME, MESSAGE_REFUSE, MESSAGE_REPORT, MESSAGE_PULL, MESSAGE_FRAME, MESSAGE_SORRY, MESSAGE_BEAT,
		    MESSAGE_BYE, MESSAGE_PREPARE, MESSAGE_ANSWER };
struct message {
	enum message_kind kind;
	uint64_t sequence;       /* links deliver in order */
	uint32_t request;
	int error;
	bool complete, proposed;
	enum prepare_answer answer;
	uint32_t timeout_ms;
	enum beat_path path;
	struct drs_version version;
	struct drs_version previous; /* of a prepare */
	struct drs_version target;   /* of a pull that is for a proposed version */
};

enum side { TO_SLAVE, TO_MASTER };

/* One connection. Each end is open until its node closes it, crashes, or is told that it is down. */
struct link {
	peer_id id;              /* at both ends; the index into the world's links */
	struct node *ends[2];    /* by side */
	uint32_t generations[2];
	bool open[2];
	uint64_t sent[2], received[2];
	time_ms arrives[2];
};

enum operation { OPERATION_NONE, OPERATION_PULL, OPERATION_APPLY, OPERATION_TAKE, OPERATION_STORE, OPERATION_CHECK, OPERATION_COMMIT_PREPARED };

struct node {
	struct world *world;
	char name[NAME_TEXT_MAX];
	unsigned index;          /* of a slave */
	bool is_master, up;
	uint32_t generation;     /* how often it was started */
	uint32_t timer;          /* of the tick that counts */
	time_ms full_until;      /* the disk */

	struct master_core *master;
	struct master_user master_user;
	uint64_t incarnation;

	struct slave_core *slave;
	struct slave_user user;
	struct scope clusters;
	enum operation operation; /* what is going on, one at a time */
	uint32_t operation_id;
	uint32_t request;         /* of the pull */
	struct drs_version operation_version;
	struct map_delta staged;  /* what was pulled or came inline */
	bool cut, deaf_multicast, deaf_unicast; /* its network */
	struct drs_version checked; /* what it was seen to have last */
	bool doomed;                /* it crashes at once, in the middle of what it does */
	struct event answer;        /* to an action that is answered at once; kind 0: none */

	bool preparing;             /* a slave's user has something staged or prepared */
	bool stopped;               /* in this step: the pull of it was stopped */
	time_ms prepared_until;     /* and must have no more by then */
	struct drs_version acked;   /* the last version that it said Ack to, with that on its disk */
	bool member;                /* the master has its name on disk */
	bool in_job;                /* a member in the scope of the job that was started last */
};

/* The job that was started last. */
struct job {
	struct drs_version version;
	enum drs_require require;
	uint32_t count;
	bool with_delta;            /* that goes along with the asking */
	bool deciding, commit;      /* the master's user has been asked for a decision */
	uint32_t decision_id;
};

enum item_kind { ITEM_TICK, ITEM_DIALLED, ITEM_MESSAGE, ITEM_DATAGRAM, ITEM_LINK_DEAD, ITEM_DONE, ITEM_STREAMED, ITEM_DECIDED,
		 ITEM_FAULT, ITEM_RESTART, ITEM_HEAL, ITEM_PUBLISH, ITEM_BATCH, ITEM_CANCEL };
struct item {
	time_ms at;
	uint64_t order;
	enum item_kind kind;
	struct node *node;
	uint32_t generation;
	uint32_t id;             /* timer, operation, or which fault ends */
	struct link *link;
	enum side side;
	enum beat_path path;
	struct message message;
	struct parcel *parcel;
};

struct world_counters {
	uint64_t datagrams, datagram_bytes, link_beats, steps, pulls, inlines, takes, failures, crashes, committed, aborted, busy, prepares, answers;
};

struct world {
	struct world_options options;
	struct chance chance;
	time_ms now;
	uint64_t order;
	struct item **heap;
	size_t heap_count, heap_capacity;
	struct link **links;
	size_t links_count, links_capacity;

	struct node master;
	struct node *slaves;
	struct history history;
	struct job job;
	unsigned deferred;        /* changes that wait for the decision of the job (R4.7) */
	time_ms faults_end;
	unsigned loss_permille, duplicate_permille, delay_ms_max;
	uint32_t beat_interval_ms;
	struct actions actions;
	struct item *item;        /* that is being handled */
	struct parcel *beat;      /* of the step that is being performed */
	struct buffer storage;    /* of the codec */

	struct world_counters counters;
	char trace[TRACE_LINES][TRACE_TEXT_MAX];
	size_t trace_count;
};

/* Build a world of its own chance, with every node started. */
void world_init(struct world *, const struct world_options *);
void world_fini(struct world *);
/* Let the next thing happen, and check all that must hold. */
void world_step(struct world *);
bool world_converged(struct world *);
void world_publish(struct world *, unsigned changes, bool everyone);
void world_publish_deferred(struct world *);
/* Two phase; a final one is over everyone and has time enough. */
void world_batch(struct world *, bool final);
void world_cancel(struct world *);
void world_trace(struct world *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_print_trace(const struct world *);
/* Broken: print why and the trace, and leave through the options' 'failed'. */
_Noreturn void world_fail(struct world *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Between files of the simulator. */
void check_node(struct world *, struct node *);
void check_beat(struct world *, const struct beat *);
void check_position(struct world *, struct node *, const struct drs_version *);
void check_ack(struct world *, struct node *, const struct drs_version *);
void check_decide(struct world *, const struct action *);
void check_job_done(struct world *, const struct action *);
void check_jobs_over(struct world *);
struct item *world_later(struct world *, time_ms delay, enum item_kind);
void node_start(struct node *);
void node_crash(struct node *, bool quietly);
void node_step(struct node *, const struct event *);
void node_handle(struct node *, struct item *);
void net_send(struct link *, enum side, struct message, struct parcel *);
void net_datagram(struct world *, struct node *slave, enum beat_path, struct parcel *);
void net_dial(struct node *slave);
void net_close(struct link *, enum side end_that_closes, bool quietly);
bool net_deliver(struct world *, struct item *);
void faults_begin(struct world *);
void faults_handle(struct world *, struct item *);
void faults_crash(struct world *, struct node *, time_ms pause_max);
bool faults_doom(struct world *, const struct action *);
struct parcel *parcel_new(void);
void parcel_release(struct parcel *);

#endif
