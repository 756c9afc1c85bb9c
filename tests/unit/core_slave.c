/* The slave's core, step by step: R1.4, R2.3, R2.5, R3.2, R3.3, and the participant of two phase, R4. */
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

/* --- two phase: the participant's table, row by row (R4) --- */

#define TIMEOUT 3000

static void prepare_by(peer_id by, uint64_t version, uint64_t previous, const char *delta)
{
	step((struct event){ .kind = EVENT_PREPARE, .peer = by, .version = v(version), .previous = v(previous), .timeout_ms = TIMEOUT,
			     .inline_delta = { delta, delta ? strlen(delta) : 0 } });
}

static void prepare(uint64_t version, uint64_t previous)
{
	prepare_by(peer, version, previous, "delta");
}

static void staged(void)
{
	step((struct event){ .kind = EVENT_PULLED });
}

static void unstaged(uint64_t version)
{
	step((struct event){ .kind = EVENT_UNSTAGED, .version = v(version) });
}

static void checked(uint64_t version)
{
	step((struct event){ .kind = EVENT_CHECKED, .version = v(version) });
}

static void expect_answer(uint64_t version, enum prepare_answer answer, int error)
{
	const struct action *a = the(ACTION_ANSWER);
	cr_assert(eq(u32, a->peer, peer));
	cr_assert(eq(u64, number(&a->version), version));
	cr_assert(eq(int, a->answer, answer));
	cr_assert(eq(int, a->error, error));
}

static void begin_fetching(void)
{
	begin_joined();
	prepare(8, 7);
	unstaged(8);
}

static void begin_checking(void)
{
	begin_joined();
	prepare(8, 7);
	staged();
}

static void begin_prepared(void)
{
	begin_checking();
	checked(8);
}

static void link_down(void)
{
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = peer });
}

static void tick_at(time_ms at)
{
	now = at;
	step((struct event){ .kind = EVENT_TICK });
}

static uint64_t prepared_version(void)
{
	struct slave_status s = status();
	return number(&s.prepared);
}

Test(participant, R4_2_stages_checks_and_acks, .init = begin_joined, .fini = end)
{
	prepare(8, 7);
	cr_assert(eq(u64, number(&the(ACTION_STAGE)->version), 8));
	cr_assert(eq(sz, the(ACTION_STAGE)->inline_delta.size, 5));
	cr_assert(eq(int, status().state, SLAVE_PREPARING));
	cr_assert(eq(u64, prepared_version(), 8));
	staged();
	cr_assert(eq(u64, number(&the(ACTION_CHECK)->version), 8));
	cr_assert(eq(int, status().state, SLAVE_CHECKING));
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	checked(8);
	expect_answer(8, PREPARE_ACK, 0);
	cr_assert(eq(int, status().state, SLAVE_PREPARED));
	cr_assert(eq(u64, own(), 7), "R4.5: nothing of it is seen");
	cr_assert(eq(u64, known(), 7));
}

Test(participant, pulls_what_did_not_come_along, .init = begin_joined, .fini = end)
{
	prepare_by(peer, 8, 7, NULL);
	cr_assert(zero(sz, the(ACTION_STAGE)->inline_delta.size));
	unstaged(8);
	const struct action *pull = the(ACTION_PULL);
	cr_assert(pull->proposed);
	cr_assert(not(pull->complete));
	cr_assert(eq(u64, number(&pull->version), 8));
	cr_assert(eq(int, status().state, SLAVE_PREPARING));
	step((struct event){ .kind = EVENT_PULLED, .request = pull->request + 1 });
	cr_assert(zero(sz, count_of(ACTION_CHECK)), "not the one that was asked for");
	step((struct event){ .kind = EVENT_PULLED, .request = 1 });
	the(ACTION_CHECK);
	cr_assert(zero(sz, count_of(ACTION_COMMIT)));
}

