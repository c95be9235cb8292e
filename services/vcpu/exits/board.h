/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What leaves the CPU: the memory map, port and memory-mapped I/O, interrupt acknowledge, time.
 * Engines know the rest of the machine through this header alone; in unit tests a fake board
 * stands behind it. All functions are called on the vCPU's own thread unless said otherwise.
 */
#ifndef VCPU_EXITS_BOARD_H
#define VCPU_EXITS_BOARD_H

#include "cpu.h"

/*
 * One page-aligned run of the guest-physical map. r and w are host pointers to its first byte, or
 * NULL: reads (writes) of it are I/O. ROM has r and no w. A fetch needs r.
 */
struct mem_run {
	uint64_t gpa, len;
	uint8_t *r, *w;
};

/*
 * The run that holds gpa, as of now. Never fails: a hole is a run with r == w == NULL. When the
 * map changes (a BAR moves, a PAM register, A20), the board flushes every vCPU's TLB.
 */
struct mem_run board_mem_lookup(struct board *b, uint64_t gpa);

/* Physical-address mask: clears bit 20 while the A20 gate is closed. */
uint64_t board_a20_mask(struct board *b);

/* Port I/O; size 1, 2, 4. Unclaimed ports read as all ones. */
uint32_t board_pio_read(struct vcpu *v, uint16_t port, unsigned size);
void board_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val);
/* String forms: n elements to or from buf (n * size <= 4096). Return the elements moved, >= 1. */
unsigned board_pio_read_string(struct vcpu *v, uint16_t port, unsigned size, void *buf, unsigned n);
unsigned board_pio_write_string(struct vcpu *v, uint16_t port, unsigned size, const void *buf,
				unsigned n);

/* Memory-mapped I/O; size 1, 2, 4, 8, not crossing a page. */
uint64_t board_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size);
void board_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t val);

/*
 * Interrupts. board_irq_poll() takes in what devices signalled (kick summary) and says whether a
 * vector could be delivered to v now, TPR considered; board_irq_ack() acknowledges the highest and
 * returns its vector, or -1. Both may be called with IF=0, they do not look at it.
 */
bool board_irq_poll(struct vcpu *v);
int board_irq_ack(struct vcpu *v);

/* Local APIC through MSRs and CR8. Return false where the access must raise #GP. */
bool board_apic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool board_apic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
/* TPR bits 7:4, as CR8 shows them. */
unsigned board_cr8_read(struct vcpu *v);
void board_cr8_write(struct vcpu *v, unsigned val);

/*
 * FERR#: an unmasked x87 exception with CR0.NE clear, for IRQ 13. Raised again by every x87
 * instruction that waits, until the guest clears the exception. A board without it gives #MF.
 */
__attribute__((weak)) void board_ferr(struct vcpu *v);

/* Number of vCPUs of the machine, at least 1. */
unsigned board_n_cpus(struct board *b);

/* The local APIC timer's clock at divide by 1, as CPUID tells guests. */
#define BOARD_APIC_TIMER_HZ 1000000000u

/* The guest's time-stamp counter, before vcpu.tsc_offset; frozen while the machine is paused. */
uint64_t board_tsc(struct board *b);
/*
 * True: while vCPUs run it is the host's plus *offset, which does not change before they are
 * parked. False, *offset untouched: it is something else.
 */
bool board_tsc_offset(struct board *b, uint64_t *offset);
uint64_t board_tsc_hz(struct board *b);

/*
 * KVM's clock: nanoseconds that the machine has run, a linear function of the TSC that stands while
 * the machine is paused. board_clock_set() sets it together with the TSC of a saved state; while
 * the machine runs its time goes on and nothing is set (false).
 */
uint64_t board_clock_ns(struct board *b);
bool board_clock_set(struct board *b, uint64_t ns);
/* vcpu.tsc_offset or kvm_system_time changed: the page that the latter names, and timers. */
void board_clock_changed(struct vcpu *v);
/* Stores the wall-clock time at which the clock was 0 at gpa (MSR_KVM_WALL_CLOCK). */
void board_clock_wall(struct vcpu *v, uint64_t gpa);
/* Stores the host's wall clock and the guest's TSC of now at gpa. False: not RAM. */
bool board_clock_pair(struct vcpu *v, uint64_t gpa);
/* Sends what the low half of an ICR says (vector and mode) to one APIC ID. Did one accept it? */
bool board_send_ipi(struct vcpu *v, uint64_t apic_id, uint32_t icr);

/*
 * Code tracking. A page's first decoded instruction calls board_code_page_add(), which makes every
 * other vCPU and device report writes to it (mmu_protect_code() on the other vCPUs has happened
 * when it returns). board_code_page() is the test on the store path. A store that hits such a page
 * calls board_code_written(): drops decoded instructions of that range on all vCPUs, on the caller
 * at once, on others before their next trace. len does not cross a page.
 *
 * An engine with marks_lines calls board_code_lines_add() for the bytes that it decoded, in a page
 * it has added. True: other processors may have stored there before the call without telling: read
 * them again, and drop what was decoded if they differ. Stores to other lines then are not
 * reported.
 */
void board_code_page_add(struct vcpu *v, uint64_t gpa);
bool board_code_lines_add(struct vcpu *v, uint64_t gpa, unsigned len);
bool board_code_page(struct board *b, uint64_t gpa);
void board_code_written(struct vcpu *v, uint64_t gpa, unsigned len);

#endif
