/* Content that is not in memory: a loader delivers the same bytes as content_read, and does not leave them in the page cache. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "content_fixture.h"
#include "drsfs/error.h"
#include "store/content.h"
#include "store/loader.h"

#define MIB ((size_t)1 << 20)

struct file {
	struct node node;
	struct buffer storage;
	uint8_t *bytes;
	size_t size;
};

/* What the kernel answers to requests for asynchronous reading, if it is not what it says itself. */
static struct {
	long submits, submits_max; /* further ones: EAGAIN */
	int64_t result;            /* of each */
	bool no_context;
	off_t bad_from, bad_to;    /* cannot be read by pread */
} kernel;

static struct fixture f;
static struct loader *loader;
static struct buffer got;

static long answer_submit(long (*real)(long, ...), long context, long count, struct iocb **requests)
{
	if (kernel.submits_max && kernel.submits >= kernel.submits_max) {
		errno = EAGAIN;
		return -1;
	}
	kernel.submits++;
	return real(SYS_io_submit, context, kernel.submits_max ? 1 : count, requests);
}

static long answer_events(long (*real)(long, ...), long context, long min, long max, struct io_event *events)
{
	long count = real(SYS_io_getevents, context, min, max, events, NULL);

	for (long i = 0; kernel.result && i < count; i++)
		events[i].res = kernel.result;
	return count;
}

/* Instead of the C library's. */
long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long a[6];
	va_list list;

	va_start(list, number);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_io_submit)
		return answer_submit(real, a[0], a[1], (struct iocb **)a[2]);
	if (number == SYS_io_getevents)
		return answer_events(real, a[0], a[1], a[2], (struct io_event *)a[3]);
	if (number == SYS_io_setup && kernel.no_context) {
		errno = EAGAIN;
		return -1;
	}
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t pread(int fd, void *at, size_t size, off_t offset)
{
	if (offset < kernel.bad_to && offset + (off_t)size > kernel.bad_from) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, at, size, offset);
}

static int collect(void *user, const void *data, size_t size)
{
	void *at = buffer_grow(user, size);

	if (data)
		memcpy(at, data, size);
	else
		memset(at, 0, size);
	return 0;
}

/* With a hole of 700,000 bytes in the middle if it is large. */
static void make_file(struct file *file, ino_id ino, size_t size)
{
	static const struct node empty = { .mode = S_IFREG };
	size_t hole = size > 4 * MIB ? 700000 : 0, half = size / 2;
	struct content_edit *edit;

	*file = (struct file){ .bytes = calloc(1, size), .size = size };
	for (size_t i = 0; i < size; i++)
		file->bytes[i] = (uint8_t)(i < half || i >= half + hole ? random_u64() >> 32 : 0);
	cr_assert(eq(int, content_edit_new(&empty, &edit), 0));
	cr_assert(eq(int, content_edit_write(edit, f.txn, 0, file->bytes, half), 0));
	cr_assert(eq(int, content_edit_write(edit, f.txn, half + hole, file->bytes + half + hole, size - half - hole), 0));
	file->node = (struct node){ .mode = S_IFREG | 0600, .nlink = 1 };
	cr_assert(eq(int, content_edit_save(edit, f.txn, &file->node, &file->storage), 0));
	fixture_put_node(&f, ino, &file->node);
	content_edit_free(edit);
}

static int open_data(int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/data.mdb", f.dir);
	int fd = open(path, flags);
	cr_assert(ge(int, fd, 0));
	return fd;
}

/* What is mapped stays in memory, so the store is opened anew. */
static void make_cold(void)
{
	struct store_options options = { .dir = f.dir, .read_only = true };

	loader_free(loader);
	txn_abort(f.txn);
	store_close(f.store);
	int fd = open_data(O_RDONLY);
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	cr_assert(eq(int, store_open(&options, &f.store), 0));
	cr_assert(eq(int, txn_begin_read(f.store, &f.txn), 0));
	cr_assert(eq(int, loader_new(f.store, &loader), 0));
}

static size_t pages_in_memory(void)
{
	int fd = open_data(O_RDONLY);
	size_t size = (size_t)lseek(fd, 0, SEEK_END), count = 0;
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char *in = malloc(size / 4096 + 1);

	cr_assert(eq(int, mincore(map, size, in), 0));
	for (size_t i = 0; i < size / 4096; i++)
		count += in[i] & 1;
	free(in);
	munmap(map, size);
	close(fd);
	return count;
}

static int load(const struct file *file, size_t offset, size_t size)
{
	buffer_clear(&got);
	return loader_read(loader, f.txn, &file->node, offset, size, collect, &got);
}

static void check_range(const struct file *file, size_t offset, size_t size)
{
	size_t there = offset >= file->size ? 0 : size < file->size - offset ? size : file->size - offset;

	cr_assert(eq(int, load(file, offset, size), 0));
	cr_assert(eq(sz, got.size, there), "%zu at %zu", size, offset);
	cr_assert(there == 0 || memcmp(got.data, file->bytes + offset, there) == 0, "%zu at %zu", size, offset);
}

