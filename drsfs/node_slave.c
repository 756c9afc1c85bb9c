/*
 * What a slave's core asks for, done: heartbeats heard, the master dialled, deltas pulled and handed to the user.
 *
 * A pull is open from pull_open until its commit or pull_close, whichever comes first; each open pull is closed once. While it is open and
 * 'wanted', frames from the master are fed to the user and the user's frames go back, as far as the link takes them. The pull of a proposed version ends
 * with its check.
 *
 * Some of the user's work may take its time: then 'late' says which answer is outstanding, until drs_slave_done brings it or the user is told to end it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "drsfs/error.h"
#include "drsfs/fault.h"
#include "drsfs/log.h"
#include "drsfs/node_role.h"
#include "drsfs/resolve.h"

#define DIAL_RETRY_MS_MIN 200
#define DIAL_RETRY_MS_MAX 5000
#define STRANGERS_MAX     16 /* hosts remembered for having sent another major version */

struct pull {
	bool open;   /* pull_open was; pull_commit has not succeeded, prepare_check not been asked, pull_close not been */
	bool wanted; /* neither PULLED nor FAILED has been raised */
	bool to_proposed;
	uint32_t request;
};

/* What the user has said that it will answer later. */
enum late { LATE_NOTHING, LATE_COMMIT, LATE_COMMIT_INLINE, LATE_CHECK, LATE_COMMIT_PREPARED };

/* Why the version that is being prepared cannot be, in the user's words. */
struct refusal {
	int error;
	char words[DRS_REASON_BYTES_MAX];
};

struct drs_slave {
	struct node *node;
	struct slave_core *core;
	struct drs_slave_listener listener;
	const struct drs_version_ops *ops;
	bool did_known, joined;
	struct did did;
	struct beat_port *beats;

	struct resolve *resolve;
	struct address addresses[RESOLVE_ADDRESSES_MAX]; /* of the master */
	size_t addresses_count, address;
	struct link *link;
	bool up; /* the core knows the link, as 'peer' */
	peer_id peer;
	struct pull pull;
	enum late late;
	struct drs_version preparing; /* what is being checked, or was last */
	struct refusal refusal;
	bool committed_prepared; /* and not yet reported */

	struct beat beat;
	struct buffer frame, message_storage, beat_storage;
	struct address strangers[STRANGERS_MAX];
	size_t strangers_count;
	int link_error, work_error; /* logged last; 0 since things went well */
};

/* --- logging: each state once */

static void log_link(struct drs_slave *s, int error)
{
	if (s->joined)
		log_notice("the link to the master is lost: %s", error_text(error));
	else if (error != s->link_error)
		log_warning("cannot join the master at %s: %s (trying again)", node_configuration(s->node)->master, error_text(error));
	s->link_error = error;
	s->joined = false;
}

static void log_work(struct drs_slave *s, const char *what, int error)
{
	if (error != s->work_error)
		log_warning("%s: %s", what, error_text(error));
	s->work_error = error;
}

/* --- the words of a Nak: as soon as the user gives an error, for by the time of the answer it may have others */

static void refusal_note(struct drs_slave *s, int error)
{
	const char *words = s->listener.reason ? s->listener.reason(s->listener.user) : NULL;
	s->refusal.error = error;
	wire_text(words && *words ? words : error_text(error), true, s->refusal.words, sizeof(s->refusal.words));
}

static void refusal_forget(struct drs_slave *s)
{
	s->refusal = (struct refusal){ 0 };
}

/* --- pulls */

static void pull_close(struct drs_slave *s)
{
	if (s->pull.open)
		s->listener.pull_close(s->listener.user);
	if (s->late == LATE_COMMIT)
		s->late = LATE_NOTHING;
	s->pull.open = s->pull.wanted = false;
}

static void pull_failed(struct drs_slave *s, int error)
{
	log_work(s, "the delta cannot be had", error);
	pull_close(s);
	node_raise(s->node, (struct event){ .kind = EVENT_FAILED, .request = s->pull.request, .error = error });
}

