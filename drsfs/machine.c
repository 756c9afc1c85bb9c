#include "drsfs/machine.h"

#include <assert.h>

static void (*trace_hook)(void *user, const struct machine_step *);
static void *trace_user;

void machine_trace(void (*hook)(void *user, const struct machine_step *), void *user)
{
	trace_hook = hook;
	trace_user = user;
}

void machine_move(const struct machine *m, const char *owner, uint8_t *state, unsigned to, time_ms now, const char *why)
{
	unsigned from = *state;
	assert(from < m->count && to < m->count);
	assert(m->allowed[from] & MACHINE_TO(to));
	*state = (uint8_t)to;
	if (trace_hook)
		trace_hook(trace_user, &(struct machine_step){ now, m->name, owner, m->states[from], m->states[to], why });
}
