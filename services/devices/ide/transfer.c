/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data phases of commands. Everything that a phase needs is in the channel's state, so that a job
 * cut off by the death of the process can be started again; the worker's buffers are only copies.
 *
 *   PIO in:  FILL -> blocks of `chunk` bytes, each with DRQ and an interrupt -> FILL ... -> done
 *   PIO out: blocks with DRQ -> DRAIN -> blocks ... -> done and an interrupt
 *   DMA:     DIRECT to or from guest memory, at most IDE_DMA_CHUNK at once -> ... -> done
 */
#include <errno.h>
#include <string.h>

#include "ide.h"

static uint32_t block_size(const struct ide_channel *c)
{
	return c->op == OP_CD_READ || c->op == OP_CD_READ_RAW ? IDE_CD_BLOCK : IDE_SECTOR;
}

static void idle(struct ide *i)
{
	i->c->phase = PHASE_IDLE;
	i->c->op = OP_NONE;
	i->c->io = IO_NONE;
	i->c->pos = i->c->len = i->c->drq_end = 0;
	if (i->c->dma && i->c->prd_last && i->c->prd_left == 0) {
		i->c->bm_status &= (uint8_t)~BM_ACTIVE;
	}
}

void ide_done(struct ide *i)
{
	/* The end of an ATA read by PIO is its last block; there is no interrupt for it. */
	bool quiet = i->c->phase == PHASE_PIO_IN;

	if (i->unit->cdrom) {
		ide_atapi_done(i);
		return;
	}
	idle(i);
	i->drive->status = ST_DRDY | ST_DSC;
	i->drive->error = 0;
	if (!quiet) {
		ide_irq(i, true);
	}
}

void ide_fail(struct ide *i, uint8_t error)
{
	idle(i);
	i->drive->status = ST_DRDY | ST_DSC | ST_ERR;
	i->drive->error = error;
	ide_irq(i, true);
}

void ide_atapi_done(struct ide *i)
{
	idle(i);
	i->drive->status = ST_DRDY | ST_DSC;
	i->drive->error = 0;
	i->drive->sector_count[0] = IR_COD | IR_IO;
	ide_irq(i, true);
}

void ide_atapi_fail(struct ide *i, uint8_t key, uint8_t asc, uint8_t ascq)
{
	idle(i);
	i->drive->sense_key = key;
	i->drive->asc = asc;
	i->drive->ascq = ascq;
	i->drive->status = ST_DRDY | ST_DSC | ST_ERR;
	i->drive->error = (uint8_t)(key << 4) | (key == 0xb || key == 0x5 ? ER_ABRT : 0);
	i->drive->sector_count[0] = IR_COD | IR_IO;
	ide_irq(i, true);
}

/* The block at which an ATA command failed, in the address registers (ATA-7, 6.4). */
static void show_address(struct ide *i, uint64_t lba)
{
	struct ide_drive *v = i->drive;

	if (!i->c->lba48 && !(i->c->select & DEV_LBA) && v->heads && v->sectors) {
		uint64_t cylinder = lba / v->sectors / v->heads;

		v->lba_low[0] = (uint8_t)(lba % v->sectors + 1);
		v->lba_mid[0] = (uint8_t)cylinder;
		v->lba_high[0] = (uint8_t)(cylinder >> 8);
		i->c->select = (uint8_t)((i->c->select & ~DEV_HEAD) |
					 (lba / v->sectors % v->heads & DEV_HEAD));
		return;
	}
	v->lba_low[0] = (uint8_t)lba;
	v->lba_mid[0] = (uint8_t)(lba >> 8);
	v->lba_high[0] = (uint8_t)(lba >> 16);
	if (i->c->lba48) {
		v->lba_low[1] = (uint8_t)(lba >> 24);
		v->lba_mid[1] = (uint8_t)(lba >> 32);
		v->lba_high[1] = (uint8_t)(lba >> 40);
	} else {
		i->c->select = (uint8_t)((i->c->select & ~DEV_HEAD) | (lba >> 24 & DEV_HEAD));
	}
}

