/*
 * A tree each of whose things tells a number, and readers who check what they see of it (F3, F4). Whoever writes the tree gives all things the next number,
 * again and again, either in one version or one thing after another; a *step* is one such change. Readers are processes with threads. What one of
 * them has seen proves that the tree is at some step at least, and everybody shares that: a look that begins afterwards and finds something older breaks
 * the promise, as does one that finds what no step until its end can show: a mixture, a part, a listing of no version.
 *
 *   a, a.link      a file of two names, of up to 14 KiB: the number in each line, as many lines as the number says
 *   big            the same, of up to 300 KiB
 *   link           a symlink to the number
 *   attribute      mtime is the number of seconds; the mode follows it, if all things change in one version
 *   xattr, acl     a user attribute that is the number; an ACL that allows a user of this number
 *   listed         i-N to i-(N - WINDOW + 1), links to 'seed'
 *   still          the same, but that mtime stays as it is, and names go by twos, so that some versions only add one
 *   large          the same among FILLERS other names; takes many replies
 *   flag           there, and tells the number, if that is odd
 *   here, there    hold a file 'f', and a directory 'd', by turns: here if the number is even
 *   one, two       files of content "1" and "2", exchanged if the number is odd
 *   type           file, directory, symlink by turns
 */
#ifndef TESTS_LIB_LOOKS_H
#define TESTS_LIB_LOOKS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WINDOW 12
#define FILLERS 1500
#define FILLER_NAME "filler-%d-of-some-length"
#define LINE_BYTES 11
#define FILE_BYTES_MAX (300 << 10)
#define HELD_MAX 4

/* In the order in which they change, if it is one after another. */
enum thing { A, BIG, LINK, ATTRIBUTE, XATTR, ACL, LISTED, LARGE, FLAG, FILE_MOVES, DIR_MOVES, EXCHANGED, STILL, TYPE, THINGS };
#define THINGS_OF_MOUNTS STILL /* so many of them can change in one step by a system call */

static const char *const thing_names[] = { "file", "big file", "symlink", "attributes", "xattr", "ACL", "listing", "large listing", "flag",
					   "moving file", "moving directory", "exchanged files", "listing with the same mtime", "type" };

struct looks {
	unsigned alone;                /* not 0: so many things change one after another; else all in one step */
	bool focused;                  /* only 'focus' changes, and is looked at */
	enum thing focus;
	_Atomic uint64_t floor;        /* that step, or a later one, is what everybody sees */
	_Atomic uint64_t begun;        /* no later one can be seen */
	_Atomic uint64_t count, broken, of[THINGS];
	atomic_bool ready, stop;
};

struct looker {
	struct looks *looks;
	const char *mnt;
	unsigned index, seed;
	char *bytes;                   /* FILE_BYTES_MAX and some more */
	enum thing thing;
	struct held { int fd; uint64_t number; unsigned looks; void *map; size_t size; } held[HELD_MAX];
};

/* ---- steps and numbers: the thing has this number from the first step to the last */

static inline uint64_t step_first(const struct looks *l, enum thing thing, uint64_t number)
{
	return l->alone ? number * l->alone + thing : number;
}

static inline uint64_t step_last(const struct looks *l, enum thing thing, uint64_t number)
{
	return step_first(l, thing, number + 1) - 1;
}

static inline uint64_t number_at(const struct looks *l, enum thing thing, uint64_t step)
{
	return !l->alone ? step : step < (uint64_t)thing ? 0 : (step - thing) / l->alone;
}

/* What a look finds: it fits these numbers. */
struct sight {
	uint64_t first, last;
	unsigned modulus, remainder;   /* modulus 0: any of them */
	bool negated;
};

static inline bool fits(const struct sight *s, uint64_t number)
{
	bool inside = s->first <= number && number <= s->last && (s->modulus == 0 || number % s->modulus == s->remainder);

	return inside != s->negated;
}

static inline struct sight exactly(uint64_t number)
{
	return (struct sight){ .first = number, .last = number };
}

static inline struct sight parity(bool odd)
{
	return (struct sight){ .last = UINT64_MAX, .modulus = 2, .remainder = odd };
}

static inline void see(struct looks *l, uint64_t step)
{
	uint64_t floor = l->floor;

	while (floor < step && !atomic_compare_exchange_weak(&l->floor, &floor, step))
		;
}

__attribute__((format(printf, 2, 3))) static inline void broken(struct looker *r, const char *format, ...)
{
	char text[300];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (atomic_fetch_add(&r->looks->broken, 1) < 20)
		fprintf(stderr, "%s: %s\n", thing_names[r->thing], text);
}

