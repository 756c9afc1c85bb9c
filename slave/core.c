/*
 * The slave's half of the DRS core (R2, R3, R4): it hears which version is newest and brings its user there, by the cheapest way that is
 * open: take the bare number (nothing that came since concerns it), commit the delta that came inside the heartbeat, or pull. And it is asked to
 * prepare a proposed version: then it gets that, has it checked, says so, and waits for a heartbeat that tells the decision.
 *
 * Nothing depends on a particular heartbeat. All that one leaves behind is a greater 'known'; what a heartbeat says about versions is true for ever, so
 * lost, repeated, late and reordered ones are all alike. As long as own < known and there is a link, something is going on or due: that is
 * liveness, and it is asserted after every step. Own only grows: that is safety, and there is one place where it changes.
 *
 * A proposed version is never part of 'known'. Whoever prepares one knows of none newer than its base, which it leads on from: as soon as it does, the job is
 * decided, and the preparing ends, in a commit only if the window or 'current' says so. Whatever else ends it costs a pull at the most. Mostly own is
 * the base. But who is stuck, since a check does not accept what came after own, prepares from there: the check judges what comes of all of it.
 *
 *   link:  DOWN --dial--> DIALING --up--> JOINING --welcome--> JOINED;   each --down or refused--> DOWN, and dials again later
 *
 *   work:  IDLE --pull--> PULLING --all here--> COMMITTING --durable--> IDLE
 *            |               '--link down--> IDLE   |
 *            '--inline, take--> COMMITTING          |
 *          IDLE <--time-- WAITING <--failed-- PULLING, COMMITTING
 *
 *          IDLE --prepare--> STAGING --staged--> CHECKING --checked--> PREPARED --committed--> COMMITTING
 *                               '--not here--> FETCHING --all here--> CHECKING
 *          IDLE <--failed, or the preparing ends-- STAGING, FETCHING, CHECKING, PREPARED
 *          WAITING, stuck, --prepare--> STAGING, and WAITING instead of IDLE as long as it is stuck
 *
 * The participant, state by event. "Ack", "Nak" and "OutOfSync" are said if the link by which it was asked is still there. "End" is to unprepare,
 * then IDLE, then to pull if behind; or WAITING, if stuck. STAGE is answered at once, so that STAGING sees nothing but its answer.
 *
 *   event                          IDLE                   PULLING, COMMITTING, WAITING   FETCHING        CHECKING        PREPARED
 *   prepare, from own version      STAGING                OutOfSync                      (see below)
 *   prepare, from a newer version  OutOfSync, pull        OutOfSync, WAITING: pull now   end, OutOfSync  end, OutOfSync  end, OutOfSync
 *     stuck, and from what is
 *     refused (as if from own)     -                      STAGING                        (see below)
 *   prepare, of own version or
 *     below, or from below own     Nak                    Nak                            end, Nak        end, Nak        end, Nak
 *   prepare, from the proposed one (above)                (above)                        (above)         (above)         COMMITTING, OutOfSync
 *   prepare, the same again        -                      -                              time anew       time anew       time anew, Ack
 *   prepare, another               -                      -                              end, STAGING    end, STAGING    end, STAGING
 *   all is here                    -                      -                              CHECKING        -               -
 *   checked                        -                      -                              -               Ack, PREPARED   -
 *   failed                         -                      (one phase)                    end, Nak        end, Nak        -
 *   stuck, while waited for        -                      STAGING                        -               -               -
 *   heartbeat: committed           -                      (one phase)                    end             end             COMMITTING
 *   heartbeat: aborted, overtaken  -                      (one phase)                    end             end             end
 *   welcome: it is current         (one phase)            (one phase)                    -               end             COMMITTING
 *   welcome: a newer one is        (one phase)            (one phase)                    -               end             end
 *   link down                      -                      PULLING: IDLE                  IDLE            -               -
 *   time is up                     -                      -                              end             end             end
 */
#include "slave/core.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/machine.h"
#include "drsfs/scope.h"

#define REFUSED_RETRY_MS 30000
#define REFUSED_CHECK_RETRY_MS 60000 /* of a version that a check did not accept, if no newer one comes */
#define PREPARED_GRACE_MS 2000    /* after the job's time, for the decision to get here */
#define WORK_RETRY_MS_MIN 250     /* after a failure, doubling */
#define WORK_RETRY_MS_MAX 15000
#define INTERVAL_MS_DEFAULT 1000  /* between heartbeats, until the master has told */
#define INTERVAL_MS_MAX 600000
#define BEATS_MISSED_MAX 3        /* in a row, before another path is tried */

