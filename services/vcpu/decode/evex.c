/* SPDX-License-Identifier: Apache-2.0 */
/* The EVEX opcode maps. A row left out is an opcode that does not exist. */
#include "decode/evex.h"

enum { PP_NP, PP_66, PP_F3, PP_F2 };

enum {
	ALL = EVEX_128 | EVEX_256 | EVEX_512,
	L128 = EVEX_128,
	L256 = EVEX_256 | EVEX_512,
	L512 = EVEX_512,
	TO = EVEX_TO_RM,
	IMM = EVEX_IMM,
	K = EVEX_MASK,
	KB = EVEX_MASK | EVEX_BROADCAST,
	WHOLE = EVEX_WHOLE,
	FIXED = EVEX_FIXED,
	ROUND = EVEX_FP | EVEX_ROUND, /* rounding by the instruction, or no exceptions */
	SAE = EVEX_FP | EVEX_SAE,
};

/* clang-format off */
#define ROW(reg, rm, vvvv, mem, el, len, f, fl) \
	{ reg, rm, vvvv, mem, el, len, 0, EVEX_##f, fl }
#define GROUP(ext, el, fl) { 'e', 'x', 'x', 64, el, ALL, ext, EVEX_AVX512, IMM | (fl) }
/* Rows by W: one of them, both, or those of elements of 4 and 8 (1 and 2) bytes. */
#define W0(...) { [0] = __VA_ARGS__ }
#define W1(...) { [1] = __VA_ARGS__ }
#define WIG(...) { __VA_ARGS__, __VA_ARGS__ }
#define DQ(row, ...) { row(4, __VA_ARGS__), row(8, __VA_ARGS__) }
#define BW(row, ...) { row(1, __VA_ARGS__), row(2, __VA_ARGS__) }

/* Two and three operands of full width; an opmask made of two. */
#define XX(el, fl) XX_OF(el, AVX512, fl)
#define XXX(el, fl) XXX_OF(el, AVX512, fl)
#define XX_OF(el, f, fl) ROW('x', 'x', 0, 64, el, ALL, f, fl)
#define XXX_OF(el, f, fl) ROW('x', 'x', 'x', 64, el, ALL, f, fl)
#define KXX(el, fl) ROW('k', 'x', 'x', 64, el, ALL, AVX512, fl)
/* A part of a register widened, or narrowed to. */
#define WIDEN(m, el, fl) ROW('x', 'x', 0, m, el, ALL, AVX512, K | (fl))
#define NARROW(m, el) W0(ROW('x', 'x', 0, m, el, ALL, AVX512, K | TO))
#define NARROW_ROWS(base) \
	[base] = NARROW(32, 1), [(base) + 1] = NARROW(16, 1), [(base) + 2] = NARROW(8, 1), \
	[(base) + 3] = NARROW(32, 2), [(base) + 4] = NARROW(16, 2), [(base) + 5] = NARROW(32, 4)
#define WIDEN_ROWS(base) \
	[base] = WIG(WIDEN(32, 1, 0)), [(base) + 1] = WIG(WIDEN(16, 1, 0)), \
	[(base) + 2] = WIG(WIDEN(8, 1, 0)), [(base) + 3] = WIG(WIDEN(32, 2, 0)), \
	[(base) + 4] = WIG(WIDEN(16, 2, 0)), [(base) + 5] = W0(WIDEN(32, 4, 0))
#define SCALAR(el, fl) ROW('x', 'x', 'x', el, el, ALL, AVX512, FIXED | K | (fl))
#define KSCALAR(el, fl) ROW('k', 'x', 'x', el, el, ALL, AVX512, FIXED | K | (fl))
#define STORE(el, fl) ROW('x', 0, 0, 64, el, ALL, AVX512, EVEX_ALIGNED | TO)
#define STORE_8(el) ROW('x', 0, 0, 8, el, L128, AVX512, FIXED | TO)
#define COUNT(el, fl) ROW('x', 'x', 'x', 16, el, ALL, AVX512, FIXED | K | WHOLE | (fl))
/* Between vector and general registers. */
#define MOVE(el, fl) ROW('x', 'g', 0, el, el, L128, AVX512, FIXED | (fl))
#define INSERT(el, fl) ROW('x', 'g', 'x', el, el, L128, AVX512, FIXED | IMM)
#define EXTRACT(el, fl) MOVE(el, TO | IMM)
#define TO_INTEGER(m, fl) WIG(ROW('g', 'x', 0, m, m, ALL, AVX512, FIXED | (fl)))
#define FROM_INTEGER(el, fl) ROW('x', 'g', 'x', el, el, ALL, AVX512, FIXED | (fl))
/* `m` bytes at all lengths, repeated; a part of a register inserted and extracted. */
#define REPEAT(el, m, len) ROW('x', 'x', 0, m, el, len, AVX512, FIXED | K | EVEX_REPEAT)
#define REPEAT_MEM(el, m, len) ROW('x', 0, 0, m, el, len, AVX512, FIXED | K | EVEX_REPEAT)
#define PART_IN(el, m, len) \
	ROW('x', 'x', 'x', m, el, len, AVX512, FIXED | K | WHOLE | IMM)
#define PART_OUT(el, m, len) ROW('x', 'x', 0, m, el, len, AVX512, FIXED | K | WHOLE | IMM | TO)
#define PART_ROWS(base) \
	[base] = DQ(PART_IN, 16, L256), [(base) + 1] = DQ(PART_OUT, 16, L256), \
	[(base) + 2] = DQ(PART_IN, 32, L512), [(base) + 3] = DQ(PART_OUT, 32, L512)
#define PERMUTE(el, vvvv, fl) \
	ROW('x', 'x', vvvv, 64, el, L256, AVX512, KB | WHOLE | (fl))
#define GATHER(el, fl) ROW('x', 0, 0, el, el, ALL, AVX512, FIXED | K | EVEX_VSIB | (fl))
/* One of the three thirds of FMA. */
#define FMA_ROWS(base) \
	[(base) + 6 ... (base) + 8] = DQ(XXX, KB | ROUND), [(base) + 9] = DQ(SCALAR, ROUND), \
	[(base) + 10] = DQ(XXX, KB | ROUND), [(base) + 11] = DQ(SCALAR, ROUND), \
	[(base) + 12] = DQ(XXX, KB | ROUND), [(base) + 13] = DQ(SCALAR, ROUND), \
	[(base) + 14] = DQ(XXX, KB | ROUND), [(base) + 15] = DQ(SCALAR, ROUND)

/* What the packed and the scalar forms of floating point have in common. */
#define PACKED_ROWS(w, el) \
	[0x10] = w(XX(el, K)), [0x11] = w(XX(el, K | TO)), [0x13] = w(STORE_8(el)), \
	[0x14 ... 0x15] = w(XXX(el, KB | WHOLE)), [0x17] = w(STORE_8(el)), \
	[0x28] = w(XX(el, K | EVEX_ALIGNED)), [0x29] = w(XX(el, K | EVEX_ALIGNED | TO)), \
	[0x2b] = w(STORE(el, 0)), \
	[0x2e ... 0x2f] = w(ROW('x', 'x', 0, el, el, ALL, AVX512, \
				FIXED | SAE | EVEX_FLAGS | EVEX_NO_DEST)), \
	[0x51] = w(XX(el, KB | ROUND)), [0x54 ... 0x57] = w(XXX(el, KB)), \
	[0x58 ... 0x59] = w(XXX(el, KB | ROUND)), [0x5c] = w(XXX(el, KB | ROUND)), \
	[0x5d] = w(XXX(el, KB | SAE)), [0x5e] = w(XXX(el, KB | ROUND)), \
	[0x5f] = w(XXX(el, KB | SAE)), [0xc2] = w(KXX(el, KB | SAE | IMM)), \
	[0xc6] = w(XXX(el, KB | WHOLE | IMM))
#define SCALAR_ROWS(w, el) \
	[0x10] = w(SCALAR(el, EVEX_VVVV_REG)), [0x11] = w(SCALAR(el, EVEX_VVVV_REG | TO)), \
	[0x2c] = TO_INTEGER(el, SAE), [0x2d] = TO_INTEGER(el, ROUND), \
	[0x51] = w(SCALAR(el, ROUND)), [0x58 ... 0x59] = w(SCALAR(el, ROUND)), \
	[0x5c] = w(SCALAR(el, ROUND)), [0x5d] = w(SCALAR(el, SAE)), \
	[0x5e] = w(SCALAR(el, ROUND)), [0x5f] = w(SCALAR(el, SAE)), \
	[0x78] = TO_INTEGER(el, SAE), [0x79] = TO_INTEGER(el, ROUND), \
	[0xc2] = w(KSCALAR(el, SAE | IMM))

const struct evex_row evex_table[3][4][256][2] = {
	{
		[PP_NP] = {
			PACKED_ROWS(W0, 4),
			[0x12] = W0(ROW('x', 'x', 'x', 8, 4, L128, AVX512, FIXED)),
			[0x16] = W0(ROW('x', 'x', 'x', 8, 4, L128, AVX512, FIXED)),
			[0x5a] = W0(WIDEN(32, 4, KB | SAE)), [0x5b] = DQ(XX, KB | ROUND),
			[0x78] = DQ(XX, KB | SAE), [0x79] = DQ(XX, KB | ROUND),
		},
		[PP_66] = {
			PACKED_ROWS(W1, 8),
			[0x12] = W1(ROW('x', 0, 'x', 8, 8, L128, AVX512, FIXED)),
			[0x16] = W1(ROW('x', 0, 'x', 8, 8, L128, AVX512, FIXED)),
			[0x5a] = W1(XX(8, KB | ROUND)), [0x5b] = W0(XX(4, KB | ROUND)),
			[0x60] = WIG(XXX(1, K | WHOLE)), [0x61] = WIG(XXX(2, K | WHOLE)),
			[0x62] = W0(XXX(4, KB | WHOLE)), [0x63] = WIG(XXX(2, K | WHOLE)),
			[0x64] = WIG(KXX(1, K)), [0x65] = WIG(KXX(2, K)), [0x66] = W0(KXX(4, KB)),
			[0x67] = WIG(XXX(2, K | WHOLE)), [0x68] = WIG(XXX(1, K | WHOLE)),
			[0x69] = WIG(XXX(2, K | WHOLE)), [0x6a ... 0x6b] = W0(XXX(4, KB | WHOLE)),
			[0x6c ... 0x6d] = W1(XXX(8, KB | WHOLE)), [0x6e] = DQ(MOVE, 0),
			[0x6f] = DQ(XX, K | EVEX_ALIGNED), [0x70] = W0(XX(4, KB | WHOLE | IMM)),
			[0x71] = WIG(GROUP(0x54, 2, K)),
			[0x72] = { GROUP(0x57, 4, KB), GROUP(0x13, 8, KB) },
			/* VPSRLDQ, VPSLLDQ; VPSRLQ, VPSLLQ */
			[0x73] = { GROUP(0x88, 1, WHOLE), GROUP(0x44, 8, KB | EVEX_ODD_W0) },
			[0x74] = WIG(KXX(1, K)), [0x75] = WIG(KXX(2, K)), [0x76] = W0(KXX(4, KB)),
			[0x78] = { WIDEN(32, 4, KB | SAE), XX(8, KB | SAE) },
			[0x79] = { WIDEN(32, 4, KB | ROUND), XX(8, KB | ROUND) },
			[0x7a] = { WIDEN(32, 4, KB | SAE), XX(8, KB | SAE) },
			[0x7b] = { WIDEN(32, 4, KB | ROUND), XX(8, KB | ROUND) },
			[0x7e] = DQ(MOVE, TO), [0x7f] = DQ(XX, K | EVEX_ALIGNED | TO),
			[0xc4] = WIG(INSERT(2, 0)),
			[0xc5] = WIG(ROW('g', 'x', 0, 0, 0, L128, AVX512, IMM)),
			[0xd1] = WIG(COUNT(2, 0)), [0xd2] = W0(COUNT(4, 0)), [0xd3] = W1(COUNT(8, 0)),
			[0xd4] = W1(XXX(8, KB)), [0xd5] = WIG(XXX(2, K)),
			[0xd6] = W1(ROW('x', 'x', 0, 8, 8, L128, AVX512, FIXED | TO)),
			[0xd8] = WIG(XXX(1, K)), [0xd9] = WIG(XXX(2, K)), [0xda] = WIG(XXX(1, K)),
			[0xdb] = DQ(XXX, KB), [0xdc] = WIG(XXX(1, K)), [0xdd] = WIG(XXX(2, K)),
			[0xde] = WIG(XXX(1, K)), [0xdf] = DQ(XXX, KB), [0xe0] = WIG(XXX(1, K)),
			[0xe1] = WIG(COUNT(2, 0)), [0xe2] = DQ(COUNT, 0),
			[0xe3 ... 0xe5] = WIG(XXX(2, K)), [0xe6] = W1(XX(8, KB | SAE)),
			[0xe7] = W0(STORE(4, 0)), [0xe8] = WIG(XXX(1, K)),
			[0xe9 ... 0xea] = WIG(XXX(2, K)), [0xeb] = DQ(XXX, KB),
			[0xec] = WIG(XXX(1, K)), [0xed ... 0xee] = WIG(XXX(2, K)),
			[0xef] = DQ(XXX, KB), [0xf1] = WIG(COUNT(2, 0)), [0xf2] = W0(COUNT(4, 0)),
			[0xf3] = W1(COUNT(8, 0)), [0xf4] = W1(XXX(8, KB)),
			[0xf5] = WIG(XXX(2, K | WHOLE)), [0xf6] = WIG(XXX(1, WHOLE)),
			[0xf8] = WIG(XXX(1, K)), [0xf9] = WIG(XXX(2, K)), [0xfa] = W0(XXX(4, KB)),
			[0xfb] = W1(XXX(8, KB)), [0xfc] = WIG(XXX(1, K)), [0xfd] = WIG(XXX(2, K)),
			[0xfe] = W0(XXX(4, KB)),
		},
		[PP_F3] = {
			SCALAR_ROWS(W0, 4),
			[0x12] = W0(XX(4, K | WHOLE)), [0x16] = W0(XX(4, K | WHOLE)),
			[0x2a] = DQ(FROM_INTEGER, ROUND), [0x5a] = W0(SCALAR(4, SAE)),
			[0x5b] = W0(XX(4, KB | SAE)), [0x6f] = DQ(XX, K),
			[0x70] = WIG(XX(2, K | WHOLE | IMM)),
			[0x7a] = { WIDEN(32, 4, KB | EVEX_NO_B), XX(8, KB | ROUND) },
			[0x7b] = DQ(FROM_INTEGER, ROUND),
			[0x7e] = W1(ROW('x', 'x', 0, 8, 8, L128, AVX512, FIXED)),
			[0x7f] = DQ(XX, K | TO),
			[0xe6] = { WIDEN(32, 4, KB | EVEX_NO_B), XX(8, KB | ROUND) },
		},
		[PP_F2] = {
			SCALAR_ROWS(W1, 8),
			[0x12] = W1(XX(8, K | WHOLE | EVEX_DUP)),
			[0x2a] = { FROM_INTEGER(4, EVEX_NO_B), FROM_INTEGER(8, ROUND) },
			[0x5a] = W1(SCALAR(8, ROUND)), [0x6f] = BW(XX, K),
			[0x70] = WIG(XX(2, K | WHOLE | IMM)), [0x7a] = DQ(XX, KB | ROUND),
			[0x7b] = { FROM_INTEGER(4, EVEX_NO_B), FROM_INTEGER(8, ROUND) },
			[0x7f] = BW(XX, K | TO), [0xe6] = W1(XX(8, KB | ROUND)),
		},
	},
	{
		[PP_66] = {
			[0x00] = WIG(XXX(1, K | WHOLE)), [0x04] = WIG(XXX(2, K | WHOLE)),
			[0x0b] = WIG(XXX(2, K)), [0x0c] = W0(XXX(4, KB | WHOLE)),
			[0x0d] = W1(XXX(8, KB | WHOLE)), [0x10 ... 0x12] = W1(XXX(2, K)),
			[0x13] = W0(WIDEN(32, 2, SAE)), [0x14 ... 0x15] = DQ(XXX, KB),
			[0x16] = DQ(PERMUTE, 'x', 0), [0x18] = W0(REPEAT(4, 4, ALL)),
			[0x19] = DQ(REPEAT, 8, L256), [0x1a] = DQ(REPEAT_MEM, 16, L256),
			[0x1b] = DQ(REPEAT_MEM, 32, L512), [0x1c] = WIG(XX(1, K)),
			[0x1d] = WIG(XX(2, K)), [0x1e] = W0(XX(4, KB)), [0x1f] = W1(XX(8, KB)),
			WIDEN_ROWS(0x20), [0x26] = BW(KXX, K), [0x27] = DQ(KXX, KB),
			[0x28] = W1(XXX(8, KB)), [0x29] = W1(KXX(8, KB)),
			[0x2a] = W0(ROW('x', 0, 0, 64, 4, ALL, AVX512, EVEX_ALIGNED)),
			[0x2b] = W0(XXX(4, KB | WHOLE)), [0x2c] = DQ(XXX, KB | ROUND),
			[0x2d] = DQ(SCALAR, ROUND), WIDEN_ROWS(0x30), [0x36] = DQ(PERMUTE, 'x', 0),
			[0x37] = W1(KXX(8, KB)), [0x38] = WIG(XXX(1, K)), [0x39] = DQ(XXX, KB),
			[0x3a] = WIG(XXX(2, K)), [0x3b] = DQ(XXX, KB), [0x3c] = WIG(XXX(1, K)),
			[0x3d] = DQ(XXX, KB), [0x3e] = WIG(XXX(2, K)), [0x3f ... 0x40] = DQ(XXX, KB),
			[0x42] = DQ(XX, KB | SAE), [0x43] = DQ(SCALAR, SAE), [0x44] = DQ(XX, KB),
			[0x45 ... 0x47] = DQ(XXX, KB), [0x4c] = DQ(XX, KB), [0x4d] = DQ(SCALAR, 0),
			[0x4e] = DQ(XX, KB), [0x4f] = DQ(SCALAR, 0),
			[0x50 ... 0x53] = W0(XXX_OF(4, VNNI, KB)), [0x54] = BW(XX_OF, BITALG, K),
			[0x55] = DQ(XX_OF, VPOPCNTDQ, KB), [0x58] = W0(REPEAT(4, 4, ALL)),
			[0x59] = DQ(REPEAT, 8, ALL), [0x5a] = DQ(REPEAT_MEM, 16, L256),
			[0x5b] = DQ(REPEAT_MEM, 32, L512), [0x62] = BW(XX_OF, VBMI2, K | EVEX_PACK),
			[0x63] = BW(XX_OF, VBMI2, K | EVEX_PACK | TO), [0x64 ... 0x65] = DQ(XXX, KB),
			[0x66] = BW(XXX, K), [0x70] = W1(XXX_OF(2, VBMI2, K)),
			[0x71] = DQ(XXX_OF, VBMI2, KB), [0x72] = W1(XXX_OF(2, VBMI2, K)),
			[0x73] = DQ(XXX_OF, VBMI2, KB),
			[0x75] = { XXX_OF(1, VBMI, K | WHOLE), XXX(2, K | WHOLE) },
			[0x76 ... 0x77] = DQ(XXX, KB | WHOLE), [0x78] = W0(REPEAT(1, 1, ALL)),
			[0x79] = W0(REPEAT(2, 2, ALL)),
			[0x7a ... 0x7b] = W0(ROW('x', 'g', 0, 0, 0, ALL, AVX512, K)),
			[0x7c] = WIG(ROW('x', 'g', 0, 0, 0, ALL, AVX512, K)),
			[0x7d] = { XXX_OF(1, VBMI, K | WHOLE), XXX(2, K | WHOLE) },
			[0x7e ... 0x7f] = DQ(XXX, KB | WHOLE), [0x83] = W1(XXX_OF(8, VBMI, KB | WHOLE)),
			[0x88 ... 0x89] = DQ(XX, K | EVEX_PACK),
			[0x8a ... 0x8b] = DQ(XX, K | EVEX_PACK | TO),
			[0x8d] = { XXX_OF(1, VBMI, K | WHOLE), XXX(2, K | WHOLE) },
			[0x8f] = W0(ROW('k', 'x', 'x', 64, 1, ALL, BITALG, K)),
			[0x90 ... 0x93] = DQ(GATHER, 0), FMA_ROWS(0x90), [0xa0 ... 0xa3] = DQ(GATHER, TO),
			FMA_ROWS(0xa0), [0xb4 ... 0xb5] = W1(XXX_OF(8, IFMA, KB)), FMA_ROWS(0xb0),
			[0xc4] = DQ(XX, KB | WHOLE), [0xcf] = W0(XXX_OF(1, GFNI, K)),
			[0xdc ... 0xdf] = WIG(XXX_OF(16, VAES, 0)),
		},
		[PP_F3] = {
			NARROW_ROWS(0x10), NARROW_ROWS(0x20), [0x26] = BW(KXX, K), [0x27] = DQ(KXX, KB),
			[0x28] = WIG(ROW('x', 'k', 0, 0, 0, ALL, AVX512, 0)),
			[0x29] = WIG(ROW('k', 'x', 0, 0, 0, ALL, AVX512, 0)),
			[0x2a] = W1(ROW('x', 'k', 0, 0, 0, ALL, AVX512, 0)), NARROW_ROWS(0x30),
			[0x38] = WIG(ROW('x', 'k', 0, 0, 0, ALL, AVX512, 0)),
			[0x39] = WIG(ROW('k', 'x', 0, 0, 0, ALL, AVX512, 0)),
			[0x3a] = W0(ROW('x', 'k', 0, 0, 0, ALL, AVX512, 0)),
			[0x52] = W0(XXX_OF(4, BF16, KB)), [0x72] = W0(XX_OF(4, BF16, KB)),
		},
		[PP_F2] = { [0x72] = W0(XXX_OF(4, BF16, KB | WHOLE)) },
	},
	{
		[PP_66] = {
			[0x00 ... 0x01] = W1(PERMUTE(8, 0, IMM)), [0x03] = DQ(XXX, KB | WHOLE | IMM),
			[0x04] = W0(XX(4, KB | WHOLE | IMM)), [0x05] = W1(XX(8, KB | WHOLE | IMM)),
			[0x08] = W0(XX(4, KB | SAE | IMM)), [0x09] = W1(XX(8, KB | SAE | IMM)),
			[0x0a] = W0(SCALAR(4, SAE | IMM)), [0x0b] = W1(SCALAR(8, SAE | IMM)),
			[0x0f] = WIG(XXX(1, K | WHOLE | IMM)), [0x14] = WIG(EXTRACT(1, 0)),
			[0x15] = WIG(EXTRACT(2, 0)), [0x16] = DQ(EXTRACT, 0), [0x17] = WIG(EXTRACT(4, 0)),
			PART_ROWS(0x18),
			[0x1d] = W0(ROW('x', 'x', 0, 32, 2, ALL, AVX512, K | SAE | IMM | TO)),
			[0x1e ... 0x1f] = DQ(KXX, KB | IMM), [0x20] = WIG(INSERT(1, 0)),
			[0x21] = W0(ROW('x', 'x', 'x', 4, 4, L128, AVX512, FIXED | IMM)),
			[0x22] = DQ(INSERT, 0), [0x23] = DQ(PERMUTE, 'x', IMM),
			[0x25] = DQ(XXX, KB | IMM), [0x26] = DQ(XX, KB | SAE | IMM),
			[0x27] = DQ(SCALAR, SAE | IMM), PART_ROWS(0x38),
			[0x3e ... 0x3f] = BW(KXX, K | IMM), [0x42] = W0(XXX(1, K | WHOLE | IMM)),
			[0x43] = DQ(PERMUTE, 'x', IMM), [0x44] = WIG(XXX_OF(8, VPCLMULQDQ, IMM)),
			[0x50] = DQ(XXX, KB | SAE | IMM), [0x51] = DQ(SCALAR, SAE | IMM),
			[0x54] = DQ(XXX, KB | SAE | IMM), [0x55] = DQ(SCALAR, SAE | IMM),
			[0x56] = DQ(XX, KB | SAE | IMM), [0x57] = DQ(SCALAR, SAE | IMM),
			[0x66] = { ROW('k', 'x', 0, 64, 4, ALL, AVX512, KB | IMM),
				   ROW('k', 'x', 0, 64, 8, ALL, AVX512, KB | IMM) },
			[0x67] = { ROW('k', 'x', 0, 4, 4, ALL, AVX512, FIXED | K | IMM),
				   ROW('k', 'x', 0, 8, 8, ALL, AVX512, FIXED | K | IMM) },
			[0x70] = W1(XXX_OF(2, VBMI2, K | IMM)), [0x71] = DQ(XXX_OF, VBMI2, KB | IMM),
			[0x72] = W1(XXX_OF(2, VBMI2, K | IMM)), [0x73] = DQ(XXX_OF, VBMI2, KB | IMM),
			[0xce ... 0xcf] = W1(XXX_OF(8, GFNI, KB | WHOLE | IMM)),
		},
	},
};
/* clang-format on */
