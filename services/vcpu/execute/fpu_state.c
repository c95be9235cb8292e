/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State images of x87 and SSE: entering and leaving the guest's state on the host, FXSAVE, FXRSTOR,
 * FNSAVE, FRSTOR, FNSTENV, FLDENV, control and status words, MXCSR. Intel SDM volume 1 8.1.10 and
 * 10.5, volume 2. The XSAVE family is in xsave.c.
 *
 * As AMD's processors do, FXSAVE and XSAVE give the last instruction's FOP, FIP and FDP while an
 * unmasked exception is pending and zeros otherwise; FNSTENV and FNSAVE always give them.
 */
#include "execute/fpu_state.h"

#include "execute/simd.h"
#include "execute/thunk.h"

struct fx_image {
	uint8_t b[512];
} __attribute__((aligned(16)));

enum { FX_X87_LEN = 160, FX_FOP = 6, FX_FIP = 8, FX_FDP = 16, FX_MXCSR = 24, FX_ST = 32 };
enum { ENV_MAX = 28, SAVE_MAX = 108, N_ST_BYTES = 80, FOP_MASK = 0x7ff };

/* -- host registers -- */

static void host_fxsave(struct fx_image *img)
{
	__asm__ volatile("fxsave64 %0" : "=m"(*img));
}

static void host_fxrstor(const struct fx_image *img)
{
	__asm__ volatile("fxrstor64 %0"
			 :
			 : "m"(*img)
			 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
			   "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static uint32_t host_mxcsr(void)
{
	uint32_t csr;

	__asm__ volatile("stmxcsr %0" : "=m"(csr));
	return csr;
}

static void set_host_mxcsr(uint32_t csr)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(csr));
}

static void sync_fcw(struct vcpu *v)
{
	__asm__ volatile("fnstcw %0" : "=m"(v->fx.fcw));
}

void simd_store_x87(struct vcpu *v)
{
	struct fx_image img;

	host_fxsave(&img);
	memcpy(&v->fx, img.b, FX_FOP);
	memcpy(v->fx.st, img.b + FX_ST, sizeof(v->fx.st));
}

void simd_load_x87(struct vcpu *v)
{
	struct fx_image img = {0};
	uint32_t csr = host_mxcsr();

	memcpy(img.b, &v->fx, FX_X87_LEN);
	memset(img.b + FX_FOP, 0, FX_MXCSR - FX_FOP);
	memcpy(img.b + FX_MXCSR, &csr, sizeof(csr));
	host_fxrstor(&img);
	sync_fcw(v);
}

uint32_t simd_mxcsr(const struct vcpu *v)
{
	return (v->fx.mxcsr & ~(uint32_t)MXCSR_FLAGS) | (host_mxcsr() & MXCSR_FLAGS);
}

void simd_set_mxcsr(struct vcpu *v, uint32_t mxcsr)
{
	v->fx.mxcsr = mxcsr;
	set_host_mxcsr(mxcsr | MXCSR_MASKS);
}

int simd_init(void)
{
	return thunk_init();
}

void simd_reset(struct vcpu *v)
{
	memset(&v->fx, 0, sizeof(v->fx));
	memset(v->ymmh, 0, sizeof(v->ymmh));
	memset(v->zmmh, 0, sizeof(v->zmmh));
	memset(v->zmm16, 0, sizeof(v->zmm16));
	memset(v->opmask, 0, sizeof(v->opmask));
	v->zmm_used = false;
	v->fx.fcw = FCW_INIT;
	v->fx.mxcsr = MXCSR_INIT;
	v->fx.mxcsr_mask = MXCSR_VALID;
	v->x87_cs = v->x87_ds = 0;
}

void simd_enter(struct vcpu *v)
{
	v->fx.mxcsr &= MXCSR_VALID;
	simd_set_mxcsr(v, v->fx.mxcsr);
	simd_load_x87(v);
}

