/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel 82371SB (PIIX3), function 0: PCI to ISA bridge, datasheet 290550-002, sections 2.2 and 2.5.
 * Here are its configuration registers, the reset control register, port 92h and the two 8237s with
 * their page registers. Interrupt controllers, timer, port 61h and the routing of PCI interrupts by
 * PIRQRC are the engine's; advanced power management is with the power management chip.
 *
 * Not modelled: DMA transfers (dma.c), SMI, the motherboard device interrupt and DMA registers, the
 * top-of-memory register and the decode enables of XBCS (storage only).
 */
#include "dma.h"
#include "mobo/base.h"
#include "mobo/device.h"

enum { REGION_DMA1, REGION_DMA1_ALIAS, REGION_PAGES, REGION_DMA2, REGION_PORT92, REGION_RC };
enum { LINE_A20, LINE_INIT };

enum { PORT92_FAST_INIT = 1 << 0, PORT92_A20 = 1 << 1 };
/* Reset control register (2.5.5.2). A rising edge of RCPU resets. */
enum { RC_RCPU = 1 << 2, RC_SRST = 1 << 1, RC_MASK = 0x06 };

enum { N_PAGES = 15, PIRQRC_OFFSET = 0x60 };

struct piix3_state {
	struct dma_state dma[2];
	uint8_t page[N_PAGES]; /* ports 81h-8Fh */
	uint8_t port92;
	uint8_t rc;
	uint8_t reserved;
};

static void update_a20(struct mobo_dev *d)
{
	const struct piix3_state *s = mobo_dev_state(d);

	mobo_dev_line(d, LINE_A20, s->port92 & PORT92_A20);
}

/* -- DMA -- */

static struct dma_state *controller(struct mobo_dev *d, unsigned region, uint64_t offset,
				    unsigned *reg)
{
	struct piix3_state *s = mobo_dev_state(d);

	if (region == REGION_DMA2) { /* its registers are two ports apart */
		*reg = (unsigned)offset / 2;
		return &s->dma[1];
	}
	*reg = (unsigned)offset;
	return &s->dma[0];
}

static uint64_t dma_port_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t val = 0;
	unsigned reg;

	for (unsigned i = 0; i < size; i++) {
		struct dma_state *c = controller(d, region, offset + i, &reg);
		bool odd = region == REGION_DMA2 && (offset + i) & 1;

		val |= (uint64_t)(odd ? 0xff : dma_read(c, reg)) << i * 8;
	}
	return val;
}

static void dma_port_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
			   uint64_t val)
{
	unsigned reg;

	for (unsigned i = 0; i < size; i++) {
		struct dma_state *c = controller(d, region, offset + i, &reg);

		if (region != REGION_DMA2 || !((offset + i) & 1)) {
			dma_write(c, reg, (uint8_t)(val >> i * 8));
		}
	}
}

/* -- Port 92h and reset control -- */

static void port92_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct piix3_state *s = mobo_dev_state(d);
	uint8_t old = s->port92;

	s->port92 = (uint8_t)val;
	update_a20(d);
	if (~old & val & PORT92_FAST_INIT) {
		mobo_dev_line_pulse(d, LINE_INIT);
	}
}

static void rc_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	const struct piix3_state *s = mobo_dev_state(d);

	if (~s->rc & val & RC_RCPU) {
		if (val & RC_SRST) {
			mobo_dev_notify(d, "reset", "port CF9h");
		} else {
			mobo_dev_line_pulse(d, LINE_INIT);
		}
	}
}

/* -- Tables -- */

/* clang-format off */
#define DMA_REGION(text, start, bytes) {                                                           \
	.name = text, .kind = MOBO_REGION_PIO, .base = start, .len = bytes, .priority = 1,         \
	.read = dma_port_read, .write = dma_port_write }
static const struct mobo_region regions[] = {
	[REGION_DMA1] = DMA_REGION("dma1", 0x00, 16),
	[REGION_DMA1_ALIAS] = DMA_REGION("dma1-alias", 0x10, 16),
	[REGION_PAGES] = { .name = "dma-page", .kind = MOBO_REGION_PIO, .base = 0x81,
			   .len = N_PAGES, .priority = 1 },
	[REGION_DMA2] = DMA_REGION("dma2", 0xc0, 32),
	[REGION_PORT92] = { .name = "port92", .kind = MOBO_REGION_PIO, .base = 0x92, .len = 1,
			    .priority = 1 },
	/* In front of the configuration address register at CF8h, which is double words only. */
	[REGION_RC] = { .name = "reset-control", .kind = MOBO_REGION_PIO, .base = 0xcf9, .len = 1,
			.priority = 2 },
};

static const struct mobo_line lines[] = {
	[LINE_A20] = { MOBO_LINE_A20, 0 },
	[LINE_INIT] = { MOBO_LINE_INIT, 0 },
};

#define PAGE(text, n) { text, REGION_PAGES, n, 1, offsetof(struct piix3_state, page[n]), 0xff }
static const struct mobo_reg regs[] = {
	PAGE("PAGE2", 0), PAGE("PAGE3", 1), PAGE("PAGE1", 2), PAGE("PAGE84", 3), PAGE("PAGE85", 4),
	PAGE("PAGE86", 5), PAGE("PAGE0", 6), PAGE("PAGE88", 7), PAGE("PAGE6", 8), PAGE("PAGE7", 9),
	PAGE("PAGE5", 10), PAGE("PAGE8C", 11), PAGE("PAGE8D", 12), PAGE("PAGE8E", 13),
	PAGE("REFRESH", 14),
	{ "PORT92", REGION_PORT92, 0, 1, offsetof(struct piix3_state, port92),
	  PORT92_A20 | PORT92_FAST_INIT, NULL, port92_write },
	{ "RC", REGION_RC, 0, 1, offsetof(struct piix3_state, rc), RC_MASK, NULL, rc_write },
};

