/* SPDX-License-Identifier: Apache-2.0 */
/* `mobo debug disassemble`: guest code, and the host code an engine made of it, by Zydis. */
#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "debug.h"

enum { DEFAULT_COUNT = 16, MAX_COUNT = 4096, INSN_MAX = 15, TEXT = 160 };
enum {
	EFER_LMA = 1 << 10,
	CR0_PE = 1 << 0,
	RFLAGS_VM = 1 << 17,
	ATTR_L = 1 << 13,
	ATTR_DB = 1 << 14
};

/* Decodes one instruction. Returns its length; what is none is a byte of data. */
static unsigned decode(ZydisMachineMode mode, uint64_t address, const uint8_t *code, size_t len,
		       char text[TEXT])
{
	ZydisDisassembledInstruction insn;

	if (ZYAN_FAILED(ZydisDisassembleIntel(mode, address, code, len, &insn))) {
		snprintf(text, TEXT, "db 0x%02x", code[0]);
		return 1;
	}
	snprintf(text, TEXT, "%s", insn.text);
	return insn.info.length;
}

/* How the CPU would decode now: SDM volume 3, 3.4.5. */
static ZydisMachineMode cpu_mode(const Mobo__V1__CpuRegs *r)
{
	const Mobo__V1__SegmentReg *cs = debug_segment(r, "cs");
	uint32_t attr = cs ? cs->attr : 0;

	if (r->efer & EFER_LMA) {
		return attr & ATTR_L	? ZYDIS_MACHINE_MODE_LONG_64
		       : attr & ATTR_DB ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
					: ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
	}
	if (attr & ATTR_DB) {
		return ZYDIS_MACHINE_MODE_LEGACY_32;
	}
	return r->cr0 & CR0_PE && !(r->rflags & RFLAGS_VM) ? ZYDIS_MACHINE_MODE_LEGACY_16
							   : ZYDIS_MACHINE_MODE_REAL_16;
}

static void print_line(const char *indent, uint64_t address, const uint8_t *code, unsigned len,
		       const char *text)
{
	char hex[2 * INSN_MAX + 1];

	for (unsigned i = 0; i < len; i++) {
		snprintf(hex + 2 * i, 3, "%02x", code[i]);
	}
	printf("%s%016" PRIx64 "  %-22s %s\n", indent, address, hex, text);
}

static json_object *json_line(uint64_t address, const uint8_t *code, unsigned len, const char *text)
{
	json_object *o = json_object_new_object();
	char hex[2 * INSN_MAX + 1];

	for (unsigned i = 0; i < len; i++) {
		snprintf(hex + 2 * i, 3, "%02x", code[i]);
	}
	json_object_object_add(o, "address", json_object_new_uint64(address));
	json_object_object_add(o, "code", json_object_new_string(hex));
	json_object_object_add(o, "text", json_object_new_string(text));
	return o;
}

/* -- Host code -- */

struct host {
	Mobo__V1__Translation *t; /* of the block last asked for, or NULL */
};

/* Whether h->t covers the instruction at `address`; *mark: its place in it. */
static bool covers(const struct host *h, uint64_t address, size_t *mark)
{
	const Mobo__V1__Translation *t = h->t;

	for (size_t i = 0; t && t->block && i < t->n_marks; i++) {
		if (t->block->address + t->marks[i]->guest_offset == address) {
			*mark = i;
			return true;
		}
	}
	return false;
}

/* Asks for the block at `address`. Where the engine has none, that is no failure. */
static int host_find(struct cli *cli, const struct debug_args *a, uint64_t address, struct host *h,
		     size_t *mark, bool *found)
{
	Mobo__V1__GetTranslation req = MOBO__V1__GET_TRANSLATION__INIT;
	Mobo__V1__Code code = MOBO__V1__CODE__OK;
	struct mobo_error err = {0};

	*found = covers(h, address, mark);
	if (*found) {
		return CLI_OK;
	}
	cli_free(h->t);
	h->t = NULL;
	req.vcpu = a->cpu;
	req.address = address;
	if (mobo_bus_call_sync(cli->machine, 0, &req.base, 0, (ProtobufCMessage **)&h->t, &code,
			       &err) < 0) {
		return code == MOBO__V1__CODE__NOT_FOUND
			       ? CLI_OK
			       : cli_fail(cli, CLI_FAILED, "%s", err.text);
	}
	*found = covers(h, address, mark);
	return CLI_OK;
}

