/* The queue of what is to come, the trace, and the building of a world. */
#include "tests/sim/world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/machine.h"
#include "drsfs/scope.h"

/* --- the trace --- */

static void trace_line(struct world *w, const char *format, va_list arguments)
{
	char *line = w->trace[w->trace_count++ % TRACE_LINES];
	int n = snprintf(line, TRACE_TEXT_MAX, "%8lld  ", (long long)w->now);
	vsnprintf(line + n, (size_t)(TRACE_TEXT_MAX - n), format, arguments);
	if (w->options.print_trace)
		puts(line);
}

void world_trace(struct world *w, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	trace_line(w, format, arguments);
	va_end(arguments);
}

static void trace_machine(void *user, const struct machine_step *m)
{
	world_trace(user, "%s %s: %s -> %s (%s)", m->machine, m->owner, m->from, m->to, m->why);
}

void world_print_trace(const struct world *w)
{
	size_t first = w->trace_count > TRACE_LINES ? w->trace_count - TRACE_LINES : 0;
	for (size_t i = first; i < w->trace_count; i++)
		printf("    %s\n", w->trace[i % TRACE_LINES]);
}

void world_fail(struct world *w, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	trace_line(w, format, arguments);
	va_end(arguments);
	longjmp(*w->options.failed, 1);
}

/* --- the queue: a binary heap; equal times in the order of asking --- */

