/* SPDX-License-Identifier: Apache-2.0 */
#include "board_rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

struct rig_engine_log rig_log[BOARD_CPUS];
enum mobo_exit (*rig_run)(struct vcpu *v);

static int op_vcpu_init(struct vcpu *v)
{
	return 0;
}

static void op_vcpu_finish(struct vcpu *v)
{
}

static void op_reset(struct vcpu *v, bool init)
{
	v->req_mask = ~0u;
	v->rip = 0xfff0;
	if (init) {
		rig_log[v->index].n_inits++;
	} else {
		rig_log[v->index].n_resets++;
	}
}

static enum mobo_exit op_run(struct vcpu *v)
{
	return rig_run ? rig_run(v) : MOBO_EXIT_HALT;
}

static void op_kick(struct vcpu *v)
{
}

static void op_get_state(struct vcpu *v, struct mobo_cpu_state *s)
{
	memset(s, 0, sizeof(*s));
	s->regs.rip = v->rip;
}

static int op_set_state(struct vcpu *v, const struct mobo_cpu_state *s)
{
	v->rip = s->regs.rip;
	v->seg[SEG_CS].base = s->sregs.cs.base;
	v->seg[SEG_CS].selector = s->sregs.cs.selector;
	return 0;
}

static void op_map_changed(struct vcpu *v)
{
	rig_log[v->index].n_map_changed++;
}

static void op_code_written(struct vcpu *v, uint64_t gpa, uint64_t len)
{
	rig_log[v->index].n_code_written++;
	rig_log[v->index].last_written = gpa;
}

static void op_code_protect(struct vcpu *v, uint64_t gpa)
{
	rig_log[v->index].n_protected++;
	rig_log[v->index].last_protected = gpa;
}

static void op_step(struct vcpu *v, bool on)
{
	v->debug.step = on;
}

static const struct mobo_engine_debug rig_debug = {.step = op_step};

static const struct mobo_engine_ops rig_ops = {
	.name = "rig",
	.vcpu_init = op_vcpu_init,
	.vcpu_finish = op_vcpu_finish,
	.reset = op_reset,
	.run = op_run,
	.kick = op_kick,
	.get_state = op_get_state,
	.set_state = op_set_state,
	.map_changed = op_map_changed,
	.code_written = op_code_written,
	.code_protect = op_code_protect,
	.readds_code = true,
	.debug = &rig_debug,
	.marks_lines = true,
};

static void *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT,
		       -1, 0);

	MOBO_ASSERT(p != MAP_FAILED);
	return p;
}

void rig_start(struct rig *r, unsigned n_cpus)
{
	struct board_options opt = {.n_cpus = n_cpus, .ops = &rig_ops};

	memset(r, 0, sizeof(*r));
	memset(rig_log, 0, sizeof(rig_log));
	rig_run = NULL;
	r->page = pages(sizeof(*r->page));
	r->ram = pages(RIG_RAM);
	r->rom = pages(RIG_ROM);
	r->codemap = pages(65536);
	r->codemap->n_pages = RIG_RAM / 4096;
	memset(r->rom, 0x90, RIG_ROM);
	opt.page = r->page;
	opt.ram = (struct mobo_ram){r->ram, RIG_RAM, RIG_RAM};
	opt.codemap = r->codemap;
	opt.rom = r->rom;
	opt.rom_len = RIG_ROM;
	MOBO_ASSERT(board_create(&r->b, &opt) == 0);
}

void rig_outside(struct rig *r)
{
	for (unsigned i = 0; i < r->b->n_cpus && !r->b->n_threads; i++) {
		r->b->cpu[i].outside = 1;
	}
}

void rig_finish(struct rig *r)
{
	for (unsigned i = 0; i < r->n_devices; i++) {
		struct rig_device *d = &r->dev[i];

		if (d->served) {
			d->stop = true;
			pthread_join(d->thread, NULL);
		}
	}
	rig_outside(r);
	board_destroy(r->b);
	for (unsigned i = 0; i < r->n_devices; i++) {
		munmap(r->dev[i].ch, sizeof(*r->dev[i].ch));
		if (r->dev[i].mem) {
			munmap(r->dev[i].mem, r->dev[i].mem_len);
		}
	}
	munmap(r->page, sizeof(*r->page));
	munmap(r->ram, RIG_RAM);
	munmap(r->rom, RIG_ROM);
	munmap(r->codemap, 65536);
}

void rig_set_time(struct rig *r, uint64_t ns)
{
	r->page->clock.frozen_ns = ns;
}

int rig_attach(struct rig *r, Mobo__V1__Attach *claims, size_t mem, struct mobo_error *err)
{
	struct rig_device *d = &r->dev[r->n_devices];
	int rc;

	MOBO_ASSERT(r->n_devices < RIG_DEVICES);
	*d = (struct rig_device){.mem_fd = -1};
	d->ioch_fd = mobo_memfd_create("ioch", sizeof(*d->ch));
	d->ch = mobo_memfd_map(d->ioch_fd, 0, true, NULL);
	mobo_ioch_init(d->ch);
	d->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mem) {
		d->mem_fd = mobo_memfd_create("mem", mem);
		d->mem = mobo_memfd_map(d->mem_fd, mem, true, &d->mem_len);
	}
	rig_outside(r);
	rc = board_attach(r->b, r->n_devices, "dev", claims, d->ioch_fd, d->bell_fd, d->mem_fd,
			  err);
	if (rc < 0) {
		munmap(d->ch, sizeof(*d->ch));
		return rc;
	}
	r->n_devices++;
	return 0;
}

