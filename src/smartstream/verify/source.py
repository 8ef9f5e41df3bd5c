"""The source's side: its tables as of one exact LSN, counted and summed up in chunks.

A temporary logical slot is created with an exported snapshot.  The slot's consistent
point is the one LSN for which the snapshot shows what committed before it, and nothing
that committed at or after it.  Sessions in that snapshot read in parallel.

Source: PostgreSQL manual, "Streaming Replication Protocol", CREATE_REPLICATION_SLOT.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq, sql

from smartstream.capture.connect import connect, map_error
from smartstream.errors import VerifyError
from smartstream.lsn import parse_lsn
from smartstream.schema import PgType, TableSchema
from smartstream.sql_text import quoted
from smartstream.verify.canonical import (
    BUCKETS,
    FoundRow,
    Search,
    Sums,
    source_hash,
    source_md5,
    source_row,
    source_text,
)

CHUNK_PAGES = 16_384
"""128 MiB of heap with 8 KiB pages."""
TID_RANGE_VERSION_MIN = 140000
"""Older servers read the whole table for each range of ctid."""
TEXTS_MAX = 5_000

Session = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Pages of one ordinary table, ``page_end`` None is open-ended; ``condition``: of some of its rows."""

    relation: str  # schema-qualified and quoted
    page_start: int = 0
    page_end: int | None = None
    condition: str | None = None

    @property
    def rows(self) -> str:
        """As SQL behind a select list.  OFFSET 0 keeps the planner from computing that list twice."""
        conditions = []
        if self.page_start > 0:
            conditions.append(f"ctid >= '({self.page_start},0)'::tid")
        if self.page_end is not None:
            conditions.append(f"ctid < '({self.page_end},0)'::tid")
        if self.condition:
            conditions.append(f"({self.condition})")
        return f"FROM ONLY {self.relation} WHERE {' AND '.join(conditions) or 'true'} OFFSET 0"


