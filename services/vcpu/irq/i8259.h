/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two cascaded 8259A interrupt controllers as in PIIX3: Intel 8259A data sheet (231468), and
 * 82371SB section 2.5.6 for the edge/level control registers.
 *
 * Plain objects: no threads, no clock. Whoever owns the pair serialises the calls.
 */
#ifndef VCPU_IRQ_I8259_H
#define VCPU_IRQ_I8259_H

#include <stdbool.h>
#include <stdint.h>

#include "mobo/device.h"

/* Guest-visible state of one 8259A. */
struct i8259_chip {
	uint8_t lines; /* levels of IR7-IR0 */
	uint8_t irr;   /* requests latched by a rising edge */
	uint8_t isr, imr;
	uint8_t elcr;	     /* level-triggered inputs */
	uint8_t vector_base; /* ICW2 bits 7:3 */
	uint8_t icw3, icw4;
	uint8_t init_step;	    /* 0: operating, else the ICW number expected next */
	uint8_t single, needs_icw4; /* from ICW1 */
	uint8_t lowest;		    /* input with the lowest priority */
	uint8_t special_mask, rotate_aeoi, poll, read_isr;
};

struct i8259_state {
	struct i8259_chip master, slave;
};

struct i8259 {
	struct i8259_state s;
};

extern const struct mobo_field i8259_fields[];
extern const unsigned i8259_n_fields;

void i8259_reset(struct i8259 *p);

/*
 * Level of IRQ 0-15 (2 is the cascade and ignored). A falling edge takes back a request that was
 * not acknowledged. Returns 1: a new request, 0: the request before it is still unanswered,
 * -1: masked, level input or no rising edge.
 */
int i8259_set_irq(struct i8259 *p, unsigned irq, bool level);
/* A rising edge whose request stays latched though the line is low again. Returns likewise. */
int i8259_pulse_irq(struct i8259 *p, unsigned irq);

/* The INTR output. */
bool i8259_intr(const struct i8259 *p);
/* Interrupt acknowledge cycle: the vector, the spurious one of IR7 when the request is gone. */
uint8_t i8259_ack(struct i8259 *p);

/* Ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1; bytes. */
uint8_t i8259_read(struct i8259 *p, uint16_t port);
void i8259_write(struct i8259 *p, uint16_t port, uint8_t val);

#endif
