"""Tables and changelogs for the tests of the raw zone."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from smartstream.schema import Column, Kind, PgType, TableSchema

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

ORDERS = TableSchema(
    oid=16_400,
    schema="public",
    name="orders",
    columns=(
        Column("id", 1, PgType("bigint", Kind.INT8), nullable=False),
        Column("customer", 2, PgType("text", Kind.TEXT)),
        Column("amount", 3, PgType("numeric(12,2)", Kind.NUMERIC, precision=12, scale=2)),
        Column("paid", 5, PgType("boolean", Kind.BOOL)),
        Column("placed_at", 6, PgType("timestamp with time zone", Kind.TIMESTAMPTZ)),
        Column("tags", 7, PgType("text[]", Kind.ARRAY, element=PgType("text", Kind.TEXT))),
    ),
    key=("id",),
)


def changelog(row_count: int, *, seed: int = 1, schema: TableSchema = ORDERS) -> pa.Table:
    """Random changes of ``ORDERS``, every field filled somewhere: (row_count, changelog_schema)."""
    random = np.random.default_rng(seed)
    n = np.arange(row_count)
    rare = n % 7 == 3
    columns = {
        "_op": random.choice(["i", "u", "d"], row_count),
        "_commit_lsn": 5_000_000_000 + n // 5 * 160,
        "_ordinal": n % 5,
        "_commit_ts": 1_772_600_000_000_000 + n // 5 * 1_000,
        "_xid": 900 + n // 5,
        "_unchanged": [["customer"] if x else None for x in rare],
        "_old_key": [{"id": int(x)} if y else None for x, y in zip(n, rare, strict=True)],
        "_untyped": ['{"amount":"NaN"}' if x else None for x in rare],
        "id": random.integers(0, 1 << 60, row_count),
        "customer": [f"customer {x:x} é" for x in random.integers(0, 1 << 60, row_count)],
        "amount": pa.array(random.integers(0, 10**9, row_count)).cast(pa.decimal128(21, 0)),
        "paid": random.random(row_count) < 0.5,
        "placed_at": 1_772_000_000_000_000 + random.integers(0, 1 << 40, row_count),
        "tags": [["a", None, "b"], [], None, ["c"]] * (row_count // 4 + 1),
    }
    arrays = []
    for field in schema.changelog_schema():
        values = columns[field.name]
        values = values[:row_count] if isinstance(values, list) else values
        array = values if isinstance(values, pa.Array) else pa.array(values)
        arrays.append(array if array.type == field.type else _cast(array, field.type))
    return pa.Table.from_arrays(arrays, schema=schema.changelog_schema())


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    if pa.types.is_nested(target):
        return pa.array(array.to_pylist(), target)
    return array.cast(target)
