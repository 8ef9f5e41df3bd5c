"""Catalogs: local and S3 warehouses, and errors that say what is wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from smartstream.errors import CatalogUnavailable, LakeNotWritable, StoreUnavailable
from smartstream.trusted.catalog import NAMESPACES, lake_errors, open_catalog, table_location
from smartstream.trusted.engine import Engine
from smartstream.trusted.maintenance import maintain
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    INT8,
    TEXT,
    CatalogOptions,
    LakeOptions,
    MaintenanceOptions,
    Rules,
    apply,
    contents,
    local_catalog,
    read_pyiceberg,
    reopened,
    table_schema,
)

SCHEMA = table_schema([("id", 1, INT8), ("name", 2, TEXT)], ["id"])


@dataclass(frozen=True)
class S3:
    endpoint: str
    region: str = "eu-west-1"
    access_key_id: str = "test"
    secret_access_key: str = "test"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = S3(f"http://{host}:{port}")
    client = boto3.client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=options.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": options.region})
    yield options
    server.stop()


def test_a_table_lives_in_s3_as_it_does_locally(tmp_path: Path, s3: S3) -> None:
    uri = f"sqlite:///{tmp_path / 'catalog.db'}"
    catalog = open_catalog(LakeOptions("s3://lake/some/prefix", CatalogOptions(uri=uri), s3))
    engine = Engine(memory_bytes=128 << 20)
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    for seq in range(1, 6):
        apply(table, [{"id": n, "name": f"v{seq}"} for n in range(seq, seq + 4)], [seq - 1], seq=seq)
    expected = {5: "v5", 6: "v5", 7: "v5", 8: "v5"}
    assert {k[0]: r["name"] for k, r in contents(read_pyiceberg(table), ["id"]).items()} == expected
    assert reopened(catalog, table).row_count == 4
    later = datetime.now(UTC) + timedelta(hours=1)
    report = maintain(table, MaintenanceOptions(Rules(small_files_max=2, snapshots_max=1)), lambda: later)
    assert report.collected.file_count > 5
    apply(table, [{"id": 6, "name": "last"}], [5], seq=6)
    expected = {6: "last", 7: "v5", 8: "v5"}
    assert {k[0]: r["name"] for k, r in contents(read_pyiceberg(table), ["id"]).items()} == expected


def test_a_store_that_does_not_answer_is_an_error_to_try_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    options = LakeOptions(
        "s3://lake/x",
        CatalogOptions(
            uri=f"sqlite:///{tmp_path / 'catalog.db'}",
            properties={"s3.connect-timeout": "1", "s3.request-timeout": "1"},
        ),
        S3(f"http://127.0.0.1:{port}"),
    )
    catalog = open_catalog(options)
    with pytest.raises(StoreUnavailable):
        TrustedTable.open(catalog, SCHEMA)


def test_a_sqlite_catalog_in_s3_is_refused() -> None:
    with pytest.raises(LakeNotWritable, match="SQLite"):
        open_catalog(LakeOptions("s3://lake/x"))


def test_the_namespaces_are_there_and_opening_twice_is_fine(tmp_path: Path) -> None:
    for _ in range(2):
        catalog = local_catalog(tmp_path / "deep" / "lake")
        assert {name for (name,) in catalog.list_namespaces()} == set(NAMESPACES)
    assert (tmp_path / "deep" / "lake" / "catalog.db").exists()


def test_a_catalog_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database at all, but long enough to be read" * 100)
    with pytest.raises(CatalogUnavailable):
        local_catalog(tmp_path)


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b"])
def test_a_folder_that_iceberg_would_misread_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LakeNotWritable):
        local_catalog(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_warehouse_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    with pytest.raises(LakeNotWritable):
        local_catalog(tmp_path / "lake" / "below")


def test_locations_are_plain_and_distinct(tmp_path: Path) -> None:
    catalog = local_catalog(tmp_path)
    names = ["orders", "Orders", "a/b", "a_b", "a b", "é", "../x", "x" * 63]
    folders = [table_location(catalog, name).rsplit("/", 1)[1] for name in names]
    assert folders[0] == "orders"
    assert len({folder.lower() for folder in folders}) == len(names)
    assert all(
        set(folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        for folder in folders
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied"), LakeNotWritable),
        (OSError(30, "Read-only file system"), LakeNotWritable),
        (OSError("When reading: AWS Error NETWORK_CONNECTION"), StoreUnavailable),
    ],
)
def test_system_errors_have_a_next_step(error: OSError, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="cannot try it"), lake_errors("try it"):
        raise error
