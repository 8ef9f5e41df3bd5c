"""The handlers on an emulated S3: what they answer, and what their log lines say and don't say."""

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
from moto import mock_aws

from smartstream.errors import ConfigMissing, EventMalformed

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-row-value"


def handler(name: str) -> ModuleType:
    """A handler's module, loaded anew."""
    path = ROOT / "lambdas" / name / "lambda_function.py"
    spec = importlib.util.spec_from_file_location(f"handler_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 client beside an empty lake; the handlers' environment is set."""
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "WAREHOUSE": "s3://lake",
        "RAW_PREFIX": "raw",
        "GLUE_CATALOG_PREFIX": "smartstream_dev",
        "LOCK_TABLE": "smartstream-dev-table-locks",
        "LOG_LEVEL": "INFO",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
        yield client


def announced(*keys: str) -> dict[str, Any]:
    """The batch of messages that SQS hands over when S3 announces objects."""
    records = []
    for number, key in enumerate(keys):
        created = {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "lake"}, "object": {"key": key}},
        }
        records.append({"messageId": f"m{number}", "body": json.dumps({"Records": [created]})})
    return {"Records": records}


def test_each_object_is_read_and_its_lines_are_counted(lake: Any, caplog: pytest.LogCaptureFixture) -> None:
    lake.put_object(Bucket="lake", Key="raw/table=a b/1.json.gz", Body=gzip.compress(b"{}\n" * 3))
    with caplog.at_level(logging.INFO, "smartstream.transform"):
        answer = handler("transform").lambda_handler(announced("raw/table%3Da+b/1.json.gz"), None)
    assert answer == {"batchItemFailures": []}
    (line,) = caplog.records
    assert (line.event, line.key, line.lines) == ("read", "raw/table=a b/1.json.gz", 3)  # type: ignore[attr-defined]


def test_what_cannot_be_read_fails_alone(lake: Any, caplog: pytest.LogCaptureFixture) -> None:
    lake.put_object(Bucket="lake", Key="raw/good", Body=gzip.compress(b"{}\n"))
    lake.put_object(Bucket="lake", Key="raw/plain", Body=CANARY.encode())
    event = announced("raw/plain", "raw/good", "raw/missing", "analytics/x")
    answer = handler("transform").lambda_handler(event, None)
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["m0", "m2", "m3"]
    rejected = [line for line in caplog.records if line.levelno == logging.ERROR]
    kinds = [line.error for line in rejected]  # type: ignore[attr-defined]
    assert kinds == ["RawCorrupt", "NoSuchKey", "EventMalformed"]
    assert {(line.event, line.count) for line in rejected} == {("rejected", 1)}  # type: ignore[attr-defined]


def test_log_lines_carry_no_row_values(lake: Any, caplog: pytest.LogCaptureFixture) -> None:
    lake.put_object(Bucket="lake", Key="raw/good", Body=gzip.compress(CANARY.encode()))
    lake.put_object(Bucket="lake", Key="raw/plain", Body=CANARY.encode())
    event = announced("raw/good", "raw/plain")
    event["Records"].append({"messageId": "m9", "body": CANARY})
    with caplog.at_level(logging.DEBUG, "smartstream"):
        handler("transform").lambda_handler(event, None)
    assert len(caplog.records) >= 3
    assert not [line for line in caplog.records if CANARY in str(line.__dict__)]


def test_a_call_that_is_no_batch_fails_as_a_whole(lake: Any) -> None:
    with pytest.raises(EventMalformed):
        handler("transform").lambda_handler({"detail": {}}, None)


def test_the_schedule_is_answered_honestly(lake: Any) -> None:
    answer = handler("ml").lambda_handler({"time": "2026-01-01T00:00:00Z"}, None)
    assert answer == {"scheduled_at": "2026-01-01T00:00:00+00:00", "predictions": 0}


@pytest.mark.parametrize("name", ["transform", "ml"])
def test_a_function_without_its_environment_says_what_is_missing(
    name: str, lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAREHOUSE")
    with pytest.raises(ConfigMissing, match="WAREHOUSE"):
        handler(name).lambda_handler({}, None)
