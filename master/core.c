/*
 * The master's half of the DRS core (R2, R3.1, R3.4, R4): which version is current, who follows it and how far, and what is said to whom and when.
 *
 * An update waits in a short queue until its number is durable; only then is it the current version, gets its entry in the window, and is
 * told in one heartbeat, with its delta inside if that is small. Silence heals the rest: the heartbeat is said again twice or three
 * times, soon, for those who have not reported the version, and for ever at the regular interval. Nothing here waits for a slave, and no slave can
 * hold back another: all that the core keeps about one is a line in a table.
 *
 * Two phase: a job asks its participants, counts their votes, has the decision made durable, and only then tells it, in the same heartbeats. Updates that
 * come meanwhile stay in the queue behind it (R4.7). Whatever is said by datagram may be lost here as well: who has not learned of a commit is
 * behind like anyone else, and an abort is an entry in the window, above the current version.
 *
 * Deltas themselves are conversations that the node carries between the users; the core only knows who has one open.
 *
 *   number:  QUIET --update--> STORING --stored--> QUIET, or STORING again for the next in the queue
 *                                 |  ^
 *                               failed later
 *                                 v  |
 *                               WAITING
 *
 *   member:  GONE <--link ends-- HERE <--done-- PULLING      GONE --hello--> HERE --pull--> PULLING
 *              ^------------------link ends--------'
 *
 *   job:     NONE --start--> QUEUED --its turn--> ASKING --all votes are there--> COMMITTING --durable--> NONE
 *                               |                   |                                |
 *                               '--cancel, time-----'--and Nak--> ABORTING <--failed-'
 *                                                                    '--answered--> NONE
 *
 * The coordinator, state by event; what is not named does nothing. "Ask" is PREPARE to one participant, "count" looks whether the votes decide.
 *
 *   event             NONE                 QUEUED                 ASKING                              COMMITTING       ABORTING
 *   start             QUEUED, or at once   refuse: busy           refuse: busy                        refuse: busy     refuse: busy
 *                     ASKING: ask all
 *   previous stored   -                    ASKING: ask all        -                                   -                -
 *   hello             -                    -                      ask a participant; count            -                -
 *   report            -                    -                      SYNCING and at 'previous': ask      -                -
 *   link down         -                    -                      ASKED, SYNCING: UNREACHABLE; count  -                -
 *   Ack               -                    -                      PREPARED; count                     -                -
 *   Nak               -                    -                      REFUSED; count                      -                -
 *   OutOfSync         -                    -                      SYNCING                             -                -
 *   count: enough     -                    -                      COMMITTING: decide commit           -                -
 *   count: too few    -                    -                      ABORTING: decide abort              -                -
 *   cancel, timeout   -                    ABORTING: decide abort ABORTING: decide abort              -                -
 *   decided           -                    -                      -                                   NONE: current,   NONE: aborted entry,
 *                                                                                                     tell, job done   tell, job done
 *   decide failed     -                    -                      -                                   ABORTING: decide NONE: as decided; a restart
 *                                                                                                     abort            aborts it too
 *   update            store it             behind the job         behind the job                      behind the job   behind the job
 */
#include "master/core.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/machine.h"
#include "drsfs/scope.h"

#define UPDATES_MAX 8           /* that wait for their number to be durable; beyond it the newest ones become one, */
#define UPDATES_SLOTS (UPDATES_MAX + 1) /* but never one from before a job with one from behind it */
#define STORE_RETRY_MS 1000

/* After a change the heartbeat is repeated with these gaps for those who may have lost it. */
static const time_ms repeat_gaps_ms[] = { 20, 80, 320 };

enum number_state { NUMBER_QUIET, NUMBER_STORING, NUMBER_WAITING };
static const struct machine number_machine = {
	.name = "number",
	.count = 3,
	.states = { "quiet", "storing", "waiting" },
	.allowed = {
		[NUMBER_QUIET] = MACHINE_TO(NUMBER_STORING),
		[NUMBER_STORING] = MACHINE_TO(NUMBER_QUIET) | MACHINE_TO(NUMBER_WAITING),
		[NUMBER_WAITING] = MACHINE_TO(NUMBER_STORING),
	},
};

enum member_state { MEMBER_GONE, MEMBER_HERE, MEMBER_PULLING };
static const struct machine member_machine = {
	.name = "member",
	.count = 3,
	.states = { "gone", "here", "pulling" },
	.allowed = {
		[MEMBER_GONE] = MACHINE_TO(MEMBER_HERE),
		[MEMBER_HERE] = MACHINE_TO(MEMBER_GONE) | MACHINE_TO(MEMBER_PULLING),
		[MEMBER_PULLING] = MACHINE_TO(MEMBER_GONE) | MACHINE_TO(MEMBER_HERE),
	},
};

enum job_state { JOB_NONE, JOB_QUEUED, JOB_ASKING, JOB_COMMITTING, JOB_ABORTING };
static const struct machine job_machine = {
	.name = "job",
	.count = 5,
	.states = { "none", "queued", "asking", "committing", "aborting" },
	.allowed = {
		[JOB_NONE] = MACHINE_TO(JOB_QUEUED),
		[JOB_QUEUED] = MACHINE_TO(JOB_ASKING) | MACHINE_TO(JOB_ABORTING),
		[JOB_ASKING] = MACHINE_TO(JOB_COMMITTING) | MACHINE_TO(JOB_ABORTING),
		[JOB_COMMITTING] = MACHINE_TO(JOB_NONE) | MACHINE_TO(JOB_ABORTING),
		[JOB_ABORTING] = MACHINE_TO(JOB_NONE),
	},
};

