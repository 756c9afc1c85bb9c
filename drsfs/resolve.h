/* Names to addresses without making the loop wait: getaddrinfo on a helper thread. Numeric addresses are answered without one. */
#ifndef DRSFS_RESOLVE_H
#define DRSFS_RESOLVE_H

#include "drsfs/address.h"

struct event_base;
struct resolve;

#define RESOLVE_ADDRESSES_MAX 8

/*
 * Look "HOST:PORT" up; 'done' is called once, from the loop, never from within this call. 'error': 0, or -EHOSTUNREACH (no such name, no answer).
 * -EINVAL: not "HOST:PORT".
 */
typedef void resolve_done(void *user, int error, const struct address *addresses, size_t count);
int resolve_start(struct event_base *, const char *text, resolve_done *, void *user, struct resolve **ret_resolve);
/* After 'done', or to give up before it (it is not called then). NULL is fine. */
void resolve_free(struct resolve *);

#endif
