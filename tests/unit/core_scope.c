/* Scopes as sets of names (R2.5, R6.1), and state moves. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/machine.h"
#include "drsfs/scope.h"

static struct scope scope_of(const char *a, const char *b, const char *c)
{
	struct scope s = { 0 };
	const char *const names[] = { a, b, c };
	for (size_t i = 0; i < 3; i++)
		if (names[i])
			cr_assert(eq(int, scope_add(&s, names[i]), 0));
	return s;
}

Test(scope, names_stand_sorted_and_once)
{
	struct scope s = scope_of("web", "db", "web");
	cr_assert(eq(sz, s.size, 7));
	cr_assert(zero(int, memcmp(s.names, "db\0web", 7)));
	cr_assert(scope_valid(&s));
}

Test(scope, concerns_the_server_and_its_clusters)
{
	struct scope clusters = scope_of("edge", "north", NULL), none = { 0 };
	struct scope s = scope_of("north", "web-1", NULL);
	cr_assert(scope_concerns(&s, "other", &clusters));
	cr_assert(scope_concerns(&s, "web-1", &none));
	cr_assert(not(scope_concerns(&s, "web-10", &none)));
	cr_assert(not(scope_concerns(&s, "web", &none)));
	cr_assert(scope_concerns(&none, "anyone", &none), "the empty scope is everyone");
}

Test(scope, intersects)
{
	struct scope ab = scope_of("a", "b", NULL), bc = scope_of("b", "c", NULL), cd = scope_of("c", "d", NULL), everyone = { 0 };
	cr_assert(scope_intersects(&ab, &bc));
	cr_assert(not(scope_intersects(&ab, &cd)));
	cr_assert(scope_intersects(&ab, &everyone));
}

Test(scope, unites_and_becomes_everyone_when_full)
{
	struct scope s = scope_of("a", "c", NULL), other = scope_of("b", NULL, NULL), everyone = { 0 };
	scope_unite(&s, &other);
	cr_assert(zero(int, memcmp(s.names, "a\0b\0c", 6)));
	struct scope wide = s;
	scope_unite(&wide, &everyone);
	cr_assert(scope_is_everyone(&wide));

	char name[NAME_TEXT_MAX];
	for (int i = 0; i < 3; i++) {
		memset(name, 'x' + i, sizeof(name) - 1);
		name[sizeof(name) - 1] = '\0';
		struct scope one = scope_of(name, NULL, NULL);
		scope_unite(&s, &one);
	}
	cr_assert(scope_is_everyone(&s));
}

Test(scope, refuses_what_does_not_fit)
{
	struct scope s = { 0 };
	char name[NAME_TEXT_MAX + 1];
	memset(name, 'n', NAME_TEXT_MAX);
	name[NAME_TEXT_MAX] = '\0';
	cr_assert(eq(int, scope_add(&s, name), -EINVAL));
	cr_assert(eq(int, scope_add(&s, ""), -EINVAL));
	name[NAME_TEXT_MAX - 1] = '\0';
	cr_assert(eq(int, scope_add(&s, name), 0));
	name[0] = 'm';
	cr_assert(eq(int, scope_add(&s, name), 0));
	cr_assert(eq(int, scope_add(&s, "a"), -DRS_ETOOBIG));
}

Test(scope, what_comes_from_outside_is_checked)
{
	struct scope unsorted = { .size = 4, .names = "b\0a" };
	struct scope twice = { .size = 4, .names = "a\0a" };
	struct scope open = { .size = 2, .names = "ab" };
	struct scope hollow = { .size = 1, .names = "" };
	struct scope huge = { .size = SCOPE_BYTES_MAX + 1 };
	cr_assert(not(scope_valid(&unsorted)));
	cr_assert(not(scope_valid(&twice)));
	cr_assert(not(scope_valid(&open)));
	cr_assert(not(scope_valid(&hollow)));
	cr_assert(not(scope_valid(&huge)));
}

static const struct machine door = {
	.name = "door",
	.count = 2,
	.states = { "shut", "open" },
	.allowed = { MACHINE_TO(1), MACHINE_TO(0) },
};

static void remember(void *user, const struct machine_step *step)
{
	*(struct machine_step *)user = *step;
}

Test(machine, traces_its_moves)
{
	struct machine_step seen = { 0 };
	machine_trace(remember, &seen);
	uint8_t state = 0;
	machine_move(&door, "front", &state, 1, 7, "a knock");
	cr_assert(eq(u8, state, 1));
	cr_assert(eq(i64, seen.now, 7));
	cr_assert(eq(str, (char *)seen.from, "shut"));
	cr_assert(eq(str, (char *)seen.to, "open"));
	cr_assert(eq(str, (char *)seen.why, "a knock"));
}

Test(machine, asserts_what_the_table_does_not_allow, .signal = SIGABRT)
{
	uint8_t state = 1;
	machine_move(&door, "", &state, 1, 0, "again");
}
