"""One read-only SQL statement, checked, limited in time, its result as bytes."""

from __future__ import annotations

import difflib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from smartstream.errors import QueryError
from smartstream.query.text import csv_lines, json_lines, plan_lines, table_lines
from smartstream.sql_text import quoted

OUTPUTS = ("table", "csv", "json", "parquet")
BATCH_ROWS = 10_000
PARQUET_BATCH_ROWS = 100_000

_EXPLAIN = re.compile(r"\s*explain\b(\s+analy[sz]e\b)?(\s*\([^)]*\))?", re.IGNORECASE)
_ONLY_READS = "`smartstream sql` only reads: SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN."


def run_sql(
    connection: duckdb.DuckDBPyConnection, text: str, *, output: str = "table", timeout: float | None = None
) -> Iterator[bytes]:
    """Run one statement and yield its result in pieces.

    ``table`` is for people and shows the first 1,000 rows; the others are complete:
    ``csv`` (RFC 4180 with a header; null is nothing, empty text is ``""``), ``json`` (an
    array of objects; numbers keep all digits) and ``parquet``.  Memory does not grow
    with the result.  Values that read files can see the warehouse, nothing else
    (``open_lake``).

    Args:
        output: one of OUTPUTS.
        timeout: seconds for all of it, reading the pieces included.
    Raises:
        QueryError: not a statement that only reads, wrong, too slow, or out of memory.
    """
    if output not in OUTPUTS:
        raise QueryError(f"unknown output {output!r}", hint=f"Outputs are {', '.join(OUTPUTS)}.")
    # A cursor of its own: a result that is not read to its end keeps no one waiting.
    with connection.cursor() as cursor, _errors(cursor, timeout), _time_limit(cursor, timeout):
        yield from _RENDER[output](cursor.sql(_checked(cursor, text)))


def tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names that a statement can use, sorted."""
    found = connection.execute(
        "SELECT CASE schema_name WHEN 'main' THEN view_name ELSE schema_name || '.' || view_name END "
        "FROM duckdb_views() WHERE NOT internal ORDER BY 1"
    ).fetchall()
    return [name for (name,) in found]


def _checked(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """The statement, if there is exactly one and it changes nothing."""
    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise QueryError(f"expected one statement, got {len(statements)}", hint="Run them one by one.")
    query = statements[0].query
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains.
        _check_reads(connection, _EXPLAIN.sub("", _without_comments(query), count=1))
    elif kind == duckdb.StatementType.SELECT:
        _check_reads(connection, query)
    else:
        raise QueryError(f"{kind.name} is not allowed", hint=_ONLY_READS)
    return query


def _check_reads(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse what is not a SELECT through and through: WITH can hold COPY, INSERT, …"""
    rows = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree = json.loads(rows[0][0])
    if tree["error"]:
        raise QueryError(f"not a statement that only reads: {tree['error_message']}", hint=_ONLY_READS)
    for kind in _node_types(tree):
        if kind.endswith("_QUERY_NODE"):
            raise QueryError(f"{kind.split('_')[0]} is not allowed inside WITH", hint=_ONLY_READS)


def _node_types(tree: Any) -> Iterator[str]:
    """Every ``type`` in a syntax tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("type"), str):
                yield node["type"]
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _without_comments(query: str) -> str:
    """The statement without comments in front of it."""
    return re.sub(r"\A(\s|--[^\n]*(\n|\Z)|/\*.*?\*/)+", "", query, flags=re.DOTALL)


@contextmanager
def _time_limit(connection: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    """Interrupt the connection when the time is over."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _errors(connection: duckdb.DuckDBPyConnection, timeout: float | None) -> Iterator[None]:
    """Turn DuckDB's errors into QueryError."""
    try:
        yield
    # In the middle of a result DuckDB's errors come as Arrow's, with the same text.
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        text = str(error)
        if text.upper().startswith("INTERRUPT"):
            raise QueryError(
                f"stopped after {timeout:g} s" if timeout else "interrupted",
                hint="Read less (WHERE, LIMIT), or allow more time with --timeout.",
            ) from error
        if text.startswith("Out of Memory"):
            raise QueryError(
                "out of memory", hint="Raise limits.duckdb_memory in smartstream.yaml."
            ) from error
        raise _query_error(connection, text) from error


def _query_error(connection: duckdb.DuckDBPyConnection, message: str) -> QueryError:
    """DuckDB's message without its kind and its guess, which knows system tables too."""
    lines = [line for line in message.splitlines() if line.strip() and not line.startswith("Did you mean")]
    where = "\n".join(lines[1:])
    first = re.sub(r"^\w+ Error: ", "", lines[0]) if lines else message
    missing = re.match(r"Table with name (\S+) does not exist", first)
    if missing is None:
        return QueryError("\n".join(filter(None, [first, where])))
    known = tables(connection)
    close = difflib.get_close_matches(missing[1], known, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    listed = f"Tables: {', '.join(known)}." if known else "The lake has no tables yet."
    return QueryError(f"there is no table {missing[1]}", hint=guess + listed)


def _as_text(result: duckdb.DuckDBPyRelation) -> Iterator[pa.RecordBatch]:
    """The result with every value as DuckDB prints it, null as null."""
    columns = ", ".join(
        f"CAST(#{n} AS VARCHAR) AS {quoted(f'c{n}')}" for n in range(1, len(result.columns) + 1)
    )
    yield from result.project(columns).to_arrow_reader(BATCH_ROWS)


def _as_json(result: duckdb.DuckDBPyRelation) -> Iterator[pa.RecordBatch]:
    """The result as one column of JSON objects."""
    objects = result.query("result", "SELECT CAST(to_json(result) AS VARCHAR) FROM result")
    assert objects is not None
    yield from objects.to_arrow_reader(BATCH_ROWS)


def _as_table(result: duckdb.DuckDBPyRelation) -> Iterator[bytes]:
    """The result for people."""
    if result.columns == ["explain_key", "explain_value"]:
        return plan_lines(_as_text(result))
    return table_lines(result.columns, _as_text(result))


def _parquet(result: duckdb.DuckDBPyRelation) -> Iterator[bytes]:
    """The result as one Parquet file, a row group per batch."""
    names = [f"#{n} AS {quoted(name)}" for n, name in enumerate(_distinct(result.columns), start=1)]
    reader = result.project(", ".join(names)).to_arrow_reader(PARQUET_BATCH_ROWS)
    sink = _Pipe()
    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield sink.drain()
    yield sink.drain()


def _distinct(names: list[str]) -> list[str]:
    """Column names with a number where one repeats, which Parquet readers refuse."""
    found: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found


class _Pipe(io.RawIOBase):
    """A file that is written once through; what was written can be taken out."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def drain(self) -> bytes:
        """Take out what was written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


_RENDER: dict[str, Callable[[duckdb.DuckDBPyRelation], Iterator[bytes]]] = {
    "table": _as_table,
    "csv": lambda result: csv_lines(result.columns, _as_text(result)),
    "json": lambda result: json_lines(_as_json(result)),
    "parquet": _parquet,
}
