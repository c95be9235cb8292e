/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be locked: XCHG with memory, XADD, CMPXCHG, CMPXCHG8B/16B, and the locked forms of plain
 * arithmetic. On host memory they are the host's own locked instructions. Accesses that cross a
 * page or go to a device are made under a global lock instead. Intel SDM volume 3, 8.1.
 */
#include <pthread.h>
#include <sched.h>

#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"
#include "execute/trace.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void atomic_lock(struct vcpu *v)
{
	while (pthread_mutex_trylock(&lock)) {
		/* The holder may be waiting for this vCPU to answer: then begin again later. */
		if (vcpu_must_stop(v)) {
			v->rip = vcpu_insn_rip(v);
			if ((v->mode & MODE_SIZE) != MODE_64) {
				v->rip = (uint32_t)v->rip;
			}
			v->n_insns -= v->insn->rest + 1u;
			vcpu_unwind(v);
		}
		sched_yield();
	}
	v->interp->holds_lock = true;
}

void atomic_unlock(struct vcpu *v)
{
	v->interp->holds_lock = false;
	pthread_mutex_unlock(&lock);
}

/* -- add or adc sbb and sub xor; inc dec not neg -- */

#define LOCKED_HANDLER(name, flags_name, bits, src, text, ...)               \
	static const struct insn *name(struct vcpu *v, const struct insn *i) \
	{                                                                    \
		uint##bits##_t val __attribute__((unused)) = src;            \
		mem##bits *p;                                                \
		uint64_t lin;                                                \
		uint16_t f = v->aflags;                                      \
                                                                             \
		v->insn = i;                                                 \
		lin = ea_linear(v, i, bits / 8, MMU_RW);                     \
		p = mmu_ptr(v, lin, bits / 8, MMU_RW);                       \
		if (__builtin_expect(p != NULL, 1)) {                        \
			asm volatile(FLAGS_LOAD "lock " text FLAGS_SAVE      \
				     : [m] "+m"(*p), "+&a"(f)                \
				     : __VA_ARGS__                           \
				     : "cc", "memory");                      \
			v->aflags = f;                                       \
			NEXT(v, i);                                          \
		}                                                            \
		mmu_probe(v, lin, bits / 8, MMU_RW);                         \
		atomic_lock(v);                                              \
		val = flags_name##bits(v, mmu_read##bits(v, lin), val);      \
		mmu_write##bits(v, lin, val);                                \
		atomic_unlock(v);                                            \
		NEXT(v, i);                                                  \
	}

