"""The pages about AWS name what exists: outputs, variables, alarms, roles, programs, operations and SQL."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import botocore.session
import pytest
import typer
from botocore import xform_name

from smartstream.aws.cost.markdown import BEGIN, END, profiles
from smartstream.cli import app
from smartstream.cli.aws import STEPS, estimates
from tests.aws.docs_text import (
    CHECKLIST,
    GUIDE,
    PAGES,
    README,
    commands_of,
    shell_blocks,
    simple_commands,
    steps,
    text_of,
)
from tests.aws.stack_text import stack_blocks, stack_files, stack_resources
from tests.aws.terraform_runner import STACK

PROGRAMS = {"aws", "psql", "python3", "terraform", "make", "openssl", "smartstream"}
SHELL = {"cat", "cd", "cp", "eval", "export", "grep", "head", "ls", "printenv", "rm", "sleep", "wc"}
TERRAFORM = {"apply", "destroy", "init", "output", "plan", "show", "state", "validate", "version"}

# What the AWS CLI adds to the operations of the services' APIs, and to their members.
AWS_COMMANDS = {"s3 ls", "s3 cp", "logs tail", "ec2-instance-connect ssh"}
AWS_OPTIONS = {
    "--query",
    "--output",
    "--region",
    "--no-deletion-protection",
    "--no-preserve-client-ip",
    "--notification-endpoint",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_output_that_a_page_reads_exists(page: Path) -> None:
    named = set(re.findall(r"terraform output (?:-raw |-json )?(\w+)", text_of(page)))
    assert named or page != CHECKLIST
    assert named <= set(stack_blocks("output"))


def test_raw_is_asked_only_of_outputs_that_are_text() -> None:
    lists = {name for name in stack_blocks("output") if name.endswith("_ids")} | {
        "glue_databases",
        "glue_crawlers",
    }
    for page in PAGES:
        text = text_of(page)
        assert not lists & set(re.findall(r"terraform output -raw (\w+)", text))
        assert set(re.findall(r"terraform output -json (\w+)", text)) <= lists


def test_the_guide_names_every_variable_and_no_other() -> None:
    table = text_of(GUIDE).split("## Variables")[1].split("### Profiles")[0]
    rows = "".join(line for line in table.splitlines() if line.startswith("| "))
    assert sorted(re.findall(r"`([a-z_]+)`", rows)) == sorted(stack_blocks("variable"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_a_page_sets_exists(page: Path) -> None:
    text = text_of(page)
    named = set(re.findall(r"-var (\w+)=", text)) | set(re.findall(r"TF_VAR_(\w+)", text))
    prefixes = "db|dms|kinesis|firehose|raw|transform|ml|athena|force|egress|crawler|alarm"
    code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    alarms = _alarm_names()
    for name in re.findall(rf"`((?:{prefixes})_\w+)(?: = [^`]*)?`", code):
        if name not in alarms and name not in stack_blocks("output"):
            named.add(name)
    assert named - {"raw_cdc", "dms_replication"} <= set(stack_blocks("variable"))


def _alarm_names() -> set[str]:
    """The alarms that the stack declares."""
    declared = stack_files()["cloudwatch.tf"].split("alarms_declared = merge(")[1]
    names = set(re.findall(r"^    (\w+) = \{$", declared.split("metric_namespace =")[0], flags=re.MULTILINE))
    return names | {"ml_overdue"}


def test_the_guide_names_every_alarm_and_what_to_do() -> None:
    table = text_of(GUIDE).split("## Alarms")[1].split("Log groups")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", table, flags=re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(_alarm_names())


def test_the_guide_names_every_role() -> None:
    declared = {
        str(body["name"]).replace("${local.name}", "…").replace("${local.glue_role_name}", "…-glue-crawler")
        for kind, _, body in stack_resources()
        if kind == "aws_iam_role"
    }
    table = text_of(GUIDE).split("### Roles")[1].split("### ")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)) == declared


def test_files_of_the_stack_that_the_guide_names_exist() -> None:
    named = set(re.findall(r"`(\w+\.tf)`", text_of(GUIDE))) - {"backend.tf"}
    assert named and named <= set(stack_files())
    for page in PAGES:
        for name in re.findall(r"examples/([\w-]+\.tfvars)", text_of(page)):
            assert (STACK / "examples" / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", text_of(page)):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_steps_that_a_page_points_to_exist(page: Path) -> None:
    text = text_of(page)
    found = re.findall(r"[Ss]teps? (\d+)(?:, (\d+))?(?: (?:to|and) (\d+))?", text)
    numbers = {int(number) for group in found for number in group if number}
    assert numbers <= set(range(1, len(steps()) + 1))


def test_steps_are_numbered_in_order() -> None:
    assert [title.split(".")[0] for title in steps()] == [str(n) for n in range(1, len(steps()) + 1)]


@pytest.mark.parametrize("title", steps())
def test_each_step_says_how_to_do_it_how_to_prove_it_and_what_to_expect(title: str) -> None:
    do, proof = steps()[title].split("**Prove**")
    assert "**Do**" in do
    assert shell_blocks(do.split("**Do**")[1])
    (prove,) = shell_blocks(proof)
    assert simple_commands(prove)
    assert "\nExpected: " in proof


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_start_programs_that_a_reader_has(page: Path) -> None:
    found = {Path(words[0]).name for words in commands_of(page)}
    assert found <= PROGRAMS | SHELL
    assert {"smartstream", "terraform"} <= found


def test_commands_are_read_as_a_shell_does() -> None:
    shell = 'x=$(frob -a \'b | c\' | aws s3 ls)  # why\nA="1 $(nob)" psql -c "SELECT\n 1 | 2" \\\n  -t'
    read = simple_commands(shell)
    assert sorted(read) == [
        ["aws", "s3", "ls"],
        ["frob", "-a", "b | c"],
        ["nob"],
        ["psql", "-c", "SELECT\n 1 | 2", "-t"],
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on the PATH")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_good_shell(page: Path) -> None:
    for block in shell_blocks(text_of(page)):
        checked = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, check=False, timeout=10
        )
        assert checked.returncode == 0, f"{checked.stderr}{block}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_terraform_is_called_with_commands_that_it_has(page: Path) -> None:
    assert {words[1] for words in commands_of(page) if words[0] == "terraform"} <= TERRAFORM


def _options(words: Sequence[str]) -> set[str]:
    """A call's options by the AWS SDK's description of the service; KeyError when there is no such call."""
    session = botocore.session.get_session()
    service, operation = ("s3" if words[1] == "s3api" else words[1]), words[2]
    model = session.get_service_model(service)
    called = {xform_name(name, "-"): name for name in model.operation_names}
    if operation == "wait":
        waiters = session.get_waiter_model(service)
        name = {xform_name(name, "-"): name for name in waiters.waiter_names}[words[3]]
        shape = model.operation_model(waiters.get_waiter(name).operation).input_shape
    else:
        shape = model.operation_model(called[operation]).input_shape
    return {f"--{xform_name(member, '-')}" for member in (shape.members if shape else ())}


def _has_everything(words: Sequence[str]) -> bool:
    """Whether the AWS CLI knows a call and all of its options."""
    try:
        known = _options(words)
    except KeyError:
        return False
    return {word for word in words if word.startswith("--")} - AWS_OPTIONS <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_calls_of_the_aws_cli_name_operations_and_options_that_exist(page: Path) -> None:
    called = [words for words in commands_of(page) if words[0] == "aws" and words[1] != "--version"]
    asked = [words for words in called if " ".join(words[1:3]) not in AWS_COMMANDS]
    assert asked or page == README
    assert [words for words in asked if not _has_everything(words)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_calls_of_smartstream_aws_name_commands_and_options_that_exist(page: Path) -> None:
    group = typer.main.get_command(app).commands["aws"]  # type: ignore[attr-defined]
    called = [words[2:] for words in commands_of(page) if words[0] == "smartstream" and words[1:2] == ["aws"]]
    named = [words for words in called if words and words[0] != "…"]
    assert named
    for command, *words in named:
        parameters = group.commands[command].params
        known = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
        given = {word for word in words if word.startswith("--") or word in ("-o", "-var", "-var-file")}
        assert given <= known, (command, given - known)


def test_the_guide_describes_every_command_but_cost() -> None:
    table = text_of(GUIDE).split("## Operating it")[1].split("## Alarms")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == sorted(set(STEPS) - {"cost"})


@pytest.mark.parametrize(
    "wrong", ["aws dms start-task --x y", "aws kinesis get-records --iterator x", "aws dms wait task-ready"]
)
def test_calls_that_do_not_exist_would_be_found(wrong: str) -> None:
    assert not _has_everything(wrong.split())


def test_the_readme_and_the_checklist_ask_athena_what_the_saved_query_asks() -> None:
    saved = re.findall(
        r"raw_operations = \{.*?<<-SQL\n(.*?)^\s*SQL", stack_files()["athena.tf"], re.S | re.M
    )[0]
    conditions = " ".join(saved.split("WHERE")[1].split("GROUP")[0].split())
    for page in (README, CHECKLIST):
        assert conditions in " ".join(text_of(page).split()), page.name


def test_the_readme_shows_todays_costs() -> None:
    assert f"{BEGIN}\n{profiles(estimates(STACK))}{END}" in text_of(README)
