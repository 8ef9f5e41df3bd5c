"""Changes that don't fit in memory, a slice of the keys at a time, by way of temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from smartstream.schema import TableSchema
from smartstream.scratch import scratch_folder
from smartstream.transform.partition import split

SLICES_MAX = 256
"""Each has a file open while they are written."""


def slice_count(size_bytes: int, slice_bytes: int) -> int:
    """How many slices keep each of them within ``slice_bytes``, as far as there may be so many."""
    return min(SLICES_MAX, 1 + size_bytes // slice_bytes)


def spill(pieces: Iterable[pa.Table], schema: TableSchema, count: int, folder: Path) -> Iterator[None]:
    """Write each slice of the keys to a file of its own in ``folder``; yields after each piece."""
    with ExitStack() as stack:
        writers: dict[int, pq.ParquetWriter] = {}
        for piece in pieces:
            for number, rows in split(piece, schema, count).items():
                if number not in writers:
                    path = folder / f"{number:04d}.parquet"
                    writers[number] = stack.enter_context(pq.ParquetWriter(path, rows.schema))
                writers[number].write_table(rows)
            yield


def spilled(folder: Path) -> Iterator[pa.Table]:
    """The slices that ``spill`` wrote, one after the other."""
    for path in sorted(folder.iterdir()):
        yield pq.read_table(path)


def sliced(pieces: Iterable[pa.Table], schema: TableSchema, count: int) -> Iterator[pa.Table]:
    """The changes in slices; as they are if ``count`` is one."""
    if count == 1:
        yield pa.concat_tables(pieces)
        return
    with tempfile.TemporaryDirectory(prefix="slices-", dir=scratch_folder()) as folder:
        for _ in spill(pieces, schema, count, Path(folder)):
            pass
        yield from spilled(Path(folder))
