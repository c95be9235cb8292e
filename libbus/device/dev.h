/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instance of a chip as libbus holds it, and what stands behind it: the chip's process, or the
 * fake board of the unit tests. Private to libbus/device.
 */
#ifndef LIBBUS_DEVICE_DEV_H
#define LIBBUS_DEVICE_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mobo/device.h"
#include "mobo/io.h"

enum {
	MOBO_DEV_TIMERS = 16,
	MOBO_DEV_FDS = 64,
	MOBO_DEV_FUNCTIONS = 8,
	MOBO_DEV_GUEST_ERRORS = 32, /* different ones that are logged */
};

/* The world of a chip. All are called on the chip's thread; none may be NULL. */
struct mobo_dev_host {
	void (*line)(struct mobo_dev *d, unsigned line, bool level); /* the level changed */
	void (*pulse)(struct mobo_dev *d, unsigned line);
	void (*msi)(struct mobo_dev *d, unsigned vector);
	void (*map)(struct mobo_dev *d, unsigned region, uint32_t word); /* the word changed */
	uint64_t (*now_ns)(struct mobo_dev *d);
	void (*timer)(struct mobo_dev *d); /* the earliest of d->timer_ns may have changed */
	bool (*bus_master)(struct mobo_dev *d);
	void (*dma_dirty)(struct mobo_dev *d, uint64_t ram_offset, size_t len);
	size_t (*stream_read)(struct mobo_dev *d, unsigned stream, void *buf, size_t len);
	size_t (*stream_write)(struct mobo_dev *d, unsigned stream, const void *buf, size_t len);
	void (*watch_fd)(struct mobo_dev *d, int fd, bool on);
	void (*notify)(struct mobo_dev *d, const char *verb, const char *text);
	void (*error)(struct mobo_dev *d, const char *text);
};

struct mobo_dev_fd {
	char name[24];
	int fd;
};

struct mobo_dev_config {
	char *key, *value;
};

/*
 * Which register covers a byte of a region: the first in the table's order; later candidates are
 * found by walking on. Bytes beyond `n` have none.
 */
struct mobo_dev_reg_index {
	uint16_t *first; /* index + 1 into the register table; 0: none */
	uint32_t n;
};

struct mobo_dev {
	const struct mobo_chip_class *cls;
	const struct mobo_dev_host *host;
	char name[32];
	void *state;		     /* cls->state_size bytes, the host's */
	void *priv;		     /* ours */
	struct mobo_region *regions; /* copies, cls->n_regions */
	struct mobo_line *lines;
	struct mobo_pci_function *functions;
	struct mobo_pci_config *function_config[MOBO_DEV_FUNCTIONS]; /* copies by set_function */
	struct mobo_dev_reg_index *reg_index;			     /* one a region */
	bool in_init;
	bool finished;

	uint64_t level; /* bit per line */
	uint32_t map[MOBO_IOCH_REGIONS];
	uint8_t *shadow; /* MOBO_IOCH_SHADOW bytes, the host's */
	uint32_t shadow_offset[MOBO_IOCH_REGIONS];

	uint64_t access_ns; /* time of the running access; 0: none, ask the host */
	uint64_t timer_ns[MOBO_DEV_TIMERS];
	int64_t realtime_base_ns;

	struct mobo_ram ram;
	void *memory;
	size_t memory_len;

	struct mobo_dev_config *config;
	unsigned n_config;
	struct mobo_dev_fd fds[MOBO_DEV_FDS];
	unsigned n_fds;

	const char *guest_error[MOBO_DEV_GUEST_ERRORS]; /* literals seen */
	uint64_t n_guest_errors;
};

/* -- dev.c -- */
/*
 * Makes an instance: copies of the class' regions, lines and functions, zeroed priv. state and
 * shadow stay the caller's and must outlive it. 0, -EINVAL (a class that breaks its own rules, said
 * in the log) or -ENOMEM. Not initialised by the chip yet: mobo_dev_start().
 */
int mobo_dev_new(struct mobo_dev **ret, const struct mobo_chip_class *cls, const char *name,
		 const struct mobo_dev_host *host, void *state, uint8_t *shadow);
/* Calls the chip's init hook, then settles the register index and the shadow layout. */
int mobo_dev_start(struct mobo_dev *d);
/* Calls the chip's finish hook when `started`, frees everything, closes the fds. */
/* The class' finish hook, once: nothing of the chip is called after it. */
void mobo_dev_finish(struct mobo_dev *d);
void mobo_dev_free(struct mobo_dev *d, bool started);
/* Sets (or with value NULL removes) a configuration value; copies both. 0 or -ENOMEM. */
int mobo_dev_config_set(struct mobo_dev *d, const char *key, const char *value);
/* Gives an fd to the instance, which owns it from now on; one of the same name is closed. 0 or
 * -ENOSPC (then fd is closed). */
int mobo_dev_fd_give(struct mobo_dev *d, const char *name, int fd);
/*
 * Changes the medium of a slot: the fds named "media<slot>..." or "unit<slot>...." are replaced by
 * the given ones (taken over in any case; n 0: ejected), then the chip's hook is asked. When it
 * refuses the old ones stay. The hook's result, -ENOSYS without a hook.
 */
int mobo_dev_media(struct mobo_dev *d, unsigned slot, const char *const *names, const int *fds,
		   unsigned n, bool force);
/* Resets the chip: lines fall and timers stop before its hook sets what it wants. */
void mobo_dev_reset(struct mobo_dev *d);
/* After the state was replaced: as reset, then the restored hook. */
void mobo_dev_restored(struct mobo_dev *d);
/* Earliest timer, or UINT64_MAX. */
uint64_t mobo_dev_next_timer(const struct mobo_dev *d);
/* Fires the timers that are due at now_ns, each once. */
void mobo_dev_fire_timers(struct mobo_dev *d, uint64_t now_ns);

/* -- dispatch.c: what the guest does -- */
int mobo_dev_index_registers(struct mobo_dev *d);
uint64_t mobo_dev_io_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size);
void mobo_dev_io_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		       uint64_t val);
/* Return the elements moved, 1..count. */
unsigned mobo_dev_io_read_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				 unsigned size, void *buf, unsigned count);
unsigned mobo_dev_io_write_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				  unsigned size, const void *buf, unsigned count);
/* One register for `mobo device regs`: false when it is not visible now. No side effects. */
bool mobo_dev_reg_peek(struct mobo_dev *d, const struct mobo_reg *r, uint64_t *val);

/* -- fields.c: the saved state -- */
/*
 * Serialised state, self-describing, little endian:
 *   "MBST", u16 format 1, u16 state_version, u8 name length, class name,
 *   per field: u8 name length, name, u32 element size, u32 count, the bytes
 *   u8 0, u32 CRC-32 of all before
 */
size_t mobo_dev_save_size(const struct mobo_dev *d);
/* Writes at most cap bytes; the length, or -ENOSPC. */
long mobo_dev_save(const struct mobo_dev *d, void *buf, size_t cap);
/*
 * Loads into the state, then calls nothing: mobo_dev_restored() follows. Fields that the data lacks
 * keep their reset values. 0, -EPROTO (damaged, other class, unknown field) or -EOVERFLOW (newer).
 * On an error the state is unchanged.
 */
int mobo_dev_load(struct mobo_dev *d, const void *buf, size_t len);

#endif
