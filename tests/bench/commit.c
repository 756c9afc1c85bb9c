/*
 * How long a batch's commit takes, by the master's own clock (from the asking to the decision), and how far apart the first and the last slave show it. Each
 * round begins a batch, writes so many files of 1 KiB into its view, commits it, and meanwhile looks for the last file's new content on every slave.
 *
 *   commit ROUNDS FILES DRSFS STATE SLAVE-MOUNT…      DRSFS: the program; STATE: the master's state directory
 *
 * Prints two lines: "commit P50 P99 ROUNDS" and "spread P50 P99 ROUNDS", in µs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/sample.h"

#define CONTENT_BYTES 1024
#define SLAVES_MAX 64
#define ANSWER_BYTES_MAX 65536
#define PATIENCE_US 60e6

extern char **environ;

static void die(const char *what)
{
	fprintf(stderr, "commit: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* A command whose output is read. */
struct child {
	pid_t pid;
	int out;
};

static struct child start(char *const *words)
{
	struct child child;
	posix_spawn_file_actions_t actions;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		die("pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	errno = posix_spawnp(&child.pid, words[0], &actions, NULL, words, environ);
	if (errno)
		die(words[0]);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	child.out = ends[0];
	return child;
}

static void finish(const struct child *child, char answer[ANSWER_BYTES_MAX])
{
	size_t size = 0;
	ssize_t n;
	int status;
	while ((n = read(child->out, answer + size, ANSWER_BYTES_MAX - 1 - size)) > 0)
		size += (size_t)n;
	answer[size] = 0;
	close(child->out);
	if (waitpid(child->pid, &status, 0) < 0 || status != 0) {
		fprintf(stderr, "commit: the command failed: %s\n", answer);
		exit(1);
	}
}

static void fill(char content[CONTENT_BYTES], uint64_t round)
{
	memset(content, 'a' + (int)(round % 26), CONTENT_BYTES);
	memcpy(content, &round, sizeof(round));
}

static void write_files(const char *view, size_t files, uint64_t round)
{
	char content[CONTENT_BYTES], path[2 * PATH_MAX];
	fill(content, round);
	for (size_t i = 0; i < files; i++) {
		snprintf(path, sizeof(path), "%.*s/file%zu", PATH_MAX, view, i);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0 || write(fd, content, sizeof(content)) != sizeof(content) || close(fd) < 0)
			die(path);
	}
}

static bool has_round(const char *path, uint64_t round)
{
	char content[CONTENT_BYTES], wanted[CONTENT_BYTES];
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, content, sizeof(content));
	close(fd);
	fill(wanted, round);
	return n == CONTENT_BYTES && memcmp(content, wanted, sizeof(content)) == 0;
}

/* From the first slave that shows it to the last one. */
static double spread(char **slaves, size_t count, size_t files, uint64_t round)
{
	char paths[SLAVES_MAX][PATH_MAX];
	bool seen[SLAVES_MAX] = { false };
	double began = now_us(), first = 0, last = 0;
	size_t missing = count;
	for (size_t i = 0; i < count; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/file%zu", slaves[i], files - 1);
	while (missing) {
		for (size_t i = 0; i < count; i++) {
			if (seen[i] || !has_round(paths[i], round))
				continue;
			last = now_us();
			first = first > 0 ? first : last;
			seen[i] = true;
			missing--;
		}
		if (now_us() - began > PATIENCE_US) {
			errno = ETIMEDOUT;
			die("a slave does not show it");
		}
		if (missing)
			pause_us(missing == count ? 200 : 10);
	}
	return last - first;
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 5 ? strtoul(argv[1], NULL, 10) : 0, files = argc > 5 ? strtoul(argv[2], NULL, 10) : 0, slaves = (size_t)(argc - 5);
	static char answer[ANSWER_BYTES_MAX];
	if (!rounds || !files || slaves > SLAVES_MAX) {
		fprintf(stderr, "usage: commit ROUNDS FILES DRSFS STATE SLAVE-MOUNT…\n");
		return 2;
	}
	prctl(PR_SET_TIMERSLACK, 1UL);
	double *commits = calloc(rounds + 1, sizeof(*commits)), *spreads = calloc(rounds + 1, sizeof(*spreads));
	if (!commits || !spreads)
		die("samples");
	uint64_t first = (uint64_t)now_us(); /* other content than the last run's */
	for (size_t round = 0; round <= rounds; round++) {
		struct child begin = start((char *[]){ argv[3], "batch", "begin", "--state", argv[4], "--name", "bench", NULL });
		finish(&begin, answer);
		answer[strcspn(answer, "\n")] = 0;
		write_files(answer, files, first + round);
		struct child commit = start((char *[]){ argv[3], "batch", "commit", "--state", argv[4], "--json", "bench", NULL });
		spreads[round] = spread(argv + 5, slaves, files, first + round);
		finish(&commit, answer);
		const char *us = strstr(answer, "\"us\":");
		if (!us)
			die(answer);
		commits[round] = strtod(us + strlen("\"us\":"), NULL);
		pause_us(3000 + random() % 4000);
	}
	sample_print("commit", commits + 1, rounds); /* the first round warms up */
	sample_print("spread", spreads + 1, rounds);
	free(commits);
	free(spreads);
	return 0;
}
