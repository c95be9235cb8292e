/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instructions that are far transfers: JMP, CALL, RET, IRET, INT and the system calls. How they
 * transfer is in far.c, far_return.c and syscall.c.
 */
#include "execute/far.h"
#include "execute/system.h"

static const struct insn *direct(struct vcpu *v, const struct insn *i)
{
	uint16_t sel = (uint16_t)(i->imm >> 32);

	v->insn = i;
	if (i->opcode == 0xea) {
		far_jump(v, sel, (uint32_t)i->imm, i->opsize);
	} else {
		far_call(v, sel, (uint32_t)i->imm, i->opsize);
	}
	END_TRACE();
}

static const struct insn *indirect(struct vcpu *v, const struct insn *i)
{
	uint64_t lin, offset = 0;
	uint16_t sel;

	v->insn = i;
	lin = ea_linear(v, i, i->opsize + 2, MMU_R);
	mmu_read_bytes(v, lin, &offset, i->opsize);
	sel = mmu_read16(v, lin + i->opsize);
	if ((i->reg & 7) == 5) {
		far_jump(v, sel, offset, i->opsize);
	} else {
		far_call(v, sel, offset, i->opsize);
	}
	END_TRACE();
}

static const struct insn *retf(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_return(v, i->opsize, i->opcode == 0xca ? (uint16_t)i->imm : 0);
	END_TRACE();
}

static const struct insn *iret(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_iret(v, i->opsize);
	END_TRACE();
}

static const struct insn *int_n(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_interrupt(v, (uint8_t)i->imm, EVENT_SOFTWARE, true);
	END_TRACE();
}

static const struct insn *int3(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_interrupt(v, VEC_BP, EVENT_SOFTWARE, false);
	END_TRACE();
}

static const struct insn *into(struct vcpu *v, const struct insn *i)
{
	if (!(v->aflags & 1)) {
		NEXT(v, i);
	}
	v->insn = i;
	far_interrupt(v, VEC_OF, EVENT_SOFTWARE, false);
	END_TRACE();
}

static const struct insn *int1(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_interrupt(v, VEC_DB, EVENT_INT1, false);
	END_TRACE();
}

static const struct insn *syscall_insn(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_syscall(v);
	END_TRACE();
}

static const struct insn *sysret_insn(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_sysret(v, i->flags & INSN_REX_W ? 8 : 4);
	END_TRACE();
}

static const struct insn *sysenter_insn(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_sysenter(v);
	END_TRACE();
}

static const struct insn *sysexit_insn(struct vcpu *v, const struct insn *i)
{
	v->insn = i;
	far_sysexit(v, i->flags & INSN_REX_W ? 8 : 4);
	END_TRACE();
}

static insn_fn *handler_1(const struct insn *i)
{
	switch (i->opcode) {
	case 0x9a:
	case 0xea: return direct;
	case 0xca:
	case 0xcb: return retf;
	case 0xcc: return int3;
	case 0xcd: return int_n;
	case 0xce: return into;
	case 0xcf: return iret;
	case 0xf1: return int1;
	case 0xff: return i->mod != 3 && ((i->reg & 7) == 3 || (i->reg & 7) == 5) ? indirect : NULL;
	}
	return NULL;
}

static insn_fn *handler_0f(const struct insn *i)
{
	switch (i->opcode) {
	case 0x05: return syscall_insn;
	case 0x07: return sysret_insn;
	case 0x34: return sysenter_insn;
	case 0x35: return sysexit_insn;
	}
	return NULL;
}

bool system_bind_far(struct insn *i)
{
	insn_fn *fn = i->map == MAP_1 ? handler_1(i) : i->map == MAP_0F ? handler_0f(i) : NULL;

	if (fn == NULL) {
		return false;
	}
	i->fn = fn;
	if (fn != into) {
		i->flags |= INSN_END;
	}
	return true;
}
