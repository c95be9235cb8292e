/* SPDX-License-Identifier: Apache-2.0 */
/* BMI1 and BMI2 (VEX on general registers) and ADX, by the host's own instructions. */
#include "execute/flags.h"
#include "execute/integer.h"
#include "execute/operand.h"
#include "execute/trace.h"

#define READ_RM(bits) (v->insn = i, (uint##bits##_t)rm_read(v, i, bits / 8))

/* dst = op(vvvv, r/m), flags from the host where the instruction writes them. */
#define BMI_3(name, bits, asm_text, first, second)                                      \
	static const struct insn *name##bits(struct vcpu *v, const struct insn *i)      \
	{                                                                               \
		uint##bits##_t rm = READ_RM(bits), vv = get##bits(v, i->vvvv * 8), dst; \
		uint16_t f = v->aflags;                                                 \
                                                                                        \
		asm(FLAGS_LOAD asm_text " %[" second "], %[" first "], %[d]" FLAGS_SAVE \
		    : [d] "=&r"(dst), "+&a"(f)                                          \
		    : [rm] "r"(rm), [vv] "r"(vv)                                        \
		    : "cc");                                                            \
		v->aflags = f;                                                          \
		set##bits(v, i->reg_at, dst);                                           \
		NEXT(v, i);                                                             \
	}
/* vvvv = op(r/m) */
#define BMI_2(name, bits, asm_text)                                                \
	static const struct insn *name##bits(struct vcpu *v, const struct insn *i) \
	{                                                                          \
		uint##bits##_t rm = READ_RM(bits), dst;                            \
		uint16_t f = v->aflags;                                            \
                                                                                   \
		asm(FLAGS_LOAD asm_text " %[rm], %[d]" FLAGS_SAVE                  \
		    : [d] "=&r"(dst), "+&a"(f)                                     \
		    : [rm] "r"(rm)                                                 \
		    : "cc");                                                       \
		v->aflags = f;                                                     \
		set##bits(v, i->vvvv * 8, dst);                                    \
		NEXT(v, i);                                                        \
	}
#define BOTH3(name, text, first, second)     \
	BMI_3(name, 32, text, first, second) \
	BMI_3(name, 64, text, first, second)
#define BOTH2(name, text) BMI_2(name, 32, text) BMI_2(name, 64, text)

/* AT&T order: the second source first. */
BOTH3(andn, "andn", "vv", "rm")
BOTH3(bzhi, "bzhi", "rm", "vv")
BOTH3(bextr, "bextr", "rm", "vv")
BOTH3(shlx, "shlx", "rm", "vv")
BOTH3(sarx, "sarx", "rm", "vv")
BOTH3(shrx, "shrx", "rm", "vv")
BOTH3(pdep, "pdep", "vv", "rm")
BOTH3(pext, "pext", "vv", "rm")
BOTH2(blsr, "blsr")
BOTH2(blsmsk, "blsmsk")
BOTH2(blsi, "blsi")

#define WIDTH_HANDLERS(bits, wide)                                                        \
	static const struct insn *rorx##bits(struct vcpu *v, const struct insn *i)        \
	{                                                                                 \
		uint##bits##_t rm = READ_RM(bits);                                        \
		unsigned count = i->imm & (bits - 1);                                     \
                                                                                          \
		set##bits(v, i->reg_at, count ? rm >> count | rm << (bits - count) : rm); \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *mulx##bits(struct vcpu *v, const struct insn *i)        \
	{                                                                                 \
		wide product = (wide)READ_RM(bits) * get##bits(v, RDX * 8);               \
                                                                                          \
		/* The same register twice: the high half stays. */                       \
		set##bits(v, i->vvvv * 8, (uint##bits##_t)product);                       \
		set##bits(v, i->reg_at, (uint##bits##_t)(product >> bits));               \
		NEXT(v, i);                                                               \
	}                                                                                 \
	static const struct insn *adcx##bits(struct vcpu *v, const struct insn *i)        \
	{                                                                                 \
		uint##bits##_t rm = READ_RM(bits), dst = get##bits(v, i->reg_at);         \
		uint16_t bit = i->flags & INSN_REP ? AF_OF : AF_CF;                       \
		wide sum = (wide)rm + dst + (v->aflags & bit ? 1 : 0);                    \
                                                                                          \
		v->aflags = (v->aflags & ~bit) | (sum >> bits ? bit : 0);                 \
		set##bits(v, i->reg_at, (uint##bits##_t)sum);                             \
		NEXT(v, i);                                                               \
	}
WIDTH_HANDLERS(32, uint64_t)
WIDTH_HANDLERS(64, unsigned __int128)

/* Does the guest's processor model have this bit of CPUID leaf 7, EBX? */
static bool has_feature(const struct vcpu *v, unsigned bit)
{
	return v->interp->leaf_7_ebx >> bit & 1;
}

enum { CPUID_BMI1 = 3, CPUID_BMI2 = 8, CPUID_ADX = 19 };

#define PICK(name) (i->opsize == 8 ? name##64 : name##32)

static insn_fn *bmi1_handler(const struct insn *i)
{
	switch (i->opcode) {
	case 0xf2: return PICK(andn);
	case 0xf3:
		switch (i->modrm >> 3 & 7) {
		case 1: return PICK(blsr);
		case 2: return PICK(blsmsk);
		case 3: return PICK(blsi);
		}
		return NULL;
	case 0xf7: return i->flags & (INSN_OPSIZE | INSN_REP | INSN_REPNE) ? NULL : PICK(bextr);
	}
	return NULL;
}

static insn_fn *bmi2_handler(const struct insn *i)
{
	bool rep = i->flags & INSN_REP, repne = i->flags & INSN_REPNE;

	switch (i->opcode) {
	case 0xf0: return PICK(rorx);
	case 0xf5: return rep ? PICK(pext) : repne ? PICK(pdep) : PICK(bzhi);
	case 0xf6: return PICK(mulx);
	case 0xf7: return rep ? PICK(sarx) : repne ? PICK(shrx) : PICK(shlx);
	}
	return NULL;
}

bool integer_bind_bmi(struct vcpu *v, struct insn *i)
{
	if (i->map == MAP_0F38 && i->opcode == 0xf6 && !(i->flags & (INSN_VEX | INSN_REPNE)) &&
	    (i->flags & (INSN_OPSIZE | INSN_REP))) {
		/* The prefix selects ADCX or ADOX, not the operand's size. */
		i->opsize = i->opsize == 8 ? 8 : 4;
		operand_bind(v, i, i->opsize);
		i->fn = PICK(adcx);
		return has_feature(v, CPUID_ADX);
	}
	if (!(i->flags & INSN_VEX) || i->flags & INSN_EVEX) {
		return false;
	}
	if (i->map == MAP_0F38 && i->opcode >= 0xf2 && i->opcode <= 0xf7) {
		i->fn = bmi1_handler(i);
		if (i->fn) {
			operand_bind(v, i, i->opsize);
			return has_feature(v, CPUID_BMI1);
		}
		i->fn = bmi2_handler(i);
	} else if (i->map == MAP_0F3A && i->opcode == 0xf0) {
		i->fn = bmi2_handler(i);
	} else {
		return false;
	}
	operand_bind(v, i, i->opsize);
	return i->fn && has_feature(v, CPUID_BMI2);
}
