/*
 * The slave's user layer in two phase, and with a check: nothing shows before its commit (R4.5), what was refused or aborted is rolled back and
 * costs the next version nothing, what was prepared is not pulled twice (R4.8).
 */
#include "store/batch.h"
#include "tests/unit/replica_fixture.h"

TestSuite(prepare, .init = begin, .fini = end, .timeout = 60);

/* ---- a check that the test answers for */

static struct {
	int begin_error;
	version_t version, shown; /* that a check was begun for */
	unsigned begun, cancelled, done;
	int error;                /* of the late answer */
	version_t led_to;
	version_t known, visible;
} seen;

static int check_begin(void *user, version_t version, version_t shown, char ret_reason[DRS_REASON_BYTES_MAX])
{
	(void)user;
	seen.version = version;
	seen.shown = shown;
	seen.begun++;
	if (seen.begin_error < 0)
		strcpy(ret_reason, "not here");
	return seen.begin_error;
}

static void check_cancel(void *user)
{
	(void)user;
	seen.cancelled++;
}

static void on_done(void *user, int error, const struct drs_version *version)
{
	(void)user;
	seen.done++;
	seen.error = error;
	seen.led_to = fs_version_number(version);
}

static void on_shown(void *user, version_t version)
{
	(void)user;
	seen.visible = version;
}

static version_t known(void *user)
{
	(void)user;
	return seen.known;
}

static const struct replica_user with_check = {
	.check_begin = check_begin, .check_cancel = check_cancel, .done = on_done, .shown = on_shown, .known = known };

/* ---- versions of the master */

static ino_id file;

static void first_version(const char *text)
{
	tree_begin(&master);
	file = tree_file(&master, INO_ROOT, "f", text);
	tree_commit(&master);
	pull();
}

/* The next one, not pulled. */
static struct drs_version next_version(const char *text)
{
	tree_begin(&master);
	tree_rewrite(&master, file, text, strlen(text));
	tree_commit(&master);
	return fs_version_of(master.at);
}

/* Prepare with the delta that leads to the master's newest version. */
static int prepare_inline(const struct drs_version *version)
{
	struct buffer delta = inline_delta();
	int result = listener.prepare(replica, version, buffer_slice(&delta));

	buffer_fini(&delta);
	return result;
}

static int apply(void)
{
	struct buffer delta = inline_delta();
	struct drs_version version;
	int error = listener.commit_inline(replica, buffer_slice(&delta), &version);

	buffer_fini(&delta);
	return error;
}

static version_t current(void)
{
	return state_of(slave.store).current;
}

/* Prepare by a pull, up to where it would be checked. */
static void fetch(const struct drs_version *version)
{
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;
	version_t to;

	cr_assert(eq(i32, listener.prepare(replica, version, (struct slice){ NULL, 0 }), 0));
	must(listener.pull_open(replica, false, &opening), "pull_open");
	must(delta_source_open(master.store, buffer_slice(&opening), &source, &to), "delta_source_open");
	buffer_fini(&opening);
	for (frames = 0; !listener.pull_ready(replica);)
		must(feed(source), "feed");
	delta_source_close(source);
}

static void tidied(void)
{
	for (int i = 0; replica_tidy(replica); i++)
		cr_assert(lt(i32, i, 1000));
}

static void restart(void)
{
	struct store_options options = { .dir = slave.state, .role = STORE_SLAVE, .lazy_sync = true, .map_bytes = (size_t)1 << 32 };

	replica_free(replica);
	store_close(slave.store);
	must(store_open(&options, &slave.store), "store_open");
	begin_replica(4);
}

#define fails(call, error) cr_assert(eq(i32, (call), (error)))
#define because(text) cr_assert(ne(ptr, strstr(listener.reason(replica), (text)), NULL), "%s", listener.reason(replica))

/* ---- two phase */

/* R4.5 */
Test(prepare, nothing_shows_before_the_commit)
{
	struct drs_version to, led_to;

	begin_mount();
	first_version("one");
	version_t before = current();
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), 0);
	cr_assert(eq(u64, replica_prepared(replica), master.at));
	cr_assert(eq(u64, current(), before));
	cr_assert(eq(u64, state_of(slave.store).stage.to, master.at)); /* durable */
	says("f", "one");
	tidied();
	fails(listener.prepare_commit(replica, &led_to), 0);
	cr_assert(eq(u64, fs_version_number(&led_to), master.at));
	cr_assert(zero(u64, replica_prepared(replica)));
	says("f", "two");
	same_as_master();
}