Test(participant, not_before_the_welcome_and_not_by_another_link, .init = begin_joined, .fini = end)
{
	prepare_by(peer + 1, 8, 7, "delta");
	cr_assert(zero(sz, actions.count));
	link_down();
	prepare(8, 7);
	cr_assert(zero(sz, actions.count));
	at_deadline();
	step((struct event){ .kind = EVENT_LINK_UP, .peer = ++peer });
	prepare(8, 7);
	cr_assert(zero(sz, actions.count));
}

Test(participant, R4_2_out_of_sync_pulls_and_reports, .init = begin_joined, .fini = end)
{
	prepare(9, 8);
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	cr_assert(eq(u64, known(), 8));
	cr_assert(not(the(ACTION_PULL)->proposed));
	prepare(9, 8);
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	cr_assert(zero(sz, count_of(ACTION_PULL)), "it is on its way");
	step((struct event){ .kind = EVENT_PULLED, .request = 1 });
	prepare(9, 8);
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	durable(8);
	the(ACTION_REPORT);
	prepare(9, 8);
	the(ACTION_STAGE);
}

Test(participant, a_commit_that_takes_long_is_out_of_sync_until_it_is_over, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	the(ACTION_COMMIT_INLINE);
	tick_at(now + 500);
	prepare(9, 8);
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	hear(&b);
	cr_assert(zero(sz, actions.count));
	link_down();
	durable(8);
	cr_assert(eq(u64, own(), 8));
	cr_assert(zero(sz, count_of(ACTION_REPORT)));
}

Test(participant, a_prepare_ends_the_waiting_after_a_failure, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	hear(&b);
	failed(-EIO);
	cr_assert(eq(int, status().state, SLAVE_WAITING));
	prepare(9, 8);
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	the(ACTION_PULL);
}

Test(participant, a_full_disk_on_the_way_to_being_in_sync_is_a_nak, .init = begin_joined, .fini = end)
{
	prepare(9, 8);
	failed(-EIO);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)), "that may pass");
	at_deadline();
	failed(-ENOSPC);
	expect_answer(9, PREPARE_NAK, -ENOSPC);
	struct beat b = beat_of(9);
	hear(&b);
	for (int i = 0; i < 20 && count_of(ACTION_PULL) == 0; i++)
		at_deadline();
	failed(-ENOSPC);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)), "it was decided without us");
}

Test(participant, a_number_that_it_has_or_a_base_that_it_has_left_is_a_nak, .init = begin_joined, .fini = end)
{
	prepare(7, 6);
	expect_answer(7, PREPARE_NAK, -DRS_EPROTOCOL);
	prepare(6, 5);
	expect_answer(6, PREPARE_NAK, -DRS_EPROTOCOL);
	prepare(9, 6);
	expect_answer(9, PREPARE_NAK, -DRS_EPROTOCOL);
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
}

Test(participant, R4_2_what_cannot_be_staged_is_a_nak, .init = begin_joined, .fini = end)
{
	prepare(8, 7);
	failed(-ENOSPC);
	cr_assert(eq(int, items[0].kind, ACTION_UNPREPARE));
	expect_answer(8, PREPARE_NAK, -ENOSPC);
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
	cr_assert(zero(int, status().error), "it still has the newest version");
}

Test(participant, R4_2_what_cannot_be_pulled_is_a_nak, .init = begin_fetching, .fini = end)
{
	failed(-EIO);
	the(ACTION_UNPREPARE);
	cr_assert(zero(sz, count_of(ACTION_PULL_STOP)), "it is over already");
	expect_answer(8, PREPARE_NAK, -EIO);
}

Test(participant, R4_2_what_a_check_refuses_is_a_nak, .init = begin_checking, .fini = end)
{
	failed(-DRS_EREFUSED);
	the(ACTION_UNPREPARE);
	expect_answer(8, PREPARE_NAK, -DRS_EREFUSED);
	checked(8);
	cr_assert(zero(sz, actions.count));
}

