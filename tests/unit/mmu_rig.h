/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMU linked alone: 2 MB of RAM, one vCPU, and what else it calls, counted. Raising an
 * exception ends the access.
 */
#ifndef TESTS_UNIT_MMU_RIG_H
#define TESTS_UNIT_MMU_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "execute/execute.h"
#include "exits/board.h"
#include "mmu/walk.h"

enum { RAM_SIZE = 2 << 20, RAM_PAGES = RAM_SIZE >> 12, TABLES = 24 /* pages of tables */ };

struct board {
	uint8_t ram[RAM_SIZE];
	uint8_t copy[RAM_SIZE]; /* what it should be */
};

extern struct board board;
extern struct vcpu *v;

/* What the last access raised. */
extern int raised_vector;
extern uint32_t raised_error;
/* Translations made, and stores reported to the owner of decoded code. */
extern unsigned n_translations, n_code_written;
extern bool last_page_is_code;

/* Around a group of tests. */
int set_up(void **state);
int tear_down(void **state);

uint64_t rng(void);
/* True in `percent` of 100. */
bool chance(unsigned percent);

/* Is page `page` in the TLB for reads, for writes? */
bool has_tags(uint64_t page, bool r, bool w);
/* The error code of a read or write, or 0. */
uint32_t error_of(uint64_t lin, bool write);

/* The protection key of an entry: few, so that pages share them. */
uint64_t random_key(void);

/* Long mode: the first 8 pages of linear memory are pages 64 to 71, each of its own rights. */
uint64_t *small_tables(void);

/* -- PCIDs -- */

/*
 * Address spaces of long mode, space n under PCID n + 1. Linear memory of each: 16 small pages from
 * 0, a large page at 2 MB, 16 global pages from 4 MB, a global large page at 6 MB; large pages are
 * read-only pages 0 to 511. There are two page tables for the small pages, changed by their PDE.
 */
enum {
	SPACES = 12,
	SMALL = 16,
	SPACE_PAGES = 5, /* PML4, PDPT, PD, page table 0, page table 1 */
	FIRST_SPACE = 16,
	GLOBAL_TABLE = 15,
	FIRST_DATA = 128,
};

extern unsigned current_space;

/* Page k of space n. */
uint64_t *space_page(unsigned n, unsigned k);
uint64_t page_gpa(const uint64_t *table);
/* What software stores: both memories get it. */
void poke(uint64_t *at, uint64_t val);
/* Entries of page tables; large pages. */
uint64_t random_leaf(void);
uint64_t random_large(void);
/* Space 0 is current, nothing is cached. */
void make_spaces(void);
void switch_space(unsigned n, bool keep);

#endif
