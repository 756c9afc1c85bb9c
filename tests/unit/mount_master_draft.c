/* F2: what readers of versions see while files are being written, renamed, displaced and removed. Each test ends with a verified store. */
#include "tests/unit/mount_master_fixture.h"

static int create(struct fixture *f, const char *name, const char *text)
{
	int fd = open(at(f, name), O_CREAT | O_RDWR, 0644);
	cr_assert(ge(int, fd, 0));
	cr_assert(eq(long, write(fd, text, strlen(text)), (long)strlen(text)));
	return fd;
}

static void add(int fd, const char *text)
{
	cr_assert(eq(long, write(fd, text, strlen(text)), (long)strlen(text)));
}

Test(draft, new_file_appears_whole_at_close)
{
	FIXTURE(f);
	int fd = create(&f, "a", "one ");
	shows(f, "a", "(none)");
	add(fd, "two");
	holds(f, "a", "one two");
	shows(f, "a", "(none)");
	close(fd);
	shows(f, "a", "one two");
	FIXTURE_END(f);
}

Test(draft, rewrite_in_place_appears_whole_at_close)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	int fd = open(at(&f, "a"), O_WRONLY | O_TRUNC);
	add(fd, "new");
	cr_expect(eq(int, fchmod(fd, 0600), 0));
	shows(f, "a", "old");
	close(fd);
	shows(f, "a", "new");
	FIXTURE_END(f);
}

Test(draft, fsync_publishes_and_writing_goes_on)
{
	FIXTURE(f);
	int fd = create(&f, "a", "one ");
	cr_expect(eq(int, fsync(fd), 0));
	cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, "a"), "one "));
	add(fd, "two");
	shows(f, "a", "one ");
	close(fd);
	shows(f, "a", "one two");
	FIXTURE_END(f);
}

Test(draft, last_of_two_writers_publishes)
{
	FIXTURE(f);
	int first = create(&f, "a", "one ");
	int second = open(at(&f, "a"), O_WRONLY | O_APPEND);
	close(first);
	shows(f, "a", "(none)");
	add(second, "two");
	close(second);
	shows(f, "a", "one two");
	FIXTURE_END(f);
}

Test(draft, truncate_without_open_is_finished)
{
	FIXTURE(f);
	put_file(&f, "a", "abcdef");
	cr_expect(eq(int, truncate(at(&f, "a"), 3), 0));
	shows(f, "a", "abc");
	FIXTURE_END(f);
}

Test(draft, rename_over_while_open_keeps_the_old_file_published)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	cr_assert(eq(int, link(at(&f, "a"), at(&f, "other")), 0));
	int fd = create(&f, "tmp", "ne");
	cr_expect(eq(int, rename(at(&f, "tmp"), at(&f, "a")), 0));
	holds(f, "a", "ne");
	shows(f, "a", "old");
	add(fd, "w");
	close(fd);
	shows(f, "a", "new");
	shows(f, "tmp", "(none)");
	shows(f, "other", "old");
	struct stat st;
	cr_expect(eq(int, stat(at(&f, "other"), &st), 0));
	cr_expect(eq(long, (long)st.st_nlink, 1));
	FIXTURE_END(f);
}

Test(draft, displaced_file_is_gone_when_the_new_one_is_published)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	int reader = open(at(&f, "a"), O_RDONLY);
	int fd = create(&f, "tmp", "new");
	cr_expect(eq(int, rename(at(&f, "tmp"), at(&f, "a")), 0));
	char text[8] = "";
	cr_expect(eq(long, read(reader, text, sizeof(text)), 3));
	cr_expect(eq(str, text, "old"));
	close(fd);
	shows(f, "a", "new");
	text[0] = 0;
	cr_expect(eq(long, pread(reader, text, sizeof(text), 0), 3));
	cr_expect(eq(str, text, "old"));
	close(reader);
	FIXTURE_END(f);
}

Test(draft, rename_away_again_removes_the_displaced_name_with_it)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	int fd = create(&f, "tmp", "new");
	cr_expect(eq(int, rename(at(&f, "tmp"), at(&f, "a")), 0));
	cr_expect(eq(int, rename(at(&f, "a"), at(&f, "b")), 0));
	cr_expect(eq(int, access(at(&f, "a"), F_OK), -1));
	shows(f, "a", "old");
	close(fd);
	shows(f, "a", "(none)");
	shows(f, "b", "new");
	FIXTURE_END(f);
}