Test(participant, a_wrong_digest_asks_for_all_of_it_once, .init = begin_checking, .fini = end)
{
	failed(-DRS_EDIGEST);
	the(ACTION_UNPREPARE);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	cr_assert(zero(sz, the(ACTION_STAGE)->inline_delta.size));
	unstaged(8);
	cr_assert(the(ACTION_PULL)->complete);
	cr_assert(the(ACTION_PULL)->proposed);
	failed(-DRS_EDIGEST);
	expect_answer(8, PREPARE_NAK, -DRS_EDIGEST);
	prepare(9, 7);
	cr_assert(zero(sz, the(ACTION_STAGE)->inline_delta.size), "it builds on nothing that it has");
	unstaged(9);
	cr_assert(the(ACTION_PULL)->complete);
	step((struct event){ .kind = EVENT_PULLED, .request = the(ACTION_PULL)->request });
	checked(9);
	expect_answer(9, PREPARE_ACK, 0);
	struct beat b = beat_of(9);
	hear(&b);
	durable(9);
	struct beat next_one = beat_of(10);
	hear(&next_one);
	cr_assert(not(the(ACTION_PULL)->complete), "it is healed");
}

Test(participant, a_wrong_digest_without_a_link, .init = begin_checking, .fini = end)
{
	link_down();
	failed(-DRS_EDIGEST);
	the(ACTION_UNPREPARE);
	cr_assert(zero(sz, count_of(ACTION_STAGE)));
	join(7);
	prepare(8, 7);
	cr_assert(zero(sz, the(ACTION_STAGE)->inline_delta.size));
}

Test(participant, R4_3_commits_when_it_is_current, .init = begin_prepared, .fini = end)
{
	struct beat same_as_before = beat_of(7), b = beat_of(8);
	hear(&same_as_before);
	cr_assert(zero(sz, actions.count));
	hear(&b);
	cr_assert(eq(u64, number(&the(ACTION_COMMIT_PREPARED)->version), 8));
	cr_assert(eq(int, status().state, SLAVE_COMMITTING));
	hear(&b);
	cr_assert(zero(sz, actions.count));
	prepare(8, 7);
	expect_answer(8, PREPARE_OUT_OF_SYNC, 0); /* of a master that does not know what it has decided: it cannot be */
	durable(8);
	cr_assert(eq(u64, number(&the(ACTION_REPORT)->version), 8));
	cr_assert(eq(u64, own(), 8));
	cr_assert(zero(u64, prepared_version()));
	cr_assert(eq(i64, slave_deadline(core), now + 3 * INTERVAL), "no time runs any more but the path's");
}

Test(participant, R4_3_commits_when_the_window_says_so, .init = begin_prepared, .fini = end)
{
	struct beat b = beat_of(10);
	add_window(&b, 10, NULL, false);
	add_window(&b, 9, NULL, true);
	add_window(&b, 8, NULL, false);
	hear(&b);
	the(ACTION_COMMIT_PREPARED);
	cr_assert(zero(sz, count_of(ACTION_PULL)), "one at a time");
	durable(8);
	the(ACTION_REPORT);
	the(ACTION_PULL);
}

Test(participant, R4_5_an_aborted_version_is_forgotten, .init = begin_prepared, .fini = end)
{
	struct beat b = beat_of(7);
	add_window(&b, 8, NULL, true);
	add_window(&b, 7, NULL, false);
	hear(&b);
	the(ACTION_UNPREPARE);
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
	cr_assert(zero(u64, prepared_version()));
	hear(&b);
	cr_assert(zero(sz, actions.count));
}

Test(participant, R4_5_the_window_has_moved_past_it, .init = begin_prepared, .fini = end)
{
	struct beat b = beat_of(10);
	add_window(&b, 10, NULL, false);
	add_window(&b, 9, NULL, false);
	hear(&b);
	the(ACTION_UNPREPARE);
	the(ACTION_PULL);
}

Test(participant, R4_5_the_master_has_gone_on_from_the_same_version_to_another, .fini = end)
{
	begin_joined();
	prepare(9, 7);
	staged();
	checked(9);
	struct beat b = beat_of(8);
	hear(&b);
	the(ACTION_UNPREPARE);
	the(ACTION_PULL);
}

