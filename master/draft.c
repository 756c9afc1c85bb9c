/*
 * Drafts: nodes with state, what they hide from readers of versions, and how it is published (draft.h). Not here: which names wait
 * and why (names.c), when to commit (publish.c).
 */
#include "master/draft.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "master/closing.h"
#include "master/names.h"
#include "store/batch.h"

#define FORGET_BYTES 256

static struct draft **bucket_of(struct live *live, ino_id ino)
{
	return &live->drafts[ino * 0x9e3779b97f4a7c15u >> 52];
}
static_assert(DRAFT_BUCKETS == 1 << (64 - 52), "a bucket for each hash");

struct draft *draft_find(struct live *live, ino_id ino)
{
	struct draft *d = *bucket_of(live, ino);
	while (d && d->ino != ino)
		d = d->bucket_next;
	return d;
}

int draft_get(struct live *live, ino_id ino, struct draft **ret_draft)
{
	struct draft *d = draft_find(live, ino);
	if (!d) {
		d = calloc(1, sizeof(*d));
		if (!d)
			return -ENOMEM;
		struct draft **bucket = bucket_of(live, ino);
		d->ino = ino;
		d->bucket_next = *bucket;
		*bucket = d;
	}
	*ret_draft = d;
	return 0;
}

void draft_edit_drop(struct live *live, struct draft *d)
{
	live->work->edit_bytes -= d->edit_bytes;
	d->edit_bytes = 0;
	content_edit_free(d->edit);
	d->edit = NULL;
}

static void draft_free(struct live *live, struct draft *d)
{
	draft_edit_drop(live, d);
	while (d->handles) { /* the mount has ended: nobody releases them */
		struct handle *h = d->handles;
		d->handles = h->next;
		closing_forget(h);
		free(h);
	}
	while (d->names) {
		struct draft_name *name = d->names;
		d->names = name->next;
		free(name);
	}
	buffer_fini(&d->content);
	buffer_fini(&d->xattrs);
	free(d);
}

static void draft_take_out(struct draft **at, struct draft *d)
{
	while (*at != d)
		at = &(*at)->bucket_next;
	*at = d->bucket_next;
}

void draft_release(struct live *live, struct draft *d)
{
	if (d->opens || d->drafted || d->touched.seconds)
		return;
	draft_take_out(d->left ? &live->left : bucket_of(live, d->ino), d);
	draft_free(live, d);
}

void draft_leave(struct live *live, struct draft *d)
{
	assert(!d->drafted);
	draft_edit_drop(live, d);
	draft_take_out(bucket_of(live, d->ino), d);
	d->left = true;
	d->bucket_next = live->left;
	live->left = d;
}

void draft_free_all(struct live *live)
{
	for (size_t i = 0; i < DRAFT_BUCKETS; i++)
		while (live->drafts[i]) {
			struct draft *d = live->drafts[i];
			live->drafts[i] = d->bucket_next;
			draft_free(live, d);
		}
	live->drafted = NULL;
	while (live->left) {
		struct draft *d = live->left;
		live->left = d->bucket_next;
		draft_free(live, d);
	}
}

static int broken_by(struct live *live, int ret)
{
	return work_broken_by(live->work, ret);
}

/* --- coming and going */

static void draft_enlist(struct live *live, struct draft *d)
{
	d->drafted = true;
	d->drafted_next = live->drafted;
	d->drafted_at = &live->drafted;
	if (d->drafted_next)
		d->drafted_next->drafted_at = &d->drafted_next;
	live->drafted = d;
}

static void draft_delist(struct draft *d)
{
	d->drafted = false;
	*d->drafted_at = d->drafted_next;
	if (d->drafted_next)
		d->drafted_next->drafted_at = d->drafted_at;
}

int draft_begin(struct live *live, struct draft *d)
{
	if (d->drafted)
		return 0;
	int ret = node_live(live, live->work->writer, d->ino, &d->node);
	if (ret < 0)
		return ret;
	buffer_clear(&d->content);
	buffer_add(&d->content, d->node.content.data, d->node.content.size);
	if (d->content.failed)
		return -ENOMEM;
	d->node.content = buffer_slice(&d->content);
	d->touched = (struct node_time){ 0 };
	d->nlink_published = d->node.nlink;
	d->recorded = true;
	d->changed = d->content_changed = d->spilled_current = false;
	draft_enlist(live, d);
	return 0;
}

