/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O channel, engine side, and the shared pages of a machine. The device side is inside
 * libbus/device. Layout: mobo/ioch.h.
 */
#ifndef MOBO_IO_H
#define MOBO_IO_H

#include <stdbool.h>
#include <stddef.h>

#include "mobo/ioch.h"

struct mobo_error;

/* -- Memory files (mobo-machine makes them, everyone maps them) -- */

/* A sealed (SHRINK|GROW|SEAL), zeroed memfd of `size` bytes; fd or -errno. name: for /proc maps. */
int mobo_memfd_create(const char *name, size_t size);
/* Maps a whole memfd shared after checking that it is sealed and at least `min` bytes. Returns
 * NULL with errno set; *size gets its size. */
void *mobo_memfd_map(int fd, size_t min, bool write, size_t *size);

/* Prepares a fresh channel memfd; size of one is sizeof(struct mobo_ioch). */
void mobo_ioch_init(struct mobo_ioch *ch);
/* 0, or -EPROTO when magic, major or size do not fit. */
int mobo_ioch_check(const struct mobo_ioch *ch, size_t size);

/* -- Guest RAM: one memfd, split around the hole below 4 GiB -- */
struct mobo_ram {
	uint8_t *base;
	uint64_t size;
	uint64_t low_len; /* gpa 0 .. low_len-1 is offset 0; the rest starts at gpa 4 GiB */
};
/* Host pointer to gpa with *len bytes contiguous from there (input: wanted), or NULL: not RAM. */
void *mobo_ram_ptr(const struct mobo_ram *ram, uint64_t gpa, uint64_t *len);
/* Offset in the memfd, or UINT64_MAX. */
uint64_t mobo_ram_offset(const struct mobo_ram *ram, uint64_t gpa);

/* -- Virtual clock -- */
uint64_t mobo_clock_now_ns(const struct mobo_machine_page *page);
bool mobo_clock_running(const struct mobo_machine_page *page);
/* The CLOCK_MONOTONIC time of a virtual one; UINT64_MAX while frozen. */
uint64_t mobo_clock_to_monotonic_ns(const struct mobo_machine_page *page, uint64_t virtual_ns);
/* mobo-machine only. */
void mobo_clock_start(struct mobo_machine_page *page);
void mobo_clock_stop(struct mobo_machine_page *page);

/* -- Kick: devices to vCPUs -- */
/* Sets summary bits and wakes one halted vCPU if all that run are... if any sleeps. Any process. */
void mobo_kick(struct mobo_machine_page *page, uint32_t summary_bits);
/* Wakes vCPU `cpu` if it sleeps in mobo_kick_wait(). */
void mobo_kick_vcpu(struct mobo_machine_page *page, unsigned cpu);
/*
 * Sleeps as halted vCPU `cpu` until mobo_kick*(), a signal, or the monotonic deadline. `ready` is
 * asked after the sleeper is counted, so that nothing set before the kick is missed.
 */
void mobo_kick_wait(struct mobo_machine_page *page, unsigned cpu, uint64_t deadline_mono_ns,
		    bool (*ready)(void *arg), void *arg);

/* -- Engine side of one channel -- */
struct mobo_io_engine {
	struct mobo_ioch *ch;
	int bell_fd;	 /* eventfd that wakes the device */
	unsigned n_cpus; /* host CPUs that may spin; 1: never spin */
	/* The vCPU may be asked to give up waiting (machine resets or stops): returns true then. */
	bool (*give_up)(void *arg, unsigned vcpu);
	void *give_up_arg;
	/* While it waits the vCPU must answer shoot-downs of others: called now and then. May be
	 * NULL. */
	void (*idle)(void *arg, unsigned vcpu);
	/* Virtual clock for the stamps in requests; NULL: the device takes the time itself. */
	const struct mobo_machine_page *page;
	uint32_t map_gen_seen[MOBO_IOCH_VCPUS]; /* private to mobo_io_*; zero it at the start */
};

/*
 * One synchronous access by vCPU `vcpu` (index below MOBO_IOCH_VCPUS), on its thread. Waiting rule
 * of BUS.md section 6: spin while the device runs on another CPU, else futex. Returns 0 with *data
 * (READ) or *count set, or -ECANCELED when given up, -EPIPE when the device is gone for good: reads
 * then count as all ones. After it *map_changed says whether map words must be read again.
 */
int mobo_io_sync(struct mobo_io_engine *io, unsigned vcpu, enum mobo_io_op op, uint32_t region,
		 uint64_t offset, unsigned size, uint64_t *data, bool *map_changed);
/* String access: count elements, at most MOBO_IOCH_BOUNCE bytes; *count gets the elements moved. */
int mobo_io_string(struct mobo_io_engine *io, unsigned vcpu, enum mobo_io_op op, uint32_t region,
		   uint64_t offset, unsigned size, void *buf, unsigned *count, bool *map_changed);
/* Queues a posted write; waits only while the ring is full. */
int mobo_io_post(struct mobo_io_engine *io, unsigned vcpu, uint32_t region, uint64_t offset,
		 unsigned size, uint64_t data);
/* Doorbell: stores the value (its low 32 bits), wakes the device if it sleeps. */
void mobo_io_bell(struct mobo_io_engine *io, uint32_t region, uint64_t value);

#endif