/* It failed on our side: the master need not go on. */
static void pull_give_up(struct drs_slave *s, int error)
{
	if (s->pull.to_proposed)
		refusal_note(s, error);
	if (s->link)
		link_send_pull_end(s->link, s->pull.request, error);
	pull_failed(s, error);
}

/* What the user has to say to the master, then whether all is here. */
static void pull_advance(struct drs_slave *s)
{
	while (s->pull.wanted) {
		if (link_full(s->link))
			return; /* on at 'drained', or ended by 'down' */
		buffer_clear(&s->frame);
		int result = s->listener.pull_next(s->listener.user, &s->frame);
		if (result == 1 && (s->frame.failed || s->frame.size > LINK_DATA_BYTES_MAX))
			result = s->frame.failed ? -ENOMEM : -DRS_ETOOBIG;
		if (result < 0) {
			pull_give_up(s, result);
		} else if (result == 1) {
			link_send_data(s->link, LINK_DATA_FROM_SLAVE, s->pull.request, buffer_slice(&s->frame));
		} else if (s->listener.pull_ready(s->listener.user)) {
			s->pull.wanted = false;
			node_raise(s->node, (struct event){ .kind = EVENT_PULLED, .request = s->pull.request });
		} else {
			return;
		}
	}
}

static int pull_open(struct drs_slave *s, const struct action *a)
{
	s->pull.request = a->request;
	s->pull.to_proposed = a->proposed;
	buffer_clear(&s->frame);
	int error = s->listener.pull_open(s->listener.user, a->complete, &s->frame);
	if (error < 0)
		return error;
	s->pull.open = true;
	if (s->frame.failed)
		return -ENOMEM;
	return s->frame.size > WIRE_MESSAGE_BYTES_MAX / 2 ? -DRS_ETOOBIG : 0;
}

static void perform_pull(struct drs_slave *s, const struct action *a)
{
	struct wire_message m = { .kind = WIRE_PULL, .pull = { .request = a->request, .complete = a->complete } };
	assert(!s->pull.open);
	int error = pull_open(s, a);
	if (error < 0) {
		if (a->proposed)
			refusal_note(s, error);
		pull_failed(s, error);
		return;
	}
	s->pull.wanted = true;
	m.pull.opening = buffer_slice(&s->frame);
	m.pull.to_proposed = a->proposed;
	m.pull.proposed = a->version;
	if (a->proposed)
		FAULT("slave.pull.before");
	link_send_wire(s->link, &m);
	if (a->proposed)
		FAULT_SENT("slave.pull.after", link_flush(s->link));
	pull_advance(s);
}

static void perform_pull_stop(struct drs_slave *s, uint32_t request)
{
	if (!s->pull.open || s->pull.request != request)
		return;
	if (s->up && s->pull.wanted)
		link_send_pull_end(s->link, request, -ECANCELED);
	pull_close(s);
}

static void hear_delta(struct drs_slave *s, uint32_t request, struct slice frame)
{
	if (!s->pull.wanted || request != s->pull.request)
		return;
	int error = s->listener.pull_feed(s->listener.user, frame);
	if (error < 0)
		pull_give_up(s, error);
	else
		pull_advance(s);
}

static void hear_pull_end(struct drs_slave *s, const struct wire_message *m)
{
	if (s->pull.wanted && m->pull_end.request == s->pull.request)
		pull_failed(s, m->pull_end.error < 0 ? m->pull_end.error : -DRS_EPROTOCOL);
}

/* --- work that makes a version durable */

static void answer(struct drs_slave *s, const char *what, int error, const struct drs_version *version)
{
	if (error < 0) {
		refusal_note(s, error); /* a Nak may come of it: whoever cannot get to the version before cannot prepare */
		log_work(s, what, error);
	} else {
		s->work_error = 0;
	}
	node_raise(s->node, (struct event){ .kind = error < 0 ? EVENT_FAILED : EVENT_DURABLE, .error = error, .version = *version });
}