Test(prepare, a_large_delta_is_pulled)
{
	struct drs_version to, led_to;

	begin_mount();
	first_version("one");
	add_files(30, 100000);
	to = fs_version_of(master.at);
	fetch(&to);
	fails(listener.prepare_check(replica, &to), 0);
	listener.pull_close(replica); /* its link is lost: it no longer matters */
	says("f", "one");
	cr_assert(eq(u64, current(), master.at - 1));
	fails(listener.prepare_commit(replica, &led_to), 0);
	same_as_master();
}

Test(prepare, a_second_mount_shows_what_is_prepared)
{
	struct slave_mount_options options = { .threads = 1 };
	struct slave_mount *prepared;
	struct drs_version to, led_to;
	char dir[100], path[128], text[16] = "";

	begin_mount();
	first_version("one");
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), 0);
	snprintf(dir, sizeof(dir), "%s/prepared", slave.dir);
	snprintf(path, sizeof(path), "%s/f", dir);
	cr_assert(zero(i32, mkdir(dir, 0700)));
	options.mountpoint = dir;
	options.version = master.at;
	must(slave_mount_new(slave.store, &options, NULL, NULL, &prepared), "slave_mount_new");
	must(slave_mount_start(prepared), "slave_mount_start");
	int fd = open(path, O_RDONLY);
	cr_assert(eq(i64, read(fd, text, sizeof(text)), 3));
	close(fd);
	cr_assert(lt(i32, open(path, O_WRONLY), 0));
	cr_assert(eq(i32, errno, EROFS));
	slave_mount_free(prepared);
	cr_assert(eq(str, text, (char *)"two"));
	says("f", "one");
	cr_assert(zero(i32, rmdir(dir)));
	fails(listener.prepare_commit(replica, &led_to), 0);
	says("f", "two");
}

/* An aborted version is in nobody's way: the next small delta goes through at once. */
Test(prepare, an_abort_leaves_the_old_version_and_costs_the_next_nothing)
{
	struct drs_version to;

	begin_mount();
	first_version("one");
	version_t before = current();
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), 0);
	listener.prepare_abort(replica);
	listener.prepare_abort(replica); /* again is harmless */
	cr_assert(zero(u64, replica_prepared(replica)));
	cr_assert(eq(u64, current(), before));
	tidied();
	cr_assert(eq(u64, state_of(slave.store).stage.to, master.at)); /* kept for a while */
	fails(apply(), 0);                                            /* this number was committed after all */
	says("f", "two");
	same_as_master();
}

Test(prepare, what_was_prepared_is_not_pulled_again_if_it_was_committed_after_all)
{
	struct drs_version to, led_to;
	size_t all;

	first_version("one");
	add_files(100, 100000);
	to = fs_version_of(master.at);
	fetch(&to);
	all = frames;
	fails(listener.prepare_check(replica, &to), 0);
	listener.prepare_abort(replica);
	fails(converse(false, SIZE_MAX, &led_to), 0);
	cr_assert(lt(sz, frames, 4), "%zu of %zu", frames, all);
	cr_assert(gt(sz, all, 20));
	same_as_master();
}

/* R4.8 */
Test(prepare, a_restart_forgets_being_prepared_but_not_what_is_staged)
{
	struct drs_version to, led_to;

	first_version("one");
	add_files(100, 100000);
	to = fs_version_of(master.at);
	fetch(&to);
	fails(listener.prepare_check(replica, &to), 0);
	restart();
	cr_assert(eq(u64, current(), master.at - 1));
	cr_assert(zero(u64, replica_prepared(replica)));
	fails(listener.prepare_commit(replica, &led_to), -EINVAL);
	fetch(&to); /* asked again */
	cr_assert(lt(sz, frames, 4));
	fails(listener.prepare_check(replica, &to), 0);
	restart(); /* and it is current now */
	fails(converse(false, SIZE_MAX, &led_to), 0);
	cr_assert(lt(sz, frames, 4));
	same_as_master();
}

