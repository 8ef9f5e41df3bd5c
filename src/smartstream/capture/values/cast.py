"""Text to typed values, whole columns at a time, exactly or not at all.

Each family has a fast path, Arrow kernels over the column, and an exact one for the
columns that hold values which the kernels refuse or get wrong.  A value that its
Arrow type cannot hold is null in the result and marked *untyped*; the caller keeps
its text.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from smartstream.capture.values.arrays import arrays
from smartstream.capture.values.binary import byteas
from smartstream.capture.values.numbers import booleans, floats, integers, numerics
from smartstream.capture.values.temporal import dates, times, timestamps
from smartstream.capture.values.text import checked_utf8, texts
from smartstream.capture.values.typed import Cast
from smartstream.schema import Kind, PgType

_FAMILIES: dict[Kind, Callable[[pa.Array, PgType], Cast]] = {
    Kind.INT2: integers,
    Kind.INT4: integers,
    Kind.INT8: integers,
    Kind.FLOAT4: floats,
    Kind.FLOAT8: floats,
    Kind.BOOL: booleans,
    Kind.NUMERIC: numerics,
    Kind.DATE: dates,
    Kind.TIME: times,
    Kind.TIMESTAMP: timestamps,
    Kind.TIMESTAMPTZ: timestamps,
    Kind.BYTEA: byteas,
    Kind.ARRAY: lambda text, type_: arrays(text, type_, cast),
}


def cast(text: pa.Array, type_: PgType) -> Cast:
    """Return PostgreSQL's text as values of ``type_.arrow``.

    Args:
        text: (n,) string or binary, null for NULL.
    Raises:
        ProtocolError: the text is not UTF-8, or not what a server prints for the type.
    """
    if pa.types.is_binary(text.type):
        text = checked_utf8(text)
    return _FAMILIES.get(type_.kind, texts)(text, type_)
