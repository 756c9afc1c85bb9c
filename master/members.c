/* The list in memory and the file that holds it (members.h). */
#include "master/members.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drsfs/buffer.h"
#include "drsfs/drs.h"
#include "drsfs/error.h"
#include "drsfs/wire.h"

#define FILE_NAME "members"
#define MEMBERS_MAX 100000

struct members {
	int dir_fd;
	size_t count, capacity;
	char (*names)[NAME_TEXT_MAX];
};

/* --- in memory */

static size_t find(const struct members *m, const char *name)
{
	size_t i = 0;
	while (i < m->count && strcmp(m->names[i], name) != 0)
		i++;
	return i;
}

static int append(struct members *m, const char *name)
{
	if (m->count == m->capacity) {
		size_t capacity = m->capacity ? 2 * m->capacity : 16;
		void *names = realloc(m->names, capacity * sizeof(*m->names));
		if (!names)
			return -ENOMEM;
		m->names = names;
		m->capacity = capacity;
	}
	strcpy(m->names[m->count++], name);
	return 0;
}

static void take_out(struct members *m, size_t i)
{
	memmove(m->names + i, m->names + i + 1, (m->count - i - 1) * sizeof(*m->names));
	m->count--;
}

/* --- the file */

static int write_all(int fd, struct slice bytes)
{
	const char *at = bytes.data, *end = at + bytes.size;
	while (at < end) {
		ssize_t n = write(fd, at, (size_t)(end - at));
		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? n : 0;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_new(const struct members *m, struct slice text)
{
	int fd = openat(m->dir_fd, FILE_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int error = write_all(fd, text);
	if (close(fd) < 0 && error == 0)
		error = -errno;
	return error;
}

static int save(const struct members *m)
{
	struct buffer text = BUFFER_INIT;
	for (size_t i = 0; i < m->count; i++) {
		buffer_add(&text, m->names[i], strlen(m->names[i]));
		buffer_add_u8(&text, '\n');
	}
	int error = text.failed ? -ENOMEM : write_new(m, buffer_slice(&text));
	buffer_fini(&text);
	if (error == 0 && renameat(m->dir_fd, FILE_NAME ".new", m->dir_fd, FILE_NAME) < 0)
		error = -errno;
	if (error < 0)
		unlinkat(m->dir_fd, FILE_NAME ".new", 0);
	else if (fsync(m->dir_fd) < 0)
		error = -errno;
	return error;
}

static int parse_line(struct members *m, char *line)
{
	line[strcspn(line, "\n")] = 0;
	if (!wire_name_valid(line))
		return -DRS_ECORRUPT;
	return find(m, line) < m->count ? 0 : append(m, line);
}

static int load(struct members *m)
{
	int fd = openat(m->dir_fd, FILE_NAME, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	FILE *file = fdopen(fd, "r");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	char *line = NULL;
	size_t size = 0;
	int error = 0;
	while (error == 0 && getline(&line, &size, file) >= 0)
		error = m->count < MEMBERS_MAX ? parse_line(m, line) : -DRS_ECORRUPT;
	if (error == 0 && ferror(file))
		error = -EIO;
	free(line);
	fclose(file);
	return error;
}

int members_load(const char *state_dir, struct members **ret_members)
{
	struct members *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = m->dir_fd < 0 ? -errno : load(m);
	if (error < 0) {
		members_free(m);
		return error;
	}
	*ret_members = m;
	return 0;
}

void members_free(struct members *m)
{
	if (!m)
		return;
	if (m->dir_fd >= 0)
		close(m->dir_fd);
	free(m->names);
	free(m);
}

size_t members_count(const struct members *m)
{
	return m->count;
}

const char *members_name(const struct members *m, size_t i)
{
	return m->names[i];
}

int members_add(struct members *m, const char *name)
{
	if (!wire_name_valid(name))
		return -EINVAL;
	if (find(m, name) < m->count)
		return 0;
	int error = append(m, name);
	if (error < 0)
		return error;
	error = save(m);
	if (error < 0)
		m->count--;
	return error;
}

int members_remove(struct members *m, const char *name)
{
	size_t i = find(m, name);
	if (i == m->count)
		return -ENOENT;
	char kept[NAME_TEXT_MAX];
	strcpy(kept, name);
	take_out(m, i);
	int error = save(m);
	if (error < 0 && append(m, kept) < 0)
		error = -ENOMEM;
	return error;
}
