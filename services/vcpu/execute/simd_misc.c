/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The family's odd ones: EMMS, MASKMOVQ, MASKMOVDQU, fences, prefetches, cache line flushes,
 * RDRAND and RDSEED. Intel SDM volume 2.
 */
#include <cpuid.h>
#include <sys/random.h>

#include "execute/simd.h"
#include "execute/simd_form.h"
#include "execute/thunk.h"

static const struct insn *emms(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_mmx(v);
	__asm__ volatile("emms");
	NEXT(v, i);
}

/* -- masked stores to seg:rDI -- */

void simd_store_masked(struct vcpu *v, const struct insn *i, const uint8_t *data,
		       const uint8_t *mask, unsigned n)
{
	uint64_t off = v->gpr[RDI], lin;

	off = i->addrsize == 8 ? off : i->addrsize == 4 ? (uint32_t)off : (uint16_t)off;
	lin = seg_linear(v, i->seg, off, n, MMU_W, i->flags & INSN_SEG_CHECK);
	mmu_probe(v, lin, n, MMU_W);
	for (unsigned k = 0; k < n; k++) {
		if (mask[k] & 0x80) {
			mmu_write8(v, lin + k, data[k]);
		}
	}
}

static const struct insn *maskmovdqu(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_sse(v);
	simd_store_masked(v, i, v->fx.xmm[i->reg], v->fx.xmm[i->rm], 16);
	NEXT(v, i);
}

/* The thunk is a MOVQ, which makes the x87 state an MMX one as MASKMOVQ does, faulting or not. */
static SIMD_APART void do_maskmovq(struct vcpu *v, const struct insn *i)
{
	uint8_t data[8], mask[8], bounce[8];
	unsigned top;

	v->insn = i;
	simd_check_mmx(v);
	simd_store_x87(v);
	top = v->fx.fsw >> 11;
	memcpy(data, v->fx.st[((i->modrm >> 3 & 7) - top) & 7], 8);
	memcpy(mask, v->fx.st[((i->modrm & 7) - top) & 7], 8);
	((thunk_fn *)i->aux)(bounce, NULL, v);
	simd_store_masked(v, i, data, mask, 8);
}

static const struct insn *maskmovq(struct vcpu *v, const struct insn *i)
{
	do_maskmovq(v, i);
	NEXT(v, i);
}

static bool bind_maskmov(struct insn *i)
{
	unsigned mm = i->modrm >> 3 & 7;
	struct thunk_buf t = {0};

	if (simd_prefix(i) == PFX_66) {
		i->fn = maskmovdqu;
		return true;
	}
	THUNK_CODE(&t, "\x0f\x7f"); /* movq %mmN, (%rdi) */
	thunk_byte(&t, (uint8_t)(mm << 3 | RDI));
	thunk_byte(&t, 0xc3);
	i->aux = (void *)thunk_get(&t);
	i->fn = maskmovq;
	return i->aux;
}

/* -- hints and fences -- */

static const struct insn *hint(struct vcpu *v, const struct insn *i)
{
	NEXT(v, i);
}

static const struct insn *fence(struct vcpu *v, const struct insn *i)
{
	__asm__ volatile("mfence" : : : "memory");
	NEXT(v, i);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: fault as a one-byte load does; caches are the host's business. */
static const struct insn *flush_line(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	mmu_probe(v, ea_linear(v, i, 1, MMU_R), 1, MMU_R);
	NEXT(v, i);
}

/* -- random numbers -- */

static bool host_has_rdrand(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & bit_RDRND;
}

static SIMD_APART bool random64(uint64_t *val)
{
	static int has = -1;
	uint8_t ok = 0;

	if (has < 0) {
		has = host_has_rdrand();
	}
	for (unsigned tries = 0; has && tries < 10 && !ok; tries++) {
		__asm__ volatile("rdrand %0; setc %1" : "=r"(*val), "=qm"(ok) : : "cc");
	}
	return ok || getrandom(val, sizeof(*val), GRND_NONBLOCK) == sizeof(*val);
}

/* RDRAND and RDSEED: CF says whether there was a number; the other arithmetic flags are 0. */
static SIMD_APART void do_rdrand(struct vcpu *v, const struct insn *i)
{
	uint64_t val = 0, *reg = &v->gpr[i->rm];
	bool ok = random64(&val);

	if (!ok) {
		val = 0;
	}
	if (i->opsize == 2) {
		*reg = (*reg & ~(uint64_t)0xffff) | (uint16_t)val;
	} else {
		*reg = i->opsize == 8 ? val : (uint32_t)val;
	}
	v->aflags = (uint16_t)(0x200 | ok << 8);
}

static const struct insn *rdrand(struct vcpu *v, const struct insn *i)
{
	do_rdrand(v, i);
	NEXT(v, i);
}

/* -- binding -- */

static insn_fn *choose_ae(const struct insn *i, enum simd_prefix pfx)
{
	unsigned reg = i->modrm >> 3 & 7;

	if (i->mod == 3) {
		return pfx == PFX_NP && reg >= 5 ? fence : NULL;
	}
	if (reg == 7 || (reg == 6 && pfx == PFX_66)) {
		return pfx == PFX_NP || pfx == PFX_66 ? flush_line : NULL;
	}
	return NULL;
}

bool simd_bind_misc(struct vcpu *v, struct insn *i)
{
	enum simd_prefix pfx = simd_prefix(i);
	unsigned reg = i->modrm >> 3 & 7;
	insn_fn *fn = NULL;

	if (i->map != MAP_0F) {
		return false;
	}
	switch (i->opcode) {
	case 0x0d: /* PREFETCH, PREFETCHW */
	case 0x18: /* PREFETCHh */ fn = i->mod != 3 ? hint : NULL; break;
	case 0x77: fn = pfx == PFX_NP ? emms : NULL; break;
	case 0xae: fn = choose_ae(i, pfx); break;
	case 0xc7:
		fn = i->mod == 3 && reg >= 6 && (pfx == PFX_NP || pfx == PFX_66) ? rdrand : NULL;
		break;
	case 0xf7: return i->mod == 3 && (pfx == PFX_NP || pfx == PFX_66) && bind_maskmov(i);
	}
	if (!fn) {
		return false;
	}
	i->fn = fn;
	return true;
}
