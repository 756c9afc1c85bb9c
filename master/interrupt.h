/*
 * Signals to who waits for a decision. An operation of a file system is not something that any signal may break off (a program that handles SIGALRM does not expect
 * EINTR of mkdir), but a process that is to end should not have to wait for slaves. And what else has to be seen of a request before libfuse has it: the kernel's
 * own structures are known here only.
 */
#ifndef MASTER_INTERRUPT_H
#define MASTER_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_buf;

/* Has this process, or thread, that capability (CAP_*) in its own user namespace? Not if it cannot be looked at. */
bool process_capable(pid_t pid, unsigned capability);

/* Is a signal on its way that will end this process, or thread? Not if it cannot be looked at. */
bool interrupt_is_fatal(pid_t pid);

/* A request as it comes from the kernel: its number; whose; and of an interrupt, what it is about (0: it is no interrupt). */
uint64_t interrupt_unique(const struct fuse_buf *request);
pid_t interrupt_pid(const struct fuse_buf *request);
uint64_t interrupt_target(const struct fuse_buf *request);
/* A file without a name (O_TMPFILE) is asked for like a new one, which is all that libfuse knows, by a name that no file can have. */
#define NAME_OF_UNNAMED "/"
void request_unname(const struct fuse_buf *request);
/* Answer a request that libfuse does not answer, by its number, with that errno. 'fd': the session's. */
void request_answer(int fd, uint64_t unique, int error);

#endif
