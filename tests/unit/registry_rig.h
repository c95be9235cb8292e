/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real mobo-registry with machines that only pretend (fake_machine.c), in directories of their
 * own that are removed again; a client of it, and its verbs.
 */
#ifndef TESTS_UNIT_REGISTRY_RIG_H
#define TESTS_UNIT_REGISTRY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mobo/registry.h"
#include "mobo/v1/event.pb-c.h"
#include "mobo/v1/machine.pb-c.h"
#include "mobo/v1/registry.pb-c.h"

extern char base[64]; /* the XDG directories, all in one */
extern struct mobo_loop *loop;
extern struct mobo_bus *reg; /* the client */

/* Around a group of tests. */
int setup_group(void **state);
int teardown_group(void **state);

/* Around each: a first client starts a registry; it is ended, and has ended. */
int setup(void **state);
int teardown(void **state);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Fails the test with the error's text where r is an error. */
void must(int r, const struct mobo_error *err);
void connect_registry(void);
/* 0: there is none. */
int registry_pid(void);

/* -- What the client asks -- */

/* 0 or -errno. */
int call(const void *req, void *reply, struct mobo_error *err);
int create(const char *name, struct mobo_error *err);
int start(const char *name, struct mobo_error *err);
/* NULL: there is no such machine. The caller frees it. */
Mobo__V1__MachineInfo *get(const char *name);
/* pid, reason may be NULL. */
Mobo__V1__MachineState state_of(const char *name, int *pid, char reason[200]);
void wait_state(const char *name, Mobo__V1__MachineState s);
void power_off(const char *name);
void remove_machine(const char *name);

/* A file below base; fmt has one %s, for the name. */
bool there(const char *fmt, const char *name);

#endif
