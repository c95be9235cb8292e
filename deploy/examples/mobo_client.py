# SPDX-License-Identifier: Apache-2.0
"""Mobo's bus for Python programs: stock pyzmq and protobuf, nothing of Mobo but proto/.

Debian packages: python3-zmq python3-protobuf protobuf-compiler. What goes over the wire is in
docs/PROTOCOL.md; this is one way to speak it, in one thread.
"""
import collections
import glob
import hashlib
import itertools
import os
import subprocess
import sys
import time

import zmq

HERE = os.path.dirname(os.path.abspath(__file__))


def _proto():
    """Compiles proto/ once for each version of it; the folder of the modules."""
    top = os.environ.get("MOBO_PROTO") or os.path.join(HERE, "..", "..", "proto")
    files = sorted(glob.glob(os.path.join(top, "mobo", "v1", "*.proto")))
    if not files:
        sys.exit(f"no .proto files in {top}: set MOBO_PROTO to the folder that has mobo/v1/")
    digest = hashlib.sha256(b"".join(open(f, "rb").read() for f in files)).hexdigest()[:12]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    out = os.path.join(cache, "mobo", "python-" + digest)
    if not os.path.isdir(out):
        part = f"{out}.{os.getpid()}"
        os.makedirs(part)
        subprocess.run(["protoc", "-I", top, "--python_out", part, *files], check=True)
        try:
            os.rename(part, out)
        except OSError:  # another program was faster
            subprocess.run(["rm", "-rf", part], check=False)
    return out


sys.path.insert(0, _proto())
from mobo.v1 import device_pb2 as device  # noqa: E402
from mobo.v1 import display_pb2, engine_pb2, registry_pb2  # noqa: E402,F401
from mobo.v1 import envelope_pb2 as env  # noqa: E402
from mobo.v1 import event_pb2 as event  # noqa: E402
from mobo.v1 import machine_pb2 as machine  # noqa: E402
from mobo.v1 import types_pb2 as types  # noqa: E402

ROLE_TOKEN = {env.OBSERVER: "observer.token", env.OPERATOR: "operator.token", env.DEVICE: "device.token"}


def _all_messages():
    """Type number -> message class: CREATE_MACHINE is CreateMachine."""
    found = {}
    for module in (device, display_pb2, engine_pb2, env, event, machine, registry_pb2):
        for name in module.DESCRIPTOR.message_types_by_name:
            upper = "".join("_" + c if c.isupper() else c for c in name).strip("_").upper()
            if upper in types.Type.keys():
                found[types.Type.Value(upper)] = getattr(module, name)
    return found


MESSAGES = _all_messages()
NUMBERS = {cls: number for number, cls in MESSAGES.items()}


class Error(Exception):
    """An answer that says no: code is of envelope.proto, the text is for people."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def runtime_dir(name):
    """Where the sockets of machine `name` are."""
    top = os.environ.get("XDG_RUNTIME_DIR")
    top = os.path.join(top, "mobo") if top else f"/tmp/mobo-{os.getuid()}"
    return os.path.join(top, "vm", name)


class Bus:
    """A connection to a machine. With one's own requests unanswered, others' wait in a queue."""

    def __init__(self, machine_name, role, name):
        folder = runtime_dir(machine_name)
        try:
            with open(os.path.join(folder, ROLE_TOKEN[role]), encoding="ascii") as f:
                token = f.read().strip()
        except FileNotFoundError:
            raise Error(env.NOT_FOUND, f"{machine_name} does not run (nothing in {folder})") from None
        self.context = zmq.Context.instance()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 500
        self.socket.connect(f"ipc://{folder}/rpc")
        self.sub = None
        self.corr = itertools.count(1)
        self.queue = collections.deque()
        self.heartbeat = 0
        self.next_beat = 0
        self.welcome = self.call(env.Hello(role=role, name=name, pid=os.getpid(), token=token,
                                           bus_major=1))
        self.heartbeat = self.welcome.heartbeat_ms / 1000

    def close(self):
        self.socket.close()
        if self.sub:
            self.sub.close()

    # -- Frames: [Hdr][body]

    def send(self, message, kind=env.REQ, corr=None, **fields):
        """Sends a message; the number that its answer will carry."""
        hdr = env.Hdr(ver=1, kind=kind, corr=corr or next(self.corr), type=NUMBERS[type(message)], **fields)
        self.socket.send_multipart([hdr.SerializeToString(), message.SerializeToString()])
        return hdr.corr

    def receive(self, timeout):
        """The next (header, message), or None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            wait = deadline - time.monotonic()
            if self.heartbeat:
                if time.monotonic() >= self.next_beat:
                    self.next_beat = time.monotonic() + self.heartbeat
                    self.beat()
                wait = min(wait, self.heartbeat)
            if self.socket.poll(max(0, wait) * 1000):
                head, body = self.socket.recv_multipart()
                hdr = env.Hdr.FromString(head)
                if hdr.kind != env.HB:
                    cls = MESSAGES.get(hdr.type)
                    return hdr, cls.FromString(body) if cls and hdr.kind != env.ERR else None
            elif time.monotonic() >= deadline:
                return None

    def beat(self):
        """A heartbeat; answered by one, or by an error if the hub has forgotten us."""
        self.socket.send_multipart([env.Hdr(ver=1, kind=env.HB).SerializeToString(), b""])

    def call(self, message, dst=0, timeout=10):
        """Asks node `dst` (0: the machine) and waits for the answer."""
        deadline = time.monotonic() + timeout
        corr = self.send(message, dst=dst, deadline_ns=time.monotonic_ns() + int(timeout * 1e9))
        while True:
            got = self.receive(max(0, deadline - time.monotonic()))
            if not got:
                raise Error(env.DEADLINE_EXCEEDED, f"no answer to {type(message).__name__}")
            hdr, answer = got
            if hdr.kind == env.REQ:
                self.queue.append(got)
            elif hdr.corr == corr and hdr.kind == env.ERR:
                raise Error(hdr.st.code, hdr.st.text)
            elif hdr.corr == corr and hdr.kind == env.REP:
                return answer

    def next_request(self, timeout):
        """The next request that somebody has for us, or None."""
        got = self.queue.popleft() if self.queue else self.receive(timeout)
        if got and got[0].kind == env.ERR and got[0].type == types.HELLO:
            raise Error(got[0].st.code, "the machine dropped us")
        return got if got and got[0].kind == env.REQ else None

    def reply(self, hdr, message):
        if not hdr.flags & env.NOREPLY:
            self.send(message, kind=env.REP, corr=hdr.corr, dst=hdr.src)

    def refuse(self, hdr, code, text):
        head = env.Hdr(ver=1, kind=env.ERR, corr=hdr.corr, type=hdr.type, dst=hdr.src,
                       st=env.Status(code=code, text=text))
        self.socket.send_multipart([head.SerializeToString(), b""])

    # -- Events: [topic][Hdr][body]

    def events(self, prefix, timeout=3600):
        """Yields (topic, header, message): the last values of state topics, then what comes."""
        self.sub = self.context.socket(zmq.SUB)
        self.sub.linger = 0
        self.sub.connect(self.welcome.pub_endpoint)
        mark = f"sub.{os.getpid()}.{id(self.sub):x}"
        self.sub.subscribe(prefix.encode())
        self.sub.subscribe(mark.encode())
        early, seen = [], 0
        while True:  # until the mark is back nothing is certain to reach us
            got = self._event(5)
            if not got:
                raise Error(env.UNAVAILABLE, "the machine's events do not come")
            if got[0] == mark:
                break
            early.append(got)
        snapshot = self.call(env.Snapshot(prefix=prefix))
        for e in snapshot.events:
            hdr = env.Hdr(kind=env.EVT, hseq=e.hseq, tseq=e.tseq, ts_ns=e.ts_ns, type=e.type)
            yield e.topic, hdr, MESSAGES[e.type].FromString(e.body) if e.type in MESSAGES else None
        seen = snapshot.hseq
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            got = early.pop(0) if early else self._event(1)
            if got and got[1].hseq > seen:
                seen = got[1].hseq
                yield got

    def _event(self, timeout):
        if not self.sub.poll(timeout * 1000):
            return None
        topic, head, body = self.sub.recv_multipart()
        hdr = env.Hdr.FromString(head)
        cls = MESSAGES.get(hdr.type)
        return topic.decode(), hdr, cls.FromString(body) if cls else None


