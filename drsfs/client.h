/*
 * Talking to a running daemon over the control socket in its state directory: one JSON object a line in each direction (drsfs/control.h).
 */
#ifndef DRSFS_CLIENT_H
#define DRSFS_CLIENT_H

#include <jansson.h>

#include "drsfs/types.h"

#define CLIENT_REPLY_BYTES_MAX ((size_t)16 << 20)
#define CLIENT_FOREVER (-1)

/*
 * Ask one thing and wait for the answer. *ret_reply is the caller's (json_decref), also when it says "ok": false.
 * -ENOENT, -ECONNREFUSED: no daemon runs there; -EACCES: not ours; -ETIMEDOUT: no answer within 'timeout_ms'; -DRS_EPROTOCOL: no JSON object;
 * -DRS_ELINK: the daemon went away before it answered.
 */
int client_ask(const char *state, const json_t *request, time_ms timeout_ms, json_t **ret_reply);

/* Who listens while a request takes its time. */
struct client_listener {
	void *user;
	void (*progress)(void *user, const json_t *line); /* how it goes on; the line is lent. May be NULL */
	int wake_fd;                                      /* when this can be read from, 'woken' is called, which reads it empty. -1: none */
	void (*woken)(void *user);
};

/*
 * Ask one thing, hear how it goes on, and wait for the answer, as client_ask; 'listener' may be NULL. The time runs anew with every line.
 */
int client_converse(const char *state, const json_t *request, time_ms timeout_ms, const struct client_listener *, json_t **ret_reply);

#endif
