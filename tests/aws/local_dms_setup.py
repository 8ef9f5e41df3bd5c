"""A task of the stand-in for DMS between a real PostgreSQL and ministack's Kinesis, and what it put there."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from smartstream.testing.local_dms import LocalDms, Quirks, serve
from smartstream.testing.local_dms.__main__ import clients_at
from tests.aws.terraform_runner import ROOT

REGION, ACCOUNT = "eu-north-1", "000000000000"
HOST = "source.example.com"
SECONDS_MAX = 20.0

# As terraform/dms.tf sets them, with names of the API.
KINESIS_SETTINGS: Mapping[str, Any] = {
    "MessageFormat": "json-unformatted",
    "IncludeTransactionDetails": True,
    "IncludePartitionValue": True,
    "PartitionIncludeSchemaTable": True,
    "IncludeTableAlterOperations": True,
    "IncludeControlDetails": True,
    "IncludeNullAndEmpty": True,
    "UseLargeIntegerValue": True,
}
TASK_SETTINGS: Mapping[str, Any] = {
    "TargetMetadata": {"SupportLobs": True, "LobMaxSize": 64, "ParallelApplyThreads": 4},
    "BeforeImageSettings": {
        "EnableBeforeImage": True,
        "FieldName": "before-image",
        "ColumnFilter": "pk-only",
    },
    "ErrorBehavior": {"DataErrorPolicy": "STOP_TASK", "RecoverableErrorInterval": 1},
}
_NUMBERS = itertools.count(1)


def selection(action: str, schema: str, table: str) -> dict[str, Any]:
    """A selection rule."""
    number = str(next(_NUMBERS))
    locator = {"schema-name": schema, "table-name": table}
    return {
        "rule-type": "selection",
        "rule-id": number,
        "rule-name": number,
        "object-locator": locator,
        "rule-action": action,
    }


def eventually(ask: Callable[[], Any], what: str = "nothing came") -> Any:
    """The first answer that is not empty.

    Raises:
        AssertionError: there was none in time.
    """
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} within {SECONDS_MAX} s")


def client_of(address: str, service: str) -> Any:
    """A client of boto3 that makes no second try."""
    return boto3.client(
        service,
        endpoint_url=address,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20),
    )


@dataclass
class Replication:
    """A task and both of its ends."""

    dms: Any
    kinesis: Any
    stream: str
    task_arn: str
    instance_arn: str
    endpoint_arns: tuple[str, str]
    source: psycopg.Connection[tuple[Any, ...]]

    def connect(self) -> list[dict[str, Any]]:
        """Test both connections, and wait until it is known how they are."""
        for arn in self.endpoint_arns:
            self.dms.test_connection(ReplicationInstanceArn=self.instance_arn, EndpointArn=arn)
        wanted = [{"Name": "endpoint-arn", "Values": list(self.endpoint_arns)}]

        def tested() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.dms.describe_connections(Filters=wanted)["Connections"]
            return [] if any(one["Status"] == "testing" for one in found) else found

        answer: list[dict[str, Any]] = eventually(tested)
        return answer

    def start(self, kind: str = "start-replication") -> None:
        """Start, and wait until all tables are loaded."""
        self.dms.start_replication_task(ReplicationTaskArn=self.task_arn, StartReplicationTaskType=kind)
        eventually(lambda: self.task()["Status"] in ("running", "failed"), "the task doesn't run")
        assert self.task()["Status"] == "running", self.task()
        eventually(lambda: self.task()["ReplicationTaskStats"]["FullLoadProgressPercent"] == 100)

    def stop(self) -> None:
        """Stop, and wait until it has."""
        self.dms.stop_replication_task(ReplicationTaskArn=self.task_arn)
        eventually(lambda: self.task()["Status"] == "stopped", "the task doesn't stop")

    def task(self) -> dict[str, Any]:
        """What DMS says of the task."""
        wanted = [{"Name": "replication-task-arn", "Values": [self.task_arn]}]
        (found,) = self.dms.describe_replication_tasks(Filters=wanted)["ReplicationTasks"]
        return dict(found)

    def statistics(self) -> dict[str, dict[str, Any]]:
        """What DMS says of each table, by name."""
        found = self.dms.describe_table_statistics(ReplicationTaskArn=self.task_arn)["TableStatistics"]
        return {table["TableName"]: table for table in found}

    def records(self) -> list[dict[str, Any]]:
        """All records in the stream, shard by shard; numbers keep their digits."""
        return [record for _, record in self.raw()]

    def raw(self) -> list[tuple[str, dict[str, Any]]]:
        """All records with their partition keys."""
        found = []
        for shard in self.kinesis.list_shards(StreamName=self.stream)["Shards"]:
            iterator = self.kinesis.get_shard_iterator(
                StreamName=self.stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while True:
                answer = self.kinesis.get_records(ShardIterator=iterator, Limit=1000)
                if not answer["Records"]:
                    break
                for record in answer["Records"]:
                    assert record["Data"].endswith(b"}\n") and record["Data"].count(b"\n") == 1
                    found.append((record["PartitionKey"], json.loads(record["Data"], parse_float=Decimal)))
                iterator = answer["NextShardIterator"]
        return found

    def changes(self, table: str, count: int) -> list[dict[str, Any]]:
        """Changes of a table, in the order of the source, once there are so many."""

        def found() -> list[dict[str, Any]]:
            operations = ("insert", "update", "delete")
            records = [
                record
                for record in self.records()
                if record["metadata"]["operation"] in operations and record["metadata"]["table-name"] == table
            ]
            return records if len(records) >= count else []

        records: list[dict[str, Any]] = eventually(found, f"no {count} changes of {table}")
        return sorted(records, key=place)

    def loaded(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table that were loaded."""
        return [
            record["data"]
            for record in self.records()
            if (record["metadata"]["operation"], record["metadata"]["table-name"]) == ("load", table)
        ]

    def controls(self) -> list[tuple[str, str]]:
        """Operation and table of control records; they share a partition by table only."""
        found = [record["metadata"] for record in self.records()]
        return [
            (one["operation"], f"{one['schema-name']}.{one['table-name']}")
            for one in found
            if one["record-type"] == "control"
        ]


