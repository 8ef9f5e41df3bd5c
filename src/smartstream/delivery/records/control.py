"""Control records: what DMS says of a table's columns.

They are not ordered with the data, and name DMS's types, of which some stand for several
of PostgreSQL's.  So they only ever add to a definition: columns that are gone stay, and a
known column keeps its type.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from smartstream.delivery.records.exact import Record
from smartstream.schema import RESERVED_NAMES, Column, Kind, PgType, TableSchema

_TYPES = {
    "INT8": PgType("smallint", Kind.INT2),
    "INT16": PgType("smallint", Kind.INT2),
    "INT32": PgType("integer", Kind.INT4),
    "INT64": PgType("bigint", Kind.INT8),
    "UINT8": PgType("smallint", Kind.INT2),
    "UINT16": PgType("integer", Kind.INT4),
    "UINT32": PgType("bigint", Kind.INT8),
    "FLOAT": PgType("real", Kind.FLOAT4),
    "DOUBLE": PgType("double precision", Kind.FLOAT8),
    "BOOLEAN": PgType("boolean", Kind.BOOL),
    "BLOB": PgType("bytea", Kind.BYTEA),
    "DATE": PgType("date", Kind.DATE),
    "TIME": PgType("time without time zone", Kind.TIME),
    # A moment ends with Z whether the column has a zone or not.
    "TIMESTAMP": PgType("timestamp without time zone", Kind.TIMESTAMP),
}
_TEXT = PgType("text", Kind.TEXT)
_DIGITS_MAX = 1000
COLUMNS_MAX = 1600
"""As many as PostgreSQL allows."""


def schema_of_control(record: Record) -> TableSchema | None:
    """The definition in a control record; None where it holds none that a table could have.

    Columns are numbered by their position, keys are in DMS's order.
    """
    definition = record.body.get("table-def")
    if not isinstance(definition, dict):
        return None
    described, key = definition.get("columns"), definition.get("primary-key")
    if not isinstance(described, dict) or not isinstance(key, list) or not key or not record.table:
        return None
    if len(described) > COLUMNS_MAX or not all(isinstance(name, str) and name in described for name in key):
        return None
    if RESERVED_NAMES & described.keys() or len(set(key)) != len(key):
        return None
    columns = []
    for number, (name, facts) in enumerate(described.items(), start=1):
        if not name or not isinstance(facts, dict) or "\udfff" >= max(name) >= "\ud800":
            return None
        nullable = facts.get("nullable") is not False and name not in key
        columns.append(Column(name, number, _type(facts), nullable))
    return TableSchema(0, record.schema, record.table, tuple(columns), tuple(key))


def merged(known: TableSchema | None, told: TableSchema) -> TableSchema:
    """What is known of a table and what a control record adds to it: columns at the end."""
    if known is None:
        return told
    names = {column.name for column in known.columns}
    next_number = max(column.attnum for column in known.columns) + 1
    new = [column for column in told.columns if column.name not in names]
    added = [replace(c, attnum=next_number + n, nullable=True) for n, c in enumerate(new)]
    return replace(known, columns=(*known.columns, *added)) if added else known


def _type(facts: dict[str, Any]) -> PgType:
    """PostgreSQL's type for one of DMS's."""
    name = str(facts.get("type", "")).upper()
    if name == "NUMERIC":
        precision, scale = (_small(facts.get(part)) for part in ("precision", "scale"))
        if precision is None or scale is None or scale > precision or not precision:
            return PgType("numeric", Kind.NUMERIC)
        return PgType(f"numeric({precision},{scale})", Kind.NUMERIC, precision=precision, scale=scale)
    return _TYPES.get(name, _TEXT)


def _small(value: Any) -> int | None:
    """A number of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) and int(value) <= _DIGITS_MAX:
        return int(value)
    return None
