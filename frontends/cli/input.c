/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input to the guest: text, keys, the mouse. Text is typed as on a US keyboard, key by key, as
 * Linux input codes.
 */
#include <ctype.h>
#include <getopt.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"

enum { MAX_EVENTS = 8192, TYPE_INTERVAL_MS = 8 };

struct events {
	Mobo__V1__InputEvent ev[MAX_EVENTS], *ptr[MAX_EVENTS];
	size_t n;
};

static bool event(struct events *e, Mobo__V1__InputEvent__InputKind kind, unsigned code, bool down)
{
	if (e->n == MAX_EVENTS) {
		return false;
	}
	mobo__v1__input_event__init(&e->ev[e->n]);
	e->ev[e->n].kind = kind;
	e->ev[e->n].code = code;
	e->ev[e->n].down = down;
	e->ptr[e->n] = &e->ev[e->n];
	e->n++;
	return true;
}

static bool key(struct events *e, unsigned code, bool down)
{
	return event(e, MOBO__V1__INPUT_EVENT__INPUT_KIND__KEY, code, down);
}

struct us_key {
	uint8_t code;
	bool shift;
};

/* clang-format off */
static const struct us_key us[128] = {
	['\n'] = { KEY_ENTER, 0 }, ['\r'] = { KEY_ENTER, 0 }, ['\t'] = { KEY_TAB, 0 },
	[27] = { KEY_ESC, 0 }, ['\b'] = { KEY_BACKSPACE, 0 }, [127] = { KEY_BACKSPACE, 0 },
	[' '] = { KEY_SPACE, 0 },
	['1'] = { KEY_1, 0 }, ['2'] = { KEY_2, 0 }, ['3'] = { KEY_3, 0 }, ['4'] = { KEY_4, 0 },
	['5'] = { KEY_5, 0 }, ['6'] = { KEY_6, 0 }, ['7'] = { KEY_7, 0 }, ['8'] = { KEY_8, 0 },
	['9'] = { KEY_9, 0 }, ['0'] = { KEY_0, 0 },
	['!'] = { KEY_1, 1 }, ['@'] = { KEY_2, 1 }, ['#'] = { KEY_3, 1 }, ['$'] = { KEY_4, 1 },
	['%'] = { KEY_5, 1 }, ['^'] = { KEY_6, 1 }, ['&'] = { KEY_7, 1 }, ['*'] = { KEY_8, 1 },
	['('] = { KEY_9, 1 }, [')'] = { KEY_0, 1 },
	['-'] = { KEY_MINUS, 0 }, ['_'] = { KEY_MINUS, 1 }, ['='] = { KEY_EQUAL, 0 },
	['+'] = { KEY_EQUAL, 1 }, ['['] = { KEY_LEFTBRACE, 0 }, ['{'] = { KEY_LEFTBRACE, 1 },
	[']'] = { KEY_RIGHTBRACE, 0 }, ['}'] = { KEY_RIGHTBRACE, 1 },
	['\\'] = { KEY_BACKSLASH, 0 }, ['|'] = { KEY_BACKSLASH, 1 },
	[';'] = { KEY_SEMICOLON, 0 }, [':'] = { KEY_SEMICOLON, 1 },
	['\''] = { KEY_APOSTROPHE, 0 }, ['"'] = { KEY_APOSTROPHE, 1 },
	['`'] = { KEY_GRAVE, 0 }, ['~'] = { KEY_GRAVE, 1 },
	[','] = { KEY_COMMA, 0 }, ['<'] = { KEY_COMMA, 1 }, ['.'] = { KEY_DOT, 0 },
	['>'] = { KEY_DOT, 1 }, ['/'] = { KEY_SLASH, 0 }, ['?'] = { KEY_SLASH, 1 },
	['a'] = { KEY_A, 0 }, ['b'] = { KEY_B, 0 }, ['c'] = { KEY_C, 0 }, ['d'] = { KEY_D, 0 },
	['e'] = { KEY_E, 0 }, ['f'] = { KEY_F, 0 }, ['g'] = { KEY_G, 0 }, ['h'] = { KEY_H, 0 },
	['i'] = { KEY_I, 0 }, ['j'] = { KEY_J, 0 }, ['k'] = { KEY_K, 0 }, ['l'] = { KEY_L, 0 },
	['m'] = { KEY_M, 0 }, ['n'] = { KEY_N, 0 }, ['o'] = { KEY_O, 0 }, ['p'] = { KEY_P, 0 },
	['q'] = { KEY_Q, 0 }, ['r'] = { KEY_R, 0 }, ['s'] = { KEY_S, 0 }, ['t'] = { KEY_T, 0 },
	['u'] = { KEY_U, 0 }, ['v'] = { KEY_V, 0 }, ['w'] = { KEY_W, 0 }, ['x'] = { KEY_X, 0 },
	['y'] = { KEY_Y, 0 }, ['z'] = { KEY_Z, 0 },
};

