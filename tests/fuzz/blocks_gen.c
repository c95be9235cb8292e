/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the blocks fuzzer: straight code, conditional jumps ahead, loops of a few rounds,
 * subroutines, indirect branches, stores to the program itself; and the state it begins with.
 */
#include <string.h>

#include "blocks_code.h"
#include "cpu.h"
#include "execute/cpuid.h"

struct bl_item *bl_add(struct bl_gen *g, const char *name)
{
	struct bl_item *i;

	if (g->p->n >= BL_ITEMS - 1) {
		return NULL;
	}
	i = &g->p->item[g->p->n++];
	*i = (struct bl_item){.name = name};
	return i;
}

void bl_fix(struct bl_item *i, enum bl_fix kind, unsigned target)
{
	if (i) {
		i->fix = kind;
		i->fix_at = i->len - (kind == BL_FIX_REL8 ? 1 : 4);
		i->target = (uint16_t)target;
	}
}

/* -- branches -- */

void bl_jump_ahead(struct bl_gen *g)
{
	unsigned target = g->p->n + 2 + fz_below(&g->r, 8), form = fz_below(&g->r, 10);
	struct bl_item *i = bl_add(g, "jcc");
	uint8_t cc = (uint8_t)fz_below(&g->r, 16);

	if (form < 6) {
		bl_bytes(i, 6, "\x0f\x80\0\0\0\0");
		if (i) {
			i->bytes[1] |= cc;
			i->patch_at = fz_chance(&g->r, 50) ? 1 : 0;
		}
		bl_fix(i, BL_FIX_REL32, target);
	} else if (form < 8) {
		bl_bytes(i, 2, "\x70\0");
		if (i) {
			i->bytes[0] |= cc;
		}
		bl_fix(i, BL_FIX_REL8, target);
	} else if (form == 8) {
		bl_bytes(i, 2, "\xe3\0");
		bl_fix(i, BL_FIX_REL8, target);
	} else {
		bl_bytes(i, 5, "\xe9\0\0\0\0");
		bl_fix(i, BL_FIX_REL32, target);
	}
}

void bl_clamp(struct bl_gen *g, unsigned from)
{
	for (unsigned k = from; k < g->p->n; k++) {
		struct bl_item *i = &g->p->item[k];

		if (i->fix && i->fix != BL_FIX_RIP_DATA && i->target > g->p->n) {
			i->target = (uint16_t)g->p->n;
		}
	}
}

int bl_counter(struct bl_gen *g)
{
	static const uint8_t in_64[] = {RCX, R10, R12, R14, RDI}, in_32[] = {RCX, RDI, RSI};
	unsigned reg = g->is_64 ? in_64[fz_below(&g->r, 5)] : in_32[fz_below(&g->r, 3)];

	return g->reserved >> reg & 1 ? -1 : (int)reg;
}

/* A few rounds, by DEC and JNZ, by LOOP, or keeping flags by LEA and JCXZ. */
static void loop(struct bl_gen *g, unsigned depth)
{
	int reg = bl_counter(g);
	unsigned top, form = reg == RCX ? fz_below(&g->r, 3) : 0;
	bool walk = fz_chance(&g->r, 40);
	struct bl_item *i;

	if (reg < 0) {
		return;
	}
	bl_clamp(g, 0);
	bl_move_imm(g, (unsigned)reg, 1 + fz_below(&g->r, walk ? 300 : 6));
	if (g->p->n && g->p->item[g->p->n - 1].patch_at) {
		g->p->item[g->p->n - 1].patch_at = 0;
	}
	top = g->p->n;
	g->reserved |= 1u << reg;
	if (walk) {
		bl_walk(g);
	} else {
		bl_body(g, 2 + fz_below(&g->r, 12), depth + 1);
	}
	g->reserved &= ~(1u << reg);
	bl_clamp(g, top);
	if (form == 1) {
		i = bl_add(g, "loop");
		bl_bytes(i, 2, "\xe2\0");
		bl_fix(i, BL_FIX_REL8, top);
	} else if (form == 2) { /* lea -1(%rcx), %ecx; jrcxz over the jump */
		i = bl_add(g, "lea; jrcxz; jmp");
		bl_bytes(i, 10, "\x8d\x49\xff\xe3\x05\xe9\0\0\0\0");
		bl_fix(i, BL_FIX_REL32, top);
	} else {
		i = bl_add(g, "dec; jnz");
		if (reg & 8) {
			bl_bytes(i, 1, "\x41");
		}
		bl_bytes(i, 1, "\xff");
		bl_bytes(i, 1, (char[]){(char)(0xc8 | (reg & 7))});
		bl_bytes(i, 6, "\x0f\x85\0\0\0\0");
		bl_fix(i, BL_FIX_REL32, top);
	}
	if (walk) {
		bl_walk_end(g);
	}
}

