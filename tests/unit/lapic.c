/* SPDX-License-Identifier: Apache-2.0 */
/* Local APICs against Intel SDM volume 3 chapter 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "irq/lapic.h"

enum { N = 4 };
static struct lapic apic[N];
static struct apic_bus bus;
static uint64_t now, tsc_extra;
static unsigned n_irq[N], n_nmi[N], n_init[N], n_sipi[N], n_base;
static uint8_t sipi_vector;
static int eoi_vector;

static unsigned index_of(struct lapic *l)
{
	return (unsigned)(l - apic);
}

static uint64_t op_now(struct lapic *l)
{
	return now;
}

static uint64_t op_tsc(struct lapic *l)
{
	return now * 2 + tsc_extra;
}

static uint64_t op_tsc_to_ns(struct lapic *l, uint64_t ticks)
{
	return ticks / 2;
}

static void op_send(struct lapic *l, const struct apic_msg *m, enum lapic_to to)
{
	if (to == LAPIC_TO_DEST) {
		apic_bus_deliver(&bus, m);
		return;
	}
	for (unsigned i = 0; i < N; i++) {
		if (to == LAPIC_TO_ALL || (to == LAPIC_TO_SELF) == (&apic[i] == l)) {
			lapic_accept(&apic[i], m);
		}
	}
}

static void op_eoi(struct lapic *l, uint8_t vector)
{
	eoi_vector = vector;
}

static void op_signal(struct lapic *l, enum lapic_signal what, uint8_t vector)
{
	unsigned i = index_of(l);

	switch (what) {
	case LAPIC_SIGNAL_IRQ: n_irq[i]++; break;
	case LAPIC_SIGNAL_NMI: n_nmi[i]++; break;
	case LAPIC_SIGNAL_INIT: n_init[i]++; break;
	case LAPIC_SIGNAL_STARTUP:
		n_sipi[i]++;
		sipi_vector = vector;
		break;
	}
}

static void op_timer_changed(struct lapic *l)
{
}

static void op_base_changed(struct lapic *l)
{
	n_base++;
}

static const struct lapic_ops ops = {
	.now_ns = op_now,
	.tsc = op_tsc,
	.tsc_to_ns = op_tsc_to_ns,
	.send = op_send,
	.eoi = op_eoi,
	.signal = op_signal,
	.timer_changed = op_timer_changed,
	.base_changed = op_base_changed,
};

static int setup(void **state)
{
	now = 1000;
	tsc_extra = 0;
	memset(apic, 0, sizeof(apic));
	memset(n_irq, 0, sizeof(n_irq));
	memset(n_nmi, 0, sizeof(n_nmi));
	memset(n_init, 0, sizeof(n_init));
	memset(n_sipi, 0, sizeof(n_sipi));
	eoi_vector = -1;
	bus = (struct apic_bus){.n = N};
	for (unsigned i = 0; i < N; i++) {
		apic[i].ops = &ops;
		bus.cpu[i] = &apic[i];
		lapic_reset(&apic[i], i, false);
		lapic_mmio_write(&apic[i], 0xf0, 0x1ff); /* SVR: enabled */
	}
	return 0;
}

static void wr(unsigned i, uint32_t offset, uint32_t val)
{
	lapic_mmio_write(&apic[i], offset, val);
}

static uint32_t rd(unsigned i, uint32_t offset)
{
	return lapic_mmio_read(&apic[i], offset);
}

static int fixed(unsigned dest, uint8_t vector)
{
	return apic_bus_deliver(&bus, &(struct apic_msg){.dest = dest, .vector = vector});
}

static bool x2(unsigned i)
{
	return lapic_msr_write(&apic[i], 0x1b, LAPIC_BASE | APIC_BASE_EN | APIC_BASE_EXTD);
}

