/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake board: a chip under cmocka, without process, socket or thread. Time stands still until
 * mobo_test_step(); lines, pulses, messages and notes are recorded; RAM is an array; streams are
 * byte queues in memory.
 *
 *	struct mobo_test_board *b = mobo_test_board_new(&mobo_chip_uart, NULL);
 *	mobo_test_outb(b, 0x3f9, 0x01);
 *	mobo_test_stream_send(b, 0, "x", 1);
 *	assert_true(mobo_test_line(b, 0));
 *	mobo_test_board_free(b);
 *
 * Whatever goes wrong on the board's side fails the running test.
 */
#ifndef MOBO_TEST_BOARD_H
#define MOBO_TEST_BOARD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mobo/device.h"

struct mobo_test_board;

struct mobo_test_setup {
	const char *const *config;   /* key, value, key, value, ..., NULL */
	const char *const *fd_names; /* ..., NULL; fds are dup()ed, the test keeps its own */
	const int *fds;
	size_t ram_size;	  /* 0: 1 MiB at gpa 0 */
	size_t memory_size;	  /* of the chip's memory object; 0: none */
	int64_t realtime_base_ns; /* 0: 2024-01-01 00:00:00 UTC */
};

/* Makes the board, calls init and reset. setup may be NULL. Fails the test when init fails. */
struct mobo_test_board *mobo_test_board_new(const struct mobo_chip_class *cls,
					    const struct mobo_test_setup *setup);
/* The same for tests of init: the result of init in *ret; NULL when it failed. */
struct mobo_test_board *mobo_test_board_try(const struct mobo_chip_class *cls,
					    const struct mobo_test_setup *setup, int *ret);
void mobo_test_board_free(struct mobo_test_board *b); /* calls finish */
struct mobo_dev *mobo_test_dev(struct mobo_test_board *b);
void *mobo_test_state(struct mobo_test_board *b);
void *mobo_test_priv(struct mobo_test_board *b);

/* -- What the guest does -- */
/* By port or guest-physical address, over the PIO and MMIO regions; nothing there: all ones. */
uint8_t mobo_test_inb(struct mobo_test_board *b, uint16_t port);
uint16_t mobo_test_inw(struct mobo_test_board *b, uint16_t port);
uint32_t mobo_test_inl(struct mobo_test_board *b, uint16_t port);
void mobo_test_outb(struct mobo_test_board *b, uint16_t port, uint8_t val);
void mobo_test_outw(struct mobo_test_board *b, uint16_t port, uint16_t val);
void mobo_test_outl(struct mobo_test_board *b, uint16_t port, uint32_t val);
uint64_t mobo_test_mmio_read(struct mobo_test_board *b, uint64_t gpa, unsigned size);
void mobo_test_mmio_write(struct mobo_test_board *b, uint64_t gpa, unsigned size, uint64_t val);
/* By region index and offset: every kind of region, BARs too. */
uint64_t mobo_test_read(struct mobo_test_board *b, unsigned region, uint64_t offset, unsigned size);
void mobo_test_write(struct mobo_test_board *b, unsigned region, uint64_t offset, unsigned size,
		     uint64_t val);
/* REP INS/OUTS and the like; go on until all `count` elements moved. */
void mobo_test_read_string(struct mobo_test_board *b, unsigned region, uint64_t offset,
			   unsigned size, void *buf, unsigned count);
void mobo_test_write_string(struct mobo_test_board *b, unsigned region, uint64_t offset,
			    unsigned size, const void *buf, unsigned count);
/* By the name in the register table, side effects included. */
uint64_t mobo_test_reg_read(struct mobo_test_board *b, const char *name);
void mobo_test_reg_write(struct mobo_test_board *b, const char *name, uint64_t val);
void mobo_test_doorbell(struct mobo_test_board *b, unsigned region, uint64_t offset, uint64_t val);
void mobo_test_pci_config(struct mobo_test_board *b, unsigned fn, unsigned offset, unsigned len,
			  uint32_t val);
