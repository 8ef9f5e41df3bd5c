"""A stack as Terraform leaves it, small and on moto, and the command line that operates it."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from smartstream.aws.operate import waiting
from smartstream.aws.operate.calls import Aws
from smartstream.cli import main
from tests.aws.stack_text import stack_blocks

REGION, ACCOUNT = "eu-north-1", "123456789012"
_DMS_ADDRESS = "AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE"
_NUMBERS = itertools.count(1)


@dataclass
class Ran:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, as JSON."""
        return json.loads(self.out)


@dataclass
class OperatedStack:
    """The parts of a stack that data goes through, and its outputs in a file."""

    address: str
    outputs: dict[str, Any]
    file: Path
    capsys: pytest.CaptureFixture[str]

    def client(self, service: str) -> Any:
        """A client of the emulator."""
        return client_at(self.address, service)

    def run(self, *arguments: str) -> Ran:
        """Run ``smartstream aws …`` on this stack."""
        self.capsys.readouterr()
        name, *others = arguments
        code = main(["aws", name, *others, "--outputs", str(self.file)])
        said = self.capsys.readouterr()
        return Ran(code, said.out, said.err)

    def change(self, **outputs: Any) -> None:
        """Let the stack have other outputs."""
        self.outputs |= outputs
        self.file.write_text(json.dumps({name: {"value": value} for name, value in self.outputs.items()}))

    def put_raw(self, table: str, number: int, day: str = "2026-11-01") -> str:
        """A raw object of a table in public."""
        key = f"raw/schema=public/table={table}/dt={day}/{number:03} a+b.json.gz"
        body = gzip.compress(b"{}\n")
        self.client("s3").put_object(Bucket=self.outputs["data_lake_bucket"], Key=key, Body=body)
        return key

    def messages(self, output: str) -> list[str]:
        """Bodies of all messages of a queue; they stay hidden afterwards."""
        sqs, found = self.client("sqs"), []
        while batch := sqs.receive_message(QueueUrl=self.outputs[output], MaxNumberOfMessages=10).get(
            "Messages"
        ):
            found += [one["Body"] for one in batch]
        return found


_CLIENTS: dict[tuple[str | None, ...], Any] = {}
_MAKE_CLIENT = Aws.client


def _client_once(aws: Aws, service: str) -> Any:
    """A command's client, made once for each address: reading a service's model takes most of the time."""
    places = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL", _DMS_ADDRESS))
    key = (service, *places)
    if key not in _CLIENTS:
        _CLIENTS[key] = _MAKE_CLIENT(aws, service)
    return _CLIENTS[key]


@cache
def client_at(address: str, service: str) -> Any:
    """A client of an emulator; making one takes as long as many calls."""
    return boto3.client(
        service,
        endpoint_url=address,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@contextmanager
def moto() -> Iterator[str]:
    """The address of an emulator."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def operated(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> OperatedStack:
    """A fresh stack; the environment of this process leads to it."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(waiting, "EVERY_S", 0.05)
    monkeypatch.setattr(Aws, "client", _client_once)
    made = OperatedStack(address, _made(address), folder / "outputs.json", capsys)
    assert set(made.outputs) <= set(stack_blocks("output"))
    made.change()
    return made


def _made(address: str) -> dict[str, Any]:
    """Make the resources; what no test asks for has a name only."""
    name = f"shop-dev{next(_NUMBERS)}"
    s3, sqs, glue, logs = (client_at(address, one) for one in ("s3", "sqs", "glue", "logs"))
    lake, results, access = (f"{name}-{one}-{ACCOUNT}" for one in ("lake", "athena", "access-logs"))
    for bucket in (lake, results, access):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    queues = {one: sqs.create_queue(QueueName=f"{name}-{one}")["QueueUrl"] for one in ("transform", "dlq")}
    zones = ("raw", "trusted", "quarantine", "analytics")
    databases = {zone: f"{name.replace('-', '_')}_{zone}" for zone in zones}
    for database in databases.values():
        glue.create_database(DatabaseInput={"Name": database})
    crawlers = [f"{name}-trusted", f"{name}-analytics"]
    for crawler in crawlers:
        target = {"S3Targets": [{"Path": f"s3://{lake}/trusted/"}]}
        glue.create_crawler(Name=crawler, Role="crawls", Targets=target, DatabaseName=databases["trusted"])
    functions = {one: f"{name}-{one}" for one in ("transform", "ml")}
    for function in functions.values():
        logs.create_log_group(logGroupName=f"/aws/lambda/{function}")
    client_at(address, "athena").create_work_group(
        Name=name,
        Configuration={"ResultConfiguration": {"OutputLocation": f"s3://{results}/results/"}},
    )
    _streams(address, name, lake)
    return {
        "account_id": ACCOUNT,
        "region": REGION,
        "name_prefix": name,
        "data_lake_bucket": lake,
        "raw_s3_uri": f"s3://{lake}/raw/",
        "athena_results_bucket": results,
        "athena_workgroup": name,
        "rds_database": "shop",
        "rds_endpoint": f"{name}.example.com:5432",
        "transform_queue_url": queues["transform"],
        "transform_dlq_url": queues["dlq"],
        "glue_databases": databases,
        "glue_crawlers": crawlers,
        "transform_function_name": functions["transform"],
        "ml_function_name": functions["ml"],
        "kinesis_stream_name": f"{name}-cdc",
        "firehose_name": f"{name}-raw",
    }


def _streams(address: str, name: str, lake: str) -> None:
    """The stream and its delivery."""
    client_at(address, "kinesis").create_stream(StreamName=f"{name}-cdc", ShardCount=1)
    client_at(address, "firehose").create_delivery_stream(
        DeliveryStreamName=f"{name}-raw",
        ExtendedS3DestinationConfiguration={
            "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/delivers",
            "BucketARN": f"arn:aws:s3:::{lake}",
        },
    )


def answer_athena(address: str, columns: list[str], rows: list[list[str | None]]) -> None:
    """Let the emulator's next query have this result, in Athena's shape: the names again as first row."""
    import urllib.request

    listed: list[Mapping[str, Any]] = [
        {"Data": [{} if value is None else {"VarCharValue": value} for value in row]}
        for row in [list[str | None](columns), *rows]
    ]
    info = [
        {"CatalogName": "hive", "SchemaName": "", "TableName": "", "Name": one, "Label": one}
        | {"Type": "varchar", "Precision": 0, "Scale": 0, "Nullable": "UNKNOWN", "CaseSensitive": True}
        for one in columns
    ]
    body = {"results": [{"rows": listed, "column_info": info}], "account_id": ACCOUNT, "region": REGION}
    request = urllib.request.Request(
        f"{address}/moto-api/static/athena/query-results",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=5).close()
