#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Refuses a change of the API that breaks a peer of the same major version.

Compares the committed descriptor set with the one just built: nothing may be removed, renumbered,
renamed, change its type or label, and a number that was given up (reserved) is never used again.
Additive changes pass, but only after the snapshot was brought up to date, so that each addition is
seen in review:

    compat.py SNAPSHOT BUILT            0: same; 1: refused, or the snapshot is old
    compat.py --update SNAPSHOT BUILT   writes SNAPSHOT when the change is additive
"""
import sys

from google.protobuf import descriptor_pb2


def load(path):
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as f:
        files.ParseFromString(f.read())
    return strip(files)


def strip(files):
    """Without comments and positions, in a fixed order."""
    out = descriptor_pb2.FileDescriptorSet()
    for f in sorted(files.file, key=lambda f: f.name):
        f.ClearField("source_code_info")
        out.file.add().CopyFrom(f)
    return out


def collect(files):
    """Two maps by full name: messages, enums."""
    messages, enums = {}, {}

    def walk(prefix, m):
        name = f"{prefix}.{m.name}"
        messages[name] = m
        for n in m.nested_type:
            walk(name, n)
        for e in m.enum_type:
            enums[f"{name}.{e.name}"] = e

    for f in files.file:
        for m in f.message_type:
            walk(f.package, m)
        for e in f.enum_type:
            enums[f"{f.package}.{e.name}"] = e
    return messages, enums


def reserved(ranges, number, inclusive):
    return any(r.start <= number <= r.end - (0 if inclusive else 1) for r in ranges)


def compare_message(name, old, new, problems):
    fields = {f.number: f for f in new.field}
    names = {f.name: f.number for f in new.field}
    for f in old.field:
        n = fields.get(f.number)
        if n is None:
            if f.name in names:
                problems.append(f"{name}.{f.name}: renumbered {f.number} -> {names[f.name]}")
            else:
                problems.append(f"{name}.{f.name} = {f.number}: removed")
            continue
        if n.name != f.name:
            problems.append(f"{name}: number {f.number} reused: {f.name} -> {n.name}")
        if (n.type, n.type_name) != (f.type, f.type_name):
            problems.append(f"{name}.{f.name}: type changed")
        if n.label != f.label:
            problems.append(f"{name}.{f.name}: repeated or not changed")
        if n.HasField("oneof_index") != f.HasField("oneof_index"):
            problems.append(f"{name}.{f.name}: oneof changed")
    for r in old.reserved_range:
        for n in new.field:
            if r.start <= n.number < r.end:
                problems.append(f"{name}.{n.name}: number {n.number} was given up")
        if not all(reserved(new.reserved_range, i, False) for i in (r.start, r.end - 1)):
            problems.append(f"{name}: reserved {r.start}..{r.end - 1} removed")


def compare_enum(name, old, new, problems):
    values = {v.number: v for v in new.value}
    names = {v.name: v.number for v in new.value}
    for v in old.value:
        n = values.get(v.number)
        if names.get(v.name, v.number) != v.number:
            problems.append(f"{name}.{v.name}: renumbered {v.number} -> {names[v.name]}")
        elif n is None:
            problems.append(f"{name}.{v.name} = {v.number}: removed")
        elif n.name != v.name:
            problems.append(f"{name}: number {v.number} reused: {v.name} -> {n.name}")
    for r in old.reserved_range:
        for v in new.value:
            if r.start <= v.number <= r.end:
                problems.append(f"{name}.{v.name}: number {v.number} was given up")


def compare(old, new):
    """The list of breaking changes from one descriptor set to the other."""
    problems = []
    old_messages, old_enums = collect(old)
    new_messages, new_enums = collect(new)
    for name, m in old_messages.items():
        if name in new_messages:
            compare_message(name, m, new_messages[name], problems)
        else:
            problems.append(f"{name}: removed")
    for name, e in old_enums.items():
        if name in new_enums:
            compare_enum(name, e, new_enums[name], problems)
        else:
            problems.append(f"{name}: removed")
    return problems


def main():
    args = sys.argv[1:]
    update = args[:1] == ["--update"]
    snapshot, built = args[-2:]
    new = load(built)
    try:
        old = load(snapshot)
    except FileNotFoundError:
        if not update:
            raise
        old = descriptor_pb2.FileDescriptorSet()
    problems = compare(old, new)
    if problems:
        sys.exit("proto/ breaks its peers:\n  " + "\n  ".join(problems))
    data = new.SerializeToString(deterministic=True)
    if update:
        with open(snapshot, "wb") as f:
            f.write(data)
    elif old.SerializeToString(deterministic=True) != data:
        sys.exit("proto/ has additions that its snapshot lacks; if they are meant, run\n"
                 f"  proto/tools/compat.py --update proto/mobo.v1.desc {built}")


if __name__ == "__main__":
    main()
