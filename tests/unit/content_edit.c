/* Content against a plain array of bytes: random edits, saves, sharing; what a saved node says is what was written. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_fixture.h"
#include "store/content.h"

#define BLOCK 4096
#define MODEL_BYTES_MAX (6 << 20)
#define MODEL_BLOCKS (MODEL_BYTES_MAX / BLOCK)

/* --- the model: bytes, and which blocks hold data */

struct file {
	ino_id ino;
	struct content_edit *edit;
	struct node node;        /* as last saved */
	struct buffer storage;   /* of its content */
	uint8_t *saved;          /* what the node must read as */
	uint8_t *bytes;
	uint64_t size;
	bool data[MODEL_BLOCKS];
};

static void file_init(struct file *file, ino_id ino)
{
	*file = (struct file){ .ino = ino, .node = { .mode = S_IFREG | 0600, .nlink = 1 } };
	file->bytes = calloc(1, MODEL_BYTES_MAX);
	file->saved = calloc(1, MODEL_BYTES_MAX);
	cr_assert(eq(int, content_edit_new(&file->node, &file->edit), 0));
}

static void file_fini(struct file *file)
{
	content_edit_free(file->edit);
	buffer_fini(&file->storage);
	free(file->bytes);
	free(file->saved);
}

static void model_data(struct file *file, uint64_t from, uint64_t to)
{
	for (uint64_t b = from / BLOCK; from < to && b <= (to - 1) / BLOCK; b++)
		file->data[b] = true;
}

static void model_resize(struct file *file, uint64_t size)
{
	if (size < file->size) {
		memset(file->bytes + size, 0, file->size - size);
		for (uint64_t b = (size + BLOCK - 1) / BLOCK; b < MODEL_BLOCKS; b++)
			file->data[b] = false;
	}
	file->size = size;
}

static void model_write(struct file *file, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
	memcpy(file->bytes + offset, bytes, size);
	model_data(file, offset, offset + size);
	if (offset + size > file->size)
		file->size = offset + size;
}

/* --- comparing */

struct cursor {
	const uint8_t *bytes;
	uint64_t at;
	bool differs;
};

static int compare_piece(void *user, const void *data, size_t size)
{
	struct cursor *cursor = user;
	static const uint8_t zeros[BLOCK];
	if (data && memcmp(cursor->bytes + cursor->at, data, size))
		cursor->differs = true;
	for (size_t i = 0; !data && i < size; i += BLOCK)
		if (memcmp(cursor->bytes + cursor->at + i, zeros, size - i < BLOCK ? size - i : BLOCK))
			cursor->differs = true;
	cursor->at += size;
	return 0;
}

static void check_read(struct fixture *f, struct file *file, const struct node *node, const uint8_t *bytes, uint64_t size, uint64_t offset, size_t length)
{
	struct cursor cursor = { bytes, offset, false };
	uint64_t end = offset > size ? offset : length < size - offset ? offset + length : size;
	if (node)
		cr_assert(eq(int, content_read(f->txn, node, offset, length, compare_piece, &cursor), 0));
	else
		cr_assert(eq(int, content_edit_read(file->edit, f->txn, offset, length, compare_piece, &cursor), 0));
	cr_assert(eq(u64, cursor.at, end));
	cr_assert(not(cursor.differs));
}

static void check_seek(struct fixture *f, struct file *file, const struct node *node, uint64_t offset)
{
	uint64_t data = offset, hole = offset, found = 0;
	while (data < file->size && !file->data[data / BLOCK])
		data = (data / BLOCK + 1) * BLOCK;
	while (hole < file->size && file->data[hole / BLOCK])
		hole = (hole / BLOCK + 1) * BLOCK;
	if (hole > file->size)
		hole = file->size;
	int ret = node ? content_seek(f->txn, node, offset, SEEK_DATA, &found) : content_edit_seek(file->edit, f->txn, offset, SEEK_DATA, &found);
	cr_assert(eq(int, ret, data < file->size ? 0 : -ENXIO));
	if (ret == 0)
		cr_assert(eq(u64, found, data));
	ret = node ? content_seek(f->txn, node, offset, SEEK_HOLE, &found) : content_edit_seek(file->edit, f->txn, offset, SEEK_HOLE, &found);
	cr_assert(eq(int, ret, offset < file->size ? 0 : -ENXIO));
	if (ret == 0)
		cr_assert(eq(u64, found, hole));
}

static void check_edit(struct fixture *f, struct file *file)
{
	cr_assert(eq(u64, content_edit_size(file->edit), file->size));
	check_read(f, file, NULL, file->bytes, file->size, 0, SIZE_MAX);
	for (int i = 0; i < 4; i++) {
		uint64_t offset = random_below(file->size + 10);
		check_read(f, file, NULL, file->bytes, file->size, offset, random_below(200000));
		check_seek(f, file, NULL, offset);
	}
}

/* --- saving */

static void file_save(struct fixture *f, struct file *file)
{
	struct buffer record = BUFFER_INIT;
	struct node decoded;
	cr_assert(eq(int, content_edit_save(file->edit, f->txn, &file->node, &file->storage), 0));
	cr_assert(eq(u64, file->node.size, file->size));
	cr_assert(not(content_edit_changed(file->edit)));
	/* A small file is all data once it stands in its record. */
	if (file->node.content_kind == CONTENT_INLINE)
		file->data[0] = true;
	node_encode(&file->node, &record);
	cr_assert(eq(int, node_decode(buffer_slice(&record), &decoded), 0));
	check_read(f, file, &decoded, file->bytes, file->size, 0, SIZE_MAX);
	for (int i = 0; i < 8; i++) {
		uint64_t offset = random_below(file->size + 10);
		check_read(f, file, &decoded, file->bytes, file->size, offset, random_below(100000));
		check_seek(f, file, &decoded, offset);
	}
	fixture_put_node(f, file->ino, &file->node);
	memcpy(file->saved, file->bytes, MODEL_BYTES_MAX);
	buffer_fini(&record);
}

