/* SPDX-License-Identifier: Apache-2.0 */
/* One machine, entered anew by each test, and what machine code on it must come to. */
#ifndef TESTS_ASM_ONE_RIG_H
#define TESTS_ASM_ONE_RIG_H

#include "system_rig.h"

static struct rig rig;

static inline void expect(struct outcome o, int vector)
{
	assert_int_equal(o.vector, vector);
	if (vector == VEC_GP) {
		assert_int_equal(o.error, 0);
	}
}

static inline void enter_long(unsigned cpl)
{
	rig_tables(&rig, true);
	rig_enter(&rig, true, cpl);
}

static inline void enter_protected(unsigned cpl)
{
	rig_tables(&rig, false);
	rig_enter(&rig, false, cpl);
}

static inline int set_up(void **state)
{
	return rig_init(&rig);
}

static inline int tear_down(void **state)
{
	fake_board_finish(&rig.board);
	return 0;
}

#endif
