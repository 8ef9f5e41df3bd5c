"""Terraform on a copy of the stack: offline where a provider mirror is found, bounded in time.

A ``Terraform`` never works in the repository's own folder, and never sees the
machine's AWS settings: credentials are made up, profiles and the metadata
service are out of reach. What reaches an emulator is named by the caller, in
``endpoints``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "terraform"
LAMBDAS = ("transform", "ml")
MIRROR_VARIABLE = "SMARTSTREAM_TEST_TERRAFORM_MIRROR"

# A password that no file holds: wherever it turns up, it has leaked.
CANARY_PASSWORD = "canary-3f9a61c7e0d24b85"
# All that a plan needs besides the defaults.
REQUIRED_VARIABLES: Mapping[str, Any] = {"dms_source_password": CANARY_PASSWORD}

_IMPLIED_MIRRORS = (
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
)
_MIRROR_IN_CONFIG = re.compile(r'filesystem_mirror\s*\{[^}]*?\bpath\s*=\s*"([^"]+)"')
_FAKE_AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_MAX_ATTEMPTS": "2",
}


class TerraformFailed(AssertionError):
    """A command ended with an error, or not in time; the text holds what it said."""


@dataclass(frozen=True)
class RunReport:
    """How one ``run`` block of a test file ended."""

    file: str
    run: str
    status: str
    diagnostics: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class TestReport:
    """How ``terraform test`` ended, run by run."""

    __test__ = False  # not a class of tests, whatever pytest thinks of its name

    runs: tuple[RunReport, ...]
    diagnostics: tuple[dict[str, Any], ...]

    @property
    def failures(self) -> list[str]:
        """A line for each run that didn't pass, and for each error outside the runs."""
        lines = [
            f"{report.file} {report.run}: {report.status}{describe(report.diagnostics)}"
            for report in self.runs
            if report.status != "pass"
        ]
        return lines + [
            describe((found,)).strip() for found in self.diagnostics if found["severity"] == "error"
        ]


def describe(diagnostics: Sequence[Mapping[str, Any]]) -> str:
    """Diagnostics as indented lines: summary, detail, and where."""
    lines = []
    for found in diagnostics:
        where = found.get("range") or {}
        place = f" ({where['filename']}:{where['start']['line']})" if where else ""
        lines.append(f"\n  {found['severity']}: {found['summary']}{place}: {found.get('detail', '')}")
    return "".join(lines)


