/* SPDX-License-Identifier: Apache-2.0 */
/* The opcode tables. A row left out is an opcode that does not exist. */
#include "decode/table.h"

/* clang-format off */
#define PLAIN {0, IMM_NONE, ANY, ANY}
#define PLAIN_I64 {ROW_I64, IMM_NONE, ANY, ANY}
#define PLAIN_D64 {ROW_D64, IMM_NONE, ANY, ANY}
#define WITH_IMM(f, i) {f, i, ANY, ANY}
#define M(f) {ROW_MODRM | (f), IMM_NONE, ANY, ANY}
#define M_IMM(f, i) {ROW_MODRM | (f), i, ANY, ANY}
#define M_MEM(f) {ROW_MODRM | (f), IMM_NONE, ANY, 0}
#define M_GROUP(g, f, i) {ROW_MODRM | ROW_GROUP | (f), i, ANY, ANY, g}
#define SSE(p) {ROW_MODRM, IMM_NONE, p, p}
#define SSE_MR(m, r) {ROW_MODRM, IMM_NONE, m, r}
#define SSE_IMM(p) {ROW_MODRM, IMM_8U, p, p}
#define ALU(base) \
	[base] = M(ROW_LOCK), [(base) + 1] = M(ROW_LOCK), [(base) + 2] = M(0), [(base) + 3] = M(0), \
	[(base) + 4] = WITH_IMM(0, IMM_8), [(base) + 5] = WITH_IMM(0, IMM_Z)

