/* The encodings of frame.h. */
#include "store/frame.h"

#include <errno.h>
#include <string.h>

#include "store/internal.h"

#define FORMAT 1

enum { OPENING_COMPLETE = 1, OPENING_RESUME_COMPLETE = 2, OPENING_RECORDS_DONE = 4, OPENING_FLAGS = 7 };
enum { BEGIN_COMPLETE = 1, BEGIN_RESUMED = 2, BEGIN_FLAGS = 3 };

void opening_encode(const struct opening *o, struct buffer *b)
{
	buffer_add_u8(b, FRAME_OPENING);
	buffer_add_u8(b, FORMAT);
	buffer_add(b, &o->did, sizeof(o->did));
	buffer_add_u8(b, (uint8_t)(o->complete * OPENING_COMPLETE | o->resume_complete * OPENING_RESUME_COMPLETE |
				   o->resume_records_done * OPENING_RECORDS_DONE));
	buffer_add_varint(b, o->current);
	buffer_add_varint(b, o->resume_to);
	if (o->resume_to) {
		buffer_add_varint(b, o->resume_at);
		buffer_add(b, o->resume_key.bytes, o->resume_key.size);
	}
}

int opening_decode(struct slice bytes, struct opening *ret_opening)
{
	struct reader r = reader_of(bytes);
	struct opening o = { .complete = false };
	if (read_u8(&r) != FRAME_OPENING || read_u8(&r) != FORMAT)
		return -DRS_EPROTOCOL;
	const uint8_t *did = read_bytes(&r, sizeof(o.did));
	if (did)
		memcpy(&o.did, did, sizeof(o.did));
	uint8_t flags = read_u8(&r);
	o.complete = flags & OPENING_COMPLETE;
	o.resume_complete = flags & OPENING_RESUME_COMPLETE;
	o.resume_records_done = flags & OPENING_RECORDS_DONE;
	o.current = read_varint(&r);
	o.resume_to = read_varint(&r);
	o.resume_at = o.resume_to ? read_varint(&r) : 0;
	size_t key_bytes = reader_left(&r);
	const uint8_t *key = read_bytes(&r, key_bytes);
	if (r.failed || flags & ~OPENING_FLAGS || o.current > VERSION_MAX || o.resume_to > VERSION_MAX || o.resume_at > o.resume_to)
		return -DRS_EPROTOCOL;
	if (key_bytes && (!o.resume_to || !record_key_valid(slice_of(key, key_bytes))))
		return -DRS_EPROTOCOL;
	o.resume_key.size = (uint16_t)key_bytes;
	memcpy(o.resume_key.bytes, key, key_bytes);
	*ret_opening = o;
	return 0;
}

void head_encode(const struct head *h, struct buffer *b)
{
	size_t message_bytes = strnlen(h->message, VERSION_MESSAGE_BYTES_MAX);
	buffer_add_varint(b, h->from);
	buffer_add_varint(b, h->to - h->from);
	buffer_add_be64(b, h->digest.lo);
	buffer_add_be64(b, h->digest.hi);
	buffer_add_be64(b, (uint64_t)h->time_ns);
	buffer_add_u8(b, (uint8_t)message_bytes);
	buffer_add(b, h->message, message_bytes);
}

int head_decode(struct reader *r, struct head *ret_head)
{
	struct head h = { .from = read_varint(r) };
	uint64_t step = read_varint(r);
	h.digest.lo = read_be64(r);
	h.digest.hi = read_be64(r);
	h.time_ns = (int64_t)read_be64(r);
	size_t message_bytes = read_u8(r);
	const uint8_t *message = read_bytes(r, message_bytes);
	if (r->failed || message_bytes > VERSION_MESSAGE_BYTES_MAX || memchr(message, 0, message_bytes))
		return -DRS_EPROTOCOL;
	if (h.from > VERSION_MAX || step > VERSION_MAX - h.from)
		return -DRS_EPROTOCOL;
	h.to = h.from + step;
	memcpy(h.message, message, message_bytes);
	*ret_head = h;
	return 0;
}

int head_load(struct txn *txn, version_t from, version_t to, struct head *ret_head)
{
	struct version_info info = { .version = to }; /* version 0 has no history: the empty tree */
	int error = to ? version_get(txn, to, &info) : 0;
	if (!error && to && info.state != VERSION_COMMITTED)
		error = -ENOENT;
	if (error)
		return error;
	*ret_head = (struct head){ .from = from, .to = to, .digest = info.digest, .time_ns = info.time_ns };
	memcpy(ret_head->message, info.message, sizeof(info.message));
	return 0;
}

void begin_encode(const struct begin *begin, struct buffer *b)
{
	buffer_add_u8(b, FRAME_BEGIN);
	buffer_add_u8(b, (uint8_t)(begin->complete * BEGIN_COMPLETE | begin->resumed * BEGIN_RESUMED));
	head_encode(&begin->head, b);
	buffer_add_varint(b, begin->records);
	buffer_add_varint(b, begin->bytes);
}

int begin_decode(struct slice frame, struct begin *ret_begin)
{
	struct reader r = reader_of(frame);
	struct begin begin;
	read_u8(&r); /* the kind */
	uint8_t flags = read_u8(&r);
	begin.complete = flags & BEGIN_COMPLETE;
	begin.resumed = flags & BEGIN_RESUMED;
	int error = head_decode(&r, &begin.head);
	begin.records = read_varint(&r);
	begin.bytes = read_varint(&r);
	if (error || r.failed || reader_left(&r) || flags & ~BEGIN_FLAGS)
		return -DRS_EPROTOCOL;
	*ret_begin = begin;
	return 0;
}

/* --- runs */

static size_t shared_bytes(const struct record_key *a, const struct record_key *b)
{
	size_t n = 0, max = a->size < b->size ? a->size : b->size;
	while (n < max && a->bytes[n] == b->bytes[n])
		n++;
	return n;
}

void run_add(struct run_writer *w, const struct record_key *key, bool live, struct slice value)
{
	size_t shared = shared_bytes(&w->previous, key);
	buffer_add_varint(w->out, shared);
	buffer_add_varint(w->out, key->size - shared);
	buffer_add(w->out, key->bytes + shared, key->size - shared);
	buffer_add_varint(w->out, live ? value.size + 1 : 0);
	if (live)
		buffer_add(w->out, value.data, value.size);
	w->previous = *key;
}

int run_next(const struct txn *txn, struct run_reader *run, struct run_record *ret_record)
{
	struct reader *r = &run->bytes;
	if (!reader_left(r))
		return 0;
	struct record_key *key = &run->previous;
	uint64_t shared = read_varint(r), more = read_varint(r);
	if (r->failed || shared > key->size || more > RECORD_KEY_BYTES_MAX - shared)
		return -DRS_EPROTOCOL;
	const uint8_t *bytes = read_bytes(r, more);
	uint64_t size = read_varint(r);
	const uint8_t *value = size ? read_bytes(r, size - 1) : NULL;
	if (r->failed)
		return -DRS_EPROTOCOL;
	memcpy(key->bytes + shared, bytes, more);
	key->size = (uint16_t)(shared + more);
	struct run_record record = { .key = *key, .live = size > 0, .value = slice_of(value, size ? size - 1 : 0) };
	if (!record_key_valid(slice_of(key->bytes, key->size)) || record_value_check(txn, key, record.value) != 0)
		return -DRS_EPROTOCOL;
	*ret_record = record;
	return 1;
}
