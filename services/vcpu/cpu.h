/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of one virtual CPU as the software engines hold it, and the words through which other
 * threads and processes ask it for something. Intel SDM volume 1 chapter 3, volume 3 chapter 2.
 *
 * One host thread runs a vCPU and is the only one to touch struct vcpu, but for `req`, which any
 * thread may set bits in (vcpu_request()), and the fields said to be otherwise.
 */
#ifndef VCPU_CPU_H
#define VCPU_CPU_H

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "debug.h"

enum {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15,
	REG_NONE, /* gpr[REG_NONE] is always 0: an absent base or index */
	N_GPR
};

enum seg {
	SEG_ES,
	SEG_CS,
	SEG_SS,
	SEG_DS,
	SEG_FS,
	SEG_GS,
	N_SEG,
	SEG_LDTR = N_SEG,
	SEG_TR,
	N_SEG_ALL
};

/*
 * Segment attributes: bytes 5 and 6 of the descriptor without the limit nibble, plus UNUSABLE.
 *   16        15 14  13 12   11..8  7  6..5 4  3..0
 *   unusable  G  D/B L  AVL  0      P  DPL  S  type
 */
enum {
	SEG_TYPE = 0xf,
	SEG_TYPE_ACCESSED = 0x1,
	SEG_TYPE_WRITE = 0x2,  /* data: writable; code: readable */
	SEG_TYPE_EXPAND = 0x4, /* data: expand down; code: conforming */
	SEG_TYPE_CODE = 0x8,
	SEG_S = 1 << 4,
	SEG_DPL_SHIFT = 5,
	SEG_P = 1 << 7,
	SEG_AVL = 1 << 12,
	SEG_L = 1 << 13,
	SEG_DB = 1 << 14,
	SEG_G = 1 << 15,
	SEG_UNUSABLE = 1 << 16,
};

struct segment {
	uint64_t base;
	uint32_t limit; /* last valid offset, in bytes */
	uint32_t attr;
	uint16_t selector;
};

struct desc_table {
	uint64_t base;
	uint16_t limit;
};

/* RFLAGS bits. The six arithmetic flags live in vcpu.aflags, all the others in vcpu.rflags. */
enum {
	FL_CF = 1 << 0,
	FL_1 = 1 << 1,
	FL_PF = 1 << 2,
	FL_AF = 1 << 4,
	FL_ZF = 1 << 6,
	FL_SF = 1 << 7,
	FL_TF = 1 << 8,
	FL_IF = 1 << 9,
	FL_DF = 1 << 10,
	FL_OF = 1 << 11,
	FL_IOPL = 3 << 12,
	FL_NT = 1 << 14,
	FL_RF = 1 << 16,
	FL_VM = 1 << 17,
	FL_AC = 1 << 18,
	FL_VIF = 1 << 19,
	FL_VIP = 1 << 20,
	FL_ID = 1 << 21,
	FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
};

enum {
	CR0_PE = 1 << 0,
	CR0_MP = 1 << 1,
	CR0_EM = 1 << 2,
	CR0_TS = 1 << 3,
	CR0_ET = 1 << 4,
	CR0_NE = 1 << 5,
	CR0_WP = 1 << 16,
	CR0_AM = 1 << 18,
	CR0_NW = 1 << 29,
	CR0_CD = 1 << 30,
};
#define CR0_PG (1u << 31)

enum {
	CR4_VME = 1 << 0,
	CR4_PVI = 1 << 1,
	CR4_TSD = 1 << 2,
	CR4_DE = 1 << 3,
	CR4_PSE = 1 << 4,
	CR4_PAE = 1 << 5,
	CR4_MCE = 1 << 6,
	CR4_PGE = 1 << 7,
	CR4_PCE = 1 << 8,
	CR4_OSFXSR = 1 << 9,
	CR4_OSXMMEXCPT = 1 << 10,
	CR4_UMIP = 1 << 11,
	CR4_FSGSBASE = 1 << 16,
	CR4_PCIDE = 1 << 17,
	CR4_OSXSAVE = 1 << 18,
	CR4_SMEP = 1 << 20,
	CR4_SMAP = 1 << 21,
	CR4_PKE = 1 << 22,
	CR4_PKS = 1 << 24,
};

enum {
	EFER_SCE = 1 << 0,
	EFER_LME = 1 << 8,
	EFER_LMA = 1 << 10,
	EFER_NXE = 1 << 11,
	EFER_AIBRSE = 1 << 21 /* AMD: automatic IBRS */
};

/* Exception vectors, SDM volume 3 table 6-1. */
enum {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_OF = 4,
	VEC_BR = 5,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_DF = 8,
	VEC_TS = 10,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_MC = 18,
	VEC_XM = 19,
};

