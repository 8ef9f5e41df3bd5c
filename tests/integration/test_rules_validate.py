"""``smartstream validate``: rules against the tables that the source has now."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartstream.cli import main
from smartstream.config import load
from smartstream.doctor import Status, diagnose
from smartstream.doctor.rules import examine_rules
from tests.integration.source_setup import run_sql

TABLES = (
    "CREATE TABLE orders (id integer PRIMARY KEY, email text, amount text)",
    "CREATE TABLE people (id integer PRIMARY KEY, email text, born date)",
)
GOOD = """
tables:
  public.*:
    clean:
    - trim: [email]
  public.orders:
    clean:
    - cast: {amount: "decimal(12,2)"}
  public.gone:
    clean:
    - trim: [x]
"""


def written(folder: Path, url: str, rules: str) -> Path:
    path = folder / "smartstream.yaml"
    path.write_text(f"source: {{url: '{url}'}}{rules}")
    return path


def test_rules_that_fit_are_explained(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sql(database, *TABLES)
    path = written(tmp_path, database, GOOD)
    assert main(["-C", str(tmp_path), "validate", "--explain"]) == 0
    said = capsys.readouterr()
    assert "-- public.orders, rules " in said.out and "-- public.people, rules " in said.out
    assert 'TRY_CAST("amount" AS DECIMAL(12, 2))' in said.out and "trim, line 5: email" in said.out
    assert "the rules of public.gone are for no table of the source" in said.err
    assert main(["-C", str(tmp_path), "validate", "--explain", "--json"]) == 0
    rules = json.loads(capsys.readouterr().out)["rules"]
    assert [rule["table"] for rule in rules] == ["public.orders", "public.people"]
    assert rules[0]["columns"]["amount"] == "decimal128(12, 2)"
    assert [
        rules.schema.id for rules in examine_rules(load(path), clock=lambda: datetime.now(UTC)).compiled
    ] == [
        "public.orders",
        "public.people",
    ]


def test_every_rule_that_does_not_fit_is_told_with_its_line(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sql(database, *TABLES)
    people = "  public.people:\n    clean:\n    - cast: {born: integer}\n"
    rules = GOOD + people + "  public.order*:\n    clean:\n    - trim: id\n"
    path = written(tmp_path, database, rules)
    assert main(["-C", str(tmp_path), "validate"]) == 2
    said = capsys.readouterr().err
    assert f"{path}:14: public.people: cast: born is date, which never becomes integer" in said
    assert f"{path}:17: public.orders: trim: id is " in said
    check = next(check for check in diagnose(load(path)) if check.name == "rules")
    assert check.status is Status.FAIL and "born is date" in check.found
    assert main(["-C", str(tmp_path), "validate", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "RuleInvalid"


def test_without_an_answer_from_the_source_the_file_alone_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "postgresql://nobody@127.0.0.1:1/none", GOOD)
    assert main(["-C", str(tmp_path), "validate"]) == 0
    assert "the rules are not checked against their tables" in capsys.readouterr().err


def test_without_rules_the_source_is_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "postgresql://nobody@127.0.0.1:1/none", "\ntables: {public.*: {}}\n")
    assert main(["-C", str(tmp_path), "validate"]) == 0
    assert "not checked" not in capsys.readouterr().err
