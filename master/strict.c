/*
 * Two phase for plain programs (R5): an operation in a two-phase directory (policy.h) returns when all slaves have accepted it, or fails and has changed nothing.
 *
 * It is done on trial: what it finishes in the live tree goes into the draft of a batch of its own instead of the pending version, and its answer is held. Then
 * that batch is committed like any other (job.c), and the answer goes out with the decision. Others see the tree as it was until then.
 *
 *   request --strict_name, strict_node, strict_file--> trial --handler, strict_hold--> (nothing to commit: answered)
 *                                                                '--strict_end--> a job of the batch --decided--> answered
 *
 * What becomes complete without a call that could wait or fail (stores through a mapping that outlived the descriptor, a file that is made and opened for
 * reading) awaits a trial that nobody asked for (strict_leave, strict_ask_awaiting).
 *
 * One at a time: who comes while a commit is under way is deferred, as are the requests of others that would change the same (live.h).
 *
 * After an abort the store has nothing to undo, since nobody reads the batch's draft. What memory and the kernel hold has: nodes that the operation left without a
 * name are taken up again, and a file whose content was refused goes on under a new id (known.h), so that who opens it anew finds what it was.
 */
#include "master/strict.h"

#include <errno.h>
#include <string.h>

#include "drsfs/error.h"
#include "master/interrupt.h"
#include "master/serve.h"

/* --- the beginning */

static int trial_begin(struct master_mount *m, bool frees)
{
	struct live *live = &m->main.live;
	struct batch_info info;
	struct txn *txn;
	int ret = publish_settle(&m->publish);
	if (m->parked_count)
		serve_commit(m);
	if (ret == 0)
		ret = work_change(&m->work, 0, frees, &txn);
	struct node_time now = time_now();
	if (ret == 0)
		ret = batch_begin(txn, "", BATCH_TRANSIENT | BATCH_OPERATION | (frees ? BATCH_FREES : 0), now.seconds * 1000000000 + now.nanoseconds, &info);
	if (ret < 0)
		return ret;
	m->strict.trial = true;
	m->strict.batch = info.id;
	live->finished_draft = batch_draft(info.id);
	live->base = info.base;
	live->trial = true;
	return 0;
}

/* (Batches that wait for their turn go first.) */
static bool busy(const struct master_mount *m)
{
	return m->job || m->jobs || m->strict.batch;
}

static int begin(struct tree *t, enum publish_method method, bool frees)
{
	struct master_mount *m = t->mount;
	if (method != PUBLISH_TWO_PHASE || m->strict.trial)
		return 0;
	if (m->ending)
		return -ECANCELED; /* nobody can be asked any more */
	return busy(m) ? DEFERRED : trial_begin(m, frees);
}

bool strict_is_new(struct tree *t, ino_id ino)
{
	const struct draft *d = ino ? draft_find(&t->live, ino) : NULL;
	return draft_is_drafted(d) && !d->recorded;
}

static int names_method(struct tree *t, ino_id directory, enum publish_method *ret_method)
{
	struct txn *txn;
	int ret = live_read(&t->live, &txn);
	return ret < 0 ? ret : policy_of_directory(t->mount->policy, &t->live, txn, directory, ret_method);
}

int strict_name(struct tree *t, ino_id directory, bool frees)
{
	enum publish_method method;
	if (t->batch)
		return 0;
	int ret = names_method(t, directory, &method);
	return ret < 0 ? ret : begin(t, method, frees);
}

bool strict_concerns_names(struct tree *t, ino_id directory)
{
	enum publish_method method;
	return !t->batch && names_method(t, directory, &method) == 0 && method == PUBLISH_TWO_PHASE;
}

static int file_method(struct tree *t, ino_id ino, enum publish_method *ret_method)
{
	struct txn *txn;
	const struct draft *d = draft_find(&t->live, ino);
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = policy_of_file(t->mount->policy, &t->live, txn, known_find(&t->known, ino), ret_method);
	/* With it go the names that it has taken from others, and has left since. */
	for (const struct draft_name *name = d ? d->names : NULL; name && ret == 0 && *ret_method == PUBLISH_ONE_PHASE; name = name->next)
		ret = policy_of_directory(t->mount->policy, &t->live, txn, name->parent, ret_method);
	return ret;
}

bool strict_concerns(struct tree *t, ino_id ino)
{
	enum publish_method method;
	return !t->batch && file_method(t, ino, &method) == 0 && method == PUBLISH_TWO_PHASE;
}