#define NO_VOTE UINT32_MAX

/* What the heartbeat is repeated for. */
enum news { NEWS_UPDATE, NEWS_COMMIT, NEWS_ABORT };

/* What the core alone has to know of a member; stands beside its public line, at the same index. */
struct seat {
	uint8_t state;     /* enum member_state */
	bool asked;        /* to prepare what the last job proposed: an abort concerns it */
	uint32_t request;  /* of the pull that is being served */
	uint32_t vote;     /* its line in the job's votes, or NO_VOTE */
	struct scope clusters;
};

struct update {
	struct drs_version version;
	struct scope scope;
	uint16_t inline_size;
	uint8_t inline_bytes[DRS_INLINE_BYTES_MAX];
};

struct master_core {
	struct master_core_config config;
	struct drs_version current;
	struct drs_version previous;       /* current before it; what 'told.inline_bytes' starts from */
	struct update told;                /* the update that led to current, for as long as its delta goes along */

	uint8_t number;                    /* enum number_state */
	struct update updates[UPDATES_SLOTS]; /* a ring: the first is the one whose number is being stored */
	size_t updates_first, updates_count;
	time_ms store_due;

	uint8_t job;                       /* enum job_state */
	struct update proposal;            /* what it leads to; its delta only as far as a heartbeat takes it */
	struct scope asked_scope;          /* of the job, as it was started */
	struct drs_version base;           /* that the proposal leads on from */
	enum drs_require require;
	uint32_t require_count;
	time_ms job_due;                   /* its timeout */
	int job_error;                     /* why it is aborted */
	size_t ahead;                      /* updates in the queue that came before it */
	bool voted;                        /* votes have changed in this step */
	size_t votes_count;
	struct drs_vote *votes;            /* members_max of them */

	struct window_entry window[WINDOW_MAX];
	uint32_t window_told[WINDOW_MAX];  /* in how many heartbeats the entry went since a newer one came */
	uint8_t window_count;              /* at least 1: the current version never leaves; aborted ones may stand before it */

	uint64_t sequence;
	time_ms beat_due;
	time_ms repeat_due;
	size_t repeats;                    /* of the last news so far */
	uint8_t news;                      /* enum news */
	size_t probe;                      /* the member whose unicast path was tried last */

	size_t members_count, members_here, members_max;
	struct member *members;
	struct seat *seats;
};

/* --- versions --- */

static bool greater(const struct master_core *m, const struct drs_version *a, const struct drs_version *b)
{
	return m->config.ops->greater(a, b);
}

static bool has(const struct master_core *m, const struct member *member, const struct drs_version *version)
{
	return !greater(m, version, &member->version);
}

/* --- members --- */

static struct action *act(struct actions *out, enum action_kind kind, peer_id peer)
{
	assert(out->count < out->capacity);
	struct action *a = &out->items[out->count++];
	*a = (struct action){ .kind = kind, .peer = peer };
	return a;
}

static bool is_here(const struct master_core *m, size_t i)
{
	return m->seats[i].state != MEMBER_GONE;
}

static void vote_move(struct master_core *m, uint32_t vote, enum drs_answer to)
{
	if (m->votes[vote].answer == to)
		return;
	m->votes[vote].answer = to;
	m->voted = true;
}

/* An Ack stays: what it says is durable. */
static void vote_lose_link(struct master_core *m, uint32_t vote)
{
	if (m->votes[vote].answer == DRS_ASKED || m->votes[vote].answer == DRS_SYNCING)
		vote_move(m, vote, DRS_UNREACHABLE);
}

static bool takes_part(const struct master_core *m, size_t i)
{
	return m->job == JOB_ASKING && m->seats[i].vote != NO_VOTE;
}

static void member_move(struct master_core *m, size_t i, enum member_state to, time_ms now, const char *why)
{
	struct member *member = &m->members[i];
	bool was_here = is_here(m, i);
	machine_move(&member_machine, member->name, &m->seats[i].state, to, now, why);
	m->members_here = m->members_here + is_here(m, i) - was_here;
	member->pulling = to == MEMBER_PULLING;
	if (to != MEMBER_GONE)
		return;
	member->peer = PEER_NONE;
	if (takes_part(m, i))
		vote_lose_link(m, m->seats[i].vote);
}

static size_t member_by_peer(const struct master_core *m, peer_id peer)
{
	for (size_t i = 0; i < m->members_count; i++)
		if (is_here(m, i) && m->members[i].peer == peer)
			return i;
	return SIZE_MAX;
}

static size_t member_by_name(const struct master_core *m, const char *name)
{
	for (size_t i = 0; i < m->members_count; i++)
		if (strcmp(m->members[i].name, name) == 0)
			return i;
	return SIZE_MAX;
}

/* Who was not heard of since the start counts as gone for longest. */
static bool gone_longer(const struct member *a, const struct member *b)
{
	return a->heard != b->heard ? b->heard : a->seen < b->seen;
}

/* A line for a new member; when the table is full, that of the one who has been gone for longest. */
static size_t member_place(struct master_core *m)
{
	if (m->members_count < m->members_max)
		return m->members_count++;
	size_t oldest = SIZE_MAX;
	for (size_t i = 0; i < m->members_count; i++)
		if (!is_here(m, i) && (oldest == SIZE_MAX || gone_longer(&m->members[i], &m->members[oldest])))
			oldest = i;
	assert(oldest != SIZE_MAX); /* the table holds twice peers_max */
	return oldest;
}

