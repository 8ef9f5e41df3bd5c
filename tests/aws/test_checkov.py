"""checkov finds nothing, and each exception has a reason, its resources, and is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.aws.terraform_runner import STACK

CONFIG = STACK / "checkov.yaml"
CHECKOV = Path(sys.prefix) / "checkov" / "bin" / "checkov"
TIMEOUT_S = 120
# Far fewer would mean that checkov hasn't read the stack.
PASSED_MIN = 300

needs_checkov = pytest.mark.skipif(
    not CHECKOV.is_file(), reason="checkov is not installed: make checkov, or see requirements-checkov.lock"
)

Failures = dict[str, set[str]]


@dataclass(frozen=True)
class Exemption:
    """A check that is skipped, with what its comment says of it."""

    check: str
    resources: frozenset[str]
    reason: str
    is_held_in_prod: bool


@dataclass(frozen=True)
class Scan:
    """What checkov said: how many checks passed, and which resources failed which."""

    passed_count: int
    failures: Failures


def _exemptions(text: str) -> list[Exemption]:
    """The entries of ``skip-check`` with the comment right above each of them.

    Raises:
        ValueError: an entry has no comment of the form that the file's head tells of.
    """
    found, comment = [], list[str]()
    for line in text.partition("skip-check:\n")[2].splitlines():
        if entry := re.fullmatch(r"  - (\S+)(.*)", line):
            found.append(_exemption(entry[1], comment))
        comment = [*comment, line.strip().removeprefix("# ")] if line.strip().startswith("# ") else []
    return found


def _exemption(check: str, comment: list[str]) -> Exemption:
    if len(comment) != 2 or not (head := re.fullmatch(r"(Not in prod, on|On) (.+)", comment[0])):
        raise ValueError(f"{check} has no two lines above it: its resources, and the reason")
    sentence = comment[1]
    if len(sentence.split()) < 6 or not sentence[0].isupper() or not sentence.endswith("."):
        raise ValueError(f"{check} has no sentence for a reason: {sentence!r}")
    return Exemption(check, frozenset(head[2].split(", ")), sentence, head[1] != "On")


def _scan(workdir: Path, *options: str, exempting: bool = True) -> Scan:
    """Run checkov on ``workdir``/terraform, without a network to ask."""
    config = YAML(typ="safe").load(CONFIG.read_text(encoding="utf-8"))
    if not exempting:
        del config["skip-check"]
    path = workdir / "checkov.yaml"
    YAML(typ="safe").dump(config, path)
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [CHECKOV, "--config-file", path, "--output", "json", *options],
        cwd=workdir,
        env={**os.environ, **nowhere, "LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return _read(done)


def _read(done: subprocess.CompletedProcess[str]) -> Scan:
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(
            f"checkov ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}"
        ) from None
    assert answer["summary"]["parsing_errors"] == 0, "checkov could not read a file of the stack"
    failures: Failures = defaultdict(set)
    for failed in answer["results"]["failed_checks"]:
        failures[failed["check_id"]].add(failed["resource"])
    return Scan(answer["summary"]["passed"], dict(failures))


@pytest.fixture(scope="module")
def stack_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stack in it as it is written, without anybody's state or variables."""
    workdir = tmp_path_factory.mktemp("checkov")
    foreign = shutil.ignore_patterns(".terraform*", "*.tfstate*", "terraform.tfvars", "*.auto.tfvars")
    shutil.copytree(STACK, workdir / "terraform", ignore=foreign)
    return workdir


@pytest.fixture(scope="module")
def unexempted(stack_copy: Path) -> Scan:
    """What checkov finds when nothing is skipped."""
    return _scan(stack_copy, exempting=False)


@needs_checkov
def test_no_check_fails(stack_copy: Path) -> None:
    scan = _scan(stack_copy)
    assert scan.failures == {}
    assert scan.passed_count > PASSED_MIN


@needs_checkov
def test_each_exemption_is_needed_and_covers_what_it_names_and_no_more(unexempted: Scan) -> None:
    named = {found.check: set(found.resources) for found in _exemptions(CONFIG.read_text(encoding="utf-8"))}
    assert unexempted.failures == named


@needs_checkov
def test_production_holds_what_the_defaults_do_not(stack_copy: Path) -> None:
    scan = _scan(stack_copy, "--var-file", "terraform/examples/prod.tfvars", exempting=False)
    exemptions = _exemptions(CONFIG.read_text(encoding="utf-8"))
    assert set(scan.failures) == {found.check for found in exemptions if not found.is_held_in_prod}
    assert any(found.is_held_in_prod for found in exemptions)


@needs_checkov
def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    text = (STACK / "rds.tf").read_text(encoding="utf-8")
    wrong, count = re.subn(r"(storage_encrypted +)= true", r"\1= false", text)
    assert count == 1
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "rds.tf").write_text(wrong, encoding="utf-8")
    assert "aws_db_instance.source" in _scan(tmp_path).failures["CKV_AWS_16"]


def test_exemptions_stand_in_one_file_and_each_once() -> None:
    checks = [found.check for found in _exemptions(CONFIG.read_text(encoding="utf-8"))]
    assert checks and len(checks) == len(set(checks))
    assert YAML(typ="safe").load(CONFIG.read_text(encoding="utf-8"))["skip-check"] == checks
    inline = [path.name for path in STACK.rglob("*.tf") if "checkov:skip" in path.read_text(encoding="utf-8")]
    assert not inline


@pytest.mark.parametrize(
    "text",
    [
        "skip-check:\n  - CKV_AWS_1\n",
        "skip-check:\n  # On aws_x.y\n  - CKV_AWS_1\n",
        "skip-check:\n  # On aws_x.y\n  # false alarm\n  - CKV_AWS_1\n",
        "skip-check:\n  # Because we want it to be like this.\n  - CKV_AWS_1\n",
        "skip-check:\n  # On aws_x.y\n  # It is like this for good reason.\n  - CKV_AWS_1\n  - CKV_AWS_2\n",
    ],
)
def test_an_exemption_without_resources_or_reason_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CKV_AWS_"):
        _exemptions(text)
