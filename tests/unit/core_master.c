/* The master's core, step by step: R2.1, R2.2, R2.4, R3.1, R3.3, R3.4, and the coordinator of two phase, R4. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/scope.h"
#include "master/core.h"

#define INTERVAL 1000
#define PEERS 3

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

/* --- one core and what it said last --- */

static struct master_core *core;
static time_ms now = 5000;
static struct action items[ACTIONS_MAX(PEERS)];
static struct actions actions = { .capacity = ARRAY_SIZE(items), .items = items };
static struct beat beat;

static void step(struct event e)
{
	e.now = now;
	master_step(core, &e, &actions);
}

static void begin_with(bool multicast)
{
	struct master_core_config config = { .did = { "v" }, .ops = &ops, .version = v(7), .incarnation = 3, .link_port = 99, .beat_interval_ms = INTERVAL,
					     .window_beats = 4, .peers_max = PEERS, .peer_silence_ms = 10000, .multicast = multicast };
	cr_assert(eq(int, master_core_new(&config, now, &core), 0));
}

static void begin(void)
{
	begin_with(true);
	step((struct event){ .kind = EVENT_TICK });
}

static void end(void)
{
	master_core_free(core);
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

static void at_deadline(void)
{
	time_ms due = master_deadline(core);
	cr_assert(due != TIME_NEVER);
	now = due > now ? due : now;
	step((struct event){ .kind = EVENT_TICK });
}

static void hello(peer_id peer, const char *name, uint64_t version, enum beat_path path)
{
	step((struct event){ .kind = EVENT_HELLO, .peer = peer, .name = name, .version = v(version), .path = path });
}

static void report(peer_id peer, uint64_t version, enum beat_path path)
{
	step((struct event){ .kind = EVENT_REPORT, .peer = peer, .version = v(version), .path = path });
}

static void update(uint64_t version, const char *scope_name, const char *delta)
{
	struct scope scope = { 0 };
	if (scope_name)
		scope_add(&scope, scope_name);
	step((struct event){ .kind = EVENT_UPDATE, .version = v(version), .scope = &scope, .inline_delta = { delta, delta ? strlen(delta) : 0 } });
}

static void stored(uint64_t version)
{
	step((struct event){ .kind = EVENT_STORED, .version = v(version) });
}

static void change(uint64_t version, const char *scope_name)
{
	update(version, scope_name, NULL);
	stored(version);
	master_beat(core, &beat);
}

static const struct member *member(const char *name)
{
	const struct member *members;
	size_t count = master_members(core, &members);
	for (size_t i = 0; i < count; i++)
		if (strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

/* --- heartbeats --- */

Test(master, beats_at_once_and_then_regularly, .init = begin, .fini = end)
{
	cr_assert(eq(sz, count_of(ACTION_BEAT), 1));
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 7));
	cr_assert(eq(u64, beat.incarnation, 3));
	cr_assert(eq(u8, beat.window_count, 1));
	cr_assert(eq(i64, master_deadline(core), now + INTERVAL));
	uint64_t before = beat.sequence;
	at_deadline();
	the(ACTION_BEAT);
	master_beat(core, &beat);
	cr_assert(gt(u64, beat.sequence, before));
}

Test(master, an_early_tick_does_nothing, .init = begin, .fini = end)
{
	now += 10;
	step((struct event){ .kind = EVENT_TICK });
	cr_assert(zero(sz, actions.count));
}

Test(master, R3_1_a_number_is_told_only_when_it_is_durable, .init = begin, .fini = end)
{
	update(8, NULL, "delta");
	cr_assert(eq(u64, number(&the(ACTION_STORE)->version), 8));
	cr_assert(eq(sz, actions.count, 1));
	cr_assert(eq(u64, number(master_version(core)), 7));
	stored(8);
	the(ACTION_BEAT);
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 8));
	cr_assert(eq(u64, number(&beat.previous), 7));
	cr_assert(eq(sz, beat.inline_delta.size, 5));
	cr_assert(zero(int, memcmp(beat.inline_delta.data, "delta", 5)));
	cr_assert(eq(u8, beat.window_count, 2));
	cr_assert(eq(u64, number(&beat.window[0].version), 8));
	cr_assert(eq(u64, number(&beat.window[1].version), 7));
}

Test(master, a_number_that_cannot_be_stored_is_tried_again, .init = begin, .fini = end)
{
	update(8, NULL, NULL);
	step((struct event){ .kind = EVENT_FAILED, .error = -ENOSPC });
	cr_assert(zero(sz, actions.count));
	now += 999;
	step((struct event){ .kind = EVENT_TICK });
	cr_assert(zero(sz, count_of(ACTION_STORE)));
	now += 1;
	step((struct event){ .kind = EVENT_TICK });
	the(ACTION_STORE);
	stored(8);
	cr_assert(eq(u64, number(master_version(core)), 8));
}

Test(master, updates_that_come_meanwhile_are_told_in_order, .init = begin, .fini = end)
{
	update(8, NULL, "8");
	update(9, NULL, "9");
	cr_assert(zero(sz, actions.count));
	stored(8);
	the(ACTION_BEAT);
	cr_assert(eq(u64, number(&the(ACTION_STORE)->version), 9));
	stored(9);
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.previous), 8));
	cr_assert(eq(sz, beat.inline_delta.size, 1));
	cr_assert(eq(u8, beat.window_count, 3));
}

Test(master, more_updates_than_fit_become_one_that_concerns_all_of_theirs, .init = begin, .fini = end)
{
	update(8, NULL, NULL);
	for (uint64_t n = 9; n < 40; n++)
		update(n, n % 2 ? "odd" : "even", "x");
	for (uint64_t n = 8; n < 15; n++)
		stored(n);
	stored(39);
	cr_assert(zero(sz, count_of(ACTION_STORE)));
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 39));
	cr_assert(zero(sz, beat.inline_delta.size));
	cr_assert(scope_names(&beat.window[0].scope, "odd"));
	cr_assert(scope_names(&beat.window[0].scope, "even"));
	cr_assert(eq(u64, number(&beat.window[1].version), 14));
}

