/* SPDX-License-Identifier: Apache-2.0 */
/* PIIX3 IDE: state and the seams between its files. See ide.c. */
#ifndef MOBO_IDE_H
#define MOBO_IDE_H

#include <pthread.h>
#include <sys/uio.h>

#include "mobo/base.h"
#include "mobo/device.h"
#include "mobo/image.h"

enum { IDE_CHANNELS = 2, IDE_UNITS = 4 };
enum {
	IDE_REGION_COMMAND0,
	IDE_REGION_CONTROL0,
	IDE_REGION_COMMAND1,
	IDE_REGION_CONTROL1,
	IDE_REGION_BUSMASTER
};
enum { IDE_SECTOR = 512, IDE_CD_BLOCK = 2048, IDE_CD_RAW = 2352 };
enum { IDE_DATA = 16384, IDE_MULTIPLE_MAX = 16, IDE_TRIM_BLOCKS = 8, IDE_PACKET = 12 };

/* Status (ATA-7, 6.1) */
enum {
	ST_ERR = 1 << 0, /* ATAPI: CHK */
	ST_DRQ = 1 << 3,
	ST_DSC = 1 << 4, /* seek complete */
	ST_DF = 1 << 5,
	ST_DRDY = 1 << 6,
	ST_BSY = 1 << 7,
};
/* Error */
enum { ER_ABRT = 1 << 2, ER_IDNF = 1 << 4, ER_UNC = 1 << 6 };
/* Device */
enum { DEV_HEAD = 0xf, DEV_DEV = 1 << 4, DEV_LBA = 1 << 6 };
/* Device control */
enum { CTL_NIEN = 1 << 1, CTL_SRST = 1 << 2, CTL_HOB = 1 << 7 };
/* Interrupt reason (sector count register of packet commands) */
enum { IR_COD = 1 << 0, IR_IO = 1 << 1 };
/* Bus master command and status (82371SB, 2.8) */
enum { BM_START = 1 << 0, BM_READ = 1 << 3 };
enum {
	BM_ACTIVE = 1 << 0,
	BM_ERROR = 1 << 1,
	BM_IRQ = 1 << 2,
	BM_DMA0 = 1 << 5,
	BM_DMA1 = 1 << 6,
};

enum ide_phase {
	PHASE_IDLE,
	PHASE_PIO_IN,  /* the guest takes data[pos ... drq_end) */
	PHASE_PIO_OUT, /* the guest gives data[pos ... drq_end) */
	PHASE_DMA,     /* waiting for the bus master */
	PHASE_IO,      /* busy: the worker has a job */
	N_PHASES,
};

/* What the command in progress moves. */
enum ide_op {
	OP_NONE,
	OP_READ, /* disk -> guest; count blocks from lba on */
	OP_WRITE,
	OP_SEND,	/* data[0 ... len) -> guest */
	OP_RECEIVE,	/* guest -> data, and forgotten (MODE SELECT) */
	OP_TRIM,	/* ranges: guest -> data -> discards */
	OP_PACKET,	/* command packet */
	OP_CD_READ,	/* blocks of 2048 */
	OP_CD_READ_RAW, /* blocks of 2352, made around the 2048 */
	OP_FLUSH,
	OP_VERIFY,
	N_OPS,
};

/* Job of the worker in PHASE_IO; each can be started again from the state. */
enum ide_io {
	IO_NONE,
	IO_FILL,   /* blocks from lba on -> data */
	IO_DRAIN,  /* data[0 ... pos) -> blocks from lba on */
	IO_DIRECT, /* blocks from lba on <-> guest memory by the bus master's cursor */
	IO_FLUSH,
	IO_VERIFY,
	IO_TRIM,
	N_IOS,
};