Test(prepare, another_prepare_takes_the_place)
{
	struct drs_version to, led_to;

	first_version("one");
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), 0);
	fails(prepare_inline(&to), 1); /* the same */
	fails(listener.prepare_check(replica, &to), 0);
	fails(listener.prepare_commit(replica, &led_to), 0);
	to = next_version("three");
	fails(prepare_inline(&to), 1);
	struct buffer delta = inline_delta();
	struct drs_version other = fs_version_of(master.at + 5);
	fails(listener.prepare(replica, &other, buffer_slice(&delta)), -DRS_EPROTOCOL); /* the delta is not to that one */
	buffer_fini(&delta);
	listener.prepare_abort(replica);
	fails(listener.prepare_check(replica, &to), -DRS_EPROTOCOL);
	fails(listener.prepare_commit(replica, &led_to), -EINVAL);
	cr_assert(eq(u64, pull(), master.at));
	same_as_master();
}

/* The link is lost in the middle; then one phase leads on. */
Test(prepare, an_interrupted_pull_is_resumed_by_whatever_comes)
{
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;
	struct drs_version to;
	version_t leads_to;

	first_version("one");
	add_files(100, 50000);
	to = fs_version_of(master.at);
	fails(listener.prepare(replica, &to, (struct slice){ NULL, 0 }), 0);
	must(listener.pull_open(replica, false, &opening), "pull_open");
	must(delta_source_open(master.store, buffer_slice(&opening), &source, &leads_to), "delta_source_open");
	buffer_fini(&opening);
	for (frames = 0; frames < 10;)
		must(feed(source), "feed");
	delta_source_close(source);
	listener.pull_close(replica);
	fails(listener.prepare_check(replica, &to), -DRS_EPROTOCOL);
	cr_assert(eq(u64, pull(), master.at));
	same_as_master();
}

Test(prepare, a_delta_from_elsewhere_is_to_be_pulled)
{
	struct drs_version to;

	first_version("one");
	next_version("two");
	to = next_version("three");
	fails(prepare_inline(&to), 0);
	listener.prepare_abort(replica);
	cr_assert(eq(u64, pull(), master.at));
}

/* The digest is looked at before the Ack. */
Test(prepare, a_replica_that_went_wrong_does_not_ack)
{
	struct drs_version to, led_to;

	first_version("one");
	tree_begin(&slave);
	tree_file(&slave, INO_ROOT, "stray", "wrong");
	tree_commit(&slave);
	tree_begin(&master);
	tree_commit(&master); /* so that both are at one number */
	to = next_version("two");
	int result = prepare_inline(&to);
	if (result == 1)
		result = listener.prepare_check(replica, &to);
	fails(result, -DRS_EDIGEST);
	because("digest");
	listener.prepare_abort(replica);
	because("digest");
	fails(converse(true, SIZE_MAX, &led_to), 0);
	same_as_master();
}

Test(prepare, nonsense_is_refused)
{
	uint8_t bytes[300];
	struct drs_version to;

	first_version("one");
	version_t before = current();
	to = next_version("two");
	for (unsigned seed = 1; seed < 200; seed++) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(rand() >> 7);
		cr_assert(lt(i32, listener.prepare(replica, &to, (struct slice){ bytes, seed }), 0));
		cr_assert(lt(i32, listener.prepare_check(replica, &to), 0));
		listener.prepare_abort(replica);
	}
	cr_assert(eq(u64, current(), before));
	pull();
	same_as_master();
}

Test(prepare, a_full_disk_is_a_refusal_with_that_reason)
{
	struct store_options options = { .dir = slave.state, .role = STORE_SLAVE, .create = true, .map_bytes = (size_t)1 << 32 };
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;
	struct drs_version to;
	version_t leads_to;
	int error = 0;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	replica_free(replica);
	store_close(slave.store);
	cr_assert(zero(i32, mount("tmpfs", slave.state, "tmpfs", 0, "size=16m")));
	must(store_open(&options, &slave.store), "store_open");
	begin_replica(4);
	begin_mount();
	first_version("one");
	version_t before = current();
	add_files(60, 500000);
	to = fs_version_of(master.at);
	fails(listener.prepare(replica, &to, (struct slice){ NULL, 0 }), 0);
	must(listener.pull_open(replica, false, &opening), "pull_open");
	must(delta_source_open(master.store, buffer_slice(&opening), &source, &leads_to), "delta_source_open");
	buffer_fini(&opening);
	while (error == 0 && !listener.pull_ready(replica))
		error = feed(source);
	delta_source_close(source);
	fails(error, -ENOSPC);
	because("disk full");
	listener.pull_close(replica);
	listener.prepare_abort(replica);
	because("disk full");
	cr_assert(eq(str, (char *)replica_trouble(replica), (char *)""));
	says("f", "one");
	cr_assert(eq(u64, current(), before));
	/* and what it had already is no obstacle: something else goes through */
	cr_assert(zero(i32, mount("tmpfs", slave.state, "tmpfs", MS_REMOUNT, "size=100m")));
	pull();
	says("f", "one");
	same_as_master();
}