class SourceSnapshot:
    """The source as of ``lsn``; a context manager that holds the snapshot ``name`` while it is open.

    Transactions whose commit record begins before ``lsn`` are visible, no others.
    TRUNCATE and rewriting ALTER TABLEs by others do not respect snapshots: one
    between ``__enter__`` and ``lock`` can show as a difference.
    """

    def __init__(
        self,
        source: Any,
        *,
        slot: str,
        wait_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            slot: name of the temporary slot; must not exist.
            wait_seconds: how long to wait for older transactions to end.
        """
        self._source, self._slot = source, slot
        self._wait_seconds, self._monotonic = wait_seconds, monotonic
        self._held = ExitStack()
        self.lsn = 0
        self.name = ""
        self.utf8 = True

    def __enter__(self) -> Self:
        """Create the slot and its snapshot.

        Raises:
            VerifyError: a transaction has been open for longer than ``wait_seconds``.
            NoFreeSlot, MissingRight, SourceUnreachable, …: as the source answers.
        """
        with ExitStack() as held:
            walsender = held.enter_context(closing(connect(self._source, replication=True)))
            self._export(walsender)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def session(self) -> Session:
        """Open a session that sees the snapshot; the caller closes it."""
        session = connect(self._source)
        try:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.name)))
            session.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            session.execute("SET LOCAL jit = off")
        except psycopg.Error as error:
            session.close()
            raise map_error(error, "opening a session in the exported snapshot") from error
        self.utf8 = session.info.parameter_status("server_encoding") == "UTF8"
        return session

    def _export(self, walsender: Session) -> None:
        """Create the temporary slot; its snapshot lives until the next command on this connection."""
        statement = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT").format(
            sql.Identifier(self._slot)
        )
        connection = walsender.pgconn
        connection.send_query(statement.as_bytes(None))
        deadline = self._monotonic() + self._wait_seconds
        while connection.is_busy():
            remaining = deadline - self._monotonic()
            if remaining <= 0:
                connection.get_cancel().cancel()
                raise VerifyError(
                    f"a transaction has been open for more than {self._wait_seconds:g} s: "
                    f"there is no common position to compare at",
                    hint="Look for old transactions in pg_stat_activity (xact_start), then verify again.",
                )
            if select.select([connection.socket], [], [], remaining)[0]:
                connection.consume_input()
        result = connection.get_result()
        assert result is not None
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise map_error(psycopg.errors.error_from_result(result), "creating a temporary replication slot")
        point, snapshot = result.get_value(0, 1), result.get_value(0, 2)
        assert point is not None
        assert snapshot is not None
        self.lsn, self.name = parse_lsn(point.decode()), snapshot.decode()


def lock(session: Session, schemas: Iterable[TableSchema]) -> None:
    """Keep the tables from being rewritten while the session is open."""
    for schema in schemas:
        session.execute(f"LOCK TABLE {_name(schema.schema, schema.name)} IN ACCESS SHARE MODE")


def chunks(session: Session, schema: TableSchema, condition: str | None = None) -> list[Chunk]:
    """Cut a table, or all partitions of it, into chunks that together are the table."""
    rows = session.execute(
        "SELECT n.nspname, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::int8 "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'r' AND c.oid IN (SELECT %s UNION ALL SELECT relid FROM pg_partition_tree(%s)) "
        "ORDER BY c.oid",
        (schema.oid, schema.oid),
    ).fetchall()
    ranges = session.info.server_version >= TID_RANGE_VERSION_MIN
    found = []
    for namespace, name, pages in rows:
        starts = list(range(0, max(int(pages), 1), CHUNK_PAGES)) if ranges else [0]
        ends = [*starts[1:], None]
        relation = _name(namespace, name)
        found += [Chunk(relation, a, b, condition) for a, b in zip(starts, ends, strict=True)]
    return found


def chunk_sums(session: Session, chunk: Chunk, schema: TableSchema, *, utf8: bool) -> Sums:
    """Count the rows of a chunk and sum up their hashes, per bucket."""
    hashed = f"SELECT {_hash(schema, utf8)} AS h {chunk.rows}"
    query = f"SELECT h & {BUCKETS - 1}, count(*), sum(h) FROM ({hashed}) AS hashed GROUP BY 1"
    rows = _run(session, query, schema)
    return {int(bucket): (int(count), int(total)) for bucket, count, total in rows}


def chunk_rows(
    session: Session, chunk: Chunk, schema: TableSchema, search: Search, *, utf8: bool
) -> list[FoundRow]:
    """Return the rows of a chunk to look at for differences."""
    key = source_row([(column.type, quoted(column.name)) for column in schema.key_columns()])
    shown = ", ".join(f"textin({c.type.output}({quoted(c.name)}))" for c in schema.key_columns())
    hashed = f"SELECT {_hash(schema, utf8)} AS h, {key} AS key, ARRAY[{shown}] AS shown {chunk.rows}"
    condition = search.condition(source_md5("key", utf8=utf8))
    query = f"SELECT h, key, shown FROM ({hashed}) AS hashed WHERE {condition}"
    return [FoundRow(int(h), str(key), tuple(shown)) for h, key, shown in _run(session, query, schema)]


def texts_of(session: Session, kind: PgType, values: Sequence[str]) -> list[str]:
    """Return the canonical text of values that the lake keeps as PostgreSQL's text, in order.

    Raises:
        SourceError: the server cannot read one of them as this type.
    """
    found: list[str] = []
    name = kind.name.replace("%", "%%")
    canonical = source_text(kind, "v.value").replace("%", "%%")
    query = (
        f"SELECT {canonical} FROM (SELECT t.text::{name} AS value, t.number "
        f"FROM unnest(%s::text[]) WITH ORDINALITY AS t(text, number)) AS v ORDER BY v.number"
    )
    for start in range(0, len(values), TEXTS_MAX):
        try:
            rows = session.execute(query, (list(values[start : start + TEXTS_MAX]),)).fetchall()
        except psycopg.Error as error:
            raise map_error(error, f"reading values kept as text as {kind.name}") from error
        found += [str(text) for (text,) in rows]
    return found


def _hash(schema: TableSchema, utf8: bool) -> str:
    """The hash of a row."""
    return source_hash(source_row([(c.type, quoted(c.name)) for c in schema.columns]), utf8=utf8)


def _run(session: Session, query: str, schema: TableSchema) -> list[tuple[Any, ...]]:
    """Rows of a generated query, without parameters."""
    try:
        return session.execute(query).fetchall()
    except psycopg.Error as error:
        raise map_error(error, f"reading {schema.id}") from error


def _name(namespace: str, name: str) -> str:
    """A qualified, quoted name."""
    return f"{quoted(namespace)}.{quoted(name)}"