/* An entry above the current version that is not aborted says nothing: no master tells it. */
Test(participant, what_is_not_decided_is_not, .init = begin_prepared, .fini = end)
{
	struct beat b = beat_of(7);
	add_window(&b, 8, NULL, false);
	add_window(&b, 7, NULL, false);
	hear(&b);
	cr_assert(zero(sz, actions.count));
	struct beat old = beat_of(5);
	hear(&old);
	cr_assert(zero(sz, actions.count));
	struct beat foreign = beat_of(8);
	foreign.did = other_volume;
	hear(&foreign);
	cr_assert(zero(sz, actions.count));
}

Test(participant, R4_6_committed_without_us_while_fetching, .init = begin_fetching, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	cr_assert(eq(int, items[0].kind, ACTION_PULL_STOP));
	cr_assert(eq(u32, items[0].request, 1));
	cr_assert(eq(int, items[1].kind, ACTION_UNPREPARE));
	the(ACTION_COMMIT_INLINE);
}

Test(participant, R4_6_committed_without_us_while_checking, .init = begin_checking, .fini = end)
{
	struct beat b = beat_of(8);
	hear(&b);
	the(ACTION_UNPREPARE);
	cr_assert(not(the(ACTION_PULL)->proposed));
	cr_assert(zero(sz, count_of(ACTION_COMMIT_PREPARED)));
	checked(8);
	cr_assert(zero(sz, actions.count), "late");
}

Test(participant, R4_5_aborted_while_fetching, .init = begin_fetching, .fini = end)
{
	struct beat b = beat_of(7);
	add_window(&b, 8, NULL, true);
	hear(&b);
	the(ACTION_PULL_STOP);
	the(ACTION_UNPREPARE);
	unstaged(8);
	cr_assert(zero(sz, actions.count), "late");
}

Test(participant, R4_5_another_prepare_takes_its_place, .init = begin_prepared, .fini = end)
{
	prepare(9, 7);
	cr_assert(eq(int, items[0].kind, ACTION_UNPREPARE));
	cr_assert(eq(u64, number(&the(ACTION_STAGE)->version), 9));
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	unstaged(9);
	prepare(11, 10);
	the(ACTION_PULL_STOP);
	the(ACTION_UNPREPARE);
	expect_answer(11, PREPARE_OUT_OF_SYNC, 0);
	the(ACTION_PULL);
}

Test(participant, the_next_prepare_tells_the_commit, .init = begin_prepared, .fini = end)
{
	prepare(9, 8);
	cr_assert(eq(u64, number(&the(ACTION_COMMIT_PREPARED)->version), 8));
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	cr_assert(zero(sz, count_of(ACTION_UNPREPARE)));
	cr_assert(zero(sz, count_of(ACTION_PULL)));
	durable(8);
	cr_assert(eq(u64, number(&the(ACTION_REPORT)->version), 8));
	prepare(9, 8);
	the(ACTION_STAGE);
}

Test(participant, R4_5_an_older_prepare_ends_it_as_well, .init = begin_prepared, .fini = end)
{
	prepare(7, 6);
	the(ACTION_UNPREPARE);
	expect_answer(7, PREPARE_NAK, -DRS_EPROTOCOL);
}

Test(participant, R4_5_time_is_up_when_prepared, .init = begin_prepared, .fini = end)
{
	time_ms due = now + TIMEOUT + 2000;
	for (struct beat b = beat_of(7); now + INTERVAL < due;) {
		tick_at(now + INTERVAL);
		hear(&b);
		cr_assert(zero(sz, count_of(ACTION_UNPREPARE)));
	}
	cr_assert(eq(i64, slave_deadline(core), due));
	tick_at(due);
	the(ACTION_UNPREPARE);
	cr_assert(eq(int, status().state, SLAVE_CURRENT));
	struct beat b = beat_of(8);
	hear(&b);
	the(ACTION_PULL);
}

Test(participant, R4_5_time_is_up_while_checking, .init = begin_checking, .fini = end)
{
	tick_at(now + TIMEOUT + 2000);
	the(ACTION_UNPREPARE);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
}

