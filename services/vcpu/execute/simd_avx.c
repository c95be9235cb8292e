/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVX, AVX2, FMA, F16C and the other VEX instructions on vectors, by thunk as in simd.c. In a thunk
 * vector operands are YMM1 (ModRM.reg), YMM2 (ModRM.rm), YMM3 (VEX.vvvv) and YMM4 (imm8's upper
 * half), general ones RAX and RCX, a memory operand is [RSI]. RDI, RSI, RCX and R8 point to the
 * operands' storage, that of a vector being its lower half; RDX (or, later, R8) to struct vcpu.
 * Intel SDM volume 2; volume 2 2.4 for the exceptions.
 */
#include "decode/vex.h"
#include "execute/simd.h"
#include "execute/simd_form.h"
#include "execute/simd_operands.h"
#include "execute/thunk.h"

/* What a handler needs beside the thunk is packed into insn.imm, which the thunk already holds. */
enum { RM_SHIFT = 16, SIZE_SHIFT = 32, ALIGN_SHIFT = 40, VVVV_SHIFT = 48, IS4_SHIFT = 52 };

/* From the lower half of a YMM register to its upper. */
enum { UPPER = offsetof(struct vcpu, ymmh) - offsetof(struct vcpu, fx.xmm) };

enum avx_place { PLACE_REG, PLACE_LOAD, PLACE_STORE };

/* Returns as thunk_fn does. */
typedef int avx_fn(void *reg, void *rm, struct vcpu *v, void *vvvv, void *is4);

void simd_avx_unavailable(struct vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE) || ~v->xcr0 & XCR0_AVX_STATE) {
		raise_exception(v, VEC_UD);
	}
	raise_exception(v, VEC_NM);
}

void simd_avx512_unavailable(struct vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE) || ~v->xcr0 & XCR0_ZMM_STATE) {
		raise_exception(v, VEC_UD);
	}
	raise_exception(v, VEC_NM);
}

/* -- handlers -- */

static void *vector(struct vcpu *v, unsigned n)
{
	return v->fx.xmm[n & 15];
}

static inline int call_avx(struct vcpu *v, const struct insn *i, void *rm)
{
	avx_fn *fn = (avx_fn *)i->aux;

	return fn((char *)v + (uint16_t)i->imm, rm, v, vector(v, i->imm >> VVVV_SHIFT),
		  vector(v, i->imm >> IS4_SHIFT));
}

static __attribute__((noinline)) void call_avx_unmasked(struct vcpu *v, const struct insn *i,
							void *rm)
{
	simd_unmask(v);
	simd_mask(v, call_avx(v, i, rm));
}

static inline void call_thunk(struct vcpu *v, const struct insn *i, void *rm, bool fp)
{
	if (fp && __builtin_expect((v->fx.mxcsr & MXCSR_MASKS) != MXCSR_MASKS, 0)) {
		call_avx_unmasked(v, i, rm);
		return;
	}
	call_avx(v, i, rm);
}

/* Beyond what the thunk stores. */
static inline void clear_destination(struct vcpu *v, const struct insn *i)
{
	if (i->vector_at) {
		simd_clear_zmm(v, i->vector_at - 1u);
	}
}

static inline const struct insn *run_avx(struct vcpu *v, const struct insn *i, enum avx_place place,
					 bool fp)
{
	unsigned size = (uint8_t)(i->imm >> SIZE_SHIFT);
	unsigned align = (uint8_t)(i->imm >> ALIGN_SHIFT);
	uint64_t lin;
	void *rm;

	v->insn = i;
	simd_check_avx(v);
	if (place == PLACE_REG) {
		call_thunk(v, i, (char *)v + (uint16_t)(i->imm >> RM_SHIFT), fp);
		clear_destination(v, i);
		NEXT(v, i);
	}
	if (place == PLACE_LOAD) {
		call_thunk(v, i, (void *)simd_operand(v, i, size, align), fp);
		clear_destination(v, i);
		NEXT(v, i);
	}
	rm = simd_target(v, i, size, align, &lin);
	call_thunk(v, i, rm ? rm : v->bounce, fp);
	if (!rm) {
		mmu_write_bytes(v, lin, v->bounce, size);
	}
	NEXT(v, i);
}

#define DEFINE_HANDLER(name, place, fp)                                      \
	static const struct insn *name(struct vcpu *v, const struct insn *i) \
	{                                                                    \
		return run_avx(v, i, place, fp);                             \
	}
DEFINE_HANDLER(avx_reg, PLACE_REG, false)
DEFINE_HANDLER(avx_load, PLACE_LOAD, false)
DEFINE_HANDLER(avx_store, PLACE_STORE, false)
DEFINE_HANDLER(avx_reg_fp, PLACE_REG, true)
DEFINE_HANDLER(avx_load_fp, PLACE_LOAD, true)
DEFINE_HANDLER(avx_store_fp, PLACE_STORE, true)
#undef DEFINE_HANDLER

static unsigned n_vectors(const struct vcpu *v)
{
	return (v->mode & MODE_SIZE) == MODE_64 ? 16 : 8;
}

