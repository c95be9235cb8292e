/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's side of the encodings fuzzer: a machine in long mode on the fake board, with
 * page tables, segments and interrupt gates like those a Linux process has. A case runs at CPL 3
 * and ends in an exception: the landing's HLT, which a user may not, or a fault of its own. Each
 * gate leads to a HLT at CPL 0, which makes the engine return.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "encodings.h"
#include "engine.h"
#include "execute/cpuid.h"
#include "execute/execute.h"
#include "execute/fpu_state.h"
#include "execute/simd.h"
#include "fake_board.h"
#include "translate/translate.h"

struct fz_guest {
	struct board board;
	struct vcpu *v;
	const struct mobo_engine_ops *engine;
	uint32_t mode;
	uint8_t pristine[FZ_DATA_LEN];
	uint8_t start[offsetof(struct vcpu, n_insns)]; /* registers before a case */
	uint64_t next_table;
};

/* Guest-physical places. */
enum {
	RAM_SIZE = 8 << 20,
	PA_TABLES = 0x10000,
	PA_CODE = 0x100000,
	PA_DATA = 0x200000,
	PA_CTX = 0x300000,
	PA_LOW = 0x301000,
	PA_SYSTEM = 0x400000, /* IDT, GDT, TSS, handlers, stack: a page each */
};

#define SYSTEM 0xffffff0000000000ull
enum {
	SYS_IDT = 0,
	SYS_GDT = 0x1000,
	SYS_TSS = 0x2000,
	SYS_HANDLERS = 0x3000,
	SYS_STACK = 0x4000,
	SYS_LEN = 0x5000,
	SYS_STACK_TOP = SYS_LEN,
	HANDLER_LEN = 16,
	TSS_SELECTOR = 0x40
};

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX	    (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

static void put64(struct fz_guest *g, uint64_t gpa, uint64_t val)
{
	memcpy(g->board.ram + gpa, &val, 8);
}

static uint64_t get64(struct fz_guest *g, uint64_t gpa)
{
	uint64_t val;

	memcpy(&val, g->board.ram + gpa, 8);
	return val;
}

static void map_page(struct fz_guest *g, uint64_t lin, uint64_t gpa, uint64_t flags)
{
	uint64_t table = PA_TABLES;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t at = table + (lin >> shift & 511) * 8;

		if (!(get64(g, at) & PTE_P)) {
			put64(g, at, g->next_table | PTE_P | PTE_W | PTE_U | PTE_A);
			g->next_table += 4096;
		}
		table = get64(g, at) & PTE_ADDRESS;
	}
	put64(g, table + (lin >> 12 & 511) * 8, gpa | flags | PTE_P | PTE_A | PTE_D);
}

static void map_range(struct fz_guest *g, uint64_t lin, uint64_t gpa, uint64_t len, uint64_t flags)
{
	for (uint64_t off = 0; off < len; off += 4096) {
		map_page(g, lin + off, gpa + off, flags);
	}
}

