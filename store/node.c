/*
 * The encoding of node records. Responsible for one thing: that equal nodes have equal bytes and that no other bytes decode, since digests
 * and comparisons look at the bytes only. It does not judge whether a node makes sense in its tree.
 *
 *   u8  format << 4 | NODE_… flags
 *   u8  more flags
 *   u16 mode
 *   varint uid, gid, nlink, rdev, parent, content_version: each only if its flag says that it is not the default
 *   ctime: zigzag varint seconds, u32 nanoseconds
 *   mtime, atime: the same, seconds relative to the time before; only if they differ from it
 *   content to the end: inline bytes, or entries
 *
 * The size is not written: it is that of the inline bytes, or the sum of the entries. A new file of root's takes about 15 bytes
 * and its content.
 */
#include "store/node.h"

#include <assert.h>
#include <sys/stat.h>

#include "drsfs/error.h"
#include "store/chunk.h"

#define NODE_FORMAT 1
#define FORMAT_SHIFT 12
#define SYMLINK_BYTES_MAX 4096
#define NANOSECONDS_MAX 999999999

enum {
	NODE_UID = 1 << 0,             /* not 0 */
	NODE_GID = 1 << 1,             /* not the uid */
	NODE_NLINK = 1 << 2,           /* not what a new node has */
	NODE_RDEV = 1 << 3,            /* not 0 */
	NODE_PARENT = 1 << 4,          /* not 0 */
	NODE_CONTENT_VERSION = 1 << 5, /* not 0 */
	NODE_MTIME = 1 << 6,           /* not the ctime */
	NODE_ATIME = 1 << 7,           /* not the mtime */
	NODE_CONTENT_SHIFT = 8,        /* two bits of content_kind */
	NODE_FLAGS = 0x3ff,
};