/* Whether the user's work is done; if not, its answer comes by drs_slave_done. */
static bool done(struct drs_slave *s, int error, enum late work)
{
	s->late = error == -EINPROGRESS ? work : LATE_NOTHING;
	return error != -EINPROGRESS;
}

static void commit_done(struct drs_slave *s, int error, const struct drs_version *version)
{
	s->pull.open = error < 0;
	pull_close(s);
	answer(s, "the delta cannot be committed", error, version);
}

static void perform_commit(struct drs_slave *s)
{
	struct drs_version version = { 0 };
	assert(s->pull.open && s->late == LATE_NOTHING);
	int error = s->listener.pull_commit(s->listener.user, &version);
	if (done(s, error, LATE_COMMIT))
		commit_done(s, error, &version);
}

static void commit_inline_done(struct drs_slave *s, int error, const struct drs_version *version)
{
	answer(s, "the delta of a heartbeat cannot be committed", error, version);
}

static void perform_commit_inline(struct drs_slave *s, struct slice delta)
{
	struct drs_version version = { 0 };
	assert(s->late == LATE_NOTHING);
	int error = s->listener.commit_inline(s->listener.user, delta, &version);
	if (done(s, error, LATE_COMMIT_INLINE))
		commit_inline_done(s, error, &version);
}

static void perform_take(struct drs_slave *s, const struct drs_version *version)
{
	answer(s, "the new version's number cannot be stored", s->listener.take_version(s->listener.user, version), version);
}

/* --- two phase */

/* A user that does not prepare leaves these out; then the master gets a Nak. */
static bool can_prepare(const struct drs_slave *s)
{
	const struct drs_slave_listener *l = &s->listener;
	return l->prepare && l->prepare_check && l->prepare_commit && l->prepare_abort;
}

static void prepare_failed(struct drs_slave *s, int error)
{
	char version[40], words[DRS_REASON_BYTES_MAX];
	s->ops->format(&s->preparing, version);
	wire_text(s->refusal.words, false, words, sizeof(words));
	log_notice("version %s is refused: %s", version, words);
	node_raise(s->node, (struct event){ .kind = EVENT_FAILED, .version = s->preparing, .error = error });
}

static int stage(struct drs_slave *s, const struct action *a)
{
	FAULT("slave.stage.before");
	int result = s->listener.prepare(s->listener.user, &a->version, a->inline_delta);
	FAULT("slave.stage.after");
	assert(result <= 1);
	return result;
}

static void perform_stage(struct drs_slave *s, const struct action *a)
{
	s->preparing = a->version;
	refusal_forget(s);
	int result = can_prepare(s) ? stage(s, a) : -EOPNOTSUPP;
	if (result < 0) {
		refusal_note(s, result);
		prepare_failed(s, result);
		return;
	}
	node_raise(s->node, (struct event){ .kind = result > 0 ? EVENT_PULLED : EVENT_UNSTAGED, .request = a->request, .version = a->version });
}

static void check_done(struct drs_slave *s, int error)
{
	FAULT("slave.check.after");
	if (error < 0) {
		refusal_note(s, error);
		prepare_failed(s, error);
		return;
	}
	s->work_error = 0;
	node_raise(s->node, (struct event){ .kind = EVENT_CHECKED, .version = s->preparing });
}

static void perform_check(struct drs_slave *s, const struct drs_version *version)
{
	assert(s->late == LATE_NOTHING && can_prepare(s));
	s->pull.open = s->pull.wanted = false; /* the user has it as staged now */
	s->preparing = *version;
	FAULT("slave.check.before");
	int error = s->listener.prepare_check(s->listener.user, version);
	if (done(s, error, LATE_CHECK))
		check_done(s, error);
}

static void commit_prepared_done(struct drs_slave *s, int error, const struct drs_version *version)
{
	FAULT("slave.commit.after");
	s->committed_prepared = error == 0;
	answer(s, "the prepared version cannot be committed", error, version);
}

