"""The documentation is current: generated pages, commands, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from smartstream.cli import app
from smartstream.cli.app import COMMANDS
from smartstream.cli.docs import pages
from smartstream.config import Settings, load
from smartstream.doctor.lake import PACKAGES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_pages_are_current(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run: python -m smartstream.cli.docs"


def test_every_command_is_in_the_list_and_explains_itself() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(commands) == sorted(COMMANDS)
    for command in commands.values():
        assert command.help
        for parameter in command.params:
            assert parameter.help, f"{command.name} {parameter.name}"


def test_every_setting_is_explained() -> None:
    schema = Settings.model_json_schema()
    definitions = {name: part for name, part in schema["$defs"].items() if "properties" in part}
    for name, part in {"Settings": schema, **definitions}.items():
        for key, value in part["properties"].items():
            assert "description" in value or "$ref" in value, f"{name}.{key}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_only_commands_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    called = re.findall(r"(?:^|`|/|&& )smartstream(?: -C \S+)? ([a-z]+)\b", text, flags=re.MULTILINE)
    assert set(called) <= set(COMMANDS)


def test_the_example_of_the_configuration_page_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", pages()["configuration.md"], flags=re.DOTALL)
    (tmp_path / "smartstream.yaml").write_text(example)
    assert load(tmp_path / "smartstream.yaml").name == "shop"


def test_doctor_and_pyproject_agree_on_versions() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, (least, below) in PACKAGES.items():
        (wanted,) = re.findall(rf'"{re.escape(name)}(?:\[[^\]]*\])?([^"]+)"', project.split("optional")[0])
        number = tuple(int(part) for part in re.findall(r"\d+", wanted.split(",")[0]))
        assert number[: len(least)] == least, name
        upper = re.findall(r"<([\d.]+)", wanted)
        if upper:
            assert below == tuple(int(part) for part in upper[0].split(".")), name


@pytest.mark.parametrize("name", ["server-events.md", "transactions.md"])
def test_pages_of_cases_name_tests_that_exist(name: str) -> None:
    """By the beginning of their names, without ``test_``; a case of a table by its own name."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    known = re.findall(r"^def (?:test_)?(\w+)\(", code, flags=re.MULTILINE)
    rows = [line for line in (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines() if "|" in line]
    named = [
        found for row in rows for found in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)…?`", row.split("|")[-2])
    ]
    assert len(named) > 10
    for one in named:
        assert any(each.startswith(one) for each in known), one
