"""Rules that every plan of the stack keeps. Each takes a plan and tells what breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.aws.plan_reading import Plan, Resource, Statement

Policy = Callable[[Plan], Iterator[str]]

POLICIES: dict[str, Policy] = {}

# Folders whose files Iceberg's metadata names: what deletes or moves them breaks tables.
ICEBERG_PREFIXES = ("trusted/", "quarantine/", "analytics/")
EXPIRING_PREFIXES = ("raw/", "firehose-errors/")
DEFAULT_TAGS = ("Project", "Environment", "ManagedBy")
DMS_ROLES = {
    "dms-vpc-role": "AmazonDMSVPCManagementRole",
    "dms-cloudwatch-logs-role": "AmazonDMSCloudWatchLogsRole",
}
PUBLIC = ("0.0.0.0/0", "::/0")

# Where "*" is the only resource that an action can have. (Besides: in a key's own policy "*" is
# that key, and an endpoint's policy says whose resources by a condition.)
ANY_RESOURCE: Mapping[str, str] = {
    "xray:PutTraceSegments": "X-Ray has no resources to name",
    "xray:PutTelemetryRecords": "X-Ray has no resources to name",
    "glue:GetSecurityConfiguration": "security configurations have no ARNs",
}
# Services that don't say on whose behalf they assume a role. A role can only be passed to
# functions and endpoints of its own account, so there is no other account to be used by.
SILENT_SERVICES = ("lambda.", "dms.")


def policy(rule: Policy) -> Policy:
    """Add a rule to those that are held."""
    POLICIES[rule.__name__] = rule
    return rule


@policy
def data_is_encrypted_at_rest(plan: Plan) -> Iterator[str]:
    """Whatever holds data encrypts it, with the customer's key when there is one."""
    for bucket in plan.resources("aws_s3_bucket"):
        kind = "aws_s3_bucket_server_side_encryption_configuration"
        if not plan.companions(bucket, kind, "bucket"):
            yield f"{bucket.address} has no {kind}"
    for kind, holds in _ENCRYPTED.items():
        for resource in plan.resources(kind):
            if not holds(resource.values):
                yield f"{resource.address} isn't encrypted"
    if plan.variable("use_customer_managed_key"):
        for kind, attribute in _KEY_ATTRIBUTE.items():
            for resource in plan.resources(kind):
                if not resource.is_set(attribute):
                    yield f"{resource.address} doesn't use the customer's key"


_ENCRYPTED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "aws_db_instance": lambda values: values["storage_encrypted"],
    "aws_kinesis_stream": lambda values: values["encryption_type"] == "KMS",
    "aws_sqs_queue": lambda values: (
        values.get("sqs_managed_sse_enabled") or "kms_master_key_id" not in values
    ),
    "aws_dynamodb_table": lambda values: any(block["enabled"] for block in values["server_side_encryption"]),
    "aws_kms_key": lambda values: values["enable_key_rotation"],
    "aws_s3_bucket_server_side_encryption_configuration": lambda values: all(
        default["sse_algorithm"] in ("AES256", "aws:kms")
        for rule in values["rule"]
        for default in rule["apply_server_side_encryption_by_default"]
    ),
    "aws_athena_workgroup": lambda values: all(
        block["enforce_workgroup_configuration"]
        and all(result["encryption_configuration"] for result in block["result_configuration"])
        for block in values["configuration"]
    ),
}
_KEY_ATTRIBUTE = {
    "aws_db_instance": "kms_key_id",
    "aws_kinesis_stream": "kms_key_id",
    "aws_cloudwatch_log_group": "kms_key_id",
    "aws_secretsmanager_secret": "kms_key_id",
    "aws_sns_topic": "kms_master_key_id",
}


