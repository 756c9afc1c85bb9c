/*
 * The node: the only driver of the cores. One libevent loop on one thread turns datagrams, links, timers and calls from other
 * threads into events, steps the core, and performs its actions in order. Identity, links and heartbeats are shared by the volumes of a process
 * (today: one).
 */
#ifndef DRSFS_NODE_H
#define DRSFS_NODE_H

#include "drsfs/drs.h"
#include "drsfs/event.h"
#include "master/core.h"
#include "slave/core.h"

struct event_base;

struct node_config {
	char name[NAME_TEXT_MAX];
	/* master */
	char listen[128];            /* "ADDRESS:PORT" or "[ADDRESS]:PORT"; port 0: any (node_link_port) */
	/* slave */
	char master[256];            /* "HOST:PORT" */
	/* heartbeats */
	char group[128];             /* multicast "ADDRESS:PORT"; empty: unicast only */
	char interface[64];          /* address or name of the interface for multicast; empty: the system's choice */
	int multicast_ttl;
	uint32_t beat_interval_ms;
	uint32_t window_beats;
	uint32_t peers_max;
	uint32_t link_timeout_ms;    /* silence on a link (both sides ping) after which it is closed */
	uint64_t incarnation;
};
void node_config_default(struct node_config *);

int node_new(const struct node_config *, struct node **ret_node);
void node_free(struct node *);
int node_run(struct node *);             /* until node_stop; this thread becomes the node's thread */
void node_stop(struct node *);           /* any thread, also a signal handler */
/* Run a function on the node's thread, soon. Any thread. */
int node_post(struct node *, void (*run)(void *user), void *user);
struct event_base *node_base(struct node *); /* for the control socket */
uint16_t node_link_port(const struct node *);
time_ms node_now(void);                  /* CLOCK_MONOTONIC */

/* For status; on the node's thread. */
size_t node_members(struct node *, const struct member **ret_members);
bool node_slave_status(struct node *, struct slave_status *ret_status);
struct node_counters { uint64_t beats_sent, beat_bytes_sent, beats_heard, beats_dropped, link_bytes_sent, link_bytes_received, links; };
void node_counters(const struct node *, struct node_counters *ret_counters);

#endif
