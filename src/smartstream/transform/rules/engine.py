"""DuckDB in memory, for expressions over one batch: no files, no network, no state between calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import duckdb
import pyarrow as pa

ROWS = "rows"
"""Name of the batch in the statements."""

SLICE_ROWS = 16_384
"""Rows that one thread takes at a time: DuckDB shares out Arrow data by its batches."""

_SETTINGS = (
    "SET GLOBAL TimeZone = 'UTC'",
    "SET GLOBAL Calendar = 'gregorian'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """The process's one database; each use takes a cursor of its own."""
    connection = duckdb.connect(
        config={
            "memory_limit": "512MB",
            "threads": 2,
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    for statement in _SETTINGS:
        connection.execute(statement)
    return connection


def evaluate(sql: str, rows: pa.Table | None = None) -> pa.Table:
    """Return the result of ``sql`` over the table ``rows``, in the order of its rows.

    Raises:
        duckdb.Error: it cannot be bound or computed; the message may quote values.
    """
    with _database().cursor() as cursor:
        if rows is not None:
            cursor.register(ROWS, pa.Table.from_batches(rows.to_batches(SLICE_ROWS), rows.schema))
        result: pa.Table = cursor.sql(sql).to_arrow_table()
    return result


def result_types(sql: str, columns: Mapping[str, pa.DataType]) -> dict[str, str]:
    """Return DuckDB's names of the types that ``sql`` gives over a table with ``columns``.

    Raises:
        duckdb.Error: it cannot be bound; the message quotes nothing but ``sql``.
    """
    empty = pa.schema([pa.field(name, kind) for name, kind in columns.items()]).empty_table()
    with _database().cursor() as cursor:
        cursor.register(ROWS, empty)
        relation = cursor.sql(sql)
        # Constants are folded only when a plan is made: run it over no rows.
        relation.to_arrow_table()
        return dict(zip(relation.columns, map(str, relation.types), strict=True))


@dataclass(frozen=True, slots=True)
class Function:
    """One of DuckDB's functions of some name: a scalar, an aggregate, a macro, …"""

    kind: str
    stability: str | None


@cache
def functions() -> Mapping[str, list[Function]]:
    """Return DuckDB's functions by their names in small letters."""
    found = evaluate("SELECT lower(function_name), function_type, stability FROM duckdb_functions()")
    by_name: dict[str, list[Function]] = {}
    for name, kind, stability in zip(*(c.to_pylist() for c in found.columns), strict=True):
        by_name.setdefault(name, []).append(Function(kind, stability))
    return by_name


def first_line(error: duckdb.Error) -> str:
    """What DuckDB says, on one line and without its prefix."""
    line = str(error).splitlines()[0]
    return line.partition("Error: ")[2] or line