def find_mirror(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that providers are installed from: named, configured, implied or below /opt."""
    named = environment.get(MIRROR_VARIABLE)
    if named:
        return Path(named)
    places: list[Path] = []
    config = environment.get("TF_CLI_CONFIG_FILE")
    if config and Path(config).is_file():
        places += [Path(path) for path in _MIRROR_IN_CONFIG.findall(Path(config).read_text(encoding="utf-8"))]
    places += [Path(path).expanduser() for path in _IMPLIED_MIRRORS]
    places += sorted(Path("/opt").glob("*/"))
    return next((place for place in places if (place / "registry.terraform.io").is_dir()), None)


@dataclass(frozen=True)
class Terraform:
    """Commands of Terraform in one folder, a copy of the stack."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def in_copy(cls, workdir: Path, *, mirror: Path | None) -> Terraform:
        """Copy the stack to ``workdir``/terraform with stub Lambda packages beside it; not initialised.

        Without a mirror, ``init`` asks Terraform's registry, when the network lets it.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        folder = _copy_stack(workdir)
        config = workdir / "terraform.rc"
        config.write_text(_cli_config(mirror), encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        settings = {
            "TF_CLI_CONFIG_FILE": str(config),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
        }
        return cls(folder, {**kept, **_FAKE_AWS, **settings})

    def fork(self, workdir: Path) -> Terraform:
        """A fresh copy of the repository's stack in ``workdir`` that needs no ``init`` of its own."""
        workdir.mkdir(parents=True, exist_ok=True)
        folder = _copy_stack(workdir)
        shutil.copytree(self.folder / ".terraform", folder / ".terraform", symlinks=True)
        shutil.copy2(self.folder / ".terraform.lock.hcl", folder)
        return replace(self, folder=folder)

    def with_endpoints(self, default: str | None = None, **services: str) -> Terraform:
        """The same, talking to emulators: ``default`` for all services, and some by their SDK name."""
        names = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in services.items()}
        if default is not None:
            names["AWS_ENDPOINT_URL"] = default
        return replace(self, environment={**self.environment, **names})

    def with_environment(self, **variables: str) -> Terraform:
        """The same with more environment variables."""
        return replace(self, environment={**self.environment, **variables})

    def init(self) -> None:
        """Install the provider, from the mirror or the registry."""
        self.run("init", "-backend=false", "-no-color", timeout_s=120)

    def validate(self) -> dict[str, Any]:
        """The JSON report of ``validate``: ``valid``, ``diagnostics`` with errors and warnings."""
        done = self.run("validate", "-json", timeout_s=60, check=False)
        return _parse(done.stdout, done)

    def plan_json(
        self, variables: Mapping[str, Any] | None = None, *, timeout_s: float = 120
    ) -> dict[str, Any]:
        """A plan from nothing or from this folder's state, as ``show -json`` tells it."""
        saved = self.folder / "test.tfplan"
        self.run("plan", "-no-color", f"-out={saved}", *self._variables(variables), timeout_s=timeout_s)
        done = self.run("show", "-json", str(saved), timeout_s=60)
        return _parse(done.stdout, done)

    def apply(self, variables: Mapping[str, Any] | None = None, *, timeout_s: float = 300) -> str:
        """Apply without asking; what Terraform said."""
        options = ("-auto-approve", "-no-color", "-parallelism=20")
        return self.run("apply", *options, *self._variables(variables), timeout_s=timeout_s).stdout

    def destroy(self, variables: Mapping[str, Any] | None = None, *, timeout_s: float = 300) -> str:
        """Destroy without asking; what Terraform said."""
        options = ("-auto-approve", "-no-color", "-parallelism=20")
        return self.run("destroy", *options, *self._variables(variables), timeout_s=timeout_s).stdout

    def outputs(self) -> dict[str, Any]:
        """The values of the outputs in this folder's state, by name."""
        done = self.run("output", "-json", timeout_s=60)
        return {name: found["value"] for name, found in _parse(done.stdout, done).items()}

    def state_json(self) -> dict[str, Any]:
        """This folder's state, as ``show -json`` tells it."""
        done = self.run("show", "-json", timeout_s=60)
        return _parse(done.stdout, done)

    def test(self, *files: str, timeout_s: float = 300) -> TestReport:
        """Run ``terraform test``: all files, or those named like ``tests/variables.tftest.hcl``."""
        filters = [f"-filter={file}" for file in files]
        done = self.run("test", "-json", "-no-color", *filters, timeout_s=timeout_s, check=False)
        return _read_test_report(done)

    def run(
        self, command: str, *arguments: str, timeout_s: float, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """One command; its process and its providers are gone afterwards, also when time is up.

        Raises:
            TerraformFailed: it took too long, or (with ``check``) ended with an error.
        """
        process = subprocess.Popen(
            ["terraform", command, *arguments],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            raise TerraformFailed(
                f"terraform {command} took longer than {timeout_s} s:\n{_tail(output, errors)}"
            ) from None
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        if check and done.returncode != 0:
            raise TerraformFailed(
                f"terraform {command} ended with {done.returncode}:\n{_tail(output, errors)}"
            )
        return done

    def _variables(self, variables: Mapping[str, Any] | None) -> list[str]:
        """The option that passes variables, from a file outside the stack's folder."""
        path = self.folder.parent / "test.tfvars.json"
        path.write_text(json.dumps({**REQUIRED_VARIABLES, **(variables or {})}), encoding="utf-8")
        return [f"-var-file={path}"]


def _copy_stack(workdir: Path) -> Path:
    """The stack without anybody's state, and packages that only look like Lambda packages."""
    folder = workdir / "terraform"
    shutil.copytree(
        STACK,
        folder,
        ignore=shutil.ignore_patterns(
            ".terraform*", "*.tfstate*", "*.tfplan", "terraform.tfvars", "*.auto.tfvars"
        ),
    )
    packages = workdir / "build" / "lambdas"
    packages.mkdir(parents=True)
    for name in LAMBDAS:
        entry = zipfile.ZipInfo("lambda_function.py", date_time=(1980, 1, 1, 0, 0, 0))
        with zipfile.ZipFile(packages / f"{name}.zip", "w") as package:
            package.writestr(entry, "def lambda_handler(event, context):\n    return {}\n")
    return folder


def _cli_config(mirror: Path | None) -> str:
    """Terraform's own configuration: the mirror and nothing else, or the registry."""
    if mirror is None:
        return ""
    return f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror.as_posix()}"\n  }}\n}}\n'


def _parse(text: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON document that a command printed."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        raise TerraformFailed(f"{done.args} printed no JSON:\n{_tail(text, done.stderr)}") from None
    return found


def _read_test_report(done: subprocess.CompletedProcess[str]) -> TestReport:
    """What the lines of ``test -json`` say about each run."""
    ends: dict[tuple[str, str], str] = {}
    by_run: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for message in _messages(done.stdout):
        key = (message.get("@testfile", ""), message.get("@testrun", ""))
        if message["type"] == "test_run" and message["test_run"].get("status"):
            ends[key] = message["test_run"]["status"]
        elif message["type"] == "diagnostic":
            by_run.setdefault(key, []).append(message["diagnostic"])
    runs = tuple(RunReport(*key, status, tuple(by_run.pop(key, ()))) for key, status in ends.items())
    others = tuple(found for diagnostics in by_run.values() for found in diagnostics)
    if not runs and not others:
        raise TerraformFailed(f"terraform test said nothing:\n{_tail(done.stdout, done.stderr)}")
    return TestReport(runs, others)


def _messages(text: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in text.splitlines() if line.startswith("{"))


def _tail(output: str, errors: str, lines_max: int = 60) -> str:
    """The end of what a command said, errors last."""
    return "\n".join([*output.splitlines()[-lines_max:], *errors.splitlines()[-lines_max:]])
