/*
 * Configuration: the option table, and the three ways into it (defaults, file, command line). It knows what each option may hold, not
 * what it is good for: reading hosts' addresses, say, is left to those who use them.
 */
#include "drsfs/config.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/log.h"

enum kind {
	KIND_TEXT,
	KIND_PATH,     /* made absolute */
	KIND_NAME,     /* of a server: letters, digits, '-', '_', '.' */
	KIND_ADDRESS,  /* HOST:PORT or [HOST]:PORT; the port is added where it is missing */
	KIND_GROUP,    /* an address, or "none" */
	KIND_NUMBER,   /* into uint32_t or uint64_t, by the field's size */
	KIND_DURATION, /* into uint32_t milliseconds */
	KIND_FLAG,
	KIND_REQUIRE,  /* all, connected, or a number: into uint32_t */
	KIND_LEVEL,
};

enum place { PLACE_ANY, PLACE_FILE, PLACE_FLAG }; /* where the option may be given */

struct row {
	const char *name; /* as a flag; in a file with '_' for '-' */
	enum config_role roles;
	enum kind kind;
	enum place place;
	char letter;
	size_t offset, size; /* of the field in struct config */
	uint64_t min, max;   /* of numbers; of durations in ms */
	const char *initial; /* default, as one would write it; NULL: computed (config_default) */
	const char *argument;
	const char *help;
};

#define BOTH (CONFIG_MASTER | CONFIG_SLAVE)
#define FIELD(f) offsetof(struct config, f), sizeof(((struct config *)0)->f)

