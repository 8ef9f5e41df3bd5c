"""`smartstream contract` and quality in `status`, as a person would use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartstream import yaml_file
from smartstream.cli import main
from smartstream.cli.app import now
from smartstream.config import load, rules_of
from smartstream.errors import ExitCode
from smartstream.quality.watch import QualityWatch
from tests.integration.source_setup import run_sql

Capture = pytest.CaptureFixture[str]
CONTRACT = """
    contract: {columns: freeze}"""
QUALITY = """
    quality:
      - {column: email, metric: missingValues, mustBeLessOrEqualTo: 1}
      - {metric: rowCount, mustBeGreaterThan: 0}
"""


@pytest.fixture
def shop(database: str, tmp_path: Path, capsys: Capture) -> Path:
    """A lake that is up to date with a small database, and promises something."""
    run_sql(
        database,
        "CREATE TABLE customers (id int PRIMARY KEY, email text, name varchar(40) NOT NULL)",
        "INSERT INTO customers SELECT i, 'c' || i || '@example.org', 'n' FROM generate_series(1, 20) i",
        "INSERT INTO customers VALUES (21, NULL, 'none')",
    )
    folder = tmp_path / "shop"
    assert main(["init", str(folder), "--from", database]) == ExitCode.OK
    config = folder / "smartstream.yaml"
    config.write_text(config.read_text() + f"  public.customers:{QUALITY}")
    assert main(["-C", str(folder), "run", "--once"]) == ExitCode.OK
    capsys.readouterr()
    return folder


def freeze_columns(shop: Path) -> None:
    """Let the table promise its columns, too; a pipeline does not run with that yet."""
    config = shop / "smartstream.yaml"
    config.write_text(config.read_text().replace(QUALITY, CONTRACT + QUALITY))


def call(capsys: Capture, folder: Path, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["-C", str(folder), *arguments])
    return code, capsys.readouterr().out


def ask(capsys: Capture, folder: Path, *arguments: str) -> Any:
    return json.loads(call(capsys, folder, *arguments, "--json")[1])


def export(capsys: Capture, shop: Path, name: str = "shop.odcs.yaml") -> Path:
    target = shop / name
    code, out = call(capsys, shop, "contract", "export", "customers", "--to", str(target))
    assert code == ExitCode.OK
    assert "next: `smartstream contract check" in out
    return target


def test_a_lake_keeps_the_contract_that_was_made_of_it(shop: Path, capsys: Capture) -> None:
    freeze_columns(shop)
    file = export(capsys, shop)
    made = yaml_file.read(file).data
    assert made["schema"][0]["customProperties"][1]["value"]["columns"] == "freeze"
    assert [one["name"] for one in made["schema"][0]["properties"]] == ["id", "email", "name"]
    assert yaml_file.read(file).data == ask(capsys, shop, "contract", "export", "customers")
    code, out = call(capsys, shop, "contract", "check", str(file))
    assert (code, f"the lake is as the contract {made['id']} says" in out) == (ExitCode.OK, True)
    assert call(capsys, shop, "contract", "check", str(file), "--source")[0] == ExitCode.OK


def test_a_lake_that_breaks_its_contract_is_told_where(shop: Path, database: str, capsys: Capture) -> None:
    file = export(capsys, shop)
    run_sql(database, "UPDATE customers SET email = '' WHERE id < 4")
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.OK
    code, out = call(capsys, shop, "contract", "check", str(file))
    assert code == ExitCode.FAILED
    assert "missingValues mustBeLessOrEqualTo 1 rows" in out
    assert "4 rows" in out
    answer = ask(capsys, shop, "contract", "check", str(file))
    assert answer["ok"] is False
    assert [one["path"] for one in answer["differences"]] == ["public.customers.email"]


def test_a_source_that_breaks_the_contract_is_told_before_the_lake_follows(
    shop: Path, database: str, capsys: Capture
) -> None:
    file = export(capsys, shop)
    run_sql(
        database, "ALTER TABLE customers ALTER name DROP NOT NULL, ALTER email TYPE varchar(50), ADD age int"
    )
    answer = ask(capsys, shop, "contract", "check", str(file), "--source")
    assert [(one["path"], one["expected"], one["found"]) for one in answer["differences"]] == [
        ("public.customers.email", "physicalType text", "character varying(50)"),
        ("public.customers.name", "required", "can be null"),
        ("public.customers.age", "nothing", "integer"),
    ]
    assert ask(capsys, shop, "contract", "check", str(file))["ok"] is True


def test_diff_ends_with_1_when_something_breaks(shop: Path, capsys: Capture) -> None:
    old = export(capsys, shop)
    assert call(capsys, shop, "contract", "diff", str(old), str(old))[0] == ExitCode.OK
    new = shop / "new.yaml"
    new.write_text(
        old.read_text().replace("version: 1.0.0", "version: 1.1.0").replace("name: email\n", "name: mail\n")
    )
    code, out = call(capsys, shop, "contract", "diff", str(old), str(new))
    assert code == ExitCode.FAILED
    assert "the column is gone" in out
    assert "next: breaking changes need version 2.0.0, it is 1.1.0" in out
    assert ask(capsys, shop, "contract", "diff", str(old), str(new))["ok"] is False


def test_import_prints_settings_that_can_be_pasted(shop: Path, capsys: Capture, tmp_path: Path) -> None:
    freeze_columns(shop)
    code, out = call(capsys, shop, "contract", "import", str(export(capsys, shop)))
    assert code == ExitCode.OK
    pasted = tmp_path / "smartstream.yaml"
    pasted.write_text("source: {url: 'postgresql://u@h/d'}\n" + out)
    rules = rules_of(load(pasted), "public.customers")
    assert [one.metric for one in rules.metrics] == ["rowCount", "missingValues", "nullValues"]
    assert rules.contract.columns == "freeze"


def test_merge_keeps_comments_and_what_is_there(shop: Path, capsys: Capture) -> None:
    file, config = export(capsys, shop), shop / "smartstream.yaml"
    before = config.read_text()
    comments = [line.strip() for line in before.splitlines() if line.strip().startswith("#")]
    assert call(capsys, shop, "contract", "import", str(file), "--merge", "--on-fail", "quarantine")[0] == 0
    merged = config.read_text()
    assert [line.strip() for line in merged.splitlines() if line.strip().startswith("#")] == comments
    rules = rules_of(load(config), "public.customers")
    assert [(check.column, check.metric, check.on_fail) for check in rules.metrics] == [
        ("email", "missingValues", "warn"),
        (None, "rowCount", "warn"),
        ("name", "nullValues", "quarantine"),
    ]
    assert call(capsys, shop, "contract", "import", str(file), "--merge", "--on-fail", "quarantine")[0] == 0
    assert config.read_text() == merged, "merging twice changes nothing"
    assert (config.stat().st_mode & 0o777) == (shop / "smartstream.yaml").stat().st_mode & 0o777


def test_a_merge_that_gives_no_valid_file_changes_nothing(shop: Path, capsys: Capture) -> None:
    file, config = export(capsys, shop), shop / "smartstream.yaml"
    config.write_text(config.read_text() + "nonsense: 1\n")
    before = config.read_text()
    assert call(capsys, shop, "contract", "import", str(file), "--merge")[0] == ExitCode.CONFIGURATION
    assert config.read_text() == before
    assert not list(shop.glob(".*unfinished"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export"], ExitCode.CONFIGURATION),
        (["export", "customers", "--all"], ExitCode.CONFIGURATION),
        (["export", "nothing"], ExitCode.CONFIGURATION),
        (["check", "nothing.yaml"], ExitCode.CONFIGURATION),
        (["import", "smartstream.yaml"], ExitCode.CONFIGURATION),
        (["export", "--all", "--to", "no/such/folder/x.yaml"], ExitCode.FAILED),
    ],
)
def test_what_can_not_be_done_is_said(
    shop: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(shop)
    assert main(["contract", *arguments]) == code
    shown = capsys.readouterr().err
    assert "error: " in shown
    assert "unexpected" not in shown


def test_status_tells_of_checks_that_failed(shop: Path, database: str, capsys: Capture) -> None:
    settings = load(shop / "smartstream.yaml")
    checks = {"public.customers": rules_of(settings, "public.customers").metrics}
    QualityWatch(settings, lambda: checks, clock=now).look()
    code, out = call(capsys, shop, "status")
    assert (code, "quality 2 checks, all passed" in out) == (ExitCode.OK, True)
    run_sql(database, "UPDATE customers SET email = NULL")
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.OK
    QualityWatch(settings, lambda: checks, clock=now).look()
    code, out = call(capsys, shop, "status")
    assert code == ExitCode.DEGRADED
    assert "public.customers email.missingValues: mustBeLessOrEqualTo 1, it is 21 rows (error)" in out
    answer = ask(capsys, shop, "status")
    assert answer["ok"] is False
    assert [one["check_id"] for one in answer["quality"]["failed"]] == ["email.missingValues"]


def test_validate_refuses_a_check_that_does_not_fit_its_table(shop: Path, capsys: Capture) -> None:
    assert call(capsys, shop, "validate")[0] == ExitCode.OK
    config = shop / "smartstream.yaml"
    config.write_text(config.read_text() + "      - {metric: freshness, column: email, mustBeLessThan: 1h}\n")
    line = len(config.read_text().splitlines())
    assert main(["-C", str(shop), "validate"]) == ExitCode.CONFIGURATION
    shown = capsys.readouterr()
    assert f"smartstream.yaml:{line}: public.customers: quality check freshness" in shown.out + shown.err
