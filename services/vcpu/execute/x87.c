/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87: every instruction runs on the host's own x87 registers, which hold the guest's state. In a
 * thunk a memory operand is [RSI] and RDX points to struct vcpu. Environment and state images are
 * in fpu_state.c. Intel SDM volume 1 chapter 8, volume 2; volume 3 2.5 for the checks.
 *
 * An unmasked exception sets FSW.ES on the host as it would on the guest; each instruction that
 * waits looks at ES itself and raises #MF, so that the host's own #MF is never met. With CR0.NE
 * clear the exception goes to board_ferr() (IRQ 13), or is #MF where the board has none.
 */
#include "execute/simd.h"
#include "execute/thunk.h"
#include "exits/board.h"

enum x87_kind { X87_NONE, X87_LOAD, X87_STORE, X87_OTHER };

struct x87_mem {
	uint8_t kind, size;
};

/* clang-format off */
#define L(size) { X87_LOAD, size }
#define S(size) { X87_STORE, size }
#define O { X87_OTHER, 0 }
#define N { X87_NONE, 0 }
/* Memory forms by opcode & 7 and ModRM.reg. */
static const struct x87_mem mem_forms[8][8] = {
	{ L(4), L(4), L(4), L(4), L(4), L(4), L(4), L(4) },
	{ L(4), N, S(4), S(4), O, O, O, O }, /* FLDENV FLDCW FNSTENV FNSTCW */
	{ L(4), L(4), L(4), L(4), L(4), L(4), L(4), L(4) },
	{ L(4), S(4), S(4), S(4), N, L(10), N, S(10) },
	{ L(8), L(8), L(8), L(8), L(8), L(8), L(8), L(8) },
	{ L(8), S(8), S(8), S(8), O, N, O, O }, /* FRSTOR FNSAVE FNSTSW */
	{ L(2), L(2), L(2), L(2), L(2), L(2), L(2), L(2) },
	{ L(2), S(2), S(2), S(2), L(10), L(8), S(10), S(8) },
};
#undef L
#undef S
#undef O
#undef N
/* Register forms by opcode & 7: bit n stands for ModRM 0xc0 + n. */
static const uint64_t reg_forms[8] = {
	0xffffffffffffffff,
	0xffff7f33ff01ffff, /* not D1..D7, E2, E3, E6, E7, EF */
	0x00000200ffffffff, /* FCMOVcc, FUCOMPP (E9) */
	0x00ffff1fffffffff, /* FCMOVNcc, E0..E4, FUCOMI, FCOMI */
	0xffffffffffffffff,
	0x0000ffffffffffff,
	0xffffffff02ffffff, /* FCOMPP is D9 */
	0x00ffff01ffffffff,
};
/* clang-format on */

/* -- checks -- */

void simd_x87_unavailable(struct vcpu *v, bool mmx)
{
	raise_exception(v, mmx && v->cr0 & CR0_EM ? VEC_UD : VEC_NM);
}

void simd_check_mf_slow(struct vcpu *v)
{
	uint16_t fsw;

	__asm__ volatile("fnstsw %0" : "=am"(fsw));
	if (!(fsw & FSW_ES)) {
		return;
	}
	if (!(v->cr0 & CR0_NE) && board_ferr) {
		board_ferr(v);
		v->rip = vcpu_insn_rip(v);
		vcpu_unwind(v);
	}
	raise_exception(v, VEC_MF);
}

/* -- handlers -- */

/* The guest's x87 instruction and operand pointers. SDM volume 1 8.1.8. */
static inline void record_insn(struct vcpu *v, const struct insn *i)
{
	v->fx.fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
	v->fx.fip = vcpu_insn_rip(v);
	v->x87_cs = v->seg[SEG_CS].selector;
}

static inline void record_operand(struct vcpu *v, const struct insn *i)
{
	record_insn(v, i);
	v->fx.fdp = ea_offset(v, i);
	v->x87_ds = v->seg[i->seg].selector;
}

static const struct insn *x87_reg(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_x87(v);
	((thunk_fn *)i->aux)(NULL, NULL, v);
	record_insn(v, i);
	NEXT(v, i);
}

/* FNCLEX, FNINIT and the 8087's and 80287's FNENI, FNDISI, FNSETPM, which do nothing. */
static const struct insn *x87_control(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_x87_nowait(v);
	if (i->modrm == 0xe2) {
		__asm__ volatile("fnclex");
	} else if (i->modrm == 0xe3) {
		__asm__ volatile("fninit");
		v->fx.fcw = FCW_INIT;
		v->fx.fop = 0;
		v->fx.fip = v->fx.fdp = 0;
		v->x87_cs = v->x87_ds = 0;
	}
	NEXT(v, i);
}

static const struct insn *x87_fnstsw_ax(struct vcpu *v, const struct insn *i)
{
	uint16_t fsw;

	v->insn = i;
	simd_check_x87_nowait(v);
	__asm__ volatile("fnstsw %0" : "=a"(fsw));
	v->gpr[RAX] = (v->gpr[RAX] & ~(uint64_t)0xffff) | fsw;
	NEXT(v, i);
}