Test(master, a_delta_goes_along_only_where_it_surely_fits, .init = begin, .fini = end)
{
	static char big[DRS_INLINE_BYTES_MAX + 2];
	memset(big, 'x', sizeof(big) - 1);
	update(8, NULL, big);
	stored(8);
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size), "too big");
	update(10, NULL, "two steps");
	stored(10);
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size), "does not start at the version before");
	update(11, "web", "secret");
	stored(11);
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size), "not for everyone (R6.2)");
}

Test(master, an_update_known_already_is_no_news_and_a_late_one_empties_the_window, .init = begin, .fini = end)
{
	update(7, NULL, NULL);
	cr_assert(zero(sz, actions.count));
	change(9, "web");
	cr_assert(eq(u8, beat.window_count, 2));
	update(8, NULL, NULL);
	cr_assert(zero(sz, actions.count));
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 1));
	cr_assert(eq(u64, number(&beat.current), 9));
}

/* --- R3.4: one datagram, and what heals a lost one --- */

Test(master, R3_4_a_change_is_one_datagram_for_all_who_hear_multicast, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	hello(2, "b", 7, BEAT_BY_MULTICAST);
	update(8, NULL, "x");
	stored(8);
	cr_assert(eq(sz, actions.count, 1));
	the(ACTION_BEAT);
	report(1, 8, BEAT_BY_MULTICAST);
	report(2, 8, BEAT_BY_MULTICAST);
	at_deadline();
	cr_assert(zero(sz, actions.count), "everyone has reported: no repeat");
	cr_assert(gt(i64, master_deadline(core), now + 500));
}

Test(master, the_heartbeat_is_repeated_for_those_who_have_not_reported, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	hello(2, "b", 7, BEAT_BY_UNICAST);
	hello(3, "c", 7, BEAT_BY_LINK);
	update(8, NULL, "x");
	stored(8);
	time_ms told = now;
	cr_assert(eq(sz, count_of(ACTION_BEAT_TO), 2));
	at_deadline();
	cr_assert(eq(i64, now, told + 20));
	the(ACTION_BEAT);
	cr_assert(eq(u32, the(ACTION_BEAT_TO)->peer, 2));
	report(1, 8, BEAT_BY_MULTICAST);
	at_deadline();
	cr_assert(eq(i64, now, told + 100));
	cr_assert(zero(sz, count_of(ACTION_BEAT)));
	master_beat(core, &beat);
	cr_assert(eq(sz, beat.inline_delta.size, 1));
	at_deadline();
	cr_assert(eq(i64, now, told + 420));
	cr_assert(eq(u32, the(ACTION_BEAT_TO)->peer, 2));
	master_beat(core, &beat);
	cr_assert(eq(sz, beat.inline_delta.size, 1));
	at_deadline();
	cr_assert(zero(sz, actions.count), "no more repeats");
	at_deadline();
	cr_assert(eq(i64, now, told + INTERVAL));
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size), "the regular one is lean again");
}

Test(master, nobody_to_lose_it_no_repeat, .init = begin, .fini = end)
{
	change(8, NULL);
	at_deadline();
	cr_assert(zero(sz, actions.count));
}

Test(master, without_multicast_each_is_told_by_its_path, .fini = end)
{
	begin_with(false);
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	hello(2, "b", 7, BEAT_BY_LINK);
	update(8, NULL, NULL);
	stored(8);
	cr_assert(eq(sz, actions.count, 2));
	cr_assert(eq(int, items[0].path, BEAT_BY_UNICAST));
	cr_assert(eq(int, items[1].path, BEAT_BY_LINK));
}

Test(master, a_new_path_is_used_at_once_and_better_ones_are_tried, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	report(1, 7, BEAT_BY_UNICAST);
	cr_assert(eq(int, the(ACTION_BEAT_TO)->path, BEAT_BY_UNICAST));
	report(1, 7, BEAT_BY_LINK);
	cr_assert(eq(int, the(ACTION_BEAT_TO)->path, BEAT_BY_LINK));
	at_deadline();
	the(ACTION_BEAT);
	cr_assert(eq(sz, count_of(ACTION_BEAT_TO), 2), "its link, and a datagram to see whether it arrives");
	report(1, 7, BEAT_BY_MULTICAST);
	cr_assert(zero(sz, actions.count));
	at_deadline();
	cr_assert(eq(sz, actions.count, 1));
}

/* --- R2.4: the window --- */

Test(master, R2_4_the_window_is_bounded_whatever_the_rate, .init = begin, .fini = end)
{
	hello(1, "behind", 7, BEAT_BY_MULTICAST);
	for (uint64_t n = 8; n < 200; n++) {
		change(n, NULL);
		cr_assert(le(u8, beat.window_count, WINDOW_MAX));
		cr_assert(eq(u64, number(&beat.window[0].version), n));
	}
}

Test(master, R2_4_an_entry_stays_for_the_configured_number_of_heartbeats, .init = begin, .fini = end)
{
	hello(1, "behind", 7, BEAT_BY_LINK);
	change(8, NULL);
	int beats = 1;
	while (beat.window_count == 2) {
		at_deadline();
		if (count_of(ACTION_BEAT) == 0)
			continue;
		master_beat(core, &beat);
		beats++;
	}
	cr_assert(eq(int, beats, 5), "four with it, and this one without");
	cr_assert(eq(u64, number(&beat.window[0].version), 8), "the current version never leaves");
}

Test(master, R2_4_an_entry_leaves_early_when_every_slave_has_what_came_after, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_LINK);
	hello(2, "b", 7, BEAT_BY_LINK);
	change(8, NULL);
	report(1, 8, BEAT_BY_LINK);
	now += INTERVAL;
	step((struct event){ .kind = EVENT_TICK });
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 2));
	report(2, 8, BEAT_BY_LINK);
	now += INTERVAL;
	step((struct event){ .kind = EVENT_TICK });
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 1));
}

/* --- members --- */

