/* drsfs log, verify: what the store itself tells. It is opened for reading beside a daemon that may or may not run. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drsfs/command.h"
#include "drsfs/error.h"
#include "drsfs/run.h"
#include "store/version.h"

/* A store does not need to be told apart for reading: whichever role it has is right. */
static int open_any(const char *dir, struct store **ret_store)
{
	struct store_options options = { .dir = dir, .role = STORE_MASTER, .read_only = true };
	int r = store_open(&options, ret_store);
	if (r == -DRS_EROLE) {
		options.role = STORE_SLAVE;
		r = store_open(&options, ret_store);
	}
	return r;
}

static struct store *open_for(const char *name, const struct command_flags *flags)
{
	struct store *store;
	int r = open_any(flags->state, &store);
	if (r == 0)
		return store;
	if (r == -DRS_ENOSTORE || r == -ENOENT)
		command_failed(name, "there is no store in %s (name the daemon's state directory with --state)", flags->state);
	else
		command_failed(name, "cannot open the store in %s: %s", flags->state, error_text(r));
	return NULL;
}

/* How many files and directories a version changed: the node records that it wrote. */
static int count_nodes(struct txn *txn, version_t version, uint64_t *ret_nodes)
{
	struct record_key key = { 0 };
	int r;
	*ret_nodes = 0;
	while ((r = version_change_next(txn, version, &key)) == 1)
		*ret_nodes += record_key_kind(&key) == RECORD_NODE;
	return r;
}

static const char *time_text(int64_t at_ns, char text[40])
{
	time_t seconds = (time_t)(at_ns / 1000000000);
	struct tm local;
	size_t n = 0;
	if (localtime_r(&seconds, &local))
		n = strftime(text, 40, "%Y-%m-%d %H:%M:%S", &local);
	snprintf(text + n, 40 - n, ".%03d", (int)(at_ns / 1000000 % 1000));
	return text;
}

static const char *const state_names[] = {
	[VERSION_PROPOSED] = "proposed",
	[VERSION_PREPARED] = "prepared",
	[VERSION_COMMITTED] = "committed",
	[VERSION_ABORTED] = "aborted",
};

static const char *state_name(enum version_state state)
{
	return state < ARRAY_SIZE(state_names) && state_names[state] ? state_names[state] : "unknown";
}

/* What was not committed has no size: a word says what became of it, and the message why. */
static void show_version_line(const struct version_info *info, uint64_t changed, const char *when)
{
	if (info->state == VERSION_COMMITTED)
		printf("%10" PRIu64 "  %s %12" PRIu64 " %8" PRIu64 " %10" PRIu64, info->version, when, info->bytes, changed, info->nodes);
	else
		printf("%10" PRIu64 "  %s %12s %8s %10s", info->version, when, state_name(info->state), "-", "-");
	if (*info->message) {
		printf("  ");
		command_print(stdout, info->message, sizeof(info->message));
	}
	putchar('\n');
}

static void show_version(const struct version_info *info, uint64_t changed, bool json)
{
	char when[40], digest[33];
	time_text(info->time_ns, when);
	snprintf(digest, sizeof(digest), "%016" PRIx64 "%016" PRIx64, info->digest.hi, info->digest.lo);
	if (!json) {
		show_version_line(info, changed, when);
		return;
	}
	json_t *line = json_pack("{s:I s:I s:s s:f s:I s:I s:I s:I s:s s:o}", "version", (json_int_t)info->version, "previous",
				 (json_int_t)info->previous, "state", state_name(info->state), "time", (double)info->time_ns / 1e9, "bytes",
				 (json_int_t)info->bytes, "records", (json_int_t)info->records, "changed", (json_int_t)changed, "nodes",
				 (json_int_t)info->nodes, "digest", digest, "message", run_json_text(info->message));
	if (line)
		json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(line);
}

static int show_versions(struct txn *txn, const struct command_flags *flags)
{
	struct version_info info;
	version_t at = VERSION_MAX;
	int r = 0;
	if (!flags->json)
		printf("%10s  %-23s %12s %8s %10s\n", "VERSION", "TIME", "BYTES", "CHANGED", "FILES");
	for (uint64_t shown = 0; flags->count == 0 || shown < flags->count; shown++) {
		uint64_t changed = 0;
		r = version_newest(txn, at, &info);
		if (r == -ENOENT)
			return 0;
		if (r == 0)
			r = count_nodes(txn, info.version, &changed);
		if (r < 0)
			return r;
		show_version(&info, changed, flags->json);
		if (info.version == 0)
			return 0;
		at = info.version - 1;
	}
	return 0;
}

enum outcome command_log(int argc, char **argv)
{
	static const struct command_usage usage = {
		"", "sjn", 0,
		"List the volume's versions, newest first: when each was made, how many bytes a slave needs for it, how many files and\n"
		"directories it changed, how many there were then, and what it was for. Of a batch that was not committed: its number, which\n"
		"is spent, and why. Reads the store; the daemon may run or not.",
	};
	struct command_flags flags;
	enum outcome outcome;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	struct store *store = open_for(argv[0], &flags);
	if (!store)
		return OUTCOME_FAILED;
	struct txn *txn;
	int r = txn_begin_read(store, &txn);
	if (r == 0) {
		r = show_versions(txn, &flags);
		txn_abort(txn);
	}
	store_close(store);
	return r < 0 ? command_failed(argv[0], "%s: %s", flags.state, error_text(r)) : OUTCOME_DONE;
}

static void tell_finding(void *user, const char *text)
{
	(void)user;
	printf("%s\n", text);
}

static void tell_progress(void *user, double done)
{
	int *percent = user;
	if ((int)(done * 100) == *percent)
		return;
	*percent = (int)(done * 100);
	fprintf(stderr, "\r%3d %%", *percent);
}

static void tell_sound(struct store *store)
{
	struct txn *txn;
	if (txn_begin_read(store, &txn) < 0)
		return;
	const struct store_state *state = txn_state(txn);
	printf("sound: version %" PRIu64 ", %" PRIu64 " files and directories, digest %016" PRIx64 "%016" PRIx64 "\n", state->current, state->nodes,
	       state->digest.hi, state->digest.lo);
	txn_abort(txn);
}

enum outcome command_verify(int argc, char **argv)
{
	static const struct command_usage usage = {
		"", "s", 0,
		"Re-read the whole store: every record, every chunk against its hash, every count, and the digest of the tree.\n"
		"Each finding is a line; exit code 1 if there is any. Reads only; the daemon may run or not.",
	};
	struct command_flags flags;
	enum outcome outcome;
	int percent = -1;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	struct store *store = open_for(argv[0], &flags);
	if (!store)
		return OUTCOME_FAILED;
	bool terminal = isatty(STDERR_FILENO);
	int findings = store_verify(store, tell_finding, terminal ? tell_progress : NULL, &percent);
	if (terminal)
		fprintf(stderr, "\r      \r");
	if (findings == 0)
		tell_sound(store);
	store_close(store);
	if (findings < 0)
		return command_failed(argv[0], "%s: %s", flags.state, error_text(findings));
	if (findings > 0)
		return command_failed(argv[0], "%d findings: the store is damaged. A slave heals if its state directory is removed; for a master "
			"take a slave's copy", findings);
	return OUTCOME_DONE;
}
