/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers that gdb is told of, in its numbering: features org.gnu.gdb.i386.* of the GDB
 * manual, G.5.6, and the system registers that it only shows. x87 and SSE state as FXSAVE lays it
 * out, SDM volume 1, 10.5.1.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "debug_rsp.h"
#include "mobo/base.h"

/* Offsets in the XSAVE area. */
enum {
	X_FCW = 0,
	X_FSW = 2,
	X_FTW = 4,
	X_FOP = 6,
	X_FIP = 8,
	X_FDP = 16,
	X_MXCSR = 24,
	X_ST = 32,
	X_XMM = 160,
	X_YMMH = 576,
	N_FPU = 8,
	FTAG = 2
};

enum place { GPR, RIP, FLAGS, SELECTOR, ST, FPU, XMM, MXCSR, FS_BASE, GS_BASE, SYSTEM, YMMH };
enum feature { CORE, SSE, SEGMENTS, SYSTEM_FEATURE, AVX, N_FEATURES };

/* `n` registers in a row. */
struct row {
	enum feature feature;
	enum place place;
	unsigned n, bits;
	const char *names[16]; /* NULL behind the first: it is a pattern with %u */
	const char *type;
};

/* clang-format off */
static const struct row rows[] = {
	{ CORE, GPR, 16, 64, { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9",
	  "r10", "r11", "r12", "r13", "r14", "r15" }, "int64" },
	{ CORE, RIP, 1, 64, { "rip" }, "code_ptr" },
	{ CORE, FLAGS, 1, 32, { "eflags" }, "i386_eflags" },
	{ CORE, SELECTOR, 6, 32, { "cs", "ss", "ds", "es", "fs", "gs" }, "int32" },
	{ CORE, ST, 8, 80, { "st%u" }, "i387_ext" },
	{ CORE, FPU, N_FPU, 32, { "fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop" },
	  "int" },
	{ SSE, XMM, 16, 128, { "xmm%u" }, "vec128" },
	{ SSE, MXCSR, 1, 32, { "mxcsr" }, "int" },
	{ SEGMENTS, FS_BASE, 1, 64, { "fs_base" }, "int" },
	{ SEGMENTS, GS_BASE, 1, 64, { "gs_base" }, "int" },
	{ SYSTEM_FEATURE, SYSTEM, 7, 64, { "k_gs_base", "cr0", "cr2", "cr3", "cr4", "cr8", "efer" },
	  "int" },
	{ AVX, YMMH, 16, 128, { "ymm%uh" }, "uint128" },
};
/* clang-format on */

static const char *const features[N_FEATURES] = {
	[CORE] = "org.gnu.gdb.i386.core",	  [SSE] = "org.gnu.gdb.i386.sse",
	[SEGMENTS] = "org.gnu.gdb.i386.segments", [SYSTEM_FEATURE] = "mobo.system",
	[AVX] = "org.gnu.gdb.i386.avx",
};

/* The row of a register and its index there; NULL: no such register. */
static const struct row *find(unsigned n, bool avx, unsigned *index)
{
	for (size_t i = 0; i < MOBO_ARRAY_LEN(rows); i++) {
		if (rows[i].feature == AVX && !avx) {
			break;
		}
		if (n < rows[i].n) {
			*index = n;
			return &rows[i];
		}
		n -= rows[i].n;
	}
	*index = 0;
	return NULL;
}

unsigned rsp_n_regs(bool avx)
{
	unsigned n = 0;

	for (size_t i = 0; i < MOBO_ARRAY_LEN(rows); i++) {
		n += rows[i].feature == AVX && !avx ? 0 : rows[i].n;
	}
	return n;
}

unsigned rsp_reg_len(unsigned n, bool avx)
{
	unsigned index;
	const struct row *row = find(n, avx, &index);

	return row ? row->bits / 8 : 0;
}

/* -- The x87's small registers -- */

static uint64_t load(const uint8_t *p, unsigned len)
{
	uint64_t n = 0;

	memcpy(&n, p, len);
	return n;
}

/*
 * The tag word of FSAVE from FXSAVE's bit per register: 0 valid, 1 zero, 2 special, 3 empty. Tags
 * are of physical registers, st[] is relative to the top. SDM volume 1, 8.1.7.
 */
static uint32_t full_tags(const uint8_t *x)
{
	unsigned top = load(x + X_FSW, 2) >> 11 & 7;
	uint32_t tags = 0;

	for (unsigned phys = 0; phys < 8; phys++) {
		const uint8_t *st = x + X_ST + ((phys - top) & 7) * 16;
		uint64_t mantissa = load(st, 8);
		unsigned exponent = load(st + 8, 2) & 0x7fff;
		uint32_t tag = exponent == 0 && mantissa == 0				  ? 1
			       : exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2
											  : 0;

		tags |= (x[X_FTW] >> phys & 1 ? tag : 3) << (2 * phys);
	}
	return tags;
}

static uint32_t fpu_get(const uint8_t *x, unsigned index)
{
	switch (index) {
	case 0: return (uint32_t)load(x + X_FCW, 2);
	case 1: return (uint32_t)load(x + X_FSW, 2);
	case FTAG: return full_tags(x);
	case 3: return (uint32_t)load(x + X_FIP + 4, 2);
	case 4: return (uint32_t)load(x + X_FIP, 4);
	case 5: return (uint32_t)load(x + X_FDP + 4, 2);
	case 6: return (uint32_t)load(x + X_FDP, 4);
	default: return (uint32_t)load(x + X_FOP, 2);
	}
}

