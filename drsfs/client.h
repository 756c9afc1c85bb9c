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

#endif
