#include "drsfs/buffer.h"

#include <stdlib.h>
#include <string.h>

void buffer_fini(struct buffer *b)
{
	free(b->data);
	*b = BUFFER_INIT;
}

void buffer_clear(struct buffer *b)
{
	b->size = 0;
	b->failed = false;
}

void *buffer_grow(struct buffer *b, size_t n)
{
	if (b->failed)
		return NULL;
	if (b->capacity - b->size < n) {
		size_t capacity = b->capacity ? b->capacity : 256;
		while (capacity - b->size < n) {
			if (capacity > SIZE_MAX / 2) {
				b->failed = true;
				return NULL;
			}
			capacity *= 2;
		}
		uint8_t *data = realloc(b->data, capacity);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->capacity = capacity;
	}
	void *at = b->data + b->size;
	b->size += n;
	return at;
}

void buffer_add(struct buffer *b, const void *data, size_t n)
{
	void *at = n ? buffer_grow(b, n) : NULL;
	if (at)
		memcpy(at, data, n);
}

void buffer_add_u8(struct buffer *b, uint8_t v)
{
	buffer_add(b, &v, 1);
}

void buffer_add_be32(struct buffer *b, uint32_t v)
{
	uint8_t bytes[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
	buffer_add(b, bytes, sizeof(bytes));
}

void buffer_add_be64(struct buffer *b, uint64_t v)
{
	uint8_t bytes[8];
	put_be64(bytes, v);
	buffer_add(b, bytes, sizeof(bytes));
}

void buffer_add_varint(struct buffer *b, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;
	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	buffer_add(b, bytes, n);
}

struct reader reader_of(struct slice s)
{
	const uint8_t *at = s.data;
	return (struct reader){ .at = at, .end = at + s.size };
}

const uint8_t *read_bytes(struct reader *r, size_t n)
{
	if (r->failed || reader_left(r) < n) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *at = r->at;
	r->at += n;
	return at;
}

uint8_t read_u8(struct reader *r)
{
	const uint8_t *at = read_bytes(r, 1);
	return at ? *at : 0;
}

uint32_t read_be32(struct reader *r)
{
	const uint8_t *at = read_bytes(r, 4);
	return at ? (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3] : 0;
}

uint64_t read_be64(struct reader *r)
{
	const uint8_t *at = read_bytes(r, 8);
	return at ? get_be64(at) : 0;
}

uint64_t read_varint(struct reader *r)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t byte = read_u8(r);
		if (shift == 63 && byte > 1)
			break;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return r->failed ? 0 : v;
	}
	r->failed = true;
	return 0;
}

void put_be64(uint8_t *at, uint64_t v)
{
	for (int i = 7; i >= 0; i--, v >>= 8)
		at[i] = (uint8_t)v;
}

uint64_t get_be64(const uint8_t *at)
{
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v = v << 8 | at[i];
	return v;
}
