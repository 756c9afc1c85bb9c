/*
 * What the echo does, version by version: replay.c finds out what changed and has echo.c show it to the kernel. Part of the slave's mount; not
 * for others.
 */
#ifndef SLAVE_REPLAY_H
#define SLAVE_REPLAY_H

#include <pthread.h>
#include <semaphore.h>

#include "slave/serve.h"

/* A name that the echo works on, and what it leads to. */
struct stand {
	node_id parent;                /* 0: none */
	const char *name;
	enum { STAND_NOTHING, STAND_GHOST, STAND_NODE } is;
	uint64_t number;               /* STAND_GHOST */
	uint8_t type;
	ino_id ino;                    /* STAND_NODE: this node, as of this version */
	version_t version;
};

#define STANDS_MAX 2

struct echo {
	struct slave_mount *mount;
	struct txn *txn;               /* parked between */
	pthread_t thread;
	bool started;
	_Atomic pid_t id;              /* of the thread */
	sem_t ready;                   /* the thread has come as far as serving */
	int error;                     /* or why it did not */
	int wake;
	int tree, root, hidden;        /* the clone, its root and the hidden directory; open in the thread only */
	uint64_t mount_id;
	pthread_mutex_t turn;          /* of a flip, or of one operation */
	pthread_cond_t passed;
	atomic_uint flips_waiting;
	atomic_bool stopping;
	pthread_mutex_t lock;          /* of the stands, and of what is remembered */
	struct stand stands[STANDS_MAX];
	uint64_t ghosts;               /* so many were made; under the lock */
	struct remembered *remembered; /* replay.c: where files that changed have a name */
};

/* The versions up to the one that is shown. */
void replay(struct echo *);
void replay_fini(struct echo *);

/* ---- what the kernel is shown: within a turn; 'dir' as opened by echo_open; errors mean that somebody is not told */

int echo_open(struct echo *, ino_id dir); /* a descriptor. -ESTALE: the kernel does not hold it */
void echo_close(int fd);
void echo_turn_begin(struct echo *);
void echo_turn_end(struct echo *);

struct spot { /* a name */
	ino_id dir;
	int fd;
	const char *name;
};

int echo_created(struct echo *, struct spot, uint8_t type, bool link); /* link: one more name of a file */
int echo_written(struct echo *, struct spot);
int echo_attributes_changed(struct echo *, struct spot, uint8_t type, bool held);
int echo_deleted(struct echo *, struct spot, uint8_t type);
/*
 * Without a name on one side (fd < 0) it comes from, or goes to, where nobody looks. 'ino', as of that version, is told that it is moved, if it is a
 * file; 0: it is not.
 */
int echo_renamed(struct echo *, struct spot from, struct spot to, uint8_t type, ino_id ino, version_t);
/* A file that is held has more names, or fewer, and nothing else of it changed. */
int echo_links_changed(struct echo *, ino_id, version_t);
/* The node as of that version is shown nowhere any more. */
int echo_ended(struct echo *, ino_id, version_t, uint8_t type, bool written);

#endif
