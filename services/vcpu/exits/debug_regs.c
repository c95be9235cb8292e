/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of a CPU to messages and back, by way of the engine's state in KVM's layout. */
#include <errno.h>
#include <string.h>

#include "execute/xstate.h"
#include "exits/debug.h"
#include "mobo/v1/debug.pb-c.h"
#include "mobo/v1/machine.pb-c.h"

enum { XSAVE_HEADER = 512, MSR_PKRS = 0x6e1, MSR_KERNEL_GS_BASE = 0xc0000102 };

/* Bytes of an XSAVE area in the standard form: as far as its header says. */
static unsigned area_len(const struct kvm_xsave *x)
{
	uint64_t components;

	memcpy(&components, (const uint8_t *)x->region + XSAVE_HEADER, sizeof(components));
	return xstate_len(components, false);
}

/* The area is zeros where its header has no component. */
static uint32_t pkru_of(const struct kvm_xsave *x)
{
	uint32_t pkru;

	memcpy(&pkru, (const uint8_t *)x->region + xstate_component[XSTATE_PKRU].off, sizeof(pkru));
	return pkru;
}

void cpu_look(struct vcpu *v, void *arg)
{
	struct cpu_look *l = arg;

	l->board->ops->get_state(v, &l->state);
	l->instructions = v->n_insns;
	for (unsigned i = 0; i < l->state.n_msrs; i++) {
		switch (l->state.msrs[i].index) {
		case MSR_PKRS: l->pkrs = (uint32_t)l->state.msrs[i].data; break;
		case MSR_KERNEL_GS_BASE: l->kernel_gs_base = l->state.msrs[i].data; break;
		}
	}
	l->activity = v->shutdown	  ? "shutdown"
		      : v->wait_sipi	  ? "wait-for-sipi"
		      : cpu_of(v)->parked ? "parked"
		      : v->halted	  ? "halted"
					  : "running";
}

void debug_reply_no_cpu(struct mobo_request *r, unsigned vcpu, int rc)
{
	if (rc == -EINVAL) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND, "there is no CPU %u", vcpu);
	} else {
		mobo_reply_error(r, MOBO__V1__CODE__UNAVAILABLE,
				 "CPU %u waits for a device; try again", vcpu);
	}
}

static uint32_t segment_attr(const struct kvm_segment *k)
{
	return (uint32_t)(k->type | k->s << 4 | k->dpl << 5 | k->present << 7 | k->avl << 12 |
			  k->l << 13 | k->db << 14 | k->g << 15 | k->unusable << 16);
}

static void fill_segments(Mobo__V1__SegmentReg *reg, Mobo__V1__SegmentReg **ptr,
			  const struct kvm_sregs *sr)
{
	static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	const struct kvm_segment *segs[] = {&sr->es, &sr->cs, &sr->ss,	&sr->ds,
					    &sr->fs, &sr->gs, &sr->ldt, &sr->tr};

	for (unsigned i = 0; i < MOBO_ARRAY_LEN(segs); i++) {
		mobo__v1__segment_reg__init(&reg[i]);
		reg[i].name = (char *)names[i];
		reg[i].selector = segs[i]->selector;
		reg[i].base_address = segs[i]->base;
		reg[i].limit = segs[i]->limit;
		reg[i].attr = segment_attr(segs[i]);
		ptr[i] = &reg[i];
	}
}

static void fill_control(Mobo__V1__CpuRegs *reply, const struct kvm_sregs *sr)
{
	reply->gdt_base = sr->gdt.base;
	reply->gdt_limit = sr->gdt.limit;
	reply->idt_base = sr->idt.base;
	reply->idt_limit = sr->idt.limit;
	reply->cr0 = sr->cr0;
	reply->cr2 = sr->cr2;
	reply->cr3 = sr->cr3;
	reply->cr4 = sr->cr4;
	reply->cr8 = sr->cr8;
	reply->efer = sr->efer;
}

