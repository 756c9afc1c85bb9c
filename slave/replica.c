/*
 * The slave's user layer. Three ways lead to a new version: a pull (a conversation of frames, staged over as many transactions as
 * it takes), a small delta that came inline (one transaction), and taking a number alone. Each ends alike: commit, then flip the
 * mount. Between them it tidies up.
 *
 * A pull's transaction stays open over many frames, since every commit writes the disk; it is committed when it has grown, when
 * the pull pauses or ends, and before anything else writes. What is committed of a pull is resumed after an interruption (R7.2).
 *
 * Two phase: a prepare is staged like a pull, or from the delta that came along, and ends with the commit that makes the stage durable. It
 * becomes the version by a second commit, or is left over; what is left over is resumed if it is wanted after all, and else dropped when
 * tidying.
 *
 * With a check configured one phase has these two steps as well: stage durably, let the check look, commit. While it looks nothing else is done; its
 * answer comes by replica_checked().
 *
 * Not here: when to do any of this (slave/core.h decides), what frames mean (store/delta.h), and logging: what goes wrong is
 * returned, and kept in words for whoever asks.
 */
#include "slave/replica.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drsfs/error.h"
#include "drsfs/fault.h"
#include "drsfs/fsversion.h"
#include "slave/mount.h"
#include "store/batch.h"
#include "store/chunk.h"

#define PULL_DIRTY_BYTES ((size_t)24 << 20) /* commit a pull's transaction when it has written so much, */
#define PULL_PAUSE_MS 1000                  /* or when it has been open for so long */
#define DROP_RECORDS 4096                   /* of a transaction that drops a stage */
#define TIDY_MS 10
#define TIDY_CHANGES 256
#define TIDY_CHUNKS 64
#define LEFT_OVER_MS 30000                  /* so long a stage that was prepared well is kept: perhaps it was committed after all */

/* What the check that runs is for. */
enum duty { DUTY_NONE, DUTY_PULL, DUTY_INLINE, DUTY_PREPARE };

struct replica {
	struct store *store;
	uint64_t retain_versions;
	struct slave_mount *mount;
	struct txn *reader;       /* parked between */
	struct stage *stage;      /* a pull is going on, or what was staged is being checked or is prepared */
	struct txn *txn;          /* its write transaction; NULL between two of them */
	time_ms txn_begun;
	enum duty duty;
	version_t preparing;      /* two phase: asked for and neither failed nor decided; 0: none */
	bool fetching;            /* the next pull is for it */
	bool prepared;            /* it is all here, durable and checked */
	version_t left_over;      /* staged and perhaps not wanted any more; 0: none */
	time_ms left_over_until;
	version_t refused;        /* by the check, in one phase; 0: none */
	bool heal;                /* what is staged is not to be trusted: drop it, pull a complete copy */
	bool unshown;             /* the mount has not followed the last commit */
	bool unannounced;         /* what it shows next is new */
	bool untidy;              /* there may be something to tidy up */
	bool retiring;
	void (*changed)(void *user);
	void *changed_user;
	struct replica_user owner; /* whoever put us together */
	char trouble[DRS_REASON_BYTES_MAX + 64];
	char reason[DRS_REASON_BYTES_MAX]; /* of the last error */
};

int replica_new(struct store *store, uint64_t retain_versions, struct replica **ret_replica)
{
	struct replica *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->store = store;
	r->retain_versions = retain_versions;
	r->untidy = true;
	int error = txn_begin_read(store, &r->reader);
	if (error < 0) {
		free(r);
		return error;
	}
	txn_park(r->reader);
	*ret_replica = r;
	return 0;
}

static int settle(struct replica *r);

void replica_free(struct replica *r)
{
	if (!r)
		return;
	settle(r); /* what cannot be kept is pulled again */
	stage_free(r->stage);
	txn_abort(r->reader);
	free(r);
}

void replica_set_mount(struct replica *r, struct slave_mount *mount)
{
	r->mount = mount;
}

