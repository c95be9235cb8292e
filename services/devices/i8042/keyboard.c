/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 102-key PS/2 keyboard. Not modelled: scan code set 3, and the shift codes that a real keyboard
 * puts around cursor keys while NumLock or Shift is on.
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "ps2.h"

enum {
	CMD_LEDS = 0xed,
	CMD_ECHO = 0xee,
	CMD_SCAN_CODE_SET = 0xf0,
	CMD_IDENTIFY = 0xf2,
	CMD_TYPEMATIC = 0xf3,
	CMD_ENABLE = 0xf4,
	CMD_DISABLE = 0xf5,
	CMD_DEFAULTS = 0xf6,
	CMD_ALL_FIRST = 0xf7, /* F7-FA: behaviour of all keys, in set 3 */
	CMD_ALL_LAST = 0xfa,
	CMD_KEY_FIRST = 0xfb, /* FB-FD: of one key, in set 3 */
	CMD_KEY_LAST = 0xfd,
	CMD_RESEND = 0xfe,
	CMD_RESET = 0xff,
};
enum { TYPEMATIC_DEFAULT = 0x2b, SPARE_FOR_RELEASES = 256 };
#define MS 1000000ull

static bool is_pressed(const struct keyboard *k, uint16_t key)
{
	return k->pressed[key / 8] & 1 << key % 8;
}

static void set_defaults(struct keyboard *k)
{
	k->set = 2;
	k->typematic = TYPEMATIC_DEFAULT;
	k->repeat_ns = UINT64_MAX;
	memset(k->pressed, 0, sizeof(k->pressed));
}

void keyboard_reset(struct keyboard *k)
{
	memset(k, 0, sizeof(*k));
	set_defaults(k);
	k->scanning = 1;
}

/* -- From the guest -- */

static bool parameter(struct keyboard *k, uint8_t command, uint8_t byte)
{
	uint8_t leds = k->leds;

	k->port.command = 0;
	if (command == CMD_SCAN_CODE_SET && byte > 2) {
		ps2_answer(&k->port, PS2_RESEND);
		return false;
	}
	ps2_answer(&k->port, PS2_ACK);
	switch (command) {
	case CMD_LEDS: k->leds = byte & (LED_SCROLL_LOCK | LED_NUM_LOCK | LED_CAPS_LOCK); break;
	case CMD_SCAN_CODE_SET:
		if (byte == 0) {
			ps2_answer(&k->port, k->set);
		} else {
			k->set = byte;
		}
		break;
	case CMD_TYPEMATIC: k->typematic = byte & 0x7f; break;
	}
	return leds != k->leds;
}

static bool start_over(struct keyboard *k)
{
	bool lit = k->leds;

	keyboard_reset(k);
	ps2_answer(&k->port, PS2_ACK);
	ps2_answer(&k->port, PS2_BAT_OK);
	return lit;
}

bool keyboard_write(struct keyboard *k, uint8_t byte)
{
	struct ps2_port *p = &k->port;
	uint8_t command = p->command;

	if (byte == CMD_RESEND) {
		ps2_answer(p, p->last);
		return false;
	}
	p->n_answer = 0; /* what was not fetched is lost */
	if (command && byte < CMD_LEDS) {
		return parameter(k, command, byte);
	}
	p->command = 0; /* a command in a parameter's place counts as a command */
	switch (byte) {
	case CMD_ECHO: ps2_answer(p, CMD_ECHO); return false;
	case CMD_RESET: return start_over(k);
	case CMD_LEDS:
	case CMD_SCAN_CODE_SET:
	case CMD_TYPEMATIC: p->command = byte; break;
	case CMD_IDENTIFY:
		ps2_answer(p, PS2_ACK);
		ps2_answer(p, 0xab);
		ps2_answer(p, 0x83);
		return false;
	case CMD_ENABLE:
		k->scanning = 1;
		p->len = 0;
		break;
	case CMD_DISABLE:
	case CMD_DEFAULTS:
		set_defaults(k);
		p->len = 0;
		k->scanning = byte == CMD_DEFAULTS;
		break;
	default:
		if (byte >= CMD_ALL_FIRST && byte <= CMD_ALL_LAST) {
			break;
		}
		if (byte >= CMD_KEY_FIRST && byte <= CMD_KEY_LAST) {
			p->command = byte;
			break;
		}
		ps2_answer(p, PS2_RESEND);
		return false;
	}
	ps2_answer(p, PS2_ACK);
	return false;
}

/* -- From the user -- */

/* Typematic byte: bits 6:5 delay, 4:3 exponent B and 2:0 factor A of the period. */
static uint64_t delay_ns(const struct keyboard *k)
{
	return ((k->typematic >> 5 & 3) + 1) * 250 * MS;
}

static uint64_t period_ns(const struct keyboard *k)
{
	return (uint64_t)(8 + (k->typematic & 7)) * (1u << (k->typematic >> 3 & 3)) * 4170000;
}

/* Queues a key's codes in the set that is chosen. */
static bool send_key(struct keyboard *k, uint16_t key, bool down)
{
	struct key_modifiers mod = {
		.shift = is_pressed(k, KEY_LEFTSHIFT) || is_pressed(k, KEY_RIGHTSHIFT),
		.control = is_pressed(k, KEY_LEFTCTRL) || is_pressed(k, KEY_RIGHTCTRL),
		.alt = is_pressed(k, KEY_LEFTALT) || is_pressed(k, KEY_RIGHTALT),
	};
	uint8_t bytes[PS2_SEQUENCE], release = 0;
	size_t n = key_sequence(key, down, mod, bytes), out = 0;

	if (k->set == 1) {
		for (size_t i = 0; i < n; i++) {
			out += key_translate(bytes[i], &release, &bytes[out]);
		}
		n = out;
	}
	/* Releases must not get lost, or keys would stick: presses leave room for them. */
	return n && ps2_queue(&k->port, bytes, n, down ? SPARE_FOR_RELEASES : 0);
}

void keyboard_key(struct keyboard *k, uint16_t key, bool down, uint64_t now_ns)
{
	if (key >= PS2_KEYS || is_pressed(k, key) == down || !k->scanning) {
		return;
	}
	if (down) {
		if (!send_key(k, key, true)) {
			return;
		}
		k->pressed[key / 8] |= (uint8_t)(1 << key % 8);
		k->repeat_key = key;
		k->repeat_ns = key == KEY_PAUSE ? UINT64_MAX : now_ns + delay_ns(k);
	} else {
		send_key(k, key, false);
		k->pressed[key / 8] &= (uint8_t) ~(1 << key % 8);
		if (key == k->repeat_key) {
			k->repeat_ns = UINT64_MAX;
		}
	}
}

void keyboard_repeat(struct keyboard *k, uint64_t now_ns)
{
	if (k->repeat_ns == UINT64_MAX || now_ns < k->repeat_ns) {
		return;
	}
	/* Codes that the guest has not fetched are enough for it. */
	if (k->scanning && k->port.len == 0) {
		send_key(k, k->repeat_key, true);
	}
	k->repeat_ns = now_ns + period_ns(k);
}
