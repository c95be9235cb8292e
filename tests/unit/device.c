/* SPDX-License-Identifier: Apache-2.0 */
/* The chip core on a made-up chip that has every kind of register. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "test_board.h"

struct demo_state {
	uint32_t ctrl;
	uint16_t divisor;
	uint8_t bank;
	uint8_t data;
	uint8_t scratch;
	uint8_t status;
	uint8_t reserved[2];
	uint32_t seen; /* last value a write hook got */
	uint64_t deadline;
};

enum { DEMO_PORTS, DEMO_MEM, DEMO_ID };
enum { REGION_LEN = 32 };

static struct demo_state *state_of(struct mobo_dev *d)
{
	return mobo_dev_state(d);
}

static bool bank0(struct mobo_dev *d)
{
	return state_of(d)->bank == 0;
}

static bool bank1(struct mobo_dev *d)
{
	return state_of(d)->bank != 0;
}

static uint64_t status_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	uint8_t v = state_of(d)->status;

	state_of(d)->status = 0;
	return v;
}

static void ctrl_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	state_of(d)->seen = state_of(d)->ctrl; /* the hook sees the old value in the storage */
	mobo_dev_line(d, 0, val & 1);
}

static void trigger_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	state_of(d)->deadline = mobo_dev_now_ns(d) + val * 1000;
	mobo_dev_timer_set(d, 3, state_of(d)->deadline);
}

static uint64_t gap_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	return 0xa0 + offset + ((uint64_t)size << 8);
}

static void gap_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		      uint64_t val)
{
	state_of(d)->seen = (uint32_t)val;
}

static unsigned block_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			   void *buf, unsigned count)
{
	unsigned n = count > 4 ? 4 : count;

	memset(buf, 0x5a, (size_t)n * size);
	return n;
}

static const struct mobo_region demo_regions[] = {
	[DEMO_PORTS] = {.name = "ports",
			.kind = MOBO_REGION_PIO,
			.base = 0x300,
			.len = REGION_LEN,
			.priority = 1,
			.read = gap_read,
			.write = gap_write,
			.read_string = block_read},
	[DEMO_MEM] = {.name = "mem",
		      .kind = MOBO_REGION_MMIO,
		      .base = 0xfed00000,
		      .len = 4096,
		      .priority = 1},
	[DEMO_ID] = {.name = "id",
		     .kind = MOBO_REGION_PIO,
		     .base = 0x380,
		     .len = 4,
		     .attr = MOBO_CONST,
		     .priority = 1},
};

static const struct mobo_reg demo_regs[] = {
	{"DATA", DEMO_PORTS, 0, 1, offsetof(struct demo_state, data), 0xff, .visible = bank0},
	{"DIVISOR", DEMO_PORTS, 0, 2, offsetof(struct demo_state, divisor), 0xffff,
	 .visible = bank1},
	{"SCRATCH", DEMO_PORTS, 1, 1, offsetof(struct demo_state, scratch), 0x0f},
	{"BANK", DEMO_PORTS, 2, 1, offsetof(struct demo_state, bank), 0x01},
	{"STATUS", DEMO_PORTS, 3, 1, offsetof(struct demo_state, status), 0, status_read, NULL,
	 .no_peek = true},
	{"CTRL", DEMO_PORTS, 4, 4, offsetof(struct demo_state, ctrl), 0x0000ffff, NULL, ctrl_write},
	{"TRIGGER", DEMO_MEM, 0, 8, MOBO_NO_STORAGE, UINT64_MAX, NULL, trigger_write},
};

static const struct mobo_field demo_fields[] = {
	MOBO_FIELD(struct demo_state, ctrl),	       MOBO_FIELD(struct demo_state, divisor),
	MOBO_FIELD(struct demo_state, bank),	       MOBO_FIELD(struct demo_state, data),
	MOBO_FIELD(struct demo_state, scratch),	       MOBO_FIELD(struct demo_state, status),
	MOBO_FIELD_ARRAY(struct demo_state, reserved), MOBO_FIELD(struct demo_state, seen),
	MOBO_FIELD(struct demo_state, deadline),
};

static const struct mobo_line demo_lines[] = {{MOBO_LINE_ISA, 5}};

static void set_timer(struct mobo_dev *d)
{
	mobo_dev_timer_set(d, 3, state_of(d)->deadline ? state_of(d)->deadline : UINT64_MAX);
}

static int demo_init(struct mobo_dev *d)
{
	struct mobo_region r = demo_regions[DEMO_PORTS];

	r.base = mobo_dev_config_u64(d, "base", r.base);
	memcpy(mobo_dev_shadow(d, DEMO_ID), "\x11\x22\x33\x44", 4);
	if (r.base == 0) {
		return -EINVAL;
	}
	return mobo_dev_set_region(d, DEMO_PORTS, &r);
}

static void demo_reset(struct mobo_dev *d)
{
	memset(state_of(d), 0, sizeof(struct demo_state));
}

static void demo_restored(struct mobo_dev *d)
{
	mobo_dev_line(d, 0, state_of(d)->ctrl & 1);
	set_timer(d);
}