enum link_state { LINK_DOWN, LINK_DIALING, LINK_JOINING, LINK_JOINED };
static const struct machine link_machine = {
	.name = "link",
	.count = 4,
	.states = { "down", "dialing", "joining", "joined" },
	.allowed = {
		[LINK_DOWN] = MACHINE_TO(LINK_DIALING),
		[LINK_DIALING] = MACHINE_TO(LINK_JOINING) | MACHINE_TO(LINK_DOWN),
		[LINK_JOINING] = MACHINE_TO(LINK_JOINED) | MACHINE_TO(LINK_DOWN),
		[LINK_JOINED] = MACHINE_TO(LINK_DOWN),
	},
};

enum work_state { WORK_IDLE, WORK_PULLING, WORK_COMMITTING, WORK_WAITING, WORK_STAGING, WORK_FETCHING, WORK_CHECKING, WORK_PREPARED };
static const struct machine work_machine = {
	.name = "work",
	.count = 8,
	.states = { "idle", "pulling", "committing", "waiting", "staging", "fetching", "checking", "prepared" },
	.allowed = {
		[WORK_IDLE] = MACHINE_TO(WORK_PULLING) | MACHINE_TO(WORK_COMMITTING) | MACHINE_TO(WORK_STAGING),
		[WORK_PULLING] = MACHINE_TO(WORK_COMMITTING) | MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_WAITING),
		[WORK_COMMITTING] = MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_WAITING),
		[WORK_WAITING] = MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_STAGING),
		[WORK_STAGING] = MACHINE_TO(WORK_FETCHING) | MACHINE_TO(WORK_CHECKING) | MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_WAITING),
		[WORK_FETCHING] = MACHINE_TO(WORK_CHECKING) | MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_WAITING),
		[WORK_CHECKING] = MACHINE_TO(WORK_PREPARED) | MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_WAITING),
		[WORK_PREPARED] = MACHINE_TO(WORK_COMMITTING) | MACHINE_TO(WORK_IDLE) | MACHINE_TO(WORK_WAITING),
	},
};

/* What a slave has said of itself by the present link. */
struct position {
	struct drs_version version;
	enum beat_path path;
};

struct slave_core {
	struct slave_core_config config;
	char name[NAME_TEXT_MAX];
	struct scope clusters;
	uint64_t random;

	struct drs_version version;     /* own: durable and visible */
	struct drs_version known;       /* the newest that is known of; never below own */
	uint32_t interval_ms;
	time_ms beat_seen;

	uint8_t link;                   /* enum link_state */
	peer_id peer;                   /* while joining or joined */
	struct position said;
	time_ms dial_due, dialled;
	uint32_t dial_gap_ms;
	int refusal;                    /* why the master did not take us, until it does */

	enum beat_path path;
	time_ms path_heard;             /* when a heartbeat last came by it, or by a better one */

	uint8_t work;                   /* enum work_state */
	uint32_t request;               /* of the last pull */
	bool heal;                      /* the replica is not what the master has: the next pull is complete */
	time_ms retry_due;
	uint32_t retry_gap_ms;
	int failure;                    /* the last one, until something succeeds */
	bool check_refused;             /* the last failure: a check on this server did not accept a version */
	struct drs_version refused;     /* that one, or the newest that was known of then */

	struct drs_version proposed;    /* that is being prepared, or was last, */
	struct drs_version base;        /* and that it leads on from */
	bool awaited;                   /* we have said that we are out of sync with it, and who asks waits */
	time_ms prepare_due;            /* when the preparing ends by itself */
	peer_id asked_by;               /* the link by which the answer is wanted: none, when it is not the present one */
	bool committing_prepared;       /* the COMMITTING is of what was prepared */
};

/* --- small things --- */

static struct action *act(struct actions *out, enum action_kind kind)
{
	assert(out->count < out->capacity);
	struct action *a = &out->items[out->count++];
	*a = (struct action){ .kind = kind };
	return a;
}

static bool same(const struct slave_core *s, const struct drs_version *a, const struct drs_version *b)
{
	return s->config.ops->equal(a, b);
}

static bool greater(const struct slave_core *s, const struct drs_version *a, const struct drs_version *b)
{
	return s->config.ops->greater(a, b);
}

static bool behind(const struct slave_core *s)
{
	return greater(s, &s->known, &s->version);
}

static void learn(struct slave_core *s, const struct drs_version *version)
{
	if (greater(s, version, &s->known))
		s->known = *version;
}

