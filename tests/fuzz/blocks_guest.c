/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine of the blocks fuzzer: in long mode on the fake board. Every gate leads, by a stack of
 * its own, to a HLT at CPL 0, which makes the engine return with a frame that tells what happened.
 */
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "blocks.h"
#include "engine.h"
#include "execute/cpuid.h"
#include "execute/execute.h"
#include "execute/fpu_state.h"
#include "execute/simd.h"
#include "execute/trace.h"
#include "fake_board.h"
#include "translate/chaos.h"
#include "translate/translate.h"
#include "translate/verify.h"

struct bl_guest {
	struct board board;
	struct vcpu *v;
	const struct mobo_engine_ops *engine;
	enum bl_kind kind;
	uint8_t start[offsetof(struct vcpu, n_insns)]; /* registers before a program */
	struct segment cs, ss;
	uint64_t next_table;
};

/* Guest-physical places. */
enum {
	PA_TABLES = 0x10000,
	PA_CODE = 0x30000,
	PA_DATA = 0x40000,
	PA_STACK = 0x50000,
	PA_SYSTEM = 0x60000,
	RAM_SIZE = 0x66000,
};

#define SYSTEM 0xffffff0000000000ull
enum {
	SYS_IDT = 0,
	SYS_GDT = 0x1000,
	SYS_TSS = 0x2000,
	SYS_HANDLERS = 0x3000,
	SYS_STACK_TOP = 0x5000,
	SYS_LEN = 0x5000,
	HANDLER_LEN = 16,
	TSS_SELECTOR = 0x40,
	TSS_IST1 = 0x24,
	MAX_MS = 4, /* for one run of the interpreter, or it does not end */
	MAX_MS_TRANSLATED = 900,
};

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX	    (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull
enum { PTE_KEY_SHIFT = 59 };

static void put64(struct bl_guest *g, uint64_t gpa, uint64_t val)
{
	memcpy(g->board.ram + gpa, &val, 8);
}

static uint64_t get64(const struct bl_guest *g, uint64_t gpa)
{
	uint64_t val;

	memcpy(&val, g->board.ram + gpa, 8);
	return val;
}

static void map_page(struct bl_guest *g, uint64_t lin, uint64_t gpa, uint64_t flags)
{
	uint64_t table = PA_TABLES;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t at = table + (lin >> shift & 511) * 8;

		if (!(get64(g, at) & PTE_P)) {
			put64(g, at, g->next_table | PTE_P | PTE_W | PTE_U | PTE_A);
			g->next_table += 4096;
		}
		table = get64(g, at) & PTE_ADDRESS;
	}
	put64(g, table + (lin >> 12 & 511) * 8, gpa | flags);
}

static void map_range(struct bl_guest *g, uint64_t lin, uint64_t gpa, unsigned n_pages,
		      uint64_t flags)
{
	for (uint64_t off = 0; off < n_pages * 4096ull; off += 4096) {
		map_page(g, lin + off, gpa + off, flags);
	}
}

static void map_program(struct bl_guest *g, const struct bl_program *p)
{
	uint64_t own = p->kind == BL_KERNEL_64 ? 0 : PTE_U;

	map_range(g, BL_CODE, PA_CODE, BL_CODE_PAGES, PTE_P | PTE_W | own);
	map_range(g, BL_ALIAS, PA_CODE, BL_CODE_PAGES, PTE_P | PTE_W | own);
	map_range(g, BL_STACK, PA_STACK, BL_STACK_PAGES, PTE_P | PTE_W | PTE_NX | own);
	for (unsigned k = 0; k < BL_DATA_PAGES; k++) {
		uint64_t gpa = PA_DATA + k * 4096, flags = PTE_P | PTE_W | PTE_NX | own;

		switch (p->page[k]) {
		case BL_PAGE_RW: break;
		case BL_PAGE_RO: flags &= ~(uint64_t)PTE_W; break;
		case BL_PAGE_ABSENT: flags &= ~(uint64_t)PTE_P; break;
		case BL_PAGE_OTHER: flags ^= PTE_U; break;
		case BL_PAGE_CODE: gpa = PA_CODE + (BL_CODE_PAGES - 1) * 4096; break;
		}
		flags |= p->keys ? (uint64_t)(k % 4) << PTE_KEY_SHIFT : 0;
		map_page(g, BL_DATA + k * 4096, gpa, flags);
	}
}

