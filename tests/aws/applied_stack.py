"""The whole stack on this machine: the unmodified HCL on emulators beside a live PostgreSQL."""

from __future__ import annotations

import gzip
import json
import runpy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from psycopg.conninfo import make_conninfo

from smartstream.inference.runs import runs_of
from smartstream.testing.local_dms import Quirks
from smartstream.testing.postgres import PostgresServer
from smartstream.trusted.catalog import CATALOG_NAME, LakeCatalog
from smartstream.trusted.glue import DATABASE_PREFIX, ZoneCatalog
from tests.aws.emulators import REGION, Emulators, running_emulators
from tests.aws.inventory import inventory
from tests.aws.source_workload import DATABASE, prepare
from tests.aws.terraform_runner import LAMBDAS, ROOT, Terraform, find_mirror

WAIT_SECONDS_MAX = 60.0
ML_SECONDS_MAX = 120.0
VARIABLES: Mapping[str, Any] = {"alarm_email": "alerts@example.org", "force_destroy_buckets": True}


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
    _read: dict[str, bytes] = field(default_factory=dict, repr=False)

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
                key = entry["Key"]
                if key not in self._read:  # nobody changes them
                    self._read[key] = gzip.decompress(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
                yield key, self._read[key]

    def raw_records(self) -> list[dict[str, Any]]:
        """Every record in the raw zone, object by object."""
        lines = (line for _, body in self.objects("raw/") for line in body.splitlines())
        return [json.loads(line) for line in lines]

    def queue_count(self, output: str) -> int:
        """Messages in a queue, those in flight among them."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def catalog(self) -> LakeCatalog:
        """The trusted tables and those beside them, as somebody sees them who is not a function."""
        properties = {
            DATABASE_PREFIX: f"{self.outputs['name_prefix']}_".replace("-", "_"),
            "warehouse": f"s3://{self.outputs['data_lake_bucket']}",
            "glue.endpoint": self.emulators.services["glue"],
            "s3.endpoint": self.emulators.default,
            "client.region": REGION,
            "client.access-key-id": "test",
            "client.secret-access-key": "test",
        }
        return ZoneCatalog(CATALOG_NAME, **properties)

    def call_schedule(self, model: str) -> str:
        """Call the schedule's target as the scheduler does, without waiting; what the model's run did.

        Raises:
            LocalStackFailed: the schedule is off, or the run failed.
        """
        _, group, name = self.outputs["ml_schedule_arn"].split("/")
        schedule = self.client("scheduler").get_schedule(GroupName=group, Name=name)
        if schedule["State"] != "ENABLED":
            raise LocalStackFailed(f"the schedule {name} is {schedule['State']}")
        event = {
            "version": "0",
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "resources": [schedule["Arn"]],
            "detail": "{}",
        }
        catalog = self.catalog()
        before = len(runs_of(catalog, model))
        self.client("lambda").invoke(
            FunctionName=schedule["Target"]["Arn"],
            InvocationType="Event",
            Payload=schedule["Target"].get("Input", json.dumps(event)).encode(),
        )
        runs = eventually(
            "the model's run", lambda: runs_of(catalog, model)[: -before or None], ML_SECONDS_MAX
        )
        if runs[0].status != "ok":
            raise LocalStackFailed(f"the model's run: {runs[0]}")
        return f"{runs[0].mode} run of {schedule['ScheduleExpression']} scored {runs[0].rows_scored}"


def eventually(what: str, ask: Callable[[], Any], seconds: float = WAIT_SECONDS_MAX) -> Any:
    """The first answer that is not empty.

    Raises:
        LocalStackFailed: there was none within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.2)
    raise LocalStackFailed(f"{what}: not within {seconds:.0f} s")


@contextmanager
def local_stack(
    folder: Path, *, packages: Path | None = None, quirks: Quirks | None = None
) -> Iterator[LocalStack]:
    """The stack, applied; afterwards it is destroyed, and everything has ended.

    Args:
        folder: for logs, data and the state of Terraform.
        packages: the folder of the Lambda packages; by default they are made here, with our code
            and without wheels, which functions then find where these tests find them.
    Raises:
        LocalStackFailed: the destroyed stack has left something.
    """
    times: dict[str, float] = {}
    with ExitStack() as cleanup:
        with timed(times, "PostgreSQL and emulators"):
            server = cleanup.enter_context(PostgresServer.start(settings={"fsync": "off"}))
            prepare(server.url)
            hosts = {"*": make_conninfo(host="127.0.0.1", port=server.port)}
            emulators = cleanup.enter_context(
                running_emulators(folder / "emulators", hosts=hosts, quirks=quirks)
            )
        with timed(times, "terraform init and apply"):
            terraform = Terraform.in_copy(folder / "stack", mirror=find_mirror())
            terraform.init()
            pack(folder / "stack" / "build" / "lambdas", packages)
            terraform = emulators.attach(terraform)
            before = inventory(emulators)
            terraform.apply(VARIABLES)
        found = LocalStack(server.url_of(DATABASE), emulators, terraform, terraform.outputs(), times)
        yield found
        with timed(times, "terraform destroy"):
            terraform.destroy(VARIABLES)
        if left := sorted(inventory(emulators) - before):
            raise LocalStackFailed(f"destroy has left {left}")


def pack(folder: Path, packages: Path | None = None) -> None:
    """Put the Lambda packages where the stack takes them from: those of a folder, or our code alone."""
    build = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "build_lambdas.py")))
    for name in LAMBDAS:
        if packages:
            (folder / f"{name}.zip").write_bytes((packages / f"{name}.zip").read_bytes())
            continue
        with ExitStack() as open_wheels:
            entries = build.collect(name, build.LAMBDA, open_wheels, stub=True)
            build.write_zip(entries, folder / f"{name}.zip")


@contextmanager
def timed(times: dict[str, float], step: str) -> Iterator[None]:
    """Write down how long a step took."""
    started = time.monotonic()
    yield
    times[step] = time.monotonic() - started
