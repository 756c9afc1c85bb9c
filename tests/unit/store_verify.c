/* Verification finds nothing in a whole store, and finds damage of each kind where it was planted. (F8) */
#include "store_lib.h"

static struct store *store;
static struct tree tree;
static char findings[4096];

static void setup(void)
{
	random_init(11);
	temp_make();
	store = open_master("master");
	struct txn *txn = begin_write(store);
	struct version_info info;
	version_begin(txn);
	tree_init(&tree, txn);
	for (int version = 0; version < 5; version++) {
		for (int i = 0; i < 80; i++)
			tree_change(&tree, txn);
		version_begin(txn);
		ok(version_seal(txn, 1, NULL, &info));
	}
	ok(txn_commit(txn));
}

static void teardown(void)
{
	tree_fini(&tree);
	store_close(store);
	temp_remove();
}

TestSuite(store_verify, .init = setup, .fini = teardown, .timeout = 30);

static void note(void *user, const char *text)
{
	(void)user;
	strncat(findings, text, sizeof(findings) - strlen(findings) - 2);
	strcat(findings, "\n");
}

static int verify(void)
{
	findings[0] = 0;
	return ok(store_verify(store, note, NULL, NULL));
}

static void expect_finding(const char *words)
{
	cr_expect_gt(verify(), 0);
	cr_expect(strstr(findings, words) != NULL, "'%s' is not among:\n%s", words, findings);
}

/* Any row of a kind, copied. */
static struct slice some_row(struct txn *txn, enum row row, size_t skip, uint8_t key[ROW_KEY_BYTES_MAX], struct buffer *value)
{
	uint8_t first = row;
	struct slice k, v;
	ok(row_seek(txn, slice_of(&first, 1), &k, &v));
	for (; skip; skip--)
		ok(row_next(txn, row, &k, &v));
	cr_assert_eq(*(const uint8_t *)k.data, first);
	memcpy(key, k.data, k.size);
	buffer_clear(value);
	buffer_add(value, v.data, v.size);
	return slice_of(key, k.size);
}

/* Flip a bit of some row's value. */
static void damage(enum row row, size_t skip, size_t at)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct buffer value = BUFFER_INIT;
	struct txn *txn = begin_write(store);
	struct slice k = some_row(txn, row, skip, key, &value);
	value.data[at < value.size ? at : value.size - 1] ^= 4;
	ok(row_put(txn, k, buffer_slice(&value)));
	ok(txn_commit(txn));
	buffer_fini(&value);
}

static void lose(enum row row, size_t skip)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct buffer value = BUFFER_INIT;
	struct txn *txn = begin_write(store);
	ok(row_delete(txn, some_row(txn, row, skip, key, &value)));
	ok(txn_commit(txn));
	buffer_fini(&value);
}

Test(store_verify, a_whole_store_has_no_findings)
{
	cr_expect_eq(verify(), 0, "%s", findings);
	retire_all(store, current_of(store));
	cr_expect_eq(verify(), 0, "%s", findings);
	collect_all(store);
	cr_expect_eq(verify(), 0, "%s", findings);
}

Test(store_verify, a_damaged_chunk_is_found)
{
	damage(ROW_CHUNK, 2, 700);
	expect_finding("its content is damaged");
}

Test(store_verify, a_lost_chunk_is_found)
{
	lose(ROW_CHUNK, 2);
	expect_finding("not here");
}

Test(store_verify, a_wrong_count_is_found)
{
	damage(ROW_COUNT, 1, 7);
	expect_finding("is counted");
}

Test(store_verify, a_lost_count_is_found)
{
	lose(ROW_COUNT, 1);
	expect_finding("has no count");
}

Test(store_verify, a_lost_record_is_found)
{
	lose(ROW_RECORD, 5);
	expect_finding("has no record");
}

Test(store_verify, a_lost_change_is_found)
{
	lose(ROW_VERSION, 3);
	expect_finding("does not list it as changed");
}

Test(store_verify, a_changed_attribute_is_found_by_the_digest)
{
	struct txn *txn = begin_write(store);
	struct record_key key = record_key_node(INO_ROOT);
	struct slice value;
	struct buffer bytes = BUFFER_INIT;
	version_t at;
	uint8_t row[ROW_KEY_BYTES_MAX], live = RECORD_LIVE;
	struct node n;
	ok(record_get(txn, (struct view){ .version = txn_state(txn)->current }, &key, &value, &at));
	ok(node_decode(value, &n));
	n.uid = 77;
	node_encode(&n, &bytes);
	ok(row_put_two(txn, slice_of(row, record_row_key(row, &key, at)), slice_of(&live, 1), buffer_slice(&bytes)));
	ok(txn_commit(txn));
	expect_finding("digest");
	buffer_fini(&bytes);
}

Test(store_verify, a_record_that_does_not_decode_is_found)
{
	uint8_t key[ROW_KEY_BYTES_MAX];
	struct txn *txn = begin_write(store);
	struct record_key node = record_key_node(INO_ROOT);
	size_t size = record_row_key(key, &node, 1);
	ok(row_put(txn, slice_of(key, size), slice_of("\1junk", 5)));
	ok(txn_commit(txn));
	expect_finding("does not decode");
}

/* Trees that do not fit, made by proper writes. */
static void put_node(struct txn *txn, ino_id ino, const struct node *n)
{
	struct record_key key = record_key_node(ino);
	struct buffer bytes = BUFFER_INIT;
	node_encode(n, &bytes);
	ok(record_put(txn, version_begin(txn), &key, buffer_slice(&bytes)));
	buffer_fini(&bytes);
}

static void put_name(struct txn *txn, ino_id parent, const char *name, ino_id child, uint8_t type)
{
	uint8_t value[16];
	size_t size;
	struct record_key key = record_key_name(txn, parent, name, strlen(name));
	name_encode(child, type, value, &size);
	ok(record_put(txn, version_begin(txn), &key, slice_of(value, size)));
}

static void seal(struct txn *txn)
{
	struct version_info info;
	ok(version_seal(txn, 1, NULL, &info));
	ok(txn_commit(txn));
}

Test(store_verify, names_and_nodes_that_do_not_fit_are_found)
{
	struct txn *txn = begin_write(store);
	ino_id lonely = record_next_ino(txn), dir = record_next_ino(txn), missing = record_next_ino(txn), file = record_next_ino(txn);
	put_node(txn, lonely, &(struct node){ .mode = S_IFREG | 0600, .nlink = 1 });
	put_node(txn, dir, &(struct node){ .mode = S_IFDIR | 0700, .nlink = 2, .parent = lonely });
	put_node(txn, file, &(struct node){ .mode = S_IFREG | 0600, .nlink = 1, .content_version = version_begin(txn) + 1 });
	put_name(txn, INO_ROOT, "nothing", missing, DT_REG);
	put_name(txn, INO_ROOT, "dir", dir, DT_DIR);
	put_name(txn, file, "under a file", file, DT_LNK);
	seal(txn);
	expect_finding("has 0 names, but says 1");
	expect_finding("its parent is");
	expect_finding("is named, but there is no such node");
	expect_finding("but is no directory");
	expect_finding("its name says that it is of another type");
	expect_finding("directories in it");
	expect_finding("was never given out");
}
