"""Text to typed values, whole columns at a time, exactly or not at all.

Each family has a fast path, one Arrow kernel over the column, and an exact one for
the columns that hold values which the kernel refuses.  A value that its Arrow type
cannot hold is null in the result and marked *untyped*; the caller keeps its text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType


@dataclass(frozen=True, slots=True)
class Cast:
    """(n,) typed values, and which inputs they can't hold (None: all are held)."""

    values: pa.Array
    untyped: pa.BooleanArray | None = None


def cast(text: pa.Array, type_: PgType) -> Cast:
    """Return PostgreSQL's text as values of ``type_.arrow``.

    Args:
        text: (n,) string or binary, null for NULL.
    Raises:
        ProtocolError: the text is not UTF-8, or not what a server prints for the type.
    """
    from smartstream.capture.values.arrays import cast_arrays  # arrays cast their elements

    if pa.types.is_binary(text.type):
        text = _utf8(text)
    if type_.kind is Kind.ARRAY:
        return cast_arrays(text, type_)
    return _FAMILIES.get(type_.kind, _keep)(text, type_)


def _utf8(binary: pa.Array) -> pa.Array:
    """The same bytes as text; Arrow checks them."""
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ProtocolError("a value is not UTF-8") from error


def _keep(text: pa.Array, type_: PgType) -> Cast:
    """Types that are carried as text."""
    return Cast(text)


def _numbers(text: pa.Array, type_: PgType) -> Cast:
    """Integers and floats: every value that a server prints can be held."""
    try:
        return Cast(text.cast(type_.arrow))
    except pa.ArrowInvalid as error:
        raise ProtocolError(f"a value is not a {type_.name}") from error


def _booleans(text: pa.Array, type_: PgType) -> Cast:
    """``t`` and ``f``."""
    values = pc.equal(text, "t")
    if pc.any(pc.not_equal(pc.if_else(values, "t", "f"), text)).as_py():
        raise ProtocolError("a value is not a boolean")
    return Cast(values)


def _numerics(text: pa.Array, type_: PgType) -> Cast:
    """Decimals; NaN, infinities and numbers with too many digits are untyped."""
    target = type_.arrow
    if not pa.types.is_decimal(target):
        return Cast(text)

    whole = target.precision - target.scale
    if whole and _few_digits(text, whole, target.scale):
        try:
            return Cast(text.cast(target))
        except pa.ArrowInvalid:
            pass  # NaN or infinity: the exact path below
    # 1.500 has scale 3 but fits in scale 1: zeros at the end carry no value.
    shortened = pc.replace_substring_regex(text, r"(\.\d*?)0+$", r"\1")
    pattern = rf"^-?(0|[1-9]\d{{0,{whole - 1}}})" if whole else "^-?0"
    clean = pc.match_substring_regex(shortened, pattern + rf"(\.\d{{0,{target.scale}}})?$")
    return _cast_clean(shortened, clean, lambda values: values.cast(target))


def _few_digits(text: pa.Array, whole: int, scale: int) -> bool:
    """Whether no value has more digits before or behind the point than fit.

    Arrow's cast to decimal needs this guard: of texts with too many digits it makes
    wrong numbers without an error (pyarrow 26).
    """
    length, point = pc.binary_length(text), pc.find_substring(text, ".")
    has_point = pc.greater_equal(point, 0)
    before = pc.subtract(pc.if_else(has_point, point, length), pc.starts_with(text, "-").cast(pa.int32()))
    behind = pc.if_else(has_point, pc.subtract(pc.subtract(length, point), 1), 0)
    fits = pc.and_(pc.less_equal(before, whole), pc.less_equal(behind, scale))
    return bool(pc.all(fits, min_count=0).as_py())


def _dates(text: pa.Array, type_: PgType) -> Cast:
    """Dates of the years 0001 to 9999."""
    return _clean_cast(text, r"^\d{4}-\d\d-\d\d$", lambda values: values.cast(type_.arrow))


