"""The server restarts, crashes, drops or forgets connections: the pipeline goes on, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from smartstream import errors
from smartstream.pipeline import Pipeline
from smartstream.testing.postgres import PostgresServer
from tests.faults.server_setup import (
    HEAVY,
    Proxy,
    new_database,
    settings_of,
    sql,
    start_server,
    stops_with,
    workload,
)
from tests.running_pipeline import assert_equal, running, wait_until

_SLOT_PID = "SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL AND NOT temporary"


@pytest.fixture(scope="module")
def server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    with start_server(pytestconfig.option.postgres, wal_sender_timeout="5s") as one:
        yield one


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    with new_database(server, f"events_{abs(hash(request.node.name))}") as url:
        yield url


def streams_again(url: str, before: int | None) -> None:
    """Wait until the slot is read by another server process than before."""
    wait_until(lambda: any(pid != before for (pid,) in sql(url, _SLOT_PID)), 60.0)


@pytest.mark.parametrize(
    "mode", [pytest.param("fast", marks=HEAVY), pytest.param("immediate", marks=HEAVY), "kill"]
)
def test_a_restart_is_survived(server: PostgresServer, database: str, tmp_path: Path, mode: str) -> None:
    settings = settings_of(database, tmp_path)
    with running(settings), workload(database) as work:
        if mode == "kill":
            server.crash()
            server.restart()
        else:
            server.restart(mode)
        work.more()
        streams_again(database, None)
        work.end()
        assert_equal(settings)


def test_a_smart_shutdown_ends_the_stream_and_loses_nothing(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    settings = settings_of(database, tmp_path)
    with running(settings):
        with workload(database) as work:
            work.more()
        server.restart("smart")  # waits for sessions: the stream must let it go
        with workload(database) as work:
            work.more()
        assert_equal(settings)


def test_a_terminated_walsender_is_replaced(database: str, tmp_path: Path) -> None:
    settings = settings_of(database, tmp_path)
    with running(settings), workload(database) as work:
        for _ in range(2):
            wait_until(lambda: sql(database, _SLOT_PID))
            ((pid,),) = sql(database, _SLOT_PID)
            sql(database, f"SELECT pg_terminate_backend({pid})")
            streams_again(database, pid)
            work.more(5)
        work.end()
        assert_equal(settings)


@HEAVY
def test_connections_that_are_cut_are_opened_again(database: str, tmp_path: Path) -> None:
    proxy = Proxy(database)
    settings = settings_of(proxy.url, tmp_path)
    try:
        with running(settings), workload(database) as work:
            for _ in range(3):
                proxy.cut()
                work.more(5)
            work.end()
            assert_equal(settings)
    finally:
        proxy.close()


@HEAVY
def test_a_connection_without_a_word_is_noticed_and_given_up(database: str, tmp_path: Path) -> None:
    proxy = Proxy(database)
    settings = settings_of(proxy.url, tmp_path, silence_max="2s")
    try:
        with running(settings) as pipeline, workload(database) as work:
            wait_until(lambda: sql(database, _SLOT_PID))
            ((pid,),) = sql(database, _SLOT_PID)
            proxy.stall()
            work.more()
            before = pipeline.progress().durable_lsn
            streams_again(database, pid)
            wait_until(lambda: pipeline.progress().durable_lsn > before, 60.0)
            work.end()
            assert_equal(settings)
    finally:
        proxy.close()


@HEAVY
def test_a_server_without_a_free_connection_is_waited_for(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    sql(server.url, "CREATE ROLE app LOGIN PASSWORD 'app' REPLICATION CONNECTION LIMIT -1")
    parts = urlsplit(database)
    sql(database, "ALTER TABLE t OWNER TO app", f"GRANT CREATE ON DATABASE {parts.path[1:]} TO app")
    url = database.replace(f"postgres:{parts.password}@", "app:app@")
    settings = settings_of(url, tmp_path)
    try:
        with running(settings), workload(database) as work:
            sql(database, f"ALTER DATABASE {parts.path[1:]} CONNECTION LIMIT 0")
            sql(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            work.more(20)
            sql(database, f"ALTER DATABASE {parts.path[1:]} CONNECTION LIMIT -1")
            streams_again(database, None)
            work.end()
            assert_equal(settings)
    finally:
        sql(database, "DROP OWNED BY app CASCADE", "DROP ROLE app")


@HEAVY
def test_a_changed_password_stops_with_a_name_and_goes_on_with_the_new_one(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    sql(server.url, "CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'old_word'")
    parts = urlsplit(database)
    old = database.replace(f"postgres:{parts.password}@", "keeper:old_word@")
    try:
        with workload(database):
            error = stops_with(
                settings_of(old, tmp_path),
                errors.SourceAuthFailed,
                lambda: sql(
                    server.url,
                    "ALTER ROLE keeper PASSWORD 'new_word'",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'",
                ),
            )
        assert "keeper" in str(error)
        assert "old_word" not in str(error)
        assert "source.url" in error.hint
        settings = settings_of(old.replace("old_word", "new_word"), tmp_path)
        Pipeline(settings).run(once=True)
        assert_equal(settings)
    finally:
        sql(database, "DROP OWNED BY keeper CASCADE", "DROP ROLE keeper")


@HEAVY
def test_read_only_by_default_is_no_obstacle(database: str, tmp_path: Path) -> None:
    settings = settings_of(database, tmp_path)
    name = urlsplit(database).path[1:]
    with workload(database) as work:
        with running(settings):
            work.more()
        work.end()
        sql(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with running(settings):
            with psycopg.connect(database) as writer:
                writer.execute("SET transaction_read_only = off")
                writer.execute("UPDATE t SET v = v + 1")
            assert_equal(settings)
