/*
 * What a master's core asks for, done: heartbeats sent, slaves greeted on their links, deltas streamed to them.
 *
 * A session is one link from its accept to its end:
 *
 *     GREETING --hello--> KNOWN --WELCOME--> JOINED          the core knows it from hello on
 *         |                 |                  |
 *         '----- refused ---'------------------'--> LEAVING  the last word is on its way; the core knows it no longer
 *
 * A stream is the conversation of one pull. It takes turns: frames go to the link until that is full (on at 'drained'), the source has to hear from
 * the slave first (on at the next frame), or the turn is over (on at once, after everybody else).
 *
 * Of a two phase job the node only keeps what goes along with the asking; who is asked, and what comes of it, is the core's.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drsfs/error.h"
#include "drsfs/fault.h"
#include "drsfs/log.h"
#include "drsfs/node_role.h"

#define GREETING_MAX    16 /* links beyond peers_max, that have not said hello or are leaving */
#define BACKLOG         64
#define ACCEPT_PAUSE_MS 500 /* when there are no more descriptors */
#define STREAM_TURN_MS  1
#define MINOR_TWO_PHASE 1   /* of the protocol: who speaks an older one cannot be asked */

enum session_state { SESSION_GREETING, SESSION_KNOWN, SESSION_JOINED, SESSION_LEAVING };

struct stream {
	bool open, waits_for_link;
	bool to_proposed; /* leads to the version of the job that runs */
	uint32_t request;
	void *source;
	loop_event *turn;
};

struct session {
	struct drs_master *master;
	peer_id peer;
	enum session_state state;
	struct link *link;
	struct address address; /* of the link */
	uint16_t udp_port;
	uint32_t minor;
	enum beat_path path;
	char name[NAME_TEXT_MAX];
	uint32_t request; /* the pull that 'opening' and the next two belong to */
	bool to_proposed;
	struct drs_version proposed;
	struct buffer opening;
	struct stream stream;
};

/* The two phase job that runs, from its start until JOB_DONE. */
struct job {
	bool runs;
	struct drs_version version, previous;
	struct buffer delta; /* that goes along with the asking; empty: it is pulled */
};

struct drs_master {
	struct node *node;
	struct master_core *core;
	struct drs_master_listener listener;
	const struct drs_version_ops *ops;
	struct did did;
	struct beat_port *beats;
	struct evconnlistener *door;
	loop_event *reopen;
	peer_id peer_last;
	size_t sessions_count, sessions_max;
	struct session **sessions; /* ordered by peer, which only grows */
	struct job job;
	bool announcing; /* this step's heartbeats are the first that tell a decision */

	size_t datagram_size; /* 0: no heartbeat of this step has been made yet */
	uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX];
	struct beat beat;
	struct buffer frame, storage;

	int group_error;   /* logged last */
	int refused_error; /* whom and why, logged last */
	char refused_name[NAME_TEXT_MAX];
};

/* --- sessions */

