"""A stand-in for DMS: keeps what it is told, and refuses what DMS's own API would refuse.

The shapes of requests and answers are those of botocore's model of DMS, so that a
misspelled or misplaced parameter is an error here too.  It replicates nothing, and
adds no defaults of its own: what it answers is what was asked for.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
from botocore.model import OperationModel, StructureShape
from botocore.validate import ParamValidator

CREATED = 1767225600.0  # When everything was made: DMS writes times as numbers.

Body = dict[str, Any]


class Refused(Exception):
    """An answer with an error, as DMS words it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Kind:
    """A kind of resource: how it is told from others, and what must be gone before it can go."""

    name: str
    identifier: str
    arn_part: str
    plural: str
    status: Mapping[str, Any]
    # The name in answers, where it differs from the one in requests.
    key: str = ""
    # The provider sleeps for up to half a minute before it looks whether one of these is gone,
    # and is spared that when deleting it is answered with an error that says so.
    gone_at_once: bool = False
    # Kinds whose members name this one, by which of their fields.
    used_by: tuple[tuple[str, str], ...] = ()

    @property
    def id_field(self) -> str:
        return self.key or self.identifier

    @property
    def arn_field(self) -> str:
        return f"{self.name}Arn"


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "ReplicationSubnetGroup",
            "ReplicationSubnetGroupIdentifier",
            "subgrp",
            "ReplicationSubnetGroups",
            {"SubnetGroupStatus": "Complete", "VpcId": "vpc-0dms"},
            used_by=(("ReplicationInstance", "ReplicationSubnetGroupIdentifier"),),
        ),
        Kind(
            "ReplicationInstance",
            "ReplicationInstanceIdentifier",
            "rep",
            "ReplicationInstances",
            {"ReplicationInstanceStatus": "available", "InstanceCreateTime": CREATED},
            gone_at_once=True,
            used_by=(("ReplicationTask", "ReplicationInstanceArn"),),
        ),
        Kind(
            "Endpoint",
            "EndpointIdentifier",
            "endpoint",
            "Endpoints",
            {"Status": "active"},
            used_by=(("ReplicationTask", "SourceEndpointArn"), ("ReplicationTask", "TargetEndpointArn")),
        ),
        Kind(
            "ReplicationTask",
            "ReplicationTaskIdentifier",
            "task",
            "ReplicationTasks",
            {"Status": "ready", "ReplicationTaskCreationDate": CREATED},
            gone_at_once=True,
        ),
        Kind(
            "EventSubscription",
            "SubscriptionName",
            "es",
            "EventSubscriptionsList",
            {"Status": "active"},
            key="CustSubscriptionId",
            gone_at_once=True,
        ),
    )
}
# DMS's names of filters: endpoint-arn, replication-task-id and so on.
FILTERS = {
    "replication-subnet-group-id": "ReplicationSubnetGroupIdentifier",
    "replication-instance-id": "ReplicationInstanceIdentifier",
    "replication-instance-arn": "ReplicationInstanceArn",
    "endpoint-id": "EndpointIdentifier",
    "endpoint-arn": "EndpointArn",
    "endpoint-type": "EndpointType",
    "replication-task-id": "ReplicationTaskIdentifier",
    "replication-task-arn": "ReplicationTaskArn",
}


@dataclass
class _Made:
    """A resource: the request that made it, and what DMS answers about it."""

    kind: Kind
    request: Body
    answer: Body
    tags: list[dict[str, str]]


