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

/* One conversation: what has come and is not a whole line yet stays in 'in'. */
struct conversation {
	int fd;
	time_ms timeout_ms; /* for each line; negative: none */
	const struct client_listener *listener;
	struct buffer in;
};

/* Wait until the daemon has said something: 0 or -ETIMEDOUT. 'until' < 0: for ever. */
static int wait_readable(const struct conversation *c, time_ms until)
{
	for (;;) {
		time_ms left = until < 0 ? -1 : until - clock_ms();
		if (until >= 0 && left <= 0)
			return -ETIMEDOUT;
		struct pollfd wait[] = { { .fd = c->fd, .events = POLLIN }, { .fd = c->listener ? c->listener->wake_fd : -1, .events = POLLIN } };
		int n = poll(wait, ARRAY_SIZE(wait), left > 1000 * 1000 ? 1000 * 1000 : (int)left);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && wait[1].revents)
			c->listener->woken(c->listener->user);
		if (n > 0 && wait[0].revents)
			return 0;
	}
}

/* Have a whole line at the start of what came; its length without the end. */
static int receive_line(struct conversation *c, size_t *ret_size)
{
	time_ms until = c->timeout_ms < 0 ? -1 : clock_ms() + c->timeout_ms;
	for (size_t looked = 0;;) {
		const uint8_t *end = looked < c->in.size ? memchr(c->in.data + looked, '\n', c->in.size - looked) : NULL;
		if (end) {
			*ret_size = (size_t)(end - c->in.data);
			return 0;
		}
		looked = c->in.size;
		if (looked > CLIENT_REPLY_BYTES_MAX)
			return -DRS_ETOOBIG;
		int r = wait_readable(c, until);
		if (r < 0)
			return r;
		char part[4096];
		ssize_t n = recv(c->fd, part, sizeof(part), MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -DRS_ELINK;
		buffer_add(&c->in, part, (size_t)n);
		if (c->in.failed)
			return -ENOMEM;
	}
}

static void take_line(struct conversation *c, size_t size)
{
	c->in.size -= size + 1;
	memmove(c->in.data, c->in.data + size + 1, c->in.size);
}

/* Up to the line that is the answer. */
static int listen_on(struct conversation *c, json_t **ret_reply)
{
	for (;;) {
		size_t size;
		int r = receive_line(c, &size);
		if (r < 0)
			return r;
		json_t *line = json_loadb((const char *)c->in.data, size, 0, NULL);
		take_line(c, size);
		if (!json_is_object(line)) {
			json_decref(line);
			return -DRS_EPROTOCOL;
		}
		if (!json_is_true(json_object_get(line, "progress"))) {
			*ret_reply = line;
			return 0;
		}
		if (c->listener && c->listener->progress)
			c->listener->progress(c->listener->user, line);
		json_decref(line);
	}
}

int client_converse(const char *state, const json_t *request, time_ms timeout_ms, const struct client_listener *listener, json_t **ret_reply)
{
	struct conversation c = { .fd = connect_to(state), .timeout_ms = timeout_ms, .listener = listener };
	if (c.fd < 0)
		return c.fd;
	int r = send_line(c.fd, request);
	if (r == 0)
		r = listen_on(&c, ret_reply);
	buffer_fini(&c.in);
	close(c.fd);
	return r;
}

int client_ask(const char *state, const json_t *request, time_ms timeout_ms, json_t **ret_reply)
{
	return client_converse(state, request, timeout_ms, NULL, ret_reply);
}
