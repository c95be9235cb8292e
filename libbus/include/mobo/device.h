/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chip interface: the only header a chip includes besides its own and the C library's.
 *
 * A chip is data: registers, saved fields, claims, and a few hooks; libbus turns it into a process
 * (MOBO_CHIP_MAIN) or, in a unit test, into an object on a fake board with a stepped clock. A chip
 * reaches the world only through the mobo_dev_*() functions below. One thread calls all hooks of a
 * chip, one after the other.
 *
 * Guest misbehaviour is not an error: do what the chip would do, mobo_dev_guest_error() counts and
 * logs it once.
 */
#ifndef MOBO_DEVICE_H
#define MOBO_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mobo_dev; /* one instance of a chip, as libbus holds it */
struct mobo_reg;

/* How an access to a register or region travels (BUS.md section 5). */
enum mobo_attr {
	MOBO_SYNC,     /* round trip; default */
	MOBO_POSTED,   /* writes queue up, the vCPU continues; reads are SYNC */
	MOBO_DOORBELL, /* writes wake the device, the vCPU continues; only the last value counts */
	MOBO_SHADOW,   /* reads come from the shadow bytes (mobo_dev_shadow), writes are SYNC */
	MOBO_CONST,    /* reads come from the shadow bytes, writes are ignored */
};

enum mobo_region_kind {
	MOBO_REGION_PIO,    /* ports base..base+len-1 */
	MOBO_REGION_MMIO,   /* guest-physical */
	MOBO_REGION_BAR_IO, /* PCI base address register `bar` of function `fn` */
	MOBO_REGION_BAR_MEM,
	MOBO_REGION_BAR_PREFETCH,
	MOBO_REGION_ROM_BAR, /* expansion ROM */
};

typedef uint64_t mobo_region_read(struct mobo_dev *d, unsigned region, uint64_t offset,
				  unsigned size);
typedef void mobo_region_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			       uint64_t val);
/* String forms: count elements of size bytes; return the elements moved (at least 1). */
typedef unsigned mobo_region_read_string(struct mobo_dev *d, unsigned region, uint64_t offset,
					 unsigned size, void *buf, unsigned count);
typedef unsigned mobo_region_write_string(struct mobo_dev *d, unsigned region, uint64_t offset,
					  unsigned size, const void *buf, unsigned count);

/*
 * A range of ports or memory that the chip claims. Accesses go to the register table first; what
 * no register covers goes to the hooks; without hooks it reads as all ones. Accesses wider than a
 * register are split, narrower ones are given their part (see struct mobo_reg).
 */
struct mobo_region {
	const char *name;
	enum mobo_region_kind kind;
	uint64_t base, len;
	enum mobo_attr attr;
	uint8_t fn; /* index into the chip's PCI functions, for BAR kinds */
	uint8_t bar;
	uint8_t priority; /* of overlapping ranges the higher wins; RAM is 0, chips 1 and up */
	/*
	 * DIRECT memory: "ram" (guest RAM at the same address), "mem" (the chip's memory object),
	 * or NULL. What is reachable now is in the map word: mobo_dev_map(). overlay: where the map
	 * word lets nothing through, what lies below is reached instead of the hooks.
	 */
	const char *direct;
	bool overlay;
	bool disabled; /* start without decoding; see mobo_dev_region_enable() */
	mobo_region_read *read;
	mobo_region_write *write;
	mobo_region_read_string *read_string; /* NULL: element by element */
	mobo_region_write_string *write_string;
};

/* Interrupt lines and other wires out of the chip. */
enum mobo_line_kind {
	MOBO_LINE_ISA,	/* n: IRQ 0-15, into the 8259s and the I/O APIC */
	MOBO_LINE_GSI,	/* n: I/O APIC input */
	MOBO_LINE_INTX, /* n: PCI function index; pin from its config space */
	MOBO_LINE_NMI,
	MOBO_LINE_A20,	/* level 1: address bit 20 passes; wired OR of all A20 lines */
	MOBO_LINE_INIT, /* pulse: INIT to the boot CPU (port 92, i8042 FE) */
};
struct mobo_line {
	enum mobo_line_kind kind;
	uint8_t n;
};

