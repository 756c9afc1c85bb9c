/*
 * Peers that are not what they should be, played by this test over a bare socket: strangers, garbage, links that are half open, slaves that do not read. The node
 * must end their links in time, close what it opened for them, and serve the others meanwhile (R3.3, F8).
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <poll.h>

#include "drsfs/address.h"
#include "drsfs/wire.h"
#include "tests/lib/map_user.h"

static struct map_master master;
static struct node_config config;

static void start(unsigned salt, size_t bytes)
{
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&config, "hub", 100 + salt);
	config.link_timeout_ms = 600;
	config.peers_max = 4;
	master = (struct map_master){ .bytes = bytes };
	map_master_start(&master, &config);
}

/* A well-behaved slave has to get on with it whatever the others do. */
static void stop_after_serving(void)
{
	struct map_slave slave = { 0 };
	struct node_config slave_config;
	map_config(&slave_config, "good", 1);
	strcpy(slave_config.group, config.group);
	map_point_at(&slave_config, node_link_port(master.node));
	map_slave_start(&slave, &slave_config);
	map_update(&master, true);
	cr_assert(map_wait_version(&slave.version, master.version, 5000));
	map_slave_stop(&slave);
	free(slave.map);
	map_master_stop(&master);
	cr_assert(eq(uint, master.opened, master.closed));
}

/* --- a slave's side of a link, by hand */

static int dial(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(node_link_port(master.node)),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(zero(int, connect(fd, (struct sockaddr *)&to, sizeof(to))));
	return fd;
}

static void say(int fd, const struct wire_message *m)
{
	struct buffer message = BUFFER_INIT, frame = BUFFER_INIT;
	wire_message_encode(m, &message);
	buffer_add_be32(&frame, (uint32_t)message.size + 1);
	buffer_add_u8(&frame, 1);
	buffer_add(&frame, message.data, message.size);
	cr_assert(eq(long, write(fd, frame.data, frame.size), (long)frame.size));
	buffer_fini(&message);
	buffer_fini(&frame);
}

static struct wire_message hello(const char *name)
{
	struct wire_message m = { .kind = WIRE_HELLO };
	m.hello.major = WIRE_MAJOR;
	m.hello.path = BEAT_BY_LINK;
	strcpy(m.hello.name, name);
	return m;
}

static bool read_all(int fd, void *to, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, (char *)to + at, size - at);
		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* The next frame: its kind, 0 at the end of the link. Messages are decoded. */
static uint8_t next_frame(int fd, struct wire_message *ret_message, struct buffer *body, struct buffer *storage)
{
	uint8_t head[5];
	if (!read_all(fd, head, sizeof(head)))
		return 0;
	buffer_clear(body);
	size_t size = ((size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]) - 1;
	cr_assert(le(sz, size, 1 << 20));
	if (!read_all(fd, buffer_grow(body, size), size))
		return 0;
	if (head[4] == 1)
		cr_assert(zero(int, wire_message_decode(buffer_slice(body), ret_message, storage)));
	return head[4];
}

/* Reads until a message of this kind; false: the link ended before. */
static bool hear(int fd, enum wire_kind kind, struct wire_message *m)
{
	struct buffer body = BUFFER_INIT, storage = BUFFER_INIT;
	uint8_t frame;
	bool heard = false;
	while (!heard && (frame = next_frame(fd, m, &body, &storage)))
		heard = frame == 1 && m->kind == kind;
	buffer_fini(&body);
	buffer_fini(&storage);
	return heard;
}

/* The master closes the link within so many ms; whatever it says before is passed over. */
static bool closed_within(int fd, int ms)
{
	char bytes[65536];
	for (time_ms until = node_now() + ms; node_now() < until;) {
		struct pollfd p = { fd, POLLIN, 0 };
		if (poll(&p, 1, (int)(until - node_now())) == 1 && read(fd, bytes, sizeof(bytes)) <= 0)
			return true;
	}
	return false;
}

static bool breaks_link(const void *bytes, size_t size)
{
	int fd = dial();
	cr_assert(eq(long, write(fd, bytes, size), (long)size));
	bool closed = closed_within(fd, 2000);
	close(fd);
	return closed;
}

