/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board with its vCPU threads and a device that answers: parking, start-up, round trips,
 * shoot-downs, timers. Suite `device`.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "board_rig.h"

enum { CPUS = 3 };
static struct rig rig;
static struct rig_claims c;
static struct mobo_error err;
static _Atomic bool hold; /* run() goes on while set and nothing is wanted */
static _Atomic unsigned n_runs[CPUS];

#define PIO  MOBO__V1__REGION_KIND__REGION_PIO
#define SYNC MOBO__V1__REGION_ATTR__ATTR_SYNC

static void nap(unsigned us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

#define EVENTUALLY(cond)                                                     \
	do {                                                                 \
		for (unsigned tries = 0; !(cond) && tries < 5000; tries++) { \
			nap(1000);                                           \
		}                                                            \
		assert_true(cond);                                           \
	} while (0)

static bool wanted(struct vcpu *v)
{
	return atomic_load(&v->req) || atomic_load(v->kick_summary);
}

/* A guest that computes. */
static enum mobo_exit spin(struct vcpu *v)
{
	n_runs[v->index]++;
	while (hold && !wanted(v)) {
		__builtin_ia32_pause();
	}
	return hold || wanted(v) ? MOBO_EXIT_REQUEST : MOBO_EXIT_HALT;
}

static void start_cpus(unsigned n)
{
	rig_start(&rig, n);
	claims_init(&c);
	memset(n_runs, 0, sizeof(n_runs));
	hold = true;
	rig_run = spin;
	assert_int_equal(board_start_threads(rig.b), 0);
	mobo_clock_start(rig.page);
}

static int setup_one(void **state)
{
	start_cpus(1);
	return 0;
}

static int setup(void **state)
{
	start_cpus(CPUS);
	return 0;
}

static int teardown(void **state)
{
	hold = false;
	board_stop_threads(rig.b);
	rig_finish(&rig);
	return 0;
}

static void send(unsigned from, uint32_t icr_high, uint32_t icr_low)
{
	struct lapic *l = &rig.b->cpu[from].lapic;

	lapic_mmio_write(l, 0x310, icr_high << 24);
	lapic_mmio_write(l, 0x300, icr_low);
}

static void start_all(void)
{
	for (unsigned i = 1; i < CPUS; i++) {
		rig_log[i].n_inits = 0;
		n_runs[i] = 0;
	}
	send(0, 0, 0xc4500);
	for (unsigned i = 1; i < CPUS; i++) {
		EVENTUALLY(rig_log[i].n_inits == 1);
	}
	send(0, 0, 0xc4608);
	for (unsigned i = 1; i < CPUS; i++) {
		EVENTUALLY(n_runs[i] > 0);
	}
}

static void nothing_runs_before_run_and_after_pause(void **state)
{
	uint64_t tsc;
	unsigned n;

	EVENTUALLY(board_parked(rig.b));
	assert_int_equal(n_runs[0], 0);
	assert_int_equal(board_tsc(rig.b), 0);
	board_run(rig.b);
	EVENTUALLY(n_runs[0] > 0);
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	n = n_runs[0];
	tsc = board_tsc(rig.b);
	assert_true(tsc > 0);
	nap(20000);
	assert_int_equal(n_runs[0], n);
	assert_true(board_tsc(rig.b) == tsc);
	board_run(rig.b);
	EVENTUALLY(n_runs[0] > n);
	assert_true(board_tsc(rig.b) >= tsc);
}

static _Atomic unsigned n_backward, n_samples;

/* A guest that compares its clocks with what any CPU saw of them before. */
static enum mobo_exit watch_clocks(struct vcpu *v)
{
	static _Atomic uint64_t seen_tsc, seen_ns;

	n_runs[v->index]++;
	while (hold && !wanted(v)) {
		uint64_t last_tsc = atomic_load(&seen_tsc), last_ns = atomic_load(&seen_ns);
		uint64_t tsc, ns;

		__builtin_ia32_lfence(); /* as guests put before RDTSC */
		tsc = board_guest_tsc(v);
		ns = board_clock_ns(v->board);
		n_backward += tsc < last_tsc || ns < last_ns;
		n_samples++;
		atomic_compare_exchange_strong(&seen_tsc, &last_tsc, tsc);
		atomic_compare_exchange_strong(&seen_ns, &last_ns, ns);
	}
	return hold || wanted(v) ? MOBO_EXIT_REQUEST : MOBO_EXIT_HALT;
}

static void clocks_never_go_back_over_pauses(void **state)
{
	n_backward = n_samples = 0;
	rig_run = watch_clocks;
	board_run(rig.b);
	start_all();
	for (unsigned i = 0; i < 50; i++) {
		unsigned before;

		board_pause(rig.b);
		EVENTUALLY(board_parked(rig.b));
		mobo_clock_stop(rig.page);
		nap(500);
		mobo_clock_start(rig.page);
		nap(500);
		before = n_samples;
		board_run(rig.b);
		EVENTUALLY(n_samples > before);
	}
	assert_int_equal(n_backward, 0);
}

static void others_wait_for_startup(void **state)
{
	board_run(rig.b);
	EVENTUALLY(n_runs[0] > 0);
	nap(10000);
	assert_int_equal(n_runs[1] + n_runs[2], 0);
	start_all();
	assert_int_equal(rig.b->cpu[1].v->seg[SEG_CS].selector, 0x0800);
	assert_int_equal(rig.b->cpu[1].v->seg[SEG_CS].base, 0x8000);
	assert_int_equal(rig.b->cpu[1].v->rip, 0);
}

static void ipi_wakes_a_halted_cpu(void **state)
{
	uint64_t before;

	board_run(rig.b);
	start_all();
	hold = false;
	lapic_mmio_write(&rig.b->cpu[1].lapic, 0xf0, 0x1ff);
	EVENTUALLY(rig.b->cpu[1].v->halted);
	nap(10000);
	before = n_runs[1];
	send(0, 1, 0x41);
	EVENTUALLY(n_runs[1] > before);
}

static void idle_cpus_sleep(void **state)
{
	unsigned n;

	board_run(rig.b);
	hold = false;
	nap(50000);
	n = n_runs[0];
	nap(200000);
	assert_in_range(n_runs[0] - n, 0, 2);
}

static void timer_interrupts_a_computing_guest(void **state)
{
	struct lapic *l = &rig.b->cpu[0].lapic;
	uint64_t start;

	lapic_mmio_write(l, 0xf0, 0x1ff);
	lapic_mmio_write(l, 0x320, 0x40);
	lapic_mmio_write(l, 0x3e0, 0xb);
	start = mobo_monotonic_ns();
	lapic_mmio_write(l, 0x380, 20000000);
	board_run(rig.b);
	EVENTUALLY(l->s.irr[2]);
	assert_in_range(mobo_monotonic_ns() - start, 20000000, 2000000000);
	hold = false;
}

static void timer_wakes_a_halted_guest(void **state)
{
	struct lapic *l = &rig.b->cpu[0].lapic;

	lapic_mmio_write(l, 0xf0, 0x1ff);
	lapic_mmio_write(l, 0x320, 0x40);
	lapic_mmio_write(l, 0x3e0, 0xb);
	hold = false;
	lapic_mmio_write(l, 0x380, 20000000);
	board_run(rig.b);
	EVENTUALLY(l->s.irr[2]);
}

static void reset_brings_everybody_back(void **state)
{
	unsigned before;

	board_run(rig.b);
	start_all();
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	before = rig_log[1].n_resets;
	board_reset(rig.b);
	assert_int_equal(rig_log[1].n_resets, before + 1);
	assert_true(rig.b->cpu[1].v->wait_sipi);
	board_run(rig.b);
	start_all();
}

static enum mobo_exit shut_down(struct vcpu *v)
{
	return MOBO_EXIT_SHUTDOWN;
}

static void triple_fault_stops_the_cpu_until_reset(void **state)
{
	rig_run = shut_down;
	board_run(rig.b);
	EVENTUALLY(rig.b->triple_faults == 1);
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	rig_run = spin;
	board_reset(rig.b);
	assert_int_equal(rig.b->triple_faults, 0);
	board_run(rig.b);
	EVENTUALLY(n_runs[0] > 0);
}

/* -- A device that answers -- */

static uint64_t echo(struct rig_device *d, const struct mobo_io_req *req, uint8_t *bounce)
{
	static uint64_t last;

	switch (req->op) {
	case MOBO_IO_WRITE: last = req->data; break;
	case MOBO_IO_READ_STRING: memset(bounce, 0x42, req->count * req->size); break;
	case MOBO_IO_READ: return last + req->addr;
	case MOBO_IO_WRITE_STRING:
	case MOBO_IO_PCI_CONFIG: break;
	}
	return 0;
}

static void work(struct vcpu *v, void *arg)
{
	uint32_t *out = arg;
	uint16_t words[300];

	board_pio_write(v, 0x300, 4, 0x1000);
	out[0] = board_pio_read(v, 0x304, 2);
	out[1] = board_pio_read_string(v, 0x300, 2, words, 300);
	out[2] = words[299];
}

static void round_trips_and_strings(void **state)
{
	uint32_t out[3] = {0};

	claims_region(&c, PIO, 0x300, 8, SYNC)->string_ops = 1;
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	rig_serve(&rig, echo, NULL);
	assert_int_equal(board_on_cpu(rig.b, 0, work, out), 0);
	assert_int_equal(out[0], 0x1004);
	assert_int_equal(out[1], 300);
	assert_int_equal(out[2], 0x4242);
}

static _Atomic unsigned n_reads;

static enum mobo_exit read_port(struct vcpu *v)
{
	if (v->index == 0) {
		board_pio_read(v, 0x300, 1);
		n_reads++;
	}
	return MOBO_EXIT_REQUEST;
}

static void silent_device_can_be_paused_and_reset(void **state)
{
	claims_region(&c, PIO, 0x300, 8, SYNC);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	rig_run = read_port;
	board_run(rig.b);
	nap(20000);
	assert_int_equal(n_reads, 0);
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b)); /* inside its access */
	board_run(rig.b);
	nap(20000);
	assert_int_equal(n_reads, 0); /* waits on */
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	rig_run = spin;
	board_reset(rig.b);
	assert_int_equal(n_reads, 1); /* given up */
	board_run(rig.b);
	EVENTUALLY(n_runs[0] > 0);
}

