"""Cron expressions: the moments at which the clocks of a zone show certain times on certain days.

What happens when the clocks change:

* Hours that are named (``30 2 * * *``, ``0 */6 * * *``): each time runs once a day.  One that the clocks
  skip runs at the first moment after the gap, one that they show twice runs the first time.
* Every hour (``*/15 * * * *``): nobody asked for a certain hour, so runs go on at equal distances.
  Nothing runs for the hour that does not exist, and the hour that comes twice has its runs twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from smartstream.errors import ScheduleInvalid
from smartstream.inference.schedule.days import DayRule, Month, aws_days, cron_days
from smartstream.inference.schedule.fields import HOUR, MINUTE, MONTH, YEAR, YEAR_FIRST, YEAR_LAST

_DAY = timedelta(days=1)
_FIRST = datetime(YEAR_FIRST, 1, 1, tzinfo=UTC)
_LAST = datetime(YEAR_LAST, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of either kind, read.

    Attributes:
        text: as it was written, one space between fields.
        zone: whose clocks are meant.
        minutes, hours, months, years: ascending.
        days: of each month.
    """

    text: str
    zone: ZoneInfo
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]
    days: DayRule

    def __str__(self) -> str:
        return self.text

    def next_after(self, moment: datetime) -> datetime | None:
        """The first run later than ``moment`` (aware), in UTC; None when there is none until 2199."""
        return self._nearest(moment, forward=True)

    def previous_before(self, moment: datetime) -> datetime | None:
        """The last run earlier than ``moment`` (aware), in UTC; None when there is none since 1970."""
        return self._nearest(moment, forward=False)

    def dates(self, start: date, *, forward: bool = True) -> Iterator[date]:
        """The days with runs, from ``start`` on, or from there back."""
        order = 1 if forward else -1
        for year in self.years[::order]:
            if year < start.year if forward else year > start.year:
                continue
            for month in self.months[::order]:
                for day in sorted(self.days.days(Month.of(year, month)))[::order]:
                    found = date(year, month, day)
                    if found >= start if forward else found <= start:
                        yield found

    def _nearest(self, moment: datetime, *, forward: bool) -> datetime | None:
        """The run next to a moment."""
        assert moment.tzinfo is not None, "moments are aware"
        outward = _DAY if forward else -_DAY
        # A moment far outside of the years would overflow; where to begin is all that changes.
        start = min(max(moment, _FIRST), _LAST).astimezone(self.zone).date() - outward
        found: datetime | None = None
        limit = start
        for day in self.dates(start, forward=forward):
            # Where the clocks go back over midnight, times of two days take turns: look at both.
            if found is not None and (day > limit if forward else day < limit):
                break
            runs = _runs(self, day)
            index = bisect.bisect_right(runs, moment) if forward else bisect.bisect_left(runs, moment) - 1
            if not 0 <= index < len(runs):
                continue
            if found is None:
                found, limit = runs[index], day + outward
            else:
                found = min(found, runs[index]) if forward else max(found, runs[index])
        return found


@lru_cache(maxsize=256)
def _runs(cron: Cron, day: date) -> tuple[datetime, ...]:
    """The runs for one day of the zone's calendar, ascending; the day is one with runs."""
    times = [datetime.combine(day, time(hour, minute)) for hour in cron.hours for minute in cron.minutes]
    if cron.zone.key == "UTC":
        return tuple(moment.replace(tzinfo=UTC) for moment in times)
    if len(cron.hours) == 24:
        return tuple(sorted({run for shown in times for run in _all_shown(shown, cron.zone)}))
    return tuple(sorted({_first_shown(shown, cron.zone) for shown in times}))


def _shows(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks of a zone show, naive."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _all_shown(shown: datetime, zone: ZoneInfo) -> list[datetime]:
    """The moments at which the clocks show a time: none, one or two."""
    moments = {shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return [moment for moment in moments if _shows(moment, zone) == shown]


def _first_shown(shown: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which the clocks show a time, or have gone past it."""
    moment = shown.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _shows(moment, zone) == shown:
        return moment
    # In a gap, fold 0 counts with the offset of before and so lands after the gap, fold 1 before it.
    before = int(shown.replace(tzinfo=zone, fold=1).timestamp())
    after = int(moment.timestamp())
    while after - before > 1:
        middle = (before + after) // 2
        if _shows(datetime.fromtimestamp(middle, UTC), zone) > shown:
            after = middle
        else:
            before = middle
    return datetime.fromtimestamp(after, UTC)


def parse_aws(text: str) -> Cron:
    """Read EventBridge's ``cron(minute hour day-of-month month day-of-week year)``; it is in UTC.

    Raises:
        ScheduleInvalid: a field is not understood, or there is no such day.
    """
    fields = text.removeprefix("cron(").removesuffix(")").split()
    if len(fields) != 6 or not text.endswith(")"):
        raise ScheduleInvalid(
            f'"{text}" is not cron(minute hour day-of-month month day-of-week year), with six fields'
        )
    minutes, hours, month_days, months, weekdays, years = fields
    return _possible(
        Cron(
            text=f"cron({' '.join(fields)})",
            zone=ZoneInfo("UTC"),
            minutes=tuple(sorted(MINUTE.values(minutes))),
            hours=tuple(sorted(HOUR.values(hours))),
            months=tuple(sorted(MONTH.values(months))),
            years=tuple(sorted(YEAR.values(years))),
            days=aws_days(month_days, weekdays),
        )
    )


def parse_cron(text: str, zone: ZoneInfo) -> Cron:
    """Read the five fields ``minute hour day-of-month month day-of-week``; names in any case.

    Raises:
        ScheduleInvalid: a field is not understood, or there is no such day.
    """
    fields = text.split()
    minutes, hours, month_days, months, weekdays = (field.upper() for field in fields)
    return _possible(
        Cron(
            text=" ".join(fields),
            zone=zone,
            minutes=tuple(sorted(MINUTE.values(minutes))),
            hours=tuple(sorted(HOUR.values(hours))),
            months=tuple(sorted(MONTH.values(months))),
            years=tuple(range(YEAR_FIRST, YEAR_LAST + 1)),
            days=cron_days(month_days, weekdays),
        )
    )


def _possible(cron: Cron) -> Cron:
    """Refuse what never happens, so that nobody waits for it."""
    if next(cron.dates(date(YEAR_FIRST, 1, 1)), None) is None:
        raise ScheduleInvalid(
            f'"{cron.text}" never runs: none of its months has such a day; '
            "allowed are days that day-of-month, month, day-of-week and year have together"
        )
    return cron
