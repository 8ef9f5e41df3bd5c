"""A table's ``unrepresentable`` in a running pipeline: where rows are, and that verify judges rightly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.query import open_lake
from smartstream.verify import verify
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

EVENTS = (
    "CREATE TABLE events (id integer PRIMARY KEY, until date, moment timestamptz, amount numeric,"
    " days date[], note text)"
)
DAY, DAY_US = date(2026, 1, 1), 1_767_225_600_000_000
FIRST_US = -62_135_596_800_000_000
"""The first moment of the year 1."""


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(EVENTS)
        connection.execute(
            "ALTER TABLE events ALTER amount SET STORAGE EXTERNAL, ALTER days SET STORAGE EXTERNAL"
        )
        yield connection


def with_policy(database: str, folder: Path, policy: str, **rules: Any) -> Settings:
    return settings_for(database, folder, tables={"public.*": {"unrepresentable": policy, **rules}})


def insert(admin: psycopg.Connection[Any], number: int, **values: str) -> None:
    columns = {"until": "2026-01-01", "moment": "2026-01-01 00:00+00", "amount": "1", "days": "{2026-01-01}"}
    row = {"id": str(number), **columns, **values}
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    admin.execute(f"INSERT INTO events ({names}) VALUES ({marks})".encode(), list(row.values()))


def odd_rows(admin: psycopg.Connection[Any], first: int) -> None:
    """Five rows: four with a value each that nothing can hold, and one without."""
    insert(admin, first, until="infinity")
    insert(admin, first + 1, moment="0044-03-15 00:00+00 BC")
    insert(admin, first + 2, amount="NaN")
    insert(admin, first + 3, days="{2026-01-01,infinity}")
    insert(admin, first + 4)


def test_quarantine_holds_rows_of_the_copy_and_the_stream_until_they_can_be_held(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    settings = with_policy(database, tmp_path, "quarantine")
    odd_rows(admin, 1)
    with running(settings):
        odd_rows(admin, 11)
        wait_until(lambda: query(settings, "SELECT count(*) FROM quarantine.events") == [(8,)])
        wait_until(lambda: query(settings, "SELECT id FROM events ORDER BY id") == [(5,), (15,)])
        assert_equal(settings)
        admin.execute("UPDATE events SET until = '2026-02-02' WHERE id IN (1, 11)")
        admin.execute("UPDATE events SET amount = 'infinity' WHERE id = 5")
        admin.execute("UPDATE events SET note = 'still not' WHERE id = 12")
        admin.execute("DELETE FROM events WHERE id = 3")
        wait_until(lambda: query(settings, "SELECT id FROM events ORDER BY id") == [(1,), (11,), (15,)])
        assert_equal(settings)
    held = query(settings, "SELECT id, _violations, _row FROM quarantine.events ORDER BY id")
    assert [row[0] for row in held] == [2, 4, 5, 12, 13, 14]
    assert {one["column"] for row in held for one in json.loads(row[1])} == {"moment", "amount", "days"}
    assert json.loads(held[2][2])["amount"] == "Infinity"
    assert query(settings, "SELECT count(*) FROM events WHERE _untyped IS NOT NULL") == [(0,)]


def test_clamp_keeps_rows_with_the_nearest_value_marked(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    settings = with_policy(database, tmp_path, "clamp")
    odd_rows(admin, 1)
    insert(admin, 6, amount="9" * 9000)
    with running(settings):
        admin.execute("UPDATE events SET note = 'amount is not sent' WHERE id = 6")
        odd_rows(admin, 11)
        admin.execute("UPDATE events SET until = '-infinity' WHERE id = 15")
        wait_until(lambda: query(settings, "SELECT until FROM events WHERE id = 15") == [(date(1, 1, 1),)])
        assert_equal(settings)
    rows = {
        row[0]: row[1:]
        for row in query(
            settings, "SELECT id, until, epoch_us(moment), amount, days, _untyped, _quality FROM events"
        )
    }
    for first in (1, 11):
        assert rows[first][0] == date(9999, 12, 31)
        assert rows[first + 1][1] == FIRST_US
        assert (rows[first + 2][2], json.loads(rows[first + 2][4])) == (None, {"amount": "NaN"})
        assert (rows[first + 3][3], json.loads(rows[first + 3][4])) == (
            None,
            {"days": "{2026-01-01,infinity}"},
        )
        assert json.loads(rows[first][5]) == {"warn": ["unrepresentable:until"]}
    assert rows[5] == (DAY, DAY_US, Decimal(1), [DAY], None, None)
    assert (rows[6][2], rows[6][4]) == (Decimal("999999999999999999.99999999999999999999"), None)
    assert json.loads(rows[6][5]) == {"warn": ["unrepresentable:amount"]}


@pytest.mark.parametrize("on_bad_update", ["null_value", "keep_previous_marked"])
def test_a_bad_update_does_what_the_table_says_of_bad_updates(
    on_bad_update: str, admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    settings = with_policy(database, tmp_path, "quarantine", on_bad_update=on_bad_update)
    insert(admin, 1)
    once(settings)
    admin.execute("UPDATE events SET until = 'infinity', days = '{infinity}', note = 'new' WHERE id = 1")
    once(settings)
    assert_equal(settings)
    found = query(settings, "SELECT until, days, note, _quality FROM events")[0]
    if on_bad_update == "null_value":
        assert found[:3] == (None, None, "new")
        assert json.loads(found[3]) == {"nulled": ["days", "until"]}
    else:
        assert found[:3] == (DAY, [DAY], None)


def test_another_policy_makes_the_table_again_from_raw(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    odd_rows(admin, 1)
    for policy, in_trusted, held, flagged in (
        ("null_and_flag", 5, 0, 4),
        ("quarantine", 1, 4, 0),
        ("clamp", 5, 0, 2),
        ("null_and_flag", 5, 0, 4),
    ):
        settings = with_policy(database, tmp_path, policy)
        once(settings)
        assert_equal(settings)
        assert query(settings, "SELECT count(*), count(_untyped) FROM events") == [(in_trusted, flagged)]
        if policy != "null_and_flag":
            assert query(settings, "SELECT count(*) FROM quarantine.events") == [(held,)]


def test_verify_finds_a_row_that_another_policy_would_have_let_pass(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    odd_rows(admin, 1)
    once(with_policy(database, tmp_path, "clamp"))
    for policy in ("null_and_flag", "quarantine"):
        report = verify(with_policy(database, tmp_path, policy))
        assert not report.ok


@pytest.mark.parametrize(
    ("policy", "untils"),
    [
        ("null_and_flag", [DAY, None]),
        ("clamp", [DAY, date(9999, 12, 31)]),
        ("quarantine", [DAY]),
    ],
)
def test_history_shows_what_the_trusted_table_had(
    policy: str, untils: list[Any], admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    settings = with_policy(database, tmp_path, policy)
    insert(admin, 1)
    once(settings)
    admin.execute("UPDATE events SET until = 'infinity'")
    once(settings)
    statement = "SELECT until FROM history.events ORDER BY valid_from_lsn"
    with open_lake(settings, statement) as lake:
        assert [until for (until,) in lake.execute(statement).fetchall()] == untils
