/*
 * Two files that always change together, and readers who would notice if they did not.
 *
 *   pairs write NUMBER              write a and b in the working directory, both of that number
 *   pairs read LAST SECONDS DIR     read them in DIR until both have the number LAST, which must be so after these seconds
 *
 * A file is its number, COPIES times, a line each: half a file, or one of two versions, shows. Readers are several processes: some read a before b, some b
 * before a, by fresh opens, in pieces, or over a mapping; some keep a file open and read it again. What they have seen is shared between them: who opens a file after
 * anybody has seen number n must find n or a later one in it, whichever file it is, since both changed in one version (F2, F3, F4, R1.4, R4.8).
 * Exit code 0 and a line with the count; 1 and what was seen wrong, a line each.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define COPIES 1000
#define LINE_BYTES 9 /* eight digits and the end */
#define FILE_BYTES (COPIES * LINE_BYTES)
#define READERS 4

/* Shared between the readers. */
static struct seen {
	atomic_ulong newest; /* number */
	atomic_ulong reads;
	atomic_bool wrong;
} *seen;

static int write_file(const char *name, unsigned long number)
{
	char text[FILE_BYTES + 1];
	for (int i = 0; i < COPIES; i++)
		sprintf(text + i * LINE_BYTES, "%08lu\n", number % 100000000);
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	/* In pieces, so that a half is there to be seen. */
	for (size_t done = 0; fd >= 0 && done < FILE_BYTES; done += FILE_BYTES / 4)
		if (write(fd, text + done, FILE_BYTES / 4) != FILE_BYTES / 4)
			return -1;
	return fd < 0 ? -1 : close(fd);
}

static double clock_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void wrong(const char *reader, const char *name, const char *what, unsigned long first, unsigned long second)
{
	printf("%s: %s %s: %lu, %lu\n", reader, name, what, first, second);
	fflush(stdout);
	seen->wrong = true;
}

/* All of an open file, by one of several ways; how many bytes, or -1. */
static ssize_t read_all(int fd, int way, char *text /* FILE_BYTES and 1001 more */)
{
	if (way == 0)
		return pread(fd, text, FILE_BYTES + 1, 0);
	if (way == 1) {
		void *map = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			return -1;
		struct stat st;
		if (fstat(fd, &st) == 0 && st.st_size >= FILE_BYTES)
			memcpy(text, map, FILE_BYTES);
		munmap(map, FILE_BYTES);
		return st.st_size;
	}
	ssize_t total = 0, n;
	while (total <= FILE_BYTES && (n = pread(fd, text + total, 1001, total)) > 0)
		total += n;
	return total;
}

/* The number in a whole text; else tells what is wrong with it, and gives 0. */
static unsigned long number_of(const char *reader, const char *name, const char *text, ssize_t size)
{
	if (size != FILE_BYTES) {
		wrong(reader, name, "is not whole (bytes, errno)", (unsigned long)size, (unsigned long)errno);
		return 0;
	}
	unsigned long number = strtoul(text, NULL, 10);
	for (int i = 1; i < COPIES; i++) {
		if (memcmp(text, text + i * LINE_BYTES, LINE_BYTES) == 0)
			continue;
		wrong(reader, name, "is a mixture", number, strtoul(text + i * LINE_BYTES, NULL, 10));
		return 0;
	}
	return number;
}

static void raise_newest(unsigned long number)
{
	unsigned long old = seen->newest;
	while (old < number && !atomic_compare_exchange_weak(&seen->newest, &old, number))
		;
}

static unsigned long look_at(const char *reader, const char *name, int way, int *kept_fd, unsigned long *kept_number)
{
	char text[FILE_BYTES + 1001 + 1];
	unsigned long floor = seen->newest; /* before it is opened */
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		wrong(reader, name, "cannot be opened (errno)", (unsigned long)errno, 0);
		return 0;
	}
	unsigned long number = number_of(reader, name, text, read_all(fd, way, text));
	if (number && number < floor)
		wrong(reader, name, "went back", floor, number);
	raise_newest(number);
	seen->reads++;
	if (*kept_fd < 0 && number) {
		*kept_fd = fd;
		*kept_number = number;
	} else {
		close(fd);
	}
	return number;
}

/* A file that was opened long ago still has what it had. */
static void look_back(const char *reader, const char *name, int *kept_fd, unsigned long kept_number)
{
	char text[FILE_BYTES + 1001 + 1];
	unsigned long number = number_of(reader, name, text, read_all(*kept_fd, 2, text));
	if (number && number != kept_number)
		wrong(reader, name, "changed under who has it open", kept_number, number);
	close(*kept_fd);
	*kept_fd = -1;
}

static int read_on(int which, unsigned long last, double until)
{
	static const char *const files[] = { "a", "b" };
	char reader[24];
	int kept_fd = -1;
	unsigned long kept_number = 0, first, second;
	snprintf(reader, sizeof(reader), "reader %d", which);
	for (unsigned round = 0; !seen->wrong; round++) {
		first = look_at(reader, files[which % 2], (which / 2 + (int)round) % 3, &kept_fd, &kept_number);
		second = look_at(reader, files[(which + 1) % 2], (which + (int)round) % 3, &kept_fd, &kept_number);
		if (round % 64 == 63 && kept_fd >= 0)
			look_back(reader, "a file kept open", &kept_fd, kept_number);
		if (first >= last && second >= last)
			return 0;
		if (clock_s() > until) {
			wrong(reader, "both", "did not become the last in time", first, second);
			break;
		}
		if (round % 8 == 7)
			usleep(200); /* the others want to run, too */
	}
	return 1;
}

static int read_until(unsigned long last, double seconds)
{
	double until = clock_s() + seconds;
	int failed = 0, status;
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		return 1;
	for (int i = 0; i < READERS; i++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			exit(read_on(i, last, until));
		}
	}
	while (wait(&status) > 0)
		failed |= status != 0;
	printf("%lu reads, the last number is %lu\n", (unsigned long)seen->reads, (unsigned long)seen->newest);
	return failed || seen->wrong;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "write") == 0) {
		unsigned long number = strtoul(argv[2], NULL, 10);
		if (write_file("a", number) == 0 && write_file("b", number) == 0)
			return 0;
		perror("pairs");
		return 1;
	}
	if (argc == 5 && strcmp(argv[1], "read") == 0) {
		if (chdir(argv[4]) == 0)
			return read_until(strtoul(argv[2], NULL, 10), strtod(argv[3], NULL));
		perror(argv[4]);
		return 1;
	}
	fprintf(stderr, "usage: pairs write NUMBER | pairs read LAST SECONDS DIR\n");
	return 2;
}