/* A look that began when 'floor' was seen has found this. */
static inline void judge(struct looker *r, uint64_t floor, struct sight s)
{
	struct looks *l = r->looks;
	uint64_t begun = l->begun, last = number_at(l, r->thing, begun);

	for (uint64_t number = number_at(l, r->thing, floor); number <= last; number++)
		if (fits(&s, number)) {
			see(l, step_first(l, r->thing, number));
			return;
		}
	broken(r, "tells %s%" PRIu64 " to %" PRIu64 " (%u mod %u), after %" PRIu64 " was seen and before %" PRIu64 " was over", s.negated ? "not " : "",
	       s.first, s.last, s.remainder, s.modulus, number_at(l, r->thing, floor), last);
}

static inline unsigned chance(struct looker *r, unsigned of)
{
	r->seed = r->seed * 1664525 + 1013904223;
	return (r->seed >> 8) % of;
}

/* ---- content */

static inline size_t lines_of(uint64_t number, bool big)
{
	return 1 + (size_t)(number * 2654435761u >> 4) % (big ? FILE_BYTES_MAX / LINE_BYTES - 1 : 1300);
}

static inline size_t fill_with(char *bytes, uint64_t number, bool big)
{
	size_t lines = lines_of(number, big);

	for (size_t i = 0; i < lines; i++)
		snprintf(bytes + i * LINE_BYTES, LINE_BYTES + 1, "%010" PRIu64 "\n", number);
	return lines * LINE_BYTES;
}

/* The number, if it is all there and nothing else. */
static inline bool number_in(struct looker *r, const char *bytes, size_t size, bool big, uint64_t *ret_number)
{
	uint64_t number = size >= LINE_BYTES ? strtoull(bytes, NULL, 10) : 0;

	if (size != lines_of(number, big) * LINE_BYTES) {
		broken(r, "%zu bytes, that begin with number %" PRIu64, size, number);
		return false;
	}
	if (size > LINE_BYTES && memcmp(bytes, bytes + LINE_BYTES, size - LINE_BYTES) != 0) {
		for (size_t i = LINE_BYTES; i < size; i += LINE_BYTES)
			if (memcmp(bytes, bytes + i, LINE_BYTES) != 0) {
				broken(r, "a mixture: %.10s and at %zu %.10s", bytes, i, bytes + i);
				break;
			}
		return false;
	}
	*ret_number = number;
	return true;
}

static inline ssize_t read_pieces(int fd, char *bytes, size_t piece)
{
	ssize_t size = 0, more;

	while (size <= FILE_BYTES_MAX && (more = pread(fd, bytes + size, piece, size)) > 0)
		size += more;
	return size;
}

static inline ssize_t read_mapped(int fd, char *bytes)
{
	struct stat s;

	if (fstat(fd, &s) < 0 || s.st_size > FILE_BYTES_MAX)
		return -1;
	void *map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -1;
	memcpy(bytes, map, (size_t)s.st_size);
	munmap(map, (size_t)s.st_size);
	return s.st_size;
}

static inline void hold(struct looker *r, int fd, uint64_t number, size_t size)
{
	struct held *h = &r->held[chance(r, HELD_MAX)];

	if (h->looks > 0) {
		close(fd);
		return;
	}
	*h = (struct held){ fd, number, 1 + chance(r, 200), mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0), size };
}

/* What was opened long ago is what it was, also when it has to be fetched again. */
static inline void look_at_held(struct looker *r)
{
	struct held *h = &r->held[chance(r, HELD_MAX)];
	uint64_t number = 0;
	struct stat s;

	r->thing = BIG;
	if (h->looks == 0)
		return;
	if (chance(r, 2))
		posix_fadvise(h->fd, 0, 0, POSIX_FADV_DONTNEED);
	bool mapped = h->map != MAP_FAILED && chance(r, 2);
	if (fstat(h->fd, &s) < 0 || s.st_size != (off_t)h->size)
		broken(r, "held with %zu bytes, has %zd", h->size, (ssize_t)s.st_size);
	else if (mapped)
		memcpy(r->bytes, h->map, h->size);
	ssize_t size = mapped ? (ssize_t)h->size : read_pieces(h->fd, r->bytes, 70000);
	if (size < 0 || (number_in(r, r->bytes, (size_t)size, true, &number) && number != h->number))
		broken(r, "held with number %" PRIu64 ", has %" PRIu64 ", %zd bytes: %s", h->number, number, size, strerror(errno));
	if (--h->looks > 0)
		return;
	if (h->map != MAP_FAILED)
		munmap(h->map, h->size);
	close(h->fd);
}

