/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that every process uses. */
#ifndef MOBO_BASE_H
#define MOBO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOBO_ARRAY_LEN(a)		     (sizeof(a) / sizeof((a)[0]))
#define MOBO_MIN(a, b)			     ((a) < (b) ? (a) : (b))
#define MOBO_MAX(a, b)			     ((a) > (b) ? (a) : (b))
#define MOBO_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Our own bug: always on. Never over a value that a guest, a client or a file chooses. */
#define MOBO_ASSERT(cond)                                              \
	do {                                                           \
		if (__builtin_expect(!(cond), 0)) {                    \
			mobo_assert_failed(#cond, __FILE__, __LINE__); \
		}                                                      \
	} while (0)

_Noreturn void mobo_assert_failed(const char *cond, const char *file, int line);

/*
 * An error with words, filled by functions that say so: cause, object, next step in one sentence
 * each. `err` arguments may be NULL. mobo_error_set() returns -err_no for `return
 * mobo_error_set(...)`.
 */
struct mobo_error {
	int code; /* positive errno */
	char text[512];
};

int mobo_error_set(struct mobo_error *err, int err_no, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Virtual and monotonic times are nanoseconds everywhere. */
uint64_t mobo_monotonic_ns(void);

/*
 * Directories, created 0700 where they do not exist; XDG variables honoured, with fallbacks
 * (/tmp/mobo-UID for the runtime directory, $HOME or the passwd entry for the others). The result
 * is a static string per kind, or NULL with *err filled.
 */
enum mobo_dir {
	MOBO_DIR_RUNTIME, /* $XDG_RUNTIME_DIR/mobo: sockets */
	MOBO_DIR_DATA,	  /* $XDG_DATA_HOME/mobo: machines */
	MOBO_DIR_STATE,	  /* $XDG_STATE_HOME/mobo: the index */
	MOBO_DIR_CACHE,	  /* $XDG_CACHE_HOME/mobo */
	MOBO_DIR_CONFIG,
};
const char *mobo_dir(enum mobo_dir which, struct mobo_error *err);

/*
 * Path of one of Mobo's own executables ("mobo-registry", "mobo-dev-uart"): beside the running one
 * when that is in a build tree, else in the installed libexec directory; $MOBO_LIBEXEC overrides.
 * 0 or -ENOENT; path is PATH_MAX bytes.
 */
int mobo_find_executable(const char *name, char *path);
/* Likewise for data files: firmware built or installed with Mobo. */
int mobo_find_data(const char *name, char *path);

#endif
