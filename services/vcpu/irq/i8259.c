/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two cascaded 8259A (Intel 231468) with the edge/level control registers of PIIX3.
 * Not modelled: MCS-80 mode, buffered mode pins, and ICW1.LTIM, which PIIX3 ignores too.
 */
#include "irq/i8259.h"

#include <string.h>

enum {
	ICW1_IC4 = 1 << 0,
	ICW1_SNGL = 1 << 1,
	ICW1_INIT = 1 << 4,
	ICW4_AEOI = 1 << 1,
	ICW4_SFNM = 1 << 4,
	OCW2_LEVEL = 7,
	OCW3 = 1 << 3,
	OCW3_RIS = 1 << 0,
	OCW3_RR = 1 << 1,
	OCW3_POLL = 1 << 2,
	OCW3_SMM = 1 << 5,
	OCW3_ESMM = 1 << 6,
	CASCADE = 2,
	/* IRQ 0, 1, 2, 8 and 13 are always edge triggered. */
	ELCR_MASK_MASTER = 0xf8,
	ELCR_MASK_SLAVE = 0xde,
};

/* OCW2 bits 7:5. */
enum ocw2 {
	OCW2_ROTATE_AEOI_CLEAR,
	OCW2_EOI,
	OCW2_NOP,
	OCW2_EOI_SPECIFIC,
	OCW2_ROTATE_AEOI_SET,
	OCW2_ROTATE_EOI,
	OCW2_SET_PRIORITY,
	OCW2_ROTATE_EOI_SPECIFIC,
};

/* Place of the highest-priority bit of set, 0 the first to be served; 8: none. */
static unsigned priority(const struct i8259_chip *c, uint8_t set)
{
	unsigned first = (c->lowest + 1) & 7;
	uint8_t rotated = (uint8_t)(set >> first | set << (8 - first));

	return rotated ? (unsigned)__builtin_ctz(rotated) : 8;
}

static unsigned input_at(const struct i8259_chip *c, unsigned place)
{
	return (c->lowest + 1 + place) & 7;
}

/* Requests as IRR shows them: latched edges, and levels while they last. */
static uint8_t requests(const struct i8259_chip *c)
{
	return (uint8_t)((c->irr & ~c->elcr) | (c->lines & c->elcr));
}

/* The input to be served now, or -1. */
static int pending(const struct i8259_chip *c, uint8_t irr, bool master)
{
	unsigned place = priority(c, (uint8_t)(irr & ~c->imr));
	uint8_t isr = c->special_mask ? (uint8_t)(c->isr & ~c->imr) : c->isr;

	if (c->init_step || place == 8) {
		return -1;
	}
	if (c->icw4 & ICW4_SFNM && master && input_at(c, place) == CASCADE) {
		isr &= (uint8_t) ~(1 << CASCADE);
	}
	return place < priority(c, isr) ? (int)input_at(c, place) : -1;
}

static int pending_slave(const struct i8259 *p)
{
	return pending(&p->s.slave, requests(&p->s.slave), false);
}

static uint8_t requests_master(const struct i8259 *p)
{
	uint8_t irr = requests(&p->s.master) & (uint8_t) ~(1 << CASCADE);

	return pending_slave(p) >= 0 ? irr | 1 << CASCADE : irr;
}

static int pending_master(const struct i8259 *p)
{
	return pending(&p->s.master, requests_master(p), true);
}

static struct i8259_chip *chip_of(struct i8259 *p, unsigned irq)
{
	return irq < 8 ? &p->s.master : &p->s.slave;
}

int i8259_pulse_irq(struct i8259 *p, unsigned irq)
{
	struct i8259_chip *c = chip_of(p, irq);
	uint8_t bit = (uint8_t)(1 << (irq & 7));
	bool latched = c->irr & bit;

	if (irq > 15 || irq == CASCADE) {
		return -1;
	}
	c->irr |= bit;
	if (c->imr & bit || c->elcr & bit) {
		return -1;
	}
	return !latched;
}