Test(master, members_come_report_and_go, .init = begin, .fini = end)
{
	hello(1, "a", 5, BEAT_BY_MULTICAST);
	cr_assert(eq(u64, number(&the(ACTION_WELCOME)->version), 7));
	cr_assert(eq(i64, member("a")->behind_since, now));
	now += 5;
	report(1, 7, BEAT_BY_MULTICAST);
	cr_assert(zero(i64, member("a")->behind_since));
	cr_assert(eq(i64, member("a")->seen, now));
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = 1 });
	cr_assert(eq(u32, member("a")->peer, PEER_NONE));
	hello(9, "a", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(u32, member("a")->peer, 9));
}

Test(master, a_second_link_of_the_same_name_replaces_the_first, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	step((struct event){ .kind = EVENT_PULL, .peer = 1, .request = 4 });
	hello(2, "a", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(u32, the(ACTION_STREAM_STOP)->request, 4));
	cr_assert(eq(u32, the(ACTION_REFUSE)->peer, 1));
	cr_assert(eq(int, the(ACTION_REFUSE)->error, -ENOTUNIQ));
	cr_assert(eq(u32, the(ACTION_WELCOME)->peer, 2));
	cr_assert(eq(u32, member("a")->peer, 2));
	cr_assert(not(member("a")->pulling));
}

Test(master, no_more_than_peers_max_and_the_gone_are_forgotten_in_the_end, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	hello(2, "b", 7, BEAT_BY_MULTICAST);
	hello(3, "c", 7, BEAT_BY_MULTICAST);
	hello(4, "d", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(int, the(ACTION_REFUSE)->error, -EUSERS));
	cr_assert(zero(sz, count_of(ACTION_WELCOME)));
	for (peer_id peer = 5; peer < 50; peer++) {
		char name[] = { 'n', (char)('0' + peer), '\0' };
		step((struct event){ .kind = EVENT_LINK_DOWN, .peer = peer == 5 ? 1 : peer - 1 });
		now++;
		hello(peer, name, 7, BEAT_BY_MULTICAST);
		the(ACTION_WELCOME);
	}
	const struct member *members;
	cr_assert(eq(sz, master_members(core, &members), 2 * PEERS));
	cr_assert(ne(ptr, (void *)member("b"), NULL), "who is here stays");
}

Test(master, who_breaks_the_rules_loses_the_link, .init = begin, .fini = end)
{
	report(1, 7, BEAT_BY_MULTICAST);
	cr_assert(eq(int, the(ACTION_REFUSE)->error, -DRS_EPROTOCOL));
	step((struct event){ .kind = EVENT_PULL, .peer = 2, .request = 1 });
	the(ACTION_REFUSE);
	hello(3, "a", 7, BEAT_BY_MULTICAST);
	hello(3, "b", 7, BEAT_BY_MULTICAST);
	the(ACTION_REFUSE);
	cr_assert(eq(u32, member("a")->peer, PEER_NONE));
	hello(4, "", 7, BEAT_BY_MULTICAST);
	the(ACTION_REFUSE);
}

Test(master, one_stream_a_slave, .init = begin, .fini = end)
{
	hello(1, "a", 5, BEAT_BY_MULTICAST);
	step((struct event){ .kind = EVENT_PULL, .peer = 1, .request = 1 });
	cr_assert(eq(u32, the(ACTION_STREAM)->request, 1));
	cr_assert(member("a")->pulling);
	step((struct event){ .kind = EVENT_PULL, .peer = 1, .request = 2 });
	cr_assert(eq(int, items[0].kind, ACTION_STREAM_STOP));
	cr_assert(eq(u32, items[0].request, 1));
	cr_assert(eq(u32, the(ACTION_STREAM)->request, 2));
	step((struct event){ .kind = EVENT_STREAM_DONE, .peer = 1, .request = 1 });
	cr_assert(member("a")->pulling, "that was the old one");
	step((struct event){ .kind = EVENT_STREAM_DONE, .peer = 1, .request = 2 });
	cr_assert(not(member("a")->pulling));
	step((struct event){ .kind = EVENT_PULL, .peer = 1, .request = 3 });
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = 1 });
	cr_assert(eq(u32, the(ACTION_STREAM_STOP)->request, 3));
}

Test(master, R3_3_a_silent_slave_holds_nobody_back, .init = begin, .fini = end)
{
	hello(1, "silent", 7, BEAT_BY_MULTICAST);
	hello(2, "good", 7, BEAT_BY_MULTICAST);
	for (uint64_t n = 8; n < 12; n++) {
		change(n, NULL);
		report(2, n, BEAT_BY_MULTICAST);
		cr_assert(eq(u64, number(master_version(core)), n));
	}
	cr_assert(zero(i64, member("good")->behind_since));
	cr_assert(ne(i64, member("silent")->behind_since, 0));
}

/* --- two phase: the coordinator's table, row by row (R4) --- */

#define TIMEOUT 2000

static struct drs_job job;

static void start_with(uint64_t version, uint64_t previous, enum drs_require require, uint32_t count, const char *scope_name, const char *delta)
{
	job = (struct drs_job){ .version = v(version), .previous = v(previous), .timeout_ms = TIMEOUT, .require = require, .count = count };
	if (scope_name)
		scope_add(&job.scope, scope_name);
	step((struct event){ .kind = EVENT_START, .job = &job, .inline_delta = { delta, delta ? strlen(delta) : 0 } });
}

static void start(uint64_t version)
{
	start_with(version, version - 1, DRS_REQUIRE_ALL, 0, NULL, NULL);
}

static void say(peer_id peer, uint64_t version, enum prepare_answer answer)
{
	step((struct event){ .kind = EVENT_ANSWER, .peer = peer, .version = v(version), .answer = answer });
}

static void nak(peer_id peer, uint64_t version, int error, const char *reason)
{
	step((struct event){ .kind = EVENT_ANSWER, .peer = peer, .version = v(version), .answer = PREPARE_NAK, .error = error, .reason = reason });
}

static void decided(uint64_t version, int error)
{
	step((struct event){ .kind = EVENT_DECIDED, .version = v(version), .error = error });
}

static void cancel(uint64_t version)
{
	step((struct event){ .kind = EVENT_CANCEL, .version = v(version) });
}

