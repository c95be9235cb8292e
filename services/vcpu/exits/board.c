/* SPDX-License-Identifier: Apache-2.0 */
/* The board as a whole: its own regions, the local APICs' ties to their vCPUs, life and reset. */
#include "exits/board_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "irq/pmtimer.h"

static __thread struct cpu *current;

struct cpu *cpu_current(void)
{
	return current;
}

void cpu_set_current(struct cpu *c)
{
	current = c;
}

static void kick(struct cpu *c)
{
	if (c != current) {
		c->board->ops->kick(c->v);
		mobo_kick_vcpu(c->board->page, c->v->index);
	}
}

void cpu_signal(struct cpu *c, uint32_t bits)
{
	/* Bits that are set have been told of already. */
	if ((atomic_fetch_or(&c->v->req, bits) & bits) != bits) {
		kick(c);
	}
}

/*
 * A processor takes an NMI at once and keeps the next one until IRET. This thread may not be
 * running, so that two can come before the first is taken: neither is lost.
 */
static void signal_nmi(struct cpu *c)
{
	uint32_t req = atomic_load(&c->v->req), bit;

	do {
		bit = req & REQ_NMI ? REQ_NMI_2 : REQ_NMI;
	} while (!atomic_compare_exchange_weak(&c->v->req, &req, req | bit));
	kick(c);
}

/* -- Local APICs -- */

static struct cpu *apic_cpu(struct lapic *l)
{
	return MOBO_CONTAINER_OF(l, struct cpu, lapic);
}

static uint64_t apic_now(struct lapic *l)
{
	return board_now_ns(apic_cpu(l)->board);
}

static uint64_t apic_tsc(struct lapic *l)
{
	return board_guest_tsc(apic_cpu(l)->v);
}

static uint64_t apic_tsc_to_ns(struct lapic *l, uint64_t ticks)
{
	unsigned __int128 ns = (unsigned __int128)ticks * 1000000000 / apic_cpu(l)->board->tsc_hz;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static void apic_send(struct lapic *l, const struct apic_msg *m, enum lapic_to to)
{
	struct board *b = apic_cpu(l)->board;

	if (to == LAPIC_TO_DEST) {
		apic_bus_deliver(&b->apics, m);
		return;
	}
	if (to == LAPIC_TO_SELF) {
		lapic_accept(l, m);
		return;
	}
	for (unsigned i = 0; i < b->n_cpus; i++) {
		struct lapic *other = &b->cpu[i].lapic;

		if (lapic_hw_enabled(other) && (other != l || to == LAPIC_TO_ALL)) {
			lapic_accept(other, m);
		}
	}
}

bool board_send_ipi(struct vcpu *v, uint64_t apic_id, uint32_t icr)
{
	struct apic_msg m = {.dest = (uint32_t)apic_id,
			     .vector = (uint8_t)icr,
			     .mode = icr >> 8 & 7};

	return apic_id < APIC_MAX_CPUS && apic_bus_deliver(&v->board->apics, &m) > 0;
}

static void apic_eoi(struct lapic *l, uint8_t vector)
{
	struct board *b = apic_cpu(l)->board;

	board_irq_lock(b);
	ioapic_eoi(&b->ioapic, vector);
	board_irq_unlock(b);
}

static void apic_signal(struct lapic *l, enum lapic_signal what, uint8_t vector)
{
	struct cpu *c = apic_cpu(l);

	switch (what) {
	case LAPIC_SIGNAL_IRQ: cpu_signal(c, REQ_IRQ); break;
	case LAPIC_SIGNAL_NMI: signal_nmi(c); break;
	case LAPIC_SIGNAL_INIT: cpu_signal(c, REQ_INIT); break;
	case LAPIC_SIGNAL_STARTUP:
		atomic_store(&c->sipi_vector, vector);
		cpu_signal(c, REQ_SIPI);
		break;
	}
}

static void apic_timer_changed(struct lapic *l)
{
	if (apic_cpu(l) == current) {
		cpu_arm(current);
	}
}

static void apic_base_changed(struct lapic *l)
{
	struct cpu *c = apic_cpu(l);

	c->v->apic_base = atomic_load(&l->s.apic_base);
	if (atomic_load(&c->board->map) && c == current) {
		board_map_update(c->board, c->v);
	}
}

static const struct lapic_ops lapic_ops = {
	.now_ns = apic_now,
	.tsc = apic_tsc,
	.tsc_to_ns = apic_tsc_to_ns,
	.send = apic_send,
	.eoi = apic_eoi,
	.signal = apic_signal,
	.timer_changed = apic_timer_changed,
	.base_changed = apic_base_changed,
};

bool board_apic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	cpu_count(cpu_of(v), EXIT_APIC);
	return lapic_msr_read(&cpu_of(v)->lapic, msr, val);
}