int i8259_set_irq(struct i8259 *p, unsigned irq, bool level)
{
	struct i8259_chip *c = chip_of(p, irq);
	uint8_t bit = (uint8_t)(1 << (irq & 7));
	bool was = c->lines & bit;

	if (irq > 15 || irq == CASCADE || was == level) {
		return -1;
	}
	if (!level) {
		c->lines &= (uint8_t)~bit;
		c->irr &= (uint8_t)~bit;
		return -1;
	}
	c->lines |= bit;
	return i8259_pulse_irq(p, irq);
}

bool i8259_intr(const struct i8259 *p)
{
	return pending_master(p) >= 0;
}

static void take(struct i8259_chip *c, unsigned input)
{
	uint8_t bit = (uint8_t)(1 << input);

	c->irr &= (uint8_t)~bit;
	if (!(c->icw4 & ICW4_AEOI)) {
		c->isr |= bit;
	} else if (c->rotate_aeoi) {
		c->lowest = (uint8_t)input;
	}
}

uint8_t i8259_ack(struct i8259 *p)
{
	struct i8259_chip *m = &p->s.master, *s = &p->s.slave;
	int input = pending_master(p), cascaded;

	if (input < 0) {
		return m->vector_base | 7;
	}
	cascaded = input == CASCADE ? pending_slave(p) : -1;
	take(m, (unsigned)input);
	if (input != CASCADE) {
		return (uint8_t)(m->vector_base | input);
	}
	if (cascaded < 0) {
		return s->vector_base | 7;
	}
	take(s, (unsigned)cascaded);
	return (uint8_t)(s->vector_base | cascaded);
}

/* ICW1: data sheet, "Initialization command words 1 and 2", (a) to (f). */
static void write_icw1(struct i8259_chip *c, uint8_t val)
{
	c->irr = c->isr = c->imr = 0;
	c->lowest = 7;
	c->special_mask = c->rotate_aeoi = c->poll = c->read_isr = 0;
	c->icw4 = 0;
	c->single = val & ICW1_SNGL ? 1 : 0;
	c->needs_icw4 = val & ICW1_IC4;
	c->init_step = 2;
}

static void write_icw(struct i8259_chip *c, uint8_t val)
{
	if (c->init_step == 2) {
		c->vector_base = val & 0xf8;
		c->init_step = !c->single ? 3 : c->needs_icw4 ? 4 : 0;
	} else if (c->init_step == 3) {
		c->icw3 = val;
		c->init_step = c->needs_icw4 ? 4 : 0;
	} else {
		c->icw4 = val & 0x1f;
		c->init_step = 0;
	}
}

static void end_of_interrupt(struct i8259_chip *c, unsigned input, bool rotate)
{
	c->isr &= (uint8_t) ~(1 << input);
	if (rotate) {
		c->lowest = (uint8_t)input;
	}
}

static void write_ocw2(struct i8259_chip *c, uint8_t val)
{
	enum ocw2 op = (enum ocw2)(val >> 5);
	unsigned place;

	switch (op) {
	case OCW2_ROTATE_AEOI_CLEAR:
	case OCW2_ROTATE_AEOI_SET: c->rotate_aeoi = op == OCW2_ROTATE_AEOI_SET; break;
	case OCW2_EOI:
	case OCW2_ROTATE_EOI:
		/* Levels masked in special mask mode are not cleared by a non-specific EOI. */
		place = priority(c, c->special_mask ? (uint8_t)(c->isr & ~c->imr) : c->isr);
		if (place < 8) {
			end_of_interrupt(c, input_at(c, place), op == OCW2_ROTATE_EOI);
		}
		break;
	case OCW2_EOI_SPECIFIC:
	case OCW2_ROTATE_EOI_SPECIFIC:
		end_of_interrupt(c, val & OCW2_LEVEL, op == OCW2_ROTATE_EOI_SPECIFIC);
		break;
	case OCW2_SET_PRIORITY: c->lowest = val & OCW2_LEVEL; break;
	case OCW2_NOP: break;
	}
}

