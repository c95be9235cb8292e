/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PS/2 mouse that turns into an IntelliMouse with wheel, or one with five buttons, by the
 * knocking sequences of sample rates (Microsoft, "Wheel mouse support in Windows").
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "ps2.h"

enum {
	CMD_SCALE_1 = 0xe6,
	CMD_SCALE_2 = 0xe7,
	CMD_RESOLUTION = 0xe8,
	CMD_STATUS = 0xe9,
	CMD_STREAM = 0xea,
	CMD_READ_DATA = 0xeb,
	CMD_WRAP_OFF = 0xec,
	CMD_WRAP = 0xee,
	CMD_REMOTE = 0xf0,
	CMD_ID = 0xf2,
	CMD_RATE = 0xf3,
	CMD_ENABLE = 0xf4,
	CMD_DISABLE = 0xf5,
	CMD_DEFAULTS = 0xf6,
	CMD_RESEND = 0xfe,
	CMD_RESET = 0xff,
};
enum { ID_PLAIN = 0, ID_WHEEL = 3, ID_FIVE_BUTTONS = 4 };
enum { PACKET_ALWAYS = 1 << 3, PACKET_X_SIGN = 1 << 4, PACKET_Y_SIGN = 1 << 5, PACKET_MAX = 4 };
enum { BUTTONS_BASIC = 7, MOTION_MAX = 255, MOTION_KEPT = 1 << 20 };
/* Packets are not made while that many bytes wait: the guest does not keep up. */
enum { QUEUE_BUSY = 4, SPARE_FOR_BUTTONS = 16 };

static void set_defaults(struct mouse *m)
{
	m->rate = 100;
	m->resolution = 2;
	m->double_scale = 0;
	m->reporting = 0;
	m->remote = 0;
}

void mouse_reset(struct mouse *m)
{
	uint8_t buttons = m->buttons; /* fingers stay where they are */

	memset(m, 0, sizeof(*m));
	m->buttons = buttons;
	m->told_buttons = buttons;
	set_defaults(m);
}

/* -- Packets -- */

static int32_t clamp(int32_t v, int32_t min, int32_t max)
{
	return v < min ? min : v > max ? max : v;
}

/* Takes what fits into a packet out of *v. */
static int32_t take(int32_t *v, int32_t min, int32_t max)
{
	int32_t n = clamp(*v, min, max);

	*v -= n;
	return n;
}

/* Scaling 2:1, in stream mode only. */
static int32_t scale(int32_t v)
{
	static const uint8_t small[] = {0, 1, 1, 3, 6, 9};
	int32_t n = v < 0 ? -v : v;

	n = n < (int32_t)sizeof(small) ? small[n] : n * 2;
	n = clamp(n, 0, MOTION_MAX);
	return v < 0 ? -n : n;
}

static size_t make_packet(struct mouse *m, bool stream, uint8_t *packet)
{
	int32_t dx = take(&m->dx, -MOTION_MAX, MOTION_MAX);
	int32_t dy = take(&m->dy, -MOTION_MAX, MOTION_MAX);
	size_t n = 3;

	if (stream && m->double_scale) {
		dx = scale(dx);
		dy = scale(dy);
	}
	packet[0] = (uint8_t)((m->buttons & BUTTONS_BASIC) | PACKET_ALWAYS |
			      (dx < 0 ? PACKET_X_SIGN : 0) | (dy < 0 ? PACKET_Y_SIGN : 0));
	packet[1] = (uint8_t)dx;
	packet[2] = (uint8_t)dy;
	if (m->id == ID_WHEEL) {
		packet[n++] = (uint8_t)take(&m->dz, -128, 127);
	} else if (m->id == ID_FIVE_BUTTONS) {
		packet[n++] = (uint8_t)((take(&m->dz, -8, 7) & 0xf) | (m->buttons >> 3 & 3) << 4);
	} else {
		m->dz = 0;
	}
	m->told_buttons = m->buttons;
	return n;
}

static bool has_news(const struct mouse *m)
{
	return m->dx || m->dy || (m->dz && m->id != ID_PLAIN) || m->buttons != m->told_buttons;
}

static bool streams(const struct mouse *m)
{
	return m->reporting && !m->remote && !m->wrap;
}

static void queue_packet(struct mouse *m, uint64_t now_ns)
{
	uint8_t packet[PACKET_MAX];
	size_t n = make_packet(m, true, packet);

	ps2_queue(&m->port, packet, n, 0);
	m->sample_ns = now_ns + 1000000000u / (m->rate ? m->rate : 100u);
}

uint64_t mouse_sample(struct mouse *m, uint64_t now_ns)
{
	if (!streams(m) || !has_news(m) || m->port.len >= QUEUE_BUSY) {
		return UINT64_MAX; /* called again when something changes or bytes are fetched */
	}
	if (now_ns >= m->sample_ns) {
		queue_packet(m, now_ns);
	}
	return has_news(m) ? m->sample_ns : UINT64_MAX;
}

/* The sum, without overflow; what the guest does not fetch for long is forgotten. */
static int32_t gather(int32_t kept, int32_t more)
{
	return clamp(kept, -MOTION_KEPT, MOTION_KEPT) + clamp(more, -MOTION_KEPT, MOTION_KEPT);
}

