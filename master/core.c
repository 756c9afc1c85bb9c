/*
 * The master's half of the DRS core (R2, R3.1, R3.4): which version is current, who follows it and how far, and what is said to whom and when.
 *
 * An update waits in a short queue until its number is durable; only then is it the current version, gets its entry in the window, and is
 * told in one heartbeat, with its delta inside if that is small. Silence heals the rest: the heartbeat is said again twice or three
 * times, soon, for those who have not reported the version, and for ever at the regular interval. Nothing here waits for a slave, and no slave can
 * hold back another: all that the core keeps about one is a line in a table.
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
 */
#include "master/core.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/machine.h"
#include "drsfs/scope.h"

#define UPDATES_MAX 8           /* that wait for their number to be durable; beyond it the newest ones become one */
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

/* What the core alone has to know of a member; stands beside its public line, at the same index. */
struct seat {
	uint8_t state;     /* enum member_state */
	uint32_t request;  /* of the pull that is being served */
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
	struct update updates[UPDATES_MAX];/* a ring: the first is the one whose number is being stored */
	size_t updates_first, updates_count;
	time_ms store_due;

	struct window_entry window[WINDOW_MAX];
	uint32_t window_told[WINDOW_MAX];  /* in how many heartbeats the entry went since a newer one came */
	uint8_t window_count;              /* at least 1: the current version never leaves */

