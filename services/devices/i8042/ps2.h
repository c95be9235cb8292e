/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two devices behind the controller, each with what it has to say: answers to commands, which
 * go first, and events. Both are plain state with functions; i8042.c moves the bytes.
 * Reference: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
 * Controller", "Keyboards", "Auxiliary device".
 */
#ifndef I8042_PS2_H
#define I8042_PS2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PS2_ANSWER = 8, PS2_QUEUE = 1024, PS2_ACK = 0xfa, PS2_RESEND = 0xfe, PS2_BAT_OK = 0xaa };

struct ps2_port {
	uint8_t answer[PS2_ANSWER];
	uint8_t queue[PS2_QUEUE]; /* a ring */
	uint16_t head, len;
	uint8_t n_answer;
	uint8_t command; /* whose parameter comes next; 0: none */
	uint8_t last;	 /* byte sent, for "resend" */
	uint8_t reserved;
};

void ps2_answer(struct ps2_port *p, uint8_t byte);
/* Queues all bytes, or none when they would leave less than `spare` bytes free: then false. */
bool ps2_queue(struct ps2_port *p, const uint8_t *bytes, size_t n, size_t spare);
bool ps2_pending(const struct ps2_port *p);
/* The next byte; only when one is pending. */
uint8_t ps2_take(struct ps2_port *p);
void ps2_clear(struct ps2_port *p);

/* -- Keyboard -- */

enum { PS2_KEYS = 256, PS2_SEQUENCE = 8 };
enum { LED_SCROLL_LOCK = 1 << 0, LED_NUM_LOCK = 1 << 1, LED_CAPS_LOCK = 1 << 2 };

struct keyboard {
	uint64_t repeat_ns; /* when the key repeats; UINT64_MAX: not */
	struct ps2_port port;
	uint8_t pressed[PS2_KEYS / 8];
	uint16_t repeat_key;
	uint8_t set; /* scan code set, 1 or 2 */
	uint8_t leds;
	uint8_t typematic; /* as given by the guest: rate and delay */
	uint8_t scanning;
	uint8_t reserved[2];
};

void keyboard_reset(struct keyboard *k);
/* A byte from the guest. True when the LEDs changed. */
bool keyboard_write(struct keyboard *k, uint8_t byte);
/* A key (Linux KEY_*) went down or up. */
void keyboard_key(struct keyboard *k, uint16_t key, bool down, uint64_t now_ns);
/* To be called when repeat_ns is reached. */
void keyboard_repeat(struct keyboard *k, uint64_t now_ns);

/* -- Scan codes (keys.c) -- */

/*
 * The bytes of a key in set 2, at most PS2_SEQUENCE; 0 for a key that the keyboard does not have.
 * pressed: the modifiers that change what PrintScreen and Pause send.
 */
struct key_modifiers {
	bool shift, control, alt;
};
size_t key_sequence(uint16_t key, bool down, struct key_modifiers pressed, uint8_t *bytes);
/*
 * The controller's translation from set 2 to set 1 of one byte. *release remembers a release
 * prefix, which yields no byte itself (false).
 */
bool key_translate(uint8_t byte, uint8_t *release, uint8_t *ret);

/* -- Mouse -- */

struct mouse {
	uint64_t sample_ns; /* no motion packet before that time */
	struct ps2_port port;
	int32_t dx, dy, dz; /* motion not yet told: right, up, towards the user */
	uint8_t buttons;    /* as in a packet: 1 left, 2 right, 4 middle, 8 fourth, 16 fifth */
	uint8_t told_buttons;
	uint8_t id;   /* 0, 3: wheel, 4: wheel and five buttons */
	uint8_t rate; /* samples a second */
	uint8_t resolution;
	uint8_t double_scale, reporting, remote, wrap;
	uint8_t knock; /* how far the sequence of rates that changes the id has come */
	uint8_t reserved[2];
};

void mouse_reset(struct mouse *m);
void mouse_write(struct mouse *m, uint8_t byte);
void mouse_button(struct mouse *m, uint16_t code, bool down, uint64_t now_ns);
void mouse_move(struct mouse *m, int32_t dx, int32_t dy, int32_t dz);
/* Makes a packet of what has gathered if it is time; when to call again, or UINT64_MAX. */
uint64_t mouse_sample(struct mouse *m, uint64_t now_ns);

#endif
