/*
 * Fault points: places where a crash is worth a test. FAULT("master.proposed") ends the process there as SIGKILL would if the environment's DRSFS_FAULT names the
 * point ("NAME", or "NAME:3" for the third time it is passed). Only builds for tests (make V=fault) have them; elsewhere they are nothing.
 * tests/mount/crash_matrix.sh finds them by their name in the sources and goes through all.
 */
#ifndef DRSFS_FAULT_H
#define DRSFS_FAULT_H

#include <stdbool.h>

#ifdef DRSFS_FAULTS
/* Pass the point: is the process to end here? Any thread. */
bool fault_due(const char *name);
_Noreturn void fault_die(const char *name);
#define FAULT(name) (fault_due(name) ? fault_die(name) : (void)0)
/* The same after something was sent by a link, where sending only queues: 'flush' is what makes it leave before the process does. */
#define FAULT_SENT(name, flush) (fault_due(name) ? ((flush), fault_die(name)) : (void)0)
#else
#define FAULT(name)             ((void)0)
#define FAULT_SENT(name, flush) ((void)0)
#endif

#endif
