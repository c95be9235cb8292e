/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions as the translator makes code of them: each snippet runs from many random
 * states on the interpreter and translated, and all of the machine must be the same afterwards.
 * The interpreter's own tests say what is right. The seed is fixed.
 */
#include "two_rigs.h"

#include <x86intrin.h>

#include "translate/translate.h"

enum {
	ROUNDS = 120,
	DATA = 0x100000,    /* what RSI, RDI and RBX point near to */
	USER_AT = 0x200000, /* all memory again, for ring 3 */
	UNMAPPED = 0x600000,
	LSTAR = 0x3e000, /* INT 40 */
	IRQ = 0x41,
};

#define NOT_CANONICAL 0x8000000012345678ull

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static int set_up(void **state)
{
	(void)state;
	if (rigs_init()) {
		return -1;
	}
	rigs[1].v->translator->hot = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return rigs_finish();
}

/* -- one run -- */

/* What a snippet is run with. */
struct given {
	unsigned cpl;
	bool bits32;
	uint64_t gpr[16], rflags, cr4, base[3]; /* FS, GS, the kernel's GS */
	bool irq;
	uint64_t return_to; /* 0, or RCX */
};

static uint64_t near(uint64_t at)
{
	uint64_t r = next_random();

	/* Mostly plain, now and then over a page's end, or nowhere. */
	return r % 16 == 0 ? UNMAPPED : r % 8 == 1 ? at + 4096 - (r >> 8) % 9 : at + (r >> 8) % 64;
}

static struct given random_state_of(unsigned cpl, bool bits32)
{
	static const uint32_t odd[] = {FL_DF, FL_NT, FL_ID, FL_AC, 1 << 12, 3 << 12};
	uint64_t r = next_random(), user = cpl == 3 || (r >> 40) % 4 == 0 ? USER_AT : 0;
	struct given s = {.cpl = cpl, .bits32 = bits32};

	for (unsigned n = 0; n < 16; n++) {
		s.gpr[n] = n & 1 ? next_random() : next_random() >> next_random() % 64;
	}
	s.gpr[RSI] = near(DATA + user);
	s.gpr[RDI] = near(DATA + 0x4000 + user);
	s.gpr[RBX] = near(DATA + 0x8000 + user);
	s.gpr[RSP] = RIG_STACK + (cpl == 3 ? USER_AT : 0) + (r >> 48) % 8 * 4;
	s.rflags = (r & (FL_ARITH | FL_IF)) | FL_1;
	if ((r >> 16) % 4 == 0) {
		s.rflags |= odd[(r >> 20) % 6];
	}
	s.cr4 = CR4_PAE | CR4_OSFXSR | (r & CR4_TSD) | (r >> 24 & 7 ? CR4_FSGSBASE : 0) |
		((r >> 27) % 2 ? CR4_SMAP : 0);
	s.base[0] = DATA + (next_random() % 256) * 8;
	s.base[1] = DATA + (next_random() % 256) * 8;
	s.base[2] = next_random() >> 20;
	s.irq = (r >> 30) % 4 == 0;
	return s;
}

static void enter(struct rig *r, const struct given *s)
{
	struct vcpu *v = r->v;

	memset(r->board.ram + RIG_STACK - 0x2000, 0, 0x3000);
	memset(r->board.ram + RIG_STACK0 - 0x1000, 0, 0x2000);
	for (unsigned n = 0; n < 0xa000; n++) {
		r->board.ram[DATA + n] = (uint8_t)(n * 37 + n / 256);
	}
	/* The first 2 MB are ring 0's, but for 32-bit code, which runs without paging. */
	rig_poke64(r, RIG_PAGES + 0x2000, 0x83);
	rig_poke64(r, RIG_PAGES + 0x2008, 0x87);
	rig_tables(r, !s->bits32);
	rig_enter(r, !s->bits32, s->cpl);
	memcpy(v->gpr, s->gpr, sizeof(s->gpr));
	v->cr4 = s->bits32 ? CR4_OSFXSR : s->cr4;
	v->cr0 |= CR0_WP;
	v->cr2 = 0;
	v->kernel_gs_base = s->base[2];
	if (!s->bits32) {
		v->seg[SEG_FS].base = s->base[0];
		v->seg[SEG_GS].base = s->base[1];
	} else {
		for (unsigned n = 0; n < 16; n++) {
			v->gpr[n] = (uint32_t)v->gpr[n];
		}
	}
	v->tsc_aux = 7;
	v->sfmask = s->gpr[R8] & 0x7fd7;
	v->lstar = s->gpr[R9] & 7 ? LSTAR : s->gpr[R9] & 8 ? UNMAPPED : NOT_CANONICAL;
	v->efer &= s->gpr[R10] & 7 ? ~0ull : ~(uint64_t)EFER_SCE;
	if (s->return_to) {
		v->gpr[RCX] = s->return_to;
	}
	v->star = (uint64_t)RIG_CODE64 << 32 | (uint64_t)(RIG_DATA + 3 * 8 - 8 + 3) << 48;
	vcpu_set_rflags(v, s->rflags);
	vcpu_update_mode(v);
	atomic_store(&v->req, 0);
	r->board.irq = -1;
	if (s->irq) {
		fake_board_raise(v, IRQ);
	}
}

