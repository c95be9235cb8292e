/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and bodies between structs and bytes. */
#ifndef BUS_WIRE_H
#define BUS_WIRE_H

#include "mobo/bus.h"
#include "zsock.h"

enum { WIRE_HDR_MAX = 1024, WIRE_TEXT_MAX = 600, WIRE_TOPIC_MAX = 200, WIRE_NAME_MAX = 63 };

/* Packs into buf; status texts are cut to WIRE_TEXT_MAX. Returns the length. */
size_t wire_pack_hdr(const Mobo__V1__Hdr *hdr, uint8_t buf[WIRE_HDR_MAX]);
/* NULL: not a header of our version. Freed with mobo__v1__hdr__free_unpacked(). */
Mobo__V1__Hdr *wire_unpack_hdr(zmq_msg_t *frame);

/* Bytes of a body in memory that the caller frees; *len. NULL: out of memory. */
uint8_t *wire_pack(const ProtobufCMessage *msg, size_t *len);
/* NULL: unknown type or malformed. protobuf_c_message_free_unpacked(). */
ProtobufCMessage *wire_unpack(uint32_t type, const void *data, size_t len);

/* Letters, digits, '-', '_', '.', at most WIRE_NAME_MAX, no leading dot or dash. */
bool wire_name_valid(const char *name);
/* Printable ASCII without blanks, at most WIRE_TOPIC_MAX. */
bool wire_topic_valid(const char *topic, size_t len);
int wire_random(void *buf, size_t len); /* 0 or -errno */
const char *wire_code_name(Mobo__V1__Code code);
/* errno that stands for a code, and the reverse. */
int wire_errno_of(Mobo__V1__Code code);
Mobo__V1__Code wire_code_of(int err_no);

#endif