/* Its content is going to be published: until the decision the mount goes on showing it, with the names that wait for it. */
static int file_on_trial(struct tree *t, ino_id ino)
{
	struct strict *s = &t->mount->strict;
	const struct draft *d = draft_find(&t->live, ino);
	struct txn *txn;
	s->content = true;
	if (!draft_is_drafted(d))
		return 0;
	s->published = ino;
	int ret = live_read(&t->live, &txn);
	return ret < 0 ? ret : names_note(&t->live, txn, d, &s->names);
}

int strict_file(struct tree *t, ino_id ino, bool frees)
{
	enum publish_method method;
	if (t->batch)
		return 0;
	int ret = file_method(t, ino, &method);
	if (ret == 0)
		ret = begin(t, method, frees);
	return ret < 0 || !t->mount->strict.trial ? ret : file_on_trial(t, ino);
}

int strict_node(struct tree *t, ino_id ino, bool content, bool frees)
{
	struct txn *txn;
	struct node node;
	enum publish_method method;
	const struct draft *d = draft_find(&t->live, ino);
	if (t->batch || draft_is_drafted(d) || (content && d && d->writers))
		return 0; /* of what is being written it becomes part, and is judged with it */
	int ret = live_read(&t->live, &txn);
	if (ret == 0)
		ret = node_live(&t->live, txn, ino, &node);
	if (ret < 0)
		return ret;
	if (S_ISDIR(node.mode))
		return strict_name(t, ino, frees);
	ret = file_method(t, ino, &method);
	return ret < 0 ? ret : begin(t, method, frees);
}

/* --- the answer */

static bool hold(fuse_req_t req, enum strict_answer answer)
{
	struct strict *s = &tree_of(req)->mount->strict;
	if (!s->trial)
		return false;
	s->request = req;
	s->answer = answer;
	return true;
}

bool strict_hold(fuse_req_t req)
{
	return hold(req, STRICT_DONE);
}

/* Whose answer is held already keeps what it is to say. */
bool strict_hold_attributes(fuse_req_t req, uint64_t id)
{
	if (!hold(req, STRICT_ATTRIBUTES))
		return false;
	tree_of(req)->mount->strict.id = id;
	return true;
}

static void keep_name(struct strict_name_kept *kept, const struct name *name)
{
	memcpy(kept->text, name->text.data, name->text.size);
	kept->name = (struct name){ name->parent, { kept->text, name->text.size } };
}

bool strict_hold_entry(fuse_req_t req, const struct name *name, ino_id ino)
{
	struct strict *s = &tree_of(req)->mount->strict;
	if (!hold(req, STRICT_ENTRY))
		return false;
	keep_name(&s->to, name);
	s->id = ino;
	return true;
}

bool strict_hold_renamed(struct tree *t, const struct name *from, const struct name *to, ino_id moved, ino_id back)
{
	struct strict *s = &t->mount->strict;
	if (!s->trial)
		return false;
	keep_name(&s->from, from);
	keep_name(&s->to, to);
	s->moved = moved;
	s->back = back;
	return true;
}

bool strict_hold_times(struct tree *t, ino_id directory)
{
	struct strict *s = &t->mount->strict;
	if (!s->trial || t->batch)
		return false;
	buffer_add_be64(&s->times, directory);
	return true;
}

/* What programs hear of an abort: that it was not done, by whoever decided so. */
static int error_heard(const struct strict *s, int error)
{
	if (s->interrupted)
		return -EINTR;
	switch (error) {
	case -ETIMEDOUT:
	case -ENOSPC:
		return error;
	default:
		return -ECANCELED;
	}
}

static void answer(struct master_mount *m, int error)
{
	struct strict *s = &m->strict;
	fuse_req_t req = s->request;
	s->request = NULL;
	if (!req)
		return;
	if (error < 0)
		serve_reply(req, error_heard(s, error));
	else if (s->answer == STRICT_ENTRY)
		serve_reply_entry(req, &s->to.name, s->id);
	else if (s->answer == STRICT_ATTRIBUTES)
		serve_reply_attributes(req, s->id);
	else
		serve_reply(req, 0);
}

/* --- the end */

/* The nodes that it has changed, while the batch is there to tell: 1, or 0 if it has changed nothing. */
static int note_nodes(struct master_mount *m)
{
	struct record_key key = { .size = 0 };
	struct txn *txn;
	bool any = false;
	int more, ret = work_read(&m->work, &txn);
	if (ret < 0)
		return ret;
	buffer_clear(&m->strict.nodes);
	while ((more = version_change_next(txn, batch_draft(m->strict.batch), &key)) == 1) {
		any = true;
		if (record_key_kind(&key) == RECORD_NODE)
			buffer_add_be64(&m->strict.nodes, record_key_ino(&key));
	}
	return more < 0 ? more : m->strict.nodes.failed ? -ENOMEM : any;
}

