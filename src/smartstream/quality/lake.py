"""Trusted tables as DuckDB relations, with what must be known of each as of one commit.

This is ``query.open_lake`` for the tables that are measured: it plans those and no others, and
remembers the snapshot that it planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from smartstream.query.duckdb import add_filesystem, engine
from smartstream.query.relation import relation
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import ANALYTICS, QUARANTINE, TRUSTED, lake_errors, open_catalog
from smartstream.trusted.evolve import SCHEMA_PROPERTY
from smartstream.trusted.plan import find_table, plan
from smartstream.trusted.position import Position

RESULTS_TABLE = "trusted_quality"
_PLAIN = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
"""Iceberg tells no long text from a short one."""


class LakeQuerySettings(Protocol):
    """The part of the configuration that measuring needs."""

    @property
    def lake(self) -> Any: ...
    @property
    def limits(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A table of the lake as of one commit.

    Attributes:
        relation: SQL that selects its live rows, in parentheses.
        schema: its columns as SmartStream knows them.
        types: every column with its Arrow type, the system's too.
        applied_at: when rows last changed; None before the first time.
    """

    relation: str
    schema: TableSchema
    types: Mapping[str, pa.DataType]
    snapshot_id: int | None
    position: Position
    applied_at: datetime | None


class QualityLake:
    """A DuckDB connection and the tables that were opened; see ``open_quality_lake``."""

    def __init__(self, settings: LakeQuerySettings) -> None:
        self.connection: duckdb.DuckDBPyConnection = engine(settings.limits)
        self._catalog = open_catalog(settings.lake)
        self._open: dict[tuple[str, str], OpenTable | None] = {}

    def trusted(self, lake_name: str) -> OpenTable | None:
        """The trusted table of this name, None if there is none."""
        return self._table(TRUSTED, lake_name)

    def quarantine(self, lake_name: str) -> OpenTable | None:
        """The quarantine of the trusted table of this name."""
        return self._table(QUARANTINE, lake_name)

    def results(self) -> OpenTable | None:
        """The results of earlier checks."""
        return self._table(ANALYTICS, RESULTS_TABLE)

    def trusted_names(self) -> list[str]:
        """The names of all trusted tables, sorted."""
        with lake_errors("list the trusted tables"):
            return sorted(str(identifier[-1]) for identifier in self._catalog.list_tables(TRUSTED))

    def arrow(self, sql: str, parameters: Iterable[Any] = ()) -> pa.Table:
        """Run a query of ours."""
        with lake_errors("measure the trusted tables"):
            found: pa.Table = self.connection.sql(sql, params=list(parameters)).to_arrow_table()
        return found

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query whose result is small."""
        columns = [column.to_pylist() for column in self.arrow(sql, parameters).columns]
        return list(zip(*columns, strict=True))

    def _table(self, namespace: str, name: str) -> OpenTable | None:
        """Open a table once."""
        if (namespace, name) not in self._open:
            with lake_errors(f"open {namespace} table {name}"):
                self._open[namespace, name] = self._planned(namespace, name)
        return self._open[namespace, name]

    def _planned(self, namespace: str, name: str) -> OpenTable | None:
        """Plan a table that SmartStream has made."""
        table = find_table(self._catalog, namespace, name)
        if table is None or SCHEMA_PROPERTY not in table.properties:
            return None
        planned = plan(table)
        add_filesystem(self.connection, [table])
        moved = [
            snapshot.timestamp_ms
            for snapshot in table.metadata.snapshots
            # A compaction moves rows and changes none.
            if snapshot.summary is not None and snapshot.summary.operation.value != "replace"
        ]
        return OpenTable(
            relation=f"({relation(planned)})",
            schema=TableSchema.from_json(table.properties[SCHEMA_PROPERTY]),
            types={column.name: _PLAIN.get(column.type, column.type) for column in planned.columns},
            snapshot_id=planned.snapshot_id,
            position=Position.from_properties(table.properties),
            applied_at=datetime.fromtimestamp(max(moved) / 1000, UTC) if moved else None,
        )


@contextmanager
def open_quality_lake(settings: LakeQuerySettings) -> Iterator[QualityLake]:
    """Open the lake to measure it; each table stays as it was when it was first asked for.

    Raises:
        LakeError: the lake cannot be read.
    """
    lake = QualityLake(settings)
    try:
        yield lake
    finally:
        lake.connection.close()