void replica_on_changed(struct replica *r, void (*changed)(void *user), void *user)
{
	r->changed = changed;
	r->changed_user = user;
}

void replica_set_user(struct replica *r, const struct replica_user *user)
{
	if (r->duty != DUTY_NONE && r->owner.check_cancel)
		r->owner.check_cancel(r->owner.user);
	r->duty = DUTY_NONE;
	r->owner = user ? *user : (struct replica_user){ 0 };
}

/* ---- trouble, in words */

static void say(struct replica *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct replica *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->trouble, sizeof(r->trouble), format, args);
	va_end(args);
}

/* Trouble is the reason as well. */
static void note_reason(struct replica *r)
{
	snprintf(r->reason, sizeof(r->reason), "%.*s", (int)sizeof(r->reason) - 1, r->trouble);
}

/* Gives the error back. */
static int failed(struct replica *r, int error, const char *what)
{
	if (error == -ENOSPC)
		say(r, "disk full at %s: free some space; drsfs goes on by itself", store_dir(r->store));
	else
		say(r, "cannot %s: %s", what, error_text(error));
	note_reason(r);
	return error;
}

static const char *reason(void *user)
{
	struct replica *r = user;

	return r->reason;
}

static void all_well(struct replica *r)
{
	r->trouble[0] = '\0';
}

const char *replica_trouble(const struct replica *r)
{
	return r->trouble;
}

/* ---- transactions */

static time_ms now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (time_ms)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static time_ns wall_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (time_ns)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int read_state(struct replica *r, struct store_state *ret_state)
{
	int error = txn_resume(r->reader);

	if (error < 0)
		return error;
	*ret_state = *txn_state(r->reader);
	txn_park(r->reader);
	return 0;
}

/* Keep what the pull has got so far. Everything else that writes begins with this. */
static int settle(struct replica *r)
{
	struct txn *txn = r->txn;

	if (!txn)
		return 0;
	r->txn = NULL;
	int error = txn_commit(txn);
	if (error == 0)
		return 0;
	stage_free(r->stage); /* it is ahead of the store now */
	r->stage = NULL;
	return error;
}

/* Give up the pull with what is not committed of it. */
static void give_up(struct replica *r)
{
	txn_abort(r->txn);
	r->txn = NULL;
	stage_free(r->stage);
	r->stage = NULL;
	r->untidy = true;
}

/* What is staged stays a while, in case it is wanted after all; then tidying drops it. */
static void leave_over(struct replica *r, version_t version, time_ms ms)
{
	r->left_over = version;
	r->left_over_until = now_ms() + ms;
	r->untidy = true;
}

/* Something else begins, or it was decided that nobody will commit it. */
static void not_preparing(struct replica *r)
{
	if (r->preparing)
		leave_over(r, r->preparing, LEFT_OVER_MS);
	r->preparing = 0;
	r->prepared = r->fetching = false;
}

static int pull_txn(struct replica *r)
{
	if (!r->stage)
		return -EINVAL; /* it was given up */
	if (r->txn)
		return 0;
	int error = txn_begin_write(r->store, &r->txn);
	if (error < 0)
		r->txn = NULL;
	r->txn_begun = now_ms();
	return error;
}

/* ---- showing */

static void show(struct replica *r)
{
	int error = r->mount ? slave_mount_flip(r->mount) : 0;

	r->unshown = error < 0;
	if (error < 0) {
		failed(r, error, "show the new version on the mount");
		return;
	}
	FAULT("slave.flipped.after");
	if (r->mount && r->unannounced && r->owner.shown)
		r->owner.shown(r->owner.user, slave_mount_shown(r->mount));
	r->unannounced = false;
}

/* The version is durable: what follows cannot undo it. A mount that cannot follow goes on with the old one and is tried again. */
static void committed(struct replica *r, version_t version, struct drs_version *ret_version)
{
	all_well(r);
	r->left_over = r->refused = 0;
	r->unannounced = true;
	show(r);
	r->untidy = true;
	*ret_version = fs_version_of(version);
}

