# SPDX-License-Identifier: Apache-2.0
"""
The programs of deploy/examples with a guest: devices in Python on the bus, and a client of events.
They read proto/ with Python's own protobuf, which knows nothing of ours.
"""
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import packages
from mobo import Failure, Machine, Run

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "examples")
BOOT = 240
# The cloud kernel has no /dev/port.
PORT = """
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
int main(int argc, char **argv)
{
	unsigned short port = (unsigned short)strtoul(argv[1], NULL, 0);
	if (iopl(3) < 0) return 1;
	if (argc > 2) outb((unsigned char)strtoul(argv[2], NULL, 0), port);
	else printf("%02x\\n", inb(port));
	return 0;
}
"""
INIT = """
stty -echo
cd /sys/bus/pci/devices
find_counter() { for d in *; do [ "$(cat $d/vendor $d/device)" = "$(printf '0x1af4\\n0x10f0')" ] && echo $d; done; }
get() { dd if=$C/resource0 bs=4 skip=$1 count=1 2>/dev/null | od -An -tx4 | tr -d ' '; }
put() { n=$2; printf "$(printf '\\\\%03o' $((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) $((n >> 24 & 255)))" |
	dd of=$C/resource0 bs=4 seek=$1 count=1 conv=notrunc 2>/dev/null; }
intx() { dd if=$C/config bs=1 skip=6 count=1 2>/dev/null | od -An -tu1 | awk '{ print int($1 / 8) % 2 }'; }
echo GUEST-READY
while read -r line; do eval "$line"; done
"""


class Example(Run):
    """A program of deploy/examples with what it prints."""

    def __init__(self, host, name, *args):
        self.host, self.seen, self.lock = host, b"", threading.Condition()
        env = dict(host.env, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python",
                   PYTHONDONTWRITEBYTECODE="1")
        self.p = subprocess.Popen(["/usr/bin/python3", os.path.join(EXAMPLES, name), *args], env=env,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._reader, daemon=True).start()


def initrd(host):
    port = os.path.join(packages.CACHE, "port-" + hashlib.sha256(PORT.encode()).hexdigest()[:12])
    if not os.path.exists(port):
        os.makedirs(packages.CACHE, exist_ok=True)
        part = os.path.join(host.top, "port")
        subprocess.run(["cc", "-static", "-O1", "-x", "c", "-o", part, "-"], input=PORT, text=True, check=True)
        shutil.move(part, port)
    return packages.initrd("examples", INIT, files={"bin/port": port})


def kernel_machine(host, name):
    return Machine(host, name, "--memory", "256M", "--kernel", packages.kernel("linux-image-cloud-amd64"),
                   "--initrd", initrd(host), "--append", "console=ttyS0 panic=-1 quiet",
                   "--set", "debug.post=false")


class Guest:
    """The guest's shell."""

    def __init__(self, console):
        self.console = console

    def do(self, command, timeout=30):
        """What a command prints; a command that fails is a failure."""
        self.console.send(command + "; echo E-$?-E\n")
        m = self.console.expect(r"(?s)((?:(?!E-\d).)*)E-(\d+)-E", timeout)
        if m[2] != b"0":
            raise Failure(f"in the guest: {command}: status {m[2].decode()}: {m[1].decode()}")
        return m[1].decode().replace("\r", "").strip()

    def check(self, command, expected, timeout=30):
        got = self.do(command, timeout)
        if got != expected:
            raise Failure(f"in the guest: {command}: {got!r}, expected {expected!r}")


@contextlib.contextmanager
def running(host, *devices):
    """A machine with devices attached before its first instruction, and its shell."""
    m = kernel_machine(host, "vm")
    host.mobo("start", "vm", "--paused")
    with contextlib.ExitStack() as stack:
        console = stack.enter_context(m.console())
        programs = [stack.enter_context(Example(host, d, "vm")) for d in devices]
        for p in programs:
            p.expect("attached", 30)
        host.mobo("resume", "vm")
        console.expect("GUEST-READY", BOOT)
        yield m, Guest(console), programs
        m.wait_state("running", 5)
        m.off()


