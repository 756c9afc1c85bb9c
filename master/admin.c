/*
 * A request is an 'ask': parsed on the node's thread, done on the mount's, answered on the node's. Whoever has it is the only one who touches it.
 *
 *   node's thread                        mount's thread
 *     admin_request -- master_mount_call -->  run_…  --> batches_…
 *     reply         <-- node_post --------    its callback: the answer is made
 *
 * One commit at a time is distributed: 'job' says whose votes they are.
 */
#include "master/admin.h"

#include <errno.h>
#include <event2/event.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drsfs/error.h"
#include "drsfs/fsversion.h"
#include "drsfs/log.h"
#include "drsfs/run.h"
#include "drsfs/wire.h"
#include "master/mount.h"

#define TIMEOUT_MS_DEFAULT 10000
#define PROGRESS_MS 50       /* between two lines about a commit: a thousand slaves answer one by one */
#define WHY_BYTES 1024
#define ID_BYTES_MAX (BATCH_NAME_BYTES_MAX + 1)

typedef struct event loop_event; /* libevent's: the seam's struct has the same tag */

struct ask {
	struct admin *admin;
	struct ask *next, **at;
	struct control_request *request;
	void (*run)(struct ask *); /* on the mount's thread */
	char id[ID_BYTES_MAX];     /* a number or a name; of 'batch-begin' the new name */
	struct commit_options options;
	time_ns asked_at;
	atomic_uint batch;         /* once it is known; set on the mount's thread */
	bool commits;              /* a commit, which shows votes */
	json_t *votes;             /* at the end of it; the node's thread's */
	json_t *answer;
};

struct admin {
	struct node *node;
	struct drs_master *drs;
	struct members *members;
	struct master_mount *mount;
	struct ask *asks;
	loop_event *progress;      /* pending: votes were shown a moment ago */
	bool unseen;               /* votes have changed since */
	struct {
		uint32_t batch;    /* 0: none was distributed yet */
		version_t version;
		bool cancelled;
	} job;
};

/* --- asks */

static struct ask *ask_new(struct admin *a, struct control_request *request, void (*run)(struct ask *))
{
	struct ask *ask = calloc(1, sizeof(*ask));
	if (!ask)
		return NULL;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	ask->admin = a;
	ask->request = request;
	ask->run = run;
	ask->asked_at = (time_ns)now.tv_sec * 1000000000 + now.tv_nsec;
	ask->next = a->asks;
	ask->at = &a->asks;
	if (ask->next)
		ask->next->at = &ask->next;
	a->asks = ask;
	return ask;
}

static void ask_free(struct ask *ask)
{
	*ask->at = ask->next;
	if (ask->next)
		ask->next->at = ask->at;
	json_decref(ask->answer);
	json_decref(ask->votes);
	free(ask);
}

static json_t *refusal(const char *words)
{
	return json_pack("{s:b,s:s}", "ok", 0, "error", words);
}

/* On the node's thread, last. */
static void reply(void *user)
{
	struct ask *ask = user;
	json_t *answer = ask->answer;
	ask->answer = NULL;
	control_answer(ask->request, answer);
	ask_free(ask);
}

static int64_t microseconds_since(time_ns then)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec - then) / 1000;
}

/* A commit's answer tells the votes too, if it came to votes. */
static void reply_commit(void *user)
{
	struct ask *ask = user;
	int64_t us = microseconds_since(ask->asked_at);
	control_when_gone(ask->request, NULL, NULL);
	if (ask->answer && ask->votes)
		json_object_set(ask->answer, "votes", ask->votes);
	if (ask->answer && json_is_true(json_object_get(ask->answer, "ok"))) {
		json_object_set_new(ask->answer, "ms", json_integer((us + 500) / 1000));
		json_object_set_new(ask->answer, "us", json_integer(us));
	}
	reply(ask);
}

/* Memory is short: the asker is not answered before the end, which is all that can be done. */
static void to_node(struct ask *ask, void (*run)(void *user))
{
	if (node_post(ask->admin->node, run, ask) < 0)
		log_error("no memory to answer a request");
}

