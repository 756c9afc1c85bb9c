/*
 * The administrator's commands: a check sees the tree that is not shown yet, read-only, and nothing is left of it afterwards, however it ends
 * (R4.2, R4.5); what follows a version runs once for several that come quickly.
 */
#include <event2/event.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "slave/check.h"
#include "tests/unit/replica_fixture.h"

static struct event_base *base;
static struct config config;
static struct check *check;
static struct after *after;
static char tree_path[128];
static int answered; /* times */
static int answer_error;
static char answer_reason[DRS_REASON_BYTES_MAX];

static void on_answer(void *user, int error, const char *reason)
{
	(void)user;
	answered++;
	answer_error = error;
	snprintf(answer_reason, sizeof(answer_reason), "%s", reason);
	event_base_loopbreak(base);
}

static void begin_commands(void)
{
	begin();
	base = event_base_new();
	config_default(&config, CONFIG_SLAVE);
	strcpy(config.state, slave.state);
	strcpy(config.mountpoint, slave.mnt);
	strcpy(config.name, "web1");
	config.check_timeout_ms = config.after_timeout_ms = 10000;
	snprintf(tree_path, sizeof(tree_path), "%s/prepared", slave.state);
	must(check_new(base, slave.store, &config, &check), "check_new");
	must(after_new(base, &config, &after), "after_new");
	check_on_done(check, on_answer, NULL);
}

static void end_commands(void)
{
	check_free(check);
	after_free(after);
	event_base_free(base);
	umount2(tree_path, MNT_DETACH);
	end();
}

TestSuite(check, .init = begin_commands, .fini = end_commands, .timeout = 30);

/* Version 'one' is shown, and "two" staged: its number. */
static version_t stage_two(void)
{
	begin_mount();
	tree_begin(&master);
	ino_id f = tree_file(&master, INO_ROOT, "f", "one");
	tree_commit(&master);
	pull();
	tree_begin(&master);
	tree_rewrite(&master, f, "two", 3);
	tree_file(&master, INO_ROOT, "new", "x");
	tree_commit(&master);
	struct drs_version to = fs_version_of(master.at);
	struct buffer delta = inline_delta();
	cr_assert(eq(i32, listener.prepare(replica, &to, buffer_slice(&delta)), 1));
	cr_assert(eq(i32, listener.prepare_check(replica, &to), 0));
	buffer_fini(&delta);
	return master.at;
}

static int start(version_t version, const char *command)
{
	snprintf(config.check, sizeof(config.check), "%s", command);
	return check_begin(check, version, version - 1, answer_reason);
}

static void run(version_t version, const char *command)
{
	cr_assert(eq(i32, start(version, command), 0), "%s", answer_reason);
	event_base_dispatch(base);
}

static void nothing_is_left(void)
{
	cr_assert(lt(i32, access(tree_path, F_OK), 0));
	cr_assert(eq(i32, errno, ENOENT));
}

Test(check, it_sees_the_tree_that_is_not_shown_yet)
{
	version_t two = stage_two();
	struct command_status status;

	run(two, "grep -qx two $DRSFS_TREE/f && [ -e new ] && grep -qx one $DRSFS_MOUNTPOINT/f && [ ! -e $DRSFS_MOUNTPOINT/new ] &&"
		 " [ $DRSFS_NAME = web1 ] && [ $DRSFS_PREVIOUS = $((DRSFS_VERSION - 1)) ] && ! touch $DRSFS_TREE/x");
	cr_assert(eq(i32, answer_error, 0), "%s", answer_reason);
	cr_assert(eq(str, answer_reason, (char *)""));
	check_status(check, &status);
	cr_assert(status.result.good && !status.running);
	cr_assert(eq(u64, status.result_version, two));
	nothing_is_left();
}

Test(check, what_it_says_is_the_reason)
{
	version_t two = stage_two();
	struct command_status status;

	run(two, "echo looking; echo \"bad word '$(cat f)'\" >&2; exit 1");
	cr_assert(eq(i32, answer_error, -DRS_EREFUSED));
	cr_assert(eq(str, answer_reason, (char *)"looking\nbad word 'two'"));
	run(two, "exit 4");
	cr_assert(eq(str, answer_reason, (char *)"check: exit code 4"));
	run(two, "no-such-command-of-drsfs");
	cr_assert(ne(ptr, strstr(answer_reason, "not found"), NULL));
	config.check_timeout_ms = 300;
	run(two, "echo before; sleep 100");
	cr_assert(eq(str, answer_reason, (char *)"check: not done within 0.3 s\nbefore"));
	check_status(check, &status);
	cr_assert(not(status.result.good));
	cr_assert(eq(str, status.result.words, (char *)"not done within 0.3 s"));
	nothing_is_left();
}

/* A checker that stays inside its tree, or reads it when it is killed, holds nobody up. */
Test(check, given_up_it_leaves_nothing)
{
	version_t two = stage_two();

	cr_assert(eq(i32, start(two, "while :; do cat f >/dev/null; done"), 0));
	usleep(100000);
	check_cancel(check);
	nothing_is_left();
	cr_assert(eq(i32, waitpid(-1, NULL, WNOHANG), -1));
	check_cancel(check); /* none runs */
	cr_assert(eq(i32, start(two, "sleep 100"), 0));
	cr_assert(eq(i32, start(two, "sleep 100"), 0)); /* another one takes its place */
	check_free(check);
	check = NULL;
	nothing_is_left();
	cr_assert(zero(i32, answered));
	says("f", "one");
}

