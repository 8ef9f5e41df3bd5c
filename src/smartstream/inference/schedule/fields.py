"""One field of a cron expression: values, names, ranges, lists and steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from smartstream.errors import ScheduleInvalid

_PART = re.compile(r"(?:\*|(?P<low>[A-Z]+|[0-9]+)(?:-(?P<high>[A-Z]+|[0-9]+))?)(?:/(?P<step>[0-9]{1,4}))?")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

YEAR_FIRST, YEAR_LAST = 1970, 2199
"""Years that EventBridge knows; no schedule is looked for outside of them."""


@dataclass(frozen=True, slots=True)
class Field:
    """What may stand in a field.

    Attributes:
        first, last: smallest and greatest value.
        names: other ways to write values, in capitals.
        also: what it may be instead, for the error.
    """

    name: str
    first: int
    last: int
    names: Mapping[str, int] = field(default_factory=dict)
    also: str = ""

    def values(self, text: str) -> frozenset[int]:
        """Return the values that ``text`` stands for.

        ``7/10`` is 7, 17, 27 and so on to the greatest value, as EventBridge reads it.

        Raises:
            ScheduleInvalid: it is not a list of values, ranges and steps.
        """
        return frozenset(value for part in text.split(",") for value in self._part(part, text))

    def value(self, text: str, whole: str) -> int:
        """Return one value, written as a number or a name; ``whole`` is the field, for the error."""
        number = self.names.get(text, int(text) if re.fullmatch("[0-9]{1,4}", text) else None)
        if number is None or not self.first <= number <= self.last:
            self.refuse(whole, f"{text} is no value")
        return number

    def refuse(self, whole: str, what: str) -> NoReturn:
        """Raise ScheduleInvalid, with what is allowed."""
        names = f" or {next(iter(self.names))} to {list(self.names)[-1]}" if self.names else ""
        also = f", or {self.also}" if self.also else ""
        raise ScheduleInvalid(
            f'{self.name} is "{whole}": {what}; allowed are {self.first} to {self.last}{names}, '
            f"lists (1,2), ranges (1-2), steps (*/2) and *{also}"
        )

    def _part(self, part: str, whole: str) -> Iterator[int]:
        """The values of one part of a list."""
        found = _PART.fullmatch(part)
        if found is None:
            self.refuse(whole, f"{part or 'nothing'} is not understood")
        low = self.first if found["low"] is None else self.value(found["low"], whole)
        high = low if found["low"] and not found["step"] else self.last
        if found["high"]:
            high = self.value(found["high"], whole)
        step = int(found["step"] or 1)
        if high < low:
            self.refuse(whole, f"the range {part} ends before it begins")
        if not 1 <= step <= self.last:
            self.refuse(whole, f"{step} is no step")
        return iter(range(low, high + 1, step))


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
MONTH = Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)})
YEAR = Field("year", YEAR_FIRST, YEAR_LAST)
MONTH_DAY = Field("day-of-month", 1, 31)
WEEKDAY = Field("day-of-week", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)})
"""Of the 5 fields: Sunday is 0, and 7 as well."""
AWS_MONTH_DAY = Field("day-of-month", 1, 31, also="one of ? L LW 15W alone")
AWS_WEEKDAY = Field(
    "day-of-week",
    1,
    7,
    {name: number for number, name in enumerate(_WEEKDAYS, 1)},
    also="one of ? L 6L 6#2 alone",
)
"""Of EventBridge: Sunday is 1."""
