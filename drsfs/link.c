/*
 * Framing over a libevent bufferevent.
 *
 * Fairness: one turn of a link handles TURN_BYTES_MAX or TURN_MS_MAX of input, then lets the loop look at heartbeats and other links.
 * Back-pressure: the bufferevent stops reading at LINK_INPUT_BYTES_MAX, so a side that cannot keep up slows the sender down through TCP; a
 * sender asks link_full() and goes on at 'drained'. Neither side ever stops reading because its output is full, so the two cannot block each other.
 * 'failed' and 'turn': errors and rest work wait for an event of their own, so that no callback comes out of a call by the owner.
 */
#include "drsfs/link.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/node.h"

#define TURN_BYTES_MAX    ((size_t)4 << 20)
#define TURN_MS_MAX       2
#define SINGLE_READ_BYTES ((size_t)256 << 10)
#define FINISH_MS         2000

struct link {
	struct link_options options;
	struct bufferevent *stream;
	struct event *turn; /* rest work, or a failure to tell */
	struct event *clock;
	time_ms heard;    /* when bytes last came */
	time_ms expected; /* link_expect; 0: no limit */
	bool asked;       /* 'quiet' was told since 'heard' */
	bool connecting, finishing, down;
	int error;     /* to be told; 0: none */
	unsigned busy; /* callbacks under way */
	bool freed;    /* within one of them */
};

/* --- life */

static void link_destroy(struct link *l)
{
	if (l->stream)
		bufferevent_free(l->stream);
	if (l->turn)
		event_free(l->turn);
	if (l->clock)
		event_free(l->clock);
	free(l);
}

void link_free(struct link *l)
{
	if (!l)
		return;
	if (l->busy == 0) {
		link_destroy(l);
		return;
	}
	l->freed = l->down = true;
	bufferevent_disable(l->stream, EV_READ | EV_WRITE);
}

static void enter(struct link *l)
{
	l->busy++;
}

static void leave(struct link *l)
{
	if (--l->busy == 0 && l->freed)
		link_destroy(l);
}

/* Ends the link from within the loop. */
static void go_down(struct link *l, int error)
{
	if (l->down)
		return;
	l->down = true;
	bufferevent_disable(l->stream, EV_READ | EV_WRITE);
	event_del(l->clock);
	l->options.down(l->options.user, error);
}

/* Ends the link from within a call of its owner: soon. */
static void fail(struct link *l, int error)
{
	if (l->down || l->error)
		return;
	l->error = error;
	event_active(l->turn, EV_TIMEOUT, 0);
}

/* --- the clock */

static void clock_set(struct link *l)
{
	time_ms now = node_now();
	time_ms due = l->heard + (l->asked ? l->options.timeout_ms : l->options.timeout_ms / 2);
	if (l->expected && l->expected < due)
		due = l->expected;
	time_ms wait = due > now ? due - now : 1;
	struct timeval tv = { wait / 1000, wait % 1000 * 1000 };
	event_add(l->clock, &tv);
}

static void on_clock(evutil_socket_t fd, short what, void *user)
{
	struct link *l = user;
	time_ms now = node_now();
	(void)fd, (void)what;
	enter(l);
	if (now - l->heard >= l->options.timeout_ms || (l->expected && now >= l->expected)) {
		go_down(l, l->finishing ? 0 : -ETIMEDOUT);
	} else if (now - l->heard >= l->options.timeout_ms / 2 && !l->asked) {
		l->asked = true;
		if (!l->connecting && !l->finishing)
			l->options.quiet(l->options.user);
	}
	if (!l->down)
		clock_set(l);
	leave(l);
}

static void hear(struct link *l)
{
	l->heard = node_now();
	l->asked = false;
}

void link_expect(struct link *l, uint32_t within_ms)
{
	if (l->down)
		return;
	l->expected = within_ms ? node_now() + within_ms : 0;
	clock_set(l);
}

/* --- input */

static uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* A whole frame, kind and body. Frames of kinds that are not known are from a newer minor version. */
static int frame_take(struct link *l, const uint8_t *frame, size_t size)
{
	switch (frame[0]) {
	case LINK_MESSAGE:
		return l->options.frame(l->options.user, LINK_MESSAGE, 0, (struct slice){ frame + 1, size - 1 });
	case LINK_DATA_FROM_MASTER:
	case LINK_DATA_FROM_SLAVE:
		if (size < 5)
			return -DRS_EPROTOCOL;
		return l->options.frame(l->options.user, frame[0], be32(frame + 1), (struct slice){ frame + 5, size - 5 });
	default:
		return 0;
	}
}

/* The next frame, if all of it is here: its size with the length field, 0 if not, or an error. */
static ssize_t frame_next(struct link *l, struct evbuffer *input)
{
	uint8_t head[4];
	if (evbuffer_copyout(input, head, sizeof(head)) < (ssize_t)sizeof(head))
		return 0;
	size_t size = be32(head);
	if (size == 0 || size > LINK_FRAME_BYTES_MAX)
		return -DRS_EPROTOCOL;
	if (evbuffer_get_length(input) < sizeof(head) + size)
		return 0;
	const uint8_t *frame = evbuffer_pullup(input, (ssize_t)(sizeof(head) + size));
	if (!frame)
		return -ENOMEM;
	int error = frame_take(l, frame + sizeof(head), size);
	return error < 0 ? error : (ssize_t)(sizeof(head) + size);
}

static void take_turn(struct link *l)
{
	struct evbuffer *input = bufferevent_get_input(l->stream);
	time_ms start = node_now();
	size_t taken = 0;
	while (!l->down && !l->error && !l->finishing) {
		ssize_t size = frame_next(l, input);
		if (size < 0)
			go_down(l, (int)size);
		if (size <= 0 || l->down)
			return;
		evbuffer_drain(input, (size_t)size);
		l->options.traffic->bytes_received += (size_t)size;
		taken += (size_t)size;
		if (taken >= TURN_BYTES_MAX || node_now() - start >= TURN_MS_MAX) {
			event_active(l->turn, EV_TIMEOUT, 0);
			return;
		}
	}
}

static void finish_if_sent(struct link *l)
{
	if (evbuffer_get_length(bufferevent_get_output(l->stream)) == 0)
		go_down(l, 0);
}

static void on_turn(evutil_socket_t fd, short what, void *user)
{
	struct link *l = user;
	(void)fd, (void)what;
	enter(l);
	if (l->error)
		go_down(l, l->error);
	else if (l->finishing)
		finish_if_sent(l);
	else
		take_turn(l);
	leave(l);
}

static void on_readable(struct bufferevent *stream, void *user)
{
	struct link *l = user;
	enter(l);
	hear(l);
	if (l->finishing)
		evbuffer_drain(bufferevent_get_input(stream), SIZE_MAX);
	else
		take_turn(l);
	leave(l);
}

/* --- output */

static void send_frame(struct link *l, const uint8_t *head, size_t head_size, struct slice body)
{
	struct evbuffer *output = bufferevent_get_output(l->stream);
	if (l->down || l->error || l->finishing)
		return;
	if (head_size - 4 + body.size > LINK_FRAME_BYTES_MAX || evbuffer_get_length(output) + body.size > LINK_OUTPUT_BYTES_MAX) {
		fail(l, -DRS_ETOOBIG);
		return;
	}
	if (evbuffer_add(output, head, head_size) < 0 || evbuffer_add(output, body.data, body.size) < 0) {
		fail(l, -ENOMEM);
		return;
	}
	l->options.traffic->bytes_sent += head_size + body.size;
}

static void put_be32(uint8_t *at, size_t v)
{
	at[0] = (uint8_t)(v >> 24);
	at[1] = (uint8_t)(v >> 16);
	at[2] = (uint8_t)(v >> 8);
	at[3] = (uint8_t)v;
}

void link_send_message(struct link *l, struct slice message)
{
	uint8_t head[5] = { [4] = LINK_MESSAGE };
	put_be32(head, 1 + message.size);
	send_frame(l, head, sizeof(head), message);
}