/* One drive, present or not. The members are bytes, so there is no padding. */
struct ide_drive {
	/* [0]: last written, [1]: the one before, for 48-bit addresses */
	uint8_t feature[2], sector_count[2], lba_low[2], lba_mid[2], lba_high[2];
	uint8_t status, error;
	uint8_t intrq;
	uint8_t heads, sectors; /* current translation */
	uint8_t multiple;	/* sectors a block; 0: not set */
	uint8_t transfer_mode;	/* SET FEATURES 03h */
	uint8_t write_cache, look_ahead;
	uint8_t smart;
	uint8_t standby;
	/* ATAPI */
	uint8_t sense_key, asc, ascq;
	uint8_t attention; /* unit attention pending: its ASC, 0: none */
	uint8_t tray_open, locked;
	uint8_t media_events; /* bit per event of GET EVENT STATUS NOTIFICATION */
};

struct ide_channel {
	uint64_t lba;	   /* of the block that data[0] belongs to, or that is moved next */
	uint32_t count;	   /* blocks from lba on to move still */
	uint32_t pos, len; /* in data: the guest is at, valid or wanted bytes */
	uint32_t drq_end;  /* end of the DRQ block in data */
	uint32_t bm_table;
	uint32_t prd_next, prd_addr, prd_left; /* cursor: next entry, rest of the current region */
	uint32_t chunk;			       /* PIO: bytes a DRQ block */
	uint8_t prd_last;
	uint8_t bm_command, bm_status;
	uint8_t select, control;
	uint8_t phase, op, io;
	uint8_t dma;	   /* the command moves its data by DMA */
	uint8_t durable;   /* flush after the last write */
	uint8_t resetting; /* SRST is set */
	uint8_t lba48;	   /* the command has 48-bit addresses */
	uint8_t data[IDE_DATA];
};

struct ide_state {
	struct ide_channel channel[IDE_CHANNELS];
	struct ide_drive drive[IDE_UNITS];
};

/* A drive's host side. */
struct ide_unit {
	bool present, cdrom, readonly;
	struct mobo_image *image; /* NULL: no medium */
	uint64_t n_blocks;	  /* of 512 or 2048 bytes */
	char serial[21], model[41];
	bool full_reported; /* the host's disk is full: said once */
};

enum ide_job_kind { JOB_READ, JOB_WRITE, JOB_FLUSH, JOB_VERIFY, JOB_TRIM };
enum ide_job_state { JOB_FREE, JOB_QUEUED, JOB_DONE };
enum { IDE_IOV = 1024, IDE_DMA_CHUNK = 1 << 20 };

struct ide_job {
	enum ide_job_kind kind;
	struct mobo_image *image;
	uint64_t off, len; /* bytes */
	bool flush;	   /* after a write */
	unsigned n_iov;
	struct iovec iov[IDE_IOV];
	uint64_t gpa[IDE_IOV]; /* where an element lies; main thread only */
	uint8_t ranges[IDE_TRIM_BLOCKS * IDE_SECTOR];
	int result;
};

/* One thread a channel does the host I/O, one job at a time. */
struct ide_worker {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	int event;		  /* eventfd: readable when a job is done */
	enum ide_job_state state; /* under lock */
	bool quit;
	struct ide_job job;
};

struct ide_priv {
	struct ide_unit unit[IDE_UNITS];
	struct ide_worker *worker[IDE_CHANNELS];
	uint8_t bounce[IDE_CHANNELS][IDE_DATA];
};

/* Everything that the functions of one channel need. */
struct ide {
	struct mobo_dev *d;
	unsigned n; /* channel */
	struct ide_channel *c;
	struct ide_drive *drive; /* the selected one */
	struct ide_unit *unit;
};
struct ide ide_channel(struct mobo_dev *d, unsigned n);
void ide_select(struct ide *i); /* drive and unit from the device register */

/* worker.c */
int ide_worker_start(struct ide_worker **ret);
void ide_worker_stop(struct ide_worker *w);   /* waits for the job; frees */
void ide_worker_submit(struct ide_worker *w); /* w->job is filled */
/* Take a finished job; wait: until it is. False: there is none. */
bool ide_worker_take(struct ide_worker *w, bool wait);

/* unit.c */
int ide_unit_init(struct mobo_dev *d, unsigned unit);
int ide_unit_media(struct mobo_dev *d, unsigned unit, bool *ret_present);
void ide_unit_finish(struct ide_unit *u);
void ide_unit_report(struct ide *i, const char *what, int err);

