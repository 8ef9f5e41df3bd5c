"""The trusted tables of one run, each at one snapshot, and what has changed in them since another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from smartstream.errors import FeaturesInvalid
from smartstream.inference.features import affected
from smartstream.inference.features.query import FeatureQuery
from smartstream.inference.features.tree import BEFORE, DELTA, FOUND, NOW
from smartstream.query.duckdb import add_filesystem, engine
from smartstream.query.relation import relation
from smartstream.schema import TableSchema
from smartstream.sql_text import quoted
from smartstream.trusted.catalog import TRUSTED, LakeCatalog
from smartstream.trusted.changes import changed_keys, rows_with_keys, state_of
from smartstream.trusted.engine import Engine
from smartstream.trusted.evolve import SCHEMA_PROPERTY
from smartstream.trusted.plan import find_table, plan
from smartstream.trusted.position import Position
from smartstream.trusted.state import TableState

FOUND_KEYS_MAX = 200_000
"""Rows of up to this many keys are looked up, and held in memory; for more, tables are scanned."""
ALL_ROWS_MIN = 1000
ALL_RATIO = 0.3
"""With more changed rows than this share of a table, comparing all features costs less."""


@dataclass(frozen=True, slots=True)
class PinnedTable:
    """A trusted table as one run sees it.

    Attributes:
        snapshot_id: None while it has never held a row.
        lsn: everything up to it is in the table.
    """

    name: str
    iceberg: Table
    snapshot_id: int | None
    lsn: int
    key: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Its columns."""
        return [field.name for field in self.iceberg.schema().fields]

    @property
    def row_count(self) -> int:
        """Its rows, those included that are deleted."""
        snapshot = self.iceberg.snapshot_by_id(self.snapshot_id) if self.snapshot_id else None
        total = snapshot.summary["total-records"] if snapshot and snapshot.summary else None
        return int(total or 0)


@dataclass(frozen=True, slots=True)
class Watermark:
    """What a run has read: table → its identity and snapshot."""

    tables: Mapping[str, tuple[str, int | None]]

    def to_json(self) -> str:
        """One line, the same for the same tables."""
        return json.dumps({name: list(at) for name, at in sorted(self.tables.items())})

    @staticmethod
    def from_json(text: str) -> Watermark:
        """Inverse of ``to_json``."""
        found: dict[str, list[Any]] = json.loads(text or "{}")
        return Watermark({name: (at[0], at[1]) for name, at in found.items()})


