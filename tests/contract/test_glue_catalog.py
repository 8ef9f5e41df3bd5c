"""Trusted tables in Glue's catalog and S3: the same commits, conflicts and reads as on a disk."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from smartstream.config import Lake
from smartstream.errors import CommitConflict
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.table import Position, TrustedTable
from tests.changelog_source import SCHEMA
from tests.contract.s3_emulator import S3Emulator


@pytest.fixture(scope="module")
def aws() -> Iterator[S3Emulator]:
    """S3 and Glue on 127.0.0.1."""
    emulator = S3Emulator()
    yield emulator
    emulator.stop()


@pytest.fixture
def lake(aws: S3Emulator) -> Lake:
    """A fresh warehouse whose zones are databases with a prefix."""
    made = aws.lake("")
    bucket = made.warehouse.removeprefix("s3://").strip("/")
    properties = {
        "glue.endpoint": aws.url,
        "glue.region": "us-east-1",
        "glue.access-key-id": "testing",
        "glue.secret-access-key": "testing",
        "database_prefix": f"{bucket}_".replace("-", "_"),
    }
    catalog = {"type": "glue", "properties": properties}
    return Lake.model_validate({**made.model_dump(), "catalog": catalog, "s3": made.s3})


def rows(*keys: int) -> pa.Table:
    """Rows of the table under test."""
    made = [
        {"a": key, "b": "x", "big": f"row {key}", "n": key, "_lsn": key, "_untyped": None} for key in keys
    ]
    return pa.Table.from_pylist(made, SCHEMA.trusted_schema())


def contents(table: TrustedTable) -> list[int]:
    """The live rows' first key column, as pyiceberg reads them."""
    table.iceberg.refresh()
    return sorted(table.iceberg.scan().to_arrow()["a"].to_pylist())


def test_rows_are_committed_found_and_replaced(lake: Lake) -> None:
    table = TrustedTable.open(open_catalog(lake), SCHEMA)
    table.commit(add=table.write(rows(1, 2, 3)), delete=None, position=Position(3, 1, 1))
    gone = table.locate(rows(2, 9).select(list(SCHEMA.key)))
    assert gone.row_count == 1
    table.commit(add=table.write(rows(4)), delete=gone, position=Position(4, 2, 1))
    again = TrustedTable.open(open_catalog(lake), SCHEMA, create=False)
    assert contents(again) == [1, 3, 4]
    assert again.position == Position(4, 2, 1)


def test_the_databases_have_the_prefix_and_the_tables_their_zone(lake: Lake, aws: S3Emulator) -> None:
    catalog = open_catalog(lake)
    prefix = lake.catalog.properties["database_prefix"]
    zones = {f"{prefix}{zone}" for zone in ("trusted", "quarantine", "analytics")}
    assert zones <= {name for (name,) in catalog.list_namespaces()}
    table = TrustedTable.open(catalog, SCHEMA)
    assert table.iceberg.location() == f"{lake.warehouse.rstrip('/')}/trusted/t"
    assert catalog.table_exists(("trusted", "t")) and not catalog.table_exists(("analytics", "t"))


def test_of_two_writers_the_second_is_told(lake: Lake) -> None:
    first, second = (TrustedTable.open(open_catalog(lake), SCHEMA) for _ in range(2))
    first.commit(add=first.write(rows(1)), delete=None, position=Position(1, 1, 1))
    with pytest.raises(CommitConflict):
        second.commit(add=second.write(rows(2)), delete=None, position=Position(2, 2, 1))
    assert contents(TrustedTable.open(open_catalog(lake), SCHEMA)) == [1]


def test_columns_follow_the_source(lake: Lake) -> None:
    table = TrustedTable.open(open_catalog(lake), SCHEMA)
    table.commit(add=table.write(rows(1)), delete=None, position=Position(1, 1, 1))
    columns = tuple(c for c in SCHEMA.columns if c.name != "n")
    fewer = TableSchema(SCHEMA.oid, SCHEMA.schema, SCHEMA.name, columns, SCHEMA.key)
    table.evolve(fewer)
    assert TrustedTable.open(open_catalog(lake), SCHEMA).schema == fewer
