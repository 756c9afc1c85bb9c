/* Access control lists (acl.h): u32 version, then entries of u16 tag, u16 permissions, u32 id, all little-endian, ordered by tag and id. */
#include "master/acl.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define ACL_VERSION 2
#define ACL_HEAD_BYTES 4

struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
};

enum acl_tag { OWNER = 0x01, USER = 0x02, OWNING_GROUP = 0x04, GROUP = 0x08, MASK = 0x10, OTHER = 0x20 };

static size_t entry_count(const struct acl *acl)
{
	return (acl->size - ACL_HEAD_BYTES) / sizeof(struct acl_entry);
}

static struct acl_entry entry_at(const struct acl *acl, size_t i)
{
	struct acl_entry e;
	memcpy(&e, acl->bytes + ACL_HEAD_BYTES + i * sizeof(e), sizeof(e));
	return (struct acl_entry){ le16toh(e.tag), le16toh(e.permissions), le32toh(e.id) };
}

/* The index of the entry with this tag, or -1. */
static int entry_find(const struct acl *acl, enum acl_tag tag)
{
	for (size_t i = 0; i < entry_count(acl); i++)
		if (entry_at(acl, i).tag == tag)
			return (int)i;
	return -1;
}

int acl_decode(struct slice bytes, struct acl *ret_acl)
{
	uint32_t version;
	if (bytes.size < ACL_HEAD_BYTES || bytes.size > ACL_BYTES_MAX || (bytes.size - ACL_HEAD_BYTES) % sizeof(struct acl_entry))
		return -EINVAL;
	memcpy(&version, bytes.data, sizeof(version));
	if (le32toh(version) != ACL_VERSION)
		return -EINVAL;
	struct acl acl = { .size = bytes.size };
	memcpy(acl.bytes, bytes.data, bytes.size);
	unsigned tags = 0;
	for (size_t i = 0; i < entry_count(&acl); i++) {
		struct acl_entry e = entry_at(&acl, i);
		bool known = e.tag && e.tag <= OTHER && (e.tag & (e.tag - 1)) == 0;
		bool repeated = (tags & e.tag) && e.tag != USER && e.tag != GROUP;
		if (!known || repeated || e.permissions > 7)
			return -EINVAL;
		tags |= e.tag;
	}
	bool complete = (tags & (OWNER | OWNING_GROUP | OTHER)) == (OWNER | OWNING_GROUP | OTHER);
	bool masked = !(tags & (USER | GROUP)) || (tags & MASK);
	if (entry_count(&acl) && (!complete || !masked))
		return -EINVAL;
	*ret_acl = acl;
	return 0;
}

/* Which entry the mode's group bits show: the mask where there is one. */
static int group_entry(const struct acl *acl)
{
	int mask = entry_find(acl, MASK);
	return mask >= 0 ? mask : entry_find(acl, OWNING_GROUP);
}

bool acl_mode(const struct acl *acl, uint32_t *mode)
{
	if (entry_count(acl) == 0)
		return true;
	uint32_t owner = entry_at(acl, (size_t)entry_find(acl, OWNER)).permissions;
	uint32_t group = entry_at(acl, (size_t)group_entry(acl)).permissions;
	uint32_t other = entry_at(acl, (size_t)entry_find(acl, OTHER)).permissions;
	*mode = (*mode & ~0777u) | owner << 6 | group << 3 | other;
	return entry_count(acl) == 3;
}

static void permissions_set(struct acl *acl, int i, uint32_t permissions)
{
	uint16_t value = htole16((uint16_t)(permissions & 7));
	if (i >= 0)
		memcpy(acl->bytes + ACL_HEAD_BYTES + (size_t)i * sizeof(struct acl_entry) + offsetof(struct acl_entry, permissions), &value, sizeof(value));
}

void acl_chmod(struct acl *acl, uint32_t mode)
{
	permissions_set(acl, entry_find(acl, OWNER), mode >> 6);
	permissions_set(acl, group_entry(acl), mode >> 3);
	permissions_set(acl, entry_find(acl, OTHER), mode);
}

void acl_create(struct acl *acl, uint32_t *mode)
{
	uint32_t narrowed = *mode;
	acl_mode(acl, &narrowed);
	narrowed = (*mode & ~0777u) | (*mode & narrowed & 0777);
	acl_chmod(acl, narrowed);
	*mode = narrowed;
}
