"""``rate(1 hour)``: again when some time has passed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from smartstream.errors import ScheduleInvalid

EVERY_MAX = timedelta(days=36_500)
_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_RATE = re.compile(r"rate\(([1-9][0-9]{0,8}) (minute|hour|day)(s?)\)")


@dataclass(frozen=True, slots=True)
class Rate:
    """Runs at equal distances; a day has 24 hours, whatever the clocks of a zone do."""

    text: str
    every: timedelta

    def __str__(self) -> str:
        return self.text

    def next_after(self, moment: datetime) -> datetime | None:
        """The run that follows one at ``moment``; None past the end of the calendar."""
        try:
            return moment + self.every
        except OverflowError:
            return None

    def previous_before(self, moment: datetime) -> datetime | None:
        """The run that a run at ``moment`` follows; None before the beginning of the calendar."""
        try:
            return moment - self.every
        except OverflowError:
            return None


def parse_rate(text: str) -> Rate:
    """Read ``rate(1 minute|hour|day)`` or ``rate(N minutes|hours|days)``.

    Raises:
        ScheduleInvalid: it is neither; as with EventBridge the unit is singular with 1 and only then.
    """
    found = _RATE.fullmatch(text)
    if found is None or (found[1] == "1") == bool(found[3]):
        raise ScheduleInvalid(
            f'rate is "{text}"; allowed are rate(1 minute), rate(1 hour), rate(1 day), and '
            "rate(N minutes), rate(N hours), rate(N days) with N from 2 on"
        )
    count, unit = int(found[1]), _UNITS[found[2]]
    if count * unit > EVERY_MAX:
        raise ScheduleInvalid(f'rate is "{text}"; allowed are at most {EVERY_MAX.days} days')
    return Rate(text, count * unit)
