/*
 * When what is finished becomes a version: natural batching, with a budget.
 *
 * A commit costs its time, in which nothing is served. When something is finished and the mount has been quiet for a moment it is sealed and
 * committed, as long as commits take no more than a small part of the time (a token bucket of commit time); what finishes meanwhile joins in.
 * Beyond that budget it has to be quiet for half of what a commit costs: a program at work is hardly ever, and nobody else is kept waiting.
 * At the latest publish_delay_ms after the first finished change it is committed in any case, or when there is so much that a commit of more would
 * keep everybody waiting for long. Who waits for an fsync is not kept waiting.
 *
 * When nothing else is to be done: retention and garbage, a little at a time.
 */
#ifndef MASTER_PUBLISH_H
#define MASTER_PUBLISH_H

#include "master/live.h"
#include "master/mount.h"

#define TIME_NEVER INT64_MAX

struct publish {
	struct live *live;       /* the main tree, whose finished changes become versions */
	struct work *work;
	struct master_mount_options options;
	struct master_mount_listener listener;
	time_ns finished_since;  /* 0: nothing is finished */
	time_ns written_since;   /* of the oldest change in the write transaction; 0: none */
	time_ns cost;            /* of a commit, smoothed */
	time_ns credit;          /* commit time that may be spent now */
	time_ns credited_at;
	size_t dirty_max;        /* so much is committed at once, so that it does not take long */
	bool untidy;             /* there may be something to tidy */
	bool stuck;              /* even tidying finds no room */
	bool making_room;
	time_ns tidied_at;
	bool retiring;           /* retention is on its way to 'horizon' */
	version_t horizon;
	uint64_t retained;       /* versions from the horizon on; 0: not counted yet */
	bool hold;               /* a batch's commit is undecided: nothing is sealed */
	struct buffer delta;
	retire_held *held;       /* is a file's old content still in use? */
	int (*tidy_more)(void *user, size_t work_max, bool *ret_more); /* what else there is to tidy */
	void *user;
};

void publish_init(struct publish *, struct work *, struct live *main_tree, const struct master_mount_options *, const struct master_mount_listener *);
void publish_fini(struct publish *);
time_ns publish_clock(void); /* CLOCK_MONOTONIC */

/* A request was served. True: commit now, though others wait. */
bool publish_served(struct publish *, time_ns now);
/* When to commit if no request comes, given when the last one was served; TIME_NEVER: nothing to commit. */
time_ns publish_due(const struct publish *, time_ns served_at);
/* Seal what is finished, commit, and tell the listener. */
int publish_commit(struct publish *);
/* All that stands under the pending number is sealed and committed, so that none is pending. */
int publish_settle(struct publish *);
/* While it is held nothing is sealed, but committed for who asks for that; what waited is sealed afterwards. */
void publish_hold(struct publish *, bool);
/* Another version was made, by a batch. */
void publish_made(struct publish *);
/* When to tidy a little if no request comes, and to do it. */
time_ns publish_tidy_due(const struct publish *, time_ns served_at);
int publish_tidy(struct publish *, time_ns now);
/* Somebody needs room: tidy for a moment, and commit. */
int publish_make_room(struct publish *);

#endif