static void finish(struct ask *ask, json_t *answer)
{
	ask->answer = answer;
	to_node(ask, ask->commits ? reply_commit : reply);
}

static void finish_plainly(void *user, int error)
{
	struct ask *ask = user;
	finish(ask, error < 0 ? refusal(error_text(error)) : json_pack("{s:b}", "ok", 1));
}

static void on_mount(struct master_mount *m, void *user)
{
	struct ask *ask = user;
	(void)m;
	ask->run(ask);
}

static void to_mount(struct ask *ask)
{
	int error = master_mount_call(ask->admin->mount, on_mount, ask);
	if (error == 0)
		return;
	ask->answer = refusal(error_text(error));
	reply(ask);
}

/* The batch that is meant; false: there is none, which is answered. */
static bool find(struct ask *ask, struct batch_info *ret_info)
{
	char words[ID_BYTES_MAX + 64];
	int error = batches_find(ask->admin->mount, ask->id, ret_info);
	if (error == 0) {
		ask->batch = ret_info->id;
		return true;
	}
	if (error == -ENOENT)
		snprintf(words, sizeof(words), "there is no batch '%s'", ask->id);
	else
		snprintf(words, sizeof(words), "%s", error_text(error));
	finish(ask, refusal(words));
	return false;
}

/* --- begin */

static void on_begun(void *user, int error, const struct batch_info *info, const char *path)
{
	struct ask *ask = user;
	char words[160];
	if (error == -EEXIST)
		snprintf(words, sizeof(words), "there is a batch '%s' already", ask->id);
	else if (error == -EUSERS)
		snprintf(words, sizeof(words), "there are %d batches already: commit or abort some", BATCHES_MAX);
	else if (error < 0)
		snprintf(words, sizeof(words), "the view cannot be mounted: %s", error_text(error));
	finish(ask, error < 0 ? refusal(words) : json_pack("{s:b,s:I,s:s,s:o,s:I}", "ok", 1, "id", (json_int_t)info->id, "name", info->name, "path",
							      run_json_text(path), "base", (json_int_t)info->base));
}

static void run_begin(struct ask *ask)
{
	batches_begin(ask->admin->mount, ask->id, on_begun, ask);
}

/* --- commit */

static const struct {
	int error;
	const char *reason, *words;
} failures[] = {
	{ -DRS_ECONFLICT, "conflict", "the live tree has changed in the same places" },
	{ -DRS_EREFUSED, "refused", "it was refused" },
	{ -ETIMEDOUT, "timeout", "time was up before the slaves had agreed" },
	{ -ECANCELED, "cancelled", "it was cancelled" },
	{ -ETXTBSY, "open", "files in its view are still open for writing" },
	{ -ENOSPC, "full", "the master's disk is full" },
	{ -EBUSY, "other", "it is being committed already" },
	{ -ENOENT, "other", "there is no such batch any more" },
	{ -EINVAL, "other", "more slaves are required than there are" },
	{ -ESHUTDOWN, "other", "the daemon is about to stop" },
};

static json_t *failure(int error)
{
	const char *reason = "other", *words = error_text(error);
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		if (failures[i].error == error)
			reason = failures[i].reason, words = failures[i].words;
	return json_pack("{s:b,s:s,s:s}", "ok", 0, "error", words, "reason", reason);
}

static json_t *paths_of(const struct batch_outcome *outcome)
{
	json_t *paths = json_array();
	for (size_t i = 0; i < outcome->paths_count; i++)
		json_array_append_new(paths, run_json_text(outcome->paths[i]));
	return paths;
}

static void on_committed(void *user, const struct batch_outcome *outcome)
{
	struct ask *ask = user;
	json_t *answer;
	if (outcome->error < 0) {
		answer = failure(outcome->error);
		if (outcome->paths_count)
			json_object_set_new(answer, "conflicts", paths_of(outcome));
		if (outcome->conflicts > outcome->paths_count)
			json_object_set_new(answer, "more", json_integer((json_int_t)(outcome->conflicts - outcome->paths_count)));
	} else {
		answer = json_pack("{s:b,s:I}", "ok", 1, "version", (json_int_t)outcome->version);
		if (outcome->unchanged)
			json_object_set_new(answer, "unchanged", json_true());
	}
	finish(ask, answer);
}

