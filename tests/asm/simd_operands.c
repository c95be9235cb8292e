/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simd_operands() against Zydis: for every encoding of the SIMD opcode maps the kinds of operands,
 * the bytes of memory and their alignment, what is written, flags and exceptions must agree.
 */
#include <Zydis/Zydis.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "execute/cpuid.h"
#include "execute/simd_operands.h"

enum { PFX_NONE, PFX_66, PFX_F3, PFX_F2, N_PFX };
enum { RM_MEM = 6, RM_SIB = 4, RM_REG = 1 }; /* (%rsi), or with a SIB byte, or register 1 */

struct operand {
	char kind;
	bool write;
};

/* Zydis' view of the same. */
struct expected {
	struct operand reg, rm, vvvv;
	unsigned mem;
	bool mem_read, mem_write, flags, implicit_gpr;
	uint64_t isa;
};

static char kind_of(ZydisRegister reg)
{
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM: return 'x';
	case ZYDIS_REGCLASS_MMX: return 'm';
	case ZYDIS_REGCLASS_MASK: return 'k';
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64: return 'g';
	default: return '?';
	}
}

static void add_operand(struct expected *e, const ZydisDecodedOperand *op)
{
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
		e->mem = op->size / 8;
		e->mem_write = write;
		e->mem_read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	}
	if (op->type != ZYDIS_OPERAND_TYPE_REGISTER) {
		return;
	}
	if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
		e->reg = (struct operand){kind_of(op->reg.value), write};
	} else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
		e->rm = (struct operand){kind_of(op->reg.value), write};
	} else if (op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD) {
		e->vvvv = (struct operand){kind_of(op->reg.value), write};
	} else if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
		   op->visibility == ZYDIS_OPERAND_VISIBILITY_IMPLICIT) {
		e->implicit_gpr |= kind_of(op->reg.value) == 'g';
	}
}

static struct expected expect(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	struct expected e = {0};

	for (unsigned k = 0; k < z->operand_count; k++) {
		add_operand(&e, &ops[k]);
	}
	e.flags = z->cpu_flags && (z->cpu_flags->modified | z->cpu_flags->set_0) & ZYDIS_CPUFLAG_ZF;
	return e;
}

/* What is named SIMD here. */
static bool is_simd(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_AVX:
	case ZYDIS_ISA_SET_AVXAES: return cpuid_has(FEAT_AVX);
	case ZYDIS_ISA_SET_AVX2:
	case ZYDIS_ISA_SET_AVX2GATHER: return cpuid_has(FEAT_AVX2);
	case ZYDIS_ISA_SET_AVX_GFNI: return cpuid_has(FEAT_AVX) && cpuid_has(FEAT_GFNI);
	case ZYDIS_ISA_SET_AVX_VNNI: return cpuid_has(FEAT_AVX_VNNI);
	case ZYDIS_ISA_SET_F16C: return cpuid_has(FEAT_F16C);
	case ZYDIS_ISA_SET_FMA: return cpuid_has(FEAT_FMA);
	case ZYDIS_ISA_SET_VAES: return cpuid_has(FEAT_VAES);
	case ZYDIS_ISA_SET_VPCLMULQDQ: return cpuid_has(FEAT_VPCLMULQDQ);
	case ZYDIS_ISA_SET_AES: return cpuid_has(FEAT_AES);
	case ZYDIS_ISA_SET_AVX512F_KOP:
	case ZYDIS_ISA_SET_AVX512BW_KOP:
	case ZYDIS_ISA_SET_AVX512DQ_KOP: return cpuid_has(FEAT_AVX512);
	case ZYDIS_ISA_SET_GFNI: return cpuid_has(FEAT_GFNI);
	case ZYDIS_ISA_SET_PCLMULQDQ: return cpuid_has(FEAT_PCLMULQDQ);
	case ZYDIS_ISA_SET_SHA: return cpuid_has(FEAT_SHA);
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSSE3MMX: break;
	default: return false;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_SFENCE: return false;
	default: return true;
	}
}

/* Alignment that Intel's exception classes want of legacy encodings. SDM volume 2 2.4. */
static unsigned expected_align(const ZydisDecodedInstruction *z, unsigned mem)
{
	if (z->mnemonic == ZYDIS_MNEMONIC_CVTPD2PI || z->mnemonic == ZYDIS_MNEMONIC_CVTTPD2PI) {
		return 16;
	}
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_AVX1: return mem;
	case ZYDIS_EXCEPTION_CLASS_SSE1:
	case ZYDIS_EXCEPTION_CLASS_SSE2:
	case ZYDIS_EXCEPTION_CLASS_SSE4: break;
	default: return 1;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM: return 1;
	default: break;
	}
	if (z->meta.isa_set == ZYDIS_ISA_SET_SHA && cpuid_is_amd()) {
		return 1;
	}
	return mem == 16 ? 16 : 1;
}

/* SDM volume 2 2.4, and table 23-4 of volume 3 for those with MMX operands. */
static bool expected_fp(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_CVTPD2PI:
	case ZYDIS_MNEMONIC_CVTPI2PD:
	case ZYDIS_MNEMONIC_CVTPI2PS:
	case ZYDIS_MNEMONIC_CVTPS2PI:
	case ZYDIS_MNEMONIC_CVTTPD2PI:
	case ZYDIS_MNEMONIC_CVTTPS2PI: return true;
	default: break;
	}
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_AVX2:
	case ZYDIS_EXCEPTION_CLASS_AVX3:
	case ZYDIS_EXCEPTION_CLASS_AVX11:
	case ZYDIS_EXCEPTION_CLASS_SSE2:
	case ZYDIS_EXCEPTION_CLASS_SSE3: return true;
	default: return false;
	}
}

