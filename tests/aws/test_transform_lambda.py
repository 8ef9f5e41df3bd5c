"""The transform function on an emulated S3, Glue and DynamoDB: from announcements to trusted tables."""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest

from smartstream.aws.lambda_lake import lake_of
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.delivery.definitions import Definitions
from smartstream.delivery.records.options import NO_BEFORE_IMAGE
from smartstream.errors import ConfigMissing, EventMalformed
from smartstream.raw.store import open_store
from smartstream.trusted.catalog import open_catalog
from tests.contract.s3_emulator import S3Emulator
from tests.dms_records import ITEMS, control, record

ROOT = Path(__file__).resolve().parents[2]
LOCKS = "locks"
CANARY = "canary-row-value"


class Stack:
    """A lake as the function finds it."""

    def __init__(self, bucket: str, environment: dict[str, str], folder: Path) -> None:
        self.bucket, self.environment, self.s3 = bucket, environment, boto3.client("s3")
        self.lake = lake_of(LambdaSettings.read(environment), environment)
        Definitions(open_store(self.lake)).put(ITEMS)
        path = ROOT / "lambdas/transform/lambda_function.py"
        spec = importlib.util.spec_from_file_location("transform_function", path)
        assert spec is not None and spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.module.FOLDER = folder  # type: ignore[attr-defined]

    def put(self, key: str, *records: str) -> str:
        """Write an object as Firehose does; returns its key."""
        text = "".join(f"{one}\n" for one in records)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=gzip.compress(text.encode()))
        return key

    def call(self, *keys: str, bodies: tuple[str, ...] = ()) -> list[str]:
        """The messages that failed: ``m0`` and so on for the keys, then for the bodies."""
        told = [self.notification(key) for key in keys] + list(bodies)
        event = {"Records": [{"messageId": f"m{n}", "body": body} for n, body in enumerate(told)]}
        answer = self.module.lambda_handler(event, None)
        return [one["itemIdentifier"] for one in answer["batchItemFailures"]]

    def notification(self, key: str, bucket: str | None = None) -> str:
        """What S3 announces."""
        found = {"bucket": {"name": bucket or self.bucket}, "object": {"key": key.replace("=", "%3D")}}
        return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": found}]})

    def rows(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """What a table has."""
        table = open_catalog(self.lake).load_table((namespace, name))
        found: list[dict[str, Any]] = table.scan().to_arrow().to_pylist()
        return found


@pytest.fixture(scope="module")
def emulator() -> Iterator[S3Emulator]:
    """Everything on 127.0.0.1."""
    found = S3Emulator()
    yield found
    found.stop()


@pytest.fixture
def stack(emulator: S3Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stack:
    """A fresh lake, and the environment of its function."""
    warehouse = emulator.lake("").warehouse.rstrip("/")
    bucket = warehouse.removeprefix("s3://")
    environment = {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "WAREHOUSE": warehouse,
        "RAW_PREFIX": "raw",
        "GLUE_CATALOG_PREFIX": bucket.replace("-", "_"),
        "LOCK_TABLE": f"{LOCKS}-{bucket}",
        "LOG_LEVEL": "INFO",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    boto3.client("dynamodb").create_table(
        TableName=environment["LOCK_TABLE"],
        KeySchema=[{"AttributeName": "table_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "table_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return Stack(bucket, environment, tmp_path / "config")


def test_changes_reach_their_table_in_whatever_order_they_come(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    first = stack.put("raw/schema=public/table=items/1.gz", record("load", {"id": 1, "name": "a"}))
    second = stack.put("raw/2", record("update", {"id": 1, "name": "c"}, lsn=30))
    third = stack.put("raw/3", record("update", {"id": 1, "name": "b"}, lsn=20), record("load", {"id": 2}))
    with caplog.at_level(logging.INFO, "smartstream"):
        assert stack.call(second, first) == []
        assert stack.call(third, second) == []
    assert sorted((r["id"], r["name"]) for r in stack.rows("trusted", "items")) == [(1, "c"), (2, None)]
    written = [line for line in caplog.records if getattr(line, "event", "") == "applied"]
    facts = [(line.table, line.changes, line.late) for line in written]  # type: ignore[attr-defined]
    assert facts == [("public.items", 2, 0), ("public.items", 3, 1)]


def test_what_cannot_be_read_fails_alone(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    good = stack.put("raw/good", record("insert", {"id": 1}, lsn=5))
    stack.s3.put_object(Bucket=stack.bucket, Key="raw/half", Body=gzip.compress(b"x" * 99)[:-3])
    unknown = stack.put("raw/unknown", record("insert", {"id": 1}, lsn=5, table=("public", "y")))
    elsewhere = (stack.notification("raw/x", bucket="other"), stack.notification("config/x"), "no JSON")
    test = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": stack.bucket})
    failed = stack.call("raw/half", good, "raw/missing", unknown, bodies=(*elsewhere, test))
    assert failed == ["m0", "m2", "m3", "m4", "m5", "m6"]
    rejected = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert [line.error for line in rejected] == [  # type: ignore[attr-defined]
        "RawCorrupt",
        "RawCorrupt",
        "DefinitionMissing",
        *["EventMalformed"] * 3,
    ]
    assert {(line.event, line.count) for line in rejected} == {("rejected", 1)}  # type: ignore[attr-defined]
    assert [row["id"] for row in stack.rows("trusted", "items")] == [1]


def test_control_records_define_tables_that_nobody_has_defined(stack: Stack) -> None:
    table = ("sales", "orders")
    columns = {"id": {"type": "INT32", "nullable": False}, "note": {"type": "STRING"}}
    data = stack.put("raw/1", record("insert", {"id": 1, "note": "x"}, lsn=5, table=table))
    assert stack.call(data) == ["m0"]
    told = stack.put("raw/2", control("create-table", columns, ["id"], table))
    assert stack.call(told) == []
    assert stack.call(data) == []
    assert [(row["id"], row["note"]) for row in stack.rows("trusted", "sales__orders")] == [(1, "x")]


def test_damaged_records_are_kept_and_logs_carry_no_row_values(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    bad = stack.put(
        "raw/bad", record("insert", {"id": 1, "count": CANARY}, lsn=5), CANARY, record("load", {"id": 2})
    )
    with caplog.at_level(logging.DEBUG, "smartstream"):
        assert stack.call(bad, bodies=(CANARY,)) == ["m1"]
        assert stack.call(bad) == []
    kept = stack.rows("quarantine", "dms_records")
    assert sorted((row["object"], row["number"]) for row in kept) == [("raw/bad", 0), ("raw/bad", 1)]
    assert all(CANARY in row["record"] for row in kept)
    assert [row["id"] for row in stack.rows("trusted", "items")] == [2]
    assert len(caplog.records) >= 3
    assert not [line for line in caplog.records if CANARY in str(line.__dict__)]


def test_the_configuration_of_the_lake_holds(stack: Stack) -> None:
    config = (
        'version: 1\nsource: {url: "${env:NOWHERE}"}\ntables:\n  public.items:\n    clean: [{upper: name}]\n'
    )
    stack.s3.put_object(Bucket=stack.bucket, Key="config/smartstream.yaml", Body=config.encode())
    one = stack.put("raw/1", record("insert", {"id": 1, "name": "a"}, lsn=5))
    assert stack.call(one) == []
    assert [row["name"] for row in stack.rows("trusted", "items")] == ["A"]


UPDATE = record("update", {"id": 1, "name": "b"}, lsn=20).replace(',"before-image": {}', "")


@pytest.mark.parametrize(
    ("task_writes", "setting", "is_damaged"),
    [
        ("before-image", "auto", False),
        ("", "auto", True),
        ("", "optional", False),
        ("before-image", "required", True),
    ],
)
def test_an_update_without_a_before_image_is_what_the_stack_and_the_settings_say(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, task_writes: str, setting: str, is_damaged: bool
) -> None:
    monkeypatch.setenv("DMS_BEFORE_IMAGE", task_writes)
    config = f'source: {{url: "${{env:NOWHERE}}"}}\ndms: {{before_image: {setting}}}\n'
    stack.s3.put_object(Bucket=stack.bucket, Key="config/smartstream.yaml", Body=config.encode())
    assert stack.call(stack.put("raw/1", record("insert", {"id": 1, "name": "a"}, lsn=10), UPDATE)) == []
    assert [row["name"] for row in stack.rows("trusted", "items")] == ([] if is_damaged else ["b"])
    if is_damaged:
        assert [row["reason"] for row in stack.rows("quarantine", "dms_records")] == [NO_BEFORE_IMAGE]


def test_large_values_are_cut_where_terraform_says(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOB_BYTES_MAX", "1024")
    lines = [record("insert", {"id": n, "name": "a" * length}, lsn=n) for n, length in ((5, 512), (6, 4000))]
    assert stack.call(stack.put("raw/1", *lines)) == []
    assert [row["id"] for row in stack.rows("trusted", "items")] == [6]


def test_a_call_that_is_no_batch_fails_as_a_whole(stack: Stack) -> None:
    with pytest.raises(EventMalformed):
        stack.module.lambda_handler({"detail": {}}, None)


def test_a_function_without_its_environment_says_what_is_missing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAREHOUSE")
    with pytest.raises(ConfigMissing, match="WAREHOUSE"):
        stack.module.lambda_handler({}, None)
