/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls and returns of the blocks fuzzer: nested and recursive ones, by registers and memory, to
 * the other address of the same code, under another key; returns to where nobody called, past
 * frames, in another order, and into code that was rewritten meanwhile.
 */
#include "blocks_code.h"

struct function {
	unsigned over; /* the jump over it */
	unsigned first;
};

static struct function begin(struct bl_gen *g)
{
	struct function f = {.over = g->p->n};
	struct bl_item *i = bl_add(g, "jmp over subroutine");

	bl_bytes(i, 5, "\xe9\0\0\0\0");
	bl_fix(i, BL_FIX_REL32, f.over);
	f.first = g->p->n;
	return f;
}

static void end(struct bl_gen *g, struct function f)
{
	g->p->item[f.over].target = (uint16_t)g->p->n;
}

static void put_ret(struct bl_gen *g)
{
	bl_bytes(bl_add(g, "ret"), 1, "\xc3");
}

/* The return address, and what lies above it, by so many addresses. */
static void drop(struct bl_gen *g, unsigned n)
{
	struct bl_item *i = bl_add(g, "lea rsp");

	bl_bytes(i, g->is_64 ? 4 : 3, g->is_64 ? "\x48\x8d\x64\x24" : "\x8d\x64\x24");
	bl_put8(i, n * (g->is_64 ? 8 : 4));
}

static void push_pop(struct bl_gen *g, bool push, unsigned reg)
{
	struct bl_item *i = bl_add(g, push ? "push r" : "pop r");

	if (reg & 8) {
		bl_put8(i, 0x41);
	}
	bl_put8(i, (push ? 0x50 : 0x58) | (reg & 7));
}

/* A register without REX that may be written, or -1. */
static int pick_low(struct bl_gen *g)
{
	unsigned reg = bl_pick(g) & 7;

	return g->reserved >> reg & 1 ? -1 : (int)reg;
}

/* MOV $item, %reg; returns the item that it is. */
static unsigned put_address(struct bl_gen *g, unsigned reg, unsigned to)
{
	unsigned n = g->p->n;
	struct bl_item *i = bl_add(g, "mov r, code");

	bl_put8(i, 0xb8 | reg);
	bl_put32(i, 0);
	bl_fix(i, BL_FIX_ABS_ITEM, to);
	return n;
}

static void put_call(struct bl_gen *g, unsigned to)
{
	unsigned form = fz_below(&g->r, 5);
	int reg = pick_low(g);
	struct bl_item *i;

	if (form < 3 || reg < 0) {
		i = bl_add(g, "call");
		bl_bytes(i, 5, "\xe8\0\0\0\0");
		bl_fix(i, BL_FIX_REL32, to);
		return;
	}
	i = &g->p->item[put_address(g, (unsigned)reg, to)];
	if (g->p->n < BL_ITEMS - 1 && fz_chance(&g->r, 20)) {
		i->addr = BL_ALIAS - BL_CODE;
	}
	if (form == 3) {
		i = bl_add(g, "call r");
		bl_bytes(i, 2, (char[]){'\xff', (char)(0xd0 | reg)});
	} else {
		i = bl_add(g, "push r; call [rsp]");
		bl_bytes(i, 4, (char[]){(char)(0x50 | reg), '\xff', 0x14, 0x24});
	}
}

static void some(struct bl_gen *g, unsigned most)
{
	unsigned n = fz_below(&g->r, most + 1);

	for (unsigned k = 0; k < n; k++) {
		bl_simple(g);
	}
	if (fz_chance(&g->r, 20)) {
		bl_jump_ahead(g);
	}
}

void bl_subroutine(struct bl_gen *g, unsigned depth)
{
	struct function f = begin(g);
	struct bl_item *i;

	bl_body(g, 1 + fz_below(&g->r, 10), depth + 1);
	bl_clamp(g, f.first);
	i = bl_add(g, "ret");
	bl_bytes(i, fz_chance(&g->r, 85) ? 1 : 3, fz_chance(&g->r, 85) ? "\xc3\0\0" : "\xc2\x08\0");
	end(g, f);
	if (g->n_functions < 8) {
		g->function[g->n_functions++] = f.first;
	}
}

/* Of a subroutine that is there. */
void bl_call(struct bl_gen *g)
{
	if (g->n_functions) {
		put_call(g, g->function[fz_below(&g->r, g->n_functions)]);
	}
}

