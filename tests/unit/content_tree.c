/* The shape of content: where it is cut, what two versions of a file share, deep trees, and trees that somebody damaged. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content_fixture.h"
#include "drsfs/error.h"
#include "store/content.h"

#define MIB ((size_t)1 << 20)
#define BLOCK 4096

struct saved {
	struct node node;
	struct buffer storage;
};

static void save(struct fixture *f, struct content_edit *edit, ino_id ino, struct saved *saved)
{
	saved->node.mode = S_IFREG | 0600;
	saved->node.nlink = 1;
	cr_assert(eq(int, content_edit_save(edit, f->txn, &saved->node, &saved->storage), 0));
	fixture_put_node(f, ino, &saved->node);
}

static struct content_edit *edit_of(const struct node *node)
{
	static const struct node empty = { .mode = S_IFREG };
	struct content_edit *edit;
	cr_assert(eq(int, content_edit_new(node ? node : &empty, &edit), 0));
	return edit;
}

static bool same_content(const struct saved *a, const struct saved *b)
{
	return a->node.size == b->node.size && a->node.content_kind == b->node.content_kind && a->storage.size == b->storage.size &&
	       (a->storage.size == 0 || !memcmp(a->storage.data, b->storage.data, a->storage.size));
}

static uint8_t *random_block(size_t size)
{
	uint8_t *bytes = malloc(size);
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t v = random_u64();
		memcpy(bytes + i, &v, 8);
	}
	return bytes;
}

static void write_all(struct fixture *f, struct content_edit *edit, const uint8_t *bytes, size_t size)
{
	for (size_t at = 0, part; at < size; at += part) {
		part = size - at < MIB ? size - at : MIB;
		cr_assert(eq(int, content_edit_write(edit, f->txn, content_edit_size(edit), bytes + at, part), 0));
	}
}

/* --- cutting */

Test(cut, lengths_keep_their_bounds_and_depend_on_the_bytes_alone)
{
	random_init(11);
	size_t size = 8 * MIB, chunks = 0;
	uint8_t *bytes = random_block(size);
	for (size_t at = 0, length; at < size; at += length, chunks++) {
		size_t left = size - at;
		length = cut_length(bytes + at, left, true);
		cr_assert(le(sz, length, CUT_BYTES_MAX));
		cr_assert(length == left || length >= CUT_BYTES_MIN);
		/* Bytes behind the cut do not matter, nor whether there are any, unless it was the end that cut. */
		if (length < left) {
			cr_assert(eq(sz, cut_length(bytes + at, length, false), length));
			cr_assert(eq(sz, cut_length(bytes + at, length - 1, false), 0));
		}
	}
	cr_assert(ge(sz, size / chunks, 24 << 10));
	cr_assert(le(sz, size / chunks, 44 << 10));
	cr_assert(eq(sz, cut_length(bytes, 100, false), 0));
	cr_assert(eq(sz, cut_length(bytes, 100, true), 100));
	memset(bytes, 0, size);
	cr_assert(eq(sz, cut_length(bytes, size, false), CUT_BYTES_MAX));
	free(bytes);
}

/* The table is part of the format: this must never change. */
Test(cut, known_bytes_are_cut_at_known_places)
{
	static uint8_t bytes[256 << 10];
	uint64_t v = 1;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		v = v * 6364136223846793005 + 1442695040888963407;
		bytes[i] = (uint8_t)(v >> 56);
	}
	static const size_t known[] = { 30784, 30533, 44661, 58019, 58558, 15791, 23798 };
	for (size_t i = 0, at = 0; i < ARRAY_SIZE(known); at += known[i++])
		cr_assert(eq(sz, cut_length(bytes + at, sizeof(bytes) - at, true), known[i]));
}

/* --- canonical content */

