/* The mount as a file system: what is written is there again after a remount, a kill, or a full disk; lists, names, sparse files, trees. */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include "tests/unit/mount_master_fixture.h"

static void remount(struct fixture *f)
{
	fixture_down(f);
	fixture_up(f);
}

/* R1.1, F7: a tree with everything in it survives. */
Test(files, tree_survives_a_remount, .timeout = 60)
{
	FIXTURE(f);
	cr_expect(eq(int, shell(&f, "cp -a /usr/include/linux /usr/include/x86_64-linux-gnu/sys . && mkfifo fifo && mknod null c 1 3 && "
				    "ln -s /no/where link && setfattr -n user.key -v value null sys 2>/dev/null; setfacl -m u:1:rw linux/acct.h; "
				    "setfacl -d -m g:2:rx sys; chmod 1777 sys; touch -d '1999-12-31 23:59:59.987654321' sys/types.h"), 0));
	remount(&f);
	cr_expect(eq(int, shell(&f, "diff -r /usr/include/linux linux"), 0));
	cr_expect(eq(int, shell(&f, "test -p fifo && test -c null && test $(readlink link) = /no/where"), 0));
	cr_expect(eq(int, shell(&f, "getfacl -c linux/acct.h | grep -q user:daemon:rw-"), 0));
	cr_expect(eq(int, shell(&f, "test $(stat -c %%a sys) = 1777"), 0));
	cr_expect(eq(int, shell(&f, "stat -c %%y sys/types.h | grep -q 1999-12-31.23:59:59.987654321"), 0));
	cr_expect(eq(int, shell(&f, "test -z \"$(rsync -aHAXin --timeout=20 --checksum --delete /usr/include/linux/ linux/ | grep -v acct.h)\""), 0));
	FIXTURE_END(f);
}

Test(files, default_lists_and_umask_shape_new_nodes)
{
	FIXTURE(f);
	cr_expect(eq(int, shell(&f, "umask 027 && mkdir plain && touch plain/file && test \"$(stat -c %%a plain plain/file | xargs)\" = '750 640'"), 0));
	cr_expect(eq(int, shell(&f, "mkdir acl && setfacl -d -m u:daemon:rwx acl && umask 077 && touch acl/file && mkdir acl/dir && "
				    "getfacl -c acl/file | grep -q '^user:daemon:rwx' && getfacl -c acl/dir | grep -q '^default:user:daemon:rwx'"), 0));
	cr_expect(eq(int, shell(&f, "chmod 600 acl/file && getfacl -c acl/file | grep -q '^mask::---'"), 0));
	cr_expect(eq(int, shell(&f, "mkdir shared && chgrp 1 shared && chmod 2775 shared && mkdir shared/sub && touch shared/file && "
				    "test \"$(stat -c '%%g %%a' shared/sub shared/file | xargs)\" = '1 2755 1 644'"), 0));
	FIXTURE_END(f);
}

Test(files, names_of_any_bytes)
{
	FIXTURE(f);
	char longest[257];
	memset(longest, 'x', 256);
	longest[256] = 0;
	cr_expect(eq(int, open(at(&f, longest), O_CREAT | O_WRONLY, 0644), -1));
	cr_expect(eq(int, errno, ENAMETOOLONG));
	longest[255] = 0;
	put_file(&f, longest, "long");
	put_file(&f, "new\nline", "n");
	put_file(&f, "\xff\xfe\x01", "bytes");
	remount(&f);
	holds(f, longest, "long");
	holds(f, "new\nline", "n");
	holds(f, "\xff\xfe\x01", "bytes");
	FIXTURE_END(f);
}

Test(files, sparse_files_stay_sparse)
{
	FIXTURE(f);
	const off_t far = (off_t)5 << 30;
	int fd = open(at(&f, "sparse"), O_CREAT | O_RDWR, 0644);
	cr_expect(eq(long, pwrite(fd, "end", 3, far), 3));
	cr_expect(eq(int, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0));
	close(fd);
	remount(&f);
	struct stat st;
	cr_expect(eq(int, stat(at(&f, "sparse"), &st), 0));
	cr_expect(eq(long, st.st_size, far + 3));
	cr_expect(lt(long, st.st_blocks, 1000));
	fd = open(at(&f, "sparse"), O_RDWR);
	char byte = 1;
	cr_expect(eq(long, pread(fd, &byte, 1, 4096), 1));
	cr_expect(eq(int, byte, 0));
	off_t data = lseek(fd, 0, SEEK_DATA);
	cr_expect(gt(long, data, far - (1 << 20)));
	cr_expect(le(long, data, far));
	cr_expect(eq(int, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, far, 3), 0));
	cr_expect(eq(long, pread(fd, &byte, 1, far), 1));
	cr_expect(eq(int, byte, 0));
	close(fd);
	FIXTURE_END(f);
}

