/*
 * The smallest user of the DRS layer, for tests of the node: a map whose bytes follow from its version, so that both sides can tell whether a replica is whole.
 * A version is an integer, big-endian, in the first 8 bytes. A delta is the whole map: "B" version size, then "D" bytes ...; the slave ends it with
 * "E". An inline delta is "I" from to. One header, as each test is one file.
 *
 * What became of each version is kept beside both, for the whole process: a slave that shows one that was not committed is wrong (R4.5, R4.8).
 */
#ifndef TESTS_LIB_MAP_USER_H
#define TESTS_LIB_MAP_USER_H

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/log.h"
#include "drsfs/node.h"

#define MAP_FRAME_BYTES ((size_t)100 << 10)

static const struct did map_did = { { 0xd1, 0xd2, 0xd3, 0xd4 } };

/* --- versions */

static inline struct drs_version map_version(uint64_t number)
{
	struct drs_version v = { 0 };
	put_be64(v.bytes, number);
	return v;
}

static inline uint64_t map_number(const struct drs_version *v)
{
	return get_be64(v->bytes);
}

static bool map_equal(const struct drs_version *a, const struct drs_version *b)
{
	return map_number(a) == map_number(b);
}

static bool map_greater(const struct drs_version *a, const struct drs_version *b)
{
	return map_number(a) > map_number(b);
}

static struct drs_version map_next(const struct drs_version *v)
{
	return map_version(map_number(v) + 1);
}

static void map_format(const struct drs_version *v, char text[40])
{
	snprintf(text, 40, "%llu", (unsigned long long)map_number(v));
}

static const struct drs_version_ops map_ops = { map_equal, map_greater, map_next, map_format };

static inline uint8_t map_byte(uint64_t version, size_t at)
{
	return (uint8_t)(version * 31 + at * 7 + (at >> 12));
}

#define MAP_VERSIONS_MAX ((size_t)1 << 20)
enum map_fate { MAP_COMMITTED = 1, MAP_ABORTED = 2 };
static _Atomic uint8_t map_fates[MAP_VERSIONS_MAX];

/* --- the master's user */

#define MAP_MEMBERS_MAX 16

struct map_master {
	_Atomic uint64_t version;  /* the newest that it started one phase for, or committed */
	_Atomic uint64_t serves;   /* where its deltas lead to: the newest that is current */
	uint64_t last;             /* number used */
	size_t bytes;              /* of the map */
	_Atomic unsigned opened, frames, closed, proposed_opened;
	atomic_int store_failures; /* so many STOREs fail first */
	struct node *node;
	struct drs_master *drs;
	pthread_t thread;

	/* its members, known over restarts */
	size_t members_count;
	char members[MAP_MEMBERS_MAX][NAME_TEXT_MAX];

	/* two phase */
	atomic_int decide_failures; /* so many commits cannot be stored */
	atomic_bool decide_later;   /* not within the upcall */
	_Atomic unsigned started, done, wrong; /* jobs; decisions that contradict others */
	_Atomic uint64_t proposed;  /* of the job that runs; 0: none */
	_Atomic uint64_t done_version;
	atomic_int done_error;
	struct drs_version deciding;
	bool deciding_commit;
	pthread_mutex_t lock;       /* of the next three */
	size_t votes_count;
	struct drs_vote votes[MAP_MEMBERS_MAX]; /* as last told */
	unsigned seen[MAP_MEMBERS_MAX];         /* the answers that the vote at this place ever was, as bits */
};

struct map_source {
	uint64_t version;
	size_t at, bytes;
	bool begun, over;
};

static int map_store_version(void *user, const struct drs_version *v)
{
	struct map_master *m = user;
	if (atomic_load(&m->store_failures) > 0 && atomic_fetch_sub(&m->store_failures, 1) > 0)
		return -EIO;
	map_fates[map_number(v)] |= MAP_COMMITTED;
	m->serves = map_number(v);
	return 0;
}

