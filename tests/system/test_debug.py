# SPDX-License-Identifier: Apache-2.0
"""Debugging a guest from outside: the commands, gdb itself, and the protocol byte by byte."""
import json
import os
import re
import signal
import socket
import subprocess
import time

from mobo import MOBO, Failure, Machine, boot_shell, check, shell_options

USAGE, NOT_FOUND = 2, 3

SYMBOLS = ["_text", "linux_banner", "do_syscall_64", "__x64_sys_sync", "jiffies", "__x64_sys_umask"]


def booted(host, *options):
    m = Machine(host, "g", *shell_options(), *options)
    return m, boot_shell(m)


def symbols(con):
    """Addresses of kernel symbols, as the guest tells them."""
    con.send("grep -E ' (%s)$' /proc/kallsyms >/tmp/k; while read a t n; do echo sym $n=$a=; done </tmp/k; "
             "echo SYMBOLS-$((40+2))\n" % "|".join(SYMBOLS))
    text = con.expect(r"(?s)(.*)SYMBOLS-42", 30).group(1).decode()
    return {n: int(a, 16) for n, a in re.findall(r"sym (\w+)=([0-9a-f]+)=", text)}


def counts(m):
    return {c["name"]: int(c["value"]) for c in m.host.json("stats", m.name)["counters"]}


class Gdb:
    """gdb in batch mode, connected through the pipe of `target remote`."""

    def __init__(self, host, *commands, where=None):
        where = where or f"| {MOBO} debug g gdb"
        args = ["gdb", "-nx", "-q", "-batch", "-ex", "set architecture i386:x86-64", "-ex", "set width 0",
                "-ex", "target remote " + where]
        for c in commands:
            args += ["-ex", c]
        self.p = subprocess.Popen(args, env=host.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)

    def output(self, timeout=60):
        try:
            return self.p.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise Failure("gdb did not end: " + self.p.communicate()[0])


class Rsp:
    """The protocol by hand, over a socket of `mobo debug gdb --listen`."""

    def __init__(self, host):
        self.path = os.path.join(host.top, "gdb")
        self.p = subprocess.Popen([MOBO, "debug", "g", "gdb", "--listen", self.path], env=host.env,
                                  stderr=subprocess.PIPE, text=True)
        line = self.p.stderr.readline()
        check("listening" in line, line)
        self.connect()

    def connect(self):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(30)
        self.s.connect(self.path)
        self.buf = b""
        check(self.ask("QStartNoAckMode") == "OK", "no-ack mode")
        self.s.sendall(b"+")

    def send(self, text):
        self.s.sendall(b"$%s#%02x" % (text.encode(), sum(text.encode()) & 255))

    def reply(self, timeout=30):
        self.s.settimeout(timeout)
        while True:
            m = re.search(rb"\$([^#]*)#[0-9a-f]{2}", self.buf)
            if m:
                self.buf = self.buf[m.end():]
                return m.group(1).decode()
            data = self.s.recv(65536)
            if not data:
                raise Failure("the stub closed the connection")
            self.buf += data

    def ask(self, text, timeout=30):
        self.send(text)
        return self.reply(timeout)

    def register(self, n):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{n:x}")), "little")

    def interrupt(self):
        self.s.sendall(b"\x03")
        return self.reply()

    def end(self):
        self.s.close()
        self.p.send_signal(signal.SIGINT)
        check(self.p.wait(20) == 130, "status after SIGINT")
        check(not os.path.exists(self.path), "the socket is left behind")


RAX, RBX, RIP = 0, 1, 16


def alive(m, con, word="ALIVE"):
    con.send(f"echo {word}-$((40+2))\n")
    con.expect(word + "-42", 30)
    check(m.host.json("list")["machines"][0]["state"] == "RUNNING", "not running")


