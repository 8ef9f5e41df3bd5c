"""The lake's side: trusted tables as of an exact LSN, counted and summed up by DuckDB.

A table is its latest Iceberg snapshot that holds nothing after the LSN, plus the
changes up to the LSN that are durable in raw but not in that snapshot (``overlay``).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from smartstream.change import UNTYPED
from smartstream.errors import VerifyError
from smartstream.manifest import Entry, EntryKind, RawFile
from smartstream.query.duckdb import add_filesystem, engine
from smartstream.query.relation import relation, sql_type
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import Column, PgType, TableSchema
from smartstream.sql_text import literal
from smartstream.transform.evolution import can_widen
from smartstream.trusted.catalog import TRUSTED, open_catalog
from smartstream.trusted.plan import (
    LivePlan,
    field_ids,
    find_table,
    names_since_ever,
    plan,
    positioned,
)
from smartstream.trusted.position import Position
from smartstream.verify.canonical import BUCKETS, FoundRow, Search, Sums, lake_hash, lake_row
from smartstream.verify.overlay import changes_before, column_name, overlaid

POLL_S = 0.2
QUIET_S = 1.5
"""Nobody reads the slot and the log does not grow for this long: no pipeline is running."""

TextsOf = Callable[[PgType, Sequence[str]], list[str]]


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A trusted table as of an LSN: SQL that selects c<attnum> for each column, and ``_untyped``.

    Attributes:
        exact: per column of the schema, SQL for the canonical text of values that the
            lake keeps as text; None where it keeps none.
        joins: SQL that ``exact`` needs behind FROM.
    """

    schema: TableSchema
    relation: str
    pending_changes: int
    exact: tuple[str | None, ...] = ()
    joins: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A trusted table at the snapshot that holds nothing after an LSN."""

    table: Table
    snapshot: Snapshot | None
    position: Position


class LakeReader:
    """Reads trusted tables and the manifest; writes nothing."""

    def __init__(
        self, settings: Any, *, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self.store = open_store(settings.lake)
        self._log = ManifestLog(self.store, clock)
        self.catalog = open_catalog(settings.lake)
        self.connection = engine(settings.limits)
        self.state = self._log.load()
        self._recent: list[Entry] = list(self._log.entries(self._log.applied_seq))
        self.numbers = itertools.count(1)

    def close(self) -> None:
        """Close DuckDB."""
        self.connection.close()

    def wait(
        self, lsn: int, schemas: Iterable[TableSchema], *, wait_seconds: float, active: Callable[[], bool]
    ) -> None:
        """Wait until the lake holds everything before ``lsn``, or a while, or no pipeline runs.

        Args:
            active: whether somebody reads the slot.
        """
        tables = list(schemas)
        waiting = Event()
        deadline = self._monotonic() + wait_seconds
        quiet_since, seen = self._monotonic(), -1
        while not self._reached(lsn, tables):
            now = self._monotonic()
            if self.state.seq != seen or active():
                quiet_since, seen = now, self.state.seq
            if now >= deadline or now - quiet_since >= QUIET_S:
                return
            waiting.wait(POLL_S)
            for entry in self._log.entries(self.state.seq):
                self.state = self.state.apply(entry)
                self._recent.append(entry)

    def table(self, schema: TableSchema, lsn: int, texts_of: TextsOf) -> LakeTable:
        """Return a table as of ``lsn``, or of all the lake has if that is less.

        Args:
            schema: of the source at ``lsn``.
            texts_of: the canonical texts of values that are kept as text.
        Raises:
            VerifyError: the lake does not have the table, a column, or a snapshot old enough.
        """
        placed = self.place(schema, lsn)
        if placed.position.rules:
            raise VerifyError("its rows went through rules that it has no longer")
        view = self.view(placed.table, placed.snapshot, schema)
        changes = self.changes(schema, lsn, placed.position)
        if changes is not None:
            view = overlaid(self.connection, view, changes, schema, next(self.numbers))
        table = LakeTable(schema, view, 0 if changes is None else changes.num_rows)
        return self._with_exact(table, names_of(placed.table, schema), texts_of)

    def place(self, schema: TableSchema, lsn: int) -> Placed:
        """Find a trusted table as it was at ``lsn``, or just before.

        Raises:
            VerifyError: the lake does not have it, or no snapshot old enough.
        """
        found = find_table(self.catalog, TRUSTED, schema.lake_name)
        if found is None:
            raise VerifyError("it is not in the lake yet")
        at = positioned(found, lsn)
        if at is None:
            raise VerifyError("the lake has moved on since; verify again")
        self._check_copied(schema, lsn, at[1])
        return Placed(found, *at)

    def view(self, table: Table, snapshot: Snapshot | None, schema: TableSchema) -> str:
        """Return SQL for the rows of a snapshot: c<attnum> for each column of ``schema``, and ``_untyped``.

        Raises:
            VerifyError: the table lacks a column.
        """
        add_filesystem(self.connection, [table])
        names, live = _columns(table, plan(table, snapshot), schema)
        rows = relation(live, names)
        if UNTYPED in names.values():
            return rows
        return f"SELECT *, NULL::VARCHAR AS {UNTYPED} FROM ({rows})"

    def changes(self, schema: TableSchema, lsn: int, position: Position) -> pa.Table | None:
        """Return what is durable before ``lsn`` that a table at ``position`` does not hold.

        Raises:
            VerifyError: it is too much, or of another schema.
        """
        files = self._pending(schema.id, lsn, position)
        return changes_before(self.store, files, schema, lsn, self._bytes_max)

    def fresh_log(self) -> ManifestLog:
        """Return the manifest as far as it is now."""
        log = ManifestLog(self.store, self._clock)
        log.load()
        return log

    def flagged(self, rows: str) -> set[str]:
        """Return the names under which ``_untyped`` holds texts in any of ``rows``, as of ``view``."""
        query = f"SELECT DISTINCT unnest(json_keys({UNTYPED})) FROM ({rows}) WHERE {UNTYPED} IS NOT NULL"
        return {name for (name,) in self.connection.execute(query).fetchall()}

    def sums(self, table: LakeTable) -> Sums:
        """Count the rows and sum up their hashes, per bucket."""
        hashed = f"SELECT {_hash(table)} AS h FROM {_from(table)}"
        query = f"SELECT h & {BUCKETS - 1}, count(*), sum(h) FROM ({hashed}) GROUP BY 1"
        rows = self._fetch(query)
        return {int(bucket): (int(count), int(total)) for bucket, count, total in rows}

    def rows(self, table: LakeTable, search: Search) -> list[FoundRow]:
        """Return the rows to look at for differences."""
        columns = table.schema.key_columns()
        positions = [table.schema.columns.index(column) for column in columns]
        exact = [table.exact[n] for n in positions] if table.exact else []
        key = lake_row([(column.type, column_name(column)) for column in columns], exact)
        shown = ", ".join(f"CAST({column_name(column)} AS VARCHAR)" for column in columns)
        query = (
            f"SELECT h, key, shown FROM (SELECT {_hash(table)} AS h, {key} AS key, [{shown}] AS shown "
            f"FROM {_from(table)}) WHERE {search.condition('md5(key)')}"
        )
        rows = self._fetch(query)
        return [FoundRow(int(h), str(key), tuple(shown)) for h, key, shown in rows]

    def _fetch(self, query: str) -> list[Any]:
        """The rows of a query over all values of a table."""
        try:
            return self._with_less_memory(query)
        except duckdb.OutOfMemoryException as error:
            raise VerifyError(
                "its values are too large to be compared within limits.duckdb_memory "
                f"({self._settings.limits.duckdb_memory >> 20} MiB): a value takes about 16 times its size"
            ) from error

    def _with_less_memory(self, query: str) -> list[Any]:
        """The rows of a query; if need be of one thread: each reads every column of a wide table."""
        try:
            return self.connection.execute(query).fetchall()
        except duckdb.OutOfMemoryException:
            self.connection.execute("SET threads = 1")
        try:
            return self.connection.execute(query).fetchall()
        finally:
            self.connection.execute(f"SET threads = {int(self._settings.limits.threads)}")

    @property
    def _bytes_max(self) -> int:
        """Raw bytes that an overlay may have: Arrow takes several times as much."""
        return int(self._settings.limits.memory_bytes) // 8

    def _reached(self, lsn: int, schemas: Iterable[TableSchema]) -> bool:
        """Whether everything before ``lsn`` is durable, and in the trusted tables."""
        if self.state.durable_lsn < lsn:
            return False
        for schema in schemas:
            needed = [e.seq for e in self._recent if any(f.lsn_min < lsn for f in _files(e, schema.id))]
            if not needed:
                continue
            table = find_table(self.catalog, TRUSTED, schema.lake_name)
            if table is None or Position.from_properties(table.properties).seq < needed[-1]:
                return False
        return True

    def _check_copied(self, schema: TableSchema, lsn: int, position: Position) -> None:
        """Refuse a table whose copy is not done, or not exact yet at ``lsn``."""
        state = self.state.tables.get(schema.id)
        if state is None:
            return
        if position.generation == 0:
            raise VerifyError("it is still being copied")
        if TableSchema.from_json(state.schema).oid != schema.oid:
            raise VerifyError("another table has its name since: that one's copy has not begun yet")
        if position.generation == state.generation and state.ready_lsn > min(lsn, self.state.durable_lsn):
            raise VerifyError("its copy is not complete yet: the changes made meanwhile are missing")

    def _pending(self, table: str, lsn: int, position: Position) -> list[RawFile]:
        """Raw files with changes before ``lsn`` that a table at ``position`` does not hold."""
        entries: Iterable[Entry] = self._recent
        if self._recent and position.seq < self._recent[0].seq - 1 and position.seq < self._log.applied_seq:
            # An older Iceberg snapshot: what the checkpoint counts as applied came after it.
            entries = self._log.entries(position.seq)
        return [
            file
            for entry in entries
            if entry.seq > position.seq
            for file in _files(entry, table)
            if file.lsn_min < lsn
        ]

    def _with_exact(
        self, table: LakeTable, names: Mapping[int, Sequence[str]], texts_of: TextsOf
    ) -> LakeTable:
        """The table with the canonical texts of the values that it keeps as text.

        One join, however many columns have such values: each costs memory by itself.

        Args:
            names: attnum → names under which ``_untyped`` may know the column.
        """
        flagged = self.flagged(table.relation)
        known = {
            c.attnum: [name for name in names[c.attnum] if name in flagged] for c in table.schema.columns
        }
        columns = [column for column in table.schema.columns if known[column.attnum]]
        if not columns:
            return table
        kept = ", ".join(first_of(known[column.attnum], column_name(column)) for column in columns)
        raws = f"CASE WHEN {UNTYPED} IS NOT NULL THEN [{kept}] END"
        name = f"exact_{next(self.numbers)}"
        self._make_exact(name, f"SELECT DISTINCT {raws} AS raws FROM ({table.relation})", columns, texts_of)
        place = {column.attnum: number for number, column in enumerate(columns, 1)}
        exact = tuple(
            f"{name}.texts[{place[c.attnum]}]" if c.attnum in place else None for c in table.schema.columns
        )
        return replace(table, exact=exact, joins=f" LEFT JOIN {name} ON {name}.raws = {raws}")

    def _make_exact(self, name: str, query: str, columns: Sequence[Column], texts_of: TextsOf) -> None:
        """Make a table of lists: ``raws``, as PostgreSQL prints them, and ``texts``, the canonical ones.

        Args:
            query: SQL for the different lists ``raws``.
        """
        lists, known = f"{name}_lists", f"{name}_known"
        self.connection.execute(f"CREATE TEMP TABLE {lists} AS FROM ({query}) WHERE raws IS NOT NULL")
        pieces = []
        for number, column in enumerate(columns, 1):
            found = f"SELECT DISTINCT raws[{number}] FROM {lists} WHERE raws[{number}] IS NOT NULL"
            texts = [text for (text,) in self.connection.execute(found).fetchall()]
            canonical = pa.array(texts_of(column.type, texts), pa.string())
            numbers = pa.repeat(pa.scalar(number, pa.int64()), len(texts))
            pieces.append(pa.table({"n": numbers, "raw": pa.array(texts, pa.string()), "text": canonical}))
        self.connection.register(known, pa.concat_tables(pieces))
        each = f"SELECT raws, unnest(raws) AS raw, generate_subscripts(raws, 1) AS n FROM {lists}"
        self.connection.execute(
            f"CREATE TEMP TABLE {name} AS SELECT raws, list(text ORDER BY n) AS texts"
            f" FROM ({each}) LEFT JOIN {known} USING (n, raw) GROUP BY raws"
        )


def _columns(table: Table, live: LivePlan, schema: TableSchema) -> tuple[dict[int, str], LivePlan]:
    """Field id → c<attnum> for each source column, and ``_untyped``."""
    ids = field_ids(table, schema.columns)
    present = {column.field_id: column for column in live.columns}
    names: dict[int, str] = {}
    for column in schema.columns:
        field_id = ids.get(column.attnum)
        if field_id is None or field_id not in present:
            raise VerifyError(f"column {column.name} is not in the lake yet; it comes with the next change")
        kind = present[field_id].type
        if sql_type(kind) != sql_type(column.type.arrow) and not can_widen(kind, column.type.arrow):
            raise VerifyError(f"column {column.name} is still of its old type in the lake")
        names[field_id] = column_name(column)
    if ids.get(UNTYPED) in present:
        names[ids[UNTYPED]] = UNTYPED
    return names, live


def _files(entry: Entry, table: str) -> list[RawFile]:
    """The files with changes of a table in an entry."""
    if entry.kind is not EntryKind.CHANGES:
        return []
    return [file for file in entry.files if file.table == table]


def names_of(table: Table, schema: TableSchema) -> dict[int, Sequence[str]]:
    """Return attnum → the names of each source column, its present one first."""
    ids, names = field_ids(table, schema.columns), names_since_ever(table)
    return {c.attnum: (c.name, *names.get(ids.get(c.attnum, -1), ())) for c in schema.columns}


def first_of(names: Sequence[str], value: str) -> str:
    """Return SQL for the text kept for a column under one of ``names``, where its value is null."""
    texts = [f"json_extract_string({UNTYPED}, {literal(_pointer(name))})" for name in dict.fromkeys(names)]
    return f"CASE WHEN {value} IS NULL THEN coalesce({', '.join(texts)}) END"


def _pointer(name: str) -> str:
    """A JSON pointer to a member; DuckDB takes the pointer's escapes."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _hash(table: LakeTable) -> str:
    """The hash of a row."""
    return lake_hash(lake_row([(c.type, column_name(c)) for c in table.schema.columns], table.exact))


def _from(table: LakeTable) -> str:
    """What to select from."""
    return f"({table.relation}) AS live{table.joins}"
