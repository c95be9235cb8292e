/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that hold decoded code: bits in the machine's code map for RAM, which devices test after
 * DMA, and in a bitmap of the engine for a chip's own memory. A page's bit is set before its bytes
 * are decoded, and is cleared when stores keep coming: data that shares a page with old code, or a
 * page that was freed and used again.
 */
#include "exits/board_internal.h"

enum {
	PAGE = 4096,
	HEAT_LIMIT = 32, /* stores after which a page's decoded code is dropped as a whole */
};

/* The bitmap word and bit of a page; false: nobody can store there, or it is not memory. */
static bool locate(struct board *b, uint64_t gpa, _Atomic uint64_t **word, uint64_t *bit)
{
	uint64_t offset = mobo_ram_offset(&b->ram, gpa), page;
	const struct map *m;

	if (offset != UINT64_MAX) {
		page = offset / PAGE;
		if (page >= b->codemap->n_pages) {
			return false;
		}
		*word = &b->codemap->bits[page / 64];
		*bit = 1ull << (page & 63);
		return true;
	}
	m = atomic_load_explicit(&b->map, memory_order_acquire);
	for (unsigned i = 0; i < m->n_mem; i++) {
		struct region *r = m->mem[i].r;

		if (gpa - m->mem[i].base < m->mem[i].len && r->direct == DIRECT_MEM) {
			bool below;
			uint8_t *p = region_host(r, gpa, 1, false, &below);

			if (!p) {
				return false;
			}
			page = (uint64_t)(p - r->dev->mem) / PAGE;
			*word = &r->dev->mem_code[page / 64];
			*bit = 1ull << (page & 63);
			return true;
		}
	}
	return false;
}

bool board_code_page(struct board *b, uint64_t gpa)
{
	_Atomic uint64_t *word;
	uint64_t bit;

	return locate(b, gpa, &word, &bit) && atomic_load(word) & bit;
}

static _Atomic uint8_t *heat(struct board *b, uint64_t gpa)
{
	return &b->code_heat[gpa / PAGE % MOBO_ARRAY_LEN(b->code_heat)];
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
	_Atomic uint64_t *word;
	uint64_t bit;

	gpa &= ~(uint64_t)(PAGE - 1);
	if (!locate(b, gpa, &word, &bit)) {
		return;
	}
	/* Set, and nobody is at work on it or about to clear it: all TLBs know. */
	if (atomic_load(word) & bit && !atomic_load(&b->code_busy) && atomic_load(word) & bit) {
		return;
	}
	lock_code(b, v);
	if (!(atomic_fetch_or(word, bit) & bit)) {
		atomic_store_explicit(heat(b, gpa), 0, memory_order_relaxed);
		board_sync(b, v, SYNC_CODE_PROTECT, gpa, PAGE);
		b->ops->code_protect(v, gpa);
	}
	unlock_code(b);
}

/* Nobody keeps code of the page; stores to it are fast again until code is decoded from it. */
static void drop_page(struct board *b, struct vcpu *self, uint64_t gpa)
{
	_Atomic uint64_t *word;
	uint64_t bit;

	gpa &= ~(uint64_t)(PAGE - 1);
	if (!locate(b, gpa, &word, &bit)) {
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
		atomic_fetch_and(word, ~bit);
	}
	unlock_code(b);
}

void board_code_written(struct vcpu *v, uint64_t gpa, unsigned len)
{
	struct board *b = v->board;
	_Atomic uint8_t *h = heat(b, gpa);
	uint8_t n = atomic_load_explicit(h, memory_order_relaxed);

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
