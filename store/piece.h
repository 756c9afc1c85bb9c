/*
 * The content of a file under edit as a tree of pieces.
 *
 * Leaves are holes, chunks known by id, and bytes in memory. Above them stands the same tree of lists that the store holds, in which the lists that
 * were touched are opened: an opened list is a *group* of items, an unopened one is an item with its id. So locating an offset costs a scan of one
 * group a level, and an edit holds in memory what it touched and nothing else. The tree is uniform: all leaves stand at level 0, the items
 * of a group at level n > 0 are lists (opened or not) of items at level n - 1; the root is a group that is always open.
 *
 * Here are the mechanics only: find, cut apart, put in, take out. Which bytes make a chunk and which chunks a list is decided in settle.c.
 */
#ifndef STORE_PIECE_H
#define STORE_PIECE_H

#include "store/chunk.h"
#include "store/node.h"
#include "store/walk.h"

#define PIECE_LEVELS (ENTRY_DEPTH_MAX + 1)
#define GROUP_ITEMS_MAX 1024                 /* a larger group is divided, so that the scans stay short */
#define PIECE_BYTES_MAX ((size_t)1 << 20)    /* bytes in memory grow up to this, then a new piece begins */

enum piece_kind { PIECE_HOLE, PIECE_DATA, PIECE_BYTES, PIECE_LIST, PIECE_GROUP };

struct piece {
	enum piece_kind kind;
	uint32_t capacity;           /* of 'bytes' */
	uint64_t length;             /* bytes of the file */
	union {
		struct chunk_id id;  /* PIECE_DATA, PIECE_LIST */
		uint8_t *bytes;      /* PIECE_BYTES: owned */
		struct group *group; /* PIECE_GROUP: owned */
	};
};

struct group {
	struct piece *items;
	size_t count, capacity;
};

struct pieces {
	struct group root;
	unsigned level;   /* of the root's items */
	bool level_known; /* a tree made of a node's entries learns it at its first use (pieces_prepare) */
	uint64_t size;    /* of the file */
	size_t bytes;     /* held in memory */
};

/* The way to an item: for each level from the root's down to the wanted one the group and the index in it. */
struct place {
	unsigned level;
	struct {
		struct group *group;
		size_t index;
	} at[PIECE_LEVELS];
	uint64_t start; /* where the item starts in the file */
	uint64_t skip;  /* how far into the item the wanted offset lies */
};

static inline struct piece *place_item(const struct place *place)
{
	return &place->at[place->level].group->items[place->at[place->level].index];
}

int pieces_init(struct pieces *, const struct node *);  /* -ENOMEM, -DRS_ECORRUPT: nothing to free */
void pieces_fini(struct pieces *);
int pieces_prepare(struct pieces *, struct txn *);      /* before any of the functions below; -DRS_ECORRUPT if the tree is not uniform */

/* The item at 'level' that holds the offset, or the place behind the last item if offset == size. Opens lists on the way. */
int pieces_locate(struct pieces *, struct txn *, unsigned level, uint64_t offset, struct place *ret_place);
/* The first item of a kind at 'level' that starts at or after 'from', among what is open: false if there is none. */
bool pieces_find(const struct pieces *, unsigned level, enum piece_kind, uint64_t from, uint64_t *ret_start);
/* Make 'offset' a boundary between items at 'level' and all levels below. */
int pieces_split(struct pieces *, struct txn *, unsigned level, uint64_t offset);
/* Put items in at 'offset', a boundary at 'level'; what lay there moves up. Takes the items on success (not the array). */
int pieces_insert(struct pieces *, struct txn *, unsigned level, uint64_t offset, const struct piece *items, size_t count);
/* Take out [from, to), whose ends are boundaries of open groups (split, or come there by locate); what lay behind moves down. */
void pieces_remove(struct pieces *, uint64_t from, uint64_t to);
/* Put items of the same length as [from, to) in its place. Same terms as the two above. */
int pieces_replace(struct pieces *, struct txn *, unsigned level, uint64_t from, uint64_t to, const struct piece *items, size_t count);
/* Change the length of a leaf; the memory behind it is the caller's affair. */
void pieces_resize(struct pieces *, const struct place *, uint64_t length);
/* Put the root one level higher: a new root, whose only item is the old one. -EFBIG at the highest level. */
int pieces_raise(struct pieces *);

/* Turn a chunk known by id into bytes in memory. */
int pieces_load(struct pieces *, struct txn *, struct piece *);
/* The same where the bytes are about to be overwritten wholly: they are undefined. */
int pieces_forget(struct pieces *, struct piece *);
/* Room for a piece of bytes to grow to 'length'. */
int piece_reserve(struct piece *, size_t length);
/* A new piece of bytes, not initialised. */
int piece_new_bytes(size_t length, struct piece *ret_piece);
void piece_fini(struct piece *);

int group_push(struct group *, const struct piece *);
void group_fini(struct group *); /* with all that is in it */
/* The items of an encoded list; -DRS_ECORRUPT unless their lengths add up to 'length'. */
int group_decode(struct slice entries, uint64_t length, struct group *ret_group);
/* Do all items belong to this level? */
bool group_uniform(const struct group *, unsigned level);
/* Open a list whose items are of 'level'. */
int piece_open(struct piece *, struct txn *, unsigned level);

/* As walk_node, bytes in memory included. */
int pieces_walk(const struct pieces *, const struct walk *);

#endif