Test(files, copy_file_range_shares)
{
	FIXTURE(f);
	cr_expect(eq(int, shell(&f, "head -c 20000000 /dev/urandom > a && cp --reflink=never a b && cmp a b && cat b b > c"), 0));
	int from = open(at(&f, "a"), O_RDONLY), to = open(at(&f, "d"), O_CREAT | O_RDWR, 0644);
	for (off_t left = 20000000; left > 0;) {
		ssize_t copied = copy_file_range(from, NULL, to, NULL, (size_t)left, 0);
		cr_assert(gt(long, copied, 0));
		left -= copied;
	}
	close(from);
	close(to);
	cr_expect(eq(int, shell(&f, "cmp a d"), 0));
	FIXTURE_END(f);
}

/* In a process of its own: a fault holds this process's memory map, which the serving thread may need to answer it. */
static bool write_mapped(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, 100000) < 0)
		return false;
	char *mapped = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd); /* the mapping keeps the file open for writing */
	if (mapped == MAP_FAILED)
		return false;
	memcpy(mapped + 50000, "hello", 5);
	if (msync(mapped, 100000, MS_SYNC) < 0)
		return false;
	memcpy(mapped + 99995, "world", 5);
	return munmap(mapped, 100000) == 0;
}

Test(files, mapped_writes_arrive)
{
	FIXTURE(f);
	pid_t pid = fork();
	if (pid == 0)
		_exit(write_mapped(at(&f, "m")) ? 0 : 1);
	int status;
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_expect(eq(int, status, 0));
	remount(&f);
	cr_expect(eq(int, shell(&f, "test \"$(tr -d '\\0' < m)\" = helloworld"), 0));
	FIXTURE_END(f);
}

#define MANY 20000

/* Every file is listed once, while those listed are removed. */
Test(files, listing_a_large_directory_while_deleting, .timeout = 60)
{
	FIXTURE(f);
	cr_expect(eq(int, mkdir(at(&f, "many"), 0755), 0));
	int dir = open(at(&f, "many"), O_RDONLY | O_DIRECTORY);
	char name[16];
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		cr_assert(eq(int, mknodat(dir, name, S_IFREG | 0644, 0), 0));
	}
	static bool seen[MANY];
	DIR *listing = fdopendir(dir);
	const struct dirent *entry;
	int count = 0;
	while ((entry = readdir(listing)) != NULL) {
		if (entry->d_name[0] != 'f')
			continue;
		int i = atoi(entry->d_name + 1);
		cr_assert(not(seen[i]));
		seen[i] = true;
		count++;
		cr_assert(eq(int, unlinkat(dirfd(listing), entry->d_name, 0), 0));
	}
	cr_expect(eq(int, count, MANY));
	closedir(listing);
	cr_expect(eq(int, rmdir(at(&f, "many")), 0));
	FIXTURE_END(f);
}

/* F7: what fsync confirmed survives SIGKILL, and so does the mountpoint: the next mount replaces the dead one. */
Test(files, synced_data_survives_a_kill)
{
	if (!fixture_possible())
		cr_skip_test("needs root and FUSE");
	struct fixture f;
	fixture_dir(&f);
	int ready[2];
	cr_assert(eq(int, pipe(ready), 0));
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fixture_up(&f);
		write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	char byte;
	cr_assert(eq(long, read(ready[0], &byte, 1), 1));
	for (int i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%d", i);
		int fd = open(at(&f, name), O_CREAT | O_WRONLY, 0644);
		cr_assert(eq(long, write(fd, name, strlen(name)), (long)strlen(name)));
		cr_assert(eq(int, fsync(fd), 0));
		if (i < 40)
			close(fd);
		else
			cr_assert(eq(long, write(fd, "+", 1), 1));
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	struct stat st;
	cr_expect(eq(int, stat(f.mountpoint, &st), -1));
	cr_expect(eq(int, errno, ENOTCONN));
	fixture_up(&f);
	for (int i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%d", i);
		holds(f, name, name);
	}
	FIXTURE_END(f);
}

Test(files, sync_close_waits_until_published)
{
	FIXTURE(f);
	fixture_down(&f);
	f.options.sync_close = true;
	f.options.publish_delay_ms = 60000;
	fixture_up(&f);
	for (int i = 0; i < 20; i++) {
		char text[32];
		snprintf(text, sizeof(text), "text %d", i);
		put_file(&f, "a", text);
		cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, "a"), text));
	}
	FIXTURE_END(f);
}

