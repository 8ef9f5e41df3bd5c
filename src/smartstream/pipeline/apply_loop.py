"""From the raw zone to trusted: one thread that folds, locates and commits, in log order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import COMMIT_TS, OLD_KEY, UNCHANGED, UNTYPED
from smartstream.config import Settings
from smartstream.errors import TableCorrupt
from smartstream.manifest import Entry, EntryKind, RawFile
from smartstream.pipeline.journal import Item, Journal
from smartstream.pipeline.parts import Base, Part, Settling, fills_of, grouped, key_tuples, parts_of, scalars
from smartstream.pipeline.progress import Meter
from smartstream.raw.reader import read_batches, read_schema
from smartstream.raw.store import Store
from smartstream.schema import TableSchema
from smartstream.transform.fold import NetChanges, fill, fold, wanted_keys
from smartstream.transform.partition import can_partition, key_partitions
from smartstream.transform.rows import project, same_key, trusted_rows
from smartstream.trusted.table import Position, TrustedTable

_LOG = logging.getLogger(__name__)

GROUP_ENTRIES_MAX = 50
LAG_SAMPLES_PER_COMMIT = 500
MEMORY_PER_RAW_BYTE = 40
"""Memory that folding takes for each byte of a compressed raw file; past the limit it slices."""


class ApplyLoop:
    """Applies the journal to the trusted tables.

    Everything is idempotent by sequence number: each table stores, in the same
    metadata swap as its data, the last entry that it holds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Journal,
        store: Store,
        open_table: Callable[[TableSchema], TrustedTable],
        start_copy: Callable[[TableSchema], None],
        meter: Meter,
        stop: threading.Event,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._journal, self._store = settings, journal, store
        self._open_table, self._meter, self._stop, self._clock = open_table, meter, stop, clock
        self._start_copy = start_copy
        self._tables: dict[str, TrustedTable] = {}
        self._bases: dict[str, Base] = {}
        self._settling: dict[str, Settling] = {}
        self.applied_seq = 0

    def run(self) -> None:
        """Apply entries until ``stop`` is set."""
        bytes_max = self._settings.limits.memory_bytes // MEMORY_PER_RAW_BYTE
        while not self._stop.is_set():
            items = self._journal.take(0.2, count_max=GROUP_ENTRIES_MAX, bytes_max=bytes_max)
            if items:
                self._apply(items)

    def tables(self) -> list[TrustedTable]:
        """The tables opened so far."""
        return list(self._tables.values())

    def safe_seq(self) -> int:
        """Entries up to this one need not be read again after a restart."""
        bases = [base.copy_seq - 1 for base in self._bases.values()]
        settling = [table.copy_seq - 1 for table in self._settling.values()]
        return min([self.applied_seq, *bases, *settling])

    def copying(self) -> set[str]:
        """Tables whose base is not committed."""
        return set(self._bases)

    def settling(self) -> set[str]:
        """Tables whose copy is visible, but not caught up with."""
        return set(self._settling)

    def _apply(self, items: list[Item]) -> None:
        """Apply entries in order; consecutive CHANGES go through together."""
        group: list[Item] = []
        for item in items:
            if item.entry.kind is EntryKind.CHANGES:
                group.append(item)
                continue
            self._apply_changes(group)
            group = []
            self._apply_other(item)
            self.applied_seq = item.entry.seq
        self._apply_changes(group)

    def _apply_changes(self, items: list[Item]) -> None:
        """Apply whole transactions, table by table."""
        if not items:
            return
        by_table: dict[str, list[Part]] = {}
        for item in items:
            for part in parts_of(item):
                base = self._bases.get(part.file.table)
                target = by_table.setdefault(part.file.table, []) if base is None else base.deferred
                part.loaded = part.loaded if base is None else None
                target.append(part)
        for parts in by_table.values():
            self._apply_parts(parts)
        self._follow_schemas(items)
        last = items[-1].entry
        self.applied_seq = last.seq
        self._meter.applied_lsn = max(self._meter.applied_lsn, last.lsn)
        self._settle(last.lsn)

    def _apply_other(self, item: Item) -> None:
        """Apply an entry about one table."""
        entry = item.entry
        assert entry.table is not None
        if entry.kind is EntryKind.COPY_START:
            self._start_base(entry)
            return
        base = self._bases.get(entry.table)
        if base is None or base.generation != entry.detail["generation"]:
            return
        if entry.kind is EntryKind.COPY_CHUNK:
            self._extend_base(base, item)
        else:
            self._commit_base(base, entry)

    def _table(self, schema: TableSchema) -> TrustedTable:
        """The trusted table of a source table, opened once."""
        if schema.id not in self._tables:
            self._tables[schema.id] = self._open_table(schema)
        return self._tables[schema.id]

    def _start_base(self, entry: Entry) -> None:
        """Begin a generation, unless the table holds it already, and exactly (a replayed entry)."""
        schema = TableSchema.from_json(entry.detail["schema"])
        generation = entry.detail["generation"]
        position = self._table(schema).position
        state = self._journal.state.tables[schema.id]
        newer = state.generation > generation
        exact = state.copied and position.generation == generation and position.lsn >= state.ready_lsn
        if newer or position.generation > generation or exact:
            return
        self._settling.pop(schema.id, None)
        self._bases[schema.id] = Base(generation, entry.seq, schema, entry.lsn)

    def _extend_base(self, base: Base, item: Item) -> None:
        """Turn a chunk into data files; a later generation waits, so readers see no mixture."""
        if base.generation > 1:
            base.chunks.extend(item.entry.files)
            return
        for file in item.entry.files:
            loaded = item.payload.get(file.path)
            batches = [loaded[1]] if loaded else self._read(file)
            base.files.extend(self._write_rows(base, batches))

    def _commit_base(self, base: Base, entry: Entry) -> None:
        """Make the copy visible in one swap, then apply what happened since it began."""
        table = self._table(base.schema)
        if base.generation > 1:
            table.evolve(base.schema, replace_incompatible=True)
            for file in base.chunks:
                base.files.extend(self._write_rows(base, self._read(file)))
        position = Position(lsn=base.copy_lsn, seq=base.copy_seq, generation=base.generation)
        table.commit(add=base.files, delete=None, position=position, replace_all=True)
        self._meter.applied(base.schema.id, 0, table.row_count)
        del self._bases[base.schema.id]
        self._settling[base.schema.id] = Settling(base.schema, base.copy_seq, entry.lsn)
        for parts in grouped(base.deferred, self._settings.limits.memory_bytes // MEMORY_PER_RAW_BYTE):
            self._apply_parts(parts)

    def _write_rows(self, base: Base, batches: Any) -> list[Any]:
        """Snapshot rows as data files of the trusted table, not committed."""
        return list(self._table(base.schema).write(trusted_rows(rows, base.schema) for rows in batches))

    def _read(self, file: RawFile) -> Iterator[pa.Table]:
        """A raw file's rows in bounded pieces."""
        for batch in read_batches(self._store, file):
            yield pa.Table.from_batches([batch])

    def _apply_parts(self, parts: list[Part]) -> None:
        """Apply one table's changes in one commit, whatever happened to its columns meanwhile.

        Only a new key divides them: rows of before and after can't be told alike.
        """
        run: list[Part] = []
        for part in parts:
            part.schema = part.loaded[0] if part.loaded else read_schema(self._store, part.file)
            if run and not same_key(run[-1].schema, part.schema):
                self._commit_run(run, complete=run[-1].seq != part.seq)
                run = []
            run.append(part)
        if run:
            self._commit_run(run, complete=True)

    def _commit_run(self, parts: list[Part], *, complete: bool) -> None:
        """Fold, locate, write, commit; ``complete``: no part of the last entry is left."""
        schema = parts[-1].schema
        table = self._table(schema)
        parts = [part for part in parts if part.seq > table.position.seq]
        if not parts:
            return
        fills = fills_of(schema, parts)
        if table.schema != schema:
            table.evolve(schema, fills=fills)
        last = parts[-1]
        position = Position(
            lsn=last.lsn if complete else table.position.lsn,
            seq=last.seq if complete else last.seq - 1,
            generation=table.position.generation,
        )
        size = sum(part.file.size_bytes for part in parts if part.loaded is None)
        slices = 1 + size * MEMORY_PER_RAW_BYTE // self._settings.limits.memory_bytes
        if slices > 1 and not all(self._divisible(part) for part in parts):
            slices = 1
        self._commit(table, schema, parts, fills, position, slices)
        self._meter.applied(schema.id, sum(part.file.row_count for part in parts), table.row_count)
        self._sample_lag(parts)

    def _commit(
        self,
        table: TrustedTable,
        schema: TableSchema,
        parts: list[Part],
        fills: dict[int, pa.Scalar],
        position: Position,
        slices: int,
    ) -> None:
        """Apply changes a slice of the keys at a time (mostly one), with one commit at the end."""
        files: list[Any] = []
        located: list[Any] = []
        truncate = False
        for number in range(slices):
            pieces = [
                piece if slices == 1 else key_partitions(piece, schema, slices, number)
                for part in parts
                for piece in self._rows(part, schema, fills)
            ]
            net = fold(pa.concat_tables(pieces), schema)
            added, found = self._prepare(table, schema, net)
            files.extend(added)
            located.extend(found)
            truncate = truncate or net.truncate
        delete = None if truncate else located
        settling = self._settling.get(schema.id)
        if settling is not None and settling.unresolved:  # after a crash it must not pass for exact
            position = replace(position, lsn=min(position.lsn, settling.ready_lsn - 1))
        table.commit(add=files, delete=delete, position=position, replace_all=truncate)

    def _rows(self, part: Part, schema: TableSchema, fills: dict[int, pa.Scalar]) -> Iterator[pa.Table]:
        """A part's changes under ``schema``."""
        for rows in [part.loaded[1]] if part.loaded else self._read(part.file):
            yield project(rows, part.schema, schema, fills)

    def _divisible(self, part: Part) -> bool:
        """Whether a part can be cut by key."""
        if part.loaded:
            return can_partition(part.loaded[1])
        batches = read_batches(self._store, part.file, columns=[OLD_KEY, UNCHANGED])
        return all(can_partition(pa.Table.from_batches([batch])) for batch in batches)

    def _prepare(
        self, table: TrustedTable, schema: TableSchema, net: NetChanges
    ) -> tuple[list[Any], list[Any]]:
        """The data files and the positions to delete that make a net change."""
        located = [] if net.truncate else [table.locate(net.keys)]
        upserts = net.upserts
        settling = self._settling.get(schema.id)
        if settling is not None and settling.unresolved:
            settling.unresolved -= key_tuples(net.keys)
        if net.missing:
            columns = sorted({missing.column for missing in net.missing})
            old_rows = table.read(table.locate(wanted_keys(net, schema)), [*columns, UNTYPED])
            filled = fill(net, old_rows, schema, exact=settling is None)
            upserts = filled.upserts
            self._note_unresolved(schema, filled.unresolved)
        return (table.write(upserts) if upserts.num_rows else []), located

    def _note_unresolved(self, schema: TableSchema, keys: pa.Table) -> None:
        """Remember rows that were left out; only a table that is catching up may have some.

        There the copy can be ahead of the stream: the row is in it under a later key, or
        deleted already; a later change settles it, or else a new copy.

        Raises:
            TableCorrupt: the table is exact, and yet a row is not in it.
        """
        if not keys.num_rows:
            return
        settling = self._settling.get(schema.id)
        if settling is None:
            raise TableCorrupt(
                f"{schema.id}: {keys.num_rows} updates leave values unchanged in rows"
                " that the trusted table lacks"
            )
        settling.unresolved |= key_tuples(keys)

    def _settle(self, applied_lsn: int) -> None:
        """Declare tables exact that have caught up with their copy."""
        for table, settling in list(self._settling.items()):
            if applied_lsn < settling.ready_lsn:
                continue
            if settling.unresolved:
                _LOG.warning("%s: %d rows can't be settled; copying it anew", table, len(settling.unresolved))
                self._start_copy(settling.schema)
            del self._settling[table]

    def _follow_schemas(self, items: list[Item]) -> None:
        """Follow tables to their latest schemas, also those that no row has announced."""
        latest = {
            table: (item.entry.seq, change)
            for item in items
            for table, change in item.entry.detail.get("schemas", {}).items()
        }
        for table_id, (seq, change) in latest.items():
            schema = TableSchema.from_json(change["schema"])
            table = self._table(schema)
            if table_id not in self._bases and seq >= table.position.seq and table.schema != schema:
                table.evolve(schema, fills=scalars(schema, change["fills"]))

    def _sample_lag(self, parts: list[Part]) -> None:
        """Measure from commit on the source to now, when a reader can see the rows."""
        now = self._clock()
        for part in parts:
            if part.loaded is None:
                continue
            stamps = pc.unique(part.loaded[1][COMMIT_TS].drop_null()).cast(pa.int64()).to_numpy()
            if len(stamps):
                stride = max(1, len(stamps) // LAG_SAMPLES_PER_COMMIT)
                self._meter.lag((now.timestamp() * 1e6 - stamps[::stride]) / 1e3)
