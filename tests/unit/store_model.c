/*
 * The store against a simple model: thousands of random changes to a tree, in versions; slaves that pull at random times through
 * interrupted conversations, inline deltas and complete copies; retention on both sides. After every step replica and model agree record for record,
 * digests agree, and verification finds nothing. (R1.2, R1.3, R3.2, R7.2)
 */
#include "store_lib.h"

#define VERSIONS 120
#define SLAVES 3

static struct tree tree;
static struct buffer dumps[2 * VERSIONS + 2]; /* the model at each version */
static struct digest digests[ARRAY_SIZE(dumps)];

struct replica_under_test {
	struct store *store;
	char name[24];
};
static struct replica_under_test slaves[SLAVES];

static void reopen(struct replica_under_test *r)
{
	store_close(r->store);
	r->store = open_in(temp_root, r->name, STORE_SLAVE);
}

static void check_at(struct store *store, version_t version, struct digest expected)
{
	struct buffer dump = BUFFER_INIT;
	struct digest digest;
	struct txn *txn = begin_read(store);
	dump_view(txn, (struct view){ .version = version }, &dump);
	ok(digest_compute(txn, (struct view){ .version = version }, &digest));
	check(buffers_equal(&dump, &dumps[version]));
	check(digest.lo == expected.lo && digest.hi == expected.hi);
	txn_abort(txn);
	buffer_fini(&dump);
}

static void check_replica(struct store *slave)
{
	struct store_state state = state_of(slave);
	struct digest expected = digests[state.current];
	check(state.digest.lo == expected.lo && state.digest.hi == expected.hi);
	check_at(slave, state.current, expected);
	verify_clean(slave);
}

/* A version of random changes, perhaps over several commits; sometimes it is dropped instead. */
static void make_version(struct store *master)
{
	static struct tree before;
	bool aborts = one_in(8);
	struct txn *txn = begin_write(master);
	if (aborts) {
		before = tree;
		before.model = (struct model){ 0 };
		model_copy(&before.model, &tree.model);
		for (size_t i = 0; i < tree.count; i++) {
			before.nodes[i].content = BUFFER_INIT;
			buffer_add(&before.nodes[i].content, tree.nodes[i].content.data, tree.nodes[i].content.size);
		}
	}
	for (size_t n = 1 + random_below(one_in(4) ? 150 : 15); n; n--) {
		tree_change(&tree, txn);
		if (one_in(30)) {
			ok(txn_commit(txn));
			txn = begin_write(master);
		}
	}
	if (aborts) {
		version_t spent = version_begin(txn);
		for (bool done = false; !done;)
			ok(version_drop(txn, 1 + random_below(20), &done));
		check(spent < ARRAY_SIZE(dumps));
		buffer_clear(&dumps[spent]);
		buffer_add(&dumps[spent], dumps[spent - 1].data, dumps[spent - 1].size);
		digests[spent] = digests[spent - 1];
		ok(txn_commit(txn));
		tree_fini(&tree);
		tree = before;
		return;
	}
	struct version_info info;
	version_begin(txn); /* perhaps nothing changed */
	ok(version_seal(txn, 1000, "random", &info));
	ok(txn_commit(txn));
	check(info.version < ARRAY_SIZE(dumps));
	model_dump(&tree.model, &dumps[info.version]);
	digests[info.version] = info.digest;
}

/* A conversation that may break at any frame, with the slave's store reopened, or the master moving on meanwhile. */
static void pull_somehow(struct store *master, struct replica_under_test *r)
{
	for (;;) {
		struct talk t = { .master = master, .slave = &r->store, .complete = one_in(10) };
		int more = 1;
		bool breaks = false;
		talk_open(&t);
		while (more == 1 && !breaks) {
			more = talk_step(&t);
			breaks = one_in(12);
			if (breaks && one_in(2))
				make_version(master);
		}
		if (more == 0 && !breaks)
			ok(talk_commit(&t));
		talk_close(&t);
		if (one_in(10))
			reopen(r);
		if (more == 0 && !breaks)
			return;
		check(more == 0 || more == 1 || more == -DRS_EHORIZON);
	}
}