/* -- Jobs -- */

/* Fills the job for `io`. False: nothing to do now, or the command is over. */
static bool make_job(struct ide *i, enum ide_io io, struct ide_job *job)
{
	struct ide_channel *c = i->c;
	uint32_t block = block_size(c), n = 0;
	bool raw = c->op == OP_CD_READ_RAW;
	long got;

	job->image = i->unit->image;
	job->off = c->lba * block;
	job->flush = false;
	job->n_iov = 1;
	switch (io) {
	case IO_FILL:
		n = MOBO_MIN(c->count, IDE_DATA / (raw ? IDE_CD_RAW : block));
		job->kind = JOB_READ;
		job->len = n * block;
		job->iov[0].iov_base =
			raw ? ((struct ide_priv *)mobo_dev_priv(i->d))->bounce[i->n] : c->data;
		job->iov[0].iov_len = job->len;
		return true;
	case IO_DRAIN:
		job->kind = JOB_WRITE;
		job->len = c->pos;
		job->iov[0] = (struct iovec){c->data, c->pos};
		job->flush = c->durable && c->count == c->pos / block;
		return true;
	case IO_DIRECT:
		got = ide_dma_gather(i,
				     (uint32_t)MOBO_MIN((uint64_t)c->count * block, IDE_DMA_CHUNK),
				     block, c->op != OP_WRITE);
		if (got < 0) {
			ide_dma_fault(i);
			return false;
		}
		if (got == 0) {
			/* Descriptors for less than the command moves: it hangs until more come. */
			c->bm_status &= (uint8_t)~BM_ACTIVE;
			return false;
		}
		job->kind = c->op == OP_WRITE ? JOB_WRITE : JOB_READ;
		job->len = (uint64_t)got;
		job->flush = c->durable && c->count == job->len / block;
		return true;
	case IO_FLUSH: job->kind = JOB_FLUSH; return true;
	case IO_VERIFY:
		job->kind = JOB_VERIFY;
		job->len = (uint64_t)c->count * block;
		return true;
	case IO_TRIM:
		job->kind = JOB_TRIM;
		job->len = MOBO_MIN(c->len, (uint32_t)sizeof(job->ranges));
		memcpy(job->ranges, c->data, job->len);
		return true;
	case IO_NONE:
	case N_IOS: break;
	}
	return false;
}

void ide_start_io(struct ide *i, enum ide_io io)
{
	struct ide_worker *w = ((struct ide_priv *)mobo_dev_priv(i->d))->worker[i->n];

	if (!make_job(i, io, &w->job)) {
		return;
	}
	i->c->phase = PHASE_IO;
	i->c->io = io;
	i->drive->status = ST_BSY;
	ide_worker_submit(w);
}

static void io_failed(struct ide *i, enum ide_io io, int result)
{
	bool write = i->c->op == OP_WRITE || io == IO_FLUSH || io == IO_TRIM;

	if (result != -ENOMEDIUM && result != -ERANGE) {
		ide_unit_report(i, io == IO_FLUSH ? "flush" : write ? "write" : "read", result);
	}
	if (i->unit->cdrom) {
		if (result == -ENOMEDIUM) {
			ide_atapi_fail(i, 0x2, 0x3a, 0); /* not ready: medium not present */
		} else {
			ide_atapi_fail(i, 0x3, 0x11, 0); /* medium error: unrecovered read error */
		}
		return;
	}
	if (io == IO_FLUSH || io == IO_TRIM) {
		ide_fail(i, io == IO_TRIM && result == -ERANGE ? ER_IDNF : ER_ABRT);
		return;
	}
	show_address(i, i->c->lba);
	ide_fail(i, write ? ER_ABRT : ER_UNC);
}