static void link_down(peer_id peer)
{
	step((struct event){ .kind = EVENT_LINK_DOWN, .peer = peer });
}

static const struct drs_vote *vote(const char *name)
{
	const struct drs_vote *votes;
	size_t count = master_votes(core, &votes);
	for (size_t i = 0; i < count; i++)
		if (strcmp(votes[i].name, name) == 0)
			return &votes[i];
	cr_fatal("%s has no vote", name);
}

static void expect_decide(uint64_t version, bool commit)
{
	const struct action *a = the(ACTION_DECIDE);
	cr_assert(eq(u64, number(&a->version), version));
	cr_assert(eq(int, a->commit, commit));
}

static void expect_done(uint64_t version, int error)
{
	const struct action *a = the(ACTION_JOB_DONE);
	cr_assert(eq(u64, number(&a->version), version));
	cr_assert(eq(int, a->error, error));
}

static void begin_with_two(void)
{
	begin();
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	hello(2, "b", 7, BEAT_BY_MULTICAST);
}

Test(job, R4_2_asks_all_counts_decides_and_only_then_tells, .init = begin_with_two, .fini = end)
{
	start_with(8, 7, DRS_REQUIRE_ALL, 0, NULL, "delta");
	cr_assert(eq(sz, count_of(ACTION_PREPARE), 2));
	cr_assert(eq(u32, items[0].timeout_ms, TIMEOUT));
	cr_assert(eq(u64, number(&items[0].version), 8));
	the(ACTION_VOTED);
	cr_assert(eq(int, vote("a")->answer, DRS_ASKED));
	cr_assert(eq(u64, number(master_job(core)), 8));
	say(1, 8, PREPARE_ACK);
	the(ACTION_VOTED);
	cr_assert(zero(sz, count_of(ACTION_DECIDE)));
	cr_assert(eq(int, vote("a")->answer, DRS_PREPARED));
	say(2, 8, PREPARE_ACK);
	expect_decide(8, true);
	cr_assert(zero(sz, count_of(ACTION_BEAT)), "not before it is durable");
	cr_assert(eq(u64, number(master_version(core)), 7));
	decided(8, 0);
	the(ACTION_BEAT);
	expect_done(8, 0);
	cr_assert(eq(ptr, (void *)master_job(core), NULL));
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 8));
	cr_assert(eq(u64, number(&beat.previous), 7));
	cr_assert(eq(sz, beat.inline_delta.size, 5));
	cr_assert(eq(u8, beat.window_count, 2));
	cr_assert(not(beat.window[0].aborted));
	cr_assert(eq(i64, member("a")->behind_since, now));
}

Test(job, nobody_in_scope_is_a_commit_at_once, .init = begin, .fini = end)
{
	start(8);
	expect_decide(8, true);
}

Test(job, R4_3_a_nak_aborts_with_its_reason, .init = begin_with_two, .fini = end)
{
	start(8);
	nak(2, 8, -ENOSPC, "no room here");
	expect_decide(8, false);
	cr_assert(eq(int, vote("b")->answer, DRS_REFUSED));
	cr_assert(eq(int, vote("b")->error, -ENOSPC));
	cr_assert(eq(str, (char *)vote("b")->reason, "no room here"));
	decided(8, 0);
	expect_done(8, -DRS_EREFUSED);
	the(ACTION_BEAT);
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 7));
	cr_assert(eq(u8, beat.window_count, 2));
	cr_assert(eq(u64, number(&beat.window[0].version), 8));
	cr_assert(beat.window[0].aborted);
	cr_assert(eq(u64, number(&beat.window[1].version), 7));
	cr_assert(eq(int, vote("a")->answer, DRS_ASKED), "as it was");
}

Test(job, a_nak_without_words, .init = begin_with_two, .fini = end)
{
	start(8);
	nak(2, 8, -EIO, NULL);
	cr_assert(eq(str, (char *)vote("b")->reason, ""));
}

Test(job, R4_3_time_is_up, .init = begin_with_two, .fini = end)
{
	start(8);
	say(1, 8, PREPARE_ACK);
	for (time_ms until = now + TIMEOUT; now < until && count_of(ACTION_DECIDE) == 0;)
		at_deadline();
	expect_decide(8, false);
	cr_assert(eq(i64, now, 5000 + TIMEOUT));
	decided(8, 0);
	expect_done(8, -ETIMEDOUT);
}

Test(job, R4_4_cancel, .init = begin_with_two, .fini = end)
{
	struct drs_version eight = v(8), nine = v(9);
	cr_assert(not(master_job_cancellable(core, &eight)));
	cancel(8);
	cr_assert(zero(sz, actions.count));
	start(8);
	cr_assert(master_job_cancellable(core, &eight));
	cr_assert(not(master_job_cancellable(core, &nine)));
	cancel(9);
	cr_assert(zero(sz, actions.count));
	cancel(8);
	expect_decide(8, false);
	cr_assert(not(master_job_cancellable(core, &eight)), "it is decided");
	cancel(8);
	cr_assert(zero(sz, actions.count));
	decided(8, 0);
	expect_done(8, -ECANCELED);
}

Test(job, R4_7_a_second_one_is_refused_in_every_state, .init = begin_with_two, .fini = end)
{
	start(8);
	start_with(9, 7, DRS_REQUIRE_ALL, 0, NULL, NULL);
	expect_done(9, -EBUSY);
	cr_assert(eq(sz, actions.count, 1));
	say(1, 8, PREPARE_ACK);
	say(2, 8, PREPARE_ACK);
	start_with(9, 7, DRS_REQUIRE_ALL, 0, NULL, NULL);
	expect_done(9, -EBUSY);
	decided(8, -EIO);
	start_with(9, 7, DRS_REQUIRE_ALL, 0, NULL, NULL);
	expect_done(9, -EBUSY);
	decided(8, 0);
	start_with(10, 8, DRS_REQUIRE_ALL, 0, NULL, NULL);
	expect_done(10, -EBUSY);
	cr_assert(eq(sz, actions.count, 1), "8 was aborted: nothing leads on from it");
	update(10, NULL, NULL);
	start_with(11, 10, DRS_REQUIRE_ALL, 0, NULL, NULL);
	cr_assert(zero(sz, actions.count), "queued");
	start_with(12, 10, DRS_REQUIRE_ALL, 0, NULL, NULL);
	expect_done(12, -EBUSY);
}

