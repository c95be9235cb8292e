/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8254 interval timer (Intel data sheet 231164) and the PC's port 0x61 with its gate and speaker
 * bits. Counts and outputs are computed from virtual time; only channel 0 has events.
 *
 * Plain object; whoever owns it serialises the calls.
 */
#ifndef VCPU_IRQ_I8254_H
#define VCPU_IRQ_I8254_H

#include <stdbool.h>
#include <stdint.h>

#include "mobo/device.h"

enum { I8254_HZ = 1193182 };

/* Times are ticks of the 1.193182 MHz clock since virtual time 0. */
struct i8254_channel {
	uint64_t start;	      /* when the counting element held `reload` */
	uint64_t switch_at;   /* next_reload is loaded then */
	uint32_t reload;      /* 1 .. 65536, or 10000 in BCD */
	uint32_t next_reload; /* 0: none */
	uint32_t held;	      /* ticks counted when the gate went low */
	uint16_t latch;
	uint8_t mode, access, bcd, gate;
	uint8_t loaded;	    /* a count was written since the control word */
	uint8_t running;    /* counts: loaded, triggered where the mode wants it, not held */
	uint8_t switch_low; /* next_reload begins with the low half of mode 3 */
	uint8_t write_high, read_high; /* the next byte is the high one */
	uint8_t write_low;	       /* low byte that waits for its high one */
	uint8_t latched;	       /* bytes left in latch */
	uint8_t status_latched, status;
};

struct i8254_state {
	struct i8254_channel ch[3];
	uint64_t next_edge; /* of channel 0's output, UINT64_MAX: none */
	uint64_t extra_at;  /* a lost tick is made up for then */
	uint64_t fired_at;  /* last event */
	uint32_t owed;	    /* ticks that the guest could not see */
	uint8_t port61;	    /* bits 3:0 */
};

struct i8254 {
	struct i8254_state s;
	/* One rising edge of channel 0. 1: seen, 0: lost because one is pending, -1: masked. */
	int (*tick)(void *arg);
	void *arg;
};

extern const struct mobo_field i8254_fields[];
extern const unsigned i8254_n_fields;

void i8254_reset(struct i8254 *p, uint64_t now_ns);
/* Ports 0x40-0x43 and 0x61; bytes. */
uint8_t i8254_read(struct i8254 *p, uint16_t port, uint64_t now_ns);
void i8254_write(struct i8254 *p, uint16_t port, uint8_t val, uint64_t now_ns);
/* Output pin of a channel. */
bool i8254_out(struct i8254 *p, unsigned channel, uint64_t now_ns);

/* Next event in virtual ns; UINT64_MAX: none. */
uint64_t i8254_deadline(const struct i8254 *p);
void i8254_expire(struct i8254 *p, uint64_t now_ns);

#endif
