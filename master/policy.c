/*
 * Finding out what a directory's changes are to be distributed by: up the parents to the first that says it. The answers are kept in a small table, in which a
 * directory has one place only; a place whose epoch is over counts as empty.
 */
#include "master/policy.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLACES 1024      /* directories whose answer is kept */
#define DEPTH_MAX 10000  /* more parents than that cannot be but in a damaged store */

struct place {
	ino_id directory;
	uint64_t epoch;
	enum publish_method method;
};

struct policy {
	uint64_t epoch;
	struct place places[PLACES];
	ino_id *files;   /* seen in two-phase directories: open addressing, 0: free */
	size_t files_count, files_size; /* the size is a power of two, or 0 */
};

int policy_new(struct policy **ret_policy)
{
	struct policy *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->epoch = 1;
	*ret_policy = p;
	return 0;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	free(p->files);
	free(p);
}

static const struct {
	const char *text;
	enum publish_method method;
} values[] = { { "auto", PUBLISH_ONE_PHASE }, { "one-phase", PUBLISH_ONE_PHASE }, { "two-phase", PUBLISH_TWO_PHASE } };

static bool value_parse(struct slice value, enum publish_method *ret_method)
{
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		if (value.size != strlen(values[i].text) || memcmp(value.data, values[i].text, value.size) != 0)
			continue;
		*ret_method = values[i].method;
		return true;
	}
	return false;
}

bool policy_value_valid(struct slice value)
{
	enum publish_method method;
	return value_parse(value, &method);
}

/* --- directories */

/* 1: it says it itself. 0: ask *ret_parent, which is 0 above the root, and above a directory that has no name any more. */
static int ask_directory(struct live *live, struct txn *txn, ino_id directory, enum publish_method *ret_method, ino_id *ret_parent)
{
	struct slice value;
	struct node node;
	int ret = xattr_get(live, txn, directory, POLICY_XATTR, &value);
	if (ret == 0 && value_parse(value, ret_method))
		return 1;
	if (ret < 0 && ret != -ENODATA)
		return ret;
	ret = node_live(live, txn, directory, &node);
	if (ret < 0)
		return ret;
	*ret_parent = directory == INO_ROOT || !node.nlink ? 0 : node.parent;
	return 0;
}

static struct place *place_of(struct policy *p, ino_id directory)
{
	return &p->places[directory % PLACES];
}

int policy_of_directory(struct policy *p, struct live *live, struct txn *txn, ino_id directory, enum publish_method *ret_method)
{
	enum publish_method method = PUBLISH_ONE_PHASE;
	ino_id at = directory;
	int said = 0;
	for (int depth = 0; at && said == 0 && depth < DEPTH_MAX; depth++) {
		const struct place *kept = place_of(p, at);
		if (kept->directory == at && kept->epoch == p->epoch) {
			method = kept->method;
			break;
		}
		ino_id parent = 0;
		said = ask_directory(live, txn, at, &method, &parent);
		at = parent;
	}
	if (said < 0)
		return said;
	*place_of(p, directory) = (struct place){ directory, p->epoch, method };
	*ret_method = method;
	return 0;
}

void policy_changed(struct policy *p)
{
	p->epoch++;
}

/* --- files */

static size_t slot_of(const struct policy *p, ino_id file)
{
	return (file * 0x9e3779b97f4a7c15u >> 20) & (p->files_size - 1);
}

/* Where the file is, or the free slot where it would be. */
static size_t slot_find(const struct policy *p, ino_id file)
{
	size_t i = slot_of(p, file);
	while (p->files[i] && p->files[i] != file)
		i = (i + 1) & (p->files_size - 1);
	return i;
}

/* At most half of it is used, so that a free slot is always near. */
static int files_grow(struct policy *p)
{
	struct policy larger = { .files_size = p->files_size ? 2 * p->files_size : 64 };
	larger.files = calloc(larger.files_size, sizeof(*larger.files));
	if (!larger.files)
		return -ENOMEM;
	for (size_t i = 0; i < p->files_size; i++)
		if (p->files[i])
			larger.files[slot_find(&larger, p->files[i])] = p->files[i];
	free(p->files);
	p->files = larger.files;
	p->files_size = larger.files_size;
	return 0;
}

int policy_saw(struct policy *p, struct live *live, struct txn *txn, ino_id directory, ino_id file)
{
	enum publish_method method;
	int ret = policy_of_directory(p, live, txn, directory, &method);
	if (ret < 0)
		return ret;
	if (method != PUBLISH_TWO_PHASE) {
		policy_forget(p, file);
		return 0;
	}
	if (2 * (p->files_count + 1) > p->files_size)
		ret = files_grow(p);
	if (ret < 0)
		return ret;
	size_t i = slot_find(p, file);
	p->files_count += p->files[i] != file;
	p->files[i] = file;
	return 0;
}

/* Those that follow without a gap move up, as far as that brings them nearer to where they belong. */
void policy_forget(struct policy *p, ino_id file)
{
	if (!p->files_count)
		return;
	size_t mask = p->files_size - 1, hole = slot_find(p, file);
	if (!p->files[hole])
		return;
	p->files_count--;
	for (size_t i = (hole + 1) & mask; p->files[i]; i = (i + 1) & mask) {
		if (((i - slot_of(p, p->files[i])) & mask) < ((i - hole) & mask))
			continue;
		p->files[hole] = p->files[i];
		hole = i;
	}
	p->files[hole] = 0;
}

enum publish_method policy_of_file(const struct policy *p, ino_id file)
{
	return p->files_count && p->files[slot_find(p, file)] ? PUBLISH_TWO_PHASE : PUBLISH_ONE_PHASE;
}
