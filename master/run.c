/*
 * The master daemon. The mount's thread writes and publishes; the node's thread (this one, once node_run begins) heartbeats and answers pulls
 * from the same store. What passes between them is "version v is durable", by drs_start_one_phase, and what a commit of a batch takes (admin.h).
 */
#include "master/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/control.h"
#include "drsfs/daemon.h"
#include "drsfs/error.h"
#include "drsfs/fsversion.h"
#include "drsfs/log.h"
#include "drsfs/run.h"
#include "master/admin.h"
#include "master/members.h"
#include "master/mount.h"
#include "store/delta.h"

#define ABORTED_SEARCH_MAX 1000 /* versions since then */

struct master_daemon {
	const struct config *config;
	struct store *store;
	struct txn *reader; /* the node's thread reads the state through it; parked between */
	struct node *node;
	struct drs_master *drs;
	struct master_mount *mount;
	struct members *members;
	struct admin *admin;
	struct control *control;
	struct run_signals *signals;
	bool stopping;
	int error; /* why the mount ended */
};

/* ---- the listener of the DRS layer: deltas out of the store */

/* Sealing made number and content durable together, before anybody was told the number (store/version.h): nothing is left to store. */
static int store_version(void *user, const struct drs_version *version)
{
	(void)user, (void)version;
	return 0;
}

static int delta_open(void *user, const struct drs_version *proposed, struct slice opening, void **ret_source)
{
	struct master_daemon *d = user;
	struct delta_source *source;
	version_t to;
	int error = proposed ? batch_source_open(d->store, fs_version_number(proposed), opening, &source)
			     : delta_source_open(d->store, opening, &source, &to);

	if (error == 0)
		*ret_source = source;
	return error;
}

static int delta_next(void *user, void *source, struct buffer *frame)
{
	(void)user;
	return delta_source_next(source, frame);
}

static int delta_feed(void *user, void *source, struct slice frame)
{
	(void)user;
	return delta_source_feed(source, frame);
}

static void delta_close(void *user, void *source)
{
	(void)user;
	delta_source_close(source);
}

/* A slave must know the secret: digests, chunk ids and name hashes are keyed with it. From now on it is one of those whom a commit asks. */
static int admit(void *user, const char *name, struct buffer *ret_credentials)
{
	struct master_daemon *d = user;
	int error = members_add(d->members, name);

	if (error < 0)
		log_error("cannot remember slave %s in %s/members: %s", name, d->config->state, error_text(error));
	else
		error = txn_resume(d->reader);
	if (error < 0)
		return error;
	buffer_add(ret_credentials, txn_state(d->reader)->secret, sizeof(txn_state(d->reader)->secret));
	txn_park(d->reader);
	return ret_credentials->failed ? -ENOMEM : 0;
}

static void decide(void *user, const struct drs_version *version, bool commit)
{
	struct master_daemon *d = user;

	admin_decide(d->admin, fs_version_number(version), commit);
}

static void voted(void *user)
{
	struct master_daemon *d = user;

	admin_voted(d->admin);
}

static void two_phase_done(void *user, const struct drs_version *version, int error)
{
	struct master_daemon *d = user;

	admin_two_phase_done(d->admin, fs_version_number(version), error);
}

/* ---- from the mount's thread */

static void on_propose(void *user, const struct batch_info *info, const struct commit_options *options, struct slice inline_delta)
{
	struct master_daemon *d = user;

	admin_propose(d->admin, info, options, inline_delta);
}

static void on_cancel(void *user, version_t version)
{
	struct master_daemon *d = user;

	admin_cancel(d->admin, version);
}

static void on_decided(void *user, version_t version, bool commit, int error)
{
	struct master_daemon *d = user;
	(void)commit;

	admin_decided(d->admin, version, error);
}

static void on_published(void *user, const struct version_info *info, struct slice inline_delta)
{
	struct master_daemon *d = user;
	struct drs_version version = fs_version_of(info->version);
	struct scope everyone = { 0 };
	int error = drs_start_one_phase(d->drs, &version, &everyone, inline_delta);

	/* Not lost: every regular heartbeat tells the newest version that the core knows, and the next change brings it up to date. */
	if (error < 0)
		log_error("cannot announce version %llu: %s", (unsigned long long)info->version, error_text(error));
}

static void on_mount_ended(void *user, int error)
{
	struct master_daemon *d = user;

	d->error = error;
	node_stop(d->node);
}

/* ---- the control socket */

static json_t *member_status(const struct member *m, version_t current, time_ms now)
{
	version_t version = fs_version_number(&m->version);

	return json_pack("{s:s,s:b,s:I,s:I,s:I,s:I,s:s,s:b}", "name", m->name, "connected", m->peer != PEER_NONE, "version",
			 (json_int_t)version, "behind", (json_int_t)(current > version ? current - version : 0), "lag_ms",
			 (json_int_t)(m->behind_since ? now - m->behind_since : 0), "seen_ms", (json_int_t)(now - m->seen), "path",
			 run_path_name(m->path), "pulling", m->pulling);
}

