# SPDX-License-Identifier: Apache-2.0
"""
Guests that are hard on a translator: programs that make code at run time, debuggers, a compiler, threads
on two CPUs, 32-bit and real-mode code. What they compute is known from elsewhere.

long_* run for minutes: `run.py --long guests`. $MOBO_LONG: seconds of each where it can be chosen (60).
"""
import glob
import hashlib
import os
import re
import subprocess

import packages
from mobo import Machine, Run, boot_shell, check, shell_options

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
LUA = ("lua5.4", "lua5.4_5.4.4.orig.tar.gz", "164c7849653b80ae67bec4b7473b884bf5cc8d2dca05653475ec2ed27b9ebf61")
LONG = int(os.environ.get("MOBO_LONG") or "60")


def text(name):
    with open(os.path.join(PROGRAMS, name)) as f:
        return f.read()


def init(commands, programs=()):
    """An init that runs `commands` with the named programs in /tmp, between BEGIN and END."""
    files = "".join(f"cat >/tmp/{p} <<'END-OF-PROGRAM'\n{text(p)}END-OF-PROGRAM\n" for p in programs)
    return f"{files}export PATH=/usr/bin:/usr/sbin:/bin\ncd /tmp\nip link set lo up\necho BEGIN\n{commands}\necho END\npoweroff -f\n"


def compiled(*names):
    return {"bin/" + n: packages.program(os.path.join(PROGRAMS, n + ".c")) for n in names}


def output(host, name, commands, timeout, below=None, programs=(), files=None, cpus=2, memory="1G"):
    """What commands print in a guest of its own."""
    initrd = packages.initrd(name, init(commands, programs), files=files, below=below and packages.root(*below))
    with Run(host, "--memory", memory, "--cpus", str(cpus), "--kernel", packages.kernel("linux-image-cloud-amd64"),
             "--initrd", initrd, "--append", "console=ttyS0 panic=-1 loglevel=3") as run:
        run.expect(r"BEGIN\r?\n", 120)
        said = run.expect(r"(?s)^(.*?)\nEND\r?\n", timeout).group(1).decode().replace("\r", "")
        status = run.finish()
    check(status == 0, f"mobo run ended with {status}: {run.seen[-500:]}")
    return said


def has(said, *lines):
    for line in lines:
        check(re.search(line, said, re.M), f"no {line!r} in:\n{said[-3000:]}")


COMPUTED = ("^spectral norm\t1.274219991$", "^primes\t9592$", "^error\t42$",
            "^words\tBROWN,DOG,FOX,JUMPS,LAZY,OVER,QUICK,THE,THE$")


def test_programs_that_make_code(host):
    commands = "luajit compute.lua 9\nluajit -joff compute.lua 7\nnode compute.js 9 | cat\n"
    said = output(host, "jit", commands, 120, ("nodejs", "luajit"), ("compute.lua", "compute.js"))
    has(said, "^fannkuch\t9\t8629\t30$", "^fannkuch\t7\t228\t16$", *COMPUTED)
    has(said, "^fannkuch 9 8629 30$", "^wasm 479001600$", "^types 19999950000 ab 0.75$",
        "^exceptions 13334$", "^big 136318165$", "^regexp 29.02.2024$", r"^json 1\|2.5\|é$",
        "^sha256 2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74$",
        "^primes 17984 additions 400000$")


GDB_SCRIPT = """break add
run
backtrace
delete
watch *(int *)&watched
continue
continue
info watchpoints
delete
set $n = 0
while $n < 200
stepi
set $n = $n + 1
end
printf "stepped %d\\n", $n
continue
print $_siginfo._sifields._sigfault.si_addr
"""


def test_debuggers(host):
    commands = f"""cat >script <<'END-OF-SCRIPT'
{GDB_SCRIPT}END-OF-SCRIPT
gdb -nx -q -batch -x script --args /bin/debuggee die 2>&1 | grep -v '^0x'
strace -o trace debuggee
grep -E '^(write|exit_group|\\+)' trace
strace -f -c -o trace sh -c 'debuggee; debuggee' && grep -E ' write$' trace
"""
    said = output(host, "debug", commands, 120, ("gdb", "strace"), files=compiled("debuggee"))
    has(said, "^Breakpoint 1, 0x[0-9a-f]+ in add", "^#0 .* in add ", "^#1 .* in main ",
        "(?s)Hardware watchpoint 2: .*Old value = 0\nNew value = 1\n.*Old value = 1\nNew value = 2\n",
        "breakpoint already hit 2 times", "^stepped 200$", "received signal SIGSEGV",
        r"^\$1 = \(void \*\) 0x123450")
    has(said, r'^write\(1, "sum 45\\n", 7\) += 7$', r"^exit_group\(0\)", r"^\+\+\+ exited with 0 \+\+\+",
        r" 2 +write$")
    check(said.count("sum 45") == 5, said)