/* Whose place was taken during a job and who comes back in it still has its vote: it is found by name. */
static uint32_t vote_by_name(const struct master_core *m, const char *name)
{
	for (size_t n = 0; m->job == JOB_ASKING && n < m->votes_count; n++)
		if (strcmp(m->votes[n].name, name) == 0)
			return (uint32_t)n;
	return NO_VOTE;
}

static size_t member_new(struct master_core *m, const char *name)
{
	size_t i = member_place(m);
	m->members[i] = (struct member){ 0 };
	m->seats[i] = (struct seat){ .state = MEMBER_GONE, .vote = vote_by_name(m, name) };
	strcpy(m->members[i].name, name);
	return i;
}

/* Whether the window has to care for it: it has a link, or had one lately. */
static bool is_known(const struct master_core *m, size_t i, time_ms now)
{
	return is_here(m, i) || (m->members[i].heard && now - m->members[i].seen < m->config.peer_silence_ms);
}

static enum beat_path path_of(const struct master_core *m, const struct member *member)
{
	if (member->path == BEAT_BY_MULTICAST)
		return m->config.multicast ? BEAT_BY_MULTICAST : BEAT_BY_UNICAST;
	return member->path == BEAT_BY_UNICAST ? BEAT_BY_UNICAST : BEAT_BY_LINK;
}

static void note_position(struct master_core *m, struct member *member, const struct event *e)
{
	member->heard = true;
	member->version = e->version;
	member->path = e->path;
	member->seen = e->now;
	if (has(m, member, &m->current))
		member->behind_since = 0;
	else if (!member->behind_since)
		member->behind_since = e->now;
}

/* --- the window (R2.2, R2.4): newest first; before the current version only aborted ones --- */

static size_t window_current(const struct master_core *m)
{
	size_t i = 0;
	while (m->window[i].aborted)
		i++;
	return i;
}

static void window_remove(struct master_core *m, size_t i)
{
	size_t after = --m->window_count - i;
	memmove(m->window + i, m->window + i + 1, after * sizeof(m->window[0]));
	memmove(m->window_told + i, m->window_told + i + 1, after * sizeof(m->window_told[0]));
}

/* Puts an entry in its place. When there is no room the oldest leaves, but not the current one: then it is the oldest of those before it. */
static void window_push(struct master_core *m, const struct window_entry *entry)
{
	size_t at = 0;
	while (at < m->window_count && greater(m, &m->window[at].version, &entry->version))
		at++;
	if (m->window_count == WINDOW_MAX) {
		size_t leaves = entry->aborted && window_current(m) == WINDOW_MAX - 1 ? WINDOW_MAX - 2 : WINDOW_MAX - 1;
		window_remove(m, leaves);
		at = at > leaves ? at - 1 : at;
	}
	size_t after = m->window_count++ - at;
	memmove(m->window + at + 1, m->window + at, after * sizeof(m->window[0]));
	memmove(m->window_told + at + 1, m->window_told + at, after * sizeof(m->window_told[0]));
	m->window[at] = *entry;
	m->window_told[at] = 0;
}

static bool window_aborted(const struct master_core *m, const struct drs_version *version)
{
	for (size_t i = 0; i < m->window_count; i++)
		if (m->window[i].aborted && m->config.ops->equal(&m->window[i].version, version))
			return true;
	return false;
}

/* The one after 'before': a number that was aborted lies between no two versions. */
static struct drs_version next_of(const struct master_core *m, const struct drs_version *before)
{
	struct drs_version next = m->config.ops->next(before);
	while (window_aborted(m, &next))
		next = m->config.ops->next(&next);
	return next;
}

/*
 * Whether some slave may still find its own version, or one that it has prepared, in the oldest entry: it lacks the one that was committed after. There is
 * one, for the oldest entry stands behind the current one.
 */
static bool window_oldest_needed(const struct master_core *m, time_ms now)
{
	size_t after = m->window_count - 2u;
	while (m->window[after].aborted)
		after--;
	bool anyone = false;
	for (size_t i = 0; i < m->members_count; i++) {
		if (!is_known(m, i, now))
			continue;
		if (!has(m, &m->members[i], &m->window[after].version))
			return true;
		anyone = true;
	}
	return !anyone;
}

/*
 * One more heartbeat: the entries that have been in enough of them leave, those that nobody needs leave before. An aborted one above the current version
 * leaves by the count only, as nobody reports that he has learned of it.
 */
static void window_age(struct master_core *m, time_ms now)
{
	size_t current = window_current(m);
	while (m->window_count > current + 1 &&
	       (m->window_told[m->window_count - 1] >= m->config.window_beats || !window_oldest_needed(m, now)))
		m->window_count--;
	for (; current > 0 && m->window_told[current - 1] >= m->config.window_beats; current--)
		window_remove(m, current - 1);
	for (size_t i = 0; i < m->window_count; i++)
		m->window_told[i] += i != current;
}

/* --- heartbeats --- */

static void tell(struct actions *out, peer_id peer, enum beat_path path)
{
	act(out, ACTION_BEAT_TO, peer)->path = path;
}

static void tell_everyone(struct master_core *m, time_ms now, struct actions *out)
{
	window_age(m, now);
	if (m->config.multicast)
		act(out, ACTION_BEAT, PEER_NONE);
	for (size_t i = 0; i < m->members_count; i++) {
		enum beat_path path = path_of(m, &m->members[i]);
		if (is_here(m, i) && path != BEAT_BY_MULTICAST)
			tell(out, m->members[i].peer, path);
	}
	m->beat_due = now + m->config.beat_interval_ms;
}

