/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What system instructions and misses of the TLB cost: nanoseconds of this process's time for each
 * event, the instructions of the loop around it included. Usage: system_events [-t] [name]; -t:
 * translated, not interpreted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../asm/system_rig.h"

enum {
	ROUNDS = 7,
	PAGES = 128, /* touched by the events that say so */
	PML4_B = 0x40000,
	PDPT = 0x41000,
	PD = 0x42000,
	PT = 0x43000,
	TOUCHED = 0x40000000, /* 1 GB: PAGES small pages */
	UNMAPPED = 0x7f000000,
};

static struct rig rig;

/* One kind of event: the code of one round of the loop, whose counter is R15. */
struct event {
	const char *name;
	unsigned cpl;
	unsigned n; /* events in one round */
	const char *code;
	unsigned len;
};

#define CODE(bytes) bytes, sizeof(bytes) - 1
/* RDX = TOUCHED, ECX = PAGES; read or store one byte in each page. */
#define TOUCH(insn) "\xba\0\0\0\x40\xb9\x80\0\0\0" insn "\x48\x81\xc2\0\x10\0\0\xff\xc9\x75\xf3"
#define LOAD	    "\x84\x02"
#define STORE	    "\x88\x02"

static const struct event events[] = {
	{"loop", 0, 1, CODE("\x90")},
	{"syscall+sysret", 3, 1, CODE("\x0f\x05")},
	{"int+iret (ring 3)", 3, 1, CODE("\xcd\x80")},
	{"int+iret (ring 0)", 0, 1, CODE("\xcd\x80")},
	{"page fault+iret (ring 3)", 3, 1, CODE("\x8a\x04\x25\0\0\0\x7f")},
	{"swapgs", 0, 2, CODE("\x0f\x01\xf8\x0f\x01\xf8")},
	{"cli+sti", 0, 1, CODE("\xfa\xfb\x90")},
	{"stac+clac", 0, 1, CODE("\x0f\x01\xcb\x0f\x01\xca")},
	{"pushfq+popfq", 0, 1, CODE("\x9c\x9d")},
	{"mov cr3", 0, 1, CODE("\x0f\x22\xd8")},
	{"invlpg", 0, 1, CODE("\x0f\x01\x3a")},
	{"128 loads", 0, PAGES, CODE(TOUCH(LOAD))},
	{"mov cr3, 128 loads", 0, PAGES, CODE("\x0f\x22\xd8" TOUCH(LOAD))},
	{"mov cr3, 128 stores", 0, PAGES, CODE("\x0f\x22\xd8" TOUCH(STORE))},
	{"2 PCIDs, 128 loads", 0, PAGES, CODE("\x0f\x22\xd8\x48\x93" TOUCH(LOAD))},
	{"store beside code", 0, 1, CODE("\x89\x04\x25\0\x08\x02\0")},
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void map_touched(struct rig *r)
{
	rig_poke64(r, PML4_B, (PDPT) | 7);
	rig_poke64(r, PDPT, (RIG_PAGES + 0x2000) | 7);
	rig_poke64(r, PDPT + 8, PD | 7);
	rig_poke64(r, PD, PT | 7);
	for (unsigned i = 0; i < PAGES; i++) {
		rig_poke64(r, PT + i * 8, (0x100000 + i * 4096) | 0x67);
	}
	rig_poke64(r, RIG_PAGES, PDPT | 7);
}

static void poke_code(struct rig *r, uint32_t gpa, const void *code, unsigned len)
{
	memcpy(r->board.ram + gpa, code, len);
}

static void set_up(struct rig *r, const struct event *e, uint64_t n)
{
	struct vcpu *v = r->v;
	uint32_t at = RIG_INSN;
	int8_t back = (int8_t) - (int)(e->len + 5);

	rig_enter(r, true, e->cpl);
	memset(r->board.ram + RIG_HANDLER, 0xf4, 256 * 16);
	poke_code(r, RIG_HANDLER + 0x80 * 16, "\x48\xcf", 2);
	/* add rsp, 8; add qword [rsp], 7; iretq */
	poke_code(r, RIG_HANDLER + VEC_PF * 16, "\x48\x83\xc4\x08\x48\x83\x04\x24\x07\x48\xcf", 11);
	poke_code(r, 0x3e000, "\x48\x0f\x07", 3);
	poke_code(r, at, e->code, e->len);
	/* dec r15; jnz to the first; int 40 */
	poke_code(r, at + e->len, "\x49\xff\xcf\x75", 4);
	poke_code(r, at + e->len + 4, &back, 1);
	poke_code(r, at + e->len + 5, "\xcd\x40", 2);
	map_touched(r);
	r->engine->map_changed(v);
	r->engine->code_written(v, 0, RIG_RAM);
	v->cr4 |= CR4_PCIDE | CR4_PGE | CR4_SMAP;
	v->cr0 |= CR0_WP;
	v->lstar = 0x3e000;
	v->star = (uint64_t)(RIG_CODE64) << 32 | (uint64_t)(RIG_DATA + 3 * 8 - 8 + 3) << 48;
	v->gpr[R15] = n;
	v->gpr[RDX] = TOUCHED;
	v->gpr[RAX] = RIG_PAGES | (e->code[3] == '\x48' ? 1ull << 63 | 1 : 0);
	v->gpr[RBX] = PML4_B | 1ull << 63 | 2;
	v->cr3 = RIG_PAGES;
	if (strchr("2", e->name[0])) {
		rig_poke64(r, PML4_B, PDPT | 7);
	}
	/* Ring 0 runs with user pages mapped everywhere: no SMAP but for the cost of its switch. */
	v->cr4 &= ~(uint64_t)CR4_SMAP;
	v->rip = RIG_INSN;
	v->insn = NULL;
	v->halted = v->wait_sipi = false;
	mmu_flush_all(v);
	vcpu_update_mode(v);
}

static double run(struct rig *r, const struct event *e, uint64_t n)
{
	double start;

	set_up(r, e, n);
	start = now();
	if (r->engine->run(r->v) != MOBO_EXIT_HALT || r->v->rip != RIG_HANDLER + 0x40 * 16 + 1) {
		printf("%s: stopped at %llx\n", e->name, (unsigned long long)r->v->rip);
		exit(1);
	}
	return now() - start;
}

static void measure(struct rig *r, const struct event *e)
{
	uint64_t n = e->n > 2 ? 4000 : 200000;
	double best = 1e18;

	for (unsigned i = 0; i < ROUNDS; i++) {
		double t = run(r, e, n) / (double)(n * e->n);

		best = t < best ? t : best;
	}
	printf("%-26s %8.1f ns\n", e->name, best);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "-t")) {
		fake_board_engine = &mobo_engine_translator;
		argc--;
		argv++;
	}
	if (rig_init(&rig)) {
		return 2;
	}
	rig_tables(&rig, true);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (argc < 2 || strstr(events[i].name, argv[1])) {
			measure(&rig, &events[i]);
		}
	}
	fake_board_finish(&rig.board);
	return 0;
}
