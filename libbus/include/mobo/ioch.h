/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O channel: what lies in the shared memory between an engine and one device process, and in
 * the pages that a whole machine shares. Layout only; libbus/io has the two sides.
 *
 * One sealed memfd a device process. Everything of one direction is in one cache line, because a
 * line that changes hands costs 70 ns and everything else is small beside it. Trust: the engine
 * copies what the device wrote once, masks and bounds-checks it; a device can corrupt only its own
 * channel.
 *
 * Ordering (names of BUS.md section 6):
 *  O1 one vCPU's accesses to one device are executed in program order: a request carries
 *     posted_upto, and the device drains the posted ring up to there first.
 *  O2 posted writes of different vCPUs are executed in ticket order.
 *  O3 posted writes to different devices are unordered until a synchronous access.
 *  O5 device stores to RAM, shadow registers, map words, irq words, then rep.seq: an engine that
 * saw rep.seq sees all of them.
 */
#ifndef MOBO_IOCH_H
#define MOBO_IOCH_H

#include <stdatomic.h>
#include <stdint.h>

#define MOBO_IOCH_MAGIC 0x48434f49u /* "IOCH" */
enum {
	MOBO_IOCH_MAJOR = 1,
	MOBO_IOCH_MINOR = 0,
	MOBO_IOCH_VCPUS = 32, /* mailboxes in a channel */
	MOBO_IOCH_REGIONS = 64,
	MOBO_IOCH_POSTED = 1024, /* entries of the posted ring, a power of two */
	MOBO_IOCH_BOUNCE = 4096, /* bytes of string data a mailbox carries */
	MOBO_IOCH_SHADOW = 4096, /* bytes of shadow registers, all regions together */
	MOBO_IOCH_LINES = 64,	 /* interrupt lines and wires */
};

enum mobo_io_op {
	MOBO_IO_READ,
	MOBO_IO_WRITE,
	MOBO_IO_READ_STRING, /* count elements of size bytes into the bounce area */
	MOBO_IO_WRITE_STRING,
	MOBO_IO_PCI_CONFIG, /* a byte range that the function asked for was written; addr = offset
			     */
};

enum mobo_peer_state { MOBO_PEER_RUNNING, MOBO_PEER_SLEEPING, MOBO_PEER_GONE };

/* Written by the vCPU. seq last: it publishes the rest. */
struct mobo_io_req {
	uint64_t addr; /* offset in the region */
	uint64_t data;
	uint64_t vtime_ns;
	uint32_t region;
	uint32_t posted_upto;	  /* ring ticket: drain the entries before it first */
	uint32_t count;		  /* elements of a string access */
	uint16_t op;		  /* enum mobo_io_op */
	uint16_t size;		  /* bytes an element: 1, 2, 4, 8 */
	_Atomic uint32_t waiting; /* the vCPU sleeps on rep.seq, or is about to: wake it */
	uint32_t reserved[4];
	_Atomic uint32_t seq;
} __attribute__((aligned(128)));

/* Written by the device. A reply is complete when rep.seq == req.seq. */
struct mobo_io_rep {
	uint64_t data;
	uint32_t count;	  /* string elements moved */
	uint32_t map_gen; /* copy of map_gen: changed means re-read the map words */
	uint32_t reserved[11];
	_Atomic uint32_t seq; /* also the futex the vCPU sleeps on */
} __attribute__((aligned(128)));

struct mobo_io_posted {
	uint64_t data;
	uint32_t addr; /* offset in the region */
	uint16_t region;
	uint8_t size;
	uint8_t vcpu;
	uint64_t vtime_ns;
	uint32_t reserved;
	_Atomic uint32_t slot_seq; /* ticket + 1 when filled */
} __attribute__((aligned(32)));

/* A line that the device, or nobody but recovery, looks at: kept apart from the mailboxes. */
struct mobo_io_private {
	_Atomic uint32_t started_seq[MOBO_IOCH_VCPUS]; /* request begun: not executed again */
	_Atomic uint32_t posted_done;		       /* ring consumed up to this ticket */
};

/*
 * Interrupts out of the device: level is state, the others are taken (exchanged with 0). `fell`:
 * the line was lowered; if it is high when the engine looks, there was an edge between two looks.
 */
struct mobo_io_irq {
	_Atomic uint64_t level;
	_Atomic uint64_t pulse;
	_Atomic uint64_t msi[4];
	_Atomic uint64_t
		fell; /* set after the bit of `level` is cleared, taken before it is read */
} __attribute__((aligned(64)));

/*
 * Map word of a region with DIRECT memory: what the guest reaches there now.
 *   31 ... 12                                  1       0
 *   page offset into the direct memory         write   read
 * A clear read (write) bit sends reads (writes) to the region's hooks, or, for an overlay region,
 * to what lies below it.
 */
enum { MOBO_MAP_READ = 1 << 0, MOBO_MAP_WRITE = 1 << 1 };

