/* Performs what the cores decide, with the simulator's user layer: the imagined counterpart of drsfs/node.c. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/scope.h"
#include "drsfs/wire.h"
#include "tests/sim/world.h"

static const struct did the_volume = { .bytes = "a map" };

/* --- steps --- */

#define NO_EVENT ((enum event_kind)-1)

static void perform(struct node *, const struct action *);

static void set_timer(struct node *n)
{
	struct world *w = n->world;
	time_ms due = n->is_master ? master_deadline(n->master) : slave_deadline(n->slave);
	n->timer++;
	if (due == TIME_NEVER)
		return;
	struct item *item = world_later(w, due > w->now ? due - w->now : 0, ITEM_TICK);
	item->node = n;
	item->generation = n->generation;
	item->id = n->timer;
}

void node_step(struct node *n, const struct event *event)
{
	struct world *w = n->world;
	struct event e = *event;
	e.now = w->now;
	w->counters.steps++;
	n->stopped = false;
	if (n->is_master)
		master_step(n->master, &e, &w->actions);
	else
		slave_step(n->slave, &e, &w->actions);
	for (size_t i = 0; i < w->actions.count && !n->doomed; i++) {
		n->doomed = faults_doom(w, &w->actions.items[i]);
		if (!n->doomed || chance_permille(&w->chance, 500))
			perform(n, &w->actions.items[i]);
	}
	parcel_release(w->beat);
	w->beat = NULL;
	if (n->doomed) {
		faults_crash(w, n, 3000);
		return;
	}
	set_timer(n);
	check_node(w, n);
	struct event answer = n->answer;
	n->answer.kind = NO_EVENT;
	if (answer.kind != NO_EVENT)
		node_step(n, &answer);
}

/* --- life --- */

/* A proposal that was not decided before the crash is aborted, before anything else is done. */
static void presume_abort(struct node *n)
{
	if (!n->master_user.proposing)
		return;
	if (planted == PLANT_RESURRECT) {
		n->master_user.tree = n->master_user.proposal;
		n->master_user.proposing = false;
	} else if (!master_user_decide(&n->master_user, &n->world->history, false)) {
		world_fail(n->world, "a decision was changed by a crash");
	}
}

static void start_master(struct node *n)
{
	struct world *w = n->world;
	/* Now and then the clock that the incarnation comes from was set back. */
	n->incarnation = chance_permille(&w->chance, 150) && n->incarnation > 10 ? n->incarnation - 5 : n->incarnation + 10;
	presume_abort(n);
	n->master_user.stored = n->master_user.tree.version;
	struct master_core_config config = {
		.did = the_volume,
		.ops = &map_version_ops,
		.version = n->master_user.tree.version,
		.incarnation = n->incarnation,
		.link_port = 1,
		.beat_interval_ms = w->beat_interval_ms,
		.window_beats = 10,
		.peers_max = w->options.slaves,
		.peer_silence_ms = 10 * w->beat_interval_ms,
		.multicast = true,
	};
	int r = master_core_new(&config, w->now, &n->master);
	assert(r == 0);
	master_tell_aborted(n->master, &n->master_user.proposal.version);
	for (unsigned i = 0; i < w->options.slaves && r == 0; i++)
		if (w->slaves[i].member)
			r = master_add_member(n->master, w->slaves[i].name, &w->slaves[i].clusters);
	assert(r == 0);
	w->job.deciding = false;
	w->deferred = 0;
}

static void start_slave(struct node *n)
{
	struct world *w = n->world;
	static const struct drs_version nothing;
	struct slave_core_config config = {
		.did = the_volume,
		.did_known = map_version_ops.greater(&n->user.disk.version, &nothing),
		.ops = &map_version_ops,
		.version = n->user.disk.version,
		.name = n->name,
		.clusters = &n->clusters,
		.multicast = true,
		.dial_retry_ms_min = 100,
		.dial_retry_ms_max = 8000,
		.seed = chance_next(&w->chance),
	};
	int r = slave_core_new(&config, w->now, &n->slave);
	assert(r == 0);
}

void node_start(struct node *n)
{
	world_trace(n->world, "%s starts", n->name);
	n->up = true;
	n->generation++;
	n->operation = OPERATION_NONE;
	n->doomed = n->preparing = false;
	n->answer.kind = NO_EVENT;
	if (n->is_master)
		start_master(n);
	else
		start_slave(n);
	set_timer(n);
}

