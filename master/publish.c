/*
 * Sealing and committing in time (publish.h). All times are of the monotonic clock but the one that goes into a version's history.
 */
#include "master/publish.h"

#include <errno.h>
#include <time.h>

#include "drsfs/error.h"
#include "master/draft.h"
#include "store/batch.h"
#include "store/delta.h"

#define MICROSECOND ((time_ns)1000)
#define MILLISECOND (1000 * MICROSECOND)
#define SECOND (1000 * MILLISECOND)

#define QUIET (30 * MICROSECOND)      /* without a request: the program is at something else */
#define COST_FIRST (500 * MICROSECOND)
#define CREDIT_COMMITS 4              /* how many commits may follow each other after a pause */
#define CREDIT_PER_MILLE 120          /* the part of the time that goes into commits */
#define STALL (8 * MILLISECOND)       /* that a commit of much may take: nobody is served meanwhile */
#define DIRTY_BYTES_MIN ((size_t)2 << 20)
#define DIRTY_BYTES_MAX ((size_t)32 << 20)
#define WRITTEN_MAX (1 * SECOND)      /* what is not finished is committed too, so that no transaction stays open for long */

#define TIDY_QUIET (10 * MILLISECOND)
#define TIDY_INTERVAL (1 * SECOND)    /* versions grow old without anything happening */
#define TIDY_WORK 64                  /* changes or chunks a step: well below a millisecond */
#define TIDY_BYTES 1024               /* what a step writes for itself; the store stops it when room for more is short */
#define RELIEF_TIME (100 * MILLISECOND) /* that somebody who needs room is kept waiting for it */
#define TIDY_VERSIONS 256             /* versions that the horizon passes in a step */

void publish_init(struct publish *p, struct work *work, struct live *live, const struct master_mount_options *options, const struct master_mount_listener *listener)
{
	*p = (struct publish){ .live = live, .work = work, .options = *options, .listener = *listener, .cost = COST_FIRST, .untidy = true,
			       .dirty_max = DIRTY_BYTES_MIN };
}

void publish_fini(struct publish *p)
{
	buffer_fini(&p->delta);
}

time_ns publish_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static time_ns latest(const struct publish *p)
{
	return p->finished_since + (time_ns)p->options.publish_delay_ms * MILLISECOND;
}

static time_ns min_time(time_ns a, time_ns b)
{
	return a < b ? a : b;
}

static time_ns max_time(time_ns a, time_ns b)
{
	return a > b ? a : b;
}

static size_t dirty_bytes(const struct work *work)
{
	return txn_dirty_bytes(work->writer) + work->edit_bytes;
}

bool publish_served(struct publish *p, time_ns now)
{
	const struct live *live = p->live;
	if (!p->work->writer)
		return false;
	if (!p->written_since)
		p->written_since = now;
	if (live->finished && !p->finished_since && !p->hold)
		p->finished_since = now;
	if (p->finished_since && now >= latest(p))
		return true;
	return dirty_bytes(p->work) > p->dirty_max;
}

/* When the budget allows the next commit. (A mount that has been quiet for half of what a commit costs loses little by one in any case.) */
static time_ns affordable(const struct publish *p)
{
	return p->credited_at + max_time(0, p->cost - p->credit) * 1000 / CREDIT_PER_MILLE;
}

time_ns publish_due(const struct publish *p, time_ns served_at)
{
	if (p->finished_since)
		return min_time(latest(p), max_time(served_at + QUIET, min_time(affordable(p), served_at + p->cost / 2)));
	return p->written_since ? p->written_since + WRITTEN_MAX : TIME_NEVER;
}

/* How much the disk takes in STALL is found out by trying; only commits of much tell. */
static void learn_dirty_max(struct publish *p, size_t bytes, time_ns took)
{
	if (bytes < p->dirty_max)
		return;
	size_t wanted = (size_t)((double)p->dirty_max * (double)STALL / (double)max_time(took, 1));
	wanted = wanted > 2 * p->dirty_max ? 2 * p->dirty_max : wanted;
	p->dirty_max = (p->dirty_max + wanted) / 2;
	p->dirty_max = p->dirty_max < DIRTY_BYTES_MIN ? DIRTY_BYTES_MIN : p->dirty_max > DIRTY_BYTES_MAX ? DIRTY_BYTES_MAX : p->dirty_max;
}

