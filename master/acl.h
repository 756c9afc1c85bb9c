/*
 * POSIX access control lists, as the kernel encodes them in system.posix_acl_access and _default: what chmod, creation in a directory
 * with a default list, and setting a list mean for list and mode. With FUSE_CAP_POSIX_ACL the kernel checks access by the lists and
 * leaves this to us.
 */
#ifndef MASTER_ACL_H
#define MASTER_ACL_H

#include "drsfs/types.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define ACL_BYTES_MAX 8192

struct acl {
	size_t size;
	uint8_t bytes[ACL_BYTES_MAX];
};

int acl_decode(struct slice, struct acl *ret_acl); /* -EINVAL */
/* Access permissions that a list stands for; true if mode bits can say all of it, so that no list is needed. */
bool acl_mode(const struct acl *, uint32_t *mode);
void acl_chmod(struct acl *, uint32_t mode);
/* A new node in a directory with this default list: narrows list and mode to each other. */
void acl_create(struct acl *, uint32_t *mode);

#endif
