/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stub of the GDB remote serial protocol with a target of two CPUs and a page of memory, anew
 * for each test; what gdb sends it and gets back.
 */
#ifndef TESTS_UNIT_DEBUG_RSP_RIG_H
#define TESTS_UNIT_DEBUG_RSP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "debug_rsp.h"

enum { BASE = 0x1000, SIZE = 4096 };

extern struct rsp rsp;
/* What the target holds, and what it was asked. */
extern struct fake_target {
	struct rsp_regs regs[2];
	uint8_t memory[SIZE];
	struct rsp_point points[RSP_POINTS];
	unsigned n_points, n_point_calls, n_resumes, n_interrupts, n_detached;
	int stepped;
	bool alone, step_runs;
	int result; /* of what lets it go */
} t;

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int setup(void **state);
int teardown(void **state);
/* Bytes as they come from gdb. */
void feed(const char *bytes);
/* What was sent since the last call. */
const char *sent(void);
/* A packet of this content. */
void ask_bytes(const char *content, size_t n);
void ask(const char *content);
/* The content of the one reply that was sent, framed and acknowledged well. */
const char *reply(void);

#define EXPECT(question, answer)                      \
	do {                                          \
		ask(question);                        \
		assert_string_equal(reply(), answer); \
	} while (0)

#endif
