/* What comes from the network, decoded: heartbeats and messages of links. The first byte chooses. (F8) */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_beat(struct slice bytes, struct buffer *storage)
{
	struct beat beat;
	uint8_t again[WIRE_DATAGRAM_BYTES_MAX];
	if (wire_beat_decode(bytes, &beat, storage) < 0)
		return;
	assert(beat.window_count <= WINDOW_MAX);
	assert(wire_beat_encode(&beat, again) <= sizeof(again));
}

static void check_bounds(const struct wire_message *m)
{
	char text[DRS_REASON_BYTES_MAX];
	if (m->kind == WIRE_PREPARE)
		assert(m->prepare.inline_delta.size <= DRS_PREPARE_BYTES_MAX);
	if (m->kind != WIRE_PREPARE_ANSWER)
		return;
	assert((m->prepare_answer.error < 0) == (m->prepare_answer.answer == PREPARE_NAK));
	assert(memchr(m->prepare_answer.text, 0, sizeof(m->prepare_answer.text)));
	wire_text(m->prepare_answer.text, true, text, sizeof(text));
	assert(strcmp(text, m->prepare_answer.text) == 0); /* it is clean */
}

/* What was understood can be said, and is understood again. */
static void check_message(struct slice bytes, struct buffer *storage)
{
	struct wire_message message;
	struct buffer again = BUFFER_INIT;
	/* What only a later version of the protocol knows is well-formed, too, but nothing that we would say. */
	if (wire_message_decode(bytes, &message, storage) == 0 && message.kind != WIRE_UNKNOWN) {
		enum wire_kind kind = message.kind;
		check_bounds(&message);
		wire_message_encode(&message, &again);
		int error = again.failed ? 0 : wire_message_decode(buffer_slice(&again), &message, storage);
		assert(error == 0 && message.kind == kind);
	}
	buffer_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer storage = BUFFER_INIT;
	if (size == 0)
		return 0;
	struct slice bytes = { data + 1, size - 1 };
	if (data[0] & 1)
		check_message(bytes, &storage);
	else
		check_beat(bytes, &storage);
	buffer_fini(&storage);
	return 0;
}