/* Inode numbers are those of a mount: what a process has open elsewhere is no copy of what it closes. */
Test(files, sync_close_is_not_misled_by_another_mount)
{
	FIXTURE(f);
	FIXTURE(other);
	fixture_down(&f);
	f.options.sync_close = true;
	f.options.publish_delay_ms = 60000;
	fixture_up(&f);
	struct stat st, other_st;
	int fd = open(at(&other, "a"), O_CREAT | O_WRONLY, 0644);
	cr_assert(eq(int, fstat(fd, &other_st), 0));
	put_file(&f, "a", "text");
	cr_assert(eq(int, stat(at(&f, "a"), &st), 0));
	cr_assert(eq(ulong, st.st_ino, other_st.st_ino));
	cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, "a"), "text"));
	close(fd);
	FIXTURE_END(f);
	FIXTURE_END(other);
}

/* F7: without waiting, and without company, a change is announced. (How soon 'make bench' measures.) */
Test(files, close_is_published_by_itself, .timeout = 60)
{
	FIXTURE(f);
	usleep(100000);
	for (int i = 0; i < 10; i++) {
		char text[32];
		snprintf(text, sizeof(text), "text %d", i);
		put_file(&f, "a", text);
		for (int waited = 0; waited < 100 && strcmp(published_text(&f, "a"), text) != 0; waited++)
			usleep(50000);
		cr_expect(eq(str, (char *)(uintptr_t)published_text(&f, "a"), text));
	}
	FIXTURE_END(f);
}

/* F8: the caller hears of a full disk, what was there stays, and removing things makes room again. */
Test(files, full_disk, .timeout = 60)
{
	if (!fixture_possible())
		cr_skip_test("needs root and FUSE");
	struct fixture f;
	fixture_dir(&f);
	cr_assert(eq(int, mkdir(f.state, 0700), 0));
	cr_assert(eq(int, mount("tmpfs", f.state, "tmpfs", 0, "size=48m"), 0));
	f.options.retain_versions = 1;
	f.options.retain_ms = 0;
	fixture_up(&f);
	put_file(&f, "kept", "kept");
	cr_expect(ne(int, shell(&f, "dd if=/dev/urandom of=big bs=1M count=100 conv=fsync 2>/dev/null"), 0));
	cr_expect(eq(int, atomic_load(&f.ended), 0));
	cr_expect(ne(int, shell(&f, "for i in $(seq 2000); do head -c 30000 /dev/urandom > small$i || exit 1; done 2>/dev/null"), 0));
	holds(f, "kept", "kept");
	cr_expect(eq(int, shell(&f, "rm -f big small*"), 0));
	sync_all(&f);
	int ret = -1;
	for (int i = 0; i < 100 && ret != 0; i++) {
		usleep(50000);
		ret = shell(&f, "dd if=/dev/urandom of=again bs=1M count=5 conv=fsync 2>/dev/null");
	}
	cr_expect(eq(int, ret, 0));
	cr_expect(eq(int, atomic_load(&f.ended), 0));
	holds(f, "kept", "kept");
	fixture_down(&f);
	cr_expect(eq(int, umount(f.state), 0));
	fixture_remove(&f);
}

