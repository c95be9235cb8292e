/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near control transfers: JMP, Jcc, CALL, RET, LOOP, JCXZ. Intel SDM volume 2; where a target is
 * refused (beyond CS's limit, not canonical) the branch itself faults, with nothing changed.
 *
 * A direct branch within its page is linked: insn.aux holds the target's trace. Such a link may
 * outlive the trace, which then answers by looking itself up again: see trace.h.
 */
#include "execute/flags.h"
#include "execute/operand.h"
#include "execute/trace.h"

static bool is_long(const struct vcpu *v)
{
	return (v->mode & MODE_SIZE) == MODE_64;
}

/* Truncates a target to the operand size. */
static inline uint64_t target_truncate(const struct insn *i, uint64_t rip)
{
	return i->opsize == 8 ? rip : i->opsize == 4 ? (uint32_t)rip : (uint16_t)rip;
}

static inline uint64_t relative_target(const struct vcpu *v, const struct insn *i)
{
	return target_truncate(i, v->trace_rip + i->off + i->len + i->imm);
}

/* Raises #GP(0) when RIP may not become `target`. v->insn is set. */
static inline void check_target(struct vcpu *v, uint64_t target)
{
	if (is_long(v)) {
		if (__builtin_expect((uint64_t)((int64_t)(target << 16) >> 16) != target, 0)) {
			raise_error(v, VEC_GP, 0);
		}
	} else if (__builtin_expect(!(v->mode & MODE_FLAT) && target > v->seg[SEG_CS].limit, 0)) {
		raise_error(v, VEC_GP, 0);
	}
}

/* Goes on at v->rip, wherever that is. */
#define GO_ON(v)                                                 \
	do {                                                     \
		const struct trace *t_;                          \
		const struct insn *to_;                          \
                                                                 \
		if (__builtin_expect(trace_must_return(v), 0)) { \
			END_TRACE();                             \
		}                                                \
		t_ = trace_lookup(v);                            \
		if (__builtin_expect(!t_, 0)) {                  \
			END_TRACE();                             \
		}                                                \
		to_ = trace_enter(v, t_);                        \
		CHAIN_TO(v, to_);                                \
	} while (0)

/* The slow half of a linked branch: v->rip is set. Makes the link where it holds. */
static const struct insn *branch_unlinked(struct vcpu *v, const struct insn *i)
{
	const struct trace *t = trace_lookup(v);

	if (!t) {
		END_TRACE();
	}
	if (mode_is_flat(v->mode) && !((v->rip ^ (v->trace_rip + i->off)) >> 12)) {
		trace_link(i, t);
	}
	i = trace_enter(v, t);
	CHAIN_TO(v, i);
}

/* Goes on at v->rip, which the direct branch i always goes to. */
#define FOLLOW_LINK(v, i)                                                           \
	do {                                                                        \
		const struct trace *t_ = (i)->aux;                                  \
		const struct insn *to_;                                             \
                                                                                    \
		if (__builtin_expect(trace_must_return(v), 0)) {                    \
			END_TRACE();                                                \
		}                                                                   \
		if (__builtin_expect(!t_ || t_->insns[0].fn == trace_stopped, 0)) { \
			return branch_unlinked(v, i);                               \
		}                                                                   \
		to_ = trace_enter(v, t_);                                           \
		CHAIN_TO(v, to_);                                                   \
	} while (0)

/* A branch not taken continues the trace; a taken one skips the rest of it. */
static const struct insn *take_branch(struct vcpu *v, const struct insn *i)
{
	uint64_t target = relative_target(v, i);

	v->insn = i;
	check_target(v, target);
	v->n_insns -= i->rest;
	v->rip = target;
	FOLLOW_LINK(v, i);
}

/* In 64-bit mode with 64-bit operands, from and to canonical addresses but for the very edge. */
static inline const struct insn *take_branch64(struct vcpu *v, const struct insn *i)
{
	uint64_t target = v->trace_rip + i->off + i->len + i->imm;

	if (__builtin_expect((uint64_t)((int64_t)(target << 16) >> 16) != target, 0)) {
		return take_branch(v, i);
	}
	v->n_insns -= i->rest;
	v->rip = target;
	FOLLOW_LINK(v, i);
}

/* Jcc, one handler a condition, for each of: 64-bit mode, the others. */
#define JCC(cc)                                                                         \
	static const struct insn *jcc_##cc##_long(struct vcpu *v, const struct insn *i) \
	{                                                                               \
		if (condition(v->aflags, 0x##cc)) {                                     \
			return take_branch64(v, i);                                     \
		}                                                                       \
		NEXT(v, i);                                                             \
	}                                                                               \
	static const struct insn *jcc_##cc##_any(struct vcpu *v, const struct insn *i)  \
	{                                                                               \
		if (condition(v->aflags, 0x##cc)) {                                     \
			return take_branch(v, i);                                       \
		}                                                                       \
		NEXT(v, i);                                                             \
	}
/* clang-format off */
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7)
JCC(8) JCC(9) JCC(a) JCC(b) JCC(c) JCC(d) JCC(e) JCC(f)

#define JCC_ROW(cc) { jcc_##cc##_any, jcc_##cc##_long }
static insn_fn *const jcc_handlers[16][2] = {
	JCC_ROW(0), JCC_ROW(1), JCC_ROW(2), JCC_ROW(3), JCC_ROW(4), JCC_ROW(5), JCC_ROW(6), JCC_ROW(7),
	JCC_ROW(8), JCC_ROW(9), JCC_ROW(a), JCC_ROW(b), JCC_ROW(c), JCC_ROW(d), JCC_ROW(e), JCC_ROW(f),
};
/* clang-format on */

static const struct insn *jmp_rel_long(struct vcpu *v, const struct insn *i)
{
	return take_branch64(v, i);
}

static const struct insn *jmp_rel(struct vcpu *v, const struct insn *i)
{
	return take_branch(v, i);
}

static const struct insn *jmp_rm(struct vcpu *v, const struct insn *i)
{
	uint64_t target;

	v->insn = i;
	target = rm_read(v, i, i->opsize);
	check_target(v, target);
	v->rip = target;
	GO_ON(v);
}

/* A stack that cannot take the return address goes before a target that is refused. */
static void push_return(struct vcpu *v, const struct insn *i, uint64_t target)
{
	uint64_t sp = v->gpr[RSP] - i->opsize;
	uint64_t lin = stack_linear_at(v, i, sp, i->opsize, MMU_W);

	if (!tlb_hit_w(v, lin, i->opsize)) {
		mmu_probe(v, lin, i->opsize, MMU_W);
	}
	check_target(v, target);
	mmu_write_size(v, lin, i->opsize, vcpu_next_rip(v, i));
	stack_set(v, sp);
}

static const struct insn *call_rel(struct vcpu *v, const struct insn *i)
{
	uint64_t target = relative_target(v, i);

	v->insn = i;
	push_return(v, i, target);
	v->rip = target;
	FOLLOW_LINK(v, i);
}

static const struct insn *call_rel_long(struct vcpu *v, const struct insn *i)
{
	uint64_t next = v->trace_rip + i->off + i->len, target = next + i->imm;
	uint64_t sp = v->gpr[RSP] - 8;
	mem64 *p = tlb_hit_w(v, sp, 8);

	if (__builtin_expect(!p || (uint64_t)((int64_t)(target << 16) >> 16) != target, 0)) {
		return call_rel(v, i);
	}
	*p = next;
	v->gpr[RSP] = sp;
	v->rip = target;
	FOLLOW_LINK(v, i);
}

static const struct insn *call_rm(struct vcpu *v, const struct insn *i)
{
	uint64_t target;

	v->insn = i;
	target = rm_read(v, i, i->opsize);
	push_return(v, i, target);
	v->rip = target;
	GO_ON(v);
}

static const struct insn *ret(struct vcpu *v, const struct insn *i)
{
	uint64_t target;

	v->insn = i;
	target = stack_top(v, i, i->opsize);
	check_target(v, target);
	stack_set(v, v->gpr[RSP] + i->opsize + (i->opcode == 0xc2 ? (uint16_t)i->imm : 0));
	v->rip = target;
	GO_ON(v);
}

static const struct insn *ret_long(struct vcpu *v, const struct insn *i)
{
	const mem64 *p = tlb_hit_r(v, v->gpr[RSP], 8);

	if (__builtin_expect(!p || (uint64_t)((int64_t)(*p << 16) >> 16) != *p, 0)) {
		return ret(v, i);
	}
	v->gpr[RSP] += 8;
	v->rip = *p;
	GO_ON(v);
}

/* LOOPNE, LOOPE, LOOP, JCXZ: the count register has the address size. */
static const struct insn *loop(struct vcpu *v, const struct insn *i)
{
	uint64_t target = relative_target(v, i), count;
	bool zero = v->aflags & AF_ZF, taken;

	count = get_size(v, RCX * 8, i->addrsize);
	if (i->opcode == 0xe3) {
		taken = count == 0;
	} else {
		count--;
		taken = (i->addrsize == 8   ? count
			 : i->addrsize == 4 ? (uint32_t)count
					    : (uint16_t)count) != 0;
		taken = taken && (i->opcode == 0xe2 || zero == (i->opcode == 0xe1));
	}
	if (taken) {
		v->insn = i;
		check_target(v, target);
	}
	if (i->opcode != 0xe3) {
		set_size(v, RCX * 8, i->addrsize, count);
	}
	if (taken) {
		return take_branch(v, i);
	}
	NEXT(v, i);
}

/*
 * STI where its shadow ends with the trace, which decoding sees to: the next instruction runs, then
 * the trace's end looks for interrupts. All else is the system half's handler, in aux.
 */
static const struct insn *sti_covered(struct vcpu *v, const struct insn *i)
{
	unsigned iopl = (v->rflags & FL_IOPL) >> 12;

	if (i->rest != 1 || (v->rflags & FL_IF) || (v->mode & MODE_V86) || v->cpl > iopl) {
		return ((insn_fn *)i->aux)(v, i);
	}
	v->rflags |= FL_IF;
	v->req_mask |= REQ_IRQ;
	NEXT(v, i);
}

static bool bind_sti(struct vcpu *v, struct insn *i)
{
	if (!execute_bind_system(v, i)) {
		return false;
	}
	i->aux = (void *)i->fn;
	i->fn = sti_covered;
	i->flags &= ~INSN_END;
	return true;
}

static bool bind_group_5(struct vcpu *v, struct insn *i)
{
	unsigned reg = i->modrm >> 3 & 7;

	if (reg != 2 && reg != 4) {
		return false;
	}
	operand_bind(v, i, i->opsize);
	i->fn = reg == 2 ? call_rm : jmp_rm;
	i->flags |= INSN_END;
	return true;
}

bool execute_bind_control(struct vcpu *v, struct insn *i)
{
	bool wide = is_long(v) && i->opsize == 8;

	if (i->flags & INSN_VEX) {
		return false;
	}
	if (i->map == MAP_0F && (i->opcode & 0xf0) == 0x80) {
		i->fn = jcc_handlers[i->opcode & 15][wide];
		return true;
	}
	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0x70 ... 0x7f: i->fn = jcc_handlers[i->opcode & 15][wide]; return true;
	case 0xe0 ... 0xe3: i->fn = loop; return true;
	case 0xc2: i->fn = ret; break;
	case 0xc3: i->fn = wide ? ret_long : ret; break;
	case 0xe8: i->fn = wide ? call_rel_long : call_rel; break;
	case 0xe9:
	case 0xeb: i->fn = wide ? jmp_rel_long : jmp_rel; break;
	case 0xfb: return bind_sti(v, i);
	case 0xff: return bind_group_5(v, i);
	default: return false;
	}
	i->flags |= INSN_END;
	return true;
}
