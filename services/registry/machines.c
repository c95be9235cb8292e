/* SPDX-License-Identifier: Apache-2.0 */
/* The machines that are known, their states, and what others are told about them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "registry.h"

struct machine *machine_find(struct registry *reg, const char *name)
{
	struct machine *m = reg->machines;

	while (m && strcmp(m->name, name) != 0) {
		m = m->next;
	}
	return m;
}

struct machine *machine_find_folder(struct registry *reg, const char *folder)
{
	struct machine *m = reg->machines;

	while (m && strcmp(m->folder, folder) != 0) {
		m = m->next;
	}
	return m;
}

static uint64_t wall_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct machine *machine_add(struct registry *reg, const char *name, const char *folder,
			    bool transient)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct machine **at = &reg->machines;

	if (!m || !(m->folder = strdup(folder))) {
		free(m);
		return NULL;
	}
	snprintf(m->name, sizeof(m->name), "%s", name);
	m->registry = reg;
	m->transient = transient;
	m->state = MOBO__V1__MACHINE_STATE__POWERED_OFF;
	m->since_ns = wall_clock_ns();
	while (*at && strcmp((*at)->name, name) < 0) {
		at = &(*at)->next;
	}
	m->next = *at;
	*at = m;
	return m;
}

void machine_remove(struct machine *m)
{
	struct registry *reg = m->registry;
	struct machine **at = &reg->machines;
	char topic[160];

	while (*at != m) {
		at = &(*at)->next;
	}
	*at = m->next;
	index_delete(reg->index, m->name);
	if (reg->hub) {
		machine_publish(m, "removed");
		snprintf(topic, sizeof(topic), "reg.machine.%s.state", m->name);
		mobo_hub_forget(reg->hub, topic);
	}
	mobo_watch_destroy(m->process);
	mobo_watch_destroy(m->start_timer);
	free(m->folder);
	free(m);
	registry_idle_check(reg);
}

bool machine_active(const struct machine *m)
{
	return m->pid || m->start;
}

void machine_publish(struct machine *m, const char *verb)
{
	Mobo__V1__MachineChanged ev = MOBO__V1__MACHINE_CHANGED__INIT;
	char topic[160];

	if (!m->registry->hub) {
		return;
	}
	snprintf(topic, sizeof(topic), "reg.machine.%s.%s", m->name, verb);
	ev.machine = m->name;
	ev.folder = m->folder;
	mobo_hub_publish(m->registry->hub, topic, &ev.base, false);
}

static void publish_state(struct machine *m)
{
	Mobo__V1__StateChanged ev = MOBO__V1__STATE_CHANGED__INIT;
	char topic[160];

	if (!m->registry->hub) {
		return;
	}
	snprintf(topic, sizeof(topic), "reg.machine.%s.state", m->name);
	ev.machine = m->name;
	ev.state = m->state;
	ev.reason = m->reason;
	mobo_hub_publish(m->registry->hub, topic, &ev.base, true);
}

void machine_set_state(struct machine *m, Mobo__V1__MachineState state, const char *fmt, ...)
{
	char reason[REASON_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (m->state == state && strcmp(m->reason, reason) == 0) {
		return;
	}
	if (m->state != state) {
		m->since_ns = wall_clock_ns();
	}
	m->state = state;
	strcpy(m->reason, reason);
	index_put(m->registry->index, m);
	publish_state(m);
	registry_idle_check(m->registry);
}

void machine_settings_file(const struct machine *m, char path[PATH_MAX])
{
	if (mobo_settings_path(m->folder, MOBO_SETTINGS_FILE, path, PATH_MAX) < 0) {
		path[0] = '\0'; /* a folder with such a path was never opened */
	}
}

void machine_info(const struct machine *m, struct machine_info *info)
{
	struct mobo_error err;
	Mobo__V1__Settings *s;
	char file[PATH_MAX];

	mobo__v1__machine_info__init(&info->pb);
	snprintf(info->reason, sizeof(info->reason), "%s", m->reason);
	info->pb.name = (char *)m->name;
	info->pb.folder = m->folder;
	info->pb.state = m->state;
	info->pb.pid = (uint32_t)m->pid;
	info->pb.rpc_endpoint = (char *)m->rpc_endpoint;
	info->pb.transient = m->transient;
	info->pb.since_unix_ns = m->since_ns;
	machine_settings_file(m, file);
	if (mobo_settings_load(file, &s, &err) == 0) {
		info->pb.memory = s->memory;
		info->pb.cpus = s->cpu->count;
		mobo_settings_free(s);
	} else if (!machine_active(m)) {
		info->pb.state = MOBO__V1__MACHINE_STATE__INACCESSIBLE;
		snprintf(info->reason, sizeof(info->reason), "%.390s", err.text);
	}
	info->pb.reason = info->reason;
}