Test(participant, R4_5_time_is_up_while_fetching, .init = begin_fetching, .fini = end)
{
	tick_at(now + TIMEOUT + 2000);
	the(ACTION_PULL_STOP);
	the(ACTION_UNPREPARE);
}

Test(participant, the_same_prepare_again, .init = begin_fetching, .fini = end)
{
	prepare(8, 7);
	cr_assert(zero(sz, actions.count));
	step((struct event){ .kind = EVENT_PULLED, .request = 1 });
	now += 1000;
	prepare(8, 7);
	cr_assert(zero(sz, actions.count));
	now += 1000;
	checked(8);
	expect_answer(8, PREPARE_ACK, 0);
	now += 1000;
	prepare(8, 7);
	expect_answer(8, PREPARE_ACK, 0);
	tick_at(now + TIMEOUT + 1999);
	cr_assert(zero(sz, count_of(ACTION_UNPREPARE)), "its time began anew");
	tick_at(now + 1);
	the(ACTION_UNPREPARE);
}

Test(participant, what_was_staged_may_be_resumed_after_a_lost_link, .init = begin_fetching, .fini = end)
{
	link_down();
	the(ACTION_PULL_STOP);
	cr_assert(zero(sz, count_of(ACTION_UNPREPARE)));
	join(7);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	prepare(8, 7);
	the(ACTION_STAGE);
}

Test(participant, a_delta_to_be_pulled_and_no_link, .init = begin_joined, .fini = end)
{
	prepare(8, 7);
	link_down();
	unstaged(8);
	the(ACTION_UNPREPARE);
	cr_assert(zero(sz, count_of(ACTION_PULL)));
}

Test(participant, a_check_outlives_the_link_and_the_next_gets_the_answer, .init = begin_checking, .fini = end)
{
	link_down();
	cr_assert(zero(sz, count_of(ACTION_UNPREPARE)));
	join(7);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	prepare(8, 7);
	cr_assert(zero(sz, actions.count));
	checked(8);
	expect_answer(8, PREPARE_ACK, 0);
}

Test(participant, nobody_who_has_not_asked_gets_an_answer, .init = begin_checking, .fini = end)
{
	link_down();
	checked(8);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	cr_assert(eq(int, status().state, SLAVE_PREPARED));
	join(7);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	prepare(8, 7);
	expect_answer(8, PREPARE_ACK, 0);
}

Test(participant, the_welcome_may_tell_the_commit, .init = begin_prepared, .fini = end)
{
	link_down();
	join(8);
	the(ACTION_COMMIT_PREPARED);
	cr_assert(zero(sz, count_of(ACTION_PULL)));
	durable(8);
	cr_assert(eq(u64, own(), 8));
}

Test(participant, the_welcome_may_tell_that_the_master_is_past_it, .init = begin_prepared, .fini = end)
{
	link_down();
	join(9);
	the(ACTION_UNPREPARE);
	the(ACTION_PULL);
}

Test(participant, a_commit_that_fails_is_had_by_one_phase, .init = begin_prepared, .fini = end)
{
	struct beat b = beat_of(8);
	hear(&b);
	failed(-ENOSPC);
	the(ACTION_UNPREPARE);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	cr_assert(eq(int, status().state, SLAVE_WAITING));
	at_deadline();
	the(ACTION_PULL);
	failed(-ENOSPC);
	cr_assert(zero(sz, count_of(ACTION_UNPREPARE)), "nothing is prepared any more");
}

Test(participant, nothing_is_prepared_after_the_commit, .init = begin_prepared, .fini = end)
{
	struct beat b = beat_of(8), newer = beat_of(9);
	hear(&b);
	durable(8);
	hear(&newer);
	pulled();
	failed(-EIO);
	cr_assert(zero(sz, count_of(ACTION_UNPREPARE)));
}

/* --- checks of one-phase versions --- */

static void begin_check_refused(void)
{
	begin_joined();
	struct beat b = beat_of(8);
	hear(&b);
	pulled();
	failed(-DRS_EREFUSED);
}

