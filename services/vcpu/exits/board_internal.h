/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board's own state, for the files of exits/ alone. What stands behind board.h:
 *
 *   access.c   a port or address to the region that answers it, by its attribute
 *   map.c      regions to the flat map that lookups read
 *   pci.c      configuration space, BARs, INTx, MSI
 *   lines.c    interrupt wires of devices to the chips of irq/, the chips' wires to CPUs
 *   time.c     TSC, chip timers, deadlines; clock.c KVM's clock
 *   sync.c     telling other vCPUs of changed maps and code; code.c the pages that hold code
 *   attach.c   a device's claims to regions, lines and functions
 *   thread.c   vCPU threads; main.c the process
 *
 * Locks, in the order in which they may nest: park, map, pci, irq; clock behind park, around none.
 * None is held while a device is asked or another vCPU waited for, but for `map`, whose waiters
 * count as outside (sync.c).
 */
#ifndef VCPU_EXITS_BOARD_INTERNAL_H
#define VCPU_EXITS_BOARD_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "engine.h"
#include "exits/board.h"
#include "irq/hpet.h"
#include "irq/i8254.h"
#include "irq/i8259.h"
#include "irq/ioapic.h"
#include "irq/lapic.h"
#include "mobo/base.h"
#include "mobo/device.h"
#include "mobo/io.h"

enum {
	BOARD_CPUS = MOBO_IOCH_VCPUS,
	BOARD_DEVICES = 64,
	BOARD_FUNCTIONS = 8, /* PCI functions of one device process */
	BOARD_ATTRS = 16,
	BOARD_OWN_REGIONS = 16,
	PCI_DEVFNS = 256,
	PCI_BARS = 7, /* 6: expansion ROM */
};

struct device;

struct attr_range {
	uint64_t offset, len;
	enum mobo_attr attr;
};

enum direct { DIRECT_NONE, DIRECT_GUEST_RAM, DIRECT_MEM, DIRECT_ROM };

/* A range of ports or memory. Only base and decoded change while it is visible, under `map`. */
struct region {
	char name[32];
	struct device *dev; /* NULL: the board's own */
	unsigned index;	    /* in the device's claims */
	enum mobo_region_kind kind;
	uint64_t base, len;
	bool decoded;
	bool disabled; /* as claimed */
	uint8_t fn, bar, priority;
	enum direct direct;
	bool overlay, string_ops;
	uint32_t shadow_offset;
	unsigned n_attrs;
	struct attr_range attrs[BOARD_ATTRS];
	/* The board's own: accesses, or the host memory of RAM and ROM. */
	uint64_t (*read)(struct vcpu *v, uint64_t offset, unsigned size);
	void (*write)(struct vcpu *v, uint64_t offset, unsigned size, uint64_t val);
	uint8_t *host;
};

struct pci_function {
	struct device *dev;
	unsigned n; /* index in the device's claims */
	uint8_t device, function;
	uint8_t cfg[256], reset[256], mask[256], w1c[256];
	bool notify[256];
	struct region *bar[PCI_BARS];
	uint64_t bar_len[PCI_BARS]; /* rounded up to a power of two */
	uint8_t pirq_offset;
	unsigned intx;	 /* lines asserted */
	bool intx_shown; /* after the command register's disable bit */
};

struct device {
	struct board *board;
	struct device *next; /* among the gone */
	char name[32];
	unsigned slot;
	struct mobo_io_engine io;
	uint8_t *mem; /* the chip's memory object, or NULL */
	size_t mem_len;
	_Atomic uint64_t *mem_code; /* bit per page of mem: holds decoded code */
	unsigned n_regions;
	struct region *regions;
	unsigned n_lines;
	struct mobo_line lines[MOBO_IOCH_LINES];
	uint64_t level;			       /* lines as last taken in */
	uint32_t map_words[MOBO_IOCH_REGIONS]; /* as in the current map; under `map` */
	uint32_t map_gen;
	unsigned n_functions;
	struct pci_function fn[BOARD_FUNCTIONS];
};

struct io_range {
	uint64_t base, len;
	struct region *r;
};

/* What guest addresses mean now. Immutable; replaced as a whole. */
struct map {
	unsigned n_runs;
	struct mem_run *runs; /* ascending, without gaps, over the whole address space */
	unsigned n_mem, n_pio;
	struct io_range *mem, *pio; /* highest priority first */
	uint16_t port[65536];	    /* index + 1 in pio, 0: unclaimed */
};

