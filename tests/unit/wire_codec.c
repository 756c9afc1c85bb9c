/* The codec: what goes in comes out; what does not fit gives way in the right order; no bytes whatever make it crash. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/wire.h"

static struct drs_version version(uint64_t number)
{
	struct drs_version v = { 0 };
	put_be64(v.bytes, number);
	return v;
}

static struct scope scope_of(const char *name)
{
	struct scope s = { .size = (uint16_t)(strlen(name) + 1) };
	strcpy(s.names, name);
	return s;
}

static uint8_t inline_bytes[DRS_INLINE_BYTES_MAX];

static struct beat sample_beat(size_t window, size_t inline_size)
{
	struct beat b = {
		.did = { { 1, 2, 3 } },
		.incarnation = 1790000000000000,
		.sequence = 100000,
		.current = version(UINT64_MAX / 3),
		.previous = version(UINT64_MAX / 3 - 1),
		.window_count = (uint8_t)window,
		.inline_delta = { inline_bytes, inline_size },
		.link_port = 65535,
		.interval_ms = 60000,
	};
	for (size_t i = 0; i < window; i++)
		b.window[i] = (struct window_entry){ .version = version(UINT64_MAX / 3 - i), .aborted = i % 2, .scope = scope_of("web") };
	for (size_t i = 0; i < inline_size; i++)
		inline_bytes[i] = (uint8_t)(i * 37);
	return b;
}

static void check_beat(const struct beat *a, const struct beat *b)
{
	cr_assert(zero(memcmp(&a->did, &b->did, sizeof(a->did))));
	cr_assert(eq(u64, a->incarnation, b->incarnation));
	cr_assert(eq(u64, a->sequence, b->sequence));
	cr_assert(zero(memcmp(&a->current, &b->current, sizeof(a->current))));
	cr_assert(eq(u16, a->link_port, b->link_port));
	cr_assert(eq(u32, a->interval_ms, b->interval_ms));
	for (size_t i = 0; i < b->window_count; i++) {
		cr_assert(zero(memcmp(&a->window[i].version, &b->window[i].version, sizeof(struct drs_version))));
		cr_assert(eq(int, a->window[i].aborted, b->window[i].aborted));
		cr_assert(eq(u16, a->window[i].scope.size, b->window[i].scope.size));
		cr_assert(zero(memcmp(a->window[i].scope.names, b->window[i].scope.names, b->window[i].scope.size)));
	}
	if (b->inline_delta.size == 0)
		return;
	cr_assert(zero(memcmp(&a->previous, &b->previous, sizeof(a->previous))));
	cr_assert(eq(sz, a->inline_delta.size, b->inline_delta.size));
	cr_assert(zero(memcmp(a->inline_delta.data, b->inline_delta.data, b->inline_delta.size)));
}

static size_t round_trip(const struct beat *in, struct beat *out, struct buffer *storage)
{
	uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX];
	size_t size = wire_beat_encode(in, datagram);
	cr_assert(le(sz, size, WIRE_DATAGRAM_BYTES_MAX));
	cr_assert(zero(int, wire_beat_decode((struct slice){ datagram, size }, out, storage)));
	check_beat(in, out);
	return size;
}

Test(wire_codec, beat_round_trip)
{
	struct beat in = sample_beat(5, 100), out;
	struct buffer storage = BUFFER_INIT;
	round_trip(&in, &out, &storage);
	cr_assert(eq(u8, out.window_count, 5));
	cr_assert(eq(sz, out.inline_delta.size, 100));
	buffer_fini(&storage);
}

/* R3.4: the largest inline delta fits, with one entry of the window. */
Test(wire_codec, window_gives_way_to_the_inline_delta)
{
	struct beat in = sample_beat(WINDOW_MAX, DRS_INLINE_BYTES_MAX), out;
	struct buffer storage = BUFFER_INIT;
	round_trip(&in, &out, &storage);
	cr_assert(ge(u8, out.window_count, 1));
	cr_assert(eq(sz, out.inline_delta.size, DRS_INLINE_BYTES_MAX));
	buffer_fini(&storage);
}