/* The vector whose handler halted, or how else it ended. */
static int run(struct rig *r, const struct given *s, const void *code, unsigned len)
{
	struct vcpu *v = r->v;
	enum mobo_exit exit;

	fake_board_engine = r->engine;
	enter(r, s);
	memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	memcpy(r->board.ram + RIG_INSN, code, len);
	memcpy(r->board.ram + RIG_INSN + len, "\xcd\x40", 2); /* INT 40 */
	memcpy(r->board.ram + LSTAR, "\x9c\xcd\x40", 3);      /* pushf; INT 40 */
	r->engine->map_changed(v);
	r->engine->code_written(v, RIG_INSN, 0x20000);
	v->rip = RIG_INSN + (s->cpl == 3 && !s->bits32 ? USER_AT : 0);
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
	exit = r->engine->run(v);
	if (exit != MOBO_EXIT_HALT) {
		return -(int)exit;
	}
	return (int)((v->rip - RIG_HANDLER) / 16);
}

/* The snippet and round under test, for messages. */
static unsigned snippet_number, round_number;

static void same(const char *what, uint64_t expected, uint64_t val)
{
	if (expected != val) {
		fail_msg("snippet %u, round %u: %s is %#llx, not %#llx", snippet_number,
			 round_number, what, (unsigned long long)val, (unsigned long long)expected);
	}
}

static void same_bytes(const char *what, const void *a_, const void *b_, unsigned len)
{
	const uint8_t *a = a_, *b = b_;

	for (unsigned n = 0; n < len; n++) {
		if (a[n] != b[n]) {
			fail_msg("snippet %u, round %u: %s + %#x is %#x, not %#x", snippet_number,
				 round_number, what, n, b[n], a[n]);
		}
	}
}

static void same_machine(const struct rig *a, const struct rig *b)
{
	static const char *const gpr[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
					  "R8",	 "R9",	"R10", "R11", "R12", "R13", "R14", "R15"};
	const struct vcpu *v = a->v, *w = b->v;

	for (unsigned n = 0; n < 16; n++) {
		same(gpr[n], v->gpr[n], w->gpr[n]);
	}
	same("RIP", v->rip, w->rip);
	same("RFLAGS", v->rflags, w->rflags);
	same("req_mask", v->req_mask, w->req_mask);
	same("CPL", v->cpl, w->cpl);
	same("the mode", v->mode, w->mode);
	same("CR2", v->cr2, w->cr2);
	same("the TLB context", (uint64_t)(v->tlb - v->tlbs), (uint64_t)(w->tlb - w->tlbs));
	same("the kernel's GS base", v->kernel_gs_base, w->kernel_gs_base);
	for (unsigned n = 0; n < N_SEG; n++) {
		same("a segment's base in use", v->seg_base[n], w->seg_base[n]);
		same("a segment's base", v->seg[n].base, w->seg[n].base);
		same("a selector", v->seg[n].selector, w->seg[n].selector);
		same("a limit", v->seg[n].limit, w->seg[n].limit);
		same("attributes", v->seg[n].attr, w->seg[n].attr);
	}
	same("MXCSR", v->fx.mxcsr, w->fx.mxcsr);
	same_bytes("XMM", v->fx.xmm, w->fx.xmm, sizeof(v->fx.xmm));
	same_bytes("YMM", v->ymmh, w->ymmh, sizeof(v->ymmh));
	same_bytes("stack", a->board.ram + RIG_STACK - 0x2000, b->board.ram + RIG_STACK - 0x2000,
		   0x13000);
	same_bytes("data", a->board.ram + DATA, b->board.ram + DATA, 0xa000);
	same("interrupts", a->board.n_acks, b->board.n_acks);
}