static int map_delta_open(void *user, const struct drs_version *proposed, struct slice opening, void **ret_source)
{
	struct map_master *m = user;
	struct map_source *s;
	if (opening.size != 9)
		return -DRS_EPROTOCOL;
	s = calloc(1, sizeof(*s));
	s->version = proposed ? map_number(proposed) : m->serves;
	m->proposed_opened += proposed != NULL;
	s->bytes = m->bytes;
	m->opened++;
	*ret_source = s;
	return 0;
}

static int map_delta_next(void *user, void *source, struct buffer *frame)
{
	struct map_master *m = user;
	struct map_source *s = source;
	if (!s->begun) {
		s->begun = true;
		buffer_add_u8(frame, 'B');
		buffer_add_be64(frame, s->version);
		buffer_add_be64(frame, s->bytes);
		return 1;
	}
	if (s->at == s->bytes)
		return s->over ? 0 : -EAGAIN;
	size_t size = s->bytes - s->at < MAP_FRAME_BYTES ? s->bytes - s->at : MAP_FRAME_BYTES;
	buffer_add_u8(frame, 'D');
	uint8_t *to = buffer_grow(frame, size);
	for (size_t i = 0; i < size; i++)
		to[i] = map_byte(s->version, s->at + i);
	s->at += size;
	m->frames++;
	return 1;
}

static int map_delta_feed(void *user, void *source, struct slice frame)
{
	struct map_source *s = source;
	(void)user;
	if (frame.size != 1 || *(const char *)frame.data != 'E')
		return -DRS_EPROTOCOL;
	s->over = true;
	return 0;
}

static void map_delta_close(void *user, void *source)
{
	struct map_master *m = user;
	m->closed++;
	free(source);
}

static void map_member_add(struct map_master *m, const char *name)
{
	for (size_t i = 0; i < m->members_count; i++)
		if (strcmp(m->members[i], name) == 0)
			return;
	if (m->members_count < MAP_MEMBERS_MAX)
		strcpy(m->members[m->members_count++], name);
}

static int map_admit(void *user, const char *name, struct buffer *ret_credentials)
{
	struct map_master *m = user;
	buffer_add(ret_credentials, name, strlen(name));
	if (strcmp(name, "unwanted") == 0)
		return -EACCES;
	map_member_add(m, name);
	return 0;
}

/* Durable, in the only place that a map has. */
static int map_decision(struct map_master *m, uint64_t version, bool commit)
{
	if (commit && atomic_load(&m->decide_failures) > 0 && atomic_fetch_sub(&m->decide_failures, 1) > 0)
		return -ENOSPC;
	uint8_t before = atomic_fetch_or(&map_fates[version], commit ? MAP_COMMITTED : MAP_ABORTED);
	if (before != 0 || version != m->proposed)
		m->wrong++;
	if (commit)
		m->serves = version;
	if (commit && m->version < version)
		m->version = version;
	return 0;
}

static void map_decide_later(void *user)
{
	struct map_master *m = user;
	drs_decided(m->drs, &m->deciding, map_decision(m, map_number(&m->deciding), m->deciding_commit));
}

static void map_decide(void *user, const struct drs_version *v, bool commit)
{
	struct map_master *m = user;
	m->deciding = *v;
	m->deciding_commit = commit;
	if (m->decide_later)
		node_post(m->node, map_decide_later, m);
	else
		map_decide_later(m);
}

static void map_voted(void *user)
{
	struct map_master *m = user;
	const struct drs_vote *votes;
	size_t count = drs_votes(m->drs, &votes);
	pthread_mutex_lock(&m->lock);
	m->votes_count = count < MAP_MEMBERS_MAX ? count : MAP_MEMBERS_MAX;
	for (size_t i = 0; i < m->votes_count; i++) {
		m->votes[i] = votes[i];
		m->seen[i] |= 1u << votes[i].answer;
	}
	pthread_mutex_unlock(&m->lock);
}

