/* SPDX-License-Identifier: Apache-2.0 */
/* Integer workloads: lists, strings, hashes, sorting, an interpreter, calls, branches, big numbers.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* -- cmix: a linked list, a small matrix, a state machine over text, a CRC of all -- */

struct node {
	struct node *next;
	uint16_t key, value;
};

static uint16_t crc16(uint16_t crc, uint32_t data)
{
	for (int i = 0; i < 16; i++, data >>= 1) {
		bool bit = (crc ^ data) & 1;

		crc >>= 1;
		if (bit) {
			crc ^= 0xa001;
		}
	}
	return crc;
}

static struct node *list_reverse(struct node *at)
{
	struct node *out = NULL;

	while (at) {
		struct node *next = at->next;

		at->next = out;
		out = at;
		at = next;
	}
	return out;
}

static unsigned count_numbers(const char *text)
{
	enum { START, SIGN, DIGITS, FRACTION, BAD } state = START;
	unsigned found = 0;

	for (;; text++) {
		char c = *text;

		if (c == ',' || c == '\0') {
			found += state == DIGITS || state == FRACTION;
			state = START;
			if (c == '\0') {
				return found;
			}
			continue;
		}
		switch (state) {
		case START:
			state = c == '+' || c == '-' ? SIGN : c >= '0' && c <= '9' ? DIGITS : BAD;
			break;
		case SIGN: state = c >= '0' && c <= '9' ? DIGITS : BAD; break;
		case DIGITS:
			state = c == '.' ? FRACTION : c >= '0' && c <= '9' ? DIGITS : BAD;
			break;
		case FRACTION: state = c >= '0' && c <= '9' ? FRACTION : BAD; break;
		case BAD: break;
		}
	}
}

static uint64_t cmix(unsigned scale)
{
	static const char text[] =
		"5012,8874,-3.14,+122,abc,0.9.1,1e7,35.54400,-78,+,.1234500,-110,T0.3e-1F";
	enum { NODES = 64, N = 12 };
	struct node nodes[NODES], *head = NULL;
	int16_t a[N][N], b[N][N];
	uint16_t crc = 0xffff;

	for (unsigned i = 0; i < NODES; i++) {
		nodes[i] = (struct node){.next = head,
					 .key = (uint16_t)(i * 37),
					 .value = (uint16_t)i};
		head = &nodes[i];
	}
	for (unsigned i = 0; i < N * N; i++) {
		a[i / N][i % N] = (int16_t)(i * 7 + 1);
		b[i / N][i % N] = (int16_t)(i ^ 0x55);
	}
	for (unsigned round = 0; round < scale * 60; round++) {
		head = list_reverse(head);
		for (struct node *n = head; n; n = n->next) {
			if ((n->key ^ round) & 4) {
				n->value += (uint16_t)round;
			}
			crc = (uint16_t)(crc + n->value);
		}
		crc = crc16(crc, crc);
		for (unsigned i = 0; i < N; i++) {
			for (unsigned j = 0; j < N; j++) {
				int32_t sum = 0;

				for (unsigned k = 0; k < N; k++) {
					sum += a[i][k] * b[k][j];
				}
				crc = (uint16_t)(crc ^ sum);
			}
			a[i][round % N] = (int16_t)(a[i][round % N] + 1);
		}
		crc = crc16(crc, count_numbers(text));
	}
	return crc;
}

/* -- dhry: records, byte strings and small calls -- */

struct record {
	struct record *other;
	int kind, number;
	char name[32];
};

static __attribute__((noinline)) int text_compare(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a - *b;
}

static __attribute__((noinline)) void text_copy(char *to, const char *from)
{
	while ((*to++ = *from++)) {
		__asm__("" ::: "memory");
	}
}

static __attribute__((noinline)) void record_step(struct record *r, int n)
{
	struct record *o = r->other;

	*o = (struct record){.other = o->other, .kind = r->kind ^ 1, .number = r->number + n};
	text_copy(o->name, n & 1 ? "SOME STRING OF A RECORD" : "SOME STRING OF A RECORE");
	if (text_compare(o->name, r->name) > 0) {
		o->number += 3;
	}
}

static uint64_t dhry(unsigned scale)
{
	struct record a = {.name = "SOME STRING OF A RECORD"}, b = {.other = &a};
	uint64_t h = MIX_START;

	a.other = &b;
	for (unsigned i = 0; i < scale * 6000; i++) {
		record_step(&a, (int)i);
		record_step(&b, (int)(i & 7));
		h += (unsigned)a.number;
	}
	return mix(h, (unsigned)b.number);
}

