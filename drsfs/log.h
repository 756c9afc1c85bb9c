/*
 * Log lines to stderr, one a line, with the syslog priority in front ("<6>") when stderr is the journal
 * (JOURNAL_STREAM is set), with the time otherwise. Any thread may call. The level is set once at start.
 */
#ifndef DRSFS_LOG_H
#define DRSFS_LOG_H

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

void log_init(const char *role, enum log_level);
enum log_level log_level(void);
void log_at(enum log_level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_at(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                       \
	do {                                                 \
		if (log_level() >= LOG_LEVEL_DEBUG)          \
			log_at(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