void node_crash(struct node *n, bool quietly)
{
	struct world *w = n->world;
	world_trace(w, "%s crashes%s", n->name, quietly ? " without a word" : "");
	w->counters.crashes++;
	for (size_t i = 1; i < w->links_count; i++)
		for (int side = TO_SLAVE; side <= TO_MASTER; side++)
			if (w->links[i]->ends[side] == n && w->links[i]->generations[side] == n->generation)
				net_close(w->links[i], (enum side)side, quietly);
	n->up = false;
	if (n->is_master) {
		master_core_free(n->master);
		n->master = NULL;
		master_user_crash(&n->master_user);
	} else {
		slave_core_free(n->slave);
		n->slave = NULL;
		slave_user_crash(&n->user);
	}
}

/* --- actions of both --- */

static struct link *link_of(struct node *n, peer_id peer)
{
	assert(peer != PEER_NONE && peer < n->world->links_count);
	return n->world->links[peer];
}

/* The answer comes later, by ITEM_DONE, unless the node crashes or the operation is stopped before. */
static void begin(struct node *n, enum operation operation, const struct drs_version *version, time_ms takes)
{
	struct world *w = n->world;
	assert(n->operation == OPERATION_NONE);
	n->operation = operation;
	n->operation_id++;
	if (version)
		n->operation_version = *version;
	if (operation == OPERATION_PULL)
		return;
	struct item *item = world_later(w, takes, ITEM_DONE);
	item->node = n;
	item->generation = n->generation;
	item->id = n->operation_id;
}

static bool disk_is_full(const struct node *n)
{
	return n->world->now < n->full_until;
}

static void fail(struct node *n, int error)
{
	world_trace(n->world, "%s: failed: %s", n->name, error_text(error));
	n->world->counters.failures++;
	node_step(n, &(struct event){ .kind = EVENT_FAILED, .error = error });
}

static bool in_trouble(const struct world *w)
{
	return w->options.chaos && w->now < w->faults_end;
}

static bool is_picky(const struct node *n)
{
	return n->world->options.picky || (in_trouble(n->world) && n->index % 4 == 1);
}

/* The user's own check of a new version, of one phase and of two. */
static bool check_refuses(struct node *n, enum operation operation)
{
	if (is_picky(n) && !slave_user_accepts(&n->user, &n->staged))
		return true;
	return in_trouble(n->world) && chance_permille(&n->world->chance, operation == OPERATION_CHECK ? 60 : 20);
}

/* It was done, and nobody learns of it. */
static bool crashes_after_durable(struct node *n)
{
	if (!in_trouble(n->world) || !chance_permille(&n->world->chance, 5))
		return false;
	faults_crash(n->world, n, 3000);
	return true;
}

static void operation_done(struct node *n)
{
	enum operation operation = n->operation;
	n->operation = OPERATION_NONE;
	int r = -ENOSPC;
	if (disk_is_full(n)) {
		fail(n, r);
		return;
	}
	bool refused = (operation == OPERATION_APPLY || operation == OPERATION_CHECK) && check_refuses(n, operation);
	if (refused)
		r = -DRS_EREFUSED;
	else if (operation == OPERATION_STORE)
		r = master_user_store(&n->master_user, &n->operation_version);
	else if (operation == OPERATION_TAKE)
		r = slave_user_take(&n->user, &n->operation_version);
	else if (operation == OPERATION_CHECK)
		r = slave_user_prepare(&n->user, &n->staged);
	else if (operation == OPERATION_COMMIT_PREPARED)
		r = slave_user_commit_prepared(&n->user);
	else
		r = slave_user_apply(&n->user, &n->staged);
	if (r < 0) {
		fail(n, r);
		return;
	}
	if (operation == OPERATION_COMMIT_PREPARED)
		n->preparing = false;
	if (crashes_after_durable(n))
		return;
	if (operation == OPERATION_STORE)
		node_step(n, &(struct event){ .kind = EVENT_STORED, .version = n->operation_version });
	else if (operation == OPERATION_CHECK)
		node_step(n, &(struct event){ .kind = EVENT_CHECKED, .version = n->operation_version });
	else
		node_step(n, &(struct event){ .kind = EVENT_DURABLE, .version = n->user.seen.version });
}

/* --- the master's actions --- */

