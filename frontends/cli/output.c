/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands print: errors, tables, JSON of any message by its descriptor. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int cli_fail(struct cli *cli, int status, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (cli->interrupted) {
		snprintf(text, sizeof(text), "interrupted");
		status = CLI_INTERRUPTED;
	}
	if (cli->json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "error", json_object_new_string(text));
		json_object_object_add(o, "status", json_object_new_int(status));
		cli_print_json(o);
	} else {
		fprintf(stderr, "mobo: %s\n", text);
	}
	return status;
}

int cli_usage(struct cli *cli)
{
	fprintf(stderr, "usage: mobo %s %s\n`mobo help %s` says more.\n", cli->command->name,
		cli->command->args, cli->command->name);
	return CLI_USAGE;
}

static json_object *json_value(const ProtobufCFieldDescriptor *f, const void *p)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32: return json_object_new_int(*(const int32_t *)p);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64: return json_object_new_int64(*(const int64_t *)p);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32: return json_object_new_int64(*(const uint32_t *)p);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64: return json_object_new_uint64(*(const uint64_t *)p);
	case PROTOBUF_C_TYPE_BOOL: return json_object_new_boolean(*(const protobuf_c_boolean *)p);
	case PROTOBUF_C_TYPE_FLOAT: return json_object_new_double(*(const float *)p);
	case PROTOBUF_C_TYPE_DOUBLE: return json_object_new_double(*(const double *)p);
	case PROTOBUF_C_TYPE_STRING: {
		const char *s = *(char *const *)p;

		return json_object_new_string(s ? s : "");
	}
	case PROTOBUF_C_TYPE_ENUM: {
		const ProtobufCEnumValue *v =
			protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)p);

		return v ? json_object_new_string(v->name) : json_object_new_int(*(const int *)p);
	}
	case PROTOBUF_C_TYPE_BYTES: {
		const ProtobufCBinaryData *b = p;
		char *hex = malloc(b->len * 2 + 1);
		json_object *o;

		MOBO_ASSERT(hex);
		hex[0] = '\0';
		for (size_t i = 0; i < b->len; i++) {
			sprintf(hex + 2 * i, "%02x", b->data[i]);
		}
		o = json_object_new_string(hex);
		free(hex);
		return o;
	}
	case PROTOBUF_C_TYPE_MESSAGE: {
		const ProtobufCMessage *m = *(ProtobufCMessage *const *)p;

		return m ? cli_json(m) : NULL;
	}
	}
	return NULL;
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE: return 8;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
	default: return 4;
	}
}

json_object *cli_json(const ProtobufCMessage *msg)
{
	json_object *o = json_object_new_object();

	for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &msg->descriptor->fields[i];
		const char *base = (const char *)msg;
		json_object *v;

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)(base + f->quantifier_offset);
			const char *data = *(char *const *)(base + f->offset);

			v = json_object_new_array();
			for (size_t k = 0; k < n; k++) {
				json_object_array_add(v, json_value(f, data + k * element_size(f)));
			}
		} else {
			v = json_value(f, base + f->offset);
		}
		json_object_object_add(o, f->name, v);
	}
	return o;
}

void cli_print_json(json_object *obj)
{
	puts(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(obj);
}

void cli_say(struct cli *cli, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (cli->json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "ok", json_object_new_boolean(true));
		json_object_object_add(o, "message", json_object_new_string(text));
		cli_print_json(o);
	} else {
		puts(text);
	}
}

void cli_done(struct cli *cli)
{
	if (cli->json) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "ok", json_object_new_boolean(true));
		cli_print_json(o);
	}
}

/* Columns of UTF-8 text: continuation bytes take none. */
static int width(const char *s)
{
	int n = 0;

	for (; *s; s++) {
		n += (*s & 0xc0) != 0x80;
	}
	return n;
}

void cli_table(const char *const *cells, unsigned rows, unsigned columns)
{
	for (unsigned r = 0; r < rows; r++) {
		for (unsigned c = 0; c < columns; c++) {
			const char *cell = cells[r * columns + c];
			int w = 0;

			if (c == columns - 1) {
				puts(cell);
				break;
			}
			for (unsigned k = 0; k < rows; k++) {
				w = MOBO_MAX(w, width(cells[k * columns + c]));
			}
			printf("%s%*s", cell, w - width(cell) + 2, "");
		}
	}
}

const char *cli_state_name(Mobo__V1__MachineState state)
{
	switch (state) {
	case MOBO__V1__MACHINE_STATE__POWERED_OFF: return "powered-off";
	case MOBO__V1__MACHINE_STATE__STARTING: return "starting";
	case MOBO__V1__MACHINE_STATE__RUNNING: return "running";
	case MOBO__V1__MACHINE_STATE__PAUSED: return "paused";
	case MOBO__V1__MACHINE_STATE__STOPPING: return "stopping";
	case MOBO__V1__MACHINE_STATE__CRASHED: return "crashed";
	case MOBO__V1__MACHINE_STATE__INACCESSIBLE: return "inaccessible";
	case MOBO__V1__MACHINE_STATE__STATE_UNKNOWN:
	case _MOBO__V1__MACHINE_STATE_IS_INT_SIZE: break;
	}
	return "unknown";
}

const char *cli_size(char *buf, size_t len, uint64_t bytes)
{
	static const char units[] = "BKMGTP";
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 2 < sizeof(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, len, v < 10 && u ? "%.1f%c" : "%.0f%c", v, units[u]);
	return buf;
}
