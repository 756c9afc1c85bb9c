/*
 * Two phase between real nodes on loopback, with the map as its user (R4): every answer that a slave can give, every way that a job can end, and what is
 * going on besides.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/lib/map_user.h"

#define SLAVES_MAX 4
#define WITHIN_MS  10000 /* generous: the machine is shared */

struct domain {
	bool unicast; /* no group */
	struct map_master master;
	struct node_config config;
	size_t count;
	struct map_slave slaves[SLAVES_MAX];
	struct node_config slave_configs[SLAVES_MAX];
};

static const struct drs_job everyone = { .timeout_ms = WITHIN_MS };

static void slave_name(size_t i, char name[NAME_TEXT_MAX])
{
	snprintf(name, NAME_TEXT_MAX, "slave-%zu", i);
}

static void slave_start(struct domain *d, size_t i)
{
	char name[NAME_TEXT_MAX];
	slave_name(i, name);
	map_config(&d->slave_configs[i], name, 1);
	strcpy(d->slave_configs[i].group, d->config.group);
	map_point_at(&d->slave_configs[i], node_link_port(d->master.node));
	map_slave_start(&d->slaves[i], &d->slave_configs[i]);
	d->count = d->count > i ? d->count : i + 1;
}

static void slave_stop(struct domain *d, size_t i)
{
	map_slave_stop(&d->slaves[i]);
}

static bool all_have(struct domain *d, uint64_t version)
{
	bool all = true;
	for (size_t i = 0; i < d->count; i++)
		all = all && (!d->slaves[i].node || map_wait_version(&d->slaves[i].version, version, WITHIN_MS));
	return all;
}

static bool none_has(struct domain *d, uint64_t version)
{
	bool none = true;
	for (size_t i = 0; i < d->count; i++)
		none = none && d->slaves[i].version < version;
	return none;
}

/* A master and so many slaves, all at version 1. */
static void domain_start(struct domain *d, unsigned salt, size_t slaves, size_t bytes)
{
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&d->config, "hub", salt);
	if (d->unicast)
		*d->config.group = 0;
	d->master.bytes = bytes;
	map_master_start(&d->master, &d->config);
	snprintf(d->config.listen, sizeof(d->config.listen), "127.0.0.1:%u", node_link_port(d->master.node));
	for (size_t i = 0; i < slaves; i++)
		slave_start(d, i);
	map_update(&d->master, true);
	cr_assert(all_have(d, 1));
}

/* Whatever happened, what comes next reaches everyone. */
static void domain_stop(struct domain *d)
{
	map_update(&d->master, true);
	cr_assert(all_have(d, d->master.version), "version %llu did not come", (unsigned long long)d->master.version);
	for (size_t i = 0; i < d->count; i++) {
		struct map_slave *s = &d->slaves[i];
		if (s->node)
			slave_stop(d, i);
		cr_assert(zero(uint, s->corrupt), "slave %zu was wrong", i);
		cr_assert(eq(uint, s->pulls, s->commits + s->staged_pulls + s->closes), "every pull is committed, staged or closed");
		free(s->map);
	}
	map_master_stop(&d->master);
	cr_assert(zero(uint, d->master.wrong));
	cr_assert(eq(uint, d->master.opened, d->master.closed), "every delta that was opened is closed once");
}

/* The job ends with this error; then slaves have the version or nobody has. */
static void expect_done(struct domain *d, uint64_t version, int error)
{
	cr_assert(map_wait_done(&d->master, d->master.started, WITHIN_MS), "the job did not end");
	cr_assert(eq(u64, d->master.done_version, version));
	cr_assert(eq(int, d->master.done_error, error));
	if (error < 0)
		cr_assert(none_has(d, version));
	else
		cr_assert(all_have(d, version));
}

static bool wait_count(_Atomic unsigned *counter, unsigned count)
{
	for (time_ms until = node_now() + WITHIN_MS; node_now() < until && *counter < count;)
		usleep(500);
	return *counter >= count;
}

