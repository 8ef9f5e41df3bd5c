"""One trusted table: the current rows of one source table, and how far they reach."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyroaring import BitMap

from smartstream.errors import CommitConflict, SchemaError, TableCorrupt
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import TRUSTED, lake_errors, table_location
from smartstream.trusted.engine import Engine
from smartstream.trusted.evolve import Evolution, plan_evolution, schema_properties
from smartstream.trusted.fields import field_by_name, first_schema
from smartstream.trusted.files import TARGET_BYTES, FileTarget, in_batches, with_constants, write_files
from smartstream.trusted.locate import KeySearch, Located
from smartstream.trusted.pending import PendingFiles
from smartstream.trusted.position import Position
from smartstream.trusted.reading import live_batches, numbered_batches, pieces_at, schema_of
from smartstream.trusted.references import References
from smartstream.trusted.rowdelta import RowDelta, stage
from smartstream.trusted.state import LiveFile
from smartstream.trusted.updates import COMMIT_PROPERTY, Requirements, Updates, has_commit
from smartstream.trusted.view import View, load_view, view_of

__all__ = ["Located", "Position", "TrustedTable", "View"]

ATTEMPTS_MAX = 3

_PROPERTIES = {
    "format-version": "2",
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "30",
}


class TrustedTable:
    """A trusted table, open for one applier and any number of maintainers in this process.

    ``write``, ``locate`` and ``read`` change nothing and take no lock.  ``commit``
    and ``evolve`` are one metadata swap each: before it nothing is visible, after
    it everything is, with the position.  A second writing process is noticed by
    the swap, never overwritten.
    """

    def __init__(self, table: Table, engine: Engine, *, target_bytes: int = TARGET_BYTES) -> None:
        self.iceberg = table
        self.engine = engine
        self.lock = threading.RLock()
        self.pending = PendingFiles()
        self.references = References()
        self.collected_at: datetime | None = None
        self._target_bytes = target_bytes
        self._replacement: Evolution | None = None
        self._current: View | None = load_view(table)

    @staticmethod
    def open(
        catalog: Catalog,
        schema: TableSchema,
        *,
        create: bool = True,
        namespace: str = TRUSTED,
        engine: Engine | None = None,
        target_bytes: int = TARGET_BYTES,
    ) -> TrustedTable:
        """Open the trusted table of ``schema``; it keeps the columns it has until ``evolve``.

        Args:
            create: make an empty table, at position (0, 0, 0), when there is none.
            namespace: of the catalog; the quarantine of a table is one like it.
            engine: shared by all tables of a process; one of its own when None.
            target_bytes: size at which ``write`` begins another file.
        Raises:
            TableCorrupt: it does not exist and ``create`` is false, or was not made by us.
            CatalogUnavailable, StoreUnavailable: try again.
        """
        identifier = (namespace, schema.lake_name)
        with lake_errors(f"open {namespace} table {schema.lake_name}"):
            try:
                table = catalog.load_table(identifier)
            except NoSuchTableError:
                if not create:
                    raise TableCorrupt(f"there is no {namespace} table {schema.lake_name}") from None
                table = _create(catalog, schema, namespace)
            return TrustedTable(table, engine or Engine(), target_bytes=target_bytes)

    @property
    def name(self) -> str:
        """The table's name in the lake."""
        return str(self.iceberg.name()[-1])

    @property
    def position(self) -> Position:
        """How far of the stream the table holds."""
        return self.view().position

    @property
    def schema(self) -> TableSchema:
        """The source schema last followed."""
        return self.view().source

    @property
    def live_files(self) -> tuple[LiveFile, ...]:
        """The data files of the current snapshot with their deleted positions."""
        return tuple(self.view().state.live.values())

    @property
    def row_count(self) -> int:
        """Live rows."""
        return self.view().state.row_count

    def view(self) -> View:
        """The table as of the last commit; read anew when the outcome of that was unknown."""
        current = self._current
        if current is not None:
            return current
        with self.lock, lake_errors(f"read trusted table {self.name}"):
            if self._current is None:
                self.iceberg.refresh()
                self._current = load_view(self.iceberg)
            return self._current

    def write(
        self, rows: pa.Table | Iterable[pa.RecordBatch | pa.Table], *, plain: Iterable[str] = ()
    ) -> list[DataFile]:
        """Write rows to data files with field ids and column bounds; nothing is visible yet.

        The files are safe from garbage collection in this process until they are
        committed or discarded.

        Args:
            rows: (n, ``schema.trusted_schema()``), columns in any order.
            plain: columns besides the key whose values are nearly always distinct.
        Raises:
            LakeNotWritable, DiskFull, StoreUnavailable: the store refused.
        """
        now = self._replacement or self.view()
        return self.write_as(now.schema, (*now.source.key, *plain), in_batches(rows))

    def write_as(
        self, schema: Schema, key: Iterable[str], batches: Iterable[pa.RecordBatch]
    ) -> list[DataFile]:
        """Write rows as data files of ``schema``; see ``write``."""
        target = FileTarget(
            io=self.iceberg.io,
            locations=self.iceberg.location_provider(),
            schema=schema,
            plain=frozenset(key),
            size_bytes=self._target_bytes,
            opened=self.pending.add,
        )
        with lake_errors(f"write files of trusted table {self.name}"):
            return list(write_files(batches, target))

    def written(self, files: Iterable[DataFile], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read back ``columns`` of files that ``write`` has just returned, batch by batch."""
        schema = self._replacement.schema if self._replacement else self.view().schema
        fields = [field_by_name(schema, name) for name in columns]
        with lake_errors(f"read files of trusted table {self.name}"):
            for file in files:
                for _, batch in numbered_batches(self.iceberg.io, file.file_path, fields):
                    yield pa.Table.from_batches([batch])

    def discard(self, files: Iterable[DataFile]) -> None:
        """Give up written files that will not be committed; garbage collection removes them."""
        self.pending.remove(file.file_path for file in files)

    def locate(self, keys: pa.Table) -> Located:
        """Find the live rows that have one of ``keys``.

        Args:
            keys: (n, key columns), unique, never null; other columns are ignored.
        """
        view = self.view()
        with lake_errors(f"look for keys in trusted table {self.name}"):
            found = self.search(view).find(list(view.state.live.values()), keys)
        return Located(keys.select(list(view.source.key)), found)

    def locate_by(self, values: pa.Table) -> Located:
        """Find the live rows that have one of ``values`` in its columns, which need not be the key.

        Args:
            values: (n, some of the table's columns), unique; rows with a null match nothing.
        """
        view = self.view()
        fields = [field_by_name(view.schema, name) for name in values.column_names]
        search = KeySearch(self.iceberg.io, self.engine, fields, view.schemas)
        with lake_errors(f"look for rows in trusted table {self.name}"):
            found = search.find(list(view.state.live.values()), values)
            rows = self.read(Located(values, found), [])
        return Located(rows.select(list(view.source.key)), found)

    def search(self, view: View) -> KeySearch:
        """How keys are found in the table's files."""
        return KeySearch(self.iceberg.io, self.engine, view.key_fields(), view.schemas)

    def read(self, located: Located, columns: Sequence[str]) -> pa.Table:
        """Read located rows: the key columns, then ``columns``; in no particular order."""
        return pa.concat_tables(self.read_pieces(located, columns))

    def read_pieces(self, located: Located, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read located rows as ``read``, in pieces that fit in memory; the first is empty."""
        view = self.view()
        fields = [field_by_name(view.schema, n) for n in dict.fromkeys([*view.source.key, *columns])]
        yield schema_of(fields).empty_table()
        with lake_errors(f"read rows of trusted table {self.name}"):
            for path, positions in located.positions.items():
                for piece in pieces_at(self.iceberg.io, path, positions, fields):
                    yield pa.Table.from_batches([piece])

    def commit(
        self,
        *,
        add: Sequence[DataFile],
        delete: Located | Sequence[Located] | None,
        position: Position,
        replace_all: bool = False,
    ) -> None:
        """Make new files, deleted rows and the position visible in one metadata swap.

        Rows that a compaction moved since they were located are found again.  With
        nothing to add or delete only the position moves: no snapshot.  A data file
        left without rows leaves the table.  When the outcome is unknown the table is
        read again: a table that holds ``position`` already is a success.

        Args:
            replace_all: every present row goes; ``delete`` is ignored.
        Raises:
            CommitConflict: another process committed; the table is read again, so
                locate again and retry, or stop.
            SchemaError: a replacement of columns awaits a commit with ``replace_all``.
        """
        located = [] if delete is None else [delete] if isinstance(delete, Located) else list(delete)
        if self._replacement is not None and not replace_all:
            raise SchemaError(f"trusted table {self.name} awaits a full copy with its new columns")
        with self.lock:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                held = self.view()
                delta = self._delta(held, add, located, replace_all)
                try:
                    self.swap(delta, position=position, evolution=self._replacement)
                    break
                except CommitConflict:
                    # Only maintenance of another process may be overtaken: it moves rows, not the position.
                    now = self.view()
                    if attempt == ATTEMPTS_MAX or (now.position, now.source) != (held.position, held.source):
                        raise
            self._replacement = None
            self.discard(add)

    def evolve(
        self,
        new: TableSchema,
        fills: Mapping[int, pa.Scalar] | None = None,
        *,
        replace_incompatible: bool = False,
    ) -> None:
        """Follow the source to the schema ``new``; columns keep their field ids by attnum.

        Added columns are null in existing rows, unless ``fills`` has a value for their
        attnum: then the table's files are rewritten in the same swap.  Does nothing
        when the table is there already.

        Args:
            replace_incompatible: columns whose type changed beyond widening are
                replaced; takes effect with the next ``commit(replace_all=True)``, and
                until then ``write`` expects rows of ``new``.
        Raises:
            SchemaError: a column's values cannot be kept.
        """
        with self.lock:
            view = self.view()
            self._replacement = None
            if view.source == new:
                return
            plan = plan_evolution(self.iceberg.metadata, view.source, view.ids, new)
            if plan.incompatible and replace_incompatible:
                self._replacement = plan
                return
            if plan.incompatible:
                names = ", ".join(plan.incompatible)
                raise SchemaError(
                    f"table {new.id}: the type of {names} changed so that rows must be copied again"
                )
            self.swap(self._filled(view, plan, fills or {}), position=None, evolution=plan)

    def swap(
        self,
        delta: RowDelta,
        *,
        position: Position | None,
        operation: Operation = Operation.OVERWRITE,
        evolution: Evolution | None = None,
    ) -> None:
        """Commit ``delta`` on the present view; None keeps the position.  Needs the lock."""
        view = self.view()
        target = position or view.position
        properties = target.properties() | {COMMIT_PROPERTY: uuid.uuid4().hex}
        with lake_errors(f"commit to trusted table {self.name}"):
            staged = stage(
                self.iceberg,
                view.state,
                delta,
                properties=properties,
                operation=operation,
                schema_id=evolution.schema.schema_id if evolution else None,
            )
            updates = staged.updates
            if evolution:
                updates = evolution.updates() + updates
            if self.submit(updates, staged.requirements, properties[COMMIT_PROPERTY], position):
                self._current = view_of(self.iceberg, staged.state)

    def submit(
        self,
        updates: Updates,
        requirements: Requirements,
        commit_id: str,
        position: Position | None = None,
    ) -> bool:
        """Send a commit to the catalog; False when it was done, but the table had to be read again.

        Raises:
            CommitConflict: it was not done, because the table has changed.
        """
        held = self.view().position
        try:
            self.iceberg._do_commit(updates, requirements)
            return True
        except Exception:
            # Whatever went wrong, the swap may have happened: only the catalog knows.
            self._current = None
            now = self.view()
            if has_commit(self.iceberg.metadata, commit_id):
                return False
            if position is not None and now.position.covers(position) and now.position != held:
                return False
            raise

    def _delta(
        self, view: View, add: Sequence[DataFile], located: Sequence[Located], replace_all: bool
    ) -> RowDelta:
        """What a commit changes, given the files that are live now."""
        live = view.state.live
        if replace_all:
            return RowDelta(add=add, drop=frozenset(live))
        rows: dict[str, BitMap] = {}
        for found in located:
            if any(path not in live for path in found.positions):
                found = self.locate(found.keys)
            for path, positions in found.positions.items():
                rows[path] = rows.get(path, live[path].deleted) | BitMap(positions)
        drop = frozenset(path for path, gone in rows.items() if len(gone) == live[path].record_count)
        delete = {path: gone for path, gone in rows.items() if path not in drop}
        return RowDelta(add=add, delete=delete, drop=drop)

    def _filled(self, view: View, plan: Evolution, fills: Mapping[int, pa.Scalar]) -> RowDelta:
        """Existing rows rewritten with the values of added columns; nothing when none has one."""
        values = {plan.added[n]: v for n, v in fills.items() if n in plan.added and v.is_valid}
        if not values or not view.state.live:
            return RowDelta()
        batches = live_batches(self.iceberg.io, view.state.live.values(), plan.schema.fields)
        constants = {
            n: values[field.field_id]
            for n, field in enumerate(plan.schema.fields)
            if field.field_id in values
        }
        files = self.write_as(plan.schema, plan.source.key, (with_constants(b, constants) for b in batches))
        return RowDelta(add=files, drop=frozenset(view.state.live))


def _create(catalog: Catalog, schema: TableSchema, namespace: str) -> Table:
    """Create the table; when another process was faster, take its table."""
    iceberg, ids = first_schema(schema)
    identifier = (namespace, schema.lake_name)
    properties = {**_PROPERTIES, **schema_properties(schema, ids), **Position(0, 0, 0).properties()}
    try:
        return catalog.create_table(
            identifier,
            iceberg,
            location=table_location(catalog, schema.lake_name, namespace),
            properties=properties,
        )
    except TableAlreadyExistsError:
        return catalog.load_table(identifier)
