"""Damaged records, kept in the table ``dms_records`` of the quarantine's namespace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from smartstream.delivery.lock import TableLocks
from smartstream.delivery.records import DAMAGED_SCHEMA
from smartstream.delivery.records.options import UNKNOWN_COLUMN
from smartstream.errors import CommitConflict
from smartstream.schema import TRUSTED_LSN, Column, TableSchema
from smartstream.transform.shape import made_column, pg_type
from smartstream.trusted.catalog import QUARANTINE, LakeCatalog, lake_errors
from smartstream.trusted.engine import Engine
from smartstream.trusted.table import TrustedTable

TABLE = "dms_records"
SEEN_AT = "_seen_at"
ATTEMPTS_MAX = 3

_COLUMNS = (
    *(Column(field.name, number, pg_type(field.type)) for number, field in enumerate(DAMAGED_SCHEMA, 1)),
    made_column(SEEN_AT, pa.timestamp("us", tz="UTC")),
)
SCHEMA = TableSchema(0, "public", TABLE, _COLUMNS, ("object", "number"))
_LOCK = f"{QUARANTINE}.{TABLE}"


class DamagedRecords:
    """One row for each damaged record, by the object that it lies in and its number there."""

    def __init__(self, catalog: LakeCatalog, engine: Engine, locks: TableLocks) -> None:
        self._catalog, self._engine, self._locks = catalog, engine, locks

    def keep(self, objects: Iterable[str], damaged: pa.Table, seen_at: datetime) -> None:
        """Replace what is known of ``objects``: what is read again and whole now is damaged no more.

        Args:
            damaged: (n, DAMAGED_SCHEMA) all the damaged records of the objects.
        Raises:
            TableBusy, CommitConflict: other functions are writing.
        """
        if not damaged.num_rows and not self._exists():
            return
        with self._locks.hold(_LOCK):
            for attempt in range(1, ATTEMPTS_MAX + 1):
                try:
                    self._replace(pa.table({"object": pa.array(sorted(set(objects)))}), damaged, seen_at)
                    return
                except CommitConflict:
                    if attempt == ATTEMPTS_MAX:
                        raise

    def with_unknown_columns(self, tables: Iterable[str]) -> list[str]:
        """The objects with records of ``schema.name`` that had a column nobody had defined then."""
        wanted = [name.partition(".") for name in sorted(tables)]
        if not wanted or not self._exists():
            return []
        columns = {
            "reason": [UNKNOWN_COLUMN] * len(wanted),
            "schema": [schema for schema, _, _ in wanted],
            "table": [name for _, _, name in wanted],
        }
        table = TrustedTable.open(self._catalog, SCHEMA, namespace=QUARANTINE, engine=self._engine)
        found = table.locate_by(pa.table(columns)) if table.row_count else None
        return sorted(set(found.keys["object"].to_pylist())) if found is not None else []

    def _exists(self) -> bool:
        with lake_errors(f"look for {QUARANTINE} table {TABLE}"):
            return bool(self._catalog.table_exists((QUARANTINE, TABLE)))

    def _replace(self, objects: pa.Table, damaged: pa.Table, seen_at: datetime) -> None:
        """Rows of the objects go, damaged ones come, in one commit."""
        table = TrustedTable.open(self._catalog, SCHEMA, namespace=QUARANTINE, engine=self._engine)
        known = table.locate_by(objects) if table.row_count else None
        gone = known if known is not None and known.row_count else None
        if gone is None and not damaged.num_rows:
            return
        held = table.position
        add = table.write(_rows(damaged, seen_at)) if damaged.num_rows else []
        table.commit(add=add, delete=gone, position=replace(held, seq=held.seq + 1))


def _rows(damaged: pa.Table, seen_at: datetime) -> pa.Table:
    """Damaged records in the shape of the table."""
    count, target = len(damaged), SCHEMA.trusted_schema()
    made = {
        SEEN_AT: pa.repeat(pa.scalar(seen_at, pa.timestamp("us", tz="UTC")), count),
        TRUSTED_LSN: pa.repeat(pa.scalar(0, pa.int64()), count),
    }
    arrays = [
        made[field.name]
        if field.name in made
        else damaged[field.name]
        if field.name in damaged.column_names
        else pa.nulls(count, field.type)
        for field in target
    ]
    return pa.table(arrays, schema=target)