@dataclass
class DmsEmulator:
    """DMS in one region of one account, in memory."""

    region: str
    account: str
    _made: dict[tuple[str, str], _Made] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._model = botocore.session.get_session().get_service_model("dms")

    def answer(self, operation: str, request: Body) -> Body:
        """What DMS answers; the operation is one of its API.

        Raises:
            Refused: DMS would answer with an error.
        """
        if operation not in self._model.operation_names:
            raise Refused("UnknownOperationException", operation)
        model = self._model.operation_model(operation)
        problems = ParamValidator().validate(request, model.input_shape)
        if problems.has_errors():
            raise Refused("ValidationException", problems.generate_report())
        with self._lock:
            return self._handler(operation)(model, request)

    def _handler(self, operation: str) -> Callable[[OperationModel, Body], Body]:
        if operation == "ListTagsForResource":
            return self._list_tags
        for kind in KINDS.values():
            for verb, handler in (("Create", self._create), ("Describe", self._describe)):
                if operation in (f"{verb}{kind.name}", f"{verb}{kind.name}s"):
                    return lambda model, request, kind=kind, handler=handler: handler(kind, model, request)
            if operation == f"Delete{kind.name}":
                return lambda model, request, kind=kind: self._delete(kind, request)
        raise Refused("NotImplementedException", f"the stand-in for DMS has no {operation}")

    def _create(self, kind: Kind, model: OperationModel, request: Body) -> Body:
        name = request[kind.identifier]
        if (kind.name, name) in self._made:
            raise Refused("ResourceAlreadyExistsFault", f"{kind.name} {name} exists")
        answer = self._described(kind, model.output_shape.members[kind.name], request)
        self._check(kind, request)
        self._made[kind.name, name] = _Made(kind, request, answer, request.get("Tags", []))
        return {kind.name: answer}

    def _described(self, kind: Kind, shape: StructureShape, request: Body) -> Body:
        """The request as DMS would describe what it made."""
        answer = {key: value for key, value in request.items() if key in shape.members} | dict(kind.status)
        answer[kind.id_field] = request[kind.identifier]
        if kind.arn_field in shape.members:
            answer[kind.arn_field] = self._arn(kind, uuid.uuid4().hex.upper()[:26])
        if kind.name == "ReplicationSubnetGroup":
            answer["Subnets"] = [
                {"SubnetIdentifier": subnet, "SubnetStatus": "Active"} for subnet in request["SubnetIds"]
            ]
        elif kind.name == "ReplicationInstance":
            group = self._made.get(("ReplicationSubnetGroup", request["ReplicationSubnetGroupIdentifier"]))
            if group is None:
                raise Refused("ResourceNotFoundFault", "the subnet group doesn't exist")
            answer["ReplicationSubnetGroup"] = group.answer
            answer["VpcSecurityGroups"] = [
                {"VpcSecurityGroupId": name, "Status": "active"} for name in request["VpcSecurityGroupIds"]
            ]
        elif kind.name == "EventSubscription":
            answer["SourceIdsList"] = request.get("SourceIds", [])
            answer["EventCategoriesList"] = request.get("EventCategories", [])
        return answer

    def _check(self, kind: Kind, request: Body) -> None:
        """Refuse what names something that doesn't exist, and settings that DMS doesn't take."""
        known = {found.answer.get(found.kind.arn_field) for found in self._made.values()}
        for name in ("SourceEndpointArn", "TargetEndpointArn", "ReplicationInstanceArn"):
            if name in request and request[name] not in known:
                raise Refused("ResourceNotFoundFault", f"{name} {request[name]} doesn't exist")
        if "CloudWatchLogGroup" in request.get("ReplicationTaskSettings", ""):
            raise Refused("InvalidParameterValueException", "CloudWatchLogGroup can't be set on create")
        for settings in (value for name, value in request.items() if name.endswith("Settings")):
            if "SecretsManagerSecretId" in settings and "SecretsManagerAccessRoleArn" not in settings:
                raise Refused("InvalidParameterCombinationException", "a secret needs a role that reads it")
        if kind.name == "EventSubscription":
            tasks = [name for kind_name, name in self._made if kind_name == "ReplicationTask"]
            if unknown := set(request.get("SourceIds", [])) - set(tasks):
                raise Refused("ResourceNotFoundFault", f"no such tasks: {sorted(unknown)}")

    def _describe(self, kind: Kind, model: OperationModel, request: Body) -> Body:
        wanted = {FILTERS[found["Name"]]: found["Values"] for found in request.get("Filters", [])}
        if "SubscriptionName" in request:
            wanted["CustSubscriptionId"] = [request["SubscriptionName"]]
        found = [
            made.answer
            for made in self._made.values()
            if made.kind is kind and all(made.answer.get(name) in values for name, values in wanted.items())
        ]
        if wanted and not found:
            raise Refused("ResourceNotFoundFault", f"no {kind.name} with {wanted}")
        return {kind.plural: found}

    def _delete(self, kind: Kind, request: Body) -> Body:
        value = next(iter(request.values()))  # These operations have one parameter: a name or an ARN.
        names = (kind.id_field, kind.arn_field)
        made = next(
            (
                made
                for made in self._made.values()
                if made.kind is kind and value in [made.answer.get(name) for name in names]
            ),
            None,
        )
        if made is None:
            raise Refused("ResourceNotFoundFault", f"no {kind.name} {value}")
        for other, name in kind.used_by:
            users = [user for user in self._made.values() if user.kind.name == other]
            if any(user.request.get(name) == value for user in users):
                raise Refused("InvalidResourceStateFault", f"{kind.name} {value} is used by a {other}")
        del self._made[kind.name, made.answer[kind.id_field]]
        if kind.gone_at_once:
            raise Refused("ResourceNotFoundFault", f"{kind.name} {value} is gone")
        return {} if kind.name == "ReplicationSubnetGroup" else {kind.name: made.answer}

    def _list_tags(self, model: OperationModel, request: Body) -> Body:
        arn = request["ResourceArn"]
        for made in self._made.values():
            # What has no ARN in its answers is named by one that ends with its name.
            by_name = self._arn(made.kind, made.answer[made.kind.id_field])
            if arn in (by_name, made.answer.get(made.kind.arn_field)):
                return {"TagList": made.tags}
        raise Refused("ResourceNotFoundFault", f"nothing has the ARN {arn}")

    def _arn(self, kind: Kind, name: str) -> str:
        return f"arn:aws:dms:{self.region}:{self.account}:{kind.arn_part}:{name}"


@contextmanager
def serve(emulator: DmsEmulator) -> Iterator[str]:
    """The address at which it answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            try:
                status, body = 200, emulator.answer(operation, json.loads(text))
            except Refused as refusal:
                status, body = 400, {"__type": refusal.code, "message": str(refusal)}
            self._send(status, json.dumps(body).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="dms-emulator", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
