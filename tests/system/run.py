#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Whole machines with real guests from Debian's packages, driven through the command line.

run.py [--counts FILE] [--list] [--engine E] [--long] [PATTERN...]: runs the tests of the names given, or
whose names contain a pattern, two at a time where they allow it; prints one line each. --engine: machines
run on engine E (their cpu.engine) unless a test says otherwise. --long: the long tests, each of which
takes minutes, and only those. $MOBO: the command (build/mobo).
"""
import argparse
import concurrent.futures
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mobo  # noqa: E402

MODULES = ["test_boot", "test_clock", "test_disk", "test_cdrom", "test_verbs", "test_failures", "test_examples",
           "test_debug", "test_guests"]


def tests(prefix):
    """(name, function) of every test that begins with prefix, in order."""
    for module in MODULES:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), module + ".py")
        if os.path.exists(path):
            m = importlib.import_module(module)
            for name, fn in vars(m).items():
                if name.startswith(prefix) and callable(fn):
                    yield module[5:] + "." + name[5:], fn


def run(name, fn):
    start = time.monotonic()
    try:
        with mobo.Host() as host:
            fn(host)
        verdict, text = "ok", ""
    except mobo.Skip as e:
        verdict, text = "skip", ": " + str(e)
    except mobo.Failure as e:
        verdict, text = "FAIL", "\n    " + str(e).replace("\n", "\n    ")
    except Exception:  # a test that breaks is a failure, never the end of the run
        verdict, text = "FAIL", "\n" + traceback.format_exc()
    print(f"{verdict:4} {name} ({time.monotonic() - start:.1f} s){text}", flush=True)
    return {"ok": True, "skip": None}.get(verdict, False)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--counts", metavar="FILE")
    p.add_argument("--list", action="store_true")
    p.add_argument("--engine", metavar="E", default="")
    p.add_argument("--long", action="store_true")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("patterns", nargs="*")
    a = p.parse_args()
    mobo.ENGINE = a.engine
    known = dict(tests("long_" if a.long else "test_"))
    chosen = [(n, f) for n, f in known.items()
              if not a.patterns or n in a.patterns or any(x in n for x in a.patterns if x not in known)]
    if a.list:
        print("\n".join(n for n, _ in chosen))
        return 0
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        results = list(pool.map(lambda t: run(*t), chosen))
    passed, failed = results.count(True), results.count(False)
    if a.counts:
        with open(a.counts, "w") as f:
            f.write(f"{passed} {failed}\n")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed else 1


if __name__ == "__main__":
    sys.exit(main())
