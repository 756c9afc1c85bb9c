/*
 * The background is one fork with a pipe: the parent waits at its reading end; the child writes one byte when it is ready, or
 * dies and leaves an exit code. The child stays in the terminal's foreground group until then, so Ctrl-C during a long first copy ends
 * both. systemd's protocol is one datagram; that needs no library.
 */
#include "drsfs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drsfs/log.h"

static struct {
	int pipe;     /* to the waiting parent; -1: none */
	bool ready;
	char pid_file[PATH_MAX];
	char log_file[PATH_MAX];
} self = { .pipe = -1 };

static void __attribute__((noreturn)) wait_for_child(int pipe, pid_t child)
{
	char byte;
	ssize_t n;
	int status;
	do
		n = read(pipe, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(0);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	/* A child that ends well without ever having served was told to stop. */
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int daemon_begin(const struct config *config)
{
	int ends[2];
	strcpy(self.pid_file, config->pid_file);
	if (!config->background)
		return 0;
	strcpy(self.log_file, config->log_file);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid_t child = fork();
	if (child < 0) {
		int error = -errno;
		close(ends[0]);
		close(ends[1]);
		return error;
	}
	if (child > 0) {
		close(ends[1]);
		wait_for_child(ends[0], child);
	}
	close(ends[0]);
	self.pipe = ends[1];
	return 0;
}

static void notify_systemd(const char *message)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(to.sun_path))
		return;
	strcpy(to.sun_path, path);
	if (*path == '@')
		to.sun_path[0] = 0; /* an abstract name */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (sendto(fd, message, strlen(message), MSG_NOSIGNAL, (struct sockaddr *)&to, size) < 0)
		log_debug("systemd does not hear us: %s", strerror(errno));
	close(fd);
}

static void write_pid_file(void)
{
	FILE *file = fopen(self.pid_file, "we");
	if (file)
		fprintf(file, "%d\n", (int)getpid());
	if (!file || fclose(file) != 0)
		log_warning("cannot write the pid file %s: %s", self.pid_file, strerror(errno));
}

static void redirect(int from, const char *path, int flags)
{
	int to = open(path, flags | O_CLOEXEC, 0640);
	if (to < 0) {
		log_warning("cannot open %s: %s", path, strerror(errno));
		return;
	}
	if (dup2(to, from) < 0)
		log_warning("cannot redirect to %s: %s", path, strerror(errno));
	close(to);
}

static void leave_terminal(void)
{
	setsid();
	if (chdir("/") < 0)
		log_warning("cannot leave the working directory: %s", strerror(errno));
	redirect(STDIN_FILENO, "/dev/null", O_RDONLY);
	redirect(STDOUT_FILENO, "/dev/null", O_WRONLY);
	redirect(STDERR_FILENO, self.log_file, O_WRONLY | O_CREAT | O_APPEND);
}

void daemon_ready(void)
{
	char message[64];
	if (self.ready)
		return;
	self.ready = true;
	if (self.pid_file[0])
		write_pid_file();
	snprintf(message, sizeof(message), "READY=1\nMAINPID=%d\n", (int)getpid());
	notify_systemd(message);
	if (self.pipe < 0)
		return;
	leave_terminal();
	if (write(self.pipe, "", 1) != 1)
		log_debug("nobody waits for our being ready");
	close(self.pipe);
	self.pipe = -1;
}

void daemon_tell(const char *status)
{
	char message[256];
	snprintf(message, sizeof(message), "STATUS=%s\n", status);
	notify_systemd(message);
}

void daemon_end(void)
{
	if (!self.ready)
		return;
	notify_systemd("STOPPING=1\n");
	if (self.pid_file[0] && unlink(self.pid_file) < 0 && errno != ENOENT)
		log_warning("cannot remove the pid file %s: %s", self.pid_file, strerror(errno));
	self.ready = false;
}
