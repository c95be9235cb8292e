#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the table of settings from settings.proto's comments.

Usage: make_table.py c|markdown DESCRIPTOR_SET OUTPUT
       make_table.py check DESCRIPTOR_SET DOCUMENT     fails when the document is out of date
"""
import sys

from google.protobuf import descriptor_pb2

F = descriptor_pb2.FieldDescriptorProto
TAGS = ("default", "live", "unit", "min", "max", "values", "items", "format", "path", "count")
FLAGS = ("live", "path")


def comments(fd):
    """Leading comments by source path."""
    return {tuple(loc.path): loc.leading_comments for loc in fd.source_code_info.location}


def split_tags(text, where):
    """(documentation, {tag: value}) of a comment."""
    tags = {}
    doc = []
    words = text.split()
    i = 0
    while i < len(words):
        w = words[i]
        if w.startswith("@"):
            name = w[1:]
            if name not in TAGS:
                sys.exit(f"settings.proto: {where}: unknown tag @{name}")
            if name in FLAGS:
                tags[name] = True
            else:
                i += 1
                tags[name] = words[i]
        else:
            doc.append(w)
        i += 1
    return " ".join(doc), tags


class Key:
    """One kind of key."""

    def __init__(self, pattern, field, doc, tags):
        self.pattern, self.doc, self.tags = pattern, doc, tags
        self.live = "live" in tags
        self.path = "path" in tags
        self.default = tags.get("default", "")
        self.min, self.max = tags.get("min", ""), tags.get("max", "")
        self.values = tags.get("values", "") or tags.get("items", "") or tags.get("format", "")
        numeric = field.type in (F.TYPE_UINT32, F.TYPE_UINT64)
        if field.type == F.TYPE_BOOL:
            self.kind, self.type = "BOOL", "yes/no"
        elif numeric and tags.get("unit") == "bytes":
            self.kind, self.type = "SIZE", "size"
        elif numeric:
            self.kind, self.type = "NUMBER", "number"
        elif field.type != F.TYPE_STRING:
            sys.exit(f"settings.proto: {pattern}: a type that the settings file cannot hold")
        elif "values" in tags:
            self.kind, self.type = "VALUES", tags["values"].replace("*", "...")
        elif "items" in tags:
            self.kind, self.type = "ITEMS", "list of " + tags["items"]
        elif "format" in tags:
            self.kind, self.type = tags["format"].upper(), tags["format"]
        else:
            self.kind, self.type = "TEXT", "path" if self.path else "text"
        if self.kind == "BOOL" and not self.default:
            self.default = "false"
        if self.kind in ("NUMBER", "SIZE") and not self.default:
            self.default = "0"


def collect(path):
    """The keys in order, the repeated sections {name: count}, and what is said of sections."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as f:
        files.ParseFromString(f.read())
    fd = next(f for f in files.file if f.name.endswith("settings.proto"))
    said = comments(fd)
    index = {f".{fd.package}.{m.name}": (i, m) for i, m in enumerate(fd.message_type)}
    keys, repeated, sections = [], {}, {}

    def walk(i, message, prefix):
        for k, field in enumerate(message.field):
            text = said.get((4, i, 2, k), "")
            doc, tags = split_tags(text, field.name)
            if field.type == F.TYPE_MESSAGE:
                name = prefix + field.name
                sections[name] = doc
                if field.label == F.LABEL_REPEATED:
                    repeated[name] = int(tags["count"])
                    name += ".N"
                walk(*index[field.type_name], name + ".")
            else:
                if not doc:
                    sys.exit(f"settings.proto: {prefix}{field.name} has no documentation")
                keys.append(Key(prefix + field.name, field, doc, tags))

    walk(*index[f".{fd.package}.Settings"], "")
    return keys, repeated, sections


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def make_c(keys, repeated):
    out = ["/* SPDX-License-Identifier: Apache-2.0 */\n"
           "/* Made by libbus/settings/tools/make_table.py from settings.proto. */\n"
           '#include "table.h"\n\n'
           "const struct mobo_setting_info mobo_settings_table[] = {\n"]
    for k in keys:
        out.append("\t{%s, %s, %s, %s, %s,\n\t %s,\n\t %s, %s},\n" % (
            quote(k.pattern), quote(k.type), quote(k.default), quote(k.min), quote(k.max),
            quote(k.doc), str(k.live).lower(), str(k.path).lower()))
    out.append("\t{0},\n};\n\nconst struct setting_rule settings_rules[] = {\n")
    for k in keys:
        out.append("\t{SETTING_%s, %s},\n" % (k.kind, quote(k.values)))
    out.append("};\n\nconst struct setting_section settings_sections[] = {\n")
    for name, count in repeated.items():
        out.append("\t{%s, %d},\n" % (quote(name), count))
    out.append("\t{0},\n};\n")
    return "".join(out)


def make_markdown(keys, repeated, sections):
    out = ["# Settings of a machine\n\n"
           "Made from `proto/mobo/v1/settings.proto` by `libbus/settings/tools/make_table.py`; "
           "change them there.\n\n"
           "A machine's settings are in `machine.conf` in its folder: lines `key = value`, "
           "comments begin with `#`. A value is the rest of the line; it may stand in double "
           'quotes (then `\\"` and `\\\\` are escapes and a comment may follow). Sizes take K, M, '
           "G, T. Paths are relative to the machine's folder. `mobo set MACHINE key=value` "
           "changes the file and keeps its comments. *Live* settings apply at once, the others "
           "at the next start.\n"]
    last = None
    for k in sorted(keys, key=lambda k: "." in k.pattern):
        section = k.pattern.split(".")[0] if "." in k.pattern else ""
        if section != last:
            title = f"`{section}`" if section else "General"
            if section in repeated:
                title += f" (N is 0 to {repeated[section] - 1})"
            out.append(f"\n## {title}\n\n")
            if sections.get(section):
                out.append(sections[section] + "\n\n")
            out.append("| key | value | default | | |\n|---|---|---|---|---|\n")
            last = section
        kind = k.type.replace("|", "\\|")
        if k.min or k.max:
            kind += f", {k.min} to {k.max}"
        default = f"`{k.default}`" if k.default else ""
        out.append(f"| `{k.pattern}` | {kind} | {default} | {'live' if k.live else ''} "
                   f"| {k.doc} |\n")
    return "".join(out)


def main():
    mode, source, target = sys.argv[1:4]
    keys, repeated, sections = collect(source)
    if mode == "c":
        text = make_c(keys, repeated)
    else:
        text = make_markdown(keys, repeated, sections)
    if mode == "check":
        with open(target, encoding="utf-8") as f:
            if f.read() != text:
                sys.exit(f"{target} is out of date; run\n  libbus/settings/tools/make_table.py "
                         f"markdown {source} docs/SETTINGS.md")
        return
    with open(target, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
