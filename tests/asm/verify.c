/* SPDX-License-Identifier: Apache-2.0 */
/* The translator's lock-step with the interpreter: blocks that are right, and one that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "execute/execute.h"
#include "fake_board.h"
#include "system_rig.h"
#include "translate/verify.h"

enum { CODE = 0x1000, DATA = 0x5000, STACK = 0x9000, DEVICE = 0x200000, RAM = 0x100000 };

/*
 * 0: mov $10, %ecx         5: add $0x12345678, %eax   a: mov %eax, 0x5000(,%ecx,4)
 * 11: push %eax            12: mov 0x200000, %edx     18: incl 0x200000
 * 1e: pop %ebx             1f: in $0x80, %al          21: dec %ecx
 * 22: jnz 5                24: hlt
 */
static const uint8_t program[] =
	"\xb9\x0a\0\0\0\x05\x78\x56\x34\x12\x89\x04\x8d\0\x50\0\0\x50\x8b\x15\0\0\x20\0\xff\x05\0"
	"\0\x20\0\x5b\xe4\x80\x49\x75\xe1\xf4";

static unsigned n_reports, n_reads, n_writes;
static char last_report[4096];

static void note_report(struct vcpu *v, const char *text)
{
	(void)v;
	n_reports++;
	strncpy(last_report, text, sizeof(last_report) - 1);
}

static uint64_t device_read(struct board *b, uint64_t gpa, unsigned size)
{
	(void)b;
	(void)gpa;
	(void)size;
	return n_reads++;
}

static void device_write(struct board *b, uint64_t gpa, unsigned size, uint64_t val)
{
	(void)b;
	(void)gpa;
	(void)size;
	(void)val;
	n_writes++;
}

static struct vcpu *prepare(struct board *b)
{
	struct vcpu *v;

	fake_board_engine = &mobo_engine_translator;
	assert_int_equal(fake_board_init(b, RAM), 0);
	b->mmio_read = device_read;
	b->mmio_write = device_write;
	v = fake_board_add_vcpu(b);
	assert_non_null(v);
	for (unsigned s = 0; s < N_SEG; s++) {
		v->seg[s] = (struct segment){.limit = UINT32_MAX,
					     .attr = SEG_P | SEG_S | SEG_G | SEG_DB | 3 |
						     (s == SEG_CS ? SEG_TYPE_CODE : 0),
					     .selector = s == SEG_CS ? 8 : 16};
		v->seg_base[s] = 0;
	}
	v->cr0 |= CR0_PE;
	vcpu_update_mode(v);
	mmu_flush_all(v);
	memcpy(b->ram + CODE, program, sizeof(program) - 1);
	assert_int_equal(verify_set(v, true, note_report), 0);
	n_reports = n_reads = n_writes = 0;
	return v;
}

static void run(struct vcpu *v)
{
	v->gpr[RAX] = 0;
	v->gpr[RSP] = STACK;
	v->rip = CODE;
	v->halted = false;
	assert_int_equal(mobo_engine_translator.run(v), MOBO_EXIT_HALT);
	assert_int_equal(v->gpr[RCX], 0);
}

static void io_happens_once_and_blocks_are_compared(void **state)
{
	struct board b;
	struct vcpu *v = prepare(&b);
	uint32_t first;

	(void)state;
	run(v);
	assert_int_equal(n_reports, 0);
	assert_int_equal(n_reads, 20);
	assert_int_equal(n_writes, 10);
	assert_true(verify_count(v) >= 30);
	memcpy(&first, b.ram + DATA + 40, sizeof(first));
	assert_int_equal(first, 0x12345678);
	fake_board_finish(&b);
	fake_board_engine = &mobo_engine_interpreter;
}

/* Changes the immediate in the host's code of the block that has it. */
static void spoil(struct vcpu *v)
{
	static const uint8_t imm[] = {0x78, 0x56, 0x34, 0x12};
	struct translator *x = v->translator;
	unsigned n = 0;

	for (size_t at = 0; at + sizeof(imm) < x->code_used; at++) {
		if (!memcmp(x->code + at, imm, sizeof(imm))) {
			x->code[at]++;
			n++;
		}
	}
	assert_true(n > 0);
}

static void wrong_block_is_reported(void **state)
{
	struct board b;
	struct vcpu *v = prepare(&b);

	(void)state;
	run(v);
	spoil(v);
	run(v);
	assert_true(n_reports > 0);
	assert_non_null(strstr(last_report, "r0: interpreter"));
	fake_board_finish(&b);
	fake_board_engine = &mobo_engine_interpreter;
}

static void switched_off_blocks_are_linked_again(void **state)
{
	struct board b;
	struct vcpu *v = prepare(&b);

	(void)state;
	run(v);
	assert_int_equal(verify_set(v, false, NULL), 0);
	assert_int_equal(verify_count(v), 0);
	run(v);
	assert_null(v->mmu.trace);
	assert_int_equal(n_reads, 40);
	fake_board_finish(&b);
	fake_board_engine = &mobo_engine_interpreter;
}

/* mov $9, %ecx; mov %ecx, CODE + 0x800; inc %eax; dec %ecx; jnz to the MOV to memory; hlt */
static void block_whose_page_is_given_up_stops_where_the_interpreter_did(void **state)
{
	static const uint8_t stores[] = "\xb9\x09\0\0\0\x89\x0d\0\x18\0\0\x40\x49\x75\xf6\xf4";
	struct board b;
	struct vcpu *v = prepare(&b);

	(void)state;
	memcpy(b.ram + CODE, stores, sizeof(stores) - 1);
	b.forgets_code = true;
	run(v);
	assert_int_equal(n_reports, 0);
	assert_int_equal(v->gpr[RAX], 9);
	assert_true(b.n_code_writes > 0);
	fake_board_finish(&b);
	fake_board_engine = &mobo_engine_interpreter;
}

/* push %rsp; lea 8(%rsp), %rsp; ret: to what is not canonical. The PUSH stays. */
static void refused_return_keeps_the_push_before_it(void **state)
{
	static const uint8_t code[] = "\x54\x48\x8d\x64\x24\x08\xc3";
	struct rig rig;
	struct outcome o;

	(void)state;
	fake_board_engine = &mobo_engine_translator;
	assert_int_equal(rig_init(&rig), 0);
	assert_int_equal(verify_set(rig.v, true, note_report), 0);
	n_reports = 0;
	rig_tables(&rig, true);
	rig_enter(&rig, true, 0);
	rig_poke64(&rig, RIG_INSN + 0x800, 1ull << 60); /* stores to a page with code are noted */
	rig.v->gpr[RSP] = RIG_INSN + 0x800;
	o = rig_run(&rig, code, sizeof(code) - 1);
	assert_int_equal(o.vector, VEC_GP);
	assert_int_equal(n_reports, 0);
	fake_board_finish(&rig.board);
	fake_board_engine = &mobo_engine_interpreter;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(io_happens_once_and_blocks_are_compared),
		cmocka_unit_test(wrong_block_is_reported),
		cmocka_unit_test(switched_off_blocks_are_linked_again),
		cmocka_unit_test(refused_return_keeps_the_push_before_it),
		cmocka_unit_test(block_whose_page_is_given_up_stops_where_the_interpreter_did),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
