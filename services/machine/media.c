/* SPDX-License-Identifier: Apache-2.0 */
/* Disk images: opened, locked and handed to the drive's process, at start and while it runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "mobo/image.h"

enum { UNIT_ANY_CDROM = 0xffffffff };

int media_open(struct machine *m, struct part *p, unsigned unit, const char *file, bool cdrom,
	       bool readonly, struct mobo_error *err)
{
	struct mobo_image_chain chain = {0};
	char path[4096], name[48];
	int ret;

	mobo_settings_path(m->folder, file, path, sizeof(path));
	ret = mobo_image_open_chain(path, cdrom || readonly ? MOBO_IMAGE_READONLY : 0, &chain, err);
	if (ret < 0) {
		return ret;
	}
	ret = mobo_image_usable(&chain.info[0], path, cdrom || readonly, err);
	if (ret < 0) {
		mobo_image_chain_close(&chain);
		return ret;
	}
	for (unsigned i = 0; i < chain.n; i++) {
		snprintf(name, sizeof(name), "unit%u.image%u", unit, i);
		part_give_fd(p, name, dup(chain.fds[i]));
	}
	mobo_image_chain_close(&chain);
	return 0;
}

struct media_change {
	struct machine *machine;
	struct part *part;
	struct mobo_request *request;
	unsigned unit;
	char file[512];
};

static void on_media_changed(void *arg, const struct mobo_result *res)
{
	struct media_change *c = arg;
	char prefix[32];

	if (res->code == MOBO__V1__CODE__OK) {
		machine_device_event(c->machine, c->part->name,
				     *c->file ? "media-inserted" : "media-ejected", c->file, false);
		mobo_reply(c->request, NULL);
	} else {
		if (*c->file) {
			snprintf(prefix, sizeof(prefix), "unit%u.image", c->unit);
			part_drop_fds(c->part, prefix);
		}
		mobo_reply_error(c->request, res->code,
				 "%s unit %u did not change its medium: %s%s", c->part->name,
				 c->unit, res->text,
				 res->errno_value == EBUSY ? " (the guest has locked the tray; "
							     "--force overrides)"
							   : "");
	}
	free(c);
}

/* Unit asked for, or the first CD-ROM drive; -1: none such. */
static int find_unit(const struct part *p, uint32_t slot)
{
	char key[16];

	for (unsigned u = 0; u < 4; u++) {
		if (slot != UNIT_ANY_CDROM && slot != u) {
			continue;
		}
		snprintf(key, sizeof(key), "unit%u", u);
		for (unsigned i = 0; i < p->n_config; i++) {
			if (strcmp(p->config[i].key, key) == 0 &&
			    strcmp(p->config[i].value, "cdrom") == 0) {
				return (int)u;
			}
		}
	}
	return -1;
}

void media_change(struct machine *m, struct mobo_request *r, const Mobo__V1__ChangeMedium *c)
{
	struct part *p = part_find(m, *c->device ? c->device : "ide0");
	Mobo__V1__DeviceMedia msg = MOBO__V1__DEVICE_MEDIA__INIT;
	struct mobo_error err = {0};
	const char *names[PART_MAX_FDS];
	int fds[PART_MAX_FDS], unit = p ? find_unit(p, c->slot) : -1;
	unsigned n = 0;
	uint8_t ticket[MOBO_TICKET_LEN];
	char prefix[32];

	if (unit < 0) {
		mobo_reply_error(r, MOBO__V1__CODE__NOT_FOUND,
				 "%s has no such CD-ROM drive; `mobo show %s` lists its disks",
				 m->name, m->name);
		return;
	}
	snprintf(prefix, sizeof(prefix), "unit%d.image", unit);
	part_drop_fds(p, prefix);
	if (*c->file) {
		if (media_open(m, p, (unsigned)unit, c->file, true, true, &err) < 0) {
			mobo_reply_errno(r, &err);
			return;
		}
		for (unsigned i = 0; i < p->n_fds; i++) {
			if (strncmp(p->fds[i].name, prefix, strlen(prefix)) == 0) {
				names[n] = p->fds[i].name;
				fds[n++] = p->fds[i].fd;
			}
		}
		int ret = part_send_fds(p, names, fds, n, ticket);

		if (ret < 0) {
			mobo_reply_error(r, MOBO__V1__CODE__UNAVAILABLE, "%s: %s", p->name,
					 strerror(-ret));
			return;
		}
		msg.ticket.data = ticket;
		msg.ticket.len = sizeof(ticket);
	}

	struct media_change *job = calloc(1, sizeof(*job));

	MOBO_ASSERT(job);
	job->machine = m;
	job->part = p;
	job->request = r;
	job->unit = (unsigned)unit;
	snprintf(job->file, sizeof(job->file), "%s", c->file);
	msg.slot = (uint32_t)unit;
	msg.force = c->force;
	mobo_hub_call(m->hub, p->node, &msg.base, 0, on_media_changed, job);
}