static void perform_commit_prepared(struct drs_slave *s)
{
	struct drs_version version = { 0 };
	assert(s->late == LATE_NOTHING);
	FAULT("slave.commit.before");
	int error = s->listener.prepare_commit(s->listener.user, &version);
	if (done(s, error, LATE_COMMIT_PREPARED))
		commit_prepared_done(s, error, &version);
}

static void perform_unprepare(struct drs_slave *s)
{
	if (s->late == LATE_CHECK)
		s->late = LATE_NOTHING;
	if (!can_prepare(s))
		return;
	FAULT("slave.unprepare.before");
	s->listener.prepare_abort(s->listener.user);
	FAULT("slave.unprepare.after");
}

static void send_answer(struct drs_slave *s, const struct action *a)
{
	struct wire_message m = { .kind = WIRE_PREPARE_ANSWER };
	m.prepare_answer.version = a->version;
	m.prepare_answer.answer = a->answer;
	m.prepare_answer.error = a->error;
	if (a->answer == PREPARE_NAK)
		wire_text(a->error == s->refusal.error ? s->refusal.words : error_text(a->error), true, m.prepare_answer.text,
			  sizeof(m.prepare_answer.text));
	FAULT("slave.answer.before");
	link_send_wire(s->link, &m);
	FAULT_SENT("slave.answer.after", link_flush(s->link));
}

/* --- late answers */

void drs_slave_done(struct drs_slave *s, int error, const struct drs_version *version)
{
	static const struct drs_version none;
	enum late work = s->late;
	assert(work != LATE_NOTHING && error != -EINPROGRESS);
	s->late = LATE_NOTHING;
	if (!version)
		version = &none;
	if (work == LATE_COMMIT)
		commit_done(s, error, version);
	else if (work == LATE_COMMIT_INLINE)
		commit_inline_done(s, error, version);
	else if (work == LATE_COMMIT_PREPARED)
		commit_prepared_done(s, error, version);
	else
		check_done(s, error);
}

/* The node ends: no answer is wanted any more. What is prepared and waits for its decision stays as it is, as after a crash. */
static void late_end(struct drs_slave *s)
{
	if (s->late == LATE_CHECK)
		s->listener.prepare_abort(s->listener.user);
	else if (s->late == LATE_COMMIT_INLINE || s->late == LATE_COMMIT_PREPARED)
		s->listener.pull_close(s->listener.user);
	pull_close(s); /* also one that is being committed */
	s->late = LATE_NOTHING;
}

/* --- the link */

static void link_close(struct drs_slave *s)
{
	link_free(s->link);
	s->link = NULL;
	s->up = false;
	node_counted(s->node)->links = 0;
}

static int hear_welcome(struct drs_slave *s, const struct wire_message *w)
{
	char version[40];
	if (s->joined)
		return -DRS_EPROTOCOL;
	if (s->did_known && memcmp(&s->did, &w->welcome.did, sizeof(s->did)) != 0)
		return -DRS_EVOLUME;
	if (!s->did_known) {
		int error = s->listener.admitted(s->listener.user, &w->welcome.did, w->welcome.credentials);
		if (error < 0)
			return error;
		s->did = w->welcome.did;
		s->did_known = true;
	}
	link_expect(s->link, 0);
	s->joined = true;
	s->link_error = 0;
	s->ops->format(&w->welcome.version, version);
	log_notice("joined the master at %s, which is at version %s", node_configuration(s->node)->master, version);
	node_raise(s->node, (struct event){ .kind = EVENT_WELCOME,
					    .peer = s->peer,
					    .version = w->welcome.version,
					    .did = &s->did,
					    .interval_ms = w->welcome.interval_ms });
	return 0;
}

static void hear_refuse(struct drs_slave *s, const struct wire_message *r)
{
	peer_id peer = s->peer;
	if (r->refuse.error != s->link_error)
		log_error("the master refuses this slave: %s", *r->refuse.text ? r->refuse.text : error_text(r->refuse.error));
	s->link_error = r->refuse.error;
	s->joined = false;
	link_close(s);
	node_raise(s->node, (struct event){ .kind = EVENT_REFUSED, .peer = peer, .error = r->refuse.error });
}

