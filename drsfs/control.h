/*
 * The control socket: how 'drsfs status', 'wait', 'batch' and so on talk to a running daemon. A unix stream socket STATE/control (mode 0600), one
 * JSON object a line in each direction, answers in the order of the requests. On the node's thread.
 *
 *   -> {"command": "status"}
 *   <- {"ok": true, …}  or  {"ok": false, "error": "in words"}
 *
 * What takes its time may tell how it goes on, in lines with "progress": true before the answer. Who closes the connection does not wait for the answer.
 *
 * 'status', 'wait' and 'stop' are known here; every other command is the daemon's own (control_handler.request).
 */
#ifndef DRSFS_CONTROL_H
#define DRSFS_CONTROL_H

#include <jansson.h>

#include "drsfs/types.h"

struct control;
struct control_request; /* one of the daemon's own that is under way */
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
	/*
	 * A command that is not known here. True: it is taken, and control_answer ends it, at once or later. False: this daemon does not know it either.
	 * 'body' is the whole request, lent for the call. May be NULL: there are none.
	 */
	bool (*request)(void *user, struct control_request *, const char *command, const json_t *body);
};

/*
 * Listen; a socket left by a killed daemon is replaced (the store's lock makes us the only one). The path is STATE/control:
 * -ENAMETOOLONG above 107 bytes.
 */
int control_new(struct event_base *, const char *state_dir, const struct control_handler *, struct control **ret_control);
/* Closes and unlinks the socket, and ends all requests that are under way: no call about one of them comes after this, nor may be made. NULL is fine. */
void control_free(struct control *);

/*
 * How it goes on: an object that gets "progress": true, as a line before the answer. Each must tell the whole, since one for which there is no room
 * (the asker does not read) is left out. Takes 'line'; NULL is fine.
 */
void control_progress(struct control_request *, json_t *line);
/*
 * The last line: an object with "ok"; NULL says that memory was short. Takes it. The request is over and may not be used any more. An asker that has gone does not
 * get it, which is no error.
 */
void control_answer(struct control_request *, json_t *answer);
/* The same with {"ok": false, "error": words}. */
void control_refuse(struct control_request *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/*
 * Be told, once, if the asker goes away before the answer (Ctrl-C, say). The request still is under way and wants its control_answer: in the call or
 * later. NULL: no more.
 */
void control_when_gone(struct control_request *, void (*gone)(void *user, struct control_request *), void *user);
#endif
