/* Commands run beside the loop: what becomes of them is told rightly, whatever they do, and nothing of them is left. (R4.2, F8) */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "slave/hook.h"

static struct event_base *base;
static struct hook *hook;
static struct hook_result result;
static unsigned ended;
static char dir[] = "/tmp/drsfs-hook-XXXXXX";

static void begin(void)
{
	base = event_base_new();
	cr_assert(base && mkdtemp(dir));
}

static void end(void)
{
	char command[64];

	hook_free(hook);
	event_base_free(base);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert(zero(i32, system(command)));
}

TestSuite(hook, .init = begin, .fini = end, .timeout = 20);

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_done(void *user, const struct hook_result *r)
{
	(void)user;
	result = *r;
	ended++;
	hook_free(hook);
	hook = NULL;
	event_base_loopbreak(base);
}

static void start(const char *command, uint32_t timeout_ms, bool alone)
{
	const char *const environment[] = { "DRSFS_VERSION=7", "HOME=/nowhere", NULL };
	struct hook_options options = {
		.command = command, .directory = dir, .environment = environment, .timeout_ms = timeout_ms, .alone = alone };

	cr_assert(zero(i32, hook_start(base, &options, on_done, NULL, &hook)));
}

static double run(const char *command, uint32_t timeout_ms, bool alone)
{
	double begun = now();

	start(command, timeout_ms, alone);
	event_base_dispatch(base);
	return now() - begun;
}

static void no_child_is_left(void)
{
	cr_assert(eq(i32, waitpid(-1, NULL, WNOHANG), -1));
	cr_assert(eq(i32, errno, ECHILD));
}