static void power_on_values(void **state)
{
	lapic_reset(&apic[1], 1, false);
	assert_int_equal(rd(1, 0x20), 1 << 24);
	assert_int_equal(rd(1, 0x30) & 0xff, 0x14);
	assert_int_equal(rd(1, 0x80), 0);
	assert_int_equal(rd(1, 0xd0), 0);
	assert_int_equal(rd(1, 0xe0), 0xffffffff);
	assert_int_equal(rd(1, 0xf0), 0xff);
	for (uint32_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) {
		assert_int_equal(rd(1, lvt), 0x10000);
	}
	assert_int_equal(apic[0].s.apic_base, 0xfee00900);
	assert_int_equal(apic[1].s.apic_base, 0xfee00800);
}

static void priorities_follow_tpr_and_isr(void **state)
{
	assert_int_equal(fixed(0, 0x41), 1);
	assert_int_equal(fixed(0, 0x41), 0);
	assert_int_equal(fixed(0, 0x45), 1);
	assert_int_equal(lapic_pending(&apic[0]), 0x45);
	wr(0, 0x80, 0x40); /* TPR class 4 holds class 4 back */
	assert_int_equal(lapic_pending(&apic[0]), -1);
	assert_int_equal(lapic_cr8_read(&apic[0]), 4);
	lapic_cr8_write(&apic[0], 3);
	assert_int_equal(rd(0, 0x80), 0x30);
	assert_int_equal(lapic_ack(&apic[0]), 0x45);
	assert_int_equal(rd(0, 0xa0), 0x40);	       /* PPR */
	assert_int_equal(lapic_pending(&apic[0]), -1); /* 0x41: same class */
	assert_int_equal(fixed(0, 0x51), 1);
	assert_int_equal(lapic_ack(&apic[0]), 0x51);
	assert_int_equal(rd(0, 0x120), 1 << 5 | 1 << 17); /* ISR 0x40-0x5f */
	wr(0, 0xb0, 0);
	assert_int_equal(rd(0, 0xa0), 0x40);
	wr(0, 0xb0, 0);
	assert_int_equal(rd(0, 0xa0), 0x30);
	assert_int_equal(lapic_ack(&apic[0]), 0x41);
}

static void eoi_of_a_level_interrupt_is_broadcast(void **state)
{
	apic_bus_deliver(&bus, &(struct apic_msg){.dest = 0, .vector = 0x61, .level = true});
	assert_int_equal(rd(0, 0x1b0), 1 << 1); /* TMR */
	lapic_ack(&apic[0]);
	wr(0, 0xb0, 0);
	assert_int_equal(eoi_vector, 0x61);
	eoi_vector = -1;
	fixed(0, 0x61);
	assert_int_equal(rd(0, 0x1b0), 0);
	lapic_ack(&apic[0]);
	wr(0, 0xb0, 0);
	assert_int_equal(eoi_vector, -1);
}

static void software_disable_refuses_fixed_and_masks_lvt(void **state)
{
	wr(0, 0x320, 0x30);
	wr(0, 0xf0, 0xff);
	assert_int_equal(fixed(0, 0x40), -1);
	assert_int_equal(rd(0, 0x320), 0x10030);
	wr(0, 0x320, 0x30);
	assert_int_equal(rd(0, 0x320), 0x10030); /* the mask cannot be cleared */
	assert_int_equal(apic_bus_deliver(&bus, &(struct apic_msg){.dest = 0, .mode = APIC_NMI}),
			 1);
	assert_int_equal(n_nmi[0], 1);
}

static void flat_and_cluster_destinations(void **state)
{
	struct apic_msg m = {.vector = 0x50, .logical = true};

	for (unsigned i = 0; i < N; i++) {
		wr(i, 0xd0, 1u << (24 + i));
	}
	m.dest = 0x0a;
	assert_int_equal(apic_bus_deliver(&bus, &m), 1);
	assert_int_equal(lapic_pending(&apic[0]), -1);
	assert_int_equal(lapic_ack(&apic[1]), 0x50);
	assert_int_equal(lapic_ack(&apic[3]), 0x50);
	for (unsigned i = 0; i < N; i++) {
		wr(i, 0xe0, 0x0fffffff); /* cluster model */
		wr(i, 0xd0, (i / 2 << 4 | 1u << (i & 1)) << 24);
	}
	m.vector = 0x60;
	m.dest = 0x12; /* cluster 1, second */
	assert_int_equal(apic_bus_deliver(&bus, &m), 1);
	assert_int_equal(lapic_pending(&apic[3]), 0x60);
	assert_int_equal(lapic_pending(&apic[2]), -1);
	m.dest = 0xff;
	m.vector = 0x70;
	apic_bus_deliver(&bus, &m);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(lapic_pending(&apic[i]), 0x70);
	}
}