static void begin(void)
{
	random_init(21);
	fixture_open(&f);
}

static void end(void)
{
	loader_free(loader);
	buffer_fini(&got);
	fixture_close(&f);
}

static void file_free(struct file *file)
{
	buffer_fini(&file->storage);
	free(file->bytes);
}

TestSuite(loader, .init = begin, .fini = end, .timeout = 60);

Test(loader, any_range_is_what_was_written)
{
	static const size_t sizes[] = { 12 * MIB + 777, 300000, 40000, 3000, 100 };
	struct file files[ARRAY_SIZE(sizes)];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		make_file(&files[i], 2 + i, sizes[i]);
	fixture_commit(&f);
	for (int round = 0; round < 6; round++) {
		make_cold();
		check_range(&files[0], (size_t)round * MIB, MIB);
		for (int i = 0; i < 60; i++) {
			const struct file *file = &files[random_u64() % ARRAY_SIZE(sizes)];
			check_range(file, random_below(file->size + 10), 1 + random_below(MIB));
		}
	}
	for (size_t at = 0; at < files[0].size; at += MIB) /* also what is partly in memory by now */
		check_range(&files[0], at, MIB);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		file_free(&files[i]);
}

/* As no edit leaves it, but as a list may say. */
static void make_pieces(struct file *file, ino_id ino, size_t count, size_t size)
{
	struct entry entry = { .kind = ENTRY_DATA, .length = size };

	*file = (struct file){ .bytes = malloc(count * size), .size = count * size };
	random_bytes(file->bytes, file->size);
	for (size_t at = 0; at < file->size; at += size) {
		cr_assert(eq(int, chunk_put(f.txn, false, (struct slice){ file->bytes + at, size }, &entry.id), 0));
		entry_encode(&entry, &file->storage);
	}
	file->node = (struct node){ .mode = S_IFREG | 0600, .nlink = 1, .size = file->size, .content_kind = CONTENT_LIST };
	file->node.content = buffer_slice(&file->storage);
	fixture_put_node(&f, ino, &file->node);
}

Test(loader, so_is_what_is_too_much_for_one_load)
{
	struct file pieces, large;

	make_pieces(&pieces, 2, 600, 300);
	make_file(&large, 3, 12 * MIB);
	fixture_commit(&f);
	make_cold();
	check_range(&pieces, 0, pieces.size);
	check_range(&large, 0, 2 * MIB + 1);
	check_range(&large, 2 * MIB + 1, 8 * MIB);
	file_free(&pieces);
	file_free(&large);
}

Test(loader, what_is_read_from_disk_is_not_kept_twice)
{
	struct file file;

	make_file(&file, 2, 8 * MIB);
	fixture_commit(&f);
	make_cold();
	size_t before = pages_in_memory();
	if (before > 1000)
		cr_skip_test("this file system keeps all of it in memory");
	for (size_t at = 0; at < file.size; at += MIB)
		check_range(&file, at, MIB);
	if (kernel.submits < 2)
		cr_skip_test("this file system takes no such requests");
	cr_assert(lt(sz, pages_in_memory(), before + 500));
	file_free(&file);
}

/* A chunk that claims to be a list: not its bytes, and not from memory either. */
Test(loader, damage_is_an_error)
{
	struct file file;
	uint8_t list = 1;

	make_file(&file, 2, 300000);
	fixture_commit(&f);
	make_cold();
	int fd = open_data(O_RDWR);
	size_t size = (size_t)lseek(fd, 0, SEEK_END);
	uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	uint8_t *found = memmem(map, size, file.bytes, 64);
	cr_assert(found != NULL);
	cr_assert(eq(i64, pwrite(fd, &list, 1, found - 1 - map), 1));
	munmap(map, size);
	close(fd);
	for (int round = 0; round < 2; round++) {
		cr_assert(eq(int, load(&file, 0, 200000), -DRS_ECORRUPT));
		make_cold();
	}
	cr_assert(eq(int, load(&file, 100000, 1000), 0)); /* elsewhere */
	file_free(&file);
}

/* 4 MiB, half of it cold. */
static void make_cold_file(struct file *file)
{
	make_file(file, 2, 4 * MIB);
	fixture_commit(&f);
	make_cold();
	check_range(file, 3 * MIB, MIB);
	check_range(file, 2 * MIB, MIB);
	if (kernel.submits < 2)
		cr_skip_test("this file system keeps all of it in memory, or takes no such requests");
}

Test(loader, a_disk_that_refuses_is_read_by_the_page_cache)
{
	struct file file;

	make_cold_file(&file);
	kernel.result = -EINVAL;
	kernel.submits = 0;
	check_range(&file, 0, MIB);
	check_range(&file, MIB, MIB);
	cr_assert(eq(int, (int)kernel.submits, 1)); /* and is not asked again */
	file_free(&file);
}

