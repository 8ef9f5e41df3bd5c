"""Lakes made by hand for the tests of query and verify: plain pyiceberg appends, no pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyroaring import BitMap

from smartstream.capture.catalog import discover
from smartstream.capture.connect import adbc_connect, connect
from smartstream.capture.values import from_snapshot, snapshot_expression
from smartstream.config import Settings
from smartstream.schema import TableSchema
from smartstream.transform.rows import trusted_rows
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.rowdelta import RowDelta, stage
from smartstream.trusted.state import load_state

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def clock() -> datetime:
    """A clock that stands still."""
    return NOW


def settings_of(url: str, folder: Path, **limits: Any) -> Settings:
    """Settings of a lake in a folder."""
    return Settings.model_validate(
        {
            "source": {"url": url, "slot": {"name": "not_there"}},
            "lake": {"warehouse": str(folder / "lake")},
            "tables": {"*.*": {}},
            "limits": limits,
        }
    )


def schemas_of(settings: Settings) -> dict[str, TableSchema]:
    """The source's tables by ``schema.name``."""
    with connect(settings.source) as connection:
        return {schema.id: schema for schema in discover(connection, lambda _: True).tables}


def copied(settings: Settings, schema: TableSchema, lsn: int = 0) -> pa.Table:
    """The source's rows as the snapshot copy would give them, in the shape of a trusted table."""
    columns = ", ".join(snapshot_expression(column) for column in schema.columns)
    with adbc_connect(settings.source) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT {columns} FROM "{schema.schema}"."{schema.name}"')
        return trusted_rows(from_snapshot(cursor.fetch_arrow_table(), schema, lsn), schema)


def put(
    settings: Settings, schema: TableSchema, rows: pa.Table, *, position: Sequence[int] = (0, 0, 0)
) -> Table:
    """Append rows to a trusted table, which is made if need be, at a position (LSN, seq, generation)."""
    table = table_of(open_catalog(settings.lake), schema)
    names = ("smartstream.lsn", "smartstream.seq", "smartstream.generation")
    properties = {name: str(value) for name, value in zip(names, position, strict=True)}
    table.append(rows, snapshot_properties=properties)
    with table.transaction() as transaction:
        transaction.set_properties(properties)
    return table


def delete_rows(table: Table, gone: Mapping[str, Sequence[int]]) -> None:
    """Delete positions of data files, as the applier does it."""
    state = load_state(table.current_snapshot(), table.io)
    delta = RowDelta(delete={path: BitMap(positions) for path, positions in gone.items()})
    staged = stage(table, state, delta, properties={})
    table._do_commit(staged.updates, staged.requirements)


def table_of(catalog: Catalog, schema: TableSchema) -> Table:
    """The trusted table, empty if it was not there."""
    return catalog.create_table_if_not_exists(("trusted", schema.lake_name), schema.trusted_schema())
