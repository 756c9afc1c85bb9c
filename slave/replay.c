/* The echo's head: what a version changed, and what watchers are told of it. See echo.h. */
#include "slave/replay.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drsfs/error.h"
#include "drsfs/log.h"

#define VERSIONS_BEHIND_MAX 1000
#define CHANGES_MAX 100000     /* of one version; a watcher's queue takes 16,384 events */
#define SEARCHED_NAMES_MAX 1000000
#define SEARCHED_DIRS_MAX 10000
#define REMEMBERED 8192
#define REMEMBERED_WAYS 4
#define PLACES_MAX 16          /* names of one file that are told of */
#define NONE SIZE_MAX

/* A name that a version wrote or took away; 0: it leads, or led, to nothing. */
struct name_change {
	ino_id dir;
	uint64_t cookie;
	size_t text;                   /* in the plan's texts, closed by a 0 */
	ino_id old, new;
	uint8_t old_type, new_type;
	size_t came_from, went_to;     /* the other name of a rename; NONE */
	bool told, waiting;
};

struct node_change {
	ino_id ino;
	bool node, xattr, names;       /* what of it was written */
	uint32_t wanted;               /* so many names of it are to be looked for */
};

struct remembered {
	ino_id ino;
	struct node_place place;
};

struct plan {
	struct echo *echo;
	struct view old, new;
	struct name_change *names;
	struct node_change *nodes;
	size_t names_count, nodes_count, names_capacity, nodes_capacity;
	struct buffer texts;
	int error;                     /* the first of what the kernel did not do */
};

/* ---- what changed */

static int grow(void **items, size_t item_bytes, size_t count, size_t *capacity)
{
	if (count >= CHANGES_MAX)
		return -E2BIG;
	if (count < *capacity)
		return 0;
	size_t more = *capacity ? 2 * *capacity : 64;
	void *larger = realloc(*items, more * item_bytes);
	if (!larger)
		return -ENOMEM;
	*items = larger;
	*capacity = more;
	return 0;
}

/* The node that a name leads to in a view; 0: none. */
static int child_of(struct plan *p, struct view view, const struct record_key *key, ino_id *ret_child, uint8_t *ret_type)
{
	struct slice value;
	int error = record_get(p->echo->txn, view, key, &value, NULL);

	*ret_child = *ret_type = 0;
	return error == -ENOENT ? 0 : error < 0 ? error : name_decode(value, ret_child, ret_type);
}

static int add_name(struct plan *p, const struct record_key *key)
{
	struct name_change n = { .dir = record_key_ino(key), .cookie = record_key_cookie(key), .came_from = NONE, .went_to = NONE };
	struct slice text = record_key_text(key);

	n.text = p->texts.size;
	int error = child_of(p, p->old, key, &n.old, &n.old_type);
	if (error == 0)
		error = child_of(p, p->new, key, &n.new, &n.new_type);
	if (error < 0 || n.old == n.new)
		return error;
	error = grow((void **)&p->names, sizeof(*p->names), p->names_count, &p->names_capacity);
	if (error < 0)
		return error;
	buffer_add(&p->texts, text.data, text.size);
	buffer_add_u8(&p->texts, 0);
	p->names[p->names_count++] = n;
	return p->texts.failed ? -ENOMEM : 0;
}

/* The keys of a node come one after another: names, node, xattrs. */
static int add_node(struct plan *p, ino_id ino, enum record_kind kind)
{
	int error = grow((void **)&p->nodes, sizeof(*p->nodes), p->nodes_count, &p->nodes_capacity);

	if (error < 0)
		return error;
	if (p->nodes_count == 0 || p->nodes[p->nodes_count - 1].ino != ino)
		p->nodes[p->nodes_count++] = (struct node_change){ .ino = ino };
	struct node_change *n = &p->nodes[p->nodes_count - 1];
	n->node |= kind == RECORD_NODE;
	n->xattr |= kind == RECORD_XATTR;
	n->names |= kind == RECORD_NAME;
	return 0;
}

