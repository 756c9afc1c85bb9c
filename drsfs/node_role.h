/*
 * Between node.c, which owns the loop and the order of events, and the two roles that perform: node_master.c and node_slave.c.
 * Private to these three files.
 */
#ifndef DRSFS_NODE_ROLE_H
#define DRSFS_NODE_ROLE_H

#include "drsfs/beat.h"
#include "drsfs/link.h"
#include "drsfs/node.h"
#include "drsfs/wire.h"

/* libevent's, which is opaque. The seam's struct event (drsfs/event.h) has the same tag, so here each goes by a name of its own. */
typedef struct event loop_event;

#define HELLO_MS_MAX 5000 /* from connecting to the first word, and from there to the answer */

/* A volume in one role: a core, and how what it asks for is done. */
struct role {
	const struct role_ops *ops;
	void *self;
};

struct role_ops {
	void (*step)(void *self, const struct event *, struct actions *);
	void (*perform)(void *self, const struct action *);
	time_ms (*deadline)(const void *self);
	/* A job's turn has come (node_post_job); what is shown is valid during the call. NULL: the role has none. */
	void (*start)(void *self, const struct drs_job *, struct slice inline_delta);
	void (*free)(void *self);
};

const struct node_config *node_configuration(const struct node *);
struct link_traffic *node_traffic(struct node *);
struct node_counters *node_counted(struct node *);
/* The link port, once it is known. */
void node_set_link_port(struct node *, uint16_t port);
/* The role is the node's from now on. 'links_max': the most links it ever has at once. -EBUSY: the node has a role already. */
int node_take_role(struct node *, struct role, size_t links_max);
void *node_role_self(const struct node *, const struct role_ops *); /* NULL: it has another role */
/*
 * Step the core with this event and perform what comes out of it; if that is being done already, after that, in the order of calls.
 * Then the event may hold no pointers, but for a 'reason' that stays. The time is filled in.
 */
void node_raise(struct node *, struct event);
/* Queue an update for the node's thread (any thread). */
int node_post_update(struct node *, const struct drs_version *, const struct scope *, struct slice inline_delta);
/* Queue a job for the role's 'start' on the node's thread, in order with updates (any thread). -EBUSY: too many wait. */
int node_post_job(struct node *, const struct drs_job *, struct slice inline_delta);

void link_send_wire(struct link *, const struct wire_message *);
/* A message that says why; the text is what error_text() has for it unless given. */
void link_send_refuse(struct link *, int error, const char *text);
void link_send_pull_end(struct link *, uint32_t request, int error);

#endif
