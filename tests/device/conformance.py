#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An independent reading of proto/: the bus with stock pyzmq and protobuf against mobo-registry.

Usage: conformance.py PROTOC PROTO_DIR MOBO_REGISTRY
"""
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
import zmq  # noqa: E402

PROTOC, PROTO_DIR, REGISTRY = sys.argv[1:4]
base = tempfile.mkdtemp(prefix="mobo-test-")
subprocess.run([PROTOC, "-I", PROTO_DIR, "--python_out", base, "mobo/v1/envelope.proto",
                "mobo/v1/types.proto", "mobo/v1/registry.proto", "mobo/v1/event.proto"], check=True)
sys.path.insert(0, base)
sys.dont_write_bytecode = True
from mobo.v1 import envelope_pb2 as env  # noqa: E402
from mobo.v1 import event_pb2 as event  # noqa: E402
from mobo.v1 import registry_pb2 as reg  # noqa: E402
from mobo.v1 import types_pb2 as types  # noqa: E402

RUNTIME = os.path.join(base, "mobo", "registry")


def type_of(message):
    """CreateMachine is CREATE_MACHINE."""
    name = "".join("_" + c if c.isupper() else c for c in message.DESCRIPTOR.name)
    return types.Type.Value(name.strip("_").upper())


class Client:
    """What a third party writes: about forty lines."""

    def __init__(self, context):
        self.context = context
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(f"ipc://{RUNTIME}/rpc")
        self.corr = itertools.count(1)

    def close(self):
        self.socket.close()

    def send(self, message, kind=env.REQ, **fields):
        header = env.Hdr(ver=1, kind=kind, corr=next(self.corr), type=type_of(message), **fields)
        self.socket.send_multipart([header.SerializeToString(), message.SerializeToString()])
        return header.corr

    def receive(self, corr, timeout=3000):
        while self.socket.poll(timeout):
            head, body = self.socket.recv_multipart()
            header = env.Hdr.FromString(head)
            if header.corr == corr:
                return header, body
        raise TimeoutError

    def call(self, message, answer, **fields):
        header, body = self.receive(self.send(message, **fields))
        if header.kind == env.ERR:
            raise RuntimeError(header.st.code, header.st.text)
        assert header.kind == env.REP and header.type == type_of(answer()), header
        return answer.FromString(body)

    def hello(self, role=env.OPERATOR, token="operator.token", **fields):
        if token:
            with open(os.path.join(RUNTIME, token), encoding="ascii") as f:
                token = f.read().strip()
        return self.call(env.Hello(role=role, name="py", pid=os.getpid(), token=token,
                                   **{"bus_major": 1, **fields}), env.Welcome)


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        environment = dict(os.environ)
        for name in ("RUNTIME_DIR", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "CONFIG_HOME"):
            environment["XDG_" + name] = base
        cls.process = subprocess.Popen([REGISTRY, "--foreground"], env=environment)
        deadline = time.monotonic() + 5
        while not os.path.exists(os.path.join(RUNTIME, "rpc")):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        assert cls.process.wait(5) == 0

    def setUp(self):
        self.context = zmq.Context()
        self.client = Client(self.context)

    def tearDown(self):
        self.client.close()
        self.context.term()

    def test_hello_is_welcomed(self):
        welcome = self.client.hello()
        self.assertGreater(welcome.node, 0)
        self.assertNotEqual(welcome.epoch, 0)
        self.assertEqual(welcome.hub, "registry")
        self.assertGreaterEqual(welcome.max_message, 65536)
        nodes = self.client.call(env.ListNodes(), env.NodeList).nodes
        me = [n for n in nodes if n.node == welcome.node]
        self.assertEqual((me[0].name, me[0].pid), ("py", os.getpid()))

    def refused(self, code, function):
        with self.assertRaises(RuntimeError) as raised:
            function()
        self.assertEqual(raised.exception.args[0], code)
        self.assertTrue(raised.exception.args[1])

    def test_refusals(self):
        self.refused(env.PERMISSION_DENIED,
                     lambda: self.client.call(reg.ListMachines(), reg.MachineList))
        self.refused(env.PERMISSION_DENIED, lambda: self.client.hello(token=""))
        self.refused(env.PERMISSION_DENIED, lambda: self.client.hello(token="observer.token"))
        self.refused(env.FAILED_PRECONDITION, lambda: self.client.hello(bus_major=2))
        self.client.hello(role=env.OBSERVER, token="observer.token")
        self.client.call(reg.ListMachines(), reg.MachineList)
        self.refused(env.PERMISSION_DENIED,
                     lambda: self.client.call(reg.CreateMachine(name="x"), reg.MachineInfo))

    def test_errors_have_codes(self):
        self.client.hello()
        call = self.client.call
        self.refused(env.NOT_FOUND, lambda: call(reg.GetMachine(name="nosuch"), reg.MachineInfo))
        self.refused(env.NOT_FOUND, lambda: call(reg.ListMachines(), reg.MachineList, dst=9999))
        self.refused(env.UNIMPLEMENTED, lambda: call(event.StateChanged(), env.Ack))
        past = time.monotonic_ns() - 1
        self.refused(env.DEADLINE_EXCEEDED,
                     lambda: call(reg.ListMachines(), reg.MachineList, deadline_ns=past))
        # a body that is no ListNodes
        header = env.Hdr(ver=1, kind=env.REQ, corr=77, type=types.LIST_MACHINES)
        self.client.socket.send_multipart([header.SerializeToString(), b"\xff\xff\xff"])
        self.assertEqual(self.client.receive(77)[0].st.code, env.INVALID_ARGUMENT)

    def test_heartbeats_are_answered(self):
        self.client.hello()
        header = env.Hdr(ver=1, kind=env.HB)
        self.client.socket.send_multipart([header.SerializeToString(), b""])
        self.assertTrue(self.client.socket.poll(3000))
        self.assertEqual(env.Hdr.FromString(self.client.socket.recv_multipart()[0]).kind, env.HB)

    def test_events_with_snapshot(self):
        welcome = self.client.hello()
        sub = self.context.socket(zmq.SUB)
        sub.linger = 0
        sub.connect(welcome.pub_endpoint)
        sub.subscribe(b"reg.")
        sub.subscribe(b"sub.py.1")
        # the mark: from here on nothing is missed
        self.assertTrue(sub.poll(3000))
        topic, head, _ = sub.recv_multipart()
        self.assertEqual(topic, b"sub.py.1")
        snapshot = self.client.call(env.Snapshot(prefix="reg."), env.SnapshotReply)
        self.assertGreaterEqual(snapshot.hseq, env.Hdr.FromString(head).hseq)
        self.client.call(reg.CreateMachine(name="py1"), reg.MachineInfo)
        self.assertTrue(sub.poll(3000))
        topic, head, body = sub.recv_multipart()
        header = env.Hdr.FromString(head)
        self.assertEqual(topic, b"reg.machine.py1.created")
        self.assertEqual((header.kind, header.type), (env.EVT, types.MACHINE_CHANGED))
        self.assertGreater(header.hseq, snapshot.hseq)
        self.assertEqual(header.tseq, 1)
        self.assertEqual(event.MachineChanged.FromString(body).machine, "py1")
        # everything since the snapshot, once more
        again = self.client.call(env.Snapshot(prefix="reg.", since_hseq=snapshot.hseq),
                                 env.SnapshotReply)
        self.assertEqual([e.topic for e in again.events], ["reg.machine.py1.created"])
        self.assertFalse(again.gap)
        self.client.call(reg.DeleteMachine(name="py1"), reg.DeletedFiles)
        sub.close()

    def test_a_client_that_leaves_is_forgotten(self):
        self.client.hello()
        other = Client(self.context)
        node = other.hello().node
        other.close()
        deadline = time.monotonic() + 3
        while node in [n.node for n in self.client.call(env.ListNodes(), env.NodeList).nodes]:
            self.assertLess(time.monotonic(), deadline)


if __name__ == "__main__":
    try:
        unittest.main(argv=sys.argv[:1])
    finally:
        shutil.rmtree(base, ignore_errors=True)
