/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the generator's files share.
 */
#ifndef TESTS_FUZZ_ENCODINGS_GEN_H
#define TESTS_FUZZ_ENCODINGS_GEN_H

#include "encodings.h"

struct fz_rng {
	uint64_t s;
};

uint64_t fz_next(struct fz_rng *r);
uint32_t fz_below(struct fz_rng *r, uint32_t n);
/* True in `percent` of 100. */
bool fz_chance(struct fz_rng *r, unsigned percent);
uint64_t fz_integer(struct fz_rng *r);
/* Floating-point and integer corner values; an FXSAVE image and an MXCSR that load. */
void fz_fill(struct fz_rng *r, uint8_t *p, unsigned len);
void fz_fx_image(struct fz_rng *r, uint8_t *fx);
uint32_t fz_mxcsr(struct fz_rng *r);
/* Up to FZ_MAX_INSN + 1 bytes, an instruction in front. */
void fz_put_instruction(struct fz_rng *r, uint8_t *p, uint32_t mode);

#endif