@policy
def nothing_is_public(plan: Plan) -> Iterator[str]:
    """No bucket, instance, subnet, port or policy is open to everybody."""
    for bucket in plan.resources("aws_s3_bucket"):
        blocks = plan.companions(bucket, "aws_s3_bucket_public_access_block", "bucket")
        flags = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
        if not any(all(block.values[flag] for flag in flags) for block in blocks):
            yield f"{bucket.address} doesn't block public access"
        owners = plan.companions(bucket, "aws_s3_bucket_ownership_controls", "bucket")
        if not any(found.values["rule"][0]["object_ownership"] == "BucketOwnerEnforced" for found in owners):
            yield f"{bucket.address} may have objects with access lists of their own"
    for instance in plan.resources("aws_db_instance", "aws_dms_replication_instance"):
        if instance.values["publicly_accessible"]:
            yield f"{instance.address} has a public address"
    for subnet in plan.resources("aws_subnet"):
        if subnet.values["map_public_ip_on_launch"]:
            yield f"{subnet.address} gives public addresses"
    for rule in plan.resources("aws_vpc_security_group_ingress_rule"):
        if {rule.values.get("cidr_ipv4"), rule.values.get("cidr_ipv6")} & set(PUBLIC):
            yield f"{rule.address} lets everybody in"
    for group in plan.resources("aws_security_group", "aws_security_group_rule", "aws_lambda_function_url"):
        if group.kind != "aws_security_group" or group.values.get("ingress"):
            yield f"{group.address} isn't checked: write aws_vpc_security_group_ingress_rule"
    for statement in plan.statements:
        is_bounded = _names(statement, "aws:PrincipalAccount")
        if (
            statement.effect == "Allow"
            and not is_bounded
            and any(name == "*" for _, name in statement.principals)
        ):
            yield f"{statement.where} allows everybody {', '.join(statement.actions)}"


@policy
def no_action_is_a_wildcard(plan: Plan) -> Iterator[str]:
    """What is allowed is named, action by action."""
    for statement in _allowing(plan):
        if statement.not_actions:
            yield f"{statement.where} allows all but some actions"
        for action in statement.actions:
            if "*" in action:
                yield f"{statement.where} allows {action}"


@policy
def any_resource_is_for_reviewed_actions_only(plan: Plan) -> Iterator[str]:
    """``*`` stands for a resource only where the list above says why."""
    for statement in _allowing(plan):
        if "*" in statement.resources and not (
            _is_in_key_policy(plan, statement) or _names(statement, "aws:ResourceAccount")
        ):
            for action in statement.actions:
                if action not in ANY_RESOURCE:
                    yield f"{statement.where} allows {action} on everything"


def _allowing(plan: Plan) -> Iterator[Statement]:
    return (statement for statement in plan.statements if statement.effect == "Allow")


def _is_in_key_policy(plan: Plan, statement: Statement) -> bool:
    """Whether a statement is of a document that only KMS keys use."""
    kinds = {"aws_kms_key", "aws_kms_key_policy"}
    users = plan.users_of(statement.where.split("[")[0], "policy")
    return statement.where.split(".")[0] in kinds or (bool(users) and users <= kinds)


def _names(statement: Statement, *variables: str) -> bool:
    """Whether a statement only holds for what one of these variables equals."""
    return any(
        test.startswith(("StringEquals", "ArnEquals", "ArnLike", "StringLike"))
        and any(variable.startswith(name) for name in variables)
        and "*" not in values
        for test, variable, values in statement.conditions
    )


@policy
def services_act_for_this_account_only(plan: Plan) -> Iterator[str]:
    """A service can't be made to use our roles, queues and keys by another account."""
    for statement in _allowing(plan):
        for kind, name in statement.principals:
            is_silent = statement.actions == ("sts:AssumeRole",) and str(name).startswith(SILENT_SERVICES)
            bounds = ("aws:SourceAccount", "aws:SourceArn", "kms:EncryptionContext:")
            if kind == "Service" and not is_silent and not _names(statement, *bounds):
                yield f"{statement.where} lets {name} act for any account"


@policy
def every_policy_can_be_read(plan: Plan) -> Iterator[str]:
    """Policies come from policy documents, whose statements a plan shows before their ARNs are known."""
    for resource in plan.resources():
        for attribute in ("policy", "assume_role_policy"):
            if attribute in resource.block.get("expressions", {}) and attribute not in resource.values:
                named = resource.refers_to(attribute)
                if not any(name.startswith("data.aws_iam_policy_document.") for name in named):
                    yield f"{resource.address}.{attribute} isn't from an aws_iam_policy_document"


@policy
def everything_has_the_default_tags(plan: Plan) -> Iterator[str]:
    """What can have tags has the default ones, and an S3 object no more than its ten."""
    for resource in plan.resources():
        tags = resource.values.get("tags_all")
        if "tags_all" in resource.values and not set(DEFAULT_TAGS) <= set(tags or {}):
            yield f"{resource.address} lacks tags: {sorted(set(DEFAULT_TAGS) - set(tags or {}))}"
        if resource.kind == "aws_s3_object" and len(tags or {}) > 10:
            yield f"{resource.address} has more than ten tags"