/* ---- a batch of the master's store */

/* Proposed, with 'delta' (cleared first) the whole of it: its number. */
static version_t propose_batch(const char *value, size_t size, struct batch_info *ret_info, struct buffer *delta)
{
	struct txn *txn;

	must(txn_begin_write(master.store, &txn), "txn_begin_write");
	must(batch_begin(txn, "", 0, ++master.clock, ret_info), "batch_begin");
	struct tree in_batch = master;
	in_batch.txn = txn;
	in_batch.at = batch_draft(ret_info->id);
	tree_xattr(&in_batch, file, "user.batch", value, size);
	cr_assert(zero(i32, batch_rebase(txn, ret_info->id, NULL, NULL)));
	must(batch_propose(txn, ret_info->id, ++master.clock, "a batch", ret_info), "batch_propose");
	must(batch_inline_make(txn, ret_info->id, DRS_PREPARE_BYTES_MAX, delta), "batch_inline_make");
	must(txn_commit(txn), "txn_commit");
	return ret_info->proposed;
}

static void decide(const struct batch_info *batch, bool commit)
{
	struct version_info info;
	struct txn *txn;

	must(txn_begin_write(master.store, &txn), "txn_begin_write");
	if (commit)
		must(batch_commit(txn, batch->id, &info), "batch_commit");
	else
		must(batch_abort(txn, batch->id, "test"), "batch_abort");
	must(txn_commit(txn), "txn_commit");
}

/* What goes along with the asking may be larger than what fits a heartbeat. */
Test(prepare, a_batch_is_committed_on_both_sides)
{
	struct buffer delta = BUFFER_INIT;
	struct drs_version led_to;
	struct batch_info batch;
	char value[20000];

	begin_mount();
	first_version("one");
	memset(value, 'x', sizeof(value));
	struct drs_version to = fs_version_of(propose_batch(value, sizeof(value), &batch, &delta));
	fails(listener.prepare(replica, &to, buffer_slice(&delta)), 1);
	fails(listener.prepare_check(replica, &to), 0);
	says("f", "one");
	decide(&batch, true);
	fails(listener.prepare_commit(replica, &led_to), 0);
	cr_assert(eq(u64, fs_version_number(&led_to), fs_version_number(&to)));
	same_as_master();
	buffer_fini(&delta);
}

Test(prepare, a_batch_is_pulled_and_aborted_and_the_number_not_used_again)
{
	struct buffer delta = BUFFER_INIT, opening = BUFFER_INIT;
	struct delta_source *source;
	struct batch_info batch;

	first_version("one");
	version_t before = current();
	struct drs_version to = fs_version_of(propose_batch("value", 5, &batch, &delta));
	fails(listener.prepare(replica, &to, (struct slice){ NULL, 0 }), 0);
	must(listener.pull_open(replica, false, &opening), "pull_open");
	must(batch_source_open(master.store, batch.proposed, buffer_slice(&opening), &source), "batch_source_open");
	while (!listener.pull_ready(replica))
		must(feed(source), "feed");
	delta_source_close(source);
	fails(listener.prepare_check(replica, &to), 0);
	cr_assert(eq(u64, replica_prepared(replica), batch.proposed));
	decide(&batch, false);
	restart(); /* it does not hear of that */
	cr_assert(eq(u64, state_of(slave.store).stage.to, batch.proposed));
	cr_assert(eq(u64, pull(), before)); /* what it staged is not the master's */
	next_version("two");
	cr_assert(gt(u64, master.at, batch.proposed));
	cr_assert(eq(u64, pull(), master.at));
	same_as_master();
	buffer_fini(&delta);
	buffer_fini(&opening);
}

/* ---- checks */

static void begin_checked(void)
{
	begin_mount();
	first_version("one");
	seen.known = UINT64_MAX;
	replica_set_user(replica, &with_check);
}

