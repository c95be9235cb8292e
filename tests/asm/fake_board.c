/* SPDX-License-Identifier: Apache-2.0 */
/* The board of the CPU's tests; see fake_board.h. */
#include "fake_board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "engine.h"
#include "execute/execute.h"

const struct mobo_engine_ops *fake_board_engine = &mobo_engine_interpreter;

int fake_board_init(struct board *b, uint64_t ram_size)
{
	memset(b, 0, sizeof(*b));
	b->ram_size = (ram_size + 4095) & ~4095ull;
	b->ram = mmap(NULL, b->ram_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->ram == MAP_FAILED) {
		return -ENOMEM;
	}
	b->code = calloc(b->ram_size >> 12, 1);
	if (!b->code) {
		munmap(b->ram, b->ram_size);
		return -ENOMEM;
	}
	b->irq = -1;
	return 0;
}

void fake_board_finish(struct board *b)
{
	for (unsigned n = 0; n < b->n_vcpus; n++) {
		fake_board_engine->vcpu_finish(b->vcpu[n]);
		vcpu_free(b->vcpu[n]);
	}
	free(b->code);
	munmap(b->ram, b->ram_size);
}

struct vcpu *fake_board_add_vcpu(struct board *b)
{
	struct vcpu *v;

	if (b->n_vcpus == FAKE_BOARD_VCPUS) {
		return NULL;
	}
	v = vcpu_new();
	if (!v) {
		return NULL;
	}
	v->board = b;
	v->index = b->n_vcpus;
	v->kick_summary = &b->summary;
	if (fake_board_engine->vcpu_init(v)) {
		vcpu_free(v);
		return NULL;
	}
	b->vcpu[b->n_vcpus++] = v;
	fake_board_engine->reset(v, false);
	return v;
}

void fake_board_raise(struct vcpu *v, int vector)
{
	v->board->irq = vector;
	vcpu_request(v, REQ_IRQ);
}

struct mem_run board_mem_lookup(struct board *b, uint64_t gpa)
{
	struct mem_run run = {gpa & ~4095ull, 4096, NULL, NULL};

	if (gpa < b->ram_size) {
		run = (struct mem_run){0, b->ram_size, b->ram, b->ram};
	} else if (b->rom && gpa - b->rom_gpa < b->rom_size) {
		run = (struct mem_run){b->rom_gpa, b->rom_size, b->rom, NULL};
	}
	return run;
}

uint64_t board_a20_mask(struct board *b)
{
	return b->a20_closed ? ~(1ull << 20) : ~0ull;
}

uint32_t board_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
	uint32_t ones = size == 4 ? 0xffffffff : (1u << size * 8) - 1;

	return v->board->pio_read ? v->board->pio_read(v->board, port, size) & ones : ones;
}

void board_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
	if (v->board->pio_write) {
		v->board->pio_write(v->board, port, size, val);
	}
}

unsigned board_pio_read_string(struct vcpu *v, uint16_t port, unsigned size, void *buf, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		uint32_t val = board_pio_read(v, port, size);

		memcpy((uint8_t *)buf + k * size, &val, size);
	}
	return n;
}

unsigned board_pio_write_string(struct vcpu *v, uint16_t port, unsigned size, const void *buf,
				unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		uint32_t val = 0;

		memcpy(&val, (const uint8_t *)buf + k * size, size);
		board_pio_write(v, port, size, val);
	}
	return n;
}

uint64_t board_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
	uint64_t ones = size == 8 ? ~0ull : (1ull << size * 8) - 1;

	return v->board->mmio_read ? v->board->mmio_read(v->board, gpa, size) & ones : ones;
}

void board_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t val)
{
	if (v->board->mmio_write) {
		v->board->mmio_write(v->board, gpa, size, val);
	}
}

bool board_irq_poll(struct vcpu *v)
{
	atomic_store(&v->board->summary, 0);
	return v->board->irq >= 0;
}

int board_irq_ack(struct vcpu *v)
{
	int vector = v->board->irq;

	v->board->irq = -1;
	v->board->n_acks += vector >= 0;
	return vector;
}

bool board_apic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	return false;
}

bool board_apic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	return false;
}

unsigned board_cr8_read(struct vcpu *v)
{
	return v->board->cr8;
}

void board_cr8_write(struct vcpu *v, unsigned val)
{
	v->board->cr8 = val & 15;
}

unsigned board_n_cpus(struct board *b)
{
	return b->n_vcpus ? b->n_vcpus : 1;
}

uint64_t board_tsc(struct board *b)
{
	return b->host_tsc ? __rdtsc() + b->tsc : b->tsc++;
}

bool board_tsc_offset(struct board *b, uint64_t *offset)
{
	if (b->host_tsc) {
		*offset = b->tsc;
	}
	return b->host_tsc;
}

uint64_t board_tsc_hz(struct board *b)
{
	return 1000000000;
}

uint64_t board_clock_ns(struct board *b)
{
	return b->clock_ns;
}

bool board_clock_set(struct board *b, uint64_t ns)
{
	b->clock_ns = ns;
	return true;
}

void board_clock_changed(struct vcpu *v)
{
	v->board->n_clock_changes++;
}

void board_clock_wall(struct vcpu *v, uint64_t gpa)
{
	v->board->wall_gpa = gpa;
}

bool board_send_ipi(struct vcpu *v, uint64_t apic_id, uint32_t icr)
{
	v->board->last_icr = icr;
	return apic_id < 2;
}

bool board_clock_pair(struct vcpu *v, uint64_t gpa)
{
	v->board->pair_gpa = gpa;
	return gpa < v->board->ram_size;
}

void board_code_page_add(struct vcpu *v, uint64_t gpa)
{
	struct board *b = v->board;

	if (gpa >= b->ram_size) {
		return;
	}
	b->code[gpa >> 12] = 1;
	for (unsigned n = 0; n < b->n_vcpus; n++) {
		if (b->vcpu[n] != v) {
			mmu_protect_code(b->vcpu[n], gpa);
		}
	}
}

/* One thread stores and decodes. */
bool board_code_lines_add(struct vcpu *v, uint64_t gpa, unsigned len)
{
	return false;
}

bool board_code_page(struct board *b, uint64_t gpa)
{
	return gpa < b->ram_size && b->code[gpa >> 12];
}

void board_code_written(struct vcpu *v, uint64_t gpa, unsigned len)
{
	struct board *b = v->board;

	b->n_code_writes++;
	if (b->forgets_code) { /* as the real one does where many stores come */
		b->code[gpa >> 12] = 0;
		gpa &= ~4095ull;
		len = 4096;
	}
	for (unsigned n = 0; n < b->n_vcpus; n++) {
		fake_board_engine->code_written(b->vcpu[n], gpa, len);
	}
}
