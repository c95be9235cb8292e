/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging. Library code never logs above debug; services log what an administrator must know
 * (error, warning), what a user may want (info), what a developer wants (debug, trace).
 * Lines carry the process' name ("uart0"), the level and the machine's virtual time; they go to
 * stderr and, once mobo_log_to() gave one, to a sink (the bus' log socket). Any thread.
 */
#ifndef MOBO_LOG_H
#define MOBO_LOG_H

#include <stdint.h>

enum mobo_log_level {
	MOBO_LOG_ERROR,
	MOBO_LOG_WARNING,
	MOBO_LOG_INFO,
	MOBO_LOG_DEBUG,
	MOBO_LOG_TRACE
};

void mobo_log_init(const char *name);
void mobo_log_set_level(enum mobo_log_level level); /* default info; $MOBO_LOG=debug at start */
enum mobo_log_level mobo_log_level(void);
/* Virtual time for the stamps; NULL: monotonic time. */
void mobo_log_set_clock(uint64_t (*now_ns)(void *arg), void *arg);
/* line: no newline, valid during the call. Must not block. */
void mobo_log_to(void (*sink)(void *arg, enum mobo_log_level level, uint64_t ts_ns,
			      const char *line),
		 void *arg);
void mobo_log(enum mobo_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define mobo_error(...)	  mobo_log(MOBO_LOG_ERROR, __VA_ARGS__)
#define mobo_warning(...) mobo_log(MOBO_LOG_WARNING, __VA_ARGS__)
#define mobo_info(...)	  mobo_log(MOBO_LOG_INFO, __VA_ARGS__)
#define mobo_debug(...)                                        \
	do {                                                   \
		if (mobo_log_level() >= MOBO_LOG_DEBUG) {      \
			mobo_log(MOBO_LOG_DEBUG, __VA_ARGS__); \
		}                                              \
	} while (0)

#endif