/* Work for a vCPU that another thread asked for. */
enum sync_kind { SYNC_MAP, SYNC_CODE_WRITTEN, SYNC_CODE_PROTECT };
enum { SYNC_QUEUE = 64 };
struct sync_work {
	enum sync_kind kind;
	uint64_t gpa, len;
};

/* Exits by cause, counted by the vCPU. */
enum exit_cause {
	EXIT_PIO,
	EXIT_MMIO,
	EXIT_PCI,
	EXIT_APIC,
	EXIT_HALT,
	EXIT_IRQ,
	EXIT_TIMER,
	EXIT_SYNC,
	N_EXIT_CAUSES
};

enum cpu_step {
	STEP_NO,
	STEP_ALONE, /* now, while all others stay parked */
	STEP_RUN,   /* as soon as all run */
};

struct cpu {
	struct vcpu *v;
	struct board *board;
	struct lapic lapic;
	_Atomic uint8_t sipi_vector;
	/* Cannot look at the map, RAM or traces now; runs its queue before it does again. */
	_Atomic uint32_t outside;
	pthread_mutex_t sync_lock; /* protects the next four */
	struct sync_work work[SYNC_QUEUE];
	unsigned n_work;
	bool work_all; /* too much, or the map: drop everything */
	uint32_t sync_want;
	_Atomic uint32_t sync_done;
	/* Thread */
	pthread_t thread;
	bool started, parked; /* under park_lock */
	bool in_access;	      /* parked in an access that waits for a device; under park_lock */
	enum cpu_step step;   /* wanted of a parked one; under park_lock */
	int start_result;
	uint32_t sleep_mask;	   /* requests that end a sleep */
	uint64_t waiting_since_ns; /* for the device of the access under way; 0: not */
	bool has_timer;
	timer_t timer;
	_Atomic uint64_t armed_mono_ns; /* 0: not armed */
	_Atomic uint64_t exits[N_EXIT_CAUSES];
	struct {
		uint64_t system_time, tsc_offset; /* copies of the vCPU's, under clock.lock */
	} clock;
};

/* ns = (ticks << shift) * mul / 2^32; a negative shift goes right. */
struct clock_scale {
	uint32_t mul;
	int8_t shift;
};

struct board {
	const struct mobo_engine_ops *ops;
	struct mobo_machine_page *page;
	struct mobo_ram ram;
	struct mobo_code_map *codemap;
	uint8_t *rom;
	size_t rom_len;
	bool paravirt;
	bool verify; /* see mobo_engine_ops.check */
	uint32_t chaos;
	unsigned n_cpus, host_cpus;
	struct cpu cpu[BOARD_CPUS];
	struct apic_bus apics;

	/* Map. */
	pthread_mutex_t map_lock;
	struct map *_Atomic map;
	unsigned n_own;
	struct region own[BOARD_OWN_REGIONS];
	struct region *hidden_ram; /* 0xa0000-0xfffff, where no chip switches it */
	struct region *pmtimer;
	struct device *_Atomic device[BOARD_DEVICES];
	struct device *gone; /* detached: a vCPU may still be leaving it */
	_Atomic bool a20_open;

	/* PCI. */
	pthread_mutex_t pci_lock;
	_Atomic uint32_t pci_address;
	struct pci_function *function[PCI_DEVFNS];

	/* Interrupts and timers. */
	pthread_mutex_t irq_lock;
	struct i8259 pic;
	struct ioapic ioapic;
	struct i8254 pit;
	struct hpet hpet;
	unsigned isa_count[16], gsi_count[IOAPIC_PINS], pirq_count[4], nmi_count;
	bool isa_level[16];
	uint8_t pirq_route[4];	   /* ISA IRQ, 0x80: none */
	unsigned n_a20, a20_count; /* A20 wires, those high */
	bool hpet_legacy, ferr;
	_Atomic bool intr; /* the 8259 pair's output */
	_Atomic uint64_t chip_deadline_ns;

	/* Code pages. */
	_Atomic uint64_t *code_lines; /* per page of RAM, 64 bytes a bit; mapped, zero until used */
	pthread_mutex_t code_lock;
	_Atomic uint32_t code_busy; /* someone holds or wants code_lock to add or drop a page */
	_Atomic uint8_t code_heat[4096]; /* stores into code pages, by hash */

