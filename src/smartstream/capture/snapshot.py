"""The snapshot copy: a table's rows in chunks of heap pages, read through ADBC.

Each chunk is one short transaction with a snapshot of its own.  That the chunks
add up to the table rests on the stream being applied over them, and on three rules:

* Chunks name pages of a file.  When the table gets a new file (VACUUM FULL, a
  rewriting ALTER TABLE, TRUNCATE), the pages mean something else: TableRewritten.
* An UPDATE can move a row from a page not yet read to one read before; then no
  chunk has it.  The update is in the stream with all columns but unchanged
  TOASTed ones, so for tables that have TOASTed values a *sweep* follows the last
  chunk: all rows written since the plan was made, once more.
* A row can be in two chunks, and in a chunk and the sweep.  Rows of one key may
  thus come several times; any of them is a right base for the stream, the last one wins.

Partitioned tables are read leaf by leaf.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions
from psycopg import sql

from smartstream.capture.connect import ADBC_ERRORS, map_error
from smartstream.capture.values import from_snapshot, snapshot_expression
from smartstream.errors import TableRewritten
from smartstream.schema import TableSchema

Connection = psycopg.Connection[tuple[Any, ...]]

PAGE_MAX = 0xFFFFFFFE
"""``page_max`` of a chunk without upper bound: the table may grow while it is read."""

TID_RANGE_SCAN_SINCE = 140000
"""Before PostgreSQL 14 a range of ctids is found by reading the whole table."""

BATCH_BYTES = 8 << 20


class Chunk(NamedTuple):
    """Pages ``page_min`` … ``page_max`` of one relation.

    ``relation`` is the quoted, qualified name of a table that has pages (a leaf
    partition, or the table itself).
    """

    relation: str
    page_min: int
    page_max: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a table is to be copied.

    Attributes:
        filenode: JSON object, relation → the number of its file.
        xmin: oldest transaction that was in progress, in decimal: every row
            written since has a greater or equal xmin.
        row_estimate: from the statistics; 0 if there are none.
    """

    chunks: tuple[Chunk, ...]
    filenode: str
    xmin: str
    row_estimate: int


