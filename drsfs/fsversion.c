#include "drsfs/fsversion.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct drs_version fs_version_of(version_t number)
{
	struct drs_version version = { { 0 } };

	put_be64(version.bytes, number);
	return version;
}

version_t fs_version_number(const struct drs_version *version)
{
	return get_be64(version->bytes);
}

static bool equal(const struct drs_version *a, const struct drs_version *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool greater(const struct drs_version *a, const struct drs_version *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) > 0;
}

static struct drs_version next(const struct drs_version *version)
{
	return fs_version_of(fs_version_number(version) + 1);
}

static void format(const struct drs_version *version, char text[40])
{
	snprintf(text, 40, "%" PRIu64, fs_version_number(version));
}

const struct drs_version_ops fs_version_ops = { .equal = equal, .greater = greater, .next = next, .format = format };
