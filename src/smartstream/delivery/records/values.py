"""Values as DMS writes them, back to what PostgreSQL prints, and from there to types.

Where DMS has lost something that the record still shows, the value is *damaged*; what
it has lost without a trace (docs/formats/dms.md lists that) can't be told from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values import Cast, cast
from smartstream.delivery.records.options import INEXACT, LOB_CUT, Options
from smartstream.errors import ProtocolError
from smartstream.schema import DECIMAL_DIGITS_MAX, Column, Kind, PgType

EXACT_INTEGER_MAX = 1 << 53
"""Up to here a double has every integer."""
EXACT_DIGITS = 15
"""Decimals with no more digits survive a double."""
_EXPONENT_MAX = 400

_FLOATS = {Kind.FLOAT4: pa.float32(), Kind.FLOAT8: pa.float64()}
_INTEGERS = {Kind.INT2: pa.int16(), Kind.INT4: pa.int32(), Kind.INT8: pa.int64()}
_CUT_KINDS = {Kind.TEXT, Kind.JSON, Kind.ARRAY, Kind.OTHER}
_CLOCK_END = r"(:\d\d)(?:(\.\d*?[1-9])0*|\.0+)?(\+00)?( BC)?$"
_DAY = r"\d{4,}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d:\d\d(?:\.\d{1,6})?"
# What of a type its Arrow type may not hold, and PostgreSQL has nevertheless.
_UNTYPED = {
    Kind.DATE: rf"^{_DAY}(?: BC)?$",
    Kind.TIME: r"^24:00:00$",
    Kind.TIMESTAMP: rf"^{_DAY} {_CLOCK}(?: BC)?$",
    Kind.TIMESTAMPTZ: rf"^{_DAY} {_CLOCK}\+00(?: BC)?$",
    Kind.NUMERIC: r"^(?:-?\d+(?:\.\d+)?|NaN|-?Infinity)$",
}
_NO_LOB = re.compile(r"(character varying|varchar|name|refcursor)\b")
_UNBOUNDED = ("character varying", "varchar")
_UNBOUNDED_LENGTH = 8000
"""Characters of a varchar without a length: what DMS reserves for one."""


@dataclass(frozen=True, slots=True)
class Typed:
    """(n,) typed values and what is wrong with some.

    Attributes:
        texts: as PostgreSQL prints them, for those that are untyped; None if none are.
        damage: reasons with masks of the rows that they are about.
    """

    cast: Cast
    texts: pa.Array | None
    damage: tuple[tuple[str, pa.BooleanArray], ...] = ()


def parsed_type(type_: PgType, *, booleans: bool) -> pa.DataType:
    """The type in which the parser of JSON takes values; it keeps the digits of decimals."""
    if type_.kind is Kind.BOOL and booleans:
        return pa.bool_()
    if type_.kind is Kind.NUMERIC and pa.types.is_decimal(type_.arrow):
        # Twice the width, in which scaling 38 digits can't overflow; Arrow would wrap silently.
        return pa.decimal256(DECIMAL_DIGITS_MAX, type_.arrow.scale)
    return _INTEGERS.get(type_.kind) or _FLOATS.get(type_.kind) or pa.string()


def typed(values: pa.Array, column: Column, options: Options) -> Typed:
    """Values of one column, typed.

    Args:
        values: (n,) of ``parsed_type``, or strings with the digits as they were sent.
    Raises:
        ProtocolError: a value is not one of the column's type.
    """
    kind = column.type.kind
    if not pa.types.is_string(values.type):
        return Typed(_from_parsed(values, column.type), None)
    damage: list[tuple[str, pa.BooleanArray]] = []
    if kind in _INTEGERS or kind is Kind.NUMERIC:
        values, rounded = _plain_numbers(values, column.type)
        damage += [(INEXACT, rounded)] if rounded is not None else []
    cut = _cut(values, column.type, options)
    damage += [(LOB_CUT, cut)] if cut is not None else []
    if cut is not None and kind in (Kind.ARRAY, Kind.BYTEA):
        values = pc.if_else(cut, pa.scalar(None, pa.string()), values)
    texts = _as_printed(values, column.type)
    found = cast(texts, column.type)
    _check_untyped(found, texts, column.type)
    return Typed(found, texts, tuple(damage))


def _check_untyped(found: Cast, texts: pa.Array, type_: PgType) -> None:
    """What a type can't hold must at least be one of PostgreSQL's values."""
    pattern = _UNTYPED.get(type_.kind)
    if found.untyped is None or pattern is None:
        return
    if not pc.all(pc.match_substring_regex(texts.filter(found.untyped), pattern)).as_py():
        raise ProtocolError(f"a value is not a {type_.name}")


def _from_parsed(values: pa.Array, type_: PgType) -> Cast:
    """Numbers and truths that the parser has typed already."""
    if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
        raise ProtocolError(f"a value is not a {type_.name}")
    try:
        return Cast(values.cast(type_.arrow))
    except pa.ArrowInvalid as error:
        raise ProtocolError(f"a value has more digits than a {type_.name}") from error


def _as_printed(values: pa.Array, type_: PgType) -> pa.Array:
    """DMS's text as PostgreSQL prints it."""
    kind = type_.kind
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        return _stamps(values, "+00" if kind is Kind.TIMESTAMPTZ else "")
    if kind is Kind.BOOL:
        short = pc.replace_substring_regex(values, "^true$", "t")
        return pc.replace_substring_regex(short, "^false$", "f")
    if kind is Kind.BYTEA:
        return _hexadecimal(values)
    if kind is Kind.BPCHAR:  # its blanks at the end are cut off
        width = re.search(r"\((\d+)\)", type_.name)
        return pc.utf8_rpad(values, int(width[1])) if width else values
    return values


