/* SPDX-License-Identifier: Apache-2.0 */
/* `mobo debug`: registers, memory, hot blocks, exits; and `mobo cpu`, which is older. */
#include "debug.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LEN = 128, MAX_LEN = 1 << 20, MEMORY_PIECE = 65536, DEFAULT_TOP = 20 };
enum { LINE = 16, MAX_CPUS = 32 };

const char debug_help[] =
	"  registers             all registers of a CPU\n"
	"  memory ADDRESS [LEN]  guest memory, LEN bytes (default 128)\n"
	"  disassemble [ADDRESS [COUNT]]\n"
	"                        guest code, from where the CPU is unless ADDRESS is given;\n"
	"                        COUNT instructions (default 16)\n"
	"  blocks                counts for a while which blocks of code are entered most\n"
	"  exits                 why the CPUs left guest code, and how often\n"
	"  gdb                   lets gdb debug the guest: a stub for its remote protocol\n"
	"\n"
	"  --cpu N               which CPU (default 0): also whose page tables translate "
	"addresses\n"
	"  --physical            ADDRESS is guest-physical (memory, disassemble)\n"
	"  --host                beside the guest's code the host code that it was translated to\n"
	"  --top N               blocks to show (default 20)\n"
	"  --seconds S           how long blocks are counted (default 1)\n"
	"  --listen [HOST:]PORT|PATH\n"
	"                        where gdb connects; a PATH (with a /) is a socket that only you "
	"can\n"
	"                        use. Without it standard input and output speak the protocol, or "
	"on\n"
	"                        a terminal 127.0.0.1:1234 is listened on\n"
	"\n"
	"  mobo debug web memory 0xffffffff81000000 64\n"
	"  gdb vmlinux -ex 'target remote | mobo debug web gdb'\n";

int debug_number(struct cli *cli, const char *text, const char *what, uint64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoull(text, &end, 0);
	if (end == text || *end || errno || strchr(text, '-')) {
		return cli_fail(cli, CLI_USAGE,
				"`%s` is no %s; write it in decimal, or as 0x1234 in hexadecimal",
				text, what);
	}
	return CLI_OK;
}

int debug_regs(struct cli *cli, uint32_t cpu, Mobo__V1__CpuRegs **regs)
{
	Mobo__V1__GetCpuRegs req = MOBO__V1__GET_CPU_REGS__INIT;

	req.vcpu = cpu;
	return cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)regs);
}

const Mobo__V1__SegmentReg *debug_segment(const Mobo__V1__CpuRegs *regs, const char *name)
{
	for (size_t i = 0; i < regs->n_segments; i++) {
		if (strcmp(regs->segments[i]->name, name) == 0) {
			return regs->segments[i];
		}
	}
	return NULL;
}

/* -- registers -- */

static void print_regs(const Mobo__V1__CpuRegs *r)
{
	static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

	for (size_t i = 0; i < r->n_gpr && i < MOBO_ARRAY_LEN(names); i++) {
		printf("%-3s %016" PRIx64 "%s", names[i], r->gpr[i], i % 4 == 3 ? "\n" : "  ");
	}
	printf("rip %016" PRIx64 "  rflags %08" PRIx64 "  %s  %" PRIu64 " instructions\n", r->rip,
	       r->rflags, r->activity, r->instructions);
	printf("cr0 %08" PRIx64 "  cr2 %016" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64
	       "  cr8 %" PRIx64 "  efer %" PRIx64 "\n",
	       r->cr0, r->cr2, r->cr3, r->cr4, r->cr8, r->efer);
	for (size_t i = 0; i < r->n_segments; i++) {
		const Mobo__V1__SegmentReg *s = r->segments[i];

		printf("%-4s %04x  base %016" PRIx64 "  limit %08x  attr %05x\n", s->name,
		       s->selector, s->base_address, s->limit, s->attr);
	}
	printf("gdt  %016" PRIx64 " %04x   idt %016" PRIx64 " %04x\n", r->gdt_base, r->gdt_limit,
	       r->idt_base, r->idt_limit);
}

static uint32_t load32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

