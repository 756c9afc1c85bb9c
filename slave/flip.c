/*
 * The flip: the step of everything that is seen from one version to the next (F4). It keeps this promise: once any process has
 * seen something new, no process sees anything old.
 *
 *   1. Pass the gate: every answer from now on is cautious, still about the old version, but with timeout 0. Older answers are on
 *      their way at most as far as the kernel.
 *   2. Take from the kernel whatever the new version changes. Afterwards nothing of that is cached.
 *   3. Pass the gate: the new version is what is shown; answers are kept again.
 *   4. See to what slipped in during step 2 and has no timeout.
 *
 * No request waits for step 2, since taking an entry away needs its directory's lock, which the kernel holds while it waits for
 * an answer.
 *
 * What the kernel may be doing meanwhile with an older answer, that it may keep for ever (fs/fuse/dir.c, readdir.c, inode.c of
 * Linux 6.x):
 * - Lookups and listings hold their directory's lock from before the request until the answer is in the caches; taking an entry
 *   away takes the same lock exclusively. So afterwards no such answer is under way in that directory. Where attributes only have
 *   changed, the entry stays, but its directory's lock must have been passed (barrier) before the attributes are taken away: else
 *   a lookup could yet make the inode, with the old ones.
 * - An entry that is looked at again after its timeout does not hold that lock. Its late answer renews an entry that has been
 *   unhashed, which nobody finds any more; merely expiring it would not do. Its late attributes are refused, because those of the
 *   inode were taken away after it was sent (attr_version); a getattr's too, and ACLs likewise (a sentinel).
 * - A listing is kept with the mtime that the directory had when its listing began, and is dropped when mtime has changed. If the
 *   names change and mtime does not (rsync sets it back), what is cached is dropped, and mtime is blurred (caution.c) from then
 *   on.
 * - Listings and ACLs have no timeout, so a cautious visit notes that it gave one. Step 3 is not taken as long as an ACL that changes
 *   was given and not taken away again. An old listing that is on its way during step 3 could get into a cache that was begun with
 *   the new mtime, or with one that does not change: until the directory's lock has been passed once more, and what was listed
 *   taken away, its mtime is blurred, so nobody looks into such a cache. (Who is in the middle of a listing may: readdir(3p) leaves
 *   that open.)
 * - stat reads attributes without a lock, and sees that they are good a moment before the last of them is stored. So the first
 *   answer after a change is still not to be kept (nodes_refresh).
 *
 * Not here: keeping the old version's records while a reader has them open (nodes_leave says which they are; retention asks
 * slave_mount_holds).
 */
#include <assert.h>
#include <errno.h>

#include "drsfs/error.h"
#include "slave/serve.h"

#define PASSED_MAX 16
#define SORTED_MAX 1000 /* given answers that are looked at one by one, */
#define ROUNDS_MAX 100  /* and so many times, if others are given meanwhile */

struct flip {
	struct slave_mount *mount;
	struct txn *txn;
	struct view old, new;
	struct record_cursor *names;   /* of the old view; NULL until it is needed */
	ino_id names_of;               /* the directory whose names are being gone through, */
	bool names_held;               /* and whether the kernel holds it */
	ino_id node_done;              /* its node was seen to already */
	ino_id passed[PASSED_MAX];     /* directories whose lock has been passed lately */
	unsigned passed_next;
};

/* ---- the gate */

static void be_cautious(struct slave_mount *m)
{
	pthread_rwlock_wrlock(&m->gate);
	m->flipping = true;
	pthread_rwlock_unlock(&m->gate);
}

static void be_careless(struct slave_mount *m)
{
	pthread_rwlock_wrlock(&m->gate);
	m->flipping = false;
	caution_end(&m->caution);
	pthread_rwlock_unlock(&m->gate);
}

/* ---- what is said to the kernel */

/* It may have forgotten what it is about, or not have begun yet (ENOSYS), or have ended the mount: then it holds nothing. */
static int told(struct flip *f, int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ENOSYS || fuse_session_exited(f->mount->session) ? 0 : error;
}

/* No entry has this name: nothing is taken away, but the directory's lock is passed. */
static const struct slice NO_NAME = { ".", 1 };

static void note_passed(struct flip *f, ino_id dir)
{
	f->passed[f->passed_next++ % PASSED_MAX] = dir;
}

