/*
 * Merging. Two changes of one key go together only if they are the same, or if the key is a directory's node, which changes with every name in it. But records
 * hang together: a name needs its node and its directory, an attribute its node, and a node that goes must take its names and attributes along. Sides that each
 * kept to that may break it together without having touched a common key, so that is checked too:
 *
 *   the batch     meanwhile the tree                 conflict
 *   puts a name   removed the node or the directory  the name
 *   puts an attr. removed the node                   the attribute
 *   removes a     gave it a name or attribute, or    the node
 *    node          put something into it
 *   moves a       moved another, so that they would  the node
 *    directory     be below each other
 *   takes a name  took it away as well, and the node the name: perhaps both gave it a new one
 *    away          is still there, or a directory
 *
 * A file that is open for writing in the live tree counts as changed (as far as it is in the store: what the mount holds in memory it knows itself).
 */
#include "store/merge.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/internal.h"
#include "store/node.h"

/* --- the three sides of a key */

struct sides {
	struct record_slot base, now, ours;
};

static int sides_load(const struct merge *m, version_t at, const struct record_key *key, struct sides *ret_sides)
{
	int error = record_slot_seek(m->txn, key, m->base, &ret_sides->base);
	if (!error)
		error = record_slot_seek(m->txn, key, m->now, &ret_sides->now);
	return error ? error : record_slot_exact(m->txn, key, at, &ret_sides->ours);
}

/* --- nodes */

