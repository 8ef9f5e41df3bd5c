"""Another server takes over: a promoted standby, a restored or upgraded cluster, a wrong database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from smartstream import errors
from smartstream.config import Settings
from smartstream.doctor import diagnose
from smartstream.pipeline.resync import resync
from smartstream.testing.postgres import PostgresServer
from tests.faults.server_setup import (
    HEAVY,
    Workload,
    refuses,
    settings_of,
    sql,
    start_server,
    state_of,
    workload,
)
from tests.running_pipeline import assert_equal, once, running, wait_until

SETUP = (
    "CREATE TABLE t (id integer PRIMARY KEY, v integer, big text)",
    "INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, 200) n",
)


@pytest.fixture
def primary(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    with start_server(pytestconfig.option.postgres) as server:
        sql(server.url, *SETUP)
        yield server


def resynced(settings: Settings) -> None:
    """What the hint says, and a run under load: equal."""
    resync(settings, clock=lambda: datetime.now(UTC))
    with running(settings):
        with workload(settings.source.dsn) as work:
            work.more()
        assert_equal(settings)


def in_step(primary: PostgresServer, standby: PostgresServer) -> None:
    """Wait until the standby has all of the primary's WAL."""
    ((end,),) = sql(primary.url, "SELECT pg_current_wal_lsn()")
    replayed = f"SELECT pg_last_wal_replay_lsn() >= '{end}'"
    wait_until(lambda: sql(standby.url, replayed) == [(True,)], 60.0)


def slot_is_kept(primary: PostgresServer, standby: PostgresServer) -> bool:
    """Whether the standby has a copy of the slot that will last; its position must move for that."""
    sql(primary.url, "SELECT pg_log_standby_snapshot()")
    kept = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'smartstream' AND synced AND NOT temporary"
    return bool(sql(standby.url, kept))


@HEAVY
def test_the_pipeline_goes_on_from_a_promoted_standby_with_the_slot(
    primary: PostgresServer, tmp_path: Path
) -> None:
    if primary.version < 17:
        pytest.skip("slots follow a failover from PostgreSQL 17 on")
    with primary.standby() as standby:
        with running(settings_of(primary.url, tmp_path)), workload(primary.url) as work:
            work.more()
            wait_until(lambda: slot_is_kept(primary, standby), 120.0)
        refuses(settings_of(standby.url, tmp_path), errors.SourceReadOnly, "is a standby", "source.url")
        in_step(primary, standby)
        primary.crash()
        standby.promote()
        settings = settings_of(standby.url, tmp_path)
        with running(settings):
            with workload(standby.url) as work:
                work.more()
            assert_equal(settings)
        once(settings)  # the new timeline is known by now
        assert_equal(settings)


def test_a_standby_that_lagged_behind_the_lake_is_found_out(primary: PostgresServer, tmp_path: Path) -> None:
    """It was promoted without what the lake has; writing on, its WAL soon passes the lake's position."""
    with primary.standby() as standby:
        once(settings_of(primary.url, tmp_path))
        in_step(primary, standby)
        standby.crash()
        # Its receiver may outlive its postmaster by a moment, and would take what comes next.
        wait_until(lambda: sql(primary.url, "SELECT count(*) FROM pg_stat_replication") == [(0,)])
        sql(primary.url, "UPDATE t SET v = 77", "INSERT INTO t VALUES (777, 7)")
        once(settings_of(primary.url, tmp_path))
        primary.crash()
        standby.restart()
        standby.promote()
        for _ in range(3):
            sql(standby.url, "UPDATE t SET v = v + 1, big = repeat(md5(v::text), 100)")
        settings = settings_of(standby.url, tmp_path)
        kind = errors.SourceDiverged
        refuses(settings, kind, "left that timeline at", "`smartstream resync`")
        refuses(settings, kind, "timeline 1")
        resynced(settings)
        assert sql(standby.url, "SELECT count(*) FROM t WHERE id = 777") == [(0,)]


def test_a_copy_that_was_ahead_of_the_standby_is_made_again(primary: PostgresServer, tmp_path: Path) -> None:
    """The stream waits for the standby (``synchronized_standby_slots``); a copy can't."""
    if primary.version < 17:
        pytest.skip("slots follow a failover from PostgreSQL 17 on")
    settings = settings_of(primary.url, tmp_path)
    sql(primary.url, "CREATE TABLE other (id integer PRIMARY KEY)", "INSERT INTO other VALUES (1)")
    with primary.standby() as standby:
        with running(settings):
            wait_until(partial(slot_is_kept, primary, standby), 120.0)
        in_step(primary, standby)
        sql(primary.url, "ALTER SYSTEM SET synchronized_standby_slots = 'standby'", "SELECT pg_reload_conf()")
        standby.crash()
        wait_until(lambda: sql(primary.url, "SELECT count(*) FROM pg_stat_replication") == [(0,)])
        sql(primary.url, "UPDATE t SET v = 77", "INSERT INTO t VALUES (777, 7)")
        resync(settings, ["public.t"], clock=lambda: datetime.now(UTC))
        with running(settings, ready=False):
            wait_until(lambda: state_of(settings).tables["public.t"].copied)
        primary.crash()
        standby.restart()
        standby.promote()
        sql(standby.url, "UPDATE t SET big = 'y' WHERE id < 9")
        settings = settings_of(standby.url, tmp_path)
        once(settings)
        assert_equal(settings)
        tables = state_of(settings).tables
        assert (tables["public.t"].generation, tables["public.other"].generation) == (3, 1)


