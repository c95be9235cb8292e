/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IDE function of the 82371SB (PIIX3, Intel 290550): two channels at the legacy ports with IRQ 14
 * and 15, bus master at BAR 4; on them ATA-7 disks and an ATAPI CD-ROM drive (MMC-3).
 *
 * Not modelled: timing (IDETIM and SIDETIM are storage; the channels answer whether or not they are
 * enabled there), Ultra DMA's difference from other DMA, the HOST PROTECTED AREA but for READ
 * NATIVE MAX, SECURITY, queued commands, audio, ECC bytes of raw CD sectors. A disk's images and
 * their configuration keys: unit.c.
 *
 * Host I/O is done by one thread a channel (worker.c); the registers never wait for it, but for a
 * reset, a stopped bus master, a pause and a change of medium, which need it to be over.
 */
#include "ide.h"

#include <errno.h>
#include <string.h>

struct ide ide_channel(struct mobo_dev *d, unsigned n)
{
	struct ide_state *s = mobo_dev_state(d);
	struct ide i = {.d = d, .n = n, .c = &s->channel[n]};

	ide_select(&i);
	return i;
}

void ide_select(struct ide *i)
{
	struct ide_state *s = mobo_dev_state(i->d);
	struct ide_priv *p = mobo_dev_priv(i->d);
	unsigned unit = i->n * 2 + (i->c->select & DEV_DEV ? 1 : 0);

	i->drive = &s->drive[unit];
	i->unit = &p->unit[unit];
}

/* -- Regions, lines, PCI -- */

static unsigned data_read_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				 unsigned size, void *buf, unsigned count)
{
	struct ide i = ide_channel(d, region / 2);

	if (offset == 0) {
		ide_data_read(&i, buf, size * count);
		return count;
	}
	for (unsigned k = 0; k < count; k++) {
		uint64_t v = ide_command_read(d, region, offset, size);

		memcpy((char *)buf + (size_t)k * size, &v, size);
	}
	return count;
}

static unsigned data_write_string(struct mobo_dev *d, unsigned region, uint64_t offset,
				  unsigned size, const void *buf, unsigned count)
{
	struct ide i = ide_channel(d, region / 2);

	if (offset == 0) {
		ide_data_write(&i, buf, size * count);
		return count;
	}
	for (unsigned k = 0; k < count; k++) {
		uint64_t v = 0;

		memcpy(&v, (const char *)buf + (size_t)k * size, size);
		ide_command_write(d, region, offset, size, v);
	}
	return count;
}

#define COMMAND_BLOCK(name_, base_)                                                             \
	{                                                                                       \
		.name = name_, .kind = MOBO_REGION_PIO, .base = base_, .len = 8, .priority = 1, \
		.read = ide_command_read, .write = ide_command_write,                           \
		.read_string = data_read_string, .write_string = data_write_string,             \
	}
#define CONTROL_BLOCK(name_, base_)                                                             \
	{                                                                                       \
		.name = name_, .kind = MOBO_REGION_PIO, .base = base_, .len = 1, .priority = 1, \
	}

static const struct mobo_region regions[] = {
	[IDE_REGION_COMMAND0] = COMMAND_BLOCK("command0", 0x1f0),
	[IDE_REGION_CONTROL0] = CONTROL_BLOCK("control0", 0x3f6),
	[IDE_REGION_COMMAND1] = COMMAND_BLOCK("command1", 0x170),
	[IDE_REGION_CONTROL1] = CONTROL_BLOCK("control1", 0x376),
	[IDE_REGION_BUSMASTER] = {.name = "busmaster",
				  .kind = MOBO_REGION_BAR_IO,
				  .len = 16,
				  .priority = 1,
				  .fn = 0,
				  .bar = 4},
};

static const struct mobo_line lines[] = {{MOBO_LINE_ISA, 14}, {MOBO_LINE_ISA, 15}};

static const struct mobo_pci_config config[] = {
	{.offset = 0x06,
	 .len = 2,
	 .reset = 0x0280,
	 .write_mask = 0}, /* medium DEVSEL#, back-to-back */
	{.offset = 0x0d, .len = 1, .reset = 0, .write_mask = 0xf0},	  /* master latency timer */
	{.offset = 0x40, .len = 4, .reset = 0, .write_mask = 0xf3fff3ff}, /* IDETIM, both */
	{.offset = 0x44, .len = 1, .reset = 0, .write_mask = 0xff},	  /* SIDETIM */
};

static const struct mobo_pci_function functions[] = {{
	.device = 1,
	.function = 1,
	.vendor_id = 0x8086,
	.device_id = 0x7010,
	.class_code = 0x010180, /* IDE, legacy ports, bus master */
	.config = config,
	.n_config = MOBO_ARRAY_LEN(config),
}};

/*
 * The command block is not in the table, because accesses to its data register have the width of
 * the access and overlap the registers behind it.
 */