static void present_in(struct ide *i);
static void present_out(struct ide *i, bool interrupt);

void ide_advance(struct ide_channel *c, uint64_t n_blocks)
{
	uint32_t n = (uint32_t)MOBO_MIN(n_blocks, c->count);

	c->lba += n;
	c->count -= n;
}

static void filled(struct ide *i, const struct ide_job *job)
{
	struct ide_channel *c = i->c;

	c->pos = 0;
	c->len = (uint32_t)job->len;
	if (c->op == OP_CD_READ_RAW) {
		const struct ide_priv *p = mobo_dev_priv(i->d);
		unsigned n = (unsigned)(job->len / IDE_CD_BLOCK);

		ide_cd_make_raw(i, p->bounce[i->n], n);
		c->len = n * IDE_CD_RAW;
	}
	if (c->dma) {
		c->phase = PHASE_DMA;
		i->drive->status = ST_DRDY | ST_DSC | ST_DRQ;
		ide_dma_run(i);
	} else {
		present_in(i);
	}
}

void ide_io_completed(struct ide *i, int result)
{
	struct ide_worker *w = ((struct ide_priv *)mobo_dev_priv(i->d))->worker[i->n];
	const struct ide_job *job = &w->job;
	struct ide_channel *c = i->c;
	enum ide_io io = c->io;

	c->phase = PHASE_IDLE;
	c->io = IO_NONE;
	if (io == IO_DIRECT && job->kind == JOB_READ) {
		ide_dma_dirty(i);
	}
	if (result != 0) {
		io_failed(i, io, result);
		return;
	}
	switch (io) {
	case IO_FILL: filled(i, job); return;
	case IO_DRAIN:
		ide_advance(c, job->len / block_size(c));
		c->pos = 0;
		if (c->count > 0) {
			present_out(i, true);
			return;
		}
		break;
	case IO_DIRECT:
		ide_dma_advance(i, (uint32_t)job->len);
		ide_advance(c, job->len / block_size(c));
		if (c->count > 0) {
			c->phase = PHASE_DMA;
			i->drive->status = ST_DRDY | ST_DSC | ST_DRQ;
			ide_dma_run(i);
			return;
		}
		break;
	case IO_FLUSH: i->unit->full_reported = false; break;
	case IO_VERIFY:
	case IO_TRIM:
	case IO_NONE:
	case N_IOS: break;
	}
	ide_done(i);
}

void ide_drain(struct ide *i, bool complete)
{
	struct ide_worker *w = ((struct ide_priv *)mobo_dev_priv(i->d))->worker[i->n];
	bool taken;

	if (i->c->phase != PHASE_IO) {
		return;
	}
	taken = ide_worker_take(w, true);
	if (taken && complete) {
		ide_io_completed(i, w->job.result);
		return;
	}
	i->c->phase = PHASE_IDLE;
	i->c->io = IO_NONE;
}

/* -- PIO -- */

static void present_in(struct ide *i)
{
	struct ide_channel *c = i->c;

	c->drq_end = MOBO_MIN(c->pos + c->chunk, c->len);
	c->phase = PHASE_PIO_IN;
	i->drive->status = ST_DRDY | ST_DSC | ST_DRQ;
	i->drive->error = 0;
	if (i->unit->cdrom) {
		uint32_t n = c->drq_end - c->pos;

		i->drive->sector_count[0] = IR_IO;
		i->drive->lba_mid[0] = (uint8_t)n;
		i->drive->lba_high[0] = (uint8_t)(n >> 8);
	}
	ide_irq(i, true);
}

