/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8042 keyboard and auxiliary device controller as in the IBM PS/2 (Hardware Interface Technical
 * Reference, "Keyboard and Auxiliary Device Controller"), with a keyboard and a mouse.
 *
 * The interrupt lines follow the output buffer. As on the wire, the next byte of a device comes
 * some time after the last one was fetched, so that each makes an edge.
 *
 * Not modelled: the password, the time a command takes (the input buffer is always free), parity
 * and time-out errors, clock and data lines of the devices (test inputs, diagnostic dump).
 *
 * Tells the machine: "led" with the names of the lit ones of num, caps, scroll; "reset".
 */
#include <stdio.h>
#include <string.h>

#include "mobo/base.h"
#include "mobo/device.h"
#include "ps2.h"

enum { REGION_DATA, REGION_COMMAND };
enum { LINE_IRQ1, LINE_IRQ12, LINE_A20 };
enum { TIMER_OUTPUT, TIMER_REPEAT, TIMER_SAMPLE };

/* Status register */
enum {
	STS_OBF = 1 << 0,
	STS_SYS = 1 << 2,
	STS_CMD = 1 << 3, /* last write went to the command port */
	STS_UNLOCKED = 1 << 4,
	STS_AUX_OBF = 1 << 5,
};
/* Command byte, the controller's RAM location 0 */
enum {
	CTR_KBD_INT = 1 << 0,
	CTR_AUX_INT = 1 << 1,
	CTR_SYS = 1 << 2,
	CTR_KBD_OFF = 1 << 4,
	CTR_AUX_OFF = 1 << 5,
	CTR_TRANSLATE = 1 << 6,
};
/* Output port */
enum {
	OUT_NO_RESET = 1 << 0,
	OUT_A20 = 1 << 1,
	OUT_IRQ1 = 1 << 4,
	OUT_IRQ12 = 1 << 5,
	OUT_ONES = 0xc0,
	OUT_WRITABLE = 0xcf,
};
enum {
	CMD_READ_RAM = 0x20,  /* 20h-3Fh */
	CMD_WRITE_RAM = 0x60, /* 60h-7Fh */
	CMD_TEST_PASSWORD = 0xa4,
	CMD_AUX_OFF = 0xa7,
	CMD_AUX_ON = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_OFF = 0xad,
	CMD_KBD_ON = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_WRITE_KBD_BUFFER = 0xd2,
	CMD_WRITE_AUX_BUFFER = 0xd3,
	CMD_WRITE_AUX = 0xd4,
	CMD_A20_OFF = 0xdd,
	CMD_A20_ON = 0xdf,
	CMD_READ_TEST = 0xe0,
	CMD_PULSE = 0xf0, /* F0h-FFh: pulse low the output bits 0-3 whose bit is 0 */
};
enum { REPLY_NO_PASSWORD = 0xf1, REPLY_SELF_TEST = 0x55, REPLY_OK = 0, INPUT_PORT = 0x80 };
enum { RAM = 32, BYTE_NS = 300000 };

struct i8042_state {
	uint64_t ready_ns; /* a device's next byte is there then */
	struct keyboard keyboard;
	struct mouse mouse;
	uint8_t ram[RAM];    /* the first is the command byte */
	uint8_t output;	     /* output buffer */
	uint8_t status;	     /* OBF, CMD, AUX_OBF */
	uint8_t command;     /* that waits for its data; 0: none */
	uint8_t output_port; /* A20 and what else was written; IRQ bits apart */
	uint8_t release;     /* a release prefix was translated */
	uint8_t reserved[3];
};

/* -- Output buffer -- */

static void set_output(struct i8042_state *s, uint8_t byte, bool aux)
{
	s->output = byte;
	s->status &= (uint8_t)~STS_AUX_OBF;
	s->status |= aux ? STS_OBF | STS_AUX_OBF : STS_OBF;
}

/* Fetches the next byte of the keyboard; false when it was a prefix and no more came. */
static bool fetch_keyboard(struct i8042_state *s)
{
	uint8_t byte;

	while (ps2_pending(&s->keyboard.port)) {
		byte = ps2_take(&s->keyboard.port);
		if (!(s->ram[0] & CTR_TRANSLATE) || key_translate(byte, &s->release, &byte)) {
			set_output(s, byte, false);
			return true;
		}
	}
	return false;
}

