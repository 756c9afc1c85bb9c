/* The simulator's only source of chance: splitmix64, so that a run is its seed. */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
	uint64_t state;
};

static inline uint64_t chance_next(struct chance *c)
{
	uint64_t z = c->state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* from <= result <= to */
static inline int64_t chance_between(struct chance *c, int64_t from, int64_t to)
{
	return from + (int64_t)(chance_next(c) % (uint64_t)(to - from + 1));
}

static inline bool chance_permille(struct chance *c, unsigned permille)
{
	return chance_next(c) % 1000 < permille;
}

#endif