/* The heartbeat of this step, made once for all who get it: what the real codec leaves of it in a datagram. */
static struct parcel *beat_of_step(struct node *n)
{
	struct world *w = n->world;
	if (w->beat)
		return w->beat;
	w->beat = parcel_new();
	struct beat told;
	uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX];
	master_beat(n->master, &told);
	check_beat(w, &told);
	w->beat->beat_bytes = wire_beat_encode(&told, datagram);
	int r = wire_beat_decode((struct slice){ datagram, w->beat->beat_bytes }, &w->beat->beat, &w->storage);
	assert(r == 0);
	struct slice *delta = &w->beat->beat.inline_delta;
	if (delta->size > 0) {
		memcpy(&w->beat->delta, delta->data, delta->size);
		delta->data = &w->beat->delta;
	}
	return w->beat;
}

static void count_datagram(struct world *w, const struct parcel *parcel)
{
	w->counters.datagrams++;
	w->counters.datagram_bytes += parcel->beat_bytes;
}

static void multicast(struct node *n)
{
	struct world *w = n->world;
	struct parcel *parcel = beat_of_step(n);
	count_datagram(w, parcel);
	for (unsigned i = 0; i < w->options.slaves; i++)
		net_datagram(w, &w->slaves[i], BEAT_BY_MULTICAST, parcel);
}

static void beat_to(struct node *n, const struct action *a)
{
	struct link *l = link_of(n, a->peer);
	struct parcel *parcel = beat_of_step(n);
	if (a->path == BEAT_BY_LINK) {
		n->world->counters.link_beats++;
		net_send(l, TO_SLAVE, (struct message){ .kind = MESSAGE_BEAT }, parcel);
	} else {
		count_datagram(n->world, parcel);
		net_datagram(n->world, l->ends[TO_SLAVE], BEAT_BY_UNICAST, parcel);
	}
}

/* The opening of a slave's pull waits here, as it does in a real node, until the core lets it be answered. */
static struct message opening;

static void stream(struct node *n, const struct action *a)
{
	struct world *w = n->world;
	struct link *l = link_of(n, a->peer);
	struct parcel *parcel = parcel_new();
	const struct master_user *u = &n->master_user;
	const struct tree *tree = opening.proposed ? &u->proposal : &u->tree;
	bool over = opening.proposed && !(u->proposing && map_version_ops.equal(&u->proposal.version, &opening.target));
	master_user_delta(u, tree, &opening.version, opening.complete, l->ends[TO_SLAVE]->user.classes, &parcel->delta);
	struct item *item = world_later(w, chance_between(&w->chance, 1, w->options.chaos ? 200 : 5), ITEM_STREAMED);
	item->node = n;
	item->generation = n->generation;
	item->link = l;
	item->message = (struct message){ .kind = MESSAGE_FRAME, .request = a->request };
	item->parcel = parcel;
	if (over)
		item->message = (struct message){ .kind = MESSAGE_SORRY, .request = a->request, .error = -DRS_EABORTED };
	else if (in_trouble(w) && chance_permille(&w->chance, 20))
		item->message = (struct message){ .kind = MESSAGE_SORRY, .request = a->request, .error = -EIO };
}

static void streamed(struct node *n, struct item *item)
{
	if (!item->link->open[TO_MASTER])
		return;
	net_send(item->link, TO_SLAVE, item->message, item->parcel);
	node_step(n, &(struct event){ .kind = EVENT_STREAM_DONE, .peer = item->link->id, .request = item->message.request, .error = item->message.error });
}

/* The job's delta goes along as far as it concerns the slave. */
static void prepare(struct node *n, const struct action *a)
{
	struct world *w = n->world;
	struct link *l = link_of(n, a->peer);
	const struct master_user *u = &n->master_user;
	struct message m = { .kind = MESSAGE_PREPARE, .version = a->version, .previous = u->tree.version, .timeout_ms = a->timeout_ms };
	struct parcel *parcel = NULL;
	if (!u->proposing || !map_version_ops.equal(&a->version, &u->proposal.version))
		world_fail(w, "the master asks for what is not proposed");
	w->counters.prepares++;
	if (w->job.with_delta) {
		parcel = parcel_new();
		master_user_delta(u, &u->proposal, &u->tree.version, false, l->ends[TO_SLAVE]->user.classes, &parcel->delta);
	}
	net_send(l, TO_SLAVE, m, parcel);
	parcel_release(parcel);
}