static void build_system(struct bl_guest *g)
{
	static const uint64_t gdt[] = {0,
				       0x00cf9b000000ffff,
				       0x00af9b000000ffff,
				       0x00cf93000000ffff,
				       0x00cffb000000ffff,
				       0x00cff3000000ffff,
				       0x00affb000000ffff,
				       0};
	uint64_t tss = SYSTEM + SYS_TSS;

	memcpy(g->board.ram + PA_SYSTEM + SYS_GDT, gdt, sizeof(gdt));
	put64(g, PA_SYSTEM + SYS_GDT + TSS_SELECTOR,
	      0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	put64(g, PA_SYSTEM + SYS_GDT + TSS_SELECTOR + 8, tss >> 32);
	put64(g, PA_SYSTEM + SYS_TSS + TSS_IST1, SYSTEM + SYS_STACK_TOP);
	g->board.ram[PA_SYSTEM + SYS_TSS + 0x66] = 0x68; /* no I/O permission bitmap */
	for (unsigned n = 0; n < 256; n++) {
		uint64_t handler = SYSTEM + SYS_HANDLERS + n * HANDLER_LEN;
		bool user = n == VEC_BP || n == VEC_OF || n == BL_END_VECTOR;
		uint64_t type = (user ? 0xee01ull : 0x8e01ull) << 32;

		put64(g, PA_SYSTEM + n * 16,
		      (handler & 0xffff) | 0x10 << 16 | type | (handler >> 16 & 0xffff) << 48);
		put64(g, PA_SYSTEM + n * 16 + 8, handler >> 32);
		g->board.ram[PA_SYSTEM + SYS_HANDLERS + n * HANDLER_LEN] = 0xf4;
	}
}

static struct segment segment(uint16_t selector, uint32_t attr)
{
	return (struct segment){.limit = 0xffffffff, .attr = attr, .selector = selector};
}

static void set_segments(struct bl_guest *g, enum bl_kind kind)
{
	uint32_t dpl = kind == BL_KERNEL_64 ? 0 : 3u << SEG_DPL_SHIFT, rpl = dpl ? 3 : 0;
	uint32_t data = SEG_P | SEG_S | dpl | SEG_DB | SEG_G | 3;
	uint32_t code = SEG_P | SEG_S | dpl | SEG_G | 0xb;
	bool is_32 = kind == BL_USER_32;
	struct vcpu *v = g->v;

	g->cs = segment((is_32 ? 0x20 : dpl ? 0x30 : 0x10) | rpl, code | (is_32 ? SEG_DB : SEG_L));
	g->ss = segment(dpl ? 0x2b : 0x18, data);
	v->seg[SEG_CS] = g->cs;
	v->seg[SEG_SS] = g->ss;
	for (unsigned s = 0; s < N_SEG; s++) {
		if (s != SEG_CS && s != SEG_SS) {
			v->seg[s] = segment(is_32 ? 0x2b : 0, data | (is_32 ? 0 : SEG_UNUSABLE));
		}
	}
	v->seg[SEG_TR] = (struct segment){SYSTEM + SYS_TSS, 0x67, SEG_P | 0xb, TSS_SELECTOR};
	v->seg[SEG_LDTR] = (struct segment){0, 0, SEG_UNUSABLE, 0};
	v->cpl = (uint8_t)rpl;
}

/* What follows from control registers and privilege. */
static void update(struct vcpu *v)
{
	for (unsigned s = 0; s < N_SEG; s++) {
		v->seg_base[s] = v->seg[s].base;
	}
	vcpu_update_mode(v);
	mmu_update_context(v);
	vcpu_update_req_mask(v);
}

static void set_control(struct vcpu *v)
{
	v->cr0 = CR0_PG | CR0_AM | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
	v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE |
		 CR4_UMIP | CR4_DE;
	v->cr3 = PA_TABLES;
	v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = cpuid_xcr0();
	v->gdtr = (struct desc_table){SYSTEM + SYS_GDT, 127};
	v->idtr = (struct desc_table){SYSTEM + SYS_IDT, 4095};
	v->rflags = FL_1 | FL_IF;
	v->aflags = aflags_from_rflags(0);
}

struct bl_guest *bl_guest_create(const struct mobo_engine_ops *engine)
{
	struct bl_guest *g = calloc(1, sizeof(*g));

	if (!g || fake_board_init(&g->board, RAM_SIZE)) {
		free(g);
		return NULL;
	}
	g->engine = fake_board_engine = engine;
	g->v = fake_board_add_vcpu(&g->board);
	if (!g->v) {
		bl_guest_destroy(g);
		return NULL;
	}
	build_system(g);
	set_control(g->v);
	update(g->v);
	memcpy(g->start, g->v, sizeof(g->start));
	return g;
}

static void print_report(struct vcpu *v, const char *text)
{
	printf("%s", text);
	v->gpr[RAX] ^= 1; /* found by the other comparison, too */
}

bool bl_guest_verify(struct bl_guest *g)
{
	return verify_set(g->v, true, print_report) == 0;
}

void bl_guest_destroy(struct bl_guest *g)
{
	fake_board_engine = g->engine;
	fake_board_finish(&g->board);
	free(g);
}

void bl_guest_load(struct bl_guest *g, const struct bl_program *p)
{
	struct fz_rng r = {p->seed};

	g->kind = p->kind;
	g->next_table = PA_TABLES + 4096;
	memset(g->board.ram + PA_TABLES, 0, PA_CODE - PA_TABLES);
	map_program(g, p);
	map_range(g, SYSTEM, PA_SYSTEM, SYS_LEN / 4096, PTE_P | PTE_W | PTE_A | PTE_D);
	fz_fill(&r, g->board.ram + PA_DATA, BL_DATA_PAGES * 4096);
	fz_fill(&r, g->board.ram + PA_STACK, BL_STACK_PAGES * 4096);
	memcpy(g->board.ram + PA_CODE, p->code, sizeof(p->code));
	fake_board_engine = g->engine;
	g->engine->code_written(g->v, PA_CODE, sizeof(p->code));
	mmu_flush_all(g->v);
	if (g->v->translator) {
		g->v->translator->hot = (uint16_t)p->hot;
		chaos_set(g->v, p->chaos);
	}
}

void bl_guest_start(struct bl_guest *g, const struct bl_program *p, unsigned run)
{
	const struct bl_state *s = &p->state[run];
	struct vcpu *v = g->v;

	memcpy(v, g->start, sizeof(g->start));
	memcpy(v->gpr, s->gpr, sizeof(s->gpr));
	v->rip = p->start;
	v->cr4 |= (p->smap ? CR4_SMAP : 0) | (p->keys ? CR4_PKE | CR4_PKS : 0);
	v->rflags = s->rflags & ~(uint32_t)FL_ARITH;
	v->aflags = aflags_from_rflags(s->rflags);
	set_segments(g, p->kind);
	v->seg[SEG_FS].base = s->fs_base;
	v->seg[SEG_GS].base = s->gs_base;
	memcpy(&v->fx, s->fx, FZ_FX_LEN);
	memcpy(v->ymmh, s->ymmh, FZ_YMMH_LEN);
	memcpy(v->zmmh, s->zmm.zmmh, sizeof(v->zmmh));
	memcpy(v->zmm16, s->zmm.zmm16, sizeof(v->zmm16));
	memcpy(v->opmask, s->zmm.opmask, sizeof(v->opmask));
	v->zmm_used = fpu_zmm_in_use(v);
	v->fx.mxcsr_mask = MXCSR_VALID;
	v->shutdown = v->halted = false;
	v->delivering = -1;
	v->nmi_blocked = false;
	v->n_nested = 0;
	v->pending_db = 0;
	g->board.tsc = 0;
	mmu_flush_all(v);
	update(v);
}

/* -- running -- */

static struct vcpu *timed;

static void on_alarm(int sig)
{
	(void)sig;
	if (timed) {
		vcpu_request(timed, REQ_PAUSE);
	}
}

static void set_alarm(struct vcpu *v, unsigned ms)
{
	struct itimerval t = {.it_value = {ms / 1000, ms % 1000 * 1000}};
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART};

	sigaction(SIGALRM, &sa, NULL);
	timed = v;
	setitimer(ITIMER_REAL, &t, NULL);
}