static int take_entry(struct flip *f, ino_id dir, struct slice name)
{
	note_passed(f, dir);
	return told(f, fuse_lowlevel_notify_inval_entry(f->mount->session, dir, name.data, name.size));
}

/* Pass the directory's lock. */
static int barrier(struct flip *f, ino_id dir)
{
	for (unsigned i = 0; i < PASSED_MAX; i++)
		if (f->passed[i] == dir)
			return 0;
	return take_entry(f, dir, NO_NAME);
}

static int take_attributes(struct flip *f, node_id id)
{
	nodes_refresh(f->mount->nodes, id);
	return told(f, fuse_lowlevel_notify_inval_inode(f->mount->session, id, -1, 0));
}

static int take_listing(struct flip *f, ino_id dir)
{
	return told(f, fuse_lowlevel_notify_inval_inode(f->mount->session, dir, 0, 0));
}

/* ---- nodes */

static int barrier_at_places(struct flip *f, node_id id)
{
	struct node_place place;
	int error = 0;

	for (size_t i = 0; error == 0 && nodes_place(f->mount->nodes, id, i, &place); i++)
		error = barrier(f, place.parent);
	return error;
}

/* The kernel knows names by their hash; what they are stands in the store. */
static int take_place(struct flip *f, struct node_place place)
{
	struct record_key key = record_prefix_names(place.parent, place.cookie);
	struct slice value;
	version_t at;
	int error = 0;

	if (!f->names)
		error = record_cursor_new(f->txn, f->old, &f->names);
	if (error == 0)
		error = record_cursor_seek(f->names, (struct slice){ key.bytes, key.size });
	while (error == 0 && (error = record_cursor_next(f->names, &key, &value, &at)) > 0) {
		if (record_key_ino(&key) != place.parent || record_key_kind(&key) != RECORD_NAME || record_key_cookie(&key) != place.cookie)
			return 0;
		error = take_entry(f, place.parent, record_key_text(&key));
	}
	return error;
}

static int take_places(struct flip *f, node_id id)
{
	struct node_place place;
	int error = 0;

	for (size_t i = 0; error == 0 && nodes_place(f->mount->nodes, id, i, &place); i++) {
		if (f->mount->echo)
			echo_remember(f->mount->echo, node_id_ino(id), place);
		error = take_place(f, place);
	}
	return error;
}

static bool same_mtime(const struct node *a, const struct node *b)
{
	return a->mtime.seconds == b->mtime.seconds && a->mtime.nanoseconds == b->mtime.nanoseconds;
}

/* What 'ino' was and will be; mode == 0: there is none. */
static int both_nodes(struct flip *f, ino_id ino, struct node *ret_old, struct node *ret_new)
{
	*ret_old = *ret_new = (struct node){ 0 };
	int error = visit_inode(f->txn, f->old, ino, ret_old, NULL);
	if (error == 0 || error == -ENOENT)
		error = visit_inode(f->txn, f->new, ino, ret_new, NULL);
	return error == -ENOENT ? 0 : error;
}

/* What was listed so far is taken away; what is listed from now on is found outdated afterwards. */
static int directory_blurred(struct flip *f, ino_id dir)
{
	pthread_rwlock_wrlock(&f->mount->gate);
	int error = caution_blur(&f->mount->caution, dir);
	pthread_rwlock_unlock(&f->mount->gate);
	if (error == 0)
		error = take_attributes(f, dir); /* who begins to list from now on does not do so with the true mtime, */
	if (error == 0)
		error = take_entry(f, dir, NO_NAME); /* and who did has come to an end */
	return error < 0 ? error : take_listing(f, dir);
}

/*
 * The kernel trusts a listing as long as the directory's mtime is what it was when it read that; a time that is set back later, as archivers do, would have
 * it trust one that is long outdated. So no listing outlives a time.
 */
static int directory_moved(struct flip *f, ino_id dir)
{
	int error = barrier(f, dir); /* who is reading the old one has it in the cache, whence it is taken */

	nodes_refresh(f->mount->nodes, dir);
	return error < 0 ? error : take_listing(f, dir);
}

static int directory_changed(struct flip *f, ino_id dir, const struct node *old, const struct node *new, bool names_too)
{
	int error = barrier_at_places(f, dir);

	if (error < 0)
		return error;
	if (new->mode == 0)
		nodes_leave(f->mount->nodes, dir, f->old.version);
	if (same_mtime(old, new))
		return names_too ? directory_blurred(f, dir) : take_attributes(f, dir);
	return directory_moved(f, dir);
}

