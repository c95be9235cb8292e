/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both sides of the encodings fuzzer do with memory: see encodings.h.
 */
#include "encodings.h"

#include <stddef.h>
#include <string.h>

static uint64_t mix(uint64_t h, uint64_t val)
{
	h = (h ^ val) * 0x9e3779b97f4a7c15;
	return h ^ h >> 29;
}

void fz_collect_memory(struct fz_result *r, const struct fz_case *c, uint8_t *data,
		       const uint8_t *pristine)
{
	if (c->mask_at) {
		data[c->mask_at] &= ~2; /* AMD's misaligned SSE mode, not in the model */
	}
	r->mem_hash = 0;
	r->n_lines = 0;
	for (unsigned n = 0; n < FZ_LINES; n++) {
		uint64_t now[8], was[8], diff = 0;

		memcpy(now, data + n * 64, 64);
		memcpy(was, pristine + n * 64, 64);
		for (unsigned k = 0; k < 8; k++) {
			diff |= now[k] ^ was[k];
		}
		if (!diff) {
			continue;
		}
		r->mem_hash = mix(r->mem_hash, n + 1);
		for (unsigned k = 0; k < 8; k++) {
			r->mem_hash = mix(r->mem_hash, now[k]);
		}
		if (r->n_lines < FZ_LINES_KEPT) {
			r->line_no[r->n_lines] = (uint8_t)n;
			memcpy(r->line[r->n_lines], now, 64);
		}
		r->n_lines++;
		memcpy(data + n * 64, was, 64);
	}
}

static void put32(uint8_t *p, uint32_t val)
{
	memcpy(p, &val, 4);
}

/* movl $linear, FZ_CTX.pad_rip; jmp *FZ_CTX.landing: changes neither registers nor flags. */
static void build_pad(uint8_t *p, uint32_t linear, uint32_t mode)
{
	*p++ = 0xc7;
	*p++ = mode == 64 ? 0x04 : 0x05;
	if (mode == 64) {
		*p++ = 0x25;
	}
	put32(p, FZ_CTX + offsetof(struct fz_ctx, pad_rip));
	put32(p + 4, linear);
	p += 8;
	*p++ = 0xff;
	*p++ = mode == 64 ? 0x24 : 0x25;
	if (mode == 64) {
		*p++ = 0x25;
	}
	put32(p, FZ_CTX + offsetof(struct fz_ctx, landing));
}

void fz_build_slot(uint8_t *code, uint32_t slot_linear, const uint8_t *insn, unsigned len,
		   uint32_t mode)
{
	memset(code, 0xcc, FZ_SLOT);
	build_pad(code + FZ_PAD_LOW, slot_linear + FZ_PAD_LOW, mode);
	build_pad(code + FZ_PAD_HIGH, slot_linear + FZ_PAD_HIGH, mode);
	memcpy(code + FZ_INSN, insn, len);
	build_pad(code + FZ_INSN + len, slot_linear + FZ_INSN + len, mode);
}