/* Bits of vcpu.req: what another thread, or the vCPU itself, wants of it. */
enum vcpu_req {
	REQ_IRQ = 1 << 0, /* the local APIC or the 8259 has a vector to deliver */
	REQ_NMI = 1 << 1,
	REQ_INIT = 1 << 2,
	REQ_SIPI = 1 << 3,
	REQ_PAUSE = 1 << 4, /* park until cleared */
	REQ_STATE = 1 << 5, /* run the function in vcpu.state_fn on this thread */
	REQ_TIMER = 1 << 6, /* a deadline of this vCPU's timers has passed */
	REQ_SYNC = 1 << 7,  /* engine-internal: answer a TLB or code-cache shoot-down */
	REQ_RESET = 1 << 8,
	REQ_STOP = 1 << 9,    /* leave the thread */
	REQ_DEBUG = 1 << 10,  /* stopped for a debugger: see vcpu.debug */
	REQ_NMI_2 = 1 << 11,  /* another NMI came before that of REQ_NMI was taken */
	REQ_SINGLE = 1 << 30, /* the run loop's own: one instruction, one element of a REP */
};

/*
 * A translation context. The contexts differ in what a page's U/S bit lets through; switching
 * CPL or EFLAGS.AC only changes vcpu.tlb.
 */
enum mmu_ctx {
	MMU_SUPER,
	MMU_SUPER_AC, /* SMAP suspended */
	MMU_USER,
	MMU_USER_ALIGN, /* alignment checks on: its r and w are never filled */
	N_MMU_CTX
};

enum { TLB_BITS = 14, TLB_SIZE = 1 << TLB_BITS };

/*
 * One page. A tag is its linear address where reads, writes or fetches may use the entry, else
 * tlb_empty(slot), which no address of that slot matches. Hit when (lin ^ tag) <= 4096 - size,
 * which checks page, canonical form and page crossing at once; the difference is then the offset
 * into the page, which begins at host address `page`.
 */
struct tlb_entry {
	uint64_t r, w, x;
	uint64_t page;
};

static inline uint64_t tlb_empty(unsigned slot)
{
	return ~(uint64_t)slot << 12;
}

struct mmu_tlb {
	struct tlb_entry e[TLB_SIZE];
	uint64_t x_gpa[TLB_SIZE]; /* guest-physical page of e[i], where it has a tag */
	/*
	 * What e[i].x and x_gpa[i] say together as one word for translated code to compare: the
	 * number the translator has given this pair of pages, or 0. See translate/cache.h.
	 */
	uint32_t x_id[TLB_SIZE];
};

/* What the TLB holds in one slot, or held for another PCID; mmu/tlb.h. */
struct mmu_fill {
	uint64_t lin; /* of the page; enum fill_bits in bits 11:0 */
	uint64_t page, gpa;
	uint32_t x_id; /* while it is not in the TLB */
};

enum { MMU_PCIDS = 8, MMU_FILLS = 8192 };

/* The fills of one PCID, or of global pages. */
struct mmu_set {
	bool used;
	uint16_t pcid;
	uint32_t n;
	uint64_t walk_gen;	/* of its entries in mmu_cache.walk */
	uint64_t left_at;	/* ascending: when it was last switched away from */
	uint16_t reads, writes; /* protection keys with fills for either, maybe more: mmu/keys.c */
	struct mmu_fill fill[MMU_FILLS];
};

/* Where a walk can begin: an entry of a paging-structure cache; mmu/walk.c. */
struct mmu_walk_entry {
	uint64_t region; /* lin >> 21, or >> 22 in 32-bit paging */
	uint64_t gen;	 /* good while it is the current PCID's, or that of global pages */
	uint64_t base;	 /* host address of the page table, or guest-physical of a large page */
	uint64_t rights; /* enum walk_rights: the AND over the levels so far */
};

enum { MMU_WALKS = 128, MMU_RAM_RUNS = 3 };

/* Who wants to hear of accesses that the TLB does not answer: the translator's lock-step. */
struct vcpu;
struct mmu_trace {
	/* Before bytes of RAM are stored to; before an access to something else. */
	void (*store)(struct vcpu *v, uint64_t lin, uint8_t *host, unsigned len);
	void (*io)(struct vcpu *v);
	bool hold; /* fill no w tags */
};

/* The MMU's own: what it caches beside the TLB, and what it knows of the TLB's slots. */
struct mmu_cache {
	struct mmu_set *local; /* of the current PCID: one of pcid[] */
	struct mmu_set pcid[MMU_PCIDS];
	struct mmu_set global;
	/* By slot and context: the index of the slot's fill in local and in global, if that one's
	 * address says so. */
	uint16_t at_local[N_MMU_CTX * TLB_SIZE], at_global[N_MMU_CTX * TLB_SIZE];
	/* Sets by hash, which may say yes too often: large pages filled, by 2 MB and by 1 GB;
	 * pages with a w tag in any fill, by host address. */
	uint64_t large_2m[256], large_1g[64], stores[256];
	uint64_t walk_gen_global, last_gen; /* never 0 */
	uint64_t last_left;
	struct mmu_walk_entry walk[MMU_WALKS];
	struct mmu_trace *trace; /* or NULL */
	struct {
		uint64_t gpa, len;
		uint8_t *host;
	} ram[MMU_RAM_RUNS]; /* the last answers of board_mem_lookup() that were RAM */
};

