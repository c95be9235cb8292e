/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IDE controller with a disk as unit 0 and a CD-ROM drive as unit 2, anew for each test, and
 * what a driver does with either all the time.
 */
#ifndef TESTS_UNIT_IDE_RIG_H
#define TESTS_UNIT_IDE_RIG_H

#include "test_board.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct mobo_chip_class mobo_chip_ide;

enum { DISK_SECTORS = 20000, CD_BLOCKS = 600 };
enum { C0 = 0x1f0, C1 = 0x170, CTL0 = 0x3f6, CTL1 = 0x376 };
enum { BSY = 0x80, DRDY = 0x40, DSC = 0x10, DRQ = 0x08, ERR = 0x01 };
enum { REGION_COMMAND0, REGION_CONTROL0, REGION_COMMAND1, REGION_CONTROL1, REGION_BM };

/* Of the setup. */
extern const char *const config[], *const fd_names[];

struct rig {
	struct mobo_test_board *b;
	struct mobo_test_setup setup;
	int disk, cd, other_cd, fds[2];
};

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int make(void **state);
int unmake(void **state);

/* What the images hold. */
uint8_t disk_byte(uint64_t off);
uint8_t cd_byte(uint64_t off);
void expect_disk(const uint8_t *p, uint64_t off, size_t len);

/* -- Commands -- */

/* Wait until the drive is not busy; its alternate status. */
uint8_t wait_ready(struct rig *r, unsigned ctl);
void task(struct rig *r, unsigned base, uint8_t feature, uint8_t count, uint32_t lba,
	  uint8_t device, uint8_t command);
void lba28(struct rig *r, uint32_t lba, uint8_t count, uint8_t command);
void lba48(struct rig *r, uint64_t lba, unsigned count, uint8_t command);
void read_words(struct rig *r, unsigned region, void *buf, unsigned bytes);
/* The interrupt came, and reading the status takes it back. */
uint8_t take_irq(struct rig *r, unsigned line);
/* An entry of a bus master's descriptor table. */
void prd(struct rig *r, unsigned at, uint32_t gpa, unsigned len, bool last);
void bm_start(struct rig *r, unsigned channel, uint32_t table, bool to_memory);

#endif
