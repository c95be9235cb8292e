/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87, MMX and SSE: the state's place while a vCPU runs, and the pieces the family's files share.
 * Intel SDM volume 1 chapters 8 to 13, volume 3 chapters 2.5 and 13.
 *
 * XMM lives in vcpu.fx.xmm, the upper halves of YMM in vcpu.ymmh, what AVX-512 adds in vcpu.zmmh,
 * zmm16 and opmask: an instruction encoded with VEX clears what it writes of zmmh. x87/MMX and
 * MXCSR's exception flags live in the host's registers from simd_enter() to simd_leave(): code
 * called in between on this thread must use neither x87/MMX nor floating point (or bracket it with
 * simd_leave() and simd_enter()). MXCSR's control bits are vcpu.fx.mxcsr's; the host runs with
 * them, but with all exceptions masked. vcpu.fx.fcw always equals the host's control word.
 * vcpu.fx.fop, fip and fdp, vcpu.x87_cs and x87_ds are the guest's last x87 instruction: the host's
 * own registers hold addresses of thunks.
 */
#ifndef VCPU_EXECUTE_SIMD_H
#define VCPU_EXECUTE_SIMD_H

#include "execute/execute.h"
#include "execute/xstate.h"

enum {
	FCW_INIT = 0x37f,
	FCW_MASKS = 0x3f,
	FSW_ES = 0x80,
	MXCSR_INIT = 0x1f80,
	MXCSR_MASKS = 0x1f80,
	MXCSR_FLAGS = 0x3f,
	MXCSR_VALID = 0xffff, /* MXCSR_MASK: what LDMXCSR and the restores may set */
};

/*
 * Makes code memory and the SIGFPE handler that unmasked SSE exceptions need. Idempotent, any
 * thread; needs memfd_create() and an executable mapping, so call it before a sandbox closes.
 * SIGFPE must not be blocked on vCPU threads. 0 or -errno.
 */
int simd_init(void);

/* Initial state of x87, MXCSR and XMM: power-on, and FNINIT + XRSTOR of nothing. Outside of run. */
void simd_reset(struct vcpu *v);

/*
 * Bracket guest execution: load vcpu.fx into the host's registers; make vcpu.fx complete again and
 * give the host its own control words back. vCPU thread, not nested.
 */
void simd_enter(struct vcpu *v);
void simd_leave(struct vcpu *v);

/* Within the bracket: MXCSR as the guest sees it, and setting it (reserved bits already checked).
 */
uint32_t simd_mxcsr(const struct vcpu *v);
void simd_set_mxcsr(struct vcpu *v, uint32_t mxcsr);

/* Within the bracket: copy x87 state between the host's registers and vcpu.fx. */
void simd_store_x87(struct vcpu *v);
void simd_load_x87(struct vcpu *v);

/* The family's binders; execute_bind_simd() asks each. */
bool simd_bind_move(struct vcpu *v, struct insn *i);
bool simd_bind_misc(struct vcpu *v, struct insn *i);
bool simd_bind_state(struct vcpu *v, struct insn *i);
bool simd_bind_x87(struct vcpu *v, struct insn *i);
bool simd_bind_avx(struct vcpu *v, struct insn *i);
bool simd_bind_avx_move(struct insn *i);
bool simd_bind_masked(struct insn *i);
struct simd_operands;
bool simd_bind_avx512(struct insn *i, const struct simd_operands *o);
void simd_bind_scatter(struct insn *i);

/* Slow halves of the checks below: raise what applies, or return. */
void simd_sse_unavailable(struct vcpu *v);
_Noreturn void simd_avx_unavailable(struct vcpu *v);
_Noreturn void simd_avx512_unavailable(struct vcpu *v);
_Noreturn void simd_x87_unavailable(struct vcpu *v, bool mmx);
void simd_check_mf_slow(struct vcpu *v);

/* #UD and #NM of SSE instructions. SDM volume 3 table 13-1. v->insn is set. */
static inline void simd_check_sse(struct vcpu *v)
{
	if (__builtin_expect((v->cr0 & (CR0_EM | CR0_TS)) | (~v->cr4 & CR4_OSFXSR), 0)) {
		simd_sse_unavailable(v);
	}
}