static void fpu_set(uint8_t *x, unsigned index, uint32_t val)
{
	static const struct {
		uint8_t at, len;
	} places[N_FPU] = {{X_FCW, 2}, {X_FSW, 2},     {X_FTW, 0}, {X_FIP + 4, 2},
			   {X_FIP, 4}, {X_FDP + 4, 2}, {X_FDP, 4}, {X_FOP, 2}};

	if (index == FTAG) {
		x[X_FTW] = 0;
		for (unsigned phys = 0; phys < 8; phys++) {
			x[X_FTW] |= (val >> (2 * phys) & 3) != 3 ? 1 << phys : 0;
		}
		return;
	}
	memcpy(x + places[index].at, &val, places[index].len);
}

/* -- All of them -- */

static const uint8_t gpr_order[16] = {0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15};

/* Where a register is that is kept as it is; NULL for the others. */
static void *place_of(struct rsp_regs *r, enum place place, unsigned i)
{
	switch (place) {
	case GPR: return &r->gpr[gpr_order[i]];
	case RIP: return &r->rip;
	case FLAGS: return &r->rflags;
	case SELECTOR: return &r->selector[i];
	case ST: return r->xsave + X_ST + i * 16;
	case FPU: return NULL;
	case XMM: return r->xsave + X_XMM + i * 16;
	case MXCSR: return r->xsave + X_MXCSR;
	case FS_BASE: return &r->fs_base;
	case GS_BASE: return &r->gs_base;
	case SYSTEM: return &r->system[i];
	case YMMH: return r->xsave + X_YMMH + i * 16;
	}
	return NULL;
}

void rsp_reg_get(const struct rsp_regs *regs, unsigned n, uint8_t *to)
{
	unsigned i;
	const struct row *row = find(n, true, &i);
	uint32_t val;

	MOBO_ASSERT(row);
	if (row->place == FPU) {
		val = fpu_get(regs->xsave, i);
		memcpy(to, &val, sizeof(val));
	} else {
		memcpy(to, place_of((struct rsp_regs *)regs, row->place, i), row->bits / 8);
	}
}

bool rsp_reg_set(struct rsp_regs *regs, unsigned n, const uint8_t *from)
{
	unsigned i;
	const struct row *row = find(n, true, &i);
	uint8_t *to;

	MOBO_ASSERT(row);
	to = place_of(regs, row->place, i);
	if (row->place == SELECTOR || row->place == SYSTEM) {
		return memcmp(to, from, row->bits / 8) == 0;
	}
	if (row->place == FPU) {
		fpu_set(regs->xsave, i, (uint32_t)load(from, 4));
	} else {
		memcpy(to, from, row->bits / 8);
	}
	return true;
}

/* -- The description -- */

static const char vec128[] =
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
	"<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
	"<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
	"<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
	"<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
	"<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
	"<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" "
	"type=\"uint128\"/></union>";

struct text {
	char *p;
	size_t n, size;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->n, t->size - t->n, fmt, ap);
	va_end(ap);
	MOBO_ASSERT(n >= 0 && (size_t)n < t->size - t->n);
	t->n += (size_t)n;
}

static void add_flags(struct text *t)
{
	static const struct {
		const char *name;
		unsigned bit;
	} flags[] = {{"CF", 0},	 {"PF", 2},   {"AF", 4},   {"ZF", 6},  {"SF", 7},  {"TF", 8},
		     {"IF", 9},	 {"DF", 10},  {"OF", 11},  {"NT", 14}, {"RF", 16}, {"VM", 17},
		     {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}};

	add(t, "<flags id=\"i386_eflags\" size=\"4\">");
	for (size_t i = 0; i < MOBO_ARRAY_LEN(flags); i++) {
		add(t, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", flags[i].name, flags[i].bit,
		    flags[i].bit);
	}
	add(t, "</flags>");
}

static void add_row(struct text *t, const struct row *row)
{
	char name[16];

	for (unsigned i = 0; i < row->n; i++) {
		if (strchr(row->names[0], '%')) {
			const char *u = strchr(row->names[0], '%');

			snprintf(name, sizeof(name), "%.*s%u%s", (int)(u - row->names[0]),
				 row->names[0], i, u + 2);
		} else {
			snprintf(name, sizeof(name), "%s", row->names[i]);
		}
		add(t, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>", name, row->bits,
		    row->type, row->place == FPU ? " group=\"float\"" : "");
	}
}

size_t rsp_xml(char *xml, size_t len, bool avx)
{
	struct text t = {xml, 0, len};

	add(&t, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
		"<architecture>i386:x86-64</architecture>");
	for (unsigned f = 0; f < N_FEATURES; f++) {
		if (f == AVX && !avx) {
			break;
		}
		add(&t, "<feature name=\"%s\">", features[f]);
		if (f == CORE) {
			add_flags(&t);
		} else if (f == SSE) {
			add(&t, "%s", vec128);
		}
		for (size_t i = 0; i < MOBO_ARRAY_LEN(rows); i++) {
			if (rows[i].feature == f) {
				add_row(&t, &rows[i]);
			}
		}
		add(&t, "</feature>");
	}
	add(&t, "</target>");
	return t.n;
}
