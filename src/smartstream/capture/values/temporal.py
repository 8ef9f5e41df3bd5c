"""Dates, times and timestamps, as DateStyle ISO prints them in a UTC session.

Arrow's kernels read them; what they refuse (±infinity, BC, years after 9999, 24:00) is
untyped.  calendar.py knows the text of such values when they come as numbers.

Source: PostgreSQL manual, "Date/Time Types".
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values.typed import Cast, Convert, convert_clean
from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType

DATE_MIN, DATE_MAX = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31 in days since 1970
_DAY_US = 86_400_000_000
STAMP_MIN, STAMP_MAX = DATE_MIN * _DAY_US, (DATE_MAX + 1) * _DAY_US - 1  # µs since 1970


def dates(text: pa.Array, type_: PgType) -> Cast:
    """Dates of the years 0001 to 9999."""
    cast = _convert(text, lambda values: values.cast(type_.arrow), r"^\d{4}-\d\d-\d\d$", type_)
    return _since(cast, cast.values.cast(pa.int32()), DATE_MIN)


def timestamps(text: pa.Array, type_: PgType) -> Cast:
    """Timestamps of the years 0001 to 9999."""
    zone = r"\+00" if type_.kind is Kind.TIMESTAMPTZ else ""
    pattern = rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{{1,6}})?{zone}$"
    cast = _convert(text, lambda values: values.cast(type_.arrow), pattern, type_)
    return _since(cast, cast.values.cast(pa.int64()), STAMP_MIN)


def times(text: pa.Array, type_: PgType) -> Cast:
    """Times of day; 24:00:00 is untyped."""

    def convert(values: pa.Array) -> pa.Array:
        # Arrow reads timestamps but not times.
        stamps = pc.binary_join_element_wise("1970-01-01", values, " ").cast(pa.timestamp("us"))
        return stamps.cast(pa.int64()).cast(type_.arrow)

    return _convert(text, convert, r"^([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,6})?$", type_)


def _convert(text: pa.Array, convert: Convert, pattern: str, type_: PgType) -> Cast:
    """Convert the whole column; if that fails, what matches."""
    try:
        return Cast(convert(text))
    except pa.ArrowInvalid:
        return convert_clean(text, convert, pattern, what=type_.name)


def _since(cast: Cast, numbers: pa.Array, low: int) -> Cast:
    """The same, if no value lies before the year 1: PostgreSQL has no year 0, Arrow has."""
    first = pc.min(numbers).as_py()
    if first is not None and first < low:
        raise ProtocolError("a value is of the year 0000, which PostgreSQL does not have")
    return cast
