/* Reads and seeks as walks, for content at rest (content.c) and for content that is being edited (edit.c). */
#ifndef STORE_READING_H
#define STORE_READING_H

#include "store/content.h"
#include "store/walk.h"

struct reading {
	content_sink *sink;
	void *user;
	int stopped; /* what the sink returned */
};
/* A walk over [offset, offset+size), clipped to the content, that delivers to the sink; then its result. */
struct walk reading_walk(struct reading *, struct txn *, uint64_t offset, size_t size, uint64_t content_size);
int reading_result(const struct reading *, int walked);

struct seeking {
	enum entry_kind wanted;
	uint64_t found;
};
/* A walk to the first data or hole from 'offset' on; -ENXIO, -EINVAL; then its result. */
int seeking_walk(struct seeking *, struct txn *, uint64_t offset, int whence, uint64_t content_size, struct walk *ret_walk);
int seeking_result(const struct seeking *, int walked, uint64_t *ret_offset);

#endif