static bool exists(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

#define says(text) cr_assert(eq(str, result.output, (char *)(text)))
#define ends(text) cr_assert(eq(str, result.words, (char *)(text)))

Test(hook, success_has_its_environment_directory_and_no_input)
{
	run("echo $DRSFS_VERSION $HOME; pwd; cat; echo err >&2", 5000, true);
	cr_assert(result.good);
	ends("ok");
	char text[128];
	snprintf(text, sizeof(text), "7 /nowhere\n%s\nerr", dir);
	says(text);
	no_child_is_left();
}

Test(hook, failure_is_told_with_its_output)
{
	run("echo 'line one'; printf 'bad \\033[31m word\\r\\n' >&2; exit 3", 5000, true);
	cr_assert(not(result.good));
	ends("exit code 3");
	says("line one\nbad ?[31m word");
	run("no-such-program-of-drsfs", 5000, true);
	ends("exit code 127");
	run("kill -SEGV $$", 5000, true);
	ends("killed by signal 11 (Segmentation fault)");
	cr_assert(eq(u32, ended, 3));
	no_child_is_left();
}

Test(hook, time_is_limited)
{
	double seconds = run("echo begun; sleep 100", 200, true);

	cr_assert(not(result.good));
	ends("not done within 0.2 s");
	says("begun");
	cr_assert(lt(dbl, seconds, 1.0));
	no_child_is_left();
}

/* SIGTERM is not enough for it, and what it started has to end as well. */
Test(hook, time_is_limited_for_the_stubborn_too)
{
	double seconds = run("trap '' TERM; (trap '' TERM; sleep 3; echo x > late) & sleep 100; sleep 100", 200, true);

	ends("not done within 0.2 s");
	cr_assert(lt(dbl, seconds, 2.5));
	sleep(3);
	cr_assert(not(exists("late")));
	no_child_is_left();
}

/* It exits 0 when told to go: too late all the same. */
Test(hook, late_success_is_none)
{
	run("trap 'exit 0' TERM; while :; do sleep 0.05; done", 200, true);
	cr_assert(not(result.good));
	ends("not done within 0.2 s");
}

Test(hook, of_a_flood_the_last_lines_are_kept)
{
	double seconds = run("seq 1 1000000; echo the last", 15000, true);

	cr_assert(result.good);
	cr_assert(lt(sz, strlen(result.output), DRS_REASON_BYTES_MAX));
	cr_assert(gt(sz, strlen(result.output), DRS_REASON_BYTES_MAX - 10));
	cr_assert(ne(ptr, strstr(result.output, "\n1000000\nthe last"), NULL));
	cr_assert(eq(i32, result.output[0], '9')); /* a whole line: six digits and its end */
	cr_assert(eq(i32, result.output[6], '\n'));
	cr_log_info("7 MB read in %.2f s", seconds);
}

Test(hook, a_line_that_is_too_long_is_cut_at_a_character)
{
	run("i=0; while [ $i -lt 600 ]; do printf '\\303\\244'; i=$((i+1)); done; printf x", 5000, true);
	cr_assert(eq(sz, strlen(result.output), DRS_REASON_BYTES_MAX - 1));
	run("i=0; while [ $i -lt 600 ]; do printf '\\303\\244'; i=$((i+1)); done", 5000, true);
	cr_assert(eq(sz, strlen(result.output), DRS_REASON_BYTES_MAX - 2));
	cr_assert(eq(i32, (unsigned char)result.output[0], 0303));
}

/* Its end counts, not that of the pipe. */
Test(hook, a_child_that_keeps_the_pipe_is_not_waited_for)
{
	double seconds = run("(sleep 2; echo x > late) & echo done", 10000, true);

	cr_assert(result.good);
	says("done");
	cr_assert(lt(dbl, seconds, 1.0));
	sleep(3);
	cr_assert(not(exists("late"))); /* and has ended with it */
}

Test(hook, what_may_be_left_behind_goes_on)
{
	double seconds = run("(sleep 1; echo x > late) >/dev/null 2>&1 & echo done", 10000, false);

	cr_assert(result.good);
	cr_assert(lt(dbl, seconds, 0.9));
	sleep(2);
	cr_assert(exists("late"));
}

Test(hook, given_up_it_is_gone_with_what_it_started)
{
	start("(sleep 1; echo x > late) & sleep 100", 10000, true);
	event_base_loop(base, EVLOOP_NONBLOCK);
	double begun = now();
	hook_free(hook);
	hook = NULL;
	cr_assert(lt(dbl, now() - begun, 0.5));
	no_child_is_left();
	sleep(2);
	cr_assert(not(exists("late")));
	cr_assert(eq(u32, ended, 0));
}

/* Others wait for their own children as they like. */
Test(hook, other_children_are_not_touched)
{
	pid_t other = fork();

	if (other == 0)
		_exit(42);
	run("true", 5000, true);
	cr_assert(result.good);
	int status;
	cr_assert(eq(i32, waitpid(other, &status, 0), other));
	cr_assert(eq(i32, WEXITSTATUS(status), 42));
}

Test(hook, signals_are_as_a_new_process_expects_them)
{
	sigset_t pipe;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, NULL);
	run("grep -E '^Sig(Blk|Ign)' /proc/self/status", 5000, true);
	unsigned long blocked = 1, ignored = 1;
	cr_assert(eq(i32, sscanf(result.output, "SigBlk: %lx SigIgn: %lx", &blocked, &ignored), 2));
	cr_assert(zero(ulong, blocked));
	cr_assert(zero(ulong, ignored & 0x7fffffff)); /* 32 and 33 are the C library's own */
}

Test(hook, no_descriptor_is_passed_on)
{
	int leak = open("/dev/zero", O_RDONLY); /* without O_CLOEXEC */

	run("ls /proc/self/fd | wc -l", 5000, true); /* ls opens the directory itself */
	says("4");
	close(leak);
}

Test(hook, a_start_that_fails_is_an_error)
{
	const char *const none[] = { NULL };
	struct hook_options options = { .command = "true", .directory = "/no/such/directory", .environment = none, .timeout_ms = 100 };

	cr_assert(eq(i32, hook_start(base, &options, on_done, NULL, &hook), -ENOENT));
	no_child_is_left();
}
