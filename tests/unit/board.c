/* SPDX-License-Identifier: Apache-2.0 */
/* The board seen from one vCPU: maps, attributes, code pages. */
#include "board_one.h"

#define SYNC	 MOBO__V1__REGION_ATTR__ATTR_SYNC
#define POSTED	 MOBO__V1__REGION_ATTR__ATTR_POSTED
#define DOORBELL MOBO__V1__REGION_ATTR__ATTR_DOORBELL
#define SHADOW	 MOBO__V1__REGION_ATTR__ATTR_SHADOW
#define CONST	 MOBO__V1__REGION_ATTR__ATTR_CONST
#define PIO	 MOBO__V1__REGION_KIND__REGION_PIO
#define MMIO	 MOBO__V1__REGION_KIND__REGION_MMIO

/* -- Memory -- */

static void ram_rom_and_holes(void **state)
{
	assert_ptr_equal(r_at(0), rig.ram);
	assert_ptr_equal(w_at(0x9ffff), rig.ram + 0x9ffff);
	assert_ptr_equal(w_at(0xb8000), rig.ram + 0xb8000); /* no chipset, no video: all RAM */
	assert_ptr_equal(r_at(0xfffff), rig.rom + RIG_ROM - 1);
	assert_null(w_at(0xfffff));
	assert_ptr_equal(r_at(0x100000), rig.ram + 0x100000);
	assert_null(r_at(RIG_RAM));
	assert_ptr_equal(r_at(0xffffffff), rig.rom + RIG_ROM - 1);
	assert_ptr_equal(r_at(0x100000000ull - RIG_ROM), rig.rom);
	assert_null(w_at(0xfffffff0));
	assert_null(r_at(0xfee00000));
	assert_null(r_at(0xfec00000));
	assert_null(r_at(0xfed00000));
	assert_null(r_at(1ull << 39));
	assert_null(r_at(UINT64_MAX));
}

static void writes_to_rom_are_dropped_and_holes_read_as_ones(void **state)
{
	board_mmio_write(cpu(), 0xfffffff0, 4, 0x12345678);
	assert_int_equal(board_mmio_read(cpu(), 0xfffffff0, 4), 0x90909090);
	assert_true(board_mmio_read(cpu(), 0xd0000000, 8) == UINT64_MAX);
	assert_int_equal(board_mmio_read(cpu(), 0xd0000000, 2), 0xffff);
	assert_int_equal(rig.b->unclaimed, 2);
}

static void overlay_switches_reads_and_writes_of_ram_apart(void **state)
{
	Mobo__V1__Region *r = claims_region(&c, MMIO, 0xe0000, 0x10000, SYNC);

	r->direct = "ram";
	r->overlay = 1;
	r->priority = 2;
	assert_int_equal(attach(), 0);
	/* A chipset is there: nothing but ROM below. */
	assert_ptr_equal(r_at(0xe0000), rig.rom + RIG_ROM - 0x20000);
	assert_null(w_at(0xe0000));
	assert_null(r_at(0xc0000));
	rig.dev[0].ch->map[0] = MOBO_MAP_WRITE;
	changed_map(0);
	assert_ptr_equal(r_at(0xe0000), rig.rom + RIG_ROM - 0x20000);
	assert_ptr_equal(w_at(0xe0000), rig.ram + 0xe0000);
	rig.dev[0].ch->map[0] = MOBO_MAP_WRITE | MOBO_MAP_READ;
	changed_map(0);
	assert_ptr_equal(r_at(0xe1234), rig.ram + 0xe1234);
	rig.dev[0].ch->map[0] = MOBO_MAP_READ;
	changed_map(0);
	assert_ptr_equal(r_at(0xe1234), rig.ram + 0xe1234);
	assert_null(w_at(0xe1234));
	board_mmio_write(cpu(), 0xe1234, 1, 7); /* dropped */
	assert_int_equal(rig.ram[0xe1234], 0);
	assert_ptr_equal(r_at(0xf0000), rig.rom + RIG_ROM - 0x10000);
	assert_int_equal(rig_log[0].n_map_changed, 3);
}

