/*
 * sim: the cores in imagined worlds, each from one seed. Half a minute of faults, changes and batches, checked after every step; then the faults end, and
 * all must have the newest version within a stated time, and then a last batch. A failure prints its seed and the last trace lines; --trace shows the
 * whole run of one seed.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

/* After the last fault: the longest pause after failures (15 s) twice, for a slave whose replica was damaged as well, and some time to work. */
#define CONVERGE_MS 35000
#define QUIET_MS 3000
#define LAST_BATCH_MS 5000

static struct world world;
static uint64_t running_seed;

/* An assertion in a core failed: say where the world was. */
static void on_abort(int signal_number)
{
	(void)signal_number;
	printf("seed %llu: assertion failed\n", (unsigned long long)running_seed);
	world_print_trace(&world);
	fflush(stdout);
	signal(SIGABRT, SIG_DFL);
	abort();
}

struct totals {
	struct world_counters counters;
	time_ms slowest_ms;
	uint64_t versions;
};

static void add_totals(struct totals *t, const struct world *w, time_ms took_ms)
{
	t->counters.steps += w->counters.steps;
	t->counters.pulls += w->counters.pulls;
	t->counters.inlines += w->counters.inlines;
	t->counters.takes += w->counters.takes;
	t->counters.failures += w->counters.failures;
	t->counters.crashes += w->counters.crashes;
	t->counters.committed += w->counters.committed;
	t->counters.aborted += w->counters.aborted;
	t->counters.busy += w->counters.busy;
	t->versions += w->history.count;
	if (took_ms > t->slowest_ms)
		t->slowest_ms = took_ms;
}

/* R4.3, R4.8: whatever went before, a batch over everyone is committed by all. */
static void live_last_batch(struct world *w)
{
	struct world_counters before = w->counters;
	time_ms until = w->now + LAST_BATCH_MS;
	world_batch(w, true);
	while (w->counters.committed == before.committed || !world_converged(w)) {
		world_step(w);
		if (w->counters.aborted != before.aborted || w->counters.busy != before.busy)
			world_fail(w, "a batch was not committed, though nothing was in its way");
		if (w->now > until)
			world_fail(w, "not everyone has a batch %d ms after its start", LAST_BATCH_MS);
	}
}

/* The whole life of a world; how long it took to converge after the last fault. Leaves through 'failed' otherwise. */
static time_ms live(struct world *w)
{
	while (w->now < w->faults_end || !world_converged(w)) {
		world_step(w);
		if (w->now > w->faults_end + CONVERGE_MS)
			world_fail(w, "not everyone has the newest version %d ms after the last fault", CONVERGE_MS);
	}
	time_ms took_ms = w->now - w->faults_end;
	live_last_batch(w);
	check_jobs_over(w);
	uint64_t pulls = w->counters.pulls;
	for (time_ms until = w->now + QUIET_MS; w->now < until;)
		world_step(w);
	if (!world_converged(w) || w->counters.pulls != pulls)
		world_fail(w, "no quiet after everyone had the newest version");
	return took_ms;
}

static unsigned slaves_for(uint64_t seed)
{
	struct chance chance = { ~seed };
	return (unsigned)(chance_permille(&chance, 700) ? chance_between(&chance, 1, 8) : chance_between(&chance, 9, 50));
}

static bool run_seed(uint64_t seed, unsigned slaves, bool print_trace, bool quiet, struct totals *totals)
{
	struct world_options options = { .seed = seed, .slaves = slaves ? slaves : slaves_for(seed), .chaos = true, .print_trace = print_trace };
	jmp_buf failed;
	options.failed = &failed;
	running_seed = seed;
	if (setjmp(failed) == 0) {
		world_init(&world, &options);
		add_totals(totals, &world, live(&world));
		world_fini(&world);
		return true;
	}
	if (!quiet) {
		printf("seed %llu: failed; the last lines:\n", (unsigned long long)running_seed);
		world_print_trace(&world);
	}
	world_fini(&world);
	return false;
}