/* R2.4: all of the window fits when names are short; with the longest scopes, the newest entries do. */
Test(wire_codec, window_alone)
{
	struct beat in = sample_beat(WINDOW_MAX, 0), out;
	struct buffer storage = BUFFER_INIT;
	round_trip(&in, &out, &storage);
	cr_assert(eq(u8, out.window_count, WINDOW_MAX));
	for (size_t i = 0; i < WINDOW_MAX; i++) {
		memset(in.window[i].scope.names, 'x', SCOPE_BYTES_MAX - 1);
		in.window[i].scope.names[SCOPE_BYTES_MAX - 1] = 0;
		in.window[i].scope.size = SCOPE_BYTES_MAX;
	}
	round_trip(&in, &out, &storage);
	cr_assert(gt(u8, out.window_count, 5));
	in.inline_delta = (struct slice){ inline_bytes, DRS_INLINE_BYTES_MAX };
	struct beat without = in;
	without.inline_delta.size = 0;
	uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX];
	size_t size = wire_beat_encode(&in, datagram);
	cr_assert(zero(int, wire_beat_decode((struct slice){ datagram, size }, &out, &storage)));
	check_beat(&without, &out);
	cr_assert(zero(sz, out.inline_delta.size), "one entry and the delta do not fit: the delta is left out");
	buffer_fini(&storage);
}

Test(wire_codec, other_major)
{
	struct beat in = sample_beat(1, 0), out;
	struct buffer storage = BUFFER_INIT;
	uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX];
	size_t size = wire_beat_encode(&in, datagram);
	datagram[3] = '2';
	cr_assert(eq(int, wire_beat_decode((struct slice){ datagram, size }, &out, &storage), -DRS_EMAJOR));
	datagram[0] = 'X';
	cr_assert(eq(int, wire_beat_decode((struct slice){ datagram, size }, &out, &storage), -DRS_EPROTOCOL));
	cr_assert(eq(int, wire_beat_decode((struct slice){ datagram, 3 }, &out, &storage), -DRS_EPROTOCOL));
	cr_assert(eq(int, wire_beat_decode((struct slice){ NULL, 0 }, &out, &storage), -DRS_EPROTOCOL));
	buffer_fini(&storage);
}

static struct wire_message sample_message(enum wire_kind kind)
{
	struct wire_message m = { .kind = kind };
	switch (kind) {
	case WIRE_HELLO:
		m.hello.major = WIRE_MAJOR;
		strcpy(m.hello.name, "web-1.example");
		m.hello.did_known = true;
		m.hello.did = (struct did){ { 9, 8, 7 } };
		m.hello.version = version(256);
		m.hello.path = BEAT_BY_UNICAST;
		m.hello.udp_port = 40000;
		break;
	case WIRE_WELCOME:
		m.welcome.did = (struct did){ { 4, 5 } };
		m.welcome.credentials = (struct slice){ "secret", 6 };
		m.welcome.version = version(77);
		m.welcome.incarnation = 3;
		m.welcome.interval_ms = 500;
		break;
	case WIRE_REFUSE:
		m.refuse.error = -DRS_EVOLUME;
		strcpy(m.refuse.text, "no");
		break;
	case WIRE_PULL:
		m.pull.request = 12;
		m.pull.complete = true;
		m.pull.opening = (struct slice){ "opening", 7 };
		break;
	case WIRE_PULL_END:
		m.pull_end.request = 12;
		m.pull_end.error = -DRS_EHORIZON;
		strcpy(m.pull_end.text, "gone");
		break;
	case WIRE_REPORT:
		m.report.version = version(5);
		m.report.path = BEAT_BY_LINK;
		break;
	case WIRE_BEAT:
		m.beat = sample_beat(3, 20);
		break;
	default:
		break;
	}
	return m;
}