Test(node_hostile, garbage_and_oversize_frames)
{
	static const uint8_t oversize[] = { 0, 0x10, 0, 1, 1 }, empty[] = { 0, 0, 0, 0 }, bad[] = { 0, 0, 0, 4, 1, 0xff, 0xff, 0xff };
	static const uint8_t data_before_hello[] = { 0, 0, 0, 6, 3, 0, 0, 0, 1, 'x' }, cut_data[] = { 0, 0, 0, 2, 3, 0 };
	static const uint8_t unknown_kind[] = { 0, 0, 0, 2, 77, 0 };
	start(1, 100);
	cr_assert(breaks_link("GET / HTTP/1.0\r\n\r\n", 18));
	cr_assert(breaks_link(oversize, sizeof(oversize)));
	cr_assert(breaks_link(empty, sizeof(empty)));
	cr_assert(breaks_link(bad, sizeof(bad)));
	cr_assert(breaks_link(data_before_hello, sizeof(data_before_hello)));
	cr_assert(breaks_link(cut_data, sizeof(cut_data)));
	int fd = dial();
	cr_assert(eq(long, write(fd, unknown_kind, sizeof(unknown_kind)), (long)sizeof(unknown_kind)));
	struct wire_message m = hello("newer"), answer;
	say(fd, &m);
	cr_assert(hear(fd, WIRE_WELCOME, &answer), "a frame of a newer minor version is passed over");
	close(fd);
	stop_after_serving();
}

Test(node_hostile, random_bytes_after_hello)
{
	start(2, 100);
	srand(7);
	for (int round = 0; round < 200; round++) {
		uint8_t bytes[300];
		struct wire_message m = hello("noise");
		int fd = dial();
		say(fd, &m);
		size_t size = (size_t)rand() % sizeof(bytes);
		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)(rand() % 3 ? rand() : rand() % 4);
		if (rand() % 2)
			memcpy(bytes, (uint8_t[]){ 0, 0, 0, (uint8_t)(rand() % 40 + 1), (uint8_t)(rand() % 3 + 1) }, 5);
		if (send(fd, bytes, size, MSG_NOSIGNAL) < 0 && errno != EPIPE)
			cr_assert(eq(int, errno, ECONNRESET));
		close(fd);
	}
	stop_after_serving();
}

Test(node_hostile, another_major_is_refused)
{
	struct wire_message m = hello("future"), answer;
	start(3, 100);
	int fd = dial();
	m.hello.major = 2;
	say(fd, &m);
	cr_assert(hear(fd, WIRE_REFUSE, &answer));
	cr_assert(eq(int, answer.refuse.error, -DRS_EMAJOR));
	cr_assert(strstr(answer.refuse.text, "version") != NULL);
	cr_assert(closed_within(fd, 1000));
	close(fd);
	stop_after_serving();
}

Test(node_hostile, another_volume_is_refused)
{
	struct wire_message m = hello("other"), answer;
	start(4, 100);
	int fd = dial();
	m.hello.did_known = true;
	m.hello.did = (struct did){ { 66 } };
	say(fd, &m);
	cr_assert(hear(fd, WIRE_REFUSE, &answer));
	cr_assert(eq(int, answer.refuse.error, -DRS_EVOLUME));
	close(fd);
	stop_after_serving();
}

Test(node_hostile, user_does_not_admit)
{
	struct wire_message m = hello("unwanted"), answer;
	start(5, 100);
	int fd = dial();
	say(fd, &m);
	cr_assert(hear(fd, WIRE_REFUSE, &answer));
	cr_assert(closed_within(fd, 1000));
	close(fd);
	stop_after_serving();
}

/* The newest link of a name wins; the old one is told. */
Test(node_hostile, same_name_twice)
{
	struct wire_message m = hello("twin"), answer;
	start(6, 100);
	int first = dial(), second;
	say(first, &m);
	cr_assert(hear(first, WIRE_WELCOME, &answer));
	second = dial();
	say(second, &m);
	cr_assert(hear(second, WIRE_WELCOME, &answer));
	cr_assert(hear(first, WIRE_REFUSE, &answer));
	cr_assert(closed_within(first, 1000));
	close(first);
	close(second);
	stop_after_serving();
}

