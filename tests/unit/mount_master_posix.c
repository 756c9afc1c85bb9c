/* What a local file system does, and a mount by FUSE does not of itself: files without a name, privileges that fall, times that stay as they were shown. (F1) */
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "tests/unit/mount_master_fixture.h"

static const mode_t MARKED = 06755; /* setuid and setgid */

/* The kernel knows nothing of what it has cached. */
static void cool(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	cr_assert(eq(long, write(fd, "2", 1), 1));
	close(fd);
}

static struct stat stat_of(struct fixture *f, const char *name)
{
	struct stat st;
	cr_assert(eq(int, stat(at(f, name), &st), 0));
	return st;
}

static int unnamed_new(struct fixture *f, const char *directory, int flags, mode_t mode)
{
	int fd = open(at(f, directory), O_TMPFILE | O_RDWR | flags, mode);
	if (fd < 0 && errno == EOPNOTSUPP)
		cr_skip_test("this kernel has no O_TMPFILE for FUSE");
	cr_assert(ge(int, fd, 0));
	return fd;
}

static int name_give(struct fixture *f, int fd, const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, AT_FDCWD, at(f, name), AT_SYMLINK_FOLLOW);
}

static void put(int fd, const char *text)
{
	cr_assert(eq(long, write(fd, text, strlen(text)), (long)strlen(text)));
}

/* F2: it is there, as a whole, when it is complete and has a name. */
Test(unnamed, is_published_with_its_first_name)
{
	FIXTURE(f);
	struct stat st;
	int fd = unnamed_new(&f, "", 0, 0640);
	put(fd, "whole");
	cr_expect(eq(int, fstat(fd, &st), 0));
	cr_expect(eq(int, (int)st.st_nlink, 0));
	cr_expect(eq(int, (int)st.st_mode, S_IFREG | 0640));
	cr_expect(eq(int, fsync(fd), 0));
	shows(f, "named", "(none)");
	cr_expect(eq(int, name_give(&f, fd, "named"), 0));
	cr_expect(eq(int, name_give(&f, fd, "again"), 0));
	cr_expect(eq(int, name_give(&f, fd, "again"), -1));
	cr_expect(eq(int, errno, EEXIST));
	shows(f, "named", "(none)");
	cr_expect(eq(int, fstat(fd, &st), 0));
	cr_expect(eq(int, (int)st.st_nlink, 2));
	close(fd);
	shows(f, "named", "whole");
	shows(f, "again", "whole");
	cool();
	holds(f, "named", "whole");
	FIXTURE_END(f);
}

Test(unnamed, can_be_named_when_nobody_writes_it_any_more)
{
	FIXTURE(f);
	char path[64];
	int fd = unnamed_new(&f, "", 0, 0644);
	put(fd, "read");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int reader = open(path, O_RDONLY);
	close(fd);
	sync_all(&f);
	cr_expect(eq(int, name_give(&f, reader, "named"), 0));
	shows(f, "named", "read");
	close(reader);
	FIXTURE_END(f);
}

Test(unnamed, leaves_nothing_if_it_gets_no_name)
{
	FIXTURE(f);
	sync_all(&f);
	unsigned long versions = atomic_load(&f.versions);
	int fd = unnamed_new(&f, "", O_EXCL, 0644), open_at_the_end = unnamed_new(&f, "", 0, 0644);
	put(fd, "gone");
	put(open_at_the_end, "gone, too");
	cr_expect(eq(int, fsetxattr(fd, "user.note", "n", 1, 0), 0));
	cr_expect(eq(int, name_give(&f, fd, "named"), -1));
	cr_expect(eq(int, errno, ENOENT));
	close(fd);
	sync_all(&f);
	cr_expect(eq(ulong, atomic_load(&f.versions), versions));
	close(open_at_the_end);
	FIXTURE_END(f);
}

/* A name that was taken away does not come back. */
Test(unnamed, is_named_no_more_once_its_names_are_gone)
{
	FIXTURE(f);
	int fd = unnamed_new(&f, "", 0, 0644);
	put(fd, "text");
	cr_expect(eq(int, name_give(&f, fd, "named"), 0));
	cr_expect(eq(int, unlink(at(&f, "named")), 0));
	cr_expect(eq(int, name_give(&f, fd, "named"), -1));
	cr_expect(eq(int, errno, ENOENT));
	close(fd);
	shows(f, "named", "(none)");
	FIXTURE_END(f);
}

