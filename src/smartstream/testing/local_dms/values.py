"""How DMS names PostgreSQL's types in Kinesis records, and how it writes their values.

From AWS's documentation of PostgreSQL as a source where that says it, and from published
records where it does not: types of columns are INT32, STRING and TIMESTAMP there, in place of
DMS's INT4, WSTRING or NCLOB and DATETIME, and moments end with Z whether they had a zone or
not.  Where neither says it, the choice here shows damage instead of hiding it: numbers that
JSON doesn't have (NaN, Infinity) are strings.  Intervals stay as PostgreSQL writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext

from smartstream.testing.local_dms.settings import KinesisOptions, SourceOptions

Render = Callable[[str], str]
"""From a value as PostgreSQL writes it to a value of JSON."""

INTEGERS = {"int2": "INT16", "int4": "INT32", "int8": "INT64"}
FLOATS = {"float4": "FLOAT", "float8": "DOUBLE"}
# Lengths of what becomes text, as AWS's table of types gives them.
LENGTHS = {
    "cidr": 50,
    "inet": 50,
    "macaddr": 18,
    "interval": 128,
    "point": 255,
    "line": 255,
    "lseg": 255,
    "box": 255,
    "circle": 255,
    "name": 63,
    "uuid": 36,
}
ONE_BYTE_LOBS = {"tsvector", "tsquery", "xml", "path", "polygon"}
TWO_BYTE_LOBS = {"text", "json", "jsonb", "hstore"}
UNBOUNDED_VARCHAR = 8_000
DIGITS_MAX = 38
PLAIN_NUMERIC = (28, 6)
INTEGER_DIGITS_MAX, LARGE_INTEGER_DIGITS_MAX = 16, 18
# What DMS makes of infinity.
LATEST, EARLIEST = "9999-12-31 23:59:59", "4713-01-01 00:00:00 BC"

_MOMENT = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:\+00)?( BC)?")
_CLOCK = re.compile(r"(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:[+-][\d:]+)?")


class LobTruncated(Exception):
    """A large object is longer than the task takes, and the endpoint fails tasks for that."""


@dataclass(frozen=True)
class PostgresType:
    """A column's type below its domains.

    Attributes:
        name: in ``pg_type``.
        kind: ``typtype``: b(ase), e(num), c(omposite), r(ange), m(ultirange).
        modifier: ``atttypmod``, -1 without.
    """

    name: str
    kind: str
    is_array: bool
    modifier: int


@dataclass(frozen=True)
class ColumnType:
    """A column's type as records describe it, and how its values are written.

    Attributes:
        length: of text, None where the records name none.
        numeric: precision and scale of NUMERIC.
        is_lob: DMS treats its values as large objects.
    """

    name: str
    render: Render
    length: int | None = None
    numeric: tuple[int, int] | None = None
    is_lob: bool = False


def column_type(
    found: PostgresType, source: SourceOptions, target: KinesisOptions, lob_kb_max: int | None
) -> ColumnType | None:
    """Return how a type arrives; None for large objects where the task doesn't take them."""
    limit = 0 if lob_kb_max is None else lob_kb_max * 1024
    lob = _large_object(found, source, target, limit)
    if lob is not None:
        return None if lob_kb_max is None else lob
    if found.name in INTEGERS:
        return ColumnType(INTEGERS[found.name], _integer(target.use_large_integer_value))
    if found.name in FLOATS:
        return ColumnType(FLOATS[found.name], _number)
    if found.name == "numeric":
        return _numeric_type(found.modifier)
    if found.name == "money":
        return ColumnType("NUMERIC", lambda text: re.sub(r"[^0-9.-]", "", text), numeric=(38, 4))
    if found.name == "bool":
        if source.map_boolean_as_boolean:
            return ColumnType("BOOLEAN", _boolean)
        return ColumnType("STRING", lambda text: f'"{_boolean(text)}"', 5)
    if found.name == "date":
        return ColumnType("DATE", lambda text: json.dumps(_bounded(text, " ")))
    if found.name in ("timestamp", "timestamptz"):
        return ColumnType("TIMESTAMP", _moment)
    if found.name in ("time", "timetz"):
        return ColumnType("TIME", _clock)
    return _text_type(found, source)