/* Files that have names again: their last writers may have gone while they had none. */
static void undo_leaving(struct tree *t)
{
	for (struct draft *d = t->live.drafted; d; d = d->drafted_next)
		if (!d->writers && !d->awaits_trial)
			strict_leave(t, d);
}

/* In memory such a node is what the operation made of it. */
static int undo_node(struct live *live, ino_id ino, version_t content_version)
{
	struct draft *d = draft_find(live, ino);
	if (draft_is_drafted(d))
		return draft_revive(live, d);
	if (d && d->edit && d->node.content_version == content_version) {
		d->refused = true;
		draft_edit_drop(live, d);
	}
	return 0;
}

/* If there is no room to write even what takes things away, only a new start gets out of it. */
static int undo_memory(struct master_mount *m)
{
	struct strict *s = &m->strict;
	struct live *live = &m->main.live;
	struct reader nodes = reader_of(buffer_slice(&s->nodes));
	struct txn *txn;
	int ret = work_change(&m->work, 0, true, &txn);
	version_t trial = ret == 0 ? batch_content_version(txn, batch_draft(s->batch)) : VERSION_NONE;
	while (ret == 0 && reader_left(&nodes))
		ret = undo_node(live, read_be64(&nodes), trial);
	if (ret == 0)
		ret = names_restore(live);
	if (ret == 0)
		undo_leaving(&m->main);
	return work_broken_by(&m->work, ret);
}

/* What the kernel has done with contents by itself. (An error is a stale cache.) */
static void undo_caches(struct master_mount *m)
{
	struct buffer notices = BUFFER_INIT;
	struct txn *txn;
	if (work_read(&m->work, &txn) < 0)
		return;
	undone_from(&m->main, txn, batch_draft(m->strict.batch), &notices);
	notices_send(&m->main, &notices, NULL, 0);
}

static void undo(struct master_mount *m)
{
	if (undo_memory(m) == 0 && m->strict.content)
		undo_caches(m);
	batches_let_go(m, m->strict.batch);
}

static void trial_over(struct master_mount *m)
{
	struct live *live = &m->main.live;
	m->strict.trial = live->trial = live->finished = false;
	live->finished_draft = live->base = VERSION_NONE;
}

/* As before until the decision. If there is no room for that it is so again afterwards. */
static void show(struct master_mount *m)
{
	struct strict *s = &m->strict;
	struct live *live = &m->main.live;
	struct txn *txn;
	if (!s->published || work_change(&m->work, 0, true, &txn) < 0)
		return;
	live->finished_draft = batch_draft(s->batch);
	live->base = txn_state(txn)->current;
	int ret = draft_show(live, s->published);
	live->finished_draft = live->base = VERSION_NONE;
	if (ret == 0)
		ret = names_show(live, buffer_slice(&s->names));
	s->shown = true;
	work_broken_by(&m->work, ret);
}

static void unshow(struct master_mount *m)
{
	struct strict *s = &m->strict;
	struct live *live = &m->main.live;
	struct txn *txn;
	if (!s->shown)
		return;
	int ret = work_change(&m->work, 0, true, &txn);
	if (ret == 0)
		ret = names_unshow(live, buffer_slice(&s->names));
	if (ret == 0)
		ret = draft_unshow(live, s->published);
	work_broken_by(&m->work, ret);
}

void strict_fini(struct strict *s)
{
	buffer_fini(&s->names);
	buffer_fini(&s->nodes);
	buffer_fini(&s->times);
}

static void strict_clear(struct master_mount *m)
{
	struct strict *s = &m->strict;
	buffer_fini(&m->main.live.withdrawn);
	strict_fini(s);
	*s = (struct strict){ .awaiting = s->awaiting, .stuck = s->stuck };
}

static void done(struct master_mount *m)
{
	struct strict *s = &m->strict;
	struct reader times = reader_of(buffer_slice(&s->times));
	if (s->moved)
		serve_renamed(&m->main, &s->from.name, &s->to.name, s->moved, s->back);
	while (reader_left(&times))
		serve_attributes_moved(&m->main, read_be64(&times));
}

void strict_decided(struct master_mount *m, bool committed)
{
	m->strict.decided = true;
	unshow(m);
	if (committed)
		done(m);
	else
		undo(m);
	policy_changed(m->policy);
}

/*
 * Who waits for a content that is refused hears of it when the kernel has forgotten it. The helper may have to wait for others' locks until then, so they are not
 * kept waiting for the answer.
 */
static void answer_behind_notices(struct master_mount *m, int error)
{
	struct buffer none = BUFFER_INIT;
	notices_send(&m->main, &none, m->strict.request, error_heard(&m->strict, error));
	m->strict.request = NULL;
}

