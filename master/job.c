/*
 * Commits of batches, one at a time (batches.h). A job goes through
 *
 *   FLUSHING --> WAITING --> PROPOSED --> DECIDED --> (told)
 *                   '--> REFUSED ---------------------^
 *
 *   FLUSHING  the helper has the kernel hand over what was written in the view
 *   WAITING   others are before it
 *   REFUSED   the helper looks for the paths that stand against it
 *   PROPOSED  its number is durable; the live tree is held (publish.h) and what the batch changes is frozen (live.h)
 *   DECIDED   durable, too; the live tree goes on; the helper tells the kernel what has changed
 *
 * The helper may wait for a directory's lock, which an operation in a two-phase directory may hold that waits for its own job (strict.h). So only a job that is PROPOSED
 * stands in the way of others; while the helper is at one it stands aside. An operation's job needs no helper.
 *
 * Each durable step is a transaction of its own, so that one for which there is no room changes nothing.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/fault.h"
#include "master/paths.h"
#include "master/serve.h"

enum job_state { JOB_FLUSHING, JOB_WAITING, JOB_REFUSED, JOB_PROPOSED, JOB_DECIDED };

struct job {
	struct errand errand;
	struct job *next;
	struct master_mount *mount;
	enum job_state state;
	uint32_t id;
	bool operation;          /* one of the live tree's, in a batch of its own without a view (strict.h) */
	struct commit_options options;
	batch_committed *done;
	void *user;
	struct batch_info info;  /* as proposed */
	int error;               /* that it ends with */
	char why[VERSION_MESSAGE_BYTES_MAX + 1]; /* it is aborted */
	version_t version;
	bool committed;
	bool unchanged;          /* it was empty */
	bool cancelled;          /* while the helper was flushing */
	bool announced, told;    /* to the slaves; to the kernel */
	struct buffer keys;      /* that stand against it, as paths_of_keys takes them */
	size_t conflicts;
	struct view view;        /* in which these have their names */
	struct buffer paths;
	struct buffer notices;
};

/* --- the end */

static void job_free(struct job *job)
{
	buffer_fini(&job->keys);
	buffer_fini(&job->paths);
	buffer_fini(&job->notices);
	free(job);
}

static void job_tell(struct job *job)
{
	struct batch_outcome outcome = { .id = job->id, .error = job->error, .version = job->version, .unchanged = job->unchanged,
					 .conflicts = job->conflicts };
	const char *at = (const char *)job->paths.data, *end = at + job->paths.size;
	const char **paths = job->paths.size ? calloc(BATCH_PATHS_MAX, sizeof(*paths)) : NULL;
	while (paths && at < end && outcome.paths_count < BATCH_PATHS_MAX) {
		paths[outcome.paths_count++] = at;
		at += strlen(at) + 1;
	}
	outcome.paths = paths;
	job->done(job->user, &outcome);
	free(paths);
}

static void job_next(struct master_mount *m);

static void job_leaves(struct job **list, struct job *job)
{
	while (*list && *list != job)
		list = &(*list)->next;
	if (*list)
		*list = job->next;
}

/* The next may have its turn; and operations that were to wait for all commits. */
static void job_over(struct master_mount *m)
{
	job_next(m);
	if (!m->job)
		serve_deferred(m);
}

static void job_aside(struct job *job)
{
	struct master_mount *m = job->mount;
	if (m->job == job)
		m->job = NULL;
	job->next = m->aside;
	m->aside = job;
}

static void job_end(struct job *job, int error)
{
	struct master_mount *m = job->mount;
	job->error = error;
	if (m->job == job)
		m->job = NULL;
	job_leaves(&m->aside, job);
	job_tell(job);
	job_free(job);
	job_over(m);
}

static void job_may_end(struct job *job)
{
	if (job->state == JOB_DECIDED && job->announced && job->told)
		job_end(job, job->committed ? 0 : job->error ? job->error : -DRS_EABORTED);
}

/* --- what stands against it */

static void job_against(void *user, const struct record_key *key)
{
	struct job *job = user;
	if (job->conflicts++ >= BATCH_PATHS_MAX)
		return;
	buffer_add(&job->keys, &key->size, sizeof(key->size));
	buffer_add(&job->keys, key->bytes, key->size);
}