static int file_changed(struct flip *f, ino_id ino, const struct node *old, const struct node *new)
{
	node_id id = node_id_of(ino, node_content_version(old));

	if (!nodes_find(f->mount->nodes, id, NULL))
		return 0;
	if (new->mode == 0 || node_content_version(new) != node_content_version(old)) {
		nodes_leave(f->mount->nodes, id, f->old.version);
		return take_places(f, id);
	}
	int error = barrier_at_places(f, id);
	return error < 0 ? error : take_attributes(f, id);
}

static bool directory_held(struct flip *f, ino_id dir)
{
	return nodes_find(f->mount->nodes, dir, NULL);
}

static int node_changed(struct flip *f, ino_id ino, bool names_too)
{
	struct node old, new;

	if (f->node_done == ino)
		return 0;
	f->node_done = ino;
	int error = both_nodes(f, ino, &old, &new);
	if (error < 0 || old.mode == 0)
		return error; /* what is new nobody holds */
	if (!S_ISDIR(old.mode))
		return file_changed(f, ino, &old, &new);
	return directory_held(f, ino) ? directory_changed(f, ino, &old, &new, names_too) : 0;
}

/* ---- names */

/* The node that had this name is not to be looked for there any more. */
static int leave_place(struct flip *f, const struct record_key *key)
{
	struct slice value;
	struct node node;
	uint8_t type;
	ino_id child;

	int error = record_get(f->txn, f->old, key, &value, NULL);
	if (error == 0)
		error = name_decode(value, &child, &type);
	if (error == 0)
		error = visit_inode(f->txn, f->old, child, &node, NULL);
	if (error == 0)
		nodes_drop_place(f->mount->nodes, node_id_of(child, node_content_version(&node)),
				 (struct node_place){ record_key_ino(key), record_key_cookie(key) });
	return error == -ENOENT ? 0 : error;
}

/* In a directory that the kernel does not hold it has no entries. The names of a directory come one after another, before its node. */
static int name_changed(struct flip *f, const struct record_key *key)
{
	ino_id dir = record_key_ino(key);
	int error = 0;

	if (f->names_of != dir) {
		f->names_of = dir;
		f->names_held = directory_held(f, dir);
		f->node_done = 0;
		if (f->names_held)
			error = node_changed(f, dir, true);
	}
	if (!f->names_held || error < 0)
		return error;
	error = take_entry(f, dir, record_key_text(key));
	return error < 0 ? error : leave_place(f, key);
}

static int key_changed(struct flip *f, const struct record_key *key)
{
	if (record_key_kind(key) == RECORD_NAME)
		return name_changed(f, key);
	return node_changed(f, record_key_ino(key), false);
}

/* ---- versions between old and new */

/* 1: the next committed version after 'version', up to the new one; 0: there is none. */
static int next_version(struct flip *f, version_t after, version_t *ret_version)
{
	struct version_info info;
	int error;

	do {
		error = version_next(f->txn, after, &info);
		if (error == -ENOENT || (error == 0 && info.version > f->new.version))
			return 0;
		after = info.version;
	} while (error == 0 && info.state != VERSION_COMMITTED);
	if (error < 0)
		return error;
	*ret_version = info.version;
	return 1;
}

static int take_changes_of(struct flip *f, version_t version)
{
	struct record_key key = { .size = 0 };
	int error = 0;

	f->names_of = f->node_done = 0;
	while (error == 0 && (error = version_change_next(f->txn, version, &key)) > 0)
		error = key_changed(f, &key);
	return error;
}

static int take_changes(struct flip *f)
{
	version_t version = f->old.version;
	int error;

	while ((error = next_version(f, version, &version)) > 0) {
		error = take_changes_of(f, version);
		if (error < 0)
			break;
	}
	return error;
}

/* ---- answers that the kernel keeps, given meanwhile */

/* 1 or 0: do the directory's names change, or the node's attributes? A version's keys come in order, so the first from such a prefix on is one if there are any. */
static int given_changes(struct flip *f, const struct given *given)
{
	ino_id ino = node_id_ino(given->id);
	version_t version = f->old.version;
	int error;

	while ((error = next_version(f, version, &version)) > 0) {
		struct record_key key = given->kind == GIVEN_ACL ? record_prefix_xattrs(ino) : record_prefix_names(ino, 0);

		error = version_change_next(f->txn, version, &key);
		if (error < 0 || (error > 0 && record_key_ino(&key) == ino &&
				  record_key_kind(&key) == (given->kind == GIVEN_ACL ? RECORD_XATTR : RECORD_NAME)))
			break;
	}
	return error;
}