/* Those who ask and those who nobody asks for have their turns in turn. */
static void next_turn(struct master_mount *m, bool asked)
{
	if (asked)
		strict_ask_awaiting(m);
	serve_deferred(m);
	strict_ask_awaiting(m);
}

static void committed(void *user, const struct batch_outcome *outcome)
{
	struct master_mount *m = user;
	struct strict *s = &m->strict;
	bool asked = !s->unasked;
	if (!s->decided) /* it did not come to that */
		strict_decided(m, false);
	if (outcome->error < 0 && s->content)
		answer_behind_notices(m, outcome->error);
	else
		answer(m, outcome->error);
	strict_clear(m);
	next_turn(m, asked);
}

/* Within libfuse's handling of the request: it is answered later in any case. */
static void interrupted(fuse_req_t req, void *user)
{
	struct master_mount *m = user;
	const struct master_mount_listener *listener = &m->publish.listener;
	version_t proposed;
	if (m->strict.request != req || !interrupt_is_fatal(fuse_req_ctx(req)->pid) || batches_cancel(m, m->strict.batch, &proposed) < 0)
		return;
	m->strict.interrupted = true;
	if (listener->cancel)
		listener->cancel(listener->user, proposed);
}

/* It is proposed. */
static void wait(struct master_mount *m)
{
	show(m);
	if (m->strict.request)
		fuse_req_interrupt_func(m->strict.request, interrupted, m);
}

void strict_end(struct master_mount *m)
{
	struct strict *s = &m->strict;
	if (!s->trial)
		return;
	trial_over(m);
	int ret = s->request || s->unasked ? note_nodes(m) : 0;
	if (ret == 1 && s->doomed) {
		undo(m);
		strict_clear(m);
		return;
	}
	if (ret == 1) {
		uint32_t batch = s->batch;
		batches_commit(m, batch, &m->publish.options.strict, committed, m);
		if (s->batch == batch)
			wait(m);
		return;
	}
	if (ret < 0)
		work_broken_by(&m->work, ret); /* what it has changed in memory cannot be told from what it has not */
	batches_let_go(m, s->batch);
	answer(m, ret);
	strict_clear(m);
}

/* --- files that nobody asks for */

bool strict_leave(struct tree *t, struct draft *d)
{
	bool complete = (d->changed || !d->recorded) && (d->node.nlink || d->nlink_published);
	d->awaits_trial = complete && strict_concerns(t, d->ino);
	t->mount->strict.awaiting |= d->awaits_trial;
	return d->awaits_trial;
}

void strict_first_name(struct tree *t, ino_id ino, ino_id directory)
{
	struct draft *d = draft_find(&t->live, ino);
	if (!d || !d->linkable || d->writers || !strict_concerns_names(t, directory))
		return;
	d->awaits_trial = true;
	t->mount->strict.awaiting = true;
}

static struct draft *awaiting(struct live *live)
{
	struct draft *d = live->drafted;
	while (d && (!d->awaits_trial || d->writers))
		d = d->drafted_next;
	return d;
}

/* It needs none, if it has left that directory meanwhile; where a file is that the kernel has forgotten nobody can say. */
static int settle_begin(struct master_mount *m, ino_id ino, bool frees)
{
	if (known_find(&m->main.known, ino))
		return strict_file(&m->main, ino, frees);
	int ret = begin(&m->main, PUBLISH_TWO_PHASE, frees);
	return ret < 0 ? ret : file_on_trial(&m->main, ino);
}

static int settle(struct master_mount *m, struct draft *d)
{
	struct live *live = &m->main.live;
	struct txn *txn;
	ino_id ino = d->ino;
	int ret = settle_begin(m, ino, d->incomplete);
	if (ret == 0)
		ret = live_change(live, 0, true, &txn);
	if (ret == 0) {
		m->strict.unasked = m->strict.trial;
		m->strict.doomed = m->strict.trial && d->incomplete;
		if (m->strict.doomed) {
			draft_edit_drop(live, d);
			d->incomplete = 0;
		}
		d->awaits_trial = false;
		ret = draft_settle(live, d);
		d = draft_find(live, ino);
		if (d)
			draft_release(live, d);
	}
	strict_end(m);
	return ret;
}

void strict_ask_awaiting(struct master_mount *m)
{
	struct strict *s = &m->strict;
	while (s->awaiting && !s->stuck && !busy(m)) {
		struct draft *d = awaiting(&m->main.live);
		s->awaiting = d;
		s->stuck = d && settle(m, d) < 0;
	}
}

void strict_retry(struct master_mount *m)
{
	if (!m->strict.stuck)
		return;
	m->strict.stuck = false;
	strict_ask_awaiting(m);
	serve_deferred(m);
}