@policy
def logs_are_kept_as_long_as_asked(plan: Plan) -> Iterator[str]:
    """Each log group has the retention that the variable says, none keeps logs for ever."""
    groups = plan.resources("aws_cloudwatch_log_group")
    if not groups:
        yield "there are no log groups"
    for group in groups:
        if group.values["retention_in_days"] != plan.variable("log_retention_days"):
            yield f"{group.address} keeps logs {group.values['retention_in_days']} days"


@policy
def roles_have_the_names_that_dms_looks_for(plan: Plan) -> Iterator[str]:
    """DMS finds two roles by their exact names; all other roles have the stack's name."""
    attachments = plan.resources("aws_iam_role_policy_attachment")
    prefix = f"{plan.variable('project_name')}-{plan.variable('env')}-"
    roles = {role.values.get("name"): role for role in plan.resources("aws_iam_role")}
    for name, managed in DMS_ROLES.items():
        if (name in roles) != plan.variable("dms_create_account_roles"):
            yield f"{name} must be there exactly when dms_create_account_roles says so"
        elif name in roles:
            own = [found for found in attachments if found.is_of(roles[name], "role")]
            if [found.values["policy_arn"].split("/")[-1] for found in own] != [managed]:
                yield f"{name} must have {managed} attached and nothing else"
    for name, role in roles.items():
        if name not in DMS_ROLES and not str(name).startswith(prefix):
            yield f"{role.address} is called {name}"


@policy
def transport_is_encrypted(plan: Plan) -> Iterator[str]:
    """Buckets refuse plain HTTP, the source refuses plain connections, DMS uses TLS."""
    for bucket in plan.resources("aws_s3_bucket"):
        policies = plan.companions(bucket, "aws_s3_bucket_policy", "bucket")
        if not any(
            _refuses_plain_http(statement) for found in policies for statement in _statements_of(plan, found)
        ):
            yield f"{bucket.address} doesn't refuse plain HTTP"
    for group in plan.resources("aws_db_parameter_group"):
        if _parameters(group).get("rds.force_ssl") != "1":
            yield f"{group.address} allows connections without TLS"
    for endpoint in plan.resources("aws_dms_endpoint"):
        is_source = endpoint.values["endpoint_type"] == "source"
        if is_source and endpoint.values["ssl_mode"] not in ("require", "verify-ca", "verify-full"):
            yield f"{endpoint.address} connects without TLS"


def _statements_of(plan: Plan, resource: Resource) -> Iterator[Statement]:
    """The statements of the documents that a resource's policy comes from, of its own instance of them."""
    for reference in resource.refers_to("policy"):
        for address, statements in plan.documents.items():
            own = f'["{resource.index}"]'
            if address == reference or (address.startswith(f"{reference}[") and address.endswith(own)):
                yield from statements


def _refuses_plain_http(statement: Statement) -> bool:
    return (
        statement.effect == "Deny"
        and statement.actions == ("s3:*",)
        and ("*", "*") in statement.principals
        and len(statement.resources) == 2
        and statement.conditions == (("Bool", "aws:SecureTransport", ("false",)),)
    )


def _parameters(group: Resource) -> dict[str, str]:
    return {parameter["name"]: parameter["value"] for parameter in group.values["parameter"]}


@policy
def lifecycle_rules_never_touch_iceberg_tables(plan: Plan) -> Iterator[str]:
    """In the lake only raw files and Firehose's errors age; what Iceberg's metadata names stays."""
    for configuration in plan.resources("aws_s3_bucket_lifecycle_configuration"):
        if not any("data_lake" in name for name in configuration.refers_to("bucket")):
            continue
        for rule in configuration.values["rule"]:
            prefixes = [
                found["prefix"] or (found["and"] or [{}])[0].get("prefix", "") for found in rule["filter"]
            ]
            ages = rule["transition"] or any(
                found.get("days") or found.get("date") for found in rule["expiration"]
            )
            if ages and not (prefixes and all(prefix.startswith(EXPIRING_PREFIXES) for prefix in prefixes)):
                yield f"{configuration.address} rule {rule['id']} ages files below {prefixes}"