static void detaching_ends_the_wait(void **state)
{
	n_reads = 0;
	claims_region(&c, PIO, 0x300, 8, SYNC);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	rig_run = read_port;
	board_run(rig.b);
	nap(20000);
	assert_int_equal(board_detach(rig.b, 0), 0);
	EVENTUALLY(n_reads > 2);
	rig_run = spin;
}

/* -- Shoot-downs -- */

static _Atomic bool stop_storm;
static _Atomic unsigned n_storms[CPUS];

/* Every CPU decodes, stores into code and moves a BAR of its own, as fast as it can. */
static enum mobo_exit storm(struct vcpu *v)
{
	uint64_t gpa = 0x10000 + v->index * 0x1000u;

	for (unsigned i = 0; i < 50 && !stop_storm; i++) {
		board_code_page_add(v, gpa);
		board_code_page_add(v, 0x20000);
		board_code_lines_add(v, 0x20000, 64);
		board_code_written(v, 0x20000 + v->index, 1);
		if (i % 16 == 0) {
			board_map_update(v->board, v);
		}
		(void)board_mem_lookup(v->board, 0x100000 * i);
		n_storms[v->index]++;
		if (atomic_load(&v->req) & REQ_SYNC) {
			return MOBO_EXIT_REQUEST;
		}
	}
	return MOBO_EXIT_REQUEST;
}