/* R1.3, retention: the horizon follows, versions within it stay. */
Test(files, old_versions_are_retired)
{
	FIXTURE(f);
	fixture_down(&f);
	f.options.retain_versions = 5;
	f.options.retain_ms = 0;
	fixture_up(&f);
	for (int i = 0; i < 50; i++) {
		put_file(&f, "a", i % 2 ? "odd" : "even");
		sync_all(&f);
	}
	version_t horizon = 0, current = 0;
	for (int i = 0; i < 100 && current - horizon != 4; i++) {
		struct txn *txn;
		usleep(50000);
		cr_assert(eq(int, txn_begin_read(f.store, &txn), 0));
		horizon = txn_state(txn)->horizon;
		current = txn_state(txn)->current;
		txn_abort(txn);
	}
	cr_expect(eq(ulong, current - horizon, 4));
	FIXTURE_END(f);
}

Test(files, wrong_mountpoints_are_refused)
{
	FIXTURE(f);
	fixture_down(&f);
	struct store_options options = { .dir = f.state, .role = STORE_MASTER };
	struct master_mount_listener listener = { .user = &f, .published = fixture_published, .ended = fixture_ended };
	static const struct {
		const char *mountpoint;
		int error;
	} cases[] = { { "/no/such/directory", -ENOENT }, { "/etc/passwd", -ENOTDIR }, { "/etc", -ENOTEMPTY } };
	cr_assert(eq(int, store_open(&options, &f.store), 0));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		f.options.mountpoint = cases[i].mountpoint;
		cr_assert(eq(int, master_mount_new(f.store, &f.options, &listener, &f.mount), 0));
		cr_expect(eq(int, master_mount_start(f.mount), cases[i].error));
		master_mount_free(f.mount);
	}
	f.options.mountpoint = f.state;
	cr_assert(eq(int, master_mount_new(f.store, &f.options, &listener, &f.mount), 0));
	cr_expect(eq(int, master_mount_start(f.mount), -EINVAL));
	master_mount_free(f.mount);
	store_close(f.store);
	fixture_remove(&f);
}

/* F7: what was closed is there, though its release may not have come before the end. */
Test(files, unmounted_from_outside_ends_cleanly, .timeout = 60)
{
	FIXTURE(f);
	for (int round = 0; round < 20; round++) {
		char text[32];
		snprintf(text, sizeof(text), "text %d", round);
		put_file(&f, "a", text);
		cr_expect(eq(int, umount2(f.mountpoint, 0), 0));
		for (int i = 0; i < 1000 && !atomic_load(&f.ended); i++)
			usleep(10000);
		cr_expect(eq(int, atomic_load(&f.ended), 1));
		remount(&f);
		holds(f, "a", text);
	}
	FIXTURE_END(f);
}

Test(files, errors_are_those_of_posix)
{
	FIXTURE(f);
	put_file(&f, "file", "x");
	cr_expect(eq(int, shell(&f, "mkdir -p dir/sub"), 0));
#define fails(call, number)                        \
	do {                                       \
		cr_expect(eq(int, call, -1));      \
		cr_expect(eq(int, errno, number)); \
	} while (0)
	fails(mkdir(at(&f, "file"), 0755), EEXIST);
	fails(rmdir(at(&f, "dir")), ENOTEMPTY);
	fails(rmdir(at(&f, "file")), ENOTDIR);
	fails(unlink(at(&f, "dir")), EISDIR);
	fails(unlink(at(&f, "none")), ENOENT);
	fails(rename(at(&f, "file"), at(&f, "dir")), EISDIR);
	fails(rename(at(&f, "dir"), at(&f, "file")), ENOTDIR);
	fails(rename(at(&f, "dir"), at(&f, "dir/sub/x")), EINVAL);
	fails(rename(at(&f, "dir/sub"), at(&f, "dir")), ENOTEMPTY);
	fails(renameat2(AT_FDCWD, at(&f, "file"), AT_FDCWD, at(&f, "dir"), RENAME_NOREPLACE), EEXIST);
	fails(renameat2(AT_FDCWD, at(&f, "file"), AT_FDCWD, at(&f, "none"), RENAME_EXCHANGE), ENOENT);
	fails(link(at(&f, "dir"), at(&f, "dir2")), EPERM);
	fails(symlink("", at(&f, "empty")), ENOENT);
	fails(truncate(at(&f, "dir"), 0), EISDIR);
	fails(open(at(&f, "file"), O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
#undef fails
	cr_expect(eq(int, shell(&f, "setfattr -n user.k -v 1 file && setfattr -x user.k file && ! setfattr -x user.k file 2>/dev/null"), 0));
	FIXTURE_END(f);
}
