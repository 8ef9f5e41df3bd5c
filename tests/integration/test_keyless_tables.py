"""Tables with and without a key: which are captured, which are refused, and who says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.doctor import Check, Status, diagnose
from smartstream.errors import TableWithoutKey
from smartstream.verify import verify
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

CAPTURED = {
    "by its primary key": ("CREATE TABLE t (id integer PRIMARY KEY, v text)", "id"),
    "full, with a primary key": (
        "CREATE TABLE t (id integer PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "id",
    ),
    "full, with unique indexes": (
        "CREATE TABLE t (id integer NOT NULL, code text NOT NULL, v text, UNIQUE (code, id));"
        "CREATE UNIQUE INDEX ON t (lower(code)); CREATE UNIQUE INDEX ON t (code);"
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "code",
    ),
    "full, with a deferrable primary key": (
        "CREATE TABLE t (id integer PRIMARY KEY DEFERRABLE, code text NOT NULL UNIQUE, v text);"
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "code",
    ),
    "by another unique index": (
        "CREATE TABLE t (id integer PRIMARY KEY, code text NOT NULL UNIQUE, v text);"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
        "code",
    ),
    "by a unique index, without a primary key": (
        "CREATE TABLE t (id integer NOT NULL, code text NOT NULL, v text, UNIQUE (code, id));"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_id_key",
        "code, id",
    ),
}
REFUSED = {
    "no key": ("CREATE TABLE t (id integer, v text)", "it has no primary key"),
    "unique, but not the identity": (
        "CREATE TABLE t (id integer NOT NULL UNIQUE, v text)",
        "it has no primary key",
    ),
    "full, with a unique index that lets nulls in": (
        "CREATE TABLE t (id integer UNIQUE, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "it has no primary key",
    ),
    "full, with a unique index of some rows": (
        "CREATE TABLE t (id integer NOT NULL, v text); CREATE UNIQUE INDEX ON t (id) WHERE id > 5;"
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "it has no primary key",
    ),
    "full, without a key": (
        "CREATE TABLE t (id integer, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "it has no primary key",
    ),
    "nothing": (
        "CREATE TABLE t (id integer PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY NOTHING",
        "its REPLICA IDENTITY is NOTHING",
    ),
    "the index is gone": (
        "CREATE TABLE t (id integer NOT NULL, v text); CREATE UNIQUE INDEX i ON t (id);"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i",
        "the index of its REPLICA IDENTITY is gone",
    ),
    "deferrable": (
        "CREATE TABLE t (id integer PRIMARY KEY DEFERRABLE, v text)",
        "its primary key is DEFERRABLE",
    ),
}


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def check_of(settings: Any) -> Check:
    (check,) = [check for check in diagnose(settings) if check.name == "keys"]
    return check


def test_any_identity_that_names_the_row_is_followed(admin: Any, database: str, tmp_path: Path) -> None:
    tables = [f"t{number}" for number in range(len(CAPTURED))]
    for table, (create, _) in zip(tables, CAPTURED.values(), strict=True):
        schema = f"s_{table}"
        admin.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {create}".encode())
    settings = settings_for(database, tmp_path, tables={"s_*.*": {}})
    coded = [table for table, (create, _) in zip(tables, CAPTURED.values(), strict=True) if "code" in create]
    with running(settings, ready=False) as pipeline:
        wait_until(lambda: pipeline._errors or pipeline.ready(), 60)
        keys = {schema.schema: ", ".join(schema.key) for schema in pipeline._tables.all()}
        for table, (_, key) in zip(tables, CAPTURED.values(), strict=True):
            assert sorted(keys[f"s_{table}"].split(", ")) == sorted(key.split(", ")), table
        for table in tables:
            name, code = f"s_{table}.t", table in coded
            columns, values = ("id, code, v", "n, 'c' || n, 'a'") if code else ("id, v", "n, 'a'")
            admin.execute(
                f"INSERT INTO {name} ({columns}) SELECT {values} FROM generate_series(1, 9) n;"
                f"UPDATE {name} SET v = 'b' WHERE id IN (1, 2);"
                f"UPDATE {name} SET id = id + 100 WHERE id IN (2, 3);"  # of some it is the key
                f"DELETE FROM {name} WHERE id IN (4, 102)".encode()
            )
            if code:
                admin.execute(f"UPDATE {name} SET code = 'other' WHERE id = 5".encode())
        assert_equal(settings)
    assert [table.lake_rows for table in verify(settings).tables] == [7] * len(tables)


def test_a_table_without_one_is_refused_before_it_is_published(
    admin: Any, database: str, tmp_path: Path
) -> None:
    admin.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    reasons = {}
    for number, (create, reason) in enumerate(REFUSED.values()):
        schema = f"r{number}"
        reasons[f"{schema}.t"] = f"{schema}.t: {reason}"
        statements = (
            f"CREATE SCHEMA {schema}; SET search_path = {schema}; {create}; INSERT INTO t VALUES (1, 'a')"
        )
        admin.execute(statements.encode())
    settings = settings_for(database, tmp_path, tables={"*.*": {}})
    with pytest.raises(TableWithoutKey) as refused:
        once(settings)
    check = check_of(settings)
    assert check.status is Status.FAIL
    assert "PostgreSQL lets the application's own UPDATE and DELETE fail" in check.why
    for reason in reasons.values():
        assert reason in str(refused.value)
        assert reason in check.found
    # So none is ever published, and the application's own statements go on.
    for table in reasons:
        admin.execute(f"UPDATE {table} SET v = 'b'; DELETE FROM {table}".encode())
    excluded = {table: {"exclude": True} for table in reasons}
    settings = settings_for(database, tmp_path, tables={"*.*": {}, **excluded})
    once(settings)
    assert check_of(settings).status is Status.OK


def test_a_table_that_gets_its_key_later_is_captured_from_then_on(
    admin: Any, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin.execute("CREATE TABLE first (id integer PRIMARY KEY)")
    settings = settings_for(database, tmp_path)
    with running(settings) as pipeline, caplog.at_level(logging.WARNING):
        # Twice the same row: without a key nobody can tell them apart.
        admin.execute("CREATE TABLE log (id integer, v text); INSERT INTO log VALUES (1, 'a'), (1, 'a')")
        wait_until(lambda: "public.log: it has no primary key" in caplog.text, 60)
        assert verify(settings).left_out == ("public.log",)
        assert "public.log: it has no primary key" in check_of(settings).found
        admin.execute("UPDATE log SET v = 'b'; DELETE FROM log; INSERT INTO log VALUES (1, 'a'), (2, 'b')")
        admin.execute("ALTER TABLE log ADD PRIMARY KEY (id)")
        wait_until(lambda: "public.log" in pipeline.progress().tables and pipeline.ready(), 60)
        admin.execute("UPDATE log SET v = 'c' WHERE id = 2")
        assert_equal(settings)
    assert query(settings, "SELECT id, v FROM log ORDER BY 1") == [(1, "a"), (2, "c")]
    assert check_of(settings).status is Status.OK


def test_a_column_whose_not_null_was_not_validated_is_no_key_and_may_be_null(
    admin: Any, database: str, tmp_path: Path
) -> None:
    if admin.info.server_version < 180000:
        pytest.skip("NOT NULL may be NOT VALID from PostgreSQL 18 on")
    admin.execute(
        "CREATE TABLE t (id integer UNIQUE, code text NOT NULL UNIQUE, v text);"
        "INSERT INTO t VALUES (NULL, 'a', NULL), (NULL, 'b', 'v'), (3, 'c', 'v');"
        "ALTER TABLE t ADD CONSTRAINT ids NOT NULL id NOT VALID, ADD CONSTRAINT vs NOT NULL v NOT VALID;"
        "ALTER TABLE t REPLICA IDENTITY FULL"
    )
    settings = settings_for(database, tmp_path)
    once(settings)
    admin.execute("UPDATE t SET id = 4, v = 'x' WHERE code = 'a'; DELETE FROM t WHERE code = 'b'")
    once(settings)
    assert_equal(settings)
    assert query(settings, "SELECT id, code, v FROM t ORDER BY code") == [(4, "a", "x"), (3, "c", "v")]


def test_under_full_identity_another_index_takes_the_place_of_one_that_goes(
    admin: Any, database: str, tmp_path: Path
) -> None:
    admin.execute(
        "CREATE TABLE t (id integer NOT NULL, code text NOT NULL, v text, UNIQUE (code, id));"
        "CREATE UNIQUE INDEX by_id ON t (id); ALTER TABLE t REPLICA IDENTITY FULL;"
        "INSERT INTO t SELECT n, 'c' || n, 'a' FROM generate_series(1, 9) n"
    )
    settings = settings_for(database, tmp_path)

    def keyed_by(pipeline: Any) -> tuple[str, ...]:
        (schema,) = pipeline._tables.all()
        return tuple(schema.key)

    with running(settings) as pipeline:
        assert keyed_by(pipeline) == ("id",)
        admin.execute("DROP INDEX by_id; INSERT INTO t VALUES (1, 'again', 'b')")
        wait_until(lambda: sorted(keyed_by(pipeline)) == ["code", "id"] and pipeline.ready(), 60)
        admin.execute("UPDATE t SET id = 50 WHERE code = 'again'; DELETE FROM t WHERE id = 9")
        assert_equal(settings)