static void compare(const struct given *s, const void *code, unsigned len)
{
	int vector[2];

	for (unsigned n = 0; n < 2; n++) {
		vector[n] = run(&rigs[n], s, code, len);
	}
	same("the outcome", (uint64_t)vector[0], (uint64_t)vector[1]);
	same_machine(&rigs[0], &rigs[1]);
}

/* -- snippets -- */

struct snippet {
	const char *code;
	unsigned len;
};

#define CODE(bytes)                      \
	{                                \
		bytes, sizeof(bytes) - 1 \
	}

static void compare_all(const struct snippet *s, unsigned n, unsigned cpl, bool bits32,
			uint64_t return_to)
{
	for (unsigned k = 0; k < n; k++) {
		for (unsigned round = 0; round < ROUNDS; round++) {
			struct given given = random_state_of(cpl, bits32);

			snippet_number = k;
			round_number = round;
			given.return_to = return_to;
			compare(&given, s[k].code, s[k].len);
		}
	}
}

#define COMPARE_ALL(table, cpl, bits32) \
	compare_all(table, sizeof(table) / sizeof((table)[0]), cpl, bits32, 0)
#define COMPARE_RETURNS(to)                                                                       \
	compare_all(system_returns, sizeof(system_returns) / sizeof(system_returns[0]), 0, false, \
		    to)

/* Flags, before and behind which arithmetic flags matter. */
static const struct snippet flag_snippets[] = {
	CODE("\x9c\x58"),				  /* pushf; pop rax */
	CODE("\x48\x01\xca\x9c\x9d\x73\x01\x90"),	  /* add; pushf; popf; jnc */
	CODE("\x50\x9d\x9c"),				  /* push rax; popf; pushf */
	CODE("\x52\x9d\x0f\x92\xc0"),			  /* push rdx; popf; setc al */
	CODE("\x9c\x81\x34\x24\x00\x02\x00\x00\x9d\x90"), /* pushf; xor [rsp], IF; popf; nop */
	CODE("\x9c\x81\x34\x24\x95\x08\x00\x00\x9d\x90"), /* the same with arithmetic flags */
	CODE("\x9c\x81\x34\x24\x00\x00\x20\x00\x9d\x90"), /* ID */
	CODE("\x48\x01\xca\xfc\x72\x01\x90"),		  /* add; cld; jc */
	CODE("\x48\x01\xca\xfd\x72\x01\x90"),		  /* add; std; jc */
};

static const struct snippet interrupt_snippets[] = {
	CODE("\xfa\x90\x90"),					  /* cli */
	CODE("\x48\x01\xca\xfa\x72\x01\x90"),			  /* add; cli; jc */
	CODE("\xfb\x90\x90\x90"),				  /* sti; nop; nop */
	CODE("\x48\x01\xca\xfb\x72\x01\x90\x90"),		  /* add; sti; jc */
	CODE("\xfb"),						  /* sti; int */
	CODE("\xfb\xf4"),					  /* sti; hlt */
	CODE("\xfb\xfa\x90"),					  /* sti; cli */
	CODE("\xfb\xfb\x90\x90"),				  /* sti; sti */
	CODE("\xfb\x8a\x06\x90"),				  /* sti; mov al, [rsi] */
	CODE("\xfa\x90\xfb\xeb\x00\x90"),			  /* cli; nop; sti; jmp */
	CODE("\x9c\xfa\x9d\x90\x90"),				  /* pushf; cli; popf */
	CODE("\x9c\x58\xfa\xa9\x00\x02\x00\x00\x74\x01\xfb\x90"), /* as local_irq_restore() */
};

static const struct snippet kernel_snippets[] = {
	CODE("\x0f\x01\xf8"), /* swapgs */
	CODE("\x48\x01\xca\x0f\x01\xf8\x65\x48\x8b\x04\x25\0\0\0\0\x72\x01\x90"),
	CODE("\x0f\x20\xc0\x0f\x20\xda\x41\x0f\x20\xe6\x0f\x20\xd1"), /* mov from CR0, 3, 4, 2 */
};

static const struct snippet system_calls[] = {
	CODE("\x48\x01\xca\x0f\x05"), /* add; syscall */
};

