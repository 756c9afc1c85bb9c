/*
 * Content: a file's bytes as a tree of chunks that is cut where the content says so, at every level.
 *
 * Data is cut by FastCDC (gear hash; CUT_BYTES_MIN/AVERAGE/MAX); the resulting entries are grouped into list chunks, cut after entries whose id says so
 * (LIST_ENTRIES_MIN/AVERAGE/MAX), level by level, until at most LIST_ENTRIES_TOP remain: these stand in the node record. So an insertion near
 * the start of a big file changes a few data chunks, one or two list chunks a level, and the top: the rest is shared by id, on disk and on the wire.
 * Each list that changes counts all its entries anew, in rows that lie everywhere on disk: with about 15 entries a list a level more is cheaper than more
 * of them.
 * Files of up to NODE_INLINE_BYTES_MAX live inside their node record. Runs of zeros that nobody wrote are hole entries.
 */
#ifndef STORE_CONTENT_H
#define STORE_CONTENT_H

#include "store/chunk.h"
#include "store/node.h"
#include "store/store.h"

#define CUT_BYTES_MIN 8192
#define CUT_BYTES_AVERAGE 32768
#define CUT_BYTES_MAX CHUNK_BYTES_MAX
#define LIST_ENTRIES_MIN 4
#define LIST_ENTRIES_AVERAGE 12
#define LIST_ENTRIES_MAX 64
#define LIST_ENTRIES_TOP 16
#define CONTENT_BYTES_MAX ((uint64_t)1 << 62)

/*
 * How many of the first bytes form the next chunk. 'last': no more bytes come after these. 0: undecided, give more
 * (never 0 if 'last' or if there are >= CUT_BYTES_MAX). Depends on nothing but the bytes. (cut.c)
 */
size_t cut_length(const uint8_t *data, size_t size, bool last);

/* Where content_read delivers: pieces in order; data == NULL stands for that many zeros. Not 0 stops the read and is returned. */
typedef int content_sink(void *user, const void *data, size_t size);

/* Read [offset, offset+size) clipped to the node's size, straight from the store, no copy: pieces are valid as long as the transaction. */
int content_read(struct txn *, const struct node *, uint64_t offset, size_t size, content_sink *, void *user);
/* lseek: SEEK_DATA or SEEK_HOLE; -ENXIO beyond the end. */
int content_seek(struct txn *, const struct node *, uint64_t offset, int whence, uint64_t *ret_offset);
/* Bytes of file that are not holes (for st_blocks). For a list: from the top entries only, holes inside list chunks count as data. */
uint64_t content_allocated(const struct node *);

/*
 * Editing: the content of one open file while it is being written. Pieces that were touched are in memory, the rest is known by entry only,
 * list chunks are opened where they are touched. Memory: at most about EDIT_BYTES_MAX of data per file before it cuts and stores chunks itself.
 * One thread (the writer's). The edit does not survive a restart; content_edit_save makes node content of it at any time.
 * Between saves an edit knows chunks that nothing counts yet (stored or shared since): save it before the transaction commits. When the transaction
 * is aborted they are gone, and the edit is of no more use.
 */
#define EDIT_BYTES_MAX ((size_t)4 << 20)
struct content_edit;

/* Start from a node's content (copied; the node may go away). */
int content_edit_new(const struct node *, struct content_edit **ret_edit);
void content_edit_free(struct content_edit *);
uint64_t content_edit_size(const struct content_edit *);
size_t content_edit_bytes(const struct content_edit *);  /* data bytes held in memory */
bool content_edit_changed(const struct content_edit *);  /* since new or the last save */
/* Write at any offset; a gap beyond the end becomes a hole. May store chunks in the transaction (call content_edit_save before commit then). -EFBIG. */
int content_edit_write(struct content_edit *, struct txn *, uint64_t offset, const void *data, size_t size);
int content_edit_truncate(struct content_edit *, struct txn *, uint64_t size); /* up (a hole) or down */
int content_edit_punch(struct content_edit *, struct txn *, uint64_t offset, uint64_t size); /* becomes a hole; the size stays */
/* Share [from, from+size) of another node or edit's saved content without copying bytes where whole chunks allow; 'source' as saved. */
int content_edit_share(struct content_edit *, struct txn *, uint64_t offset, const struct node *source, uint64_t from, uint64_t size);
/* As content_read, own changes included. Pieces are valid until the next call that changes the edit. */
int content_edit_read(struct content_edit *, struct txn *, uint64_t offset, size_t size, content_sink *, void *user);
int content_edit_seek(struct content_edit *, struct txn *, uint64_t offset, int whence, uint64_t *ret_offset);
/*
 * Cut what is not cut yet, store it, and set content_kind, content and size of the node. 'storage' owns the bytes that node->content points to.
 * Cost: what changed since the last save, not the size of the file. The caller must put the node record in the same transaction.
 */
int content_edit_save(struct content_edit *, struct txn *, struct node *, struct buffer *storage);

#endif
