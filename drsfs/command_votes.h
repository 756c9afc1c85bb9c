/*
 * What the slaves said about a commit, for people: a line each that is painted anew while it goes on, and at the end the reasons, rolled up.
 * 'votes' is the list in the daemon's lines: [{"name", "answer", "reason"}].
 */
#ifndef DRSFS_COMMAND_VOTES_H
#define DRSFS_COMMAND_VOTES_H

#include <jansson.h>
#include <stdio.h>

/* Lines on a terminal. */
struct votes_painter {
	FILE *out;    /* painted on if it is a terminal; else nothing is */
	size_t lines; /* that stand there now */
};

void votes_paint(struct votes_painter *, const json_t *votes);

/*
 * Who has not prepared and why, those with the same reason together:
 *
 *   web1, web2: nginx: [emerg] unknown directive "sever" in …
 *   db1: not reachable
 */
void votes_roll_up(FILE *, const json_t *votes);

#endif
