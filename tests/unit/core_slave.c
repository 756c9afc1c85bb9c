/* The slave's core, step by step: R1.4, R2.3, R2.5, R3.2, R3.3. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/scope.h"
#include "slave/core.h"

#define INTERVAL 1000
#define DIAL_MIN 100
#define DIAL_MAX 8000

/* --- plain numbers as versions --- */

static struct drs_version v(uint64_t n)
{
	struct drs_version version = { 0 };
	put_be64(version.bytes, n);
	return version;
}

static uint64_t number(const struct drs_version *version)
{
	return get_be64(version->bytes);
}

static bool equal(const struct drs_version *a, const struct drs_version *b)
{
	return number(a) == number(b);
}

static bool greater(const struct drs_version *a, const struct drs_version *b)
{
	return number(a) > number(b);
}

static struct drs_version next(const struct drs_version *a)
{
	return v(number(a) + 1);
}

static const struct drs_version_ops ops = { .equal = equal, .greater = greater, .next = next };
static const struct did volume = { "volume" }, other_volume = { "other" };

/* --- one core and what it said last --- */

static struct slave_core *core;
static time_ms now = 5000;
static uint64_t sequence;
static peer_id peer;
static struct action items[ACTIONS_MAX(1)];
static struct actions actions = { .capacity = ARRAY_SIZE(items), .items = items };

static void step(struct event e)
{
	e.now = now;
	slave_step(core, &e, &actions);
}

static void begin_as(const struct did *did, bool multicast)
{
	struct scope clusters = { 0 };
	scope_add(&clusters, "edge");
	struct slave_core_config config = { .ops = &ops, .version = v(7), .name = "web-1", .clusters = &clusters, .multicast = multicast,
					    .dial_retry_ms_min = DIAL_MIN, .dial_retry_ms_max = DIAL_MAX, .seed = 1 };
	if (did) {
		config.did = *did;
		config.did_known = true;
	}
	cr_assert(eq(int, slave_core_new(&config, now, &core), 0));
}

static void begin(void)
{
	begin_as(&volume, true);
}

static void end(void)
{
	slave_core_free(core);
}

static size_t count_of(enum action_kind kind)
{
	size_t count = 0;
	for (size_t i = 0; i < actions.count; i++)
		count += items[i].kind == kind;
	return count;
}

static const struct action *the(enum action_kind kind)
{
	cr_assert(eq(sz, count_of(kind), 1));
	for (size_t i = 0; i < actions.count; i++)
		if (items[i].kind == kind)
			return &items[i];
	return NULL;
}

static struct slave_status status(void)
{
	struct slave_status s;
	slave_core_status(core, &s);
	return s;
}

static uint64_t own(void)
{
	struct slave_status s = status();
	return number(&s.version);
}

static uint64_t known(void)
{
	struct slave_status s = status();
	return number(&s.known);
}

static void at_deadline(void)
{
	time_ms due = slave_deadline(core);
	cr_assert(due != TIME_NEVER);
	now = due > now ? due : now;
	step((struct event){ .kind = EVENT_TICK });
}

static void join(uint64_t version)
{
	at_deadline();
	the(ACTION_DIAL);
	step((struct event){ .kind = EVENT_LINK_UP, .peer = ++peer });
	the(ACTION_HELLO);
	step((struct event){ .kind = EVENT_WELCOME, .peer = peer, .version = v(version), .did = &volume, .interval_ms = INTERVAL });
}

static void begin_joined(void)
{
	begin();
	join(7);
}

static struct beat beat_of(uint64_t current)
{
	return (struct beat){ .did = volume, .incarnation = 1, .sequence = ++sequence, .current = v(current), .interval_ms = INTERVAL };
}

static void hear_by(const struct beat *b, enum beat_path path)
{
	step((struct event){ .kind = EVENT_BEAT, .path = path, .beat = b });
}

static void hear(const struct beat *b)
{
	hear_by(b, BEAT_BY_MULTICAST);
}

static void add_window(struct beat *b, uint64_t version, const char *scope_name, bool aborted)
{
	struct window_entry *e = &b->window[b->window_count++];
	*e = (struct window_entry){ .version = v(version), .aborted = aborted };
	if (scope_name)
		scope_add(&e->scope, scope_name);
}

