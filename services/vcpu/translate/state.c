/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the guest's registers and flags are: README.md has the plan; loops may have their own.
 * Flags are in host EFLAGS, in vcpu.aflags, in both, or nowhere when none matters.
 */
#include "translate/generate.h"

const uint8_t register_host[16] = {
	[RAX] = R10, [RCX] = R14, [RDX] = RDX,	    [RBX] = RBX,
	[RSP] = R15, [RBP] = RBP, [RSI] = RSI,	    [RDI] = RDI,
	[R8] = R8,   [R9] = R9,	  [R10] = REG_NONE, [R11] = REG_NONE,
	[R12] = R12, [R13] = R13, [R14] = REG_NONE, [R15] = REG_NONE,
};

void generate_save_flags(struct emit *e)
{
	emit8(e, 0x9f);								/* lahf */
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0x90}, 0, rm_reg(RAX)); /* seto %al */
	emit_op(e, (struct op){.prefix = 0x66, .opcode = 0x89}, RAX, VCPU_FIELD(aflags));
}

void generate_restore_flags(struct emit *e)
{
	emit_op(e, (struct op){.map = MAP_0F, .opcode = 0xb7}, RAX, VCPU_FIELD(aflags));
	emit8(e, 0x04); /* add $0x7f, %al: OF */
	emit8(e, 0x7f);
	emit8(e, 0x9e); /* sahf */
}

void generate_spoil_flags(struct generate *g)
{
	if (g->live && g->in_host && !g->in_memory) {
		generate_save_flags(&g->e);
		g->in_memory = true;
	}
	g->in_host = false;
}

void generate_want_flags(struct generate *g)
{
	if (g->live && !g->in_host) {
		generate_restore_flags(&g->e);
		g->in_host = true;
	}
}

void generate_wrote_flags(struct generate *g)
{
	g->in_host = true;
	g->in_memory = false;
}

unsigned generate_get(struct generate *g, unsigned guest, unsigned scratch, bool load)
{
	if (generate_resident(g, guest)) {
		return g->host[guest];
	}
	if (load) {
		emit_load(&g->e, 8, scratch, generate_gpr(guest));
	}
	return scratch;
}

void generate_put(struct generate *g, unsigned guest, unsigned host)
{
	if (!generate_resident(g, guest)) {
		emit_store(&g->e, 8, host, generate_gpr(guest));
	}
}

void generate_copy(struct generate *g, unsigned host, unsigned guest)
{
	emit_load(&g->e, 8, host, generate_source(g, guest));
}

void generate_copy_back(struct generate *g, unsigned guest, unsigned host)
{
	emit_store(&g->e, 8, host, generate_source(g, guest));
}

struct rm generate_source(const struct generate *g, unsigned guest)
{
	return generate_resident(g, guest) ? rm_reg(g->host[guest]) : generate_gpr(guest);
}
