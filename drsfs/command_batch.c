/*
 * drsfs batch: many changes as one version that every slave agrees to before any shows it (R4). The daemon does it; here are the command line, a
 * transcript of how a commit goes, and 'run', which ties a batch's life to a command's.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drsfs/client.h"
#include "drsfs/command.h"
#include "drsfs/command_votes.h"
#include "drsfs/config.h"
#include "drsfs/error.h"
#include "store/version.h"

#define ANSWER_MS_MAX 60000 /* of what needs the master alone: a large batch takes its time to be looked through, or dropped */
#define CANCEL_MS_MAX 10000
#define TIMEOUT_MS 10000

/* What a shell says of a command that it cannot run. */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127
#define EXIT_SIGNAL 128 /* and the signal's number */

/* ---- asking */

/* A batch's number, or its name. */
static json_t *id_json(const char *text)
{
	uint64_t number;
	return config_parse_number(text, &number) == 0 && number <= INT64_MAX ? json_integer((json_int_t)number) : json_string(text);
}

static json_t *id_request(const char *command, const char *id)
{
	return json_pack("{s:s, s:o}", "command", command, "id", id_json(id));
}

/* The one argument of most commands. */
static bool parse_id(int argc, char **argv, const struct command_usage *usage, struct command_flags *ret_flags, enum outcome *ret_outcome)
{
	if (!command_parse(argc, argv, usage, ret_flags, ret_outcome))
		return false;
	if (optind < argc && *argv[optind])
		return true;
	*ret_outcome = command_misused(argv[0], "which batch? Its number or its name ('drsfs batch list' shows them)");
	return false;
}

static void print_json(const json_t *reply, size_t flags)
{
	json_dumpf(reply, stdout, flags);
	putchar('\n');
}

/* Ask what needs no telling but whether it went well. */
static enum outcome ask_plainly(int argc, char **argv, const struct command_usage *usage, const char *command)
{
	struct command_flags flags;
	enum outcome outcome;
	if (!parse_id(argc, argv, usage, &flags, &outcome))
		return outcome;
	json_t *reply = command_ask(argv[0], &flags, id_request(command, argv[optind]), ANSWER_MS_MAX);
	json_decref(reply);
	return reply ? OUTCOME_DONE : OUTCOME_FAILED;
}

/* ---- signals, read like a file while there is something to be ended in order */

struct watch {
	sigset_t signals, before;
	int fd;
};

static int watch_begin(struct watch *watch)
{
	signal(SIGCHLD, SIG_DFL); /* an ignored one, inherited, would not be told */
	sigemptyset(&watch->signals);
	sigaddset(&watch->signals, SIGINT);
	sigaddset(&watch->signals, SIGTERM);
	sigaddset(&watch->signals, SIGHUP);
	sigaddset(&watch->signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &watch->signals, &watch->before);
	watch->fd = signalfd(-1, &watch->signals, SFD_CLOEXEC);
	return watch->fd < 0 ? -errno : 0;
}

/* The next signal; waits for it. */
static struct signalfd_siginfo watch_next(const struct watch *watch)
{
	struct signalfd_siginfo info = { 0 };
	while (read(watch->fd, &info, sizeof(info)) < 0 && errno == EINTR)
		;
	return info;
}

static void watch_end(struct watch *watch)
{
	if (watch->fd >= 0)
		close(watch->fd);
	sigprocmask(SIG_SETMASK, &watch->before, NULL);
}