void simd_leave(struct vcpu *v)
{
	simd_store_x87(v);
	v->fx.mxcsr = simd_mxcsr(v);
	v->fx.mxcsr_mask = MXCSR_VALID;
	__asm__ volatile("fninit");
	set_host_mxcsr(MXCSR_INIT);
}

static void clear_pointers(struct vcpu *v)
{
	v->fx.fop = 0;
	v->fx.fip = v->fx.fdp = 0;
	v->x87_cs = v->x87_ds = 0;
}

/* -- FXSAVE, FXRSTOR -- */

void fpu_put_pointers(const struct vcpu *v, const struct insn *i, uint8_t *img)
{
	memset(img + FX_FOP, 0, FX_MXCSR - FX_FOP);
	if (!(v->fx.fsw & FSW_ES)) {
		return;
	}
	memcpy(img + FX_FOP, &v->fx.fop, 2);
	if (i->flags & INSN_REX_W) {
		memcpy(img + FX_FIP, &v->fx.fip, 8);
		memcpy(img + FX_FDP, &v->fx.fdp, 8);
	} else {
		memcpy(img + FX_FIP, &v->fx.fip, 4);
		memcpy(img + FX_FIP + 4, &v->x87_cs, 2);
		memcpy(img + FX_FDP, &v->fx.fdp, 4);
		memcpy(img + FX_FDP + 4, &v->x87_ds, 2);
	}
}

void fpu_load_x87_image(struct vcpu *v, const struct insn *i, const uint8_t *img)
{
	bool wide = i->flags & INSN_REX_W;

	memcpy(&v->fx, img, FX_FOP);
	memcpy(&v->fx.fop, img + FX_FOP, 2);
	v->fx.fop &= FOP_MASK;
	v->fx.fip = v->fx.fdp = 0;
	v->x87_cs = v->x87_ds = 0;
	memcpy(&v->fx.fip, img + FX_FIP, wide ? 8 : 4);
	memcpy(&v->fx.fdp, img + FX_FDP, wide ? 8 : 4);
	if (!wide) {
		memcpy(&v->x87_cs, img + FX_FIP + 4, 2);
		memcpy(&v->x87_ds, img + FX_FDP + 4, 2);
	}
	memcpy(v->fx.st, img + FX_ST, sizeof(v->fx.st));
	simd_load_x87(v);
}

void fpu_init_x87(struct vcpu *v)
{
	memset(v->fx.st, 0, sizeof(v->fx.st));
	v->fx.fcw = FCW_INIT;
	v->fx.fsw = 0;
	v->fx.ftw = 0;
	clear_pointers(v);
	simd_load_x87(v);
}

static unsigned xmm_len(const struct vcpu *v)
{
	return (v->mode & MODE_SIZE) == MODE_64 ? 256 : 128;
}

/* FXSAVE and FXRSTOR: #NM for EM too, and 16-byte alignment. */
static uint64_t fx_operand(struct vcpu *v, const struct insn *i, enum mmu_access acc)
{
	uint64_t lin;

	v->insn = i;
	simd_check_x87_nowait(v);
	lin = ea_linear(v, i, 512, acc);
	if (lin & 15) {
		raise_error(v, VEC_GP, 0);
	}
	return lin;
}

static SIMD_APART void do_fxsave(struct vcpu *v, const struct insn *i)
{
	uint64_t lin = fx_operand(v, i, MMU_W);
	unsigned len = v->cr4 & CR4_OSFXSR ? FX_X87_LEN + xmm_len(v) : FX_X87_LEN;
	uint32_t mask = MXCSR_VALID, csr = simd_mxcsr(v);
	uint8_t img[FX_X87_LEN + 256];

	mmu_probe(v, lin + 511, 1, MMU_W);
	simd_store_x87(v);
	memcpy(img, &v->fx, sizeof(img));
	fpu_put_pointers(v, i, img);
	memcpy(img + FX_MXCSR, &csr, 4);
	memcpy(img + FX_MXCSR + 4, &mask, 4);
	mmu_write_bytes(v, lin, img, len);
}

