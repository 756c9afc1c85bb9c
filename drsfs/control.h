/*
 * The control socket: how 'drsfs status', 'wait' and 'stop' talk to a running daemon. A unix stream socket STATE/control (mode 0600), one
 * JSON object a line in each direction, answers in the order of the requests. On the node's thread.
 */
#ifndef DRSFS_CONTROL_H
#define DRSFS_CONTROL_H

#include <jansson.h>

#include "drsfs/types.h"

struct control;
struct event_base;

/* The daemon's side of the conversation. */
struct control_handler {
	void *user;
	json_t *(*status)(void *user); /* a new object without "ok"; NULL: out of memory */
	/*
	 * Is this wait over? 'slaves': the names that are meant (NULL: all that are known). 0: not yet, and *ret_missing (new array) says who is missing.
	 * 1: over, *ret_version is what all of them have at least.
	 */
	int (*waited)(void *user, version_t wanted, json_t *slaves, version_t *ret_version, json_t **ret_missing);
	version_t (*current)(void *user); /* what "latest" means now */
	void (*stop)(void *user);
};

/*
 * Listen; a socket left by a killed daemon is replaced (the store's lock makes us the only one). The path is STATE/control:
 * -ENAMETOOLONG above 107 bytes.
 */
int control_new(struct event_base *, const char *state_dir, const struct control_handler *, struct control **ret_control);
void control_free(struct control *); /* closes and unlinks the socket; NULL is fine */
#endif
