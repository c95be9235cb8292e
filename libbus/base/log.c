/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging: one line a call, formatted into a local buffer and written to stderr with one write(),
 * so that lines of several threads and processes do not mix. Settings are atomics because any
 * thread logs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "mobo/base.h"
#include "mobo/log.h"

enum { LINE_MAX_LEN = 1024 };

static const char *const level_names[] = {"error", "warning", "info", "debug", "trace"};

static char process_name[48] = "mobo";
static _Atomic int current_level = MOBO_LOG_INFO;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER; /* guards the four below */
static uint64_t (*clock_now)(void *arg);
static void *clock_arg;
static void (*log_sink)(void *arg, enum mobo_log_level level, uint64_t ts_ns, const char *line);
static void *log_sink_arg;
/* A sink that logs (a bus function that complains) must not come back to itself. */
static _Thread_local bool in_sink;

void mobo_log_init(const char *name)
{
	const char *env = getenv("MOBO_LOG");

	snprintf(process_name, sizeof(process_name), "%s", name);
	for (size_t i = 0; env && i < MOBO_ARRAY_LEN(level_names); i++) {
		if (strcasecmp(env, level_names[i]) == 0) {
			mobo_log_set_level((enum mobo_log_level)i);
		}
	}
}

void mobo_log_set_level(enum mobo_log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum mobo_log_level mobo_log_level(void)
{
	return (enum mobo_log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

void mobo_log_set_clock(uint64_t (*now_ns)(void *arg), void *arg)
{
	pthread_rwlock_wrlock(&lock);
	clock_now = now_ns;
	clock_arg = arg;
	pthread_rwlock_unlock(&lock);
}

void mobo_log_to(void (*sink)(void *arg, enum mobo_log_level level, uint64_t ts_ns,
			      const char *line),
		 void *arg)
{
	pthread_rwlock_wrlock(&lock);
	log_sink = sink;
	log_sink_arg = arg;
	pthread_rwlock_unlock(&lock);
}

static void write_stderr(enum mobo_log_level level, uint64_t ts_ns, const char *text)
{
	char line[LINE_MAX_LEN + 128];
	int n;

	n = snprintf(line, sizeof(line), "%5llu.%06llu %s %s: %s\n",
		     (unsigned long long)(ts_ns / 1000000000u),
		     (unsigned long long)(ts_ns / 1000u % 1000000u), process_name,
		     level_names[level], text);
	if (n > (int)sizeof(line) - 1) {
		n = (int)sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR) {
	}
}

void mobo_log(enum mobo_log_level level, const char *fmt, ...)
{
	int saved_errno = errno;
	char text[LINE_MAX_LEN];
	uint64_t ts_ns;
	va_list ap;

	if ((unsigned)level >= MOBO_ARRAY_LEN(level_names) || level > mobo_log_level()) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One line is one line, whatever a guest or a file name put into it. */
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f) {
			*c = ' ';
		}
	}
	pthread_rwlock_rdlock(&lock);
	ts_ns = clock_now ? clock_now(clock_arg) : mobo_monotonic_ns();
	write_stderr(level, ts_ns, text);
	if (log_sink && !in_sink) {
		in_sink = true;
		log_sink(log_sink_arg, level, ts_ns, text);
		in_sink = false;
	}
	pthread_rwlock_unlock(&lock);
	errno = saved_errno;
}
