/*
 * Structs to protobuf and back; the only file that sees protobuf-c.
 *
 * Encoding allocates nothing but what the output buffer needs: the protobuf structs stand on the stack and point into what they encode.
 * Decoding lets protobuf-c allocate, copies out what is wanted, and frees at once; what varies in length goes to the caller's buffer,
 * and no message has more than one such part.
 */
#include "drsfs/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/wire.pb-c.h"

static const uint8_t magic[4] = { 'D', 'R', 'S', '0' + WIRE_MAJOR };

/* --- parts */

static ProtobufCBinaryData bytes_of(const void *data, size_t size)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)data, .len = size };
}

static ProtobufCBinaryData bytes_of_version(const struct drs_version *version)
{
	size_t size = sizeof(version->bytes);
	while (size > 0 && version->bytes[size - 1] == 0)
		size--;
	return bytes_of(version->bytes, size);
}

static bool version_from(ProtobufCBinaryData from, struct drs_version *ret_version)
{
	*ret_version = (struct drs_version){ 0 };
	if (from.len > sizeof(ret_version->bytes))
		return false;
	if (from.len > 0)
		memcpy(ret_version->bytes, from.data, from.len);
	return true;
}

static bool did_from(ProtobufCBinaryData from, struct did *ret_did)
{
	if (from.len != sizeof(ret_did->bytes))
		return false;
	memcpy(ret_did->bytes, from.data, from.len);
	return true;
}

static bool scope_from(ProtobufCBinaryData from, struct scope *ret_scope)
{
	if (from.len > SCOPE_BYTES_MAX || (from.len > 0 && from.data[from.len - 1] != 0))
		return false;
	ret_scope->size = (uint16_t)from.len;
	if (from.len > 0)
		memcpy(ret_scope->names, from.data, from.len);
	return true;
}

static bool path_from(Wire__Path from, enum beat_path *ret_path)
{
	if (from < WIRE__PATH__PATH_MULTICAST || from > WIRE__PATH__PATH_LINK)
		return false;
	*ret_path = (enum beat_path)from;
	return true;
}

static bool port_from(uint32_t from, uint16_t *ret_port)
{
	*ret_port = (uint16_t)from;
	return from <= UINT16_MAX;
}

static bool slice_from(ProtobufCBinaryData from, struct buffer *storage, struct slice *ret_slice)
{
	buffer_add(storage, from.data, from.len);
	*ret_slice = buffer_slice(storage);
	return !storage->failed;
}

/* The bytes of the UTF-8 character that 'from' begins with, and which it is; 0: there is none. The shortest form only, no surrogates. */
static size_t character_size(const unsigned char *from, uint32_t *ret_character)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t size = from[0] < 0x80 ? 1 : from[0] < 0xc0 ? 0 : from[0] < 0xe0 ? 2 : from[0] < 0xf0 ? 3 : from[0] < 0xf8 ? 4 : 0;
	uint32_t character = size > 1 ? from[0] & (0x7fu >> size) : from[0];
	for (size_t i = 1; i < size; i++) {
		if ((from[i] & 0xc0) != 0x80)
			return 0; /* the NUL at the end, too */
		character = character << 6 | (from[i] & 0x3f);
	}
	*ret_character = character;
	return size > 0 && character >= least[size] && character <= 0x10ffff && (character < 0xd800 || character > 0xdfff) ? size : 0;
}

/* Neither a control character (C0, DEL, C1) nor one that turns the direction of what follows. */
static bool is_printable(uint32_t c)
{
	bool control = c < ' ' || (c >= 0x7f && c <= 0x9f);
	bool direction = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
	return !control && !direction;
}

void wire_text(const char *from, bool lines, char *text, size_t size)
{
	size_t at = 0, step;
	for (; *from; from += step) {
		uint32_t character = 0;
		size_t found = character_size((const unsigned char *)from, &character);
		bool stays = found > 0 && (is_printable(character) || (lines && (*from == '\n' || *from == '\t')));
		step = found > 0 ? found : 1;
		if (at + (stays ? step : 1) >= size)
			break;
		if (stays)
			memcpy(text + at, from, step);
		else
			text[at] = '?';
		at += stays ? step : 1;
	}
	text[at] = 0;
}

static void text_from(const char *from, char text[WIRE_TEXT_MAX])
{
	wire_text(from, false, text, WIRE_TEXT_MAX);
}

