"""``quarantine`` and ``rebuild``, with a pipeline running and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.pipeline.requests import pending
from smartstream.raw.store import open_store
from tests.integration.command_line import Capture, Shop
from tests.running_pipeline import once, query, running

PEOPLE = "CREATE TABLE people (id integer PRIMARY KEY, email text, age integer)"
AGE = {"range": {"column": "age", "min": 0, "max": 150}, "name": "age"}
EMAIL = {"not_null": ["email"], "name": "email"}
RULES: dict[str, Any] = {"quality": [AGE, EMAIL]}


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def shop(database: str, tmp_path: Path, capsys: Capture) -> Shop:
    return Shop(tmp_path, database, capsys)


@pytest.fixture
def people(admin: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Ten people: 4 of them too old (7…10), 2 without an address (10, 1)."""
    admin.execute(PEOPLE)
    admin.execute(
        "INSERT INTO people SELECT n, CASE WHEN n NOT IN (1, 10) THEN 'e' || n END, 90 + n * 10"
        " FROM generate_series(1, 10) n"
    )
    return admin


def keys(answer: Any) -> list[int]:
    return sorted(int(row["key"]["id"]) for row in answer["rows"])


def test_ls_counts_by_rule_and_show_says_why(people: Any, shop: Shop) -> None:
    once(shop.configure(people=RULES))
    (listed,) = shop.ask("quarantine", "ls")["tables"]
    assert (listed["table"], listed["trusted_rows"], listed["quarantined"]) == ("public.people", 5, 5)
    assert listed["ratio"] == 0.5
    assert {(rule["rule"], rule["rows"]) for rule in listed["rules"]} == {("age", 4), ("email", 2)}
    shown = shop.ask("quarantine", "show", "people", "10")
    (row,) = shown["rows"]
    assert row["key"] == {"id": "10"}
    assert row["row"] == {"id": "10", "email": None, "age": "190"}
    assert sorted(one["rule"] for one in row["violations"]) == ["age", "email"]
    assert row["disposition"] == "quarantined"
    assert row["op"] == "r"
    assert keys(shop.ask("quarantine", "show", "public.people")) == [1, 7, 8, 9, 10]
    assert len(shop.ask("quarantine", "show", "people", "--limit", "3")["rows"]) == 3
    _, out, _ = shop.say("quarantine", "ls")
    assert "next: `smartstream quarantine show public.people`" in out
    _, out, _ = shop.say("quarantine", "show", "people", "10")
    assert "age: 190" in out
    assert "email: NULL" in out


def test_drop_and_replay_without_a_pipeline_run_one(people: Any, shop: Shop) -> None:
    settings = shop.configure(people=RULES)
    once(settings)
    answer = shop.ask("quarantine", "drop", "people", "7", "8")
    assert (answer["after"]["dropped"], answer["after"]["quarantined"]) == (2, 3)
    assert shop.ask("quarantine", "drop", "people", "--all")["after"]["dropped"] == 5
    answer = shop.ask("quarantine", "replay", "people", "id=7")
    assert (answer["after"]["dropped"], answer["after"]["quarantined"]) == (4, 1)
    assert pending(open_store(settings.lake)) == []
    people.execute("UPDATE people SET age = 30 WHERE id = 8")
    once(settings)
    assert query(settings, "SELECT id FROM people WHERE id >= 7") == [(8,)]


def test_a_running_pipeline_is_asked_and_goes_on(people: Any, shop: Shop) -> None:
    settings = shop.configure(people=RULES)
    with running(settings) as pipeline:
        assert shop.ask("quarantine", "drop", "people", "7")["after"]["dropped"] == 1
        assert shop.ask("quarantine", "replay", "people", "7")["after"]["quarantined"] == 5
        answer = shop.ask("rebuild", "people")
        assert (answer["before"]["trusted_rows"], answer["after"]["trusted_rows"]) == (5, 5)
        assert pipeline.ready()
        shop.configure(people={"quality": [EMAIL]})
        code, _, err = shop.say("rebuild", "people")
        assert code == 0
        assert "start it again" in err
    assert pending(open_store(settings.lake)) == []


def test_rebuild_applies_rules_that_have_changed(people: Any, shop: Shop) -> None:
    once(shop.configure(people=RULES))
    wide = {"range": {"column": "age", "min": 0, "max": 170}, "name": "age"}
    settings = shop.configure(people={"clean": [{"upper": ["email"]}], "quality": [wide]})
    code, out, _ = shop.say("rebuild", "public.people")
    assert code == 0
    assert "8 rows (before: 5), 2 held (before: 5)" in out
    assert query(settings, "SELECT id, email FROM people WHERE id IN (2, 7) ORDER BY id") == [
        (2, "E2"),
        (7, "E7"),
    ]


def test_keys_of_several_columns_are_given_by_place_or_by_name(admin: Any, shop: Shop) -> None:
    admin.execute("CREATE TABLE lines (o integer, code text, n integer, PRIMARY KEY (o, code))")
    admin.execute("INSERT INTO lines VALUES (1, 'a', 1), (1, 'b,c', -1), (2, 'a', -1), (3, 'x', -1)")
    once(shop.configure(lines={"quality": [{"range": {"column": "n", "min": 0}}]}))
    for key in ('1,"b,c"', '"code=b,c",o=1'):
        (row,) = shop.ask("quarantine", "show", "lines", key)["rows"]
        assert row["key"] == {"o": "1", "code": "b,c"}
    answer = shop.ask("quarantine", "drop", "lines", '1,"b,c"', "o=2,code=a")
    assert (answer["after"]["dropped"], answer["after"]["quarantined"]) == (2, 1)
    assert "has the key o, code: 2 values, not 1" in shop.refusal("quarantine", "show", "lines", "1")
    assert "not of its type" in shop.refusal("quarantine", "show", "lines", "x,a")


def test_what_cannot_be_done_is_refused_in_words(people: Any, shop: Shop) -> None:
    people.execute("CREATE TABLE plain (id integer PRIMARY KEY)")
    settings = shop.configure(people=RULES, plain={})
    assert "there is no table people in the lake" in shop.refusal("quarantine", "show", "people")
    once(settings)
    assert "Did you mean people?" in shop.refusal("quarantine", "show", "peopel")
    assert "has no rules" in shop.refusal("quarantine", "show", "plain")
    assert "has no rules" in shop.refusal("quarantine", "replay", "plain")
    assert "not in the quarantine" in shop.refusal("quarantine", "drop", "people", "2")
    assert "1 of 2 are not" in shop.refusal("quarantine", "replay", "people", "2", "7")
    assert "keys, or --all" in shop.refusal("quarantine", "drop", "people")
    assert "keys, or --all" in shop.refusal("quarantine", "drop", "people", "7", "--all")
    assert "there is no table" in shop.refusal("rebuild", "nobody")
    assert pending(open_store(settings.lake)) == []
    people.execute("UPDATE people SET age = 1, email = 'e'")
    once(settings)
    assert "no row is held" in shop.say("quarantine", "ls")[1]
    assert "no row of public.people is held" in shop.say("quarantine", "replay", "people")[1]


def test_an_error_of_the_pipeline_is_told_and_the_request_is_gone(
    people: Any, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shop.configure(people=RULES)
    once(settings)
    monkeypatch.setattr("smartstream.pipeline.errand.Errand.is_running", lambda self: False)
    monkeypatch.setattr("smartstream.cli.quarantine.drive", lambda *_: None)
    assert "ended before it could replay public.people" in shop.refusal("quarantine", "replay", "people")
    assert pending(open_store(settings.lake)) == []