/* R4.2 */
Test(prepare, a_check_comes_before_the_ack)
{
	struct drs_version to, led_to;

	begin_checked();
	version_t before = current();
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), -EINPROGRESS);
	cr_assert(replica_checking(replica));
	cr_assert(zero(u64, replica_prepared(replica)));
	cr_assert(eq(u64, seen.version, master.at));
	cr_assert(eq(u64, seen.shown, before));
	replica_checked(replica, 0, "");
	cr_assert(eq(u32, seen.done, 1));
	cr_assert(eq(i32, seen.error, 0));
	cr_assert(eq(u64, replica_prepared(replica), master.at));
	says("f", "one");
	fails(listener.prepare_commit(replica, &led_to), 0);
	says("f", "two");
	cr_assert(eq(u64, seen.visible, master.at));
	same_as_master();
}

Test(prepare, a_check_that_refuses_is_a_nak_and_nothing_is_left)
{
	struct drs_version to;

	begin_checked();
	version_t before = current();
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), -EINPROGRESS);
	replica_checked(replica, -DRS_EREFUSED, "line 3: no such word");
	cr_assert(eq(i32, seen.error, -DRS_EREFUSED));
	because("line 3: no such word");
	listener.prepare_abort(replica);
	because("line 3: no such word");
	cr_assert(eq(str, (char *)replica_trouble(replica), (char *)"")); /* it is where it should be */
	tidied();
	cr_assert(zero(u64, state_of(slave.store).stage.to));
	cr_assert(eq(u64, current(), before));
	says("f", "one");
	cr_assert(eq(u32, seen.visible, 0));
}

Test(prepare, a_check_that_cannot_be_begun_is_a_nak)
{
	struct drs_version to;

	begin_checked();
	seen.begin_error = -EPERM;
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), -EPERM);
	because("not here");
	fails(apply(), -EPERM);
	because("not here");
	cr_assert(ne(ptr, strstr(replica_trouble(replica), "cannot be checked: not here"), NULL));
	says("f", "one");
}

Test(prepare, an_abort_ends_the_check)
{
	struct drs_version to;

	begin_checked();
	to = next_version("two");
	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), -EINPROGRESS);
	listener.prepare_abort(replica);
	cr_assert(eq(u32, seen.cancelled, 1));
	cr_assert(not(replica_checking(replica)));
	replica_checked(replica, 0, ""); /* was on its way */
	cr_assert(zero(u32, seen.done));
	says("f", "one");
}

Test(prepare, so_does_the_end_of_a_pull_and_of_the_daemon)
{
	struct drs_version led_to;

	begin_checked();
	add_files(3, 10000);
	fails(converse(false, SIZE_MAX, &led_to), -EINPROGRESS); /* and pull_close */
	cr_assert(eq(u32, seen.cancelled, 1));
	next_version("two");
	cr_assert(eq(i32, apply(), -EBUSY)); /* a pull was interrupted: this delta starts elsewhere */
	fails(converse(false, SIZE_MAX, &led_to), -EINPROGRESS);
	cr_assert(eq(u32, seen.cancelled, 2));
	cr_assert(zero(u32, seen.done));
}

Test(prepare, one_phase_is_checked_too)
{
	begin_checked();
	next_version("two");
	fails(apply(), -EINPROGRESS);
	says("f", "one");
	replica_checked(replica, 0, "");
	cr_assert(eq(i32, seen.error, 0));
	cr_assert(eq(u64, seen.led_to, master.at));
	says("f", "two");
	cr_assert(eq(u64, seen.visible, master.at));
	same_as_master();
}

/* Up to pull_commit, without closing. */
static int pull_up_to_commit(struct drs_version *ret_version)
{
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;
	version_t to;

	must(listener.pull_open(replica, false, &opening), "pull_open");
	must(delta_source_open(master.store, buffer_slice(&opening), &source, &to), "delta_source_open");
	buffer_fini(&opening);
	for (frames = 0; !listener.pull_ready(replica);)
		must(feed(source), "feed");
	delta_source_close(source);
	return listener.pull_commit(replica, ret_version);
}

