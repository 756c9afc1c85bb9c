/* The imagined network: links that keep order and hold what they cannot deliver until they are declared dead, and datagrams that promise nothing. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "drsfs/error.h"
#include "tests/sim/world.h"

#define LINK_TIMEOUT_MS 1500
#define DIAL_TIMEOUT_MS 1000
#define RETRANSMIT_MS 40

struct parcel *parcel_new(void)
{
	struct parcel *p = calloc(1, sizeof(*p));
	assert(p);
	p->references = 1;
	return p;
}

void parcel_release(struct parcel *p)
{
	if (p && --p->references == 0)
		free(p);
}

/* --- links --- */

static bool end_lives(const struct link *l, enum side side)
{
	return l->open[side] && l->ends[side]->up && l->ends[side]->generation == l->generations[side];
}

static bool is_cut(const struct link *l)
{
	return l->ends[TO_SLAVE]->cut;
}

static struct link *link_new(struct world *w, struct node *slave)
{
	if (w->links_count == w->links_capacity) {
		w->links_capacity = w->links_capacity ? 2 * w->links_capacity : 64;
		w->links = realloc(w->links, w->links_capacity * sizeof(w->links[0]));
		assert(w->links);
	}
	struct link *l = calloc(1, sizeof(*l));
	assert(l);
	l->id = (peer_id)w->links_count;
	l->ends[TO_SLAVE] = slave;
	l->ends[TO_MASTER] = &w->master;
	l->generations[TO_SLAVE] = slave->generation;
	l->generations[TO_MASTER] = w->master.generation;
	l->open[TO_SLAVE] = l->open[TO_MASTER] = true;
	w->links[w->links_count++] = l;
	return l;
}

void net_send(struct link *l, enum side to, struct message m, struct parcel *parcel)
{
	struct world *w = l->ends[to]->world;
	if (!end_lives(l, !to))
		return;
	time_ms at = w->now + chance_between(&w->chance, 0, w->options.chaos ? 5 : 1);
	l->arrives[to] = at > l->arrives[to] ? at : l->arrives[to];
	struct item *item = world_later(w, l->arrives[to] - w->now, ITEM_MESSAGE);
	m.sequence = l->sent[to]++;
	item->message = m;
	item->link = l;
	item->side = to;
	item->node = l->ends[to];
	item->generation = l->generations[to];
	item->parcel = parcel;
	if (parcel)
		parcel->references++;
}

/* The other end learns of it by a last message; quietly: only by silence, as when the power went. */
void net_close(struct link *l, enum side end, bool quietly)
{
	struct world *w = l->ends[end]->world;
	if (!l->open[end])
		return;
	if (!quietly)
		net_send(l, !end, (struct message){ .kind = MESSAGE_BYE }, NULL);
	l->open[end] = false;
	struct item *item = world_later(w, LINK_TIMEOUT_MS, ITEM_LINK_DEAD);
	item->link = l;
	item->side = !end;
	item->node = l->ends[!end];
	item->generation = l->generations[!end];
}

/* Whether the message may be handled now; else it has been put off, or dropped with its link. */
bool net_deliver(struct world *w, struct item *item)
{
	struct link *l = item->link;
	if (!end_lives(l, item->side))
		return false;
	if (is_cut(l) || item->message.sequence != l->received[item->side]) {
		struct item *again = world_later(w, is_cut(l) ? RETRANSMIT_MS : 1, ITEM_MESSAGE);
		uint64_t order = again->order;
		time_ms at = again->at;
		*again = *item;
		again->order = order;
		again->at = at;
		item->parcel = NULL;
		return false;
	}
	l->received[item->side]++;
	return true;
}

void net_dial(struct node *slave)
{
	struct world *w = slave->world;
	bool reached = w->master.up && !slave->cut;
	struct item *item = world_later(w, slave->cut ? DIAL_TIMEOUT_MS : chance_between(&w->chance, 0, 5), ITEM_DIALLED);
	item->node = slave;
	item->generation = slave->generation;
	item->link = reached ? link_new(w, slave) : NULL;
}

/* --- datagrams --- */

static void send_copy(struct world *w, struct node *slave, enum beat_path path, struct parcel *parcel)
{
	if (chance_permille(&w->chance, w->loss_permille))
		return;
	struct item *item = world_later(w, chance_between(&w->chance, 0, w->delay_ms_max), ITEM_DATAGRAM);
	item->node = slave;
	item->path = path;
	item->parcel = parcel;
	parcel->references++;
}

void net_datagram(struct world *w, struct node *slave, enum beat_path path, struct parcel *parcel)
{
	if (slave->cut || (path == BEAT_BY_MULTICAST ? slave->deaf_multicast : slave->deaf_unicast))
		return;
	send_copy(w, slave, path, parcel);
	if (chance_permille(&w->chance, w->duplicate_permille))
		send_copy(w, slave, path, parcel);
}
