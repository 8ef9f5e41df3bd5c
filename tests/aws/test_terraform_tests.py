"""Terraform's own tests pass, and leave out no validation, no profile and no value.

The runs of ``tests/variables_*.tftest.hcl`` only need variables.tf. Here they run without
the rest of the stack and without its provider, a hundred times faster: that leaves the time
to ask of each run which rule it was that objected. ``terraform test`` in the stack's folder
runs the same files on all of it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.aws.stack_text import PROFILES, parse, profile, runs_of, stack_blocks, stack_files, validations
from tests.aws.terraform_runner import CANARY_PASSWORD, STACK, Terraform, TerraformFailed

VARIABLE_TESTS = sorted((STACK / "tests").glob("variables_*.tftest.hcl"))
STACK_TESTS = ("tests/stack.tftest.hcl", "tests/profiles.tftest.hcl")
SECRET = "dms_source_password"

Rule = tuple[str, int]

_MOCK = re.compile(r'^mock_provider "aws" \{.*?^\}\n', re.M | re.S)
_RUN = re.compile(r'^run "(\w+)" \{\n.*?^\}\n', re.M | re.S)
_EXPECTED = re.compile(r"^  expect_failures = \[var\.(\w+)\]\n", re.M)
_CHECKED_AT = re.compile(r"This was checked by the validation rule at variables\.tf:(\d+)")


@pytest.fixture(scope="session")
def no_provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for modules that need no provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not on the PATH")
    return tmp_path_factory.mktemp("variables")


def _variables_only(workdir: Path, variables: str, tests: Mapping[str, str]) -> Terraform:
    """A module of variables alone, with these test files."""
    stack = Terraform.in_copy(workdir, mirror=None)
    shutil.rmtree(stack.folder)
    (stack.folder / "tests").mkdir(parents=True)
    (stack.folder / "variables.tf").write_text(variables, encoding="utf-8")
    for name, text in tests.items():
        (stack.folder / "tests" / name).write_text(_MOCK.sub("", text), encoding="utf-8")
    stack.init()
    return stack


def _rejecting_runs() -> dict[str, tuple[str, str]]:
    """The variable that each rejecting run is about, and a test file of that run that expects nothing."""
    found = {}
    for path in VARIABLE_TESTS:
        text = path.read_text(encoding="utf-8")
        head = text[: text.index('\nrun "')]
        for run in _RUN.finditer(text):
            if expected := _EXPECTED.search(run[0]):
                found[run[1]] = (expected[1], head + _EXPECTED.sub("", run[0]))
    return found


@pytest.fixture(scope="session")
def objections(no_provider: Path) -> dict[str, list[tuple[Rule, str]]]:
    """Which rules object in each rejecting run, and what they say."""
    tests = {f"{name}.tftest.hcl": text for name, (_, text) in _rejecting_runs().items()}
    text = stack_files()["variables.tf"]
    lines = {line: (variable, line) for variable, line in validations(text)}
    report = _variables_only(no_provider / "objections", text, tests).test()
    found: dict[str, list[tuple[Rule, str]]] = {}
    for run in report.runs:
        for diagnostic in run.diagnostics:
            checked = _CHECKED_AT.search(diagnostic["detail"])
            assert checked, f"{run.run} failed for another reason: {diagnostic}"
            found.setdefault(run.run, []).append((lines[int(checked[1])], diagnostic["detail"]))
    return found


def _untested(rules: Iterable[Rule], objections: Mapping[str, list[tuple[Rule, str]]]) -> list[Rule]:
    """Rules that in no run are the only one to object: without them, no test would fail."""
    alone = {found[0][0] for found in objections.values() if len(found) == 1}
    return [rule for rule in rules if rule not in alone]


def test_wrong_values_are_rejected_and_those_just_inside_accepted(no_provider: Path) -> None:
    tests = {path.name: path.read_text(encoding="utf-8") for path in VARIABLE_TESTS}
    report = _variables_only(no_provider / "all", stack_files()["variables.tf"], tests).test()
    assert not report.failures, "\n".join(["", *report.failures])
    assert len(report.runs) == sum(len(runs_of(path)) for path in VARIABLE_TESTS)


def test_every_rule_is_needed_by_a_run(objections: dict[str, list[tuple[Rule, str]]]) -> None:
    rules = list(validations(stack_files()["variables.tf"]))
    assert not _untested(rules, objections)


def test_a_rule_without_a_run_is_noticed(objections: dict[str, list[tuple[Rule, str]]]) -> None:
    rule = objections["rejects_four_zones"][0][0]
    others = {run: found for run, found in objections.items() if found[0][0] != rule}
    assert _untested([rule], objections) == []
    assert _untested([rule], others) == [rule]


def test_a_rule_that_lets_everything_through_is_noticed(no_provider: Path) -> None:
    weakened = stack_files()["variables.tf"].replace("contains([2, 3], var.az_count)", "var.az_count != null")
    network = {"network.tftest.hcl": (STACK / "tests" / "variables_network.tftest.hcl").read_text("utf-8")}
    failures = _variables_only(no_provider / "weakened", weakened, network).test().failures
    assert failures[0].startswith("tests/network.tftest.hcl rejects_one_zone: error")
    assert "was expected to report an error but did not" in failures[0]


def test_only_the_variable_that_is_wrong_objects(objections: dict[str, list[tuple[Rule, str]]]) -> None:
    about = {run: variable for run, (variable, _) in _rejecting_runs().items()}
    assert set(objections) == set(about)
    wrong = {run for run, found in objections.items() if {rule[0] for rule, _ in found} != {about[run]}}
    assert not wrong


def test_messages_say_what_was_given_but_never_a_secret(
    objections: dict[str, list[tuple[Rule, str]]],
) -> None:
    runs = {name: run for path in VARIABLE_TESTS for name, run in runs_of(path).items()}
    for name, found in objections.items():
        for (variable, _), message in found:
            assert message.startswith(f"{variable} m"), message  # must, may
            if variable == SECRET:
                assert runs[name]["variables"][SECRET] not in message
            else:
                assert "; given: " in message, message


def _is_bounded(body: Mapping[str, Any]) -> bool:
    """Whether a variable can be wrong: a yes or no can't, unless a rule says when it must be which."""
    return bool(body.get("validation")) or body["type"] != "bool"