@policy
def alarms_tell_somebody(plan: Plan) -> Iterator[str]:
    """Each alarm has an action, and none of those that matter is missing."""
    alarms = plan.resources("aws_cloudwatch_metric_alarm")
    for alarm in alarms:
        if not alarm.is_set("alarm_actions") or alarm.values.get("actions_enabled") is False:
            yield f"{alarm.address} tells nobody"
    for metric in _WATCHED:
        if metric not in {_metric(alarm) for alarm in alarms}:
            yield f"no alarm watches {metric}"


_WATCHED = (
    "OldestReplicationSlotLag",
    "FreeStorageSpace",
    "GetRecords.IteratorAgeMilliseconds",
    "DeliveryToS3.DataFreshness",
    "ApproximateNumberOfMessagesVisible",
    "Errors",
    "Throttles",
    "CDCLatencySource",
    "CDCLatencyTarget",
)


def _metric(alarm: Resource) -> str | None:
    """The metric that an alarm is about; one with expressions has several, of which the first counts."""
    queries = alarm.values.get("metric_query") or ()
    nested = [metric["metric_name"] for query in queries for metric in query["metric"]]
    return alarm.values.get("metric_name") or (nested[0] if nested else None)


@policy
def things_are_made_in_the_order_that_works(plan: Plan) -> Iterator[str]:
    """What a service needs at once is there before it."""
    orders = [
        ("aws_dms_replication_task", "aws_kinesis_firehose_delivery_stream", "Firehose reads from LATEST"),
        (
            "aws_dms_replication_subnet_group",
            "aws_iam_role_policy_attachment",
            "it needs dms-vpc-role's rights",
        ),
        (
            "aws_dms_replication_instance",
            "aws_iam_role_policy_attachment",
            "it logs by dms-cloudwatch-logs-role",
        ),
        ("aws_s3_bucket_notification", "aws_sqs_queue_policy", "S3 tries to send when it is told where"),
        ("aws_dms_replication_task", "aws_secretsmanager_secret_version", "DMS reads the secret"),
    ]
    for later, earlier, reason in orders:
        for resource in plan.resources(later):
            if not _waits_for_one(plan, resource, earlier):
                yield f"{resource.address} doesn't wait for {earlier}: {reason}"
    for stream in plan.resources("aws_kinesis_firehose_delivery_stream"):
        if not _waits_for_one(plan, stream, "aws_iam_role_policy"):
            yield f"{stream.address} doesn't wait for its role's rights"


def _waits_for_one(plan: Plan, later: Resource, kind: str) -> bool:
    """Whether a resource waits for any of a kind; one that isn't planned needs no waiting for."""
    earlier = {found.block_address for found in plan.resources(kind)}
    return not earlier or any(plan.waits_for(later, address) for address in earlier)


@policy
def no_secret_is_known_to_the_plan(plan: Plan) -> Iterator[str]:
    """Passwords are written through write-only arguments, or made by RDS."""
    for version in plan.resources("aws_secretsmanager_secret_version"):
        if version.values.get("secret_string") or version.unknown.get("secret_string"):
            yield f"{version.address} keeps its secret in the state"
        if "var.dms_source_password" not in version.refers_to("secret_string_wo"):
            yield f"{version.address} doesn't get dms_source_password by a write-only argument"
    for instance in plan.resources("aws_db_instance"):
        if not instance.values.get("manage_master_user_password") or instance.values.get("password"):
            yield f"{instance.address} doesn't let RDS make the master password"
    for endpoint in plan.resources("aws_dms_endpoint"):
        if endpoint.values.get("password") or endpoint.values.get("username"):
            yield f"{endpoint.address} holds credentials"


@policy
def functions_run_what_was_built(plan: Plan) -> Iterator[str]:
    """Both functions run python3.13 on arm64, from packages in the lake that are changed by their content."""
    functions = plan.resources("aws_lambda_function")
    if len(functions) != 2:
        yield f"there are {len(functions)} functions"
    for function in functions:
        values = function.values
        if (values["runtime"], values["architectures"]) != ("python3.13", ["arm64"]):
            yield f"{function.address} runs on {values['runtime']} {values['architectures']}"
        if values["handler"] != "lambda_function.lambda_handler":
            yield f"{function.address} calls {values['handler']}"
        if not (
            function.is_set("s3_bucket") and function.is_set("s3_key") and function.is_set("source_code_hash")
        ):
            yield f"{function.address} doesn't come from S3 by its hash"
        if not any("aws_cloudwatch_log_group" in name for name in function.refers_to("logging_config")):
            yield f"{function.address} logs to a group of its own making"