static int run_seeds(uint64_t from, uint64_t count, unsigned slaves, bool print_trace)
{
	struct totals t = { 0 };
	uint64_t passed = 0;
	for (uint64_t i = 0; i < count; i++)
		passed += run_seed(from + i, slaves, print_trace, false, &t);
	printf("%llu steps, %llu versions, %llu crashes, %llu failures, %llu pulls, %llu inline, %llu taken; slowest to converge %lld ms\n",
	       (unsigned long long)t.counters.steps, (unsigned long long)t.versions, (unsigned long long)t.counters.crashes,
	       (unsigned long long)t.counters.failures, (unsigned long long)t.counters.pulls, (unsigned long long)t.counters.inlines,
	       (unsigned long long)t.counters.takes, (long long)t.slowest_ms);
	printf("two phase: %llu committed, %llu aborted, %llu busy\n", (unsigned long long)t.counters.committed,
	       (unsigned long long)t.counters.aborted, (unsigned long long)t.counters.busy);
	printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)(count - passed));
	return passed == count ? 0 : 1;
}

/* Each planted fault must be found within 'count' seeds. */
static int run_plants(uint64_t from, uint64_t count)
{
	unsigned passed = 0, failed = 0;
	for (planted = PLANT_NONE + 1; planted < PLANTS; planted++) {
		struct totals t = { 0 };
		uint64_t i = 0;
		while (i < count && run_seed(from + i, 0, false, true, &t))
			i++;
		if (i < count) {
			const char *why = world.trace[(world.trace_count - 1) % TRACE_LINES];
			printf("%-12s found with seed %llu: %s\n", plant_name(planted), (unsigned long long)(from + i), why);
			passed++;
		} else {
			printf("%-12s NOT found in %llu seeds\n", plant_name(planted), (unsigned long long)count);
			failed++;
		}
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed ? 1 : 0;
}

static time_ms run_until_converged(struct world *w)
{
	time_ms from = w->now;
	do {
		world_step(w);
		if (w->now > from + CONVERGE_MS)
			world_fail(w, "not everyone has the newest version");
	} while (!world_converged(w));
	return w->now - from;
}

/* One part in a world that has converged; it tells whether what it promises was so. The exit code. */
static int run_play(bool (*play)(unsigned slaves, unsigned loss_permille), unsigned slaves, unsigned loss_permille, bool print_trace)
{
	struct world_options options = { .seed = 1, .slaves = slaves, .loss_permille = loss_permille, .print_trace = print_trace };
	jmp_buf failed;
	options.failed = &failed;
	if (setjmp(failed) != 0) {
		world_print_trace(&world);
		world_fini(&world);
		printf("0 passed, 1 failed\n");
		return 1;
	}
	world_init(&world, &options);
	run_until_converged(&world);
	bool passed = play(slaves, loss_permille);
	world_fini(&world);
	printf("%d passed, %d failed\n", passed, !passed);
	return passed ? 0 : 1;
}

static unsigned count_showing(const struct world *w, const struct drs_version *version)
{
	unsigned count = 0;
	for (unsigned i = 0; i < w->options.slaves; i++)
		count += map_version_ops.equal(&w->slaves[i].user.seen.version, version);
	return count;
}

/* R4: what one commit costs, in messages and in the world's time: links take up to 1 ms, datagrams up to 2, disks 1 to 5. */
static bool play_commit(unsigned slaves, unsigned loss_permille)
{
	for (time_ms until = world.now - world.now % 1000 + 1500; world.now < until;)
		world_step(&world);
	struct world_counters before = world.counters;
	time_ms from = world.now, done = 0, first = 0, last = 0;
	world_batch(&world, true);
	while (!done || !last) {
		world_step(&world);
		unsigned showing = count_showing(&world, &world.job.version);
		done = done || world.counters.committed == before.committed ? done : world.now;
		first = first || showing == 0 ? first : world.now;
		last = showing == slaves ? world.now : 0;
		if (world.now > from + CONVERGE_MS)
			world_fail(&world, "not everyone shows the batch");
	}
	const struct world_counters *after = &world.counters;
	printf("%u slaves, loss %u permille: %llu prepares, %llu answers, %llu datagrams; committed after %lld ms, shown by all %lld ms after the first\n",
	       slaves, loss_permille, (unsigned long long)(after->prepares - before.prepares), (unsigned long long)(after->answers - before.answers),
	       (unsigned long long)(after->datagrams - before.datagrams), (long long)(done - from), (long long)(last - first));
	bool cheap = after->prepares - before.prepares == slaves && after->answers - before.answers == slaves &&
		     (loss_permille > 0 || after->datagrams - before.datagrams == 1);
	return cheap;
}

/* R4.2: what no slave's check accepts one phase is mended by a batch, which all of them agree to. */
static bool play_mend(unsigned slaves, unsigned loss_permille)
{
	world.options.picky = true;
	world_publish(&world, 1, true);
	const struct drs_version refused = world.master.master_user.tree.version;
	for (time_ms until = world.now + QUIET_MS; world.now < until;)
		world_step(&world);
	if (count_showing(&world, &refused) > 0)
		world_fail(&world, "a slave shows what its check refuses");
	live_last_batch(&world);
	printf("%u slaves, loss %u permille: all show the batch that mends what all refused\n", slaves, loss_permille);
	return true;
}

/* R3.4: what one small change costs the master. */
static bool play_fanout(unsigned slaves, unsigned loss_permille)
{
	/* Half an interval from the regular heartbeats, so that none of them is counted. */
	for (time_ms until = world.now - world.now % 1000 + 1500; world.now < until;)
		world_step(&world);
	struct world_counters before = world.counters;
	world_publish(&world, 1, true);
	time_ms took_ms = run_until_converged(&world);
	const struct world_counters *after = &world.counters;
	printf("%u slaves, loss %u permille: %llu datagrams, %llu bytes, %llu pulls, %llu inline; all reported after %lld ms\n", slaves,
	       loss_permille, (unsigned long long)(after->datagrams - before.datagrams), (unsigned long long)(after->datagram_bytes - before.datagram_bytes),
	       (unsigned long long)(after->pulls - before.pulls), (unsigned long long)(after->inlines - before.inlines), (long long)took_ms);
	bool one = loss_permille > 0 || after->datagrams - before.datagrams == 1;
	return one;
}

static int usage(void)
{
	fputs("usage: sim --seeds FROM COUNT [--slaves N] [--trace] [--plant NAME]\n"
	      "       sim --plants FROM COUNT\n"
	      "       sim --fanout SLAVES [--loss PERMILLE] [--trace]\n"
	      "       sim --commit SLAVES [--loss PERMILLE] [--trace]\n"
	      "       sim --mend SLAVES [--loss PERMILLE] [--trace]\n",
	      stderr);
	return 2;
}

static bool parse_number(const char *text, uint64_t *ret_number)
{
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 0);
	if (errno || end == text || *end)
		return false;
	*ret_number = n;
	return true;
}

