/* drsfs status, wait, forget, stop: what a running daemon is asked. (And batch: command_batch.c.) */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drsfs/client.h"
#include "drsfs/command.h"
#include "drsfs/command_votes.h"
#include "drsfs/config.h"

#define ANSWER_MS_MAX 10000
#define ABORTED_NEWS_SECONDS 3600

/* "12 ms", "3.4 s", "7 min", "2 h", "5 d" */
static const char *span_text(long long ms, char text[24])
{
	static const struct {
		long long ms_below, ms_each;
		int decimals;
		const char *unit;
	} steps[] = {
		{ 1000, 1, 0, "ms" }, { 10 * 1000, 1000, 1, "s" }, { 120 * 1000, 1000, 0, "s" }, { 7200 * 1000, 60 * 1000, 0, "min" },
		{ 48 * 3600 * 1000LL, 3600 * 1000, 0, "h" }, { INT64_MAX, 24 * 3600 * 1000LL, 0, "d" },
	};
	size_t i = 0;
	while (ms >= steps[i].ms_below && i + 1 < ARRAY_SIZE(steps))
		i++;
	snprintf(text, 24, "%.*f %s", steps[i].decimals, (double)ms / (double)steps[i].ms_each, steps[i].unit);
	return text;
}

static const char *size_text(double bytes, char text[24])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;
	for (; bytes >= 1024 && i + 1 < ARRAY_SIZE(units); i++)
		bytes /= 1024;
	snprintf(text, 24, "%.*f %s", i && bytes < 100, bytes, units[i]);
	return text;
}

static void show_slave_of_master(const json_t *slave)
{
	char lag[24] = "-", seen[24];
	long long behind = answer_number(slave, "behind");
	if (behind > 0)
		span_text(answer_number(slave, "lag_ms"), lag);
	printf("%-20s %10lld %8lld %8s %10s  %s\n", answer_text(slave, "name"), answer_number(slave, "version"), behind, lag,
	       span_text(answer_number(slave, "seen_ms"), seen),
	       !answer_flag(slave, "connected") ? "gone" : answer_flag(slave, "pulling") ? "pulling" : answer_text(slave, "path"));
}

static void show_commit(const json_t *commit)
{
	if (!json_is_object(commit))
		return;
	printf("version %lld is being agreed upon\n", answer_number(commit, "version"));
	votes_roll_up(stdout, json_object_get(commit, "votes"));
}

static void show_aborted(const json_t *aborted)
{
	char ago[24];
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	double seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - json_number_value(json_object_get(aborted, "time"));
	if (!json_is_object(aborted) || seconds > ABORTED_NEWS_SECONDS)
		return;
	printf("version %lld was aborted %s ago: %s\n", answer_number(aborted, "version"), span_text((long long)(seconds < 0 ? 0 : seconds * 1000), ago),
	       answer_text(aborted, "why"));
}

static void show_master(const json_t *status)
{
	const json_t *slaves = json_object_get(status, "slaves"), *slave;
	size_t i;
	printf("master %s of volume %s\n", answer_text(status, "name"), answer_text(status, "did"));
	printf("version %lld, %lld files and directories, digest %s\n", answer_number(status, "version"), answer_number(status, "nodes"), answer_text(status, "digest"));
	printf("mounted on %s; slaves behind version %lld get a complete copy\n", answer_text(status, "mountpoint"), answer_number(status, "horizon"));
	show_commit(json_object_get(status, "commit"));
	show_aborted(json_object_get(status, "aborted"));
	if (json_array_size(slaves) == 0) {
		printf("no slave has been seen since the start\n");
		return;
	}
	printf("\n%-20s %10s %8s %8s %10s  %s\n", "SLAVE", "VERSION", "BEHIND", "LAG", "SEEN", "BY");
	json_array_foreach(slaves, i, slave)
		show_slave_of_master(slave);
}

