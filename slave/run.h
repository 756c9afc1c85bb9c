/* The slave daemon: store, replica, mount, node and control socket put together. */
#ifndef SLAVE_RUN_H
#define SLAVE_RUN_H

#include "drsfs/config.h"

/* Runs until SIGTERM or SIGINT, 'drsfs stop', or until the mount is unmounted from outside. 0, or a negative error that has been logged. */
int slave_run(const struct config *);

#endif
