"""All that an account holds in the services that the stack uses, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.aws.emulators import Emulators

_SUBNET_GROUP = "ReplicationSubnetGroup"

# Service, operation, the list in its answer, and the field that names what is listed.
_LISTS = (
    ("athena", "list_work_groups", "WorkGroups", "Name"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("dms", "describe_endpoints", "Endpoints", "EndpointIdentifier"),
    ("dms", "describe_event_subscriptions", "EventSubscriptionsList", "CustSubscriptionId"),
    ("dms", "describe_replication_instances", "ReplicationInstances", "ReplicationInstanceIdentifier"),
    ("dms", "describe_replication_subnet_groups", _SUBNET_GROUP + "s", _SUBNET_GROUP + "Identifier"),
    ("dms", "describe_replication_tasks", "ReplicationTasks", "ReplicationTaskIdentifier"),
    ("dynamodb", "list_tables", "TableNames", None),
    ("ec2", "describe_addresses", "Addresses", "AllocationId"),
    ("ec2", "describe_flow_logs", "FlowLogs", "FlowLogId"),
    ("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("ec2", "describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("ec2", "describe_route_tables", "RouteTables", "RouteTableId"),
    ("ec2", "describe_security_group_rules", "SecurityGroupRules", "SecurityGroupRuleId"),
    ("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("ec2", "describe_subnets", "Subnets", "SubnetId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("ec2", "describe_vpcs", "Vpcs", "VpcId"),
    ("firehose", "list_delivery_streams", "DeliveryStreamNames", None),
    ("glue", "get_crawlers", "Crawlers", "Name"),
    ("glue", "get_databases", "DatabaseList", "Name"),
    ("glue", "get_security_configurations", "SecurityConfigurations", "Name"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("kinesis", "list_streams", "StreamNames", None),
    ("kms", "list_aliases", "Aliases", "AliasName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "UUID"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("logs", "describe_metric_filters", "metricFilters", "filterName"),
    ("rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
    ("rds", "describe_db_parameter_groups", "DBParameterGroups", "DBParameterGroupName"),
    ("rds", "describe_db_snapshots", "DBSnapshots", "DBSnapshotIdentifier"),
    ("rds", "describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("scheduler", "list_schedule_groups", "ScheduleGroups", "Name"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
    ("secretsmanager", "list_secrets", "SecretList", "Name"),
    ("sns", "list_subscriptions", "Subscriptions", "SubscriptionArn"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sqs", "list_queues", "QueueUrls", None),
)


def inventory(emulators: Emulators) -> frozenset[str]:
    """Everything there is, as texts like ``s3 Buckets some-name``."""
    asked: list[Callable[[], Iterable[str]]] = [
        lambda entry=entry: _listed(emulators, *entry) for entry in _LISTS
    ]
    asked += [lambda ask=ask: ask(emulators) for ask in (_alarms, _keys, _policies, _nat_gateways)]
    with ThreadPoolExecutor(8) as pool:
        return frozenset(name for names in pool.map(lambda ask: list(ask()), asked) for name in names)


def _listed(emulators: Emulators, service: str, operation: str, key: str, name: str | None) -> Iterable[str]:
    answer = getattr(emulators.client(service), operation)()
    for found in answer.get(key, ()):
        yield f"{service} {key} {found if name is None else found[name]}"


def _alarms(emulators: Emulators) -> Iterable[str]:
    answer = emulators.client("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    for found in (*answer["MetricAlarms"], *answer["CompositeAlarms"]):
        yield f"cloudwatch alarm {found['AlarmName']}"


def _keys(emulators: Emulators) -> Iterable[str]:
    """Keys that nobody has asked to delete: KMS keeps a key for days after that."""
    kms = emulators.client("kms")
    for found in kms.list_keys()["Keys"]:
        key: dict[str, Any] = kms.describe_key(KeyId=found["KeyId"])["KeyMetadata"]
        if key["KeyState"] != "PendingDeletion":
            yield f"kms key {key['KeyId']}"


def _policies(emulators: Emulators) -> Iterable[str]:
    for found in emulators.client("iam").list_policies(Scope="Local")["Policies"]:
        yield f"iam policy {found['PolicyName']}"


def _nat_gateways(emulators: Emulators) -> Iterable[str]:
    """Those that aren't deleted: EC2 lists these for an hour."""
    for found in emulators.client("ec2").describe_nat_gateways()["NatGateways"]:
        if found["State"] not in ("deleted", "deleting"):
            yield f"ec2 NAT gateway {found['NatGatewayId']}"
