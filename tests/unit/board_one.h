/* SPDX-License-Identifier: Apache-2.0 */
/* A board with one vCPU and a set of claims, anew for each test. */
#ifndef TESTS_UNIT_BOARD_ONE_H
#define TESTS_UNIT_BOARD_ONE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "board_rig.h"

static struct rig rig;
static struct rig_claims c;
static struct mobo_error err;

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static inline int setup(void **state)
{
	rig_start(&rig, 1);
	claims_init(&c);
	return 0;
}

static inline int teardown(void **state)
{
	rig_finish(&rig);
	return 0;
}

static inline struct vcpu *cpu(void)
{
	return rig.b->cpu[0].v;
}

static inline struct mem_run look(uint64_t gpa)
{
	struct mem_run run = board_mem_lookup(rig.b, gpa);

	assert_true(gpa >= run.gpa && (gpa - run.gpa < run.len));
	return run;
}

static inline uint8_t *r_at(uint64_t gpa)
{
	struct mem_run run = look(gpa);

	return run.r ? run.r + (gpa - run.gpa) : NULL;
}

static inline uint8_t *w_at(uint64_t gpa)
{
	struct mem_run run = look(gpa);

	return run.w ? run.w + (gpa - run.gpa) : NULL;
}

static inline int attach(void)
{
	return rig_attach(&rig, &c.attach, 0, &err);
}

static inline void changed_map(unsigned device)
{
	atomic_fetch_add(&rig.dev[device].ch->dev.map_gen, 1);
	atomic_fetch_or(&rig.page->kick.summary, 1u << device);
	board_irq_poll(cpu());
}

#endif
