/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The integer interpreter by small guest programs: 16-bit real mode and flat 32-bit mode, faults,
 * strings, self-modifying code, interrupts, single steps. What instructions compute is compared
 * with the host by fuzz_encodings; here is what a user-mode comparison cannot see. Expected values
 * are from the Intel SDM.
 *
 * Programs run from CODE until HLT. Interrupt vector n has its handler, an IRET (or a HLT), at
 * HANDLERS + n; the programs are assembled into this file's read-only data.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "execute/execute.h"
#include "fake_board.h"

enum {
	GDT = 0x600,
	IDT32 = 0x800,
	HANDLERS = 0x1800,
	CODE = 0x7c00,
	STACK = 0x7000,
	DATA = 0x10000,
	RAM = 0x200000,
};

/* PROGRAM(name, "bits", "text"): its bytes are name to name_end. */
#define PROGRAM(name, bits, text)                                               \
	asm(".pushsection .rodata\n.code" bits "\n" #name ":\n" text "\n" #name \
	    "_end:\n.code64\n.popsection\n");                                   \
	extern const uint8_t name[], name##_end[]

struct machine {
	struct board board;
	struct vcpu *v;
};

static void machine_init(struct machine *m)
{
	assert_int_equal(fake_board_init(&m->board, RAM), 0);
	m->v = fake_board_add_vcpu(&m->board);
	assert_non_null(m->v);
	m->board.arg = m;
}

static void set_segment(struct vcpu *v, enum seg seg, uint16_t selector, uint32_t limit,
			uint32_t attr)
{
	v->seg[seg].selector = selector;
	v->seg[seg].base = attr & SEG_DB ? 0 : (uint32_t)selector << 4;
	v->seg[seg].limit = limit;
	v->seg[seg].attr = attr;
}

/* Real mode, all segments at 0. */
static void enter_real(struct machine *m, const uint8_t *code, const uint8_t *end)
{
	struct vcpu *v = m->v;

	machine_init(m);
	v = m->v;
	memcpy(m->board.ram + CODE, code, (size_t)(end - code));
	for (unsigned n = 0; n < 256; n++) {
		uint32_t handler = HANDLERS + n;

		memcpy(m->board.ram + n * 4, &handler, 4);
		m->board.ram[HANDLERS + n] = n < 32 && n != 1 && n != 3 ? 0xf4 : 0xcf;
	}
	set_segment(v, SEG_CS, 0, 0xffff, SEG_P | SEG_S | SEG_TYPE_CODE | 3);
	for (unsigned s = 0; s < N_SEG; s++) {
		if (s != SEG_CS) {
			set_segment(v, s, 0, 0xffff, SEG_P | SEG_S | 3);
		}
	}
	v->idtr = (struct desc_table){0, 0x3ff};
	v->gpr[RSP] = STACK;
	v->rip = CODE;
	vcpu_update_mode(v);
}

/* Flat 32-bit mode, ring 0, no paging. */
static void enter_flat32(struct machine *m, const uint8_t *code, const uint8_t *end)
{
	const uint64_t gdt[3] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	struct vcpu *v;

	enter_real(m, code, end);
	v = m->v;
	memcpy(m->board.ram + GDT, gdt, sizeof(gdt));
	for (unsigned n = 0; n < 256; n++) {
		uint64_t gate = (HANDLERS + n) | 8u << 16 | UINT64_C(0x8e00) << 32;

		memcpy(m->board.ram + IDT32 + n * 8, &gate, 8);
	}
	v->gdtr = (struct desc_table){GDT, sizeof(gdt) - 1};
	v->idtr = (struct desc_table){IDT32, 0x7ff};
	v->cr0 |= CR0_PE;
	for (unsigned s = 0; s < N_SEG; s++) {
		set_segment(v, s, s == SEG_CS ? 8 : 16, UINT32_MAX,
			    SEG_P | SEG_S | SEG_G | SEG_DB | 3 | (s == SEG_CS ? SEG_TYPE_CODE : 0));
	}
	vcpu_update_mode(v);
}

static void leave(struct machine *m)
{
	fake_board_finish(&m->board);
}

