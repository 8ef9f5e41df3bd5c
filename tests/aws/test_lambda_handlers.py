"""The handlers without what Terraform gives them; what they do has tests of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from smartstream.errors import ConfigMissing

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("name", ["transform", "ml"])
def test_a_function_without_its_environment_says_what_is_missing(
    name: str, lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAREHOUSE")
    with pytest.raises(ConfigMissing, match="WAREHOUSE"):
        handler(name).lambda_handler({}, None)
