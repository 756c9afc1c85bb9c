/*
 * Heartbeats on their way: the UDP sockets that send datagrams to a multicast group or to one address, and those that hear them.
 * Knows nothing of what is in a datagram (drsfs/wire.h) or when to send one (the cores).
 */
#ifndef DRSFS_BEAT_H
#define DRSFS_BEAT_H

#include "drsfs/address.h"
#include "drsfs/event.h"

struct event_base;
struct beat_port;

struct beat_options {
	const char *group;     /* multicast "ADDRESS:PORT"; empty: unicast only */
	const char *interface; /* address or name of the interface for multicast; empty: the system's choice */
	int multicast_ttl;
	bool listen; /* join the group and hear (slave); else only send (master) */
	/* A datagram came; it is valid during the call. From the loop. */
	void (*heard)(void *user, struct slice datagram, const struct address *from, enum beat_path);
	void *user;
};

/*
 * -EINVAL: the group or the interface is not what it should be. The network need not be there: a group that cannot be joined now is tried
 * again every few seconds.
 */
int beat_port_new(struct event_base *, const struct beat_options *, struct beat_port **ret_port);
void beat_port_free(struct beat_port *); /* NULL is fine */
/* Where unicast datagrams are heard. */
uint16_t beat_port_number(const struct beat_port *);
/* Why the group cannot be used now (-ENODEV: no such interface or route); 0: it can, or there is none. */
int beat_port_error(const struct beat_port *);
/* Send, without waiting: a full socket buffer or a missing route loses the datagram (R2.3). 0 or a negative errno. */
int beat_send_group(struct beat_port *, struct slice datagram);
int beat_send_to(struct beat_port *, const struct address *, struct slice datagram);

#endif
