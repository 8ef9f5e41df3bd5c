"""Which days of a month a cron expression means.

Weekdays are numbered from Sunday = 0 in here, whatever the expression counts from.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from typing import Protocol

from smartstream.errors import ScheduleInvalid
from smartstream.inference.schedule.fields import AWS_MONTH_DAY, AWS_WEEKDAY, MONTH_DAY, WEEKDAY

SATURDAY, SUNDAY = 6, 0


@dataclass(frozen=True, slots=True)
class Month:
    """One month: how long it is, and the weekday that it begins with."""

    length: int
    first_weekday: int

    @staticmethod
    def of(year: int, month: int) -> Month:
        """The month of a year."""
        monday_based, length = calendar.monthrange(year, month)
        return Month(length, (monday_based + 1) % 7)

    def weekday(self, day: int) -> int:
        """The weekday of a day from 1 on."""
        return (self.first_weekday + day - 1) % 7


class DayRule(Protocol):
    """Days of a month."""

    def days(self, month: Month) -> frozenset[int]:
        """The days from 1 on that are meant; none if the month has no such day."""
        ...


@dataclass(frozen=True, slots=True)
class MonthDays:
    """Days by their number."""

    numbers: frozenset[int]

    def days(self, month: Month) -> frozenset[int]:
        """Those that the month has."""
        return frozenset(day for day in self.numbers if day <= month.length)


@dataclass(frozen=True, slots=True)
class LastDay:
    """``L``."""

    def days(self, month: Month) -> frozenset[int]:
        """The last one."""
        return frozenset({month.length})


@dataclass(frozen=True, slots=True)
class NearestWorkday:
    """``15W``: the day from Monday to Friday nearest to a day, in the same month; ``LW``: the last one.

    A month without the day has no run: 31W is none of April's.
    """

    number: int | None

    def days(self, month: Month) -> frozenset[int]:
        """One day, or none."""
        day = month.length if self.number is None else self.number
        if day > month.length:
            return frozenset()
        if month.weekday(day) == SATURDAY:
            day += -1 if day > 1 else 2
        elif month.weekday(day) == SUNDAY:
            # LW goes back only, and so does the last day of the month: both stay in the month.
            day += 1 if day < month.length else -2
        return frozenset({day})


@dataclass(frozen=True, slots=True)
class WeekDays:
    """Days by their weekday."""

    weekdays: frozenset[int]

    def days(self, month: Month) -> frozenset[int]:
        """Each of them in the month."""
        return frozenset(d for d in range(1, month.length + 1) if month.weekday(d) in self.weekdays)


@dataclass(frozen=True, slots=True)
class LastWeekDay:
    """``6L``: the last Friday."""

    weekday: int

    def days(self, month: Month) -> frozenset[int]:
        """One day."""
        return frozenset({max(WeekDays(frozenset({self.weekday})).days(month))})


@dataclass(frozen=True, slots=True)
class NthWeekDay:
    """``6#2``: the second Friday."""

    weekday: int
    nth: int

    def days(self, month: Month) -> frozenset[int]:
        """One day; none if there is no fifth."""
        day = 1 + (self.weekday - month.first_weekday) % 7 + 7 * (self.nth - 1)
        return frozenset({day} if day <= month.length else ())


@dataclass(frozen=True, slots=True)
class Either:
    """Days that one rule or the other means."""

    one: DayRule
    other: DayRule

    def days(self, month: Month) -> frozenset[int]:
        """The union."""
        return self.one.days(month) | self.other.days(month)


@dataclass(frozen=True, slots=True)
class Both:
    """Days that both rules mean."""

    one: DayRule
    other: DayRule

    def days(self, month: Month) -> frozenset[int]:
        """The intersection."""
        return self.one.days(month) & self.other.days(month)


def cron_days(month_days: str, weekdays: str) -> DayRule:
    """The two day fields of a 5-field expression.

    When both are restricted a day needs to be in one of them only, as in Vixie cron; a field that
    begins with ``*`` does not count as restricted, so ``*/2`` narrows the other down.

    Raises:
        ScheduleInvalid: a field is not understood.
    """
    by_month = MonthDays(MONTH_DAY.values(month_days))
    by_week = WeekDays(frozenset(number % 7 for number in WEEKDAY.values(weekdays)))
    if month_days.startswith("*") or weekdays.startswith("*"):
        return Both(by_month, by_week)
    return Either(by_month, by_week)


def aws_days(month_days: str, weekdays: str) -> DayRule:
    """The two day fields of EventBridge, one of which is ``?``.

    What is more than values, ranges and steps stands alone in its field, because EventBridge takes no
    lists of it.

    Raises:
        ScheduleInvalid: a field is not understood, or not exactly one is ``?``.
    """
    if (month_days == "?") == (weekdays == "?"):
        raise ScheduleInvalid(
            f'day-of-month is "{month_days}" and day-of-week is "{weekdays}": exactly one of them must be ?'
        )
    return _aws_weekdays(weekdays) if month_days == "?" else _aws_month_days(month_days)


def _aws_month_days(text: str) -> DayRule:
    """Day-of-month of EventBridge."""
    if text == "L":
        return LastDay()
    if text == "LW":
        return NearestWorkday(None)
    if near := re.fullmatch("([0-9]+)W", text):
        return NearestWorkday(AWS_MONTH_DAY.value(near[1], text))
    return MonthDays(AWS_MONTH_DAY.values(text))


def _aws_weekdays(text: str) -> DayRule:
    """Day-of-week of EventBridge."""
    if text == "L":  # the last day of the week
        return WeekDays(frozenset({SATURDAY}))
    if last := re.fullmatch("([1-7]|[A-Z]{3})L", text):
        return LastWeekDay(AWS_WEEKDAY.value(last[1], text) - 1)
    if nth := re.fullmatch("([1-7]|[A-Z]{3})#([1-5])", text):
        return NthWeekDay(AWS_WEEKDAY.value(nth[1], text) - 1, int(nth[2]))
    return WeekDays(frozenset(number - 1 for number in AWS_WEEKDAY.values(text)))
