/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that hold decoded code: bits in the machine's code map for RAM, which devices test after
 * DMA, and in a bitmap of the engine for a chip's own memory. A page's bit is set before its bytes
 * are decoded, and is cleared when stores keep coming: a page that was freed and used again.
 *
 * Of a page of RAM the engine also says which 64-byte lines it decoded from, so that stores to data
 * that shares a page with code concern nobody. Lines are marked before the bytes are (last) read
 * and looked at after a store, with a fence between on either side: one of the two sees the other.
 */
#include <errno.h>
#include <sys/mman.h>

#include "exits/board_internal.h"

enum {
	PAGE = 4096,
	HEAT_LIMIT = 32, /* stores after which a page's decoded code is dropped as a whole */
};

/* Where is kept what is known of a page. */
struct place {
	_Atomic uint64_t *word; /* of the bitmap */
	uint64_t bit;
	_Atomic uint64_t *lines; /* lines that hold code; NULL: all may */
};

static size_t lines_size(const struct board *b)
{
	return (b->codemap->n_pages + 1) * sizeof(*b->code_lines);
}

int board_code_init(struct board *b)
{
	void *p = mmap(NULL, lines_size(b), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		return -ENOMEM;
	}
	b->code_lines = p;
	return 0;
}

void board_code_finish(struct board *b)
{
	if (b->code_lines) {
		munmap(b->code_lines, lines_size(b));
	}
}

static bool locate_ram(struct board *b, uint64_t offset, struct place *p)
{
	uint64_t page = offset / PAGE;

	if (page >= b->codemap->n_pages) {
		return false;
	}
	p->word = &b->codemap->bits[page / 64];
	p->bit = 1ull << (page & 63);
	p->lines = &b->code_lines[page];
	return true;
}

static bool locate_mem(struct board *b, uint64_t gpa, struct place *p)
{
	const struct map *m = atomic_load_explicit(&b->map, memory_order_acquire);

	for (unsigned i = 0; i < m->n_mem; i++) {
		struct region *r = m->mem[i].r;
		uint64_t page;
		uint8_t *host;
		bool below;

		if (gpa - m->mem[i].base >= m->mem[i].len || r->direct != DIRECT_MEM) {
			continue;
		}
		host = region_host(r, gpa, 1, false, &below);
		if (!host) {
			return false;
		}
		page = (uint64_t)(host - r->dev->mem) / PAGE;
		p->word = &r->dev->mem_code[page / 64];
		p->bit = 1ull << (page & 63);
		p->lines = NULL;
		return true;
	}
	return false;
}

/* False: nobody can store there, or it is not memory. */
static bool locate(struct board *b, uint64_t gpa, struct place *p)
{
	uint64_t offset = gpa < b->ram.low_len ? gpa : mobo_ram_offset(&b->ram, gpa);

	return offset != UINT64_MAX ? locate_ram(b, offset, p) : locate_mem(b, gpa, p);
}

bool board_code_page(struct board *b, uint64_t gpa)
{
	struct place p;

	return locate(b, gpa, &p) && (atomic_load_explicit(p.word, memory_order_relaxed) & p.bit);
}

static uint64_t lines_of(uint64_t gpa, unsigned len)
{
	unsigned from = (gpa & (PAGE - 1)) >> 6, to = ((gpa & (PAGE - 1)) + len - 1) >> 6;

	return (~0ull >> (63 - (to - from))) << from;
}

/* Whether one of the lines that a store just hit was decoded from. */
static bool hits_code(struct board *b, uint64_t gpa, unsigned len)
{
	struct place p;

	if (!b->ops->marks_lines || !locate(b, gpa, &p) || !p.lines) {
		return true;
	}
	if (b->n_cpus > 1) {
		atomic_thread_fence(memory_order_seq_cst);
	}
	return atomic_load_explicit(p.lines, memory_order_relaxed) & lines_of(gpa, len);
}

static _Atomic uint8_t *heat(struct board *b, uint64_t gpa)
{
	return &b->code_heat[gpa / PAGE % MOBO_ARRAY_LEN(b->code_heat)];
}

