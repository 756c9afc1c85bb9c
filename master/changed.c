/*
 * What changes behind the kernel's back, by the commit of a batch (in the main mount) or by its move onto a newer version (in its own view): which
 * ids go on standing for what was there, and what the kernel has to forget.
 *
 * - Names: their entries go, also those that say that there is nothing; and their directory's cached listing.
 * - Directories, symlinks, special files: the kernel asks for their attributes again.
 * - Regular files, and whatever is gone: the old id stays with who has it (known.h), and the entries that lead to it go, so that the next who asks
 * gets the new one.
 *
 * Lookups and listings hold their directory's lock until the answer is in the caches, and an entry is taken away under the same lock, so no old
 * answer slips in behind. That lock may be waited for, hence the helper.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "master/serve.h"

enum notice { NOTICE_ENTRY = 'e', NOTICE_LISTING = 'l', NOTICE_CONTENT = 'c', NOTICE_ATTRIBUTES = 'a' };

static void note(struct buffer *notices, enum notice kind, uint64_t id, struct slice name)
{
	buffer_add_u8(notices, kind);
	buffer_add_be64(notices, id);
	buffer_add_u8(notices, (uint8_t)name.size);
	buffer_add(notices, name.data, name.size);
}

static const struct slice NO_NAME;

struct change {
	struct tree *tree;
	struct txn *txn;
	struct view before;
	bool undone;
	struct buffer *notices;
};

static bool is_known(const struct tree *t, ino_id ino)
{
	return ino == INO_ROOT || known_find(&t->known, ino);
}

static void name_changed(struct tree *t, const struct record_key *key, struct buffer *notices)
{
	ino_id parent = record_key_ino(key);
	if (!is_known(t, parent))
		return;
	note(notices, NOTICE_ENTRY, parent, record_key_text(key));
	note(notices, NOTICE_LISTING, parent, NO_NAME);
}

/* The names in a view that have a place's hash; one of them leads, or led, to the file. */
static int entry_changed(struct tree *t, struct txn *txn, struct view view, struct known_place place, struct buffer *notices)
{
	struct record_cursor *cursor;
	struct record_key prefix = record_prefix_names(place.parent, place.cookie), key;
	struct slice value;
	if (!is_known(t, place.parent))
		return 0;
	int ret = record_cursor_new(txn, view, &cursor);
	if (ret < 0)
		return ret;
	ret = record_cursor_seek(cursor, (struct slice){ prefix.bytes, prefix.size });
	while (ret == 0 && (ret = record_cursor_next(cursor, &key, &value, NULL)) == 1) {
		ret = 0;
		if (record_key_kind(&key) != RECORD_NAME || record_key_ino(&key) != place.parent || record_key_cookie(&key) != place.cookie)
			break;
		note(notices, NOTICE_ENTRY, place.parent, record_key_text(&key));
	}
	record_cursor_free(cursor);
	return ret;
}

static int node_at(struct txn *txn, struct view view, ino_id ino, struct node *ret_node)
{
	struct record_key key = record_key_node(ino);
	struct slice value;
	int ret = record_get(txn, view, &key, &value, NULL);
	return ret < 0 ? ret : node_decode(value, ret_node);
}

/* Who has it keeps what it was; if that is no longer what the kernel has cached, it asks again. */
static int file_left(struct change *c, struct known_node *n, version_t content_version)
{
	struct tree *t = c->tree;
	int ret = 0;
	note(c->notices, c->undone ? NOTICE_CONTENT : NOTICE_ATTRIBUTES, known_id(&t->known, n->ino), NO_NAME);
	for (size_t i = 0; i < n->places_count && ret == 0; i++)
		ret = entry_changed(t, c->txn, c->before, i == 0 ? n->first : n->more[i - 1], c->notices);
	if (ret == 0)
		ret = known_leave(n, c->before.version, content_version);
	struct draft *d = draft_find(&t->live, n->ino);
	if (ret == 0 && d && !d->drafted)
		draft_leave(&t->live, d);
	return ret;
}

