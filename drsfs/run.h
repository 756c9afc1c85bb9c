/* What the two daemons' main loops share: signals, the node's configuration, and pieces of 'status'. */
#ifndef DRSFS_RUN_H
#define DRSFS_RUN_H

#include <jansson.h>

#include "drsfs/config.h"
#include "drsfs/node.h"
#include "store/store.h"

/* The node as configured; 'role' decides which of listen and master counts. */
void run_node_config(const struct config *, struct node_config *ret_config);

/* SIGTERM and SIGINT call 'stop' on the node's thread; SIGPIPE is ignored. Any number of times; free with run_signals_free. */
struct run_signals;
int run_signals_new(struct node *, void (*stop)(void *user), void *user, struct run_signals **ret_signals);
void run_signals_free(struct run_signals *);

/* Call 'tick' on the node's thread every so many milliseconds. */
struct run_timer;
int run_timer_new(struct node *, uint32_t ms, void (*tick)(void *user), void *user, struct run_timer **ret_timer);
void run_timer_free(struct run_timer *);

/* The store's state as of the newest commit, through a parked reader of this thread. */
int run_read_state(struct txn *reader, struct store_state *ret_state);

void run_hex(const void *bytes, size_t size, char *text); /* text: 2 * size + 1 */
json_t *run_json_text(const char *);                       /* of any bytes: what is not UTF-8 shows as '?' */
json_t *run_json_digest(const struct digest *);           /* 32 hexadecimal digits */
json_t *run_json_counters(const struct node *);
const char *run_path_name(enum beat_path);

#endif