/* Who hears by its link only gets a datagram now and then, one member at each regular heartbeat: when it hears that, it says so. */
static void probe_someone(struct master_core *m, struct actions *out)
{
	for (size_t n = 0; n < m->members_count; n++) {
		m->probe = (m->probe + 1) % m->members_count;
		const struct member *member = &m->members[m->probe];
		if (is_here(m, m->probe) && path_of(m, member) == BEAT_BY_LINK) {
			tell(out, member->peer, BEAT_BY_UNICAST);
			return;
		}
	}
}

/*
 * Whether a datagram about the current version may have been lost on its way to the member: who is pulling is on its way anyway. Or one about the
 * abort: nobody reports that he has learned of it, so that all who were asked count.
 */
static bool may_have_missed(const struct master_core *m, size_t i)
{
	const struct member *member = &m->members[i];
	bool current = m->seats[i].state == MEMBER_HERE && !has(m, member, &m->current);
	bool abort = m->news == NEWS_ABORT && is_here(m, i) && m->seats[i].asked;
	return (current || abort) && path_of(m, member) != BEAT_BY_LINK;
}

static void repeats_end(struct master_core *m)
{
	m->repeat_due = TIME_NEVER;
	m->told.inline_size = 0;
}

static void repeats_begin(struct master_core *m, enum news news, time_ms now)
{
	m->repeats = 0;
	m->news = news;
	m->repeat_due = now + repeat_gaps_ms[0];
}

/* A decision that was repeated once goes to who was asked by his link, for he may be prepared and wait, and datagrams may not reach him at all. */
static bool wants_link(const struct master_core *m, size_t i)
{
	return m->news != NEWS_UPDATE && m->seats[i].asked && m->repeats > 0;
}

/* Returns whether there was anyone to repeat it for. */
static bool tell_laggards(struct master_core *m, struct actions *out)
{
	bool anyone = false, by_multicast = false;
	for (size_t i = 0; i < m->members_count; i++) {
		if (!may_have_missed(m, i))
			continue;
		anyone = true;
		if (wants_link(m, i))
			tell(out, m->members[i].peer, BEAT_BY_LINK);
		else if (path_of(m, &m->members[i]) == BEAT_BY_MULTICAST)
			by_multicast = true;
		else
			tell(out, m->members[i].peer, BEAT_BY_UNICAST);
	}
	if (by_multicast)
		act(out, ACTION_BEAT, PEER_NONE);
	return anyone;
}

/* The heartbeat is built after the step, so the delta of the last repeat has to stay for one more gap. */
static void repeat(struct master_core *m, time_ms now, struct actions *out)
{
	size_t last = ARRAY_SIZE(repeat_gaps_ms) - 1;
	if (m->repeats > last || !tell_laggards(m, out)) {
		repeats_end(m);
		return;
	}
	m->repeats++;
	m->repeat_due = now + repeat_gaps_ms[m->repeats < last ? m->repeats : last];
}

void master_beat(struct master_core *m, struct beat *ret_beat)
{
	*ret_beat = (struct beat){
		.did = m->config.did,
		.incarnation = m->config.incarnation,
		.sequence = ++m->sequence,
		.current = m->current,
		.previous = m->previous,
		.window_count = m->window_count,
		.inline_delta = { m->told.inline_bytes, m->told.inline_size },
		.link_port = m->config.link_port,
		.interval_ms = m->config.beat_interval_ms,
	};
	memcpy(ret_beat->window, m->window, m->window_count * sizeof(m->window[0]));
}

/* --- updates (R3.1) --- */

static void number_move(struct master_core *m, enum number_state to, time_ms now, const char *why)
{
	machine_move(&number_machine, "", &m->number, to, now, why);
}

static struct update *update_at(struct master_core *m, size_t n)
{
	return &m->updates[(m->updates_first + n) % UPDATES_SLOTS];
}

static const struct drs_version *newest_version(struct master_core *m)
{
	return m->updates_count ? &update_at(m, m->updates_count - 1)->version : &m->current;
}

/* The first update of the queue is stored when nothing else is, and no job stands before it. */
static void store_first(struct master_core *m, time_ms now, const char *why, struct actions *out)
{
	if (m->number == NUMBER_STORING || m->updates_count == 0 || (m->job != JOB_NONE && m->ahead == 0))
		return;
	number_move(m, NUMBER_STORING, now, why);
	m->store_due = TIME_NEVER;
	act(out, ACTION_STORE, PEER_NONE)->version = update_at(m, 0)->version;
}

/*
 * A delta goes along only where nothing can be wrong about it: it leads over exactly one step, so that it starts at the version that was newest before,
 * and it is for everyone, for a slave outside its scope must not receive it (R6.2). The first update from behind a job never qualifies: the proposed
 * number lies between.
 */
static bool may_go_inline(const struct master_core *m, const struct drs_version *before, const struct event *e)
{
	struct drs_version next = next_of(m, before);
	return e->inline_delta.size <= DRS_INLINE_BYTES_MAX && m->config.ops->equal(&next, &e->version) && (!e->scope || scope_is_everyone(e->scope));
}

static void update_fill(struct master_core *m, struct update *u, const struct drs_version *before, const struct event *e)
{
	u->inline_size = 0;
	if (may_go_inline(m, before, e) && e->inline_delta.size > 0) {
		u->inline_size = (uint16_t)e->inline_delta.size;
		memcpy(u->inline_bytes, e->inline_delta.data, e->inline_delta.size);
	}
	u->version = e->version;
	u->scope = e->scope ? *e->scope : (struct scope){ 0 };
}

/* No room: the newest update in the queue and this one become one. Its entry in the window then stands for both. */
static void update_merge(struct update *u, const struct drs_version *version, const struct scope *scope)
{
	static const struct scope everyone;
	u->version = *version;
	u->inline_size = 0;
	scope_unite(&u->scope, scope ? scope : &everyone);
}