def test_compiler(host):
    source = packages.source(*LUA)
    commands = """tar xzf /lua.tar.gz && cd lua-*/src && rm luac.c
ls *.c | xargs -n 6 -P 2 gcc -O0 -DLUA_USE_LINUX -c && gcc -Wl,-E -o lua *.o -lm -ldl && ./lua /tmp/compute.lua 8
"""
    said = output(host, "compiler", commands, 240, ("gcc", "libc6-dev"), ("compute.lua",), {"lua.tar.gz": source})
    has(said, "^fannkuch\t8\t1616\t22$", *COMPUTED)


def test_python(host):
    said = output(host, "python", "python3 compute.py\n", 120, ("python3",), ("compute.py",))
    has(said, "^pi 9216420198$", "^md5 7707d6ae4e027c70eea2a935c2296f21$", "^sha512 ddaf35a193617abacc417349ae204131$",
        "^sqrt 1.41421356237309504880168872420969807856967187537694807317668$", "^factorial 641419708$",
        "^threads 80000$", "^callback True$", "^database 20833332500$", "^zlib True$", "^re 3000$", "^crc 0xcbf43926$")


def threads(host, seconds):
    ms = int(seconds * 1000)
    said = output(host, "threads", f"stress {seconds}\nlitmus {ms // 4}\n", 30 + 20 * seconds,
                  files=compiled("stress", "litmus"), memory="512M")
    has(said, "^all well$", "^forbidden in all: 0$")


def test_threads_on_two_cpus(host):
    threads(host, 2)


def test_turns_on_one_host_cpu(host):
    """Two CPUs that wait for each other with PAUSE, and one host CPU for both."""
    initrd = packages.initrd("turns", init("stress 4 turns"), files=compiled("stress"))
    with Run(host, "--memory", "256M", "--cpus", "2", "--kernel", packages.kernel("linux-image-cloud-amd64"),
             "--initrd", initrd, "--append", "console=ttyS0 panic=-1 loglevel=3",
             before=["taskset", "-c", str(min(os.sched_getaffinity(0)))]) as run:
        n = int(run.expect(r"turns: (\d+),", 180).group(1))
        run.expect("all well", 20)
        run.finish()
    check(n > 1000, f"{n} turns in 4 s")


def engine(host, m):
    info = host.json("show", m.name)
    return info["live"]["engine"], info["live"]["engine_reason"]


def test_engine_is_chosen_at_start(host):
    m = Machine(host, "vm", *shell_options(), "--set", "cpu.engine=auto")
    for setting, name in (("auto", "translator"), ("interpreter", "interpreter"), ("translator", "translator")):
        host.mobo("set", m.name, "cpu.engine=" + setting)
        with boot_shell(m) as con:
            running, why = engine(host, m)
            check(running == name and why, f"with {setting}: {running}, {why!r}")
            # While it runs, what it was started with stays.
            host.mobo("set", m.name, "cpu.engine=" + ("interpreter" if name == "translator" else "translator"))
            check(engine(host, m)[0] == name, engine(host, m))
            con.send("dd if=/dev/zero bs=1M count=8 2>/dev/null | sha256sum\n")
            con.expect("2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74", 60)
            con.send("poweroff -f\n")
            m.wait_state("powered-off", 60)


def test_memtest_of_32_bits(host):
    (image,) = glob.glob(packages.unpacked("memtest86+") + "/boot/memtest86+ia32.bin")
    m = Machine(host, "memtest", "--memory", "16M", "--kernel", image)
    m.start()
    m.wait_screen("Memtest86+ v6.10", 120)
    m.wait_screen("Errors: 0", 120)
    m.off()


def test_ipxe_cd(host):
    """Much real-mode code, and switches between it and 32 bits for each character."""
    (iso,) = glob.glob(packages.unpacked("ipxe") + "/usr/lib/ipxe/ipxe.iso")
    m = Machine(host, "ipxe", "--memory", "64M", "--cdrom", iso, "--boot", "cdrom")
    m.start()
    m.wait_screen("iPXE initialising devices...ok", 120)
    m.off()