static void run_to_halt(struct machine *m)
{
	assert_int_equal(mobo_engine_interpreter.run(m->v), MOBO_EXIT_HALT);
}

static uint32_t peek(struct machine *m, uint32_t gpa, unsigned size)
{
	uint32_t val = 0;

	memcpy(&val, m->board.ram + gpa, size);
	return val;
}

/* Stopped in the handler of `vector`, its frame returning to `ip`. */
static void assert_real_fault(struct machine *m, unsigned vector, uint32_t ip)
{
	assert_int_equal(m->v->rip, HANDLERS + vector + 1);
	assert_int_equal(peek(m, (uint32_t)m->v->gpr[RSP], 2), ip);
}

PROGRAM(calls, "16",
	"mov $5, %cx\n xor %ax, %ax\n 1: call 2f\n loop 1b\n hlt\n 2: add %cx, %ax\n ret");

static void calls_and_loops_return(void **state)
{
	struct machine m;

	enter_real(&m, calls, calls_end);
	run_to_halt(&m);
	assert_int_equal(m.v->gpr[RAX], 15);
	assert_int_equal(m.v->gpr[RSP], STACK);
	assert_int_equal(m.v->n_insns, 2 + 5 * 4 + 1);
	leave(&m);
}

PROGRAM(wrap, "16", "xor %sp, %sp\n mov $0x1234, %ax\n push %ax\n push $0x77\n pop %bx\n hlt");

static void stack_pointer_wraps_at_64k(void **state)
{
	struct machine m;

	enter_real(&m, wrap, wrap_end);
	m.v->gpr[RSP] = 0xabcd0000;
	run_to_halt(&m);
	assert_int_equal(peek(&m, 0xfffe, 2), 0x1234);
	assert_int_equal(m.v->gpr[RBX], 0x77);
	assert_int_equal(m.v->gpr[RSP], 0xabcdfffe); /* the upper half is not SP's */
	leave(&m);
}

PROGRAM(word_at_end, "16", "mov $0xffff, %bx\n mov (%bx), %ax\n hlt");

static void word_beyond_the_limit_faults(void **state)
{
	struct machine m;

	enter_real(&m, word_at_end, word_at_end_end);
	run_to_halt(&m);
	assert_real_fault(&m, VEC_GP, CODE + 3);
	leave(&m);
}

PROGRAM(divides, "16", "mov $0x8000, %ax\n mov $0xffff, %dx\n mov $0xffff, %cx\n idiv %cl\n hlt");

static void quotient_overflow_faults_at_the_division(void **state)
{
	struct machine m;

	enter_real(&m, divides, divides_end);
	run_to_halt(&m);
	assert_real_fault(&m, VEC_DE, CODE + 9);
	assert_int_equal(m.v->gpr[RAX] & 0xffff, 0x8000);
	leave(&m);
}

PROGRAM(string_wrap, "16",
	"mov $0xfffe, %di\n mov $4, %cx\n mov $0xaa, %al\n cld\n rep stosb\n hlt");

static void string_wraps_at_64k(void **state)
{
	struct machine m;

	enter_real(&m, string_wrap, string_wrap_end);
	m.v->seg[SEG_ES].base = DATA;
	vcpu_update_mode(m.v);
	run_to_halt(&m);
	assert_int_equal(peek(&m, DATA + 0xfffe, 2), 0xaaaa);
	assert_int_equal(peek(&m, DATA, 4), 0xaaaa);
	assert_int_equal(m.v->gpr[RDI], 2);
	assert_int_equal(m.v->gpr[RCX], 0);
	leave(&m);
}

PROGRAM(overlap, "16",
	"mov $0x8000, %si\n mov $0x8001, %di\n mov $300, %cx\n movb $0x5a, (%si)\n"
	"rep movsb\n std\n mov $0x9003, %si\n mov $0x9005, %di\n mov $4, %cx\n rep movsb\n hlt");