/* Debug registers, and x87, MXCSR and XMM as FXSAVE lays them out (SDM volume 1, 10.5.1). */
static void print_more_regs(const Mobo__V1__CpuRegs *r)
{
	const uint8_t *x = r->xsave.data;

	printf("kernel_gs_base %016" PRIx64 "  xcr0 %" PRIx64 "  pkru %08x  pkrs %08x\n",
	       r->kernel_gs_base, r->xcr0, r->pkru, r->pkrs);
	for (size_t i = 0; i < r->n_dr; i++) {
		printf("dr%zu %016" PRIx64 "%s", i < 4 ? i : i + 2, r->dr[i],
		       i == 3 || i + 1 == r->n_dr ? "\n" : "  ");
	}
	if (r->xsave.len < 512) {
		return;
	}
	printf("fcw %04x  fsw %04x  ftw %02x  mxcsr %08x\n", load32(x) & 0xffff, load32(x) >> 16,
	       x[4], load32(x + 24));
	for (unsigned i = 0; i < 8; i++) {
		uint64_t mantissa;

		memcpy(&mantissa, x + 32 + i * 16, sizeof(mantissa));
		printf("st%u %04x %016" PRIx64 "%s", i, load32(x + 40 + i * 16) & 0xffff, mantissa,
		       i % 4 == 3 ? "\n" : "  ");
	}
	for (unsigned i = 0; i < 16; i++) {
		uint64_t lo, hi;

		memcpy(&lo, x + 160 + i * 16, sizeof(lo));
		memcpy(&hi, x + 168 + i * 16, sizeof(hi));
		printf("xmm%-2u %016" PRIx64 "%016" PRIx64 "%s", i, hi, lo, i & 1 ? "\n" : "  ");
	}
}

static int show_regs(struct cli *cli, uint32_t cpu, bool all)
{
	Mobo__V1__CpuRegs *r = NULL;
	int status = debug_regs(cli, cpu, &r);

	if (status != CLI_OK) {
		return status;
	}
	if (cli->json) {
		cli_print_json(cli_json(&r->base));
	} else {
		print_regs(r);
		if (all) {
			print_more_regs(r);
		}
	}
	cli_free(r);
	return CLI_OK;
}

int cmd_cpu(struct cli *cli, int argc, char **argv)
{
	uint64_t cpu = 0;
	int status;

	if (argc != 2 && argc != 3) {
		return cli_usage(cli);
	}
	status = argc == 3 ? debug_number(cli, argv[2], "CPU", &cpu) : CLI_OK;
	if (status == CLI_OK) {
		status = cli_machine(cli, argv[1]);
	}
	return status ? status : show_regs(cli, (uint32_t)cpu, false);
}

static int registers(struct cli *cli, const struct debug_args *a)
{
	return a->n_words ? cli_usage(cli) : show_regs(cli, a->cpu, true);
}

/* -- memory -- */

static void print_memory(uint64_t address, const uint8_t *data, size_t len)
{
	for (size_t at = 0; at < len; at += LINE) {
		size_t n = MOBO_MIN(len - at, (size_t)LINE);

		printf("%016" PRIx64 " ", address + at);
		for (size_t i = 0; i < LINE; i++) {
			if (i < n) {
				printf("%s%02x", i == LINE / 2 ? "  " : " ", data[at + i]);
			} else {
				printf(i == LINE / 2 ? "    " : "   ");
			}
		}
		printf("  ");
		for (size_t i = 0; i < n; i++) {
			putchar(data[at + i] >= ' ' && data[at + i] < 127 ? data[at + i] : '.');
		}
		putchar('\n');
	}
}

static void print_memory_json(const struct debug_args *a, uint64_t address, const uint8_t *data,
			      size_t len)
{
	ProtobufCBinaryData bytes = {.data = (uint8_t *)data, .len = len};
	Mobo__V1__MemoryData msg = MOBO__V1__MEMORY_DATA__INIT;
	json_object *o;

	msg.data = bytes;
	o = cli_json(&msg.base);
	json_object_object_add(o, "address", json_object_new_uint64(address));
	json_object_object_add(o, "physical", json_object_new_boolean(a->physical));
	cli_print_json(o);
}

