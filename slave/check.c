/*
 * The two commands. What they have in common is the environment and that their results are kept for 'status'; what differs is the tree: a check
 * gets a mount of its own (a second slave mount that shows the version that is staged), which is there only while it runs, and
 * is gone before the answer is given.
 */
#include "slave/check.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/log.h"
#include "drsfs/mountpoint.h"
#include "slave/mount.h"

#define TREE_NAME "prepared" /* in the state directory */
#define TREE_THREADS 2

/* ---- what both have */

struct variables {
	char tree[PATH_MAX + 16], mountpoint[PATH_MAX + 24], name[96], version[40], previous[40];
	const char *list[6];
};

static void variables_set(struct variables *v, const struct config *config, const char *tree, version_t version, version_t previous)
{
	snprintf(v->tree, sizeof(v->tree), "DRSFS_TREE=%s", tree);
	snprintf(v->mountpoint, sizeof(v->mountpoint), "DRSFS_MOUNTPOINT=%s", config->mountpoint);
	snprintf(v->name, sizeof(v->name), "DRSFS_NAME=%s", config->name);
	snprintf(v->version, sizeof(v->version), "DRSFS_VERSION=%llu", (unsigned long long)version);
	snprintf(v->previous, sizeof(v->previous), "DRSFS_PREVIOUS=%llu", (unsigned long long)previous);
	const char *const list[] = { v->tree, v->mountpoint, v->name, v->version, v->previous, NULL };
	memcpy(v->list, list, sizeof(list));
}

/* In one line, for the log. */
static void log_result(enum log_level level, const char *what, version_t version, const struct hook_result *r)
{
	char line[DRS_REASON_BYTES_MAX];

	strcpy(line, r->output);
	for (char *c = line; *c; c++)
		if (*c == '\n')
			*c = ' ';
	log_at(level, "%s version %llu: %s%s%s", what, (unsigned long long)version, r->words, *line ? ": " : "", line);
}

static bool same_result(const struct hook_result *a, const struct hook_result *b)
{
	return strcmp(a->words, b->words) == 0 && strcmp(a->output, b->output) == 0;
}

/* ---- check */

struct check {
	struct event_base *base;
	struct store *store;
	const struct config *config;
	char tree[PATH_MAX];
	struct slave_mount *mount;
	struct hook *hook;        /* NULL: none runs */
	atomic_bool mount_ended;  /* somebody unmounted it */
	struct command_status status;
	void (*done)(void *user, int error, const char *reason);
	void *user;
};

int check_new(struct event_base *base, struct store *store, const struct config *config, struct check **ret_check)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->base = base;
	c->store = store;
	c->config = config;
	c->status.command = config->check;
	if ((size_t)snprintf(c->tree, sizeof(c->tree), "%s/" TREE_NAME, config->state) >= sizeof(c->tree)) {
		free(c);
		return -ENAMETOOLONG;
	}
	*ret_check = c;
	return 0;
}

void check_free(struct check *c)
{
	if (!c)
		return;
	check_cancel(c);
	free(c);
}

bool check_configured(const struct check *c)
{
	return *c->config->check;
}

void check_on_done(struct check *c, void (*done)(void *user, int error, const char *reason), void *user)
{
	c->done = done;
	c->user = user;
}

void check_status(const struct check *c, struct command_status *ret_status)
{
	*ret_status = c->status;
}

void check_clear(const char *state_dir)
{
	char tree[PATH_MAX];

	if ((size_t)snprintf(tree, sizeof(tree), "%s/" TREE_NAME, state_dir) < sizeof(tree) && mountpoint_prepare(tree) == 0)
		rmdir(tree);
}

/* On one of the mount's threads. */
static void on_mount_ended(void *user, int error)
{
	struct check *c = user;

	(void)error;
	c->mount_ended = true;
}

static int mount_tree(struct check *c, version_t version)
{
	struct slave_mount_options options = {
		.mountpoint = c->tree,
		.mount_options = c->config->mount_options,
		.allow_other = c->config->allow_other,
		.version = version,
		.threads = TREE_THREADS,
	};

	if (mkdir(c->tree, 0700) < 0 && errno != EEXIST && errno != ENOTCONN)
		return -errno;
	c->mount_ended = false;
	int error = slave_mount_new(c->store, &options, on_mount_ended, c, &c->mount);
	return error < 0 ? error : slave_mount_start(c->mount);
}

/* The command has ended or was killed: nobody who was asked to look needs it any more; what still looks gets an error. */
static void unmount_tree(struct check *c)
{
	slave_mount_free(c->mount);
	c->mount = NULL;
	rmdir(c->tree);
}

static void end(struct check *c)
{
	hook_free(c->hook);
	c->hook = NULL;
	c->status.running = false;
	unmount_tree(c);
}