Test(prepare, a_refused_version_is_tried_again_without_pulling_it_again)
{
	struct drs_version led_to;

	begin_checked();
	add_files(60, 100000);
	seen.known = master.at;
	fails(pull_up_to_commit(&led_to), -EINPROGRESS);
	size_t all = frames;
	replica_checked(replica, -DRS_EREFUSED, "no");
	cr_assert(eq(i32, seen.error, -DRS_EREFUSED));
	listener.pull_close(replica);
	cr_assert(ne(ptr, strstr(replica_trouble(replica), "is refused by the check"), NULL));
	tidied();
	fails(pull_up_to_commit(&led_to), -EINPROGRESS);
	cr_assert(lt(sz, frames, all / 4));
	replica_checked(replica, 0, "");
	cr_assert(eq(u64, seen.led_to, master.at));
	same_as_master();
}

Test(prepare, a_refused_version_is_left_for_a_newer_one)
{
	struct drs_version led_to;

	begin_checked();
	next_version("bad");
	fails(pull_up_to_commit(&led_to), -EINPROGRESS);
	replica_checked(replica, -DRS_EREFUSED, "no");
	listener.pull_close(replica);
	says("f", "one");
	next_version("good");
	fails(pull_up_to_commit(&led_to), -EINPROGRESS);
	cr_assert(eq(u64, seen.version, master.at));
	replica_checked(replica, 0, "");
	listener.pull_close(replica);
	says("f", "good");
	same_as_master();
	next_version("bad again");
	fails(apply(), -EINPROGRESS);
	replica_checked(replica, -DRS_EREFUSED, "no");
	says("f", "good");
	fails(apply(), -EINPROGRESS); /* the same heartbeat, repeated */
	replica_checked(replica, 0, "");
	says("f", "bad again");
	same_as_master();
}

static void fetch_batch(const struct batch_info *batch)
{
	struct drs_version to = fs_version_of(batch->proposed);
	struct buffer opening = BUFFER_INIT;
	struct delta_source *source;

	fails(listener.prepare(replica, &to, (struct slice){ NULL, 0 }), 0);
	must(listener.pull_open(replica, false, &opening), "pull_open");
	must(batch_source_open(master.store, batch->proposed, buffer_slice(&opening), &source), "batch_source_open");
	while (!listener.pull_ready(replica))
		must(feed(source), "feed");
	delta_source_close(source);
	buffer_fini(&opening);
	fails(listener.prepare_check(replica, &to), -EINPROGRESS);
}

/* R4.2: what the check is shown is the tree with both, and what comes before it is the version that is shown. */
Test(prepare, what_may_mend_a_refused_version_is_staged_on_top_of_what_is_shown)
{
	struct buffer delta = BUFFER_INIT;
	struct drs_version led_to;
	struct batch_info batch;

	begin_checked();
	version_t before = current();
	next_version("bad");
	seen.known = master.at;
	fails(pull_up_to_commit(&led_to), -EINPROGRESS);
	replica_checked(replica, -DRS_EREFUSED, "no");
	listener.pull_close(replica);
	propose_batch("value", 5, &batch, &delta);
	fetch_batch(&batch);
	cr_assert(eq(u64, seen.version, batch.proposed));
	cr_assert(eq(u64, seen.shown, before));
	listener.prepare_abort(replica);
	cr_assert(ne(ptr, strstr(replica_trouble(replica), "is refused by the check"), NULL), "it still is");
	fetch_batch(&batch);
	replica_checked(replica, 0, "");
	cr_assert(eq(u64, replica_prepared(replica), batch.proposed));
	says("f", "one");
	decide(&batch, true);
	fails(listener.prepare_commit(replica, &led_to), 0);
	cr_assert(eq(u64, fs_version_number(&led_to), batch.proposed));
	says("f", "bad");
	same_as_master();
	buffer_fini(&delta);
}

Test(prepare, what_is_there_already_is_not_checked)
{
	struct drs_version led_to;

	begin_checked();
	fails(pull_up_to_commit(&led_to), 0);
	cr_assert(zero(u32, seen.begun));
}

/* R2.5: a number alone changes nothing to be checked, and is nothing to reload for. */
Test(prepare, a_number_alone_is_neither_checked_nor_announced)
{
	begin_checked();
	struct drs_version to = next_version("two"), later = fs_version_of(master.at + 3);

	fails(prepare_inline(&to), 1);
	fails(listener.prepare_check(replica, &to), -EINPROGRESS);
	replica_checked(replica, 0, "");
	listener.prepare_abort(replica);
	fails(listener.take_version(replica, &later), 0);
	cr_assert(eq(u64, current(), master.at + 3));
	says("f", "one");
	cr_assert(zero(u64, seen.visible));
	cr_assert(eq(u32, seen.begun, 1));
}