static void lowest_priority_goes_to_the_idlest(void **state)
{
	struct apic_msg m = {.dest = 0xff, .vector = 0x90, .mode = APIC_LOWEST, .logical = true};

	wr(0, 0x80, 0x20);
	wr(1, 0x80, 0x10);
	wr(2, 0x80, 0x30);
	wr(3, 0x80, 0x40);
	assert_int_equal(apic_bus_deliver(&bus, &m), 1);
	assert_int_equal(lapic_pending(&apic[1]), 0x90);
	for (unsigned i = 0; i < N; i++) {
		assert_true(i == 1 || lapic_pending(&apic[i]) < 0);
	}
}

static void icr_shorthands(void **state)
{
	wr(1, 0x300, 0x40000 | 0x31); /* self */
	assert_int_equal(lapic_pending(&apic[1]), 0x31);
	wr(1, 0x300, 0x80000 | 0x42); /* all */
	wr(1, 0x300, 0xc0000 | 0x53); /* all but self */
	assert_int_equal(lapic_pending(&apic[1]), 0x42);
	assert_int_equal(lapic_pending(&apic[0]), 0x53);
	assert_int_equal(lapic_pending(&apic[3]), 0x53);
	wr(1, 0x310, 2 << 24);
	wr(1, 0x300, 0x64);
	assert_int_equal(lapic_pending(&apic[2]), 0x64);
	assert_int_equal(rd(1, 0x300), 0x64); /* idle */
	assert_int_equal(rd(1, 0x310), 2 << 24);
}

static void init_and_startup_reach_the_others(void **state)
{
	wr(0, 0x300, 0xc4500); /* INIT, assert */
	assert_int_equal(n_init[1] + n_init[2] + n_init[3], 3);
	assert_int_equal(n_init[0], 0);
	wr(0, 0x300, 0xc8500); /* INIT level de-assert: nothing */
	assert_int_equal(n_init[1], 1);
	wr(0, 0x310, 3 << 24);
	wr(0, 0x300, 0x4699);
	assert_int_equal(n_sipi[3], 1);
	assert_int_equal(sipi_vector, 0x99);
}

static void illegal_vectors_set_esr(void **state)
{
	wr(0, 0x370, 0xfe); /* error interrupt */
	wr(0, 0x300, 0x40000 | 0x05);
	assert_int_equal(rd(0, 0x280), 0);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 1 << 5);
	assert_int_equal(lapic_pending(&apic[0]), 0xfe);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 0);
	fixed(0, 3);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 1 << 6);
	rd(0, 0x3f8 & ~0xf);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 1 << 7);
}

static void error_entry_with_a_bad_vector_does_not_recurse(void **state)
{
	wr(0, 0x370, 0x02);
	wr(0, 0x300, 0x40000 | 0x05);
	wr(0, 0x280, 0);
	assert_int_equal(rd(0, 0x280), 1 << 5 | 1 << 6);
}

static void run_timer(unsigned i, uint64_t until)
{
	while (lapic_deadline(&apic[i]) <= until) {
		now = lapic_deadline(&apic[i]);
		lapic_expire(&apic[i], now);
	}
	now = until;
}

