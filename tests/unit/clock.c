/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's TSC and KVM's clock over pauses, moves of the TSC and restored states. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "board_rig.h"

static struct rig rig;

/* As guests know it: Linux, Documentation/virt/kvm/x86/msr.rst. */
struct page {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad1[2];
};

enum { PAGE = 0x5000, SECOND = 1000000000 };

static int setup(void **state)
{
	rig_start(&rig, 2);
	return 0;
}

static int teardown(void **state)
{
	rig_finish(&rig);
	return 0;
}

static struct vcpu *cpu(unsigned n)
{
	return rig.b->cpu[n].v;
}

static struct page page(uint64_t gpa)
{
	struct page p;

	memcpy(&p, rig.ram + gpa, sizeof(p));
	return p;
}

static void set_system_time(unsigned n, uint64_t val)
{
	cpu(n)->kvm_system_time = val;
	board_clock_changed(cpu(n));
}

static void move_tsc(unsigned n, uint64_t offset)
{
	cpu(n)->tsc_offset = offset;
	board_clock_changed(cpu(n));
}

/* What a guest makes of a page at a TSC. */
static uint64_t read_clock(uint64_t gpa, uint64_t tsc)
{
	struct page p = page(gpa);
	uint64_t delta = tsc - p.tsc_timestamp;

	assert_false(p.version & 1);
	delta = p.shift < 0 ? delta >> -p.shift : delta << p.shift;
	return p.system_time + (uint64_t)((unsigned __int128)delta * p.mul >> 32);
}

/* Stops and starts as the machine does: CPUs first, then the clock; the clock first, then CPUs. */
static void run(void)
{
	mobo_clock_start(rig.page);
	board_run(rig.b);
}

static void stop(void)
{
	pthread_mutex_lock(&rig.b->park_lock);
	rig.b->paused = true;
	board_tsc_stop(rig.b);
	pthread_mutex_unlock(&rig.b->park_lock);
	mobo_clock_stop(rig.page);
}

static void nap_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static uint64_t tsc_as_ns(void)
{
	return (uint64_t)((unsigned __int128)board_tsc(rig.b) * SECOND / rig.b->tsc_hz);
}

static void scale_is_exact_at_any_frequency(void **state)
{
	static const uint64_t hz[] = {25000000,	  999999999,  1000000000, 1000000001, 1996250000,
				      2000000000, 2596096000, 4000000001, 7999999999};

	for (unsigned i = 0; i < sizeof(hz) / sizeof(hz[0]); i++) {
		struct clock_scale s;
		uint64_t hour;

		clock_scale_init(&s, hz[i]);
		assert_true(s.mul >> 31);
		hour = clock_scale(&s, hz[i] * 3600);
		assert_in_range(hour, 3600ull * SECOND - 4000, 3600ull * SECOND + 4000);
	}
}

static void page_makes_nanoseconds_of_the_tsc(void **state)
{
	uint32_t version;

	set_system_time(0, PAGE | 1);
	assert_int_equal(page(PAGE).flags, 1);
	version = page(PAGE).version;
	assert_true(version && !(version & 1));
	assert_int_equal(read_clock(PAGE, board_tsc(rig.b)), board_clock_ns(rig.b));
	run();
	nap_ms(3);
	stop();
	assert_true(page(PAGE).version > version); /* written again at the start */
	assert_int_equal(read_clock(PAGE, board_tsc(rig.b)), board_clock_ns(rig.b));
	assert_true(board_clock_ns(rig.b) >= 3000000);
}

static void disabled_page_is_left_alone(void **state)
{
	set_system_time(0, PAGE);
	set_system_time(1, (RIG_RAM - 16) | 1); /* not all of it is RAM */
	set_system_time(1, (1ull << 40) | 1);
	set_system_time(1, UINT64_MAX);
	for (unsigned i = 0; i < RIG_RAM; i++) {
		assert_int_equal(rig.ram[i], 0);
	}
}