static void direct_memory_follows_its_map_word(void **state)
{
	Mobo__V1__Region *r = claims_region(&c, MMIO, 0xa0000, 0x10000, CONST);

	r->direct = "mem";
	assert_int_equal(rig_attach(&rig, &c.attach, 0x40000, &err), 0);
	assert_null(r_at(0xa0000));
	rig.dev[0].ch->map[0] = 0x10000 | MOBO_MAP_READ | MOBO_MAP_WRITE;
	changed_map(0);
	assert_non_null(r_at(0xa0000));
	*w_at(0xa0123) = 0x77;
	assert_int_equal(rig.dev[0].mem[0x10123], 0x77);
	/* Beyond the memory: not direct. */
	rig.dev[0].ch->map[0] = 0x38000 | MOBO_MAP_READ | MOBO_MAP_WRITE;
	changed_map(0);
	assert_null(r_at(0xa0000));
	rig.dev[0].ch->map[0] = 0xfffff000 | MOBO_MAP_READ | MOBO_MAP_WRITE;
	changed_map(0);
	assert_null(r_at(0xa0000));
}

static void regions_smaller_than_a_page_leave_the_rest_of_it(void **state)
{
	claims_region(&c, MMIO, 0x200010, 0x10, CONST);
	assert_int_equal(attach(), 0);
	memset(rig.dev[0].ch->shadow, 0x5a, 64);
	memset(rig.ram + 0x200000, 0x11, 4096);
	assert_null(r_at(0x200000)); /* the page is I/O for the CPU */
	assert_ptr_equal(r_at(0x201000), rig.ram + 0x201000);
	assert_int_equal(board_mmio_read(cpu(), 0x200010, 4), 0x5a5a5a5a);
	assert_int_equal(board_mmio_read(cpu(), 0x200020, 4), 0x11111111);
	assert_int_equal(board_mmio_read(cpu(), 0x20000e, 4), 0x5a5a1111);
	board_mmio_write(cpu(), 0x200000, 4, 0x22222222);
	assert_int_equal(rig.ram[0x200003], 0x22);
}

static void priority_decides_and_equals_are_refused(void **state)
{
	struct rig_claims c2;

	claims_region(&c, MMIO, 0xd0000000, 0x2000, CONST)->priority = 1;
	assert_int_equal(attach(), 0);
	memset(rig.dev[0].ch->shadow, 0x11, 4096);
	claims_init(&c2);
	claims_region(&c2, MMIO, 0xd0000800, 0x100, CONST)->priority = 2;
	assert_int_equal(rig_attach(&rig, &c2.attach, 0, &err), 0);
	memset(rig.dev[1].ch->shadow, 0x22, 4096);
	assert_int_equal(board_mmio_read(cpu(), 0xd0000000, 1), 0x11);
	assert_int_equal(board_mmio_read(cpu(), 0xd0000800, 1), 0x22);
	assert_int_equal(board_mmio_read(cpu(), 0xd0000900, 1), 0x11);
	assert_true(rig_attach(&rig, &c.attach, 0, &err) < 0);
	assert_int_equal(err.code, 17 /* EEXIST */);
}

static void bad_claims_are_refused(void **state)
{
	claims_region(&c, PIO, 0xfff8, 0x10, SYNC);
	assert_true(attach() < 0);
	claims_init(&c);
	claims_region(&c, MMIO, UINT64_MAX - 10, 0x10, SYNC);
	assert_true(attach() < 0);
	claims_init(&c);
	claims_region(&c, MMIO, 0xd0000000, 0, SYNC);
	assert_true(attach() < 0);
	claims_init(&c);
	claims_region(&c, MMIO, 0xd0000000, 0x1000, SYNC)->direct = "disk";
	assert_true(attach() < 0);
	claims_init(&c);
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_ISA, 16);
	assert_true(attach() < 0);
	claims_init(&c);
	claims_function(&c, 3, 0, 1, 1);
	claims_config(&c, 254, 4, 0, 0, false);
	assert_true(attach() < 0);
}