/* ---- pulling */

/* Unbounded, but rare: only after the store and its master have been found to differ. */
static int drop_stage(struct replica *r)
{
	bool done = false;

	while (!done) {
		struct txn *txn;
		int error = txn_begin_write(r->store, &txn);

		if (error < 0)
			return error;
		error = stage_drop(txn, DROP_RECORDS, &done);
		if (error < 0) {
			txn_abort(txn);
			return error;
		}
		error = txn_commit(txn);
		if (error < 0)
			return error;
	}
	return 0;
}

/* The check refused it, and there is a newer version: to go on from what is staged would only lead to the same one again. */
static bool is_overtaken(const struct replica *r, version_t staged)
{
	return staged == r->refused && (!r->owner.known || r->owner.known(r->owner.user) > staged);
}

/* To heal by a complete copy, the remains of another kind of pull are of no use. */
static int clear_the_way(struct replica *r, bool complete)
{
	struct store_state state;
	int error = read_state(r, &state);

	if (error < 0 || state.stage.to == VERSION_NONE)
		return error;
	if (r->heal || (complete && !state.stage.complete) || is_overtaken(r, state.stage.to))
		return drop_stage(r);
	if (state.stage.to == r->left_over)
		r->left_over = 0; /* perhaps it is wanted after all */
	return 0;
}

static int begin_stage(struct replica *r, bool complete, struct buffer *ret_opening)
{
	int error = txn_resume(r->reader);

	if (error < 0)
		return error;
	error = stage_opening(r->reader, complete, ret_opening);
	txn_park(r->reader);
	return error < 0 ? error : stage_new(r->store, &r->stage);
}

static int pull_open(void *user, bool complete, struct buffer *ret_opening)
{
	struct replica *r = user;
	int error = settle(r);

	stage_free(r->stage);
	r->stage = NULL;
	if (!r->fetching)
		not_preparing(r);
	r->fetching = false;
	complete = complete || r->heal;
	if (error == 0)
		error = clear_the_way(r, complete);
	if (error == 0)
		error = begin_stage(r, complete, ret_opening);
	return error < 0 ? failed(r, error, "begin to pull") : 0;
}

/* After an error the pull is over. A frame that was refused, and one for which there is no room, leave what came before it. */
static int pull_feed(void *user, struct slice frame)
{
	struct replica *r = user;
	int error = pull_txn(r);

	if (error < 0)
		return failed(r, error, "write what is pulled");
	error = txn_admit(r->txn, 2 * frame.size, false);
	if (error < 0) {
		settle(r);
		return failed(r, error, "write what is pulled");
	}
	while ((error = stage_feed(r->stage, r->txn, frame)) == -EAGAIN) {
		error = settle(r);
		if (error == 0)
			error = pull_txn(r);
		if (error < 0)
			return failed(r, error, "take in what is pulled");
	}
	if (error == -DRS_EPROTOCOL)
		settle(r);
	else if (error < 0)
		give_up(r);
	else if (txn_dirty_bytes(r->txn) > PULL_DIRTY_BYTES)
		error = settle(r);
	return error < 0 ? failed(r, error, "take in what is pulled") : 0;
}

static int pull_next(void *user, struct buffer *frame)
{
	struct replica *r = user;
	int error = pull_txn(r);

	if (error == 0) {
		buffer_clear(frame);
		error = stage_next(r->stage, r->txn, frame);
		if (error < 0)
			give_up(r);
	}
	return error < 0 ? failed(r, error, "pull") : error;
}

static bool pull_ready(void *user)
{
	struct replica *r = user;

	return r->stage && pull_txn(r) == 0 && stage_ready(r->stage, r->txn);
}

static int different(struct replica *r)
{
	say(r, "the replica would differ from the master (digest): it is dropped, and a complete copy is made instead");
	note_reason(r);
	r->heal = true;
	return -DRS_EDIGEST;
}

