/* SPDX-License-Identifier: Apache-2.0 */
/* The VEX opcode maps. A row left out is an opcode that does not exist. */
#include "decode/vex.h"

enum { PP_NP, PP_66, PP_F3, PP_F2 };

/* clang-format off */
#define ROW(reg, rm, vvvv, m128, m256, wl, f, fl) \
	{ reg, rm, vvvv, {m128, m256}, 0, wl, f, fl }
#define GROUP(ext, rm, vvvv, mem, wl, f, fl) { 'e', rm, vvvv, {mem, mem}, ext, wl, f, fl }
#define BY_L(f128, f256) (VEX_##f128 | VEX_##f256 << 4)
#define BOTH(f) BY_L(f, f)
#define ANY (VEX_WIG | VEX_LIG)
enum {
	AVX = VEX_AVX | VEX_AVX << 4,
	INT = VEX_AVX | VEX_AVX2 << 4,
	AVX2 = VEX_AVX2 | VEX_AVX2 << 4,
};
#define W0L0 (VEX_W0 | VEX_L0)
#define W0L1 (VEX_W0 | VEX_L1)
#define W1L1 (VEX_W1 | VEX_L1)
#define W0 (VEX_W0 | VEX_LIG)
#define W1 (VEX_W1 | VEX_LIG)
#define L0 (VEX_WIG | VEX_L0)

/* Two and three operands of full width, of AVX at any width or only at 128 bits, AVX2 at 256. */
#define XX(fl) ROW('x', 'x', 0, 16, 32, ANY, AVX, fl)
#define XXX(fl) ROW('x', 'x', 'x', 16, 32, ANY, AVX, fl)
#define INT_XX(fl) ROW('x', 'x', 0, 16, 32, ANY, INT, fl)
#define INT_XXX(fl) ROW('x', 'x', 'x', 16, 32, ANY, INT, fl)
/* Half, quarter and eighth of a register widened. */
#define WIDEN(m, f, fl) ROW('x', 'x', 0, m, 2 * (m), ANY, f, fl)
#define SCALAR(m, fl) ROW('x', 'x', 'x', m, m, ANY, AVX, fl)
#define STORE(m128, m256, wl, fl) ROW('x', 0, 0, m128, m256, wl, AVX, VEX_TO_RM | (fl))
#define SHIFT ROW('x', 'x', 'x', 16, 16, ANY, INT, VEX_XMM_RM)
#define SHIFT_IMM(ext) GROUP(ext, 'x', 'x', 0, ANY, INT, VEX_IMM)
#define XMM_X(m, f) ROW('x', 'x', 0, m, m, L0, BOTH(f), 0)
#define FMA_PACKED ROW('x', 'x', 'x', 16, 32, ANY, BOTH(FMA), VEX_FP)
#define FMA_SCALAR ROW('x', 'x', 'x', 4, 4, ANY, BOTH(FMA), VEX_FP | VEX_W_MEM)
#define FMA_HALF(base) \
	[(base) + 6 ... (base) + 8] = FMA_PACKED, [(base) + 9] = FMA_SCALAR, \
	[(base) + 10] = FMA_PACKED, [(base) + 11] = FMA_SCALAR, [(base) + 12] = FMA_PACKED, \
	[(base) + 13] = FMA_SCALAR, [(base) + 14] = FMA_PACKED, [(base) + 15] = FMA_SCALAR
#define MASKED_LOAD(wl, f) ROW('x', 0, 'x', 16, 32, wl, f, VEX_MASKED)
#define MASKED_STORE(wl, f) ROW('x', 0, 'x', 16, 32, wl, f, VEX_MASKED | VEX_TO_RM)
#define BROADCAST(m, wl, f, fl) ROW('x', 'x', 0, m, m, wl, f, VEX_XMM_RM | (fl))
#define OPMASK(reg, rm, vvvv, wl, fl) ROW(reg, rm, vvvv, 0, 0, wl, BOTH(AVX512), fl)
#define OPMASK_3 OPMASK('k', 'k', 'k', VEX_WIG | VEX_L1, 0)
#define OPMASK_2(fl) OPMASK('k', 'k', 0, VEX_WIG | VEX_L0, fl)
#define OPMASK_MEM(rm, m, fl) ROW('k', rm, 0, m, 0, L0, BOTH(AVX512), VEX_W_MEM4 | (fl))
#define BMI(reg, vvvv, fl) ROW(reg, 'g', vvvv, 4, 4, L0, BOTH(BMI), VEX_W_MEM | (fl))