Test(loader, a_disk_that_fails_is_an_error)
{
	struct file file;

	make_cold_file(&file);
	kernel.result = -EIO;
	cr_assert(eq(int, load(&file, 0, MIB), -EIO));
	kernel.result = 4096; /* cut short */
	cr_assert(eq(int, load(&file, 0, MIB), -EIO));
	kernel.result = 0;
	check_range(&file, 0, MIB);
	file_free(&file);
}

Test(loader, what_the_kernel_does_not_take_is_read_by_the_page_cache)
{
	struct file file;

	make_cold_file(&file);
	kernel.submits = 0;
	kernel.submits_max = 1;
	check_range(&file, 0, MIB);
	kernel.submits_max = 0;
	make_cold();
	kernel.no_context = true;
	check_range(&file, MIB, MIB);
	file_free(&file);
}

/* As when somebody puts a copy from elsewhere in its place. */
Test(loader, only_the_file_that_is_mapped_is_read)
{
	struct file file;
	char path[128], other[140];

	make_file(&file, 2, 4 * MIB);
	fixture_commit(&f);
	make_cold();
	snprintf(path, sizeof(path), "%s/data.mdb", f.dir);
	snprintf(other, sizeof(other), "%s.other", path);
	int from = open_data(O_RDONLY), to = open(other, O_RDWR | O_CREAT, 0600);
	size_t size = (size_t)lseek(from, 0, SEEK_END);
	cr_assert(eq(i64, pread(from, buffer_grow(&got, size), size, 0), (ssize_t)size));
	uint8_t *found = memmem(got.data, size, file.bytes, 64);
	cr_assert(found != NULL);
	found[100] ^= 1;
	cr_assert(eq(i64, pwrite(to, got.data, size, 0), (ssize_t)size));
	posix_fadvise(from, 0, 0, POSIX_FADV_DONTNEED);
	close(from);
	close(to);
	cr_assert(eq(int, rename(other, path), 0));
	loader_free(loader);
	cr_assert(eq(int, loader_new(f.store, &loader), 0));
	check_range(&file, 0, MIB);
	file_free(&file);
}

/* Where a list's row claims to be far longer than any chunk. */
Test(loader, a_damaged_length_does_no_harm)
{
	uint8_t key[17] = { 'c' }, high[2] = { 0, 1 }; /* 16 MiB more */
	struct file file;
	struct entry entry;

	make_file(&file, 2, 12 * MIB);
	struct reader r = reader_of(file.node.content);
	cr_assert(eq(int, entry_next(&r, &entry), 1));
	cr_assert(eq(int, entry.kind, ENTRY_LIST));
	memcpy(key + 1, entry.id.bytes, 16);
	fixture_commit(&f);
	make_cold();
	int fd = open_data(O_RDWR);
	size_t size = (size_t)lseek(fd, 0, SEEK_END);
	uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	uint8_t *found = memmem(map, size, key, sizeof(key));
	while (found && *(const uint16_t *)(const void *)(found - 2) != sizeof(key)) /* a key of that length stands behind */
		found = memmem(found + 1, size - (size_t)(found + 1 - map), key, sizeof(key));
	cr_assert(found != NULL);
	cr_assert(eq(i64, pwrite(fd, high, 2, found - 6 - map), 2));
	munmap(map, size);
	close(fd);
	check_range(&file, 0, 100000);
	file_free(&file);
}

/* Where the store's map is, that of our own process. */
static uint8_t *find_in_map(const void *bytes, size_t size, off_t *ret_offset)
{
	char line[512], path[128];
	unsigned long from = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	int fd = open_data(O_RDONLY);
	size_t whole = (size_t)lseek(fd, 0, SEEK_END);
	uint8_t *map = mmap(NULL, whole, PROT_READ, MAP_SHARED, fd, 0);
	uint8_t *found = memmem(map, whole, bytes, size);

	cr_assert(found != NULL);
	*ret_offset = found - map;
	munmap(map, whole);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	snprintf(path, sizeof(path), "%s/data.mdb", f.dir);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, path))
			from = strtoul(line, NULL, 16);
	fclose(maps);
	cr_assert(from != 0);
	return (uint8_t *)from + *ret_offset;
}

/* The bytes' first page from here on is one that the disk cannot read: touched it kills, as beyond the end of a mapped file. */
static void make_bad(const void *bytes, size_t size)
{
	off_t offset;
	uint8_t *at = find_in_map(bytes, size, &offset);
	FILE *empty = tmpfile();

	at -= offset % 4096;
	cr_assert(mmap(at, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fileno(empty), 0) == at);
	fclose(empty);
	kernel.bad_from = offset / 4096 * 4096;
	kernel.bad_to = kernel.bad_from + 4096;
}

Test(loader, a_bad_page_of_a_small_file_is_an_error)
{
	struct file file;

	make_file(&file, 2, 30000);
	fixture_commit(&f);
	make_cold();
	make_bad(file.bytes, 64);
	cr_assert(eq(int, load(&file, 0, file.size), -EIO));
	file_free(&file);
}