/* What was staged is of no use: nobody commits what one of those who were asked has refused, but for those who do without us. */
static void prepare_failed(struct replica *r)
{
	version_t version = r->preparing;

	not_preparing(r);
	leave_over(r, version, 0);
	give_up(r);
}

static int commit_failed(struct replica *r, int error, const char *what)
{
	give_up(r);
	return error == -DRS_EDIGEST ? different(r) : failed(r, error, what);
}

/* All of it is here: now it is the current version. */
static int commit_stage(struct replica *r, struct drs_version *ret_version)
{
	static const char what[] = "commit what was pulled";
	struct version_info info;
	int error = pull_txn(r);

	if (error == 0)
		error = stage_commit(r->stage, r->txn, &info);
	if (error < 0)
		return commit_failed(r, error, what);
	FAULT("slave.committed.before");
	error = settle(r);
	if (error < 0)
		return failed(r, error, what);
	FAULT("slave.committed.after");
	stage_free(r->stage);
	r->stage = NULL;
	r->heal = false;
	committed(r, info.version, ret_version);
	return 0;
}

/* ---- checking what is staged */

static bool is_checked(const struct replica *r)
{
	return r->owner.check_begin != NULL;
}

/* All of it is here, is what the master has, and is made durable; still nobody sees it. */
static int keep_stage(struct replica *r, version_t *ret_version, version_t *ret_current)
{
	int error = pull_txn(r);

	if (error == 0)
		error = stage_check(r->stage, r->txn);
	if (error < 0)
		return commit_failed(r, error, "check what was pulled");
	*ret_version = txn_state(r->txn)->stage.to;
	*ret_current = txn_state(r->txn)->current;
	FAULT("slave.staged.before");
	error = settle(r);
	if (error < 0)
		return failed(r, error, "keep what was pulled");
	FAULT("slave.staged.after");
	r->heal = false; /* this much of it is right */
	return 0;
}

/* -EINPROGRESS; else why it could not be begun. */
static int begin_check(struct replica *r, enum duty duty, version_t version, version_t current)
{
	int error = r->owner.check_begin(r->owner.user, version, current, r->reason);

	if (error == 0) {
		r->duty = duty;
		return -EINPROGRESS;
	}
	give_up(r);
	if (duty != DUTY_PREPARE) {
		say(r, "version %llu cannot be checked: %s", (unsigned long long)version, r->reason);
		r->refused = version;
	}
	return error;
}

static void end_check(struct replica *r)
{
	if (r->duty != DUTY_NONE)
		r->owner.check_cancel(r->owner.user);
	r->duty = DUTY_NONE;
}

/* One phase, with a check: what is staged is kept, so that it need not be pulled again to be tried again. */
static int check_then_commit(struct replica *r, enum duty duty)
{
	version_t version, current;
	int error = keep_stage(r, &version, &current);

	return error < 0 ? error : begin_check(r, duty, version, current);
}

/* false: there was nothing to pull. */
static bool has_staged(struct replica *r)
{
	return pull_txn(r) == 0 && txn_state(r->txn)->stage.to != VERSION_NONE;
}

static int pull_commit(void *user, struct drs_version *ret_version)
{
	struct replica *r = user;

	if (is_checked(r) && has_staged(r))
		return check_then_commit(r, DUTY_PULL);
	return commit_stage(r, ret_version);
}

static void say_refused(struct replica *r)
{
	say(r, "version %llu is refused by the check", (unsigned long long)r->refused);
}

static void refuse(struct replica *r, version_t version)
{
	r->refused = version;
	say_refused(r);
	give_up(r);
}

static version_t staged(struct replica *r)
{
	struct store_state state;

	return read_state(r, &state) == 0 ? state.stage.to : VERSION_NONE;
}

