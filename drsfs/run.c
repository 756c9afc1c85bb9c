#include "drsfs/run.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drsfs/buffer.h"

static void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

void run_node_config(const struct config *c, struct node_config *n)
{
	struct timespec now;

	node_config_default(n);
	copy_text(n->name, sizeof(n->name), c->name);
	copy_text(n->listen, sizeof(n->listen), c->listen);
	copy_text(n->master, sizeof(n->master), c->master);
	copy_text(n->group, sizeof(n->group), strcmp(c->group, "none") == 0 ? "" : c->group);
	copy_text(n->interface, sizeof(n->interface), c->interface);
	n->multicast_ttl = (int)c->multicast_ttl;
	n->beat_interval_ms = c->beat_interval_ms;
	n->window_beats = c->window_beats;
	n->peers_max = c->peers_max;
	n->link_timeout_ms = c->link_timeout_ms;
	clock_gettime(CLOCK_REALTIME, &now);
	n->incarnation = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct run_signals {
	struct event *term, *interrupt;
	void (*stop)(void *user);
	void *user;
};

static void on_signal(evutil_socket_t number, short what, void *user)
{
	struct run_signals *s = user;
	(void)number, (void)what;
	s->stop(s->user);
}

void run_signals_free(struct run_signals *s)
{
	if (!s)
		return;
	if (s->term)
		event_free(s->term);
	if (s->interrupt)
		event_free(s->interrupt);
	free(s);
}

int run_signals_new(struct node *node, void (*stop)(void *user), void *user, struct run_signals **ret_signals)
{
	struct run_signals *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	signal(SIGPIPE, SIG_IGN);
	s->stop = stop;
	s->user = user;
	s->term = evsignal_new(node_base(node), SIGTERM, on_signal, s);
	s->interrupt = evsignal_new(node_base(node), SIGINT, on_signal, s);
	if (!s->term || !s->interrupt || event_add(s->term, NULL) < 0 || event_add(s->interrupt, NULL) < 0) {
		run_signals_free(s);
		return -ENOMEM;
	}
	*ret_signals = s;
	return 0;
}

struct run_timer {
	struct event *event;
	void (*tick)(void *user);
	void *user;
};

static void on_timer(evutil_socket_t fd, short what, void *user)
{
	struct run_timer *t = user;
	(void)fd, (void)what;
	t->tick(t->user);
}

int run_timer_new(struct node *node, uint32_t ms, void (*tick)(void *user), void *user, struct run_timer **ret_timer)
{
	struct timeval interval = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	struct run_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->tick = tick;
	t->user = user;
	t->event = event_new(node_base(node), -1, EV_PERSIST, on_timer, t);
	if (!t->event || event_add(t->event, &interval) < 0) {
		run_timer_free(t);
		return -ENOMEM;
	}
	*ret_timer = t;
	return 0;
}

void run_timer_free(struct run_timer *t)
{
	if (!t)
		return;
	if (t->event)
		event_free(t->event);
	free(t);
}

int run_read_state(struct txn *reader, struct store_state *ret_state)
{
	int error = txn_resume(reader);

	if (error < 0)
		return error;
	*ret_state = *txn_state(reader);
	txn_park(reader);
	return 0;
}

void run_hex(const void *bytes, size_t size, char *text)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++)
		sprintf(text + 2 * i, "%02x", at[i]);
}

json_t *run_json_text(const char *text)
{
	json_t *json = json_string(text);
	char *plain = json ? NULL : strdup(text);

	for (char *at = plain; at && *at; at++)
		if (*at & 0x80)
			*at = '?';
	if (plain)
		json = json_string(plain);
	free(plain);
	return json;
}

json_t *run_json_digest(const struct digest *digest)
{
	char text[33];

	snprintf(text, sizeof(text), "%016llx%016llx", (unsigned long long)digest->hi, (unsigned long long)digest->lo);
	return json_string(text);
}

json_t *run_json_counters(const struct node *node)
{
	struct node_counters c;

	node_counters(node, &c);
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "beats_sent", (json_int_t)c.beats_sent, "beat_bytes_sent",
			 (json_int_t)c.beat_bytes_sent, "beats_heard", (json_int_t)c.beats_heard, "beats_dropped",
			 (json_int_t)c.beats_dropped, "link_bytes_sent", (json_int_t)c.link_bytes_sent, "link_bytes_received",
			 (json_int_t)c.link_bytes_received, "links", (json_int_t)c.links);
}

const char *run_path_name(enum beat_path path)
{
	switch (path) {
	case BEAT_BY_MULTICAST:
		return "multicast";
	case BEAT_BY_UNICAST:
		return "unicast";
	case BEAT_BY_LINK:
		return "link";
	}
	return "none";
}
