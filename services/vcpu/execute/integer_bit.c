/* SPDX-License-Identifier: Apache-2.0 */
/* Bits: BT BTS BTR BTC, BSF BSR, TZCNT LZCNT POPCNT, CRC32. Intel SDM volume 2. */
#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"
#include "execute/trace.h"

/*
 * BT and friends. With a register as bit offset and the string in memory, the offset is signed and
 * reaches beyond the operand: the access goes to the operand-sized unit that holds the bit.
 */
static uint64_t bit_linear(struct vcpu *v, const struct insn *i, unsigned size, enum mmu_access acc)
{
	unsigned log = (unsigned)__builtin_ctz(size);
	uint64_t off = ea_offset(v, i);
	int64_t bit;

	if (i->opcode != 0xba) {
		bit = (int64_t)get_size(v, i->reg_at, size);
		bit = (int64_t)((uint64_t)bit << (64 - size * 8)) >> (64 - size * 8);
		off += (uint64_t)(bit >> (log + 3)) << log;
		off = i->addrsize == 4 ? (uint32_t)off : i->addrsize == 2 ? (uint16_t)off : off;
		if (i->seg == SEG_SS && (v->mode & MODE_SIZE) == MODE_64 &&
		    (uint64_t)((int64_t)(off << 16) >> 16) != off) {
			raise_error(v, VEC_SS, 0); /* the MMU knows plain operands only */
		}
	}
	return seg_linear(v, i->seg, off, size, acc, i->flags & INSN_SEG_CHECK);
}

