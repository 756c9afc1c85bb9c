/*
 * Names of the live tree and of the published one (names.h). A name has up to two records: under the pending version, and in the draft,
 * which hides it. Each function below first looks at what both say, then changes names, link counts and directory times together.
 * Not here: access rights, which the kernel checks.
 */
#include "master/names.h"

#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include "master/acl.h"
#include "store/batch.h"

#define NAME_CHANGE_BYTES 1024 /* a name, its node, its directory: more than their records take */

int name_of(ino_id parent, const char *text, struct name *ret_name)
{
	size_t size = strlen(text);
	if (size > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (size == 0)
		return -EINVAL;
	*ret_name = (struct name){ parent, { text, size } };
	return 0;
}

static struct record_key key_of(struct txn *txn, const struct name *name)
{
	return record_key_name(txn, name->parent, name->text.data, name->text.size);
}

static int find_by_key(struct txn *txn, struct view view, const struct record_key *key, struct named *ret_named)
{
	struct named named = { 0 };
	struct slice value;
	int ret = record_get(txn, view, key, &value, &named.at);
	if (ret == 0)
		ret = name_decode(value, &named.child, &named.type);
	else if (ret == -ENOENT)
		ret = 0, named = (struct named){ 0 };
	if (ret == 0)
		*ret_named = named;
	return ret;
}

int name_find(struct txn *txn, struct view view, const struct name *name, struct named *ret_named)
{
	struct record_key key = key_of(txn, name);
	return find_by_key(txn, view, &key, ret_named);
}

struct known_place name_place(struct txn *txn, const struct name *name)
{
	struct record_key key = key_of(txn, name);
	return (struct known_place){ name->parent, record_key_cookie(&key) };
}

/* A name as both layers have it, and as a change needs it. */
struct place {
	const struct name *name;
	struct record_key key;
	struct named live, published;
	bool waits; /* the draft has a record: a name or its removal */
};

static int place_find(struct live *live, struct txn *txn, const struct name *name, struct place *ret_place)
{
	struct place place = { .name = name, .key = key_of(txn, name) };
	bool removal;
	place.waits = record_exists_at(txn, live->waiting, &place.key, &removal);
	int ret = find_by_key(txn, live_view(live, txn), &place.key, &place.live);
	if (ret == 0)
		ret = find_by_key(txn, published_view(live, txn), &place.key, &place.published);
	if (ret == 0)
		*ret_place = place;
	return ret;
}

/* As place_find, for a name that must be there. */
static int place_get(struct live *live, struct txn *txn, const struct name *name, struct place *ret_place)
{
	int ret = place_find(live, txn, name, ret_place);
	return ret < 0 ? ret : ret_place->live.child ? 0 : -ENOENT;
}

/* What a change of this name means must not get into a commit that is under way: the name, the file that has it, and the one that a new file displaced. */
static int place_may_change(struct live *live, struct txn *txn, const struct place *place)
{
	int ret = live_may_change_name(live, txn, &place->key);
	if (ret == 0 && place->live.child)
		ret = live_may_change_node(live, txn, place->live.child);
	if (ret == 0 && place->published.child)
		ret = live_may_change_node(live, txn, place->published.child);
	return ret;
}

/* The directory that a new name goes into must still have one itself. */
static int parent_get(struct live *live, struct txn *txn, ino_id parent, struct node *ret_node)
{
	int ret = node_live(live, txn, parent, ret_node);
	if (ret < 0)
		return ret;
	return !S_ISDIR(ret_node->mode) ? -ENOTDIR : ret_node->nlink == 0 ? -ENOENT : 0;
}

/* --- one name, one layer */

static int name_put(struct live *live, version_t at, const struct record_key *key, ino_id child, uint8_t type)
{
	uint8_t bytes[16];
	size_t size;
	name_encode(child, type, bytes, &size);
	return live_put(live, at, key, (struct slice){ bytes, size });
}

/* The draft says nothing about this name any more. */
static int place_unwait(struct live *live, struct place *place)
{
	if (!place->waits)
		return 0;
	draft_disown_name(live, place->name->parent, place->name->text, place->live.child);
	place->waits = false;
	return live_drop(live, live->waiting, &place->key);
}

/* From now on the draft says that the name is 'child' (0: nobody), until 'owner' is published. */
static int place_wait(struct live *live, struct place *place, struct draft *owner, ino_id child, uint8_t type)
{
	int ret = place_unwait(live, place);
	if (ret == 0)
		ret = draft_own_name(owner, place->name->parent, place->name->text);
	if (ret < 0)
		return ret;
	place->waits = true;
	return child ? name_put(live, live->waiting, &place->key, child, type) : live_delete(live, live->waiting, &place->key);
}

/* So that it can be undone: in memory nothing tells any more what waited for whom. */
static int place_note(struct live *live, const struct place *place)
{
	const struct draft *owner = draft_owner(live, place->name->parent, place->name->text, place->live.child);
	struct buffer *noted = &live->withdrawn;
	if (!live->trial || !place->waits || !owner)
		return 0;
	buffer_add_be64(noted, owner->ino);
	buffer_add_be64(noted, place->live.child);
	buffer_add_u8(noted, place->live.type);
	buffer_add_be64(noted, place->name->parent);
	buffer_add_u8(noted, (uint8_t)place->name->text.size);
	buffer_add(noted, place->name->text.data, place->name->text.size);
	return noted->failed ? work_broken_by(live->work, -ENOMEM) : 0;
}

static int name_restore(struct live *live, struct reader *noted)
{
	struct draft *owner = draft_find(live, read_be64(noted));
	ino_id child = read_be64(noted);
	uint8_t type = read_u8(noted);
	ino_id parent = read_be64(noted);
	size_t size = read_u8(noted);
	struct name name = { parent, { read_bytes(noted, size), size } };
	struct draft *named = draft_find(live, child);
	struct place place;
	if (!draft_is_drafted(owner))
		return 0;
	int ret = place_find(live, live->work->writer, &name, &place);
	if (ret == 0)
		ret = place_wait(live, &place, owner, child, type);
	if (ret == 0 && draft_is_drafted(named))
		named->node.nlink++;
	else if (ret == 0 && child)
		ret = links_change(live, child, 1, 0, time_now());
	return ret;
}

int names_restore(struct live *live)
{
	struct reader noted = reader_of(buffer_slice(&live->withdrawn));
	int ret = 0;
	while (ret == 0 && reader_left(&noted))
		ret = name_restore(live, &noted);
	return ret;
}

/* Whoever has the name loses it, in both layers. The published record itself is left to be overwritten or deleted. */
static int place_clear(struct live *live, struct place *place, struct node_time now)
{
	ino_id shown = place->live.child, published = place->published.child;
	int ret = place_note(live, place);
	if (ret == 0)
		ret = place_unwait(live, place);
	if (ret < 0)
		return ret;
	if (shown == published)
		return shown ? links_change(live, shown, -1, -1, now) : 0;
	if (shown)
		ret = links_change(live, shown, -1, 0, now);
	if (ret == 0 && published)
		ret = links_change(live, published, 0, -1, now);
	return ret;
}

static int place_publish(struct live *live, const struct place *place, ino_id child, uint8_t type)
{
	live->finished = true;
	return name_put(live, live_finish_at(live), &place->key, child, type);
}

static int place_unpublish(struct live *live, const struct place *place)
{
	if (!place->published.child)
		return 0;
	live->finished = true;
	return live_delete(live, live_finish_at(live), &place->key);
}

/* --- names that wait, when their time has come */

/*
 * Readers of versions see a directory's names change with its times. These changed when the name was made, and waited with it; if they have been published or
 * set since then they move by the least that can be seen, which does no harm to what a program has set.
 */
static int directory_nudge(struct live *live, ino_id ino)
{
	struct record_key key = record_key_node(ino);
	version_t version = live_finish_at(live);
	bool gone, touched = draft_touched(live, ino);
	if (!touched && record_exists_at(live->work->writer, version, &key, &gone))
		return 0;
	struct node node;
	int ret = node_live(live, live->work->writer, ino, &node);
	if (ret < 0 || touched)
		return ret < 0 ? ret : node_finish(live, ino, &node);
	node.ctime = time_now();
	if (++node.mtime.nanoseconds == 1000000000) {
		node.mtime.nanoseconds = 0;
		node.mtime.seconds++;
	}
	live->times_moved(live->user, ino);
	return node_put(live, version, ino, &node);
}

/* Links are counted up before any is counted down, so that a node that changes its name keeps one. */
static int waiting_links_up(struct live *live, struct draft *d, const struct draft_name *names, struct node_time now)
{
	for (const struct draft_name *at = names; at; at = at->next) {
		struct name name = { at->parent, { at->text, at->size } };
		struct named named;
		int ret = name_find(live->work->writer, live_view(live, live->work->writer), &name, &named);
		if (ret == 0 && named.child == d->ino)
			d->nlink_published++;
		else if (ret == 0 && named.child)
			ret = links_change(live, named.child, 0, 1, now);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int waiting_name_publish(struct live *live, const struct draft_name *at, struct node_time now)
{
	struct name name = { at->parent, { at->text, at->size } };
	struct place place;
	int ret = place_find(live, live->work->writer, &name, &place);
	if (ret == 0)
		ret = live_drop(live, live->waiting, &place.key);
	if (ret == 0)
		ret = place.live.child ? place_publish(live, &place, place.live.child, place.live.type) : place_unpublish(live, &place);
	if (ret == 0)
		ret = directory_nudge(live, name.parent);
	if (ret == 0 && place.published.child)
		ret = links_change(live, place.published.child, 0, -1, now);
	return ret;
}

int names_publish(struct live *live, struct draft *d, struct node_time now)
{
	struct draft_name *names = d->names;
	d->names = NULL;
	int ret = waiting_links_up(live, d, names, now);
	while (names) {
		struct draft_name *name = names;
		names = name->next;
		if (ret == 0)
			ret = waiting_name_publish(live, name, now);
		free(name);
	}
	return work_broken_by(live->work, ret);
}

int names_note(struct live *live, struct txn *txn, const struct draft *d, struct buffer *ret_noted)
{
	for (const struct draft_name *at = d->names; at; at = at->next) {
		struct name name = { at->parent, { at->text, at->size } };
		struct named named;
		int ret = name_find(txn, live_view(live, txn), &name, &named);
		if (ret < 0)
			return ret;
		buffer_add_be64(ret_noted, at->parent);
		buffer_add_be64(ret_noted, named.child);
		buffer_add_u8(ret_noted, named.type);
		buffer_add_u8(ret_noted, (uint8_t)at->size);
		buffer_add(ret_noted, at->text, at->size);
	}
	return ret_noted->failed ? -ENOMEM : 0;
}

static int each_noted(struct live *live, struct slice noted, bool show)
{
	struct reader r = reader_of(noted);
	int ret = 0;
	while (ret == 0 && reader_left(&r)) {
		struct name name = { .parent = read_be64(&r) };
		ino_id child = read_be64(&r);
		uint8_t type = read_u8(&r);
		name.text.size = read_u8(&r);
		name.text.data = read_bytes(&r, name.text.size);
		struct record_key key = key_of(live->work->writer, &name);
		if (!show)
			ret = live_drop(live, live->waiting, &key);
		else
			ret = child ? name_put(live, live->waiting, &key, child, type) : live_delete(live, live->waiting, &key);
	}
	return ret;
}

int names_show(struct live *live, struct slice noted)
{
	return each_noted(live, noted, true);
}

int names_unshow(struct live *live, struct slice noted)
{
	return each_noted(live, noted, false);
}

/* Names in the draft whose owner is another file: they come from an exchange (below), and are too rare to be moved about. */
static int place_resolve(struct live *live, const struct name *name, struct place *place)
{
	struct draft *owner = place->waits ? draft_owner(live, name->parent, name->text, place->live.child) : NULL;
	if (!owner || owner->ino == place->live.child)
		return 0;
	int ret = draft_publish(live, owner);
	return ret < 0 ? ret : place_find(live, live->work->writer, name, place);
}

/* --- making */

static int inherit_default_acl(struct live *live, struct txn *txn, ino_id parent, uint32_t umask, struct node *node, struct acl *ret_default)
{
	struct slice value;
	int ret = S_ISLNK(node->mode) ? -ENODATA : xattr_get(live, txn, parent, ACL_DEFAULT, &value);
	ret_default->size = 0;
	if (ret == -ENODATA) {
		node->mode &= ~(S_ISLNK(node->mode) ? 0 : umask);
		return 0;
	}
	return ret < 0 ? ret : acl_decode(value, ret_default);
}

/* A list that says more than the mode is stored; directories pass the default list on. */
static int store_inherited_acl(struct live *live, ino_id ino, struct node *node, const struct acl *inherited)
{
	struct acl access = *inherited;
	uint32_t mode = node->mode;
	acl_create(&access, &mode);
	int ret = 0;
	if (!acl_mode(&access, &mode))
		ret = xattr_put(live, ino, ACL_ACCESS, (struct slice){ access.bytes, access.size });
	if (ret == 0 && S_ISDIR(node->mode))
		ret = xattr_put(live, ino, ACL_DEFAULT, (struct slice){ inherited->bytes, inherited->size });
	return ret;
}

static void node_init(struct node *node, const struct creator *creator, const struct node *parent, ino_id parent_ino)
{
	node->uid = creator->uid;
	node->gid = creator->gid;
	node->nlink = 1;
	if (parent->mode & S_ISGID)
		node->gid = parent->gid;
	if (S_ISDIR(node->mode)) {
		node->nlink = 2;
		node->parent = parent_ino;
		node->mode |= parent->mode & S_ISGID;
	}
	node->atime = node->mtime = node->ctime = time_now();
}

/* What a new node in this directory is like. */
static int node_begin(struct live *live, struct txn *txn, struct node *node, const struct creator *creator, ino_id directory, const struct node *parent,
		      struct acl *ret_inherited)
{
	int ret = inherit_default_acl(live, txn, directory, creator->umask, node, ret_inherited);
	if (ret < 0)
		return ret;
	node_init(node, creator, parent, directory);
	if (ret_inherited->size) {
		struct acl access = *ret_inherited;
		acl_create(&access, &node->mode);
	}
	return 0;
}

static int create_finished(struct live *live, const struct place *place, ino_id ino, struct node *node)
{
	version_t version = live_finish_at(live);
	node->content_version = batch_content_version(live->work->writer, version);
	int ret = node_put(live, version, ino, node);
	return ret < 0 ? ret : place_publish(live, place, ino, IFTODT(node->mode));
}

static int create_waiting(struct live *live, struct place *place, ino_id ino, const struct node *node)
{
	struct draft *d;
	int ret = draft_create(live, ino, node, &d);
	if (ret == 0)
		ret = place_wait(live, place, d, ino, IFTODT(node->mode));
	return ret;
}

/*
 * A name comes into a directory; if it waits so do the directory's times, which readers of versions would see change without a reason. To be said
 * before the name is put there, which may publish it at once.
 */
static int parent_touch(struct live *live, ino_id parent, bool waits, struct node_time now)
{
	return waits ? work_broken_by(live->work, draft_touch(live, parent, now)) : directory_touch(live, parent, 0, now);
}

int name_create(struct live *live, const struct name *name, struct node *node, const struct creator *creator, bool waits, ino_id *ret_ino)
{
	struct txn *txn;
	struct place place;
	struct node parent;
	struct acl inherited;
	int ret = live_change(live, NAME_CHANGE_BYTES + node->content.size, false, &txn);
	if (ret == 0)
		ret = parent_get(live, txn, name->parent, &parent);
	if (ret == 0)
		ret = place_find(live, txn, name, &place);
	if (ret == 0 && place.live.child)
		ret = -EEXIST;
	if (ret == 0)
		ret = place_may_change(live, txn, &place);
	if (ret == 0)
		ret = node_begin(live, txn, node, creator, name->parent, &parent, &inherited);
	if (ret < 0)
		return ret;

	ino_id ino = record_next_ino(txn);
	if (waits)
		ret = create_waiting(live, &place, ino, node);
	else if ((ret = place_clear(live, &place, node->ctime)) == 0)
		ret = create_finished(live, &place, ino, node);
	if (ret == 0 && inherited.size)
		ret = store_inherited_acl(live, ino, node, &inherited);
	if (ret == 0 && S_ISDIR(node->mode))
		ret = directory_touch(live, name->parent, 1, node->ctime);
	else if (ret == 0)
		ret = parent_touch(live, name->parent, waits, node->ctime);
	if (ret == 0)
		*ret_ino = ino;
	return ret;
}

int unnamed_create(struct live *live, ino_id directory, struct node *node, const struct creator *creator, ino_id *ret_ino)
{
	struct txn *txn;
	struct node parent;
	struct acl inherited;
	struct draft *d;
	int ret = live_change(live, NAME_CHANGE_BYTES, false, &txn);
	if (ret == 0)
		ret = parent_get(live, txn, directory, &parent);
	if (ret == 0)
		ret = node_begin(live, txn, node, creator, directory, &parent, &inherited);
	if (ret < 0)
		return ret;
	node->nlink = 0;
	ino_id ino = record_next_ino(txn);
	ret = draft_create(live, ino, node, &d);
	if (ret == 0) {
		d->linkable = true;
		ret = inherited.size ? store_inherited_acl(live, ino, node, &inherited) : 0;
	}
	if (ret == 0)
		*ret_ino = ino;
	return ret;
}

int name_link(struct live *live, const struct name *name, ino_id ino)
{
	struct txn *txn;
	struct place place;
	struct node parent, node;
	int ret = live_change(live, NAME_CHANGE_BYTES, false, &txn);
	if (ret == 0)
		ret = parent_get(live, txn, name->parent, &parent);
	if (ret == 0)
		ret = node_live(live, txn, ino, &node);
	if (ret == 0)
		ret = place_find(live, txn, name, &place);
	if (ret < 0)
		return ret;
	if (place.live.child)
		return -EEXIST;
	if (S_ISDIR(node.mode))
		return -EPERM;
	struct draft *d = draft_find(live, ino);
	if (node.nlink == 0 && !(d && d->linkable))
		return -ENOENT;
	if (node.nlink >= LINKS_MAX)
		return -EMLINK;
	ret = place_may_change(live, txn, &place);
	if (ret == 0)
		ret = live_may_change_node(live, txn, ino);
	if (ret < 0)
		return ret;

	struct node_time now = time_now();
	uint8_t type = IFTODT(node.mode);
	bool waits = draft_is_drafted(d) && !d->recorded;
	ret = parent_touch(live, name->parent, waits, now);
	if (ret < 0)
		return ret;
	if (waits) {
		d->linkable = false;
		ret = place_wait(live, &place, d, ino, type);
		if (ret == 0)
			ret = links_change(live, ino, 1, 0, now);
	} else {
		ret = place_clear(live, &place, now);
		if (ret == 0)
			ret = place_publish(live, &place, ino, type);
		if (ret == 0)
			ret = links_change(live, ino, 1, 1, now);
	}
	return ret;
}

/* --- removing */

int name_unlink(struct live *live, const struct name *name)
{
	struct txn *txn;
	struct place place;
	int ret = live_change(live, NAME_CHANGE_BYTES, true, &txn);
	if (ret == 0)
		ret = place_get(live, txn, name, &place);
	if (ret == 0)
		ret = place_may_change(live, txn, &place);
	if (ret == 0)
		ret = place_resolve(live, name, &place);
	if (ret < 0)
		return ret;
	if (place.live.type == DT_DIR)
		return -EISDIR;

	struct node_time now = time_now();
	ret = place_clear(live, &place, now);
	if (ret == 0)
		ret = place_unpublish(live, &place);
	return ret < 0 ? ret : directory_touch(live, name->parent, 0, now);
}

/* The first name that a view has in a directory: 1, or 0. */
static int first_name(struct txn *txn, struct view view, ino_id ino, struct record_key *ret_key)
{
	struct record_cursor *cursor;
	int ret = record_cursor_new(txn, view, &cursor);
	if (ret < 0)
		return ret;
	struct record_key prefix = record_prefix_names(ino, 0);
	struct slice value;
	ret = record_cursor_seek(cursor, (struct slice){ prefix.bytes, prefix.size });
	if (ret == 0)
		ret = record_cursor_next(cursor, ret_key, &value, NULL);
	record_cursor_free(cursor);
	return ret == 1 ? record_key_kind(ret_key) == RECORD_NAME && record_key_ino(ret_key) == ino : ret;
}

int directory_empty(struct live *live, struct txn *txn, ino_id ino, bool *ret_empty)
{
	struct record_key key;
	int ret = first_name(txn, live_view(live, txn), ino, &key);
	if (ret < 0)
		return ret;
	*ret_empty = ret == 0;
	return 0;
}

/* A directory that is empty in the live tree may have published names whose removal waits. */
static int directory_clear(struct live *live, ino_id ino, struct node_time now)
{
	struct record_key key;
	int ret;
	while ((ret = first_name(live->work->writer, published_view(live, live->work->writer), ino, &key)) == 1) {
		struct name name = { ino, record_key_text(&key) };
		struct place place;
		ret = place_find(live, live->work->writer, &name, &place);
		if (ret == 0)
			ret = place_clear(live, &place, now);
		if (ret == 0)
			ret = place_unpublish(live, &place);
		if (ret < 0)
			break;
	}
	return ret;
}

/* The directory that has this name goes, with the name. */
static int place_rmdir(struct live *live, struct place *place, struct node_time now)
{
	ino_id ino = place->live.child;
	int ret = directory_clear(live, ino, now);
	if (ret == 0)
		ret = place_unpublish(live, place);
	if (ret == 0)
		ret = directory_remove(live, ino);
	return ret < 0 ? ret : directory_touch(live, place->name->parent, -1, now);
}

int name_rmdir(struct live *live, const struct name *name)
{
	struct txn *txn;
	struct place place;
	bool empty = false;
	int ret = live_change(live, NAME_CHANGE_BYTES, true, &txn);
	if (ret == 0)
		ret = place_get(live, txn, name, &place);
	if (ret == 0 && place.live.type != DT_DIR)
		ret = -ENOTDIR;
	if (ret == 0)
		ret = place_may_change(live, txn, &place);
	if (ret == 0)
		ret = directory_empty(live, txn, place.live.child, &empty);
	if (ret < 0)
		return ret;
	return empty ? place_rmdir(live, &place, time_now()) : -ENOTEMPTY;
}

/* --- moving */

/* A moved directory knows its new parent, and the parents count it. */
static int child_moved(struct live *live, const struct named *moved, ino_id from, ino_id to, struct node_time now)
{
	struct node node;
	int ret = node_live(live, live->work->writer, moved->child, &node);
	if (ret < 0)
		return ret;
	node.ctime = now;
	if (moved->type == DT_DIR)
		node.parent = to;
	ret = node_change(live, moved->child, &node);
	if (ret < 0 || moved->type != DT_DIR || from == to)
		return ret;
	ret = directory_touch(live, from, -1, now);
	return ret < 0 ? ret : directory_touch(live, to, 1, now);
}

static int directories_touch(struct live *live, const struct place *from, const struct place *to, bool waits, struct node_time now)
{
	int ret = parent_touch(live, to->name->parent, waits, now);
	return ret < 0 || to->name->parent == from->name->parent ? ret : directory_touch(live, from->name->parent, 0, now);
}

static bool unpublished(struct live *live, const struct place *place)
{
	const struct draft *d = draft_find(live, place->live.child);
	return place->waits && draft_is_drafted(d) && !d->recorded;
}

/* May 'from' take the place of what 'to' names? */
static int rename_check(struct live *live, struct txn *txn, const struct place *from, const struct place *to)
{
	if (!to->live.child)
		return 0;
	if (from->live.type != DT_DIR)
		return to->live.type == DT_DIR ? -EISDIR : 0;
	if (to->live.type != DT_DIR)
		return -ENOTDIR;
	bool empty;
	int ret = directory_empty(live, txn, to->live.child, &empty);
	return ret < 0 ? ret : empty ? 0 : -ENOTEMPTY;
}

/* A new file that is still being written: all of it waits, also what it means for the file that had the name. */
static int rename_waiting(struct live *live, struct place *from, struct place *to, struct node_time now)
{
	struct draft *d = draft_find(live, from->live.child);
	ino_id displaced = to->live.child;
	int ret = from->published.child ? place_wait(live, from, d, 0, 0) : place_unwait(live, from);
	if (ret == 0)
		ret = place_wait(live, to, d, from->live.child, from->live.type);
	if (ret == 0 && displaced)
		ret = links_change(live, displaced, -1, 0, now);
	return ret;
}

static int rename_finished(struct live *live, struct place *from, struct place *to, struct node_time now)
{
	int ret = to->live.type == DT_DIR ? place_rmdir(live, to, now) : place_clear(live, to, now);
	if (ret == 0)
		ret = place_publish(live, to, from->live.child, from->live.type);
	return ret < 0 ? ret : place_unpublish(live, from);
}

/* Two names change what they name. If one of the two files is not published yet the other's move waits with it. */
static int exchange(struct live *live, struct place *a, struct place *b)
{
	struct draft *new_a = unpublished(live, a) ? draft_find(live, a->live.child) : NULL;
	struct draft *new_b = unpublished(live, b) ? draft_find(live, b->live.child) : NULL;
	struct named was_a = a->live, was_b = b->live;
	int ret;
	if (!new_a && !new_b) {
		ret = place_publish(live, a, was_b.child, was_b.type);
		return ret < 0 ? ret : place_publish(live, b, was_a.child, was_a.type);
	}
	ret = place_wait(live, a, new_b ? new_b : new_a, was_b.child, was_b.type);
	return ret < 0 ? ret : place_wait(live, b, new_a ? new_a : new_b, was_a.child, was_a.type);
}

/* Directories never wait, so neither does a file that changes places with one. */
static int exchange_resolve(struct live *live, struct place *a, struct place *b)
{
	if (a->live.type != DT_DIR && b->live.type != DT_DIR)
		return 0;
	struct place *places[] = { a, b };
	int ret = 0;
	for (size_t i = 0; i < ARRAY_SIZE(places) && ret == 0; i++)
		if (unpublished(live, places[i]))
			ret = draft_publish(live, draft_find(live, places[i]->live.child));
	if (ret == 0)
		ret = place_find(live, live->work->writer, a->name, a);
	return ret < 0 ? ret : place_find(live, live->work->writer, b->name, b);
}

static int rename_exchange(struct live *live, struct place *from, struct place *to, struct node_time now)
{
	int ret = exchange_resolve(live, from, to);
	struct named moved = from->live, back = to->live;
	if (ret == 0)
		ret = directories_touch(live, from, to, unpublished(live, from) || unpublished(live, to), now);
	if (ret == 0)
		ret = exchange(live, from, to);
	if (ret == 0)
		ret = child_moved(live, &moved, from->name->parent, to->name->parent, now);
	if (ret == 0)
		ret = child_moved(live, &back, to->name->parent, from->name->parent, now);
	return ret;
}

static int rename_over(struct live *live, struct place *from, struct place *to, struct node_time now)
{
	int ret = rename_check(live, live->work->writer, from, to);
	struct named moved = from->live;
	if (ret < 0)
		return ret;
	bool waits = unpublished(live, from);
	ret = directories_touch(live, from, to, waits, now);
	if (ret < 0)
		return ret;
	if (waits)
		ret = rename_waiting(live, from, to, now);
	else
		ret = rename_finished(live, from, to, now);
	return ret < 0 ? ret : child_moved(live, &moved, from->name->parent, to->name->parent, now);
}

static int rename_may_change(struct live *live, struct txn *txn, const struct place *from, const struct place *to)
{
	bool directory = from->live.type == DT_DIR || to->live.type == DT_DIR;
	if (live->frozen_moves && directory && from->name->parent != to->name->parent)
		return DEFERRED;
	int ret = place_may_change(live, txn, from);
	return ret < 0 ? ret : place_may_change(live, txn, to);
}

/* What is left where a name was: overlays know by it that there is nothing. */
static int whiteout(struct live *live, const struct name *name, const struct creator *creator)
{
	struct node parent, node = { .mode = S_IFCHR };
	struct place place;
	int ret = node_live(live, live->work->writer, name->parent, &parent);
	if (ret == 0)
		ret = place_find(live, live->work->writer, name, &place);
	if (ret < 0)
		return work_broken_by(live->work, ret);
	node_init(&node, creator, &parent, name->parent);
	ret = place_clear(live, &place, node.ctime);
	if (ret == 0)
		ret = create_finished(live, &place, record_next_ino(live->work->writer), &node);
	return ret < 0 ? ret : directory_touch(live, name->parent, 0, node.ctime);
}

int name_rename(struct live *live, const struct name *from_name, const struct name *to_name, unsigned flags, const struct creator *creator)
{
	const unsigned known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
	if (flags & ~known || (flags & RENAME_EXCHANGE && flags & ~(unsigned)RENAME_EXCHANGE))
		return -EINVAL;
	struct txn *txn;
	struct node parent;
	struct place from, to;
	int ret = live_change(live, 3 * NAME_CHANGE_BYTES, false, &txn);
	if (ret == 0)
		ret = parent_get(live, txn, to_name->parent, &parent);
	if (ret == 0)
		ret = place_get(live, txn, from_name, &from);
	if (ret == 0)
		ret = place_find(live, txn, to_name, &to);
	if (ret == 0)
		ret = rename_may_change(live, txn, &from, &to);
	if (ret == 0)
		ret = place_resolve(live, from_name, &from);
	if (ret == 0)
		ret = place_find(live, txn, to_name, &to);
	if (ret == 0)
		ret = place_resolve(live, to_name, &to);
	if (ret == 0)
		ret = place_find(live, txn, from_name, &from); /* which may have waited for the same file */
	if (ret < 0)
		return ret;
	if (flags & RENAME_NOREPLACE && to.live.child)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE && !to.live.child)
		return -ENOENT;
	if (from.live.child == to.live.child)
		return 0;

	struct node_time now = time_now();
	ret = flags & RENAME_EXCHANGE ? rename_exchange(live, &from, &to, now) : rename_over(live, &from, &to, now);
	return ret < 0 || !(flags & RENAME_WHITEOUT) ? ret : whiteout(live, from_name, creator);
}
