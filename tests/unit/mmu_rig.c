/* SPDX-License-Identifier: Apache-2.0 */
/* See mmu_rig.h. */
#include "execute/debugger.h"

#include "mmu_rig.h"

struct board board;
struct vcpu *v;
int raised_vector;
uint32_t raised_error;
unsigned n_translations, n_code_written;
bool last_page_is_code;

static uint64_t rng_state = 0x9e3779b97f4a7c15ull;

uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

bool chance(unsigned percent)
{
	return rng() >> 32 & 1 ? rng() % 100 < percent : (rng() >> 20) % 100 < percent;
}

int set_up(void **state)
{
	v = aligned_alloc(64, (sizeof(*v) + 63) & ~(size_t)63);
	if (v == NULL) {
		return -1;
	}
	memset(v, 0, sizeof(*v));
	v->board = &board;
	mmu_init(v);
	return 0;
}

int tear_down(void **state)
{
	free(v);
	return 0;
}

/* -- What the MMU is linked with -- */

struct mem_run board_mem_lookup(struct board *b, uint64_t gpa)
{
	if (gpa < RAM_SIZE) {
		return (struct mem_run){0, RAM_SIZE, b->ram, b->ram};
	}
	return (struct mem_run){gpa & ~4095ull, 4096, NULL, NULL};
}

uint64_t board_a20_mask(struct board *b)
{
	return UINT64_MAX;
}

bool board_code_page(struct board *b, uint64_t gpa)
{
	n_translations++;
	return last_page_is_code && gpa >> 12 == RAM_PAGES - 1;
}

void board_code_written(struct vcpu *cpu, uint64_t gpa, unsigned len)
{
	n_code_written++;
}

/* Reads of I/O tell their address. */
uint64_t board_mmio_read(struct vcpu *cpu, uint64_t gpa, unsigned size)
{
	return gpa;
}

void board_mmio_write(struct vcpu *cpu, uint64_t gpa, unsigned size, uint64_t val)
{
}

void debugger_watch_hit(struct vcpu *cpu, uint64_t lin)
{
	fail_msg("no debugger watches");
}

void raise_exception(struct vcpu *cpu, unsigned vector)
{
	raised_vector = (int)vector;
	longjmp(cpu->unwind, 1);
}

void raise_error(struct vcpu *cpu, unsigned vector, uint32_t error_code)
{
	raised_error = error_code;
	raise_exception(cpu, vector);
}

void raise_page_fault(struct vcpu *cpu, uint64_t lin, uint32_t error_code)
{
	cpu->cr2 = lin;
	raise_error(cpu, VEC_PF, error_code);
}

/* -- Tables -- */

bool has_tags(uint64_t page, bool r, bool w)
{
	const struct tlb_entry *e = &v->tlb->e[page];

	return (e->r == page << 12) == r && (e->w == page << 12) == w;
}

uint32_t error_of(uint64_t lin, bool write)
{
	raised_error = 0;
	if (setjmp(v->unwind) == 0) {
		write ? mmu_write8(v, lin, 1) : (void)mmu_read8(v, lin);
	}
	return raised_error;
}

uint64_t random_key(void)
{
	static const uint64_t keys[] = {0, 1, 6, 15};

	return v->efer & EFER_LMA ? keys[rng() % 4] << 59 : 0;
}

uint64_t *small_tables(void)
{
	uint64_t *pte = (uint64_t *)(board.ram + 0x4000);

	memset(board.ram, 0, RAM_SIZE);
	*(uint64_t *)(board.ram + 0x1000) = 0x2007;
	*(uint64_t *)(board.ram + 0x2000) = 0x3007;
	*(uint64_t *)(board.ram + 0x3000) = 0x4007;
	*(uint64_t *)(board.ram + 0x3008) = 0x0087; /* 2 MB page at 2 MB: gpa 0 */
	for (unsigned i = 0; i < 8; i++) {
		pte[i] = (64 + i) << 12 | 7;
	}
	v->cr0 = CR0_PE | CR0_PG | CR0_WP;
	v->cr3 = 0x1000;
	v->cr4 = CR4_PAE;
	v->efer = EFER_LMA | EFER_LME | EFER_NXE;
	v->mode = MODE_PROT | MODE_64 | MODE_LMA;
	v->cpl = 0;
	v->rflags = FL_1;
	v->dr[7] = 0;
	v->pkru = v->pkrs = 0;
	last_page_is_code = true;
	mmu_flush_all(v);
	mmu_update_context(v);
	return pte;
}

unsigned current_space;

uint64_t *space_page(unsigned n, unsigned k)
{
	return (uint64_t *)(board.ram + ((FIRST_SPACE + n * SPACE_PAGES + k) << 12));
}

uint64_t page_gpa(const uint64_t *table)
{
	return (uint64_t)((const uint8_t *)table - board.ram);
}

void poke(uint64_t *at, uint64_t val)
{
	*at = val;
	memcpy(board.copy + page_gpa(at), &val, 8);
}

uint64_t random_leaf(void)
{
	uint64_t e = (FIRST_DATA + rng() % (RAM_PAGES - 1 - FIRST_DATA)) << 12;

	return e | (chance(90) ? 1 : 0) | (chance(70) ? 2 : 0) | (chance(80) ? 4 : 0) |
	       (rng() & 0x60) | (chance(20) ? PTE_NX : 0) | random_key();
}

uint64_t random_large(void)
{
	return 0x81 | (rng() & 0x64) | (chance(20) ? PTE_NX : 0) | random_key();
}

void make_spaces(void)
{
	uint64_t *global = (uint64_t *)(board.ram + (GLOBAL_TABLE << 12));

	small_tables();
	for (unsigned i = FIRST_DATA << 12; i < RAM_SIZE; i += 8) {
		uint64_t val = rng();

		memcpy(board.ram + i, &val, 8);
	}
	for (unsigned n = 0; n < SPACES; n++) {
		/* Accessed, where global pages lie below: another space may have walked them. */
		space_page(n, 0)[0] = page_gpa(space_page(n, 1)) | 0x27;
		space_page(n, 1)[0] = page_gpa(space_page(n, 2)) | 0x27;
		space_page(n, 2)[0] = page_gpa(space_page(n, 3)) | 7;
		space_page(n, 2)[1] = random_large();
		space_page(n, 2)[2] = (GLOBAL_TABLE << 12) | 0x27;
		space_page(n, 2)[3] = 0x1a5;
		for (unsigned i = 0; i < 2 * SMALL; i++) {
			space_page(n, 3 + i / SMALL)[i % SMALL] = random_leaf();
		}
	}
	for (unsigned i = 0; i < SMALL; i++) {
		global[i] = random_leaf() | PTE_G;
	}
	memcpy(board.copy, board.ram, RAM_SIZE);
	v->cr4 |= CR4_PGE | CR4_PCIDE | CR4_PKE | CR4_PKS;
	v->cr3 = page_gpa(space_page(0, 0)) | 1;
	current_space = 0;
	mmu_flush_all(v);
}

void switch_space(unsigned n, bool keep)
{
	mmu_switch_pcid(v, current_space + 1, n + 1, keep);
	v->cr3 = page_gpa(space_page(n, 0)) | (n + 1);
	current_space = n;
}