static void decide(struct node *n, const struct action *a)
{
	struct world *w = n->world;
	check_decide(w, a);
	w->job.deciding = true;
	w->job.commit = a->commit;
	struct item *item = world_later(w, chance_between(&w->chance, 1, w->options.chaos ? 30 : 3), ITEM_DECIDED);
	item->node = n;
	item->generation = n->generation;
	item->id = ++w->job.decision_id;
	if (planted == PLANT_DECIDE_EARLY)
		n->answer = (struct event){ .kind = EVENT_DECIDED, .version = a->version };
}

/* The user may go on with what waited for the decision before the core has heard that it is durable. */
static void decided(struct node *n)
{
	struct world *w = n->world;
	struct event e = { .kind = EVENT_DECIDED, .version = w->job.version };
	w->job.deciding = false;
	if (disk_is_full(n))
		e.error = -ENOSPC;
	if (e.error && w->job.commit)
		world_trace(w, "master: the decision is not stored");
	else if (!master_user_decide(&n->master_user, &w->history, w->job.commit))
		world_fail(w, "a decision was changed");
	world_trace(w, "master: decision %s: %d", w->job.commit ? "commit" : "abort", e.error);
	if (crashes_after_durable(n))
		return;
	if (chance_permille(&w->chance, 300))
		world_publish_deferred(w);
	if (n->up && planted != PLANT_DECIDE_EARLY)
		node_step(n, &e);
	world_publish_deferred(w);
}

/* --- the slave's actions --- */

static void say(struct node *n, const struct action *a, enum message_kind kind)
{
	check_position(n->world, n, &a->version);
	net_send(link_of(n, a->peer), TO_MASTER, (struct message){ .kind = kind, .version = a->version, .path = a->path }, NULL);
}

static void pull(struct node *n, const struct action *a)
{
	n->world->counters.pulls++;
	begin(n, OPERATION_PULL, NULL, 0);
	n->request = a->request;
	net_send(link_of(n, a->peer), TO_MASTER,
		 (struct message){ .kind = MESSAGE_PULL, .request = a->request, .complete = a->complete, .version = n->user.seen.version,
				   .proposed = a->proposed, .target = a->version },
		 NULL);
}

static time_ms commit_time(struct node *n)
{
	return chance_between(&n->world->chance, 1, n->world->options.chaos ? 20 : 5);
}

static void commit_inline(struct node *n, const struct action *a)
{
	n->world->counters.inlines++;
	memcpy(&n->staged, a->inline_delta.data, a->inline_delta.size);
	begin(n, OPERATION_APPLY, NULL, commit_time(n));
}

static void stage(struct node *n, const struct action *a)
{
	struct world *w = n->world;
	if (n->preparing)
		world_fail(w, "%s prepares on top of what it has prepared", n->name);
	n->preparing = true;
	n->operation_version = a->version;
	if (disk_is_full(n)) {
		n->answer = (struct event){ .kind = EVENT_FAILED, .error = -ENOSPC };
	} else if (a->inline_delta.size == 0 || chance_permille(&w->chance, 100)) {
		n->answer = (struct event){ .kind = EVENT_UNSTAGED, .version = a->version };
	} else {
		memcpy(&n->staged, a->inline_delta.data, a->inline_delta.size);
		n->answer = (struct event){ .kind = EVENT_PULLED };
	}
}

static void check(struct node *n, const struct action *a)
{
	struct chance *chance = &n->world->chance;
	bool slow = in_trouble(n->world) && chance_permille(chance, 100);
	begin(n, OPERATION_CHECK, &a->version, slow ? chance_between(chance, 100, 4000) : commit_time(n));
}

static void unprepare(struct node *n)
{
	if (!n->preparing && !n->stopped)
		world_fail(n->world, "%s takes back what it has not prepared", n->name);
	if (n->operation == OPERATION_CHECK)
		n->operation = OPERATION_NONE;
	if (planted == PLANT_KEEP_PREPARED)
		return;
	slave_user_unprepare(&n->user);
	n->preparing = false;
}

static void answer(struct node *n, const struct action *a)
{
	n->world->counters.answers++;
	if (a->answer == PREPARE_ACK)
		check_ack(n->world, n, &a->version);
	net_send(link_of(n, a->peer), TO_MASTER,
		 (struct message){ .kind = MESSAGE_ANSWER, .version = a->version, .answer = a->answer, .error = a->error }, NULL);
}

static void commit_prepared(struct node *n, const struct action *a)
{
	if (!map_version_ops.equal(&a->version, &n->user.prepared.version))
		world_fail(n->world, "%s commits what it has not prepared", n->name);
	begin(n, OPERATION_COMMIT_PREPARED, &a->version, commit_time(n));
}

