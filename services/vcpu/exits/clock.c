/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's paravirtual clock: Linux, Documentation/virt/kvm/x86/msr.rst (MSR_KVM_SYSTEM_TIME_NEW and
 * MSR_KVM_WALL_CLOCK_NEW), hypercalls.rst (KVM_HC_CLOCK_PAIRING).
 *
 * A vCPU's page tells how to make nanoseconds of its TSC:
 *
 *   ns = system_time + ((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul / 2^32
 *
 * For the whole life of a board that is one line, through (origin_tsc, origin_ns). A pause stops
 * the TSC and with it this clock, so pages need writing only where a guest asked for one or moved
 * its TSC, after a state was set, and at each start for RAM that was loaded meanwhile. The vCPUs'
 * clocks are one as long as nothing but their own TSC offset tells them apart; a guest may use the
 * first CPU's page on all of them while STABLE says that these offsets are equal.
 */
#include <string.h>
#include <x86intrin.h>

#include "exits/board_internal.h"

enum { SYSTEM_TIME_ENABLE = 1, PVCLOCK_TSC_STABLE = 1 };

struct pvclock_page {
	uint32_t version; /* odd: being written */
	uint32_t pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad1[2];
};
_Static_assert(sizeof(struct pvclock_page) == 32, "as guests know it");

struct pvclock_wall {
	uint32_t version, sec, nsec;
};

struct clock_pairing {
	int64_t sec, nsec;
	uint64_t tsc;
	uint32_t flags, pad[9];
};
_Static_assert(sizeof(struct clock_pairing) == 64, "as guests know it");

/* -- The line -- */

/* mul in [2^31, 2^32) for the greatest precision. */
void clock_scale_init(struct clock_scale *s, uint64_t hz)
{
	uint64_t ticks = hz;

	s->shift = 0;
	while (ticks > 2000000000) {
		ticks >>= 1;
		s->shift--;
	}
	while (ticks <= 1000000000) {
		ticks <<= 1;
		s->shift++;
	}
	s->mul = (uint32_t)((1000000000ull << 32) / ticks);
}

uint64_t clock_scale(const struct clock_scale *s, uint64_t ticks)
{
	ticks = s->shift < 0 ? ticks >> -s->shift : ticks << s->shift;
	return (uint64_t)((unsigned __int128)ticks * s->mul >> 32);
}

static uint64_t ns_at(const struct board *b, uint64_t tsc)
{
	return b->clock.origin_ns + clock_scale(&b->clock.scale, tsc - b->clock.origin_tsc);
}

uint64_t board_clock_ns(struct board *b)
{
	return ns_at(b, board_tsc(b));
}

void board_clock_init(struct board *b)
{
	pthread_mutex_init(&b->clock.lock, NULL);
	clock_scale_init(&b->clock.scale, b->tsc_hz);
	b->clock.origin_tsc = board_tsc(b);
	b->clock.origin_ns = board_now_ns(b);
}

/* -- Pages -- */

/* Host memory of len bytes of RAM, or NULL. */
static void *ram_at(struct board *b, uint64_t gpa, uint64_t len)
{
	uint64_t first = mobo_ram_offset(&b->ram, gpa),
		 last = mobo_ram_offset(&b->ram, gpa + len - 1);

	return first != UINT64_MAX && last == first + len - 1 ? b->ram.base + first : NULL;
}

/* As a device does after DMA: decoded instructions of these bytes are dropped. */
static void ram_stored(struct board *b, const void *p, uint64_t len)
{
	_Atomic uint64_t *dirty = mobo_code_map_dirty(b->codemap);
	uint64_t offset = (uint64_t)((const uint8_t *)p - b->ram.base);
	bool any = false;

	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t page = offset >> 12; page <= (offset + len - 1) >> 12; page++) {
		uint64_t bit = 1ull << (page & 63);

		if (atomic_load(&b->codemap->bits[page / 64]) & bit) {
			atomic_fetch_or(&dirty[page / 64], bit);
			any = true;
		}
	}
	if (any) {
		mobo_kick(b->page, 1u << MOBO_KICK_DMA_CODE);
	}
}

/* Stores *src at p, whose first word is a version; the guest sees all of it or an odd version. */
static void store_versioned(struct board *b, void *p, const void *src, size_t len)
{
	uint32_t version;

	memcpy(&version, p, sizeof(version));
	version |= 1;
	memcpy(p, &version, sizeof(version));
	atomic_thread_fence(memory_order_seq_cst);
	memcpy((uint8_t *)p + sizeof(version), (const uint8_t *)src + sizeof(version),
	       len - sizeof(version));
	atomic_thread_fence(memory_order_seq_cst);
	version++;
	memcpy(p, &version, sizeof(version));
	ram_stored(b, p, len);
}

/* These with clock.lock held. */

static bool offsets_are_equal(const struct board *b)
{
	for (unsigned i = 1; i < b->n_cpus; i++) {
		if (b->cpu[i].clock.tsc_offset != b->cpu[0].clock.tsc_offset) {
			return false;
		}
	}
	return true;
}

static void publish(struct cpu *c)
{
	struct board *b = c->board;
	struct pvclock_page page = {
		.tsc_timestamp = b->clock.origin_tsc + c->clock.tsc_offset,
		.system_time = b->clock.origin_ns,
		.tsc_to_system_mul = b->clock.scale.mul,
		.tsc_shift = b->clock.scale.shift,
		.flags = offsets_are_equal(b) ? PVCLOCK_TSC_STABLE : 0,
	};
	void *p = ram_at(b, c->clock.system_time & ~(uint64_t)SYSTEM_TIME_ENABLE, sizeof(page));

	if (c->clock.system_time & SYSTEM_TIME_ENABLE && p) {
		store_versioned(b, p, &page, sizeof(page));
	}
}

static void publish_all(struct board *b)
{
	for (unsigned i = 0; i < b->n_cpus; i++) {
		publish(&b->cpu[i]);
	}
}

static void take(struct cpu *c)
{
	c->clock.system_time = c->v->kvm_system_time;
	c->clock.tsc_offset = c->v->tsc_offset;
}

/* -- What moves it -- */

void board_clock_changed(struct vcpu *v)
{
	struct cpu *c = cpu_of(v);
	struct board *b = c->board;
	bool moved;

	pthread_mutex_lock(&b->clock.lock);
	moved = c->clock.tsc_offset != v->tsc_offset;
	take(c);
	if (moved) {
		publish_all(b); /* STABLE of all of them may have changed */
	} else {
		publish(c);
	}
	pthread_mutex_unlock(&b->clock.lock);
	if (moved) {
		lapic_timer_tsc_moved(&c->lapic);
	}
}

void board_clock_started(struct board *b)
{
	pthread_mutex_lock(&b->clock.lock);
	for (unsigned i = 0; i < b->n_cpus; i++) {
		take(&b->cpu[i]);
	}
	publish_all(b);
	pthread_mutex_unlock(&b->clock.lock);
}

bool board_clock_set(struct board *b, uint64_t ns)
{
	if (atomic_load(&b->tsc_running)) {
		return false;
	}
	pthread_mutex_lock(&b->clock.lock);
	b->clock.origin_tsc = b->tsc_frozen;
	b->clock.origin_ns = ns;
	b->tsc_frozen_ns = board_now_ns(b);
	pthread_mutex_unlock(&b->clock.lock);
	return true;
}

/* -- The world's time -- */

/* The host's wall clock and the board's TSC of one moment. */
static struct timespec wall_now(struct board *b, uint64_t *tsc)
{
	struct timespec wall;
	uint64_t before = board_tsc(b);

	clock_gettime(CLOCK_REALTIME, &wall);
	*tsc = before + (board_tsc(b) - before) / 2;
	return wall;
}

void board_clock_wall(struct vcpu *v, uint64_t gpa)
{
	struct board *b = v->board;
	uint64_t tsc, ns;
	struct timespec now = wall_now(b, &tsc);
	struct pvclock_wall wall = {0};
	void *p = ram_at(b, gpa, sizeof(wall));

	if (p) {
		ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec - ns_at(b, tsc);
		wall.sec = (uint32_t)(ns / 1000000000);
		wall.nsec = (uint32_t)(ns % 1000000000);
		store_versioned(b, p, &wall, sizeof(wall));
	}
}

bool board_clock_pair(struct vcpu *v, uint64_t gpa)
{
	struct board *b = v->board;
	struct clock_pairing pair = {0};
	void *p = ram_at(b, gpa, sizeof(pair));
	struct timespec now = wall_now(b, &pair.tsc);

	if (!p) {
		return false;
	}
	pair.sec = now.tv_sec;
	pair.nsec = now.tv_nsec;
	pair.tsc += v->tsc_offset;
	memcpy(p, &pair, sizeof(pair));
	ram_stored(b, p, sizeof(pair));
	return true;
}
