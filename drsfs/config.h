/*
 * What an administrator can set: by flags ("--beat-interval 500ms"), by a file with the same names ("beat_interval = 500ms", one
 * section [drsfs]), flags winning. The table in config.c is the one place where options are named, described, bounded and given defaults:
 * parsing, --help, and the manual's option list come from it.
 */
#ifndef DRSFS_CONFIG_H
#define DRSFS_CONFIG_H

#include <limits.h>

#include "drsfs/types.h"

struct config {
	char mountpoint[PATH_MAX];
	char state[PATH_MAX];          /* state directory */
	char name[64];                 /* this server; default: the host's name */
	char listen[128];              /* master: where links are taken */
	char master[256];              /* slave: where the master is */
	char group[128];               /* multicast group and port; "none": unicast */
	char interface[64];
	char mount_options[512];       /* more of mount(8)'s -o */
	char pid_file[PATH_MAX];
	uint32_t multicast_ttl;
	uint32_t beat_interval_ms;
	uint32_t window_beats;
	uint32_t peers_max;
	uint32_t link_timeout_ms;
	uint32_t publish_delay_ms;     /* master: longest time that a finished change waits for company */
	uint64_t retain_versions;      /* keep at least so many versions */
	uint32_t retain_ms;            /* and those younger than this */
	bool sync_close;               /* master: close() returns when the change is durable and announced */
	bool wait_master;              /* slave: do not mount before the replica is as new as the master's (else: serve what is cached) */
	bool wait_first;               /* slave: do not mount before there is a first complete replica (default) */
	bool background;               /* -d */
	bool allow_other;
	int log_level;                 /* 3 … 7 */
};

enum config_role { CONFIG_MASTER = 1, CONFIG_SLAVE = 2 };

#endif