static bool keyboard_waits(const struct i8042_state *s)
{
	return !(s->ram[0] & CTR_KBD_OFF) && ps2_pending(&s->keyboard.port);
}

static bool mouse_waits(const struct i8042_state *s)
{
	return !(s->ram[0] & CTR_AUX_OFF) && ps2_pending(&s->mouse.port);
}

static void fill_output(struct mobo_dev *d)
{
	struct i8042_state *s = mobo_dev_state(d);
	uint64_t timer = UINT64_MAX;

	if (!(s->status & STS_OBF) && (keyboard_waits(s) || mouse_waits(s))) {
		if (mobo_dev_now_ns(d) < s->ready_ns) {
			timer = s->ready_ns;
		} else if (!(keyboard_waits(s) && fetch_keyboard(s)) && mouse_waits(s)) {
			set_output(s, ps2_take(&s->mouse.port), true);
		}
	}
	mobo_dev_timer_set(d, TIMER_OUTPUT, timer);
}

/* -- What follows from the state: buffer, lines, timers -- */

static void update_lines(struct mobo_dev *d)
{
	const struct i8042_state *s = mobo_dev_state(d);
	bool full = s->status & STS_OBF, aux = s->status & STS_AUX_OBF;

	mobo_dev_line(d, LINE_IRQ1, full && !aux && (s->ram[0] & CTR_KBD_INT));
	mobo_dev_line(d, LINE_IRQ12, full && aux && (s->ram[0] & CTR_AUX_INT));
	mobo_dev_line(d, LINE_A20, s->output_port & OUT_A20);
}

static void update(struct mobo_dev *d)
{
	struct i8042_state *s = mobo_dev_state(d);
	uint64_t sample = mouse_sample(&s->mouse, mobo_dev_now_ns(d));

	fill_output(d);
	update_lines(d);
	mobo_dev_timer_set(d, TIMER_REPEAT, s->keyboard.repeat_ns);
	mobo_dev_timer_set(d, TIMER_SAMPLE, sample);
}

static void timer(struct mobo_dev *d, unsigned n)
{
	struct i8042_state *s = mobo_dev_state(d);

	if (n == TIMER_REPEAT) {
		keyboard_repeat(&s->keyboard, mobo_dev_now_ns(d));
	}
	update(d);
}

/* -- Controller commands -- */

static void set_output_port(struct mobo_dev *d, uint8_t val)
{
	struct i8042_state *s = mobo_dev_state(d);

	s->output_port = val & OUT_WRITABLE;
	if (!(val & OUT_NO_RESET)) {
		mobo_dev_notify(d, "reset", "keyboard controller");
	}
}

static uint8_t read_output_port(const struct i8042_state *s)
{
	uint8_t val = s->output_port;

	if (s->status & STS_OBF) {
		val |= s->status & STS_AUX_OBF ? OUT_IRQ12 : OUT_IRQ1;
	}
	return val;
}

static void run_other_command(struct mobo_dev *d, uint8_t command)
{
	struct i8042_state *s = mobo_dev_state(d);

	if (command >= CMD_PULSE) {
		if (!(command & OUT_NO_RESET)) {
			mobo_dev_notify(d, "reset", "keyboard controller");
		}
	} else if (command >= CMD_READ_RAM && command < CMD_READ_RAM + RAM) {
		set_output(s, s->ram[command - CMD_READ_RAM], false);
	} else if (command >= CMD_WRITE_RAM && command < CMD_WRITE_RAM + RAM) {
		s->command = command;
	} else {
		mobo_dev_guest_error(d, "unknown controller command");
	}
}