static const struct snippet system_returns[] = {
	CODE("\x48\x01\xca\x48\x0f\x07"),		  /* add; sysret */
	CODE("\x41\x81\xe3\xd7\x0e\x20\x00\x48\x0f\x07"), /* no TF, AC and kin in R11 */
};

/* With user pages at RSI and the like now and then. */
static const struct snippet access_snippets[] = {
	CODE("\x0f\x01\xcb\x8a\x06\x0f\x01\xca\x8a\x06"), /* stac; mov al, [rsi]; clac; mov */
	CODE("\x0f\x01\xca\x88\x07\x0f\x01\xcb\x88\x07"), /* clac; mov [rdi], al; stac; mov */
	CODE("\x48\x01\xca\x0f\x01\xcb\x72\x03\x0f\x01\xca\x8a\x06"), /* add; stac; jc */
	CODE("\x0f\x01\xcb\x9c\xfa\x9d\x0f\x01\xca\x9c"), /* stac; pushf; cli; popf; clac */
	CODE("\x0f\x01\xcb\x0f\x01\xcb\x0f\x01\xca\x0f\x01\xca\x88\x07"),
};

static const struct snippet string_snippets[] = {
	CODE("\x81\xe1\xff\x07\x00\x00\xf3\xa4\x90"), /* and ecx, 7ff; rep movsb */
	CODE("\x0f\xb6\xc9\x48\x8d\x7e\x02\xf3\xa4"), /* overlapping: lea rdi, [rsi + 2] */
	CODE("\x81\xe1\xff\x03\x00\x00\xf3\xab"),     /* rep stosd */
	CODE("\x81\xe1\xff\x03\x00\x00\x01\xc2\x66\xf3\xab\x72\x01\x90"), /* rep stosw */
	CODE("\xa4"),							  /* movsb */
	CODE("\xa5\xa5\xaa\xab\xac\xad"), /* movsd; movsd; stosb; stosd; lodsb; lodsd */
	CODE("\x66\xa5\x66\xab\x66\xad"), /* words */
	CODE("\x01\xca\xa4\x72\x01\x90"), /* add edx, ecx; movsb; jc */
	CODE("\x81\xe2\xff\x0f\x00\x00\x0f\xa3\x13\x0f\xab\x13\x0f\xb3\x53\x04"), /* bt.. [rbx] */
	CODE("\x66\x0f\xbb\x13"), /* btc word [rbx], dx: 16-bit signed offset */
	CODE("\x01\xca\x81\xe2\xff\x07\x00\x00\x39\xc8\xf0\x0f\xab\x13\x9c"), /* lock bts */
};

static const struct snippet long_string_snippets[] = {
	CODE("\x81\xe1\xff\x03\x00\x00\xf3\x48\xa5"),		  /* and ecx, 3ff; rep movsq */
	CODE("\x81\xe1\x0f\x02\x00\x00\xf3\x48\xab\xf3\xa4"),	  /* rep stosq; rep movsb */
	CODE("\x48\xa5\x48\xab\x48\xad"),			  /* quadwords */
	CODE("\x48\x0f\xbf\xd2\x48\x0f\xa3\x13\x48\x0f\xb3\x13"), /* movsx rdx, dx; bt; btr */
	CODE("\x4d\x0f\xbf\xf6\x4c\x0f\xbb\x33"), /* movsx r14, r14w; btc [rbx], r14 */
};

static const struct snippet plain_snippets[] = {
	CODE("\x0f\xae\xe8\x0f\xae\xf0\x0f\xae\xf8"), /* fences */
	CODE("\x8c\xd8\x66\x8c\xd1\x8c\xe2"),	      /* mov eax, ds; cx, ss; edx, fs */
	CODE("\x8c\x1e"),			      /* mov [rsi], ds */
};

static const struct snippet long_snippets[] = {
	CODE("\x48\x8c\xd8\x41\x8c\xd6\x66\x41\x8c\xee"), /* mov rax, ds; r14d, ss; r14w, gs */
	CODE("\xf3\x48\x0f\xae\xc0\xf3\x41\x0f\xae\xce"), /* rdfsbase rax; rdgsbase r14d */
	CODE("\xf3\x48\x0f\xae\xd0\xf3\x48\x0f\xae\xda"), /* wrfsbase rax; wrgsbase rdx */
	CODE("\xf3\x0f\xae\xd0\xf3\x41\x0f\xae\xde\x64\x8a\x0c\x25\0\0\0\0"), /* 32 bits */
};

