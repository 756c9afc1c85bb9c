/* The scalar types and small values that every layer speaks. */
#ifndef DRSFS_TYPES_H
#define DRSFS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of a committed state of a volume; 0 is the empty tree that every volume starts from. */
typedef uint64_t version_t;
/* The inode number of a node: given by the master, never used twice in a volume; 1 is the root. */
typedef uint64_t ino_id;
typedef int64_t time_ms;
typedef int64_t time_ns;

#define INO_ROOT ((ino_id)1)

/* Bytes that belong to somebody else, for as long as their owner says. */
struct slice {
	const void *data;
	size_t size;
};

/* A volume's identifier: random, given once by its master, known in the whole domain. */
struct did {
	uint8_t bytes[16];
};

/* A set hash over all live records of one version: equal digests, equal trees. */
struct digest {
	uint64_t lo, hi;
};

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
