/* What visits do differently while a flip goes on: caution.c. Part of the slave's mount; not for others. */
#ifndef SLAVE_CAUTION_H
#define SLAVE_CAUTION_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include "slave/nodes.h"

enum given_kind { GIVEN_LISTING, GIVEN_ACL };

/* An answer that the kernel may keep although it was told no timeout. */
struct given {
	node_id id;
	enum given_kind kind;
};

/* A request for a listing that is answered after the flip. */
struct parked {
	struct fuse_req *request;
	ino_id dir;
	size_t size;
	off_t after;
	bool plus;
	struct parked *next;
};

struct ino_set {
	ino_id *items;
	size_t count, capacity;
};

struct caution {
	pthread_mutex_t lock; /* of 'given' and 'parked', among visits */
	struct given *given;
	size_t given_count, given_capacity;
	struct parked *parked;
	struct ino_set free, quiet, blurred; /* changed only with the gate held for writing */
};

void caution_init(struct caution *);
void caution_fini(struct caution *);

/* Cautious visits. -ENOMEM. */
int caution_gives(struct caution *, node_id, enum given_kind); /* before the reply */
bool caution_is_quiet(const struct caution *, ino_id dir);
bool caution_is_blurred(const struct caution *, ino_id dir);
int caution_park(struct caution *, const struct parked *);    /* copied */

/* The flip, with the gate held for writing. -ENOMEM. */
int caution_blur(struct caution *, ino_id dir);
int caution_free(struct caution *, node_id);
int caution_quieten(struct caution *, ino_id dir);
bool caution_take(struct caution *, struct given *ret_given); /* one of what was given; false: nothing is left */
bool caution_take_of(struct caution *, node_id);              /* all of this node's; false: there was nothing */
/* Nobody is cautious any more. The parked requests are the caller's, to be answered and freed. */
struct parked *caution_end(struct caution *);

#endif