static const struct row rows[] = {
	{ "state", BOTH, KIND_PATH, PLACE_ANY, 's', FIELD(state), 0, 0, NULL, "DIR",
	  "Keep the store here; one directory a daemon [$DRSFS_STATE, else " CONFIG_STATE_DEFAULT "]" },
	{ "master", CONFIG_SLAVE, KIND_ADDRESS, PLACE_ANY, 'm', FIELD(master), 0, 0, "", "HOST[:PORT]",
	  "Where the master takes links (required)" },
	{ "listen", CONFIG_MASTER, KIND_ADDRESS, PLACE_ANY, 'l', FIELD(listen), 0, 0, "0.0.0.0:" CONFIG_PORT_DEFAULT, "ADDRESS[:PORT]",
	  "Take slaves' links here" },
	{ "name", BOTH, KIND_NAME, PLACE_ANY, 'n', FIELD(name), 0, 0, NULL, "NAME",
	  "This server's name, unlike all others of the volume [the host's name]" },
	{ "mountpoint", BOTH, KIND_PATH, PLACE_FILE, 0, FIELD(mountpoint), 0, 0, "", "DIR",
	  "Where to mount, if the command line does not say" },
	{ "group", BOTH, KIND_GROUP, PLACE_ANY, 'g', FIELD(group), 0, 0, "239.255.74.11:" CONFIG_PORT_DEFAULT, "ADDRESS[:PORT]",
	  "Multicast group of the heartbeats, the same on all servers; 'none': unicast only" },
	{ "interface", BOTH, KIND_TEXT, PLACE_ANY, 'i', FIELD(interface), 0, 0, "", "NAME|ADDRESS",
	  "Network interface for multicast [the system's choice]" },
	{ "multicast-ttl", CONFIG_MASTER, KIND_NUMBER, PLACE_ANY, 0, FIELD(multicast_ttl), 0, 255, "1", "N",
	  "How many networks a heartbeat crosses; 0: stays on this host" },
	{ "beat-interval", CONFIG_MASTER, KIND_DURATION, PLACE_ANY, 'b', FIELD(beat_interval_ms), 10, 3600 * 1000, "1s", "TIME",
	  "Time between regular heartbeats; changes are told at once" },
	{ "window-beats", CONFIG_MASTER, KIND_NUMBER, PLACE_ANY, 0, FIELD(window_beats), 1, 1000, "10", "N",
	  "For how many heartbeats a recent update is listed" },
	{ "link-timeout", BOTH, KIND_DURATION, PLACE_ANY, 0, FIELD(link_timeout_ms), 100, 3600 * 1000, "15s", "TIME",
	  "Give up a link after so much silence" },
	{ "peers-max", CONFIG_MASTER, KIND_NUMBER, PLACE_ANY, 0, FIELD(peers_max), 1, 10000, "1000", "N",
	  "Take at most so many links at once" },
	{ "publish-delay", CONFIG_MASTER, KIND_DURATION, PLACE_ANY, 'p', FIELD(publish_delay_ms), 0, 10 * 1000, "20ms", "TIME",
	  "Longest time that a finished change waits for others to go with it" },
	{ "sync-close", CONFIG_MASTER, KIND_FLAG, PLACE_ANY, 0, FIELD(sync_close), 0, 0, "no", "yes|no",
	  "Let close() wait until the change is durable and announced" },
	{ "retain-versions", BOTH, KIND_NUMBER, PLACE_ANY, 0, FIELD(retain_versions), 1, UINT32_MAX, "1000", "N",
	  "Keep at least so many versions for slaves that come late" },
	{ "retain-time", CONFIG_MASTER, KIND_DURATION, PLACE_ANY, 0, FIELD(retain_ms), 0, UINT32_MAX, "10min", "TIME",
	  "Keep all versions that are younger, too" },
	{ "two-phase-timeout", CONFIG_MASTER, KIND_DURATION, PLACE_ANY, 0, FIELD(two_phase_timeout_ms), 1, 3600 * 1000, "10s", "TIME",
	  "How long an operation in a two-phase directory waits for the slaves to accept it" },
	{ "two-phase-require", CONFIG_MASTER, KIND_REQUIRE, PLACE_ANY, 0, FIELD(two_phase_require), 0, 0, "all", "all|connected|N",
	  "Which slaves have to" },
	{ "wait-first", CONFIG_SLAVE, KIND_FLAG, PLACE_ANY, 0, FIELD(wait_first), 0, 0, "yes", "yes|no",
	  "Mount only when there is a first complete replica; 'no': serve an empty tree until then" },
	{ "wait-master", CONFIG_SLAVE, KIND_FLAG, PLACE_ANY, 0, FIELD(wait_master), 0, 0, "no", "yes|no",
	  "Mount only when the replica is as new as the master's; 'no': serve what is cached" },
	{ "check", CONFIG_SLAVE, KIND_TEXT, PLACE_ANY, 0, FIELD(check), 0, 0, "", "COMMAND",
	  "Show a version only if this shell command accepts it (exit code 0); it finds the new tree in $DRSFS_TREE" },
	{ "check-timeout", CONFIG_SLAVE, KIND_DURATION, PLACE_ANY, 0, FIELD(check_timeout_ms), 10, 3600 * 1000, "30s", "TIME",
	  "Refuse a version whose check takes longer" },
	{ "after", CONFIG_SLAVE, KIND_TEXT, PLACE_ANY, 0, FIELD(after), 0, 0, "", "COMMAND",
	  "Run this shell command when a version has become visible, to reload what reads it" },
	{ "after-timeout", CONFIG_SLAVE, KIND_DURATION, PLACE_ANY, 0, FIELD(after_timeout_ms), 10, 3600 * 1000, "60s", "TIME",
	  "End that command when it takes longer" },
	{ "inotify", CONFIG_SLAVE, KIND_FLAG, PLACE_ANY, 0, FIELD(inotify), 0, 0, "no", "yes|no",
	  "Tell programs that watch directories of the mount (inotify) what versions change; needs root" },
	{ "allow-other", BOTH, KIND_FLAG, PLACE_ANY, 0, FIELD(allow_other), 0, 0, NULL, "yes|no",
	  "Let other users into the mount [yes for root, else no]" },
	{ "mount-options", BOTH, KIND_TEXT, PLACE_ANY, 'o', FIELD(mount_options), 0, 0, "", "OPTIONS",
	  "More mount options, comma separated (noexec,nodev,…)" },
	{ "log-level", BOTH, KIND_LEVEL, PLACE_ANY, 0, FIELD(log_level), 0, 0, "info", "LEVEL",
	  "error, warning, notice, info or debug" },
	{ "log-file", BOTH, KIND_PATH, PLACE_ANY, 0, FIELD(log_file), 0, 0, "", "FILE",
	  "Where log lines go in the background [STATE/log]" },
	{ "pid-file", BOTH, KIND_PATH, PLACE_ANY, 0, FIELD(pid_file), 0, 0, "", "FILE",
	  "Write the daemon's process number here once it serves" },
	{ "background", BOTH, KIND_FLAG, PLACE_FLAG, 'd', FIELD(background), 0, 0, "no", "yes|no",
	  "Return when mounted and serving, and go on in the background" },
};

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