static void run_commit(struct ask *ask)
{
	struct batch_info info;
	if (find(ask, &info))
		batches_commit(ask->admin->mount, info.id, &ask->options, on_committed, ask);
}

/* --- abort, cancel */

static void run_abort(struct ask *ask)
{
	struct batch_info info;
	if (find(ask, &info))
		batches_abort(ask->admin->mount, info.id, finish_plainly, ask);
}

/* That the job is cancelled is noted first: its decision may come before the call returns. */
static int cancel(struct admin *a, version_t number)
{
	struct drs_version version = fs_version_of(number);
	bool before = a->job.cancelled;
	a->job.cancelled |= a->job.version == number;
	int error = drs_cancel_two_phase(a->drs, &version);
	if (error < 0)
		a->job.cancelled = before;
	return error;
}

/* On the node's thread: the version that is to be cancelled stands in the answer's place. */
static void cancel_job(void *user)
{
	struct ask *ask = user;
	version_t version = (version_t)json_integer_value(ask->answer);
	json_decref(ask->answer);
	int error = cancel(ask->admin, version);
	ask->answer = error < 0 ? refusal("it is decided already") : json_pack("{s:b}", "ok", 1);
	reply(ask);
}

static void run_cancel(struct ask *ask)
{
	struct batch_info info;
	version_t proposed;
	if (!find(ask, &info))
		return;
	int error = batches_cancel(ask->admin->mount, info.id, &proposed);
	if (error == -ENOENT) {
		finish(ask, refusal("it is not being committed"));
	} else if (error == -EBUSY) {
		finish(ask, refusal("it is decided already"));
	} else if (error < 0 || !proposed) {
		finish_plainly(ask, error);
	} else {
		ask->answer = json_integer((json_int_t)proposed);
		to_node(ask, cancel_job);
	}
}

/* --- list, diff */

static void time_text(int64_t time_ns_, char text[32])
{
	time_t seconds = (time_t)(time_ns_ / 1000000000);
	struct tm parts;
	gmtime_r(&seconds, &parts);
	strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

static void list_one(void *user, const struct batch_status *status)
{
	const struct batch_info *info = &status->info;
	char begun[32];
	time_text(info->begun_ns, begun);
	json_array_append_new(user, json_pack("{s:I,s:s,s:s,s:I,s:s,s:I,s:o}", "id", (json_int_t)info->id, "name", info->name, "state",
					      info->state == BATCH_PROPOSED ? "proposed" : status->committing ? "queued" : "open", "base",
					      (json_int_t)info->base, "begun", begun, "changes", (json_int_t)status->changes, "path",
					      status->path ? run_json_text(status->path) : json_null()));
}

static void run_list(struct ask *ask)
{
	json_t *batches = json_array();
	int error = batches_list(ask->admin->mount, list_one, batches);
	json_t *answer = error < 0 ? refusal(error_text(error)) : json_pack("{s:b,s:O}", "ok", 1, "batches", batches);
	json_decref(batches);
	finish(ask, answer);
}

static void on_diffed(void *user, int error, const struct batch_change *changes, size_t count)
{
	static const char *const kinds[] = { [BATCH_ADDED] = "added", [BATCH_REMOVED] = "removed", [BATCH_MODIFIED] = "modified" };
	struct ask *ask = user;
	if (error < 0) {
		finish_plainly(ask, error);
		return;
	}
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:o,s:s}", "path", run_json_text(changes[i].path), "change", kinds[changes[i].kind]));
	finish(ask, json_pack("{s:b,s:o}", "ok", 1, "changes", list));
}

static void run_diff(struct ask *ask)
{
	struct batch_info info;
	if (find(ask, &info))
		batches_diff(ask->admin->mount, info.id, on_diffed, ask);
}

/* --- forget: on the node's thread altogether */

