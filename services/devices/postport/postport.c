/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The POST card at port 0x80: firmware writes the step it is at. IBM PC AT Technical Reference
 * (1984), section 5, "Diagnostic Checkpoint Port". Reads give the last code.
 *
 * Each new code becomes the event vm.dev.<name>.post-code (two hexadecimal digits), at most 100 in
 * a second: Linux writes the port as a delay. Not modelled: the DMA page register that shares the
 * address on an AT.
 *
 * Configuration: base (0x80).
 */
#include <stdio.h>
#include <string.h>

#include "mobo/device.h"

enum { REGION_PORT };
enum { EVENTS_A_SECOND = 100 };

struct postport_state {
	uint64_t second_start_ns; /* events are counted since */
	uint32_t n_events;
	uint8_t code;
	uint8_t reserved[3];
};

static void code_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct postport_state *s = mobo_dev_state(d);
	uint64_t now = mobo_dev_now_ns(d);
	char text[3];

	if (val == s->code) {
		return;
	}
	if (now - s->second_start_ns >= 1000000000u) {
		s->second_start_ns = now;
		s->n_events = 0;
	}
	if (s->n_events < EVENTS_A_SECOND) {
		s->n_events++;
		snprintf(text, sizeof(text), "%02x", (unsigned)(val & 0xff));
		mobo_dev_notify(d, "post-code", text);
	}
}

static const struct mobo_reg postport_regs[] = {
	{"CODE", REGION_PORT, 0, 1, offsetof(struct postport_state, code), 0xff, NULL, code_write},
};

static const struct mobo_field postport_fields[] = {
	MOBO_FIELD(struct postport_state, second_start_ns),
	MOBO_FIELD(struct postport_state, n_events),
	MOBO_FIELD(struct postport_state, code),
	MOBO_FIELD_ARRAY(struct postport_state, reserved),
};

static const struct mobo_region postport_regions[] = {
	[REGION_PORT] = {.name = "port",
			 .kind = MOBO_REGION_PIO,
			 .base = 0x80,
			 .len = 1,
			 .attr = MOBO_POSTED,
			 .priority = 1},
};

static int postport_init(struct mobo_dev *d)
{
	struct mobo_region port = postport_regions[REGION_PORT];

	port.base = mobo_dev_config_u64(d, "base", port.base);
	return mobo_dev_set_region(d, REGION_PORT, &port);
}

static void postport_reset(struct mobo_dev *d)
{
	memset(mobo_dev_state(d), 0, sizeof(struct postport_state));
}

const struct mobo_chip_class mobo_chip_postport;
const struct mobo_chip_class mobo_chip_postport = {
	.name = "postport",
	.description = "POST code port",
	.state_version = 1,
	.restart = MOBO_RESTART_STATE,
	.state_size = sizeof(struct postport_state),
	.regions = postport_regions,
	.n_regions = sizeof(postport_regions) / sizeof(postport_regions[0]),
	.regs = postport_regs,
	.n_regs = sizeof(postport_regs) / sizeof(postport_regs[0]),
	.fields = postport_fields,
	.n_fields = sizeof(postport_fields) / sizeof(postport_fields[0]),
	.init = postport_init,
	.reset = postport_reset,
};
