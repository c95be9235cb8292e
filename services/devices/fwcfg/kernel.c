/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct boot: a kernel image by the Linux x86 boot protocol (Documentation/arch/x86/boot.rst),
 * divided into set-up code and kernel proper, with the fields of the set-up header that a boot
 * loader fills in. Memory test programs, iPXE and GRUB come as such images too. The option ROM
 * (linuxboot.S), or UEFI firmware by itself, puts the parts in place.
 *
 * Configuration keys: append. Descriptors: kernel, initrd.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fwcfg.h"
#include "mobo/base.h"

/* The set-up header; offsets into the image. */
enum {
	HDR_SETUP_SECTS = 0x1f1,
	HDR_VID_MODE = 0x1fa,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_TYPE_OF_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_RAMDISK_IMAGE = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_HEAP_END_PTR = 0x224,
	HDR_CMD_LINE_PTR = 0x228,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_END = 0x268,
	/* Protocol before 2.02: the command line's place, in the boot sector. */
	OLD_CMDLINE_MAGIC = 0x20,
	OLD_CMDLINE_OFFSET = 0x22,
};
enum {
	MAGIC = 0x53726448, /* "HdrS" */
	BOOT_FLAG = 0xaa55,
	OLD_CMDLINE_VALUE = 0xa33f,
	LOADED_HIGH = 1 << 0,
	CAN_USE_HEAP = 1 << 7,
	CAN_BE_LOADED_ABOVE_4G = 1 << 1,
	LOADER_UNASSIGNED = 0xff,
	SECTOR = 512,
	SETUP_SECTS_DEFAULT = 4,
	INITRD_ADDR_MAX_DEFAULT = 0x37ffffff, /* protocol before 2.03 */
	CMDLINE_SIZE_DEFAULT = 255,	      /* protocol before 2.06 */
	/* Below the end of low memory the firmware keeps its tables. */
	FIRMWARE_RESERVE = 1 << 20,
};

struct kernel {
	uint8_t *setup;
	uint32_t setup_len, kernel_len, initrd_len;
	unsigned version; /* of the protocol; 0: before the header */
	uint32_t setup_gpa, kernel_gpa, cmdline_gpa, initrd_gpa;
	const char *cmdline;
	uint32_t cmdline_len; /* with its 0 */
};

static uint16_t get16(const struct kernel *k, unsigned at)
{
	uint16_t v;

	memcpy(&v, k->setup + at, sizeof(v));
	return v;
}

static uint32_t get32(const struct kernel *k, unsigned at)
{
	uint32_t v;

	memcpy(&v, k->setup + at, sizeof(v));
	return v;
}

static void set16(struct kernel *k, unsigned at, uint16_t v)
{
	memcpy(k->setup + at, &v, sizeof(v));
}

static void set32(struct kernel *k, unsigned at, uint32_t v)
{
	memcpy(k->setup + at, &v, sizeof(v));
}

/* Length of a file below 4 GiB, or -errno. */
static int64_t file_len(struct mobo_dev *d, int fd, const char *what)
{
	struct stat st;

	if (fstat(fd, &st)) {
		mobo_dev_error(d, "cannot look at the %s: %s", what, strerror(errno));
		return -EIO;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > UINT32_MAX) {
		mobo_dev_error(d, "the %s must be a regular file of less than 4 GiB", what);
		return -EINVAL;
	}
	return st.st_size;
}

static int read_setup(struct mobo_dev *d, struct kernel *k, int fd)
{
	struct fwcfg_item file = {.fd = fd, .len = UINT32_MAX};
	uint8_t head[HDR_END];
	int64_t len = file_len(d, fd, "kernel");
	unsigned sects;

	if (len < 0) {
		return (int)len;
	}
	if (len < (int64_t)sizeof(head) || !fwcfg_item_read(&file, 0, head, sizeof(head)) ||
	    head[HDR_BOOT_FLAG] != (BOOT_FLAG & 0xff) ||
	    head[HDR_BOOT_FLAG + 1] != BOOT_FLAG >> 8) {
		mobo_dev_error(d,
			       "the kernel is not an image for the Linux boot protocol (bzImage); "
			       "give the file that a boot loader would load");
		return -EINVAL;
	}
	sects = head[HDR_SETUP_SECTS] ? head[HDR_SETUP_SECTS] : SETUP_SECTS_DEFAULT;
	k->setup_len = MOBO_MAX((sects + 1) * SECTOR, (unsigned)sizeof(head));
	if (k->setup_len >= len || (sects + 1) * SECTOR < HDR_END) {
		mobo_dev_error(d,
			       "the kernel is cut short: it has %lld bytes, set-up code alone %u",
			       (long long)len, k->setup_len);
		return -EINVAL;
	}
	k->kernel_len = (uint32_t)len - k->setup_len;
	k->setup = malloc(k->setup_len);
	if (!k->setup) {
		return -ENOMEM;
	}
	if (!fwcfg_item_read(&file, 0, k->setup, k->setup_len)) {
		mobo_dev_error(d, "cannot read the kernel");
		return -EIO;
	}
	if (get32(k, HDR_MAGIC) == MAGIC) {
		k->version = get16(k, HDR_VERSION);
	}
	return 0;
}