def test_commands_show_the_guest(host):
    m, con = booted(host, "--cpus", "2")
    at = symbols(con)
    regs = host.json("debug", "g", "registers", "--cpu", "1")
    check(regs["cr3"] and len(regs["gpr"]) == 16 and len(regs["xsave"]) > 1024, regs)
    check("mxcsr" in host.mobo("debug", "g", "registers").stdout, "registers")
    banner = host.json("debug", "g", "memory", hex(at["linux_banner"]), "13")
    check(bytes.fromhex(banner["data"]) == b"Linux version", banner)
    # The kernel's image is mapped at its virtual base: the same bytes by the physical address.
    code = host.json("debug", "g", "memory", hex(at["do_syscall_64"]), "64")["data"]
    lines = host.json("debug", "g", "disassemble", hex(at["do_syscall_64"]), "8")["instructions"]
    check(len(lines) == 8 and code.startswith("".join(x["code"] for x in lines)), lines)
    bios = host.json("debug", "g", "memory", "--physical", "0xfffffff0", "5")["data"]
    check(bios.startswith("ea"), bios)  # the reset vector: a far jump
    text = host.mobo("debug", "g", "memory", "0xfffff000", "8192", "--physical").stdout
    check("there is no memory at 0x100000000" in text, text[-200:])
    con.send("while :; do :; done &\n")
    blocks = host.json("debug", "g", "blocks", "--top", "3", "--cpu", "1")["blocks"]
    blocks += host.json("debug", "g", "blocks", "--top", "3", "--seconds", "2")["blocks"]
    check(blocks and int(blocks[0]["count"]) > 0, blocks)
    check("halt" in host.mobo("debug", "g", "exits").stdout, "exits")
    alive(m, con)


def test_commands_refuse_with_reasons(host):
    m, con = booted(host)
    for status, text, args in [
        (USAGE, "no address", ("memory", "x")),
        (USAGE, "at once", ("memory", "0", "0")),
        (USAGE, "knows no `what`", ("what",)),
        (USAGE, "no CPU", ("registers", "--cpu", "-1")),
        (NOT_FOUND, "there is no CPU 9", ("registers", "--cpu", "9")),
        (NOT_FOUND, "there is no memory at physical address 0xf00000000000",
         ("memory", "--physical", "0xf00000000000")),
        (NOT_FOUND, "linear address", ("memory", "0x8000000000000000")),
        (USAGE, "no place to listen", ("gdb", "--listen", "nosuchhost.invalid:1")),
    ]:
        r = host.mobo("debug", "g", *args, check=False)
        check(r.returncode == status and text in r.stderr, f"{args}: {r.returncode} {r.stderr}")
    m.off()
    r = host.mobo("debug", "g", "registers", check=False)
    check(r.returncode == 4 and "mobo start g" in r.stderr, r.stderr)


def test_gdb_breaks_steps_watches_and_detaches(host):
    m, con = booted(host)
    at = symbols(con)
    sync, jiffies = at["__x64_sys_sync"], at["jiffies"]
    before = host.json("debug", "g", "memory", hex(sync), "16")["data"]
    gdb = Gdb(host, "info threads", f"break *{sync:#x}", "continue", "printf \"at %#lx\\n\", $pc", "x/i $pc",
              "stepi", "printf \"then %#lx\\n\", $pc", "p $mxcsr", "info registers cr3 eflags", f"x/8xb {sync:#x}",
              f"watch *(long *) {jiffies:#x}", "continue", "continue", "delete", "detach")
    time.sleep(2)
    con.send("sync; echo SYNCED-$((40+2))\n")
    text = gdb.output()
    check("Thread 1 (CPU 0)" in text, text)
    check(f"at {sync:#x}\n" in text, text)
    then = int(re.search(r"then (0x[0-9a-f]+)\n", text).group(1), 16)
    check(sync < then < sync + 16, text)
    check("= 8064" in text, text)
    seen = "".join(re.findall(r"0x([0-9a-f]{2})\b", re.search(rf"{sync:#x}:\t(0x.*)\n", text).group(1)))
    check(before.startswith(seen) and len(seen) == 16, f"{before}: {text}")
    old = [int(n) for n in re.findall(r"Old value = (\d+)", text)]
    new = [int(n) for n in re.findall(r"New value = (\d+)", text)]
    check(len(old) == 2 and old[0] < new[0] == old[1] < new[1], text)
    check("detached" in text, text)
    con.expect("SYNCED-42", 30)
    alive(m, con)


def test_gdb_on_the_interpreter(host):
    m, con = booted(host, "--engine", "interpreter")
    sync = symbols(con)["__x64_sys_sync"]
    r = host.mobo("debug", "g", "disassemble", "--host", check=False)
    check(r.returncode == 1 and "makes no host code" in r.stderr, r.stderr)
    gdb = Gdb(host, f"break *{sync:#x}", "continue", "stepi", "printf \"then %#lx\\n\", $pc", "detach")
    time.sleep(2)
    con.send("sync; echo SYNCED-$((40+2))\n")
    text = gdb.output()
    then = re.search(r"then (0x[0-9a-f]+)\n", text)
    check("Breakpoint 1, " in text and then and sync < int(then.group(1), 16) < sync + 16, text)
    con.expect("SYNCED-42", 30)
    alive(m, con)