Test(node_hostile, too_many_slaves)
{
	struct wire_message answer;
	int fds[40];
	start(7, 100);
	for (int i = 0; i < 5; i++) {
		char name[32];
		snprintf(name, sizeof(name), "slave-%d", i);
		struct wire_message m = hello(name);
		fds[i] = dial();
		say(fds[i], &m);
		cr_assert(hear(fds[i], i < 4 ? WIRE_WELCOME : WIRE_REFUSE, &answer));
	}
	for (int i = 5; i < 40; i++)
		fds[i] = dial(); /* strangers who say nothing */
	cr_assert(closed_within(fds[39], 1000), "no room for so many");
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	usleep(50000);
	stop_after_serving();
}

/* Half open: connected and silent, and joined but gone. */
Test(node_hostile, silence)
{
	struct wire_message m = hello("silent"), answer;
	start(8, 100);
	int stranger = dial(), joined = dial();
	time_ms before = node_now();
	say(joined, &m);
	cr_assert(hear(joined, WIRE_WELCOME, &answer));
	cr_assert(hear(joined, WIRE_PING, &answer), "it asks after half of the timeout");
	cr_assert(ge(long, (long)(node_now() - before), 250));
	cr_assert(closed_within(joined, 1000));
	cr_assert(closed_within(stranger, 1000));
	close(joined);
	close(stranger);
	stop_after_serving();
}

/* A stranger that keeps talking without ever saying hello. */
Test(node_hostile, no_hello)
{
	struct wire_message ping = { .kind = WIRE_PING };
	bool closed = false;
	start(9, 100);
	int fd = dial();
	time_ms before = node_now();
	while (!closed && node_now() - before < 7000) {
		say(fd, &ping);
		closed = closed_within(fd, 100);
		if (node_now() - before > 4500 && !closed)
			closed = closed_within(fd, 1500);
	}
	cr_assert(closed);
	cr_assert(lt(long, (long)(node_now() - before), 6500));
	close(fd);
	stop_after_serving();
}

/* A slave that asks and does not read: the stream stops at the link's ceiling, memory does not grow, others are served; then it reads on. */
Test(node_hostile, back_pressure)
{
	struct wire_message m = hello("slow"), answer;
	struct wire_message pull = { .kind = WIRE_PULL, .pull = { .request = 1, .opening = { "123456789", 9 } } };
	struct buffer body = BUFFER_INIT, storage = BUFFER_INIT;
	size_t got = 0;
	start(10, (size_t)40 << 20);
	master.version = 1;
	int fd = dial();
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 65536 }, sizeof(int));
	say(fd, &m);
	cr_assert(hear(fd, WIRE_WELCOME, &answer));
	say(fd, &pull);
	usleep(300000);
	cr_assert(lt(uint, master.frames, 140), "stopped after %u frames of %zu", (unsigned)master.frames, MAP_FRAME_BYTES);
	while (got < master.bytes) {
		uint8_t kind = next_frame(fd, &answer, &body, &storage);
		cr_assert(gt(u8, kind, 0));
		if (kind == 2 && body.data[4] == 'D')
			got += body.size - 5;
		if (kind == 1 && answer.kind == WIRE_PING)
			say(fd, &(struct wire_message){ .kind = WIRE_PONG });
	}
	cr_assert(eq(sz, got, master.bytes));
	cr_assert(eq(long, write(fd, "\0\0\0\6\3\0\0\0\1E", 10), 10));
	cr_assert(hear(fd, WIRE_PULL_END, &answer));
	cr_assert(zero(int, answer.pull_end.error));
	close(fd);
	buffer_fini(&body);
	buffer_fini(&storage);
	master.bytes = 10;
	stop_after_serving();
}