#define LOCKED2(op, bits, suffix)                                                 \
	LOCKED_HANDLER(op##_reg##bits, flags_##op, bits, get##bits(v, i->reg_at), \
		       #op suffix " %[b], %[m]", [b] "q"(val))                    \
	LOCKED_HANDLER(op##_imm##bits, flags_##op, bits, (uint##bits##_t)i->imm,  \
		       #op suffix " %[b], %[m]", [b] "q"(val))
#define LOCKED2_OP(op) \
	LOCKED2(op, 8, "b") LOCKED2(op, 16, "w") LOCKED2(op, 32, "l") LOCKED2(op, 64, "q")
LOCKED2_OP(add)
LOCKED2_OP(or)
LOCKED2_OP(adc)
LOCKED2_OP(sbb)
LOCKED2_OP(and)
LOCKED2_OP(sub)
LOCKED2_OP(xor)

#define LOCKED1(op, bits, suffix) \
	LOCKED_HANDLER(op##_mem##bits, flags_##op, bits, 0, #op suffix " %[m]")
#define LOCKED1_OP(op) \
	LOCKED1(op, 8, "b") LOCKED1(op, 16, "w") LOCKED1(op, 32, "l") LOCKED1(op, 64, "q")
LOCKED1_OP(inc)
LOCKED1_OP(dec)
LOCKED1_OP(not )
LOCKED1_OP(neg)

#define ROW(name)                                     \
	{                                             \
		name##8, name##16, name##32, name##64 \
	}

static insn_fn *const alu_handlers[7][2][4] = {
	{ROW(add_reg), ROW(add_imm)}, {ROW(or_reg), ROW(or_imm)},   {ROW(adc_reg), ROW(adc_imm)},
	{ROW(sbb_reg), ROW(sbb_imm)}, {ROW(and_reg), ROW(and_imm)}, {ROW(sub_reg), ROW(sub_imm)},
	{ROW(xor_reg), ROW(xor_imm)},
};
static insn_fn *const unary_handlers[4][4] = {ROW(inc_mem), ROW(dec_mem), ROW(not_mem),
					      ROW(neg_mem)};

insn_fn *locked_alu(unsigned op, unsigned size, bool imm)
{
	return alu_handlers[op][imm][__builtin_ctz(size)];
}

insn_fn *locked_unary(unsigned op, unsigned size)
{
	return unary_handlers[op][__builtin_ctz(size)];
}

/* -- XCHG, XADD, CMPXCHG -- */

#define EXCHANGE_WIDTH(bits, suffix)                                                            \
	static const struct insn *xchg##bits(struct vcpu *v, const struct insn *i)              \
	{                                                                                       \
		uint##bits##_t val = get##bits(v, i->reg_at), old;                              \
		mem##bits *p;                                                                   \
		uint64_t lin;                                                                   \
                                                                                                \
		v->insn = i;                                                                    \
		lin = ea_linear(v, i, bits / 8, MMU_RW);                                        \
		p = mmu_ptr(v, lin, bits / 8, MMU_RW);                                          \
		if (__builtin_expect(p != NULL, 1)) {                                           \
			asm volatile("xchg" suffix " %[b], %[m]"                                \
				     : [m] "+m"(*p), [b] "+q"(val)::"memory");                  \
			set##bits(v, i->reg_at, val);                                           \
			NEXT(v, i);                                                             \
		}                                                                               \
		mmu_probe(v, lin, bits / 8, MMU_RW);                                            \
		atomic_lock(v);                                                                 \
		old = mmu_read##bits(v, lin);                                                   \
		mmu_write##bits(v, lin, val);                                                   \
		atomic_unlock(v);                                                               \
		set##bits(v, i->reg_at, old);                                                   \
		NEXT(v, i);                                                                     \
	}                                                                                       \
	static const struct insn *xadd##bits(struct vcpu *v, const struct insn *i)              \
	{                                                                                       \
		uint##bits##_t val = get##bits(v, i->reg_at), old;                              \
		mem##bits *p;                                                                   \
		uint64_t lin;                                                                   \
		uint16_t f;                                                                     \
                                                                                                \
		v->insn = i;                                                                    \
		if (i->mod == 3) {                                                              \
			old = get##bits(v, i->rm_at);                                           \
			val = flags_add##bits(v, old, val);                                     \
			set##bits(v, i->reg_at, old);                                           \
			set##bits(v, i->rm_at, val);                                            \
			NEXT(v, i);                                                             \
		}                                                                               \
		lin = ea_linear(v, i, bits / 8, MMU_RW);                                        \
		p = mmu_ptr(v, lin, bits / 8, MMU_RW);                                          \
		if (__builtin_expect(p != NULL, 1)) {                                           \
			asm volatile("lock xadd" suffix " %[b], %[m]" FLAGS_SAVE                \
				     : [m] "+m"(*p), [b] "+q"(val), "=&a"(f)::"cc", "memory");  \
			v->aflags = f;                                                          \
			set##bits(v, i->reg_at, val);                                           \
			NEXT(v, i);                                                             \
		}                                                                               \
		mmu_probe(v, lin, bits / 8, MMU_RW);                                            \
		atomic_lock(v);                                                                 \
		old = mmu_read##bits(v, lin);                                                   \
		mmu_write##bits(v, lin, flags_add##bits(v, old, val));                          \
		atomic_unlock(v);                                                               \
		set##bits(v, i->reg_at, old);                                                   \
		NEXT(v, i);                                                                     \
	}                                                                                       \
	static const struct insn *cmpxchg##bits(struct vcpu *v, const struct insn *i)           \
	{                                                                                       \
		uint##bits##_t acc = get##bits(v, RAX * 8), val = get##bits(v, i->reg_at), old; \
		mem##bits *p;                                                                   \
		uint64_t lin;                                                                   \
                                                                                                \
		v->insn = i;                                                                    \
		if (i->mod == 3) {                                                              \
			old = get##bits(v, i->rm_at);                                           \
			flags_cmp##bits(v, acc, old);                                           \
			if (acc == old) {                                                       \
				set##bits(v, i->rm_at, val);                                    \
			} else { /* the destination keeps its upper half */                     \
				set##bits(v, RAX * 8, old);                                     \
			}                                                                       \
			NEXT(v, i);                                                             \
		}                                                                               \
		lin = ea_linear(v, i, bits / 8, MMU_RW);                                        \
		p = mmu_ptr(v, lin, bits / 8, MMU_RW);                                          \
		if (__builtin_expect(p != NULL, 1)) {                                           \
			old = acc;                                                              \
			asm volatile("lock cmpxchg" suffix " %[b], %[m]"                        \
				     : [m] "+m"(*p), "+a"(old)                                  \
				     : [b] "q"(val)                                             \
				     : "cc", "memory");                                         \
		} else {                                                                        \
			mmu_probe(v, lin, bits / 8, MMU_RW);                                    \
			atomic_lock(v);                                                         \
			old = mmu_read##bits(v, lin);                                           \
			mmu_write##bits(v, lin, old == acc ? val : old);                        \
			atomic_unlock(v);                                                       \
		}                                                                               \
		flags_cmp##bits(v, acc, old);                                                   \
		if (old != acc) {                                                               \
			set##bits(v, RAX * 8, old);                                             \
		}                                                                               \
		NEXT(v, i);                                                                     \
	}
EXCHANGE_WIDTH(8, "b")
EXCHANGE_WIDTH(16, "w")
EXCHANGE_WIDTH(32, "l")
EXCHANGE_WIDTH(64, "q")

static insn_fn *const xchg_handlers[4] = ROW(xchg);
static insn_fn *const xadd_handlers[4] = ROW(xadd);
static insn_fn *const cmpxchg_handlers[4] = ROW(cmpxchg);

static void set_zero_flag(struct vcpu *v, bool zero)
{
	v->aflags = (v->aflags & ~AF_ZF) | (zero ? AF_ZF : 0);
}

static const struct insn *cmpxchg8b(struct vcpu *v, const struct insn *i)
{
	uint64_t expected = (uint64_t)get32(v, RDX * 8) << 32 | get32(v, RAX * 8);
	uint64_t desired = (uint64_t)get32(v, RCX * 8) << 32 | get32(v, RBX * 8);
	uint64_t old = expected, lin;
	mem64 *p;

	v->insn = i;
	lin = ea_linear(v, i, 8, MMU_RW);
	p = mmu_ptr(v, lin, 8, MMU_RW);
	if (p) {
		asm volatile("lock cmpxchgq %[b], %[m]"
			     : [m] "+m"(*p), "+a"(old)
			     : [b] "r"(desired)
			     : "cc", "memory");
	} else {
		mmu_probe(v, lin, 8, MMU_RW);
		atomic_lock(v);
		old = mmu_read64(v, lin);
		mmu_write64(v, lin, old == expected ? desired : old);
		atomic_unlock(v);
	}
	set_zero_flag(v, old == expected);
	if (old != expected) {
		set32(v, RAX * 8, (uint32_t)old);
		set32(v, RDX * 8, (uint32_t)(old >> 32));
	}
	NEXT(v, i);
}

static const struct insn *cmpxchg16b(struct vcpu *v, const struct insn *i)
{
	uint64_t old[2] = {v->gpr[RAX], v->gpr[RDX]}, lin;
	void *p;
	bool equal;

	v->insn = i;
	lin = ea_linear(v, i, 16, MMU_RW);
	if (lin & 15) {
		raise_error(v, VEC_GP, 0);
	}
	p = mmu_ptr(v, lin, 16, MMU_RW);
	if (p) {
		asm volatile("lock cmpxchg16b %[m]"
			     : [m] "+m"(*(unsigned __int128 *)p), "+a"(old[0]), "+d"(old[1]),
			       "=@ccz"(equal)
			     : "b"(v->gpr[RBX]), "c"(v->gpr[RCX])
			     : "memory");
	} else {
		mmu_probe(v, lin, 16, MMU_RW);
		atomic_lock(v);
		old[0] = mmu_read64(v, lin);
		old[1] = mmu_read64(v, lin + 8);
		equal = old[0] == v->gpr[RAX] && old[1] == v->gpr[RDX];
		mmu_write64(v, lin, equal ? v->gpr[RBX] : old[0]);
		mmu_write64(v, lin + 8, equal ? v->gpr[RCX] : old[1]);
		atomic_unlock(v);
	}
	set_zero_flag(v, equal);
	if (!equal) {
		v->gpr[RAX] = old[0];
		v->gpr[RDX] = old[1];
	}
	NEXT(v, i);
}

bool integer_bind_atomic(struct vcpu *v, struct insn *i)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1, width = (unsigned)__builtin_ctz(size);

	if (i->flags & INSN_VEX) {
		return false;
	}
	if (i->map == MAP_1 && (i->opcode & 0xfe) == 0x86) {
		if (i->mod == 3) {
			return false; /* integer_bind_move() */
		}
		operand_bind(v, i, size);
		i->fn = xchg_handlers[width];
		return true;
	}
	if (i->map != MAP_0F) {
		return false;
	}
	switch (i->opcode) {
	case 0xb0:
	case 0xb1:
		operand_bind(v, i, size);
		i->fn = cmpxchg_handlers[width];
		return true;
	case 0xc0:
	case 0xc1:
		operand_bind(v, i, size);
		i->fn = xadd_handlers[width];
		return true;
	case 0xc7:
		if (i->mod == 3 || (i->modrm >> 3 & 7) != 1) {
			return false;
		}
		operand_bind(v, i, i->opsize);
		i->fn = i->opsize == 8 ? cmpxchg16b : cmpxchg8b;
		return true;
	}
	return false;
}