/* However a file is written from its start to its end, and whenever it is saved meanwhile, the content is the same. */
Test(content, sequential_writes_give_one_content)
{
	struct fixture f;
	struct saved whole = { 0 }, parts = { 0 };
	random_init(12);
	fixture_open(&f);
	size_t size = 24 * MIB + 12345;
	uint8_t *bytes = random_block(size);
	struct content_edit *edit = edit_of(NULL);
	write_all(&f, edit, bytes, size);
	save(&f, edit, 2, &whole);
	content_edit_free(edit);

	edit = edit_of(NULL);
	for (size_t at = 0, part; at < size; at += part) {
		part = 1 + random_below(400000);
		if (part > size - at)
			part = size - at;
		cr_assert(eq(int, content_edit_write(edit, f.txn, at, bytes + at, part), 0));
		cr_assert(le(sz, content_edit_bytes(edit), EDIT_BYTES_MAX + MIB));
		if (random_u64() % 8 == 0)
			save(&f, edit, 3, &parts);
		if (random_u64() % 32 == 0)
			fixture_commit(&f);
		if (random_u64() % 16 == 0) {
			save(&f, edit, 3, &parts);
			content_edit_free(edit);
			edit = edit_of(&parts.node);
		}
	}
	save(&f, edit, 3, &parts);
	cr_assert(same_content(&whole, &parts));

	/* Written over with the same bytes, and shortened to what it was: the same. */
	write_all(&f, edit, bytes, MIB);
	for (size_t at = 0; at < size; at += MIB)
		cr_assert(eq(int, content_edit_write(edit, f.txn, at, bytes + at, size - at < MIB ? size - at : MIB), 0));
	cr_assert(eq(int, content_edit_truncate(edit, f.txn, size), 0));
	save(&f, edit, 3, &parts);
	cr_assert(same_content(&whole, &parts));

	/* Down to nearly nothing and up again. */
	cr_assert(eq(int, content_edit_truncate(edit, f.txn, 1000), 0));
	save(&f, edit, 3, &parts);
	cr_assert(eq(int, parts.node.content_kind, CONTENT_INLINE));
	write_all(&f, edit, bytes + 1000, size - 1000);
	save(&f, edit, 3, &parts);
	cr_assert(same_content(&whole, &parts));

	/* Copied by sharing, in pieces that fit nothing. */
	struct content_edit *copy = edit_of(NULL);
	struct saved copied = { 0 };
	for (size_t at = 0; at < size; at += 7777777)
		cr_assert(eq(int, content_edit_share(copy, f.txn, at, &whole.node, at, 7777777), 0));
	save(&f, copy, 4, &copied);
	cr_assert(same_content(&whole, &copied));
	content_edit_free(copy);
	content_edit_free(edit);
	free(bytes);
	fixture_verify(&f, 4);
	buffer_fini(&whole.storage);
	buffer_fini(&parts.storage);
	buffer_fini(&copied.storage);
	fixture_close(&f);
}

/* One MiB more at the start of 256 MiB: nearly everything is shared. */
Test(content, insertion_shares_what_follows)
{
	struct fixture f;
	struct saved old = { 0 }, new = { 0 }, shared = { 0 };
	random_init(13);
	fixture_open(&f);
	size_t size = 256 * MIB;
	uint8_t *bytes = random_block(size), *more = random_block(MIB);
	struct content_edit *edit = edit_of(NULL);
	write_all(&f, edit, bytes, size);
	save(&f, edit, 2, &old);
	content_edit_free(edit);
	uint64_t before = txn_state(f.txn)->pending_bytes;
	cr_assert(ge(u64, before, size));

	edit = edit_of(NULL);
	write_all(&f, edit, more, MIB);
	write_all(&f, edit, bytes, size);
	save(&f, edit, 3, &new);
	content_edit_free(edit);
	uint64_t added = txn_state(f.txn)->pending_bytes - before;
	fprintf(stderr, "new bytes after the insertion of 1 MiB: %llu\n", (unsigned long long)added);
	cr_assert(le(u64, added, MIB * 12 / 10 + 3 * LIST_ENTRIES_MAX * ENTRY_BYTES_MAX));
	cr_assert(le(sz, new.storage.size, LIST_ENTRIES_TOP * ENTRY_BYTES_MAX));

	/* The same by sharing gives the same. */
	edit = edit_of(NULL);
	write_all(&f, edit, more, MIB);
	cr_assert(eq(int, content_edit_share(edit, f.txn, MIB, &old.node, 0, size), 0));
	cr_assert(le(sz, content_edit_bytes(edit), 2 * MIB));
	save(&f, edit, 4, &shared);
	content_edit_free(edit);
	cr_assert(same_content(&new, &shared));

	free(bytes);
	free(more);
	buffer_fini(&old.storage);
	buffer_fini(&new.storage);
	buffer_fini(&shared.storage);
	fixture_close(&f);
}

