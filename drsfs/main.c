/* drsfs: the program. Finds the command; everything else is elsewhere. The one file that names both roles. */
#include <stdio.h>
#include <string.h>

#include "drsfs/command.h"
#include "drsfs/config.h"
#include "drsfs/daemon.h"
#include "drsfs/error.h"
#include "drsfs/log.h"
#include "master/run.h"
#include "slave/run.h"

static enum outcome run_daemon(enum config_role role, int argc, char **argv, int (*run)(const struct config *), const char *about)
{
	static struct config config;
	struct config_error error;
	int r = config_read_arguments(&config, role, argc, argv, &error);
	if (r < 0)
		return command_misused(argv[0], "%s", error.text);
	if (r > 0) {
		printf("Usage: drsfs %s [OPTIONS] MOUNTPOINT\n\n%s\n\n", argv[0], about);
		config_print_options(stdout, role);
		return OUTCOME_DONE;
	}
	log_init(argv[0], (enum log_level)config.log_level);
	r = run(&config);
	daemon_end();
	return r < 0 ? OUTCOME_FAILED : OUTCOME_DONE;
}

static enum outcome run_master(int argc, char **argv)
{
	return run_daemon(CONFIG_MASTER, argc, argv, master_run,
			  "Mount a volume for reading and writing, and replicate it to every slave that links up. Makes the volume if the state\n"
			  "directory is empty. Stays in the foreground until SIGTERM or SIGINT, unless told to go to the background.");
}

static enum outcome run_slave(int argc, char **argv)
{
	return run_daemon(CONFIG_SLAVE, argc, argv, slave_run,
			  "Mount a replica of a master's volume, read-only, and follow it. Serves from its local store, with the master gone too.\n"
			  "Stays in the foreground until SIGTERM or SIGINT, unless told to go to the background.");
}

static enum outcome print_version(int argc, char **argv)
{
	static const struct command_usage usage = { "", "", 0, "Print the program's version." };
	struct command_flags flags;
	enum outcome outcome;
	if (!command_parse(argc, argv, &usage, &flags, &outcome))
		return outcome;
	printf("drsfs " DRSFS_VERSION "\n");
	return OUTCOME_DONE;
}

static const struct {
	const char *name;
	enum outcome (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "master", run_master, "Mount a volume for writing and replicate it" },
	{ "slave", run_slave, "Mount a read-only replica and follow its master" },
	{ "status", command_status, "Tell how a daemon and its slaves are doing" },
	{ "batch", command_batch, "Change many things as one version that all slaves agree to" },
	{ "log", command_log, "List a volume's versions" },
	{ "wait", command_wait, "Return when slaves have a version" },
	{ "verify", command_verify, "Re-read and check a store" },
	{ "forget", command_forget, "Have a master forget a slave that is gone for good" },
	{ "stop", command_stop, "Unmount and end a daemon" },
	{ "version", print_version, "Print the program's version" },
};

static void print_help(FILE *out)
{
	fprintf(out, "Usage: drsfs COMMAND [OPTIONS] …\n\nReplicates a directory tree: what is written on the master's mount is read on its slaves' "
		     "mounts,\nmilliseconds later.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-10s%s\n", commands[i].name, commands[i].help);
	fprintf(out, "\n'drsfs COMMAND --help' tells more. Exit codes: 0 done, 1 failed, 2 not understood, 3 time was up.\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return (int)commands[i].run(argc - 1, argv + 1);
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		print_help(stdout);
		return OUTCOME_DONE;
	}
	if (strcmp(name, "--version") == 0)
		return (int)print_version(1, argv + 1);
	fprintf(stderr, *name ? "drsfs: there is no command '%s'.\n" : "drsfs: which command?\n", name);
	fprintf(stderr, "Try 'drsfs --help'.\n");
	return OUTCOME_USAGE;
}