def _large_object(
    found: PostgresType, source: SourceOptions, target: KinesisOptions, limit: int
) -> ColumnType | None:
    """A type whose values are LOBs: arrays and composites are, too."""
    fails = source.fail_tasks_on_lob_truncation
    if found.name == "bytea" and not found.is_array:
        return ColumnType("BLOB", _binary("" if target.no_hex_prefix else "0x", limit, fails), is_lob=True)
    if found.name in ONE_BYTE_LOBS and not found.is_array:
        return ColumnType("STRING", _cut(limit, "utf-8", fails), is_lob=True)
    if found.name in TWO_BYTE_LOBS or found.is_array or found.kind == "c":
        return ColumnType("STRING", _cut(limit, "utf-16-le", fails), is_lob=True)
    return None


def _text_type(found: PostgresType, source: SourceOptions) -> ColumnType:
    """A type that arrives as text of some length."""
    if found.name == "bpchar":
        length = max(found.modifier - 4, 1)
        if source.trim_space_in_char:
            return ColumnType("STRING", lambda text: _quoted(text.rstrip(" ")), length)
        return ColumnType("STRING", _quoted, length)
    if found.name == "varchar":
        length = found.modifier - 4 if found.modifier > 4 else UNBOUNDED_VARCHAR
        return ColumnType("STRING", lambda text: _quoted(text[:length]), length)
    if found.name in ("bit", "varbit"):
        return ColumnType("STRING", _quoted, max(found.modifier, 1))
    length = LENGTHS.get(found.name, 64 if found.kind == "e" else 255)
    return ColumnType("STRING", _quoted, length)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _integer(is_large: bool) -> Render:
    """Integers of more than 16 digits (18 where the endpoint takes large ones) go through a double."""
    digits_max = LARGE_INTEGER_DIGITS_MAX if is_large else INTEGER_DIGITS_MAX

    def render(text: str) -> str:
        return text if len(text.lstrip("-")) <= digits_max else repr(float(text)).replace("e", "E")

    return render


def _number(text: str) -> str:
    return text if text[-1].isdigit() else f'"{text}"'


def _numeric_type(modifier: int) -> ColumnType:
    """NUMERIC(p,s) is exact up to 38 digits; without precision it becomes NUMERIC(28,6)."""
    if modifier < 4:
        return ColumnType("NUMERIC", _plain_numeric, numeric=PLAIN_NUMERIC)
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    scale = scale - 0x800 if scale > 0x3FF else scale
    if precision > DIGITS_MAX:
        return ColumnType("STRING", _quoted, precision)
    return ColumnType("NUMERIC", _number, numeric=(precision, scale))


def _plain_numeric(text: str) -> str:
    """Six digits after the point; a number that has more than 22 before it goes through a double."""
    if not text[-1].isdigit():
        return f'"{text}"'
    precision, scale = PLAIN_NUMERIC
    with localcontext(prec=20_000):
        value = Decimal(text).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    if value.adjusted() >= precision - scale:
        return repr(float(value)).replace("e", "E")
    return format(value, "f")


def _boolean(text: str) -> str:
    return "true" if text in ("t", "true") else "false"


def _bounded(text: str, until: str) -> str:
    """A moment, infinity as DMS has it; of a date only what stands before the time."""
    found = {"infinity": LATEST, "-infinity": EARLIEST}.get(text)
    return text if found is None else found.partition(until)[0] + (" BC" if found == EARLIEST else "")


def _moment(text: str) -> str:
    """A moment in ISO 8601 with Z, with six digits of a second's fraction where there is one."""
    found = _MOMENT.fullmatch({"infinity": LATEST, "-infinity": EARLIEST}.get(text, text))
    if found is None:
        raise ValueError("PostgreSQL writes no moment like this one in UTC")
    fraction = f".{found[3]:0<6}" if found[3] else ""
    return f'"{found[1]}T{found[2]}{fraction}Z{found[4] or ""}"'


def _clock(text: str) -> str:
    """A time of day; its zone is lost."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError("PostgreSQL writes no time of day like this one")
    fraction = f".{found[2]:0<6}" if found[2] else ""
    return f'"{found[1]}{fraction}"'


def _cut(limit: int, encoding: str, fails: bool) -> Render:
    """Text, cut off at a number of bytes; DMS counts two for each character of most types."""

    def render(text: str) -> str:
        if len(text) * 4 > limit:
            encoded = text.encode(encoding)
            if len(encoded) > limit:
                if fails:
                    raise LobTruncated
                text = encoded[:limit].decode(encoding, errors="ignore")
        return json.dumps(text, ensure_ascii=False)

    return render


def _binary(prefix: str, limit: int, fails: bool) -> Render:
    """Hexadecimal digits, cut off at a number of bytes."""

    def render(text: str) -> str:
        digits = text.removeprefix("\\x")
        if len(digits) > 2 * limit and fails:
            raise LobTruncated
        return f'"{prefix}{digits[: 2 * limit]}"'

    return render