Test(unnamed, is_made_as_its_directory_says)
{
	FIXTURE(f);
	struct stat st;
	cr_assert(eq(int, shell(&f, "mkdir -m 2775 group lists && chgrp 7 group && setfacl -d -m u:daemon:rwx lists"), 0));
	umask(077);
	int fd = unnamed_new(&f, "group", 0, 0666), listed = unnamed_new(&f, "lists", 0, 0666);
	umask(022);
	cr_expect(eq(int, fstat(fd, &st), 0));
	cr_expect(eq(int, (int)st.st_gid, 7));
	cr_expect(eq(int, (int)st.st_mode, S_IFREG | 0600));
	cr_expect(eq(int, name_give(&f, listed, "lists/file"), 0));
	cr_expect(eq(int, shell(&f, "getfacl -c lists/file | grep -q '^user:daemon:rwx'"), 0));
	close(fd);
	close(listed);
	cr_expect(eq(int, shell(&f, "getfacl -c lists/file | grep -q '^user:daemon:rwx'"), 0));
	FIXTURE_END(f);
}

/* Somebody who is not root truncates by opening. */
static void truncated_by_a_user(struct fixture *f, const char *name)
{
	pid_t child = fork();
	if (child == 0) {
		int fd = setresgid(1, 1, 1) < 0 || setresuid(1, 1, 1) < 0 ? -1 : open(at(f, name), O_WRONLY | O_TRUNC);
		_exit(fd < 0 || close(fd) < 0);
	}
	int status;
	cr_assert(eq(int, waitpid(child, &status, 0), child));
	cr_assert(eq(int, status, 0));
}

static void marked_new(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	put_file(f, name, text);
	cr_assert(eq(int, chmod(at(f, name), mode), 0));
}

#define mode_is(f, name, expected)                                                       \
	do {                                                                              \
		cr_expect(eq(int, (int)(stat_of(&f, name).st_mode & 07777), (int)expected)); \
		cool();                                                                   \
		cr_expect(eq(int, (int)(stat_of(&f, name).st_mode & 07777), (int)expected)); \
	} while (0)

Test(privileges, fall_when_a_user_truncates_by_opening)
{
	FIXTURE(f);
	cr_assert(eq(int, chmod(f.dir, 0755), 0));
	marked_new(&f, "full", "text", MARKED | 0022);
	marked_new(&f, "empty", "", MARKED | 0022);
	marked_new(&f, "mark", "text", S_ISGID | 0666); /* setgid without execution is no privilege */
	truncated_by_a_user(&f, "full");
	mode_is(f, "full", 0777);
	truncated_by_a_user(&f, "empty");
	mode_is(f, "empty", 0777);
	truncated_by_a_user(&f, "mark");
	mode_is(f, "mark", (S_ISGID | 0666));
	FIXTURE_END(f);
}

/* What counts is what it may do. */
Test(privileges, fall_when_a_root_without_privileges_does)
{
	FIXTURE(f);
	put_file(&f, "a", "text");
	cr_assert(eq(int, chmod(at(&f, "a"), MARKED), 0));
	pid_t child = fork();
	if (child == 0) {
		struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct data[2];
		bool ready = syscall(SYS_capget, &head, data) == 0;
		data[0].effective &= ~(1u << CAP_FSETID);
		ready = ready && syscall(SYS_capset, &head, data) == 0;
		_exit(!ready || close(open(at(&f, "a"), O_WRONLY | O_TRUNC)) < 0);
	}
	int status;
	cr_assert(eq(int, waitpid(child, &status, 0), child));
	cr_assert(eq(int, status, 0));
	cr_expect(eq(int, (int)stat_of(&f, "a").st_mode, S_IFREG | 0755));
	FIXTURE_END(f);
}

Test(privileges, stay_when_root_does)
{
	FIXTURE(f);
	marked_new(&f, "full", "text", MARKED);
	put_file(&f, "full", "other");
	mode_is(f, "full", MARKED);
	FIXTURE_END(f);
}

#define time_stays(f, name)                                                              \
	do {                                                                              \
		struct stat warm = stat_of(&f, name);                                     \
		cool();                                                                   \
		struct stat cold = stat_of(&f, name);                                     \
		cr_expect(eq(long, cold.st_ctim.tv_sec, warm.st_ctim.tv_sec));            \
		cr_expect(eq(long, cold.st_ctim.tv_nsec, warm.st_ctim.tv_nsec));          \
	} while (0)