/* Each calls the one before it, once or twice. */
static void nested(struct bl_gen *g)
{
	unsigned n = 2 + fz_below(&g->r, 4), inner = 0;

	for (unsigned k = 0; k < n; k++) {
		struct function f = begin(g);

		some(g, 3);
		if (k > 0) {
			put_call(g, inner);
			some(g, 3);
		}
		if (k > 0 && fz_chance(&g->r, 50)) {
			put_call(g, inner);
			some(g, 2);
		}
		bl_clamp(g, f.first);
		put_ret(g);
		end(g, f);
		inner = f.first;
	}
	put_call(g, inner);
	some(g, 3);
}

/* DEC of the counter, and a jump if it is not positive, or if it is not 0. Returns its item. */
static unsigned put_count(struct bl_gen *g, unsigned reg, bool out)
{
	unsigned n = g->p->n;
	struct bl_item *i = bl_add(g, out ? "dec; jle" : "dec; jnz");

	if (reg & 8) {
		bl_put8(i, 0x41);
	}
	bl_put8(i, 0xff);
	bl_put8(i, 0xc8 | (reg & 7));
	bl_bytes(i, 6, out ? "\x0f\x8e\0\0\0\0" : "\x0f\x85\0\0\0\0");
	bl_fix(i, BL_FIX_REL32, n);
	return n;
}

static void set_counter(struct bl_gen *g, unsigned reg, unsigned val)
{
	bl_move_imm(g, reg, val);
	g->p->item[g->p->n - 1].patch_at = 0;
}

static void recursion(struct bl_gen *g)
{
	int reg = bl_counter(g);
	struct function f;
	unsigned count;

	if (reg < 0) {
		return;
	}
	f = begin(g);
	g->reserved |= 1u << reg;
	count = put_count(g, (unsigned)reg, true);
	some(g, 3);
	put_call(g, f.first);
	some(g, 3);
	if (fz_chance(&g->r, 40)) {
		put_call(g, f.first);
		some(g, 2);
	}
	bl_clamp(g, count + 1);
	g->p->item[count].target = (uint16_t)g->p->n;
	put_ret(g);
	g->reserved &= ~(1u << reg);
	end(g, f);
	set_counter(g, (unsigned)reg, 1 + fz_below(&g->r, fz_chance(&g->r, 90) ? 40 : 300));
	put_call(g, f.first);
	some(g, 3);
}

/* So many calls without returns that the host's stack is about full, or was. */
static void fill(struct bl_gen *g)
{
	int reg = bl_counter(g);
	unsigned top;
	struct bl_item *i;

	if (reg < 0) {
		return;
	}
	bl_clamp(g, 0);
	set_counter(g, (unsigned)reg, 8150 + fz_below(&g->r, 60));
	top = g->p->n;
	i = bl_add(g, "call next");
	bl_bytes(i, 5, "\xe8\0\0\0\0");
	bl_fix(i, BL_FIX_REL32, top + 1);
	drop(g, 1);
	g->p->item[put_count(g, (unsigned)reg, false)].target = (uint16_t)top;
}

/* What returns otherwise than its caller expects. */
static void put_odd_return(struct bl_gen *g, unsigned form, unsigned reg)
{
	struct bl_item *i;

	switch (form) {
	case 0: /* where nobody called */
		put_address(g, reg, g->p->n + 2 + fz_below(&g->r, 8));
		i = bl_add(g, "mov [rsp], r");
		bl_bytes(i, g->is_64, "\x48");
		bl_bytes(i, 3, (char[]){'\x89', (char)(reg << 3 | 4), 0x24});
		break;
	case 1: drop(g, 1); break;
	case 2: /* in another order */
		push_pop(g, false, reg);
		i = bl_add(g, "xchg r, [rsp]");
		bl_bytes(i, g->is_64, "\x48");
		bl_bytes(i, 3, (char[]){'\x87', (char)(reg << 3 | 4), 0x24});
		push_pop(g, true, reg);
		break;
	case 3: /* from another address */
		push_pop(g, false, reg);
		push_pop(g, true, reg);
		break;
	case 4: /* not canonical */
		if (g->is_64) {
			bl_bytes(bl_add(g, "or byte [rsp + 7], 80"), 5, "\x80\x4c\x24\x07\x80");
		}
		break;
	case 5: /* an argument is dropped, or a frame */
		i = bl_add(g, "ret imm16");
		bl_bytes(i, 3, (char[]){'\xc2', g->is_64 ? 8 : 4, 0});
		return;
	}
	put_ret(g);
}