static __attribute__((noreturn)) void die_of(int number)
{
	sigset_t all;
	signal(number, SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	raise(number);
	_exit(EXIT_SIGNAL + number);
}

/* ---- begin */

static bool begin(const char *name, const struct command_flags *flags, json_t **ret_reply, enum outcome *ret_outcome)
{
	uint64_t number;
	if (flags->name && (!*flags->name || config_parse_number(flags->name, &number) == 0)) {
		*ret_outcome = command_misused(name, "a batch's name must not be empty, nor a number");
		return false;
	}
	json_t *request = json_pack("{s:s, s:s*}", "command", "batch-begin", "name", flags->name);
	if (!request) {
		*ret_outcome = command_misused(name, "the name is no valid text");
		return false;
	}
	*ret_reply = command_ask(name, flags, request, ANSWER_MS_MAX);
	*ret_outcome = OUTCOME_FAILED;
	return *ret_reply;
}

static enum outcome batch_begin(int argc, char **argv)
{
	static const struct command_usage usage = {
		"", "sjN", 0,
		"Begin a batch: a view of the whole tree, as it is now, in which anything can be changed without anybody seeing it, until it is\n"
		"committed, or aborted. Prints the view's path. Batches survive a restart of the master.",
	};
	struct command_flags flags;
	enum outcome outcome;
	json_t *reply;
	if (!command_parse(argc, argv, &usage, &flags, &outcome) || !begin(argv[0], &flags, &reply, &outcome))
		return outcome;
	if (flags.json)
		print_json(reply, JSON_COMPACT);
	else
		puts(answer_text(reply, "path"));
	json_decref(reply);
	return OUTCOME_DONE;
}

/* ---- commit */

struct commit {
	const char *name; /* the command's */
	const struct command_flags *flags;
	json_t *id;
	FILE *out;        /* for people */
	const struct watch *watch;
	struct votes_painter painter;
	bool cancelled;
};

/* 0, or -DRS_ECONFIG with the mistake told. */
static int commit_request(struct commit *c, json_t **ret_request)
{
	const struct command_flags *flags = c->flags;
	const char *require = flags->require ? flags->require : "all";
	uint64_t count = 0;
	bool named = strcmp(require, "all") == 0 || strcmp(require, "connected") == 0;
	if (!named && (config_parse_number(require, &count) < 0 || count == 0 || count > INT32_MAX)) {
		command_misused(c->name, "--require must be all, connected, or how many slaves, not '%s'", require);
		return -DRS_ECONFIG;
	}
	if (flags->timeout_ms == 0) {
		command_misused(c->name, "--timeout must be more than nothing");
		return -DRS_ECONFIG;
	}
	if (flags->message && strlen(flags->message) > VERSION_MESSAGE_BYTES_MAX) {
		command_misused(c->name, "--message must not be longer than %d bytes", VERSION_MESSAGE_BYTES_MAX);
		return -DRS_ECONFIG;
	}
	*ret_request = json_pack("{s:s, s:O, s:I, s:o, s:s*}", "command", "batch-commit", "id", c->id, "timeout_ms",
				 (json_int_t)(flags->timeout_ms < 0 ? TIMEOUT_MS : flags->timeout_ms), "require",
				 named ? json_string(require) : json_integer((json_int_t)count), "message", flags->message);
	if (*ret_request)
		return 0;
	command_misused(c->name, "the message is no valid text");
	return -DRS_ECONFIG;
}

static void commit_progress(void *user, const json_t *line)
{
	struct commit *c = user;
	if (!c->flags->json)
		votes_paint(&c->painter, json_object_get(line, "votes"));
}

/* Cancel and go on listening: whether it came too late is the daemon's to say. Who cannot wait for that interrupts again. */
static void commit_woken(void *user)
{
	struct commit *c = user;
	int number = (int)watch_next(c->watch).ssi_signo;
	json_t *reply = NULL;
	if (number == SIGCHLD)
		return;
	if (c->cancelled)
		die_of(number);
	c->cancelled = true;
	json_t *request = json_pack("{s:s, s:O}", "command", "batch-cancel", "id", c->id);
	if (client_ask(c->flags->state, request, CANCEL_MS_MAX, &reply) < 0)
		die_of(number);
	json_decref(request);
	json_decref(reply);
}

static void print_conflicts(const json_t *reply)
{
	const json_t *conflicts = json_object_get(reply, "conflicts"), *path;
	size_t i;
	json_array_foreach(conflicts, i, path) {
		fputs("  ", stderr);
		command_print(stderr, json_is_string(path) ? json_string_value(path) : "?", SIZE_MAX);
		putc('\n', stderr);
	}
	if (answer_number(reply, "more") > 0)
		fprintf(stderr, "  and %lld more\n", answer_number(reply, "more"));
}

static enum outcome commit_outcome(const json_t *reply)
{
	if (answer_flag(reply, "ok"))
		return OUTCOME_DONE;
	return strcmp(answer_text(reply, "reason"), "timeout") == 0 ? OUTCOME_TIMEOUT : OUTCOME_FAILED;
}

static void commit_show(struct commit *c, const json_t *reply)
{
	const json_t *votes = json_object_get(reply, "votes");
	const char *why = answer_text(reply, "error");
	votes_paint(&c->painter, votes);
	if (answer_flag(reply, "unchanged")) {
		fprintf(c->out, "nothing was changed: the version still is %lld\n", answer_number(reply, "version"));
	} else if (answer_flag(reply, "ok")) {
		fprintf(c->out, "committed version %lld in %lld ms\n", answer_number(reply, "version"), answer_number(reply, "ms"));
	} else {
		command_failed(c->name, "not committed: %s", *why ? why : "the daemon does not say why");
		print_conflicts(reply);
		votes_roll_up(stderr, votes);
	}
}

/* Ask, show how it goes and what came of it. */
static enum outcome commit_run(struct commit *c)
{
	struct client_listener listener = { .user = c, .progress = commit_progress, .wake_fd = c->watch->fd, .woken = commit_woken };
	json_t *request, *reply;
	c->painter.out = c->out;
	if (commit_request(c, &request) < 0)
		return OUTCOME_USAGE;
	int r = client_converse(c->flags->state, request, CLIENT_FOREVER, &listener, &reply);
	json_decref(request);
	if (r < 0) {
		command_unanswered(c->name, c->flags->state, r);
		if (r == -DRS_ELINK)
			command_failed(c->name, "whether it was committed, 'drsfs batch list' and 'drsfs log' tell when the daemon is back");
		return OUTCOME_FAILED;
	}
	if (c->flags->json)
		print_json(reply, JSON_COMPACT);
	else
		commit_show(c, reply);
	enum outcome outcome = commit_outcome(reply);
	json_decref(reply);
	return outcome;
}

static enum outcome batch_commit(int argc, char **argv)
{
	static const struct command_usage usage = {
		"ID", "sjtrm", 1,
		"Make a batch the tree's next version, on every slave or on none: each gets it, checks it and agrees before any shows it.\n"
		"Changes to the live tree meanwhile are no obstacle, but for what the batch has changed too. What is not committed stays\n"
		"open: it can be mended and committed again. Ctrl-C cancels. Exit code 3: time was up; 1: refused; who did not agree is told.",
	};
	struct command_flags flags;
	struct watch watch;
	enum outcome outcome;
	if (!parse_id(argc, argv, &usage, &flags, &outcome))
		return outcome;
	int r = watch_begin(&watch);
	if (r < 0)
		return command_failed(argv[0], "%s", error_text(r));
	struct commit c = { .name = argv[0], .flags = &flags, .id = id_json(argv[optind]), .out = stdout, .watch = &watch };
	outcome = c.id ? commit_run(&c) : command_misused(argv[0], "that is no valid name");
	json_decref(c.id);
	watch_end(&watch);
	return outcome;
}

/* ---- abort, cancel */

static enum outcome batch_abort(int argc, char **argv)
{
	static const struct command_usage usage = { "ID", "s", 1, "Drop a batch, with all that was changed in it." };
	return ask_plainly(argc, argv, &usage, "batch-abort");
}

static enum outcome batch_cancel(int argc, char **argv)
{
	static const struct command_usage usage = {
		"ID", "s", 1,
		"Cancel a commit that is going on. The batch stays open. Fails if there is none, or if it is decided already.",
	};
	return ask_plainly(argc, argv, &usage, "batch-cancel");
}

/* ---- list, diff */

static void show_batch(const json_t *batch)
{
	printf("%6lld  ", answer_number(batch, "id"));
	const char *columns[] = { "name", "state", "begun" };
	const int widths[] = { 16, 10, 20 };
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		const char *text = answer_text(batch, columns[i]);
		command_print(stdout, *text ? text : "-", SIZE_MAX);
		printf("%*s  ", widths[i] > (int)strlen(text) ? widths[i] - (*text ? (int)strlen(text) : 1) : 0, "");
	}
	printf("%8lld %8lld  %s\n", answer_number(batch, "base"), answer_number(batch, "changes"), answer_text(batch, "path"));
}