static enum drs_answer answer_of(struct domain *d, size_t i, unsigned *ret_seen)
{
	char name[NAME_TEXT_MAX];
	struct drs_vote vote;
	slave_name(i, name);
	cr_assert(map_vote(&d->master, name, &vote, ret_seen), "%s has a vote", name);
	return vote.answer;
}

static bool wait_answer(struct domain *d, size_t i, enum drs_answer answer)
{
	char name[NAME_TEXT_MAX];
	slave_name(i, name);
	return map_wait_vote(&d->master, name, answer, WITHIN_MS);
}

struct call {
	struct domain *d;
	uint64_t version;
	const char *name;
	int result;
	atomic_bool done;
};

static int on_thread(struct domain *d, void (*run)(void *), uint64_t version, const char *name)
{
	struct call c = { .d = d, .version = version, .name = name };
	node_post(d->master.node, run, &c);
	while (!c.done)
		usleep(100);
	return c.result;
}

static void do_cancel(void *user)
{
	struct call *c = user;
	struct drs_version version = map_version(c->version);
	c->result = drs_cancel_two_phase(c->d->master.drs, &version);
	c->done = true;
}

static void do_remove(void *user)
{
	struct call *c = user;
	c->result = drs_remove_member(c->d->master.drs, c->name);
	c->done = true;
}

static void do_count_links(void *user)
{
	struct call *c = user;
	struct node_counters counters;
	node_counters(c->d->master.node, &counters);
	c->result = (int)counters.links;
	c->done = true;
}

/* The master has noticed who went. */
static bool wait_gone(struct domain *d, int links)
{
	for (time_ms until = node_now() + WITHIN_MS; node_now() < until; usleep(1000))
		if (on_thread(d, do_count_links, 0, NULL) <= links)
			return true;
	return false;
}

static int cancel(struct domain *d, uint64_t version)
{
	return on_thread(d, do_cancel, version, NULL);
}

static int remove_member(struct domain *d, const char *name)
{
	return on_thread(d, do_remove, 0, name);
}

/* --- R4.1, R4.2, R4.3: jobs that are committed */

Test(node_two_phase, commit_over_three_slaves)
{
	struct domain d = { 0 };
	domain_start(&d, 1, 3, 1000);
	unsigned pulls[3];
	for (int i = 0; i < 3; i++)
		pulls[i] = d.slaves[i].pulls;
	for (int round = 0; round < 10; round++) {
		uint64_t version = map_propose(&d.master, &everyone, true);
		expect_done(&d, version, 0);
	}
	for (size_t i = 0; i < 3; i++) {
		cr_assert(eq(int, answer_of(&d, i, NULL), DRS_PREPARED));
		cr_assert(eq(uint, d.slaves[i].prepare_commits, 10), "each is committed by the decision");
		cr_assert(eq(uint, d.slaves[i].pulls, pulls[i]), "and nothing pulled");
	}
	domain_stop(&d);
}

/* R2.1: decisions reach a slave that no group reaches. */
Test(node_two_phase, by_unicast)
{
	struct domain d = { .unicast = true };
	domain_start(&d, 25, 2, 1000);
	for (int round = 0; round < 4; round++) {
		d.slaves[1].check_error = round % 2 ? -DRS_EREFUSED : 0;
		uint64_t version = map_propose(&d.master, &everyone, true);
		expect_done(&d, version, round % 2 ? -DRS_EREFUSED : 0);
	}
	cr_assert(eq(uint, d.slaves[0].prepare_commits, 2));
	d.slaves[1].check_error = 0;
	domain_stop(&d);
}

/* Nobody to ask. */
Test(node_two_phase, no_members)
{
	struct domain d = { 0 };
	domain_start(&d, 2, 0, 10);
	expect_done(&d, map_propose(&d.master, &everyone, true), 0);
	slave_start(&d, 0);
	cr_assert(all_have(&d, 2));
	domain_stop(&d);
}

