/* SPDX-License-Identifier: Apache-2.0 */
/* PCI configuration space against PCI 3.0 and the 82371SB data sheet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "board_rig.h"

static struct rig rig;
static struct rig_claims c;
static struct mobo_error err;

static int setup(void **state)
{
	rig_start(&rig, 1);
	claims_init(&c);
	return 0;
}

static int teardown(void **state)
{
	rig_finish(&rig);
	return 0;
}

static struct vcpu *cpu(void)
{
	return rig.b->cpu[0].v;
}

#define CONST MOBO__V1__REGION_ATTR__ATTR_CONST

static void absent_functions_read_as_ones(void **state)
{
	assert_int_equal(rig_pci_read(&rig, 0, 0, 4), 0xffffffff);
	board_pio_write(cpu(), 0xcf8, 4, 0xffffffff);
	assert_int_equal(board_pio_read(cpu(), 0xcf8, 4), 0x80fffffc);
	assert_int_equal(board_pio_read(cpu(), 0xcfc, 4), 0xffffffff); /* bus 255 */
}

static void header_shows_the_claim(void **state)
{
	Mobo__V1__PciFunction *f = claims_function(&c, 1, 0, 0x8086, 0x7000);

	f->class_code = 0x060100;
	f->revision = 2;
	f->subsystem_vendor_id = 0x1af4;
	f->subsystem_id = 0x1100;
	f->interrupt_pin = 1;
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	assert_int_equal(rig_pci_read(&rig, 8, 0, 4), 0x70008086);
	assert_int_equal(rig_pci_read(&rig, 8, 2, 2), 0x7000);
	assert_int_equal(rig_pci_read(&rig, 8, 8, 4), 0x06010002);
	assert_int_equal(rig_pci_read(&rig, 8, 0x2c, 4), 0x11001af4);
	assert_int_equal(rig_pci_read(&rig, 8, 0x3d, 1), 1);
	rig_pci_write(&rig, 8, 0, 4, 0);
	assert_int_equal(rig_pci_read(&rig, 8, 0, 4), 0x70008086);
	rig_pci_write(&rig, 8, 0x3c, 1, 11);
	assert_int_equal(rig_pci_read(&rig, 8, 0x3c, 2), 0x010b);
	/* Without the enable bit nothing is selected. */
	board_pio_write(cpu(), 0xcf8, 4, 8 << 8);
	assert_int_equal(board_pio_read(cpu(), 0xcfc, 4), 0xffffffff);
}

static void narrow_accesses_to_0xcf8_do_not_select(void **state)
{
	board_pio_write(cpu(), 0xcf8, 4, 0x80000800);
	board_pio_write(cpu(), 0xcf9, 1, 0x55);
	board_pio_write(cpu(), 0xcf8, 2, 0x5555);
	assert_int_equal(board_pio_read(cpu(), 0xcf8, 4), 0x80000800);
}

