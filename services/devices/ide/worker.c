/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of a channel that does its host I/O, so that registers answer while a disk works. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ide.h"

static int verify(const struct ide_job *job)
{
	static _Thread_local uint8_t buf[65536];
	uint64_t done = 0;
	int r = 0;

	while (r == 0 && done < job->len) {
		size_t part = MOBO_MIN(job->len - done, sizeof(buf));

		r = mobo_image_read(job->image, buf, part, job->off + done);
		done += part;
	}
	return r;
}

/* Ranges of DATA SET MANAGEMENT (ATA8-ACS 7.10): 48 bits of LBA, 16 bits of length, little-endian.
 */
static int trim(const struct ide_job *job)
{
	uint64_t n_sectors = mobo_image_size(job->image) / IDE_SECTOR;
	int r = 0;

	for (uint64_t at = 0; r == 0 && at + 8 <= job->len; at += 8) {
		uint64_t entry = 0, lba, n;

		for (unsigned k = 8; k-- > 0;) {
			entry = entry << 8 | job->ranges[at + k];
		}
		lba = entry & 0xffffffffffffull;
		n = entry >> 48;
		if (n == 0) {
			continue;
		}
		if (lba > n_sectors || n > n_sectors - lba) {
			return -ERANGE;
		}
		r = mobo_image_discard(job->image, lba * IDE_SECTOR, n * IDE_SECTOR);
	}
	return r;
}

static int do_job(const struct ide_job *job)
{
	int r = 0;

	if (!job->image) {
		return -ENOMEDIUM;
	}
	switch (job->kind) {
	case JOB_READ: return mobo_image_readv(job->image, job->iov, job->n_iov, job->off);
	case JOB_WRITE:
		r = mobo_image_writev(job->image, job->iov, job->n_iov, job->off);
		return r == 0 && job->flush ? mobo_image_flush(job->image) : r;
	case JOB_FLUSH: return mobo_image_flush(job->image);
	case JOB_VERIFY: return verify(job);
	case JOB_TRIM: return trim(job);
	}
	return r;
}

static void *worker_main(void *arg)
{
	struct ide_worker *w = arg;
	const uint64_t one = 1;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (w->state != JOB_QUEUED && !w->quit) {
			pthread_cond_wait(&w->work, &w->lock);
		}
		if (w->state != JOB_QUEUED) {
			break;
		}
		pthread_mutex_unlock(&w->lock);
		w->job.result = do_job(&w->job);
		pthread_mutex_lock(&w->lock);
		w->state = JOB_DONE;
		pthread_cond_signal(&w->done);
		(void)!write(w->event, &one, sizeof(one));
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int ide_worker_start(struct ide_worker **ret)
{
	struct ide_worker *w = calloc(1, sizeof(*w));
	sigset_t all, before;
	int r;

	if (!w) {
		return -ENOMEM;
	}
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event < 0) {
		r = -errno;
		free(w);
		return r;
	}
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->done, NULL);
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->started = r == 0;
	if (r != 0) {
		ide_worker_stop(w);
		return r;
	}
	*ret = w;
	return 0;
}

void ide_worker_stop(struct ide_worker *w)
{
	if (!w) {
		return;
	}
	if (w->started) {
		pthread_mutex_lock(&w->lock);
		w->quit = true;
		pthread_cond_signal(&w->work);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->done);
	pthread_mutex_destroy(&w->lock);
	close(w->event);
	free(w);
}

void ide_worker_submit(struct ide_worker *w)
{
	pthread_mutex_lock(&w->lock);
	MOBO_ASSERT(w->state == JOB_FREE);
	w->state = JOB_QUEUED;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

bool ide_worker_take(struct ide_worker *w, bool wait)
{
	uint64_t n;
	bool taken;

	pthread_mutex_lock(&w->lock);
	while (wait && w->state == JOB_QUEUED) {
		pthread_cond_wait(&w->done, &w->lock);
	}
	taken = w->state == JOB_DONE;
	if (taken) {
		w->state = JOB_FREE;
		(void)!read(w->event, &n, sizeof(n));
	}
	pthread_mutex_unlock(&w->lock);
	return taken;
}
