/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the fake board, for its own files only. */
#ifndef LIBBUS_DEVICE_TEST_BOARD_PRIV_H
#define LIBBUS_DEVICE_TEST_BOARD_PRIV_H

#include "dev.h"
#include "test_board.h"

enum {
	TEST_STREAMS = 8,
	TEST_STREAM_BYTES = 65536,
	TEST_NOTES = 16,
	TEST_WATCHES = 32,
};

struct test_queue {
	uint8_t *bytes; /* a ring of TEST_STREAM_BYTES */
	uint64_t in, out;
};

struct test_note {
	char verb[32];
	char text[256];
	unsigned n;
};

struct mobo_test_board {
	struct mobo_dev *dev;
	const struct mobo_chip_class *cls;
	void *state;
	uint8_t shadow[MOBO_IOCH_SHADOW];
	uint64_t now;
	uint64_t accesses; /* names the accesses in failures */
	bool bus_master;
	unsigned rises[MOBO_IOCH_LINES], pulses[MOBO_IOCH_LINES], msis[256];
	struct test_queue to_chip[TEST_STREAMS], from_chip[TEST_STREAMS];
	struct test_note notes[TEST_NOTES];
	unsigned n_notes, n_errors;
	uint64_t dma_dirty_bytes;
	int watches[TEST_WATCHES];
	unsigned n_watches;
	const struct mobo_test_setup *setup; /* for restart */
};

extern const struct mobo_dev_host mobo_test_host;

/* Adopts the state bytes in a fresh instance; 0 or -errno. */
int mobo_test_make_dev(struct mobo_test_board *b);
const struct mobo_reg *mobo_test_find_reg(struct mobo_test_board *b, const char *name);

#endif
