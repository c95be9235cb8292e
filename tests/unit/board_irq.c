/* SPDX-License-Identifier: Apache-2.0 */
/* The board's interrupts seen from one vCPU: lines, the 8259s, APICs, timers. */
#include "board_one.h"

static void init_pics(void)
{
	static const struct {
		uint16_t port;
		uint8_t val;
	} seq[] = {{0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04}, {0x21, 0x01}, {0xa0, 0x11},
		   {0xa1, 0x70}, {0xa1, 0x02}, {0xa1, 0x01}, {0x21, 0x00}, {0xa1, 0x00}};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(seq); i++) {
		board_pio_write(cpu(), seq[i].port, 1, seq[i].val);
	}
}

static void expire(uint64_t ns)
{
	rig_set_time(&rig, ns);
	cpu_timers(&rig.b->cpu[0]);
}

static void pit_interrupts_through_the_virtual_wire(void **state)
{
	init_pics();
	board_pio_write(cpu(), 0x43, 1, 0x34);
	board_pio_write(cpu(), 0x40, 1, 0xa9);
	board_pio_write(cpu(), 0x40, 1, 0x04); /* 1193: about 1 ms */
	assert_false(board_irq_poll(cpu()));
	assert_in_range(cpu_deadline_ns(&rig.b->cpu[0]), 999000, 1001000);
	expire(1001000);
	assert_true(cpu()->req & REQ_IRQ);
	assert_true(board_irq_poll(cpu()));
	assert_int_equal(board_irq_ack(cpu()), 8);
	assert_false(board_irq_poll(cpu()));
	expire(2100000);
	assert_false(board_irq_poll(cpu())); /* in service */
	board_pio_write(cpu(), 0x20, 1, 0x20);
	assert_true(cpu()->req & REQ_IRQ);
	assert_int_equal(board_irq_ack(cpu()), 8);
}

static void second_8259_request_follows_the_first(void **state)
{
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_ISA, 4);
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_ISA, 3);
	assert_int_equal(attach(), 0);
	init_pics();
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_int_equal(board_irq_ack(cpu()), 0x0c);
	rig.dev[0].ch->irq.level = 3;
	changed_map(0);
	assert_true(board_irq_poll(cpu())); /* IRQ 3 nests */
	assert_int_equal(board_irq_ack(cpu()), 0x0b);
	assert_int_equal(board_irq_ack(cpu()), -1);
}

static void line_that_drops_withdraws_the_request(void **state)
{
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_ISA, 4);
	assert_int_equal(attach(), 0);
	init_pics();
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_true(board_irq_poll(cpu()));
	rig.dev[0].ch->irq.level = 0;
	changed_map(0);
	assert_false(board_irq_poll(cpu()));
	assert_int_equal(board_irq_ack(cpu()), -1);
	rig.dev[0].ch->irq.pulse = 1;
	changed_map(0);
	assert_int_equal(board_irq_ack(cpu()), 0x0c);
}

static void io_apic(uint8_t reg, uint32_t val)
{
	board_mmio_write(cpu(), 0xfec00000, 4, reg);
	board_mmio_write(cpu(), 0xfec00010, 4, val);
}

static void level_interrupt_through_the_io_apic_repeats_until_lowered(void **state)
{
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_GSI, 20);
	assert_int_equal(attach(), 0);
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	io_apic(0x10 + 2 * 20, 0x8000 | 0x61);
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_int_equal(board_irq_ack(cpu()), 0x61);
	assert_false(board_irq_poll(cpu()));
	board_mmio_write(cpu(), 0xfee000b0, 4, 0);
	assert_true(board_irq_poll(cpu()));
	assert_int_equal(board_irq_ack(cpu()), 0x61);
	rig.dev[0].ch->irq.level = 0;
	changed_map(0);
	board_mmio_write(cpu(), 0xfee000b0, 4, 0);
	assert_false(board_irq_poll(cpu()));
}

static void a_line_that_falls_and_rises_between_two_looks_is_an_edge(void **state)
{
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_GSI, 20);
	assert_int_equal(attach(), 0);
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	io_apic(0x10 + 2 * 20, 0x61); /* edge-triggered */
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_int_equal(board_irq_ack(cpu()), 0x61);
	board_mmio_write(cpu(), 0xfee000b0, 4, 0);
	changed_map(0);
	assert_false(board_irq_poll(cpu()));
	rig.dev[0].ch->irq.fell = 1; /* and it is high again */
	changed_map(0);
	assert_true(board_irq_poll(cpu()));
	assert_int_equal(board_irq_ack(cpu()), 0x61);
	board_mmio_write(cpu(), 0xfee000b0, 4, 0);
	changed_map(0);
	assert_false(board_irq_poll(cpu()));
	/* Low while it is looked at, high at the next look: one edge. */
	rig.dev[0].ch->irq.level = 0;
	changed_map(0);
	rig.dev[0].ch->irq.fell = 1;
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_int_equal(board_irq_ack(cpu()), 0x61);
	board_mmio_write(cpu(), 0xfee000b0, 4, 0);
	assert_false(board_irq_poll(cpu()));
}

static void pit_is_gsi_2(void **state)
{
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	io_apic(0x10 + 2 * 2, 0x31);
	board_pio_write(cpu(), 0x43, 1, 0x34);
	board_pio_write(cpu(), 0x40, 1, 0xa9);
	board_pio_write(cpu(), 0x40, 1, 0x04);
	expire(1001000);
	assert_int_equal(board_irq_ack(cpu()), 0x31);
}

