/*
 * The floor under propagation: what two synced LMDB commits with a UDP round trip between them cost on this machine, with a record of
 * 1 KiB (or RECORDS of them a commit) and nothing else. One process commits and sends, others receive, commit and answer; each answer is a sample.
 *
 *   floor ROUNDS DIRECTORY [SLAVES [RECORDS]]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <lmdb.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/sample.h"

#define SLAVES_MAX 64

static void check(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "floor: %s: %s\n", what, mdb_strerror(error));
	exit(1);
}

struct store {
	MDB_env *env;
	MDB_dbi dbi;
};

static struct store store_at(const char *dir, const char *name)
{
	struct store store;
	char path[4096];
	MDB_txn *txn;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	check(mkdir(path, 0700) < 0 && errno != EEXIST ? errno : 0, path);
	check(mdb_env_create(&store.env), path);
	check(mdb_env_set_mapsize(store.env, (size_t)1 << 28), path);
	check(mdb_env_open(store.env, path, 0, 0600), path);
	check(mdb_txn_begin(store.env, NULL, 0, &txn), path);
	check(mdb_dbi_open(txn, NULL, 0, &store.dbi), path);
	check(mdb_txn_commit(txn), path);
	return store;
}

static int socket_on_loopback(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 ? errno : 0, "socket");
	return fd;
}

static void meet(int from, int to)
{
	struct sockaddr_in address;
	socklen_t size = sizeof(address);
	check(getsockname(to, (struct sockaddr *)&address, &size) < 0 || connect(from, (struct sockaddr *)&address, size) < 0 ? errno : 0, "connect");
}

static size_t records = 1; /* a commit */

static void commit(const struct store *store, uint64_t round, void *content, size_t size)
{
	MDB_txn *txn;
	check(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
	for (size_t i = 0; i < records; i++) {
		uint64_t number = (round + i) % 1000;
		MDB_val key = { sizeof(number), &number }, value = { size, content };
		check(mdb_put(txn, store->dbi, &key, &value, 0), "put");
	}
	check(mdb_txn_commit(txn), "commit");
}

/* The other process: LMDB environments do not survive a fork, so it opens its own. */
static void __attribute__((noreturn)) answer(int fd, const char *dir)
{
	char datagram[1100];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	char name[32];
	snprintf(name, sizeof(name), "floor-slave%d", fd);
	struct store store = store_at(dir, name);
	for (uint64_t round = 0;; round++) {
		ssize_t n = recv(fd, datagram, sizeof(datagram), 0);
		if (n <= 1)
			_exit(0);
		commit(&store, round, datagram, (size_t)n);
		check(send(fd, datagram, 8, 0) < 0 ? errno : 0, "send");
	}
}

int main(int argc, char **argv)
{
	size_t rounds = argc >= 3 ? strtoul(argv[1], NULL, 10) : 0, slaves = argc >= 4 ? strtoul(argv[3], NULL, 10) : 1;
	char datagram[1024];
	int masters[SLAVES_MAX];
	records = argc >= 5 ? strtoul(argv[4], NULL, 10) : 1;
	if (!rounds || !slaves || slaves > SLAVES_MAX || !records) {
		fprintf(stderr, "usage: floor ROUNDS DIRECTORY [SLAVES [RECORDS]]\n");
		return 2;
	}
	for (size_t i = 0; i < slaves; i++) {
		int slave = socket_on_loopback();
		masters[i] = socket_on_loopback();
		meet(masters[i], slave);
		meet(slave, masters[i]);
		if (fork() == 0)
			answer(slave, argv[2]);
		close(slave);
	}
	struct store store = store_at(argv[2], "floor-master");
	double *samples = calloc((rounds + 1) * slaves, sizeof(*samples)), *sample = samples;
	check(samples ? 0 : ENOMEM, "samples");
	for (size_t round = 0; round <= rounds; round++) {
		memset(datagram, (int)round, sizeof(datagram));
		double began = now_us();
		commit(&store, round, datagram, sizeof(datagram));
		for (size_t i = 0; i < slaves; i++)
			check(send(masters[i], datagram, sizeof(datagram), 0) < 0 ? errno : 0, "send");
		for (size_t i = 0; i < slaves; i++) { /* they end at about the same time: order hardly matters */
			check(recv(masters[i], datagram, sizeof(datagram), 0) < 0 ? errno : 0, "recv");
			*sample++ = now_us() - began;
		}
		pause_us(3000 + random() % 4000);
	}
	sample_print("floor", samples + slaves, rounds * slaves); /* the first round warms up */
	free(samples);
	for (size_t i = 0; i < slaves; i++)
		check(send(masters[i], "", 1, 0) < 0 ? errno : 0, "send");
	mdb_env_close(store.env);
	return 0;
}
