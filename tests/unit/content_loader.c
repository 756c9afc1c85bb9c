/* Content that is not in memory: a loader delivers the same bytes as content_read, and does not leave them in the page cache. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

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

static struct fixture f;
static struct loader *loader;
static struct buffer got;

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