Test(job, R4_7_waits_for_the_updates_before_it, .init = begin_with_two, .fini = end)
{
	update(8, NULL, NULL);
	start(9);
	cr_assert(zero(sz, actions.count));
	cr_assert(eq(u64, number(master_job(core)), 9));
	now += 500;
	say(1, 9, PREPARE_ACK); /* nobody was asked */
	cr_assert(zero(sz, actions.count));
	stored(8);
	cr_assert(eq(sz, count_of(ACTION_PREPARE), 2));
	for (size_t i = 0; i < actions.count; i++)
		if (items[i].kind == ACTION_PREPARE)
			cr_assert(eq(u32, items[i].timeout_ms, TIMEOUT - 500));
}

Test(job, a_queued_one_can_be_cancelled, .init = begin_with_two, .fini = end)
{
	update(8, NULL, NULL);
	start(9);
	cancel(9);
	expect_decide(9, false);
	stored(8);
	cr_assert(zero(sz, count_of(ACTION_PREPARE)));
	decided(9, 0);
	expect_done(9, -ECANCELED);
	cr_assert(eq(u64, number(master_version(core)), 8));
}

Test(job, a_queued_one_runs_out_of_time, .init = begin_with_two, .fini = end)
{
	update(8, NULL, NULL);
	step((struct event){ .kind = EVENT_FAILED, .error = -ENOSPC });
	start(9);
	now += TIMEOUT;
	step((struct event){ .kind = EVENT_TICK });
	expect_decide(9, false);
	decided(9, 0);
	expect_done(9, -ETIMEDOUT);
}

Test(job, R4_7_updates_that_come_meanwhile_are_announced_after_it, .init = begin_with_two, .fini = end)
{
	start(8);
	update(9, NULL, "its base is not decided");
	update(10, NULL, "delta");
	cr_assert(zero(sz, actions.count));
	cr_assert(eq(u64, number(master_version(core)), 7));
	say(1, 8, PREPARE_ACK);
	say(2, 8, PREPARE_ACK);
	cr_assert(zero(sz, count_of(ACTION_STORE)));
	decided(8, 0);
	expect_done(8, 0);
	cr_assert(eq(u64, number(&the(ACTION_STORE)->version), 9));
	stored(9);
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size));
	stored(10);
	master_beat(core, &beat);
	cr_assert(eq(sz, beat.inline_delta.size, 5));
}

Test(job, an_update_that_the_commit_has_overtaken_is_late, .init = begin_with_two, .fini = end)
{
	start_with(9, 7, DRS_REQUIRE_ALL, 0, "a", NULL);
	update(8, NULL, NULL);
	say(1, 9, PREPARE_ACK);
	decided(9, 0);
	cr_assert(zero(sz, count_of(ACTION_STORE)));
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 9));
	cr_assert(eq(u8, beat.window_count, 1), "what the window said of scopes is not the whole truth any more");
}

Test(job, an_older_update_after_an_abort_stands_below_it_in_the_window, .init = begin_with_two, .fini = end)
{
	start_with(9, 7, DRS_REQUIRE_ALL, 0, NULL, NULL);
	update(8, NULL, NULL);
	cancel(9);
	decided(9, 0);
	stored(8);
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 3));
	cr_assert(eq(u64, number(&beat.window[0].version), 9));
	cr_assert(eq(u64, number(&beat.window[1].version), 8));
	cr_assert(eq(u64, number(&beat.current), 8));
}

/* The queue holds 8; the first update behind a job gets a line of its own even when it is full. */
Test(job, a_full_queue_is_never_merged_across_a_job, .init = begin_with_two, .fini = end)
{
	for (uint64_t n = 8; n <= 16; n++)
		update(n, NULL, NULL);
	start(17);
	update(18, NULL, NULL);
	update(19, NULL, NULL);
	for (uint64_t n = 8; n <= 14; n++)
		stored(n);
	stored(16); /* 15 and 16 became one */
	cr_assert(eq(sz, count_of(ACTION_PREPARE), 2));
	cr_assert(zero(sz, count_of(ACTION_STORE)));
	say(1, 17, PREPARE_ACK);
	say(2, 17, PREPARE_ACK);
	decided(17, 0);
	cr_assert(eq(u64, number(&the(ACTION_STORE)->version), 19));
}

Test(job, a_queue_that_is_too_long_closes_its_ranks_after_a_job, .init = begin_with_two, .fini = end)
{
	for (uint64_t n = 8; n <= 15; n++)
		update(n, "a", NULL);
	start(16);
	update(17, "b", NULL);
	cancel(16);
	decided(16, 0);
	start(18);
	cr_assert(zero(sz, count_of(ACTION_JOB_DONE)));
	update(19, NULL, NULL);
	for (uint64_t n = 8; n <= 14; n++)
		stored(n);
	stored(17); /* 15 and 17 became one */
	cr_assert(eq(sz, count_of(ACTION_PREPARE), 2));
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.window[0].version), 17));
	cr_assert(scope_names(&beat.window[0].scope, "a"));
	cr_assert(scope_names(&beat.window[0].scope, "b"));
}

Test(job, R4_2_out_of_sync_is_asked_again_when_it_reports_the_version_before, .init = begin, .fini = end)
{
	change(8, NULL);
	hello(1, "a", 6, BEAT_BY_MULTICAST);
	start(9);
	the(ACTION_PREPARE);
	say(1, 9, PREPARE_OUT_OF_SYNC);
	the(ACTION_VOTED);
	cr_assert(eq(int, vote("a")->answer, DRS_SYNCING));
	report(1, 7, BEAT_BY_MULTICAST);
	cr_assert(zero(sz, count_of(ACTION_PREPARE)));
	report(1, 8, BEAT_BY_MULTICAST);
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 1));
	cr_assert(eq(int, vote("a")->answer, DRS_ASKED));
	report(1, 8, BEAT_BY_UNICAST);
	cr_assert(zero(sz, count_of(ACTION_PREPARE)), "once is enough");
	say(1, 9, PREPARE_ACK);
	expect_decide(9, true);
}