int draft_create(struct live *live, ino_id ino, const struct node *node, struct draft **ret_draft)
{
	assert(node->content_kind == CONTENT_NONE);
	struct draft *d;
	int ret = draft_get(live, ino, &d);
	if (ret < 0)
		return ret;
	d->node = *node;
	d->opens = d->writers = 1;
	d->changed = d->content_changed = true;
	draft_enlist(live, d);
	*ret_draft = d;
	return 0;
}

/* Nothing of this node waits any more. */
static int draft_end(struct live *live, struct draft *d)
{
	struct record_key key = record_key_node(d->ino);
	int ret = d->spilled ? live_drop(live, live->waiting, &key) : 0;
	d->spilled = d->awaits_trial = false;
	draft_delist(d);
	if (!d->writers)
		draft_edit_drop(live, d);
	buffer_fini(&d->content);
	return ret;
}

/* --- content */

int draft_edit(struct live *live, struct draft *d)
{
	int ret = draft_begin(live, d);
	if (ret == 0 && !d->edit)
		ret = content_edit_new(&d->node, &d->edit);
	if (ret < 0)
		draft_settle(live, d);
	return ret;
}

static void draft_measure(struct live *live, struct draft *d)
{
	size_t bytes = content_edit_changed(d->edit) ? content_edit_bytes(d->edit) : 0; /* what is saved is counted as written */
	live->work->edit_bytes += bytes - d->edit_bytes;
	d->edit_bytes = bytes;
}

void draft_edited(struct live *live, struct draft *d)
{
	draft_measure(live, d);
	d->changed = d->content_changed = true;
	d->closed = false;
}

int draft_save(struct live *live, struct draft *d)
{
	if (!d->edit || !content_edit_changed(d->edit))
		return 0;
	int ret = content_edit_save(d->edit, live->work->writer, &d->node, &d->content);
	if (ret < 0)
		return broken_by(live, ret);
	d->spilled_current = false;
	draft_measure(live, d);
	return 0;
}

static int draft_spill(struct live *live, struct draft *d)
{
	int ret = draft_save(live, d);
	if (ret < 0)
		return ret;
	if (d->spilled_current || (d->node.content_kind != CONTENT_LIST && !d->spilled))
		return 0;
	ret = node_put(live, live->waiting, d->ino, &d->node);
	d->spilled = d->spilled_current = true;
	return ret;
}

int draft_spill_all(struct live *live)
{
	int ret = 0;
	for (struct draft *d = live->drafted; d && ret == 0; d = d->drafted_next)
		ret = draft_spill(live, d);
	return ret;
}

/* --- extended attributes */

/* The draft's attributes are published, or dropped. */
static int xattrs_end(struct live *live, struct draft *d, bool publish)
{
	int ret = 0;
	const char *name = (const char *)d->xattrs.data, *end = name + d->xattrs.size;
	for (; ret == 0 && name < end; name += strlen(name) + 1) {
		struct record_key key = record_key_xattr(d->ino, name, strlen(name));
		struct slice value;
		bool gone = false;
		if (publish && record_exists_at(live->work->writer, live->waiting, &key, &gone)) {
			struct view draft = { .draft = live->waiting };
			ret = gone ? -ENOENT : record_get(live->work->writer, draft, &key, &value, NULL);
			if (ret == 0) {
				buffer_clear(&live->work->scratch);
				buffer_add(&live->work->scratch, value.data, value.size);
				ret = live->work->scratch.failed ? -ENOMEM : live_put(live, live_finish_at(live), &key, buffer_slice(&live->work->scratch));
			} else if (ret == -ENOENT) {
				ret = live_delete(live, live_finish_at(live), &key);
			}
		}
		if (ret == 0)
			ret = live_drop(live, live->waiting, &key);
	}
	buffer_fini(&d->xattrs);
	return broken_by(live, ret);
}