static bool time_same(const struct node_time *a, const struct node_time *b)
{
	return a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static struct node_time time_merge(struct node_time base, struct node_time now, struct node_time ours)
{
	if (time_same(&base, &ours))
		return now;
	if (time_same(&base, &now))
		return ours;
	bool later = ours.seconds != now.seconds ? ours.seconds > now.seconds : ours.nanoseconds > now.nanoseconds;
	return later ? ours : now;
}

/* An attribute that has one value. False: both changed it, and not alike. */
static bool field_merge(uint64_t base, uint64_t now, uint64_t ours, uint64_t *ret_value)
{
	*ret_value = ours == base ? now : ours;
	return ours == base || now == base || ours == now;
}

static int dir_merge(const struct node *base, const struct node *now, const struct node *ours, struct buffer *ret_value)
{
	uint64_t mode, uid, gid, parent, content_version;
	struct node merged = *ours;
	bool fits = field_merge(base->mode, now->mode, ours->mode, &mode) && field_merge(base->uid, now->uid, ours->uid, &uid) &&
		    field_merge(base->gid, now->gid, ours->gid, &gid) && field_merge(base->parent, now->parent, ours->parent, &parent);
	if (!fits)
		return -DRS_ECONFLICT;
	field_merge(base->content_version, now->content_version, ours->content_version, &content_version); /* a directory has no content */
	merged.mode = (uint32_t)mode;
	merged.uid = (uint32_t)uid;
	merged.gid = (uint32_t)gid;
	merged.parent = parent;
	merged.content_version = content_version;
	merged.nlink = now->nlink + (ours->nlink - base->nlink);
	merged.atime = time_merge(base->atime, now->atime, ours->atime);
	merged.mtime = time_merge(base->mtime, now->mtime, ours->mtime);
	merged.ctime = time_merge(base->ctime, now->ctime, ours->ctime);
	buffer_clear(ret_value);
	node_encode(&merged, ret_value);
	return ret_value->failed ? -ENOMEM : 0;
}

static int decode_live(const struct record_slot *slot, struct node *ret_node)
{
	memset(ret_node, 0, sizeof(*ret_node));
	return slot->live ? node_decode(slot->value, ret_node) : 0;
}

static int node_merge(const struct sides *s, enum merge_outcome *ret_outcome, struct buffer *ret_value)
{
	struct node base, now, ours;
	int error = decode_live(&s->base, &base);
	if (!error)
		error = decode_live(&s->now, &now);
	if (!error)
		error = decode_live(&s->ours, &ours);
	if (error)
		return error;
	if (S_ISDIR(base.mode) && S_ISDIR(now.mode) && S_ISDIR(ours.mode)) {
		*ret_outcome = MERGE_BOTH;
		return dir_merge(&base, &now, &ours, ret_value);
	}
	/* One more name on both sides is two more. */
	bool counted_twice = s->ours.live && base.nlink != ours.nlink;
	*ret_outcome = MERGE_SAME;
	return record_slot_same(&s->now, &s->ours) && !counted_twice ? 0 : -DRS_ECONFLICT;
}

/* --- what hangs together */

static int node_now(const struct merge *m, ino_id ino, struct record_slot *ret_slot)
{
	struct record_key key = record_key_node(ino);
	return record_slot_seek(m->txn, &key, m->now, ret_slot);
}

static int node_ours(const struct merge *m, ino_id ino, struct record_slot *ret_slot)
{
	struct record_key key = record_key_node(ino);
	return record_slot_exact(m->txn, &key, m->draft, ret_slot);
}

/* Will there be such a node? */
static int node_stays(const struct merge *m, ino_id ino, bool *ret_stays)
{
	struct record_slot slot;
	int error = node_ours(m, ino, &slot);
	if (!error && !slot.present)
		error = node_now(m, ino, &slot);
	*ret_stays = slot.live;
	return error;
}

static int name_child(const struct record_slot *slot, ino_id *ret_child, uint8_t *ret_type)
{
	*ret_child = 0;
	*ret_type = DT_UNKNOWN;
	return slot->live ? name_decode(slot->value, ret_child, ret_type) : 0;
}

/*
 * Both took the name from what had it. That goes together if the node is gone on both sides; else it may have got two names for one. (If the batch has no record of
 * a node that the tree removed it gave it another name: that is the conflict then.) A directory that both removed was counted down in its parent by both.
 */
static int name_merge(const struct merge *m, const struct sides *s, enum merge_outcome *ret_outcome)
{
	ino_id had, has;
	uint8_t type, type_now;
	struct record_slot now = { .live = false }, ours = { .live = false };
	int error = name_child(&s->base, &had, &type);
	if (!error)
		error = name_child(&s->now, &has, &type_now);
	if (!error && had && had != has) {
		error = node_now(m, had, &now);
		if (!error)
			error = node_ours(m, had, &ours);
		if (!error && (now.live || ours.live || type == DT_DIR))
			return -DRS_ECONFLICT;
	}
	*ret_outcome = MERGE_SAME;
	return error ? error : record_slot_same(&s->now, &s->ours) ? 0 : -DRS_ECONFLICT;
}

int merge_key(const struct merge *m, version_t at, const struct record_key *key, enum merge_outcome *ret_outcome, struct buffer *ret_value)
{
	struct sides s;
	int error = sides_load(m, at, key, &s);
	if (error)
		return error;
	*ret_outcome = record_slot_same(&s.base, &s.now) ? MERGE_OURS : MERGE_SAME;
	if (*ret_outcome == MERGE_OURS || record_slot_same(&s.base, &s.ours))
		return 0;
	if (record_key_kind(key) == RECORD_NODE)
		return node_merge(&s, ret_outcome, ret_value);
	if (record_key_kind(key) == RECORD_NAME)
		return name_merge(m, &s, ret_outcome);
	return record_slot_same(&s.now, &s.ours) ? 0 : -DRS_ECONFLICT;
}

/* --- directories below themselves */

int merge_moves(const struct record_key *key, const struct record_slot *base, const struct record_slot *ours, bool *ret_moves)
{
	struct node from, to;
	*ret_moves = false;
	if (record_key_kind(key) != RECORD_NODE)
		return 0;
	int error = decode_live(base, &from);
	if (!error)
		error = decode_live(ours, &to);
	*ret_moves = !error && S_ISDIR(from.mode) && S_ISDIR(to.mode) && from.parent != to.parent;
	return error;
}

/* Where a directory will stand; 0: nowhere. */
static int parent_of(const struct merge *m, ino_id ino, ino_id *ret_parent)
{
	struct record_key key = record_key_node(ino);
	struct sides s;
	struct node base, now, ours;
	int error = sides_load(m, m->draft, &key, &s);
	if (!error)
		error = decode_live(&s.base, &base);
	if (!error)
		error = decode_live(&s.now, &now);
	if (!error)
		error = decode_live(&s.ours, &ours);
	bool moved = s.ours.present && (!s.base.live || ours.parent != base.parent);
	*ret_parent = moved ? ours.parent : now.parent;
	return error;
}

/* Up from the directory, until the root or a place that was passed before (remembered at ever longer distances). */
static int is_below_itself(const struct merge *m, ino_id ino, bool *ret_below)
{
	ino_id at = ino, passed = ino;
	*ret_below = false;
	for (size_t steps = 1, distance = 1; at && at != INO_ROOT; steps++) {
		int error = parent_of(m, at, &at);
		if (error)
			return error;
		*ret_below = at == ino;
		if (at == ino || at == passed) /* a circle without it is another directory's conflict */
			return 0;
		if (steps == distance) {
			passed = at;
			steps = 0;
			distance *= 2;
		}
	}
	return 0;
}

/* --- the check */

struct check {
	const struct merge *m;
	struct record_cursor *all; /* the merged tree, with what is open for writing in the live one */
	bool live_drafts;
};

/* Is there something that belongs to a node which goes? */
static int is_survived(const struct check *c, ino_id ino, bool *ret_survived)
{
	uint8_t prefix[8];
	struct record_key key;
	struct slice value;
	put_be64(prefix, ino);
	int more = record_cursor_seek(c->all, slice_of(prefix, sizeof(prefix)));
	if (!more)
		more = record_cursor_next(c->all, &key, &value, NULL);
	*ret_survived = more == 1 && record_key_ino(&key) == ino;
	return more < 0 ? more : 0;
}

static int node_fits(const struct check *c, const struct record_key *key, bool live, bool *ret_fits)
{
	struct sides s;
	bool bad = false;
	int error = 0;
	if (!live) {
		error = is_survived(c, record_key_ino(key), &bad);
	} else {
		error = sides_load(c->m, c->m->draft, key, &s);
		if (!error)
			error = merge_moves(key, &s.base, &s.ours, &bad);
		if (!error && bad)
			error = is_below_itself(c->m, record_key_ino(key), &bad);
	}
	*ret_fits = !bad;
	return error;
}

/* Does a record of the batch fit into the tree as it will be? */
static int record_fits(const struct check *c, const struct record_key *key, bool *ret_fits)
{
	struct record_slot slot;
	ino_id child;
	uint8_t type;
	int error = record_slot_exact(c->m->txn, key, c->m->draft, &slot);
	*ret_fits = true;
	if (error)
		return error;
	if (record_key_kind(key) == RECORD_NODE)
		return node_fits(c, key, slot.live, ret_fits);
	if (!slot.live)
		return 0;
	if (record_key_kind(key) == RECORD_NAME) {
		error = name_child(&slot, &child, &type);
		if (!error)
			error = node_stays(c->m, child, ret_fits);
		if (error || !*ret_fits)
			return error;
	}
	return node_stays(c->m, record_key_ino(key), ret_fits);
}

/* 1: it is a conflict; 0: it is none. */
static int key_conflicts(const struct check *c, version_t at, const struct record_key *key, struct buffer *scratch)
{
	enum merge_outcome outcome;
	bool fits = true;
	int error = merge_key(c->m, at, key, &outcome, scratch);
	if (!error && c->live_drafts && record_exists_at(c->m->txn, VERSION_DRAFT, key, NULL))
		error = -DRS_ECONFLICT;
	if (!error && at == c->m->draft && outcome != MERGE_SAME)
		error = record_fits(c, key, &fits);
	if (error)
		return error == -DRS_ECONFLICT ? 1 : error;
	return !fits;
}

static int check_layer(const struct check *c, version_t at, batch_conflict *conflict, void *user)
{
	struct record_key key = { .size = 0 };
	struct buffer scratch = BUFFER_INIT;
	int more, count = 0;
	while ((more = version_change_next(c->m->txn, at, &key)) == 1) {
		bool again = at == c->m->waiting && record_exists_at(c->m->txn, c->m->draft, &key, NULL);
		int conflicts = again ? 0 : key_conflicts(c, at, &key, &scratch);
		if (conflicts < 0) {
			more = conflicts;
			break;
		}
		count += conflicts;
		if (conflicts && conflict)
			conflict(user, &key);
	}
	buffer_fini(&scratch);
	return more < 0 ? more : count;
}

static bool has_live_drafts(struct txn *txn)
{
	struct record_key key = { .size = 0 };
	return version_change_next(txn, VERSION_DRAFT, &key) == 1;
}

bool merge_differs(const struct merge *m)
{
	return m->base != m->now || (!m->operation && has_live_drafts(m->txn));
}

int merge_check(const struct merge *m, batch_conflict *conflict, void *user)
{
	struct check c = { .m = m, .live_drafts = !m->operation && has_live_drafts(m->txn) };
	struct view merged = { .version = m->now, .draft = VERSION_DRAFT, .below = m->draft };
	int waiting = 0, finished = record_cursor_new(m->txn, merged, &c.all);
	if (finished)
		return finished;
	finished = check_layer(&c, m->draft, conflict, user);
	if (finished >= 0)
		waiting = check_layer(&c, m->waiting, conflict, user);
	record_cursor_free(c.all);
	return finished < 0 ? finished : waiting < 0 ? waiting : finished + waiting;
}