static size_t session_index(const struct drs_master *m, peer_id peer)
{
	size_t low = 0, high = m->sessions_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (m->sessions[middle]->peer < peer)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The session that the core means; NULL: its link has ended since. */
static struct session *session_find(const struct drs_master *m, peer_id peer)
{
	size_t i = session_index(m, peer);
	return i < m->sessions_count && m->sessions[i]->peer == peer && m->sessions[i]->state != SESSION_LEAVING ? m->sessions[i] : NULL;
}

static void stream_close(struct session *s)
{
	if (!s->stream.open)
		return;
	s->stream.open = false;
	event_del(s->stream.turn);
	s->master->listener.delta_close(s->master->listener.user, s->stream.source);
}

static void session_free(struct session *s)
{
	stream_close(s);
	link_free(s->link);
	if (s->stream.turn)
		event_free(s->stream.turn);
	buffer_fini(&s->opening);
	free(s);
}

static void session_remove(struct session *s)
{
	struct drs_master *m = s->master;
	size_t i = session_index(m, s->peer);
	memmove(&m->sessions[i], &m->sessions[i + 1], (m->sessions_count - i - 1) * sizeof(m->sessions[0]));
	m->sessions_count--;
	node_counted(m->node)->links = m->sessions_count;
	session_free(s);
}

static const char *path_text(enum beat_path path)
{
	return path == BEAT_BY_MULTICAST ? "multicast" : path == BEAT_BY_UNICAST ? "unicast" : "its link";
}

/* A slave that tries again and again is told of once. */
static void log_refusal(struct drs_master *m, const char *name, const struct address *from, int error)
{
	char text[ADDRESS_TEXT_MAX];
	if (m->refused_error == error && strcmp(m->refused_name, name) == 0)
		return;
	m->refused_error = error;
	strcpy(m->refused_name, name);
	address_format(from, text);
	log_warning("slave %s from %s is refused: %s", *name ? name : "?", text, error_text(error));
}

/* The last word. The core has said so, or never knew the session. */
static void session_refuse(struct session *s, int error)
{
	log_refusal(s->master, s->name, &s->address, error);
	stream_close(s);
	link_send_refuse(s->link, error, NULL);
	link_finish(s->link);
	s->state = SESSION_LEAVING;
}

/* --- heartbeats */

static void beat_make(struct drs_master *m)
{
	if (m->datagram_size > 0)
		return;
	master_beat(m->core, &m->beat);
	m->datagram_size = wire_beat_encode(&m->beat, m->datagram);
}

static void beat_count(struct drs_master *m)
{
	node_counted(m->node)->beats_sent++;
	node_counted(m->node)->beat_bytes_sent += m->datagram_size;
}

static void log_group(struct drs_master *m, int error)
{
	if (error == m->group_error || error == -EAGAIN)
		return;
	if (error < 0)
		log_warning("cannot multicast heartbeats: %s; slaves are reached one by one", error_text(error));
	else
		log_notice("multicasting heartbeats again");
	m->group_error = error;
}

static void perform_beat(struct drs_master *m)
{
	beat_make(m);
	beat_count(m);
	if (m->announcing)
		FAULT("master.announce.before");
	log_group(m, beat_send_group(m->beats, (struct slice){ m->datagram, m->datagram_size }));
	if (m->announcing)
		FAULT("master.announce.after");
}

static void beat_by_link(struct session *s)
{
	struct wire_message message = { .kind = WIRE_BEAT, .beat = s->master->beat };
	link_send_wire(s->link, &message);
}

static void perform_beat_to(struct session *s, enum beat_path path)
{
	struct drs_master *m = s->master;
	struct address to = s->address;
	if (path != BEAT_BY_LINK && s->udp_port == 0)
		return;
	beat_make(m);
	if (m->announcing)
		FAULT("master.announce_to.before");
	if (path == BEAT_BY_LINK) {
		beat_by_link(s);
	} else {
		address_set_port(&to, s->udp_port);
		beat_send_to(m->beats, &to, (struct slice){ m->datagram, m->datagram_size });
	}
	if (m->announcing)
		FAULT_SENT("master.announce_to.after", link_flush(s->link));
	beat_count(m);
}

/* --- streams */

/* The conversation ended by itself. The slave hears of it, then the core. */
static void stream_end(struct session *s, int error)
{
	uint32_t request = s->stream.request;
	stream_close(s);
	if (error < 0)
		log_info("delta for slave %s failed: %s", s->name, error_text(error));
	link_send_pull_end(s->link, request, error);
	node_raise(s->master->node, (struct event){ .kind = EVENT_STREAM_DONE, .peer = s->peer, .request = request, .error = error });
}

static void on_stream_turn(evutil_socket_t fd, short what, void *user)
{
	struct session *s = user;
	struct drs_master *m = s->master;
	time_ms start = node_now();
	(void)fd, (void)what;
	while (s->stream.open) {
		if (link_full(s->link)) {
			s->stream.waits_for_link = true;
			return;
		}
		buffer_clear(&m->frame);
		int result = m->listener.delta_next(m->listener.user, s->stream.source, &m->frame);
		if (result == -EAGAIN)
			return;
		if (result == 1 && (m->frame.failed || m->frame.size > LINK_DATA_BYTES_MAX))
			result = m->frame.failed ? -ENOMEM : -DRS_ETOOBIG;
		if (result != 1) {
			stream_end(s, result);
			return;
		}
		if (s->stream.to_proposed)
			FAULT("master.stream.before");
		link_send_data(s->link, LINK_DATA_FROM_MASTER, s->stream.request, buffer_slice(&m->frame));
		if (s->stream.to_proposed)
			FAULT_SENT("master.stream.after", link_flush(s->link));
		if (node_now() - start >= STREAM_TURN_MS) {
			event_active(s->stream.turn, EV_TIMEOUT, 0);
			return;
		}
	}
}

static bool job_is(const struct drs_master *m, const struct drs_version *version)
{
	return m->job.runs && m->ops->equal(version, &m->job.version);
}

/* Have the user make the delta that the session's last pull asks for. */
static int stream_open(struct session *s)
{
	struct drs_master *m = s->master;
	if (s->to_proposed && !job_is(m, &s->proposed))
		return -ECANCELED; /* it is decided: heartbeats tell how */
	s->stream.to_proposed = s->to_proposed;
	return m->listener.delta_open(m->listener.user, s->to_proposed ? &s->proposed : NULL, buffer_slice(&s->opening), &s->stream.source);
}

static void perform_stream(struct session *s, uint32_t request)
{
	stream_close(s);
	s->stream.request = request;
	int error = request == s->request ? stream_open(s) : -DRS_EPROTOCOL;
	buffer_clear(&s->opening);
	if (error < 0) {
		stream_end(s, error);
		return;
	}
	s->stream.open = true;
	s->stream.waits_for_link = false;
	event_active(s->stream.turn, EV_TIMEOUT, 0);
}

static int stream_feed(struct session *s, uint32_t request, struct slice frame)
{
	struct drs_master *m = s->master;
	if (!s->stream.open || request != s->stream.request)
		return 0;
	int error = m->listener.delta_feed(m->listener.user, s->stream.source, frame);
	if (error < 0)
		stream_end(s, error);
	else
		event_active(s->stream.turn, EV_TIMEOUT, 0);
	return 0;
}

/* --- what slaves say */

static int hear_hello(struct session *s, const struct wire_message *h)
{
	if (s->state != SESSION_GREETING)
		return -DRS_EPROTOCOL;
	if (h->hello.major != WIRE_MAJOR) {
		session_refuse(s, -DRS_EMAJOR);
		return 0;
	}
	strcpy(s->name, h->hello.name);
	if (h->hello.did_known && memcmp(&h->hello.did, &s->master->did, sizeof(s->master->did)) != 0) {
		session_refuse(s, -DRS_EVOLUME);
		return 0;
	}
	link_expect(s->link, 0);
	s->minor = h->hello.minor;
	s->udp_port = h->hello.udp_port;
	s->path = h->hello.path;
	s->state = SESSION_KNOWN;
	node_raise(s->master->node,
		   (struct event){
			   .kind = EVENT_HELLO, .peer = s->peer, .name = s->name, .version = h->hello.version, .path = h->hello.path });
	return 0;
}

static int hear_pull(struct session *s, const struct wire_message *p)
{
	s->request = p->pull.request;
	s->to_proposed = p->pull.to_proposed;
	s->proposed = p->pull.proposed;
	buffer_clear(&s->opening);
	buffer_add(&s->opening, p->pull.opening.data, p->pull.opening.size);
	if (s->opening.failed)
		return -ENOMEM;
	node_raise(s->master->node, (struct event){ .kind = EVENT_PULL, .peer = s->peer, .request = p->pull.request });
	return 0;
}

static int hear_report(struct session *s, const struct wire_message *r)
{
	if (r->report.path != s->path)
		log_info("slave %s hears by %s", s->name, path_text(r->report.path));
	s->path = r->report.path;
	node_raise(s->master->node,
		   (struct event){ .kind = EVENT_REPORT, .peer = s->peer, .version = r->report.version, .path = r->report.path });
	return 0;
}

/* The slave does not want the rest. */
static void hear_pull_end(struct session *s, const struct wire_message *e)
{
	if (!s->stream.open || e->pull_end.request != s->stream.request)
		return;
	stream_close(s);
	node_raise(s->master->node, (struct event){ .kind = EVENT_STREAM_DONE,
						    .peer = s->peer,
						    .request = e->pull_end.request,
						    .error = e->pull_end.error < 0 ? e->pull_end.error : -ECANCELED });
}

static int hear_answer(struct session *s, const struct wire_message *a)
{
	const char *words = *a->prepare_answer.text ? a->prepare_answer.text : error_text(a->prepare_answer.error);
	node_raise(s->master->node, (struct event){ .kind = EVENT_ANSWER,
						    .peer = s->peer,
						    .version = a->prepare_answer.version,
						    .answer = a->prepare_answer.answer,
						    .error = a->prepare_answer.error,
						    .reason = a->prepare_answer.answer == PREPARE_NAK ? words : NULL });
	return 0;
}

static int hear_message(struct session *s, const struct wire_message *message)
{
	switch (message->kind) {
	case WIRE_HELLO:
		return hear_hello(s, message);
	case WIRE_PING:
		link_send_wire(s->link, &(struct wire_message){ .kind = WIRE_PONG });
		return 0;
	case WIRE_PONG:
	case WIRE_UNKNOWN:
		return 0;
	default:
		break;
	}
	if (s->state != SESSION_JOINED)
		return -DRS_EPROTOCOL;
	switch (message->kind) {
	case WIRE_PULL:
		return hear_pull(s, message);
	case WIRE_REPORT:
		return hear_report(s, message);
	case WIRE_PREPARE_ANSWER:
		return hear_answer(s, message);
	case WIRE_PULL_END:
		hear_pull_end(s, message);
		return 0;
	default:
		return -DRS_EPROTOCOL;
	}
}

static int on_frame(void *user, enum link_frame kind, uint32_t request, struct slice body)
{
	struct session *s = user;
	struct wire_message message;
	if (s->state == SESSION_LEAVING)
		return 0;
	if (kind == LINK_DATA_FROM_SLAVE)
		return s->state == SESSION_JOINED ? stream_feed(s, request, body) : -DRS_EPROTOCOL;
	if (kind != LINK_MESSAGE)
		return -DRS_EPROTOCOL;
	int error = wire_message_decode(body, &message, &s->master->storage);
	return error < 0 ? error : hear_message(s, &message);
}

static void on_drained(void *user)
{
	struct session *s = user;
	if (!s->stream.open || !s->stream.waits_for_link)
		return;
	s->stream.waits_for_link = false;
	event_active(s->stream.turn, EV_TIMEOUT, 0);
}

static void on_quiet(void *user)
{
	struct session *s = user;
	if (s->state == SESSION_JOINED)
		link_send_wire(s->link, &(struct wire_message){ .kind = WIRE_PING });
}

static void on_down(void *user, int error)
{
	struct session *s = user;
	struct node *node = s->master->node;
	peer_id peer = s->peer;
	bool known = s->state == SESSION_KNOWN || s->state == SESSION_JOINED;
	if (s->state == SESSION_JOINED)
		log_notice("slave %s left: %s", s->name, error_text(error));
	else if (s->state != SESSION_LEAVING)
		log_info("a link that had not joined ended: %s", error_text(error));
	session_remove(s);
	if (known)
		node_raise(node, (struct event){ .kind = EVENT_LINK_DOWN, .peer = peer });
}

/* --- taking links */

static int session_open(struct session *s, int fd)
{
	struct node *node = s->master->node;
	struct link_options options = {
		.timeout_ms = node_configuration(node)->link_timeout_ms,
		.traffic = node_traffic(node),
		.user = s,
		.frame = on_frame,
		.drained = on_drained,
		.quiet = on_quiet,
		.down = on_down,
	};
	int error = link_accept(node_base(node), fd, &options, &s->link);
	if (error < 0)
		return error;
	s->stream.turn = event_new(node_base(node), -1, 0, on_stream_turn, s);
	return s->stream.turn ? 0 : -ENOMEM;
}

static void session_new(struct drs_master *m, int fd, const struct address *from)
{
	struct session *s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return;
	}
	s->master = m;
	s->peer = ++m->peer_last;
	s->address = *from;
	if (session_open(s, fd) < 0) {
		session_free(s);
		return;
	}
	link_expect(s->link, HELLO_MS_MAX);
	m->sessions[m->sessions_count++] = s;
	node_counted(m->node)->links = m->sessions_count;
}