static void show_pull(const json_t *pull)
{
	char size[24];
	long long total = answer_number(pull, "records_total");
	printf("%s %lld", answer_flag(pull, "complete") ? "complete copy to version" : "pulling version", answer_number(pull, "to"));
	if (total > 0)
		printf(", %lld of %lld records (%.0f %%)", answer_number(pull, "records"), total, 100.0 * (double)answer_number(pull, "records") / (double)total);
	printf(", %s so far, %lld chunks wanted\n", size_text((double)answer_number(pull, "bytes"), size), answer_number(pull, "chunks_wanted"));
}

/* A command of the administrator's that did not go well, with what it said. */
static void show_command(const json_t *command, const char *what)
{
	const char *output = answer_text(command, "output");
	if (!*answer_text(command, "result") || answer_flag(command, "good"))
		return;
	printf("%s version %lld: %s\n", what, answer_number(command, "version"), answer_text(command, "result"));
	for (size_t n; *output; output += n + (output[n] == '\n')) {
		n = strcspn(output, "\n");
		printf("  %.*s\n", (int)n, output);
	}
}

static void show_slave(const json_t *status)
{
	char beat[24];
	const json_t *pull = json_object_get(status, "pull");
	printf("slave %s of volume %s, master %s\n", answer_text(status, "name"), answer_text(status, "did"), answer_text(status, "master"));
	printf("version %lld of %lld, digest %s\n", answer_number(status, "version"), answer_number(status, "known"), answer_text(status, "digest"));
	printf("%s, last heartbeat %s ago by %s\n", answer_text(status, "state"), span_text(answer_number(status, "beat_ms"), beat), answer_text(status, "path"));
	if (json_is_object(pull))
		show_pull(pull);
	if (json_is_integer(json_object_get(status, "prepared")))
		printf("prepared: version %lld\n", answer_number(status, "prepared"));
	if (answer_flag(status, "checking"))
		printf("a check runs\n");
	show_command(json_object_get(status, "check"), "the check refused");
	show_command(json_object_get(status, "after"), "'after' failed for");
	if (*answer_text(status, "trouble"))
		printf("trouble: %s\n", answer_text(status, "trouble"));
}

