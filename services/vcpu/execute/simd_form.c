/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Table of the MMX and SSE instructions that run by thunk. Intel SDM volume 2, appendix A.3.
 * Not here: moves and stores with handlers of their own (simd_move.c, simd_misc.c).
 */
#include "execute/simd_form.h"

#include <pthread.h>
#include <stddef.h>

#define A   FORM_ALIGN
#define F   FORM_FP
#define AF  (FORM_ALIGN | FORM_FP)
#define I   FORM_IMM
#define AI  (FORM_ALIGN | FORM_IMM)
#define AFI (FORM_ALIGN | FORM_FP | FORM_IMM)
#define FI  (FORM_FP | FORM_IMM)
#define TO  FORM_TO_RM

/* clang-format off */
#define NP(m, op, reg, rm, mem, fl) { m, op, PFX_NP, reg, rm, mem, fl }
#define P6(m, op, reg, rm, mem, fl) { m, op, PFX_66, reg, rm, mem, fl }
#define F3(m, op, reg, rm, mem, fl) { m, op, PFX_F3, reg, rm, mem, fl }
#define F2(m, op, reg, rm, mem, fl) { m, op, PFX_F2, reg, rm, mem, fl }
/* An MMX instruction and its SSE2 (SSSE3) twin; packed single and double; all four FP types. */
#define TWIN(m, op) NP(m, op, 'm', 'm', 8, 0), P6(m, op, 'x', 'x', 16, A)
#define PS_PD(op, fl) NP(MAP_0F, op, 'x', 'x', 16, fl), P6(MAP_0F, op, 'x', 'x', 16, fl)
#define FP4(op, extra) \
	NP(MAP_0F, op, 'x', 'x', 16, AF | (extra)), P6(MAP_0F, op, 'x', 'x', 16, AF | (extra)), \
	F3(MAP_0F, op, 'x', 'x', 4, F | (extra)), F2(MAP_0F, op, 'x', 'x', 8, F | (extra))
#define SSE38(op) P6(MAP_0F38, op, 'x', 'x', 16, A)