/* When no job stands between them any more, the last two of a queue that is too long become one. */
static void updates_close_ranks(struct master_core *m)
{
	if (m->updates_count <= UPDATES_MAX)
		return;
	const struct update *last = update_at(m, --m->updates_count);
	update_merge(update_at(m, m->updates_count - 1), &last->version, &last->scope);
}

/*
 * An update that comes after a newer one: what the window says about the newer one's scope is then not the whole truth for versions below it, so
 * they leave. The queue and the proposal need no such care, as their entries never were in a heartbeat: they are made to concern everyone.
 */
static void update_late(struct master_core *m)
{
	m->window_count = (uint8_t)(window_current(m) + 1);
	for (size_t n = 0; n < m->updates_count; n++)
		update_at(m, n)->scope.size = 0;
	m->proposal.scope.size = 0;
}

/* Whether the queue takes no line more. The first update behind a job always gets one of its own. */
static bool updates_full(const struct master_core *m)
{
	bool first_behind_job = m->job != JOB_NONE && m->updates_count == m->ahead;
	assert(m->updates_count < UPDATES_SLOTS || !first_behind_job);
	return m->updates_count >= UPDATES_MAX && !first_behind_job;
}

static void on_update(struct master_core *m, const struct event *e, struct actions *out)
{
	const struct drs_version before = *newest_version(m);
	if (!greater(m, &e->version, &before)) {
		if (!m->config.ops->equal(&e->version, &before))
			update_late(m);
		return;
	}
	if (updates_full(m)) {
		update_merge(update_at(m, m->updates_count - 1), &e->version, e->scope);
		return;
	}
	update_fill(m, update_at(m, m->updates_count), &before, e);
	m->updates_count++;
	if (m->number == NUMBER_QUIET)
		store_first(m, e->now, "update", out);
}

static void update_shift(struct master_core *m)
{
	m->updates_first = (m->updates_first + 1) % UPDATES_SLOTS;
	m->updates_count--;
}

/* Its number is durable: it is the current version, and everyone is told. */
static void become_current(struct master_core *m, const struct update *u, enum news news, time_ms now, struct actions *out)
{
	m->previous = m->current;
	m->current = u->version;
	m->told = *u;
	window_push(m, &(struct window_entry){ .version = u->version, .scope = u->scope });
	for (size_t i = 0; i < m->members_count; i++)
		if (!m->members[i].behind_since && !has(m, &m->members[i], &m->current))
			m->members[i].behind_since = now;
	tell_everyone(m, now, out);
	repeats_begin(m, news, now);
}

static void job_turn(struct master_core *, time_ms, struct actions *);

static void on_stored(struct master_core *m, const struct event *e, struct actions *out)
{
	assert(m->config.ops->equal(&e->version, &update_at(m, 0)->version));
	number_move(m, NUMBER_QUIET, e->now, "stored");
	become_current(m, update_at(m, 0), NEWS_UPDATE, e->now, out);
	update_shift(m);
	if (m->ahead > 0)
		m->ahead--;
	if (m->job == JOB_QUEUED && m->ahead == 0)
		job_turn(m, e->now, out);
	store_first(m, e->now, "next update", out);
}

static void on_store_failed(struct master_core *m, const struct event *e)
{
	number_move(m, NUMBER_WAITING, e->now, "failed");
	m->store_due = e->now + STORE_RETRY_MS;
}

/* --- two phase: the coordinator (R4) --- */

static void job_move(struct master_core *m, enum job_state to, time_ms now, const char *why)
{
	machine_move(&job_machine, "", &m->job, to, now, why);
}

static void decide(struct master_core *m, bool commit, time_ms now, const char *why, struct actions *out)
{
	job_move(m, commit ? JOB_COMMITTING : JOB_ABORTING, now, why);
	m->job_due = TIME_NEVER;
	struct action *a = act(out, ACTION_DECIDE, PEER_NONE);
	a->version = m->proposal.version;
	a->commit = commit;
}

static void job_give_up(struct master_core *m, int error, time_ms now, const char *why, struct actions *out)
{
	m->job_error = error;
	decide(m, false, now, why, out);
}

static void vote_refuse(struct master_core *m, uint32_t vote, int error, const char *reason)
{
	struct drs_vote *v = &m->votes[vote];
	vote_move(m, vote, DRS_REFUSED);
	v->error = error;
	strncpy(v->reason, reason ? reason : "", sizeof(v->reason) - 1);
}

/*
 * Ask a participant that has a link. One that says it is above the version that the proposal leads on from has something that was not given out here, such as
 * a version of a master that has lost its newest ones: it can never prepare this one, and to wait for it would hide the reason.
 */
static void ask(struct master_core *m, size_t i, time_ms now, struct actions *out)
{
	const struct member *member = &m->members[i];
	uint32_t vote = m->seats[i].vote;
	if (greater(m, &member->version, &m->base)) {
		vote_refuse(m, vote, -DRS_EPROTOCOL, "it has a version that is newer than the master's");
		return;
	}
	m->seats[i].asked = true;
	vote_move(m, vote, DRS_ASKED);
	struct action *a = act(out, ACTION_PREPARE, member->peer);
	a->version = m->proposal.version;
	a->timeout_ms = (uint32_t)(m->job_due > now ? m->job_due - now : 1);
}

