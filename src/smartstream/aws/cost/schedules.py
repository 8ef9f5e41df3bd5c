"""How often AWS runs a schedule expression: rate(…), cron(…) and at(…)."""

from __future__ import annotations

import re

from smartstream.errors import TerraformInvalid

DAYS_PER_MONTH = 30
_MINUTES = {"minute": 1, "hour": 60, "day": 1440}
# Fields of cron(…) in their order, with their first and last value.
_FIELDS = {
    "minutes": (0, 59),
    "hours": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (1, 7),
    "year": (1970, 2199),
}
_WORDS = {
    **{name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)},
    **{
        name: number
        for number, name in enumerate(
            ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1
        )
    },
}


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
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", text)
    if rate and int(rate[1]):
        return DAYS_PER_MONTH * 1440 / (int(rate[1]) * _MINUTES[rate[2]])
    if re.fullmatch(r"at\(.+\)", text):
        return 1.0
    cron = re.fullmatch(r"cron\((.+)\)", text)
    if cron and len(cron[1].split()) == len(_FIELDS):
        return _cron(cron[1].split(), name)
    raise TerraformInvalid(f"{name}: {text} is not rate(…), at(…) or cron(…) with six fields")


def _cron(fields: list[str], name: str) -> float:
    """Runs of a cron expression."""
    counts = [
        _count(field, *limits, f"{name}: {label}")
        for field, (label, limits) in zip(fields, _FIELDS.items(), strict=True)
    ]
    minutes, hours, month_days, months, week_days, _ = counts
    # One of the two is ? or *, and the other says on which days.
    days = DAYS_PER_MONTH * week_days / 7 if week_days < 7 else min(month_days, DAYS_PER_MONTH)
    return minutes * hours * days * months / 12


def _count(field: str, first: int, last: int, where: str) -> int:
    """How many values a field allows."""
    if field in ("*", "?"):
        return last - first + 1
    return sum(_part(part, first, last, where) for part in field.split(","))


def _part(part: str, first: int, last: int, where: str) -> int:
    """How many values one part of a list allows."""
    if re.fullmatch(r"L|\d{1,2}L|L-\d{1,2}|LW|\d{1,2}W|\d#\d", part):  # one day of the month
        return 1
    span, _, step = part.partition("/")
    begin, _, end = span.partition("-")
    low = first if begin == "*" else _value(begin, first, last, where)
    high = _value(end, first, last, where) if end else (last if step or begin == "*" else low)
    if high < low or (step and not (step.isdigit() and int(step))):
        raise TerraformInvalid(f"{where}: {part} is not understood")
    return (high - low) // (int(step) if step else 1) + 1


def _value(text: str, first: int, last: int, where: str) -> int:
    """One value of a field, as a number or a name."""
    number = _WORDS.get(text.upper(), int(text) if text.isdigit() else -1)
    if not first <= number <= last:
        raise TerraformInvalid(f"{where}: {text} is not from {first} to {last}")
    return number
