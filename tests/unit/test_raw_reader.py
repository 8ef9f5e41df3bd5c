"""The raw reader: it yields what was written, or says that the file is corrupt."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartstream.errors import LakeError, LakeNotWritable, RawCorrupt
from smartstream.manifest import RawFile
from smartstream.raw import reader
from smartstream.raw.local_store import LocalStore
from smartstream.raw.reader import read_batches, read_schema
from smartstream.raw.writer import RawWriter
from tests.unit.raw_samples import NOON, ORDERS, changelog

ROWS = changelog(2_000)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A lake."""
    return LocalStore(tmp_path)


@pytest.fixture
def file(store: LocalStore) -> RawFile:
    """A raw file in it."""
    return RawWriter(store, lambda: NOON).write(ORDERS, ROWS)


def assert_corrupt(store: LocalStore, file: RawFile) -> None:
    """The error names the file."""
    with pytest.raises(RawCorrupt, match=file.path):
        list(read_batches(store, file))


def test_chosen_columns_come_in_the_chosen_rows(store: LocalStore, file: RawFile) -> None:
    table = pa.Table.from_batches(read_batches(store, file, ["_op", "id", "_old_key", "tags"]))
    assert set(table.column_names) == {"_op", "id", "_old_key", "tags"}
    assert table.select(["_op", "id", "_old_key", "tags"]) == ROWS.select(["_op", "id", "_old_key", "tags"])


def test_rows_stream_without_the_file_in_memory(store: LocalStore) -> None:
    file = RawWriter(store, lambda: NOON).write(ORDERS, changelog(400_000))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    peak = 0
    for batch in read_batches(store, file):
        peak = max(peak, pa.total_allocated_bytes() - before)
        assert batch.num_rows <= 65_536
    tracemalloc.stop()
    assert peak < changelog(400_000).nbytes


def test_a_missing_file_is_corrupt(store: LocalStore, file: RawFile) -> None:
    store.delete(file.path)
    assert_corrupt(store, file)
    with pytest.raises(RawCorrupt, match="missing"):
        read_schema(store, file)


@pytest.mark.parametrize("keep", [0, 1, 4, 8, 0.5, -9, -8, -1])
def test_a_truncated_file_is_corrupt(store: LocalStore, file: RawFile, keep: float) -> None:
    data = store.get(file.path)
    store.put(file.path, data[: int(keep) if keep != 0.5 else len(data) // 2])
    assert_corrupt(store, file)
    assert_corrupt(store, replace(file, size_bytes=len(store.get(file.path))))


def test_a_longer_file_is_corrupt(store: LocalStore, file: RawFile) -> None:
    store.put(file.path, store.get(file.path) + b"PAR1")
    assert_corrupt(store, file)


def test_another_row_count_than_the_manifests_is_corrupt(store: LocalStore, file: RawFile) -> None:
    for row_count in (file.row_count - 1, file.row_count + 1):
        with pytest.raises(RawCorrupt, match=f"{file.path} holds 2000 rows.*{row_count}"):
            next(read_batches(store, replace(file, row_count=row_count)))


def test_a_file_that_is_not_parquet_is_corrupt(store: LocalStore, file: RawFile) -> None:
    store.put(file.path, b"a" * file.size_bytes)
    assert_corrupt(store, file)


def test_a_parquet_file_of_another_kind_is_corrupt(store: LocalStore, file: RawFile, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": range(2_000)}), tmp_path / file.path)
    other = replace(file, size_bytes=(tmp_path / file.path).stat().st_size)
    with pytest.raises(RawCorrupt, match=file.path):
        list(read_batches(store, other, ["x"]))
    with pytest.raises(RawCorrupt, match=file.path):
        read_schema(store, other)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_never_changes_a_value_unnoticed(store: LocalStore, file: RawFile, seed: int) -> None:
    """Pages have checksums; the footer also has bits that nothing depends on."""
    random = np.random.default_rng(seed)
    data = store.get(file.path)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    bits = [*random.integers(0, 8 * len(data), 30), *random.integers(8 * footer, 8 * len(data), 100)]
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        store.put(file.path, bytes(damaged))
        try:
            found = pa.Table.from_batches(read_batches(store, file))
            schema = read_schema(store, file)
        except RawCorrupt:
            continue
        assert (found, schema) == (ROWS, ORDERS), f"seed {seed}: bit {bit} of {8 * len(data)} changed a value"


def test_a_column_that_the_file_lacks_is_corrupt(store: LocalStore, file: RawFile) -> None:
    with pytest.raises(RawCorrupt, match="no column added"):
        list(read_batches(store, file, ["id", "added"]))


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    store: LocalStore, file: RawFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(error: OSError) -> None:
        def opened(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(reader.pq, "ParquetFile", opened)

    refuse(PermissionError(13, "Permission denied"))
    with pytest.raises(LakeNotWritable):
        list(read_batches(store, file))
    refuse(OSError(24, "Too many open files"))
    with pytest.raises(LakeError, match="Too many open files") as raised:
        list(read_batches(store, file))
    assert not isinstance(raised.value, RawCorrupt)


def test_an_error_of_the_reader_names_no_value(store: LocalStore, file: RawFile) -> None:
    data = bytearray(store.get(file.path))
    data[200:-200] = b"canary" * ((len(data) - 400) // 6) + b"x" * ((len(data) - 400) % 6)
    store.put(file.path, bytes(data))
    with pytest.raises(RawCorrupt) as error:
        list(read_batches(store, file))
    assert "canary" not in str(error.value)
