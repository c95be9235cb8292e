/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EVEX and opmask encodings against Zydis: every opcode with every W, length, b, z, opmask and kind
 * of operand, and what the decoder's tables say of operands, displacements and exceptions.
 */
#include <Zydis/Zydis.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "decode/evex.h"
#include "decode/vex.h"

enum { BYTES = 16, MAX_FAILURES = 20 };

struct oracle {
	ZydisDecoder decoder;
	uint32_t mode;
	unsigned n_valid, n_failures;
};

/* Of Xeon Phi, AVX512-FP16 and VP2INTERSECT. */
static bool is_unmodelled(const ZydisDecodedInstruction *z)
{
	const char *set = ZydisISASetGetString(z->meta.isa_set);

	return strstr(set, "512ER") || strstr(set, "512PF") || strstr(set, "4FMAPS") ||
	       strstr(set, "4VNNIW") || strstr(set, "VP2INTERSECT") || strstr(set, "FP16");
}

static void fail_at(struct oracle *o, const uint8_t *b, const char *what, long long ours,
		    long long zydis)
{
	o->n_failures++;
	fprintf(stderr, "mode %u:", o->mode & MODE_SIZE);
	for (unsigned k = 0; k < BYTES; k++) {
		fprintf(stderr, " %02x", b[k]);
	}
	fprintf(stderr, ": %s: ours %lld, zydis %lld\n", what, ours, zydis);
}

static void same(struct oracle *o, const uint8_t *b, const char *what, long long ours,
		 long long zydis)
{
	if (ours != zydis) {
		fail_at(o, b, what, ours, zydis);
	}
}

static char kind_of(const ZydisDecodedOperand *op)
{
	switch (ZydisRegisterGetClass(op->reg.value)) {
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM: return 'x';
	case ZYDIS_REGCLASS_MASK: return 'k';
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64: return 'g';
	default: return '?';
	}
}

static const ZydisDecodedOperand *find(const ZydisDecodedInstruction *z,
				       const ZydisDecodedOperand *op, ZydisOperandEncoding encoding)
{
	for (unsigned k = 0; k < z->operand_count; k++) {
		if (op[k].encoding == encoding) {
			return &op[k];
		}
	}
	return NULL;
}

static void same_register(struct oracle *o, const uint8_t *b, const char *what, char kind,
			  unsigned number, const ZydisDecodedOperand *op)
{
	same(o, b, what, kind, kind_of(op));
	same(o, b, what, number, ZydisRegisterGetId(op->reg.value));
}

static bool may_raise_fp(const ZydisDecodedInstruction *z)
{
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E2:
	case ZYDIS_EXCEPTION_CLASS_E2NF:
	case ZYDIS_EXCEPTION_CLASS_E3:
	case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E11:
	case ZYDIS_EXCEPTION_CLASS_E11NF: return true;
	default: return false;
	}
}

/* Some classes are another in the manual than in Zydis: see the tables. */
static bool is_whole(const struct insn *i, const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VDBPSADBW:
	case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB: return true;
	default: break;
	}
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5NF:
	case ZYDIS_EXCEPTION_CLASS_E6NF: return i->mod != 3;
	default: return false;
	}
}

static void same_memory(struct oracle *o, const uint8_t *b, const struct insn *i,
			const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	const struct evex_row *row = evex_row(i);
	bool written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	same(o, b, "bytes of memory", evex_mem(i, row), op->size / 8);
	same(o, b, "memory is written", !!(row->flags & EVEX_TO_RM), written);
	same(o, b, "displacement", i->disp, op->mem.disp.value);
	if (i->evex & EVEX_OPMASK) {
		same(o, b, "accessed whole", !!(row->flags & EVEX_WHOLE), is_whole(i, z));
		if (!(row->flags & EVEX_REPEAT)) {
			same(o, b, "bytes of an element", row->el, op->element_size / 8);
		}
	}
	same(o, b, "aligned", !!(row->flags & EVEX_ALIGNED),
	     z->meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1 ||
		     z->meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1NF);
	if (row->flags & EVEX_VSIB) {
		same(o, b, "index vector", i->imm2, ZydisRegisterGetId(op->mem.index));
	}
}

