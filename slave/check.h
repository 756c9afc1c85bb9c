/*
 * The administrator's commands on a slave, of the options check and after: 'check' accepts or refuses a version before anybody sees it (R4.2),
 * with its tree mounted read-only at STATE/prepared for as long as it runs; 'after' runs when a version has become visible. Both run beside
 * the loop; calls are made on the node's thread.
 */
#ifndef SLAVE_CHECK_H
#define SLAVE_CHECK_H

#include "drsfs/config.h"
#include "slave/hook.h"
#include "store/store.h"

/* For 'status': the command, and how it ended last. */
struct command_status {
	const char *command;       /* empty: none is configured */
	version_t version;         /* what it was last run for, or runs for now; 0: not yet */
	bool running;
	struct hook_result result; /* of the last run that ended; no words: none has */
	version_t result_version;  /* what that was about */
};

/* --- check */
struct check;
/* 'config' and 'store' outlive it. */
int check_new(struct event_base *, struct store *, const struct config *, struct check **ret_check);
/* Ends a check that runs. NULL is fine. */
void check_free(struct check *);
bool check_configured(const struct check *);
/*
 * Have 'version', whose records are all in the store, checked, while 'shown' is what others see. 0: 'done' is called later, with 0 (accepted) or
 * -DRS_EREFUSED and the reason in words. Errors (its tree cannot be mounted, the command cannot be started) give the reason at once. One at a time.
 */
int check_begin(struct check *, version_t version, version_t shown, char ret_reason[DRS_REASON_BYTES_MAX]);
void check_on_done(struct check *, void (*done)(void *user, int error, const char *reason), void *user);
/* Ends the check that runs, if one does; 'done' is not called. */
void check_cancel(struct check *);
void check_status(const struct check *, struct command_status *ret_status);
/* Take away the mount of a check whose daemon was killed. Best effort: what stays is tried again by the next check. */
void check_clear(const char *state_dir);

/* --- after */
struct after;
int after_new(struct event_base *, const struct config *, struct after **ret_after);
/* Ends the command if it runs. NULL is fine. */
void after_free(struct after *);
/* A version is visible. While the command runs for another one, only the newest waits. Does nothing if none is configured. */
void after_shown(struct after *, version_t);
void after_status(const struct after *, struct command_status *ret_status);

#endif