/* -- sha256 (FIPS 180-4), its constants computed: fractions of cube roots of primes -- */

static uint32_t rotate_right(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

/* floor(frac(p^(1/3)) * 2^32), by bisection in 128 bits. */
static uint32_t cube_root_fraction(unsigned p)
{
	uint64_t low = 0, high = 8ull << 32;

	while (high - low > 1) {
		uint64_t m = (low + high) / 2;
		/* m^3 against p * 2^96: m < 2^35, so m^3 < 2^105 */
		unsigned __int128 cube = (unsigned __int128)m * m * m;

		if (cube <= (unsigned __int128)p << 96) {
			low = m;
		} else {
			high = m;
		}
	}
	return (uint32_t)low;
}

static void sha256_block(uint32_t h[8], const uint32_t k[64], const uint32_t block[16])
{
	uint32_t w[64], s[8];

	memcpy(w, block, 64);
	memcpy(s, h, 32);
	for (int i = 16; i < 64; i++) {
		uint32_t x = w[i - 15], y = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] + (rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3) +
		       (rotate_right(y, 17) ^ rotate_right(y, 19) ^ y >> 10);
	}
	for (int i = 0; i < 64; i++) {
		uint32_t e = s[4], a = s[0];
		uint32_t t1 = s[7] +
			      (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) +
			      ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
		uint32_t t2 = (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) +
			      ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 28);
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++) {
		h[i] += s[i];
	}
}

static uint64_t sha256(unsigned scale)
{
	uint32_t k[64], h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	uint32_t block[16];
	unsigned n = 0;

	for (unsigned p = 2; n < 64; p++) {
		unsigned d = 2;

		while (d * d <= p && p % d) {
			d++;
		}
		if (d * d > p) {
			k[n++] = cube_root_fraction(p);
		}
	}
	for (unsigned i = 0; i < scale * 500; i++) {
		for (unsigned j = 0; j < 16; j++) {
			block[j] = i * 16 + j;
		}
		sha256_block(h, k, block);
	}
	return (uint64_t)h[0] << 32 | h[7];
}

/* -- lz: a compressor with hash chains -- */

static uint64_t lz(unsigned scale)
{
	enum { SIZE = 1 << 15, HASH = 1 << 12 };
	uint8_t *data = malloc(SIZE);
	int *head = malloc(HASH * sizeof(*head)), *previous = malloc(SIZE * sizeof(*previous));
	uint64_t h = MIX_START, seed = 12345;

	if (!data || !head || !previous) {
		fail("lz: memory");
	}
	for (unsigned i = 0; i < SIZE; i++) {
		uint64_t r = next_random(&seed);

		data[i] =
			r % 3 && i > 200 ? data[i - 1 - r / 7 % 200] : (uint8_t)('a' + r / 11 % 16);
	}
	for (unsigned round = 0; round < scale; round++) {
		memset(head, 0xff, HASH * sizeof(*head));
		data[round % SIZE] ^= 1;
		for (int i = 0; i + 4 < SIZE;) {
			unsigned slot = (data[i] << 8 ^ data[i + 1] << 4 ^ data[i + 2]) % HASH;
			int best = 0, from = 0, tries = 16;

			for (int c = head[slot]; c >= 0 && tries--; c = previous[c]) {
				int len = 0;

				while (i + len < SIZE && len < 64 &&
				       data[c + len] == data[i + len]) {
					len++;
				}
				if (len > best) {
					best = len;
					from = i - c;
				}
			}
			previous[i] = head[slot];
			head[slot] = i;
			h = h * 31 + (unsigned)(best >= 3 ? best << 16 | from : data[i]);
			i += best >= 3 ? best : 1;
		}
	}
	free(data);
	free(head);
	free(previous);
	return h;
}

/* -- qsort -- */

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t sorting(unsigned scale)
{
	enum { N = 1500 };
	static uint32_t v[N];
	uint64_t seed = 99, h = MIX_START;

	for (unsigned round = 0; round < scale * 10; round++) {
		for (unsigned i = 0; i < N; i++) {
			v[i] = (uint32_t)next_random(&seed);
		}
		qsort(v, N, sizeof(v[0]), by_value);
		h = mix(h, v[round % N]);
	}
	return h;
}

/* -- hash: open addressing in 512 KB -- */

