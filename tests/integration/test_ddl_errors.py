"""Schema changes that stop the pipeline, or that take a table away: said by name, nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import CopyFailed, SchemaFrozen, SmartStreamError, TableWithoutKey
from smartstream.pipeline import copy_loop
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
        connection.execute("INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 50) g")
        yield connection


def run_until_stopped(settings: Settings, admin: psycopg.Connection[Any], *statements: str) -> None:
    with running(settings) as pipeline:
        for statement in statements:
            admin.execute(statement.encode())
        wait_until(lambda: bool(pipeline._errors), 60)


@pytest.mark.parametrize(
    "statement", ["ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t REPLICA IDENTITY NOTHING"]
)
def test_a_table_that_loses_its_key_stops_the_pipeline_by_name(
    statement: str, admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    with pytest.raises(TableWithoutKey, match=r"public\.t"):
        run_until_stopped(settings, admin, statement, "INSERT INTO t VALUES (1001, 'after')")
    admin.execute("ALTER TABLE t REPLICA IDENTITY DEFAULT")
    admin.execute("ALTER TABLE t DROP CONSTRAINT IF EXISTS t_pkey, ADD PRIMARY KEY (id)")
    once(settings)
    assert_equal(settings)


def test_a_change_that_a_contract_refuses_names_table_column_and_lsn(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path, tables={"public.*": {"contract": {"data_type": "freeze"}}})
    statements = ("ALTER TABLE t ALTER COLUMN v TYPE integer USING id", "INSERT INTO t VALUES (1001, 1)")
    said = r"public\.t: the type of column v changed from text to integer at [0-9A-F]+/[0-9A-F]+"
    with pytest.raises(SchemaFrozen, match=said):
        run_until_stopped(settings, admin, *statements)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t RENAME TO other",
        "ALTER TABLE t SET SCHEMA aside",
        "ALTER SCHEMA public RENAME TO aside",
    ],
)
def test_a_table_under_another_name_is_another_table(
    statement: str, admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path, tables={"public.*": {}, "aside.*": {}})
    admin.execute("CREATE TABLE stays (id integer PRIMARY KEY)")
    if "SET" in statement:
        admin.execute("CREATE SCHEMA aside")
    name = "public.other" if "other" in statement else "aside.t"
    with running(settings) as pipeline:
        admin.execute(statement.encode())
        admin.execute(f"INSERT INTO {name} VALUES (1001, 'after')".encode())
        wait_until(lambda: name in pipeline.progress().tables or bool(pipeline._errors), 60)
        admin.execute(f"DELETE FROM {name} WHERE id = 7".encode())
        wait_until(lambda: pipeline.progress().tables[name].status == "ready", 60)
        assert_equal(settings)


def test_a_dropped_table_leaves_the_others_running(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE stays (id integer PRIMARY KEY)")
    with running(settings):
        admin.execute("INSERT INTO t VALUES (1001, 'last')")
        admin.execute("DROP TABLE t")
        admin.execute("INSERT INTO stays VALUES (1)")
        wait_until(lambda: query(settings, "SELECT count(*) FROM stays") == [(1,)], 60)
        assert_equal(settings)


def test_a_table_altered_while_its_copy_runs_is_copied_as_it_is_then(
    admin: Any, database: str, tmp_path: Path
) -> None:
    admin.execute("INSERT INTO t SELECT g, repeat('v', 500) FROM generate_series(101, 20000) g")
    settings = settings_for(database, tmp_path, limits={"copy_chunk_bytes": 1 << 20})
    with running(settings, ready=False) as pipeline:
        wait_until(lambda: pipeline.progress().tables.get("public.t") is not None, 60)
        admin.execute("ALTER TABLE t ADD COLUMN at timestamptz DEFAULT clock_timestamp()")
        admin.execute("ALTER TABLE t RENAME COLUMN v TO w")
        admin.execute("UPDATE t SET w = 'new' WHERE id < 100")
        wait_until(pipeline.ready, 60)
        assert_equal(settings)


def test_a_copy_that_fails_for_good_gives_up_and_says_why(
    admin: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL says the same of a table that changes and of a function that is not there."""
    monkeypatch.setattr(copy_loop, "RESTART_WAIT_S", 0.01)
    monkeypatch.setattr(copy_loop.snapshot, "read_chunk", _fails)
    with pytest.raises(
        CopyFailed, match=r"public\.t.* from [0-9A-F]+/[0-9A-F]+ .*5 times.*no_such"
    ) as raised:
        once(settings_for(database, tmp_path))
    assert isinstance(raised.value, SmartStreamError)
    assert raised.value.hint


def _fails(*_: object, **__: object) -> Any:
    raise copy_loop.TableRewritten("function no_such(integer) does not exist")


def test_labels_renamed_again_and_again_are_right_in_the_end(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TYPE mood AS ENUM ('m0', 'other')")
    admin.execute("CREATE TABLE e (id integer PRIMARY KEY, m mood[])")
    admin.execute("INSERT INTO e SELECT g, '{m0,other}' FROM generate_series(1, 20) g")
    pause = threading.Event()
    with running(settings):
        for number in range(5):
            admin.execute(f"ALTER TYPE mood RENAME VALUE 'm{number}' TO 'm{number + 1}'".encode())
            admin.execute(f"INSERT INTO e VALUES ({100 + number}, '{{m{number + 1}}}')".encode())
            pause.wait(0.3)
        wait_until(lambda: query(settings, "SELECT DISTINCT m[1] FROM e") == [("m5",)], 60)
        assert_equal(settings)
