/*
 * Transactions, nodes and extended attributes of the live tree (live.h). Not here: names (names.c), what waits (draft.c), and when
 * to commit (publish.c).
 */
#include "master/live.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "master/draft.h"

#define STAT_BLOCK_BYTES 512
#define CONTENT_CHANGE_BYTES 4096 /* names and attributes ask for less */
#define IO_BYTES (128 << 10) /* what programs should read and write at a time */

int live_init(struct live *live, struct store *store, int (*relieve)(void *), void (*times_moved)(void *, ino_id), void *user)
{
	*live = (struct live){ .store = store, .relieve = relieve, .times_moved = times_moved, .user = user };
	int ret = txn_begin_read(store, &live->reader);
	live->reading = ret == 0;
	return ret;
}

void live_fini(struct live *live)
{
	draft_free_all(live);
	txn_abort(live->writer);
	txn_abort(live->reader);
	live->writer = live->reader = NULL;
	buffer_fini(&live->scratch);
}

int live_read(struct live *live, struct txn **ret_txn)
{
	if (live->writer) {
		*ret_txn = live->writer;
		return 0;
	}
	if (!live->reading) {
		int ret = txn_resume(live->reader);
		if (ret < 0)
			return ret;
		live->reading = true;
	}
	*ret_txn = live->reader;
	return 0;
}

void live_park(struct live *live)
{
	if (live->reading)
		txn_park(live->reader);
	live->reading = false;
}

static int live_begin(struct live *live)
{
	if (live->broken)
		return live->broken;
	if (live->writer)
		return 0;
	live_park(live);
	return txn_begin_write(live->store, &live->writer);
}

static int live_ask(struct live *live, size_t bytes, bool frees)
{
	/* Content that stands beside what is written may be cut anew. */
	size_t beside = frees || bytes < CONTENT_CHANGE_BYTES ? 0 : CHUNK_BYTES_MAX;
	txn_hold(live->writer, live->edit_bytes + beside);
	return txn_admit(live->writer, bytes, frees);
}

/*
 * On a full disk a transaction is let write only what surely fits: the next one may get further, if only because what was let go of meanwhile is
 * taken away first.
 */
static int live_admit(struct live *live, size_t bytes, bool frees)
{
	int ret = live_ask(live, bytes, frees);
	if (ret != -ENOSPC)
		return ret;
	live->pressed = true;
	ret = live->relieve(live->user);
	if (ret == 0)
		ret = live_begin(live);
	return ret < 0 ? ret : live_ask(live, bytes, frees);
}

int live_change(struct live *live, size_t bytes, bool frees, struct txn **ret_txn)
{
	int ret = live_begin(live);
	if (ret == 0)
		ret = live_admit(live, bytes, frees);
	if (ret == 0)
		*ret_txn = live->writer;
	return ret;
}

int live_commit(struct live *live)
{
	struct txn *writer = live->writer;
	live->writer = NULL;
	if (live->broken) {
		txn_abort(writer);
		return live->broken;
	}
	int ret = writer ? txn_commit(writer) : 0;
	if (ret < 0)
		live->broken = ret;
	return ret;
}

struct view published_view(const struct txn *txn)
{
	const struct store_state *state = txn_state(txn);
	return (struct view){ .version = state->pending ? state->pending : state->current };
}

struct view live_view(const struct txn *txn)
{
	struct view view = published_view(txn);
	view.draft = VERSION_DRAFT;
	return view;
}

/* Not the coarse clock: two changes of a directory must not have one time. */
struct node_time time_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (struct node_time){ now.tv_sec, (uint32_t)now.tv_nsec };
}

/* --- records */

static int broken_by(struct live *live, int ret)
{
	if (ret < 0 && !live->broken)
		live->broken = ret;
	return ret;
}

int live_put(struct live *live, version_t at, const struct record_key *key, struct slice value)
{
	return broken_by(live, record_put(live->writer, at, key, value));
}

int live_delete(struct live *live, version_t at, const struct record_key *key)
{
	int ret = record_delete(live->writer, at, key);
	return ret == -ENOENT ? 0 : broken_by(live, ret);
}

int live_drop(struct live *live, version_t at, const struct record_key *key)
{
	int ret = record_drop(live->writer, at, key);
	return ret == -ENOENT ? 0 : broken_by(live, ret);
}

/* --- nodes */

int node_published(struct txn *txn, ino_id ino, struct node *ret_node)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	int ret = record_get(txn, published_view(txn), &key, &value, NULL);
	return ret < 0 ? ret : node_decode(value, ret_node);
}

