"""What AWS refuses becomes an error that says what to do; a stack is described by Terraform or a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from smartstream.aws.operate import athena, dms, metrics, stack
from smartstream.aws.operate.calls import Aws, code_of
from smartstream.aws.operate.metrics import Metric
from smartstream.aws.operate.stack import StackOutputs
from smartstream.aws.operate.waiting import Patience
from smartstream.errors import (
    AthenaFailed,
    AwsRefused,
    AwsRightMissing,
    AwsTooSlow,
    AwsUnavailable,
    CaptureFailed,
    CredentialsUnusable,
    SmartStreamError,
    StackMissing,
    TerraformUnusable,
)

TASK = "arn:aws:dms:eu-north-1:123456789012:task:ABC"
OUTPUTS = StackOutputs(
    {
        "dms_task_arn": TASK,
        "dms_replication_instance_arn": "arn:aws:dms:eu-north-1:123456789012:rep:I",
        "dms_source_endpoint_arn": "arn:aws:dms:eu-north-1:123456789012:endpoint:S",
        "dms_target_endpoint_arn": "arn:aws:dms:eu-north-1:123456789012:endpoint:T",
        "athena_workgroup": "shop-dev",
        "firehose_name": "shop-dev-raw",
        "glue_databases": {"trusted": "shop_dev_trusted"},
    },
    "outputs.json",
)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Calls with credentials that nobody knows."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return Aws.connect(profile=None, region="eu-north-1")


def patience(times: list[float] | None = None) -> Patience:
    """Waiting that takes no time; each look takes a second by its clock."""
    clock = iter(times or map(float, range(1000)))
    return Patience(10.0, lambda _: None, 1.0, lambda: next(clock), lambda _: None)


def refused(aws: Aws, code: str, message: str) -> SmartStreamError:
    """What becomes of an error answer to StartReplicationTask."""
    client = aws.client("dms")
    with Stubber(client) as stub:
        stub.add_client_error("start_replication_task", code, message)
        with pytest.raises(SmartStreamError) as raised:
            aws.change(
                "dms", "start_replication_task", TASK, ReplicationTaskArn=TASK, StartReplicationTaskType="x"
            )
    return raised.value


USER = "User: arn:aws:sts::123456789012:assumed-role/dev/me is not authorized to perform: "


@pytest.mark.parametrize(
    ("code", "message", "action", "resource"),
    [
        (
            "AccessDeniedException",
            f"{USER}dms:StartReplicationTask on resource: {TASK} because no identity-based policy allows it",
            "dms:StartReplicationTask",
            TASK,
        ),
        (
            "AccessDenied",
            f"{USER}kms:Decrypt on resource: arn:aws:kms:x:1:key/2.",
            "kms:Decrypt",
            "arn:aws:kms:x:1:key/2",
        ),
        ("AccessDenied", f"{USER}iam:PassRole", "iam:PassRole", TASK),
        ("AccessDeniedFault", "Access denied", "dms:StartReplicationTask", TASK),
        ("403", "Forbidden", "dms:StartReplicationTask", TASK),
    ],
)
def test_a_missing_right_names_the_action_and_the_resource(
    aws: Aws, code: str, message: str, action: str, resource: str
) -> None:
    error = refused(aws, code, message)
    assert isinstance(error, AwsRightMissing)
    assert str(error) == f"AWS refuses {action} on {resource}"
    assert f'Add "{action}" on {resource}' in error.hint


def test_an_explicit_deny_is_told_apart(aws: Aws) -> None:
    error = refused(
        aws, "AccessDenied", f"{USER}s3:PutObject on resource: r with an explicit deny in a policy"
    )
    assert "explicit deny is in force" in error.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ExpiredTokenException", CredentialsUnusable),
        ("UnrecognizedClientException", CredentialsUnusable),
        ("ThrottlingException", AwsUnavailable),
        ("ServiceUnavailable", AwsUnavailable),
        ("InvalidResourceStateFault", AwsRefused),
    ],
)
def test_other_refusals_are_told_by_their_kind(aws: Aws, code: str, kind: type[SmartStreamError]) -> None:
    error = refused(aws, code, "no")
    assert type(error) is kind
    assert code_of(error) == code


def test_rights_are_called_as_policies_call_them(aws: Aws) -> None:
    with Stubber(aws.client("s3")) as stub:
        stub.add_client_error("list_objects_v2", "AccessDenied", "Access Denied")
        with pytest.raises(AwsRightMissing, match=r"s3:ListBucket on bucket"):
            list(aws.pages("s3", "list_objects_v2", "bucket", "Contents", Bucket="bucket"))


def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    alone = Aws.connect(profile=None, region="eu-north-1")
    with pytest.raises(CredentialsUnusable, match="no credentials"):
        dms.task(alone, OUTPUTS)


def test_a_dry_run_calls_nothing_that_changes(aws: Aws) -> None:
    dry = Aws(aws.session, is_dry=True)
    with Stubber(dry.client("dms")) as stub:
        stub.add_response("describe_replication_tasks", task("ready"))
        assert dms.start(dry, OUTPUTS, patience()) == "start-replication"
    assert dry.planned == [f"dms:StartReplicationTask {TASK}"]


def task(status: str, percent: int = 0, **more: Any) -> dict[str, Any]:
    """DMS's description of the task."""
    stats = {"FullLoadProgressPercent": percent}
    one = {"ReplicationTaskArn": TASK, "Status": status, "ReplicationTaskStats": stats, **more}
    return {"ReplicationTasks": [one]}


