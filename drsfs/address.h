/* Internet addresses as people write them ("ADDRESS:PORT", "[ADDRESS]:PORT", "HOST:PORT") and as sockets take them, IPv4 and IPv6 alike. */
#ifndef DRSFS_ADDRESS_H
#define DRSFS_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "drsfs/types.h"

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_storage storage;
	};
	socklen_t size;
};

#define ADDRESS_TEXT_MAX 80

/* Splits at the last ':' and takes the brackets off; an empty host stays empty. -EINVAL: no port, or it does not fit. */
int address_split(const char *text, char host[256], char port[8]);
/* A numeric address; an empty host is every address of this machine. -EINVAL: not one. */
int address_parse(const char *text, struct address *ret_address);
void address_format(const struct address *, char text[ADDRESS_TEXT_MAX]);
uint16_t address_port(const struct address *);
void address_set_port(struct address *, uint16_t port);
bool address_is_multicast(const struct address *);
bool address_same_host(const struct address *, const struct address *);
/* The same address for a socket that takes both families (AF_INET6 without IPV6_V6ONLY). */
struct address address_mapped(const struct address *);

#endif