def test_host_code_beside_the_guests(host):
    m, con = booted(host, "--engine", "translator")
    con.send("while :; do :; done &\n")
    hot = [b for b in host.json("debug", "g", "blocks")["blocks"] if b["host_address"]]
    check(hot and hot[0]["count"] > 1000, hot)
    time.sleep(1)  # it is translated anew, without counting
    for b in hot[:5]:
        lines = host.json("debug", "g", "disassemble", hex(b["address"]), "1", "--host",
                          check=False).get("instructions")
        if lines and lines[0].get("host"):
            check(all(x["text"] and not x["text"].startswith("db ") for x in lines[0]["host"]), lines)
            break
    else:
        raise Failure("no host code of the hottest blocks")
    alive(m, con)


def test_gdb_from_the_reset_vector(host):
    m = Machine(host, "g", *shell_options())
    host.mobo("start", "g", "--paused")
    text = Gdb(host, "info registers rip cs", "stepi", "info registers rip cs", "detach").output()
    check(re.search(r"rip +0xfff0 ", text) and re.search(r"cs +0xf000 ", text), text)
    check(host.json("list")["machines"][0]["state"] == "PAUSED", "a machine that was paused runs")
    host.mobo("resume", "g")
    con = m.console()
    con.expect("SHELL-READY", 90)


def test_interruption_with_two_cpus(host):
    m, con = booted(host, "--cpus", "2")
    at = symbols(con)
    rsp = Rsp(host)
    check(rsp.ask("qfThreadInfo") == "m1,2", "threads")
    before = m.host.json("debug", "g", "registers")["instructions"]
    time.sleep(1)
    check(m.host.json("debug", "g", "registers")["instructions"] == before, "the guest runs on")
    for _ in range(5):
        rsp.send("c")
        time.sleep(0.2)
        check(rsp.interrupt().startswith("T02thread:"), "interrupt")
    # Idle CPUs are halted: a step has to wait for what wakes them, and comes back.
    for thread in (1, 2):
        check(rsp.ask(f"Hg{thread}") == "OK", "Hg")
        check(rsp.ask(f"vCont;s:{thread}").startswith(f"T05thread:{thread}"), "step of a halted CPU")
        for _ in range(20):
            check(rsp.ask(f"vCont;s:{thread}").startswith(f"T05thread:{thread}"), "step")
    # Both CPUs meet a breakpoint again and again.
    hits = set()
    sync = at["__x64_sys_sync"]
    check(rsp.ask(f"Z0,{sync:x},1") == "OK", "Z0")
    con.send("while :; do sync; done & while :; do sync; done & echo\n")
    for _ in range(40):
        stop = rsp.ask("vCont;c", 60)
        thread = re.match(r"T05thread:([12]);", stop)
        check(thread, stop)
        hits.add(thread.group(1))
        rsp.ask("Hg" + thread.group(1))
        check(rsp.register(RIP) == sync, "elsewhere")
        rsp.ask(f"z0,{sync:x},1")
        check(rsp.ask("vCont;s:" + thread.group(1)).startswith("T05"), "step over")
        rsp.ask(f"Z0,{sync:x},1")
    check(hits == {"1", "2"}, f"only CPUs {hits}")
    rsp.ask(f"z0,{sync:x},1")
    check(rsp.ask("D") == "OK", "D")
    con.send("kill %1 %2; echo KILLED-$((40+2))\n")
    con.expect("KILLED-42", 60)
    alive(m, con)
    rsp.end()


def test_registers_and_memory_are_written(host):
    m, con = booted(host)
    at = symbols(con)
    rsp = Rsp(host)
    # umask() is made to return what we say: stop at its entry, return to its caller at once.
    rsp.ask(f"Z0,{at['__x64_sys_umask']:x},1")
    rsp.send("c")
    con.send("echo mask=$(umask)=\n")
    check(rsp.reply().startswith("T05"), "breakpoint")
    rsp.ask(f"z0,{at['__x64_sys_umask']:x},1")
    rsp_value = rsp.register(7)
    ret = int.from_bytes(bytes.fromhex(rsp.ask(f"m{rsp_value:x},8")), "little")
    check(rsp.ask("P0=" + (0o123).to_bytes(8, "little").hex()) == "OK", "P0")
    check(rsp.ask("P7=" + (rsp_value + 8).to_bytes(8, "little").hex()) == "OK", "P7")
    check(rsp.ask("P10=" + ret.to_bytes(8, "little").hex()) == "OK", "P10")
    check(rsp.register(RAX) == 0o123, "rax")
    # The kernel's banner in memory, and with it /proc/version's beginning, changes.
    banner = rsp.ask(f"m{at['linux_banner']:x},5")
    check(rsp.ask(f"M{at['linux_banner']:x},5:{b'Minux'.hex()}") == "OK", "M")
    check(rsp.ask(f"m{at['linux_banner']:x},5") == b"Minux".hex(), "m")
    check(rsp.ask(f"M{at['linux_banner']:x},5:{banner}") == "OK", "M")
    rsp.ask("D")
    con.expect("mask=0123=", 30)
    alive(m, con)
    rsp.end()