static void on_accept(struct evconnlistener *door, evutil_socket_t fd, struct sockaddr *from, int from_size, void *user)
{
	struct drs_master *m = user;
	struct address address = { .size = (socklen_t)from_size };
	(void)door;
	memcpy(&address.storage, from, (size_t)from_size);
	if (m->sessions_count == m->sessions_max)
		close(fd); /* too many strangers at once: come again */
	else
		session_new(m, fd, &address);
}

/* No descriptors, most likely: what waits at the door would wake us again and again. */
static void on_accept_error(struct evconnlistener *door, void *user)
{
	struct drs_master *m = user;
	struct timeval later = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
	log_warning("cannot take links for now: %s", strerror(errno));
	evconnlistener_disable(door);
	event_add(m->reopen, &later);
}

static void on_reopen(evutil_socket_t fd, short what, void *user)
{
	struct drs_master *m = user;
	(void)fd, (void)what;
	evconnlistener_enable(m->door);
}

/* --- performing */

static int send_welcome(struct session *s, const struct drs_version *version)
{
	struct drs_master *m = s->master;
	struct wire_message welcome = { .kind = WIRE_WELCOME };
	buffer_clear(&m->storage);
	int error = m->listener.admit(m->listener.user, s->name, &m->storage);
	if (error == 0 && (m->storage.failed || m->storage.size > WIRE_CREDENTIALS_BYTES_MAX))
		error = -DRS_ETOOBIG;
	if (error < 0)
		return error;
	welcome.welcome.did = m->did;
	welcome.welcome.credentials = buffer_slice(&m->storage);
	welcome.welcome.version = *version;
	welcome.welcome.incarnation = node_configuration(m->node)->incarnation;
	welcome.welcome.interval_ms = node_configuration(m->node)->beat_interval_ms;
	link_send_wire(s->link, &welcome);
	return 0;
}

