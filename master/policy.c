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

int policy_of_file(struct policy *p, struct live *live, struct txn *txn, const struct known_node *n, enum publish_method *ret_method)
{
	*ret_method = PUBLISH_ONE_PHASE;
	int ret = 0;
	for (size_t i = 0; n && ret == 0 && *ret_method == PUBLISH_ONE_PHASE && i < n->places_count; i++) {
		ret = policy_of_directory(p, live, txn, i == 0 ? n->first.parent : n->more[i - 1].parent, ret_method);
		ret = ret == -ESTALE ? 0 : ret; /* a directory that is gone says nothing */
	}
	return ret;
}