@pytest.mark.parametrize(
    ("status", "reload", "kind"),
    [
        ("ready", False, "start-replication"),
        ("ready", True, "start-replication"),
        ("stopped", False, "resume-processing"),
        ("failed", False, "resume-processing"),
        ("stopped", True, "reload-target"),
    ],
)
def test_a_task_is_started_as_its_status_wants(aws: Aws, status: str, reload: bool, kind: str) -> None:
    with Stubber(aws.client("dms")) as stub:
        stub.add_response("describe_replication_tasks", task("modifying"))
        stub.add_response("describe_replication_tasks", task(status))
        asked = {"ReplicationTaskArn": TASK, "StartReplicationTaskType": kind}
        stub.add_response("start_replication_task", {}, asked)
        for now, percent in (("starting", 0), ("running", 40), ("running", 100)):
            stub.add_response("describe_replication_tasks", task(now, percent))
        assert dms.start(aws, OUTPUTS, patience(), reload=reload) == kind
        stub.assert_no_pending_responses()


def test_a_task_that_runs_is_not_started_again(aws: Aws) -> None:
    with Stubber(aws.client("dms")) as stub:
        for _ in range(2):
            stub.add_response("describe_replication_tasks", task("running", 100))
        assert dms.start(aws, OUTPUTS, patience()) == "running"


def test_a_task_that_fails_says_dmss_reason(aws: Aws) -> None:
    with Stubber(aws.client("dms")) as stub:
        stub.add_response("describe_replication_tasks", task("ready"))
        stub.add_response("start_replication_task", {})
        stub.add_response("describe_replication_tasks", task("failed", LastFailureMessage="no slot"))
        with pytest.raises(CaptureFailed, match="no slot"):
            dms.start(aws, OUTPUTS, patience())


def test_waiting_ends_and_says_how_far_it_came(aws: Aws) -> None:
    with Stubber(aws.client("dms")) as stub:
        stub.add_response("describe_replication_tasks", task("stopping"))
        for _ in range(12):
            stub.add_response("describe_replication_tasks", task("stopping"))
        with pytest.raises(AwsTooSlow, match="the task stops: stopping"):
            dms.stop(aws, OUTPUTS, patience())


@pytest.mark.parametrize(
    ("settings", "is_fine"),
    [
        ('{"BeforeImageSettings": {"EnableBeforeImage": true, "FieldName": "x"}}', True),
        ('{"BeforeImageSettings": {"EnableBeforeImage": false}}', False),
        ('{"BeforeImageSettings": null, "TargetMetadata": {}}', False),
    ],
)
def test_a_task_without_before_images_is_not_started(aws: Aws, settings: str, is_fine: bool) -> None:
    with Stubber(aws.client("dms")) as stub:
        stub.add_response("describe_replication_tasks", task("ready", ReplicationTaskSettings=settings))
        with nullcontext() if is_fine else pytest.raises(CaptureFailed, match="before-images"):
            dms.check_task(aws, OUTPUTS)


def connection(arn: str, status: str, reason: str = "") -> dict[str, Any]:
    """DMS's description of a tested connection."""
    return {"Connections": [{"EndpointArn": arn, "Status": status, "LastFailureMessage": reason}]}


def test_connections_are_tested_one_after_the_other_until_they_are_known(aws: Aws) -> None:
    source, target = (OUTPUTS.text(f"dms_{side}_endpoint_arn") for side in ("source", "target"))
    with Stubber(aws.client("dms")) as stub:
        for arn in (source, target):
            stub.add_response("test_connection", {})
            stub.add_response("describe_connections", connection(arn, "testing"))
            stub.add_response("describe_connections", connection(arn, "successful"))
        assert dms.try_connections(aws, OUTPUTS, patience()) == dict.fromkeys(
            ("source", "target"), "successful"
        )
    with Stubber(aws.client("dms")) as stub:
        stub.add_response("test_connection", {})
        stub.add_response("describe_connections", connection(source, "failed", "timeout to Kinesis"))
        with pytest.raises(CaptureFailed, match="timeout to Kinesis"):
            dms.try_connections(aws, OUTPUTS, patience())


def test_a_delivery_stream_that_is_not_there_yet_holds_the_start_back(aws: Aws) -> None:
    described = {
        "DeliveryStreamName": "shop-dev-raw",
        "DeliveryStreamARN": "arn",
        "DeliveryStreamStatus": "CREATING",
        "DeliveryStreamType": "KinesisStreamAsSource",
        "VersionId": "1",
        "Destinations": [],
        "HasMoreDestinations": False,
    }
    with Stubber(aws.client("firehose")) as stub:
        stub.add_response("describe_delivery_stream", {"DeliveryStreamDescription": described})
        with pytest.raises(CaptureFailed, match="would be lost"):
            dms.check_delivery(aws, OUTPUTS)


