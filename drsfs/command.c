/* What the looking commands share: flags, usage texts, mistakes told in one voice. */
#include "drsfs/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "drsfs/client.h"
#include "drsfs/config.h"
#include "drsfs/error.h"

static const struct flag {
	const char *name;
	char letter;
	const char *argument, *help;
} flags[] = {
	{ "state", 's', "DIR", "The daemon's state directory [$DRSFS_STATE, else " CONFIG_STATE_DEFAULT "]" },
	{ "json", 'j', NULL, "Print JSON" },
	{ "count", 'n', "N", "Show the newest N [20]; 0: all" },
	{ "slaves", 'S', "NAME,…", "Wait for these slaves [all that are known]" },
	{ "timeout", 't', "TIME", "Give up after this time: 500ms, 10s, 2min [wait: never; a commit: 10s]" },
	{ "require", 'r', "WHO", "Commit when these have it: all, connected, or so many [all]" },
	{ "message", 'm', "TEXT", "What it is for: shown by 'drsfs log'" },
	{ "name", 'N', "NAME", "A name for it, which can be used in place of its number" },
	{ "help", 'h', NULL, "Show this" },
};

static void print_help(const char *name, const struct command_usage *usage)
{
	printf("Usage: drsfs %s [OPTIONS]%s%s\n\n%s\n\n", name, *usage->arguments ? " " : "", usage->arguments, usage->text);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char left[40];
		if (flags[i].letter != 'h' && !strchr(usage->flags, flags[i].letter))
			continue;
		snprintf(left, sizeof(left), "-%c, --%s %s", flags[i].letter, flags[i].name, flags[i].argument ? flags[i].argument : "");
		printf("  %-24s%s%s\n", left, strstr(left, "…") ? "  " : "", flags[i].help);
	}
}

static bool take_flag(const char *name, int letter, struct command_flags *into, enum outcome *ret_outcome)
{
	uint32_t ms;
	switch (letter) {
	case 's':
		into->state = optarg;
		return true;
	case 'j':
		into->json = true;
		return true;
	case 'S':
		into->slaves = optarg;
		return true;
	case 'r':
		into->require = optarg;
		return true;
	case 'm':
		into->message = optarg;
		return true;
	case 'N':
		into->name = optarg;
		return true;
	case 'n':
		if (config_parse_number(optarg, &into->count) == 0)
			return true;
		*ret_outcome = command_misused(name, "--count must be a number, not '%s'", optarg);
		return false;
	default:
		if (config_parse_duration(optarg, &ms) == 0) {
			into->timeout_ms = ms;
			return true;
		}
		*ret_outcome = command_misused(name, "--timeout must be a time with its unit, like 500ms or 10s, not '%s'", optarg);
		return false;
	}
}

bool command_parse(int argc, char **argv, const struct command_usage *usage, struct command_flags *ret_flags, enum outcome *ret_outcome)
{
	struct option longs[ARRAY_SIZE(flags) + 1] = { 0 }, *next = longs;
	char letters[40], *end = letters + sprintf(letters, "%s:h", usage->arguments_max == ARGUMENTS_COMMAND ? "+" : "");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (flags[i].letter != 'h' && !strchr(usage->flags, flags[i].letter))
			continue;
		*next++ = (struct option){ flags[i].name, flags[i].argument ? required_argument : no_argument, NULL, flags[i].letter };
		end += sprintf(end, "%c%s", flags[i].letter, flags[i].argument ? ":" : "");
	}
	*ret_flags = (struct command_flags){ .state = config_state_default(), .count = 20, .timeout_ms = -1 };
	opterr = 0;
	optind = 0;
	for (int letter; (letter = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
		if (letter == 'h') {
			print_help(argv[0], usage);
			*ret_outcome = OUTCOME_DONE;
			return false;
		}
		if (letter == ':' || letter == '?') {
			*ret_outcome = command_misused(argv[0], letter == ':' ? "'%s' needs a value" : "unknown option '%s'", argv[optind - 1]);
			return false;
		}
		if (!take_flag(argv[0], letter, ret_flags, ret_outcome))
			return false;
	}
	if (usage->arguments_max != ARGUMENTS_COMMAND && argc - optind > usage->arguments_max) {
		*ret_outcome = command_misused(argv[0], "'%s' is too much", argv[optind + usage->arguments_max]);
		return false;
	}
	return true;
}

enum outcome command_misused(const char *name, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "drsfs %s: ", name);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\nTry 'drsfs %s --help'.\n", name);
	va_end(args);
	return OUTCOME_USAGE;
}

enum outcome command_failed(const char *name, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "drsfs %s: ", name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return OUTCOME_FAILED;
}

void command_unanswered(const char *name, const char *state, int error)
{
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ENOTDIR:
		command_failed(name, "no drsfs daemon runs on %s (start it with 'drsfs master' or 'drsfs slave', or name its --state)", state);
		return;
	case -EACCES:
	case -EPERM:
		command_failed(name, "may not talk to the daemon on %s: be its user, or root", state);
		return;
	case -ETIMEDOUT:
		command_failed(name, "the daemon on %s does not answer", state);
		return;
	case -DRS_ELINK:
		command_failed(name, "the daemon on %s ended before it answered", state);
		return;
	default:
		command_failed(name, "no answer from the daemon on %s: %s", state, error_text(error));
	}
}

json_t *command_ask(const char *name, const struct command_flags *given, json_t *request, time_ms timeout_ms)
{
	json_t *reply;
	int r = client_ask(given->state, request, timeout_ms, &reply);
	json_decref(request);
	if (r < 0) {
		command_unanswered(name, given->state, r);
		return NULL;
	}
	if (json_is_true(json_object_get(reply, "ok")) || json_object_get(reply, "missing"))
		return reply;
	const char *why = json_string_value(json_object_get(reply, "error"));
	command_failed(name, "%s", why ? why : "the daemon refused, without saying why");
	json_decref(reply);
	return NULL;
}

const char *answer_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

long long answer_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

bool answer_flag(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

void command_print(FILE *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size && text[i]; i++)
		putc((unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i], out);
}
