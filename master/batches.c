/* Batches of the mount: their beginning and end, their views, and what is told of them (batches.h). Their commits are in job.c. */
#include "master/batches.h"

#include <errno.h>
#include <limits.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "master/paths.h"
#include "master/serve.h"

#define DROP_WORK 256 /* records that an abort takes away at once; the rest is tidied away */

/* --- which there are */

static bool is_dropped(const struct master_mount *m, uint32_t id)
{
	const struct dropping *d = m->dropping;
	while (d && d->id != id)
		d = d->next;
	return d != NULL;
}

struct tree *batches_tree(struct master_mount *m, uint32_t id)
{
	struct tree *t = m->batches;
	while (t && t->batch != id)
		t = t->next;
	return t;
}

int batches_get(struct master_mount *m, uint32_t id, struct batch_info *ret_info)
{
	struct txn *txn;
	int ret = is_dropped(m, id) ? -ENOENT : work_read(&m->work, &txn);
	return ret < 0 ? ret : batch_get(txn, id, ret_info);
}

int batches_find(struct master_mount *m, const char *text, struct batch_info *ret_info)
{
	struct txn *txn;
	char *end;
	unsigned long id = strtoul(text, &end, 10);
	if (text[0] && strspn(text, "0123456789") == strlen(text))
		return id && id <= UINT32_MAX ? batches_get(m, (uint32_t)id, ret_info) : -ENOENT;
	struct batch_info info;
	int ret = text[0] ? work_read(&m->work, &txn) : -ENOENT;
	if (ret == 0)
		ret = batch_find(txn, text, &info);
	if (ret == 0 && is_dropped(m, info.id))
		ret = -ENOENT;
	if (ret == 0)
		*ret_info = info;
	return ret;
}

void batches_each(struct master_mount *m, void (*each)(void *, const struct batch_info *), void *user)
{
	struct txn *txn;
	struct batch_info info;
	if (work_read(&m->work, &txn) < 0)
		return;
	for (uint32_t after = 0; batch_next(txn, after, &info) == 0; after = info.id)
		if (!is_dropped(m, info.id))
			each(user, &info);
}

struct listing {
	struct master_mount *m;
	batch_each *each;
	void *user;
	int error;
};

static void list_one(void *user, const struct batch_info *info)
{
	struct listing *l = user;
	struct batch_status status = { .info = *info, .committing = jobs_run(l->m, info->id) };
	const struct tree *t = batches_tree(l->m, info->id);
	struct record_key key = { .size = 0 };
	struct txn *txn;
	if (info->operation)
		return;
	int ret = work_read(&l->m->work, &txn);
	status.path = t ? t->mountpoint : NULL;
	while (ret >= 0 && (ret = version_change_next(txn, batch_draft(info->id), &key)) == 1)
		status.changes++;
	if (ret < 0)
		l->error = ret;
	else
		l->each(l->user, &status);
}

int batches_list(struct master_mount *m, batch_each *each, void *user)
{
	struct listing l = { .m = m, .each = each, .user = user };
	batches_each(m, list_one, &l);
	return l.error;
}

/* --- views */

struct opening {
	struct errand errand;
	struct tree tree; /* moves into the list when it is mounted, so it stays where it is */
	struct batch_info info;
	batch_begun *done;
	void *user;
	int error;
};

static void opening_there(struct errand *errand)
{
	struct opening *o = (struct opening *)errand;
	o->error = tree_mount(&o->tree);
	if (o->error == 0)
		fuse_lowlevel_notify_inval_inode(errand->mount->main.session, HIDDEN_BATCHES, 0, 0);
	else
		tree_unmount(&o->tree);
}

static void opening_back(struct errand *errand)
{
	struct opening *o = (struct opening *)errand;
	struct master_mount *m = errand->mount;
	struct batch_info info = o->info;
	batch_begun *done = o->done;
	void *user = o->user;
	int error = o->error;
	if (error < 0) {
		tree_fini(&o->tree);
		free(o);
		if (done) {
			batches_forget(m, info.id, NULL, NULL);
			done(user, error, NULL, NULL);
		}
		return;
	}
	o->tree.next = m->batches;
	m->batches = &o->tree;
	if (done)
		done(user, 0, &info, o->tree.mountpoint);
	if (m->ending)
		batches_close(&o->tree, true, NULL, NULL);
}

static int open_view(struct master_mount *m, const struct batch_info *info, batch_begun *done, void *user)
{
	char path[PATH_MAX];
	struct opening *o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	hidden_path(m, info->id, path, sizeof(path));
	*o = (struct opening){ .errand = { .there = opening_there, .back = opening_back }, .info = *info, .done = done, .user = user };
	int ret = tree_init(&o->tree, m, info, path);
	if (ret < 0) {
		tree_fini(&o->tree);
		free(o);
		return ret;
	}
	serve_send(m, &m->helper, &o->errand);
	return 0;
}

