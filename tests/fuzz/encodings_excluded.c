/* SPDX-License-Identifier: Apache-2.0 */
/* The list of instructions that cannot be compared with the host, and why. */
#include <stdio.h>

#include "encodings.h"
#include "execute/cpuid.h"

enum { FORM_MEM = 1, FORM_REG = 2, FORM_ANY = 3 };
enum { PFX_NONE = 1, PFX_66 = 2, PFX_F3 = 4, PFX_F2 = 8, PFX_ANY = 15 };

struct exclusion {
	uint8_t map, first, last, regs, form, pfx;
	const char *why;
};

/* clang-format off */
static const struct exclusion exclusions[] = {
	{ MAP_1, 0x62, 0x62, 0xff, FORM_REG, PFX_ANY, "EVEX prefix that is none" },
	{ MAP_1, 0x8f, 0x8f, 0xfe, FORM_ANY, PFX_ANY, "XOP prefix: not in the processor model" },
	{ MAP_1, 0xf1, 0xf1, 0xff, FORM_ANY, PFX_ANY, "ICEBP: the host's kernel takes the trap" },
	{ MAP_0F, 0x00, 0x00, 0x03, FORM_ANY, PFX_ANY, "SLDT, STR: the host's kernel emulates UMIP" },
	{ MAP_0F, 0x01, 0x01, 0x13, FORM_MEM, PFX_ANY, "SGDT, SIDT, SMSW: UMIP" },
	{ MAP_0F, 0x01, 0x01, 0xff, FORM_REG, PFX_ANY, "extensions of the host; values differ" },
	{ MAP_0F, 0x05, 0x05, 0xff, FORM_ANY, PFX_ANY, "SYSCALL" },
	{ MAP_0F, 0x07, 0x07, 0xff, FORM_ANY, PFX_ANY, "SYSRET: vendors differ" },
	{ MAP_0F, 0x2b, 0x2b, 0xff, FORM_ANY, PFX_F3 | PFX_F2, "SSE4A: not in the model" },
	{ MAP_0F, 0x31, 0x31, 0xff, FORM_ANY, PFX_ANY, "RDTSC: value" },
	{ MAP_0F, 0x33, 0x33, 0xff, FORM_ANY, PFX_ANY, "RDPMC: value" },
	{ MAP_0F, 0x34, 0x35, 0xff, FORM_ANY, PFX_ANY, "SYSENTER, SYSEXIT: vendors differ" },
	{ MAP_0F, 0x78, 0x79, 0xff, FORM_ANY, PFX_66 | PFX_F2, "SSE4A: not in the model" },
	{ MAP_0F, 0xa2, 0xa2, 0xff, FORM_ANY, PFX_ANY, "CPUID: values" },
	{ MAP_0F, 0xc7, 0xc7, 0xc0, FORM_REG, PFX_ANY, "RDRAND, RDSEED, RDPID: values" },
	{ MAP_0F38, 0xf8, 0xf9, 0xff, FORM_ANY, PFX_ANY, "MOVDIR: not in the model" },
};
/* clang-format on */

enum { N_EXCLUSIONS = sizeof(exclusions) / sizeof(exclusions[0]) };

static unsigned prefix_bit(const struct insn *i)
{
	if (i->flags & INSN_REPNE) {
		return PFX_F2;
	}
	if (i->flags & INSN_REP) {
		return PFX_F3;
	}
	return i->flags & INSN_OPSIZE ? PFX_66 : PFX_NONE;
}

static bool is_vex_gpr(const struct insn *i)
{
	if (i->map == MAP_0F3A) {
		return i->opcode == 0xf0;
	}
	return i->map == MAP_0F38 &&
	       (i->opcode == 0xf2 || i->opcode == 0xf3 || (i->opcode >= 0xf5 && i->opcode <= 0xf7));
}

/* Instructions on opmask registers. */
static bool is_opmask(const struct insn *i)
{
	if (i->map == MAP_0F3A) {
		return i->opcode >= 0x30 && i->opcode <= 0x33;
	}
	return i->map == MAP_0F && ((i->opcode >= 0x41 && i->opcode <= 0x4b) ||
				    (i->opcode >= 0x90 && i->opcode <= 0x99));
}

const char *fz_excluded(const struct insn *i, uint32_t mode)
{
	if (i->flags & INSN_VEX) {
		if ((is_opmask(i) || i->flags & INSN_EVEX) && !cpuid_has(FEAT_AVX512)) {
			return "AVX-512: not in the model";
		}
		if (i->flags & INSN_EVEX) {
			return NULL;
		}
		if (i->map == MAP_0F3A && i->opcode <= 0x01 && !(i->flags & INSN_REX_W)) {
			return "VPERMQ, VPERMPD: AMD's processors ignore W";
		}
		return is_vex_gpr(i) || cpuid_has(FEAT_AVX) ? NULL : "VEX: not in the model";
	}
	if (mode == 64 && i->map == MAP_1 && i->opcode == 0x63 && i->flags & INSN_OPSIZE) {
		return "MOVSXD with 66: vendors differ in how much they read";
	}
	if (i->map == MAP_0F && i->opcode == 0xae && i->modrm == 0xf8 && i->flags & INSN_OPSIZE) {
		return "PCOMMIT: few processors have it";
	}
	if (i->flags & INSN_LOCK && i->map == MAP_0F && i->opcode == 0x00) {
		return "LOCK VERR, VERW: AMD's processors read the operand before #UD";
	}
	if (i->flags & INSN_LOCK && i->map == MAP_0F && (i->opcode & 0xfd) == 0x20) {
		return "LOCK MOV CR0: AMD's other name of CR8";
	}
	if (i->flags & INSN_REX_W &&
	    ((i->map == MAP_0F && (i->opcode == 0xb2 || i->opcode == 0xb4 || i->opcode == 0xb5)) ||
	     (i->map == MAP_1 && i->opcode == 0xff && (i->modrm & 0x28) == 0x28) ||
	     (i->map == MAP_1 && i->opcode == 0xff && (i->modrm & 0x38) == 0x18))) {
		return "far pointers with REX.W: vendors differ";
	}
	if (i->map == MAP_1 && (i->opcode & 0xfe) == 0xe0 && i->flags & (INSN_REP | INSN_REPNE)) {
		return "LOOPcc with F2, F3: AMD's processors take the condition from the prefix";
	}
	for (unsigned k = 0; k < N_EXCLUSIONS; k++) {
		const struct exclusion *e = &exclusions[k];

		if (e->map == i->map && i->opcode >= e->first && i->opcode <= e->last &&
		    e->pfx & prefix_bit(i) && e->form & (i->modrm >= 0xc0 ? FORM_REG : FORM_MEM) &&
		    e->regs >> (i->modrm >> 3 & 7) & 1) {
			return e->why;
		}
		if (e->map == i->map && e->regs == 0xff && e->form == FORM_ANY &&
		    i->opcode >= e->first && i->opcode <= e->last && e->pfx & prefix_bit(i)) {
			return e->why;
		}
	}
	return NULL;
}

void fz_print_excluded(void)
{
	static const char *const maps[] = {"", "0F ", "0F 38 ", "0F 3A "};

	for (unsigned k = 0; k < N_EXCLUSIONS; k++) {
		printf("%s%02X..%02X: %s\n", maps[exclusions[k].map], exclusions[k].first,
		       exclusions[k].last, exclusions[k].why);
	}
}
