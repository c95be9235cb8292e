/* SPDX-License-Identifier: Apache-2.0 */
/* The tests that every chip passes, from its tables alone. */
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "mobo/base.h"
#include "test_board_priv.h"

enum { FUZZ_STEPS = 20000, MAX_STRING = 64 };

struct random {
	uint64_t x;
};

/* xorshift64*: the same numbers on every run. */
static uint64_t random_u64(struct random *r)
{
	r->x ^= r->x >> 12;
	r->x ^= r->x << 25;
	r->x ^= r->x >> 27;
	return r->x * 0x2545f4914f6cdd1dull;
}

static unsigned below(struct random *r, uint64_t n)
{
	return (unsigned)((random_u64(r) >> 16) % n);
}

/* -- Fields -- */

static void each_state_byte_is_in_one_field(const struct mobo_chip_class *c)
{
	uint8_t *owners = test_calloc(c->state_size + 1, 1);

	for (unsigned i = 0; i < c->n_fields; i++) {
		const struct mobo_field *f = &c->fields[i];

		for (unsigned j = 0; j < i; j++) {
			if (strcmp(c->fields[j].name, f->name) == 0) {
				fail_msg("%s: two fields are named %s", c->name, f->name);
			}
		}
		if (f->since > c->state_version || f->since == 0) {
			fail_msg("%s: field %s is of version %u, the state is of %u", c->name,
				 f->name, f->since, c->state_version);
		}
		for (uint32_t k = 0; k < f->size * f->count; k++) {
			if (owners[f->offset + k]++) {
				fail_msg("%s: state byte %u is in two fields, one is %s", c->name,
					 f->offset + k, f->name);
			}
		}
	}
	for (size_t i = 0; i < c->state_size; i++) {
		if (!owners[i]) {
			fail_msg("%s: state byte %zu is in no field (forgotten, or padding: order "
				 "the members by size, fill up with a reserved[] field)",
				 c->name, i);
		}
	}
	test_free(owners);
}

static void each_state_byte_survives_save_and_load(struct mobo_test_board *b)
{
	const size_t n = b->cls->state_size;
	uint8_t *state = b->state;
	uint8_t *want = test_malloc(n + 1);
	struct random rnd = {0x9e3779b97f4a7c15ull};

	/* The state is never shown to the chip here: any bytes will do. */
	for (unsigned round = 0; round < 4; round++) {
		size_t len;
		uint8_t *saved;

		for (size_t i = 0; i < n; i++) {
			state[i] = (uint8_t)random_u64(&rnd);
		}
		memcpy(want, state, n);
		saved = mobo_test_save(b, &len);
		memset(state, 0, n);
		assert_int_equal(mobo_dev_load(b->dev, saved, len), 0);
		for (size_t i = 0; i < n; i++) {
			if (state[i] != want[i]) {
				fail_msg("%s: state byte %zu is lost by save and load",
					 b->cls->name, i);
			}
		}
		test_free(saved);
	}
	test_free(want);
	memset(state, 0, n);
	mobo_test_reset(b);
}

static void damaged_saves_are_refused(struct mobo_test_board *b)
{
	const size_t n = b->cls->state_size;
	uint8_t *before = test_malloc(n + 1);
	size_t len;
	uint8_t *saved = mobo_test_save(b, &len);
	struct random rnd = {77};

	memcpy(before, b->state, n);
	for (unsigned i = 0; i < 200; i++) {
		size_t at = below(&rnd, len);
		uint8_t bit = (uint8_t)(1u << below(&rnd, 8));

		saved[at] ^= bit;
		assert_true(mobo_dev_load(b->dev, saved, len) < 0);
		saved[at] ^= bit;
		assert_true(mobo_dev_load(b->dev, saved, below(&rnd, len)) < 0);
		assert_memory_equal(before, b->state, n);
	}
	test_free(saved);
	test_free(before);
}

/* -- Fuzzing -- */

static const struct mobo_reg *random_register(struct mobo_test_board *b, struct random *r)
{
	return b->cls->n_regs ? &b->cls->regs[below(r, b->cls->n_regs)] : NULL;
}

static uint64_t random_value(struct random *r)
{
	uint64_t v = random_u64(r);

	switch (below(r, 4)) {
	case 0: return v & 0xff;
	case 1: return 0;
	case 2: return 1ull << (v & 63);
	default: return v;
	}
}

