/* A master's mount for tests: own temporary directory, own store, real mount; at the end the store must verify. */
#ifndef MOUNT_MASTER_FIXTURE_H
#define MOUNT_MASTER_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "master/mount.h"
#include "store/content.h"

struct fixture {
	char dir[64], state[96], mountpoint[96];
	struct store *store;
	struct master_mount *mount;
	struct master_mount_options options;
	atomic_ulong versions;
	_Atomic version_t published;
	atomic_int ended; /* 1: unmounted; negative: that error */
	/* A batch's commit was proposed: NULL decides at once. */
	void (*propose)(void *user, const struct batch_info *, const struct commit_options *, struct slice inline_delta);
	void (*decided)(void *user, version_t, bool commit, int error);
};

static inline void fixture_published(void *user, const struct version_info *info, struct slice inline_delta)
{
	struct fixture *f = user;
	(void)inline_delta;
	atomic_fetch_add(&f->versions, 1);
	atomic_store(&f->published, info->version);
}

static inline void fixture_ended(void *user, int error)
{
	struct fixture *f = user;
	atomic_store(&f->ended, error ? error : 1);
}

static inline bool fixture_possible(void)
{
	return geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0;
}

static inline void fixture_up(struct fixture *f)
{
	struct store_options options = { .dir = f->state, .role = STORE_MASTER, .create = true };
	struct master_mount_listener listener = { .user = f, .published = fixture_published, .ended = fixture_ended,
						  .propose = f->propose, .decided = f->decided };
	atomic_store(&f->ended, 0);
	cr_assert(eq(int, store_open(&options, &f->store), 0));
	cr_assert(eq(int, master_mount_new(f->store, &f->options, &listener, &f->mount), 0));
	cr_assert(eq(int, master_mount_start(f->mount), 0));
}

static inline void fixture_finding(void *user, const char *text)
{
	(void)user;
	cr_log_error("verify: %s", text);
}

static inline void fixture_down(struct fixture *f)
{
	master_mount_stop(f->mount);
	master_mount_free(f->mount);
	cr_expect(eq(int, store_verify(f->store, fixture_finding, NULL, NULL), 0));
	store_close(f->store);
}

static inline void fixture_dir(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	strcpy(f->dir, "/tmp/drsfs-mount-XXXXXX");
	cr_assert(ne(ptr, mkdtemp(f->dir), NULL));
	snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
	snprintf(f->mountpoint, sizeof(f->mountpoint), "%s/mnt", f->dir);
	cr_assert(eq(int, mkdir(f->mountpoint, 0755), 0));
	f->options = (struct master_mount_options){ .mountpoint = f->mountpoint, .mount_options = "", .allow_other = true, .publish_delay_ms = 20,
						    .retain_versions = 1000, .retain_ms = 60000, .inline_bytes_max = 1280 };
}

static inline void fixture_remove(struct fixture *f)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", f->dir);
	cr_expect(eq(int, system(command), 0));
}

#define FIXTURE(f)                                  \
	struct fixture f;                           \
	if (!fixture_possible())                    \
		cr_skip_test("needs root and FUSE"); \
	fixture_dir(&f);                            \
	fixture_up(&f)

#define FIXTURE_END(f)              \
	do {                        \
		fixture_down(&f);   \
		fixture_remove(&f); \
	} while (0)

/* A path below the mountpoint; a few at a time. */
static inline const char *at(struct fixture *f, const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % ARRAY_SIZE(paths)];
	snprintf(path, PATH_MAX, "%s/%s", f->mountpoint, name);
	return path;
}

static inline void put_file(struct fixture *f, const char *name, const char *text)
{
	int fd = open(at(f, name), O_CREAT | O_WRONLY | O_TRUNC, 0644);
	cr_assert(ge(int, fd, 0));
	cr_assert(eq(long, write(fd, text, strlen(text)), (long)strlen(text)));
	cr_assert(eq(int, close(fd), 0));
}

static inline const char *file_text(struct fixture *f, const char *name)
{
	static char text[4096];
	int fd = open(at(f, name), O_RDONLY);
	if (fd < 0)
		return "(none)";
	ssize_t size = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[size > 0 ? size : 0] = 0;
	return text;
}

static inline int shell(struct fixture *f, const char *format, ...)
{
	char command[2048];
	int used = snprintf(command, sizeof(command), "cd %s && ", f->mountpoint);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(command + used, sizeof(command) - (size_t)used, format, arguments);
	va_end(arguments);
	return system(command);
}

/* Everything finished is published: a directory sync returns when it is. */
static inline void sync_all(struct fixture *f)
{
	int fd = open(f->mountpoint, O_RDONLY | O_DIRECTORY);
	cr_assert(ge(int, fd, 0));
	cr_assert(eq(int, fsync(fd), 0));
	close(fd);
}

static inline int text_sink(void *user, const void *data, size_t size)
{
	char *text = user;
	if (data)
		strncat(text, data, size);
	return 0;
}

/* What a reader of the newest version sees in the root directory under a name. */
static inline const char *published_text(struct fixture *f, const char *name)
{
	static char text[4096];
	struct txn *txn;
	struct slice value;
	struct node node;
	ino_id ino;
	uint8_t type;
	strcpy(text, "(none)");
	cr_assert(eq(int, txn_begin_read(f->store, &txn), 0));
	struct view view = { .version = txn_state(txn)->current };
	struct record_key key = record_key_name(txn, INO_ROOT, name, strlen(name));
	if (record_get(txn, view, &key, &value, NULL) == 0) {
		cr_assert(eq(int, name_decode(value, &ino, &type), 0));
		key = record_key_node(ino);
		cr_assert(eq(int, record_get(txn, view, &key, &value, NULL), 0));
		cr_assert(eq(int, node_decode(value, &node), 0));
		text[0] = 0;
		cr_assert(eq(int, content_read(txn, &node, 0, sizeof(text) - 1, text_sink, text), 0));
	}
	txn_abort(txn);
	return text;
}

#define shows(f, name, expected)                                                             \
	do {                                                                                  \
		sync_all(&f);                                                                 \
		cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, name), expected));     \
	} while (0)
#define holds(f, name, expected) cr_expect(eq(str, (char *)(uintptr_t)file_text(&f, name), expected))

#endif