/* The kernel gives a ctime of its own to what is linked, renamed and the like. */
Test(times, are_the_same_from_cold_caches)
{
	FIXTURE(f);
	put_file(&f, "file", "text");
	sync_all(&f);
	cr_expect(eq(int, link(at(&f, "file"), at(&f, "link")), 0));
	time_stays(f, "file");
	cr_expect(eq(int, rename(at(&f, "file"), at(&f, "moved")), 0));
	time_stays(f, "moved");
	cr_expect(eq(int, setxattr(at(&f, "moved"), "user.note", "n", 1, 0), 0));
	time_stays(f, "moved");
	cr_expect(eq(int, unlink(at(&f, "link")), 0));
	time_stays(f, "moved");
	FIXTURE_END(f);
}

static int move_covered(struct fixture *f, const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, at(f, from), AT_FDCWD, at(f, to), RENAME_WHITEOUT | flags);
}

/* Overlays move a file and cover where it was in one step. */
Test(names, moved_with_a_whiteout)
{
	FIXTURE(f);
	struct stat st;
	put_file(&f, "a", "text");
	put_file(&f, "b", "old");
	cr_assert(eq(int, mkdir(at(&f, "d"), 0755), 0));
	sync_all(&f);
	unsigned long versions = atomic_load(&f.versions);
	cr_expect(eq(int, move_covered(&f, "a", "b", RENAME_NOREPLACE), -1));
	cr_expect(eq(int, errno, EEXIST));
	cr_expect(eq(int, move_covered(&f, "a", "b", 0), 0));
	holds(f, "b", "text");
	shows(f, "b", "text");
	cr_expect(eq(ulong, atomic_load(&f.versions), versions + 1));
	st = stat_of(&f, "a");
	cr_expect(eq(int, (int)st.st_mode, S_IFCHR));
	cr_expect(eq(int, (int)st.st_rdev, 0));
	cr_expect(eq(int, (int)st.st_nlink, 1));
	cr_expect(eq(int, move_covered(&f, "d", "e", 0), 0));
	st = stat_of(&f, "d");
	cr_expect(eq(int, (int)st.st_mode, S_IFCHR));
	cr_expect(eq(int, (int)stat_of(&f, "").st_nlink, 3));
	int fd = open(at(&f, "b"), O_RDWR), new = open(at(&f, "new"), O_CREAT | O_WRONLY, 0644);
	put(new, "new");
	cr_expect(eq(int, rename(at(&f, "new"), at(&f, "b")), 0));
	cr_expect(eq(int, move_covered(&f, "b", "c", 0), 0)); /* one that waits, from above one that is published */
	st = stat_of(&f, "b");
	cr_expect(eq(int, (int)st.st_mode, S_IFCHR));
	close(new);
	close(fd);
	shows(f, "c", "new");
	cool();
	holds(f, "c", "new");
	st = stat_of(&f, "b");
	cr_expect(eq(int, (int)st.st_mode, S_IFCHR));
	FIXTURE_END(f);
}

static int open_by_handle(struct fixture *f, struct file_handle *handle)
{
	int mount = open(f->mountpoint, O_RDONLY | O_DIRECTORY);
	int fd = open_by_handle_at(mount, handle, O_RDONLY);
	int error = errno;
	close(mount);
	errno = error;
	return fd;
}

/* As file servers and watchers of whole file systems keep them. */
Test(handles, stand_for_what_the_kernel_has_forgotten)
{
	FIXTURE(f);
	struct {
		struct file_handle head;
		unsigned char bytes[MAX_HANDLE_SZ];
	} file = { .head.handle_bytes = MAX_HANDLE_SZ }, directory = file;
	int id;
	char path[64], target[PATH_MAX] = "";
	cr_assert(eq(int, shell(&f, "mkdir -p a/b && echo text >a/b/file"), 0));
	cr_assert(eq(int, name_to_handle_at(AT_FDCWD, at(&f, "a/b/file"), &file.head, &id, 0), 0));
	cr_assert(eq(int, name_to_handle_at(AT_FDCWD, at(&f, "a/b"), &directory.head, &id, 0), 0));
	fixture_down(&f);
	fixture_up(&f);
	int fd = open_by_handle(&f, &file.head);
	cr_expect(eq(long, read(fd, target, sizeof(target)), 5));
	close(fd);
	cr_expect(eq(int, rename(at(&f, "a/b"), at(&f, "c")), 0));
	cool();
	fd = open_by_handle(&f, &directory.head);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	cr_expect(gt(long, readlink(path, target, sizeof(target) - 1), 0));
	cr_expect(eq(str, target, (char *)(uintptr_t)at(&f, "c")));
	close(fd);
	cr_expect(eq(int, unlink(at(&f, "c/file")), 0));
	cool();
	cr_expect(eq(int, open_by_handle(&f, &file.head), -1));
	cr_expect(eq(int, errno, ESTALE));
	FIXTURE_END(f);
}