/* R3.2, R4.2: what does not go along with the asking is pulled, as proposed. */
Test(node_two_phase, big_delta_is_pulled)
{
	struct domain d = { 0 };
	domain_start(&d, 3, 3, (size_t)8 << 20);
	uint64_t version = map_propose(&d.master, &everyone, false);
	expect_done(&d, version, 0);
	cr_assert(eq(uint, d.master.proposed_opened, 3));
	for (size_t i = 0; i < 3; i++) {
		cr_assert(eq(uint, d.slaves[i].staged_pulls, 1));
		cr_assert(eq(uint, d.slaves[i].prepare_commits, 1));
	}
	domain_stop(&d);
}

/* Slaves whose checks, commits and all take their time, outside of the loop. */
Test(node_two_phase, asynchronous_answers)
{
	struct domain d = { 0 };
	domain_start(&d, 4, 3, 100000);
	for (size_t i = 0; i < 3; i++)
		d.slaves[i].late_ms = 20;
	d.master.decide_later = true;
	for (int round = 0; round < 6; round++) {
		uint64_t version = map_propose(&d.master, &everyone, round % 2);
		expect_done(&d, version, 0);
		map_update(&d.master, round % 3);
		cr_assert(all_have(&d, d.master.version));
	}
	domain_stop(&d);
}

/* Jobs and updates keep the order of their calls: each job's 'previous' is the update before, not yet stored when it is called. */
Test(node_two_phase, order_of_calls)
{
	struct domain d = { 0 };
	domain_start(&d, 5, 2, 10);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < round % 4; i++)
			map_update(&d.master, true);
		uint64_t version = map_propose(&d.master, &everyone, true);
		expect_done(&d, version, 0);
	}
	domain_stop(&d);
}

/* --- R4.2: answers */

/* R4.3, R4.5: one Nak aborts it for all; its words come to the caller. The number is not used again (R1.1). */
Test(node_two_phase, nak_with_a_reason)
{
	struct domain d = { 0 };
	struct drs_vote vote;
	domain_start(&d, 6, 3, 1000);
	d.slaves[1].check_error = -DRS_EREFUSED;
	d.slaves[1].reason = "nginx: [emerg] unknown directive \"wörker\"\nin line 3\033[2J";
	uint64_t version = map_propose(&d.master, &everyone, true);
	expect_done(&d, version, -DRS_EREFUSED);
	cr_assert(map_vote(&d.master, "slave-1", &vote, NULL));
	cr_assert(eq(int, vote.answer, DRS_REFUSED));
	cr_assert(eq(int, vote.error, -DRS_EREFUSED));
	cr_assert(eq(str, vote.reason, "nginx: [emerg] unknown directive \"wörker\"\nin line 3?[2J"));
	d.slaves[1].check_error = 0;
	cr_assert(gt(u64, map_propose(&d.master, &everyone, true), version));
	expect_done(&d, version + 1, 0);
	for (size_t i = 0; i < 3; i++)
		cr_assert(ge(uint, d.slaves[i].aborts, 1), "rolled back");
	domain_stop(&d);
}

/* A Nak without words says what the error is. */
Test(node_two_phase, nak_without_words)
{
	struct domain d = { 0 };
	struct drs_vote vote;
	domain_start(&d, 7, 1, 1000);
	d.slaves[0].check_error = -ENOSPC;
	expect_done(&d, map_propose(&d.master, &everyone, true), -DRS_EREFUSED);
	cr_assert(map_vote(&d.master, "slave-0", &vote, NULL));
	cr_assert(eq(int, vote.error, -EIO), "of the disk");
	cr_assert(eq(str, vote.reason, (char *)error_text(-ENOSPC)));
	d.slaves[0].check_error = 0;
	domain_stop(&d);
}

