/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel with a small device on it, as a thread or as a process that can be killed. What the
 * device sees goes to `seen`, in shared memory, so that it outlives a killed process.
 */
#ifndef TESTS_DEVICE_IOCH_RIG_H
#define TESTS_DEVICE_IOCH_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "channel.h"
#include "mobo/io.h"

enum {
	RIG_CELLS = 0,	 /* region of 8-byte cells that read back */
	RIG_LOG = 1,	 /* writes are checked to come in rising order, over all vCPUs */
	RIG_IRQ = 2,	 /* a read stores to RAM and raises a line before it answers */
	RIG_FRAGILE = 3, /* the process dies in some writes, by itself */
	RIG_STRING = 4,	 /* moves at most 100 elements a request */
	RIG_BELL = 5,
	RIG_REGIONS = 6,
	RIG_VCPUS = 4,
	RIG_N_CELLS = 64,
};

struct rig_seen {
	_Atomic uint64_t cell[RIG_N_CELLS];
	_Atomic uint64_t log_last, log_count, log_disorder;
	_Atomic uint64_t fragile_last[RIG_VCPUS], fragile_twice;
	_Atomic uint64_t ram; /* stands for guest RAM */
	_Atomic uint64_t bells, bell_value;
	_Atomic uint64_t sleeps;
	_Atomic uint32_t
		die_after; /* RIG_FRAGILE writes until the process kills itself; 0: never */
	_Atomic bool stop;
};

struct rig {
	struct mobo_ioch *ch;
	struct rig_seen *seen;
	int bell_fd;
	unsigned n_cpus; /* told to both sides */
	struct mobo_io_engine io;
	struct mobo_channel channel;
	pthread_t thread;
	pid_t pid;
	_Atomic bool give_up;
};

void rig_init(struct rig *r, unsigned n_cpus);
void rig_finish(struct rig *r);
void rig_start_thread(struct rig *r);
void rig_stop_thread(struct rig *r);
void rig_start_process(struct rig *r);
void rig_kill_process(struct rig *r); /* SIGKILL, and waits for its end */
/* Opens the channel for tests that call mobo_channel_serve() themselves. */
void rig_open(struct rig *r);

#endif
