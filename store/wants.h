/*
 * Which of the wanted chunks a stage asks for next, and which it has asked for: as far as it remembers them in the order of the files, so that a file's
 * bytes come to lie one after another on disk and are read fast. What it does not remember (there was too much, or an earlier conversation began with it)
 * follows by id. A list that has come goes before what waits already: so what has to be remembered is about the size of the lists under way.
 */
#ifndef STORE_WANTS_H
#define STORE_WANTS_H

#include "store/chunk.h"
#include "store/frame.h"

struct wants {
	struct chunk_id *items;                        /* a ring */
	size_t from, count;
	struct chunk_id asked[FRAME_OUTSTANDING_MAX];  /* a ring: answers come in order */
	size_t asked_from, asked_count;
	bool searched;                                 /* by id, up to 'found' */
	struct chunk_id found;
};

void wants_fini(struct wants *);
/* The chunks that 'entries' name, those that are wanted; into 'ids', one id after another. -ENOMEM, -DRS_ECORRUPT. */
int wants_of_entries(struct txn *, struct slice entries, struct buffer *ids);
/* Remember these as the next, or the last, to ask for; as many as there is room for. */
void wants_add(struct wants *, struct slice ids, bool first);
/* Up to 'max' ids to ask for now, of chunks that are still wanted and not asked for yet; how many, or an error. */
int wants_take(struct wants *, struct txn *, struct chunk_id *ret_ids, size_t max);
/* The answer to the oldest one has come. */
void wants_answered(struct wants *);

#endif
