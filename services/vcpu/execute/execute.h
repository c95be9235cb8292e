/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference interpreter: shared vocabulary of the instruction families. Each family's file
 * provides a binder: given a decoded instruction, choose its handler. A handler ends with NEXT().
 */
#ifndef VCPU_EXECUTE_EXECUTE_H
#define VCPU_EXECUTE_EXECUTE_H

#include "cpu.h"
#include "decode/insn.h"
#include "mmu/mmu.h"

/*
 * Handlers chain by tail calls in optimised builds; in builds where the compiler makes no sibling
 * calls (-O0, sanitizers) each returns to the run loop, which calls the next.
 */
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(MOBO_NO_CHAIN)
#define NEXT(v, i) return ((i) + 1)->fn((v), (i) + 1)
#else
#define NEXT(v, i) return (i) + 1
#endif
/* Ends the trace: v->rip is set, the run loop looks up what comes next. */
#define END_TRACE() return NULL

/* Sets i->fn (and i->aux, INSN_END) or returns false: not of this family. */
bool execute_bind_integer(struct vcpu *v, struct insn *i);
bool execute_bind_control(struct vcpu *v, struct insn *i);
bool execute_bind_string(struct vcpu *v, struct insn *i);
bool execute_bind_system(struct vcpu *v, struct insn *i);
bool execute_bind_simd(struct vcpu *v, struct insn *i); /* x87, MMX, SSE*, AES, SHA, FXSAVE.. */

static inline uint64_t vcpu_insn_rip(const struct vcpu *v)
{
	return v->trace_rip + v->insn->off;
}

/* RIP of the following instruction, truncated as the mode wants it. */
static inline uint64_t vcpu_next_rip(const struct vcpu *v, const struct insn *i)
{
	uint64_t rip = v->trace_rip + i->off + i->len;

	return (v->mode & MODE_SIZE) == MODE_64 ? rip : (uint32_t)rip;
}

/* RFLAGS <-> split form. Setting updates req_mask, tlb context (AC) and TF stepping. */
uint64_t vcpu_rflags(const struct vcpu *v);
void vcpu_set_rflags(struct vcpu *v, uint64_t rflags);
/* Setting, for who calls vcpu_update_mode() before anything looks. */
void vcpu_store_rflags(struct vcpu *v, uint64_t rflags);

static inline uint16_t aflags_from_rflags(uint64_t f)
{
	return (uint16_t)((f & 0xd5) << 8 | 0x200 | (f >> 11 & 1));
}

static inline uint32_t aflags_to_rflags(uint16_t a)
{
	return (a >> 8 & 0xd5) | (uint32_t)(a & 1) << 11;
}

/*
 * Offset part of i's memory operand, truncated to the address size, and the linear address after
 * segmentation. ea_linear() checks limits and types where INSN_SEG_CHECK says so and raises #GP,
 * #SS; in 64-bit mode the canonical check is the MMU's.
 */
static inline uint64_t ea_offset(const struct vcpu *v, const struct insn *i)
{
	uint64_t ea = v->gpr[i->base] + (v->gpr[i->index] << i->scale) + (uint64_t)i->disp;

	if (i->flags & INSN_RIPREL) {
		ea += v->trace_rip + i->off + i->len;
	}
	if (i->addrsize == 4) {
		ea = (uint32_t)ea;
	} else if (i->addrsize == 2) {
		ea = (uint16_t)ea;
	}
	return ea;
}

uint64_t seg_linear_checked(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size,
			    enum mmu_access acc);

static inline uint64_t seg_linear(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size,
				  enum mmu_access acc, bool check)
{
	if (__builtin_expect(check, 0)) {
		return seg_linear_checked(v, seg, offset, size, acc);
	}
	return v->seg_base[seg] + offset;
}

static inline uint64_t ea_linear(struct vcpu *v, const struct insn *i, unsigned size,
				 enum mmu_access acc)
{
	return seg_linear(v, i->seg, ea_offset(v, i), size, acc, i->flags & INSN_SEG_CHECK);
}

/* -- execute/exception.c, far.c, task.c, msr.c: the system half -- */

/*
 * Raise a fault at the running instruction (v->insn): RIP goes back to it, the exception is
 * delivered through the IDT (with #DF and shutdown by SDM vol. 3 6.15), and control returns to the
 * run loop. Never return.
 */
_Noreturn void raise_exception(struct vcpu *v, unsigned vector);
_Noreturn void raise_error(struct vcpu *v, unsigned vector, uint32_t error_code);
_Noreturn void raise_page_fault(struct vcpu *v, uint64_t lin, uint32_t error_code);

/* Leave the running trace, v->rip already set. */
_Noreturn void vcpu_unwind(struct vcpu *v);

/*
 * Deliver an event with v->rip as the return address: external interrupts, NMI, traps. Software
 * interrupts (INT n, INT3, INTO) say so: they check DPL and IOPL.
 */
enum event_kind { EVENT_EXTERNAL, EVENT_NMI, EVENT_EXCEPTION, EVENT_SOFTWARE, EVENT_INT1 };
void vcpu_deliver(struct vcpu *v, unsigned vector, enum event_kind kind, bool has_error,
		  uint32_t error_code);

/* Recompute mode, seg_base, cpl-dependent TLB context and req_mask after state was changed. */
void vcpu_update_mode(struct vcpu *v);
void vcpu_update_req_mask(struct vcpu *v);

/* Loads a segment register with all checks of the mode (MOV, POP, LES ...). SDM vol. 3 ch. 5. */
void seg_load(struct vcpu *v, enum seg seg, uint16_t selector);

/*
 * May the running instruction access these ports? True, or raises #GP(0) by IOPL and the TSS's
 * I/O permission bitmap; also notes I/O breakpoints that match. SDM vol. 1, 19.5.
 */
bool io_permitted(struct vcpu *v, uint16_t port, unsigned size);

/* MSRs and CPUID. rdmsr/wrmsr return false for #GP. */
bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
void cpuid_query(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* -- execute/trace.c: the cache of decoded instructions -- */
void trace_flush_all(struct vcpu *v);
/* Bytes changed: drop what was decoded from them, the running trace included (after insn). */
void trace_invalidate(struct vcpu *v, uint64_t gpa, uint64_t len);

#endif