static void a20_gate_masks_bit_20(void **state)
{
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_A20, 0);
	claims_line(&c, MOBO__V1__LINE_KIND__LINE_A20, 0);
	assert_int_equal(attach(), 0);
	assert_true(board_a20_mask(rig.b) == UINT64_MAX);
	rig.dev[0].ch->irq.level = 3;
	changed_map(0);
	rig.dev[0].ch->irq.level = 1;
	changed_map(0);
	assert_true(board_a20_mask(rig.b) == UINT64_MAX); /* one is enough */
	rig.dev[0].ch->irq.level = 0;
	changed_map(0);
	assert_true(board_a20_mask(rig.b) == ~(1ull << 20));
	assert_int_equal(rig_log[0].n_map_changed, 1);
}

/* -- Attributes -- */

static void shadow_bytes_are_read_without_the_device(void **state)
{
	Mobo__V1__Region *r = claims_region(&c, PIO, 0x100, 8, SHADOW);

	r->shadow_offset = 16;
	assert_int_equal(attach(), 0);
	for (unsigned i = 0; i < 8; i++) {
		rig.dev[0].ch->shadow[16 + i] = (uint8_t)(i + 1);
	}
	assert_int_equal(board_pio_read(cpu(), 0x102, 4), 0x06050403);
	assert_int_equal(board_pio_read(cpu(), 0x107, 2), 0xff08); /* past the end: split */
}

static void posted_writes_queue_in_order(void **state)
{
	claims_region(&c, PIO, 0x80, 1, POSTED);
	assert_int_equal(attach(), 0);
	board_pio_write(cpu(), 0x80, 1, 0x11);
	board_pio_write(cpu(), 0x80, 1, 0x22);
	assert_int_equal(rig.dev[0].ch->posted_ticket, 2);
	assert_int_equal(rig.dev[0].ch->posted[0].data, 0x11);
	assert_int_equal(rig.dev[0].ch->posted[1].data, 0x22);
	assert_int_equal(rig.dev[0].ch->posted[1].slot_seq, 2);
}

static void doorbell_keeps_the_last_value(void **state)
{
	claims_region(&c, MMIO, 0xd0000000, 0x1000, DOORBELL);
	assert_int_equal(attach(), 0);
	board_mmio_write(cpu(), 0xd0000000, 4, 5);
	board_mmio_write(cpu(), 0xd0000000, 4, 6);
	assert_int_equal(rig.dev[0].ch->bell[0], 2);
	assert_int_equal(rig.dev[0].ch->bell_value[0], 6);
}

static void attributes_hold_for_ranges_of_a_region(void **state)
{
	Mobo__V1__Region *r = claims_region(&c, PIO, 0x100, 8, CONST);
	Mobo__V1__AttrRange two = MOBO__V1__ATTR_RANGE__INIT;
	Mobo__V1__AttrRange *ranges[] = {r->attrs[0], &two};

	r->attrs[0]->len = 4;
	two.offset = 4;
	two.len = 1;
	two.attr = POSTED;
	r->attrs = ranges;
	r->n_attrs = 2;
	assert_int_equal(attach(), 0);
	board_pio_write(cpu(), 0x100, 4, 1); /* constant: lost */
	assert_int_equal(rig.dev[0].ch->posted_ticket, 0);
	board_pio_write(cpu(), 0x104, 1, 1);
	board_pio_write(cpu(), 0x106, 1, 1); /* the last covers the rest */
	assert_int_equal(rig.dev[0].ch->posted_ticket, 2);
}

static void unclaimed_ports_read_as_ones(void **state)
{
	uint8_t buf[8];

	assert_int_equal(board_pio_read(cpu(), 0x1234, 4), 0xffffffff);
	assert_int_equal(board_pio_read(cpu(), 0xffff, 4), 0xffffffff);
	assert_int_equal(board_pio_read_string(cpu(), 0x1234, 2, buf, 4), 4);
	assert_int_equal(buf[7], 0xff);
	board_pio_write(cpu(), 0xffff, 4, 0);
	assert_in_range(board_pio_read_string(cpu(), 0x1234, 1, buf, 1), 1, 1);
}

/* -- Code pages -- */

static void code_bit_is_in_the_map_that_devices_read(void **state)
{
	assert_false(board_code_page(rig.b, 0x5000));
	board_code_page_add(cpu(), 0x5123);
	assert_true(board_code_page(rig.b, 0x5fff));
	assert_false(board_code_page(rig.b, 0x6000));
	assert_int_equal(rig.codemap->bits[0], 1 << 5);
	board_code_page_add(cpu(), 1ull << 38); /* nothing there: no harm */
	assert_false(board_code_page(rig.b, 1ull << 38));
}

