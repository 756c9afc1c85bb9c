/*
 * Loading: where the chunks of a range lie is found without touching them; then the runs of pages that are not in memory are read all at once by the
 * kernel's asynchronous I/O. That does not hold the file's lock while it waits, so that commits go on.
 *
 * Past the page cache is safe: what a read transaction sees has been written and synced, and is not changed before the transaction ends.
 */
#include "store/loader.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/internal.h"
#include "store/reading.h"

#define PARTS_MAX 512
#define RUNS_MAX 128
#define RUN_PAGES_MAX 512
#define GAP_BYTES_MAX ((uintptr_t)32 << 10) /* is rather read than left out */
#define BUFFER_BYTES ((size_t)2 << 20)
#define SMALL_FILE_BYTES (64 << 10)
#define AROUND_BYTES ((uintptr_t)128 << 10) /* that are read for a small file */
#define BRING_BYTES ((size_t)32 << 10)

/* Pages of the store that follow each other. */
struct run {
	uintptr_t from, to;
	const uint8_t *loaded; /* where they are; NULL: in the map */
	bool cold;
};

/* A hole, bytes of the node itself, or of a chunk. */
struct part {
	const uint8_t *data;
	struct slice place; /* of the chunk; no data: it is none */
	size_t skip, size;
	unsigned run;
};

struct loader {
	struct store *store;
	uintptr_t map, page_mask;
	int fd;              /* -1: only through the page cache */
	aio_context_t aio;
	void *buffer_room;
	uint8_t *buffer;     /* in that room, aligned as huge pages are */
	size_t buffer_used;
	bool around;         /* read neighbours, too */
	unsigned parts_count, runs_count;
	struct part parts[PARTS_MAX];
	struct run runs[RUNS_MAX];
	struct iocb requests[RUNS_MAX];
};

/* ---- made and freed */

/*
 * LMDB does not say where its map begins. But a page begins with its own number, so any key tells; what that leads to is compared with the file. 0: it
 * is not so.
 */
static uintptr_t find_map(const struct loader *l, struct txn *txn)
{
	static const uint8_t any = ROW_VERSION;
	size_t page_bytes = l->store->page_bytes;
	uint8_t in_file[4096];
	struct slice key, value;
	size_t number;

	if (page_bytes != l->page_mask + 1 || page_bytes > sizeof(in_file) || row_seek(txn, slice_of(&any, 1), &key, &value) != 0)
		return 0;
	uintptr_t page = (uintptr_t)key.data & ~l->page_mask;
	memcpy(&number, (const void *)page, sizeof(number));
	if (pread(l->store->data_fd, in_file, page_bytes, (off_t)(number * page_bytes)) != (ssize_t)page_bytes)
		return 0;
	return memcmp(in_file, (const void *)page, page_bytes) == 0 ? page - number * page_bytes : 0;
}

