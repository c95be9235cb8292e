/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scan codes: of each key in set 2, and the controller's translation of set 2 to set 1. IBM PS/2
 * Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)"; Microsoft, "Keyboard Scan
 * Code Specification" 1.3a for the keys that came later.
 */
#include <linux/input-event-codes.h>

#include "ps2.h"

enum { RELEASE = 0xf0, EXTENDED = 0xe0, EXTENDED1 = 0xe1 };
enum { E = 0x100 }; /* extended: prefix E0 */

static const uint16_t set2[PS2_KEYS] = {
	[KEY_ESC] = 0x76,
	[KEY_1] = 0x16,
	[KEY_2] = 0x1e,
	[KEY_3] = 0x26,
	[KEY_4] = 0x25,
	[KEY_5] = 0x2e,
	[KEY_6] = 0x36,
	[KEY_7] = 0x3d,
	[KEY_8] = 0x3e,
	[KEY_9] = 0x46,
	[KEY_0] = 0x45,
	[KEY_MINUS] = 0x4e,
	[KEY_EQUAL] = 0x55,
	[KEY_BACKSPACE] = 0x66,
	[KEY_TAB] = 0x0d,
	[KEY_Q] = 0x15,
	[KEY_W] = 0x1d,
	[KEY_E] = 0x24,
	[KEY_R] = 0x2d,
	[KEY_T] = 0x2c,
	[KEY_Y] = 0x35,
	[KEY_U] = 0x3c,
	[KEY_I] = 0x43,
	[KEY_O] = 0x44,
	[KEY_P] = 0x4d,
	[KEY_LEFTBRACE] = 0x54,
	[KEY_RIGHTBRACE] = 0x5b,
	[KEY_ENTER] = 0x5a,
	[KEY_LEFTCTRL] = 0x14,
	[KEY_A] = 0x1c,
	[KEY_S] = 0x1b,
	[KEY_D] = 0x23,
	[KEY_F] = 0x2b,
	[KEY_G] = 0x34,
	[KEY_H] = 0x33,
	[KEY_J] = 0x3b,
	[KEY_K] = 0x42,
	[KEY_L] = 0x4b,
	[KEY_SEMICOLON] = 0x4c,
	[KEY_APOSTROPHE] = 0x52,
	[KEY_GRAVE] = 0x0e,
	[KEY_LEFTSHIFT] = 0x12,
	[KEY_BACKSLASH] = 0x5d,
	[KEY_Z] = 0x1a,
	[KEY_X] = 0x22,
	[KEY_C] = 0x21,
	[KEY_V] = 0x2a,
	[KEY_B] = 0x32,
	[KEY_N] = 0x31,
	[KEY_M] = 0x3a,
	[KEY_COMMA] = 0x41,
	[KEY_DOT] = 0x49,
	[KEY_SLASH] = 0x4a,
	[KEY_RIGHTSHIFT] = 0x59,
	[KEY_KPASTERISK] = 0x7c,
	[KEY_LEFTALT] = 0x11,
	[KEY_SPACE] = 0x29,
	[KEY_CAPSLOCK] = 0x58,
	[KEY_F1] = 0x05,
	[KEY_F2] = 0x06,
	[KEY_F3] = 0x04,
	[KEY_F4] = 0x0c,
	[KEY_F5] = 0x03,
	[KEY_F6] = 0x0b,
	[KEY_F7] = 0x83,
	[KEY_F8] = 0x0a,
	[KEY_F9] = 0x01,
	[KEY_F10] = 0x09,
	[KEY_NUMLOCK] = 0x77,
	[KEY_SCROLLLOCK] = 0x7e,
	[KEY_KP7] = 0x6c,
	[KEY_KP8] = 0x75,
	[KEY_KP9] = 0x7d,
	[KEY_KPMINUS] = 0x7b,
	[KEY_KP4] = 0x6b,
	[KEY_KP5] = 0x73,
	[KEY_KP6] = 0x74,
	[KEY_KPPLUS] = 0x79,
	[KEY_KP1] = 0x69,
	[KEY_KP2] = 0x72,
	[KEY_KP3] = 0x7a,
	[KEY_KP0] = 0x70,
	[KEY_KPDOT] = 0x71,
	[KEY_102ND] = 0x61,
	[KEY_F11] = 0x78,
	[KEY_F12] = 0x07,
	[KEY_ZENKAKUHANKAKU] = 0x5f,
	[KEY_RO] = 0x51,
	[KEY_KATAKANA] = 0x63,
	[KEY_HIRAGANA] = 0x62,
	[KEY_HENKAN] = 0x64,
	[KEY_KATAKANAHIRAGANA] = 0x13,
	[KEY_MUHENKAN] = 0x67,
	[KEY_YEN] = 0x6a,
	[KEY_KPEQUAL] = 0x0f,
	[KEY_KPCOMMA] = 0x6d,
	[KEY_HANGEUL] = 0xf2,
	[KEY_HANJA] = 0xf1,
	[KEY_F13] = 0x08,
	[KEY_F14] = 0x10,
	[KEY_F15] = 0x18,
	[KEY_F16] = 0x20,
	[KEY_F17] = 0x28,
	[KEY_F18] = 0x30,
	[KEY_F19] = 0x38,
	[KEY_F20] = 0x40,
	[KEY_F21] = 0x48,
	[KEY_F22] = 0x50,
	[KEY_F23] = 0x57,
	[KEY_F24] = 0x5f,
	[KEY_KPENTER] = E | 0x5a,
	[KEY_RIGHTCTRL] = E | 0x14,
	[KEY_KPSLASH] = E | 0x4a,
	[KEY_RIGHTALT] = E | 0x11,
	[KEY_HOME] = E | 0x6c,
	[KEY_UP] = E | 0x75,
	[KEY_PAGEUP] = E | 0x7d,
	[KEY_LEFT] = E | 0x6b,
	[KEY_RIGHT] = E | 0x74,
	[KEY_END] = E | 0x69,
	[KEY_DOWN] = E | 0x72,
	[KEY_PAGEDOWN] = E | 0x7a,
	[KEY_INSERT] = E | 0x70,
	[KEY_DELETE] = E | 0x71,
	[KEY_LEFTMETA] = E | 0x1f,
	[KEY_RIGHTMETA] = E | 0x27,
	[KEY_COMPOSE] = E | 0x2f,
	[KEY_MUTE] = E | 0x23,
	[KEY_VOLUMEDOWN] = E | 0x21,
	[KEY_VOLUMEUP] = E | 0x32,
	[KEY_POWER] = E | 0x37,
	[KEY_SLEEP] = E | 0x3f,
	[KEY_WAKEUP] = E | 0x5e,
	[KEY_CALC] = E | 0x2b,
	[KEY_MAIL] = E | 0x48,
	[KEY_BOOKMARKS] = E | 0x18,
	[KEY_COMPUTER] = E | 0x40,
	[KEY_BACK] = E | 0x38,
	[KEY_FORWARD] = E | 0x30,
	[KEY_NEXTSONG] = E | 0x4d,
	[KEY_PLAYPAUSE] = E | 0x34,
	[KEY_PREVIOUSSONG] = E | 0x15,
	[KEY_STOPCD] = E | 0x3b,
	[KEY_HOMEPAGE] = E | 0x3a,
	[KEY_REFRESH] = E | 0x20,
	[KEY_STOP] = E | 0x28,
	[KEY_SEARCH] = E | 0x10,
	[KEY_MEDIA] = E | 0x50,
};