static void refused_there(struct errand *errand)
{
	struct job *job = (struct job *)errand;
	struct txn *txn;
	if (job->keys.failed || txn_begin_read(job->mount->work.store, &txn) < 0)
		return;
	if (paths_of_keys(txn, job->view, buffer_slice(&job->keys), BATCH_PATHS_MAX, &job->paths) < 0)
		buffer_clear(&job->paths); /* then there is only their number */
	txn_abort(txn);
}

static void refused_back(struct errand *errand)
{
	struct job *job = (struct job *)errand;
	job_end(job, job->error);
}

/* The paths are looked for, then it ends. */
static void job_refuse(struct job *job, int error, struct view view)
{
	job->state = JOB_REFUSED;
	job->error = error;
	job->view = view;
	job->errand.there = refused_there;
	job->errand.back = refused_back;
	job_aside(job);
	serve_send(job->mount, &job->mount->helper, &job->errand);
	job_over(job->mount);
}

/* What is being written in the view, by whoever still has it open. */
static void against_writers(struct job *job, struct live *live)
{
	for (size_t i = 0; i < DRAFT_BUCKETS; i++)
		for (const struct draft *d = live->drafts[i]; d; d = d->bucket_next) {
			struct record_key key = record_key_node(d->ino);
			if (d->writers && !(d->drafted && d->node.nlink == 0))
				job_against(job, &key);
		}
}

static void against_name(struct job *job, struct txn *txn, const struct draft_name *name)
{
	struct record_key key = record_key_name(txn, name->parent, name->text, name->size), parent = record_key_node(name->parent);
	if (batch_touches(txn, job->id, &key) || batch_removes(txn, job->id, &parent))
		job_against(job, &key);
}

/* What is being written in the live tree, and not finished, is changed as well. */
static void against_drafts(struct job *job, struct txn *txn)
{
	for (const struct draft *d = job->mount->main.live.drafted; d; d = d->drafted_next) {
		struct record_key key = record_key_node(d->ino);
		if (batch_touches(txn, job->id, &key))
			job_against(job, &key);
		for (const struct draft_name *name = d->names; name; name = name->next)
			against_name(job, txn, name);
	}
}

/* --- proposing */

/* Its view moves onto the version that the batch stands on now. */
static void view_moves(struct job *job, struct tree *t)
{
	struct txn *txn;
	version_t from = t->live.base;
	struct version_info info = { .version = from };
	t->live.base = job->info.base;
	int ret = work_read(&job->mount->work, &txn);
	while (ret == 0 && info.version < t->live.base && (ret = version_next(txn, info.version, &info)) == 0)
		ret = changed_by(t, txn, from, info.version, &job->notices);
	notices_send(t, &job->notices, NULL, 0);
}

static void job_freeze(struct job *job)
{
	struct master_mount *m = job->mount;
	struct tree *t = batches_tree(m, job->id);
	job->state = JOB_PROPOSED;
	m->main.live.frozen_by = job->id;
	m->main.live.frozen_moves = job->info.moves;
	publish_hold(&m->publish, true);
	if (!t)
		return;
	t->live.sealed = DEFERRED;
	if (t->live.base != job->info.base)
		view_moves(job, t);
}

static void empty_forgotten(void *user, int error)
{
	struct job *job = user;
	job_end(job, error);
}

static void empty_closed(struct master_mount *m, uint32_t id, void *user)
{
	batches_forget(m, id, empty_forgotten, user);
}

/* It has changed nothing: it is over, and no version is made. */
static void job_empty(struct job *job)
{
	struct master_mount *m = job->mount;
	struct tree *t = batches_tree(m, job->id);
	struct txn *txn;
	int ret = work_read(&m->work, &txn);
	if (ret < 0) {
		job_end(job, ret);
		return;
	}
	job->version = txn_state(txn)->current;
	job->unchanged = true;
	job_aside(job);
	if (t)
		batches_close(t, false, empty_closed, job);
	else
		empty_closed(m, job->id, job);
	job_over(m);
}

static int propose(struct job *job, struct txn *txn, struct buffer *ret_delta)
{
	struct node_time now = time_now();
	struct batch_info info;
	int ret = batch_get(txn, job->id, &info);
	if (ret == 0)
		ret = batch_admit(txn, job->id);
	if (ret == 0 && !job->operation)
		against_drafts(job, txn);
	if (ret == 0)
		ret = batch_rebase(txn, job->id, job_against, job);
	if (ret >= 0 && job->conflicts)
		ret = -DRS_ECONFLICT;
	if (ret == 0)
		ret = batch_propose(txn, job->id, now.seconds * 1000000000 + now.nanoseconds,
				    job->options.message[0] ? job->options.message : info.name, &job->info);
	if (ret < 0)
		return ret;
	ret = batch_inline_make(txn, job->id, DRS_PREPARE_BYTES_MAX, ret_delta);
	if (ret < 0)
		buffer_clear(ret_delta); /* too large, or it needs chunks: it is pulled */
	return ret == -DRS_ETOOBIG ? 0 : ret;
}