static int __attribute__((format(printf, 2, 3))) fail(struct config_error *error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return -DRS_ECONFIG;
}

int config_parse_number(const char *text, uint64_t *ret_number)
{
	if (text[0] < '0' || text[0] > '9') /* strtoull would take a sign or white space */
		return -DRS_ECONFIG;
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (*end || errno)
		return -DRS_ECONFIG;
	*ret_number = number;
	return 0;
}

int config_parse_duration(const char *text, uint32_t *ret_ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60 * 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 24 * 3600 * 1000 } };

	size_t digits = strspn(text, "0123456789.");
	char number[32], *end;
	if (digits == 0 || digits >= sizeof(number))
		return -DRS_ECONFIG;
	memcpy(number, text, digits);
	number[digits] = 0;
	double value = strtod(number, &end);
	if (*end)
		return -DRS_ECONFIG;
	const char *unit = text + digits + strspn(text + digits, " ");
	if (!*unit && value == 0) {
		*ret_ms = 0;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(unit, units[i].unit) != 0)
			continue;
		double ms = value * units[i].ms + 0.5;
		if (ms > UINT32_MAX)
			return -DRS_ECONFIG;
		*ret_ms = (uint32_t)ms;
		return 0;
	}
	return -DRS_ECONFIG;
}

static int parse_flag(const char *text, bool *ret_flag)
{
	static const char *const yes[] = { "yes", "on", "true", "1" }, *const no[] = { "no", "off", "false", "0" };
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*ret_flag = strcmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return -DRS_ECONFIG;
}

static int parse_require(const char *value, uint32_t *ret_require)
{
	uint64_t number = 0;
	if (strcmp(value, "all") == 0)
		*ret_require = CONFIG_REQUIRE_ALL;
	else if (strcmp(value, "connected") == 0)
		*ret_require = CONFIG_REQUIRE_CONNECTED;
	else if (config_parse_number(value, &number) < 0 || number == 0 || number > INT32_MAX)
		return -DRS_ECONFIG;
	else
		*ret_require = (uint32_t)number;
	return 0;
}

static int parse_level(const char *text, int *ret_level)
{
	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		if (strcmp(text, level_names[level]) == 0) {
			*ret_level = level;
			return 0;
		}
	}
	return -DRS_ECONFIG;
}

static bool name_valid(const char *name)
{
	return *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")];
}

/* "HOST", "HOST:PORT", "[V6]", "[V6]:PORT" to the form with a port; false if it is none of these. */
static bool address_complete(const char *text, char *ret_address, size_t size)
{
	const char *colon = text[0] == '[' ? strchr(text, ']') : strchr(text, ':');
	if (text[0] == '[') {
		if (!colon || colon == text + 1)
			return false;
		colon = colon[1] ? colon + 1 : NULL;
	}
	if (!text[0] || colon == text)
		return false;
	uint64_t port = 0;
	if (colon && (*colon != ':' || config_parse_number(colon + 1, &port) < 0 || port > 65535))
		return false;
	int n = snprintf(ret_address, size, "%s%s", text, colon ? "" : ":" CONFIG_PORT_DEFAULT);
	return n >= 0 && (size_t)n < size;
}