/* Where an indirect branch goes on: the host address for an RIP. See translate/branch.c. */
struct jump_slot {
	uint64_t rip;
	const uint8_t *host;
};
/* What CPUID has answered; execute/cpuid.h. `state`: what the answer depends on, 0 of no answer. */
struct cpuid_answer {
	uint32_t leaf, subleaf, subleaf_mask, state;
	uint32_t out[4]; /* EAX, EBX, ECX, EDX */
};
enum { CPUID_LEAVES = 64, CPUID_SUBLEAVES = 8 };

enum { VCPU_GROUPS = 16, VCPU_WINDOWS = 16 };
enum { JUMP_CONTEXTS = 16, JUMP_SLOTS = 8192 };

/* What an instruction inhibits until its successor has ended. */
enum vcpu_shadow {
	SHADOW_STI = 1,	   /* interrupts and NMI */
	SHADOW_MOV_SS = 2, /* interrupts, NMI and debug traps */
};

struct insn;
struct trace;
struct board;
struct lapic;
struct interp;

/* XSAVE area in standard form: legacy region + header; the SSE part of it is the live XMM state. */
struct fx_area {
	uint16_t fcw, fsw;
	uint8_t ftw, rsvd0;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t rsvd[96];
} __attribute__((aligned(64)));

struct vcpu {
	/* Hot: registers. gpr[REG_NONE] == 0. */
	uint64_t gpr[N_GPR];
	/*
	 * Instruction pointer. Between instructions of a trace it is stale: the running
	 * instruction's is trace_rip + insn->off, see vcpu_insn_rip().
	 */
	uint64_t rip;
	uint64_t trace_rip;
	const struct insn *insn; /* the instruction that runs: set by whatever can fault or exit */
	/* Arithmetic flags as `lahf; seto %al` leaves them in AX: 15 SF, 14 ZF, 12 AF, 10 PF,
	 * 9 one, 8 CF, 0 OF. */
	uint16_t aflags;
	uint8_t cpl;
	uint8_t shadow; /* enum vcpu_shadow: inhibited until the next instruction ends */
	/*
	 * Instructions must run one at a time, between debug_insn_start() and debug_insn_end(): TF,
	 * RF, an enabled breakpoint, a pending debug trap. Kept by vcpu_update_req_mask().
	 */
	bool stepping;
	bool one_trace;	   /* the run loop wants every trace's end: the translator's */
	uint32_t rflags;   /* RFLAGS without the arithmetic bits; bit 1 set */
	uint32_t mode;	   /* MODE_*: decode and execution mode, part of a trace's key */
	uint32_t req_mask; /* bits of req that stop a run now: REQ_IRQ only with IF=1, no shadow */
	uint64_t seg_base[N_SEG + 1]; /* copy of seg[].base; [N_SEG] == 0 */
	struct mmu_tlb *tlb;	      /* &tlbs[mmu_ctx] */

	_Atomic uint32_t req;		/* enum vcpu_req; set by any thread */
	_Atomic uint32_t own_look;	/* where *look is on boards without a machine page */
	_Atomic uint32_t *look;		/* 1: something came; translated code looks here */
	_Atomic uint32_t *kick_summary; /* devices set bits here: see mobo/io.h */

	/* Between translated code and C: see translate/runtime.c. */
	uint64_t host_rsp;     /* C's stack pointer */
	uint64_t code_rsp;     /* translated code's: return addresses of the guest's calls */
	uint32_t returns_by;   /* RCX of a return that was not predicted: translate/branch.c */
	uint64_t event_arg;    /* RAX when the event was called */
	uint64_t event_result; /* RAX when it goes on */
	uint64_t event_resume; /* where */
	uint64_t event_scratch;
	uint64_t tsc_from_host;	       /* what makes the guest's TSC of the host's, while it runs */
	uint16_t event_flags;	       /* host EFLAGS, as aflags */
	uint32_t passes;	       /* left in a loop's fast copy: translate/windows.c */
	uint64_t window[VCPU_WINDOWS]; /* ... host less linear addresses */
	uint64_t group[VCPU_GROUPS];   /* host addresses: translate/groups.c */
	struct tlb_entry no_page;      /* of no address but one that is never canonical */
	uint8_t event_vectors;	       /* enum event_vectors */