Test(job, out_of_sync_and_the_link_lost_is_asked_again_by_the_next, .init = begin, .fini = end)
{
	hello(1, "a", 6, BEAT_BY_MULTICAST);
	start(8);
	say(1, 8, PREPARE_OUT_OF_SYNC);
	link_down(1);
	the(ACTION_VOTED);
	cr_assert(eq(int, vote("a")->answer, DRS_UNREACHABLE));
	hello(2, "a", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 2));
}

Test(job, R4_2_who_is_unreachable_is_asked_when_he_comes, .init = begin_with_two, .fini = end)
{
	link_down(2);
	start(8);
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 1));
	cr_assert(eq(int, vote("b")->answer, DRS_UNREACHABLE));
	say(1, 8, PREPARE_ACK);
	cr_assert(zero(sz, count_of(ACTION_DECIDE)));
	now += 700;
	hello(3, "b", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(int, items[0].kind, ACTION_WELCOME));
	cr_assert(eq(u32, the(ACTION_PREPARE)->timeout_ms, TIMEOUT - 700));
	say(3, 8, PREPARE_ACK);
	expect_decide(8, true);
}

Test(job, a_newcomer_takes_no_part, .init = begin_with_two, .fini = end)
{
	start(8);
	hello(3, "c", 7, BEAT_BY_MULTICAST);
	cr_assert(zero(sz, count_of(ACTION_PREPARE)));
	say(3, 8, PREPARE_ACK);
	cr_assert(zero(sz, actions.count));
	say(1, 8, PREPARE_ACK);
	say(2, 8, PREPARE_ACK);
	expect_decide(8, true);
}

Test(job, an_ack_outlives_its_link_and_is_asked_for_again_by_the_next, .init = begin_with_two, .fini = end)
{
	start(8);
	say(1, 8, PREPARE_ACK);
	link_down(1);
	cr_assert(zero(sz, actions.count));
	cr_assert(eq(int, vote("a")->answer, DRS_PREPARED));
	hello(3, "a", 7, BEAT_BY_MULTICAST);
	the(ACTION_PREPARE);
	cr_assert(eq(int, vote("a")->answer, DRS_ASKED), "it may be another process");
	say(2, 8, PREPARE_ACK);
	cr_assert(zero(sz, count_of(ACTION_DECIDE)));
	say(3, 8, PREPARE_ACK);
	expect_decide(8, true);
}

Test(job, another_link_of_the_same_name_is_asked_instead, .init = begin_with_two, .fini = end)
{
	start(8);
	hello(3, "a", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(u32, the(ACTION_REFUSE)->peer, 1));
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 3));
}

Test(job, R4_6_connected_does_without_those_who_are_not, .init = begin_with_two, .fini = end)
{
	hello(3, "c", 7, BEAT_BY_MULTICAST);
	link_down(3);
	start_with(8, 7, DRS_REQUIRE_CONNECTED, 0, NULL, NULL);
	cr_assert(eq(sz, count_of(ACTION_PREPARE), 2));
	cr_assert(eq(int, vote("c")->answer, DRS_NOT_NEEDED));
	hello(4, "c", 7, BEAT_BY_MULTICAST);
	cr_assert(zero(sz, count_of(ACTION_PREPARE)));
	say(4, 8, PREPARE_ACK);
	cr_assert(zero(sz, actions.count), "it was not asked");
	link_down(2);
	cr_assert(zero(sz, count_of(ACTION_DECIDE)));
	hello(5, "b", 7, BEAT_BY_MULTICAST);
	the(ACTION_PREPARE);
	say(1, 8, PREPARE_ACK);
	cr_assert(zero(sz, count_of(ACTION_DECIDE)), "b is back, and has to accept it");
	link_down(5);
	expect_decide(8, true);
	cr_assert(eq(int, vote("b")->answer, DRS_NOT_NEEDED));
}

Test(job, R4_6_connected_and_a_nak, .init = begin_with_two, .fini = end)
{
	start_with(8, 7, DRS_REQUIRE_CONNECTED, 0, NULL, NULL);
	nak(1, 8, -DRS_EREFUSED, "no");
	expect_decide(8, false);
}

Test(job, R4_6_count_is_decided_as_soon_as_it_is_reached, .init = begin_with_two, .fini = end)
{
	hello(3, "c", 7, BEAT_BY_MULTICAST);
	start_with(8, 7, DRS_REQUIRE_COUNT, 2, NULL, NULL);
	nak(1, 8, -EIO, "broken");
	cr_assert(zero(sz, count_of(ACTION_DECIDE)), "two are left");
	hello(4, "a", 7, BEAT_BY_MULTICAST);
	cr_assert(zero(sz, count_of(ACTION_PREPARE)), "it has refused");
	say(4, 8, PREPARE_ACK);
	cr_assert(eq(int, vote("a")->answer, DRS_REFUSED));
	say(2, 8, PREPARE_ACK);
	say(3, 8, PREPARE_ACK);
	expect_decide(8, true);
	decided(8, 0);
	expect_done(8, 0);
}

Test(job, R4_6_count_and_who_is_left_over, .init = begin_with_two, .fini = end)
{
	start_with(8, 7, DRS_REQUIRE_COUNT, 1, NULL, NULL);
	say(2, 8, PREPARE_ACK);
	expect_decide(8, true);
	cr_assert(eq(int, vote("a")->answer, DRS_NOT_NEEDED));
	say(1, 8, PREPARE_ACK);
	cr_assert(zero(sz, actions.count), "late");
}

Test(job, R4_6_count_aborts_when_too_few_are_left, .init = begin_with_two, .fini = end)
{
	start_with(8, 7, DRS_REQUIRE_COUNT, 2, NULL, NULL);
	nak(1, 8, -EIO, "broken");
	expect_decide(8, false);
	decided(8, 0);
	expect_done(8, -DRS_EREFUSED);
}

