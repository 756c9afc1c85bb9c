/*
 * Being a daemon: going to the background, telling whoever started us when we serve (and if not, why not), the pid file.
 * The order is begin, ready, end; begin comes before any thread or lock, because it may fork.
 */
#ifndef DRSFS_DAEMON_H
#define DRSFS_DAEMON_H

#include "drsfs/config.h"

/*
 * With config->background: fork. The calling process then waits and never returns from here: it exits with 0 as soon as the child is
 * ready, or with the child's exit code. The child (or, in the foreground, the caller) returns 0, or an error of pipe() or fork().
 */
int daemon_begin(const struct config *);
/*
 * Mounted and serving: writes the pid file, tells systemd (READY=1 to $NOTIFY_SOCKET), lets go of the terminal and of the parent. From here on
 * a background daemon logs into config->log_file. Problems with pid and log file are logged; they do not stop a daemon that serves already.
 */
void daemon_ready(void);
/* A word on how far we are, for 'systemctl status'; any time between begin and end. */
void daemon_tell(const char *status);
/* Going: takes the pid file away and tells systemd. Does nothing if we never were ready. */
void daemon_end(void);

#endif