/* Half of it to all of it, so that many slaves that were cut off together do not come back together (splitmix64). */
static time_ms spread(struct slave_core *s, uint32_t ms)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return ms - (time_ms)(z % (ms / 2 + 1));
}

static uint32_t doubled(uint32_t gap_ms, uint32_t max_ms)
{
	return gap_ms < max_ms / 2 ? 2 * gap_ms : max_ms;
}

static time_ms earlier(time_ms a, time_ms b)
{
	return a < b ? a : b;
}

static time_ms later(time_ms a, time_ms b)
{
	return a > b ? a : b;
}

/* --- the work --- */

static void work_move(struct slave_core *s, enum work_state to, time_ms now, const char *why)
{
	machine_move(&work_machine, s->name, &s->work, to, now, why);
}

/*
 * Own version is in the window and nothing that was committed since concerns us (R2.5). What is asked of the window is little: that its committed
 * entries from ours up to the current one are complete.
 */
static bool may_take(const struct slave_core *s, const struct beat *b)
{
	bool from_current = false;
	for (size_t i = 0; i < b->window_count; i++) {
		const struct window_entry *e = &b->window[i];
		if (e->aborted)
			continue;
		if (!from_current && !same(s, &e->version, &b->current))
			return false;
		from_current = true;
		if (same(s, &e->version, &s->version))
			return true;
		if (scope_concerns(&e->scope, s->name, &s->clusters))
			return false;
	}
	return false;
}

static bool may_commit_inline(const struct slave_core *s, const struct beat *b)
{
	return b->inline_delta.size > 0 && same(s, &b->previous, &s->version);
}

/* The ways that need no link. A replica that has to heal takes neither: both build on what it has. */
static void follow_beat(struct slave_core *s, const struct beat *b, time_ms now, struct actions *out)
{
	if (s->heal || !greater(s, &b->current, &s->version))
		return;
	if (may_take(s, b)) {
		work_move(s, WORK_COMMITTING, now, "out of scope");
		act(out, ACTION_TAKE)->version = b->current;
	} else if (may_commit_inline(s, b)) {
		work_move(s, WORK_COMMITTING, now, "delta in the heartbeat");
		act(out, ACTION_COMMIT_INLINE)->inline_delta = b->inline_delta;
	}
}

static struct action *ask_for_delta(struct slave_core *s, struct actions *out)
{
	struct action *a = act(out, ACTION_PULL);

	a->peer = s->peer;
	a->request = ++s->request;
	a->complete = s->heal;
	return a;
}

static void pull(struct slave_core *s, time_ms now, struct actions *out)
{
	work_move(s, WORK_PULLING, now, s->heal ? "heal" : "behind");
	ask_for_delta(s, out);
}

/* Whatever happened, go on if there is something to do. 'beat': the one that is being stepped, or NULL. */
static void advance(struct slave_core *s, const struct beat *beat, time_ms now, struct actions *out)
{
	if (s->work != WORK_IDLE || !behind(s))
		return;
	if (beat)
		follow_beat(s, beat, now, out);
	if (s->work == WORK_IDLE && s->link == LINK_JOINED)
		pull(s, now, out);
}

static void wait_and_retry(struct slave_core *s, int error, time_ms now)
{
	work_move(s, WORK_WAITING, now, "failed");
	s->check_refused = false;
	s->failure = error;
	s->retry_due = now + spread(s, s->retry_gap_ms);
	s->retry_gap_ms = doubled(s->retry_gap_ms, WORK_RETRY_MS_MAX);
}

/* What a check did not accept is not tried again soon, unless there is something newer to try. */
static void wait_for_newer(struct slave_core *s, const struct drs_version *refused, int error, time_ms now)
{
	work_move(s, WORK_WAITING, now, "check refused");
	s->check_refused = true;
	s->refused = greater(s, refused, &s->version) ? *refused : s->known;
	s->failure = error;
	s->retry_due = now + REFUSED_CHECK_RETRY_MS;
}

static void leave_refused(struct slave_core *s, time_ms now)
{
	if (s->work == WORK_WAITING && s->check_refused && greater(s, &s->known, &s->refused))
		work_move(s, WORK_IDLE, now, "newer than the refused");
}

/* A check did not accept what there is to be had, and pulling it would not help. */
static bool is_stuck(const struct slave_core *s)
{
	return s->check_refused && !s->heal && behind(s) && !greater(s, &s->known, &s->refused);
}

