"""Schema changes of trusted tables: names move, values stay, every reader sees the same."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from smartstream.errors import SchemaError
from smartstream.schema import TableSchema
from smartstream.trusted.compaction import compact
from smartstream.trusted.engine import Engine
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    FLOAT4,
    FLOAT8,
    INT4,
    INT4S,
    INT8,
    READERS,
    TEXT,
    apply,
    contents,
    keys,
    local_catalog,
    numeric,
    reopened,
    rows,
    table_schema,
)

START = table_schema([("id", 1, INT4), ("a", 2, TEXT), ("b", 3, TEXT)], ["id"])


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return local_catalog(tmp_path)


@pytest.fixture
def table(catalog: Catalog, engine: Engine) -> TrustedTable:
    table = TrustedTable.open(catalog, START, engine=engine)
    apply(table, [{"id": n, "a": f"a{n}", "b": f"b{n}"} for n in range(6)], seq=1)
    apply(table, [], [5], seq=2)
    return table


def _agreed(table: TrustedTable) -> dict[int, dict[str, Any]]:
    """The rows by id, the same in every reader."""
    found = [contents(read(table), table.schema.key) for read in READERS.values()]
    assert found[0] == found[1] == found[2]
    return {key[0]: {n: v for n, v in row.items() if n != "id"} for key, row in found[0].items()}


def test_swapped_names_keep_their_values(catalog: Catalog, table: TrustedTable) -> None:
    swapped = table_schema([("id", 1, INT4), ("b", 2, TEXT), ("a", 3, TEXT)], ["id"])
    table.evolve(swapped)
    assert _agreed(table)[1] == {"b": "a1", "a": "b1"}
    apply(table, [{"id": 1, "a": "x", "b": "y"}], [2], seq=3)
    expected = {n: {"b": f"a{n}", "a": f"b{n}"} for n in (0, 3, 4)} | {1: {"a": "x", "b": "y"}}
    assert _agreed(table) == expected
    located = table.locate(keys(swapped, [0]))
    assert table.read(located, ["a"]).to_pylist() == [{"id": 0, "a": "b0"}]
    compact(table, table.live_files)
    assert _agreed(reopened(catalog, table)) == expected


def test_a_dropped_column_does_not_come_back_under_its_name(table: TrustedTable) -> None:
    table.evolve(table_schema([("id", 1, INT4), ("a", 4, INT8), ("b", 3, TEXT)], ["id"]))
    assert _agreed(table)[1] == {"a": None, "b": "b1"}
    apply(table, [{"id": 1, "a": 7, "b": "b1"}], seq=3)
    assert {n: row["a"] for n, row in _agreed(table).items()} == {0: None, 1: 7, 2: None, 3: None, 4: None}


def test_a_renamed_and_widened_key_is_still_found(catalog: Catalog, table: TrustedTable) -> None:
    apply(table, [{"id": 2_000_000_000, "a": "far", "b": None}], seq=3)
    renamed = table_schema([("number", 1, INT8), ("a", 2, TEXT), ("b", 3, TEXT)], ["number"])
    table.evolve(renamed)
    records = [{"number": n, "a": "new", "b": "new"} for n in (3, 2_000_000_000, 5_000_000_000)]
    apply(table, records, [4], seq=4)
    again = reopened(catalog, table)
    found = _agreed(again)
    assert set(found) == {0, 1, 2, 3, 2_000_000_000, 5_000_000_000}
    assert found[2_000_000_000]["a"] == "new"
    assert again.locate(keys(renamed, [4, 5])).row_count == 0


def test_wider_types_keep_old_values(catalog: Catalog, engine: Engine) -> None:
    old = table_schema(
        [("id", 1, INT4), ("i", 2, INT4), ("f", 3, FLOAT4), ("d", 4, numeric(6, 2)), ("l", 5, INT4S)], ["id"]
    )
    table = TrustedTable.open(catalog, old, engine=engine)
    apply(table, [{"id": 1, "i": 2**31 - 1, "f": 0.5, "d": Decimal("1234.56"), "l": [1, None]}], seq=1)
    new = table_schema(
        [("id", 1, INT4), ("i", 2, INT8), ("f", 3, FLOAT8), ("d", 4, numeric(20, 2)), ("l", 5, INT4S)], ["id"]
    )
    table.evolve(new)
    apply(table, [{"id": 2, "i": 2**40, "f": 1e300, "d": Decimal("1e15"), "l": []}], seq=2)
    expected = {
        1: {"i": 2**31 - 1, "f": 0.5, "d": Decimal("1234.56"), "l": [1, None]},
        2: {"i": 2**40, "f": 1e300, "d": Decimal("1e15"), "l": []},
    }
    assert _agreed(table) == expected
    compact(table, table.live_files)
    assert _agreed(table) == expected


def test_an_added_column_is_null_or_filled_in_existing_rows(table: TrustedTable) -> None:
    new = table_schema(
        [("c", 4, INT4), ("id", 1, INT4), ("a", 2, TEXT), ("b", 3, TEXT), ("d", 5, TEXT)], ["id"]
    )
    snapshots = len(table.iceberg.metadata.snapshots)
    table.evolve(new, fills={4: pa.scalar(42), 99: pa.scalar("no such column")})
    assert _agreed(table)[1] == {"c": 42, "a": "a1", "b": "b1", "d": None}
    assert table.row_count == 5
    assert len(table.iceberg.metadata.snapshots) == snapshots + 1
    apply(table, [{"id": 3, "c": None, "a": "x"}], [0], seq=3)
    assert {n: row["c"] for n, row in _agreed(table).items()} == {1: 42, 2: 42, 3: None, 4: 42}
    assert table.position.seq == 3


def test_the_same_schema_again_changes_nothing(catalog: Catalog, table: TrustedTable) -> None:
    new = table_schema([("id", 1, INT4), ("renamed", 2, TEXT), ("b", 3, TEXT)], ["id"])
    table.evolve(new)
    location = table.iceberg.metadata_location
    table.evolve(new)
    assert table.iceberg.metadata_location == location
    assert reopened(catalog, table).schema == new
    assert table.position.seq == 2


@pytest.mark.parametrize(
    "new",
    [
        table_schema([("id", 1, INT4), ("a", 2, INT4), ("b", 3, TEXT)], ["id"]),
        table_schema([("id", 1, numeric(9, 0)), ("a", 2, TEXT), ("b", 3, TEXT)], ["id"]),
        table_schema([("id", 1, INT4), ("a", 2, TEXT), ("b", 3, TEXT)], ["id"], oid=2),
    ],
    ids=["text to integer", "integer to numeric", "another table"],
)
def test_values_that_cannot_be_kept_are_refused(new: TableSchema, table: TrustedTable) -> None:
    before = _agreed(table)
    with pytest.raises(SchemaError):
        table.evolve(new)
    assert (_agreed(table), table.schema) == (before, START)


def test_a_replacement_becomes_visible_with_its_rows(catalog: Catalog, table: TrustedTable) -> None:
    new = table_schema([("id", 1, INT4), ("a", 2, INT4), ("b", 3, TEXT)], ["id"])
    before = _agreed(table)
    table.evolve(new, replace_incompatible=True)
    files = table.write(rows(new, [{"id": 1, "a": 10, "b": "b1"}]))
    assert _agreed(table) == before
    with pytest.raises(SchemaError):
        table.commit(add=files, delete=None, position=Position(30, 3, 2))
    table.commit(add=files, delete=None, position=Position(30, 3, 2), replace_all=True)
    assert _agreed(table) == {1: {"a": 10, "b": "b1"}}
    assert reopened(catalog, table).schema == new
    apply(table, [{"id": 1, "a": 11, "b": None}, {"id": 2, "a": 12, "b": None}], seq=4)
    assert set(_agreed(table)) == {1, 2}


def test_field_ids_are_never_used_again(table: TrustedTable) -> None:
    used: list[int] = []
    for attnum in range(4, 9):
        table.evolve(table_schema([("id", 1, INT4), ("x", attnum, TEXT)], ["id"]))
        used.append(table.iceberg.schema().find_field("x").field_id)
    assert len(set(used)) == 5
    assert table.iceberg.schema().find_field("id").field_id == 1
