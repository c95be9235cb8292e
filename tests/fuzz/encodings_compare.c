/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparison and reports of the encodings fuzzer: see encodings_compare.h.
 */
#include "encodings_compare.h"

#include <string.h>

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8",	 "r9",	"r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const seg_names[6] = {"es", "cs", "ss", "ds", "fs", "gs"};

enum {
	FX_FSW = 2,
	FX_FOP = 6,
	FX_MXCSR = 24,
	FX_MASK = 28,
	FX_ST = 32,
	FX_XMM = 160,
	FX_END = 416
};

static bool differ64(FILE *f, const char *name, uint64_t native, uint64_t guest)
{
	if (native == guest) {
		return false;
	}
	if (f) {
		fprintf(f, "  %-8s host %016llx  guest %016llx\n", name, (unsigned long long)native,
			(unsigned long long)guest);
	}
	return true;
}

static void print_bytes(FILE *f, const uint8_t *p, unsigned n)
{
	for (unsigned k = n; k-- > 0;) {
		fprintf(f, "%02x", p[k]);
	}
}

static bool differ_bytes(FILE *f, const char *name, unsigned n, const uint8_t *native,
			 const uint8_t *guest, unsigned len)
{
	if (!memcmp(native, guest, len)) {
		return false;
	}
	if (f) {
		fprintf(f, "  %s%-5u host ", name, n);
		print_bytes(f, native, len);
		fprintf(f, "  guest ");
		print_bytes(f, guest, len);
		fprintf(f, "\n");
	}
	return true;
}

/* Is it where a string instruction's operand at `reg` is, whatever the size of addresses? */
static bool is_at(uint64_t lin, uint64_t base, uint64_t reg)
{
	uint64_t off = lin - base;

	return off == reg || off == (uint32_t)reg || off == (uint16_t)reg;
}

static bool is_at_source(const struct fz_regs *r, uint64_t lin)
{
	return is_at(lin, 0, r->gpr[RSI]) || is_at(lin, r->fs_base, r->gpr[RSI]) ||
	       is_at(lin, r->gs_base, r->gpr[RSI]);
}

/* Where both operands of CMPS fault, processors differ in which they report. */
static bool other_operand(const struct fz_result *n, const struct fz_result *g)
{
	const struct fz_regs *r = &n->regs;

	return (is_at_source(r, n->cr2) && is_at(g->cr2, 0, r->gpr[RDI])) ||
	       (is_at_source(r, g->cr2) && is_at(n->cr2, 0, r->gpr[RDI]));
}

static bool fault_differs(const struct fz_result *n, const struct fz_result *g, FILE *f)
{
	uint32_t ignore = 0;
	bool bad;

	bad = differ64(f, "fault", n->fault ? n->trap : 0x1000, g->fault ? g->trap : 0x1000);
	if (!n->fault || !g->fault) {
		return bad;
	}
	if (n->trap == VEC_PF) {
		/* Linux says "present" of all faults in the kernel's half. */
		ignore = n->cr2 >> 63 ? 1 : 0;
		bad |= !other_operand(n, g) && differ64(f, "cr2", n->cr2, g->cr2);
	}
	return bad | differ64(f, "error", n->error & ~ignore, g->error & ~ignore);
}

/* FOP, FIP and FDP only count while an exception is pending: AMD's rule, see fpu_state.c. */
static bool fx_differs(const uint8_t *n, const uint8_t *g, FILE *f)
{
	bool bad = differ_bytes(f, "fcw_fsw_ftw", 0, n, g, 5);

	if (n[FX_FSW] & 0x80) {
		bad |= differ_bytes(f, "fop", 0, n + FX_FOP, g + FX_FOP, 2);
		bad |= differ_bytes(f, "fip", 0, n + FX_FOP + 2, g + FX_FOP + 2, 8);
		bad |= differ_bytes(f, "fdp", 0, n + FX_FOP + 10, g + FX_FOP + 10, 8);
	}
	bad |= differ_bytes(f, "mxcsr", 0, n + FX_MXCSR, g + FX_MXCSR, 4);
	for (unsigned k = 0; k < 8; k++) {
		bad |= differ_bytes(f, "st", k, n + FX_ST + 16 * k, g + FX_ST + 16 * k, 10);
	}
	for (unsigned k = 0; k < 16; k++) {
		bad |= differ_bytes(f, "xmm", k, n + FX_XMM + 16 * k, g + FX_XMM + 16 * k, 16);
	}
	return bad;
}

static void print_lines(FILE *f, const char *who, const struct fz_result *r)
{
	for (unsigned k = 0; k < r->n_lines && k < FZ_LINES_KEPT; k++) {
		fprintf(f, "  %s line %x: ", who, FZ_DATA + r->line_no[k] * 64);
		for (unsigned b = 0; b < 64; b++) {
			fprintf(f, "%02x%s", r->line[k][b], b % 8 == 7 ? " " : "");
		}
		fprintf(f, "\n");
	}
}

/* A null selector's RPL gets lost on the way to the host's signal handler. */
static uint16_t selector(const struct fz_result *r, unsigned seg)
{
	uint16_t sel = r->regs.seg[seg];

	return r->fault && sel < 4 ? 0 : sel;
}