/* Loops through memory, over pages' ends; each gets a fast copy. */
static const struct snippet loop_snippets[] = {
	/* mov ecx, 800h; mov al, [rsi]; mov [rdi], al; inc rsi; inc rdi; dec ecx; jnz */
	CODE("\xb9\0\x08\0\0\x8a\x06\x88\x07\x48\xff\xc6\x48\xff\xc7\xff\xc9\x75\xf2"),
	/* xor edx, edx; mov eax, [rsi + rdx*4]; add [rdi + rdx*4], eax; add edx, 1; cmp; jnz */
	CODE("\x31\xd2\x8b\x04\x96\x01\x04\x97\x83\xc2\x01\x81\xfa\0\x03\0\0\x75\xef"),
	/* mov edx, 2ffh; movsxd rax, edx; movzx ecx, [rsi + rax]; add [rdi + rax], cl; dec; jns */
	CODE("\xba\xff\x02\0\0\x48\x63\xc2\x0f\xb6\x0c\x06\x00\x0c\x07\xff\xca\x79\xf2"),
	/* mov ecx, 400h; mov al, [rsi]; test al, 1; jz; inc rdi; mov [rdi], al; inc rsi; dec; jnz
	 */
	CODE("\xb9\0\x04\0\0\x8a\x06\xa8\x01\x74\x03\x48\xff\xc7\x88\x07\x48\xff\xc6\xff"
	     "\xc9\x75\xee"),
	/* mov ecx, 200h; clc; adc rax, [rsi]; lea rsi, [rsi + 8]; loop */
	CODE("\xb9\0\x02\0\0\xf8\x48\x13\x06\x48\x8d\x76\x08\xe2\xf7"),
	/* mov ecx, 200h; add r14, [rsi]; xor r15, r14; mov r11, r15; mov [rdi], r11; add rsi, 24;
	 * add rdi, 16; dec ecx; jnz */
	CODE("\xb9\0\x02\0\0\x4c\x03\x36\x4d\x31\xf7\x4d\x89\xfb\x4c\x89\x1f\x48\x83\xc6\x18"
	     "\x48\x83\xc7\x10\xff\xc9\x75\xe8"),
};

static bool has_fast_copy(void)
{
	const struct translator *x = rigs[1].v->translator;

	for (unsigned n = 0; n < x->n_regions; n++) {
		if (x->regions[n]->loop && !x->regions[n]->dead) {
			return true;
		}
	}
	return false;
}

static void loops_are_the_interpreters(void **state)
{
	(void)state;
	rigs[1].v->translator->hot = 4; /* when all of the loop has been interpreted */
	for (unsigned k = 0; k < sizeof(loop_snippets) / sizeof(loop_snippets[0]); k++) {
		struct given given = random_state_of(0, false);

		given.irq = false;
		given.rflags = FL_1;
		given.gpr[RSI] = DATA + 5;
		given.gpr[RDI] = DATA + 0x4ffd;
		run(&rigs[1], &given, loop_snippets[k].code, loop_snippets[k].len);
		snippet_number = k;
		same("a fast copy", true, has_fast_copy());
	}
	COMPARE_ALL(loop_snippets, 0, false);
	COMPARE_ALL(loop_snippets, 3, false);
	rigs[1].v->translator->hot = 0;
}

/* Of what was translated for the snippet that ran last: is nothing but INT 40 interpreted? */
static bool was_native(unsigned len)
{
	const struct translator *x = rigs[1].v->translator;

	for (unsigned n = 0; n < x->n_regions; n++) {
		const struct region *r = x->regions[n];

		for (unsigned k = 0; k < r->n_insns && !r->dead; k++) {
			if (r->gpa + r->at[k] - RIG_INSN < len && r->form[k].kind <= FORM_END) {
				return false;
			}
		}
	}
	return true;
}

static void all_native(const struct snippet *s, unsigned n, unsigned cpl)
{
	for (unsigned k = 0; k < n; k++) {
		struct given given = random_state_of(cpl, false);

		given.irq = false;
		given.rflags = FL_1;
		run(&rigs[1], &given, s[k].code, s[k].len);
		snippet_number = k;
		same("native", true, was_native(s[k].len));
	}
}

#define ALL_NATIVE(table, cpl) all_native(table, sizeof(table) / sizeof((table)[0]), cpl)