static void demo_timer(struct mobo_dev *d, unsigned timer)
{
	state_of(d)->status = (uint8_t)timer;
	state_of(d)->deadline = 0;
	mobo_dev_line_pulse(d, 0);
}

static int demo_media(struct mobo_dev *d, unsigned slot, bool force)
{
	return state_of(d)->scratch && !force ? -EBUSY : 0;
}

static const struct mobo_chip_class demo = {
	.name = "demo",
	.state_version = 1,
	.state_size = sizeof(struct demo_state),
	.regions = demo_regions,
	.n_regions = 3,
	.lines = demo_lines,
	.n_lines = 1,
	.regs = demo_regs,
	.n_regs = sizeof(demo_regs) / sizeof(demo_regs[0]),
	.fields = demo_fields,
	.n_fields = sizeof(demo_fields) / sizeof(demo_fields[0]),
	.init = demo_init,
	.reset = demo_reset,
	.restored = demo_restored,
	.timer = demo_timer,
	.media = demo_media,
};

static void demo_passes_the_tests_of_every_chip(void **state)
{
	mobo_chip_generic_tests(&demo);
}

static void wide_access_is_split_over_registers_and_gaps(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	struct demo_state *s = mobo_test_state(b);

	mobo_test_outl(b, 0x300, 0x00019cab); /* DATA, SCRATCH (mask 0f), BANK, STATUS */
	assert_int_equal(s->data, 0xab);
	assert_int_equal(s->scratch, 0x0c);
	assert_int_equal(s->bank, 1);
	mobo_test_outw(b, 0x300, 0x1234); /* now the divisor is there */
	assert_int_equal(s->divisor, 0x1234);
	assert_int_equal(mobo_test_inb(b, 0x301), 0x12);
	mobo_test_outb(b, 0x301, 0x56); /* narrow write keeps the other byte */
	assert_int_equal(s->divisor, 0x5634);
	mobo_test_outb(b, 0x302, 0);
	assert_int_equal(mobo_test_inw(b, 0x300), 0x0cab);
	/* Bytes 6 and 7 are CTRL's, 8 and 9 nobody's: the hook gets offset 8, size 2. */
	assert_int_equal(mobo_test_inl(b, 0x306), 0x02a80000u);
	mobo_test_board_free(b);
}

static void write_mask_keeps_read_only_bits(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	struct demo_state *s = mobo_test_state(b);

	s->ctrl = 0xabcd0000;
	mobo_test_outl(b, 0x304, 0xffffffff);
	assert_int_equal(s->ctrl, 0xabcdffff);
	assert_int_equal(s->seen, 0xabcd0000);
	assert_true(mobo_test_line(b, 0));
	mobo_test_outb(b, 0x304, 0xfe);
	assert_int_equal(s->ctrl, 0xabcdfffe);
	assert_false(mobo_test_line(b, 0));
	assert_int_equal(mobo_test_line_rises(b, 0), 1);
	mobo_test_board_free(b);
}

static void unclaimed_bytes_read_as_ones(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);

	assert_int_equal(mobo_test_inb(b, 0x200), 0xff);
	assert_int_equal(mobo_test_mmio_read(b, 0xfed00010, 4), 0xffffffffu);
	assert_int_equal(mobo_test_read(b, DEMO_MEM, 4094, 4), 0xffffffffu); /* over the end */
	assert_int_equal(mobo_test_inl(b, 0x380), 0x44332211);
	mobo_test_outl(b, 0x380, 0);
	assert_int_equal(mobo_test_inl(b, 0x380), 0x44332211);
	mobo_test_board_free(b);
}

static void string_access_goes_on_until_all_moved(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	uint8_t buf[20];

	mobo_test_read_string(b, DEMO_PORTS, 16, 2, buf, 10);
	for (unsigned i = 0; i < sizeof(buf); i++) {
		assert_int_equal(buf[i], 0x5a);
	}
	/* A register at the port: element by element, the port stays. */
	mobo_test_write_string(b, DEMO_PORTS, 0, 1, "abc", 3);
	assert_int_equal(((struct demo_state *)mobo_test_state(b))->data, 'c');
	mobo_test_board_free(b);
}

static void timer_fires_once_at_its_time(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);

	mobo_test_reg_write(b, "TRIGGER", 10);
	mobo_test_step(b, 9999);
	assert_int_equal(mobo_test_pulses(b, 0), 0);
	mobo_test_step(b, 1);
	assert_int_equal(mobo_test_pulses(b, 0), 1);
	assert_int_equal(mobo_test_reg_read(b, "STATUS"), 3);
	mobo_test_step(b, 1000000);
	assert_int_equal(mobo_test_pulses(b, 0), 1);
	mobo_test_board_free(b);
}

