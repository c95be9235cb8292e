/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bus master (82371SB datasheet 2.8 and 5.3; Programming Interface for Bus Master IDE Controller,
 * 1.0): command, status and descriptor table of each channel. A table entry is
 *   31 ... 1: base address of a region   63: last   47 ... 33: bytes, 0 means 64 KiB
 */
#include <errno.h>
#include <string.h>

#include "ide.h"

struct prd_cursor {
	uint32_t next, addr, left;
	bool last;
};

static struct ide of_register(struct mobo_dev *d, const struct mobo_reg *r)
{
	return ide_channel(d, r->offset >= 8);
}

/* Next region of the table; false: no more, or (*fault) the table cannot be read. */
static bool next_region(struct mobo_dev *d, struct prd_cursor *at, bool *fault)
{
	uint8_t e[8];
	uint32_t n;

	if (at->last) {
		return false;
	}
	if (!mobo_dev_dma_read(d, at->next, e, sizeof(e))) {
		*fault = true;
		return false;
	}
	at->addr = (uint32_t)(e[0] | e[1] << 8 | e[2] << 16 | (uint32_t)e[3] << 24) & ~1u;
	n = (uint32_t)(e[4] | e[5] << 8) & ~1u;
	at->left = n ? n : 65536;
	at->last = e[7] & 0x80;
	at->next += 8;
	return true;
}

/* Walk from *at over at most limit bytes, into the job's elements when job is not NULL. */
static long walk(struct mobo_dev *d, struct prd_cursor *at, uint32_t limit, struct ide_job *job,
		 bool to_guest)
{
	uint32_t total = 0;
	bool fault = false;

	if (job) {
		job->n_iov = 0;
	}
	while (total < limit) {
		size_t part;

		if (at->left == 0 && !next_region(d, at, &fault)) {
			break;
		}
		part = MOBO_MIN(at->left, limit - total);
		if (job) {
			void *p = mobo_dev_dma_map(d, at->addr, &part, to_guest);

			if (!p || part == 0) {
				fault = true;
				break;
			}
			if (job->n_iov == IDE_IOV) {
				break;
			}
			job->gpa[job->n_iov] = at->addr;
			job->iov[job->n_iov++] = (struct iovec){p, part};
		}
		at->addr += (uint32_t)part;
		at->left -= (uint32_t)part;
		total += (uint32_t)part;
	}
	return fault ? -EFAULT : (long)total;
}

static struct prd_cursor cursor(const struct ide_channel *c)
{
	return (struct prd_cursor){c->prd_next, c->prd_addr, c->prd_left, c->prd_last};
}

long ide_dma_gather(struct ide *i, uint32_t limit, uint32_t unit, bool to_guest)
{
	struct ide_priv *p = mobo_dev_priv(i->d);
	struct ide_job *job = &p->worker[i->n]->job;
	struct prd_cursor at = cursor(i->c);
	long n = walk(i->d, &at, limit, job, to_guest);

	if (n > 0 && n % unit) {
		at = cursor(i->c);
		n = walk(i->d, &at, (uint32_t)(n - n % unit), job, to_guest);
	}
	return n;
}

void ide_dma_advance(struct ide *i, uint32_t bytes)
{
	struct prd_cursor at = cursor(i->c);

	walk(i->d, &at, bytes, NULL, false);
	i->c->prd_next = at.next;
	i->c->prd_addr = at.addr;
	i->c->prd_left = at.left;
	i->c->prd_last = at.last;
}

void ide_dma_dirty(struct ide *i)
{
	struct ide_priv *p = mobo_dev_priv(i->d);
	const struct ide_job *job = &p->worker[i->n]->job;

	for (unsigned k = 0; k < job->n_iov; k++) {
		mobo_dev_dma_dirty(i->d, job->gpa[k], job->iov[k].iov_len);
	}
}

