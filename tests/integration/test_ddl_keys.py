"""Another key, where rows of before have no value in it: they are copied, never doubled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.pipeline.apply_loop import ApplyLoop
from smartstream.pipeline.capture_loop import CaptureLoop
from smartstream.pipeline.drift import Look
from smartstream.query import open_lake
from smartstream.schema import TableSchema
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def run(admin: psycopg.Connection[Any], *statements: str) -> None:
    for statement in statements:
        admin.execute(statement.encode())


def test_a_key_column_whose_default_nobody_knows_any_more_makes_no_second_row(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was seen when it came; what older rows hold in it is asked for when it has gone."""
    reached, go_on, follow = threading.Event(), threading.Event(), CaptureLoop._follow

    def held(loop: CaptureLoop, look: Look) -> None:
        reached.set()
        assert go_on.wait(60)
        follow(loop, look)

    settings = settings_for(database, tmp_path)
    run(
        admin,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT n, 'old' FROM generate_series(1, 3) n",
    )
    with running(settings):
        assert_equal(settings)
        monkeypatch.setattr(CaptureLoop, "_follow", held)
        change = "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY "
        run(admin, f"{change} (id, k), ADD COLUMN k int NOT NULL DEFAULT 1")
        wait_until(reached.is_set)
        run(
            admin,
            "BEGIN",
            "UPDATE t SET v = 'new' WHERE id = 2",
            f"{change} (id), DROP COLUMN k",
            "COMMIT",
        )
        go_on.set()
        wait_until(lambda: query(settings, "SELECT 1 FROM t WHERE v = 'new'") == [(1,)], 60)
        assert_equal(settings)
    assert query(settings, "SELECT id, v FROM t ORDER BY id") == [(1, "old"), (2, "new"), (3, "old")]


KEYS = {
    "a column that was there": "ADD PRIMARY KEY (k)",
    "one more column": "ADD PRIMARY KEY (id, k)",
    "a column that is new": "ADD COLUMN j int NOT NULL DEFAULT 1, ADD PRIMARY KEY (id, j)",
}


@pytest.fixture
def with_rules(admin: psycopg.Connection[Any], database: str, tmp_path: Path) -> Settings:
    """Rows 2 and 4 are held in the quarantine."""
    run(
        admin,
        "CREATE TABLE t (id int PRIMARY KEY, v int, k int GENERATED ALWAYS AS IDENTITY)",
        "INSERT INTO t (id, v) VALUES (1, 1), (2, -2), (3, 3), (4, -4)",
    )
    rules = {"quality": [{"range": {"column": "v", "min": 0}}]}
    settings = settings_for(database, tmp_path, tables={"public.t": rules})
    once(settings)
    return settings


@pytest.mark.parametrize("applier", ["in_time", "late"])
@pytest.mark.parametrize("key", KEYS)
def test_rows_in_the_quarantine_have_the_new_key(
    admin: psycopg.Connection[Any],
    with_rules: Settings,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    applier: str,
) -> None:
    """The quarantine has none of the columns but its key; ``run --once`` ends with the copy, not before."""
    apply = ApplyLoop._apply_changes
    if applier == "late":
        monkeypatch.setattr(
            ApplyLoop, "_apply_changes", lambda loop, items: (threading.Event().wait(1.0), apply(loop, items))
        )
    run(admin, f"ALTER TABLE t DROP CONSTRAINT t_pkey, {KEYS[key]}", "UPDATE t SET v = 2 WHERE id = 2")
    once(with_rules)
    assert_equal(with_rules)
    assert query(with_rules, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,)]
    with open_lake(with_rules) as lake:
        assert lake.execute('SELECT "_row" FROM quarantine.t').fetchall()[0][0].startswith('{"id":"4"')


def test_rules_under_another_key_are_those_of_today_without_a_row(
    admin: psycopg.Connection[Any], with_rules: Settings
) -> None:
    run(admin, "UPDATE t SET v = abs(v)")
    once(with_rules)
    with running(with_rules) as pipeline:
        run(admin, "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k)")
        assert pipeline._journal is not None
        journal = pipeline._journal
        wait_until(lambda: TableSchema.from_json(journal.state.tables["public.t"].schema).key == ("k",))
        assert_equal(with_rules)
        assert journal.state.tables["public.t"].generation == 1


OTHER = "CREATE TABLE {} (v int, id int PRIMARY KEY)"
ALIKE = "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int)"
REPLACED = {
    "dropped and created again": ["DROP TABLE t", OTHER.format("t"), "INSERT INTO t VALUES (5, 5), (-6, 6)"],
    "by one that looks alike": [ALIKE, "INSERT INTO t (v, id) VALUES (5, 5), (-6, 6)"],
    "without a bad row": ["DROP TABLE t", OTHER.format("t"), "INSERT INTO t VALUES (5, 5)"],
    "another one has its name": [
        OTHER.format("u"),
        "INSERT INTO u VALUES (5, 5), (-6, 6)",
        "ALTER TABLE t RENAME TO gone; ALTER TABLE u RENAME TO t",
    ],
}


@pytest.mark.parametrize("how", REPLACED)
def test_a_quarantine_follows_to_another_table_of_that_name(
    admin: psycopg.Connection[Any], with_rules: Settings, how: str
) -> None:
    run(admin, *REPLACED[how])
    with running(with_rules):
        wait_until(lambda: query(with_rules, "SELECT id FROM t") == [(5,)], 60)
        run(
            admin,
            "INSERT INTO t (v, id) VALUES (-7, 7), (8, 8), (-6, 6) ON CONFLICT DO NOTHING",
            "UPDATE t SET v = 6 WHERE id = 6",
        )
        assert_equal(with_rules)
    with open_lake(with_rules) as lake:
        assert lake.execute("SELECT id FROM quarantine.t").fetchall() == [(7,)]
    once(with_rules)
    assert_equal(with_rules)


def test_a_new_key_of_rows_that_all_have_a_value_copies_nothing(
    admin: psycopg.Connection[Any], with_rules: Settings
) -> None:
    """Nor when the quarantine is empty."""
    run(admin, "UPDATE t SET v = abs(v)")
    once(with_rules)
    run(admin, f"ALTER TABLE t DROP CONSTRAINT t_pkey, {KEYS['a column that is new']}")
    with running(with_rules) as pipeline:
        run(admin, "UPDATE t SET v = 20 WHERE id = 2")
        wait_until(lambda: query(with_rules, "SELECT 1 FROM t WHERE v = 20") == [(1,)])
        assert_equal(with_rules)
        assert pipeline._journal is not None
        assert pipeline._journal.state.tables["public.t"].generation == 1
    assert query(with_rules, "SELECT DISTINCT j FROM t") == [(1,)]