static bool is_ours(const struct drs_slave *s, const struct beat *b)
{
	return s->did_known && memcmp(&b->did, &s->did, sizeof(s->did)) == 0;
}

static void hear_beat(struct drs_slave *s, const struct beat *b, enum beat_path path)
{
	if (!is_ours(s, b)) {
		node_counted(s->node)->beats_dropped++;
		return;
	}
	node_counted(s->node)->beats_heard++;
	node_raise(s->node, (struct event){ .kind = EVENT_BEAT, .beat = b, .path = path });
}

static int hear_prepare(struct drs_slave *s, const struct wire_message *p)
{
	if (!s->joined)
		return -DRS_EPROTOCOL;
	node_raise(s->node, (struct event){ .kind = EVENT_PREPARE,
					    .peer = s->peer,
					    .version = p->prepare.version,
					    .previous = p->prepare.previous,
					    .timeout_ms = p->prepare.timeout_ms,
					    .inline_delta = p->prepare.inline_delta });
	return 0;
}

static int hear_message(struct drs_slave *s, const struct wire_message *message)
{
	switch (message->kind) {
	case WIRE_WELCOME:
		return hear_welcome(s, message);
	case WIRE_REFUSE:
		hear_refuse(s, message);
		return 0;
	case WIRE_PULL_END:
		hear_pull_end(s, message);
		return 0;
	case WIRE_PREPARE:
		return hear_prepare(s, message);
	case WIRE_PING:
		link_send_wire(s->link, &(struct wire_message){ .kind = WIRE_PONG });
		return 0;
	case WIRE_BEAT:
		hear_beat(s, &message->beat, BEAT_BY_LINK);
		return 0;
	case WIRE_PONG:
	case WIRE_UNKNOWN:
		return 0;
	default:
		return -DRS_EPROTOCOL;
	}
}

static int on_frame(void *user, enum link_frame kind, uint32_t request, struct slice body)
{
	struct drs_slave *s = user;
	struct wire_message message;
	if (kind == LINK_DATA_FROM_MASTER) {
		hear_delta(s, request, body);
		return 0;
	}
	if (kind != LINK_MESSAGE)
		return -DRS_EPROTOCOL;
	int error = wire_message_decode(body, &message, &s->message_storage);
	return error < 0 ? error : hear_message(s, &message);
}

static void on_drained(void *user)
{
	struct drs_slave *s = user;
	if (s->pull.wanted)
		pull_advance(s);
}

static void on_quiet(void *user)
{
	struct drs_slave *s = user;
	link_send_wire(s->link, &(struct wire_message){ .kind = WIRE_PING });
}

/* --- dialling: the addresses of the name, one after the other */

static void on_up(void *user)
{
	struct drs_slave *s = user;
	s->up = true;
	s->peer++;
	node_counted(s->node)->links = 1;
	link_expect(s->link, HELLO_MS_MAX);
	node_raise(s->node, (struct event){ .kind = EVENT_LINK_UP, .peer = s->peer });
}

static void on_down(void *user, int error);

static int dial_address(struct drs_slave *s, const struct address *to)
{
	struct link_options options = {
		.timeout_ms = node_configuration(s->node)->link_timeout_ms,
		.traffic = node_traffic(s->node),
		.user = s,
		.up = on_up,
		.frame = on_frame,
		.drained = on_drained,
		.quiet = on_quiet,
		.down = on_down,
	};
	return link_dial(node_base(s->node), to, &options, &s->link);
}

static void dial_failed(struct drs_slave *s, int error)
{
	log_link(s, error);
	node_raise(s->node, (struct event){ .kind = EVENT_LINK_DOWN, .peer = PEER_NONE });
}

