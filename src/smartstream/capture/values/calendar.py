"""PostgreSQL's text of dates and timestamps that Python's datetime can't hold.

Numbers are PostgreSQL's own: days or microseconds since 2000-01-01, the ends of
their ranges standing for ±infinity.
"""

from __future__ import annotations

_DAY_US = 86_400_000_000
_DAYS_TO_2000 = 730_425  # from 0000-03-01, proleptic Gregorian


def date_text(day: int) -> str:
    """A date as DateStyle ISO prints it."""
    if day in (2**31 - 1, -(2**31)):
        return "infinity" if day > 0 else "-infinity"
    year, month, number = _civil(day)
    return f"{_year(year)}-{month:02d}-{number:02d}{_era(year)}"


def timestamp_text(us: int, zone: str = "") -> str:
    """A timestamp as DateStyle ISO prints it; ``zone`` is ``+00`` for timestamptz in UTC."""
    if us in (2**63 - 1, -(2**63)):
        return "infinity" if us > 0 else "-infinity"
    day, rest = divmod(us, _DAY_US)
    year, month, number = _civil(day)
    seconds, fraction = divmod(rest, 1_000_000)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    decimals = f".{fraction:06d}".rstrip("0") if fraction else ""
    clock = f"{hours:02d}:{minutes:02d}:{seconds:02d}{decimals}{zone}"
    return f"{_year(year)}-{month:02d}-{number:02d} {clock}{_era(year)}"


def _year(year: int) -> str:
    """Year as printed: 1 BC is the year 0."""
    return f"{year if year > 0 else 1 - year:04d}"


def _era(year: int) -> str:
    """The suffix of years before 1 AD."""
    return "" if year > 0 else " BC"


def _civil(day: int) -> tuple[int, int, int]:
    """Year, month, day of a day number; eras of 400 years begin on March 1st, year 0.

    Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    """
    era, of_era = divmod(day + _DAYS_TO_2000, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1