const struct opcode_row opcode_table[4][256] = {
	{
		ALU(0x00), [0x06 ... 0x07] = PLAIN_I64,
		ALU(0x08), [0x0e] = PLAIN_I64,
		ALU(0x10), [0x16 ... 0x17] = PLAIN_I64,
		ALU(0x18), [0x1e ... 0x1f] = PLAIN_I64,
		ALU(0x20), [0x27] = PLAIN_I64,
		ALU(0x28), [0x2f] = PLAIN_I64,
		ALU(0x30), [0x37] = PLAIN_I64,
		[0x38 ... 0x3b] = M(0), [0x3c] = WITH_IMM(0, IMM_8), [0x3d] = WITH_IMM(0, IMM_Z),
		[0x3f] = PLAIN_I64,
		[0x40 ... 0x4f] = PLAIN_I64, /* REX in 64-bit mode: taken before */
		[0x50 ... 0x5f] = PLAIN_D64,
		[0x60 ... 0x61] = PLAIN_I64,
		[0x62] = M_MEM(ROW_I64), /* BOUND */
		[0x63] = M(0), /* ARPL, MOVSXD */
		[0x68] = WITH_IMM(ROW_D64, IMM_Z), [0x69] = M_IMM(0, IMM_Z),
		[0x6a] = WITH_IMM(ROW_D64, IMM_8), [0x6b] = M_IMM(0, IMM_8),
		[0x6c ... 0x6f] = PLAIN,
		[0x70 ... 0x7f] = WITH_IMM(ROW_F64, IMM_REL8),
		[0x80] = M_GROUP(GROUP_ALU, 0, IMM_8), [0x81] = M_GROUP(GROUP_ALU, 0, IMM_Z),
		[0x82] = M_GROUP(GROUP_ALU, ROW_I64, IMM_8), [0x83] = M_GROUP(GROUP_ALU, 0, IMM_8),
		[0x84 ... 0x85] = M(0), [0x86 ... 0x87] = M(ROW_LOCK), [0x88 ... 0x8b] = M(0),
		[0x8c] = M_GROUP(GROUP_SREG_FROM, 0, IMM_NONE), [0x8d] = M_MEM(0),
		[0x8e] = M_GROUP(GROUP_SREG_TO, 0, IMM_NONE),
		[0x8f] = M_GROUP(GROUP_POP, ROW_D64, IMM_NONE),
		[0x90 ... 0x99] = PLAIN, [0x9a] = WITH_IMM(ROW_I64, IMM_FAR), [0x9b] = PLAIN,
		[0x9c ... 0x9d] = PLAIN_D64, [0x9e ... 0x9f] = PLAIN,
		[0xa0 ... 0xa3] = WITH_IMM(0, IMM_MOFFS), [0xa4 ... 0xa7] = PLAIN,
		[0xa8] = WITH_IMM(0, IMM_8), [0xa9] = WITH_IMM(0, IMM_Z), [0xaa ... 0xaf] = PLAIN,
		[0xb0 ... 0xb7] = WITH_IMM(0, IMM_8), [0xb8 ... 0xbf] = WITH_IMM(0, IMM_V),
		[0xc0 ... 0xc1] = M_GROUP(GROUP_SHIFT, 0, IMM_8U),
		[0xc2] = WITH_IMM(ROW_F64, IMM_16), [0xc3] = WITH_IMM(ROW_F64, IMM_NONE),
		[0xc4 ... 0xc5] = M_MEM(ROW_I64), /* LES, LDS */
		[0xc6] = M_GROUP(GROUP_MOV, 0, IMM_8), [0xc7] = M_GROUP(GROUP_MOV, 0, IMM_Z),
		[0xc8] = WITH_IMM(ROW_D64, IMM_ENTER), [0xc9] = PLAIN_D64,
		[0xca] = WITH_IMM(0, IMM_16), [0xcb ... 0xcc] = PLAIN, [0xcd] = WITH_IMM(0, IMM_8U),
		[0xce] = PLAIN_I64, [0xcf] = PLAIN,
		[0xd0 ... 0xd3] = M_GROUP(GROUP_SHIFT, 0, IMM_NONE),
		[0xd4 ... 0xd5] = WITH_IMM(ROW_I64, IMM_8U), [0xd6] = PLAIN_I64, [0xd7] = PLAIN,
		[0xd8 ... 0xdf] = M(ROW_ODD), /* x87: see x87_reg */
		[0xe0 ... 0xe3] = WITH_IMM(ROW_F64, IMM_REL8), [0xe4 ... 0xe7] = WITH_IMM(0, IMM_8U),
		[0xe8 ... 0xe9] = WITH_IMM(ROW_F64, IMM_RELZ), [0xea] = WITH_IMM(ROW_I64, IMM_FAR),
		[0xeb] = WITH_IMM(ROW_F64, IMM_REL8), [0xec ... 0xef] = PLAIN,
		[0xf1] = PLAIN, [0xf4 ... 0xf5] = PLAIN,
		[0xf6] = M_GROUP(GROUP_3, 0, IMM_TEST_B), [0xf7] = M_GROUP(GROUP_3, 0, IMM_TEST_Z),
		[0xf8 ... 0xfd] = PLAIN,
		[0xfe] = M_GROUP(GROUP_4, 0, IMM_NONE), [0xff] = M_GROUP(GROUP_5, 0, IMM_NONE),
	},
	{
		[0x00] = M_GROUP(GROUP_6, 0, IMM_NONE), [0x01] = M_GROUP(GROUP_7, ROW_ODD, IMM_NONE),
		[0x02 ... 0x03] = M(0), /* LAR, LSL */
		[0x05 ... 0x09] = PLAIN, [0x0b] = PLAIN,
		[0x0d] = M_MEM(0), /* PREFETCHW */
		[0x10 ... 0x11] = SSE(ANY), [0x12] = SSE_MR(ANY, NP | PF3 | PF2),
		[0x13] = SSE_MR(NP | P66, 0), [0x14 ... 0x15] = SSE(NP | P66),
		[0x16] = SSE_MR(NP | P66 | PF3, NP | PF3), [0x17] = SSE_MR(NP | P66, 0),
		[0x18 ... 0x1f] = M(0), /* PREFETCHh, NOP and hints */
		[0x20] = M_GROUP(GROUP_CR, ROW_CR, IMM_NONE), [0x21] = M(ROW_CR),
		[0x22] = M_GROUP(GROUP_CR, ROW_CR, IMM_NONE), [0x23] = M(ROW_CR),
		[0x28 ... 0x29] = SSE(NP | P66), [0x2a] = SSE(ANY), [0x2b] = SSE_MR(ANY, 0),
		[0x2c ... 0x2d] = SSE(ANY), [0x2e ... 0x2f] = SSE(NP | P66),
		[0x30 ... 0x35] = PLAIN,
		[0x40 ... 0x4f] = M(0), /* CMOVcc */
		[0x50] = SSE_MR(0, NP | P66), [0x51] = SSE(ANY), [0x52 ... 0x53] = SSE(NP | PF3),
		[0x54 ... 0x57] = SSE(NP | P66), [0x58 ... 0x5a] = SSE(ANY),
		[0x5b] = SSE(NP | P66 | PF3), [0x5c ... 0x5f] = SSE(ANY),
		[0x60 ... 0x6b] = SSE(NP | P66), [0x6c ... 0x6d] = SSE(P66), [0x6e] = SSE(NP | P66),
		[0x6f] = SSE(NP | P66 | PF3), [0x70] = SSE_IMM(ANY),
		[0x71 ... 0x72] = M_GROUP(GROUP_12, 0, IMM_8U), [0x73] = M_GROUP(GROUP_14, 0, IMM_8U),
		[0x74 ... 0x76] = SSE(NP | P66), [0x77] = {0, IMM_NONE, NP, NP},
		[0x78] = {ROW_MODRM | ROW_ODD, IMM_8_8, 0, P66 | PF2}, [0x79] = SSE_MR(0, P66 | PF2),
		[0x7c ... 0x7d] = SSE(P66 | PF2), [0x7e ... 0x7f] = SSE(NP | P66 | PF3),
		[0x80 ... 0x8f] = WITH_IMM(ROW_F64, IMM_RELZ),
		[0x90 ... 0x9f] = M(0), /* SETcc */
		[0xa0 ... 0xa1] = PLAIN_D64, [0xa2] = PLAIN, [0xa3] = M(0), [0xa4] = M_IMM(0, IMM_8U),
		[0xa5] = M(0), [0xa8 ... 0xa9] = PLAIN_D64, [0xaa] = PLAIN, [0xab] = M(ROW_LOCK),
		[0xac] = M_IMM(0, IMM_8U), [0xad] = M(0), [0xae] = M_GROUP(GROUP_15, ROW_ODD, IMM_NONE),
		[0xaf] = M(0), [0xb0 ... 0xb1] = M(ROW_LOCK), [0xb2] = M_MEM(0), [0xb3] = M(ROW_LOCK),
		[0xb4 ... 0xb5] = M_MEM(0), [0xb6 ... 0xb7] = M(0), [0xb8] = SSE(PF3),
		[0xba] = M_GROUP(GROUP_8, 0, IMM_8U), [0xbb] = M(ROW_LOCK), [0xbc ... 0xbf] = M(0),
		[0xc0 ... 0xc1] = M(ROW_LOCK), [0xc2] = SSE_IMM(ANY), [0xc3] = SSE_MR(NP, 0),
		[0xc4] = SSE_IMM(NP | P66), [0xc5] = {ROW_MODRM, IMM_8U, 0, NP | P66},
		[0xc6] = SSE_IMM(NP | P66), [0xc7] = M_GROUP(GROUP_9, 0, IMM_NONE),
		[0xc8 ... 0xcf] = PLAIN, /* BSWAP */
		[0xd0] = SSE(P66 | PF2), [0xd1 ... 0xd5] = SSE(NP | P66),
		[0xd6] = SSE_MR(P66, P66 | PF3 | PF2), [0xd7] = SSE_MR(0, NP | P66),
		[0xd8 ... 0xe5] = SSE(NP | P66), [0xe6] = SSE(P66 | PF3 | PF2),
		[0xe7] = SSE_MR(NP | P66, 0), [0xe8 ... 0xef] = SSE(NP | P66), [0xf0] = SSE_MR(PF2, 0),
		[0xf1 ... 0xf6] = SSE(NP | P66), [0xf7] = SSE_MR(0, NP | P66),
		[0xf8 ... 0xfe] = SSE(NP | P66),
	},
	{
		[0x00 ... 0x0b] = SSE(NP | P66), [0x10] = SSE(P66), [0x14 ... 0x15] = SSE(P66),
		[0x17] = SSE(P66), [0x1c ... 0x1e] = SSE(NP | P66), [0x20 ... 0x25] = SSE(P66),
		[0x28 ... 0x29] = SSE(P66), [0x2a] = SSE_MR(P66, 0), [0x2b] = SSE(P66),
		[0x30 ... 0x35] = SSE(P66), [0x37 ... 0x41] = SSE(P66),
		[0x82] = SSE_MR(P66, 0), /* INVPCID */
		[0xc8 ... 0xcd] = SSE(NP), [0xcf] = SSE(P66), [0xdb ... 0xdf] = SSE(P66),
		[0xf0 ... 0xf1] = SSE_MR(NP | P66 | PF2, PF2), [0xf6] = SSE(P66 | PF3),
		[0xf8] = SSE_MR(P66, 0), [0xf9] = SSE_MR(NP, 0),
	},
	{
		[0x08 ... 0x0e] = SSE_IMM(P66), [0x0f] = SSE_IMM(NP | P66),
		[0x14 ... 0x17] = SSE_IMM(P66), [0x20 ... 0x22] = SSE_IMM(P66),
		[0x40 ... 0x42] = SSE_IMM(P66), [0x44] = SSE_IMM(P66), [0x60 ... 0x63] = SSE_IMM(P66),
		[0xcc] = SSE_IMM(NP), [0xce ... 0xcf] = SSE_IMM(P66), [0xdf] = SSE_IMM(P66),
	},
};

