/* SPDX-License-Identifier: Apache-2.0 */
/* Floating point and SIMD workloads. Checksums are of the exact bits. */
#include <emmintrin.h>
#include <math.h>
#include <string.h>

#include "bench.h"

static uint64_t bits(double d)
{
	uint64_t v;

	memcpy(&v, &d, sizeof(v));
	return v;
}

/* Packed doubles. */
static uint64_t matmul(unsigned scale)
{
	enum { N = 48 };
	static double a[N][N], b[N][N], c[N][N] __attribute__((aligned(16)));
	uint64_t h = MIX_START;

	for (unsigned i = 0; i < N * N; i++) {
		a[i / N][i % N] = 1.0 / (i + 1);
		b[i / N][i % N] = (double)i / 7;
	}
	for (unsigned round = 0; round < scale * 12; round++) {
		for (unsigned i = 0; i < N; i++) {
			for (unsigned j = 0; j < N; j += 2) {
				__m128d sum = _mm_setzero_pd();

				for (unsigned k = 0; k < N; k++) {
					sum = _mm_add_pd(sum, _mm_mul_pd(_mm_set1_pd(a[i][k]),
									 _mm_loadu_pd(&b[k][j])));
				}
				_mm_storeu_pd(&c[i][j], sum);
			}
		}
		h = mix(h, bits(c[round % N][3]));
		a[round % N][5] += 0.125;
	}
	return h;
}

/* Scalar doubles with square roots and divisions: planets on a plane and a half. */
static uint64_t nbody(unsigned scale)
{
	enum { N = 5 };
	double x[N][3], v[N][3] = {{0}}, m[N];

	for (int i = 0; i < N; i++) {
		m[i] = 1.0 / (i + 1);
		for (int k = 0; k < 3; k++) {
			x[i][k] = (i + 1) * (k - 1.5) + i * i * 0.25;
		}
	}
	for (unsigned step = 0; step < scale * 1200; step++) {
		for (int i = 0; i < N; i++) {
			for (int j = i + 1; j < N; j++) {
				double d[3], r2 = 0.01, f;

				for (int k = 0; k < 3; k++) {
					d[k] = x[i][k] - x[j][k];
					r2 += d[k] * d[k];
				}
				f = 0.001 / (r2 * sqrt(r2));
				for (int k = 0; k < 3; k++) {
					v[i][k] -= d[k] * m[j] * f;
					v[j][k] += d[k] * m[i] * f;
				}
			}
		}
		for (int i = 0; i < N * 3; i++) {
			x[i / 3][i % 3] += 0.001 * v[i / 3][i % 3];
		}
	}
	return mix(bits(x[0][0]), bits(v[4][2]));
}

/* 80-bit arithmetic in the x87 registers. */
static uint64_t x87(unsigned scale)
{
	volatile long double one = 1.0L;
	long double sum = 0, x = one;
	uint64_t v;

	for (unsigned i = 1; i < scale * 20000; i++) {
		x = x * 1.0000001L + 0.5L / (long double)i;
		sum += x > 3 ? x - 2 : -x;
		if (x > 100) {
			x = sqrtl(x);
		}
	}
	memcpy(&v, &sum, sizeof(v));
	return v;
}

/* Saturating bytes and words: a blend of two images. */
static uint64_t simd(unsigned scale)
{
	enum { N = 1024 };
	static __m128i a[N], b[N];
	__m128i sum = _mm_setzero_si128();
	uint64_t out[2];

	for (unsigned i = 0; i < N; i++) {
		a[i] = _mm_set1_epi16((short)(i * 19));
		b[i] = _mm_set1_epi8((char)(i * 5));
	}
	for (unsigned round = 0; round < scale * 18; round++) {
		for (unsigned i = 0; i < N; i++) {
			__m128i s = _mm_adds_epu8(a[i], b[i]);
			__m128i d = _mm_subs_epi16(a[i], s);

			d = _mm_max_epi16(d, _mm_mulhi_epi16(s, b[i]));
			d = _mm_packus_epi16(d, _mm_unpacklo_epi8(s, d));
			a[i] = _mm_xor_si128(d, _mm_srli_epi16(s, 3));
			sum = _mm_add_epi32(sum, _mm_madd_epi16(d, s));
		}
	}
	_mm_storeu_si128((__m128i *)out, sum);
	return mix(out[0], out[1]);
}

const struct workload fp_workloads[] = {
	{"matmul", "fp", matmul},
	{"nbody", "fp", nbody},
	{"x87", "fp", x87},
	{"simd", "fp", simd},
	{0},
};