Test(check, a_refused_version_is_tried_again_after_a_minute, .init = begin_check_refused, .fini = end)
{
	cr_assert(eq(int, status().state, SLAVE_WAITING));
	cr_assert(eq(int, status().error, -DRS_EREFUSED));
	cr_assert(eq(u64, own(), 7));
	time_ms due = now + 60000;
	for (struct beat b = beat_of(8); now + INTERVAL < due;) {
		tick_at(now + INTERVAL);
		cr_assert(zero(sz, count_of(ACTION_PULL)));
		hear(&b);
		cr_assert(zero(sz, count_of(ACTION_PULL)));
	}
	tick_at(due);
	the(ACTION_PULL);
	pulled();
	durable(8);
	cr_assert(zero(int, status().error));
}

Test(check, a_newer_version_is_tried_at_once, .init = begin_check_refused, .fini = end)
{
	struct beat b = beat_of(9);
	hear(&b);
	the(ACTION_PULL);
}

Test(check, a_newer_version_may_be_told_by_the_welcome, .init = begin_check_refused, .fini = end)
{
	link_down();
	join(9);
	the(ACTION_PULL);
}

Test(check, one_that_came_in_a_heartbeat_is_refused_as_well, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	failed(-DRS_EREFUSED);
	tick_at(now + 50000);
	cr_assert(zero(sz, count_of(ACTION_PULL)));
}

Test(check, a_refusal_by_the_other_side_is_no_check, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	hear(&b);
	failed(-DRS_EREFUSED);
	tick_at(now + 250);
	the(ACTION_PULL);
}

/* Asked to prepare 9 from 8, which the check did not accept: it is fetched from 7. */
static void begin_mending(void)
{
	begin_check_refused();
	prepare(9, 8);
	cr_assert(zero(sz, the(ACTION_STAGE)->inline_delta.size), "what came along leads on from 8");
	unstaged(9);
}

static void mend_fetched(void)
{
	step((struct event){ .kind = EVENT_PULLED, .request = 2 });
	cr_assert(eq(u64, number(&the(ACTION_CHECK)->version), 9));
}

static void expect_stuck_again(void)
{
	cr_assert(eq(int, status().state, SLAVE_WAITING));
	cr_assert(eq(int, status().error, -DRS_EREFUSED));
	cr_assert(eq(u64, own(), 7));
	cr_assert(zero(sz, count_of(ACTION_PULL)), "there is nothing newer than what was refused");
}

Test(check, R4_2_what_mends_the_refused_version_is_prepared_from_its_own, .init = begin_mending, .fini = end)
{
	cr_assert(the(ACTION_PULL)->proposed);
	cr_assert(not(the(ACTION_PULL)->complete));
	struct beat b = beat_of(8);
	hear(&b);
	cr_assert(zero(sz, actions.count), "that is known");
	mend_fetched();
	checked(9);
	expect_answer(9, PREPARE_ACK, 0);
	hear(&b);
	cr_assert(eq(int, status().state, SLAVE_PREPARED));
	b = beat_of(9);
	hear(&b);
	the(ACTION_COMMIT_PREPARED);
	durable(9);
	the(ACTION_REPORT);
	cr_assert(eq(u64, own(), 9));
	cr_assert(zero(int, status().error));
}

Test(check, what_does_not_mend_it_is_a_nak_and_the_next_is_looked_at_again, .init = begin_mending, .fini = end)
{
	time_ms due = now + 60000;
	mend_fetched();
	failed(-DRS_EREFUSED);
	the(ACTION_UNPREPARE);
	expect_answer(9, PREPARE_NAK, -DRS_EREFUSED);
	expect_stuck_again();
	prepare(10, 8);
	the(ACTION_STAGE);
	unstaged(10);
	failed(-EIO);
	expect_answer(10, PREPARE_NAK, -EIO);
	expect_stuck_again();
	tick_at(due);
	cr_assert(not(the(ACTION_PULL)->proposed), "the refused one is tried again when it would have been");
	pulled();
	failed(-DRS_EREFUSED);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)), "nobody waits");
	expect_stuck_again();
}

