"""What docs/quality.md and docs/contracts.md show is what happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from smartstream.cli import main
from smartstream.config import load, rules_of
from smartstream.quality.config import OPERATORS, Arguments, Metric, OnFail, QualitySettings
from smartstream.quality.odcs.document import read_contract
from smartstream.quality.results import RESULTS_SCHEMA
from smartstream.quality.watch import QualityWatch
from smartstream.query import open_lake, run_sql
from tests.integration.quality_lake import Clock, check, fill, settings_in
from tests.unit.test_odcs import assert_valid

DOCS = Path(__file__).parents[2] / "docs"
QUALITY = (DOCS / "quality.md").read_text(encoding="utf-8")
CONTRACTS = (DOCS / "contracts.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def settings_blocks() -> list[str]:
    found = [block for page in (QUALITY, CONTRACTS) for block in blocks(page, "yaml")]
    return [block for block in found if "apiVersion" not in block]


@pytest.mark.parametrize("number", range(len(settings_blocks())))
def test_settings_in_the_pages_are_valid(number: int, tmp_path: Path) -> None:
    path = tmp_path / "smartstream.yaml"
    path.write_text("source: {url: 'postgresql://u@h/d'}\n" + settings_blocks()[number])
    assert load(path)


def test_the_first_example_shows_every_metric_and_every_way_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "smartstream.yaml"
    path.write_text("source: {url: 'postgresql://u@h/d'}\n" + blocks(QUALITY, "yaml")[0])
    metrics = rules_of(load(path), "public.orders").metrics
    assert {one.metric for one in metrics} == set(Metric)
    assert {one.on_fail for one in metrics} == set(OnFail)


def test_every_name_is_on_the_page() -> None:
    arguments = [field.alias or name for name, field in Arguments.model_fields.items()]
    names = [
        *map(str, Metric),
        *OPERATORS.values(),
        *arguments,
        *map(str, OnFail),
        *QualitySettings.model_fields,
    ]
    names += [column.name for column in RESULTS_SCHEMA.columns]
    missing = [name for name in names if name not in QUALITY]
    assert not missing


def test_the_shown_breaker_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "smartstream.yaml"
    (block,) = [block for block in blocks(QUALITY, "yaml") if "quarantine_ratio_max" in block]
    path.write_text("source: {url: 'postgresql://u@h/d'}\n" + block)
    assert load(path).quality == QualitySettings()


def test_the_query_of_the_page_runs(tmp_path: Path) -> None:
    settings, clock = settings_in(tmp_path), Clock()
    fill(settings, [{"id": 1}])
    checks = {"public.orders": [check("rowCount", mustBe=2)]}
    QualityWatch(settings, lambda: checks, clock=clock).look()
    (statement,) = blocks(QUALITY, "sql")
    with open_lake(settings) as lake:
        out = b"".join(run_sql(lake, statement, output="csv")).decode()
    assert out.splitlines()[1].startswith("public.orders,rowCount,1.0,mustBe 2,rows,false,")


@pytest.fixture
def contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the contracts of the page under the names that stand before them."""
    names = re.findall(r"`([\w-]+\.odcs\.yaml)`(?=[^`]*:\n\n```yaml)", CONTRACTS)
    files = [block for block in blocks(CONTRACTS, "yaml") if "apiVersion" in block]
    assert len(names) == len(files) == 2
    for name, text in zip(names, files, strict=True):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_contracts_of_the_page_are_valid(contracts: Path) -> None:
    from smartstream import yaml_file

    for path in contracts.glob("*.odcs.yaml"):
        assert read_contract(path)
        assert_valid(yaml_file.read(path).data)


@pytest.mark.parametrize("number", range(len(blocks(CONTRACTS, "console"))))
def test_commands_of_the_page_say_what_it_shows(
    contracts: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command, shown = blocks(CONTRACTS, "console")[number].split("\n", 1)
    assert shutil.which("smartstream") or command.startswith("$ smartstream ")
    main(command.removeprefix("$ smartstream ").split())
    out = capsys.readouterr().out
    assert [line.rstrip() for line in out.splitlines()] == [line.rstrip() for line in shown.splitlines()]