static void run_command(struct mobo_dev *d, uint8_t command)
{
	struct i8042_state *s = mobo_dev_state(d);

	s->command = 0;
	switch (command) {
	case CMD_TEST_PASSWORD: set_output(s, REPLY_NO_PASSWORD, false); break;
	case CMD_AUX_OFF: s->ram[0] |= CTR_AUX_OFF; break;
	case CMD_AUX_ON: s->ram[0] &= (uint8_t)~CTR_AUX_OFF; break;
	case CMD_SELF_TEST:
		s->ram[0] |= CTR_SYS;
		set_output(s, REPLY_SELF_TEST, false);
		break;
	case CMD_AUX_TEST:
	case CMD_KBD_TEST:
	case CMD_READ_TEST: set_output(s, REPLY_OK, false); break;
	case CMD_KBD_OFF: s->ram[0] |= CTR_KBD_OFF; break;
	case CMD_KBD_ON: s->ram[0] &= (uint8_t)~CTR_KBD_OFF; break;
	case CMD_READ_INPUT: set_output(s, INPUT_PORT, false); break;
	case CMD_READ_OUTPUT: set_output(s, read_output_port(s), false); break;
	case CMD_WRITE_OUTPUT:
	case CMD_WRITE_KBD_BUFFER:
	case CMD_WRITE_AUX_BUFFER:
	case CMD_WRITE_AUX: s->command = command; break;
	case CMD_A20_OFF: s->output_port &= (uint8_t)~OUT_A20; break;
	case CMD_A20_ON: s->output_port |= OUT_A20; break;
	default: run_other_command(d, command); break;
	}
}

static void show_leds(struct mobo_dev *d)
{
	const struct i8042_state *s = mobo_dev_state(d);
	uint8_t leds = s->keyboard.leds;
	char text[24];

	snprintf(text, sizeof(text), "%s%s%s", leds & LED_NUM_LOCK ? "num " : "",
		 leds & LED_CAPS_LOCK ? "caps " : "", leds & LED_SCROLL_LOCK ? "scroll " : "");
	if (*text) {
		text[strlen(text) - 1] = 0;
	}
	mobo_dev_notify(d, "led", text);
}

static void take_data(struct mobo_dev *d, uint8_t byte)
{
	struct i8042_state *s = mobo_dev_state(d);
	uint8_t command = s->command;

	s->command = 0;
	switch (command) {
	case 0:
		s->ram[0] &= (uint8_t)~CTR_KBD_OFF; /* to be able to answer */
		if (keyboard_write(&s->keyboard, byte)) {
			show_leds(d);
		}
		break;
	case CMD_WRITE_OUTPUT: set_output_port(d, byte); break;
	case CMD_WRITE_KBD_BUFFER: set_output(s, byte, false); break;
	case CMD_WRITE_AUX_BUFFER: set_output(s, byte, true); break;
	case CMD_WRITE_AUX:
		s->ram[0] &= (uint8_t)~CTR_AUX_OFF;
		mouse_write(&s->mouse, byte);
		break;
	default:
		s->ram[command % RAM] = byte; /* CMD_WRITE_RAM + its number */
		break;
	}
}

/* -- Ports -- */

static uint64_t data_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct i8042_state *s = mobo_dev_state(d);
	uint8_t byte = s->output;

	if (s->status & STS_OBF) {
		s->status &= (uint8_t) ~(STS_OBF | STS_AUX_OBF);
		s->ready_ns = mobo_dev_now_ns(d) + BYTE_NS;
		update(d);
	}
	return byte;
}

static void data_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct i8042_state *s = mobo_dev_state(d);

	s->status &= (uint8_t)~STS_CMD;
	take_data(d, (uint8_t)val);
	update(d);
}

static uint64_t status_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	const struct i8042_state *s = mobo_dev_state(d);

	return s->status | STS_UNLOCKED | (s->ram[0] & CTR_SYS ? STS_SYS : 0);
}

static void command_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct i8042_state *s = mobo_dev_state(d);

	s->status |= STS_CMD;
	run_command(d, (uint8_t)val);
	update(d);
}

static const struct mobo_region regions[] = {
	[REGION_DATA] =
		{.name = "data", .kind = MOBO_REGION_PIO, .base = 0x60, .len = 1, .priority = 1},
	[REGION_COMMAND] =
		{.name = "command", .kind = MOBO_REGION_PIO, .base = 0x64, .len = 1, .priority = 1},
};

static const struct mobo_line lines[] = {
	[LINE_IRQ1] = {MOBO_LINE_ISA, 1},
	[LINE_IRQ12] = {MOBO_LINE_ISA, 12},
	[LINE_A20] = {MOBO_LINE_A20, 0},
};

/* clang-format off */
static const struct mobo_reg regs[] = {
	{ "DATA",   REGION_DATA,    0, 1, MOBO_NO_STORAGE, 0xff,
	  data_read, data_write, NULL, true },
	{ "STATUS", REGION_COMMAND, 0, 1, MOBO_NO_STORAGE, 0xff, status_read, command_write },
};
/* clang-format on */