bool board_apic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	cpu_count(cpu_of(v), EXIT_APIC);
	return lapic_msr_write(&cpu_of(v)->lapic, msr, val);
}

unsigned board_cr8_read(struct vcpu *v)
{
	return lapic_cr8_read(&cpu_of(v)->lapic);
}

void board_cr8_write(struct vcpu *v, unsigned val)
{
	lapic_cr8_write(&cpu_of(v)->lapic, val);
}

unsigned board_n_cpus(struct board *b)
{
	return b->n_cpus;
}

/* -- The board's own regions -- */

/* The chips are a byte wide: wider accesses are single ones, low byte first. */
static uint64_t pic_read(struct vcpu *v, uint16_t port, unsigned size)
{
	struct board *b = v->board;
	uint64_t val = 0;

	board_irq_lock(b);
	for (unsigned i = 0; i < size; i++) {
		val |= (uint64_t)i8259_read(&b->pic, (uint16_t)(port + i)) << i * 8;
	}
	board_irq_unlock(b);
	return val;
}

static void pic_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t val)
{
	struct board *b = v->board;

	board_irq_lock(b);
	for (unsigned i = 0; i < size; i++) {
		i8259_write(&b->pic, (uint16_t)(port + i), (uint8_t)(val >> i * 8));
	}
	board_irq_unlock(b);
}

static uint64_t pit_read(struct vcpu *v, uint16_t port, unsigned size)
{
	struct board *b = v->board;
	uint64_t now = board_irq_lock(b), val = 0;

	for (unsigned i = 0; i < size; i++) {
		val |= (uint64_t)i8254_read(&b->pit, (uint16_t)(port + i), now) << i * 8;
	}
	board_irq_unlock(b);
	return val;
}

static void pit_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t val)
{
	struct board *b = v->board;
	uint64_t now = board_irq_lock(b);

	for (unsigned i = 0; i < size; i++) {
		i8254_write(&b->pit, (uint16_t)(port + i), (uint8_t)(val >> i * 8), now);
	}
	board_irq_unlock(b);
}

#define AT_PORT(name, chip, port)                                                              \
	static uint64_t name##_read(struct vcpu *v, uint64_t offset, unsigned size)            \
	{                                                                                      \
		return chip##_read(v, (uint16_t)((port) + offset), size);                      \
	}                                                                                      \
	static void name##_write(struct vcpu *v, uint64_t offset, unsigned size, uint64_t val) \
	{                                                                                      \
		chip##_write(v, (uint16_t)((port) + offset), size, val);                       \
	}
AT_PORT(master, pic, 0x20)
AT_PORT(slave, pic, 0xa0)
AT_PORT(elcr, pic, 0x4d0)
AT_PORT(counters, pit, 0x40)
AT_PORT(port61, pit, 0x61)
#undef AT_PORT

static uint64_t pm_read(struct vcpu *v, uint64_t offset, unsigned size)
{
	return pmtimer_read(board_now_ns(v->board)) >> offset * 8;
}

static uint64_t ioapic_region_read(struct vcpu *v, uint64_t offset, unsigned size)
{
	struct board *b = v->board;
	uint32_t val;

	board_irq_lock(b);
	val = ioapic_read(&b->ioapic, (uint32_t)offset & ~3u);
	board_irq_unlock(b);
	return val >> (offset & 3) * 8;
}

static void ioapic_region_write(struct vcpu *v, uint64_t offset, unsigned size, uint64_t val)
{
	struct board *b = v->board;

	if (offset & 3) {
		return;
	}
	board_irq_lock(b);
	ioapic_write(&b->ioapic, (uint32_t)offset, (uint32_t)val);
	board_irq_unlock(b);
}

