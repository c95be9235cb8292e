/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mobo debug`: debug.c finds the verb and serves the short ones, debug_code.c disassembles,
 * debug_gdb.c is the target that gdb sees through the protocol of debug_rsp.c.
 */
#ifndef CLI_DEBUG_H
#define CLI_DEBUG_H

#include "cli.h"
#include "mobo/v1/debug.pb-c.h"

struct debug_args {
	const char *machine; /* connected */
	uint32_t cpu;
	bool physical, host;
	unsigned top;
	double seconds;
	const char *listen; /* NULL: not given */
	char **words;	    /* behind the verb */
	int n_words;
};

/* A number in C's notation, all of it; CLI_USAGE with the error printed. `what`: "address". */
int debug_number(struct cli *cli, const char *text, const char *what, uint64_t *n);
/* Registers of a CPU; *regs is the caller's (cli_free()). */
int debug_regs(struct cli *cli, uint32_t cpu, Mobo__V1__CpuRegs **regs);
/* A segment by its name, or NULL. */
const Mobo__V1__SegmentReg *debug_segment(const Mobo__V1__CpuRegs *regs, const char *name);

int debug_disassemble(struct cli *cli, const struct debug_args *a); /* debug_code.c */
int debug_gdb(struct cli *cli, const struct debug_args *a);	    /* debug_gdb.c */

#endif
