/* The asking end of the control socket. Blocking: its users are short-lived programs that have nothing else to do. */
#include "drsfs/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "drsfs/buffer.h"
#include "drsfs/error.h"

/* The socket's name is taken relative to the directory's descriptor: a state directory's path may be longer than a socket address. */
static int connect_to(const char *state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int dir = open(state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = fd < 0 ? -errno : 0;
	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/control", dir);
	if (!error && connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		error = -errno;
	close(dir);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}

static int send_line(int fd, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	size_t size = strlen(text), sent = 0;
	text[size++] = '\n'; /* in place of the NUL */
	while (sent < size) {
		ssize_t n = send(fd, text + sent, size - sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR) {
			free(text);
			return -errno;
		}
		sent += n > 0 ? (size_t)n : 0;
	}
	free(text);
	return 0;
}

static time_ms clock_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (time_ms)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until there is something to read: 0 or -ETIMEDOUT. 'until' < 0: for ever. */
static int wait_readable(int fd, time_ms until)
{
	for (;;) {
		time_ms left = until < 0 ? -1 : until - clock_ms();
		if (until >= 0 && left <= 0)
			return -ETIMEDOUT;
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		int n = poll(&wait, 1, left > 1000 * 1000 ? 1000 * 1000 : (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int receive_line(int fd, time_ms until, struct buffer *line)
{
	char part[4096];
	for (;;) {
		int r = wait_readable(fd, until);
		if (r < 0)
			return r;
		ssize_t n = recv(fd, part, sizeof(part), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -DRS_ELINK;
		const char *end = memchr(part, '\n', (size_t)n);
		buffer_add(line, part, end ? (size_t)(end - part) : (size_t)n);
		if (line->failed)
			return -ENOMEM;
		if (line->size > CLIENT_REPLY_BYTES_MAX)
			return -DRS_ETOOBIG;
		if (end)
			return 0;
	}
}

int client_ask(const char *state, const json_t *request, time_ms timeout_ms, json_t **ret_reply)
{
	time_ms until = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
	struct buffer line = BUFFER_INIT;
	int fd = connect_to(state);
	if (fd < 0)
		return fd;
	int r = send_line(fd, request);
	if (r == 0)
		r = receive_line(fd, until, &line);
	if (r == 0) {
		json_t *reply = json_loadb((const char *)line.data, line.size, 0, NULL);
		if (json_is_object(reply)) {
			*ret_reply = reply;
		} else {
			json_decref(reply);
			r = -DRS_EPROTOCOL;
		}
	}
	buffer_fini(&line);
	close(fd);
	return r;
}
