/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMX and SSE by thunk: binding, the thunks' code, and the handlers around them. In a thunk XMM
 * operands are XMM1 (ModRM.reg) and XMM2 (ModRM.rm), general-purpose ones RAX and RCX, a memory
 * operand is [RSI]; MMX operands are themselves. RDI and RSI point to the operands' storage, RDX
 * (or R8) to struct vcpu. Intel SDM volume 2, and volume 3 chapters 12 and 13.
 */
#include "execute/simd.h"

#include "execute/simd_form.h"
#include "execute/simd_operands.h"
#include "execute/thunk.h"

/* What a handler needs beside the thunk is packed into insn.imm, which the thunk already holds. */
#define OPERAND_OFFSETS(reg, rm) ((uint64_t)(reg) | (uint64_t)(rm) << 16)
enum { OPERAND_SIZE_SHIFT = 32, OPERAND_ALIGN_SHIFT = 40 };

enum simd_class { CLASS_SSE, CLASS_MMX, CLASS_BOTH };
enum simd_place { PLACE_REG, PLACE_LOAD, PLACE_STORE };

_Static_assert(offsetof(struct vcpu, fx) + sizeof(struct fx_area) < 0x10000, "16-bit offsets");
_Static_assert(offsetof(struct vcpu, gpr) == 0, "thunks address RAX, RCX, RDX by disp8");

void simd_sse_unavailable(struct vcpu *v)
{
	if (v->cr0 & CR0_EM || !(v->cr4 & CR4_OSFXSR)) {
		raise_exception(v, VEC_UD);
	}
	raise_exception(v, VEC_NM);
}

/* -- handlers -- */

void simd_unmask(struct vcpu *v)
{
	uint32_t csr = simd_mxcsr(v);

	__asm__ volatile("ldmxcsr %0" : : "m"(csr) : "memory");
}