static void everyone_shoots_at_everyone_without_deadlock(void **state)
{
	memset(n_storms, 0, sizeof(n_storms));
	stop_storm = false;
	board_run(rig.b);
	start_all();
	rig_run = storm;
	for (unsigned i = 0; i < 20; i++) {
		nap(20000);
		board_map_update(rig.b, NULL); /* and the main thread with them */
	}
	for (unsigned i = 0; i < CPUS; i++) {
		EVENTUALLY(n_storms[i] > 10);
		EVENTUALLY(rig_log[i].n_code_written > 0);
		EVENTUALLY(rig_log[i].n_map_changed > 0);
	}
	stop_storm = true;
	rig_run = spin;
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
}

static void code_is_protected_elsewhere_when_add_returns(void **state)
{
	board_run(rig.b);
	start_all();
	for (unsigned i = 0; i < CPUS; i++) {
		rig_log[i].n_protected = 0;
	}
	board_pause(rig.b); /* parked CPUs learn of it before they run */
	EVENTUALLY(board_parked(rig.b));
	board_code_page_add(rig.b->cpu[0].v, 0x9000);
	assert_true(board_code_page(rig.b, 0x9000));
	board_run(rig.b);
	EVENTUALLY(rig_log[1].n_protected == 1 && rig_log[2].n_protected == 1);
	assert_true(rig_log[1].last_protected == 0x9000);
}

/* -- Debuggers -- */

static _Atomic int break_on; /* this CPU meets a breakpoint */
static _Atomic unsigned n_stops[CPUS];

/* A guest whose every run is an instruction when a debugger steps it. */
static enum mobo_exit debugged(struct vcpu *v)
{
	n_runs[v->index]++;
	while (hold && !wanted(v) && !v->debug.step && break_on != (int)v->index) {
		__builtin_ia32_pause();
	}
	if (wanted(v) || !(v->debug.step || break_on == (int)v->index)) {
		return MOBO_EXIT_REQUEST;
	}
	v->debug.step = false;
	break_on = -1;
	n_stops[v->index]++;
	vcpu_request(v, REQ_DEBUG);
	return MOBO_EXIT_DEBUG;
}