static int path_absolute(const char *text, char *ret_path, size_t size)
{
	char here[PATH_MAX] = "";
	if (text[0] && text[0] != '/' && !getcwd(here, sizeof(here)))
		return -errno;
	int n = snprintf(ret_path, size, "%s%s%s", here, here[0] && here[1] ? "/" : "", text);
	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static int row_set_number(const struct row *row, void *field, const char *value, struct config_error *error)
{
	uint64_t number;
	if (config_parse_number(value, &number) < 0 || number < row->min || number > row->max)
		return fail(error, "%s must be a number from %llu to %llu, not '%s'", row->name, (unsigned long long)row->min,
			    (unsigned long long)row->max, value);
	if (row->size == sizeof(uint64_t))
		*(uint64_t *)field = number;
	else
		*(uint32_t *)field = (uint32_t)number;
	return 0;
}

static int row_set_duration(const struct row *row, void *field, const char *value, struct config_error *error)
{
	uint32_t ms;
	if (config_parse_duration(value, &ms) < 0)
		return fail(error, "%s must be a time with its unit, like 500ms, 2s, 10min, 1h or 7d, not '%s'", row->name, value);
	if (ms < row->min || ms > row->max)
		return fail(error, "%s must be from %gs to %gs, not '%s'", row->name, (double)row->min / 1000, (double)row->max / 1000, value);
	*(uint32_t *)field = ms;
	return 0;
}

static int row_set_text(const struct row *row, char *field, const char *value, struct config_error *error)
{
	if (strlen(value) >= row->size)
		return fail(error, "%s is longer than %zu bytes", row->name, row->size - 1);
	strcpy(field, value);
	return 0;
}

static int row_set(const struct row *row, struct config *config, const char *value, struct config_error *error)
{
	void *field = (char *)config + row->offset;
	switch (row->kind) {
	case KIND_PATH:
		if (path_absolute(value, field, row->size) < 0)
			return fail(error, "%s: the path '%s' is too long, or the working directory is gone", row->name, value);
		return 0;
	case KIND_NAME:
		if (!name_valid(value))
			return fail(error, "%s must be letters, digits, '-', '_' and '.', not '%s'", row->name, value);
		return row_set_text(row, field, value, error);
	case KIND_GROUP:
		if (strcmp(value, "none") == 0)
			return row_set_text(row, field, value, error);
		/* fall through */
	case KIND_ADDRESS:
		if (!address_complete(value, field, row->size))
			return fail(error, "%s must be %s, not '%s' (IPv6 addresses in square brackets)", row->name, row->argument, value);
		return 0;
	case KIND_NUMBER:
		return row_set_number(row, field, value, error);
	case KIND_DURATION:
		return row_set_duration(row, field, value, error);
	case KIND_FLAG:
		if (parse_flag(value, field) < 0)
			return fail(error, "%s must be yes or no, not '%s'", row->name, value);
		return 0;
	case KIND_REQUIRE:
		if (parse_require(value, field) < 0)
			return fail(error, "%s must be all, connected, or how many slaves, not '%s'", row->name, value);
		return 0;
	case KIND_LEVEL:
		if (parse_level(value, field) < 0)
			return fail(error, "%s must be error, warning, notice, info or debug, not '%s'", row->name, value);
		return 0;
	case KIND_TEXT:
		break;
	}
	return row_set_text(row, field, value, error);
}

const char *config_state_default(void)
{
	const char *state = getenv("DRSFS_STATE");
	return state && *state ? state : CONFIG_STATE_DEFAULT;
}

/* The host's name, with what a server's name may not hold replaced. */
static void default_name(char *name, size_t size)
{
	if (gethostname(name, size) < 0 || !*name)
		strcpy(name, "localhost");
	name[size - 1] = 0;
	for (char *c = name; *c; c++) {
		char one[2] = { *c, 0 };
		if (!name_valid(one))
			*c = '-';
	}
}

void config_default(struct config *config, enum config_role role)
{
	struct config_error error;
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		if (row->initial && *row->initial && (row->roles & role))
			row_set(row, config, row->initial, &error);
	}
	if (path_absolute(config_state_default(), config->state, sizeof(config->state)) < 0)
		strcpy(config->state, CONFIG_STATE_DEFAULT);
	default_name(config->name, sizeof(config->name));
	config->allow_other = geteuid() == 0;
}

static bool names_equal(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
			return false;
	}
	return *a == *b;
}

/* How many letters must be added, taken away or changed to get from one name to the other. */
static size_t name_distance(const char *a, const char *b)
{
	enum { LETTERS_MAX = 32 };
	size_t n = strlen(b), line[LETTERS_MAX + 1];
	if (n > LETTERS_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		line[j] = j;
	for (size_t i = 1; *a; a++, i++) {
		size_t diagonal = line[0];
		line[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (*a != b[j - 1] && !(*a == '_' && b[j - 1] == '-'));
			diagonal = line[j];
			if (line[j] + 1 < best)
				best = line[j] + 1;
			if (line[j - 1] + 1 < best)
				best = line[j - 1] + 1;
			line[j] = best;
		}
	}
	return line[n];
}

static const struct row *row_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (names_equal(rows[i].name, name))
			return &rows[i];
	}
	return NULL;
}

/* The option that was probably meant; NULL if none is near. */
static const struct row *row_guess(enum config_role role, const char *name)
{
	const struct row *nearest = NULL;
	size_t distance_min = 4;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t distance = name_distance(name, rows[i].name);
		if ((rows[i].roles & role) && distance < distance_min && distance < strlen(rows[i].name)) {
			nearest = &rows[i];
			distance_min = distance;
		}
	}
	return nearest;
}