def test_devices_of_the_guest(host):
    with running(host, "post_card.py", "pci_counter.py") as (_, guest, (card, counter)):
        # A port of another device is refused, and the owner named.
        with Example(host, "post_card.py", "vm", "0x3f8") as second:
            second.expect("post-card.*is on the bus already", 30)
        # (a) and (b): the code is shown, and the machine is paused when it comes.
        with Example(host, "pause_on_event.py", "vm", "vm.dev.post-card.post-code", "a7") as follower:
            follower.expect("state RUNNING", 30)
            guest.do("port 0x80 0xa7")
            card.expect(r"\[A7\]", 30)
            paused = follower.expect(r"paused at ([0-9.]+) s", 30)[1]
            resumed = follower.expect(r"resumed at ([0-9.]+) s", 30)[1]
            if paused != resumed:
                raise Failure(f"the guest's clock went from {paused} to {resumed} s in the pause")
            if follower.p.wait(30) != 0:
                raise Failure("pause_on_event.py failed")
        guest.check("port 0x80", "a7")
        # (c): registers, interrupt line, DMA.
        guest.do("C=$(find_counter) && echo 1 > $C/enable")
        guest.check("put 3 305419896; get 3", "12345678")
        guest.check("put 0 7; get 0; get 0", "00000008\n00000009")
        guest.check("intx; put 1 11; get 0; intx; get 0; intx; get 2", "0\n0000000a\n0\n0000000b\n1\n00000001")
        guest.check("put 2 1; intx; get 2", "0\n00000000")
        guest.check("put 4 $((0xf0000)); put 5 4096; get 6", "ffffffff")
        guest.do(r"printf '\007' | dd of=$C/config bs=1 seek=4 conv=notrunc 2>/dev/null")
        own = guest.do("printf '%08x\\n' $(dd if=/dev/mem bs=4096 skip=240 count=1 2>/dev/null |"
                       " od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s += $i } END { print s }')")
        guest.check("put 5 4096; get 6", own)
        guest.check("put 4 $((0x7ffffff0)); put 5 4096; get 6", "ffffffff")
        # It leaves: the guest reads all ones, and nothing else happens to it.
        guest.do("put 7 57005")
        counter.finish()
        guest.check("get 0; get 0", "ffffffff\nffffffff")
        # A reset reaches the device that stayed.
        host.mobo("reset", "vm")
        card.expect("-- reset --", 30)
        guest.console.expect("GUEST-READY", BOOT)
        guest.do("port 0x80 0x5b")
        card.expect(r"\[5B\]", 30)