def execution(state: str, **more: Any) -> dict[str, Any]:
    """Athena's description of a query."""
    return {"QueryExecution": {"QueryExecutionId": "q", "Status": {"State": state, **more}}}


def test_whatever_ends_the_wait_cancels_the_query(aws: Aws) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    waiting = Patience(10.0, lambda _: None, 1.0, lambda: 0.0, interrupted)
    with Stubber(aws.client("athena")) as stub:
        stub.add_response("start_query_execution", {"QueryExecutionId": "q"})
        stub.add_response("get_query_execution", execution("RUNNING"))
        stub.add_response("stop_query_execution", {}, {"QueryExecutionId": "q"})
        with pytest.raises(KeyboardInterrupt):
            athena.ask(aws, OUTPUTS, "SELECT 1", waiting)
    stub.assert_no_pending_responses()


def test_a_query_that_fails_says_athenas_reason(aws: Aws) -> None:
    with Stubber(aws.client("athena")) as stub:
        stub.add_response("start_query_execution", {"QueryExecutionId": "q"})
        stub.add_response("get_query_execution", execution("FAILED", StateChangeReason="no  table"))
        with pytest.raises(AthenaFailed, match="no table"):
            athena.ask(aws, OUTPUTS, "SELECT 1", patience())


def test_results_are_read_page_by_page_without_the_row_of_names(aws: Aws) -> None:
    def page(*rows: str, token: str | None = None) -> dict[str, Any]:
        info = {"ColumnInfo": [{"Name": "a", "Type": "varchar"}]}
        found = {
            "ResultSet": {"Rows": [{"Data": [{"VarCharValue": r}]} for r in rows], "ResultSetMetadata": info}
        }
        return found | ({"NextToken": token} if token else {})

    done = execution("SUCCEEDED")
    done["QueryExecution"] |= {"StatementType": "DML", "Statistics": {"DataScannedInBytes": 7}}
    with Stubber(aws.client("athena")) as stub:
        stub.add_response("start_query_execution", {"QueryExecutionId": "q"})
        stub.add_response("get_query_execution", done)
        stub.add_response("get_query_results", page("a", "1", token="t"))
        stub.add_response("get_query_results", page("a", "2"), {"QueryExecutionId": "q", "NextToken": "t"})
        answer = athena.ask(aws, OUTPUTS, "SELECT 1", patience())
        # A row that looks like the names is one, but on the first page.
        assert list(answer.rows) == [("1",), ("a",), ("2",)]
        assert (answer.columns, answer.scanned_bytes) == (("a",), 7)


def test_figures_come_in_the_order_of_time_whatever_cloudwatch_does(aws: Aws) -> None:
    early, late = (datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in (1, 2))
    with Stubber(aws.client("cloudwatch")) as stub:
        one = {"Id": "m0", "Timestamps": [late, early], "Values": [3.0, 4.0]}
        stub.add_response("get_metric_data", {"MetricDataResults": [one]})
        wanted = {"in": Metric("A", "B", {"C": "d"}, "Sum"), "out": Metric("A", "E", {}, "Sum")}
        found = metrics.read(aws, wanted, start=early, end=late)
    assert (metrics.total(found["in"]), metrics.newest(found["in"])) == (7, 3.0)
    assert (metrics.total(found["out"]), metrics.newest(found["out"])) == (None, None)


FakeTerraform = Callable[[str], Path]


@pytest.fixture
def terraform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTerraform:
    """Put a program called terraform on the PATH."""

    def make(script: str) -> Path:
        program = tmp_path / "terraform"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path

    return make


def test_outputs_are_what_terraform_says(terraform: FakeTerraform) -> None:
    said = json.dumps({"region": {"value": "eu-north-1", "type": "string", "sensitive": False}})
    folder = terraform(f"echo '{said}'")
    found = stack.read_outputs(folder)
    assert found.text("region") == "eu-north-1"
    with pytest.raises(StackMissing, match="no output glue_crawlers"):
        found.texts("glue_crawlers")


def test_a_stack_that_was_not_applied_is_said(terraform: FakeTerraform) -> None:
    with pytest.raises(StackMissing, match="has not been applied"):
        stack.read_outputs(terraform("echo '{}'"))


def test_what_terraform_complains_of_is_said(terraform: FakeTerraform) -> None:
    with pytest.raises(TerraformUnusable, match="Backend initialization required"):
        stack.read_outputs(
            terraform("printf '╷\\n│ Error: Backend initialization required\\n╵\\n' >&2; exit 1")
        )


def test_without_terraform_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TerraformUnusable, match="not installed"):
        stack.read_outputs(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"region": "x"}', "{}"])
def test_a_file_that_is_no_output_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "outputs.json"
    path.write_text(text)
    with pytest.raises(StackMissing):
        stack.outputs_file(path)
