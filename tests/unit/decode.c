/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against Zydis, an independent one: millions of byte strings in every mode must have
 * equal length and validity. The seed is fixed; DECODE_SEED and DECODE_ROUNDS override.
 *
 * Where the two differ on purpose:
 *  - what the decoder does not model at all: see differs_on_purpose();
 *  - Zydis decodes to Intel's rules where AMD's processors were measured to do otherwise: see
 *    amd_differs(); the decoder follows the AMD processor.
 */
#include <Zydis/Zydis.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decode/insn.h"

enum { ROUNDS = 1500000, BYTES = 16 };

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

/* Prefixes now and then, an opcode of any map, then noise. */
static void make_bytes(uint8_t *b, bool long_mode)
{
	static const uint8_t prefixes[] = {0x66, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0xf3,
					   0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
	uint64_t noise[2] = {next_random(), next_random()}, r = next_random();
	unsigned n = 0;

	memcpy(b, noise, BYTES);
	while ((r & 3) == 0 && n < 15) {
		b[n++] = prefixes[(r >> 2) % sizeof(prefixes)];
		r = next_random();
	}
	r >>= 2;
	if (long_mode && (r & 1)) {
		b[n++] = 0x40 | (r >> 1 & 15);
	}
	r >>= 5;
	if (n > 11) {
		return;
	}
	switch (r & 15) {
	case 0 ... 4: break;
	case 5 ... 9: b[n++] = 0x0f; break;
	case 10:
	case 11:
		b[n++] = 0x0f;
		b[n++] = 0x38;
		break;
	case 12:
		b[n++] = 0x0f;
		b[n++] = 0x3a;
		break;
	case 13: b[n++] = 0xc5; break;
	case 14:
		b[n++] = 0xc4;
		b[n] = (b[n] & 0xe0) | ((r >> 4) % 3 + 1);
		break;
	}
}

/* Of Xeon Phi, AVX512-FP16 and VP2INTERSECT. */
static bool unmodelled_evex(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_AVX512ER_512:
	case ZYDIS_ISA_SET_AVX512ER_SCALAR:
	case ZYDIS_ISA_SET_AVX512PF_512:
	case ZYDIS_ISA_SET_AVX512_4FMAPS_512:
	case ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR:
	case ZYDIS_ISA_SET_AVX512_4VNNIW_512:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_256:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_512:
	case ZYDIS_ISA_SET_AVX512_FP16_128:
	case ZYDIS_ISA_SET_AVX512_FP16_128N:
	case ZYDIS_ISA_SET_AVX512_FP16_256:
	case ZYDIS_ISA_SET_AVX512_FP16_512:
	case ZYDIS_ISA_SET_AVX512_FP16_SCALAR: return true;
	default: return false;
	}
}

static bool differs_on_purpose(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_AMD3DNOW:
	case ZYDIS_ISA_EXT_AMX_TILE:
	case ZYDIS_ISA_EXT_AMX_INT8:
	case ZYDIS_ISA_EXT_AMX_BF16:
	case ZYDIS_ISA_EXT_KNC:
	case ZYDIS_ISA_EXT_KNCE:
	case ZYDIS_ISA_EXT_KNCV:
	case ZYDIS_ISA_EXT_XOP:
	case ZYDIS_ISA_EXT_FMA4:
	case ZYDIS_ISA_EXT_TBM:
	case ZYDIS_ISA_EXT_MPX:
	case ZYDIS_ISA_EXT_CET:
	case ZYDIS_ISA_EXT_RTM:
	case ZYDIS_ISA_EXT_SMX:
	case ZYDIS_ISA_EXT_VTX:
	case ZYDIS_ISA_EXT_SVM:
	case ZYDIS_ISA_EXT_SGX:
	case ZYDIS_ISA_EXT_SGX_ENCLV:
	case ZYDIS_ISA_EXT_PT:
	case ZYDIS_ISA_EXT_PKU:
	case ZYDIS_ISA_EXT_PCONFIG:
	case ZYDIS_ISA_EXT_SERIALIZE:
	case ZYDIS_ISA_EXT_TSX_LDTRK:
	case ZYDIS_ISA_EXT_UINTR:
	case ZYDIS_ISA_EXT_ENQCMD:
	case ZYDIS_ISA_EXT_WAITPKG:
	case ZYDIS_ISA_EXT_KEYLOCKER:
	case ZYDIS_ISA_EXT_KEYLOCKER_WIDE:
	case ZYDIS_ISA_EXT_HRESET:
	case ZYDIS_ISA_EXT_SNP:
	case ZYDIS_ISA_EXT_AMD_INVLPGB:
	case ZYDIS_ISA_EXT_MCOMMIT:
	case ZYDIS_ISA_EXT_PADLOCK:
	case ZYDIS_ISA_EXT_CLDEMOTE:
	case ZYDIS_ISA_EXT_VMFUNC:
	case ZYDIS_ISA_EXT_XSAVES:
	case ZYDIS_ISA_EXT_TDX: return true;
	default:
		return (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && unmodelled_evex(z)) ||
		       z->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
		       z->encoding == ZYDIS_INSTRUCTION_ENCODING_XOP ||
		       z->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW;
	}
}

