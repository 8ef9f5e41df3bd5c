"""Typed columns, and the way from a fast kernel to an exact answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import ProtocolError

Convert = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True, slots=True)
class Cast:
    """(n,) typed values, and which inputs they can't hold (None: all are held)."""

    values: pa.Array
    untyped: pa.BooleanArray | None = None


def convert_clean(text: pa.Array, convert: Convert, pattern: str, *, what: str) -> Cast:
    """Convert the values that match; the others are untyped.

    For columns that hold some value which ``convert`` refuses, or gets wrong.

    Args:
        pattern: matches only what ``convert`` gets right.
    Raises:
        ProtocolError: a value matches and can't be converted: a 30th of February.
    """
    clean = pc.match_substring_regex(text, pattern)
    values = pc.if_else(clean, text, pa.scalar(None, pa.string()))
    untyped = pc.fill_null(pc.invert(clean), False)
    try:
        return Cast(convert(values), untyped if pc.any(untyped).as_py() else None)
    except pa.ArrowInvalid as error:
        raise ProtocolError(f"a value is not a {what}") from error


def holds(mask: pa.Array) -> bool:
    """Whether a boolean array has no false; nulls don't count."""
    return pc.all(mask).as_py() is not False
