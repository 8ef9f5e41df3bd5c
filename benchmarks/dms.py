"""What decoding raw objects of DMS costs: gzip and JSON to a changelog; no server, no lake."""

from __future__ import annotations

import gzip
import json
import statistics
import time
from typing import Any

from smartstream.delivery.records import read_object
from smartstream.schema import Column, Kind, PgType, TableSchema

REPEATS = 5
ODD_EVERY = 50_000
"""In the second object, one record of so many has a number that only the slow way reads."""

ORDERS = TableSchema(
    1,
    "public",
    "orders",
    (
        Column("id", 1, PgType("bigint", Kind.INT8), False),
        Column("customer", 2, PgType("integer", Kind.INT4)),
        Column("status", 3, PgType("text", Kind.TEXT)),
        Column("amount", 4, PgType("numeric(12,2)", Kind.NUMERIC, precision=12, scale=2)),
        Column("placed", 5, PgType("timestamp with time zone", Kind.TIMESTAMPTZ)),
    ),
    ("id",),
)


def run(count: int) -> dict[str, Any]:
    """Records a second of one CPU, for updates of a table of five columns.

    Timed is the CPU of this process, so that other work on the machine spoils little.
    """
    alike = "".join(record(number) for number in range(count)).encode()
    odd = "".join(record(number, is_odd=not number % ODD_EVERY) for number in range(count)).encode()
    return {
        "records": count,
        "record_bytes": len(alike) // count,
        "records_per_cpu_second": _rate(count, alike),
        "gzip_records_per_cpu_second": _rate(count, gzip.compress(alike, 1)),
        "odd_records_per_cpu_second": _rate(count, odd),
    }


def _rate(count: int, data: bytes) -> int:
    """The median over some runs."""
    known, seconds = {ORDERS.id: ORDERS}, []
    for _ in range(REPEATS):
        begin = time.process_time()
        found = read_object("raw/1", data, known)
        seconds.append(time.process_time() - begin)
        assert len(found.changes[ORDERS.id][1]) == count
    return round(count / statistics.median(seconds))


def record(number: int, *, is_odd: bool = False) -> str:
    """An update as DMS writes it with the settings of terraform/dms.tf."""
    data = {
        "id": number,
        "customer": number % 20_000,
        "status": "paid",
        "amount": "NaN" if is_odd else number / 100,
        "placed": "2026-01-02T03:04:05.123456Z",
    }
    metadata = {
        "timestamp": "2026-01-02T03:04:06.000000Z",
        "record-type": "data",
        "operation": "update",
        "partition-key-type": "primary-key",
        "partition-key-value": f"public.orders.{number}",
        "schema-name": "public",
        "table-name": "orders",
        "transaction-id": 700 + number,
        "transaction-record-id": 1,
        "prev-transaction-id": 699 + number,
        "prev-transaction-record-id": 1,
        "commit-timestamp": "2026-01-02T03:04:05.500000Z",
        "stream-position": f"00000002/{number:08X}.2.00000002/{number:08X}",
    }
    record = {"data": data, "metadata": metadata, "before-image": {}}
    return json.dumps(record, separators=(",", ":")) + "\n"