static void map_two_phase_done(void *user, const struct drs_version *v, int error)
{
	struct map_master *m = user;
	if (map_number(v) == m->proposed && error != -EBUSY) {
		map_voted(m);
		m->proposed = 0;
	}
	m->done_version = map_number(v);
	m->done_error = error;
	m->done++;
}

/* --- the slave's user */

struct map_slave {
	_Atomic uint64_t version; /* durable and visible */
	uint8_t *map;
	size_t bytes, got;
	uint64_t pulling; /* the version that comes */
	bool ended;
	_Atomic unsigned pulls, commits, inlines, takes, closes, changes, corrupt, admissions;
	/* two phase; "late": an answer that does not come within its upcall */
	uint64_t staged, prepared;   /* 0: nothing */
	atomic_int check_error;      /* of checks from now on; 0: they are passed */
	const char *reason;          /* for it */
	atomic_int late_ms;          /* after which it answers; 0: at once; negative: never */
	enum map_late { MAP_NOT_LATE, MAP_LATE_COMMIT, MAP_LATE_INLINE, MAP_LATE_CHECK, MAP_LATE_COMMIT_PREPARED } late;
	time_ms late_due;
	uint64_t inline_to;
	bool no_two_phase;           /* its user has none */
	_Atomic unsigned prepares, checks, staged_pulls, prepare_commits, aborts, cancelled;
	bool known; /* admitted once */
	struct did did;
	struct node *node;
	struct drs_slave *drs;
	pthread_t thread;
};

static int map_admitted(void *user, const struct did *did, struct slice credentials)
{
	struct map_slave *s = user;
	assert(credentials.size > 0);
	s->admissions++;
	s->known = true;
	s->did = *did;
	return 0;
}

static int map_pull_open(void *user, bool complete, struct buffer *ret_opening)
{
	struct map_slave *s = user;
	s->pulls++;
	s->got = s->bytes = 0;
	s->pulling = 0;
	s->ended = false;
	buffer_add_u8(ret_opening, complete);
	buffer_add_be64(ret_opening, s->version);
	return 0;
}

static int map_pull_feed(void *user, struct slice frame)
{
	struct map_slave *s = user;
	struct reader r = reader_of(frame);
	uint8_t kind = read_u8(&r);
	if (kind == 'B') {
		s->pulling = read_be64(&r);
		s->bytes = read_be64(&r);
		free(s->map);
		s->map = malloc(s->bytes + 1);
		return r.failed ? -DRS_EPROTOCOL : 0;
	}
	if (kind != 'D' || reader_left(&r) > s->bytes - s->got)
		return -DRS_EPROTOCOL;
	memcpy(s->map + s->got, r.at, reader_left(&r));
	s->got += reader_left(&r);
	return 0;
}

static bool map_pull_ready(void *user)
{
	struct map_slave *s = user;
	return s->pulling && s->got == s->bytes;
}

static int map_pull_next(void *user, struct buffer *frame)
{
	struct map_slave *s = user;
	if (!map_pull_ready(s) || s->ended)
		return 0;
	s->ended = true;
	buffer_add_u8(frame, 'E');
	return 1;
}

static void map_show(struct map_slave *s, uint64_t version)
{
	if (version <= s->version || version >= MAP_VERSIONS_MAX || map_fates[version] != MAP_COMMITTED)
		s->corrupt++;
	s->version = version;
}

static bool map_is_whole(const struct map_slave *s)
{
	for (size_t i = 0; i < s->bytes; i++)
		if (s->map[i] != map_byte(s->pulling, i))
			return false;
	return s->got == s->bytes;
}

/* --- answers at once or later: what 'late' does is done when it is answered */

static int map_do(struct map_slave *s, enum map_late late, struct drs_version *ret_version)
{
	int error = 0;
	switch (late) {
	case MAP_LATE_COMMIT:
		s->corrupt += !map_is_whole(s);
		s->commits++;
		map_show(s, s->pulling);
		break;
	case MAP_LATE_INLINE:
		s->inlines++;
		map_show(s, s->inline_to);
		break;
	case MAP_LATE_CHECK:
		s->checks++;
		error = s->check_error;
		s->prepared = error ? 0 : s->staged;
		break;
	case MAP_LATE_COMMIT_PREPARED:
		s->prepare_commits++;
		s->corrupt += s->prepared == 0;
		map_show(s, s->prepared);
		s->staged = s->prepared = 0;
		break;
	case MAP_NOT_LATE:
		break;
	}
	*ret_version = map_version(s->version);
	return error;
}

