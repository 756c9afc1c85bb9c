/*
 * Nodes and extended attributes of a live tree (live.h). Not here: names (names.c), what waits (draft.c), and when to commit (publish.c).
 */
#include "master/live.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "master/draft.h"
#include "store/batch.h"

#define STAT_BLOCK_BYTES 512
#define IO_BYTES (128 << 10) /* what programs should read and write at a time */

void live_init(struct live *live, struct work *work, version_t waiting, version_t finished_draft, version_t base, void (*times_moved)(void *, ino_id),
	       void *user)
{
	*live = (struct live){ .work = work, .next = work->trees, .waiting = waiting, .finished_draft = finished_draft, .base = base,
			       .times_moved = times_moved, .user = user };
	work->trees = live;
}

void live_fini(struct live *live)
{
	draft_free_all(live);
	buffer_fini(&live->withdrawn);
	struct live **at = &live->work->trees;
	while (*at != live)
		at = &(*at)->next;
	*at = live->next;
}

int live_read(struct live *live, struct txn **ret_txn)
{
	return work_read(live->work, ret_txn);
}

int live_change(struct live *live, size_t bytes, bool frees, struct txn **ret_txn)
{
	return live->sealed ? live->sealed : work_change(live->work, bytes, frees, ret_txn);
}

int live_may_change_node(struct live *live, struct txn *txn, ino_id ino)
{
	struct record_key key = record_key_node(ino);
	return live->frozen_by && batch_touches(txn, live->frozen_by, &key) ? DEFERRED : 0;
}

int live_may_change_name(struct live *live, struct txn *txn, const struct record_key *key)
{
	struct record_key parent = record_key_node(record_key_ino(key));
	if (!live->frozen_by)
		return 0;
	return batch_touches(txn, live->frozen_by, key) || batch_removes(txn, live->frozen_by, &parent) ? DEFERRED : 0;
}

struct view published_view(const struct live *live, const struct txn *txn)
{
	const struct store_state *state = txn_state(txn);
	if (live->finished_draft)
		return (struct view){ .version = live->base, .draft = live->finished_draft };
	return (struct view){ .version = state->pending ? state->pending : state->current };
}

struct view live_view(const struct live *live, const struct txn *txn)
{
	struct view view = published_view(live, txn);
	view.below = view.draft;
	view.draft = live->waiting;
	return view;
}

version_t live_finish_at(struct live *live)
{
	return live->finished_draft ? live->finished_draft : version_begin(live->work->writer);
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
	return work_broken_by(live->work, ret);
}

int live_put(struct live *live, version_t at, const struct record_key *key, struct slice value)
{
	return broken_by(live, record_put(live->work->writer, at, key, value));
}

int live_delete(struct live *live, version_t at, const struct record_key *key)
{
	int ret = record_delete(live->work->writer, at, key);
	return ret == -ENOENT ? 0 : broken_by(live, ret);
}

int live_drop(struct live *live, version_t at, const struct record_key *key)
{
	int ret = record_drop(live->work->writer, at, key);
	return ret == -ENOENT ? 0 : broken_by(live, ret);
}

/* --- nodes */

int node_published(struct live *live, struct txn *txn, ino_id ino, struct node *ret_node)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	int ret = record_get(txn, published_view(live, txn), &key, &value, NULL);
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
	int ret = node_published(live, txn, ino, ret_node);
	if (ret == 0 && d && d->touched.seconds)
		ret_node->mtime = ret_node->ctime = d->touched;
	return ret == -ENOENT ? -ESTALE : ret;
}

int node_put(struct live *live, version_t at, ino_id ino, const struct node *node)
{
	buffer_clear(&live->work->scratch);
	node_encode(node, &live->work->scratch);
	if (live->work->scratch.failed)
		return broken_by(live, -ENOMEM);
	struct record_key key = record_key_node(ino);
	return live_put(live, at, &key, buffer_slice(&live->work->scratch));
}

int node_finish(struct live *live, ino_id ino, const struct node *node)
{
	if (S_ISDIR(node->mode))
		draft_untouch(live, ino);
	return node_put(live, live_finish_at(live), ino, node);
}

int node_change(struct live *live, ino_id ino, const struct node *node)
{
	struct draft *d = draft_find(live, ino);
	if (!draft_is_drafted(d)) {
		live->finished = true;
		return node_finish(live, ino, node);
	}
	d->node = *node;
	d->changed = true;
	return draft_settle(live, d);
}

int directory_touch(struct live *live, ino_id ino, int subdirectories, struct node_time now)
{
	struct node node;
	int ret = node_live(live, live->work->writer, ino, &node);
	if (ret < 0)
		return broken_by(live, ret);
	node.mtime = node.ctime = now;
	node.nlink += (uint32_t)subdirectories;
	return node_finish(live, ino, &node);
}

static struct timespec timespec_of(struct node_time time)
{
	return (struct timespec){ time.seconds, time.nanoseconds };
}

void node_stat(struct live *live, ino_id ino, const struct node *node, struct stat *ret_stat)
{
	const struct draft *d = live ? draft_find(live, ino) : NULL;
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

int xattr_get(struct live *live, struct txn *txn, ino_id ino, const char *name, struct slice *ret_value)
{
	struct record_key key = record_key_xattr(ino, name, strlen(name));
	int ret = record_get(txn, live_view(live, txn), &key, ret_value, NULL);
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
		*ret_at = live->waiting;
		return draft_note_xattr(live, d, name);
	}
	live->finished = true;
	*ret_at = live_finish_at(live);
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
