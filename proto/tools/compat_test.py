#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""compat.py refuses each kind of breaking change, and lets additions pass."""
import os
import sys
import unittest

from google.protobuf import descriptor_pb2

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compat  # noqa: E402

F = descriptor_pb2.FieldDescriptorProto


def base():
    files = descriptor_pb2.FileDescriptorSet()
    f = files.file.add(name="a.proto", package="t")
    m = f.message_type.add(name="M")
    m.field.add(name="a", number=1, type=F.TYPE_UINT32, label=F.LABEL_OPTIONAL)
    m.field.add(name="b", number=2, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    m.reserved_range.add(start=5, end=7)
    e = f.enum_type.add(name="E")
    e.value.add(name="ZERO", number=0)
    e.value.add(name="ONE", number=1)
    return files, m, e


class Compat(unittest.TestCase):
    def changed(self, change):
        old = base()[0]
        new, m, e = base()
        change(m, e)
        return compat.compare(old, new)

    def test_same_passes(self):
        self.assertEqual(self.changed(lambda m, e: None), [])

    def test_additions_pass(self):
        def add(m, e):
            m.field.add(name="c", number=3, type=F.TYPE_BYTES, label=F.LABEL_OPTIONAL)
            e.value.add(name="TWO", number=2)
        self.assertEqual(self.changed(add), [])

    def test_removed_field_is_refused(self):
        self.assertIn("removed", self.changed(lambda m, e: m.field.pop())[0])

    def test_renumbered_field_is_refused(self):
        def f(m, e):
            m.field[1].number = 3
        self.assertIn("renumbered", self.changed(f)[0])

    def test_reused_number_is_refused(self):
        def f(m, e):
            m.field[1].name = "other"
        self.assertIn("reused", self.changed(f)[0])

    def test_changed_type_is_refused(self):
        def f(m, e):
            m.field[0].type = F.TYPE_UINT64
        self.assertIn("type changed", self.changed(f)[0])

    def test_changed_label_is_refused(self):
        def f(m, e):
            m.field[0].label = F.LABEL_REPEATED
        self.assertIn("repeated", self.changed(f)[0])

    def test_given_up_number_is_refused(self):
        def f(m, e):
            del m.reserved_range[:]
            m.field.add(name="z", number=6, type=F.TYPE_UINT32, label=F.LABEL_OPTIONAL)
        self.assertIn("given up", self.changed(f)[0])

    def test_renumbered_and_reused_enum_value_is_refused(self):
        def renumber(m, e):
            e.value[1].number = 2

        def reuse(m, e):
            e.value[1].name = "UNO"
        self.assertIn("renumbered", self.changed(renumber)[0])
        self.assertIn("reused", self.changed(reuse)[0])

    def test_removed_message_is_refused(self):
        old = base()[0]
        new = base()[0]
        del new.file[0].message_type[:]
        self.assertEqual(compat.compare(old, new), ["t.M: removed"])


if __name__ == "__main__":
    unittest.main()
