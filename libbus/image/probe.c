/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is, by what it begins (VHD: ends) with. */
#include "image_priv.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char *const names[MOBO_IMAGE_N_FORMATS] = {
	[MOBO_IMAGE_RAW] = "raw",   [MOBO_IMAGE_QCOW2] = "qcow2",
	[MOBO_IMAGE_VDI] = "vdi",   [MOBO_IMAGE_VMDK] = "vmdk",
	[MOBO_IMAGE_VHD] = "vhd",   [MOBO_IMAGE_VHDX] = "vhdx",
	[MOBO_IMAGE_QED] = "qed",   [MOBO_IMAGE_QCOW1] = "qcow",
	[MOBO_IMAGE_LUKS] = "luks", [MOBO_IMAGE_PARALLELS] = "parallels",
};

const char *mobo_image_format_name(enum mobo_image_format format)
{
	return (unsigned)format < MOBO_IMAGE_N_FORMATS ? names[format] : "unknown";
}

int mobo_image_format_parse(const char *name, enum mobo_image_format *ret_format)
{
	for (unsigned i = 0; i < MOBO_IMAGE_N_FORMATS; i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret_format = i;
			return 0;
		}
	}
	return -EINVAL;
}

static const struct {
	unsigned offset;
	const char *magic;
	unsigned len;
	enum mobo_image_format format;
} magics[] = {
	{0, "QFI\xfb\0\0\0\1", 8, MOBO_IMAGE_QCOW1},
	{0, "QFI\xfb", 4, MOBO_IMAGE_QCOW2},
	{0, "QED\0", 4, MOBO_IMAGE_QED},
	{0, "KDMV", 4, MOBO_IMAGE_VMDK},
	{0, "COWD", 4, MOBO_IMAGE_VMDK},
	{0, "# Disk DescriptorFile", 21, MOBO_IMAGE_VMDK},
	{0, "vhdxfile", 8, MOBO_IMAGE_VHDX},
	{0, "conectix", 8, MOBO_IMAGE_VHD},
	{0, "LUKS\xba\xbe", 6, MOBO_IMAGE_LUKS},
	{0, "WithoutFreeSpace", 16, MOBO_IMAGE_PARALLELS},
	{0, "WithouFreSpacExt", 16, MOBO_IMAGE_PARALLELS},
	{64, "\x7f\x10\xda\xbe", 4, MOBO_IMAGE_VDI},
};

/* A fixed VHD is raw data with a 512-byte footer, whose checksum makes a chance hit unlikely. */
static bool has_vhd_footer(int fd, uint64_t size)
{
	uint8_t foot[512];
	uint32_t sum = 0, said;

	if (size < 1024 || image_pread(fd, foot, sizeof(foot), size - 512) != 0 ||
	    memcmp(foot, "conectix", 8) != 0) {
		return false;
	}
	memcpy(&said, foot + 64, 4);
	memset(foot + 64, 0, 4);
	for (unsigned i = 0; i < sizeof(foot); i++) {
		sum += foot[i];
	}
	return be32toh(said) == (uint32_t)~sum;
}

int mobo_image_probe(int fd, struct mobo_image_info *info, struct mobo_error *err)
{
	uint8_t head[128];
	struct stat st;
	int r;

	memset(info, 0, sizeof(*info));
	r = image_file_size(fd, &info->file_size, &info->block_device);
	if (r == 0) {
		r = image_pread(fd, head, sizeof(head), 0);
	}
	if (r == -EISDIR || r == -ENOTBLK) {
		return mobo_error_set(err, -r, "neither a file nor a block device");
	}
	if (r != 0) {
		return mobo_error_set(err, -r, "cannot read the image: %s", strerror(-r));
	}
	info->allocated = info->file_size;
	if (!info->block_device && fstat(fd, &st) == 0) {
		info->allocated = (uint64_t)st.st_blocks * 512;
	}
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(magics); i++) {
		if (memcmp(head + magics[i].offset, magics[i].magic, magics[i].len) == 0) {
			info->format = magics[i].format;
			break;
		}
	}
	if (info->format == MOBO_IMAGE_QCOW2) {
		return qcow2_probe(fd, info->file_size, info, err);
	}
	if (info->format == MOBO_IMAGE_RAW) {
		if (has_vhd_footer(fd, info->file_size)) {
			info->format = MOBO_IMAGE_VHD;
		} else {
			info->virtual_size = image_round_up(info->file_size, 512);
		}
	}
	return 0;
}

int mobo_image_usable(const struct mobo_image_info *info, const char *path, bool readonly,
		      struct mobo_error *err)
{
	uint64_t unknown = info->incompatible & ~0x1full;

	if (info->format == MOBO_IMAGE_LUKS) {
		return mobo_error_set(
			err, ENOTSUP,
			"%s begins with a LUKS header. If the guest wrote it, set the "
			"disk's format to raw; an image that the host encrypted must be "
			"decrypted first: mobo disk convert",
			path);
	}
	if (info->format != MOBO_IMAGE_RAW && info->format != MOBO_IMAGE_QCOW2) {
		return mobo_error_set(
			err, ENOTSUP,
			"%s is a %s image, which cannot be used directly. Convert it: "
			"mobo disk convert %s NEW.qcow2",
			path, mobo_image_format_name(info->format), path);
	}
	if (info->format == MOBO_IMAGE_RAW) {
		return 0;
	}
	if (info->encrypted) {
		return mobo_error_set(
			err, ENOTSUP,
			"%s is encrypted, which is not supported. Convert it with its "
			"key: qemu-img convert",
			path);
	}
	if (info->external_data || info->extended_l2) {
		return mobo_error_set(err, ENOTSUP,
				      "%s uses the qcow2 feature \"%s\", which is not supported. "
				      "Convert it: mobo disk convert %s NEW.qcow2",
				      path,
				      info->external_data ? "external data file" : "extended L2",
				      path);
	}
	if (unknown) {
		return mobo_error_set(
			err, ENOTSUP,
			"%s uses qcow2 features that are not known here (bits 0x%llx). "
			"Convert it with a newer qemu-img",
			path, (unsigned long long)unknown);
	}
#ifndef HAVE_ZSTD
	if (info->zstd) {
		return mobo_error_set(err, ENOTSUP,
				      "%s is compressed with zstd, and Mobo was built without it. "
				      "Convert it: mobo disk convert %s NEW.qcow2",
				      path, path);
	}
#endif
	if (!readonly && (info->dirty || info->corrupt)) {
		return mobo_error_set(
			err, ENOTSUP,
			"%s is marked %s by the program that wrote it last. Repair it: "
			"qemu-img check -r all %s",
			path, info->corrupt ? "corrupt" : "not cleanly closed", path);
	}
	return 0;
}