static uint64_t hpet_region_read(struct vcpu *v, uint64_t offset, unsigned size)
{
	struct board *b = v->board;
	uint64_t now = board_irq_lock(b), val;

	val = hpet_read(&b->hpet, (uint32_t)offset & ~7u, 8, now) >> (offset & 7) * 8;
	board_irq_unlock(b);
	return val;
}

static void hpet_region_write(struct vcpu *v, uint64_t offset, unsigned size, uint64_t val)
{
	struct board *b = v->board;
	uint64_t now;

	if (size < 4 || offset & (size - 1)) {
		return; /* the specification leaves narrower accesses undefined: 2.1 */
	}
	now = board_irq_lock(b);
	hpet_write(&b->hpet, (uint32_t)offset, size, val, now);
	board_irq_unlock(b);
}

/* FERR# reaches the 8259s as IRQ 13 and stays until port 0xf0 is written: 82371SB, 2.5.4. */
static void set_ferr(struct board *b, bool level)
{
	board_irq_lock(b);
	if (b->ferr != level) {
		b->ferr = level;
		b->isa_count[13] += level ? 1 : UINT32_MAX;
		board_isa_update(b, 13);
	}
	board_irq_unlock(b);
}

void board_ferr(struct vcpu *v)
{
	set_ferr(v->board, true);
}

static void ferr_write(struct vcpu *v, uint64_t offset, unsigned size, uint64_t val)
{
	set_ferr(v->board, false);
}

enum { PRIORITY_OWN = 254 };

static void add_chip(struct board *b, const char *name, enum mobo_region_kind kind, uint64_t base,
		     uint64_t len, uint64_t (*read)(struct vcpu *, uint64_t, unsigned),
		     void (*write)(struct vcpu *, uint64_t, unsigned, uint64_t))
{
	struct region *r = board_own_region(b, name, kind, base, len, PRIORITY_OWN);

	r->read = read;
	r->write = write;
}

static struct region *add_memory(struct board *b, const char *name, enum direct direct,
				 uint64_t base, uint64_t len, uint8_t *host)
{
	struct region *r = board_own_region(b, name, MOBO_REGION_MMIO, base, len, 0);

	r->direct = direct;
	r->host = host;
	return r;
}

/* Firmware ends at 4 GiB; its last 128 KiB are also below 1 MiB (82371SB, 2.3.2). */
static void add_rom(struct board *b)
{
	uint64_t low = MOBO_MIN(b->rom_len, 0x20000u);

	if (b->rom_len == 0) {
		return;
	}
	add_memory(b, "rom", DIRECT_ROM, (1ull << 32) - b->rom_len, b->rom_len, b->rom);
	add_memory(b, "rom-low", DIRECT_ROM, 0x100000 - low, low, b->rom + b->rom_len - low);
}

static void add_ram(struct board *b)
{
	uint64_t low = b->ram.low_len;

	add_memory(b, "ram", DIRECT_GUEST_RAM, 0, MOBO_MIN(low, 0xa0000u), b->ram.base);
	if (low > 0xa0000) {
		b->hidden_ram =
			add_memory(b, "ram-hidden", DIRECT_GUEST_RAM, 0xa0000,
				   MOBO_MIN(low, 0x100000u) - 0xa0000, b->ram.base + 0xa0000);
	}
	if (low > 0x100000) {
		add_memory(b, "ram-extended", DIRECT_GUEST_RAM, 0x100000, low - 0x100000,
			   b->ram.base + 0x100000);
	}
	if (b->ram.size > low) {
		add_memory(b, "ram-high", DIRECT_GUEST_RAM, 1ull << 32, b->ram.size - low,
			   b->ram.base + low);
	}
}

static void add_regions(struct board *b)
{
	add_chip(b, "pic-master", MOBO_REGION_PIO, 0x20, 2, master_read, master_write);
	add_chip(b, "pic-slave", MOBO_REGION_PIO, 0xa0, 2, slave_read, slave_write);
	add_chip(b, "elcr", MOBO_REGION_PIO, 0x4d0, 2, elcr_read, elcr_write);
	add_chip(b, "pit", MOBO_REGION_PIO, 0x40, 4, counters_read, counters_write);
	add_chip(b, "port61", MOBO_REGION_PIO, 0x61, 1, port61_read, port61_write);
	add_chip(b, "ferr", MOBO_REGION_PIO, 0xf0, 2, NULL, ferr_write);
	add_chip(b, "ioapic", MOBO_REGION_MMIO, IOAPIC_BASE, IOAPIC_LEN, ioapic_region_read,
		 ioapic_region_write);
	add_chip(b, "hpet", MOBO_REGION_MMIO, HPET_BASE, HPET_LEN, hpet_region_read,
		 hpet_region_write);
	add_chip(b, "pmtimer", MOBO_REGION_PIO, 0, 4, pm_read, NULL);
	b->pmtimer = &b->own[b->n_own - 1];
	b->pmtimer->decoded = false;
	add_rom(b);
	add_ram(b);
}