static void pages_agree_whatever_a_tsc_was_set_to(void **state)
{
	uint64_t tsc;

	set_system_time(0, PAGE | 1);
	set_system_time(1, (PAGE + 64) | 1);
	run();
	nap_ms(1);
	stop();
	tsc = board_tsc(rig.b);
	move_tsc(1, 1ull << 50);
	assert_int_equal(page(PAGE).flags, 0); /* the first CPU's is not good for both */
	assert_int_equal(page(PAGE + 64).flags, 0);
	assert_int_equal(read_clock(PAGE, tsc), board_clock_ns(rig.b));
	assert_int_equal(read_clock(PAGE + 64, tsc + (1ull << 50)), board_clock_ns(rig.b));
	move_tsc(0, 1ull << 50);
	assert_int_equal(page(PAGE).flags, 1);
	assert_int_equal(page(PAGE + 64).flags, 1);
	assert_int_equal(read_clock(PAGE, tsc + (1ull << 50)), board_clock_ns(rig.b));
}

static void tsc_and_virtual_time_keep_step_over_pauses(void **state)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t clock, frozen;

		mobo_clock_start(rig.page);
		nap_ms(2); /* devices resume */
		board_run(rig.b);
		clock = board_clock_ns(rig.b);
		assert_true(clock > last);
		stop();
		frozen = board_clock_ns(rig.b);
		assert_true(frozen >= clock);
		nap_ms(2);
		assert_true(board_clock_ns(rig.b) == frozen);
		last = frozen;
	}
	/* 10 ms of drift would show if the 2 ms of each start were lost. */
	assert_in_range(tsc_as_ns(), board_now_ns(rig.b) - 1000000, board_now_ns(rig.b) + 1000000);
}

static void restored_clock_goes_on_where_it_was(void **state)
{
	const uint64_t saved = 77ull * SECOND;

	set_system_time(0, PAGE | 1);
	run();
	assert_false(board_clock_set(rig.b, saved)); /* time goes on */
	assert_true(board_clock_ns(rig.b) < saved);
	stop();
	rig_set_time(&rig, saved + 5);
	assert_true(board_clock_set(rig.b, saved));
	cpu(0)->tsc_offset = 123456789000 - board_tsc(rig.b);
	assert_int_equal(board_clock_ns(rig.b), saved);
	run();
	stop();
	assert_in_range(board_clock_ns(rig.b), saved, saved + SECOND);
	assert_in_range(board_guest_tsc(cpu(0)), 123456789000, 123456789000 + rig.b->tsc_hz);
	assert_int_equal(read_clock(PAGE, board_guest_tsc(cpu(0))), board_clock_ns(rig.b));
}

static void page_in_code_drops_the_code(void **state)
{
	board_code_page_add(cpu(0), PAGE);
	set_system_time(0, PAGE | 1);
	assert_true(atomic_load(&rig.page->kick.summary) & 1u << MOBO_KICK_DMA_CODE);
	rig_log[0].n_code_written = 0;
	board_collect(rig.b, cpu(0));
	assert_true(rig_log[0].n_code_written > 0);
	assert_true(rig_log[0].last_written == PAGE);
}

static void wall_clock_is_the_hosts(void **state)
{
	uint32_t wall[3];
	int64_t pair[8];
	struct timespec now;
	uint64_t sum;

	run();
	nap_ms(2);
	board_clock_wall(cpu(0), PAGE);
	memcpy(wall, rig.ram + PAGE, sizeof(wall));
	sum = wall[1] * (uint64_t)SECOND + wall[2] + board_clock_ns(rig.b);
	clock_gettime(CLOCK_REALTIME, &now);
	assert_true(wall[0] && !(wall[0] & 1) && wall[2] < SECOND);
	assert_in_range((uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec - sum + SECOND, 0,
			2ull * SECOND);
	assert_true(board_clock_pair(cpu(0), PAGE));
	memcpy(pair, rig.ram + PAGE, sizeof(pair));
	assert_in_range(pair[0], now.tv_sec, now.tv_sec + 1);
	assert_in_range(pair[2], 1, board_guest_tsc(cpu(0)));
	assert_int_equal(pair[3], 0);
	assert_false(board_clock_pair(cpu(0), RIG_RAM - 8));
	stop();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scale_is_exact_at_any_frequency),
		T(page_makes_nanoseconds_of_the_tsc),
		T(disabled_page_is_left_alone),
		T(pages_agree_whatever_a_tsc_was_set_to),
		T(tsc_and_virtual_time_keep_step_over_pauses),
		T(restored_clock_goes_on_where_it_was),
		T(page_in_code_drops_the_code),
		T(wall_clock_is_the_hosts),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
