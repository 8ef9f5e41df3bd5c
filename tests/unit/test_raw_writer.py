"""The raw writer: what its files hold and where they lie."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartstream.errors import LakeNotWritable
from smartstream.manifest import RawFile
from smartstream.raw.local_store import LocalStore
from smartstream.raw.reader import read_batches
from smartstream.raw.writer import SCHEMA_KEY, RawWriter
from smartstream.schema import Kind, TableSchema
from tests.unit.raw_samples import NOON, ORDERS, changelog

_INTEGERS = {32: pa.int32(), 64: pa.int64(), 128: pa.decimal128(3, 0)}


def write(root: Path, rows: pa.Table, schema: TableSchema = ORDERS) -> RawFile:
    """One file in a lake at ``root``."""
    return RawWriter(LocalStore(root), lambda: NOON).write(schema, rows)


def test_the_manifest_learns_what_the_file_holds(tmp_path: Path) -> None:
    rows = changelog(1_000)
    file = write(tmp_path, rows)
    path = tmp_path / file.path
    assert file.table == "public.orders"
    assert file.row_count == pq.read_metadata(path).num_rows == 1_000
    assert file.size_bytes == path.stat().st_size
    assert (file.lsn_min, file.lsn_max) == (5_000_000_000, 5_000_000_000 + 199 * 160)
    assert file.ops == Counter(rows["_op"].to_pylist())


def test_the_path_names_table_day_and_lsns_and_is_never_used_twice(tmp_path: Path) -> None:
    paths = [write(tmp_path, changelog(10)).path for _ in range(3)]
    pattern = r"raw/public\.orders/dt=2026-03-04/000000012A05F200-000000012A05F2A0-[0-9a-f]{8}\.parquet"
    assert all(re.fullmatch(pattern, path) for path in paths)
    assert len(set(paths)) == 3


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Order Lines", "s.Order%20Lines"),
        ("a/../../b", "s.a%2F..%2F..%2Fb"),
        ("größe", "s.größe"),
        ("50%=*?", "s.50%25%3D%2A%3F"),
    ],
)
def test_any_table_name_has_a_folder_of_its_own_below_raw(tmp_path: Path, name: str, folder: str) -> None:
    file = write(tmp_path, changelog(1), replace(ORDERS, schema="s", name=name))
    assert file.path.split("/")[:2] == ["raw", folder]
    assert file.path.count("/") == 3
    assert (tmp_path / file.path).is_file()


def test_the_longest_names_of_postgresql_fit(tmp_path: Path) -> None:
    folders = set()
    for last in "ab":
        schema = replace(ORDERS, schema="*" * 63, name="€" * 20 + " " * 2 + last)
        file = write(tmp_path, changelog(1), schema)
        assert (tmp_path / file.path).is_file()
        folders.add(file.path.split("/")[1])
    assert len(folders) == 2


def test_the_file_carries_the_schema_of_its_table(tmp_path: Path) -> None:
    file = write(tmp_path, changelog(10))
    metadata = pq.read_metadata(tmp_path / file.path).metadata
    assert TableSchema.from_json(metadata[SCHEMA_KEY].decode()) == ORDERS


def test_rows_keep_their_order_and_every_value(tmp_path: Path) -> None:
    rows = changelog(300_000)
    file = write(tmp_path, rows)
    batches = list(read_batches(LocalStore(tmp_path), file))
    assert pa.Table.from_batches(batches) == rows
    assert max(batch.num_rows for batch in batches) <= 65_536


def test_every_type_of_a_column_survives(tmp_path: Path) -> None:
    columns = tuple(
        replace(ORDERS.column("id"), name=kind, attnum=n, type=replace(ORDERS.column("id").type, kind=kind))
        for n, kind in enumerate(Kind, start=10)
        if kind is not Kind.ARRAY
    )
    schema = replace(ORDERS, columns=ORDERS.columns + columns)
    rows = changelog(5)
    for column in columns:
        text = pa.array(["1", "0", None, "1", "1"])
        values = text if column.type.arrow != pa.binary() else text.cast(pa.binary())
        if pa.types.is_temporal(column.type.arrow) or pa.types.is_decimal(column.type.arrow):
            values = pa.array([1, 0, None, 1, 1], _INTEGERS[column.type.arrow.bit_width])
        rows = rows.append_column(column.name, values.cast(column.type.arrow))
    rows = rows.cast(schema.changelog_schema())
    file = write(tmp_path, rows, schema)
    assert pa.Table.from_batches(read_batches(LocalStore(tmp_path), file)) == rows


def test_a_slice_of_a_table_writes_only_its_rows(tmp_path: Path) -> None:
    rows = changelog(1_000).slice(700, 50)
    file = write(tmp_path, rows)
    assert pa.Table.from_batches(read_batches(LocalStore(tmp_path), file)) == rows
    assert file.row_count == 50


def test_the_commit_lsn_has_bounds_so_that_readers_can_skip(tmp_path: Path) -> None:
    file = write(tmp_path, changelog(300_000))
    metadata = pq.read_metadata(tmp_path / file.path)
    index = metadata.schema.names.index("_commit_lsn")
    bounds = [metadata.row_group(n).column(index).statistics for n in range(metadata.num_row_groups)]
    assert bounds[0].min == file.lsn_min
    assert bounds[-1].max == file.lsn_max


def test_rows_of_another_shape_are_a_defect_and_leave_no_file(tmp_path: Path) -> None:
    for rows in (changelog(5).drop_columns(["paid"]), changelog(5).rename_columns({"paid": "payed"})):
        with pytest.raises((ValueError, KeyError)):
            write(tmp_path, rows)
    with pytest.raises(AssertionError):
        write(tmp_path, changelog(0))
    assert list(tmp_path.rglob("*")) == []


def test_a_lake_that_refuses_says_so(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file where the folder belongs")
    with pytest.raises(LakeNotWritable, match="orders"):
        write(tmp_path, changelog(5))