static void map_arm(struct map_slave *s, time_ms after);

static void map_on_late(evutil_socket_t fd, short what, void *user)
{
	struct map_slave *s = user;
	struct drs_version version;
	enum map_late late = s->late;
	(void)fd, (void)what;
	if (late == MAP_NOT_LATE)
		return; /* cancelled */
	if (node_now() < s->late_due) {
		map_arm(s, s->late_due - node_now()); /* the timer of one that was cancelled, or this one came early */
		return;
	}
	s->late = MAP_NOT_LATE;
	int error = map_do(s, late, &version);
	drs_slave_done(s->drs, error, &version);
}

static void map_arm(struct map_slave *s, time_ms after)
{
	struct timeval tv = { after / 1000, after % 1000 * 1000 };
	event_base_once(node_base(s->node), -1, EV_TIMEOUT, map_on_late, s, &tv);
}

static int map_do_or_later(struct map_slave *s, enum map_late late, struct drs_version *ret_version)
{
	int after = s->late_ms;
	assert(s->late == MAP_NOT_LATE);
	if (after == 0)
		return map_do(s, late, ret_version);
	s->late = late;
	s->late_due = after < 0 ? TIME_NEVER : node_now() + after;
	if (after > 0)
		map_arm(s, after);
	return -EINPROGRESS;
}

static void map_cancel(struct map_slave *s)
{
	s->cancelled += s->late != MAP_NOT_LATE;
	s->late = MAP_NOT_LATE;
}

static int map_pull_commit(void *user, struct drs_version *ret_version)
{
	return map_do_or_later(user, MAP_LATE_COMMIT, ret_version);
}

static void map_pull_close(void *user)
{
	struct map_slave *s = user;
	s->closes += s->late == MAP_NOT_LATE || s->late == MAP_LATE_COMMIT;
	map_cancel(s);
}

static int map_inline_read(struct slice delta, uint64_t *ret_from, uint64_t *ret_to)
{
	struct reader r = reader_of(delta);
	uint8_t kind = read_u8(&r);
	*ret_from = read_be64(&r);
	*ret_to = read_be64(&r);
	return kind != 'I' || r.failed ? -DRS_EPROTOCOL : 0;
}

static int map_commit_inline(void *user, struct slice delta, struct drs_version *ret_version)
{
	struct map_slave *s = user;
	uint64_t from;
	if (map_inline_read(delta, &from, &s->inline_to) < 0 || from != s->version)
		return -DRS_EPROTOCOL;
	return map_do_or_later(s, MAP_LATE_INLINE, ret_version);
}

static int map_take_version(void *user, const struct drs_version *v)
{
	struct map_slave *s = user;
	s->takes++;
	map_show(s, map_number(v));
	return 0;
}

static int map_prepare(void *user, const struct drs_version *v, struct slice delta)
{
	struct map_slave *s = user;
	uint64_t from, to;
	s->prepares++;
	s->staged = s->prepared = s->pulling = 0;
	if (map_inline_read(delta, &from, &to) < 0 || from != s->version || to != map_number(v))
		return 0;
	s->staged = to;
	return 1;
}

static int map_prepare_check(void *user, const struct drs_version *v)
{
	struct map_slave *s = user;
	struct drs_version ignored;
	if (!s->staged) {
		s->staged_pulls++;
		s->staged = s->pulling;
		s->corrupt += !map_is_whole(s);
	}
	s->corrupt += s->staged != map_number(v);
	return map_do_or_later(s, MAP_LATE_CHECK, &ignored);
}