#define RACES 100

static atomic_bool racing;

static void *sync_on_and_on(void *user)
{
	while (atomic_load(&racing))
		fsync(*(int *)user);
	return NULL;
}

/* The kernel may tell the time of a change before it asks for the change. */
Test(times, of_content_are_the_same_from_cold_caches)
{
	FIXTURE(f);
	struct stat warm[RACES], cold;
	char name[32];
	for (int i = 0; i < RACES; i++) {
		pthread_t thread;
		snprintf(name, sizeof(name), "file-%d", i);
		int fd = open(at(&f, name), O_CREAT | O_RDWR, 0644);
		atomic_store(&racing, true);
		cr_assert(eq(int, pthread_create(&thread, NULL, sync_on_and_on, &fd), 0));
		for (off_t size = 1000; size < 20000; size += 1000)
			cr_expect(eq(int, fallocate(fd, 0, 0, size), 0));
		atomic_store(&racing, false);
		pthread_join(thread, NULL);
		close(fd);
		warm[i] = stat_of(&f, name);
	}
	cool();
	for (int i = 0; i < RACES; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		cold = stat_of(&f, name);
		cr_expect(eq(long, cold.st_mtim.tv_nsec, warm[i].st_mtim.tv_nsec));
		cr_expect(eq(long, cold.st_ctim.tv_nsec, warm[i].st_ctim.tv_nsec));
	}
	FIXTURE_END(f);
}

/* What is made and moved while it is being written is nothing that slaves see, or are asked about. */
Test(times, of_a_directory_wait_with_its_names)
{
	FIXTURE(f);
	cr_assert(eq(int, mkdir(at(&f, "two"), 0755), 0));
	cr_assert(eq(int, setxattr(at(&f, "two"), "user.drsfs.publish", "two-phase", 9, 0), 0));
	sync_all(&f);
	unsigned long versions = atomic_load(&f.versions);
	int fd = open(at(&f, "two/a"), O_CREAT | O_RDWR, 0644);
	put(fd, "text");
	cr_expect(eq(int, rename(at(&f, "two/a"), at(&f, "two/b")), 0));
	time_stays(f, "two");
	cr_expect(eq(int, link(at(&f, "two/b"), at(&f, "two/c")), 0));
	time_stays(f, "two");
	cr_expect(eq(int, close(fd), 0));
	holds(f, "two/c", "text");
	sync_all(&f);
	cr_expect(eq(ulong, atomic_load(&f.versions), versions + 1)); /* the one that was agreed upon */
	FIXTURE_END(f);
}

/* That it tells it later makes no version. */
Test(times, that_the_kernel_tells_wait_for_a_version)
{
	FIXTURE(f);
	put_file(&f, "file", "text");
	cr_expect(eq(int, link(at(&f, "file"), at(&f, "link")), 0));
	sync_all(&f);
	unsigned long versions = atomic_load(&f.versions);
	cool();
	sync_all(&f);
	cr_expect(eq(ulong, atomic_load(&f.versions), versions));
	FIXTURE_END(f);
}

/* What a copy is made by: what was written counts, though the kernel has not handed it over. */
Test(content, is_where_it_was_written_just_now)
{
	FIXTURE(f);
	int fd = open(at(&f, "file"), O_CREAT | O_RDWR, 0644), reader = open(at(&f, "file"), O_RDONLY);
	cr_expect(eq(int, ftruncate(fd, 1 << 20), 0));
	cr_expect(eq(int, fsync(fd), 0));
	for (off_t at = 300000; at < 1000000; at += 300000) {
		cr_expect(eq(long, pwrite(fd, "text", 4, at), 4));
		off_t data = lseek(reader, at - 10000, SEEK_DATA);
		cr_expect(ge(long, data, at - 10000));
		cr_expect(le(long, data, at));
		cr_expect(gt(long, lseek(reader, at, SEEK_HOLE), at));
	}
	cr_expect(eq(long, lseek(reader, 990000, SEEK_DATA), -1));
	cr_expect(eq(long, pwrite(fd, "text", 4, 2 << 20), 4));
	cr_expect(eq(long, lseek(reader, 0, SEEK_END), (2 << 20) + 4));
	cr_expect(ge(long, lseek(reader, 990000, SEEK_DATA), 990000));
	cr_expect(eq(long, lseek(reader, 2 << 20, SEEK_HOLE), (2 << 20) + 4));
	close(reader);
	close(fd);
	FIXTURE_END(f);
}

