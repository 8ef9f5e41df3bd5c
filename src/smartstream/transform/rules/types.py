"""The types that columns of trusted tables have: their names in the file, in SQL and in Arrow."""

from __future__ import annotations

import re

import pyarrow as pa

from smartstream.schema import DECIMAL_DIGITS_MAX

TEXT = pa.string()
TIMESTAMP = pa.timestamp("us")
TIMESTAMPTZ = pa.timestamp("us", tz="UTC")

# Name in messages, name in SQL, and other names that the file may use.
_NAMES: dict[pa.DataType, tuple[str, str, tuple[str, ...]]] = {
    pa.bool_(): ("boolean", "BOOLEAN", ("bool",)),
    pa.int32(): ("integer", "INTEGER", ("int", "int4")),
    pa.int64(): ("bigint", "BIGINT", ("long", "int8")),
    pa.float32(): ("real", "FLOAT", ("float4",)),
    pa.float64(): ("double precision", "DOUBLE", ("double", "float", "float8")),
    pa.string(): ("text", "VARCHAR", ("string", "varchar")),
    pa.binary(): ("bytea", "BLOB", ("binary",)),
    pa.date32(): ("date", "DATE", ()),
    pa.time64("us"): ("time", "TIME", ()),
    TIMESTAMP: ("timestamp", "TIMESTAMP", ("timestamp without time zone",)),
    TIMESTAMPTZ: ("timestamptz", "TIMESTAMP WITH TIME ZONE", ("timestamp with time zone",)),
}
_DECIMAL = re.compile(r"(?:decimal|numeric)\s*\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)", re.IGNORECASE)
_WIDER: dict[str, pa.DataType] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "UTINYINT", "USMALLINT"), pa.int32()),
    "UINTEGER": pa.int64(),
    **dict.fromkeys(("UUID", "JSON"), TEXT),
}

KNOWN = ", ".join([*(name for name, _, _ in _NAMES.values()), "decimal(p,s)"])
"""For messages."""


def name_of(kind: pa.DataType) -> str:
    """Return a type as the file names it."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return f"{name_of(kind.value_type)}[]"
    return _NAMES[kind][0] if kind in _NAMES else str(kind)


def sql_of(kind: pa.DataType) -> str:
    """Return DuckDB's name of a type."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind):
        return f"{sql_of(kind.value_type)}[]"
    return _NAMES[kind][1]


def parse(text: str) -> pa.DataType | None:
    """Return the type that the file calls ``text``, None when there is none."""
    found = _DECIMAL.fullmatch(text.strip())
    if found:
        precision, scale = int(found[1]), int(found[2] or 0)
        if 1 <= precision <= DECIMAL_DIGITS_MAX and scale <= precision:
            return pa.decimal128(precision, scale)
        return None
    wanted = " ".join(text.lower().split())
    for kind, (name, _, others) in _NAMES.items():
        if wanted == name or wanted in others:
            return kind
    return None


def carried(sql_type: str) -> pa.DataType | None:
    """Return the type that carries DuckDB's type ``sql_type`` without loss, None if none does."""
    if sql_type.endswith("[]"):
        element = carried(sql_type[:-2])
        return None if element is None else pa.list_(pa.field("element", element))
    if sql_type.startswith("DECIMAL"):
        return parse(sql_type)
    if sql_type in _WIDER:
        return _WIDER[sql_type]
    return next((kind for kind, (_, sql, _) in _NAMES.items() if sql == sql_type), None)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts."""
    return bool(pa.types.is_string(kind))


def is_whole(kind: pa.DataType) -> bool:
    """Whether values are whole numbers."""
    return bool(pa.types.is_integer(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists."""
    return bool(pa.types.is_list(kind))
