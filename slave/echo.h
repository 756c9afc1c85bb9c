/*
 * Events for replicated changes (F5). The kernel tells inotify watchers of changes that somebody makes by a system call, so somebody makes them: a
 * thread of the daemon, the echo, on a writable clone of the mount that nobody else has, after the flip. What it does reaches the daemon as requests,
 * which are answered as if they were carried out; nothing changes by them.
 *
 * What a watcher of a directory, and of the file or directory itself, is told, by what was done on the master:
 *
 *   on the master                            in its directory                     on the node itself
 *   a new file                               CREATE, OPEN, CLOSE_WRITE            –
 *   a new directory, symlink, special file   CREATE                               –
 *   a new name of a file (link)              CREATE                               ATTRIB
 *   a file written, truncated                OPEN, MODIFY, CLOSE_WRITE            OPEN, MODIFY, CLOSE_WRITE, ATTRIB, DELETE_SELF
 *   a file put in another's place            MOVED_TO                             ATTRIB, DELETE_SELF of what was there
 *   chmod, chown, utimes, setxattr           ATTRIB                               ATTRIB
 *   rename, from here to there               MOVED_FROM, MOVED_TO (one cookie)    MOVE_SELF (not directories)
 *   a name removed, others are left          DELETE                               ATTRIB
 *   removed                                  DELETE                               ATTRIB (files), DELETE_SELF
 *
 * - Several changes of one thing within a version are one: what was created and removed is not told, what was written and renamed is renamed and
 *   written, what was written aside and renamed into place within one version has no MOVED_FROM.
 * - Content never changes behind a node id (nodes.h), so who watches a file that is written is told that it was replaced, and watches its name
 *   anew, as for files that editors replace.
 * - Who reads upon an event finds that version or a later one, never an older one.
 * - What is in a directory that is new, or that is removed with it, is not told one by one.
 * - Of directories only those that the kernel holds are concerned; others nobody watches.
 *
 * How readers are kept from the echo's doings: every request that the echo's thread makes is known by its thread id. Names that it works on lead
 * it, and only it, to ghosts: nodes that stand for nothing. Such an entry has timeout 0, so whoever finds it in the kernel's cache asks again and
 * gets what is there. Conversely the kernel must ask about these names when the echo comes along, so from the flip until the echo is done entries
 * that changed are given with timeout 0, too (visit_entry_timeout). A node that lives on is touched in one way only, its attributes are "set", and
 * the answer is what they are. Nodes that are no longer shown and that somebody still holds are told of their end under another name, in a hidden
 * directory that exists for the echo only.
 *
 * The echo and a flip take turns: a flip waits for one operation at most, a fraction of a millisecond. One that lags far behind skips what it has
 * not told, and says so in the log.
 *
 * The thread has a table of file descriptors of its own, without /dev/fuse: else a killed daemon could not end, its thread waiting for answers
 * from the connection that it keeps open itself. It also watches whether the mount is still there, since its clone would keep the file system alive.
 */
#ifndef SLAVE_ECHO_H
#define SLAVE_ECHO_H

#include <fuse3/fuse_lowlevel.h>

#include "slave/nodes.h"

struct echo;
struct slave_mount;
struct visit;

int echo_new(struct slave_mount *, struct echo **ret_echo);
void echo_free(struct echo *);
/* The mount is mounted and served. Needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH: -EPERM; or what else the kernel refuses. */
int echo_start(struct echo *);
/* The session has ended, so that nothing waits for an answer. NULL is fine, here and below. */
void echo_stop(struct echo *);
/* Around a flip. */
void echo_flip_begin(struct echo *);
void echo_flip_end(struct echo *);
/* In a flip: a file that changes has this name. The kernel is about to forget it. */
void echo_remember(struct echo *, ino_id, struct node_place);

/* Requests. Is it the echo who asks? Then these answer for it. */
bool echo_asks(const struct echo *, fuse_req_t);
int echo_look_up(struct visit *, node_id parent, const char *name, struct fuse_entry_param *ret_entry);
bool echo_make(struct echo *, node_id parent, const char *name, mode_t, struct fuse_entry_param *ret_entry); /* false: it is nothing that it makes */
bool echo_attributes(node_id, struct stat *ret_stat); /* false: not a ghost */

#endif