/* An indirect jump ahead, also to the other address of the same code. */
static void indirect(struct bl_gen *g)
{
	unsigned target = g->p->n + 2 + fz_below(&g->r, 4), reg = bl_pick(g) & 7;
	struct bl_item *i;

	if (g->reserved >> reg & 1) {
		return;
	}
	if (fz_chance(&g->r, 40)) {
		i = bl_add(g, "push target; ret");
		bl_bytes(i, 5, "\x68\0\0\0\0");
		bl_fix(i, BL_FIX_ABS_ITEM, target);
		bl_bytes(i, 1, "\xc3");
		return;
	}
	i = bl_add(g, "mov r, target");
	bl_bytes(i, 1, (char[]){(char)(0xb8 | reg)});
	bl_bytes(i, 4, "\0\0\0\0");
	bl_fix(i, BL_FIX_ABS_ITEM, target);
	if (i && fz_chance(&g->r, 15)) {
		i->addr = BL_ALIAS - BL_CODE;
	}
	i = bl_add(g, "jmp r");
	bl_bytes(i, 2, (char[]){'\xff', (char)(0xe0 | reg)});
}

/* -- stores to code -- */

static void modify(struct bl_gen *g)
{
	unsigned n = g->p->n, target = n, byte = 0;
	struct bl_item *i;

	for (unsigned k = 0; k < 8; k++) { /* one that can be changed, before or behind */
		unsigned other = fz_below(&g->r, n + 1);

		if (other < n && g->p->item[other].patch_at) {
			target = other;
			byte = g->p->item[other].patch_at;
		}
	}
	if (target == n || fz_chance(&g->r, 25)) { /* beside code: the byte that is there */
		target = fz_below(&g->r, n + 4);
		byte = 0;
		i = bl_add(g, "and byte [code], -1");
		bl_bytes(i, 6, "\x80\x25\0\0\0\0");
		bl_fix(i, BL_FIX_RIP_ITEM, target);
		bl_bytes(i, 1, "\xff");
		return;
	}
	i = bl_add(g, "mov byte [code], imm");
	bl_bytes(i, 6, "\xc6\x05\0\0\0\0");
	bl_fix(i, BL_FIX_RIP_ITEM, target);
	if (i) {
		char val = (char)fz_next(&g->r);

		if (g->p->item[target].bytes[0] == 0x0f && byte == 1) {
			val = (char)(0x80 | (val & 15));
		}
		i->addr = byte;
		bl_bytes(i, 1, &val);
	}
}

/* Changes one of the next instructions: an immediate that the store leads. */
static void modify_next(struct bl_gen *g)
{
	struct bl_item *i = bl_add(g, "mov byte [next], imm");
	char val = (char)fz_next(&g->r);

	bl_bytes(i, 6, "\xc6\x05\0\0\0\0");
	bl_fix(i, BL_FIX_RIP_ITEM, g->p->n + fz_below(&g->r, 2));
	bl_bytes(i, 1, &val);
	if (i) {
		i->addr = 1;
	}
	bl_move_imm(g, RDX, (uint32_t)fz_next(&g->r));
	bl_move_imm(g, RDX, (uint32_t)fz_next(&g->r));
}

void bl_body(struct bl_gen *g, unsigned n, unsigned depth)
{
	for (unsigned k = 0; k < n && g->p->n < BL_ITEMS - 8; k++) {
		unsigned what = fz_below(&g->r, 100);

		if (depth < 2 && fz_chance(&g->r, g->percent_calls)) {
			bl_calls(g);
		} else if (what < 12) {
			bl_jump_ahead(g);
		} else if (what < 17 && depth < 3) {
			loop(g, depth);
		} else if (what < 19 && depth < 2) {
			bl_subroutine(g, depth);
		} else if (what < 22) {
			bl_call(g);
		} else if (what < 24) {
			indirect(g);
		} else if (what == 24 && !(g->reserved >> RDX & 1)) {
			fz_chance(&g->r, 50) ? modify(g) : modify_next(g);
		} else {
			bl_simple(g);
		}
	}
}

/* -- the program -- */

