/* The table of nodes that the kernel holds, against a simple model, with random calls. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "slave/nodes.h"

enum { INOS = 3000, PLACES = 12 };

/* Of each inode the kernel may hold two contents. */
struct model {
	uint64_t times[2];
	bool placed[2][PLACES];
};

static struct model model[INOS];
static struct nodes *nodes;

static struct node_place place_of(unsigned ino, unsigned place)
{
	return (struct node_place){ 1 + place % 3, (uint64_t)ino * 100 + place };
}

static void begin(void)
{
	cr_assert(zero(i32, nodes_new(&nodes)));
}

static void end(void)
{
	nodes_free(nodes);
}

TestSuite(nodes, .init = begin, .fini = end);

static void check(unsigned ino, unsigned content)
{
	node_id id = node_id_of(ino, 5 + content);
	struct node_held held;
	struct node_place place;
	bool found[PLACES] = { false };

	cr_assert(eq(i32, nodes_find(nodes, id, &held), model[ino].times[content] > 0));
	if (model[ino].times[content] > 0)
		cr_assert(eq(u64, held.content_version, 5 + content));
	for (size_t i = 0; nodes_place(nodes, id, i, &place); i++) {
		cr_assert(lt(sz, i, 4 * PLACES)); /* repetitions do not pile up */
		found[place.cookie - (uint64_t)ino * 100] = true;
	}
	cr_assert(zero(i32, memcmp(found, model[ino].placed[content], sizeof(found))));
}

Test(nodes, what_was_given_and_not_forgotten_is_held)
{
	srand(1);
	for (unsigned step = 0; step < 400000; step++) {
		unsigned growing = step < 200000 ? 6 : 2; /* of 8 */
		unsigned ino = 1 + (unsigned)rand() % (INOS - 1), content = (unsigned)rand() % 2, place = (unsigned)rand() % PLACES;
		struct model *m = &model[ino];
		node_id id = node_id_of(ino, 5 + content);

		if ((unsigned)rand() % 8 < growing) {
			cr_assert(zero(i32, nodes_give(nodes, ino, 5 + content, 0, place_of(ino, place))));
			m->times[content]++;
			m->placed[content][place] = true;
		} else if (rand() % 4 == 0) {
			nodes_drop_place(nodes, id, place_of(ino, place));
			m->placed[content][place] = false;
		} else if (m->times[content] > 0) {
			uint64_t times = rand() % 2 ? m->times[content] : 1 + (uint64_t)rand() % m->times[content];
			nodes_forget(nodes, id, times);
			m->times[content] -= times;
			if (m->times[content] == 0)
				memset(m->placed[content], 0, sizeof(m->placed[content]));
		}
		check(ino, content);
	}
	size_t count = 0;
	for (unsigned ino = 1; ino < INOS; ino++)
		for (unsigned content = 0; content < 2; content++) {
			check(ino, content);
			count += model[ino].times[content] > 0;
		}
	cr_assert(eq(sz, nodes_count(nodes), count));
}

Test(nodes, a_node_that_its_names_left_remembers_where_it_was_seen)
{
	struct node_held held;
	node_id id = node_id_of(7, 3);

	cr_assert(zero(i32, nodes_give(nodes, 7, 3, 0, place_of(7, 0))));
	nodes_leave(nodes, id, 9);
	cr_assert(nodes_find(nodes, id, &held));
	cr_assert(eq(u64, held.left_at, 9));
	cr_assert(zero(i32, nodes_give(nodes, 7, 3, 0, place_of(7, 0))));
	cr_assert(nodes_find(nodes, id, &held));
	cr_assert(eq(u64, held.left_at, 0));
	nodes_forget(nodes, id, 2);
	cr_assert(not(nodes_find(nodes, id, NULL)));
	nodes_forget(nodes, id, 1); /* nothing */
}

Test(nodes, ids_tell_contents_apart)
{
	cr_assert(eq(u64, node_id_of(9, 0), 9));
	cr_assert(ne(u64, node_id_of(9, 1), node_id_of(9, 2)));
	cr_assert(eq(u64, node_id_ino(node_id_of(9, 0xabcdef)), 9));
	cr_assert(eq(u64, node_id_of(9, 1), node_id_of(9, 0x1000001)));
	cr_assert(ne(u64, node_id_generation(1), node_id_generation(0x1000001)));
}
