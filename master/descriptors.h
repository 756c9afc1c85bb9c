/*
 * Does a process have a file of the mount open for writing? FUSE tells each close of a descriptor (flush), also of a copy that a child inherited or that a
 * shell made for a moment; that it was the last one (release) it tells only when nobody is left who could hear of an error. What is between them /proc knows.
 *
 * Asks nothing of the mount, nor for any lock that a process may hold that waits for an answer of it. Some 10 µs a descriptor.
 */
#ifndef MASTER_DESCRIPTORS_H
#define MASTER_DESCRIPTORS_H

#include <sys/types.h>

#include "drsfs/types.h"

enum descriptors { DESCRIPTORS_NONE, DESCRIPTORS_SOME, DESCRIPTORS_UNKNOWN };

/*
 * 'pid': a process or one of its threads; a descriptor that it is closing does not count. NONE: also if there is no such process. UNKNOWN: it may not be
 * looked at, lives in another namespace (pid 0), or has very many.
 */
enum descriptors descriptors_of(pid_t pid, ino_id ino);

#endif