bool wire_name_valid(const char *name)
{
	size_t size = strnlen(name, NAME_TEXT_MAX);
	return size > 0 && size < NAME_TEXT_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == size;
}

/* Both ways, the first row that fits. */
static const struct {
	Wire__Reason reason;
	int error;
} reasons[] = {
	{ WIRE__REASON__REASON_NONE, 0 },
	{ WIRE__REASON__REASON_VOLUME, -DRS_EVOLUME },
	{ WIRE__REASON__REASON_MAJOR, -DRS_EMAJOR },
	{ WIRE__REASON__REASON_FULL, -EUSERS },
	{ WIRE__REASON__REASON_HORIZON, -DRS_EHORIZON },
	{ WIRE__REASON__REASON_PROTOCOL, -DRS_EPROTOCOL },
	{ WIRE__REASON__REASON_CORRUPT, -DRS_ECORRUPT },
	{ WIRE__REASON__REASON_STORAGE, -EIO },
	{ WIRE__REASON__REASON_STORAGE, -ENOSPC },
	{ WIRE__REASON__REASON_STORAGE, -EDQUOT },
	{ WIRE__REASON__REASON_STOPPED, -ECANCELED },
	{ WIRE__REASON__REASON_NAME, -ENOTUNIQ },
	{ WIRE__REASON__REASON_CHECK, -DRS_EREFUSED },
};

static Wire__Reason reason_of(int error)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].error == error)
			return reasons[i].reason;
	return WIRE__REASON__REASON_OTHER;
}

static int error_from(Wire__Reason reason)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].reason == reason)
			return reasons[i].error;
	return -DRS_EREFUSED;
}

static bool answer_from(Wire__Answer from, enum prepare_answer *ret_answer)
{
	if (from < WIRE__ANSWER__ANSWER_ACK || from > WIRE__ANSWER__ANSWER_OUT_OF_SYNC)
		return false;
	*ret_answer = (enum prepare_answer)from;
	return true;
}

/* --- heartbeats */

struct beat_parts {
	Wire__Beat beat;
	Wire__WindowEntry entries[WINDOW_MAX];
	Wire__WindowEntry *window[WINDOW_MAX];
};

static void beat_parts_fill(struct beat_parts *p, const struct beat *b)
{
	assert(b->window_count <= WINDOW_MAX && b->inline_delta.size <= DRS_INLINE_BYTES_MAX);
	p->beat = (Wire__Beat)WIRE__BEAT__INIT;
	p->beat.did = bytes_of(b->did.bytes, sizeof(b->did.bytes));
	p->beat.incarnation = b->incarnation;
	p->beat.sequence = b->sequence;
	p->beat.current = bytes_of_version(&b->current);
	if (b->inline_delta.size > 0) {
		p->beat.previous = bytes_of_version(&b->previous);
		p->beat.inline_delta = bytes_of(b->inline_delta.data, b->inline_delta.size);
	}
	p->beat.link_port = b->link_port;
	p->beat.interval_ms = b->interval_ms;
	p->beat.n_window = b->window_count;
	p->beat.window = p->window;
	for (size_t i = 0; i < b->window_count; i++) {
		const struct window_entry *from = &b->window[i];
		p->entries[i] = (Wire__WindowEntry)WIRE__WINDOW_ENTRY__INIT;
		if (memcmp(&from->version, &b->current, sizeof(b->current)) != 0)
			p->entries[i].version = bytes_of_version(&from->version);
		p->entries[i].scope = bytes_of(from->scope.names, from->scope.size);
		p->entries[i].aborted = from->aborted;
		p->window[i] = &p->entries[i];
	}
}

/* Let the window shrink, not below 'entries_min', until all fits; does it? */
static bool beat_parts_shrink(struct beat_parts *p, size_t entries_min)
{
	size_t room = WIRE_DATAGRAM_BYTES_MAX - sizeof(magic);
	while (wire__beat__get_packed_size(&p->beat) > room) {
		if (p->beat.n_window <= entries_min)
			return false;
		p->beat.n_window--;
	}
	return true;
}

static void beat_parts_fit(struct beat_parts *p, const struct beat *b)
{
	beat_parts_fill(p, b);
	if (b->inline_delta.size > 0 && beat_parts_shrink(p, b->window_count > 0))
		return;
	p->beat.previous.len = p->beat.inline_delta.len = 0;
	p->beat.n_window = b->window_count;
	bool fits = beat_parts_shrink(p, 0);
	assert(fits);
}

