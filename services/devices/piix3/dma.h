/* SPDX-License-Identifier: Apache-2.0 */
/* One 8237 DMA controller's registers as the guest sees them. */
#ifndef PIIX3_DMA_H
#define PIIX3_DMA_H

#include <stdbool.h>
#include <stdint.h>

/* Guest-visible; part of the chip's saved state. */
struct dma_state {
	uint16_t base_address[4], base_count[4];
	uint16_t address[4], count[4]; /* current */
	uint8_t mode[4];
	uint8_t command, status, mask;
	uint8_t high_byte; /* the byte pointer flip-flop: 1, the high byte is next */
};

/* reg: 0-15, as the ports of the first controller are numbered. */
uint8_t dma_read(struct dma_state *s, unsigned reg);
/* The same without side effects. */
uint8_t dma_peek(const struct dma_state *s, unsigned reg);
void dma_write(struct dma_state *s, unsigned reg, uint8_t val);
void dma_reset(struct dma_state *s);

#endif
