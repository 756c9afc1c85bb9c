/*
 * Two sockets. The group's is bound to the group's own address and port, so that other groups on the same port are not heard, with
 * SO_REUSEADDR for several slaves on one host. The unicast socket takes both families and has a port of its own, which the slave tells in its hello.
 */
#include "drsfs/beat.h"

#include <errno.h>
#include <event2/event.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REJOIN_MS          3000
#define HEAR_DATAGRAMS_MAX 64        /* a loop turn */
#define RECEIVE_BYTES      (1 << 20) /* a slave that commits for a moment should not miss what comes meanwhile */

struct beat_port {
	struct event_base *base;
	struct beat_options options;
	bool grouped;
	struct address group;
	char interface[256];
	int group_fd, unicast_fd;
	bool unicast_both; /* the unicast socket is AF_INET6 for both families */
	int group_error;
	struct event *hear_group, *hear_unicast, *rejoin;
};

/* --- interface */

/* The index of the interface with this name or address; 0: none has it now. */
static unsigned interface_index(const char *text)
{
	unsigned index = if_nametoindex(text);
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *wanted;
	struct ifaddrs *all;
	if (index || getaddrinfo(text, NULL, &hints, &wanted) != 0)
		return index;
	if (getifaddrs(&all) == 0) {
		struct address want = { .size = wanted->ai_addrlen };
		memcpy(&want.storage, wanted->ai_addr, wanted->ai_addrlen);
		for (struct ifaddrs *at = all; at && !index; at = at->ifa_next) {
			struct address have = { 0 };
			if (!at->ifa_addr || at->ifa_addr->sa_family != want.any.sa_family)
				continue;
			memcpy(&have.storage, at->ifa_addr, want.size);
			if (address_same_host(&have, &want))
				index = if_nametoindex(at->ifa_name);
		}
		freeifaddrs(all);
	}
	freeaddrinfo(wanted);
	return index;
}

/* --- the group's socket */

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int group_send_options(struct beat_port *p, int fd, unsigned index)
{
	int ttl = p->options.multicast_ttl, error;
	if (p->group.any.sa_family == AF_INET6) {
		error = index ? set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)index) : 0;
		if (error == 0)
			error = set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl);
		return error ? error : set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1);
	}
	struct ip_mreqn by = { .imr_ifindex = (int)index };
	if (index && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof(by)) < 0)
		return -errno;
	error = set_option(fd, IPPROTO_IP, IP_MULTICAST_TTL, ttl);
	return error ? error : set_option(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
}

static int group_join(struct beat_port *p, int fd, unsigned index)
{
	int result;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
	if (bind(fd, &p->group.any, p->group.size) < 0)
		return -errno;
	if (p->group.any.sa_family == AF_INET6) {
		struct ipv6_mreq join = { .ipv6mr_multiaddr = p->group.v6.sin6_addr, .ipv6mr_interface = index };
		result = setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &join, sizeof(join));
	} else {
		struct ip_mreqn join = { .imr_multiaddr = p->group.v4.sin_addr, .imr_ifindex = (int)index };
		result = setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join));
	}
	return result < 0 ? -errno : 0;
}

static void on_group(evutil_socket_t fd, short what, void *user);