static const struct mobo_pci_config config[] = {
	{ 0x04,          2, 0x0007,     0x0008 }, /* PCICMD: special cycles */
	{ 0x06,          2, 0x0200,     0x0000 }, /* PCISTS */
	{ 0x4c,          1, 0x4d,       0xff }, /* IORT */
	{ 0x4e,          2, 0x0003,     0x07ff }, /* XBCS */
	{ PIRQRC_OFFSET, 4, 0x80808080, 0x8f8f8f8f }, /* PIRQRC[A:D] */
	{ 0x69,          1, 0x02,       0xfe }, /* TOM */
	{ 0x6a,          2, 0x0000,     0x0080 }, /* MSTAT */
	{ 0x70,          1, 0x80,       0xef }, /* MBIRQ0 */
	{ 0x76,          2, 0x0c0c,     0x8f8f }, /* MBDMA[1:0] */
	{ 0x78,          2, 0x0002,     0xffff }, /* PCSC */
	{ 0x80,          1, 0x00,       0x7f }, /* APICBASE */
	{ 0x82,          1, 0x00,       0x0f }, /* DLC */
	{ 0xa0,          1, 0x08,       0x1f }, /* SMICNTL */
	{ 0xa2,          2, 0x0000,     0x00ff }, /* SMIEN */
	{ 0xa4,          4, 0x00000000, 0xa000ffff }, /* SEE */
	{ 0xa8,          1, 0x0f,       0xff }, /* FTMR */
	{ 0xaa,          2, 0x0000,     0x00ff }, /* SMIREQ */
	{ 0xac,          1, 0x00,       0xff }, /* CTLTMR */
	{ 0xae,          1, 0x00,       0xff }, /* CTHTMR */
};
/* clang-format on */

static const struct mobo_pci_function functions[] = {
	{
		.device = 1,
		.function = 0,
		.vendor_id = 0x8086,
		.device_id = 0x7000,
		.subsystem_vendor_id = 0x1af4,
		.subsystem_id = 0x1100,
		.class_code = 0x060100,
		.header_type = 0x80, /* IDE and power management are functions 1 and 3 */
		.config = config,
		.n_config = MOBO_ARRAY_LEN(config),
		.pirq_offset = PIRQRC_OFFSET,
	},
};

#define DMA_FIELD(n, member, text)                                    \
	{                                                             \
		text, offsetof(struct piix3_state, dma[n].member),    \
			sizeof(((struct dma_state *)0)->member), 1, 1 \
	}
#define DMA_FIELD_ARRAY(n, member, text)                                 \
	{                                                                \
		text, offsetof(struct piix3_state, dma[n].member),       \
			sizeof(((struct dma_state *)0)->member[0]), 4, 1 \
	}
#define DMA_FIELDS(n)                                                                           \
	DMA_FIELD_ARRAY(n, base_address, "dma" #n ".base_address"),                             \
		DMA_FIELD_ARRAY(n, base_count, "dma" #n ".base_count"),                         \
		DMA_FIELD_ARRAY(n, address, "dma" #n ".address"),                               \
		DMA_FIELD_ARRAY(n, count, "dma" #n ".count"),                                   \
		DMA_FIELD_ARRAY(n, mode, "dma" #n ".mode"),                                     \
		DMA_FIELD(n, command, "dma" #n ".command"),                                     \
		DMA_FIELD(n, status, "dma" #n ".status"), DMA_FIELD(n, mask, "dma" #n ".mask"), \
		DMA_FIELD(n, high_byte, "dma" #n ".high_byte")
static const struct mobo_field fields[] = {
	DMA_FIELDS(0),
	DMA_FIELDS(1),
	MOBO_FIELD_ARRAY(struct piix3_state, page),
	MOBO_FIELD(struct piix3_state, port92),
	MOBO_FIELD(struct piix3_state, rc),
	MOBO_FIELD(struct piix3_state, reserved),
};

static void reset(struct mobo_dev *d)
{
	struct piix3_state *s = mobo_dev_state(d);

	*s = (struct piix3_state){0};
	dma_reset(&s->dma[0]);
	dma_reset(&s->dma[1]);
	update_a20(d);
}

const struct mobo_chip_class mobo_chip_piix3 = {
	.name = "piix3",
	.description = "Intel 82371SB (PIIX3) ISA bridge",
	.state_version = 1,
	.restart = MOBO_RESTART_PAUSE,
	.state_size = sizeof(struct piix3_state),
	.regions = regions,
	.n_regions = MOBO_ARRAY_LEN(regions),
	.lines = lines,
	.n_lines = MOBO_ARRAY_LEN(lines),
	.functions = functions,
	.n_functions = MOBO_ARRAY_LEN(functions),
	.regs = regs,
	.n_regs = MOBO_ARRAY_LEN(regs),
	.fields = fields,
	.n_fields = MOBO_ARRAY_LEN(fields),
	.reset = reset,
	.restored = update_a20,
};
