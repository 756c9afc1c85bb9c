/*
 * The control socket's server. Requests are small and rare; what is bounded is what a client could make grow: the length of a line,
 * the number of clients, the requests that one client has under way (one), those that all have, with clients that went away, and the lines that a client
 * does not read.
 */
#include "drsfs/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "drsfs/run.h"

#define LINE_BYTES_MAX 65536
#define CLIENTS_MAX 64
#define REQUESTS_MAX 256
#define UNREAD_BYTES_MAX ((size_t)256 << 10) /* of progress */
#define RECHECK_MS 2

/* Outlives its client: the handler holds it until it answers. */
struct control_request {
	struct control *control;
	struct control_request *next;
	struct client *client; /* NULL: gone */
	void (*gone)(void *user, struct control_request *);
	void *gone_user;
};

struct client {
	struct control *control;
	struct client *next;
	struct bufferevent *stream;
	bool reading; /* in client_read */
	struct control_request *request; /* under way, or NULL: further lines stay in the input until it is answered */
	/* A wait in progress: the same. */
	bool waiting;
	version_t wanted;
	json_t *slaves; /* owned */
	struct event *timeout;
	struct event *recheck; /* runs while waiting */
	bool closing;  /* answer what is in the output, then go */
	bool stopping; /* it asked us to stop: as soon as it has the answer */
};

struct control {
	struct control_handler handler;
	struct event_base *base;
	struct evconnlistener *listener;
	struct client *clients;
	unsigned client_count;
	struct control_request *requests;
	unsigned request_count;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void wait_end(struct client *c)
{
	c->waiting = false;
	json_decref(c->slaves);
	c->slaves = NULL;
	if (c->timeout)
		event_free(c->timeout);
	c->timeout = NULL;
	if (c->recheck)
		event_free(c->recheck);
	c->recheck = NULL;
}

static void request_free(struct control_request *request)
{
	struct control_request **at = &request->control->requests;
	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
	request->control->request_count--;
	if (request->client)
		request->client->request = NULL;
	free(request);
}

/* Whoever works on its request learns of it last: what it does may be anything. */
static void client_free(struct client *c)
{
	struct control_request *request = c->request;
	struct client **at = &c->control->clients;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->control->client_count--;
	wait_end(c);
	bufferevent_free(c->stream);
	free(c);
	if (!request)
		return;
	request->client = NULL;
	if (request->gone)
		request->gone(request->gone_user, request);
}

/* Takes 'answer'. */
static void client_answer(struct client *c, json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	struct evbuffer *out = bufferevent_get_output(c->stream);

	if (text)
		evbuffer_add_printf(out, "%s\n", text);
	else
		evbuffer_add_printf(out, "{\"ok\":false,\"error\":\"out of memory\"}\n");
	free(text);
	json_decref(answer);
}

static void client_refuse(struct client *c, const char *why)
{
	client_answer(c, json_pack("{s:b,s:s}", "ok", 0, "error", why));
}

/* Answers a wait that is over, or whose time has run out. */
static void wait_check(struct client *c, bool timed_out)
{
	struct control *control = c->control;
	version_t version = 0;
	json_t *missing = NULL;

	if (control->handler.waited(control->handler.user, c->wanted, c->slaves, &version, &missing) == 1) {
		wait_end(c);
		client_answer(c, json_pack("{s:b,s:I}", "ok", 1, "version", (json_int_t)version));
	} else if (timed_out) {
		wait_end(c);
		client_answer(c, json_pack("{s:b,s:s,s:o}", "ok", 0, "error", "timed out", "missing",
					   missing ? json_incref(missing) : json_array()));
	}
	json_decref(missing);
}

static void client_read(struct bufferevent *stream, void *user);

static void on_wait_timeout(evutil_socket_t fd, short what, void *user)
{
	struct client *c = user;
	(void)fd, (void)what;
	wait_check(c, true);
	client_read(c->stream, c);
}

static void on_recheck(evutil_socket_t fd, short what, void *user)
{
	struct client *c = user;
	(void)fd, (void)what;
	wait_check(c, false);
	client_read(c->stream, c);
}

/* A timer that is freed with the wait; 0 or -ENOMEM. */
static int wait_timer(struct client *c, json_int_t ms, short flags, event_callback_fn callback, struct event **ret_timer)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	*ret_timer = event_new(c->control->base, -1, flags, callback, c);
	return *ret_timer && event_add(*ret_timer, &tv) == 0 ? 0 : -ENOMEM;
}

static void do_wait(struct client *c, json_t *request)
{
	struct control *control = c->control;
	json_t *version = json_object_get(request, "version");
	json_t *slaves = json_object_get(request, "slaves");
	json_t *timeout = json_object_get(request, "timeout_ms");

	if (slaves && !json_is_array(slaves)) {
		client_refuse(c, "'slaves' must be a list of names");
		return;
	}
	if (json_is_integer(version) && json_integer_value(version) >= 0) {
		c->wanted = (version_t)json_integer_value(version);
	} else if (json_is_string(version) && strcmp(json_string_value(version), "latest") == 0) {
		c->wanted = control->handler.current(control->handler.user);
	} else {
		client_refuse(c, "'version' must be a number or \"latest\"");
		return;
	}
	int error = wait_timer(c, RECHECK_MS, EV_PERSIST, on_recheck, &c->recheck);
	if (error == 0 && json_is_integer(timeout) && json_integer_value(timeout) >= 0)
		error = wait_timer(c, json_integer_value(timeout), 0, on_wait_timeout, &c->timeout);
	if (error < 0) {
		wait_end(c);
		client_refuse(c, "out of memory");
		return;
	}
	c->slaves = slaves ? json_incref(slaves) : NULL;
	c->waiting = true;
	wait_check(c, false);
}

