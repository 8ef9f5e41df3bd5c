"""Data files: streamed to Parquet with field ids, sizes and bounds that Iceberg wants."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.table.locations import LocationProvider
from pyiceberg.typedef import Record

from smartstream.trusted.fields import arrow_schema

ROW_GROUP_ROWS_MAX = 122_880
"""DuckDB's own row group size: its scans parallelise by row group."""
ROW_GROUP_BYTES_MAX = 32 << 20
TARGET_BYTES = 128 << 20

_METRICS = TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX
_SAMPLE_ROWS = 2048
_DICTIONARY_BYTES_MAX = 4 << 20
_LARGE_BYTES = 64 << 10
"""Values of this mean size are worth neither a dictionary nor bounds: each would hold copies of them."""


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Where and how the data files of one table are written.

    Attributes:
        schema: the Iceberg schema that the files carry.
        plain: names of the columns written without a dictionary: keys, nearly
            always distinct.
        size_bytes: a file is closed when it has grown to this.
        opened: told the location of each file before it is made.
    """

    io: FileIO
    locations: LocationProvider
    schema: Schema
    plain: frozenset[str] = frozenset()
    size_bytes: int = TARGET_BYTES
    opened: Callable[[str], None] = lambda location: None


def write_files(batches: Iterable[pa.RecordBatch], target: FileTarget) -> Iterator[DataFile]:
    """Write ``batches`` to as many data files as their size asks for, and yield each when closed.

    Holds at most one row group (32 MiB, or one row, or 122,880 rows) in memory.  Batches
    carry the target's columns by name; others are an error.  An empty input
    gives no file.  The files are not part of the table until they are committed.

    Raises:
        KeyError: a column is missing.
        OSError: the store refused the write; the unfinished file stays behind.
    """
    schema = arrow_schema(target.schema.fields)
    writer: _FileWriter | None = None
    try:
        for group in _row_groups(batches, schema):
            large = _large(group, target.plain)
            if writer is not None and not large <= writer.large:
                done, writer = writer, None
                yield done.close()
            if writer is None:
                writer = _FileWriter(target, schema, large, _repeating(group, target.plain | large))
            writer.write(group)
            if writer.size_bytes >= target.size_bytes:
                done, writer = writer, None
                yield done.close()
        if writer is not None:
            done, writer = writer, None
            yield done.close()
    finally:
        if writer is not None:
            writer.abandon()


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Gather batches until they make a row group; large batches are sliced."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            piece = _fitting(batch.slice(start, ROW_GROUP_ROWS_MAX - rows))
            if held and size + piece.nbytes > 2 * ROW_GROUP_BYTES_MAX:  # a large value comes alone
                yield _as_written(held, schema)
                held, rows, size = [], 0, 0
            held.append(piece)
            start, rows, size = start + piece.num_rows, rows + piece.num_rows, size + piece.nbytes
            if rows >= ROW_GROUP_ROWS_MAX or size >= ROW_GROUP_BYTES_MAX:
                yield _as_written(held, schema)
                held, rows, size = [], 0, 0
    if held:
        yield _as_written(held, schema)


def _fitting(piece: pa.RecordBatch) -> pa.RecordBatch:
    """As many of the first rows as make a row group; one at least."""
    while piece.num_rows > 1 and piece.nbytes > 2 * ROW_GROUP_BYTES_MAX:
        piece = piece.slice(0, (piece.num_rows + 1) // 2)
    return piece


def _as_written(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Batches as one table of exactly the file's columns and types."""
    return pa.Table.from_batches(batches).select(schema.names).cast(schema)


def _large(group: pa.Table, key: frozenset[str]) -> frozenset[str]:
    """The columns of large values; a key always has its bounds."""
    sizes = zip(group.column_names, group.columns, strict=True)
    return frozenset(name for name, values in sizes if values.nbytes > _LARGE_BYTES * group.num_rows) - key


def _repeating(group: pa.Table, plain: frozenset[str]) -> list[str]:
    """The columns that are worth a dictionary: those of whose values each comes twice or more on average.

    A dictionary that is given up when it has grown too large costs a third of the writing and
    makes the file larger, so a random sample of the file's first row group decides.  In s of n
    rows about s² / 2n repeat another when all values come twice.
    """
    count = min(group.num_rows, _SAMPLE_ROWS)
    rows = np.random.default_rng(0).choice(group.num_rows, count, replace=False, shuffle=False)
    sample = group.select([name for name in group.column_names if name not in plain]).take(rows)
    enough = count**2 / (2 * group.num_rows)
    return [
        field.name
        for field, values in zip(sample.schema, sample.columns, strict=True)
        if _countable(field.type) and count - pc.count_distinct(values, mode="all").as_py() >= enough
    ]


def _countable(kind: pa.DataType) -> bool:
    """Whether distinct values of a type can be counted."""
    return not (pa.types.is_nested(kind) or pa.types.is_null(kind) or isinstance(kind, pa.BaseExtensionType))


class _FileWriter:
    """One Parquet file while it is being written.

    ``repeating`` columns get a dictionary, ``large`` ones no bounds.
    """

    def __init__(
        self, target: FileTarget, schema: pa.Schema, large: frozenset[str], repeating: Sequence[str]
    ) -> None:
        self._target, self.large = target, large
        self._location = target.locations.new_data_location(f"{uuid.uuid4()}.parquet")
        target.opened(self._location)
        self._sink = target.io.new_output(self._location).create()
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(repeating),
            dictionary_pagesize_limit=_DICTIONARY_BYTES_MAX,
            write_statistics=[name for name in schema.names if name not in large] if large else True,
            store_decimal_as_integer=True,
        )

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return int(self._sink.tell())

    def write(self, group: pa.Table) -> None:
        """Append one row group."""
        self._writer.write_table(group, row_group_size=ROW_GROUP_ROWS_MAX)

    def abandon(self) -> None:
        """Close the handles of a file that will not be used."""
        self._writer.close()
        self._sink.close()

    def close(self) -> DataFile:
        """Finish the file and describe it to Iceberg."""
        self._writer.close()
        size = self.size_bytes
        self._sink.close()
        schema = self._target.schema
        boundless = {f"{_METRICS}.{name}": "none" for name in self.large}
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=self._writer.writer.metadata,
            stats_columns=compute_statistics_plan(schema, boundless),
            parquet_column_mapping=parquet_path_to_id_mapping(schema),
        )
        return described(
            DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=self._location,
                file_format=FileFormat.PARQUET,
                partition=Record(),
                file_size_in_bytes=size,
                sort_order_id=None,
                equality_ids=None,
                key_metadata=None,
                **statistics.to_serialized_dict(),
            )
        )


def described(file: DataFile) -> DataFile:
    """Mark a new file as belonging to the unpartitioned spec, the only one we use."""
    file.spec_id = 0
    return file


def in_batches(rows: pa.Table | Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch]:
    """Tables and batches as batches."""
    for piece in [rows] if isinstance(rows, pa.Table) else rows:
        if isinstance(piece, pa.Table):
            yield from piece.to_batches()
        else:
            yield piece


def with_constants(batch: pa.RecordBatch, constants: Mapping[int, pa.Scalar]) -> pa.RecordBatch:
    """A batch with some columns, by index, replaced by constants."""
    columns = [
        pa.repeat(constants[n].cast(column.type), batch.num_rows) if n in constants else column
        for n, column in enumerate(batch.columns)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