static enum outcome batch_list(int argc, char **argv)
{
	static const struct command_usage usage = {
		"", "sj", 0,
		"List the batches that are open: number, name, state, when it was begun, the version that it stands on, how much it has changed, and\n"
		"the path of its view.",
	};
	struct command_flags flags;
	enum outcome outcome;
	size_t i;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	json_t *reply = command_ask(argv[0], &flags, json_pack("{s:s}", "command", "batch-list"), ANSWER_MS_MAX), *batch;
	if (!reply)
		return OUTCOME_FAILED;
	if (flags.json) {
		print_json(reply, JSON_INDENT(2));
	} else if (json_array_size(json_object_get(reply, "batches")) > 0) {
		printf("%6s  %-16s  %-10s  %-20s  %8s %8s  %s\n", "ID", "NAME", "STATE", "BEGUN", "BASE", "CHANGES", "PATH");
		json_array_foreach(json_object_get(reply, "batches"), i, batch)
			show_batch(batch);
	}
	json_decref(reply);
	return OUTCOME_DONE;
}

static char change_letter(const json_t *change)
{
	const char *word = answer_text(change, "change");
	if (strcmp(word, "added") == 0)
		return 'A';
	if (strcmp(word, "removed") == 0)
		return 'D';
	return strcmp(word, "modified") == 0 ? 'M' : '?';
}