static void add_inline(struct beat *b, uint64_t previous)
{
	b->previous = v(previous);
	b->inline_delta = (struct slice){ "delta", 5 };
}

static void durable(uint64_t version)
{
	step((struct event){ .kind = EVENT_DURABLE, .version = v(version) });
}

static void failed(int error)
{
	step((struct event){ .kind = EVENT_FAILED, .error = error });
}

static void no_answer(void)
{
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = PEER_NONE });
}

static void pulled(void)
{
	step((struct event){ .kind = EVENT_PULLED, .request = the(ACTION_PULL)->request });
	the(ACTION_COMMIT);
}

/* --- which way to the newest version --- */

Test(slave, R3_2_pulls_commits_and_reports, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	hear(&b);
	cr_assert(eq(u32, the(ACTION_PULL)->peer, peer));
	cr_assert(not(the(ACTION_PULL)->complete));
	cr_assert(eq(int, status().state, SLAVE_PULLING));
	pulled();
	cr_assert(eq(int, status().state, SLAVE_COMMITTING));
	cr_assert(eq(u64, own(), 7));
	durable(10); /* the master had moved on */
	cr_assert(eq(u64, number(&the(ACTION_REPORT)->version), 10));
	cr_assert(eq(u64, known(), 10));
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
	cr_assert(zero(sz, count_of(ACTION_PULL)));
}

Test(slave, equal_or_older_is_nothing, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(7), old = beat_of(5);
	hear(&b);
	cr_assert(zero(sz, actions.count));
	hear(&old);
	cr_assert(zero(sz, actions.count));
	cr_assert(eq(u64, known(), 7));
}

Test(slave, catches_up_from_the_welcome_alone, .init = begin, .fini = end)
{
	join(9);
	the(ACTION_PULL);
}

Test(slave, R3_4_commits_a_delta_that_starts_at_its_version, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	cr_assert(eq(sz, the(ACTION_COMMIT_INLINE)->inline_delta.size, 5));
	cr_assert(zero(sz, count_of(ACTION_PULL)));
	durable(8);
	cr_assert(eq(u64, number(&the(ACTION_REPORT)->version), 8));
}

Test(slave, R3_4_also_without_a_link, .init = begin, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	the(ACTION_COMMIT_INLINE);
	durable(8);
	cr_assert(zero(sz, count_of(ACTION_REPORT)));
	cr_assert(eq(int, status().state, SLAVE_ALONE));
	cr_assert(eq(u64, own(), 8));
}

Test(slave, pulls_if_the_delta_starts_elsewhere, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	add_inline(&b, 8);
	hear(&b);
	the(ACTION_PULL);
	cr_assert(zero(sz, count_of(ACTION_COMMIT_INLINE)));
}

Test(slave, R2_5_takes_the_number_when_nothing_since_concerns_it, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(10);
	add_window(&b, 11, NULL, true);
	add_window(&b, 10, "db", false);
	add_window(&b, 9, NULL, true); /* aborted: concerns nobody */
	add_window(&b, 8, "db", false);
	add_window(&b, 7, NULL, false); /* its own: how it came about does not matter */
	hear(&b);
	cr_assert(eq(u64, number(&the(ACTION_TAKE)->version), 10));
	durable(10);
	cr_assert(eq(u64, number(&the(ACTION_REPORT)->version), 10));
}

Test(slave, R2_5_pulls_when_something_since_concerns_it_or_its_cluster, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	add_window(&b, 9, "db", false);
	add_window(&b, 8, "edge", false);
	add_window(&b, 7, "db", false);
	hear(&b);
	the(ACTION_PULL);
}

Test(slave, R2_5_pulls_when_its_version_is_not_in_the_window, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	add_window(&b, 9, "db", false);
	add_window(&b, 8, "db", false);
	hear(&b);
	the(ACTION_PULL);
}

Test(slave, R2_5_pulls_when_the_window_does_not_reach_up_to_the_current_version, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	add_window(&b, 8, "db", false);
	add_window(&b, 7, "db", false);
	hear(&b);
	the(ACTION_PULL);
}

Test(slave, another_volume_is_not_its_business, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	b.did = other_volume;
	hear(&b);
	cr_assert(zero(sz, actions.count));
	cr_assert(zero(i64, status().beat_seen));
}

/* --- R2.3: any order, any repetition --- */

