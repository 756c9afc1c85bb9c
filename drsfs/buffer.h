/* A growable run of bytes with the fixed-width and varint encodings that records and frames use. */
#ifndef DRSFS_BUFFER_H
#define DRSFS_BUFFER_H

#include "drsfs/types.h"

struct buffer {
	uint8_t *data;
	size_t size;
	size_t capacity;
	bool failed; /* an allocation failed since the last clear; what is in it is not complete */
};

#define BUFFER_INIT ((struct buffer){ 0 })

void buffer_fini(struct buffer *);            /* frees; leaves it empty and usable */
void buffer_clear(struct buffer *);           /* size 0, keeps the memory */
void *buffer_grow(struct buffer *, size_t n); /* n more bytes at the end, not initialised; NULL on -ENOMEM */
void buffer_add(struct buffer *, const void *data, size_t n);
void buffer_add_u8(struct buffer *, uint8_t);
void buffer_add_be32(struct buffer *, uint32_t);
void buffer_add_be64(struct buffer *, uint64_t);
void buffer_add_varint(struct buffer *, uint64_t); /* LEB128, at most 10 bytes */
static inline struct slice buffer_slice(const struct buffer *b)
{
	return (struct slice){ b->data, b->size };
}

/*
 * Reading: a cursor that remembers whether it ran over the end, so that a decoder checks once, at its end.
 * After an overrun every read gives 0 (or NULL) and 'failed' stays set. Safe on any input.
 */
struct reader {
	const uint8_t *at, *end;
	bool failed;
};

struct reader reader_of(struct slice);
uint8_t read_u8(struct reader *);
uint32_t read_be32(struct reader *);
uint64_t read_be64(struct reader *);
uint64_t read_varint(struct reader *);
const uint8_t *read_bytes(struct reader *, size_t n); /* NULL if there are not n */
static inline size_t reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

/* Big-endian stores and loads at fixed places, as keys use them. */
void put_be64(uint8_t *at, uint64_t);
uint64_t get_be64(const uint8_t *at);

#endif
