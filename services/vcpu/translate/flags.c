/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which instructions read and write the arithmetic flags, and which flags matter where. Flags that
 * the manual leaves undefined count as written where every processor sets them without regard to
 * their old values, else as kept: the host then does with the guest's what it does. Intel SDM
 * volume 1 appendix A.
 */
#include "execute/simd_operands.h"
#include "translate/emit.h"
#include "translate/translate.h"

#define ALL    ((flag_set)FL_ARITH)
#define NOT_CF ((flag_set)(FL_ARITH & ~FL_CF))
#define SAHF   ((flag_set)(FL_ARITH & ~FL_OF))

static flag_set condition_reads(unsigned cc)
{
	static const flag_set reads[8] = {
		FL_OF, FL_CF, FL_ZF,	     FL_CF | FL_ZF,
		FL_SF, FL_PF, FL_SF | FL_OF, FL_SF | FL_OF | FL_ZF,
	};

	return reads[cc >> 1 & 7];
}

static struct flag_use alu(unsigned op)
{
	return (struct flag_use){op == ALU_ADC || op == ALU_SBB ? FL_CF : 0, ALL};
}

static struct flag_use shift(const struct insn *i)
{
	unsigned op = i->reg & 7, count;

	if (i->opcode >= 0xd2) { /* by CL, which may be 0 */
		return (struct flag_use){op == 2 || op == 3 ? FL_CF : 0, 0};
	}
	count = i->opcode >= 0xd0 ? 1 : i->imm & (i->opcode == 0xc1 && i->opsize == 8 ? 63 : 31);
	if (op < 4) {
		return (struct flag_use){
			op >= 2 ? FL_CF : 0,
			count ? host_flags(HOST_ROTATE) & (FL_CF | FL_OF) : 0,
		};
	}
	return (struct flag_use){0, !count	 ? 0
				    : count == 1 ? host_flags(HOST_SHIFT_1)
						 : host_flags(HOST_SHIFT)};
}

static struct flag_use group_3(const struct insn *i)
{
	switch (i->reg & 7) {
	case 0:
	case 1:
	case 3: return (struct flag_use){0, ALL}; /* TEST, NEG */
	case 4:
	case 5: return (struct flag_use){0, host_flags(HOST_MULTIPLY)}; /* MUL, IMUL */
	}
	return (struct flag_use){0, 0};
}

static struct flag_use map_1(const struct insn *i)
{
	switch (i->opcode) {
	case 0x00 ... 0x3f: return alu(i->opcode >> 3);
	case 0x40 ... 0x4f: return (struct flag_use){0, NOT_CF};
	case 0x69:
	case 0x6b: return (struct flag_use){0, host_flags(HOST_MULTIPLY)};
	case 0x70 ... 0x7f: return (struct flag_use){condition_reads(i->opcode), 0};
	case 0x80 ... 0x83: return alu(i->reg & 7);
	case 0x84:
	case 0x85:
	case 0xa8:
	case 0xa9: return (struct flag_use){0, ALL};
	case 0x9c: return (struct flag_use){ALL, 0}; /* PUSHF */
	case 0x9d: return (struct flag_use){0, ALL}; /* POPF */
	case 0x9e: return (struct flag_use){0, SAHF};
	case 0x9f: return (struct flag_use){SAHF, 0};
	case 0xc0:
	case 0xc1:
	case 0xd0 ... 0xd3: return shift(i);
	case 0xe0:
	case 0xe1: return (struct flag_use){FL_ZF, 0};
	case 0xf5: return (struct flag_use){FL_CF, FL_CF};
	case 0xf6:
	case 0xf7: return group_3(i);
	case 0xf8:
	case 0xf9: return (struct flag_use){0, FL_CF};
	case 0xfe: return (struct flag_use){0, NOT_CF};
	case 0xff: return (struct flag_use){0, (i->reg & 7) < 2 ? NOT_CF : 0};
	case 0xda:
	case 0xdb:
	case 0xdf:
		if (i->mod != 3) {
			break;
		}
		if (i->opcode != 0xdf && i->modrm < 0xe0) { /* FCMOVcc */
			return (struct flag_use){FL_CF | FL_ZF | FL_PF, 0};
		}
		if (i->opcode != 0xda && i->modrm >= 0xe8 && i->modrm < 0xf8) { /* FCOMI */
			return (struct flag_use){0, host_flags(HOST_COMPARE_X87)};
		}
		break;
	}
	return (struct flag_use){0, 0};
}