static void one_shot_timer_divides(void **state)
{
	wr(0, 0x320, 0x40);
	wr(0, 0x3e0, 0x3); /* by 16 */
	wr(0, 0x380, 1000);
	now += 16 * 400;
	assert_int_equal(rd(0, 0x390), 600);
	run_timer(0, 1000 + 15999);
	assert_int_equal(lapic_pending(&apic[0]), -1);
	run_timer(0, 1000 + 16000);
	assert_int_equal(lapic_ack(&apic[0]), 0x40);
	assert_int_equal(rd(0, 0x390), 0);
	assert_true(lapic_deadline(&apic[0]) == UINT64_MAX);
}

static void expired_timer_stays_at_zero_in_another_mode(void **state)
{
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x40);
	wr(0, 0x380, 1000);
	now += 1500; /* it expires with the change of mode at the latest */
	wr(0, 0x320, 0x20000 | 0x40);
	assert_int_equal(lapic_ack(&apic[0]), 0x40);
	assert_true(lapic_deadline(&apic[0]) == UINT64_MAX);
	now += 700;
	assert_int_equal(rd(0, 0x390), 0);
	assert_int_equal(rd(0, 0x380), 1000);
}

static void divide_table(void **state)
{
	static const unsigned divide[] = {2, 4, 8, 16, 32, 64, 128, 1};

	for (unsigned k = 0; k < 8; k++) {
		wr(0, 0x3e0, (k & 3) | (k & 4) << 1);
		wr(0, 0x380, 1000000);
		now += 256000;
		assert_int_equal(1000000 - rd(0, 0x390), 256000 / divide[k]);
	}
}

static void periodic_timer_reloads_and_skips_what_was_missed(void **state)
{
	unsigned n = 0;

	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x20000 | 0x40);
	wr(0, 0x380, 100000);
	for (unsigned k = 1; k <= 5; k++) {
		run_timer(0, 1000 + k * 100000);
		n += lapic_ack(&apic[0]) == 0x40;
		wr(0, 0xb0, 0);
	}
	assert_int_equal(n, 5);
	now = 1000 + 50 * 100000 + 30000;
	lapic_expire(&apic[0], now);
	assert_int_equal(lapic_deadline(&apic[0]), 1000 + 51 * 100000);
	assert_int_equal(rd(0, 0x390), 70000);
}

static void masked_timer_counts_silently(void **state)
{
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x10040);
	wr(0, 0x380, 1000);
	run_timer(0, now + 2000);
	assert_int_equal(rd(0, 0x390), 0);
	assert_int_equal(lapic_pending(&apic[0]), -1);
}

static void tsc_deadline_fires_once_and_clears(void **state)
{
	uint64_t val;

	assert_true(lapic_msr_write(&apic[0], 0x6e0, 5000));
	lapic_msr_read(&apic[0], 0x6e0, &val);
	assert_int_equal(val, 0); /* not in this mode */
	wr(0, 0x320, 0x40000 | 0x40);
	lapic_msr_write(&apic[0], 0x6e0, op_tsc(&apic[0]) + 10000);
	lapic_msr_read(&apic[0], 0x6e0, &val);
	assert_int_equal(val, 12000);
	assert_int_equal(lapic_deadline(&apic[0]), 6000);
	wr(0, 0x380, 77); /* ignored in this mode */
	assert_int_equal(lapic_deadline(&apic[0]), 6000);
	run_timer(0, 6000);
	assert_int_equal(lapic_ack(&apic[0]), 0x40);
	lapic_msr_read(&apic[0], 0x6e0, &val);
	assert_int_equal(val, 0);
	lapic_msr_write(&apic[0], 0x6e0, 1); /* past: at once */
	assert_true(lapic_deadline(&apic[0]) <= now);
	lapic_msr_write(&apic[0], 0x6e0, 0);
	assert_true(lapic_deadline(&apic[0]) == UINT64_MAX);
}