Test(draft, name_given_up_by_a_waiting_file_can_be_used_again)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	int fd = create(&f, "tmp", "new");
	cr_expect(eq(int, rename(at(&f, "tmp"), at(&f, "a")), 0));
	cr_expect(eq(int, rename(at(&f, "a"), at(&f, "b")), 0));
	cr_expect(eq(int, mkdir(at(&f, "a"), 0755), 0));
	cr_expect(eq(int, rmdir(at(&f, "a")), 0));
	shows(f, "a", "(none)");
	put_file(&f, "a", "third");
	shows(f, "a", "third");
	close(fd);
	shows(f, "b", "new");
	FIXTURE_END(f);
}

Test(draft, unlinked_before_close_is_never_published)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	int fd = create(&f, "tmp", "new");
	cr_expect(eq(int, rename(at(&f, "tmp"), at(&f, "a")), 0));
	cr_expect(eq(int, unlink(at(&f, "a")), 0));
	add(fd, "er");
	char text[8] = "";
	cr_expect(eq(long, pread(fd, text, sizeof(text), 0), 5));
	cr_expect(eq(int, fsync(fd), 0));
	shows(f, "a", "(none)");
	close(fd);
	shows(f, "a", "(none)");
	FIXTURE_END(f);
}

Test(draft, link_of_an_open_new_file_waits_with_it)
{
	FIXTURE(f);
	int fd = create(&f, "a", "text");
	cr_expect(eq(int, link(at(&f, "a"), at(&f, "b")), 0));
	cr_expect(eq(int, unlink(at(&f, "a")), 0));
	shows(f, "b", "(none)");
	close(fd);
	shows(f, "b", "text");
	shows(f, "a", "(none)");
	FIXTURE_END(f);
}

static void exchange(struct fixture *f, const char *a, const char *b)
{
	cr_expect(eq(int, renameat2(AT_FDCWD, at(f, a), AT_FDCWD, at(f, b), RENAME_EXCHANGE), 0));
}

Test(draft, exchange_with_an_open_new_file_waits)
{
	FIXTURE(f);
	put_file(&f, "b", "old");
	int fd = create(&f, "a", "ne");
	exchange(&f, "a", "b");
	holds(f, "a", "old");
	holds(f, "b", "ne");
	shows(f, "b", "old");
	shows(f, "a", "(none)");
	add(fd, "w");
	close(fd);
	shows(f, "a", "old");
	shows(f, "b", "new");
	FIXTURE_END(f);
}

Test(draft, exchanged_names_can_be_changed_before_they_are_published)
{
	FIXTURE(f);
	put_file(&f, "b", "old");
	int fd = create(&f, "a", "new");
	exchange(&f, "a", "b");
	cr_expect(eq(int, unlink(at(&f, "b")), 0)); /* the new file: what was the old one's name stays with the old one */
	holds(f, "a", "old");
	close(fd);
	shows(f, "a", "old");
	shows(f, "b", "(none)");
	fd = create(&f, "c", "third");
	exchange(&f, "a", "c");
	exchange(&f, "a", "c");
	cr_expect(eq(int, rename(at(&f, "a"), at(&f, "d")), 0));
	close(fd);
	shows(f, "c", "third");
	shows(f, "d", "old");
	cr_expect(eq(int, mkdir(at(&f, "dir"), 0755), 0));
	cr_expect(eq(int, mkdir(at(&f, "dir/sub"), 0755), 0));
	fd = create(&f, "dir/e", "fourth");
	exchange(&f, "dir/e", "dir/sub");
	exchange(&f, "d", "dir");
	close(fd);
	FIXTURE_END(f);
}

Test(draft, truncate_to_the_size_that_it_has_changes_nothing)
{
	FIXTURE(f);
	struct stat before, after;
	put_file(&f, "a", "content");
	put_file(&f, "b", "");
	sync_all(&f);
	unsigned long versions = atomic_load(&f.versions);
	cr_expect(eq(int, stat(at(&f, "a"), &before), 0));
	cr_expect(eq(int, truncate(at(&f, "a"), 7), 0));
	cr_expect(eq(int, truncate(at(&f, "b"), 0), 0));
	sync_all(&f);
	cr_expect(eq(ulong, atomic_load(&f.versions), versions));
	cr_expect(eq(int, stat(at(&f, "a"), &after), 0));
	cr_expect(eq(long, after.st_mtim.tv_nsec, before.st_mtim.tv_nsec));
	fixture_down(&f);
	fixture_up(&f); /* what the kernel knew is forgotten */
	cr_expect(eq(int, stat(at(&f, "a"), &after), 0));
	cr_expect(eq(long, after.st_mtim.tv_nsec, before.st_mtim.tv_nsec));
	FIXTURE_END(f);
}

