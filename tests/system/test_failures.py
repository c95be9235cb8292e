# SPDX-License-Identifier: Apache-2.0
"""Bad input, killed processes, full disks: a clear error, nothing lost, nothing hung, nothing left."""
import glob
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import packages
from mobo import MOBO, Failure, Machine, Skip, boot_shell, check, shell_options

NOT_FOUND, STATE, UNAVAILABLE = 3, 4, 6


def refused(host, *args, says=(), status=1):
    r = host.mobo(*args, check=False)
    text = r.stderr + r.stdout
    check(r.returncode == status, f"mobo {' '.join(args)}: status {r.returncode}, not {status}: {text}")
    for word in says:
        check(word in text, f"`{word}` is not in: {text}")
    return text


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids, within=5):
    deadline = time.monotonic() + within
    while any(alive(p) for p in pids):
        check(time.monotonic() < deadline, f"still there: {[p for p in pids if alive(p)]}")
        time.sleep(0.05)


def nothing_left(host, pids):
    gone(pids)
    vms = os.path.join(host.env["XDG_RUNTIME_DIR"], "mobo", "vm")
    until(lambda: not os.path.isdir(vms) or not os.listdir(vms), 5)


def until(fn, within=10, every=0.1):
    deadline = time.monotonic() + within
    while not fn():
        check(time.monotonic() < deadline, f"did not come true in {within} s")
        time.sleep(every)


def state(host, name):
    return host.json("show", name)["state"]


def registry_pid(host):
    with open(os.path.join(host.env["XDG_RUNTIME_DIR"], "mobo", "registry", "lock")) as f:
        return int(f.read().split()[0])


def kill(pid):
    os.kill(pid, signal.SIGKILL)


# -- Settings, files, names --


def test_settings_that_are_wrong(host):
    folder = host.json("create", "bad")["folder"]
    path = os.path.join(folder, "machine.conf")
    lines = open(path).read().count("\n")
    for text, says in (("memroy = 1G\n", ("memroy", "memory")), ("memory = lots\n", ("lots",)),
                       ("what is this\n", ()), ("cpu.count = 0\n", ("cpu.count",)), ("\0\0\xff\n", ())):
        good = open(path).read()
        with open(path, "a", encoding="latin-1") as f:
            f.write(text)
        refused(host, "start", "bad", says=(f"machine.conf:{lines + 1}", *says))
        with open(path, "w") as f:
            f.write(good)
    refused(host, "set", "bad", "memroy=1G", says=("memroy", "memory"), status=NOT_FOUND)
    refused(host, "set", "bad", "memory=-1")
    refused(host, "create", "x", "--set", "cpu.cuont=2", says=("cpu.count",), status=NOT_FOUND)
    refused(host, "create", "no/name", says=("no/name",))
    refused(host, "create", "bad", says=("bad", "already"))
    with open(path, "w") as f:
        f.write("")
    os.chmod(path, 0o600)
    os.rename(path, path + ".away")
    refused(host, "start", "bad", says=("machine.conf",), status=NOT_FOUND)


def test_images_that_are_wrong(host):
    top = host.top

    def start(name, disk, *says):
        host.mobo("create", name, "--set", f"disk.0.file={disk}")
        refused(host, "start", name, says=(os.path.basename(disk), *says), status=STATE)
        check(host.json("show", name)["state"] == "CRASHED", "state")

    start("missing", os.path.join(top, "none.img"), "No such file")
    empty = os.path.join(top, "empty.qcow2")
    with open(empty, "wb") as f:
        f.write(b"QFI\xfb\0\0\0\3")
    start("truncated", empty)
    lie = os.path.join(top, "lie.qcow2")
    host.mobo("disk", "create", lie, "64M")
    for at, value, what in ((20, 63, "cluster_bits"), (36, 0x7fffffff, "l1_size"), (40, 1 << 60, "l1_offset"),
                            (24, 1 << 62, "size"), (56, 0xffffffff, "refcount clusters")):
        with open(lie, "rb") as f:
            good = f.read()
        with open(lie, "r+b") as f:
            f.seek(at)
            f.write(struct.pack(">Q" if value > 0xffffffff else ">I", value))
        r = host.mobo("disk", "info", lie, check=False)
        check(r.returncode in (0, 1), f"{what}: {r.returncode}")
        name = "lie" + str(at)
        host.mobo("create", name, "--disk", lie)
        refused(host, "start", name, says=("lie.qcow2",), status=STATE)
        with open(lie, "wb") as f:
            f.write(good)
    nothing_left(host, [])


