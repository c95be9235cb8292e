/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART, after National Semiconductor's PC16550D data sheet (June 1995); section numbers are
 * its own. Stream 0 is the line.
 *
 * Not modelled: the time of transmission (a byte leaves at once, so THR and shift register are
 * always empty again; interrupts come as if that had taken no time), words of less than 8 bits on
 * the line (in loopback they are), parity and framing errors, modem lines of a peer (CTS, DSR and
 * DCD are on), DMA mode signals. The PC's gate that lets OUT2 hold back the interrupt is off unless
 * `out2-gate` is set: many a small kernel never sets OUT2.
 *
 * Configuration: base (0x3f8), irq (4), out2-gate (0).
 */
#include <string.h>

#include "mobo/device.h"

enum {			 /* 8.4 */
       IER_RDA = 1 << 0, /* received data available, and character timeout */
       IER_THRE = 1 << 1,
       IER_RLS = 1 << 2, /* line status */
       IER_MS = 1 << 3,	 /* modem status */
};
enum { /* 8.3, table IV */
       IIR_NONE = 0x01,
       IIR_MS = 0x00,
       IIR_THRE = 0x02,
       IIR_RDA = 0x04,
       IIR_RLS = 0x06,
       IIR_TIMEOUT = 0x0c,
       IIR_FIFO = 0xc0,
};
enum { /* 8.2 */
       FCR_ENABLE = 1 << 0,
       FCR_CLEAR_RX = 1 << 1,
       FCR_CLEAR_TX = 1 << 2,
       FCR_KEEP = 0xc9, /* trigger level, DMA mode, enable */
};
enum { /* 8.1 */
       LCR_WORD_LENGTH = 3,
       LCR_STOP = 1 << 2,
       LCR_PARITY = 1 << 3,
       LCR_BREAK = 1 << 6,
       LCR_DLAB = 1 << 7,
};
enum { /* 8.6 */
       MCR_DTR = 1 << 0,
       MCR_RTS = 1 << 1,
       MCR_OUT1 = 1 << 2,
       MCR_OUT2 = 1 << 3,
       MCR_LOOP = 1 << 4,
};
enum { /* 8.5 */
       LSR_DR = 1 << 0,
       LSR_OE = 1 << 1,
       LSR_PE = 1 << 2,
       LSR_FE = 1 << 3,
       LSR_BI = 1 << 4,
       LSR_THRE = 1 << 5,
       LSR_TEMT = 1 << 6,
       LSR_FIFO_ERROR = 1 << 7,
       LSR_ERRORS = LSR_OE | LSR_PE | LSR_FE | LSR_BI,
};
enum { /* 8.7 */
       MSR_DCTS = 1 << 0,
       MSR_DDSR = 1 << 1,
       MSR_TERI = 1 << 2,
       MSR_DDCD = 1 << 3,
       MSR_DELTAS = 0x0f,
       MSR_CTS = 1 << 4,
       MSR_DSR = 1 << 5,
       MSR_RI = 1 << 6,
       MSR_DCD = 1 << 7,
};

enum { FIFO_LEN = 16, BAUD_BASE = 115200, N_PORTS = 8 };
enum { REGION_PORTS };
enum { LINE_IRQ };
enum { STREAM_LINE };
enum { TIMER_RX_TIMEOUT };

struct uart_state {
	uint64_t rx_timeout_ns;	     /* when the character timeout comes; 0: not running */
	uint8_t rx[FIFO_LEN];	     /* a ring */
	uint8_t rx_errors[FIFO_LEN]; /* LSR bits that come up with the character */
	uint8_t rx_head, rx_count;
	uint8_t rx_timed_out; /* the timeout interrupt waits */
	uint8_t thre_waits;   /* the THRE interrupt waits */
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
	uint8_t dll, dlm;
	uint8_t reserved[3];
};

struct uart_priv {
	bool out2_gate;
};

