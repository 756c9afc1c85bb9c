/* The master's core, step by step: R2.1, R2.2, R2.4, R3.1, R3.3, R3.4. */
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

Test(master, an_event_for_a_slave_is_our_own_mistake, .init = begin, .fini = end, .signal = SIGABRT)
{
	step((struct event){ .kind = EVENT_PULLED });
}
