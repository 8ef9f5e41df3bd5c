"""docs/transform.md: each example does what the page says, and no rule or option is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from smartstream.config import load, rules_of
from smartstream.rule_options import Model
from smartstream.rules_config import CheckRule, CleanRule, TableRules
from smartstream.transform.rules import CompiledRules, Dedupe, compile_rules
from smartstream.transform.rules.functions import ALLOWED
from tests.rule_setting import Result, run, table

PAGE = Path(__file__).parents[1] / "docs" / "transform.md"
TEXT = PAGE.read_text(encoding="utf-8")
KEY = "a key of 16 bytes or more"
_EXAMPLE = re.compile(
    r"(?:```python\n(?P<code>.*?)```\n\n)?```yaml\n(?P<yaml>[^`]*?)```\n\n(?P<rows>(?:\|[^\n]*\n)+)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """One example of the page.

    Attributes:
        given: the columns as they come, name → type.
        leaves: the columns as they leave, and ``broken``.
    """

    title: str
    code: str
    rules: str
    given: dict[str, str]
    leaves: list[str]
    rows: list[list[str]]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def examples() -> Iterator[Example]:
    """All of them, in the order of the page."""
    for found in _EXAMPLE.finditer(TEXT):
        title = re.findall(r"^## (.*)$", TEXT[: found.start()], flags=re.MULTILINE)[-1]
        head, _, *rows = found["rows"].splitlines()
        columns = cells(head)
        given = dict(cell.split(" ", 1) for cell in columns if not cell.startswith("→"))
        leaves = [cell.removeprefix("→ ") for cell in columns if cell.startswith("→")]
        yield Example(title, found["code"] or "", found["yaml"], given, leaves, [cells(row) for row in rows])


EXAMPLES = list(examples())


def value(cell: str, kind: pa.DataType) -> Any:
    """A cell as a value of a column."""
    if cell == "null":
        return None
    if cell.startswith("`"):
        return cell.strip("`")
    return pa.scalar(cell).cast(kind).as_py()


def shown(found: Any) -> str:
    """A value as the page writes it."""
    if found is None:
        return "null"
    if isinstance(found, str):
        return f"`{found}`"
    if isinstance(found, datetime):
        return f"{found:%Y-%m-%d %H:%M:%S}+00"
    return str(found)


def duplicates(rules: Dedupe, result: Result) -> set[int]:
    """Which rows are not kept; what the pipeline does over a whole table."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(result.rows):
        key = tuple(row[name] for name in rules.key)
        if None not in key:
            groups.setdefault(key, []).append(number)
    gone: set[int] = set()
    for numbers in groups.values():
        numbers.sort(key=lambda number: (rules.by and result.rows[number][rules.by], number))
        gone |= set(numbers) - {numbers[-1 if rules.keep == "last" else 0]}
    return gone


def broken(rules: CompiledRules, result: Result) -> list[str]:
    """What the page says of each row."""
    lost = duplicates(rules.dedupe, result) if rules.dedupe else set()
    texts = []
    for number, (verdict, reasons) in enumerate(zip(result.verdicts, result.broken, strict=True)):
        said = ", ".join(f"{rule} {reason}" for rule, reason in reasons)
        texts.append("duplicate" if number in lost else f"{verdict.name.lower()}: {said}" if said else "")
    return texts


def compiled(example: Example, folder: Path) -> CompiledRules:
    """The example's rules, from a file as it says."""
    indented = "".join(f"    {line}\n" for line in example.rules.splitlines())
    path = folder / "smartstream.yaml"
    path.write_text(f"source: {{url: x}}\ntables:\n  public.t:\n{indented}", encoding="utf-8")
    (folder / "shop_rules.py").write_text(example.code, encoding="utf-8")
    rules = compile_rules(table(example.given), rules_of(load(path), "public.t"))
    assert rules is not None
    return rules


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{n}-{e.title}" for n, e in enumerate(EXAMPLES)])
def test_an_example_does_what_the_page_says(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVACY_KEY", KEY)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("shop_rules", None)
    rules = compiled(example, tmp_path)
    kinds = {field.name: field.type for field in rules.schema.arrow_schema()}
    given: list[dict[str, Any]] = []
    for row in example.rows:
        flags = {name: cell for name, cell in zip(example.given, row, strict=False) if cell == "infinity"}
        plain = zip(example.given, row, strict=False)
        values = {name: None if name in flags else value(cell, kinds[name]) for name, cell in plain}
        given.append({**values, "_flags": flags})
    result = run(rules, given)
    found = [
        [broken(rules, result)[number] if name == "broken" else shown(row[name]) for name in example.leaves]
        for number, row in enumerate(result.rows)
    ]
    assert found == [row[len(example.given) :] for row in example.rows]
    if "broken" not in example.leaves:
        assert not any(broken(rules, result))


def used_rules() -> set[str]:
    """The rules that examples use."""
    loaded = [YAML(typ="safe").load(example.rules) for example in EXAMPLES]
    return {
        name
        for rules in loaded
        for part in ("clean", "quality")
        for rule in rules.get(part, ())
        for name in rule
    }


@pytest.mark.parametrize("kind", [*CleanRule.kinds(), *CheckRule.kinds()])
def test_every_rule_has_an_example(kind: str) -> None:
    assert kind in used_rules()


def options() -> set[str]:
    """Every option of every rule, and what else a table's rules may say."""
    models: list[type[Model]] = [TableRules, *Model.__subclasses__()]
    names = {field.alias or name for model in models for name, field in model.model_fields.items()}
    return names - {"exclude", "contract"}  # what other pages are about


@pytest.mark.parametrize("option", sorted(options()))
def test_every_option_is_explained(option: str) -> None:
    assert re.search(rf"\b{option}\b", TEXT)


def test_the_functions_that_may_be_called_are_listed() -> None:
    section = TEXT.split("## Functions\n")[1].split("\n## ")[0].split("explains them.")[1]
    assert set(re.findall(r"`(\w+)`", section)) == ALLOWED


def test_the_first_example_is_valid(tmp_path: Path) -> None:
    first = re.findall(r"```yaml\n(tables:.*?)```", TEXT, flags=re.DOTALL)[0]
    path = tmp_path / "smartstream.yaml"
    path.write_text(f"source: {{url: x}}\n{first}")
    rules = rules_of(load(path), "public.orders")
    assert [rule.kind for rule in rules.clean] == ["trim", "cast", "required"]
    columns = {"amount": "text", "email": "text"}
    assert compile_rules(table(columns, name="orders"), rules) is not None
