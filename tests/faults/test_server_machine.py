"""This machine's own troubles while a source is followed: its clock is set back, its disk is full."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartstream.pipeline import Pipeline
from tests.faults.daemon import Daemon
from tests.faults.server_setup import HEAVY, ROWS, settings_of, sql, workload
from tests.running_pipeline import assert_equal, query, wait_until


@pytest.fixture
def table(database: str) -> str:
    """A database with a table, and its URL."""
    sql(
        database,
        "CREATE TABLE t (id integer PRIMARY KEY, v integer, big text)",
        f"INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, {ROWS}) n",
    )
    return database


def test_a_clock_that_is_set_back_delays_nothing(table: str, tmp_path: Path) -> None:
    settings = settings_of(table, tmp_path)
    back, stop = threading.Event(), threading.Event()

    def clock() -> datetime:
        return datetime.now(UTC) - (timedelta(hours=1) if back.is_set() else timedelta(0))

    pipeline = Pipeline(settings, clock=clock)
    thread = threading.Thread(target=lambda: pipeline.run(stop=stop))
    thread.start()
    try:
        wait_until(pipeline.ready, 60.0)
        back.set()
        with workload(table) as work:
            work.more()
        sql(table, "CREATE TABLE later (id integer PRIMARY KEY)", "INSERT INTO later VALUES (1)")
        wait_until(lambda: "public.later" in pipeline.progress().tables and pipeline.ready(), 60.0)
        assert_equal(settings)
        assert query(settings, "SELECT id FROM later") == [(1,)]
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def small_lake(tmp_path: Path) -> Iterator[Path]:
    """The project's folder, whose lake has four mebibytes."""
    lake = tmp_path / "lake"
    lake.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(lake)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")
    yield tmp_path
    subprocess.run(["umount", str(lake)], check=True)


@HEAVY
def test_a_full_disk_under_the_lake_stops_with_a_name_and_goes_on_with_space(
    table: str, small_lake: Path
) -> None:
    sql(
        table,
        "INSERT INTO t SELECT n, 1, md5(n::text) || md5((n + 1)::text) FROM generate_series(1000, 150000) n",
    )
    daemon = Daemon(small_lake, table)
    done = daemon.call("run", "--once", verbose=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "next: " in done.stderr
    assert "space" in done.stderr
    sql(table, "UPDATE t SET v = v + 1 WHERE id % 7 = 0", "DELETE FROM t WHERE id % 11 = 0")
    subprocess.run(["mount", "-o", "remount,size=200M", str(small_lake / "lake")], check=True)
    assert daemon.verify()["ok"]