static void same_operands(struct oracle *o, const uint8_t *b, const struct insn *i,
			  const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	const struct evex_row *row = evex_row(i);
	const ZydisDecodedOperand *found = find(z, op, ZYDIS_OPERAND_ENCODING_MODRM_REG);

	if (found) {
		same_register(o, b, "reg", row->reg, i->reg, found);
	} else {
		same(o, b, "reg", row->reg, 'e');
	}
	found = find(z, op, ZYDIS_OPERAND_ENCODING_NDSNDD);
	if (found) {
		same_register(o, b, "vvvv", row->vvvv, i->vvvv, found);
	}
	found = find(z, op, ZYDIS_OPERAND_ENCODING_MODRM_RM);
	if (i->mod == 3) {
		same_register(o, b, "rm", row->rm, i->rm, found);
	} else {
		same_memory(o, b, i, z, found);
	}
	if (!(row->flags & EVEX_VSIB)) {
		found = find(z, op, ZYDIS_OPERAND_ENCODING_MASK);
		same(o, b, "may be masked", !!(row->flags & EVEX_MASK), !!found);
	}
	same(o, b, "floating-point exceptions", !!(row->flags & EVEX_FP), may_raise_fp(z));
	same(o, b, "flags", !!(row->flags & EVEX_FLAGS),
	     z->cpu_flags && z->cpu_flags->modified & ZYDIS_CPUFLAG_ZF);
	same(o, b, "immediate", i->imm_len, z->raw.imm[0].size / 8);
	if (i->mod == 3 && i->evex & EVEX_B) {
		same(o, b, "rounding", !!(row->flags & EVEX_ROUND),
		     z->avx.rounding.mode != ZYDIS_ROUNDING_MODE_INVALID);
	}
}

static void check(struct oracle *o, const uint8_t *b)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z = {0};
	struct insn i;
	bool ours = insn_decode(&i, b, BYTES, o->mode) == DECODE_OK;
	bool zydis = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&o->decoder, b, BYTES, &z, op));

	if (zydis && !ours && is_unmodelled(&z)) {
		return;
	}
	same(o, b, "exists", ours, zydis);
	if (!ours || !zydis) {
		return;
	}
	o->n_valid++;
	same(o, b, "bytes", i.len, z.length);
	if (i.flags & INSN_EVEX) {
		same_operands(o, b, &i, &z, op);
	}
}

/* ModRM, SIB and disp8 of the operand forms; the last is a register's. */
static const uint8_t operands[][4] = {
	{0x0b, 0, 0, 0},    {0x53, 3, 0, 0}, {0x4c, 0x1a, 0xf8, 0},
	{0x84, 0x90, 4, 0}, {0xd3, 0, 0, 0},
};
enum { N_OPERANDS = sizeof(operands) / sizeof(operands[0]) };

/* One opcode with all modifiers; `spice` varies what need not be combined with everything. */
static void check_opcode(struct oracle *o, unsigned map, unsigned pp, unsigned opcode)
{
	bool group = map == 1 && opcode >= 0x71 && opcode <= 0x73;
	unsigned spice = opcode, n_combined = (group ? 2048 : 256) * N_OPERANDS;

	for (unsigned n = 0; n < n_combined && o->n_failures < MAX_FAILURES; n++) {
		unsigned operand = n % N_OPERANDS, m = n / N_OPERANDS;
		unsigned w = m & 1, llb = m >> 1 & 7, z = m >> 4 & 1, k = m >> 5 & 1;
		unsigned vvvv = m >> 6 & 3, reg;
		uint8_t b[BYTES] = {0x62};

		spice = spice * 1103515245 + 12345;
		reg = group ? m >> 8 : spice >> 16 & 7;
		b[1] = (uint8_t)(0xf0 | map);
		if ((o->mode & MODE_SIZE) == MODE_64) {
			b[1] ^= (uint8_t)(spice >> 8 & 0xf0);
		}
		b[2] = (uint8_t)(w << 7 | (vvvv & 1 ? 15 : spice >> 20 & 15) << 3 | 4 | pp);
		b[3] = (uint8_t)(z << 7 | llb << 4 | (vvvv & 2 ? 8 : 0) |
				 (k ? 1 + (spice >> 24) % 7 : 0));
		b[4] = (uint8_t)opcode;
		memcpy(b + 5, operands[operand], 4);
		b[5] = (uint8_t)((b[5] & ~0x38) | reg << 3);
		b[9] = 0x11;
		check(o, b);
	}
}

static void check_mode(ZydisMachineMode machine, ZydisStackWidth width, uint32_t mode)
{
	struct oracle o = {.mode = mode | MODE_PROT};

	ZydisDecoderInit(&o.decoder, machine, width);
	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned k = 0; k < 4 * 256 && o.n_failures < MAX_FAILURES; k++) {
			check_opcode(&o, map, k & 3, k >> 2);
		}
	}
	print_message("%u valid encodings\n", o.n_valid);
	assert_int_equal(o.n_failures, 0);
	assert_true(o.n_valid > 40000);
}

static void every_evex_encoding_equals_zydis_in_64_bit_mode(void **state)
{
	check_mode(ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, MODE_64);
}

static void every_evex_encoding_equals_zydis_in_32_bit_mode(void **state)
{
	check_mode(ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32, MODE_32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_evex_encoding_equals_zydis_in_64_bit_mode),
		cmocka_unit_test(every_evex_encoding_equals_zydis_in_32_bit_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