static void perform(struct node *n, const struct action *a)
{
	static const char *const names[] = {
		[ACTION_HANG_UP] = "hang up", [ACTION_STORE] = "store", [ACTION_BEAT] = "beat", [ACTION_BEAT_TO] = "beat to",
		[ACTION_WELCOME] = "welcome", [ACTION_REFUSE] = "refuse", [ACTION_STREAM] = "stream", [ACTION_STREAM_STOP] = "stop stream",
		[ACTION_DIAL] = "dial", [ACTION_HELLO] = "hello", [ACTION_REPORT] = "report", [ACTION_PULL] = "pull", [ACTION_PULL_STOP] = "stop pull",
		[ACTION_COMMIT] = "commit", [ACTION_COMMIT_INLINE] = "commit inline", [ACTION_TAKE] = "take", [ACTION_CHANGED] = "changed",
		[ACTION_PREPARE] = "prepare", [ACTION_DECIDE] = "decide", [ACTION_VOTED] = "voted", [ACTION_JOB_DONE] = "job done", [ACTION_STAGE] = "stage",
		[ACTION_CHECK] = "check", [ACTION_ANSWER] = "answer", [ACTION_COMMIT_PREPARED] = "commit prepared", [ACTION_UNPREPARE] = "unprepare",
	};
	struct world *w = n->world;
	char text[40];
	map_version_ops.format(&a->version, text);
	world_trace(w, "%s: %s link %u request %u version %s error %d answer %d", n->name, names[a->kind], a->peer, a->request, text, a->error, a->answer);
	switch (a->kind) {
	case ACTION_HANG_UP:
		net_close(link_of(n, a->peer), n->is_master ? TO_MASTER : TO_SLAVE, false);
		break;
	case ACTION_STORE:
		begin(n, OPERATION_STORE, &a->version, chance_between(&w->chance, 1, 3));
		break;
	case ACTION_BEAT:
		multicast(n);
		break;
	case ACTION_BEAT_TO:
		beat_to(n, a);
		break;
	case ACTION_WELCOME:
		link_of(n, a->peer)->ends[TO_SLAVE]->member = true; /* 'admit' has made the name durable */
		net_send(link_of(n, a->peer), TO_SLAVE, (struct message){ .kind = MESSAGE_WELCOME, .version = a->version }, NULL);
		break;
	case ACTION_PREPARE:
		prepare(n, a);
		break;
	case ACTION_DECIDE:
		decide(n, a);
		break;
	case ACTION_VOTED:
		break;
	case ACTION_JOB_DONE:
		check_job_done(w, a);
		break;
	case ACTION_STAGE:
		stage(n, a);
		break;
	case ACTION_CHECK:
		check(n, a);
		break;
	case ACTION_ANSWER:
		answer(n, a);
		break;
	case ACTION_COMMIT_PREPARED:
		commit_prepared(n, a);
		break;
	case ACTION_UNPREPARE:
		unprepare(n);
		break;
	case ACTION_REFUSE:
		net_send(link_of(n, a->peer), TO_SLAVE, (struct message){ .kind = MESSAGE_REFUSE, .error = a->error }, NULL);
		net_close(link_of(n, a->peer), TO_MASTER, false);
		break;
	case ACTION_STREAM:
		stream(n, a);
		break;
	case ACTION_STREAM_STOP:
		break; /* what is on its way finds its link closed, or its request out of date */
	case ACTION_DIAL:
		net_dial(n);
		break;
	case ACTION_HELLO:
		say(n, a, MESSAGE_HELLO);
		break;
	case ACTION_REPORT:
		say(n, a, MESSAGE_REPORT);
		break;
	case ACTION_PULL:
		pull(n, a);
		break;
	case ACTION_PULL_STOP:
		assert(n->operation == OPERATION_PULL);
		n->operation = OPERATION_NONE;
		n->stopped = n->preparing;
		n->preparing = false;
		break;
	case ACTION_COMMIT:
		begin(n, OPERATION_APPLY, NULL, commit_time(n));
		break;
	case ACTION_COMMIT_INLINE:
		commit_inline(n, a);
		break;
	case ACTION_TAKE:
		w->counters.takes++;
		begin(n, OPERATION_TAKE, &a->version, commit_time(n));
		break;
	case ACTION_CHANGED:
		break;
	}
}

/* --- what comes in --- */