def _stamps(values: pa.Array, zone: str) -> pa.Array:
    """``2026-01-02T03:04:05.250000Z`` as ``2026-01-02 03:04:05.25+00``."""
    spaced = pc.replace_substring(values, "T", " ", max_replacements=1)
    texts = pc.replace_substring(spaced, "Z", zone, max_replacements=1)
    if pc.any(pc.match_substring_regex(texts, r" BC$|^\d{5,}")).as_py():
        return pc.replace_substring_regex(
            texts, r"(:\d\d)(?:(\.\d*?[1-9])0*|\.0+)?(\+00)?( BC)?$", r"\1\2\3\4"
        )
    return texts


def _hexadecimal(values: pa.Array) -> pa.Array:
    """``0x00ff`` as ``\\x00ff``; nothing else is a bytea, least of all PostgreSQL's escape form."""
    if pc.all(pc.match_substring_regex(values, "^0x(?:[0-9A-Fa-f]{2})*$")).as_py() is False:
        raise ProtocolError("a value is not a bytea")
    return pc.binary_join_element_wise("\\", pc.utf8_slice_codeunits(values, 1), "")


def _plain_numbers(values: pa.Array, type_: PgType) -> tuple[pa.Array, pa.BooleanArray | None]:
    """Scientific notation written out where that is exact; elsewhere null, and marked."""
    scientific = pc.fill_null(pc.match_substring_regex(values, r"^[-+]?[0-9.]+[eE]"), False)
    if not pc.any(scientific).as_py():
        return values, None
    texts = [written_out(text, type_) for text in values.filter(scientific).to_pylist()]
    plain = pc.replace_with_mask(values, scientific, pa.array(texts, pa.string()))
    rounded = pc.and_(scientific, pc.is_null(plain))
    return plain, rounded if pc.any(rounded).as_py() else None


def written_out(text: str, type_: PgType) -> str | None:
    """A number in scientific notation without it; None where it may have been another one.

    DMS writes so what has gone through a double.  An integer below 2^53 came through
    unharmed, and so did a numeric whose type has at most 15 digits.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    if abs(value.adjusted()) > _EXPONENT_MAX:
        return None
    if type_.kind in _INTEGERS:
        exact = abs(value) < EXACT_INTEGER_MAX and value == value.to_integral_value()
        return str(int(value)) if exact else None
    exact = type_.precision is not None and max(type_.precision, type_.scale or 0) <= EXACT_DIGITS
    return format(value, "f") if exact else None


def _cut(values: pa.Array, type_: PgType, options: Options) -> pa.BooleanArray | None:
    """Which values are as long as DMS lets large ones be; None when none is."""
    limit = options.lob_bytes_max
    if type_.kind is Kind.BYTEA:
        cut = pc.equal(pc.binary_length(values), 2 + 2 * limit)
    elif type_.name in _UNBOUNDED:
        cut = pc.equal(pc.utf8_length(values), _UNBOUNDED_LENGTH)
    elif type_.kind in _CUT_KINDS and not _NO_LOB.match(type_.name):
        long = pc.fill_null(pc.greater_equal(pc.binary_length(values), limit // 2 - 1), False)
        if not pc.any(long).as_py():
            return None
        found = [_is_cut(text, type_, limit) for text in values.filter(long).to_pylist()]
        cut = pc.replace_with_mask(pa.array([False] * len(values)), long, pa.array(found))
    else:
        return None
    cut = pc.fill_null(cut, False)
    return cut if pc.any(cut).as_py() else None


def _is_cut(text: str, type_: PgType, limit: int) -> bool:
    """Whether a text has the length at which DMS cuts.

    A character outside of the first plane counts twice and is never halved, so that one less
    may be all that is left.  Types like xml and tsvector are cut by their bytes.
    """
    units = len(text.encode("utf-16-le")) // 2
    if units in (limit // 2 - 1, limit // 2):
        return True
    return type_.kind is Kind.OTHER and limit - 3 <= len(text.encode()) <= limit