class Pinned:
    """The tables of a feature query at this moment, readable by DuckDB."""

    def __init__(self, query: FeatureQuery, key: Sequence[str], catalog: LakeCatalog) -> None:
        self.query, self.key = query, tuple(key)
        self.tables = {name: _pin(name, query, catalog) for name in query.tables}
        self._columns = {name: dict.fromkeys(table.columns, "unknown") for name, table in self.tables.items()}
        self._tree = affected.qualified(query, self._columns)
        self._since: Watermark | None = None
        self._work: Engine | None = None
        self._states: dict[str, TableState] = {}
        names = [one.alias_or_name for one in self._tree.expressions]
        if missing := sorted(set(key) - set(names)):
            raise FeaturesInvalid(f"{query.path}: the query has no column {', '.join(missing)}, its key")

    @property
    def watermark(self) -> Watermark:
        """What a run with these tables reads."""
        tables = self.tables.items()
        return Watermark({n: (str(t.iceberg.metadata.table_uuid), t.snapshot_id) for n, t in tables})

    @property
    def lsn(self) -> int:
        """The source's position up to which all tables are complete."""
        return min(table.lsn for table in self.tables.values())

    def deltas(self, since: Watermark, work: Engine) -> dict[str, pa.Table] | None:
        """The keys of changed rows of each table; None where that can't be told or is most of it."""
        self._work, found = work, {}
        for name, table in self.tables.items():
            uuid, snapshot = since.tables.get(name, ("", None))
            if uuid != str(table.iceberg.metadata.table_uuid):
                return None
            if snapshot == table.snapshot_id:
                continue
            keys = changed_keys(table.iceberg, snapshot, self._state(name), work, columns=self._used(name))
            if keys is None or keys.num_rows > max(ALL_ROWS_MIN, ALL_RATIO * table.row_count):
                return None
            found[name] = keys
        return found

    @contextmanager
    def opened(self, limits: Any, since: Watermark | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """DuckDB for the run; ``affected_keys`` compares with the tables as of ``since``."""
        connection = engine(limits)
        self._since = since
        try:
            add_filesystem(connection, [table.iceberg for table in self.tables.values()])
            for schema in (NOW, BEFORE, DELTA, FOUND):
                connection.execute(f"CREATE SCHEMA {quoted(schema)}")
            yield connection
        finally:
            connection.close()

    def affected_keys(
        self, connection: duckdb.DuckDBPyConnection, deltas: Mapping[str, pa.Table]
    ) -> pa.Table | None:
        """The keys whose features can have changed; None where the query is not understood."""
        asked = []
        for name, keys in deltas.items():
            made = affected.key_queries(self._tree, self.key, name, self.tables[name].key)
            if made is None:
                return None
            asked += made
            connection.register(f"delta_{name}", keys)
            _view(connection, DELTA, name, f"SELECT * FROM {quoted(f'delta_{name}')}")
        names = ", ".join(quoted(name) for name in self.key)
        if not asked:
            asked = [f"SELECT {names} FROM ({self.features(connection)}) WHERE false"]
        union = " UNION ALL ".join(f"SELECT {names} FROM ({sql})" for sql in asked)
        there = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in self.key)
        self._show(connection, union)
        found: pa.Table = connection.sql(
            f"SELECT DISTINCT {names} FROM ({union}) WHERE {there}"
        ).to_arrow_table()
        return found

    def features(self, connection: duckdb.DuckDBPyConnection, keys: pa.Table | None = None) -> str:
        """The query's SQL over the pinned tables, of all keys or of ``keys``, the table ``affected``."""
        by_key: dict[str, str] = {}
        if keys is not None and keys.num_rows <= FOUND_KEYS_MAX and len(self.key) == 1:
            by_key = {name: table.key[0] for name, table in self.tables.items() if len(table.key) == 1}
        sql = affected.feature_query(self._tree, self.key, affected=keys is not None, by_key=by_key)
        self._show(connection, sql)
        for name in by_key:
            if f"{quoted(FOUND)}.{quoted(name)}" in sql:
                self._find(connection, name, keys)
        return sql

    def _used(self, name: str) -> list[str]:
        """The columns of a table that the query can read."""
        used = affected.columns_used(self._tree)
        return [column for column in self._columns[name] if column.lower() in used]

    def _find(self, connection: duckdb.DuckDBPyConnection, name: str, keys: pa.Table | None) -> None:
        """The rows of a table whose key is one of ``keys``, looked up."""
        table = self.tables[name]
        assert keys is not None
        assert self._work is not None
        asked = keys.select([0]).rename_columns([table.key[0]])
        rows = rows_with_keys(table.iceberg, self._state(name), asked, self._used(name), self._work)
        connection.register(f"found_{name}", rows)
        _view(connection, FOUND, name, f"SELECT * FROM {quoted(f'found_{name}')}")

    def _state(self, name: str) -> TableState:
        """The files of a table, read once."""
        if name not in self._states:
            table = self.tables[name]
            self._states[name] = state_of(table.iceberg, table.snapshot_id)
        return self._states[name]

    def _show(self, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
        """The tables as of this run and the last one, those that ``sql`` names."""
        for name, table in self.tables.items():
            if f"{quoted(NOW)}.{quoted(name)}" in sql:
                now = table.iceberg.snapshot_by_id(table.snapshot_id) if table.snapshot_id else None
                _view(connection, NOW, name, relation(plan(table.iceberg, now)))
            if f"{quoted(BEFORE)}.{quoted(name)}" in sql:
                assert self._since is not None
                _, number = self._since.tables[name]
                then = table.iceberg.snapshot_by_id(number) if number is not None else None
                rows = relation(plan(table.iceberg, then))
                _view(connection, BEFORE, name, rows if then else _none_of(rows))


def _pin(name: str, query: FeatureQuery, catalog: LakeCatalog) -> PinnedTable:
    """A table as it is now."""
    table = find_table(catalog, TRUSTED, name)
    if table is None:
        raise FeaturesInvalid(
            f"{query.path}: there is no trusted table {name}", hint="`smartstream tables` lists them."
        )
    if SCHEMA_PROPERTY not in table.properties:
        raise FeaturesInvalid(f"{query.path}: the table {name} was not made by SmartStream")
    snapshot = table.current_snapshot()
    return PinnedTable(
        name=name,
        iceberg=table,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        lsn=Position.from_properties(table.properties).lsn,
        key=TableSchema.from_json(table.properties[SCHEMA_PROPERTY]).key,
    )


def _view(connection: duckdb.DuckDBPyConnection, schema: str, name: str, sql: str) -> None:
    """A view of one table."""
    connection.execute(f"CREATE OR REPLACE VIEW {quoted(schema)}.{quoted(name)} AS {sql}")


def _none_of(sql: str) -> str:
    """The same columns without rows."""
    return f"SELECT * FROM ({sql}) WHERE false"
