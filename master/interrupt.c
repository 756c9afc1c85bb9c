/* Reading /proc/PID/status, and the kernel's requests as they are (interrupt.h). */
#include "master/interrupt.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- signals, capabilities */

static bool mask_of(const char *line, const char *name, uint64_t *ret_mask)
{
	size_t size = strlen(name);
	return strncmp(line, name, size) == 0 && sscanf(line + size, " %" SCNx64, ret_mask) == 1;
}

bool process_capable(pid_t pid, unsigned capability)
{
	char path[64], line[256];
	uint64_t effective = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = pid > 0 ? fopen(path, "re") : NULL;
	while (file && fgets(line, sizeof(line), file) && !mask_of(line, "CapEff:", &effective))
		;
	if (file)
		fclose(file);
	return effective >> capability & 1;
}

bool interrupt_is_fatal(pid_t pid)
{
	char path[64], line[256];
	uint64_t own = 0, shared = 0, blocked = 0, ignored = 0, caught = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = pid > 0 ? fopen(path, "re") : NULL;
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file))
		(void)(mask_of(line, "SigPnd:", &own) || mask_of(line, "ShdPnd:", &shared) || mask_of(line, "SigBlk:", &blocked) ||
		       mask_of(line, "SigIgn:", &ignored) || mask_of(line, "SigCgt:", &caught));
	fclose(file);
	return (own | shared) & ~(blocked | ignored | caught);
}

/* --- requests */

uint64_t interrupt_unique(const struct fuse_buf *request)
{
	return ((const struct fuse_in_header *)request->mem)->unique;
}

pid_t interrupt_pid(const struct fuse_buf *request)
{
	return (pid_t)((const struct fuse_in_header *)request->mem)->pid;
}

uint64_t interrupt_target(const struct fuse_buf *request)
{
	const struct fuse_in_header *in = request->mem;
	const struct fuse_interrupt_in *interrupt = (const void *)(in + 1);
	return in->opcode == FUSE_INTERRUPT && request->size >= sizeof(*in) + sizeof(*interrupt) ? interrupt->unique : 0;
}

void request_unname(const struct fuse_buf *request)
{
	struct fuse_in_header *in = request->mem;
	const char *name = (const char *)(in + 1) + sizeof(struct fuse_create_in);
	if (in->opcode != FUSE_TMPFILE || request->size < sizeof(*in) + sizeof(struct fuse_create_in) + sizeof(NAME_OF_UNNAMED))
		return;
	if (strcmp(name, NAME_OF_UNNAMED) == 0)
		in->opcode = FUSE_CREATE;
}

void request_answer(int fd, uint64_t unique, int error)
{
	const struct fuse_out_header out = { .len = sizeof(out), .error = -error, .unique = unique };
	(void)!write(fd, &out, sizeof(out)); /* the kernel may have ended the mount */
}