static enum outcome batch_diff(int argc, char **argv)
{
	static const struct command_usage usage = {
		"ID", "sj", 1,
		"Tell what a batch has changed, a path a line, after A (added), M (modified) or D (removed).",
	};
	struct command_flags flags;
	enum outcome outcome;
	size_t i;
	if (!parse_id(argc, argv, &usage, &flags, &outcome))
		return outcome;
	json_t *reply = command_ask(argv[0], &flags, id_request("batch-diff", argv[optind]), ANSWER_MS_MAX), *change;
	if (!reply)
		return OUTCOME_FAILED;
	if (flags.json) {
		print_json(reply, JSON_INDENT(2));
	} else {
		json_array_foreach(json_object_get(reply, "changes"), i, change) {
			printf("%c  ", change_letter(change));
			command_print(stdout, answer_text(change, "path"), SIZE_MAX);
			putchar('\n');
		}
		if (answer_number(reply, "more") > 0)
			printf("and %lld more\n", answer_number(reply, "more"));
	}
	json_decref(reply);
	return OUTCOME_DONE;
}

/* ---- run */

static void set_environment(const struct command_flags *flags, const json_t *batch)
{
	char number[24], *state = realpath(flags->state, NULL);
	snprintf(number, sizeof(number), "%lld", answer_number(batch, "id"));
	setenv("DRSFS_BATCH", number, 1);
	setenv("DRSFS_TREE", answer_text(batch, "path"), 1);
	if (state)
		setenv("DRSFS_STATE", state, 1);
	free(state);
}

/* In the child; only returns an exit code if the command cannot be run. */
static int become(const char *name, char **command, int view, const struct watch *watch)
{
	if (fchdir(view) < 0) {
		command_failed(name, "cannot work in the batch's view: %s", error_text(-errno));
		return EXIT_NOT_EXECUTABLE;
	}
	sigprocmask(SIG_SETMASK, &watch->before, NULL);
	execvp(command[0], command);
	int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
	command_failed(name, "cannot run '%s': %s", command[0], error_text(-errno));
	return code;
}

/*
 * Until the command has ended; its exit code. What the terminal sends (Ctrl-C) reaches the command by itself, what another process sends to us is
 * passed on. After either nothing is committed, whatever the command makes of it: the code then is not 0.
 */
static int await_command(pid_t pid, const struct watch *watch)
{
	int status, ended_by = 0;
	for (;;) {
		struct signalfd_siginfo info = watch_next(watch);
		if (info.ssi_signo != SIGCHLD) {
			ended_by = (int)info.ssi_signo;
			if (info.ssi_code != SI_KERNEL)
				kill(pid, ended_by);
		}
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
	}
	int code = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
	return code == 0 && ended_by ? EXIT_SIGNAL + ended_by : code;
}

/* The command's exit code. 'view': a descriptor of the view's root. */
static int run_command(const char *name, char **command, int view, const struct watch *watch)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(become(name, command, view, watch));
	if (pid < 0) {
		command_failed(name, "%s", error_text(-errno));
		return OUTCOME_FAILED;
	}
	return await_command(pid, watch);
}