static void dial_next(struct drs_slave *s, int error)
{
	while (s->address < s->addresses_count) {
		error = dial_address(s, &s->addresses[s->address++]);
		if (error == 0)
			return;
	}
	dial_failed(s, error);
}

static void on_down(void *user, int error)
{
	struct drs_slave *s = user;
	bool up = s->up;
	link_close(s);
	if (!up) {
		dial_next(s, error);
		return;
	}
	log_link(s, error);
	s->pull.wanted = false; /* the core closes it */
	node_raise(s->node, (struct event){ .kind = EVENT_LINK_DOWN, .peer = s->peer });
}

static void on_resolved(void *user, int error, const struct address *addresses, size_t count)
{
	struct drs_slave *s = user;
	memcpy(s->addresses, addresses, count * sizeof(*addresses));
	s->addresses_count = count;
	s->address = 0;
	resolve_free(s->resolve);
	s->resolve = NULL;
	dial_next(s, error);
}

static void perform_dial(struct drs_slave *s)
{
	assert(!s->link && !s->resolve);
	int error = resolve_start(node_base(s->node), node_configuration(s->node)->master, on_resolved, s, &s->resolve);
	if (error < 0)
		dial_failed(s, error);
}

static void send_hello(struct drs_slave *s, const struct action *a)
{
	struct wire_message m = { .kind = WIRE_HELLO };
	m.hello.major = WIRE_MAJOR;
	m.hello.minor = WIRE_MINOR;
	strcpy(m.hello.name, node_configuration(s->node)->name);
	m.hello.did_known = s->did_known;
	m.hello.did = s->did;
	m.hello.version = a->version;
	m.hello.path = a->path;
	m.hello.udp_port = beat_port_number(s->beats);
	link_send_wire(s->link, &m);
}

static void send_report(struct drs_slave *s, const struct action *a)
{
	struct wire_message m = { .kind = WIRE_REPORT, .report = { .version = a->version, .path = a->path } };
	if (s->committed_prepared)
		FAULT("slave.report.before");
	link_send_wire(s->link, &m);
	if (s->committed_prepared)
		FAULT_SENT("slave.report.after", link_flush(s->link));
	s->committed_prepared = false;
}

/* --- datagrams */

static void log_stranger(struct drs_slave *s, const struct address *from)
{
	char text[ADDRESS_TEXT_MAX];
	for (size_t i = 0; i < s->strangers_count; i++)
		if (address_same_host(&s->strangers[i], from))
			return;
	if (s->strangers_count == STRANGERS_MAX)
		return;
	s->strangers[s->strangers_count++] = *from;
	address_format(from, text);
	log_warning("heartbeats from %s are ignored: %s", text, error_text(-DRS_EMAJOR));
}

static void on_datagram(void *user, struct slice datagram, const struct address *from, enum beat_path path)
{
	struct drs_slave *s = user;
	int error = wire_beat_decode(datagram, &s->beat, &s->beat_storage);
	if (error == -DRS_EMAJOR)
		log_stranger(s, from);
	if (error < 0)
		node_counted(s->node)->beats_dropped++;
	else
		hear_beat(s, &s->beat, path);
}

/* --- performing */

static void perform_by_link(struct drs_slave *s, const struct action *a)
{
	if (!s->up || a->peer != s->peer)
		return;
	switch (a->kind) {
	case ACTION_HANG_UP:
		s->joined = false;
		link_close(s);
		break;
	case ACTION_HELLO:
		send_hello(s, a);
		break;
	case ACTION_REPORT:
		send_report(s, a);
		break;
	case ACTION_ANSWER:
		send_answer(s, a);
		break;
	case ACTION_PULL:
		perform_pull(s, a);
		break;
	default:
		assert(!"an action of a master");
	}
}

