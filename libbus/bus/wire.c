/* SPDX-License-Identifier: Apache-2.0 */
/* See wire.h. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "wire.h"

size_t wire_pack_hdr(const Mobo__V1__Hdr *hdr, uint8_t buf[WIRE_HDR_MAX])
{
	Mobo__V1__Hdr h = *hdr;
	Mobo__V1__Status st;
	char text[WIRE_TEXT_MAX + 1];

	h.ver = 1;
	if (h.st && strlen(h.st->text) > WIRE_TEXT_MAX) {
		st = *h.st;
		memcpy(text, st.text, WIRE_TEXT_MAX);
		text[WIRE_TEXT_MAX] = '\0';
		st.text = text;
		h.st = &st;
	}
	return mobo__v1__hdr__pack(&h, buf);
}

Mobo__V1__Hdr *wire_unpack_hdr(zmq_msg_t *frame)
{
	Mobo__V1__Hdr *h;

	if (zmq_msg_size(frame) > WIRE_HDR_MAX) {
		return NULL;
	}
	h = mobo__v1__hdr__unpack(NULL, zmq_msg_size(frame), zmq_msg_data(frame));
	if (h && h->ver != 1) {
		mobo__v1__hdr__free_unpacked(h, NULL);
		return NULL;
	}
	return h;
}

uint8_t *wire_pack(const ProtobufCMessage *msg, size_t *len)
{
	uint8_t *data;

	*len = protobuf_c_message_get_packed_size(msg);
	data = malloc(*len + 1);
	if (data) {
		protobuf_c_message_pack(msg, data);
	}
	return data;
}

ProtobufCMessage *wire_unpack(uint32_t type, const void *data, size_t len)
{
	const ProtobufCMessageDescriptor *d = mobo_type_descriptor(type);

	return d ? protobuf_c_message_unpack(d, NULL, len, data) : NULL;
}

bool wire_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > WIRE_NAME_MAX || name[0] == '.' || name[0] == '-') {
		return false;
	}
	for (const char *c = name; *c; c++) {
		if (!isascii(*c) || !(isalnum(*c) || strchr("-_.", *c))) {
			return false;
		}
	}
	return true;
}

bool wire_topic_valid(const char *topic, size_t len)
{
	if (len < 1 || len > WIRE_TOPIC_MAX) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (topic[i] <= ' ' || topic[i] >= 0x7f) {
			return false;
		}
	}
	return true;
}

int wire_random(void *buf, size_t len)
{
	return getrandom(buf, len, 0) == (ssize_t)len ? 0 : -EIO;
}

static const struct {
	Mobo__V1__Code code;
	int err_no;
	const char *name;
} codes[] = {
	{MOBO__V1__CODE__OK, 0, "ok"},
	{MOBO__V1__CODE__CANCELLED, ECANCELED, "cancelled"},
	{MOBO__V1__CODE__UNKNOWN, EREMOTEIO, "unknown error"},
	{MOBO__V1__CODE__INVALID_ARGUMENT, EINVAL, "invalid argument"},
	{MOBO__V1__CODE__DEADLINE_EXCEEDED, ETIMEDOUT, "deadline exceeded"},
	{MOBO__V1__CODE__NOT_FOUND, ENOENT, "not found"},
	{MOBO__V1__CODE__ALREADY_EXISTS, EEXIST, "already exists"},
	{MOBO__V1__CODE__PERMISSION_DENIED, EACCES, "permission denied"},
	{MOBO__V1__CODE__RESOURCE_EXHAUSTED, ENOSPC, "resource exhausted"},
	{MOBO__V1__CODE__FAILED_PRECONDITION, EBUSY, "not in this state"},
	{MOBO__V1__CODE__ABORTED, ECONNABORTED, "aborted"},
	{MOBO__V1__CODE__OUT_OF_RANGE, ERANGE, "out of range"},
	{MOBO__V1__CODE__UNIMPLEMENTED, EOPNOTSUPP, "not implemented"},
	{MOBO__V1__CODE__INTERNAL, EPROTO, "internal error"},
	{MOBO__V1__CODE__UNAVAILABLE, ECONNREFUSED, "unavailable"},
	{MOBO__V1__CODE__DATA_LOSS, EIO, "data loss"},
};

const char *wire_code_name(Mobo__V1__Code code)
{
	for (size_t i = 0; i < MOBO_ARRAY_LEN(codes); i++) {
		if (codes[i].code == code) {
			return codes[i].name;
		}
	}
	return "unknown code";
}

int wire_errno_of(Mobo__V1__Code code)
{
	for (size_t i = 0; i < MOBO_ARRAY_LEN(codes); i++) {
		if (codes[i].code == code) {
			return codes[i].err_no;
		}
	}
	return EREMOTEIO;
}

Mobo__V1__Code wire_code_of(int err_no)
{
	switch (err_no) {
	case EPERM: return MOBO__V1__CODE__PERMISSION_DENIED;
	case ENOTDIR:
	case ENODEV:
	case ENXIO: return MOBO__V1__CODE__NOT_FOUND;
	case EADDRINUSE: return MOBO__V1__CODE__ALREADY_EXISTS;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EDQUOT: return MOBO__V1__CODE__RESOURCE_EXHAUSTED;
	}
	for (size_t i = 1; i < MOBO_ARRAY_LEN(codes); i++) {
		if (codes[i].err_no == err_no) {
			return codes[i].code;
		}
	}
	return MOBO__V1__CODE__UNKNOWN;
}