static void perform_welcome(struct session *s, const struct drs_version *version)
{
	char from[ADDRESS_TEXT_MAX];
	int error = send_welcome(s, version);
	if (error < 0) {
		session_refuse(s, error);
		node_raise(s->master->node, (struct event){ .kind = EVENT_LINK_DOWN, .peer = s->peer });
		return;
	}
	s->state = SESSION_JOINED;
	s->master->refused_error = 0;
	address_format(&s->address, from);
	log_notice("slave %s joined from %s", s->name, from);
}

static void perform_store(struct drs_master *m, const struct drs_version *version)
{
	int error = m->listener.store_version(m->listener.user, version);
	if (error < 0)
		log_error("cannot store the new version's number: %s", error_text(error));
	node_raise(m->node, (struct event){ .kind = error < 0 ? EVENT_FAILED : EVENT_STORED, .error = error, .version = *version });
}

/* --- two phase */

static void start(void *self, const struct drs_job *job, struct slice inline_delta)
{
	struct drs_master *m = self;
	if (job_is(m, &job->version)) {
		m->listener.two_phase_done(m->listener.user, &job->version, -EBUSY);
		return;
	}
	if (!m->job.runs) {
		m->job.runs = true;
		m->job.version = job->version;
		m->job.previous = job->previous;
		buffer_clear(&m->job.delta);
		buffer_add(&m->job.delta, inline_delta.data, inline_delta.size);
		if (m->job.delta.failed)
			buffer_clear(&m->job.delta);
	}
	node_raise(m->node, (struct event){ .kind = EVENT_START, .job = job, .inline_delta = inline_delta });
}

