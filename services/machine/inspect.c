/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine tells of itself: its processes and their cost, its devices and claims, its log. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

static const char *part_state_name(const struct part *p)
{
	switch (p->state) {
	case PART_IDLE: return "idle";
	case PART_SPAWNED:
	case PART_JOINED:
	case PART_ATTACHED: return p->restarts ? "restarting" : "starting";
	case PART_READY: return "running";
	case PART_LOST: return "lost";
	}
	return "";
}

void inspect_processes(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = arg;
	Mobo__V1__ProcessInfo info[MACHINE_MAX_PARTS + 1], *ptr[MACHINE_MAX_PARTS + 1];
	Mobo__V1__ProcessList list = MOBO__V1__PROCESS_LIST__INIT;

	for (unsigned i = 0; i <= m->n_parts; i++) {
		Mobo__V1__ProcessInfo *in = &info[list.n_processes];

		if (i > 0 && !m->parts[i - 1].name[0]) {
			continue; /* a place that a device from outside had */
		}
		ptr[list.n_processes++] = in;
		mobo__v1__process_info__init(in);
		if (i == 0) {
			in->name = "machine";
			in->executable = "mobo-machine";
			in->pid = (uint32_t)getpid();
			in->state = "running";
		} else {
			const struct part *p = &m->parts[i - 1];

			in->name = (char *)p->name;
			in->executable = (char *)p->executable;
			in->pid = (uint32_t)p->pid;
			in->state = (char *)part_state_name(p);
			in->restarts = p->restarts;
			in->node = p->node;
			in->sandboxed = p->sandboxed;
		}
		if (in->pid) {
			procstat_read((pid_t)in->pid, &in->cpu_ns, &in->pss_bytes);
		}
	}
	list.processes = ptr;
	mobo_reply(r, &list.base);
}

enum { MAX_CLAIMS = 128, CLAIM_LEN = 80 };

static void add_claim(Mobo__V1__DeviceInfo *info, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void add_claim(Mobo__V1__DeviceInfo *info, const char *fmt, ...)
{
	va_list ap;

	if (info->n_claims == MAX_CLAIMS) {
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&info->claims[info->n_claims], fmt, ap) >= 0) {
		info->n_claims++;
	}
	va_end(ap);
}

static void describe_claims(Mobo__V1__DeviceInfo *info, const Mobo__V1__Attach *c)
{
	static const char *const lines[] = {"irq", "gsi", "intx", "nmi", "a20", "init"};

	for (size_t i = 0; i < c->n_functions; i++) {
		const Mobo__V1__PciFunction *f = c->functions[i];

		add_claim(info, "pci 00:%02x.%x %04x:%04x", f->device, f->function, f->vendor_id,
			  f->device_id);
	}
	for (size_t i = 0; i < c->n_regions; i++) {
		const Mobo__V1__Region *g = c->regions[i];

		switch (g->kind) {
		case MOBO__V1__REGION_KIND__REGION_PIO:
			add_claim(info, "pio 0x%llx-0x%llx %s", (unsigned long long)g->base_address,
				  (unsigned long long)(g->base_address + g->len - 1), g->name);
			break;
		case MOBO__V1__REGION_KIND__REGION_MMIO:
			add_claim(info, "mmio 0x%llx-0x%llx %s",
				  (unsigned long long)g->base_address,
				  (unsigned long long)(g->base_address + g->len - 1), g->name);
			break;
		default:
			add_claim(info, "bar%u 0x%llx bytes %s", g->bar, (unsigned long long)g->len,
				  g->name);
		}
	}
	for (size_t i = 0; i < c->n_lines; i++) {
		if (c->lines[i]->kind < MOBO_ARRAY_LEN(lines)) {
			add_claim(info, "%s %u", lines[c->lines[i]->kind], c->lines[i]->n);
		}
	}
}

void inspect_devices(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = arg;
	Mobo__V1__DeviceInfo info[MACHINE_MAX_PARTS], *ptr[MACHINE_MAX_PARTS];
	Mobo__V1__DeviceList list = MOBO__V1__DEVICE_LIST__INIT;

	for (unsigned i = 0; i < m->n_parts; i++) {
		const struct part *p = &m->parts[i];
		Mobo__V1__DeviceInfo *in = &info[list.n_devices];

		if (p->kind != PART_DEVICE || !p->name[0]) {
			continue;
		}
		mobo__v1__device_info__init(in);
		in->name = (char *)p->name;
		in->node = p->node;
		in->state = (char *)part_state_name(p);
		in->claims = calloc(MAX_CLAIMS, sizeof(char *));
		if (p->claims && in->claims) {
			in->chip = p->claims->chip;
			in->description = p->claims->description;
			describe_claims(in, p->claims);
		}
		ptr[list.n_devices++] = in;
	}
	list.devices = ptr;
	mobo_reply(r, &list.base);
	for (size_t i = 0; i < list.n_devices; i++) {
		for (size_t c = 0; c < ptr[i]->n_claims; c++) {
			free(ptr[i]->claims[c]);
		}
		free(ptr[i]->claims);
	}
}

void inspect_log(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct machine *m = arg;
	uint32_t want = ((const Mobo__V1__GetLog *)body)->lines;
	Mobo__V1__LogLines lines = MOBO__V1__LOG_LINES__INIT;
	char *ptr[MACHINE_LOG_LINES];
	size_t n = 0;

	for (unsigned i = 0; i < MACHINE_LOG_LINES; i++) {
		char *line = m->log_lines[(m->log_lines_ever + i) % MACHINE_LOG_LINES];

		if (line) {
			ptr[n++] = line;
		}
	}
	lines.lines = ptr;
	lines.n_lines = n;
	if (want && want < n) {
		lines.lines += n - want;
		lines.n_lines = want;
	}
	mobo_reply(r, &lines.base);
}