static bool before(const struct item *a, const struct item *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void swap(struct item **a, struct item **b)
{
	struct item *t = *a;
	*a = *b;
	*b = t;
}

struct item *world_later(struct world *w, time_ms delay, enum item_kind kind)
{
	if (w->heap_count == w->heap_capacity) {
		w->heap_capacity = w->heap_capacity ? 2 * w->heap_capacity : 1024;
		w->heap = realloc(w->heap, w->heap_capacity * sizeof(struct item *));
		assert(w->heap);
	}
	struct item *item = calloc(1, sizeof(*item));
	assert(item);
	item->at = w->now + delay;
	item->order = w->order++;
	item->kind = kind;
	size_t i = w->heap_count++;
	w->heap[i] = item;
	for (; i > 0 && before(w->heap[i], w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&w->heap[i], &w->heap[(i - 1) / 2]);
	return item;
}

static struct item *next_item(struct world *w)
{
	assert(w->heap_count > 0);
	struct item *first = w->heap[0];
	w->heap[0] = w->heap[--w->heap_count];
	for (size_t i = 0;;) {
		size_t least = i;
		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < w->heap_count; child++)
			if (before(w->heap[child], w->heap[least]))
				least = child;
		if (least == i)
			return first;
		swap(&w->heap[i], &w->heap[least]);
		i = least;
	}
}

static void item_free(struct item *item)
{
	if (!item)
		return;
	parcel_release(item->parcel);
	free(item);
}

void world_step(struct world *w)
{
	struct item *item = w->item = next_item(w);
	assert(item->at >= w->now);
	w->now = item->at;
	if (item->kind >= ITEM_FAULT)
		faults_handle(w, item);
	else
		node_handle(item->node, item);
	item_free(item);
	w->item = NULL;
}

/* --- the user's changes --- */

static const struct drs_version *current_version(const struct world *w)
{
	return &w->master.master_user.tree.version;
}

static void trace_change(struct world *w, const char *what, const struct drs_version *version, const struct scope *scope)
{
	char text[40];
	map_version_ops.format(version, text);
	world_trace(w, "master: %s %s for %s", what, text, scope->size ? scope->names : "everyone");
}

static void make_changes(struct world *w, unsigned changes, bool everyone, void (*set)(struct master_user *, uint8_t, uint64_t))
{
	unsigned class = everyone ? CLASS_EVERYONE : (unsigned)chance_between(&w->chance, CLASS_RED, CLASS_SERVER);
	for (unsigned i = 0; i < changes; i++) {
		uint8_t key = (uint8_t)(class + MAP_CLASSES * (unsigned)chance_between(&w->chance, 0, MAP_KEYS / MAP_CLASSES - 1));
		uint64_t value = chance_permille(&w->chance, 200) ? 0 : chance_next(&w->chance) % 1000 + 1;
		set(&w->master.master_user, key, value);
	}
}

void world_publish(struct world *w, unsigned changes, bool everyone)
{
	struct node *n = &w->master;
	if (!n->up)
		return;
	if (n->master_user.proposing) {
		w->deferred++;
		return;
	}
	make_changes(w, changes, everyone, master_user_set);
	if (w->options.picky)
		master_user_set(&n->master_user, MAP_CHECKED, MAP_BAD);
	struct scope scope;
	struct map_delta delta;
	if (!master_user_seal(&n->master_user, &w->history, &scope, &delta))
		world_fail(w, "the master gave a number a second time");
	trace_change(w, "publish", current_version(w), &scope);
	node_step(n, &(struct event){ .kind = EVENT_UPDATE, .version = *current_version(w), .scope = &scope,
				      .inline_delta = { &delta, map_delta_bytes(&delta) } });
}

void world_publish_deferred(struct world *w)
{
	for (; w->deferred > 0 && w->master.up && !w->master.master_user.proposing; w->deferred--)
		world_publish(w, 1, true);
}

static void start_job(struct world *w, const struct drs_job *job, struct slice delta)
{
	history_find(&w->history, &job->version)->started_by = w->master.generation;
	trace_change(w, "start", &job->version, &job->scope);
	node_step(&w->master, &(struct event){ .kind = EVENT_START, .job = job, .inline_delta = delta });
}

/* What the core has to refuse (R4.7): another job while one runs, or one that leads on from what is not current. */
static void start_wrong_job(struct world *w)
{
	struct drs_job job = { .previous = *current_version(w), .timeout_ms = 500 };
	if (!master_user_waste(&w->master.master_user, &w->history, &job.version))
		world_fail(w, "the master gave a number a second time");
	if (!w->master.master_user.proposing)
		job.previous = (struct drs_version){ 0 };
	if (!map_version_ops.equal(&job.previous, current_version(w)) || w->master.master_user.proposing)
		start_job(w, &job, (struct slice){ 0 });
}

void world_batch(struct world *w, bool final)
{
	struct node *n = &w->master;
	if (!n->up)
		return;
	if (!final && (master_job(n->master) || chance_permille(&w->chance, 20))) {
		if (chance_permille(&w->chance, 200) && map_version_ops.greater(current_version(w), &(struct drs_version){ 0 }))
			start_wrong_job(w);
		return;
	}
	struct drs_job job = { .previous = *current_version(w), .timeout_ms = final ? 10000 : (uint32_t)chance_between(&w->chance, 20, 3000) };
	struct map_delta delta;
	master_user_propose(&n->master_user);
	make_changes(w, (unsigned)chance_between(&w->chance, 1, 10), final || chance_permille(&w->chance, 600), master_user_propose_set);
	if (w->options.picky)
		master_user_propose_set(&n->master_user, MAP_CHECKED, MAP_GOOD);
	if (!master_user_propose_seal(&n->master_user, &w->history, &job.scope, &delta))
		world_fail(w, "the master gave a number a second time");
	if (!final && chance_permille(&w->chance, 10)) { /* proposed, and nobody was asked */
		faults_crash(w, n, 3000);
		return;
	}
	job.version = n->master_user.proposal.version;
	job.require = final ? DRS_REQUIRE_ALL : (enum drs_require)chance_between(&w->chance, DRS_REQUIRE_ALL, DRS_REQUIRE_COUNT);
	job.count = (uint32_t)chance_between(&w->chance, 0, w->options.slaves + 1);
	w->job = (struct job){ .version = job.version, .require = job.require, .count = job.count,
			       .with_delta = chance_permille(&w->chance, 600), .decision_id = w->job.decision_id };
	for (unsigned i = 0; i < w->options.slaves; i++)
		w->slaves[i].in_job = w->slaves[i].member && scope_concerns(&job.scope, w->slaves[i].name, &w->slaves[i].clusters);
	start_job(w, &job, (struct slice){ &delta, map_delta_bytes(&delta) });
}

void world_cancel(struct world *w)
{
	if (w->master.up && master_job_cancellable(w->master.master, &w->job.version))
		node_step(&w->master, &(struct event){ .kind = EVENT_CANCEL, .version = w->job.version });
}

bool world_converged(struct world *w)
{
	const struct drs_version *version = current_version(w);
	if (!w->master.up || w->deferred > 0 || master_job(w->master.master))
		return false;
	for (unsigned i = 0; i < w->options.slaves; i++) {
		const struct node *n = &w->slaves[i];
		if (!n->up || n->preparing || n->user.damaged || !map_version_ops.equal(&n->user.seen.version, version))
			return false;
	}
	const struct member *members;
	size_t count = master_members(w->master.master, &members), here = 0;
	for (size_t i = 0; i < count; i++) {
		if (members[i].behind_since || members[i].pulling)
			return false;
		here += members[i].peer != PEER_NONE;
	}
	return here == w->options.slaves;
}

/* --- life --- */

static void init_slave(struct world *w, unsigned i)
{
	struct node *n = &w->slaves[i];
	*n = (struct node){ .world = w, .index = i, .name = "" };
	snprintf(n->name, sizeof(n->name), "slave-%u", i);
	slave_user_init(&n->user, i, n->name, &n->clusters);
	if (w->options.chaos) {
		n->deaf_multicast = chance_permille(&w->chance, 150);
		n->deaf_unicast = chance_permille(&w->chance, 150);
	}
}

void world_init(struct world *w, const struct world_options *options)
{
	*w = (struct world){ .options = *options, .chance = { options->seed }, .now = 1000 };
	w->loss_permille = options->loss_permille;
	w->delay_ms_max = 2;
	w->beat_interval_ms = options->chaos ? (uint32_t)chance_between(&w->chance, 100, 1000) : 1000;
	w->actions.capacity = ACTIONS_MAX(options->slaves);
	w->actions.items = calloc(w->actions.capacity, sizeof(struct action));
	w->slaves = calloc(options->slaves, sizeof(struct node));
	w->links = calloc(64, sizeof(struct link *));
	assert(w->actions.items && w->slaves && w->links);
	w->links_capacity = 64;
	w->links_count = 1; /* peer ids begin at 1 */
	machine_trace(trace_machine, w);

	w->master = (struct node){ .world = w, .name = "master", .is_master = true };
	master_user_init(&w->master.master_user);
	node_start(&w->master);
	for (unsigned i = 0; i < options->slaves; i++) {
		init_slave(w, i);
		node_start(&w->slaves[i]);
	}
	if (options->chaos)
		faults_begin(w);
}

void world_fini(struct world *w)
{
	machine_trace(NULL, NULL);
	for (size_t i = 0; i < w->heap_count; i++)
		item_free(w->heap[i]);
	free(w->heap);
	item_free(w->item);
	for (size_t i = 1; i < w->links_count; i++)
		free(w->links[i]);
	free(w->links);
	parcel_release(w->beat);
	buffer_fini(&w->storage);
	master_core_free(w->master.master);
	master_user_fini(&w->master.master_user);
	for (unsigned i = 0; i < w->options.slaves; i++)
		slave_core_free(w->slaves[i].slave);
	free(w->slaves);
	free(w->actions.items);
	free(w->history.entries);
}