static void bars_size_and_decode(void **state)
{
	claims_function(&c, 3, 0, 0x1234, 0x1111);
	claims_region(&c, MOBO__V1__REGION_KIND__REGION_BAR_PREFETCH, 0, 0x1800, CONST)->bar = 0;
	claims_region(&c, MOBO__V1__REGION_KIND__REGION_BAR_IO, 0, 0x20, CONST)->bar = 1;
	claims_region(&c, MOBO__V1__REGION_KIND__REGION_ROM_BAR, 0, 0x8000, CONST);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	memset(rig.dev[0].ch->shadow, 0x5a, sizeof(rig.dev[0].ch->shadow));
	rig_pci_write(&rig, 24, 0x10, 4, 0xffffffff);
	rig_pci_write(&rig, 24, 0x14, 4, 0xffffffff);
	rig_pci_write(&rig, 24, 0x18, 4, 0xffffffff);
	rig_pci_write(&rig, 24, 0x30, 4, 0xfffffffe);
	assert_int_equal(rig_pci_read(&rig, 24, 0x10, 4), 0xffffe008); /* 8 KiB */
	assert_int_equal(rig_pci_read(&rig, 24, 0x14, 4), 0xffffffe1);
	assert_int_equal(rig_pci_read(&rig, 24, 0x18, 4), 0);
	assert_int_equal(rig_pci_read(&rig, 24, 0x30, 4), 0xffff8000);

	rig_pci_write(&rig, 24, 0x10, 4, 0xe0000000);
	rig_pci_write(&rig, 24, 0x14, 4, 0xc000);
	assert_int_equal(board_mmio_read(cpu(), 0xe0000000, 4), 0xffffffff);
	rig_pci_write(&rig, 24, 4, 2, 3);
	assert_int_equal(board_mmio_read(cpu(), 0xe0000000, 4), 0x5a5a5a5a);
	assert_int_equal(board_pio_read(cpu(), 0xc010, 2), 0x5a5a);
	assert_int_equal(board_pio_read(cpu(), 0xc020, 1), 0xff);
	rig_pci_write(&rig, 24, 0x14, 4, 0xd000);
	assert_int_equal(board_pio_read(cpu(), 0xc010, 1), 0xff);
	assert_int_equal(board_pio_read(cpu(), 0xd010, 1), 0x5a);
	rig_pci_write(&rig, 24, 4, 2, 2);
	assert_int_equal(board_pio_read(cpu(), 0xd010, 1), 0xff);
	assert_true(rig_log[0].n_map_changed > 0);

	rig_pci_write(&rig, 24, 0x30, 4, 0xe1000000); /* enable bit clear */
	assert_int_equal(board_mmio_read(cpu(), 0xe1000000, 1), 0xff);
	rig_pci_write(&rig, 24, 0x30, 4, 0xe1000001);
	assert_int_equal(board_mmio_read(cpu(), 0xe1000000, 1), 0x5a);
}

static void bus_master_follows_the_command_register(void **state)
{
	claims_function(&c, 3, 0, 0x1234, 0x1111);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	assert_int_equal(rig.dev[0].ch->bus_master, 0);
	rig_pci_write(&rig, 24, 4, 2, 4);
	assert_int_equal(rig.dev[0].ch->bus_master, 1);
	rig_pci_write(&rig, 24, 4, 2, 0);
	assert_int_equal(rig.dev[0].ch->bus_master, 0);
}

static void status_bits_clear_by_writing_one(void **state)
{
	claims_function(&c, 3, 0, 0x1234, 0x1111);
	claims_config(&c, 6, 2, 0xa280, 0, false);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	rig_pci_write(&rig, 24, 6, 2, 0x2000);
	assert_int_equal(rig_pci_read(&rig, 24, 6, 2), 0x8280);
	rig_pci_write(&rig, 24, 4, 4, 0xffff0000);
	assert_int_equal(rig_pci_read(&rig, 24, 6, 2), 0x0280);
}

static void masks_and_reset_values_of_the_claim(void **state)
{
	claims_function(&c, 3, 0, 0x1234, 0x1111);
	claims_config(&c, 0x59, 1, 0x30, 0x33, false);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	assert_int_equal(rig_pci_read(&rig, 24, 0x59, 1), 0x30);
	rig_pci_write(&rig, 24, 0x58, 4, 0xffffffff);
	assert_int_equal(rig_pci_read(&rig, 24, 0x58, 4), 0x3300);
	rig_outside(&rig);
	board_reset_chips(rig.b);
	assert_int_equal(rig_pci_read(&rig, 24, 0x59, 1), 0x30);
}

static void any_slot_starts_at_3_and_conflicts_are_refused(void **state)
{
	struct rig_claims c2;

	claims_function(&c, MOBO_PCI_ANY, 0, 1, 1);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	assert_int_equal(rig.b->device[0]->fn[0].device, 3);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	assert_int_equal(rig.b->device[1]->fn[0].device, 4);
	claims_init(&c2);
	claims_function(&c2, 3, 0, 2, 2);
	assert_true(rig_attach(&rig, &c2.attach, 0, &err) < 0);
	assert_non_null(strstr(err.text, "03.0"));
}

