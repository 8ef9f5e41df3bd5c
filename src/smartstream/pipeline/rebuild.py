"""Rebuild: a trusted table made again from the raw zone, because its rules have changed.

The applier does it a step at a time between live changes, so the other tables stay
live; this one keeps its old rows until one swap replaces them.  What happens to it
meanwhile is applied right after.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from smartstream.errors import TableCorrupt
from smartstream.manifest import Entry, EntryKind, RawFile, TableState
from smartstream.pipeline.parts import MEMORY_PER_RAW_BYTE, Part, divisible, scalars
from smartstream.pipeline.slices import slice_count, spill, spilled
from smartstream.pipeline.table_writer import Staged, TableWriter
from smartstream.raw.reader import read_batches, read_schema
from smartstream.raw.store import Store
from smartstream.schema import TableSchema
from smartstream.scratch import scratch_folder
from smartstream.transform.rows import project, same_key
from smartstream.trusted.table import Position


@dataclass(slots=True)
class Rebuild:
    """One table on its way.

    Attributes:
        state: of the generation that is made again.
        upto: the last entry that goes into it; later ones are ``deferred``.
    """

    writer: TableWriter
    schema: TableSchema
    state: TableState
    upto: Position
    deferred: list[Part] = field(default_factory=list)

    def steps(self, entries: Iterable[Entry], store: Store, memory_bytes: int) -> Generator[None, None, bool]:
        """Do the work, yielding now and then; at the end the new rows are visible.

        Args:
            entries: of the log, from the table's COPY_START on.
            memory_bytes: that one slice may take.
        Returns:
            False when the table's key has changed within the generation: rows of
            before and after can't be told alike, so it must be copied anew.
        Raises:
            TableCorrupt: the raw zone does not hold the whole table.
        """
        files, fills = self._files(entries)
        files = [file for file in files if read_schema(store, file).oid == self.schema.oid]
        if not all(same_key(read_schema(store, file), self.schema) for file in files):
            return False
        staged = Staged(truncate=True)
        self.writer.begin_anew(self.schema)
        pieces = self._pieces(files, fills, store)
        size = sum(file.weight_bytes for file in files)
        count = slice_count(size, memory_bytes // MEMORY_PER_RAW_BYTE)
        if count == 1 or not all(divisible(store, file) for file in files):
            self._stage(list(pieces), staged)
        else:
            with tempfile.TemporaryDirectory(prefix="rebuild-", dir=scratch_folder()) as folder:
                yield from spill(pieces, self.schema, count, Path(folder))
                for rows in spilled(Path(folder)):
                    self._stage([rows], staged)
                    yield
        self.writer.commit(staged, self.upto)
        return True

    def _files(self, entries: Iterable[Entry]) -> tuple[list[RawFile], dict[str, str]]:
        """The files that make the table, and what existing rows hold in columns added since."""
        table = self.schema.id
        files: list[RawFile] = []
        fills: dict[str, str] = {}
        for entry in entries:
            if entry.seq > self.upto.seq:
                break
            if entry.kind is EntryKind.CHANGES:
                files.extend(file for file in entry.files if file.table == table)
                fills |= entry.detail.get("schemas", {}).get(table, {}).get("fills", {})
            elif entry.table == table and entry.detail["generation"] == self.state.generation:
                files.extend(entry.files)
        return files, fills

    def _pieces(self, files: list[RawFile], fills: dict[str, str], store: Store) -> Iterator[pa.Table]:
        """The rows of all files under the present schema."""
        values = scalars(self.schema, fills)
        for file in files:
            schema = read_schema(store, file)
            for batch in read_batches(store, file):
                yield project(pa.Table.from_batches([batch]), schema, self.schema, values)

    def _stage(self, pieces: list[pa.Table], staged: Staged) -> None:
        """Fold a slice, clean it, write it."""
        empty = self.schema.changelog_schema().empty_table()
        self.writer.stage(pa.concat_tables([empty, *pieces]), staged, exact=True)
        lost = sum(keys.num_rows for keys in staged.unresolved)
        if lost:
            raise TableCorrupt(f"{self.schema.id}: the raw zone lacks values of {lost} rows")
