/* SPDX-License-Identifier: Apache-2.0 */
/* 440FX host bridge. Expected values: 82441FX datasheet 290549, 3.2. */
#include "mobo/ioch.h"
#include "test_board.h"

extern const struct mobo_chip_class mobo_chip_i440fx;

enum { SEGMENT_C0000, SEGMENT_C4000, SEGMENT_EC000 = 11, SEGMENT_F0000, SMRAM };
enum { RW = MOBO_MAP_READ | MOBO_MAP_WRITE };

static void nothing_is_shadowed_after_reset(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_i440fx, NULL);

	for (unsigned i = SEGMENT_C0000; i <= SMRAM; i++) {
		assert_int_equal(mobo_test_map(b, i), 0);
	}
	mobo_test_board_free(b);
}

static void pam_bits_open_their_segments(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_i440fx, NULL);

	mobo_test_pci_config(b, 0, 0x59, 1, 0x30);
	assert_int_equal(mobo_test_map(b, SEGMENT_F0000), RW);
	mobo_test_pci_config(b, 0, 0x59, 1, 0x10);
	assert_int_equal(mobo_test_map(b, SEGMENT_F0000), MOBO_MAP_READ);
	mobo_test_pci_config(b, 0, 0x5a, 1, 0x21);
	assert_int_equal(mobo_test_map(b, SEGMENT_C0000), MOBO_MAP_READ);
	assert_int_equal(mobo_test_map(b, SEGMENT_C4000), MOBO_MAP_WRITE);
	/* A double word over the neighbours as SeaBIOS writes it. */
	mobo_test_pci_config(b, 0, 0x5c, 4, 0x33000000);
	assert_int_equal(mobo_test_map(b, SEGMENT_EC000), RW);
	assert_int_equal(mobo_test_map(b, SEGMENT_C0000), MOBO_MAP_READ);
	mobo_test_reset(b);
	assert_int_equal(mobo_test_map(b, SEGMENT_EC000), 0);
	mobo_test_board_free(b);
}

static void smram_opens_until_locked(void **state)
{
	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_i440fx, NULL);

	mobo_test_pci_config(b, 0, 0x72, 1, 0x4a);
	assert_int_equal(mobo_test_map(b, SMRAM), RW);
	mobo_test_pci_config(b, 0, 0x72, 1, 0x1a);
	assert_int_equal(mobo_test_map(b, SMRAM), 0);
	mobo_test_pci_config(b, 0, 0x72, 1, 0x4a);
	assert_int_equal(mobo_test_map(b, SMRAM), 0);
	mobo_test_board_free(b);
}

static void behaves_as_every_chip(void **state)
{
	mobo_chip_generic_tests(&mobo_chip_i440fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_shadowed_after_reset),
		cmocka_unit_test(pam_bits_open_their_segments),
		cmocka_unit_test(smram_opens_until_locked),
		cmocka_unit_test(behaves_as_every_chip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