static void reply_regs(struct mobo_request *r, struct cpu_look *l)
{
	Mobo__V1__CpuRegs reply = MOBO__V1__CPU_REGS__INIT;
	const struct kvm_regs *k = &l->state.regs;
	const struct kvm_debugregs *d = &l->state.debugregs;
	uint64_t gpr[] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp, k->rsi, k->rdi,
			  k->r8,  k->r9,  k->r10, k->r11, k->r12, k->r13, k->r14, k->r15};
	uint64_t dr[] = {d->db[0], d->db[1], d->db[2], d->db[3], d->dr6, d->dr7};
	Mobo__V1__SegmentReg segment[8], *segments[8];

	fill_segments(segment, segments, &l->state.sregs);
	fill_control(&reply, &l->state.sregs);
	reply.gpr = gpr;
	reply.n_gpr = MOBO_ARRAY_LEN(gpr);
	reply.rip = k->rip;
	reply.rflags = k->rflags;
	reply.segments = segments;
	reply.n_segments = MOBO_ARRAY_LEN(segments);
	reply.activity = (char *)l->activity;
	reply.instructions = l->instructions;
	reply.dr = dr;
	reply.n_dr = MOBO_ARRAY_LEN(dr);
	reply.xcr0 = l->state.xcrs.nr_xcrs ? l->state.xcrs.xcrs[0].value : 0;
	reply.kernel_gs_base = l->kernel_gs_base;
	reply.pkru = pkru_of(&l->state.xsave);
	reply.pkrs = l->pkrs;
	reply.xsave.data = (uint8_t *)l->state.xsave.region;
	reply.xsave.len = area_len(&l->state.xsave);
	mobo_reply(r, &reply.base);
}

void debug_serve_regs(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__GetCpuRegs *msg = (const void *)body;
	struct service *s = arg;
	struct cpu_look l = {.board = s->board};
	int rc = board_on_cpu(s->board, msg->vcpu, cpu_look, &l);

	if (rc < 0) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
	} else {
		reply_regs(r, &l);
	}
}

/* -- Setting -- */

struct change {
	const Mobo__V1__SetCpuRegs *msg;
	int rc;
};

static void change_regs(struct vcpu *v, void *arg)
{
	struct change *c = arg;
	const Mobo__V1__SetCpuRegs *m = c->msg;
	const struct mobo_engine_ops *ops = v->board->ops;
	struct mobo_cpu_state s;
	uint64_t had;

	if (!cpu_of(v)->parked || cpu_of(v)->in_access) {
		c->rc = -EBUSY;
		return;
	}
	ops->get_state(v, &s);
	s.regs = (struct kvm_regs){
		.rax = m->gpr[0],
		.rcx = m->gpr[1],
		.rdx = m->gpr[2],
		.rbx = m->gpr[3],
		.rsp = m->gpr[4],
		.rbp = m->gpr[5],
		.rsi = m->gpr[6],
		.rdi = m->gpr[7],
		.r8 = m->gpr[8],
		.r9 = m->gpr[9],
		.r10 = m->gpr[10],
		.r11 = m->gpr[11],
		.r12 = m->gpr[12],
		.r13 = m->gpr[13],
		.r14 = m->gpr[14],
		.r15 = m->gpr[15],
		.rip = m->rip,
		.rflags = m->rflags,
	};
	s.sregs.fs.base = m->fs_base;
	s.sregs.gs.base = m->gs_base;
	memcpy(&had, (uint8_t *)s.xsave.region + XSAVE_HEADER, sizeof(had));
	memcpy(s.xsave.region, m->xsave.data, MOBO_MIN(m->xsave.len, area_len(&s.xsave)));
	memcpy((uint8_t *)s.xsave.region + XSAVE_HEADER, &had, sizeof(had));
	c->rc = ops->set_state(v, &s);
}

void debug_serve_set_regs(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	const Mobo__V1__SetCpuRegs *msg = (const void *)body;
	struct service *s = arg;
	struct change c = {.msg = msg};
	int rc;

	if (msg->n_gpr != 16 || msg->xsave.len < XSAVE_HEADER) {
		mobo_reply_error(r, MOBO__V1__CODE__INVALID_ARGUMENT,
				 "16 general registers and an XSAVE area must be given");
		return;
	}
	rc = board_on_cpu(s->board, msg->vcpu, change_regs, &c);
	if (rc < 0) {
		debug_reply_no_cpu(r, msg->vcpu, rc);
	} else if (c.rc == -EBUSY) {
		mobo_reply_error(r, MOBO__V1__CODE__FAILED_PRECONDITION,
				 "CPU %u is not between two instructions; pause the machine first",
				 msg->vcpu);
	} else if (c.rc < 0) {
		mobo_reply_error(r, MOBO__V1__CODE__INVALID_ARGUMENT,
				 "CPU %u cannot have these registers", msg->vcpu);
	} else {
		mobo_reply(r, NULL);
	}
}