static const struct insn *fxsave(struct vcpu *v, const struct insn *i)
{
	do_fxsave(v, i);
	NEXT(v, i);
}

static SIMD_APART void do_fxrstor(struct vcpu *v, const struct insn *i)
{
	uint64_t lin = fx_operand(v, i, MMU_R);
	uint8_t img[FX_X87_LEN + 256];
	uint32_t csr;

	mmu_probe(v, lin + 511, 1, MMU_R);
	mmu_read_bytes(v, lin, img, sizeof(img));
	if (v->cr4 & CR4_OSFXSR) {
		memcpy(&csr, img + FX_MXCSR, 4);
		if (csr & ~(uint32_t)MXCSR_VALID) {
			raise_error(v, VEC_GP, 0);
		}
		simd_set_mxcsr(v, csr);
		memcpy(v->fx.xmm, img + FX_X87_LEN, xmm_len(v));
	}
	fpu_load_x87_image(v, i, img);
}

static const struct insn *fxrstor(struct vcpu *v, const struct insn *i)
{
	do_fxrstor(v, i);
	NEXT(v, i);
}

/* -- environments -- */

/* The layouts of SDM volume 1 figures 8-9 to 8-12: real or V86 mode keeps linear addresses. */
static unsigned env_len(const struct insn *i)
{
	return i->opsize == 2 ? 14 : ENV_MAX;
}

static void put16(uint8_t *p, unsigned val)
{
	p[0] = (uint8_t)val;
	p[1] = (uint8_t)(val >> 8);
}

static void put32(uint8_t *p, uint32_t val)
{
	put16(p, val & 0xffff);
	put16(p + 2, val >> 16);
}

static uint32_t get16(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | get16(p + 2) << 16;
}

/* words: the host's own 28-byte environment, of which control, status and tag word count. */
static void put_env(const struct vcpu *v, const struct insn *i, const uint8_t *words, uint8_t *env)
{
	bool prot = v->mode & MODE_PROT;
	uint32_t fip = (uint32_t)v->fx.fip, fdp = (uint32_t)v->fx.fdp;
	uint32_t fop = v->fx.fop & FOP_MASK;

	if (!prot) {
		fip += (uint32_t)v->x87_cs << 4;
		fdp += (uint32_t)v->x87_ds << 4;
	}
	if (i->opsize == 2) {
		for (unsigned k = 0; k < 3; k++) {
			memcpy(env + 2 * k, words + 4 * k, 2);
		}
		put16(env + 6, fip & 0xffff);
		put16(env + 8, prot ? v->x87_cs : (fip >> 16 & 0xf) << 12 | fop);
		put16(env + 10, fdp & 0xffff);
		put16(env + 12, prot ? v->x87_ds : (fdp >> 16 & 0xf) << 12);
		return;
	}
	memcpy(env, words, 12);
	if (prot) {
		put32(env + 12, fip);
		put32(env + 16, v->x87_cs | fop << 16);
		put32(env + 20, fdp);
		put32(env + 24, v->x87_ds | 0xffff0000);
	} else {
		put32(env + 12, (fip & 0xffff) | 0xffff0000);
		put32(env + 16, (fip >> 16) << 12 | fop);
		put32(env + 20, (fdp & 0xffff) | 0xffff0000);
		put32(env + 24, (fdp >> 16) << 12);
	}
}