Test(slave, R2_3_stale_heartbeats_are_harmless, .init = begin_joined, .fini = end)
{
	struct beat late = beat_of(8), b = beat_of(9);
	add_inline(&late, 7);
	hear(&b);
	pulled();
	durable(9);
	hear(&late);
	cr_assert(zero(sz, actions.count));
	hear(&b);
	cr_assert(zero(sz, actions.count));
}

Test(slave, R2_3_a_late_heartbeat_may_still_help, .init = begin_joined, .fini = end)
{
	struct beat first = beat_of(8), second = beat_of(9);
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = peer });
	add_inline(&first, 7);
	add_inline(&second, 8);
	hear(&second);
	cr_assert(eq(u64, known(), 9));
	cr_assert(zero(sz, count_of(ACTION_COMMIT_INLINE)));
	hear(&first);
	the(ACTION_COMMIT_INLINE);
	durable(8);
	cr_assert(eq(u64, known(), 9));
	hear(&second);
	the(ACTION_COMMIT_INLINE);
}

Test(slave, R2_3_a_master_whose_clock_was_set_back_is_heard, .init = begin_joined, .fini = end)
{
	struct beat before = beat_of(7), after = beat_of(8);
	before.incarnation = 50;
	after.incarnation = 40;
	hear(&before);
	hear(&after);
	the(ACTION_PULL);
}

Test(slave, one_thing_at_a_time_and_on_at_once, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8), more = beat_of(9);
	add_inline(&b, 7);
	add_inline(&more, 8);
	hear(&b);
	hear(&more);
	cr_assert(eq(sz, actions.count, 1));
	the(ACTION_CHANGED);
	durable(8);
	the(ACTION_REPORT);
	the(ACTION_PULL);
}

Test(slave, R1_4_never_goes_back, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	hear(&b);
	pulled();
	durable(6);
	cr_assert(eq(u64, own(), 7));
	cr_assert(eq(int, status().state, SLAVE_WAITING));
	cr_assert(eq(int, status().error, -DRS_EPROTOCOL));
	at_deadline();
	the(ACTION_PULL);
}

/* --- failures --- */

Test(slave, R3_3_a_failure_waits_longer_and_longer_and_keeps_trying, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	hear(&b);
	time_ms gap_ms = 0;
	for (int i = 0; i < 12; i++) {
		pulled();
		failed(-ENOSPC);
		cr_assert(eq(int, status().state, SLAVE_WAITING));
		cr_assert(eq(int, status().error, -ENOSPC));
		struct beat again = beat_of(9);
		hear(&again);
		cr_assert(zero(sz, count_of(ACTION_PULL)), "a heartbeat does not make the disk emptier");
		time_ms failed_at = now;
		do
			at_deadline();
		while (count_of(ACTION_PULL) == 0);
		gap_ms = now - failed_at;
		cr_assert(le(i64, gap_ms, 15000));
	}
	cr_assert(ge(i64, gap_ms, 7500));
	pulled();
	durable(9);
	cr_assert(zero(int, status().error));
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
}

Test(slave, a_wrong_digest_heals_by_a_complete_copy, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	failed(-DRS_EDIGEST);
	at_deadline();
	cr_assert(the(ACTION_PULL)->complete);
	failed(-EIO);
	at_deadline();
	cr_assert(the(ACTION_PULL)->complete, "until it is done");
	pulled();
	durable(8);
	struct beat later = beat_of(9);
	hear(&later);
	cr_assert(not(the(ACTION_PULL)->complete));
}

Test(slave, a_replica_that_has_to_heal_builds_on_nothing_that_it_has, .init = begin, .fini = end)
{
	struct beat b = beat_of(8), again = beat_of(8), far = beat_of(9);
	add_inline(&b, 7);
	hear(&b);
	failed(-DRS_EDIGEST);
	now += 1000;
	step((struct event){ .kind = EVENT_TICK }); /* no link: nothing can heal it yet */
	no_answer();
	add_inline(&again, 7);
	hear(&again);
	cr_assert(zero(sz, count_of(ACTION_COMMIT_INLINE)));
	add_window(&far, 9, "db", false);
	add_window(&far, 7, "db", false);
	hear(&far);
	cr_assert(zero(sz, count_of(ACTION_TAKE)));
	join(9);
	cr_assert(the(ACTION_PULL)->complete);
}

