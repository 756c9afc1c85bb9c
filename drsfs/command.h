/*
 * The commands that look at a volume or its daemon: each a small program with its own flags, taken from one table.
 * What runs a daemon is in main.c; how one talks to it is in client.h.
 */
#ifndef DRSFS_COMMAND_H
#define DRSFS_COMMAND_H

#include <jansson.h>
#include <stdio.h>

#include "drsfs/types.h"

/* What the process exits with. */
enum outcome {
	OUTCOME_DONE = 0,
	OUTCOME_FAILED = 1,  /* it could not be done, or something is wrong with what was looked at */
	OUTCOME_USAGE = 2,   /* not understood */
	OUTCOME_TIMEOUT = 3, /* 'wait', 'batch commit': time was up first */
};

/* argv[0] is the command's name. */
enum outcome command_status(int argc, char **argv);
enum outcome command_wait(int argc, char **argv);
enum outcome command_stop(int argc, char **argv);
enum outcome command_forget(int argc, char **argv);
enum outcome command_batch(int argc, char **argv); /* 'batch run' gives the exit code of what it ran, if that is not 0 */
enum outcome command_log(int argc, char **argv);
enum outcome command_verify(int argc, char **argv);

/* The flags that these commands have between them. */
struct command_flags {
	const char *state;
	bool json;
	uint64_t count;      /* 0: all */
	const char *slaves;  /* comma separated; NULL: all */
	time_ms timeout_ms;  /* negative: none */
	const char *require, *message, *name; /* NULL: not given */
};

#define ARGUMENTS_COMMAND (-1) /* a command and its arguments: flags end where it begins */

struct command_usage {
	const char *arguments; /* as in "drsfs NAME [OPTIONS] ARGUMENTS" */
	const char *flags;     /* letters of the flags that it takes */
	int arguments_max;     /* or ARGUMENTS_COMMAND */
	const char *text;      /* what it does, in lines */
};

/* Take the flags; what is left are argv[optind] on. False: *ret_outcome says how to end (--help was shown, or a mistake told). */
bool command_parse(int argc, char **argv, const struct command_usage *, struct command_flags *ret_flags, enum outcome *ret_outcome);

/* "drsfs NAME: …" and a hint at --help, to stderr. */
enum outcome command_misused(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "drsfs NAME: …" to stderr. */
enum outcome command_failed(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Ask the daemon; tells the user what went wrong if there is no answer, or one that is not ok and carries no "missing" (then NULL).
 * The answer is the caller's.
 */
json_t *command_ask(const char *name, const struct command_flags *, json_t *request /* takes */, time_ms timeout_ms);
/* Tell that there is no answer, and why: 'error' of client.h. */
void command_unanswered(const char *name, const char *state, int error);

/* Reading an answer: what is absent or odd reads as empty, so that another version's answers can be shown, too. */
const char *answer_text(const json_t *object, const char *key);
long long answer_number(const json_t *object, const char *key);
bool answer_flag(const json_t *object, const char *key);

/* Somebody else's text, up to 'size' bytes of it: control characters, which a terminal would obey, become '?'. */
void command_print(FILE *, const char *text, size_t size);

#endif