Test(check, R4_5_an_abort_of_what_mends_it_leaves_it_waiting, .init = begin_mending, .fini = end)
{
	mend_fetched();
	checked(9);
	struct beat b = beat_of(8);
	add_window(&b, 9, NULL, true);
	hear(&b);
	the(ACTION_UNPREPARE);
	expect_stuck_again();
	prepare(10, 8);
	unstaged(10);
	tick_at(now + TIMEOUT + 2000);
	the(ACTION_UNPREPARE);
	expect_stuck_again();
}

Test(check, a_newer_version_ends_the_mending, .init = begin_mending, .fini = end)
{
	struct beat b = beat_of(10);
	hear(&b);
	the(ACTION_UNPREPARE);
	cr_assert(not(the(ACTION_PULL)->proposed));
}

Test(check, a_lost_link_ends_the_fetching_of_what_mends_it, .init = begin_mending, .fini = end)
{
	link_down();
	the(ACTION_PULL_STOP);
	expect_stuck_again();
	join(8);
	cr_assert(zero(sz, count_of(ACTION_PULL)));
	prepare(9, 8);
	the(ACTION_STAGE);
}

Test(check, a_wrong_digest_of_what_mends_it_asks_for_all_of_it_once, .init = begin_mending, .fini = end)
{
	step((struct event){ .kind = EVENT_PULLED, .request = 2 });
	failed(-DRS_EDIGEST);
	the(ACTION_STAGE);
	unstaged(9);
	cr_assert(the(ACTION_PULL)->complete);
	failed(-EIO);
	expect_answer(9, PREPARE_NAK, -EIO);
	cr_assert(the(ACTION_PULL)->complete, "the replica is not what the master had: it heals as soon as it can");
	cr_assert(not(the(ACTION_PULL)->proposed));
}

/* It is asked while it looks at the version that the check is about to refuse, or at none newer than it knew of: who asks has to wait no longer for that. */
Test(check, who_waits_for_us_to_be_in_sync_gets_it_prepared_from_our_own, .init = begin_joined, .fini = end)
{
	prepare(9, 8);
	expect_answer(9, PREPARE_OUT_OF_SYNC, 0);
	pulled();
	failed(-DRS_EREFUSED);
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	cr_assert(eq(u64, number(&the(ACTION_STAGE)->version), 9));
	unstaged(9);
	mend_fetched();
	checked(9);
	expect_answer(9, PREPARE_ACK, 0);
}

Test(check, who_waited_and_has_given_up_is_left_alone, .init = begin_joined, .fini = end)
{
	prepare(9, 8);
	pulled();
	struct beat b = beat_of(8);
	add_window(&b, 9, NULL, true);
	hear(&b);
	failed(-DRS_EREFUSED);
	cr_assert(zero(sz, count_of(ACTION_STAGE)));
	cr_assert(zero(sz, count_of(ACTION_ANSWER)));
	expect_stuck_again();
}

Test(check, who_asks_from_a_newer_version_than_the_refused_waits_for_that, .init = begin_check_refused, .fini = end)
{
	prepare(10, 9);
	expect_answer(10, PREPARE_OUT_OF_SYNC, 0);
	cr_assert(not(the(ACTION_PULL)->proposed));
	pulled();
	durable(9);
	the(ACTION_REPORT);
	prepare(10, 9);
	cr_assert(eq(sz, the(ACTION_STAGE)->inline_delta.size, 5));
}

Test(check, what_came_while_it_was_looked_at_is_tried_at_once, .init = begin_joined, .fini = end)
{
	struct beat b = beat_of(8);
	add_inline(&b, 7);
	hear(&b);
	the(ACTION_COMMIT_INLINE);
	b = beat_of(9);
	hear(&b);
	cr_assert(eq(sz, actions.count, 1)); /* CHANGED: something newer is known */
	step((struct event){ .kind = EVENT_FAILED, .error = -DRS_EREFUSED, .version = v(8) });
	the(ACTION_PULL);
}
