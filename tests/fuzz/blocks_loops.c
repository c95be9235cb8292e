/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops that walk through memory: pointers and indices that move by constants, some of them only in
 * some passes or in 32 bits, and operands that depend on them, also where pages end.
 */
#include "blocks_code.h"

struct walk {
	struct bl_gen *g;
	uint8_t step_of[16]; /* index into steps[] + 1 */
	int copy;	     /* a register that holds what another does, or -1 */
};

static const int16_t steps[] = {1,    2,  4,  8,  16, 32,  48,	3,   384,
				1000, -1, -2, -4, -8, -16, -24, -400};

/* ADD, SUB, INC, DEC or LEA of a pointer or the index. */
static void step(struct walk *w, unsigned reg)
{
	struct bl_gen *g = w->g;
	int by = steps[fz_below(&g->r, sizeof(steps) / sizeof(steps[0]))];
	bool wide = g->is_64 && !fz_chance(&g->r, reg == g->index ? 60 : 3);
	struct bl_code c = {.map = MAP_1, .op = 0x81, .w = wide, .imm_len = 4};

	if (w->step_of[reg]) { /* mostly the way it goes already */
		by = fz_chance(&g->r, 80) ? steps[w->step_of[reg] - 1] : by;
	}
	switch (fz_below(&g->r, 5)) {
	case 0:
		bl_put(g, "lea r, [r + step]",
		       (struct bl_code){.map = MAP_1, .op = 0x8d, .w = wide}, reg,
		       (struct bl_operand){.mem = true,
					   .reg = (uint8_t)reg,
					   .index = REG_NONE,
					   .disp = (uint32_t)by});
		break;
	case 1:
		c.imm = (uint64_t)(int64_t)-by;
		bl_put(g, "sub r, step", c, 5, bl_register(reg));
		break;
	case 2:
		bl_put(g, "inc, dec", (struct bl_code){.map = MAP_1, .op = 0xff, .w = wide}, by < 0,
		       bl_register(reg));
		break;
	default:
		c.imm = (uint64_t)(int64_t)by;
		bl_put(g, "add r, step", c, 0, bl_register(reg));
		break;
	}
}

static struct bl_operand place(struct walk *w)
{
	struct bl_gen *g = w->g;
	struct bl_operand o = {.mem = true,
			       .reg = g->ptr[fz_below(&g->r, 3)],
			       .index = REG_NONE,
			       .disp = fz_chance(&g->r, 50) ? 0 : fz_below(&g->r, 96) - 48};

	if (fz_chance(&g->r, 40)) {
		o.index = g->index;
		o.scale = (uint8_t)fz_below(&g->r, 4);
	} else if (w->copy >= 0 && fz_chance(&g->r, 50)) {
		o.index = (uint8_t)w->copy;
		o.scale = (uint8_t)fz_below(&g->r, 2);
	}
	return o;
}

static void access(struct walk *w)
{
	static const uint8_t alu[] = {0x00, 0x08, 0x10, 0x20, 0x28, 0x30, 0x38};
	struct bl_gen *g = w->g;
	bool wide = g->is_64 && fz_chance(&g->r, 50), byte = fz_chance(&g->r, 30);
	struct bl_operand o = place(w);
	unsigned reg = bl_pick(g), size_bit = byte ? 0 : 1;
	struct bl_code c = {.map = MAP_1, .w = wide && !byte, .byte = byte};

	switch (fz_below(&g->r, 8)) {
	case 0:
	case 1:
		c.op = (uint8_t)(0x8a | size_bit);
		bl_put(g, "mov r, [walk]", c, reg, o);
		break;
	case 2:
	case 3:
		c.op = (uint8_t)(0x88 | size_bit);
		bl_put(g, "mov [walk], r", c, reg, o);
		break;
	case 4:
		c.op = (uint8_t)(alu[fz_below(&g->r, 7)] | size_bit);
		bl_put(g, "alu [walk], r", c, reg, o);
		break;
	case 5:
		c.op = (uint8_t)(alu[fz_below(&g->r, 7)] | 2 | size_bit);
		bl_put(g, "alu r, [walk]", c, reg, o);
		break;
	case 6:
		bl_put(g, "movups x, [walk]", (struct bl_code){.map = MAP_0F, .op = 0x10},
		       fz_below(&g->r, 8), o);
		break;
	case 7:
		bl_put(g, "movups [walk], x", (struct bl_code){.map = MAP_0F, .op = 0x11},
		       fz_below(&g->r, 8), o);
		break;
	}
}

/* Another name for the index: in 32 bits, sign-extended, or a little further. */
static void copy(struct walk *w)
{
	struct bl_gen *g = w->g;
	unsigned reg = w->copy >= 0 ? (unsigned)w->copy : bl_pick(g);
	struct bl_operand further = {.mem = true,
				     .reg = g->index,
				     .index = REG_NONE,
				     .disp = fz_below(&g->r, 9) - 4};

	w->copy = (int)reg;
	switch (fz_below(&g->r, 4)) {
	case 0:
		bl_put(g, "mov r32, index", (struct bl_code){.map = MAP_1, .op = 0x8b}, reg,
		       bl_register(g->index));
		break;
	case 1:
		if (g->is_64) {
			bl_put(g, "movsxd r, index",
			       (struct bl_code){.map = MAP_1, .op = 0x63, .w = true}, reg,
			       bl_register(g->index));
			break;
		}
		/* fall through */
	case 2:
		bl_put(g, "lea r, [index + n]",
		       (struct bl_code){.map = MAP_1, .op = 0x8d, .w = g->is_64}, reg, further);
		break;
	case 3:
		bl_put(g, "mov r, index", (struct bl_code){.map = MAP_1, .op = 0x8b, .w = g->is_64},
		       reg, bl_register(g->index));
		break;
	}
}

void bl_walk(struct bl_gen *g)
{
	struct walk w = {.g = g, .copy = -1};
	unsigned n = 2 + fz_below(&g->r, 7);

	for (unsigned k = 0; k < 3; k++) {
		w.step_of[g->ptr[k]] =
			(uint8_t)(1 + fz_below(&g->r, sizeof(steps) / sizeof(steps[0])));
	}
	for (unsigned k = 0; k < n; k++) {
		unsigned what = fz_below(&g->r, 100);

		if (what < 45) {
			access(&w);
		} else if (what < 65) {
			step(&w, g->ptr[fz_below(&g->r, 3)]);
		} else if (what < 73 && g->reserved >> g->index & 1) {
			step(&w, g->index);
		} else if (what < 80) {
			copy(&w);
			g->reserved |= 1u << w.copy;
		} else if (what < 90) {
			bl_jump_ahead(g);
		} else {
			bl_simple(g);
		}
	}
	if (w.copy >= 0) {
		g->reserved &= ~(1u << w.copy);
	}
}

void bl_walk_end(struct bl_gen *g)
{
	for (unsigned k = 0; k < 3; k++) {
		bl_move_imm(g, g->ptr[k], g->ptr_at[k]);
	}
	bl_move_imm(g, g->index, fz_below(&g->r, 64));
}