static void say_position(struct slave_core *s, enum action_kind kind, struct actions *out)
{
	struct action *a = act(out, kind);
	a->peer = s->peer;
	a->version = s->said.version = s->version;
	a->path = s->said.path = s->path;
}

/* --- two phase: the participant (R4) --- */

/* Something is staged or prepared, or about to be. */
static bool is_preparing(const struct slave_core *s)
{
	return s->work >= WORK_STAGING;
}

static void answer(struct slave_core *s, const struct drs_version *version, enum prepare_answer what, int error, struct actions *out)
{
	struct action *a;

	if (s->link != LINK_JOINED || s->asked_by != s->peer)
		return;
	a = act(out, ACTION_ANSWER);
	a->peer = s->peer;
	a->version = *version;
	a->answer = what;
	a->error = error;
}

/* Back to where the prepare found us. */
static void preparing_over(struct slave_core *s, time_ms now, const char *why)
{
	work_move(s, is_stuck(s) ? WORK_WAITING : WORK_IDLE, now, why);
}

/* Nothing of it was ever seen, so that nothing has to be taken back: what is staged may be thrown away. */
static void unprepare(struct slave_core *s, time_ms now, const char *why, struct actions *out)
{
	act(out, ACTION_UNPREPARE);
	preparing_over(s, now, why);
}

static void prepare_end(struct slave_core *s, time_ms now, const char *why, struct actions *out)
{
	if (s->work == WORK_FETCHING)
		act(out, ACTION_PULL_STOP)->request = s->request;
	unprepare(s, now, why, out);
}

static void stage(struct slave_core *s, struct slice delta, time_ms now, struct actions *out)
{
	struct action *a;

	work_move(s, WORK_STAGING, now, s->heal ? "prepare, and heal" : "prepare");
	a = act(out, ACTION_STAGE);
	a->version = s->proposed;
	if (!s->heal && same(s, &s->version, &s->base)) /* a replica that has to heal builds on nothing that it has */
		a->inline_delta = delta;
}

static void check(struct slave_core *s, const char *why, time_ms now, struct actions *out)
{
	work_move(s, WORK_CHECKING, now, why);
	act(out, ACTION_CHECK)->version = s->proposed;
}

static void on_unstaged(struct slave_core *s, const struct event *e, struct actions *out)
{
	struct action *a;

	if (s->work != WORK_STAGING)
		return;
	if (s->link != LINK_JOINED) {
		unprepare(s, e->now, "no link to fetch by", out);
		return;
	}
	work_move(s, WORK_FETCHING, e->now, "not here");
	a = ask_for_delta(s, out);
	a->proposed = true;
	a->version = s->proposed;
}

static void on_checked(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (s->work != WORK_CHECKING)
		return;
	work_move(s, WORK_PREPARED, e->now, "checked");
	answer(s, &s->proposed, PREPARE_ACK, 0, out);
}

/*
 * A digest that is not right says that the replica was not before: then the proposed version is asked for once more, as a complete copy. There may be no other
 * occasion to heal, as long as the master has nothing newer.
 */
static void prepare_failed(struct slave_core *s, int error, time_ms now, struct actions *out)
{
	unprepare(s, now, "failed", out);
	if (error == -DRS_EDIGEST && !s->heal) {
		s->heal = true;
		if (s->link == LINK_JOINED) {
			stage(s, (struct slice){ 0 }, now, out);
			return;
		}
	}
	answer(s, &s->proposed, PREPARE_NAK, error, out);
}

static void commit_prepared(struct slave_core *s, time_ms now, struct actions *out)
{
	work_move(s, WORK_COMMITTING, now, "committed");
	s->committing_prepared = true;
	act(out, ACTION_COMMIT_PREPARED)->version = s->proposed;
}

/* The proposed version was committed: show it, if all of it is here and checked; else it is had like any other. */
static void prepare_committed(struct slave_core *s, time_ms now, struct actions *out)
{
	if (s->work == WORK_PREPARED)
		commit_prepared(s, now, out);
	else
		prepare_end(s, now, "committed without us", out);
}

enum decision { UNDECIDED, COMMITTED, ABORTED };

/*
 * What a heartbeat says about the proposed version (R4.5). The window may have moved past it: then, and if the master has gone on from the same version
 * to another one, it counts as aborted here. Being wrong about that costs a pull.
 */