static void configuration_moves_the_ports_and_bad_one_refuses(void **state)
{
	const char *const moved[] = {"base", "0x2K", NULL};
	const char *const bad[] = {"base", "0", NULL};
	struct mobo_test_setup setup = {.config = moved};
	struct mobo_test_board *b = mobo_test_board_new(&demo, &setup);
	int r;

	mobo_test_outb(b, 0x800, 0x42);
	assert_int_equal(mobo_test_inb(b, 0x800), 0x42);
	assert_int_equal(mobo_test_inb(b, 0x300), 0xff);
	mobo_test_board_free(b);
	setup.config = bad;
	assert_null(mobo_test_board_try(&demo, &setup, &r));
	assert_int_equal(r, -EINVAL);
}

static void restart_keeps_state_lines_and_timers(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);

	mobo_test_outl(b, 0x304, 1);
	mobo_test_reg_write(b, "TRIGGER", 10);
	mobo_test_restart(b);
	assert_true(mobo_test_line(b, 0));
	mobo_test_step(b, 10000);
	assert_int_equal(mobo_test_pulses(b, 0), 1);
	mobo_test_board_free(b);
}

static void refused_medium_leaves_the_old_one(void **state)
{
	static const char *const names[] = {"media0"};
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int first;

	assert_int_equal(mobo_test_media(b, 0, names, &fd, 1, false), 0);
	first = mobo_dev_fd(mobo_test_dev(b), "media0");
	assert_true(first >= 0);
	mobo_test_outb(b, 0x301, 1); /* locked */
	assert_int_equal(mobo_test_media(b, 0, NULL, NULL, 0, false), -EBUSY);
	assert_int_equal(mobo_dev_fd(mobo_test_dev(b), "media0"), first);
	assert_true(fcntl(first, F_GETFD) >= 0);
	assert_int_equal(mobo_test_media(b, 0, NULL, NULL, 0, true), 0);
	assert_int_equal(mobo_dev_fd(mobo_test_dev(b), "media0"), -1);
	assert_true(fcntl(first, F_GETFD) < 0);
	close(fd);
	mobo_test_board_free(b);
}

static void dma_stays_inside_ram(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	struct mobo_dev *d = mobo_test_dev(b);
	uint8_t buf[16];
	size_t len = 4096;

	assert_true(mobo_dev_dma_write(d, 0x1000, "hello", 5));
	assert_memory_equal(mobo_test_ram(b) + 0x1000, "hello", 5);
	assert_int_equal(mobo_test_dma_dirty_bytes(b), 5);
	memset(buf, 0xff, sizeof(buf));
	assert_false(mobo_dev_dma_read(d, (1 << 20) - 8, buf, 16));
	assert_int_equal(buf[0], 0);
	assert_false(mobo_dev_dma_write(d, UINT64_MAX - 4, buf, 16));
	assert_false(mobo_dev_dma_write(d, 1ull << 32, buf, 1));
	assert_non_null(mobo_dev_dma_map(d, (1 << 20) - 100, &len, true));
	assert_int_equal(len, 100);
	assert_null(mobo_dev_dma_map(d, 1 << 20, &len, true));
	mobo_test_board_free(b);
}

static void older_save_leaves_newer_fields_at_reset(void **state)
{
	struct mobo_chip_class older = demo;
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	struct mobo_test_board *o;
	size_t len;
	void *saved;

	older.n_fields--; /* version 1 had no deadline */
	o = mobo_test_board_new(&older, NULL);
	mobo_test_outb(o, 0x301, 7);
	mobo_test_reg_write(o, "TRIGGER", 5);
	saved = mobo_test_save(o, &len);
	assert_int_equal(mobo_test_load(b, saved, len), 0);
	assert_int_equal(mobo_test_inb(b, 0x301), 7);
	assert_int_equal(((struct demo_state *)mobo_test_state(b))->deadline, 0);
	test_free(saved);
	mobo_test_board_free(o);
	mobo_test_board_free(b);
}

static void newer_save_is_refused(void **state)
{
	struct mobo_chip_class newer = demo;
	struct mobo_test_board *b = mobo_test_board_new(&demo, NULL);
	struct mobo_test_board *n;
	size_t len;
	void *saved;

	newer.state_version = 2;
	n = mobo_test_board_new(&newer, NULL);
	saved = mobo_test_save(n, &len);
	assert_int_equal(mobo_test_load(b, saved, len), -EOVERFLOW);
	test_free(saved);
	mobo_test_board_free(n);
	mobo_test_board_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(demo_passes_the_tests_of_every_chip),
		cmocka_unit_test(wide_access_is_split_over_registers_and_gaps),
		cmocka_unit_test(write_mask_keeps_read_only_bits),
		cmocka_unit_test(unclaimed_bytes_read_as_ones),
		cmocka_unit_test(string_access_goes_on_until_all_moved),
		cmocka_unit_test(timer_fires_once_at_its_time),
		cmocka_unit_test(configuration_moves_the_ports_and_bad_one_refuses),
		cmocka_unit_test(restart_keeps_state_lines_and_timers),
		cmocka_unit_test(refused_medium_leaves_the_old_one),
		cmocka_unit_test(dma_stays_inside_ram),
		cmocka_unit_test(older_save_leaves_newer_fields_at_reset),
		cmocka_unit_test(newer_save_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