/* A pull that the master's user cannot open, one that is given up, and one that the next takes the place of. */
Test(node_hostile, pulls_that_end_early)
{
	struct wire_message m = hello("fickle"), answer;
	struct wire_message pull = { .kind = WIRE_PULL, .pull = { .request = 1, .opening = { "bad", 3 } } };
	struct wire_message end = { .kind = WIRE_PULL_END, .pull_end = { .request = 2, .error = -ECANCELED } };
	start(11, 1000);
	int fd = dial();
	say(fd, &m);
	cr_assert(hear(fd, WIRE_WELCOME, &answer));
	say(fd, &pull);
	cr_assert(hear(fd, WIRE_PULL_END, &answer));
	cr_assert(eq(int, answer.pull_end.error, -DRS_EPROTOCOL));
	pull.pull.opening = (struct slice){ "123456789", 9 };
	pull.pull.request = 2;
	say(fd, &pull);
	say(fd, &end);
	pull.pull.request = 3;
	say(fd, &pull);
	pull.pull.request = 4;
	say(fd, &pull);
	cr_assert(eq(long, write(fd, "\0\0\0\6\3\0\0\0\4X", 10), 10));
	cr_assert(hear(fd, WIRE_PULL_END, &answer));
	cr_assert(eq(u32, answer.pull_end.request, 4));
	cr_assert(eq(int, answer.pull_end.error, -DRS_EPROTOCOL));
	close(fd);
	stop_after_serving();
}

/* R2.1: heartbeats by the link, where no datagram arrives. */
Test(node_hostile, heartbeats_by_link)
{
	struct wire_message m = hello("far"), answer;
	start(12, 10);
	int fd = dial();
	say(fd, &m);
	cr_assert(hear(fd, WIRE_WELCOME, &answer));
	map_update(&master, true);
	while (hear(fd, WIRE_BEAT, &answer) && map_number(&answer.beat.current) < 1)
		;
	cr_assert(eq(u64, map_number(&answer.beat.current), 1));
	close(fd);
	stop_after_serving();
}

/* --- a slave among garbage datagrams, and a master that is none */

Test(node_hostile, garbage_datagrams)
{
	struct map_slave slave = { 0 };
	struct node_config slave_config;
	struct address group;
	uint8_t bytes[1600];
	start(13, 10);
	map_config(&slave_config, "good", 1);
	strcpy(slave_config.group, config.group);
	map_point_at(&slave_config, node_link_port(master.node));
	map_slave_start(&slave, &slave_config);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &(struct in_addr){ htonl(INADDR_LOOPBACK) }, sizeof(struct in_addr));
	char *colon = strrchr(config.group, ':');
	group.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1)) };
	*colon = 0;
	inet_pton(AF_INET, config.group, &group.v4.sin_addr);
	srand(3);
	for (int i = 0; i < 3000; i++) {
		size_t size = (size_t)rand() % sizeof(bytes);
		for (size_t at = 0; at < size; at++)
			bytes[at] = (uint8_t)rand();
		memcpy(bytes, i % 3 ? "DRS1" : "DRS2", 4);
		sendto(fd, bytes, size, 0, &group.any, sizeof(group.v4));
		if (i % 100 == 0)
			map_update(&master, true);
	}
	cr_assert(map_wait_version(&slave.version, master.version, 5000));
	close(fd);
	map_slave_stop(&slave);
	free(slave.map);
	map_master_stop(&master);
}

/* The slave dials something that accepts and says nothing, then something that talks nonsense. */
Test(node_hostile, not_a_master)
{
	struct map_slave slave = { 0 };
	struct node_config slave_config;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(at);
	int door = socket(AF_INET, SOCK_STREAM, 0), fd;
	bind(door, (struct sockaddr *)&at, size);
	listen(door, 4);
	getsockname(door, (struct sockaddr *)&at, &size);
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&slave_config, "lost", 1);
	slave_config.link_timeout_ms = 300;
	map_point_at(&slave_config, ntohs(at.sin_port));
	map_slave_start(&slave, &slave_config);
	fd = accept(door, NULL, NULL);
	cr_assert(closed_within(fd, 1500), "silent");
	close(fd);
	fd = accept(door, NULL, NULL);
	cr_assert(eq(long, write(fd, "HTTP/1.0 400\r\n", 14), 14));
	cr_assert(closed_within(fd, 1500), "nonsense");
	close(fd);
	fd = accept(door, NULL, NULL);
	cr_assert(ge(int, fd, 0), "it tries again");
	close(fd);
	close(door);
	map_slave_stop(&slave);
	cr_assert(zero(uint, slave.admissions));
}