static void cr8_holds_interrupts_back(void **state)
{
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	board_cr8_write(cpu(), 5);
	board_mmio_write(cpu(), 0xfee00300, 4, 0x40052); /* self IPI */
	assert_false(board_irq_poll(cpu()));
	assert_false(cpu()->req & REQ_IRQ);
	board_cr8_write(cpu(), 4);
	assert_true(cpu()->req & REQ_IRQ);
	assert_int_equal(board_irq_ack(cpu()), 0x52);
	assert_int_equal(board_cr8_read(cpu()), 4);
}

static void a_second_nmi_waits_beside_the_first(void **state)
{
	static const uint32_t want[] = {REQ_NMI, REQ_NMI | REQ_NMI_2, REQ_NMI | REQ_NMI_2};

	for (unsigned i = 0; i < 3; i++) {
		board_mmio_write(cpu(), 0xfee00300, 4, 0x4400); /* to APIC ID 0 */
		assert_int_equal(cpu()->req & (REQ_NMI | REQ_NMI_2), want[i]);
	}
}

static void hypercall_ipis_go_to_the_apic_ids_that_exist(void **state)
{
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	assert_true(board_send_ipi(cpu(), 0, 0x52));
	assert_false(board_send_ipi(cpu(), 1, 0x53));
	assert_false(board_send_ipi(cpu(), 0xff, 0x54)); /* not everybody */
	assert_false(board_send_ipi(cpu(), 0xffffffff, 0x55));
	assert_int_equal(board_irq_ack(cpu()), 0x52);
	assert_int_equal(board_irq_ack(cpu()), -1);
}

static void relocated_apic_page_is_io(void **state)
{
	cpu_set_current(&rig.b->cpu[0]);
	assert_true(board_apic_msr_write(cpu(), 0x1b, 0x200000 | 0x800));
	assert_null(r_at(0x200000));
	assert_ptr_equal(r_at(0x201000), rig.ram + 0x201000);
	assert_int_equal(board_mmio_read(cpu(), 0x200030, 4) & 0xff, 0x14);
	assert_int_equal(board_mmio_read(cpu(), 0xfee00030, 4), 0xffffffff);
	assert_true(board_apic_msr_write(cpu(), 0x1b, 0x200000 | 0xc00)); /* x2APIC: no page */
	rig.ram[0x200030] = 0x33;
	assert_int_equal(board_mmio_read(cpu(), 0x200030, 1), 0x33);
	cpu_set_current(NULL);
}

static void nmi_and_init_lines(void **state)
{
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_NMI, 0);
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_INIT, 0);
	assert_int_equal(attach(), 0);
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	board_mmio_write(cpu(), 0xfee00360, 4, 0x400);
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_true(cpu()->req & REQ_NMI);
	rig.dev[0].ch->irq.pulse = 2;
	changed_map(0);
	assert_true(cpu()->req & REQ_INIT);
}

static void hpet_legacy_replaces_the_pit(void **state)
{
	init_pics();
	board_pio_write(cpu(), 0x43, 1, 0x34);
	board_pio_write(cpu(), 0x40, 1, 0xa9);
	board_pio_write(cpu(), 0x40, 1, 0x04);
	board_mmio_write(cpu(), 0xfed00010, 4, 3);
	expire(5000000);
	assert_false(board_irq_poll(cpu()));
	board_mmio_write(cpu(), 0xfed00100, 4, 4);
	board_mmio_write(cpu(), 0xfed00108, 8, board_mmio_read(cpu(), 0xfed000f0, 8) + 100);
	expire(5002000);
	assert_int_equal(board_irq_ack(cpu()), 8);
}

static void pit_that_nobody_sees_wakes_nobody(void **state)
{
	init_pics();
	board_pio_write(cpu(), 0x43, 1, 0x34);
	board_pio_write(cpu(), 0x40, 1, 0xa9);
	board_pio_write(cpu(), 0x40, 1, 0x04); /* 1193: about 1 ms */
	board_mmio_write(cpu(), 0xfed00010, 4, 3);
	assert_true(cpu_deadline_ns(&rig.b->cpu[0]) == UINT64_MAX);
	rig_set_time(&rig, 10500000);
	board_mmio_write(cpu(), 0xfed00010, 4, 1);
	assert_false(board_irq_poll(cpu())); /* ticks of that time are gone */
	assert_in_range(cpu_deadline_ns(&rig.b->cpu[0]), 10900000, 11100000);
	expire(11100000);
	assert_int_equal(board_irq_ack(cpu()), 8);
}

static void ferr_holds_irq_13_until_port_f0(void **state)
{
	init_pics();
	board_ferr(cpu());
	assert_int_equal(board_irq_ack(cpu()), 0x75);
	board_pio_write(cpu(), 0xf0, 1, 0);
	board_pio_write(cpu(), 0xa0, 1, 0x20);
	board_pio_write(cpu(), 0x20, 1, 0x20);
	assert_false(board_irq_poll(cpu()));
	board_ferr(cpu());
	assert_int_equal(board_irq_ack(cpu()), 0x75);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(pit_interrupts_through_the_virtual_wire),
		T(second_8259_request_follows_the_first),
		T(line_that_drops_withdraws_the_request),
		T(level_interrupt_through_the_io_apic_repeats_until_lowered),
		T(a_line_that_falls_and_rises_between_two_looks_is_an_edge),
		T(pit_is_gsi_2),
		T(cr8_holds_interrupts_back),
		T(a_second_nmi_waits_beside_the_first),
		T(hypercall_ipis_go_to_the_apic_ids_that_exist),
		T(relocated_apic_page_is_io),
		T(nmi_and_init_lines),
		T(hpet_legacy_replaces_the_pit),
		T(pit_that_nobody_sees_wakes_nobody),
		T(ferr_holds_irq_13_until_port_f0),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