static int collect(struct plan *p)
{
	struct record_key key = { .size = 0 };
	int error = 0;

	while (error == 0 && (error = version_change_next(p->echo->txn, p->new.version, &key)) > 0) {
		error = add_node(p, record_key_ino(&key), record_key_kind(&key));
		if (error == 0 && record_key_kind(&key) == RECORD_NAME)
			error = add_name(p, &key);
	}
	return error;
}

/* ---- renames: the same node under another name */

struct arrival {
	ino_id ino;
	size_t name;
};

static int arrival_compare(const void *a_, const void *b_)
{
	const struct arrival *a = a_, *b = b_;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->name < b->name ? -1 : a->name > b->name;
}

static void match(struct plan *p, struct arrival *arrivals, size_t count)
{
	for (size_t i = 0; i < p->names_count; i++) {
		struct name_change *left = &p->names[i];
		size_t low = 0, high = count;

		while (left->old && low < high) {
			size_t middle = (low + high) / 2;
			if (arrivals[middle].ino < left->old)
				low = middle + 1;
			else
				high = middle;
		}
		while (left->old && low < count && arrivals[low].ino == left->old && p->names[arrivals[low].name].came_from != NONE)
			low++;
		if (!left->old || low == count || arrivals[low].ino != left->old)
			continue;
		left->went_to = arrivals[low].name;
		p->names[left->went_to].came_from = i;
	}
}

static int find_renames(struct plan *p)
{
	struct arrival *arrivals = malloc((p->names_count + 1) * sizeof(*arrivals));
	size_t count = 0;

	if (!arrivals)
		return -ENOMEM;
	for (size_t i = 0; i < p->names_count; i++)
		if (p->names[i].new)
			arrivals[count++] = (struct arrival){ p->names[i].new, i };
	qsort(arrivals, count, sizeof(*arrivals), arrival_compare);
	match(p, arrivals, count);
	free(arrivals);
	return 0;
}

/* ---- turns */

/* Within a turn no flip happens, and the store is read. */
static int turn_begin(struct plan *p)
{
	echo_turn_begin(p->echo);
	int error = p->echo->stopping ? -ECANCELED : txn_resume(p->echo->txn);
	if (error < 0)
		echo_turn_end(p->echo);
	return error;
}

static void turn_end(struct plan *p)
{
	txn_park(p->echo->txn);
	echo_turn_end(p->echo);
}

static bool is_directory(struct plan *p, struct view view, ino_id ino)
{
	struct node node;

	return visit_inode(p->echo->txn, view, ino, &node, NULL) == 0 && S_ISDIR(node.mode);
}

/* A directory that somebody may watch, and that was there before, opened; < 0: there is nobody to tell. */
static int open_watched(struct plan *p, ino_id dir)
{
	if (!nodes_find(p->echo->mount->nodes, dir, NULL) || !is_directory(p, p->old, dir) || !is_directory(p, p->new, dir))
		return -ENOENT;
	return echo_open(p->echo, dir);
}

static struct spot spot_of(struct plan *p, const struct name_change *n)
{
	return (struct spot){ .dir = n->dir, .fd = open_watched(p, n->dir), .name = (const char *)p->texts.data + n->text };
}

static void spot_close(struct spot s)
{
	if (s.fd >= 0)
		echo_close(s.fd);
}

/* ---- where files have a name */

/* The way that holds this, else one that holds another node's place, else any. */
static size_t way_for(const struct remembered *set, ino_id ino, struct node_place place)
{
	size_t way = place.cookie % REMEMBERED_WAYS;

	for (size_t i = 0; i < REMEMBERED_WAYS; i++) {
		if (set[i].ino == ino && set[i].place.parent == place.parent && set[i].place.cookie == place.cookie)
			return i;
		if (set[i].ino != ino)
			way = i;
	}
	return way;
}