def test_code_is_written(host):
    m, con = booted(host)
    at = symbols(con)
    sync = at["__x64_sys_sync"]
    con.send("sync; sync; echo READY-$((40+2))\n")  # known to the engine
    con.expect("READY-42", 30)
    rsp = Rsp(host)
    was = rsp.ask(f"m{sync:x},8")
    # mov $-38, %rax; ret: the system call is not there any more
    check(rsp.ask(f"M{sync:x},8:48c7c0daffffffc3") == "OK", "M")
    rsp.ask("D")
    con.send("sync; echo WROTE-$((40+2))\n")
    con.expect("WROTE-42", 30)
    rsp.connect()
    rsp.ask(f"Z0,{sync + 7:x},1")  # only the new code has an instruction there
    rsp.send("c")
    con.send("sync; echo SYNCED-$((40+2))\n")
    check(rsp.reply().startswith("T05"), "the new code")
    check(rsp.register(RIP) == sync + 7, "rip")
    check(rsp.ask(f"M{sync:x},8:{was}") == "OK", "M")
    rsp.ask(f"z0,{sync + 7:x},1")
    rsp.ask("P10=" + sync.to_bytes(8, "little").hex())
    rsp.ask("D")
    con.expect("SYNCED-42", 30)
    alive(m, con)
    rsp.end()


def test_killed_debugger_leaves_the_guest_running(host):
    m, con = booted(host)
    at = symbols(con)
    rsp = Rsp(host)
    r = host.mobo("debug", "g", "gdb", check=False, input="")
    check(r.returncode == 1 and "another debugger" in r.stderr, f"{r.returncode} {r.stderr}")
    rsp.ask(f"Z0,{at['__x64_sys_sync']:x},1")
    rsp.send("c")
    con.send("sync; echo SYNCED-$((40+2))\n")
    check(rsp.reply().startswith("T05"), "breakpoint")
    check(host.json("list")["machines"][0]["state"] == "PAUSED", "not paused")
    check("met the breakpoint" in host.mobo("list").stdout, "no reason")
    rsp.p.kill()
    rsp.p.wait()
    os.unlink(rsp.path)
    con.expect("SYNCED-42", 30)
    alive(m, con)
    con.send("sync; sync; echo AGAIN-$((40+2))\n")
    con.expect("AGAIN-42", 30)
    alive(m, con)


def test_breakpoint_elsewhere_costs_nothing(host):
    """A breakpoint that is not met leaves the speed of the rest as it is."""
    m, con = booted(host)
    at = symbols(con)

    def loop(n):
        con.send("i=0; t=$(cut -d' ' -f1 /proc/uptime); while [ $i -lt 20000 ]; do i=$((i+1)); done; "
                 f"echo took=$t-$(cut -d' ' -f1 /proc/uptime)= LOOP{n}-$((40+2))\n")
        t = con.expect(rf"took=([0-9.]+)-([0-9.]+)= LOOP{n}-42", 120)
        return float(t.group(2)) - float(t.group(1))

    loop(0)
    rsp = Rsp(host)
    rsp.ask("D")
    without = min(loop(i) for i in (1, 2, 3))
    rsp.connect()
    rsp.ask(f"Z0,{at['__x64_sys_sync']:x},1")
    rsp.send("c")
    with_one = min(loop(i) for i in (4, 5, 6))
    rsp.interrupt()
    rsp.ask("D")
    check(with_one < 1.5 * without + 0.1, f"{without} s without, {with_one} s with a breakpoint")
    rsp.end()


def test_machine_that_ends_ends_the_session(host):
    m, con = booted(host)
    gdb = Gdb(host, "continue")
    time.sleep(2)
    host.mobo("poweroff", "g")
    text = gdb.output()
    check("exited normally" in text, text)
