#include "drsfs/fault.h"

#ifdef DRSFS_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether 'wanted', "NAME" or "NAME:COUNT", means this point, and at which pass of it. */
static bool means(const char *wanted, const char *name, unsigned *ret_pass)
{
	size_t size = strlen(name);
	if (strncmp(wanted, name, size) != 0)
		return false;
	*ret_pass = wanted[size] == ':' ? (unsigned)strtoul(wanted + size + 1, NULL, 10) : 1;
	return wanted[size] == ':' || wanted[size] == 0;
}

bool fault_due(const char *name)
{
	static atomic_uint passes; /* of the one point that is wanted */
	const char *wanted = getenv("DRSFS_FAULT");
	unsigned pass;
	return wanted && means(wanted, name, &pass) && atomic_fetch_add(&passes, 1) + 1 == pass;
}

void fault_die(const char *name)
{
	fprintf(stderr, "fault point %s: killed\n", name);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

#endif