static void open_direct(struct loader *l)
{
	char path[32];
	struct txn *txn;

	if (txn_begin_read(l->store, &txn) != 0)
		return;
	l->map = find_map(l, txn);
	txn_abort(txn);
	if (!l->map)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", l->store->data_fd); /* the file that is mapped, whatever has its name by now */
	void *room = mmap(NULL, 2 * BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return;
	l->buffer_room = room;
	l->buffer = (uint8_t *)(((uintptr_t)room + BUFFER_BYTES - 1) & ~(uintptr_t)(BUFFER_BYTES - 1));
	madvise(l->buffer, BUFFER_BYTES, MADV_HUGEPAGE); /* one piece of memory takes one request to the disk */
	madvise(l->buffer, BUFFER_BYTES, MADV_DONTFORK); /* else a child could be given the page that the disk writes to */
	l->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

int loader_new(struct store *store, struct loader **ret_loader)
{
	struct loader *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->store = store;
	l->fd = -1;
	l->page_mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
	open_direct(l);
	*ret_loader = l;
	return 0;
}

void loader_free(struct loader *l)
{
	if (!l)
		return;
	if (l->aio)
		syscall(SYS_io_destroy, l->aio);
	if (l->fd >= 0)
		close(l->fd);
	if (l->buffer_room)
		munmap(l->buffer_room, 2 * BUFFER_BYTES);
	free(l);
}

/* ---- memory */

static bool is_in_memory(const struct loader *l, uintptr_t from, uintptr_t to)
{
	unsigned char in[RUN_PAGES_MAX + 1];
	size_t pages = (to - from) / (l->page_mask + 1);

	if (mincore((void *)from, to - from, in) < 0)
		return false;
	for (size_t i = 0; i < pages; i++)
		if (!(in[i] & 1))
			return false;
	return true;
}

/* Have the kernel begin to read these bytes, and what lies around them. */
static void advise_around(const struct loader *l, uintptr_t from, uintptr_t to)
{
	uintptr_t start = from / AROUND_BYTES * AROUND_BYTES;

	if (start < l->map)
		start = from & ~l->page_mask;
	madvise((void *)start, (to + AROUND_BYTES - 1) / AROUND_BYTES * AROUND_BYTES - start, MADV_WILLNEED);
}

/* Into the page cache. To touch a page in the map that the disk cannot read would kill us; to read it is an error. */
static int bring(const struct loader *l, uintptr_t from, uintptr_t to)
{
	uint8_t bytes[BRING_BYTES];

	while (l->map && from < to) {
		size_t size = to - from < sizeof(bytes) ? to - from : sizeof(bytes);
		ssize_t got = pread(l->store->data_fd, bytes, size, (off_t)(from - l->map));

		if (got != (ssize_t)size)
			return got < 0 ? -errno : -EIO;
		from += size;
	}
	return 0;
}

/* ---- what is needed, and where it lies */

static bool run_takes(const struct loader *l, const struct run *run, uintptr_t from, uintptr_t to)
{
	bool near = from >= run->from && from <= run->to + GAP_BYTES_MAX;

	return near && (to - run->from) / (l->page_mask + 1) <= RUN_PAGES_MAX;
}

/* The run that these bytes are in; RUNS_MAX: there are too many. */
static unsigned run_of(struct loader *l, const uint8_t *data, size_t size)
{
	uintptr_t from = (uintptr_t)data & ~l->page_mask, to = ((uintptr_t)data + size + l->page_mask) & ~l->page_mask;
	struct run *last = l->runs_count ? &l->runs[l->runs_count - 1] : NULL;

	if (last && run_takes(l, last, from, to)) {
		if (to > last->to)
			last->to = to;
		return l->runs_count - 1;
	}
	if (l->runs_count < RUNS_MAX)
		l->runs[l->runs_count++] = (struct run){ .from = from, .to = to };
	else
		return RUNS_MAX;
	return l->runs_count - 1;
}

/* The pages from the chunk's beginning, where its flags stand, up to what is wanted of it. */
static int place_chunk(struct loader *l, const struct walk *w, const struct span *span, struct part *part)
{
	int error = chunk_place(w->txn, span->id, &part->place);
	if (error < 0)
		return error == -ENOENT ? -DRS_ECORRUPT : error;
	if (part->place.size != span->length + 1)
		return -DRS_ECORRUPT;
	part->run = run_of(l, part->place.data, 1 + part->skip + part->size);
	return part->run < RUNS_MAX ? 0 : -E2BIG;
}

static int visit_part(const struct walk *w, const struct span *span)
{
	struct loader *l = w->user;
	uint64_t from, to;

	if (span->kind == ENTRY_LIST)
		return WALK_OPEN; /* it lies in a page of the tree, where it has been found */
	if (l->parts_count == PARTS_MAX)
		return -E2BIG;
	span_clip(w, span, &from, &to);
	struct part *part = &l->parts[l->parts_count++];
	*part = (struct part){ .skip = (size_t)(from - span->start), .size = (size_t)(to - from) };
	if (span->kind == ENTRY_HOLE)
		return WALK_ON;
	if (span->id)
		return place_chunk(l, w, span, part);
	part->data = span->bytes + part->skip;
	return WALK_ON;
}

/* ---- loading */

/* Only the page cache from now on. */
static void give_up_loading(struct loader *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

/* Not before it is needed: the kernel takes its time to give up a context. */
static bool can_load(struct loader *l)
{
	if (l->fd >= 0 && !l->aio && syscall(SYS_io_setup, RUNS_MAX, &l->aio) < 0)
		give_up_loading(l);
	return l->fd >= 0;
}

static bool prepare(struct loader *l, struct run *run, struct iocb *request)
{
	size_t size = run->to - run->from;

	if (l->around || size > BUFFER_BYTES - l->buffer_used || !can_load(l))
		return false;
	run->loaded = l->buffer + l->buffer_used;
	l->buffer_used += size;
	*request = (struct iocb){
		.aio_data = (uintptr_t)run,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)l->fd,
		.aio_buf = (uintptr_t)run->loaded,
		.aio_nbytes = size,
		.aio_offset = (int64_t)(run->from - l->map),
	};
	return true;
}

/* How many the kernel has taken. */
static long submit(struct loader *l, long count)
{
	struct iocb *pointers[RUNS_MAX];
	long done = 0;

	for (long i = 0; i < count; i++)
		pointers[i] = &l->requests[i];
	while (done < count) {
		long more = syscall(SYS_io_submit, l->aio, count - done, pointers + done);
		if (more <= 0)
			break;
		done += more;
	}
	return done;
}

/* Opening is not refused on a disk whose sectors are larger than our pages, reading is. */
static bool is_refused(int64_t result)
{
	return result == -EINVAL || result == -EOPNOTSUPP;
}

/* What was refused is left to the page cache, from now on. */
static int run_done(struct loader *l, struct run *run, int64_t result)
{
	if (result == (int64_t)(run->to - run->from))
		return 0;
	if (!is_refused(result))
		return result < 0 ? (int)result : -EIO;
	run->loaded = NULL;
	give_up_loading(l);
	return 0;
}

/* All of them, whatever becomes of them: they write into the buffer. */
static int wait_for(struct loader *l, long count)
{
	struct io_event events[16];
	int error = 0;

	while (count > 0) {
		long got = syscall(SYS_io_getevents, l->aio, 1L, count < 16 ? count : 16L, events, NULL);
		assert(got >= 0 || errno == EINTR);
		for (long i = 0; i < got; i++) {
			int failed = run_done(l, (struct run *)(uintptr_t)events[i].data, events[i].res);

			if (failed < 0)
				error = failed;
		}
		count -= got > 0 ? got : 0;
	}
	return error;
}

/* All at once: what the kernel reads for us, and what it brings into the page cache. How many requests it has to answer. */
static long load_begin(struct loader *l)
{
	long count = 0;

	l->buffer_used = 0;
	for (unsigned i = 0; i < l->runs_count; i++) {
		struct run *run = &l->runs[i];

		run->cold = !is_in_memory(l, run->from, run->to);
		if (!run->cold)
			continue;
		if (prepare(l, run, &l->requests[count]))
			count++;
		else if (l->around)
			advise_around(l, run->from, run->to);
		else
			madvise((void *)run->from, run->to - run->from, MADV_WILLNEED);
	}
	long taken = count ? submit(l, count) : 0;
	for (long i = taken; i < count; i++)
		((struct run *)(uintptr_t)l->requests[i].aio_data)->loaded = NULL;
	return taken;
}

static int load(struct loader *l)
{
	long taken = load_begin(l);
	int error = taken ? wait_for(l, taken) : 0;

	for (unsigned i = 0; error == 0 && i < l->runs_count; i++) {
		const struct run *run = &l->runs[i];

		if (run->cold && !run->loaded)
			error = bring(l, run->from, run->to);
	}
	return error;
}

/* ---- delivered */

/* Does the page that was read tell the number of the one that is mapped? Else the disk, or we, have read something else. */
static bool is_page_of(const struct loader *l, uintptr_t loaded, uintptr_t mapped)
{
	size_t number;

	memcpy(&number, (const void *)(loaded & ~l->page_mask), sizeof(number));
	return number == (mapped - l->map) / (l->page_mask + 1);
}

static int deliver(const struct loader *l, const struct part *part, content_sink *sink, void *user)
{
	struct slice place = part->place, bytes;

	if (!place.data)
		return sink(user, part->data, part->size);
	const struct run *run = &l->runs[part->run];
	if (run->loaded) {
		place.data = run->loaded + ((uintptr_t)place.data - run->from);
		if (!is_page_of(l, (uintptr_t)place.data, (uintptr_t)part->place.data))
			return -DRS_ECORRUPT;
	}
	int error = chunk_open(place, false, &bytes);
	return error < 0 ? error : sink(user, (const uint8_t *)bytes.data + part->skip, part->size);
}

int loader_read(struct loader *l, struct txn *txn, const struct node *node, uint64_t offset, size_t size, content_sink *sink, void *user)
{
	struct walk walk = reading_walk(NULL, txn, offset, size, node->size);

	walk.visit = visit_part;
	walk.user = l;
	l->parts_count = l->runs_count = 0;
	l->around = node->size <= SMALL_FILE_BYTES;
	int error = walk_node(&walk, node);
	if (error == -E2BIG) /* an odd file, in very small pieces */
		return content_read(txn, node, offset, size, sink, user);
	if (error == 0)
		error = load(l);
	for (unsigned i = 0; error == 0 && i < l->parts_count; i++)
		error = deliver(l, &l->parts[i], sink, user);
	return error;
}