	/* TSC. */
	_Atomic uint64_t tsc_offset;
	uint64_t tsc_frozen, tsc_frozen_ns; /* not running: TSC and virtual time of one moment */
	uint64_t tsc_hz;
	_Atomic bool tsc_running;
	struct {
		pthread_mutex_t lock;
		struct clock_scale scale;
		uint64_t origin_tsc, origin_ns; /* change only while not running */
	} clock;

	/* Parking. */
	pthread_mutex_t park_lock;
	pthread_cond_t park_cond;
	bool paused; /* under park_lock */
	unsigned n_parked, n_threads;

	/* To the process. */
	void (*notify)(void *arg); /* something below changed; any thread, must not block */
	void *notify_arg;
	_Atomic uint32_t triple_faults; /* bit per vCPU */
	_Atomic uint32_t debug_untold;	/* of those, what notify() is for */
	_Atomic uint32_t debug_stops; /* bit per vCPU: stopped for a debugger since the last run */
	_Atomic uint64_t unclaimed, unclaimed_reported_ns;
	_Atomic uint64_t unclaimed_last; /* address | size << 48 | mmio << 56 | write << 57 */
};

struct board_options {
	unsigned n_cpus;
	const struct mobo_engine_ops *ops;
	struct mobo_machine_page *page;
	struct mobo_ram ram;
	struct mobo_code_map *codemap;
	uint8_t *rom;
	size_t rom_len;
	bool verify; /* see mobo_engine_ops.check */
	uint32_t chaos;
	bool paravirt; /* the guest sees that it is one, as under KVM */
};

static inline struct cpu *cpu_of(struct vcpu *v)
{
	return &v->board->cpu[v->index];
}

static inline uint64_t board_now_ns(struct board *b)
{
	return mobo_clock_now_ns(b->page);
}