static const struct {
	const char *name;
	uint16_t code;
} key_names[] = {
	{ "ctrl", KEY_LEFTCTRL }, { "rctrl", KEY_RIGHTCTRL }, { "shift", KEY_LEFTSHIFT },
	{ "rshift", KEY_RIGHTSHIFT }, { "alt", KEY_LEFTALT }, { "altgr", KEY_RIGHTALT },
	{ "super", KEY_LEFTMETA }, { "menu", KEY_COMPOSE }, { "enter", KEY_ENTER },
	{ "esc", KEY_ESC }, { "tab", KEY_TAB }, { "space", KEY_SPACE },
	{ "backspace", KEY_BACKSPACE }, { "delete", KEY_DELETE }, { "insert", KEY_INSERT },
	{ "home", KEY_HOME }, { "end", KEY_END }, { "pageup", KEY_PAGEUP },
	{ "pagedown", KEY_PAGEDOWN }, { "up", KEY_UP }, { "down", KEY_DOWN },
	{ "left", KEY_LEFT }, { "right", KEY_RIGHT }, { "capslock", KEY_CAPSLOCK },
	{ "numlock", KEY_NUMLOCK }, { "scrolllock", KEY_SCROLLLOCK }, { "sysrq", KEY_SYSRQ },
	{ "print", KEY_SYSRQ }, { "pause", KEY_PAUSE }, { "kpenter", KEY_KPENTER },
	{ "f1", KEY_F1 }, { "f2", KEY_F2 }, { "f3", KEY_F3 }, { "f4", KEY_F4 }, { "f5", KEY_F5 },
	{ "f6", KEY_F6 }, { "f7", KEY_F7 }, { "f8", KEY_F8 }, { "f9", KEY_F9 }, { "f10", KEY_F10 },
	{ "f11", KEY_F11 }, { "f12", KEY_F12 },
};
/* clang-format on */

static int send_events(struct cli *cli, const char *name, struct events *e, unsigned interval_ms)
{
	Mobo__V1__SendKeys req = MOBO__V1__SEND_KEYS__INIT;
	int status = cli_machine(cli, name);

	if (status != CLI_OK) {
		return status;
	}
	req.events = e->ptr;
	req.n_events = e->n;
	req.interval_ms = interval_ms;
	status = cli_call(cli, cli->machine, &req.base, 10000 + (unsigned)e->n * (interval_ms + 2),
			  NULL);
	if (status == CLI_OK) {
		cli_done(cli);
	}
	return status;
}

/* \n, \t, \e, \\ in the text are what they are in C. */
static int unescape(const char **s)
{
	int c = (unsigned char)*(*s)++;

	if (c != '\\' || !**s) {
		return c;
	}
	c = *(*s)++;
	switch (c) {
	case 'n': return '\n';
	case 't': return '\t';
	case 'e': return 27;
	case 'b': return '\b';
	default: return c;
	}
}

static int text_events(struct cli *cli, struct events *e, const char *text)
{
	while (*text) {
		int c = unescape(&text);
		bool shift = c < 128 && isupper(c);
		struct us_key k = c < 128 ? us[tolower(c)] : (struct us_key){0};

		if (!k.code) {
			return cli_fail(
				cli, CLI_USAGE,
				"no key types the character 0x%02x; `mobo key` sends any key", c);
		}
		shift |= k.shift;
		if ((shift && !key(e, KEY_LEFTSHIFT, true)) || !key(e, k.code, true) ||
		    !key(e, k.code, false) || (shift && !key(e, KEY_LEFTSHIFT, false))) {
			return cli_fail(cli, CLI_USAGE, "the text is too long: type it in parts");
		}
	}
	return CLI_OK;
}