/* KAND and its kind but KUNPCK; KMOV; KORTEST, KTEST. */
#define OPMASK_ROWS(m) \
	[0x41 ... 0x42] = OPMASK_3, [0x44] = OPMASK_2(0), [0x45 ... 0x47] = OPMASK_3, \
	[0x4a] = OPMASK_3, [0x90] = OPMASK_MEM('k', m, 0), \
	[0x91] = OPMASK_MEM(0, m, VEX_TO_RM), \
	[0x92] = OPMASK('k', 'g', 0, W0L0, 0), [0x93] = OPMASK('g', 'k', 0, W0L0, 0), \
	[0x98 ... 0x99] = OPMASK_2(VEX_FLAGS | VEX_NO_DEST)

/* What the packed and the scalar forms of floating point have in common. */
#define FP_PS_PD(pp_row) [0x51] = XX(VEX_FP), [0x58 ... 0x59] = XXX(VEX_FP), pp_row, \
	[0x5c ... 0x5f] = XXX(VEX_FP), [0xc2] = XXX(VEX_FP | VEX_IMM)
#define FP_SCALAR(m, cvt) \
	[0x10] = ROW('x', 'x', 'x', m, m, ANY, AVX, VEX_VVVV_REG), \
	[0x11] = ROW('x', 'x', 'x', m, m, ANY, AVX, VEX_VVVV_REG | VEX_TO_RM), \
	[0x2a] = ROW('x', 'g', 'x', 4, 4, ANY, AVX, VEX_FP | VEX_W_MEM), \
	[0x2c ... 0x2d] = ROW('g', 'x', 0, m, m, ANY, AVX, VEX_FP), \
	[0x51] = SCALAR(m, VEX_FP), [0x58 ... 0x59] = SCALAR(m, VEX_FP), cvt, \
	[0x5c ... 0x5f] = SCALAR(m, VEX_FP), [0xc2] = SCALAR(m, VEX_FP | VEX_IMM)
#define MOVES_PS_PD \
	[0x10] = XX(0), [0x11] = XX(VEX_TO_RM), [0x13] = STORE(8, 0, L0, 0), \
	[0x14 ... 0x15] = XXX(0), [0x17] = STORE(8, 0, L0, 0), [0x28] = XX(VEX_ALIGNED), \
	[0x29] = XX(VEX_ALIGNED | VEX_TO_RM), [0x2b] = STORE(16, 32, ANY, VEX_ALIGNED), \
	[0x50] = ROW('g', 'x', 0, 0, 0, ANY, AVX, 0), [0x54 ... 0x57] = XXX(0), \
	[0xc6] = XXX(VEX_IMM)
#define COMPARE(m) \
	[0x2e ... 0x2f] = ROW('x', 'x', 0, m, m, ANY, AVX, VEX_FP | VEX_FLAGS | VEX_NO_DEST)