static const char *role_name(enum config_role role)
{
	return role == CONFIG_MASTER ? "master" : "slave";
}

/* A row's name as it is written in a file. */
static const char *row_key(const struct row *row, char key[32])
{
	size_t i = 0;
	for (; row->name[i] && i < 31; i++)
		key[i] = row->name[i] == '-' ? '_' : row->name[i];
	key[i] = 0;
	return key;
}

int config_set(struct config *config, enum config_role role, const char *name, const char *value, struct config_error *error)
{
	const struct row *row = row_find(name);
	if (!row || row->place == PLACE_FLAG) {
		const struct row *guess = row ? NULL : row_guess(role, name);
		char key[32];
		if (guess)
			return fail(error, "there is no option '%s'; did you mean '%s'?", name, row_key(guess, key));
		return fail(error, "there is no option '%s' here ('drsfs %s --help' lists them)", name, role_name(role));
	}
	if (!(row->roles & role))
		return fail(error, "'%s' is an option of a %s, not of a %s", name, role_name(BOTH & ~role), role_name(role));
	return row_set(row, config, value, error);
}

/* What the callback of inih carries along. */
struct file_reading {
	struct config *config;
	enum config_role role;
	struct config_error *error;
	bool failed; /* 'error' tells about the first line that was refused */
};

static int file_entry(void *user, const char *section, const char *name, const char *value)
{
	struct file_reading *reading = user;
	if (reading->failed)
		return 0;
	if (strcmp(section, "drsfs") != 0)
		fail(reading->error, *section ? "there is no section [%s], only [drsfs]" : "'%s' stands before the section [drsfs]",
		     *section ? section : name);
	else if (config_set(reading->config, reading->role, name, value ? value : "", reading->error) == 0)
		return 1;
	reading->failed = true;
	return 0;
}

int config_read_file(struct config *config, enum config_role role, const char *path, struct config_error *error)
{
	FILE *file = fopen(path, "re");
	if (!file) {
		int e = errno;
		fail(error, "cannot read the configuration file %s: %s", path, strerror(e));
		return -e;
	}
	struct config_error inner = { "this is neither a comment nor 'name = value'" };
	struct file_reading reading = { .config = config, .role = role, .error = &inner };
	int line = ini_parse_file(file, file_entry, &reading);
	fclose(file);
	if (line == 0)
		return 0;
	if (line < 0)
		return fail(error, "%s: cannot be read to its end", path);
	return fail(error, "%.200s:%d: %.300s", path, line, inner.text);
}

/* getopt's tables, made from the rows of one role. */
enum { OPTION_ROW = 256, OPTION_CONFIG = 'c', OPTION_HELP = 'h' };

struct options {
	struct option longs[ARRAY_SIZE(rows) + 3];
	char letters[3 * ARRAY_SIZE(rows) + 8];
};

static void options_make(struct options *options, enum config_role role)
{
	struct option *option = options->longs;
	char *letter = options->letters + sprintf(options->letters, ":hc:");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		if (!(row->roles & role) || row->place == PLACE_FILE)
			continue;
		*option++ = (struct option){ row->name, row->kind == KIND_FLAG ? optional_argument : required_argument, NULL, OPTION_ROW + (int)i };
		if (row->letter)
			letter += sprintf(letter, row->kind == KIND_FLAG ? "%c" : "%c:", row->letter);
	}
	*option++ = (struct option){ "config", required_argument, NULL, OPTION_CONFIG };
	*option++ = (struct option){ "help", no_argument, NULL, OPTION_HELP };
	*option = (struct option){ 0 };
}

static const struct row *row_of_option(int option)
{
	if (option >= OPTION_ROW && (size_t)(option - OPTION_ROW) < ARRAY_SIZE(rows))
		return &rows[option - OPTION_ROW];
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].letter && rows[i].letter == option)
			return &rows[i];
	}
	return NULL;
}

static int flag_unknown(enum config_role role, const char *word, struct config_error *error)
{
	char name[64];
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
	const char *bare = name + strspn(name, "-");
	const struct row *row = row_find(bare), *guess = row_guess(role, bare);
	if (row && !(row->roles & role))
		return fail(error, "--%s is an option of a %s, not of a %s", row->name, role_name(BOTH & ~role), role_name(role));
	if (guess && word[1] == '-')
		return fail(error, "unknown option '%s'; did you mean '--%s'?", name, guess->name);
	return fail(error, "unknown option '%s'", name);
}

