"""Compaction: small files and files with many deleted rows become few sorted ones.

Runs beside the applier.  Only the final swap takes the table's lock; rows that
were deleted from the source files meanwhile are found by key in the new files and
deleted there in the same swap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table.snapshots import Operation
from pyroaring import BitMap

from smartstream.errors import CommitConflict
from smartstream.trusted.catalog import lake_errors
from smartstream.trusted.deletes import positions_of
from smartstream.trusted.reading import BATCH_ROWS_MAX, live_batches, rows_at, schema_of
from smartstream.trusted.rowdelta import RowDelta
from smartstream.trusted.state import LiveFile, Member
from smartstream.trusted.table import TrustedTable, View

FLOOR_BYTES = 1 << 20
"""Files up to this size are merged whatever else there is."""
TARGETS_MAX = 8
"""One compaction reads at most this many times the target size, so that it ends."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did.

    ``given_up``: the table changed so that its work was in vain; the next turn tries again.
    """

    source_count: int = 0
    result_count: int = 0
    row_count: int = 0
    given_up: bool = False


def choose(
    files: Sequence[LiveFile], *, small_files_max: int, deleted_ratio_max: float, target_bytes: int
) -> list[LiveFile]:
    """Return the files worth rewriting, empty when the table is in good order.

    Files with more than ``deleted_ratio_max`` deleted rows, always.  Small ones when
    there are ``small_files_max`` of them, smallest first, but none that is larger than
    twice all before it: so a row is rewritten a logarithmic number of times, not each time.
    """
    dirty = [file for file in files if len(file.deleted) > deleted_ratio_max * file.record_count]
    paths = {file.path for file in dirty}
    small = sorted(
        (file for file in files if file.path not in paths and file.size_bytes < target_bytes // 2),
        key=lambda file: file.size_bytes,
    )
    chosen = list(dirty)
    if len(small) >= small_files_max:
        total = 0
        for file in small:
            if file.size_bytes > max(FLOOR_BYTES, 2 * total):
                break
            total += file.size_bytes
            chosen.append(file)
    return _bounded(chosen, TARGETS_MAX * target_bytes)


def _bounded(files: Sequence[LiveFile], bytes_max: int) -> list[LiveFile]:
    """As many leading files as fit, but at least one."""
    kept: list[LiveFile] = []
    total = 0
    for file in files:
        total += file.size_bytes
        if kept and total > bytes_max:
            break
        kept.append(file)
    return kept


def compact(table: TrustedTable, sources: Sequence[LiveFile]) -> Compaction:
    """Rewrite ``sources`` sorted by key, without their deleted rows, in one `replace` snapshot.

    The table's rows and position do not change.  Holds row groups and DuckDB's
    memory limit, whatever the size; the rest spills.
    """
    view = table.view()
    action = f"compact trusted table {table.name}"
    with lake_errors(action):
        batches = _sorted_rows(table, view, sources)
        files = table.write_as(view.schema, view.source.key, batches)
    try:
        with table.lock, lake_errors(action):
            if not _swap(table, view, sources, files):
                return Compaction(given_up=True)
    except CommitConflict:
        return Compaction(given_up=True)
    finally:
        table.discard(files)
    return Compaction(len(sources), len(files), sum(file.record_count for file in files))


def _sorted_rows(table: TrustedTable, view: View, sources: Sequence[LiveFile]) -> Iterator[pa.RecordBatch]:
    """Live rows of the sources in key order; DuckDB sorts and spills, columns under neutral names."""
    fields = view.schema.fields
    schema = schema_of(fields)
    neutral = pa.schema([pa.field(f"c{n}", field.type) for n, field in enumerate(schema)])
    keys = ", ".join(f"c{schema.get_field_index(field.name)}" for field in view.key_fields())
    renamed = (
        pa.RecordBatch.from_arrays(batch.columns, schema=neutral)
        for batch in live_batches(table.iceberg.io, sources, fields)
    )
    cursor = table.engine.cursor()
    try:
        cursor.register("live", pa.RecordBatchReader.from_batches(neutral, renamed))
        reader = cursor.sql(f"SELECT * FROM live ORDER BY {keys}").to_arrow_reader(BATCH_ROWS_MAX)
        for batch in reader:
            yield pa.RecordBatch.from_arrays(batch.columns, names=schema.names)
    finally:
        cursor.close()


def _swap(table: TrustedTable, begun: View, sources: Sequence[LiveFile], files: Sequence[DataFile]) -> bool:
    """Replace the sources by the new files on the table as it is now; False when it is another one."""
    view = table.view()
    if (
        view.schema.schema_id != begun.schema.schema_id
        or view.position.generation != begun.position.generation
    ):
        return False
    deleted = _deleted_since(table, view, sources, files)
    empty = {f.file_path for f in files if len(deleted.get(f.file_path, ())) == f.record_count}
    delta = RowDelta(
        add=[file for file in files if file.file_path not in empty],
        drop=frozenset(file.path for file in sources if file.path in view.state.live),
        added_deletes={path: rows for path, rows in deleted.items() if path not in empty},
    )
    if not delta.drop:
        return False
    table.swap(delta, position=None, operation=Operation.REPLACE)
    return True


def _deleted_since(
    table: TrustedTable, view: View, sources: Sequence[LiveFile], files: Sequence[DataFile]
) -> Mapping[str, BitMap]:
    """Positions in the new files of rows that left the sources after they were read."""
    fields = view.key_fields()
    keys: list[pa.Table] = []
    for source in sources:
        now = view.state.live.get(source.path)
        gone = (now.deleted if now else BitMap(range(source.record_count))) - source.deleted
        if gone:
            keys.append(rows_at(table.iceberg.io, source.path, positions_of(gone), fields))
    if not keys:
        return {}
    new = [LiveFile(Member(file, 0, 0, 0, "")) for file in files]
    found = table.search(view).find(new, pa.concat_tables(keys))
    return {path: BitMap(rows) for path, rows in found.items()}