static int group_open(struct beat_port *p)
{
	unsigned index = *p->interface ? interface_index(p->interface) : 0;
	if (*p->interface && !index)
		return -ENODEV;
	int fd = socket(p->group.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int error = group_send_options(p, fd, index);
	if (error == 0 && p->options.listen)
		error = group_join(p, fd, index);
	if (error == 0 && p->options.listen) {
		p->hear_group = event_new(p->base, fd, EV_READ | EV_PERSIST, on_group, p);
		if (!p->hear_group || event_add(p->hear_group, NULL) < 0)
			error = -ENOMEM;
	}
	p->group_fd = fd;
	return error;
}

static void group_close(struct beat_port *p)
{
	if (p->hear_group)
		event_free(p->hear_group);
	if (p->group_fd >= 0)
		close(p->group_fd);
	p->hear_group = NULL;
	p->group_fd = -1;
}

/* The network may come later than we do. */
static void group_try(struct beat_port *p)
{
	struct timeval later = { REJOIN_MS / 1000, REJOIN_MS % 1000 * 1000 };
	p->group_error = group_open(p);
	if (p->group_error == 0)
		return;
	group_close(p);
	event_add(p->rejoin, &later);
}

static void on_rejoin(evutil_socket_t fd, short what, void *user)
{
	(void)fd, (void)what;
	group_try(user);
}

/* --- hearing */

static void hear(struct beat_port *p, int fd, enum beat_path path)
{
	uint8_t bytes[2048]; /* longer than any heartbeat: what is cut off is too long anyway */
	for (int i = 0; i < HEAR_DATAGRAMS_MAX; i++) {
		struct address from = { .size = sizeof(from.storage) };
		ssize_t size = recvfrom(fd, bytes, sizeof(bytes), 0, &from.any, &from.size);
		if (size < 0)
			return;
		p->options.heard(p->options.user, (struct slice){ bytes, (size_t)size }, &from, path);
	}
}

static void on_group(evutil_socket_t fd, short what, void *user)
{
	(void)what;
	hear(user, fd, BEAT_BY_MULTICAST);
}

static void on_unicast(evutil_socket_t fd, short what, void *user)
{
	(void)what;
	hear(user, fd, BEAT_BY_UNICAST);
}

static int unicast_open(struct beat_port *p)
{
	struct address any = { .v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT }, .size = sizeof(any.v6) };
	p->unicast_fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	p->unicast_both = p->unicast_fd >= 0 && set_option(p->unicast_fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) == 0;
	if (!p->unicast_both) {
		if (p->unicast_fd >= 0)
			close(p->unicast_fd);
		p->unicast_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		any = (struct address){ .v4 = { .sin_family = AF_INET }, .size = sizeof(any.v4) };
	}
	if (p->unicast_fd < 0 || bind(p->unicast_fd, &any.any, any.size) < 0)
		return -errno;
	if (!p->options.listen)
		return 0;
	set_option(p->unicast_fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
	p->hear_unicast = event_new(p->base, p->unicast_fd, EV_READ | EV_PERSIST, on_unicast, p);
	return p->hear_unicast && event_add(p->hear_unicast, NULL) == 0 ? 0 : -ENOMEM;
}

/* --- life */

static int beat_port_open(struct beat_port *p)
{
	p->grouped = *p->options.group;
	if (p->grouped &&
	    (address_parse(p->options.group, &p->group) < 0 || !address_is_multicast(&p->group) || address_port(&p->group) == 0))
		return -EINVAL;
	if (strlen(p->options.interface) >= sizeof(p->interface))
		return -EINVAL;
	strcpy(p->interface, p->options.interface);
	p->rejoin = event_new(p->base, -1, 0, on_rejoin, p);
	if (!p->rejoin)
		return -ENOMEM;
	int error = unicast_open(p);
	if (error == 0 && p->grouped)
		group_try(p);
	return error;
}

int beat_port_new(struct event_base *base, const struct beat_options *options, struct beat_port **ret_port)
{
	struct beat_port *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->base = base;
	p->options = *options;
	p->group_fd = p->unicast_fd = -1;
	int error = beat_port_open(p);
	if (error < 0) {
		beat_port_free(p);
		return error;
	}
	*ret_port = p;
	return 0;
}

void beat_port_free(struct beat_port *p)
{
	if (!p)
		return;
	group_close(p);
	if (p->rejoin)
		event_free(p->rejoin);
	if (p->hear_unicast)
		event_free(p->hear_unicast);
	if (p->unicast_fd >= 0)
		close(p->unicast_fd);
	free(p);
}

uint16_t beat_port_number(const struct beat_port *p)
{
	struct address own = { .size = sizeof(own.storage) };
	return getsockname(p->unicast_fd, &own.any, &own.size) == 0 ? address_port(&own) : 0;
}

int beat_port_error(const struct beat_port *p)
{
	return p->group_error;
}

static int send_datagram(int fd, const struct address *to, struct slice datagram)
{
	return sendto(fd, datagram.data, datagram.size, MSG_DONTWAIT, &to->any, to->size) < 0 ? -errno : 0;
}

int beat_send_group(struct beat_port *p, struct slice datagram)
{
	if (p->group_fd < 0)
		return p->group_error ? p->group_error : -ENOTCONN;
	return send_datagram(p->group_fd, &p->group, datagram);
}

int beat_send_to(struct beat_port *p, const struct address *to, struct slice datagram)
{
	struct address mapped = p->unicast_both ? address_mapped(to) : *to;
	return send_datagram(p->unicast_fd, &mapped, datagram);
}
