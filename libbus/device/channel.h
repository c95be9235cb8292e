/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of an I/O channel: takes posted writes, requests and doorbells in their order,
 * answers, and decides when to poll and when to sleep. Knows nothing of chips: the accesses go to
 * callbacks. One thread. Nothing that the engine's side writes can crash it: indices are bounded,
 * and the callbacks bound regions and offsets themselves.
 */
#ifndef LIBBUS_DEVICE_CHANNEL_H
#define LIBBUS_DEVICE_CHANNEL_H

#include <stdbool.h>

#include "mobo/ioch.h"

struct mobo_channel_ops {
	/* vtime_ns: of the access, 0: now. Any region and offset; size is 1, 2, 4 or 8. */
	uint64_t (*read)(void *arg, uint32_t region, uint64_t offset, unsigned size,
			 uint64_t vtime_ns);
	void (*write)(void *arg, uint32_t region, uint64_t offset, unsigned size, uint64_t val,
		      uint64_t vtime_ns);
	/* buf is the channel's bounce area: it may change at any time. Elements moved, 1..count. */
	unsigned (*read_string)(void *arg, uint32_t region, uint64_t offset, unsigned size,
				void *buf, unsigned count, uint64_t vtime_ns);
	unsigned (*write_string)(void *arg, uint32_t region, uint64_t offset, unsigned size,
				 const void *buf, unsigned count, uint64_t vtime_ns);
	void (*pci_config)(void *arg, uint32_t fn, uint64_t offset, unsigned len, uint64_t val);
	void (*doorbell)(void *arg, uint32_t region, uint64_t val);
};

struct mobo_channel_stats {
	uint64_t sync, posted, bells;
	uint64_t sleeps; /* times it went to sleep */
	uint64_t polled; /* work that came while polling */
};

struct mobo_channel {
	struct mobo_ioch *ch;
	struct mobo_machine_page *page; /* for the poller's word; NULL: poll without asking */
	const struct mobo_channel_ops *ops;
	void *arg;
	unsigned n_vcpus;
	unsigned n_cpus; /* of the host; 1: never poll */
	uint64_t bells;	 /* regions that have doorbells */
	struct mobo_channel_stats stats;
	/* Private. */
	bool serving; /* a callback runs, and the event loop in it: its turns serve nothing */
	uint32_t answered[MOBO_IOCH_VCPUS];
	uint32_t posted_done;
	uint32_t bell_seen[MOBO_IOCH_REGIONS];
	uint64_t gap_ns;	/* mean time between the end of work and new work */
	uint64_t idle_since_ns; /* 0: at work */
};

/*
 * Fill ch, page, ops, arg, n_vcpus, n_cpus, bells; zero the rest; then this. A channel that had a
 * device process before is taken over: what that one had begun and not answered is answered as all
 * ones, what it had not begun is served now. 0 or -EPROTO.
 */
int mobo_channel_open(struct mobo_channel *c, size_t size);
/* Says RUNNING: to be called when the thread wakes, before anything else. */
void mobo_channel_awake(struct mobo_channel *c);
/*
 * Serves all there is and polls while that pays. True: there is more, call again soon (after a
 * millisecond, so that timers and files have their turn); false: the engine will ring the bell,
 * sleep.
 */
bool mobo_channel_run(struct mobo_channel *c);
/* Serves what is there now, without polling; true when there was something. */
bool mobo_channel_serve(struct mobo_channel *c);
/* No accesses are expected any more (the machine stops): the engine need not wait for answers. */
void mobo_channel_close(struct mobo_channel *c);

#endif