void link_send_data(struct link *l, enum link_frame kind, uint32_t request, struct slice data)
{
	uint8_t head[9] = { [4] = (uint8_t)kind };
	put_be32(head, 5 + data.size);
	put_be32(head + 5, request);
	send_frame(l, head, sizeof(head), data);
}

bool link_full(const struct link *l)
{
	return l->down || l->error || l->finishing || evbuffer_get_length(bufferevent_get_output(l->stream)) >= LINK_OUTPUT_BYTES_HIGH;
}

/* The output has fallen to LINK_OUTPUT_BYTES_LOW, or below. */
static void on_writable(struct bufferevent *stream, void *user)
{
	struct link *l = user;
	enter(l);
	(void)stream;
	if (l->finishing)
		finish_if_sent(l);
	else
		l->options.drained(l->options.user);
	leave(l);
}

void link_finish(struct link *l)
{
	if (l->down)
		return;
	l->finishing = true;
	bufferevent_setwatermark(l->stream, EV_WRITE, 0, 0);
	link_expect(l, FINISH_MS);
	event_active(l->turn, EV_TIMEOUT, 0);
}

#ifdef DRSFS_FAULTS
void link_flush(struct link *l)
{
	struct evbuffer *output = bufferevent_get_output(l->stream);
	/* The bufferevent lets nobody else take bytes from the front. */
	evbuffer_unfreeze(output, 1);
	evbuffer_write(output, bufferevent_getfd(l->stream));
	evbuffer_freeze(output, 1);
}
#endif

/* --- making one */

static void on_event(struct bufferevent *stream, short what, void *user)
{
	struct link *l = user;
	int error = -errno;
	(void)stream;
	enter(l);
	if (what & BEV_EVENT_CONNECTED) {
		l->connecting = false;
		hear(l);
		link_expect(l, 0);
		l->options.up(l->options.user);
	} else if (what & BEV_EVENT_EOF) {
		go_down(l, -DRS_ELINK);
	} else if (what & BEV_EVENT_ERROR) {
		go_down(l, error == 0 || error == -ECONNRESET || error == -EPIPE ? -DRS_ELINK : error);
	}
	leave(l);
}

/* What the bytes of a link travel in. */
static struct bufferevent *stream_new(struct event_base *base, int fd)
{
	struct bufferevent *stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!stream)
		return NULL;
	bufferevent_setwatermark(stream, EV_READ, 0, LINK_INPUT_BYTES_MAX);
	bufferevent_setwatermark(stream, EV_WRITE, LINK_OUTPUT_BYTES_LOW, 0);
	bufferevent_set_max_single_read(stream, SINGLE_READ_BYTES);
	bufferevent_set_max_single_write(stream, SINGLE_READ_BYTES);
	return stream;
}

static int link_new(struct event_base *base, int fd, const struct link_options *options, struct link **ret_link)
{
	int on = 1;
	struct link *l = calloc(1, sizeof(*l));
	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	l->options = *options;
	l->heard = node_now();
	l->turn = event_new(base, -1, 0, on_turn, l);
	l->clock = event_new(base, -1, 0, on_clock, l);
	l->stream = stream_new(base, fd);
	if (!l->stream)
		close(fd);
	if (!l->stream || !l->turn || !l->clock) {
		link_destroy(l);
		return -ENOMEM;
	}
	bufferevent_setcb(l->stream, on_readable, on_writable, on_event, l);
	bufferevent_enable(l->stream, EV_READ | EV_WRITE);
	clock_set(l);
	*ret_link = l;
	return 0;
}

int link_accept(struct event_base *base, int fd, const struct link_options *options, struct link **ret_link)
{
	return link_new(base, fd, options, ret_link);
}

int link_dial(struct event_base *base, const struct address *to, const struct link_options *options, struct link **ret_link)
{
	struct link *l;
	int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int error = link_new(base, fd, options, &l);
	if (error < 0)
		return error;
	l->connecting = true;
	link_expect(l, options->timeout_ms);
	if (bufferevent_socket_connect(l->stream, &to->any, (int)to->size) < 0) {
		link_destroy(l);
		return -EHOSTUNREACH;
	}
	*ret_link = l;
	return 0;
}
