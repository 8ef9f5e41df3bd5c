"""Plans by the real provider keep every rule, and every rule can be broken."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from tests.aws.plan_policies import ANY_RESOURCE, POLICIES
from tests.aws.plan_reading import Plan
from tests.aws.stack_text import locals_mention, profile
from tests.aws.terraform_runner import CANARY_PASSWORD, Terraform

Document = dict[str, Any]
Mutation = Callable[[Document], None]


@pytest.fixture(scope="session")
def prod_stack(
    initialized_stack: Terraform, account_answers: str, tmp_path_factory: pytest.TempPathFactory
) -> Terraform:
    """A copy of the stack to plan the profile for production in."""
    return initialized_stack.fork(tmp_path_factory.mktemp("prod") / "stack").with_endpoints(account_answers)


@pytest.fixture(scope="session")
def prod_plan(prod_stack: Terraform) -> Document:
    """The plan of the profile for production."""
    return prod_stack.plan_json(profile("prod"))


def _problems(rule: str, document: Document) -> list[str]:
    return list(POLICIES[rule](Plan(document, locals_mention())))


@pytest.mark.parametrize("rule", POLICIES)
def test_the_default_plan_keeps_the_rule(rule: str, default_plan: Document) -> None:
    problems = _problems(rule, default_plan)
    assert not problems, "\n".join(["", *problems])


@pytest.mark.parametrize("rule", POLICIES)
def test_the_plan_for_production_keeps_the_rule(rule: str, prod_plan: Document) -> None:
    problems = _problems(rule, prod_plan)
    assert not problems, "\n".join(["", *problems])


def test_no_reviewed_exception_is_left_over(default_plan: Document) -> None:
    used = {
        action
        for statement in Plan(default_plan, locals_mention()).statements
        if "*" in statement.resources
        for action in statement.actions
    }
    assert set(ANY_RESOURCE) <= used, "take out what nothing uses any more"


def test_the_password_is_in_no_part_of_a_plan(prod_stack: Terraform, prod_plan: Document) -> None:
    assert CANARY_PASSWORD not in json.dumps(prod_plan)
    with zipfile.ZipFile(BytesIO((prod_stack.folder / "test.tfplan").read_bytes())) as saved:
        leaks = [name for name in saved.namelist() if CANARY_PASSWORD.encode() in saved.read(name)]
    assert not leaks


def _changes(document: Document, kind: str) -> list[Document]:
    mode, kind = ("data", kind[5:]) if kind.startswith("data.") else ("managed", kind)
    found = [
        change for change in document["resource_changes"] if (change["mode"], change["type"]) == (mode, kind)
    ]
    assert found, f"the plan has no {kind}"
    return found


def _set(kind: str, attribute: str, value: Any) -> Mutation:
    """Give the first instance of a kind another value; ``a.0.b`` reaches into blocks."""

    def mutate(document: Document) -> None:
        change = _changes(document, kind)[0]["change"]
        target = change["after"]
        *path, last = attribute.split(".")
        change["after_unknown"].pop(attribute.split(".")[0], None)
        for step in path:
            target = target[int(step) if step.isdigit() else step]
        target[last] = value

    return mutate


def _without(kind: str) -> Mutation:
    """Leave out a kind of resource."""

    def mutate(document: Document) -> None:
        gone = _changes(document, kind)
        document["resource_changes"] = [one for one in document["resource_changes"] if one not in gone]

    return mutate


def _without_references(kind: str, *attributes: str) -> Mutation:
    """Forget what some attributes of a kind, or its depends_on, mention."""

    def mutate(document: Document) -> None:
        for block in document["configuration"]["root_module"]["resources"]:
            if block["type"] == kind and block["mode"] == "managed":
                for attribute in attributes:
                    block.pop(attribute, None)
                    block["expressions"].pop(attribute, None)

    return mutate


def _more_policy(**statement: Any) -> Mutation:
    """Add a statement to the functions' rights."""
    whole = {"effect": "Allow", "actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::x/*"], **statement}

    def mutate(document: Document) -> None:
        for change in _changes(document, "data.aws_iam_policy_document"):
            if change["name"] == "lambda_transform":
                change["change"]["after"]["statement"].append(whole)

    return mutate


def _in_json(kind: str, attribute: str, *path: str, value: Any) -> Mutation:
    """Change a value inside an attribute that holds JSON."""

    def mutate(document: Document) -> None:
        values = _changes(document, kind)[0]["change"]["after"]
        whole = json.loads(values[attribute])
        target = whole
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        values[attribute] = json.dumps(whole)

    return mutate


def _parameter(name: str, value: str) -> Mutation:
    """Give the database another parameter."""

    def mutate(document: Document) -> None:
        for found in _changes(document, "aws_db_parameter_group")[0]["change"]["after"]["parameter"]:
            if found["name"] == name:
                found["value"] = value

    return mutate


def _rename_role(document: Document) -> None:
    for change in _changes(document, "aws_iam_role"):
        if change["change"]["after"]["name"] == "dms-vpc-role":
            change["change"]["after"]["name"] = "smartstream-dev-dms-vpc-role"