/* Taken from what the exception pushed: [error code] RIP CS RFLAGS RSP SS. */
static void read_frame(struct bl_guest *g, struct bl_stop *stop)
{
	struct vcpu *v = g->v;
	uint64_t at = v->gpr[RSP] - SYSTEM + PA_SYSTEM,
		 depth = SYSTEM + SYS_STACK_TOP - v->gpr[RSP];
	bool has_error = depth == 48;

	*stop = (struct bl_stop){.vector = -1};
	if (v->shutdown || (depth != 40 && depth != 48)) {
		return;
	}
	stop->vector = (int)((v->rip - SYSTEM - SYS_HANDLERS) / HANDLER_LEN);
	stop->error = has_error ? (uint32_t)get64(g, at) : 0;
	at += has_error ? 8 : 0;
	stop->rip = get64(g, at);
	stop->rflags = get64(g, at + 16);
	stop->rsp = get64(g, at + 24);
	stop->cr2 = v->cr2;
}

void bl_guest_run(struct bl_guest *g, struct bl_stop *stop)
{
	enum mobo_exit why;

	fake_board_engine = g->engine;
	set_alarm(g->v, g->v->translator ? MAX_MS_TRANSLATED : MAX_MS);
	do {
		why = g->engine->run(g->v);
	} while (why == MOBO_EXIT_REQUEST && !(atomic_load(&g->v->req) & REQ_PAUSE));
	set_alarm(NULL, 0);
	atomic_fetch_and(&g->v->req, ~(uint32_t)REQ_PAUSE);
	if (why == MOBO_EXIT_REQUEST) {
		*stop = (struct bl_stop){.vector = -2};
	} else {
		read_frame(g, stop);
	}
}

