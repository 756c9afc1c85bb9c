/* Two nodes on loopback and a map between them: every way that a version can take from the master to a slave. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>

#include "tests/lib/map_user.h"

struct pair {
	struct map_master master;
	struct map_slave slave;
	struct node_config master_config, slave_config;
};

static void pair_start(struct pair *p, unsigned salt, bool multicast, size_t bytes)
{
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&p->master_config, "hub", salt);
	map_config(&p->slave_config, "web", salt);
	if (!multicast)
		*p->master_config.group = *p->slave_config.group = 0;
	p->master.bytes = bytes;
	map_master_start(&p->master, &p->master_config);
	map_point_at(&p->slave_config, node_link_port(p->master.node));
	map_slave_start(&p->slave, &p->slave_config);
}

static void pair_stop(struct pair *p)
{
	map_slave_stop(&p->slave);
	map_master_stop(&p->master);
	cr_assert(eq(uint, p->master.opened, p->master.closed), "every delta that was opened is closed once");
	cr_assert(eq(uint, p->slave.pulls, p->slave.commits + p->slave.closes), "every pull is committed or closed");
	cr_assert(zero(uint, p->slave.corrupt));
	free(p->slave.map);
}

static void follow(struct pair *p, int updates, bool with_inline)
{
	for (int i = 0; i < updates; i++) {
		map_update(&p->master, with_inline);
		cr_assert(map_wait_version(&p->slave.version, p->master.version, 5000), "version %llu did not come",
			  (unsigned long long)p->master.version);
	}
}

/* The slave has joined and hears heartbeats by the path that it is to have. */
struct asked {
	struct node *node;
	struct slave_status status;
	struct node_counters counters;
	atomic_bool done;
};

static void answer(void *user)
{
	struct asked *a = user;
	node_slave_status(a->node, &a->status);
	node_counters(a->node, &a->counters);
	a->done = true;
}

static struct asked ask(struct node *node)
{
	struct asked a = { .node = node };
	node_post(node, answer, &a);
	while (!a.done)
		usleep(100);
	return a;
}

static bool wait_path(struct map_slave *s, enum beat_path path, int within_ms)
{
	for (time_ms until = node_now() + within_ms; node_now() < until; usleep(5000)) {
		struct asked a = ask(s->node);
		if (a.status.beat_seen && a.status.path == path && a.status.state == SLAVE_CURRENT)
			return true;
	}
	return false;
}

/* R3.4, R3.1: a small delta comes in the heartbeat itself, nothing is pulled. */
Test(node_pair, inline_by_multicast)
{
	struct pair p = { 0 };
	pair_start(&p, 1, true, 1000);
	cr_assert(wait_path(&p.slave, BEAT_BY_MULTICAST, 5000));
	unsigned pulls = p.slave.pulls;
	follow(&p, 100, true);
	cr_assert(eq(uint, p.slave.pulls, pulls));
	cr_assert(eq(uint, p.slave.inlines, 100));
	cr_assert(eq(uint, p.slave.admissions, 1));
	pair_stop(&p);
}

/* R3.2: a delta of many frames. */
Test(node_pair, pull_many_frames)
{
	struct pair p = { 0 };
	pair_start(&p, 2, true, (size_t)24 << 20);
	follow(&p, 3, false);
	cr_assert(ge(uint, p.slave.commits, 3));
	pair_stop(&p);
}

/* R2.1: no group, so every slave is told by itself. */
Test(node_pair, unicast)
{
	struct pair p = { 0 };
	pair_start(&p, 3, false, 1000);
	cr_assert(wait_path(&p.slave, BEAT_BY_UNICAST, 5000));
	follow(&p, 20, true);
	cr_assert(ge(uint, p.slave.inlines, 19));
	pair_stop(&p);
}

/* The slave listens to a group that the master does not send to: it falls back to unicast. */
Test(node_pair, multicast_does_not_reach)
{
	struct pair p = { 0 };
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&p.master_config, "hub", 4);
	map_config(&p.slave_config, "web", 5);
	p.master_config.beat_interval_ms = 50;
	p.master.bytes = 10;
	map_master_start(&p.master, &p.master_config);
	map_point_at(&p.slave_config, node_link_port(p.master.node));
	map_slave_start(&p.slave, &p.slave_config);
	cr_assert(wait_path(&p.slave, BEAT_BY_UNICAST, 5000));
	follow(&p, 5, true);
	pair_stop(&p);
}

/* R3.3: a slave that was away catches up by itself. */
Test(node_pair, slave_restarts)
{
	struct pair p = { 0 };
	pair_start(&p, 6, true, 300000);
	follow(&p, 3, true);
	map_slave_stop(&p.slave);
	map_update(&p.master, true);
	map_update(&p.master, true);
	map_slave_start(&p.slave, &p.slave_config);
	cr_assert(map_wait_version(&p.slave.version, 5, 5000));
	cr_assert(eq(uint, p.slave.admissions, 1), "it knows its volume already");
	follow(&p, 3, true);
	pair_stop(&p);
}

/* The master comes back at the same port, further on. */
Test(node_pair, master_restarts)
{
	struct pair p = { 0 };
	pair_start(&p, 7, true, 300000);
	follow(&p, 3, true);
	snprintf(p.master_config.listen, sizeof(p.master_config.listen), "127.0.0.1:%u", node_link_port(p.master.node));
	map_master_stop(&p.master);
	p.master.version += 4;
	p.master_config.incarnation++;
	map_master_start(&p.master, &p.master_config);
	cr_assert(map_wait_version(&p.slave.version, 7, 10000));
	follow(&p, 3, false);
	pair_stop(&p);
}

