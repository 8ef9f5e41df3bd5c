"""Data files: which columns are written with a dictionary; large values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO, _pyarrow_to_schema_without_ids
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table.locations import load_location_provider

from smartstream.trusted.files import ROW_GROUP_ROWS_MAX, FileTarget, write_files

ROWS = 100_000


def _schema(table: pa.Table) -> Schema:
    return assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(table.schema))


def _written(folder: Path, table: pa.Table, plain: frozenset[str] = frozenset()) -> pq.FileMetaData:
    """The footer of the one file that a table becomes."""
    locations = load_location_provider(str(folder), {})
    target = FileTarget(PyArrowFileIO(), locations, _schema(table), plain)
    (file,) = write_files(table.to_batches(), target)
    return pq.read_metadata(file.file_path)


def _with_dictionary(metadata: pq.FileMetaData) -> set[str]:
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(metadata.num_columns)]
    return {one.path_in_schema for one in columns if one.has_dictionary_page}


@pytest.mark.parametrize("count", [30, 3_000, ROWS])
def test_only_columns_whose_values_repeat_have_a_dictionary(tmp_path: Path, seed: str, count: int) -> None:
    rng = np.random.default_rng(list(seed.encode()))
    unique = rng.permutation(count)
    table = pa.table(
        {
            "id": unique,
            "token": pa.array([f"token {number}" for number in unique]),
            "status": pa.array(np.array(["new", "paid", "sent"])[rng.integers(0, 3, count)]),
            "customer": rng.integers(0, count // 5, count),
            "nothing": pa.nulls(count, pa.string()),
            "amounts": pa.array([[1, 2]] * count),
        }
    )
    assert _with_dictionary(_written(tmp_path, table)) >= {"status", "customer"}
    assert _with_dictionary(_written(tmp_path, table)) <= {"status", "customer", "nothing"}
    assert _with_dictionary(_written(tmp_path, table, frozenset({"status"}))) <= {"customer", "nothing"}


def test_a_sorted_column_is_judged_as_a_shuffled_one(tmp_path: Path) -> None:
    sorted_columns = {
        "sparse": pa.array(np.r_[np.zeros(500, np.int64), np.arange(1, ROWS - 499)]),
        "runs": pa.array(np.repeat(np.arange(ROWS // 5), 5)),
    }
    assert _with_dictionary(_written(tmp_path, pa.table(sorted_columns))) == {"runs"}


def test_a_dictionary_of_long_texts_is_kept(tmp_path: Path) -> None:
    """20,000 texts of 70 characters are more than Parquet's usual 1 MiB: the file would be larger by half."""
    texts = pa.array([f"{number:070}" for number in range(20_000)])
    table = pa.table({"text": texts.take(pa.array(np.arange(ROWS) % 20_000))})
    group = _written(tmp_path, table).row_group(0).column(0)
    assert set(group.encodings) == {"PLAIN", "RLE", "RLE_DICTIONARY"}
    assert group.total_uncompressed_size < 20_000 * 80 + ROWS * 4


def test_large_values_come_in_row_groups_of_their_own_and_without_bounds(tmp_path: Path) -> None:
    """Bounds and dictionaries would each hold copies of them, and a batch of many is more than memory."""
    mib = 1 << 20
    small = pa.table({"id": range(ROW_GROUP_ROWS_MAX), "v": ["a"] * ROW_GROUP_ROWS_MAX})
    large = pa.table({"id": range(6), "v": ["x" * 20 * mib] * 6})
    locations = load_location_provider(str(tmp_path), {})
    target = FileTarget(PyArrowFileIO(), locations, _schema(small), frozenset({"id"}))
    batches = [batch for table in (small, large) for batch in table.to_batches()]
    files = list(write_files(batches, target))
    footers = [pq.read_metadata(file.file_path) for file in files]
    assert [footer.num_rows for footer in footers] == [len(small), 6]
    groups = [footers[1].row_group(number) for number in range(footers[1].num_row_groups)]
    assert max(group.total_byte_size for group in groups) < 61 * mib
    (id_at, value_at) = (field.field_id for field in target.schema.fields)
    assert [value_at in file.lower_bounds for file in files] == [True, False]
    assert all(id_at in file.lower_bounds for file in files)
    assert pq.read_table(files[1].file_path).equals(large.cast(pq.read_schema(files[1].file_path)))
