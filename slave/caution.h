/* What visits do differently on account of a flip: caution.c. Part of the slave's mount; not for others. */
#ifndef SLAVE_CAUTION_H
#define SLAVE_CAUTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "slave/nodes.h"

enum given_kind { GIVEN_LISTING, GIVEN_ACL, GIVEN_KINDS };

/* An answer that the kernel may keep although it was told no timeout. */
struct given {
	node_id id;
	enum given_kind kind;
};

struct node_set {
	node_id *items;
	size_t count, capacity;
};

#define BLUR_NANOSECONDS_MAX 100000

struct caution {
	pthread_mutex_t lock; /* of 'given', among visits */
	struct given *given;
	size_t given_count, given_capacity;
	struct node_set free[GIVEN_KINDS], blurred; /* changed only with the gate held for writing */
	atomic_uint blur;
};

void caution_init(struct caution *);
void caution_fini(struct caution *);

/* Visits. */
int caution_gives(struct caution *, node_id, enum given_kind);      /* before the reply of a cautious visit; -ENOMEM */
bool caution_is_blurred(const struct caution *, ino_id dir);
void caution_blurs(struct caution *, struct timespec *mtime);         /* to what it was not, and was not the last time either */

/* The flip, with the gate held for writing. -ENOMEM. */
int caution_free(struct caution *, const struct given *);
int caution_blur(struct caution *, ino_id dir);
bool caution_take(struct caution *, struct given *ret_given); /* one of what was given; false: nothing is left */
void caution_end(struct caution *);

#endif