static bool time_equal(const struct node_time *a, const struct node_time *b)
{
	return a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static uint32_t nlink_default(uint32_t mode)
{
	return S_ISDIR(mode) ? 2 : 1;
}

static size_t inline_bytes_max(uint32_t mode)
{
	return S_ISLNK(mode) ? SYMLINK_BYTES_MAX : NODE_INLINE_BYTES_MAX;
}

/* A varint with a superfluous last byte is not what an encoder writes. */
static bool varint_minimal(const uint8_t *from, const uint8_t *to)
{
	return to - from == 1 || to[-1] != 0;
}

/* The sum of a list's lengths, if all of it is as entry_encode writes it. */
static int list_size(struct slice entries, uint64_t *ret_size)
{
	struct reader r = reader_of(entries);
	uint64_t size = 0;
	for (;;) {
		const uint8_t *from = r.at;
		struct entry entry;
		int ret = entry_next(&r, &entry);
		if (ret < 0)
			return ret;
		if (ret == 0)
			break;
		const uint8_t *varint_end = r.at - (entry.kind == ENTRY_HOLE ? 0 : sizeof(entry.id));
		if (!varint_minimal(from, varint_end) || entry.length == 0)
			return -DRS_ECORRUPT;
		if (__builtin_add_overflow(size, entry.length, &size) || size > INT64_MAX)
			return -DRS_ECORRUPT;
	}
	*ret_size = size;
	return 0;
}

static unsigned node_flags(const struct node *node)
{
	return (node->uid ? NODE_UID : 0) | (node->gid != node->uid ? NODE_GID : 0) |
	       (node->nlink != nlink_default(node->mode) ? NODE_NLINK : 0) | (node->rdev ? NODE_RDEV : 0) |
	       (node->parent ? NODE_PARENT : 0) | (node->content_version ? NODE_CONTENT_VERSION : 0) |
	       (!time_equal(&node->mtime, &node->ctime) ? NODE_MTIME : 0) |
	       (!time_equal(&node->atime, &node->mtime) ? NODE_ATIME : 0) | (unsigned)node->content_kind << NODE_CONTENT_SHIFT;
}

static bool content_fits(const struct node *node)
{
	uint64_t size = 0;
	switch (node->content_kind) {
	case CONTENT_NONE:
		return node->size == 0;
	case CONTENT_INLINE:
		return node->size > 0 && node->size == node->content.size && node->size <= inline_bytes_max(node->mode);
	case CONTENT_LIST:
		return node->size > 0 && list_size(node->content, &size) == 0 && node->size == size;
	}
	return false;
}

/* The difference to 'base' wraps around, so that any two times have one. */
static void time_encode(const struct node_time *time, int64_t base, struct buffer *b)
{
	assert(time->nanoseconds <= NANOSECONDS_MAX);
	uint64_t seconds = (uint64_t)time->seconds - (uint64_t)base;
	buffer_add_varint(b, seconds << 1 ^ -(seconds >> 63));
	buffer_add_be32(b, time->nanoseconds);
}

void node_encode(const struct node *node, struct buffer *b)
{
	assert(node->mode <= UINT16_MAX);
	assert(content_fits(node));

	unsigned flags = node_flags(node);
	unsigned head = NODE_FORMAT << FORMAT_SHIFT | flags;
	buffer_add_u8(b, (uint8_t)(head >> 8));
	buffer_add_u8(b, (uint8_t)head);
	buffer_add_u8(b, (uint8_t)(node->mode >> 8));
	buffer_add_u8(b, (uint8_t)node->mode);
	if (flags & NODE_UID)
		buffer_add_varint(b, node->uid);
	if (flags & NODE_GID)
		buffer_add_varint(b, node->gid);
	if (flags & NODE_NLINK)
		buffer_add_varint(b, node->nlink);
	if (flags & NODE_RDEV)
		buffer_add_varint(b, node->rdev);
	if (flags & NODE_PARENT)
		buffer_add_varint(b, node->parent);
	if (flags & NODE_CONTENT_VERSION)
		buffer_add_varint(b, node->content_version);
	time_encode(&node->ctime, 0, b);
	if (flags & NODE_MTIME)
		time_encode(&node->mtime, node->ctime.seconds, b);
	if (flags & NODE_ATIME)
		time_encode(&node->atime, node->mtime.seconds, b);
	if (node->content_kind != CONTENT_NONE)
		buffer_add(b, node->content.data, node->content.size);
}

static uint64_t field_decode(struct reader *r, uint64_t max)
{
	const uint8_t *from = r->at;
	uint64_t v = read_varint(r);
	if (!r->failed && (!varint_minimal(from, r->at) || v > max))
		r->failed = true;
	return v;
}

static struct node_time time_decode(struct reader *r, int64_t base)
{
	uint64_t zigzag = field_decode(r, UINT64_MAX);
	uint64_t seconds = zigzag >> 1 ^ -(zigzag & 1);
	uint32_t nanoseconds = read_be32(r);
	if (nanoseconds > NANOSECONDS_MAX)
		r->failed = true;
	return (struct node_time){ (int64_t)(seconds + (uint64_t)base), nanoseconds };
}

static int content_decode(struct slice content, struct node *node)
{
	node->content = content;
	switch (node->content_kind) {
	case CONTENT_NONE:
		node->content = (struct slice){ 0 };
		return content.size == 0 ? 0 : -DRS_ECORRUPT;
	case CONTENT_INLINE:
		node->size = content.size;
		return content.size > 0 && content.size <= inline_bytes_max(node->mode) ? 0 : -DRS_ECORRUPT;
	case CONTENT_LIST:
		return content.size > 0 ? list_size(content, &node->size) : -DRS_ECORRUPT;
	}
	return -DRS_ECORRUPT;
}

int node_decode(struct slice bytes, struct node *ret_node)
{
	struct reader r = reader_of(bytes);
	unsigned head = (unsigned)read_u8(&r) << 8;
	head |= read_u8(&r);
	unsigned flags = head & NODE_FLAGS;
	if (head >> FORMAT_SHIFT != NODE_FORMAT || (head & ~(NODE_FORMAT << FORMAT_SHIFT)) != flags)
		return -DRS_ECORRUPT;

	struct node node = { .content_kind = (enum content_kind)(flags >> NODE_CONTENT_SHIFT) };
	node.mode = (uint32_t)read_u8(&r) << 8;
	node.mode |= read_u8(&r);
	if (flags & NODE_UID)
		node.uid = (uint32_t)field_decode(&r, UINT32_MAX);
	node.gid = flags & NODE_GID ? (uint32_t)field_decode(&r, UINT32_MAX) : node.uid;
	node.nlink = flags & NODE_NLINK ? (uint32_t)field_decode(&r, UINT32_MAX) : nlink_default(node.mode);
	if (flags & NODE_RDEV)
		node.rdev = field_decode(&r, UINT64_MAX);
	if (flags & NODE_PARENT)
		node.parent = field_decode(&r, UINT64_MAX);
	if (flags & NODE_CONTENT_VERSION)
		node.content_version = field_decode(&r, UINT64_MAX);
	node.ctime = time_decode(&r, 0);
	node.mtime = flags & NODE_MTIME ? time_decode(&r, node.ctime.seconds) : node.ctime;
	node.atime = flags & NODE_ATIME ? time_decode(&r, node.mtime.seconds) : node.mtime;
	if (r.failed)
		return -DRS_ECORRUPT;
	int ret = content_decode((struct slice){ r.at, reader_left(&r) }, &node);
	if (ret < 0)
		return ret;
	if (node_flags(&node) != flags) /* a field was written that has its default */
		return -DRS_ECORRUPT;
	*ret_node = node;
	return 0;
}