void simd_mask(struct vcpu *v, int struck)
{
	uint32_t csr;

	__asm__ volatile("stmxcsr %0" : "=m"(csr) : : "memory");
	csr |= MXCSR_MASKS;
	__asm__ volatile("ldmxcsr %0" : : "m"(csr) : "memory");
	if (struck) {
		raise_exception(v, v->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
	}
}

/* The guest has exceptions unmasked: run with its true MXCSR; SIGFPE makes the thunk return 1. */
static __attribute__((noinline)) void call_unmasked(struct vcpu *v, thunk_fn *fn, void *reg,
						    void *rm)
{
	simd_unmask(v);
	simd_mask(v, fn(reg, rm, v));
}

static inline void call_thunk(struct vcpu *v, const struct insn *i, void *rm, bool fp)
{
	thunk_fn *fn = (thunk_fn *)i->aux;
	void *reg = (char *)v + (uint16_t)i->imm;

	if (fp && __builtin_expect((v->fx.mxcsr & MXCSR_MASKS) != MXCSR_MASKS, 0)) {
		call_unmasked(v, fn, reg, rm);
		return;
	}
	fn(reg, rm, v);
}

static inline const struct insn *run_form(struct vcpu *v, const struct insn *i,
					  enum simd_class class, enum simd_place place, bool fp)
{
	unsigned size = (uint8_t)(i->imm >> OPERAND_SIZE_SHIFT);
	unsigned align = i->imm >> OPERAND_ALIGN_SHIFT & 1 ? 16 : 1;
	uint64_t lin;
	void *rm;

	v->insn = i;
	if (class != CLASS_MMX) {
		simd_check_sse(v);
	}
	if (class != CLASS_SSE) {
		simd_check_mmx(v);
	}
	if (place == PLACE_REG) {
		call_thunk(v, i, (char *)v + (uint16_t)(i->imm >> 16), fp);
		NEXT(v, i);
	}
	if (place == PLACE_LOAD) {
		call_thunk(v, i, (void *)simd_operand(v, i, size, align), fp);
		NEXT(v, i);
	}
	rm = simd_target(v, i, size, align, &lin);
	call_thunk(v, i, rm ? rm : v->bounce, fp);
	if (!rm) {
		mmu_write_bytes(v, lin, v->bounce, size);
	}
	NEXT(v, i);
}

#define DEFINE_HANDLER(name, class, place, fp)                               \
	static const struct insn *name(struct vcpu *v, const struct insn *i) \
	{                                                                    \
		return run_form(v, i, class, place, fp);                     \
	}
DEFINE_HANDLER(sse_reg, CLASS_SSE, PLACE_REG, false)
DEFINE_HANDLER(sse_load, CLASS_SSE, PLACE_LOAD, false)
DEFINE_HANDLER(sse_store, CLASS_SSE, PLACE_STORE, false)
DEFINE_HANDLER(sse_reg_fp, CLASS_SSE, PLACE_REG, true)
DEFINE_HANDLER(sse_load_fp, CLASS_SSE, PLACE_LOAD, true)
DEFINE_HANDLER(mmx_reg, CLASS_MMX, PLACE_REG, false)
DEFINE_HANDLER(mmx_load, CLASS_MMX, PLACE_LOAD, false)
DEFINE_HANDLER(mmx_store, CLASS_MMX, PLACE_STORE, false)
DEFINE_HANDLER(both_reg, CLASS_BOTH, PLACE_REG, false)
DEFINE_HANDLER(both_reg_fp, CLASS_BOTH, PLACE_REG, true)
DEFINE_HANDLER(both_load_fp, CLASS_BOTH, PLACE_LOAD, true)
#undef DEFINE_HANDLER

/* -- thunks -- */

static void emit_instruction(struct thunk_buf *t, const struct insn *i, const struct simd_form *f)
{
	static const uint8_t prefix[N_PFX] = {0, 0x66, 0xf3, 0xf2};
	unsigned reg = 1, rm = 2;

	if (f->reg == 'm' || f->reg == 'e') {
		reg = i->modrm >> 3 & 7;
	} else if (f->reg == 'g') {
		reg = RAX;
	}
	if (f->rm == 'm') {
		rm = i->modrm & 7;
	} else if (f->rm == 'g') {
		rm = RCX;
	}
	if (prefix[f->pfx]) {
		thunk_byte(t, prefix[f->pfx]);
	}
	if (f->flags & FORM_W && i->flags & INSN_REX_W) {
		thunk_byte(t, 0x48);
	}
	thunk_byte(t, 0x0f);
	if (f->map != MAP_0F) {
		thunk_byte(t, f->map == MAP_0F38 ? 0x38 : 0x3a);
	}
	thunk_byte(t, f->op);
	thunk_byte(t, (uint8_t)(reg << 3 | (i->mod == 3 ? 0xc0 | rm : RSI)));
	if (f->flags & FORM_IMM) {
		thunk_byte(t, (uint8_t)i->imm);
	}
}

static void emit_loads(struct thunk_buf *t, const struct insn *i, const struct simd_form *f)
{
	if (f->flags & FORM_STR) {
		THUNK_CODE(t, "\x49\x89\xd0"	   /* mov %rdx, %r8 */
			      "\x49\x8b\x00"	   /* mov gpr[RAX](%r8), %rax */
			      "\x49\x8b\x50\x10"); /* mov gpr[RDX](%r8), %rdx */
	}
	if (f->reg == 'x') {
		THUNK_CODE(t, "\x0f\x10\x0f"); /* movups (%rdi), %xmm1 */
	}
	if (i->mod == 3 && f->rm == 'x') {
		THUNK_CODE(t, "\x0f\x10\x16"); /* movups (%rsi), %xmm2 */
	} else if (i->mod == 3 && f->rm == 'g') {
		THUNK_CODE(t, "\x48\x8b\x0e"); /* mov (%rsi), %rcx */
	}
	if (f->flags & FORM_XMM0) {
		THUNK_CODE(t, "\x0f\x10\x82"); /* movups fx.xmm[0](%rdx), %xmm0 */
		thunk_u32(t, offsetof(struct vcpu, fx.xmm));
	}
}

static void emit_stores(struct thunk_buf *t, const struct insn *i, const struct simd_form *f)
{
	bool to_rm = f->flags & FORM_TO_RM || f->reg == 'e';

	if (f->flags & FORM_STR_MASK) {
		THUNK_CODE(t, "\x41\x0f\x11\x80"); /* movups %xmm0, fx.xmm[0](%r8) */
		thunk_u32(t, offsetof(struct vcpu, fx.xmm));
	} else if (f->flags & FORM_STR) {
		THUNK_CODE(t, "\x49\x89\x48\x08"); /* mov %rcx, gpr[RCX](%r8) */
	} else if (f->flags & FORM_NO_DEST) {
		;
	} else if (to_rm && i->mod == 3 && f->rm == 'x') {
		THUNK_CODE(t, "\x0f\x11\x16"); /* movups %xmm2, (%rsi) */
	} else if (to_rm && i->mod == 3 && f->rm == 'g') {
		THUNK_CODE(t, "\x48\x89\x0e"); /* mov %rcx, (%rsi) */
	} else if (!to_rm && f->reg == 'x') {
		THUNK_CODE(t, "\x0f\x11\x0f"); /* movups %xmm1, (%rdi) */
	} else if (!to_rm && f->reg == 'g') {
		THUNK_CODE(t, "\x48\x89\x07"); /* mov %rax, (%rdi) */
	}
	if (f->flags & (FORM_FLAGS | FORM_STR)) {
		THUNK_CODE(t, "\x9f\x0f\x90\xc0"); /* lahf; seto %al */
		if (f->flags & FORM_STR) {
			THUNK_CODE(t, "\x66\x41\x89\x80"); /* mov %ax, aflags(%r8) */
		} else {
			THUNK_CODE(t, "\x66\x89\x82"); /* mov %ax, aflags(%rdx) */
		}
		thunk_u32(t, offsetof(struct vcpu, aflags));
	}
	if (f->flags & FORM_FP) {
		THUNK_CODE(t, "\x31\xc0"); /* xor %eax, %eax */
	}
	thunk_byte(t, 0xc3);
}

/* -- binding -- */

static uint64_t operand_offset(char kind, unsigned n)
{
	switch (kind) {
	case 'x': return offsetof(struct vcpu, fx.xmm) + n * 16;
	case 'g': return offsetof(struct vcpu, gpr) + n * 8;
	}
	return 0;
}

static insn_fn *choose_handler(const struct insn *i, const struct simd_operands *o)
{
	bool mem = i->mod != 3;
	bool sse = o->reg == 'x' || o->rm == 'x';

	if (sse && o->mmx) {
		return mem ? both_load_fp : o->fp ? both_reg_fp : both_reg;
	}
	if (o->mmx) {
		return !mem ? mmx_reg : o->mem_write ? mmx_store : mmx_load;
	}
	if (mem) {
		return o->mem_write ? sse_store : o->fp ? sse_load_fp : sse_load;
	}
	return o->fp ? sse_reg_fp : sse_reg;
}

static bool bind_form(struct insn *i)
{
	const struct simd_form *f = simd_form_find(i);
	struct simd_operands o;
	struct thunk_buf t = {0};
	thunk_fn *fn;

	if (!f || !simd_operands(i, &o)) {
		return false;
	}
	emit_loads(&t, i, f);
	emit_instruction(&t, i, f);
	emit_stores(&t, i, f);
	fn = thunk_get(&t);
	if (!fn) {
		return false;
	}
	i->imm = OPERAND_OFFSETS(operand_offset(f->reg, i->reg),
				 i->mod == 3 ? operand_offset(f->rm, i->rm) : 0) |
		 (uint64_t)o.mem << OPERAND_SIZE_SHIFT |
		 (uint64_t)(o.align > 1) << OPERAND_ALIGN_SHIFT;
	i->aux = (void *)fn;
	i->fn = choose_handler(i, &o);
	return true;
}

bool execute_bind_simd(struct vcpu *v, struct insn *i)
{
	if (i->flags & INSN_VEX) {
		return simd_bind_avx(v, i);
	}
	return simd_bind_move(v, i) || simd_bind_x87(v, i) || simd_bind_state(v, i) ||
	       simd_bind_misc(v, i) || bind_form(i);
}