static struct opening *opening_of(struct tree *t)
{
	return (struct opening *)((char *)t - offsetof(struct opening, tree));
}

/* A batch that cannot be mounted again is still there to be committed or aborted. */
static void restore_one(void *user, const struct batch_info *info)
{
	open_view(user, info, NULL, NULL);
}

void batches_restore(struct master_mount *m)
{
	batches_each(m, restore_one, m);
}

void batches_fini(struct master_mount *m)
{
	while (m->dropping) {
		struct dropping *d = m->dropping;
		m->dropping = d->next;
		free(d);
	}
}

static void closing_there(struct errand *errand)
{
	struct tree *t = (struct tree *)((char *)errand - offsetof(struct tree, errand));
	char name[16];
	int size = snprintf(name, sizeof(name), "%" PRIu32, t->batch);
	tree_unmount(t);
	fuse_lowlevel_notify_inval_entry(errand->mount->main.session, HIDDEN_BATCHES, name, (size_t)size);
	fuse_lowlevel_notify_inval_inode(errand->mount->main.session, HIDDEN_BATCHES, 0, 0);
}

static void closing_back(struct errand *errand)
{
	struct tree *t = (struct tree *)((char *)errand - offsetof(struct tree, errand));
	struct master_mount *m = errand->mount;
	void (*closed)(struct master_mount *, uint32_t, void *) = t->closed;
	void *user = t->closed_user;
	uint32_t id = t->batch;
	tree_fini(t);
	free(opening_of(t));
	if (closed)
		closed(m, id, user);
}

/* Nothing is taken from it any more. */
static void close_now(struct tree *t)
{
	struct master_mount *m = t->mount;
	struct tree **at = &m->batches;
	t->close_waits = t->dirty;
	if (t->close_waits) /* its writes must be taken */
		return;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	m->hot = &m->main;
	if (m->parked_count)
		serve_commit(m); /* those who wait may be this one's */
	serve_undefer(t);
	t->errand = (struct errand){ .there = closing_there, .back = closing_back };
	serve_send(m, &m->helper, &t->errand);
}

void batches_close_waiting(struct tree *t)
{
	if (t->close_waits && !t->dirty)
		close_now(t);
}

static void flushing_there(struct errand *errand)
{
	tree_flush((struct tree *)((char *)errand - offsetof(struct tree, errand)));
}

static void flushing_back(struct errand *errand)
{
	struct tree *t = (struct tree *)((char *)errand - offsetof(struct tree, errand));
	serve_drain(t);
	close_now(t);
}

void batches_close(struct tree *t, bool flush, void (*closed)(struct master_mount *, uint32_t, void *), void *user)
{
	if (closed) {
		t->closed = closed;
		t->closed_user = user;
	}
	if (t->closing)
		return;
	t->closing = true;
	if (!flush) {
		close_now(t);
		return;
	}
	t->errand = (struct errand){ .there = flushing_there, .back = flushing_back };
	serve_send(t->mount, &t->mount->helper, &t->errand);
}

void batches_end(struct master_mount *m)
{
	struct tree *next;
	for (struct tree *t = m->batches; t; t = next) {
		next = t->next;
		batches_close(t, true, NULL, NULL);
	}
}

/* --- beginning */

static int begin(struct master_mount *m, const char *name, struct batch_info *ret_info)
{
	struct txn *txn;
	struct node_time now = time_now();
	serve_drain(&m->main); /* who has just closed a file means it to be in */
	int ret = m->ending ? -ESHUTDOWN : publish_commit(&m->publish);
	if (ret == 0)
		ret = work_change(&m->work, 0, true, &txn);
	if (ret == 0)
		ret = batch_begin(txn, name, 0, now.seconds * 1000000000 + now.nanoseconds, ret_info);
	if (ret < 0)
		return ret;
	return publish_commit(&m->publish);
}

void batches_begin(struct master_mount *m, const char *name, batch_begun *done, void *user)
{
	struct batch_info info;
	int ret = begin(m, name, &info);
	if (ret == 0) {
		ret = open_view(m, &info, done, user);
		if (ret < 0)
			batches_forget(m, info.id, NULL, NULL);
	}
	if (ret < 0)
		done(user, ret, NULL, NULL);
}

/* --- taking away */

static void dropping_end(struct master_mount *m, uint32_t id)
{
	struct dropping **at = &m->dropping;
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	struct dropping *d = *at;
	if (d)
		*at = d->next;
	free(d);
}

static int drop_some(struct master_mount *m, uint32_t id, size_t work_max, bool *ret_done)
{
	struct txn *txn;
	int ret = work_change(&m->work, 0, true, &txn);
	if (ret == 0)
		ret = batch_drop(txn, id, work_max, ret_done);
	return ret;
}