#define AT(member)   offsetof(struct i8042_state, member)
#define SIZE(member) sizeof(((struct i8042_state *)0)->member)
#define NESTED(member)                                  \
	{                                               \
#member, AT(member), SIZE(member), 1, 1 \
	}
#define NESTED_ARRAY(member)                                                            \
	{                                                                               \
#member, AT(member), SIZE(member[0]), SIZE(member) / SIZE(member[0]), 1 \
	}
#define PORT_FIELDS(port)                                                                         \
	NESTED_ARRAY(port.answer), NESTED_ARRAY(port.queue), NESTED(port.head), NESTED(port.len), \
		NESTED(port.n_answer), NESTED(port.command), NESTED(port.last),                   \
		NESTED(port.reserved)
static const struct mobo_field fields[] = {
	NESTED(ready_ns),
	NESTED(keyboard.repeat_ns),
	PORT_FIELDS(keyboard.port),
	NESTED_ARRAY(keyboard.pressed),
	NESTED(keyboard.repeat_key),
	NESTED(keyboard.set),
	NESTED(keyboard.leds),
	NESTED(keyboard.typematic),
	NESTED(keyboard.scanning),
	NESTED_ARRAY(keyboard.reserved),
	NESTED(mouse.sample_ns),
	PORT_FIELDS(mouse.port),
	NESTED(mouse.dx),
	NESTED(mouse.dy),
	NESTED(mouse.dz),
	NESTED(mouse.buttons),
	NESTED(mouse.told_buttons),
	NESTED(mouse.id),
	NESTED(mouse.rate),
	NESTED(mouse.resolution),
	NESTED(mouse.double_scale),
	NESTED(mouse.reporting),
	NESTED(mouse.remote),
	NESTED(mouse.wrap),
	NESTED(mouse.knock),
	NESTED_ARRAY(mouse.reserved),
	NESTED_ARRAY(ram),
	NESTED(output),
	NESTED(status),
	NESTED(command),
	NESTED(output_port),
	NESTED(release),
	NESTED_ARRAY(reserved),
};

static void reset(struct mobo_dev *d)
{
	struct i8042_state *s = mobo_dev_state(d);
	bool lit = s->keyboard.leds;
	uint8_t buttons = s->mouse.buttons;

	*s = (struct i8042_state){
		.ram[0] = CTR_KBD_INT | CTR_AUX_INT,
		.output_port = OUT_ONES | OUT_A20 | OUT_NO_RESET,
		.mouse.buttons = buttons,
	};
	keyboard_reset(&s->keyboard);
	mouse_reset(&s->mouse);
	if (lit) {
		show_leds(d);
	}
	update(d);
}

/* -- Input -- */

static int32_t negative(int32_t v)
{
	return v == INT32_MIN ? INT32_MAX : -v;
}

static void input(struct mobo_dev *d, const struct mobo_input *in)
{
	struct i8042_state *s = mobo_dev_state(d);

	switch (in->kind) {
	case MOBO_INPUT_KEY:
		keyboard_key(&s->keyboard, in->code, in->down, mobo_dev_now_ns(d));
		break;
	case MOBO_INPUT_BUTTON:
		mouse_button(&s->mouse, in->code, in->down, mobo_dev_now_ns(d));
		break;
	case MOBO_INPUT_REL: mouse_move(&s->mouse, in->dx, negative(in->dy), 0); break;
	case MOBO_INPUT_WHEEL: mouse_move(&s->mouse, 0, 0, negative(in->dz)); break;
	}
	update(d);
}

const struct mobo_chip_class mobo_chip_i8042 = {
	.name = "i8042",
	.description = "8042 keyboard controller with PS/2 keyboard and mouse",
	.state_version = 1,
	.restart = MOBO_RESTART_STATE,
	.state_size = sizeof(struct i8042_state),
	.regions = regions,
	.n_regions = MOBO_ARRAY_LEN(regions),
	.lines = lines,
	.n_lines = MOBO_ARRAY_LEN(lines),
	.regs = regs,
	.n_regs = MOBO_ARRAY_LEN(regs),
	.fields = fields,
	.n_fields = MOBO_ARRAY_LEN(fields),
	.reset = reset,
	.restored = update,
	.timer = timer,
	.input = input,
};