/* A slave's user that has no two phase. */
Test(node_two_phase, slave_without_two_phase)
{
	struct domain d = { 0 };
	struct drs_vote vote;
	d.slaves[0].no_two_phase = true;
	domain_start(&d, 8, 2, 1000);
	for (int with_inline = 0; with_inline < 2; with_inline++) {
		expect_done(&d, map_propose(&d.master, &everyone, with_inline), -DRS_EREFUSED);
		cr_assert(map_vote(&d.master, "slave-0", &vote, NULL));
		cr_assert(eq(int, vote.answer, DRS_REFUSED));
		cr_assert(eq(str, vote.reason, (char *)error_text(-EOPNOTSUPP)));
	}
	domain_stop(&d);
}

/* OutOfSync: it pulls what it lacks, reports that, and is asked again. */
Test(node_two_phase, out_of_sync)
{
	struct domain d = { 0 };
	unsigned seen;
	domain_start(&d, 9, 3, 1000);
	slave_stop(&d, 2);
	map_update(&d.master, false);
	d.slaves[2].late_ms = 300; /* its commit of what it lacks */
	unsigned pulls = d.slaves[2].pulls;
	slave_start(&d, 2);
	cr_assert(wait_count(&d.slaves[2].pulls, pulls + 1));
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 2, DRS_SYNCING));
	d.slaves[2].late_ms = 0;
	expect_done(&d, version, 0);
	cr_assert(eq(int, answer_of(&d, 2, &seen), DRS_PREPARED));
	cr_assert(eq(uint, d.slaves[2].prepare_commits, 1));
	domain_stop(&d);
}

/* Unreachable: asked as soon as it connects. */
Test(node_two_phase, unreachable_until_it_connects)
{
	struct domain d = { 0 };
	domain_start(&d, 10, 3, 1000);
	slave_stop(&d, 1);
	cr_assert(wait_gone(&d, 2));
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 0, DRS_PREPARED));
	cr_assert(eq(int, answer_of(&d, 1, NULL), DRS_UNREACHABLE));
	cr_assert(zero(uint, d.master.done));
	slave_start(&d, 1);
	expect_done(&d, version, 0);
	cr_assert(eq(uint, d.slaves[1].prepare_commits, 1));
	domain_stop(&d);
}

/* --- R4.3, R4.4: jobs that are aborted */

Test(node_two_phase, timeout)
{
	struct domain d = { 0 };
	struct drs_job job = { .timeout_ms = 300 };
	domain_start(&d, 11, 3, 1000);
	slave_stop(&d, 1);
	d.slaves[2].late_ms = -1;
	time_ms before = node_now();
	uint64_t version = map_propose(&d.master, &job, true);
	expect_done(&d, version, -ETIMEDOUT);
	cr_assert(ge(long, (long)(node_now() - before), 300));
	cr_assert(eq(int, answer_of(&d, 0, NULL), DRS_PREPARED));
	cr_assert(eq(int, answer_of(&d, 1, NULL), DRS_UNREACHABLE));
	cr_assert(eq(int, answer_of(&d, 2, NULL), DRS_ASKED));
	d.slaves[2].late_ms = 0;
	slave_start(&d, 1);
	domain_stop(&d);
	cr_assert(ge(uint, d.slaves[2].cancelled, 1), "its check was ended");
}

Test(node_two_phase, cancel)
{
	struct domain d = { 0 };
	domain_start(&d, 12, 2, 1000);
	cr_assert(eq(int, cancel(&d, 2), -ENOENT), "there is none");
	d.slaves[1].late_ms = -1;
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 0, DRS_PREPARED));
	cr_assert(eq(int, cancel(&d, version + 1), -ENOENT), "another one");
	cr_assert(zero(int, cancel(&d, version)));
	expect_done(&d, version, -ECANCELED);
	cr_assert(eq(int, cancel(&d, version), -ENOENT), "it is decided");
	d.slaves[1].late_ms = 0;
	domain_stop(&d);
	cr_assert(ge(uint, d.slaves[0].aborts, 1));
	cr_assert(ge(uint, d.slaves[1].cancelled, 1));
}