/* A place to access: half of the time a register, else anywhere. */
static bool random_place(struct mobo_test_board *b, struct random *r, unsigned *region,
			 uint64_t *offset, unsigned *size)
{
	const struct mobo_reg *reg = random_register(b, r);

	if (b->cls->n_regions == 0) {
		return false;
	}
	*size = 1u << below(r, 4);
	if (reg && below(r, 2)) {
		*region = reg->region;
		*offset = reg->offset;
		if (below(r, 4)) {
			*size = reg->width;
		}
		return true;
	}
	*region = below(r, b->cls->n_regions);
	*offset = b->dev->regions[*region].len ? random_u64(r) % b->dev->regions[*region].len : 0;
	if (below(r, 2)) {
		*offset %= 4096;
	}
	return true;
}

static void fuzz_access(struct mobo_test_board *b, struct random *r)
{
	uint8_t buf[MAX_STRING * 8];
	unsigned region, size, count;
	uint64_t offset;

	if (!random_place(b, r, &region, &offset, &size)) {
		return;
	}
	count = 1 + below(r, MAX_STRING);
	switch (below(r, 8)) {
	case 0:
		memset(buf, (int)random_u64(r), sizeof(buf));
		mobo_dev_io_write_string(b->dev, region, offset, size, buf, count);
		break;
	case 1: mobo_dev_io_read_string(b->dev, region, offset, size, buf, count); break;
	case 2:
	case 3:
	case 4: mobo_dev_io_read(b->dev, region, offset, size); break;
	default: mobo_dev_io_write(b->dev, region, offset, size, random_value(r)); break;
	}
}

static void fuzz_input(struct mobo_test_board *b, struct random *r)
{
	struct mobo_input in = {
		.kind = (int)below(r, 4),
		.code = (uint16_t)(below(r, 8) ? below(r, KEY_MAX) : random_u64(r)),
		.down = below(r, 2),
		.dx = (int32_t)random_value(r),
		.dy = (int32_t)random_value(r),
		.dz = (int32_t)random_value(r),
	};

	if (b->cls->input) {
		b->cls->input(b->dev, &in);
	}
}

static void fuzz_pci_config(struct mobo_test_board *b, struct random *r)
{
	const struct mobo_pci_function *f;
	const struct mobo_pci_config *c;
	unsigned fn;

	if (b->cls->n_functions == 0) {
		return;
	}
	fn = below(r, b->cls->n_functions);
	f = &b->dev->functions[fn];
	if (f->n_config) {
		c = &f->config[below(r, f->n_config)];
		if (c->notify) {
			mobo_test_pci_config(b, fn, c->offset, c->len,
					     (uint32_t)random_u64(r) & c->write_mask);
		}
	}
}

static void fuzz_once(struct mobo_test_board *b, struct random *r)
{
	uint8_t bytes[32];

	switch (below(r, 40)) {
	case 0: mobo_test_step(b, random_u64(r) >> (24 + below(r, 30))); break;
	case 1: fuzz_input(b, r); break;
	case 2: fuzz_pci_config(b, r); break;
	case 3:
		if (b->cls->stream_readable && mobo_test_stream_queued(b, 0) < 4096) {
			memset(bytes, (int)random_u64(r), sizeof(bytes));
			mobo_test_stream_send(b, 0, bytes, 1 + below(r, sizeof(bytes)));
		}
		break;
	case 4:
		if (b->cls->n_regions) {
			mobo_test_doorbell(b, below(r, b->cls->n_regions), 0, random_value(r));
		}
		break;
	case 5: mobo_test_bus_master(b, below(r, 8) != 0); break;
	case 6: mobo_test_poll(b, 0); break;
	case 7:
		if (below(r, 32) == 0) {
			mobo_test_reset(b);
		}
		break;
	default: fuzz_access(b, r); break;
	}
	b->n_notes = 0;
}

/* Lets workers of the chip finish, so that state does not change by itself afterwards. */
static void settle(struct mobo_test_board *b)
{
	while (b->n_watches && mobo_test_poll(b, 20) > 0) {
	}
}

static void fuzz(struct mobo_test_board *b, struct random *r)
{
	for (unsigned i = 0; i < FUZZ_STEPS; i++) {
		fuzz_once(b, r);
	}
	mobo_test_bus_master(b, true);
	settle(b);
}

/* -- Reset and restore -- */

static void compare_bytes(const struct mobo_test_board *b, const uint8_t *want, const uint8_t *got,
			  const char *when)
{
	for (unsigned i = 0; i < b->cls->n_fields; i++) {
		const struct mobo_field *f = &b->cls->fields[i];

		if (memcmp(want + f->offset, got + f->offset, (size_t)f->size * f->count) != 0) {
			fail_msg("%s: field %s differs %s", b->cls->name, f->name, when);
		}
	}
}

