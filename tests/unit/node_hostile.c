/*
 * Peers that are not what they should be, played by this test over a bare socket: strangers, garbage, links that are half open, slaves that do not read. The node
 * must end their links in time, close what it opened for them, and serve the others meanwhile (R3.3, F8).
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <netinet/tcp.h>
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
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
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

/* --- two phase with slaves that are not what they should be (R4.2, R4.8) */

static const struct drs_job job_of_all = { .timeout_ms = 5000 };

static int join_two_phase(const char *name)
{
	struct wire_message m = hello(name), answer;
	m.hello.minor = WIRE_MINOR;
	int fd = dial();
	say(fd, &m);
	cr_assert(hear(fd, WIRE_WELCOME, &answer));
	return fd;
}

static struct wire_message answer_to(uint64_t number, enum prepare_answer answer)
{
	return (struct wire_message){ .kind = WIRE_PREPARE_ANSWER, .prepare_answer = { .version = map_version(number), .answer = answer } };
}

static void say_answer(int fd, uint64_t number, enum prepare_answer answer)
{
	struct wire_message m = answer_to(number, answer);
	say(fd, &m);
}

static void expect_job(int error)
{
	cr_assert(map_wait_done(&master, master.started, 5000));
	cr_assert(eq(int, master.done_error, error));
}

/* Nobody was asked, or about something else. */
Test(node_hostile, answers_to_no_question)
{
	struct wire_message m;
	start(20, 100);
	int stranger = dial();
	say_answer(stranger, 1, PREPARE_ACK);
	cr_assert(closed_within(stranger, 2000), "before hello");
	close(stranger);
	int fd = join_two_phase("liar"), silent = join_two_phase("silent");
	for (uint64_t number = 100; number < 120; number++)
		say_answer(fd, number, PREPARE_ACK + (enum prepare_answer)number % 3);
	uint64_t version = map_propose(&master, &job_of_all, true);
	cr_assert(hear(fd, WIRE_PREPARE, &m));
	cr_assert(hear(silent, WIRE_PREPARE, &m));
	cr_assert(eq(u64, map_number(&m.prepare.version), version));
	cr_assert(eq(u64, map_number(&m.prepare.previous), version - 1));
	cr_assert(le(u32, m.prepare.timeout_ms, 5000));
	for (uint64_t number = 0; number < 20; number++)
		if (number != version)
			say_answer(fd, number, PREPARE_ACK), say_answer(silent, number, PREPARE_NAK);
	say_answer(fd, version, PREPARE_ACK);
	say_answer(fd, version, PREPARE_ACK);
	usleep(100000);
	cr_assert(zero(uint, master.done), "one has acked twice, the other one not at all");
	say_answer(silent, version, PREPARE_ACK);
	expect_job(0);
	say_answer(fd, version, PREPARE_NAK);
	say_answer(fd, version, PREPARE_OUT_OF_SYNC);
	close(fd);
	close(silent);
	stop_after_serving();
	cr_assert(zero(uint, master.wrong));
}

/* Out of sync again and again, each time with a report that asks to be asked. Its job ends with its time, or with its answer. */
Test(node_hostile, out_of_sync_for_ever)
{
	struct wire_message m, report = { .kind = WIRE_REPORT, .report = { .path = BEAT_BY_LINK } };
	start(21, 100);
	int fd = join_two_phase("dizzy");
	uint64_t version = map_propose(&master, &job_of_all, true);
	for (int i = 0; i < 300; i++) {
		cr_assert(hear(fd, WIRE_PREPARE, &m), "asked again, %d", i);
		say_answer(fd, version, PREPARE_OUT_OF_SYNC);
		say(fd, &report);
	}
	cr_assert(hear(fd, WIRE_PREPARE, &m));
	say_answer(fd, version, PREPARE_ACK);
	expect_job(0);
	close(fd);
	stop_after_serving();
}

/* A Nak with more words than there may be, and not such as one wants on a terminal. */
Test(node_hostile, nak_with_oversized_words)
{
	struct drs_vote vote;
	struct wire_message m;
	struct buffer frame = BUFFER_INIT;
	start(22, 100);
	int fd = join_two_phase("talker");
	uint64_t version = map_propose(&master, &job_of_all, true);
	cr_assert(hear(fd, WIRE_PREPARE, &m));
	cr_assert(eq(u64, version, 1));
	buffer_add_be32(&frame, 1 + 4 + 10 + 2 + 4 + 50000);
	buffer_add_u8(&frame, 1);
	/* prepare_answer: 50,016 bytes; version: 8 bytes, 1; NAK; text: 50,000 bytes */
	buffer_add(&frame, "\x5a\xe0\x86\x03" "\x0a\x08\0\0\0\0\0\0\0\x01" "\x10\x02" "\x22\xd0\x86\x03", 4 + 10 + 2 + 4);
	memset(buffer_grow(&frame, 50000), 0x1b, 50000);
	cr_assert(eq(long, write(fd, frame.data, frame.size), (long)frame.size));
	expect_job(-DRS_EREFUSED);
	cr_assert(map_vote(&master, "talker", &vote, NULL));
	cr_assert(eq(int, vote.answer, DRS_REFUSED));
	cr_assert(eq(sz, strspn(vote.reason, "?"), DRS_REASON_BYTES_MAX - 1));
	buffer_fini(&frame);
	close(fd);
	stop_after_serving();
}

