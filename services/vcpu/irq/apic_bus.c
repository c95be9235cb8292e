/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery of interrupt messages to local APICs: Intel SDM volume 3, 10.6.2 and 10.11. */
#include "irq/lapic.h"

/* Lowest-priority mode: the matching CPU with the lowest processor priority, 10.6.2.4. */
static int deliver_lowest(struct apic_bus *bus, const struct apic_msg *m)
{
	unsigned turn = atomic_fetch_add_explicit(&bus->turn, 1, memory_order_relaxed);
	struct lapic *best = NULL;
	unsigned best_priority = 256;

	for (unsigned i = 0; i < bus->n; i++) {
		struct lapic *l = bus->cpu[(turn + i) % bus->n];

		if (lapic_matches(l, m) && lapic_sw_enabled(l) &&
		    lapic_priority(l) < best_priority) {
			best = l;
			best_priority = lapic_priority(l);
		}
	}
	return best ? lapic_accept(best, m) : -1;
}

int apic_bus_deliver(struct apic_bus *bus, const struct apic_msg *m)
{
	int result = -1;

	if (m->mode == APIC_LOWEST) {
		return deliver_lowest(bus, m);
	}
	for (unsigned i = 0; i < bus->n; i++) {
		if (lapic_matches(bus->cpu[i], m)) {
			int rc = lapic_accept(bus->cpu[i], m);

			result = rc > result ? rc : result;
		}
	}
	return result;
}

struct apic_msg apic_msi_decode(uint64_t gpa, uint32_t data)
{
	return (struct apic_msg){
		.dest = (uint32_t)(gpa >> 12 & 0xff),
		.logical = gpa & 1 << 2,
		.vector = (uint8_t)data,
		.mode = (enum apic_mode)(data >> 8 & 7),
		.level = data & 1 << 15 && (data >> 8 & 7) <= APIC_LOWEST,
	};
}
