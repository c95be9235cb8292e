/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process' log lines on their way to the hub. Any thread may log, so the socket stands apart
 * from the loop, behind a lock. Never blocks: what does not fit is counted in the next record.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "member.h"
#include "mobo/log.h"
#include "wire.h"

enum { LOG_HWM = 1000, LOG_CONNECT_MS = 1000, LOG_LINGER_MS = 100, LOG_TEXT_MAX = 2000 };

static struct {
	pthread_mutex_t lock;
	struct zsock_raw *socket;
	const struct mobo_bus *owner;
	uint32_t dropped;
	char name[WIRE_NAME_MAX + 1];
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void sink_line(void *arg, enum mobo_log_level level, uint64_t ts_ns, const char *line)
{
	Mobo__V1__Hdr hdr = MOBO__V1__HDR__INIT;
	Mobo__V1__LogRecord rec = MOBO__V1__LOG_RECORD__INIT;
	uint8_t buf[WIRE_HDR_MAX], body[LOG_TEXT_MAX + 200];
	char text[LOG_TEXT_MAX + 1];
	struct zpart parts[2] = {{buf, 0}, {body, 0}};

	strncpy(text, line, LOG_TEXT_MAX);
	text[LOG_TEXT_MAX] = '\0';
	hdr.kind = MOBO__V1__KIND__LOG;
	hdr.type = MOBO__V1__TYPE__LOG_RECORD;
	hdr.ts_ns = ts_ns;
	rec.node = sink.name;
	rec.level = level;
	rec.ts_ns = ts_ns;
	rec.text = text;
	pthread_mutex_lock(&sink.lock);
	if (sink.socket) {
		rec.dropped = sink.dropped;
		parts[0].len = wire_pack_hdr(&hdr, buf);
		parts[1].len = mobo__v1__log_record__pack(&rec, body);
		sink.dropped = zsock_raw_send(sink.socket, parts, 2) < 0 ? sink.dropped + 1 : 0;
	}
	pthread_mutex_unlock(&sink.lock);
}

int mobo_bus_log(struct mobo_bus *bus, const char *endpoint)
{
	struct zsock_raw *socket;
	int r = zsock_raw_push(&socket, endpoint, LOG_HWM, LOG_LINGER_MS, bus->opt.reconnect,
			       LOG_CONNECT_MS);

	if (r < 0) {
		return r;
	}
	log_sink_stop(NULL);
	pthread_mutex_lock(&sink.lock);
	sink.socket = socket;
	sink.owner = bus;
	sink.dropped = 0;
	strncpy(sink.name, bus->name, WIRE_NAME_MAX);
	pthread_mutex_unlock(&sink.lock);
	mobo_log_to(sink_line, NULL);
	return 0;
}

void log_sink_stop(struct mobo_bus *bus)
{
	struct zsock_raw *socket;

	pthread_mutex_lock(&sink.lock);
	socket = !bus || sink.owner == bus ? sink.socket : NULL;
	if (socket) {
		sink.socket = NULL;
		sink.owner = NULL;
	}
	pthread_mutex_unlock(&sink.lock);
	if (socket) {
		mobo_log_to(NULL, NULL);
		zsock_raw_close(socket);
	}
}