static bool busy(const struct client *c)
{
	return c->waiting || c->request || c->closing;
}

/* A command of the daemon's own. */
static void do_other(struct client *c, const char *command, const json_t *body)
{
	struct control *control = c->control;
	struct control_request *request = control->request_count < REQUESTS_MAX ? calloc(1, sizeof(*request)) : NULL;

	if (!request) {
		client_refuse(c, "too many requests are under way");
		return;
	}
	request->control = control;
	request->client = c;
	request->next = control->requests;
	control->requests = request;
	control->request_count++;
	c->request = request;
	if (control->handler.request && control->handler.request(control->handler.user, request, command, body))
		return;
	request_free(request);
	client_refuse(c, "this daemon does not know that command");
}

static void do_request(struct client *c, const char *line, size_t size)
{
	struct control_handler *handler = &c->control->handler;
	json_error_t error;
	json_t *request = json_loadb(line, size, 0, &error);
	const char *command = request ? json_string_value(json_object_get(request, "command")) : NULL;

	if (!command) {
		client_refuse(c, "not a request: one JSON object a line, with a \"command\"");
	} else if (strcmp(command, "status") == 0) {
		json_t *status = handler->status(handler->user);
		if (status)
			json_object_set_new(status, "ok", json_true());
		client_answer(c, status);
	} else if (strcmp(command, "wait") == 0) {
		do_wait(c, request);
	} else if (strcmp(command, "stop") == 0) {
		c->stopping = true;
		client_answer(c, json_pack("{s:b}", "ok", 1));
	} else {
		do_other(c, command, request);
	}
	json_decref(request);
}

static void client_read(struct bufferevent *stream, void *user)
{
	struct client *c = user;
	struct evbuffer *in = bufferevent_get_input(stream);
	size_t size;
	char *line;

	c->reading = true;
	while (!busy(c) && (line = evbuffer_readln(in, &size, EVBUFFER_EOL_LF))) {
		do_request(c, line, size);
		free(line);
	}
	c->reading = false;
	if (!busy(c) && evbuffer_get_length(in) >= LINE_BYTES_MAX) {
		client_refuse(c, "the request is too long");
		c->closing = true;
		bufferevent_disable(stream, EV_READ);
	}
}

void control_progress(struct control_request *request, json_t *line)
{
	struct client *c = request->client;

	if (line && c && evbuffer_get_length(bufferevent_get_output(c->stream)) < UNREAD_BYTES_MAX) {
		json_object_set_new(line, "progress", json_true());
		client_answer(c, line);
	} else {
		json_decref(line);
	}
}

void control_answer(struct control_request *request, json_t *answer)
{
	struct client *c = request->client;

	request_free(request);
	if (!c) {
		json_decref(answer);
		return;
	}
	client_answer(c, answer);
	if (!c->reading) /* else it goes on by itself */
		client_read(c->stream, c);
}

void control_refuse(struct control_request *request, const char *format, ...)
{
	char why[512];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	control_answer(request, json_pack("{s:b,s:o}", "ok", 0, "error", run_json_text(why)));
}

void control_when_gone(struct control_request *request, void (*gone)(void *user, struct control_request *), void *user)
{
	request->gone = gone;
	request->gone_user = user;
}

static void client_written(struct bufferevent *stream, void *user)
{
	struct client *c = user;
	struct control_handler handler = c->control->handler;
	bool stopping = c->stopping;
	(void)stream;

	c->stopping = false;
	if (c->closing)
		client_free(c);
	if (stopping)
		handler.stop(handler.user);
}

static void client_event(struct bufferevent *stream, short what, void *user)
{
	struct client *c = user;
	struct control_handler handler = c->control->handler;
	bool stopping = c->stopping;
	(void)stream;

	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
		return;
	client_free(c);
	if (stopping)
		handler.stop(handler.user);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size, void *user)
{
	struct control *control = user;
	struct client *c = control->client_count < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
	(void)listener, (void)address, (void)size;

	if (c)
		c->stream = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c || !c->stream) {
		free(c);
		close(fd);
		return;
	}
	c->control = control;
	c->next = control->clients;
	control->clients = c;
	control->client_count++;
	bufferevent_setcb(c->stream, client_read, client_written, client_event, c);
	bufferevent_setwatermark(c->stream, EV_READ, 0, LINE_BYTES_MAX);
	bufferevent_enable(c->stream, EV_READ | EV_WRITE);
}

int control_new(struct event_base *base, const char *state_dir, const struct control_handler *handler, struct control **ret_control)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct control *control = calloc(1, sizeof(*control));

	if (!control)
		return -ENOMEM;
	control->base = base;
	control->handler = *handler;
	int n = snprintf(control->path, sizeof(control->path), "%s/control", state_dir);
	if (n < 0 || (size_t)n >= sizeof(control->path)) {
		free(control);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, control->path, sizeof(address.sun_path));
	unlink(control->path);
	mode_t mask = umask(0177);
	control->listener = evconnlistener_new_bind(base, on_accept, control, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 16,
						    (struct sockaddr *)&address, sizeof(address));
	int error = errno;
	umask(mask);
	if (!control->listener) {
		free(control);
		return error ? -error : -EIO;
	}
	*ret_control = control;
	return 0;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	for (struct control_request *request; (request = control->requests);)
		request_free(request);
	while (control->clients)
		client_free(control->clients);
	evconnlistener_free(control->listener);
	unlink(control->path);
	free(control);
}
