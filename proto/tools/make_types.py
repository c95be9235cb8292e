#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes types.c, the table message number <-> descriptor, from the descriptor set.

Each value of enum Type names a message: CREATE_MACHINE is CreateMachine.
Usage: make_types.py DESCRIPTOR_SET OUTPUT
"""
import re
import sys

from google.protobuf import descriptor_pb2

HEAD = """/* SPDX-License-Identifier: Apache-2.0 */
/* Made by proto/tools/make_types.py: the number of each message. */
#include <string.h>

#include "mobo/base.h"
#include "mobo/bus.h"
"""

CODE = """
/* Sorted by number. */
static const struct {
	uint32_t type;
	const ProtobufCMessageDescriptor *descriptor;
} types[] = {
%s};

const ProtobufCMessageDescriptor *mobo_type_descriptor(uint32_t type)
{
	size_t lo = 0, hi = MOBO_ARRAY_LEN(types);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (types[mid].type == type) {
			return types[mid].descriptor;
		}
		if (types[mid].type < type) {
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return NULL;
}

uint32_t mobo_type_of(const ProtobufCMessage *msg)
{
	for (size_t i = 0; i < MOBO_ARRAY_LEN(types); i++) {
		if (types[i].descriptor == msg->descriptor) {
			return types[i].type;
		}
	}
	MOBO_ASSERT(!"message without a number in types.proto");
	return 0;
}
"""


def c_name(message):
    """protoc-c's prefix of a message of package mobo.v1: DeviceRegs is device_regs."""
    out = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", message)
    return out.lower()


def main():
    files = descriptor_pb2.FileDescriptorSet()
    with open(sys.argv[1], "rb") as f:
        files.ParseFromString(f.read())
    messages, numbers = {}, []
    for fd in files.file:
        for m in fd.message_type:
            messages[m.name] = fd.name
        for e in fd.enum_type:
            if e.name == "Type":
                numbers = [(v.number, v.name) for v in e.value if v.number]
    rows, includes = [], set()
    for number, name in sorted(numbers):
        message = "".join(w.capitalize() for w in name.split("_"))
        if message not in messages:
            sys.exit(f"types.proto: {name} = {number} names no message ({message})")
        includes.add(messages[message])
        rows.append(f"\t{{{number}, &mobo__v1__{c_name(message)}__descriptor}},\n")
    with open(sys.argv[2], "w") as out:
        out.write(HEAD)
        for f in sorted(includes):
            out.write(f'#include "{f.replace(".proto", ".pb-c.h")}"\n')
        out.write(CODE % "".join(rows))


if __name__ == "__main__":
    main()