Test(wire_codec, message_round_trips)
{
	struct buffer bytes = BUFFER_INIT, again = BUFFER_INIT, storage = BUFFER_INIT;
	for (enum wire_kind kind = WIRE_HELLO; kind <= WIRE_BEAT; kind++) {
		struct wire_message in = sample_message(kind), out;
		buffer_clear(&bytes);
		buffer_clear(&again);
		wire_message_encode(&in, &bytes);
		cr_assert(zero(int, wire_message_decode(buffer_slice(&bytes), &out, &storage)));
		cr_assert(eq(int, out.kind, in.kind));
		wire_message_encode(&out, &again);
		cr_assert(eq(sz, again.size, bytes.size));
		cr_assert(zero(memcmp(again.data, bytes.data, bytes.size)));
	}
	struct wire_message in = sample_message(WIRE_HELLO), out;
	buffer_clear(&bytes);
	wire_message_encode(&in, &bytes);
	cr_assert(zero(int, wire_message_decode(buffer_slice(&bytes), &out, &storage)));
	cr_assert(eq(str, out.hello.name, "web-1.example"));
	cr_assert(out.hello.did_known);
	cr_assert(eq(u16, out.hello.udp_port, 40000));
	buffer_fini(&bytes);
	buffer_fini(&again);
	buffer_fini(&storage);
}

Test(wire_codec, empty_message_is_of_a_newer_minor)
{
	struct wire_message out;
	struct buffer storage = BUFFER_INIT;
	cr_assert(zero(int, wire_message_decode((struct slice){ "", 0 }, &out, &storage)));
	cr_assert(eq(int, out.kind, WIRE_UNKNOWN));
	cr_assert(zero(int, wire_message_decode((struct slice){ "\xf8\x01\x05", 3 }, &out, &storage)), "field 31, which is not known yet");
	cr_assert(eq(int, out.kind, WIRE_UNKNOWN));
	buffer_fini(&storage);
}

Test(wire_codec, names)
{
	cr_assert(wire_name_valid("a"));
	cr_assert(wire_name_valid("Web-1_a.b"));
	cr_assert(not(wire_name_valid("")));
	cr_assert(not(wire_name_valid("a b")));
	cr_assert(not(wire_name_valid("a\n")));
	cr_assert(not(wire_name_valid("0123456789012345678901234567890123456789012345678901234567890123")));
}

/* F8: bad packets. Every message and heartbeat, with bytes changed, cut and grown, from a fixed seed. */
static void mutate(uint8_t *bytes, size_t *size, size_t max)
{
	for (int n = rand() % 4 + 1; n > 0; n--) {
		switch (rand() % 4) {
		case 0:
			if (*size)
				bytes[(size_t)rand() % *size] = (uint8_t)rand();
			break;
		case 1:
			if (*size)
				bytes[(size_t)rand() % *size] ^= (uint8_t)(1 << rand() % 8);
			break;
		case 2:
			*size = (size_t)rand() % (*size + 1);
			break;
		case 3:
			while (*size < max && rand() % 8)
				bytes[(*size)++] = (uint8_t)rand();
			break;
		}
	}
}

Test(wire_codec, mutated_input)
{
	struct buffer bytes = BUFFER_INIT, storage = BUFFER_INIT;
	uint8_t mutated[4096];
	srand(1);
	for (int round = 0; round < 40000; round++) {
		struct wire_message in = sample_message(WIRE_HELLO + (enum wire_kind)round % WIRE_BEAT), out;
		struct beat beat = sample_beat((size_t)rand() % WINDOW_MAX, (size_t)rand() % 200), beat_out;
		size_t size = wire_beat_encode(&beat, mutated);
		mutate(mutated, &size, WIRE_DATAGRAM_BYTES_MAX + 8);
		if (wire_beat_decode((struct slice){ mutated, size }, &beat_out, &storage) == 0)
			wire_beat_encode(&beat_out, mutated);

		buffer_clear(&bytes);
		wire_message_encode(&in, &bytes);
		size = bytes.size;
		memcpy(mutated, bytes.data, size);
		mutate(mutated, &size, sizeof(mutated));
		buffer_clear(&bytes);
		if (wire_message_decode((struct slice){ mutated, size }, &out, &storage) == 0 && out.kind != WIRE_UNKNOWN)
			wire_message_encode(&out, &bytes);
	}
	buffer_fini(&bytes);
	buffer_fini(&storage);
}