static void perform(void *self, const struct action *a)
{
	struct drs_slave *s = self;
	switch (a->kind) {
	case ACTION_DIAL:
		perform_dial(s);
		break;
	case ACTION_PULL_STOP:
		perform_pull_stop(s, a->request);
		break;
	case ACTION_COMMIT:
		perform_commit(s);
		break;
	case ACTION_COMMIT_INLINE:
		perform_commit_inline(s, a->inline_delta);
		break;
	case ACTION_TAKE:
		perform_take(s, &a->version);
		break;
	case ACTION_STAGE:
		perform_stage(s, a);
		break;
	case ACTION_CHECK:
		perform_check(s, &a->version);
		break;
	case ACTION_COMMIT_PREPARED:
		perform_commit_prepared(s);
		break;
	case ACTION_UNPREPARE:
		perform_unprepare(s);
		break;
	case ACTION_CHANGED:
		if (s->listener.changed)
			s->listener.changed(s->listener.user);
		break;
	default:
		perform_by_link(s, a);
	}
}

static void step(void *self, const struct event *e, struct actions *actions)
{
	struct drs_slave *s = self;
	slave_step(s->core, e, actions);
}

static time_ms deadline(const void *self)
{
	const struct drs_slave *s = self;
	return slave_deadline(s->core);
}

/* --- life */

static void slave_free(void *self)
{
	struct drs_slave *s = self;
	late_end(s);
	link_free(s->link);
	resolve_free(s->resolve);
	beat_port_free(s->beats);
	slave_core_free(s->core);
	buffer_fini(&s->frame);
	buffer_fini(&s->message_storage);
	buffer_fini(&s->beat_storage);
	free(s);
}

static const struct role_ops slave_ops = { .step = step, .perform = perform, .deadline = deadline, .free = slave_free };

static int make_core(struct drs_slave *s, const struct drs_version *version)
{
	static const struct scope no_clusters;
	const struct node_config *config = node_configuration(s->node);
	struct slave_core_config core = {
		.did = s->did,
		.did_known = s->did_known,
		.ops = s->ops,
		.version = *version,
		.name = config->name,
		.clusters = &no_clusters,
		.multicast = *config->group,
		.dial_retry_ms_min = DIAL_RETRY_MS_MIN,
		.dial_retry_ms_max = DIAL_RETRY_MS_MAX,
	};
	if (getrandom(&core.seed, sizeof(core.seed), 0) != sizeof(core.seed))
		return -EIO;
	return slave_core_new(&core, node_now(), &s->core);
}

static int open_beats(struct drs_slave *s)
{
	const struct node_config *config = node_configuration(s->node);
	struct beat_options options = {
		.group = config->group,
		.interface = config->interface,
		.multicast_ttl = config->multicast_ttl,
		.listen = true,
		.heard = on_datagram,
		.user = s,
	};
	int error = beat_port_new(node_base(s->node), &options, &s->beats);
	if (error == 0 && beat_port_error(s->beats) < 0)
		log_warning("cannot join the multicast group %s: %s (trying again)", config->group, error_text(beat_port_error(s->beats)));
	return error;
}

static int slave_open(struct drs_slave *s, const struct drs_version *version)
{
	char host[256], port[8];
	int error = address_split(node_configuration(s->node)->master, host, port);
	if (error == 0)
		error = open_beats(s);
	if (error == 0)
		error = make_core(s, version);
	if (error == 0)
		error = node_take_role(s->node, (struct role){ &slave_ops, s }, 1);
	return error;
}

int drs_register_slave(struct node *node, const struct did *did, const struct drs_version *version, const struct drs_version_ops *ops,
		       const struct drs_slave_listener *listener, struct drs_slave **ret_slave)
{
	struct drs_slave *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->node = node;
	s->did_known = did != NULL;
	if (did)
		s->did = *did;
	s->ops = ops;
	s->listener = *listener;
	int error = slave_open(s, version);
	if (error < 0) {
		slave_free(s);
		return error;
	}
	*ret_slave = s;
	return 0;
}

bool node_slave_status(struct node *node, struct slave_status *ret_status)
{
	struct drs_slave *s = node_role_self(node, &slave_ops);
	if (s)
		slave_core_status(s->core, ret_status);
	return s;
}
