"""The stand-in for DMS answers as DMS does: states, refusals, and reasons for failures."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from smartstream.testing.local_dms import Quirks
from smartstream.testing.local_dms.decoding import Begin, Commit, RowChange, Unchanged, parse
from smartstream.testing.local_dms.mappings import Locator, MappingsInvalid, TableMappings
from smartstream.testing.local_dms.records import Record
from smartstream.testing.local_dms.target import BYTES_MAX, RECORDS_MAX, Stream, StreamRefuses
from tests.aws.local_dms_setup import (
    ACCOUNT,
    REGION,
    Replication,
    client_of,
    eventually,
    prepared_source,
    replication,
    selection,
)


@pytest.fixture
def task(database: str, ministack: str) -> Iterator[Replication]:
    """A task on a table with one row; it has not started."""
    with prepared_source(database), replication(database, ministack) as found:
        found.source.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
        found.source.execute("INSERT INTO t VALUES (1, 'a')")
        yield found


def _start(task: Replication, kind: str) -> None:
    task.dms.start_replication_task(ReplicationTaskArn=task.task_arn, StartReplicationTaskType=kind)


def _failed(task: Replication) -> str:
    """Why the task has failed."""
    eventually(lambda: task.task()["Status"] == "failed", "the task doesn't fail")
    found = task.task()
    assert found["StopReason"] == "Stop Reason FATAL_ERROR Error Level FATAL"
    return str(found["LastFailureMessage"])


def test_a_task_starts_only_once_its_connections_were_tested(task: Replication) -> None:
    assert task.task()["Status"] == "ready"
    with pytest.raises(ClientError, match=r"InvalidResourceStateFault.*Test connection"):
        _start(task, "start-replication")
    task.connect()
    with pytest.raises(ClientError, match=r"InvalidParameterCombinationException.*RESUME_PROCESSING"):
        _start(task, "resume-processing")
    task.start()
    wanted = [{"Name": "replication-task-arn", "Values": [task.task_arn]}]
    task.dms.get_waiter("replication_task_running").wait(Filters=wanted)
    with pytest.raises(ClientError, match=r"InvalidResourceStateFault"):
        _start(task, "resume-processing")
    with pytest.raises(ClientError, match=r"InvalidResourceStateFault.*running"):
        task.dms.delete_replication_task(ReplicationTaskArn=task.task_arn)
    task.stop()
    assert task.task()["StopReason"] == "Stop Reason NORMAL"
    with pytest.raises(ClientError, match=r"InvalidParameterCombinationException.*START_REPLICATION"):
        _start(task, "start-replication")
    with pytest.raises(ClientError, match=r"InvalidResourceStateFault"):
        task.stop()


def test_the_slot_goes_with_the_task_and_the_task_before_its_endpoints(task: Replication) -> None:
    task.connect()
    task.start()
    slots = "SELECT plugin FROM pg_replication_slots WHERE database = current_database()"
    assert task.source.execute(slots).fetchall() == [("test_decoding",)]
    task.stop()
    with pytest.raises(ClientError, match=r"InvalidResourceStateFault.*used"):
        task.dms.delete_endpoint(EndpointArn=task.endpoint_arns[0])
    answer = task.dms.delete_replication_task(ReplicationTaskArn=task.task_arn)
    assert answer["ReplicationTask"]["Status"] == "deleting"
    assert task.source.execute(slots).fetchall() == []
    with pytest.raises(ClientError, match="ResourceNotFoundFault"):
        task.task()
    task.dms.delete_endpoint(EndpointArn=task.endpoint_arns[0])


def test_a_wrong_password_and_a_missing_stream_fail_the_test_of_connections(
    task: Replication, ministack: str
) -> None:
    secrets = client_of(ministack, "secretsmanager")
    source = task.dms.describe_endpoints(Filters=[{"Name": "endpoint-type", "Values": ["source"]}])
    secret = source["Endpoints"][0]["PostgreSQLSettings"]["SecretsManagerSecretId"]
    login = json.loads(secrets.get_secret_value(SecretId=secret)["SecretString"])
    secrets.put_secret_value(SecretId=secret, SecretString=json.dumps(login | {"password": "wrong"}))
    task.kinesis.delete_stream(StreamName=task.stream)
    by_name = {found["EndpointIdentifier"]: found for found in task.connect()}
    assert {found["Status"] for found in by_name.values()} == {"failed"}
    assert "password authentication failed" in by_name["source"]["LastFailureMessage"]
    assert "ResourceNotFoundException" in by_name["target"]["LastFailureMessage"]


def test_a_host_that_nothing_local_stands_for_is_not_reached(task: Replication, ministack: str) -> None:
    secrets = client_of(ministack, "secretsmanager")
    source = task.dms.describe_endpoints(Filters=[{"Name": "endpoint-type", "Values": ["source"]}])
    secret = source["Endpoints"][0]["PostgreSQLSettings"]["SecretsManagerSecretId"]
    login = json.loads(secrets.get_secret_value(SecretId=secret)["SecretString"])
    secrets.put_secret_value(SecretId=secret, SecretString=json.dumps(login | {"host": "other.example.com"}))
    by_name = {found["EndpointIdentifier"]: found for found in task.connect()}
    assert "no local server stands for the host other.example.com" in by_name["source"]["LastFailureMessage"]


def test_no_table_a_lost_slot_and_a_row_that_is_too_large_fail_a_task(task: Replication) -> None:
    task.source.execute("ALTER TABLE t RENAME TO awsdms")
    task.source.execute("ALTER TABLE awsdms SET SCHEMA awsdms")
    task.connect()
    _start(task, "start-replication")
    assert "No tables were found" in _failed(task)

    task.source.execute("ALTER TABLE awsdms.awsdms SET SCHEMA public")
    task.start("reload-target")
    task.stop()
    task.source.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        " WHERE database = current_database()"
    )
    _start(task, "resume-processing")
    assert "does not exist" in _failed(task)

    columns = ", ".join(f"c{number} text" for number in range(40))
    values = ", ".join("repeat('x', 32768)" for _ in range(40))
    task.source.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
    task.source.execute(f"INSERT INTO wide SELECT 1, {values}")
    _start(task, "reload-target")
    assert "RecordTooLarge" in _failed(task)


def test_a_task_whose_endpoint_minds_cut_off_values_fails_on_one(database: str, ministack: str) -> None:
    settings = {"FailTasksOnLobTruncation": True}
    with prepared_source(database), replication(database, ministack, source_settings=settings) as task:
        task.source.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
        task.source.execute("INSERT INTO t VALUES (1, repeat('x', 40000))")
        task.connect()
        _start(task, "start-replication")
        assert "LobTruncated" in _failed(task)


def test_a_load_ends_by_itself_and_cdc_alone_loads_nothing(database: str, ministack: str) -> None:
    with prepared_source(database), replication(database, ministack, migration_type="full-load") as task:
        task.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
        task.source.execute("INSERT INTO t VALUES (1)")
        task.connect()
        _start(task, "start-replication")
        eventually(lambda: task.task()["Status"] == "stopped")
        assert task.task()["StopReason"] == "Stop Reason FULL_LOAD_ONLY_FINISHED"
        assert task.loaded("t") == [{"id": 1}]
        with replication(database, ministack, migration_type="cdc") as changes:
            changes.connect()
            changes.start()
            changes.source.execute("INSERT INTO t VALUES (2)")
            assert [record["data"] for record in changes.changes("t", 1)] == [{"id": 2}]
            assert changes.loaded("t") == []


def test_subscribers_are_told_of_a_start_a_stop_and_a_failure(task: Replication, ministack: str) -> None:
    sns, sqs = client_of(ministack, "sns"), client_of(ministack, "sqs")
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    queue_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:alerts"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
    for name, categories in (("all", ["failure", "state change"]), ("failures", ["failure"])):
        task.dms.create_event_subscription(
            SubscriptionName=name,
            SnsTopicArn=topic,
            SourceType="replication-task",
            SourceIds=["changes"],
            EventCategories=categories,
        )
    task.connect()
    task.start()
    task.stop()
    task.source.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        " WHERE database = current_database()"
    )
    _start(task, "resume-processing")
    _failed(task)
    told: list[str] = []

    def five() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ()):
            body = json.loads(json.loads(message["Body"])["Message"])
            assert body["SourceId"] == "changes"
            told.append(body["Event ID"].rpartition("-")[2])
        return len(told) >= 5

    eventually(five)
    assert sorted(told) == ["0069", "0069", "0078", "0078", "0079"]


def test_a_source_that_was_gone_for_a_while_costs_nothing(task: Replication) -> None:
    task.connect()
    task.start()
    task.source.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'smartstream-local-dms'"
    )
    task.source.execute("INSERT INTO t VALUES (2, 'b')")
    assert task.changes("t", 1)[0]["data"]["id"] == 2
    assert task.task()["Status"] == "running"


class _Kinesis:
    """A stream that takes only some records of each batch."""

    def __init__(self, refusals: random.Random | None) -> None:
        self._refusals = refusals
        self.taken: list[bytes] = []

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        assert len(Records) <= 500
        assert sum(len(r["Data"]) + len(r["PartitionKey"]) for r in Records) <= 5 << 20
        results: list[dict[str, str]] = []
        for record in Records:
            if self._refusals is None or self._refusals.random() < 0.3:
                results.append({"ErrorCode": "ProvisionedThroughputExceededException"})
            else:
                self.taken.append(record["Data"])
                results.append({"ShardId": "1"})
        return {"Records": results}


def test_batches_are_what_put_records_takes_and_refused_records_come_again(seed: str) -> None:
    kinesis = _Kinesis(random.Random(seed))
    stream = Stream(kinesis, "arn:aws:kinesis:x:1:stream/s", Quirks(), Event())
    sizes = [1, BYTES_MAX // 10, 900_000, 1, 10] * 3 + [5] * (2 * RECORDS_MAX + 1)
    wanted = [str(number).encode() + b"x" * size for number, size in enumerate(sizes)]
    for data in wanted:
        stream.add(Record("key", data))
    stream.flush()
    assert sorted(kinesis.taken) == sorted(wanted)
    assert stream.put_count == len(wanted)


def test_a_stream_that_takes_nothing_is_an_error() -> None:
    stopping = Event()
    stopping.set()  # No pauses.
    stream = Stream(_Kinesis(None), "arn:aws:kinesis:x:1:stream/s", Quirks(), stopping)
    stream.add(Record("key", b"x"))
    with pytest.raises(StreamRefuses):
        stream.flush()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BEGIN 7", Begin()),
        ("COMMIT 7 (at 2026-01-02 03:04:05.6+00)", Commit("2026-01-02 03:04:05.6+00")),
        ("message: transactional: 1 prefix: p, sz: 1 content:x", None),
        ("table public.t: DELETE: (no-tuple-data)", RowChange("public", "t", "delete")),
        ("table public.t: TRUNCATE: (no-flags)", RowChange("public", "t", "truncate")),
        ("table public.a, public.b: TRUNCATE: cascade", RowChange("", "", "truncate")),
        ("table s.t: DELETE: id[integer]:1", RowChange("s", "t", "delete", {}, {"id": "1"})),
        (
            'table "A ""b"" C"."x.y": UPDATE: old-key: "new-tuple"[text]:\'a\' new-tuple:'
            " \"new-tuple\"[text]:'it''s\n new-tuple: x[' e[\"s ]x\".mood[]]:'{a}'"
            " t[text]:unchanged-toast-datum n[numeric]:-1e+20 b[bit]:B'01' z[integer]:null",
            RowChange(
                'A "b" C',
                "x.y",
                "update",
                {
                    "new-tuple": "it's\n new-tuple: x[",
                    "e": "{a}",
                    "t": Unchanged.TOAST,
                    "n": "-1e+20",
                    "b": "01",
                    "z": None,
                },
                {"new-tuple": "a"},
            ),
        ),
    ],
)
def test_the_plug_ins_text_is_read_as_it_is_meant(text: str, message: object) -> None:
    assert parse(text) == message


@pytest.mark.parametrize("text", ["nonsense", "table t", "table s.t: INSERT: id[integer]:'1"])
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("%", "anything", True),
        ("a_c", "abc", True),
        ("a[_]c", "abc", False),
        ("a[_]c", "a_c", True),
        ("Abc", "abc", False),
        ("a.c", "abc", False),
    ],
)
def test_patterns_of_names(pattern: str, name: str, expected: bool) -> None:
    assert Locator("%", pattern).matches("public", name) is expected


@pytest.mark.parametrize(
    "rule",
    [
        selection("explicit", "public", "t"),
        {"rule-type": "transformation", "rule-action": "rename", **selection("", "public", "t")},
        selection("include", "public", "t") | {"filters": [{"filter-type": "source"}]},
        {"rule-type": "selection"},
    ],
)
def test_rules_that_it_would_not_follow_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(MappingsInvalid):
        TableMappings.read(json.dumps({"rules": [rule]}))


@pytest.mark.parametrize("seconds", [60, 1], ids=["with its input", "in time"])
def test_as_a_process_it_answers_and_ends(tmp_path: Path, seconds: int) -> None:
    options = ["--aws", "http://127.0.0.1:9", "--seconds-max", str(seconds), "--host", "*=port=1"]
    program = [sys.executable, "-m", "smartstream.testing.local_dms", *options]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        request = urllib.request.Request(
            address, b"{}", {"X-Amz-Target": "AmazonDMSv20160101.DescribeEndpoints"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert json.load(answer) == {"Endpoints": []}
        if seconds > 1:
            process.stdin.close()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_no_slot_is_left_active_by_a_server_that_ended(database: str, ministack: str) -> None:
    with prepared_source(database), replication(database, ministack) as task:
        task.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
        task.connect()
        task.start()
    with psycopg.connect(database) as connection:
        query = "SELECT active FROM pg_replication_slots WHERE database = current_database()"
        assert connection.execute(query).fetchall() == [(False,)]
