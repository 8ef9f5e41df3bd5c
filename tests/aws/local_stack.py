"""The whole stack on this machine: the unmodified HCL on emulators, a live PostgreSQL, records in S3.

    python -m tests.aws.local_stack

Loopback only, within TIME_LIMIT_SECONDS, and whatever it started has ended with it.  Goes as far
as the raw zone: what the transform function is called with is counted, what it does is not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from smartstream.testing.local_dms import Quirks
from smartstream.testing.postgres import PostgresServer
from tests.aws.emulators import Emulators, running_emulators
from tests.aws.inventory import inventory
from tests.aws.terraform_runner import CANARY_PASSWORD, ROOT, Terraform, find_mirror

TIME_LIMIT_SECONDS = 900
WAIT_SECONDS_MAX = 60.0
DATABASE = "smartstream"
VARIABLES: Mapping[str, Any] = {"alarm_email": "alerts@example.org", "force_destroy_buckets": True}

# Keys first, then columns whose text is the same in PostgreSQL and in records.
COMPARED: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "departments": (1, ("id", "name")),
    "employees": (1, ("id", "department_id", "name", "active")),
    "salaries": (2, ("employee_id", "valid_from", "reason")),
}


class LocalStackFailed(AssertionError):
    """A hop lost something, or took too long."""


@dataclass
class LocalStack:
    """The applied stack with everything around it.

    Attributes:
        source: URL of the PostgreSQL that stands for the RDS instance, as its superuser.
        times: seconds of each step that is over.
    """

    source: str
    emulators: Emulators
    terraform: Terraform
    outputs: Mapping[str, Any]
    times: dict[str, float] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return self.emulators.client(service)

    def test_connections(self) -> list[dict[str, Any]]:
        """Have DMS try out both endpoints.

        Raises:
            LocalStackFailed: it reaches one of them not.
        """
        dms, instance = self.client("dms"), self.outputs["dms_replication_instance_arn"]
        for name in ("dms_source_endpoint_arn", "dms_target_endpoint_arn"):
            dms.test_connection(EndpointArn=self.outputs[name], ReplicationInstanceArn=instance)

        def tested() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = dms.describe_connections()["Connections"]
            return [] if any(one["Status"] == "testing" for one in found) else found

        connections: list[dict[str, Any]] = eventually("connections are tested", tested)
        if bad := [one["LastFailureMessage"] for one in connections if one["Status"] != "successful"]:
            raise LocalStackFailed("; ".join(bad))
        return connections

    def start_task(self) -> None:
        """Start the replication task as the stack's output says, and wait for the end of the load."""
        dms, task = self.client("dms"), self.outputs["dms_task_arn"]
        dms.start_replication_task(ReplicationTaskArn=task, StartReplicationTaskType="start-replication")

        def loaded() -> bool:
            found = self.task()
            if found["Status"] == "failed":
                raise LocalStackFailed(found["LastFailureMessage"])
            progress = found.get("ReplicationTaskStats", {}).get("FullLoadProgressPercent")
            return found["Status"] == "running" and progress == 100

        eventually("the full load ends", loaded)

    def stop_task(self) -> None:
        """Stop the replication task, and wait until it has."""
        self.client("dms").stop_replication_task(ReplicationTaskArn=self.outputs["dms_task_arn"])
        eventually("the task stops", lambda: self.task()["Status"] == "stopped")

    def task(self) -> dict[str, Any]:
        """What DMS says of the task."""
        (found,) = self.client("dms").describe_replication_tasks()["ReplicationTasks"]
        return dict(found)

    def sent(self) -> Counter[str]:
        """Operations that DMS has put into the stream, by its own count."""
        answer = self.client("dms").describe_table_statistics(ReplicationTaskArn=self.outputs["dms_task_arn"])
        names = {"load": "FullLoadRows", "insert": "Inserts", "update": "Updates", "delete": "Deletes"}
        found: Counter[str] = Counter()
        for table in answer["TableStatistics"]:
            found.update({operation: table[name] for operation, name in names.items()})
        return found

    def stream_count(self) -> int:
        """Records in the stream."""
        kinesis, name = self.client("kinesis"), self.outputs["kinesis_stream_name"]
        count = 0
        for shard in kinesis.list_shards(StreamName=name)["Shards"]:
            iterator = kinesis.get_shard_iterator(
                StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while found := (answer := kinesis.get_records(ShardIterator=iterator, Limit=1000))["Records"]:
                count, iterator = count + len(found), answer["NextShardIterator"]
        return count

    def objects(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Names and contents of what Firehose has delivered below a prefix."""
        s3, bucket = self.client("s3"), self.outputs["data_lake_bucket"]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                yield entry["Key"], gzip.decompress(body)

    def raw_records(self) -> list[dict[str, Any]]:
        """Every record in the raw zone, object by object."""
        lines = (line for _, body in self.objects("raw/") for line in body.splitlines())
        return [json.loads(line) for line in lines]

    def queue_count(self, output: str) -> int:
        """Messages in a queue, those in flight among them."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


def eventually(what: str, ask: Callable[[], Any]) -> Any:
    """The first answer that is not empty.

    Raises:
        LocalStackFailed: there was none within WAIT_SECONDS_MAX.
    """
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.2)
    raise LocalStackFailed(f"{what}: not within {WAIT_SECONDS_MAX:.0f} s")


@contextmanager
def local_stack(
    folder: Path, *, packages: Path | None = None, quirks: Quirks | None = None
) -> Iterator[LocalStack]:
    """The stack, applied; afterwards it is destroyed, and everything has ended.

    Args:
        folder: for logs, data and the state of Terraform.
        packages: the folder of the Lambda packages; ones that do nothing by default.
    Raises:
        LocalStackFailed: the destroyed stack has left something.
    """
    times: dict[str, float] = {}
    with ExitStack() as cleanup:
        with _timed(times, "PostgreSQL and emulators"):
            server = cleanup.enter_context(PostgresServer.start(settings={"fsync": "off"}))
            prepare(server.url)
            hosts = {"*": make_conninfo(host="127.0.0.1", port=server.port)}
            emulators = cleanup.enter_context(
                running_emulators(folder / "emulators", hosts=hosts, quirks=quirks)
            )
        with _timed(times, "terraform init and apply"):
            terraform = Terraform.in_copy(folder / "stack", mirror=find_mirror())
            terraform.init()
            for package in packages.glob("*.zip") if packages else ():
                (folder / "stack" / "build" / "lambdas" / package.name).write_bytes(package.read_bytes())
            terraform = emulators.attach(terraform)
            before = inventory(emulators)
            terraform.apply(VARIABLES)
        found = LocalStack(server.url_of(DATABASE), emulators, terraform, terraform.outputs(), times)
        yield found
        with _timed(times, "terraform destroy"):
            terraform.destroy(VARIABLES)
        if left := sorted(inventory(emulators) - before):
            raise LocalStackFailed(f"destroy has left {left}")


@contextmanager
def _timed(times: dict[str, float], step: str) -> Iterator[None]:
    """Write down how long a step took."""
    started = time.monotonic()
    yield
    times[step] = time.monotonic() - started


def prepare(server: str) -> None:
    """Make the source what the checklist makes of it, with its sample rows."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {DATABASE}")
        admin.execute("CREATE ROLE rds_replication")
    with psycopg.connect(make_conninfo(server, dbname=DATABASE), autocommit=True) as admin:
        for name in ("source-setup.sql", "sample-data.sql"):
            admin.execute((ROOT / "docs" / "aws" / name).read_text(encoding="utf-8"))
        # On RDS the role rds_replication may use slots, elsewhere only a role with the attribute.
        admin.execute(f"ALTER ROLE dms_replication REPLICATION PASSWORD '{CANARY_PASSWORD}'")


def work(source: str, transactions: int, choices: random.Random) -> Counter[str]:
    """Change the sample tables; returns the changed rows by operation."""
    done: Counter[str] = Counter()
    with psycopg.connect(source) as connection:
        for number in range(transactions):
            employee = 1 + choices.randrange(120)
            kind = choices.choice(("insert", "update", "update", "delete"))
            if kind == "insert":
                done[kind] += connection.execute(
                    "INSERT INTO salaries SELECT id, date '2026-01-01' + %s::int, 1000, %s FROM employees"
                    " WHERE id = %s ON CONFLICT DO NOTHING",
                    (number, f"raise {number}: \"quoted\", 'too'", employee),
                ).rowcount
            elif kind == "update":
                done[kind] += connection.execute(
                    "UPDATE employees SET name = %s, active = NOT active WHERE id = %s",
                    (f"Employee {number} ✓", employee),
                ).rowcount
            else:
                done[kind] += connection.execute(
                    "DELETE FROM salaries WHERE employee_id = %s", (employee,)
                ).rowcount
            connection.commit()
    return done


def folded(records: list[dict[str, Any]]) -> dict[str, dict[tuple[str, ...], tuple[str | None, ...]]]:
    """The rows that records say there are: loads first, then changes by their place in the log."""

    def place(record: Mapping[str, Any]) -> tuple[str, int]:
        lsn, number, _ = record["metadata"].get("stream-position", ".0.").split(".")
        return lsn, int(number)

    tables: dict[str, dict[tuple[str, ...], tuple[str | None, ...]]] = {name: {} for name in COMPARED}
    for record in sorted((one for one in records if "data" in one), key=place):
        name, data = record["metadata"]["table-name"], record["data"]
        key_count, columns = COMPARED[name]
        key = tuple(str(data[column]) for column in columns[:key_count])
        if record["metadata"]["operation"] == "delete":
            tables[name].pop(key, None)
        else:
            values = (data[column] for column in columns)
            tables[name][key] = tuple(None if value is None else str(value) for value in values)
    return tables


def expected(source: str) -> dict[str, dict[tuple[str, ...], tuple[str | None, ...]]]:
    """The rows of the source, as ``folded`` has them."""
    tables = {}
    with psycopg.connect(source) as connection:
        for name, (key_count, columns) in COMPARED.items():
            texts = ", ".join(f"{column}::text" for column in columns)
            rows = connection.execute(f"SELECT {texts} FROM {name}").fetchall()
            tables[name] = {tuple(row[:key_count]): tuple(row) for row in rows}
    return tables


def run(folder: Path, *, packages: Path | None, transactions: int, seed: int, quirks: Quirks) -> list[str]:
    """Apply, load, work, compare, destroy; the lines of the report.

    Raises:
        LocalStackFailed: a hop lost something or took too long, or destroying left something.
    """
    with local_stack(folder, packages=packages, quirks=quirks) as stack:
        with _timed(stack.times, "connections and full load"):
            stack.test_connections()
            stack.start_task()
        with _timed(stack.times, f"{transactions} transactions to S3"):
            done = work(stack.source, transactions, random.Random(seed))
            eventually("the raw zone equals the source", lambda: _is_equal(stack))
            stack.stop_task()
        lines = _hops(stack, done)
    return lines + [f"{seconds:7.1f} s  {step}" for step, seconds in stack.times.items()]


def _hops(stack: LocalStack, done: Counter[str]) -> list[str]:
    """What each hop counts; the lines of the report."""
    sent = stack.sent()
    eventually("Firehose delivers it all", lambda: len(stack.raw_records()) >= stack.stream_count())
    records, stream_count = stack.raw_records(), stack.stream_count()
    arrived = Counter(record["metadata"]["operation"] for record in records)
    errors = [name for name, _ in stack.objects("firehose-errors/")]
    for operation in ("insert", "update", "delete"):
        if not done[operation] == sent[operation] <= arrived[operation]:
            raise LocalStackFailed(f"{operation}s: {done}, then {sent}, then {arrived}")
    if stream_count != len(records) or errors:
        raise LocalStackFailed(f"{stream_count} records, {len(records)} in S3, errors {errors}")
    objects = sum(1 for _ in stack.objects("raw/"))
    waiting, dead = (stack.queue_count(name) for name in ("transform_queue_url", "transform_dlq_url"))
    rows = {name: len(rows) for name, rows in expected(stack.source).items()}
    return [
        f"workload      {dict(done)}",
        f"DMS           {dict(sent)}",
        f"Kinesis       {stream_count} records",
        f"S3 raw/       {len(records)} records in {objects} objects: {dict(arrived)}",
        f"S3 errors/    {len(errors)} objects",
        f"SQS           {waiting} waiting, {dead} in the dead-letter queue",
        f"raw = source  {rows}",
    ]


def _is_equal(stack: LocalStack) -> bool:
    return folded(stack.raw_records()) == expected(stack.source)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise LocalStackFailed(f"not done within {TIME_LIMIT_SECONDS} s")


def main() -> None:
    """Run it, and print the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--packages", type=Path, help="folder of Lambda packages, such as build/lambdas")
    parser.add_argument("--duplicates", type=float, default=0.05, help="share of records that come twice")
    told = parser.parse_args()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    signal.alarm(TIME_LIMIT_SECONDS)
    print(f"seed {told.seed}")
    with tempfile.TemporaryDirectory(prefix="smartstream-aws-local-") as folder:
        quirks = Quirks(duplicate_ratio=told.duplicates, seed=told.seed)
        options = {"packages": told.packages, "transactions": told.transactions, "seed": told.seed}
        for line in run(Path(folder), quirks=quirks, **options):
            print(line)


if __name__ == "__main__":
    main()