static struct uart_state *state_of(struct mobo_dev *d)
{
	return mobo_dev_state(d);
}

static bool dlab(struct mobo_dev *d)
{
	return state_of(d)->lcr & LCR_DLAB;
}

static bool no_dlab(struct mobo_dev *d)
{
	return !dlab(d);
}

static unsigned rx_capacity(const struct uart_state *s)
{
	return s->fcr & FCR_ENABLE ? FIFO_LEN : 1;
}

static unsigned rx_trigger(const struct uart_state *s)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

static uint8_t word_mask(const struct uart_state *s)
{
	return (uint8_t)(0xff >> (3 - (s->lcr & LCR_WORD_LENGTH)));
}

/* Time of one character: start, data, parity and stop bits at 16 clocks each (8.10). */
static uint64_t character_ns(const struct uart_state *s)
{
	unsigned divisor = s->dlm << 8 | s->dll;
	unsigned bits = 1 + 5 + (s->lcr & LCR_WORD_LENGTH) + !!(s->lcr & LCR_PARITY) + 1 +
			!!(s->lcr & LCR_STOP);

	return 1000000000ull * bits * (divisor ? divisor : 1) / BAUD_BASE;
}

/* The waiting interrupt of the highest priority, without the FIFO bits (table IV). */
static uint8_t interrupt_id(const struct uart_state *s)
{
	if ((s->ier & IER_RLS) && (s->lsr & LSR_ERRORS)) {
		return IIR_RLS;
	}
	if ((s->ier & IER_RDA) && s->rx_count >= rx_trigger(s)) {
		return IIR_RDA;
	}
	if ((s->ier & IER_RDA) && s->rx_timed_out) {
		return IIR_TIMEOUT;
	}
	if ((s->ier & IER_THRE) && s->thre_waits) {
		return IIR_THRE;
	}
	if ((s->ier & IER_MS) && (s->msr & MSR_DELTAS)) {
		return IIR_MS;
	}
	return IIR_NONE;
}

static void update_line(struct mobo_dev *d)
{
	const struct uart_state *s = state_of(d);
	const struct uart_priv *p = mobo_dev_priv(d);
	bool open = !p->out2_gate || ((s->mcr & MCR_OUT2) && !(s->mcr & MCR_LOOP));

	mobo_dev_line(d, LINE_IRQ, open && interrupt_id(s) != IIR_NONE);
}

/* -- Receiver -- */

/* After a character came or went: LSR, and the timeout of four characters' time (8.11 A). */
static void rx_changed(struct mobo_dev *d)
{
	struct uart_state *s = state_of(d);
	uint8_t inside = 0;

	s->rx_timed_out = 0;
	s->lsr &= (uint8_t) ~(LSR_DR | LSR_FIFO_ERROR);
	if (s->rx_count > 0) {
		/* Errors are shown when their character is the next to be read (8.5). */
		s->lsr |= LSR_DR | s->rx_errors[s->rx_head];
		s->rx_errors[s->rx_head] = 0;
	}
	for (unsigned i = 0; i < s->rx_count; i++) {
		inside |= s->rx_errors[(s->rx_head + i) % FIFO_LEN];
	}
	if ((s->fcr & FCR_ENABLE) && s->rx_count > 0) {
		if (inside || (s->lsr & (LSR_PE | LSR_FE | LSR_BI))) {
			s->lsr |= LSR_FIFO_ERROR;
		}
		s->rx_timeout_ns = mobo_dev_now_ns(d) + 4 * character_ns(s);
	} else {
		s->rx_timeout_ns = 0;
	}
	mobo_dev_timer_set(d, TIMER_RX_TIMEOUT, s->rx_timeout_ns ? s->rx_timeout_ns : UINT64_MAX);
}