/* In a page: often where what lies around it is over the page's end. */
static unsigned offset(struct bl_gen *g)
{
	if (fz_chance(&g->r, 40)) {
		return 4096 - (fz_chance(&g->r, 80) ? 16 : 4) * fz_below(&g->r, 12);
	}
	return fz_below(&g->r, 256) * 16;
}

static void choose_registers(struct bl_gen *g)
{
	static const uint8_t in_64[] = {RBX, RBP, RSI, R8, R9, R11, R13, R15};

	g->reserved = 1 << RSP;
	for (unsigned k = 0; k < 3; k++) {
		g->ptr[k] = g->is_64 ? in_64[fz_below(&g->r, 8)] : fz_chance(&g->r, 50) ? RBX : RBP;
		g->reserved |= 1u << g->ptr[k];
	}
	g->index = g->is_64 ? R12 : RSI;
	g->reserved |= fz_chance(&g->r, 85) ? 1u << g->index : 0;
	for (unsigned k = 0; k < 3; k++) {
		g->ptr_at[k] = BL_DATA + fz_below(&g->r, BL_DATA_PAGES) * 4096 + offset(g);
		for (unsigned other = 0; other < k; other++) {
			if (g->ptr[other] == g->ptr[k]) {
				g->ptr_at[k] = g->ptr_at[other];
			}
		}
	}
}

static void choose_pages(struct bl_gen *g)
{
	for (unsigned k = 0; k < BL_DATA_PAGES; k++) {
		unsigned what = fz_below(&g->r, 100);

		g->p->page[k] = what < 80 || k == 0 ? BL_PAGE_RW
				: what < 87	    ? BL_PAGE_RO
				: what < 92	    ? BL_PAGE_ABSENT
				: what < 97	    ? BL_PAGE_OTHER
						    : BL_PAGE_CODE;
	}
}

enum { FX_FCW = 0, FX_MXCSR = 24, FX_MXCSR_MASK = 28 };

static void make_state(struct bl_gen *g, struct bl_state *s)
{
	uint32_t mxcsr;

	for (unsigned k = 0; k < 16; k++) {
		s->gpr[k] = fz_integer(&g->r);
		if (!g->is_64) {
			s->gpr[k] = k < 8 ? (uint32_t)s->gpr[k] : 0;
		}
	}
	for (unsigned k = 0; k < 3; k++) {
		s->gpr[g->ptr[k]] = g->ptr_at[k];
	}
	s->gpr[g->index] = fz_below(&g->r, 64);
	s->gpr[RSP] = BL_STACK + BL_STACK_PAGES * 4096 / 2 + 8 * fz_below(&g->r, 64);
	s->rflags = 0x202 | (fz_next(&g->r) & FL_ARITH);
	s->rflags |= g->kernel && fz_chance(&g->r, 30) ? FL_AC : 0;
	s->fs_base = s->gs_base = 0;
	if (g->is_64 && fz_chance(&g->r, 50)) {
		s->fs_base = fz_below(&g->r, 256);
		s->gs_base = fz_below(&g->r, 256);
	}
	fz_fx_image(&g->r, s->fx);
	if (fz_chance(&g->r, 90)) {
		memcpy(&mxcsr, s->fx + FX_MXCSR, 4);
		mxcsr |= 0x1f80;
		memcpy(s->fx + FX_MXCSR, &mxcsr, 4);
		s->fx[FX_FCW] |= 0x3f;
		s->fx[2] &= 0x7f; /* no pending exception */
	}
	memset(s->ymmh, 0, sizeof(s->ymmh));
	if (fz_chance(&g->r, 85)) {
		fz_fill(&g->r, s->ymmh, sizeof(s->ymmh));
	}
	memset(&s->zmm, 0, sizeof(s->zmm));
	if (cpuid_has(FEAT_AVX512) && fz_chance(&g->r, 70)) {
		fz_fill(&g->r, s->zmm.zmmh[0], sizeof(s->zmm.zmmh));
		fz_fill(&g->r, s->zmm.zmm16[0], sizeof(s->zmm.zmm16));
		for (unsigned k = 0; k < 8; k++) {
			s->zmm.opmask[k] = fz_integer(&g->r);
		}
	}
}

