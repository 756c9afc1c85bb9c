/* What goes wrong, and when it is over. All of it is drawn from the world's chance. */
#include "tests/sim/world.h"

#define FAULTS_MS 30000
#define LINK_SILENCE_MS 1500

enum { HEAL_CUT, HEAL_ALL };

static struct node *some_slave(struct world *w)
{
	return &w->slaves[chance_between(&w->chance, 0, w->options.slaves - 1)];
}

static bool coin(struct world *w)
{
	return chance_permille(&w->chance, 500);
}

void faults_crash(struct world *w, struct node *n, time_ms pause_max)
{
	if (!n->up)
		return;
	node_crash(n, coin(w));
	struct item *item = world_later(w, chance_between(&w->chance, 10, pause_max), ITEM_RESTART);
	item->node = n;
	item->generation = n->generation;
}

/* Whether the node crashes at this action: half of the times before it is done, else after. Those of two phase are what is most of interest. */
bool faults_doom(struct world *w, const struct action *a)
{
	switch (a->kind) {
	case ACTION_PREPARE:
	case ACTION_DECIDE:
	case ACTION_JOB_DONE:
	case ACTION_STAGE:
	case ACTION_CHECK:
	case ACTION_ANSWER:
	case ACTION_COMMIT_PREPARED:
	case ACTION_UNPREPARE:
		break;
	default:
		return false;
	}
	return w->options.chaos && w->now < w->faults_end && chance_permille(&w->chance, 5);
}

/* Both ends of its links find out by silence, each at its own time, if the cut lasts. */
static void kill_links(struct world *w, struct node *slave)
{
	for (size_t i = 1; i < w->links_count; i++) {
		struct link *l = w->links[i];
		if (l->ends[TO_SLAVE] != slave)
			continue;
		for (int side = TO_SLAVE; side <= TO_MASTER; side++) {
			if (!l->open[side])
				continue;
			struct item *item = world_later(w, LINK_SILENCE_MS + chance_between(&w->chance, 0, 300), ITEM_LINK_DEAD);
			item->link = l;
			item->side = (enum side)side;
			item->node = l->ends[side];
			item->generation = l->generations[side];
		}
	}
}

static void cut_for(struct world *w, struct node *slave, time_ms ms)
{
	if (slave->cut)
		return;
	world_trace(w, "%s is cut off for %lld ms", slave->name, (long long)ms);
	slave->cut = true;
	if (ms > LINK_SILENCE_MS + 300)
		kill_links(w, slave);
	struct item *item = world_later(w, ms, ITEM_HEAL);
	item->node = slave;
	item->id = HEAL_CUT;
}

static void cut_everyone(struct world *w)
{
	time_ms ms = chance_between(&w->chance, 100, 5000);
	for (unsigned i = 0; i < w->options.slaves; i++)
		cut_for(w, &w->slaves[i], ms);
}

static void fill_disk(struct world *w, struct node *n, time_ms ms_max)
{
	n->full_until = w->now + chance_between(&w->chance, 100, ms_max);
	world_trace(w, "%s: disk full until %lld", n->name, (long long)n->full_until);
}

static void change_weather(struct world *w)
{
	w->loss_permille = (unsigned)chance_between(&w->chance, 0, 400);
	w->duplicate_permille = (unsigned)chance_between(&w->chance, 0, 100);
	w->delay_ms_max = (unsigned)(coin(w) ? 2 : chance_between(&w->chance, 2, 1500));
	world_trace(w, "weather: loss %u, duplicates %u, delay %u ms", w->loss_permille, w->duplicate_permille, w->delay_ms_max);
}

/* Whoever is gone may be taken from the members, and becomes one again when it is back. */
static void forget(struct world *w, struct node *slave)
{
	if (!w->master.up || master_remove_member(w->master.master, slave->name) != 0)
		return;
	world_trace(w, "master: forgets %s", slave->name);
	slave->member = slave->in_job = false;
}

static void one_fault(struct world *w)
{
	struct node *slave = some_slave(w);
	switch (chance_between(&w->chance, 0, 11)) {
	case 0:
	case 1:
		faults_crash(w, slave, 5000);
		break;
	case 2:
		faults_crash(w, &w->master, 3000);
		break;
	case 3:
	case 4:
		cut_for(w, slave, chance_between(&w->chance, 50, 6000));
		break;
	case 5:
		cut_everyone(w);
		break;
	case 6:
		slave->deaf_multicast = coin(w);
		slave->deaf_unicast = coin(w);
		break;
	case 7:
		fill_disk(w, slave, 8000);
		break;
	case 8:
		fill_disk(w, &w->master, 2500);
		break;
	case 9:
		change_weather(w);
		break;
	case 10:
		slave_user_damage(&slave->user, (uint8_t)chance_between(&w->chance, 0, MAP_KEYS - 1));
		break;
	case 11:
		forget(w, slave);
		break;
	}
}

/* All is well from here, except that some slaves stay deaf to datagrams, as some networks are. A last change touches everyone. */
static void heal_all(struct world *w)
{
	world_trace(w, "faults end");
	w->loss_permille = w->duplicate_permille = 0;
	w->delay_ms_max = 2;
	w->master.full_until = 0;
	if (!w->master.up)
		node_start(&w->master);
	for (unsigned i = 0; i < w->options.slaves; i++) {
		struct node *n = &w->slaves[i];
		n->cut = false;
		n->full_until = 0;
		if (!n->up)
			node_start(n);
	}
	world_publish(w, 4, true);
}

void faults_begin(struct world *w)
{
	w->faults_end = w->now + FAULTS_MS;
	world_later(w, 500, ITEM_FAULT);
	world_later(w, 100, ITEM_PUBLISH);
	world_later(w, 200, ITEM_BATCH);
	world_later(w, 300, ITEM_CANCEL);
	world_later(w, FAULTS_MS, ITEM_HEAL)->id = HEAL_ALL;
}

void faults_handle(struct world *w, struct item *item)
{
	switch (item->kind) {
	case ITEM_FAULT:
		if (w->now < w->faults_end) {
			one_fault(w);
			world_later(w, chance_between(&w->chance, 20, 800), ITEM_FAULT);
		}
		break;
	case ITEM_RESTART:
		if (!item->node->up && item->node->generation == item->generation)
			node_start(item->node);
		break;
	case ITEM_HEAL:
		if (item->id == HEAL_ALL)
			heal_all(w);
		else
			item->node->cut = false;
		break;
	case ITEM_PUBLISH:
		if (w->now < w->faults_end) {
			world_publish(w, (unsigned)chance_between(&w->chance, 1, 4), coin(w));
			world_later(w, chance_permille(&w->chance, 400) ? chance_between(&w->chance, 0, 8) : chance_between(&w->chance, 10, 1500), ITEM_PUBLISH);
		}
		break;
	case ITEM_BATCH:
		if (w->now < w->faults_end) {
			world_batch(w, false);
			world_later(w, coin(w) ? chance_between(&w->chance, 0, 50) : chance_between(&w->chance, 100, 2000), ITEM_BATCH);
		}
		break;
	case ITEM_CANCEL:
		if (w->now < w->faults_end) {
			world_cancel(w);
			world_later(w, chance_between(&w->chance, 0, 3000), ITEM_CANCEL);
		}
		break;
	default:
		break;
	}
}
