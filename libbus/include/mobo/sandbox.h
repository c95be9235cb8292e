/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closes the sandbox of a process (BUS.md section 12): seccomp on all threads, no_new_privs,
 * non-dumpable, no core, every descriptor closed that the process does not name. Irreversible.
 */
#ifndef MOBO_SANDBOX_H
#define MOBO_SANDBOX_H

#include "mobo/base.h"

enum mobo_sandbox_flags {
	MOBO_SANDBOX_EXEC_MEMORY = 1 << 0, /* may map its own memfds executable (CPU engine) */
	MOBO_SANDBOX_THREADS = 1 << 1,	   /* may start threads after this */
};

/* 0 or -errno with err. Call once all files and sockets are open and all threads run. */
int mobo_sandbox_enter(unsigned flags, struct mobo_error *err);

#endif
