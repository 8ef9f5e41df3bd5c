"""Rows of data files: read by field id, so that renamed and added columns are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.types import NestedField

from smartstream.trusted.fields import PARQUET_FIELD_ID, arrow_type
from smartstream.trusted.state import LiveFile

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]

BATCH_ROWS_MAX = 65_536


@contextmanager
def opened(io: FileIO, path: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of the table, and close it."""
    with io.new_input(path).open() as source, pq.ParquetFile(source, pre_buffer=True) as file:
        yield file


def names_by_field_id(file: pq.ParquetFile) -> dict[int, str]:
    """Return the names that a file's top-level columns had when it was written."""
    return {int(field.metadata[PARQUET_FIELD_ID]): field.name for field in file.schema_arrow}


def live_batches(
    io: FileIO, files: Iterable[LiveFile], fields: Sequence[NestedField]
) -> Iterator[pa.RecordBatch]:
    """Yield the live rows of ``files``: columns ``fields``, at most 65,536 rows a batch."""
    for file in files:
        deleted = np.zeros(file.record_count, dtype=np.bool_)
        if file.deleted:
            deleted[np.frombuffer(file.deleted.to_array(), dtype=np.uint32)] = True
        for start, batch in numbered_batches(io, file.path, fields):
            gone = deleted[start : start + batch.num_rows]
            yield batch.filter(pa.array(~gone)) if gone.any() else batch


def numbered_batches(
    io: FileIO, path: str, fields: Sequence[NestedField]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield every row of a file in order, with the position of each batch's first row."""
    with opened(io, path) as file:
        names = names_by_field_id(file)
        start, columns = 0, _present(names, fields)
        for group in range(file.num_row_groups):  # a batch over several could hold many large values
            for batch in file.iter_batches(BATCH_ROWS_MAX, row_groups=[group], columns=columns):
                yield start, _resolved(batch, names, fields)
                start += batch.num_rows


def rows_at(
    io: FileIO,
    path: str,
    positions: np.ndarray[tuple[int], np.dtype[np.int64]],
    fields: Sequence[NestedField],
) -> pa.Table:
    """Read the rows at ``positions`` (ascending) of a file; only row groups that hold one are read."""
    pieces = list(pieces_at(io, path, positions, fields))
    return pa.Table.from_batches(pieces, schema=schema_of(fields))


def pieces_at(
    io: FileIO, path: str, positions: Positions, fields: Sequence[NestedField]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows at ``positions`` as ``rows_at``, a row group at a time."""
    with opened(io, path) as file:
        names = names_by_field_id(file)
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(positions, (start, start + count))
            if high > low:
                rows = file.read_row_group(group, columns=_present(names, fields))
                if high - low < count:
                    rows = rows.take(pa.array(positions[low:high] - start))
                for batch in rows.combine_chunks().to_batches():
                    yield _resolved(batch, names, fields)
            start += count


def schema_of(fields: Sequence[NestedField]) -> pa.Schema:
    """The Arrow schema that rows of ``fields`` are read in."""
    return pa.schema([pa.field(field.name, plain_type(field)) for field in fields])


def plain_type(field: NestedField) -> pa.DataType:
    """A column's Arrow type, as the rest of SmartStream knows it: without field ids."""
    kind = arrow_type(field.field_type)
    return _unmarked(kind)


def _unmarked(kind: pa.DataType) -> pa.DataType:
    """An Arrow type without the field ids of its list elements."""
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _unmarked(kind.value_type)))
    return kind


def _present(names: dict[int, str], fields: Sequence[NestedField]) -> list[str]:
    """The file's names of those ``fields`` that it has; any one, to count its rows, when it has none."""
    present = [names[field.field_id] for field in fields if field.field_id in names]
    return present or list(names.values())[:1]


def _resolved(batch: pa.RecordBatch, names: dict[int, str], fields: Sequence[NestedField]) -> pa.RecordBatch:
    """A file's batch with today's names and types; columns added since are null."""
    columns = []
    for field in fields:
        kind = plain_type(field)
        if field.field_id in names:
            columns.append(batch.column(names[field.field_id]).cast(kind))
        else:
            columns.append(pa.nulls(batch.num_rows, kind))
    return pa.RecordBatch.from_arrays(columns, schema=schema_of(fields))