/* Where set-up code, command line and kernel go. */
static int place_kernel(struct mobo_dev *d, struct kernel *k, const struct fwcfg_machine *m)
{
	bool high = k->version >= 0x200 && (k->setup[HDR_LOADFLAGS] & LOADED_HIGH);
	uint32_t cmdline_max =
		k->version >= 0x206 ? get32(k, HDR_CMDLINE_SIZE) : CMDLINE_SIZE_DEFAULT;

	/* Images that do not use a command line may say 0. */
	cmdline_max = MOBO_MIN(MOBO_MAX(cmdline_max, (uint32_t)CMDLINE_SIZE_DEFAULT), 0x8000u);
	if (k->cmdline_len - 1 > cmdline_max) {
		mobo_dev_error(d, "the command line has %u bytes, this kernel takes %u",
			       k->cmdline_len - 1, cmdline_max);
		return -EINVAL;
	}
	if (k->version >= 0x202 && high) {
		k->setup_gpa = 0x10000;
		k->cmdline_gpa = 0x20000;
	} else {
		/* Old kernels expect to be at 0x90000, the command line within that segment. */
		k->setup_gpa = 0x90000;
		k->cmdline_gpa = (0x9a000 - k->cmdline_len) & ~15u;
	}
	k->kernel_gpa = high ? 0x100000 : 0x10000;
	if ((!high && k->kernel_len > 0x90000 - 0x10000) ||
	    k->setup_gpa + k->setup_len > k->cmdline_gpa ||
	    (uint64_t)k->kernel_gpa + k->kernel_len > m->low_memory) {
		mobo_dev_error(d, "the kernel (%u bytes) does not fit into the machine's memory",
			       k->kernel_len);
		return -EINVAL;
	}
	return 0;
}

/* As high as the kernel reaches, below what the firmware keeps. */
static int place_initrd(struct mobo_dev *d, struct kernel *k, const struct fwcfg_machine *m)
{
	uint64_t last = INITRD_ADDR_MAX_DEFAULT;
	uint64_t kernel_end = (uint64_t)k->kernel_gpa + k->kernel_len;
	uint64_t memory_end = m->low_memory - MOBO_MIN((uint64_t)FIRMWARE_RESERVE, m->low_memory);

	if (k->version < 0x200) {
		mobo_dev_error(d, "this kernel is too old to take an initial RAM disk");
		return -EINVAL;
	}
	if (k->version >= 0x20c && (get16(k, HDR_XLOADFLAGS) & CAN_BE_LOADED_ABOVE_4G)) {
		last = UINT32_MAX;
	} else if (k->version >= 0x203) {
		last = get32(k, HDR_INITRD_ADDR_MAX);
	}
	last = MOBO_MIN(last + 1, memory_end);
	if (last < k->initrd_len || ((last - k->initrd_len) & ~0xfffull) < kernel_end) {
		mobo_dev_error(
			d,
			"the initial RAM disk (%u bytes) does not fit into memory beside the "
			"kernel; give the machine more memory",
			k->initrd_len);
		return -EINVAL;
	}
	k->initrd_gpa = (uint32_t)((last - k->initrd_len) & ~0xfffull);
	return 0;
}

/* "vga=" of the command line is for the boot loader: the video mode that the set-up code sets. */
static void patch_video_mode(struct kernel *k)
{
	const char *p = strstr(k->cmdline, "vga=");

	if (!p || (p != k->cmdline && p[-1] != ' ')) {
		return;
	}
	p += 4;
	if (!strncmp(p, "normal", 6)) {
		set16(k, HDR_VID_MODE, 0xffff);
	} else if (!strncmp(p, "ext", 3)) {
		set16(k, HDR_VID_MODE, 0xfffe);
	} else if (!strncmp(p, "ask", 3)) {
		set16(k, HDR_VID_MODE, 0xfffd);
	} else {
		set16(k, HDR_VID_MODE, (uint16_t)strtoul(p, NULL, 0));
	}
}

