/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the cases of the encodings fuzzer: an instruction from every corner of the opcode maps,
 * registers and memory with values where instructions change their mind, addresses that mostly hit
 * the data pages and sometimes just miss them.
 */
#include "encodings.h"

#include <string.h>

#include "encodings_gen.h"
#include "decode/evex.h"
#include "decode/vex.h"
#include "execute/cpuid.h"

/* -- random numbers -- */

uint64_t fz_next(struct fz_rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint32_t fz_below(struct fz_rng *r, uint32_t n)
{
	return (uint32_t)((fz_next(r) >> 32) * n >> 32);
}

bool fz_chance(struct fz_rng *r, unsigned percent)
{
	return fz_below(r, 100) < percent;
}

/* -- instructions -- */

static unsigned put_prefixes(struct fz_rng *r, uint8_t *p, uint32_t mode)
{
	static const uint8_t mandatory[] = {0x66, 0xf2, 0xf3};
	static const uint8_t segment[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
	unsigned n = 0;

	if (fz_chance(r, 4)) {
		p[n++] = 0xf0;
	}
	if (fz_chance(r, 6)) {
		p[n++] = segment[fz_below(r, 6)];
	}
	if (fz_chance(r, mode == 64 ? 5 : 8)) {
		p[n++] = 0x67;
	}
	if (fz_chance(r, 42)) {
		p[n++] = mandatory[fz_below(r, 3)];
	}
	if (fz_chance(r, 5)) {
		p[n++] = mandatory[fz_below(r, 3)];
	}
	if (mode == 64 && fz_chance(r, 50)) {
		p[n++] = (uint8_t)(0x40 | fz_below(r, 16));
	}
	return n;
}

/* Those that VEX may follow, rarely others. */
static unsigned put_prefixes_vex(struct fz_rng *r, uint8_t *p)
{
	static const uint8_t some[] = {0x67, 0x67, 0x26, 0x2e, 0x36, 0x3e,
				       0x64, 0x65, 0x66, 0xf2, 0xf3, 0xf0};

	if (!fz_chance(r, 12)) {
		return 0;
	}
	p[0] = some[fz_below(r, fz_chance(r, 90) ? 8 : 12)];
	return 1;
}

/* VEX.map 2 or 3 on general registers: BMI1, BMI2. */
static unsigned put_vex(struct fz_rng *r, uint8_t *p)
{
	static const uint8_t ops[] = {0xf2, 0xf3, 0xf5, 0xf6, 0xf7, 0xf0};
	unsigned k = fz_below(r, 6), w = fz_below(r, 2), pp = fz_below(r, 4);
	unsigned vvvv = k == 5 ? 15 : fz_below(r, 16);

	p[0] = 0xc4;
	p[1] = (uint8_t)(fz_below(r, 8) << 5 | (k == 5 ? 3 : 2));
	p[2] = (uint8_t)(w << 7 | vvvv << 3 | (fz_chance(r, 3) ? 4 : 0) | pp);
	p[3] = ops[k];
	return 4;
}

/* A vector instruction: mostly one that exists. */
static unsigned put_vex_vector(struct fz_rng *r, uint8_t *p, uint32_t mode)
{
	unsigned map = fz_below(r, 3), pp, w = fz_below(r, 2), l = fz_below(r, 2), vvvv, n = 0;
	unsigned rxb = mode == 64 ? fz_below(r, 8) : 6 | fz_below(r, 2);
	const struct vex_row *row;
	uint8_t op;

	do {
		pp = fz_below(r, 4);
		op = (uint8_t)fz_next(r);
		row = &vex_table[map][pp][op];
	} while (!row->wl && !fz_chance(r, 1));
	if (row->wl && fz_chance(r, 95)) {
		w = row->wl & VEX_W0 ? row->wl & VEX_W1 ? w : 0 : 1;
		l = row->wl & VEX_L0 ? row->wl & VEX_L1 ? l : 0 : 1;
	}
	vvvv = row->vvvv || fz_chance(r, 3) ? fz_below(r, 16) : 15;
	if (row->flags & VEX_VVVV_REG && fz_chance(r, 60)) {
		vvvv = 15;
	}
	if (map == 0 && !w && fz_chance(r, 40)) {
		p[n++] = 0xc5;
		p[n++] = (uint8_t)((rxb & 4) << 5 | vvvv << 3 | l << 2 | pp);
	} else {
		p[n++] = 0xc4;
		p[n++] = (uint8_t)(rxb << 5 | (map + 1));
		p[n++] = (uint8_t)(w << 7 | vvvv << 3 | l << 2 | pp);
	}
	if (mode == 32) {
		p[1] |= 0xc0; /* else LES, LDS */
	}
	p[n++] = op;
	if (row->flags & VEX_VSIB && fz_chance(r, 97)) {
		p[n] = (uint8_t)((p[n] & 0xf8) | 4);
		p[n] &= (uint8_t)(p[n] >= 0xc0 ? 0x7f : 0xff);
	} else if (!row->rm && row->reg && fz_chance(r, 97)) {
		p[n] &= (uint8_t)(p[n] >= 0xc0 ? 0x7f : 0xff);
	} else if ((row->rm && !row->mem[l]) || fz_chance(r, 45)) {
		p[n] |= 0xc0;
	}
	return n;
}

/* An EVEX instruction that exists but, now and then, for its modifiers. */
static void put_evex(struct fz_rng *r, uint8_t *p, uint32_t mode)
{
	unsigned map, pp, w, len, vvvv, reg = fz_below(r, 2);
	const struct evex_row *row;
	uint8_t op;

	do {
		map = fz_below(r, 3);
		pp = fz_below(r, 4);
		w = fz_below(r, 2);
		op = (uint8_t)fz_next(r);
		row = &evex_table[map][pp][op][w];
	} while (!row->len);
	if (fz_chance(r, 1)) {
		w ^= 1;
	}
	reg = row->rm ? row->mem ? reg : 1 : 0;
	do {
		len = fz_below(r, 3);
	} while (!(row->len >> len & 1) && !fz_chance(r, 5));
	vvvv = row->vvvv && !(row->flags & EVEX_VVVV_REG && !reg) ? fz_below(r, 32) : 31;
	p[0] = 0x62;
	p[1] = (uint8_t)((mode == 64 ? fz_below(r, 16) << 4 : 0xf0) | (map + 1));
	p[2] = (uint8_t)(w << 7 | (vvvv & 15) << 3 | 4 | pp);
	p[3] = (uint8_t)(len << 5 | (mode == 64 ? vvvv >> 4 << 3 : 8));
	if (row->reg == 'k' && fz_chance(r, 97)) {
		p[1] |= 0x90; /* there are eight of them */
	}
	if (row->flags & EVEX_VSIB || (row->flags & EVEX_MASK && fz_chance(r, 65))) {
		p[3] |= (uint8_t)(1 + fz_below(r, 7));
		p[3] |= row->reg != 'k' && (reg || !(row->flags & EVEX_TO_RM)) &&
					!(row->flags & EVEX_VSIB) && fz_chance(r, 35)
				? 0x80
				: 0;
	}
	if (row->flags & (reg ? EVEX_ROUND | EVEX_SAE : EVEX_BROADCAST) ? fz_chance(r, 35)
									: fz_chance(r, 1)) {
		p[3] |= 0x10;
		p[3] |= reg ? (uint8_t)(fz_below(r, 4) << 5) : 0;
	}
	p[4] = op;
	/* What processors make of the fifth bit of a general register is not told. */
	p[1] |= row->reg == 'g' ? 0x10 : 0;
	p[1] |= row->rm == 'g' && reg ? 0x40 : 0;
	p[5] = reg ? p[5] | 0xc0 : p[5] & (p[5] >= 0xc0 ? 0x7f : 0xff);
	if (row->flags & EVEX_VSIB) {
		p[5] = (uint8_t)((p[5] & 0xf8) | 4);
	}
}

void fz_put_instruction(struct fz_rng *r, uint8_t *p, uint32_t mode)
{
	unsigned n = 0, which = fz_below(r, 100);

	for (unsigned k = 0; k < FZ_MAX_INSN + 1; k++) {
		p[k] = (uint8_t)fz_next(r);
	}
	if (which < 6) {
		n = put_vex(r, p);
		return;
	}
	if (cpuid_has(FEAT_AVX512) && fz_chance(r, 40)) {
		n = put_prefixes_vex(r, p);
		put_evex(r, p + n, mode);
		return;
	}
	if (cpuid_has(FEAT_AVX) && fz_chance(r, 35)) {
		n = put_prefixes_vex(r, p);
		put_vex_vector(r, p + n, mode);
		return;
	}
	n = put_prefixes(r, p, mode);
	if (which >= 38) {
		p[n++] = 0x0f;
		if (which >= 90) {
			p[n++] = 0x3a;
			if (fz_chance(r, 80)) {
				static const uint8_t used[] = {8,    9,	   10,	 11,   12,
							       13,   14,   15,	 0x14, 0x15,
							       0x16, 0x17, 0x20, 0x21, 0x22,
							       0x40, 0x41, 0x42, 0x44, 0x60,
							       0x61, 0x62, 0x63, 0xcc, 0xdf};

				p[n] = used[fz_below(r, sizeof(used))];
			}
		} else if (which >= 78) {
			p[n++] = 0x38;
			if (fz_chance(r, 60)) {
				p[n] &= 0x3f;
			} else if (fz_chance(r, 50)) {
				p[n] = (uint8_t)(0xc8 + fz_below(r, 24));
			}
		}
	} else if (which < 16) {
		p[n] = (uint8_t)(0xd8 + fz_below(r, 8));
	}
	n++;
	if (fz_chance(r, 45)) {
		p[n] |= 0xc0;
	}
}

/* -- values -- */

uint64_t fz_integer(struct fz_rng *r)
{
	static const uint64_t corner[] = {
		0,
		1,
		2,
		3,
		0x7f,
		0x80,
		0xff,
		0x100,
		0x7fff,
		0x8000,
		0xffff,
		0x10000,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		0x7fffffffffffffff,
		0x8000000000000000,
		0xffffffffffffffff,
		0xfffffffffffffffe,
		0xffffffff80000000,
		0xffffffffffffff80,
		0x8080808080808080,
		0x0123456789abcdef,
	};

	switch (fz_below(r, 8)) {
	case 0:
	case 1: return corner[fz_below(r, sizeof(corner) / sizeof(corner[0]))];
	case 2: return 1ull << fz_below(r, 64);
	case 3: return (1ull << fz_below(r, 64)) - 1;
	case 4: return fz_next(r) & 0xff;
	case 5: return (uint32_t)fz_next(r);
	}
	return fz_next(r) >> fz_below(r, 64);
}

static uint32_t single(struct fz_rng *r)
{
	static const uint32_t corner[] = {
		0,	    0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
		0x7fc00000, 0xffc00000, 0x7f800001, 0xffa00000, 1,	    0x80000001,
		0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000,
		0x5f000000, 0xdf000000, 0x3f000000, 0x4b000000, 0x3fc00000, 0x34000000,
	};

	switch (fz_below(r, 4)) {
	case 0:
	case 1: return corner[fz_below(r, sizeof(corner) / sizeof(corner[0]))];
	case 2: return (uint32_t)fz_next(r);
	}
	return (0x3f000000 + (fz_below(r, 0x3000000) - 0x1800000)) | fz_below(r, 2) << 31;
}

static uint64_t dbl(struct fz_rng *r)
{
	static const uint64_t corner[] = {
		0,
		0x8000000000000000,
		0x3ff0000000000000,
		0xbff0000000000000,
		0x7ff0000000000000,
		0xfff0000000000000,
		0x7ff8000000000000,
		0xfff8000000000000,
		0x7ff0000000000001,
		0xfff4000000000000,
		1,
		0x8000000000000001,
		0x000fffffffffffff,
		0x0010000000000000,
		0x7fefffffffffffff,
		0xffefffffffffffff,
		0x41e0000000000000,
		0xc1e0000000000000,
		0x43e0000000000000,
		0xc3e0000000000000,
		0x41dfffffffc00000,
		0xc1e0000000100000,
		0x3fe0000000000000,
		0x4330000000000000,
		0x36a0000000000000,
		0x47efffffe0000000,
		0x380fffffffffffff,
	};

	switch (fz_below(r, 4)) {
	case 0:
	case 1: return corner[fz_below(r, sizeof(corner) / sizeof(corner[0]))];
	case 2: return fz_next(r);
	}
	return (0x3fe0000000000000 + (fz_next(r) >> 5)) | fz_next(r) >> 63 << 63;
}

static void extended(struct fz_rng *r, uint8_t *p)
{
	static const uint16_t exps[] = {0,	1,	0x3fff, 0x3ffe, 0x4000,
					0x7fff, 0x7ffe, 0x403e, 0x401e, 0x400e,
					0x3c00, 0x43ff, 0x3f81, 0x3fbf, 0x7ffe};
	static const uint64_t mants[] = {
		0,
		1,
		0x8000000000000000,
		0xc000000000000000,
		0xffffffffffffffff,
		0x7fffffffffffffff,
		0xa000000000000000,
		0x8000000000000001,
		0x4000000000000000,
	};
	uint16_t exp =
		fz_chance(r, 60) ? exps[fz_below(r, 15)] : (uint16_t)(0x3fc0 + fz_below(r, 128));
	uint64_t mant = fz_chance(r, 60) ? mants[fz_below(r, 9)] : fz_next(r) | 1ull << 63;

	exp |= (uint16_t)(fz_below(r, 2) << 15);
	memcpy(p, &mant, 8);
	memcpy(p + 8, &exp, 2);
}

/* Fills len bytes with values of one kind, drawn anew for every 16 bytes. */
void fz_fill(struct fz_rng *r, uint8_t *p, unsigned len)
{
	for (unsigned off = 0; off < len; off += 16) {
		uint8_t v[16] = {0};
		unsigned kind = fz_below(r, 6);

		for (unsigned k = 0; k < 2; k++) {
			uint64_t q = kind == 0 ? dbl(r) : kind == 1 ? fz_integer(r) : fz_next(r);

			memcpy(v + 8 * k, &q, 8);
		}
		if (kind == 2 || kind == 3) {
			for (unsigned k = 0; k < 4; k++) {
				uint32_t d = kind == 2 ? single(r) : (uint32_t)fz_integer(r);

				memcpy(v + 4 * k, &d, 4);
			}
		} else if (kind == 4) {
			extended(r, v);
		}
		memcpy(p + off, v, len - off < 16 ? len - off : 16);
	}
}

void fz_pristine(uint8_t *data)
{
	struct fz_rng r = {0x6d6f626f};

	fz_fill(&r, data, FZ_DATA_LEN);
	/* Linux's segment for the CPU number, which the guest's GDT has not got. */
	for (unsigned k = 0; k + 1 < FZ_DATA_LEN; k++) {
		if (data[k] >= 0x78 && data[k] <= 0x7b && !data[k + 1]) {
			data[k + 1] = 0xff;
		}
	}
}

uint32_t fz_mxcsr(struct fz_rng *r)
{
	uint32_t csr = 0x1f80;

	if (fz_chance(r, 30)) {
		csr |= fz_below(r, 4) << 13;
	}
	if (fz_chance(r, 15)) {
		csr |= 0x8000;
	}
	if (fz_chance(r, 15)) {
		csr |= 0x40;
	}
	if (fz_chance(r, 20)) {
		csr &= ~(fz_below(r, 64) << 7);
	}
	return csr | (fz_chance(r, 40) ? fz_below(r, 64) : 0);
}

void fz_fx_image(struct fz_rng *r, uint8_t *fx)
{
	uint16_t fcw = 0x37f, fsw = (uint16_t)(fz_below(r, 8) << 11);
	uint32_t csr = fz_mxcsr(r);

	memset(fx, 0, FZ_FX_LEN);
	if (fz_chance(r, 35)) {
		fcw = (uint16_t)(0x7f | fz_below(r, 16) << 8);
	}
	if (fz_chance(r, 15)) {
		fcw &= (uint16_t)~fz_below(r, 64);
	}
	if (fz_chance(r, 35)) {
		fsw |= (uint16_t)(fz_next(r) & 0x477f);
	}
	memcpy(fx, &fcw, 2);
	memcpy(fx + 2, &fsw, 2);
	fx[4] = fz_chance(r, 40) ? 0xff : (uint8_t)fz_next(r);
	memcpy(fx + 24, &csr, 4);
	for (unsigned k = 0; k < 8; k++) {
		extended(r, fx + 32 + 16 * k);
	}
	fz_fill(r, fx + 160, 256);
}
