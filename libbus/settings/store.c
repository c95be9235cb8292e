/* SPDX-License-Identifier: Apache-2.0 */
/* Values in the Settings struct, found by name through protobuf-c's descriptors. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define MEMBER(msg, field, type) ((type *)(void *)((uint8_t *)(msg) + (field)->offset))
#define COUNT(msg, field)	 ((size_t *)(void *)((uint8_t *)(msg) + (field)->quantifier_offset))

static ProtobufCMessage *message_new(const ProtobufCMessageDescriptor *d);

/* Sets one field from text whose number is known. */
static int field_set(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, const char *value,
		     uint64_t number)
{
	char **text, *copy;

	switch (f->type) {
	case PROTOBUF_C_TYPE_BOOL: *MEMBER(m, f, protobuf_c_boolean) = number != 0; return 0;
	case PROTOBUF_C_TYPE_UINT32: *MEMBER(m, f, uint32_t) = (uint32_t)number; return 0;
	case PROTOBUF_C_TYPE_UINT64: *MEMBER(m, f, uint64_t) = number; return 0;
	case PROTOBUF_C_TYPE_STRING:
		text = MEMBER(m, f, char *);
		copy = *value ? strdup(value) : (char *)protobuf_c_empty_string;
		if (!copy) {
			return -ENOMEM;
		}
		if (*text != protobuf_c_empty_string) {
			free(*text);
		}
		*text = copy;
		return 0;
	default: /* the generator lets no other through */
		MOBO_ASSERT(!"a type that the settings file cannot hold");
		return -EINVAL;
	}
}

/* The message that holds key's last part, entries of repeated sections made where make says so. */
static ProtobufCMessage *descend(ProtobufCMessage *m, const char *key,
				 const ProtobufCFieldDescriptor **field, bool make)
{
	for (;;) {
		char part[64];
		size_t len = strcspn(key, ".");
		ProtobufCMessage **grown, ***list;
		unsigned long index;
		char *end;

		MOBO_ASSERT(len < sizeof(part));
		memcpy(part, key, len);
		part[len] = '\0';
		*field = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, part);
		MOBO_ASSERT(*field);
		if (!key[len]) {
			return m;
		}
		key += len + 1;
		if ((*field)->label != PROTOBUF_C_LABEL_REPEATED) {
			m = *MEMBER(m, *field, ProtobufCMessage *);
			continue;
		}
		index = strtoul(key, &end, 10);
		key = end + 1;
		list = MEMBER(m, *field, ProtobufCMessage **);
		while (index >= *COUNT(m, *field)) {
			ProtobufCMessage *item = make ? message_new((*field)->descriptor) : NULL;

			grown = item ? realloc(*list, (*COUNT(m, *field) + 1) * sizeof(*grown))
				     : NULL;
			if (!grown) {
				protobuf_c_message_free_unpacked(item, NULL);
				return NULL;
			}
			*list = grown;
			grown[(*COUNT(m, *field))++] = item;
		}
		m = (*list)[index];
	}
}

static ProtobufCMessage *message_new(const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *m = calloc(1, d->sizeof_message);

	if (!m) {
		return NULL;
	}
	protobuf_c_message_init(d, m);
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];

		if (f->type == PROTOBUF_C_TYPE_MESSAGE && f->label != PROTOBUF_C_LABEL_REPEATED) {
			ProtobufCMessage *sub = message_new(f->descriptor);

			if (!sub) {
				protobuf_c_message_free_unpacked(m, NULL);
				return NULL;
			}
			*MEMBER(m, f, ProtobufCMessage *) = sub;
		}
	}
	return m;
}

static int store_default(Mobo__V1__Settings *s, const char *key,
			 const struct mobo_setting_info *info)
{
	char reason[300];
	uint64_t number = 0;

	if (setting_value_check(info, info->default_value, &number, reason, sizeof(reason)) < 0) {
		MOBO_ASSERT(!*info->default_value); /* a default outside of its own limits */
	}
	return settings_store(s, key, info, info->default_value, number);
}

/* Defaults for entry `index` of a section. */
static int section_defaults(Mobo__V1__Settings *s, const char *section, unsigned index)
{
	size_t len = strlen(section);
	char key[96];
	int r = 0;

	for (const struct mobo_setting_info *i = mobo_settings_table; i->pattern && r == 0; i++) {
		if (strncmp(i->pattern, section, len) == 0 &&
		    strncmp(i->pattern + len, ".N.", 3) == 0) {
			snprintf(key, sizeof(key), "%s.%u.%s", section, index,
				 i->pattern + len + 3);
			r = store_default(s, key, i);
		}
	}
	return r;
}

Mobo__V1__Settings *settings_new(void)
{
	Mobo__V1__Settings *s = (Mobo__V1__Settings *)message_new(&mobo__v1__settings__descriptor);
	int r = s ? 0 : -ENOMEM;

	for (const struct mobo_setting_info *i = mobo_settings_table; i->pattern && r == 0; i++) {
		if (!strstr(i->pattern, ".N.")) {
			r = store_default(s, i->pattern, i);
		}
	}
	if (r < 0) {
		mobo_settings_free(s);
		return NULL;
	}
	return s;
}

void mobo_settings_free(Mobo__V1__Settings *s)
{
	if (s) {
		mobo__v1__settings__free_unpacked(s, NULL);
	}
}

unsigned settings_count(const Mobo__V1__Settings *s, const char *section)
{
	const ProtobufCFieldDescriptor *f =
		protobuf_c_message_descriptor_get_field_by_name(s->base.descriptor, section);

	return (unsigned)*COUNT(s, f);
}

int settings_store(Mobo__V1__Settings *s, const char *key, const struct mobo_setting_info *info,
		   const char *value, uint64_t number)
{
	const ProtobufCFieldDescriptor *f;
	const char *n = strstr(info->pattern, ".N.");
	ProtobufCMessage *m;
	char section[64];
	unsigned before = 0;
	int r = 0;

	if (n) {
		snprintf(section, sizeof(section), "%.*s", (int)(n - info->pattern), info->pattern);
		before = settings_count(s, section);
	}
	m = descend(&s->base, key, &f, true);
	if (!m) {
		return -ENOMEM;
	}
	for (unsigned i = before; n && i < settings_count(s, section) && r == 0; i++) {
		r = section_defaults(s, section, i);
	}
	return r < 0 ? r : field_set(m, f, value, number);
}

char *settings_fetch(const Mobo__V1__Settings *s, const char *key,
		     const struct mobo_setting_info *info)
{
	const ProtobufCFieldDescriptor *f;
	ProtobufCMessage *m = descend((ProtobufCMessage *)&s->base, key, &f, false);
	char text[24];

	if (!m) {
		return NULL;
	}
	switch (f->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return strdup(*MEMBER(m, f, protobuf_c_boolean) ? "true" : "false");
	case PROTOBUF_C_TYPE_UINT32:
		snprintf(text, sizeof(text), "%" PRIu32, *MEMBER(m, f, uint32_t));
		return strdup(text);
	case PROTOBUF_C_TYPE_UINT64:
		if (strcmp(info->type, "size") == 0) {
			mobo_settings_format_size(*MEMBER(m, f, uint64_t), text);
		} else {
			snprintf(text, sizeof(text), "%" PRIu64, *MEMBER(m, f, uint64_t));
		}
		return strdup(text);
	default: /* the generator lets only strings through besides */
		return strdup(*MEMBER(m, f, char *));
	}
}
