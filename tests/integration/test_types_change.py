"""Types that change while a pipeline runs, and texts that are none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.errors import SourceError, TableWithoutKey
from smartstream.pipeline.resync import resync
from smartstream.testing.postgres import PostgresServer
from smartstream.verify import verify
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until
from tests.types_database import fresh_database


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def test_an_enum_is_extended_while_the_pipeline_runs(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    admin.execute("CREATE TABLE t (id int PRIMARY KEY, m mood, many mood[])")
    admin.execute("INSERT INTO t VALUES (1, 'sad', '{sad,happy}')")
    with running(settings):
        admin.execute("ALTER TYPE mood ADD VALUE 'just ok' BEFORE 'happy'")
        admin.execute("INSERT INTO t VALUES (2, 'just ok', '{\"just ok\",NULL}')")
        admin.execute("ALTER TYPE mood RENAME TO feeling")
        admin.execute("UPDATE t SET m = 'just ok' WHERE id = 1")
        wait_until(lambda: query(settings, "SELECT count(*) FROM t WHERE m = 'just ok'") == [(2,)])
        assert_equal(settings)


def test_an_array_is_no_key(admin: psycopg.Connection[Any], database: str, tmp_path: Path) -> None:
    admin.execute("CREATE TABLE t (k int[] PRIMARY KEY)")
    with pytest.raises(TableWithoutKey, match=r"public\.t"):
        once(settings_for(database, tmp_path))


def test_a_byte_of_any_value_is_carried_as_postgresql_escapes_it(
    admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute('CREATE TABLE t (id int PRIMARY KEY, c "char")')
    admin.execute('INSERT INTO t VALUES (1, (-56)::"char")')
    once(settings)
    admin.execute('INSERT INTO t VALUES (2, (-128)::"char")')
    once(settings)
    assert query(settings, "SELECT c FROM t ORDER BY id") == [(r"\310",), (r"\200",)]
    assert_equal(settings)


@pytest.mark.parametrize("streamed", [False, True])
def test_bytes_that_are_no_text_are_refused_by_copy_and_stream(
    streamed: bool, postgres: PostgresServer, tmp_path: Path
) -> None:
    """A database of the encoding SQL_ASCII takes any bytes for text."""
    with fresh_database(postgres, "any_bytes", "ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'") as url:
        settings = settings_for(url, tmp_path)
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("CREATE TABLE t (id int PRIMARY KEY, c text)")
            if streamed:
                once(settings)
            admin.execute(rb"INSERT INTO t VALUES (1, E'\xff')")
        with pytest.raises(SourceError, match="invalid byte sequence"):
            once(settings)


@pytest.mark.parametrize(
    "statement", ["ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "ALTER TYPE pair ADD ATTRIBUTE c int"]
)
def test_a_change_of_a_type_that_rewrites_what_rows_say_is_found_and_a_resync_follows_it(
    statement: str, admin: psycopg.Connection[Any], database: str, tmp_path: Path
) -> None:
    """PostgreSQL shows old rows otherwise and writes nothing about it."""
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    admin.execute("CREATE TYPE pair AS (a int, b text)")
    admin.execute("CREATE TABLE t (id int PRIMARY KEY, m mood, p pair)")
    admin.execute("INSERT INTO t VALUES (1, 'sad', '(1,x)'), (2, 'happy', NULL)")
    once(settings)
    admin.execute(statement.encode())
    report = verify(settings, rows=True)
    assert [one.key for one in report.tables[0].differing] == [{"id": "1"}]
    resync(settings, ["public.t"], clock=lambda: datetime.now(UTC))
    once(settings)
    assert_equal(settings)
