/* SPDX-License-Identifier: Apache-2.0 */
/* Two machines, one on each engine, for tests that run the same on both and compare. */
#ifndef TESTS_ASM_TWO_RIGS_H
#define TESTS_ASM_TWO_RIGS_H

#include "system_rig.h"
#include "translate/translate.h"

static struct rig rigs[2]; /* the interpreter's, the translator's */

/* 0, or -1: no memory. */
static inline int rigs_init(void)
{
	for (unsigned n = 0; n < 2; n++) {
		fake_board_engine = n ? &mobo_engine_translator : &mobo_engine_interpreter;
		if (rig_init(&rigs[n])) {
			return -1;
		}
	}
	return 0;
}

static inline int rigs_finish(void)
{
	for (unsigned n = 0; n < 2; n++) {
		fake_board_engine = rigs[n].engine;
		fake_board_finish(&rigs[n].board);
	}
	return 0;
}

/* Around a group of tests whose code is translated at once. */
static inline int rigs_set_up(void **state)
{
	(void)state;
	if (rigs_init()) {
		return -1;
	}
	rigs[1].v->translator->hot = 0;
	return 0;
}

static inline int rigs_tear_down(void **state)
{
	(void)state;
	return rigs_finish();
}

#endif
