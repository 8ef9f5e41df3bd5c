"""The server that everything else is tested on starts, restarts and never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from smartstream.testing import postgres as module
from smartstream.testing.postgres import PostgresServer, find_external_bin

FAST = {"fsync": "off", "shared_buffers": "8MB"}


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_does_logical_replication_for_who_has_the_password_only(postgres: PostgresServer) -> None:
    assert ask(postgres.url, "SHOW wal_level") == "logical"
    assert ask(postgres.url, "SHOW max_replication_slots") == "20"
    assert ask(postgres.url, "SHOW listen_addresses") == "127.0.0.1"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace(postgres.password, "wrong"))


def test_a_restart_keeps_data_and_port_and_takes_new_settings() -> None:
    with PostgresServer.start(settings=FAST) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept (n integer)")
        url = server.url
        server.restart("immediate", settings={"wal_level": "replica"})
        assert server.url == url
        assert ask(url, "SELECT count(*) FROM kept") == 0
        assert ask(url, "SHOW wal_level") == "replica"


def test_nothing_is_left_when_it_stops() -> None:
    server = PostgresServer.start(settings=FAST)
    pid, folder, log = server.pid, server.data_dir, server.log_path
    server.stop()
    server.stop()
    assert not is_alive(pid)
    assert not folder.exists()
    assert not log.exists()


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_setting"):
        PostgresServer.start(settings={"no_such_setting": "1"})


def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    program = (
        "import sys; from smartstream.testing.postgres import PostgresServer\n"
        f"server = PostgresServer.start(settings={FAST!r})\n"
        "print(server.pid, server.data_dir, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    pid, folder = child.stdout.readline().split()
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 20
    while (is_alive(int(pid)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    child.stdin.close()
    child.stdout.close()
    assert not is_alive(int(pid))
    assert not Path(folder).exists()


def test_an_installed_server_is_found_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for major in (9, 15, 16):
        folder = tmp_path / str(major) / "bin"
        folder.mkdir(parents=True)
        (folder / "postgres").touch()
    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path)
    assert find_external_bin() == tmp_path / "16" / "bin"
    assert find_external_bin(15) == tmp_path / "15" / "bin"
    with pytest.raises(RuntimeError, match=r"No PostgreSQL 14 .* \[9, 15, 16\]"):
        find_external_bin(14)
