/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protection keys on both engines: the instructions and registers that give and take rights, and
 * accesses that follow them at once. Intel SDM volume 3, 4.6.2; volume 1, 13.5.7. The MMU's own
 * tests are tests/unit/mmu_keys.c and mmu_random.c.
 */
#include "two_rigs.h"

#include "execute/cpuid.h"
#include "execute/simd.h"
#include "execute/system.h"
#include "mmu/walk.h"

enum {
	USER = 0x200000,   /* page k has key k: of users, then of the system */
	SYSTEM = 0x400000, /* the same bytes */
	DATA = 0x100000,   /* where they are */
	TABLES = RIG_PAGES + 0x3000,
	AREA = 0x70000,
	AREA_BV = AREA + 512,
	AREA_PKRU = AREA + 2688,
	COMPONENTS = XCR0_X87 | XCR0_SSE | XCR0_PKRU,
	AD_1 = 1 << 2, /* of key 1 */
	WD_1 = 2 << 2,
	MSR_PKRS = 0x6e1,
	REFUSED = PFERR_P | PFERR_PK,
};

static void map(struct rig *r)
{
	for (unsigned n = 0; n < 2; n++) {
		uint32_t table = TABLES + n * 0x1000;

		rig_poke64(r, RIG_PAGES + 0x2008 + n * 8, table | 7);
		for (unsigned k = 0; k < 16; k++) {
			rig_poke64(r, table + k * 8,
				   (uint64_t)k << PTE_KEY_SHIFT | (DATA + k * 0x1000) |
					   (n ? 0x63 : 0x67));
		}
	}
}

/* Each key enabled; nothing refused. */
static struct vcpu *enter(struct rig *r, bool lng, unsigned cpl)
{
	struct vcpu *v = r->v;

	fake_board_engine = r->engine;
	map(r);
	memset(r->board.ram + DATA, 0, 0x10000);
	memset(r->board.ram + AREA, 0, 4096);
	rig_tables(r, lng);
	rig_enter(r, lng, cpl);
	v->cr0 |= CR0_WP;
	v->cr2 = 0;
	v->cr4 |= CR4_PKE | CR4_PKS | CR4_OSFXSR | CR4_OSXSAVE;
	v->xcr0 = COMPONENTS;
	v->pkru = v->pkrs = 0;
	simd_reset(v);
	v->gpr[RDI] = USER + 0x1000;
	v->gpr[RSI] = AREA;
	v->gpr[RBX] = 0x1122334455667788;
	return v;
}

static void expect(struct outcome o, int vector, uint32_t error)
{
	assert_int_equal(o.vector, vector);
	assert_int_equal(o.error, error);
}

#define RDPKRU 0x0f, 0x01, 0xee
#define WRPKRU 0x0f, 0x01, 0xef
#define STORE  0x48, 0x89, 0x1f	      /* mov %rbx, (%rdi) */
#define STORE8 0x48, 0x89, 0x5f, 0x08 /* mov %rbx, 8(%rdi) */
#define LOAD   0x48, 0x8b, 0x0f	      /* mov (%rdi), %rcx */

static void instructions_want_pke_and_zeros(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		struct rig *r = &rigs[n & 1];
		bool lng = n & 2;
		unsigned cpl = n & 4 ? 3 : 0;
		uint64_t high = lng ? 0xa5a5a5a5ull << 32 : 0;
		struct vcpu *v = enter(r, lng, cpl);

		v->gpr[RAX] = high | 0xfffffff0;
		v->gpr[RCX] = v->gpr[RDX] = high;
		expect(RIG_CODE_RUN(r, WRPKRU), -1, 0);
		assert_int_equal(v->pkru, 0xfffffff0);
		v = enter(r, lng, cpl);
		v->pkru = 0x80000010;
		v->gpr[RAX] = v->gpr[RDX] = high | 0x5a5a5a5a;
		v->gpr[RCX] = high;
		v->aflags = aflags_from_rflags(FL_CF | FL_ZF);
		expect(RIG_CODE_RUN(r, RDPKRU), -1, 0);
		assert_int_equal(v->gpr[RAX], 0x80000010);
		assert_int_equal(v->gpr[RDX], 0);
		assert_int_equal(vcpu_rflags(v) & FL_ARITH, FL_CF | FL_ZF);
		enter(r, lng, cpl)->gpr[RCX] = 1;
		expect(RIG_CODE_RUN(r, RDPKRU), VEC_GP, 0);
		enter(r, lng, cpl)->gpr[RCX] = 1;
		expect(RIG_CODE_RUN(r, WRPKRU), VEC_GP, 0);
		enter(r, lng, cpl)->gpr[RDX] = 1;
		expect(RIG_CODE_RUN(r, WRPKRU), VEC_GP, 0);
		enter(r, lng, cpl)->cr4 &= ~(uint64_t)CR4_PKE;
		expect(RIG_CODE_RUN(r, RDPKRU), VEC_UD, 0);
		enter(r, lng, cpl)->cr4 &= ~(uint64_t)CR4_PKE;
		expect(RIG_CODE_RUN(r, WRPKRU), VEC_UD, 0);
		enter(r, lng, cpl);
		expect(RIG_CODE_RUN(r, 0x66, RDPKRU), VEC_UD, 0);
	}
}