static bool take_given(struct slave_mount *m, struct given *ret_given)
{
	pthread_rwlock_wrlock(&m->gate);
	bool taken = caution_take(&m->caution, ret_given);
	pthread_rwlock_unlock(&m->gate);
	return taken;
}

static int set_free(struct slave_mount *m, const struct given *given)
{
	pthread_rwlock_wrlock(&m->gate);
	int error = caution_free(&m->caution, given);
	pthread_rwlock_unlock(&m->gate);
	return error;
}

/* What stays as it is has nothing to do with the flip, whoever is given it. */
static int sort_given(struct flip *f)
{
	struct given given;
	int error = 0;

	for (unsigned i = 0; error >= 0 && i < SORTED_MAX && take_given(f->mount, &given); i++) {
		if (given.kind == GIVEN_LISTING && caution_is_blurred(&f->mount->caution, given.id))
			continue; /* listed with a blurred mtime: found outdated afterwards */
		error = given_changes(f, &given);
		if (error > 0)
			error = given.kind == GIVEN_ACL ? take_attributes(f, given.id) : directory_blurred(f, given.id);
		else if (error == 0)
			error = set_free(f->mount, &given);
	}
	return error < 0 ? error : 0;
}

static bool acl_given(const struct caution *c)
{
	for (size_t i = 0; i < c->given_count; i++)
		if (c->given[i].kind == GIVEN_ACL)
			return true;
	return false;
}

/*
 * The new version is what is shown: 1. Directories of which the kernel may have got an old listing just now are blurred. 0: it has got an ACL, which is to
 * be taken away first, unless this is the last attempt.
 */
static int move(struct flip *f, bool last)
{
	struct slave_mount *m = f->mount;

	pthread_rwlock_wrlock(&m->gate);
	int moved = last || !acl_given(&m->caution);
	for (size_t i = 0; moved > 0 && i < m->caution.given_count; i++)
		if (m->caution.given[i].kind == GIVEN_LISTING && caution_blur(&m->caution, m->caution.given[i].id) < 0)
			moved = -ENOMEM;
	if (moved > 0) {
		m->shown = f->new.version;
		m->flipping = false;
	}
	pthread_rwlock_unlock(&m->gate);
	return moved;
}

/*
 * Once a directory's lock was passed no old listing of it is on its way any more. One that was given last goes; it may have been begun with the true mtime.
 * From then on the kernel may trust mtime again.
 */
static void settle(struct flip *f)
{
	struct caution *c = &f->mount->caution;

	for (size_t i = 0; i < c->blurred.count; i++) {
		take_entry(f, c->blurred.items[i], NO_NAME);
		nodes_refresh(f->mount->nodes, c->blurred.items[i]);
	}
	for (size_t i = 0; i < c->given_count; i++)
		if (c->given[i].kind == GIVEN_ACL)
			take_attributes(f, c->given[i].id); /* there are none but after the last attempt */
		else
			take_listing(f, c->given[i].id);
	be_careless(f->mount);
}

static int flip(struct flip *f)
{
	f->new.version = txn_state(f->txn)->current;
	if (f->new.version == f->old.version)
		return 0;
	if (!f->mount->session) {
		f->mount->shown = f->new.version; /* not mounted: nobody looks */
		return 0;
	}
	be_cautious(f->mount);
	int error = take_changes(f);
	for (unsigned round = 1; error == 0; round++) {
		error = sort_given(f);
		if (error == 0)
			error = move(f, round == ROUNDS_MAX);
	}
	record_cursor_free(f->names);
	if (error > 0)
		settle(f);
	else
		be_careless(f->mount); /* the old version goes on being shown; that less of it is cached does no harm */
	return error < 0 ? error : 0;
}

int slave_mount_flip(struct slave_mount *m)
{
	struct flip f = { .mount = m, .txn = m->flip_txn, .old = { .version = m->shown } };
	assert(!m->fixed);
	int error = txn_resume(f.txn);

	if (error < 0)
		return error;
	echo_flip_begin(m->echo);
	error = flip(&f);
	echo_flip_end(m->echo);
	txn_park(f.txn);
	return error;
}
