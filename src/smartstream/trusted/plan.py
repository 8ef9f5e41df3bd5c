"""Live files of an Iceberg table at a snapshot, for engines that read Parquet themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from smartstream.change import UNTYPED
from smartstream.errors import TableCorrupt
from smartstream.schema import Column
from smartstream.trusted.deletes import PATH_FIELD_ID
from smartstream.trusted.evolve import FIELD_IDS_PROPERTY
from smartstream.trusted.fields import FieldIds
from smartstream.trusted.position import Position


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """A column under the name and type it has at the planned snapshot."""

    field_id: int
    name: str
    type: pa.DataType


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What must be read to get the rows of a table: data files minus deleted positions.

    Attributes:
        snapshot_id: None while the table has never held a row.
        whole_files: paths of data files without a deleted row.
        reduced_files: paths of data files that have deleted rows.
        delete_files: paths of the position delete files, all about ``reduced_files``.
        columns: field id → column, by the schema of the snapshot.
        record_count: rows in the data files, deleted ones included.
    """

    table: str
    snapshot_id: int | None
    whole_files: tuple[str, ...]
    reduced_files: tuple[str, ...]
    delete_files: tuple[str, ...]
    columns: tuple[LiveColumn, ...]
    record_count: int = 0

    @property
    def data_files(self) -> tuple[str, ...]:
        """Every live data file."""
        return self.whole_files + self.reduced_files


def plan(table: Table, snapshot: Snapshot | None = None) -> LivePlan:
    """Return the live files of ``table``.  Reads Iceberg manifests only, no rows.

    Paths are as Iceberg holds them, with ``file://`` or ``s3://``.  The files stay
    where they are for the grace period of maintenance, also if the table moves on.

    Args:
        snapshot: of this table; the current one if None.  The current schema goes
            with the current snapshot, an older one with an older one.
    Raises:
        TableCorrupt: a delete file is not a position delete file.
    """
    current = snapshot is None or snapshot == table.current_snapshot()
    snapshot = snapshot or table.current_snapshot()
    columns = _columns(table.schema() if current or snapshot is None else _schema_of(table, snapshot))
    name = ".".join(table.name()[-2:])
    if snapshot is None:
        return LivePlan(name, None, (), (), (), columns)
    data: dict[str, DataFile] = {}
    deletes: dict[str, DataFile] = {}
    for manifest in snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            file = entry.data_file
            (data if file.content == DataFileContent.DATA else deletes)[file.file_path] = file
    reduced = _reduced(data, deletes)
    return LivePlan(
        table=name,
        snapshot_id=snapshot.snapshot_id,
        whole_files=tuple(path for path in data if path not in reduced),
        reduced_files=tuple(path for path in data if path in reduced),
        delete_files=tuple(deletes),
        columns=columns,
        record_count=sum(file.record_count for file in data.values()),
    )


def live_columns(table: Table) -> tuple[LiveColumn, ...]:
    """Return the columns of ``table``, without reading anything."""
    return _columns(table.schema())


def s3_filesystem(table: Table) -> pyarrow.fs.FileSystem:
    """Return the filesystem that reads the files of a table in ``s3://``, with the lake's credentials."""
    assert isinstance(table.io, PyArrowFileIO)
    bucket = table.location().removeprefix("s3://").split("/")[0]
    return table.io.fs_by_scheme("s3", bucket)


def _schema_of(table: Table, snapshot: Snapshot) -> Schema:
    """The schema that was current when ``snapshot`` was made."""
    current = table.schema()
    return current if snapshot.schema_id is None else table.schemas().get(snapshot.schema_id, current)


def _columns(schema: Schema) -> tuple[LiveColumn, ...]:
    """Top-level columns with their Arrow types."""
    arrow = schema_to_pyarrow(schema, include_field_ids=False)
    return tuple(
        LiveColumn(field.field_id, field.name, kind)
        for field, kind in zip(schema.fields, arrow.types, strict=True)
    )


def _reduced(data: dict[str, DataFile], deletes: dict[str, DataFile]) -> set[str]:
    """Paths of the data files that delete files are about; all, if one of those does not say."""
    paths: set[str] = set()
    for file in deletes.values():
        positions = (
            file.content == DataFileContent.POSITION_DELETES and file.file_format == FileFormat.PARQUET
        )
        if not positions:
            raise TableCorrupt(f"delete file {file.file_path} is of a kind that SmartStream does not write")
        low, high = ((bounds or {}).get(PATH_FIELD_ID) for bounds in (file.lower_bounds, file.upper_bounds))
        if low is None or low != high:
            return set(data)
        paths.add(low.decode())
    return paths


def find_table(catalog: Catalog, namespace: str, name: str) -> Table | None:
    """Load a table, None when there is none of this name."""
    try:
        return catalog.load_table((namespace, name))
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def field_ids(table: Table, columns: Sequence[Column]) -> dict[int | str, int]:
    """Return the field ids of source columns by attnum, and of ``_untyped`` by its name.

    A column that the table does not have is left out.  Tables that SmartStream writes
    say by a property which is which; in all others names must do.
    """
    by_name = {field.name: field.field_id for field in table.schema().fields}
    stored = table.properties.get(FIELD_IDS_PROPERTY)
    known = FieldIds.from_json(stored) if stored is not None else None
    wanted: list[tuple[int | str, str]] = [*((c.attnum, c.name) for c in columns), (UNTYPED, UNTYPED)]
    found = {key: by_name.get(name) if known is None else known.of(key) for key, name in wanted}
    return {key: field_id for key, field_id in found.items() if field_id is not None}


def names_since_ever(table: Table) -> dict[int, tuple[str, ...]]:
    """Return for each field id the names it has had, the latest first.

    ``_untyped`` names a column as it was called when the row was written.
    """
    found: dict[int, list[str]] = {}
    schemas = [table.schema(), *reversed(list(table.schemas().values()))]
    for field in (field for schema in schemas for field in schema.fields):
        names = found.setdefault(field.field_id, [])
        if field.name not in names:
            names.append(field.name)
    return {field_id: tuple(names) for field_id, names in found.items()}


def positioned(table: Table, lsn: int) -> tuple[Snapshot | None, Position] | None:
    """Return the latest snapshot that holds nothing after ``lsn``, and its position.

    The table as it is now if that holds; (None, position) for one that has never held
    a row.  None when every snapshot still there is past ``lsn``.
    """
    position = Position.from_properties(table.properties)
    snapshot = table.current_snapshot()
    if position.lsn <= lsn:
        return snapshot, position
    while snapshot is not None:  # the table's position can be ahead of its snapshot's, never behind
        if snapshot.summary is not None:
            position = Position.from_properties(snapshot.summary.additional_properties)
            if position.lsn <= lsn:
                return snapshot, position
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return None