/* Fills buf; less where the guest has no more memory there. */
static int read_memory(struct cli *cli, const struct debug_args *a, uint64_t address, uint8_t *buf,
		       size_t len, size_t *done)
{
	Mobo__V1__ReadMemory req = MOBO__V1__READ_MEMORY__INIT;
	int status = CLI_OK;
	bool more = true;

	req.vcpu = a->cpu;
	req.physical = a->physical;
	for (*done = 0; *done < len && more && status == CLI_OK;) {
		Mobo__V1__MemoryData *reply = NULL;

		req.address = address + *done;
		req.len = (uint32_t)MOBO_MIN(len - *done, (size_t)MEMORY_PIECE);
		if (*done == 0) {
			status = cli_call(cli, cli->machine, &req.base, 0,
					  (ProtobufCMessage **)&reply);
		} else if (mobo_bus_call_sync(cli->machine, 0, &req.base, 0,
					      (ProtobufCMessage **)&reply, NULL, NULL) < 0) {
			break;
		}
		if (reply) {
			memcpy(buf + *done, reply->data.data, reply->data.len);
			*done += reply->data.len;
			more = reply->data.len == req.len;
		}
		cli_free(reply);
	}
	return status;
}

static int memory(struct cli *cli, const struct debug_args *a)
{
	uint64_t address, len = DEFAULT_LEN;
	size_t done = 0;
	uint8_t *buf;
	int status;

	if (a->n_words < 1 || a->n_words > 2) {
		return cli_usage(cli);
	}
	status = debug_number(cli, a->words[0], "address", &address);
	if (status == CLI_OK && a->n_words == 2) {
		status = debug_number(cli, a->words[1], "length", &len);
	}
	if (status == CLI_OK && (len < 1 || len > MAX_LEN)) {
		status = cli_fail(cli, CLI_USAGE, "1 to %u bytes can be shown at once", MAX_LEN);
	}
	if (status != CLI_OK) {
		return status;
	}
	buf = malloc(len);
	MOBO_ASSERT(buf);
	status = read_memory(cli, a, address, buf, len, &done);
	if (status == CLI_OK && cli->json) {
		print_memory_json(a, address, buf, done);
	} else if (status == CLI_OK) {
		print_memory(address, buf, done);
		if (done < len) {
			printf("there is no memory at 0x%" PRIx64 "\n", address + done);
		}
	}
	free(buf);
	return status;
}

/* -- blocks -- */

static void print_blocks(const Mobo__V1__HotBlocks *h, double seconds)
{
	printf("%-16s  %-12s  %5s  %12s  %s\n", "ADDRESS", "PHYSICAL", "BYTES", "ENTRIES",
	       h->n_blocks && h->blocks[0]->host_address ? "HOST CODE" : "");
	for (size_t i = 0; i < h->n_blocks; i++) {
		const Mobo__V1__HotBlock *b = h->blocks[i];

		printf("%016" PRIx64 "  %012" PRIx64 "  %5u  %12" PRIu64 "  ", b->address,
		       b->physical, b->len, b->count);
		if (b->host_address) {
			printf("%" PRIx64 "+%u", b->host_address, b->host_len);
		}
		putchar('\n');
	}
	printf("counted for %g s\n", seconds);
}

static int blocks(struct cli *cli, const struct debug_args *a)
{
	Mobo__V1__CountBlocks count = MOBO__V1__COUNT_BLOCKS__INIT;
	Mobo__V1__GetHotBlocks req = MOBO__V1__GET_HOT_BLOCKS__INIT;
	Mobo__V1__HotBlocks *reply = NULL;
	int status, off;

	if (a->n_words) {
		return cli_usage(cli);
	}
	count.on = true;
	status = cli_call(cli, cli->machine, &count.base, 0, NULL);
	if (status != CLI_OK) {
		return status;
	}
	mobo_loop_run_until(cli->loop, &cli->interrupted,
			    mobo_monotonic_ns() + (uint64_t)(a->seconds * 1e9));
	req.vcpu = a->cpu;
	req.max = a->top;
	status = cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)&reply);
	count.on = false;
	off = cli_call(cli, cli->machine, &count.base, 0, NULL);
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&reply->base));
	} else if (status == CLI_OK) {
		print_blocks(reply, a->seconds);
	}
	cli_free(reply);
	return status ? status : off;
}

/* -- exits -- */

