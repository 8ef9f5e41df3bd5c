"""Records as DMS writes them, made up for tests without a server."""

from __future__ import annotations

import json
from typing import Any

from smartstream.schema import Column, Kind, PgType, TableSchema

INT, BIG, TEXT = (
    PgType(n, k) for n, k in (("integer", Kind.INT4), ("bigint", Kind.INT8), ("text", Kind.TEXT))
)
ITEMS = TableSchema(
    1,
    "public",
    "items",
    (
        Column("id", 1, INT, False),
        Column("name", 2, TEXT),
        Column("price", 3, PgType("numeric(20,4)", Kind.NUMERIC, precision=20, scale=4)),
        Column("count", 4, BIG),
        Column("seen", 5, PgType("timestamp with time zone", Kind.TIMESTAMPTZ)),
        Column("sold", 6, PgType("boolean", Kind.BOOL)),
        Column("photo", 7, PgType("bytea", Kind.BYTEA)),
        Column("code", 8, PgType("character(4)", Kind.BPCHAR)),
    ),
    ("id",),
)


class Known(dict[str, TableSchema]):
    """Definitions without a lake."""


def position(lsn: int, number: int = 2) -> str:
    """A stream position."""
    text = f"{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}"
    return f"{text}.{number}.00000000/00000001"


def record(
    operation: str,
    data: dict[str, Any] | str,
    *,
    lsn: int = 0,
    number: int = 2,
    before: dict[str, Any] | None = None,
    table: tuple[str, str] = ("public", "items"),
    **metadata: Any,
) -> str:
    """One record on a line, without its line break; data may be text, to choose how numbers look."""
    body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    told: dict[str, Any] = {
        "timestamp": "2026-01-02T03:04:05.000000Z",
        "record-type": "data",
        "operation": operation,
        "partition-key-type": "primary-key",
        "partition-key-value": ".".join(table),
        "schema-name": table[0],
        "table-name": table[1],
    }
    if operation != "load":
        told |= {
            "transaction-id": 700 + lsn,
            "transaction-record-id": number,
            "commit-timestamp": "2026-01-02T03:04:04.500000Z",
            "stream-position": position(lsn, number),
        }
    if operation == "update" and before is None:
        before = {}
    told |= metadata
    image = "" if before is None else f',"before-image": {json.dumps(before)}'
    return f'{{"data":{body},"metadata":{json.dumps(told)}{image}}}'


def control(operation: str, columns: dict[str, Any], key: list[str], table: tuple[str, str]) -> str:
    """A control record."""
    told = {
        "timestamp": "2026-01-02T03:04:05.000000Z",
        "record-type": "control",
        "operation": operation,
        "partition-key-type": "task-id",
        "schema-name": table[0],
        "table-name": table[1],
    }
    return json.dumps(
        {"control": {"table-def": {"columns": columns, "primary-key": key}}, "metadata": told},
        separators=(",", ":"),
    )