/* The link ends in the middle of a pull; the pull is closed and begun again. */
Test(node_pair, master_restarts_during_pull)
{
	struct pair p = { 0 };
	pair_start(&p, 8, true, (size_t)64 << 20);
	map_update(&p.master, false);
	while (p.slave.pulls == 0)
		usleep(1000);
	usleep(3000);
	snprintf(p.master_config.listen, sizeof(p.master_config.listen), "127.0.0.1:%u", node_link_port(p.master.node));
	map_master_stop(&p.master);
	p.master_config.incarnation++;
	p.master.bytes = 100;
	map_master_start(&p.master, &p.master_config);
	cr_assert(map_wait_version(&p.slave.version, 1, 10000));
	pair_stop(&p);
}

/* R3.1: a number that cannot be stored is told to nobody until it can. */
Test(node_pair, store_fails_at_first)
{
	struct pair p = { 0 };
	pair_start(&p, 9, true, 10);
	follow(&p, 1, true);
	log_init("test", LOG_LEVEL_ERROR - 1);
	p.master.store_failures = 1;
	map_update(&p.master, true);
	usleep(100000);
	cr_assert(eq(u64, p.slave.version, 1));
	cr_assert(map_wait_version(&p.slave.version, 2, 5000));
	pair_stop(&p);
}

/* Many updates at once from two threads' point of view: none is lost at the end, calls are taken in order. */
Test(node_pair, burst)
{
	struct pair p = { 0 };
	pair_start(&p, 10, true, 1000);
	follow(&p, 1, true);
	for (int i = 0; i < 5000; i++)
		map_update(&p.master, true);
	cr_assert(map_wait_version(&p.slave.version, p.master.version, 5000));
	pair_stop(&p);
}

/* A name is looked up by a helper thread. */
Test(node_pair, master_by_name)
{
	struct pair p = { 0 };
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&p.master_config, "hub", 11);
	map_config(&p.slave_config, "web", 11);
	map_master_start(&p.master, &p.master_config);
	snprintf(p.slave_config.master, sizeof(p.slave_config.master), "localhost:%u", node_link_port(p.master.node));
	map_slave_start(&p.slave, &p.slave_config);
	follow(&p, 2, true);
	pair_stop(&p);
}

Test(node_pair, ipv6)
{
	struct pair p = { 0 };
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&p.master_config, "hub", 12);
	map_config(&p.slave_config, "web", 12);
	*p.master_config.group = *p.slave_config.group = 0;
	strcpy(p.master_config.listen, "[::1]:0");
	map_master_start(&p.master, &p.master_config);
	snprintf(p.slave_config.master, sizeof(p.slave_config.master), "[::1]:%u", node_link_port(p.master.node));
	map_slave_start(&p.slave, &p.slave_config);
	cr_assert(wait_path(&p.slave, BEAT_BY_UNICAST, 5000));
	follow(&p, 5, true);
	pair_stop(&p);
}

/* From the call to the slave's commit: no polling anywhere. The bound is generous, the machine is shared. */
Test(node_pair, latency)
{
	struct pair p = { 0 };
	struct timespec a, b;
	long best_us = 1000000;
	pair_start(&p, 13, true, 10);
	cr_assert(wait_path(&p.slave, BEAT_BY_MULTICAST, 5000));
	for (int i = 0; i < 300; i++) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		map_update(&p.master, true);
		while (p.slave.version < p.master.version)
			;
		clock_gettime(CLOCK_MONOTONIC, &b);
		long us = (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
		best_us = us < best_us ? us : best_us;
		usleep(300);
	}
	cr_log_info("call to commit: %ld us at best", best_us);
	cr_assert(lt(long, best_us, 5000));
	pair_stop(&p);
}

static size_t descriptors(void)
{
	size_t count = 0;
	DIR *d = opendir("/proc/self/fd");
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

Test(node_pair, no_descriptor_leaks)
{
	size_t before = descriptors();
	for (int i = 0; i < 5; i++) {
		struct pair p = { 0 };
		pair_start(&p, 14, true, 1000);
		follow(&p, 2, true);
		map_slave_stop(&p.slave);
		map_slave_start(&p.slave, &p.slave_config);
		follow(&p, 1, false);
		pair_stop(&p);
	}
	cr_assert(eq(sz, descriptors(), before));
}

static void note(void *user)
{
	++*(int *)user;
}

/* What was called for before the stop is done before it. */
Test(node_pair, stop_comes_after_what_was_posted)
{
	struct node_config config;
	struct map_master m = { 0 };
	int notes = 0;
	map_config(&config, "hub", 15);
	map_master_start(&m, &config);
	for (int i = 0; i < 100; i++)
		node_post(m.node, note, &notes);
	map_master_stop(&m);
	cr_assert(eq(int, notes, 100));
}

Test(node_pair, bad_configuration)
{
	struct node_config config;
	struct node *node;
	struct drs_master *master;
	struct drs_master_listener listener = { 0 };
	struct drs_version version = { 0 };
	map_config(&config, "not a name", 16);
	cr_assert(eq(int, node_new(&config, &node), -EINVAL));
	map_config(&config, "hub", 16);
	strcpy(config.listen, "nowhere");
	cr_assert(zero(int, node_new(&config, &node)));
	cr_assert(eq(int, drs_register_master(node, &map_did, &version, &map_ops, &listener, &master), -EINVAL));
	node_free(node);
	map_config(&config, "hub", 16);
	strcpy(config.group, "127.0.0.1:5000");
	cr_assert(zero(int, node_new(&config, &node)));
	cr_assert(eq(int, drs_register_master(node, &map_did, &version, &map_ops, &listener, &master), -EINVAL), "not a group");
	node_free(node);
}