/* Takes in the pointers of an environment and builds the host's form of it. */
static void get_env(struct vcpu *v, const struct insn *i, const uint8_t *env, uint8_t *words)
{
	bool prot = v->mode & MODE_PROT;

	memset(words, 0, ENV_MAX);
	clear_pointers(v);
	if (i->opsize == 2) {
		for (unsigned k = 0; k < 3; k++) {
			memcpy(words + 4 * k, env + 2 * k, 2);
		}
		v->fx.fip = get16(env + 6);
		v->fx.fdp = get16(env + 10);
		if (prot) {
			v->x87_cs = (uint16_t)get16(env + 8);
			v->x87_ds = (uint16_t)get16(env + 12);
		} else {
			v->fx.fop = get16(env + 8) & FOP_MASK;
			v->fx.fip |= (get16(env + 8) >> 12) << 16;
			v->fx.fdp |= (get16(env + 12) >> 12) << 16;
		}
		return;
	}
	memcpy(words, env, 12);
	if (prot) {
		v->fx.fip = get32(env + 12);
		v->x87_cs = (uint16_t)get16(env + 16);
		v->fx.fop = get16(env + 18) & FOP_MASK;
		v->fx.fdp = get32(env + 20);
		v->x87_ds = (uint16_t)get16(env + 24);
	} else {
		v->fx.fop = get32(env + 16) & FOP_MASK;
		v->fx.fip = get16(env + 12) | (get32(env + 16) >> 12 & 0xffff) << 16;
		v->fx.fdp = get16(env + 20) | (get32(env + 24) >> 12 & 0xffff) << 16;
	}
}

/*
 * Raises what an access to an image raises. When only the end is at fault, it is the last byte that
 * is reported.
 */
static void probe_image(struct vcpu *v, uint64_t lin, unsigned len, enum mmu_access acc)
{
	mmu_probe(v, lin, len == 14 || len == 14 + N_ST_BYTES ? 2 : 4, acc);
	mmu_probe(v, lin + len - 1, 1, acc);
}

static SIMD_APART void do_fnstenv(struct vcpu *v, const struct insn *i)
{
	uint8_t words[ENV_MAX], env[ENV_MAX];
	uint64_t lin;

	v->insn = i;
	simd_check_x87_nowait(v);
	lin = ea_linear(v, i, env_len(i), MMU_W);
	probe_image(v, lin, env_len(i), MMU_W);
	__asm__ volatile("fnstenv %0" : "=m"(words));
	sync_fcw(v);
	put_env(v, i, words, env);
	mmu_write_bytes(v, lin, env, env_len(i));
}

static const struct insn *fnstenv(struct vcpu *v, const struct insn *i)
{
	do_fnstenv(v, i);
	NEXT(v, i);
}

static SIMD_APART void do_fldenv(struct vcpu *v, const struct insn *i)
{
	uint8_t words[ENV_MAX], env[ENV_MAX];
	uint64_t lin;

	v->insn = i;
	simd_check_x87(v);
	lin = ea_linear(v, i, env_len(i), MMU_R);
	probe_image(v, lin, env_len(i), MMU_R);
	mmu_read_bytes(v, lin, env, env_len(i));
	get_env(v, i, env, words);
	__asm__ volatile("fldenv %0" : : "m"(words));
	sync_fcw(v);
}

static const struct insn *fldenv(struct vcpu *v, const struct insn *i)
{
	do_fldenv(v, i);
	NEXT(v, i);
}

static SIMD_APART void do_fnsave(struct vcpu *v, const struct insn *i)
{
	uint8_t host[SAVE_MAX], img[SAVE_MAX];
	unsigned n = env_len(i);
	uint64_t lin;

	v->insn = i;
	simd_check_x87_nowait(v);
	lin = ea_linear(v, i, n + N_ST_BYTES, MMU_W);
	probe_image(v, lin, n + N_ST_BYTES, MMU_W);
	__asm__ volatile("fnsave %0" : "=m"(host));
	sync_fcw(v);
	put_env(v, i, host, img);
	clear_pointers(v);
	memcpy(img + n, host + ENV_MAX, N_ST_BYTES);
	mmu_write_bytes(v, lin, img, n + N_ST_BYTES);
}

static const struct insn *fnsave(struct vcpu *v, const struct insn *i)
{
	do_fnsave(v, i);
	NEXT(v, i);
}