Test(slave, a_lost_link_stops_the_pull_and_dials_again, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	hear(&b);
	uint32_t request = the(ACTION_PULL)->request;
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = peer });
	cr_assert(eq(u32, the(ACTION_PULL_STOP)->request, request));
	cr_assert(eq(int, status().state, SLAVE_ALONE));
	step((struct event){ .kind = EVENT_PULLED, .request = request });
	cr_assert(zero(sz, actions.count));
	join(9);
	cr_assert(gt(u32, the(ACTION_PULL)->request, request));
}

Test(slave, a_lost_link_does_not_stop_a_commit, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(9);
	hear(&b);
	pulled();
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = peer });
	cr_assert(eq(int, status().state, SLAVE_COMMITTING));
	durable(9);
	cr_assert(eq(u64, own(), 9));
	cr_assert(zero(sz, count_of(ACTION_REPORT)));
	at_deadline();
	step((struct event){ .kind = EVENT_LINK_UP, .peer = ++peer });
	cr_assert(eq(u64, number(&the(ACTION_HELLO)->version), 9));
}

Test(slave, what_became_durable_between_hello_and_welcome_is_reported, .init = begin, .fini = end)
{
	at_deadline();
	step((struct event){ .kind = EVENT_LINK_UP, .peer = ++peer });
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	durable(8);
	cr_assert(zero(sz, count_of(ACTION_REPORT)));
	step((struct event){ .kind = EVENT_WELCOME, .peer = peer, .version = v(8), .did = &volume, .interval_ms = INTERVAL });
	cr_assert(eq(u64, number(&the(ACTION_REPORT)->version), 8));
}

/* --- the link --- */

Test(slave, dials_with_growing_gaps, .init = begin, .fini = end)
{
	cr_assert(eq(i64, slave_deadline(core), now));
	time_ms expected = DIAL_MIN;
	for (int i = 0; i < 12; i++) {
		at_deadline();
		the(ACTION_DIAL);
		no_answer();
		time_ms gap = slave_deadline(core) - now;
		cr_assert(le(i64, gap, expected));
		cr_assert(ge(i64, gap, expected / 2));
		expected = expected * 2 < DIAL_MAX ? expected * 2 : DIAL_MAX;
	}
}

Test(slave, a_heartbeat_makes_it_dial_soon_but_not_in_a_storm, .init = begin, .fini = end)
{
	for (int i = 0; i < 10; i++) {
		at_deadline();
		no_answer();
	}
	now += DIAL_MAX / 8;
	struct beat b = beat_of(7), again = beat_of(7);
	hear(&b);
	cr_assert(eq(i64, slave_deadline(core), now));
	at_deadline();
	the(ACTION_DIAL);
	no_answer();
	hear(&again);
	cr_assert(ge(i64, slave_deadline(core), now + DIAL_MAX / 8));
}

Test(slave, refused_it_tries_rarely_and_says_why, .init = begin_joined, .fini = end)
{
	step((struct event){ .kind = EVENT_REFUSED, .peer = peer, .error = -EUSERS });
	cr_assert(eq(int, status().state, SLAVE_REFUSED));
	cr_assert(eq(int, status().error, -EUSERS));
	struct beat b = beat_of(7);
	hear(&b);
	cr_assert(ge(i64, slave_deadline(core), now + 15000));
	cr_assert(le(i64, slave_deadline(core), now + 30000));
	at_deadline();
	no_answer();
	cr_assert(eq(int, status().state, SLAVE_REFUSED));
	join(7);
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
	cr_assert(zero(int, status().error));
}

Test(slave, a_master_of_another_volume_is_left, .init = begin, .fini = end)
{
	at_deadline();
	step((struct event){ .kind = EVENT_LINK_UP, .peer = ++peer });
	step((struct event){ .kind = EVENT_WELCOME, .peer = peer, .version = v(9), .did = &other_volume, .interval_ms = INTERVAL });
	cr_assert(eq(u32, the(ACTION_HANG_UP)->peer, peer));
	cr_assert(eq(int, status().error, -DRS_EVOLUME));
	cr_assert(eq(u64, known(), 7));
}

Test(slave, learns_its_volume_from_the_first_welcome, .fini = end)
{
	begin_as(NULL, true);
	struct beat b = beat_of(9), later = beat_of(9);
	hear(&b);
	cr_assert(zero(sz, actions.count));
	join(7);
	hear(&later);
	the(ACTION_PULL);
}

