/* Samples of a time in µs, and the line that the bench's table reads: "NAME p50 p99 count". */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static inline void pause_us(long us)
{
	struct timespec span = { us / 1000000, us % 1000000 * 1000 };
	nanosleep(&span, NULL);
}

static inline int sample_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static inline void sample_print(const char *name, double *samples, size_t count)
{
	qsort(samples, count, sizeof(*samples), sample_compare);
	printf("%s %.0f %.0f %zu\n", name, samples[count / 2], samples[count * 99 / 100], count);
}

#endif