/* The bus master met an address that is not there. */
void ide_dma_fault(struct ide *i)
{
	i->c->bm_status |= BM_ERROR;
	i->c->bm_status &= (uint8_t)~BM_ACTIVE;
	if (i->unit->cdrom) {
		ide_atapi_fail(i, 0xb, 0x00, 0x06); /* aborted command, I/O process terminated */
	} else {
		ide_fail(i, ER_ABRT);
	}
}

/* data[pos ... len) to or from guest memory. False: stopped, for now or by a fault. */
static bool move_data(struct ide *i, bool to_guest)
{
	struct ide_priv *p = mobo_dev_priv(i->d);
	struct ide_job *job = &p->worker[i->n]->job;
	struct ide_channel *c = i->c;

	while (c->pos < c->len) {
		long n = ide_dma_gather(i, c->len - c->pos, 1, to_guest);

		if (n < 0) {
			ide_dma_fault(i);
			return false;
		}
		if (n == 0) {
			c->bm_status &= (uint8_t)~BM_ACTIVE;
			return false;
		}
		for (unsigned k = 0; k < job->n_iov; k++) {
			size_t part = job->iov[k].iov_len;

			if (to_guest) {
				memcpy(job->iov[k].iov_base, c->data + c->pos, part);
			} else {
				memcpy(c->data + c->pos, job->iov[k].iov_base, part);
			}
			c->pos += (uint32_t)part;
		}
		if (to_guest) {
			ide_dma_dirty(i);
		}
		ide_dma_advance(i, (uint32_t)n);
	}
	return true;
}

void ide_dma_run(struct ide *i)
{
	struct ide_channel *c = i->c;

	if (c->phase != PHASE_DMA || !(c->bm_command & BM_START) || !(c->bm_status & BM_ACTIVE)) {
		return;
	}
	switch ((enum ide_op)c->op) {
	case OP_READ:
	case OP_WRITE:
	case OP_CD_READ: ide_start_io(i, IO_DIRECT); break;
	case OP_SEND:
		if (move_data(i, true)) {
			ide_done(i);
		}
		break;
	case OP_CD_READ_RAW:
		if (c->len == 0) {
			ide_start_io(i, IO_FILL);
		} else if (move_data(i, true)) {
			ide_advance(c, c->len / IDE_CD_RAW);
			c->pos = c->len = 0;
			if (c->count == 0) {
				ide_done(i);
			} else {
				ide_start_io(i, IO_FILL);
			}
		}
		break;
	case OP_TRIM:
		if (move_data(i, false)) {
			ide_start_io(i, IO_TRIM);
		}
		break;
	case OP_RECEIVE:
		if (move_data(i, false)) {
			ide_done(i);
		}
		break;
	case OP_NONE:
	case OP_PACKET:
	case OP_FLUSH:
	case OP_VERIFY:
	case N_OPS: break;
	}
}

void ide_bm_command_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct ide i = of_register(d, r);
	uint8_t old = i.c->bm_command;

	i.c->bm_command = val & (BM_START | BM_READ);
	if ((val & BM_START) && !(old & BM_START)) {
		i.c->prd_next = i.c->bm_table;
		i.c->prd_left = 0;
		i.c->prd_last = 0;
		i.c->bm_status |= BM_ACTIVE;
		ide_dma_run(&i);
	} else if (!(val & BM_START) && (old & BM_START)) {
		/* What the worker has begun is completed first: memory is quiet after a stop. */
		if (i.c->dma) {
			ide_drain(&i, true);
		}
		i.c->bm_status &= (uint8_t)~BM_ACTIVE;
	}
}

uint64_t ide_bm_status_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	return of_register(d, r).c->bm_status;
}

void ide_bm_status_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct ide i = of_register(d, r);

	/* Error and interrupt are cleared by ones, the drives' DMA bits are storage. */
	i.c->bm_status &= (uint8_t) ~(val & (BM_ERROR | BM_IRQ));
	i.c->bm_status =
		(uint8_t)((i.c->bm_status & ~(BM_DMA0 | BM_DMA1)) | (val & (BM_DMA0 | BM_DMA1)));
}
