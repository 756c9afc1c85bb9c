/*
 * What the master answers to 'drsfs batch' and 'drsfs forget' over the control socket (drsfs/control.h), and the bridge between the three that a commit passes
 * through: the asker and the DRS layer on the node's thread, the batches on the mount's thread.
 *
 *   {"command": "batch-begin", "name"?}             {"ok", "id", "name", "path", "base"}
 *   {"command": "batch-commit", "id", "timeout_ms"?, "require"?: "all" | "connected" | N, "message"?}
 *        {"progress", "votes": [{"name", "answer", "reason"?}]} …
 *        {"ok": true, "version", "ms", "us", "unchanged"?, "votes"}
 *        {"ok": false, "error", "reason": "conflict" | "refused" | "timeout" | "cancelled" | "open" | "full" | "other", "conflicts"?: [path], "more"?, "votes"?}
 *   {"command": "batch-abort" | "batch-cancel", "id"}   {"ok"}
 *   {"command": "batch-list"}                       {"ok", "batches": [{"id", "name", "state", "base", "begun", "changes", "path"}]}
 *   {"command": "batch-diff", "id"}                 {"ok", "changes": [{"path", "change": "added" | "removed" | "modified"}]}
 *   {"command": "forget", "name"}                   {"ok"}
 *
 * "id" is a batch's number or its name.
 */
#ifndef MASTER_ADMIN_H
#define MASTER_ADMIN_H

#include <jansson.h>

#include "drsfs/control.h"
#include "drsfs/node.h"
#include "master/batches.h"
#include "master/members.h"

struct admin;

/* All of these stay the caller's, and live longer. 'mount' is filled in by admin_set_mount before node_run. */
int admin_new(struct node *, struct drs_master *, struct members *, struct admin **ret_admin);
void admin_set_mount(struct admin *, struct master_mount *);
/* When neither the node nor the mount runs any more, after control_free and before node_free. NULL is fine. */
void admin_free(struct admin *);

/* control_handler.request. On the node's thread. */
bool admin_request(void *admin, struct control_request *, const char *command, const json_t *body);

/* The commit that is being distributed, {"version", "votes"}, or null. On the node's thread; NULL: no memory. */
json_t *admin_commit_status(struct admin *);

/* The mount's listener: distribute what is proposed; abort it; the decision is durable, or not. On the mount's thread. */
void admin_propose(struct admin *, const struct batch_info *, const struct commit_options *, struct slice inline_delta);
void admin_cancel(struct admin *, version_t);
void admin_decided(struct admin *, version_t, int error);

/* The DRS layer's listener. On the node's thread. */
void admin_decide(struct admin *, version_t, bool commit);
void admin_voted(struct admin *);
void admin_two_phase_done(struct admin *, version_t, int error);

#endif
