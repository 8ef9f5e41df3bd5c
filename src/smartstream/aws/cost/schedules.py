"""How often AWS runs a schedule expression: rate(…), cron(…) and at(…)."""

from __future__ import annotations

import re
from datetime import timedelta

from smartstream.errors import ScheduleInvalid, TerraformInvalid
from smartstream.inference.schedule import Cron, Rate, parse_schedule
from smartstream.inference.schedule.days import DayRule, MonthDays, WeekDays

DAYS_PER_MONTH = 30


def runs_per_month(expression: str | None, name: str) -> float:
    """Return how often a schedule runs in a month of 30 days.

    No expression is a schedule that is run by hand: 0.  ``at`` runs once.  The
    years of a cron expression are ignored.

    Args:
        name: of the variable, for the error.
    Raises:
        TerraformInvalid: it is none of the forms that AWS understands.
    """
    text = (expression or "").strip()
    if not text:
        return 0.0
    if re.fullmatch(r"at\(.+\)", text):
        return 1.0
    if not text.startswith(("rate(", "cron(")):
        raise TerraformInvalid(f"{name}: {text} is not rate(…), at(…) or cron(…) with six fields")
    try:
        schedule = parse_schedule(text)
    except ScheduleInvalid as error:
        raise TerraformInvalid(f"{name}: {error}") from error
    if isinstance(schedule, Rate):
        return timedelta(days=DAYS_PER_MONTH) / schedule.every
    assert isinstance(schedule, Cron)
    return len(schedule.minutes) * len(schedule.hours) * _days(schedule.days) * len(schedule.months) / 12


def _days(rule: DayRule) -> float:
    """How many days of a month a rule means."""
    if isinstance(rule, MonthDays):
        return float(min(len(rule.numbers), DAYS_PER_MONTH))
    if isinstance(rule, WeekDays):
        return DAYS_PER_MONTH * len(rule.weekdays) / 7
    return 1.0  # L, LW, 15W, 6L and 6#2 are one day each
