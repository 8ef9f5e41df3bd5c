"""The stack as Terraform describes it: its outputs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartstream.errors import StackMissing, TerraformUnusable

TERRAFORM_SECONDS_MAX = 120
_STDERR_LINES_MAX = 5

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True, slots=True)
class StackOutputs:
    """Values of the stack's outputs by name.

    Attributes:
        where: folder or file that they come from, for messages.
    """

    values: Mapping[str, Any]
    where: str

    def text(self, name: str) -> str:
        """Return an output that is text.

        Raises:
            StackMissing: there is none of this name, or it is empty.
        """
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise StackMissing(f"{self.where}: the stack has no output {name}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an output that is a list of texts; errors as ``text``."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise StackMissing(f"{self.where}: the stack has no output {name}")
        return tuple(str(one) for one in value)

    def mapping(self, name: str) -> dict[str, str]:
        """Return an output that is an object of texts; errors as ``text``."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise StackMissing(f"{self.where}: the stack has no output {name}")
        return {str(key): str(one) for key, one in value.items()}

    @property
    def bucket(self) -> str:
        """The data lake's bucket."""
        return self.text("data_lake_bucket")

    @property
    def raw_prefix(self) -> str:
        """The raw zone's prefix in the bucket, with a slash at its end."""
        return self.text("raw_s3_uri").removeprefix(f"s3://{self.bucket}/")


def read_outputs(folder: Path, *, run: Run = subprocess.run) -> StackOutputs:
    """Ask Terraform for the outputs of the stack in ``folder``.

    Raises:
        TerraformUnusable: it is not installed, or ends with an error.
        StackMissing: nothing has been applied from this folder.
    """
    answer = terraform(folder, ["output", "-json"], run=run)
    return _outputs(answer, str(folder))


def outputs_file(path: Path) -> StackOutputs:
    """Read what ``terraform output -json`` printed.

    Raises:
        StackMissing: the file is missing, no such output, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StackMissing(f"{path}: cannot be read: {type(error).__name__}") from error
    return _outputs(text, str(path))


def terraform(folder: Path, arguments: Sequence[str], *, run: Run = subprocess.run) -> str:
    """Run a command of Terraform that only reads, and return what it prints.

    Raises:
        TerraformUnusable: as ``read_outputs``.
    """
    command = ["terraform", f"-chdir={folder}", *arguments, "-no-color"]
    try:
        ran = run(command, capture_output=True, text=True, check=False, timeout=TERRAFORM_SECONDS_MAX)
    except FileNotFoundError as error:
        raise TerraformUnusable("terraform is not installed, or not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise TerraformUnusable(f"terraform has not answered within {TERRAFORM_SECONDS_MAX} s") from error
    if ran.returncode:
        said = [line.strip() for line in ran.stderr.splitlines() if line.strip(" \n│╷╵")]
        raise TerraformUnusable(f"terraform {arguments[0]}: {' '.join(said[:_STDERR_LINES_MAX])}")
    return ran.stdout


def _outputs(text: str, where: str) -> StackOutputs:
    """The values in Terraform's JSON."""
    try:
        content = json.loads(text)
        values = {name: one["value"] for name, one in content.items()}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise StackMissing(f"{where}: this is not what `terraform output -json` prints") from error
    if not values:
        raise StackMissing(f"{where}: the stack has no outputs; it has not been applied")
    return StackOutputs(values, where)