static void stores_that_keep_coming_free_the_page(void **state)
{
	board_code_page_add(cpu(), 0x5000);
	board_code_lines_add(cpu(), 0x5020, 64);
	for (unsigned i = 0; i < 33; i++) {
		assert_true(board_code_page(rig.b, 0x5000));
		board_code_written(cpu(), 0x5000 + i, 1);
	}
	assert_false(board_code_page(rig.b, 0x5000));
	assert_true(rig_log[0].n_code_written >= 33);
	board_code_page_add(cpu(), 0x5000);
	assert_true(board_code_page(rig.b, 0x5000));
	rig_log[0].n_code_written = 0;
	board_code_written(cpu(), 0x5000, 8); /* no lines since */
	assert_int_equal(rig_log[0].n_code_written, 0);
}

static void stores_beside_code_are_nobodys_business(void **state)
{
	board_code_page_add(cpu(), 0x5000);
	board_code_lines_add(cpu(), 0x50fc, 8); /* lines 3 and 4 */
	for (unsigned i = 0; i < 100; i++) {
		board_code_written(cpu(), 0x5080, 64);
		board_code_written(cpu(), 0x5140, 0xec0);
	}
	assert_int_equal(rig_log[0].n_code_written, 0);
	assert_true(board_code_page(rig.b, 0x5000));
	board_code_written(cpu(), 0x50bc, 8);
	board_code_written(cpu(), 0x513f, 1);
	assert_int_equal(rig_log[0].n_code_written, 2);
	assert_int_equal(rig_log[0].last_written, 0x513f);
}

static void other_cpus_read_newly_marked_bytes_again(void **state)
{
	board_code_page_add(cpu(), 0x5000);
	assert_true(board_code_lines_add(cpu(), 0x5000, 100) == (rig.b->n_cpus > 1));
	assert_false(board_code_lines_add(cpu(), 0x5040, 64));
}

static void dma_into_code_drops_it(void **state)
{
	board_code_page_add(cpu(), 0x7000);
	atomic_fetch_or(mobo_code_map_dirty(rig.codemap), 1 << 7);
	atomic_fetch_or(&rig.page->kick.summary, 1u << MOBO_KICK_DMA_CODE);
	board_irq_poll(cpu());
	assert_int_equal(rig_log[0].last_written, 0x7000);
	assert_false(board_code_page(rig.b, 0x7000));
	assert_int_equal(rig.page->kick.summary, 0);
}

static void code_in_a_chips_memory_is_tracked_too(void **state)
{
	claims_region(&c, MMIO, 0xd0000000, 0x10000, CONST)->direct = "mem";
	assert_int_equal(rig_attach(&rig, &c.attach, 0x10000, &err), 0);
	rig.dev[0].ch->map[0] = MOBO_MAP_READ | MOBO_MAP_WRITE;
	changed_map(0);
	board_code_page_add(cpu(), 0xd0003000);
	assert_true(board_code_page(rig.b, 0xd0003004));
	assert_false(board_code_page(rig.b, 0xd0004000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ram_rom_and_holes),
		T(writes_to_rom_are_dropped_and_holes_read_as_ones),
		T(overlay_switches_reads_and_writes_of_ram_apart),
		T(direct_memory_follows_its_map_word),
		T(regions_smaller_than_a_page_leave_the_rest_of_it),
		T(priority_decides_and_equals_are_refused),
		T(bad_claims_are_refused),
		T(a20_gate_masks_bit_20),
		T(shadow_bytes_are_read_without_the_device),
		T(posted_writes_queue_in_order),
		T(doorbell_keeps_the_last_value),
		T(attributes_hold_for_ranges_of_a_region),
		T(unclaimed_ports_read_as_ones),
		T(code_bit_is_in_the_map_that_devices_read),
		T(stores_that_keep_coming_free_the_page),
		T(stores_beside_code_are_nobodys_business),
		T(other_cpus_read_newly_marked_bytes_again),
		T(dma_into_code_drops_it),
		T(code_in_a_chips_memory_is_tracked_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
