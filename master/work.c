/* The transactions of the mount's thread (work.h). Not here: when to commit (publish.c). */
#include "master/work.h"

#include <errno.h>

#include "store/chunk.h"

#define CONTENT_CHANGE_BYTES 4096 /* names and attributes ask for less */

int work_init(struct work *work, struct store *store, int (*relieve)(void *), void *user)
{
	*work = (struct work){ .store = store, .relieve = relieve, .user = user };
	int ret = txn_begin_read(store, &work->reader);
	work->reading = ret == 0;
	return ret;
}

void work_fini(struct work *work)
{
	txn_abort(work->writer);
	txn_abort(work->reader);
	work->writer = work->reader = NULL;
	buffer_fini(&work->scratch);
}

int work_read(struct work *work, struct txn **ret_txn)
{
	if (work->writer) {
		*ret_txn = work->writer;
		return 0;
	}
	if (!work->reading) {
		int ret = txn_resume(work->reader);
		if (ret < 0)
			return ret;
		work->reading = true;
	}
	*ret_txn = work->reader;
	return 0;
}

void work_park(struct work *work)
{
	if (work->reading)
		txn_park(work->reader);
	work->reading = false;
}

static int work_begin(struct work *work)
{
	if (work->broken)
		return work->broken;
	if (work->writer)
		return 0;
	work_park(work);
	return txn_begin_write(work->store, &work->writer);
}

static int work_ask(struct work *work, size_t bytes, bool frees)
{
	/* Content that stands beside what is written may be cut anew. */
	size_t beside = frees || bytes < CONTENT_CHANGE_BYTES ? 0 : CHUNK_BYTES_MAX;
	txn_hold(work->writer, work->edit_bytes + beside);
	return txn_admit(work->writer, bytes, frees);
}

/*
 * On a full disk a transaction is let write only what surely fits: the next one may get further, if only because what was let go of meanwhile is
 * taken away first.
 */
static int work_admit(struct work *work, size_t bytes, bool frees)
{
	int ret = work_ask(work, bytes, frees);
	if (ret != -ENOSPC)
		return ret;
	work->pressed = true;
	ret = work->relieve(work->user);
	if (ret == 0)
		ret = work_begin(work);
	return ret < 0 ? ret : work_ask(work, bytes, frees);
}

int work_change(struct work *work, size_t bytes, bool frees, struct txn **ret_txn)
{
	int ret = work_begin(work);
	if (ret == 0)
		ret = work_admit(work, bytes, frees);
	if (ret == 0)
		*ret_txn = work->writer;
	return ret;
}

int work_commit(struct work *work)
{
	struct txn *writer = work->writer;
	work->writer = NULL;
	if (work->broken) {
		txn_abort(writer);
		return work->broken;
	}
	return work_broken_by(work, writer ? txn_commit(writer) : 0);
}

void work_drop(struct work *work)
{
	txn_abort(work->writer);
	work->writer = NULL;
}

int work_broken_by(struct work *work, int ret)
{
	if (ret < 0 && !work->broken)
		work->broken = ret;
	return ret;
}