/* Between two stores that share a check. */
static void store_behind_wrpkru_has_its_rights(void **state)
{
	static const uint8_t code[] = {STORE, WRPKRU, STORE8, STORE8};

	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		struct rig *r = &rigs[n & 1];
		unsigned cpl = n & 2 ? 3 : 0;
		struct vcpu *v = enter(r, true, cpl);

		v->gpr[RAX] = n & 4 ? WD_1 : WD_1 << 2;
		if (!(n & 4)) {
			expect(rig_run(r, code, sizeof(code)), -1, 0);
		} else {
			expect(rig_run(r, code, sizeof(code)), VEC_PF,
			       REFUSED | PFERR_W | (cpl ? PFERR_U : 0));
			assert_int_equal(v->cr2, USER + 0x1008);
		}
		assert_int_equal(rig_peek(r, DATA + 0x1000, 8), v->gpr[RBX]);
		assert_int_equal(rig_peek(r, DATA + 0x1008, 8), n & 4 ? 0 : v->gpr[RBX]);
	}
}

/*
 * 0: xor %eax, %eax    2: cmp $20, %r8d    6: sete %al    9: shl $3, %eax    c: wrpkru
 * f: mov %r8, (%rdi)   12: add $8, %rdi    16: dec %r8d   19: jnz 0
 */
static const uint8_t store_down[] =
	"\x31\xc0\x41\x83\xf8\x14\x0f\x94\xc0\xc1\xe0\x03\x0f\x01\xef\x4c\x89\x07\x48\x83\xc7\x08"
	"\x41\xff\xc8\x75\xe5";

static void loop_stops_where_its_right_is_taken(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];
		struct vcpu *v = enter(r, true, 3);

		v->gpr[R8] = 200;
		expect(rig_run(r, store_down, sizeof(store_down) - 1), VEC_PF,
		       REFUSED | PFERR_W | PFERR_U);
		assert_int_equal(v->gpr[R8], 20);
		assert_int_equal(v->cr2, USER + 0x1000 + 180 * 8);
		assert_int_equal(rig_peek(r, DATA + 0x1000 + 179 * 8, 8), 21);
		assert_int_equal(rig_peek(r, DATA + 0x1000 + 180 * 8, 8), 0);
	}
}

static void right_that_is_given_back_serves_at_once(void **state)
{
	static const uint8_t code[] = {LOAD, 0x31, 0xc9, WRPKRU, STORE}; /* xor %ecx, %ecx */

	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];
		struct vcpu *v = enter(r, true, 3);

		v->pkru = WD_1;
		expect(rig_run(r, code, sizeof(code)), -1, 0);
		assert_int_equal(rig_peek(r, DATA + 0x1000, 8), v->gpr[RBX]);
	}
}

