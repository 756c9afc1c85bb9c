/*
 * The control socket with both its ends: a daemon of this test's own that answers at once, later, in parts or not at all, and clients that are patient, leave
 * in the middle, do not read, or send rubbish (R9: the command line plugs in beside the layers; F8: bad input gets a clear error and harms nobody).
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "drsfs/client.h"
#include "drsfs/control.h"
#include "drsfs/error.h"

#define PATIENCE_MS 10000

static char dir[] = "/tmp/drsfs-control-XXXXXX";
static struct event_base *base;
static struct control *control;
static pthread_t thread;
static atomic_int gone_count, held_count, stopped;
static struct control_request *held; /* the last "hold": answered by "release" */

static json_t *status(void *user)
{
	(void)user;
	return json_pack("{s:s}", "role", "test");
}

static int waited(void *user, version_t wanted, json_t *slaves, version_t *ret_version, json_t **ret_missing)
{
	(void)user, (void)slaves;
	*ret_version = 7;
	*ret_missing = json_pack("[s]", "web1");
	return wanted <= 7;
}

static version_t current(void *user)
{
	(void)user;
	return 7;
}

static void stop(void *user)
{
	(void)user;
	stopped++;
}

/* "slow": so many parts, one a millisecond. */
struct slow {
	struct control_request *request;
	struct event *timer;
	json_int_t parts, part;
};

static void slow_tick(evutil_socket_t fd, short what, void *user)
{
	struct slow *s = user;
	struct timeval soon = { .tv_usec = 1000 };
	(void)fd, (void)what;
	if (s->part < s->parts) {
		control_progress(s->request, json_pack("{s:I}", "part", ++s->part));
		event_add(s->timer, &soon);
		return;
	}
	control_answer(s->request, json_pack("{s:b, s:I}", "ok", 1, "parts", s->parts));
	event_free(s->timer);
	free(s);
}

static void slow_begin(struct control_request *request, const json_t *body)
{
	struct slow *s = calloc(1, sizeof(*s));
	s->request = request;
	s->parts = json_integer_value(json_object_get(body, "parts"));
	s->timer = evtimer_new(base, slow_tick, s);
	slow_tick(-1, 0, s);
}

static void on_gone(void *user, struct control_request *request)
{
	(void)user;
	gone_count++;
	if (request == held)
		held = NULL;
	control_progress(request, json_pack("{s:s}", "to", "nobody"));
	control_answer(request, json_pack("{s:b}", "ok", 1)); /* dropped */
}

static bool on_request(void *user, struct control_request *request, const char *command, const json_t *body)
{
	(void)user;
	if (strcmp(command, "echo") == 0) {
		control_answer(request, json_pack("{s:b, s:O}", "ok", 1, "body", body));
	} else if (strcmp(command, "slow") == 0) {
		slow_begin(request, body);
	} else if (strcmp(command, "hold") == 0) {
		held = request;
		control_when_gone(request, on_gone, NULL);
		held_count++;
	} else if (strcmp(command, "forget-me") == 0) { /* under way for ever, and nobody is told */
		held_count++;
	} else if (strcmp(command, "release") == 0) {
		if (held)
			control_answer(held, json_pack("{s:b, s:s}", "ok", 1, "by", "release"));
		held = NULL;
		control_answer(request, json_pack("{s:b}", "ok", 1));
	} else if (strcmp(command, "refuse") == 0) {
		control_refuse(request, "no batch '%s'", json_string_value(json_object_get(body, "id")));
	} else if (strcmp(command, "odd") == 0) {
		control_refuse(request, "not text: \xff");
	} else if (strcmp(command, "flood") == 0) { /* far more than a client that does not read may have waiting */
		for (int i = 0; i < 20000; i++)
			control_progress(request, json_pack("{s:i, s:s}", "part", i, "filler", "0123456789012345678901234567890123456789012345678901234567890123"));
		control_answer(request, json_pack("{s:b}", "ok", 1));
	} else if (strcmp(command, "memory") == 0) {
		control_progress(request, NULL);
		control_answer(request, NULL);
	} else {
		return false;
	}
	return true;
}