/* Both names wait for one new file, and the target's old file has that done early. */
Test(draft, link_of_an_exchanged_new_file_can_be_renamed_back)
{
	FIXTURE(f);
	put_file(&f, "b", "old");
	int fd = create(&f, "a", "new");
	exchange(&f, "a", "b");
	cr_expect(eq(int, link(at(&f, "b"), at(&f, "c")), 0));
	cr_expect(eq(int, rename(at(&f, "c"), at(&f, "a")), 0));
	holds(f, "a", "new");
	close(fd);
	shows(f, "a", "new");
	shows(f, "b", "new");
	shows(f, "c", "(none)");
	FIXTURE_END(f);
}

Test(draft, directories_lose_names_that_wait_to_be_removed)
{
	FIXTURE(f);
	cr_expect(eq(int, mkdir(at(&f, "dir"), 0755), 0));
	put_file(&f, "dir/a", "old");
	sync_all(&f);
	int fd = create(&f, "dir/tmp", "new");
	cr_expect(eq(int, rename(at(&f, "dir/tmp"), at(&f, "dir/a")), 0));
	cr_expect(eq(int, rmdir(at(&f, "dir")), -1));
	cr_expect(eq(int, rename(at(&f, "dir/a"), at(&f, "b")), 0));
	cr_expect(eq(int, mkdir(at(&f, "dir2"), 0755), 0));
	cr_expect(eq(int, rename(at(&f, "dir2"), at(&f, "dir")), 0));
	cr_expect(eq(int, rmdir(at(&f, "dir")), 0));
	close(fd);
	shows(f, "b", "new");
	struct stat st;
	cr_expect(eq(int, stat(f.mountpoint, &st), 0));
	cr_expect(eq(long, (long)st.st_nlink, 2));
	FIXTURE_END(f);
}

Test(draft, attributes_of_a_file_being_written_are_published_with_it)
{
	FIXTURE(f);
	put_file(&f, "a", "old");
	int fd = open(at(&f, "a"), O_WRONLY | O_APPEND);
	add(fd, "er");
	cr_expect(eq(int, shell(&f, "setfattr -n user.k -v 1 a"), 0));
	shows(f, "a", "old");
	cr_expect(eq(int, unlink(at(&f, "a")), 0));
	cr_expect(eq(int, ftruncate(fd, 100000), 0));
	close(fd);
	shows(f, "a", "(none)");
	FIXTURE_END(f);
}

/* A random walk over few names, many of them open: whatever comes, the mount and the store agree in the end. */
Test(draft, random_walk)
{
	FIXTURE(f);
	static const char *const names[] = { "a", "b", "c", "d/a", "d/b", "e" };
	int fds[8];
	memset(fds, -1, sizeof(fds));
	cr_expect(eq(int, mkdir(at(&f, "d"), 0755), 0));
	unsigned seed = 4711;
	for (int i = 0; i < 4000; i++) {
		const char *a = names[(unsigned)rand_r(&seed) % ARRAY_SIZE(names)], *b = names[(unsigned)rand_r(&seed) % ARRAY_SIZE(names)];
		int *fd = &fds[(unsigned)rand_r(&seed) % ARRAY_SIZE(fds)];
		switch (rand_r(&seed) % 9) {
		case 0:
		case 1:
			if (*fd >= 0)
				close(*fd);
			*fd = open(at(&f, a), O_CREAT | O_RDWR, 0644);
			break;
		case 2:
			if (*fd >= 0)
				add(*fd, a);
			break;
		case 3:
			renameat2(AT_FDCWD, at(&f, a), AT_FDCWD, at(&f, b), 0);
			break;
		case 4:
			renameat2(AT_FDCWD, at(&f, a), AT_FDCWD, at(&f, b), RENAME_EXCHANGE);
			break;
		case 5:
			if (link(at(&f, a), at(&f, b)) < 0)
				unlink(at(&f, b));
			break;
		case 6:
			if (rand_r(&seed) % 4 == 0 && *fd >= 0)
				fsync(*fd);
			break;
		case 7:
			if (mkdir(at(&f, a), 0755) < 0)
				rmdir(at(&f, a));
			break;
		case 8:
			if (*fd >= 0)
				close(*fd);
			*fd = -1;
			break;
		}
	}
	cr_expect(eq(int, atomic_load(&f.ended), 0));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	FIXTURE_END(f);
}