/* Set 2 to set 1, as the controller's own program has it; release codes get bit 7 besides. */
static const uint8_t to_set1[0x80] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
	0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
	0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
	0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
	0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
	0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
	0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
	0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
	0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

static size_t put(uint8_t *to, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		to[i] = bytes[i];
	}
	return n;
}
#define PUT(to, ...) put(to, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* PrintScreen doubles as SysRq with Alt; alone it comes in a shift that is not pressed. */
static size_t print_screen(bool down, struct key_modifiers mod, uint8_t *bytes)
{
	if (mod.alt) {
		return down ? PUT(bytes, 0x84) : PUT(bytes, RELEASE, 0x84);
	}
	if (mod.shift || mod.control) {
		return down ? PUT(bytes, EXTENDED, 0x7c) : PUT(bytes, EXTENDED, RELEASE, 0x7c);
	}
	return down ? PUT(bytes, EXTENDED, 0x12, EXTENDED, 0x7c)
		    : PUT(bytes, EXTENDED, RELEASE, 0x7c, EXTENDED, RELEASE, 0x12);
}

/* Pause sends press and release at once and nothing later; with Control it is Break. */
static size_t pause_break(bool down, struct key_modifiers mod, uint8_t *bytes)
{
	if (!down) {
		return 0;
	}
	if (mod.control) {
		return PUT(bytes, EXTENDED, 0x7e, EXTENDED, RELEASE, 0x7e);
	}
	return PUT(bytes, EXTENDED1, 0x14, 0x77, EXTENDED1, RELEASE, 0x14, RELEASE, 0x77);
}

size_t key_sequence(uint16_t key, bool down, struct key_modifiers pressed, uint8_t *bytes)
{
	size_t n = 0;

	if (key == KEY_SYSRQ) {
		return print_screen(down, pressed, bytes);
	}
	if (key == KEY_PAUSE) {
		return pause_break(down, pressed, bytes);
	}
	if (key >= PS2_KEYS || !set2[key]) {
		return 0;
	}
	if ((key == KEY_HANGEUL || key == KEY_HANJA) && !down) {
		return 0; /* these send no release */
	}
	if (set2[key] & E) {
		bytes[n++] = EXTENDED;
	}
	if (!down) {
		bytes[n++] = RELEASE;
	}
	bytes[n++] = (uint8_t)set2[key];
	return n;
}

bool key_translate(uint8_t byte, uint8_t *release, uint8_t *ret)
{
	if (byte == RELEASE) {
		*release = 0x80;
		return false;
	}
	if (byte < 0x80) {
		byte = to_set1[byte];
	} else if (byte == 0x83) { /* F7 */
		byte = 0x41;
	} else if (byte == 0x84) { /* SysRq */
		byte = 0x54;
	} else if (byte == EXTENDED || byte == EXTENDED1) { /* a release prefix comes after these */
		*ret = byte;
		return true;
	}
	*ret = byte | *release;
	*release = 0;
	return true;
}