Test(content, more_than_the_disk_has_is_not_allocated)
{
	FIXTURE(f);
	int fd = open(at(&f, "file"), O_CREAT | O_RDWR, 0644);
	cr_expect(eq(int, fallocate(fd, 0, 0, 1 << 20), 0));
	cr_expect(eq(int, fallocate(fd, 0, 0, (off_t)1 << 50), -1));
	cr_expect(eq(int, errno, ENOSPC));
	cr_expect(eq(long, stat_of(&f, "file").st_size, 1 << 20));
	close(fd);
	FIXTURE_END(f);
}

Test(attributes, answer_as_elsewhere)
{
	FIXTURE(f);
	put_file(&f, "file", "text");
	const char *file = at(&f, "file");
	cr_expect(eq(int, setxattr(file, "user.new", "v", 1, XATTR_CREATE | XATTR_REPLACE), -1));
	cr_expect(eq(int, errno, ENODATA));
	cr_expect(eq(int, setxattr(file, "user.new", "v", 1, XATTR_CREATE), 0));
	cr_expect(eq(int, setxattr(file, "user.new", "v", 1, XATTR_CREATE), -1));
	cr_expect(eq(int, errno, EEXIST));
	cr_expect(eq(int, setxattr(file, "user.", "v", 1, 0), -1));
	cr_expect(eq(int, errno, EINVAL));
	cr_expect(eq(int, removexattr(file, "user.none"), -1));
	cr_expect(eq(int, errno, ENODATA));
	cr_expect(eq(int, removexattr(file, "system.posix_acl_access"), 0));
	FIXTURE_END(f);
}

/* A directory of 255 bytes at a time, as deep as a path may be: 4,095 bytes. */
Test(names, and_paths_may_be_as_long_as_elsewhere)
{
	FIXTURE(f);
	char path[PATH_MAX + 1] = "", longest[PATH_MAX + 1];
	size_t size = (size_t)snprintf(path, sizeof(path), "%s", f.mountpoint);
	while (size + 1 + NAME_MAX < PATH_MAX - 1) {
		path[size] = '/';
		memset(path + size + 1, 'n', NAME_MAX);
		path[size += 1 + NAME_MAX] = 0;
		cr_assert(eq(int, mkdir(path, 0755), 0));
	}
	memcpy(longest, path, size);
	longest[size] = '/';
	memset(longest + size + 1, 'f', PATH_MAX - 1 - size - 1);
	longest[PATH_MAX - 1] = 0;
	int fd = open(longest, O_CREAT | O_RDWR, 0644);
	cr_assert(ge(int, fd, 0));
	put(fd, "deep");
	close(fd);
	cool();
	cr_expect(eq(int, access(longest, R_OK), 0));
	longest[PATH_MAX - 1] = 'f';
	longest[PATH_MAX] = 0;
	cr_expect(eq(int, access(longest, F_OK), -1));
	cr_expect(eq(int, errno, ENAMETOOLONG));
	cr_expect(eq(int, symlink("b", at(&f, "a")), 0));
	cr_expect(eq(int, symlink("a", at(&f, "b")), 0));
	cr_expect(eq(int, access(at(&f, "a"), F_OK), -1));
	cr_expect(eq(int, errno, ELOOP));
	FIXTURE_END(f);
}

Test(attributes, unknown_requests_are_none)
{
	FIXTURE(f);
	long flags = 0;
	int fd = open(at(&f, "file"), O_CREAT | O_RDWR, 0644);
	cr_expect(eq(int, ioctl(fd, FS_IOC_GETFLAGS, &flags), -1));
	cr_expect(eq(int, errno, ENOTTY));
	cr_expect(eq(int, ioctl(fd, _IO('d', 200)), -1));
	cr_expect(eq(int, errno, ENOTTY));
	close(fd);
	FIXTURE_END(f);
}
