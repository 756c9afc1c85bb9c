/*
 * The mount's helper: a thread for what takes kernel locks that may wait for the mount's thread (mounting and unmounting, invalidating what the
 * kernel has cached) and for what would keep it too long. It does one errand after the other.
 *
 * And calls: a queue of things for the mount's thread to do, from any thread.
 */
#ifndef MASTER_HELPER_H
#define MASTER_HELPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Its memory is the caller's (it stands inside something that is there until it has run). */
struct call {
	struct call *next;
	void (*run)(struct call *);
};

struct calls {
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct call *first, **last;
	atomic_bool any;   /* a look without the lock */
	bool closed;
};

void calls_init(struct calls *);
void calls_fini(struct calls *);
bool calls_add(struct calls *, struct call *);       /* any thread; false: closed */
struct call *calls_take(struct calls *, bool wait);  /* NULL: there is none, or, waiting, it was closed */
void calls_close(struct calls *);                    /* none is added any more; what is there can still be taken */

struct helper {
	struct calls calls;
	pthread_t thread;
	bool started;
};

int helper_start(struct helper *);
void helper_stop(struct helper *); /* when it has done all that it was given */

#endif