void mouse_move(struct mouse *m, int32_t dx, int32_t dy, int32_t dz)
{
	if (!m->reporting && !m->remote) {
		return;
	}
	m->dx = gather(m->dx, dx);
	m->dy = gather(m->dy, dy);
	m->dz = gather(m->dz, dz);
}

void mouse_button(struct mouse *m, uint16_t code, bool down, uint64_t now_ns)
{
	uint8_t bit;

	switch (code) {
	case BTN_LEFT: bit = 1; break;
	case BTN_RIGHT: bit = 2; break;
	case BTN_MIDDLE: bit = 4; break;
	case BTN_SIDE: bit = 8; break;
	case BTN_EXTRA: bit = 16; break;
	default: return;
	}
	/* A short click must not vanish between two samples: tell the last change first. */
	if (streams(m) && m->buttons != m->told_buttons &&
	    m->port.len + SPARE_FOR_BUTTONS <= PS2_QUEUE) {
		queue_packet(m, now_ns);
	}
	m->buttons = down ? m->buttons | bit : m->buttons & (uint8_t)~bit;
	m->sample_ns = 0; /* buttons do not wait for the next sample */
}

/* -- From the guest -- */

/* Rates 200, 100, 80 make a wheel mouse, 200, 200, 80 one with five buttons. */
static void listen_to_knock(struct mouse *m, uint8_t rate)
{
	enum { NONE, KNOCK_200, KNOCK_200_100, KNOCK_200_200 };

	if (rate == 80 && m->knock == KNOCK_200_100) {
		m->id = m->id == ID_PLAIN ? ID_WHEEL : m->id;
	} else if (rate == 80 && m->knock == KNOCK_200_200 && m->id != ID_PLAIN) {
		m->id = ID_FIVE_BUTTONS;
	}
	if (rate == 200) {
		m->knock = m->knock == KNOCK_200 ? KNOCK_200_200 : KNOCK_200;
	} else if (rate == 100 && m->knock == KNOCK_200) {
		m->knock = KNOCK_200_100;
	} else {
		m->knock = NONE;
	}
}

static void parameter(struct mouse *m, uint8_t command, uint8_t byte)
{
	m->port.command = 0;
	ps2_answer(&m->port, PS2_ACK);
	if (command == CMD_RATE) {
		m->rate = byte;
		listen_to_knock(m, byte);
	} else {
		m->resolution = byte & 3;
	}
}

static void tell_status(struct mouse *m)
{
	/* Buttons are in another order here: left, middle, right from bit 2 down. */
	uint8_t buttons =
		(uint8_t)((m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1);

	ps2_answer(&m->port, PS2_ACK);
	ps2_answer(&m->port,
		   (uint8_t)(m->remote << 6 | m->reporting << 5 | m->double_scale << 4 | buttons));
	ps2_answer(&m->port, m->resolution);
	ps2_answer(&m->port, m->rate);
}

static void read_data(struct mouse *m)
{
	uint8_t packet[PACKET_MAX];
	size_t n = make_packet(m, false, packet);

	ps2_answer(&m->port, PS2_ACK);
	for (size_t i = 0; i < n; i++) {
		ps2_answer(&m->port, packet[i]);
	}
}

static void command(struct mouse *m, uint8_t byte)
{
	struct ps2_port *p = &m->port;

	switch (byte) {
	case CMD_SCALE_1:
	case CMD_SCALE_2: m->double_scale = byte == CMD_SCALE_2; break;
	case CMD_RESOLUTION:
	case CMD_RATE: p->command = byte; break;
	case CMD_STATUS: tell_status(m); return;
	case CMD_STREAM:
	case CMD_REMOTE: m->remote = byte == CMD_REMOTE; break;
	case CMD_READ_DATA: read_data(m); return;
	case CMD_WRAP_OFF: break;
	case CMD_WRAP: m->wrap = 1; break;
	case CMD_ID:
		ps2_answer(p, PS2_ACK);
		ps2_answer(p, m->id);
		return;
	case CMD_ENABLE:
	case CMD_DISABLE: m->reporting = byte == CMD_ENABLE; break;
	case CMD_DEFAULTS: set_defaults(m); break;
	case CMD_RESET:
		mouse_reset(m);
		ps2_answer(p, PS2_ACK);
		ps2_answer(p, PS2_BAT_OK);
		ps2_answer(p, ID_PLAIN);
		return;
	default: ps2_answer(p, PS2_RESEND); return;
	}
	ps2_answer(p, PS2_ACK);
}

void mouse_write(struct mouse *m, uint8_t byte)
{
	struct ps2_port *p = &m->port;

	if (m->wrap && byte != CMD_RESET && byte != CMD_WRAP_OFF) {
		ps2_answer(p, byte);
		return;
	}
	m->wrap = 0;
	if (byte == CMD_RESEND) {
		ps2_answer(p, p->last);
		return;
	}
	/* A command ends whatever was being told. */
	p->n_answer = 0;
	p->len = 0;
	if (p->command) {
		parameter(m, p->command, byte);
		return;
	}
	if (byte != CMD_READ_DATA) { /* all others clear the counters */
		m->dx = 0;
		m->dy = 0;
		m->dz = 0;
	}
	command(m, byte);
}