Start = Callable[..., Replication]
"""Makes tables by statements, and a task that has loaded them; options are those of ``replication``."""


def place(record: Mapping[str, Any]) -> tuple[str, int]:
    """Where a change stands among those of its row."""
    lsn, number, _ = record["metadata"]["stream-position"].split(".")
    return lsn, int(number)


@contextmanager
def replication(
    database: str,
    ministack: str,
    *,
    rules: list[dict[str, Any]] | None = None,
    quirks: Quirks | None = None,
    kinesis_settings: Mapping[str, Any] | None = None,
    source_settings: Mapping[str, Any] | None = None,
    task_settings: Mapping[str, Any] | None = None,
    migration_type: str = "full-load-and-cdc",
) -> Iterator[Replication]:
    """A task that is ready to start, on a fresh stream with three shards, in a database that is prepared."""
    local = conninfo_to_dict(database)
    dms = LocalDms(
        REGION,
        ACCOUNT,
        clients=clients_at(ministack, REGION),
        hosts={HOST: f"host={local['host']} port={local['port']}"},
        quirks=quirks or Quirks(poll_seconds=0.05),
    )
    stream = f"changes-{next(_NUMBERS)}"
    kinesis, secrets = client_of(ministack, "kinesis"), client_of(ministack, "secretsmanager")
    kinesis.create_stream(StreamName=stream, ShardCount=3)
    # With the port of the server that the secret means, not of the local one.
    login = {"username": "dms_replication", "password": local["password"], "host": HOST, "port": 5432}
    secret = secrets.create_secret(Name=f"login-{stream}", SecretString=json.dumps(login))["ARN"]
    with serve(dms) as address, psycopg.connect(database, autocommit=True) as source:
        client = client_of(address, "dms")
        instance = _instance(client)
        endpoints = (
            _endpoint(client, "source", str(local["dbname"]), secret, source_settings or {}),
            client.create_endpoint(
                EndpointIdentifier="target",
                EndpointType="target",
                EngineName="kinesis",
                KinesisSettings={
                    "StreamArn": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}",
                    "ServiceAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/dms-kinesis",
                    **KINESIS_SETTINGS,
                    **(kinesis_settings or {}),
                },
            )["Endpoint"]["EndpointArn"],
        )
        task = client.create_replication_task(
            ReplicationTaskIdentifier="changes",
            SourceEndpointArn=endpoints[0],
            TargetEndpointArn=endpoints[1],
            ReplicationInstanceArn=instance,
            MigrationType=migration_type,
            TableMappings=json.dumps({"rules": rules or [selection("include", "public", "%")]}),
            ReplicationTaskSettings=json.dumps(merged(TASK_SETTINGS, task_settings or {})),
        )["ReplicationTask"]
        assert task["Status"] == "creating"
        yield Replication(client, kinesis, stream, task["ReplicationTaskArn"], instance, endpoints, source)


def merged(settings: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of their sections' entries changed."""
    return {name: {**settings.get(name, {}), **changed.get(name, {})} for name in {*settings, *changed}}


def _instance(client: Any) -> str:
    client.create_replication_subnet_group(
        ReplicationSubnetGroupIdentifier="lake",
        ReplicationSubnetGroupDescription="private subnets",
        SubnetIds=["subnet-1", "subnet-2"],
    )
    answer = client.create_replication_instance(
        ReplicationInstanceIdentifier="lake",
        ReplicationInstanceClass="dms.t3.micro",
        ReplicationSubnetGroupIdentifier="lake",
        VpcSecurityGroupIds=["sg-1"],
    )
    return str(answer["ReplicationInstance"]["ReplicationInstanceArn"])


def _endpoint(client: Any, name: str, database: str, secret: str, settings: Mapping[str, Any]) -> str:
    answer = client.create_endpoint(
        EndpointIdentifier=name,
        EndpointType="source",
        EngineName="postgres",
        DatabaseName=database,
        SslMode="require",
        PostgreSQLSettings={
            "SecretsManagerSecretId": secret,
            "SecretsManagerAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/dms-secrets",
            "PluginName": "test-decoding",
            "HeartbeatEnable": True,
            "HeartbeatSchema": "awsdms",
            "CaptureDdls": True,
            "DdlArtifactsSchema": "awsdms",
            **settings,
        },
    )
    return str(answer["Endpoint"]["EndpointArn"])


@contextmanager
def prepared_source(database: str) -> Iterator[str]:
    """The URL of DMS's login in a database with DMS's schema and view of DDL; they go afterwards.

    As docs/aws/source-setup.sql makes them.  On RDS the role rds_replication may use slots,
    elsewhere only a role with the attribute may.
    """
    text = (ROOT / "docs" / "aws" / "source-setup.sql").read_text(encoding="utf-8")
    password = conninfo_to_dict(database)["password"]
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE rds_replication")
        try:
            admin.execute(text)
            admin.execute(f"ALTER ROLE dms_replication REPLICATION PASSWORD '{password}'")
            yield make_conninfo(database, user="dms_replication")
        finally:
            admin.execute("DROP EVENT TRIGGER IF EXISTS awsdms_intercept_ddl")
            admin.execute("DROP OWNED BY dms_replication CASCADE")
            admin.execute("DROP ROLE dms_replication, rds_replication")