enum outcome command_status(int argc, char **argv)
{
	static const struct command_usage usage = {
		"", "sj", 0,
		"Tell how the daemon on a state directory is doing: a master, with every slave that it has seen, its version, how far it\n"
		"is behind in versions and time, and when it was last heard of; a slave, with its version, its master and what it is at.",
	};
	struct command_flags flags;
	enum outcome outcome;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	json_t *status = command_ask(argv[0], &flags, json_pack("{s:s}", "command", "status"), ANSWER_MS_MAX);
	if (!status)
		return OUTCOME_FAILED;
	if (flags.json) {
		json_dumpf(status, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (strcmp(answer_text(status, "role"), "master") == 0) {
		show_master(status);
	} else {
		show_slave(status);
	}
	json_decref(status);
	return OUTCOME_DONE;
}

/* The names in "a,b,c"; empty ones are passed over. */
static json_t *names_array(const char *names)
{
	json_t *array = json_array();
	for (size_t n; *names; names += n + (names[n] == ',')) {
		n = strcspn(names, ",");
		if (n)
			json_array_append_new(array, json_stringn(names, n));
	}
	return array;
}

static json_t *wait_request(const char *version, uint64_t number, const struct command_flags *flags)
{
	json_t *request = json_pack("{s:s}", "command", "wait");
	json_object_set_new(request, "version", strcmp(version, "latest") == 0 ? json_string("latest") : json_integer((json_int_t)number));
	if (flags->slaves)
		json_object_set_new(request, "slaves", names_array(flags->slaves));
	if (flags->timeout_ms >= 0)
		json_object_set_new(request, "timeout_ms", json_integer(flags->timeout_ms));
	return request;
}

/*
 * What was written before must be in "latest", and a finished change may wait a moment for company: syncing the master's mount publishes it. If
 * that cannot be done (the mount is another user's, say) it is published a little later by itself.
 */
static void sync_mount(const char *name, const struct command_flags *flags)
{
	json_t *status = command_ask(name, flags, json_pack("{s:s}", "command", "status"), ANSWER_MS_MAX);
	int fd = status && strcmp(answer_text(status, "role"), "master") == 0 ? open(answer_text(status, "mountpoint"), O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	json_decref(status);
}

static enum outcome show_missing(const char *name, const json_t *reply)
{
	const json_t *missing = json_object_get(reply, "missing"), *slave;
	const char *why = answer_text(reply, "error");
	size_t i;
	fprintf(stderr, "drsfs %s: %s", name, *why ? why : "time is up");
	json_array_foreach(missing, i, slave)
		fprintf(stderr, "%s%s", i ? ", " : "; still missing: ", json_is_string(slave) ? json_string_value(slave) : "?");
	fputc('\n', stderr);
	return OUTCOME_TIMEOUT;
}

enum outcome command_wait(int argc, char **argv)
{
	static const struct command_usage usage = {
		"VERSION|latest", "sjSt", 1,
		"Return when the slaves have this version, and it can be read on their mounts; 'latest' is the master's version of now,\n"
		"with everything written before. On a slave's state directory: when that slave has it. Prints the version.\n"
		"Exit code 3: time was up first; the slaves that lack it are named.",
	};
	struct command_flags flags;
	enum outcome outcome;
	uint64_t number = 0;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	const char *version = optind < argc ? argv[optind] : NULL;
	if (!version)
		return command_misused(argv[0], "which version? A number, or 'latest'");
	if (strcmp(version, "latest") != 0 && (config_parse_number(version, &number) < 0 || number > INT64_MAX))
		return command_misused(argv[0], "a version is a number or 'latest', not '%s'", version);
	if (strcmp(version, "latest") == 0)
		sync_mount(argv[0], &flags);
	time_ms patience = flags.timeout_ms < 0 ? CLIENT_FOREVER : flags.timeout_ms + ANSWER_MS_MAX;
	json_t *reply = command_ask(argv[0], &flags, wait_request(version, number, &flags), patience);
	if (!reply)
		return OUTCOME_FAILED;
	outcome = OUTCOME_DONE;
	if (flags.json) {
		json_dumpf(reply, stdout, JSON_COMPACT);
		putchar('\n');
		outcome = answer_flag(reply, "ok") ? OUTCOME_DONE : OUTCOME_TIMEOUT;
	} else if (answer_flag(reply, "ok")) {
		printf("%lld\n", answer_number(reply, "version"));
	} else {
		outcome = show_missing(argv[0], reply);
	}
	json_decref(reply);
	return outcome;
}

enum outcome command_forget(int argc, char **argv)
{
	static const struct command_usage usage = {
		"NAME", "s", 1,
		"Have a master forget a slave that is gone for good: a commit that all have to agree to does not wait for it any more. One that is\n"
		"linked up cannot be forgotten; should it come back, it is a new slave.",
	};
	struct command_flags flags;
	enum outcome outcome;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	if (optind == argc)
		return command_misused(argv[0], "which slave?");
	json_t *request = json_pack("{s:s, s:s}", "command", "forget", "name", argv[optind]);
	if (!request)
		return command_misused(argv[0], "that is no name");
	json_t *reply = command_ask(argv[0], &flags, request, ANSWER_MS_MAX);
	json_decref(reply);
	return reply ? OUTCOME_DONE : OUTCOME_FAILED;
}

enum outcome command_stop(int argc, char **argv)
{
	static const struct command_usage usage = { "", "s", 0, "Ask the daemon on a state directory to unmount and end, as SIGTERM does." };
	struct command_flags flags;
	enum outcome outcome;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	json_t *reply = command_ask(argv[0], &flags, json_pack("{s:s}", "command", "stop"), ANSWER_MS_MAX);
	json_decref(reply);
	return reply ? OUTCOME_DONE : OUTCOME_FAILED;
}
