// SPDX-License-Identifier: Apache-2.0
// Guest program: what a JavaScript engine compiles at run time, with published results.
const { Worker, isMainThread, workerData } = require("worker_threads");

function fannkuch(n) {
  const p = new Int32Array(n), q = new Int32Array(n), count = new Int32Array(n);
  let r = n, max = 0, sum = 0, even = true;
  for (let i = 0; i < n; i++) p[i] = i;
  for (;;) {
    while (r !== 1) { count[r - 1] = r; r--; }
    q.set(p);
    let flips = 0;
    for (let k = q[0]; k !== 0; k = q[0]) {
      for (let i = 0, j = k; i < j; i++, j--) { const t = q[i]; q[i] = q[j]; q[j] = t; }
      flips++;
    }
    max = Math.max(max, flips);
    sum += even ? flips : -flips;
    for (;;) {
      if (r === n) return [sum, max];
      const first = p[0];
      p.copyWithin(0, 1, r + 1);
      p[r] = first;
      if (--count[r] > 0) break;
      r++;
    }
    even = !even;
  }
}

function countPrimes(from, to) {
  let count = 0;
  for (let n = Math.max(from, 2); n < to; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
    if (prime) count++;
  }
  return count;
}

function webAssembly() {
  // (module (func (export "f") (param i32) (result i32): n! modulo 2^32, by a loop))
  const code = new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 31, 1, 29, 1,
    1, 127, 65, 1, 33, 1, 3, 64, 32, 1, 32, 0, 108, 33, 1, 32, 0, 65, 1, 107, 34, 0, 13, 0, 11, 32, 1, 11]);
  return new WebAssembly.Instance(new WebAssembly.Module(code)).exports.f(12);
}

function changingTypes() {
  const add = (a, b) => a + b;
  let x = 0;
  for (let i = 0; i < 200000; i++) x = add(x, i); // compiled for integers
  const s = add("a", "b"), f = add(0.5, 0.25);    // and thrown away
  for (let i = 0; i < 100000; i++) x = add(x, 0.5);
  return [x, s, f].join(" ");
}

function exceptions() {
  let caught = 0;
  for (let i = 0; i < 20000; i++) {
    try { if (i % 3 === 0) null.x; else if (i % 3 === 1) throw new Error("e" + i); } catch (e) { caught++; }
  }
  return caught;
}

if (isMainThread) {
  const size = Number(process.argv[2]);
  console.log("fannkuch", size, ...fannkuch(size));
  console.log("wasm", webAssembly());
  console.log("types", changingTypes());
  console.log("exceptions", exceptions());
  console.log("big", (3n ** 200n % 1000000007n).toString());
  console.log("regexp", "x".repeat(1000).concat("2024-02-29").replace(/.*?(\d+)-(\d+)-(\d+)/, "$3.$2.$1"));
  console.log("json", JSON.parse(JSON.stringify({ a: [1, 2.5, "é"] })).a.join("|"));
  const hash = require("crypto").createHash("sha256");
  console.log("sha256", hash.update(Buffer.alloc(8 << 20)).digest("hex"));
  const shared = new SharedArrayBuffer(8), total = new Int32Array(shared);
  let running = 4;
  for (let i = 0; i < 4; i++) {
    new Worker(__filename, { workerData: { shared, from: i * 50000, to: (i + 1) * 50000 } }).on("exit", () => {
      if (--running === 0) console.log("primes", total[0], "additions", total[1]);
    });
  }
} else {
  const total = new Int32Array(workerData.shared);
  Atomics.add(total, 0, countPrimes(workerData.from, workerData.to));
  for (let i = 0; i < 100000; i++) Atomics.add(total, 1, 1);
}