static void hear(struct node *n, enum beat_path path, struct parcel *parcel)
{
	for (size_t i = 0; planted == PLANT_FORGET_ABORT && i < parcel->beat.window_count; i++)
		parcel->beat.window[i].aborted = false;
	node_step(n, &(struct event){ .kind = EVENT_BEAT, .path = path, .beat = &parcel->beat });
}

static void pulled(struct node *n, const struct message *m, const struct parcel *parcel)
{
	if (n->operation != OPERATION_PULL || m->request != n->request)
		return;
	n->operation = OPERATION_NONE;
	if (m->kind == MESSAGE_SORRY) {
		fail(n, m->error);
		return;
	}
	n->staged = parcel->delta;
	node_step(n, &(struct event){ .kind = EVENT_PULLED, .request = m->request });
}

static void handle_message(struct node *n, struct item *item)
{
	const struct message *m = &item->message;
	struct event e = { .peer = item->link->id, .request = m->request, .error = m->error, .version = m->version, .path = m->path };
	switch (m->kind) {
	case MESSAGE_HELLO:
		e.kind = EVENT_HELLO;
		e.name = item->link->ends[TO_SLAVE]->name;
		e.scope = &item->link->ends[TO_SLAVE]->clusters;
		break;
	case MESSAGE_WELCOME:
		e.kind = EVENT_WELCOME;
		e.did = &the_volume;
		e.interval_ms = n->world->beat_interval_ms;
		break;
	case MESSAGE_REFUSE:
		e.kind = EVENT_REFUSED;
		item->link->open[TO_SLAVE] = false;
		break;
	case MESSAGE_REPORT:
		e.kind = EVENT_REPORT;
		break;
	case MESSAGE_PULL:
		opening = *m;
		e.kind = EVENT_PULL;
		break;
	case MESSAGE_PREPARE:
		e.kind = EVENT_PREPARE;
		e.previous = m->previous;
		e.timeout_ms = m->timeout_ms;
		n->prepared_until = n->world->now + m->timeout_ms + 2000;
		if (item->parcel)
			e.inline_delta = (struct slice){ &item->parcel->delta, sizeof(item->parcel->delta) };
		break;
	case MESSAGE_ANSWER:
		e.kind = EVENT_ANSWER;
		e.answer = planted == PLANT_MISSING_ACK ? PREPARE_ACK : m->answer;
		e.reason = m->error ? "its own" : NULL;
		break;
	case MESSAGE_BYE:
		item->link->open[item->side] = false;
		e.kind = EVENT_LINK_DOWN;
		break;
	case MESSAGE_BEAT:
		hear(n, BEAT_BY_LINK, item->parcel);
		return;
	case MESSAGE_FRAME:
	case MESSAGE_SORRY:
		pulled(n, m, item->parcel);
		return;
	}
	node_step(n, &e);
}

static void dialled(struct node *n, struct link *l)
{
	/* Whoever is gone by now does not take the call. */
	if (l && (!n->world->master.up || l->generations[TO_MASTER] != n->world->master.generation))
		l = NULL;
	if (l)
		node_step(n, &(struct event){ .kind = EVENT_LINK_UP, .peer = l->id });
	else
		node_step(n, &(struct event){ .kind = EVENT_LINK_DOWN, .peer = PEER_NONE });
}

void node_handle(struct node *n, struct item *item)
{
	if (!n->up || (item->kind != ITEM_DATAGRAM && item->generation != n->generation))
		return;
	switch (item->kind) {
	case ITEM_TICK:
		if (item->id == n->timer)
			node_step(n, &(struct event){ .kind = EVENT_TICK });
		break;
	case ITEM_DIALLED:
		dialled(n, item->link);
		break;
	case ITEM_MESSAGE:
		if (net_deliver(n->world, item))
			handle_message(n, item);
		break;
	case ITEM_DATAGRAM:
		hear(n, item->path, item->parcel);
		break;
	case ITEM_LINK_DEAD:
		if (item->link->open[item->side]) {
			net_close(item->link, item->side, true);
			node_step(n, &(struct event){ .kind = EVENT_LINK_DOWN, .peer = item->link->id });
		}
		break;
	case ITEM_DONE:
		if (n->operation != OPERATION_NONE && item->id == n->operation_id)
			operation_done(n);
		break;
	case ITEM_STREAMED:
		streamed(n, item);
		break;
	case ITEM_DECIDED:
		if (n->world->job.deciding && item->id == n->world->job.decision_id)
			decided(n);
		break;
	default:
		assert(!"not a node's");
	}
}