static void *run(void *user)
{
	(void)user;
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

static void begin(void)
{
	struct control_handler handler = { .status = status, .waited = waited, .current = current, .stop = stop, .request = on_request };
	signal(SIGPIPE, SIG_IGN);
	cr_assert(mkdtemp(dir) != NULL);
	evthread_use_pthreads();
	base = event_base_new();
	cr_assert(zero(int, control_new(base, dir, &handler, &control)));
	cr_assert(zero(int, pthread_create(&thread, NULL, run, NULL)));
}

static void end(void)
{
	char path[64];
	event_base_loopexit(base, NULL); /* a break before the loop has begun would be lost */
	pthread_join(thread, NULL);
	control_free(control);
	event_base_free(base);
	snprintf(path, sizeof(path), "%s/control", dir);
	cr_assert(eq(int, access(path, F_OK), -1));
	cr_assert(zero(int, rmdir(dir)));
}

TestSuite(control, .init = begin, .fini = end, .timeout = 60);

static json_t *ask(json_t *request)
{
	json_t *reply = NULL;
	cr_assert(zero(int, client_ask(dir, request, PATIENCE_MS, &reply)));
	json_decref(request);
	return reply;
}

static void expect(json_t *reply, const char *key, const char *value)
{
	const char *text = json_string_value(json_object_get(reply, key));
	cr_assert(text != NULL, "no '%s'", key);
	cr_expect(eq(str, (char *)text, (char *)value));
	json_decref(reply);
}

static bool await(atomic_int *count, int wanted)
{
	for (int i = 0; i < PATIENCE_MS && *count < wanted; i++)
		usleep(1000);
	return *count >= wanted;
}

/* --- the client's side by hand */

static int dial(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s/control", dir);
	cr_assert(zero(int, connect(fd, (struct sockaddr *)&to, sizeof(to))));
	return fd;
}

static void say(int fd, const char *text)
{
	size_t size = strlen(text);
	cr_assert(eq(long, send(fd, text, size, MSG_NOSIGNAL), (long)size));
}

/* Reads so many lines; gives the last, without its end. */
static char *hear(int fd, int lines)
{
	static char line[70000];
	size_t n = 0;
	while (lines > 0) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		cr_assert(eq(int, poll(&wait, 1, PATIENCE_MS), 1));
		cr_assert(eq(long, recv(fd, line + n, 1, 0), 1));
		if (line[n] == '\n' && --lines > 0)
			n = 0;
		else if (line[n] != '\n')
			n++;
		cr_assert(n < sizeof(line));
	}
	line[n] = 0;
	return line;
}

Test(control, what_is_known_here_is_answered_here)
{
	expect(ask(json_pack("{s:s}", "command", "status")), "role", "test");
	json_t *reply = ask(json_pack("{s:s, s:s}", "command", "wait", "version", "latest"));
	cr_expect(eq(int, (int)json_integer_value(json_object_get(reply, "version")), 7));
	json_decref(reply);
}

Test(control, another_command_goes_to_the_daemon_with_all_that_came_with_it)
{
	json_t *reply = ask(json_pack("{s:s, s:[i, i]}", "command", "echo", "list", 1, 2));
	cr_expect(eq(sz, json_array_size(json_object_get(json_object_get(reply, "body"), "list")), 2));
	json_decref(reply);
	expect(ask(json_pack("{s:s}", "command", "nonsense")), "error", "this daemon does not know that command");
	expect(ask(json_pack("{s:s, s:s}", "command", "refuse", "id", "x")), "error", "no batch 'x'");
	expect(ask(json_pack("{s:s}", "command", "memory")), "error", "out of memory");
	expect(ask(json_pack("{s:s}", "command", "odd")), "error", "not text: ?");
}

struct heard {
	int lines, woken, wake_fd;
	json_int_t last;
	bool in_order;
};

static void on_progress(void *user, const json_t *line)
{
	struct heard *h = user;
	json_int_t part = json_integer_value(json_object_get(line, "part"));
	h->in_order = h->in_order && part > h->last;
	h->last = part;
	h->lines++;
}

Test(control, an_answer_may_come_later_and_in_parts)
{
	struct heard h = { .in_order = true };
	struct client_listener listener = { .user = &h, .progress = on_progress, .wake_fd = -1 };
	json_t *request = json_pack("{s:s, s:i}", "command", "slow", "parts", 50), *reply;
	cr_assert(zero(int, client_converse(dir, request, PATIENCE_MS, &listener, &reply)));
	cr_expect(eq(int, h.lines, 50));
	cr_expect(h.in_order);
	cr_expect(eq(int, (int)json_integer_value(json_object_get(reply, "parts")), 50));
	json_decref(reply);
	/* Who does not want to hear the parts gets the answer. */
	cr_assert(zero(int, client_ask(dir, request, PATIENCE_MS, &reply)));
	cr_expect(eq(int, (int)json_integer_value(json_object_get(reply, "parts")), 50));
	json_decref(reply);
	json_decref(request);
}

static void on_woken(void *user)
{
	struct heard *h = user;
	eventfd_t value;
	eventfd_read(h->wake_fd, &value);
	h->woken++;
	json_decref(ask(json_pack("{s:s}", "command", "release"))); /* over another connection, in the middle of the first */
}

Test(control, who_waits_can_be_woken_and_asks_something_else_meanwhile)
{
	struct heard h = { .wake_fd = eventfd(1, 0) };
	struct client_listener listener = { .user = &h, .wake_fd = h.wake_fd, .woken = on_woken };
	json_t *request = json_pack("{s:s}", "command", "hold"), *reply;
	cr_assert(zero(int, client_converse(dir, request, PATIENCE_MS, &listener, &reply)));
	expect(reply, "by", "release");
	cr_expect(eq(int, h.woken, 1));
	cr_expect(zero(int, gone_count));
	json_decref(request);
	close(h.wake_fd);
}