/* The last version that came to nothing, and why: whoever was told so may have been a program. */
static int find_aborted(struct txn *txn, struct version_info *ret_info)
{
	version_t at = VERSION_MAX;
	int error = -ENOENT;

	for (unsigned i = 0; i < ABORTED_SEARCH_MAX; i++) {
		error = version_newest(txn, at, ret_info);
		if (error < 0 || ret_info->state == VERSION_ABORTED)
			return error;
		at = ret_info->version - 1;
	}
	return -ENOENT;
}

static json_t *aborted_status(struct master_daemon *d)
{
	struct version_info info;
	int error = txn_resume(d->reader);

	if (error == 0) {
		error = find_aborted(d->reader, &info);
		txn_park(d->reader);
	}
	if (error < 0)
		return json_null();
	return json_pack("{s:I,s:f,s:o}", "version", (json_int_t)info.version, "time", (double)info.time_ns / 1e9, "why", run_json_text(info.message));
}

static json_t *status(void *user)
{
	struct master_daemon *d = user;
	struct store_state state;
	const struct member *members;
	size_t count = node_members(d->node, &members);
	json_t *slaves = json_array();
	char did[33];

	if (run_read_state(d->reader, &state) < 0) {
		json_decref(slaves);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		json_array_append_new(slaves, member_status(&members[i], state.current, node_now()));
	run_hex(state.did.bytes, sizeof(state.did.bytes), did);
	return json_pack("{s:s,s:s,s:s,s:I,s:o,s:o,s:I,s:I,s:i,s:o,s:o,s:o,s:o}", "role", "master", "name", d->config->name, "did", did, "version",
			 (json_int_t)state.current, "digest", run_json_digest(&state.digest), "mountpoint", run_json_text(d->config->mountpoint),
			 "horizon", (json_int_t)state.horizon, "nodes", (json_int_t)state.nodes, "port", (int)node_link_port(d->node),
			 "slaves", slaves, "commit", admin_commit_status(d->admin), "aborted", aborted_status(d), "counters", run_json_counters(d->node));
}

static version_t current(void *user)
{
	struct master_daemon *d = user;
	struct store_state state;

	return run_read_state(d->reader, &state) == 0 ? state.current : 0;
}

static const struct member *find_member(const struct member *members, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

/* Has this one got it? If so its version may lower *lowest, else its name joins 'missing'. */
static void judge(const struct member *m, const char *name, version_t wanted, version_t *lowest, json_t *missing)
{
	version_t version = m ? fs_version_number(&m->version) : 0;

	if (!m || m->peer == PEER_NONE || version < wanted)
		json_array_append_new(missing, json_string(name));
	else if (version < *lowest)
		*lowest = version;
}

static int waited(void *user, version_t wanted, json_t *slaves, version_t *ret_version, json_t **ret_missing)
{
	struct master_daemon *d = user;
	const struct member *members;
	size_t count = node_members(d->node, &members);
	version_t lowest = current(d);
	json_t *missing = json_array();

	if (lowest < wanted) {
		json_array_append_new(missing, json_string(d->config->name));
	} else if (slaves) {
		size_t i;
		json_t *item;
		json_array_foreach(slaves, i, item) {
			const char *name = json_is_string(item) ? json_string_value(item) : "";
			judge(find_member(members, count, name), name, wanted, &lowest, missing);
		}
	} else {
		for (size_t i = 0; i < count; i++)
			judge(&members[i], members[i].name, wanted, &lowest, missing);
	}
	bool over = json_array_size(missing) == 0;
	*ret_version = lowest;
	*ret_missing = missing;
	return over;
}

static bool request(void *user, struct control_request *control_request, const char *command, const json_t *body)
{
	struct master_daemon *d = user;

	return admin_request(d->admin, control_request, command, body);
}

static void stop_node(void *user)
{
	node_stop(user);
}

/*
 * Unmounting publishes what is finished; the node is stopped by a call that queues behind that publication, so the last version is still
 * heartbeaten.
 */
static void stop(void *user)
{
	struct master_daemon *d = user;

	if (d->stopping)
		return;
	d->stopping = true;
	log_info("stopping");
	master_mount_stop(d->mount);
	if (node_post(d->node, stop_node, d->node) < 0)
		node_stop(d->node);
}

/* ---- life */

/* What the DRS layer has to know of the time before this start: who is a member, and what was proposed and not decided. */
static int begin_members(struct master_daemon *d)
{
	int error = members_load(d->config->state, &d->members);

	if (error < 0)
		log_error("cannot read %s/members (a name a line): %s", d->config->state, error_text(error));
	for (size_t i = 0; error == 0 && i < members_count(d->members); i++)
		error = drs_add_member(d->drs, members_name(d->members, i));
	if (error == 0)
		error = txn_resume(d->reader);
	if (error < 0)
		return error;
	struct drs_version aborted = fs_version_of(version_aborted(d->reader));
	txn_park(d->reader);
	if (fs_version_number(&aborted))
		drs_tell_aborted(d->drs, &aborted);
	return admin_new(d->node, d->drs, d->members, &d->admin);
}

static int begin_node(struct master_daemon *d)
{
	struct node_config node_config;
	struct store_state state;
	int error = run_read_state(d->reader, &state);

	if (error < 0)
		return error;
	run_node_config(d->config, &node_config);
	error = node_new(&node_config, &d->node);
	if (error < 0)
		return error;
	struct drs_version version = fs_version_of(state.current);
	struct drs_master_listener listener = {
		.user = d,
		.store_version = store_version,
		.delta_open = delta_open,
		.delta_next = delta_next,
		.delta_feed = delta_feed,
		.delta_close = delta_close,
		.decide = decide,
		.voted = voted,
		.two_phase_done = two_phase_done,
		.admit = admit,
	};
	error = drs_register_master(d->node, &state.did, &version, &fs_version_ops, &listener, &d->drs);
	if (error < 0)
		log_error("cannot take links on %s: %s", d->config->listen, error_text(error));
	return error < 0 ? error : begin_members(d);
}

static enum drs_require required(const struct config *config)
{
	switch (config->two_phase_require) {
	case CONFIG_REQUIRE_ALL:
		return DRS_REQUIRE_ALL;
	case CONFIG_REQUIRE_CONNECTED:
		return DRS_REQUIRE_CONNECTED;
	default:
		return DRS_REQUIRE_COUNT;
	}
}

static int begin_mount(struct master_daemon *d)
{
	struct master_mount_options options = {
		.mountpoint = d->config->mountpoint,
		.mount_options = d->config->mount_options,
		.allow_other = d->config->allow_other,
		.sync_close = d->config->sync_close,
		.publish_delay_ms = d->config->publish_delay_ms,
		.retain_versions = d->config->retain_versions,
		.retain_ms = d->config->retain_ms,
		.inline_bytes_max = DRS_INLINE_BYTES_MAX,
		.strict = { .timeout_ms = d->config->two_phase_timeout_ms, .require = required(d->config), .count = d->config->two_phase_require },
	};
	struct master_mount_listener listener = {
		.user = d,
		.published = on_published,
		.propose = on_propose,
		.cancel = on_cancel,
		.decided = on_decided,
		.ended = on_mount_ended,
	};
	int error = master_mount_new(d->store, &options, &listener, &d->mount);

	if (error == 0) {
		admin_set_mount(d->admin, d->mount);
		error = master_mount_start(d->mount);
	}
	if (error < 0)
		log_error("cannot mount on %s: %s", d->config->mountpoint, error_text(error));
	return error;
}

static int begin_control(struct master_daemon *d)
{
	struct control_handler handler = {
		.user = d, .status = status, .waited = waited, .current = current, .stop = stop, .request = request
	};
	int error = run_signals_new(d->node, stop, d, &d->signals);

	if (error == 0)
		error = control_new(node_base(d->node), d->config->state, &handler, &d->control);
	if (error < 0)
		log_error("cannot listen on %s/control: %s", d->config->state, error_text(error));
	return error;
}

static int begin_store(struct master_daemon *d)
{
	struct store_options options = { .dir = d->config->state, .role = STORE_MASTER, .create = true };
	int error = store_open(&options, &d->store);

	if (error == 0)
		error = txn_begin_read(d->store, &d->reader);
	if (error < 0) {
		log_error("cannot open the store in %s: %s", d->config->state, error_text(error));
		return error;
	}
	txn_park(d->reader);
	return 0;
}

int master_run(const struct config *config)
{
	struct master_daemon d = { .config = config };
	int error = daemon_begin(config);

	if (error == 0)
		error = begin_store(&d);
	if (error == 0)
		error = begin_node(&d);
	if (error == 0)
		error = begin_control(&d);
	if (error == 0)
		error = begin_mount(&d);
	if (error == 0) {
		log_notice("serving %s at version %llu", config->mountpoint, (unsigned long long)current(&d));
		daemon_ready();
		error = node_run(d.node);
		if (!d.stopping)
			master_mount_stop(d.mount);
		if (error == 0)
			error = d.error;
		if (error < 0)
			log_error("stopped: %s", error_text(error));
	}
	control_free(d.control);
	run_signals_free(d.signals);
	master_mount_free(d.mount);
	admin_free(d.admin);
	node_free(d.node);
	members_free(d.members);
	txn_abort(d.reader);
	store_close(d.store);
	return error;
}