static struct flag_use map_0f(const struct insn *i)
{
	switch (i->opcode) {
	case 0x05:
	case 0x07: return (struct flag_use){ALL, 0}; /* SYSCALL, SYSRET; if they fault, too */
	case 0x40 ... 0x4f:
	case 0x80 ... 0x8f:
	case 0x90 ... 0x9f: return (struct flag_use){condition_reads(i->opcode), 0};
	case 0xa3:
	case 0xab:
	case 0xb3:
	case 0xba:
	case 0xbb: return (struct flag_use){0, host_flags(HOST_BIT)};
	case 0xa4:
	case 0xac: return (struct flag_use){0, i->imm & 31 ? host_flags(HOST_SHIFT_DOUBLE) : 0};
	case 0xaf: return (struct flag_use){0, host_flags(HOST_MULTIPLY)};
	case 0xb0:
	case 0xb1:
	case 0xc0:
	case 0xc1: return (struct flag_use){0, ALL};
	case 0xb8: return (struct flag_use){0, ALL}; /* POPCNT */
	case 0xbc:
	case 0xbd:
		return (struct flag_use){0, i->flags & INSN_REP ? FL_CF | FL_ZF
								: host_flags(HOST_BIT_SCAN)};
	case 0xc7: return (struct flag_use){0, i->mod != 3 ? FL_ZF : 0};
	}
	return (struct flag_use){0, 0};
}

static struct flag_use vex_gpr(const struct insn *i)
{
	if (i->map == MAP_0F38) {
		switch (i->opcode) {
		case 0xf2: /* ANDN */
		case 0xf3: /* BLSR, BLSMSK, BLSI */
			return (struct flag_use){0, FL_CF | FL_ZF | FL_SF | FL_OF};
		case 0xf5: /* BZHI; PEXT and PDEP write none */
			if (!(i->flags & (INSN_REP | INSN_REPNE))) {
				return (struct flag_use){0, FL_CF | FL_ZF | FL_SF | FL_OF};
			}
			break;
		case 0xf7: /* BEXTR; the shifts write none */
			if (!(i->flags & (INSN_REP | INSN_REPNE | INSN_OPSIZE))) {
				return (struct flag_use){0, FL_CF | FL_ZF | FL_OF};
			}
			break;
		}
	}
	return (struct flag_use){0, 0};
}

/* Instructions that may change flags without being sure to write any. */
static bool may_touch(const struct insn *i)
{
	if (i->map == MAP_0F) {
		return (i->opcode & 0xf6) == 0xa4; /* SHLD, SHRD */
	}
	if (i->map != MAP_1) {
		return false;
	}
	switch (i->opcode) {
	case 0xc0:
	case 0xc1:
	case 0xd0 ... 0xd3: return true;
	case 0xf6:
	case 0xf7: return (i->reg & 7) != 2;
	}
	return false;
}

static struct flag_use use_of(const struct insn *i)
{
	struct simd_operands o;

	if (i->map == MAP_1) {
		return map_1(i);
	}
	if (simd_operands(i, &o)) {
		return (struct flag_use){0, o.flags ? ALL : 0};
	}
	if (i->flags & INSN_VEX) {
		return vex_gpr(i);
	}
	if (i->map == MAP_0F38 && i->opcode == 0xf6) { /* ADCX, ADOX */
		return i->flags & INSN_OPSIZE ? (struct flag_use){FL_CF, FL_CF}
					      : (struct flag_use){FL_OF, FL_OF};
	}
	return i->map == MAP_0F ? map_0f(i) : (struct flag_use){0, 0};
}

struct flag_use flags_of(const struct insn *i)
{
	struct flag_use use = use_of(i);

	use.touches = use.writes || may_touch(i);
	return use;
}

static flag_set live_at_end(const struct region *r, const struct block *b)
{
	flag_set live = b->leaves ? ALL : 0; /* whoever is entered by an exit may want them */

	if (b->taken >= 0) {
		live |= r->block[b->taken].live;
	}
	if (b->next >= 0) {
		live |= r->block[b->next].live;
	}
	return live;
}

flag_set flags_before(const struct region *r, unsigned k)
{
	const struct block *b = r->block;
	flag_set live;

	while (k < b->first || k >= (unsigned)b->first + b->n) {
		b++;
	}
	live = live_at_end(r, b);
	for (unsigned n = b->first + b->n; n-- > k;) {
		live = (live & ~r->use[n].writes) | r->use[n].reads;
	}
	return live;
}

void flags_flow(struct region *r)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (unsigned n = r->n_blocks; n-- > 0;) {
			struct block *b = &r->block[n];
			flag_set live = live_at_end(r, b);

			for (unsigned k = b->first + b->n; k-- > b->first;) {
				live = (live & ~r->use[k].writes) | r->use[k].reads;
			}
			changed |= live != b->live;
			b->live = live;
		}
	}
}
