/*
 * A query is shared by the loop and its helper thread; whoever is last frees it. A name server can keep getaddrinfo waiting for half a
 * minute, so giving up does not wait for the thread: it leaves it behind, detached, with a query that nobody listens to.
 */
#include "drsfs/resolve.h"

#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct query {
	atomic_int holders;
	int done_fd; /* eventfd: the answer is there */
	char host[256], port[8];
	int error;
	size_t count;
	struct address addresses[RESOLVE_ADDRESSES_MAX];
};

struct resolve {
	struct query *query;
	struct event *answered;
	resolve_done *done;
	void *user;
};

static void query_release(struct query *q)
{
	if (atomic_fetch_sub(&q->holders, 1) > 1)
		return;
	close(q->done_fd);
	free(q);
}

static void query_answer(struct query *q, int flags)
{
	struct addrinfo hints = { .ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *found = NULL;
	q->error = getaddrinfo(q->host, q->port, &hints, &found) == 0 ? 0 : -EHOSTUNREACH;
	for (struct addrinfo *at = found; at && q->count < RESOLVE_ADDRESSES_MAX; at = at->ai_next) {
		if (at->ai_family != AF_INET && at->ai_family != AF_INET6)
			continue;
		struct address *to = &q->addresses[q->count++];
		memcpy(&to->storage, at->ai_addr, at->ai_addrlen);
		to->size = at->ai_addrlen;
	}
	if (found)
		freeaddrinfo(found);
	if (q->error == 0 && q->count == 0)
		q->error = -EHOSTUNREACH;
}

static void *query_thread(void *user)
{
	struct query *q = user;
	query_answer(q, 0);
	eventfd_write(q->done_fd, 1);
	query_release(q);
	return NULL;
}

/* A numeric address at once, a name on a thread. */
static int query_start(struct query *q)
{
	query_answer(q, AI_NUMERICHOST);
	if (q->error == 0) {
		eventfd_write(q->done_fd, 1);
		return 0;
	}
	pthread_attr_t detached;
	pthread_t thread;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add(&q->holders, 1);
	int error = -pthread_create(&thread, &detached, query_thread, q);
	if (error < 0)
		query_release(q);
	pthread_attr_destroy(&detached);
	return error;
}

static void on_answered(evutil_socket_t fd, short what, void *user)
{
	struct resolve *r = user;
	eventfd_t count;
	(void)what;
	eventfd_read(fd, &count);
	r->done(r->user, r->query->error, r->query->addresses, r->query->count);
}

static int query_new(const char *text, struct query **ret_query)
{
	struct query *q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	atomic_init(&q->holders, 1);
	int error = address_split(text, q->host, q->port);
	if (error == 0 && !*q->host)
		error = -EINVAL;
	if (error == 0 && (q->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		error = -errno;
	if (error < 0) {
		free(q);
		return error;
	}
	*ret_query = q;
	return 0;
}

int resolve_start(struct event_base *base, const char *text, resolve_done *done, void *user, struct resolve **ret_resolve)
{
	struct resolve *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->done = done;
	r->user = user;
	int error = query_new(text, &r->query);
	if (error == 0) {
		r->answered = event_new(base, r->query->done_fd, EV_READ, on_answered, r);
		if (!r->answered || event_add(r->answered, NULL) < 0)
			error = -ENOMEM;
	}
	if (error == 0)
		error = query_start(r->query);
	if (error < 0) {
		resolve_free(r);
		return error;
	}
	*ret_resolve = r;
	return 0;
}

void resolve_free(struct resolve *r)
{
	if (!r)
		return;
	if (r->answered)
		event_free(r->answered);
	if (r->query)
		query_release(r->query);
	free(r);
}