static void flags_are_the_interpreters(void **state)
{
	(void)state;
	ALL_NATIVE(flag_snippets, 0);
	ALL_NATIVE(flag_snippets, 3);
	COMPARE_ALL(flag_snippets, 0, false);
	COMPARE_ALL(flag_snippets, 3, false);
	COMPARE_ALL(flag_snippets, 0, true);
	COMPARE_ALL(flag_snippets, 3, true);
}

static void interrupts_come_where_the_interpreter_takes_them(void **state)
{
	(void)state;
	COMPARE_ALL(interrupt_snippets, 0, false);
	COMPARE_ALL(interrupt_snippets, 3, false);
	COMPARE_ALL(interrupt_snippets, 0, true);
	COMPARE_ALL(interrupt_snippets, 3, true);
}

static void registers_are_the_interpreters(void **state)
{
	(void)state;
	ALL_NATIVE(kernel_snippets, 0);
	ALL_NATIVE(plain_snippets, 3);
	ALL_NATIVE(long_snippets, 3);
	COMPARE_ALL(kernel_snippets, 0, false);
	COMPARE_ALL(kernel_snippets, 3, false);
	COMPARE_ALL(plain_snippets, 0, false);
	COMPARE_ALL(plain_snippets, 3, false);
	COMPARE_ALL(plain_snippets, 0, true);
	COMPARE_ALL(long_snippets, 0, false);
	COMPARE_ALL(long_snippets, 3, false);
}

static void user_pages_are_reached_between_stac_and_clac(void **state)
{
	(void)state;
	ALL_NATIVE(access_snippets, 0);
	COMPARE_ALL(access_snippets, 0, false);
	COMPARE_ALL(access_snippets, 3, false);
	COMPARE_ALL(access_snippets, 0, true);
}

static void system_calls_enter_and_leave_as_interpreted(void **state)
{
	(void)state;
	ALL_NATIVE(system_calls, 3);
	ALL_NATIVE(system_returns, 0);
	COMPARE_ALL(system_calls, 3, false);
	for (unsigned n = 0; n < 4; n++) {
		COMPARE_RETURNS(USER_AT + LSTAR);
	}
	COMPARE_RETURNS(NOT_CANONICAL);
	COMPARE_RETURNS(UNMAPPED);
	COMPARE_ALL(system_calls, 0, false);
	compare_all(system_returns, 2, 3, false, UNMAPPED);
	COMPARE_ALL(system_calls, 3, true);
}

static void strings_are_the_interpreters(void **state)
{
	(void)state;
	ALL_NATIVE(string_snippets, 3);
	ALL_NATIVE(long_string_snippets, 0);
	COMPARE_ALL(string_snippets, 0, false);
	COMPARE_ALL(string_snippets, 3, false);
	COMPARE_ALL(string_snippets, 3, true);
	COMPARE_ALL(long_string_snippets, 0, false);
	COMPARE_ALL(long_string_snippets, 3, false);
}

/* HLT stops also where what follows it has been translated. */
static void hlt_halts_before_translated_code(void **state)
{
	struct rig *r = &rigs[1];
	struct given s = random_state_of(0, false);

	(void)state;
	s.irq = false;
	run(r, &s, "\xfb\xf4\x90", 3); /* sti; hlt; nop */
	enter(r, &s);
	r->v->rip = RIG_INSN + 2;
	r->v->halted = false;
	assert_int_equal(r->engine->run(r->v), MOBO_EXIT_HALT);
	enter(r, &s);
	r->v->rip = RIG_INSN;
	r->v->halted = false;
	assert_int_equal(r->engine->run(r->v), MOBO_EXIT_HALT);
	assert_int_equal(r->v->rip, RIG_INSN + 2);
	assert_true(r->v->halted);
}

/*
 * XSETBV lets AVX in while translated code runs: upper halves are the guest's from there on. What
 * follows it is translated already when it runs.
 */
