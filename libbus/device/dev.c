/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chip's instance: its life, configuration, lines, timers, and the mobo_dev_*() functions that
 * need no host. Who stands behind it (process or fake board) is struct mobo_dev_host.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev.h"
#include "mobo/base.h"
#include "mobo/log.h"

static int check_class(const struct mobo_chip_class *c)
{
	if (!c->name || c->n_regions > MOBO_IOCH_REGIONS || c->n_lines > MOBO_IOCH_LINES ||
	    c->n_functions > MOBO_DEV_FUNCTIONS || c->n_regs >= UINT16_MAX) {
		mobo_error("class %s: too many regions, lines, functions or registers",
			   c->name ? c->name : "?");
		return -EINVAL;
	}
	for (unsigned i = 0; i < c->n_regs; i++) {
		const struct mobo_reg *r = &c->regs[i];

		if (r->region >= c->n_regions || r->width == 0 || r->width > 8 ||
		    (r->width & (r->width - 1)) ||
		    (r->storage != MOBO_NO_STORAGE && r->storage + r->width > c->state_size)) {
			mobo_error("class %s: register %s has a wrong region, width or storage",
				   c->name, r->name);
			return -EINVAL;
		}
	}
	for (unsigned i = 0; i < c->n_fields; i++) {
		const struct mobo_field *f = &c->fields[i];

		if ((uint64_t)f->size * f->count + f->offset > c->state_size || f->size == 0 ||
		    strlen(f->name) > 255) {
			mobo_error("class %s: field %s lies outside the state", c->name, f->name);
			return -EINVAL;
		}
	}
	return 0;
}

/* NULL for nothing to copy as well; calloc so that the result can be told from no memory. */
static void *copy_array(const void *from, size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	if (p && n) {
		memcpy(p, from, n * size);
	}
	return p;
}

