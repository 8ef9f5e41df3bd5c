"""What the stand-in was told to make: endpoints, instances, tasks and the like.

The shapes of requests and answers are those of botocore's model of DMS, so that a misspelled
or misplaced parameter is an error here too.  Adds no defaults: what it answers is what was
asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.model import OperationModel, StructureShape

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
    # The provider sleeps for up to half a minute before it looks whether one of these is gone.
    is_slow_to_go: bool = False
    # Kinds whose members name this one, by which of their fields.
    used_by: tuple[tuple[str, str], ...] = ()

    @property
    def id_field(self) -> str:
        """The field of answers that holds its name."""
        return self.key or self.identifier

    @property
    def arn_field(self) -> str:
        """The field of answers that holds its ARN, where there is one."""
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
            is_slow_to_go=True,
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
            {"Status": "creating", "ReplicationTaskCreationDate": CREATED},
            is_slow_to_go=True,
        ),
        Kind(
            "EventSubscription",
            "SubscriptionName",
            "es",
            "EventSubscriptionsList",
            {"Status": "active"},
            key="CustSubscriptionId",
            is_slow_to_go=True,
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
    "migration-type": "MigrationType",
}


@dataclass
class Made:
    """A resource: the request that made it, and what DMS answers about it."""

    kind: Kind
    request: Body
    answer: Body
    tags: list[dict[str, str]]

    @property
    def arn(self) -> str:
        """Its ARN; empty for kinds that have none."""
        return str(self.answer.get(self.kind.arn_field, ""))


def wanted_by(filters: list[Body]) -> dict[str, list[str]]:
    """Return the values that each field of an answer may have.

    Raises:
        Refused: there is no such filter.
    """
    if unknown := {found["Name"] for found in filters} - FILTERS.keys():
        raise Refused("InvalidParameterValueException", f"no filters {sorted(unknown)}")
    return {FILTERS[found["Name"]]: found["Values"] for found in filters}


@dataclass
class Resources:
    """Everything that was made in one region of one account, in memory."""

    region: str
    account: str
    _made: dict[tuple[str, str], Made] = field(default_factory=dict)

    def of_kind(self, name: str) -> list[Made]:
        """Return what there is of a kind."""
        return [made for made in self._made.values() if made.kind.name == name]

    def by_arn(self, kind: str, arn: str) -> Made:
        """Return what an ARN names.

        Raises:
            Refused: nothing of this kind.
        """
        for made in self.of_kind(kind):
            if made.arn == arn:
                return made
        raise Refused("ResourceNotFoundFault", f"{kind} {arn} doesn't exist")

    def create(self, kind: Kind, model: OperationModel, request: Body) -> Made:
        """Make a resource.

        Raises:
            Refused: it exists, names what doesn't, or has settings that DMS doesn't take.
        """
        name = request[kind.identifier]
        if (kind.name, name) in self._made:
            raise Refused("ResourceAlreadyExistsFault", f"{kind.name} {name} exists")
        answer = self._described(kind, model.output_shape.members[kind.name], request)
        self._check(kind, request)
        made = Made(kind, request, answer, request.get("Tags", []))
        self._made[kind.name, name] = made
        return made

    def describe(self, kind: Kind, request: Body) -> list[Body]:
        """Return what the request's filters let through.

        Raises:
            Refused: there are filters, and nothing gets through.
        """
        wanted = wanted_by(request.get("Filters", []))
        if "SubscriptionName" in request:
            wanted["CustSubscriptionId"] = [request["SubscriptionName"]]
        found = [
            made.answer
            for made in self.of_kind(kind.name)
            if all(made.answer.get(name) in values for name, values in wanted.items())
        ]
        if wanted and not found:
            raise Refused("ResourceNotFoundFault", f"no {kind.name} with {wanted}")
        return found

    def find(self, kind: Kind, value: str) -> Made:
        """Return what has this name or ARN.

        Raises:
            Refused: nothing of this kind.
        """
        names = (kind.id_field, kind.arn_field)
        for made in self.of_kind(kind.name):
            if value in [made.answer.get(name) for name in names]:
                return made
        raise Refused("ResourceNotFoundFault", f"no {kind.name} {value}")

    def delete(self, made: Made) -> None:
        """Take a resource away.

        Raises:
            Refused: another one uses it.
        """
        kind = made.kind
        named = (made.answer[kind.id_field], made.arn)
        for other, name in kind.used_by:
            if any(user.request.get(name) in named for user in self.of_kind(other)):
                raise Refused("InvalidResourceStateFault", f"{kind.name} {named[0]} is used by a {other}")
        del self._made[kind.name, made.answer[kind.id_field]]

    def tags_of(self, arn: str) -> list[dict[str, str]]:
        """Return the tags of whatever has this ARN.

        Raises:
            Refused: nothing has it.
        """
        for made in self._made.values():
            # What has no ARN in its answers is named by one that ends with its name.
            by_name = self._arn(made.kind, made.answer[made.kind.id_field])
            if arn in (by_name, made.arn):
                return made.tags
        raise Refused("ResourceNotFoundFault", f"nothing has the ARN {arn}")

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
        known = {found.arn for found in self._made.values()}
        for name in ("SourceEndpointArn", "TargetEndpointArn", "ReplicationInstanceArn"):
            if name in request and request[name] not in known:
                raise Refused("ResourceNotFoundFault", f"{name} {request[name]} doesn't exist")
        if "CloudWatchLogGroup" in request.get("ReplicationTaskSettings", ""):
            raise Refused("InvalidParameterValueException", "CloudWatchLogGroup can't be set on create")
        for settings in (value for name, value in request.items() if name.endswith("Settings")):
            if "SecretsManagerSecretId" in settings and "SecretsManagerAccessRoleArn" not in settings:
                raise Refused("InvalidParameterCombinationException", "a secret needs a role that reads it")
        if kind.name == "EventSubscription":
            tasks = [made.answer[made.kind.id_field] for made in self.of_kind("ReplicationTask")]
            if unknown := set(request.get("SourceIds", [])) - set(tasks):
                raise Refused("ResourceNotFoundFault", f"no such tasks: {sorted(unknown)}")

    def _arn(self, kind: Kind, name: str) -> str:
        return f"arn:aws:dms:{self.region}:{self.account}:{kind.arn_part}:{name}"