def plan(connection: Connection, schema: TableSchema, chunk_bytes: int) -> Plan:
    """Return the chunks that make up the table, each about ``chunk_bytes`` of heap.

    Raises:
        TableRewritten: the table is gone.
        SourceGone, MissingRight, …: as connect.map_error.
    """
    leaves = _leaves(connection, schema)
    xmin, block_size = _execute(connection, _SNAPSHOT)[0]
    pages = max(1, chunk_bytes // block_size)
    if connection.info.server_version < TID_RANGE_SCAN_SINCE:
        pages = PAGE_MAX
    chunks = [
        chunk for leaf in leaves for chunk in _chunks(leaf.relation, leaf.size_bytes // block_size, pages)
    ]
    return Plan(
        chunks=tuple(chunks),
        filenode=json.dumps({leaf.relation: leaf.filenode for leaf in leaves}),
        xmin=xmin,
        row_estimate=sum(leaf.row_estimate for leaf in leaves),
    )


@dataclass(frozen=True, slots=True)
class Size:
    """About how large a table is.

    Attributes:
        row_estimate: as the server's planner has it, also without statistics.
        size_bytes: with TOAST, without indexes; of all partitions.
    """

    row_estimate: int
    size_bytes: int


def size(connection: Connection, schema: TableSchema) -> Size:
    """Return about how large a table is, without reading it.

    Raises:
        SourceGone, MissingRight, …: as connect.map_error.
    """
    name = sql.Identifier(schema.schema, schema.name)
    try:
        statement = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {}").format(name)
        explained = connection.execute(statement).fetchone()
    except psycopg.Error as error:
        raise map_error(error, f"estimating table {schema.id}") from error
    assert explained is not None
    (found,) = _execute(connection, _SIZE, {"oid": schema.oid})
    return Size(int(explained[0][0]["Plan"]["Plan Rows"]), int(found[0]))


def needs_sweep(connection: Connection, schema: TableSchema) -> bool:
    """Whether the table has TOASTed values, which updates may leave out of the stream.

    To be asked after the last chunk: values may have come since the plan.
    """
    return any(leaf.has_toast for leaf in _leaves(connection, schema))


def read_chunk(
    source: adbc.Connection,
    schema: TableSchema,
    chunk: tuple[str, int, int],
    *,
    copy_lsn: int,
    filenode: str,
    condition: str | None = None,
) -> Generator[pa.Table, None, None]:
    """Read one chunk in one transaction.

    Args:
        source: used by this alone until the iterator is exhausted or closed.
        filenode: of the plan.
        condition: SQL over the table's columns, for the rows to read; None: all.
    Returns:
        tables of changelog_schema(), ``_op`` r, of about BATCH_BYTES each.
    Raises:
        TableRewritten: the chunk's pages or columns are no longer those of the plan.
        SourceGone, MissingRight, …: as connect.map_error.
    """
    relation, page_min, page_max = chunk
    bounds = []
    if page_min > 0:
        bounds.append(f"ctid >= '({int(page_min)},0)'::pg_catalog.tid")
    if page_max < PAGE_MAX:
        bounds.append(f"ctid < '({int(page_max) + 1},0)'::pg_catalog.tid")
    bounds += [f"({condition})"] if condition else []
    yield from _read(source, schema, relation, bounds, copy_lsn, json.loads(filenode)[relation])


def read_sweep(
    source: adbc.Connection,
    schema: TableSchema,
    *,
    xmin: str,
    copy_lsn: int,
    filenode: str,
    condition: str | None = None,
) -> Generator[pa.Table, None, None]:
    """Read the rows that were written since the plan was made, after its last chunk.

    Also returns rows whose transaction number was reused since (after 2 billion
    transactions): they are right too.

    Args, Returns, Raises:
        as ``read_chunk``; ``xmin`` and ``filenode`` of the plan.
    """
    # Transaction numbers in rows have 32 bits and wrap around; age() allows for it.
    written_since = f"pg_catalog.age(xmin) <= pg_catalog.age('{int(xmin) & 0xFFFFFFFF}'::pg_catalog.xid)"
    bounds = [written_since, *([f"({condition})"] if condition else [])]
    for relation, file in json.loads(filenode).items():
        yield from _read(source, schema, relation, bounds, copy_lsn, file)


def read_exported(
    source: adbc.Connection, schema: TableSchema, rows: str, *, snapshot: str
) -> Iterator[pa.Table]:
    """Read rows as an exported snapshot shows them, in the form of ``read_chunk``.

    Args:
        source: used by this alone until the iterator is exhausted or closed.
        rows: SQL behind a select list.
        snapshot: its name.
    """
    columns = ", ".join(snapshot_expression(column) for column in schema.columns)
    with _transaction(source, schema), closing(source.cursor()) as cursor:
        with _mapped(schema):
            cursor.adbc_statement.set_options(**{StatementOptions.USE_COPY.value: "false"})
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(f"SET TRANSACTION SNAPSHOT {sql.Literal(snapshot).as_string(None)}")
        for batch in _batches(cursor, f"SELECT {columns} {rows}", schema):
            yield from_snapshot(pa.Table.from_batches([batch]), schema, 0)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A table that may have pages."""

    relation: str
    filenode: int
    size_bytes: int
    row_estimate: int
    has_toast: bool


def _leaves(connection: Connection, schema: TableSchema) -> list[_Leaf]:
    """The tables whose pages make up a table: its leaf partitions, or itself."""
    rows = _execute(connection, _LEAVES, {"oid": schema.oid})
    leaves = [leaf for has_pages, *leaf in rows if has_pages]
    # A table that is dropped at this very moment is still listed, but has no file any more.
    if not rows or any(None in leaf for leaf in leaves):
        raise TableRewritten(f"table {schema.id} was dropped before its copy was planned")
    return [_Leaf(*leaf) for leaf in leaves]


def _chunks(relation: str, page_count: int, pages: int) -> Iterator[Chunk]:
    """Stretches of ``pages`` pages, the last one open-ended."""
    starts = range(0, max(1, page_count), pages)
    for start in starts:
        last = start == starts[-1]
        yield Chunk(relation, start, PAGE_MAX if last else start + pages - 1)


def _read(
    source: adbc.Connection,
    schema: TableSchema,
    relation: str,
    bounds: Sequence[str],
    copy_lsn: int,
    filenode: int,
) -> Iterator[pa.Table]:
    """Stream a relation's rows out of the planned file, in one transaction."""
    columns = ", ".join(snapshot_expression(column) for column in schema.columns)
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    with _transaction(source, schema), closing(source.cursor()) as cursor:
        with _mapped(schema):
            _check_filenode(cursor, schema, relation, filenode)
        for batch in _batches(cursor, f"SELECT {columns} FROM ONLY {relation}{where}", schema):
            try:
                rows = from_snapshot(pa.Table.from_batches([batch]), schema, copy_lsn)
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a column of this name, but another one
                raise TableRewritten(
                    f"table {schema.id} has other columns than its copy began with"
                ) from None  # it may quote a value
            yield rows


def _check_filenode(cursor: adbc.Cursor, schema: TableSchema, relation: str, filenode: int) -> None:
    """Lock the relation against rewrites until the transaction ends; then compare its file."""
    cursor.adbc_statement.set_options(**{StatementOptions.USE_COPY.value: "false"})
    cursor.execute(f"LOCK TABLE ONLY {relation} IN ACCESS SHARE MODE")
    cursor.execute("SELECT pg_catalog.pg_relation_filenode($1::pg_catalog.regclass)::int8", (relation,))
    row = cursor.fetchone()
    if row is None or row[0] != filenode:
        raise TableRewritten(f"table {schema.id} was rewritten while it was being copied ({relation})")


def _batches(cursor: adbc.Cursor, statement: str, schema: TableSchema) -> Iterator[pa.RecordBatch]:
    """The rows of a query as they come, in batches of about BATCH_BYTES."""
    options = {StatementOptions.USE_COPY: "true", StatementOptions.BATCH_SIZE_HINT_BYTES: str(BATCH_BYTES)}
    with _mapped(schema):
        cursor.adbc_statement.set_options(**{option.value: value for option, value in options.items()})
        cursor.execute(statement)
        with closing(cursor.fetch_record_batch()) as batches:
            for batch in batches:
                if batch.num_rows:
                    yield batch


@contextmanager
def _transaction(source: adbc.Connection, schema: TableSchema) -> Iterator[None]:
    """End the transaction that the statements in here begin."""
    try:
        yield
    except BaseException:
        with suppress(*ADBC_ERRORS):  # what went wrong first says more
            source.rollback()
        raise
    with _mapped(schema):
        source.rollback()


@contextmanager
def _mapped(schema: TableSchema) -> Iterator[None]:
    """Raise ADBC's errors as ours; a relation or column that is gone as TableRewritten."""
    try:
        yield
    except ADBC_ERRORS as error:
        mapped = map_error(error, f"copying table {schema.id}")
        if getattr(error, "sqlstate", None) in _CHANGED_STATES:
            raise TableRewritten(str(mapped)) from error
        raise mapped from error


def _execute(connection: Connection, statement: LiteralString, arguments: Any = None) -> list[Any]:
    """The rows of a catalog query."""
    try:
        return connection.execute(statement, arguments).fetchall()
    except psycopg.Error as error:
        raise map_error(error, "planning a copy") from error


# undefined_table, undefined_column, invalid_schema_name, undefined_function (of a
# type that changed), wrong_object_type, datatype_mismatch
_CHANGED_STATES = frozenset({"42P01", "42703", "3F000", "42883", "42809", "42804"})

_SNAPSHOT: LiteralString = """
SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text,
       pg_catalog.current_setting('block_size')::int8
"""

_SIZE: LiteralString = """
SELECT coalesce(sum(pg_catalog.pg_table_size(leaf.relid)), 0)::int8
FROM (SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass) WHERE isleaf
      UNION SELECT %(oid)s::oid::regclass) AS leaf
"""

_LEAVES: LiteralString = """
SELECT c.relkind = 'r', pg_catalog.format('%%I.%%I', n.nspname, c.relname),
       pg_catalog.pg_relation_filenode(c.oid)::int8, pg_catalog.pg_relation_size(c.oid),
       greatest(c.reltuples, 0)::int8,
       c.reltoastrelid <> 0 AND coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0) > 0
FROM (SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s::oid::regclass) WHERE isleaf
      UNION SELECT %(oid)s::oid::regclass) AS leaf
JOIN pg_catalog.pg_class c ON c.oid = leaf.relid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.oid
"""
