#include "drsfs/error.h"

#include <errno.h>
#include <string.h>

int error_errno(int error)
{
	switch (-error) {
#define X(name, errno_, text) \
	case name:            \
		return errno_;
		DRS_ERRORS(X)
#undef X
	default:
		return -error;
	}
}

const char *error_text(int error)
{
	switch (-error) {
#define X(name, errno_, text) \
	case name:            \
		return text;
		DRS_ERRORS(X)
#undef X
	default:
		return strerror(-error);
	}
}
