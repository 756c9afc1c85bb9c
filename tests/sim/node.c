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
	if (n->is_master)
		master_step(n->master, &e, &w->actions);
	else
		slave_step(n->slave, &e, &w->actions);
	for (size_t i = 0; i < w->actions.count; i++)
		perform(n, &w->actions.items[i]);
	parcel_release(w->beat);
	w->beat = NULL;
	set_timer(n);
	check_node(w, n);
}

/* --- life --- */

static void start_master(struct node *n)
{
	struct world *w = n->world;
	/* Now and then the clock that the incarnation comes from was set back. */
	n->incarnation = chance_permille(&w->chance, 150) && n->incarnation > 10 ? n->incarnation - 5 : n->incarnation + 10;
	n->master_user.stored = n->master_user.version;
	struct master_core_config config = {
		.did = the_volume,
		.ops = &map_version_ops,
		.version = n->master_user.version,
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

static void operation_done(struct node *n)
{
	enum operation operation = n->operation;
	n->operation = OPERATION_NONE;
	int r = -ENOSPC;
	if (disk_is_full(n)) {
		fail(n, r);
		return;
	}
	if (operation == OPERATION_STORE)
		r = master_user_store(&n->master_user, &n->operation_version);
	else if (operation == OPERATION_TAKE)
		r = slave_user_take(&n->user, &n->operation_version);
	else
		r = slave_user_apply(&n->user, &n->staged);
	if (r < 0)
		fail(n, r);
	else if (operation == OPERATION_STORE)
		node_step(n, &(struct event){ .kind = EVENT_STORED, .version = n->operation_version });
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
	master_user_delta(&n->master_user, &opening.version, opening.complete, l->ends[TO_SLAVE]->user.classes, &parcel->delta);
	struct item *item = world_later(w, chance_between(&w->chance, 1, w->options.chaos ? 200 : 5), ITEM_STREAMED);
	item->node = n;
	item->generation = n->generation;
	item->link = l;
	item->message = (struct message){ .kind = MESSAGE_FRAME, .request = a->request };
	item->parcel = parcel;
	if (w->options.chaos && w->now < w->faults_end && chance_permille(&w->chance, 20))
		item->message = (struct message){ .kind = MESSAGE_SORRY, .request = a->request, .error = -EIO };
}

static void streamed(struct node *n, struct item *item)
{
	if (!item->link->open[TO_MASTER])
		return;
	net_send(item->link, TO_SLAVE, item->message, item->parcel);
	node_step(n, &(struct event){ .kind = EVENT_STREAM_DONE, .peer = item->link->id, .request = item->message.request, .error = item->message.error });
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
		 (struct message){ .kind = MESSAGE_PULL, .request = a->request, .complete = a->complete, .version = n->user.seen.version }, NULL);
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

static void perform(struct node *n, const struct action *a)
{
	static const char *const names[] = {
		[ACTION_HANG_UP] = "hang up", [ACTION_STORE] = "store", [ACTION_BEAT] = "beat", [ACTION_BEAT_TO] = "beat to",
		[ACTION_WELCOME] = "welcome", [ACTION_REFUSE] = "refuse", [ACTION_STREAM] = "stream", [ACTION_STREAM_STOP] = "stop stream",
		[ACTION_DIAL] = "dial", [ACTION_HELLO] = "hello", [ACTION_REPORT] = "report", [ACTION_PULL] = "pull", [ACTION_PULL_STOP] = "stop pull",
		[ACTION_COMMIT] = "commit", [ACTION_COMMIT_INLINE] = "commit inline", [ACTION_TAKE] = "take", [ACTION_CHANGED] = "changed",
	};
	struct world *w = n->world;
	char text[40];
	map_version_ops.format(&a->version, text);
	world_trace(w, "%s: %s link %u request %u version %s", n->name, names[a->kind], a->peer, a->request, text);
	switch (a->kind) {
	default:
		assert(!"two phase");
		break;
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
		net_send(link_of(n, a->peer), TO_SLAVE, (struct message){ .kind = MESSAGE_WELCOME, .version = a->version }, NULL);
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

static void hear(struct node *n, enum beat_path path, const struct parcel *parcel)
{
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
	default:
		assert(!"not a node's");
	}
}