/* A slave of an older minor version is not asked what it does not know. */
Test(node_hostile, too_old_for_two_phase)
{
	struct wire_message m = hello("old"), answer;
	struct drs_vote vote;
	start(23, 100);
	int fd = dial();
	say(fd, &m);
	cr_assert(hear(fd, WIRE_WELCOME, &answer));
	map_propose(&master, &job_of_all, true);
	expect_job(-DRS_EREFUSED);
	cr_assert(map_vote(&master, "old", &vote, NULL));
	cr_assert(strstr(vote.reason, "too old") != NULL);
	close(fd);
	stop_after_serving();
}

/* Pulls to versions that are not being proposed, and to the one that is. */
Test(node_hostile, pulls_to_proposed_versions)
{
	struct wire_message m;
	struct wire_message pull = { .kind = WIRE_PULL, .pull = { .request = 1, .to_proposed = true, .opening = { "123456789", 9 } } };
	start(24, 1000);
	int fd = join_two_phase("eager");
	pull.pull.proposed = map_version(1);
	say(fd, &pull);
	cr_assert(hear(fd, WIRE_PULL_END, &m));
	cr_assert(eq(int, m.pull_end.error, -ECANCELED), "there is no job");
	uint64_t version = map_propose(&master, &job_of_all, false);
	cr_assert(hear(fd, WIRE_PREPARE, &m));
	pull.pull.proposed = map_version(version + 1);
	say(fd, &pull);
	cr_assert(hear(fd, WIRE_PULL_END, &m));
	cr_assert(eq(int, m.pull_end.error, -ECANCELED), "it is another one");
	cr_assert(zero(uint, master.proposed_opened));
	pull.pull.proposed = map_version(version);
	say(fd, &pull);
	for (int i = 0; i < 5000 && master.proposed_opened == 0; i++)
		usleep(1000);
	cr_assert(eq(uint, master.proposed_opened, 1));
	say_answer(fd, version, PREPARE_NAK);
	expect_job(-DRS_EREFUSED);
	close(fd);
	stop_after_serving();
}

/* --- two phase with a master that is not what it should be: a slave never shows what was not committed */

static struct map_slave asked_slave;
static int door;

static int door_open(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(at);
	door = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(zero(int, bind(door, (struct sockaddr *)&at, size)));
	listen(door, 4);
	getsockname(door, (struct sockaddr *)&at, &size);
	return ntohs(at.sin_port);
}

static void start_asked(unsigned salt)
{
	struct node_config slave_config;
	log_init("test", LOG_LEVEL_ERROR);
	map_config(&slave_config, "asked", 100 + salt);
	*slave_config.group = 0;
	map_point_at(&slave_config, (uint16_t)door_open());
	asked_slave = (struct map_slave){ 0 };
	map_slave_start(&asked_slave, &slave_config);
}

static int take_slave(void)
{
	struct wire_message m, welcome = { .kind = WIRE_WELCOME };
	int fd = accept(door, NULL, NULL);
	cr_assert(hear(fd, WIRE_HELLO, &m));
	cr_assert(eq(u32, m.hello.minor, WIRE_MINOR));
	welcome.welcome.did = map_did;
	welcome.welcome.credentials = (struct slice){ "x", 1 };
	welcome.welcome.interval_ms = 60000;
	say(fd, &welcome);
	return fd;
}

static void stop_asked(int fd)
{
	close(fd);
	close(door);
	map_slave_stop(&asked_slave);
	cr_assert(zero(uint, asked_slave.corrupt));
	free(asked_slave.map);
}

static void say_prepare(int fd, uint64_t number, uint64_t previous, uint32_t timeout_ms, struct slice delta)
{
	struct wire_message m = { .kind = WIRE_PREPARE };
	m.prepare.version = map_version(number);
	m.prepare.previous = map_version(previous);
	m.prepare.timeout_ms = timeout_ms;
	m.prepare.inline_delta = delta;
	say(fd, &m);
}

static void say_prepare_inline(int fd, uint64_t number, uint64_t previous, uint32_t timeout_ms)
{
	struct buffer delta = BUFFER_INIT;
	map_inline(&delta, previous, number);
	say_prepare(fd, number, previous, timeout_ms, buffer_slice(&delta));
	buffer_fini(&delta);
}

static void expect_answer(int fd, uint64_t number, enum prepare_answer answer)
{
	struct wire_message m;
	cr_assert(hear(fd, WIRE_PREPARE_ANSWER, &m));
	cr_assert(eq(u64, map_number(&m.prepare_answer.version), number));
	cr_assert(eq(int, m.prepare_answer.answer, answer));
}