static void forget(struct admin *a, struct control_request *request, const char *name)
{
	int error = drs_remove_member(a->drs, name);
	int known = error == -EBUSY ? 0 : members_remove(a->members, name);
	if (error == -EBUSY)
		control_refuse(request, "%s has a link, or takes part in a commit: stop it first", name);
	else if (error == -ENOENT && known == -ENOENT)
		control_refuse(request, "no slave called '%s' is known", name);
	else if (known < 0 && known != -ENOENT)
		control_refuse(request, "cannot forget %s: %s", name, error_text(known));
	else
		control_answer(request, json_pack("{s:b}", "ok", 1));
}

/* --- parsing */

static bool parse_id(struct ask *ask, const json_t *id)
{
	if (json_is_integer(id) && json_integer_value(id) > 0)
		return snprintf(ask->id, sizeof(ask->id), "%lld", (long long)json_integer_value(id)) < (int)sizeof(ask->id);
	if (!json_is_string(id) || json_string_length(id) == 0 || json_string_length(id) >= sizeof(ask->id))
		return false;
	strcpy(ask->id, json_string_value(id));
	return true;
}

/* A name that could be taken for a number would be. */
static bool parse_name(struct ask *ask, const json_t *name)
{
	if (!name)
		return true;
	return parse_id(ask, name) && json_is_string(name) && ask->id[strspn(ask->id, "0123456789")] != 0;
}

static bool parse_require(struct commit_options *options, const json_t *require)
{
	const char *word = json_string_value(require);
	options->require = DRS_REQUIRE_ALL;
	if (!require || (word && strcmp(word, "all") == 0))
		return true;
	if (word && strcmp(word, "connected") == 0) {
		options->require = DRS_REQUIRE_CONNECTED;
		return true;
	}
	options->require = DRS_REQUIRE_COUNT;
	options->count = (uint32_t)json_integer_value(require);
	return json_is_integer(require) && json_integer_value(require) > 0 && json_integer_value(require) <= INT32_MAX;
}

static bool parse_options(struct commit_options *options, const json_t *body)
{
	const json_t *timeout = json_object_get(body, "timeout_ms"), *message = json_object_get(body, "message");
	options->timeout_ms = TIMEOUT_MS_DEFAULT;
	if (timeout) {
		if (!json_is_integer(timeout) || json_integer_value(timeout) <= 0 || json_integer_value(timeout) > INT32_MAX)
			return false;
		options->timeout_ms = (uint32_t)json_integer_value(timeout);
	}
	if (message) {
		if (!json_is_string(message) || json_string_length(message) > VERSION_MESSAGE_BYTES_MAX)
			return false;
		strcpy(options->message, json_string_value(message));
	}
	return parse_require(options, json_object_get(body, "require"));
}

/* Who asked for a commit and goes away without a word does not want it. */
static void on_gone(void *user, struct control_request *request)
{
	struct ask *ask = user;
	struct admin *a = ask->admin;
	(void)request;
	if (a->job.version && a->job.batch == ask->batch)
		cancel(a, a->job.version);
}

static const struct {
	const char *name;
	void (*run)(struct ask *);
	bool takes_id;
} commands[] = {
	{ "batch-begin", run_begin, false },
	{ "batch-commit", run_commit, true },
	{ "batch-abort", run_abort, true },
	{ "batch-cancel", run_cancel, true },
	{ "batch-list", run_list, false },
	{ "batch-diff", run_diff, true },
};

static void begin_ask(struct admin *a, struct control_request *request, size_t which, const json_t *body)
{
	struct ask *ask = ask_new(a, request, commands[which].run);
	if (!ask) {
		control_answer(request, NULL);
		return;
	}
	const char *wrong = NULL;
	if (commands[which].takes_id && !parse_id(ask, json_object_get(body, "id")))
		wrong = "which batch? \"id\" must be a number or a name";
	if (ask->run == run_begin && !parse_name(ask, json_object_get(body, "name")))
		wrong = "a batch's name has 1 to 63 bytes, and is no number";
	if (ask->run == run_commit) {
		ask->commits = true;
		if (!wrong && !parse_options(&ask->options, body))
			wrong = "\"timeout_ms\", \"require\" or \"message\" is not valid";
	}
	if (wrong) {
		ask->answer = refusal(wrong);
		reply(ask);
		return;
	}
	if (ask->commits)
		control_when_gone(request, on_gone, ask);
	to_mount(ask);
}

