/*
 * A daemon that only answers: the real control socket over a script of answers, so that the command line can be tried with what is hard to bring about.
 *
 *   fake_daemon STATE ANSWERS
 *
 *   ANSWERS is a file, read anew for each request: one JSON object, {"COMMAND": [LINE, …, ANSWER], …}. The lines before the answer go out as progress. Beside
 *   them may stand {"sleep_ms": N} and {"until": "COMMAND"}: go on when that has been asked meanwhile, by anybody. What is asked is written to STATE/requests, a
 *   line each, and {"gone": COMMAND} when who asked it left before the answer. It prints "ready" when it listens, and ends by SIGTERM.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/control.h"
#include "drsfs/error.h"

#define ASKED_MAX 1000

/* One request under way: a place in its script. */
struct play {
	struct control_request *request;
	json_t *script;
	size_t at, asked_before;
	struct event *timer;
	char command[64];
};

static const char *answers;
static FILE *requests;
static struct event_base *base;
static char asked[ASKED_MAX][64]; /* commands, in their order */
static size_t asked_count;

static void note(const json_t *line)
{
	json_dumpf(line, requests, JSON_COMPACT | JSON_SORT_KEYS);
	putc('\n', requests);
	fflush(requests);
}

static bool was_asked(const char *command, size_t since)
{
	for (size_t i = since; i < asked_count; i++)
		if (strcmp(asked[i], command) == 0)
			return true;
	return false;
}

static void play_on(evutil_socket_t fd, short what, void *user)
{
	struct play *p = user;
	struct timeval pause = { .tv_usec = 10 * 1000 };
	(void)fd, (void)what;
	for (; p->at + 1 < json_array_size(p->script); p->at++) {
		json_t *line = json_array_get(p->script, p->at), *sleep = json_object_get(line, "sleep_ms"), *until = json_object_get(line, "until");
		if (until && !was_asked(json_string_value(until), p->asked_before)) {
			event_add(p->timer, &pause);
			return;
		}
		if (sleep) {
			pause.tv_sec = json_integer_value(sleep) / 1000;
			pause.tv_usec = json_integer_value(sleep) % 1000 * 1000;
			event_add(p->timer, &pause);
			p->at++;
			return;
		}
		if (!until)
			control_progress(p->request, json_deep_copy(line));
	}
	control_answer(p->request, json_deep_copy(json_array_get(p->script, p->at)));
	event_free(p->timer);
	json_decref(p->script);
	free(p);
}

static void on_gone(void *user, struct control_request *request)
{
	struct play *p = user;
	json_t *line = json_pack("{s:s}", "gone", p->command);
	(void)request;
	note(line);
	json_decref(line);
}

static bool on_request(void *user, struct control_request *request, const char *command, const json_t *body)
{
	(void)user;
	json_t *all = json_load_file(answers, 0, NULL), *script = json_object_get(all, command);
	note(body);
	if (asked_count < ASKED_MAX)
		snprintf(asked[asked_count++], sizeof(asked[0]), "%s", command);
	if (json_array_size(script) == 0) {
		json_decref(all);
		return false;
	}
	struct play *p = calloc(1, sizeof(*p));
	p->request = request;
	p->asked_before = asked_count;
	p->script = json_incref(script);
	p->timer = evtimer_new(base, play_on, p);
	snprintf(p->command, sizeof(p->command), "%s", command);
	control_when_gone(request, on_gone, p);
	json_decref(all);
	play_on(-1, 0, p);
	return true;
}

static json_t *status(void *user)
{
	(void)user;
	return json_pack("{s:s}", "role", "fake");
}

static int waited(void *user, version_t wanted, json_t *slaves, version_t *ret_version, json_t **ret_missing)
{
	(void)user, (void)wanted, (void)slaves, (void)ret_version;
	*ret_missing = json_array();
	return 0;
}

static version_t current(void *user)
{
	(void)user;
	return 0;
}

static void stop(void *user)
{
	(void)user;
	event_base_loopbreak(base);
}

static void on_signal(evutil_socket_t fd, short what, void *user)
{
	(void)fd, (void)what;
	stop(user);
}

int main(int argc, char **argv)
{
	struct control_handler handler = { .status = status, .waited = waited, .current = current, .stop = stop, .request = on_request };
	struct control *control;
	char path[4096];
	if (argc != 3)
		return 2;
	answers = argv[2];
	snprintf(path, sizeof(path), "%s/requests", argv[1]);
	requests = fopen(path, "a");
	base = event_base_new();
	signal(SIGPIPE, SIG_IGN);
	int error = requests ? control_new(base, argv[1], &handler, &control) : -1;
	if (error < 0) {
		fprintf(stderr, "fake_daemon: %s: %s\n", argv[1], error_text(error));
		return 1;
	}
	struct event *term = evsignal_new(base, SIGTERM, on_signal, NULL);
	event_add(term, NULL);
	puts("ready");
	fflush(stdout);
	event_base_dispatch(base);
	event_free(term);
	control_free(control);
	event_base_free(base);
	fclose(requests);
	return 0;
}
