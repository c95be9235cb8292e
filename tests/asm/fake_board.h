/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands behind exits/board.h in tests of the CPU: RAM from guest-physical 0, an optional ROM
 * run, ports and MMIO by callbacks, one pending interrupt vector, a counter for the TSC. One
 * thread, any number of vCPUs.
 */
#ifndef TESTS_ASM_FAKE_BOARD_H
#define TESTS_ASM_FAKE_BOARD_H

#include "engine.h"
#include "exits/board.h"

enum { FAKE_BOARD_VCPUS = 4 };

struct board {
	uint8_t *ram;
	uint64_t ram_size;
	uint8_t *rom; /* NULL: none. The caller's own memory. */
	uint64_t rom_gpa, rom_size;
	bool a20_closed;

	/* NULL: reads are all ones, writes are lost. The string forms call these per element. */
	uint32_t (*pio_read)(struct board *b, uint16_t port, unsigned size);
	void (*pio_write)(struct board *b, uint16_t port, unsigned size, uint32_t val);
	uint64_t (*mmio_read)(struct board *b, uint64_t gpa, unsigned size);
	void (*mmio_write)(struct board *b, uint64_t gpa, unsigned size, uint64_t val);
	void *arg; /* the test's own */

	int irq; /* vector waiting for board_irq_ack(), or -1; raise with fake_board_raise() */
	unsigned n_acks;
	uint8_t cr8;
	uint64_t tsc;  /* grows by one per reading */
	bool host_tsc; /* ... or is the host's plus `tsc` */
	uint64_t clock_ns;
	bool forgets_code; /* with a store to a page with code */
	uint32_t last_icr; /* of board_send_ipi() */
	unsigned n_clock_changes;
	uint64_t wall_gpa, pair_gpa; /* as last asked for; pairs are had in RAM alone */

	uint8_t *code;		/* per RAM page: decoded instructions were taken from it */
	unsigned n_code_writes; /* board_code_written() calls */
	_Atomic uint32_t summary;
	struct vcpu *vcpu[FAKE_BOARD_VCPUS];
	unsigned n_vcpus;
};

/* What runs the vCPUs that are added from now on; at first the interpreter. */
extern const struct mobo_engine_ops *fake_board_engine;

/* 0 or -errno. ram_size is rounded up to a page; the RAM is zero. */
int fake_board_init(struct board *b, uint64_t ram_size);
/* Frees the vCPUs as well. */
void fake_board_finish(struct board *b);
/* A vCPU on this board after vcpu_init() and power-on reset, owned by the board; NULL: no memory.
 */
struct vcpu *fake_board_add_vcpu(struct board *b);
void fake_board_raise(struct vcpu *v, int vector);

#endif
