/*
 * A command of the administrator's (check, after), run beside the loop: nothing waits for it. It is a process group of its own, so that it can
 * be ended with all that it started; what it prints is read as it comes, however much it is, and the end of it kept. Everything happens on
 * the loop's thread; other children of this process are not disturbed, since only this one is waited for, by its pidfd.
 */
#ifndef SLAVE_HOOK_H
#define SLAVE_HOOK_H

#include "drsfs/drs.h"

struct event_base;

struct hook_options {
	const char *command;            /* for /bin/sh -c */
	const char *directory;          /* where it runs */
	const char *const *environment; /* "NAME=value", set beside what we have ourselves; NULL at the end */
	uint32_t timeout_ms;            /* then SIGTERM to the group, and SIGKILL a second later */
	bool alone;                     /* what it leaves in its group ends with it; else it may leave something behind, a server say */
};

struct hook_result {
	bool good;                         /* exit code 0, in time */
	char words[80];                    /* "ok", "exit code 3", "killed by signal 11 (Segmentation fault)", "not done within 30 s" */
	char output[DRS_REASON_BYTES_MAX]; /* the last lines of stdout and stderr; whole lines if one fits; control characters shown as '?' */
};

struct hook;
/* Errors: those of starting a process; 'done' is not called then. 'done' is called once, on the loop, and may free the hook. Texts are copied. */
int hook_start(struct event_base *, const struct hook_options *, void (*done)(void *user, const struct hook_result *), void *user,
	       struct hook **ret_hook);
/* If it still runs it is killed with its group, and 'done' is not called. NULL is fine. */
void hook_free(struct hook *);

#endif