static void pages_of_the_system_follow_the_msr(void **state)
{
	static const uint8_t code[] = {STORE, 0x0f, 0x30, LOAD, STORE8}; /* wrmsr */

	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, true, 0);
		uint64_t val = n & 4 ? WD_1 : AD_1;

		v->pkru = AD_1;
		v->gpr[RDI] = SYSTEM + 0x1000;
		v->gpr[RCX] = MSR_PKRS;
		v->gpr[RAX] = n & 2 ? val : val << 2;
		expect(rig_run(r, code, sizeof(code)), n & 2 ? VEC_PF : -1,
		       n & 2 ? REFUSED | (n & 4 ? PFERR_W : 0) : 0);
		assert_int_equal(v->pkrs, v->gpr[RAX]);
		v = enter(r, true, 0);
		v->gpr[RCX] = MSR_PKRS;
		v->gpr[RDX] = 1;
		expect(RIG_CODE_RUN(r, 0x0f, 0x30), VEC_GP, 0);
		v = enter(r, true, 0);
		v->pkrs = 0x12345678;
		v->gpr[RCX] = MSR_PKRS;
		expect(RIG_CODE_RUN(r, 0x0f, 0x32), -1, 0);
		assert_int_equal(v->gpr[RAX], 0x12345678);
		assert_int_equal(v->gpr[RDX], 0);
	}
}

/* All with (%rsi). */
#define XSAVE	 0x0f, 0xae, 0x26
#define XSAVEOPT 0x0f, 0xae, 0x36
#define XSAVEC	 0x0f, 0xc7, 0x26
#define XRSTOR	 0x0f, 0xae, 0x2e
#define XRSTORS	 0x0f, 0xc7, 0x1e

static void xsave_puts_pkru_where_intels_processors_do(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, n & 2, 0);

		v->gpr[RAX] = UINT32_MAX;
		v->pkru = 0xfedcba98;
		rig_poke64(r, AREA_PKRU, UINT64_MAX);
		expect(RIG_CODE_RUN(r, XSAVE), -1, 0);
		assert_int_equal(rig_peek(r, AREA_BV, 8), XCR0_PKRU);
		assert_int_equal(rig_peek(r, AREA_PKRU, 4), 0xfedcba98);
		v = enter(r, n & 2, 0);
		v->gpr[RAX] = UINT32_MAX;
		v->pkru = 0xfedcba98;
		expect(RIG_CODE_RUN(r, XSAVEC), -1, 0);
		assert_int_equal(rig_peek(r, AREA_BV + 8, 8), 1ull << 63 | COMPONENTS);
		assert_int_equal(rig_peek(r, AREA + XSTATE_LEN, 4), 0xfedcba98);
		v = enter(r, n & 2, 0);
		v->gpr[RAX] = UINT32_MAX;
		rig_poke64(r, AREA_PKRU, UINT64_MAX); /* initial: not stored */
		expect(RIG_CODE_RUN(r, XSAVEOPT), -1, 0);
		assert_int_equal(rig_peek(r, AREA_BV, 8), 0);
		assert_int_equal(rig_peek(r, AREA_PKRU, 4), UINT32_MAX);
	}
}

static void xrstor_loads_pkru_that_counts_at_once(void **state)
{
	static const uint8_t code[] = {STORE, XRSTOR, STORE8};

	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, true, 3);

		v->gpr[RAX] = XCR0_PKRU;
		rig_poke64(r, AREA_BV, n & 2 ? XCR0_PKRU : 0);
		rig_poke64(r, AREA_PKRU, 0xffffffff00000000 | WD_1);
		v->pkru = n & 2 ? 0 : WD_1 << 2;
		expect(rig_run(r, code, sizeof(code)), n & 2 ? VEC_PF : -1,
		       n & 2 ? REFUSED | PFERR_W | PFERR_U : 0);
		assert_int_equal(v->pkru, n & 2 ? WD_1 : 0);
		v = enter(r, true, 0);
		v->gpr[RAX] = XCR0_PKRU;
		rig_poke64(r, AREA_BV, XCR0_PKRU);
		rig_poke64(r, AREA_BV + 8, 1ull << 63 | XCR0_PKRU);
		rig_poke64(r, AREA + XSTATE_LEN, 0x30);
		expect(RIG_CODE_RUN(r, XRSTORS), -1, 0);
		assert_int_equal(v->pkru, 0x30);
		v = enter(r, true, 0);
		v->gpr[RAX] = XCR0_SSE; /* not asked for */
		v->pkru = 0x30;
		expect(RIG_CODE_RUN(r, XRSTOR), -1, 0);
		assert_int_equal(v->pkru, 0x30);
	}
}

static void xgetbv_of_1_has_pkru_while_it_is_not_zero(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, true, 3);

		v->gpr[RCX] = 1;
		v->pkru = n & 2 ? 4 : 0;
		expect(RIG_CODE_RUN(r, 0x0f, 0x01, 0xd0), -1, 0);
		assert_int_equal(v->gpr[RAX], n & 2 ? XCR0_PKRU : 0);
	}
}