/* --- sparse and deep */

static int count_bytes(void *user, const void *data, size_t size)
{
	uint64_t *counts = user;
	counts[data ? 1 : 0] += size;
	return 0;
}

Test(content, sparse_file_of_100_gib)
{
	struct fixture f;
	struct saved saved = { 0 };
	uint64_t size = (uint64_t)100 << 30, counts[2] = { 0 }, at;
	fixture_open(&f);
	struct content_edit *edit = edit_of(NULL);
	cr_assert(eq(int, content_edit_truncate(edit, f.txn, size), 0));
	cr_assert(eq(int, content_edit_write(edit, f.txn, size / 2 + 5, "x", 1), 0));
	save(&f, edit, 2, &saved);
	cr_assert(eq(u64, saved.node.size, size));
	cr_assert(eq(u64, content_allocated(&saved.node), BLOCK));
	cr_assert(eq(int, content_seek(f.txn, &saved.node, 0, SEEK_DATA, &at), 0));
	cr_assert(eq(u64, at, size / 2));
	cr_assert(eq(int, content_read(f.txn, &saved.node, 0, SIZE_MAX, count_bytes, counts), 0));
	cr_assert(eq(u64, counts[1], BLOCK));
	cr_assert(eq(u64, counts[0], size - BLOCK));
	cr_assert(eq(int, content_edit_punch(edit, f.txn, 0, UINT64_MAX), 0));
	save(&f, edit, 2, &saved);
	cr_assert(eq(u64, content_allocated(&saved.node), 0));
	cr_assert(eq(int, content_edit_write(edit, f.txn, CONTENT_BYTES_MAX, "x", 1), -EFBIG));
	cr_assert(eq(int, content_edit_truncate(edit, f.txn, CONTENT_BYTES_MAX + 1), -EFBIG));
	content_edit_free(edit);
	buffer_fini(&saved.storage);
	fixture_close(&f);
}

/* A model of blocks: each all of one byte, 0 for a hole. With every other one a hole a few ten thousand make a deep tree. */
#define DEEP_BLOCKS 40000

struct blocks {
	uint8_t stamp[DEEP_BLOCKS];
	uint64_t at;
	bool differs;
};

static int compare_blocks(void *user, const void *data, size_t size)
{
	struct blocks *blocks = user;
	const uint8_t *bytes = data;
	for (size_t i = 0; i < size; i++, blocks->at++)
		if ((bytes ? bytes[i] : 0) != blocks->stamp[blocks->at / BLOCK])
			blocks->differs = true;
	return 0;
}

static void check_blocks(struct fixture *f, struct blocks *blocks, const struct node *node, uint64_t from, size_t size)
{
	blocks->at = from;
	blocks->differs = false;
	cr_assert(eq(int, content_read(f->txn, node, from, size, compare_blocks, blocks), 0));
	cr_assert(eq(u64, blocks->at, from + size));
	cr_assert(not(blocks->differs));
}

static void write_blocks(struct fixture *f, struct content_edit *edit, struct blocks *blocks, size_t first, size_t count)
{
	uint8_t bytes[16 * BLOCK];
	uint8_t stamp = (uint8_t)(1 + random_u64() % 255);
	memset(bytes, stamp, sizeof(bytes));
	memset(blocks->stamp + first, stamp, count);
	cr_assert(eq(int, content_edit_write(edit, f->txn, first * BLOCK, bytes, count * BLOCK), 0));
}

