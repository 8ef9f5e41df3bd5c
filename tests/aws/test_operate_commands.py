"""``smartstream aws …`` on an emulator: what it does, what it says, and what a dry run leaves alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartstream.aws.lambda_events import created_objects
from smartstream.errors import ExitCode
from tests.aws.operated_stack import OperatedStack, answer_athena, moto, operated


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """One emulator for all tests here."""
    with moto() as found:
        yield found


@pytest.fixture
def stack(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> OperatedStack:
    """A stack of its own for each test."""
    return operated(address, tmp_path, monkeypatch, capsys)


def test_replay_announces_a_tables_objects_as_the_function_reads_them(stack: OperatedStack) -> None:
    wanted = [stack.put_raw("employees", number) for number in range(12)]
    stack.put_raw("salaries", 1)
    ran = stack.run("replay", "--table", "public.employees", "--json")
    assert ran.code == ExitCode.OK, ran.err
    assert (ran.json["objects"], ran.json["is_all"]) == (12, True)
    bucket = stack.outputs["data_lake_bucket"]
    bodies = stack.messages("transform_queue_url")
    announced = [one for body in bodies for one in created_objects(body, bucket=bucket, prefix="raw")]
    assert sorted(one.key for one in announced) == wanted
    assert all(one.size_bytes > 0 for one in announced)


def test_replay_stops_at_its_limit_and_says_so(stack: OperatedStack) -> None:
    keys = [stack.put_raw("employees", number) for number in range(3)]
    ran = stack.run("replay", "--all", "--limit", "2")
    assert "there are more" in ran.out and keys[1] in ran.out
    assert len(stack.messages("transform_queue_url")) == 2
    assert stack.run("replay", "--all", "--limit", "3", "--json").json["is_all"]


def test_replay_takes_the_time_at_which_an_object_was_written(stack: OperatedStack) -> None:
    stack.put_raw("employees", 1)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert stack.run("replay", "--since", later, "--json").json["objects"] == 0
    assert stack.run("replay", "--since", "1h", "--until", later, "--json").json["objects"] == 1
    assert stack.run("replay", "--since", "1h", "--until", "30m", "--json").json["objects"] == 0


def test_replay_wants_to_know_what(stack: OperatedStack) -> None:
    assert stack.run("replay").code == ExitCode.CONFIGURATION
    assert stack.run("replay", "--table", "employees").code == ExitCode.CONFIGURATION
    assert stack.run("replay", "--since", "yesterday").code == ExitCode.CONFIGURATION
    assert stack.run("replay", "--all", "--dead-letters").code == ExitCode.CONFIGURATION


def test_dead_letters_go_back_as_they_are(stack: OperatedStack) -> None:
    sqs = stack.client("sqs")
    for number in range(13):
        sqs.send_message(QueueUrl=stack.outputs["transform_dlq_url"], MessageBody=f"message {number}")
    dry = stack.run("replay", "--dead-letters", "--dry-run", "--json").json
    assert dry["messages"] == 13 and dry["would_call"] == [f"sqs:SendMessage {_queue(stack)}"]
    assert stack.run("replay", "--dead-letters", "--json").json["messages"] == 13
    assert sorted(stack.messages("transform_queue_url")) == sorted(f"message {n}" for n in range(13))
    assert stack.messages("transform_dlq_url") == []


def _queue(stack: OperatedStack) -> str:
    return str(stack.outputs["transform_queue_url"])


def test_a_dry_run_of_replay_sends_nothing(stack: OperatedStack) -> None:
    stack.put_raw("employees", 1)
    ran = stack.run("replay", "--all", "--dry-run")
    assert "would be announced" in ran.out and f"would call sqs:SendMessage {_queue(stack)}" in ran.out
    assert stack.messages("transform_queue_url") == []


def test_query_shows_rows_nulls_and_what_was_read(stack: OperatedStack) -> None:
    answer_athena(stack.address, ["operation", "records"], [["load", "100"], ["a,b", None]])
    ran = stack.run("query", "SELECT 1", "-o", "csv")
    assert ran.code == ExitCode.OK, ran.err
    assert ran.out == 'operation,records\nload,100\n"a,b",\n'
    assert "read" in ran.err
    answer_athena(stack.address, ["operation", "records"], [["load", "100"], ["a,b", None]])
    assert stack.run("query", "SELECT 2", "--json").json == [
        {"operation": "load", "records": "100"},
        {"operation": "a,b", "records": None},
    ]
    answer_athena(stack.address, ["operation"], [])
    assert "(0 rows)" in stack.run("query", "SELECT 3").out


def test_query_asks_in_the_zone_that_is_named(stack: OperatedStack) -> None:
    ran = stack.run("query", "SELECT 1", "--zone", "secret")
    assert ran.code == ExitCode.FAILED and "no zone secret" in ran.err
    dry = stack.run("query", "SELECT 1", "--dry-run")
    assert f"would call athena:StartQueryExecution workgroup {stack.outputs['athena_workgroup']}" in dry.out


def test_crawl_waits_for_the_crawlers_and_lists_the_tables(stack: OperatedStack) -> None:
    database = stack.outputs["glue_databases"]["trusted"]
    stack.client("glue").create_table(DatabaseName=database, TableInput={"Name": "employees"})
    dry = stack.run("crawl", "--dry-run", "--json").json
    assert dry["would_call"] == [
        f"glue:StartCrawler crawler {name}" for name in stack.outputs["glue_crawlers"]
    ]
    # moto's crawlers run until they are stopped.
    ran = stack.run("crawl", "--timeout", "1", "--json")
    assert ran.json["error"]["type"] == "AwsTooSlow"
    for name in stack.outputs["glue_crawlers"]:
        found = stack.client("glue").get_crawler(Name=name)["Crawler"]
        assert found["State"] == "RUNNING"
    assert dry["tables"]["trusted"] == ["employees"]


def test_logs_come_in_time_and_are_followed_for_as_long_as_asked(stack: OperatedStack) -> None:
    logs, group = stack.client("logs"), f"/aws/lambda/{stack.outputs['transform_function_name']}"
    logs.create_log_stream(logGroupName=group, logStreamName="one")
    now_ms = int(time.time() * 1000)
    events = [(now_ms - 7_200_000, "old"), (now_ms - 60_000, "recent"), (now_ms - 1_000, "new")]
    for moment, text in events:
        event = {"timestamp": moment, "message": text}
        logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=[event])
    ran = stack.run("logs", "transform", "--since", "15m")
    assert [line.split(" ")[-1] for line in ran.out.splitlines()] == ["recent", "new"]
    followed = stack.run("logs", "transform", "--since", "15m", "--follow", "--timeout", "1", "--json")
    assert [json.loads(line)["message"] for line in followed.out.splitlines()] == ["recent", "new"]
    assert stack.run("logs", "other").code == ExitCode.CONFIGURATION


def test_a_missing_output_is_named(stack: OperatedStack) -> None:
    del stack.outputs["athena_workgroup"]
    stack.change()
    ran = stack.run("query", "SELECT 1", "--json")
    assert ran.json["error"]["type"] == "StackMissing" and "athena_workgroup" in ran.json["error"]["message"]
    assert ran.code == ExitCode.CONFIGURATION


def test_a_profile_that_is_not_there_is_said(stack: OperatedStack) -> None:
    ran = stack.run("stop", "--profile", "nobody", "--json")
    assert ran.json["error"]["type"] == "CredentialsUnusable" and "nobody" in ran.json["error"]["message"]


def test_what_goes_with_a_stack_is_said_before_anything_is_asked(
    stack: OperatedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartstream.aws.operate import destroy
    from smartstream.aws.operate.calls import Aws
    from smartstream.aws.operate.stack import outputs_file

    stack.put_raw("employees", 1)
    stack.put_raw("employees", 1)
    found = outputs_file(stack.file)
    aws = Aws.connect(profile=None, region="eu-north-1")
    lost = {one.what: one.detail for one in destroy.losses(aws, found)}
    lake = stack.outputs["data_lake_bucket"]
    assert lost[f"bucket {lake}"] == "2 versions of objects"
    assert destroy.buckets(found) == (
        lake,
        stack.outputs["athena_results_bucket"],
        lake.replace("-lake-", "-access-logs-"),
    )
    stack.client("s3").delete_object(
        Bucket=lake, Key="raw/schema=public/table=employees/dt=2026-11-01/001 a+b.json.gz"
    )
    dry = Aws.connect(profile=None, region="eu-north-1", is_dry=True)
    assert destroy.empty(dry, lake, lambda _: None) == 3
    assert dry.planned == [f"s3:DeleteObjectVersion arn:aws:s3:::{lake}/*"]
    assert destroy.empty(aws, lake, lambda _: None) == 3
    left = stack.client("s3").list_object_versions(Bucket=lake)
    assert not left.get("Versions") and not left.get("DeleteMarkers")