static void dropping_begin(struct master_mount *m, struct dropping *d, uint32_t id)
{
	*d = (struct dropping){ .next = m->dropping, .id = id };
	m->dropping = d;
	m->publish.untidy = true;
}

void batches_let_go(struct master_mount *m, uint32_t id)
{
	bool done = false;
	int ret = drop_some(m, id, DROP_WORK, &done);
	m->publish.untidy = true; /* the chunks */
	if (ret == 0 && done)
		return;
	struct dropping *d = malloc(sizeof(*d));
	if (d) /* else the next start drops it */
		dropping_begin(m, d, id);
}

/* Once some of it is gone the store drops the rest in any case (batch.h). */
void batches_forget(struct master_mount *m, uint32_t id, void (*after)(void *user, int error), void *user)
{
	struct dropping *d = malloc(sizeof(*d));
	bool done = false;
	int ret = d ? drop_some(m, id, DROP_WORK, &done) : -ENOMEM;
	if (ret == 0 && !done)
		dropping_begin(m, d, id);
	else
		free(d);
	if (ret == 0) {
		ret = publish_commit(&m->publish);
		m->publish.untidy = true; /* the chunks */
	}
	if (after)
		after(user, ret);
}

int batches_tidy(struct master_mount *m, size_t work_max, bool *ret_more)
{
	bool done = false;
	if (!m->dropping)
		return 0;
	uint32_t id = m->dropping->id;
	int ret = drop_some(m, id, work_max, &done);
	if (ret == 0 && done)
		dropping_end(m, id);
	*ret_more |= ret == 0;
	return ret;
}

struct aborting {
	batch_done *done;
	void *user;
};

static void aborted(void *user, int error)
{
	struct aborting *a = user;
	a->done(a->user, error);
	free(a);
}

static void abort_closed(struct master_mount *m, uint32_t id, void *user)
{
	batches_forget(m, id, aborted, user);
}

void batches_abort(struct master_mount *m, uint32_t id, batch_done *done, void *user)
{
	struct batch_info info;
	struct tree *t = batches_tree(m, id);
	struct aborting *a = malloc(sizeof(*a));
	int ret = a ? batches_get(m, id, &info) : -ENOMEM;
	if (ret == 0 && m->ending)
		ret = -ESHUTDOWN;
	if (ret == 0 && !jobs_cancel_waiting(m, id) && jobs_run(m, id))
		ret = -EBUSY;
	if (ret < 0) {
		free(a);
		done(user, ret);
		return;
	}
	*a = (struct aborting){ done, user };
	if (t)
		batches_close(t, jobs_flush(m, id), abort_closed, a); /* it is served until the helper is through with it */
	else
		abort_closed(m, id, a);
}

/* --- what it has changed */

struct diffing {
	struct errand errand;
	uint32_t id;
	batch_diffed *done;
	void *user;
	int error;
	struct buffer changes;
};

static void diffing_there(struct errand *errand)
{
	struct diffing *d = (struct diffing *)errand;
	struct txn *txn;
	d->error = txn_begin_read(errand->mount->work.store, &txn);
	if (d->error < 0)
		return;
	d->error = paths_of_batch(txn, d->id, &d->changes);
	txn_abort(txn);
}

static void diff_tell(struct diffing *d)
{
	const char *at = (const char *)d->changes.data, *end = at + d->changes.size;
	size_t count = 0;
	for (const char *c = at; c < end; c += 1 + strlen(c + 1) + 1)
		count++;
	struct batch_change *changes = calloc(count + 1, sizeof(*changes));
	for (size_t i = 0; changes && i < count; at += 1 + strlen(at + 1) + 1)
		changes[i++] = (struct batch_change){ at + 1, (enum batch_change_kind)at[0] };
	d->done(d->user, changes ? 0 : -ENOMEM, changes, changes ? count : 0);
	free(changes);
}

static void diffing_back(struct errand *errand)
{
	struct diffing *d = (struct diffing *)errand;
	if (d->error < 0)
		d->done(d->user, d->error, NULL, 0);
	else
		diff_tell(d);
	buffer_fini(&d->changes);
	free(d);
}

void batches_diff(struct master_mount *m, uint32_t id, batch_diffed *done, void *user)
{
	struct batch_info info;
	struct diffing *d = calloc(1, sizeof(*d));
	int ret = d ? batches_get(m, id, &info) : -ENOMEM;
	if (ret == 0)
		ret = m->ending ? -ESHUTDOWN : publish_commit(&m->publish); /* the helper reads what is committed */
	if (ret < 0) {
		free(d);
		done(user, ret, NULL, 0);
		return;
	}
	*d = (struct diffing){ .errand = { .there = diffing_there, .back = diffing_back }, .id = id, .done = done, .user = user };
	serve_send(m, &m->helper, &d->errand);
}