static int map_prepare_commit(void *user, struct drs_version *ret_version)
{
	return map_do_or_later(user, MAP_LATE_COMMIT_PREPARED, ret_version);
}

static void map_prepare_abort(void *user)
{
	struct map_slave *s = user;
	s->aborts++;
	s->staged = s->prepared = 0;
	map_cancel(s);
}

static const char *map_reason(void *user)
{
	struct map_slave *s = user;
	return s->reason ? s->reason : "";
}

static void map_changed(void *user)
{
	struct map_slave *s = user;
	s->changes++;
}

/* --- nodes on threads */

static void *map_thread(void *node)
{
	node_run(node);
	return NULL;
}

static inline void map_run(struct node *node, pthread_t *ret_thread)
{
	pthread_create(ret_thread, NULL, map_thread, node);
}

/* A proposal that was not decided is aborted by the next start (R4.8). */
static inline void map_presume_abort(struct map_master *m)
{
	struct drs_version version = map_version(m->proposed);
	if (m->proposed && map_fates[m->proposed] == 0) {
		map_fates[m->proposed] = MAP_ABORTED;
		drs_tell_aborted(m->drs, &version);
	}
	m->proposed = 0;
}

static inline void map_master_start(struct map_master *m, const struct node_config *config)
{
	m->serves = m->version; /* what it moved to before */
	map_fates[m->serves] |= MAP_COMMITTED;
	struct drs_version version = map_version(m->serves);
	struct drs_master_listener listener = {
		.user = m,
		.store_version = map_store_version,
		.delta_open = map_delta_open,
		.delta_next = map_delta_next,
		.delta_feed = map_delta_feed,
		.delta_close = map_delta_close,
		.decide = map_decide,
		.voted = map_voted,
		.two_phase_done = map_two_phase_done,
		.admit = map_admit,
	};
	pthread_mutex_init(&m->lock, NULL);
	int error = node_new(config, &m->node);
	assert(error == 0);
	error = drs_register_master(m->node, &map_did, &version, &map_ops, &listener, &m->drs);
	assert(error == 0);
	for (size_t i = 0; i < m->members_count; i++) {
		error = drs_add_member(m->drs, m->members[i]);
		assert(error == 0);
	}
	map_presume_abort(m);
	map_run(m->node, &m->thread);
}

static inline void map_master_stop(struct map_master *m)
{
	node_stop(m->node);
	pthread_join(m->thread, NULL);
	node_free(m->node);
	m->node = NULL;
}

static inline uint64_t map_next_number(struct map_master *m)
{
	uint64_t version = m->version;
	m->last = (m->last > version ? m->last : version) + 1;
	return m->last;
}

static inline void map_inline(struct buffer *delta, uint64_t from, uint64_t to)
{
	buffer_add_u8(delta, 'I');
	buffer_add_be64(delta, from);
	buffer_add_be64(delta, to);
}

/* The master's user moves to the next version. While a job runs, without 'inline': what it leads on from is not decided. */
static inline void map_update(struct map_master *m, bool with_inline)
{
	struct scope everyone = { 0 };
	struct buffer delta = BUFFER_INIT;
	uint64_t number = map_next_number(m);
	struct drs_version next = map_version(number);
	map_inline(&delta, m->version, number);
	m->version = number;
	int error = drs_start_one_phase(m->drs, &next, &everyone, with_inline ? buffer_slice(&delta) : (struct slice){ 0 });
	assert(error == 0);
	buffer_fini(&delta);
}

/* It proposes one: its number. */
static inline uint64_t map_propose(struct map_master *m, const struct drs_job *how, bool with_inline)
{
	struct buffer delta = BUFFER_INIT;
	struct drs_job job = *how;
	uint64_t previous = m->version, number = map_next_number(m);
	job.version = map_version(number);
	job.previous = map_version(previous);
	map_inline(&delta, previous, number);
	pthread_mutex_lock(&m->lock);
	memset(m->seen, 0, sizeof(m->seen));
	m->votes_count = 0;
	pthread_mutex_unlock(&m->lock);
	m->proposed = number;
	m->started++;
	int error = drs_start_two_phase(m->drs, &job, with_inline ? buffer_slice(&delta) : (struct slice){ 0 });
	assert(error == 0);
	buffer_fini(&delta);
	return number;
}