/* From a version that the slave does not have, with deltas that lead from elsewhere, and with garbage. */
Test(node_hostile, prepare_that_does_not_fit)
{
	struct wire_message m, end = { .kind = WIRE_PULL_END, .pull_end = { .error = -EIO } };
	start_asked(30);
	int fd = take_slave();
	say_prepare(fd, 1, 0, 5000, (struct slice){ "garbage", 7 });
	cr_assert(hear(fd, WIRE_PULL, &m), "what cannot be used is pulled");
	cr_assert(m.pull.to_proposed);
	cr_assert(eq(u64, map_number(&m.pull.proposed), 1));
	end.pull_end.request = m.pull.request;
	say(fd, &end);
	cr_assert(hear(fd, WIRE_PREPARE_ANSWER, &m));
	cr_assert(eq(int, m.prepare_answer.answer, PREPARE_NAK));
	cr_assert(gt(sz, strlen(m.prepare_answer.text), 0));
	say_prepare(fd, 1, 0, 5000, (struct slice){ 0 });
	cr_assert(hear(fd, WIRE_PULL, &m));
	cr_assert(eq(long, write(fd, "\0\0\0\x6\x2\0\0\0", 8), 8));
	cr_assert(eq(long, write(fd, (uint8_t[]){ (uint8_t)m.pull.request, 'X' }, 2), 2));
	cr_assert(hear(fd, WIRE_PREPARE_ANSWER, &m), "a frame that its user does not take");
	cr_assert(eq(int, m.prepare_answer.answer, PREPARE_NAK));
	say_prepare_inline(fd, 5, 4, 5000);
	expect_answer(fd, 5, PREPARE_OUT_OF_SYNC);
	cr_assert(hear(fd, WIRE_PULL, &m), "it lacks 4");
	cr_assert(not(m.pull.to_proposed));
	cr_assert(eq(u64, asked_slave.version, 0));
	stop_asked(fd);
}

/* One after the other: the last one counts (R4.5); the one that was overtaken is not shown even if heartbeats say so, only pulled. */
Test(node_hostile, prepare_again_and_again)
{
	struct wire_message m = { .kind = WIRE_BEAT };
	start_asked(31);
	int fd = take_slave();
	for (uint64_t number = 1; number < 50; number++) {
		say_prepare_inline(fd, number, 0, 60000);
		expect_answer(fd, number, PREPARE_ACK);
	}
	say_prepare_inline(fd, 49, 0, 60000);
	expect_answer(fd, 49, PREPARE_ACK);
	cr_assert(eq(uint, asked_slave.checks, 49));
	cr_assert(ge(uint, asked_slave.aborts, 48));
	cr_assert(eq(u64, asked_slave.version, 0));
	map_fates[49] = MAP_COMMITTED;
	m.beat = (struct beat){ .did = map_did, .current = map_version(49), .window_count = 1, .window = { { .version = map_version(49) } } };
	say(fd, &m);
	cr_assert(hear(fd, WIRE_REPORT, &m));
	cr_assert(eq(u64, asked_slave.version, 49));
	stop_asked(fd);
}

/* The time of the job runs out: it is not stuck prepared (R4.5). A version that it has already, or that is older, harms nothing. */
Test(node_hostile, prepare_that_nobody_decides)
{
	start_asked(32);
	int fd = take_slave();
	say_prepare_inline(fd, 3, 0, 1);
	expect_answer(fd, 3, PREPARE_ACK);
	for (int i = 0; i < 5000 && asked_slave.aborts == 0; i++)
		usleep(1000);
	cr_assert(ge(uint, asked_slave.aborts, 1));
	say_prepare_inline(fd, 0, 0, 1000);
	expect_answer(fd, 0, PREPARE_NAK);
	say_prepare_inline(fd, 4, 0, 0);
	expect_answer(fd, 4, PREPARE_ACK);
	cr_assert(eq(u64, asked_slave.version, 0));
	stop_asked(fd);
}

/* Before welcome; then anything in any order. */
Test(node_hostile, prepare_storm)
{
	struct wire_message m;
	start_asked(33);
	int fd = accept(door, NULL, NULL);
	cr_assert(hear(fd, WIRE_HELLO, &m));
	say_prepare_inline(fd, 1, 0, 1000);
	cr_assert(closed_within(fd, 3000));
	close(fd);
	fd = take_slave();
	srand(5);
	for (int i = 0; i < 2000; i++) {
		uint8_t delta[40];
		size_t size = (size_t)rand() % sizeof(delta);
		for (size_t at = 0; at < size; at++)
			delta[at] = (uint8_t)rand();
		if (rand() % 2)
			say_prepare_inline(fd, (uint64_t)rand() % 8, 0, (uint32_t)rand() % 5);
		else
			say_prepare(fd, (uint64_t)rand() % 8, 0, (uint32_t)rand(), (struct slice){ delta, size });
	}
	say_prepare_inline(fd, 9, 0, 60000);
	while (hear(fd, WIRE_PREPARE_ANSWER, &m) && map_number(&m.prepare_answer.version) != 9)
		;
	cr_assert(eq(int, m.prepare_answer.answer, PREPARE_ACK), "it is itself again");
	cr_assert(eq(u64, asked_slave.version, 0));
	stop_asked(fd);
}