static void functions_of_one_device_set_the_multifunction_bit(void **state)
{
	struct rig_claims c2;

	claims_function(&c, 1, 0, 1, 1);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	assert_int_equal(rig_pci_read(&rig, 8, 0x0e, 1), 0);
	claims_init(&c2);
	claims_function(&c2, 1, 1, 1, 2);
	assert_int_equal(rig_attach(&rig, &c2.attach, 0, &err), 0);
	assert_int_equal(rig_pci_read(&rig, 8, 0x0e, 1), 0x80);
	assert_int_equal(rig_pci_read(&rig, 9, 0, 4), 0x00020001);
}

static void kick(unsigned slot)
{
	atomic_fetch_or(&rig.page->kick.summary, 1u << slot);
	board_irq_poll(cpu());
}

/* PIIX3 at 1.0 with its routing registers, a device with INTA# at 3.0. */
static void attach_router_and_card(void)
{
	struct rig_claims c2;

	claims_function(&c, 1, 0, 0x8086, 0x7000)->pirq_offset = 0x60;
	claims_config(&c, 0x60, 4, 0x80808080, 0x8f8f8f8f, false);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	claims_init(&c2);
	claims_function(&c2, 3, 0, 1, 1)->interrupt_pin = 1;
	claims_line(&c2, MOBO__V1__LINE_KIND__LINE_INTX, 0);
	assert_int_equal(rig_attach(&rig, &c2.attach, 0, &err), 0);
}

static void intx_goes_through_pirq_to_the_isa_interrupt(void **state)
{
	attach_router_and_card();
	rig.dev[1].ch->irq.level = 1;
	kick(1);
	assert_int_equal(rig_pci_read(&rig, 24, 6, 1) & 8, 8);
	assert_int_equal(rig.b->pic.s.slave.lines, 0); /* not routed yet */
	/* Slot 3, INTA#: (3 - 1 + 0) & 3 = PIRQC. */
	rig_pci_write(&rig, 8, 0x62, 1, 11);
	assert_int_equal(rig.b->pic.s.slave.lines, 1 << 3);
	assert_int_equal(rig.b->ioapic.s.lines, 1 << 11);
	rig_pci_write(&rig, 8, 0x62, 1, 10);
	assert_int_equal(rig.b->pic.s.slave.lines, 1 << 2);
	rig_pci_write(&rig, 24, 4, 2, 0x400); /* INTx disable */
	assert_int_equal(rig.b->pic.s.slave.lines, 0);
	rig_pci_write(&rig, 24, 4, 2, 0);
	assert_int_equal(rig.b->pic.s.slave.lines, 1 << 2);
	rig.dev[1].ch->irq.level = 0;
	kick(1);
	assert_int_equal(rig.b->pic.s.slave.lines, 0);
	assert_int_equal(rig_pci_read(&rig, 24, 6, 1) & 8, 0);
}

static void shared_intx_is_a_wired_or(void **state)
{
	struct rig_claims c2;

	attach_router_and_card();
	claims_init(&c2);
	claims_function(&c2, 7, 0, 1, 1)->interrupt_pin = 1;
	claims_line(&c2, MOBO__V1__LINE_KIND__LINE_INTX, 0);
	assert_int_equal(rig_attach(&rig, &c2.attach, 0, &err), 0);
	rig_pci_write(&rig, 8, 0x62, 1, 11);
	rig.dev[1].ch->irq.level = 1;
	kick(1);
	rig.dev[2].ch->irq.level = 1;
	kick(2);
	rig.dev[1].ch->irq.level = 0;
	kick(1);
	assert_int_equal(rig.b->pic.s.slave.lines, 1 << 3);
	rig.dev[2].ch->irq.level = 0;
	kick(2);
	assert_int_equal(rig.b->pic.s.slave.lines, 0);
}

