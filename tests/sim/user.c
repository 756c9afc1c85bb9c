#include "tests/sim/user.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/scope.h"

#define HORIZON_COUNT 20 /* versions of an epoch whose removals are remembered */

enum plant planted;

const char *plant_name(enum plant plant)
{
	static const char *const names[PLANTS] = { "none", "ack-early", "half", "backwards", "reuse", "unstored", "narrow",
						   "ack-undurable", "missing-ack", "expose", "decide-early", "keep-prepared", "forget-abort", "resurrect",
						   "reuse-aborted", "change-mind" };
	return names[plant];
}

/* --- versions: epoch and counter, big-endian, so that memcmp is their order --- */

static struct drs_version make_version(uint32_t epoch, uint64_t counter)
{
	struct drs_version v = { 0 };
	put_be64(v.bytes, epoch);
	put_be64(v.bytes + 8, counter);
	return v;
}

static uint32_t epoch_of(const struct drs_version *v)
{
	return (uint32_t)get_be64(v->bytes);
}

static uint64_t counter_of(const struct drs_version *v)
{
	return get_be64(v->bytes + 8);
}

static bool version_equal(const struct drs_version *a, const struct drs_version *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static bool version_greater(const struct drs_version *a, const struct drs_version *b)
{
	return memcmp(a, b, sizeof(*a)) > 0;
}

static struct drs_version version_next(const struct drs_version *v)
{
	return make_version(epoch_of(v), counter_of(v) + 1);
}

static void version_format(const struct drs_version *v, char text[40])
{
	snprintf(text, 40, "%u.%llu", epoch_of(v), (unsigned long long)counter_of(v));
}

const struct drs_version_ops map_version_ops = { version_equal, version_greater, version_next, version_format };

/* --- maps --- */

static unsigned class_of(unsigned key)
{
	return key % MAP_CLASSES;
}

static uint64_t digest_of(const struct map *map, unsigned class)
{
	uint64_t digest = 14695981039346656037u;
	for (unsigned key = class; key < MAP_KEYS; key += MAP_CLASSES)
		digest = (digest ^ (map->values[key] + key)) * 1099511628211u;
	return digest;
}

size_t map_delta_bytes(const struct map_delta *d)
{
	return offsetof(struct map_delta, changes) + d->count * sizeof(d->changes[0]);
}

static int compare_entries(const void *a, const void *b)
{
	return memcmp(&((const struct history_entry *)a)->version, &((const struct history_entry *)b)->version, sizeof(struct drs_version));
}

struct history_entry *history_find(const struct history *h, const struct drs_version *version)
{
	if (h->count == 0)
		return NULL;
	struct history_entry key = { .version = *version };
	return bsearch(&key, h->entries, h->count, sizeof(key), compare_entries);
}

static bool history_add(struct history *h, const struct drs_version *version, const struct map *map, enum fate fate)
{
	if (h->count > 0 && !version_greater(version, &h->entries[h->count - 1].version))
		return false;
	if (h->count == h->capacity) {
		h->capacity = h->capacity ? 2 * h->capacity : 64;
		h->entries = realloc(h->entries, h->capacity * sizeof(h->entries[0]));
		assert(h->entries);
	}
	h->entries[h->count++] = (struct history_entry){ .version = *version, .map = *map, .fate = fate };
	return true;
}

/* --- the master's user --- */

void master_user_init(struct master_user *u)
{
	*u = (struct master_user){ 0 };
}

void master_user_fini(struct master_user *u)
{
	free(u->before);
	u->before = NULL;
}

void master_user_crash(struct master_user *u)
{
	if (u->before) {
		struct master_user *before = u->before;
		*u = *before;
		free(before);
	} else {
		u->epoch++;
	}
}

static void tree_set(struct tree *t, uint8_t key, uint64_t value)
{
	t->map.values[key] = value;
	t->changed[key] = (struct drs_version){ .bytes = { 0xff } }; /* above every version: in the one that is being made */
}

void master_user_set(struct master_user *u, uint8_t key, uint64_t value)
{
	if (planted == PLANT_REUSE && !u->before) {
		struct master_user *before = malloc(sizeof(*before));
		assert(before);
		*before = *u;
		u->before = before;
	}
	tree_set(&u->tree, key, value);
}

/* Whom the keys of a class concern; everyone as the empty scope. */
static void scope_of_class(unsigned class, struct scope *ret_scope)
{
	static const char *const names[MAP_CLASSES] = { NULL, "red", "blue", "slave-3" };
	*ret_scope = (struct scope){ 0 };
	if (names[class])
		scope_add(ret_scope, names[class]);
}

static void scope_of_changes(const struct map_delta *d, struct scope *ret_scope)
{
	for (unsigned n = 0; n < d->count; n++) {
		struct scope scope;
		scope_of_class(class_of(d->changes[n].key), &scope);
		if (n == 0)
			*ret_scope = scope;
		else
			scope_unite(ret_scope, &scope);
	}
	if (planted == PLANT_NARROW)
		scope_of_class(CLASS_SERVER, ret_scope);
}

/* Numbers grow, and each is given once. */
static void assign(struct master_user *u)
{
	uint64_t counter = epoch_of(&u->assigned) == u->epoch ? counter_of(&u->assigned) + 1 : 1;
	uint64_t horizon = epoch_of(&u->horizon) == u->epoch ? counter_of(&u->horizon) : 0;
	u->assigned = make_version(u->epoch, counter);
	if (counter >= horizon + HORIZON_COUNT)
		u->horizon = make_version(u->epoch, counter - HORIZON_COUNT / 2);
}

static void tree_seal(struct master_user *u, struct tree *t, struct scope *ret_scope, struct map_delta *ret_delta)
{
	struct drs_version from = t->version;
	assign(u);
	t->version = u->assigned;
	for (unsigned key = 0; key < MAP_KEYS; key++)
		if (version_greater(&t->changed[key], &t->version))
			t->changed[key] = t->version;
	master_user_delta(u, t, &from, false, ~0u, ret_delta);
	scope_of_changes(ret_delta, ret_scope);
}

bool master_user_seal(struct master_user *u, struct history *h, struct scope *ret_scope, struct map_delta *ret_delta)
{
	tree_seal(u, &u->tree, ret_scope, ret_delta);
	return history_add(h, &u->tree.version, &u->tree.map, COMMITTED);
}

void master_user_propose(struct master_user *u)
{
	u->proposal = u->tree;
}

void master_user_propose_set(struct master_user *u, uint8_t key, uint64_t value)
{
	tree_set(&u->proposal, key, value);
}

bool master_user_propose_seal(struct master_user *u, struct history *h, struct scope *ret_scope, struct map_delta *ret_delta)
{
	tree_seal(u, &u->proposal, ret_scope, ret_delta);
	u->proposing = true;
	return history_add(h, &u->proposal.version, &u->proposal.map, PROPOSED);
}

bool master_user_decide(struct master_user *u, struct history *h, bool commit)
{
	struct history_entry *entry = history_find(h, &u->proposal.version);
	assert(entry);
	enum fate fate = commit ? COMMITTED : ABORTED;
	if (planted == PLANT_CHANGE_MIND && !commit && get_be64(u->proposal.version.bytes + 8) % 4 == 0)
		commit = true;
	u->proposing = false;
	if (commit) {
		u->tree = u->proposal;
		u->stored = u->tree.version;
	} else if (planted == PLANT_REUSE_ABORTED) {
		u->assigned = u->tree.version;
	}
	if (entry->fate != PROPOSED)
		return entry->fate == fate;
	entry->fate = fate;
	return true;
}

bool master_user_waste(struct master_user *u, struct history *h, struct drs_version *ret_version)
{
	assign(u);
	*ret_version = u->assigned;
	return history_add(h, ret_version, &u->tree.map, PROPOSED);
}

/* Whether a delta from 'from' has to say something about the key. Once below the horizon, that a key was removed is forgotten. */
static bool is_changed(const struct master_user *u, const struct tree *t, unsigned key, const struct drs_version *from)
{
	bool forgotten = !t->map.values[key] && version_greater(&u->horizon, &t->changed[key]);
	return !forgotten && version_greater(&t->changed[key], from);
}

void master_user_delta(const struct master_user *u, const struct tree *t, const struct drs_version *from, bool complete, unsigned classes,
		       struct map_delta *ret_delta)
{
	*ret_delta = (struct map_delta){ .from = *from, .to = t->version };
	ret_delta->complete = complete || version_greater(&u->horizon, from);
	for (unsigned key = 0; key < MAP_KEYS; key++) {
		bool wanted = ret_delta->complete ? t->map.values[key] != 0 : is_changed(u, t, key, from);
		if (wanted && classes & 1u << class_of(key))
			ret_delta->changes[ret_delta->count++] = (struct map_change){ (uint8_t)key, t->map.values[key] };
	}
	for (unsigned class = 0; class < MAP_CLASSES; class++)
		ret_delta->digests[class] = digest_of(&t->map, class);
}

int master_user_store(struct master_user *u, const struct drs_version *version)
{
	if (planted != PLANT_UNSTORED)
		u->stored = *version;
	return 0;
}

/* --- a slave's user --- */

void slave_user_init(struct slave_user *u, unsigned index, const char *name, struct scope *ret_clusters)
{
	*u = (struct slave_user){ .classes = 1u << CLASS_EVERYONE };
	*ret_clusters = (struct scope){ 0 };
	if (index % 2) {
		u->classes |= 1u << CLASS_RED;
		scope_add(ret_clusters, "red");
	}
	if (index % 3 == 0) {
		u->classes |= 1u << CLASS_BLUE;
		scope_add(ret_clusters, "blue");
	}
	if (strcmp(name, "slave-3") == 0)
		u->classes |= 1u << CLASS_SERVER;
}

void slave_user_crash(struct slave_user *u)
{
	if (planted == PLANT_BACKWARDS)
		u->disk = u->older;
	u->seen = u->disk;
	u->prepared = (struct replica){ 0 };
}

void slave_user_damage(struct slave_user *u, uint8_t key)
{
	if (!(u->classes & 1u << class_of(key)))
		return;
	u->seen.map.values[key] ^= 1u << 20;
	u->disk.map = u->seen.map;
	u->damaged = true;
}

static void show(struct slave_user *u, const struct replica *now)
{
	u->older = u->disk;
	u->seen = *now;
	if (planted == PLANT_ACK_EARLY)
		return;
	u->disk = *now;
}

static void change(struct map *map, const struct map_delta *d)
{
	unsigned count = planted == PLANT_HALF ? d->count / 2u : d->count;
	if (d->complete)
		*map = (struct map){ 0 };
	for (unsigned n = 0; n < count; n++)
		map->values[d->changes[n].key] = d->changes[n].value;
}

/* What the delta makes of what is seen. */
static int make_next(const struct slave_user *u, const struct map_delta *d, struct replica *ret_next)
{
	if (!d->complete && !version_equal(&d->from, &u->seen.version))
		return -DRS_EPROTOCOL;
	struct replica next = u->seen;
	change(&next.map, d);
	next.version = d->to;
	for (unsigned class = 0; class < MAP_CLASSES; class++)
		if (u->classes & 1u << class && digest_of(&next.map, class) != d->digests[class] && planted != PLANT_HALF)
			return -DRS_EDIGEST;
	*ret_next = next;
	return 0;
}

bool slave_user_accepts(const struct slave_user *u, const struct map_delta *d)
{
	struct replica next;
	return make_next(u, d, &next) < 0 || next.map.values[MAP_CHECKED] % MAP_TASTES != MAP_BAD;
}

int slave_user_apply(struct slave_user *u, const struct map_delta *d)
{
	struct replica next;
	int r = make_next(u, d, &next);
	if (r < 0)
		return r;
	u->damaged = false;
	show(u, &next);
	return 0;
}

int slave_user_take(struct slave_user *u, const struct drs_version *version)
{
	struct replica next = u->seen;
	next.version = *version;
	show(u, &next);
	return 0;
}

int slave_user_prepare(struct slave_user *u, const struct map_delta *d)
{
	int r = make_next(u, d, &u->prepared);
	if (r < 0)
		return r;
	if (planted == PLANT_EXPOSE)
		show(u, &u->prepared);
	if (planted != PLANT_ACK_UNDURABLE)
		u->prepared_disk = d->to;
	return 0;
}

int slave_user_commit_prepared(struct slave_user *u)
{
	u->damaged = false;
	show(u, &u->prepared);
	return 0;
}

void slave_user_unprepare(struct slave_user *u)
{
	u->prepared = (struct replica){ 0 };
}
