/*
 * The loop, and the order of things: event -> step -> perform.
 *
 * Everything that happens becomes an event in one of three ways. What the loop sees (datagrams, links, timers) is raised where it is seen. What other
 * threads want waits in a queue of calls, in order, that an eventfd wakes the loop for. What comes of performing an action (durable, failed)
 * waits until the actions of its step are done and is stepped then, never nested. After each such run the timer is set to the core's next deadline.
 *
 * Latency: calls and the timer have priority over links in libevent, and links give way every few milliseconds, so that a new
 * version is announced at once however many slaves are pulling.
 */
#include "drsfs/node.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/node_role.h"

#define UPDATES_MAX   1024 /* that wait; more are merged */
#define JOBS_MAX      16   /* that wait; only one is ever taken, the others are told that it runs */
#define LINKS_TURN_US 2000 /* after which the loop looks whether something more urgent has come */
enum { PRIORITY_CALLS, PRIORITY_LINKS, PRIORITIES };

enum call_kind { CALL_RUN, CALL_UPDATE, CALL_JOB };

/* What another thread wants: a function to run, one phase or two. */
struct call {
	TAILQ_ENTRY(call) next;
	enum call_kind kind;
	void (*run)(void *user);
	void *user;
	struct drs_version version;
	struct scope scope;
	struct drs_job job;
	size_t inline_size;
	uint8_t inline_delta[];
};
TAILQ_HEAD(call_list, call);

struct node {
	struct node_config config;
	struct event_base *base;
	struct role role;
	uint16_t link_port;
	loop_event *timer, *wake;

	int wake_fd;
	atomic_bool stopping;
	pthread_mutex_t lock; /* of the calls */
	struct call_list calls;
	size_t updates, jobs; /* among them */

	bool stepping;
	struct actions actions;
	struct event *raised; /* a ring of events that wait for their step */
	size_t raised_first, raised_count, raised_capacity;

	struct link_traffic traffic;
	struct node_counters counters;
};

time_ms node_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (time_ms)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- steps */

static void timer_set(struct node *n)
{
	time_ms deadline = n->role.ops->deadline(n->role.self);
	if (deadline == TIME_NEVER) {
		event_del(n->timer);
		return;
	}
	time_ms now = node_now(), wait = deadline > now ? deadline - now : 0;
	struct timeval tv = { wait / 1000, wait % 1000 * 1000 };
	event_add(n->timer, &tv);
}

static void step(struct node *n, struct event *e)
{
	e->now = node_now();
	n->role.ops->step(n->role.self, e, &n->actions);
	for (size_t i = 0; i < n->actions.count; i++)
		n->role.ops->perform(n->role.self, &n->actions.items[i]);
}

static void raise_later(struct node *n, struct event *e)
{
	assert(n->raised_count < n->raised_capacity);
	assert(!e->beat && !e->scope && !e->name && !e->did && !e->job && !e->inline_delta.size);
	n->raised[(n->raised_first + n->raised_count++) % n->raised_capacity] = *e;
}

static struct event raised_take(struct node *n)
{
	struct event e = n->raised[n->raised_first];
	n->raised_first = (n->raised_first + 1) % n->raised_capacity;
	n->raised_count--;
	return e;
}

void node_raise(struct node *n, struct event e)
{
	if (n->stepping) {
		raise_later(n, &e);
		return;
	}
	n->stepping = true;
	step(n, &e);
	while (n->raised_count > 0) {
		e = raised_take(n);
		step(n, &e);
	}
	n->stepping = false;
	timer_set(n);
}

static void on_timer(evutil_socket_t fd, short what, void *user)
{
	(void)fd, (void)what;
	node_raise(user, (struct event){ .kind = EVENT_TICK });
}

/* --- calls from other threads */

static void wake(struct node *n)
{
	eventfd_write(n->wake_fd, 1);
}

static void push(struct node *n, struct call *c)
{
	bool first = TAILQ_EMPTY(&n->calls);
	TAILQ_INSERT_TAIL(&n->calls, c, next);
	if (first)
		wake(n);
}

