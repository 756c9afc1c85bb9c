/*
 * Errors are negative ints: an errno, or one of the codes below, which say what errno has no word for.
 * error_errno() folds them to an errno at the edge to FUSE and to exit codes; error_text() gives words for people.
 */
#ifndef DRSFS_ERROR_H
#define DRSFS_ERROR_H

/*        name           errno        text for people */
#define DRS_ERRORS(X)                                                                                                          \
	X(DRS_ECORRUPT,  EIO,         "the store is damaged (run 'drsfs verify')")                                            \
	X(DRS_EFORMAT,   EINVAL,      "the store was written in a format that this program does not know")                    \
	X(DRS_ENOSTORE,  ENOENT,      "there is no store here")                                                               \
	X(DRS_ELOCKED,   EBUSY,       "another drsfs daemon uses this state directory")                                       \
	X(DRS_EROLE,     EINVAL,      "the state directory belongs to the other role (master or slave)")                      \
	X(DRS_EVOLUME,   EINVAL,      "the other side has another volume")                                                    \
	X(DRS_EHORIZON,  ESTALE,      "that version is no longer retained")                                                   \
	X(DRS_EDIGEST,   EIO,         "the replica's digest differs from the master's")                                        \
	X(DRS_EPROTOCOL, EPROTO,      "the other side sent something that the protocol does not allow")                       \
	X(DRS_EMAJOR,    EPROTO,      "the other side speaks another major version of the protocol (upgrade the older one)")  \
	X(DRS_ETOOBIG,   EMSGSIZE,    "larger than the limit")                                                                \
	X(DRS_EREFUSED,  ECONNREFUSED,"refused by the other side, or by a check")                                                        \
	X(DRS_ECONFLICT, EBUSY,       "the live tree has changed in the same places")                                         \
	X(DRS_EABORTED,  ECANCELED,   "the update was aborted")                                                               \
	X(DRS_ELINK,     ECONNRESET,  "the link was closed")                                                                  \
	X(DRS_ECONFIG,   EINVAL,      "the configuration is not valid")

enum drs_error {
	DRS_ERROR_FIRST = 0x10000, /* above every errno */
#define X(name, errno_, text) name,
	DRS_ERRORS(X)
#undef X
};

/* The errno (positive) that stands for 'error' (negative, either kind; 0 stays 0). */
int error_errno(int error);
/* One line for people; never NULL; static or thread-local storage. */
const char *error_text(int error);

#endif
