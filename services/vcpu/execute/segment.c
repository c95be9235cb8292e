/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment registers: loads, limit and type checks, descriptor tables. Intel SDM volume 3,
 * 3.4, 3.5 and chapter 5.
 */
#include "execute/segment.h"

bool desc_read(struct vcpu *v, uint16_t sel, struct descriptor *d)
{
	uint64_t base = v->gdtr.base;
	uint32_t limit = v->gdtr.limit;

	if (sel & SEL_TI) {
		const struct segment *ldt = &v->seg[SEG_LDTR];

		if (ldt->attr & SEG_UNUSABLE) {
			return false;
		}
		base = ldt->base;
		limit = ldt->limit;
	}
	if ((uint32_t)(sel | 7) > limit) {
		return false;
	}
	d->lin = base + (sel & 0xfff8);
	d->raw = mmu_read_sys(v, d->lin, 8);
	return true;
}

void desc_read_or_raise(struct vcpu *v, uint16_t sel, struct descriptor *d, unsigned vector)
{
	if (!desc_read(v, sel, d)) {
		raise_error(v, vector, sel & ~SEL_RPL);
	}
}

bool desc_read_upper(struct vcpu *v, uint16_t sel, const struct descriptor *d, uint64_t *upper)
{
	uint32_t limit = sel & SEL_TI ? v->seg[SEG_LDTR].limit : v->gdtr.limit;

	if ((uint32_t)(sel | 7) + 8 > limit) {
		return false;
	}
	*upper = mmu_read_sys(v, d->lin + 8, 8);
	return true;
}

void desc_set_accessed(struct vcpu *v, struct descriptor *d)
{
	const uint64_t accessed = (uint64_t)SEG_TYPE_ACCESSED << 40;

	if (!(d->raw & accessed)) {
		d->raw |= accessed;
		mmu_write_sys(v, d->lin + 5, 1, d->raw >> 40 & 0xff);
	}
}

void desc_set_busy(struct vcpu *v, uint64_t lin, bool busy)
{
	uint8_t type = (uint8_t)mmu_read_sys(v, lin + 5, 1);

	type = busy ? type | SYS_TSS_BUSY_BIT : type & ~SYS_TSS_BUSY_BIT;
	mmu_write_sys(v, lin + 5, 1, type);
}

struct segment segment_v86(uint16_t sel)
{
	return (struct segment){
		.base = (uint64_t)sel << 4,
		.limit = 0xffff,
		.selector = sel,
		.attr = SEG_P | 3 << SEG_DPL_SHIFT | SEG_S | SEG_TYPE_WRITE | SEG_TYPE_ACCESSED,
	};
}

struct segment segment_null(uint16_t sel)
{
	return (struct segment){.attr = SEG_UNUSABLE, .selector = sel};
}

void segment_load_real(struct vcpu *v, enum seg seg, uint16_t sel)
{
	struct segment *s = &v->seg[seg];

	if (v->rflags & FL_VM) {
		*s = segment_v86(sel);
		return;
	}
	s->selector = sel;
	s->base = (uint64_t)sel << 4;
	s->attr = (s->attr & (SEG_G | SEG_DB)) | SEG_P | SEG_S | SEG_TYPE_WRITE | SEG_TYPE_ACCESSED;
}

