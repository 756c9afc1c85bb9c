/*
 * Fault points: places where a crash is worth a test. FAULT("master.proposed") ends the process there as SIGKILL would if the environment's DRSFS_FAULT names the
 * point ("NAME", or "NAME:3" for the third time it is passed). Only builds for tests (make V=fault) have them; elsewhere they are nothing.
 * tests/mount/crash_matrix.sh finds them by their name in the sources and goes through all.
 */
#ifndef DRSFS_FAULT_H
#define DRSFS_FAULT_H

#ifdef DRSFS_FAULTS
void fault_point(const char *name); /* any thread */
#define FAULT(name) fault_point(name)
#else
#define FAULT(name) ((void)0)
#endif

#endif