/* clang-format off */
#define BUSMASTER(n, at)                                                                           \
	{ "BMICX" n, IDE_REGION_BUSMASTER, at, 1,                                                  \
	  offsetof(struct ide_state, channel[at / 8].bm_command), BM_START | BM_READ, NULL,        \
	  ide_bm_command_write, NULL, false },                                                     \
	{ "BMISX" n, IDE_REGION_BUSMASTER, at + 2, 1, MOBO_NO_STORAGE, 0xff,                       \
	  ide_bm_status_read, ide_bm_status_write, NULL, false },                                  \
	{ "BMIDTPX" n, IDE_REGION_BUSMASTER, at + 4, 4,                                            \
	  offsetof(struct ide_state, channel[at / 8].bm_table), 0xfffffffc, NULL,                  \
	  NULL, NULL, false }

static const struct mobo_reg regs[] = {
	{ "ALTSTATUS0", IDE_REGION_CONTROL0, 0, 1, MOBO_NO_STORAGE, 0xff, ide_control_read,
	  ide_control_write, NULL, false },
	{ "ALTSTATUS1", IDE_REGION_CONTROL1, 0, 1, MOBO_NO_STORAGE, 0xff, ide_control_read,
	  ide_control_write, NULL, false },
	BUSMASTER("0", 0),
	BUSMASTER("1", 8),
};

#define CHANNEL_FIELD(n, member) MOBO_FIELD(struct ide_state, channel[n].member)
#define CHANNEL_FIELDS(n)                                                                          \
	CHANNEL_FIELD(n, lba), CHANNEL_FIELD(n, count), CHANNEL_FIELD(n, pos),                     \
	CHANNEL_FIELD(n, len), CHANNEL_FIELD(n, drq_end), CHANNEL_FIELD(n, bm_table),              \
	CHANNEL_FIELD(n, prd_next), CHANNEL_FIELD(n, prd_addr), CHANNEL_FIELD(n, prd_left),        \
	CHANNEL_FIELD(n, chunk), CHANNEL_FIELD(n, prd_last), CHANNEL_FIELD(n, bm_command),         \
	CHANNEL_FIELD(n, bm_status), CHANNEL_FIELD(n, select), CHANNEL_FIELD(n, control),          \
	CHANNEL_FIELD(n, phase), CHANNEL_FIELD(n, op), CHANNEL_FIELD(n, io),                       \
	CHANNEL_FIELD(n, dma), CHANNEL_FIELD(n, durable), CHANNEL_FIELD(n, resetting),             \
	CHANNEL_FIELD(n, lba48), MOBO_FIELD_ARRAY(struct ide_state, channel[n].data)
#define DRIVE_FIELD(n, member) MOBO_FIELD(struct ide_state, drive[n].member)
#define DRIVE_PAIR(n, member) MOBO_FIELD_ARRAY(struct ide_state, drive[n].member)
#define DRIVE_FIELDS(n)                                                                            \
	DRIVE_PAIR(n, feature), DRIVE_PAIR(n, sector_count), DRIVE_PAIR(n, lba_low),               \
	DRIVE_PAIR(n, lba_mid), DRIVE_PAIR(n, lba_high), DRIVE_FIELD(n, status),                   \
	DRIVE_FIELD(n, error), DRIVE_FIELD(n, intrq), DRIVE_FIELD(n, heads),                       \
	DRIVE_FIELD(n, sectors), DRIVE_FIELD(n, multiple), DRIVE_FIELD(n, transfer_mode),          \
	DRIVE_FIELD(n, write_cache), DRIVE_FIELD(n, look_ahead), DRIVE_FIELD(n, smart),            \
	DRIVE_FIELD(n, standby), DRIVE_FIELD(n, sense_key), DRIVE_FIELD(n, asc),                   \
	DRIVE_FIELD(n, ascq), DRIVE_FIELD(n, attention), DRIVE_FIELD(n, tray_open),                \
	DRIVE_FIELD(n, locked), DRIVE_FIELD(n, media_events)

static const struct mobo_field fields[] = {
	CHANNEL_FIELDS(0), CHANNEL_FIELDS(1),
	DRIVE_FIELDS(0), DRIVE_FIELDS(1), DRIVE_FIELDS(2), DRIVE_FIELDS(3),
};
/* clang-format on */

/* -- Verbs -- */

static void finish(struct mobo_dev *d)
{
	struct ide_priv *p = mobo_dev_priv(d);

	for (unsigned n = 0; n < IDE_CHANNELS; n++) {
		ide_worker_stop(p->worker[n]);
		p->worker[n] = NULL;
	}
	for (unsigned n = 0; n < IDE_UNITS; n++) {
		ide_unit_finish(&p->unit[n]);
	}
}

static int init(struct mobo_dev *d)
{
	struct ide_priv *p = mobo_dev_priv(d);
	int r = 0;

	for (unsigned n = 0; r == 0 && n < IDE_UNITS; n++) {
		r = ide_unit_init(d, n);
	}
	for (unsigned n = 0; r == 0 && n < IDE_CHANNELS; n++) {
		r = ide_worker_start(&p->worker[n]);
		if (r != 0) {
			mobo_dev_error(d, "cannot start a thread: %s", strerror(-r));
			break;
		}
		mobo_dev_watch_fd(d, p->worker[n]->event, true);
	}
	if (r != 0) {
		finish(d);
	}
	return r;
}

