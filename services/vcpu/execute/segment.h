/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors and selectors. Intel SDM volume 3, 3.4 and 3.5. vCPU thread only.
 */
#ifndef VCPU_EXECUTE_SEGMENT_H
#define VCPU_EXECUTE_SEGMENT_H

#include "cpu.h"
#include "execute/execute.h"

/* Types of system descriptors, SDM vol. 3 table 3-2. */
enum {
	SYS_TSS16 = 1,
	SYS_LDT = 2,
	SYS_TSS16_BUSY = 3,
	SYS_CALL16 = 4,
	SYS_TASK_GATE = 5,
	SYS_INT16 = 6,
	SYS_TRAP16 = 7,
	SYS_TSS32 = 9,
	SYS_TSS32_BUSY = 11,
	SYS_CALL32 = 12,
	SYS_INT32 = 14,
	SYS_TRAP32 = 15,
	SYS_TSS_BUSY_BIT = 2,
};

/* Bits of a selector. */
enum { SEL_RPL = 3, SEL_TI = 4 };

struct descriptor {
	uint64_t raw;
	uint64_t lin; /* where it lies */
};

static inline uint32_t desc_attr(const struct descriptor *d)
{
	return (uint32_t)(d->raw >> 40) & 0xf0ff;
}

static inline unsigned desc_type(const struct descriptor *d)
{
	return d->raw >> 40 & SEG_TYPE;
}

static inline unsigned desc_dpl(const struct descriptor *d)
{
	return d->raw >> 45 & 3;
}

static inline bool desc_present(const struct descriptor *d)
{
	return d->raw >> 47 & 1;
}

static inline bool desc_is_segment(const struct descriptor *d)
{
	return d->raw >> 44 & 1;
}

static inline bool desc_is_code(const struct descriptor *d)
{
	return desc_is_segment(d) && (desc_type(d) & SEG_TYPE_CODE);
}

static inline bool desc_is_conforming(const struct descriptor *d)
{
	return desc_is_code(d) && (desc_type(d) & SEG_TYPE_EXPAND);
}

static inline bool desc_is_writable(const struct descriptor *d)
{
	return desc_is_segment(d) && !(desc_type(d) & SEG_TYPE_CODE) &&
	       (desc_type(d) & SEG_TYPE_WRITE);
}

static inline uint32_t desc_base(const struct descriptor *d)
{
	return (uint32_t)(d->raw >> 16 & 0xffffff) | (uint32_t)(d->raw >> 56) << 24;
}

static inline uint32_t desc_limit(const struct descriptor *d)
{
	uint32_t limit = (uint32_t)(d->raw & 0xffff) | ((uint32_t)(d->raw >> 32) & 0xf0000);

	return d->raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}

/* Fields of a gate. */
static inline uint16_t gate_selector(const struct descriptor *d)
{
	return (uint16_t)(d->raw >> 16);
}

static inline uint32_t gate_offset(const struct descriptor *d)
{
	return (uint32_t)(d->raw & 0xffff) | ((uint32_t)(d->raw >> 32) & 0xffff0000);
}

static inline bool is_null(uint16_t sel)
{
	return (sel & ~SEL_RPL) == 0;
}

static inline bool is_canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

static inline unsigned vcpu_dpl(const struct segment *s)
{
	return s->attr >> SEG_DPL_SHIFT & 3;
}

/* Reads the descriptor of a non-null selector; false: outside its table. May raise #PF. */
bool desc_read(struct vcpu *v, uint16_t sel, struct descriptor *d);
/* The same, raising vector(sel) when it lies outside. */
void desc_read_or_raise(struct vcpu *v, uint16_t sel, struct descriptor *d, unsigned vector);
/* Upper 8 bytes of a 16-byte system descriptor; false: outside the table. */
bool desc_read_upper(struct vcpu *v, uint16_t sel, const struct descriptor *d, uint64_t *upper);
/* Sets the accessed bit of a code or data descriptor, in memory and in *d. */
void desc_set_accessed(struct vcpu *v, struct descriptor *d);
/* Sets or clears a TSS descriptor's busy bit in memory. */
void desc_set_busy(struct vcpu *v, uint64_t lin, bool busy);

/* What a segment register holds after a load of this descriptor. */
static inline struct segment segment_from(uint16_t sel, const struct descriptor *d)
{
	return (struct segment){.base = desc_base(d),
				.limit = desc_limit(d),
				.attr = desc_attr(d),
				.selector = sel};
}
/* The same for a selector loaded in virtual-8086 mode. */
struct segment segment_v86(uint16_t sel);
/* A null selector: no access through it. */
struct segment segment_null(uint16_t sel);
/* Real-address mode: selector and base change, the limit and D stay. */
void segment_load_real(struct vcpu *v, enum seg seg, uint16_t sel);

/*
 * Checks of a stack segment that a gate or return switches to: selector `sel` for privilege `cpl`;
 * faults are `vector` (#TS or #GP), not present is #SS. *d gets its descriptor.
 */
void stack_segment_check(struct vcpu *v, uint16_t sel, unsigned cpl, unsigned vector,
			 struct descriptor *d);

/* The stack that the current 16- or 32-bit TSS holds for privilege cpl; #TS outside its limit. */
void tss_stack(struct vcpu *v, unsigned cpl, uint16_t *ss, uint32_t *sp);
/* The 64-bit TSS: RSP0-2 are slots 0 to 2, IST1-7 are slots 4 to 10. */
uint64_t tss_stack64(struct vcpu *v, unsigned slot);

/* After a return to an outer ring: data segments the new CPL must not hold become null. */
void segments_drop_privileged(struct vcpu *v, unsigned cpl);

/* LAR, LSL, VERR, VERW: whether the selector may be examined; limit and access rights. */
bool segment_lar(struct vcpu *v, uint16_t sel, uint32_t *rights);
bool segment_lsl(struct vcpu *v, uint16_t sel, uint32_t *limit);
bool segment_verify(struct vcpu *v, uint16_t sel, bool write);

void segment_load_ldtr(struct vcpu *v, uint16_t sel);
void segment_load_tr(struct vcpu *v, uint16_t sel);

/* A stack as pushes and pops of a far transfer move along it; nothing commits until it is done. */
struct stack {
	uint64_t base, sp, mask;
	struct segment seg; /* for the limit */
	unsigned cpl;	    /* rights of the accesses */
	uint32_t error;	    /* of #SS when the limit is passed */
	bool flat64;	    /* 64-bit mode: canonical checks instead of limits */
};

/* The stack in use. */
struct stack stack_current(const struct vcpu *v);
/* A stack in `seg` at `sp`, for privilege cpl. */
struct stack stack_in(const struct segment *seg, uint64_t sp, unsigned cpl, uint32_t error);
void stack_push(struct vcpu *v, struct stack *s, unsigned size, uint64_t val);
uint64_t stack_pop(struct vcpu *v, struct stack *s, unsigned size);
/* SP with the stack's width put into RSP: narrower stacks leave the upper bits alone. */
void stack_commit(struct vcpu *v, const struct stack *s);

#endif