bool admin_request(void *user, struct control_request *request, const char *command, const json_t *body)
{
	struct admin *a = user;
	const char *name = json_string_value(json_object_get(body, "name"));
	if (strcmp(command, "forget") == 0) {
		if (name)
			forget(a, request, name);
		else
			control_refuse(request, "which slave? \"name\" is missing");
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(command, commands[i].name) != 0)
			continue;
		begin_ask(a, request, i, body);
		return true;
	}
	return false;
}

/* --- the way of a commit through the DRS layer */

struct proposal {
	struct admin *admin;
	uint32_t batch;
	version_t version;
};

static struct ask *asker(struct admin *a)
{
	struct ask *ask = a->asks;
	while (ask && (!ask->commits || ask->batch != a->job.batch))
		ask = ask->next;
	return ask;
}

/* On the node's thread, before the job begins: whose votes are to come. */
static void job_begins(void *user)
{
	struct proposal *p = user;
	struct admin *a = p->admin;
	a->job.batch = p->batch;
	a->job.version = p->version;
	a->job.cancelled = false;
	free(p);
}

void admin_propose(struct admin *a, const struct batch_info *info, const struct commit_options *options, struct slice inline_delta)
{
	struct drs_job job = {
		.version = fs_version_of(info->proposed),
		.previous = fs_version_of(info->base),
		.timeout_ms = options->timeout_ms,
		.require = options->require,
		.count = options->count,
	};
	struct proposal *p = malloc(sizeof(*p));
	int error = p ? 0 : -ENOMEM;
	if (error == 0) {
		*p = (struct proposal){ a, info->id, info->proposed };
		error = node_post(a->node, job_begins, p);
		if (error < 0)
			free(p);
	}
	if (error == 0)
		error = drs_start_two_phase(a->drs, &job, inline_delta);
	if (error < 0)
		master_mount_job_done(a->mount, info->proposed, error);
}

struct decision {
	struct admin *admin;
	version_t version;
	int error;
};

static void job_decided(void *user)
{
	struct decision *d = user;
	struct drs_version version = fs_version_of(d->version);
	drs_decided(d->admin->drs, &version, d->error);
	free(d);
}

static void job_cancelled(void *user)
{
	struct proposal *p = user;
	cancel(p->admin, p->version); /* an error: it is decided */
	free(p);
}

void admin_cancel(struct admin *a, version_t version)
{
	struct proposal *p = malloc(sizeof(*p));
	if (p)
		*p = (struct proposal){ .admin = a, .version = version };
	if (!p || node_post(a->node, job_cancelled, p) < 0)
		free(p); /* it ends when its time is up */
}

void admin_decided(struct admin *a, version_t version, int error)
{
	struct decision *d = malloc(sizeof(*d));
	if (d)
		*d = (struct decision){ a, version, error };
	if (!d || node_post(a->node, job_decided, d) < 0) {
		log_error("no memory to announce the decision about version %llu: slaves learn of it by the next version", (unsigned long long)version);
		free(d);
	}
}

/* Who stood against it, for the history. */
static void tell_who(struct admin *a, const char *words, bool refused, char why[WHY_BYTES])
{
	const struct drs_vote *votes;
	size_t count = drs_votes(a->drs, &votes), size = (size_t)snprintf(why, WHY_BYTES, "%s", words);
	const char *between = " ";
	for (size_t i = 0; i < count && size < WHY_BYTES; i++) {
		const struct drs_vote *vote = &votes[i];
		if (refused ? vote->answer != DRS_REFUSED : vote->answer > DRS_SYNCING)
			continue;
		size += (size_t)snprintf(why + size, WHY_BYTES - size, "%s%s%s%s", between, vote->name, refused ? ": " : "",
					 !refused ? "" : *vote->reason ? vote->reason : error_text(vote->error));
		between = "; ";
	}
}

