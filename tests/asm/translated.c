/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions as the translator makes code of them: each snippet runs from many random
 * states on the interpreter and translated, and all of the machine must be the same afterwards.
 * The interpreter's own tests say what is right. The seed is fixed.
 */
#include "translated_rig.h"

enum { ROUNDS = 120 };

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
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
