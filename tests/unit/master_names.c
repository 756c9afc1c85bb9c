/* Names, without a mount: what would take long with one. (F1) */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "master/known.h"
#include "master/names.h"

static int no_room(void *user)
{
	(void)user;
	return -ENOSPC;
}

static void no_notice(void *user, ino_id ino)
{
	(void)user, (void)ino;
}

Test(names, of_a_file_have_a_limit)
{
	char dir[64] = "/tmp/drsfs-names-XXXXXX", command[96];
	static struct live live;
	struct store *store;
	struct work work;
	struct txn *txn;
	struct node root = { .mode = S_IFDIR | 0755, .nlink = 2, .parent = INO_ROOT }, file = { .mode = S_IFREG | 0644 };
	struct name name, more;
	ino_id ino;
	cr_assert(mkdtemp(dir) != NULL);
	struct store_options options = { .dir = dir, .role = STORE_MASTER, .create = true };
	cr_assert(zero(int, store_open(&options, &store)));
	cr_assert(zero(int, work_init(&work, store, no_room, NULL)));
	live_init(&live, &work, VERSION_DRAFT, 0, 0, no_notice, NULL);
	cr_assert(zero(int, live_change(&live, 1024, false, &txn)));
	cr_assert(zero(int, node_put(&live, live_finish_at(&live), INO_ROOT, &root)));
	cr_assert(zero(int, name_of(INO_ROOT, "file", &name)));
	cr_assert(zero(int, name_of(INO_ROOT, "more", &more)));
	cr_assert(zero(int, name_create(&live, &name, &file, &(struct creator){ 0 }, false, &ino)));
	file.nlink = LINKS_MAX - 1;
	cr_assert(zero(int, node_change(&live, ino, &file)));
	cr_expect(zero(int, name_link(&live, &more, ino)));
	cr_assert(zero(int, name_of(INO_ROOT, "most", &more)));
	cr_expect(eq(int, name_link(&live, &more, ino), -EMLINK));
	live_fini(&live);
	work_fini(&work);
	store_close(store);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert(zero(int, system(command)));
}

/* One that gets and loses names all the time costs no more for that. */
Test(known, nothing_is_kept_of_names_that_are_gone)
{
	struct known known;
	cr_assert(zero(int, known_init(&known)));
	for (uint64_t cookie = 0; cookie < 100; cookie++) {
		struct known_place place = { INO_ROOT, cookie };
		cr_assert(zero(int, known_give(&known, 7, &place)));
		if (cookie % 10)
			known_lost(&known, 7, place);
	}
	cr_assert(eq(sz, known_find(&known, 7)->places_count, 10));
	for (uint64_t cookie = 0; cookie < 100; cookie++)
		known_lost(&known, 7, (struct known_place){ INO_ROOT, cookie });
	cr_expect(eq(sz, known_find(&known, 7)->places_count, 0));
	known_lost(&known, 8, (struct known_place){ INO_ROOT, 0 });
	cr_expect(known_forget(&known, 7, 100));
	cr_expect(eq(ptr, known_find(&known, 7), NULL));
	known_fini(&known);
}
