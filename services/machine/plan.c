/* SPDX-License-Identifier: Apache-2.0 */
/* Machine type `pc`: from settings to the list of parts, with the memory and files they share. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "mobo/video.h"

#define GIB (1ull << 30)

enum {
	STATE_JOURNAL_LEN = 64 * 1024,
	SURFACE_LEN = 64 << 20, /* untouched pages cost nothing */
	MAX_FIRMWARE = 16 << 20,
};

static const char bios_default[] = "/usr/share/seabios/bios-256k.bin";
static const char vga_bios_default[] = "/usr/share/seabios/vgabios-stdvga.bin";

static int memfd(const char *name, uint64_t size, struct mobo_error *err)
{
	int fd = mobo_memfd_create(name, size);

	if (fd < 0) {
		return mobo_error_set(err, -fd, "cannot get %llu MiB of memory for %s: %s",
				      (unsigned long long)(size >> 20), name, strerror(-fd));
	}
	return fd;
}

/* Opens a file that a setting names; says which setting when it cannot. */
static int open_setting(struct machine *m, const char *key, const char *file, char *path,
			struct mobo_error *err)
{
	struct stat st;
	int fd;

	mobo_settings_path(m->folder, file, path, 4096);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return mobo_error_set(err, errno, "cannot open %s (setting %s): %s", path, key,
				      strerror(errno));
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return mobo_error_set(err, EINVAL, "%s (setting %s) is not a file", path, key);
	}
	return fd;
}

static int read_whole(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)done);

		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		done += (size_t)n;
	}
	return 0;
}

/* The firmware image in a memfd of whole pages, its end at the end. */
static int plan_rom(struct machine *m, struct mobo_error *err)
{
	const char *file = m->settings->firmware->file;
	char path[4096];
	struct stat st;
	uint8_t *rom;
	int fd, ret;

	fd = open_setting(m, "firmware.file", *file ? file : bios_default, path, err);
	if (fd < 0) {
		return *file ? fd
			     : mobo_error_set(err, ENOENT,
					      "%s is missing: install the Debian package seabios, "
					      "or set firmware.file",
					      bios_default);
	}
	if (fstat(fd, &st) < 0 || st.st_size < 64 * 1024 || st.st_size > MAX_FIRMWARE ||
	    st.st_size % 4096) {
		close(fd);
		return mobo_error_set(err, EINVAL,
				      "%s is no PC firmware: %lld bytes, wanted whole 4 KiB pages "
				      "from 64 KiB to 16 MiB",
				      path, (long long)st.st_size);
	}
	m->rom_len = (uint64_t)st.st_size;
	m->rom_fd = memfd("mobo-rom", m->rom_len, err);
	if (m->rom_fd < 0) {
		close(fd);
		return m->rom_fd;
	}
	rom = mmap(NULL, m->rom_len, PROT_READ | PROT_WRITE, MAP_SHARED, m->rom_fd, 0);
	if (rom == MAP_FAILED) {
		close(fd);
		return mobo_error_set(err, errno, "cannot map the firmware: %s", strerror(errno));
	}
	ret = read_whole(fd, rom, m->rom_len);
	munmap(rom, m->rom_len);
	close(fd);
	if (ret < 0) {
		return mobo_error_set(err, -ret, "cannot read %s: %s", path, strerror(-ret));
	}
	return 0;
}

static int plan_memory(struct machine *m, struct mobo_error *err)
{
	uint64_t ram = m->settings->memory, pages = ram / 4096;
	size_t map_len = sizeof(struct mobo_code_map) + 2 * ((pages + 63) / 64) * 8;
	struct mobo_code_map *map;

	if (ram % (1 << 20)) {
		return mobo_error_set(err, EINVAL, "memory is %llu bytes: use whole megabytes",
				      (unsigned long long)ram);
	}
	/* As SeaBIOS expects of this chipset: the hole for PCI starts at 3.5 GiB, or at 3 GiB when
	 * there is more. */
	m->ram_low_len = ram > 7 * GIB / 2 ? 3 * GIB : ram;
	m->ram_fd = memfd("mobo-ram", ram, err);
	m->page_fd = memfd("mobo-page", 4096, err);
	m->codemap_fd = memfd("mobo-codemap", (map_len + 4095) & ~4095ull, err);
	m->surface_fd = memfd("mobo-surface", SURFACE_LEN, err);
	if (m->ram_fd < 0 || m->page_fd < 0 || m->codemap_fd < 0 || m->surface_fd < 0) {
		return -ENOMEM;
	}
	m->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m->page_fd, 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m->codemap_fd, 0);
	if (m->page == MAP_FAILED || map == MAP_FAILED) {
		m->page = NULL;
		return mobo_error_set(err, errno, "cannot map shared pages: %s", strerror(errno));
	}
	map->n_pages = pages;
	munmap(map, 4096);
	return plan_rom(m, err);
}