/* Linux's GDT, as far as a program can tell. */
static void build_system(struct fz_guest *g)
{
	static const uint64_t gdt[] = {0,
				       0x00cf9b000000ffff,
				       0x00af9b000000ffff,
				       0x00cf93000000ffff,
				       0x00cffb000000ffff,
				       0x00cff3000000ffff,
				       0x00affb000000ffff,
				       0};
	uint64_t tss = SYSTEM + SYS_TSS;

	memcpy(g->board.ram + PA_SYSTEM + SYS_GDT, gdt, sizeof(gdt));
	put64(g, PA_SYSTEM + SYS_GDT + TSS_SELECTOR,
	      0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	put64(g, PA_SYSTEM + SYS_GDT + TSS_SELECTOR + 8, tss >> 32);
	put64(g, PA_SYSTEM + SYS_TSS + 4, SYSTEM + SYS_STACK_TOP);
	g->board.ram[PA_SYSTEM + SYS_TSS + 0x66] = 0x68; /* no I/O permission bitmap */
	for (unsigned n = 0; n < 256; n++) {
		uint64_t handler = SYSTEM + SYS_HANDLERS + n * HANDLER_LEN;
		uint64_t type = n == VEC_BP || n == VEC_OF ? 0xee : 0x8e;

		put64(g, PA_SYSTEM + n * 16,
		      (handler & 0xffff) | 0x10 << 16 | type << 40 |
			      (handler >> 16 & 0xffff) << 48);
		put64(g, PA_SYSTEM + n * 16 + 8, handler >> 32);
		g->board.ram[PA_SYSTEM + SYS_HANDLERS + n * HANDLER_LEN] = 0xf4;
	}
}

static void set_segment(struct segment *s, uint16_t selector, uint32_t attr)
{
	*s = (struct segment){.limit = 0xffffffff, .attr = attr, .selector = selector};
	if (!(selector & ~3)) {
		s->attr |= SEG_UNUSABLE;
	}
}

static void set_user_segments(struct vcpu *v, uint32_t mode)
{
	uint32_t data = SEG_P | SEG_S | 3 << SEG_DPL_SHIFT | SEG_DB | SEG_G | 3;
	uint32_t code = SEG_P | SEG_S | 3 << SEG_DPL_SHIFT | SEG_G | 0xb;
	uint16_t flat = mode == 32 ? FZ_SS : 0;

	set_segment(&v->seg[SEG_CS], mode == 32 ? FZ_CS32 : FZ_CS64,
		    code | (mode == 32 ? SEG_DB : SEG_L));
	set_segment(&v->seg[SEG_SS], FZ_SS, data);
	set_segment(&v->seg[SEG_DS], flat, data);
	set_segment(&v->seg[SEG_ES], flat, data);
	set_segment(&v->seg[SEG_FS], 0, data);
	set_segment(&v->seg[SEG_GS], 0, data);
	v->seg[SEG_TR] = (struct segment){SYSTEM + SYS_TSS, 0x67, SEG_P | 0xb, TSS_SELECTOR};
	v->seg[SEG_LDTR] = (struct segment){0, 0, SEG_UNUSABLE, 0};
}

static void set_long_mode(struct vcpu *v, uint32_t mode)
{
	v->cr0 = CR0_PG | CR0_AM | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
	v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE |
		 CR4_UMIP | CR4_DE;
	v->cr3 = PA_TABLES;
	v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = fz_components();
	v->gdtr = (struct desc_table){SYSTEM + SYS_GDT, 127};
	v->idtr = (struct desc_table){SYSTEM + SYS_IDT, 4095};
	v->cpl = 3;
	v->rflags = FL_1 | FL_IF;
	set_user_segments(v, mode);
	vcpu_update_mode(v);
	mmu_flush_all(v);
	mmu_update_context(v);
	vcpu_update_req_mask(v);
}

struct fz_guest *fz_guest_create(uint32_t mode, const struct mobo_engine_ops *engine)
{
	struct fz_guest *g = calloc(1, sizeof(*g));
	struct fz_ctx ctx = {.landing = FZ_LOW};

	if (!g || fake_board_init(&g->board, RAM_SIZE)) {
		free(g);
		return NULL;
	}
	g->mode = mode;
	g->engine = fake_board_engine = engine;
	g->next_table = PA_TABLES + 4096;
	map_range(g, FZ_CODE, PA_CODE, FZ_CODE_LEN, PTE_U);
	map_range(g, FZ_DATA, PA_DATA, FZ_RW_LEN, PTE_U | PTE_W | PTE_NX);
	map_range(g, FZ_DATA + FZ_RW_LEN, PA_DATA + FZ_RW_LEN, FZ_DATA_LEN - FZ_RW_LEN,
		  PTE_U | PTE_NX);
	map_range(g, FZ_CTX, PA_CTX, 4096, PTE_U | PTE_W | PTE_NX);
	map_range(g, FZ_LOW, PA_LOW, 4096, PTE_U);
	map_range(g, SYSTEM, PA_SYSTEM, SYS_LEN, PTE_W);
	build_system(g);
	fz_pristine(g->pristine);
	memcpy(g->board.ram + PA_DATA, g->pristine, FZ_DATA_LEN);
	memcpy(g->board.ram + PA_CTX, &ctx, sizeof(ctx));
	g->board.ram[PA_LOW] = 0xf4;
	g->v = fake_board_add_vcpu(&g->board);
	if (!g->v) {
		fz_guest_destroy(g);
		return NULL;
	}
	if (g->v->translator) {
		g->v->translator->hot = 0;
	}
	set_long_mode(g->v, mode);
	memcpy(g->start, g->v, sizeof(g->start));
	return g;
}

void fz_guest_destroy(struct fz_guest *g)
{
	fake_board_finish(&g->board);
	free(g);
}

void fz_guest_code(struct fz_guest *g, const struct fz_batch *b)
{
	for (unsigned k = 0; k < FZ_BATCH; k++) {
		memcpy(g->board.ram + PA_CODE + k * FZ_SLOT, b->cases[k].code, FZ_SLOT);
	}
	g->engine->code_written(g->v, PA_CODE, FZ_CODE_LEN);
}

static void load_case(struct fz_guest *g, const struct fz_case *c, unsigned slot)
{
	struct vcpu *v = g->v;
	uint32_t flat = SEG_P | SEG_S | 3 << SEG_DPL_SHIFT | SEG_DB | SEG_G | 3;

	memcpy(v, g->start, sizeof(g->start));
	memcpy(v->gpr, c->in.gpr, sizeof(c->in.gpr));
	v->rip = FZ_CODE + slot * FZ_SLOT + FZ_INSN;
	v->rflags = (uint32_t)(c->in.rflags & ~(uint64_t)FL_ARITH);
	v->aflags = aflags_from_rflags(c->in.rflags);
	for (unsigned s = SEG_FS; s <= SEG_GS; s++) {
		set_segment(&v->seg[s], c->in.seg[s], flat);
	}
	v->seg[SEG_FS].base = v->seg_base[SEG_FS] = c->in.fs_base;
	v->seg[SEG_GS].base = v->seg_base[SEG_GS] = c->in.gs_base;
	memcpy(&v->fx, c->in.fx, FZ_FX_LEN);
	memcpy(v->ymmh, c->in.ymmh, FZ_YMMH_LEN);
	memcpy(v->zmmh, c->in.zmm.zmmh, sizeof(v->zmmh));
	memcpy(v->zmm16, c->in.zmm.zmm16, sizeof(v->zmm16));
	memcpy(v->opmask, c->in.zmm.opmask, sizeof(v->opmask));
	v->zmm_used = fpu_zmm_in_use(v) || (cpuid_has(FEAT_AVX512) && c->id & 1);
	v->fx.mxcsr_mask = MXCSR_VALID;
	memcpy(g->board.ram + PA_DATA + c->patch_off, c->patch, c->patch_len);
}

/* Taken from what the exception pushed: [error code] RIP CS RFLAGS RSP SS. */
static void store_result(struct fz_guest *g, struct fz_result *r)
{
	struct vcpu *v = g->v;
	uint64_t at = v->gpr[RSP] - SYSTEM + PA_SYSTEM;
	uint64_t base = SYSTEM + SYS_HANDLERS;
	bool has_error = SYSTEM + SYS_STACK_TOP - v->gpr[RSP] == 48;

	memcpy(r->regs.gpr, v->gpr, sizeof(r->regs.gpr));
	for (unsigned s = 0; s < N_SEG; s++) {
		r->regs.seg[s] = v->seg[s].selector;
	}
	r->regs.fs_base = v->seg[SEG_FS].base;
	r->regs.gs_base = v->seg[SEG_GS].base;
	memcpy(r->regs.fx, &v->fx, FZ_FX_LEN);
	memcpy(r->regs.ymmh, v->ymmh, FZ_YMMH_LEN);
	memcpy(r->regs.zmm.zmmh, v->zmmh, sizeof(v->zmmh));
	memcpy(r->regs.zmm.zmm16, v->zmm16, sizeof(v->zmm16));
	memcpy(r->regs.zmm.opmask, v->opmask, sizeof(v->opmask));
	if (v->rip - base >= 256 * HANDLER_LEN || SYSTEM + SYS_STACK_TOP - v->gpr[RSP] > 48) {
		r->fault = true;
		r->trap = 255; /* something of our own went wrong */
		r->regs.rip = v->rip;
		return;
	}
	r->trap = (uint32_t)(v->rip - base) / HANDLER_LEN;
	r->error = has_error ? (uint32_t)get64(g, at) : 0;
	at += has_error ? 8 : 0;
	r->regs.rip = get64(g, at);
	r->regs.rflags = get64(g, at + 16);
	r->regs.gpr[RSP] = get64(g, at + 24);
	r->regs.seg[SEG_SS] = (uint16_t)get64(g, at + 32);
	r->cr2 = v->cr2;
	r->fault = !(r->trap == VEC_GP && r->regs.rip == FZ_LOW);
	if (!r->fault) {
		r->trap = r->error = 0;
		r->regs.rip = (uint32_t)get64(g, PA_CTX + offsetof(struct fz_ctx, pad_rip));
		r->regs.rflags &= ~(uint64_t)FL_RF;
	}
	r->regs.seg[SEG_CS] = 0;
}

/*
 * What the translator made of the instruction in `slot`: regions behind the first `from` are new.
 */
static void find_form(struct fz_guest *g, unsigned slot, uint32_t from, struct fz_result *r)
{
	const struct translator *x = g->v->translator;
	uint64_t gpa = PA_CODE + slot * FZ_SLOT + FZ_INSN;
	bool flushed = x && x->n_regions < from; /* for far branches to many modes */

	r->translated = flushed;
	r->form = FORM_END;
	r->unspecified = 0;
	for (uint32_t n = flushed ? 0 : from; x && n < x->n_regions; n++) {
		const struct region *region = x->regions[n];

		if ((region->gpa | region->at[0]) == gpa) {
			r->translated = true;
			r->form = region->form[0].kind;
			r->unspecified = region->use[0].writes;
		}
	}
}

/*
 * A translated indirect call to a non-canonical address has stored its return address, below RSP,
 * when it faults. Takes that back.
 */
static void forget_push(struct fz_guest *g, const struct fz_case *c, const struct fz_result *r)
{
	uint64_t at = r->regs.gpr[RSP] - 8 - FZ_DATA, off;

	if (!r->translated || r->form != FORM_CALL_RM || !r->fault || r->trap != VEC_GP) {
		return;
	}
	for (uint64_t k = at; k < at + 8 && k < FZ_RW_LEN; k++) {
		off = k - c->patch_off;
		g->board.ram[PA_DATA + k] = off < c->patch_len ? c->patch[off] : g->pristine[k];
	}
}

void fz_guest_run(struct fz_guest *g, const struct fz_case *c, unsigned slot, struct fz_result *r)
{
	enum mobo_exit why = MOBO_EXIT_REQUEST;
	struct translator *x = g->v->translator;
	uint32_t from;

	load_case(g, c, slot);
	if (x && x->code_used > x->code_size / 2) {
		memory_flush(g->v); /* not amid a case */
	}
	from = x ? x->n_regions : 0;
	for (unsigned k = 0; k < 16 && why == MOBO_EXIT_REQUEST; k++) {
		why = g->engine->run(g->v);
	}
	store_result(g, r);
	find_form(g, slot, from, r);
	forget_push(g, c, r);
	if (why != MOBO_EXIT_HALT) {
		r->fault = true;
		r->trap = 256 + why;
	}
	r->ran = true;
	fz_collect_memory(r, c, g->board.ram + PA_DATA, g->pristine);
}
