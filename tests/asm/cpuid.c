/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID on both engines: the answers are those of the model whatever was asked before, and follow
 * what they depend on, though they are remembered.
 */
#include "two_rigs.h"

#include "execute/cpuid.h"
#include "execute/xstate.h"

static struct vcpu *enter(struct rig *r, bool lng, unsigned cpl)
{
	fake_board_engine = r->engine;
	rig_tables(r, lng);
	rig_enter(r, lng, cpl);
	return r->v;
}

/* What is in the code's way: questions with every leaf that is known, and others. */
static const uint32_t leaves[] = {
	0,	    1,		2,	    4,		6,	    7,		0xb,
	0xd,	    0x15,	0x16,	    0x17,	0x40000000, 0x40000001, 0x40000010,
	0x7fffffff, 0x80000000, 0x80000001, 0x80000002, 0x80000004, 0x80000005, 0x80000006,
	0x80000007, 0x80000008, 0x8000001d, 0x8000001e, 0x80000021, UINT32_MAX,
};
static const uint32_t subleaves[] = {0, 1, 2, 3, 5, 7, 8, 9, 0x100, UINT32_MAX};

/* add rdi, rsi; cpuid; pushf; pop rsi */
static const uint8_t between_flags[] = {0x48, 0x01, 0xf7, 0x0f, 0xa2, 0x9c, 0x5e};
/* The same of 32 bits. */
static const uint8_t between_flags_32[] = {0x01, 0xf7, 0x0f, 0xa2, 0x9c, 0x5e};

static void ask(struct rig *r, bool lng, uint32_t leaf, uint32_t subleaf, uint64_t val)
{
	struct vcpu *v = enter(r, lng, 0);
	uint64_t high = lng ? 0xa5a5a5a5ull << 32 : 0;
	uint32_t out[4];
	struct outcome o;

	v->gpr[RAX] = leaf | high;
	v->gpr[RCX] = subleaf | high;
	v->gpr[RBX] = v->gpr[RDX] = 0x5a5a5a5a | high;
	v->gpr[RDI] = v->gpr[RSI] = val;
	v->rflags |= FL_ID;
	o = lng ? rig_run(r, between_flags, sizeof(between_flags))
		: rig_run(r, between_flags_32, sizeof(between_flags_32));
	assert_int_equal(o.vector, -1);
	cpuid_query(v, leaf, subleaf, out);
	assert_int_equal(v->gpr[RAX], out[0]);
	assert_int_equal(v->gpr[RBX], out[1]);
	assert_int_equal(v->gpr[RCX], out[2]);
	assert_int_equal(v->gpr[RDX], out[3]);
}

static void answers_are_the_models_and_flags_stay(void **state)
{
	uint64_t val = 0x9e3779b97f4a7c15;

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned k = 0; k < sizeof(leaves) / sizeof(leaves[0]); k++) {
			for (unsigned s = 0; s < sizeof(subleaves) / sizeof(subleaves[0]); s++) {
				bool lng = round < 4;

				val = val * 0x5851f42d4c957f2d + 1;
				for (unsigned n = 0; n < 2; n++) {
					ask(&rigs[n], lng, leaves[k], subleaves[s],
					    lng ? val : (uint32_t)val);
				}
				assert_int_equal(rigs[1].v->gpr[RSI], rigs[0].v->gpr[RSI]);
			}
		}
	}
}

/* Its own answer is put in the way, so that it is seen where an answer comes from. */
static void translated_code_takes_what_is_remembered(void **state)
{
	static const uint8_t code[] = {0x0f, 0xa2};
	struct rig *r = &rigs[1];

	(void)state;
	for (unsigned cpl = 0; cpl < 4; cpl += 3) {
		struct vcpu *v = enter(r, true, cpl);
		struct cpuid_answer *a = (struct cpuid_answer *)cpuid_answer(v, 7, 0);

		a->out[3] = 0xc0ffee;
		v->gpr[RAX] = 7;
		assert_int_equal(rig_run(r, code, sizeof(code)).vector, -1);
		assert_int_equal(v->gpr[RDX], 0xc0ffee);
		a->state = 0;
		v = enter(r, true, cpl);
		v->gpr[RAX] = 7;
		assert_int_equal(rig_run(r, code, sizeof(code)).vector, -1);
		assert_int_not_equal(v->gpr[RDX], 0xc0ffee);
	}
}

