"""docs/models.md: its configuration is valid, and its commands do what the page says."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from smartstream.cli import main
from smartstream.config import Settings, load
from smartstream.errors import ExitCode
from tests.model_lake import ModelLake, doubling_model, model

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = sorted({" ".join(one.split()[1:]) for one in re.findall(r"`(smartstream\s[^`]*)`", TEXT)})
ELSEWHERE = {"run", "model dataset", "why hr.employees 17"}
"""They need a source, or files: test_pipeline, test_model_dataset and test_model_made_from run them."""


def test_the_configuration_of_the_page_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    given = YAML(typ="safe").load(block.replace("…", "a" * 64))
    (made,) = Settings.model_validate({"source": {"url": "postgresql://unused"}, **given}).models
    assert (made.name, made.keep) == ("attrition", "both")


def test_the_commands_of_the_page_work(tmp_path: Path, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    doubling_model(tmp_path / "double.onnx")
    (tmp_path / "f.sql").write_text("SELECT id, pay FROM people")
    models = [model("attrition", "f.sql")]
    lake = ModelLake(tmp_path, random.Random(seed), models)
    lake.rows["people"], lake.lsn = {(17,): (1, 5)}, 1
    lake.commit("people", {(17,)})
    source = {"url": "postgresql://unused"}
    with (tmp_path / "smartstream.yaml").open("w") as file:
        YAML().dump({"source": source, "models": models}, file)
    assert load(tmp_path / "smartstream.yaml").models
    lake.run("attrition")
    assert set(COMMANDS) > ELSEWHERE and "model run NAME" in COMMANDS
    for command in sorted(set(COMMANDS) - ELSEWHERE):
        words = command.replace("NAME", "attrition").split()
        code = main(["-C", str(tmp_path), *words])
        assert code == ExitCode.OK, (command, capsys.readouterr().err)
