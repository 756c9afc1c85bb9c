/*
 * How long until a slave reads what the master renamed into place: a file of 1 KiB is written to a temporary name and renamed; from the rename's
 * return until open() and read() on each slave's mount give the new content. One process asks all slaves in turn, with a short pause, so
 * that the asking leaves the processors to the daemons.
 *
 *   propagate ROUNDS MASTER-MOUNT SLAVE-MOUNT…
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/bench/sample.h"

#define CONTENT_BYTES 1024
#define SLAVES_MAX 64
#define PATIENCE_US 10e6

static void die(const char *what)
{
	fprintf(stderr, "propagate: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_temporary(const char *path, uint64_t round)
{
	char content[CONTENT_BYTES];
	memset(content, 'a' + (int)(round % 26), sizeof(content));
	memcpy(content, &round, sizeof(round));
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, content, sizeof(content)) != sizeof(content) || close(fd) < 0)
		die(path);
}

/* Does this file have the content of that round, whole? */
static bool has_round(const char *path, uint64_t round)
{
	char content[CONTENT_BYTES + 1];
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, content, sizeof(content));
	close(fd);
	return n == CONTENT_BYTES && memcmp(content, &round, sizeof(round)) == 0 && content[CONTENT_BYTES - 1] == 'a' + (char)(round % 26);
}

static void one_round(uint64_t round, const char *temporary, const char *final, char paths[][PATH_MAX], size_t slaves, double *samples)
{
	bool seen[SLAVES_MAX] = { false };
	size_t missing = slaves;
	write_temporary(temporary, round);
	if (rename(temporary, final) < 0)
		die(final);
	double renamed = now_us();
	while (missing) {
		for (size_t i = 0; i < slaves; i++) {
			if (seen[i] || !has_round(paths[i], round))
				continue;
			samples[i] = now_us() - renamed;
			seen[i] = true;
			missing--;
		}
		if (now_us() - renamed > PATIENCE_US) {
			errno = ETIMEDOUT;
			die("a slave does not get it");
		}
		if (missing)
			pause_us(10);
	}
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 3 ? strtoul(argv[1], NULL, 10) : 0, slaves = (size_t)(argc - 3);
	static char temporary[PATH_MAX], final[PATH_MAX], paths[SLAVES_MAX][PATH_MAX];
	if (!rounds || slaves > SLAVES_MAX) {
		fprintf(stderr, "usage: propagate ROUNDS MASTER-MOUNT SLAVE-MOUNT…\n");
		return 2;
	}
	prctl(PR_SET_TIMERSLACK, 1UL);
	snprintf(temporary, sizeof(temporary), "%s/.propagate", argv[2]);
	snprintf(final, sizeof(final), "%s/propagate", argv[2]);
	for (size_t i = 0; i < slaves; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/propagate", argv[3 + i]);
	double *samples = calloc((rounds + 1) * slaves, sizeof(*samples));
	if (!samples)
		die("samples");
	uint64_t first = (uint64_t)now_us(); /* other content than the last run's */
	for (size_t round = 0; round <= rounds; round++) {
		one_round(first + round, temporary, final, paths, slaves, samples + round * slaves);
		pause_us(3000 + random() % 4000); /* not in step with anybody's timers */
	}
	sample_print("propagate", samples + slaves, rounds * slaves); /* the first round warms up */
	free(samples);
	unlink(final);
	return 0;
}
