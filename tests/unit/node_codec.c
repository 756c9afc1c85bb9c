/* Node records: what is encoded decodes to the same, and nothing else decodes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "drsfs/error.h"
#include "store/chunk.h"
#include "store/node.h"

static uint64_t random_state;

static uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void random_init(void)
{
	const char *seed = getenv("SEED");
	random_state = seed ? strtoull(seed, NULL, 0) : 0x6e6f6465;
	fprintf(stderr, "SEED=%#llx\n", (unsigned long long)random_state);
}

static struct node file_node(void)
{
	return (struct node){
		.mode = S_IFREG | 0644,
		.nlink = 1,
		.atime = { 1700000000, 123456789 },
		.mtime = { 1700000000, 123456789 },
		.ctime = { 1700000000, 123456789 },
		.content_version = 7,
	};
}

static bool nodes_equal(const struct node *a, const struct node *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->nlink == b->nlink && a->rdev == b->rdev && a->size == b->size &&
	       a->parent == b->parent && !memcmp(&a->atime.seconds, &b->atime.seconds, 8) && a->atime.nanoseconds == b->atime.nanoseconds &&
	       a->mtime.seconds == b->mtime.seconds && a->mtime.nanoseconds == b->mtime.nanoseconds && a->ctime.seconds == b->ctime.seconds &&
	       a->ctime.nanoseconds == b->ctime.nanoseconds && a->content_version == b->content_version && a->content_kind == b->content_kind &&
	       a->content.size == b->content.size && (!a->content.size || !memcmp(a->content.data, b->content.data, a->content.size));
}

static void check_round_trip(const struct node *node, struct buffer *b)
{
	struct node decoded;
	struct buffer again = BUFFER_INIT;
	buffer_clear(b);
	node_encode(node, b);
	cr_assert(eq(int, node_decode(buffer_slice(b), &decoded), 0));
	cr_assert(nodes_equal(node, &decoded));
	node_encode(&decoded, &again);
	cr_assert(again.size == b->size && !memcmp(again.data, b->data, b->size));
	buffer_fini(&again);
}

/* Whatever decodes must be what encoding gives; everything else must be refused. */
static void check_canonical(struct slice bytes)
{
	struct node decoded;
	struct buffer again = BUFFER_INIT;
	int ret = node_decode(bytes, &decoded);
	if (ret == 0) {
		node_encode(&decoded, &again);
		cr_assert(again.size == bytes.size && !memcmp(again.data, bytes.data, bytes.size));
	} else {
		cr_assert(eq(int, ret, -DRS_ECORRUPT));
	}
	buffer_fini(&again);
}

static uint64_t random_field(void)
{
	switch (random_u64() % 4) {
	case 0:
		return 0;
	case 1:
		return random_u64() % 4;
	case 2:
		return random_u64() >> random_u64() % 64;
	default:
		return UINT64_MAX;
	}
}

static struct node_time random_time(void)
{
	return (struct node_time){ (int64_t)random_field(), (uint32_t)(random_u64() % 1000000000) };
}

static struct node random_node(struct buffer *content)
{
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK };
	struct node node = {
		.mode = types[random_u64() % ARRAY_SIZE(types)] | (random_u64() & 07777),
		.uid = (uint32_t)random_field(),
		.gid = (uint32_t)random_field(),
		.nlink = (uint32_t)random_field(),
		.rdev = random_field(),
		.parent = random_field(),
		.content_version = random_field(),
		.ctime = random_time(),
		.content_kind = random_u64() % 3,
	};
	node.mtime = random_u64() % 2 ? node.ctime : random_time();
	node.atime = random_u64() % 2 ? node.mtime : random_time();
	buffer_clear(content);
	if (node.content_kind == CONTENT_INLINE) {
		node.size = 1 + random_u64() % NODE_INLINE_BYTES_MAX;
		memset(buffer_grow(content, node.size), 'x', node.size);
	}
	for (unsigned i = 0; node.content_kind == CONTENT_LIST && i < 1 + random_u64() % 8; i++) {
		struct entry entry = { .kind = random_u64() % 3, .length = 1 + random_u64() % 100000 };
		memset(&entry.id, entry.kind == ENTRY_HOLE ? 0 : (int)random_u64(), sizeof(entry.id));
		entry_encode(&entry, content);
		node.size += entry.length;
	}
	node.content = content->size ? buffer_slice(content) : (struct slice){ 0 };
	return node;
}

