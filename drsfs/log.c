#include "drsfs/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static enum log_level level = LOG_LEVEL_INFO;
static const char *role = "drsfs";
static int journal;

void log_init(const char *role_, enum log_level level_)
{
	role = role_;
	level = level_;
	journal = getenv("JOURNAL_STREAM") != NULL;
}

enum log_level log_level(void)
{
	return level;
}

void log_at(enum log_level at, const char *format, ...)
{
	if (at > level)
		return;
	char line[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (journal) {
		fprintf(stderr, "<%d>%s\n", (int)at, line);
		return;
	}
	struct timespec now;
	struct tm local;
	char clock[16];
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	const char *mark = at <= LOG_LEVEL_ERROR ? "error: " : at == LOG_LEVEL_WARNING ? "warning: " : "";
	fprintf(stderr, "%s.%03ld drsfs %s: %s%s\n", clock, now.tv_nsec / 1000000, role, mark, line);
}
