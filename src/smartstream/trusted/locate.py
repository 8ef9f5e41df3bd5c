"""Locate: find the live rows that have given keys.

There is no index to keep consistent: the keys are joined with the key columns of
those data files whose bounds may hold them.  DuckDB reads local files itself when
their names and the table's history allow it; everything else is streamed to it
through pyarrow, by field id.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType, NestedField, PrimitiveType
from pyroaring import BitMap

from smartstream.sql_text import literal, quoted
from smartstream.trusted.engine import Engine
from smartstream.trusted.reading import Positions, numbered_batches, schema_of
from smartstream.trusted.state import LiveFile

T = TypeVar("T")

_LOCAL = "file://"
_GLOB = frozenset("*?[]{}")
_ADDED_BY_DUCKDB = frozenset({"filename", "file_row_number"})


@dataclass(frozen=True, slots=True)
class Located:
    """Live rows by data file.

    Attributes:
        keys: the keys that were looked for; kept so that the rows can be found
            again after a compaction moved them.
        positions: path of a data file to ascending positions in it.
    """

    keys: pa.Table
    positions: Mapping[str, Positions] = field(default_factory=dict)

    @property
    def row_count(self) -> int:
        """Rows found."""
        return sum(len(rows) for rows in self.positions.values())


@dataclass(frozen=True, slots=True)
class KeySearch:
    """How to find keys in the files of one table as of one schema.

    Attributes:
        fields: the key's columns, in key order.
        schemas: every schema that the table ever had: a file may carry any of them.
    """

    io: FileIO
    engine: Engine
    fields: Sequence[NestedField]
    schemas: Sequence[Schema]

    def find(self, files: Sequence[LiveFile], keys: pa.Table) -> dict[str, Positions]:
        """Return the live rows of ``files`` that have one of ``keys`` (unique rows, columns by name)."""
        keys = keys.select([f.name for f in self.fields]).cast(schema_of(self.fields))
        candidates = [file for file in files if file.live_count] if keys.num_rows else []
        candidates = prune([f.data.file for f in candidates], candidates, self.fields, keys)
        if not candidates:
            return {}
        numbered = keys.rename_columns([f"k{n}" for n in range(len(self.fields))])
        if self._readable_by_name(candidates):
            found = self._find_by_name(candidates, numbered)
        else:
            found = self._find_by_stream(candidates, numbered)
        return _without_deleted(found, {file.path: file.deleted for file in candidates})

    def _readable_by_name(self, files: Sequence[LiveFile]) -> bool:
        """Whether DuckDB can read the key columns of all files by their present names."""
        for schema in self.schemas:
            names = [f.name.lower() for f in schema.fields]
            if len(set(names)) < len(names) or _ADDED_BY_DUCKDB & set(names):
                return False
            known = {f.field_id: f for f in schema.fields}
            if any(known.get(f.field_id) != f for f in self.fields):
                return False
        return all(f.path.startswith(_LOCAL) and not _GLOB & set(f.path) for f in files)

    def _find_by_name(self, files: Sequence[LiveFile], keys: pa.Table) -> Iterator[tuple[str, Positions]]:
        """Let DuckDB scan the files: parallel, with its own caches and row group pruning."""
        paths = ", ".join(literal(file.path.removeprefix(_LOCAL)) for file in files)
        on = " AND ".join(f"d.{quoted(f.name)} = k.k{n}" for n, f in enumerate(self.fields))
        sql = (
            "SELECT d.filename, d.file_row_number FROM read_parquet("
            f"[{paths}], filename = true, file_row_number = true, hive_partitioning = false) d"
            f" SEMI JOIN keys k ON {on}"
        )
        cursor = self.engine.cursor()
        try:
            cursor.register("keys", keys)
            found = cursor.sql(sql).to_arrow_table()
        finally:
            cursor.close()
        for path, rows in _grouped(found.column(0), found.column(1)):
            yield f"{_LOCAL}{path}", rows

    def _find_by_stream(self, files: Sequence[LiveFile], keys: pa.Table) -> Iterator[tuple[str, Positions]]:
        """Stream the key columns through pyarrow into DuckDB's join."""
        on = " AND ".join(f"d.k{n} = k.k{n}" for n in range(len(self.fields)))
        rows = self._key_rows([file.path for file in files], keys.schema)
        cursor = self.engine.cursor()
        try:
            cursor.register("keys", keys)
            cursor.register("d", rows)
            found = cursor.sql(f"SELECT file, pos FROM d SEMI JOIN keys k ON {on}").to_arrow_table()
        finally:
            cursor.close()
        for number, positions in _grouped(found.column(0), found.column(1)):
            yield files[number].path, positions

    def _key_rows(self, paths: Sequence[str], keys: pa.Schema) -> pa.RecordBatchReader:
        """All rows of the files: number of the file, position, key columns."""
        schema = pa.schema([pa.field("file", pa.int32()), pa.field("pos", pa.int64()), *keys])

        def batches() -> Iterator[pa.RecordBatch]:
            for number, path in enumerate(paths):
                for start, batch in numbered_batches(self.io, path, self.fields):
                    file = pa.array(np.full(batch.num_rows, number, np.int32))
                    pos = pa.array(np.arange(start, start + batch.num_rows))
                    yield pa.RecordBatch.from_arrays([file, pos, *batch.columns], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())