static inline void cpu_count(struct cpu *c, enum exit_cause cause)
{
	/* Written by one thread: no locked instruction. */
	atomic_store_explicit(&c->exits[cause],
			      atomic_load_explicit(&c->exits[cause], memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* -- board.c -- */
/* vCPUs are made here, their threads not yet. 0 or -errno. */
int board_create(struct board **ret, const struct board_options *opt);
void board_destroy(struct board *b);
/* Power-on state of everything but the CPUs; their threads are parked or not there. */
void board_reset_chips(struct board *b);
/* Requests bits of a vCPU and makes it look. Any thread. */
void cpu_signal(struct cpu *c, uint32_t bits);
/* The cpu that this thread runs, or NULL. */
struct cpu *cpu_current(void);
void cpu_set_current(struct cpu *c);

/* -- map.c -- */
struct region *board_own_region(struct board *b, const char *name, enum mobo_region_kind kind,
				uint64_t base, uint64_t len, unsigned priority);
void map_free(struct map *m);
/* Builds the map anew and tells all vCPUs. self: calling vCPU, or NULL. */
void board_map_update(struct board *b, struct vcpu *self);
/* As above if the device changed its map words. */
void board_map_words(struct device *d, struct vcpu *self);
/* MAP_READ or MAP_WRITE memory of a region at gpa, or NULL; *below: look further down. */
uint8_t *region_host(const struct region *r, uint64_t gpa, uint64_t len, bool write, bool *below);
/* Claims that may be shown: 0 or -EINVAL, with the reason in err. */
int region_check(const struct region *r, struct mobo_error *err);

/* -- access.c -- */
uint64_t region_read(struct vcpu *v, struct region *r, uint64_t offset, unsigned size);
void region_write(struct vcpu *v, struct region *r, uint64_t offset, unsigned size, uint64_t val);
/* After a device answered: map words, irq words. */
void device_settle(struct vcpu *v, struct device *d, bool map_changed);
/* Before a wait for a device; cpu_enter() ends it. */
void cpu_wait_begin(struct cpu *c);
/* Outside and in again: sync.c. */
void cpu_leave(struct cpu *c);
void cpu_enter(struct cpu *c);

/* -- pci.c -- */
uint32_t pci_io_read(struct vcpu *v, uint16_t port, unsigned size);
void pci_io_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val);
/* Takes the device's functions in. 0 or -errno. */
int pci_attach(struct board *b, struct device *d, struct mobo_error *err);
void pci_detach(struct board *b, struct device *d);
void pci_reset(struct board *b);
/* Bases of BAR regions from configuration space; true when something moved. Under `map`. */
bool pci_place_regions(struct board *b);
/* INTx of a function; under `irq`. */
void pci_set_intx(struct board *b, struct pci_function *f, bool level);
void pci_msi(struct board *b, struct device *d, unsigned vector);

/* -- lines.c -- */
/* Takes in what devices signalled. vCPU thread, self may be NULL. */
void board_collect(struct board *b, struct vcpu *self);
void board_collect_device(struct board *b, struct device *d, struct vcpu *self);
/* Lowers what the device holds. */
void board_release_lines(struct board *b, struct device *d);
/* These under `irq`. */
void board_isa_update(struct board *b, unsigned irq);
void board_intr_update(struct board *b);
void board_chips_init(struct board *b);	  /* callbacks of the chips of irq/ */
uint64_t board_irq_lock(struct board *b); /* returns virtual time */
void board_irq_unlock(struct board *b);	  /* brings outputs and deadlines up to date */

/* -- time.c -- */
void board_time_init(struct board *b);
void board_tsc_start(struct board *b);
void board_tsc_stop(struct board *b);
uint64_t board_guest_tsc(struct vcpu *v);
/* Next deadline of what this vCPU's thread serves. */
uint64_t cpu_deadline_ns(struct cpu *c);
/* Makes sure that REQ_TIMER is set by then. Own thread. */
void cpu_arm(struct cpu *c);
/* Serves what is due. Own thread. */
void cpu_timers(struct cpu *c);

/* -- clock.c -- */
void board_clock_init(struct board *b);
/* All vCPUs are parked and about to run: writes their pages. */
void board_clock_started(struct board *b);
void clock_scale_init(struct clock_scale *s, uint64_t hz);
uint64_t clock_scale(const struct clock_scale *s, uint64_t ticks);

/* -- sync.c -- */
/* Queues the work on every vCPU but self and waits until none can see the old state. */
void board_sync(struct board *b, struct vcpu *self, enum sync_kind kind, uint64_t gpa,
		uint64_t len);
/* Does what others queued. Own thread. */
void cpu_sync_run(struct cpu *c);
/* Locks a mutex that may be held during board_sync(). */
void board_lock_sync(struct vcpu *self, pthread_mutex_t *m);

/* -- code.c -- */
int board_code_init(struct board *b); /* 0 or -ENOMEM */
void board_code_finish(struct board *b);
void board_dma_code(struct board *b, struct vcpu *self);

/* -- attach.c -- */
struct Mobo__V1__Attach;
/* Shows a device to the guest. fds are taken on success and failure alike; mem may be -1. */
int board_attach(struct board *b, unsigned slot, const char *name,
		 const struct Mobo__V1__Attach *claims, int ioch_fd, int bell_fd, int mem_fd,
		 struct mobo_error *err);
int board_detach(struct board *b, unsigned slot);
void board_finish_devices(struct board *b);

/* -- thread.c -- */
int board_start_threads(struct board *b);
void board_stop_threads(struct board *b);
void board_run(struct board *b);
void board_pause(struct board *b); /* see board_parked() */
bool board_parked(struct board *b);
/* Power-on reset of everything; all vCPUs parked. */
void board_reset(struct board *b);
/* Runs fn(v, arg) on vCPU n's thread at its next stop and waits. -EINVAL: no such vCPU. */
int board_on_cpu(struct board *b, unsigned n, void (*fn)(struct vcpu *v, void *arg), void *arg);
/*
 * Lets vCPU n of a parked machine run one instruction. `now`: it alone, while the clock stands; a
 * bit of debug_stops and board_parked() say that it has. Else as soon as the machine runs, which
 * stops then. -EINVAL: no such vCPU; -EBUSY: the vCPUs run; -EAGAIN: it cannot now, being within an
 * access or, with `now`, halted.
 */
int board_step(struct board *b, unsigned n, bool now);
/* Runs the vCPU's loop until REQ_STOP: the thread's body. */
void cpu_loop(struct cpu *c);
/* Called while an access waits: parks when asked; true: give the access up. */
bool cpu_give_up(void *arg, unsigned vcpu);

#endif
