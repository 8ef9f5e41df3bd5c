"""Applying a batch of changes to a trusted table: fold, locate, write, commit; no server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.change import COMMIT_LSN, COMMIT_TS, OP, ORDINAL, UNTYPED, XID
from smartstream.config import Lake
from smartstream.schema import TRUSTED_LSN, Column, Kind, PgType, TableSchema
from smartstream.transform.fold import fold
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.table import Position, TrustedTable

SEED = 1
REPEATS = 3
CHUNK_ROWS = 250_000

_TYPES = {
    "id": PgType("integer", Kind.INT4),
    "customer": PgType("integer", Kind.INT4),
    "amount": PgType("numeric(12,2)", Kind.NUMERIC, precision=12, scale=2),
    "quantity": PgType("bigint", Kind.INT8),
    "status": PgType("text", Kind.TEXT),
    "note": PgType("text", Kind.TEXT),
    "weight": PgType("double precision", Kind.FLOAT8),
}
ORDERS = TableSchema(
    oid=1,
    schema="public",
    name="orders",
    columns=tuple(Column(name, number, kind) for number, (name, kind) in enumerate(_TYPES.items(), 1)),
    key=("id",),
)


def run(rows: int, batches: tuple[int, ...]) -> dict[str, Any]:
    """The median time of batches of each size, their keys scattered over the whole table."""
    result: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory(prefix="smartstream-bench-") as folder:
        table = TrustedTable.open(open_catalog(Lake(warehouse=folder)), ORDERS)
        files = table.write(_base(rows))
        table.commit(add=files, delete=None, position=Position(1, 1, 1), replace_all=True)
        choose, seq, alive = np.random.default_rng(SEED), 1, np.arange(1, rows + 1)
        for size in batches:
            times = []
            for _ in range(REPEATS):
                seq += 1
                changelog, alive = _changes(choose, alive, size, seq)
                begin = time.perf_counter()
                located = _apply(table, changelog, seq)
                times.append(time.perf_counter() - begin)
            assert table.row_count == len(alive)
            result[f"apply_{size}_ms"] = round(statistics.median(times) * 1e3)
            result[f"locate_{size}_ms"] = round(located * 1e3)
    return result


def _apply(table: TrustedTable, changelog: pa.Table, seq: int) -> float:
    """What the pipeline does with a batch; return the seconds that locating took."""
    net = fold(changelog, ORDERS)
    begin = time.perf_counter()
    located = table.locate(net.keys)
    seconds = time.perf_counter() - begin
    table.commit(add=table.write(net.upserts), delete=located, position=Position(seq, seq, 1))
    return seconds


def _values(ids: np.ndarray) -> dict[str, pa.Array]:
    """The columns of some rows."""
    texts = pa.array(ids).cast(pa.string())
    return {
        "id": pa.array(ids, pa.int32()),
        "customer": pa.array(ids % 5000, pa.int32()),
        "amount": pa.array(ids % 100_000, pa.int32()).cast(pa.decimal128(12, 2)),
        "quantity": pa.array(ids * 3, pa.int64()),
        "status": pa.array(np.where(ids % 2 == 0, "new", "paid")),
        "note": texts,
        "weight": pa.array(ids / 7.0),
    }


def _base(rows: int) -> Iterator[pa.Table]:
    """The table's rows, in bounded pieces."""
    for first in range(1, rows + 1, CHUNK_ROWS):
        ids = np.arange(first, min(first + CHUNK_ROWS, rows + 1))
        marks = {TRUSTED_LSN: pa.array(np.ones(len(ids), np.int64)), UNTYPED: pa.nulls(len(ids), pa.string())}
        yield pa.table({**_values(ids), **marks}).cast(ORDERS.trusted_schema())


def _changes(
    choose: np.random.Generator, alive: np.ndarray, size: int, seq: int
) -> tuple[pa.Table, np.ndarray]:
    """Updates (8 in 10) and deletes (1 in 10) of rows anywhere, inserts (1 in 10); the keys then alive."""
    inserts = size // 10
    present = choose.choice(alive, size - inserts, replace=False)
    new = alive.max() + 1 + np.arange(inserts)
    ids = np.concatenate([present, new])
    ops = np.array(["u"] * (size - 2 * inserts) + ["d"] * inserts + ["i"] * inserts)
    order = choose.permutation(size)
    columns: dict[str, pa.Array] = {
        **_values(ids[order]),
        OP: pa.array(ops[order]),
        COMMIT_LSN: pa.array(np.full(size, seq)),
        ORDINAL: pa.array(np.arange(size)),
        COMMIT_TS: pa.array(np.zeros(size, np.int64)).cast(pa.timestamp("us", tz="UTC")),
        XID: pa.array(np.full(size, seq)),
    }
    schema = ORDERS.changelog_schema()
    arrays = [columns.get(field.name, pa.nulls(size, field.type)).cast(field.type) for field in schema]
    deleted = present[size - 2 * inserts :]
    return pa.table(arrays, schema), np.concatenate([np.setdiff1d(alive, deleted), new])
