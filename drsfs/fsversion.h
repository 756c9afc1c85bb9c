/*
 * The file system's versions as the DRS layer carries them (R1.2): the store's number, big-endian, in the first eight bytes,
 * zeros after it. This is the one place that knows; the layer itself only compares them through fs_version_ops.
 */
#ifndef DRSFS_FSVERSION_H
#define DRSFS_FSVERSION_H

#include "drsfs/drs.h"

extern const struct drs_version_ops fs_version_ops;

struct drs_version fs_version_of(version_t);
version_t fs_version_number(const struct drs_version *);

#endif
