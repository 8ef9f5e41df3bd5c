"""Rules in a running pipeline: cleaned, held, corrected, rebuilt, on a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import QualityStop, RulesBroken
from smartstream.pipeline.requests import RequestKind, post, take_answer
from smartstream.raw.store import open_store
from tests.running_pipeline import once, query, running, settings_for, wait_until

PEOPLE = "CREATE TABLE people (id integer PRIMARY KEY, email text, age integer, note text)"


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def with_rules(database: str, folder: Path, **rules: Any) -> Settings:
    return settings_for(database, folder, tables={"public.*": rules})


def ask(settings: Settings, kind: RequestKind, table: str, keys: list[list[str]] | None = None) -> Any:
    """Post a request to the running pipeline and wait for its answer."""
    store, answers = open_store(settings.lake), []
    request = post(store, kind, table, keys)
    wait_until(lambda: answers or answers.extend(filter(None, [take_answer(store, request)])) or answers)
    return answers[0]


def test_rows_are_cleaned_and_bad_ones_held_until_they_are_good(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = with_rules(
        database,
        tmp_path,
        clean=[
            {"trim": ["email"]},
            {"lower": ["email"]},
            {"compute": {"column": "adult", "sql": "age >= 18"}},
        ],
        quality=[{"range": {"column": "age", "min": 0, "max": 150}}],
    )
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people VALUES (1, '  Ada@X.org ', 36, 'a'), (2, 'b@x.org', 200, 'b')")
    once(settings)
    assert query(settings, "SELECT id, email, age, adult FROM people ORDER BY id") == [
        (1, "ada@x.org", 36, True)
    ]
    held = query(settings, "SELECT id, _disposition, _row->>'age' FROM quarantine.people")
    assert held == [(2, "quarantined", "200")]
    admin.execute("UPDATE people SET age = 20 WHERE id = 2")
    admin.execute("UPDATE people SET age = -1 WHERE id = 1")
    admin.execute("INSERT INTO people VALUES (3, 'c@x.org', 999, 'c')")
    admin.execute("DELETE FROM people WHERE id = 3")
    once(settings)
    assert query(settings, "SELECT id, email FROM people ORDER BY id") == [(2, "b@x.org")]
    assert query(settings, "SELECT id FROM quarantine.people") == [(1,)]


def test_an_unchanged_toasted_value_is_found_again_wherever_the_row_lies(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = with_rules(
        database,
        tmp_path,
        clean=[{"compute": {"column": "mixed", "sql": "right(note, 3) || '-' || age"}}],
        quality=[{"range": {"column": "age", "max": 150}}],
    )
    admin.execute(PEOPLE)
    admin.execute("ALTER TABLE people ALTER note SET STORAGE EXTERNAL")
    for number in (1, 2, 3):
        admin.execute(
            "INSERT INTO people VALUES (%s, 'e', 1, repeat('x', 9000) || %s)", (number, f"-n{number}")
        )
    with running(settings):
        admin.execute("UPDATE people SET age = 2 WHERE id = 1")
        admin.execute("UPDATE people SET age = 999 WHERE id = 2")
        wait_until(lambda: query(settings, "SELECT id FROM people ORDER BY id") == [(1,), (3,)])
        admin.execute("UPDATE people SET age = 5 WHERE id = 2")
        admin.execute("UPDATE people SET id = 30, age = 7 WHERE id = 3")
        expected = [(1, "-n1-2", 9003), (2, "-n2-5", 9003), (30, "-n3-7", 9003)]
        wait_until(
            lambda: query(settings, "SELECT id, mixed, length(note) FROM people ORDER BY id") == expected
        )
    assert query(settings, "SELECT count(*) FROM quarantine.people") == [(0,)]


def test_a_held_row_shows_its_unchanged_toasted_value_too(admin: Any, database: str, tmp_path: Path) -> None:
    settings = with_rules(
        database, tmp_path, clean=[{"trim": ["note"]}], quality=[{"range": {"column": "age", "max": 150}}]
    )
    admin.execute(PEOPLE)
    admin.execute("ALTER TABLE people ALTER note SET STORAGE EXTERNAL")
    admin.execute("INSERT INTO people VALUES (1, 'e', 1, ' ' || repeat('x', 9000))")
    once(settings)
    admin.execute("UPDATE people SET age = 999 WHERE id = 1")
    once(settings)
    assert query(settings, "SELECT length(_row->>'note') FROM quarantine.people") == [(9001,)]


def test_other_rules_rebuild_the_table_from_raw_while_others_stay_live(
    admin: Any, database: str, tmp_path: Path
) -> None:
    admin.execute(PEOPLE)
    admin.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    admin.execute("INSERT INTO people SELECT n, ' E' || n, n % 100, 'n' FROM generate_series(1, 5000) n")
    plain = settings_for(database, tmp_path, tables={"public.*": {}})
    once(plain)
    admin.execute("UPDATE people SET email = ' changed ' WHERE id <= 10")
    admin.execute("DELETE FROM people WHERE id = 11")
    once(plain)
    rules = {
        "clean": [{"trim": ["email"]}, {"drop": ["note"]}],
        "quality": [{"range": {"column": "age", "min": 1}}],
    }
    ruled = settings_for(database, tmp_path, tables={"public.*": {}, "public.people": rules})
    with running(ruled):
        admin.execute("INSERT INTO other VALUES (1)")
        admin.execute("UPDATE people SET email = ' late ' WHERE id = 12")
        wait_until(lambda: query(ruled, "SELECT count(*) FROM people") == [(4949,)])
        assert query(ruled, "SELECT count(*) FROM quarantine.people") == [(50,)]
        wait_until(lambda: query(ruled, "SELECT email FROM people WHERE id = 12") == [("late",)])
        assert query(ruled, "SELECT DISTINCT email FROM people WHERE id <= 10") == [("changed",)]
        assert "note" not in [row[0] for row in query(ruled, "DESCRIBE people")]
        wait_until(lambda: query(ruled, "SELECT count(*) FROM other") == [(1,)])
    once(plain)
    assert query(plain, "SELECT count(*), count(note) FROM people") == [(4999, 4999)]
    assert query(plain, "SELECT count(*) FROM quarantine.people") == [(0,)]


def test_requests_are_carried_out_by_the_running_pipeline(admin: Any, database: str, tmp_path: Path) -> None:
    settings = with_rules(database, tmp_path, quality=[{"range": {"column": "age", "max": 150}}])
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people SELECT n, 'e', 100 + n * 10, 'n' FROM generate_series(1, 10) n")
    with running(settings):
        assert ask(settings, RequestKind.DROP, "public.people", [["7"]]).row_count == 1
        assert query(settings, "SELECT _disposition FROM quarantine.people WHERE id = 7") == [("dropped",)]
        assert ask(settings, RequestKind.REPLAY, "public.people").row_count == 4
        assert query(settings, "SELECT count(*) FROM quarantine.people") == [(5,)]
        assert ask(settings, RequestKind.REBUILD, "public.people").row_count == 5
        assert query(settings, "SELECT DISTINCT _disposition FROM quarantine.people") == [("quarantined",)]
        assert "not a captured table" in ask(settings, RequestKind.REPLAY, "public.nobody").error
        assert (
            "key has the columns id" in ask(settings, RequestKind.DROP, "public.people", [["1", "2"]]).error
        )


def test_of_duplicates_the_next_takes_the_place_of_one_that_leaves(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = with_rules(
        database,
        tmp_path,
        clean=[{"lower": ["email"]}, {"dedupe": {"key": ["email"], "keep": "last", "by": "age"}}],
    )
    admin.execute(PEOPLE)
    admin.execute(
        "INSERT INTO people VALUES (1, 'A', 10, ''), (2, 'a', 20, ''), (3, 'a', 15, ''), (4, NULL, 1, '')"
    )
    admin.execute("INSERT INTO people VALUES (5, NULL, 1, '')")
    with running(settings):
        assert query(settings, "SELECT id FROM people ORDER BY id") == [(2,), (4,), (5,)]
        admin.execute("DELETE FROM people WHERE id = 2")
        wait_until(lambda: query(settings, "SELECT id FROM people ORDER BY id") == [(3,), (4,), (5,)])
        admin.execute("UPDATE people SET age = 99 WHERE id = 1")
        wait_until(lambda: query(settings, "SELECT id FROM people ORDER BY id") == [(1,), (4,), (5,)])
    assert query(settings, "SELECT id, _disposition FROM quarantine.people") == [(3, "duplicate")]


def test_a_column_that_comes_while_it_runs_is_there_and_the_rules_go_on(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = with_rules(database, tmp_path, clean=[{"upper": ["email"]}])
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people VALUES (1, 'a', 1, '')")
    with running(settings):
        admin.execute("ALTER TABLE people ADD COLUMN city text DEFAULT 'Brno'")
        admin.execute("INSERT INTO people VALUES (2, 'b', 2, '', 'Praha')")
        expected = [(1, "A", "Brno"), (2, "B", "Praha")]
        wait_until(lambda: len(query(settings, "SELECT id FROM people")) == 2)
        assert query(settings, "SELECT id, email, city FROM people ORDER BY id") == expected


def test_too_many_bad_rows_stop_the_pipeline_before_they_are_visible(
    admin: Any, database: str, tmp_path: Path
) -> None:
    strict = with_rules(database, tmp_path, quality=[{"range": {"column": "age", "max": 10}}])
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people SELECT n, 'e', n % 10, 'n' FROM generate_series(1, 300) n")
    once(strict)
    admin.execute("UPDATE people SET age = 99 WHERE id <= 200")
    with pytest.raises(QualityStop, match=r"public\.people"):
        once(strict)
    with pytest.raises(QualityStop):
        once(strict)
    assert query(strict, "SELECT count(*) FROM people WHERE age < 10") == [(300,)]
    corrected = with_rules(database, tmp_path, quality=[{"range": {"column": "age", "max": 100}}])
    once(corrected)
    assert query(corrected, "SELECT count(*) FROM people WHERE age = 99") == [(200,)]


def test_what_is_measured_of_a_table_can_be_asked(admin: Any, database: str, tmp_path: Path) -> None:
    check = {"metric": "duplicateValues", "column": "email", "mustBeLessThan": 5}
    settings = with_rules(database, tmp_path, quality=[check])
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people SELECT n, 'same', n, 'n' FROM generate_series(1, 300) n")
    once(settings)
    asked = 'SELECT "table", metric, passed FROM analytics.trusted_quality'
    assert query(settings, asked) == [("public.people", "duplicateValues", False)]


@pytest.mark.parametrize("change", ["DROP COLUMN email", "RENAME COLUMN email TO mail"])
def test_a_rule_whose_column_goes_stops_the_pipeline_and_says_where(
    change: str, admin: Any, database: str, tmp_path: Path
) -> None:
    settings = with_rules(database, tmp_path, clean=[{"upper": ["email"]}])
    admin.execute(PEOPLE)
    admin.execute("INSERT INTO people VALUES (1, 'a', 1, '')")
    once(settings)
    admin.execute(f"ALTER TABLE people {change}")
    admin.execute("INSERT INTO people (id, age) VALUES (2, 2)")
    with pytest.raises(RulesBroken, match=r"public\.people.*email") as stopped:
        once(settings)
    assert re.search(r"[0-9A-F]+/[0-9A-F]+", str(stopped.value))
    corrected = with_rules(database, tmp_path, clean=[{"upper": ["note"]}])
    once(corrected)
    assert query(corrected, "SELECT count(*) FROM people") == [(2,)]