void bl_guest_resume(struct bl_guest *g, const struct bl_stop *stop, uint64_t rip, uint64_t rflags)
{
	struct vcpu *v = g->v;

	v->halted = false;
	v->rip = rip;
	v->gpr[RSP] = stop->rsp;
	v->rflags = (uint32_t)(rflags & ~(uint64_t)(FL_ARITH | FL_TF | FL_RF));
	v->aflags = aflags_from_rflags(rflags);
	v->seg[SEG_CS] = g->cs;
	v->seg[SEG_SS] = g->ss;
	v->cpl = g->kind == BL_KERNEL_64 ? 0 : 3;
	v->nmi_blocked = false;
	update(v);
}

/* False: not of the program. */
static bool decode(struct bl_guest *g, uint64_t rip, struct insn *i)
{
	uint64_t off = rip - BL_CODE < BL_CODE_PAGES * 4096ull ? rip - BL_CODE : rip - BL_ALIAS;
	uint32_t mode = g->kind == BL_USER_32 ? MODE_32 | MODE_SS32 : MODE_64;

	if (off >= BL_CODE_PAGES * 4096ull - FZ_MAX_INSN) {
		return false;
	}
	memset(i, 0, sizeof(*i));
	insn_decode(i, g->board.ram + PA_CODE + off, FZ_MAX_INSN,
		    mode | MODE_PROT | MODE_LMA | MODE_FLAT | g->v->interp->decode_mode);
	return true;
}

unsigned bl_guest_insn_len(struct bl_guest *g, uint64_t rip)
{
	struct insn i;

	if (!decode(g, rip, &i)) {
		return 0;
	}
	return i.len ? i.len : 1;
}

/* -- what a frame need not have -- */

uint32_t bl_guest_unspecified(struct bl_guest *g, uint64_t rip)
{
	const struct translator *x = g->v->translator;
	uint32_t dead = x && x->chaos ? FL_ARITH : 0; /* the region may be gone */

	for (uint32_t n = 0; x && n < x->n_regions; n++) {
		const struct region *r = x->regions[n];

		for (unsigned k = 0; r->lin == (rip & ~4095ull) && k < r->n_insns; k++) {
			if (r->at[k] == (rip & 4095)) {
				dead |= FL_ARITH & ~flags_before(r, k);
			}
		}
	}
	return dead;
}

/* -- comparison -- */

static bool differ64(FILE *f, const char *name, unsigned n, uint64_t a, uint64_t b)
{
	if (a != b && f) {
		fprintf(f, "  %s%u: interpreter %016llx, translator %016llx\n", name, n,
			(unsigned long long)a, (unsigned long long)b);
	}
	return a != b;
}