#define ALL {ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY}

const struct group_row group_table[N_GROUP] = {
	[GROUP_ALU] = {ALL, ALL, .lock = 0x7f},
	[GROUP_POP] = {{ANY}, {ANY}},
	[GROUP_SHIFT] = {ALL, ALL},
	[GROUP_3] = {ALL, ALL, .lock = 0x0c},
	[GROUP_4] = {{ANY, ANY}, {ANY, ANY}, .lock = 0x03},
	[GROUP_5] = {{ANY, ANY, ANY, ANY, ANY, ANY, ANY}, {ANY, ANY, ANY, 0, ANY, 0, ANY},
		     .lock = 0x03, .f64 = 0x14, .d64 = 0x40},
	[GROUP_6] = {{ANY, ANY, ANY, ANY, ANY, ANY}, {ANY, ANY, ANY, ANY, ANY, ANY}},
	[GROUP_7] = {{ANY, ANY, ANY, ANY, ANY, 0, ANY, ANY}, ALL}, /* 5: RSTORSSP, not modelled */
	[GROUP_8] = {{0, 0, 0, 0, ANY, ANY, ANY, ANY}, {0, 0, 0, 0, ANY, ANY, ANY, ANY},
		     .lock = 0xe0},
	/* CMPXCHG8B/16B, XRSTORS, XSAVEC, XSAVES; RDRAND, RDSEED, RDPID */
	[GROUP_9] = {{0, ANY, 0, NP, NP, NP, 0, 0}, {0, 0, 0, 0, 0, 0, NP | P66, NP | P66 | PF3},
		     .lock = 0x02},
	[GROUP_MOV] = {{ANY}, {ANY}},
	[GROUP_12] = {{0}, {0, 0, NP | P66, 0, NP | P66, 0, NP | P66, 0}},
	[GROUP_14] = {{0}, {0, 0, NP | P66, P66, 0, 0, NP | P66, P66}},
	/* FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, XSAVE, XRSTOR, XSAVEOPT/CLWB, CLFLUSH(OPT);
	 * RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE, fences, PCOMMIT */
	[GROUP_15] = {{NP, NP, NP, NP, NP, NP, NP | P66, NP | P66},
		      {PF3, PF3, PF3, PF3, 0, NP, NP, NP | P66}},
	[GROUP_SREG_TO] = {{ANY, 0, ANY, ANY, ANY, ANY}, {ANY, 0, ANY, ANY, ANY, ANY}},
	[GROUP_SREG_FROM] = {{ANY, ANY, ANY, ANY, ANY, ANY}, {ANY, ANY, ANY, ANY, ANY, ANY}},
	[GROUP_CR] = {{ANY, 0, ANY, ANY, ANY}, {ANY, 0, ANY, ANY, ANY}},
};