static inline char *path_of(struct looker *r, char path[200], const char *name)
{
	snprintf(path, 200, "%s/%s", r->mnt, name);
	return path;
}

static inline void look_at_file(struct looker *r, const char *name, bool big)
{
	uint64_t floor = r->looks->floor, number;
	char path[200];
	unsigned way = chance(r, 5);
	struct stat s;
	int fd = open(path_of(r, path, name), O_RDONLY | O_CLOEXEC | (way == 4 ? O_DIRECT : 0));

	if (fd < 0) {
		broken(r, "%s: %s", name, strerror(errno));
		return;
	}
	ssize_t size = way == 0 ? read_mapped(fd, r->bytes) : read_pieces(fd, r->bytes, way == 1 ? 1001 : way == 4 ? 64 << 10 : FILE_BYTES_MAX + 4096);
	if (fstat(fd, &s) < 0 || s.st_size != size)
		broken(r, "%zd bytes are read of %zd", size, (ssize_t)s.st_size);
	if (size < 0 || !number_in(r, r->bytes, (size_t)size, big, &number)) {
		close(fd);
		return;
	}
	judge(r, floor, exactly(number));
	if (!r->looks->alone && (uint64_t)s.st_mtim.tv_sec != number)
		broken(r, "number %" PRIu64 " with a time of %jd", number, (intmax_t)s.st_mtim.tv_sec);
	if (big && chance(r, 4) == 0)
		hold(r, fd, number, (size_t)size);
	else
		close(fd);
}

/* ---- names and attributes */

static inline void look_at_link(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	char path[200], text[32] = "";

	if (readlink(path_of(r, path, "link"), text, sizeof(text) - 1) <= 0)
		broken(r, "%s", strerror(errno));
	else
		judge(r, floor, exactly(strtoull(text, NULL, 10)));
}

static inline mode_t mode_of(uint64_t number)
{
	return 0600 | (number & 077);
}

static inline void look_at_attribute(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	char path[200];
	struct stat s;

	if (stat(path_of(r, path, "attribute"), &s) < 0) {
		broken(r, "%s", strerror(errno));
		return;
	}
	judge(r, floor, exactly((uint64_t)s.st_mtim.tv_sec));
	if (!r->looks->alone && (s.st_mode & 07777) != mode_of((uint64_t)s.st_mtim.tv_sec))
		broken(r, "a mixture: time %jd, mode %o", (intmax_t)s.st_mtim.tv_sec, s.st_mode);
}

static inline void look_at_xattr(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	char path[200], text[32] = "";

	if (getxattr(path_of(r, path, "xattr"), "user.number", text, sizeof(text) - 1) <= 0)
		broken(r, "%s", strerror(errno));
	else
		judge(r, floor, exactly(strtoull(text, NULL, 10)));
}

/* Version 2; owner rw-, a user r--, group ---, mask r--, other ---. */
#define ACL_BYTES 44
#define ACL_USER_AT 16
static inline void acl_of(uint64_t number, uint8_t acl[ACL_BYTES])
{
	static const uint8_t like[ACL_BYTES] = { 2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0, 0, 0, 0, 4, 0, 0, 0,
						 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255 };
	uint32_t user = (uint32_t)number;

	memcpy(acl, like, ACL_BYTES);
	memcpy(acl + ACL_USER_AT, &user, sizeof(user));
}

static inline void look_at_acl(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	uint8_t acl[100];
	uint32_t user;
	char path[200];

	if (getxattr(path_of(r, path, "acl"), "system.posix_acl_access", acl, sizeof(acl)) != ACL_BYTES) {
		broken(r, "%s", strerror(errno));
		return;
	}
	memcpy(&user, acl + ACL_USER_AT, sizeof(user));
	judge(r, floor, exactly(user));
}

/* A name of the window, whether it is there yet, or still, or not. */
static inline void look_at_window_name(struct looker *r, const char *dir)
{
	uint64_t floor = r->looks->floor, number = number_at(r->looks, r->thing, floor) + 3;
	char path[200];

	number -= number > 20 ? chance(r, 18) : 0;
	snprintf(path, sizeof(path), "%s/%s/i-%" PRIu64, r->mnt, dir, number);
	bool there = access(path, F_OK) == 0;
	judge(r, floor, (struct sight){ .first = number, .last = number + WINDOW - 1, .negated = !there });
}