static void overlapping_moves_go_byte_by_byte(void **state)
{
	struct machine m;

	enter_real(&m, overlap, overlap_end);
	memcpy(m.board.ram + 0x9000, "abcd", 4);
	run_to_halt(&m);
	for (unsigned k = 0; k <= 300; k++) {
		assert_int_equal(m.board.ram[0x8000 + k], 0x5a);
	}
	assert_memory_equal(m.board.ram + 0x9000, "ababcd", 6);
	assert_int_equal(m.v->gpr[RSI], 0x8fff);
	leave(&m);
}

PROGRAM(scan, "16",
	"mov $0x8000, %di\n mov $100, %cx\n mov $'x', %al\n repne scasb\n mov %cx, %dx\n"
	"mov $0x8000, %si\n mov $0x9000, %di\n mov $100, %cx\n repe cmpsb\n hlt");

static void scans_stop_behind_the_element(void **state)
{
	struct machine m;

	enter_real(&m, scan, scan_end);
	m.board.ram[0x8000 + 41] = 'x';
	run_to_halt(&m);
	assert_int_equal(m.v->gpr[RDX] & 0xffff, 100 - 42);
	assert_int_equal(m.v->gpr[RCX], 100 - 42);
	assert_int_equal(m.v->gpr[RDI], 0x9000 + 42);
	assert_int_equal(vcpu_rflags(m.v) & (FL_ZF | FL_CF), 0); /* 'x' - 0 */
	leave(&m);
}

/* The store changes the immediate of the instruction after the next, in the same trace. */
PROGRAM(patch_ahead, "16", "movb $9, 1f+1-patch_ahead+0x7c00\n nop\n 1: mov $1, %al\n hlt");

static void store_changes_the_next_instructions(void **state)
{
	struct machine m;

	enter_real(&m, patch_ahead, patch_ahead_end);
	run_to_halt(&m);
	assert_int_equal(m.v->gpr[RAX] & 0xff, 9);
	leave(&m);
}

PROGRAM(patch_loop, "16",
	"mov $100, %cx\n xor %bx, %bx\n 1: incb 3f+1-patch_loop+0x7c00\n"
	"3: mov $0, %al\n xor %ah, %ah\n add %ax, %bx\n loop 1b\n hlt");

static void loop_sees_every_patch_of_itself(void **state)
{
	struct machine m;

	enter_real(&m, patch_loop, patch_loop_end);
	run_to_halt(&m);
	assert_int_equal(m.v->gpr[RBX], 5050);
	leave(&m);
}

/* Bytes next to code, in another 64-byte line and in the same, are data. */
PROGRAM(counter, "16",
	"mov $50, %cx\n 1: incw 0x7cc0\n incw 2f-counter+0x7c00\n loop 1b\n hlt\n"
	"2: .word 0");

static void data_beside_code_is_data(void **state)
{
	struct machine m;

	enter_real(&m, counter, counter_end);
	run_to_halt(&m);
	assert_int_equal(peek(&m, 0x7cc0, 2), 50);
	assert_int_equal(peek(&m, CODE + 3 + 4 + 4 + 2 + 1, 2), 50);
	leave(&m);
}

static uint32_t read_and_raise(struct board *b, uint16_t port, unsigned size)
{
	fake_board_raise(b->vcpu[0], 0x40);
	return port & 0xff;
}

PROGRAM(ins, "16", "sti\n mov $0x33, %dx\n mov $0x8000, %di\n mov $3, %cx\n rep insb\n hlt");

static void interrupt_leaves_a_repeated_instruction_restartable(void **state)
{
	struct machine m;

	enter_real(&m, ins, ins_end);
	m.board.pio_read = read_and_raise;
	m.board.ram[HANDLERS + 0x40] = 0xf4; /* HLT, then IRET */
	m.board.ram[HANDLERS + 0x41] = 0xcf;
	set_segment(m.v, SEG_ES, 0x1000, 0xffff, SEG_P | SEG_S | 3);
	m.v->rflags |= FL_DF; /* descending: element by element */
	vcpu_update_mode(m.v);
	run_to_halt(&m);
	assert_int_equal(m.v->rip, HANDLERS + 0x41);
	assert_int_equal(peek(&m, (uint32_t)m.v->gpr[RSP], 2), CODE + 10); /* the REP again */
	assert_int_equal(m.v->gpr[RCX], 2);
	assert_int_equal(m.v->gpr[RDI], 0x7fff);
	assert_int_equal(m.board.ram[0x18000], 0x33);
	leave(&m);
}

