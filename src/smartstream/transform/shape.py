"""The shape of a table in the lake when rules have changed it, and of its quarantine, pure.

Both are written as ``TableSchema``s, so that everything that keeps Iceberg tables in
step with PostgreSQL's keeps these in step too.  A column that is not the source's has
an ``attnum`` made from its name, above those that PostgreSQL can give.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from zlib import crc32

import pyarrow as pa

from smartstream.schema import Column, Kind, PgType, TableSchema

QUALITY = "_quality"
"""Column of a trusted table with rules: JSON text of marks and warnings, null when there are none."""

DISPOSITION = "_disposition"
ROW = "_row"
VIOLATIONS = "_violations"
RULES_VERSION = "_rules_version"
CHANGE_OP = "_op"
CHANGE_TS = "_commit_ts"
BUSINESS_KEY = "_business_key"
ORDER_BY = "_order_by"

QUARANTINED, DUPLICATE, DROPPED = "quarantined", "duplicate", "dropped"

MADE_ATTNUM_MIN = 10_000
"""PostgreSQL's attnums end far below."""

_KINDS: dict[pa.DataType, tuple[str, Kind]] = {
    pa.int32(): ("integer", Kind.INT4),
    pa.int64(): ("bigint", Kind.INT8),
    pa.float32(): ("real", Kind.FLOAT4),
    pa.float64(): ("double precision", Kind.FLOAT8),
    pa.bool_(): ("boolean", Kind.BOOL),
    pa.string(): ("text", Kind.TEXT),
    pa.binary(): ("bytea", Kind.BYTEA),
    pa.date32(): ("date", Kind.DATE),
    pa.time64("us"): ("time without time zone", Kind.TIME),
    pa.timestamp("us"): ("timestamp without time zone", Kind.TIMESTAMP),
    pa.timestamp("us", tz="UTC"): ("timestamp with time zone", Kind.TIMESTAMPTZ),
}


class Output(Protocol):
    """A column that rules give; see transform.rules."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> pa.DataType: ...
    @property
    def origin(self) -> Column | None: ...


def pg_type(kind: pa.DataType) -> PgType:
    """The PostgreSQL type that is carried as the Arrow type ``kind``."""
    if pa.types.is_decimal(kind):
        name = f"numeric({kind.precision},{kind.scale})"
        return PgType(name, Kind.NUMERIC, precision=kind.precision, scale=kind.scale)
    if pa.types.is_list(kind):
        element = pg_type(kind.value_type)
        return PgType(f"{element.name}[]", Kind.ARRAY, element=element)
    name, family = _KINDS[kind]
    return PgType(name, family)


def made_column(name: str, kind: pa.DataType) -> Column:
    """A column that the source does not have."""
    return Column(name, MADE_ATTNUM_MIN + crc32(name.encode()), pg_type(kind))


def with_mark(text: str | None, mark: Mapping[str, Any]) -> str:
    """Return a value of ``_quality`` with one more mark; columns that are null already stay in ``nulled``."""
    marks = json.loads(text or "{}")
    nulled = {*marks.get("nulled", ()), *mark.get("nulled", ())}
    return json.dumps({**marks, **mark, **({"nulled": sorted(nulled)} if nulled else {})})


def ruled_schema(schema: TableSchema, output: Iterable[Output]) -> TableSchema:
    """The trusted table of ``schema`` with the columns that rules give, and ``_quality``."""
    columns = [_column(column) for column in output]
    return TableSchema(
        schema.oid, schema.schema, schema.name, (*columns, made_column(QUALITY, pa.string())), schema.key
    )


def quarantine_schema(schema: TableSchema) -> TableSchema:
    """The quarantine of ``schema``: its key, and what is known of a row that trusted lacks."""
    texts = (DISPOSITION, ROW, VIOLATIONS, RULES_VERSION, CHANGE_OP, BUSINESS_KEY, ORDER_BY)
    made = [made_column(name, pa.string()) for name in texts]
    made.append(made_column(CHANGE_TS, pa.timestamp("us", tz="UTC")))
    columns = (*schema.key_columns(), *made)
    return TableSchema(schema.oid, schema.schema, schema.name, columns, schema.key)


def _column(output: Output) -> Column:
    """An output column with the identity of its origin, or one of its own."""
    origin = output.origin
    if origin is None:
        return made_column(output.name, output.type)
    kind = origin.type if origin.type.arrow == output.type else pg_type(output.type)
    return Column(output.name, origin.attnum, kind)