static void odd(struct bl_gen *g)
{
	unsigned form = fz_below(&g->r, 6);
	int reg = pick_low(g);
	struct function inner, outer;

	if (reg < 0) {
		return;
	}
	inner = begin(g);
	some(g, 2);
	bl_clamp(g, inner.first);
	put_odd_return(g, form, (unsigned)reg);
	end(g, inner);
	outer = begin(g);
	some(g, 2);
	put_call(g, inner.first);
	some(g, 2);
	bl_clamp(g, outer.first);
	put_ret(g);
	end(g, outer);
	if (form == 5) {
		push_pop(g, true, bl_any(g));
	}
	put_call(g, fz_chance(&g->r, 50) ? outer.first : inner.first);
	some(g, 3);
}

/* A function that changes the immediate behind its call, in a few rounds. */
static void rewritten(struct bl_gen *g)
{
	int reg = bl_counter(g);
	struct function f;
	struct bl_item *i;
	unsigned store, top;

	if (reg < 0 || g->reserved >> RDX & 1) {
		return;
	}
	g->reserved |= 1u << reg;
	f = begin(g);
	some(g, 2);
	store = g->p->n;
	i = bl_add(g, "mov/add [behind the call], dl");
	bl_put8(i, fz_chance(&g->r, 50) ? 0x88 : 0x00);
	bl_bytes(i, 5, "\x15\0\0\0\0");
	bl_fix(i, BL_FIX_RIP_ITEM, store);
	some(g, 2);
	bl_clamp(g, f.first);
	put_ret(g);
	end(g, f);
	bl_clamp(g, 0);
	set_counter(g, (unsigned)reg, 2 + fz_below(&g->r, 8));
	top = g->p->n;
	put_call(g, f.first);
	if (g->p->n < BL_ITEMS - 8) {
		g->p->item[store].target = (uint16_t)g->p->n;
		g->p->item[store].addr = 1;
	}
	bl_move_imm(g, RDX, (uint32_t)fz_next(&g->r));
	some(g, 3);
	bl_clamp(g, top);
	g->reserved &= ~(1u << reg);
	g->p->item[put_count(g, (unsigned)reg, false)].target = (uint16_t)top;
}

/* In a loop, a function that sets AC or clears it; behind the call, an access that it lets pass. */
static void other_key(struct bl_gen *g)
{
	int reg = bl_counter(g);
	struct function f;
	struct bl_operand o = bl_memory(g, 8);
	struct bl_item *i;
	unsigned top;

	if (reg < 0) {
		return;
	}
	g->reserved |= 1u << reg;
	f = begin(g);
	some(g, 2);
	bl_clamp(g, f.first);
	i = bl_add(g, "test r, 2; jz; stac; jmp; clac");
	bl_bytes(i, reg >> 3, "\x41");
	bl_bytes(i, 2, (char[]){'\xf7', (char)(0xc0 | (reg & 7))});
	bl_put32(i, 2);
	bl_bytes(i, 10, "\x74\x05\x0f\x01\xcb\xeb\x03\x0f\x01\xca");
	put_ret(g);
	end(g, f);
	bl_clamp(g, 0);
	set_counter(g, (unsigned)reg, 4 + fz_below(&g->r, 8));
	top = g->p->n;
	put_call(g, f.first);
	for (unsigned k = 0; k < BL_DATA_PAGES; k++) {
		if (g->p->page[k] == BL_PAGE_OTHER) {
			o = (struct bl_operand){.mem = true,
						.reg = REG_NONE,
						.index = REG_NONE,
						.disp = BL_DATA + k * 4096 + 64};
		}
	}
	bl_put(g, "mov r, rm", (struct bl_code){.map = MAP_1, .op = 0x8b}, bl_pick(g), o);
	some(g, 2);
	bl_clamp(g, top);
	g->reserved &= ~(1u << reg);
	g->p->item[put_count(g, (unsigned)reg, false)].target = (uint16_t)top;
}

void bl_calls(struct bl_gen *g)
{
	unsigned what = fz_below(&g->r, 100);

	if (g->p->n > BL_ITEMS - 80) {
		return;
	}
	if (what < 25) {
		nested(g);
	} else if (what < 45) {
		recursion(g);
	} else if (what < 50) {
		fill(g);
	} else if (what < 80) {
		odd(g);
	} else if (what < 90 || !g->kernel) {
		rewritten(g);
	} else {
		other_key(g);
	}
}