static inline bool map_wait_done(struct map_master *m, unsigned jobs, int within_ms)
{
	for (time_ms until = node_now() + within_ms; node_now() < until && m->done < jobs;)
		usleep(200);
	return m->done >= jobs;
}

/* The vote of this slave as last told; false: it has none. 'ret_seen' (may be NULL): all the answers that it was, as bits. */
static inline bool map_vote(struct map_master *m, const char *name, struct drs_vote *ret_vote, unsigned *ret_seen)
{
	bool found = false;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->votes_count && !found; i++) {
		found = strcmp(m->votes[i].name, name) == 0;
		if (found)
			*ret_vote = m->votes[i];
		if (found && ret_seen)
			*ret_seen = m->seen[i];
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static inline bool map_wait_vote(struct map_master *m, const char *name, enum drs_answer answer, int within_ms)
{
	struct drs_vote vote;
	for (time_ms until = node_now() + within_ms; node_now() < until; usleep(200))
		if (map_vote(m, name, &vote, NULL) && vote.answer == answer)
			return true;
	return false;
}

static inline void map_slave_start(struct map_slave *s, const struct node_config *config)
{
	struct drs_version version = map_version(s->version);
	struct drs_slave_listener listener = { s,
					       .admitted = map_admitted,
					       .pull_open = map_pull_open,
					       .pull_feed = map_pull_feed,
					       .pull_next = map_pull_next,
					       .pull_ready = map_pull_ready,
					       .pull_commit = map_pull_commit,
					       .pull_close = map_pull_close,
					       .commit_inline = map_commit_inline,
					       .take_version = map_take_version,
					       .prepare = map_prepare,
					       .prepare_check = map_prepare_check,
					       .prepare_commit = map_prepare_commit,
					       .prepare_abort = map_prepare_abort,
					       .reason = map_reason,
					       .changed = map_changed };
	if (s->no_two_phase) {
		listener.prepare = NULL;
		listener.prepare_check = NULL;
		listener.prepare_commit = NULL;
		listener.prepare_abort = NULL;
	}
	s->staged = s->prepared = 0; /* not remembered */
	s->late = MAP_NOT_LATE;
	int error = node_new(config, &s->node);
	assert(error == 0);
	error = drs_register_slave(s->node, s->known ? &s->did : NULL, &version, &map_ops, &listener, &s->drs);
	assert(error == 0);
	map_run(s->node, &s->thread);
}

static inline void map_slave_stop(struct map_slave *s)
{
	node_stop(s->node);
	pthread_join(s->thread, NULL);
	node_free(s->node);
	s->node = NULL;
}

static inline bool map_wait_version(_Atomic uint64_t *at, uint64_t version, int within_ms)
{
	for (time_ms until = node_now() + within_ms; node_now() < until; usleep(200))
		if (*at >= version)
			return true;
	return *at >= version;
}

/* A group of this process's own; 'salt' tells the tests of one process apart. */
static inline void map_config(struct node_config *config, const char *name, unsigned salt)
{
	node_config_default(config);
	snprintf(config->name, sizeof(config->name), "%s", name);
	snprintf(config->listen, sizeof(config->listen), "127.0.0.1:0");
	snprintf(config->group, sizeof(config->group), "239.255.%d.%u:%d", getpid() % 250 + 1, salt % 250 + 1, 20000 + getpid() % 20000);
	snprintf(config->interface, sizeof(config->interface), "127.0.0.1");
	config->multicast_ttl = 0;
	config->beat_interval_ms = 200;
	config->incarnation = (uint64_t)node_now();
}

static inline void map_point_at(struct node_config *config, uint16_t port)
{
	snprintf(config->master, sizeof(config->master), "127.0.0.1:%u", port);
}

#endif
