/* The master daemon: store, mount, node and control socket put together. */
#ifndef MASTER_RUN_H
#define MASTER_RUN_H

#include "drsfs/config.h"

/* Runs until SIGTERM or SIGINT, 'drsfs stop', or until the mount is unmounted from outside. 0, or a negative error that has been logged. */
int master_run(const struct config *);

#endif
