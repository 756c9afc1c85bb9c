/*
 * The calls of an edit (content.h): what they do to the tree of pieces is in patch.c and share.c, when it settles into chunks is decided here,
 * and how is in settle.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/content.h"
#include "store/patch.h"
#include "store/piece.h"
#include "store/reading.h"
#include "store/settle.h"

struct content_edit {
	struct pieces pieces;
	uint64_t hot; /* where the last write ended, and the next one may go on */
	bool changed;
};

int content_edit_new(const struct node *node, struct content_edit **ret_edit)
{
	struct content_edit *edit = calloc(1, sizeof(*edit));
	if (!edit)
		return -ENOMEM;
	int ret = pieces_init(&edit->pieces, node);
	if (ret < 0) {
		free(edit);
		return ret;
	}
	edit->hot = UINT64_MAX;
	*ret_edit = edit;
	return 0;
}

void content_edit_free(struct content_edit *edit)
{
	if (!edit)
		return;
	pieces_fini(&edit->pieces);
	free(edit);
}

uint64_t content_edit_size(const struct content_edit *edit)
{
	return edit->pieces.size;
}

size_t content_edit_bytes(const struct content_edit *edit)
{
	return edit->pieces.bytes;
}

bool content_edit_changed(const struct content_edit *edit)
{
	return edit->changed;
}

/* --- changes */

/* Keep the bytes in memory bounded, before more come: if it fails nothing has happened yet. */
static int make_room(struct content_edit *edit, struct txn *txn, size_t size)
{
	int ret = pieces_prepare(&edit->pieces, txn);
	if (ret == 0 && edit->pieces.bytes > 0 && edit->pieces.bytes + size > EDIT_BYTES_MAX)
		ret = settle_bytes(&edit->pieces, txn, edit->hot);
	return ret;
}

int content_edit_write(struct content_edit *edit, struct txn *txn, uint64_t offset, const void *data, size_t size)
{
	if (size > CONTENT_BYTES_MAX || offset > CONTENT_BYTES_MAX - size)
		return -EFBIG;
	int ret = make_room(edit, txn, size);
	if (ret < 0 || size == 0)
		return ret;
	edit->changed = true;
	edit->hot = offset + size;
	return pieces_write(&edit->pieces, txn, offset, data, size);
}

int content_edit_truncate(struct content_edit *edit, struct txn *txn, uint64_t size)
{
	struct pieces *p = &edit->pieces;
	if (size > CONTENT_BYTES_MAX)
		return -EFBIG;
	int ret = make_room(edit, txn, 0);
	if (ret < 0 || size == p->size)
		return ret;
	edit->changed = true;
	return size > p->size ? pieces_extend(p, txn, size) : pieces_shorten(p, txn, size);
}

int content_edit_punch(struct content_edit *edit, struct txn *txn, uint64_t offset, uint64_t size)
{
	struct pieces *p = &edit->pieces;
	int ret = make_room(edit, txn, 0);
	if (ret < 0 || offset >= p->size || size == 0)
		return ret;
	edit->changed = true;
	return pieces_punch(p, txn, offset, size < p->size - offset ? offset + size : p->size);
}

int content_edit_share(struct content_edit *edit, struct txn *txn, uint64_t offset, const struct node *source, uint64_t from, uint64_t size)
{
	if (from >= source->size)
		return 0;
	if (size > source->size - from)
		size = source->size - from;
	if (size > CONTENT_BYTES_MAX || offset > CONTENT_BYTES_MAX - size)
		return -EFBIG;
	int ret = make_room(edit, txn, 0);
	if (ret < 0 || size == 0)
		return ret;
	edit->changed = true;
	return pieces_share(&edit->pieces, txn, offset, source, from, size);
}

int content_edit_read(struct content_edit *edit, struct txn *txn, uint64_t offset, size_t size, content_sink *sink, void *user)
{
	struct reading reading = { sink, user, 0 };
	struct walk walk = reading_walk(&reading, txn, offset, size, edit->pieces.size);
	return reading_result(&reading, pieces_walk(&edit->pieces, &walk));
}

int content_edit_seek(struct content_edit *edit, struct txn *txn, uint64_t offset, int whence, uint64_t *ret_offset)
{
	struct seeking seeking;
	struct walk walk;
	int ret = seeking_walk(&seeking, txn, offset, whence, edit->pieces.size, &walk);
	if (ret < 0)
		return ret;
	return seeking_result(&seeking, pieces_walk(&edit->pieces, &walk), ret_offset);
}

/* --- saving */

static int add_to_buffer(void *user, const void *data, size_t size)
{
	uint8_t *at = buffer_grow(user, size);
	if (!at)
		return -ENOMEM;
	if (data)
		memcpy(at, data, size);
	else
		memset(at, 0, size);
	return 0;
}

static int visit_data(const struct walk *w, const struct span *span)
{
	(void)w;
	return span->kind == ENTRY_LIST ? WALK_OPEN : span->kind == ENTRY_DATA ? WALK_STOP : WALK_ON;
}

/* Small enough, and not a hole wholly? Then the bytes stay in memory, since no record names the chunks that they may be in. */
static int save_inline(struct content_edit *edit, struct txn *txn, struct buffer *storage)
{
	int ret = content_edit_read(edit, txn, 0, NODE_INLINE_BYTES_MAX, add_to_buffer, storage);
	if (ret < 0)
		return ret;
	struct pieces pieces;
	struct node node = { .size = storage->size, .content_kind = CONTENT_INLINE, .content = buffer_slice(storage) };
	ret = pieces_init(&pieces, &node);
	if (ret < 0)
		return ret;
	pieces_fini(&edit->pieces);
	edit->pieces = pieces;
	return 0;
}

static int save_list(struct content_edit *edit, struct txn *txn, struct buffer *storage)
{
	int ret = settle_bytes(&edit->pieces, txn, UINT64_MAX);
	if (ret == 0)
		ret = settle_lists(&edit->pieces, txn);
	if (ret == 0)
		ret = settle_encode(&edit->pieces.root, storage);
	return ret;
}

static int choose_kind(struct content_edit *edit, struct txn *txn, enum content_kind *ret_kind)
{
	uint64_t size = edit->pieces.size;
	*ret_kind = size == 0 ? CONTENT_NONE : CONTENT_LIST;
	if (size == 0 || size > NODE_INLINE_BYTES_MAX)
		return 0;
	int ret = pieces_walk(&edit->pieces, &(struct walk){ txn, 0, size, visit_data, NULL });
	if (ret == WALK_STOP)
		*ret_kind = CONTENT_INLINE;
	return ret < 0 ? ret : 0;
}

int content_edit_save(struct content_edit *edit, struct txn *txn, struct node *node, struct buffer *storage)
{
	enum content_kind kind = CONTENT_NONE;
	buffer_clear(storage);
	int ret = pieces_prepare(&edit->pieces, txn);
	if (ret == 0)
		ret = choose_kind(edit, txn, &kind);
	if (ret == 0 && kind == CONTENT_INLINE)
		ret = save_inline(edit, txn, storage);
	else if (ret == 0 && kind == CONTENT_LIST)
		ret = save_list(edit, txn, storage);
	if (ret < 0)
		return ret;
	node->content_kind = kind;
	node->content = kind == CONTENT_NONE ? (struct slice){ 0 } : buffer_slice(storage);
	node->size = edit->pieces.size;
	edit->changed = false;
	return 0;
}