Test(content, random_edits_of_a_deep_tree)
{
	struct fixture f;
	struct saved saved = { 0 };
	static struct blocks blocks;
	random_init(14);
	fixture_open(&f);
	struct content_edit *edit = edit_of(NULL);
	for (size_t i = 0; i < DEEP_BLOCKS; i += 2)
		write_blocks(&f, edit, &blocks, i, 1);
	cr_assert(eq(int, content_edit_truncate(edit, f.txn, (uint64_t)DEEP_BLOCKS * BLOCK), 0));
	save(&f, edit, 2, &saved);
	check_blocks(&f, &blocks, &saved.node, 0, (size_t)DEEP_BLOCKS * BLOCK);
	for (int i = 0; i < 400; i++) {
		size_t first = random_u64() % (DEEP_BLOCKS - 3000), count = 1 + random_u64() % 16;
		switch (random_u64() % 8) {
		case 0:
			count = random_below(3000);
			memset(blocks.stamp + first, 0, count);
			cr_assert(eq(int, content_edit_punch(edit, f.txn, first * BLOCK, count * BLOCK), 0));
			break;
		case 1: {
			size_t from = random_u64() % (DEEP_BLOCKS - 3000);
			save(&f, edit, 2, &saved);
			count = random_below(3000);
			cr_assert(eq(int, content_edit_share(edit, f.txn, first * BLOCK, &saved.node, from * BLOCK, count * BLOCK), 0));
			memmove(blocks.stamp + first, blocks.stamp + from, count);
			break;
		}
		case 2:
			save(&f, edit, 2, &saved);
			check_blocks(&f, &blocks, &saved.node, first * BLOCK, 3000 * BLOCK);
			break;
		case 3:
			save(&f, edit, 2, &saved);
			content_edit_free(edit);
			edit = edit_of(&saved.node);
			break;
		default:
			write_blocks(&f, edit, &blocks, first, count);
			break;
		}
	}
	save(&f, edit, 2, &saved);
	check_blocks(&f, &blocks, &saved.node, 0, (size_t)DEEP_BLOCKS * BLOCK);
	fixture_commit(&f);
	/* Cut short bit by bit, the tree becomes flat again. */
	for (size_t size = DEEP_BLOCKS; size > 10; size -= 1 + random_below(size)) {
		cr_assert(eq(int, content_edit_truncate(edit, f.txn, size * BLOCK), 0));
		save(&f, edit, 2, &saved);
		check_blocks(&f, &blocks, &saved.node, 0, size * BLOCK);
	}
	fixture_verify(&f, 2);
	content_edit_free(edit);
	buffer_fini(&saved.storage);
	fixture_close(&f);
}

/* --- damage */

Test(content, missing_and_wrong_chunks_are_found)
{
	struct fixture f;
	struct buffer list = BUFFER_INIT;
	uint64_t counts[2];
	fixture_open(&f);
	struct node node = { .mode = S_IFREG, .content_kind = CONTENT_LIST };
	struct entry entry = { .kind = ENTRY_DATA, .length = 100, .id = { { 1, 2, 3 } } };
	entry_encode(&entry, &list);
	node.content = buffer_slice(&list);
	node.size = 100;
	cr_assert(eq(int, content_read(f.txn, &node, 0, 100, count_bytes, counts), -DRS_ECORRUPT));
	struct content_edit *edit = edit_of(&node);
	cr_assert(eq(int, content_edit_write(edit, f.txn, 10, "x", 1), -DRS_ECORRUPT));
	content_edit_free(edit);

	/* A chunk of another length than its entry says, and one that is no list. */
	cr_assert(eq(int, chunk_put(f.txn, false, (struct slice){ "abc", 3 }, &entry.id), 0));
	for (enum entry_kind kind = ENTRY_DATA; kind <= ENTRY_LIST; kind++) {
		entry.kind = kind;
		buffer_clear(&list);
		entry_encode(&entry, &list);
		node.content = buffer_slice(&list);
		cr_assert(eq(int, content_read(f.txn, &node, 0, 100, count_bytes, counts), -DRS_ECORRUPT));
		edit = edit_of(&node);
		cr_assert(eq(int, content_edit_write(edit, f.txn, 10, "x", 1), -DRS_ECORRUPT));
		content_edit_free(edit);
	}
	buffer_fini(&list);
	fixture_close(&f);
}