/* -- Life -- */

static int create_cpu(struct board *b, unsigned i)
{
	struct cpu *c = &b->cpu[i];
	struct vcpu *v = vcpu_new();

	if (!v) {
		return -ENOMEM;
	}
	v->index = i;
	v->board = b;
	v->paravirt = b->paravirt;
	v->lapic = &c->lapic;
	v->kick_summary = &b->page->kick.summary;
	v->look = &b->page->cpu[i].look;
	v->delivering = -1;
	c->v = v;
	c->board = b;
	c->outside = 1; /* until its thread runs */
	c->lapic.ops = &lapic_ops;
	c->lapic.s.timer_next_ns = UINT64_MAX;
	pthread_mutex_init(&c->sync_lock, NULL);
	b->apics.cpu[i] = &c->lapic;
	return 0;
}

void board_reset_chips(struct board *b)
{
	uint64_t now;

	pci_reset(b);
	set_ferr(b, false);
	now = board_irq_lock(b);
	i8259_reset(&b->pic);
	ioapic_reset(&b->ioapic);
	i8254_reset(&b->pit, now);
	hpet_reset(&b->hpet, now);
	board_irq_unlock(b);
	for (unsigned i = 0; i < b->n_cpus; i++) {
		lapic_reset(&b->cpu[i].lapic, i, false);
		atomic_fetch_and(&b->cpu[i].v->req, ~(uint32_t)(REQ_IRQ | REQ_NMI | REQ_NMI_2 |
								REQ_INIT | REQ_SIPI | REQ_TIMER));
	}
	board_map_update(b, NULL);
}

static unsigned host_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

int board_create(struct board **ret, const struct board_options *opt)
{
	struct board *b = calloc(1, sizeof(*b));
	int r = 0;

	MOBO_ASSERT(opt->n_cpus >= 1 && opt->n_cpus <= BOARD_CPUS);
	if (!b) {
		return -ENOMEM;
	}
	b->ops = opt->ops;
	b->page = opt->page;
	b->ram = opt->ram;
	b->codemap = opt->codemap;
	b->rom = opt->rom;
	b->rom_len = opt->rom_len;
	b->paravirt = opt->paravirt;
	b->verify = opt->verify;
	b->chaos = opt->chaos;
	b->n_cpus = b->apics.n = opt->n_cpus;
	b->page->kick.n_cpus = opt->n_cpus;
	pthread_mutex_init(&b->map_lock, NULL);
	pthread_mutex_init(&b->pci_lock, NULL);
	pthread_mutex_init(&b->irq_lock, NULL);
	pthread_mutex_init(&b->code_lock, NULL);
	pthread_mutex_init(&b->park_lock, NULL);
	pthread_cond_init(&b->park_cond, NULL);
	memset(b->pirq_route, 0x80, sizeof(b->pirq_route));
	b->host_cpus = host_cpus();
	b->paused = true;
	b->a20_open = true;
	b->chip_deadline_ns = UINT64_MAX;
	r = board_code_init(b);
	for (unsigned i = 0; i < b->n_cpus && r == 0; i++) {
		r = create_cpu(b, i);
	}
	if (r < 0) {
		board_destroy(b);
		return r;
	}
	board_time_init(b);
	board_clock_init(b);
	board_chips_init(b);
	add_regions(b);
	board_reset_chips(b);
	*ret = b;
	return 0;
}

void board_destroy(struct board *b)
{
	for (unsigned i = 0; i < BOARD_DEVICES; i++) {
		board_detach(b, i);
	}
	for (unsigned i = 0; i < b->n_cpus; i++) {
		vcpu_free(b->cpu[i].v);
	}
	board_finish_devices(b);
	map_free(atomic_load(&b->map));
	board_code_finish(b);
	free(b);
}