void replica_checked(struct replica *r, int error, const char *why)
{
	enum duty duty = r->duty;
	version_t version = staged(r);
	struct drs_version led_to = fs_version_of(version);

	if (duty == DUTY_NONE)
		return;
	r->duty = DUTY_NONE;
	snprintf(r->reason, sizeof(r->reason), "%s", why);
	if (duty == DUTY_PREPARE && error == 0)
		r->prepared = true;
	else if (duty == DUTY_PREPARE)
		prepare_failed(r);
	else if (error == 0)
		error = commit_stage(r, &led_to);
	else
		refuse(r, version);
	r->owner.done(r->owner.user, error, &led_to);
}

/* A prepare's stage is still needed once all of it is here. */
static void pull_close(void *user)
{
	struct replica *r = user;
	bool needed = r->preparing && (r->prepared || r->duty == DUTY_PREPARE || pull_ready(r));

	if (r->duty == DUTY_PULL || r->duty == DUTY_INLINE)
		end_check(r);
	int error = settle(r);
	if (!needed) {
		stage_free(r->stage);
		r->stage = NULL;
		r->untidy = true;
	}
	if (error < 0)
		failed(r, error, "keep what was pulled");
}

void replica_progress(const struct replica *r, struct stage_progress *ret_progress)
{
	*ret_progress = (struct stage_progress){ 0 };
	if (r->stage && r->duty == DUTY_NONE && !r->prepared)
		stage_progress(r->stage, ret_progress);
}

/* ---- versions that come in one step */

static int apply_inline(struct txn *txn, struct slice delta, struct version_info *ret_info)
{
	int error = txn_admit(txn, 2 * delta.size, false);

	return error < 0 ? error : delta_inline_apply(txn, delta, ret_info);
}

/* What nobody waits for any more gives way, if that is little work; else a pull, or tidying, sees to it. */
static int make_way(struct replica *r, struct txn *txn)
{
	version_t in_the_way = txn_state(txn)->stage.to;
	bool done = true;

	if (in_the_way == VERSION_NONE || (in_the_way != r->left_over && in_the_way != r->refused))
		return 0;
	int error = stage_drop(txn, DROP_RECORDS, &done);
	return error < 0 || done ? error : -EBUSY;
}

static int commit_at_once(struct replica *r, struct slice delta, struct version_info *ret_info)
{
	struct txn *txn;
	int error = txn_begin_write(r->store, &txn);

	if (error < 0)
		return error;
	error = make_way(r, txn);
	if (error == 0)
		error = apply_inline(txn, delta, ret_info);
	if (error < 0) {
		txn_abort(txn);
		return error;
	}
	FAULT("slave.committed.before");
	error = txn_commit(txn);
	if (error == 0)
		FAULT("slave.committed.after");
	return error;
}

/* Stage a small delta as a pull would have done. What was staged before is gone then. */
static int stage_small(struct replica *r, struct slice delta)
{
	stage_free(r->stage);
	r->stage = NULL;
	int error = stage_new(r->store, &r->stage);
	if (error == 0)
		error = pull_txn(r);
	if (error == 0)
		error = txn_admit(r->txn, 2 * delta.size, false);
	while (error == 0 && (error = stage_inline(r->stage, r->txn, delta)) == -EAGAIN) {
		error = settle(r);
		if (error == 0)
			error = pull_txn(r);
	}
	if (error < 0)
		give_up(r);
	return error;
}

static int small_failed(struct replica *r, int error)
{
	if (error == -DRS_EDIGEST)
		return different(r);
	if (error == -DRS_EHORIZON || error == -EBUSY)
		return error; /* it leads on from another version than ours, or a pull was interrupted: a pull brings it */
	return failed(r, error, "apply a small delta");
}

/* An interrupted pull is not thrown away for it. */
static int check_inline(struct replica *r, struct slice delta)
{
	version_t in_the_way = staged(r);

	if (in_the_way != VERSION_NONE && in_the_way != r->left_over && in_the_way != r->refused)
		return -EBUSY;
	int error = stage_small(r, delta);
	return error < 0 ? small_failed(r, error) : check_then_commit(r, DUTY_INLINE);
}