void mobo_test_bus_master(struct mobo_test_board *b, bool on); /* default on */
uint8_t *mobo_test_ram(struct mobo_test_board *b);
uint8_t *mobo_test_memory(struct mobo_test_board *b);

/* -- What the machine does -- */
void mobo_test_step(struct mobo_test_board *b, uint64_t ns); /* fires timers in their order */
uint64_t mobo_test_now(struct mobo_test_board *b);
uint64_t mobo_test_next_timer(struct mobo_test_board *b); /* UINT64_MAX: none is set */
void mobo_test_reset(struct mobo_test_board *b);
void mobo_test_pause(struct mobo_test_board *b); /* then time must not be stepped */
void mobo_test_resume(struct mobo_test_board *b);
/* The process died and was started again: same state bytes, fresh priv; init and restored run. */
void mobo_test_restart(struct mobo_test_board *b);
/* Saved state, test_free() it; and back (reset, load, restored). load returns 0 or -errno. */
void *mobo_test_save(struct mobo_test_board *b, size_t *len);
int mobo_test_load(struct mobo_test_board *b, const void *buf, size_t len);
void mobo_test_input(struct mobo_test_board *b, const struct mobo_input *in);
/* fds (dup()ed) get the names names[0] ... ("media0"); n 0: eject. Returns the hook's. */
int mobo_test_media(struct mobo_test_board *b, unsigned slot, const char *const *names,
		    const int *fds, unsigned n, bool force);
int mobo_test_command(struct mobo_test_board *b, const char *verb, const char *arg);
/* Waits at most timeout_ms for watched fds, calls fd_ready for those that are readable; returns
 * their number. For chips with workers of their own. */
unsigned mobo_test_poll(struct mobo_test_board *b, int timeout_ms);

/* Bytes towards the chip, then stream_readable. What the chip does not read stays queued. */
void mobo_test_stream_send(struct mobo_test_board *b, unsigned stream, const void *buf, size_t len);
size_t mobo_test_stream_queued(struct mobo_test_board *b, unsigned stream);
/* Bytes that the chip sent, taken; the most recent 64 KiB are kept. */
size_t mobo_test_stream_take(struct mobo_test_board *b, unsigned stream, void *buf, size_t len);

/* -- What came out -- */
bool mobo_test_line(struct mobo_test_board *b, unsigned line);
unsigned mobo_test_line_rises(struct mobo_test_board *b, unsigned line); /* since made or cleared */
unsigned mobo_test_pulses(struct mobo_test_board *b, unsigned line);
unsigned mobo_test_msis(struct mobo_test_board *b, unsigned vector);
void mobo_test_clear_counts(struct mobo_test_board *b);
uint32_t mobo_test_map(struct mobo_test_board *b, unsigned region); /* map word as in ioch.h */
const struct mobo_region *mobo_test_region(struct mobo_test_board *b, unsigned region);
struct mobo_line mobo_test_line_target(struct mobo_test_board *b, unsigned line);
const struct mobo_pci_function *mobo_test_function(struct mobo_test_board *b, unsigned fn);
/* Last notes with this verb: its text ("" when none) and their number. */
const char *mobo_test_notified(struct mobo_test_board *b, const char *verb, unsigned *n);
unsigned mobo_test_errors(struct mobo_test_board *b); /* mobo_dev_error() calls */
uint64_t mobo_test_guest_errors(struct mobo_test_board *b);
uint64_t mobo_test_dma_dirty_bytes(struct mobo_test_board *b);

/* -- Tests for every chip (test_generic.c) -- */
/*
 * Each state byte lies in exactly one field and survives save, zero, restore; damaged saves are
 * refused and change nothing; reset after anything gives the state of the first reset twice over; a
 * restored copy shows the same registers, lines and map words; a fuzzer of accesses, time, input
 * and bytes finds no crash (run it under the sanitizers). setup as for mobo_test_board_new().
 */
void mobo_chip_generic_tests_with(const struct mobo_chip_class *cls,
				  const struct mobo_test_setup *setup);
void mobo_chip_generic_tests(const struct mobo_chip_class *cls);

#endif