int mobo_dev_new(struct mobo_dev **ret, const struct mobo_chip_class *cls, const char *name,
		 const struct mobo_dev_host *host, void *state, uint8_t *shadow)
{
	struct mobo_dev *d;
	int r = check_class(cls);

	if (r < 0) {
		return r;
	}
	d = calloc(1, sizeof(*d));
	if (!d) {
		return -ENOMEM;
	}
	d->cls = cls;
	d->host = host;
	d->state = state;
	d->shadow = shadow;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->priv = calloc(1, cls->priv_size ? cls->priv_size : 1);
	d->regions = copy_array(cls->regions, cls->n_regions, sizeof(*cls->regions));
	d->lines = copy_array(cls->lines, cls->n_lines, sizeof(*cls->lines));
	d->functions = copy_array(cls->functions, cls->n_functions, sizeof(*cls->functions));
	d->reg_index = calloc(cls->n_regions ? cls->n_regions : 1, sizeof(*d->reg_index));
	for (unsigned i = 0; i < MOBO_DEV_TIMERS; i++) {
		d->timer_ns[i] = UINT64_MAX;
	}
	if (!d->priv || !d->regions || !d->lines || !d->functions || !d->reg_index) {
		mobo_dev_free(d, false);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

/* SHADOW and CONST regions get their bytes one after the other, each 8-aligned. */
static int lay_out_shadow(struct mobo_dev *d)
{
	uint64_t next = 0;

	for (unsigned i = 0; i < d->cls->n_regions; i++) {
		const struct mobo_region *r = &d->regions[i];

		if (r->attr != MOBO_SHADOW && r->attr != MOBO_CONST) {
			continue;
		}
		if (r->len > MOBO_IOCH_SHADOW - next) {
			mobo_error("%s: region %s does not fit into the shadow bytes", d->name,
				   r->name);
			return -EINVAL;
		}
		d->shadow_offset[i] = (uint32_t)next;
		next = (next + r->len + 7) & ~7ull;
	}
	return 0;
}

int mobo_dev_start(struct mobo_dev *d)
{
	int r;

	/* Shadow bytes may be filled by init, and init may resize the regions: lay out twice. */
	r = lay_out_shadow(d);
	if (r < 0) {
		return r;
	}
	if (d->cls->init) {
		d->in_init = true;
		r = d->cls->init(d);
		d->in_init = false;
		if (r < 0) {
			return r;
		}
	}
	return mobo_dev_index_registers(d);
}

void mobo_dev_finish(struct mobo_dev *d)
{
	if (!d->finished && d->cls->finish) {
		d->finished = true;
		d->cls->finish(d);
	}
}

void mobo_dev_free(struct mobo_dev *d, bool started)
{
	if (!d) {
		return;
	}
	if (started) {
		mobo_dev_finish(d);
	}
	for (unsigned i = 0; d->reg_index && i < d->cls->n_regions; i++) {
		free(d->reg_index[i].first);
	}
	for (unsigned i = 0; i < MOBO_DEV_FUNCTIONS; i++) {
		free(d->function_config[i]);
	}
	for (unsigned i = 0; i < d->n_config; i++) {
		free(d->config[i].key);
		free(d->config[i].value);
	}
	for (unsigned i = 0; i < d->n_fds; i++) {
		close(d->fds[i].fd);
	}
	free(d->config);
	free(d->reg_index);
	free(d->functions);
	free(d->lines);
	free(d->regions);
	free(d->priv);
	free(d);
}

void *mobo_dev_state(struct mobo_dev *d)
{
	return d->state;
}

void *mobo_dev_priv(struct mobo_dev *d)
{
	return d->priv;
}

const char *mobo_dev_name(const struct mobo_dev *d)
{
	return d->name;
}

/* -- Configuration and files -- */

static struct mobo_dev_config *find_config(struct mobo_dev *d, const char *key)
{
	for (unsigned i = 0; i < d->n_config; i++) {
		if (strcmp(d->config[i].key, key) == 0) {
			return &d->config[i];
		}
	}
	return NULL;
}

int mobo_dev_config_set(struct mobo_dev *d, const char *key, const char *value)
{
	struct mobo_dev_config *c = find_config(d, key);
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy) {
		return -ENOMEM;
	}
	if (!value) {
		if (c) {
			free(c->key);
			free(c->value);
			*c = d->config[--d->n_config];
		}
		return 0;
	}
	if (c) {
		free(c->value);
		c->value = copy;
		return 0;
	}
	c = realloc(d->config, (d->n_config + 1) * sizeof(*c));
	if (!c) {
		free(copy);
		return -ENOMEM;
	}
	d->config = c;
	c[d->n_config].key = strdup(key);
	c[d->n_config].value = copy;
	if (!c[d->n_config].key) {
		free(copy);
		return -ENOMEM;
	}
	d->n_config++;
	return 0;
}

const char *mobo_dev_config(struct mobo_dev *d, const char *key, const char *fallback)
{
	const struct mobo_dev_config *c = find_config(d, key);

	return c ? c->value : fallback;
}

uint64_t mobo_dev_config_u64(struct mobo_dev *d, const char *key, uint64_t fallback)
{
	const char *text = mobo_dev_config(d, key, NULL);
	unsigned shift = 0;
	uint64_t v;
	char *end;

	if (!text || text[0] < '0' || text[0] > '9') {
		return fallback;
	}
	errno = 0;
	v = strtoull(text, &end, 0);
	switch (*end) {
	case 'K': shift = 10; break;
	case 'M': shift = 20; break;
	case 'G': shift = 30; break;
	}
	if (shift) {
		end++;
	}
	if (*end != '\0' || errno || (v << shift) >> shift != v) {
		mobo_warning("%s: \"%s\" is no number for %s, %llu is used", d->name, text, key,
			     (unsigned long long)fallback);
		return fallback;
	}
	return v << shift;
}

int mobo_dev_fd(struct mobo_dev *d, const char *name)
{
	for (unsigned i = 0; i < d->n_fds; i++) {
		if (strcmp(d->fds[i].name, name) == 0) {
			return d->fds[i].fd;
		}
	}
	return -1;
}

int mobo_dev_fd_give(struct mobo_dev *d, const char *name, int fd)
{
	for (unsigned i = 0; i < d->n_fds; i++) {
		if (strcmp(d->fds[i].name, name) == 0) {
			close(d->fds[i].fd);
			d->fds[i].fd = fd;
			return 0;
		}
	}
	if (d->n_fds == MOBO_DEV_FDS) {
		close(fd);
		return -ENOSPC;
	}
	snprintf(d->fds[d->n_fds].name, sizeof(d->fds[0].name), "%s", name);
	d->fds[d->n_fds++].fd = fd;
	return 0;
}

/* "media0", "media0.data", "unit0.image1" belong to slot 0. */
static bool is_medium_of(const char *name, unsigned slot)
{
	char prefix[16];

	snprintf(prefix, sizeof(prefix), "media%u", slot);
	if (strncmp(name, prefix, strlen(prefix)) == 0) {
		return name[strlen(prefix)] < '0' || name[strlen(prefix)] > '9';
	}
	snprintf(prefix, sizeof(prefix), "unit%u.", slot);
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Moves the fds of a slot's medium from d to `to`; their number. */
static unsigned take_medium(struct mobo_dev *d, unsigned slot, struct mobo_dev_fd *to)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->n_fds;) {
		if (!is_medium_of(d->fds[i].name, slot)) {
			i++;
			continue;
		}
		to[n++] = d->fds[i];
		d->fds[i] = d->fds[--d->n_fds];
	}
	return n;
}

