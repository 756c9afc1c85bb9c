/*
 * The slave daemon. The node's thread hears the master, applies deltas (replica.h) and flips the mount; the mount's threads only read.
 * Versions are checked before they show, and followed by a command, where the administrator configured one (check.h).
 * The mount appears when there is something to show: at once from the cache, or as wait_first and wait_master say (R7.1).
 */
#include "slave/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/control.h"
#include "drsfs/daemon.h"
#include "drsfs/error.h"
#include "drsfs/fsversion.h"
#include "drsfs/log.h"
#include "drsfs/run.h"
#include "slave/check.h"
#include "slave/mount.h"
#include "slave/replica.h"

#define TIDY_MS 200
#define PROGRESS_MS 5000

struct slave_daemon {
	const struct config *config;
	struct store *store;
	struct txn *reader; /* the node's thread reads the state through it; parked between */
	struct replica *replica;
	struct node *node;
	struct drs_slave *drs;
	struct slave_mount *mount; /* NULL: not mounted yet */
	struct check *check;
	struct after *after;
	struct control *control;
	struct run_signals *signals;
	struct run_timer *tidy, *progress;
	enum slave_state state_logged;
	bool reached;   /* has been as new as its master once */
	int error;
};

/* ---- mounting, when it is time */

static void on_mount_ended(void *user, int error)
{
	struct slave_daemon *d = user;

	d->error = error;
	node_stop(d->node);
}

static int begin_mount(struct slave_daemon *d)
{
	struct slave_mount_options options = {
		.mountpoint = d->config->mountpoint,
		.mount_options = d->config->mount_options,
		.allow_other = d->config->allow_other,
		.inotify = d->config->inotify,
	};
	struct slave_mount *mount = NULL;
	int error = slave_mount_new(d->store, &options, on_mount_ended, d, &mount);

	if (error == 0)
		error = slave_mount_start(mount);
	if (error < 0) {
		log_error("cannot mount on %s: %s", d->config->mountpoint, error_text(error));
		slave_mount_free(mount);
		return error;
	}
	d->mount = mount;
	replica_set_mount(d->replica, mount);
	log_notice("serving %s at version %llu", d->config->mountpoint, (unsigned long long)slave_mount_shown(mount));
	daemon_ready();
	after_shown(d->after, slave_mount_shown(mount)); /* visible where nothing was; and perhaps not told before the last end */
	return 0;
}

static bool time_to_mount(struct slave_daemon *d, version_t version)
{
	if (d->config->wait_master)
		return d->reached;
	return version > 0 || !d->config->wait_first;
}

static void mount_if_due(struct slave_daemon *d)
{
	struct store_state state;

	if (d->mount || run_read_state(d->reader, &state) < 0 || !time_to_mount(d, state.current))
		return;
	d->error = begin_mount(d);
	if (d->error < 0)
		node_stop(d->node);
}

/* ---- what the DRS layer tells */

static void on_changed(void *user)
{
	struct slave_daemon *d = user;
	struct slave_status s;

	if (!node_slave_status(d->node, &s))
		return;
	if (s.state == SLAVE_CURRENT)
		d->reached = true;
	bool settled = s.state == SLAVE_ALONE || s.state == SLAVE_CURRENT || s.state == SLAVE_WAITING || s.state == SLAVE_REFUSED;
	if (settled && s.state != d->state_logged) {
		if (s.state == SLAVE_WAITING || s.state == SLAVE_REFUSED)
			log_warning("%s: %s", slave_state_name(s.state),
				    *replica_trouble(d->replica) ? replica_trouble(d->replica) : error_text(s.error));
		else
			log_info("%s, at version %llu", slave_state_name(s.state), (unsigned long long)fs_version_number(&s.version));
		d->state_logged = s.state;
	}
	mount_if_due(d);
}

/* What the master last told: "latest" on a slave. */
static version_t known(void *user)
{
	struct slave_daemon *d = user;
	struct slave_status s;

	return node_slave_status(d->node, &s) ? fs_version_number(&s.known) : 0;
}

/* ---- checking, and what follows a version */

static int begin_check(void *user, version_t version, version_t shown, char ret_reason[DRS_REASON_BYTES_MAX])
{
	struct slave_daemon *d = user;

	return check_begin(d->check, version, shown, ret_reason);
}

static void cancel_check(void *user)
{
	struct slave_daemon *d = user;

	check_cancel(d->check);
}