static void a_second_reset_changes_nothing(struct mobo_test_board *b)
{
	const size_t n = b->cls->state_size;
	uint8_t *first = test_malloc(n + 1);
	uint64_t level;

	mobo_test_reset(b);
	settle(b);
	memcpy(first, b->state, n);
	level = b->dev->level;
	mobo_test_reset(b);
	settle(b);
	compare_bytes(b, first, b->state, "after a second reset");
	assert_int_equal(level, b->dev->level);
	test_free(first);
}

static void compare_boards(struct mobo_test_board *want, struct mobo_test_board *got)
{
	const struct mobo_chip_class *c = want->cls;

	compare_bytes(want, want->state, got->state, "after restore");
	for (unsigned i = 0; i < c->n_lines; i++) {
		if (mobo_test_line(want, i) != mobo_test_line(got, i)) {
			fail_msg("%s: line %u is %d after restore, was %d", c->name, i,
				 mobo_test_line(got, i), mobo_test_line(want, i));
		}
	}
	for (unsigned i = 0; i < c->n_regions; i++) {
		if (want->dev->map[i] != got->dev->map[i]) {
			fail_msg("%s: map word of %s is %#x after restore, was %#x", c->name,
				 c->regions[i].name, got->dev->map[i], want->dev->map[i]);
		}
	}
	for (unsigned i = 0; i < c->n_regs; i++) {
		uint64_t a = 0, z = 0;
		bool seen = mobo_dev_reg_peek(want->dev, &c->regs[i], &a);

		if (seen != mobo_dev_reg_peek(got->dev, &c->regs[i], &z) || a != z) {
			fail_msg("%s: register %s is %#llx after restore, was %#llx", c->name,
				 c->regs[i].name, (unsigned long long)z, (unsigned long long)a);
		}
	}
	for (unsigned i = 0; i < MOBO_DEV_TIMERS; i++) {
		if ((want->dev->timer_ns[i] == UINT64_MAX) !=
		    (got->dev->timer_ns[i] == UINT64_MAX)) {
			fail_msg("%s: timer %u is %s after restore, was not", c->name, i,
				 got->dev->timer_ns[i] == UINT64_MAX ? "stopped" : "set");
		}
	}
}

static void a_restored_copy_shows_the_same(struct mobo_test_board *b)
{
	struct mobo_test_board *copy = mobo_test_board_new(b->cls, b->setup);
	size_t len;
	void *saved;

	mobo_test_pause(b); /* as when a machine is saved */
	settle(b);
	saved = mobo_test_save(b, &len);
	copy->now = b->now;
	memcpy(copy->shadow, b->shadow, sizeof(copy->shadow));
	if (b->dev->memory) {
		memcpy(copy->dev->memory, b->dev->memory, b->dev->memory_len);
	}
	memcpy(copy->dev->ram.base, b->dev->ram.base, b->dev->ram.size);
	assert_int_equal(mobo_test_load(copy, saved, len), 0);
	mobo_test_resume(copy);
	mobo_test_resume(b);
	compare_boards(b, copy);
	test_free(saved);
	mobo_test_board_free(copy);
}

static void any_state_is_survived(struct mobo_test_board *b, struct random *r)
{
	/* A journal of a process that died half-way, or a saved state made by hand. */
	for (unsigned round = 0; round < 50; round++) {
		for (size_t i = 0; i < b->cls->state_size; i++) {
			((uint8_t *)b->state)[i] = (uint8_t)random_u64(r);
		}
		mobo_dev_restored(b->dev);
		for (unsigned i = 0; i < 200; i++) {
			fuzz_once(b, r);
		}
	}
	settle(b);
	memset(b->state, 0, b->cls->state_size);
	mobo_test_reset(b);
}

void mobo_chip_generic_tests_with(const struct mobo_chip_class *cls,
				  const struct mobo_test_setup *setup)
{
	struct mobo_test_board *b = mobo_test_board_new(cls, setup);
	struct random r = {0x123456789abcdefull};

	each_state_byte_is_in_one_field(cls);
	each_state_byte_survives_save_and_load(b);
	damaged_saves_are_refused(b);
	a_second_reset_changes_nothing(b);
	for (unsigned round = 0; round < 5; round++) {
		fuzz(b, &r);
		a_restored_copy_shows_the_same(b);
		a_second_reset_changes_nothing(b);
	}
	any_state_is_survived(b, &r);
	a_second_reset_changes_nothing(b);
	mobo_test_board_free(b);
}

void mobo_chip_generic_tests(const struct mobo_chip_class *cls)
{
	mobo_chip_generic_tests_with(cls, NULL);
}
