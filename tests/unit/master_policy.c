/* How changes of a subtree are to be distributed: said by the nearest directory above that says it. (R5) */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "master/names.h"
#include "master/policy.h"

static char dir[64];
static struct store *store;
static struct work work;
static struct live live;
static struct policy *policy;

static int no_room(void *user)
{
	(void)user;
	return -ENOSPC;
}

static void no_notice(void *user, ino_id ino)
{
	(void)user, (void)ino;
}

static void up(void)
{
	struct txn *txn;
	struct node root = { .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT };
	strcpy(dir, "/tmp/drsfs-policy-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	struct store_options options = { .dir = dir, .role = STORE_MASTER, .create = true };
	cr_assert(zero(int, store_open(&options, &store)));
	cr_assert(zero(int, work_init(&work, store, no_room, NULL)));
	live_init(&live, &work, VERSION_DRAFT, 0, 0, no_notice, NULL);
	cr_assert(zero(int, live_change(&live, 1024, false, &txn)));
	cr_assert(zero(int, node_put(&live, live_finish_at(&live), INO_ROOT, &root)));
	cr_assert(zero(int, policy_new(&policy)));
}

static void down(void)
{
	char command[96];
	policy_free(policy);
	live_fini(&live);
	work_fini(&work);
	store_close(store);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert(zero(int, system(command)));
}

TestSuite(policy, .init = up, .fini = down, .timeout = 60);

static struct txn *txn_now(void)
{
	struct txn *txn;
	cr_assert(zero(int, live_read(&live, &txn)));
	return txn;
}

static ino_id directory(ino_id parent, const char *text)
{
	struct node node = { .mode = S_IFDIR | 0755 };
	struct creator creator = { 0 };
	struct name name;
	ino_id ino;
	cr_assert(zero(int, name_of(parent, text, &name)));
	cr_assert(zero(int, name_create(&live, &name, &node, &creator, false, &ino)));
	return ino;
}

static void say(ino_id ino, const char *value)
{
	cr_assert(zero(int, xattr_put(&live, ino, POLICY_XATTR, (struct slice){ value, strlen(value) })));
	policy_changed(policy);
}

static bool two_phase(ino_id ino)
{
	enum publish_method method;
	cr_assert(zero(int, policy_of_directory(policy, &live, txn_now(), ino, &method)));
	return method == PUBLISH_TWO_PHASE;
}

Test(policy, holds_for_all_below_until_somebody_says_otherwise)
{
	ino_id a = directory(INO_ROOT, "a"), b = directory(a, "b"), c = directory(b, "c"), other = directory(INO_ROOT, "other");
	cr_expect_not(two_phase(c));
	say(a, "two-phase");
	cr_expect(two_phase(a));
	cr_expect(two_phase(c));
	cr_expect_not(two_phase(other));
	cr_expect_not(two_phase(INO_ROOT));
	say(b, "one-phase");
	cr_expect(two_phase(a));
	cr_expect_not(two_phase(c));
	say(b, "auto");
	cr_expect_not(two_phase(c));
	say(c, "two-phase");
	cr_expect(two_phase(c));
	cr_expect_not(two_phase(b));
}

Test(policy, moves_with_a_directory)
{
	ino_id a = directory(INO_ROOT, "a"), b = directory(INO_ROOT, "b"), inside = directory(b, "inside");
	struct name from, to;
	say(a, "two-phase");
	cr_expect_not(two_phase(inside));
	cr_assert(zero(int, name_of(INO_ROOT, "b", &from)));
	cr_assert(zero(int, name_of(a, "b", &to)));
	cr_assert(zero(int, name_rename(&live, &from, &to, 0, NULL)));
	policy_changed(policy);
	cr_expect(two_phase(inside));
}

Test(policy, has_three_values)
{
	static const char *const good[] = { "auto", "one-phase", "two-phase" }, *const bad[] = { "", "two", "two-phase ", "Two-Phase", "2" };
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		cr_expect(policy_value_valid((struct slice){ good[i], strlen(good[i]) }), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_not(policy_value_valid((struct slice){ bad[i], strlen(bad[i]) }), "%s", bad[i]);
}

Test(policy, holds_for_a_file_that_has_one_name_there)
{
	ino_id strict = directory(INO_ROOT, "strict"), lax = directory(INO_ROOT, "lax");
	struct known_place elsewhere = { .parent = strict, .cookie = 20 };
	struct known_node node = { .ino = 77, .places_count = 1, .first = { .parent = lax, .cookie = 16 }, .more = &elsewhere };
	enum publish_method method;
	say(strict, "two-phase");
	cr_assert(zero(int, policy_of_file(policy, &live, txn_now(), &node, &method)));
	cr_expect(eq(int, method, PUBLISH_ONE_PHASE));
	node.places_count = 2;
	cr_assert(zero(int, policy_of_file(policy, &live, txn_now(), &node, &method)));
	cr_expect(eq(int, method, PUBLISH_TWO_PHASE));
	cr_assert(zero(int, policy_of_file(policy, &live, txn_now(), NULL, &method)));
	cr_expect(eq(int, method, PUBLISH_ONE_PHASE));
}
