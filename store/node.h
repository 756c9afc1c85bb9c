/*
 * A node record: the attributes of a file, directory, symlink or special file, and where its content is.
 * Encoded as compactly as it goes (varints), since small changes travel in one datagram.
 *
 * Content is one of: nothing; inline bytes (small files, symlink targets); a list of entries, each a chunk of data, a list chunk that holds
 * more entries, or a hole (content.h). 'content_version' is a number that was given to the version, or the batch (batch.h), that gave the file its
 * present content: together with the inode number it stands for bytes that never change (slaves' node ids are made of it).
 */
#ifndef STORE_NODE_H
#define STORE_NODE_H

#include "drsfs/buffer.h"
#include "drsfs/types.h"

#define NODE_INLINE_BYTES_MAX 2048

enum content_kind { CONTENT_NONE = 0, CONTENT_INLINE = 1, CONTENT_LIST = 2 };

struct node_time {
	int64_t seconds;
	uint32_t nanoseconds;
};

struct node {
	uint32_t mode; /* type and permissions, as st_mode */
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t rdev;
	uint64_t size;                 /* bytes; of a directory: 0 */
	ino_id parent;                 /* of a directory (the root's is itself); else 0 */
	struct node_time atime, mtime, ctime;
	version_t content_version;
	enum content_kind content_kind;
	struct slice content;          /* inline bytes, or encoded entries; borrowed */
};

void node_encode(const struct node *, struct buffer *);         /* appends; check buffer.failed; asserts that kind, content and size fit */
int node_decode(struct slice, struct node *ret_node);           /* -DRS_ECORRUPT; 'content' points into the slice; safe on any input */

#endif
