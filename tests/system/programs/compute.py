# SPDX-License-Identifier: Apache-2.0
"""Guest program: Python's own arithmetic and the C libraries below it, with published results."""
import ctypes
import decimal
import hashlib
import math
import re
import sqlite3
import struct
import threading
import zlib


def pi_digits(n):
    """The first n digits, by Gibbons' spigot."""
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    digits = []
    while len(digits) < n:
        if 4 * q + r - t < m * t:
            digits.append(str(m))
            q, r, m = 10 * q, 10 * (r - m * t), 10 * (3 * q + r) // t - 10 * m
        else:
            q, r, t, k, m, x = (q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2)
    return "".join(digits)


def threads():
    total, lock = [0], threading.Lock()

    def add():
        for _ in range(20000):
            with lock:
                total[0] += 1

    all_of_them = [threading.Thread(target=add) for _ in range(4)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    return total[0]


def callback():
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 200)(*((i * 7919) % 200 for i in range(200)))
    ctypes.CDLL(None).qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int),
                            compare(lambda a, b: a[0] - b[0]))
    return list(numbers) == list(range(200))


def database():
    db = sqlite3.connect(":memory:")
    db.execute("create table t (n integer primary key, square integer)")
    db.executemany("insert into t values (?, ?)", ((n, n * n) for n in range(5000)))
    return db.execute("select sum(square) from t where n % 2 = 1").fetchone()[0]


def zipped():
    data = b"".join(struct.pack("<d", math.sin(n)) for n in range(20000))
    return zlib.decompress(zlib.compress(data, 9)) == data


print("pi", pi_digits(1000)[-10:])
print("md5", hashlib.md5(b"a" * 1000000).hexdigest())
print("sha512", hashlib.sha512(b"abc").hexdigest()[:32])
decimal.getcontext().prec = 60
print("sqrt", decimal.Decimal(2).sqrt())
print("factorial", math.factorial(1000) % (10**9 + 7))
print("threads", threads())
print("callback", callback())
print("database", database())
print("zlib", zipped())
print("re", len(re.findall(r"(?:a|b)*c", "ababc" * 3000)))
print("crc", hex(zlib.crc32(b"123456789")))