static void on_checked(void *user, int error, const char *reason)
{
	struct slave_daemon *d = user;

	replica_checked(d->replica, error, reason);
}

static void on_done(void *user, int error, const struct drs_version *version)
{
	struct slave_daemon *d = user;

	drs_slave_done(d->drs, error, version);
}

static void on_shown(void *user, version_t version)
{
	struct slave_daemon *d = user;

	after_shown(d->after, version);
}

static void on_tidy(void *user)
{
	struct slave_daemon *d = user;

	replica_tidy(d->replica);
}

static void on_progress(void *user)
{
	struct slave_daemon *d = user;
	struct stage_progress p;

	replica_progress(d->replica, &p);
	if (p.to)
		log_info("%s version %llu: %llu of %llu records, %llu KiB, %llu chunks still wanted", p.complete ? "copying" : "pulling",
			 (unsigned long long)p.to, (unsigned long long)p.records, (unsigned long long)p.records_total,
			 (unsigned long long)p.bytes / 1024, (unsigned long long)p.chunks_wanted);
}

/* ---- the control socket */

static json_t *pull_status(struct slave_daemon *d)
{
	struct stage_progress p;

	replica_progress(d->replica, &p);
	if (!p.to)
		return json_null();
	return json_pack("{s:I,s:I,s:b,s:I,s:I,s:I,s:I}", "from", (json_int_t)p.from, "to", (json_int_t)p.to, "complete", p.complete, "records",
			 (json_int_t)p.records, "records_total", (json_int_t)p.records_total, "bytes", (json_int_t)p.bytes,
			 "chunks_wanted", (json_int_t)p.chunks_wanted);
}

/* Null where none is configured. A result is of the last run that has ended. */
static json_t *command_json(const struct command_status *c)
{
	bool ended = *c->result.words;

	if (!*c->command)
		return json_null();
	return json_pack("{s:o,s:b,s:o,s:o,s:o,s:b}", "command", run_json_text(c->command), "running", c->running, "version",
			 ended ? json_integer((json_int_t)c->result_version) : json_null(), "result",
			 ended ? run_json_text(c->result.words) : json_null(), "output", run_json_text(c->result.output), "good",
			 c->result.good);
}

static json_t *check_json(struct slave_daemon *d)
{
	struct command_status c;

	check_status(d->check, &c);
	return command_json(&c);
}

static json_t *after_json(struct slave_daemon *d)
{
	struct command_status c;

	after_status(d->after, &c);
	return command_json(&c);
}

static json_t *prepared_json(struct slave_daemon *d)
{
	version_t version = replica_prepared(d->replica);

	return version ? json_integer((json_int_t)version) : json_null();
}

static json_t *status(void *user)
{
	struct slave_daemon *d = user;
	struct slave_status s;
	struct store_state state;
	char did[33];

	if (!node_slave_status(d->node, &s) || run_read_state(d->reader, &state) < 0)
		return NULL;
	const char *trouble = replica_trouble(d->replica);
	if (!*trouble && s.error < 0)
		trouble = error_text(s.error);
	run_hex(state.did.bytes, sizeof(state.did.bytes), did);
	return json_pack("{s:s,s:s,s:s,s:I,s:I,s:o,s:s,s:s,s:I,s:s,s:o,s:o,s:b,s:o,s:o,s:b,s:o,s:o,s:I,s:o}", "role", "slave", "name",
			 d->config->name, "did", did, "version", (json_int_t)state.current, "known", (json_int_t)fs_version_number(&s.known), "digest",
			 run_json_digest(&state.digest), "state", slave_state_name(s.state), "master", d->config->master, "beat_ms",
			 (json_int_t)(s.beat_seen ? node_now() - s.beat_seen : -1), "path", run_path_name(s.path), "trouble", run_json_text(trouble),
			 "mountpoint", run_json_text(d->config->mountpoint), "mounted", d->mount != NULL, "pull", pull_status(d), "prepared",
			 prepared_json(d), "checking", replica_checking(d->replica), "check", check_json(d), "after", after_json(d), "nodes_held",
			 (json_int_t)(d->mount ? slave_mount_nodes(d->mount) : 0),
			 "counters", run_json_counters(d->node));
}

static version_t shown(struct slave_daemon *d)
{
	struct store_state state;

	if (d->mount)
		return slave_mount_shown(d->mount);
	return run_read_state(d->reader, &state) == 0 ? state.current : 0;
}