static void reset(struct mobo_dev *d)
{
	struct ide_priv *p = mobo_dev_priv(d);
	struct ide_state *s = mobo_dev_state(d);

	for (unsigned n = 0; n < IDE_CHANNELS; n++) {
		ide_worker_take(p->worker[n], true);
		memset(&s->channel[n], 0, sizeof(s->channel[n]));
	}
	for (unsigned n = 0; n < IDE_UNITS; n++) {
		ide_drive_reset(&p->unit[n], &s->drive[n], true);
	}
}

static void fd_ready(struct mobo_dev *d, int fd)
{
	struct ide_priv *p = mobo_dev_priv(d);

	for (unsigned n = 0; n < IDE_CHANNELS; n++) {
		struct ide i = ide_channel(d, n);

		if (p->worker[n]->event == fd && ide_worker_take(p->worker[n], false) &&
		    i.c->phase == PHASE_IO) {
			ide_io_completed(&i, p->worker[n]->job.result);
		}
	}
}

static void pause(struct mobo_dev *d)
{
	for (unsigned n = 0; n < IDE_CHANNELS; n++) {
		struct ide i = ide_channel(d, n);

		while (i.c->phase == PHASE_IO) {
			ide_drain(&i, true);
		}
	}
}

/* A state from elsewhere may be nonsense: then the command is over, and no index is wrong. */
static bool sane(const struct ide *i)
{
	const struct ide_channel *c = i->c;
	bool cd_op = c->op == OP_CD_READ || c->op == OP_CD_READ_RAW || c->op == OP_PACKET ||
		     c->op == OP_RECEIVE;
	bool disk_op = c->op == OP_READ || c->op == OP_WRITE || c->op == OP_TRIM ||
		       c->op == OP_VERIFY || c->op == OP_FLUSH;

	if (c->phase >= N_PHASES || c->op >= N_OPS || c->io >= N_IOS || c->len > IDE_DATA ||
	    c->drq_end > c->len || c->pos > c->len ||
	    (c->phase != PHASE_IDLE && !i->unit->present) ||
	    (c->phase != PHASE_IDLE && (i->unit->cdrom ? disk_op : cd_op))) {
		return false;
	}
	switch ((enum ide_phase)c->phase) {
	case PHASE_PIO_IN:
	case PHASE_PIO_OUT: return c->pos < c->drq_end && c->chunk > 0;
	case PHASE_DMA: return c->dma && c->op != OP_NONE;
	case PHASE_IO:
		return c->io != IO_NONE && (c->io != IO_DRAIN || c->pos % IDE_SECTOR == 0) &&
		       (c->io != IO_FILL || c->chunk > 0);
	case PHASE_IDLE:
	case N_PHASES: break;
	}
	return true;
}

static void restored(struct mobo_dev *d)
{
	struct ide_priv *p = mobo_dev_priv(d);
	struct ide_state *s = mobo_dev_state(d);

	for (unsigned n = 0; n < IDE_UNITS; n++) {
		struct ide_drive *v = &s->drive[n];

		v->multiple = v->multiple > IDE_MULTIPLE_MAX || (v->multiple & (v->multiple - 1))
				      ? 0
				      : v->multiple;
	}
	for (unsigned n = 0; n < IDE_CHANNELS; n++) {
		struct ide i = ide_channel(d, n);

		ide_worker_take(p->worker[n], true);
		if (!sane(&i)) {
			i.c->phase = PHASE_IDLE;
			i.c->op = OP_NONE;
			i.c->io = IO_NONE;
			i.c->pos = i.c->len = i.c->drq_end = 0;
			i.drive->status = ST_DRDY | ST_DSC | ST_ERR;
			i.drive->error = ER_ABRT;
		}
		/* A job that was cut off is begun again: nobody saw it half done. */
		if (i.c->phase == PHASE_IO) {
			i.c->phase = i.c->io == IO_DIRECT ? PHASE_DMA : PHASE_IDLE;
			ide_start_io(&i, i.c->io);
		}
		ide_update_line(d, n);
	}
}

static int media(struct mobo_dev *d, unsigned slot, bool force)
{
	return ide_cd_media(d, slot, force);
}

const struct mobo_chip_class mobo_chip_ide;

const struct mobo_chip_class mobo_chip_ide = {
	.name = "ide",
	.description = "PIIX3 IDE controller with disks and CD-ROM drives",
	.state_version = 1,
	.restart = MOBO_RESTART_STATE,
	.state_size = sizeof(struct ide_state),
	.priv_size = sizeof(struct ide_priv),
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
	.init = init,
	.finish = finish,
	.reset = reset,
	.pause = pause,
	.restored = restored,
	.fd_ready = fd_ready,
	.media = media,
};