/* While the proposed version is being pulled. */
Test(node_two_phase, cancel_during_pull)
{
	struct domain d = { 0 };
	domain_start(&d, 13, 2, (size_t)64 << 20);
	uint64_t version = map_propose(&d.master, &everyone, false);
	cr_assert(wait_count(&d.master.proposed_opened, 1));
	cancel(&d, version); /* it may be too late: then it is committed */
	cr_assert(map_wait_done(&d.master, 1, WITHIN_MS));
	int error = d.master.done_error;
	cr_assert(error == -ECANCELED || error == 0, "%d", error);
	d.master.bytes = 1000;
	domain_stop(&d);
}

/* A commit that cannot be stored is an abort. */
Test(node_two_phase, decision_cannot_be_stored)
{
	struct domain d = { 0 };
	domain_start(&d, 14, 2, 1000);
	log_init("test", LOG_LEVEL_ERROR - 1);
	d.master.decide_failures = 1;
	expect_done(&d, map_propose(&d.master, &everyone, true), -ENOSPC);
	expect_done(&d, map_propose(&d.master, &everyone, true), 0);
	domain_stop(&d);
}

/* R4.7: two jobs at once. */
Test(node_two_phase, one_job_at_a_time)
{
	struct domain d = { 0 };
	struct drs_job job = everyone;
	domain_start(&d, 15, 2, 1000);
	d.slaves[1].late_ms = 200;
	uint64_t version = map_propose(&d.master, &everyone, true);
	job.previous = map_version(1);
	job.version = map_version(version + 1);
	d.master.started++;
	cr_assert(zero(int, drs_start_two_phase(d.master.drs, &job, (struct slice){ 0 })));
	cr_assert(map_wait_done(&d.master, 1, WITHIN_MS));
	cr_assert(eq(u64, d.master.done_version, version + 1));
	cr_assert(eq(int, d.master.done_error, -EBUSY));
	cr_assert(eq(u64, d.master.proposed, version), "that goes on");
	job.version = map_version(version);
	d.master.started++;
	cr_assert(zero(int, drs_start_two_phase(d.master.drs, &job, (struct slice){ 0 })), "the same again");
	cr_assert(map_wait_done(&d.master, 2, WITHIN_MS));
	cr_assert(eq(int, d.master.done_error, -EBUSY));
	cr_assert(none_has(&d, version));
	expect_done(&d, version, 0);
	d.slaves[1].late_ms = 0;
	job.version = map_version(version + 2);
	d.master.started++;
	cr_assert(zero(int, drs_start_two_phase(d.master.drs, &job, (struct slice){ 0 })));
	expect_done(&d, version + 2, -EBUSY);
	d.master.last = version + 2;
	job.version = job.previous;
	cr_assert(eq(int, drs_start_two_phase(d.master.drs, &job, (struct slice){ 0 }), -EINVAL));
	job.version = map_version(version + 3);
	job.timeout_ms = 0;
	cr_assert(eq(int, drs_start_two_phase(d.master.drs, &job, (struct slice){ 0 }), -EINVAL));
	domain_stop(&d);
}

/* --- R4.6: policies */

Test(node_two_phase, connected_are_enough)
{
	struct domain d = { 0 };
	struct drs_job job = { .timeout_ms = WITHIN_MS, .require = DRS_REQUIRE_CONNECTED };
	domain_start(&d, 16, 3, 1000);
	slave_stop(&d, 2);
	cr_assert(wait_gone(&d, 2));
	uint64_t version = map_propose(&d.master, &job, true);
	cr_assert(map_wait_done(&d.master, 1, WITHIN_MS));
	cr_assert(zero(int, d.master.done_error));
	slave_start(&d, 2);
	expect_done(&d, version, 0);
	cr_assert(zero(uint, d.slaves[2].prepare_commits), "it follows by one phase");
	domain_stop(&d);
}

Test(node_two_phase, a_count_is_enough)
{
	struct domain d = { 0 };
	struct drs_job job = { .timeout_ms = WITHIN_MS, .require = DRS_REQUIRE_COUNT, .count = 2 };
	domain_start(&d, 17, 3, 1000);
	d.slaves[0].check_error = -DRS_EREFUSED;
	expect_done(&d, map_propose(&d.master, &job, true), 0);
	d.slaves[1].check_error = -DRS_EREFUSED;
	expect_done(&d, map_propose(&d.master, &job, true), -DRS_EREFUSED);
	d.slaves[0].check_error = d.slaves[1].check_error = 0;
	domain_stop(&d);
}