static void say_why(struct admin *a, char why[VERSION_MESSAGE_BYTES_MAX + 1])
{
	char words[WHY_BYTES];
	const struct drs_vote *votes;
	size_t count = drs_votes(a->drs, &votes);
	bool refused = false;
	for (size_t i = 0; i < count; i++)
		refused |= votes[i].answer == DRS_REFUSED;
	if (a->job.cancelled)
		strcpy(words, "cancelled");
	else
		tell_who(a, refused ? "refused by" : "time was up for", refused, words);
	wire_text(words, false, why, VERSION_MESSAGE_BYTES_MAX + 1);
}

void admin_decide(struct admin *a, version_t number, bool commit)
{
	struct drs_version version = fs_version_of(number);
	char why[VERSION_MESSAGE_BYTES_MAX + 1] = "";
	if (!commit)
		say_why(a, why);
	int error = master_mount_decide(a->mount, number, commit, why);
	if (error < 0)
		drs_decided(a->drs, &version, error);
}

static json_t *vote_json(const struct drs_vote *vote)
{
	static const char *const answers[] = {
		[DRS_UNREACHABLE] = "unreachable", [DRS_ASKED] = "asked",     [DRS_SYNCING] = "syncing",
		[DRS_PREPARED] = "prepared",	   [DRS_REFUSED] = "refused", [DRS_NOT_NEEDED] = "not needed",
	};
	json_t *json = json_pack("{s:s,s:s}", "name", vote->name, "answer", answers[vote->answer]);
	if (json && vote->answer == DRS_REFUSED)
		json_object_set_new(json, "reason", run_json_text(*vote->reason ? vote->reason : error_text(vote->error)));
	return json;
}

static json_t *votes_json(struct admin *a)
{
	const struct drs_vote *votes;
	size_t count = drs_votes(a->drs, &votes);
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, vote_json(&votes[i]));
	return list;
}

json_t *admin_commit_status(struct admin *a)
{
	return a->job.version ? json_pack("{s:I,s:o}", "version", (json_int_t)a->job.version, "votes", votes_json(a)) : json_null();
}

static void show_votes(struct admin *a)
{
	struct ask *ask = asker(a);
	const struct timeval pause = { .tv_usec = PROGRESS_MS * 1000 };
	a->unseen = false;
	if (!ask)
		return;
	control_progress(ask->request, json_pack("{s:o}", "votes", votes_json(a)));
	event_add(a->progress, &pause);
}

static void on_progress(evutil_socket_t fd, short what, void *user)
{
	struct admin *a = user;
	(void)fd, (void)what;
	if (a->unseen)
		show_votes(a);
}

void admin_voted(struct admin *a)
{
	a->unseen = true;
	if (!event_pending(a->progress, EV_TIMEOUT, NULL))
		show_votes(a);
}

void admin_two_phase_done(struct admin *a, version_t version, int error)
{
	if (a->job.version == version) {
		struct ask *ask = asker(a);
		if (ask && !ask->votes)
			ask->votes = votes_json(a);
		a->job.version = VERSION_NONE;
	}
	event_del(a->progress);
	a->unseen = false;
	if (master_mount_job_done(a->mount, version, error) < 0)
		log_error("no memory to end the commit of version %llu", (unsigned long long)version);
}

/* --- life */

int admin_new(struct node *node, struct drs_master *drs, struct members *members, struct admin **ret_admin)
{
	struct admin *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->node = node;
	a->drs = drs;
	a->members = members;
	a->progress = evtimer_new(node_base(node), on_progress, a);
	if (!a->progress) {
		free(a);
		return -ENOMEM;
	}
	*ret_admin = a;
	return 0;
}

void admin_set_mount(struct admin *a, struct master_mount *mount)
{
	a->mount = mount;
}

void admin_free(struct admin *a)
{
	if (!a)
		return;
	while (a->asks)
		ask_free(a->asks);
	event_free(a->progress);
	free(a);
}