def prune(
    described: Sequence[DataFile], files: Sequence[T], fields: Sequence[NestedField], keys: pa.Table
) -> list[T]:
    """Leave out the files whose bounds exclude every key, column by column.

    Columns of floats prune nothing: bounds leave NaN out.
    """
    kept = list(zip(described, files, strict=True))
    for column in fields:
        if len(kept) < 2 or isinstance(column.field_type, FloatType | DoubleType):
            continue
        ordered = _ordered(keys[column.name])
        kept = [pair for pair in kept if _may_hold(pair[0], column, ordered)]
    return [file for _, file in kept]


def _ordered(values: pa.ChunkedArray) -> list[Any]:
    """Distinct values ascending, as Iceberg's bounds hold them: dates and times as numbers, text as bytes."""
    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    elif pa.types.is_temporal(values.type):
        values = values.cast(pa.int64())
    elif pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    ordered: list[Any] = pc.unique(values).sort().to_pylist()
    return ordered


def _may_hold(file: DataFile, column: NestedField, ordered: list[Any]) -> bool:
    """Whether one of the ``ordered`` values lies within the file's bounds."""
    assert isinstance(column.field_type, PrimitiveType)
    low, high = (
        bounds.get(column.field_id) if bounds else None for bounds in (file.lower_bounds, file.upper_bounds)
    )
    if low is None or high is None:
        return True
    first = bisect.bisect_left(ordered, _bound(column.field_type, low))
    after = bisect.bisect_right(ordered, _bound(column.field_type, high))
    return first < after


def _bound(kind: PrimitiveType, value: bytes) -> Any:
    """A bound as a value that compares with ``_ordered``."""
    decoded: Any = from_bytes(kind, value)
    return decoded.encode() if isinstance(decoded, str) else decoded


def _grouped(files: pa.ChunkedArray, rows: pa.ChunkedArray) -> Iterator[tuple[Any, Positions]]:
    """Split parallel columns (file, position) by file; positions ascending."""
    codes = files.combine_chunks().dictionary_encode()
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    positions = rows.to_numpy().astype(np.int64)
    order = np.lexsort((positions, numbers))
    numbers, positions = numbers[order], positions[order]
    edges = np.searchsorted(numbers, np.arange(len(codes.dictionary) + 1))
    for n, name in enumerate(codes.dictionary.to_pylist()):
        yield name, positions[edges[n] : edges[n + 1]]


def _without_deleted(
    found: Iterator[tuple[str, Positions]], deleted: Mapping[str, BitMap]
) -> dict[str, Positions]:
    """Leave out rows that are deleted already."""
    live: dict[str, Positions] = {}
    for path, rows in found:
        gone = deleted[path]
        if gone:
            mask = np.zeros(int(rows[-1]) + 1, dtype=np.bool_)
            past = np.frombuffer(gone.to_array(), dtype=np.uint32)
            mask[past[past <= rows[-1]]] = True
            rows = rows[~mask[rows]]
        if len(rows):
            live[path] = rows
    return live