@HEAVY
def test_a_promoted_standby_without_the_slot_is_refused_with_the_reason(
    primary: PostgresServer, tmp_path: Path
) -> None:
    """Before PostgreSQL 17 always; later when the slot was not to be copied."""
    off = {"slot": {"name": "smartstream", "failover": False}}
    with primary.standby() as standby:
        once(settings_of(primary.url, tmp_path, **off))
        ((end,),) = sql(primary.url, "SELECT pg_current_wal_lsn()")
        wait_until(lambda: sql(standby.url, f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == [(True,)], 60.0)
        primary.crash()
        standby.promote()
        settings = settings_of(standby.url, tmp_path, **off)
        refuses(settings, errors.SlotLost, "does not exist", "promoted", "before PostgreSQL 17", "resync")
        resynced(settings)


@HEAVY
def test_the_old_primary_is_not_taken_for_the_new_one(primary: PostgresServer, tmp_path: Path) -> None:
    with primary.standby() as standby:
        once(settings_of(primary.url, tmp_path))
        in_step(primary, standby)
        standby.promote()
        sql(standby.url, "UPDATE t SET v = 5")
        new = settings_of(standby.url, tmp_path)
        resync(new, clock=lambda: datetime.now(UTC))
        once(new)
        sql(primary.url, "UPDATE t SET v = 6")
        refuses(settings_of(primary.url, tmp_path), errors.SourceDiverged, "old primary")
        assert_equal(new)


def test_another_cluster_is_refused_before_anything_is_written_there(
    primary: PostgresServer, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """As after a dump was restored, or pg_upgrade: a new system identifier, and lower WAL positions."""
    for _ in range(3):
        sql(primary.url, "UPDATE t SET v = v + 1", "SELECT pg_switch_wal()")
    once(settings_of(primary.url, tmp_path))
    with start_server(pytestconfig.option.postgres) as other:
        sql(other.url, *SETUP, "UPDATE t SET v = 4 WHERE id < 9", "DELETE FROM t WHERE id > 190")
        settings = settings_of(other.url, tmp_path)
        refuses(settings, errors.SourceReplaced, "cluster", "pg_upgrade", "`smartstream resync`")
        assert sql(other.url, "SELECT * FROM pg_publication") == []
        assert sql(other.url, "SELECT * FROM pg_replication_slots") == []
        (check,) = [check for check in diagnose(settings) if check.name == "identity"]
        assert (check.status.value, check.why) == ("fail", "SourceReplaced")
        resynced(settings)
        refuses(settings_of(primary.url, tmp_path), errors.SourceReplaced)


@HEAVY
def test_a_wrong_database_of_the_right_server_is_refused(primary: PostgresServer, tmp_path: Path) -> None:
    once(settings_of(primary.url, tmp_path))
    sql(primary.url, "CREATE DATABASE wrong")
    sql(primary.url_of("wrong"), *SETUP)
    refuses(settings_of(primary.url_of("wrong"), tmp_path), errors.SourceReplaced, "wrong", "source.url")
    assert sql(primary.url_of("wrong"), "SELECT * FROM pg_publication") == []
    once(settings_of(primary.url, tmp_path))


@HEAVY
def test_failovers_under_load_lose_nothing(primary: PostgresServer, tmp_path: Path) -> None:
    """The server in front changes again and again while the pipeline is stopped for a moment only."""
    if primary.version < 17:
        pytest.skip("slots follow a failover from PostgreSQL 17 on")
    front, old = primary, []
    try:
        for number in range(5):
            standby = front.standby(slot=f"standby_{number}")
            old.append(standby)
            with running(settings_of(front.url, tmp_path)):
                work = Workload(front.url)
                work.more(100)
                wait_until(partial(slot_is_kept, front, standby), 120.0)
                work.end()
            in_step(front, standby)
            front.crash()
            standby.promote()
            front = standby
            settings = settings_of(front.url, tmp_path)
            once(settings)
            assert_equal(settings)
    finally:
        for standby in old:
            standby.stop()
