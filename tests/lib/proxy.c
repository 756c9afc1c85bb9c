/*
 * A bad network on one machine: stands between masters and slaves and loses, repeats, delays, reorders and cuts what passes, from a seed.
 *
 *   proxy [--seed N] [options] --udp FROM:TO ... --tcp FROM:TO ...
 *
 *     --udp FROM:TO        datagrams that come to FROM are sent on to TO; FROM and TO are ADDRESS/PORT. If FROM is a multicast group it is joined, on
 *                          --interface; if TO is one, they are multicast there: so a master on one group reaches slaves on another only through here
 *     --tcp FROM:TO        connections to FROM are carried on to TO
 *     --loss F             so great a part of the datagrams is lost (0 to 1)
 *     --dup F              so great a part is sent twice
 *     --reorder F          so great a part is held back by up to --reorder-ms (50) more
 *     --delay MS           everything, both ways of TCP too, comes so much later
 *     --jitter MS          and up to so much later yet (datagrams)
 *     --cut MS             each TCP connection is cut, in both directions at once, after a random time around MS
 *     --stall F            of the cut ones, so great a part is not closed but goes silent (half open) for ten times MS
 *     --down MS            after a cut, connections are refused for up to so long
 *     --interface ADDRESS  for multicast (127.0.0.1)
 *
 *   It prints "ready" when it listens, and its counts at SIGTERM or SIGINT. The random sequence follows from the seed; what it meets does not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUTES_MAX         16
#define DATAGRAM_BYTES_MAX 65536
#define CARRY_BYTES_MAX    (1 << 20)

struct options {
	uint64_t seed;
	double loss, dup, reorder, stall;
	unsigned reorder_ms, delay_ms, jitter_ms, cut_ms, down_ms;
	struct in_addr interface;
};

struct route {
	struct sockaddr_in from, to;
	int fd;
};

static struct options options = { .seed = 1, .reorder_ms = 50, .interface = { 0 } };
static struct route routes[2 * ROUTES_MAX];
static size_t routes_count;
static struct event_base *base;
static uint64_t dice;
static struct {
	unsigned long passed, lost, repeated, delayed, connections, cut;
} counts;

static __attribute__((noreturn)) void die(const char *what)
{
	perror(what);
	exit(1);
}

/* splitmix64 */
static uint64_t roll(void)
{
	uint64_t z = dice += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static bool chance(double part)
{
	return (double)(roll() >> 11) / (double)(1ull << 53) < part;
}

static unsigned below(unsigned limit)
{
	return limit ? (unsigned)(roll() % limit) : 0;
}

static struct timeval ms(unsigned n)
{
	return (struct timeval){ .tv_sec = n / 1000, .tv_usec = n % 1000 * 1000 };
}

/* --- datagrams */

struct datagram {
	const struct route *route;
	struct event *due;
	size_t size;
	uint8_t bytes[];
};

static void send_on(const struct route *r, const void *bytes, size_t size)
{
	counts.passed++;
	sendto(r->fd, bytes, size, 0, (const struct sockaddr *)&r->to, sizeof(r->to));
}

static void on_due(evutil_socket_t fd, short what, void *user)
{
	struct datagram *d = user;
	(void)fd, (void)what;
	send_on(d->route, d->bytes, d->size);
	event_free(d->due);
	free(d);
}

static void send_later(const struct route *r, const void *bytes, size_t size, unsigned after_ms)
{
	struct timeval tv = ms(after_ms);
	struct datagram *d = malloc(sizeof(*d) + size);
	if (!d)
		return;
	d->route = r;
	d->size = size;
	memcpy(d->bytes, bytes, size);
	d->due = evtimer_new(base, on_due, d);
	event_add(d->due, &tv);
}

static void on_datagram(evutil_socket_t fd, short what, void *user)
{
	static uint8_t bytes[DATAGRAM_BYTES_MAX];
	const struct route *r = user;
	ssize_t size = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	(void)what;
	if (size < 0)
		return;
	if (chance(options.loss)) {
		counts.lost++;
		return;
	}
	bool twice = chance(options.dup);
	counts.repeated += twice;
	for (int copies = twice ? 2 : 1; copies > 0; copies--) {
		unsigned after = options.delay_ms + below(options.jitter_ms);
		if (chance(options.reorder))
			after += 1 + below(options.reorder_ms);
		counts.delayed += after > 0;
		if (after > 0)
			send_later(r, bytes, (size_t)size, after);
		else
			send_on(r, bytes, (size_t)size);
	}
}

static bool is_group(const struct sockaddr_in *a)
{
	return IN_MULTICAST(ntohl(a->sin_addr.s_addr));
}

static void open_udp(struct route *r)
{
	int on = 1;
	r->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	setsockopt(r->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(r->fd, IPPROTO_IP, IP_MULTICAST_IF, &options.interface, sizeof(options.interface));
	if (bind(r->fd, (struct sockaddr *)&r->from, sizeof(r->from)) < 0)
		die("bind");
	struct ip_mreq join = { r->from.sin_addr, options.interface };
	if (is_group(&r->from) && setsockopt(r->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)) < 0)
		die("join");
	event_add(event_new(base, r->fd, EV_READ | EV_PERSIST, on_datagram, r), NULL);
}

/* --- connections */

struct carry;

/* One direction: what comes from 'in' waits in the other side's output, or in 'held' until it is due. */
struct side {
	struct carry *carry;
	struct bufferevent *stream;
	struct side *other;
	struct evbuffer *held;
	struct event *due;
};

struct carry {
	struct side sides[2];
	struct event *cut;
	bool stalled;
};

static bool refusing;
static struct event *accept_again;

static void carry_free(struct carry *c)
{
	for (int i = 0; i < 2; i++) {
		event_free(c->sides[i].due);
		evbuffer_free(c->sides[i].held);
		bufferevent_free(c->sides[i].stream);
	}
	event_free(c->cut);
	free(c);
}

static void pass(struct side *s)
{
	bufferevent_write_buffer(s->other->stream, s->held);
}

static void on_side_due(evutil_socket_t fd, short what, void *user)
{
	(void)fd, (void)what;
	pass(user);
}

/* Back-pressure passes through: a side whose other side is full is not read. */
static void on_side_read(struct bufferevent *stream, void *user)
{
	struct side *s = user;
	if (s->carry->stalled)
		return;
	evbuffer_add_buffer(s->held, bufferevent_get_input(stream));
	struct timeval tv = ms(options.delay_ms);
	if (options.delay_ms == 0)
		pass(s);
	else if (!event_pending(s->due, EV_TIMEOUT, NULL))
		event_add(s->due, &tv);
	if (evbuffer_get_length(bufferevent_get_output(s->other->stream)) > CARRY_BYTES_MAX)
		bufferevent_disable(stream, EV_READ);
}

static void on_side_written(struct bufferevent *stream, void *user)
{
	struct side *s = user;
	(void)stream;
	if (!s->carry->stalled)
		bufferevent_enable(s->other->stream, EV_READ);
}

static void on_side_event(struct bufferevent *stream, short what, void *user)
{
	struct side *s = user;
	(void)stream;
	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
		return;
	pass(s);
	/* The last words still go out, as far as they can at once. */
	evbuffer_unfreeze(bufferevent_get_output(s->other->stream), 1);
	evbuffer_write(bufferevent_get_output(s->other->stream), bufferevent_getfd(s->other->stream));
	carry_free(s->carry);
}

static void refuse_for_a_while(void)
{
	struct timeval tv = ms(1 + below(options.down_ms));
	if (options.down_ms == 0)
		return;
	refusing = true;
	event_add(accept_again, &tv);
}

static void on_accept_again(evutil_socket_t fd, short what, void *user)
{
	(void)fd, (void)what, (void)user;
	refusing = false;
}

static void on_cut(evutil_socket_t fd, short what, void *user)
{
	struct carry *c = user;
	(void)fd, (void)what;
	if (!c->stalled)
		counts.cut++;
	refuse_for_a_while();
	if (!c->stalled && chance(options.stall)) {
		struct timeval tv = ms(10 * options.cut_ms);
		c->stalled = true;
		for (int i = 0; i < 2; i++)
			bufferevent_disable(c->sides[i].stream, EV_READ | EV_WRITE);
		event_add(c->cut, &tv);
		return;
	}
	carry_free(c);
}

static void side_init(struct carry *c, int i, int fd)
{
	struct side *s = &c->sides[i];
	s->carry = c;
	s->other = &c->sides[!i];
	s->held = evbuffer_new();
	s->due = evtimer_new(base, on_side_due, s);
	s->stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(s->stream, on_side_read, on_side_written, on_side_event, s);
	bufferevent_setwatermark(s->stream, EV_READ, 0, CARRY_BYTES_MAX);
}

static void on_connection(struct evconnlistener *door, evutil_socket_t fd, struct sockaddr *from, int size, void *user)
{
	const struct route *r = user;
	(void)door, (void)from, (void)size;
	if (refusing) {
		close(fd);
		return;
	}
	counts.connections++;
	struct carry *c = calloc(1, sizeof(*c));
	c->cut = evtimer_new(base, on_cut, c);
	side_init(c, 0, fd);
	side_init(c, 1, -1);
	if (bufferevent_socket_connect(c->sides[1].stream, (struct sockaddr *)&r->to, sizeof(r->to)) < 0) {
		carry_free(c);
		return;
	}
	for (int i = 0; i < 2; i++)
		bufferevent_enable(c->sides[i].stream, EV_READ | EV_WRITE);
	struct timeval tv = ms(options.cut_ms / 2 + below(options.cut_ms + 1));
	if (options.cut_ms)
		event_add(c->cut, &tv);
}

static void open_tcp(struct route *r)
{
	if (!evconnlistener_new_bind(base, on_connection, r, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 64, (struct sockaddr *)&r->from,
				     sizeof(r->from)))
		die("listen");
}

/* --- the command line */

static bool parse_end(const char *text, struct sockaddr_in *ret)
{
	char host[64];
	unsigned port;
	if (sscanf(text, "%63[^/]/%u", host, &port) != 2 || port > UINT16_MAX)
		return false;
	*ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	return inet_pton(AF_INET, host, &ret->sin_addr) == 1;
}

static struct route *parse_route(char *text)
{
	char *colon = strchr(text, ':');
	if (!colon || routes_count == ROUTES_MAX)
		return NULL;
	*colon = 0;
	struct route *r = &routes[routes_count++];
	return parse_end(text, &r->from) && parse_end(colon + 1, &r->to) ? r : NULL;
}

static const struct option flags[] = {
	{ "seed", 1, NULL, 's' },       { "loss", 1, NULL, 'l' },
	{ "dup", 1, NULL, 'd' },        { "reorder", 1, NULL, 'r' },
	{ "reorder-ms", 1, NULL, 'R' }, { "delay", 1, NULL, 'D' },
	{ "jitter", 1, NULL, 'j' },     { "cut", 1, NULL, 'c' },
	{ "stall", 1, NULL, 'S' },      { "down", 1, NULL, 'w' },
	{ "interface", 1, NULL, 'i' },  { "udp", 1, NULL, 'u' },
	{ "tcp", 1, NULL, 't' },        { 0 },
};

static bool take_flag(int flag)
{
	struct route *r;
	switch (flag) {
	case 's':
		options.seed = strtoull(optarg, NULL, 0);
		return true;
	case 'l':
		options.loss = atof(optarg);
		return true;
	case 'd':
		options.dup = atof(optarg);
		return true;
	case 'r':
		options.reorder = atof(optarg);
		return true;
	case 'R':
		options.reorder_ms = (unsigned)atoi(optarg);
		return true;
	case 'D':
		options.delay_ms = (unsigned)atoi(optarg);
		return true;
	case 'j':
		options.jitter_ms = (unsigned)atoi(optarg);
		return true;
	case 'c':
		options.cut_ms = (unsigned)atoi(optarg);
		return true;
	case 'S':
		options.stall = atof(optarg);
		return true;
	case 'w':
		options.down_ms = (unsigned)atoi(optarg);
		return true;
	case 'i':
		return inet_pton(AF_INET, optarg, &options.interface) == 1;
	case 'u':
		r = parse_route(optarg);
		if (r)
			r->fd = SOCK_DGRAM;
		return r;
	case 't':
		r = parse_route(optarg);
		if (r)
			r->fd = SOCK_STREAM;
		return r;
	default:
		return false;
	}
}

static void on_end(evutil_socket_t number, short what, void *user)
{
	(void)number, (void)what, (void)user;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	int flag;
	inet_pton(AF_INET, "127.0.0.1", &options.interface);
	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		if (!take_flag(flag)) {
			fprintf(stderr, "usage: proxy [--seed N] [--loss F] ... --udp ADDRESS/PORT:ADDRESS/PORT --tcp "
					"ADDRESS/PORT:ADDRESS/PORT (see its source)\n");
			return 2;
		}
	dice = options.seed;
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	accept_again = evtimer_new(base, on_accept_again, NULL);
	for (size_t i = 0; i < routes_count; i++) {
		if (routes[i].fd == SOCK_DGRAM)
			open_udp(&routes[i]);
		else
			open_tcp(&routes[i]);
	}
	event_add(evsignal_new(base, SIGTERM, on_end, NULL), NULL);
	event_add(evsignal_new(base, SIGINT, on_end, NULL), NULL);
	printf("ready\n");
	fflush(stdout);
	event_base_dispatch(base);
	printf("datagrams: %lu passed, %lu lost, %lu repeated, %lu delayed; connections: %lu, %lu cut\n", counts.passed, counts.lost,
	       counts.repeated, counts.delayed, counts.connections, counts.cut);
	return 0;
}