static void close_fds(const struct mobo_dev_fd *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		close(fds[i].fd);
	}
}

int mobo_dev_media(struct mobo_dev *d, unsigned slot, const char *const *names, const int *fds,
		   unsigned n, bool force)
{
	struct mobo_dev_fd old[MOBO_DEV_FDS], refused[MOBO_DEV_FDS];
	unsigned n_old = take_medium(d, slot, old);
	int r = 0;

	for (unsigned i = 0; i < n; i++) {
		int e = is_medium_of(names[i], slot) ? 0 : -EINVAL;

		if (e < 0) {
			close(fds[i]);
		} else {
			e = mobo_dev_fd_give(d, names[i], fds[i]);
		}
		r = r < 0 ? r : e;
	}
	if (r == 0) {
		r = d->cls->media ? d->cls->media(d, slot, force) : -ENOSYS;
	}
	if (r < 0) {
		close_fds(refused, take_medium(d, slot, refused));
		memcpy(d->fds + d->n_fds, old, n_old * sizeof(old[0]));
		d->n_fds += n_old;
		return r;
	}
	close_fds(old, n_old);
	return r;
}

void *mobo_dev_memory(struct mobo_dev *d, size_t *len)
{
	if (len) {
		*len = d->memory_len;
	}
	return d->memory;
}

int mobo_dev_set_region(struct mobo_dev *d, unsigned region, const struct mobo_region *r)
{
	if (!d->in_init || region >= d->cls->n_regions) {
		return -EINVAL;
	}
	d->regions[region] = *r;
	return lay_out_shadow(d);
}

int mobo_dev_set_line(struct mobo_dev *d, unsigned line, struct mobo_line to)
{
	if (!d->in_init || line >= d->cls->n_lines) {
		return -EINVAL;
	}
	d->lines[line] = to;
	return 0;
}

int mobo_dev_set_function(struct mobo_dev *d, unsigned fn, const struct mobo_pci_function *f)
{
	struct mobo_pci_config *config;

	if (!d->in_init || fn >= d->cls->n_functions) {
		return -EINVAL;
	}
	config = copy_array(f->config, f->n_config, sizeof(*config));
	if (!config) {
		return -ENOMEM;
	}
	free(d->function_config[fn]);
	d->function_config[fn] = config;
	d->functions[fn] = *f;
	d->functions[fn].config = config;
	return 0;
}

/* -- Wires out -- */

void mobo_dev_line(struct mobo_dev *d, unsigned line, bool level)
{
	MOBO_ASSERT(line < d->cls->n_lines);
	if (((d->level >> line) & 1) == level) {
		return;
	}
	d->level ^= 1ull << line;
	d->host->line(d, line, level);
}

void mobo_dev_line_pulse(struct mobo_dev *d, unsigned line)
{
	MOBO_ASSERT(line < d->cls->n_lines);
	d->host->pulse(d, line);
}

void mobo_dev_msi(struct mobo_dev *d, unsigned vector)
{
	MOBO_ASSERT(vector < 256);
	d->host->msi(d, vector);
}