/* It would pass over the question and never answer. */
static void answer_for_old(struct session *s, const struct drs_version *version)
{
	node_raise(s->master->node, (struct event){ .kind = EVENT_ANSWER,
						    .peer = s->peer,
						    .version = *version,
						    .answer = PREPARE_NAK,
						    .error = -EOPNOTSUPP,
						    .reason = "its program is too old for two phase" });
}

static void perform_prepare(struct session *s, const struct action *a)
{
	struct job *job = &s->master->job;
	struct wire_message m = { .kind = WIRE_PREPARE };
	if (s->minor < MINOR_TWO_PHASE) {
		answer_for_old(s, &a->version);
		return;
	}
	assert(job_is(s->master, &a->version));
	m.prepare.version = a->version;
	m.prepare.previous = job->previous;
	m.prepare.timeout_ms = a->timeout_ms;
	m.prepare.inline_delta = buffer_slice(&job->delta);
	FAULT("master.prepare.before");
	link_send_wire(s->link, &m);
	FAULT_SENT("master.prepare.after", link_flush(s->link));
}

static void perform_decide(struct drs_master *m, const struct action *a)
{
	FAULT("master.decide.before");
	m->listener.decide(m->listener.user, &a->version, a->commit);
}

void drs_decided(struct drs_master *m, const struct drs_version *version, int error)
{
	FAULT("master.decide.after");
	if (error < 0)
		log_error("the decision about a version cannot be stored: %s", error_text(error));
	node_raise(m->node, (struct event){ .kind = EVENT_DECIDED, .version = *version, .error = error });
}