/* A slave has said hello: by this link it was not asked yet, and it may have forgotten that it was by another. */
static void ask_newcomer(struct master_core *m, size_t i, time_ms now, struct actions *out)
{
	if (!takes_part(m, i))
		return;
	enum drs_answer answer = m->votes[m->seats[i].vote].answer;
	if (answer != DRS_REFUSED && answer != DRS_NOT_NEEDED)
		ask(m, i, now, out);
}

/* It has said where it is: what it pulled for our sake may be there. */
static void ask_again(struct master_core *m, size_t i, time_ms now, struct actions *out)
{
	if (takes_part(m, i) && m->votes[m->seats[i].vote].answer == DRS_SYNCING && has(m, &m->members[i], &m->base))
		ask(m, i, now, out);
}

static size_t votes_of(const struct master_core *m, enum drs_answer answer)
{
	size_t count = 0;
	for (size_t n = 0; n < m->votes_count; n++)
		count += m->votes[n].answer == answer;
	return count;
}

/* Who had no word in the decision to commit, and gets it by one phase. */
static void votes_dispense(struct master_core *m)
{
	for (uint32_t n = 0; n < m->votes_count; n++)
		if (m->votes[n].answer != DRS_PREPARED && m->votes[n].answer != DRS_REFUSED)
			vote_move(m, n, DRS_NOT_NEEDED);
}

static bool votes_enough(const struct master_core *m)
{
	size_t open = votes_of(m, DRS_ASKED) + votes_of(m, DRS_SYNCING);
	switch (m->require) {
	case DRS_REQUIRE_ALL:
		return open + votes_of(m, DRS_UNREACHABLE) + votes_of(m, DRS_REFUSED) == 0;
	case DRS_REQUIRE_CONNECTED:
		return open + votes_of(m, DRS_REFUSED) == 0;
	case DRS_REQUIRE_COUNT:
		break;
	}
	return votes_of(m, DRS_PREPARED) >= m->require_count;
}

/* A count that is above the number of participants can never be had, and nobody has refused. */
static int votes_too_few(const struct master_core *m)
{
	size_t refused = votes_of(m, DRS_REFUSED);
	if (m->require != DRS_REQUIRE_COUNT)
		return refused ? -DRS_EREFUSED : 0;
	if (m->votes_count < m->require_count)
		return -EINVAL;
	return m->votes_count - refused < m->require_count ? -DRS_EREFUSED : 0;
}

/* The end of each step: whether the votes decide, and what the user is told of them. */
static void count_votes(struct master_core *m, time_ms now, struct actions *out)
{
	bool enough = m->job == JOB_ASKING && votes_enough(m);
	int error = m->job == JOB_ASKING ? votes_too_few(m) : 0;
	if (enough)
		votes_dispense(m);
	if (m->voted)
		act(out, ACTION_VOTED, PEER_NONE);
	m->voted = false;
	if (enough) {
		decide(m, true, now, "votes are enough", out);
	} else if (error) {
		job_give_up(m, error, now, "votes are too few", out);
	}
}

static void vote_new(struct master_core *m, size_t i)
{
	struct drs_vote *v = &m->votes[m->votes_count];
	bool wanted = m->require != DRS_REQUIRE_CONNECTED || is_here(m, i);
	*v = (struct drs_vote){ .answer = wanted ? DRS_UNREACHABLE : DRS_NOT_NEEDED };
	strcpy(v->name, m->members[i].name);
	m->seats[i].vote = (uint32_t)m->votes_count++;
}

/* The version that the job leads on from is current: ask whoever is a member now and in its scope. */
static void job_turn(struct master_core *m, time_ms now, struct actions *out)
{
	job_move(m, JOB_ASKING, now, "its turn");
	m->voted = true;
	for (size_t i = 0; i < m->members_count; i++) {
		m->seats[i].asked = false;
		m->seats[i].vote = NO_VOTE;
		if (!scope_concerns(&m->asked_scope, m->members[i].name, &m->seats[i].clusters))
			continue;
		vote_new(m, i);
		if (is_here(m, i))
			ask(m, i, now, out);
	}
}

static void on_start(struct master_core *m, const struct event *e, struct actions *out)
{
	const struct drs_job *job = e->job;
	assert(job->timeout_ms > 0 && greater(m, &job->version, &job->previous));
	if (m->job != JOB_NONE || !m->config.ops->equal(&job->previous, newest_version(m))) {
		struct action *a = act(out, ACTION_JOB_DONE, PEER_NONE);
		a->version = job->version;
		a->error = -EBUSY;
		return;
	}
	job_move(m, JOB_QUEUED, e->now, "start");
	m->base = job->previous;
	m->asked_scope = m->proposal.scope = job->scope;
	m->proposal.version = job->version;
	m->proposal.inline_size = 0;
	if (e->inline_delta.size > 0 && e->inline_delta.size <= DRS_INLINE_BYTES_MAX && scope_is_everyone(&job->scope)) {
		m->proposal.inline_size = (uint16_t)e->inline_delta.size;
		memcpy(m->proposal.inline_bytes, e->inline_delta.data, e->inline_delta.size);
	}
	m->require = job->require;
	m->require_count = job->count;
	m->job_due = e->now + job->timeout_ms;
	m->job_error = 0;
	m->votes_count = 0;
	m->ahead = m->updates_count;
	if (m->ahead == 0)
		job_turn(m, e->now, out);
}

/* Durable: tell it. Updates from behind the job that the commit has overtaken came late: no user should do that, but nothing may break by it. */
static void job_committed(struct master_core *m, time_ms now, struct actions *out)
{
	become_current(m, &m->proposal, NEWS_COMMIT, now, out);
	while (m->updates_count && !greater(m, &update_at(m, 0)->version, &m->current)) {
		update_shift(m);
		update_late(m);
	}
}