void mobo_dev_map(struct mobo_dev *d, unsigned region, uint32_t page_offset, unsigned bits)
{
	uint32_t word = page_offset << 12 | (bits & (MOBO_MAP_READ | MOBO_MAP_WRITE));

	MOBO_ASSERT(region < d->cls->n_regions && page_offset < 1u << 20);
	if (d->map[region] != word) {
		d->map[region] = word;
		d->host->map(d, region, word);
	}
}

uint8_t *mobo_dev_shadow(struct mobo_dev *d, unsigned region)
{
	MOBO_ASSERT(region < d->cls->n_regions);
	return d->shadow + d->shadow_offset[region];
}

/* -- Time -- */

uint64_t mobo_dev_now_ns(struct mobo_dev *d)
{
	return d->access_ns ? d->access_ns : d->host->now_ns(d);
}

int64_t mobo_dev_realtime_ns(struct mobo_dev *d)
{
	return d->realtime_base_ns + (int64_t)mobo_dev_now_ns(d);
}

void mobo_dev_timer_set(struct mobo_dev *d, unsigned timer, uint64_t deadline_ns)
{
	MOBO_ASSERT(timer < MOBO_DEV_TIMERS);
	if (d->timer_ns[timer] != deadline_ns) {
		d->timer_ns[timer] = deadline_ns;
		d->host->timer(d);
	}
}

uint64_t mobo_dev_next_timer(const struct mobo_dev *d)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < MOBO_DEV_TIMERS; i++) {
		next = MOBO_MIN(next, d->timer_ns[i]);
	}
	return next;
}

void mobo_dev_fire_timers(struct mobo_dev *d, uint64_t now_ns)
{
	uint32_t due = 0;

	for (unsigned i = 0; i < MOBO_DEV_TIMERS; i++) {
		due |= (uint32_t)(d->timer_ns[i] <= now_ns) << i;
	}
	for (unsigned i = 0; i < MOBO_DEV_TIMERS; i++) {
		/* A hook may have moved or stopped one of the others. */
		if (((due >> i) & 1) && d->timer_ns[i] <= now_ns) {
			d->timer_ns[i] = UINT64_MAX;
			if (d->cls->timer) {
				d->cls->timer(d, i);
			}
		}
	}
	if (due) {
		d->host->timer(d);
	}
}

/* -- Reset and restore -- */

static void quiet(struct mobo_dev *d)
{
	for (unsigned i = 0; i < d->cls->n_lines; i++) {
		mobo_dev_line(d, i, false);
	}
	for (unsigned i = 0; i < MOBO_DEV_TIMERS; i++) {
		mobo_dev_timer_set(d, i, UINT64_MAX);
	}
}

void mobo_dev_reset(struct mobo_dev *d)
{
	quiet(d);
	if (d->cls->reset) {
		d->cls->reset(d);
	}
}

void mobo_dev_restored(struct mobo_dev *d)
{
	quiet(d);
	if (d->cls->restored) {
		d->cls->restored(d);
	}
}

/* -- To the machine -- */

size_t mobo_dev_stream_read(struct mobo_dev *d, unsigned stream, void *buf, size_t len)
{
	return d->host->stream_read(d, stream, buf, len);
}

size_t mobo_dev_stream_write(struct mobo_dev *d, unsigned stream, const void *buf, size_t len)
{
	return d->host->stream_write(d, stream, buf, len);
}

void mobo_dev_watch_fd(struct mobo_dev *d, int fd, bool on)
{
	d->host->watch_fd(d, fd, on);
}

void mobo_dev_notify(struct mobo_dev *d, const char *verb, const char *text)
{
	d->host->notify(d, verb, text ? text : "");
}

void mobo_dev_error(struct mobo_dev *d, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->host->error(d, text);
}

void mobo_dev_guest_error(struct mobo_dev *d, const char *what)
{
	d->n_guest_errors++;
	for (unsigned i = 0; i < MOBO_DEV_GUEST_ERRORS; i++) {
		if (!d->guest_error[i]) {
			d->guest_error[i] = what;
			mobo_info("%s: the guest did what the chip forbids: %s", d->name, what);
			return;
		}
		if (d->guest_error[i] == what) {
			return;
		}
	}
}