static void write_ocw3(struct i8259_chip *c, uint8_t val)
{
	if (val & OCW3_ESMM) {
		c->special_mask = val & OCW3_SMM ? 1 : 0;
	}
	if (val & OCW3_RR) {
		c->read_isr = val & OCW3_RIS;
	}
	c->poll = val & OCW3_POLL ? 1 : 0;
}

static uint8_t read_poll(struct i8259 *p, struct i8259_chip *c)
{
	int input = c == &p->s.master ? pending_master(p) : pending_slave(p);

	c->poll = 0;
	if (input < 0) {
		return 0;
	}
	take(c, (unsigned)input);
	return (uint8_t)(0x80 | input);
}

uint8_t i8259_read(struct i8259 *p, uint16_t port)
{
	struct i8259_chip *c = port & 0x80 ? &p->s.slave : &p->s.master;

	if (port == 0x4d0 || port == 0x4d1) {
		return port & 1 ? p->s.slave.elcr : p->s.master.elcr;
	}
	if (c->poll) {
		return read_poll(p, c);
	}
	if (port & 1) {
		return c->imr;
	}
	if (c->read_isr) {
		return c->isr;
	}
	return c == &p->s.master ? requests_master(p) : requests(c);
}

void i8259_write(struct i8259 *p, uint16_t port, uint8_t val)
{
	struct i8259_chip *c = port & 0x80 ? &p->s.slave : &p->s.master;

	if (port == 0x4d0) {
		p->s.master.elcr = val & ELCR_MASK_MASTER;
	} else if (port == 0x4d1) {
		p->s.slave.elcr = val & ELCR_MASK_SLAVE;
	} else if (port & 1) {
		if (c->init_step) {
			write_icw(c, val);
		} else {
			c->imr = val;
		}
	} else if (val & ICW1_INIT) {
		write_icw1(c, val);
	} else if (val & OCW3) {
		write_ocw3(c, val);
	} else {
		write_ocw2(c, val);
	}
}

/* Power-on: masked until initialised, so that nothing is delivered through undefined vectors. */
void i8259_reset(struct i8259 *p)
{
	uint8_t lines[2] = {p->s.master.lines, p->s.slave.lines};

	memset(&p->s, 0, sizeof(p->s));
	p->s.master.lines = lines[0];
	p->s.slave.lines = lines[1];
	p->s.master.imr = p->s.slave.imr = 0xff;
	p->s.master.lowest = p->s.slave.lowest = 7;
}

#define CHIP_FIELDS(which)                                                                      \
	MOBO_FIELD(struct i8259_state, which.lines), MOBO_FIELD(struct i8259_state, which.irr), \
		MOBO_FIELD(struct i8259_state, which.isr),                                      \
		MOBO_FIELD(struct i8259_state, which.imr),                                      \
		MOBO_FIELD(struct i8259_state, which.elcr),                                     \
		MOBO_FIELD(struct i8259_state, which.vector_base),                              \
		MOBO_FIELD(struct i8259_state, which.icw3),                                     \
		MOBO_FIELD(struct i8259_state, which.icw4),                                     \
		MOBO_FIELD(struct i8259_state, which.init_step),                                \
		MOBO_FIELD(struct i8259_state, which.single),                                   \
		MOBO_FIELD(struct i8259_state, which.needs_icw4),                               \
		MOBO_FIELD(struct i8259_state, which.lowest),                                   \
		MOBO_FIELD(struct i8259_state, which.special_mask),                             \
		MOBO_FIELD(struct i8259_state, which.rotate_aeoi),                              \
		MOBO_FIELD(struct i8259_state, which.poll),                                     \
		MOBO_FIELD(struct i8259_state, which.read_isr)

const struct mobo_field i8259_fields[] = {CHIP_FIELDS(master), CHIP_FIELDS(slave)};
const unsigned i8259_n_fields = sizeof(i8259_fields) / sizeof(i8259_fields[0]);