Test(job, a_count_that_cannot_be_had, .init = begin_with_two, .fini = end)
{
	start_with(8, 7, DRS_REQUIRE_COUNT, 3, NULL, NULL);
	expect_decide(8, false);
	decided(8, 0);
	expect_done(8, -EINVAL);
}

Test(job, a_slave_that_is_ahead_is_a_refusal, .init = begin_with_two, .fini = end)
{
	report(2, 8, BEAT_BY_MULTICAST); /* of a master that has lost its newest version */
	start(8);
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 1));
	expect_decide(8, false);
	cr_assert(eq(int, vote("b")->answer, DRS_REFUSED));
	cr_assert(eq(int, vote("b")->error, -DRS_EPROTOCOL));
}

Test(job, R4_3_a_commit_that_cannot_be_stored_becomes_an_abort, .init = begin_with_two, .fini = end)
{
	start(8);
	say(1, 8, PREPARE_ACK);
	say(2, 8, PREPARE_ACK);
	decided(8, -ENOSPC);
	expect_decide(8, false);
	cr_assert(zero(sz, count_of(ACTION_BEAT)));
	decided(8, 0);
	expect_done(8, -ENOSPC);
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.current), 7));
	cr_assert(beat.window[0].aborted);
}

Test(job, an_abort_needs_no_disk, .init = begin_with_two, .fini = end)
{
	start(8);
	cancel(8);
	decided(8, -EIO);
	expect_done(8, -ECANCELED);
	master_beat(core, &beat);
	cr_assert(beat.window[0].aborted);
}

Test(job, answers_that_are_not_asked_for, .init = begin_with_two, .fini = end)
{
	say(1, 8, PREPARE_ACK);
	cr_assert(zero(sz, actions.count));
	say(9, 8, PREPARE_ACK);
	cr_assert(eq(int, the(ACTION_REFUSE)->error, -DRS_EPROTOCOL));
	start(8);
	say(1, 7, PREPARE_ACK);
	cr_assert(zero(sz, actions.count));
	say(1, 8, PREPARE_ACK);
	say(1, 8, PREPARE_ACK);
	cr_assert(zero(sz, count_of(ACTION_VOTED)), "nothing new");
	nak(1, 8, -EIO, "after all not");
	expect_decide(8, false);
	say(2, 8, PREPARE_ACK);
	cr_assert(zero(sz, actions.count), "decided");
	cr_assert(eq(int, vote("b")->answer, DRS_ASKED));
}

Test(job, only_those_in_its_scope_are_asked, .init = begin, .fini = end)
{
	struct scope clusters = { 0 };
	scope_add(&clusters, "red");
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	step((struct event){ .kind = EVENT_HELLO, .peer = 2, .name = "b", .version = v(7), .path = BEAT_BY_MULTICAST, .scope = &clusters });
	cr_assert(zero(int, master_add_member(core, "d", &clusters)));
	start_with(8, 7, DRS_REQUIRE_ALL, 0, "red", "delta");
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 2));
	cr_assert(eq(int, vote("d")->answer, DRS_UNREACHABLE));
	step((struct event){ .kind = EVENT_HELLO, .peer = 3, .name = "d", .version = v(7), .path = BEAT_BY_MULTICAST, .scope = &clusters });
	say(2, 8, PREPARE_ACK);
	say(3, 8, PREPARE_ACK);
	expect_decide(8, true);
	decided(8, 0);
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size), "R6.2");
	cr_assert(scope_names(&beat.window[0].scope, "red"));
}

Test(job, a_delta_that_is_too_large_for_a_heartbeat_stays_out_of_it, .init = begin, .fini = end)
{
	static char large[DRS_INLINE_BYTES_MAX + 2];
	memset(large, 'x', DRS_INLINE_BYTES_MAX + 1);
	start_with(8, 7, DRS_REQUIRE_ALL, 0, NULL, large);
	decided(8, 0);
	master_beat(core, &beat);
	cr_assert(zero(sz, beat.inline_delta.size));
}

Test(job, R2_4_aborted_entries_leave_by_the_count, .init = begin_with_two, .fini = end)
{
	start(8);
	cancel(8);
	decided(8, 0);
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 2));
	for (int i = 0; i < 3; i++) {
		now = master_deadline(core) > now + INTERVAL ? master_deadline(core) : now + INTERVAL;
		step((struct event){ .kind = EVENT_TICK });
		master_beat(core, &beat);
		cr_assert(eq(u8, beat.window_count, 2));
	}
	now += INTERVAL;
	step((struct event){ .kind = EVENT_TICK });
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 1));
	cr_assert(eq(u64, number(&beat.window[0].version), 7), "the current one stays");
}

Test(job, R2_4_many_aborts_leave_the_current_version_in_the_window, .init = begin, .fini = end)
{
	struct drs_version at;
	for (uint64_t n = 8; n < 8 + 2 * WINDOW_MAX; n++) {
		at = v(n);
		master_tell_aborted(core, &at);
		master_tell_aborted(core, &at);
		master_beat(core, &beat);
		uint64_t count = n - 6 < WINDOW_MAX ? n - 6 : WINDOW_MAX;
		cr_assert(eq(u8, beat.window_count, (uint8_t)count));
		cr_assert(eq(u64, number(&beat.window[0].version), n), "the newest is told");
		cr_assert(eq(u64, number(&beat.window[count - 1].version), 7));
	}
	at = v(6);
	master_tell_aborted(core, &at);
	master_beat(core, &beat);
	cr_assert(eq(u64, number(&beat.window[WINDOW_MAX - 1].version), 7), "below the current one it is of no interest");
	change(100, NULL);
	cr_assert(eq(u64, number(&beat.window[0].version), 100));
}

Test(job, an_aborted_entry_is_no_step_between_two_versions, .init = begin_with_two, .fini = end)
{
	start(8);
	cancel(8);
	decided(8, 0);
	update(9, NULL, "delta");
	stored(9);
	master_beat(core, &beat);
	cr_assert(eq(sz, beat.inline_delta.size, 5));
	cr_assert(eq(u64, number(&beat.previous), 7));
	cr_assert(eq(u8, beat.window_count, 3));
	report(1, 9, BEAT_BY_MULTICAST);
	report(2, 9, BEAT_BY_MULTICAST);
	now += INTERVAL;
	step((struct event){ .kind = EVENT_TICK });
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 1), "everyone is past it");
}

