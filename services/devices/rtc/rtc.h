/* SPDX-License-Identifier: Apache-2.0 */
/* The real-time clock's own header. */
#ifndef RTC_H
#define RTC_H

#include "mobo/device.h"

/* Bytes of the first bank. */
enum {
	RTC_SECONDS = 0x00,
	RTC_SECONDS_ALARM = 0x01,
	RTC_MINUTES = 0x02,
	RTC_MINUTES_ALARM = 0x03,
	RTC_HOURS = 0x04,
	RTC_HOURS_ALARM = 0x05,
	RTC_DAY_OF_WEEK = 0x06,
	RTC_DAY_OF_MONTH = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_A = 0x0a,
	RTC_B = 0x0b,
	RTC_C = 0x0c,
	RTC_D = 0x0d,
	RTC_CENTURY = 0x32,
	RTC_CENTURY_PS2 = 0x37, /* where the PS/2 had it; the same byte here */
};

/* Register B's bits that say how time is written. */
enum { RTC_B_DM_BINARY = 1 << 2, RTC_B_24H = 1 << 1 };

/* -- calendar.c: seconds since 1970 and the clock's bytes; `regs` is the first bank -- */
/* Writes seconds, minutes, hours, dates and century in the format of register B. */
void rtc_encode(uint8_t *regs, int64_t seconds);
/* What those bytes say; out-of-range values count on into the next larger unit. */
int64_t rtc_decode(const uint8_t *regs);
/* The first second after `after` that the alarm bytes name, or INT64_MAX. */
int64_t rtc_next_alarm(const uint8_t *regs, int64_t after);

/* -- cmos.c -- */
/* What the set-up program of this board has left in the battery-backed RAM. */
void rtc_fill_cmos(struct mobo_dev *d, uint8_t *ram);

extern const struct mobo_chip_class mobo_chip_rtc;

#endif