/*
 * 0: mov $7, %eax      5: xor %ecx, %ecx          7: cpuid            9: shr $4, %ecx
 * c: and $1, %ecx      f: lea (%rcx, %r8, 2), %r8d   13: mov %cr4, %rax
 * 16: xor $PKE, %eax   1b: mov %rax, %cr4         1e: dec %esi        20: jnz 0
 */
static const uint8_t switch_pke[] =
	"\xb8\x07\0\0\0\x31\xc9\x0f\xa2\xc1\xe9\x04\x83\xe1\x01\x46\x8d\x04\x41\x0f\x20\xe0\x35\0"
	"\0\x40\0\x0f\x22\xe0\xff\xce\x75\xde";

static void cpuid_tells_of_keys(void **state)
{
	uint32_t out[4];

	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];
		struct vcpu *v = enter(r, true, 0);

		v->gpr[RSI] = 6;
		expect(rig_run(r, switch_pke, sizeof(switch_pke) - 1), -1, 0);
		assert_int_equal(v->gpr[R8], 0x2a); /* 101010 */
		cpuid_query(v, 7, 0, out);
		assert_true(out[1] >> 22 & 1 && out[2] >> 3 & 1 && out[2] >> 31);
		cpuid_query(v, 0xd, 0, out);
		assert_true(out[0] & XCR0_PKRU);
		assert_int_equal(out[1], 2696);
		assert_int_equal(out[2], 2696);
		cpuid_query(v, 0xd, 1, out);
		assert_int_equal(out[1], XSTATE_LEN + 8);
		cpuid_query(v, 0xd, 9, out);
		assert_true(out[0] == 8 && out[1] == 2688 && !out[2] && !out[3]);
	}
}

static void engine_state_carries_both_registers(void **state)
{
	static struct mobo_cpu_state s;
	uint64_t bv = 3;
	unsigned pkrs = 0;

	(void)state;
	for (unsigned n = 0; n < 2; n++) {
		struct rig *r = &rigs[n];
		struct vcpu *v = enter(r, true, 0);

		v->pkru = 0x55555554;
		v->pkrs = 0xaa;
		r->engine->get_state(v, &s);
		v->pkru = v->pkrs = 0;
		assert_int_equal(r->engine->set_state(v, &s), 0);
		assert_true(v->pkru == 0x55555554 && v->pkrs == 0xaa);
		/* A state from before they were in it. */
		memcpy((uint8_t *)s.xsave.region + 512, &bv, sizeof(bv));
		while (s.msrs[pkrs].index != MSR_PKRS) {
			pkrs++;
		}
		s.msrs[pkrs] = s.msrs[--s.n_msrs];
		assert_int_equal(r->engine->set_state(v, &s), 0);
		assert_true(v->pkru == 0 && v->pkrs == 0);
	}
}

static void reset_clears_both_registers_and_init_keeps_them(void **state)
{
	struct vcpu *v = enter(&rigs[0], true, 0);

	(void)state;
	v->pkru = v->pkrs = 0xc;
	system_reset(v, true);
	assert_true(v->pkru == 0xc && v->pkrs == 0xc);
	system_reset(v, false);
	assert_true(v->pkru == 0 && v->pkrs == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(instructions_want_pke_and_zeros),
		cmocka_unit_test(store_behind_wrpkru_has_its_rights),
		cmocka_unit_test(loop_stops_where_its_right_is_taken),
		cmocka_unit_test(right_that_is_given_back_serves_at_once),
		cmocka_unit_test(pages_of_the_system_follow_the_msr),
		cmocka_unit_test(xsave_puts_pkru_where_intels_processors_do),
		cmocka_unit_test(xrstor_loads_pkru_that_counts_at_once),
		cmocka_unit_test(xgetbv_of_1_has_pkru_while_it_is_not_zero),
		cmocka_unit_test(cpuid_tells_of_keys),
		cmocka_unit_test(engine_state_carries_both_registers),
		cmocka_unit_test(reset_clears_both_registers_and_init_keeps_them),
	};

	return cmocka_run_group_tests(tests, rigs_set_up, rigs_tear_down);
}