def test_device_comes_later_and_is_lost(host):
    with running(host) as (m, guest, _):
        guest.check("find_counter || true", "")
        with Example(host, "pci_counter.py", "vm") as counter:
            slot = counter.expect(r"attached in slot (\d+)", 30)[1]
            guest.do("echo 1 > /sys/bus/pci/rescan; C=$(find_counter) && echo 1 > $C/enable", 60)
            guest.check("echo $C", f"0000:00:{int(slot):02x}.0")
            guest.check("get 0; get 0", "00000001\n00000002")
            # It is stopped: ten seconds for the first access, then none until it is back.
            counter.p.send_signal(signal.SIGSTOP)
            start = time.monotonic()
            guest.check("get 0; get 0; get 0; get 0", "ffffffff\nffffffff\nffffffff\nffffffff", 40)
            took = time.monotonic() - start
            if not 8 < took < 20:
                raise Failure(f"accesses to a device that does not answer took {took:.1f} s")
            counter.p.send_signal(signal.SIGCONT)
            deadline = time.monotonic() + 20
            while guest.do("get 3") != "00000000":
                if time.monotonic() > deadline:
                    raise Failure("the device answers again, but its accesses do not reach it")
            # The bridge dies: the device is off the board, the machine runs.
            os.kill(m.pids()["bridge-counter"], signal.SIGKILL)
            guest.check("get 0", "ffffffff")
            counter.expect("dropped us|HELLO first", 30)
        # A new one takes its place and slot.
        with Example(host, "pci_counter.py", "vm") as counter:
            again = counter.expect(r"attached in slot (\d+)", 30)[1]
            if again != slot:
                raise Failure(f"slot {again}, not {slot}")
            os.kill(counter.p.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(p.startswith("bridge-") for p in m.pids()):
            if time.monotonic() > deadline:
                raise Failure(f"a bridge stays behind: {m.pids()}")
            time.sleep(0.1)
        guest.check("get 0", "ffffffff")


PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
from mobo_client import Bus, Error, device, env, machine
import zmq
bus = Bus("vm", env.DEVICE, "probe")
def refused(message, dst=0):
    try:
        bus.call(message, dst=dst)
        print("accepted", message)
    except Error as e:
        print(type(message).__name__, env.Code.Name(e.code), e)
for verb in (machine.Pause(), machine.PowerOff(), machine.Reset(), machine.GetLog(), device.Ready()):
    refused(verb)
refused(device.DeviceNotify(verb="poweroff"))
refused(device.DeviceNotify(verb="a b/c"))
nodes = {n.name: n.node for n in Bus("vm", env.OPERATOR, "looker").call(env.ListNodes()).nodes}
refused(device.IoLine(line=0, level=True), nodes["uart0"])
refused(device.DeviceQuit(), nodes["vcpu"])
R, P = device.Region, device.PciFunction
for claims in (
    dict(regions=[R(kind=device.REGION_PIO, base_address=0x3f8, len=1)]),
    dict(regions=[R(kind=device.REGION_PIO, base_address=0xffff, len=2)]),
    dict(regions=[R(kind=device.REGION_PIO, base_address=1 << 60, len=1 << 62)]),
    dict(regions=[R(kind=device.REGION_MMIO, base_address=0, len=4096, direct="ram")]),
    dict(regions=[R(kind=device.REGION_BAR_IO, fn=3, bar=0, len=32)]),
    dict(regions=[R(kind=device.REGION_BAR_IO, fn=0, bar=9, len=31)], functions=[P(device=0xff)]),
    dict(lines=[device.Line(kind=device.LINE_A20)]),
    dict(lines=[device.Line(kind=device.LINE_ISA, n=99)]),
    dict(regions=[R(kind=device.REGION_PIO, base_address=i, len=1) for i in range(65)]),
    dict(functions=[P(device=1)]),
    dict(functions=[P(device=0xff, config=[device.PciConfig(offset=255, len=4)])]),
):
    refused(device.Attach(chip="probe", by_message=True, **claims))
refused(device.Attach(chip="probe"))
bus.socket.send(b"\\xff" * 1000)
bus.socket.send_multipart([b"\\xff"] * 30)
bus.call(device.Attach(chip="probe", by_message=True,
                       regions=[R(kind=device.REGION_PIO, base_address=0x5000, len=4)]), timeout=30)
print("attached")
hdr, msg = bus.next_request(60)
bus.send(env.Welcome(node=1), kind=env.REP, corr=hdr.corr, dst=hdr.src)
print("answered wrongly")
sys.stdin.read()
"""


def test_what_a_device_may_not(host):
    with running(host) as (_, guest, _):
        env = dict(host.env, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python", PYTHONDONTWRITEBYTECODE="1")
        p = subprocess.Popen(["/usr/bin/python3", "-c", PROBE, EXAMPLES], env=env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            lines = []
            for line in p.stdout:
                lines.append(line.strip())
                if line.startswith("attached") or "Error" in line:
                    break
            text = "\n".join(lines)
            if "accepted" in text or lines[-1] != "attached":
                raise Failure("a device from outside was let do too much:\n" + text)
            expected = ["Pause PERMISSION_DENIED", "PowerOff PERMISSION_DENIED", "Reset PERMISSION_DENIED",
                        "IoLine PERMISSION_DENIED", "DeviceQuit PERMISSION_DENIED",
                        "DeviceNotify PERMISSION_DENIED", "DeviceNotify INVALID_ARGUMENT",
                        r"Attach ALREADY_EXISTS .*uart0", "Attach INVALID_ARGUMENT"]
            for e in expected:
                if not re.search(e, text):
                    raise Failure(f"no {e!r} in:\n{text}")
            guest.check("port 0x5000", "ff")
        finally:
            p.kill()
            p.wait()


if __name__ == "__main__":
    sys.exit("run by tests/system/run.py")
