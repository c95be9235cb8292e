/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drives' host side: configuration and images.
 *
 * Configuration, N = 0 ... 3 (primary master, primary slave, secondary master, secondary slave):
 *   unitN            disk | cdrom; absent: no drive
 *   unitN.readonly   1: a disk that cannot be written
 *   unitN.format     raw: do not look at what the file begins with
 *   unitN.discard    0: do not give trimmed space back to the host
 *   unitN.serial, unitN.model
 *   unitN.file       name of the image, for messages
 * Descriptors: unitN.image0 (the image), unitN.image1 (its backing file) ...; a new medium comes
 * under the same names, or as mediaN.image0 (or just mediaN), mediaN.image1 ...
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ide.h"

static const char *unit_config(struct mobo_dev *d, unsigned unit, const char *key,
			       const char *fallback)
{
	char name[32];

	snprintf(name, sizeof(name), "unit%u%s%s", unit, *key ? "." : "", key);
	return mobo_dev_config(d, name, fallback);
}

/* The image whose descriptors are called prefixN.image0 ...; *ret NULL when there is none. */
static int open_image(struct mobo_dev *d, const char *prefix, unsigned unit, bool readonly,
		      struct mobo_image **ret)
{
	int fds[MOBO_IMAGE_DEPTH];
	unsigned n = 0, flags = readonly ? MOBO_IMAGE_READONLY : 0;
	struct mobo_error err = {0};
	char name[32];

	*ret = NULL;
	for (; n < MOBO_IMAGE_DEPTH; n++) {
		snprintf(name, sizeof(name), "%s%u.image%u", prefix, unit, n);
		fds[n] = mobo_dev_fd(d, name);
		if (fds[n] < 0 && n == 0) {
			snprintf(name, sizeof(name), "%s%u", prefix, unit);
			fds[n] = mobo_dev_fd(d, name);
		}
		if (fds[n] < 0) {
			break;
		}
	}
	if (n == 0) {
		return 0;
	}
	if (strcmp(unit_config(d, unit, "format", ""), "raw") == 0) {
		flags |= MOBO_IMAGE_FORCE_RAW;
	}
	if (strcmp(unit_config(d, unit, "discard", "1"), "0") != 0) {
		flags |= MOBO_IMAGE_PUNCH;
	}
	*ret = mobo_image_create_from_fds(fds, n, flags, &err);
	if (!*ret) {
		mobo_dev_error(d, "unit %u: cannot use the image %s: %s", unit,
			       unit_config(d, unit, "file", "(unit's file)"), err.text);
		return err.code ? -err.code : -EIO;
	}
	return 0;
}

static void set_image(struct ide_unit *u, struct mobo_image *image)
{
	u->image = image;
	u->n_blocks = image ? mobo_image_size(image) / (u->cdrom ? IDE_CD_BLOCK : IDE_SECTOR) : 0;
	u->n_blocks = MOBO_MIN(u->n_blocks, u->cdrom ? 0xfffffffeull : 0xffffffffffffull);
	u->full_reported = false;
}

int ide_unit_init(struct mobo_dev *d, unsigned unit)
{
	struct ide_priv *p = mobo_dev_priv(d);
	struct ide_unit *u = &p->unit[unit];
	const char *type = unit_config(d, unit, "", "");
	struct mobo_image *image;
	char fallback[24];
	int r;

	if (*type == '\0' || strcmp(type, "none") == 0) {
		return 0;
	}
	u->cdrom = strcmp(type, "cdrom") == 0;
	if (!u->cdrom && strcmp(type, "disk") != 0) {
		mobo_dev_error(d, "unit %u: \"%s\" is neither disk nor cdrom", unit, type);
		return -EINVAL;
	}
	u->readonly = u->cdrom || strcmp(unit_config(d, unit, "readonly", "0"), "1") == 0;
	snprintf(fallback, sizeof(fallback), "MB%05u", unit + 1);
	snprintf(u->serial, sizeof(u->serial), "%.20s", unit_config(d, unit, "serial", fallback));
	snprintf(u->model, sizeof(u->model), "%.40s",
		 unit_config(d, unit, "model", u->cdrom ? "MOBO CD-ROM" : "MOBO HARDDISK"));
	r = open_image(d, "unit", unit, u->readonly, &image);
	if (r != 0) {
		return r;
	}
	if (!image && !u->cdrom) {
		mobo_dev_error(d, "unit %u: no image was given for the disk %s", unit,
			       unit_config(d, unit, "file", "(no file set)"));
		return -ENOENT;
	}
	if (image && !u->cdrom && mobo_image_size(image) < IDE_SECTOR) {
		mobo_dev_error(d, "unit %u: the image %s is empty", unit,
			       unit_config(d, unit, "file", "(unit's file)"));
		mobo_image_destroy(image);
		return -EINVAL;
	}
	set_image(u, image);
	u->present = true;
	return 0;
}

int ide_unit_media(struct mobo_dev *d, unsigned unit, bool *ret_present)
{
	struct ide_priv *p = mobo_dev_priv(d);
	struct ide_unit *u = &p->unit[unit];
	struct mobo_image *image;
	int r = open_image(d, "media", unit, true, &image);

	if (r == 0 && !image) {
		r = open_image(d, "unit", unit, true, &image);
	}
	if (r != 0) {
		return r;
	}
	mobo_image_destroy(u->image);
	set_image(u, image);
	*ret_present = image != NULL;
	return 0;
}

void ide_unit_finish(struct ide_unit *u)
{
	mobo_image_destroy(u->image);
	u->image = NULL;
}

void ide_unit_report(struct ide *i, const char *what, int err)
{
	unsigned unit = (unsigned)(i->unit - ((struct ide_priv *)mobo_dev_priv(i->d))->unit);
	const char *file = unit_config(i->d, unit, "file", "");
	char text[512];

	if (err == -ENOSPC) {
		if (!i->unit->full_reported) {
			snprintf(text, sizeof(text),
				 "unit %u: no space left on the host's disk for %s. Free some; the "
				 "guest was told that the write failed",
				 unit, *file ? file : "the image");
			mobo_dev_notify(i->d, "disk-full", text);
			mobo_dev_error(i->d, "%s", text);
		}
		i->unit->full_reported = true;
		return;
	}
	mobo_dev_error(i->d, "unit %u: cannot %s %s at block %llu: %s", unit, what,
		       *file ? file : "the image", (unsigned long long)i->c->lba, strerror(-err));
}