/* One PCI function. The engine keeps config space; this is its initial content and its rules. */
struct mobo_pci_config {
	uint8_t offset, len; /* 1, 2 or 4 bytes */
	uint32_t reset, write_mask;
	bool notify; /* call the class' pci_config hook after a write */
};
struct mobo_pci_function {
	uint8_t device, function; /* fixed slot, or device = MOBO_PCI_ANY */
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint32_t class_code;			      /* 24 bits: class, subclass, interface */
	uint8_t revision, header_type, interrupt_pin; /* pin 1 = INTA#, 0 = none */
	const struct mobo_pci_config *config;	      /* more writable or preset bytes */
	unsigned n_config;
	/* Engine-side roles: PIRQ routing registers at this offset (PIIX3: 0x60), or 0. */
	uint8_t pirq_offset;
};
enum { MOBO_PCI_ANY = 0xff };

/*
 * A register. Hooks may be NULL: a read then gives the storage, a write stores (old & ~mask) |
 * (new & mask). With a read hook the returned value is the register's; with a write hook `val` is
 * the value already merged with mask and with the untouched bytes of a narrow write, and is what is
 * then stored if the register has storage (the hook sees the old value in it).
 */
typedef uint64_t mobo_reg_read(struct mobo_dev *d, const struct mobo_reg *r);
typedef void mobo_reg_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val);

#define MOBO_NO_STORAGE UINT32_MAX
struct mobo_reg {
	const char *name; /* as in the datasheet */
	uint16_t region;
	uint32_t offset;
	uint8_t width;	  /* bytes: 1, 2, 4, 8 */
	uint32_t storage; /* offsetof in the chip's state, or MOBO_NO_STORAGE */
	uint64_t write_mask;
	mobo_reg_read *read;
	mobo_reg_write *write;
	/* Visible only when this returns true (banked registers: DLAB, RTC bank); NULL: always. The
	 * first visible register of an offset wins. */
	bool (*visible)(struct mobo_dev *d);
	bool no_peek; /* reading has side effects: `mobo device regs` shows the storage instead */
};

/* A field of the saved state: append only. Everything in the state struct is in some field. */
struct mobo_field {
	const char *name;
	uint32_t offset, size; /* size of one element: 1, 2, 4, 8, or any for byte arrays */
	uint32_t count;
	uint16_t since; /* state version that added it */
};
#define MOBO_FIELD(type, member)                                                   \
	{                                                                          \
#member, offsetof(type, member), sizeof(((type *)0)->member), 1, 1 \
	}
#define MOBO_FIELD_ARRAY(type, member)                                                  \
	{                                                                               \
#member, offsetof(type, member), sizeof(((type *)0)->member[0]),        \
			sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), 1 \
	}

/* What the chip should do when its process dies and is started again. */
enum mobo_restart {
	MOBO_RESTART_PAUSE, /* the machine is paused, with an event */
	MOBO_RESTART_STATE, /* state is adopted from the journal, the guest goes on */
};

/* An input event as frontends send it: Linux input codes (linux/input-event-codes.h). */
struct mobo_input {
	enum { MOBO_INPUT_KEY, MOBO_INPUT_BUTTON, MOBO_INPUT_REL, MOBO_INPUT_WHEEL } kind;
	uint16_t code; /* KEY_*, BTN_* */
	bool down;
	int32_t dx, dy,
		dz; /* REL: right and down positive; WHEEL: dz, away from the user positive */
};

/*
 * Everything about a chip. Hooks may be NULL. Unless said otherwise they return nothing because a
 * guest cannot be told of host trouble: chips report it by their own means and mobo_dev_error().
 */
