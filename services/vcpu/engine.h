/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine: what makes guest instructions happen. The interpreter, the translator and KVM are one
 * mobo_engine_ops each; nothing outside an engine's own folder asks which one runs.
 */
#ifndef VCPU_ENGINE_H
#define VCPU_ENGINE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vcpu;
struct board;

/*
 * The architectural state of one vCPU in KVM's layout, so that a machine can change engines while
 * it runs. msrs[] lists every MSR of mobo_cpu_state_msrs[] in its order. `clock` is the machine's,
 * the same in the states of all its vCPUs; it and the TSC are set only while the machine stands,
 * after its virtual clock.
 */
enum { MOBO_CPU_STATE_MSRS = 96 };

struct mobo_cpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	struct kvm_xsave xsave;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_clock_data clock;
	uint32_t n_msrs;
	struct kvm_msr_entry msrs[MOBO_CPU_STATE_MSRS];
};

/* Why run() came back. */
enum mobo_exit {
	MOBO_EXIT_REQUEST,  /* vcpu.req & vcpu.req_mask, or devices kicked: service and run again */
	MOBO_EXIT_HALT,	    /* HLT or MWAIT: sleep until an event, then run again */
	MOBO_EXIT_SHUTDOWN, /* triple fault */
	MOBO_EXIT_DEBUG,    /* stopped for a debugger: vcpu.debug.stop; clear REQ_DEBUG */
};

/* A piece of guest code that an engine keeps in its own form, entered at its first byte. */
struct mobo_engine_block {
	uint64_t lin;		      /* linear address of the first byte, at its last entry */
	uint64_t gpa;		      /* guest-physical */
	uint64_t count;		      /* entries, while they were counted */
	uint64_t host;		      /* address of its host code; 0: the engine makes none */
	uint32_t guest_len, host_len; /* bytes */
};

/* The instruction at guest_off of a block begins at host_off of its host code. */
struct mobo_engine_mark {
	uint32_t guest_off, host_off;
};

enum { MOBO_TRANSLATION_HOST = 16384, MOBO_TRANSLATION_MARKS = 512 };

struct mobo_engine_translation {
	struct mobo_engine_block block;
	uint8_t host[MOBO_TRANSLATION_HOST]; /* the first host_len bytes are valid */
	unsigned n_marks;
	struct mobo_engine_mark marks[MOBO_TRANSLATION_MARKS]; /* ascending */
};

/* What an engine does for debuggers. All on the vCPU's thread, between runs or, as map_changed(),
 * within an access; step() between runs. */
struct mobo_engine_debug {
	/* vcpu.debug's points changed: obey the new ones from the next run on. */
	void (*changed)(struct vcpu *v);
	/* Sets vcpu.debug.step: the next run ends behind one instruction. Or clears it. */
	void (*step)(struct vcpu *v, bool on);
	/* Entries of blocks are counted from now on (from 0), or no longer. May be NULL. */
	void (*count)(struct vcpu *v, bool on);
	/* The blocks entered most often, most first; their number. NULL with count(). */
	unsigned (*hot_blocks)(struct vcpu *v, struct mobo_engine_block *out, unsigned max);
	/* The block that holds the instruction at lin. 0, or -ENOENT: there is none. NULL: the
	 * engine makes no host code. */
	int (*translation)(struct vcpu *v, uint64_t lin, struct mobo_engine_translation *out);
};

struct mobo_engine_ops {
	const char *name;
	/* NULL: usable; else why this host cannot run it, for `mobo show` and `mobo doctor`. */
	const char *(*unusable)(void);
	/* Per vCPU, on the vCPU's thread. 0 or -errno. */
	int (*vcpu_init)(struct vcpu *v);
	void (*vcpu_finish)(struct vcpu *v);
	/*
	 * Self-checks, for those who work on it: `verify`, compares what it does with another
	 * engine and aborts at a difference, one vCPU only; `chaos`, a seed or 0, upsets what it
	 * keeps at any time. Thread as above, between runs. NULL: it has none. 0 or -errno.
	 */
	int (*check)(struct vcpu *v, bool verify, uint64_t chaos);
	/* Power-on state, SDM vol. 3 table 9-1; INIT keeps what INIT keeps. vCPU's thread. */
	void (*reset)(struct vcpu *v, bool init);
	/* Runs guest code until an exit. Blocks for as long as the guest computes. vCPU's thread.
	 */
	enum mobo_exit (*run)(struct vcpu *v);
	/* Makes a running vCPU look at vcpu.req soon. Any thread. */
	void (*kick)(struct vcpu *v);
	/* vCPU's thread, between runs. */
	void (*get_state)(struct vcpu *v, struct mobo_cpu_state *s);
	int (*set_state)(struct vcpu *v, const struct mobo_cpu_state *s);
	/* The memory map or A20 changed: drop what depends on it. vCPU's thread. */
	void (*map_changed)(struct vcpu *v);
	/* Bytes of RAM changed other than by v's own stores. vCPU's thread. */
	void (*code_written)(struct vcpu *v, uint64_t gpa, uint64_t len);
	/* Code first decoded from this page by another vCPU: report v's stores to it. vCPU's
	 * thread. */
	void (*code_protect)(struct vcpu *v, uint64_t gpa);
	/*
	 * It calls board_code_page_add() each time it decodes from a page, not only the first: the
	 * board may then stop reporting stores to a page whose code it had dropped.
	 */
	bool readds_code;
	/* It calls board_code_lines_add(); code_written() hears of stores to those lines only. */
	bool marks_lines;
	const struct mobo_engine_debug *debug; /* NULL: cannot be debugged */
};

extern const struct mobo_engine_ops mobo_engine_interpreter, mobo_engine_translator;

#endif