/* --- how it hears (R2.1) --- */

Test(slave, R2_1_without_multicast_it_asks_for_datagrams_and_then_for_the_link, .init = begin_joined, .fini = end)
{
	time_ms joined = now;
	at_deadline();
	cr_assert(eq(i64, now, joined + 3 * INTERVAL));
	cr_assert(eq(int, the(ACTION_REPORT)->path, BEAT_BY_UNICAST));
	at_deadline();
	cr_assert(eq(i64, now, joined + 6 * INTERVAL));
	cr_assert(eq(int, the(ACTION_REPORT)->path, BEAT_BY_LINK));
	cr_assert(eq(i64, slave_deadline(core), TIME_NEVER));
	struct beat b = beat_of(8);
	hear_by(&b, BEAT_BY_LINK);
	the(ACTION_PULL);
}

Test(slave, R2_1_it_goes_back_to_the_better_path_as_soon_as_it_hears_it, .init = begin_joined, .fini = end)
{
	at_deadline();
	at_deadline();
	struct beat unicast = beat_of(7), multicast = beat_of(7), again = beat_of(7);
	hear_by(&unicast, BEAT_BY_UNICAST);
	cr_assert(eq(int, the(ACTION_REPORT)->path, BEAT_BY_UNICAST));
	hear(&multicast);
	cr_assert(eq(int, the(ACTION_REPORT)->path, BEAT_BY_MULTICAST));
	hear_by(&again, BEAT_BY_UNICAST);
	cr_assert(zero(sz, count_of(ACTION_REPORT)));
}

Test(slave, heartbeats_keep_the_path, .init = begin_joined, .fini = end)
{
	for (int i = 0; i < 20; i++) {
		now += INTERVAL;
		struct beat b = beat_of(7);
		hear(&b);
		step((struct event){ .kind = EVENT_TICK });
		cr_assert(zero(sz, actions.count));
	}
}

Test(slave, without_a_group_it_begins_by_unicast, .fini = end)
{
	begin_as(&volume, false);
	at_deadline();
	step((struct event){ .kind = EVENT_LINK_UP, .peer = ++peer });
	cr_assert(eq(int, the(ACTION_HELLO)->path, BEAT_BY_UNICAST));
}

Test(slave, a_name_must_be_one)
{
	struct slave_core_config config = { .ops = &ops, .name = "", .dial_retry_ms_min = 1, .dial_retry_ms_max = 1 };
	struct slave_core *none = NULL;
	cr_assert(eq(int, slave_core_new(&config, 0, &none), -EINVAL));
	cr_assert(eq(ptr, none, NULL));
}

/* --- a check on this server does not accept a version (R3.3, R4.2) --- */

static void refused(uint64_t version)
{
	step((struct event){ .kind = EVENT_FAILED, .error = -DRS_EREFUSED, .version = v(version) });
}

Test(slave_refused, what_a_check_did_not_accept_waits_for_something_newer, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	the(ACTION_COMMIT_INLINE);
	refused(8);
	cr_assert(eq(int, status().state, SLAVE_WAITING));
	hear(&b);
	cr_assert(eq(sz, count_of(ACTION_COMMIT_INLINE) + count_of(ACTION_PULL), 0));
	b = beat_of(9);
	add_inline(&b, 8);
	hear(&b);
	uint32_t request = the(ACTION_PULL)->request;
	step((struct event){ .kind = EVENT_PULLED, .request = request });
	the(ACTION_COMMIT);
	durable(9);
	cr_assert(eq(u64, own(), 9));
	cr_assert(eq(int, status().error, 0));
}

Test(slave_refused, what_came_while_it_was_checked_is_tried_at_once, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	the(ACTION_COMMIT_INLINE);
	b = beat_of(9);
	hear(&b);
	cr_assert(eq(sz, actions.count, 1)); /* CHANGED: something newer is known */
	refused(8);
	the(ACTION_PULL);
}

Test(slave_refused, it_is_tried_again_now_and_then, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	refused(8);
	time_ms since = now;
	do {
		b = beat_of(8);
		hear(&b); /* so that the path is not given up */
		at_deadline();
	} while (count_of(ACTION_PULL) == 0);
	cr_assert(ge(i64, now - since, 30000));
	cr_assert(le(i64, now - since, 120000));
}