int cmd_type(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"interval", 1, NULL, 'i'}, {0}};
	static struct events e;
	unsigned interval = TYPE_INTERVAL_MS;
	int c, status;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c != 'i') {
			return cli_usage(cli);
		}
		interval = (unsigned)strtoul(optarg, NULL, 0);
	}
	if (optind != argc - 2) {
		return cli_usage(cli);
	}
	status = text_events(cli, &e, argv[optind + 1]);
	return status ? status : send_events(cli, argv[optind], &e, interval);
}

static int key_code(const char *name)
{
	char *end;

	for (size_t i = 0; i < MOBO_ARRAY_LEN(key_names); i++) {
		if (strcasecmp(name, key_names[i].name) == 0) {
			return key_names[i].code;
		}
	}
	if (strlen(name) == 1 && (unsigned char)*name < 128 && us[tolower(*name)].code) {
		return us[tolower(*name)].code;
	}

	long code = strtol(name, &end, 0);

	return *name && !*end && code > 0 && code < KEY_MAX ? (int)code : -1;
}

/* "ctrl-alt-delete": pressed in order, released in reverse. */
static int chord_events(struct cli *cli, struct events *e, const char *chord)
{
	char *copy = strdup(chord), *save = NULL;
	unsigned codes[8], n = 0;

	MOBO_ASSERT(copy);
	for (char *w = strtok_r(copy, "-+", &save); w; w = strtok_r(NULL, "-+", &save)) {
		int code = key_code(w);

		if (code < 0 || n == MOBO_ARRAY_LEN(codes)) {
			int status =
				cli_fail(cli, CLI_USAGE,
					 "no key is called `%s`; `mobo help key` lists the names",
					 w);

			free(copy);
			return status;
		}
		codes[n++] = (unsigned)code;
		key(e, (unsigned)code, true);
	}
	free(copy);
	while (n) {
		key(e, codes[--n], false);
	}
	return CLI_OK;
}

int cmd_key(struct cli *cli, int argc, char **argv)
{
	static struct events e;

	if (argc < 3) {
		return cli_usage(cli);
	}
	for (int i = 2; i < argc; i++) {
		int status = chord_events(cli, &e, argv[i]);

		if (status != CLI_OK) {
			return status;
		}
	}
	return send_events(cli, argv[1], &e, TYPE_INTERVAL_MS);
}

int cmd_mouse(struct cli *cli, int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned code;
	} buttons[] = {{"left", BTN_LEFT}, {"right", BTN_RIGHT}, {"middle", BTN_MIDDLE}};
	static struct events e;

	if (argc == 5 && strcmp(argv[2], "move") == 0) {
		event(&e, MOBO__V1__INPUT_EVENT__INPUT_KIND__REL, 0, false);
		e.ev[0].dx = atoi(argv[3]);
		e.ev[0].dy = atoi(argv[4]);
	} else if (argc == 4 && strcmp(argv[2], "wheel") == 0) {
		event(&e, MOBO__V1__INPUT_EVENT__INPUT_KIND__WHEEL, 0, false);
		e.ev[0].dz = atoi(argv[3]);
	} else if (argc == 4 && (strcmp(argv[2], "click") == 0 || strcmp(argv[2], "press") == 0 ||
				 strcmp(argv[2], "release") == 0)) {
		for (size_t i = 0; i < MOBO_ARRAY_LEN(buttons); i++) {
			if (strcmp(argv[3], buttons[i].name) != 0) {
				continue;
			}
			if (*argv[2] != 'r') {
				event(&e, MOBO__V1__INPUT_EVENT__INPUT_KIND__BUTTON,
				      buttons[i].code, true);
			}
			if (*argv[2] != 'p') {
				event(&e, MOBO__V1__INPUT_EVENT__INPUT_KIND__BUTTON,
				      buttons[i].code, false);
			}
		}
	}
	return e.n ? send_events(cli, argv[1], &e, TYPE_INTERVAL_MS) : cli_usage(cli);
}
