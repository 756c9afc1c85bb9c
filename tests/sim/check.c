/* What must hold after every step, whatever the network did. Needs nothing of the cores but what anybody sees. */
#include <errno.h>
#include <string.h>

#include "tests/sim/world.h"

static bool greater(const struct drs_version *a, const struct drs_version *b)
{
	return map_version_ops.greater(a, b);
}

/* R1.4: a slave's map is, key for key, what the master had at that version, in the classes that concern it. */
static void check_content(struct world *w, const struct node *n)
{
	static const struct drs_version nothing;
	static const struct map empty;
	const struct replica *seen = &n->user.seen;
	const struct map *truth = &empty;
	if (greater(&seen->version, &nothing)) {
		const struct history_entry *entry = history_find(&w->history, &seen->version);
		if (!entry)
			world_fail(w, "%s has a version that never was", n->name);
		if (entry->fate != COMMITTED)
			world_fail(w, "%s shows a version that is %s", n->name, entry->fate == ABORTED ? "aborted" : "only proposed");
		truth = &entry->map;
	}
	if (n->user.damaged)
		return;
	for (unsigned key = 0; key < MAP_KEYS; key++)
		if (n->user.classes & 1u << key % MAP_CLASSES && seen->map.values[key] != truth->values[key])
			world_fail(w, "%s differs from the master's map at its version in key %u", n->name, key);
}

static void check_slave(struct world *w, struct node *n)
{
	struct slave_status status;
	slave_core_status(n->slave, &status);
	if (greater(&n->checked, &n->user.seen.version))
		world_fail(w, "%s went back to an older version", n->name);
	n->checked = n->user.seen.version;
	if (!map_version_ops.equal(&status.version, &n->user.seen.version))
		world_fail(w, "%s: the core's version is not the user's", n->name);
	if (greater(&status.version, &status.known))
		world_fail(w, "%s knows of less than it has", n->name);
	check_content(w, n);
	/* R4.5: the job's time and a while. */
	if (n->preparing && n->operation != OPERATION_COMMIT_PREPARED && w->now > n->prepared_until)
		world_fail(w, "%s stays prepared", n->name);
}

void check_node(struct world *w, struct node *n)
{
	if (!n->is_master)
		check_slave(w, n);
}

/* What the window says of a number is what became of it. */
static void check_entry(struct world *w, const struct window_entry *e)
{
	static const struct drs_version nothing;
	const struct history_entry *entry = history_find(&w->history, &e->version);
	if (!entry && !map_version_ops.equal(&e->version, &nothing))
		world_fail(w, "the window has a number that was never given");
	if (entry && entry->fate != (e->aborted ? ABORTED : COMMITTED))
		world_fail(w, "the window calls a number %s that is not", e->aborted ? "aborted" : "committed");
}

/* R1.1, R2.2, R2.4, R4.3 */
void check_beat(struct world *w, const struct beat *b)
{
	if (greater(&b->current, &w->master.master_user.stored))
		world_fail(w, "a heartbeat names a number that is not stored");
	if (b->window_count < 1 || b->window_count > WINDOW_MAX)
		world_fail(w, "a window of %u entries", b->window_count);
	size_t newest = 0;
	while (newest < b->window_count && b->window[newest].aborted)
		newest++;
	if (newest == b->window_count || !map_version_ops.equal(&b->window[newest].version, &b->current))
		world_fail(w, "the newest committed entry of the window is not the current version");
	for (size_t i = 0; i < b->window_count; i++)
		check_entry(w, &b->window[i]);
	for (size_t i = 1; i < b->window_count; i++)
		if (!greater(&b->window[i - 1].version, &b->window[i].version))
			world_fail(w, "the window is not in order");
	struct map_delta delta;
	if (b->inline_delta.size == 0)
		return;
	memcpy(&delta, b->inline_delta.data, b->inline_delta.size);
	if (!map_version_ops.equal(&delta.from, &b->previous) || !map_version_ops.equal(&delta.to, &b->current))
		world_fail(w, "a heartbeat's delta is not the one it says");
}

/* Nothing is said before it is durable. */
void check_position(struct world *w, struct node *n, const struct drs_version *version)
{
	if (greater(version, &n->user.disk.version))
		world_fail(w, "%s says a version that its disk does not have", n->name);
}

/* R4.2: prepared is said when the disk has it. */
void check_ack(struct world *w, struct node *n, const struct drs_version *version)
{
	if (!map_version_ops.equal(version, &n->user.prepared_disk))
		world_fail(w, "%s says prepared, and its disk does not have it", n->name);
	n->acked = *version;
}

/* R4.3, R4.6: nothing is committed without the Acks that the policy wants. The simulator has counted them itself, where they were said. */
void check_decide(struct world *w, const struct action *a)
{
	const struct drs_vote *votes;
	size_t count = master_votes(w->master.master, &votes);
	uint32_t acks = 0;
	if (!map_version_ops.equal(&a->version, &w->job.version))
		world_fail(w, "a decision about what is not proposed");
	if (!a->commit)
		return;
	for (unsigned i = 0; i < w->options.slaves; i++) {
		const struct node *n = &w->slaves[i];
		bool acked = map_version_ops.equal(&n->acked, &a->version);
		acks += acked;
		if (w->job.require == DRS_REQUIRE_ALL && n->in_job && !acked)
			world_fail(w, "commit without %s", n->name);
		for (size_t v = 0; v < count; v++)
			if (strcmp(votes[v].name, n->name) == 0 && votes[v].answer == DRS_PREPARED && !acked)
				world_fail(w, "%s is said to be prepared and is not", n->name);
	}
	for (size_t v = 0; v < count; v++)
		if (w->job.require != DRS_REQUIRE_COUNT && votes[v].answer == DRS_REFUSED)
			world_fail(w, "commit though %s refused", votes[v].name);
	if (w->job.require == DRS_REQUIRE_COUNT && acks < w->job.count)
		world_fail(w, "commit with %u of %u acks", acks, w->job.count);
}

/* Each start ends once, with what was decided. */
void check_job_done(struct world *w, const struct action *a)
{
	struct history_entry *entry = history_find(&w->history, &a->version);
	if (!entry || entry->started_by != w->master.generation || entry->done)
		world_fail(w, "a job is over that does not run");
	entry->done = true;
	if (a->error == -EBUSY) {
		entry->fate = ABORTED;
		w->counters.busy++;
		return;
	}
	if (entry->fate != (a->error ? ABORTED : COMMITTED))
		world_fail(w, "a job ends with what was not decided");
	w->counters.committed += !a->error;
	w->counters.aborted += a->error != 0;
}

void check_jobs_over(struct world *w)
{
	for (size_t i = 0; i < w->history.count; i++)
		if (w->history.entries[i].started_by == w->master.generation && !w->history.entries[i].done)
			world_fail(w, "a job was started and never ended");
}