static void rx_push(struct uart_state *s, uint8_t byte, uint8_t errors)
{
	unsigned at;

	if (s->rx_count >= rx_capacity(s)) {
		s->lsr |= LSR_OE;
		if (s->fcr & FCR_ENABLE) {
			return; /* the FIFO keeps what it has, the new one is lost */
		}
		s->rx_count = 0; /* the new one replaces the old one */
	}
	at = (s->rx_head + s->rx_count) % FIFO_LEN;
	s->rx[at] = byte;
	s->rx_errors[at] = errors;
	s->rx_count++;
}

static void rx_clear(struct uart_state *s)
{
	s->rx_head = 0;
	s->rx_count = 0;
	memset(s->rx_errors, 0, sizeof(s->rx_errors));
}

/* Takes from the line what fits: the peer waits rather than overruns. */
static void rx_fill(struct mobo_dev *d)
{
	struct uart_state *s = state_of(d);
	uint8_t buf[FIFO_LEN];
	size_t n;

	if ((s->mcr & MCR_LOOP) || s->rx_count >= rx_capacity(s)) {
		return;
	}
	n = mobo_dev_stream_read(d, STREAM_LINE, buf, rx_capacity(s) - s->rx_count);
	for (size_t i = 0; i < n; i++) {
		rx_push(s, buf[i], 0);
	}
	if (n > 0) {
		rx_changed(d);
		update_line(d);
	}
}

static uint64_t rbr_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct uart_state *s = state_of(d);
	uint8_t byte = s->rx[s->rx_head];

	if (s->rx_count > 0) {
		s->rx_head = (s->rx_head + 1) % FIFO_LEN;
		s->rx_count--;
		rx_changed(d);
		if (s->rx_count == 0) {
			rx_fill(d);
		}
		update_line(d);
	}
	return byte;
}

/* -- Transmitter -- */

static void thr_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct uart_state *s = state_of(d);
	uint8_t byte = (uint8_t)val;

	if (s->mcr & MCR_LOOP) {
		rx_push(s, byte & word_mask(s), 0);
		rx_changed(d);
	} else {
		mobo_dev_stream_write(d, STREAM_LINE, &byte, 1);
	}
	s->thre_waits = 1; /* full and empty again */
	update_line(d);
}

/* -- Interrupts -- */

static void ier_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct uart_state *s = state_of(d);

	if ((val & IER_THRE) && !(s->ier & IER_THRE)) {
		s->thre_waits = 1; /* enabled while THR is empty, and it always is */
	}
	s->ier = (uint8_t)val;
	update_line(d);
}

static uint64_t iir_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct uart_state *s = state_of(d);
	uint8_t id = interrupt_id(s);

	if (id == IIR_THRE) {
		s->thre_waits = 0;
		update_line(d);
	}
	return id | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static void fcr_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct uart_state *s = state_of(d);
	bool toggled = (val ^ s->fcr) & FCR_ENABLE;

	/* Bit 0 must be set, else the others are not programmed (8.2). */
	s->fcr = val & FCR_ENABLE ? val & FCR_KEEP : 0;
	if (toggled || (val & (FCR_ENABLE | FCR_CLEAR_RX)) == (FCR_ENABLE | FCR_CLEAR_RX)) {
		rx_clear(s);
	}
	if (toggled || (val & (FCR_ENABLE | FCR_CLEAR_TX)) == (FCR_ENABLE | FCR_CLEAR_TX)) {
		s->thre_waits = 1;
	}
	rx_changed(d);
	rx_fill(d);
	update_line(d);
}

/* -- Line and modem -- */

static void lcr_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct uart_state *s = state_of(d);

	if ((val & ~s->lcr & LCR_BREAK) && (s->mcr & MCR_LOOP)) {
		rx_push(s, 0, LSR_BI);
		rx_changed(d);
	}
	s->lcr = (uint8_t)val;
	update_line(d);
}