/* Who is displaced is looked for again. */
void echo_remember(struct echo *e, ino_id ino, struct node_place place)
{
	pthread_mutex_lock(&e->lock);
	if (!e->remembered)
		e->remembered = calloc(REMEMBERED * REMEMBERED_WAYS, sizeof(*e->remembered));
	if (e->remembered) {
		struct remembered *set = &e->remembered[ino % REMEMBERED * REMEMBERED_WAYS];

		set[way_for(set, ino, place)] = (struct remembered){ ino, place };
	}
	pthread_mutex_unlock(&e->lock);
}

/* 'place.parent' is 0 if it is about another node. */
static struct node_place remembered(struct echo *e, ino_id ino, size_t way)
{
	struct node_place place = { 0, 0 };

	pthread_mutex_lock(&e->lock);
	const struct remembered *r = e->remembered ? &e->remembered[ino % REMEMBERED * REMEMBERED_WAYS + way] : NULL;
	if (r && r->ino == ino)
		place = r->place;
	pthread_mutex_unlock(&e->lock);
	return place;
}

/* Is this still a name of the node? Then the name, closed by a 0. */
static bool name_at(struct plan *p, struct node_place place, ino_id ino, char name[NAME_BYTES_MAX + 1])
{
	struct record_key key = record_prefix_names(place.parent, place.cookie);
	struct record_cursor *cursor;
	struct slice value;
	bool found = false;
	version_t at;

	if (record_cursor_new(p->echo->txn, p->new, &cursor) < 0)
		return false;
	int error = record_cursor_seek(cursor, (struct slice){ key.bytes, key.size });
	while (error == 0 && !found && record_cursor_next(cursor, &key, &value, &at) > 0) {
		struct slice text = record_key_text(&key);
		uint8_t type;
		ino_id child;

		if (record_key_ino(&key) != place.parent || record_key_kind(&key) != RECORD_NAME || record_key_cookie(&key) != place.cookie)
			break;
		error = name_decode(value, &child, &type);
		found = error == 0 && child == ino;
		if (found) {
			memcpy(name, text.data, text.size);
			name[text.size] = 0;
		}
	}
	record_cursor_free(cursor);
	return found;
}

static void add_place(struct plan *p, ino_id ino, struct node_place place, struct node_place *places, size_t *count)
{
	char name[NAME_BYTES_MAX + 1];

	for (size_t i = 0; i < *count; i++)
		if (places[i].parent == place.parent && places[i].cookie == place.cookie)
			return;
	if (*count < PLACES_MAX && place.parent && name_at(p, place, ino, name))
		places[(*count)++] = place;
}

/* The names that are known: to the kernel, under the old node id or the new one, or to the echo. */
static size_t places_of(struct plan *p, ino_id ino, const struct node *old, const struct node *new, struct node_place places[PLACES_MAX])
{
	const node_id ids[] = { node_id_of(ino, node_content_version(old)), node_id_of(ino, node_content_version(new)) };
	struct echo *e = p->echo;
	struct node_place place;
	size_t count = 0;

	for (unsigned k = 0; k < ARRAY_SIZE(ids); k++)
		for (size_t i = 0; i < 4 * PLACES_MAX && nodes_place(e->mount->nodes, ids[k], i, &place); i++)
			add_place(p, ino, place, places, &count);
	for (size_t way = 0; way < REMEMBERED_WAYS; way++)
		add_place(p, ino, remembered(e, ino, way), places, &count);
	return count;
}