const uint64_t x87_reg[8] = {
	0xffffffffffffffff, 0xffff7f33ff01ffff, 0x00000200ffffffff, 0x00ffff1fffffffff,
	0xffffffffffffffff, 0x0000ffffffffffff, 0xffffffff02ffffff, 0x00ffff01ffffffff,
};
const uint8_t x87_mem[8] = {0xff, 0xfd, 0xff, 0xaf, 0xff, 0xdf, 0xff, 0xff};

const uint8_t group_7_reg[64] = {
	[0x01] = NP, /* VMCALL: #UD by its handler */
	[0x08 ... 0x09] = NP, [0x0a ... 0x0b] = NP, /* MONITOR, MWAIT, CLAC, STAC */
	[0x10 ... 0x11] = NP, /* XGETBV, XSETBV */
	[0x18 ... 0x1f] = ANY, /* VMRUN .. INVLPGA; VMMCALL is D9 */
	[0x20 ... 0x27] = ANY, /* SMSW */
	[0x2e ... 0x2f] = NP, /* RDPKRU, WRPKRU */
	[0x30 ... 0x37] = ANY, /* LMSW */
	[0x38 ... 0x39] = ANY, [0x3a ... 0x3b] = NP, /* SWAPGS, RDTSCP, MONITORX, MWAITX */
	[0x3c] = NP | P66, [0x3d] = NP, /* CLZERO, RDPRU */
};
/* clang-format on */