static uint64_t lsr_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct uart_state *s = state_of(d);
	uint8_t lsr = s->lsr;

	if (lsr & LSR_ERRORS) {
		s->lsr &= (uint8_t) ~(LSR_ERRORS | LSR_FIFO_ERROR);
		for (unsigned i = 0; i < s->rx_count; i++) {
			if (s->rx_errors[(s->rx_head + i) % FIFO_LEN]) {
				s->lsr |= LSR_FIFO_ERROR;
			}
		}
		update_line(d);
	}
	return lsr;
}

/* Modem inputs: the line's, or in loopback the modem outputs (8.6). */
static void update_msr(struct uart_state *s)
{
	uint8_t old = s->msr;
	uint8_t now = MSR_CTS | MSR_DSR | MSR_DCD;

	if (s->mcr & MCR_LOOP) {
		now = (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
		      (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
	}
	now |= old & MSR_DELTAS;
	now |= (old ^ now) & MSR_CTS ? MSR_DCTS : 0;
	now |= (old ^ now) & MSR_DSR ? MSR_DDSR : 0;
	now |= old & ~now & MSR_RI ? MSR_TERI : 0; /* its trailing edge only */
	now |= (old ^ now) & MSR_DCD ? MSR_DDCD : 0;
	s->msr = now;
}

static void mcr_write(struct mobo_dev *d, const struct mobo_reg *r, uint64_t val)
{
	struct uart_state *s = state_of(d);

	s->mcr = (uint8_t)val;
	update_msr(s);
	rx_fill(d); /* loopback may have ended */
	update_line(d);
}

static uint64_t msr_read(struct mobo_dev *d, const struct mobo_reg *r)
{
	struct uart_state *s = state_of(d);
	uint8_t msr = s->msr;

	s->msr &= (uint8_t)~MSR_DELTAS;
	update_line(d);
	return msr;
}

/* -- Tables -- */

#define STORAGE(member) offsetof(struct uart_state, member)
/* clang-format off */
static const struct mobo_reg uart_regs[] = {
	{"RBR/THR", REGION_PORTS, 0, 1, MOBO_NO_STORAGE, 0xff, rbr_read, thr_write, no_dlab, true},
	{"DLL",     REGION_PORTS, 0, 1, STORAGE(dll),    0xff, NULL,     NULL,      dlab},
	{"IER",     REGION_PORTS, 1, 1, STORAGE(ier),    0x0f, NULL,     ier_write, no_dlab},
	{"DLM",     REGION_PORTS, 1, 1, STORAGE(dlm),    0xff, NULL,     NULL,      dlab},
	{"IIR/FCR", REGION_PORTS, 2, 1, MOBO_NO_STORAGE, 0xff, iir_read, fcr_write, NULL, true},
	{"LCR",     REGION_PORTS, 3, 1, STORAGE(lcr),    0xff, NULL,     lcr_write},
	{"MCR",     REGION_PORTS, 4, 1, STORAGE(mcr),    0x1f, NULL,     mcr_write},
	{"LSR",     REGION_PORTS, 5, 1, STORAGE(lsr),    0x00, lsr_read, NULL,      NULL, true},
	{"MSR",     REGION_PORTS, 6, 1, STORAGE(msr),    0x00, msr_read, NULL,      NULL, true},
	{"SCR",     REGION_PORTS, 7, 1, STORAGE(scr),    0xff},
};
/* clang-format on */

static const struct mobo_field uart_fields[] = {
	MOBO_FIELD(struct uart_state, rx_timeout_ns),
	MOBO_FIELD_ARRAY(struct uart_state, rx),
	MOBO_FIELD_ARRAY(struct uart_state, rx_errors),
	MOBO_FIELD(struct uart_state, rx_head),
	MOBO_FIELD(struct uart_state, rx_count),
	MOBO_FIELD(struct uart_state, rx_timed_out),
	MOBO_FIELD(struct uart_state, thre_waits),
	MOBO_FIELD(struct uart_state, ier),
	MOBO_FIELD(struct uart_state, fcr),
	MOBO_FIELD(struct uart_state, lcr),
	MOBO_FIELD(struct uart_state, mcr),
	MOBO_FIELD(struct uart_state, lsr),
	MOBO_FIELD(struct uart_state, msr),
	MOBO_FIELD(struct uart_state, scr),
	MOBO_FIELD(struct uart_state, dll),
	MOBO_FIELD(struct uart_state, dlm),
	MOBO_FIELD_ARRAY(struct uart_state, reserved),
};

/* Writes queue up: a driver that needs their effect reads a register next, and that waits. */
static const struct mobo_region uart_regions[] = {
	[REGION_PORTS] = {.name = "ports",
			  .kind = MOBO_REGION_PIO,
			  .base = 0x3f8,
			  .len = N_PORTS,
			  .attr = MOBO_POSTED,
			  .priority = 1},
};

static const struct mobo_line uart_lines[] = {[LINE_IRQ] = {MOBO_LINE_ISA, 4}};

static int uart_init(struct mobo_dev *d)
{
	struct mobo_region ports = uart_regions[REGION_PORTS];
	struct mobo_line irq = uart_lines[LINE_IRQ];
	struct uart_priv *p = mobo_dev_priv(d);
	int r;

	ports.base = mobo_dev_config_u64(d, "base", ports.base);
	irq.n = (uint8_t)mobo_dev_config_u64(d, "irq", irq.n);
	p->out2_gate = mobo_dev_config_u64(d, "out2-gate", 0) != 0;
	r = mobo_dev_set_region(d, REGION_PORTS, &ports);
	return r < 0 ? r : mobo_dev_set_line(d, LINE_IRQ, irq);
}

static void uart_reset(struct mobo_dev *d) /* 8.0, table III */
{
	struct uart_state *s = state_of(d);

	memset(s, 0, sizeof(*s));
	s->lsr = LSR_THRE | LSR_TEMT;
	s->msr = MSR_CTS | MSR_DSR | MSR_DCD;
	s->dll = BAUD_BASE / 9600;
	rx_fill(d); /* what the peer sent already waits in the stream */
}

static void uart_restored(struct mobo_dev *d)
{
	struct uart_state *s = state_of(d);

	/* Indices of a damaged state must not lead out of the FIFO. */
	s->rx_head %= FIFO_LEN;
	s->rx_count = s->rx_count > FIFO_LEN ? FIFO_LEN : s->rx_count;
	mobo_dev_timer_set(d, TIMER_RX_TIMEOUT, s->rx_timeout_ns ? s->rx_timeout_ns : UINT64_MAX);
	update_line(d);
	rx_fill(d);
}

static void uart_timer(struct mobo_dev *d, unsigned timer)
{
	struct uart_state *s = state_of(d);

	s->rx_timeout_ns = 0;
	s->rx_timed_out = s->rx_count > 0;
	update_line(d);
}

static void uart_stream_readable(struct mobo_dev *d, unsigned stream)
{
	rx_fill(d);
}

const struct mobo_chip_class mobo_chip_uart;
const struct mobo_chip_class mobo_chip_uart = {
	.name = "uart",
	.description = "16550A serial port",
	.state_version = 1,
	.restart = MOBO_RESTART_STATE,
	.state_size = sizeof(struct uart_state),
	.priv_size = sizeof(struct uart_priv),
	.regions = uart_regions,
	.n_regions = sizeof(uart_regions) / sizeof(uart_regions[0]),
	.lines = uart_lines,
	.n_lines = sizeof(uart_lines) / sizeof(uart_lines[0]),
	.regs = uart_regs,
	.n_regs = sizeof(uart_regs) / sizeof(uart_regs[0]),
	.fields = uart_fields,
	.n_fields = sizeof(uart_fields) / sizeof(uart_fields[0]),
	.init = uart_init,
	.reset = uart_reset,
	.restored = uart_restored,
	.timer = uart_timer,
	.stream_readable = uart_stream_readable,
};
