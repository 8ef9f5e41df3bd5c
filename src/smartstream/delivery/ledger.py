"""The ledger of a table: for each key that was ever delivered, its newest change.

It is an Iceberg table of its own, ``<table>__ledger`` in the quarantine's namespace: rows
that readers have no use for.  Entries of keys whose row is gone are forgotten after a
while, longer than a queue keeps a message; those of living rows stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa

from smartstream.change import COMMIT_LSN, ORDINAL
from smartstream.delivery.order import GONE
from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.transform.shape import made_column
from smartstream.trusted.table import Position, TrustedTable

SEEN_AT = "_seen_at"
REMEMBERED = timedelta(days=30)
"""A message can wait 4 days in its queue and 14 more among the dead letters."""

OpenTable = Callable[[TableSchema], TrustedTable]


def ledger_schema(schema: TableSchema) -> TableSchema:
    """The ledger of the table ``schema``: its key, and the place of the newest change as ``_lsn``."""
    made = (
        made_column(ORDINAL, pa.int64()),
        made_column(GONE, pa.bool_()),
        made_column(SEEN_AT, pa.timestamp("us", tz="UTC")),
    )
    name = f"{schema.name}__ledger"
    return TableSchema(schema.oid, schema.schema, name, (*schema.key_columns(), *made), schema.key)


class Ledger:
    """What has been applied to one table; open for the one process that has the table's lock."""

    def __init__(self, schema: TableSchema, open_table: OpenTable) -> None:
        self._schema = ledger_schema(schema)
        self.table = open_table(self._schema)
        self.table.evolve(self._schema)

    @property
    def seq(self) -> int:
        """Number of the last delivery that was entered."""
        return self.table.position.seq

    def entries(self, keys: pa.Table) -> pa.Table:
        """What is known of ``keys``: (n_known, key columns, ``_commit_lsn``, ``_ordinal``)."""
        found = self.table.read(self.table.locate(keys), [TRUSTED_LSN, ORDINAL])
        found = found.select([*self._schema.key, TRUSTED_LSN, ORDINAL])
        return found.rename_columns([*self._schema.key, COMMIT_LSN, ORDINAL])

    def enter(self, entries: pa.Table, position: Position, seen_at: datetime) -> None:
        """Make ``entries`` the newest of their keys; see ``order.News``.

        Raises:
            CommitConflict: another process has entered something: the lock was lost.
        """
        if not entries.num_rows:
            return
        keys = entries.select(list(self._schema.key))
        rows = self._rows(entries, seen_at)
        gone = self.table.locate(keys)
        self.table.commit(
            add=self.table.write(rows),
            delete=gone if gone.row_count else None,
            position=replace(position, rules=""),
        )

    def _rows(self, entries: pa.Table, seen_at: datetime) -> pa.Table:
        """Entries in the shape of the table."""
        count, target = len(entries), self._schema.trusted_schema()
        made = {
            TRUSTED_LSN: entries[COMMIT_LSN],
            SEEN_AT: pa.repeat(pa.scalar(seen_at, pa.timestamp("us", tz="UTC")), count),
        }
        arrays = [
            made[field.name]
            if field.name in made
            else entries[field.name]
            if field.name in entries.column_names
            else pa.nulls(count, field.type)
            for field in target
        ]
        return pa.table(arrays, schema=target)

    def forget(self, now: datetime) -> int:
        """Drop entries of rows that have been gone for long; returns how many."""
        dead = self.table.locate_by(pa.table({GONE: [True]}))
        if not dead.row_count:
            return 0
        rows = self.table.read(dead, [SEEN_AT])
        old = rows.filter(pa.compute.less(rows[SEEN_AT], pa.scalar(now - REMEMBERED)))
        if old.num_rows:
            found = self.table.locate(old.select(list(self._schema.key)))
            held = self.table.position
            self.table.commit(add=[], delete=found, position=replace(held, seq=held.seq))
        return int(old.num_rows)