/* Why it failed, slave by slave. */
static void log_failed_job(struct drs_master *m, const struct drs_version *version, int error)
{
	const struct drs_vote *votes;
	size_t count = master_votes(m->core, &votes);
	char number[40], words[DRS_REASON_BYTES_MAX];
	m->ops->format(version, number);
	log_notice("version %s is aborted: %s", number, error_text(error));
	for (size_t i = 0; i < count; i++) {
		if (votes[i].answer != DRS_REFUSED)
			continue;
		wire_text(votes[i].reason, false, words, sizeof(words));
		log_notice("version %s is refused by slave %s: %s", number, votes[i].name, words);
	}
}

static void perform_job_done(struct drs_master *m, const struct drs_version *version, int error)
{
	bool ran = job_is(m, version);
	if (ran && error < 0)
		log_failed_job(m, version, error);
	m->listener.two_phase_done(m->listener.user, version, error);
	if (!ran)
		return;
	m->job.runs = false;
	buffer_fini(&m->job.delta);
}

/* --- what the core asks for */

static void perform_for(struct session *s, const struct action *a)
{
	switch (a->kind) {
	case ACTION_BEAT_TO:
		perform_beat_to(s, a->path);
		break;
	case ACTION_WELCOME:
		perform_welcome(s, &a->version);
		break;
	case ACTION_REFUSE:
		session_refuse(s, a->error);
		break;
	case ACTION_HANG_UP:
		session_remove(s);
		break;
	case ACTION_PREPARE:
		perform_prepare(s, a);
		break;
	case ACTION_STREAM:
		perform_stream(s, a->request);
		break;
	case ACTION_STREAM_STOP:
		if (a->request == s->stream.request)
			stream_close(s);
		break;
	default:
		assert(!"an action of a slave");
	}
}

static void perform(void *self, const struct action *a)
{
	struct drs_master *m = self;
	struct session *s;
	switch (a->kind) {
	case ACTION_STORE:
		perform_store(m, &a->version);
		break;
	case ACTION_BEAT:
		perform_beat(m);
		break;
	case ACTION_DECIDE:
		perform_decide(m, a);
		break;
	case ACTION_VOTED:
		if (m->listener.voted)
			m->listener.voted(m->listener.user);
		break;
	case ACTION_JOB_DONE:
		perform_job_done(m, &a->version, a->error);
		break;
	default:
		s = session_find(m, a->peer);
		if (s)
			perform_for(s, a);
	}
}

static void step(void *self, const struct event *e, struct actions *actions)
{
	struct drs_master *m = self;
	m->datagram_size = 0;
	m->announcing = e->kind == EVENT_DECIDED;
	master_step(m->core, e, actions);
}

static time_ms deadline(const void *self)
{
	const struct drs_master *m = self;
	return master_deadline(m->core);
}

/* --- life */

static void master_free(void *self)
{
	struct drs_master *m = self;
	for (size_t i = 0; i < m->sessions_count; i++)
		session_free(m->sessions[i]);
	free(m->sessions);
	if (m->door)
		evconnlistener_free(m->door);
	if (m->reopen)
		event_free(m->reopen);
	beat_port_free(m->beats);
	master_core_free(m->core);
	buffer_fini(&m->job.delta);
	buffer_fini(&m->frame);
	buffer_fini(&m->storage);
	free(m);
}

static const struct role_ops master_ops = { .step = step, .perform = perform, .deadline = deadline, .start = start, .free = master_free };