struct linux_dirent64 {
	uint64_t ino, off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

/* The last number of which there is the name that came with this one. */
static inline uint64_t last_of(enum thing thing, uint64_t number)
{
	return number + WINDOW - 1 + (thing == STILL ? number % 2 : 0);
}

struct listing {
	uint64_t began;                /* step: everybody had seen it when the listing began */
	uint64_t newest[8 * WINDOW];   /* of names of the window */
	unsigned count;
	uint8_t fillers[FILLERS];      /* so often each was there */
};

static inline void add_listed(struct looker *r, struct listing *l, const char *name)
{
	struct looks *looks = r->looks;
	uint64_t number, begun = looks->begun;
	int filler;

	if (sscanf(name, FILLER_NAME, &filler) == 1)
		l->fillers[filler % FILLERS]++;
	if (sscanf(name, "i-%" SCNu64, &number) != 1)
		return;
	if (step_last(looks, r->thing, last_of(r->thing, number)) < l->began || step_first(looks, r->thing, number) > begun)
		broken(r, "has a name of %" PRIu64 ", after %" PRIu64 " was seen and before %" PRIu64 " was over", number,
		       number_at(looks, r->thing, l->began), number_at(looks, r->thing, begun));
	for (unsigned i = 0; i < l->count; i++)
		if (l->newest[i] == number)
			broken(r, "has the name of %" PRIu64 " twice", number);
	if (l->count < sizeof(l->newest) / sizeof(*l->newest))
		l->newest[l->count++] = number;
	see(looks, step_first(looks, r->thing, number));
}

/* What was there all the time is listed. */
static inline void judge_listing(struct looker *r, const struct listing *l, bool fillers)
{
	uint64_t oldest = number_at(r->looks, r->thing, r->looks->begun), newest = number_at(r->looks, r->thing, l->began);

	for (int i = 0; i < FILLERS && fillers; i++)
		if (l->fillers[i] != 1) {
			broken(r, "filler %d is there %d times", i, l->fillers[i]);
			break;
		}
	for (uint64_t number = oldest < WINDOW ? 0 : oldest - WINDOW; number <= newest; number++) {
		bool found = last_of(r->thing, number) < oldest;
		for (unsigned i = 0; i < l->count; i++)
			found |= l->newest[i] == number;
		if (!found)
			broken(r, "lacks the name of %" PRIu64 ", which is there from before %" PRIu64 " to %" PRIu64, number, newest, oldest);
	}
}

/*
 * It takes two calls at least, so what stays is there once; what comes and goes meanwhile may be there or not (that is so everywhere: readdir(3p)), but
 * nothing is there that was gone when the listing began.
 */
static inline void look_at_listing(struct looker *r, const char *name)
{
	struct listing l = { .began = r->looks->floor };
	char path[200], bytes[32 << 10] __attribute__((aligned(8)));
	size_t piece = chance(r, 2) ? 512 : sizeof(bytes);
	int dir = open(path_of(r, path, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long size;

	while ((size = syscall(SYS_getdents64, dir, bytes, piece)) > 0)
		for (long at = 0; at < size;) {
			const struct linux_dirent64 *entry = (const void *)(bytes + at);
			at += entry->reclen;
			add_listed(r, &l, entry->name);
		}
	if (size < 0)
		broken(r, "%s", strerror(errno));
	else
		judge_listing(r, &l, r->thing == LARGE);
	close(dir);
}

static inline void look_at_flag(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	char path[200], text[32] = "";
	int fd = open(path_of(r, path, "flag"), O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) <= 0)
		broken(r, "cannot be read: %s", strerror(errno));
	else if (fd < 0 && errno != ENOENT)
		broken(r, "%s", strerror(errno));
	else
		judge(r, floor, fd >= 0 ? exactly(strtoull(text, NULL, 10)) : parity(false));
	if (fd >= 0)
		close(fd);
}

/*
 * Half of the looks of a directory go through what is in it. Where the kernel finds a directory that it knows under another name it moves what it has of it, or, if
 * a lock for that is not free at once, says ESTALE (d_splice_alias): with renames in a fraction of a millisecond somebody meets that.
 */
static inline void look_at_moving(struct looker *r, const char *name)
{
	static const char *const inside[] = { "", "/inside" };
	uint64_t floor = r->looks->floor;
	bool there = chance(r, 2);
	char path[200];

	snprintf(path, sizeof(path), "%s/%s/%s%s", r->mnt, there ? "there" : "here", name, inside[*name == 'd' && chance(r, 2)]);
	if (access(path, F_OK) == 0)
		judge(r, floor, parity(there));
	else if (errno == ENOENT)
		judge(r, floor, parity(!there));
	else if (errno != ESTALE || *name != 'd')
		broken(r, "%s: %s", path, strerror(errno));
}

static inline void look_at_exchanged(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	bool two = chance(r, 2);
	char path[200], text[8] = "";
	int fd = open(path_of(r, path, two ? "two" : "one"), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) != 1)
		broken(r, "%s: %s", path, strerror(errno));
	else
		judge(r, floor, parity((*text == '2') != two));
	if (fd >= 0)
		close(fd);
}

static inline void look_at_type(struct looker *r)
{
	uint64_t floor = r->looks->floor;
	char path[200];
	struct stat s;

	if (lstat(path_of(r, path, "type"), &s) < 0)
		broken(r, "%s", strerror(errno));
	else
		judge(r, floor, (struct sight){ .last = UINT64_MAX, .modulus = 3, .remainder = S_ISREG(s.st_mode) ? 0 : S_ISDIR(s.st_mode) ? 1 : 2 });
}

/* ---- readers */

static inline void look(struct looker *r, enum thing thing)
{
	r->thing = thing;
	switch (thing) {
	case A:
		return look_at_file(r, chance(r, 2) ? "a" : "a.link", false);
	case BIG:
		return look_at_file(r, "big", true);
	case LINK:
		return look_at_link(r);
	case ATTRIBUTE:
		return look_at_attribute(r);
	case XATTR:
		return look_at_xattr(r);
	case ACL:
		return look_at_acl(r);
	case LISTED:
		return chance(r, 2) ? look_at_listing(r, "listed") : look_at_window_name(r, "listed");
	case STILL:
		return look_at_listing(r, "still"); /* only: a name that the kernel knows has it drop the listing when that goes */
	case LARGE:
		return look_at_listing(r, "large");
	case FLAG:
		return look_at_flag(r);
	case FILE_MOVES:
		return look_at_moving(r, "f");
	case DIR_MOVES:
		return look_at_moving(r, "d");
	case EXCHANGED:
		return look_at_exchanged(r);
	case TYPE:
		return look_at_type(r);
	case THINGS:
		break;
	}
}

/* Most often at what is just being changed. */
static inline enum thing thing_for(struct looker *r)
{
	struct looks *l = r->looks;

	if (l->focused)
		return l->focus;
	return !l->alone ? chance(r, THINGS) : chance(r, 3) ? (l->begun + chance(r, 2)) % l->alone : chance(r, l->alone);
}

/* At one thing several times, so that the kernel has it; at everything sooner or later. */
static inline void *look_around(void *reader)
{
	struct looker *r = reader;
	struct looks *l = r->looks;

	while (!l->ready && !l->stop)
		usleep(1000);
	while (!l->stop) {
		if (r->index > (l->begun >> 4) % 8) { /* few of them by turns: then flips meet nobody, and what is cached is left */
			usleep(500);
			continue;
		}
		enum thing thing = thing_for(r);
		unsigned times = thing == LARGE || thing == BIG ? 1 : 1 + chance(r, 8);

		for (unsigned i = 0; i < times && !l->stop; i++)
			look(r, thing);
		l->of[thing] += times;
		l->count += times;
		look_at_held(r);
	}
	return NULL;
}

#define READER_THREADS 3

/* A process of readers; to be forked before there are threads. It ends when 'stop' is set. */
static inline pid_t looks_fork(struct looks *l, const char *mnt, unsigned seed)
{
	struct looker lookers[READER_THREADS];
	pthread_t threads[READER_THREADS];
	pid_t child = fork();

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(lookers, 0, sizeof(lookers));
	for (unsigned i = 0; i < READER_THREADS; i++) {
		lookers[i].looks = l;
		lookers[i].mnt = mnt;
		lookers[i].index = lookers[i].seed = seed * READER_THREADS + i;
		lookers[i].bytes = aligned_alloc(4096, FILE_BYTES_MAX + (128 << 10));
		pthread_create(&threads[i], NULL, look_around, &lookers[i]);
	}
	for (unsigned i = 0; i < READER_THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

static inline struct looks *looks_new(unsigned alone)
{
	struct looks *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (l == MAP_FAILED)
		abort();
	l->alone = alone;
	return l;
}

static inline void looks_tell(const struct looks *l)
{
	for (unsigned i = 0; i < (l->alone ? l->alone : THINGS); i++)
		printf("  %s: %" PRIu64 " looks\n", thing_names[i], (uint64_t)l->of[i]);
}

#endif
