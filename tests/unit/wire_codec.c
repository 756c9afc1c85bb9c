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
	case WIRE_PREPARE:
		m.prepare.version = version(9);
		m.prepare.previous = version(8);
		m.prepare.timeout_ms = 10000;
		m.prepare.inline_delta = (struct slice){ "delta", 5 };
		break;
	case WIRE_PREPARE_ANSWER:
		m.prepare_answer.version = version(9);
		m.prepare_answer.answer = PREPARE_NAK;
		m.prepare_answer.error = -DRS_EREFUSED;
		strcpy(m.prepare_answer.text, "nginx: unknown directive\nin line 3");
		break;
	default:
		break;
	}
	return m;
}

Test(wire_codec, message_round_trips)
{
	struct buffer bytes = BUFFER_INIT, again = BUFFER_INIT, storage = BUFFER_INIT;
	for (enum wire_kind kind = WIRE_HELLO; kind <= WIRE_PREPARE_ANSWER; kind++) {
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

static int decode_again(const struct wire_message *in, struct wire_message *out, struct buffer *storage)
{
	struct buffer bytes = BUFFER_INIT;
	wire_message_encode(in, &bytes);
	int error = wire_message_decode(buffer_slice(&bytes), out, storage);
	buffer_fini(&bytes);
	return error;
}

/* R4.2: what the master asks. */
Test(wire_codec, prepare)
{
	static uint8_t delta[DRS_PREPARE_BYTES_MAX];
	struct wire_message in = sample_message(WIRE_PREPARE), out;
	struct buffer storage = BUFFER_INIT;
	in.prepare.inline_delta = (struct slice){ delta, sizeof(delta) };
	memset(delta, 0xd5, sizeof(delta));
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(zero(memcmp(&out.prepare.version, &in.prepare.version, sizeof(struct drs_version))));
	cr_assert(zero(memcmp(&out.prepare.previous, &in.prepare.previous, sizeof(struct drs_version))));
	cr_assert(eq(u32, out.prepare.timeout_ms, 10000));
	cr_assert(eq(sz, out.prepare.inline_delta.size, sizeof(delta)), "the largest delta that may come along fits a message");
	cr_assert(zero(memcmp(out.prepare.inline_delta.data, delta, sizeof(delta))));
	in.prepare.inline_delta.size = 0;
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(zero(sz, out.prepare.inline_delta.size));
	buffer_fini(&storage);
}

/* R4.2: each answer, with a reason and words only where it is a Nak. */
Test(wire_codec, prepare_answers)
{
	struct wire_message in = sample_message(WIRE_PREPARE_ANSWER), out;
	struct buffer storage = BUFFER_INIT;
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(eq(int, out.prepare_answer.answer, PREPARE_NAK));
	cr_assert(eq(int, out.prepare_answer.error, -DRS_EREFUSED));
	cr_assert(eq(str, out.prepare_answer.text, "nginx: unknown directive\nin line 3"));
	in.prepare_answer.error = -ENOSPC;
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(eq(int, out.prepare_answer.error, -EIO), "a failed disk and a full one are one reason; the words tell");
	in.prepare_answer.error = 0;
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(eq(int, out.prepare_answer.error, -DRS_EREFUSED), "a Nak is an error whatever it says");
	for (enum prepare_answer answer = PREPARE_ACK; answer <= PREPARE_OUT_OF_SYNC; answer += PREPARE_OUT_OF_SYNC - PREPARE_ACK) {
		in.prepare_answer.answer = answer;
		in.prepare_answer.error = -EIO;
		cr_assert(zero(int, decode_again(&in, &out, &storage)));
		cr_assert(eq(int, out.prepare_answer.answer, answer));
		cr_assert(zero(int, out.prepare_answer.error));
		cr_assert(eq(str, out.prepare_answer.text, ""));
		cr_assert(zero(memcmp(&out.prepare_answer.version, &in.prepare_answer.version, sizeof(struct drs_version))));
	}
	buffer_fini(&storage);
}

Test(wire_codec, pull_to_a_proposed_version)
{
	struct wire_message in = sample_message(WIRE_PULL), out;
	struct buffer storage = BUFFER_INIT;
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(not(out.pull.to_proposed));
	in.pull.to_proposed = true;
	in.pull.proposed = version(9);
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(out.pull.to_proposed);
	cr_assert(zero(memcmp(&out.pull.proposed, &in.pull.proposed, sizeof(struct drs_version))));
	cr_assert(eq(sz, out.pull.opening.size, 7));
	buffer_fini(&storage);
}

/* F8: out of bounds. A field's number and type, its length, its bytes, by hand. */
Test(wire_codec, two_phase_out_of_bounds)
{
	static uint8_t delta[DRS_PREPARE_BYTES_MAX + 16] = { 0x52, 0x85, 0x80, 0x02, 0x22, 0x81, 0x80, 0x02 }; /* prepare, inline_delta: 32,769 bytes */
	static const char *const bad[] = {
		"\x52\x13\x0a\x11" "12345678901234567", /* prepare: a version of 17 bytes */
		"\x52\x13\x12\x11" "12345678901234567", /* its previous */
		"\x5a\x15\x0a\x11" "12345678901234567\x10\x01", /* an answer about such a version */
		"\x5a\x03\x0a\x01\x09",               /* an answer without one */
		"\x5a\x05\x0a\x01\x09\x10\x04",       /* one that is not known */
		"\x22\x13\x22\x11" "12345678901234567", /* a pull to such a version */
	};
	struct wire_message out;
	struct buffer storage = BUFFER_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert(eq(int, wire_message_decode((struct slice){ bad[i], strlen(bad[i]) }, &out, &storage), -DRS_EPROTOCOL), "%zu", i);
	cr_assert(eq(int, wire_message_decode((struct slice){ delta, 8 + DRS_PREPARE_BYTES_MAX + 1 }, &out, &storage), -DRS_EPROTOCOL));
	delta[1] = 0x84; /* both lengths one less */
	delta[5] = 0x80;
	cr_assert(zero(int, wire_message_decode((struct slice){ delta, 8 + DRS_PREPARE_BYTES_MAX }, &out, &storage)));
	cr_assert(eq(sz, out.prepare.inline_delta.size, DRS_PREPARE_BYTES_MAX));
	buffer_fini(&storage);
}

/* F8: words from the other side end on somebody's terminal. */
Test(wire_codec, texts)
{
	char text[12];
	wire_text("plain", false, text, sizeof(text));
	cr_assert(eq(str, text, "plain"));
	wire_text("a\x1b[2Jb\nc\td\x7f", false, text, sizeof(text));
	cr_assert(eq(str, text, "a?[2Jb?c?d?"));
	wire_text("a\x1b[2Jb\nc\td\x7f", true, text, sizeof(text));
	cr_assert(eq(str, text, "a?[2Jb\nc\td?"));
	wire_text("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", false, text, sizeof(text));
	cr_assert(eq(str, text, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "characters of two, three and four bytes");
	wire_text("\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", false, text, sizeof(text));
	cr_assert(eq(str, text, "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"), "cut between characters");
	wire_text("\xff\xc3(\xe2\x82", false, text, sizeof(text));
	cr_assert(eq(str, text, "?\?(?\?"), "not UTF-8, the last one cut short");
	wire_text("\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80", false, text, sizeof(text));
	cr_assert(eq(str, text, "?\?\?\?\?\?\?\?\?"), "overlong, a surrogate, beyond the last character");
	wire_text("\xc2\x9b|\xe2\x80\xae|", false, text, sizeof(text));
	cr_assert(eq(str, text, "?|?|"), "a C1 control, and what turns the line round");
	wire_text("0123456789abcdef", false, text, sizeof(text));
	cr_assert(eq(str, text, "0123456789a"));
	wire_text("x", false, text, 1);
	cr_assert(eq(str, text, ""));
}

/* R4.2: a Nak's words of any length and kind are heard cut and clean. */
Test(wire_codec, oversized_words)
{
	struct wire_message in = sample_message(WIRE_PREPARE_ANSWER), out;
	struct buffer bytes = BUFFER_INIT, storage = BUFFER_INIT;
	memset(in.prepare_answer.text, 0xff, sizeof(in.prepare_answer.text) - 1);
	cr_assert(zero(int, decode_again(&in, &out, &storage)));
	cr_assert(eq(sz, strlen(out.prepare_answer.text), DRS_REASON_BYTES_MAX - 1));
	cr_assert(eq(chr, out.prepare_answer.text[0], '?'));
	buffer_add(&bytes, "\x5a\xf9\x07\x0a\x01\x09\x10\x02\x22\xf1\x07", 11); /* 1,009 bytes of words */
	memset(buffer_grow(&bytes, 1009), 'w', 1009);
	cr_assert(zero(int, wire_message_decode(buffer_slice(&bytes), &out, &storage)));
	cr_assert(eq(sz, strlen(out.prepare_answer.text), DRS_REASON_BYTES_MAX - 1));
	buffer_fini(&bytes);
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
		struct wire_message in = sample_message(WIRE_HELLO + (enum wire_kind)round % WIRE_PREPARE_ANSWER), out;
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