int node_post(struct node *n, void (*run)(void *user), void *user)
{
	struct call *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->run = run;
	c->user = user;
	pthread_mutex_lock(&n->lock);
	push(n, c);
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static struct call *call_new(enum call_kind kind, struct slice inline_delta)
{
	struct call *c = calloc(1, sizeof(*c) + inline_delta.size);
	if (!c)
		return NULL;
	c->kind = kind;
	c->inline_size = inline_delta.size;
	if (inline_delta.size > 0)
		memcpy(c->inline_delta, inline_delta.data, inline_delta.size);
	return c;
}

static struct call *update_new(const struct drs_version *version, const struct scope *scope, struct slice inline_delta)
{
	struct call *c = call_new(CALL_UPDATE, inline_delta);
	if (!c)
		return NULL;
	c->version = *version;
	c->scope = *scope;
	return c;
}

/*
 * The node does not keep up: let the last update that waits lead to this version too, without a delta, and for everyone. What it costs is pulls.
 * Only the newest call can be merged into, so that calls stay in order.
 */
static bool update_merge(struct node *n, const struct drs_version *version)
{
	struct call *last = TAILQ_LAST(&n->calls, call_list);
	if (!last || last->kind != CALL_UPDATE)
		return false;
	last->version = *version;
	last->scope = (struct scope){ 0 };
	last->inline_size = 0;
	return true;
}

int node_post_update(struct node *n, const struct drs_version *version, const struct scope *scope, struct slice inline_delta)
{
	struct call *c = update_new(version, scope, inline_delta.size <= DRS_INLINE_BYTES_MAX ? inline_delta : (struct slice){ 0 });
	int error = 0;
	pthread_mutex_lock(&n->lock);
	if ((!c || n->updates >= UPDATES_MAX) && update_merge(n, version)) {
		free(c);
	} else if (c) {
		n->updates++;
		push(n, c);
	} else {
		error = -ENOMEM;
	}
	pthread_mutex_unlock(&n->lock);
	return error;
}

int node_post_job(struct node *n, const struct drs_job *job, struct slice inline_delta)
{
	struct call *c = call_new(CALL_JOB, inline_delta);
	if (!c)
		return -ENOMEM;
	c->job = *job;
	pthread_mutex_lock(&n->lock);
	bool room = n->jobs < JOBS_MAX;
	if (room) {
		n->jobs++;
		push(n, c);
	}
	pthread_mutex_unlock(&n->lock);
	if (!room)
		free(c);
	return room ? 0 : -EBUSY;
}

static void call_run(struct node *n, struct call *c)
{
	struct slice delta = { c->inline_delta, c->inline_size };
	switch (c->kind) {
	case CALL_RUN:
		c->run(c->user);
		break;
	case CALL_UPDATE:
		node_raise(n, (struct event){ .kind = EVENT_UPDATE, .version = c->version, .scope = &c->scope, .inline_delta = delta });
		break;
	case CALL_JOB:
		n->role.ops->start(n->role.self, &c->job, delta);
		break;
	}
}

static void calls_take(struct node *n, struct call_list *taken)
{
	TAILQ_INIT(taken);
	pthread_mutex_lock(&n->lock);
	TAILQ_CONCAT(taken, &n->calls, next);
	n->updates = n->jobs = 0;
	pthread_mutex_unlock(&n->lock);
}

static void on_wake(evutil_socket_t fd, short what, void *user)
{
	struct node *n = user;
	struct call_list calls;
	eventfd_t count;
	(void)what;
	eventfd_read(fd, &count);
	calls_take(n, &calls);
	while (!TAILQ_EMPTY(&calls)) {
		struct call *c = TAILQ_FIRST(&calls);
		TAILQ_REMOVE(&calls, c, next);
		call_run(n, c);
		free(c);
	}
	if (atomic_load(&n->stopping))
		event_base_loopbreak(n->base);
}

void node_stop(struct node *n)
{
	atomic_store(&n->stopping, true);
	wake(n);
}

/* --- what the roles share */

const struct node_config *node_configuration(const struct node *n)
{
	return &n->config;
}

struct link_traffic *node_traffic(struct node *n)
{
	return &n->traffic;
}

struct node_counters *node_counted(struct node *n)
{
	return &n->counters;
}

void node_set_link_port(struct node *n, uint16_t port)
{
	n->link_port = port;
}

int node_take_role(struct node *n, struct role role, size_t links_max)
{
	if (n->role.ops)
		return -EBUSY;
	/* At most two answers are outstanding, and each link can fail, end a conversation and be found too old to be asked once. */
	size_t raised_max = 3 * links_max + 16;
	n->actions.items = calloc(ACTIONS_MAX(links_max), sizeof(*n->actions.items));
	n->raised = calloc(raised_max, sizeof(*n->raised));
	if (!n->actions.items || !n->raised) {
		free(n->actions.items);
		free(n->raised);
		n->actions.items = NULL;
		n->raised = NULL;
		return -ENOMEM;
	}
	n->actions.capacity = ACTIONS_MAX(links_max);
	n->raised_capacity = raised_max;
	n->role = role;
	timer_set(n);
	return 0;
}

void *node_role_self(const struct node *n, const struct role_ops *ops)
{
	return n->role.ops == ops ? n->role.self : NULL;
}

void link_send_wire(struct link *l, const struct wire_message *message)
{
	struct buffer bytes = BUFFER_INIT;
	wire_message_encode(message, &bytes);
	if (bytes.failed)
		link_finish(l); /* it would wait for this message for ever */
	else
		link_send_message(l, buffer_slice(&bytes));
	buffer_fini(&bytes);
}

void link_send_refuse(struct link *l, int error, const char *text)
{
	struct wire_message m = { .kind = WIRE_REFUSE, .refuse.error = error };
	snprintf(m.refuse.text, sizeof(m.refuse.text), "%s", text ? text : error_text(error));
	link_send_wire(l, &m);
}

void link_send_pull_end(struct link *l, uint32_t request, int error)
{
	struct wire_message m = { .kind = WIRE_PULL_END, .pull_end = { .request = request, .error = error } };
	if (error < 0)
		snprintf(m.pull_end.text, sizeof(m.pull_end.text), "%s", error_text(error));
	link_send_wire(l, &m);
}

/* --- life */

void node_config_default(struct node_config *config)
{
	*config = (struct node_config){
		.listen = "0.0.0.0:0",
		.multicast_ttl = 1,
		.beat_interval_ms = 1000,
		.window_beats = 5,
		.peers_max = 256,
		.link_timeout_ms = 10000,
	};
	if (gethostname(config->name, sizeof(config->name) - 1) < 0 || !wire_name_valid(config->name))
		strcpy(config->name, "localhost");
}

static struct event_base *base_new(void)
{
	struct event_config *how = event_config_new();
	struct timeval turn = { .tv_usec = LINKS_TURN_US };
	struct event_base *base = NULL;
	if (!how)
		return NULL;
	if (event_config_set_max_dispatch_interval(how, &turn, -1, PRIORITY_LINKS) == 0)
		base = event_base_new_with_config(how);
	event_config_free(how);
	if (base && event_base_priority_init(base, PRIORITIES) < 0) {
		event_base_free(base);
		return NULL;
	}
	return base;
}

static bool urgent(loop_event *e)
{
	return e && event_priority_set(e, PRIORITY_CALLS) == 0;
}

static int node_init(struct node *n)
{
	n->base = base_new();
	n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!n->base || n->wake_fd < 0)
		return -ENOMEM;
	n->timer = event_new(n->base, -1, 0, on_timer, n);
	n->wake = event_new(n->base, n->wake_fd, EV_READ | EV_PERSIST, on_wake, n);
	if (!urgent(n->timer) || !urgent(n->wake) || event_add(n->wake, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int node_new(const struct node_config *config, struct node **ret_node)
{
	if (!wire_name_valid(config->name))
		return -EINVAL;
	struct node *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->config = *config;
	n->wake_fd = -1;
	atomic_init(&n->stopping, false);
	pthread_mutex_init(&n->lock, NULL);
	TAILQ_INIT(&n->calls);
	int error = node_init(n);
	if (error < 0) {
		node_free(n);
		return error;
	}
	*ret_node = n;
	return 0;
}

void node_free(struct node *n)
{
	if (!n)
		return;
	if (n->role.ops)
		n->role.ops->free(n->role.self);
	struct call_list calls;
	calls_take(n, &calls);
	for (struct call *c = TAILQ_FIRST(&calls), *next; c; c = next) {
		next = TAILQ_NEXT(c, next);
		free(c);
	}
	if (n->timer)
		event_free(n->timer);
	if (n->wake)
		event_free(n->wake);
	if (n->base)
		event_base_free(n->base);
	if (n->wake_fd >= 0)
		close(n->wake_fd);
	pthread_mutex_destroy(&n->lock);
	free(n->actions.items);
	free(n->raised);
	free(n);
}

int node_run(struct node *n)
{
	sigset_t pipe;
	/* Writing to a link that the other side has closed is an error like others, not the end of the process. */
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, NULL);
	return event_base_dispatch(n->base) < 0 ? -EIO : 0;
}

struct event_base *node_base(struct node *n)
{
	return n->base;
}

uint16_t node_link_port(const struct node *n)
{
	return n->link_port;
}

void node_counters(const struct node *n, struct node_counters *ret_counters)
{
	*ret_counters = n->counters;
	ret_counters->link_bytes_sent = n->traffic.bytes_sent;
	ret_counters->link_bytes_received = n->traffic.bytes_received;
}