/* The names of a node's published attributes, each ended by NUL. */
static int xattrs_published(struct live *live, ino_id ino, struct buffer *ret_names)
{
	struct record_cursor *cursor;
	int ret = record_cursor_new(live->work->writer, published_view(live, live->work->writer), &cursor);
	if (ret < 0)
		return ret;
	struct record_key prefix = record_prefix_xattrs(ino), key;
	struct slice value;
	ret = record_cursor_seek(cursor, (struct slice){ prefix.bytes, prefix.size });
	while (ret == 0 && (ret = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		ret = 0;
		if (record_key_kind(&key) != RECORD_XATTR || record_key_ino(&key) != ino)
			break;
		struct slice name = record_key_text(&key);
		buffer_add(ret_names, name.data, name.size);
		buffer_add_u8(ret_names, 0);
	}
	record_cursor_free(cursor);
	return ret < 0 ? ret : ret_names->failed ? -ENOMEM : 0;
}

/* The published attributes go; who has the file open keeps them. */
static int xattrs_withdraw(struct live *live, struct draft *d)
{
	struct buffer names = BUFFER_INIT;
	int ret = xattrs_published(live, d->ino, &names);
	const char *name = (const char *)names.data, *end = name + names.size;
	for (; ret == 0 && name < end; name += strlen(name) + 1) {
		struct record_key key = record_key_xattr(d->ino, name, strlen(name));
		struct slice value;
		bool gone;
		if (!record_exists_at(live->work->writer, live->waiting, &key, &gone) && xattr_get(live, live->work->writer, d->ino, name, &value) == 0) {
			struct buffer copy = BUFFER_INIT;
			buffer_add(&copy, value.data, value.size);
			ret = copy.failed ? -ENOMEM : xattr_put(live, d->ino, name, buffer_slice(&copy));
			buffer_fini(&copy);
		}
		if (ret == 0)
			ret = live_delete(live, live_finish_at(live), &key);
	}
	buffer_fini(&names);
	return broken_by(live, ret);
}

/* --- publishing */

static int draft_publish_node(struct live *live, struct draft *d)
{
	version_t version = live_finish_at(live);
	if (d->content_changed)
		d->node.content_version = batch_content_version(live->work->writer, version);
	struct node node = d->node;
	node.nlink = d->nlink_published;
	int ret = node_put(live, version, d->ino, &node);
	if (ret == 0)
		ret = xattrs_end(live, d, true);
	d->recorded = true;
	d->changed = d->content_changed = false;
	live->finished = true;
	return ret;
}

int draft_publish(struct live *live, struct draft *d)
{
	if (!d->drafted)
		return 0;
	int ret = draft_save(live, d);
	if (ret == 0 && d->names)
		ret = names_publish(live, d, time_now());
	if (ret < 0 || d->nlink_published == 0)
		return ret;
	if (d->changed || !d->recorded)
		ret = draft_publish_node(live, d);
	if (ret == 0 && d->node.nlink == d->nlink_published)
		ret = draft_end(live, d);
	return ret;
}

/* So goes a node that has no name, nor is known to the kernel. */
int draft_bury(struct live *live, struct draft *d)
{
	int ret = xattrs_end(live, d, false);
	if (ret == 0)
		ret = draft_end(live, d);
	draft_release(live, d);
	return ret;
}

int draft_show(struct live *live, ino_id ino)
{
	struct draft *d;
	int ret = draft_get(live, ino, &d);
	if (ret < 0 || d->drafted)
		return ret;
	ret = draft_begin(live, d);
	d->shown = ret == 0;
	return ret;
}

int draft_unshow(struct live *live, ino_id ino)
{
	struct draft *d = draft_find(live, ino);
	if (!d || !d->shown)
		return 0;
	d->shown = false;
	int ret = draft_end(live, d);
	draft_release(live, d);
	return ret;
}

int draft_revive(struct live *live, struct draft *d)
{
	struct node node;
	int ret = d->changed ? node_published(live, live->work->writer, d->ino, &node) : -ENOENT;
	if (ret < 0)
		return ret == -ENOENT ? draft_bury(live, d) : ret;
	d->node.nlink = d->nlink_published = node.nlink;
	d->recorded = true;
	return 0;
}

static bool draft_waits(const struct draft *d)
{
	bool being_written = d->writers && (d->changed || !d->recorded);
	bool displaced = d->node.nlink != d->nlink_published && d->recorded && !d->changed;
	return being_written || displaced || d->awaits_trial || d->shown;
}

int draft_settle(struct live *live, struct draft *d)
{
	if (!d->drafted)
		return 0;
	if (d->node.nlink == 0 && d->nlink_published == 0)
		return d->forgotten ? draft_bury(live, d) : 0;
	return draft_waits(d) ? 0 : draft_publish(live, d);
}

/* From the start after each that is published, since that changes the list. */
int draft_settle_all(struct live *live)
{
	struct draft *d = live->drafted;
	while (d) {
		bool gone = d->node.nlink == 0 && d->nlink_published == 0 && d->forgotten;
		if (!gone && (draft_waits(d) || d->node.nlink == 0)) {
			d = d->drafted_next;
			continue;
		}
		int ret = gone ? draft_bury(live, d) : draft_publish(live, d);
		if (ret < 0)
			return ret;
		if (!gone && d->drafted) { /* there was nothing that it could be published by */
			d = d->drafted_next;
			continue;
		}
		if (!gone)
			draft_release(live, d);
		d = live->drafted;
	}
	live->unsettled = false;
	return 0;
}

int draft_forget(struct live *live, ino_id ino)
{
	struct draft *d = draft_find(live, ino);
	if (!draft_is_drafted(d) || d->node.nlink || d->opens)
		return 0;
	d->forgotten = true;
	struct txn *txn;
	int ret = live_change(live, FORGET_BYTES, true, &txn);
	live->unsettled |= ret == DEFERRED;
	return ret < 0 ? ret : draft_settle(live, d);
}

/* --- times */

int draft_touch(struct live *live, ino_id directory, struct node_time now)
{
	struct draft *d;
	int ret = draft_get(live, directory, &d);
	if (ret == 0)
		d->touched = now;
	return ret;
}

bool draft_touched(struct live *live, ino_id directory)
{
	const struct draft *d = draft_find(live, directory);
	return d && d->touched.seconds;
}

void draft_untouch(struct live *live, ino_id directory)
{
	struct draft *d = draft_find(live, directory);
	if (!d)
		return;
	d->touched = (struct node_time){ 0 };
	draft_release(live, d);
}

/* --- links */

/* The published record follows nlink_published. */
static int links_publish(struct live *live, struct draft *d, struct node_time now)
{
	live->finished = true;
	struct node node;
	if (d->nlink_published) {
		int ret = node_published(live, live->work->writer, d->ino, &node);
		if (ret < 0)
			return broken_by(live, ret);
		node.nlink = d->nlink_published;
		node.ctime = now;
		return node_put(live, live_finish_at(live), d->ino, &node);
	}
	d->recorded = false;
	d->spilled_current = false; /* perhaps nothing else counts its chunks now */
	struct record_key key = record_key_node(d->ino);
	int ret = live_delete(live, live_finish_at(live), &key);
	return ret < 0 ? ret : xattrs_withdraw(live, d);
}

int links_change(struct live *live, ino_id ino, int live_by, int published_by, struct node_time now)
{
	struct draft *d = draft_find(live, ino);
	if (!draft_is_drafted(d)) {
		struct node node;
		int ret = node_live(live, live->work->writer, ino, &node);
		if (ret < 0)
			return broken_by(live, ret);
		node.nlink += (uint32_t)live_by;
		node.ctime = now;
		if (live_by == published_by && node.nlink)
			return node_change(live, ino, &node);
		ret = draft_get(live, ino, &d);
		if (ret == 0)
			ret = draft_begin(live, d);
		if (ret < 0)
			return broken_by(live, ret);
	}
	d->node.nlink += (uint32_t)live_by;
	if (live_by)
		d->node.ctime = now;
	d->nlink_published += (uint32_t)published_by;
	int ret = 0;
	if (published_by && d->recorded)
		ret = links_publish(live, d, now);
	/* What waits for a node that will never be published need not wait any longer. */
	if (ret == 0 && d->node.nlink == 0 && d->names)
		ret = names_publish(live, d, now);
	return ret < 0 ? ret : draft_settle(live, d);
}

int directory_remove(struct live *live, ino_id ino)
{
	struct draft *d;
	int ret = draft_get(live, ino, &d);
	if (ret == 0)
		ret = draft_begin(live, d);
	if (ret < 0)
		return broken_by(live, ret);
	d->node.nlink = d->nlink_published = 0;
	return links_publish(live, d, d->node.ctime);
}

/* --- names that wait */

int draft_own_name(struct draft *d, ino_id parent, struct slice text)
{
	struct draft_name *name = malloc(sizeof(*name) + text.size);
	if (!name)
		return -ENOMEM;
	*name = (struct draft_name){ .next = d->names, .parent = parent, .size = text.size };
	memcpy(name->text, text.data, text.size);
	d->names = name;
	return 0;
}

static struct draft_name **owned(struct draft *d, ino_id parent, struct slice text)
{
	for (struct draft_name **at = &d->names; *at; at = &(*at)->next)
		if ((*at)->parent == parent && (*at)->size == text.size && memcmp((*at)->text, text.data, text.size) == 0)
			return at;
	return NULL;
}

struct draft *draft_owner(struct live *live, ino_id parent, struct slice text, ino_id child)
{
	struct draft *d = draft_find(live, child); /* its own names wait for it, nearly always */
	if (d && owned(d, parent, text))
		return d;
	for (d = live->drafted; d && !owned(d, parent, text);)
		d = d->drafted_next;
	return d;
}

void draft_disown_name(struct live *live, ino_id parent, struct slice text, ino_id child)
{
	struct draft *d = draft_owner(live, parent, text, child);
	if (!d)
		return;
	struct draft_name **at = owned(d, parent, text), *name = *at;
	*at = name->next;
	free(name);
}