int plan_channel(struct part *p, struct mobo_error *err)
{
	const struct machine *m = p->machine;
	int ch = memfd("mobo-ioch", sizeof(struct mobo_ioch), err);
	int journal = memfd("mobo-state", STATE_JOURNAL_LEN, err);

	if (ch >= 0) {
		p->ioch = mmap(NULL, sizeof(*p->ioch), PROT_READ | PROT_WRITE, MAP_SHARED, ch, 0);
	}
	if (ch < 0 || journal < 0 || p->ioch == MAP_FAILED) {
		p->ioch = NULL;
		close(ch);
		close(journal);
		return mobo_error_set(err, ENOMEM, "cannot get the shared memory of %s", p->name);
	}
	mobo_ioch_init(p->ioch);
	part_give_fd(p, "ioch", ch);
	part_give_fd(p, "bell", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	part_give_fd(p, "state", journal);
	part_give_fd(p, "page", dup(m->page_fd));
	part_give_fd(p, "codemap", dup(m->codemap_fd));
	part_give_fd(p, "ram", dup(m->ram_fd));
	return 0;
}

static struct part *add_device(struct machine *m, const char *name, const char *chip,
			       struct mobo_error *err)
{
	char executable[48];
	struct part *p;

	snprintf(executable, sizeof(executable), "mobo-dev-%s", chip);
	p = part_add(m, PART_DEVICE, name, executable);
	return plan_channel(p, err) < 0 ? NULL : p;
}

static int plan_kernel(struct machine *m, struct part *fwcfg, struct mobo_error *err)
{
	const Mobo__V1__KernelSettings *k = m->settings->kernel;
	char path[4096];
	int fd;

	if (!*k->file) {
		if (*k->initrd || *k->append) {
			return mobo_error_set(err, EINVAL,
					      "kernel.initrd and kernel.append need kernel.file");
		}
		return 0;
	}
	fd = open_setting(m, "kernel.file", k->file, path, err);
	if (fd < 0) {
		return fd;
	}
	part_give_fd(fwcfg, "kernel", fd);
	if (*k->initrd) {
		fd = open_setting(m, "kernel.initrd", k->initrd, path, err);
		if (fd < 0) {
			return fd;
		}
		part_give_fd(fwcfg, "initrd", fd);
	}
	part_set(fwcfg, "append", "%s", k->append);
	return 0;
}

static int plan_disks(struct machine *m, struct part *ide, struct mobo_error *err)
{
	if (m->settings->n_disk > 4) {
		return mobo_error_set(err, EINVAL, "%zu disks are set; the IDE chip has four units",
				      m->settings->n_disk);
	}
	for (unsigned i = 0; i < m->settings->n_disk; i++) {
		const Mobo__V1__DiskSettings *d = m->settings->disk[i];
		bool cdrom = strcmp(d->type, "cdrom") == 0;
		char key[32];

		if (!cdrom && !*d->file) {
			continue;
		}
		snprintf(key, sizeof(key), "unit%u", i);
		part_set(ide, key, "%s", d->type);
		snprintf(key, sizeof(key), "unit%u.readonly", i);
		part_set(ide, key, "%d", d->readonly);
		if (*d->file) {
			int ret = media_open(m, ide, i, d->file, cdrom, d->readonly, err);

			if (ret < 0) {
				return ret;
			}
		}
	}
	return 0;
}

static int plan_serial(struct machine *m, unsigned n, const char *backend, struct mobo_error *err)
{
	static const struct {
		unsigned base, irq;
	} ports[] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};
	char name[16], path[4096];
	struct part *p;
	int fd;

	if (n >= MOBO_ARRAY_LEN(ports)) {
		return mobo_error_set(err, EINVAL,
				      "a PC has four serial ports, serial.%u is the fifth", n);
	}
	if (strcmp(backend, "none") == 0) {
		return 0;
	}
	snprintf(name, sizeof(name), "uart%u", n);
	p = add_device(m, name, "uart", err);
	if (!p) {
		return -ENOMEM;
	}
	part_set(p, "base", "0x%x", ports[n].base);
	part_set(p, "irq", "%u", ports[n].irq);
	snprintf(path, sizeof(path), "%s/logs/serial%u.log", m->folder, n);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		part_give_fd(p, "log:0", fd);
	}
	return serial_backend(p, n, backend, err);
}