struct mobo_chip_class {
	const char *name; /* folder and executable: "uart" -> mobo-dev-uart */
	const char *description;
	uint16_t state_version;
	enum mobo_restart restart;
	size_t state_size; /* struct <chip>_state: guest-visible, no pointers, kept in the journal
			    */
	size_t priv_size;  /* host side: fds, caches; zeroed at start */
	const struct mobo_region *regions;
	unsigned n_regions;
	const struct mobo_line *lines;
	unsigned n_lines;
	const struct mobo_pci_function *functions;
	unsigned n_functions;
	const struct mobo_reg *regs;
	unsigned n_regs;
	const struct mobo_field *fields;
	unsigned n_fields;
	/*
	 * First hook, before anything is claimed: read mobo_dev_config(), take mobo_dev_fd()s,
	 * replace regions or lines that depend on the configuration (mobo_dev_set_region() ...). 0
	 * or -errno with mobo_dev_error() called. Files may be read here; later the sandbox is
	 * closed.
	 */
	int (*init)(struct mobo_dev *d);
	void (*finish)(struct mobo_dev *d); /* flush what must be flushed; the machine is stopped */
	void (*reset)(
		struct mobo_dev *d); /* power-on or RESET#: state to defaults, lines lowered */
	/* Virtual time stops (after the last access) / goes on. Stop sources from outside. */
	void (*pause)(struct mobo_dev *d);
	void (*resume)(struct mobo_dev *d);
	/* The state was loaded or adopted: rebuild priv, lines, map words, timers from it. */
	void (*restored)(struct mobo_dev *d);
	void (*timer)(struct mobo_dev *d, unsigned timer);
	void (*doorbell)(struct mobo_dev *d, unsigned region, uint64_t offset, uint64_t val);
	void (*pci_config)(struct mobo_dev *d, unsigned fn, unsigned offset, unsigned len,
			   uint32_t val);
	void (*input)(struct mobo_dev *d, const struct mobo_input *in);
	/* A byte stream's peer sent something, or can take bytes again (see mobo_dev_stream_*). */
	void (*stream_readable)(struct mobo_dev *d, unsigned stream);
	void (*stream_writable)(struct mobo_dev *d, unsigned stream);
	/* A watched host fd became readable: completions of the chip's own workers (eventfd). */
	void (*fd_ready)(struct mobo_dev *d, int fd);
	/* Removable medium: its fds replaced those under "media<slot>..." and "unit<slot>....";
	 * none left: ejected. A hook that refuses gets the old ones back. force: even when the
	 * guest locked it. 0, -EBUSY (locked) or -errno. */
	int (*media)(struct mobo_dev *d, unsigned slot, bool force);
	/* Control verb that only this class knows ("power-button"): 0, -errno, -ENOSYS. */
	int (*command)(struct mobo_dev *d, const char *verb, const char *arg);
};

/* -- What a chip may do -- */

void *mobo_dev_state(struct mobo_dev *d);
void *mobo_dev_priv(struct mobo_dev *d);
const char *mobo_dev_name(const struct mobo_dev *d); /* instance: "uart0" */

/* Configuration text by key, or `fallback`; and as a number (0x and K/M/G accepted). */
const char *mobo_dev_config(struct mobo_dev *d, const char *key, const char *fallback);
uint64_t mobo_dev_config_u64(struct mobo_dev *d, const char *key, uint64_t fallback);
/* A file descriptor handed to the chip by name ("image0", "log"), owned by libbus; -1: none. */
int mobo_dev_fd(struct mobo_dev *d, const char *name);
/* The chip's memory object (VRAM, ROM ...), shared with engine and display; NULL: none. */
void *mobo_dev_memory(struct mobo_dev *d, size_t *len);

/* init only: replace what the class says. Arrays are copied. */
int mobo_dev_set_region(struct mobo_dev *d, unsigned region, const struct mobo_region *r);
int mobo_dev_set_line(struct mobo_dev *d, unsigned line, struct mobo_line to);
int mobo_dev_set_function(struct mobo_dev *d, unsigned fn, const struct mobo_pci_function *f);