def _timestamps(text: pa.Array, type_: PgType) -> Cast:
    """Timestamps of the years 0001 to 9999; with time zone, printed in a UTC session."""
    zone = r"\+00" if type_.kind is Kind.TIMESTAMPTZ else ""
    pattern = rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{{1,6}})?{zone}$"
    return _clean_cast(text, pattern, lambda values: values.cast(type_.arrow))


def _times(text: pa.Array, type_: PgType) -> Cast:
    """Times of day; 24:00:00 is untyped."""

    def convert(values: pa.Array) -> pa.Array:
        # Arrow casts text to timestamps but not to times.
        stamps = pc.binary_join_element_wise("1970-01-01", values, " ").cast(pa.timestamp("us"))
        return stamps.cast(pa.int64()).cast(type_.arrow)

    return _clean_cast(text, r"^([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,6})?$", convert)


def _clean_cast(text: pa.Array, pattern: str, convert: Callable[[pa.Array], pa.Array]) -> Cast:
    """Convert the whole column; if that fails, the values that match; the others are untyped."""
    try:
        return Cast(convert(text))
    except pa.ArrowInvalid:
        return _cast_clean(text, pc.match_substring_regex(text, pattern), convert)


def _cast_clean(text: pa.Array, clean: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> Cast:
    """Convert the ``clean`` values; the others are untyped."""
    values = pc.if_else(clean, text, pa.scalar(None, pa.string()))
    try:
        return Cast(convert(values), pc.fill_null(pc.invert(clean), False))
    except pa.ArrowInvalid as error:
        raise ProtocolError("a value is not what its type prints") from error


_HEX = np.full(256, 255, np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _HEX[list(_digits)] = np.arange(16, dtype=np.uint8)


def _bytes(text: pa.Array, type_: PgType) -> Cast:
    """bytea in hexadecimal form, ``\\x00ff``."""
    if len(text) == text.null_count:
        return Cast(pa.nulls(len(text), pa.binary()))
    text = pa.concat_arrays([text]) if text.offset == 0 else pa.array(text.to_pylist(), pa.string())
    offsets = np.frombuffer(text.buffers()[1], np.int32)[: len(text) + 1].astype(np.int64)
    data = np.frombuffer(text.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    present = text.is_valid().to_numpy(zero_copy_only=False)
    begin, size = offsets[:-1][present], np.diff(offsets)[present]
    if (
        (size < 2).any()
        or (size % 2).any()
        or (data[begin] != ord("\\")).any()
        or (data[begin + 1] != ord("x")).any()
    ):
        raise ProtocolError("a bytea is not in hexadecimal form: bytea_output must be hex")
    keep = np.zeros(len(data), np.bool_)
    marks = np.zeros(len(data) + 1, np.int8)
    np.add.at(marks, begin + 2, 1)
    np.add.at(marks, begin + size, -1)
    keep[:] = np.cumsum(marks[:-1]) > 0
    digits = _HEX[data[keep]]
    if (digits == 255).any():
        raise ProtocolError("a bytea holds something else than hexadecimal digits")
    sizes = np.zeros(len(text), np.int64)
    sizes[present] = (size - 2) // 2
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    buffer = pa.py_buffer(np.ascontiguousarray(digits[0::2] << 4 | digits[1::2]))
    mask = None if present.all() else pa.array(present).buffers()[1]
    return Cast(pa.Array.from_buffers(pa.binary(), len(text), [mask, pa.py_buffer(ends), buffer]))


_FAMILIES: dict[Kind, Callable[[pa.Array, PgType], Cast]] = {
    Kind.INT2: _numbers,
    Kind.INT4: _numbers,
    Kind.INT8: _numbers,
    Kind.FLOAT4: _numbers,
    Kind.FLOAT8: _numbers,
    Kind.BOOL: _booleans,
    Kind.NUMERIC: _numerics,
    Kind.DATE: _dates,
    Kind.TIME: _times,
    Kind.TIMESTAMP: _timestamps,
    Kind.TIMESTAMPTZ: _timestamps,
    Kind.BYTEA: _bytes,
}