static void upper_halves_are_kept_from_xsetbv_on(void **state)
{
	/* xsetbv; vpcmpeqd ymm1, ymm1, ymm1; hlt */
	static const uint8_t code[] = "\x0f\x01\xd1\xc5\xf5\x76\xc9\xf4";
	struct rig *r = &rigs[1];
	struct given s = random_state_of(0, false);

	(void)state;
	if (!__builtin_cpu_supports("avx2")) {
		return;
	}
	s.irq = false;
	s.gpr[RAX] = 7;
	s.gpr[RCX] = s.gpr[RDX] = 0;
	s.cr4 |= CR4_OSXSAVE;
	for (unsigned n = 0; n < 3; n++) { /* from its second instruction; whole, twice */
		r->v->xcr0 = n ? 1 : 7;
		memset(r->v->ymmh, 0, sizeof(r->v->ymmh));
		if (n == 0) {
			run(r, &s, code, sizeof(code) - 1);
			r->v->xcr0 = 7;
		}
		enter(r, &s);
		r->v->rip = RIG_INSN + (n ? 0 : 3);
		r->v->halted = false;
		assert_int_equal(r->engine->run(r->v), MOBO_EXIT_HALT);
		assert_int_equal(r->v->ymmh[1][15], 0xff);
	}
	r->v->xcr0 = 1;
	memset(r->v->ymmh, 0, sizeof(r->v->ymmh));
	memset(r->v->fx.xmm, 0, sizeof(r->v->fx.xmm));
	memset(rigs[0].v->fx.xmm, 0, sizeof(rigs[0].v->fx.xmm));
}

/* The TSC is read natively: it lies between the host's before and after, plus the offset. */
static void tsc_is_the_hosts_plus_offsets(void **state)
{
	static const char *const code[] = {"\x0f\x31", "\x0f\x01\xf9"};
	struct rig *r = &rigs[1];

	(void)state;
	r->board.host_tsc = true;
	r->board.tsc = 1ull << 50;
	for (unsigned n = 0; n < 4; n++) {
		struct given s = random_state_of(n & 2 ? 3 : 0, false);
		uint64_t before = __rdtsc(), after, tsc;
		int vector;

		s.irq = false;
		s.cr4 &= ~(uint64_t)CR4_TSD;
		r->v->tsc_offset = 12345;
		vector = run(r, &s, code[n & 1], 2 + (n & 1));
		after = __rdtsc();
		tsc = (uint32_t)r->v->gpr[RAX] | r->v->gpr[RDX] << 32;
		assert_int_equal(vector, 0x40);
		assert_in_range(tsc, before + (1ull << 50) + 12345, after + (1ull << 50) + 12345);
		if (n & 1) {
			assert_int_equal(r->v->gpr[RCX], 7);
		}
		s.cr4 |= CR4_TSD;
		vector = run(r, &s, code[n & 1], 2 + (n & 1));
		assert_int_equal(vector, n & 2 ? VEC_GP : 0x40);
	}
	r->v->tsc_offset = 0;
	r->board.host_tsc = false;
}

static void raise_irq(struct board *b, uint64_t gpa, unsigned size, uint64_t val)
{
	(void)b;
	(void)gpa;
	(void)size;
	(void)val;
	fake_board_raise(rigs[1].v, IRQ);
}

/* As the local APIC does when it is told to interrupt its own CPU. */
static void an_interrupt_by_a_store_comes_behind_the_store(void **state)
{
	static const uint8_t code[] =
		"\x89\x05\0\0\x30\0\x40\x40"; /* mov [300000], eax; inc eax; inc */
	struct given s = {.bits32 = true, .rflags = FL_1 | FL_IF, .gpr[RSP] = RIG_STACK};

	(void)state;
	rigs[1].board.mmio_write = raise_irq;
	assert_int_equal(run(&rigs[1], &s, code, sizeof(code) - 1), IRQ);
	rigs[1].board.mmio_write = NULL;
	assert_int_equal(rigs[1].v->gpr[RAX], 0);
	assert_int_equal(rig_peek(&rigs[1], (uint32_t)rigs[1].v->gpr[RSP], 4), RIG_INSN + 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_are_the_interpreters),
		cmocka_unit_test(interrupts_come_where_the_interpreter_takes_them),
		cmocka_unit_test(registers_are_the_interpreters),
		cmocka_unit_test(user_pages_are_reached_between_stac_and_clac),
		cmocka_unit_test(system_calls_enter_and_leave_as_interpreted),
		cmocka_unit_test(strings_are_the_interpreters),
		cmocka_unit_test(loops_are_the_interpreters),
		cmocka_unit_test(hlt_halts_before_translated_code),
		cmocka_unit_test(upper_halves_are_kept_from_xsetbv_on),
		cmocka_unit_test(tsc_is_the_hosts_plus_offsets),
		cmocka_unit_test(an_interrupt_by_a_store_comes_behind_the_store),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