	struct fx_area fx;				   /* x87, MXCSR, XMM: see execute/simd.h */
	uint8_t ymmh[16][16] __attribute__((aligned(64))); /* upper halves of the YMM registers */
	/*
	 * AVX-512: upper halves of ZMM0..15, ZMM16..31 whole, the opmask registers. zmm_used: some
	 * of it may not be in its initial configuration, all zeros.
	 */
	uint8_t zmmh[16][32], zmm16[16][64];
	uint64_t opmask[8];
	bool zmm_used;
	uint8_t bounce[64] __attribute__((aligned(64))); /* an operand not accessible in place */
	uint16_t x87_cs, x87_ds; /* selectors of the last x87 instruction and its operand */

	struct segment seg[N_SEG_ALL];
	struct desc_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
	uint64_t pkru, pkrs; /* 32 bits: mmu/keys.c */
	uint64_t dr[8];
	uint64_t pdpte[4]; /* PAE paging: loaded by MOV CR3 and friends */

	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t apic_base, pat, misc_enable, mtrr_def_type, mtrr_fix[11], mtrr_var[16];
	uint64_t tsc_offset, tsc_adjust, spec_ctrl;
	uint64_t mcg_status, mcg_ctl, mc_bank[4][4]; /* CTL, STATUS, ADDR, MISC of each bank */
	uint64_t feature_control, hwcr, debugctl;
	uint64_t kvm_system_time, kvm_wall_clock; /* see exits/clock.c */

	/* Events. */
	bool nmi_blocked; /* until IRET */
	bool nmi_pending;
	bool halted; /* HLT executed, not yet woken */
	bool wait_sipi;
	uint8_t sipi_vector;
	uint32_t n_pauses;   /* executed PAUSE instructions */
	bool shutdown;	     /* triple fault: nothing runs until reset */
	int delivering;	     /* exception being delivered, DELIVERING_INTERRUPT, or -1: for #DF */
	bool delivering_ext; /* EXT bit of error codes raised meanwhile */
	uint8_t n_nested;    /* exceptions raised while delivering one another */
	uint64_t pending_db; /* DR6 bits of debug traps to raise after the instruction */

	uint64_t n_insns; /* instructions retired, counted by whole traces */
	unsigned index;
	bool paravirt; /* the guest may know that it is one: execute/paravirt.c */
	struct board *board;
	struct lapic *lapic;
	struct interp *interp; /* trace cache */
	struct translator *translator;
	void (*state_fn)(struct vcpu *v, void *arg);
	void *state_arg;
	struct vcpu_debug debug;
	jmp_buf unwind; /* back to the run loop, registers committed or not as the raiser chose */
	struct cpuid_answer cpuid[CPUID_LEAVES * CPUID_SUBLEAVES];
	struct jump_slot jumps[JUMP_CONTEXTS][JUMP_SLOTS];
	struct mmu_tlb tlbs[N_MMU_CTX];
	uint32_t tlb_epoch; /* counts flushes and lost rights: a saved translation is good while it
			       stays */
	struct mmu_cache mmu;
};

#define DELIVERING_INTERRUPT 256 /* vcpu.delivering: an interrupt of either kind, benign */

/* Bits of vcpu.mode, all that decoding and handler choice depend on. */
enum {
	MODE_16 = 0,
	MODE_32 = 1,
	MODE_64 = 2,
	MODE_SIZE = 3,	    /* default operand/address size of CS */
	MODE_SS32 = 1 << 2, /* SS.B: ESP, not SP */
	MODE_PROT = 1 << 3, /* CR0.PE and not VM */
	MODE_V86 = 1 << 4,
	MODE_LMA = 1 << 5,  /* long mode active: 64-bit or compatibility */
	MODE_FLAT = 1 << 6, /* CS, DS, ES, SS have base 0 and no limit to check */
	MODE_USER = 1 << 7, /* CPL 3 */
	MODE_AMD = 1 << 8,  /* for the decoder, never in vcpu.mode: 66 on near branches counts */
};

/* Any thread. */
static inline void vcpu_request(struct vcpu *v, uint32_t bits)
{
	atomic_fetch_or(&v->req, bits);
	/* Masked bits are looked at when the mask changes, which reads req after that. */
	atomic_store(v->look, 1);
}

/*
 * Memory for a vCPU, zeroed, if possible in the lowest 2 GB, where translated code needs it to be.
 * Before it are two stacks, with a page without access below each: VCPU_SIGNAL_STACK bytes for host
 * signals and, right before it, VCPU_RETURNS bytes for the return addresses of translated code.
 * NULL: no memory.
 */
enum { VCPU_SIGNAL_STACK = 64 << 10, VCPU_RETURNS = 64 << 10, VCPU_GUARD = 4096 };
struct vcpu *vcpu_new(void);
void vcpu_free(struct vcpu *v);

#endif
