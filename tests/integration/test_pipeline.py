"""The pipeline as a whole, on a real server: what goes in comes out, equal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.manifest import EntryKind
from smartstream.pipeline import Pipeline, copy_loop
from smartstream.pipeline.resync import resync
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.testing.postgres import PostgresServer
from smartstream.verify.compare import _now as now
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def entries(settings: Settings) -> list[Any]:
    return list(ManifestLog(open_store(settings.lake), now).entries(0))


def test_copy_then_changes_then_nothing(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    admin.execute("INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 1000) n")
    once(settings)
    assert_equal(settings)
    admin.execute("UPDATE t SET v = 'new' WHERE id % 3 = 0")
    admin.execute("DELETE FROM t WHERE id % 5 = 0")
    admin.execute("UPDATE t SET id = id + 10000 WHERE id % 7 = 0")
    once(settings)
    assert_equal(settings)
    count = len(entries(settings))
    once(settings)
    assert_equal(settings)
    assert len(entries(settings)) <= count + 2
    assert sum(e.kind is EntryKind.COPY_START for e in entries(settings)) == 1


def test_columns_change_while_it_runs(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, a text, b integer, gone text)")
    admin.execute("INSERT INTO t SELECT n, 'a' || n, n, 'x' FROM generate_series(1, 500) n")
    with running(settings) as pipeline:
        for step, ddl in enumerate(
            (
                "ALTER TABLE t ADD COLUMN plain text",
                "ALTER TABLE t ADD COLUMN filled integer DEFAULT 42",
                "ALTER TABLE t RENAME COLUMN a TO renamed",
                "ALTER TABLE t DROP COLUMN gone",
                "ALTER TABLE t ADD COLUMN gone integer DEFAULT 7",
                "ALTER TABLE t ALTER COLUMN b TYPE bigint",
            )
        ):
            admin.execute(ddl)
            applied = pipeline.progress().applied_count
            admin.execute("UPDATE t SET b = b + 1 WHERE id %% 7 = %s", (step,))
            wait_until(lambda before=applied: pipeline.progress().applied_count > before)
        assert_equal(settings)
    assert sum(e.kind is EntryKind.COPY_START for e in entries(settings)) == 1
    assert query(settings, "SELECT renamed, filled, gone FROM t WHERE id = 499") == [("a499", 42, 7)]


def test_a_schema_change_that_no_row_announces_is_followed(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)")
    admin.execute("INSERT INTO t VALUES (1, 'x')")
    with running(settings):
        admin.execute("ALTER TABLE t ADD COLUMN later text DEFAULT 'd'")
        admin.execute("ALTER TABLE t RENAME COLUMN a TO b")
        wait_until(lambda: any("later" in str(e.detail) for e in entries(settings)))
        assert_equal(settings)
    assert query(settings, "SELECT b, later FROM t") == [("x", "d")]


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE t ALTER COLUMN a TYPE integer USING length(a)",
        "ALTER TABLE t ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
    ],
)
def test_ddl_that_rewrites_rows_copies_the_table_anew(
    ddl: str, admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)")
    admin.execute("INSERT INTO t SELECT n, 'a' || n FROM generate_series(1, 500) n")
    with running(settings) as pipeline:
        admin.execute("INSERT INTO t VALUES (1001, 'before')")
        admin.execute(ddl)
        admin.execute("DELETE FROM t WHERE id = 3")
        wait_until(lambda: sum(e.kind is EntryKind.COPY_END for e in entries(settings)) == 2)
        wait_until(pipeline.ready)
        assert_equal(settings)


def test_a_new_table_is_copied_while_it_runs(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    with running(settings) as pipeline:
        admin.execute("CREATE TABLE late (k text, n integer, v text, PRIMARY KEY (k, n))")
        admin.execute("INSERT INTO late SELECT 'k', n, 'v' FROM generate_series(1, 100) n")
        wait_until(lambda: "public.late" in pipeline.progress().tables)
        admin.execute("DELETE FROM late WHERE n < 50")
        wait_until(pipeline.ready)
        assert_equal(settings)
    assert query(settings, "SELECT count(*) FROM late") == [(51,)]


def test_truncate_and_inserts_in_one_transaction(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE a (id integer PRIMARY KEY)")
    admin.execute("CREATE TABLE b (id integer PRIMARY KEY)")
    admin.execute("INSERT INTO a SELECT generate_series(1, 100)")
    admin.execute("INSERT INTO b SELECT generate_series(1, 100)")
    once(settings)
    with admin.transaction():
        admin.execute("INSERT INTO a VALUES (500)")
        admin.execute("TRUNCATE a, b")
        admin.execute("INSERT INTO a VALUES (1), (7)")
    once(settings)
    assert_equal(settings)
    assert query(settings, "SELECT id FROM a ORDER BY id") == [(1,), (7,)]
    assert query(settings, "SELECT count(*) FROM b") == [(0,)]


def test_a_transaction_larger_than_memory_becomes_visible_at_once(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(
        database,
        tmp_path,
        defaults={"flush": {"every": "100ms", "bytes": "1MiB"}},
        limits={"memory_bytes": "16MiB", "queue_bytes": "1KiB"},
    )
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, v text, n integer)")
    admin.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    admin.execute("INSERT INTO t SELECT n, repeat(md5(n::text), 30), 0 FROM generate_series(1, 30000) n")
    once(settings)
    with admin.transaction():
        admin.execute("UPDATE t SET n = n + 1, v = v || 'x'")
        admin.execute("INSERT INTO other SELECT generate_series(1, 20000)")
        admin.execute("UPDATE t SET id = id + 100000 WHERE id % 10 = 0")
        admin.execute("DELETE FROM t WHERE id % 7 = 0")
    once(settings)
    assert_equal(settings)
    changes = [e for e in entries(settings) if e.kind is EntryKind.CHANGES and e.files]
    assert len(changes) == 1, "one entry, so that it becomes visible at once"
    assert len(changes[0].files) > 3, "many files, so that it was written in pieces"


def test_unchanged_toast_survives_updates_key_changes_and_batches(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (a integer, b text, big text, tags text[], n integer, PRIMARY KEY (a, b))")
    admin.execute("ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER tags SET STORAGE EXTERNAL")
    long = "SELECT string_agg(md5((n * 1000 + i)::text), '') FROM generate_series(1, 100) i"
    admin.execute(f"INSERT INTO t SELECT n, 'k', ({long}), ARRAY[({long})], 0 FROM generate_series(1, 50) n")
    once(settings)
    for move in range(4):
        admin.execute("UPDATE t SET n = n + 1")
        admin.execute("UPDATE t SET b = b || %s WHERE a %% 2 = 0", (str(move),))
        if move % 2:
            once(settings)
    once(settings)
    assert_equal(settings)


def test_a_copy_goes_on_where_it_was_stopped(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(
        database, tmp_path, limits={"copy_chunk_bytes": "64KiB", "copy_workers": 1, "memory_bytes": "64MiB"}
    )
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    admin.execute("INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series(1, 20000) n")
    pipeline, stop = Pipeline(settings), threading.Event()
    thread = threading.Thread(target=lambda: pipeline.run(stop=stop))
    thread.start()
    wait_until(lambda: sum(e.kind is EntryKind.COPY_CHUNK for e in entries(settings)) >= 3)
    stop.set()
    thread.join()
    done = sum(e.kind is EntryKind.COPY_CHUNK for e in entries(settings))
    admin.execute("DELETE FROM t WHERE id % 4 = 0")
    once(settings)
    assert_equal(settings)
    chunks = [e.detail["chunk"] for e in entries(settings) if e.kind is EntryKind.COPY_CHUNK]
    assert len(chunks) == len(set(chunks)) > done, "no chunk was read twice"


def test_a_copy_that_the_log_has_passed_when_it_ends_waits_for_nothing_more(
    admin: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a quiet source nothing more comes, until the server writes WAL of its own accord."""
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    pipelines: list[Pipeline] = []
    reached_lsn = copy_loop.reached_lsn

    def passed_lsn(connection: psycopg.Connection[Any]) -> int:
        lsn = reached_lsn(connection)
        admin.execute("INSERT INTO t VALUES (1)")
        wait_until(lambda: pipelines and pipelines[0].progress().durable_lsn >= lsn)
        return lsn

    monkeypatch.setattr(copy_loop, "reached_lsn", passed_lsn)
    settings = settings_for(database, tmp_path, source={"url": database, "heartbeat": "1h"})
    with running(settings, ready=False) as pipeline:
        pipelines.append(pipeline)
        wait_until(pipeline.ready)
    assert query(settings, "SELECT id FROM t") == [(1,)]