static inline const struct insn *x87_load(struct vcpu *v, const struct insn *i, unsigned size)
{
	v->insn = i;
	simd_check_x87(v);
	((thunk_fn *)i->aux)(NULL, (void *)simd_operand(v, i, size, 1), v);
	record_operand(v, i);
	NEXT(v, i);
}

/*
 * With an invalid-operation, overflow or underflow exception unmasked the host stores nothing. No
 * unmasked flag was set before, or #MF would have been raised: one set now is this store's.
 */
static bool store_happened(void)
{
	uint16_t fsw, fcw;

	__asm__ volatile("fnstsw %0" : "=am"(fsw));
	__asm__ volatile("fnstcw %0" : "=m"(fcw));
	return !(fsw & ~fcw & 0x19);
}

static inline const struct insn *x87_store(struct vcpu *v, const struct insn *i, unsigned size)
{
	uint64_t lin;
	void *p;

	v->insn = i;
	simd_check_x87(v);
	p = simd_target(v, i, size, 1, &lin);
	((thunk_fn *)i->aux)(NULL, p ? p : v->bounce, v);
	record_operand(v, i);
	if (__builtin_expect(!p, 0) && store_happened()) {
		mmu_write_bytes(v, lin, v->bounce, size);
	}
	NEXT(v, i);
}

#define DEFINE_SIZE(size)                                                                \
	static const struct insn *x87_load_##size(struct vcpu *v, const struct insn *i)  \
	{                                                                                \
		return x87_load(v, i, size);                                             \
	}                                                                                \
	static const struct insn *x87_store_##size(struct vcpu *v, const struct insn *i) \
	{                                                                                \
		return x87_store(v, i, size);                                            \
	}
DEFINE_SIZE(2)
DEFINE_SIZE(4)
DEFINE_SIZE(8)
DEFINE_SIZE(10)
#undef DEFINE_SIZE

/* WAIT looks at MP, not EM. */
static const struct insn *fwait(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if ((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) {
		raise_exception(v, VEC_NM);
	}
	simd_check_mf(v);
	NEXT(v, i);
}

/* -- binding -- */

static bool bind_mem(struct insn *i)
{
	const struct x87_mem *m = &mem_forms[i->opcode & 7][i->modrm >> 3 & 7];
	bool store = m->kind == X87_STORE;
	struct thunk_buf t = {0};

	if (m->kind != X87_LOAD && m->kind != X87_STORE) {
		return false;
	}
	thunk_byte(&t, i->opcode);
	thunk_byte(&t, (uint8_t)((i->modrm & 0x38) | RSI));
	thunk_byte(&t, 0xc3);
	i->aux = (void *)thunk_get(&t);
	switch (m->size) {
	case 2: i->fn = store ? x87_store_2 : x87_load_2; break;
	case 4: i->fn = store ? x87_store_4 : x87_load_4; break;
	case 8: i->fn = store ? x87_store_8 : x87_load_8; break;
	case 10: i->fn = store ? x87_store_10 : x87_load_10; break;
	}
	return i->aux;
}

static bool bind_reg(struct insn *i)
{
	unsigned op = i->opcode & 7, n = i->modrm & 0x3f;
	bool compare = (op == 3 || op == 7) && n >= 0x28 && n < 0x38; /* FUCOMI, FCOMI */
	bool move = (op == 2 || op == 3) && n < 0x20;		      /* FCMOVcc */
	struct thunk_buf t = {0};

	if (!(reg_forms[op] >> n & 1)) {
		return false;
	}
	if (op == 3 && n >= 0x20 && n <= 0x24) {
		i->fn = x87_control;
		return true;
	}
	if (op == 7 && n == 0x20) {
		i->fn = x87_fnstsw_ax;
		return true;
	}
	if (compare || move) {
		THUNK_CODE(&t, "\x0f\xb7\x82"); /* movzwl aflags(%rdx), %eax */
		thunk_u32(&t, offsetof(struct vcpu, aflags));
		THUNK_CODE(&t, "\x04\x7f\x9e"); /* add $0x7f, %al; sahf */
	}
	thunk_byte(&t, i->opcode);
	thunk_byte(&t, i->modrm);
	if (compare) {
		THUNK_CODE(&t, "\x9f\x0f\x90\xc0\x66\x89\x82"); /* lahf; seto %al; mov %ax, .. */
		thunk_u32(&t, offsetof(struct vcpu, aflags));
	}
	thunk_byte(&t, 0xc3);
	i->aux = (void *)thunk_get(&t);
	i->fn = x87_reg;
	return i->aux;
}

bool simd_bind_x87(struct vcpu *v, struct insn *i)
{
	if (i->map != MAP_1) {
		return false;
	}
	if (i->opcode == 0x9b) {
		i->fn = fwait;
		return true;
	}
	if ((i->opcode & 0xf8) != 0xd8) {
		return false;
	}
	return i->mod == 3 ? bind_reg(i) : bind_mem(i);
}