@policy
def queues_lose_nothing(plan: Plan) -> Iterator[str]:
    """What a function reads waits long enough, is counted singly, and ends in a queue for the dead."""
    mappings = plan.resources("aws_lambda_event_source_mapping")
    if not mappings:
        yield "no function reads a queue"
    for mapping in mappings:
        queues = [
            found for found in plan.resources("aws_sqs_queue") if mapping.is_of(found, "event_source_arn")
        ]
        functions = [
            found for found in plan.resources("aws_lambda_function") if mapping.is_of(found, "function_name")
        ]
        if mapping.values["function_response_types"] != ["ReportBatchItemFailures"]:
            yield f"{mapping.address} repeats a whole batch for one failure"
        for queue in queues:
            waits = queue.values["visibility_timeout_seconds"]
            if any(waits < 6 * function.values["timeout"] for function in functions):
                yield f"{queue.address} shows messages again after {waits} s"
            yield from _without_dead_letters(plan, queue)
        if not queues or not functions:
            yield f"{mapping.address} names no queue or no function of this stack"


def _without_dead_letters(plan: Plan, queue: Resource) -> Iterator[str]:
    redrives = plan.companions(queue, "aws_sqs_queue_redrive_policy", "queue_url")
    named = {name for found in (queue, *redrives) for name in found.refers_to("redrive_policy")}
    dead = [found for found in plan.resources("aws_sqs_queue") if found.block_address in named]
    if not dead:
        yield f"{queue.address} has no queue for the dead"
    for other in dead:
        if other.values["message_retention_seconds"] < queue.values["message_retention_seconds"]:
            yield f"{other.address} forgets sooner than {queue.address}"


@policy
def capture_is_complete(plan: Plan) -> Iterator[str]:
    """Full load and changes, with what the transform needs to put them in order."""
    task = plan.one("aws_dms_replication_task")
    settings = json.loads(task.values["replication_task_settings"])
    if task.values["migration_type"] != "full-load-and-cdc":
        yield f"{task.address} migrates {task.values['migration_type']}"
    if settings["TargetMetadata"].get("BatchApplyEnabled") is not False:
        yield f"{task.address} applies in batches, which may lose data with Kinesis"
    if not settings["BeforeImageSettings"]["EnableBeforeImage"]:
        yield f"{task.address} doesn't send the old key of a changed row"
    for endpoint in plan.resources("aws_dms_endpoint"):
        for source in endpoint.values["postgres_settings"]:
            if not source["heartbeat_enable"] or source["plugin_name"] != "test-decoding":
                yield f"{endpoint.address} needs a heartbeat and test-decoding"
        for target in endpoint.values["kinesis_settings"]:
            for flag in ("include_transaction_details", "include_null_and_empty", "use_large_integer_value"):
                if not target[flag]:
                    yield f"{endpoint.address} must {flag}"
            if target["message_format"] != "json-unformatted":
                yield f"{endpoint.address} writes {target['message_format']}"
    parameters = _parameters(plan.one("aws_db_parameter_group"))
    if parameters.get("rds.logical_replication") != "1" or "max_slot_wal_keep_size" not in parameters:
        yield "PostgreSQL must replicate logically, and bound what a slot keeps"
    if 0 < int(parameters.get("wal_sender_timeout", "0")) < 10_000:
        yield "wal_sender_timeout must be 0 or 10 s at least"


@policy
def delivery_is_complete(plan: Plan) -> Iterator[str]:
    """Firehose partitions, compresses, and puts what it can't partition where it is found again."""
    stream = plan.one("aws_kinesis_firehose_delivery_stream")
    (target,) = stream.values["extended_s3_configuration"]
    if not target["dynamic_partitioning_configuration"] or target["buffering_size"] < 64:
        yield f"{stream.address} doesn't partition dynamically with a buffer of 64 MB"
    if target["compression_format"] != "GZIP":
        yield f"{stream.address} doesn't compress"
    if not str(target["error_output_prefix"]).startswith("firehose-errors/"):
        yield f"{stream.address} puts failures in {target['error_output_prefix']}"
    if not str(target["prefix"]).startswith("raw/"):
        yield f"{stream.address} delivers to {target['prefix']}"
