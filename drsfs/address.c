/* Numeric addresses only: nothing here waits for a name server (drsfs/resolve.c does, on a thread of its own). */
#include "drsfs/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int address_split(const char *text, char host[256], char port[8])
{
	const char *colon = strrchr(text, ':');
	if (!colon)
		return -EINVAL;
	const char *start = text, *end = colon;
	if (*start == '[') {
		start++;
		if (end == text || *--end != ']')
			return -EINVAL;
	} else if (memchr(start, ':', (size_t)(end - start))) {
		return -EINVAL; /* IPv6 without brackets: which colon is the port's? */
	}
	char *rest;
	unsigned long number = strtoul(colon + 1, &rest, 10);
	if (colon[1] < '0' || colon[1] > '9' || *rest || number > UINT16_MAX || end - start > 255)
		return -EINVAL;
	snprintf(port, 8, "%lu", number);
	snprintf(host, 256, "%.*s", (int)(end - start), start);
	return 0;
}

int address_parse(const char *text, struct address *ret_address)
{
	char host[256], port[8];
	if (address_split(text, host, port) < 0)
		return -EINVAL;
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *found;
	if (getaddrinfo(*host ? host : "0.0.0.0", port, &hints, &found) != 0)
		return -EINVAL;
	*ret_address = (struct address){ .size = found->ai_addrlen };
	memcpy(&ret_address->storage, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

static bool is_mapped(const struct address *a)
{
	return a->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr);
}

void address_format(const struct address *a, char text[ADDRESS_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "?";
	if (a->any.sa_family == AF_INET)
		inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof(host));
	else if (is_mapped(a))
		inet_ntop(AF_INET, &a->v6.sin6_addr.s6_addr[12], host, sizeof(host));
	else if (a->any.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof(host));
	snprintf(text, ADDRESS_TEXT_MAX, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, address_port(a));
}

uint16_t address_port(const struct address *a)
{
	return ntohs(a->any.sa_family == AF_INET6 ? a->v6.sin6_port : a->v4.sin_port);
}

void address_set_port(struct address *a, uint16_t port)
{
	if (a->any.sa_family == AF_INET6)
		a->v6.sin6_port = htons(port);
	else
		a->v4.sin_port = htons(port);
}

bool address_is_multicast(const struct address *a)
{
	return a->any.sa_family == AF_INET6 ? IN6_IS_ADDR_MULTICAST(&a->v6.sin6_addr) : IN_MULTICAST(ntohl(a->v4.sin_addr.s_addr));
}

struct address address_mapped(const struct address *a)
{
	if (a->any.sa_family != AF_INET)
		return *a;
	struct address mapped = { .size = sizeof(mapped.v6) };
	mapped.v6.sin6_family = AF_INET6;
	mapped.v6.sin6_port = a->v4.sin_port;
	memset(&mapped.v6.sin6_addr.s6_addr[10], 0xff, 2);
	memcpy(&mapped.v6.sin6_addr.s6_addr[12], &a->v4.sin_addr, 4);
	return mapped;
}

bool address_same_host(const struct address *a, const struct address *b)
{
	struct address am = address_mapped(a), bm = address_mapped(b);
	return memcmp(&am.v6.sin6_addr, &bm.v6.sin6_addr, sizeof(am.v6.sin6_addr)) == 0;
}
