"""Types that are carried as PostgreSQL's own text: strings, uuid, json, enums, everything else.

Source: PostgreSQL manual, "Character Types"; char(n) keeps its padding.
"""

from __future__ import annotations

import pyarrow as pa

from smartstream.capture.values.typed import Cast
from smartstream.errors import ProtocolError
from smartstream.schema import PgType


def texts(text: pa.Array, type_: PgType) -> Cast:
    """The text itself."""
    return Cast(text)


def checked_utf8(binary: pa.Array) -> pa.Array:
    """The same bytes as strings.

    Raises:
        ProtocolError: they are not UTF-8.
    """
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ProtocolError("a value is not UTF-8") from error