static int node_compare(const void *a_, const void *b_)
{
	const struct node_change *a = a_, *b = b_;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

/* 1: go on; 0: enough. */
static int search_directory(struct plan *p, struct record_cursor *cursor, ino_id dir, size_t *wanted, size_t *budget)
{
	struct record_key key = record_prefix_names(dir, 0);
	struct slice value;
	version_t at;

	int error = record_cursor_seek(cursor, (struct slice){ key.bytes, key.size });
	while (error == 0 && (error = record_cursor_next(cursor, &key, &value, &at)) > 0) {
		struct node_change *found, like;
		uint8_t type;

		if (record_key_ino(&key) != dir || record_key_kind(&key) != RECORD_NAME)
			return 1;
		if ((*budget)-- == 0)
			return 0;
		error = name_decode(value, &like.ino, &type);
		if (error < 0)
			return error;
		found = bsearch(&like, p->nodes, p->nodes_count, sizeof(like), node_compare);
		if (!found || found->wanted == 0)
			continue;
		echo_remember(p->echo, found->ino, (struct node_place){ dir, record_key_cookie(&key) });
		found->wanted--;
		if (--*wanted == 0)
			return 0;
	}
	return error < 0 ? error : 1;
}

/* The kernel does not know a file that nobody has looked at, but somebody may watch its directory. */
static int search(struct plan *p, size_t wanted)
{
	ino_id *dirs = malloc(SEARCHED_DIRS_MAX * sizeof(*dirs));
	size_t count = dirs ? nodes_directories(p->echo->mount->nodes, dirs, SEARCHED_DIRS_MAX) : 0, budget = SEARCHED_NAMES_MAX;
	struct record_cursor *cursor;
	int error = dirs ? record_cursor_new(p->echo->txn, p->new, &cursor) : -ENOMEM;

	if (error == 0) {
		error = 1;
		for (size_t i = 0; error > 0 && i < count; i++)
			error = search_directory(p, cursor, dirs[i], &wanted, &budget);
		record_cursor_free(cursor);
	}
	free(dirs);
	return error < 0 ? error : 0;
}

/* What 'ino' was and is; mode == 0: nothing. */
static int both_nodes(struct plan *p, ino_id ino, struct node *ret_old, struct node *ret_new)
{
	*ret_old = *ret_new = (struct node){ 0 };
	int error = visit_inode(p->echo->txn, p->old, ino, ret_old, NULL);
	if (error == 0 || error == -ENOENT)
		error = visit_inode(p->echo->txn, p->new, ino, ret_new, NULL);
	return error == -ENOENT ? 0 : error;
}

static int find_places(struct plan *p)
{
	struct node_place places[PLACES_MAX];
	struct node old, new;
	size_t wanted = 0;

	for (size_t i = 0; i < p->names_count; i++)
		if (p->names[i].new)
			echo_remember(p->echo, p->names[i].new, (struct node_place){ p->names[i].dir, p->names[i].cookie });
	for (size_t i = 0; i < p->nodes_count; i++) {
		struct node_change *n = &p->nodes[i];
		int error = both_nodes(p, n->ino, &old, &new);
		if (error < 0)
			return error;
		if (old.mode != 0 && new.mode != 0 && places_of(p, n->ino, &old, &new, places) == 0)
			n->wanted = S_ISDIR(new.mode) ? 1 : new.nlink;
		wanted += n->wanted;
	}
	return wanted ? search(p, wanted) : 0;
}

/* ---- names are told */

static void note(struct plan *p, int error)
{
	if (p->error == 0)
		p->error = error;
}

/* Is this a file that is the same as before, and that somebody may watch? */
static bool is_same_file(struct plan *p, ino_id ino)
{
	struct node old, new;

	return both_nodes(p, ino, &old, &new) == 0 && old.mode != 0 && new.mode != 0 && !S_ISDIR(new.mode) &&
	       node_content_version(&old) == node_content_version(&new) &&
	       nodes_find(p->echo->mount->nodes, node_id_of(ino, node_content_version(&new)), NULL);
}

static void tell_rename(struct plan *p, const struct name_change *from, const struct name_change *to)
{
	struct spot here = spot_of(p, from), there = spot_of(p, to);

	if (here.fd >= 0 || there.fd >= 0 || is_same_file(p, to->new))
		note(p, echo_renamed(p->echo, here, there, to->new_type, is_same_file(p, to->new) ? to->new : 0, p->new.version));
	spot_close(here);
	spot_close(there);
}

static bool exists(struct plan *p, struct view view, ino_id ino)
{
	struct node node;

	return visit_inode(p->echo->txn, view, ino, &node, NULL) == 0;
}

static void tell_name(struct plan *p, const struct name_change *n)
{
	struct spot at = spot_of(p, n);

	if (at.fd < 0)
		return;
	if (n->old && n->new && n->old_type != DT_DIR && n->new_type != DT_DIR) {
		note(p, echo_renamed(p->echo, (struct spot){ .fd = -1 }, at, n->new_type, 0, 0));
	} else {
		if (n->old && n->went_to == NONE)
			note(p, echo_deleted(p->echo, at, n->old_type));
		if (n->new)
			note(p, echo_created(p->echo, at, n->new_type, exists(p, p->old, n->new)));
	}
	spot_close(at);
}

/*
 * A name from which something is renamed away is left before something else takes its place: from any name of such a chain to its end, and from there
 * back. A circle is begun anywhere.
 */
static int tell_renames(struct plan *p, size_t name)
{
	size_t first = name;
	int error = 0;

	/* to the end of the chain, */
	while (p->names[first].went_to != NONE && !p->names[p->names[first].went_to].told && !p->names[first].waiting) {
		p->names[first].waiting = true;
		first = p->names[first].went_to;
	}
	/* and back */
	while (error == 0 && p->names[first].came_from != NONE && !p->names[first].told) {
		struct name_change *to = &p->names[first];

		error = turn_begin(p);
		if (error < 0)
			break;
		tell_rename(p, &p->names[to->came_from], to);
		turn_end(p);
		to->told = true;
		first = to->came_from;
	}
	return error;
}

static int tell_names(struct plan *p)
{
	int error = 0;

	for (size_t i = 0; error == 0 && i < p->names_count; i++)
		if (p->names[i].came_from != NONE && !p->names[i].told)
			error = tell_renames(p, i);
	for (size_t i = 0; error == 0 && i < p->names_count; i++) {
		const struct name_change *n = &p->names[i];

		if (n->told || (!n->new && n->went_to != NONE))
			continue;
		error = turn_begin(p);
		if (error < 0)
			break;
		tell_name(p, n);
		turn_end(p);
	}
	return error;
}

/* ---- nodes are told */

static bool same_time(const struct node_time *a, const struct node_time *b)
{
	return a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

/* Attributes; that they changed with the content goes without saying for times. */
static bool is_changed(const struct node_change *n, const struct node *old, const struct node *new, bool written)
{
	bool times = !written && (!same_time(&old->mtime, &new->mtime) || !same_time(&old->atime, &new->atime));

	if (n->xattr || old->mode != new->mode || old->uid != new->uid || old->gid != new->gid)
		return true;
	return times && !(S_ISDIR(new->mode) && n->names);
}

static void tell_at(struct plan *p, ino_id ino, const struct node *new, struct node_place place, bool written, bool changed)
{
	char name[NAME_BYTES_MAX + 1];
	struct spot at = { .dir = place.parent, .name = name, .fd = -1 };

	if (name_at(p, place, ino, name))
		at.fd = open_watched(p, place.parent);
	if (at.fd < 0)
		return;
	bool held = nodes_find(p->echo->mount->nodes, node_id_of(ino, node_content_version(new)), NULL);
	if (written)
		note(p, echo_written(p->echo, at));
	if (changed)
		note(p, echo_attributes_changed(p->echo, at, IFTODT(new->mode), held));
	spot_close(at);
}

static void tell_node(struct plan *p, const struct node_change *n)
{
	struct node_place places[PLACES_MAX];
	struct node old, new;

	if (both_nodes(p, n->ino, &old, &new) < 0 || old.mode == 0)
		return;
	bool held = nodes_find(p->echo->mount->nodes, node_id_of(n->ino, node_content_version(&old)), NULL);
	bool written = new.mode != 0 && node_content_version(&old) != node_content_version(&new);
	bool changed = new.mode != 0 && is_changed(n, &old, &new, written);
	size_t count = written || changed ? places_of(p, n->ino, &old, &new, places) : 0;

	for (size_t i = 0; i < count; i++)
		tell_at(p, n->ino, &new, places[i], written, changed);
	if (held && (written || new.mode == 0))
		note(p, echo_ended(p->echo, n->ino, p->old.version, IFTODT(old.mode), written));
	else if (held && !changed && !S_ISDIR(new.mode) && old.nlink != new.nlink)
		note(p, echo_links_changed(p->echo, n->ino, p->new.version));
}

static int tell_nodes(struct plan *p)
{
	int error = 0;

	for (size_t i = 0; error == 0 && i < p->nodes_count; i++) {
		error = turn_begin(p);
		if (error < 0)
			break;
		tell_node(p, &p->nodes[i]);
		turn_end(p);
	}
	return error;
}

/* ---- versions */

static int prepare(struct plan *p)
{
	int error = collect(p);

	if (error == 0)
		error = find_renames(p);
	return error < 0 ? error : find_places(p);
}

static int replay_version(struct echo *e, version_t from, version_t to)
{
	struct plan p = { .echo = e, .old = { .version = from }, .new = { .version = to } };
	int error = txn_resume(e->txn);

	if (error == 0) {
		error = prepare(&p);
		txn_park(e->txn);
	}
	if (error == 0)
		error = tell_names(&p);
	if (error == 0)
		error = tell_nodes(&p);
	if (error == 0 && p.error < 0 && !e->stopping)
		log_info("not all of version %llu could be told to watchers: %s", (unsigned long long)to, error_text(p.error));
	buffer_fini(&p.texts);
	free(p.names);
	free(p.nodes);
	return error;
}

static bool is_far_behind(struct echo *e, version_t after, version_t shown)
{
	struct version_info info = { .version = after };

	if (shown - after <= VERSIONS_BEHIND_MAX) /* numbers; by far not all of them may be here */
		return false;
	for (unsigned i = 0; i < VERSIONS_BEHIND_MAX; i++)
		if (version_next(e->txn, info.version, &info) < 0 || info.version >= shown)
			return false;
	return true;
}

/* The next version after 'after' that was shown, at most 'shown'. -ESTALE: too much lies between, or it is not kept any more. */
static int next_version(struct echo *e, version_t after, version_t shown, version_t *ret_version)
{
	struct version_info info = { .version = after };
	int error = txn_resume(e->txn);

	if (error < 0)
		return error;
	if (txn_state(e->txn)->horizon > after || is_far_behind(e, after, shown))
		error = -ESTALE;
	do {
		if (error == 0)
			error = version_next(e->txn, info.version, &info);
	} while (error == 0 && info.state != VERSION_COMMITTED);
	txn_park(e->txn);
	if (error == 0)
		*ret_version = info.version;
	return error;
}

static int replay_next(struct echo *e, version_t shown)
{
	struct slave_mount *m = e->mount;
	version_t version;

	int error = next_version(e, m->echoed, shown, &version);
	if (error == 0)
		error = replay_version(e, m->echoed, version);
	if (error == 0)
		m->echoed = version;
	return error;
}

void replay(struct echo *e)
{
	struct slave_mount *m = e->mount;
	version_t shown;

	while (!e->stopping && m->echoed < (shown = m->shown)) {
		int error = replay_next(e, shown);

		if (error == 0 || e->stopping)
			continue;
		log_warning("watchers are not told what changed from version %llu to %llu: %s", (unsigned long long)m->echoed,
			    (unsigned long long)shown,
			    error == -E2BIG ? "it is too much" : error == -ESTALE ? "it is too long ago" : error_text(error));
		m->echoed = shown;
	}
}

void replay_fini(struct echo *e)
{
	free(e->remembered);
}
