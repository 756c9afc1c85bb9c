/*
 * What an administrator can set: by flags ("--beat-interval 500ms"), by a file with the same names ("beat_interval = 500ms", one
 * section [drsfs]), flags winning. The table in config.c is the one place where options are named, described, bounded and given defaults:
 * parsing, --help, and the manual's option list come from it.
 */
#ifndef DRSFS_CONFIG_H
#define DRSFS_CONFIG_H

#include <limits.h>
#include <stdio.h>

#include "drsfs/types.h"

struct config {
	char mountpoint[PATH_MAX];     /* absolute, like every path below */
	char state[PATH_MAX];          /* state directory */
	char name[64];                 /* this server; default: the host's name */
	char listen[128];              /* master: where links are taken */
	char master[256];              /* slave: where the master is, always with a port */
	char group[128];               /* multicast group and port; "none": unicast */
	char interface[64];
	char mount_options[512];       /* more of mount(8)'s -o */
	char pid_file[PATH_MAX];       /* empty: none */
	char check[1024];              /* slave: shell command that accepts or refuses a version before it is shown; empty: all are accepted */
	char after[1024];              /* slave: shell command for when a version has become visible; empty: none */
	char log_file[PATH_MAX];       /* where log lines go once in the background; default: STATE/log */
	uint32_t multicast_ttl;
	uint32_t beat_interval_ms;
	uint32_t window_beats;
	uint32_t peers_max;
	uint32_t link_timeout_ms;
	uint32_t publish_delay_ms;     /* master: longest time that a finished change waits for company */
	uint64_t retain_versions;      /* keep at least so many versions */
	uint32_t retain_ms;            /* and those younger than this */
	uint32_t two_phase_timeout_ms; /* master: how long an operation in a two-phase directory waits for slaves */
	uint32_t two_phase_require;    /* and for how many of them; or one of the two below */
	uint32_t check_timeout_ms;
	uint32_t after_timeout_ms;
	bool sync_close;               /* master: close() returns when the change is durable and announced */
	bool wait_master;              /* slave: do not mount before the replica is as new as the master's (else: serve what is cached) */
	bool wait_first;               /* slave: do not mount before there is a first complete replica (default) */
	bool inotify;                  /* slave: programs that watch the mount get events */
	bool background;               /* -d */
	bool allow_other;
	int log_level;                 /* 3 … 7 */
};

#define CONFIG_REQUIRE_ALL 0
#define CONFIG_REQUIRE_CONNECTED UINT32_MAX

enum config_role { CONFIG_MASTER = 1, CONFIG_SLAVE = 2 };

#define CONFIG_PORT_DEFAULT "7411"
#define CONFIG_STATE_DEFAULT "/var/lib/drsfs"

/* What is wrong, in words for the administrator; filled in whenever a function below fails. */
struct config_error {
	char text[512];
};

void config_default(struct config *, enum config_role);
/* One option by its name, '-' and '_' alike. -DRS_ECONFIG. */
int config_set(struct config *, enum config_role, const char *name, const char *value, struct config_error *);
/* All of a file. An unknown or misplaced key is an error that names file and line. -DRS_ECONFIG, or the errno of reading it. */
int config_read_file(struct config *, enum config_role, const char *path, struct config_error *);
/*
 * The command line of a daemon, argv[0] being its role: defaults, then the file that --config names, then flags; checked and completed
 * (paths absolute, ports added). 1: --help was asked for and nothing else counts. -DRS_ECONFIG, or the errno of reading the file.
 */
int config_read_arguments(struct config *, enum config_role, int argc, char **argv, struct config_error *);
void config_print_options(FILE *, enum config_role);

/* A number with a unit: "20ms", "1.5s", "10min", "2h", "7d", and plain 0. -DRS_ECONFIG. */
int config_parse_duration(const char *text, uint32_t *ret_ms);
int config_parse_number(const char *text, uint64_t *ret_number);
/* The state directory when no flag names one: $DRSFS_STATE, or the default. */
const char *config_state_default(void);

#endif