bool board_code_lines_add(struct vcpu *v, uint64_t gpa, unsigned len)
{
	struct board *b = v->board;
	struct place p;
	uint64_t lines = lines_of(gpa, len);

	if (!locate(b, gpa, &p) || !p.lines) {
		return false;
	}
	/* Code that is stored to and run by turns: to drop its page would gain nothing. */
	atomic_store_explicit(heat(b, gpa), 0, memory_order_relaxed);
	if ((atomic_load(p.lines) & lines) == lines) {
		return false;
	}
	atomic_fetch_or(p.lines, lines);
	return b->n_cpus > 1;
}

static void lock_code(struct board *b, struct vcpu *self)
{
	atomic_fetch_add(&b->code_busy, 1);
	board_lock_sync(self, &b->code_lock);
}

static void unlock_code(struct board *b)
{
	pthread_mutex_unlock(&b->code_lock);
	atomic_fetch_sub(&b->code_busy, 1);
}

void board_code_page_add(struct vcpu *v, uint64_t gpa)
{
	struct board *b = v->board;
	struct place p;

	gpa &= ~(uint64_t)(PAGE - 1);
	if (!locate(b, gpa, &p)) {
		return;
	}
	/* Set, and nobody is at work on it or about to clear it: all TLBs know. */
	if (atomic_load(p.word) & p.bit && !atomic_load(&b->code_busy) &&
	    atomic_load(p.word) & p.bit) {
		return;
	}
	lock_code(b, v);
	if (!(atomic_fetch_or(p.word, p.bit) & p.bit)) {
		atomic_store_explicit(heat(b, gpa), 0, memory_order_relaxed);
		board_sync(b, v, SYNC_CODE_PROTECT, gpa, PAGE);
		b->ops->code_protect(v, gpa);
	}
	unlock_code(b);
}

/* Nobody keeps code of the page; stores to it are fast again until code is decoded from it. */
static void drop_page(struct board *b, struct vcpu *self, uint64_t gpa)
{
	struct place p;

	gpa &= ~(uint64_t)(PAGE - 1);
	if (!locate(b, gpa, &p)) {
		return;
	}
	if (!b->ops->readds_code) {
		board_sync(b, self, SYNC_CODE_WRITTEN, gpa, PAGE);
		if (self) {
			b->ops->code_written(self, gpa, PAGE);
		}
		return;
	}
	lock_code(b, self);
	/*
	 * Once more after the bit went: for code decoded in between. Whoever decodes later finds no
	 * bit, and waits for code_lock to set it.
	 */
	for (unsigned i = 0; i < 2; i++) {
		board_sync(b, self, SYNC_CODE_WRITTEN, gpa, PAGE);
		if (self) {
			b->ops->code_written(self, gpa, PAGE);
		}
		atomic_fetch_and(p.word, ~p.bit);
	}
	if (p.lines) {
		atomic_store(p.lines, 0);
	}
	unlock_code(b);
}

void board_code_written(struct vcpu *v, uint64_t gpa, unsigned len)
{
	struct board *b = v->board;
	_Atomic uint8_t *h = heat(b, gpa);
	uint8_t n;

	if (!hits_code(b, gpa, len)) {
		return;
	}
	n = atomic_load_explicit(h, memory_order_relaxed);
	if (n >= HEAT_LIMIT && b->ops->readds_code) {
		atomic_store_explicit(h, 0, memory_order_relaxed);
		drop_page(b, v, gpa);
		return;
	}
	atomic_store_explicit(h, n < HEAT_LIMIT ? n + 1 : n, memory_order_relaxed);
	b->ops->code_written(v, gpa, len);
	board_sync(b, v, SYNC_CODE_WRITTEN, gpa, len);
}

static uint64_t page_gpa(const struct board *b, uint64_t page)
{
	uint64_t offset = page * PAGE;

	return offset < b->ram.low_len ? offset : offset - b->ram.low_len + (1ull << 32);
}

void board_dma_code(struct board *b, struct vcpu *self)
{
	_Atomic uint64_t *dirty = mobo_code_map_dirty(b->codemap);
	uint64_t n_words = (b->codemap->n_pages + 63) / 64;

	for (uint64_t i = 0; i < n_words; i++) {
		uint64_t bits;

		if (!atomic_load_explicit(&dirty[i], memory_order_relaxed)) {
			continue;
		}
		bits = atomic_exchange(&dirty[i], 0);
		while (bits) {
			uint64_t page = i * 64 + (unsigned)__builtin_ctzll(bits);

			bits &= bits - 1;
			if (page < b->codemap->n_pages) {
				drop_page(b, self, page_gpa(b, page));
			}
		}
	}
}
