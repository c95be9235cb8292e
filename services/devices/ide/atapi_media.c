/* SPDX-License-Identifier: Apache-2.0 */
/* Tray and medium of the CD-ROM drive: by the guest's commands, and from outside. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ide.h"

/* Media events (MMC-3, GET EVENT STATUS NOTIFICATION, media class), as bits of media_events. */
enum { EVENT_EJECT_REQUEST = 1, EVENT_NEW_MEDIA = 2, EVENT_MEDIA_REMOVAL = 3 };
enum { MEDIA_CLASS = 4, ATTENTION_MEDIUM_CHANGED = 0x28 };

bool ide_cd_ready(const struct ide *i)
{
	return i->unit->image && i->unit->n_blocks > 0 && !i->drive->tray_open;
}

static uint8_t next_event(struct ide_drive *v)
{
	static const uint8_t order[] = {EVENT_MEDIA_REMOVAL, EVENT_NEW_MEDIA, EVENT_EJECT_REQUEST};

	for (unsigned k = 0; k < sizeof(order); k++) {
		if (v->media_events & (1u << order[k])) {
			v->media_events &= (uint8_t) ~(1u << order[k]);
			return order[k];
		}
	}
	return 0;
}

void ide_cd_event_status(struct ide *i)
{
	uint8_t *p = i->c->data, classes = p[4];
	bool polled = p[1] & 1;
	unsigned allocated = (unsigned)(p[7] << 8 | p[8]), len = 4;

	if (!polled) {
		ide_atapi_fail(i, 0x5, 0x24, 0); /* asynchronous notification: no */
		return;
	}
	memset(p, 0, 8);
	p[3] = 1 << MEDIA_CLASS;
	if (classes & (1 << MEDIA_CLASS)) {
		p[2] = MEDIA_CLASS;
		p[4] = next_event(i->drive);
		p[5] = (uint8_t)((i->unit->image && !i->drive->tray_open ? 2 : 0) |
				 (i->drive->tray_open ? 1 : 0));
		len = 8;
		p[1] = 6;
	} else {
		p[1] = 2;
		p[2] = 0x80; /* no event available */
	}
	ide_atapi_send(i, len, allocated);
}

static void tray_moved(struct ide *i)
{
	char text[32];

	snprintf(text, sizeof(text), "unit %u: tray %s",
		 (unsigned)(i->unit - ((struct ide_priv *)mobo_dev_priv(i->d))->unit),
		 i->drive->tray_open ? "open" : "closed");
	mobo_dev_notify(i->d, "tray", text);
}

void ide_cd_start_stop(struct ide *i)
{
	struct ide_drive *v = i->drive;
	bool start = i->c->data[4] & 1, load_eject = i->c->data[4] & 2;

	if (i->c->data[4] >> 4 || !load_eject) { /* power conditions, spinning up and down */
		ide_done(i);
		return;
	}
	if (!start && v->locked) {
		ide_atapi_fail(i, 0x5, 0x53, 2); /* medium removal prevented */
		return;
	}
	if (v->tray_open == start) {
		v->tray_open = !start;
		if (i->unit->image) {
			v->media_events |= 1u << (start ? EVENT_NEW_MEDIA : EVENT_MEDIA_REMOVAL);
			v->attention = start ? ATTENTION_MEDIUM_CHANGED : 0;
		}
		tray_moved(i);
	}
	ide_done(i);
}

/* Another medium, or none, from outside: the operator's hand at the tray. */
int ide_cd_media(struct mobo_dev *d, unsigned unit, bool force)
{
	struct ide_priv *p = mobo_dev_priv(d);
	struct ide_state *s = mobo_dev_state(d);
	struct ide_drive *v;
	struct ide i;
	bool had, has;
	int r;

	if (unit >= IDE_UNITS || !p->unit[unit].cdrom) {
		return -ENODEV;
	}
	v = &s->drive[unit];
	had = p->unit[unit].image != NULL;
	if (v->locked && had && !force) {
		v->media_events |= 1u << EVENT_EJECT_REQUEST;
		return -EBUSY;
	}
	i = ide_channel(d, unit / 2);
	while (i.c->phase == PHASE_IO) {
		ide_drain(&i, true);
	}
	r = ide_unit_media(d, unit, &has);
	if (r != 0) {
		return r;
	}
	/* A read that has blocks to come is cut off: they would come from the wrong medium. */
	if (&p->unit[unit] == i.unit && (i.c->op == OP_CD_READ || i.c->op == OP_CD_READ_RAW)) {
		ide_atapi_fail(&i, 0x6, ATTENTION_MEDIUM_CHANGED, 0);
	}
	v->tray_open = 0;
	v->locked = 0;
	v->media_events = (uint8_t)((had ? 1u << EVENT_MEDIA_REMOVAL : 0) |
				    (has ? 1u << EVENT_NEW_MEDIA : 0));
	v->attention = had || has ? ATTENTION_MEDIUM_CHANGED : v->attention;
	return 0;
}