def test_every_variable_that_can_be_wrong_has_a_rule_and_an_accepting_run() -> None:
    accepted = {
        variable
        for path in VARIABLE_TESTS
        for run in runs_of(path).values()
        if "expect_failures" not in run
        for variable in run["variables"]
    }
    for name, body in stack_blocks("variable").items():
        if _is_bounded(body):
            assert body.get("validation"), f"{name} accepts anything"
            assert name in accepted, f"no run shows what {name} accepts"


def test_the_stack_and_its_profiles_pass_their_tests(initialized_stack: Terraform, tmp_path: Path) -> None:
    stack = initialized_stack.fork(tmp_path / "stack")
    report = stack.test(*STACK_TESTS)
    assert not report.failures, "\n".join(["", *report.failures])
    runs = sum(len(runs_of(STACK / file)) for file in STACK_TESTS)
    assert len(report.runs) == runs


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_tested_with_the_values_of_its_file(name: str) -> None:
    run = runs_of(STACK / "tests" / "profiles.tftest.hcl")[f"profile_{name.replace('-', '_')}"]
    assert run["variables"] == profile(name)


def test_every_example_is_a_profile() -> None:
    assert {path.name for path in (STACK / "examples").iterdir()} == {f"{name}.tfvars" for name in PROFILES}


def test_the_template_holds_every_variable_with_its_default_except_the_secret() -> None:
    template = parse((STACK / "terraform.tfvars.example").read_text(encoding="utf-8"))
    defaults = {name: body["default"] for name, body in stack_blocks("variable").items() if name != SECRET}
    assert template == defaults


def test_no_file_of_values_holds_a_secret() -> None:
    for path in (STACK / "terraform.tfvars.example", *(STACK / "examples").glob("*.tfvars")):
        assert not re.search(rf"^\s*{SECRET}\s*=", path.read_text(encoding="utf-8"), re.M), path.name


def test_a_plan_without_lambda_packages_says_how_to_build_them(
    terraform: Terraform, account_answers: str
) -> None:
    shutil.rmtree(terraform.folder.parent / "build")
    with pytest.raises(TerraformFailed, match="make lambdas") as problem:
        terraform.with_endpoints(account_answers).plan_json()
    assert CANARY_PASSWORD not in str(problem.value)