static int commit_inline(void *user, struct slice delta, struct drs_version *ret_version)
{
	struct replica *r = user;
	struct version_info info;

	not_preparing(r);
	int error = settle(r);
	if (error == 0 && is_checked(r))
		return check_inline(r, delta);
	if (error == 0)
		error = commit_at_once(r, delta, &info);
	if (error < 0)
		return small_failed(r, error);
	committed(r, info.version, ret_version);
	return 0;
}

static int take_version(void *user, const struct drs_version *version)
{
	struct replica *r = user;
	struct txn *txn;

	not_preparing(r);
	int error = settle(r);
	if (error == 0)
		error = txn_begin_write(r->store, &txn);
	if (error < 0)
		return failed(r, error, "take a version's number");
	error = make_way(r, txn);
	if (error == 0)
		error = version_take(txn, fs_version_number(version), wall_clock());
	if (error < 0)
		txn_abort(txn);
	else
		error = txn_commit(txn);
	if (error < 0)
		return failed(r, error, "take a version's number");
	all_well(r);
	show(r); /* nothing new: only the number */
	r->untidy = true;
	return 0;
}

/* ---- two phase */

static void prepare_abort(void *user)
{
	struct replica *r = user;

	end_check(r);
	if (!r->preparing)
		return;
	not_preparing(r);
	give_up(r);
	all_well(r);
	if (r->refused)
		say_refused(r); /* that is as it was */
}

static int prepare(void *user, const struct drs_version *version, struct slice delta)
{
	struct replica *r = user;
	version_t from, to;

	prepare_abort(r);
	r->reason[0] = '\0';
	r->preparing = fs_version_number(version);
	r->fetching = true;
	if (delta.size == 0)
		return 0;
	int error = delta_inline_span(delta, &from, &to);
	if (error == 0 && to != r->preparing)
		error = -DRS_EPROTOCOL;
	if (error == 0)
		error = stage_small(r, delta);
	if (error == -DRS_EHORIZON || error == -EBUSY)
		return 0;
	r->fetching = false;
	if (error == 0)
		return 1;
	prepare_failed(r);
	return failed(r, error, "stage a version");
}

/* Nobody else has the stage now: what is there is of this version, or something is wrong. */
static bool is_of(struct replica *r, version_t version)
{
	return r->preparing == version && r->stage && has_staged(r) && txn_state(r->txn)->stage.to == version;
}

static int prepare_check(void *user, const struct drs_version *version)
{
	struct replica *r = user;
	version_t number = fs_version_number(version), staged_as, current;

	int error = is_of(r, number) ? keep_stage(r, &staged_as, &current) : failed(r, -DRS_EPROTOCOL, "prepare a version");
	if (error == 0 && is_checked(r))
		error = begin_check(r, DUTY_PREPARE, number, current);
	if (error == 0)
		r->prepared = true;
	else if (error != -EINPROGRESS)
		prepare_failed(r);
	return error;
}

static int prepare_commit(void *user, struct drs_version *ret_version)
{
	struct replica *r = user;

	int error = r->prepared ? commit_stage(r, ret_version) : failed(r, -EINVAL, "commit a version that is not prepared");
	r->prepared = false;
	r->preparing = 0; /* after an error it is pulled, going on from what is staged */
	return error;
}

version_t replica_prepared(const struct replica *r)
{
	return r->prepared ? r->preparing : VERSION_NONE;
}

bool replica_checking(const struct replica *r)
{
	return r->duty != DUTY_NONE;
}

/* ---- joining a volume */

static int admitted(void *user, const struct did *did, struct slice credentials)
{
	struct replica *r = user;
	struct store_state state;

	if (credentials.size != sizeof(state.secret))
		return failed(r, -DRS_EPROTOCOL, "join the volume");
	int error = settle(r);
	if (error == 0)
		error = read_state(r, &state);
	if (error == 0 && memcmp(&state.did, did, sizeof(*did)) == 0 && memcmp(state.secret, credentials.data, credentials.size) == 0)
		return 0;
	if (error == 0)
		error = store_join(r->store, did, credentials.data);
	return error < 0 ? failed(r, error, "join the volume") : 0;
}

