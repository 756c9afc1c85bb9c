/*
 * Asserted state moves. A state machine is a table of names and of the moves that are allowed; the state itself is a byte in its owner.
 * Every move goes through machine_move(), which asserts it against the table and shows it to the trace hook: what the hook sees is the
 * log at debug level, the simulator's transcript and the debugging view at once.
 */
#ifndef DRSFS_MACHINE_H
#define DRSFS_MACHINE_H

#include "drsfs/types.h"

#define MACHINE_STATES_MAX 8
#define MACHINE_TO(state) (1u << (state))

struct machine {
	const char *name;
	unsigned count;
	const char *states[MACHINE_STATES_MAX];
	uint8_t allowed[MACHINE_STATES_MAX]; /* by the state that is left: MACHINE_TO() of all that may follow */
};

/* Leave '*state' for 'to'. 'owner' (may be empty) says whose machine it is and 'why' what moved it; both only for the trace. */
void machine_move(const struct machine *, const char *owner, uint8_t *state, unsigned to, time_ms now, const char *why);

struct machine_step {
	time_ms now;
	const char *machine, *owner, *from, *to, *why;
};

/* One hook for the process, NULL for none (the default). Set it while no core runs; it is called on the threads that step cores. */
void machine_trace(void (*hook)(void *user, const struct machine_step *), void *user);

#endif