/* In a transaction of its own, which is dropped if it does not succeed. */
static int propose_durably(struct job *job, struct buffer *ret_delta)
{
	struct work *work = &job->mount->work;
	struct txn *txn;
	int ret = work_change(work, 0, true, &txn);
	if (ret == 0)
		ret = propose(job, txn, ret_delta);
	if (ret < 0) {
		if (!work->broken && !job->operation) /* whose changes are in there, too */
			work_drop(work);
		return ret;
	}
	FAULT("master.proposed.before");
	ret = work_commit(work);
	if (ret == 0)
		FAULT("master.proposed.after");
	return ret;
}

static void job_decide(struct job *job, bool commit);

/* All that is closed in the live tree is a version, and who waits for that is answered. */
static int live_settled(struct master_mount *m)
{
	serve_drain(&m->main);
	int ret = publish_settle(&m->publish);
	if (m->parked_count)
		serve_commit(m);
	return ret;
}

static void job_propose(struct job *job)
{
	struct master_mount *m = job->mount;
	struct buffer delta = BUFFER_INIT;
	int ret = job->operation ? 0 : live_settled(m);
	if (ret == 0)
		ret = propose_durably(job, &delta);
	if (ret == -ENOSPC && publish_make_room(&m->publish) == 0) {
		ret = publish_settle(&m->publish);
		if (ret == 0)
			ret = propose_durably(job, &delta);
	}
	if (ret == 0) {
		job_freeze(job);
		if (m->publish.listener.propose) {
			m->publish.listener.propose(m->publish.listener.user, &job->info, &job->options, buffer_slice(&delta));
		} else {
			job->announced = true;
			job_decide(job, true);
		}
	} else if (ret == -ENODATA) {
		job_empty(job);
	} else if (ret == -DRS_ECONFLICT && job->conflicts) {
		struct batch_info info;
		batches_get(m, job->id, &info);
		job_refuse(job, ret, (struct view){ .version = info.base, .draft = batch_draft(job->id) });
	} else {
		job_end(job, ret);
	}
	buffer_fini(&delta);
}

/* What is closed in the batch's view is part of it; what is still being written stands against it. */
static bool view_settled(struct job *job)
{
	struct master_mount *m = job->mount;
	struct tree *t = batches_tree(m, job->id);
	struct txn *txn;
	if (!t || t->closing)
		return true;
	serve_drain(t);
	against_writers(job, &t->live);
	int ret = job->conflicts ? -ETXTBSY : draft_settle_all(&t->live);
	if (ret == -ETXTBSY) {
		serve_commit(m);
		ret = work_read(&m->work, &txn);
		if (ret == 0) {
			job_refuse(job, -ETXTBSY, live_view(&t->live, txn));
			return false;
		}
	}
	if (ret < 0)
		job_end(job, ret);
	return ret == 0;
}

static void job_flushed(struct errand *errand)
{
	struct job *job = (struct job *)errand;
	struct master_mount *m = job->mount;
	struct job **last = &m->jobs;
	job_leaves(&m->aside, job);
	if (job->cancelled) { /* who asked has been answered */
		job_free(job);
		return;
	}
	job->next = NULL;
	job->state = JOB_WAITING;
	while (*last)
		last = &(*last)->next;
	*last = job;
	job_next(m);
}

static void job_flush(struct errand *errand)
{
	struct job *job = (struct job *)errand;
	char path[PATH_MAX];
	hidden_path(job->mount, job->id, path, sizeof(path));
	struct tree view = { .mountpoint = path };
	tree_flush(&view);
}

/* --- their turn */

static void job_next(struct master_mount *m)
{
	struct job *job = m->jobs;
	struct batch_info info;
	if (m->job || !job)
		return;
	m->jobs = job->next;
	m->job = job;
	int ret = m->ending ? -ESHUTDOWN : batches_get(m, job->id, &info);
	if (ret < 0) {
		job_end(job, ret);
		return;
	}
	if (job->operation || view_settled(job))
		job_propose(job);
}