static enum decision decision_of(const struct slave_core *s, const struct beat *b)
{
	if (same(s, &b->current, &s->proposed))
		return COMMITTED;
	for (size_t i = 0; i < b->window_count; i++) {
		const struct window_entry *e = &b->window[i];

		if (!same(s, &e->version, &s->proposed))
			continue;
		if (e->aborted)
			return ABORTED;
		return greater(s, &b->current, &s->proposed) ? COMMITTED : UNDECIDED;
	}
	return greater(s, &b->current, &s->base) ? ABORTED : UNDECIDED;
}

static void prepare_decide(struct slave_core *s, enum decision decision, time_ms now, struct actions *out)
{
	if (decision != UNDECIDED)
		s->awaited = false;
	if (!is_preparing(s) || s->work == WORK_STAGING)
		return;
	if (decision == COMMITTED)
		prepare_committed(s, now, out);
	else if (decision == ABORTED)
		prepare_end(s, now, "aborted", out);
}

static void answer_out_of_sync(struct slave_core *s, const struct drs_version *version, struct actions *out)
{
	s->awaited = true;
	answer(s, version, PREPARE_OUT_OF_SYNC, 0, out);
}

/* Where we are not where the proposed version leads on from. Returns whether we are, or as good as. */
static bool prepare_in_sync(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (greater(s, &s->version, &e->previous) || !greater(s, &e->version, &s->version)) {
		answer(s, &e->version, PREPARE_NAK, -DRS_EPROTOCOL, out);
		return false;
	}
	learn(s, &e->previous);
	if (s->work == WORK_WAITING && is_stuck(s) && same(s, &s->known, &s->base))
		return true;
	if (s->work == WORK_WAITING && behind(s))
		work_move(s, WORK_IDLE, e->now, "the master waits for us");
	if (s->work == WORK_IDLE && same(s, &s->version, &s->known))
		return true;
	answer_out_of_sync(s, &e->version, out);
	return false;
}

static void prepare_is_for(struct slave_core *s, const struct event *e)
{
	s->proposed = e->version;
	s->base = e->previous;
	s->prepare_due = e->now + e->timeout_ms + PREPARED_GRACE_MS;
}

static void on_prepare(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (s->link != LINK_JOINED || s->peer != e->peer)
		return;
	s->asked_by = e->peer;
	s->awaited = false;
	if (is_preparing(s) && same(s, &s->proposed, &e->version)) {
		s->prepare_due = e->now + e->timeout_ms + PREPARED_GRACE_MS;
		if (s->work == WORK_PREPARED)
			answer(s, &s->proposed, PREPARE_ACK, 0, out);
		return;
	}
	if (s->work == WORK_PREPARED && same(s, &s->proposed, &e->previous)) {
		/* The master has gone on from it: the link was faster than the heartbeat that tells so. */
		learn(s, &e->previous);
		answer_out_of_sync(s, &e->version, out);
		commit_prepared(s, e->now, out);
		prepare_is_for(s, e);
		return;
	}
	if (is_preparing(s))
		prepare_end(s, e->now, "another prepare", out);
	prepare_is_for(s, e);
	if (prepare_in_sync(s, e, out))
		stage(s, e->inline_delta, e->now, out);
	else
		advance(s, NULL, e->now, out);
}

/* --- what the user has done --- */

static void on_pulled(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (s->work == WORK_STAGING) {
		check(s, "staged", e->now, out);
		return;
	}
	if (e->request != s->request)
		return;
	if (s->work == WORK_FETCHING) {
		check(s, "pulled", e->now, out);
	} else if (s->work == WORK_PULLING) {
		work_move(s, WORK_COMMITTING, e->now, "pulled");
		act(out, ACTION_COMMIT)->request = s->request;
	}
}

static void on_durable(struct slave_core *s, const struct event *e, struct actions *out)
{
	assert(s->work == WORK_COMMITTING);
	s->committing_prepared = false;
	if (!greater(s, &e->version, &s->version)) {
		/* No step forward, though the master has a newer version: asking again at once could go on for ever. */
		wait_and_retry(s, -DRS_EPROTOCOL, e->now);
		return;
	}
	s->version = e->version;
	learn(s, &s->version);
	s->heal = s->check_refused = false;
	s->failure = 0;
	s->retry_gap_ms = WORK_RETRY_MS_MIN;
	work_move(s, WORK_IDLE, e->now, "durable");
	if (s->link == LINK_JOINED)
		say_position(s, ACTION_REPORT, out);
	advance(s, NULL, e->now, out);
}

