/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt wires. Devices keep levels, pulses and MSIs in their channel and set their bit in the
 * kick summary; whichever vCPU sees it first takes them in here. Several sources of one line are a
 * wired OR: counts. An ISA interrupt goes to the 8259 pair and to the I/O APIC input of its number,
 * IRQ 0 to input 2 (ACPI 6.4, 5.2.12.5); the 8259s' INTR goes to LINT0 of all local APICs and to
 * input 0 (MultiProcessor Specification 1.4, 3.6.2).
 */
#include "exits/board_internal.h"

/* -- Chips to CPUs -- */

/* I/O APIC input: whoever drives it, as GSI or as the ISA interrupt wired to it. */
static void set_pin(struct board *b, unsigned pin)
{
	unsigned irq = pin == 2 ? 0 : pin;
	bool isa = pin != 0 && irq < 16 && b->isa_level[irq];

	ioapic_set_irq(&b->ioapic, pin, isa || b->gsi_count[pin] > 0);
}

void board_isa_update(struct board *b, unsigned irq)
{
	bool level = b->isa_count[irq] > 0;

	if (irq == 8 && b->hpet_legacy) {
		level = false;
	}
	for (unsigned i = 0; i < 4; i++) {
		level |= b->pirq_route[i] == irq && b->pirq_count[i];
	}
	if (level != b->isa_level[irq] && irq != 2) {
		b->isa_level[irq] = level;
		i8259_set_irq(&b->pic, irq, level);
		set_pin(b, irq == 0 ? 2 : irq);
	}
}

static int isa_pulse(struct board *b, unsigned irq)
{
	int pic = i8259_pulse_irq(&b->pic, irq);
	int apic = ioapic_pulse_irq(&b->ioapic, irq == 0 ? 2 : irq);

	/* The 8259's INTR can be shut out at LINT0, and then nobody takes what it has pending. */
	if (pic == 0 && apic > 0) {
		return apic;
	}
	return pic > apic ? pic : apic;
}

static void gsi_set(struct board *b, unsigned gsi, bool level)
{
	if (gsi >= IOAPIC_PINS) {
		return;
	}
	b->gsi_count[gsi] += level ? 1 : UINT32_MAX;
	set_pin(b, gsi);
}

static void set_intr(struct board *b, bool level)
{
	atomic_store(&b->intr, level);
	for (unsigned i = 0; i < b->n_cpus; i++) {
		lapic_lint(&b->cpu[i].lapic, 0, level);
	}
	ioapic_set_irq(&b->ioapic, 0, level);
}

void board_intr_update(struct board *b)
{
	bool level = i8259_intr(&b->pic);

	if (level != atomic_load(&b->intr)) {
		set_intr(b, level);
	}
}

uint64_t board_irq_lock(struct board *b)
{
	pthread_mutex_lock(&b->irq_lock);
	return board_now_ns(b);
}

void board_irq_unlock(struct board *b)
{
	uint64_t deadline, old;

	board_intr_update(b);
	deadline = hpet_deadline(&b->hpet);
	if (!b->hpet_legacy) { /* else nobody sees the 8254's ticks: hpet_legacy() */
		deadline = MOBO_MIN(deadline, i8254_deadline(&b->pit));
	}
	old = atomic_exchange(&b->chip_deadline_ns, deadline);
	pthread_mutex_unlock(&b->irq_lock);
	/* The first vCPU's thread serves these timers. */
	if (deadline >= old) {
		return;
	}
	if (cpu_current() == &b->cpu[0]) {
		cpu_arm(&b->cpu[0]);
	} else {
		cpu_signal(&b->cpu[0], REQ_TIMER);
	}
}

bool board_irq_poll(struct vcpu *v)
{
	struct board *b = v->board;
	struct lapic *l = &cpu_of(v)->lapic;

	if (atomic_load_explicit(&b->page->kick.summary, memory_order_acquire)) {
		board_collect(b, v);
	}
	atomic_fetch_and(&v->req, ~(uint32_t)REQ_IRQ);
	if (lapic_pending(l) >= 0 || (atomic_load(&b->intr) && lapic_extint_open(l))) {
		vcpu_request(v, REQ_IRQ);
		return true;
	}
	return false;
}