static bool parse_plant(const char *text)
{
	for (planted = PLANT_NONE; planted < PLANTS; planted++)
		if (strcmp(text, plant_name(planted)) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	enum { NOTHING, SEEDS, PLANTED, FANOUT, COMMIT, MEND } mode = NOTHING;
	static const struct option long_options[] = {
		{ "seeds", required_argument, NULL, 's' },  { "plants", required_argument, NULL, 'p' }, { "fanout", required_argument, NULL, 'f' },
		{ "slaves", required_argument, NULL, 'n' }, { "loss", required_argument, NULL, 'l' },   { "plant", required_argument, NULL, 'x' },
		{ "trace", no_argument, NULL, 't' },        { "commit", required_argument, NULL, 'c' }, { "mend", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t first = 0, count = 0, slaves = 0, loss = 0;
	bool print_trace = false, valid = true;
	for (int option; valid && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		switch (option) {
		case 's':
		case 'p':
			mode = option == 's' ? SEEDS : PLANTED;
			valid = parse_number(optarg, &first) && optind < argc && parse_number(argv[optind++], &count);
			break;
		case 'f':
		case 'c':
		case 'm':
			mode = option == 'f' ? FANOUT : option == 'c' ? COMMIT : MEND;
			valid = parse_number(optarg, &slaves);
			break;
		case 'n':
			valid = parse_number(optarg, &slaves);
			break;
		case 'l':
			valid = parse_number(optarg, &loss) && loss < 1000;
			break;
		case 'x':
			valid = parse_plant(optarg);
			break;
		case 't':
			print_trace = true;
			break;
		default:
			valid = false;
		}
	}
	if (!valid || mode == NOTHING || optind != argc || slaves > 100000 || (mode >= FANOUT && slaves == 0))
		return usage();
	signal(SIGABRT, on_abort);
	if (mode == SEEDS)
		return run_seeds(first, count, (unsigned)slaves, print_trace);
	if (mode == PLANTED)
		return run_plants(first, count);
	if (mode == MEND)
		return run_play(play_mend, (unsigned)slaves, (unsigned)loss, print_trace);
	if (mode == COMMIT)
		return run_play(play_commit, (unsigned)slaves, (unsigned)loss, print_trace);
	return run_play(play_fanout, (unsigned)slaves, (unsigned)loss, print_trace);
}