static bool is_full(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

/*
 * Who was told that we are out of sync waits for us to be there. Where that will not be soon we prepare from where we are, if a check is in the way; else he is
 * told why, instead of waiting until his time is up.
 */
static void answer_awaited(struct slave_core *s, int error, time_ms now, struct actions *out)
{
	if (!s->awaited)
		return;
	s->awaited = false;
	if (is_stuck(s) && same(s, &s->known, &s->base) && s->link == LINK_JOINED && s->asked_by == s->peer)
		stage(s, (struct slice){ 0 }, now, out);
	else
		answer(s, &s->proposed, PREPARE_NAK, error, out);
}

static void on_failed(struct slave_core *s, const struct event *e, struct actions *out)
{
	bool refused = s->work == WORK_COMMITTING && e->error == -DRS_EREFUSED;

	if (is_preparing(s)) {
		prepare_failed(s, e->error, e->now, out);
		advance(s, NULL, e->now, out);
		return;
	}
	if (s->work != WORK_PULLING && s->work != WORK_COMMITTING)
		return;
	if (e->error == -DRS_EDIGEST)
		s->heal = true;
	if (s->committing_prepared)
		act(out, ACTION_UNPREPARE);
	s->committing_prepared = false;
	if (refused) {
		wait_for_newer(s, &e->version, e->error, e->now);
		leave_refused(s, e->now); /* while it was checked a newer one came */
	} else {
		wait_and_retry(s, e->error, e->now);
	}
	if (s->work == WORK_WAITING && (refused || is_full(e->error)))
		answer_awaited(s, e->error, e->now, out);
	advance(s, NULL, e->now, out);
}

/* --- the link --- */

static void link_move(struct slave_core *s, enum link_state to, time_ms now, const char *why)
{
	machine_move(&link_machine, s->name, &s->link, to, now, why);
}

static void dial(struct slave_core *s, time_ms now, struct actions *out)
{
	link_move(s, LINK_DIALING, now, "time to dial");
	s->dialled = now;
	s->dial_due = TIME_NEVER;
	act(out, ACTION_DIAL);
}

static void drop_link(struct slave_core *s, time_ms now, const char *why, struct actions *out)
{
	link_move(s, LINK_DOWN, now, why);
	s->peer = PEER_NONE;
	if (s->work != WORK_PULLING && s->work != WORK_FETCHING)
		return;
	act(out, ACTION_PULL_STOP)->request = s->request;
	if (s->work == WORK_FETCHING)
		preparing_over(s, now, why);
	else
		work_move(s, WORK_IDLE, now, why);
}

static void dial_later(struct slave_core *s, time_ms now)
{
	if (s->refusal) {
		s->dial_due = now + spread(s, REFUSED_RETRY_MS);
		return;
	}
	s->dial_due = now + spread(s, s->dial_gap_ms);
	s->dial_gap_ms = doubled(s->dial_gap_ms, s->config.dial_retry_ms_max);
}

/* The master is evidently there: the rest of the pause is cut to an eighth, counted from the last attempt. */
static void dial_sooner(struct slave_core *s, time_ms now)
{
	if (s->link != LINK_DOWN || s->refusal)
		return;
	time_ms pause = later(s->dial_gap_ms / 8, s->config.dial_retry_ms_min);
	s->dial_due = earlier(s->dial_due, later(now, s->dialled + pause));
}

static void on_link_up(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (s->link != LINK_DIALING)
		return;
	link_move(s, LINK_JOINING, e->now, "up");
	s->peer = e->peer;
	say_position(s, ACTION_HELLO, out);
}

static bool is_our_link(const struct slave_core *s, const struct event *e)
{
	return s->link == LINK_DIALING || (s->link != LINK_DOWN && s->peer == e->peer);
}

static void on_link_down(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (!is_our_link(s, e))
		return;
	drop_link(s, e->now, "link down", out);
	dial_later(s, e->now);
}

static void on_refused(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (!is_our_link(s, e))
		return;
	s->refusal = e->error;
	drop_link(s, e->now, "refused", out);
	dial_later(s, e->now);
}

static void hang_up(struct slave_core *s, int refusal, time_ms now, struct actions *out)
{
	act(out, ACTION_HANG_UP)->peer = s->peer;
	s->refusal = refusal;
	drop_link(s, now, "another volume", out);
	dial_later(s, now);
}

static void set_interval(struct slave_core *s, uint32_t ms)
{
	if (ms > 0)
		s->interval_ms = ms < INTERVAL_MS_MAX ? ms : INTERVAL_MS_MAX;
}

static void on_welcome(struct slave_core *s, const struct event *e, struct actions *out)
{
	if (s->link != LINK_JOINING || s->peer != e->peer)
		return;
	if (s->config.did_known && memcmp(&s->config.did, e->did, sizeof(*e->did)) != 0) {
		hang_up(s, -DRS_EVOLUME, e->now, out);
		return;
	}
	s->config.did = *e->did;
	s->config.did_known = true;
	link_move(s, LINK_JOINED, e->now, "welcome");
	s->refusal = 0;
	s->dial_gap_ms = s->config.dial_retry_ms_min;
	set_interval(s, e->interval_ms);
	s->path_heard = e->now;
	learn(s, &e->version);
	if (same(s, &e->version, &s->proposed))
		prepare_decide(s, COMMITTED, e->now, out);
	else if (greater(s, &e->version, &s->base))
		prepare_decide(s, ABORTED, e->now, out);
	leave_refused(s, e->now);
	if (!same(s, &s->said.version, &s->version) || s->said.path != s->path)
		say_position(s, ACTION_REPORT, out);
	advance(s, NULL, e->now, out);
}

/* --- heartbeats --- */

static void set_path(struct slave_core *s, enum beat_path path, time_ms now, struct actions *out)
{
	s->path = path;
	s->path_heard = now;
	if (s->link == LINK_JOINED)
		say_position(s, ACTION_REPORT, out);
}

/* Paths are numbered from the best, multicast, on. The master goes on to try the better ones, so hearing is all that it takes to go back. */
static void note_path(struct slave_core *s, enum beat_path path, time_ms now, struct actions *out)
{
	if (path < s->path)
		set_path(s, path, now, out);
	else if (path == s->path)
		s->path_heard = now;
}

static time_ms path_deadline(const struct slave_core *s)
{
	if (s->link != LINK_JOINED || s->path == BEAT_BY_LINK)
		return TIME_NEVER;
	return s->path_heard + BEATS_MISSED_MAX * (time_ms)s->interval_ms;
}

/*
 * No heartbeat is thrown away for being late or repeated (R2.3): it can only say less than is known, never anything that was not so. To go by
 * incarnation and sequence instead would be worse: when the master's clock was set back, one late heartbeat of its former life would make all of its
 * new ones look old.
 */
static void on_beat(struct slave_core *s, const struct event *e, struct actions *out)
{
	const struct beat *b = e->beat;
	if (!s->config.did_known || memcmp(&b->did, &s->config.did, sizeof(b->did)) != 0)
		return;
	s->beat_seen = e->now;
	note_path(s, e->path, e->now, out);
	set_interval(s, b->interval_ms);
	dial_sooner(s, e->now);
	learn(s, &b->current);
	prepare_decide(s, decision_of(s, b), e->now, out);
	leave_refused(s, e->now);
	advance(s, b, e->now, out);
}

/* --- time --- */

static time_ms prepare_deadline(const struct slave_core *s)
{
	return is_preparing(s) && s->work != WORK_STAGING ? s->prepare_due : TIME_NEVER;
}

static void on_tick(struct slave_core *s, time_ms now, struct actions *out)
{
	if (s->link == LINK_DOWN && now >= s->dial_due)
		dial(s, now, out);
	if (now >= path_deadline(s))
		set_path(s, s->path == BEAT_BY_MULTICAST ? BEAT_BY_UNICAST : BEAT_BY_LINK, now, out);
	if (s->work == WORK_WAITING && now >= s->retry_due) {
		work_move(s, WORK_IDLE, now, "try again");
		advance(s, NULL, now, out);
	}
	if (now >= prepare_deadline(s)) {
		prepare_end(s, now, "time is up", out);
		advance(s, NULL, now, out);
	}
}

time_ms slave_deadline(const struct slave_core *s)
{
	time_ms due = path_deadline(s);
	if (s->link == LINK_DOWN)
		due = earlier(due, s->dial_due);
	if (s->work == WORK_WAITING)
		due = earlier(due, s->retry_due);
	return earlier(due, prepare_deadline(s));
}

/* --- status --- */

static enum slave_state state_of(const struct slave_core *s)
{
	if (s->work == WORK_COMMITTING)
		return SLAVE_COMMITTING;
	if (s->work == WORK_PULLING)
		return SLAVE_PULLING;
	if (s->work == WORK_STAGING || s->work == WORK_FETCHING)
		return SLAVE_PREPARING;
	if (s->work == WORK_CHECKING)
		return SLAVE_CHECKING;
	if (s->work == WORK_PREPARED)
		return SLAVE_PREPARED;
	if (s->refusal)
		return SLAVE_REFUSED;
	if (s->work == WORK_WAITING)
		return SLAVE_WAITING;
	if (s->link == LINK_JOINED)
		return SLAVE_CURRENT;
	return s->link == LINK_JOINING ? SLAVE_JOINING : SLAVE_ALONE;
}

void slave_core_status(const struct slave_core *s, struct slave_status *ret_status)
{
	*ret_status = (struct slave_status){
		.state = state_of(s),
		.version = s->version,
		.known = s->known,
		.beat_seen = s->beat_seen,
		.path = s->path,
		.error = s->refusal ? s->refusal : s->failure,
	};
	if (is_preparing(s))
		ret_status->prepared = s->proposed;
}

const char *slave_state_name(enum slave_state state)
{
	static const char *const names[] = {
		[SLAVE_ALONE] = "alone",
		[SLAVE_JOINING] = "joining",
		[SLAVE_CURRENT] = "current",
		[SLAVE_PULLING] = "pulling",
		[SLAVE_COMMITTING] = "committing",
		[SLAVE_WAITING] = "waiting",
		[SLAVE_REFUSED] = "refused",
		[SLAVE_PREPARING] = "preparing",
		[SLAVE_CHECKING] = "checking",
		[SLAVE_PREPARED] = "prepared",
	};
	assert(state < ARRAY_SIZE(names));
	return names[state];
}

/* Whether a user would see a difference; that a heartbeat came is none. */
static bool status_differs(const struct slave_core *s, const struct slave_status *a, const struct slave_status *b)
{
	return a->state != b->state || a->path != b->path || a->error != b->error || !same(s, &a->version, &b->version) ||
	       !same(s, &a->known, &b->known) || !same(s, &a->prepared, &b->prepared);
}

/* --- steps --- */

static void step(struct slave_core *s, const struct event *e, struct actions *out)
{
	switch (e->kind) {
	case EVENT_TICK:
		on_tick(s, e->now, out);
		break;
	case EVENT_BEAT:
		on_beat(s, e, out);
		break;
	case EVENT_LINK_UP:
		on_link_up(s, e, out);
		break;
	case EVENT_LINK_DOWN:
		on_link_down(s, e, out);
		break;
	case EVENT_WELCOME:
		on_welcome(s, e, out);
		break;
	case EVENT_REFUSED:
		on_refused(s, e, out);
		break;
	case EVENT_PULLED:
		on_pulled(s, e, out);
		break;
	case EVENT_DURABLE:
		on_durable(s, e, out);
		break;
	case EVENT_FAILED:
		on_failed(s, e, out);
		break;
	case EVENT_PREPARE:
		on_prepare(s, e, out);
		break;
	case EVENT_UNSTAGED:
		on_unstaged(s, e, out);
		break;
	case EVENT_CHECKED:
		on_checked(s, e, out);
		break;
	default:
		assert(!"an event for a master");
	}
}

void slave_step(struct slave_core *s, const struct event *e, struct actions *out)
{
	struct slave_status before, after;
	slave_core_status(s, &before);
	out->count = 0;
	step(s, e, out);
	assert(s->work != WORK_IDLE || s->link != LINK_JOINED || !behind(s));
	assert(!is_preparing(s) || s->work == WORK_STAGING || !greater(s, &s->known, &s->base));
	slave_core_status(s, &after);
	if (status_differs(s, &before, &after))
		act(out, ACTION_CHANGED);
}

/* --- life --- */

int slave_core_new(const struct slave_core_config *config, time_ms now, struct slave_core **ret_core)
{
	assert(config->dial_retry_ms_min > 0 && config->dial_retry_ms_min <= config->dial_retry_ms_max);
	size_t length = strlen(config->name);
	if (length == 0 || length >= NAME_TEXT_MAX)
		return -EINVAL;
	struct slave_core *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->config = *config;
	memcpy(s->name, config->name, length + 1);
	if (config->clusters)
		s->clusters = *config->clusters;
	s->config.name = s->name;
	s->config.clusters = &s->clusters;
	s->random = config->seed;
	s->version = s->known = config->version;
	s->interval_ms = INTERVAL_MS_DEFAULT;
	s->dial_due = now;
	s->dialled = now - config->dial_retry_ms_min;
	s->dial_gap_ms = config->dial_retry_ms_min;
	s->path = config->multicast ? BEAT_BY_MULTICAST : BEAT_BY_UNICAST;
	s->path_heard = now;
	s->retry_gap_ms = WORK_RETRY_MS_MIN;
	*ret_core = s;
	return 0;
}

void slave_core_free(struct slave_core *s)
{
	free(s);
}