/* Told for as long as an entry stays in the window, to all who may have been asked. An abort needs no disk: what is not known to be committed is aborted. */
static void job_aborted(struct master_core *m, time_ms now, struct actions *out)
{
	window_push(m, &(struct window_entry){ .version = m->proposal.version, .aborted = true });
	tell_everyone(m, now, out);
	repeats_begin(m, NEWS_ABORT, now);
}

static void on_decided(struct master_core *m, const struct event *e, struct actions *out)
{
	assert((m->job == JOB_COMMITTING || m->job == JOB_ABORTING) && m->config.ops->equal(&e->version, &m->proposal.version));
	if (m->job == JOB_COMMITTING && e->error) {
		m->job_error = e->error;
		decide(m, false, e->now, "commit failed", out);
		return;
	}
	if (m->job == JOB_COMMITTING)
		job_committed(m, e->now, out);
	else
		job_aborted(m, e->now, out);
	job_move(m, JOB_NONE, e->now, m->job == JOB_COMMITTING ? "committed" : "aborted");
	updates_close_ranks(m);
	struct action *a = act(out, ACTION_JOB_DONE, PEER_NONE);
	a->version = m->proposal.version;
	a->error = m->job_error;
	if (m->number == NUMBER_QUIET)
		store_first(m, e->now, "after the job", out);
}

bool master_job_cancellable(const struct master_core *m, const struct drs_version *version)
{
	return (m->job == JOB_QUEUED || m->job == JOB_ASKING) && m->config.ops->equal(&m->proposal.version, version);
}

static void on_cancel(struct master_core *m, const struct event *e, struct actions *out)
{
	if (master_job_cancellable(m, &e->version))
		job_give_up(m, -ECANCELED, e->now, "cancelled", out);
}

const struct drs_version *master_job(const struct master_core *m)
{
	return m->job != JOB_NONE ? &m->proposal.version : NULL;
}

size_t master_votes(const struct master_core *m, const struct drs_vote **ret_votes)
{
	*ret_votes = m->votes;
	return m->votes_count;
}

/* --- what slaves say --- */

static void stop_stream(struct master_core *m, size_t i, time_ms now, const char *why, struct actions *out)
{
	if (m->seats[i].state != MEMBER_PULLING)
		return;
	act(out, ACTION_STREAM_STOP, m->members[i].peer)->request = m->seats[i].request;
	member_move(m, i, MEMBER_HERE, now, why);
}

static void refuse(peer_id peer, int error, struct actions *out)
{
	act(out, ACTION_REFUSE, peer)->error = error;
}

/* A peer that breaks the rules loses its link. */
static void expel(struct master_core *m, peer_id peer, time_ms now, struct actions *out)
{
	size_t i = member_by_peer(m, peer);
	if (i != SIZE_MAX) {
		stop_stream(m, i, now, "broke the protocol", out);
		member_move(m, i, MEMBER_GONE, now, "broke the protocol");
	}
	refuse(peer, -DRS_EPROTOCOL, out);
}

/* Give the name's line to the new link; SIZE_MAX: refused. The newest link of a name wins: mostly the old one is dead and does not know it. */
static size_t admit(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t i = member_by_name(m, e->name);
	if (i != SIZE_MAX && is_here(m, i)) {
		stop_stream(m, i, e->now, "another link", out);
		refuse(m->members[i].peer, -ENOTUNIQ, out);
		member_move(m, i, MEMBER_GONE, e->now, "another link");
	}
	if (m->members_here == m->config.peers_max) {
		refuse(e->peer, -EUSERS, out);
		return SIZE_MAX;
	}
	if (i == SIZE_MAX)
		i = member_new(m, e->name);
	m->members[i].peer = e->peer;
	m->seats[i].clusters = e->scope ? *e->scope : (struct scope){ 0 };
	member_move(m, i, MEMBER_HERE, e->now, "hello");
	return i;
}

static bool name_valid(const char *name)
{
	size_t length = strlen(name);
	return length > 0 && length < NAME_TEXT_MAX;
}

static void on_hello(struct master_core *m, const struct event *e, struct actions *out)
{
	if (!name_valid(e->name) || member_by_peer(m, e->peer) != SIZE_MAX) {
		expel(m, e->peer, e->now, out);
		return;
	}
	size_t i = admit(m, e, out);
	if (i == SIZE_MAX)
		return;
	note_position(m, &m->members[i], e);
	act(out, ACTION_WELCOME, e->peer)->version = m->current;
	ask_newcomer(m, i, e->now, out);
}

static void on_report(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t i = member_by_peer(m, e->peer);
	if (i == SIZE_MAX) {
		expel(m, e->peer, e->now, out);
		return;
	}
	struct member *member = &m->members[i];
	enum beat_path before = path_of(m, member);
	note_position(m, member, e);
	/* Another way: use it at once, so that the slave sees whether it works. */
	if (path_of(m, member) != before && path_of(m, member) != BEAT_BY_MULTICAST)
		tell(out, member->peer, path_of(m, member));
	ask_again(m, i, e->now, out);
}

static void on_answer(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t i = member_by_peer(m, e->peer);
	if (i == SIZE_MAX) {
		expel(m, e->peer, e->now, out);
		return;
	}
	m->members[i].seen = e->now;
	if (!takes_part(m, i) || !m->config.ops->equal(&e->version, &m->proposal.version))
		return; /* late: about a job that is over, or decided */
	uint32_t vote = m->seats[i].vote;
	if (m->votes[vote].answer == DRS_REFUSED || m->votes[vote].answer == DRS_NOT_NEEDED)
		return;
	if (e->answer == PREPARE_ACK)
		vote_move(m, vote, DRS_PREPARED);
	else if (e->answer == PREPARE_NAK)
		vote_refuse(m, vote, e->error, e->reason);
	else
		vote_move(m, vote, DRS_SYNCING);
}