/* UD0 and UD1 (whose length no one can see), PREFETCHW of a register, stray mandatory prefixes. */
static bool amd_differs(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_CLZERO:
	case ZYDIS_MNEMONIC_RDPRU: return true;
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VPEXTRQ:
	case ZYDIS_MNEMONIC_VPINSRD:
	case ZYDIS_MNEMONIC_VPINSRQ:
		return z->machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && z->raw.vex.W;
	case ZYDIS_MNEMONIC_NOP: return z->opcode_map == ZYDIS_OPCODE_MAP_0F && z->opcode == 0x0d;
	default: return false;
	}
}

struct tally {
	uint64_t equal, excused;
};

static void report(const uint8_t *b, uint32_t mode, enum decode_result r, const struct insn *i,
		   bool valid, const ZydisDecodedInstruction *z)
{
	fprintf(stderr, "mode %u:", mode & MODE_SIZE);
	for (unsigned k = 0; k < BYTES; k++) {
		fprintf(stderr, " %02x", b[k]);
	}
	fprintf(stderr, "\n  ours: %d, %u bytes; zydis: %s, %u bytes, %s\n", r, i->len,
		valid ? "valid" : "invalid", z->length,
		valid ? ZydisMnemonicGetString(z->mnemonic) : "");
}

/* False: they differ and should not. */
static bool check(ZydisDecoder *d, uint32_t mode, const uint8_t *b, struct tally *tally)
{
	ZydisDecodedInstruction z = {0};
	struct insn i;
	enum decode_result r = insn_decode(&i, b, BYTES, mode);
	bool valid = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(d, NULL, b, BYTES, &z));

	if (valid == (r == DECODE_OK) && (!valid || z.length == i.len)) {
		tally->equal++;
		return true;
	}
	if (valid && r != DECODE_OK && (differs_on_purpose(&z) || amd_differs(&z))) {
		tally->excused++;
		return true;
	}
	report(b, mode, r, &i, valid, &z);
	return false;
}

static void run_mode(ZydisMachineMode machine, ZydisStackWidth width, uint32_t mode)
{
	const char *seed = getenv("DECODE_SEED"), *rounds = getenv("DECODE_ROUNDS");
	unsigned long n = rounds ? strtoul(rounds, NULL, 0) : ROUNDS;
	struct tally tally = {0};
	uint8_t b[BYTES];
	unsigned failures = 0;
	ZydisDecoder d;

	random_state = (seed ? strtoull(seed, NULL, 0) : 0x6d6f626f) * 4 + (mode & MODE_SIZE) + 1;
	ZydisDecoderInit(&d, machine, width);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	while (n-- && failures < 20) {
		make_bytes(b, (mode & MODE_SIZE) == MODE_64);
		failures += !check(&d, mode, b, &tally);
	}
	print_message("%llu equal, %llu different on purpose\n", (unsigned long long)tally.equal,
		      (unsigned long long)tally.excused);
	assert_int_equal(failures, 0);
}

static void lengths_and_validity_equal_zydis_in_16_bit_mode(void **state)
{
	run_mode(ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16,
		 MODE_16 | MODE_PROT | MODE_AMD);
}

static void lengths_and_validity_equal_zydis_in_32_bit_mode(void **state)
{
	run_mode(ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32,
		 MODE_32 | MODE_PROT | MODE_AMD);
}

static void lengths_and_validity_equal_zydis_in_64_bit_mode(void **state)
{
	run_mode(ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, MODE_64 | MODE_PROT | MODE_AMD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths_and_validity_equal_zydis_in_16_bit_mode),
		cmocka_unit_test(lengths_and_validity_equal_zydis_in_32_bit_mode),
		cmocka_unit_test(lengths_and_validity_equal_zydis_in_64_bit_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