static void breakpoint_of_one_cpu_parks_all_until_run(void **state)
{
	unsigned n;

	break_on = -1;
	rig_run = debugged;
	board_run(rig.b);
	start_all();
	break_on = 1;
	EVENTUALLY(board_parked(rig.b));
	assert_int_equal(rig.b->debug_stops, 1 << 1);
	assert_int_equal(rig.b->debug_untold, 1 << 1);
	n = n_runs[2];
	nap(20000);
	assert_int_equal(n_runs[2], n);
	board_run(rig.b);
	EVENTUALLY(n_runs[2] > n);
	assert_int_equal(rig.b->debug_stops, 0);
}

static void step_runs_one_cpu_of_a_parked_machine(void **state)
{
	unsigned n[CPUS];
	uint64_t tsc;

	break_on = -1;
	memset(n_stops, 0, sizeof(n_stops));
	rig_run = debugged;
	board_run(rig.b);
	start_all();
	assert_int_equal(board_step(rig.b, 0, true), -EBUSY);
	assert_int_equal(board_step(rig.b, CPUS, true), -EINVAL);
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	memcpy(n, n_runs, sizeof(n));
	tsc = board_tsc(rig.b);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(board_step(rig.b, 1, true), 0);
		EVENTUALLY(board_parked(rig.b));
		assert_int_equal(rig.b->debug_stops, 1 << 1);
		assert_int_equal(n_stops[1], i);
	}
	assert_int_equal(n_runs[0], n[0]);
	assert_int_equal(n_runs[2], n[2]);
	assert_true(board_tsc(rig.b) == tsc);
	assert_int_equal(board_step(rig.b, 0, false), 0);
	nap(20000);
	assert_int_equal(n_runs[0], n[0]); /* not before all run */
	board_run(rig.b);
	EVENTUALLY(board_parked(rig.b));
	assert_int_equal(rig.b->debug_stops, 1);
}

static void step_of_a_cpu_that_cannot_run_is_refused_or_waits(void **state)
{
	struct vcpu *v = rig.b->cpu[0].v;

	break_on = -1;
	rig_run = debugged;
	EVENTUALLY(board_parked(rig.b));
	assert_int_equal(board_step(rig.b, 1, true), -EAGAIN); /* it waits for SIPI */
	v->halted = true;
	assert_int_equal(board_step(rig.b, 0, true), -EAGAIN);
	assert_int_equal(board_step(rig.b, 0, false), 0);
	board_run(rig.b);
	EVENTUALLY(v->debug.step); /* it sleeps with that */
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	assert_false(v->debug.step); /* a pause ends it */
	assert_int_equal(rig.b->debug_stops, 0);
}

static void nothing_steps_within_an_access(void **state)
{
	claims_region(&c, PIO, 0x300, 8, SYNC);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	rig_run = read_port;
	board_run(rig.b);
	nap(20000);
	board_pause(rig.b);
	EVENTUALLY(board_parked(rig.b));
	assert_int_equal(board_step(rig.b, 0, true), -EAGAIN);
	assert_int_equal(board_step(rig.b, 0, false), -EAGAIN);
	rig_run = spin;
	board_reset(rig.b);
}

int main(void)
{
#define T1(name) cmocka_unit_test_setup_teardown(name, setup_one, teardown)
#define T(name)	 cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T1(nothing_runs_before_run_and_after_pause),
		T(clocks_never_go_back_over_pauses),
		T(others_wait_for_startup),
		T(ipi_wakes_a_halted_cpu),
		T1(idle_cpus_sleep),
		T1(timer_interrupts_a_computing_guest),
		T1(timer_wakes_a_halted_guest),
		T(reset_brings_everybody_back),
		T1(triple_fault_stops_the_cpu_until_reset),
		T1(round_trips_and_strings),
		T1(silent_device_can_be_paused_and_reset),
		T1(detaching_ends_the_wait),
		T(everyone_shoots_at_everyone_without_deadlock),
		T(code_is_protected_elsewhere_when_add_returns),
		T(breakpoint_of_one_cpu_parks_all_until_run),
		T(step_runs_one_cpu_of_a_parked_machine),
		T(step_of_a_cpu_that_cannot_run_is_refused_or_waits),
		T1(nothing_steps_within_an_access),
	};
#undef T
#undef T1

	return cmocka_run_group_tests(tests, NULL, NULL);
}