static void clear_upper(struct vcpu *v)
{
	memset(v->ymmh, 0, n_vectors(v) * sizeof(v->ymmh[0]));
	memset(v->zmmh, 0, n_vectors(v) * sizeof(v->zmmh[0]));
}

static const struct insn *vzeroupper(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_avx(v);
	clear_upper(v);
	NEXT(v, i);
}

static const struct insn *vzeroall(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_avx(v);
	clear_upper(v);
	memset(v->fx.xmm, 0, n_vectors(v) * 16);
	NEXT(v, i);
}

/* -- thunks -- */

/* Where a thunk finds the storage of its vectors 1 to 4, by host register. */
enum { AT_REG = RDI, AT_RM = RSI, AT_VVVV = RCX, AT_IS4 = R8 };

/* Loads or stores YMMn, or only XMMn, at (base). */
static void emit_vector(struct thunk_buf *t, unsigned n, unsigned base, bool store, bool upper)
{
	uint8_t vex1 = base & 8 ? 0xc1 : 0xe1, modrm = (uint8_t)(n << 3 | (base & 7));

	/* vmovups */
	thunk_byte(t, 0xc4);
	thunk_byte(t, vex1);
	thunk_byte(t, 0x78);
	thunk_byte(t, store ? 0x11 : 0x10);
	thunk_byte(t, modrm);
	if (!upper) {
		return;
	}
	/* vextractf128 $1, %ymmN, UPPER(base); vinsertf128 $1, UPPER(base), %ymmN, %ymmN */
	thunk_byte(t, 0xc4);
	thunk_byte(t, vex1 + 2);
	thunk_byte(t, (uint8_t)(store ? 0x7d : 0x05 | (~n & 15) << 3));
	thunk_byte(t, store ? 0x19 : 0x18);
	thunk_byte(t, 0x80 | modrm);
	thunk_u32(t, UPPER);
	thunk_byte(t, 1);
}

/* Is the destination a source too, or none at all? Those of AVX mostly are not. */
static bool reads_reg(const struct insn *i, const struct vex_row *row)
{
	bool accumulates = i->map == MAP_0F38 && ((i->opcode >= 0x50 && i->opcode <= 0x53) ||
						  (i->opcode >= 0x96 && i->opcode <= 0xbf));

	return accumulates || row->flags & (VEX_TO_RM | VEX_NO_DEST | VEX_STR);
}

static void emit_loads(struct thunk_buf *t, const struct insn *i, const struct vex_row *row,
		       const struct simd_operands *o)
{
	bool l = i->flags & INSN_VEX_L;

	if (o->reg == 'x' && reads_reg(i, row)) {
		emit_vector(t, 1, AT_REG, false, l);
	}
	if (o->vvvv == 'x' && !o->vvvv_write) {
		emit_vector(t, 3, AT_VVVV, false, l);
	}
	if (row->flags & VEX_IS4) {
		emit_vector(t, 4, AT_IS4, false, l);
	}
	if (row->flags & VEX_STR) {
		THUNK_CODE(t, "\x49\x89\xd0"	   /* mov %rdx, %r8 */
			      "\x49\x8b\x00"	   /* mov gpr[RAX](%r8), %rax */
			      "\x49\x8b\x50\x10"); /* mov gpr[RDX](%r8), %rdx */
	}
	if (i->mod == 3 && o->rm == 'x' && !o->rm_write) {
		emit_vector(t, 2, AT_RM, false, l && !(row->flags & VEX_XMM_RM));
	} else if (i->mod == 3 && o->rm == 'g') {
		/* vvvv's register is not needed any more */
		THUNK_CODE(t, "\x48\x8b\x0e"); /* mov (%rsi), %rcx */
	}
}

/* Thunks that differ in what means nothing would be one too many each. */
static bool needs_w(const struct insn *i, const struct vex_row *row)
{
	bool ignored = (row->wl & VEX_WIG) == VEX_WIG && i->map != MAP_0F38 && row->reg != 'g' &&
		       row->rm != 'g' && !(row->flags & VEX_STR);

	return i->flags & INSN_REX_W && !ignored;
}

static void emit_instruction(struct thunk_buf *t, const struct insn *i, const struct vex_row *row,
			     const struct simd_operands *o)
{
	unsigned reg = o->reg == 'x' ? 1 : o->reg == 'g' ? RAX : i->modrm >> 3 & 7;
	unsigned rm = i->mod == 3 ? 0xc0 | (o->rm == 'g' ? RCX : 2) : RSI;
	unsigned vvvv = o->vvvv ? 3 : 0;

	thunk_byte(t, 0xc4);
	thunk_byte(t, (uint8_t)(0xe0 | i->map));
	thunk_byte(t, (uint8_t)((needs_w(i, row) ? 0x80 : 0) | (~vvvv & 15) << 3 |
				(i->flags & INSN_VEX_L ? 4 : 0) | simd_prefix(i)));
	thunk_byte(t, i->opcode);
	thunk_byte(t, (uint8_t)(reg << 3 | rm));
	if (row->flags & VEX_IS4) {
		thunk_byte(t, (uint8_t)(4 << 4 | (i->imm & 15)));
	} else if (row->flags & VEX_IMM) {
		thunk_byte(t, (uint8_t)i->imm);
	}
}