def test_resync_of_one_table_and_of_all(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    admin.execute("CREATE TABLE u (id integer PRIMARY KEY)")
    admin.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    once(settings)
    assert resync(settings, ["public.t"], clock=now) == ["public.t"]
    admin.execute("UPDATE t SET v = 'c' WHERE id = 1")
    once(settings)
    assert_equal(settings)
    admin.execute("SELECT pg_drop_replication_slot('smartstream')")
    admin.execute("DELETE FROM t WHERE id = 2")
    assert resync(settings, clock=now) == ["public.t", "public.u"]
    admin.execute("INSERT INTO u VALUES (5)")
    once(settings)
    assert_equal(settings)


def test_a_busy_database_stays_equal_through_a_server_restart(tmp_path: Path) -> None:
    with PostgresServer.start(settings={"fsync": "off"}) as server:
        settings = settings_for(server.url, tmp_path)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id integer PRIMARY KEY, n integer)")
            connection.execute("INSERT INTO t SELECT n, 0 FROM generate_series(1, 100) n")
        with running(settings) as pipeline:
            for round_number in range(3):
                with psycopg.connect(server.url, autocommit=True) as connection:
                    connection.execute("UPDATE t SET n = n + %s", (round_number,))
                server.restart("immediate" if round_number == 1 else "fast")
            wait_until(lambda: pipeline.progress().applied_count >= 300)
            assert_equal(settings)