static int open_door(struct drs_master *m, const char *listen)
{
	struct address address;
	struct event_base *base = node_base(m->node);
	if (address_parse(listen, &address) < 0)
		return -EINVAL;
	m->reopen = event_new(base, -1, 0, on_reopen, m);
	if (!m->reopen)
		return -ENOMEM;
	m->door = evconnlistener_new_bind(base, on_accept, m, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, BACKLOG,
					  &address.any, (int)address.size);
	if (!m->door)
		return errno ? -errno : -EADDRNOTAVAIL;
	evconnlistener_set_error_cb(m->door, on_accept_error);
	address.size = sizeof(address.storage);
	if (getsockname(evconnlistener_get_fd(m->door), &address.any, &address.size) < 0)
		return -errno;
	node_set_link_port(m->node, address_port(&address));
	return 0;
}

static int make_core(struct drs_master *m, const struct drs_version *version)
{
	const struct node_config *config = node_configuration(m->node);
	struct master_core_config core = {
		.did = m->did,
		.ops = m->ops,
		.version = *version,
		.incarnation = config->incarnation,
		.link_port = node_link_port(m->node),
		.beat_interval_ms = config->beat_interval_ms,
		.window_beats = config->window_beats,
		.peers_max = config->peers_max,
		.peer_silence_ms = config->link_timeout_ms,
		.multicast = *config->group,
	};
	return master_core_new(&core, node_now(), &m->core);
}

static int open_beats(struct drs_master *m)
{
	const struct node_config *config = node_configuration(m->node);
	struct beat_options options = { .group = config->group, .interface = config->interface, .multicast_ttl = config->multicast_ttl };
	return beat_port_new(node_base(m->node), &options, &m->beats);
}

static int master_open(struct drs_master *m, const struct drs_version *version)
{
	const struct node_config *config = node_configuration(m->node);
	m->sessions_max = (size_t)config->peers_max + GREETING_MAX;
	m->sessions = calloc(m->sessions_max, sizeof(*m->sessions));
	if (!m->sessions)
		return -ENOMEM;
	int error = open_door(m, config->listen);
	if (error == 0)
		error = open_beats(m);
	if (error == 0)
		error = make_core(m, version);
	if (error == 0)
		error = node_take_role(m->node, (struct role){ &master_ops, m }, m->sessions_max);
	return error;
}

int drs_register_master(struct node *node, const struct did *did, const struct drs_version *version, const struct drs_version_ops *ops,
			const struct drs_master_listener *listener, struct drs_master **ret_master)
{
	struct drs_master *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->node = node;
	m->did = *did;
	m->ops = ops;
	m->listener = *listener;
	int error = master_open(m, version);
	if (error < 0) {
		master_free(m);
		return error;
	}
	*ret_master = m;
	return 0;
}

int drs_start_one_phase(struct drs_master *m, const struct drs_version *version, const struct scope *scope, struct slice inline_delta)
{
	return node_post_update(m->node, version, scope, inline_delta);
}

int drs_start_two_phase(struct drs_master *m, const struct drs_job *job, struct slice inline_delta)
{
	if (!m->listener.decide || !m->listener.two_phase_done || job->timeout_ms == 0 || !m->ops->greater(&job->version, &job->previous))
		return -EINVAL;
	return node_post_job(m->node, job, inline_delta.size <= DRS_PREPARE_BYTES_MAX ? inline_delta : (struct slice){ 0 });
}

int drs_cancel_two_phase(struct drs_master *m, const struct drs_version *version)
{
	if (!master_job_cancellable(m->core, version))
		return -ENOENT;
	node_raise(m->node, (struct event){ .kind = EVENT_CANCEL, .version = *version });
	return 0;
}

size_t drs_votes(struct drs_master *m, const struct drs_vote **ret_votes)
{
	return master_votes(m->core, ret_votes);
}

int drs_add_member(struct drs_master *m, const char *name)
{
	return wire_name_valid(name) ? master_add_member(m->core, name, NULL) : -EINVAL;
}

int drs_remove_member(struct drs_master *m, const char *name)
{
	return master_remove_member(m->core, name);
}

void drs_tell_aborted(struct drs_master *m, const struct drs_version *version)
{
	master_tell_aborted(m->core, version);
}

size_t node_members(struct node *node, const struct member **ret_members)
{
	struct drs_master *m = node_role_self(node, &master_ops);
	*ret_members = NULL;
	return m ? master_members(m->core, ret_members) : 0;
}