static bool differ_bytes(FILE *f, const char *name, unsigned n, const void *a, const void *b,
			 unsigned len)
{
	const uint8_t *pa = a, *pb = b;

	if (!memcmp(a, b, len)) {
		return false;
	}
	if (f) {
		fprintf(f, "  %s%u:", name, n);
		for (unsigned side = 0; side < 2; side++, pa = pb) {
			fprintf(f, side ? ", translator " : " interpreter ");
			for (unsigned k = len; k-- > 0;) {
				fprintf(f, "%02x", pa[k]);
			}
		}
		fprintf(f, "\n");
	}
	return true;
}

static bool vectors_differ(const struct vcpu *a, const struct vcpu *b, FILE *f)
{
	bool bad = differ_bytes(f, "fcw_fsw_ftw", 0, &a->fx, &b->fx, 5);

	bad |= differ64(f, "mxcsr", 0, a->fx.mxcsr, b->fx.mxcsr);
	for (unsigned k = 0; k < 8; k++) {
		bad |= differ_bytes(f, "st", k, a->fx.st[k], b->fx.st[k], 10);
	}
	for (unsigned k = 0; k < 16; k++) {
		bad |= differ_bytes(f, "xmm", k, a->fx.xmm[k], b->fx.xmm[k], 16);
		bad |= differ_bytes(f, "ymmh", k, a->ymmh[k], b->ymmh[k], 16);
		bad |= differ_bytes(f, "zmmh", k, a->zmmh[k], b->zmmh[k], 32);
		bad |= differ_bytes(f, "zmm16+", k, a->zmm16[k], b->zmm16[k], 64);
	}
	for (unsigned k = 0; k < 8; k++) {
		bad |= differ64(f, "k", k, a->opmask[k], b->opmask[k]);
	}
	return bad;
}

/* The frames themselves lie on the top of the system's stack. */
static bool memory_differs(struct bl_guest *a, struct bl_guest *b, FILE *f)
{
	uint64_t end = PA_SYSTEM + SYS_STACK_TOP - 64;
	bool bad = false;

	if (!memcmp(a->board.ram, b->board.ram, end)) {
		return false;
	}
	for (uint64_t at = 0; at < end; at += 8) {
		bad |= differ64(f, "memory ", (unsigned)at, get64(a, at), get64(b, at));
	}
	return bad;
}

/*
 * A translated indirect call to a non-canonical address has stored its return address, below RSP,
 * when it faults.
 */
static void forget_push(struct bl_guest *a, struct bl_guest *b, const struct bl_stop *stop)
{
	uint64_t rip = stop->rip, gpa;
	struct insn i;

	if (stop->vector == VEC_GP && bl_guest_insn_len(a, rip) && decode(a, rip, &i) &&
	    i.map == MAP_1 && i.opcode == 0xff && (i.reg & 7) == 2) {
		for (unsigned k = 1; k <= 8; k++) {
			if (!mmu_translate_debug(a->v, stop->rsp - k, &gpa)) {
				b->board.ram[gpa] = a->board.ram[gpa];
			}
		}
	}
}

bool bl_differ(struct bl_guest *a, struct bl_guest *b, const struct bl_stop *sa,
	       const struct bl_stop *sb, FILE *f)
{
	uint64_t ignore = sa->vector == BL_END_VECTOR || sa->vector == VEC_BP
				  ? 0
				  : bl_guest_unspecified(b, sa->rip);
	bool bad = differ64(f, "vector", 0, (uint64_t)sa->vector, (uint64_t)sb->vector);

	bad |= differ64(f, "error", 0, sa->error, sb->error);
	bad |= differ64(f, "cr2 ", 0, sa->cr2, sb->cr2);
	bad |= differ64(f, "rip", 0, sa->rip, sb->rip);
	bad |= differ64(f, "rflags", 0, sa->rflags & ~ignore, sb->rflags & ~ignore);
	bad |= differ64(f, "rsp", 0, sa->rsp, sb->rsp);
	for (unsigned k = 0; k < 16; k++) {
		bad |= k != RSP && differ64(f, "r", k, a->v->gpr[k], b->v->gpr[k]);
	}
	bad |= differ64(f, "cr", 0, a->v->cr0, b->v->cr0);
	bad |= vectors_differ(a->v, b->v, f);
	forget_push(a, b, sa);
	return memory_differs(a, b, f) || bad;
}
