/*
 * Who has a file of the mount open for writing? FUSE tells each close of a descriptor (flush), also of a copy that a child inherited or that a
 * shell made for a moment; that it was the last one (release) it tells only when nobody is left who could hear of an error. What is between them /proc knows.
 *
 * Asks nothing of the mount, but may wait for locks of processes that do (an epoll instance's is held while a file is asked whether it can be polled): not for the
 * mount's thread. Some 10 µs a descriptor.
 */
#ifndef MASTER_DESCRIPTORS_H
#define MASTER_DESCRIPTORS_H

#include <sys/types.h>

#include "drsfs/types.h"

/*
 * How many descriptors of that file on 'device' (as stat tells it) 'pid' has that can write. One that it is closing does not count; 0 also if there is no such
 * process. -1: it may not be looked at, lives in another namespace (pid 0), or has very many.
 */
int descriptors_count(pid_t pid, dev_t device, ino_id ino);

/* The process that a thread belongs to; the thread itself if that cannot be found out. Any thread. */
pid_t descriptors_process(pid_t thread);

#endif