/* What the command said is reason enough, if it ended by itself. */
static void reason_of(const struct hook_result *r, char reason[DRS_REASON_BYTES_MAX])
{
	enum { BESIDE_BYTES_MAX = 400 };
	size_t size = strlen(r->output);

	if (strncmp(r->words, "exit code", 9) == 0 && size > 0)
		strcpy(reason, r->output);
	else
		snprintf(reason, DRS_REASON_BYTES_MAX, "check: %s%s%.400s", r->words, size > 0 ? "\n" : "",
			 r->output + (size > BESIDE_BYTES_MAX ? size - BESIDE_BYTES_MAX : 0));
}

/* A version is tried again and again: each finding is logged once. */
static void found(struct check *c, const struct hook_result *r, const char *what)
{
	struct command_status *s = &c->status;

	if (r->good)
		log_info("the check accepts version %llu", (unsigned long long)s->version);
	else if (s->result_version != s->version || !same_result(&s->result, r))
		log_result(LOG_LEVEL_WARNING, what, s->version, r);
	s->result = *r;
	s->result_version = s->version;
}

static void on_checked(void *user, const struct hook_result *result)
{
	struct check *c = user;
	struct hook_result r = *result;
	char reason[DRS_REASON_BYTES_MAX] = "";
	int error = r.good ? 0 : -DRS_EREFUSED;

	if (r.good && c->mount_ended) { /* it has not looked at all of it: to be tried again soon */
		r.good = false;
		error = -EIO;
		strcpy(r.words, "its tree was unmounted meanwhile");
	}
	end(c);
	found(c, &r, "the check refuses");
	if (!r.good)
		reason_of(&r, reason);
	c->done(c->user, error, reason);
}

static int start_command(struct check *c, version_t version, version_t shown)
{
	struct variables variables;
	struct hook_options options = {
		.command = c->config->check,
		.directory = c->tree,
		.environment = variables.list,
		.timeout_ms = c->config->check_timeout_ms,
		.alone = true,
	};

	variables_set(&variables, c->config, c->tree, version, shown);
	return hook_start(c->base, &options, on_checked, c, &c->hook);
}

static int not_begun(struct check *c, int error, const char *what, char reason[DRS_REASON_BYTES_MAX])
{
	struct hook_result r = { .good = false };

	snprintf(r.words, sizeof(r.words), "%s: %s", what, error_text(error));
	snprintf(r.output, sizeof(r.output), "%.400s", c->tree);
	end(c);
	found(c, &r, "there can be no check of");
	snprintf(reason, DRS_REASON_BYTES_MAX, "%.80s (%.400s)", r.words, c->tree);
	return error;
}

int check_begin(struct check *c, version_t version, version_t shown, char ret_reason[DRS_REASON_BYTES_MAX])
{
	check_cancel(c);
	c->status.version = version;
	int error = mount_tree(c, version);
	if (error < 0)
		return not_begun(c, error, "the tree to check cannot be mounted", ret_reason);
	error = start_command(c, version, shown);
	if (error < 0)
		return not_begun(c, error, "the check cannot be started", ret_reason);
	c->status.running = true;
	return 0;
}

void check_cancel(struct check *c)
{
	if (c->hook)
		end(c);
}

/* ---- after */

struct after {
	struct event_base *base;
	const struct config *config;
	struct hook *hook;       /* NULL: none runs */
	version_t waiting;       /* shown since it began; 0: none */
	struct command_status status;
};

int after_new(struct event_base *base, const struct config *config, struct after **ret_after)
{
	struct after *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->base = base;
	a->config = config;
	a->status.command = config->after;
	*ret_after = a;
	return 0;
}

void after_free(struct after *a)
{
	if (!a)
		return;
	hook_free(a->hook);
	free(a);
}

void after_status(const struct after *a, struct command_status *ret_status)
{
	*ret_status = a->status;
}

static void after_begin(struct after *a, version_t version);

static void after_ended(struct after *a, const struct hook_result *r)
{
	version_t waiting = a->waiting;

	a->waiting = 0;
	a->status.running = false;
	a->status.result = *r;
	a->status.result_version = a->status.version;
	log_result(r->good ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, "'after' for", a->status.version, r);
	if (waiting)
		after_begin(a, waiting);
}

static void on_after_done(void *user, const struct hook_result *r)
{
	struct after *a = user;

	hook_free(a->hook);
	a->hook = NULL;
	after_ended(a, r);
}

static void after_begin(struct after *a, version_t version)
{
	struct variables variables;
	struct hook_options options = {
		.command = a->config->after,
		.directory = "/",
		.environment = variables.list,
		.timeout_ms = a->config->after_timeout_ms,
	};

	variables_set(&variables, a->config, a->config->mountpoint, version, a->status.version);
	a->status.version = version;
	int error = hook_start(a->base, &options, on_after_done, a, &a->hook);
	a->status.running = error == 0;
	if (error == 0)
		return;
	struct hook_result r = { .good = false };
	snprintf(r.words, sizeof(r.words), "cannot be started: %s", error_text(error));
	after_ended(a, &r);
}

void after_shown(struct after *a, version_t version)
{
	if (!*a->config->after)
		return;
	if (a->hook)
		a->waiting = version;
	else
		after_begin(a, version);
}