/* As root it may become somebody else: the tree is its working directory, so it need not pass the state directory. */
Test(check, it_may_drop_its_privileges)
{
	version_t two = stage_two();

	config.allow_other = true;
	run(two, "setpriv --reuid 12345 --regid 12345 --clear-groups grep -qx two f");
	cr_assert(eq(i32, answer_error, 0), "%s", answer_reason);
}

Test(check, a_tree_that_cannot_be_mounted_is_a_reason)
{
	version_t two = stage_two();
	struct command_status status;

	strcpy(config.mount_options, "no-such-option");
	cr_assert(lt(i32, start(two, "true"), 0));
	cr_assert(ne(ptr, strstr(answer_reason, "the tree to check cannot be mounted"), NULL), "%s", answer_reason);
	check_status(check, &status);
	cr_assert(not(status.result.good));
	nothing_is_left();
	cr_assert(zero(i32, answered));
}

Test(check, a_tree_that_somebody_unmounts_is_not_accepted)
{
	version_t two = stage_two();

	run(two, "cd / && umount $DRSFS_TREE; sleep 1; true");
	cr_assert(eq(i32, answer_error, -EIO));
	cr_assert(eq(str, answer_reason, (char *)"check: its tree was unmounted meanwhile"));
	nothing_is_left();
}

/* The daemon is killed while its check runs: the next one clears up, and checks. */
Test(check, the_mount_of_a_killed_daemon_is_replaced)
{
	version_t two = stage_two();
	int ready[2];
	char byte;

	cr_assert(zero(i32, pipe(ready)));
	pid_t child = fork();
	if (child == 0) {
		struct slave_mount_options options = { .mountpoint = tree_path, .threads = 1 };
		struct slave_mount *stale;
		struct tree other;

		tree_open(&other, STORE_SLAVE);
		mkdir(tree_path, 0700);
		must(slave_mount_new(other.store, &options, NULL, NULL, &stale), "slave_mount_new");
		must(slave_mount_start(stale), "slave_mount_start");
		char command[200];
		snprintf(command, sizeof(command), "rm -rf '%s'", other.dir);
		byte = system(command) == 0;
		kill(write(ready[1], &byte, 1) == 1 ? getpid() : 0, SIGKILL);
	}
	cr_assert(eq(i64, read(ready[0], &byte, 1), 1));
	waitpid(child, NULL, 0);
	struct statvfs space;
	cr_assert(lt(i32, statvfs(tree_path, &space), 0));
	cr_assert(eq(i32, errno, ENOTCONN));
	run(two, "grep -qx two f");
	cr_assert(eq(i32, answer_error, 0), "%s", answer_reason);
	nothing_is_left();
	cr_assert(zero(i32, mkdir(tree_path, 0700)));
	check_clear(slave.state);
	nothing_is_left();
	check_clear(slave.state);
}

/* ---- after */

static void on_tick(evutil_socket_t fd, short what, void *user)
{
	struct command_status status;

	(void)fd, (void)what, (void)user;
	after_status(after, &status);
	if (!status.running)
		event_base_loopbreak(base);
}

static void until_quiet(void)
{
	struct timeval interval = { .tv_usec = 20000 };
	struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);

	event_add(tick, &interval);
	event_base_dispatch(base);
	event_free(tick);
}

static const char *lines_of(const char *name)
{
	static char text[4096];
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", slave.dir, name);
	FILE *f = fopen(path, "r");
	size_t size = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	text[size] = '\0';
	if (f)
		fclose(f);
	return text;
}

Test(check, what_follows_runs_for_the_newest_version)
{
	struct command_status status;

	after_shown(after, 3); /* none is configured */
	snprintf(config.after, sizeof(config.after), "sleep 0.2; echo $DRSFS_VERSION after $DRSFS_PREVIOUS in $DRSFS_TREE >> %s/said", slave.dir);
	after_shown(after, 4);
	for (version_t version = 5; version < 10; version++)
		after_shown(after, version);
	until_quiet();
	char expected[400];
	snprintf(expected, sizeof(expected), "4 after 0 in %s\n9 after 4 in %s\n", slave.mnt, slave.mnt);
	cr_assert(eq(str, (char *)lines_of("said"), expected));
	after_status(after, &status);
	cr_assert(status.result.good);
	cr_assert(eq(u64, status.result_version, 9));
}

Test(check, what_follows_may_fail)
{
	struct command_status status;

	config.after_timeout_ms = 200;
	strcpy(config.after, "echo no server; sleep 100");
	after_shown(after, 4);
	until_quiet();
	after_status(after, &status);
	cr_assert(not(status.result.good));
	cr_assert(eq(str, status.result.words, (char *)"not done within 0.2 s"));
	cr_assert(eq(str, status.result.output, (char *)"no server"));
	strcpy(config.after, "sleep 100");
	after_shown(after, 5);
	after_free(after);
	after = NULL;
	cr_assert(eq(i32, waitpid(-1, NULL, WNOHANG), -1));
}