static void emit_result(struct thunk_buf *t, const struct insn *i, const struct vex_row *row,
			const struct simd_operands *o)
{
	if (row->flags & VEX_STR_MASK) {
		/* vmovups %xmm0, fx.xmm[0](%r8), and the upper half is zero */
		THUNK_CODE(t, "\xc4\xc1\x78\x11\x80");
		thunk_u32(t, offsetof(struct vcpu, fx.xmm));
		THUNK_CODE(t, "\xc4\xc3\x7d\x19\x80");
		thunk_u32(t, offsetof(struct vcpu, ymmh));
		thunk_byte(t, 1);
	} else if (row->flags & VEX_STR) {
		THUNK_CODE(t, "\x49\x89\x48\x08"); /* mov %rcx, gpr[RCX](%r8) */
	} else if (o->vvvv_write) {
		emit_vector(t, 3, AT_VVVV, true, true);
	} else if (o->rm_write && i->mod == 3) {
		if (o->rm == 'x') {
			emit_vector(t, 2, AT_RM, true, true);
		} else {
			THUNK_CODE(t, "\x48\x89\x0e"); /* mov %rcx, (%rsi) */
		}
	} else if (o->reg_write && o->reg == 'x') {
		emit_vector(t, 1, AT_REG, true, true);
	} else if (o->reg_write) {
		THUNK_CODE(t, "\x48\x89\x07"); /* mov %rax, (%rdi) */
	}
}

static void emit_stores(struct thunk_buf *t, const struct insn *i, const struct vex_row *row,
			const struct simd_operands *o)
{
	emit_result(t, i, row, o);
	if (o->flags) {
		THUNK_CODE(t, "\x9f\x0f\x90\xc0"); /* lahf; seto %al */
		if (row->flags & VEX_STR) {
			THUNK_CODE(t, "\x66\x41\x89\x80"); /* mov %ax, aflags(%r8) */
		} else {
			THUNK_CODE(t, "\x66\x89\x82"); /* mov %ax, aflags(%rdx) */
		}
		thunk_u32(t, offsetof(struct vcpu, aflags));
	}
	if (o->fp) {
		THUNK_CODE(t, "\x31\xc0"); /* xor %eax, %eax */
	}
	THUNK_CODE(t, "\xc5\xf8\x77\xc3"); /* vzeroupper; ret */
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
	if (i->mod == 3) {
		return o->fp ? avx_reg_fp : avx_reg;
	}
	if (o->mem_write) {
		return o->fp ? avx_store_fp : avx_store;
	}
	return o->fp ? avx_load_fp : avx_load;
}

/* The vector register that i writes, plus 1; 0: none. */
static uint8_t destination(const struct insn *i, const struct vex_row *row,
			   const struct simd_operands *o)
{
	if (row->flags & VEX_STR_MASK) {
		return 1;
	}
	if (o->vvvv_write) {
		return i->vvvv + 1;
	}
	if (o->rm_write) {
		return i->mod == 3 && o->rm == 'x' ? i->rm + 1 : 0;
	}
	return o->reg_write && o->reg == 'x' ? i->reg + 1 : 0;
}

static bool bind_thunk(struct insn *i, const struct vex_row *row, const struct simd_operands *o)
{
	struct thunk_buf t = {0};

	emit_loads(&t, i, row, o);
	emit_instruction(&t, i, row, o);
	emit_stores(&t, i, row, o);
	i->aux = (void *)thunk_get(&t);
	i->imm = (i->imm >> 4 & 15) << IS4_SHIFT | operand_offset(o->reg, i->reg) |
		 (i->mod == 3 ? operand_offset(o->rm, i->rm) : 0) << RM_SHIFT |
		 (uint64_t)o->mem << SIZE_SHIFT | (uint64_t)o->align << ALIGN_SHIFT |
		 (uint64_t)i->vvvv << VVVV_SHIFT;
	i->vector_at = destination(i, row, o);
	i->fn = choose_handler(i, o);
	return i->aux;
}

bool simd_bind_avx(struct vcpu *v, struct insn *i)
{
	const struct vex_row *row;
	struct simd_operands o;

	if (!simd_operands(i, &o)) {
		return false;
	}
	if (o.avx512) {
		return simd_bind_avx512(i, &o);
	}
	row = vex_row(i);
	if (i->map == MAP_0F && i->opcode == 0x77) {
		i->fn = i->flags & INSN_VEX_L ? vzeroall : vzeroupper;
		return true;
	}
	if (i->map == MAP_0F && i->opcode == 0xae) {
		return simd_bind_state(v, i);
	}
	if (row->flags & (VEX_MASKED | VEX_VSIB | VEX_IMPLICIT)) {
		return simd_bind_masked(i);
	}
	return simd_bind_avx_move(i) || bind_thunk(i, row, &o);
}