/* --- R4.7: what comes meanwhile */

/* One phase updates during a job are announced after it, whichever way it ends. */
Test(node_two_phase, updates_during_a_job)
{
	struct domain d = { 0 };
	domain_start(&d, 18, 3, 1000);
	for (int committed = 1; committed >= 0; committed--) {
		d.slaves[1].late_ms = 250;
		uint64_t version = map_propose(&d.master, &everyone, true);
		cr_assert(wait_answer(&d, 0, DRS_PREPARED));
		map_update(&d.master, false);
		map_update(&d.master, false);
		usleep(50000);
		cr_assert(none_has(&d, version), "not before the decision");
		if (!committed)
			cr_assert(zero(int, cancel(&d, version)));
		cr_assert(map_wait_done(&d.master, d.master.started, WITHIN_MS));
		cr_assert(eq(int, d.master.done_error, committed ? 0 : -ECANCELED));
		d.slaves[1].late_ms = 0;
		cr_assert(all_have(&d, version + 2));
	}
	domain_stop(&d);
}

/* A slave that never was there before joins during a job: it is not asked, and gets the version by one phase. */
Test(node_two_phase, late_slave)
{
	struct domain d = { 0 };
	struct drs_vote vote;
	domain_start(&d, 19, 2, 1000);
	d.slaves[1].late_ms = 400;
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 0, DRS_PREPARED));
	slave_start(&d, 2);
	cr_assert(map_wait_version(&d.slaves[2].version, 1, WITHIN_MS));
	cr_assert(zero(uint, d.master.done));
	expect_done(&d, version, 0);
	cr_assert(not(map_vote(&d.master, "slave-2", &vote, NULL)));
	cr_assert(zero(uint, d.slaves[2].prepares));
	d.slaves[1].late_ms = 0;
	domain_stop(&d);
}

/* Members: one that is gone for good is removed; then nobody waits for it. */
Test(node_two_phase, members)
{
	struct domain d = { 0 };
	domain_start(&d, 20, 2, 1000);
	cr_assert(eq(int, remove_member(&d, "nobody"), -ENOENT));
	cr_assert(eq(int, remove_member(&d, "slave-1"), -EBUSY));
	slave_stop(&d, 1);
	cr_assert(wait_gone(&d, 1));
	cr_assert(zero(int, remove_member(&d, "slave-1")));
	expect_done(&d, map_propose(&d.master, &everyone, true), 0);
	cr_assert(eq(int, drs_add_member(d.master.drs, "not a name"), -EINVAL));
	domain_stop(&d);
}

/* --- R4.8: crashes. A node that is stopped says no last word, as one that is killed. */

/* A slave that has acked dies and comes back before the decision, or after it. */
Test(node_two_phase, prepared_slave_comes_back)
{
	struct domain d = { 0 };
	domain_start(&d, 21, 2, 1000);
	for (int after = 0; after < 2; after++) {
		d.slaves[1].late_ms = 400;
		uint64_t version = map_propose(&d.master, &everyone, after);
		cr_assert(wait_answer(&d, 0, DRS_PREPARED));
		slave_stop(&d, 0);
		if (after)
			cr_assert(wait_gone(&d, 1));
		slave_start(&d, 0);
		expect_done(&d, version, 0);
		d.slaves[1].late_ms = 0;
	}
	domain_stop(&d);
}

/* The same, and it was aborted: nobody ever shows it. */
Test(node_two_phase, prepared_slave_comes_back_to_an_abort)
{
	struct domain d = { 0 };
	domain_start(&d, 22, 2, 1000);
	d.slaves[1].late_ms = -1;
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 0, DRS_PREPARED));
	slave_stop(&d, 0);
	cr_assert(wait_gone(&d, 1));
	cr_assert(zero(int, cancel(&d, version)));
	expect_done(&d, version, -ECANCELED);
	d.slaves[1].late_ms = 0;
	slave_start(&d, 0);
	domain_stop(&d);
}