/*
 * 0: mov $6, %esi      5: mov $1, %eax        a: cpuid             c: bt $27, %ecx
 * 10: adc %r8, %r8     13: mov %cr4, %rax     16: xor $OSXSAVE, %eax
 * 1b: mov %rax, %cr4   1e: dec %esi           20: jnz 5
 */
static const uint8_t switch_osxsave[] =
	"\xbe\x06\0\0\0\xb8\x01\0\0\0\x0f\xa2\x0f\xba\xe1\x1b\x4d\x11\xc0\x0f\x20\xe0\x35\0\0\x04"
	"\0\x0f\x22\xe0\xff\xce\x75\xe3";

static void osxsave_is_that_of_cr4(void **state)
{
	(void)state;
	if (!cpuid_has(FEAT_XSAVE)) {
		skip();
	}
	for (unsigned n = 0; n < 4; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, true, 0);

		assert_int_equal(rig_run(r, switch_osxsave, sizeof(switch_osxsave) - 1).vector, -1);
		assert_int_equal(v->gpr[R8], 0x15); /* 010101 */
	}
}

/*
 * 0: mov $4, %esi      5: mov $3, %edi        a: mov $0xd, %eax    f: xor %ecx, %ecx
 * 11: cpuid            13: shl $16, %r8       17: add %rbx, %r8    1a: xor $4, %edi
 * 1d: mov %edi, %eax   1f: xor %ecx, %ecx     21: xor %edx, %edx   23: xsetbv
 * 26: dec %esi         28: jnz a
 */
static const uint8_t switch_avx[] =
	"\xbe\x04\0\0\0\xbf\x03\0\0\0\xb8\x0d\0\0\0\x31\xc9\x0f\xa2\x49\xc1\xe0\x10\x49\x01\xd8"
	"\x83\xf7\x04\x89\xf8\x31\xc9\x31\xd2\x0f\x01\xd1\xff\xce\x75\xe0";

static void sizes_are_those_of_xcr0(void **state)
{
	(void)state;
	if (!cpuid_has(FEAT_AVX)) {
		skip();
	}
	for (unsigned n = 0; n < 4; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, true, 0);

		v->cr4 |= CR4_OSXSAVE;
		v->xcr0 = 3;
		assert_int_equal(rig_run(r, switch_avx, sizeof(switch_avx) - 1).vector, -1);
		assert_int_equal(v->gpr[R8], 576ull << 48 | 832ull << 32 | 576ull << 16 | 832);
		v->xcr0 = 1;
	}
}

static void apic_is_told_while_it_is_enabled(void **state)
{
	static const uint8_t code[] = {0x0f, 0xa2};

	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		struct rig *r = &rigs[n & 1];
		struct vcpu *v = enter(r, true, 3);

		v->apic_base = n & 2 ? 0xfee00000 : 0xfee00800;
		v->gpr[RAX] = 1;
		assert_int_equal(rig_run(r, code, sizeof(code)).vector, -1);
		assert_int_equal(v->gpr[RDX] >> 9 & 1, n & 2 ? 0 : 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_the_models_and_flags_stay),
		cmocka_unit_test(translated_code_takes_what_is_remembered),
		cmocka_unit_test(osxsave_is_that_of_cr4),
		cmocka_unit_test(sizes_are_those_of_xcr0),
		cmocka_unit_test(apic_is_told_while_it_is_enabled),
	};

	return cmocka_run_group_tests(tests, rigs_set_up, rigs_tear_down);
}