static void msi_reaches_the_local_apic_while_bus_master(void **state)
{
	claims_function(&c, 3, 0, 1, 1);
	claims_config(&c, 6, 2, 0x10, 0, false);
	claims_config(&c, 0x34, 1, 0x40, 0, false);
	claims_config(&c, 0x40, 4, 0x00800005, 0x00710000, false); /* 64-bit */
	claims_config(&c, 0x44, 4, 0, 0xfffffffc, false);
	claims_config(&c, 0x48, 4, 0, 0xffffffff, false);
	claims_config(&c, 0x4c, 2, 0, 0xffff, false);
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	board_mmio_write(cpu(), 0xfee000f0, 4, 0x1ff);
	rig_pci_write(&rig, 24, 0x44, 4, 0xfee00000);
	rig_pci_write(&rig, 24, 0x4c, 2, 0x51);
	rig_pci_write(&rig, 24, 0x42, 2, 1);
	rig.dev[0].ch->irq.msi[0] = 1;
	kick(0);
	assert_false(board_irq_poll(cpu())); /* no bus master: dropped */
	rig_pci_write(&rig, 24, 4, 2, 4);
	rig.dev[0].ch->irq.msi[0] = 1;
	kick(0);
	assert_true(board_irq_poll(cpu()));
	assert_int_equal(board_irq_ack(cpu()), 0x51);
}

static void piix4_pm_base_moves_the_timer(void **state)
{
	claims_function(&c, 1, 3, 0x8086, 0x7113);
	claims_config(&c, 0x40, 4, 1, 0xffc0, false);
	claims_config(&c, 0x80, 1, 0, 1, false);
	claims_region(&c, MOBO__V1__REGION_KIND__REGION_BAR_IO, 0, 0x40, CONST)->bar = 0x40;
	assert_int_equal(rig_attach(&rig, &c.attach, 0, &err), 0);
	memset(rig.dev[0].ch->shadow, 0x5a, sizeof(rig.dev[0].ch->shadow));
	rig_pci_write(&rig, 11, 0x40, 4, 0xb001);
	assert_int_equal(board_pio_read(cpu(), 0xb008, 4), 0xffffffff);
	rig_pci_write(&rig, 11, 0x80, 1, 1);
	rig_set_time(&rig, 1000000000);
	assert_int_equal(board_pio_read(cpu(), 0xb008, 4), 3579545);
	assert_int_equal(board_pio_read(cpu(), 0xb009, 1), 3579545 >> 8 & 0xff);
	rig_set_time(&rig, 10000000000);
	assert_int_equal(board_pio_read(cpu(), 0xb008, 4), 35795450 & 0xffffff);
	assert_int_equal(board_pio_read(cpu(), 0xb000, 2), 0x5a5a); /* the chip's own */
	rig_pci_write(&rig, 11, 0x40, 4, 0x601);
	assert_int_equal(board_pio_read(cpu(), 0x608, 4), 35795450 & 0xffffff);
	assert_int_equal(board_pio_read(cpu(), 0xb000, 2), 0xffff);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(absent_functions_read_as_ones),
		T(header_shows_the_claim),
		T(narrow_accesses_to_0xcf8_do_not_select),
		T(bars_size_and_decode),
		T(bus_master_follows_the_command_register),
		T(status_bits_clear_by_writing_one),
		T(masks_and_reset_values_of_the_claim),
		T(any_slot_starts_at_3_and_conflicts_are_refused),
		T(functions_of_one_device_set_the_multifunction_bit),
		T(intx_goes_through_pirq_to_the_isa_interrupt),
		T(shared_intx_is_a_wired_or),
		T(msi_reaches_the_local_apic_while_bus_master),
		T(piix4_pm_base_moves_the_timer),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
