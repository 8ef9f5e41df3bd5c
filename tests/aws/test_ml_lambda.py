"""The ML function scores the lake's models with the code that a laptop runs, on S3, Glue and DynamoDB."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pyarrow as pa
import pytest

from smartstream.aws.lambda_lake import lake_of
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.config import Lake
from smartstream.errors import RunsFailed
from smartstream.inference.runs import runs_of
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.table import Position, TrustedTable
from tests.contract.s3_emulator import S3Emulator
from tests.model_lake import TABLES, doubling_model

ROOT = Path(__file__).resolve().parents[2]
LOCKS = "locks"
CONFIG = """
version: 1
source: {url: "${env:NOT_SET_IN_THE_FUNCTION}"}
models:
  - {name: pay, uri: double.onnx, features: pay.sql, key: [id], inputs: [{name: pay}], keep: both}
"""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Emulator]:
    """Emulators, with an environment in which boto3 and pyarrow find them."""
    emulator = S3Emulator()
    for name, value in {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "RAW_PREFIX": "raw",
        "LOCK_TABLE": LOCKS,
        "LOG_LEVEL": "INFO",
    }.items():
        monkeypatch.setenv(name, value)
    yield emulator
    emulator.stop()


@pytest.fixture
def lake(aws: S3Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lake:
    """A lake with a table of people, a configuration and a model."""
    warehouse = aws.lake("").warehouse.rstrip("/")
    monkeypatch.setenv("WAREHOUSE", warehouse)
    monkeypatch.setenv("GLUE_CATALOG_PREFIX", warehouse.removeprefix("s3://").replace("-", "_"))
    dynamodb = boto3.client("dynamodb")
    if LOCKS not in dynamodb.list_tables()["TableNames"]:
        dynamodb.create_table(
            TableName=LOCKS,
            KeySchema=[{"AttributeName": "table_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "table_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    doubling_model(tmp_path / "double.onnx")
    files = {
        "smartstream.yaml": CONFIG.encode(),
        "pay.sql": b"SELECT id, pay FROM people",
        "double.onnx": (tmp_path / "double.onnx").read_bytes(),
    }
    bucket = warehouse.removeprefix("s3://")
    for name, data in files.items():
        boto3.client("s3").put_object(Bucket=bucket, Key=f"config/{name}", Body=data)
    found = lake_of(LambdaSettings.read(os.environ), os.environ)
    put(found, {1: 5, 2: 6}, 1)
    return found


def handler() -> ModuleType:
    """The function's own module."""
    spec = importlib.util.spec_from_file_location("ml_function", ROOT / "lambdas/ml/lambda_function.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def put(lake: Lake, people: dict[int, int], seq: int) -> None:
    """Let the table of people be these."""
    schema = TABLES["people"]
    table = TrustedTable.open(open_catalog(lake), schema)
    rows = [{"id": key, "team": 1, "pay": pay, "_lsn": seq} for key, pay in people.items()]
    files = table.write(pa.Table.from_pylist(rows, schema.trusted_schema()))
    table.commit(add=files, delete=None, position=Position(seq, seq, 1), replace_all=True)


def call(folder: Path) -> dict[str, Any]:
    """One call, in an environment of its own, as after a cold start."""
    module = handler()
    module.FOLDER = folder
    answer: dict[str, Any] = module.lambda_handler({"time": "2026-01-01T00:00:00Z"}, None)
    return answer


def predictions(lake: Lake) -> dict[int, float]:
    rows = open_catalog(lake).load_table(("analytics", "pay")).scan().to_arrow().to_pylist()
    return {row["id"]: row["prediction"] for row in rows}


def test_the_function_scores_the_models_of_the_lake(lake: Lake, tmp_path: Path) -> None:
    assert call(tmp_path / "a")["predictions"] == {"pay": 2}
    assert predictions(lake) == {1: 10.0, 2: 12.0}
    assert call(tmp_path / "b")["predictions"] == {"pay": 0}
    put(lake, {1: 5, 2: 7, 3: 8}, 2)
    assert call(tmp_path / "c")["predictions"] == {"pay": 2}
    assert predictions(lake) == {1: 10.0, 2: 14.0, 3: 16.0}
    assert [run.status for run in runs_of(open_catalog(lake), "pay")] == ["ok", "ok"]


def test_a_model_that_fails_fails_the_call(lake: Lake, tmp_path: Path) -> None:
    bucket = lake.warehouse.removeprefix("s3://")
    boto3.client("s3").put_object(Bucket=bucket, Key="config/pay.sql", Body=b"SELECT id FROM nobody")
    with pytest.raises(RunsFailed, match="pay"):
        call(tmp_path / "a")
    assert [run.status for run in runs_of(open_catalog(lake), "pay")] == ["failed"]
