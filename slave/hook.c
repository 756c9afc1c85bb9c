/*
 * Three things can happen to a command that runs: it prints, its time is up, it ends. Its end is that of the shell, not of the pipe: a process
 * that it left behind may keep that open for ever. The shell is reaped only after its group was killed: until then its number,
 * which is the group's, is nobody else's.
 */
#include "slave/hook.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_MS 1000        /* from SIGTERM to SIGKILL */
#define REAP_MS_MAX 1000    /* from SIGKILL to the end; longer only if it is stuck in a device */
#define DRAIN_READS_MAX 64  /* of what was printed before the end */
#define READ_BYTES 65536    /* what a pipe holds */
#define TAIL_BYTES ((size_t)2 * DRS_REASON_BYTES_MAX)

struct hook {
	pid_t pid;              /* of the shell, and its group; 0: none, or reaped */
	int pid_fd, pipe_fd;    /* -1: none */
	struct event *ended, *printed, *timer;
	uint32_t timeout_ms;
	bool alone, timed_out;
	char tail[TAIL_BYTES];
	size_t tail_size;
	bool tail_cut;          /* more was printed before */
	void (*done)(void *user, const struct hook_result *);
	void *user;
};

/* ---- what it prints */

static void keep(struct hook *h, const char *bytes, size_t size)
{
	size_t over = h->tail_size + size > TAIL_BYTES ? h->tail_size + size - TAIL_BYTES : 0;

	if (over > 0)
		h->tail_cut = true;
	if (over > h->tail_size) {
		bytes += over - h->tail_size;
		size -= over - h->tail_size;
		over = h->tail_size;
	}
	memmove(h->tail, h->tail + over, h->tail_size - over);
	memcpy(h->tail + h->tail_size - over, bytes, size);
	h->tail_size += size - over;
}

/* One pipe full at most, so that a flood does not keep the loop. false: there is nothing more now. */
static bool take(struct hook *h)
{
	char bytes[READ_BYTES];
	ssize_t size = read(h->pipe_fd, bytes, sizeof(bytes));

	if (size > 0)
		keep(h, bytes, (size_t)size);
	else if (size == 0 || (errno != EAGAIN && errno != EINTR))
		event_del(h->printed); /* it has closed its side; its end comes by itself */
	return size > 0;
}

static void on_printed(evutil_socket_t fd, short what, void *user)
{
	(void)fd, (void)what;
	take(user);
}

/* The first byte of what is shown: a line's if there is one, at least a character's. */
static size_t tail_start(const struct hook *h, size_t end)
{
	size_t room = DRS_REASON_BYTES_MAX - 1, start = end > room ? end - room : 0;

	if (start == 0 ? !h->tail_cut : h->tail[start - 1] == '\n')
		return start;
	const char *line = memchr(h->tail + start, '\n', end - start);
	if (line)
		return (size_t)(line + 1 - h->tail);
	while (start < end && ((unsigned char)h->tail[start] & 0xc0) == 0x80)
		start++;
	return start;
}

static void tail_text(const struct hook *h, char text[DRS_REASON_BYTES_MAX])
{
	size_t end = h->tail_size;

	while (end > 0 && strchr(" \t\r\n", h->tail[end - 1]))
		end--;
	for (size_t i = tail_start(h, end); i < end; i++) {
		unsigned char c = (unsigned char)h->tail[i];

		if (c == '\r' && i + 1 < end && h->tail[i + 1] == '\n')
			continue;
		*text++ = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f ? '?' : (char)c;
	}
	*text = '\0';
}

/* ---- its end */

static void signal_group(const struct hook *h, int number)
{
	if (h->pid > 0)
		kill(-h->pid, number);
}