/* taskfile.c: registers, interrupts, resets */
uint64_t ide_command_read(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size);
void ide_command_write(struct mobo_dev *d, unsigned region, uint64_t offset, unsigned size,
		       uint64_t val);
uint64_t ide_control_read(struct mobo_dev *d, const struct mobo_reg *r);
void ide_control_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val);
void ide_irq(struct ide *i, bool on); /* INTRQ of the selected drive */
void ide_update_line(struct mobo_dev *d, unsigned channel);
void ide_signature(struct ide_unit *u, struct ide_drive *drive);
void ide_drive_reset(struct ide_unit *u, struct ide_drive *drive, bool hard);
void ide_diagnose(struct ide *i);

/* transfer.c: data phases */
void ide_done(struct ide *i);		     /* command completed; interrupt */
void ide_fail(struct ide *i, uint8_t error); /* ATA error; interrupt */
void ide_start_io(struct ide *i, enum ide_io io);
void ide_advance(struct ide_channel *c, uint64_t n_blocks); /* that many were moved */
void ide_begin(struct ide *i);				    /* first data phase of i->c->op */
void ide_io_completed(struct ide *i, int result);
void ide_drain(struct ide *i,
	       bool complete); /* wait for the worker; then finish or forget its job */
unsigned ide_data_read(struct ide *i, void *buf, unsigned len);
unsigned ide_data_write(struct ide *i, const void *buf, unsigned len);
void ide_send(struct ide *i, unsigned len, unsigned chunk); /* i->c->data is filled */

/* busmaster.c */
uint64_t ide_bm_status_read(struct mobo_dev *d, const struct mobo_reg *r);
void ide_bm_status_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val);
void ide_bm_command_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val);
void ide_dma_run(struct ide *i); /* PHASE_DMA: move on if the bus master runs */
/*
 * Guest memory from the cursor on, at most `limit` bytes, a multiple of `unit`. Fills the job's
 * iovec. Returns the bytes, 0 when the table is at its end, or -EFAULT. The cursor moves only in
 * ide_dma_advance().
 */
long ide_dma_gather(struct ide *i, uint32_t limit, uint32_t unit, bool to_guest);
void ide_dma_advance(struct ide *i, uint32_t bytes);
void ide_dma_dirty(struct ide *i);
void ide_dma_fault(struct ide *i);

/* ata.c, identify.c, smart.c */
void ide_ata_command(struct ide *i, uint8_t command);
void ide_identify(struct ide *i, uint8_t *p);
void ide_identify_packet(struct ide *i, uint8_t *p);
void ide_smart(struct ide *i);
void ide_checksum(uint8_t *p); /* last byte of 512 makes the sum 0 */

/* atapi.c */
void ide_atapi_packet(struct ide *i); /* data[0 ... 12) is the packet */
void ide_atapi_done(struct ide *i);
void ide_atapi_fail(struct ide *i, uint8_t key, uint8_t asc, uint8_t ascq);
void ide_atapi_send(struct ide *i, unsigned len, unsigned allocated);
/* atapi_read.c, atapi_info.c, atapi_media.c */
void ide_cd_read(struct ide *i, uint64_t lba, uint32_t n);
void ide_cd_read_cd(struct ide *i);
void ide_cd_make_raw(struct ide *i, const uint8_t *blocks, unsigned n);
void ide_cd_inquiry(struct ide *i);
void ide_cd_mode_sense(struct ide *i, bool ten);
void ide_cd_toc(struct ide *i);
void ide_cd_configuration(struct ide *i);
void ide_cd_disc_information(struct ide *i);
void ide_cd_track_information(struct ide *i);
void ide_cd_mechanism(struct ide *i);
void ide_cd_subchannel(struct ide *i);
void ide_cd_capacity(struct ide *i);
void ide_cd_format_capacities(struct ide *i);
void ide_cd_event_status(struct ide *i);
void ide_cd_start_stop(struct ide *i);
void ide_cd_dvd_structure(struct ide *i);
bool ide_cd_ready(const struct ide *i); /* a medium, and the tray is closed */
bool ide_cd_is_dvd(const struct ide *i);
int ide_cd_media(struct mobo_dev *d, unsigned unit, bool force);

#endif