static void try_inline(struct store *master, struct replica_under_test *r)
{
	struct buffer bytes = BUFFER_INIT;
	struct version_info info;
	struct txn *txn = begin_read(master);
	version_t to = txn_state(txn)->current, from = current_of(r->store);
	int error = delta_inline_make(txn, from, to, 1280, &bytes);
	txn_abort(txn);
	check(!error || error == -DRS_ETOOBIG || error == -DRS_EHORIZON);
	if (!error && to > from && !state_of(r->store).pending) {
		txn = begin_write(r->store);
		ok(delta_inline_apply(txn, buffer_slice(&bytes), &info));
		ok(txn_commit(txn));
		check(info.version == to && info.previous == from);
	}
	buffer_fini(&bytes);
}

static void check_old_versions(struct store *store)
{
	struct store_state state = state_of(store);
	for (version_t v = state.horizon; v <= state.current; v++) {
		check_at(store, v, digests[v]); /* a number that was spent shows the version before it */
	}
}

/* What was retired to the newest version equals what was copied whole. */
static void check_canonical(struct store *master)
{
	struct buffer a = BUFFER_INIT, b = BUFFER_INIT;
	struct store *copy = open_slave("copy", master);
	retire_all(master, current_of(master));
	collect_all(master);
	verify_clean(master);
	ok(pull(master, &copy, true));
	check_replica(copy);
	static const enum row rows[] = { ROW_CHUNK, ROW_COUNT, ROW_GARBAGE, ROW_WANT };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		dump_rows(master, rows[i], &a);
		dump_rows(copy, rows[i], &b);
		check(buffers_equal(&a, &b));
	}
	check(state_of(master).nodes == state_of(copy).nodes);
	check(state_of(master).ino_last >= state_of(copy).ino_last);
	store_close(copy);
	buffer_fini(&a);
	buffer_fini(&b);
}

Test(store_model, replicas_agree_with_the_model, .timeout = 120)
{
	random_init((unsigned long long)time(NULL));
	temp_make();
	struct store *master = open_master("master");
	struct txn *txn = begin_write(master);
	struct version_info info;
	tree_init(&tree, (version_begin(txn), txn));
	ok(version_seal(txn, 1, NULL, &info));
	ok(txn_commit(txn));
	model_dump(&tree.model, &dumps[info.version]);
	digests[info.version] = info.digest;
	for (int i = 0; i < SLAVES; i++) {
		snprintf(slaves[i].name, sizeof(slaves[i].name), "slave%d", i);
		slaves[i].store = open_slave(slaves[i].name, master);
	}
	while (current_of(master) < VERSIONS) {
		make_version(master);
		struct replica_under_test *r = &slaves[random_below(SLAVES)];
		if (one_in(3))
			pull_somehow(master, r);
		else if (one_in(2))
			try_inline(master, r);
		if (!state_of(r->store).pending)
			check_replica(r->store);
		if (one_in(15)) {
			version_t current = current_of(master);
			retire_all(master, current - random_below(current < 20 ? current : 20));
			collect_all(master);
			verify_clean(master);
			check_old_versions(master);
		}
		if (one_in(10) && !state_of(r->store).pending) {
			retire_all(r->store, current_of(r->store));
			collect_all(r->store);
			check_replica(r->store);
		}
	}
	for (int i = 0; i < SLAVES; i++) {
		pull_somehow(master, &slaves[i]);
		check_replica(slaves[i].store);
		store_close(slaves[i].store);
	}
	check_canonical(master);
	store_close(master);
	tree_fini(&tree);
	for (size_t i = 0; i < ARRAY_SIZE(dumps); i++)
		buffer_fini(&dumps[i]);
	temp_remove();
}
