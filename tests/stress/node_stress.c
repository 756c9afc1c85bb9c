/*
 * A master and a few slaves in one process, on threads of their own, with a bad network between them (tests/lib/proxy.c): heartbeats are lost,
 * repeated and reordered, links are cut and stalled, slaves and the master are stopped and started. After all that, once updates end, every slave
 * must have the last version, and no replica may ever have been wrong (R2.3, R3.3). Two phase jobs run in between, which slaves accept or refuse, at once or
 * later, and which are cancelled, run out of time, or lose the master: nobody shows a version that was not committed, every job ends (R4.8).
 * Plain, for the thread sanitizer.
 *
 *   node_stress [SECONDS [SEED]]
 */
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/lib/map_user.h"

#define SLAVES      3
#define CONVERGE_MS 30000

static struct map_master master;
static struct map_slave slaves[SLAVES];
static struct node_config master_config, slave_configs[SLAVES];
static unsigned proposals;

/* A port that is free now. */
static uint16_t free_port(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&at, size) < 0 || getsockname(fd, (struct sockaddr *)&at, &size) < 0)
		abort();
	close(fd);
	return ntohs(at.sin_port);
}

/* "ADDRESS:PORT" as the proxy takes it */
static void slashed(const char *from, char to[128])
{
	snprintf(to, 128, "%s", from);
	*strrchr(to, ':') = '/';
}

static pid_t start_proxy(const char *self, uint16_t door, unsigned seed)
{
	char path[PATH_MAX], own[PATH_MAX], tcp[128], udp[300], from[128], to[128], seed_text[16];
	snprintf(own, sizeof(own), "%s", self);
	snprintf(path, sizeof(path), "%.4000s/../lib/proxy", dirname(own));
	slashed(master_config.group, from);
	slashed(slave_configs[0].group, to);
	snprintf(udp, sizeof(udp), "%s:%s", from, to);
	snprintf(tcp, sizeof(tcp), "127.0.0.1/%u:127.0.0.1/%u", door, node_link_port(master.node));
	snprintf(seed_text, sizeof(seed_text), "%u", seed);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			execl(path, "proxy", "--seed", seed_text, "--loss", "0.3", "--dup", "0.1", "--reorder", "0.3", "--delay", "1",
			      "--cut", "400", "--stall", "0.2", "--down", "100", "--udp", udp, "--tcp", tcp, NULL);
		_exit(127);
	}
	return pid;
}

static void start_all(unsigned seed, uint16_t door)
{
	map_config(&master_config, "hub", seed);
	master_config.link_timeout_ms = 1000;
	master_config.beat_interval_ms = 100;
	master.bytes = (size_t)1 << 20;
	map_master_start(&master, &master_config);
	snprintf(master_config.listen, sizeof(master_config.listen), "127.0.0.1:%u", node_link_port(master.node));
	for (int i = 0; i < SLAVES; i++) {
		char name[32];
		snprintf(name, sizeof(name), "slave-%d", i);
		map_config(&slave_configs[i], name, seed + 100);
		slave_configs[i].link_timeout_ms = 1000;
		map_point_at(&slave_configs[i], door);
		map_slave_start(&slaves[i], &slave_configs[i]);
	}
}

static void restart_master(void)
{
	map_master_stop(&master);
	master.started = master.done; /* a job that ran is lost with it */
	master_config.incarnation++;
	map_master_start(&master, &master_config);
}

static void restart_slave(int i)
{
	map_slave_stop(&slaves[i]);
	map_slave_start(&slaves[i], &slave_configs[i]);
}

static void cancel_job(void *user)
{
	struct drs_version version = map_version(master.proposed);
	(void)user;
	drs_cancel_two_phase(master.drs, &version);
}

static void start_job(void)
{
	struct drs_job job = { .timeout_ms = (uint32_t)(20 + rand() % 1500), .require = (enum drs_require)(rand() % 3), .count = (uint32_t)(rand() % 4) };
	for (int i = 0; i < SLAVES; i++) {
		slaves[i].check_error = rand() % 12 ? 0 : -DRS_EREFUSED;
		slaves[i].late_ms = rand() % 3 ? 0 : rand() % 20;
	}
	master.decide_later = rand() % 2;
	master.decide_failures = rand() % 20 == 0;
	proposals++;
	map_propose(&master, &job, rand() % 4 > 0);
}

/* While a job runs, its user leads nothing on from what is not decided: updates come without their deltas, and not so many that slaves only pull. */
static void change_during_job(void)
{
	int what = rand() % 400;
	if (what == 0)
		node_post(master.node, cancel_job, NULL);
	else if (what < 20)
		map_update(&master, false);
}

static void change(void)
{
	if (master.done < master.started)
		change_during_job();
	else if (rand() % 4 > 0)
		map_update(&master, rand() % 4 > 0);
	else
		start_job();
}

static void disturb(void)
{
	int what = rand() % 400;
	if (what == 0)
		restart_master();
	else if (what < 4)
		restart_slave(rand() % SLAVES);
	else
		change();
}

static int check(void)
{
	int wrong = !map_wait_done(&master, master.started, CONVERGE_MS);
	unsigned committed = 0;
	if (wrong)
		printf("a job did not end\n");
	for (int i = 0; i < SLAVES; i++) {
		slaves[i].late_ms = 0;
		committed += slaves[i].prepare_commits;
	}
	printf("%u jobs proposed; %u times a slave committed what it had prepared\n", proposals, committed);
	map_update(&master, true);
	for (int i = 0; i < SLAVES; i++) {
		bool there = map_wait_version(&slaves[i].version, master.version, CONVERGE_MS);
		printf("slave-%d: version %llu of %llu, %u inline, %u of %u pulls, %u wrong\n", i, (unsigned long long)slaves[i].version,
		       (unsigned long long)master.version, slaves[i].inlines, slaves[i].commits, slaves[i].pulls, slaves[i].corrupt);
		wrong += !there || slaves[i].corrupt;
		map_slave_stop(&slaves[i]);
		wrong += slaves[i].pulls != slaves[i].commits + slaves[i].staged_pulls + slaves[i].closes;
		free(slaves[i].map);
	}
	map_master_stop(&master);
	return wrong + (master.opened != master.closed) + (master.wrong > 0);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5;
	unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : (unsigned)getpid();
	uint16_t door = free_port();
	log_init("stress", LOG_LEVEL_ERROR);
	printf("seed %u\n", seed);
	srand(seed);
	start_all(seed, door);
	pid_t proxy = start_proxy(argv[0], door, seed);
	for (time_ms until = node_now() + seconds * 1000; node_now() < until; usleep((useconds_t)(rand() % 5000)))
		disturb();
	int wrong = check(), status;
	kill(proxy, SIGTERM);
	waitpid(proxy, &status, 0);
	if (WEXITSTATUS(status) == 127) {
		fprintf(stderr, "the proxy is not there: make it first\n");
		return 2;
	}
	printf("%s\n", wrong ? "WRONG" : "all well");
	return wrong != 0;
}