static int waited(void *user, version_t wanted, json_t *slaves, version_t *ret_version, json_t **ret_missing)
{
	struct slave_daemon *d = user;
	version_t version = shown(d);

	(void)slaves; /* a slave answers for itself only */
	if (version >= wanted) {
		*ret_version = version;
		return 1;
	}
	*ret_missing = json_pack("[s]", d->config->name);
	return 0;
}

static void stop(void *user)
{
	struct slave_daemon *d = user;

	log_info("stopping");
	node_stop(d->node);
}

/* ---- life */

static int begin_store(struct slave_daemon *d)
{
	/* A power cut may take a slave's last commit: it pulls that version again. */
	struct store_options options = { .dir = d->config->state, .role = STORE_SLAVE, .create = true, .lazy_sync = true };
	int error = store_open(&options, &d->store);

	if (error == 0)
		error = txn_begin_read(d->store, &d->reader);
	if (error == 0) {
		txn_park(d->reader);
		error = replica_new(d->store, d->config->retain_versions, &d->replica);
	}
	if (error < 0)
		log_error("cannot open the store in %s: %s", d->config->state, error_text(error));
	return error;
}

static bool did_known(const struct did *did)
{
	static const struct did none;

	return memcmp(did, &none, sizeof(none)) != 0;
}

static int begin_node(struct slave_daemon *d)
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
	struct drs_slave_listener listener = replica_listener(d->replica);
	error = drs_register_slave(d->node, did_known(&state.did) ? &state.did : NULL, &version, &fs_version_ops, &listener, &d->drs);
	if (error < 0)
		log_error("cannot begin to follow %s: %s", d->config->master, error_text(error));
	return error;
}

static int begin_commands(struct slave_daemon *d)
{
	struct replica_user user = { .user = d, .done = on_done, .shown = on_shown, .known = known };
	int error = check_new(node_base(d->node), d->store, d->config, &d->check);

	if (error == 0)
		error = after_new(node_base(d->node), d->config, &d->after);
	if (error < 0) {
		log_error("cannot get ready to run commands: %s", error_text(error));
		return error;
	}
	check_clear(d->config->state);
	check_on_done(d->check, on_checked, d);
	if (check_configured(d->check)) {
		user.check_begin = begin_check;
		user.check_cancel = cancel_check;
	}
	replica_set_user(d->replica, &user);
	return 0;
}

static int begin_control(struct slave_daemon *d)
{
	struct control_handler handler = { .user = d, .status = status, .waited = waited, .current = known, .stop = stop };
	int error = run_signals_new(d->node, stop, d, &d->signals);

	if (error == 0)
		error = control_new(node_base(d->node), d->config->state, &handler, &d->control);
	if (error == 0)
		error = run_timer_new(d->node, TIDY_MS, on_tidy, d, &d->tidy);
	if (error == 0)
		error = run_timer_new(d->node, PROGRESS_MS, on_progress, d, &d->progress);
	if (error < 0)
		log_error("cannot listen on %s/control: %s", d->config->state, error_text(error));
	return error;
}

int slave_run(const struct config *config)
{
	struct slave_daemon d = { .config = config, .state_logged = SLAVE_ALONE };
	int error = daemon_begin(config);

	if (error == 0)
		error = begin_store(&d);
	if (error == 0)
		error = begin_node(&d);
	if (error == 0)
		error = begin_commands(&d);
	if (error == 0)
		error = begin_control(&d);
	if (error == 0) {
		replica_on_changed(d.replica, on_changed, &d);
		mount_if_due(&d);
		if (d.error == 0)
			error = node_run(d.node);
		if (error == 0)
			error = d.error;
		if (error < 0)
			log_error("stopped: %s", error_text(error));
	}
	if (d.replica) {
		replica_set_user(d.replica, NULL);
		replica_set_mount(d.replica, NULL);
	}
	check_free(d.check);
	after_free(d.after);
	if (d.mount)
		slave_mount_stop(d.mount);
	run_timer_free(d.progress);
	run_timer_free(d.tidy);
	control_free(d.control);
	run_signals_free(d.signals);
	node_free(d.node);
	slave_mount_free(d.mount);
	replica_free(d.replica);
	txn_abort(d.reader);
	store_close(d.store);
	return error;
}