/* The host's instructions of one of the guest's; to `out`, or printed. */
static void host_lines(const struct host *h, size_t mark, json_object *out)
{
	const Mobo__V1__Translation *t = h->t;
	size_t at = t->marks[mark]->host_offset;
	size_t end = mark + 1 < t->n_marks ? t->marks[mark + 1]->host_offset : t->host_code.len;
	char text[TEXT];

	end = MOBO_MIN(end, t->host_code.len);
	while (at < end) {
		const uint8_t *code = t->host_code.data + at;
		uint64_t address = t->block->host_address + at;
		unsigned n = decode(ZYDIS_MACHINE_MODE_LONG_64, address, code, end - at, text);

		if (out) {
			json_object_array_add(out, json_line(address, code, n, text));
		} else {
			print_line("        | ", address, code, n, text);
		}
		at += n;
	}
}

/* -- The verb -- */

struct listing {
	struct cli *cli;
	const struct debug_args *a;
	ZydisMachineMode mode;
	uint64_t address;
	const uint8_t *code;
	size_t len;
	unsigned count;
	struct host host;
};

static int list_one(struct listing *l, size_t at, unsigned *len, json_object *lines)
{
	json_object *line = NULL, *host = NULL;
	uint64_t address = l->address + at;
	bool found = false;
	size_t mark = 0;
	char text[TEXT];
	int status = CLI_OK;

	*len = decode(l->mode, address, l->code + at, l->len - at, text);
	if (lines) {
		line = json_line(address, l->code + at, *len, text);
		json_object_array_add(lines, line);
	} else {
		print_line("", address, l->code + at, *len, text);
	}
	if (l->a->host) {
		status = host_find(l->cli, l->a, address, &l->host, &mark, &found);
	}
	if (found) {
		if (line) {
			host = json_object_new_array();
			json_object_object_add(line, "host", host);
		}
		host_lines(&l->host, mark, host);
	}
	return status;
}

static int list(struct listing *l)
{
	json_object *lines = l->cli->json ? json_object_new_array() : NULL;
	int status = CLI_OK;
	unsigned n;

	for (size_t at = 0; l->count-- && at < l->len && status == CLI_OK; at += n) {
		status = list_one(l, at, &n, lines);
	}
	cli_free(l->host.t);
	if (lines && status == CLI_OK) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "instructions", lines);
		cli_print_json(o);
	} else if (lines) {
		json_object_put(lines);
	}
	return status;
}

int debug_disassemble(struct cli *cli, const struct debug_args *a)
{
	Mobo__V1__ReadMemory req = MOBO__V1__READ_MEMORY__INIT;
	Mobo__V1__MemoryData *memory = NULL;
	Mobo__V1__CpuRegs *regs = NULL;
	struct listing l = {.cli = cli, .a = a};
	uint64_t count = DEFAULT_COUNT;
	int status = CLI_OK;

	if (a->n_words > 2 || (a->host && a->physical)) {
		return cli_usage(cli);
	}
	if (a->n_words >= 1) {
		status = debug_number(cli, a->words[0], "address", &l.address);
	}
	if (status == CLI_OK && a->n_words == 2) {
		status = debug_number(cli, a->words[1], "number of instructions", &count);
	}
	if (status == CLI_OK && (count < 1 || count > MAX_COUNT)) {
		status = cli_fail(cli, CLI_USAGE, "1 to %u instructions can be shown at once",
				  MAX_COUNT);
	}
	if (status == CLI_OK) {
		status = debug_regs(cli, a->cpu, &regs);
	}
	if (status != CLI_OK) {
		return status;
	}
	l.mode = cpu_mode(regs);
	if (a->n_words == 0) {
		const Mobo__V1__SegmentReg *cs = debug_segment(regs, "cs");

		l.address = regs->rip;
		if (l.mode != ZYDIS_MACHINE_MODE_LONG_64) {
			l.address = (uint32_t)(regs->rip + (cs ? cs->base_address : 0));
		}
	}
	l.count = (unsigned)count;
	req.vcpu = a->cpu;
	req.address = l.address;
	req.physical = a->physical && a->n_words;
	req.len = (uint32_t)count * INSN_MAX;
	status = cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)&memory);
	if (status == CLI_OK) {
		l.code = memory->data.data;
		l.len = memory->data.len;
		status = list(&l);
	}
	cli_free(memory);
	cli_free(regs);
	return status;
}