/* One cause a row, one CPU a column. */
static void print_exits(const Mobo__V1__Stats *s)
{
	unsigned cpus = 0, cpu;
	int at;

	for (size_t i = 0; i < s->n_counters; i++) {
		if (sscanf(s->counters[i]->name, "cpu%u.", &cpu) == 1 && cpu < MAX_CPUS) {
			cpus = MOBO_MAX(cpus, cpu + 1);
		}
	}
	printf("%-14s", "CAUSE");
	for (unsigned i = 0; i < cpus; i++) {
		printf("  %10s%-2u", "CPU", i);
	}
	putchar('\n');
	for (size_t i = 0; i < s->n_counters; i++) {
		at = 0;
		if (sscanf(s->counters[i]->name, "cpu%u.%n", &cpu, &at) != 1 || cpu || !at) {
			continue;
		}
		printf("%-14s", s->counters[i]->name + at);
		for (size_t k = i; k < s->n_counters; k++) {
			int to = 0;

			if (sscanf(s->counters[k]->name, "cpu%u.%n", &cpu, &to) == 1 && to &&
			    strcmp(s->counters[k]->name + to, s->counters[i]->name + at) == 0) {
				printf("  %12" PRIu64, s->counters[k]->value);
			}
		}
		putchar('\n');
	}
}

static int exits(struct cli *cli, const struct debug_args *a)
{
	Mobo__V1__GetStats req = MOBO__V1__GET_STATS__INIT;
	Mobo__V1__Stats *stats = NULL;
	int status;

	if (a->n_words) {
		return cli_usage(cli);
	}
	status = cli_call(cli, cli->machine, &req.base, 0, (ProtobufCMessage **)&stats);
	if (status == CLI_OK && cli->json) {
		cli_print_json(cli_json(&stats->base));
	} else if (status == CLI_OK) {
		print_exits(stats);
	}
	cli_free(stats);
	return status;
}

/* -- The command -- */

static const struct {
	const char *name;
	int (*run)(struct cli *cli, const struct debug_args *a);
} verbs[] = {
	{"registers", registers}, {"memory", memory}, {"disassemble", debug_disassemble},
	{"blocks", blocks},	  {"exits", exits},   {"gdb", debug_gdb},
};

static int parse(struct cli *cli, int argc, char **argv, struct debug_args *a)
{
	static const struct option options[] = {
		{"cpu", 1, NULL, 'c'},
		{"physical", 0, NULL, 'p'},
		{"host", 0, NULL, 'h'},
		{"top", 1, NULL, 't'},
		{"seconds", 1, NULL, 's'},
		{"listen", 1, NULL, 'l'},
		{0},
	};
	uint64_t n;
	int c, status = CLI_OK;

	*a = (struct debug_args){.top = DEFAULT_TOP, .seconds = 1};
	optind = 0;
	while (status == CLI_OK && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			status = debug_number(cli, optarg, "CPU", &n);
			a->cpu = (uint32_t)MOBO_MIN(n, (uint64_t)UINT32_MAX);
			break;
		case 'p': a->physical = true; break;
		case 'h': a->host = true; break;
		case 't':
			status = debug_number(cli, optarg, "number of blocks", &n);
			a->top = (unsigned)MOBO_MIN(n, (uint64_t)UINT32_MAX);
			break;
		case 's': status = cli_seconds(cli, optarg, &a->seconds); break;
		case 'l': a->listen = optarg; break;
		default: return cli_usage(cli);
		}
	}
	if (status == CLI_OK && optind + 2 > argc) {
		return cli_usage(cli);
	}
	a->machine = argv[optind];
	a->words = argv + optind + 2;
	a->n_words = argc - optind - 2;
	return status;
}

int cmd_debug(struct cli *cli, int argc, char **argv)
{
	struct debug_args a;
	int status = parse(cli, argc, argv, &a);

	if (status != CLI_OK) {
		return status;
	}
	for (size_t i = 0; i < MOBO_ARRAY_LEN(verbs); i++) {
		if (strcmp(a.words[-1], verbs[i].name) == 0) {
			status = cli_machine(cli, a.machine);
			return status ? status : verbs[i].run(cli, &a);
		}
	}
	return cli_fail(cli, CLI_USAGE, "`mobo debug` knows no `%s`; `mobo help debug` lists them",
			a.words[-1]);
}