/* The master dies with a proposal that is not decided: the next start presumes that it was aborted, and says so. */
Test(node_two_phase, master_restarts_undecided)
{
	struct domain d = { 0 };
	domain_start(&d, 23, 2, 1000);
	d.slaves[1].late_ms = -1;
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 0, DRS_PREPARED));
	map_master_stop(&d.master);
	d.slaves[1].late_ms = 0;
	d.config.incarnation++;
	map_master_start(&d.master, &d.config);
	cr_assert(wait_count(&d.slaves[0].aborts, 1), "it is not stuck prepared");
	cr_assert(wait_count(&d.slaves[1].cancelled, 1));
	d.master.started = d.master.done;
	cr_assert(gt(u64, map_propose(&d.master, &everyone, true), version));
	expect_done(&d, version + 1, 0);
	domain_stop(&d);
}

/* The node is freed while its user has not answered: that is told to end it. */
Test(node_two_phase, stop_with_an_answer_outstanding)
{
	struct domain d = { 0 };
	struct drs_job job = { .timeout_ms = 500 };
	domain_start(&d, 24, 3, 1000);
	for (size_t i = 0; i < 3; i++)
		d.slaves[i].late_ms = -1;
	/* 0: a check; 1: a delta of a heartbeat; 2: a pull's commit */
	slave_stop(&d, 1);
	slave_stop(&d, 2);
	uint64_t version = map_propose(&d.master, &job, true);
	cr_assert(wait_count(&d.slaves[0].prepares, 1));
	usleep(20000);
	slave_stop(&d, 0);
	cr_assert(eq(uint, d.slaves[0].cancelled, 1));
	expect_done(&d, version, -ETIMEDOUT);
	d.slaves[0].late_ms = 0;
	slave_start(&d, 0);
	map_update(&d.master, false);
	unsigned pulls = d.slaves[2].pulls;
	slave_start(&d, 2);
	cr_assert(wait_count(&d.slaves[2].pulls, pulls + 1));
	usleep(50000);
	slave_stop(&d, 2);
	cr_assert(eq(uint, d.slaves[2].cancelled, 1));
	d.slaves[2].late_ms = 0;
	slave_start(&d, 2);
	cr_assert(all_have(&d, d.master.version));
	d.slaves[2].late_ms = -1;
	map_update(&d.master, true);
	usleep(100000);
	slave_stop(&d, 2);
	cr_assert(eq(uint, d.slaves[2].cancelled, 2));
	d.slaves[1].late_ms = d.slaves[2].late_ms = 0;
	slave_start(&d, 1);
	slave_start(&d, 2);
	domain_stop(&d);
}

/* The same for the commit of what was prepared: it is committed, so the next start gets it by one phase. */
Test(node_two_phase, stop_while_the_prepared_version_is_committed)
{
	struct domain d = { 0 };
	domain_start(&d, 26, 2, 1000);
	d.slaves[1].late_ms = 100;
	uint64_t version = map_propose(&d.master, &everyone, true);
	cr_assert(wait_answer(&d, 0, DRS_PREPARED));
	d.slaves[0].late_ms = -1;
	cr_assert(map_wait_done(&d.master, 1, WITHIN_MS));
	cr_assert(map_wait_version(&d.slaves[1].version, version, WITHIN_MS));
	usleep(100000);
	slave_stop(&d, 0);
	cr_assert(eq(uint, d.slaves[0].cancelled, 1));
	cr_assert(none_has(&d, version + 1));
	cr_assert(lt(u64, d.slaves[0].version, version));
	d.slaves[0].late_ms = d.slaves[1].late_ms = 0;
	slave_start(&d, 0);
	expect_done(&d, version, 0);
	domain_stop(&d);
}