const struct vex_row vex_table[3][4][256] = {
	{
		[PP_NP] = {
			MOVES_PS_PD, COMPARE(4), FP_PS_PD([0x5a] = WIDEN(8, AVX, VEX_FP)),
			[0x12] = ROW('x', 'x', 'x', 8, 0, L0, AVX, 0),
			[0x16] = ROW('x', 'x', 'x', 8, 0, L0, AVX, 0),
			OPMASK_ROWS(2), [0x4b] = OPMASK_3,
			[0x52 ... 0x53] = XX(0), [0x5b] = XX(VEX_FP),
			[0x77] = ROW(0, 0, 0, 0, 0, ANY, AVX, 0), /* VZEROUPPER, VZEROALL */
			[0xae] = GROUP(0x0c, 0, 0, 4, L0, AVX, 0), /* VLDMXCSR, VSTMXCSR */
		},
		[PP_66] = {
			MOVES_PS_PD, COMPARE(8), FP_PS_PD([0x5a] = XX(VEX_FP)),
			[0x12] = ROW('x', 0, 'x', 8, 0, L0, AVX, 0),
			OPMASK_ROWS(1), [0x4b] = OPMASK('k', 'k', 'k', W0L1, 0),
			[0x16] = ROW('x', 0, 'x', 8, 0, L0, AVX, 0), [0x5b] = XX(VEX_FP),
			[0x60 ... 0x6d] = INT_XXX(0),
			[0x6e] = ROW('x', 'g', 0, 4, 0, L0, AVX, VEX_W_MEM),
			[0x6f] = XX(VEX_ALIGNED), [0x70] = INT_XX(VEX_IMM),
			[0x71 ... 0x72] = SHIFT_IMM(0x54), [0x73] = SHIFT_IMM(0xcc),
			[0x74 ... 0x76] = INT_XXX(0), [0x7c ... 0x7d] = XXX(VEX_FP),
			[0x7e] = ROW('x', 'g', 0, 4, 0, L0, AVX, VEX_W_MEM | VEX_TO_RM),
			[0x7f] = XX(VEX_ALIGNED | VEX_TO_RM),
			[0xc4] = ROW('x', 'g', 'x', 2, 0, L0, AVX, VEX_IMM),
			[0xc5] = ROW('g', 'x', 0, 0, 0, L0, AVX, VEX_IMM),
			[0xd0] = XXX(VEX_FP), [0xd1 ... 0xd3] = SHIFT, [0xd4 ... 0xd5] = INT_XXX(0),
			[0xd6] = ROW('x', 'x', 0, 8, 0, L0, AVX, VEX_TO_RM),
			[0xd7] = ROW('g', 'x', 0, 0, 0, ANY, INT, 0),
			[0xd8 ... 0xe0] = INT_XXX(0), [0xe1 ... 0xe2] = SHIFT,
			[0xe3 ... 0xe5] = INT_XXX(0), [0xe6] = XX(VEX_FP),
			[0xe7] = STORE(16, 32, ANY, VEX_ALIGNED), [0xe8 ... 0xef] = INT_XXX(0),
			[0xf1 ... 0xf3] = SHIFT, [0xf4 ... 0xf6] = INT_XXX(0),
			[0xf7] = ROW('x', 'x', 0, 0, 0, L0, AVX, VEX_NO_DEST | VEX_IMPLICIT),
			[0xf8 ... 0xfe] = INT_XXX(0),
		},
		[PP_F3] = {
			FP_SCALAR(4, [0x5a] = SCALAR(4, VEX_FP)), [0x12] = XX(0), [0x16] = XX(0),
			[0x52 ... 0x53] = SCALAR(4, 0), [0x5b] = XX(VEX_FP), [0x6f] = XX(0),
			[0x70] = INT_XX(VEX_IMM), [0x7e] = XMM_X(8, AVX), [0x7f] = XX(VEX_TO_RM),
			[0xe6] = WIDEN(8, AVX, 0),
		},
		[PP_F2] = {
			FP_SCALAR(8, [0x5a] = SCALAR(8, VEX_FP)),
			[0x12] = ROW('x', 'x', 0, 8, 32, ANY, AVX, 0), [0x70] = INT_XX(VEX_IMM),
			[0x7c ... 0x7d] = XXX(VEX_FP),
			[0x92] = OPMASK('k', 'g', 0, L0, 0), [0x93] = OPMASK('g', 'k', 0, L0, 0),
			[0xd0] = XXX(VEX_FP), [0xe6] = XX(VEX_FP),
			[0xf0] = ROW('x', 0, 0, 16, 32, ANY, AVX, 0),
		},
	},
	{
		[PP_NP] = {
			[0xf2] = BMI('g', 'g', VEX_FLAGS),
			[0xf3] = { 'e', 'g', 'g', {4, 4}, 0x0e, L0, BOTH(BMI),
				   VEX_W_MEM | VEX_FLAGS },
			[0xf5] = BMI('g', 'g', VEX_FLAGS), [0xf7] = BMI('g', 'g', VEX_FLAGS),
		},
		[PP_66] = {
			[0x00 ... 0x0b] = INT_XXX(0),
			[0x0c ... 0x0d] = ROW('x', 'x', 'x', 16, 32, W0, AVX, 0),
			[0x0e ... 0x0f] = ROW('x', 'x', 0, 16, 32, W0, AVX, VEX_FLAGS | VEX_NO_DEST),
			[0x13] = ROW('x', 'x', 0, 8, 16, W0, BOTH(F16C), VEX_FP),
			[0x16] = ROW('x', 'x', 'x', 0, 32, W0L1, AVX2, 0),
			[0x17] = XX(VEX_FLAGS | VEX_NO_DEST),
			[0x18] = BROADCAST(4, W0, AVX, VEX_REG_AVX2),
			[0x19] = BROADCAST(8, W0L1, AVX, VEX_REG_AVX2),
			[0x1a] = ROW('x', 0, 0, 0, 16, W0L1, AVX, 0),
			[0x1c ... 0x1e] = INT_XX(0), [0x20] = WIDEN(8, INT, 0), [0x21] = WIDEN(4, INT, 0),
			[0x22] = WIDEN(2, INT, 0), [0x23] = WIDEN(8, INT, 0), [0x24] = WIDEN(4, INT, 0),
			[0x25] = WIDEN(8, INT, 0), [0x28 ... 0x29] = INT_XXX(0),
			[0x2a] = ROW('x', 0, 0, 16, 32, ANY, INT, VEX_ALIGNED), [0x2b] = INT_XXX(0),
			[0x2c ... 0x2d] = MASKED_LOAD(W0, AVX), [0x2e ... 0x2f] = MASKED_STORE(W0, AVX),
			[0x30] = WIDEN(8, INT, 0), [0x31] = WIDEN(4, INT, 0), [0x32] = WIDEN(2, INT, 0),
			[0x33] = WIDEN(8, INT, 0), [0x34] = WIDEN(4, INT, 0), [0x35] = WIDEN(8, INT, 0),
			[0x36] = ROW('x', 'x', 'x', 0, 32, W0L1, AVX2, 0),
			[0x37 ... 0x40] = INT_XXX(0), [0x41] = XMM_X(16, AVX),
			[0x45] = ROW('x', 'x', 'x', 16, 32, ANY, AVX2, 0),
			[0x46] = ROW('x', 'x', 'x', 16, 32, W0, AVX2, 0),
			[0x47] = ROW('x', 'x', 'x', 16, 32, ANY, AVX2, 0),
			[0x50 ... 0x53] = ROW('x', 'x', 'x', 16, 32, W0, BOTH(AVX_VNNI), 0),
			[0x58] = BROADCAST(4, W0, AVX2, 0), [0x59] = BROADCAST(8, W0, AVX2, 0),
			[0x5a] = ROW('x', 0, 0, 0, 16, W0L1, AVX2, 0),
			[0x78] = BROADCAST(1, W0, AVX2, 0), [0x79] = BROADCAST(2, W0, AVX2, 0),
			[0x8c] = MASKED_LOAD(ANY, AVX2), [0x8e] = MASKED_STORE(ANY, AVX2),
			[0x90 ... 0x93] = ROW('x', 0, 'x', 4, 4, ANY, AVX2, VEX_VSIB | VEX_W_MEM),
			FMA_HALF(0x90), FMA_HALF(0xa0), FMA_HALF(0xb0),
			[0xcf] = ROW('x', 'x', 'x', 16, 32, W0, BOTH(GFNI), 0),
			[0xdb] = XMM_X(16, AES),
			[0xdc ... 0xdf] = ROW('x', 'x', 'x', 16, 32, ANY, BY_L(AES, VAES), 0),
			[0xf7] = BMI('g', 'g', 0),
		},
		[PP_F3] = { [0xf5] = BMI('g', 'g', 0), [0xf7] = BMI('g', 'g', 0) },
		[PP_F2] = {
			[0xf5] = BMI('g', 'g', 0), [0xf6] = BMI('g', 'g', 0), [0xf7] = BMI('g', 'g', 0),
		},
	},
	{
		[PP_66] = {
			[0x00 ... 0x01] = ROW('x', 'x', 0, 0, 32, W1L1, AVX2, VEX_IMM),
			[0x02] = ROW('x', 'x', 'x', 16, 32, W0, AVX2, VEX_IMM),
			[0x04 ... 0x05] = ROW('x', 'x', 0, 16, 32, W0, AVX, VEX_IMM),
			[0x06] = ROW('x', 'x', 'x', 0, 32, W0L1, AVX, VEX_IMM),
			[0x08 ... 0x09] = XX(VEX_FP | VEX_IMM), [0x0a] = SCALAR(4, VEX_FP | VEX_IMM),
			[0x0b] = SCALAR(8, VEX_FP | VEX_IMM), [0x0c ... 0x0d] = XXX(VEX_IMM),
			[0x0e ... 0x0f] = INT_XXX(VEX_IMM),
			[0x14] = ROW('x', 'g', 0, 1, 0, L0, AVX, VEX_IMM | VEX_TO_RM),
			[0x15] = ROW('x', 'g', 0, 2, 0, L0, AVX, VEX_IMM | VEX_TO_RM),
			[0x16] = ROW('x', 'g', 0, 4, 0, L0, AVX, VEX_IMM | VEX_TO_RM | VEX_W_MEM),
			[0x17] = ROW('x', 'g', 0, 4, 0, L0, AVX, VEX_IMM | VEX_TO_RM),
			[0x18] = ROW('x', 'x', 'x', 0, 16, W0L1, AVX, VEX_IMM | VEX_XMM_RM),
			[0x19] = ROW('x', 'x', 0, 0, 16, W0L1, AVX, VEX_IMM | VEX_TO_RM | VEX_XMM_RM),
			[0x1d] = ROW('x', 'x', 0, 8, 16, W0, BOTH(F16C),
				     VEX_FP | VEX_IMM | VEX_TO_RM),
			[0x20] = ROW('x', 'g', 'x', 1, 0, L0, AVX, VEX_IMM),
			[0x21] = ROW('x', 'x', 'x', 4, 0, L0, AVX, VEX_IMM),
			[0x22] = ROW('x', 'g', 'x', 4, 0, L0, AVX, VEX_IMM | VEX_W_MEM),
			[0x30 ... 0x33] = OPMASK_2(VEX_IMM), /* KSHIFTL, KSHIFTR */
			[0x38] = ROW('x', 'x', 'x', 0, 16, W0L1, AVX2, VEX_IMM | VEX_XMM_RM),
			[0x39] = ROW('x', 'x', 0, 0, 16, W0L1, AVX2, VEX_IMM | VEX_TO_RM | VEX_XMM_RM),
			[0x40] = XXX(VEX_FP | VEX_IMM),
			[0x41] = ROW('x', 'x', 'x', 16, 0, L0, AVX, VEX_FP | VEX_IMM),
			[0x42] = INT_XXX(VEX_IMM),
			[0x44] = ROW('x', 'x', 'x', 16, 32, ANY, BY_L(PCLMULQDQ, VPCLMULQDQ), VEX_IMM),
			[0x46] = ROW('x', 'x', 'x', 0, 32, W0L1, AVX2, VEX_IMM),
			[0x4a ... 0x4b] = ROW('x', 'x', 'x', 16, 32, W0, AVX, VEX_IS4),
			[0x4c] = ROW('x', 'x', 'x', 16, 32, W0, INT, VEX_IS4),
			[0x60] = ROW('x', 'x', 0, 16, 0, L0, AVX, VEX_IMM | VEX_STR | VEX_STR_MASK),
			[0x61] = ROW('x', 'x', 0, 16, 0, L0, AVX, VEX_IMM | VEX_STR),
			[0x62] = ROW('x', 'x', 0, 16, 0, L0, AVX, VEX_IMM | VEX_STR | VEX_STR_MASK),
			[0x63] = ROW('x', 'x', 0, 16, 0, L0, AVX, VEX_IMM | VEX_STR),
			[0xce ... 0xcf] = ROW('x', 'x', 'x', 16, 32, W1, BOTH(GFNI), VEX_IMM),
			[0xdf] = ROW('x', 'x', 0, 16, 0, L0, BOTH(AES), VEX_IMM),
		},
		[PP_F2] = { [0xf0] = BMI('g', 0, VEX_IMM) },
	},
};
/* clang-format on */