Test(node, round_trip_of_random_nodes)
{
	struct buffer content = BUFFER_INIT, bytes = BUFFER_INIT;
	random_init();
	for (int i = 0; i < 20000; i++) {
		struct node node = random_node(&content);
		check_round_trip(&node, &bytes);
	}
	buffer_fini(&content);
	buffer_fini(&bytes);
}

Test(node, nothing_but_encodings_decodes)
{
	struct buffer content = BUFFER_INIT, bytes = BUFFER_INIT;
	random_init();
	for (int i = 0; i < 20000; i++) {
		struct node node = random_node(&content);
		buffer_clear(&bytes);
		node_encode(&node, &bytes);
		/* Cut short, made longer, one byte changed. */
		size_t size = random_u64() % (bytes.size + 1);
		uint8_t *copy = malloc(bytes.size + 1);
		memcpy(copy, bytes.data, size);
		check_canonical((struct slice){ copy, size });
		free(copy);
		bytes.data[random_u64() % bytes.size] ^= (uint8_t)(1 << random_u64() % 8);
		check_canonical(buffer_slice(&bytes));
		buffer_add_u8(&bytes, (uint8_t)random_u64());
		check_canonical(buffer_slice(&bytes));
	}
	for (int i = 0; i < 100000; i++) {
		uint8_t noise[64];
		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (uint8_t)random_u64();
		noise[0] = (uint8_t)(0x10 | (noise[0] & 3));
		check_canonical((struct slice){ noise, random_u64() % sizeof(noise) });
	}
	buffer_fini(&content);
	buffer_fini(&bytes);
}

Test(node, small_files_stay_small)
{
	struct buffer bytes = BUFFER_INIT;
	struct node node = file_node();
	node_encode(&node, &bytes);
	cr_assert(le(sz, bytes.size, 15));
	buffer_clear(&bytes);
	node.mtime = (struct node_time){ 1699999999, 5 };
	node.uid = node.gid = 1000;
	node_encode(&node, &bytes);
	cr_assert(le(sz, bytes.size, 26));
	buffer_fini(&bytes);
}

Test(node, superfluous_fields_are_refused)
{
	struct buffer bytes = BUFFER_INIT;
	struct node node = file_node();
	node.uid = 300;
	node_encode(&node, &bytes);
	struct node decoded;
	cr_assert(eq(int, node_decode(buffer_slice(&bytes), &decoded), 0));
	/* The uid, written as 0 with its flag set, and 44 in two bytes. */
	bytes.data[4] = 0x80;
	bytes.data[5] = 0x00;
	cr_assert(eq(int, node_decode(buffer_slice(&bytes), &decoded), -DRS_ECORRUPT));
	bytes.data[4] = 0xac;
	cr_assert(eq(int, node_decode(buffer_slice(&bytes), &decoded), -DRS_ECORRUPT));
	/* Another format. */
	bytes.data[4] = 0xac;
	bytes.data[5] = 0x02;
	bytes.data[0] ^= 0x30;
	cr_assert(eq(int, node_decode(buffer_slice(&bytes), &decoded), -DRS_ECORRUPT));
	buffer_fini(&bytes);
}

Test(node, lists_that_add_up_to_too_much_are_refused)
{
	struct buffer content = BUFFER_INIT, bytes = BUFFER_INIT;
	struct node node = file_node(), decoded;
	struct entry entry = { .kind = ENTRY_HOLE, .length = (uint64_t)1 << 61 };
	entry_encode(&entry, &content);
	node.content_kind = CONTENT_LIST;
	node.content = buffer_slice(&content);
	node.size = entry.length;
	node_encode(&node, &bytes);
	cr_assert(eq(int, node_decode(buffer_slice(&bytes), &decoded), 0));
	for (int i = 0; i < 4; i++)
		entry_encode(&entry, &bytes);
	cr_assert(eq(int, node_decode(buffer_slice(&bytes), &decoded), -DRS_ECORRUPT));
	buffer_fini(&content);
	buffer_fini(&bytes);
}