Test(control, time_is_up_and_the_daemon_learns_that_the_asker_left)
{
	json_t *request = json_pack("{s:s}", "command", "hold"), *reply;
	cr_assert(eq(int, client_ask(dir, request, 100, &reply), -ETIMEDOUT));
	cr_assert(await(&gone_count, 1));
	json_decref(request);
	expect(ask(json_pack("{s:s}", "command", "status")), "role", "test");
}

Test(control, no_daemon_and_no_directory_are_told_apart_from_silence)
{
	json_t *request = json_pack("{s:s}", "command", "status"), *reply;
	cr_expect(eq(int, client_ask("/nonexistent", request, 100, &reply), -ENOENT));
	json_decref(request);
}

Test(control, lines_are_answered_in_order_also_when_one_takes_long)
{
	int fd = dial();
	say(fd, "{\"command\":\"slow\",\"parts\":3}\n{\"command\":\"refuse\",\"id\":\"2\"}\n{\"command\":\"slow\",\"parts\":0}\n{\"command\":\"status\"}\n");
	cr_expect(eq(str, hear(fd, 1), "{\"part\":1,\"progress\":true}"));
	cr_expect(eq(str, hear(fd, 3), "{\"ok\":true,\"parts\":3}"));
	cr_expect(eq(str, hear(fd, 1), "{\"ok\":false,\"error\":\"no batch '2'\"}"));
	cr_expect(eq(str, hear(fd, 1), "{\"ok\":true,\"parts\":0}"));
	cr_expect(eq(str, hear(fd, 1), "{\"role\":\"test\",\"ok\":true}"));
	close(fd);
}

Test(control, many_answers_at_once_do_not_pile_up_on_the_stack)
{
	static char lines[60000];
	int fd = dial(), count = 0;
	for (size_t n = 0; n + 64 < sizeof(lines); count++)
		n += (size_t)sprintf(lines + n, "{\"command\":\"refuse\",\"id\":\"%d\"}\n", count);
	say(fd, lines);
	char last[64];
	snprintf(last, sizeof(last), "{\"ok\":false,\"error\":\"no batch '%d'\"}", count - 1);
	cr_expect(eq(str, hear(fd, count), last));
	close(fd);
}

Test(control, many_clients_each_with_something_under_way)
{
	enum { CLIENTS = 40 };
	int fds[CLIENTS];
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = dial();
		say(fds[i], i % 2 ? "{\"command\":\"slow\",\"parts\":20}\n" : "{\"command\":\"hold\"}\n");
	}
	for (int i = 1; i < CLIENTS; i += 2)
		cr_expect(eq(str, hear(fds[i], 21), "{\"ok\":true,\"parts\":20}"));
	cr_assert(await(&held_count, CLIENTS / 2));
	for (int i = 0; i < CLIENTS; i++)
		close(fds[i]);
	cr_expect(await(&gone_count, CLIENTS / 2));
}

Test(control, who_does_not_read_gets_the_newest_that_has_room_and_the_answer)
{
	int fd = dial();
	say(fd, "{\"command\":\"flood\"}\n");
	usleep(100 * 1000);
	int lines = 1;
	while (strcmp(hear(fd, 1), "{\"ok\":true}") != 0)
		lines++;
	cr_expect(lines > 100 && lines < 20000, "%d lines", lines);
	close(fd);
}

Test(control, requests_of_clients_that_left_are_bounded)
{
	int taken = 0, fd;
	for (;;) {
		fd = dial();
		say(fd, "{\"command\":\"forget-me\"}\n{\"command\":\"status\"}\n");
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		while (held_count <= taken && poll(&wait, 1, 1) == 0)
			;
		if (held_count <= taken)
			break;
		taken++;
		cr_assert(taken < 1000);
		close(fd);
	}
	cr_expect(eq(str, hear(fd, 1), "{\"ok\":false,\"error\":\"too many requests are under way\"}"));
	cr_expect(eq(str, hear(fd, 1), "{\"role\":\"test\",\"ok\":true}"));
	close(fd);
}

Test(control, rubbish_is_refused_in_words)
{
	int fd = dial();
	say(fd, "rubbish\n[]\n{\"command\":5}\n\n");
	for (int i = 0; i < 4; i++)
		cr_expect(eq(str, hear(fd, 1), "{\"ok\":false,\"error\":\"not a request: one JSON object a line, with a \\\"command\\\"\"}"));
	for (int i = 0; i < 70; i++) {
		char part[1001] = { 0 };
		memset(part, 'x', sizeof(part) - 1);
		if (send(fd, part, sizeof(part) - 1, MSG_NOSIGNAL) < 0)
			break;
	}
	cr_expect(eq(str, hear(fd, 1), "{\"ok\":false,\"error\":\"the request is too long\"}"));
	char more;
	cr_expect(le(long, recv(fd, &more, 1, 0), 0));
	close(fd);
}

Test(control, stopping_with_requests_under_way_frees_them)
{
	int fd = dial(), other = dial();
	say(fd, "{\"command\":\"hold\"}\n");
	say(other, "{\"command\":\"forget-me\"}\n");
	cr_assert(await(&held_count, 2));
	close(other); /* 'end' frees the control socket with both, one without its asker */
}
