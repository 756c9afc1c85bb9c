/*
 * The smallest user of the DRS layer, for tests of the node: a map whose bytes follow from its version, so that both sides can tell whether a replica is whole.
 * A version is an integer, big-endian, in the first 8 bytes. A delta is the whole map: "B" version size, then "D" bytes ...; the slave ends it with
 * "E". An inline delta is "I" from to. One header, as each test is one file.
 */
#ifndef TESTS_LIB_MAP_USER_H
#define TESTS_LIB_MAP_USER_H

#include <assert.h>
#include <errno.h>
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

/* --- the master's user */

struct map_master {
	_Atomic uint64_t version;
	size_t bytes; /* of the map */
	_Atomic unsigned opened, frames, closed;
	atomic_int store_failures; /* so many STOREs fail first */
	struct node *node;
	struct drs_master *drs;
	pthread_t thread;
};

struct map_source {
	uint64_t version;
	size_t at, bytes;
	bool begun, over;
};

static int map_store_version(void *user, const struct drs_version *v)
{
	struct map_master *m = user;
	(void)v;
	return atomic_load(&m->store_failures) > 0 && atomic_fetch_sub(&m->store_failures, 1) > 0 ? -EIO : 0;
}

static int map_delta_open(void *user, const struct drs_version *proposed, struct slice opening, void **ret_source)
{
	struct map_master *m = user;
	struct map_source *s;
	(void)proposed;
	if (opening.size != 9)
		return -DRS_EPROTOCOL;
	s = calloc(1, sizeof(*s));
	s->version = m->version;
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

static int map_admit(void *user, const char *name, struct buffer *ret_credentials)
{
	(void)user;
	buffer_add(ret_credentials, name, strlen(name));
	return strcmp(name, "unwanted") == 0 ? -EACCES : 0;
}

/* --- the slave's user */

struct map_slave {
	_Atomic uint64_t version; /* durable and visible */
	uint8_t *map;
	size_t bytes, got;
	uint64_t pulling; /* the version that comes */
	bool ended;
	_Atomic unsigned pulls, commits, inlines, takes, closes, changes, corrupt, admissions;
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

static int map_pull_commit(void *user, struct drs_version *ret_version)
{
	struct map_slave *s = user;
	for (size_t i = 0; i < s->bytes; i++)
		if (s->map[i] != map_byte(s->pulling, i)) {
			s->corrupt++;
			break;
		}
	s->commits++;
	s->version = s->pulling;
	*ret_version = map_version(s->pulling);
	return 0;
}

static void map_pull_close(void *user)
{
	struct map_slave *s = user;
	s->closes++;
}

static int map_commit_inline(void *user, struct slice delta, struct drs_version *ret_version)
{
	struct map_slave *s = user;
	struct reader r = reader_of(delta);
	uint8_t kind = read_u8(&r);
	uint64_t from = read_be64(&r), to = read_be64(&r);
	if (kind != 'I' || r.failed || from != s->version)
		return -DRS_EPROTOCOL;
	s->inlines++;
	s->version = to;
	*ret_version = map_version(to);
	return 0;
}

static int map_take_version(void *user, const struct drs_version *v)
{
	struct map_slave *s = user;
	s->takes++;
	s->version = map_number(v);
	return 0;
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

static inline void map_master_start(struct map_master *m, const struct node_config *config)
{
	struct drs_version version = map_version(m->version);
	struct drs_master_listener listener = {
		.user = m,
		.store_version = map_store_version,
		.delta_open = map_delta_open,
		.delta_next = map_delta_next,
		.delta_feed = map_delta_feed,
		.delta_close = map_delta_close,
		.admit = map_admit,
	};
	int error = node_new(config, &m->node);
	assert(error == 0);
	error = drs_register_master(m->node, &map_did, &version, &map_ops, &listener, &m->drs);
	assert(error == 0);
	map_run(m->node, &m->thread);
}

static inline void map_master_stop(struct map_master *m)
{
	node_stop(m->node);
	pthread_join(m->thread, NULL);
	node_free(m->node);
	m->node = NULL;
}

/* The master's user moves to the next version. */
static inline void map_update(struct map_master *m, bool with_inline)
{
	struct scope everyone = { 0 };
	struct buffer delta = BUFFER_INIT;
	struct drs_version next = map_version(m->version + 1);
	buffer_add_u8(&delta, 'I');
	buffer_add_be64(&delta, m->version);
	buffer_add_be64(&delta, m->version + 1);
	m->version++;
	int error = drs_start_one_phase(m->drs, &next, &everyone, with_inline ? buffer_slice(&delta) : (struct slice){ 0 });
	assert(error == 0);
	buffer_fini(&delta);
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
					       .changed = map_changed };
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