size_t wire_beat_encode(const struct beat *b, uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX])
{
	struct beat_parts parts;
	beat_parts_fit(&parts, b);
	memcpy(datagram, magic, sizeof(magic));
	return sizeof(magic) + wire__beat__pack(&parts.beat, datagram + sizeof(magic));
}

static bool window_entry_from(const Wire__WindowEntry *from, const struct drs_version *current, struct window_entry *ret)
{
	ret->aborted = from->aborted;
	if (from->version.len == 0)
		ret->version = *current;
	else if (!version_from(from->version, &ret->version))
		return false;
	return scope_from(from->scope, &ret->scope);
}

static bool beat_from(const Wire__Beat *from, struct beat *ret, struct buffer *storage)
{
	*ret = (struct beat){ .incarnation = from->incarnation, .sequence = from->sequence, .interval_ms = from->interval_ms };
	if (!did_from(from->did, &ret->did) || !version_from(from->current, &ret->current) ||
	    !version_from(from->previous, &ret->previous) || !port_from(from->link_port, &ret->link_port))
		return false;
	for (; ret->window_count < from->n_window && ret->window_count < WINDOW_MAX; ret->window_count++)
		if (!window_entry_from(from->window[ret->window_count], &ret->current, &ret->window[ret->window_count]))
			return false;
	return from->inline_delta.len <= DRS_INLINE_BYTES_MAX && slice_from(from->inline_delta, storage, &ret->inline_delta);
}

int wire_beat_decode(struct slice datagram, struct beat *ret_beat, struct buffer *storage)
{
	const uint8_t *bytes = datagram.data;
	buffer_clear(storage);
	if (datagram.size < sizeof(magic) || datagram.size > WIRE_DATAGRAM_BYTES_MAX || memcmp(bytes, magic, sizeof(magic) - 1) != 0)
		return -DRS_EPROTOCOL;
	if (bytes[3] != magic[3])
		return bytes[3] >= '0' && bytes[3] <= '9' ? -DRS_EMAJOR : -DRS_EPROTOCOL;
	Wire__Beat *beat = wire__beat__unpack(NULL, datagram.size - sizeof(magic), bytes + sizeof(magic));
	if (!beat)
		return -DRS_EPROTOCOL;
	bool ok = beat_from(beat, ret_beat, storage);
	wire__beat__free_unpacked(beat, NULL);
	return ok ? 0 : storage->failed ? -ENOMEM : -DRS_EPROTOCOL;
}

/* --- messages on links */

static void message_pack(const Wire__Message *message, struct buffer *out)
{
	uint8_t *at = buffer_grow(out, wire__message__get_packed_size(message));
	if (at)
		wire__message__pack(message, at);
}

