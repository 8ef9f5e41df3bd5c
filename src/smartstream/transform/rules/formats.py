"""Formats of timestamps: patterns like ``%d.%m.%Y %H:%M``, ISO 8601 and epochs, as SQL.

DuckDB's ``strptime`` is lenient about white space and widths; so a regular expression
made from the pattern decides first whether a text has the format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from smartstream.sql_text import literal
from smartstream.transform.rules import types
from smartstream.transform.rules.casts import LOCAL_ISO, ZONED_ISO

UTC_MARK = 1 << 60
"""Added to microseconds that are UTC already; local ones stay far below."""
LOCAL_MAX = 1 << 59

US_MIN, US_MAX = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999."""
SECONDS_MAX = 253_402_300_800
"""Of an epoch; before 1970 this is out of range again, but not so far as to look like local time."""

EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_NUMBERS = {"m", "d", "H", "I", "M", "S"}
_OFFSET = r"(?:[zZ]|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)"
_FORMS = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "f": "[0-9]{1,6}",
    "b": f"(?i:{'|'.join(name[:3] for name in _MONTHS)})",
    "B": f"(?i:{'|'.join(_MONTHS)})",
    "a": f"(?i:{'|'.join(name[:3] for name in _DAYS)})",
    "A": f"(?i:{'|'.join(_DAYS)})",
    "p": "(?i:AM|PM)",
    "%": "%",
}
_DIGITS = {"Y", "y", "f", *_NUMBERS}
_PART = re.compile(r"%(.)|([^%]+)|(%)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        value: SQL over ``{old}``: microseconds, with ``UTC_MARK`` when they are of UTC; null if
            the value does not have the format.
    """

    value: str


def epoch(name: str, kind: pa.DataType) -> Format:
    """Return the format of a number of seconds, milli- or microseconds.

    Args:
        kind: of the values: text, whole numbers or decimals.
    """
    unit, limit = EPOCHS[name], SECONDS_MAX * 1_000_000 // EPOCHS[name]
    number = "TRY_CAST({old} AS DECIMAL(24, 6))"
    if types.is_text(kind):
        digits = len(str(unit)) - 1
        good = _like(rf"[+-]?[0-9]{{1,18}}(?:\.[0-9]{{0,{digits}}}0*)?")
    elif types.is_whole(kind):
        good, number = "true", "CAST({old} AS HUGEINT)"
    else:
        back = f"TRY_CAST({number} AS {types.sql_of(kind)})"
        good = f"{back} = {{old}} AND {number} * {unit} = trunc({number} * {unit})"
    good = f"{good} AND {number} BETWEEN -{limit} AND {limit}"
    return Format(f"CASE WHEN {good} THEN CAST({number} * {unit} AS BIGINT) + {UTC_MARK} END")


def iso() -> list[Format]:
    """Return ISO 8601 without and with an offset."""
    return [
        Format(f"CASE WHEN {_like(LOCAL_ISO)} THEN epoch_us(TRY_CAST({{old}} AS TIMESTAMP)) END"),
        Format(f"CASE WHEN {_like(ZONED_ISO)} THEN {_zoned('{old}')} END"),
    ]


def pattern(text: str) -> Format | str:
    """Return a pattern's format, or what is wrong with the pattern."""
    parts: list[tuple[str, str]] = [
        ("%", found[1]) if found[1] else ("text", found[2] or found[3]) for found in _PART.finditer(text)
    ]
    signs = [sign for kind, sign in parts if kind == "%"]
    problem = _problem(signs, parts)
    if problem:
        return problem
    zoned = signs[-1:] == ["z"]
    form = _form(parts[:-1] if zoned else parts)
    naive = text[: -len("%z")] if zoned else text
    if not zoned:
        local = f"epoch_us(TRY_CAST(try_strptime({{old}}, {literal(naive)}) AS TIMESTAMP))"
        return Format(f"CASE WHEN {_like(form)} THEN {local} END")
    head = f"regexp_extract({{old}}, {literal(f'^({form}){_OFFSET}$')}, 1)"
    tail = f"regexp_extract({{old}}, {literal(f'({_OFFSET})$')}, 1)"
    when = f"CAST(TRY_CAST(try_strptime({head}, {literal(naive)}) AS TIMESTAMP) AS VARCHAR)"
    return Format(f"CASE WHEN {_like(form + _OFFSET)} THEN {_zoned(f'({when} || {tail})')} END")


def _zoned(text: str) -> str:
    """Microseconds of UTC of a text with an offset."""
    return f"epoch_us(TRY_CAST({text} AS TIMESTAMP WITH TIME ZONE)) + {UTC_MARK}"


def _like(form: str) -> str:
    """Whether the value has a form."""
    return f"regexp_full_match({{old}}, {literal(form)})"


def _problem(signs: list[str], parts: list[tuple[str, str]]) -> str | None:
    """What is wrong with a pattern."""
    known = {*_FORMS, *_NUMBERS, "z"}
    for sign in signs:
        if sign not in known:
            return f"%{sign} is not known; known: {' '.join(f'%{one}' for one in sorted(known))}"
        if sign != "%" and signs.count(sign) > 1:
            return f"%{sign} stands twice"
    if any(kind == "text" and "%" in sign for kind, sign in parts):
        return "a % at the end means nothing; write %% for itself"
    given = set(signs)
    month = given & {"m", "b", "B"}
    if not given & {"Y", "y"} or "d" not in given or not month:
        return "a year, a month and a day are needed: %Y-%m-%d"
    if ("I" in given) != ("p" in given) or {"H", "I"} <= given:
        return "%I and %p belong together, and %H stands alone"
    if len(month) > 1 or {"Y", "y"} <= given:
        return "the date stands there twice"
    if "z" in given and parts[-1] != ("%", "z"):
        return "%z must be the last"
    return None


def _form(parts: list[tuple[str, str]]) -> str:
    """A regular expression for a pattern: exact but for leading zeros."""
    found = []
    for number, (kind, sign) in enumerate(parts):
        if kind == "text":
            found.append(re.escape(sign))
        elif sign in _NUMBERS:
            beside = [*parts[max(0, number - 1) : number], *parts[number + 1 : number + 2]]
            joined = any(other == "%" and one in _DIGITS for other, one in beside)
            found.append("[0-9]{2}" if joined else "[0-9]{1,2}")
        else:
            found.append(_FORMS[sign])
    return "".join(found)