static int extint_ack(struct board *b, struct lapic *l)
{
	int vector = -1;

	board_irq_lock(b);
	if (atomic_load(&b->intr)) {
		vector = i8259_ack(&b->pic);
		atomic_store(&l->s.extint, 0);
		/* INTR drops between acknowledge cycles: what is left makes a new edge. */
		set_intr(b, false);
	}
	board_irq_unlock(b);
	return vector;
}

int board_irq_ack(struct vcpu *v)
{
	struct board *b = v->board;
	struct lapic *l = &cpu_of(v)->lapic;
	int vector = -1;

	if (atomic_load(&b->intr) && lapic_extint_open(l)) {
		vector = extint_ack(b, l);
	}
	if (vector < 0) {
		vector = lapic_ack(l);
	}
	cpu_count(cpu_of(v), EXIT_IRQ);
	board_irq_poll(v);
	return vector;
}

/* -- Devices to chips -- */

/* What changed that takes a map update or a reset, done after `irq` is dropped. */
struct effects {
	bool a20;
	bool init;
};

static void set_line(struct board *b, struct device *d, struct mobo_line line, bool level,
		     struct effects *e)
{
	switch (line.kind) {
	case MOBO_LINE_ISA:
		b->isa_count[line.n & 15] += level ? 1 : UINT32_MAX;
		board_isa_update(b, line.n & 15);
		break;
	case MOBO_LINE_GSI: gsi_set(b, line.n, level); break;
	case MOBO_LINE_INTX:
		if (line.n < d->n_functions) {
			pci_set_intx(b, &d->fn[line.n], level);
		}
		break;
	case MOBO_LINE_NMI:
		b->nmi_count += level ? 1 : UINT32_MAX;
		for (unsigned i = 0; i < b->n_cpus; i++) {
			lapic_lint(&b->cpu[i].lapic, 1, b->nmi_count > 0);
		}
		break;
	case MOBO_LINE_A20:
		b->a20_count += level ? 1 : UINT32_MAX;
		e->a20 = true;
		break;
	case MOBO_LINE_INIT: e->init |= level; break;
	}
}

static void pulse_line(struct board *b, struct device *d, struct mobo_line line, struct effects *e)
{
	if (line.kind == MOBO_LINE_ISA && !b->isa_count[line.n & 15]) {
		if (line.n != 8 || !b->hpet_legacy) {
			isa_pulse(b, line.n & 15);
		}
		return;
	}
	if (line.kind == MOBO_LINE_GSI && line.n < IOAPIC_PINS && !b->gsi_count[line.n]) {
		ioapic_pulse_irq(&b->ioapic, line.n);
		return;
	}
	set_line(b, d, line, true, e);
	set_line(b, d, line, false, e);
}

static void take_in(struct board *b, struct device *d, struct effects *e)
{
	struct mobo_io_irq *irq = &d->io.ch->irq;
	uint64_t fell = atomic_load(&irq->fell) ? atomic_exchange(&irq->fell, 0) : 0;
	uint64_t level = atomic_load(&irq->level), changed = level ^ d->level;
	uint64_t edges = fell & level & d->level; /* low and high again since the last look */
	uint64_t pulse = atomic_load_explicit(&irq->pulse, memory_order_relaxed)
				 ? atomic_exchange(&irq->pulse, 0)
				 : 0;

	d->level = level;
	for (unsigned i = 0; i < d->n_lines; i++) {
		if (edges >> i & 1) {
			set_line(b, d, d->lines[i], false, e);
			set_line(b, d, d->lines[i], true, e);
		} else if (changed >> i & 1) {
			set_line(b, d, d->lines[i], level >> i & 1, e);
		}
		if (pulse >> i & 1) {
			pulse_line(b, d, d->lines[i], e);
		}
	}
}

static void take_msis(struct board *b, struct device *d)
{
	for (unsigned w = 0; w < MOBO_ARRAY_LEN(d->io.ch->irq.msi); w++) {
		_Atomic uint64_t *word = &d->io.ch->irq.msi[w];
		uint64_t bits;

		if (!atomic_load_explicit(word, memory_order_relaxed)) {
			continue;
		}
		bits = atomic_exchange(word, 0);
		while (bits) {
			pci_msi(b, d, w * 64 + (unsigned)__builtin_ctzll(bits));
			bits &= bits - 1;
		}
	}
}