void bl_generate(struct bl_program *p, uint64_t seed, int kind)
{
	struct bl_gen g = {.p = p};
	struct bl_item *end;
	uint32_t start;

	g.r.s = seed * 0xd1342543de82ef95;
	g.r.s = fz_next(&g.r);
	p->seed = seed;
	p->n = 0;
	p->kind = (enum bl_kind)fz_below(&g.r, BL_KINDS);
	if (kind >= 0) {
		p->kind = (enum bl_kind)kind;
	}
	g.is_64 = p->kind != BL_USER_32;
	g.kernel = p->kind == BL_KERNEL_64;
	p->smap = fz_chance(&g.r, 60);
	p->keys = fz_chance(&g.r, 25);
	p->hot = fz_chance(&g.r, 70) ? 0 : 1 + fz_below(&g.r, 4);
	p->chaos = fz_chance(&g.r, 25) ? fz_next(&g.r) | 1 : 0;
	g.percent_calls = fz_chance(&g.r, 70) ? 2 : 20;
	p->n_runs = 1 + fz_below(&g.r, BL_RUNS);
	choose_registers(&g);
	choose_pages(&g);
	start = fz_chance(&g.r, 50) ? 4096 - fz_below(&g.r, 700) : fz_below(&g.r, 4096);
	p->start = BL_CODE + start;
	bl_body(&g, 10 + fz_below(&g.r, fz_chance(&g.r, 50) ? 30 : 130), 0);
	bl_clamp(&g, 0);
	end = &p->item[p->n++];
	*end = (struct bl_item){.name = "end", .bytes = {0xcd, BL_END_VECTOR}, .len = 2};
	for (unsigned k = 0; k < BL_RUNS; k++) {
		make_state(&g, &p->state[k]);
	}
}

/* -- addresses -- */

static void fill_in(const struct bl_program *p, const struct bl_item *i, uint8_t *code)
{
	const struct bl_item *to = &p->item[i->target < p->n ? i->target : p->n - 1u];
	uint32_t end = i->linear + i->len, val = to->linear - end;
	bool absolute = p->kind == BL_USER_32;

	switch ((enum bl_fix)i->fix) {
	case BL_FIX_NONE: return;
	case BL_FIX_REL8:
		val = to->linear - (i->linear + i->fix_at + 1);
		code[i->fix_at] = (int32_t)val == (int8_t)val ? (uint8_t)val : 0;
		return;
	case BL_FIX_REL32: val = to->linear - (i->linear + i->fix_at + 4); break;
	case BL_FIX_RIP_ITEM: val = to->linear + i->addr - (absolute ? 0 : end); break;
	case BL_FIX_ABS_ITEM: val = to->linear + i->addr; break;
	case BL_FIX_RIP_DATA: val = i->addr - end; break;
	}
	memcpy(code + i->fix_at, &val, 4);
}

void bl_layout(struct bl_program *p)
{
	uint32_t at = p->start;

	memset(p->code, 0xcc, sizeof(p->code));
	for (unsigned k = 0; k < p->n; k++) {
		p->item[k].linear = at;
		at += p->item[k].len;
	}
	for (unsigned k = 0; k < p->n; k++) {
		struct bl_item *i = &p->item[k];

		if (i->linear + i->len - BL_CODE <= sizeof(p->code)) {
			memcpy(p->code + (i->linear - BL_CODE), i->bytes, i->len);
			fill_in(p, i, p->code + (i->linear - BL_CODE));
		}
	}
}

void bl_remove(struct bl_program *p, unsigned k)
{
	p->item[k].len = 0;
	p->item[k].fix = BL_FIX_NONE;
}

void bl_print(FILE *f, const struct bl_program *p)
{
	static const char *const kinds[] = {"user 64", "kernel 64", "user 32"};
	static const char *const pages[] = {"rw", "ro", "absent", "other", "code"};

	fprintf(f, "  %s, %u runs, hot %u, chaos %llx, smap %u, keys %u, pages", kinds[p->kind],
		p->n_runs, p->hot, (unsigned long long)p->chaos, p->smap, p->keys);
	for (unsigned k = 0; k < BL_DATA_PAGES; k++) {
		fprintf(f, " %s", pages[p->page[k]]);
	}
	fprintf(f, "\n");
	for (unsigned k = 0; k < p->n; k++) {
		const struct bl_item *i = &p->item[k];

		if (i->len) {
			fprintf(f, "  %x:", i->linear);
			for (unsigned b = 0; b < i->len; b++) {
				fprintf(f, " %02x", p->code[i->linear - BL_CODE + b]);
			}
			fprintf(f, "%*s%s\n", 3 * (12 - (i->len < 12 ? i->len : 11)), "", i->name);
		}
	}
}