def _age_the_lake(prefix: str) -> Mutation:
    """Let a lifecycle rule of the lake expire what is below a prefix."""
    rule = {
        "id": "wrong",
        "filter": [{"prefix": prefix, "and": []}],
        "transition": [],
        "expiration": [{"days": 9}],
    }

    def mutate(document: Document) -> None:
        for change in _changes(document, "aws_s3_bucket_lifecycle_configuration"):
            change["change"]["after"]["rule"].append(rule)

    return mutate


def _write_policy_as_text(document: Document) -> None:
    for block in document["configuration"]["root_module"]["resources"]:
        if block["type"] == "aws_iam_role_policy":
            block["expressions"]["policy"] = {"references": ["aws_s3_bucket.this"]}


def _shorten_visibility(document: Document) -> None:
    for change in _changes(document, "aws_sqs_queue"):
        change["change"]["after"]["visibility_timeout_seconds"] = 899


_LOCKS = "aws_dynamodb_table"
_FIREHOSE = "aws_kinesis_firehose_delivery_stream"
_TASK = "aws_dms_replication_task"
_EVERYBODY = [{"type": "*", "identifiers": ["*"]}]

BROKEN: list[tuple[str, str, Mutation]] = [
    ("data_is_encrypted_at_rest", "isn't encrypted", _set("aws_db_instance", "storage_encrypted", False)),
    ("data_is_encrypted_at_rest", "isn't encrypted", _set("aws_kinesis_stream", "encryption_type", "NONE")),
    ("data_is_encrypted_at_rest", "isn't encrypted", _set(_LOCKS, "server_side_encryption", [])),
    (
        "data_is_encrypted_at_rest",
        "has no aws_s3_bucket_server_side_encryption_configuration",
        _without("aws_s3_bucket_server_side_encryption_configuration"),
    ),
    ("nothing_is_public", "block public access", _without("aws_s3_bucket_public_access_block")),
    (
        "nothing_is_public",
        "block public access",
        _set("aws_s3_bucket_public_access_block", "block_public_policy", False),
    ),
    ("nothing_is_public", "access lists", _without("aws_s3_bucket_ownership_controls")),
    ("nothing_is_public", "public address", _set("aws_db_instance", "publicly_accessible", True)),
    (
        "nothing_is_public",
        "public address",
        _set("aws_dms_replication_instance", "publicly_accessible", True),
    ),
    ("nothing_is_public", "public addresses", _set("aws_subnet", "map_public_ip_on_launch", True)),
    (
        "nothing_is_public",
        "lets everybody in",
        _set("aws_vpc_security_group_ingress_rule", "cidr_ipv4", "0.0.0.0/0"),
    ),
    ("nothing_is_public", "isn't checked", _set("aws_security_group", "ingress", [{"from_port": 0}])),
    ("nothing_is_public", "allows everybody s3:GetObject", _more_policy(principals=_EVERYBODY)),
    ("no_action_is_a_wildcard", "allows s3:*", _more_policy(actions=["s3:*"])),
    ("no_action_is_a_wildcard", "allows kms:*", _more_policy(actions=["kms:*"])),
    ("no_action_is_a_wildcard", "allows s3:Get*", _more_policy(actions=["s3:Get*"])),
    ("no_action_is_a_wildcard", "all but some", _more_policy(actions=[], not_actions=["iam:PassRole"])),
    (
        "any_resource_is_for_reviewed_actions_only",
        "allows s3:GetObject on everything",
        _more_policy(resources=["*"]),
    ),
    (
        "services_act_for_this_account_only",
        "lets glue.amazonaws.com act for any account",
        _more_policy(principals=[{"type": "Service", "identifiers": ["glue.amazonaws.com"]}]),
    ),
    ("every_policy_can_be_read", "isn't from an aws_iam_policy_document", _write_policy_as_text),
    ("everything_has_the_default_tags", "lacks tags", _set("aws_sqs_queue", "tags_all", {"Project": "x"})),
    (
        "everything_has_the_default_tags",
        "more than ten",
        _set("aws_s3_object", "tags_all", {f"Tag{number}": "x" for number in range(11)}),
    ),
    (
        "logs_are_kept_as_long_as_asked",
        "keeps logs 0",
        _set("aws_cloudwatch_log_group", "retention_in_days", 0),
    ),
    ("logs_are_kept_as_long_as_asked", "no log groups", _without("aws_cloudwatch_log_group")),
    ("roles_have_the_names_that_dms_looks_for", "dms-vpc-role must be there", _rename_role),
    ("roles_have_the_names_that_dms_looks_for", "is called x", _set("aws_iam_role", "name", "x")),
    (
        "roles_have_the_names_that_dms_looks_for",
        "attached and nothing else",
        _set("aws_iam_role_policy_attachment", "policy_arn", "arn:aws:iam::aws:policy/AdministratorAccess"),
    ),
    ("transport_is_encrypted", "refuse plain HTTP", _without("aws_s3_bucket_policy")),
    ("transport_is_encrypted", "without TLS", _parameter("rds.force_ssl", "0")),
    ("transport_is_encrypted", "without TLS", _set("aws_dms_endpoint", "ssl_mode", "none")),
    ("lifecycle_rules_never_touch_iceberg_tables", "below ['trusted/']", _age_the_lake("trusted/")),
    ("lifecycle_rules_never_touch_iceberg_tables", "below ['']", _age_the_lake("")),
    ("lifecycle_rules_never_touch_iceberg_tables", "below ['r']", _age_the_lake("r")),
    ("alarms_tell_somebody", "tells nobody", _set("aws_cloudwatch_metric_alarm", "alarm_actions", [])),
    ("alarms_tell_somebody", "tells nobody", _set("aws_cloudwatch_metric_alarm", "actions_enabled", False)),
    ("alarms_tell_somebody", "no alarm watches CDCLatencySource", _without("aws_cloudwatch_metric_alarm")),
    (
        "things_are_made_in_the_order_that_works",
        "doesn't wait for aws_kinesis_firehose_delivery_stream",
        _without_references(_TASK, "depends_on"),
    ),
    (
        "things_are_made_in_the_order_that_works",
        "doesn't wait for aws_sqs_queue_policy",
        _without_references("aws_s3_bucket_notification", "depends_on"),
    ),
    (
        "no_secret_is_known_to_the_plan",
        "keeps its secret",
        _set("aws_secretsmanager_secret_version", "secret_string", "x"),
    ),
    (
        "no_secret_is_known_to_the_plan",
        "by a write-only argument",
        _without_references("aws_secretsmanager_secret_version", "secret_string_wo"),
    ),
    ("no_secret_is_known_to_the_plan", "master password", _set("aws_db_instance", "password", "x")),
    ("no_secret_is_known_to_the_plan", "holds credentials", _set("aws_dms_endpoint", "password", "x")),
    (
        "functions_run_what_was_built",
        "runs on python3.11",
        _set("aws_lambda_function", "runtime", "python3.11"),
    ),
    ("functions_run_what_was_built", "runs on", _set("aws_lambda_function", "architectures", ["x86_64"])),
    ("functions_run_what_was_built", "by its hash", _without_references("aws_lambda_function", "s3_bucket")),
    (
        "functions_run_what_was_built",
        "a group of its own",
        _without_references("aws_lambda_function", "logging_config"),
    ),
    ("queues_lose_nothing", "shows messages again after 899 s", _shorten_visibility),
    ("queues_lose_nothing", "no queue for the dead", _without_references("aws_sqs_queue", "redrive_policy")),
    (
        "queues_lose_nothing",
        "repeats a whole batch",
        _set("aws_lambda_event_source_mapping", "function_response_types", []),
    ),
    (
        "queues_lose_nothing",
        "names no queue",
        _without_references("aws_lambda_event_source_mapping", "event_source_arn"),
    ),
    ("capture_is_complete", "migrates cdc", _set(_TASK, "migration_type", "cdc")),
    (
        "capture_is_complete",
        "applies in batches",
        _in_json(_TASK, "replication_task_settings", "TargetMetadata", "BatchApplyEnabled", value=True),
    ),
    (
        "capture_is_complete",
        "old key",
        _in_json(_TASK, "replication_task_settings", "BeforeImageSettings", "EnableBeforeImage", value=False),
    ),
    ("capture_is_complete", "replicate logically", _parameter("rds.logical_replication", "0")),
    ("capture_is_complete", "10 s", _parameter("wal_sender_timeout", "5000")),
    (
        "delivery_is_complete",
        "doesn't compress",
        _set(_FIREHOSE, "extended_s3_configuration.0.compression_format", "UNCOMPRESSED"),
    ),
    (
        "delivery_is_complete",
        "with a buffer of 64 MB",
        _set(_FIREHOSE, "extended_s3_configuration.0.buffering_size", 63),
    ),
    (
        "delivery_is_complete",
        "puts failures in raw/",
        _set(_FIREHOSE, "extended_s3_configuration.0.error_output_prefix", "raw/"),
    ),
]


@pytest.mark.parametrize(
    ("rule", "objection", "mutation"), BROKEN, ids=[f"{rule}-{why}" for rule, why, _ in BROKEN]
)
def test_a_plan_that_breaks_the_rule_is_noticed(
    rule: str, objection: str, mutation: Mutation, default_plan: Document
) -> None:
    broken = copy.deepcopy(default_plan)
    mutation(broken)
    new = set(_problems(rule, broken)) - set(_problems(rule, default_plan))
    assert any(objection in problem for problem in new), new


def test_production_without_its_own_key_is_noticed(prod_plan: Document) -> None:
    broken = copy.deepcopy(prod_plan)
    _set("aws_db_instance", "kms_key_id", None)(broken)
    assert any("customer's key" in problem for problem in _problems("data_is_encrypted_at_rest", broken))


def test_every_rule_is_shown_to_break() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(POLICIES)