static void on_pull(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t i = member_by_peer(m, e->peer);
	if (i == SIZE_MAX) {
		expel(m, e->peer, e->now, out);
		return;
	}
	stop_stream(m, i, e->now, "another pull", out);
	m->members[i].seen = e->now;
	m->seats[i].request = e->request;
	member_move(m, i, MEMBER_PULLING, e->now, "pull");
	act(out, ACTION_STREAM, e->peer)->request = e->request;
}

static void on_stream_done(struct master_core *m, const struct event *e)
{
	size_t i = member_by_peer(m, e->peer);
	if (i == SIZE_MAX || m->seats[i].state != MEMBER_PULLING || m->seats[i].request != e->request)
		return;
	m->members[i].seen = e->now;
	member_move(m, i, MEMBER_HERE, e->now, e->error ? "stream failed" : "stream done");
}

static void on_link_down(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t i = member_by_peer(m, e->peer);
	if (i == SIZE_MAX)
		return;
	stop_stream(m, i, e->now, "link down", out);
	m->members[i].seen = e->now;
	member_move(m, i, MEMBER_GONE, e->now, "link down");
}

/* --- time --- */

static void on_tick(struct master_core *m, time_ms now, struct actions *out)
{
	if (now >= m->store_due)
		store_first(m, now, "try again", out);
	if (now >= m->job_due)
		job_give_up(m, -ETIMEDOUT, now, "time is up", out);
	if (now >= m->beat_due) {
		tell_everyone(m, now, out);
		probe_someone(m, out);
	} else if (now >= m->repeat_due) {
		repeat(m, now, out);
	}
}

static time_ms earlier(time_ms a, time_ms b)
{
	return a < b ? a : b;
}

time_ms master_deadline(const struct master_core *m)
{
	return earlier(earlier(m->beat_due, m->job_due), earlier(m->repeat_due, m->store_due));
}

void master_step(struct master_core *m, const struct event *e, struct actions *out)
{
	out->count = 0;
	switch (e->kind) {
	case EVENT_TICK:
		on_tick(m, e->now, out);
		break;
	case EVENT_UPDATE:
		on_update(m, e, out);
		break;
	case EVENT_STORED:
		on_stored(m, e, out);
		break;
	case EVENT_FAILED:
		on_store_failed(m, e);
		break;
	case EVENT_HELLO:
		on_hello(m, e, out);
		break;
	case EVENT_REPORT:
		on_report(m, e, out);
		break;
	case EVENT_PULL:
		on_pull(m, e, out);
		break;
	case EVENT_STREAM_DONE:
		on_stream_done(m, e);
		break;
	case EVENT_LINK_DOWN:
		on_link_down(m, e, out);
		break;
	case EVENT_START:
		on_start(m, e, out);
		break;
	case EVENT_CANCEL:
		on_cancel(m, e, out);
		break;
	case EVENT_ANSWER:
		on_answer(m, e, out);
		break;
	case EVENT_DECIDED:
		on_decided(m, e, out);
		break;
	default:
		assert(!"an event for a slave");
	}
	count_votes(m, e->now, out);
}

/* --- life --- */

int master_core_new(const struct master_core_config *config, time_ms now, struct master_core **ret_core)
{
	assert(config->peers_max > 0);
	struct master_core *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->config = *config;
	m->members_max = 2 * (size_t)config->peers_max;
	m->members = calloc(m->members_max, sizeof(*m->members));
	m->seats = calloc(m->members_max, sizeof(*m->seats));
	m->votes = calloc(m->members_max, sizeof(*m->votes));
	if (!m->members || !m->seats || !m->votes) {
		master_core_free(m);
		return -ENOMEM;
	}
	m->current = m->previous = config->version;
	m->window[0] = (struct window_entry){ .version = config->version }; /* how it came about is not known: it concerned everyone */
	m->window_count = 1;
	m->beat_due = now;
	m->repeat_due = m->store_due = m->job_due = TIME_NEVER;
	*ret_core = m;
	return 0;
}

void master_core_free(struct master_core *m)
{
	if (!m)
		return;
	free(m->members);
	free(m->seats);
	free(m->votes);
	free(m);
}

void master_tell_aborted(struct master_core *m, const struct drs_version *version)
{
	if (greater(m, version, &m->current) && !window_aborted(m, version))
		window_push(m, &(struct window_entry){ .version = *version, .aborted = true });
}

int master_add_member(struct master_core *m, const char *name, const struct scope *clusters)
{
	if (!name_valid(name))
		return -EINVAL;
	if (member_by_name(m, name) != SIZE_MAX)
		return 0;
	if (m->members_count == m->members_max)
		return -EUSERS;
	size_t i = member_new(m, name);
	if (clusters)
		m->seats[i].clusters = *clusters;
	return 0;
}

int master_remove_member(struct master_core *m, const char *name)
{
	size_t i = member_by_name(m, name);
	if (i == SIZE_MAX)
		return -ENOENT;
	if (is_here(m, i) || takes_part(m, i))
		return -EBUSY;
	size_t last = --m->members_count;
	m->members[i] = m->members[last];
	m->seats[i] = m->seats[last];
	return 0;
}

size_t master_members(const struct master_core *m, const struct member **ret_members)
{
	*ret_members = m->members;
	return m->members_count;
}

const struct drs_version *master_version(const struct master_core *m)
{
	return &m->current;
}
