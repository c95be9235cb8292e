# SPDX-License-Identifier: Apache-2.0
"""Whole machines, driven as a user drives them: through the command line and nothing else."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

MOBO = os.environ.get("MOBO") or "mobo"
# cpu.engine of the machines that do not say; empty: what machines get by themselves.
ENGINE = ""


def engine_options():
    return ["--engine", ENGINE] if ENGINE else []


class Failure(Exception):
    """What was expected did not come; the text says what came."""


def check(true, text):
    if not true:
        raise Failure(str(text))


SHELL = """
(while true; do setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1'; done) &
echo SHELL-READY
while true; do setsid cttyhack sh -i; done
"""


def shell_options(init=SHELL, memory="256M", files=None):
    """Options of a machine that is at a shell, on its serial port and on its screen, in seconds."""
    import packages

    return ["--memory", memory, "--kernel", packages.kernel("linux-image-cloud-amd64"),
            "--initrd", packages.initrd("shell", init, files=files),
            "--append", "console=tty0 console=ttyS0 panic=-1 loglevel=4"]


def boot_shell(machine, timeout=90):
    """Starts it; its console at the shell's prompt."""
    machine.start()
    con = machine.console()
    con.expect("SHELL-READY", timeout)
    con.expect("# ", 30)
    return con


class Skip(Exception):
    """This host cannot run the test; the text says why. Counted neither as passed nor as failed."""


class Host:
    """A user's directories of its own: nothing of the tests is seen outside, or left behind."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="mobo-test-")
        self.env = dict(os.environ)
        for var in ("RUNTIME_DIR", "DATA_HOME", "STATE_HOME", "CONFIG_HOME"):
            path = os.path.join(self.top, var.lower())
            os.mkdir(path, 0o700)
            self.env["XDG_" + var] = path

    def mobo(self, *args, check=True, timeout=60, text=True, **kw):
        r = subprocess.run([MOBO, *args], env=self.env, capture_output=True, text=text, timeout=timeout, **kw)
        if check and r.returncode != 0:
            raise Failure(f"mobo {' '.join(args)}: status {r.returncode}: {r.stderr or r.stdout}")
        return r

    def json(self, *args, **kw):
        return json.loads(self.mobo("--json", *args, **kw).stdout)

    def close(self):
        for m in self.json("list", check=False).get("machines", []):
            if m["pid"]:
                self.mobo("poweroff", m["name"], check=False)
        registry = os.path.join(self.env["XDG_RUNTIME_DIR"], "mobo", "registry", "lock")
        try:
            with open(registry) as f:
                os.kill(int(f.read().split()[0]), signal.SIGTERM)
        except (OSError, ValueError, IndexError):
            pass
        time.sleep(0.2)
        shutil.rmtree(self.top, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Run:
    """`mobo run`, by the command `before` if any, with its console as a conversation."""

    def __init__(self, host, *args, before=()):
        self.host = host
        self.seen = b""
        self.lock = threading.Condition()
        self.p = subprocess.Popen([*before, MOBO, "run", *engine_options(), *args], env=host.env, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._reader, daemon=True).start()

    def _reader(self):
        while True:
            data = os.read(self.p.stdout.fileno(), 65536)
            with self.lock:
                if not data:
                    self.seen += b"\n[end]"
                self.seen += data
                self.lock.notify_all()
            if not data:
                return

    def expect(self, pattern, timeout):
        """Waits for a regular expression; what follows it is left for the next call."""
        if isinstance(pattern, str):
            pattern = pattern.encode()
        deadline = time.monotonic() + timeout
        with self.lock:
            while True:
                m = re.search(pattern, self.seen)
                if m:
                    self.seen = self.seen[m.end():]
                    return m
                left = deadline - time.monotonic()
                if left <= 0 or self.seen.endswith(b"\n[end]"):
                    tail = self.seen[-2000:].decode(errors="replace")
                    raise Failure(f"{pattern!r} did not come; last:\n{tail}")
                self.lock.wait(left)

    def send(self, text):
        self.p.stdin.write(text.encode())
        self.p.stdin.flush()

    def finish(self, timeout=30):
        """The exit status, once the guest has powered itself off."""
        try:
            return self.p.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("the machine did not end; last:\n" + self.seen[-2000:].decode(errors="replace"))

    def kill(self):
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(20)
            except subprocess.TimeoutExpired:
                self.p.kill()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()


class Machine:
    """A machine of the registry, with its console over the bus."""

    def __init__(self, host, name, *args):
        self.host, self.name = host, name
        host.mobo("create", name, *engine_options(), *args)

    def start(self):
        self.host.mobo("start", self.name)
        return self

    def console(self):
        r = Run.__new__(Run)
        r.host, r.seen, r.lock = self.host, b"", threading.Condition()
        r.p = subprocess.Popen([MOBO, "console", self.name], env=self.host.env, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=r._reader, daemon=True).start()
        return r

    def uptime(self, con):
        """The guest's clock in seconds, by its own account."""
        con.send("echo up=$(cut -d' ' -f1 /proc/uptime)=\n")
        return float(con.expect(r"up=([0-9.]+)=", 20).group(1))

    def wait_screen(self, text, timeout):
        self.host.mobo("wait", self.name, "--screen", text, "--timeout", str(timeout), timeout=timeout + 30)

    def wait_state(self, state, timeout):
        self.host.mobo("wait", self.name, "--state", state, "--timeout", str(timeout), timeout=timeout + 30)

    def pids(self):
        return {p["name"]: p["pid"] for p in self.host.json("ps", self.name)["processes"]}

    def off(self):
        self.host.mobo("poweroff", self.name, check=False)
