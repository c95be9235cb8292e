/* SPDX-License-Identifier: Apache-2.0 */
/* What a device has to say. */
#include "ps2.h"

void ps2_answer(struct ps2_port *p, uint8_t byte)
{
	if (p->n_answer < PS2_ANSWER) {
		p->answer[p->n_answer++] = byte;
	}
}

bool ps2_queue(struct ps2_port *p, const uint8_t *bytes, size_t n, size_t spare)
{
	if (p->len + n + spare > PS2_QUEUE) {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		p->queue[(p->head + p->len) % PS2_QUEUE] = bytes[i];
		p->len++;
	}
	return true;
}

bool ps2_pending(const struct ps2_port *p)
{
	return p->n_answer || p->len;
}

uint8_t ps2_take(struct ps2_port *p)
{
	if (p->n_answer) {
		p->last = p->answer[0];
		p->n_answer--;
		for (unsigned i = 0; i < p->n_answer && i + 1 < PS2_ANSWER; i++) {
			p->answer[i] = p->answer[i + 1];
		}
	} else if (p->len) {
		p->last = p->queue[p->head % PS2_QUEUE];
		p->head = (uint16_t)((p->head + 1) % PS2_QUEUE);
		p->len--;
	}
	return p->last;
}

void ps2_clear(struct ps2_port *p)
{
	p->n_answer = 0;
	p->head = 0;
	p->len = 0;
	p->command = 0;
}
