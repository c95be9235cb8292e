/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debug port of Bochs and SeaBIOS at 0x402: a byte written is a character of the firmware's
 * log; a read gives 0xe9, by which the firmware knows that somebody listens. There is no data
 * sheet: see SeaBIOS' src/hw/serialio.c, CONFIG_DEBUG_IO.
 *
 * Each full line becomes the event vm.dev.<name>.firmware-log; the bytes go to stream 0 (its log
 * file).
 *
 * Configuration: base (0x402).
 */
#include <string.h>

#include "mobo/device.h"

enum { READBACK = 0xe9, LINE_LEN = 240 };
enum { REGION_PORT };

struct debugport_state {
	uint8_t line[LINE_LEN]; /* begun, not ended */
	uint8_t used;
	uint8_t reserved[7];
};

static struct debugport_state *state_of(struct mobo_dev *d)
{
	return mobo_dev_state(d);
}

static void line_end(struct mobo_dev *d)
{
	struct debugport_state *s = state_of(d);
	char text[LINE_LEN + 1];

	for (unsigned i = 0; i < s->used; i++) {
		text[i] = s->line[i] >= 0x20 && s->line[i] < 0x7f ? (char)s->line[i] : '?';
	}
	text[s->used] = '\0';
	s->used = 0;
	mobo_dev_notify(d, "firmware-log", text);
}

static void data_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct debugport_state *s = state_of(d);
	uint8_t byte = (uint8_t)val;

	mobo_dev_stream_write(d, 0, &byte, 1);
	if (byte == '\r') {
		return;
	}
	if (byte == '\n') {
		if (s->used > 0) {
			line_end(d);
		}
		return;
	}
	s->line[s->used++] = byte;
	if (s->used == LINE_LEN) {
		line_end(d);
	}
}

static uint64_t data_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	return READBACK;
}

static const struct mobo_reg debugport_regs[] = {
	{"DATA", REGION_PORT, 0, 1, MOBO_NO_STORAGE, 0xff, data_read, data_write},
};

static const struct mobo_field debugport_fields[] = {
	MOBO_FIELD_ARRAY(struct debugport_state, line),
	MOBO_FIELD(struct debugport_state, used),
	MOBO_FIELD_ARRAY(struct debugport_state, reserved),
};

static const struct mobo_region debugport_regions[] = {
	[REGION_PORT] = {.name = "port",
			 .kind = MOBO_REGION_PIO,
			 .base = 0x402,
			 .len = 1,
			 .attr = MOBO_POSTED,
			 .priority = 1},
};

static int debugport_init(struct mobo_dev *d)
{
	struct mobo_region port = debugport_regions[REGION_PORT];

	port.base = mobo_dev_config_u64(d, "base", port.base);
	return mobo_dev_set_region(d, REGION_PORT, &port);
}

static void debugport_reset(struct mobo_dev *d)
{
	if (state_of(d)->used > 0 && state_of(d)->used < LINE_LEN) {
		line_end(d);
	}
	memset(state_of(d), 0, sizeof(struct debugport_state));
}

static void debugport_restored(struct mobo_dev *d)
{
	state_of(d)->used %= LINE_LEN; /* whatever a damaged state says */
}

const struct mobo_chip_class mobo_chip_debugport;
const struct mobo_chip_class mobo_chip_debugport = {
	.name = "debugport",
	.description = "Firmware debug port",
	.state_version = 1,
	.restart = MOBO_RESTART_STATE,
	.state_size = sizeof(struct debugport_state),
	.regions = debugport_regions,
	.n_regions = sizeof(debugport_regions) / sizeof(debugport_regions[0]),
	.regs = debugport_regs,
	.n_regs = sizeof(debugport_regs) / sizeof(debugport_regs[0]),
	.fields = debugport_fields,
	.n_fields = sizeof(debugport_fields) / sizeof(debugport_fields[0]),
	.init = debugport_init,
	.reset = debugport_reset,
	.restored = debugport_restored,
};