struct tally {
	unsigned n, bad;
};

static void complain(const uint8_t *code, const ZydisDecodedInstruction *z, const char *what,
		     unsigned ours, unsigned theirs)
{
	fprintf(stderr, "%s:", ZydisMnemonicGetString(z->mnemonic));
	for (unsigned k = 0; k < z->length; k++) {
		fprintf(stderr, " %02x", code[k]);
	}
	fprintf(stderr, ": %s: ours %u, zydis %u\n", what, ours, theirs);
}

#define SAME(what, ours, theirs)                                                       \
	do {                                                                           \
		if ((unsigned)(ours) != (unsigned)(theirs)) {                          \
			complain(code, z, what, (unsigned)(ours), (unsigned)(theirs)); \
			t->bad++;                                                      \
		}                                                                      \
	} while (0)

static void compare(struct tally *t, const uint8_t *code, const struct insn *i,
		    const struct simd_operands *o, const ZydisDecodedInstruction *z,
		    const struct expected *e)
{
	bool is_mem = i->mod != 3;

	t->n++;
	SAME("reg", o->reg == 'e' ? 0 : o->reg, e->reg.kind);
	SAME("reg written", o->reg_write, e->reg.write);
	SAME("vvvv", o->vvvv, e->vvvv.kind);
	SAME("vvvv written", o->vvvv_write, e->vvvv.write);
	SAME("flags", o->flags, e->flags);
	if (is_mem) {
		SAME("mem", o->mem, e->mem);
		SAME("mem read", o->mem_read, e->mem_read);
		SAME("mem written", o->mem_write, e->mem_write);
		SAME("align", o->align, expected_align(z, e->mem));
	} else if (i->flags & INSN_MODRM) {
		SAME("mmx", o->mmx, o->reg == 'm' || o->rm == 'm');
		SAME("rm", o->rm, e->rm.kind);
		SAME("rm written", o->rm_write, e->rm.write);
	}
	SAME("implicit general registers", o->copy && e->implicit_gpr, false);
	SAME("fp", o->fp, expected_fp(z));
	SAME("avx", o->avx, z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX);
}

static void check(struct tally *t, ZydisDecoder *d, const uint8_t *code, unsigned n)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	struct expected e;
	struct simd_operands o;
	struct insn i;
	bool known;

	if (insn_decode(&i, code, n, MODE_64 | MODE_PROT | MODE_AMD) != DECODE_OK ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(d, code, n, &z, ops))) {
		return;
	}
	known = simd_operands(&i, &o);
	if (known != is_simd(&z)) {
		complain(code, &z, "known", known, is_simd(&z));
		t->bad++;
		return;
	}
	if (!known) {
		return;
	}
	e = expect(&z, ops);
	compare(t, code, &i, &o, &z, &e);
}

static void legacy_operands_equal_zydis(void **state)
{
	static const uint8_t prefix[N_PFX] = {0, 0x66, 0xf3, 0xf2}, map[3] = {0, 0x38, 0x3a};
	struct tally t = {0};
	ZydisDecoder d;

	ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned k = 0; k < 3u * N_PFX * 2 * 2 * 8 * 256; k++) {
		unsigned reg = k >> 10 & 7, m = k / (N_PFX << 13), n = 0;
		unsigned pfx = k >> 13 & 3;
		uint8_t code[16] = {0};

		if (prefix[pfx]) {
			code[n++] = prefix[pfx];
		}
		code[n++] = k >> 8 & 1 ? 0x48 : 0x40;
		code[n++] = 0x0f;
		if (map[m]) {
			code[n++] = map[m];
		}
		code[n++] = (uint8_t)k;
		code[n++] = (uint8_t)(reg << 3 | (k >> 9 & 1 ? 0xc0 | RM_REG : RM_MEM));
		check(&t, &d, code, sizeof(code));
	}
	print_message("%u encodings\n", t.n);
	assert_true(t.n > 3000);
	assert_int_equal(t.bad, 0);
}

static void vex_operands_equal_zydis(void **state)
{
	static const uint8_t vvvv[3] = {15, 12, 3};
	struct tally t = {0};
	ZydisDecoder d;

	ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned k = 0; k < 3u * 3 * 2 * 8 * 8 * 2 * 256; k++) {
		unsigned form = k >> 9 & 1, reg = k >> 10 & 7, pp_l = k >> 13 & 7;
		unsigned v = (k >> 16) % 3, m = (k >> 16) / 3 % 3, sib = (k >> 16) / 9;
		uint8_t code[16] = {0xc4,
				    (uint8_t)(0xe1 + m),
				    (uint8_t)((k >> 8 & 1) << 7 | vvvv[v] << 3 | pp_l),
				    (uint8_t)k,
				    (uint8_t)(reg << 3 | (form	? 0xc0 | RM_REG
							  : sib ? RM_SIB
								: RM_MEM)),
				    0x2e};

		check(&t, &d, code, sizeof(code));
	}
	print_message("%u encodings\n", t.n);
	assert_true(t.n > 3000 || !cpuid_has(FEAT_AVX));
	assert_int_equal(t.bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(legacy_operands_equal_zydis),
		cmocka_unit_test(vex_operands_equal_zydis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
