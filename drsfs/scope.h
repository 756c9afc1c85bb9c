/*
 * Scopes as sets of names (patent ¶44-45; R6): the servers and clusters that an update concerns. The names stand one after the other, each
 * ended by NUL, in strcmp order and once each. The empty set means everyone, for that is what most updates concern.
 */
#ifndef DRSFS_SCOPE_H
#define DRSFS_SCOPE_H

#include "drsfs/drs.h"

static inline bool scope_is_everyone(const struct scope *s)
{
	return s->size == 0;
}

/* Whether the bytes are a scope at all: for what comes from outside. */
bool scope_valid(const struct scope *);
/* Put a name in, in its place. 0 (also if it is there), -EINVAL for a name that is empty or too long, -DRS_ETOOBIG if it does not fit. */
int scope_add(struct scope *, const char *name);
/* Whether the name stands in the set; false for everyone, which names nobody. */
bool scope_names(const struct scope *, const char *name);
/* Whether an update of this scope concerns the server, or the clusters that it belongs to. */
bool scope_concerns(const struct scope *, const char *server, const struct scope *clusters);
/* Whether two updates may concern a common server, by name: R4.7. Everyone meets all. */
bool scope_intersects(const struct scope *, const struct scope *);
/* Widen to what both concern; to everyone if that does not fit. */
void scope_unite(struct scope *, const struct scope *);

#endif