static SIMD_APART void do_frstor(struct vcpu *v, const struct insn *i)
{
	uint8_t host[SAVE_MAX], img[SAVE_MAX];
	unsigned n = env_len(i);
	uint64_t lin;

	v->insn = i;
	simd_check_x87(v);
	lin = ea_linear(v, i, n + N_ST_BYTES, MMU_R);
	probe_image(v, lin, n + N_ST_BYTES, MMU_R);
	mmu_read_bytes(v, lin, img, n + N_ST_BYTES);
	get_env(v, i, img, host);
	memcpy(host + ENV_MAX, img + n, N_ST_BYTES);
	__asm__ volatile("frstor %0" : : "m"(host));
	sync_fcw(v);
}

static const struct insn *frstor(struct vcpu *v, const struct insn *i)
{
	do_frstor(v, i);
	NEXT(v, i);
}

/* -- words -- */

static const struct insn *fldcw(struct vcpu *v, const struct insn *i)
{
	uint16_t fcw;

	v->insn = i;
	simd_check_x87(v);
	fcw = mmu_read16(v, ea_linear(v, i, 2, MMU_R));
	__asm__ volatile("fldcw %0" : : "m"(fcw));
	sync_fcw(v);
	NEXT(v, i);
}

static const struct insn *fnstcw(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	simd_check_x87_nowait(v);
	mmu_write16(v, ea_linear(v, i, 2, MMU_W), v->fx.fcw);
	NEXT(v, i);
}

static const struct insn *fnstsw(struct vcpu *v, const struct insn *i)
{
	uint16_t fsw;

	v->insn = i;
	simd_check_x87_nowait(v);
	__asm__ volatile("fnstsw %0" : "=am"(fsw));
	mmu_write16(v, ea_linear(v, i, 2, MMU_W), fsw);
	NEXT(v, i);
}

static void check_mxcsr(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	if (i->flags & INSN_VEX) {
		simd_check_avx(v);
	} else {
		simd_check_sse(v);
	}
}

static const struct insn *ldmxcsr(struct vcpu *v, const struct insn *i)
{
	uint32_t csr;

	check_mxcsr(v, i);
	csr = mmu_read32(v, ea_linear(v, i, 4, MMU_R));
	if (csr & ~(uint32_t)MXCSR_VALID) {
		raise_error(v, VEC_GP, 0);
	}
	simd_set_mxcsr(v, csr);
	NEXT(v, i);
}

static const struct insn *stmxcsr(struct vcpu *v, const struct insn *i)
{
	check_mxcsr(v, i);
	mmu_write32(v, ea_linear(v, i, 4, MMU_W), simd_mxcsr(v));
	NEXT(v, i);
}

/* -- binding -- */

static insn_fn *choose(const struct insn *i)
{
	static insn_fn *const d9[8] = {[4] = fldenv, [5] = fldcw, [6] = fnstenv, [7] = fnstcw};
	static insn_fn *const dd[8] = {[4] = frstor, [6] = fnsave, [7] = fnstsw};
	static insn_fn *const ae[8] = {fxsave, fxrstor, ldmxcsr, stmxcsr};
	unsigned reg = i->modrm >> 3 & 7;

	if (i->map == MAP_1) {
		return i->opcode == 0xd9 ? d9[reg] : i->opcode == 0xdd ? dd[reg] : NULL;
	}
	if (i->map == MAP_0F && i->opcode == 0xae &&
	    !(i->flags & (INSN_OPSIZE | INSN_REP | INSN_REPNE))) {
		return ae[reg];
	}
	return NULL;
}

bool simd_bind_state(struct vcpu *v, struct insn *i)
{
	insn_fn *fn = i->mod != 3 ? choose(i) : NULL;

	if (!fn) {
		return simd_bind_xsave(v, i);
	}
	i->fn = fn;
	return true;
}
