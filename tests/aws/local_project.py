"""The project that the stack on emulators is given, and the command line that works on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aws.applied_stack import LocalStack, LocalStackFailed
from tests.aws.emulators import REGION
from tests.model_lake import doubling_model

MODEL = "raises"
COMMAND_SECONDS_MAX = 240
SOURCE_VARIABLE = "LOCAL_STACK_SOURCE"

CONFIG = f"""
version: 1
source: {{url: "${{env:{SOURCE_VARIABLE}}}"}}
tables: {{"public.*": null}}
models:
  - name: {MODEL}
    uri: {MODEL}.onnx
    features: {MODEL}.sql
    key: [id]
    inputs: [{{name: pay}}]
    keep: both
"""
FEATURES = """
SELECT e.id, coalesce(CAST(e.salary AS double), 0) + coalesce(CAST(sum(s.amount) AS double), 0) AS pay
FROM employees e LEFT JOIN salaries s ON s.employee_id = e.id
GROUP BY e.id, e.salary
"""


@dataclass(frozen=True)
class Project:
    """A folder with a configuration, and the commands in it.

    Attributes:
        outputs: what ``terraform output -json`` would print.
    """

    folder: Path
    outputs: Path
    environment: Mapping[str, str]

    @classmethod
    def of(cls, stack: LocalStack, folder: Path, lake: str = "") -> Project:
        """A fresh one; ``lake`` is YAML that says where the lake is, beside the configuration by default."""
        folder.mkdir(parents=True)
        (folder / "smartstream.yaml").write_text(CONFIG + lake, encoding="utf-8")
        (folder / f"{MODEL}.sql").write_text(FEATURES, encoding="utf-8")
        doubling_model(folder / f"{MODEL}.onnx")
        outputs = folder / "outputs.json"
        outputs.write_text(json.dumps({name: {"value": value} for name, value in stack.outputs.items()}))
        told = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, SOURCE_VARIABLE: stack.source}
        return cls(folder, outputs, {**stack.terraform.environment, **told})

    @classmethod
    def in_stack(cls, stack: LocalStack, folder: Path) -> Project:
        """One whose lake is that of the stack."""
        prefix = f"{stack.outputs['name_prefix']}_".replace("-", "_")
        catalog = {"type": "glue", "properties": {"database_prefix": prefix}}
        s3 = {"endpoint": stack.emulators.default, "region": REGION}
        lake = {"warehouse": f"s3://{stack.outputs['data_lake_bucket']}", "catalog": catalog, "s3": s3}
        return cls.of(stack, folder, f"lake: {json.dumps(lake)}\n")

    def run(self, *arguments: str) -> str:
        """Run ``smartstream …``; what it printed.

        Raises:
            LocalStackFailed: it ended with anything but 0.
        """
        done = subprocess.run(
            [sys.executable, "-m", "smartstream", "-C", str(self.folder), *arguments],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            # Without the arguments, among which is the source's URL with its password.
            raise LocalStackFailed(
                f"smartstream {' '.join(arguments[:2])} ended with {done.returncode}:\n{said}"
            )
        return done.stdout

    def aws(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run ``smartstream aws …``; its answer in JSON.  Errors as ``run``."""
        answer = self.run("aws", name, *arguments, "--outputs", str(self.outputs), "--json")
        return dict(json.loads(answer))

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Ask the lake; one object for each row.  Errors as ``run``."""
        return list(json.loads(self.run("sql", statement, "-o", "json")))