static void account(struct publish *p, size_t bytes, time_ns began, time_ns ended)
{
	time_ns took = ended - began, most = CREDIT_COMMITS * p->cost;
	learn_dirty_max(p, bytes, took);
	p->credit = min_time(most, p->credit + (ended - p->credited_at) * CREDIT_PER_MILLE / 1000) - took;
	p->credit = max_time(p->credit, -most);
	p->credited_at = ended;
	p->cost += (took - p->cost) / 8;
}

/* Seal the pending version, with the delta that leads to it. */
static int seal(struct publish *p, struct version_info *ret_info)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct txn *txn = p->work->writer;
	int ret = version_seal(txn, now.tv_sec * SECOND + now.tv_nsec, "", ret_info);
	if (ret < 0)
		return ret;
	buffer_clear(&p->delta);
	ret = delta_inline_make(txn, ret_info->previous, ret_info->version, p->options.inline_bytes_max, &p->delta);
	if (ret < 0)
		buffer_clear(&p->delta); /* too large, or it needs chunks: it is pulled */
	return ret == -DRS_ETOOBIG ? 0 : ret;
}

/* What should have been published and could not be, in any tree. */
static int trees_settle(struct work *work)
{
	int ret = 0;
	for (struct live *live = work->trees; live && ret == 0; live = live->next)
		if (live->unsettled && !live->sealed && !live->trial)
			ret = draft_settle_all(live);
	return ret;
}

static int trees_spill(struct work *work)
{
	int ret = 0;
	for (struct live *live = work->trees; live && ret == 0; live = live->next)
		if (!live->sealed)
			ret = draft_spill_all(live);
	return ret;
}

static int commit(struct publish *p)
{
	struct live *live = p->live;
	struct version_info info = { 0 };
	int ret = trees_settle(p->work);
	if (ret == 0)
		ret = trees_spill(p->work);
	if (ret == 0 && live->finished && !p->hold && version_dirty(p->work->writer))
		ret = seal(p, &info);
	if (ret < 0 && !p->work->broken)
		p->work->broken = ret;
	ret = work_commit(p->work);
	if (ret < 0)
		return ret;
	live->finished &= p->hold;
	p->finished_since = p->written_since = 0;
	if (!info.version)
		return 0;
	publish_made(p);
	p->listener.published(p->listener.user, &info, buffer_slice(&p->delta));
	return 0;
}

int publish_settle(struct publish *p)
{
	struct txn *txn;
	int ret = work_change(p->work, 0, true, &txn);
	if (ret < 0)
		return ret;
	p->live->finished = true;
	if (!version_dirty(txn) && txn_state(txn)->pending) {
		bool done;
		ret = version_drop(txn, 1, &done); /* a number that nothing was written under */
	}
	return ret < 0 ? work_broken_by(p->work, ret) : publish_commit(p);
}

void publish_hold(struct publish *p, bool hold)
{
	p->hold = hold;
	if (!hold && p->live->finished)
		p->finished_since = publish_clock();
}

void publish_made(struct publish *p)
{
	p->untidy = true;
	p->retained += p->retained != 0;
}

int publish_commit(struct publish *p)
{
	struct txn *txn;
	if (!p->work->writer && p->live->finished && !p->hold && !p->work->broken) /* it was committed while it might not be sealed */
		work_change(p->work, 0, true, &txn);
	if (!p->work->writer)
		return p->work->broken;
	size_t bytes = dirty_bytes(p->work);
	time_ns began = publish_clock();
	int ret = commit(p);
	account(p, bytes, began, publish_clock());
	return ret;
}

/* --- tidying */

/* How many versions there are from the horizon on. Counted once, then kept up to date. */
static int count_retained(struct publish *p, struct txn *txn)
{
	struct version_info info;
	version_t at = txn_state(txn)->horizon;
	int ret;
	p->retained = 1;
	while ((ret = version_next(txn, at, &info)) == 0) {
		at = info.version;
		p->retained++;
	}
	return ret == -ENOENT ? 0 : ret;
}