static void apply(struct board *b, struct vcpu *self, const struct effects *e)
{
	bool open;

	if (e->a20) {
		open = b->n_a20 == 0 || b->a20_count > 0;
		if (atomic_exchange(&b->a20_open, open) != open) {
			board_sync(b, self, SYNC_MAP, 0, 0);
			if (self) {
				b->ops->map_changed(self);
			}
		}
	}
	if (e->init) {
		for (unsigned i = 0; i < b->n_cpus; i++) {
			cpu_signal(&b->cpu[i], REQ_INIT);
		}
	}
}

void board_collect_device(struct board *b, struct device *d, struct vcpu *self)
{
	struct effects e = {0};

	board_irq_lock(b);
	take_in(b, d, &e);
	take_msis(b, d);
	board_irq_unlock(b);
	apply(b, self, &e);
	if (atomic_load_explicit(&d->io.ch->dev.map_gen, memory_order_relaxed) != d->map_gen) {
		board_map_words(d, self);
	}
}

void board_collect(struct board *b, struct vcpu *self)
{
	uint32_t bits = atomic_exchange(&b->page->kick.summary, 0);

	if (bits & 1u << MOBO_KICK_DMA_CODE) {
		board_dma_code(b, self);
	}
	bits &= ~(1u << MOBO_KICK_DMA_CODE);
	while (bits) {
		unsigned slot = (unsigned)__builtin_ctz(bits);

		bits &= bits - 1;
		if (b->device[slot]) {
			board_collect_device(b, b->device[slot], self);
		}
		/* Slots beyond share the last bit. */
		for (unsigned i = MOBO_KICK_SLOTS; slot == MOBO_KICK_SLOTS - 1 && i < BOARD_DEVICES;
		     i++) {
			if (b->device[i]) {
				board_collect_device(b, b->device[i], self);
			}
		}
	}
}

void board_release_lines(struct board *b, struct device *d)
{
	struct effects e = {0};

	board_irq_lock(b);
	for (unsigned i = 0; i < d->n_lines; i++) {
		if (d->level >> i & 1) {
			set_line(b, d, d->lines[i], false, &e);
		}
		b->n_a20 -= d->lines[i].kind == MOBO_LINE_A20;
	}
	d->level = 0;
	board_irq_unlock(b);
	apply(b, NULL, &e);
}

/* -- Callbacks of the chips; under `irq` -- */

static int ioapic_out(void *arg, const struct apic_msg *m)
{
	return apic_bus_deliver(&((struct board *)arg)->apics, m);
}

static int pit_tick(void *arg)
{
	struct board *b = arg;

	return b->hpet_legacy ? -1 : isa_pulse(b, 0);
}

static void hpet_line(void *arg, bool isa, unsigned n, bool level)
{
	struct board *b = arg;

	if (!isa) {
		gsi_set(b, n, level);
	} else if (n == 0) {
		i8259_set_irq(&b->pic, 0, level);
		ioapic_set_irq(&b->ioapic, 2, level);
	} else {
		i8259_set_irq(&b->pic, n, level);
		ioapic_set_irq(&b->ioapic, n, level);
	}
}

static void hpet_pulse(void *arg, bool isa, unsigned n)
{
	struct board *b = arg;

	if (isa) {
		isa_pulse(b, n);
	} else {
		ioapic_pulse_irq(&b->ioapic, n);
	}
}

static void hpet_legacy(void *arg, bool on)
{
	struct board *b = arg;

	/* Ticks up to now go where all did that nobody waited for. */
	i8254_expire(&b->pit, board_now_ns(b));
	b->hpet_legacy = on;
	board_isa_update(b, 8);
}

void board_chips_init(struct board *b)
{
	b->ioapic.deliver = ioapic_out;
	b->ioapic.arg = b;
	b->pit.tick = pit_tick;
	b->pit.arg = b;
	b->hpet.line = hpet_line;
	b->hpet.pulse = hpet_pulse;
	b->hpet.legacy = hpet_legacy;
	b->hpet.arg = b;
}
