"""Which rows of a trusted table differ between two of its snapshots.

A commit deletes positions and adds files, a compaction moves rows to other files.  So
the rows of files and positions that only one snapshot has are compared by key and
``_lsn``, and what has only moved by the columns that count.  Nothing between the two
snapshots is looked at: they may be far apart, and the others expired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import NestedField
from pyroaring import BitMap

from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.trusted.catalog import lake_errors
from smartstream.trusted.deletes import positions_of
from smartstream.trusted.engine import Engine
from smartstream.trusted.evolve import SCHEMA_PROPERTY
from smartstream.trusted.fields import field_by_name
from smartstream.trusted.locate import KeySearch
from smartstream.trusted.reading import live_batches, rows_at, schema_of
from smartstream.trusted.state import LiveFile, TableState, load_state


def state_of(table: Table, snapshot_id: int | None) -> TableState:
    """Read what a snapshot holds: its files and their deleted rows; None: before the first row."""
    with lake_errors(f"read trusted table {table.name()[-1]}"):
        return load_state(_snapshot(table, snapshot_id), table.io)


def changed_keys(
    table: Table, before: int | None, now: TableState, engine: Engine, *, columns: Sequence[str] = ()
) -> pa.Table | None:
    """Return the keys of rows that came, went or changed, each once.

    Holds the keys that it returns in memory; what is compared is bounded by the engine's
    limit.

    Args:
        before: a snapshot of the table; None: before it held its first row.
        now: a later state; see ``state_of``.
        columns: those whose values count where a row has the same ``_lsn`` in both: a
            replay from the quarantine can change a row without a change of the source's.
    Returns:
        (n, key columns); None when it can't be told: a snapshot has expired, or the table
        has other columns since.
    Raises:
        StoreUnavailable, TableCorrupt: as the table's files are found.
    """
    old, new = _snapshot(table, before), _snapshot(table, now.snapshot_id)
    if (before is not None and old is None) or (now.snapshot_id is not None and new is None):
        return None
    if old is not None and new is not None and old.schema_id != new.schema_id:
        return None
    schema = table.schema() if new is None else table.schemas().get(new.schema_id or 0, table.schema())
    key = TableSchema.from_json(table.properties[SCHEMA_PROPERTY]).key
    if not {*key, *columns} <= {field.name for field in schema.fields}:
        return None  # renamed since
    plain = [field_by_name(schema, name) for name in (*key, TRUSTED_LSN)]
    full = [*plain, *(field_by_name(schema, name) for name in columns if name not in (*key, TRUSTED_LSN))]
    with lake_errors(f"compare snapshots of trusted table {table.name()[-1]}"):
        sides = _differences(load_state(old, table.io), now)
        found, moved = _compared(table, sides, plain, len(key), engine)
        if moved and len(full) > len(plain):
            found, _ = _compared(table, sides, full, len(key), engine)
    return found


def rows_with_keys(
    table: Table, state: TableState, keys: pa.Table, columns: Sequence[str], engine: Engine
) -> pa.Table:
    """Return the rows of a state that have one of ``keys``: the key columns, then ``columns``.

    Reads the key columns of files that may have them, and the row groups that do.  All
    that is found is held in memory.

    Args:
        keys: (n, key columns), unique, never null.
    """
    schema = table.schema()
    key = TableSchema.from_json(table.properties[SCHEMA_PROPERTY]).key
    fields = [field_by_name(schema, name) for name in dict.fromkeys([*key, *columns])]
    search = KeySearch(table.io, engine, fields[: len(key)], tuple(table.schemas().values()))
    with lake_errors(f"look for keys in trusted table {table.name()[-1]}"):
        found = search.find(list(state.live.values()), keys)
        pieces = [rows_at(table.io, path, positions, fields) for path, positions in found.items()]
    return pa.concat_tables([schema_of(fields).empty_table(), *pieces])


def _snapshot(table: Table, number: int | None) -> Snapshot | None:
    """A snapshot that is still there."""
    return table.snapshot_by_id(number) if number is not None else None


_Part = tuple[LiveFile, BitMap | None]
"""A file, and which of its rows; None: all that are live."""


def _differences(old: TableState, new: TableState) -> tuple[list[_Part], list[_Part]]:
    """Rows that only one of the two states has, moved ones on both sides."""
    gone: list[_Part] = []
    for path, file in old.live.items():
        now = new.live.get(path)
        if now is None:
            gone.append((file, None))
        elif len(now.deleted) != len(file.deleted):
            gone.append((file, now.deleted - file.deleted))
    come: list[_Part] = [(file, None) for path, file in new.live.items() if path not in old.live]
    return gone, come


def _compared(
    table: Table,
    sides: tuple[list[_Part], list[_Part]],
    fields: Sequence[NestedField],
    key_count: int,
    engine: Engine,
) -> tuple[pa.Table, int]:
    """The keys of rows that one side alone has, and how many rows both have."""
    plain = [f"c{number}" for number in range(len(fields))]
    names, key = ", ".join(plain), ", ".join(plain[:key_count])
    with engine.cursor() as cursor:
        for side, parts in zip(("gone", "come"), sides, strict=True):
            cursor.register(side, _rows(table, parts, fields))
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE compared AS SELECT {key}, sum(side) AS balance, count(*) AS rows "
            "FROM (SELECT *, -1 AS side FROM gone UNION ALL SELECT *, 1 AS side FROM come) "
            f"GROUP BY {names}"
        )
        found = cursor.sql(f"SELECT DISTINCT {key} FROM compared WHERE balance <> 0").to_arrow_table()
        ((moved,),) = cursor.sql("SELECT count(*) FROM compared WHERE balance = 0").fetchall()
        cursor.execute("DROP TABLE compared")
    return found.rename_columns([field.name for field in fields[:key_count]]), int(moved)


def _rows(table: Table, parts: list[_Part], fields: Sequence[NestedField]) -> pa.RecordBatchReader:
    """Rows of parts, their columns under neutral names; read once."""
    plain = schema_of(fields)
    neutral = pa.schema([pa.field(f"c{number}", field.type) for number, field in enumerate(plain)])

    def pieces() -> Iterator[pa.RecordBatch]:
        for file, rows in parts:
            if rows is None:
                yield from live_batches(table.io, [file], fields)
            else:
                yield from rows_at(table.io, file.path, positions_of(rows), fields).to_batches()

    named = (pa.RecordBatch.from_arrays(batch.columns, schema=neutral) for batch in pieces())
    return pa.RecordBatchReader.from_batches(neutral, named)
