"""Integers, floats, booleans and numerics.

Source: PostgreSQL manual, "Numeric Types", "Boolean Type".
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values.typed import Cast, convert_clean, holds
from smartstream.errors import ProtocolError
from smartstream.schema import DECIMAL_DIGITS_MAX, Kind, PgType


def integers(text: pa.Array, type_: PgType) -> Cast:
    """Every integer that a server prints can be held."""
    try:
        if type_.kind is Kind.INT2:  # carried in 32 bits, but never larger than 16
            return Cast(text.cast(pa.int16()).cast(type_.arrow))
        return Cast(text.cast(type_.arrow))
    except pa.ArrowInvalid as error:
        raise ProtocolError(f"a value is not a {type_.name}") from error


def floats(text: pa.Array, type_: PgType) -> Cast:
    """Floats with NaN, infinities and -0; the shortest text that PostgreSQL prints is exact."""
    try:
        values = text.cast(type_.arrow)
    except pa.ArrowInvalid as error:
        raise ProtocolError(f"a value is not a {type_.name}") from error
    infinite = pc.is_inf(values)
    if pc.any(infinite).as_py():  # Arrow reads what is too large as infinite too
        spelled = pc.ends_with(text.filter(infinite), "Infinity")
        if not holds(spelled):
            raise ProtocolError(f"a value is not a {type_.name}")
    return Cast(values)


def booleans(text: pa.Array, type_: PgType) -> Cast:
    """``t`` and ``f``."""
    values = pc.equal(text, "t")
    if not holds(pc.or_(values, pc.equal(text, "f"))):
        raise ProtocolError("a value is not a boolean")
    return Cast(values)


def numerics(text: pa.Array, type_: PgType) -> Cast:
    """Decimals; NaN, infinities and numbers with more digits than the type has are untyped.

    Arrow's own cast *wraps silently* when the digits, scaled, pass 128 bits (measured
    with pyarrow 26: 742339135128645349171.159083016 as decimal(38,18) gives
    61774401286768422244.409…).  So it only sees texts which are too short for that.
    """
    target = type_.arrow
    if not pa.types.is_decimal(target):
        return Cast(text)
    if _fits_128_bits(text, target.scale):
        try:
            return Cast(text.cast(target))
        except pa.ArrowInvalid:
            pass  # some value doesn't fit the type: find out which
    return _exact(text, type_)


def _exact(text: pa.Array, type_: PgType) -> Cast:
    """The numbers that the type holds; those that don't match at once get a second look."""
    target = type_.arrow
    whole = target.precision - target.scale
    digits = rf"(0|[1-9]\d{{0,{whole - 1}}})" if whole else "0"
    pattern = rf"^-?{digits}(\.\d{{0,{target.scale}}})?$"

    def convert(values: pa.Array) -> pa.Array:
        return values.cast(target)

    first = convert_clean(text, convert, pattern, what=type_.name)
    if first.untyped is None:
        return first
    # Zeros at the end carry no value: 1.500 fits in a scale of 1.
    shortened = pc.replace_substring_regex(text.filter(first.untyped), r"(\.\d*?)0+$", r"\1")
    second = convert_clean(shortened, convert, pattern, what=type_.name)
    values = pc.replace_with_mask(first.values, first.untyped, second.values)
    if second.untyped is None:
        return Cast(values)
    return Cast(values, pc.replace_with_mask(first.untyped, first.untyped, second.untyped))


def _fits_128_bits(text: pa.Array, scale: int) -> bool:
    """Whether no number, written with ``scale`` decimals, can have more than 38 digits."""
    whole = DECIMAL_DIGITS_MAX - scale
    longest = pc.max(pc.binary_length(text)).as_py() or 0
    if longest <= whole:
        return True
    return holds(pc.match_substring_regex(text, rf"^-?\d{{0,{whole}}}(\.\d{{0,{scale}}})?$"))