/* Run and commit; not OUTCOME_DONE: not committed. */
static int run_and_commit(struct commit *c, char **command, const char *path)
{
	int view = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (view < 0)
		return command_failed(c->name, "cannot open the batch's view %s: %s", path, error_text(-errno));
	int code = run_command(c->name, command, view, c->watch);
	syncfs(view); /* what was written through a mapping may still be the kernel's alone */
	close(view);
	if (code != 0) {
		command_failed(c->name, "exit code %d of '%s': nothing is committed", code, command[0]);
		return code;
	}
	return commit_run(c) == OUTCOME_DONE ? OUTCOME_DONE : OUTCOME_FAILED;
}

static void abort_quietly(const struct commit *c)
{
	json_t *reply = command_ask(c->name, c->flags, json_pack("{s:s, s:O}", "command", "batch-abort", "id", c->id), ANSWER_MS_MAX);
	json_decref(reply);
}

static enum outcome batch_run(int argc, char **argv)
{
	static const struct command_usage usage = {
		"[--] COMMAND…", "sjtrmN", ARGUMENTS_COMMAND,
		"Begin a batch, run a command inside its view (also in the environment: DRSFS_TREE, its path, and DRSFS_BATCH, its number), commit\n"
		"if the command's exit code is 0, else abort and give its exit code (128 and the signal's number, if one ended it). What is\n"
		"not committed is aborted: exit code 1. What it has to say goes to stderr: stdout is the command's, but for --json.",
	};
	struct command_flags flags;
	struct watch watch;
	enum outcome outcome;
	json_t *batch, *checked;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	if (optind == argc)
		return command_misused(argv[0], "which command?");
	struct commit c = { .name = argv[0], .flags = &flags, .out = stderr, .watch = &watch, .id = json_integer(0) };
	int r = commit_request(&c, &checked); /* a mistake is told before anything runs */
	json_decref(c.id);
	if (r < 0)
		return OUTCOME_USAGE;
	json_decref(checked);
	r = watch_begin(&watch);
	if (r < 0)
		return command_failed(argv[0], "%s", error_text(r));
	if (begin(argv[0], &flags, &batch, &outcome)) {
		set_environment(&flags, batch);
		c.id = json_integer(answer_number(batch, "id"));
		outcome = (enum outcome)run_and_commit(&c, argv + optind, answer_text(batch, "path"));
		if (outcome != OUTCOME_DONE)
			abort_quietly(&c);
		json_decref(c.id);
		json_decref(batch);
	}
	watch_end(&watch);
	return outcome;
}

/* ---- which */

static const struct {
	const char *verb;
	char *name; /* what it calls itself */
	enum outcome (*run)(int argc, char **argv);
	const char *help;
} verbs[] = {
	{ "begin", (char[]){ "batch begin" }, batch_begin, "Begin one, and print the path of its view" },
	{ "commit", (char[]){ "batch commit" }, batch_commit, "Make it the next version, on all slaves or on none" },
	{ "abort", (char[]){ "batch abort" }, batch_abort, "Drop it" },
	{ "cancel", (char[]){ "batch cancel" }, batch_cancel, "Cancel its commit" },
	{ "list", (char[]){ "batch list" }, batch_list, "List those that are open" },
	{ "diff", (char[]){ "batch diff" }, batch_diff, "Tell what it has changed" },
	{ "run", (char[]){ "batch run" }, batch_run, "Begin one, run a command in it, commit" },
};

static void print_verbs(FILE *out)
{
	fprintf(out, "Usage: drsfs batch COMMAND [OPTIONS] …\n\n"
		     "Change many things as one version, which is checked and agreed to by every slave before any of them shows it.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(out, "  %-10s%s\n", verbs[i].verb, verbs[i].help);
	fprintf(out, "\n'drsfs batch COMMAND --help' tells more.\n");
}

enum outcome command_batch(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verb, verbs[i].verb) == 0) {
			argv[1] = verbs[i].name;
			return verbs[i].run(argc - 1, argv + 1);
		}
	}
	if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0) {
		print_verbs(stdout);
		return OUTCOME_DONE;
	}
	return *verb ? command_misused(argv[0], "there is no '%s'", verb) : command_misused(argv[0], "which command?");
}