/* How far the horizon may go: past versions that are both too many and too old, and past all but the current one when room is needed. */
static int horizon_wanted(struct publish *p, struct txn *txn, version_t *ret_horizon)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t old = now.tv_sec * SECOND + now.tv_nsec - (time_ns)p->options.retain_ms * MILLISECOND;
	version_t horizon = txn_state(txn)->horizon;
	version_t pinned = batch_horizon(txn);
	uint64_t keep = p->work->pressed || p->options.retain_versions == 0 ? 1 : p->options.retain_versions;
	for (unsigned passed = 0; p->retained > keep && passed < TIDY_VERSIONS; passed++) {
		struct version_info next;
		int ret = version_next(txn, horizon, &next);
		if (ret == -ENOENT || (ret == 0 && ((next.time_ns > old && !p->work->pressed) || next.version > txn_state(txn)->current || next.version > pinned)))
			break;
		if (ret < 0)
			return ret;
		horizon = next.version;
		p->retained--;
	}
	*ret_horizon = horizon;
	return 0;
}

static int tidy_versions(struct publish *p, bool *ret_more)
{
	struct txn *txn;
	int ret = work_read(p->work, &txn);
	if (ret == 0 && !p->retained)
		ret = count_retained(p, txn);
	if (ret == 0 && !p->retiring)
		ret = horizon_wanted(p, txn, &p->horizon);
	if (ret < 0 || (!p->retiring && p->horizon == txn_state(txn)->horizon))
		return ret;
	bool done = false;
	ret = work_change(p->work, TIDY_BYTES, true, &txn);
	if (ret == 0)
		ret = retire_step(txn, p->horizon, TIDY_WORK, p->held, p->user, &done);
	p->retiring = !done;
	p->untidy = true; /* what it lets go of is collected next */
	*ret_more = true;
	return ret;
}

static int tidy_chunks(struct publish *p, bool *ret_more)
{
	struct txn *txn;
	bool more = false;
	int ret = work_change(p->work, TIDY_BYTES, true, &txn);
	if (ret == 0)
		ret = trees_spill(p->work);
	if (ret == 0)
		ret = chunk_collect(txn, TIDY_WORK, &more);
	*ret_more |= more;
	return ret < 0 ? ret : 0;
}

time_ns publish_tidy_due(const struct publish *p, time_ns served_at)
{
	bool soon = (p->untidy || p->work->pressed) && !p->stuck;
	return soon ? max_time(served_at, p->tidied_at) + TIDY_QUIET : p->tidied_at + TIDY_INTERVAL;
}

/* A bit of all that there is to do. */
static int tidy_step(struct publish *p)
{
	bool more = false, collect = p->untidy || p->work->pressed;
	int ret = p->tidy_more(p->user, TIDY_WORK, &more);
	p->untidy |= more;
	if (ret == 0)
		ret = tidy_versions(p, &more);
	if (ret == 0 && (collect || p->untidy))
		ret = tidy_chunks(p, &more);
	p->stuck = ret == -ENOSPC; /* until readers let go of pages */
	p->untidy = more || p->stuck;
	return p->stuck ? 0 : ret;
}

static void drop_empty_writer(struct work *work)
{
	if (work->writer && txn_dirty_bytes(work->writer) == 0)
		work_drop(work);
}

int publish_tidy(struct publish *p, time_ns now)
{
	bool began = !p->work->writer;
	int ret = tidy_step(p);
	p->work->pressed &= p->untidy;
	p->tidied_at = now;
	if (began)
		drop_empty_writer(p->work);
	if (p->work->writer && !p->written_since)
		p->written_since = now;
	return ret;
}

int publish_make_room(struct publish *p)
{
	time_ns end = publish_clock() + RELIEF_TIME;
	int ret;
	if (p->making_room) /* a step needs room itself: the commit must do */
		return 0;
	p->making_room = p->untidy = true; /* what was never published lets go of chunks, too, without a version that tells it */
	do
		ret = tidy_step(p);
	while (ret == 0 && p->untidy && !p->stuck && publish_clock() < end);
	p->making_room = false;
	drop_empty_writer(p->work);
	return ret < 0 ? ret : publish_commit(p);
}