static _Noreturn void raise_segment(struct vcpu *v, enum seg seg)
{
	raise_error(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static bool type_allows(const struct segment *s, enum mmu_access acc)
{
	if (s->attr & SEG_TYPE_CODE) {
		return !(acc & MMU_W) && (!(acc & MMU_R) || (s->attr & SEG_TYPE_WRITE));
	}
	return !(acc & MMU_W) || (s->attr & SEG_TYPE_WRITE);
}

/* Whether [offset, offset + size) lies within the segment. */
static bool limit_allows(const struct segment *s, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;

	if (!(s->attr & SEG_TYPE_CODE) && (s->attr & SEG_TYPE_EXPAND)) {
		return offset > s->limit && last <= (s->attr & SEG_DB ? UINT32_MAX : 0xffff);
	}
	return last <= s->limit;
}

uint64_t seg_linear_checked(struct vcpu *v, enum seg seg, uint64_t offset, unsigned size,
			    enum mmu_access acc)
{
	const struct segment *s = &v->seg[seg];

	if ((v->mode & MODE_SIZE) == MODE_64) {
		return v->seg_base[seg] + offset;
	}
	if (v->mode & MODE_PROT) {
		if ((s->attr & SEG_UNUSABLE) || !type_allows(s, acc)) {
			raise_segment(v, seg);
		}
	}
	if (!limit_allows(s, (uint32_t)offset, size)) {
		raise_segment(v, seg);
	}
	return (uint32_t)(s->base + offset);
}

/* SS: writable data with RPL == DPL == CPL. */
static struct segment load_ss(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;

	if (is_null(sel)) {
		if ((v->mode & MODE_SIZE) == MODE_64 && v->cpl < 3 && (sel & SEL_RPL) == v->cpl) {
			struct segment s = segment_null(sel);

			s.attr |= (uint32_t)v->cpl << SEG_DPL_SHIFT;
			return s;
		}
		raise_error(v, VEC_GP, 0);
	}
	if ((sel & SEL_RPL) != v->cpl) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	stack_segment_check(v, sel, v->cpl, VEC_GP, &d);
	desc_set_accessed(v, &d);
	return segment_from(sel, &d);
}

static struct segment load_data(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;

	if (is_null(sel)) {
		return segment_null(sel);
	}
	desc_read_or_raise(v, sel, &d, VEC_GP);
	if (!desc_is_segment(&d) || (desc_is_code(&d) && !(desc_type(&d) & SEG_TYPE_WRITE))) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	if (!desc_is_conforming(&d) &&
	    ((unsigned)(sel & SEL_RPL) > desc_dpl(&d) || v->cpl > desc_dpl(&d))) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	if (!desc_present(&d)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
	desc_set_accessed(v, &d);
	return segment_from(sel, &d);
}

void seg_load(struct vcpu *v, enum seg seg, uint16_t selector)
{
	if (!(v->mode & MODE_PROT)) {
		segment_load_real(v, seg, selector);
	} else if (seg == SEG_SS) {
		v->seg[seg] = load_ss(v, selector);
	} else {
		v->seg[seg] = load_data(v, selector);
	}
	vcpu_update_mode(v);
}

void stack_segment_check(struct vcpu *v, uint16_t sel, unsigned cpl, unsigned vector,
			 struct descriptor *d)
{
	if (is_null(sel)) {
		raise_error(v, vector, 0);
	}
	desc_read_or_raise(v, sel, d, vector);
	if ((unsigned)(sel & SEL_RPL) != cpl || desc_dpl(d) != cpl || !desc_is_writable(d)) {
		raise_error(v, vector, sel & ~SEL_RPL);
	}
	if (!desc_present(d)) {
		raise_error(v, VEC_SS, sel & ~SEL_RPL);
	}
}

void tss_stack(struct vcpu *v, unsigned cpl, uint16_t *ss, uint32_t *sp)
{
	const struct segment *tr = &v->seg[SEG_TR];
	bool wide = tr->attr & 8;
	unsigned off = wide ? 4 + cpl * 8 : 2 + cpl * 4, size = wide ? 4 : 2;

	if ((tr->attr & SEG_UNUSABLE) || off + size + 1 > tr->limit) {
		raise_error(v, VEC_TS, tr->selector & ~SEL_RPL);
	}
	*sp = (uint32_t)mmu_read_sys(v, tr->base + off, size);
	*ss = (uint16_t)mmu_read_sys(v, tr->base + off + size, 2);
}

uint64_t tss_stack64(struct vcpu *v, unsigned slot)
{
	const struct segment *tr = &v->seg[SEG_TR];
	unsigned off = 4 + slot * 8;

	if ((tr->attr & SEG_UNUSABLE) || off + 7 > tr->limit) {
		raise_error(v, VEC_TS, tr->selector & ~SEL_RPL);
	}
	return mmu_read_sys(v, tr->base + off, 8);
}

void segments_drop_privileged(struct vcpu *v, unsigned cpl)
{
	static const enum seg segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	unsigned i;

	for (i = 0; i < 4; i++) {
		struct segment *s = &v->seg[segs[i]];
		bool conforming = (s->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPAND)) ==
				  (SEG_TYPE_CODE | SEG_TYPE_EXPAND);

		if ((s->attr & SEG_UNUSABLE) || is_null(s->selector)) {
			continue;
		}
		if (!conforming && vcpu_dpl(s) < cpl) {
			/* The base stays, which FS and GS of 64-bit mode show. */
			s->selector = 0;
			s->attr |= SEG_UNUSABLE;
		}
	}
}

/* -- LAR, LSL, VERR, VERW -- */

/* Whether CPL and RPL may see this descriptor. */
static bool visible(const struct vcpu *v, uint16_t sel, const struct descriptor *d)
{
	return desc_is_conforming(d) ||
	       (v->cpl <= desc_dpl(d) && (unsigned)(sel & SEL_RPL) <= desc_dpl(d));
}

/* System types with access rights to tell (LAR), with a limit (LSL); SDM vol. 2. */
enum {
	LAR_TYPES_LEGACY = 0x1a3e, /* 1-5, 9, 11, 12 */
	LAR_TYPES_LONG = 0x1a04,   /* 2, 9, 11, 12 */
	LSL_TYPES_LEGACY = 0x0a0e, /* 1-3, 9, 11 */
	LSL_TYPES_LONG = 0x0a04,   /* 2, 9, 11 */
};

bool segment_lar(struct vcpu *v, uint16_t sel, uint32_t *rights)
{
	unsigned types = v->efer & EFER_LMA ? LAR_TYPES_LONG : LAR_TYPES_LEGACY;
	struct descriptor d;

	if (is_null(sel) || !desc_read(v, sel, &d) || !visible(v, sel, &d) ||
	    (!desc_is_segment(&d) && !(types >> desc_type(&d) & 1))) {
		return false;
	}
	*rights = (uint32_t)(d.raw >> 32) & 0x00ffff00;
	return true;
}

bool segment_lsl(struct vcpu *v, uint16_t sel, uint32_t *limit)
{
	unsigned types = v->efer & EFER_LMA ? LSL_TYPES_LONG : LSL_TYPES_LEGACY;
	struct descriptor d;

	if (is_null(sel) || !desc_read(v, sel, &d) || !visible(v, sel, &d) ||
	    (!desc_is_segment(&d) && !(types >> desc_type(&d) & 1))) {
		return false;
	}
	*limit = desc_limit(&d);
	return true;
}

bool segment_verify(struct vcpu *v, uint16_t sel, bool write)
{
	struct descriptor d;

	if (is_null(sel) || !desc_read(v, sel, &d) || !desc_is_segment(&d) ||
	    !visible(v, sel, &d)) {
		return false;
	}
	if (write) {
		return desc_is_writable(&d);
	}
	return !desc_is_code(&d) || (desc_type(&d) & SEG_TYPE_WRITE);
}

/* -- LDTR and TR -- */

/* Reads a system descriptor from the GDT, in long mode with its upper half. */
static struct segment read_system(struct vcpu *v, uint16_t sel, struct descriptor *d,
				  unsigned types)
{
	struct segment s;
	uint64_t upper = 0;

	if (sel & SEL_TI) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	desc_read_or_raise(v, sel, d, VEC_GP);
	if (desc_is_segment(d) || !(types >> desc_type(d) & 1)) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	if (!desc_present(d)) {
		raise_error(v, VEC_NP, sel & ~SEL_RPL);
	}
	if ((v->efer & EFER_LMA) && !desc_read_upper(v, sel, d, &upper)) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	s = segment_from(sel, d);
	s.base |= upper << 32;
	if (!is_canonical(s.base) || (upper >> 32 & 0x1f00)) {
		raise_error(v, VEC_GP, sel & ~SEL_RPL);
	}
	return s;
}

void segment_load_ldtr(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;

	if (is_null(sel)) {
		v->seg[SEG_LDTR] = segment_null(sel);
		return;
	}
	v->seg[SEG_LDTR] = read_system(v, sel, &d, 1 << SYS_LDT);
}

void segment_load_tr(struct vcpu *v, uint16_t sel)
{
	unsigned types = 1 << SYS_TSS32;
	struct descriptor d;
	struct segment s;

	if (is_null(sel)) {
		raise_error(v, VEC_GP, 0);
	}
	if (!(v->efer & EFER_LMA)) {
		types |= 1 << SYS_TSS16;
	}
	s = read_system(v, sel, &d, types);
	desc_set_busy(v, d.lin, true);
	s.attr |= SYS_TSS_BUSY_BIT;
	v->seg[SEG_TR] = s;
}

/* -- Stacks -- */

struct stack stack_in(const struct segment *seg, uint64_t sp, unsigned cpl, uint32_t error)
{
	return (struct stack){.base = seg->base,
			      .sp = sp,
			      .seg = *seg,
			      .cpl = cpl,
			      .mask = seg->attr & SEG_DB ? UINT32_MAX : 0xffff,
			      .error = error};
}

struct stack stack_current(const struct vcpu *v)
{
	struct stack s = stack_in(&v->seg[SEG_SS], v->gpr[RSP], v->cpl, 0);

	if ((v->mode & MODE_SIZE) == MODE_64) {
		s.flat64 = true;
		s.base = 0;
		s.mask = UINT64_MAX;
	}
	return s;
}

static uint64_t stack_linear(struct vcpu *v, const struct stack *s, unsigned size)
{
	uint64_t off = s->sp & s->mask;

	if (s->flat64) {
		if (!is_canonical(off) || !is_canonical(off + size - 1)) {
			raise_error(v, VEC_SS, s->error);
		}
		return off;
	}
	if (!limit_allows(&s->seg, off, size)) {
		raise_error(v, VEC_SS, s->error);
	}
	return (uint32_t)(s->base + off);
}

void stack_push(struct vcpu *v, struct stack *s, unsigned size, uint64_t val)
{
	s->sp -= size;
	mmu_write_cpl(v, s->cpl, stack_linear(v, s, size), size, val);
}

uint64_t stack_pop(struct vcpu *v, struct stack *s, unsigned size)
{
	uint64_t val = mmu_read_cpl(v, s->cpl, stack_linear(v, s, size), size);

	s->sp += size;
	return val;
}

void stack_commit(struct vcpu *v, const struct stack *s)
{
	v->gpr[RSP] = (v->gpr[RSP] & ~s->mask) | (s->sp & s->mask);
	if (s->mask == UINT32_MAX) {
		v->gpr[RSP] = (uint32_t)s->sp;
	}
}