static void drain_posted(struct rig_device *d, uint32_t upto)
{
	while (d->posted_done != upto) {
		struct mobo_io_posted *p = &d->ch->posted[d->posted_done % MOBO_IOCH_POSTED];
		struct mobo_io_req req = {.addr = p->addr,
					  .data = p->data,
					  .region = p->region,
					  .op = MOBO_IO_WRITE,
					  .size = p->size};

		if (atomic_load(&p->slot_seq) != d->posted_done + 1) {
			continue;
		}
		d->handler(d, &req, NULL);
		atomic_store(&d->ch->priv.posted_done, ++d->posted_done);
	}
}

static void *serve(void *arg)
{
	struct rig_device *d = arg;

	atomic_store(&d->ch->dev.state, MOBO_PEER_RUNNING);
	while (!d->stop) {
		for (unsigned v = 0; v < MOBO_IOCH_VCPUS; v++) {
			struct mobo_io_req *req = &d->ch->req[v];
			struct mobo_io_rep *rep = &d->ch->rep[v];
			uint32_t seq = atomic_load(&req->seq);

			if (seq == atomic_load(&rep->seq)) {
				continue;
			}
			drain_posted(d, req->posted_upto);
			rep->data = d->handler(d, req, d->ch->bounce[v]);
			rep->count = req->count;
			rep->map_gen = atomic_load(&d->ch->dev.map_gen);
			atomic_store(&rep->seq, seq);
		}
		drain_posted(d, atomic_load(&d->ch->posted_ticket));
		usleep(20);
	}
	return NULL;
}

void rig_serve(struct rig *r,
	       uint64_t (*handler)(struct rig_device *d, const struct mobo_io_req *req,
				   uint8_t *bounce),
	       void *arg)
{
	struct rig_device *d = &r->dev[r->n_devices - 1];

	d->handler = handler;
	d->arg = arg;
	d->served = true;
	MOBO_ASSERT(pthread_create(&d->thread, NULL, serve, d) == 0);
}

/* -- Claims -- */

void claims_init(struct rig_claims *c)
{
	memset(c, 0, sizeof(*c));
	mobo__v1__attach__init(&c->attach);
	c->attach.regions = c->regions;
	c->attach.lines = c->lines;
	c->attach.functions = c->functions;
}

Mobo__V1__Region *claims_region(struct rig_claims *c, Mobo__V1__RegionKind kind, uint64_t base,
				uint64_t len, Mobo__V1__RegionAttr attr)
{
	size_t i = c->attach.n_regions++;
	Mobo__V1__Region *r = &c->region[i];

	mobo__v1__region__init(r);
	mobo__v1__attr_range__init(&c->attr[i]);
	c->attr[i].len = len;
	c->attr[i].attr = attr;
	c->attrs[i] = &c->attr[i];
	c->regions[i] = r;
	r->name = "r";
	r->kind = kind;
	r->base_address = base;
	r->len = len;
	r->priority = 1;
	r->attrs = &c->attrs[i];
	r->n_attrs = 1;
	return r;
}

void claims_line(struct rig_claims *c, Mobo__V1__LineKind kind, unsigned n)
{
	size_t i = c->attach.n_lines++;

	mobo__v1__line__init(&c->line[i]);
	c->line[i].kind = kind;
	c->line[i].n = n;
	c->lines[i] = &c->line[i];
}

Mobo__V1__PciFunction *claims_function(struct rig_claims *c, unsigned device, unsigned fn,
				       unsigned vendor, unsigned id)
{
	size_t i = c->attach.n_functions++;
	Mobo__V1__PciFunction *f = &c->function[i];

	mobo__v1__pci_function__init(f);
	f->device = device;
	f->function = fn;
	f->vendor_id = vendor;
	f->device_id = id;
	f->config = c->configs;
	c->functions[i] = f;
	return f;
}

/* Of the first function. */
void claims_config(struct rig_claims *c, unsigned offset, unsigned len, uint32_t reset,
		   uint32_t mask, bool notify)
{
	size_t i = c->function[0].n_config++;

	mobo__v1__pci_config__init(&c->config[i]);
	c->config[i].offset = offset;
	c->config[i].len = len;
	c->config[i].reset = reset;
	c->config[i].write_mask = mask;
	c->config[i].notify = notify;
	c->configs[i] = &c->config[i];
}

uint32_t rig_pci_read(struct rig *r, unsigned devfn, unsigned offset, unsigned size)
{
	struct vcpu *v = r->b->cpu[0].v;

	board_pio_write(v, 0xcf8, 4, 1u << 31 | devfn << 8 | (offset & 0xfc));
	return board_pio_read(v, (uint16_t)(0xcfc + (offset & 3)), size);
}

void rig_pci_write(struct rig *r, unsigned devfn, unsigned offset, unsigned size, uint32_t val)
{
	struct vcpu *v = r->b->cpu[0].v;

	board_pio_write(v, 0xcf8, 4, 1u << 31 | devfn << 8 | (offset & 0xfc));
	board_pio_write(v, (uint16_t)(0xcfc + (offset & 3)), size, val);
}
