"""DMS's API: what Terraform, boto3 and the AWS CLI ask of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

import botocore.session
from botocore.model import OperationModel
from botocore.validate import ParamValidator

from smartstream.testing.local_dms.capture import Plan
from smartstream.testing.local_dms.endpoints import Clients, Endpoints
from smartstream.testing.local_dms.events import Publisher
from smartstream.testing.local_dms.mappings import TableMappings
from smartstream.testing.local_dms.resources import KINDS, Body, Kind, Made, Refused, Resources, wanted_by
from smartstream.testing.local_dms.settings import KinesisOptions, Quirks, SourceOptions, TaskOptions
from smartstream.testing.local_dms.task import ACTIVE, ReplicationTask

Handler = Callable[[OperationModel, Body], Body]

_TESTED = "Test connection for replication instance and endpoint should be successful for starting the task"


def no_clients(service: str) -> Any:
    """The clients of a stand-in that has no other services: there are none.

    Raises:
        Refused: always.
    """
    raise Refused("AccessDeniedFault", f"this stand-in for DMS reaches no {service}")


class LocalDms:
    """DMS in one region of one account.

    Args:
        clients: makes clients of boto3 for Kinesis and Secrets Manager.
        hosts: local servers in place of hosts; see ``Endpoints``.
        is_hasty: deleting what takes DMS minutes answers that it is gone already, which spares
            Terraform's provider a long sleep.
    """

    def __init__(
        self,
        region: str,
        account: str,
        *,
        clients: Clients = no_clients,
        hosts: Mapping[str, str] | None = None,
        quirks: Quirks | None = None,
        is_hasty: bool = False,
        clock: Callable[[tzinfo], datetime] = datetime.now,
    ) -> None:
        self._resources = Resources(region, account)
        self._endpoints = Endpoints(clients, hosts or {})
        self._publisher = Publisher(clients, region, self._subscriptions)
        self._quirks, self._is_hasty, self._clock = quirks or Quirks(), is_hasty, partial(clock, UTC)
        self._model = botocore.session.get_session().get_service_model("dms")
        self._lock = threading.Lock()
        self._tasks: dict[str, ReplicationTask] = {}
        self._connections: dict[tuple[str, str], Body] = {}
        self._handlers: dict[str, Handler] = {
            "ListTagsForResource": self._list_tags,
            "TestConnection": self._test_connection,
            "DescribeConnections": self._describe_connections,
            "StartReplicationTask": self._start_task,
            "StopReplicationTask": self._stop_task,
            "ReloadTables": self._reload_tables,
            "DescribeTableStatistics": self._table_statistics,
        }
        for kind in KINDS.values():
            self._handlers[f"Create{kind.name}"] = partial(self._create, kind)
            self._handlers[f"Describe{kind.name}s"] = partial(self._describe, kind)
            self._handlers[f"Delete{kind.name}"] = partial(self._delete, kind)

    def answer(self, operation: str, request: Body) -> Body:
        """Return what DMS answers; the operation is one of its API.

        Raises:
            Refused: DMS would answer with an error.
        """
        if operation not in self._model.operation_names:
            raise Refused("UnknownOperationException", operation)
        model = self._model.operation_model(operation)
        problems = ParamValidator().validate(request, model.input_shape)
        if problems.has_errors():
            raise Refused("ValidationException", problems.generate_report())
        handler = self._handlers.get(operation)
        if handler is None:
            raise Refused("NotImplementedException", f"the stand-in for DMS has no {operation}")
        with self._lock:
            return handler(model, request)

    def close(self) -> None:
        """Stop all tasks, and wait until they have; slots stay."""
        for task in self._tasks.values():
            task.stop()
        for task in self._tasks.values():
            task.wait()

    def _create(self, kind: Kind, model: OperationModel, request: Body) -> Body:
        plan = self._check_task(request) if kind.name == "ReplicationTask" else None
        made = self._resources.create(kind, model, request)
        answer = dict(made.answer)
        if plan is not None:
            self._tasks[made.arn] = self._make_task(made, *plan)
            made.answer["Status"] = "ready"
        return {kind.name: answer}

    def _check_task(self, request: Body) -> tuple[TableMappings, TaskOptions]:
        try:
            return TableMappings.read(request["TableMappings"]), TaskOptions.read(
                request.get("ReplicationTaskSettings", "")
            )
        except ValueError as error:
            raise Refused("InvalidParameterValueException", str(error)) from error

    def _make_task(self, made: Made, mappings: TableMappings, options: TaskOptions) -> ReplicationTask:
        source, target = (
            self._resources.by_arn("Endpoint", made.request[name]).request
            for name in ("SourceEndpointArn", "TargetEndpointArn")
        )
        kinesis = target.get("KinesisSettings", {})
        plan = Plan(
            made.arn.rpartition(":")[2],
            mappings,
            SourceOptions.read(source.get("PostgreSQLSettings", {})),
            KinesisOptions.read({"StreamArn": "", **kinesis}),
            options,
            self._quirks,
        )
        return ReplicationTask(
            plan,
            made.request["MigrationType"],
            partial(self._endpoints.open_source, source),
            partial(self._endpoints.open_stream, target, self._quirks),
            self._clock,
            partial(self._publisher.publish, made.answer["ReplicationTaskIdentifier"]),
        )

    def _subscriptions(self) -> list[Body]:
        return [made.answer for made in self._resources.of_kind("EventSubscription")]

    def _describe(self, kind: Kind, model: OperationModel, request: Body) -> Body:
        found = self._resources.describe(kind, request)
        if kind.name == "ReplicationTask":
            found = [answer | self._tasks[answer["ReplicationTaskArn"]].described() for answer in found]
            if request.get("WithoutSettings"):
                left_out = ("ReplicationTaskSettings", "TableMappings")
                found = [{k: v for k, v in answer.items() if k not in left_out} for answer in found]
        return {kind.plural: found}

    def _delete(self, kind: Kind, model: OperationModel, request: Body) -> Body:
        value = next(iter(request.values()))  # These operations have one parameter: a name or an ARN.
        made = self._resources.find(kind, value)
        answer = dict(made.answer)
        if kind.name == "ReplicationTask":
            task = self._tasks[made.arn]
            if task.status in ACTIVE:
                raise Refused(
                    "InvalidResourceStateFault",
                    f"Task cannot be deleted, its status is {task.status}",
                )
            task.forget()
            answer |= {"Status": "deleting"}
        self._resources.delete(made)
        self._tasks.pop(made.arn, None)
        for pair in [pair for pair in self._connections if made.arn in pair]:
            del self._connections[pair]
        if kind.is_slow_to_go and self._is_hasty:
            raise Refused("ResourceNotFoundFault", f"{kind.name} {value} is gone")
        return {} if kind.name == "ReplicationSubnetGroup" else {kind.name: answer}

    def _list_tags(self, model: OperationModel, request: Body) -> Body:
        return {"TagList": self._resources.tags_of(request["ResourceArn"])}

    def _test_connection(self, model: OperationModel, request: Body) -> Body:
        instance = self._resources.by_arn("ReplicationInstance", request["ReplicationInstanceArn"])
        endpoint = self._resources.by_arn("Endpoint", request["EndpointArn"])
        connection = {
            "ReplicationInstanceArn": instance.arn,
            "EndpointArn": endpoint.arn,
            "Status": "testing",
            "EndpointIdentifier": endpoint.answer["EndpointIdentifier"],
            "ReplicationInstanceIdentifier": instance.answer["ReplicationInstanceIdentifier"],
        }
        self._connections[instance.arn, endpoint.arn] = connection
        threading.Thread(target=self._try_out, args=(endpoint.request, connection), daemon=True).start()
        return {"Connection": dict(connection)}

    def _try_out(self, endpoint: Body, connection: Body) -> None:
        """Reach an endpoint, and write down how that went."""
        try:
            if endpoint["EndpointType"] == "source":
                self._endpoints.open_source(endpoint).close()
            else:
                self._endpoints.open_stream(endpoint, self._quirks, threading.Event()).check()
        except Exception as error:
            first_line = next(iter(str(error).splitlines()), "")
            connection["LastFailureMessage"] = f"Test Endpoint failed: {type(error).__name__}: {first_line}"
            connection["Status"] = "failed"
        else:
            connection["Status"] = "successful"

    def _describe_connections(self, model: OperationModel, request: Body) -> Body:
        wanted = wanted_by(request.get("Filters", []))
        found = [
            dict(connection)
            for connection in self._connections.values()
            if all(connection.get(name) in values for name, values in wanted.items())
        ]
        if wanted and not found:
            raise Refused("ResourceNotFoundFault", f"no connection with {wanted}")
        return {"Connections": found}

    def _task(self, request: Body) -> tuple[Made, ReplicationTask]:
        made = self._resources.by_arn("ReplicationTask", request["ReplicationTaskArn"])
        return made, self._tasks[made.arn]

    def _start_task(self, model: OperationModel, request: Body) -> Body:
        made, task = self._task(request)
        kind = request["StartReplicationTaskType"]
        if task.status in ACTIVE:
            raise Refused("InvalidResourceStateFault", f"Replication Task is {task.status}")
        label = kind.upper().replace("-", "_")
        if (kind == "start-replication") == task.has_run:
            when = "for the first time" if task.has_run else "previously"
            raise Refused(
                "InvalidParameterCombinationException",
                f"Start Type : {label}, valid only for tasks running {when}",
            )
        for name in ("SourceEndpointArn", "TargetEndpointArn"):
            pair = (made.request["ReplicationInstanceArn"], made.request[name])
            if self._connections.get(pair, {}).get("Status") != "successful":
                raise Refused("InvalidResourceStateFault", _TESTED)
        task.start(kind)
        return {"ReplicationTask": made.answer | {"Status": "starting"}}

    def _stop_task(self, model: OperationModel, request: Body) -> Body:
        made, task = self._task(request)
        if task.status not in ("starting", "running"):
            raise Refused(
                "InvalidResourceStateFault",
                f"Task cannot be stopped, its status is {task.status}",
            )
        task.stop()
        return {"ReplicationTask": made.answer | task.described() | {"Status": "stopping"}}

    def _reload_tables(self, model: OperationModel, request: Body) -> Body:
        _, task = self._task(request)
        if task.status != "running":
            raise Refused("InvalidResourceStateFault", f"Replication Task is {task.status}, not running")
        names = [(table["SchemaName"], table["TableName"]) for table in request["TablesToReload"]]
        if unknown := task.reload(names):
            raise Refused("ResourceNotFoundFault", f"the task doesn't replicate {unknown}")
        return {"ReplicationTaskArn": request["ReplicationTaskArn"]}

    def _table_statistics(self, model: OperationModel, request: Body) -> Body:
        _, task = self._task(request)
        if not task.has_run:
            raise Refused("InvalidResourceStateFault", "the task has not run yet")
        names = {"schema-name": "SchemaName", "table-name": "TableName", "table-state": "TableState"}
        wanted = {names.get(found["Name"], ""): found["Values"] for found in request.get("Filters", [])}
        found = [
            table
            for table in task.table_statistics()
            if all(table.get(name) in values for name, values in wanted.items())
        ]
        return {"ReplicationTaskArn": request["ReplicationTaskArn"], "TableStatistics": found}
