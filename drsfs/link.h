/*
 * A link: one TCP connection between a slave and its master that carries frames (drsfs/wire.proto), with ceilings on all that the other side
 * could make grow, and a clock on its silence. The one place that knows what the bytes travel in.
 *
 * Sending only queues and never fails in the caller's face: what goes wrong comes as 'down', from the loop, once, and nothing after it.
 * Within any callback the link may be freed.
 */
#ifndef DRSFS_LINK_H
#define DRSFS_LINK_H

#include "drsfs/address.h"
#include "drsfs/types.h"

struct event_base;
struct link;

#define LINK_FRAME_BYTES_MAX   ((size_t)1 << 20)          /* kind and body */
#define LINK_DATA_BYTES_MAX    (LINK_FRAME_BYTES_MAX - 5) /* of a data frame, without kind and request */
#define LINK_INPUT_BYTES_MAX   (2 * LINK_FRAME_BYTES_MAX) /* read ahead of what has been handled */
#define LINK_OUTPUT_BYTES_HIGH ((size_t)1 << 20)          /* link_full(): no more data for now */
#define LINK_OUTPUT_BYTES_LOW  ((size_t)256 << 10)        /* 'drained' */
#define LINK_OUTPUT_BYTES_MAX  (4 * LINK_FRAME_BYTES_MAX) /* the other side does not read: the link goes down */

enum link_frame { LINK_MESSAGE = 1, LINK_DATA_FROM_MASTER = 2, LINK_DATA_FROM_SLAVE = 3 };

struct link_traffic {
	uint64_t bytes_sent, bytes_received;
};

struct link_options {
	uint32_t timeout_ms;          /* silence after which the link goes down; also for connecting */
	struct link_traffic *traffic; /* counts what all links carry */
	void *user;
	void (*up)(void *user); /* a dialled link is connected */
	/* 'request' is 0 for messages; the body is valid during the call. A negative error takes the link down with it. */
	int (*frame)(void *user, enum link_frame, uint32_t request, struct slice body);
	void (*drained)(void *user); /* no longer full */
	void (*quiet)(void *user);   /* nothing came for half of the timeout: say something that is answered */
	/*
	 * Over: -DRS_ELINK: closed by the other side; -ETIMEDOUT; -DRS_EPROTOCOL: a bad frame; -DRS_ETOOBIG: it did not read; another errno;
	 * what 'frame' returned; 0: after link_finish. Free it.
	 */
	void (*down)(void *user, int error);
};

int link_dial(struct event_base *, const struct address *, const struct link_options *, struct link **ret_link);
int link_accept(struct event_base *, int fd /* takes */, const struct link_options *, struct link **ret_link);
void link_free(struct link *); /* closes; no 'down' follows; NULL is fine */

void link_send_message(struct link *, struct slice message);
void link_send_data(struct link *, enum link_frame, uint32_t request, struct slice data);
bool link_full(const struct link *);
/* The link goes down with -ETIMEDOUT after so many ms, whatever comes; 0: no longer. */
void link_expect(struct link *, uint32_t within_ms);
/* Send what is queued, then go down with 0. Nothing that comes in any more is heard. */
void link_finish(struct link *);
#ifdef DRSFS_FAULTS
/* What is queued leaves now, as far as it can; the link is of no use after it. For a process that ends itself here (drsfs/fault.h). */
void link_flush(struct link *);
#endif

#endif
