/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A board with an engine that only counts, and devices whose channels the test itself serves: by
 * hand, or by a thread (rig_serve()) where an access waits for an answer.
 */
#ifndef TESTS_UNIT_BOARD_RIG_H
#define TESTS_UNIT_BOARD_RIG_H

#include "exits/board_internal.h"
#include "mobo/v1/device.pb-c.h"

enum { RIG_RAM = 4 << 20, RIG_ROM = 256 << 10, RIG_DEVICES = 4 };

struct rig_device {
	struct mobo_ioch *ch;
	int ioch_fd, bell_fd, mem_fd;
	uint8_t *mem;
	size_t mem_len;
	/* With rig_serve(): answers a request; returns what a read reads. */
	uint64_t (*handler)(struct rig_device *d, const struct mobo_io_req *req, uint8_t *bounce);
	void *arg;
	pthread_t thread;
	_Atomic bool stop;
	bool served;
	uint32_t posted_done;
};

struct rig {
	struct board *b;
	struct mobo_machine_page *page;
	struct mobo_code_map *codemap;
	uint8_t *ram, *rom;
	struct rig_device dev[RIG_DEVICES];
	unsigned n_devices;
};

/* What the engine was asked, a vCPU. */
struct rig_engine_log {
	_Atomic unsigned n_map_changed, n_code_written, n_protected, n_resets, n_inits;
	_Atomic uint64_t last_written, last_protected;
};
extern struct rig_engine_log rig_log[BOARD_CPUS];
/* One call of the engine's run(); NULL: MOBO_EXIT_HALT. */
extern enum mobo_exit (*rig_run)(struct vcpu *v);

void rig_start(struct rig *r, unsigned n_cpus);
void rig_finish(struct rig *r);
/* Where the test's thread plays both a vCPU and the process: nobody waits for the vCPUs now. */
void rig_outside(struct rig *r);
/* Attaches a device with these claims and `mem` bytes of its own; 0 or -errno. */
int rig_attach(struct rig *r, Mobo__V1__Attach *claims, size_t mem, struct mobo_error *err);
/* Starts a thread that plays the last attached device. */
void rig_serve(struct rig *r,
	       uint64_t (*handler)(struct rig_device *d, const struct mobo_io_req *req,
				   uint8_t *bounce),
	       void *arg);
/* Moves virtual time, which otherwise stands. */
void rig_set_time(struct rig *r, uint64_t ns);

/* Claims: arrays with their storage. */
struct rig_claims {
	Mobo__V1__Attach attach;
	Mobo__V1__Region region[16], *regions[16];
	Mobo__V1__AttrRange attr[16], *attrs[16];
	Mobo__V1__Line line[16], *lines[16];
	Mobo__V1__PciFunction function[4], *functions[4];
	Mobo__V1__PciConfig config[16], *configs[16];
};
void claims_init(struct rig_claims *c);
Mobo__V1__Region *claims_region(struct rig_claims *c, Mobo__V1__RegionKind kind, uint64_t base,
				uint64_t len, Mobo__V1__RegionAttr attr);
void claims_line(struct rig_claims *c, Mobo__V1__LineKind kind, unsigned n);
Mobo__V1__PciFunction *claims_function(struct rig_claims *c, unsigned device, unsigned fn,
				       unsigned vendor, unsigned id);
void claims_config(struct rig_claims *c, unsigned offset, unsigned len, uint32_t reset,
		   uint32_t mask, bool notify);

/* Configuration mechanism #1. */
uint32_t rig_pci_read(struct rig *r, unsigned devfn, unsigned offset, unsigned size);
void rig_pci_write(struct rig *r, unsigned devfn, unsigned offset, unsigned size, uint32_t val);

#endif