static void tsc_deadline_follows_a_moved_tsc(void **state)
{
	lapic_timer_tsc_moved(&apic[0]); /* no deadline to move */
	wr(0, 0x320, 0x40000 | 0x40);
	lapic_timer_tsc_moved(&apic[0]);
	assert_true(lapic_deadline(&apic[0]) == UINT64_MAX);
	lapic_msr_write(&apic[0], 0x6e0, op_tsc(&apic[0]) + 10000);
	tsc_extra = 4000;
	lapic_timer_tsc_moved(&apic[0]);
	assert_int_equal(lapic_deadline(&apic[0]), now + 3000);
	tsc_extra = 20000;
	lapic_timer_tsc_moved(&apic[0]);
	assert_int_equal(lapic_deadline(&apic[0]), now);
}

static void lint_pins(void **state)
{
	assert_true(lapic_extint_open(&apic[0])); /* the virtual wire after reset */
	assert_false(lapic_extint_open(&apic[1]));
	wr(1, 0x360, 0x400); /* LINT1: NMI */
	lapic_lint(&apic[1], 1, true);
	lapic_lint(&apic[1], 1, true);
	assert_int_equal(n_nmi[1], 1);
	lapic_lint(&apic[1], 1, false);
	wr(1, 0x350, 0x55); /* LINT0: fixed, edge */
	lapic_lint(&apic[1], 0, true);
	assert_int_equal(lapic_pending(&apic[1]), 0x55);
}

static void lint0_level_repeats_after_eoi(void **state)
{
	wr(1, 0x350, 0x8055);
	lapic_lint(&apic[1], 0, true);
	assert_int_equal(lapic_ack(&apic[1]), 0x55);
	assert_int_equal(rd(1, 0x350), 0xc055); /* remote IRR */
	wr(1, 0xb0, 0);
	assert_int_equal(lapic_ack(&apic[1]), 0x55);
	lapic_lint(&apic[1], 0, false);
	wr(1, 0xb0, 0);
	assert_int_equal(lapic_pending(&apic[1]), -1);
	assert_int_equal(rd(1, 0x350), 0x8055);
}

static void base_msr_transitions(void **state)
{
	const uint64_t off = LAPIC_BASE, on = off | APIC_BASE_EN, ext = on | APIC_BASE_EXTD;

	assert_false(lapic_msr_write(&apic[1], 0x1b, off | APIC_BASE_EXTD)); /* invalid */
	assert_false(lapic_msr_write(&apic[1], 0x1b, on | 1));		     /* reserved */
	assert_false(lapic_msr_write(&apic[1], 0x1b, on | 1ull << 50));
	assert_true(lapic_msr_write(&apic[1], 0x1b, ext));
	assert_false(lapic_msr_write(&apic[1], 0x1b, on)); /* only through disabled */
	assert_true(lapic_msr_write(&apic[1], 0x1b, off));
	assert_false(lapic_hw_enabled(&apic[1]));
	assert_int_equal(fixed(1, 0x40), -1);
	assert_false(lapic_msr_write(&apic[1], 0x1b, ext)); /* through xAPIC */
	assert_true(lapic_msr_write(&apic[1], 0x1b, on));
	assert_int_equal(apic[1].s.svr, 0xff); /* state was lost */
	assert_true(lapic_msr_write(&apic[1], 0x1b, 0x12345000 | APIC_BASE_EN));
	assert_int_equal(apic[1].s.apic_base, 0x12345800);
}

static void x2apic_registers(void **state)
{
	uint64_t val;

	assert_false(lapic_msr_read(&apic[2], 0x802, &val)); /* xAPIC mode */
	assert_true(x2(2));
	assert_true(lapic_msr_read(&apic[2], 0x802, &val));
	assert_int_equal(val, 2);
	assert_true(lapic_msr_read(&apic[2], 0x80d, &val));
	assert_int_equal(val, 1 << 2);			   /* LDR: cluster 0, bit 2 */
	assert_false(lapic_msr_write(&apic[2], 0x802, 0)); /* read only */
	assert_false(lapic_msr_write(&apic[2], 0x80d, 0));
	assert_false(lapic_msr_read(&apic[2], 0x80e, &val)); /* no DFR */
	assert_false(lapic_msr_read(&apic[2], 0x80b, &val)); /* write only */
	assert_false(lapic_msr_write(&apic[2], 0x80b, 1));   /* EOI takes 0 */
	assert_true(lapic_msr_write(&apic[2], 0x80b, 0));
	assert_false(lapic_msr_write(&apic[2], 0x808, 0x100)); /* reserved bits */
	assert_true(lapic_msr_write(&apic[2], 0x808, 0x20));
	assert_false(lapic_msr_write(&apic[2], 0x831, 0));
	assert_false(lapic_msr_read(&apic[2], 0x83f, &val));
	assert_true(lapic_msr_write(&apic[2], 0x83f, 0x77));
	assert_int_equal(lapic_pending(&apic[2]), 0x77);
	assert_false(lapic_msr_read(&apic[2], 0x840, &val));
}

