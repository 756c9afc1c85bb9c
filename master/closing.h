/*
 * Which close of a file is the last one (descriptors.h)? The helper looks; whoever closes waits meanwhile, as a request that is served again. On the mount's thread.
 */
#ifndef MASTER_CLOSING_H
#define MASTER_CLOSING_H

#include <sys/types.h>

#include "drsfs/types.h"

struct draft;
struct handle;
struct tree;

enum closing { CLOSING_LAST, CLOSING_COPY, CLOSING_LOOKING };

/* The thread 'closer' closes a descriptor of this handle. LOOKING: to be asked again when the request is served again. */
enum closing closing_of(struct tree *, struct handle *, pid_t closer);
/* The handle goes. */
void closing_forget(struct handle *);

#endif
