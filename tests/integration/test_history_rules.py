"""History through the rules: what trusted hides, the past hides too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.query import open_lake
from smartstream.query.why import why
from tests.integration.history_setup import fetched
from tests.running_pipeline import once, settings_for

STEPS = (
    "INSERT INTO t VALUES (1, ' Ann@x.org ', 5, 'k1'), (2, 'bob@x.org', 6, 'k2')",
    "UPDATE t SET amount = -1 WHERE id = 1",
    "UPDATE t SET email = 'cy@x.org' WHERE id = 2",
    "UPDATE t SET amount = 8 WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
)
"""A row that is bad for a while, and one that is deleted."""

RULES: dict[str, Any] = {
    "clean": [
        {"trim": ["email"]},
        {"mask": {"column": "email", "keep_first": 1}},
        {"drop": ["code"]},
    ],
    "quality": [{"range": {"column": "amount", "min": 0}}],
}


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, email text, amount int, code text)")
        yield connection


def lived(admin: Any, database: str, folder: Path, rules: dict[str, Any]) -> tuple[Settings, list[Any]]:
    """A lake that has seen every step, and what trusted showed after each, with its LSN."""
    settings = settings_for(database, folder, tables={"public.t": rules})
    once(settings)
    seen = []
    for step in STEPS:
        admin.execute(step)
        (lsn,) = admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint - 1").fetchone()
        once(settings)
        with open_lake(settings) as lake:
            seen.append((lsn, fetched(lake, "FROM t ORDER BY id")))
    return settings, seen


def alike(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows without spaces in JSON, which mean nothing."""
    return [tuple(v.replace('": ', '":') if isinstance(v, str) else v for v in row) for row in rows]


@pytest.mark.parametrize("policy", ["remove", "null_value", "keep_previous_marked"])
def test_as_of_is_what_trusted_showed(policy: str, admin: Any, database: str, tmp_path: Path) -> None:
    settings, seen = lived(admin, database, tmp_path, {**RULES, "on_bad_update": policy})
    admin.execute("INSERT INTO t VALUES (9, 'z', 1, '')")
    once(settings)
    for lsn, rows in seen:
        with open_lake(settings, "FROM t", as_of=lsn) as lake:
            assert alike(fetched(lake, "FROM t ORDER BY id")) == alike(rows)
            assert lake.sql("FROM t").columns == ["id", "email", "amount", "_quality", "_lsn", "_untyped"]


def test_history_holds_clean_rows_only(admin: Any, database: str, tmp_path: Path) -> None:
    settings, _ = lived(admin, database, tmp_path, RULES)
    statement = "SELECT id, email, amount, is_current FROM history.t ORDER BY id, valid_from_lsn"
    with open_lake(settings, statement) as lake:
        assert fetched(lake, statement) == [
            (1, "A***", 5, False),
            (1, "A***", 8, True),
            (2, "b***", 6, False),
            (2, "c***", 6, False),
        ]
        assert "code" not in lake.sql("FROM history.t").columns


def test_one_row_of_each_business_key_as_of_a_moment(admin: Any, database: str, tmp_path: Path) -> None:
    rules = {"clean": [{"dedupe": {"key": ["code"], "keep": "last", "by": "amount"}}]}
    settings = settings_for(database, tmp_path, tables={"public.t": rules})
    once(settings)
    admin.execute(
        "INSERT INTO t VALUES (1, 'a', 5, 'k'), (2, 'b', 6, 'k'), (3, 'c', 1, NULL), (4, 'd', 2, NULL)"
    )
    (lsn,) = admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint - 1").fetchone()
    admin.execute("UPDATE t SET amount = 9 WHERE id = 1")
    once(settings)
    with open_lake(settings, "FROM t", as_of=lsn) as lake:
        assert fetched(lake, "SELECT id FROM t ORDER BY id") == [(2,), (3,), (4,)]


def test_why_tells_what_the_rules_say(admin: Any, database: str, tmp_path: Path) -> None:
    settings, _ = lived(admin, database, tmp_path, RULES)
    reasons = why(settings, "t", "1").reasons
    assert [reason.verdict for reason in reasons] == ["good", "quarantine", "good"]
    assert [v["column"] for v in reasons[1].violations] == ["amount"]
    assert [reason.violations for reason in reasons[::2]] == [[], []]


def test_a_rule_that_stops_does_not_stop_a_look_back(admin: Any, database: str, tmp_path: Path) -> None:
    settings, _ = lived(admin, database, tmp_path, {})
    strict = {"quality": [{"range": {"column": "amount", "min": 0}, "on_fail": "stop"}]}
    settings = settings_for(database, tmp_path, tables={"public.t": strict})
    statement = "SELECT amount FROM history.t WHERE id = 1 ORDER BY valid_from_lsn"
    with open_lake(settings, statement) as lake:
        assert fetched(lake, statement) == [(5,), (8,)]
