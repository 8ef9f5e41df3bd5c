"""Events of the Lambda functions: what is understood, what is refused, and how it is answered."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartstream.aws.lambda_events import (
    CreatedObject,
    QueueMessage,
    created_objects,
    failures,
    queue_messages,
    scheduled_at,
)
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.errors import ConfigInvalid, ConfigMissing, EventMalformed, Retry

ENVIRONMENT = {
    "WAREHOUSE": "s3://lake",
    "RAW_PREFIX": "raw/",
    "GLUE_CATALOG_PREFIX": "smartstream_dev",
    "LOCK_TABLE": "locks",
    "LOG_LEVEL": "",
}


def notification(
    key: str = "raw/a.json.gz", *, name: str = "ObjectCreated:Put", bucket: str = "lake", **more: Any
) -> str:
    """What S3 writes into a message about one object."""
    item = {"key": key, "size": 7, "sequencer": "0A", **more}
    return json.dumps({"Records": [{"eventName": name, "s3": {"bucket": {"name": bucket}, "object": item}}]})


def read(body: str) -> tuple[CreatedObject, ...]:
    return created_objects(body, bucket="lake", prefix="raw")


def test_a_created_object_is_found_under_its_decoded_key() -> None:
    (found,) = read(notification("raw/schema%3Dpublic/table%3Dm%C3%BCll+eimer/dt%3D2026-01-01/a%2Bb.json.gz"))
    assert found == CreatedObject(
        "lake", "raw/schema=public/table=müll eimer/dt=2026-01-01/a+b.json.gz", 7, "0A"
    )


def test_one_notification_can_announce_several_objects() -> None:
    both = json.loads(notification("raw/a"))["Records"] + json.loads(notification("raw/b"))["Records"]
    assert [found.key for found in read(json.dumps({"Records": both}))] == ["raw/a", "raw/b"]


def test_the_event_that_s3_sends_to_try_the_queue_announces_nothing() -> None:
    assert read(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"})) == ()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[" * 100_000,
        "[]",
        "null",
        "{}",
        '{"Records": []}',
        '{"Records": {}}',
        '{"Records": [null]}',
        '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": "x"}]}',
        notification(size="many"),
        notification(key=""),
        notification(key="raw/%FF"),
        notification(key=None),  # type: ignore[arg-type]
        notification(bucket=None),  # type: ignore[arg-type]
        notification(name=None),  # type: ignore[arg-type]
        notification(name="ObjectRemoved:Delete"),
        notification(bucket="another"),
        notification(key="trusted/a.parquet"),
        notification(key="raw-not/a.json.gz"),
    ],
)
def test_anything_else_is_refused_and_trying_again_is_known_not_to_help(body: str) -> None:
    with pytest.raises(EventMalformed) as refused:
        read(body)
    assert refused.value.retry is Retry.NEVER


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_json_at_all_leads_to_another_error(content: Any) -> None:
    for body in (content, {"Records": [content]}, {"Records": [{"eventName": "x", "s3": content}]}):
        with pytest.raises(EventMalformed):
            read(json.dumps(body))


def test_messages_keep_their_order_and_say_how_often_they_came() -> None:
    records = [
        {"messageId": "a", "body": "x", "attributes": {"ApproximateReceiveCount": "3"}},
        {"messageId": "b", "body": "y"},
    ]
    assert queue_messages({"Records": records}) == (QueueMessage("a", "x", 3), QueueMessage("b", "y", 1))


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"Records": None},
        {"Records": [{}]},
        {"Records": ["x"]},
        {"Records": [{"messageId": 1, "body": "x"}]},
        {"Records": [{"messageId": "a", "body": None}]},
        {"Records": [{"messageId": "a", "body": "x", "attributes": {"ApproximateReceiveCount": "?"}}]},
        {"Records": [{"messageId": "a", "body": "x"}] * 10_001},
    ],
)
def test_a_call_without_messages_fails_as_a_whole(event: Any) -> None:
    with pytest.raises(EventMalformed):
        queue_messages(event)


def test_only_the_messages_that_failed_are_reported() -> None:
    event = {"Records": [{"messageId": key, "body": key} for key in "abc"]}
    messages = queue_messages(event)
    assert failures(messages[1:2]) == {"batchItemFailures": [{"itemIdentifier": "b"}]}
    assert failures(()) == {"batchItemFailures": []}


def test_a_schedule_says_when_it_meant_to_call() -> None:
    assert scheduled_at({"time": "2026-01-01T06:00:00Z"}) == datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert scheduled_at({}) is None


@pytest.mark.parametrize("event", [None, [], {"time": 3}, {"time": "soon"}, {"time": "2026-01-01T06:00:00"}])
def test_a_call_by_something_else_is_refused(event: Any) -> None:
    with pytest.raises(EventMalformed):
        scheduled_at(event)


def test_the_environment_becomes_settings() -> None:
    settings = LambdaSettings.read(ENVIRONMENT)
    assert settings == LambdaSettings("lake", "raw", "smartstream_dev", "locks", "INFO", "", 65_536)


def test_the_environment_says_how_dms_writes() -> None:
    told = {"DMS_BEFORE_IMAGE": "old-key", "LOB_BYTES_MAX": "1024"}
    settings = LambdaSettings.read(ENVIRONMENT | told)
    assert (settings.before_image, settings.lob_bytes_max) == ("old-key", 1024)
    for wrong in ("much", "-1", "0", "9" * 20):
        with pytest.raises(ConfigInvalid, match="LOB_BYTES_MAX"):
            LambdaSettings.read({**ENVIRONMENT, "LOB_BYTES_MAX": wrong})


@pytest.mark.parametrize("name", ["WAREHOUSE", "RAW_PREFIX", "GLUE_CATALOG_PREFIX", "LOCK_TABLE"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(name: str, value: str | None) -> None:
    environment = {**ENVIRONMENT, name: value}
    with pytest.raises(ConfigMissing, match=f"the environment variable {name} is not set"):
        LambdaSettings.read({key: text for key, text in environment.items() if text is not None})


@pytest.mark.parametrize("warehouse", ["lake", "s3://", "file:///lake", "s3://lake/prefix"])
def test_a_warehouse_that_is_no_bucket_is_refused(warehouse: str) -> None:
    with pytest.raises(ConfigInvalid, match="not s3://bucket"):
        LambdaSettings.read({**ENVIRONMENT, "WAREHOUSE": warehouse})


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="LOG_LEVEL is loud"):
        LambdaSettings.read({**ENVIRONMENT, "LOG_LEVEL": "loud"})