class Device:
    """A device by message: subclass, say `claims`, define read() and write() (and what you need)."""

    claims = device.Attach()

    def __init__(self, machine_name, name):
        self.bus = Bus(machine_name, env.DEVICE, name)
        self.claims.by_message = True
        while True:
            try:
                self.attached = self.bus.call(self.claims, timeout=30)
                break
            except Error as e:  # the machine is starting, or takes our last life off the board
                if e.code != env.UNAVAILABLE:
                    raise
                time.sleep(0.2)

    def read(self, region, offset, size, now_ns):
        """The guest reads: the value."""
        return (1 << 8 * size) - 1

    def write(self, region, offset, size, value, now_ns):
        """The guest writes."""

    def pci_config(self, fn, offset, size, value):
        """The guest wrote bytes of configuration space with notify."""

    def reset(self):
        """Power-on or RESET#."""

    def line(self, line, level):
        self.bus.send(device.IoLine(line=line, level=level), dst=self.attached.bridge, flags=env.NOREPLY)

    def dma_read(self, gpa, size):
        return self.bus.call(device.IoDma(gpa=gpa, len=size), dst=self.attached.bridge).data

    def dma_write(self, gpa, data):
        self.bus.call(device.IoDma(gpa=gpa, write=True, data=data), dst=self.attached.bridge)

    def notify(self, verb, text=""):
        """Publishes the event vm.dev.<name>.<verb>."""
        self.bus.send(device.DeviceNotify(verb=verb, text=text), flags=env.NOREPLY)

    def tick(self):
        """Called now and then."""

    def run(self):
        """Serves the guest until the machine ends."""
        while True:
            got = self.bus.next_request(1)
            if not got:
                if not os.path.exists(runtime_dir(self.bus.welcome.hub)):
                    return
                self.bus.beat()
                self.tick()
                continue
            hdr, msg = got
            answer = env.Ack()
            if hdr.type == types.IO_REQUEST:
                answer = device.IoReply(data=self._access(msg))
            elif hdr.type == types.IO_BATCH:
                for access in msg.writes:
                    self._access(access)
            elif hdr.type == types.IO_PCI_CONFIG:
                self.pci_config(msg.fn, msg.offset, msg.len, msg.value)
            elif hdr.type == types.DEVICE_RESET:
                self.reset()
            elif hdr.type not in (types.DEVICE_PAUSE, types.DEVICE_RESUME, types.DEVICE_QUIT):
                self.bus.refuse(hdr, env.UNIMPLEMENTED, "not a request for a device")
                continue
            self.bus.reply(hdr, answer)
            if hdr.type == types.DEVICE_QUIT:
                return

    def _access(self, a):
        if a.write:
            self.write(a.region, a.offset, a.size, a.data, a.vtime_ns)
            return 0
        return self.read(a.region, a.offset, a.size, a.vtime_ns)