struct mobo_ioch {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t size;
	uint32_t features;
	/* Engine side writes. */
	_Atomic uint32_t engine_epoch;
	_Atomic uint32_t bus_master; /* bit per PCI function: DMA allowed */
	_Atomic uint32_t
		engine_pid; /* 0: unknown; a device whose supervisor is gone stays for it */
	uint32_t pad0[9];
	/* Device side writes. */
	struct {
		_Atomic uint32_t state; /* enum mobo_peer_state */
		_Atomic uint32_t cpu;	/* CPU it last ran on */
		_Atomic uint32_t epoch; /* 1 at first start, +1 at each restart */
		_Atomic uint32_t map_gen;
		uint32_t pad[12];
	} dev __attribute__((aligned(128)));
	struct mobo_io_irq irq __attribute__((aligned(128)));
	_Atomic uint32_t map[MOBO_IOCH_REGIONS] __attribute__((aligned(128)));
	struct mobo_io_private priv __attribute__((aligned(128)));
	_Atomic uint32_t posted_ticket __attribute__((aligned(128))); /* next free: vCPUs add */
	_Atomic uint32_t posted_seen; /* the vCPUs' copy of posted_done, to leave its line alone */
	_Atomic uint32_t bell[MOBO_IOCH_REGIONS] __attribute__((aligned(128))); /* DOORBELL seq */
	uint32_t bell_value[MOBO_IOCH_REGIONS];
	struct mobo_io_req req[MOBO_IOCH_VCPUS];
	struct mobo_io_rep rep[MOBO_IOCH_VCPUS];
	struct mobo_io_posted posted[MOBO_IOCH_POSTED];
	uint8_t shadow[MOBO_IOCH_SHADOW];
	uint8_t bounce[MOBO_IOCH_VCPUS][MOBO_IOCH_BOUNCE];
};

/*
 * The machine page: one per machine, mapped by every process of it; devices may write `kick` only
 * by convention (abuse: a spurious scan or a late wake-up of its own machine).
 */
struct mobo_machine_page {
	/* Virtual clock, written by mobo-machine under `seq` (odd: being written). */
	struct {
		_Atomic uint32_t seq;
		uint32_t running;
		int64_t offset_ns;  /* running: virtual = CLOCK_MONOTONIC + offset_ns */
		uint64_t frozen_ns; /* not running: virtual = frozen_ns */
	} clock __attribute__((aligned(64)));
	struct {
		_Atomic uint32_t summary; /* bit per device slot: its irq words changed */
		_Atomic uint32_t halted;  /* vCPUs that sleep on `futex` */
		_Atomic uint32_t futex;	  /* +1 and wake when halted is not 0 */
		uint32_t n_cpus;	  /* written by the engine, before anyone kicks */
	} kick __attribute__((aligned(64)));
	/* On hosts of two CPUs one device at a time polls between requests: it holds this word
	 * until the monotonic time in it. A hint, never needed for correctness. */
	_Atomic uint64_t poller_until_ns __attribute__((aligned(64)));
	/* What a running vCPU looks at: set after `summary`, cleared before it is read. */
	struct {
		_Atomic uint32_t look;
	} __attribute__((aligned(64))) cpu[MOBO_IOCH_VCPUS];
};
enum {
	MOBO_KICK_DMA_CODE = 31, /* summary bit: some code-map dirty bit was set */
	MOBO_KICK_SLOTS = 31,	 /* devices beyond share the last slot */
};
/* Futex bitset: bit v wakes vCPU v; devices wake any one halted vCPU through this bit. */
#define MOBO_KICK_ANY 0x80000000u

/*
 * The head of a device's journal: the memfd in which the state of its chip lives, so that it
 * outlives the process. The chip's state struct follows at MOBO_STATE_OFFSET.
 */
#define MOBO_STATE_MAGIC 0x5453424du /* "MBST" */
enum { MOBO_STATE_OFFSET = 64 };
struct mobo_state_journal {
	uint32_t magic;
	uint16_t version;	/* state_version of the class */
	uint16_t offset;	/* MOBO_STATE_OFFSET */
	uint32_t size;		/* of the state struct */
	_Atomic uint32_t epoch; /* processes that had it */
	char chip[24];
	uint32_t reserved[6];
};

/*
 * The code map: which pages of RAM hold code that a vCPU has decoded, and which of those a device
 * wrote since. Bit per 4 KiB page of the RAM memfd. A device stores data, then tests `code`, and if
 * set sets `dirty` and kicks; an engine sets `code`, then reads the bytes: one of them sees the
 * other. Layout: n_pages, then code[], then dirty[], each (n_pages + 63) / 64 words.
 */
struct mobo_code_map {
	uint64_t n_pages;
	uint64_t reserved[7];
	_Atomic uint64_t bits[];
};

static inline _Atomic uint64_t *mobo_code_map_dirty(struct mobo_code_map *m)
{
	return m->bits + (m->n_pages + 63) / 64;
}

#endif