PROGRAM(window, "16", "mov $0, %ax\n sti\n inc %ax\n cli\n inc %ax\n hlt");

static void interrupt_comes_after_the_instruction_after_sti(void **state)
{
	struct machine m;

	enter_real(&m, window, window_end);
	m.board.ram[HANDLERS + 0x40] = 0xf4;
	fake_board_raise(m.v, 0x40);
	run_to_halt(&m);
	assert_int_equal(m.v->rip, HANDLERS + 0x41);
	assert_int_equal(m.v->gpr[RAX], 1);
	assert_int_equal(peek(&m, (uint32_t)m.v->gpr[RSP], 2), CODE + 5);
	leave(&m);
}

PROGRAM(masked, "16", "cli\n mov $3, %cx\n 1: loop 1b\n hlt");

static void masked_interrupt_stays_pending(void **state)
{
	struct machine m;

	enter_real(&m, masked, masked_end);
	fake_board_raise(m.v, 0x40);
	run_to_halt(&m);
	assert_int_equal(m.v->rip, CODE + 1 + 3 + 2 + 1);
	assert_int_equal(m.board.irq, 0x40);
	leave(&m);
}

PROGRAM(halted, "16", "xor %ax, %ax\n sti\n hlt\n mov $7, %ax\n cli\n hlt");

static void interrupt_ends_halt(void **state)
{
	struct machine m;

	enter_real(&m, halted, halted_end);
	run_to_halt(&m);
	assert_int_equal(m.v->rip, CODE + 4);
	run_to_halt(&m); /* nothing happened: still halted */
	assert_int_equal(m.v->rip, CODE + 4);
	fake_board_raise(m.v, 0x40);
	run_to_halt(&m);
	assert_int_equal(m.v->gpr[RAX], 7);
	assert_int_equal(m.board.n_acks, 1);
	leave(&m);
}

/* The handler of #DB counts; TF is on from after the POPF to the one that ends it. */
PROGRAM(steps, "16",
	"pushf\n pop %ax\n or $1, %ah\n push %ax\n popf\n nop\n inc %dx\n 1: jmp 2f\n"
	"2: push %bx\n popf\n hlt");

static void trap_flag_steps_instruction_by_instruction(void **state)
{
	/* incw %cs:0x8000; iret */
	static const uint8_t handler[] = {0x2e, 0xff, 0x06, 0x00, 0x80, 0xcf};
	struct machine m;

	enter_real(&m, steps, steps_end);
	memcpy(m.board.ram + 0x8100, handler, sizeof(handler));
	memcpy(m.board.ram + 4, &(uint32_t){0x8100}, 4);
	m.v->gpr[RBX] = 2;
	run_to_halt(&m);
	/* nop, inc, jmp, push, popf: a trap after each. */
	assert_int_equal(peek(&m, 0x8000, 2), 5);
	assert_int_equal(m.v->dr[6] & 0x4000, 0x4000);
	leave(&m);
}

PROGRAM(pushes, "32",
	"mov $1, %eax\n mov $2, %ecx\n mov $3, %edx\n mov $4, %ebx\n mov $5, %esi\n"
	"mov $6, %edi\n mov $7, %ebp\n pusha\n mov %esp, %eax\n popal\n push %esp\n pop %ecx\n "
	"hlt");

static void pusha_stores_the_old_stack_pointer(void **state)
{
	struct machine m;

	enter_flat32(&m, pushes, pushes_end);
	run_to_halt(&m);
	assert_int_equal(peek(&m, STACK - 8, 4), 2);
	assert_int_equal(peek(&m, STACK - 20, 4), STACK);
	assert_int_equal(peek(&m, STACK - 32, 4), 6);
	assert_int_equal(m.v->gpr[RAX], 1);
	assert_int_equal(m.v->gpr[RCX], STACK);
	assert_int_equal(m.v->gpr[RSP], STACK);
	leave(&m);
}