void wire_message_encode(const struct wire_message *m, struct buffer *out)
{
	Wire__Message message = WIRE__MESSAGE__INIT;
	Wire__Hello hello = WIRE__HELLO__INIT;
	Wire__Welcome welcome = WIRE__WELCOME__INIT;
	Wire__Refuse refuse = WIRE__REFUSE__INIT;
	Wire__Pull pull = WIRE__PULL__INIT;
	Wire__PullEnd pull_end = WIRE__PULL_END__INIT;
	Wire__Report report = WIRE__REPORT__INIT;
	Wire__Ping ping = WIRE__PING__INIT;
	Wire__Pong pong = WIRE__PONG__INIT;
	Wire__Prepare prepare = WIRE__PREPARE__INIT;
	Wire__PrepareAnswer answer = WIRE__PREPARE_ANSWER__INIT;
	struct beat_parts beat;

	switch (m->kind) {
	case WIRE_HELLO:
		hello.major = m->hello.major;
		hello.minor = m->hello.minor;
		hello.name = (char *)m->hello.name;
		if (m->hello.did_known)
			hello.did = bytes_of(m->hello.did.bytes, sizeof(m->hello.did.bytes));
		hello.version = bytes_of_version(&m->hello.version);
		hello.path = (Wire__Path)m->hello.path;
		hello.udp_port = m->hello.udp_port;
		message.kind_case = WIRE__MESSAGE__KIND_HELLO;
		message.hello = &hello;
		break;
	case WIRE_WELCOME:
		welcome.did = bytes_of(m->welcome.did.bytes, sizeof(m->welcome.did.bytes));
		welcome.credentials = bytes_of(m->welcome.credentials.data, m->welcome.credentials.size);
		welcome.version = bytes_of_version(&m->welcome.version);
		welcome.incarnation = m->welcome.incarnation;
		welcome.interval_ms = m->welcome.interval_ms;
		message.kind_case = WIRE__MESSAGE__KIND_WELCOME;
		message.welcome = &welcome;
		break;
	case WIRE_REFUSE:
		refuse.reason = reason_of(m->refuse.error);
		refuse.text = (char *)m->refuse.text;
		message.kind_case = WIRE__MESSAGE__KIND_REFUSE;
		message.refuse = &refuse;
		break;
	case WIRE_PULL:
		pull.request = m->pull.request;
		pull.complete = m->pull.complete;
		pull.opening = bytes_of(m->pull.opening.data, m->pull.opening.size);
		if (m->pull.to_proposed)
			pull.proposed = bytes_of_version(&m->pull.proposed);
		message.kind_case = WIRE__MESSAGE__KIND_PULL;
		message.pull = &pull;
		break;
	case WIRE_PULL_END:
		pull_end.request = m->pull_end.request;
		pull_end.reason = reason_of(m->pull_end.error);
		pull_end.text = (char *)m->pull_end.text;
		message.kind_case = WIRE__MESSAGE__KIND_PULL_END;
		message.pull_end = &pull_end;
		break;
	case WIRE_REPORT:
		report.version = bytes_of_version(&m->report.version);
		report.path = (Wire__Path)m->report.path;
		message.kind_case = WIRE__MESSAGE__KIND_REPORT;
		message.report = &report;
		break;
	case WIRE_PING:
		message.kind_case = WIRE__MESSAGE__KIND_PING;
		message.ping = &ping;
		break;
	case WIRE_PONG:
		message.kind_case = WIRE__MESSAGE__KIND_PONG;
		message.pong = &pong;
		break;
	case WIRE_BEAT:
		beat_parts_fit(&beat, &m->beat);
		message.kind_case = WIRE__MESSAGE__KIND_BEAT;
		message.beat = &beat.beat;
		break;
	case WIRE_PREPARE:
		assert(m->prepare.inline_delta.size <= DRS_PREPARE_BYTES_MAX);
		prepare.version = bytes_of_version(&m->prepare.version);
		prepare.previous = bytes_of_version(&m->prepare.previous);
		prepare.timeout_ms = m->prepare.timeout_ms;
		prepare.inline_delta = bytes_of(m->prepare.inline_delta.data, m->prepare.inline_delta.size);
		message.kind_case = WIRE__MESSAGE__KIND_PREPARE;
		message.prepare = &prepare;
		break;
	case WIRE_PREPARE_ANSWER:
		answer.version = bytes_of_version(&m->prepare_answer.version);
		answer.answer = (Wire__Answer)m->prepare_answer.answer;
		if (m->prepare_answer.answer == PREPARE_NAK) {
			answer.reason = reason_of(m->prepare_answer.error);
			answer.text = (char *)m->prepare_answer.text;
		}
		message.kind_case = WIRE__MESSAGE__KIND_PREPARE_ANSWER;
		message.prepare_answer = &answer;
		break;
	case WIRE_UNKNOWN:
		assert(!"nothing to say");
	}
	message_pack(&message, out);
}

static bool hello_from(const Wire__Hello *from, struct wire_message *ret)
{
	ret->kind = WIRE_HELLO;
	memset(&ret->hello, 0, sizeof(ret->hello));
	ret->hello.major = from->major;
	if (from->major != WIRE_MAJOR)
		return true;
	ret->hello.minor = from->minor;
	ret->hello.did_known = from->did.len > 0;
	if (!wire_name_valid(from->name) || (ret->hello.did_known && !did_from(from->did, &ret->hello.did)))
		return false;
	strcpy(ret->hello.name, from->name);
	return version_from(from->version, &ret->hello.version) && path_from(from->path, &ret->hello.path) &&
	       port_from(from->udp_port, &ret->hello.udp_port);
}

static bool welcome_from(const Wire__Welcome *from, struct wire_message *ret, struct buffer *storage)
{
	ret->kind = WIRE_WELCOME;
	ret->welcome.incarnation = from->incarnation;
	ret->welcome.interval_ms = from->interval_ms;
	return did_from(from->did, &ret->welcome.did) && version_from(from->version, &ret->welcome.version) &&
	       from->credentials.len <= WIRE_CREDENTIALS_BYTES_MAX && slice_from(from->credentials, storage, &ret->welcome.credentials);
}

