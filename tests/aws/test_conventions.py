"""How the stack is written: its files, names and descriptions, and nothing of one account in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.aws.stack_text import parse, stack_blocks, stack_files, stack_resources
from tests.aws.terraform_runner import STACK

FILES = {
    "providers.tf",
    "versions.tf",
    "variables.tf",
    "locals.tf",
    "outputs.tf",
    "networking.tf",
    "s3.tf",
    "secrets.tf",
    "rds.tf",
    "kinesis.tf",
    "dms.tf",
    "firehose.tf",
    "lambda_transform.tf",
    "lambda_ml.tf",
    "glue.tf",
    "athena.tf",
    "iam.tf",
    "cloudwatch.tf",
}
VARIABLE_COUNT = 42
OUTPUT_COUNT = 39
SEED_DEFAULTS = {
    "project_name": "smartstream",
    "env": "dev",
    "region": "eu-north-1",
    "kinesis_shards": 2,
    "firehose_buffer_interval_seconds": 60,
    "log_retention_days": 7,
    "ml_schedule_expression": "rate(1 hour)",
    "transform_memory_mb": 512,
    "ml_memory_mb": 1024,
    "db_instance_class": "db.t3.micro",
}

# What gives a thing its name in the account.
NAMING = (
    "name",
    "name_prefix",
    "identifier",
    "bucket",
    "function_name",
    "alarm_name",
    "dashboard_name",
    "endpoint_id",
    "replication_instance_id",
    "replication_subnet_group_id",
    "replication_task_id",
)
# Kinds whose names only need to be right inside something that has the stack's name.
NAMED_INSIDE: Mapping[str, str] = {
    "aws_iam_role_policy": "its role has the name",
    "aws_cloudwatch_log_stream": "its log group has the name",
    "aws_glue_catalog_table": "its database has the name",
}
# Names that a service looks for, whatever the stack is called.
NAMED_BY_AWS = {"dms-vpc-role": "DMS", "dms-cloudwatch-logs-role": "DMS"}

_STRICTLY_ONE_ACCOUNT = {
    "a region": re.compile(r"\b(af|ap|ca|cn|eu|il|me|mx|sa|us)(-gov)?-[a-z]+-\d[a-z]?\b"),
    "an account": re.compile(r"(?<![\d.])\d{12}(?!\d)"),
    "a partition": re.compile(r"\barn:aws[\w-]*:"),
    "an access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a secret": re.compile(r'\b(\w*password|secret_string|\w*token|\w*secret_key)\s*=\s*"[^"$]', re.I),
    "a place on one machine": re.compile(r'"(/home|/root|/tmp|/Users|[A-Z]:\\)'),
}


def _without_comments(text: str) -> str:
    return re.sub(r"^\s*(#|//).*$", "", text, flags=re.M)


def _of_one_account(name: str, text: str) -> Iterator[str]:
    """What would be wrong in another account, region or partition; variables.tf may say where by default."""
    for what, pattern in _STRICTLY_ONE_ACCOUNT.items():
        if not (name == "variables.tf" and what == "a region"):
            for found in pattern.finditer(_without_comments(text)):
                yield f"{name} holds {what}: {found[0]}"


def _badly_described(kind: str, name: str, body: Mapping[str, Any]) -> Iterator[str]:
    text = str(body.get("description", ""))
    if len(text.split()) < 3 or not text[0].isupper() or not text.endswith("."):
        yield f"{kind} {name} has no sentence that describes it: {text!r}"


def _badly_declared(name: str, body: Mapping[str, Any]) -> Iterator[str]:
    """What a variable lacks: a description, a type, or a word on null."""
    yield from _badly_described("variable", name, body)
    if "type" not in body:
        yield f"variable {name} has no type"
    may_be_null = "default" in body and (body["default"] is None or name == "crawler_schedule")
    if (body.get("nullable") is False) == may_be_null:
        yield f"variable {name} must say nullable = false, unless null means something"
    for rule in body.get("validation", ()):
        if not str(rule["error_message"]).startswith(f"{name} m"):
            yield f"variable {name} has a message that doesn't say what it must or may be"


def _badly_named(kind: str, name: str, body: Mapping[str, Any]) -> Iterator[str]:
    """Names that two stacks in one account would fight over."""
    for attribute in NAMING:
        value = body.get(attribute)
        if kind in NAMED_INSIDE or not isinstance(value, str) or value in NAMED_BY_AWS:
            continue
        if "${" not in value:
            yield f"{kind}.{name} is always called {value}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.startswith(kind.removeprefix("aws_") + "_"):
        yield f"{kind}.{name} repeats its kind or isn't in lower case"


def test_the_stack_has_the_files_of_the_plan_and_no_others() -> None:
    assert set(stack_files()) == FILES
    # What Terraform leaves where somebody deploys from, git ignores.
    left = {
        path.name
        for path in STACK.iterdir()
        if not re.search(r"^\.|\.tfstate|\.tfplan$|\.tfvars$", path.name)
    }
    assert left == FILES | {"terraform.tfvars.example", "examples", "tests", "checkov.yaml"}


def test_there_are_as_many_variables_and_outputs_as_promised() -> None:
    assert len(stack_blocks("variable")) == VARIABLE_COUNT
    assert len(stack_blocks("output")) == OUTPUT_COUNT


def test_variables_and_outputs_stand_in_their_files() -> None:
    for name, text in stack_files().items():
        assert bool(parse(text).get("variable")) == (name == "variables.tf"), name
        assert bool(parse(text).get("output")) == (name == "outputs.tf"), name
        assert bool(parse(text).get("provider")) == (name == "providers.tf"), name


def test_every_variable_is_described_typed_and_used() -> None:
    others = "".join(text for name, text in stack_files().items() if name != "variables.tf")
    problems = []
    for name, body in stack_blocks("variable").items():
        problems += _badly_declared(name, body)
        if not re.search(rf"\bvar\.{name}\b", others):
            problems.append(f"variable {name} changes nothing")
    assert not problems, "\n".join(["", *problems])


def test_defaults_are_those_of_the_plan() -> None:
    defaults = {name: body.get("default") for name, body in stack_blocks("variable").items()}
    assert {name: defaults[name] for name in SEED_DEFAULTS} == SEED_DEFAULTS


def test_only_the_password_is_secret_and_it_is_kept_out_of_state_and_plan() -> None:
    flags = ("sensitive", "ephemeral")
    secret = {
        name: {flag for flag in flags if body.get(flag)}
        for name, body in stack_blocks("variable").items()
        if any(body.get(flag) for flag in flags) or "password" in name
    }
    assert secret == {"dms_source_password": {"sensitive", "ephemeral"}}
    assert "default" not in stack_blocks("variable")["dms_source_password"]


def test_every_output_is_described() -> None:
    problems = [
        problem
        for name, body in stack_blocks("output").items()
        for problem in _badly_described("output", name, body)
    ]
    assert not problems, "\n".join(["", *problems])


def test_nothing_is_of_one_account_region_or_partition() -> None:
    problems = [problem for name, text in stack_files().items() for problem in _of_one_account(name, text)]
    assert not problems, "\n".join(["", *problems])


def test_names_are_made_of_the_stacks_name() -> None:
    problems = [problem for resource in stack_resources() for problem in _badly_named(*resource)]
    assert not problems, "\n".join(["", *problems])


def test_the_provider_is_pinned_between_versions_that_are_known() -> None:
    (block,) = parse(stack_files()["versions.tf"])["terraform"]
    assert block["required_version"] == ">= 1.11.0, < 2.0.0"
    assert block["required_providers"] == [
        {"aws": {"source": "hashicorp/aws", "version": ">= 5.100.0, < 7.0.0"}}
    ]


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ('x = "eu-north-1"', "a region: eu-north-1"),
        ('x = "us-gov-west-1a"', "a region: us-gov-west-1a"),
        ('x = "123456789012"', "an account: 123456789012"),
        ('x = "arn:aws:s3:::lake"', "a partition: arn:aws:"),
        ('x = "arn:aws-cn:s3:::lake"', "a partition: arn:aws-cn:"),
        ('x = "AKIAIOSFODNN7EXAMPLE"', "an access key"),
        ('master_password = "hunter2"', "a secret"),
        ('path = "C:\\lake.zip"', "a place on one machine"),
    ],
)
def test_what_is_of_one_account_is_noticed(text: str, objection: str) -> None:
    assert any(objection in problem for problem in _of_one_account("s3.tf", text))


def test_what_is_of_any_account_is_not_noticed() -> None:
    lines = (
        'a = "arn:${local.partition}:s3:::${var.x}"',
        "password = var.password",
        "# as in eu-north-1",
        "b = 1048576",
    )
    assert not list(_of_one_account("s3.tf", "\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ('variable "x" {\n type = string\n nullable = false\n}', "no sentence"),
        ('variable "x" {\n description = "x"\n type = string\n nullable = false\n}', "no sentence"),
        ('variable "x" {\n description = "What x is."\n nullable = false\n}', "no type"),
        ('variable "x" {\n description = "What x is."\n type = string\n}', "nullable"),
        (
            'variable "x" {\n description = "What x is."\n type = string\n'
            " default = null\n nullable = false\n}",
            "nullable",
        ),
        (
            'variable "x" {\n description = "What x is."\n type = string\n nullable = false\n'
            ' validation {\n  condition = true\n  error_message = "Wrong."\n }\n}',
            "message",
        ),
    ],
)
def test_a_badly_declared_variable_is_noticed(text: str, objection: str) -> None:
    (block,) = parse(text)["variable"]
    ((name, body),) = block.items()
    assert any(objection in problem for problem in _badly_declared(name, body))


@pytest.mark.parametrize(
    ("kind", "name", "body", "objection"),
    [
        ("aws_sqs_queue", "transform", {"name": "transform"}, "always called transform"),
        ("aws_s3_bucket", "this", {"bucket": "lake"}, "always called lake"),
        ("aws_sqs_queue", "sqs_queue_raw", {"name": "${local.name}-raw"}, "repeats its kind"),
        ("aws_sqs_queue", "Raw", {"name": "${local.name}-raw"}, "lower case"),
    ],
)
def test_a_badly_named_resource_is_noticed(
    kind: str, name: str, body: dict[str, Any], objection: str
) -> None:
    assert any(objection in problem for problem in _badly_named(kind, name, body))