/* What the command line says beside the rows. */
struct command_line {
	const char *file;
	bool help;
};

/*
 * One walk over the flags. The first finds the file, whose values come before those of flags (config NULL), the second takes the rows.
 * getopt moves what is not a flag behind the flags; optind is there at the end.
 */
static int walk_flags(struct config *config, enum config_role role, int argc, char **argv, struct command_line *line, struct config_error *error)
{
	struct options options;
	options_make(&options, role);
	opterr = 0;
	optind = 0; /* glibc: start over, at argv[1] */
	for (;;) {
		int option = getopt_long(argc, argv, options.letters, options.longs, NULL);
		const struct row *row = row_of_option(option);
		int r = 0;
		if (option == -1)
			return 0;
		if (option == ':')
			return fail(error, "'%s' needs a value", argv[optind - 1]);
		if (option == '?' && optopt && optopt < OPTION_ROW)
			return fail(error, "unknown option '-%c'", optopt);
		if (option == '?')
			return flag_unknown(role, argv[optind - 1], error);
		if (option == OPTION_HELP)
			line->help = true;
		else if (option == OPTION_CONFIG)
			line->file = optarg;
		else if (config)
			r = row_set(row, config, optarg ? optarg : "yes", error);
		if (r < 0)
			return r;
	}
}

static int take_mountpoint(struct config *config, int argc, char **argv, struct config_error *error)
{
	if (argc - optind > 1)
		return fail(error, "one mountpoint is enough: '%s' is too much", argv[optind + 1]);
	if (argc > optind && path_absolute(argv[optind], config->mountpoint, sizeof(config->mountpoint)) < 0)
		return fail(error, "the mountpoint's path is too long, or the working directory is gone");
	if (!config->mountpoint[0])
		return fail(error, "where shall it be mounted? Name a directory");
	return 0;
}

int config_read_arguments(struct config *config, enum config_role role, int argc, char **argv, struct config_error *error)
{
	struct command_line line = { 0 };
	config_default(config, role);
	int r = walk_flags(NULL, role, argc, argv, &line, error);
	if (r < 0)
		return r;
	if (line.help)
		return 1;
	if (line.file && (r = config_read_file(config, role, line.file, error)) < 0)
		return r;
	if ((r = walk_flags(config, role, argc, argv, &line, error)) < 0 || (r = take_mountpoint(config, argc, argv, error)) < 0)
		return r;
	if (role == CONFIG_SLAVE && !config->master[0])
		return fail(error, "which master shall it follow? Say --master HOST[:PORT]");
	if (!config->log_file[0] && (size_t)snprintf(config->log_file, sizeof(config->log_file), "%s/log", config->state) >= sizeof(config->log_file))
		return fail(error, "the state directory's path is too long");
	return 0;
}

static void print_option(FILE *out, char letter, const char *name, const char *argument, const char *help)
{
	char flag[64];
	int n = snprintf(flag, sizeof(flag), "  %c%c%c --%s%s%s", letter ? '-' : ' ', letter ? letter : ' ', letter ? ',' : ' ', name,
			 argument ? " " : "", argument ? argument : "");
	fprintf(out, n < 34 ? "%-34s%s" : "%s\n                                  %s", flag, help);
}

void config_print_options(FILE *out, enum config_role role)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		if (!(row->roles & role) || row->place == PLACE_FILE)
			continue;
		bool on = row->kind == KIND_FLAG && row->initial && strcmp(row->initial, "no") == 0;
		char name[48];
		snprintf(name, sizeof(name), "%s%s", row->name, row->kind != KIND_FLAG ? "" : on ? "" : "=yes|no");
		print_option(out, row->letter, name, row->kind == KIND_FLAG ? NULL : row->argument, row->help);
		if (row->kind != KIND_FLAG && row->initial && *row->initial)
			fprintf(out, " [%s]", row->initial);
		fputc('\n', out);
	}
	print_option(out, 'c', "config", "FILE", "Read options from a file, flags winning: [drsfs], then lines like\n");
	fprintf(out, "                                  'beat_interval = 500ms'; also 'mountpoint = DIR'\n");
	print_option(out, 'h', "help", NULL, "Show this\n");
}
