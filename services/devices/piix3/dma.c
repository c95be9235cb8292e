/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8237 programmable DMA controller (Intel 231466-005), as PIIX3 has two (82371SB, 2.5.1).
 *
 * Not modelled: transfers. No chip of this board asks for one; what is here is what software finds
 * when it programs or probes the registers.
 */
#include "dma.h"

enum {
	REG_ADDRESS_COUNT_LAST = 7,
	REG_STATUS_COMMAND = 8,
	REG_REQUEST = 9,
	REG_MASK_BIT = 10,
	REG_MODE = 11,
	REG_CLEAR_POINTER = 12,
	REG_TEMPORARY_CLEAR = 13,
	REG_CLEAR_MASK = 14,
	REG_MASK = 15,
};
enum { MASK_SET = 1 << 2, REQUEST_SET = 1 << 2, CHANNEL = 3, ALL_MASKED = 0xf };

void dma_reset(struct dma_state *s)
{
	s->command = 0;
	s->status = 0;
	s->high_byte = 0;
	s->mask = ALL_MASKED;
}

uint8_t dma_peek(const struct dma_state *s, unsigned reg)
{
	uint16_t v;

	if (reg <= REG_ADDRESS_COUNT_LAST) {
		v = reg & 1 ? s->count[reg / 2] : s->address[reg / 2];
		return (uint8_t)(s->high_byte ? v >> 8 : v);
	}
	switch (reg) {
	case REG_STATUS_COMMAND: return s->status;
	case REG_MASK: return s->mask | 0xf0;
	}
	return 0;
}

uint8_t dma_read(struct dma_state *s, unsigned reg)
{
	uint8_t v = dma_peek(s, reg);

	if (reg <= REG_ADDRESS_COUNT_LAST) {
		s->high_byte ^= 1;
	} else if (reg == REG_STATUS_COMMAND) {
		s->status &= 0xf0; /* terminal counts are cleared */
	}
	return v;
}

static void put_byte(uint16_t *v, bool high, uint8_t byte)
{
	*v = high ? (uint16_t)((*v & 0x00ff) | byte << 8) : (uint16_t)((*v & 0xff00) | byte);
}

static void write_channel(struct dma_state *s, unsigned reg, uint8_t val)
{
	unsigned n = reg / 2;
	uint16_t *base = reg & 1 ? &s->base_count[n] : &s->base_address[n];

	put_byte(base, s->high_byte, val);
	/* The current register is loaded together with the base register. */
	put_byte(reg & 1 ? &s->count[n] : &s->address[n], s->high_byte, val);
	s->high_byte ^= 1;
}

void dma_write(struct dma_state *s, unsigned reg, uint8_t val)
{
	uint8_t bit = (uint8_t)(1 << (val & CHANNEL));

	if (reg <= REG_ADDRESS_COUNT_LAST) {
		write_channel(s, reg, val);
		return;
	}
	switch (reg) {
	case REG_STATUS_COMMAND: s->command = val; break;
	case REG_REQUEST: /* bits 7:4 of the status show requests */
		bit = (uint8_t)(bit << 4);
		s->status = val & REQUEST_SET ? s->status | bit : s->status & (uint8_t)~bit;
		break;
	case REG_MASK_BIT:
		s->mask = val & MASK_SET ? s->mask | bit : s->mask & (uint8_t)~bit;
		break;
	case REG_MODE: s->mode[val & CHANNEL] = val; break;
	case REG_CLEAR_POINTER: s->high_byte = 0; break;
	case REG_TEMPORARY_CLEAR: dma_reset(s); break;
	case REG_CLEAR_MASK: s->mask = 0; break;
	case REG_MASK: s->mask = val & ALL_MASKED; break;
	}
}
