/*
 * Where content is cut. Responsible for nothing but that: no bytes are stored here, and none are remembered between calls.
 *
 * FastCDC: a gear hash rolls over the bytes, h = 2h + gear[byte], so that its upper bits depend on the last 64 bytes; a chunk ends where these bits
 * are zero. Up to TURN_BYTES more bits are asked for than after it, which draws the lengths together (normalised chunking). The first
 * CUT_BYTES_MIN bytes of a chunk are not looked at.
 *
 * The more the lengths are drawn together, the longer it takes after an insertion until cuts fall on old ones again. With these masks it takes 48 KiB
 * on average (with two bits more and two less, as FastCDC has it, 81 KiB), at a mean length of 34 KiB.
 *
 * The gear table, the masks and the bounds are part of the store's format: equal content must be cut equally by every version of the program.
 */
#include "store/content.h"

/* The i-th number of splitmix64; a constant expression, so that the table is one too. */
#define MIX0(i) ((uint64_t)0x6472736673637574 + ((uint64_t)(i) + 1) * 0x9e3779b97f4a7c15)
#define MIX1(z) (((z) ^ (z) >> 30) * 0xbf58476d1ce4e5b9)
#define MIX2(z) (((z) ^ (z) >> 27) * 0x94d049bb133111eb)
#define MIX3(z) ((z) ^ (z) >> 31)
#define GEAR(i) MIX3(MIX2(MIX1(MIX0(i))))
#define GEAR4(i) GEAR(i), GEAR((i) + 1), GEAR((i) + 2), GEAR((i) + 3)
#define GEAR16(i) GEAR4(i), GEAR4((i) + 4), GEAR4((i) + 8), GEAR4((i) + 12)
#define GEAR64(i) GEAR16(i), GEAR16((i) + 16), GEAR16((i) + 32), GEAR16((i) + 48)

static const uint64_t gear[256] = { GEAR64(0), GEAR64(64), GEAR64(128), GEAR64(192) };

#define TOP_BITS(n) (~(uint64_t)0 << (64 - (n)))
#define MASK_BEFORE_TURN TOP_BITS(16) /* log2(CUT_BYTES_AVERAGE) + 1 */
#define MASK_AFTER_TURN TOP_BITS(14)  /* log2(CUT_BYTES_AVERAGE) - 1 */
#define TURN_BYTES ((size_t)CUT_BYTES_AVERAGE * 3 / 4)

/*
 * The place after the first byte in [at, end) where the masked hash is zero; NULL if there is none. Four bytes a step: only the
 * hash after all four is on the critical path, the three between are computed beside it.
 */
static const uint8_t *scan(const uint8_t *at, const uint8_t *end, uint64_t mask, uint64_t *hash)
{
	uint64_t h = *hash;
	for (; end - at >= 4; at += 4) {
		uint64_t g0 = gear[at[0]], g1 = gear[at[1]], g2 = gear[at[2]], g3 = gear[at[3]];
		uint64_t g01 = 2 * g0 + g1;
		uint64_t h0 = 2 * h + g0, h1 = 4 * h + g01, h2 = 8 * h + (2 * g01 + g2), h3 = 16 * h + (4 * g01 + (2 * g2 + g3));
		if (!(h0 & mask))
			return at + 1;
		if (!(h1 & mask))
			return at + 2;
		if (!(h2 & mask))
			return at + 3;
		if (!(h3 & mask))
			return at + 4;
		h = h3;
	}
	for (; at < end; at++) {
		h = 2 * h + gear[*at];
		if (!(h & mask))
			return at + 1;
	}
	*hash = h;
	return NULL;
}

size_t cut_length(const uint8_t *data, size_t size, bool last)
{
	size_t limit = size < CUT_BYTES_MAX ? size : CUT_BYTES_MAX;
	size_t undecided = last ? size : 0;
	if (limit <= CUT_BYTES_MIN)
		return undecided;
	size_t turn = limit < TURN_BYTES ? limit : TURN_BYTES;
	uint64_t hash = 0;
	const uint8_t *cut = scan(data + CUT_BYTES_MIN, data + turn, MASK_BEFORE_TURN, &hash);
	if (!cut)
		cut = scan(data + turn, data + limit, MASK_AFTER_TURN, &hash);
	if (cut)
		return (size_t)(cut - data);
	return size >= CUT_BYTES_MAX ? CUT_BYTES_MAX : undecided;
}
