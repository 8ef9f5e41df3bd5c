"""Whom a copy waits for: who wrote to its table before, and commits that can't be seen yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from smartstream.capture.transactions import barrier, oldest_open, wait_until_copyable
from smartstream.errors import SourceBusy
from smartstream.testing.postgres import PostgresServer

from .source_setup import connected, run_sql


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server whose commits can be made to wait for a standby that there is not."""
    with PostgresServer.start(settings={"max_prepared_transactions": "5"}) as running:
        run_sql(running.url, "CREATE TABLE t (id integer)", "CREATE TABLE other (id integer)")
        yield running


def wait(
    connection: psycopg.Connection[Any],
    timeout_s: float,
    *,
    table: str = "other",
    stop: threading.Event | None = None,
) -> None:
    (oid,) = connection.execute("SELECT %s::regclass::oid", (f"public.{table}",)).fetchone() or (0,)
    wait_until_copyable(connection, oid, barrier(connection), timeout_s, stop=stop)


@contextmanager
def no_commit_returns(url: str) -> Iterator[None]:
    """Commits are written, and wait for a synchronous standby."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET synchronous_commit = local")
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        reload(admin, "nobody")
        try:
            yield
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            reload(admin, "")


def reload(admin: psycopg.Connection[Any], expected: str) -> None:
    admin.execute("SELECT pg_reload_conf()")
    for _ in range(600):
        if admin.execute("SHOW synchronous_standby_names").fetchone() == (expected,):
            return
        admin.execute("SELECT pg_sleep(0.05)")
    raise TimeoutError


@contextmanager
def waiting(url: str, *statements: str) -> Iterator[int]:
    """A session, by its process, whose last statement hangs in its commit."""
    with psycopg.connect(url, autocommit=True) as connection, connected(url) as other:
        pid = connection.info.backend_pid

        def work() -> None:
            for statement in statements:
                connection.execute(statement)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(600):
            event = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
            if other.execute(event, (pid,)).fetchone() == ("SyncRep",):
                break
            other.execute("SELECT pg_sleep(0.05)")
        yield pid
        thread.join()


def test_a_commit_that_is_written_and_not_shown_is_waited_for(server: PostgresServer) -> None:
    with connected(server.url) as connection:
        before = connection.execute("SELECT count(*) FROM public.t").fetchone()
        with no_commit_returns(server.url):
            session = waiting(server.url, "BEGIN", "INSERT INTO t VALUES (1)", "COMMIT")
            pid = session.__enter__()
            assert connection.execute("SELECT count(*) FROM public.t").fetchone() == before
            with pytest.raises(SourceBusy, match=rf"process {pid} .active"):
                wait(connection, 0.3)
        wait(connection, 60.0)
        assert connection.execute("SELECT count(*) FROM public.t").fetchone() != before
        session.__exit__(None, None, None)


def test_so_is_one_of_a_prepared_transaction(server: PostgresServer) -> None:
    run_sql(server.url, "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'it''s'")
    with connected(server.url) as connection:
        wait(connection, 0.2)  # while nobody commits it
        before = connection.execute("SELECT count(*) FROM public.t").fetchone()
        with no_commit_returns(server.url):
            session = waiting(server.url, "/* at last */ COMMIT /* it */ PREPARED 'it''s'")
            session.__enter__()
            with pytest.raises(SourceBusy, match="prepared transaction 'it''s'"):
                wait(connection, 0.3)
        wait(connection, 60.0)
        assert connection.execute("SELECT count(*) FROM public.t").fetchone() != before
        session.__exit__(None, None, None)


def test_who_sits_idle_or_begins_later_or_elsewhere_is_not_waited_for(server: PostgresServer) -> None:
    run_sql(server.url, "CREATE DATABASE elsewhere")
    with (
        connected(server.url) as connection,
        psycopg.connect(server.url) as idle,
        psycopg.connect(server.url) as failed,
        psycopg.connect(server.url_of("elsewhere")) as elsewhere,
    ):
        idle.execute("INSERT INTO t VALUES (3)")
        failed.execute("INSERT INTO other VALUES (4)")
        with pytest.raises(psycopg.errors.DivisionByZero):
            failed.execute("SELECT 1 / 0")
        busy = threading.Thread(target=lambda: elsewhere.execute("SELECT pg_current_xact_id(), pg_sleep(1)"))
        busy.start()
        wait(connection, 0.2)
        with pytest.raises(SourceBusy, match=rf"process {idle.info.backend_pid} .idle in transaction"):
            wait(connection, 0.1, table="t")
        busy.join()


def test_who_wrote_to_the_table_is_waited_for(server: PostgresServer) -> None:
    run_sql(
        server.url,
        "CREATE TABLE parts (id integer) PARTITION BY LIST (id)",
        "CREATE TABLE part PARTITION OF parts FOR VALUES IN (1)",
        "BEGIN; INSERT INTO part VALUES (1); PREPARE TRANSACTION 'part'",
    )
    with connected(server.url) as connection:
        wait(connection, 0.1, table="t")
        for table in ("part", "parts"):
            with pytest.raises(SourceBusy, match="prepared transaction 'part'"):
                wait(connection, 0.1, table=table)
        before = barrier(connection)
        run_sql(server.url, "ROLLBACK PREPARED 'part'")
        with psycopg.connect(server.url) as later:
            later.execute("INSERT INTO parts VALUES (1)")
            (oid,) = connection.execute("SELECT 'public.parts'::regclass::oid").fetchone() or (0,)
            wait_until_copyable(connection, oid, before, 0.1)


def test_a_statement_under_way_is_waited_for_until_a_stop(server: PostgresServer) -> None:
    with connected(server.url) as connection, psycopg.connect(server.url, autocommit=True) as busy:
        thread = threading.Thread(target=lambda: busy.execute("SELECT pg_current_xact_id(), pg_sleep(2)"))
        thread.start()
        assigned = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid = %s"
        while connection.execute(assigned, (busy.info.backend_pid,)).fetchone() == (0,):
            pass
        with pytest.raises(SourceBusy, match="active"):
            wait(connection, 0.1)
        stop = threading.Event()
        stop.set()
        wait(connection, 60.0, stop=stop)
        wait(connection, 60.0)
        thread.join()


def test_the_oldest_transaction_is_named_whether_it_is_open_or_prepared(server: PostgresServer) -> None:
    with connected(server.url) as connection:
        assert oldest_open(connection) is None
        with psycopg.connect(server.url, application_name="forgotten") as idle:
            idle.execute("INSERT INTO t VALUES (5)")
            run_sql(server.url, "BEGIN; INSERT INTO t VALUES (6); PREPARE TRANSACTION 'later'")
            found = oldest_open(connection)
            assert found is not None
            assert (found.pid, found.gid) == (idle.info.backend_pid, None)
            assert str(found) == (
                f"process {found.pid} (idle in transaction, forgotten, role postgres, database postgres)"
            )
            assert found.end_it == f"SELECT pg_terminate_backend({found.pid});"
        found = oldest_open(connection)
        assert found is not None
        assert (found.pid, found.gid, found.state) == (None, "later", "prepared")
        assert found.end_it.startswith("COMMIT PREPARED 'later';")
        run_sql(server.url, "ROLLBACK PREPARED 'later'")