enum { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static uint64_t bit_change(unsigned op, uint64_t val, uint64_t mask)
{
	switch (op) {
	case BIT_SET: return val | mask;
	case BIT_RESET: return val & ~mask;
	case BIT_COMPLEMENT: return val ^ mask;
	default: return val;
	}
}

/* Only CF is defined; the others stay, as on the processors known. */
static void set_carry(struct vcpu *v, bool carry)
{
	v->aflags = (v->aflags & ~AF_CF) | (carry ? AF_CF : 0);
}

/* All bits set or none: what the bit of `mask` was; or the unit as it was. */
static uint64_t bit_locked(struct vcpu *v, unsigned op, uint64_t lin, unsigned size, uint64_t mask)
{
	void *p = mmu_ptr(v, lin, size, MMU_RW);
	uint64_t val = 0;
	uint8_t *byte, bit;

	if (!p || ((uintptr_t)p & (size - 1))) {
		mmu_probe(v, lin, size, MMU_RW);
		atomic_lock(v);
		val = mmu_read_size(v, lin, size);
		mmu_write_size(v, lin, size, bit_change(op, val, mask));
		atomic_unlock(v);
		return val;
	}
	/* The unit's bits beyond the operand are not touched: a byte is as good. */
	byte = (uint8_t *)p + __builtin_ctzll(mask) / 8;
	bit = (uint8_t)(1u << __builtin_ctzll(mask) % 8);
	switch (op) {
	case BIT_SET: val = __atomic_fetch_or(byte, bit, __ATOMIC_SEQ_CST); break;
	case BIT_RESET: val = __atomic_fetch_and(byte, (uint8_t)~bit, __ATOMIC_SEQ_CST); break;
	default: val = __atomic_fetch_xor(byte, bit, __ATOMIC_SEQ_CST); break;
	}
	return val & bit ? UINT64_MAX : 0;
}

static const struct insn *bit_test(struct vcpu *v, const struct insn *i)
{
	unsigned size = i->opsize;
	unsigned op = (i->opcode == 0xba ? i->modrm : i->opcode) >> 3 & 3;
	uint64_t pos = i->opcode == 0xba ? i->imm : get_size(v, i->reg_at, size);
	uint64_t mask = 1ull << (pos & (size * 8 - 1)), val, lin;

	v->insn = i;
	if (i->mod == 3) {
		val = get_size(v, i->rm_at, size);
		if (op != BIT_TEST) {
			set_size(v, i->rm_at, size, bit_change(op, val, mask));
		}
	} else {
		lin = bit_linear(v, i, size, op == BIT_TEST ? MMU_R : MMU_RW);
		if (op == BIT_TEST) {
			val = mmu_read_size(v, lin, size);
		} else if (i->flags & INSN_LOCK) {
			val = bit_locked(v, op, lin, size, mask);
		} else {
			mmu_probe_write(v, lin, size);
			val = mmu_read_size(v, lin, size);
			mmu_write_size(v, lin, size, bit_change(op, val, mask));
		}
	}
	set_carry(v, val & mask);
	NEXT(v, i);
}

/*
 * Scans and counts on the host: the destination goes in for the source 0 of BSF and BSR, and as
 * 64 bits, for what then becomes of its upper half.
 */
#define SCAN(name, bits, insn_text, mod)                                           \
	static const struct insn *name##bits(struct vcpu *v, const struct insn *i) \
	{                                                                          \
		uint64_t val, dst = get64(v, i->reg_at);                           \
		uint16_t f = v->aflags;                                            \
                                                                                   \
		v->insn = i;                                                       \
		val = rm_read(v, i, bits / 8);                                     \
		asm(FLAGS_LOAD insn_text " %" mod "[b], %" mod "[a]" FLAGS_SAVE    \
		    : [a] "+r"(dst), "+&a"(f)                                      \
		    : [b] "r"(val)                                                 \
		    : "cc");                                                       \
		v->aflags = f;                                                     \
		set64(v, i->reg_at, dst);                                          \
		NEXT(v, i);                                                        \
	}
#define SCANS(name, insn_text)             \
	SCAN(name, 16, insn_text "w", "w") \
	SCAN(name, 32, insn_text "l", "k") \
	SCAN(name, 64, insn_text "q", "q") \
	static insn_fn *const name##_handlers[4] = {NULL, name##16, name##32, name##64};
SCANS(bsf, "bsf")
SCANS(bsr, "bsr")
SCANS(tzcnt, "tzcnt")
SCANS(lzcnt, "lzcnt")
SCANS(popcnt, "popcnt")

#define CRC32(bits, suffix, crc_bits)                                                \
	static const struct insn *crc32_##bits(struct vcpu *v, const struct insn *i) \
	{                                                                            \
		uint##bits##_t val;                                                  \
		uint##crc_bits##_t crc = get32(v, i->reg_at);                        \
                                                                                     \
		v->insn = i;                                                         \
		val = rm_read(v, i, bits / 8);                                       \
		asm("crc32" suffix " %[b], %[a]" : [a] "+r"(crc) : [b] "r"(val));    \
		set64(v, i->reg_at, crc);                                            \
		NEXT(v, i);                                                          \
	}
CRC32(8, "b", 32)
CRC32(16, "w", 32)
CRC32(32, "l", 32)
CRC32(64, "q", 64)

static insn_fn *const crc32_handlers[4] = {crc32_8, crc32_16, crc32_32, crc32_64};

/* Processors without TZCNT and LZCNT ignore the prefix. */
enum { CPUID_BMI1 = 3, CPUID_LZCNT = 5 };

bool integer_bind_bit(struct vcpu *v, struct insn *i)
{
	unsigned width = (unsigned)__builtin_ctz(i->opsize);
	bool rep = i->flags & INSN_REP;

	if (i->flags & INSN_VEX) {
		return false;
	}
	if (i->map == MAP_0F38 && (i->opcode & 0xfe) == 0xf0 && (i->flags & INSN_REPNE)) {
		width = i->opcode & 1 ? width : 0;
		operand_bind(v, i, 1u << width);
		i->reg_at = i->reg * 8;
		i->fn = crc32_handlers[width];
		return true;
	}
	if (i->map != MAP_0F) {
		return false;
	}
	operand_bind(v, i, i->opsize);
	switch (i->opcode) {
	case 0xa3:
	case 0xab:
	case 0xb3:
	case 0xba:
	case 0xbb: i->fn = bit_test; return true;
	case 0xb8: i->fn = popcnt_handlers[width]; return true;
	case 0xbc:
		rep = rep && (v->interp->leaf_7_ebx >> CPUID_BMI1 & 1);
		i->fn = rep ? tzcnt_handlers[width] : bsf_handlers[width];
		return true;
	case 0xbd:
		rep = rep && (v->interp->leaf_80000001_ecx >> CPUID_LZCNT & 1);
		i->fn = rep ? lzcnt_handlers[width] : bsr_handlers[width];
		return true;
	}
	return false;
}
