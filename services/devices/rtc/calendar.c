/* SPDX-License-Identifier: Apache-2.0 */
/* Time and date as the clock's registers show them (MC146818A, "Time, calendar, and alarm"). */
#include "rtc.h"

enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };
enum { HOURS_PM = 1 << 7, ALARM_ANY = 0xc0 };

static uint8_t to_reg(const uint8_t *regs, unsigned v)
{
	return (uint8_t)(regs[RTC_B] & RTC_B_DM_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned from_reg(const uint8_t *regs, uint8_t v)
{
	return regs[RTC_B] & RTC_B_DM_BINARY ? v : (v >> 4) * 10u + (v & 0xf);
}

static unsigned hours_from_reg(const uint8_t *regs, uint8_t v)
{
	unsigned h;

	if (regs[RTC_B] & RTC_B_24H) {
		return from_reg(regs, v);
	}
	h = from_reg(regs, v & (uint8_t)~HOURS_PM) % 12; /* 12 o'clock comes first */
	return v & HOURS_PM ? h + 12 : h;
}

static uint8_t hours_to_reg(const uint8_t *regs, unsigned h)
{
	if (regs[RTC_B] & RTC_B_24H) {
		return to_reg(regs, h);
	}
	return to_reg(regs, h % 12 ? h % 12 : 12) | (h >= 12 ? HOURS_PM : 0);
}

/*
 * Days since 1970-01-01 of a date in the proleptic Gregorian calendar, by counting years from
 * March on, so that the leap day is a year's last.
 */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t from_march = (month + 9) % 12;
	int64_t leap_days = y / 4 - y / 100 + y / 400; /* y >= 0 here, but for year 0 itself */

	return 365 * y + leap_days + (153 * from_march + 2) / 5 + (int64_t)day - 1 - 719468;
}

void rtc_encode(uint8_t *regs, int64_t seconds)
{
	int64_t days = seconds / DAY, of_day = seconds % DAY, year;
	unsigned month = 12;

	if (of_day < 0) {
		of_day += DAY;
		days--;
	}
	/* 400 years have 146097 days: an estimate that is at most one too high or low. */
	year = 1970 + days * 400 / 146097;
	while (year > 0 && days < days_of(year, 1, 1)) {
		year--;
	}
	while (days >= days_of(year + 1, 1, 1)) {
		year++;
	}
	while (month > 1 && days < days_of(year, month, 1)) {
		month--;
	}
	regs[RTC_SECONDS] = to_reg(regs, (unsigned)(of_day % MINUTE));
	regs[RTC_MINUTES] = to_reg(regs, (unsigned)(of_day / MINUTE % 60));
	regs[RTC_HOURS] = hours_to_reg(regs, (unsigned)(of_day / HOUR));
	/* 1970-01-01 was a Thursday, the fifth day of a week that Sunday begins. */
	regs[RTC_DAY_OF_WEEK] = to_reg(regs, (unsigned)(((days + 4) % 7 + 7) % 7 + 1));
	regs[RTC_DAY_OF_MONTH] = to_reg(regs, (unsigned)(days - days_of(year, month, 1) + 1));
	regs[RTC_MONTH] = to_reg(regs, month);
	regs[RTC_YEAR] = to_reg(regs, (unsigned)(year % 100));
	regs[RTC_CENTURY] = to_reg(regs, (unsigned)(year / 100 % 100));
}

int64_t rtc_decode(const uint8_t *regs)
{
	unsigned month = from_reg(regs, regs[RTC_MONTH]);
	int64_t year = from_reg(regs, regs[RTC_CENTURY]) * 100ll + from_reg(regs, regs[RTC_YEAR]);

	month = month ? month - 1 : 0;
	year += month / 12;
	return days_of(year, month % 12 + 1, from_reg(regs, regs[RTC_DAY_OF_MONTH])) * DAY +
	       (int64_t)hours_from_reg(regs, regs[RTC_HOURS]) * HOUR +
	       (int64_t)from_reg(regs, regs[RTC_MINUTES]) * MINUTE +
	       from_reg(regs, regs[RTC_SECONDS]);
}

static bool matches(uint8_t reg, unsigned wanted, int64_t is)
{
	return (reg & ALARM_ANY) == ALARM_ANY || wanted == is;
}

int64_t rtc_next_alarm(const uint8_t *regs, int64_t after)
{
	uint8_t hour = regs[RTC_HOURS_ALARM], minute = regs[RTC_MINUTES_ALARM];
	uint8_t second = regs[RTC_SECONDS_ALARM];
	int64_t t = after + 1, last = after + DAY;

	while (t <= last) {
		int64_t of_day = (t % DAY + DAY) % DAY;

		if (!matches(hour, hours_from_reg(regs, hour), of_day / HOUR)) {
			t += HOUR - of_day % HOUR;
		} else if (!matches(minute, from_reg(regs, minute), of_day / MINUTE % 60)) {
			t += MINUTE - of_day % MINUTE;
		} else if (!matches(second, from_reg(regs, second), of_day % MINUTE)) {
			t++;
		} else {
			return t;
		}
	}
	return INT64_MAX;
}
