/*
 * The DRS layer as its user sees it (patent ¶27-28, 57-58; R9): register a volume as master or slave, start a distribution, and
 * answer upcalls through a listener. The layer knows versions, peers and timers; versions and deltas are opaque to it (R1.2):
 * a delta is a conversation of frames between the master's user and the slave's user, which it only carries.
 *
 * All calls and upcalls happen on the node's thread (node.h), except where a function says that any thread may call.
 */
#ifndef DRSFS_DRS_H
#define DRSFS_DRS_H

#include "drsfs/buffer.h"
#include "drsfs/types.h"

/* A version as the user layer supplies it: bytes that only its own operations understand. */
struct drs_version {
	uint8_t bytes[16];
};

struct drs_version_ops {
	bool (*equal)(const struct drs_version *, const struct drs_version *);
	bool (*greater)(const struct drs_version *, const struct drs_version *); /* strictly; a > b */
	struct drs_version (*next)(const struct drs_version *);
	void (*format)(const struct drs_version *, char text[40]);               /* for logs and traces */
};

/* Who an update concerns: names of servers and clusters, each ended by NUL, sorted; none: everyone. */
#define SCOPE_BYTES_MAX 128
struct scope {
	uint16_t size;
	char names[SCOPE_BYTES_MAX];
};

#define NAME_TEXT_MAX 64 /* a server's or cluster's name, with NUL; letters, digits, '-', '_', '.' */

/* Upcalls to a master's user. Return 0 or a negative error. */
struct drs_master_listener {
	void *user;
	/* The number must be durable before it is used (R3.1): returns when it is. */
	int (*store_version)(void *user, const struct drs_version *);
	/* createDelta: open a conversation with a slave that sent 'opening'. */
	int (*delta_open)(void *user, struct slice opening, void **ret_source);
	/* 1: next frame; 0: it is over; -EAGAIN: wait for a frame from the slave; other: failed. The frame is cleared first. */
	int (*delta_next)(void *user, void *source, struct buffer *frame);
	int (*delta_feed)(void *user, void *source, struct slice frame);
	void (*delta_close)(void *user, void *source);
	/* What a new slave has to know before it can hold the volume (its secret, say); opaque, <= 1 KiB. */
	int (*admit)(void *user, const char *name, struct buffer *ret_credentials);
};

/* Upcalls to a slave's user. */
struct drs_slave_listener {
	void *user;
	int (*admitted)(void *user, const struct did *, struct slice credentials);
	/* A pull begins: what to send to the master's delta_open. 'complete': heal by a complete copy. */
	int (*pull_open)(void *user, bool complete, struct buffer *ret_opening);
	int (*pull_feed)(void *user, struct slice frame);
	int (*pull_next)(void *user, struct buffer *frame); /* 1: a frame for the master; 0: nothing now */
	bool (*pull_ready)(void *user);                     /* everything is here */
	/* commitOnePhase: durable and visible on return; gives the version it led to. */
	int (*pull_commit)(void *user, struct drs_version *ret_version);
	void (*pull_close)(void *user);                     /* ended early (link lost, say): keep what can be resumed */
	/* A small delta that came with a heartbeat: durable and visible on return. */
	int (*commit_inline)(void *user, struct slice delta, struct drs_version *ret_version);
	/* Take a newer number without content (out of scope, R2.5): durable on return. */
	int (*take_version)(void *user, const struct drs_version *);
	/* Told whenever the state or the master's version changes (for 'status', logs and those who wait). */
	void (*changed)(void *user);
};

struct drs_master;
struct drs_slave;
struct node;

/* registerMaster(DID, verNum, listener), registerSlave(DID, verNum, listener). Version: what the user's store holds as current. One role a volume a node. */
int drs_register_master(struct node *, const struct did *, const struct drs_version *, const struct drs_version_ops *, const struct drs_master_listener *,
			struct drs_master **ret_master);
/* 'did' NULL: not known yet, comes with admission. */
int drs_register_slave(struct node *, const struct did *did, const struct drs_version *, const struct drs_version_ops *, const struct drs_slave_listener *,
		       struct drs_slave **ret_slave);

/*
 * startOnePhase(DID, newVersion, scope): the user layer has moved to 'version'; make it known. 'inline_delta' (may be empty; copied) leads from the
 * version before to this one and goes along in the heartbeat while it fits. Any thread may call; calls are taken in order.
 */
#define DRS_INLINE_BYTES_MAX 1280
int drs_start_one_phase(struct drs_master *, const struct drs_version *version, const struct scope *, struct slice inline_delta);

#endif