static void judge(const struct hook *h, int status, struct hook_result *r)
{
	*r = (struct hook_result){ .good = !h->timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0 };
	if (h->timed_out)
		snprintf(r->words, sizeof(r->words), "not done within %g s", (double)h->timeout_ms / 1000);
	else if (WIFSIGNALED(status))
		snprintf(r->words, sizeof(r->words), "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (r->good)
		strcpy(r->words, "ok");
	else
		snprintf(r->words, sizeof(r->words), "exit code %d", WEXITSTATUS(status));
	tail_text(h, r->output);
}

static void on_ended(evutil_socket_t fd, short what, void *user)
{
	struct hook *h = user;
	struct hook_result result;
	int status = 0;

	(void)fd, (void)what;
	if (h->alone || h->timed_out)
		signal_group(h, SIGKILL);
	if (waitpid(h->pid, &status, WNOHANG) != h->pid)
		return; /* not yet */
	h->pid = 0;
	for (unsigned i = 0; i < DRAIN_READS_MAX && take(h); i++)
		;
	event_del(h->ended);
	event_del(h->printed);
	event_del(h->timer);
	judge(h, status, &result);
	h->done(h->user, &result); /* may free it */
}

static void set_timer(struct hook *h, uint32_t ms)
{
	struct timeval wait = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	event_add(h->timer, &wait);
}

static void on_timer(evutil_socket_t fd, short what, void *user)
{
	struct hook *h = user;

	(void)fd, (void)what;
	if (h->timed_out) {
		signal_group(h, SIGKILL);
		return;
	}
	h->timed_out = true;
	signal_group(h, SIGTERM);
	set_timer(h, KILL_MS);
}

/* ---- its beginning */

static bool is_set_by(const char *entry, const char *const *environment)
{
	size_t size = strcspn(entry, "=") + 1;

	for (; *environment; environment++)
		if (strncmp(*environment, entry, size) == 0)
			return true;
	return strncmp(entry, "NOTIFY_SOCKET=", size) == 0; /* systemd's word with this daemon */
}

/* Ours, then theirs. Only the array is to be freed. */
static char **join_environment(const char *const *environment)
{
	size_t count = 1, at = 0;

	for (char **entry = environ; *entry; entry++)
		count++;
	for (const char *const *entry = environment; *entry; entry++)
		count++;
	char **joined = calloc(count, sizeof(*joined));
	if (!joined)
		return NULL;
	for (char **entry = environ; *entry; entry++)
		if (!is_set_by(*entry, environment))
			joined[at++] = *entry;
	while (*environment)
		joined[at++] = (char *)*environment++;
	return joined;
}

/* Nothing is passed on but the three descriptors: neither the store's lock nor a link. */
static int add_files(posix_spawn_file_actions_t *files, const char *directory, int output)
{
	int error = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

	if (error == 0)
		error = posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO);
	if (error == 0)
		error = posix_spawn_file_actions_adddup2(files, output, STDERR_FILENO);
	if (error == 0)
		error = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
	if (error == 0)
		error = posix_spawn_file_actions_addchdir_np(files, directory);
	return error;
}

/* A group of its own, and signals as a new process expects them: this daemon ignores and blocks some. */
static void set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(attributes, 0);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setsigdefault(attributes, &all);
}

static int spawn(const struct hook_options *o, int output, pid_t *ret_pid)
{
	char *arguments[] = { "sh", "-c", (char *)o->command, NULL };
	char **environment = join_environment(o->environment);
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;

	if (!environment)
		return -ENOMEM;
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	set_attributes(&attributes);
	int error = add_files(&files, o->directory, output);
	if (error == 0)
		error = posix_spawn(ret_pid, "/bin/sh", &files, &attributes, arguments, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	free(environment);
	return -error;
}

static int begin(struct hook *h, const struct hook_options *o)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	h->pipe_fd = ends[0];
	int error = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : spawn(o, ends[1], &h->pid);
	close(ends[1]);
	if (error < 0) {
		h->pid = 0;
		return error;
	}
	h->pid_fd = pidfd_open(h->pid, 0);
	return h->pid_fd < 0 ? -errno : 0;
}

static int listen_to(struct hook *h, struct event_base *base)
{
	h->printed = event_new(base, h->pipe_fd, EV_READ | EV_PERSIST, on_printed, h);
	h->ended = event_new(base, h->pid_fd, EV_READ | EV_PERSIST, on_ended, h);
	h->timer = event_new(base, -1, 0, on_timer, h);
	if (!h->printed || !h->ended || !h->timer || event_add(h->printed, NULL) < 0 || event_add(h->ended, NULL) < 0)
		return -ENOMEM;
	set_timer(h, h->timeout_ms);
	return 0;
}

int hook_start(struct event_base *base, const struct hook_options *o, void (*done)(void *user, const struct hook_result *), void *user,
	       struct hook **ret_hook)
{
	struct hook *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->pid_fd = h->pipe_fd = -1;
	h->timeout_ms = o->timeout_ms;
	h->alone = o->alone;
	h->done = done;
	h->user = user;
	int error = begin(h, o);
	if (error == 0)
		error = listen_to(h, base);
	if (error < 0) {
		hook_free(h);
		return error;
	}
	*ret_hook = h;
	return 0;
}

/* ---- and its being given up */

static void kill_now(struct hook *h)
{
	struct pollfd end = { .fd = h->pid_fd, .events = POLLIN };

	signal_group(h, SIGKILL);
	if (h->pid_fd >= 0)
		poll(&end, 1, REAP_MS_MAX);
	waitpid(h->pid, NULL, h->pid_fd >= 0 ? WNOHANG : 0);
	h->pid = 0;
}

void hook_free(struct hook *h)
{
	if (!h)
		return;
	if (h->pid > 0)
		kill_now(h);
	if (h->ended)
		event_free(h->ended);
	if (h->printed)
		event_free(h->printed);
	if (h->timer)
		event_free(h->timer);
	if (h->pid_fd >= 0)
		close(h->pid_fd);
	if (h->pipe_fd >= 0)
		close(h->pipe_fd);
	free(h);
}
