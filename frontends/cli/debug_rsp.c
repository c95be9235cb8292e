/* SPDX-License-Identifier: Apache-2.0 */
/* The GDB remote serial protocol: packets in and out, stops. GDB manual, appendix E.1. */
#include "debug_rsp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mobo/base.h"

enum { INTERRUPT = 3 };

/* -- Output -- */

static void put(struct rsp *r, const void *data, size_t n)
{
	if (n == 0) {
		return;
	}
	if (r->n_out + n > r->out_size) {
		r->out_size = 2 * (r->n_out + n);
		r->out = realloc(r->out, r->out_size);
		MOBO_ASSERT(r->out);
	}
	memcpy(r->out + r->n_out, data, n);
	r->n_out += n;
}

void rsp_sent(struct rsp *r, size_t n)
{
	r->n_out -= n;
	if (r->n_out) {
		memmove(r->out, r->out + n, r->n_out);
	}
}

/* Frames `n` bytes: $content#checksum. */
static void send_packet(struct rsp *r, const char *content, size_t n)
{
	uint8_t sum = 0, *to = r->last;
	char end[4];

	*to++ = '$';
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)content[i];

		if (c == '$' || c == '#' || c == '}' || c == '*') {
			*to++ = '}';
			sum += '}';
			c ^= 0x20;
		}
		*to++ = c;
		sum += c;
	}
	snprintf(end, sizeof(end), "#%02x", sum);
	memcpy(to, end, 3);
	r->n_last = (size_t)(to + 3 - r->last);
	put(r, r->last, r->n_last);
}

/* -- Input -- */

int rsp_hex_digit(int c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static void packet(struct rsp *r)
{
	const char *p = (const char *)r->in;

	if (!r->no_ack) {
		put(r, "+", 1);
	}
	r->n_reply = 0;
	r->silent = false;
	rsp_command(r, p, p + r->n_in);
	if (!r->silent) {
		send_packet(r, r->reply, r->n_reply);
	}
}

static void packet_end(struct rsp *r)
{
	r->state = RSP_IDLE;
	if (r->too_long || r->sum != r->sum_got) {
		if (!r->no_ack) {
			put(r, "-", 1);
		}
		return;
	}
	r->in[r->n_in] = '\0';
	packet(r);
}

static void content_byte(struct rsp *r, uint8_t c)
{
	if (c == '$') { /* a new one: the end of the last was lost */
		r->n_in = r->sum = 0;
		r->escaped = r->too_long = false;
		return;
	}
	r->sum += c;
	if (c == '}' && !r->escaped) {
		r->escaped = true;
		return;
	}
	if (r->n_in == RSP_PACKET) {
		r->too_long = true;
	} else {
		r->in[r->n_in++] = r->escaped ? c ^ 0x20 : c;
	}
	r->escaped = false;
}

static void idle_byte(struct rsp *r, uint8_t c)
{
	switch (c) {
	case '$':
		r->state = RSP_IN_PACKET;
		content_byte(r, c);
		break;
	case INTERRUPT:
		if (r->running) {
			r->target->interrupt(r->arg);
		}
		break;
	case '-':
		if (!r->no_ack) {
			put(r, r->last, r->n_last);
		}
		break;
	}
}

void rsp_feed(struct rsp *r, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n && !r->ended; i++) {
		uint8_t c = data[i];
		int digit = rsp_hex_digit(c);

		switch (r->state) {
		case RSP_IDLE: idle_byte(r, c); break;
		case RSP_IN_PACKET:
			if (c == '#') {
				r->state = RSP_SUM1;
			} else {
				content_byte(r, c);
			}
			break;
		case RSP_SUM1:
			r->sum_got = digit < 0 ? 0 : (uint8_t)(digit << 4);
			r->too_long |= digit < 0;
			r->state = RSP_SUM2;
			break;
		case RSP_SUM2:
			r->sum_got |= digit < 0 ? 0 : (uint8_t)digit;
			r->too_long |= digit < 0;
			packet_end(r);
			break;
		}
	}
}

/* -- The machine -- */

static const char *break_word(const struct rsp *r, uint64_t address)
{
	for (unsigned i = 0; i < r->n_points; i++) {
		if (r->points[i].kind == RSP_HW_BREAKPOINT && r->points[i].address == address) {
			return "hwbreak:;";
		}
	}
	return "swbreak:;";
}

static const char *watch_word(const struct rsp *r, uint64_t address, uint64_t *at)
{
	for (unsigned i = 0; i < r->n_points; i++) {
		const struct rsp_point *p = &r->points[i];

		if (p->kind >= RSP_WRITE && address - p->address < p->len) {
			*at = p->address;
			return p->kind == RSP_WRITE  ? "watch"
			       : p->kind == RSP_READ ? "rwatch"
						     : "awatch";
		}
	}
	*at = address;
	return "watch";
}

void rsp_stopped(struct rsp *r, unsigned cpu, enum rsp_stop why, uint64_t address)
{
	uint64_t at;
	const char *word;

	if (!r->running) {
		return;
	}
	r->running = false;
	r->cpu = cpu;
	switch (why) {
	case RSP_STOP_INTERRUPT:
		snprintf(r->stop, sizeof(r->stop), "T02thread:%x;", cpu + 1);
		break;
	case RSP_STOP_STEP: snprintf(r->stop, sizeof(r->stop), "T05thread:%x;", cpu + 1); break;
	case RSP_STOP_BREAKPOINT:
		snprintf(r->stop, sizeof(r->stop), "T05thread:%x;%s", cpu + 1,
			 r->says_break ? break_word(r, address) : "");
		break;
	case RSP_STOP_WATCHPOINT:
		word = watch_word(r, address, &at);
		snprintf(r->stop, sizeof(r->stop), "T05thread:%x;%s:%llx;", cpu + 1, word,
			 (unsigned long long)at);
		break;
	}
	send_packet(r, r->stop, strlen(r->stop));
}

void rsp_exited(struct rsp *r)
{
	r->ended = true;
	if (r->running) {
		r->running = false;
		send_packet(r, "W00", 3);
	}
}

void rsp_start(struct rsp *r, const struct rsp_target *target, void *arg, unsigned n_cpus, bool avx)
{
	r->target = target;
	r->arg = arg;
	r->n_cpus = n_cpus;
	r->avx = avx;
	snprintf(r->stop, sizeof(r->stop), "T05thread:1;");
}

void rsp_finish(struct rsp *r)
{
	free(r->out);
	r->out = NULL;
}
