"""Capture: DMS's connections and its replication task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs
from smartstream.aws.operate.waiting import Patience
from smartstream.errors import CaptureFailed

ENDPOINTS = {"source": "dms_source_endpoint_arn", "target": "dms_target_endpoint_arn"}
START, RESUME, RELOAD = "start-replication", "resume-processing", "reload-target"
_MOVING = {"creating", "modifying", "moving", "testing", "deleting"}


@dataclass(frozen=True, slots=True)
class TableState:
    """What DMS has sent of one table.

    Attributes:
        state: in DMS's words, ``Table completed``.
        sent: rows of the full load, and of changes by operation.
    """

    table: str
    state: str
    sent: Mapping[str, int]


def check_delivery(aws: Aws, stack: StackOutputs) -> None:
    """Make sure that Firehose reads the stream: it begins at the newest record, so it must be there first.

    Raises:
        CaptureFailed: it is not active.
    """
    name = stack.text("firehose_name")
    answer = aws.ask("firehose", "describe_delivery_stream", name, DeliveryStreamName=name)
    status = answer["DeliveryStreamDescription"]["DeliveryStreamStatus"]
    if status != "ACTIVE":
        raise CaptureFailed(
            f"Firehose's stream {name} is {status}, not ACTIVE: what DMS sends now would be lost",
            hint="Wait until it is ACTIVE, or apply the stack again; then start.",
        )


def check_task(aws: Aws, stack: StackOutputs) -> None:
    """Make sure that the task writes the old key of an update that changes it.

    Terraform takes no notice of what somebody changes about the task's settings later.

    Raises:
        CaptureFailed: it does not: the old rows of such updates would stay, and no record tells of them.
    """
    arn = stack.text("dms_task_arn")
    wanted = [{"Name": "replication-task-arn", "Values": [arn]}]
    answer = aws.ask("dms", "describe_replication_tasks", arn, Filters=wanted)
    for one in answer["ReplicationTasks"]:
        told = json.loads(one.get("ReplicationTaskSettings") or "{}")
        if told and not (told.get("BeforeImageSettings") or {}).get("EnableBeforeImage"):
            raise CaptureFailed(
                f"DMS's task {arn} writes no before-images: rows whose key is updated would stay under the "
                "old key as well",
                hint="Stop it, then make it as terraform/dms.tf says: "
                "terraform apply -replace=aws_dms_replication_task.this",
            )


def try_connections(aws: Aws, stack: StackOutputs, patience: Patience) -> dict[str, str]:
    """Have the replication instance try both endpoints; return its verdicts by ``source`` and ``target``.

    Raises:
        CaptureFailed: it does not reach one of them; DMS's reason is in the message.
        AwsTooSlow: the tests have not ended in time.
    """
    instance = stack.text("dms_replication_instance_arn")
    verdicts: dict[str, str] = {}
    for side, output in ENDPOINTS.items():
        arn = stack.text(output)
        aws.change("dms", "test_connection", arn, EndpointArn=arn, ReplicationInstanceArn=instance)
        if not aws.is_dry:
            verdicts[side] = patience.until(f"DMS's connection to the {side}", partial(_tested, aws, arn))
    return verdicts


def task(aws: Aws, stack: StackOutputs) -> dict[str, Any]:
    """Return what DMS says of the replication task.

    Raises:
        CaptureFailed: there is no such task.
    """
    arn = stack.text("dms_task_arn")
    wanted = [{"Name": "replication-task-arn", "Values": [arn]}]
    answer = aws.ask("dms", "describe_replication_tasks", arn, Filters=wanted, WithoutSettings=True)
    found = answer["ReplicationTasks"]
    if not found:
        raise CaptureFailed(f"DMS has no task {arn}", hint="Apply the stack again.")
    return dict(found[0])


def start(aws: Aws, stack: StackOutputs, patience: Patience, *, reload: bool = False) -> str:
    """Start the task or let it go on, and wait until it runs and its full load is complete.

    Args:
        reload: begin anew with a full load, also where it could go on.
    Returns:
        How it was started; ``running`` where it ran already.
    Raises:
        CaptureFailed: the task fails; DMS's reason is in the message.
        AwsTooSlow: it has not come so far in time; it goes on in DMS.
    """
    arn = stack.text("dms_task_arn")
    status = patience.until("the task is ready", lambda: _settled(task(aws, stack)))
    kind = "running" if status in ("running", "starting") else _kind(status, reload)
    if kind != "running":
        aws.change(
            "dms",
            "start_replication_task",
            arn,
            ReplicationTaskArn=arn,
            StartReplicationTaskType=kind,
        )
    if not aws.is_dry:
        patience.until("the full load", lambda: _loaded(task(aws, stack)))
    return kind


def stop(aws: Aws, stack: StackOutputs, patience: Patience) -> str:
    """Stop the task, and wait until it has stopped; return the status that it had.

    Raises:
        AwsTooSlow: it has not stopped in time.
    """
    arn = stack.text("dms_task_arn")
    status = str(task(aws, stack)["Status"])
    if status in ("running", "starting"):
        aws.change("dms", "stop_replication_task", arn, ReplicationTaskArn=arn)
    if not aws.is_dry:
        patience.until("the task stops", lambda: _stopped(task(aws, stack)))
    return status


def table_states(aws: Aws, stack: StackOutputs) -> list[TableState]:
    """Return what DMS has sent of each table, by name."""
    arn = stack.text("dms_task_arn")
    listed = aws.pages("dms", "describe_table_statistics", arn, "TableStatistics", ReplicationTaskArn=arn)
    names = {"load": "FullLoadRows", "insert": "Inserts", "update": "Updates", "delete": "Deletes"}
    found = [
        TableState(
            f"{one['SchemaName']}.{one['TableName']}",
            str(one.get("TableState", "")),
            {kind: int(one.get(name) or 0) for kind, name in names.items()},
        )
        for one in listed
    ]
    return sorted(found, key=lambda one: one.table)


def _tested(aws: Aws, arn: str) -> tuple[str | None, str]:
    """The verdict about one endpoint, None while it is being tested."""
    wanted = [{"Name": "endpoint-arn", "Values": [arn]}]
    answer = aws.ask("dms", "describe_connections", arn, Filters=wanted)
    found = next((one for one in answer["Connections"] if one["EndpointArn"] == arn), None)
    status = "testing" if found is None else str(found["Status"])
    if found is not None and status == "failed":
        raise CaptureFailed(
            f"DMS does not reach {arn}: {found.get('LastFailureMessage') or 'no reason given'}"
        )
    return (status if status == "successful" else None), status


def _kind(status: str, reload: bool) -> str:
    """How a task in this status is started."""
    if status == "ready":
        return START
    return RELOAD if reload else RESUME


def _settled(found: Mapping[str, Any]) -> tuple[str | None, str]:
    """A status that a task can be started from, or runs in."""
    status = str(found["Status"])
    return (None if status in _MOVING or status == "stopping" else status), status


def _loaded(found: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Whether the task runs and has loaded every table."""
    status = str(found["Status"])
    percent = int(found.get("ReplicationTaskStats", {}).get("FullLoadProgressPercent") or 0)
    if status in ("failed", "failed-move") or (status == "stopped" and found.get("LastFailureMessage")):
        reason = found.get("LastFailureMessage") or found.get("StopReason") or "no reason given"
        raise CaptureFailed(f"DMS's task has {status}: {reason}")
    is_done = status == "running" and (percent == 100 or found.get("MigrationType") == "cdc")
    return (True if is_done else None), f"{status}, {percent} %"


def _stopped(found: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Whether nothing of the task runs."""
    status = str(found["Status"])
    return (None if status in ("running", "starting", "stopping") else True), status
