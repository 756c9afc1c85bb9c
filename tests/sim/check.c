/* What must hold after every step, whatever the network did. Needs nothing of the cores but what anybody sees. */
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
}

void check_node(struct world *w, struct node *n)
{
	if (!n->is_master)
		check_slave(w, n);
}

/* R1.1, R2.2, R2.4 */
void check_beat(struct world *w, const struct beat *b)
{
	if (greater(&b->current, &w->master.master_user.stored))
		world_fail(w, "a heartbeat names a number that is not stored");
	if (b->window_count < 1 || b->window_count > WINDOW_MAX)
		world_fail(w, "a window of %u entries", b->window_count);
	if (!map_version_ops.equal(&b->window[0].version, &b->current))
		world_fail(w, "the window does not begin with the current version");
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