PROGRAM(frames, "32",
	"mov $0x6f00, %ebp\n enter $0x10, $3\n mov %ebp, %eax\n mov %esp, %ecx\n leave\n hlt");

static void enter_copies_the_display(void **state)
{
	struct machine m;

	enter_flat32(&m, frames, frames_end);
	memcpy(m.board.ram + 0x6efc, &(uint32_t){0x1111}, 4);
	memcpy(m.board.ram + 0x6ef8, &(uint32_t){0x2222}, 4);
	run_to_halt(&m);
	assert_int_equal(peek(&m, STACK - 4, 4), 0x6f00);
	assert_int_equal(peek(&m, STACK - 8, 4), 0x1111);
	assert_int_equal(peek(&m, STACK - 12, 4), 0x2222);
	assert_int_equal(peek(&m, STACK - 16, 4), STACK - 4);
	assert_int_equal(m.v->gpr[RAX], STACK - 4);
	assert_int_equal(m.v->gpr[RCX], STACK - 16 - 0x10);
	assert_int_equal(m.v->gpr[RBP], 0x6f00);
	assert_int_equal(m.v->gpr[RSP], STACK);
	leave(&m);
}

PROGRAM(bounds, "32", "mov $11, %eax\n bound %eax, 0x8000\n hlt");

static void bound_faults_outside_its_limits(void **state)
{
	struct machine m;

	enter_flat32(&m, bounds, bounds_end);
	memcpy(m.board.ram + 0x8000, (int32_t[]){-5, 10}, 8);
	run_to_halt(&m);
	assert_int_equal(m.v->rip, HANDLERS + VEC_BR + 1);
	assert_int_equal(peek(&m, (uint32_t)m.v->gpr[RSP], 4), CODE + 5);
	leave(&m);
}

PROGRAM(popped, "32", "push $0x1234\n popl 4(%esp)\n hlt");

static void pop_to_memory_addresses_by_the_new_stack_pointer(void **state)
{
	struct machine m;

	enter_flat32(&m, popped, popped_end);
	run_to_halt(&m);
	assert_int_equal(peek(&m, STACK + 4, 4), 0x1234);
	leave(&m);
}

/* An instruction over a page boundary is decoded from both pages, and again when either changes. */
PROGRAM(crossing, "32",
	"mov $2, %ecx\n xor %ebx, %ebx\n 1: call 0x8ffe-0x7c00+crossing\n add %eax, %ebx\n"
	"incb 0x9001\n loop 1b\n hlt");

static void instruction_over_two_pages_follows_both(void **state)
{
	static const uint8_t code[] = {0xb8, 0x10, 0x00, 0x01, 0x00, 0xc3}; /* mov $0x10010; ret */
	struct machine m;

	enter_flat32(&m, crossing, crossing_end);
	memcpy(m.board.ram + 0x8ffe, code, sizeof(code));
	run_to_halt(&m);
	assert_int_equal(m.v->gpr[RBX], 0x10010 + 0x20010);
	leave(&m);
}

PROGRAM(two_parts, "32",
	"mov $0x12345678, %eax\n stc\n fldpi\n hlt\n adc $1, %eax\n push %fs\n pop %ebx\n hlt");

/* One by one in the state: a different value in each. */
static void set_msrs(struct vcpu *v)
{
	v->spec_ctrl = 4;
	v->debugctl = 1;
	v->hwcr = 1 << 18;
	v->mcg_status = 5;
	v->mcg_ctl = 0;
	v->mc_bank[3][2] = 0xabc;
	v->kvm_system_time = 0x7001;
	v->kvm_wall_clock = 0x7100;
}

static void check_msrs(const struct mobo_cpu_state *s)
{
	static const struct {
		uint32_t msr;
		uint64_t val;
	} expected[] = {
		{0x48, 4},  {0x1d9, 1},	    {0xc0010015, 1 << 18}, {0x17a, 5},
		{0x17b, 0}, {0x40e, 0xabc}, {0x4b564d00, 0x7100},  {0x4b564d01, 0x7001},
	};

	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		unsigned n = 0;

		while (n < s->n_msrs && s->msrs[n].index != expected[i].msr) {
			n++;
		}
		assert_true(n < s->n_msrs);
		assert_int_equal(s->msrs[n].data, expected[i].val);
	}
}

