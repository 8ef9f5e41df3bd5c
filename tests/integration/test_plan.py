"""``plan`` says what ``run`` will do, and does nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.command_line import Capture, Shop
from tests.running_pipeline import once, query, running

PEOPLE = "CREATE TABLE people (id integer PRIMARY KEY, email text, age integer, note text)"
OLD: dict[str, Any] = {"quality": [{"range": {"column": "age", "max": 150}}]}
NEW: dict[str, Any] = {
    "clean": [
        {"drop": ["note"]},
        {"cast": {"age": "bigint"}},
        {"compute": {"column": "adult", "sql": "age >= 18"}},
    ],
    "quality": [{"range": {"column": "age", "max": 160}}],
}


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def shop(database: str, tmp_path: Path, capsys: Capture) -> Shop:
    return Shop(tmp_path, database, capsys)


@pytest.fixture
def people(admin: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people SELECT n, 'e' || n, n, 'n' FROM generate_series(1, 160) n")
    return admin


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file of the lake, by its content."""
    files = [path for path in (folder / "lake").rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def source_facts(admin: psycopg.Connection[Any]) -> list[Any]:
    """What the source has of ours, and how many transactions have written there."""
    statements = (
        "SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()",
        "SELECT pubname, schemaname, tablename FROM pg_publication_tables ORDER BY 1, 2, 3",
        "SELECT count(*) FROM pg_class",
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text",  # the next transaction that writes
    )
    return [admin.execute(statement).fetchall() for statement in statements]


def test_before_the_first_run_every_table_is_copied(people: Any, shop: Shop) -> None:
    people.execute("CREATE TABLE empty (id integer PRIMARY KEY)")
    shop.configure(**{"*": {}})
    before = source_facts(people)
    found = shop.ask("plan")
    assert {copy["table"]: copy["reason"] for copy in found["copies"]} == {
        "public.people": "new",
        "public.empty": "new",
    }
    copy = next(copy for copy in found["copies"] if copy["table"] == "public.people")
    assert 50 < copy["row_estimate"] < 2000
    assert 8192 <= copy["size_bytes"] < 200_000
    assert found["slot"] == "slot smartstream will be created"
    assert found["publication"]["created"]
    assert found["rebuilds"] == found["columns"] == found["kept"] == []
    assert not found["quiet"]
    assert source_facts(people) == before
    assert not (shop.folder / "lake").exists()


def test_changed_rules_are_a_rebuild_with_its_columns(people: Any, shop: Shop) -> None:
    people.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    once(shop.configure(people=OLD, other={}))
    shop.configure(people=NEW)
    lake, source = fingerprint(shop.folder), source_facts(people)
    found = shop.ask("plan")
    _, shown, _ = shop.say("plan")
    assert fingerprint(shop.folder) == lake
    assert source_facts(people) == source
    (rebuild,) = found["rebuilds"]
    assert rebuild["raw_bytes"] > 1000
    assert {name: rebuild[name] for name in ("table", "reason", "trusted_rows", "held_rows")} == {
        "table": "public.people",
        "reason": "rules changed",
        "trusted_rows": 150,
        "held_rows": 10,
    }
    changes = {(one["column"], one["change"], one["after"]) for one in found["columns"]}
    assert changes == {
        ("note", "vanishes", None),
        ("age", "type", "bigint"),
        ("adult", "appears", "boolean"),
    }
    assert found["kept"] == [{"table": "public.other", "reason": "the configuration leaves it out"}]
    assert found["publication"]["dropped"] == ["public.other"]
    assert found["copies"] == []
    assert "10 held rows are judged again" in shown
    assert "integer becomes bigint" in shown
    assert "next: `smartstream run`" in shown


def test_what_was_planned_is_what_happens(people: Any, shop: Shop) -> None:
    once(shop.configure(people=OLD))
    people.execute("CREATE TABLE later (id integer PRIMARY KEY)")
    settings = shop.configure(people=NEW, later={})
    found = shop.ask("plan")
    assert [copy["table"] for copy in found["copies"]] == ["public.later"]
    assert found["publication"]["added"] == ["public.later"]
    once(settings)
    assert query(settings, "SELECT count(*) FROM people") == [(160,)]
    found = shop.ask("plan")
    assert found["quiet"], found
    assert "goes on where it stopped" in shop.say("plan")[1]
    shop.configure(people={}, later={})
    (rebuild,) = shop.ask("plan")["rebuilds"]
    assert rebuild["reason"] == "rules removed"


def test_beside_a_running_pipeline_it_says_so(people: Any, shop: Shop) -> None:
    with running(shop.configure(people=OLD)):
        people.execute("ALTER TABLE people ADD COLUMN city text")
        shop.configure(people=NEW)
        found = shop.ask("plan")
        assert found["running"]
        assert ("city", "appears") in {(one["column"], one["change"]) for one in found["columns"]}
        assert "until it is started again" in shop.say("plan")[1]


def test_what_run_would_refuse_is_refused(people: Any, shop: Shop) -> None:
    shop.configure(people={"clean": [{"trim": ["nobody"]}]})
    assert "smartstream.yaml:" in shop.refusal("plan")
    people.execute("CREATE TABLE keyless (x integer)")
    shop.configure(**{"*": {}})
    assert "public.keyless" in shop.refusal("plan")


def test_a_table_that_is_gone_or_made_again_is_told(people: Any, shop: Shop) -> None:
    people.execute("CREATE TABLE short (id integer PRIMARY KEY)")
    people.execute("CREATE TABLE again (id integer PRIMARY KEY)")
    once(shop.configure(**{"*": {}}))
    people.execute("DROP TABLE short, again")
    people.execute("CREATE TABLE again (id integer PRIMARY KEY, x text)")
    found = shop.ask("plan")
    assert found["kept"] == [{"table": "public.short", "reason": "the source does not have it"}]
    assert [(copy["table"], copy["reason"]) for copy in found["copies"]] == [
        ("public.again", "created again")
    ]


def test_a_contract_says_what_becomes_of_new_columns(people: Any, shop: Shop) -> None:
    once(shop.configure(people={}))
    shop.configure(people={"contract": {"columns": "discard_value"}})
    people.execute("ALTER TABLE people ADD COLUMN city text")
    found = shop.ask("plan")
    assert found["contract"] == ["public.people: the contract leaves column city out"]
    assert [(one["column"], one["change"]) for one in found["columns"]] == [("_quality", "appears")]
    shop.configure(people={"contract": {"columns": "freeze"}})
    (line,) = shop.ask("plan")["contract"]
    assert line.startswith("the pipeline will stop: public.people: column city was added")


def test_status_says_what_is_held_and_what_is_outdated(people: Any, shop: Shop) -> None:
    once(shop.configure(people=OLD))
    (table,) = shop.ask("status")["lake"]["tables"]
    assert (table["status"], table["rows"], table["held"]) == ("ready", 150, {"quarantined": 10})
    shop.configure(people=NEW)
    (table,) = shop.ask("status")["lake"]["tables"]
    assert table["status"] == "outdated"
    _, shown, _ = shop.say("status")
    assert "quarantined" in shown
    assert "rebuilds what is outdated" in shown