/* Flags that the instruction would have written are unspecified when it faults. */
static bool flags_differ(const struct fz_result *n, const struct fz_result *g, FILE *f)
{
	uint64_t ignore = n->fault && g->fault ? g->unspecified : 0;

	return differ64(f, "rflags", n->regs.rflags & ~ignore, g->regs.rflags & ~ignore);
}

/* Vector registers 0 to 31 and opmasks 0 to 7 beyond what every host has. */
static bool zmm_differs(const struct fz_zmm *n, const struct fz_zmm *g, FILE *f)
{
	bool bad = false;

	for (unsigned k = 0; k < 16; k++) {
		bad |= differ_bytes(f, "zmmh", k, n->zmmh[k], g->zmmh[k], 32);
	}
	for (unsigned k = 0; k < 16; k++) {
		bad |= differ_bytes(f, "zmm", 16 + k, n->zmm16[k], g->zmm16[k], 64);
	}
	for (unsigned k = 0; k < 8; k++) {
		bad |= differ_bytes(f, "k", k, (const uint8_t *)&n->opmask[k],
				    (const uint8_t *)&g->opmask[k], 8);
	}
	return bad;
}

bool fz_differs(const struct fz_result *n, const struct fz_result *g, FILE *f)
{
	bool bad = fault_differs(n, g, f);

	for (unsigned k = 0; k < 16; k++) {
		bad |= differ64(f, gpr_names[k], n->regs.gpr[k], g->regs.gpr[k]);
	}
	bad |= differ64(f, "rip", n->regs.rip, g->regs.rip);
	bad |= flags_differ(n, g, f);
	bad |= differ64(f, "fs_base", n->regs.fs_base, g->regs.fs_base);
	bad |= differ64(f, "gs_base", n->regs.gs_base, g->regs.gs_base);
	for (unsigned k = 0; k < 6; k++) {
		bad |= differ64(f, seg_names[k], selector(n, k), selector(g, k));
	}
	bad |= fx_differs(n->regs.fx, g->regs.fx, f);
	for (unsigned k = 0; k < 16; k++) {
		bad |= differ_bytes(f, "ymmh", k, n->regs.ymmh + 16 * k, g->regs.ymmh + 16 * k, 16);
	}
	bad |= zmm_differs(&n->regs.zmm, &g->regs.zmm, f);
	if (differ64(f, "memory", n->mem_hash, g->mem_hash)) {
		bad = true;
		if (f) {
			print_lines(f, "host", n);
			print_lines(f, "guest", g);
		}
	}
	return bad;
}

static void print_input(FILE *f, const struct fz_case *c)
{
	const struct fz_regs *in = &c->in;

	for (unsigned k = 0; k < 16; k++) {
		fprintf(f, "  %-4s %016llx%s", gpr_names[k], (unsigned long long)in->gpr[k],
			k % 4 == 3 ? "\n" : "");
	}
	fprintf(f, "  rip %llx rflags %llx fs_base %llx gs_base %llx\n",
		(unsigned long long)in->rip, (unsigned long long)in->rflags,
		(unsigned long long)in->fs_base, (unsigned long long)in->gs_base);
	fprintf(f, "  fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %02x%02x%02x%02x\n", in->fx[1],
		in->fx[0], in->fx[3], in->fx[2], in->fx[4], in->fx[27], in->fx[26], in->fx[25],
		in->fx[24]);
	for (unsigned k = 0; k < 8; k++) {
		fprintf(f, "  st%u ", k);
		print_bytes(f, in->fx + FX_ST + 16 * k, 10);
		fprintf(f, "%s", k % 4 == 3 ? "\n" : "");
	}
	for (unsigned k = 0; k < 16; k++) {
		fprintf(f, "  ymm%-2u ", k);
		print_bytes(f, in->ymmh + 16 * k, 16);
		print_bytes(f, in->fx + FX_XMM + 16 * k, 16);
		fprintf(f, "\n");
	}
	for (unsigned k = 0; k < 8; k++) {
		fprintf(f, "  k%u %016llx%s", k, (unsigned long long)in->zmm.opmask[k],
			k % 4 == 3 ? "\n" : "");
	}
	fprintf(f, "  at %x, %u bytes: ", FZ_DATA + c->patch_off, c->patch_len);
	for (unsigned k = 0; k < c->patch_len && k < 64; k++) {
		fprintf(f, "%02x", c->patch[k]);
	}
	fprintf(f, "\n");
}

void fz_report(FILE *f, const struct fz_case *c, uint32_t mode, const struct fz_result *native,
	       const struct fz_result *guest, bool all)
{
	fprintf(f, "  code ");
	for (unsigned k = 0; k < c->code_len; k++) {
		fprintf(f, " %02x", c->code[FZ_INSN + k]);
	}
	fprintf(f, "\n");
	if (all) {
		print_input(f, c);
		fprintf(f, "  host: %s trap %u error %x cr2 %llx rip %llx\n",
			native->fault ? "fault" : "done", native->trap, native->error,
			(unsigned long long)native->cr2, (unsigned long long)native->regs.rip);
	}
	fz_differs(native, guest, f);
}