static void state_goes_on_in_another_vcpu(void **state)
{
	struct mobo_cpu_state a, b;
	struct machine m, other;

	enter_flat32(&m, two_parts, two_parts_end);
	enter_flat32(&other, two_parts, two_parts_end);
	m.v->dr[2] = 0x1234;
	m.board.clock_ns = 0x123456789;
	run_to_halt(&m);
	set_msrs(m.v);
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	mobo_engine_interpreter.get_state(m.v, &a);
	assert_int_equal(a.mp_state.mp_state, KVM_MP_STATE_HALTED);
	a.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
	assert_int_equal(mobo_engine_interpreter.set_state(other.v, &a), 0);
	mobo_engine_interpreter.get_state(other.v, &b);
	a.msrs[0].data = b.msrs[0].data; /* the TSC went on */
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(other.board.clock_ns, 0x123456789);
	check_msrs(&b);
	run_to_halt(&other);
	assert_int_equal(other.v->gpr[RAX], 0x1234567a);
	assert_int_equal(other.v->gpr[RBX], 16);
	leave(&m);
	leave(&other);
}

static void impossible_state_is_refused(void **state)
{
	struct mobo_cpu_state s;
	struct machine m;

	enter_flat32(&m, two_parts, two_parts_end);
	memset(&s, 0, sizeof(s));
	mobo_engine_interpreter.get_state(m.v, &s);
	s.sregs.cr0 = CR0_PG;
	assert_int_equal(mobo_engine_interpreter.set_state(m.v, &s), -EINVAL);
	leave(&m);
}

/* A locked instruction over a page boundary, and one on a page with code. */
PROGRAM(locked, "32", "mov $5, %eax\n lock addl %eax, 0x8ffe\n lock xaddl %eax, 0x7cf0\n hlt");

static void locked_instructions_work_without_a_host_pointer(void **state)
{
	struct machine m;

	enter_flat32(&m, locked, locked_end);
	memcpy(m.board.ram + 0x8ffe, &(uint32_t){0x1fffe}, 4);
	memcpy(m.board.ram + 0x7cf0, &(uint32_t){100}, 4);
	run_to_halt(&m);
	assert_int_equal(peek(&m, 0x8ffe, 4), 0x20003);
	assert_int_equal(peek(&m, 0x7cf0, 4), 105);
	assert_int_equal(m.v->gpr[RAX], 100);
	leave(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_and_loops_return),
		cmocka_unit_test(stack_pointer_wraps_at_64k),
		cmocka_unit_test(word_beyond_the_limit_faults),
		cmocka_unit_test(quotient_overflow_faults_at_the_division),
		cmocka_unit_test(string_wraps_at_64k),
		cmocka_unit_test(overlapping_moves_go_byte_by_byte),
		cmocka_unit_test(scans_stop_behind_the_element),
		cmocka_unit_test(store_changes_the_next_instructions),
		cmocka_unit_test(loop_sees_every_patch_of_itself),
		cmocka_unit_test(data_beside_code_is_data),
		cmocka_unit_test(interrupt_leaves_a_repeated_instruction_restartable),
		cmocka_unit_test(interrupt_comes_after_the_instruction_after_sti),
		cmocka_unit_test(masked_interrupt_stays_pending),
		cmocka_unit_test(interrupt_ends_halt),
		cmocka_unit_test(trap_flag_steps_instruction_by_instruction),
		cmocka_unit_test(pusha_stores_the_old_stack_pointer),
		cmocka_unit_test(enter_copies_the_display),
		cmocka_unit_test(bound_faults_outside_its_limits),
		cmocka_unit_test(pop_to_memory_addresses_by_the_new_stack_pointer),
		cmocka_unit_test(instruction_over_two_pages_follows_both),
		cmocka_unit_test(state_goes_on_in_another_vcpu),
		cmocka_unit_test(impossible_state_is_refused),
		cmocka_unit_test(locked_instructions_work_without_a_host_pointer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
