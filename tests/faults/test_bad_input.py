"""What can go wrong outside ends `run` with a reason, a next step and the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from smartstream.cli import main
from smartstream.testing.postgres import PostgresServer
from tests.faults.daemon import Daemon

Begin = Callable[[str], Daemon]


class Commands(Daemon):
    """The same commands in this process, because a new one takes seconds to import what it needs."""

    def __init__(
        self, folder: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        super().__init__(folder, url)
        self._capsys = capsys
        monkeypatch.setenv("TEST_SOURCE_URL", url)
        monkeypatch.chdir(folder)

    def call(self, *arguments: str, verbose: bool = True) -> CompletedProcess[str]:
        self._capsys.readouterr()
        code = main([*(["-v"] if verbose else []), *arguments])
        said = self._capsys.readouterr()
        return CompletedProcess(arguments, code, said.out, said.err)


@pytest.fixture
def begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Daemon]:
    return lambda url: Commands(tmp_path, url, capsys, monkeypatch)


def ends_with(daemon: Daemon, code: int, *words: str) -> str:
    """`run --once` ends with this code and says these words, without a traceback."""
    done = daemon.call("run", "--once", verbose=False)
    said = done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said + done.stdout
    assert "next: " in said
    for word in words:
        assert word in said
    return said


@pytest.fixture
def admin(database: str) -> Any:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
        connection.execute("INSERT INTO t SELECT n, 'v' FROM generate_series(1, 50) n")
        yield connection


def test_an_unreachable_server(tmp_path: Path) -> None:
    said = ends_with(Daemon(tmp_path, "postgresql://u:s3cretword@127.0.0.1:1/d"), 1, "127.0.0.1:1")
    assert "s3cretword" not in said


def test_a_wrong_password(database: str, begin: Begin) -> None:
    parts = urlsplit(database)
    url = database.replace(f":{parts.password}@", ":wr0ngword@")
    assert "wr0ngword" not in ends_with(begin(url), 1, "password")


def test_wal_level_replica(begin: Begin) -> None:
    with PostgresServer.start(settings={"wal_level": "replica", "fsync": "off"}) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
        ends_with(begin(server.url), 1, "wal_level")


def test_no_free_slot(begin: Begin) -> None:
    with PostgresServer.start(settings={"max_replication_slots": "1", "fsync": "off"}) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
            connection.execute("SELECT pg_create_physical_replication_slot('taken')")
        ends_with(begin(server.url), 1, "slot")


def test_a_role_without_rights(admin: Any, database: str, begin: Begin) -> None:
    admin.execute("DROP ROLE IF EXISTS poor")
    admin.execute("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    try:
        parts = urlsplit(database)
        url = database.replace(f"postgres:{parts.password}@", "poor:poor@")
        ends_with(begin(url), 1, "doctor --print-sql")
    finally:
        admin.execute("DROP ROLE poor")


def test_a_table_without_key_is_refused_and_can_be_excluded(admin: Any, database: str, begin: Begin) -> None:
    admin.execute("CREATE TABLE keyless (v text)")
    daemon = begin(database)
    ends_with(daemon, 2, "public.keyless", "exclude")
    daemon.configure(lambda text: text.replace("tables:\n", "tables:\n  public.keyless: {exclude: true}\n"))
    assert daemon.verify()["ok"]


def test_an_unknown_setting_names_its_line(database: str, begin: Begin) -> None:
    daemon = begin(database)
    daemon.configure(lambda text: text.replace("maintenance:", "maintenanse:"))
    ends_with(daemon, 2, "smartstream.yaml:", "maintenance")


def test_a_slot_that_was_dropped_or_moved_is_not_passed_over(admin: Any, database: str, begin: Begin) -> None:
    daemon = begin(database)
    assert daemon.verify()["ok"]
    admin.execute("DELETE FROM t WHERE id < 10")
    admin.execute("SELECT pg_replication_slot_advance('smartstream', pg_current_wal_insert_lsn())")
    ends_with(daemon, 1, "resync")
    admin.execute("SELECT pg_drop_replication_slot('smartstream')")
    ends_with(daemon, 1, "resync")
    assert daemon.call("resync", "--yes").returncode == 0
    assert daemon.verify()["ok"]


def test_a_damaged_raw_file_is_named(admin: Any, database: str, tmp_path: Path, begin: Begin) -> None:
    assert begin(database).verify()["ok"]
    for name in ("raw/_checkpoint.json", "catalog.db"):  # as after a restore of raw alone
        (tmp_path / "lake" / name).unlink()
    (raw,) = (tmp_path / "lake" / "raw" / "public.t").rglob("*.parquet")
    raw.write_bytes(raw.read_bytes()[:-20])
    ends_with(Daemon(tmp_path, database), 1, raw.name, "resync")


def test_trusted_is_rebuilt_from_raw_alone(admin: Any, database: str, tmp_path: Path, begin: Begin) -> None:
    daemon = begin(database)
    assert daemon.verify()["ok"]
    admin.execute("UPDATE t SET v = 'w' WHERE id < 20")
    admin.execute("DELETE FROM t WHERE id > 40")
    assert daemon.verify()["ok"]
    for name in ("raw/_checkpoint.json", "catalog.db"):
        (tmp_path / "lake" / name).unlink()
    assert Daemon(tmp_path, database).verify()["ok"]  # a process that remembers nothing


def test_a_key_that_the_lake_cannot_hold_is_refused(admin: Any, database: str, begin: Begin) -> None:
    admin.execute("CREATE TABLE dated (at date PRIMARY KEY)")
    admin.execute("INSERT INTO dated VALUES ('2000-01-01')")
    daemon = begin(database)
    assert daemon.verify()["ok"]
    admin.execute("INSERT INTO dated VALUES ('infinity')")
    ends_with(daemon, 1, "public.dated", "key column at", "exclude".capitalize())