def test_firmware_and_kernel_that_are_wrong(host):
    junk = os.path.join(host.top, "junk")
    with open(junk, "wb") as f:
        f.write(b"junk" * 100)
    for key, says in (("firmware.file", "firmware"), ("kernel.file", "bzImage")):
        name = "with-" + key.replace(".", "-")
        host.mobo("create", name, "--set", f"{key}={junk}")
        refused(host, "start", name, says=(says,), status=STATE)
        host.mobo("set", name, f"{key}={junk}.none")
        refused(host, "start", name, says=("junk.none", key), status=STATE)
    nothing_left(host, [])


def test_an_image_in_use(host):
    disk = os.path.join(host.top, "one.qcow2")
    host.mobo("disk", "create", disk, "16M")
    first = Machine(host, "first", "--disk", disk, "--memory", "32M").start()
    host.mobo("create", "second", "--disk", disk, "--memory", "32M")
    refused(host, "start", "second", says=("one.qcow2",), status=STATE)
    check(state(host, "first") == "RUNNING", "the first one suffered")
    r = subprocess.run(["qemu-img", "resize", disk, "32M"], capture_output=True, text=True)
    check(r.returncode != 0, "qemu-img wrote to an image in use")
    first.off()
    first.start()
    first.off()
    # Now the other way round: somebody else has it open.
    if subprocess.run(["which", "qemu-io"], capture_output=True).returncode == 0:
        q = subprocess.Popen(["qemu-io", disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        q.stdin.write(b"write 0 512\n")
        q.stdin.flush()
        q.stdout.read(10)
        refused(host, "start", "first", says=("one.qcow2",), status=STATE)
        q.communicate(b"quit\n")
        first.start()
        first.off()


# -- Garbage on the sockets, and clients that stop --


def abuse(path, kind):
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(2)
    try:
        s.connect(path)
        rnd = random.Random(1)
        for size in (1, 64, 4096, 60000):
            s.send(rnd.randbytes(size))
        s.close()
        if kind == socket.SOCK_STREAM:
            # A ZMTP greeting that is right, then frames that are not.
            s = socket.socket(socket.AF_UNIX, kind)
            s.settimeout(2)
            s.connect(path)
            s.send(b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL".ljust(54, b"\0"))
            s.send(b"\x06" + struct.pack(">Q", 1 << 62) + rnd.randbytes(100000))
    except OSError:
        pass
    finally:
        s.close()


def zmq_abuse(path, kind, parts):
    import zmq

    with zmq.Context() as ctx, ctx.socket(kind) as s:
        s.setsockopt(zmq.LINGER, 200)
        s.connect("ipc://" + path)
        if kind == zmq.SUB:
            s.setsockopt(zmq.SUBSCRIBE, b"x" * 100000)
            s.setsockopt(zmq.SUBSCRIBE, b"")
        else:
            for p in parts:
                s.send_multipart(p)
        time.sleep(0.2)


def test_garbage_on_every_socket(host):
    m = Machine(host, "g", *shell_options())
    con = boot_shell(m)
    runtime = os.path.join(host.env["XDG_RUNTIME_DIR"], "mobo")
    sockets = glob.glob(runtime + "/registry/*") + glob.glob(runtime + "/vm/g/*")
    sockets = [p for p in sockets if os.path.exists(p) and os.stat(p).st_mode & 0o170000 == 0o140000]
    check(len(sockets) >= 7, sockets)
    pids = set(m.pids().values()) | {registry_pid(host)}
    for path in sockets:
        abuse(path, socket.SOCK_SEQPACKET if path.endswith("/fd") else socket.SOCK_STREAM)
    try:
        import zmq

        rnd = random.Random(2)
        parts = [[b""], [b"", b"\x08\x01"], [rnd.randbytes(30)] * 50, [b"", rnd.randbytes(3 << 20)],
                 [rnd.randbytes(20), rnd.randbytes(2000)], [b"\x08\x01\x10\x01", b"\xff" * 100]] * 20
        for path in sockets:
            kind = {"rpc": zmq.DEALER, "pub": zmq.SUB, "log": zmq.PUSH}.get(os.path.basename(path))
            if kind is not None:
                zmq_abuse(path, kind, parts)
    except ImportError:
        pass
    con.send("echo after-$((1 + 1))\n")
    con.expect("after-2", 20)
    check(all(alive(p) for p in pids), "a process died of garbage")
    check(host.json("ps", "g")["processes"], "ps")
    con.kill()
    m.off()


def test_clients_that_stop_reading(host):
    m = Machine(host, "s", *shell_options())
    con = boot_shell(m)
    ev = subprocess.Popen([MOBO, "events", "s", "--follow"], env=host.env, stdout=subprocess.PIPE)
    other = m.console()
    other.expect("SHELL-READY", 20)
    for p in (ev, other.p):
        os.kill(p.pid, signal.SIGSTOP)
    con.send("i=0; while [ $i -lt 3000 ]; do echo line $i of a guest that talks much; i=$((i+1)); done; echo e-nd\n")
    con.expect(r"e-nd\r?\n.*?e-nd\r?\n|guest that talks much\r?\ne-nd", 120)
    for _ in range(20):
        host.mobo("pause", "s")
        host.mobo("resume", "s")
    check(m.uptime(con) > 0, "the guest stands")
    for p in (ev, other.p):
        os.kill(p.pid, signal.SIGCONT)
    ev.terminate()
    ev.wait(10)
    other.kill()
    con.kill()
    m.off()


# -- kill -9 --


def test_kill_registry_and_clients(host):
    m = Machine(host, "r", *shell_options())
    con = boot_shell(m)
    old = registry_pid(host)
    kill(old)
    gone([old])
    listed = host.json("list")["machines"][0]
    check(listed["state"] == "RUNNING", f"not adopted: {listed}")
    check(registry_pid(host) != old, "no new registry")
    check(m.uptime(con) > 0, "the console of before is dead")
    kill(con.p.pid)
    con = m.console()
    con.expect("SHELL-READY", 10)
    check(m.uptime(con) > 0, "the guest stands")
    # What happens while no registry runs is known to the next.
    kill(registry_pid(host))
    pids = m.pids()  # starts one
    kill(registry_pid(host))
    con.send("poweroff -f\n")
    nothing_left(host, pids.values())
    check(state(host, "r") == "POWERED_OFF", host.json("show", "r"))
    m.start()
    check(state(host, "r") == "RUNNING", "start")
    m.off()


def test_kill_parts_that_come_back(host):
    m = Machine(host, "k", *shell_options())
    con = boot_shell(m)
    for name in ("rtc", "debugport", "postport", "i8042", "ide0", "display", "uart0"):
        old = m.pids()[name]
        kill(old)
        until(lambda: m.pids().get(name) not in (0, old))
        until(lambda: {p["name"]: p["state"] for p in host.json("ps", "k")["processes"]}[name] == "running")
        check(state(host, "k") == "RUNNING", name)
    con.kill()
    con = m.console()
    con.send("\n")
    con.expect("# ", 20)
    check(m.uptime(con) > 0, "the guest stands")
    host.mobo("type", "k", "echo typed-$((2 + 2))\\n")
    m.wait_screen("typed-4", 20)
    seen = [json.loads(x)["topic"] for x in host.mobo("--json", "events", "k").stdout.splitlines()]
    check("vm.dev.uart0.restored" in seen and "vm.dev.uart0.lost" in seen, seen)
    con.kill()
    pids = m.pids()
    m.off()
    nothing_left(host, pids.values())


def test_kill_parts_that_pause_the_guest(host):
    m = Machine(host, "p", *shell_options())
    boot_shell(m).kill()
    for name in ("i440fx", "vga", "piix4pm", "fwcfg"):
        kill(m.pids()[name])
        m.wait_state("paused", 10)
        info = host.json("show", "p")
        check(name in info["reason"] and "mobo reset" in info["reason"], info["reason"])
        refused(host, "resume", "p", says=(name, "mobo reset"), status=STATE)
        con = m.console()
        con.expect("SHELL-READY", 10)
        host.mobo("reset", "p")
        con.expect("SHELL-READY", 60)
        con.kill()
    pids = m.pids()
    m.off()
    nothing_left(host, pids.values())


def test_kill_engine_and_supervisor(host):
    disk = os.path.join(host.top, "d.qcow2")
    host.mobo("disk", "create", disk, "16M")
    m = Machine(host, "e", *shell_options(), "--disk", disk)
    m.start()
    for victim, word in (("vcpu", "vcpu"), ("machine", "signal 9")):
        pids = m.pids()
        kill(pids[victim])
        m.wait_state("crashed", 10)
        check(word in host.json("show", "e")["reason"], host.json("show", "e")["reason"])
        gone(pids.values())
        nothing_left(host, pids.values())
        refused(host, "console", "e", says=("crashed", "mobo start e"), status=STATE)
        m.start()
        check(state(host, "e") == "RUNNING", "start")
    pids = m.pids()
    m.off()
    nothing_left(host, pids.values())


def test_kill_supervisor_of_a_throw_away_machine(host):
    from mobo import Run

    with Run(host, *shell_options()) as run:
        run.expect("SHELL-READY", 60)
        (info,) = host.json("list")["machines"]
        pids = [p["pid"] for p in host.json("ps", info["name"])["processes"]]
        kill(info["pid"])
        check(run.finish(20) in (1, UNAVAILABLE), run.p.returncode)
    nothing_left(host, pids)
    check(host.json("list")["machines"] == [], "still listed")
    check(not os.path.exists(info["folder"]), "its folder is left")


# -- Disks under stress --

WRITER = """
insmod_all() { for m in $(cat /modules.order); do insmod $m 2>/dev/null; done; }
insmod_all
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sda ] && break; sleep 0.5; done
echo SHELL-READY
while true; do setsid cttyhack sh -i; done
"""


def disk_modules():
    """The drivers of the IDE disk, and the order in which they load."""
    top = os.path.join(packages.unpacked("linux-image-cloud-amd64"), "lib", "modules")
    files, need = {}, {}
    for path in glob.glob(top + "/*/kernel/**/*.ko*", recursive=True):
        need[os.path.basename(path).split(".ko")[0].replace("-", "_")] = path
    order = []

    def add(name):
        path = need.get(name)
        if not path or path in order:
            return
        with open(path, "rb") as f:
            depends = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for dep in depends.group(1).decode().split(","):
            add(dep.replace("-", "_"))
        order.append(path)

    for name in ("ata_piix", "sd_mod"):
        add(name)
    for path in order:
        files["lib/modules/" + os.path.basename(path)] = path
    return files, ["/lib/modules/" + os.path.basename(p) for p in order]


def disk_options(disk):
    files, order = disk_modules()
    init = WRITER.replace("$(cat /modules.order)", " ".join(order))
    return [*shell_options(init, files=files), "--disk", disk]


def heavy_writing(host, victims):
    """Writes with checksums while `victims` are killed; the exit status of qemu-img check."""
    disk = os.path.join(host.top, "w.qcow2")
    host.mobo("disk", "create", disk, "256M")
    m = Machine(host, "w", *disk_options(disk))
    con = boot_shell(m)
    # Blocks of 1 MiB from a seeded pattern, each read back from the disk at the end.
    con.send("w() { dd if=/dev/urandom of=/tmp/b bs=1M count=1 2>/dev/null; "
             "dd if=/tmp/b of=/dev/sda bs=1M seek=$1 conv=notrunc,fsync 2>/dev/null; "
             "sha256sum </tmp/b >>/tmp/sums; }; "
             "(i=0; while [ $i -lt 96 ]; do w $i; i=$((i+1)); done; touch /tmp/written) & echo go''ing\n")
    con.expect("going", 30)  # what was typed is with the guest, not in a process that is killed
    rnd = random.Random(3)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        victim = rnd.choice(victims)
        if victim == "registry":
            kill(registry_pid(host))
            host.mobo("list")
        elif victim == "console":
            kill(con.p.pid)
            con = m.console()
        elif victim in ("uart0", "ide0"):
            kill(m.pids()[victim])
            time.sleep(2)  # five in ten seconds are its limit
        else:
            p = subprocess.Popen([MOBO, "events", "w", "--follow"], env=host.env, stdout=subprocess.DEVNULL)
            time.sleep(rnd.random() / 4)
            p.kill()
            p.wait()
        time.sleep(rnd.random() / 4)
    con.kill()
    con = m.console()
    con.send("while [ ! -e /tmp/written ]; do sleep 1; done; echo 3 >/proc/sys/vm/drop_caches; i=0; "
             "while [ $i -lt 96 ]; do dd if=/dev/sda bs=1M skip=$i count=1 2>/dev/null | sha256sum; "
             "i=$((i+1)); done >/tmp/read; cmp /tmp/sums /tmp/read && wc -l </tmp/read; echo comp''ared\n")
    found = con.expect(r"\n(\d+)\r?\ncompared|compared", 120)
    check(found.group(1) == b"96", "the guest read other data than it wrote: " + con.seen[-500:].decode(errors="replace"))
    con.send("poweroff -f\n")
    m.wait_state("powered-off", 30)
    return subprocess.run(["qemu-img", "check", disk], capture_output=True).returncode


def test_killed_clients_under_heavy_writing(host):
    check(heavy_writing(host, ("registry", "console", "cli", "uart0")) == 0, "qemu-img check")


def test_killed_disk_under_heavy_writing(host):
    # A cluster may have been allocated and not yet linked: it leaks (3), nothing is lost.
    check(heavy_writing(host, ("ide0", "console")) in (0, 3), "qemu-img check")


def test_host_disk_full(host):
    mount = os.path.join(host.top, "small")
    os.mkdir(mount)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", mount],
                                           capture_output=True).returncode != 0:
        raise Skip("mounting a small tmpfs needs root")
    try:
        disk = os.path.join(mount, "f.qcow2")
        host.mobo("disk", "create", disk, "64M")
        m = Machine(host, "f", *disk_options(disk))
        con = boot_shell(m)
        con.send("dd if=/dev/zero of=/dev/sda bs=64k count=16 conv=fsync; echo fir''st\n")
        con.expect("first", 60)
        con.send("dd if=/dev/urandom of=/dev/sda bs=64k count=256 conv=fsync; echo dd-sta''tus $?\n")
        until(lambda: state(host, "f") == "PAUSED" or b"dd-status" in con.seen, 90)
        if state(host, "f") == "PAUSED":
            check("ide0" in host.json("show", "f")["reason"], host.json("show", "f")["reason"])
        else:
            con.expect("dd-status 1", 5)
        log = "\n".join(host.json("log", "f")["lines"])
        check("no space left" in log.lower(), log[-2000:])
        con.kill()
        pids = m.pids()
        m.off()
        nothing_left(host, pids.values())
        r = subprocess.run(["qemu-img", "check", disk], capture_output=True, text=True)
        check(r.returncode in (0, 3), r.stdout + r.stderr)  # 3: leaked clusters, no corruption
    finally:
        subprocess.run(["umount", "-l", mount])


def test_verify_of_two_cpus_is_refused(host):
    refused(host, "run", "--cpus", "2", "--set", "cpu.verify=yes", status=STATE,
            says=["cpu.verify needs cpu.count to be 1"])