static int plan_display(struct machine *m, struct mobo_error *err)
{
	const Mobo__V1__DisplaySettings *d = m->settings->display;
	const char *rom = m->settings->firmware->vga;
	struct part *vga, *display;
	char path[4096];
	int fd;

	if (strcmp(d->card, "none") == 0) {
		return 0;
	}
	m->vram_fd = memfd("mobo-vram", d->memory + MOBO_VIDEO_TAIL_LEN, err);
	vga = add_device(m, "vga", "vga", err);
	if (m->vram_fd < 0 || !vga) {
		return -ENOMEM;
	}
	fd = open_setting(m, "firmware.vga", *rom ? rom : vga_bios_default, path, err);
	if (fd < 0) {
		return fd;
	}
	part_give_fd(vga, "mem", dup(m->vram_fd));
	part_give_fd(vga, "rom", fd);
	display = part_add(m, PART_DISPLAY, "display", "mobo-display");
	part_give_fd(display, "vram", dup(m->vram_fd));
	part_give_fd(display, "page", dup(m->page_fd));
	part_give_fd(display, "surface", dup(m->surface_fd));
	return 0;
}

int machine_plan(struct machine *m, struct mobo_error *err)
{
	static const char *const plain[] = {"i440fx", "piix3", "ide0",	"piix4pm",
					    "fwcfg",  "rtc",   "i8042", "postport"};
	const Mobo__V1__Settings *s = m->settings;
	struct timespec now;
	struct part *p;
	int ret;

	m->page_fd = m->ram_fd = m->codemap_fd = m->rom_fd = m->surface_fd = m->vram_fd = -1;
	clock_gettime(CLOCK_REALTIME, &now);
	m->realtime_base_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
	ret = plan_memory(m, err);
	if (ret < 0) {
		return ret;
	}
	p = part_add(m, PART_ENGINE, "vcpu", "mobo-vcpu");
	part_give_fd(p, "page", dup(m->page_fd));
	part_give_fd(p, "ram", dup(m->ram_fd));
	part_give_fd(p, "codemap", dup(m->codemap_fd));
	part_give_fd(p, "rom", dup(m->rom_fd));
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(plain); i++) {
		char chip[32];

		if (strcmp(plain[i], "postport") == 0 && !s->debug->post) {
			continue;
		}
		snprintf(chip, sizeof(chip), "%s", plain[i]);
		if (strcmp(chip, "ide0") == 0) {
			chip[3] = '\0';
		}
		p = add_device(m, plain[i], chip, err);
		if (!p) {
			return -ENOMEM;
		}
		part_set(p, "memory", "%llu", (unsigned long long)s->memory);
		part_set(p, "low-memory", "%llu", (unsigned long long)m->ram_low_len);
		part_set(p, "cpus", "%u", s->cpu->count);
		part_set(p, "boot", "%s", s->boot);
		part_set(p, "uuid", "%s", s->uuid);
		part_set(p, "name", "%s", m->name);
		part_set(p, "base", "%s", s->rtc->clock);
	}
	ret = plan_kernel(m, part_find(m, "fwcfg"), err);
	if (ret == 0) {
		ret = plan_disks(m, part_find(m, "ide0"), err);
	}
	if (ret == 0 && s->debug->port && !add_device(m, "debugport", "debugport", err)) {
		ret = -ENOMEM;
	}
	for (unsigned i = 0; i < s->n_serial && ret == 0; i++) {
		ret = plan_serial(m, i, s->serial[i]->backend, err);
	}
	if (ret == 0 && s->n_serial == 0) {
		ret = plan_serial(m, 0, "console", err);
	}
	return ret == 0 ? plan_display(m, err) : ret;
}

void machine_plan_finish(struct machine *m)
{
	const int fds[] = {m->page_fd, m->ram_fd,     m->codemap_fd,
			   m->rom_fd,  m->surface_fd, m->vram_fd};

	/* All are killed before the first is waited for. */
	for (unsigned i = 0; i < m->n_parts; i++) {
		part_kill(&m->parts[i]);
	}
	for (unsigned i = 0; i < m->n_parts; i++) {
		part_finish(&m->parts[i]);
	}
	for (unsigned i = 0; i < MOBO_ARRAY_LEN(fds); i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
}
