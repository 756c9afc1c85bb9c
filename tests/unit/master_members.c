/* The names of those that a two phase commit asks: kept over restarts, whole or not at all. (R4.2, F8) */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "master/members.h"

static char dir[64], path[96];

static void in_folder(void)
{
	strcpy(dir, "/tmp/drsfs-members-XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/members", dir);
}

static void no_folder(void)
{
	unlink(path);
	rmdir(dir);
}

TestSuite(members, .init = in_folder, .fini = no_folder, .timeout = 60);

static struct members *loaded(void)
{
	struct members *m = NULL;
	cr_assert(zero(int, members_load(dir, &m)));
	return m;
}

static void write_text(const char *text)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && fputs(text, file) >= 0);
	fclose(file);
}

Test(members, are_kept_in_the_order_of_joining)
{
	struct members *m = loaded();
	cr_expect(zero(sz, members_count(m)));
	cr_expect(zero(int, members_add(m, "web2")));
	cr_expect(zero(int, members_add(m, "web1")));
	cr_expect(zero(int, members_add(m, "web2")));
	members_free(m);
	m = loaded();
	cr_assert(eq(sz, members_count(m), 2));
	cr_expect(eq(str, (char *)members_name(m, 0), "web2"));
	cr_expect(eq(str, (char *)members_name(m, 1), "web1"));
	members_free(m);
}

Test(members, can_be_removed)
{
	struct members *m = loaded();
	cr_expect(zero(int, members_add(m, "a")));
	cr_expect(zero(int, members_add(m, "b")));
	cr_expect(zero(int, members_remove(m, "a")));
	cr_expect(eq(int, members_remove(m, "a"), -ENOENT));
	members_free(m);
	m = loaded();
	cr_assert(eq(sz, members_count(m), 1));
	cr_expect(eq(str, (char *)members_name(m, 0), "b"));
	members_free(m);
}

Test(members, many_of_them)
{
	char name[32];
	struct members *m = loaded();
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "slave%d", i);
		cr_assert(zero(int, members_add(m, name)));
	}
	members_free(m);
	m = loaded();
	cr_expect(eq(sz, members_count(m), 100));
	members_free(m);
}

Test(members, must_have_valid_names)
{
	struct members *m = loaded();
	cr_expect(eq(int, members_add(m, "a name"), -EINVAL));
	cr_expect(eq(int, members_add(m, ""), -EINVAL));
	members_free(m);
	write_text("good\nnot good\n");
	cr_expect(eq(int, members_load(dir, &m), -DRS_ECORRUPT));
}

/* Where it cannot be written nothing changes, in memory neither. (As root: a folder without room.) */
Test(members, on_a_full_disk_stay_as_they_are)
{
	if (getuid() != 0 || mount("drsfs-members", dir, "tmpfs", 0, "size=8k") < 0)
		cr_skip("no tmpfs here");
	struct members *m = loaded();
	int error = 0;
	char name[64];
	size_t count = 0;
	while (error == 0 && count < 10000) {
		snprintf(name, sizeof(name), "a-slave-with-a-rather-long-name-%zu", count);
		error = members_add(m, name);
		count += error == 0;
	}
	cr_expect(eq(int, error, -ENOSPC));
	cr_expect(eq(sz, members_count(m), count));
	members_free(m);
	m = loaded();
	cr_expect(eq(sz, members_count(m), count));
	members_free(m);
	umount(dir);
}