int node_live(struct live *live, struct txn *txn, ino_id ino, struct node *ret_node)
{
	const struct draft *d = draft_find(live, ino);
	if (draft_is_drafted(d)) {
		*ret_node = d->node;
		return 0;
	}
	/* The kernel looks a path up once more when it hears ESTALE, so that an open beside a rename never fails. */
	int ret = node_published(txn, ino, ret_node);
	return ret == -ENOENT ? -ESTALE : ret;
}

int node_put(struct live *live, version_t at, ino_id ino, const struct node *node)
{
	buffer_clear(&live->scratch);
	node_encode(node, &live->scratch);
	if (live->scratch.failed)
		return broken_by(live, -ENOMEM);
	struct record_key key = record_key_node(ino);
	return live_put(live, at, &key, buffer_slice(&live->scratch));
}

int node_change(struct live *live, ino_id ino, const struct node *node)
{
	struct draft *d = draft_find(live, ino);
	if (!draft_is_drafted(d)) {
		live->finished = true;
		return node_put(live, version_begin(live->writer), ino, node);
	}
	d->node = *node;
	d->changed = true;
	return draft_settle(live, d);
}

int directory_touch(struct live *live, ino_id ino, int subdirectories, struct node_time now)
{
	struct node node;
	int ret = node_live(live, live->writer, ino, &node);
	if (ret < 0)
		return broken_by(live, ret);
	node.mtime = node.ctime = now;
	node.nlink += (uint32_t)subdirectories;
	return node_put(live, version_begin(live->writer), ino, &node);
}

static struct timespec timespec_of(struct node_time time)
{
	return (struct timespec){ time.seconds, time.nanoseconds };
}

void node_stat(struct live *live, ino_id ino, const struct node *node, struct stat *ret_stat)
{
	const struct draft *d = draft_find(live, ino);
	uint64_t size = node->size, allocated = content_allocated(node);
	if (d && d->edit) {
		size = content_edit_size(d->edit);
		allocated += d->edit_bytes;
		if (allocated > size)
			allocated = size;
	}
	*ret_stat = (struct stat){
		.st_ino = ino,
		.st_mode = node->mode,
		.st_nlink = node->nlink,
		.st_uid = node->uid,
		.st_gid = node->gid,
		.st_rdev = node->rdev,
		.st_size = (off_t)size,
		.st_blksize = IO_BYTES,
		.st_blocks = (blkcnt_t)((allocated + STAT_BLOCK_BYTES - 1) / STAT_BLOCK_BYTES),
		.st_atim = timespec_of(node->atime),
		.st_mtim = timespec_of(node->mtime),
		.st_ctim = timespec_of(node->ctime),
	};
}

/* --- extended attributes */

int xattr_get(struct txn *txn, ino_id ino, const char *name, struct slice *ret_value)
{
	struct record_key key = record_key_xattr(ino, name, strlen(name));
	int ret = record_get(txn, live_view(txn), &key, ret_value, NULL);
	return ret == -ENOENT ? -ENODATA : ret;
}

/* Remember which attributes of a drafted node are in the draft. */
static int draft_note_xattr(struct live *live, struct draft *d, const char *name)
{
	const char *noted = (const char *)d->xattrs.data, *end = noted + d->xattrs.size;
	for (; noted < end; noted += strlen(noted) + 1)
		if (strcmp(noted, name) == 0)
			return 0;
	buffer_add(&d->xattrs, name, strlen(name) + 1);
	return d->xattrs.failed ? broken_by(live, -ENOMEM) : 0;
}

/* Under which number an attribute of this node is changed. */
static int xattr_layer(struct live *live, ino_id ino, const char *name, version_t *ret_at)
{
	struct draft *d = draft_find(live, ino);
	if (draft_is_drafted(d)) {
		d->changed = true;
		*ret_at = VERSION_DRAFT;
		return draft_note_xattr(live, d, name);
	}
	live->finished = true;
	*ret_at = version_begin(live->writer);
	return 0;
}

int xattr_put(struct live *live, ino_id ino, const char *name, struct slice value)
{
	version_t at;
	int ret = xattr_layer(live, ino, name, &at);
	if (ret < 0)
		return ret;
	struct record_key key = record_key_xattr(ino, name, strlen(name));
	return live_put(live, at, &key, value);
}

int xattr_delete(struct live *live, ino_id ino, const char *name)
{
	version_t at;
	int ret = xattr_layer(live, ino, name, &at);
	if (ret < 0)
		return ret;
	struct record_key key = record_key_xattr(ino, name, strlen(name));
	return live_delete(live, at, &key);
}