static void patch_header(struct kernel *k)
{
	patch_video_mode(k);
	if (k->version >= 0x200) {
		k->setup[HDR_TYPE_OF_LOADER] = LOADER_UNASSIGNED;
		set32(k, HDR_RAMDISK_IMAGE, k->initrd_gpa);
		set32(k, HDR_RAMDISK_SIZE, k->initrd_len);
	}
	if (k->version >= 0x201) {
		k->setup[HDR_LOADFLAGS] |= CAN_USE_HEAP;
		set16(k, HDR_HEAP_END_PTR, (uint16_t)(k->cmdline_gpa - k->setup_gpa - 0x200));
	}
	if (k->version >= 0x202) {
		set32(k, HDR_CMD_LINE_PTR, k->cmdline_gpa);
	} else {
		set16(k, OLD_CMDLINE_MAGIC, OLD_CMDLINE_VALUE);
		set16(k, OLD_CMDLINE_OFFSET, (uint16_t)(k->cmdline_gpa - k->setup_gpa));
	}
}

static int add_items(struct fwcfg *f, const struct kernel *k, int kernel_fd, int initrd_fd)
{
	int r;

	r = fwcfg_add_u32(f, FWCFG_SETUP_ADDR, k->setup_gpa);
	r = r ? r : fwcfg_add_u32(f, FWCFG_SETUP_SIZE, k->setup_len);
	r = r ? r : fwcfg_add(f, FWCFG_SETUP_DATA, k->setup, k->setup_len);
	r = r ? r : fwcfg_add_u32(f, FWCFG_KERNEL_ADDR, k->kernel_gpa);
	r = r ? r : fwcfg_add_u32(f, FWCFG_KERNEL_SIZE, k->kernel_len);
	r = r ? r : fwcfg_add_fd(f, FWCFG_KERNEL_DATA, kernel_fd, k->setup_len, k->kernel_len);
	r = r ? r : fwcfg_add_u32(f, FWCFG_CMDLINE_ADDR, k->cmdline_gpa);
	r = r ? r : fwcfg_add_u32(f, FWCFG_CMDLINE_SIZE, k->cmdline_len);
	r = r ? r : fwcfg_add(f, FWCFG_CMDLINE_DATA, k->cmdline, k->cmdline_len);
	if (initrd_fd >= 0) {
		r = r ? r : fwcfg_add_u32(f, FWCFG_INITRD_ADDR, k->initrd_gpa);
		r = r ? r : fwcfg_add_u32(f, FWCFG_INITRD_SIZE, k->initrd_len);
		r = r ? r : fwcfg_add_fd(f, FWCFG_INITRD_DATA, initrd_fd, 0, k->initrd_len);
	}
	return r ? r
		 : fwcfg_add_file(f, "genroms/linuxboot.bin", fwcfg_linuxboot, -1,
				  fwcfg_linuxboot_len);
}

int fwcfg_add_kernel(struct mobo_dev *d, struct fwcfg *f, const struct fwcfg_machine *m)
{
	struct kernel k = {.cmdline = mobo_dev_config(d, "append", "")};
	int kernel_fd = mobo_dev_fd(d, "kernel");
	int initrd_fd = mobo_dev_fd(d, "initrd");
	int64_t len;
	int r;

	if (kernel_fd < 0) {
		return 0;
	}
	k.cmdline_len = (uint32_t)strlen(k.cmdline) + 1;
	r = read_setup(d, &k, kernel_fd);
	if (r) {
		goto out;
	}
	r = place_kernel(d, &k, m);
	if (r) {
		goto out;
	}
	if (initrd_fd >= 0) {
		len = file_len(d, initrd_fd, "initial RAM disk");
		r = len < 0 ? (int)len : 0;
		k.initrd_len = (uint32_t)len;
		if (!r) {
			r = place_initrd(d, &k, m);
		}
		if (r) {
			goto out;
		}
	}
	patch_header(&k);
	r = add_items(f, &k, kernel_fd, initrd_fd);
out:
	free(k.setup);
	return r;
}