static void file_reopen(struct file *file)
{
	content_edit_free(file->edit);
	cr_assert(eq(int, content_edit_new(&file->node, &file->edit), 0));
}

/* --- random edits */

static void edit_write(struct fixture *f, struct file *file, uint64_t size_max)
{
	uint64_t offset = random_u64() % 4 ? random_below(file->size + 1) : random_below(size_max);
	if (random_u64() % 4 == 0)
		offset = file->size;
	uint64_t size = 1 + random_below(random_u64() % 8 ? 100000 : 1500000);
	if (offset >= size_max)
		return;
	if (offset + size > size_max)
		size = size_max - offset;
	uint8_t *bytes = malloc(size);
	random_bytes(bytes, size);
	if (random_u64() % 8 == 0)
		memset(bytes, (int)(random_u64() % 2), size);
	cr_assert(eq(int, content_edit_write(file->edit, f->txn, offset, bytes, size), 0));
	model_write(file, offset, bytes, size);
	free(bytes);
}

/* Data that ends in the middle of a block is followed by zeros, not by a hole, up to the block's end. */
static void model_extend(struct file *file, uint64_t size)
{
	if (size > file->size)
		file->size = size;
}

static void edit_truncate(struct fixture *f, struct file *file, uint64_t size_max)
{
	uint64_t size = random_u64() % 2 ? random_below(size_max) : random_below(file->size + 1);
	cr_assert(eq(int, content_edit_truncate(file->edit, f->txn, size), 0));
	if (size < file->size)
		model_resize(file, size);
	else
		model_extend(file, size);
}

static void edit_punch(struct fixture *f, struct file *file)
{
	uint64_t offset = random_below(file->size + 10), size = random_below(file->size + 100);
	if (random_u64() % 2)
		offset &= ~(uint64_t)(BLOCK - 1);
	cr_assert(eq(int, content_edit_punch(file->edit, f->txn, offset, size), 0));
	if (offset >= file->size)
		return;
	uint64_t end = size < file->size - offset ? offset + size : file->size;
	memset(file->bytes + offset, 0, end - offset);
	for (uint64_t b = (offset + BLOCK - 1) / BLOCK; (b + 1) * BLOCK <= end || (end == file->size && b * BLOCK < end); b++)
		file->data[b] = false;
}

static void edit_share(struct fixture *f, struct file *file, struct file *source, uint64_t size_max)
{
	uint64_t from = random_below(source->node.size + 1), size = random_u64() % 2 ? source->node.size - from : random_below(source->node.size + 1);
	uint64_t offset = random_u64() % 2 ? file->size : random_below(file->size + 5000);
	if (random_u64() % 2) {
		from &= ~(uint64_t)(BLOCK - 1);
		offset &= ~(uint64_t)(BLOCK - 1);
	}
	if (from + size > source->node.size)
		size = source->node.size - from;
	if (offset + size > size_max)
		return;
	uint64_t was = file->size;
	cr_assert(eq(int, content_edit_share(file->edit, f->txn, offset, &source->node, from, size), 0));
	if (size == 0)
		return;
	uint8_t *copy = malloc(size);
	memcpy(copy, source->saved + from, size);
	memcpy(file->bytes + offset, copy, size);
	free(copy);
	file->size = was > offset + size ? was : offset + size;
	/* Which blocks became data depends on where the source's holes lie; ask, then hold it to that. */
	for (uint64_t b = 0; b * BLOCK < file->size; b++) {
		uint64_t found;
		int ret = content_edit_seek(file->edit, f->txn, b * BLOCK, SEEK_DATA, &found);
		bool data = ret == 0 && found == b * BLOCK;
		if (b * BLOCK + BLOCK <= offset || b * BLOCK >= offset + size)
			cr_assert(eq(int, data, file->data[b]));
		file->data[b] = data;
	}
}

static void random_edits(uint64_t salt, uint64_t size_max, int steps)
{
	struct fixture f;
	struct file files[2];
	random_init(0x636f6e74 + salt);
	fixture_open(&f);
	file_init(&files[0], 2);
	file_init(&files[1], 3);
	for (int i = 0; i < steps; i++) {
		struct file *file = &files[random_u64() % 2];
		switch (random_u64() % 12) {
		case 0:
			edit_truncate(&f, file, size_max);
			break;
		case 1:
			edit_punch(&f, file);
			break;
		case 2:
			edit_share(&f, file, &files[random_u64() % 2], size_max);
			break;
		case 3:
			file_save(&f, file);
			break;
		case 4:
			file_save(&f, file);
			file_reopen(file);
			break;
		case 5:
			file_save(&f, &files[0]);
			file_save(&f, &files[1]);
			fixture_commit(&f);
			break;
		default:
			edit_write(&f, file, size_max);
			break;
		}
		check_edit(&f, file);
	}
	file_save(&f, &files[0]);
	file_save(&f, &files[1]);
	fixture_verify(&f, 3);
	file_fini(&files[0]);
	file_fini(&files[1]);
	fixture_close(&f);
}

Test(content, random_edits_of_tiny_files)
{
	random_edits(1, 3 * NODE_INLINE_BYTES_MAX, 2000);
}

Test(content, random_edits_of_small_files)
{
	random_edits(2, 200000, 600);
}

Test(content, random_edits_of_large_files)
{
	random_edits(3, MODEL_BYTES_MAX, 150);
}