def invaders_cd():
    """GRUB, which loads the game by multiboot."""
    game = packages.unpacked("grub-invaders") + "/boot/invaders.exec"
    path = os.path.join(packages.CACHE, "invaders-" + hashlib.sha256(game.encode()).hexdigest()[:8] + ".iso")
    if not os.path.exists(path):
        top = f"{path}.{os.getpid()}"
        os.makedirs(top + "/boot/grub")
        subprocess.run(["cp", game, top + "/invaders"], check=True)
        with open(top + "/boot/grub/grub.cfg", "w") as f:
            f.write("set timeout=0\nmenuentry invaders {\nmultiboot /invaders\n}\n")
        subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "--install-modules=multiboot normal biosdisk "
                        "iso9660", "--fonts=", "--themes=", "--locales=", "-o", top + ".iso", top], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.rename(top + ".iso", path)
        subprocess.run(["rm", "-rf", top], check=True)
    return path


def test_invaders(host):
    m = Machine(host, "invaders", "--memory", "64M", "--cdrom", invaders_cd(), "--boot", "cdrom")
    m.start()
    m.wait_screen("-*-", 120)
    m.off()


def long_threads_on_two_cpus(host):
    threads(host, LONG)


JAVA = """
import java.util.*;
import java.util.concurrent.*;
public class Compute {
	static int primes(int from, int to) {
		int n = 0;
		for (int i = Math.max(2, from); i < to; i++) {
			boolean prime = true;
			for (int d = 2; d * d <= i && prime; d++) prime = i % d != 0;
			if (prime) n++;
		}
		return n;
	}
	public static void main(String[] args) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(4);
		List<Future<Integer>> parts = new ArrayList<>();
		for (int k = 0; k < 40; k++) { int from = k * 50000; parts.add(pool.submit(() -> primes(from, from + 50000))); }
		int n = 0;
		for (Future<Integer> f : parts) n += f.get();
		pool.shutdown();
		System.out.println("primes " + n);
		Map<String, Integer> map = new ConcurrentHashMap<>();
		for (int i = 0; i < 300000; i++) map.merge("k" + i % 1000, 1, Integer::sum);
		System.out.println("map " + map.size() + " " + map.get("k7"));
		byte[] digest = java.security.MessageDigest.getInstance("SHA-256").digest(new byte[8 << 20]);
		System.out.println("sha256 " + HexFormat.of().formatHex(digest));
	}
}
"""


def long_java(host):
    """The Eclipse compiler, itself in Java, and what it compiled."""
    commands = (f"cat >Compute.java <<'END-OF-PROGRAM'\n{JAVA}END-OF-PROGRAM\n"
                "export PATH=$PATH:/usr/lib/jvm/java-17-openjdk-amd64/bin\n"
                "java -cp /usr/share/java/eclipse-jdt-core.jar org.eclipse.jdt.internal.compiler.batch.Main "
                "-proc:none -17 -d . Compute.java && java -cp . Compute\n")
    said = output(host, "java", commands, 600, ("openjdk-17-jre-headless", "libeclipse-jdt-core-java", "ecj"),
                  memory="2G")
    has(said, "^primes 148933$", "^map 1000 300$",
        "^sha256 2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74$")


def long_python_tests(host):
    """Python's own tests of what meets the processor."""
    tests = ("test_float test_math test_cmath test_struct test_long test_int test_complex test_array test_ctypes "
             "test_threading test_thread test_queue test_signal test_mmap test_zlib test_hashlib test_sqlite3 "
             "test_re test_json test_decimal test_fork1 test_subprocess test_select test_faulthandler")
    said = output(host, "pythontests", f"mkdir -p /etc /root; export HOME=/root\npython3 -m test -j2 {tests}\n",
                  1800, ("python3", "libpython3.11-testsuite"))
    has(said, "^Result: SUCCESS$")


def long_memtest(host):
    """One pass of memtest86+ over 64 MiB by two CPUs."""
    (image,) = glob.glob(packages.unpacked("memtest86+") + "/boot/memtest86+x64.bin")
    m = Machine(host, "memtest", "--memory", "64M", "--cpus", "2", "--kernel", image)
    m.start()
    m.wait_screen("Pass:  1", 3600)
    m.wait_screen("Errors: 0", 10)
    m.off()