static int node_changed(struct change *c, ino_id ino)
{
	struct tree *t = c->tree;
	struct known_node *n = known_find(&t->known, ino);
	struct node was, is;
	if (!n) {
		if (ino == INO_ROOT)
			note(c->notices, NOTICE_LISTING, ino, NO_NAME);
		return 0;
	}
	int ret = node_at(c->txn, c->before, ino, &was);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret; /* a new one, that it cannot have */
	ret = node_at(c->txn, live_view(&t->live, c->txn), ino, &is);
	if (ret < 0 && ret != -ENOENT)
		return ret;
	if (ret == -ENOENT || S_ISREG(is.mode))
		return file_left(c, n, was.content_version);
	note(c->notices, S_ISDIR(is.mode) ? NOTICE_LISTING : NOTICE_ATTRIBUTES, known_id(&t->known, ino), NO_NAME);
	return 0;
}

static int each_change(struct change *c, version_t at)
{
	struct record_key key = { .size = 0 };
	int ret;
	while ((ret = version_change_next(c->txn, at, &key)) == 1) {
		ino_id ino = record_key_ino(&key);
		ret = 0;
		if (record_key_kind(&key) == RECORD_NAME)
			name_changed(c->tree, &key, c->notices);
		else if (record_key_kind(&key) == RECORD_NODE)
			ret = node_changed(c, ino);
		else if (is_known(c->tree, ino))
			note(c->notices, NOTICE_ATTRIBUTES, known_id(&c->tree->known, ino), NO_NAME); /* and access control lists */
		if (ret < 0)
			return ret;
	}
	return ret < 0 ? ret : c->notices->failed ? -ENOMEM : 0;
}

int changed_by(struct tree *t, struct txn *txn, version_t from, version_t at, struct buffer *notices)
{
	return each_change(&(struct change){ .tree = t, .txn = txn, .before = { .version = from }, .notices = notices }, at);
}

int disowned(struct tree *t, struct txn *txn, ino_id ino, struct buffer *notices)
{
	struct change c = { .tree = t, .txn = txn, .before = live_view(&t->live, txn), .undone = true, .notices = notices };
	struct known_node *n = known_find(&t->known, ino);
	struct node node;
	int ret = n ? node_at(txn, c.before, ino, &node) : -ENOENT;
	if (ret == 0)
		ret = file_left(&c, n, node.content_version);
	return ret == -ENOENT ? 0 : ret < 0 ? ret : notices->failed ? -ENOMEM : 0;
}

int undone_from(struct tree *t, struct txn *txn, version_t at, struct buffer *notices)
{
	struct view current = { .version = txn_state(txn)->current };
	return each_change(&(struct change){ .tree = t, .txn = txn, .before = current, .undone = true, .notices = notices }, at);
}

/* The kernel may have forgotten what it is about, or have ended the mount: then it holds nothing. */
void notices_tell(struct fuse_session *session, struct slice notices)
{
	struct reader r = reader_of(notices);
	while (reader_left(&r) && !r.failed) {
		enum notice kind = read_u8(&r);
		uint64_t id = read_be64(&r);
		size_t size = read_u8(&r);
		const char *name = (const char *)read_bytes(&r, size);
		if (kind == NOTICE_ENTRY)
			fuse_lowlevel_notify_inval_entry(session, id, name, size);
		else
			fuse_lowlevel_notify_inval_inode(session, id, kind == NOTICE_ATTRIBUTES ? -1 : 0, 0);
	}
}

struct telling {
	struct errand errand;
	struct fuse_session *session;
	struct buffer notices;
	fuse_req_t then;
	int error;
};

static void telling_there(struct errand *errand)
{
	struct telling *t = (struct telling *)errand;
	notices_tell(t->session, buffer_slice(&t->notices));
}

static void telling_back(struct errand *errand)
{
	struct telling *t = (struct telling *)errand;
	if (t->then)
		serve_reply(t->then, t->error);
	buffer_fini(&t->notices);
	free(t);
}

void notices_send(struct tree *t, struct buffer *notices, fuse_req_t then, int error)
{
	struct telling *telling = malloc(sizeof(*telling));
	if (!telling) {
		buffer_fini(notices);
		if (then)
			serve_reply(then, error);
		return;
	}
	*telling = (struct telling){ .errand = { .there = telling_there, .back = telling_back }, .session = t->session, .notices = *notices,
				     .then = then, .error = error };
	*notices = BUFFER_INIT;
	serve_send(t->mount, &t->mount->helper, &telling->errand);
}
