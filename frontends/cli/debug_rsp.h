/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GDB remote serial protocol, from the stub's side: bytes in, bytes out, a target behind a
 * table of functions. debug_rsp.c frames packets, debug_command.c does what they ask,
 * debug_target.c knows the registers. No descriptors and no bus: debug_gdb.c has those. GDB manual,
 * appendix E.
 *
 * Every CPU is a thread, number + 1. All-stop: while the machine runs only an interruption is
 * expected of gdb. One thread.
 */
#ifndef CLI_DEBUG_RSP_H
#define CLI_DEBUG_RSP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	RSP_PACKET = 0x4000, /* bytes of a packet's content, as PacketSize says */
	RSP_POINTS = 64,
	RSP_XSAVE = 832, /* legacy region, header, AVX */
	RSP_XML = 16384,
};

/* What gdb sees of a CPU. */
struct rsp_regs {
	uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8..r15 */
	uint64_t rip, rflags, fs_base, gs_base;
	uint32_t selector[6]; /* cs ss ds es fs gs */
	uint64_t system[7];   /* kernel_gs_base cr0 cr2 cr3 cr4 cr8 efer */
	uint8_t xsave[RSP_XSAVE];
};

enum rsp_kind { RSP_BREAKPOINT, RSP_HW_BREAKPOINT, RSP_WRITE, RSP_READ, RSP_ACCESS };
struct rsp_point {
	enum rsp_kind kind;
	uint64_t address;
	uint32_t len;
};

enum rsp_stop { RSP_STOP_INTERRUPT, RSP_STOP_STEP, RSP_STOP_BREAKPOINT, RSP_STOP_WATCHPOINT };

/* All return 0 or more, or -errno. Addresses are linear. */
struct rsp_target {
	int (*get_regs)(void *arg, unsigned cpu, struct rsp_regs *r);
	int (*set_regs)(void *arg, unsigned cpu, const struct rsp_regs *r);
	ssize_t (*read)(void *arg, unsigned cpu, uint64_t address, void *buf, size_t len);
	int (*write)(void *arg, unsigned cpu, uint64_t address, const void *buf, size_t len);
	/* In place of all earlier ones. */
	int (*points)(void *arg, const struct rsp_point *points, unsigned n);
	/* Both let the machine go; the target calls rsp_stopped() when it stops, be it at once. */
	int (*resume)(void *arg);
	/* One instruction of one CPU; `alone`: the others stand. */
	int (*step)(void *arg, unsigned cpu, bool alone);
	int (*interrupt)(void *arg);
	/* Without breakpoints, and running if the debugger was what stopped it. */
	void (*detach)(void *arg);
};

struct rsp {
	const struct rsp_target *target;
	void *arg;
	unsigned n_cpus;
	bool avx;     /* there are YMM registers */
	bool running; /* gdb waits for a stop */
	bool ended;   /* detached: nothing more is to be said */

	unsigned cpu; /* that registers and memory are asked of */
	bool no_ack;
	bool says_break; /* gdb wants to know of which kind a breakpoint is */
	struct rsp_point points[RSP_POINTS];
	unsigned n_points;
	bool points_changed;
	char stop[96]; /* the last stop's reply */

	enum { RSP_IDLE, RSP_IN_PACKET, RSP_SUM1, RSP_SUM2 } state;
	uint8_t in[RSP_PACKET + 1]; /* of the packet under way, unescaped */
	size_t n_in;
	uint8_t sum, sum_got;
	bool escaped, too_long;

	uint8_t *out; /* to be sent: the owner takes bytes from the front, rsp_sent() */
	size_t n_out, out_size;
	size_t n_last; /* bytes of the last packet, kept in last[] until it is acknowledged */
	uint8_t last[RSP_PACKET * 2 + 8];
	bool silent;	/* nothing is to be sent for the packet under way, or it was */
	size_t n_reply; /* of the reply under way */
	char reply[RSP_PACKET + 1];
	char xml[RSP_XML];
};

/* The session begins, the machine being stopped. r is zeroed. */
void rsp_start(struct rsp *r, const struct rsp_target *target, void *arg, unsigned n_cpus,
	       bool avx);
void rsp_finish(struct rsp *r);
/* What came from gdb, in pieces of any size. */
void rsp_feed(struct rsp *r, const uint8_t *data, size_t n);
/* n bytes of r->out have been sent. */
void rsp_sent(struct rsp *r, size_t n);
/* The machine that gdb had let run stopped. address: of the breakpoint, or of watched memory. */
void rsp_stopped(struct rsp *r, unsigned cpu, enum rsp_stop why, uint64_t address);
/* The machine is off. */
void rsp_exited(struct rsp *r);

/* -- debug_command.c -- */
/* Does what a packet asks; [p, end) is its content, with a NUL behind. Fills r->reply. */
void rsp_command(struct rsp *r, const char *p, const char *end);
/* -1: none. */
int rsp_hex_digit(int c);

/* -- debug_target.c: registers by gdb's numbers, and their description -- */
unsigned rsp_n_regs(bool avx);
/* Bytes of a register; 0: there is none of that number. */
unsigned rsp_reg_len(unsigned n, bool avx);
void rsp_reg_get(const struct rsp_regs *regs, unsigned n, uint8_t *to);
/* False: it cannot be set. */
bool rsp_reg_set(struct rsp_regs *regs, unsigned n, const uint8_t *from);
/* target.xml; its length, below len. */
size_t rsp_xml(char *xml, size_t len, bool avx);

#endif