static bool refuse_from(const Wire__Refuse *from, struct wire_message *ret)
{
	ret->kind = WIRE_REFUSE;
	ret->refuse.error = from->reason == WIRE__REASON__REASON_NONE ? -DRS_EREFUSED : error_from(from->reason);
	text_from(from->text, ret->refuse.text);
	return true;
}

static bool pull_from(const Wire__Pull *from, struct wire_message *ret, struct buffer *storage)
{
	ret->kind = WIRE_PULL;
	ret->pull.request = from->request;
	ret->pull.complete = from->complete;
	ret->pull.to_proposed = from->proposed.len > 0;
	return version_from(from->proposed, &ret->pull.proposed) && slice_from(from->opening, storage, &ret->pull.opening);
}

static bool pull_end_from(const Wire__PullEnd *from, struct wire_message *ret)
{
	ret->kind = WIRE_PULL_END;
	ret->pull_end.request = from->request;
	ret->pull_end.error = error_from(from->reason);
	text_from(from->text, ret->pull_end.text);
	return true;
}

static bool report_from(const Wire__Report *from, struct wire_message *ret)
{
	ret->kind = WIRE_REPORT;
	return version_from(from->version, &ret->report.version) && path_from(from->path, &ret->report.path);
}

static bool prepare_from(const Wire__Prepare *from, struct wire_message *ret, struct buffer *storage)
{
	ret->kind = WIRE_PREPARE;
	ret->prepare.timeout_ms = from->timeout_ms;
	return version_from(from->version, &ret->prepare.version) && version_from(from->previous, &ret->prepare.previous) &&
	       from->inline_delta.len <= DRS_PREPARE_BYTES_MAX && slice_from(from->inline_delta, storage, &ret->prepare.inline_delta);
}

static bool prepare_answer_from(const Wire__PrepareAnswer *from, struct wire_message *ret)
{
	ret->kind = WIRE_PREPARE_ANSWER;
	if (!answer_from(from->answer, &ret->prepare_answer.answer) || !version_from(from->version, &ret->prepare_answer.version))
		return false;
	bool nak = ret->prepare_answer.answer == PREPARE_NAK;
	ret->prepare_answer.error = !nak ? 0 : from->reason == WIRE__REASON__REASON_NONE ? -DRS_EREFUSED : error_from(from->reason);
	wire_text(nak ? from->text : "", true, ret->prepare_answer.text, sizeof(ret->prepare_answer.text));
	return true;
}

static bool message_from(const Wire__Message *from, struct wire_message *ret, struct buffer *storage)
{
	switch (from->kind_case) {
	case WIRE__MESSAGE__KIND_HELLO:
		return hello_from(from->hello, ret);
	case WIRE__MESSAGE__KIND_WELCOME:
		return welcome_from(from->welcome, ret, storage);
	case WIRE__MESSAGE__KIND_REFUSE:
		return refuse_from(from->refuse, ret);
	case WIRE__MESSAGE__KIND_PULL:
		return pull_from(from->pull, ret, storage);
	case WIRE__MESSAGE__KIND_PULL_END:
		return pull_end_from(from->pull_end, ret);
	case WIRE__MESSAGE__KIND_REPORT:
		return report_from(from->report, ret);
	case WIRE__MESSAGE__KIND_PING:
		ret->kind = WIRE_PING;
		return true;
	case WIRE__MESSAGE__KIND_PONG:
		ret->kind = WIRE_PONG;
		return true;
	case WIRE__MESSAGE__KIND_BEAT:
		ret->kind = WIRE_BEAT;
		return beat_from(from->beat, &ret->beat, storage);
	case WIRE__MESSAGE__KIND_PREPARE:
		return prepare_from(from->prepare, ret, storage);
	case WIRE__MESSAGE__KIND_PREPARE_ANSWER:
		return prepare_answer_from(from->prepare_answer, ret);
	default:
		ret->kind = WIRE_UNKNOWN;
		return true;
	}
}

int wire_message_decode(struct slice bytes, struct wire_message *ret_message, struct buffer *storage)
{
	buffer_clear(storage);
	if (bytes.size > WIRE_MESSAGE_BYTES_MAX)
		return -DRS_EPROTOCOL;
	Wire__Message *message = wire__message__unpack(NULL, bytes.size, bytes.data);
	if (!message)
		return -DRS_EPROTOCOL;
	bool ok = message_from(message, ret_message, storage);
	wire__message__free_unpacked(message, NULL);
	return ok ? 0 : storage->failed ? -ENOMEM : -DRS_EPROTOCOL;
}