Test(job, R4_3_the_decision_is_repeated_to_who_was_asked_and_then_by_his_link, .init = begin_with_two, .fini = end)
{
	start_with(8, 7, DRS_REQUIRE_ALL, 0, "a", NULL);
	cancel(8);
	decided(8, 0);
	now += 20;
	step((struct event){ .kind = EVENT_TICK });
	the(ACTION_BEAT);
	cr_assert(eq(sz, actions.count, 1));
	now += 80;
	step((struct event){ .kind = EVENT_TICK });
	cr_assert(eq(u32, the(ACTION_BEAT_TO)->peer, 1));
	cr_assert(eq(int, the(ACTION_BEAT_TO)->path, BEAT_BY_LINK));
	cr_assert(eq(sz, actions.count, 1));

	start_with(9, 7, DRS_REQUIRE_COUNT, 1, NULL, NULL);
	say(1, 9, PREPARE_ACK);
	decided(9, 0);
	report(1, 9, BEAT_BY_MULTICAST);
	now += 20;
	step((struct event){ .kind = EVENT_TICK });
	the(ACTION_BEAT);
	now += 80;
	step((struct event){ .kind = EVENT_TICK });
	cr_assert(eq(u32, the(ACTION_BEAT_TO)->peer, 2));
	cr_assert(eq(int, the(ACTION_BEAT_TO)->path, BEAT_BY_LINK));
}

Test(job, all_that_may_come_in_one_step_fits, .fini = end)
{
	begin_with(false);
	step((struct event){ .kind = EVENT_TICK });
	hello(1, "a", 7, BEAT_BY_UNICAST);
	hello(2, "b", 7, BEAT_BY_UNICAST);
	hello(3, "c", 7, BEAT_BY_LINK);
	update(8, NULL, NULL);
	start_with(9, 8, DRS_REQUIRE_COUNT, 0, NULL, NULL);
	stored(8);
	cr_assert(eq(sz, count_of(ACTION_BEAT_TO), 3));
	cr_assert(eq(sz, count_of(ACTION_PREPARE), 3));
	the(ACTION_VOTED);
	the(ACTION_DECIDE);
	cr_assert(le(sz, actions.count, ACTIONS_MAX(PEERS)));
}

/* --- members --- */

Test(members, names_of_a_former_life_count_as_gone, .init = begin, .fini = end)
{
	char long_name[NAME_TEXT_MAX + 1];
	memset(long_name, 'x', NAME_TEXT_MAX);
	long_name[NAME_TEXT_MAX] = 0;
	cr_assert(zero(int, master_add_member(core, "a", NULL)));
	cr_assert(zero(int, master_add_member(core, "a", NULL)));
	cr_assert(eq(int, master_add_member(core, "", NULL), -EINVAL));
	cr_assert(eq(int, master_add_member(core, long_name, NULL), -EINVAL));
	cr_assert(not(member("a")->heard));
	cr_assert(eq(u32, member("a")->peer, PEER_NONE));
	start(8);
	cr_assert(eq(int, vote("a")->answer, DRS_UNREACHABLE));
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	the(ACTION_PREPARE);
	cr_assert(member("a")->heard);
	for (char name[] = "b"; name[0] < 'b' + 2 * PEERS - 1; name[0]++)
		cr_assert(zero(int, master_add_member(core, name, NULL)));
	cr_assert(eq(int, master_add_member(core, "z", NULL), -EUSERS));
}

Test(members, the_window_does_not_wait_for_names, .init = begin, .fini = end)
{
	hello(1, "a", 7, BEAT_BY_MULTICAST);
	master_add_member(core, "b", NULL);
	change(8, NULL);
	report(1, 8, BEAT_BY_MULTICAST);
	now += INTERVAL;
	step((struct event){ .kind = EVENT_TICK });
	master_beat(core, &beat);
	cr_assert(eq(u8, beat.window_count, 1));
}

Test(members, R4_7_who_takes_part_or_has_a_link_is_not_removed, .init = begin_with_two, .fini = end)
{
	cr_assert(eq(int, master_remove_member(core, "nobody"), -ENOENT));
	cr_assert(eq(int, master_remove_member(core, "a"), -EBUSY));
	link_down(1);
	start(8);
	cr_assert(eq(int, master_remove_member(core, "a"), -EBUSY));
	cancel(8);
	decided(8, 0);
	cr_assert(zero(int, master_remove_member(core, "a")));
	cr_assert(eq(ptr, (void *)member("a"), NULL));
	cr_assert(eq(u32, member("b")->peer, 2));
	start_with(9, 7, DRS_REQUIRE_ALL, 0, NULL, NULL);
	cr_assert(eq(u32, the(ACTION_PREPARE)->peer, 2));
	say(2, 9, PREPARE_ACK);
	expect_decide(9, true);
}

/* The table is full, and the one who was gone for longest is forgotten; his vote is not. */
Test(members, who_lost_his_place_during_a_job_still_has_his_vote, .init = begin, .fini = end)
{
	for (char name[] = "b"; name[0] < 'b' + 2 * PEERS; name[0]++)
		cr_assert(zero(int, master_add_member(core, name, NULL)));
	start(8);
	hello(1, "new", 7, BEAT_BY_MULTICAST);
	cr_assert(eq(ptr, (void *)member("b"), NULL));
	cr_assert(eq(int, vote("b")->answer, DRS_UNREACHABLE));
	cr_assert(zero(sz, count_of(ACTION_PREPARE)), "it is new");
	hello(2, "b", 7, BEAT_BY_MULTICAST);
	the(ACTION_PREPARE);
	say(2, 8, PREPARE_ACK);
	cr_assert(eq(int, vote("b")->answer, DRS_PREPARED));
}

Test(master, an_event_for_a_slave_is_our_own_mistake, .init = begin, .fini = end, .signal = SIGABRT)
{
	step((struct event){ .kind = EVENT_PULLED });
}