/* #UD and #NM of VEX instructions on vectors. SDM volume 2 2.4: neither CR0.EM nor CR4.OSFXSR. */
static inline void simd_check_avx(struct vcpu *v)
{
	if (__builtin_expect((v->cr0 & CR0_TS) | (~v->cr4 & CR4_OSXSAVE) |
				     (~v->xcr0 & XCR0_AVX_STATE),
			     0)) {
		simd_avx_unavailable(v);
	}
}

/* #UD and #NM of EVEX instructions and those on opmask registers. SDM volume 2 2.8. */
static inline void simd_check_avx512(struct vcpu *v)
{
	if (__builtin_expect((v->cr0 & CR0_TS) | (~v->cr4 & CR4_OSXSAVE) |
				     (~v->xcr0 & XCR0_ZMM_STATE),
			     0)) {
		simd_avx512_unavailable(v);
	}
}

/* What a VEX instruction that writes vector register n does to its part beyond YMM. */
static inline void simd_clear_zmm(struct vcpu *v, unsigned n)
{
	if (__builtin_expect(v->zmm_used, 0)) {
		memset(v->zmmh[n], 0, sizeof(v->zmmh[n]));
	}
}

/* #MF of an earlier instruction's unmasked exception, reported by the next that waits. */
static inline void simd_check_mf(struct vcpu *v)
{
	if (__builtin_expect((v->fx.fcw & FCW_MASKS) != FCW_MASKS, 0)) {
		simd_check_mf_slow(v);
	}
}

/* #UD, #NM and #MF of MMX instructions. SDM volume 3 table 12-1. */
static inline void simd_check_mmx(struct vcpu *v)
{
	if (__builtin_expect(v->cr0 & (CR0_EM | CR0_TS), 0)) {
		simd_x87_unavailable(v, true);
	}
	simd_check_mf(v);
}

/* #NM of x87 instructions, and of those that wait also #MF. SDM volume 3 2.5. */
static inline void simd_check_x87_nowait(struct vcpu *v)
{
	if (__builtin_expect(v->cr0 & (CR0_EM | CR0_TS), 0)) {
		simd_x87_unavailable(v, false);
	}
}

static inline void simd_check_x87(struct vcpu *v)
{
	simd_check_x87_nowait(v);
	simd_check_mf(v);
}

/*
 * With SSE exceptions unmasked: around a thunk, the guest's true MXCSR on the host, and back;
 * struck is what the thunk returned, and raises #XM (or #UD).
 */
void simd_unmask(struct vcpu *v);
void simd_mask(struct vcpu *v, int struck);

/*
 * MASKMOVDQU's and MASKMOVQ's work: stores to seg:rDI those of n bytes whose mask byte has its top
 * bit set. All must be writable, chosen or not.
 */
void simd_store_masked(struct vcpu *v, const struct insn *i, const uint8_t *data,
		       const uint8_t *mask, unsigned n);

/* For the work of handlers with buffers of their own: kept out of them, see NEXT(). */
#define SIMD_APART __attribute__((noinline))

/*
 * An operand of `size` bytes to read: a pointer to it, straight into guest RAM or to vcpu.bounce,
 * filled. Raises what the access raises, #GP(0) first where it is not aligned to `align` bytes.
 */
static inline const void *simd_operand(struct vcpu *v, const struct insn *i, unsigned size,
				       unsigned align)
{
	uint64_t lin = ea_linear(v, i, size, MMU_R);
	const void *p;

	if (__builtin_expect((lin & (align - 1)) != 0, 0)) {
		raise_error(v, VEC_GP, 0);
	}
	p = mmu_ptr(v, lin, size, MMU_R);
	if (__builtin_expect(!p, 0)) {
		mmu_read_bytes(v, lin, v->bounce, size);
		p = v->bounce;
	}
	return p;
}

/*
 * Where to store `size` bytes: a pointer straight into guest RAM, or NULL with *lin set and the
 * right to write there checked: the caller then stores by mmu_write_bytes().
 */
static inline __attribute__((always_inline)) void *
simd_target(struct vcpu *v, const struct insn *i, unsigned size, unsigned align, uint64_t *lin)
{
	void *p;

	*lin = ea_linear(v, i, size, MMU_W);
	if (__builtin_expect((*lin & (align - 1)) != 0, 0)) {
		raise_error(v, VEC_GP, 0);
	}
	p = mmu_ptr(v, *lin, size, MMU_W);
	if (__builtin_expect(!p, 0)) {
		mmu_probe(v, *lin, size, MMU_W);
	}
	return p;
}

#endif
