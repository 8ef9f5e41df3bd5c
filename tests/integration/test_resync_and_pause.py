"""Beside a pipeline that runs: tables copied anew, and trusted tables that stand still for a while."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.cli.app import now
from smartstream.config import Settings
from smartstream.errors import ExitCode, RequestFailed, TablesPaused
from smartstream.pipeline.resync import ask_resync
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.pause import pause, paused_since, resume
from smartstream.raw.store import open_store
from tests.integration.command_line import Shop
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

Ask = Callable[[str], list[str]]


@pytest.fixture
def admin(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def settings(database: str, admin: Any, tmp_path: Path) -> Settings:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, n integer, big text)")
    admin.execute("CREATE TABLE u (id integer PRIMARY KEY)")
    admin.execute("INSERT INTO t SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1, 500) i")
    return settings_for(database, tmp_path)


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Somebody who changes ``t`` all the time."""
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for number in itertools.count(1000):
                if stop.wait(0.03):
                    return
                connection.execute("INSERT INTO t VALUES (%s, 1, 'new')", (number,))
                connection.execute("UPDATE t SET n = n + 1 WHERE id %% 50 = %s", (number % 50,))
                connection.execute("DELETE FROM t WHERE id = %s", (number - 20,))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def generation(settings: Settings, table: str = "public.t") -> tuple[int, bool]:
    """Of the table, and whether it is copied."""
    state = ManifestLog(open_store(settings.lake), now).load().tables[table]
    return state.generation, state.copied


def test_a_table_is_copied_anew_beside_a_running_pipeline(settings: Settings, database: str) -> None:
    seen: set[int] = set()
    with running(settings) as pipeline, writing(database):
        wait_until(lambda: pipeline.progress().applied_count > 600)
        assert ask_resync(settings, ["public.t"], stop=threading.Event()) == ["public.t"]
        wait_until(
            lambda: seen.add(_count(settings)) or (generation(settings) == (2, True) and pipeline.ready())
        )
        applied = pipeline.progress().applied_count
        wait_until(lambda: pipeline.progress().applied_count > applied)
        assert_equal(settings)
    assert min(seen) >= 500, "readers never see half a table"
    assert generation(settings, "public.u") == (1, True), "the other table has nothing to do with it"


def test_a_copy_that_the_applier_has_yet_to_begin_with_is_not_ready(settings: Settings) -> None:
    """It may be whole in the log before the trusted table knows of it."""
    with running(settings) as pipeline:
        store = open_store(settings.lake)
        pause(store, now())
        wait_until(lambda: pipeline.paused)
        ask_resync(settings, ["public.t"], stop=threading.Event())
        wait_until(lambda: generation(settings) == (2, True))
        assert not pipeline.ready() and pipeline.progress().tables["public.t"].status == "copying"
        resume(store)
        wait_until(pipeline.ready)
        assert_equal(settings)


def _count(settings: Settings) -> int:
    ((count,),) = query(settings, "SELECT count(*) FROM t")
    return int(count)


def test_a_pipeline_that_ends_in_between_goes_on_with_the_copy(settings: Settings, database: str) -> None:
    with writing(database):
        with running(settings):
            ask_resync(settings, ["public.t"], stop=threading.Event())
        once(settings)
        assert generation(settings) == (2, True)
    once(settings)
    assert_equal(settings)


def test_a_table_that_is_not_captured_is_refused(settings: Settings) -> None:
    with running(settings), pytest.raises(RequestFailed, match=r"public\.nothing is not a captured table"):
        ask_resync(settings, ["public.nothing"], stop=threading.Event())


def test_nobody_waits_for_ever(settings: Settings) -> None:
    with pytest.raises(RequestFailed, match="within 1 s"):
        ask_resync(settings, ["public.t"], stop=threading.Event(), timeout_s=1.0)
    assert list(open_store(settings.lake).list("control/requests/")) == []


def test_resync_asks_the_pipeline_that_runs(
    database: str, admin: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    shop = Shop(tmp_path, database, capsys)
    settings = shop.configure(t={})
    with running(settings):
        code, out, _ = shop.say("resync", "t", "--yes")
        assert code == ExitCode.OK and "the running pipeline copies anew: public.t" in out
        assert "a pipeline is running" in shop.refusal("resync", "--yes")
        wait_until(lambda: generation(settings) == (2, True))
    code, out, _ = shop.say("resync", "t", "--yes")
    assert code == ExitCode.OK and "marked for a new copy: public.t" in out
    once(settings)
    assert generation(settings) == (3, True)
    assert_equal(settings)


def test_paused_tables_stand_still_while_raw_and_slot_go_on(settings: Settings, admin: Any) -> None:
    store = open_store(settings.lake)
    with running(settings) as pipeline:
        pause(store, now())
        wait_until(lambda: pipeline.paused)
        before = pipeline.progress()
        admin.execute("UPDATE t SET n = 7")
        admin.execute("CREATE TABLE later (id integer PRIMARY KEY)")
        wait_until(lambda: pipeline.progress().captured_count >= before.captured_count + 500)
        (at,) = admin.execute("SELECT pg_current_wal_lsn()").fetchone()
        wait_until(lambda: _confirmed(admin, at))
        assert query(settings, "SELECT max(n) FROM t") == [(0,)]
        assert resume(store) is not None
        wait_until(lambda: query(settings, "SELECT min(n) FROM t") == [(7,)])
        wait_until(pipeline.ready)
        assert_equal(settings)


def _confirmed(admin: Any, at: str) -> bool:
    """Whether the server need not keep WAL before this position for us."""
    sql = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'smartstream'"
    return bool(admin.execute(sql, (at,)).fetchone()[0])


def test_a_pause_outlives_the_pipeline(settings: Settings, admin: Any) -> None:
    once(settings)
    store = open_store(settings.lake)
    first = now()
    assert pause(store, first) == first
    assert pause(store, now()) == first, "since the first time"
    admin.execute("UPDATE t SET n = 9")
    with pytest.raises(TablesPaused, match="trusted tables are paused since"):
        once(settings)
    with running(settings, ready=False) as pipeline:
        wait_until(lambda: pipeline.progress().captured_count >= 500)
        assert query(settings, "SELECT max(n) FROM t") == [(0,)]
    resume(store)
    assert paused_since(store) is None
    once(settings)
    assert_equal(settings)


def test_the_commands_say_what_they_did(
    database: str, admin: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    shop = Shop(tmp_path, database, capsys)
    settings = shop.configure(t={})
    once(settings)
    assert "trusted tables are paused since" in shop.say("pause")[1]
    code, out, _ = shop.say("status")
    assert code == ExitCode.DEGRADED and "paused since" in out and "`smartstream resume`" in out
    assert "and go on" in shop.say("resume")[1]
    assert "were not paused" in shop.say("resume")[1]
    assert shop.ask("status")["lake"]["paused_since"] is None
