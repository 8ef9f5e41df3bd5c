"""When something runs: ``rate(1 hour)``, EventBridge's ``cron(0 6 * * ? *)``, or ``0 6 * * *`` in a zone.

The one parser of such texts, for models here and for what runs cost on AWS.  Pure: the present is an
argument.  ``cron`` says what happens when clocks change.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from smartstream.errors import ScheduleInvalid
from smartstream.inference.schedule.cron import Cron, parse_aws, parse_cron
from smartstream.inference.schedule.rate import Rate, parse_rate

__all__ = ["Cron", "Rate", "Schedule", "due", "parse_schedule"]

TEXT_LENGTH_MAX = 1000
ON_TIME = timedelta(minutes=1)
"""No schedule is finer than this, so what is later than this has been missed."""


class Schedule(Protocol):
    """Moments, without beginning or end as far as anyone cares; ``str()`` is the text it was read from."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first run later than an aware moment, or None when there is none."""
        ...

    def previous_before(self, moment: datetime) -> datetime | None:
        """The last run earlier than an aware moment, or None when there is none."""
        ...


def parse_schedule(text: str, zone: str = "UTC") -> Schedule:
    """Read a schedule.

    Args:
        text: ``rate(…)``, ``cron(…)`` with EventBridge's six fields, or five fields of cron.
        zone: IANA name; whose clocks the five fields mean.  ``rate`` knows no clocks; ``cron(…)`` is in
            UTC, as EventBridge's rules are, and refuses another zone rather than to run at another hour
            here than there.
    Raises:
        ScheduleInvalid: says which field, what stood there and what is allowed.
    """
    text, clocks = text.strip(), _zone(zone)
    if len(text) > TEXT_LENGTH_MAX:
        raise ScheduleInvalid(f"a schedule has {len(text)} characters; allowed are {TEXT_LENGTH_MAX}")
    if text.startswith("rate"):
        return parse_rate(text)
    if text.startswith("cron("):
        if clocks.key != "UTC":
            raise ScheduleInvalid(
                f'zone is "{zone}" with "{text}": cron(…) is in UTC; '
                "allowed are UTC, or the five fields minute hour day-of-month month day-of-week"
            )
        return parse_aws(text)
    if len(text.split()) == 5:
        return parse_cron(text, clocks)
    raise ScheduleInvalid(
        f'schedule is "{text}"; allowed are rate(1 hour), cron(minute hour day-of-month month day-of-week '
        "year), or the five fields minute hour day-of-month month day-of-week"
    )


def due(
    schedule: Schedule,
    *,
    last_run_started: datetime | None,
    now: datetime,
    catch_up: bool,
    on_time: timedelta = ON_TIME,
) -> datetime | None:
    """Return the moment to run for now, None when it is not yet time.

    Runs that were missed become one, for the latest of them: a run looks at all that has changed since
    the last one, so running it twice would find nothing.

    ``rate`` counts from the start of the last run, and runs at once when there was none: it has no place
    on the clock, and so neither a restart nor a run by hand ever brings two runs closer together than it
    says.  ``cron`` that has never run waits for its next time; nothing was missed before it existed.

    Args:
        last_run_started: whoever started it, the clock or a person; in the future, when clocks were set
            back, nothing is due until then.
        now: aware.
        catch_up: whether a run that was missed is due.
        on_time: how late a run may be without being missed; longer than the caller waits between looks.
    """
    if last_run_started is None and isinstance(schedule, Rate):
        return now
    latest = _latest(schedule, last_run_started, now)
    if latest is None or (last_run_started is not None and latest <= last_run_started):
        return None
    missed = now - latest > on_time
    return None if missed and (last_run_started is None or not catch_up) else latest


def _latest(schedule: Schedule, last_run_started: datetime | None, now: datetime) -> datetime | None:
    """The latest moment of a schedule that is not after now."""
    if isinstance(schedule, Rate):
        assert last_run_started is not None, "the first run is due at once"
        return last_run_started + (now - last_run_started) // schedule.every * schedule.every
    return schedule.previous_before(now + timedelta(microseconds=1))


def _zone(name: str) -> ZoneInfo:
    """A time zone by its name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleInvalid(
            f'zone is "{name}"; allowed are names of the tz database like UTC or Europe/Berlin'
        ) from error
