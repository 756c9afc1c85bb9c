/*
 * Mounts a master's store without a network, in the foreground, until it is unmounted or gets SIGINT or SIGTERM; for trying and measuring.
 *
 *   mount_master STATE MOUNTPOINT [sync_close] [publish_delay_ms] [verbose|quiet] [retain_versions]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "master/mount.h"

static unsigned long versions, inline_deltas;
static bool verbose;

static void published(void *user, const struct version_info *info, struct slice inline_delta)
{
	struct timespec now;
	(void)user;
	clock_gettime(CLOCK_REALTIME, &now);
	versions++;
	inline_deltas += inline_delta.size > 0;
	if (verbose)
		printf("%ld.%09ld version %lu: %lu records, %lu bytes, inline %zu\n", now.tv_sec, now.tv_nsec, (unsigned long)info->version,
		       (unsigned long)info->records, (unsigned long)info->bytes, inline_delta.size);
}

static void ended(void *user, int error)
{
	(void)user;
	printf("ended: %s; %lu versions, %lu with an inline delta\n", error ? error_text(error) : "unmounted", versions, inline_deltas);
	fflush(stdout);
	kill(getpid(), SIGTERM);
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "mount_master: %s: %s\n", what, error_text(error));
	return 1;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return fail("usage: mount_master STATE MOUNTPOINT [sync_close] [publish_delay_ms] [verbose|quiet] [retain_versions]", -22);
	struct store_options store_options = { .dir = argv[1], .role = STORE_MASTER, .create = true };
	struct master_mount_options options = {
		.mountpoint = argv[2],
		.mount_options = "",
		.allow_other = geteuid() == 0,
		.sync_close = argc > 3 && atoi(argv[3]),
		.publish_delay_ms = argc > 4 ? (uint32_t)atoi(argv[4]) : 20,
		.retain_versions = argc > 6 ? (uint64_t)atoi(argv[6]) : 100,
		.retain_ms = 1000,
		.inline_bytes_max = 1280,
	};
	verbose = argc > 5 && strcmp(argv[5], "verbose") == 0;
	setlinebuf(stdout);
	struct master_mount_listener listener = { .published = published, .ended = ended };
	struct store *store;
	struct master_mount *mount;
	sigset_t signals;
	int signal_number;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);

	int ret = store_open(&store_options, &store);
	if (ret < 0)
		return fail(argv[1], ret);
	ret = master_mount_new(store, &options, &listener, &mount);
	if (ret < 0)
		return fail(argv[2], ret);
	ret = master_mount_start(mount);
	if (ret < 0)
		return fail(argv[2], ret);
	sigwait(&signals, &signal_number);
	master_mount_stop(mount);
	master_mount_free(mount);
	store_close(store);
	return 0;
}