static uint64_t hash(unsigned scale)
{
	enum { SLOTS = 1 << 16 };
	uint64_t *table = calloc(SLOTS, sizeof(*table)), seed = 7, h = 0;

	if (!table) {
		fail("hash: memory");
	}
	for (unsigned i = 0; i < scale * 14000; i++) {
		uint64_t key = next_random(&seed) % 40000 + 1;
		unsigned at = (unsigned)(key * 0x9e3779b97f4a7c15ull >> 48);

		while (table[at] && (uint32_t)table[at] != key) {
			at = (at + 1) % SLOTS;
			h++;
		}
		table[at] = (table[at] & ~0xffffffffull) + (1ull << 32) + key;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		h = h * 31 + table[i];
	}
	free(table);
	return h;
}

/* -- interp: a byte-code machine with indirect jumps -- */

static uint64_t interp(unsigned scale)
{
	/* r0 += r1; r1 = r1 * 5 + 1; r2 ^= r0; if (r1 & 8) r2 += 3; loop */
	static const uint8_t program[] = {0, 0, 1, 1, 1, 5, 2, 1, 1, 3, 2,
					  0, 4, 1, 8, 2, 2, 3, 5, 0, 0};
	static const void *const ops[] = {&&add,       &&multiply, &&increment,
					  &&exclusive, &&skip,	   &&loop};
	uint64_t r[3] = {1, 2, 3}, left = scale * 20000ull;
	const uint8_t *pc = program;

#define NEXT goto *ops[*pc]
	NEXT;
add:
	r[pc[1]] += r[pc[2]];
	pc += 3;
	NEXT;
multiply:
	r[pc[1]] *= pc[2];
	pc += 3;
	NEXT;
increment:
	r[pc[1]] += pc[2];
	pc += 3;
	NEXT;
exclusive:
	r[pc[1]] ^= r[pc[2]];
	pc += 3;
	NEXT;
skip:
	pc += r[pc[1]] & pc[2] ? 3 : 6;
	NEXT;
loop:
	if (--left) {
		pc = program;
		NEXT;
	}
#undef NEXT
	return mix(mix(r[0], r[1]), r[2]);
}

/* -- fib: calls -- */

static __attribute__((noinline)) uint64_t fib_of(unsigned n)
{
	__asm__("" : "+r"(n));
	return n < 2 ? n : fib_of(n - 1) + fib_of(n - 2);
}

static uint64_t fib(unsigned scale)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < scale * 8; i++) {
		sum += fib_of(18 + (i & 1));
	}
	return sum;
}

/* -- branch: unpredictable ones -- */

static uint64_t branch(unsigned scale)
{
	uint64_t seed = 5, a = 0, b = 1;

	for (unsigned i = 0; i < scale * 40000; i++) {
		uint64_t r = next_random(&seed);

		if (r & 0x100) {
			a += r;
			__asm__("" : "+r"(a));
		} else {
			b ^= a;
			__asm__("" : "+r"(b));
		}
		if (r & 0x4000) {
			b += 3;
			__asm__("" : "+r"(b));
		}
	}
	return mix(a, b);
}

/* -- bignum: multiplication of long numbers -- */

static uint64_t bignum(unsigned scale)
{
	enum { N = 32 };
	uint64_t a[N], b[N], out[2 * N], seed = 31, h = MIX_START;

	for (unsigned i = 0; i < N; i++) {
		a[i] = next_random(&seed);
		b[i] = next_random(&seed);
	}
	for (unsigned round = 0; round < scale * 180; round++) {
		memset(out, 0, sizeof(out));
		for (unsigned i = 0; i < N; i++) {
			uint64_t carry = 0;

			for (unsigned j = 0; j < N; j++) {
				unsigned __int128 t =
					(unsigned __int128)a[i] * b[j] + out[i + j] + carry;

				out[i + j] = (uint64_t)t;
				carry = (uint64_t)(t >> 64);
			}
			out[i + N] = carry;
		}
		memcpy(a, out + N / 2, sizeof(a));
		a[0] |= 1;
		h ^= out[N];
	}
	return h;
}

/* -- div: 64-bit divisions -- */

static uint64_t division(unsigned scale)
{
	uint64_t seed = 17, sum = 0;

	for (unsigned i = 0; i < scale * 40000; i++) {
		uint64_t r = next_random(&seed), d = r >> 40 | 1;

		sum += r / d + r % d;
	}
	return sum;
}

const struct workload integer_workloads[] = {
	{"cmix", "integer", cmix},     {"dhry", "integer", dhry},     {"sha256", "integer", sha256},
	{"lz", "integer", lz},	       {"qsort", "integer", sorting}, {"hash", "integer", hash},
	{"interp", "integer", interp}, {"fib", "integer", fib},	      {"branch", "integer", branch},
	{"bignum", "integer", bignum}, {"div", "integer", division},  {0},
};