static void damage_call(struct fixture *f, struct content_edit *edit, const struct node *node)
{
	uint64_t counts[2], offset = random_below(node->size + 5000), found;
	size_t size = 1 + random_below(70000);
	struct buffer storage = BUFFER_INIT;
	struct node out = *node;
	uint8_t *bytes = calloc(1, size);
	int ret = 0;
	switch (random_u64() % 8) {
	case 0:
		ret = content_read(f->txn, node, offset, size, count_bytes, counts);
		break;
	case 1:
		ret = content_seek(f->txn, node, offset, random_u64() % 2 ? SEEK_DATA : SEEK_HOLE, &found);
		break;
	case 2:
		ret = content_edit_truncate(edit, f->txn, offset);
		break;
	case 3:
		ret = content_edit_punch(edit, f->txn, offset, random_below(node->size));
		break;
	case 4:
		ret = content_edit_share(edit, f->txn, random_below(node->size), node, offset, random_below(node->size));
		break;
	case 5:
		ret = content_edit_save(edit, f->txn, &out, &storage);
		break;
	default:
		ret = content_edit_write(edit, f->txn, offset, bytes, size);
		break;
	}
	cr_assert(ret == 0 || ret == -DRS_ECORRUPT || ret == -ENXIO);
	free(bytes);
	buffer_fini(&storage);
}

/* Trees put together at random from chunks that exist, lists among data, with lengths that may be wrong: errors, no more. */
Test(content, damaged_trees_do_no_harm)
{
	struct fixture f;
	struct entry pool[64];
	struct buffer list = BUFFER_INIT;
	random_init(15);
	fixture_open(&f);
	for (int round = 0; round < 300; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(pool); i++) {
			struct entry *entry = &pool[i];
			*entry = (struct entry){ .kind = i < 8 ? ENTRY_DATA : random_u64() % 3, .length = 1 + random_below(20000) };
			if (entry->kind == ENTRY_DATA) {
				uint8_t *bytes = random_block(entry->length + 8);
				cr_assert(eq(int, chunk_put(f.txn, false, (struct slice){ bytes, entry->length }, &entry->id), 0));
				free(bytes);
			} else if (entry->kind == ENTRY_LIST) {
				buffer_clear(&list);
				entry->length = 0;
				bool mixed = random_u64() % 4 == 0;
				for (size_t k = 1 + random_below(20); k > 0; k--) {
					struct entry *child = &pool[random_u64() % (mixed ? i : 8)];
					entry_encode(child, &list);
					entry->length += child->length;
				}
				cr_assert(eq(int, chunk_put(f.txn, true, buffer_slice(&list), &entry->id), 0));
			}
			if (random_u64() % 16 == 0)
				entry->length += random_below(100);
			if (random_u64() % 64 == 0)
				entry->id.bytes[3]++;
		}
		struct node node = { .mode = S_IFREG, .content_kind = CONTENT_LIST };
		buffer_clear(&list);
		enum entry_kind kind = random_u64() % 2 ? ENTRY_LIST : ENTRY_DATA;
		bool mixed = random_u64() % 8 == 0;
		for (size_t k = 0; k < 20; k++) {
			struct entry *entry = &pool[random_u64() % ARRAY_SIZE(pool)];
			if (!mixed && entry->kind != kind && (kind == ENTRY_LIST || entry->kind == ENTRY_LIST))
				continue;
			entry_encode(entry, &list);
			node.size += entry->length;
		}
		node.content = buffer_slice(&list);
		if (node.size == 0 || node.size > 16 * MIB)
			continue;
		struct content_edit *edit = edit_of(&node);
		for (int i = 0; i < 30; i++)
			damage_call(&f, edit, &node);
		content_edit_free(edit);
	}
	buffer_fini(&list);
	fixture_close(&f);
}