static const struct simd_form forms[] = {
	/* Moves with arithmetic about them: register forms and merges. */
	NP(MAP_0F, 0x10, 'x', 'x', 16, 0), P6(MAP_0F, 0x10, 'x', 'x', 16, 0),
	F3(MAP_0F, 0x10, 'x', 'x', 4, 0), F2(MAP_0F, 0x10, 'x', 'x', 8, 0),
	NP(MAP_0F, 0x11, 'x', 'x', 16, TO), P6(MAP_0F, 0x11, 'x', 'x', 16, TO),
	F3(MAP_0F, 0x11, 'x', 'x', 4, TO), F2(MAP_0F, 0x11, 'x', 'x', 8, TO),
	NP(MAP_0F, 0x12, 'x', 'x', 8, 0), P6(MAP_0F, 0x12, 'x', 0, 8, 0),
	F3(MAP_0F, 0x12, 'x', 'x', 16, A), F2(MAP_0F, 0x12, 'x', 'x', 8, 0),
	NP(MAP_0F, 0x13, 'x', 0, 8, TO), P6(MAP_0F, 0x13, 'x', 0, 8, TO),
	PS_PD(0x14, A), PS_PD(0x15, A),
	NP(MAP_0F, 0x16, 'x', 'x', 8, 0), P6(MAP_0F, 0x16, 'x', 0, 8, 0),
	F3(MAP_0F, 0x16, 'x', 'x', 16, A),
	NP(MAP_0F, 0x17, 'x', 0, 8, TO), P6(MAP_0F, 0x17, 'x', 0, 8, TO),
	PS_PD(0x28, A),
	NP(MAP_0F, 0x29, 'x', 'x', 16, A | TO), P6(MAP_0F, 0x29, 'x', 'x', 16, A | TO),
	NP(MAP_0F, 0x2b, 'x', 0, 16, A | TO), P6(MAP_0F, 0x2b, 'x', 0, 16, A | TO),

	/* Conversions and comparisons. */
	NP(MAP_0F, 0x2a, 'x', 'm', 8, F | FORM_MMX_MEM_AMD), P6(MAP_0F, 0x2a, 'x', 'm', 8, F | FORM_MMX_MEM),
	F3(MAP_0F, 0x2a, 'x', 'g', 4, F | FORM_W | FORM_W_MEM),
	F2(MAP_0F, 0x2a, 'x', 'g', 4, F | FORM_W | FORM_W_MEM),
	NP(MAP_0F, 0x2c, 'm', 'x', 8, F), P6(MAP_0F, 0x2c, 'm', 'x', 16, AF),
	F3(MAP_0F, 0x2c, 'g', 'x', 4, F | FORM_W), F2(MAP_0F, 0x2c, 'g', 'x', 8, F | FORM_W),
	NP(MAP_0F, 0x2d, 'm', 'x', 8, F), P6(MAP_0F, 0x2d, 'm', 'x', 16, AF),
	F3(MAP_0F, 0x2d, 'g', 'x', 4, F | FORM_W), F2(MAP_0F, 0x2d, 'g', 'x', 8, F | FORM_W),
	NP(MAP_0F, 0x2e, 'x', 'x', 4, F | FORM_FLAGS | FORM_NO_DEST),
	P6(MAP_0F, 0x2e, 'x', 'x', 8, F | FORM_FLAGS | FORM_NO_DEST),
	NP(MAP_0F, 0x2f, 'x', 'x', 4, F | FORM_FLAGS | FORM_NO_DEST),
	P6(MAP_0F, 0x2f, 'x', 'x', 8, F | FORM_FLAGS | FORM_NO_DEST),
	NP(MAP_0F, 0x50, 'g', 'x', 0, 0), P6(MAP_0F, 0x50, 'g', 'x', 0, 0),
	NP(MAP_0F, 0x5a, 'x', 'x', 8, F), P6(MAP_0F, 0x5a, 'x', 'x', 16, AF),
	F3(MAP_0F, 0x5a, 'x', 'x', 4, F), F2(MAP_0F, 0x5a, 'x', 'x', 8, F),
	NP(MAP_0F, 0x5b, 'x', 'x', 16, AF), P6(MAP_0F, 0x5b, 'x', 'x', 16, AF),
	F3(MAP_0F, 0x5b, 'x', 'x', 16, AF),
	P6(MAP_0F, 0xe6, 'x', 'x', 16, AF), F3(MAP_0F, 0xe6, 'x', 'x', 8, 0),
	F2(MAP_0F, 0xe6, 'x', 'x', 16, AF),

	/* Floating-point arithmetic. */
	FP4(0x51, 0), NP(MAP_0F, 0x52, 'x', 'x', 16, A), F3(MAP_0F, 0x52, 'x', 'x', 4, 0),
	NP(MAP_0F, 0x53, 'x', 'x', 16, A), F3(MAP_0F, 0x53, 'x', 'x', 4, 0),
	PS_PD(0x54, A), PS_PD(0x55, A), PS_PD(0x56, A), PS_PD(0x57, A),
	FP4(0x58, 0), FP4(0x59, 0), FP4(0x5c, 0), FP4(0x5d, 0), FP4(0x5e, 0), FP4(0x5f, 0),
	P6(MAP_0F, 0x7c, 'x', 'x', 16, AF), F2(MAP_0F, 0x7c, 'x', 'x', 16, AF),
	P6(MAP_0F, 0x7d, 'x', 'x', 16, AF), F2(MAP_0F, 0x7d, 'x', 'x', 16, AF),
	FP4(0xc2, I), PS_PD(0xc6, AI),
	P6(MAP_0F, 0xd0, 'x', 'x', 16, AF), F2(MAP_0F, 0xd0, 'x', 'x', 16, AF),

	/* Packed integers. The MMX forms of the first three read 32 bits. */
	NP(MAP_0F, 0x60, 'm', 'm', 4, 0), P6(MAP_0F, 0x60, 'x', 'x', 16, A),
	NP(MAP_0F, 0x61, 'm', 'm', 4, 0), P6(MAP_0F, 0x61, 'x', 'x', 16, A),
	NP(MAP_0F, 0x62, 'm', 'm', 4, 0), P6(MAP_0F, 0x62, 'x', 'x', 16, A),
	TWIN(MAP_0F, 0x63), TWIN(MAP_0F, 0x64), TWIN(MAP_0F, 0x65), TWIN(MAP_0F, 0x66),
	TWIN(MAP_0F, 0x67), TWIN(MAP_0F, 0x68), TWIN(MAP_0F, 0x69), TWIN(MAP_0F, 0x6a),
	TWIN(MAP_0F, 0x6b), P6(MAP_0F, 0x6c, 'x', 'x', 16, A), P6(MAP_0F, 0x6d, 'x', 'x', 16, A),
	NP(MAP_0F, 0x6e, 'm', 'g', 4, FORM_W | FORM_W_MEM),
	P6(MAP_0F, 0x6e, 'x', 'g', 4, FORM_W | FORM_W_MEM),
	NP(MAP_0F, 0x6f, 'm', 'm', 8, 0), P6(MAP_0F, 0x6f, 'x', 'x', 16, A),
	F3(MAP_0F, 0x6f, 'x', 'x', 16, 0),
	NP(MAP_0F, 0x70, 'm', 'm', 8, I), P6(MAP_0F, 0x70, 'x', 'x', 16, AI),
	F3(MAP_0F, 0x70, 'x', 'x', 16, AI), F2(MAP_0F, 0x70, 'x', 'x', 16, AI),
	NP(MAP_0F, 0x71, 'e', 'm', 0x54, I), P6(MAP_0F, 0x71, 'e', 'x', 0x54, I),
	NP(MAP_0F, 0x72, 'e', 'm', 0x54, I), P6(MAP_0F, 0x72, 'e', 'x', 0x54, I),
	NP(MAP_0F, 0x73, 'e', 'm', 0x44, I), P6(MAP_0F, 0x73, 'e', 'x', 0xcc, I),
	TWIN(MAP_0F, 0x74), TWIN(MAP_0F, 0x75), TWIN(MAP_0F, 0x76),
	NP(MAP_0F, 0x7e, 'm', 'g', 4, FORM_W | FORM_W_MEM | TO),
	P6(MAP_0F, 0x7e, 'x', 'g', 4, FORM_W | FORM_W_MEM | TO),
	F3(MAP_0F, 0x7e, 'x', 'x', 8, 0),
	NP(MAP_0F, 0x7f, 'm', 'm', 8, TO), P6(MAP_0F, 0x7f, 'x', 'x', 16, A | TO),
	F3(MAP_0F, 0x7f, 'x', 'x', 16, TO),
	NP(MAP_0F, 0xc4, 'm', 'g', 2, I), P6(MAP_0F, 0xc4, 'x', 'g', 2, I),
	NP(MAP_0F, 0xc5, 'g', 'm', 0, I), P6(MAP_0F, 0xc5, 'g', 'x', 0, I),
	TWIN(MAP_0F, 0xd1), TWIN(MAP_0F, 0xd2), TWIN(MAP_0F, 0xd3), TWIN(MAP_0F, 0xd4),
	TWIN(MAP_0F, 0xd5), P6(MAP_0F, 0xd6, 'x', 'x', 8, TO),
	F3(MAP_0F, 0xd6, 'x', 'm', 0, 0), F2(MAP_0F, 0xd6, 'm', 'x', 0, 0),
	NP(MAP_0F, 0xd7, 'g', 'm', 0, 0), P6(MAP_0F, 0xd7, 'g', 'x', 0, 0),
	TWIN(MAP_0F, 0xd8), TWIN(MAP_0F, 0xd9), TWIN(MAP_0F, 0xda), TWIN(MAP_0F, 0xdb),
	TWIN(MAP_0F, 0xdc), TWIN(MAP_0F, 0xdd), TWIN(MAP_0F, 0xde), TWIN(MAP_0F, 0xdf),
	TWIN(MAP_0F, 0xe0), TWIN(MAP_0F, 0xe1), TWIN(MAP_0F, 0xe2), TWIN(MAP_0F, 0xe3),
	TWIN(MAP_0F, 0xe4), TWIN(MAP_0F, 0xe5),
	NP(MAP_0F, 0xe7, 'm', 0, 8, TO), P6(MAP_0F, 0xe7, 'x', 0, 16, A | TO),
	TWIN(MAP_0F, 0xe8), TWIN(MAP_0F, 0xe9), TWIN(MAP_0F, 0xea), TWIN(MAP_0F, 0xeb),
	TWIN(MAP_0F, 0xec), TWIN(MAP_0F, 0xed), TWIN(MAP_0F, 0xee), TWIN(MAP_0F, 0xef),
	F2(MAP_0F, 0xf0, 'x', 0, 16, 0),
	TWIN(MAP_0F, 0xf1), TWIN(MAP_0F, 0xf2), TWIN(MAP_0F, 0xf3), TWIN(MAP_0F, 0xf4),
	TWIN(MAP_0F, 0xf5), TWIN(MAP_0F, 0xf6),
	TWIN(MAP_0F, 0xf8), TWIN(MAP_0F, 0xf9), TWIN(MAP_0F, 0xfa), TWIN(MAP_0F, 0xfb),
	TWIN(MAP_0F, 0xfc), TWIN(MAP_0F, 0xfd), TWIN(MAP_0F, 0xfe),

	/* SSSE3 */
	TWIN(MAP_0F38, 0x00), TWIN(MAP_0F38, 0x01), TWIN(MAP_0F38, 0x02), TWIN(MAP_0F38, 0x03),
	TWIN(MAP_0F38, 0x04), TWIN(MAP_0F38, 0x05), TWIN(MAP_0F38, 0x06), TWIN(MAP_0F38, 0x07),
	TWIN(MAP_0F38, 0x08), TWIN(MAP_0F38, 0x09), TWIN(MAP_0F38, 0x0a), TWIN(MAP_0F38, 0x0b),
	TWIN(MAP_0F38, 0x1c), TWIN(MAP_0F38, 0x1d), TWIN(MAP_0F38, 0x1e),
	NP(MAP_0F3A, 0x0f, 'm', 'm', 8, I), P6(MAP_0F3A, 0x0f, 'x', 'x', 16, AI),

	/* SSE4.1, SSE4.2 */
	P6(MAP_0F38, 0x10, 'x', 'x', 16, A | FORM_XMM0),
	P6(MAP_0F38, 0x14, 'x', 'x', 16, A | FORM_XMM0),
	P6(MAP_0F38, 0x15, 'x', 'x', 16, A | FORM_XMM0),
	P6(MAP_0F38, 0x17, 'x', 'x', 16, A | FORM_FLAGS | FORM_NO_DEST),
	P6(MAP_0F38, 0x20, 'x', 'x', 8, 0), P6(MAP_0F38, 0x21, 'x', 'x', 4, 0),
	P6(MAP_0F38, 0x22, 'x', 'x', 2, 0), P6(MAP_0F38, 0x23, 'x', 'x', 8, 0),
	P6(MAP_0F38, 0x24, 'x', 'x', 4, 0), P6(MAP_0F38, 0x25, 'x', 'x', 8, 0),
	SSE38(0x28), SSE38(0x29), P6(MAP_0F38, 0x2a, 'x', 0, 16, A), SSE38(0x2b),
	P6(MAP_0F38, 0x30, 'x', 'x', 8, 0), P6(MAP_0F38, 0x31, 'x', 'x', 4, 0),
	P6(MAP_0F38, 0x32, 'x', 'x', 2, 0), P6(MAP_0F38, 0x33, 'x', 'x', 8, 0),
	P6(MAP_0F38, 0x34, 'x', 'x', 4, 0), P6(MAP_0F38, 0x35, 'x', 'x', 8, 0),
	SSE38(0x37), SSE38(0x38), SSE38(0x39), SSE38(0x3a), SSE38(0x3b), SSE38(0x3c),
	SSE38(0x3d), SSE38(0x3e), SSE38(0x3f), SSE38(0x40), SSE38(0x41),
	P6(MAP_0F3A, 0x08, 'x', 'x', 16, AFI), P6(MAP_0F3A, 0x09, 'x', 'x', 16, AFI),
	P6(MAP_0F3A, 0x0a, 'x', 'x', 4, FI), P6(MAP_0F3A, 0x0b, 'x', 'x', 8, FI),
	P6(MAP_0F3A, 0x0c, 'x', 'x', 16, AI), P6(MAP_0F3A, 0x0d, 'x', 'x', 16, AI),
	P6(MAP_0F3A, 0x0e, 'x', 'x', 16, AI),
	P6(MAP_0F3A, 0x14, 'x', 'g', 1, I | TO), P6(MAP_0F3A, 0x15, 'x', 'g', 2, I | TO),
	P6(MAP_0F3A, 0x16, 'x', 'g', 4, I | TO | FORM_W | FORM_W_MEM),
	P6(MAP_0F3A, 0x17, 'x', 'g', 4, I | TO),
	P6(MAP_0F3A, 0x20, 'x', 'g', 1, I), P6(MAP_0F3A, 0x21, 'x', 'x', 4, I),
	P6(MAP_0F3A, 0x22, 'x', 'g', 4, I | FORM_W | FORM_W_MEM),
	P6(MAP_0F3A, 0x40, 'x', 'x', 16, AFI), P6(MAP_0F3A, 0x41, 'x', 'x', 16, AFI),
	P6(MAP_0F3A, 0x42, 'x', 'x', 16, AI),
	P6(MAP_0F3A, 0x60, 'x', 'x', 16, I | FORM_W | FORM_STR | FORM_STR_MASK),
	P6(MAP_0F3A, 0x61, 'x', 'x', 16, I | FORM_W | FORM_STR),
	P6(MAP_0F3A, 0x62, 'x', 'x', 16, I | FORM_W | FORM_STR | FORM_STR_MASK),
	P6(MAP_0F3A, 0x63, 'x', 'x', 16, I | FORM_W | FORM_STR),

	/* AES, PCLMULQDQ, GFNI, SHA */
	SSE38(0xdb), SSE38(0xdc), SSE38(0xdd), SSE38(0xde), SSE38(0xdf),
	P6(MAP_0F3A, 0xdf, 'x', 'x', 16, AI), P6(MAP_0F3A, 0x44, 'x', 'x', 16, AI),
	SSE38(0xcf), P6(MAP_0F3A, 0xce, 'x', 'x', 16, AI), P6(MAP_0F3A, 0xcf, 'x', 'x', 16, AI),
	NP(MAP_0F38, 0xc8, 'x', 'x', 16, FORM_ALIGN_INTEL), NP(MAP_0F38, 0xc9, 'x', 'x', 16, FORM_ALIGN_INTEL),
	NP(MAP_0F38, 0xca, 'x', 'x', 16, FORM_ALIGN_INTEL), NP(MAP_0F38, 0xcb, 'x', 'x', 16, FORM_ALIGN_INTEL | FORM_XMM0),
	NP(MAP_0F38, 0xcc, 'x', 'x', 16, FORM_ALIGN_INTEL), NP(MAP_0F38, 0xcd, 'x', 'x', 16, FORM_ALIGN_INTEL),
	NP(MAP_0F3A, 0xcc, 'x', 'x', 16, I | FORM_ALIGN_INTEL),
};
/* clang-format on */

enum { N_FORMS = sizeof(forms) / sizeof(forms[0]) };

static uint16_t form_index[MAP_0F3A + 1][N_PFX][256]; /* into forms, plus 1 */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void index_forms(void)
{
	for (unsigned k = 0; k < N_FORMS; k++) {
		form_index[forms[k].map][forms[k].pfx][forms[k].op] = (uint16_t)(k + 1);
	}
}

const struct simd_form *simd_form_find(const struct insn *i)
{
	const struct simd_form *f;
	unsigned k;

	pthread_once(&once, index_forms);
	if (i->map > MAP_0F3A || i->flags & INSN_VEX) {
		return NULL;
	}
	k = form_index[i->map][simd_prefix(i)][i->opcode];
	if (!k) {
		return NULL;
	}
	f = &forms[k - 1];
	if (f->reg == 'e') {
		return i->mod == 3 && f->mem >> (i->modrm >> 3 & 7) & 1 ? f : NULL;
	}
	return i->mod == 3 ? (f->rm ? f : NULL) : (f->mem ? f : NULL);
}
