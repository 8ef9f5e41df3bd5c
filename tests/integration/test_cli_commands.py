"""The commands against a real server, as a person would use them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.cli import main
from smartstream.config import load
from smartstream.errors import ExitCode
from tests.integration.source_setup import run_sql

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shop(database: str, tmp_path: Path, capsys: Capture) -> Path:
    """A folder made by init for a small database; its slot goes with the database."""
    run_sql(
        database,
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT i, 'n' || i FROM generate_series(1, 100) i",
    )
    folder = tmp_path / "shop"
    assert main(["init", str(folder), "--from", database]) == ExitCode.OK
    return folder


def ask(capsys: Capture, folder: Path, *arguments: str) -> Any:
    """The JSON answer of a command."""
    capsys.readouterr()
    main(["-C", str(folder), *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_init_writes_a_folder_that_works_and_keeps_the_password_apart(
    shop: Path, database: str, capsys: Capture
) -> None:
    shown = capsys.readouterr().out
    secret = shop / ".secrets" / "source_url"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    password = database.split(":")[2].split("@")[0]
    assert password not in (shop / "smartstream.yaml").read_text() + shown
    assert load(shop / "smartstream.yaml").source.dsn == database
    assert (shop / ".gitignore").read_text().splitlines() == [".secrets/", "lake/"]
    assert "public.orders" in shown
    assert shown.rstrip().splitlines()[-1] == f"next: `cd {shop} && smartstream run`"


def test_init_never_overwrites(shop: Path, database: str, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()}
    assert main(["init", str(shop), "--from", database]) == ExitCode.CONFIGURATION
    assert "exists already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("url", ["postgresql://u:canary@127.0.0.1:1/d", "no url: canary", "${env:X}", ""])
def test_init_with_a_wrong_url_leaves_nothing(tmp_path: Path, url: str, capsys: Capture) -> None:
    assert main(["init", str(tmp_path / "new"), "--from", url]) != ExitCode.OK
    assert not (tmp_path / "new").exists()
    assert "canary" not in capsys.readouterr().err


def test_init_keeps_what_git_ignores_already(database: str, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\nlake/")
    assert main(["init", str(tmp_path), "--from", database]) == ExitCode.OK
    assert (tmp_path / ".gitignore").read_text() == "mine\nlake/\n.secrets/\n"


def test_init_offers_schemas_with_names_of_any_kind(database: str, tmp_path: Path) -> None:
    run_sql(database, 'CREATE SCHEMA "a: #b"', 'CREATE TABLE "a: #b".t (id int PRIMARY KEY)')
    assert main(["init", str(tmp_path / "x y"), "--from", database]) == ExitCode.OK
    loaded = load(tmp_path / "x y" / "smartstream.yaml")
    assert list(loaded.tables) == ["a: #b.*"]
    assert loaded.name == "x-y"


def test_doctor_fails_with_2_and_prints_its_sql(shop: Path, database: str, capsys: Capture) -> None:
    run_sql(database, 'CREATE TABLE "no key" (x int NOT NULL UNIQUE)')
    assert main(["-C", str(shop), "doctor"]) == ExitCode.CONFIGURATION
    assert "`smartstream doctor --print-sql`" in capsys.readouterr().out
    assert main(["-C", str(shop), "doctor", "--print-sql"]) == ExitCode.CONFIGURATION
    script = capsys.readouterr().out
    assert 'ALTER TABLE "public"."no key" REPLICA IDENTITY USING INDEX' in script
    with psycopg.connect(database, autocommit=True) as connection:
        for line in script.splitlines():
            if line.startswith("ALTER TABLE"):
                connection.execute(line.encode())
    answer = ask(capsys, shop, "doctor")
    assert answer["ok"] is True
    assert {check["status"] for check in answer["checks"]} <= {"ok", "warn"}


def test_from_the_first_copy_to_the_proof(shop: Path, database: str, capsys: Capture) -> None:
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.OK
    assert "next: `smartstream verify`" in capsys.readouterr().out
    run_sql(database, "DELETE FROM orders WHERE id <= 10", "UPDATE orders SET note = 'x' WHERE id = 50")
    assert main(["-C", str(shop), "run", "--once", "--progress", "json"]) == ExitCode.OK
    assert all(json.loads(line)["tables"] for line in capsys.readouterr().out.splitlines()[-1:])

    (table,) = ask(capsys, shop, "tables")["tables"]
    assert (table["name"], table["table"], table["rows"], table["key"]) == (
        "orders",
        "public.orders",
        90,
        ["id"],
    )
    status = ask(capsys, shop, "status")
    assert status["ok"] is True
    assert status["source"]["slot"]["active"] is False
    assert status["lake"]["tables"][0]["status"] == "ready"

    assert (
        main(["-C", str(shop), "sql", "SELECT count(*) AS n, min(id) AS low FROM orders", "-o", "csv"]) == 0
    )
    assert capsys.readouterr().out == "n,low\n90,11\n"
    assert ask(capsys, shop, "verify")["ok"] is True
    assert main(["-C", str(shop), "verify", "orders"]) == ExitCode.OK
    assert "source and lake are equal" in capsys.readouterr().out
    assert ask(capsys, shop, "maintain")["ok"] is True


def test_verify_ends_with_1_and_shows_the_rows_that_differ(
    shop: Path, database: str, capsys: Capture
) -> None:
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.OK
    run_sql(database, "DELETE FROM orders WHERE id = 77")
    capsys.readouterr()
    assert main(["-C", str(shop), "verify", "--rows", "--wait", "2"]) == ExitCode.FAILED
    shown = capsys.readouterr().out
    assert "source and lake DIFFER" in shown
    assert "id=77" in shown
    assert "next: `smartstream run --once`" in shown


def test_resync_copies_a_table_anew(shop: Path, capsys: Capture) -> None:
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.OK
    assert main(["-C", str(shop), "resync", "orders", "--yes"]) == ExitCode.OK
    assert "marked for a new copy: public.orders" in capsys.readouterr().out
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.OK
    (table,) = ask(capsys, shop, "status")["lake"]["tables"]
    assert table["generation"] == 2
    assert table["rows"] == 100


def test_run_refuses_a_table_without_key_with_2(shop: Path, database: str, capsys: Capture) -> None:
    run_sql(database, "CREATE TABLE nokey (x int)")
    assert main(["-C", str(shop), "run", "--once"]) == ExitCode.CONFIGURATION
    assert "nokey" in capsys.readouterr().err