/* Interrupt lines. Cheap: nothing happens when the level does not change. */
void mobo_dev_line(struct mobo_dev *d, unsigned line, bool level);
void mobo_dev_line_pulse(struct mobo_dev *d, unsigned line);
void mobo_dev_msi(struct mobo_dev *d, unsigned vector);

/* What the guest reaches directly in a DIRECT region; page_offset into the direct memory. Takes
 * effect before the running access completes. bits: MOBO_MAP_* of ioch.h, 1 read, 2 write. */
void mobo_dev_map(struct mobo_dev *d, unsigned region, uint32_t page_offset, unsigned bits);
/* Shadow bytes of a SHADOW or CONST region (len of the region; 4096 in all). */
uint8_t *mobo_dev_shadow(struct mobo_dev *d, unsigned region);

/* Virtual time, frozen while the machine is paused; at an access, the time of that access. */
uint64_t mobo_dev_now_ns(struct mobo_dev *d);
/* One-shot timers 0..15 at a virtual time; UINT64_MAX stops. Kept in the chip's own state where it
 * must survive: `restored` sets them again. */
void mobo_dev_timer_set(struct mobo_dev *d, unsigned timer, uint64_t deadline_ns);
/* Wall-clock seconds and nanoseconds at machine start plus virtual time since: for an RTC. */
int64_t mobo_dev_realtime_ns(struct mobo_dev *d);

/* Guest RAM by DMA, at guest-physical addresses; refuses (false, buffer zeroed on reads) beyond RAM
 * and, for a PCI chip, while bus mastering is off. Tells the engine when code was overwritten. */
bool mobo_dev_dma_read(struct mobo_dev *d, uint64_t gpa, void *buf, size_t len);
bool mobo_dev_dma_write(struct mobo_dev *d, uint64_t gpa, const void *buf, size_t len);
/* Host pointer to RAM for longer transfers; *len is cut to what is contiguous. NULL: refused. After
 * writing through it call mobo_dev_dma_dirty() before raising a line. */
void *mobo_dev_dma_map(struct mobo_dev *d, uint64_t gpa, size_t *len, bool write);
void mobo_dev_dma_dirty(struct mobo_dev *d, uint64_t gpa, size_t len);

/*
 * Byte streams (serial console and the like). Output goes to every attached client and to the log
 * file; nobody attached: it is kept in a 64 KiB scrollback that a client gets first. read gives
 * at most len bytes, 0: none now. write takes what fits (never blocks the guest for a slow client:
 * such a client loses its oldest bytes, and is told by an event).
 */
size_t mobo_dev_stream_read(struct mobo_dev *d, unsigned stream, void *buf, size_t len);
size_t mobo_dev_stream_write(struct mobo_dev *d, unsigned stream, const void *buf, size_t len);

void mobo_dev_watch_fd(struct mobo_dev *d, int fd, bool on); /* -> fd_ready */

/*
 * Ask the machine for something, or tell it: "reset", "poweroff", "suspend" are carried out; any
 * other verb becomes the event vm.dev.<name>.<verb> with the text as body.
 */
void mobo_dev_notify(struct mobo_dev *d, const char *verb, const char *text);
/* Host trouble: logged, and an event vm.dev.<name>.error. */
void mobo_dev_error(struct mobo_dev *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The guest did what the datasheet forbids: counted, logged once per `what` (a literal). */
void mobo_dev_guest_error(struct mobo_dev *d, const char *what);

/* main() of a chip's process. */
int mobo_chip_main(const struct mobo_chip_class *cls, int argc, char **argv);
#define MOBO_CHIP_MAIN(cls)                                \
	int main(int argc, char **argv)                    \
	{                                                  \
		return mobo_chip_main(&(cls), argc, argv); \
	}

#endif