static void present_out(struct ide *i, bool interrupt)
{
	struct ide_channel *c = i->c;

	if (c->op == OP_WRITE && c->pos == 0) {
		c->len = (uint32_t)MOBO_MIN((uint64_t)c->count * IDE_SECTOR, IDE_DATA);
	}
	c->drq_end = MOBO_MIN(c->pos + c->chunk, c->len);
	c->phase = PHASE_PIO_OUT;
	i->drive->status = ST_DRDY | ST_DSC | ST_DRQ;
	i->drive->error = 0;
	if (c->op == OP_RECEIVE) {
		uint32_t n = c->drq_end - c->pos;

		i->drive->sector_count[0] = 0;
		i->drive->lba_mid[0] = (uint8_t)n;
		i->drive->lba_high[0] = (uint8_t)(n >> 8);
	}
	if (interrupt) {
		ide_irq(i, true);
	}
}

/* The guest took a whole DRQ block. */
static void block_taken(struct ide *i)
{
	struct ide_channel *c = i->c;

	if (c->pos < c->len) {
		present_in(i);
		return;
	}
	if (c->op == OP_SEND) {
		ide_done(i);
		return;
	}
	ide_advance(c, c->len / (c->op == OP_CD_READ_RAW ? IDE_CD_RAW : block_size(c)));
	if (c->count == 0) {
		ide_done(i);
		return;
	}
	c->pos = c->len = 0;
	ide_start_io(i, IO_FILL);
}

/* The guest gave a whole DRQ block. */
static void block_given(struct ide *i)
{
	struct ide_channel *c = i->c;

	if (c->op == OP_PACKET) {
		ide_atapi_packet(i);
	} else if (c->pos < c->len) {
		present_out(i, true);
	} else if (c->op == OP_WRITE) {
		ide_start_io(i, IO_DRAIN);
	} else {
		ide_done(i);
	}
}

/* Up to len bytes from the data register; the rest of buf is zeroed. Returns the bytes moved. */
unsigned ide_data_read(struct ide *i, void *buf, unsigned len)
{
	struct ide_channel *c = i->c;
	unsigned done = 0;

	while (done < len && c->phase == PHASE_PIO_IN) {
		unsigned part = MOBO_MIN(len - done, c->drq_end - c->pos);

		memcpy((char *)buf + done, c->data + c->pos, part);
		c->pos += part;
		done += part;
		if (c->pos == c->drq_end) {
			block_taken(i);
		}
	}
	memset((char *)buf + done, 0, len - done);
	return done;
}

unsigned ide_data_write(struct ide *i, const void *buf, unsigned len)
{
	struct ide_channel *c = i->c;
	unsigned done = 0;

	while (done < len && c->phase == PHASE_PIO_OUT) {
		unsigned part = MOBO_MIN(len - done, c->drq_end - c->pos);

		memcpy(c->data + c->pos, (const char *)buf + done, part);
		c->pos += part;
		done += part;
		if (c->pos == c->drq_end) {
			block_given(i);
		}
	}
	return done;
}

/* -- Beginnings -- */

void ide_begin(struct ide *i)
{
	struct ide_channel *c = i->c;

	c->pos = 0;
	if (c->dma) {
		c->phase = PHASE_DMA;
		i->drive->status = ST_DRDY | ST_DSC | ST_DRQ;
		ide_dma_run(i);
		return;
	}
	switch ((enum ide_op)c->op) {
	case OP_READ:
	case OP_CD_READ:
	case OP_CD_READ_RAW: ide_start_io(i, IO_FILL); break;
	case OP_WRITE:
	case OP_PACKET: present_out(i, false); break;
	case OP_RECEIVE: present_out(i, true); break;
	case OP_SEND: present_in(i); break;
	case OP_FLUSH: ide_start_io(i, IO_FLUSH); break;
	case OP_VERIFY: ide_start_io(i, IO_VERIFY); break;
	case OP_TRIM:
	case OP_NONE:
	case N_OPS: break;
	}
}

/* data[0 ... len) to the guest, in DRQ blocks of `chunk`. */
void ide_send(struct ide *i, unsigned len, unsigned chunk)
{
	i->c->op = OP_SEND;
	i->c->len = len;
	i->c->chunk = chunk;
	ide_begin(i);
}
