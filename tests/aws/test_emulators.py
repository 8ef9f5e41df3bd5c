"""What the apply test is measured with is right itself: DMS's stand-in refuses, drift is seen."""

from __future__ import annotations

import http.client
import json
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest

from smartstream.testing.local_dms import LocalDms, Refused
from tests.aws.apply_drift import drift_of, is_expected

GROUP = {
    "ReplicationSubnetGroupIdentifier": "lake",
    "ReplicationSubnetGroupDescription": "private subnets",
    "SubnetIds": ["subnet-1", "subnet-2"],
}
INSTANCE = {
    "ReplicationInstanceIdentifier": "lake",
    "ReplicationInstanceClass": "dms.t3.micro",
    "ReplicationSubnetGroupIdentifier": "lake",
    "VpcSecurityGroupIds": ["sg-1"],
}
EVERYTHING = {
    "rule-type": "selection",
    "rule-id": "1",
    "rule-name": "everything",
    "object-locator": {"schema-name": "%", "table-name": "%"},
    "rule-action": "include",
}


@pytest.fixture
def dms() -> LocalDms:
    return LocalDms("eu-north-1", "000000000000")


def _endpoint(dms: LocalDms, kind: str) -> str:
    request = {"EndpointIdentifier": kind, "EndpointType": kind, "EngineName": "postgres"}
    return str(dms.answer("CreateEndpoint", request)["Endpoint"]["EndpointArn"])


def _task(dms: LocalDms, **changed: str) -> dict[str, Any]:
    dms.answer("CreateReplicationSubnetGroup", GROUP)
    instance = dms.answer("CreateReplicationInstance", INSTANCE)["ReplicationInstance"]
    return {
        "ReplicationTaskIdentifier": "lake",
        "SourceEndpointArn": _endpoint(dms, "source"),
        "TargetEndpointArn": _endpoint(dms, "target"),
        "ReplicationInstanceArn": instance["ReplicationInstanceArn"],
        "MigrationType": "full-load-and-cdc",
        "TableMappings": json.dumps({"rules": [EVERYTHING]}),
        **changed,
    }


@pytest.mark.parametrize(
    "change", [{"SubnetsIds": ["subnet-1"]}, {"SubnetIds": "subnet-1"}], ids=["misspelled", "of a wrong type"]
)
def test_dms_refuses_parameters_that_it_does_not_have(dms: LocalDms, change: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refusal:
        dms.answer("CreateReplicationSubnetGroup", GROUP | change)
    assert refusal.value.code == "ValidationException"


def test_dms_refuses_a_task_on_an_endpoint_that_does_not_exist(dms: LocalDms) -> None:
    with pytest.raises(Refused, match="SourceEndpointArn"):
        dms.answer("CreateReplicationTask", _task(dms, SourceEndpointArn="arn:aws:dms:::endpoint:none"))


def test_dms_refuses_a_log_group_in_the_settings_of_a_new_task(dms: LocalDms) -> None:
    settings = '{"Logging": {"CloudWatchLogGroup": "mine"}}'
    with pytest.raises(Refused, match="CloudWatchLogGroup"):
        dms.answer("CreateReplicationTask", _task(dms, ReplicationTaskSettings=settings))


def test_dms_refuses_to_delete_what_a_task_uses(dms: LocalDms) -> None:
    request = _task(dms)
    dms.answer("CreateReplicationTask", request)
    with pytest.raises(Refused, match="is used"):
        dms.answer("DeleteEndpoint", {"EndpointArn": request["SourceEndpointArn"]})
    with pytest.raises(Refused, match="is used"):
        dms.answer("DeleteReplicationInstance", {"ReplicationInstanceArn": request["ReplicationInstanceArn"]})
    with pytest.raises(Refused, match="is used"):
        dms.answer("DeleteReplicationSubnetGroup", {"ReplicationSubnetGroupIdentifier": "lake"})


def _plan(address: str, actions: list[str], before: Any, after: Any, **unknown: Any) -> dict[str, Any]:
    change = {"actions": actions, "before": before, "after": after, "after_unknown": unknown}
    return {"resource_changes": [{"address": address, "change": change}]}


@pytest.mark.parametrize(
    ("plan", "drift"),
    [
        (_plan("a.b", ["no-op"], {"x": 1}, {"x": 1}), set()),
        (_plan("a.b", ["update"], {"x": 1, "y": 2}, {"x": 1, "y": 3}), {("a.b", "y")}),
        (_plan("a.b", ["update"], {"x": 1}, {}, x=True), {("a.b", "x")}),
        (_plan("a.b", ["update"], {"x": [{"y": 1}]}, {"x": [{"y": 2}]}), {("a.b", "x.y")}),
        (_plan("a.b", ["update"], {"x": ["p"]}, {"x": ["p", "q"]}), {("a.b", "x")}),
        (_plan("a.b", ["delete", "create"], {"id": 1, "x": 1}, {"x": 2}, id=True), {("a.b", "x")}),
        (_plan("a.b", ["create"], None, {"x": 1}), {("a.b", "(all of it)")}),
        (_plan("a.b", ["delete"], {"x": 1}, None), {("a.b", "(all of it)")}),
        (_plan("data.a.b", ["read"], None, {"x": 1}), {("data.a.b", "(all of it)")}),
        ({"output_changes": {"o": {"actions": ["update"]}}}, {("output.o", "")}),
    ],
)
def test_whatever_a_plan_would_change_is_drift(plan: dict[str, Any], drift: set[tuple[str, str]]) -> None:
    assert drift_of(plan) == drift


def test_an_expected_field_stands_for_itself_and_what_is_below() -> None:
    assert is_expected("aws_flow_log.this[0]", "tags.Name")
    assert is_expected("aws_flow_log.this[0]", "tags")
    assert not is_expected("aws_flow_log.this[0]", "tags_of_another_kind")
    assert not is_expected("aws_flow_log.this[1]", "tags")


def _call_logs(address: str, operation: str, call: str, attempt: int, **request: str) -> int:
    """The status of a call as the provider's SDK makes it."""
    found = urlsplit(address)
    connection = http.client.HTTPConnection(found.hostname or "", found.port, timeout=20)
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"Logs_20140328.{operation}",
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-north-1/logs/aws4_request",
        "amz-sdk-invocation-id": call,
        "amz-sdk-request": f"attempt={attempt}; max=2",
    }
    connection.request("POST", "/", json.dumps(request), headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_call_whose_answer_got_lost_is_not_carried_out_again(ministack: str) -> None:
    group, call = {"logGroupName": f"group-{uuid.uuid4()}"}, str(uuid.uuid4())
    stream = {**group, "logStreamName": "S3Delivery"}
    assert _call_logs(ministack, "CreateLogGroup", str(uuid.uuid4()), 1, **group) == 200
    assert _call_logs(ministack, "CreateLogStream", call, 1, **stream) == 200
    assert _call_logs(ministack, "CreateLogStream", call, 2, **stream) == 200
    assert _call_logs(ministack, "CreateLogStream", str(uuid.uuid4()), 1, **stream) == 400


def test_a_call_that_was_refused_is_tried_again(ministack: str) -> None:
    group, call = {"logGroupName": f"group-{uuid.uuid4()}"}, str(uuid.uuid4())
    stream = {**group, "logStreamName": "S3Delivery"}
    assert _call_logs(ministack, "CreateLogStream", call, 1, **stream) == 400
    assert _call_logs(ministack, "CreateLogGroup", str(uuid.uuid4()), 1, **group) == 200
    assert _call_logs(ministack, "CreateLogStream", call, 2, **stream) == 200
