"""Two-phase commit: what is prepared is in the lake when, and only when, it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.capture import slot
from smartstream.capture.connect import connect
from smartstream.errors import SlotTwoPhase, SourceBusy
from smartstream.manifest import LakeState
from smartstream.pipeline import Pipeline, copy_loop
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
        connection.autocommit = True
        for (gid,) in prepared(connection):
            connection.execute(f"ROLLBACK PREPARED '{gid}'")


def prepared(connection: psycopg.Connection[Any]) -> list[tuple[str]]:
    statement = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    return connection.execute(statement).fetchall()


def prepare(url: str, gid: str, *statements: str) -> None:
    """Execute statements in a transaction of their own and prepare it."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in ("BEGIN", *statements, f"PREPARE TRANSACTION '{gid}'"):
            connection.execute(statement)


def gid(database: str, name: str) -> str:
    """Global identifiers are the cluster's: one for each test's database."""
    return f"{database.rsplit('/', 1)[1]}-{name}"


def create(admin: Any, rows: int = 100) -> None:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    admin.execute("INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, %s) n", (rows,))


def test_a_prepared_transaction_counts_when_it_is_committed(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    create(admin)
    first, second = gid(database, "first"), gid(database, "second")
    with running(settings) as pipeline:
        prepare(
            database, first, "UPDATE t SET v = 'prepared' WHERE id <= 10", "INSERT INTO t VALUES (101, 'p')"
        )
        prepare(
            database, second, "DELETE FROM t WHERE id BETWEEN 11 AND 20", "INSERT INTO t VALUES (102, 'no')"
        )
        admin.execute("UPDATE t SET v = 'other' WHERE id > 90")
        wait_until(lambda: query(settings, "SELECT count(*) FROM t WHERE v = 'other'") == [(10,)])
        assert query(settings, "SELECT count(*) FROM t WHERE v IN ('prepared', 'p', 'no')") == [(0,)]
        admin.execute(f"COMMIT PREPARED '{first}'")
        wait_until(lambda: query(settings, "SELECT count(*) FROM t WHERE v = 'prepared'") == [(10,)])
        admin.execute(f"ROLLBACK PREPARED '{second}'")
        admin.execute("INSERT INTO t VALUES (103, 'after')")
        assert_equal(settings)
        wait_until(pipeline.ready)
    assert query(settings, "SELECT count(*), count(*) FILTER (id > 100) FROM t") == [(102, 2)]


def test_a_prepared_transaction_outlives_the_pipeline(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    create(admin)
    once(settings)
    kept, dropped = gid(database, "kept"), gid(database, "dropped")
    prepare(database, kept, "UPDATE t SET id = id + 1000 WHERE id <= 10")
    prepare(database, dropped, "DELETE FROM t WHERE id > 50")
    admin.execute("UPDATE t SET v = 'meanwhile' WHERE id BETWEEN 20 AND 30")
    with running(settings):
        wait_until(lambda: query(settings, "SELECT count(*) FROM t WHERE v = 'meanwhile'") == [(11,)])
    once(settings)
    assert query(settings, "SELECT count(*) FROM t WHERE id > 1000") == [(0,)]
    admin.execute(f"COMMIT PREPARED '{kept}'")
    admin.execute(f"ROLLBACK PREPARED '{dropped}'")
    once(settings)
    assert query(settings, "SELECT count(*) FROM t WHERE id > 1000") == [(10,)]
    assert_equal(settings)


def test_a_two_phase_slot_is_refused_and_the_hint_mends_it(admin: Any, database: str, tmp_path: Path) -> None:
    if admin.info.server_version < 140000:
        pytest.skip("slots of this server have one phase")
    settings = settings_for(database, tmp_path)
    create(admin)
    name = settings.source.slot.name
    admin.execute(f"CREATE PUBLICATION {settings.source.publication} FOR TABLE t")
    admin.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, true)", (name,))
    early, late = gid(database, "early"), gid(database, "late")
    prepare(database, early, "UPDATE t SET v = 'early' WHERE id <= 10")
    admin.execute("INSERT INTO t VALUES (101, 'between')")
    with pytest.raises(SlotTwoPhase, match="two-phase") as refused:
        once(settings)
    for statement in refused.value.hint.split(":", 1)[1].split(";"):
        if statement.strip():
            admin.execute(statement)
    with running(settings, ready=False) as pipeline:
        admin.execute(f"COMMIT PREPARED '{early}'")
        wait_until(pipeline.ready)
        prepare(database, late, "UPDATE t SET v = 'late' WHERE id > 90")
        admin.execute("INSERT INTO t VALUES (102, 'between')")
    admin.execute(f"COMMIT PREPARED '{late}'")
    once(settings)
    assert query(settings, "SELECT count(*) FILTER (v = 'early'), count(*) FILTER (v = 'late') FROM t") == [
        (10, 11)
    ]
    assert_equal(settings)


def test_a_slot_that_waits_for_a_prepared_transaction_names_it(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    create(admin)
    name = gid(database, "before")
    prepare(database, name, "INSERT INTO t VALUES (101, 'before the slot')")
    with connect(settings.source) as connection, pytest.raises(SourceBusy, match=name):
        slot.ensure(connection, settings.source, LakeState(), create_wait_s=0.5)
    ended = threading.Timer(0.5, lambda: admin.execute(f"COMMIT PREPARED '{name}'"))
    ended.start()
    once(settings)
    ended.join()
    assert_equal(settings)
    assert query(settings, "SELECT v FROM t WHERE id = 101") == [("before the slot",)]


def test_a_table_is_copied_while_others_are_prepared(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    create(admin)
    kept, dropped = gid(database, "kept"), gid(database, "dropped")
    with running(settings) as pipeline:
        prepare(
            database,
            kept,
            "UPDATE t SET v = 'prepared' WHERE id <= 10",
            "UPDATE t SET id = id + 10000 WHERE id BETWEEN 11 AND 20",
        )
        prepare(database, dropped, "DELETE FROM t WHERE id BETWEEN 21 AND 30")
        admin.execute("CREATE TABLE late AS SELECT n AS id FROM generate_series(1, 1000) n")
        admin.execute("ALTER TABLE late ADD PRIMARY KEY (id)")
        wait_until(lambda: status(pipeline, "public.late") == "ready")
        admin.execute("UPDATE t SET v = 'between' WHERE id > 50")
        admin.execute(f"COMMIT PREPARED '{kept}'")
        admin.execute(f"ROLLBACK PREPARED '{dropped}'")
        assert_equal(settings)
    assert query(settings, "SELECT count(*) FILTER (v = 'prepared'), count(*) FROM t") == [(10, 100)]


def test_a_copy_waits_for_what_was_written_before_the_table_was_published(
    admin: Any,
    database: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_for(database, tmp_path, limits={"copy_chunk_bytes": "16KiB"})
    admin.execute("CREATE TABLE first (id integer PRIMARY KEY)")
    once(settings)
    create(admin, rows=3000)
    kept, dropped = gid(database, "kept"), gid(database, "dropped")
    prepare(
        database,
        kept,
        "UPDATE t SET v = 'prepared' WHERE id <= 10",
        "UPDATE t SET id = id + 10000 WHERE id BETWEEN 11 AND 20",
        "INSERT INTO t VALUES (20001, 'prepared')",
    )
    prepare(database, dropped, "DELETE FROM t WHERE id > 100")
    monkeypatch.setattr(copy_loop, "OLDER_TRANSACTIONS_WAIT_S", 0.5)
    with running(settings, ready=False) as pipeline:
        for name, end in ((kept, "COMMIT"), (dropped, "ROLLBACK")):
            caplog.clear()
            wait_until(lambda name=name: f"prepared transaction '{name}'" in caplog.text)
            assert status(pipeline, "public.t") == "copying"
            assert status(pipeline, "public.first") == "ready"
            admin.execute(f"{end} PREPARED '{name}'")
        admin.execute("INSERT INTO t VALUES (20002, 'after')")
        wait_until(pipeline.ready)
        assert_equal(settings)
    assert query(settings, "SELECT count(*) FILTER (v = 'prepared'), count(*) FROM t") == [(11, 3002)]


def status(pipeline: Pipeline, table: str) -> str | None:
    found = pipeline.progress().tables.get(table)
    return found.status if found else None