static void changed(void *user)
{
	struct replica *r = user;

	if (r->changed)
		r->changed(r->changed_user);
}

struct drs_slave_listener replica_listener(struct replica *r)
{
	return (struct drs_slave_listener){
		.user = r,
		.admitted = admitted,
		.pull_open = pull_open,
		.pull_feed = pull_feed,
		.pull_next = pull_next,
		.pull_ready = pull_ready,
		.pull_commit = pull_commit,
		.pull_close = pull_close,
		.commit_inline = commit_inline,
		.take_version = take_version,
		.prepare = prepare,
		.prepare_check = prepare_check,
		.prepare_commit = prepare_commit,
		.prepare_abort = prepare_abort,
		.reason = reason,
		.changed = changed,
	};
}

/* ---- tidying up */

static version_t shown(const struct replica *r, const struct store_state *state)
{
	return r->mount ? slave_mount_shown(r->mount) : state->current;
}

/* The horizon moves in strides, so that retiring does not make a second commit of every one. */
static version_t horizon_wanted(const struct replica *r, const struct store_state *state)
{
	version_t last = shown(r, state);
	version_t horizon = last > r->retain_versions ? last - r->retain_versions : 0;
	uint64_t stride = r->retiring ? 0 : 8 + r->retain_versions / 8;

	return horizon > state->horizon + stride ? horizon : 0;
}

static bool stage_abandoned(const struct replica *r, const struct store_state *state)
{
	version_t to = state->stage.to;

	return to != VERSION_NONE && (r->heal || to <= state->current || (to == r->left_over && now_ms() >= r->left_over_until));
}

/* The next bit of work, if there is any: 1, 0 or an error. */
static int tidy_step(struct replica *r, struct txn *txn)
{
	const struct store_state *state = txn_state(txn);
	version_t horizon = horizon_wanted(r, state);
	bool done, more = false;
	int error;

	if (stage_abandoned(r, state)) {
		error = stage_drop(txn, TIDY_CHANGES, &done);
		return error < 0 ? error : 1;
	}
	if (horizon != 0) {
		error = retire_step(txn, horizon, TIDY_CHANGES, r->mount ? slave_mount_holds : NULL, r->mount, &done);
		r->retiring = error == 0 && !done;
		return error < 0 ? error : 1;
	}
	error = chunk_collect(txn, TIDY_CHUNKS, &more);
	return error < 0 ? error : more;
}

static int tidy(struct replica *r)
{
	time_ms end = now_ms() + TIDY_MS;
	struct txn *txn;
	int more;

	int error = txn_begin_write(r->store, &txn);
	if (error < 0)
		return error;
	do {
		error = txn_admit(txn, TIDY_CHANGES * RECORD_KEY_BYTES_MAX, true);
		more = error < 0 ? error : tidy_step(r, txn);
	} while (more > 0 && now_ms() < end && txn_dirty_bytes(txn) < PULL_DIRTY_BYTES);
	if (more < 0 || txn_dirty_bytes(txn) == 0) {
		txn_abort(txn);
		return more;
	}
	error = txn_commit(txn);
	return error < 0 ? error : more;
}

bool replica_tidy(struct replica *r)
{
	int more;

	if (r->unshown)
		show(r);
	if (r->stage) {
		if (r->txn && now_ms() - r->txn_begun >= PULL_PAUSE_MS && settle(r) < 0)
			say(r, "cannot keep what was pulled so far; it is pulled again");
		return false;
	}
	if (!r->untidy)
		return false;
	more = tidy(r);
	if (more < 0)
		failed(r, more, "tidy up the store");
	r->untidy = more > 0 || (r->left_over && now_ms() < r->left_over_until);
	return more > 0;
}
