/* SPDX-License-Identifier: Apache-2.0 */
/* The TLB's inside, shared by the files of mmu/. */
#ifndef VCPU_MMU_TLB_H
#define VCPU_MMU_TLB_H

#include "exits/board.h"
#include "mmu/mmu.h"

/* Bits 11:0 of mmu_fill.lin. */
enum fill_bits {
	FILL_R = 1 << 0, /* tags of the slot; none: the slot is not this fill's */
	FILL_W = 1 << 1,
	FILL_X = 1 << 2,
	FILL_TAGS = FILL_R | FILL_W | FILL_X,
	FILL_SIZE = 3 << 5,    /* page size: fill_shift() */
	FILL_KEY_LOW = 3 << 3, /* protection key: fill_key() */
	FILL_KEY_HIGH = 3 << 8,
	/* Stores are permitted, but each is reported: with the r tag they need no walk. */
	FILL_REPORTED = 1 << 7,
	FILL_CTX_SHIFT = 10, /* beside the slot: see fill_id() */
};

/* A translated 4 KB piece of a page. */
struct tlb_page {
	uint64_t gpa;	/* of the piece, A20 applied */
	uint8_t *r, *w; /* host pointers to its first byte; NULL: I/O */
	bool code;	/* holds decoded code: stores are reported */
	bool watched;	/* a data breakpoint lies in it */
	bool global;
	bool tag_r, tag_w, tag_x; /* which sides of the slot to fill */
	bool store_reported;	  /* tag_w but for `code` or mmu_trace.hold */
	unsigned shift;		  /* log2 of the whole page's size */
	unsigned key;		  /* protection key */
};

void tlb_fill(struct vcpu *v, enum mmu_ctx ctx, uint64_t lin, const struct tlb_page *p);

/* Whether stores to the page of a slot whose r tag fits need no walk, yet are reported. */
bool tlb_reported_store(struct vcpu *v, unsigned ctx, uint64_t lin);

/* A page fault drops what is cached for its page: SDM vol. 3, 4.10.4.1. */
void tlb_drop_page(struct vcpu *v, uint64_t lin);

static inline unsigned fill_shift(uint64_t fill)
{
	return 0x1e16150c >> (fill & FILL_SIZE) / 4 & 0xff; /* 12, 21, 22, 30 */
}

static inline unsigned fill_of_shift(unsigned shift)
{
	return (shift == 12 ? 0 : shift == 21 ? 1 : shift == 22 ? 2 : 3) * 32;
}

static inline unsigned fill_key(uint64_t fill)
{
	return (fill & FILL_KEY_LOW) >> 3 | (fill & FILL_KEY_HIGH) >> 6;
}

static inline unsigned fill_of_key(unsigned key)
{
	return (key & 3) << 3 | (key & 12) << 6;
}

/* Whether a fill is of the page that lin lies in. */
static inline bool fill_has(uint64_t fill, uint64_t lin)
{
	return (fill ^ lin) >> fill_shift(fill) == 0;
}

static inline unsigned fill_ctx(uint64_t fill)
{
	return fill >> FILL_CTX_SHIFT & (N_MMU_CTX - 1);
}

/* Index of mmu_cache.at_local and at_global: by slot, then context. */
static inline unsigned fill_id(uint64_t fill)
{
	return fill >> FILL_CTX_SHIFT & (N_MMU_CTX * TLB_SIZE - 1);
}

static inline unsigned slot_id(unsigned slot, unsigned ctx)
{
	return slot * N_MMU_CTX + ctx;
}

static inline void slot_clear(struct mmu_tlb *t, unsigned slot)
{
	t->e[slot].r = t->e[slot].w = t->e[slot].x = tlb_empty(slot);
	t->x_id[slot] = 0;
}

/* The fill that a set has for a slot, with or without tags, or NULL. */
static inline struct mmu_fill *set_fill(struct mmu_set *s, const uint16_t *at, unsigned id)
{
	struct mmu_fill *f = &s->fill[at[id]];

	return at[id] < s->n && fill_id(f->lin) == id ? f : NULL;
}

/* Two bits a key in PKRU and PKRS: access disabled, writes disabled. */
enum { KEY_AD = 1, KEY_WD = 2 };

/* Notes the key of a fill's data tags. */
static inline void keys_add(struct mmu_set *s, uint64_t fill)
{
	uint16_t key = (uint16_t)(1u << fill_key(fill));

	s->reads |= fill & FILL_R ? key : 0;
	s->writes |= fill & (FILL_W | FILL_REPORTED) ? key : 0;
}

static inline void set_empty(struct mmu_set *s)
{
	s->n = 0;
	s->reads = s->writes = 0;
}

/* The slot is no longer that fill's. */
static inline void fill_untag(struct mmu_set *s, const uint16_t *at, unsigned id)
{
	struct mmu_fill *f = set_fill(s, at, id);

	if (f) {
		f->lin &= ~(uint64_t)FILL_TAGS;
	}
}

/* The sets by hash. */
static inline unsigned store_bit(uint64_t page)
{
	return (page >> 12 ^ page >> 26) & 0x3fff;
}

static inline void stores_add(struct mmu_cache *m, uint64_t page)
{
	unsigned bit = store_bit(page);

	m->stores[bit >> 6] |= 1ull << (bit & 63);
}

/* Neighbours of 2 MB within 4 MB have neighbouring bits of one word. */
static inline unsigned large_bit(uint64_t lin)
{
	return (lin >> 21 ^ lin >> 35) & 0x3fff;
}

static inline unsigned huge_bit(uint64_t lin)
{
	return (lin >> 30 ^ lin >> 42) & 0xfff;
}

static inline void large_add(struct mmu_cache *m, uint64_t fill)
{
	unsigned bit = large_bit(fill);

	switch (fill_shift(fill)) {
	case 21: m->large_2m[bit >> 6] |= 1ull << (bit & 63); break;
	case 22: m->large_2m[bit >> 6] |= 3ull << (bit & 62); break;
	case 30: m->large_1g[huge_bit(fill) >> 6] |= 1ull << (huge_bit(fill) & 63); break;
	}
}

static inline bool large_maybe(const struct mmu_cache *m, uint64_t lin)
{
	unsigned bit = large_bit(lin), huge = huge_bit(lin);

	return (m->large_2m[bit >> 6] >> (bit & 63) & 1) |
	       (m->large_1g[huge >> 6] >> (huge & 63) & 1);
}

/* A number no walk entry carries. */
static inline uint64_t new_gen(struct mmu_cache *m)
{
	return ++m->last_gen;
}

/* Everything of the current PCID but global pages. */
void tlb_flush_local(struct vcpu *v);

uint8_t *ram_find(struct vcpu *v, uint64_t gpa);

/* The run that cached guest RAM lies in: below 1 MB, below 4 GB, above. */
static inline unsigned ram_index(uint64_t gpa)
{
	return (gpa >> 20 != 0) + (gpa >> 32 != 0);
}

/* Host pointer of a guest-physical address, A20 applied, in RAM; NULL: not RAM that both reads
 * and writes reach. */
static inline uint8_t *ram_host(struct vcpu *v, uint64_t gpa)
{
	unsigned i = ram_index(gpa);
	uint64_t off = gpa - v->mmu.ram[i].gpa;

	return __builtin_expect(off < v->mmu.ram[i].len, 1) ? v->mmu.ram[i].host + off
							    : ram_find(v, gpa);
}

#endif