	uint64_t sequence;
	time_ms beat_due;
	time_ms repeat_due;
	size_t repeats;                    /* of the current version so far */
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

static void member_move(struct master_core *m, size_t i, enum member_state to, time_ms now, const char *why)
{
	struct member *member = &m->members[i];
	bool was_here = is_here(m, i);
	machine_move(&member_machine, member->name, &m->seats[i].state, to, now, why);
	m->members_here = m->members_here + is_here(m, i) - was_here;
	member->pulling = to == MEMBER_PULLING;
	if (to == MEMBER_GONE)
		member->peer = PEER_NONE;
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

/* A line for a new member; when the table is full, that of the one who has been gone for longest. */
static size_t member_place(struct master_core *m)
{
	if (m->members_count < m->members_max)
		return m->members_count++;
	size_t oldest = SIZE_MAX;
	for (size_t i = 0; i < m->members_count; i++)
		if (!is_here(m, i) && (oldest == SIZE_MAX || m->members[i].seen < m->members[oldest].seen))
			oldest = i;
	assert(oldest != SIZE_MAX); /* the table holds twice peers_max */
	return oldest;
}

/* Whether the window has to care for it: it has a link, or had one lately. */
static bool is_known(const struct master_core *m, size_t i, time_ms now)
{
	return is_here(m, i) || now - m->members[i].seen < m->config.peer_silence_ms;
}

static enum beat_path path_of(const struct master_core *m, const struct member *member)
{
	if (member->path == BEAT_BY_MULTICAST)
		return m->config.multicast ? BEAT_BY_MULTICAST : BEAT_BY_UNICAST;
	return member->path == BEAT_BY_UNICAST ? BEAT_BY_UNICAST : BEAT_BY_LINK;
}

static void note_position(struct master_core *m, struct member *member, const struct event *e)
{
	member->version = e->version;
	member->path = e->path;
	member->seen = e->now;
	if (has(m, member, &m->current))
		member->behind_since = 0;
	else if (!member->behind_since)
		member->behind_since = e->now;
}

/* --- the window (R2.2, R2.4) --- */

static void window_push(struct master_core *m, const struct update *u)
{
	if (m->window_count < WINDOW_MAX)
		m->window_count++;
	memmove(m->window + 1, m->window, (m->window_count - 1u) * sizeof(m->window[0]));
	memmove(m->window_told + 1, m->window_told, (m->window_count - 1u) * sizeof(m->window_told[0]));
	m->window[0] = (struct window_entry){ .version = u->version, .scope = u->scope };
	m->window_told[0] = 0;
}

/* Whether some slave may still find its own version in the oldest entry: it lacks the one that came after. */
static bool window_oldest_needed(const struct master_core *m, time_ms now)
{
	const struct drs_version *after = &m->window[m->window_count - 2].version;
	bool anyone = false;
	for (size_t i = 0; i < m->members_count; i++) {
		if (!is_known(m, i, now))
			continue;
		if (!has(m, &m->members[i], after))
			return true;
		anyone = true;
	}
	return !anyone;
}

/* One more heartbeat: the entries that have been in enough of them leave, those that nobody needs leave before. */
static void window_age(struct master_core *m, time_ms now)
{
	while (m->window_count > 1 &&
	       (m->window_told[m->window_count - 1] >= m->config.window_beats || !window_oldest_needed(m, now)))
		m->window_count--;
	for (size_t i = 1; i < m->window_count; i++)
		m->window_told[i]++;
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

/* Whether a datagram about the current version may have been lost on its way to the member. Who is pulling is on its way anyway. */
static bool may_have_missed(const struct master_core *m, size_t i)
{
	const struct member *member = &m->members[i];
	return m->seats[i].state == MEMBER_HERE && !has(m, member, &m->current) && path_of(m, member) != BEAT_BY_LINK;
}

static void repeats_end(struct master_core *m)
{
	m->repeat_due = TIME_NEVER;
	m->told.inline_size = 0;
}

static void repeats_begin(struct master_core *m, time_ms now)
{
	m->repeats = 0;
	m->repeat_due = now + repeat_gaps_ms[0];
}

/* Returns whether there was anyone to repeat it for. */
static bool tell_laggards(struct master_core *m, struct actions *out)
{
	bool anyone = false, by_multicast = false;
	for (size_t i = 0; i < m->members_count; i++) {
		if (!may_have_missed(m, i))
			continue;
		anyone = true;
		if (path_of(m, &m->members[i]) == BEAT_BY_MULTICAST)
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
	return &m->updates[(m->updates_first + n) % UPDATES_MAX];
}

static const struct drs_version *newest_version(struct master_core *m)
{
	return m->updates_count ? &update_at(m, m->updates_count - 1)->version : &m->current;
}

static void store_first(struct master_core *m, time_ms now, const char *why, struct actions *out)
{
	number_move(m, NUMBER_STORING, now, why);
	m->store_due = TIME_NEVER;
	act(out, ACTION_STORE, PEER_NONE)->version = update_at(m, 0)->version;
}

/*
 * A delta goes along only where nothing can be wrong about it: it leads over exactly one step, so that it starts at the version that was newest before,
 * and it is for everyone, for a slave outside its scope must not receive it (R6.2).
 */
static bool may_go_inline(const struct master_core *m, const struct drs_version *before, const struct event *e)
{
	struct drs_version next = m->config.ops->next(before);
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
static void update_merge(struct update *u, const struct event *e)
{
	static const struct scope everyone;
	u->version = e->version;
	u->inline_size = 0;
	scope_unite(&u->scope, e->scope ? e->scope : &everyone);
}

/*
 * An update that comes after a newer one: what the window says about the newer one's scope is then not the whole truth for versions below it, so
 * they leave. The queue needs no such care, as its entries never were in a heartbeat: they are made to concern everyone.
 */
static void update_late(struct master_core *m)
{
	m->window_count = 1;
	for (size_t n = 0; n < m->updates_count; n++)
		update_at(m, n)->scope.size = 0;
}

static void on_update(struct master_core *m, const struct event *e, struct actions *out)
{
	const struct drs_version before = *newest_version(m);
	if (!greater(m, &e->version, &before)) {
		if (!m->config.ops->equal(&e->version, &before))
			update_late(m);
		return;
	}
	if (m->updates_count == UPDATES_MAX) {
		update_merge(update_at(m, UPDATES_MAX - 1), e);
		return;
	}
	update_fill(m, update_at(m, m->updates_count), &before, e);
	m->updates_count++;
	if (m->number == NUMBER_QUIET)
		store_first(m, e->now, "update", out);
}

static void on_stored(struct master_core *m, const struct event *e, struct actions *out)
{
	const struct update *u = update_at(m, 0);
	assert(m->config.ops->equal(&e->version, &u->version));
	number_move(m, NUMBER_QUIET, e->now, "stored");
	m->previous = m->current;
	m->current = u->version;
	m->told = *u;
	window_push(m, u);
	m->updates_first = (m->updates_first + 1) % UPDATES_MAX;
	m->updates_count--;

	for (size_t i = 0; i < m->members_count; i++)
		if (!m->members[i].behind_since && !has(m, &m->members[i], &m->current))
			m->members[i].behind_since = e->now;
	tell_everyone(m, e->now, out);
	repeats_begin(m, e->now);
	if (m->updates_count)
		store_first(m, e->now, "next update", out);
}

static void on_store_failed(struct master_core *m, const struct event *e)
{
	number_move(m, NUMBER_WAITING, e->now, "failed");
	m->store_due = e->now + STORE_RETRY_MS;
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

/* Give the name's line to the new link; NULL: refused. The newest link of a name wins: mostly the old one is dead and does not know it. */
static struct member *admit(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t i = member_by_name(m, e->name);
	if (i != SIZE_MAX && is_here(m, i)) {
		stop_stream(m, i, e->now, "another link", out);
		refuse(m->members[i].peer, -ENOTUNIQ, out);
		member_move(m, i, MEMBER_GONE, e->now, "another link");
	}
	if (m->members_here == m->config.peers_max) {
		refuse(e->peer, -EUSERS, out);
		return NULL;
	}
	if (i == SIZE_MAX) {
		i = member_place(m);
		m->members[i] = (struct member){ 0 };
		m->seats[i] = (struct seat){ .state = MEMBER_GONE };
		strcpy(m->members[i].name, e->name);
	}
	m->members[i].peer = e->peer;
	member_move(m, i, MEMBER_HERE, e->now, "hello");
	return &m->members[i];
}

static void on_hello(struct master_core *m, const struct event *e, struct actions *out)
{
	size_t length = strlen(e->name);
	if (length == 0 || length >= NAME_TEXT_MAX || member_by_peer(m, e->peer) != SIZE_MAX) {
		expel(m, e->peer, e->now, out);
		return;
	}
	struct member *member = admit(m, e, out);
	if (!member)
		return;
	note_position(m, member, e);
	act(out, ACTION_WELCOME, e->peer)->version = m->current;
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
	return earlier(m->beat_due, earlier(m->repeat_due, m->store_due));
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
	default:
		assert(!"an event for a slave");
	}
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
	if (!m->members || !m->seats) {
		master_core_free(m);
		return -ENOMEM;
	}
	m->current = m->previous = config->version;
	m->window[0] = (struct window_entry){ .version = config->version }; /* how it came about is not known: it concerned everyone */
	m->window_count = 1;
	m->beat_due = now;
	m->repeat_due = m->store_due = TIME_NEVER;
	*ret_core = m;
	return 0;
}

void master_core_free(struct master_core *m)
{
	if (!m)
		return;
	free(m->members);
	free(m->seats);
	free(m);
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