static void x2apic_icr_is_one_write_with_32_bit_destination(void **state)
{
	for (unsigned i = 0; i < N; i++) {
		assert_true(x2(i));
	}
	assert_true(lapic_msr_write(&apic[0], 0x830, 3ull << 32 | 0x44));
	assert_int_equal(lapic_pending(&apic[3]), 0x44);
	assert_true(lapic_msr_write(&apic[0], 0x830, 0xffffffffull << 32 | 0x45));
	assert_int_equal(lapic_pending(&apic[1]), 0x45);
	assert_int_equal(lapic_pending(&apic[0]), 0x45);
	assert_true(lapic_msr_write(&apic[0], 0x830, 6ull << 32 | 0x800 | 0x56)); /* logical */
	assert_int_equal(lapic_pending(&apic[1]), 0x56);
	assert_int_equal(lapic_pending(&apic[2]), 0x56);
	assert_int_equal(lapic_pending(&apic[3]), 0x45);
}

static void msi_messages(void **state)
{
	struct apic_msg m = apic_msi_decode(0xfee03004, 0x4131); /* logical, lowest */

	assert_int_equal(m.dest, 3);
	assert_true(m.logical);
	assert_int_equal(m.vector, 0x31);
	assert_int_equal(m.mode, APIC_LOWEST);
	assert_false(m.level);
	assert_true(apic_msi_decode(0xfee00000, 0xc030).level);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(power_on_values, setup),
		cmocka_unit_test_setup(priorities_follow_tpr_and_isr, setup),
		cmocka_unit_test_setup(eoi_of_a_level_interrupt_is_broadcast, setup),
		cmocka_unit_test_setup(software_disable_refuses_fixed_and_masks_lvt, setup),
		cmocka_unit_test_setup(flat_and_cluster_destinations, setup),
		cmocka_unit_test_setup(lowest_priority_goes_to_the_idlest, setup),
		cmocka_unit_test_setup(icr_shorthands, setup),
		cmocka_unit_test_setup(init_and_startup_reach_the_others, setup),
		cmocka_unit_test_setup(illegal_vectors_set_esr, setup),
		cmocka_unit_test_setup(error_entry_with_a_bad_vector_does_not_recurse, setup),
		cmocka_unit_test_setup(one_shot_timer_divides, setup),
		cmocka_unit_test_setup(expired_timer_stays_at_zero_in_another_mode, setup),
		cmocka_unit_test_setup(divide_table, setup),
		cmocka_unit_test_setup(periodic_timer_reloads_and_skips_what_was_missed, setup),
		cmocka_unit_test_setup(masked_timer_counts_silently, setup),
		cmocka_unit_test_setup(tsc_deadline_fires_once_and_clears, setup),
		cmocka_unit_test_setup(tsc_deadline_follows_a_moved_tsc, setup),
		cmocka_unit_test_setup(lint_pins, setup),
		cmocka_unit_test_setup(lint0_level_repeats_after_eoi, setup),
		cmocka_unit_test_setup(base_msr_transitions, setup),
		cmocka_unit_test_setup(x2apic_registers, setup),
		cmocka_unit_test_setup(x2apic_icr_is_one_write_with_32_bit_destination, setup),
		cmocka_unit_test_setup(msi_messages, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
