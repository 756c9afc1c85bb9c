/*
 * The codec between the messages of drsfs/wire.proto, which says what they mean, and the structs of the program.
 * Decoding takes any bytes: it checks lengths and ranges, so what comes out of it is well-formed (not: true).
 */
#ifndef DRSFS_WIRE_H
#define DRSFS_WIRE_H

#include "drsfs/buffer.h"
#include "drsfs/event.h"

#define WIRE_MAJOR                 1
#define WIRE_MINOR                 1 /* 1: two phase */
#define WIRE_DATAGRAM_BYTES_MAX    1400
#define WIRE_MESSAGE_BYTES_MAX     (64 << 10)
#define WIRE_TEXT_MAX              256
#define WIRE_CREDENTIALS_BYTES_MAX 1024

enum wire_kind {
	WIRE_UNKNOWN, /* of a newer minor version: to be ignored */
	WIRE_HELLO,
	WIRE_WELCOME,
	WIRE_REFUSE,
	WIRE_PULL,
	WIRE_PULL_END,
	WIRE_REPORT,
	WIRE_PING,
	WIRE_PONG,
	WIRE_BEAT,
	WIRE_PREPARE,
	WIRE_PREPARE_ANSWER,
};

struct wire_message {
	enum wire_kind kind;
	union {
		struct {
			uint32_t major, minor;
			char name[NAME_TEXT_MAX];
			bool did_known;
			struct did did;
			struct drs_version version;
			enum beat_path path;
			uint16_t udp_port;
		} hello; /* of another major only 'major' is set */
		struct {
			struct did did;
			struct slice credentials;
			struct drs_version version;
			uint64_t incarnation;
			uint32_t interval_ms;
		} welcome;
		struct {
			int error; /* never 0 */
			char text[WIRE_TEXT_MAX];
		} refuse;
		struct {
			uint32_t request;
			bool complete, to_proposed;
			struct drs_version proposed; /* of to_proposed */
			struct slice opening;
		} pull;
		struct {
			uint32_t request;
			int error; /* 0: all has been said */
			char text[WIRE_TEXT_MAX];
		} pull_end;
		struct {
			struct drs_version version;
			enum beat_path path;
		} report;
		struct beat beat;
		struct {
			struct drs_version version, previous;
			uint32_t timeout_ms;
			struct slice inline_delta; /* empty: to be pulled */
		} prepare;
		struct {
			struct drs_version version;
			enum prepare_answer answer;
			int error; /* of a Nak, never 0; else 0 */
			char text[DRS_REASON_BYTES_MAX];
		} prepare_answer;
	};
};

/*
 * A heartbeat as a datagram: its size. What does not fit is left out: first the older window entries, down to one, then the inline delta.
 * Allocates nothing.
 */
size_t wire_beat_encode(const struct beat *, uint8_t datagram[WIRE_DATAGRAM_BYTES_MAX]);
/*
 * The inline delta of the beat lives in 'storage' (cleared first). -DRS_EMAJOR: another major version's. -DRS_EPROTOCOL: not a heartbeat. -ENOMEM.
 */
int wire_beat_decode(struct slice datagram, struct beat *ret_beat, struct buffer *storage);

/* Appends the message; out of memory: buffer.failed. */
void wire_message_encode(const struct wire_message *, struct buffer *);
/* Slices in the message live in 'storage' (cleared first). -DRS_EPROTOCOL, -ENOMEM. */
int wire_message_decode(struct slice bytes, struct wire_message *ret_message, struct buffer *storage);

/*
 * Words of somebody else, made fit for people's terminals and for a message: cut to 'size' with NUL at the end of a character, what is not UTF-8 or not
 * printable shown as '?'. Line ends and tabs stay with 'lines', for text that may have more than one.
 */
void wire_text(const char *from, bool lines, char *text, size_t size);

/* Is this a server's or cluster's name: letters, digits, '-', '_', '.', not empty, shorter than NAME_TEXT_MAX? */
bool wire_name_valid(const char *);

#endif