static struct job **waiting_at(struct master_mount *m, uint32_t id)
{
	struct job **at = &m->jobs;
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

bool jobs_cancel_waiting(struct master_mount *m, uint32_t id)
{
	struct job **at = waiting_at(m, id), *job = *at;
	for (struct job *aside = m->aside; aside && !job; aside = aside->next) {
		if (aside->id != id || aside->state != JOB_FLUSHING || aside->cancelled)
			continue;
		aside->cancelled = true;
		aside->error = -ECANCELED;
		job_tell(aside);
		return true;
	}
	if (!job)
		return false;
	*at = job->next;
	job_end(job, -ECANCELED);
	return true;
}

int batches_cancel(struct master_mount *m, uint32_t id, version_t *ret_proposed)
{
	const struct job *job = m->job;
	*ret_proposed = VERSION_NONE;
	if (jobs_cancel_waiting(m, id))
		return 0;
	if (!jobs_run(m, id))
		return -ENOENT;
	if (!job || job->id != id || job->state != JOB_PROPOSED)
		return -EBUSY;
	*ret_proposed = job->info.proposed;
	return 0;
}

bool jobs_flush(const struct master_mount *m, uint32_t id)
{
	const struct job *job = m->aside;
	while (job && (job->id != id || job->state != JOB_FLUSHING))
		job = job->next;
	return job;
}

bool jobs_run(const struct master_mount *m, uint32_t id)
{
	const struct job *job = m->jobs, *aside = m->aside;
	while (job && job->id != id)
		job = job->next;
	while (aside && (aside->id != id || aside->cancelled))
		aside = aside->next;
	return job || aside || (m->job && m->job->id == id);
}

void batches_commit(struct master_mount *m, uint32_t id, const struct commit_options *options, batch_committed *done, void *user)
{
	struct batch_info info;
	struct job *job = calloc(1, sizeof(*job));
	int ret = !job ? -ENOMEM : m->ending ? -ESHUTDOWN : jobs_run(m, id) ? -EBUSY : batches_get(m, id, &info);
	if (ret < 0) {
		free(job);
		done(user, &(struct batch_outcome){ .id = id, .error = ret });
		return;
	}
	*job = (struct job){ .mount = m, .id = id, .options = *options, .done = done, .user = user };
	job->operation = info.operation;
	if (job->operation) {
		job->state = JOB_WAITING;
		job->next = m->jobs;
		m->jobs = job;
		job_next(m);
		return;
	}
	job->state = JOB_FLUSHING;
	job->errand.there = job_flush;
	job->errand.back = job_flushed;
	job_aside(job);
	serve_send(m, &m->helper, &job->errand);
}

/* --- deciding */

static int commit_durably(struct job *job, struct version_info *ret_info)
{
	struct work *work = &job->mount->work;
	struct txn *txn;
	int ret = work_change(work, 0, true, &txn);
	if (ret == 0)
		ret = batch_admit(txn, job->id);
	if (ret == 0)
		ret = batch_commit(txn, job->id, ret_info);
	if (ret < 0) {
		if (!work->broken)
			work_drop(work);
		return ret;
	}
	FAULT("master.committed.before");
	ret = work_commit(work);
	if (ret == 0)
		FAULT("master.committed.after");
	return ret;
}

static int abort_durably(struct job *job)
{
	struct work *work = &job->mount->work;
	struct txn *txn;
	int ret = work_change(work, 0, true, &txn);
	if (ret == 0)
		ret = batch_abort(txn, job->id, job->why);
	if (ret < 0)
		return work_broken_by(work, ret); /* the number would stay proposed: only a new start gets out of that */
	FAULT("master.aborted.before");
	ret = work_commit(work);
	if (ret == 0)
		FAULT("master.aborted.after");
	return ret;
}

static void told_there(struct errand *errand)
{
	struct job *job = (struct job *)errand;
	notices_tell(job->mount->main.session, buffer_slice(&job->notices));
}

static void told_back(struct errand *errand)
{
	struct job *job = (struct job *)errand;
	job->told = true;
	job_may_end(job);
}

/* The version is current: the main mount shows it, the batch's view is over. */
static void job_committed(struct job *job)
{
	struct master_mount *m = job->mount;
	struct tree *t = batches_tree(m, job->id);
	struct txn *txn;
	job->version = job->info.proposed;
	publish_made(&m->publish);
	buffer_clear(&job->notices);
	policy_changed(m->policy);
	if (!job->operation && work_read(&m->work, &txn) == 0)
		changed_by(&m->main, txn, job->info.base, job->version, &job->notices);
	if (!t)
		return;
	t->live.sealed = -EROFS;
	t->live.base = job->version;
	batches_close(t, false, NULL, NULL);
}

/* The live tree goes on. */
static void job_thaw(struct job *job)
{
	struct master_mount *m = job->mount;
	struct tree *t = batches_tree(m, job->id);
	m->main.live.frozen_by = 0;
	m->main.live.frozen_moves = false;
	publish_hold(&m->publish, false);
	if (t && !job->committed)
		t->live.sealed = 0;
}

static void job_decide(struct job *job, bool commit)
{
	struct master_mount *m = job->mount;
	const struct master_mount_listener *listener = &m->publish.listener;
	struct version_info info;
	int ret = publish_commit(&m->publish); /* what others have written is not part of this */
	if (ret == 0)
		ret = commit ? commit_durably(job, &info) : abort_durably(job);
	if (ret < 0) {
		if (listener->decided)
			listener->decided(listener->user, job->info.proposed, commit, ret);
		else if (commit)
			job_decide(job, false);
		return;
	}
	job->state = JOB_DECIDED;
	job->committed = commit;
	if (commit)
		job_committed(job);
	if (commit && !listener->propose) /* nobody was asked, nobody knows of it */
		listener->published(listener->user, &info, (struct slice){ 0 });
	if (listener->decided)
		listener->decided(listener->user, job->info.proposed, commit, 0);
	if (job->operation)
		strict_decided(m, commit);
	job_thaw(job);
	job_aside(job);
	job->told = job->operation;
	if (!job->told) {
		job->errand.there = told_there;
		job->errand.back = told_back;
		serve_send(m, &m->helper, &job->errand);
	}
	serve_deferred(m);
	job_over(m);
	job_may_end(job);
}

/* The job that has proposed this version, and is not told yet; NULL: there is none. */
static struct job *job_of(struct master_mount *m, version_t version)
{
	struct job *job = m->job && m->job->info.proposed == version ? m->job : m->aside;
	while (job && (job->state < JOB_PROPOSED || job->info.proposed != version))
		job = job == m->job ? NULL : job->next;
	return job;
}

struct word {
	version_t version;
	bool commit;
	int error;
	char why[VERSION_MESSAGE_BYTES_MAX + 1];
};

static void decide(struct master_mount *m, void *user)
{
	struct word word = *(struct word *)user;
	const struct master_mount_listener *listener = &m->publish.listener;
	struct job *job = job_of(m, word.version);
	free(user);
	if (job && job->state == JOB_PROPOSED) {
		strcpy(job->why, word.why);
		job_decide(job, word.commit);
	} else if (listener->decided)
		listener->decided(listener->user, word.version, word.commit, word.commit ? -ENOENT : 0);
}

static void announced(struct master_mount *m, void *user)
{
	struct word word = *(struct word *)user;
	struct job *job = job_of(m, word.version);
	free(user);
	if (!job)
		return;
	job->announced = true;
	job->error = word.error;
	if (job->state == JOB_PROPOSED) {
		snprintf(job->why, sizeof(job->why), "%s", error_text(word.error));
		job_decide(job, false);
	}
	job_may_end(job);
}

static int send_word(struct master_mount *m, void (*run)(struct master_mount *, void *), struct word word)
{
	struct word *copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = word;
	int ret = master_mount_call(m, run, copy);
	if (ret < 0)
		free(copy);
	return ret;
}

int master_mount_decide(struct master_mount *m, version_t version, bool commit, const char *why)
{
	struct word word = { .version = version, .commit = commit };
	snprintf(word.why, sizeof(word.why), "%s", why);
	return send_word(m, decide, word);
}

int master_mount_job_done(struct master_mount *m, version_t version, int error)
{
	return send_word(m, announced, (struct word){ .version = version, .error = error });
}

void jobs_end(struct master_mount *m)
{
	while (m->jobs)
		jobs_cancel_waiting(m, m->jobs->id);
	for (struct job *job = m->aside, *next; job; job = next) {
		next = job->next;
		job->announced = true; /* nobody is there any more to say so */
		job_may_end(job);
	}
	struct job *job = m->job;
	if (!job || job->state != JOB_PROPOSED || m->work.broken)
		return; /* whoever comes back with it ends it */
	job->announced = true;
	job->error = -ESHUTDOWN;
	strcpy(job->why, "the master was stopped");
	job_decide(job, false);
}
